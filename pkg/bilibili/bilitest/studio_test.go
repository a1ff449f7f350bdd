package bilitest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
)

// caller speaks to the stand-in as raw as can be.
type caller struct {
	t      *testing.T
	server *bilitest.Server
	studio *bilitest.Studio
	user   *bilitest.User
	cred   *bilibili.Credentials
}

func newCaller(t *testing.T) *caller {
	t.Helper()
	c := &caller{t: t, server: bilitest.Unplugged()}
	c.studio = bilitest.NewStudio(c.server)
	c.studio.Turn(func(k *bilitest.Knobs) { k.Chunk = 1000 })
	c.user = c.server.AddUser("alice")
	c.login(c.user)
	return c
}

func (c *caller) login(u *bilitest.User) {
	c.t.Helper()
	cred, err := bilibili.Parse(c.server.CookieFile(u))
	if err != nil {
		c.t.Fatal(err)
	}
	c.cred = cred
}

func (c *caller) call(method, address string, header http.Header, body string) (int, string, http.Header) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.server.Virtual().RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func (c *caller) cookie() http.Header { return http.Header{"Cookie": {c.cred.Cookie().Reveal()}} }

func (c *caller) preupload(query string) (int, map[string]any) {
	c.t.Helper()
	status, body, _ := c.call("GET", "https://member.bilibili.com/preupload?"+query, c.cookie(), "")
	var a map[string]any
	_ = json.Unmarshal([]byte(body), &a) // an HTML page: nothing
	return status, a
}

// upload is a whole upload, and gives the server name.
func (c *caller) upload(data []byte) string {
	c.t.Helper()
	_, a := c.preupload(fmt.Sprintf("name=a.flv&size=%d&r=upos&profile=ugcupos/bup", len(data)))
	object := "https:" + a["endpoint"].(string) + "/" + strings.TrimPrefix(a["upos_uri"].(string), "upos://")
	auth := http.Header{"X-Upos-Auth": {a["auth"].(string)}}
	_, body, _ := c.call("POST", object+"?uploads&output=json", auth, "")
	var i struct {
		ID string `json:"upload_id"`
	}
	if err := json.Unmarshal([]byte(body), &i); err != nil {
		c.t.Fatal(err)
	}
	n := 0
	for part := range slices.Chunk(data, 1000) {
		q := url.Values{"partNumber": {fmt.Sprint(n + 1)}, "uploadId": {i.ID}, "chunk": {fmt.Sprint(n)}, "chunks": {fmt.Sprint((len(data) + 999) / 1000)},
			"size": {fmt.Sprint(len(part))}, "start": {fmt.Sprint(n * 1000)}, "end": {fmt.Sprint(n*1000 + len(part))}, "total": {fmt.Sprint(len(data))}}
		if status, body, _ := c.call("PUT", object+"?"+q.Encode(), auth, string(part)); status != 200 || body != "MULTIPART_PUT_SUCCESS" {
			c.t.Fatal(status, body)
		}
		n++
	}
	q := url.Values{"output": {"json"}, "name": {"a.flv"}, "uploadId": {i.ID}, "biz_id": {fmt.Sprint(int64(a["biz_id"].(float64)))}}
	for range 2 { // complete is repeated without harm
		if status, body, _ := c.call("POST", object+"?"+q.Encode(), auth, `{"parts":[]}`); status != 200 || !strings.Contains(body, `"OK":1`) {
			c.t.Fatal(status, body)
		}
	}
	status, got, _ := c.call("GET", object, auth, "")
	if status != 200 || got != string(data) {
		c.t.Fatal("read back", status, len(got))
	}
	name := object[strings.LastIndexByte(object, '/')+1:]
	return strings.TrimSuffix(name, ".flv")
}

