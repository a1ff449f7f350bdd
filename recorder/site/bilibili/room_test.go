package bilibili_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	client "github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/bilibili"
	"github.com/rs/zerolog"
)

func TestCheck(t *testing.T) {
	for in, id := range map[string]string{
		"https://live.bilibili.com/6":                                "6",
		"http://LIVE.bilibili.com./1899237171/":                      "1899237171",
		"https://live.bilibili.com/21452505?spm_id_from=333.1&a=7#x": "21452505",
		"https://live.bilibili.com/h5/510":                           "510",
		"https://live.bilibili.com/blanc/510?liteVersion=true":       "510",
		" https://b23.tv/AbCd123?share=1 ":                           "AbCd123",
	} {
		if !bilibili.Knows(in) {
			t.Errorf("%s is unknown", in)
		}
		r, err := bilibili.Check(in)
		if err != nil || string(r.ID) != "bilibili:"+id || r.Name != id || r.Site != "bilibili" || strings.ContainsAny(r.URL, "?#") {
			t.Errorf("%s: %+v, %v", in, r, err)
		}
		if again, err := bilibili.Check(r.URL); err != nil || again != r {
			t.Errorf("%s checked again: %+v, %v", r.URL, again, err)
		}
	}
	for in, want := range map[string]string{
		"https://live.bilibili.com/":                      "names no room",
		"https://live.bilibili.com/blackboard/era/x.html": "without a room's number",
		"https://live.bilibili.com/p/html/123":            "without a room's number",
		"https://live.bilibili.com/0":                     "without a room's number",
		"https://live.bilibili.com/99999999999999999999":  "without a room's number",
		"https://b23.tv/BV1xx411c7mD":                     "a video",
		"https://b23.tv/av170001":                         "a video",
		"https://b23.tv/":                                 "no short link",
		"https://b23.tv/../x":                             "no short link",
		"https://space.bilibili.com/2":                    "a person's page",
		"https://www.bilibili.com/video/BV1xx411c7mD":     "no live room",
		"https://u:p@live.bilibili.com/6":                 "no address",
	} {
		if !bilibili.Knows(in) {
			t.Errorf("%s is somebody else's", in)
		}
		if r, err := bilibili.Check(in); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error()+"b23.tv", "b") {
			t.Errorf("%s: %+v, %v", in, r, err)
		}
	}
	for _, in := range []string{"https://live.bilibili.com.evil.example/6", "https://example.com/live.bilibili.com/6", "live.bilibili.com/6", "hls://live.bilibili.com/6", "https://notbilibili.com/6"} {
		if bilibili.Knows(in) {
			t.Errorf("%s is taken for ours", in)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"https://live.bilibili.com/6", "https://b23.tv/AbC", "https://live.bilibili.com/h5/1\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := bilibili.Check(raw)
		if err != nil {
			return
		}
		if strings.ContainsAny(string(r.ID)+r.URL+r.Name, "\r\n\x00\x1b ?#") {
			t.Errorf("%+v", r)
		}
		if again, err := bilibili.Check(r.URL); err != nil || again != r {
			t.Errorf("%+v, %v", again, err)
		}
	})
}

func TestQualities(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "auto", "best", "worst", "10000", "原画", "Original", "4K", "720", "720p", "720p60", "蓝光", "杜比"} {
		if err := bilibili.CheckQuality(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"nice", "-1", "0", "720x480", "原"} {
		if err := bilibili.CheckQuality(s); err == nil || !strings.Contains(err.Error(), "original") {
			t.Errorf("%q: %v", s, err)
		}
	}
	user := world.AddUser("quality")
	account := accountOf(t, user)
	r, _ := room(t, bilitest.LiveRoom{Accept: []int{30000, 20000, 10000, 400, 250, 150}, Title: "q"}, liveroom.Config{})
	for _, c := range []struct {
		quality string
		login   bool
		want    string
	}{
		{"auto", true, "4k"}, {"best", true, "4k"}, {"worst", true, "medium"}, {"worst", false, "medium"}, {"auto", false, "high"},
		{"原画", true, "original"}, {"10000", true, "original"}, {"30000", true, "dolby"}, {"720", true, "high"}, {"1080p", true, "original"}, {"480", true, "medium"},
		{"15000", true, "original"}, // the next lower one
		{"80", true, "medium"},      // nothing is lower
		{"4k", false, "high"},       // without a login this is all
	} {
		s := bilibili.NewSite(bilibili.SiteConfig{Client: client.NewClient(client.Config{Account: account, Log: zerolog.Nop()}), Log: zerolog.Nop()})
		if !c.login {
			s = site(t)
		}
		live := resolve(t, resolver(t, s, bilibili.Config{URL: address(r), Quality: c.quality}))
		if live.Source == nil {
			t.Errorf("%+v: %+v", c, live)
			continue
		}
		o := live.Source.(interface{ Offers() []bilibili.Offer }).Offers()
		if name, _, _ := strings.Cut(o[0].Name, " "); name != c.want || !o[0].Chosen || o[0].Form != "FLV" {
			t.Errorf("%+v: %+v", c, o)
		}
		live.Source.Close()
	}
}

