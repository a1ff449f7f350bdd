package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/httpflv"
	"github.com/liverec/liverec/recorder/site/external"
)

func TestRoomsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"https://live.bilibili.com/"}, []string{"names no room", "https://live.bilibili.com/"}},
		{[]string{"https://www.bilibili.com/video/BV1xx411c7mD"}, []string{"no live room"}},
		{[]string{"https://b23.tv/BV1xx411c7mD"}, []string{"a video"}},
		{[]string{"https://live.bilibili.com/6", "--quality", "nice"}, []string{"--quality", "nice", "original"}},
		{[]string{"https://live.bilibili.com/6", "--bilibili-codec", "av2"}, []string{"--bilibili-codec", "av2", "hevc"}},
		{[]string{"https://live.bilibili.com/6", "--bilibili-ban-hosts", "a/b"}, []string{"--bilibili-ban-hosts", "a/b"}},
		{[]string{"https://live.bilibili.com/6", "--bilibili-allow-hosts", "["}, []string{"--bilibili-allow-hosts"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Chdir(t.TempDir())
			var out, errs bytes.Buffer
			if code := Main(append([]string{"liverec", "record"}, c.args...), strings.NewReader(""), &out, &errs); code != exitUsage || out.Len() > 0 || strings.Count(errs.String(), "\n") != 1 {
				t.Errorf("exit %d, %q, %q", code, out.String(), errs.String())
			}
			for _, s := range c.says {
				if !strings.Contains(errs.String(), s) {
					t.Errorf("%q does not say %q", errs.String(), s)
				}
			}
			if names, _ := filepath.Glob("*"); len(names) != 0 {
				t.Errorf("it left %v", names)
			}
		})
	}
}

func TestFindsTheSite(t *testing.T) {
	for raw, want := range map[string]string{
		"https://live.bilibili.com/h5/6?x=1": "bilibili:6", "https://b23.tv/AbC": "bilibili:AbC", "http://h/live.flv": "direct:http://h/live.flv", "https://www.twitch.tv/x": "direct:https://www.twitch.tv/x",
	} {
		w, err := findRoom(raw, options{})
		if err != nil || string(w.room.ID) != want {
			t.Errorf("%s: %+v, %v", raw, w.room, err)
			continue
		}
		if w.resolver(zerolog.Nop(), nil) == nil {
			t.Errorf("%s has no resolver", raw)
		}
	}
	for raw, want := range map[string]bool{
		"https://h/room": true, "http://h/": true, "https://h/a.html": true, "https://h/live.flv?x": false, "http://h/i.M3U8": false, "hls://h/x": false, "httpstream://http://h/x": false, "": false,
	} {
		if mayBePage(raw) != want {
			t.Errorf("%q: %v", raw, !want)
		}
	}
}

// resolverFunc is a Resolver of a test.
type resolverFunc func() (recorder.Live, error)

func (f resolverFunc) Resolve(context.Context, segment.Room) (recorder.Live, error) { return f() }
func (f resolverFunc) Every() time.Duration                                         { return time.Hour }

// The address itself is asked first; another program only about a page, and again at once while it knows the page.
func TestPage(t *testing.T) {
	html := fmt.Errorf("open stream: %w", &httpflv.ContentError{Content: flv.HTMLContent, First: []byte("<html>")})
	refused := fmt.Errorf("open stream: %w", &httpflv.StatusError{Code: 403, Status: "403 Forbidden"})
	broken := errors.New("connection refused")
	offline := recorder.Live{Presence: recorder.Offline, Why: "x"}
	for _, c := range []struct {
		name               string
		own, other         error
		ownLive            recorder.Live
		wantErr            string // "": the answer is one
		wantOwn, wantOther int    // questions of two looks
		hint               bool
	}{
		{name: "a stream", ownLive: offline, wantOwn: 2},
		{name: "weather", own: broken, wantErr: "connection refused", wantOwn: 2},
		{name: "a page that is known", own: html, wantOwn: 1, wantOther: 2},
		{name: "a page for browsers", own: refused, wantOwn: 1, wantOther: 2},
		{name: "no program", own: html, other: external.ErrAbsent, wantErr: "neither is installed", wantOwn: 2, wantOther: 2, hint: true},
		{name: "a page that nobody knows", own: html, other: external.ErrUnknown, wantErr: "find no stream in it", wantOwn: 2, wantOther: 2},
		{name: "the program could not ask", own: html, other: broken, wantErr: "connection refused", wantOwn: 2, wantOther: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var own, other int
			p := &page{direct: resolverFunc(func() (recorder.Live, error) { own++; return c.ownLive, c.own }),
				external: resolverFunc(func() (recorder.Live, error) { other++; return offline, c.other })}
			for range 2 {
				live, err := p.Resolve(t.Context(), segment.Room{})
				if c.wantErr == "" {
					if err != nil || live.Presence != recorder.Offline {
						t.Errorf("%+v, %v", live, err)
					}
				} else if err == nil || live.Presence != 0 || !strings.Contains(err.Error(), c.wantErr) || (failure.Hint(err) != "") != c.hint || failure.KindOf(err) == failure.NeedsHuman {
					t.Errorf("%+v, %v", live, err)
				}
			}
			if own != c.wantOwn || other != c.wantOther {
				t.Errorf("asked %d and %d times", own, other)
			}
		})
	}
}

// probe of a page: a fake program names a real stream. Without the program nothing changes but the words.
func TestProbePage(t *testing.T) {
	room, err := liveroom.New(liveroom.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := room.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	room.Start(t.Context())
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<!DOCTYPE html><html><title>alice</title></html>")
	}))
	defer web.Close()
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	run := func() (int, string, string) {
		var out, errs bytes.Buffer
		code := Main([]string{"liverec", "probe", web.URL + "/alice"}, strings.NewReader(""), &out, &errs)
		return code, out.String(), errs.String()
	}
	if code, out, errs := run(); code != exitError || out != "" || !strings.Contains(errs, "streamlink") || !strings.Contains(errs, "pipx install yt-dlp") {
		t.Errorf("without a program: %d, %q, %q", code, out, errs)
	}
	script := "#!/bin/sh\necho '{\"metadata\":{\"author\":\"Alice\",\"title\":\"Hello\"},\"streams\":{\"live\":{\"type\":\"http\",\"method\":\"GET\",\"url\":\"" + srv.URL + "\",\"body\":null}}}'\n"
	if err := os.WriteFile(filepath.Join(dir, "streamlink"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run()
	if code != exitOK {
		t.Fatalf("%d, %q, %q", code, out, errs)
	}
	for _, s := range []string{"streamer  Alice", "title     Hello", "live  FLV  H.264  640x360", strings.TrimPrefix(strings.TrimSuffix(srv.URL, "/live.flv"), "http://")} {
		if !strings.Contains(out, s) {
			t.Errorf("%q does not say %q", out, s)
		}
	}
}