// Every refusal of the upload side, with its row.
func TestUploadRefusals(t *testing.T) {
	c := newCaller(t)
	for _, x := range []struct{ row, query string }{
		{"9.1 no extension", "name=a&size=1&r=upos&profile=ugcupos/bup"},
		{"9.1 unknown profile", "name=a.flv&size=1&r=upos&profile=ugcfr/pc3"},
		{"9.1 no size", "name=a.flv&r=upos&profile=ugcupos/bup"},
		{"9.1 no bytes", "name=a.flv&size=0&r=upos&profile=ugcupos/bup"},
		{"9.1 no upos", "name=a.flv&size=1&r=kodo&profile=ugcupos/bup"},
	} {
		if status, a := c.preupload(x.query); status != 200 || a["OK"] != 0.0 {
			t.Errorf("%s: %d %v", x.row, status, a)
		}
	}
	if status, _, _ := c.call("GET", "https://member.bilibili.com/preupload?name=a.flv&size=1&r=upos&profile=ugcupos/bup", nil, ""); status != 403 {
		t.Errorf("3.1 not logged in: %d", status)
	}
	if status, body, _ := c.call("GET", "https://member.bilibili.com/preupload?r=probe", nil, ""); status != 200 || !strings.Contains(body, "probe_url") {
		t.Errorf("2.1 the lines need no login: %d", status)
	}

	_, a := c.preupload("name=a.flv&size=2500&r=upos&profile=ugcupos/bup")
	object := "https:" + a["endpoint"].(string) + "/" + strings.TrimPrefix(a["upos_uri"].(string), "upos://")
	auth := http.Header{"X-Upos-Auth": {a["auth"].(string)}}
	init := func(query string, h http.Header) (int, string) {
		status, body, _ := c.call("POST", object+query, h, "")
		return status, body
	}
	if status, _ := init("?output=json", auth); status != 404 {
		t.Errorf("3.2 without uploads: %d", status)
	}
	if status, _ := init("?uploads&output=json", nil); status != 403 {
		t.Errorf("9.2 without auth: %d", status)
	}
	if status, body := init("?uploads", auth); status != 200 || !strings.HasPrefix(body, "<") {
		t.Errorf("3.2 without output it is XML: %d %s", status, body)
	}
	_, body := init("?uploads&output=json", auth)
	var i struct {
		ID string `json:"upload_id"`
	}
	if err := json.Unmarshal([]byte(body), &i); err != nil {
		t.Fatal(err)
	}
	put := func(query string, n int) int {
		status, _, _ := c.call("PUT", object+"?"+query, auth, strings.Repeat("x", n))
		return status
	}
	good := func(part, size int) string {
		return fmt.Sprintf("partNumber=%d&uploadId=%s&chunk=%d&chunks=3&size=%d&start=%d&end=%d&total=2500", part, i.ID, part-1, size, (part-1)*1000, (part-1)*1000+size)
	}
	for _, x := range []struct {
		row   string
		query string
		n     int
		want  int
	}{
		{"9.2 unknown upload", strings.Replace(good(1, 1000), i.ID, "nobody", 1), 1000, 404},
		{"9.2 part 0", strings.Replace(good(1, 1000), "partNumber=1", "partNumber=0", 1), 1000, 400},
		{"9.2 part 10001", strings.Replace(good(1, 1000), "partNumber=1", "partNumber=10001", 1), 1000, 400},
		{"9.2 end inclusive", strings.Replace(good(1, 1000), "end=1000", "end=999", 1), 1000, 400},
		{"9.2 chunk counts from 0", strings.Replace(good(1, 1000), "chunk=0", "chunk=1", 1), 1000, 400},
		{"9.2 another size than said", good(1, 1000), 999, 400},
		{"good, the last first", good(3, 500), 500, 200},
		{"good", good(1, 1000), 1000, 200},
	} {
		if status := put(x.query, x.n); status != x.want {
			t.Errorf("%s: %d", x.row, status)
		}
	}
	complete := func() (int, string) {
		q := url.Values{"output": {"json"}, "name": {"a.flv"}, "uploadId": {i.ID}, "biz_id": {fmt.Sprint(int64(a["biz_id"].(float64)))}}
		status, body, _ := c.call("POST", object+"?"+q.Encode(), auth, "{}")
		return status, body
	}
	if status, body := complete(); status != 500 || !strings.Contains(body, "PART_COUNT_ERR_GOT_2_EXPECT_3") {
		t.Errorf("3.4 a hole: %d %s", status, body)
	}
	if status := put(good(2, 1000), 1000); status != 200 {
		t.Fatal(status)
	}
	if status, body := complete(); status != 200 {
		t.Errorf("complete: %d %s", status, body)
	}
	c.server.Advance(5*24*time.Hour + time.Minute)
	status, body, h := c.call("GET", object, auth, "")
	if status != 403 || body != "" || !strings.HasPrefix(h.Get("X-Upos-Auth"), "AUTH_TS_GT_5DAY ") {
		t.Errorf("3.5 an auth of five days: %d %q %v", status, body, h)
	}
}

func (c *caller) submit(path string, payload map[string]any) int64 {
	c.t.Helper()
	b, err := json.Marshal(payload)
	if err != nil {
		c.t.Fatal(err)
	}
	h := c.cookie()
	h.Set("Content-Type", "application/json")
	_, body, _ := c.call("POST", "https://member.bilibili.com/x/vu/web/"+path+"?csrf="+c.cred.CSRF().Reveal(), h, string(b))
	var a struct {
		Code int64 `json:"code"`
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		c.t.Fatal(err, body)
	}
	return a.Code
}

