package external_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/external"
)

// programs puts scripts into a folder that alone is searched, and gives Tools that use them.
func programs(t *testing.T, scripts map[string]string) *external.Tools {
	t.Helper()
	dir := t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	return external.NewTools(external.ToolsConfig{Env: []string{"PATH=/usr/bin:/bin"}, Log: zerolog.Nop()})
}

func printing(text string, code int) string {
	return fmt.Sprintf("[ \"$1\" = --version ] && { echo 1; exit; }\ncat <<'THEEND'\n%s\nTHEEND\nexit %d\n", text, code)
}

func resolver(t *testing.T, tools *external.Tools, url, quality string) *external.Resolver {
	t.Helper()
	r, err := external.New(external.Config{URL: url, Tools: tools, Quality: quality})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func room(t *testing.T, cfg liveroom.Config) string {
	t.Helper()
	r, err := liveroom.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := r.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	r.Start(context.WithoutCancel(t.Context()))
	return srv.URL
}

const page = "http://127.0.0.1:9/room/alice?ref=1"

// The words of both programs, as they were captured, and what follows from them.
func TestAnswers(t *testing.T) {
	const none = `printf 'ERROR: Unsupported URL: %s\n' "$6" >&2; echo null; exit 1`
	for _, c := range []struct {
		name, streamlink, ytdlp string
		offline, confirmed      bool
		want                    string // in Why or in the error
		is                      error
		kind                    failure.Kind
	}{
		{name: "nothing installed", is: external.ErrAbsent},
		{name: "nobody knows it", streamlink: printing(`{"error": "No plugin can handle URL: http://x/"}`, 1), ytdlp: none, is: external.ErrUnknown},
		{name: "offline by streamlink", streamlink: printing(`{"error": "No playable streams found on this URL: http://x/room/off"}`, 1), offline: true, want: "no playable stream"},
		{name: "offline by yt-dlp", streamlink: printing(`{"error": "No plugin can handle URL: x"}`, 1),
			ytdlp: `echo 'ERROR: [twitch:stream] alice: The channel is not currently live' >&2; echo null; exit 1`, offline: true, confirmed: true, want: "not currently live"},
		{name: "announced", ytdlp: printing(`{"_type":"video","title":"a","live_status":"is_upcoming","formats":[]}`, 0), offline: true, want: "announced"},
		{name: "over", ytdlp: printing(`{"_type":"video","title":"a","live_status":"was_live","formats":[{"url":"http://h/a.flv"}]}`, 0), offline: true, confirmed: true, want: "over"},
		{name: "a recording", ytdlp: printing(`{"_type":"video","title":"a","duration":12.5,"url":"http://h/a.flv","protocol":"http","ext":"flv"}`, 0), offline: true, want: "recording"},
		{name: "a list without anything live", ytdlp: printing(`{"_type":"playlist","entries":[null,{"live_status":"was_live"}]}`, 0), offline: true, want: "nothing is live"},
		{name: "plugin broke", streamlink: printing(`{"error": "boom"}`, 1), want: "streamlink: boom"},
		{name: "the page cannot be had", streamlink: printing(`{"error": "Unable to open URL: http://x/nope?token=hush (404 Client Error: File not found for url: http://x/nope?token=hush)"}`, 1), want: "404"},
		{name: "too often", ytdlp: `echo 'ERROR: [youtube] x: Unable to download API page: HTTP Error 429: Too Many Requests' >&2; echo null; exit 1`, want: "429", kind: failure.Throttled},
		{name: "a bot", ytdlp: `echo 'ERROR: [youtube] x: Sign in to confirm you’re not a bot' >&2; echo null; exit 1`, want: "not a bot"},
		{name: "HTTP error that says offline", ytdlp: `echo 'ERROR: [x] y: HTTP Error 503: the site is offline' >&2; echo null; exit 1`, want: "503"},
		{name: "only what we cannot pull", streamlink: printing(`{"streams":{"1080p":{"type":"hls-multi"},"720p":{"type":"dash","url":"http://h/a.mpd"},"best":{"type":"hls-multi"}}}`, 0), want: "it offers dash, hls-multi"},
		{name: "rubbish", streamlink: printing("<html>\x1b[31m", 0), want: "cannot be read"},
		{name: "null and silence", ytdlp: "echo null", want: "no reason"},
		{name: "a POST", streamlink: printing(`{"streams":{"live":{"type":"http","method":"POST","url":"http://h/","body":"x"}}}`, 0), want: "it offers http"},
		{name: "inside", streamlink: printing(`{"streams":{"live":{"type":"http","method":"GET","url":"file:///etc/passwd","body":null}}}`, 0), want: "no http or https address"},
		{name: "no quality of that name", streamlink: printing(`{"streams":{"live":{"type":"http","url":"http://127.0.0.1:9/"}}}`, 0), want: `none is called "source"; there is live`, kind: failure.NeedsHuman},
	} {
		t.Run(c.name, func(t *testing.T) {
			scripts := map[string]string{}
			if c.streamlink != "" {
				scripts["streamlink"] = c.streamlink
			}
			if c.ytdlp != "" {
				scripts["yt-dlp"] = c.ytdlp
			}
			quality := "auto"
			if c.kind == failure.NeedsHuman {
				quality = "source"
			}
			live, err := resolver(t, programs(t, scripts), page, quality).Resolve(t.Context(), segment.Room{})
			if c.offline {
				if err != nil || live.Presence != recorder.Offline || live.Confirmed != c.confirmed || !strings.Contains(live.Why, c.want) {
					t.Errorf("%+v, %v", live, err)
				}
				return
			}
			if err == nil || live.Presence != 0 || live.Source != nil {
				t.Fatalf("%+v, %v", live, err)
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) || failure.KindOf(err) != c.kind {
				t.Errorf("%v, %v", err, failure.KindOf(err))
			}
			if s := err.Error(); strings.Contains(s, "hush") || strings.ContainsAny(s, "\x1b\n") {
				t.Errorf("%q", s)
			}
		})
	}
}

// What a program names is pulled by us, with the headers that it wants to be sent.
func TestPulls(t *testing.T) {
	flv := room(t, liveroom.Config{Speed: 20}) // never over: a machine may take a second to start a program
	type request struct {
		path string
		head http.Header
	}
	seen := make(chan request, 8)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- request{r.URL.Path, r.Header}
		switch r.URL.Path {
		case "/master.m3u8":
			io.WriteString(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=640x360\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=9000,RESOLUTION=1280x720\nhigh.m3u8\n")
		default:
			io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n")
		}
	}))
	defer srv.Close()
	hlsStreams := strings.ReplaceAll(`{"metadata":{"author":"某主播","title":"标题 \u001b[31m"},"streams":{
		"360p":{"type":"hls","url":"BASE/low.m3u8","master":"BASE/master.m3u8","headers":{"Referer":"http://ref/","Cookie":"a=1","Accept-Encoding":"gzip","Connection":"keep-alive"}},
		"720p":{"type":"hls","url":"BASE/high.m3u8","master":"BASE/master.m3u8","headers":{"Referer":"http://ref/","Cookie":"a=1"}},
		"best":{"type":"hls","url":"BASE/high.m3u8","master":"BASE/master.m3u8"},"worst":{"type":"hls","url":"BASE/low.m3u8","master":"BASE/master.m3u8"}}}`, "BASE", srv.URL)
	t.Run("HLS", func(t *testing.T) {
		for quality, path := range map[string]string{"auto": "high", "worst": "low", "360p": "low", "500": "low", "best": "high"} {
			live, err := resolver(t, programs(t, map[string]string{"streamlink": printing(hlsStreams, 0)}), page, quality).Resolve(t.Context(), segment.Room{})
			if err != nil || live.Presence != recorder.OnAir || live.Streamer != "某主播" || !strings.HasPrefix(live.Title, "标题") || strings.Contains(live.Title, "\x1b") {
				t.Fatalf("%s: %+v, %v", quality, live, err)
			}
			if _, ok := live.Source.(recorder.Numbered); !ok {
				t.Errorf("%T numbers nothing", live.Source)
			}
			o := live.Source.(interface{ Offers() []external.Offer }).Offers()
			if len(o) != 2 || o[0].Name != "720p" || o[0].Form != "HLS" || o[0].Height != 720 {
				t.Errorf("%+v", o)
			}
			live.Source.Close()
			var last request
			for len(seen) > 0 {
				last = <-seen
				if h := last.head; h.Get("Referer") != "http://ref/" || h.Get("Cookie") != "a=1" || h.Get("Accept-Encoding") != "identity" {
					t.Errorf("%v", h)
				}
			}
			if last.path != "/"+path+".m3u8" {
				t.Errorf("%s leads to %s", quality, last.path)
			}
		}
	})
	for name, script := range map[string]map[string]string{
		"FLV by streamlink": {"streamlink": printing(`{"streams":{"live":{"type":"http","method":"GET","url":"`+flv+`","headers":{},"body":null}}}`, 0)},
		"FLV by yt-dlp":     {"yt-dlp": printing(`{"_type":"video","title":"a 2026-01-02 03:04","fulltitle":"a","uploader":"u","is_live":true,"formats":[{"format_id":"x-flv","url":"`+flv+`","protocol":"http","ext":"flv","height":null}]}`, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			live, err := resolver(t, programs(t, script), page, "auto").Resolve(t.Context(), segment.Room{})
			if err != nil || live.Presence != recorder.OnAir {
				t.Fatalf("%+v, %v", live, err)
			}
			if _, ok := live.Source.(recorder.Numbered); ok {
				t.Error("FLV numbers its media")
			}
			if script["yt-dlp"] != "" && (live.Title != "a" || live.Streamer != "u") {
				t.Errorf("%+v", live)
			}
			out := make(chan *media.Batch)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- live.Source.Run(ctx, out); close(out) }()
			n := 0
			for b := range out {
				n += len(b.Packets)
				b.Release()
				if n > 10 {
					cancel()
				}
			}
			<-done
			cancel()
			if n < 3 {
				t.Errorf("%d packets", n)
			}
		})
	}
}