// A room as the platform tells of it, on air and pulled.
func TestOnAir(t *testing.T) {
	since := time.Now().Add(-time.Hour).Truncate(time.Second)
	r, _ := room(t, bilitest.LiveRoom{Short: 77, Title: "标题 \x1b[31m", Streamer: "某主播", Cover: "http://i0.hdslb.com/c.jpg", Area: "单机", Parent: "游戏", Since: since, Status: 1}, liveroom.Config{})
	rooms.Link("LiVe001", fmt.Sprintf("https://live.bilibili.com/%d?share_source=copy", r.ID))
	rooms.Link("Twice01", "https://b23.tv/LiVe001")
	for _, url := range []string{address(r), "https://live.bilibili.com/h5/77", "https://b23.tv/LiVe001", "https://b23.tv/Twice01"} {
		res := resolver(t, site(t), bilibili.Config{URL: url})
		live := resolve(t, res)
		if live.Presence != recorder.OnAir || live.Streamer != "某主播" || !strings.HasPrefix(live.Title, "标题") || strings.Contains(live.Title, "\x1b") {
			t.Fatalf("%s: %+v", url, live)
		}
		a := res.About()
		if a.Room != r.ID || a.Short != 77 || a.UID != r.UID || a.Cover != "https://i0.hdslb.com/c.jpg" || a.Area != "游戏 · 单机" || !a.Since.Equal(since) || a.Status != bilibili.On {
			t.Errorf("%+v", a)
		}
		if h := live.Source.Host(); h != "d1--cn-gotcha04.bilivideo.com" {
			t.Errorf("host %s", h)
		}
		if n, err := pull(t, live.Source, 20); n < 20 {
			t.Errorf("%d packets, %v", n, err)
		}
	}
	for _, q := range world.Requests("* d1--cn-gotcha04.bilivideo.com/*") {
		if q.Header.Get("Cookie") != "" {
			t.Error("a media host got cookies")
		}
	}
	for _, q := range world.Requests("* b23.tv/*") {
		if q.Header.Get("Cookie") != "" {
			t.Error("the short link's host got cookies")
		}
	}
}

// What makes a room offline, blocked, or unknown; nothing but the platform's own word about the room makes it offline.
func TestPresence(t *testing.T) {
	soon := time.Now().Add(-10 * time.Second)
	for _, c := range []struct {
		name     string
		room     bilitest.LiveRoom
		change   func(*bilitest.LiveRoom)
		presence recorder.Presence // 0: an error
		want     string
		kind     failure.Kind
	}{
		{name: "offline", change: func(r *bilitest.LiveRoom) { r.Status = 0 }, presence: recorder.Offline, want: "offline"},
		{name: "round play", change: func(r *bilitest.LiveRoom) { r.Status = 2 }, presence: recorder.Offline, want: "round play"},
		{name: "locked", change: func(r *bilitest.LiveRoom) { r.Locked = true }, presence: recorder.Offline, want: "locked the room until"},
		{name: "password", room: bilitest.LiveRoom{Encrypted: true}, presence: recorder.Blocked, want: "password"},
		{name: "members", room: bilitest.LiveRoom{Empty: true}, presence: recorder.Blocked, want: "members"},
		{name: "just begun", room: bilitest.LiveRoom{Empty: true, Since: soon, Status: 1}, want: "no stream of it is offered yet"},
		{name: "paid", room: bilitest.LiveRoom{DRM: true, Special: []int{203}}, presence: recorder.Blocked, want: "copy-protected"},
		{name: "hidden but sent", room: bilitest.LiveRoom{Hidden: true}, presence: recorder.OnAir},
		{name: "HEVC only", room: bilitest.LiveRoom{Codecs: []string{"hevc"}}, presence: recorder.OnAir},
		{name: "nothing at the hosts", room: bilitest.LiveRoom{FLV: http.NotFoundHandler(), Formats: []string{"flv"}}, want: "404"},
		{name: "expired addresses", room: bilitest.LiveRoom{Life: -10, Formats: []string{"flv"}}, want: "403"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := room(t, c.room, liveroom.Config{})
			if c.change != nil {
				rooms.Change(func() { c.change(r) })
			}
			live, err := resolver(t, site(t), bilibili.Config{URL: address(r)}).Resolve(t.Context(), segment.Room{})
			if live.Source != nil {
				live.Source.Close()
			}
			if c.presence == 0 {
				if err == nil || !strings.Contains(err.Error(), c.want) || failure.KindOf(err) != c.kind || strings.Contains(err.Error(), "sign=") {
					t.Errorf("%+v, %v", live, err)
				}
				return
			}
			if err != nil || live.Presence != c.presence || !strings.Contains(live.Why, c.want) || live.Confirmed != (c.presence == recorder.Offline) {
				t.Errorf("%+v, %v", live, err)
			}
		})
	}
	for url, want := range map[string]string{"https://live.bilibili.com/404404": "there is no room 404404", "https://b23.tv/NoSuch1": "does not lead to a live room"} {
		live, err := resolver(t, site(t), bilibili.Config{URL: url}).Resolve(t.Context(), segment.Room{})
		if err == nil || !strings.Contains(err.Error(), want) || failure.KindOf(err) != failure.NeedsHuman || failure.Hint(err) == "" {
			t.Errorf("%s: %+v, %v", url, live, err)
		}
	}
}

