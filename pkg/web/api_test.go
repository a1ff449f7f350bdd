package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/token"
	"github.com/liverec/liverec/pkg/web"
	"github.com/liverec/liverec/pkg/web/webtest"
)

func TestRoomsOfThePageAndOfTheFile(t *testing.T) {
	h := webtest.New(2)
	s := door(t, h)
	r := ask(s, "POST", "/api/v1/rooms", `{"url":"http://example.com/alice.flv","name":"alice","to":["archive"],"segment":"10m","priority":3.0,"paused":true}`)
	if got := text(t, r); r.StatusCode != 201 || r.Header.Get("Location") != "/api/v1/rooms/alice" ||
		got != `{"url":"http://example.com/alice.flv","name":"alice","to":["archive"],"segment":"10m","priority":3,"paused":true,"site":"direct","source":"page","targets":["file:/archive"]}`+"\n" {
		t.Errorf("add: %d %s", r.StatusCode, got)
	}
	wantError(t, ask(s, "POST", "/api/v1/rooms", `{"url":"http://example.com/alice.flv"}`), 409, "exists", "")
	wantError(t, ask(s, "POST", "/api/v1/rooms", `{"url":"nonsense"}`), 422, "refused", "url")
	wantError(t, ask(s, "POST", "/api/v1/rooms", `{"name":"bob"}`), 422, "refused", "url")
	wantError(t, ask(s, "POST", "/api/v1/rooms", `{"url":"http://h/x","priority":1000001}`), 422, "refused", "priority")
	r = ask(s, "PATCH", "/api/v1/rooms/alice", `{"segment":"20m","skip-titles":["rerun"]}`)
	if got := text(t, r); r.StatusCode != 200 || !strings.Contains(got, `"segment":"20m"`) || !strings.Contains(got, `"skip-titles":["rerun"]`) || !strings.Contains(got, `"priority":3`) {
		t.Errorf("change: %d %s", r.StatusCode, got)
	}
	for _, body := range []string{`{"segment":"20m"}`, `{}`} {
		wantError(t, ask(s, "PATCH", "/api/v1/rooms/room-0", body), 409, "read_only", "")
	}
	wantError(t, ask(s, "DELETE", "/api/v1/rooms/room-0", ""), 409, "read_only", "")
	wantError(t, ask(s, "PATCH", "/api/v1/rooms/nobody", `{}`), 404, "not_found", "")
	for _, verb := range []string{"pause", "continue", "split", "stop"} {
		if r := ask(s, "POST", "/api/v1/rooms/alice/"+verb, ""); r.StatusCode != 202 {
			t.Errorf("%s: %d", verb, r.StatusCode)
		}
	}
	if got := fmt.Sprint(h.Told); got != "[pause alice continue alice split alice stop alice]" {
		t.Errorf("told: %s", got)
	}
	wantError(t, ask(s, "POST", "/api/v1/rooms/nobody/pause", ""), 404, "not_found", "")
	wantError(t, ask(s, "POST", "/api/v1/rooms/alice/delete", ""), 404, "no_route", "")
	r = ask(s, "PUT", "/api/v1/rooms/alice", `{}`)
	wantError(t, r, 405, "method_not_allowed", "")
	if got := r.Header.Get("Allow"); got != "DELETE, GET, HEAD, PATCH" {
		t.Errorf("Allow: %s", got)
	}
	if r := ask(s, "DELETE", "/api/v1/rooms/alice", ""); r.StatusCode != 204 {
		t.Errorf("remove: %d", r.StatusCode)
	}
	wantError(t, ask(s, "GET", "/api/v1/rooms/alice", ""), 404, "not_found", "")
}

// names that somebody will give a room.
var names = []string{"alice", "a b", "a/b", "a//b", "../../etc/passwd", "..%2f..", "%", "%41", "a?b=c", "a#b", "a+b", "直播間 🎬", "\u202eabc", "<script>alert(1)</script>",
	`"quoted" \ back`, "a;b&c", "pause", "a\tb", "a\nb", "\x00", "a:b@c", "{name}", strings.Repeat("長", 300), "é", "e\u0301", "//", "./x", "x/.", "'; DROP TABLE rooms; --"}

