package bilitest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
)

const browserAgent = "Mozilla/5.0 (X11; Linux x86_64)"

// ask sends a request as it stands, and gives status, code of the envelope (-1: there is none), and body.
func ask(t *testing.T, s *bilitest.Server, raw string, h http.Header) (status int, code int64, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = h
	res, err := s.Virtual().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Code *int64 }
	if json.Unmarshal(b, &e) != nil || e.Code == nil {
		return res.StatusCode, -1, string(b)
	}
	return res.StatusCode, *e.Code, string(b)
}

// The stand-in refuses what the real one refuses.
func TestLiveIsStrict(t *testing.T) {
	s := bilitest.Unplugged()
	live := bilitest.NewLive(s)
	live.Add(bilitest.LiveRoom{ID: 1899237171, Short: 6, Status: 1, Since: time.Now(), Title: "a", FLV: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "FLV") })})
	live.Add(bilitest.LiveRoom{ID: 2, Locked: true})
	const api = "https://api.live.bilibili.com"
	browser := http.Header{"User-Agent": {browserAgent}}
	cookie := http.Header{"User-Agent": {browserAgent}, "Cookie": {"buvid3=x"}}
	const play = api + "/xlive/web-room/v2/index/getRoomPlayInfo?room_id=6&protocol=0,1&format=0,1,2&codec=0&platform=web"
	for _, c := range []struct {
		name, url string
		head      http.Header
		status    int
		code      int64
		has       string
	}{
		{"no browser", api + "/room/v1/Room/room_init?id=6", http.Header{"User-Agent": {"Go-http-client/1.1"}}, 412, -1, "<html>"},
		{"short number", api + "/room/v1/Room/room_init?id=6", browser, 200, 0, `"room_id":1899237171`},
		{"no such room", api + "/room/v1/Room/room_init?id=7", browser, 200, 60004, ""},
		{"no such room, other call", api + "/room/v1/Room/get_info?room_id=7", browser, 200, 1, ""},
		{"unsigned", api + "/xlive/web-room/v1/index/getInfoByRoom?room_id=6", cookie, 200, -352, ""},
		{"wrongly signed", api + "/xlive/web-room/v1/index/getInfoByRoom?room_id=6&wts=1&w_rid=00", cookie, 200, -352, ""},
		{"play unsigned", play, browser, 200, 0, `"current_qn":150`},
		{"play wrongly signed", play + "&wts=1&w_rid=00", cookie, 200, -352, ""},
		{"anonymous", play + "&qn=10000", browser, 200, 0, `"current_qn":250`},
		{"no platform", strings.Replace(play, "&platform=web", "", 1), browser, 200, 1002002, ""},
		{"batch", api + "/xlive/web-room/v1/index/getRoomBaseInfo?req_biz=web_room_componet&room_ids=6&room_ids=2", browser, 200, 0, `"by_room_ids":{"1899237171":`},
		{"batch of locked rooms", api + "/xlive/web-room/v1/index/getRoomBaseInfo?req_biz=web_room_componet&room_ids=2", browser, 200, 0, `"by_room_ids":[]`},
		{"batch without its word", api + "/xlive/web-room/v1/index/getRoomBaseInfo?room_ids=6", browser, 200, 1002002, ""},
		{"by user", api + "/room/v1/Room/get_status_info_by_uids?uids[]=1900237171", browser, 200, 0, `"live_status":1`},
		{"by users that are not there", api + "/room/v1/Room/get_status_info_by_uids?uids[]=5", browser, 200, 0, `"data":[]`},
	} {
		status, code, body := ask(t, s, c.url, c.head)
		if status != c.status || code != c.code || !strings.Contains(body, c.has) {
			t.Errorf("%s: %d, %d: %s", c.name, status, code, body)
		}
	}
	// What our own client signs is taken, without a buvid3 it is not.
	client := bilibili.NewClient(bilibili.Config{Transport: s.Virtual()})
	call := bilibili.Call{Op: "ask", URL: api + "/xlive/web-room/v1/index/getInfoByRoom", WBI: true, As: bilibili.Visitor, Query: url.Values{"room_id": {"6"}}}
	if err := client.Do(t.Context(), call, nil); err != nil {
		t.Error(err)
	}
	call.As = bilibili.Nobody
	if err := client.Do(t.Context(), call, nil); bilibili.CodeOf(err) != -352 {
		t.Error(err)
	}
}

// An address of a stream holds for its path, for an hour, and for those who come from the site.
func TestAddressesAreChecked(t *testing.T) {
	s := bilitest.Unplugged()
	live := bilitest.NewLive(s)
	r := live.Add(bilitest.LiveRoom{ID: 6, Status: 1, Since: time.Now(), Encoded: true, FLV: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "FLV") }),
		HLS: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.URL.Path) })})
	_, _, body := ask(t, s, "https://api.live.bilibili.com/xlive/web-room/v2/index/getRoomPlayInfo?room_id=6&protocol=0,1&format=0,1,2&codec=0&platform=web&qn=250", http.Header{"User-Agent": {browserAgent}})
	var a struct {
		Data struct {
			Play struct {
				URL struct {
					Stream []struct {
						Format []struct {
							Codec []struct {
								Base   string                         `json:"base_url"`
								Places []struct{ Host, Extra string } `json:"url_info"`
							}
						}
					}
				} `json:"playurl"`
			} `json:"playurl_info"`
		}
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil || len(a.Data.Play.URL.Stream) != 2 {
		t.Fatal(err, body)
	}
	at := func(stream, host int) string {
		c := a.Data.Play.URL.Stream[stream].Format[0].Codec[0]
		return c.Places[host].Host + c.Base + c.Places[host].Extra
	}
	viewer := http.Header{"User-Agent": {browserAgent}, "Referer": {"https://live.bilibili.com/6"}}
	const gotcha, province = 2, 1
	bare := func(raw string) string { return strings.Replace(raw, "_2500", "", 1) }
	check := func(name, raw string, h http.Header, want int) {
		t.Helper()
		if status, _, body := ask(t, s, raw, h); status != want {
			t.Errorf("%s: %d, want %d: %s", name, status, want, body)
		}
	}
	check("FLV", at(0, gotcha), viewer, 200)
	check("HLS", at(1, gotcha), viewer, 200)
	check("no Referer", at(0, gotcha), http.Header{"User-Agent": {browserAgent}}, 403)
	check("another name", bare(at(0, gotcha)), viewer, 403)
	check("another name at a provincial node", bare(at(0, province)), viewer, 403)
	check("another name of HLS", bare(at(1, gotcha)), viewer, 403)
	check("another name of HLS at a provincial node", bare(at(1, province)), viewer, 200)
	s.Advance(time.Hour + time.Minute)
	check("too late", at(0, gotcha), viewer, 403)
	live.Change(func() { r.FLV = nil })
	s.Advance(-time.Hour)
	check("nothing there", at(0, gotcha), viewer, 404)
}