// Links that lead elsewhere are not followed there.
func TestShortLinksElsewhere(t *testing.T) {
	rooms.Link("Elsewh1", "https://evil.example/6")
	rooms.Link("Video01", "https://www.bilibili.com/video/BV1xx411c7mD")
	rooms.Link("Circle1", "https://b23.tv/Circle2")
	rooms.Link("Circle2", "https://b23.tv/Circle1")
	rooms.Link("Activit", "https://live.bilibili.com/blackboard/era/x.html")
	for _, code := range []string{"Elsewh1", "Circle1", "Activit"} {
		live, err := resolver(t, site(t), bilibili.Config{URL: "https://b23.tv/" + code}).Resolve(t.Context(), segment.Room{})
		if err == nil || live.Presence != 0 || failure.KindOf(err) != failure.NeedsHuman {
			t.Errorf("%s: %+v, %v", code, live, err)
		}
	}
	for _, host := range world.Strays() {
		if strings.Contains(host, "evil") {
			t.Error("the link was followed to", host)
		}
	}
}

// A refusal to talk to us makes every room blocked and none offline, and the platform is left alone until it is over.
func TestAntiBot(t *testing.T) {
	const base, play = "GET api.live.bilibili.com/xlive/web-room/v1/index/getRoomBaseInfo", "GET api.live.bilibili.com/xlive/web-room/v2/index/getRoomPlayInfo"
	for _, c := range []struct {
		name, at string
		fault    bilitest.Fault
		want     string
	}{
		{"412 page", base, bilitest.Fault{Status: 412, Body: "<!DOCTYPE html>", Times: -1}, "412"},
		{"412 envelope", base, bilitest.Fault{Code: -412, Times: -1}, "412"},
		{"-352", base, bilitest.Fault{Code: -352, Times: -1}, "-352"},
		{"captcha", play, bilitest.Fault{Data: map[string]any{"v_voucher": "voucher_x"}, Times: -1}, "captcha"},
		{"-352 with a voucher", play, bilitest.Fault{Code: -352, Header: http.Header{"X-Bili-Gaia-Vvoucher": {"x"}}, Times: -1}, "captcha"},
		{"403 page", base, bilitest.Fault{Status: 403, Body: "<html>", Times: -1}, "403"},
		{"too often", base, bilitest.Fault{Code: -799, Times: -1}, "-799"},
		{"play refused", play, bilitest.Fault{Status: 412, Times: -1}, "412"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site(t)
			r, _ := room(t, bilitest.LiveRoom{}, liveroom.Config{})
			other, _ := room(t, bilitest.LiveRoom{}, liveroom.Config{})
			defer world.NoFaults()
			world.Fault(c.at, c.fault)
			a, b := resolver(t, s, bilibili.Config{URL: address(r)}), resolver(t, s, bilibili.Config{URL: address(other)})
			live := resolve(t, a)
			if live.Presence != recorder.Blocked || !strings.Contains(live.Why, c.want) || !strings.Contains(live.Why, "not asked again before") {
				t.Fatalf("%+v", live)
			}
			n := len(world.Requests("* api.live.bilibili.com/*"))
			for range 3 {
				for _, res := range []*bilibili.Resolver{a, b} {
					if live := resolve(t, res); live.Presence != recorder.Blocked {
						t.Errorf("%+v", live)
					}
				}
			}
			if more := len(world.Requests("* api.live.bilibili.com/*")) - n; more != 0 {
				t.Errorf("asked %d times while it is blocked", more)
			}
		})
	}
}