// A page of the internet does not lead us to the machine's own network.
func TestNoWayInside(t *testing.T) {
	for _, host := range []string{"127.0.0.1:80", "[::1]", "10.0.0.1", "169.254.169.254", "localhost", "db.internal"} {
		tools := programs(t, map[string]string{"streamlink": printing(`{"streams":{"live":{"type":"http","url":"http://`+host+`/"}}}`, 0)})
		_, err := resolver(t, tools, "https://page.example/room", "").Resolve(t.Context(), segment.Room{})
		if err == nil || !strings.Contains(err.Error(), "private network") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// The address is an argument behind "--", no shell sees it, and nothing of the caller's environment is there but what was
// handed over.
func TestArguments(t *testing.T) {
	t.Setenv("LIVEREC_PLANTED", "hunter2")
	out := filepath.Join(t.TempDir(), "seen")
	tools := programs(t, map[string]string{"streamlink": `[ "$1" = --version ] && exit
for a in "$@"; do echo "arg $a"; done > ` + out + `
env >> ` + out + `
echo '{"error":"No plugin can handle URL: x"}'`})
	url := "http://127.0.0.1:9/a;touch%20/tmp/x$(id)?--plugin-dirs=/x&a=`id`"
	if _, err := resolver(t, tools, url, "").Resolve(t.Context(), segment.Room{}); !errors.Is(err, external.ErrUnknown) {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if !strings.HasPrefix(text, "arg --json\narg --\narg http://127.0.0.1:9/a;touch%20/tmp/x$(id)?--plugin-dirs=/x&a=`id`\n") || strings.Contains(text, "hunter2") || !strings.Contains(text, "HOME=/nonexistent") {
		t.Errorf("%s", text)
	}
	for _, bad := range []string{"file:///etc/passwd", "--json", "hls://http://h/", "http://u:p@h/", "", "rtmp://h/x", "http:///x"} {
		if _, err := external.New(external.Config{URL: bad, Tools: tools}); err == nil {
			t.Errorf("%q is handed to a program", bad)
		}
	}
}

// What does not end is ended with everything that it started, and nobody waits for it.
func TestBounds(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "pid")
	t.Run("time", func(t *testing.T) {
		tools := programs(t, map[string]string{"streamlink": "trap '' INT TERM\n/bin/sleep 300 &\necho $! > " + mark + "\nwait"})
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		_, err := resolver(t, tools, page, "").Resolve(ctx, segment.Room{})
		if err == nil || !strings.Contains(err.Error(), "no answer in time") {
			t.Errorf("%v", err)
		}
		b, err := os.ReadFile(mark)
		if err != nil {
			t.Fatal(err)
		}
		gone(t, strings.TrimSpace(string(b)))
	})
	t.Run("grandchild that holds the pipe", func(t *testing.T) {
		tools := programs(t, map[string]string{"streamlink": "[ \"$1\" = --version ] && exit\n/bin/sleep 300 &\necho $! > " + mark + "\necho '{\"error\":\"No playable streams found on this URL: x\"}'"})
		live, err := resolver(t, tools, page, "").Resolve(t.Context(), segment.Room{})
		if err == nil && live.Presence != recorder.Offline {
			t.Errorf("%+v, %v", live, err)
		}
		b, err := os.ReadFile(mark)
		if err != nil {
			t.Fatal(err)
		}
		gone(t, strings.TrimSpace(string(b)))
	})
	t.Run("output", func(t *testing.T) {
		tools := programs(t, map[string]string{"streamlink": "[ \"$1\" = --version ] && exit\nexec /usr/bin/yes '{\"streams\":'"})
		_, err := resolver(t, tools, page, "").Resolve(t.Context(), segment.Room{})
		if err == nil || !strings.Contains(err.Error(), "more than 8 MiB") {
			t.Errorf("%v", err)
		}
	})
}

// gone waits until a process is no more (or a zombie that nobody reaps here).
func gone(t *testing.T, pid string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || bytes.Contains(b, []byte(") Z ")) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is still there", pid)
		}
	}
}

