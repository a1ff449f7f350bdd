package direct_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/direct"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct{ in, id, url, name string }{
		{"http://host/live.flv", "direct:http://host/live.flv", "http://host/live.flv", "live"},
		{"HTTP://HOST:80/Live/Alice.flv#x", "direct:http://host/Live/Alice.flv", "http://host/Live/Alice.flv", "Alice"},
		{"https://host:443", "direct:https://host/", "https://host/", "host"},
		{"http://host.:8080/a", "direct:http://host:8080/a", "http://host:8080/a", "a"},
		{"http://[::1]:80/x.flv", "direct:http://[::1]/x.flv", "http://[::1]/x.flv", "x"},
		{"http://u:secret@host/a.flv?token=secret&id=3&wsSecret=secret", "direct:http://host/a.flv?id=3", "http://***@host/a.flv?id=3&token=***&wsSecret=***", "a"},
		{"httpstream://https://host/a.flv", "direct:https://host/a.flv", "https://host/a.flv", "a"},
		{"httpstream://host/a.flv", "direct:http://host/a.flv", "http://host/a.flv", "a"},
		{"hls://http://host/a/index.m3u8", "direct:http://host/a/index.m3u8", "http://host/a/index.m3u8", "host"},
		{"http://host/%E7%9B%B4%E6%92%AD.flv", "direct:http://host/%E7%9B%B4%E6%92%AD.flv", "http://host/%E7%9B%B4%E6%92%AD.flv", "直播"},
		{"http://host/.flv", "direct:http://host/.flv", "http://host/.flv", ".flv"},
	} {
		got, err := direct.Check(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if string(got.ID) != c.id || got.URL != c.url || got.Name != c.name || got.Site != "direct" {
			t.Errorf("%s: %+v", c.in, got)
		}
		if s := string(got.ID) + got.URL + got.Name; strings.Contains(s, "secret") {
			t.Errorf("%s: a secret is shown: %s", c.in, s)
		}
		again, err := direct.Check(strings.TrimPrefix(string(got.ID), "direct:"))
		if err != nil || again.ID != got.ID {
			t.Errorf("%s: checked again it is %s, %v", c.in, again.ID, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "no scheme",
		"live.bilibili.com/1":    "http://live.bilibili.com/1",
		"host:8080/live.flv":     "http://host:8080/live.flv",
		"127.0.0.1:8080/a.flv":   "http://127.0.0.1:8080/a.flv",
		"rtmp://host/live/a":     `"rtmp"`,
		"ftp://host/a":           `"ftp"`,
		"file:///etc/passwd":     `"file"`,
		"http:///a.flv":          "names no host",
		"http://":                "names no host",
		"http://host:99999/a":    "no port",
		"http://host:0/a":        "no port",
		"http://ho st/a":         "no URL",
		"http://host/a\x1b[2J":   "control characters",
		"http://host/%zz":        "no URL",
		"u:secret@host/a?t=secr": "no scheme",
	} {
		_, err := direct.Check(in)
		if err == nil {
			t.Errorf("%q is taken for a room", in)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secr") {
			t.Errorf("%q: %v", in, err)
		}
		if _, err := direct.New(direct.Config{URL: in}); err == nil {
			t.Errorf("%q makes a resolver", in)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("http://u:p@host/live.flv?token=1&a=2")
	f.Add("host:80/x")
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := direct.Check(raw)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("error %q", err)
			}
			return
		}
		if r.ID == "" || r.URL == "" || r.Name == "" || strings.ContainsAny(string(r.ID)+r.URL, "\n\r\x1b\x00") {
			t.Errorf("%+v", r)
		}
	})
}

func resolve(t *testing.T, url string) (recorder.Live, error) {
	t.Helper()
	r, err := direct.New(direct.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return r.Resolve(t.Context(), segment.Room{})
}

func TestResolveAnswers(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  int
		body    string
		offline bool   // else: could not ask
		want    string // in Why or in the error
		person  bool
	}{
		{"not found", 404, "", true, "404 Not Found", false},
		{"gone", 410, "", true, "410 Gone", false},
		{"forbidden", 403, "", false, "403 Forbidden", false},
		{"server error", 502, "", false, "502 Bad Gateway", false},
		{"odd status", 299, "", false, "299", false},
		{"partial", 206, "FLV\x01", false, "206", false},
		{"page", 200, "<!DOCTYPE html><title>hello</title>", false, "HTML", false},
		{"json", 200, `{"code":-400}`, false, `JSON instead of FLV: "{\"code\":-400}"`, false},
		{"nothing", 200, "", false, "nothing", false},
		{"ts", 200, strings.Repeat("G"+strings.Repeat("x", 187), 4), false, "MPEG-TS", true},
		{"mp4", 200, "\x00\x00\x00\x18ftypisom" + strings.Repeat("\x00", 600), false, "MP4", true},
		{"escape codes", 200, "\x1b[2J\x1b[31mowned", false, "1b 5b", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Range") != "" || req.Method != http.MethodGet || req.Header.Get("Accept-Encoding") != "identity" {
					t.Errorf("%s %v", req.Method, req.Header)
				}
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			defer srv.Close()
			live, err := resolve(t, srv.URL+"/a.flv?token=hush")
			if c.offline {
				if err != nil || live.Presence != recorder.Offline || !live.Confirmed || live.Why != c.want {
					t.Errorf("%+v, %v", live, err)
				}
				return
			}
			if err == nil || live.Presence != 0 || live.Source != nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%+v, %v", live, err)
			}
			if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("%q", err)
			}
			if (failure.KindOf(err) == failure.NeedsHuman) != c.person {
				t.Errorf("kind %v", failure.KindOf(err))
			}
			var u *direct.UnsupportedError
			if errors.As(err, &u) != c.person {
				t.Errorf("%T", err)
			}
		})
	}
}