// Trouble that says nothing about the room is an error.
func TestCouldNotAsk(t *testing.T) {
	const base = "GET api.live.bilibili.com/xlive/web-room/v1/index/getRoomBaseInfo"
	for name, f := range map[string]bilitest.Fault{
		"500": {Status: 500, Body: "<html>", Times: -1}, "overloaded": {Code: -503, Times: -1}, "cut": {Cut: true, Times: -1}, "rubbish": {Body: "x", Times: -1},
		"no data": {Body: `{"code":0,"data":null}`, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := room(t, bilitest.LiveRoom{}, liveroom.Config{})
			defer world.NoFaults()
			world.Fault(base, f)
			live, err := resolver(t, site(t), bilibili.Config{URL: address(r)}).Resolve(t.Context(), segment.Room{})
			if live.Source != nil {
				live.Source.Close()
			}
			if name == "no data" { // the room is missing in the answer: it is asked about singly
				if err != nil || live.Presence != recorder.OnAir {
					t.Errorf("%+v, %v", live, err)
				}
				return
			}
			if err == nil || live.Presence != 0 {
				t.Errorf("%+v, %v", live, err)
			}
		})
	}
}

// The platform's word ends a broadcast, however the connection ended; a connection that ended does not.
func TestEnd(t *testing.T) {
	t.Parallel()
	broken := func(n int) liveroom.Fault {
		return liveroom.Fault{Events: []liveroom.Event{{Tags: 60, End: liveroom.Broken}}}
	}
	r, _ := room(t, bilitest.LiveRoom{Title: "a"}, liveroom.Config{Fault: broken})
	told := make(chan bilibili.About, 16)
	res := resolver(t, site(t), bilibili.Config{URL: address(r), Told: func(a bilibili.About) { told <- a }})
	live := resolve(t, res)
	if _, err := pull(t, live.Source, 0); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a broken connection ended with %v", err)
	}
	live = resolve(t, res) // the room goes on
	if live.Presence != recorder.OnAir {
		t.Fatalf("%+v", live)
	}
	rooms.Change(func() { r.Status, r.Title = 0, "b" })
	_, err := pull(t, live.Source, 0)
	if !errors.Is(err, io.EOF) || errors.Is(err, recorder.ErrOver) || !strings.Contains(err.Error(), "the room is offline") {
		t.Errorf("ended with %v", err)
	}
	if live = resolve(t, res); live.Presence != recorder.Offline || !live.Confirmed || live.Title != "b" {
		t.Errorf("%+v", live)
	}
	close(told)
	var titles []string
	for a := range told {
		titles = append(titles, a.Title)
	}
	if strings.Join(titles, "") != "ab" {
		t.Errorf("told %q", titles)
	}
}

// Where one host does not send the next one is asked, and the bad one comes last for some minutes. Boxes in people's homes
// are the last resort, and lists are obeyed.
func TestHosts(t *testing.T) {
	const gotcha, province, peer = "d1--cn-gotcha04.bilivideo.com", "cn-jsnt-ct-01-07.bilivideo.com", "xy11x22x33x44xy.mcdn.bilivideo.cn"
	r, _ := room(t, bilitest.LiveRoom{Formats: []string{"flv"}}, liveroom.Config{})
	globs := func(s string) bilibili.Globs {
		g, err := bilibili.ParseGlobs(s)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, c := range []struct {
		allow, ban, down string
		want             string // the host; or "!…": a word of the error
	}{
		{want: gotcha},
		{down: gotcha, want: province},
		{ban: "d1--*", want: province},
		{ban: "cn-gotcha04,cn-gotcha208", want: "!none of the hosts"},
		{ban: "*.bilivideo.com", want: peer},
		{allow: "*.mcdn.*", want: peer},
		{allow: "cn-jsnt-*", want: province},
		{allow: "*.example", want: "!--bilibili-allow-hosts"},
	} {
		s := site(t)
		if c.down != "" {
			world.Fault("GET "+c.down+"/*", bilitest.Fault{Status: 502})
		}
		res := resolver(t, s, bilibili.Config{URL: address(r), Allow: globs(c.allow), Ban: globs(c.ban)})
		live, err := res.Resolve(t.Context(), segment.Room{})
		if word, ok := strings.CutPrefix(c.want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), word) || failure.KindOf(err) != failure.NeedsHuman {
				t.Errorf("%+v: %+v, %v", c, live, err)
			}
			continue
		}
		if err != nil || live.Source.Host() != c.want {
			t.Errorf("%+v: %+v, %v", c, live, err)
			continue
		}
		live.Source.Close()
		if c.down != "" { // it is well again, but that is not known
			if live = resolve(t, res); live.Source.Host() != c.want {
				t.Errorf("%+v: the next one is %s", c, live.Source.Host())
			}
		}
	}
	for _, bad := range []string{"[", "a/b", "x y"} {
		if _, err := bilibili.ParseGlobs(bad); err == nil {
			t.Errorf("%q is a pattern", bad)
		}
	}
}