// A page that nobody knows is not asked about at each look.
func TestUnknownIsRemembered(t *testing.T) {
	count := filepath.Join(t.TempDir(), "n")
	tools := programs(t, map[string]string{"streamlink": "[ \"$1\" = --version ] && exit\necho x >> " + count + "\necho '{\"error\":\"No plugin can handle URL: x\"}'"})
	r := resolver(t, tools, page, "")
	for range 3 {
		if _, err := r.Resolve(t.Context(), segment.Room{}); !errors.Is(err, external.ErrUnknown) {
			t.Fatal(err)
		}
	}
	if b, _ := os.ReadFile(count); len(b) != 2 {
		t.Errorf("asked %d times", len(b)/2)
	}
	if r.Every() != time.Minute {
		t.Error(r.Every())
	}
}

// The real programs, on loopback.
func TestRealPrograms(t *testing.T) {
	flv := room(t, liveroom.Config{Speed: 1})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/live.m3u8":
			w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
			io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXTINF:2,\nb.ts\n")
		case "/page":
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<!DOCTYPE html><html><title>x</title></html>")
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	for _, name := range []string{"streamlink", "yt-dlp"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("%s is not installed; make test does not install it", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			env := []string{"PATH=" + os.Getenv("PATH")}
			t.Setenv("PATH", dir)
			tools := external.NewTools(external.ToolsConfig{Env: env, Log: zerolog.New(zerolog.NewTestWriter(t))})
			live, err := resolver(t, tools, srv.URL+"/live.m3u8", "").Resolve(t.Context(), segment.Room{})
			if err != nil || live.Presence != recorder.OnAir {
				t.Fatalf("playlist: %+v, %v", live, err)
			}
			live.Source.Close()
			if _, err = resolver(t, tools, srv.URL+"/page", "").Resolve(t.Context(), segment.Room{}); !errors.Is(err, external.ErrUnknown) {
				t.Errorf("page: %v", err)
			}
			if live, err = resolver(t, tools, srv.URL+"/nope.m3u8", "").Resolve(t.Context(), segment.Room{}); err == nil {
				t.Errorf("nothing there: %+v", live)
			}
			if name == "yt-dlp" {
				if live, err = resolver(t, tools, flv, "").Resolve(t.Context(), segment.Room{}); err != nil || live.Presence != recorder.OnAir {
					t.Fatalf("FLV: %+v, %v", live, err)
				}
				live.Source.Close()
			}
		})
	}
}

// What is odd in the FLV that a program named stands in the log of its room.
func TestOdditiesAreTold(t *testing.T) {
	flv := room(t, liveroom.Config{Speed: 20, Fault: func(int) liveroom.Fault {
		return liveroom.Fault{Events: []liveroom.Event{{Tags: 20, Junk: []byte("<html>502 Bad Gateway</html>")}}}
	}})
	tools := programs(t, map[string]string{"streamlink": printing(`{"streams":{"live":{"type":"http","method":"GET","url":"`+flv+`"}}}`, 0)})
	var log bytes.Buffer
	r, err := external.New(external.Config{URL: page, Tools: tools, Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	live, err := r.Resolve(t.Context(), segment.Room{})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan *media.Batch)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		live.Source.Run(ctx, out)
		close(out)
	}()
	n := 0
	for b := range out {
		if n += len(b.Packets); n > 100 { // well behind the junk
			cancel()
		}
		b.Release()
	}
	if s := log.String(); !strings.Contains(s, `"what":"junk between tags"`) {
		t.Error(s)
	}
}