func TestAnyNameIsARoom(t *testing.T) {
	h := webtest.New(0)
	s := door(t, h)
	for i, name := range names {
		body, err := json.Marshal(web.Settings{URL: fmt.Sprintf("http://example.com/%d", i), Name: name})
		if err != nil {
			t.Fatal(err)
		}
		r := ask(s, "POST", "/api/v1/rooms", string(body))
		if r.StatusCode != 201 {
			t.Fatalf("%q is not added: %d %s", name, r.StatusCode, text(t, r))
		}
		at := r.Header.Get("Location")
		if at != "/api/v1/rooms/"+url.PathEscape(name) {
			t.Errorf("%q is at %s", name, at)
		}
		var room web.Room
		r = ask(s, "GET", at, "")
		if err := json.Unmarshal([]byte(text(t, r)), &room); err != nil || room.Name != name {
			t.Errorf("%q at %s is %q: %d %v", name, at, room.Name, r.StatusCode, err)
		}
		if r := ask(s, "POST", at+"/split", ""); r.StatusCode != 202 || h.Told[len(h.Told)-1] != "split "+name {
			t.Errorf("%q takes no command: %d", name, r.StatusCode)
		}
	}
	if got := text(t, ask(s, "GET", "/api/v1/rooms", "")); strings.Contains(got, "<script>") {
		t.Error("the JSON has markup in it that a browser could take for a page")
	}
	for _, name := range names {
		if r := ask(s, "DELETE", "/api/v1/rooms/"+url.PathEscape(name), ""); r.StatusCode != 204 {
			t.Errorf("%q is not removed: %d", name, r.StatusCode)
		}
	}
	if len(h.Known) > 0 {
		t.Errorf("left: %v", h.Known)
	}
	for _, name := range []string{".", "..", "/"} {
		wantError(t, ask(s, "POST", "/api/v1/rooms", `{"url":"http://h/x","name":"`+name+`"}`), 422, "refused", "name")
	}
}

func TestBodiesAreReadStrictly(t *testing.T) {
	s := door(t, webtest.New(2))
	for body, want := range map[string]struct {
		status    int
		code, key string
	}{
		`{`:                                       {400, "bad_request", ""},
		`{} {}`:                                   {400, "bad_request", ""},
		`[]`:                                      {400, "bad_request", ""},
		`null`:                                    {400, "bad_request", ""},
		`"x"`:                                     {400, "bad_request", ""},
		"{\"url\":\"\xff\"}":                      {400, "bad_request", ""},
		`{"url":1}`:                               {400, "bad_request", "url"},
		`{"url":null}`:                            {400, "bad_request", "url"},
		`{"URL":"http://h/x"}`:                    {400, "bad_request", "URL"},
		`{"url":"http://h/x","segmnt":"15m"}`:     {400, "bad_request", "segmnt"},
		`{"url":"http://h/x","to":"archive"}`:     {400, "bad_request", "to"},
		`{"url":"http://h/x","to":["a",null]}`:    {400, "bad_request", "to"},
		`{"url":"http://h/x","to":["a",["b"]]}`:   {400, "bad_request", "to"},
		`{"url":"http://h/x","priority":1.5}`:     {400, "bad_request", "priority"},
		`{"url":"http://h/x","priority":"1"}`:     {400, "bad_request", "priority"},
		`{"url":"http://h/x","priority":1e99}`:    {400, "bad_request", "priority"},
		`{"url":"http://h/x","paused":"yes"}`:     {400, "bad_request", "paused"},
		`{"url":"http://h/x","paused":0}`:         {400, "bad_request", "paused"},
		`{"` + strings.Repeat("k", 1000) + `":1}`: {400, "bad_request", strings.Repeat("k", 60) + "…"},
		strings.Repeat("[", 60_000):               {400, "bad_request", ""},
		`{"url":"` + strings.Repeat("x", 70_000):  {413, "too_large", ""},
	} {
		wantError(t, ask(s, "POST", "/api/v1/rooms", body), want.status, want.code, want.key)
	}
	wantError(t, ask(s, "POST", "/api/v1/rooms", `{"url":"http://h/x"}`, "Content-Type: text/plain"), 415, "not_json", "")
	wantError(t, ask(s, "POST", "/api/v1/rooms", `url=x`, "Content-Type: application/x-www-form-urlencoded"), 415, "not_json", "")
	wantError(t, ask(s, "POST", "/api/v1/rooms", ""), 415, "not_json", "")
	wantError(t, ask(s, "PATCH", "/api/v1/rooms/room-1", `{"url":"http://h/y"}`), 400, "bad_request", "url")
	if r := ask(s, "POST", "/api/v1/rooms", `{"url":"http://h/\ud800null","to":["null"]}`, "Content-Type: application/json; charset=utf-8"); r.StatusCode != 201 {
		t.Errorf("a list with the text null: %d %s", r.StatusCode, text(t, r))
	}
}