// Every refusal of the submission side, with its row.
func TestSubmissionRefusals(t *testing.T) {
	c := newCaller(t)
	one, two := c.upload(bilitest.TestPart(60, 2500)), c.upload(bilitest.TestPart(60, 10))
	mallory := c.server.AddUser("mallory")
	foreign := c.studio.Store(mallory, "x.flv", []byte("x"))
	video := func(files ...string) []map[string]any {
		var out []map[string]any
		for _, f := range files {
			out = append(out, map[string]any{"filename": f, "title": "P", "desc": ""})
		}
		return out
	}
	payload := func(change map[string]any) map[string]any {
		p := map[string]any{"videos": video(one), "title": "t", "copyright": 1, "tid": 21, "tag": "a", "desc": "", "dynamic": ""}
		for k, v := range change {
			p[k] = v
		}
		return p
	}
	var hundred []string
	for range 101 {
		hundred = append(hundred, c.studio.Store(c.user, "x.flv", []byte("x")))
	}
	for _, x := range []struct {
		row    string
		change map[string]any
		want   int64
	}{
		{"5.4 no videos", map[string]any{"videos": []string{}}, 21011},
		{"9.3 no title", map[string]any{"title": ""}, 21001},
		{"5.4 a title of 81", map[string]any{"title": strings.Repeat("长", 81)}, 21103},
		{"9.3 no tag", map[string]any{"tag": ""}, 21001},
		{"5.4 a reprint without source", map[string]any{"copyright": 2}, 21021},
		{"5.3 limited_free", map[string]any{"limited_free": 0}, 21001},
		{"5.4 an unknown file", map[string]any{"videos": video(one, "nobody")}, 21015},
		{"5.4 a file of somebody else", map[string]any{"videos": video(foreign)}, 21015},
		{"5.3 101 new parts", map[string]any{"videos": video(hundred...)}, 21058},
	} {
		if code := c.submit("add/v3", payload(x.change)); code != x.want {
			t.Errorf("%s: %d, not %d", x.row, code, x.want)
		}
	}
	if code := c.submit("add/v3", payload(map[string]any{"title": strings.Repeat("长", 80)})); code != 0 {
		t.Fatalf("a good one: %d", code)
	}
	aid := c.studio.Archives()[0].AID
	if code := c.submit("add/v3", payload(nil)); code != 10009 {
		t.Errorf("5.4 the same file in two submissions: %d", code)
	}
	c.studio.Turn(func(k *bilitest.Knobs) { k.Gap = 30 * time.Second })
	if code := c.submit("add/v3", payload(map[string]any{"videos": video(two)})); code != 21070 {
		t.Errorf("5.4 two within 30 s: %d", code)
	}
	c.studio.Turn(func(k *bilitest.Knobs) { k.Gap, k.Daily = 0, 1 })
	if code := c.submit("add/v3", payload(map[string]any{"videos": video(two)})); code != 21566 {
		t.Errorf("5.4 too many a day: %d", code)
	}
	if code := c.submit("edit", payload(map[string]any{"aid": aid + 1})); code != -404 {
		t.Errorf("9.3 an unknown submission: %d", code)
	}
	if code := c.submit("edit", payload(map[string]any{"aid": aid, "videos": append(video(one), video(hundred[:100]...)...)})); code != 21058 {
		t.Errorf("5.3 an old part without its cid counts as new: %d", code)
	}
	if code := c.submit("edit", payload(map[string]any{"aid": aid, "videos": video(one, two)})); code != 0 {
		t.Errorf("an edit: %d", code)
	}
	if code := c.submit("edit", payload(map[string]any{"aid": aid, "videos": video(two)})); code != 0 || !slices.Equal(c.studio.Archives()[0].Files, []string{two}) {
		t.Errorf("5.3 an edit replaces the list: %d", code)
	}
	_, body, _ := c.call("POST", "https://member.bilibili.com/x/vu/client/add", nil, "{}")
	if !bytes.Contains([]byte(body), []byte("21590")) {
		t.Errorf("5.1 the client's way is closed: %s", body)
	}
	_, body, _ = c.call("POST", "https://member.bilibili.com/x/vu/web/add/v3?csrf=wrong", c.cookie(), "{}")
	if !strings.Contains(body, "-111") {
		t.Errorf("9.3 csrf: %s", body)
	}
	_, body, _ = c.call("POST", "https://member.bilibili.com/x/vu/web/add/v3", nil, "{}")
	if !strings.Contains(body, "-101") {
		t.Errorf("9.3 no cookie: %s", body)
	}
}