// A redirect to another host keeps the Referer, without which that host refuses.
func TestRedirectKeepsReferer(t *testing.T) {
	r, _ := room(t, bilitest.LiveRoom{Formats: []string{"flv"}, Hosts: []string{"d1--cn-gotcha04.bilivideo.com"}}, liveroom.Config{})
	live := resolve(t, resolver(t, site(t), bilibili.Config{URL: address(r)}))
	live.Source.Close()
	q := world.Requests("GET d1--cn-gotcha04.bilivideo.com/*")
	last := q[len(q)-1]
	to := "https://cn-jsnt-ct-01-07.bilivideo.com" + last.Path + "?" + last.Query.Encode()
	world.Fault("GET d1--cn-gotcha04.bilivideo.com/*", bilitest.Fault{Status: 302, Header: http.Header{"Location": {to}}})
	if live = resolve(t, resolver(t, site(t), bilibili.Config{URL: address(r)})); live.Presence != recorder.OnAir || live.Source.Host() != "cn-jsnt-ct-01-07.bilivideo.com" {
		t.Errorf("%+v", live)
	}
}

// The stream as it was sent is not given up for the platform's encoding of it while its address holds.
func TestKeepsTheOriginal(t *testing.T) {
	user := world.AddUser("keeper")
	r, _ := room(t, bilitest.LiveRoom{Formats: []string{"flv"}}, liveroom.Config{})
	s := bilibili.NewSite(bilibili.SiteConfig{Client: client.NewClient(client.Config{Account: accountOf(t, user)}), Log: zerolog.Nop()})
	res := resolver(t, s, bilibili.Config{URL: address(r)})
	resolve(t, res).Source.Close()
	rooms.Change(func() { r.Encoded = true })
	resolve(t, res).Source.Close()
	q := world.Requests("GET d1--cn-gotcha04.bilivideo.com/*")
	if p := q[len(q)-1].Path; strings.Contains(p, "_bluray") {
		t.Errorf("it went for %s", p)
	}
	world.Advance(2 * time.Hour) // now the old address is refused
	defer world.Advance(-2 * time.Hour)
	resolve(t, res).Source.Close()
	q = world.Requests("GET d1--cn-gotcha04.bilivideo.com/*")
	if p := q[len(q)-1].Path; !strings.Contains(p, "_bluray") {
		t.Errorf("it stayed with %s", p)
	}
}

// A connection that breaks while the platform refuses to talk to us is made again at the old address, as long as that holds
// and anything is sent there.
func TestGoesOnWhileBlocked(t *testing.T) {
	r, lr := room(t, bilitest.LiveRoom{Title: "a"}, liveroom.Config{Fault: func(int) liveroom.Fault {
		return liveroom.Fault{Events: []liveroom.Event{{Tags: 60, End: liveroom.Broken}}}
	}})
	res := resolver(t, site(t), bilibili.Config{URL: address(r)})
	live := resolve(t, res)
	defer world.NoFaults()
	world.Fault("* api.live.bilibili.com/*", bilitest.Fault{Code: -412, Times: -1})
	for range 2 {
		if n, err := pull(t, live.Source, 0); n == 0 || errors.Is(err, io.EOF) {
			t.Errorf("%d packets, %v", n, err)
		}
		if live = resolve(t, res); live.Presence != recorder.OnAir || live.Title != "a" {
			t.Fatalf("%+v", live)
		}
	}
	live.Source.Close()
	lr.End() // now it answers 404, which is not the platform's word for the room
	if live = resolve(t, res); live.Presence != recorder.Blocked {
		t.Errorf("%+v", live)
	}
}