func TestQueriesAreReadStrictly(t *testing.T) {
	s := door(t, webtest.New(5))
	for path, key := range map[string]string{
		"/api/v1/rooms?most=0": "most", "/api/v1/rooms?most=": "most", "/api/v1/rooms?most=x": "most", "/api/v1/rooms?most=10001": "most",
		"/api/v1/rooms?limit=5": "limit", "/api/v1/rooms?most=1&most=2": "most", "/api/v1/broadcasts?most=201": "most", "/api/v1/broadcasts?room=%ff": "room",
		"/api/v1/status?parts=1": "parts", "/api/v1/config?x": "x", "/api/v1/rooms?a%zz=1": "", "/api/v1/broadcasts?a;b=c": "",
	} {
		wantError(t, ask(s, "GET", path, ""), 400, "bad_request", key)
	}
	wantError(t, ask(s, "GET", "/api/v1/rooms?after=nobody", ""), 422, "refused", "after")
}

func TestListsHavePages(t *testing.T) {
	h := webtest.New(25)
	s := door(t, h)
	var seen []string
	for next := ""; ; {
		var page struct {
			Rooms []web.Room
			Next  string
		}
		path := "/api/v1/rooms?most=10"
		if next != "" {
			path += "&after=" + url.QueryEscape(next)
		}
		if err := json.Unmarshal([]byte(text(t, ask(s, "GET", path, ""))), &page); err != nil || len(page.Rooms) > 10 {
			t.Fatalf("%d rooms, %v", len(page.Rooms), err)
		}
		for _, r := range page.Rooms {
			seen = append(seen, r.Name)
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if len(seen) != 25 || seen[24] != "room-24" {
		t.Errorf("seen %v", seen)
	}
	var page web.Broadcasts
	if err := json.Unmarshal([]byte(text(t, ask(s, "GET", "/api/v1/broadcasts?most=5", ""))), &page); err != nil || len(page.List) != 5 || page.Next == "" {
		t.Fatalf("%+v %v", page, err)
	}
	first := page.List[0]
	if first.Room != "room-1" || first.Parts != 3 || first.Safe != 2 || first.GapSeconds != 4 || first.DurationMS != 45*60*1000 || first.Size != 3*(900<<20) || first.Started != "2026-01-02T03:04:05.000Z" || first.Ended != "" {
		t.Errorf("the first is %+v", first)
	}
	if got := text(t, ask(s, "GET", "/api/v1/broadcasts?room=nobody", "")); got != `{"broadcasts":[]}`+"\n" {
		t.Errorf("of nobody: %s", got)
	}
}

func TestABroadcastTellsEveryProof(t *testing.T) {
	h := webtest.New(2)
	s := door(t, h)
	var got struct {
		Broadcast web.Broadcast
		Parts     []struct {
			Seq        uint32
			Local      string
			SHA256     string
			Deliveries []struct {
				Target, State string
				Proof         *segment.Proof
			}
		}
		Gaps      []map[string]any
		Repairs   []map[string]any
		Published []map[string]any
	}
	body := text(t, ask(s, "GET", "/api/v1/broadcasts/"+string(h.Sessions[0].Session.ID), ""))
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Parts) != 3 || got.Parts[0].Deliveries[0].Proof == nil || got.Parts[0].Deliveries[0].Proof.How != "size and SHA-256 read back" || got.Parts[2].Local != "open" ||
		got.Parts[2].Deliveries[0].Proof != nil || fmt.Sprint(got.Gaps) != "[map[after_seq:1 at:2026-01-02T03:04:05.000Z at_ms:60000 seconds:4 why:source closed the connection]]" ||
		len(got.Repairs) != 1 || fmt.Sprint(got.Published) != "[map[ended:false parts:2 required:true target:file:/archive]]" {
		t.Errorf("got %s", body)
	}
	wantError(t, ask(s, "GET", "/api/v1/broadcasts/nothing", ""), 404, "not_found", "")
}

func TestTokensAreToldOnce(t *testing.T) {
	h := webtest.New(2)
	s := door(t, h, locked(t))
	cookie := login(t, s)
	var made struct{ ID, Name, Scope, Token, Made, Used string }
	r := ask(s, "POST", "/api/v1/tokens", `{"name":"prometheus","scope":"read"}`, cookie)
	if err := json.Unmarshal([]byte(text(t, r)), &made); err != nil || r.StatusCode != 201 || !strings.HasPrefix(made.Token, "lr_") || r.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("make: %d %v %+v", r.StatusCode, err, made)
	}
	auth := "Authorization: Bearer " + made.Token
	if r := ask(s, "GET", "/metrics", "", auth); r.StatusCode != 200 || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain; version=0.0.4") || !strings.Contains(text(t, r), `liverec_rooms{state="live"} 1`) {
		t.Errorf("metrics: %d", r.StatusCode)
	}
	list := text(t, ask(s, "GET", "/api/v1/tokens", "", cookie))
	if strings.Contains(list, made.Token) || strings.Contains(list, made.Token[3:]) || !strings.Contains(list, `"name":"prometheus"`) || strings.Contains(list, `"used":""`) {
		t.Errorf("the list is %s", list)
	}
	if dump := fmt.Sprintf("%+v", h.Keys); strings.Contains(dump, made.Token[3:]) {
		t.Error("the text of the token is kept")
	}
	wantError(t, ask(s, "POST", "/api/v1/tokens", `{"name":"","scope":"read"}`, cookie), 422, "refused", "name")
	wantError(t, ask(s, "POST", "/api/v1/tokens", `{"name":"x","scope":"admin"}`, cookie), 422, "refused", "scope")
	wantError(t, ask(s, "POST", "/api/v1/tokens", `{"name":"x","scope":"write"}`, auth), 403, "forbidden", "")
	if r := ask(s, "DELETE", "/api/v1/tokens/"+made.ID, "", cookie); r.StatusCode != 204 {
		t.Errorf("remove: %d", r.StatusCode)
	}
	wantError(t, ask(s, "GET", "/metrics", "", auth), 401, "unauthorized", "")
	wantError(t, ask(s, "DELETE", "/api/v1/tokens/"+made.ID, "", cookie), 404, "not_found", "")
	h.Keys = make([]token.Token, 200)
	wantError(t, ask(s, "POST", "/api/v1/tokens", `{"name":"x","scope":"write"}`, cookie), 422, "refused", "name")
}