// A playlist is a room as well: it is on air if what it leads to can be had.
func TestResolvePlaylist(t *testing.T) {
	const (
		media  = "\xef\xbb\xbf\n#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n"
		master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=640x360,NAME=\"low\"\nlow.m3u8\n"
	)
	for _, c := range []struct {
		name, quality, body string
		status              int    // of the media playlist
		offline             string // why; else on air
		err                 string
		person              bool
	}{
		{"media playlist", "", media, 200, "", "", false},
		{"multivariant playlist", "", master, 200, "", "", false},
		{"by name", "low", master, 200, "", "", false},
		{"nothing behind it", "", master, 404, "404 Not Found", "", false},
		{"not now", "", master, 503, "", "503", false},
		{"no such quality", "source", master, 200, "", `no variant is called "source"`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/low.m3u8" {
					w.WriteHeader(c.status)
					io.WriteString(w, media)
					return
				}
				io.WriteString(w, c.body)
			}))
			defer srv.Close()
			r, err := direct.New(direct.Config{URL: srv.URL + "/room.m3u8?token=hush", Quality: c.quality})
			if err != nil {
				t.Fatal(err)
			}
			live, err := r.Resolve(t.Context(), segment.Room{})
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) || (failure.KindOf(err) == failure.NeedsHuman) != c.person {
					t.Errorf("%+v, %v", live, err)
				}
			case c.offline != "":
				if err != nil || live.Presence != recorder.Offline || !live.Confirmed || live.Why != c.offline {
					t.Errorf("%+v, %v", live, err)
				}
			default:
				if err != nil || live.Presence != recorder.OnAir {
					t.Fatalf("%+v, %v", live, err)
				}
				if _, ok := live.Source.(recorder.Numbered); !ok {
					t.Errorf("%T numbers nothing", live.Source)
				}
				live.Source.Close()
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("%q", err)
			}
		})
	}
}

// One connection has one quality: asking for another one has no effect, and is refused.
func TestResolveQualityOfFLV(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")
	}))
	defer srv.Close()
	for quality, ok := range map[string]bool{"auto": true, "best": true, "worst": true, "720p": false} {
		r, err := direct.New(direct.Config{URL: srv.URL + "/a.flv", Quality: quality})
		if err != nil {
			t.Fatal(err)
		}
		live, err := r.Resolve(t.Context(), segment.Room{})
		if ok != (err == nil) || !ok && failure.KindOf(err) != failure.NeedsHuman {
			t.Errorf("%s: %+v, %v", quality, live, err)
		}
		if live.Source != nil {
			live.Source.Close()
		}
	}
}

// Being live and being open are one: the Source is the connection that the question was asked on, with its first bytes.
func TestResolveIsOneRequest(t *testing.T) {
	room, err := liveroom.New(liveroom.Config{Speed: 3, Duration: 6 * time.Second}) // live for 2 s: a busy machine takes its time to ask
	if err != nil {
		t.Fatal(err)
	}
	srv, err := room.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	room.Start(t.Context())
	live, err := resolve(t, srv.URL)
	if err != nil || live.Presence != recorder.OnAir || live.Title != "live" || live.Source == nil {
		t.Fatalf("%+v, %v", live, err)
	}
	out := make(chan *media.Batch)
	done := make(chan error, 1)
	go func() {
		done <- live.Source.Run(t.Context(), out)
		close(out)
	}()
	var first []media.Kind
	var got media.Count
	for b := range out {
		for _, p := range b.Packets {
			if len(first) < 3 {
				first = append(first, p.Kind)
			}
		}
		got.Received += b.Count.Received
		got.Header += b.Count.Header
		got.Tags += b.Count.Tags
		got.Junk += b.Count.Junk
		got.Partial += b.Count.Partial
		b.Release()
	}
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
	if len(first) != 3 || first[0] != media.Script || first[1] != media.VideoConfig || first[2] != media.AudioConfig {
		t.Errorf("begins with %v", first)
	}
	conns := room.Connections()
	if len(conns) != 1 || conns[0].Bytes != got.Received || got.Received != got.Header+got.Tags || got.Junk+got.Partial != 0 {
		t.Errorf("%d connections, %+v", len(conns), got)
	}
}

func TestUnreachable(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	url := srv.URL
	srv.Close()
	live, err := resolve(t, url+"/a?sign=hush")
	if err == nil || live.Presence != 0 || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "hush") {
		t.Fatalf("%+v, %v", live, err)
	}
	first := err.Error()
	if _, err = resolve(t, url+"/a?sign=hush"); err.Error() != first {
		t.Errorf("the same trouble has two texts: %q and %q", first, err)
	}
}

func TestEvery(t *testing.T) {
	for url, want := range map[string]time.Duration{
		"http://127.0.0.1:8080/a": time.Second, "http://localhost/a": time.Second, "http://[::1]/a": time.Second, "http://example.com/a": 5 * time.Second,
	} {
		r, err := direct.New(direct.Config{URL: url})
		if err != nil || r.Every() != want {
			t.Errorf("%s: %v, %v", url, r.Every(), err)
		}
	}
}

func TestContextEndsTheQuestion(t *testing.T) {
	block := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block }))
	defer srv.Close()
	defer close(block)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := direct.New(direct.Config{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := r.Resolve(ctx, segment.Room{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