// Ten thousand rooms and ten thousand parts are answered in bounded time.
func TestManyRoomsAndParts(t *testing.T) {
	const n = 10_000
	h := webtest.New(n)
	h.Sessions = append(h.Sessions, webtest.Broadcast("01JBIG", segment.Room{Name: "big"}, n))
	s := door(t, h)
	for _, path := range []string{"/api/v1/rooms", "/api/v1/status", "/metrics", "/api/v1/broadcasts/01JBIG", "/api/v1/rooms/room-999", "/api/v1/rooms?most=10&after=room-900"} {
		begin := time.Now()
		r := ask(s, "GET", path, "", "Accept-Encoding: gzip")
		n := len(text(t, r))
		t.Logf("%s: %v, %d bytes", path, time.Since(begin), n)
		if r.StatusCode != 200 || time.Since(begin) > 20*time.Second {
			t.Errorf("%s: %d after %v", path, r.StatusCode, time.Since(begin))
		}
	}
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"url":"http://h/x","to":["a"],"priority":3,"paused":true}`, `{"to":[null]}`, `null`, `{"url":null}`, `{"a":{"b":[1,2,{"c":null}]}}`, "{\"url\":\"\xff\"}", `{"url":"\u0000"}`, `{"priority":9223372036854775808}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var s web.Settings
		code, key, ok := web.ParseBody(body, &s)
		if !ok && (code == "" || len(key) > 300) {
			t.Errorf("refused with code %q and key %q", code, key)
		}
		if !ok {
			return
		}
		// What was taken says the same when it is written and read again.
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again web.Settings
		if _, _, ok := web.ParseBody(data, &again); !ok {
			t.Fatalf("%s is refused", data)
		}
		if back, err := json.Marshal(again); err != nil || !bytes.Equal(back, data) {
			t.Errorf("%s became %s: %v", data, back, err)
		}
		var c web.Change
		web.ParseBody(body, &c)
	})
}
