package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/media"
)

// shelf answers each path with what is on it.
func shelf(t *testing.T, pages map[string]string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.URL.Path]
		to, moved := strings.CutPrefix(page, "-> ")
		switch {
		case moved:
			http.Redirect(w, r, to, http.StatusFound)
		case !ok:
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte(page))
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func runProbe(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(append([]string{"liverec", "probe"}, args...), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

const liveList = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\nhttp://media.example:8080/a.ts?token=hush\n"

func TestProbeHLS(t *testing.T) {
	t.Parallel()
	at := shelf(t, map[string]string{
		"/room/live.m3u8": "-> /other/master.m3u8?sign=hush",
		"/other/master.m3u8": "\xEF\xBB\xBF#EXTM3U\r\n" +
			"#EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=640x360,CODECS=\"avc1.64001e,mp4a.40.2\"\r\n360.m3u8\r\n" +
			"#EXT-X-STREAM-INF:BANDWIDTH=6000000,RESOLUTION=1920x1080,FRAME-RATE=59.94,CODECS=\"hvc1.1.6.L123.B0,mp4a.40.2\",NAME=\"so\x1burce\"\r\n1080.m3u8?token=hush\r\n" +
			"#EXT-X-STREAM-INF:BANDWIDTH=6000000,RESOLUTION=1920x1080,FRAME-RATE=59.94,CODECS=\"hvc1.1.6.L123.B0,mp4a.40.2\",NAME=\"so\x1burce\"\r\nhttp://backup.example/1080.m3u8?token=hush\r\n" +
			"#EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS=\"mp4a.40.5\"\r\nsound.m3u8\r\n",
		"/other/1080.m3u8": liveList,
	})
	host := strings.TrimPrefix(at, "http://")
	code, out, errs := runProbe(t, at+"/room/live.m3u8?token=hush")
	if code != exitOK || errs != "" {
		t.Errorf("exit status %d: %s", code, errs)
	}
	want := `room      live (direct)
title     live
live      yes
note      connected, but no media came
quality   source  HLS  HEVC   1920x1080  59.94 frames/s  AAC  up to 6.0 Mbit/s  (would be recorded)
          360p    HLS  H.264  640x360                    AAC  up to 800 kbit/s
          audio   HLS                                    AAC  up to 65 kbit/s
host      ` + host + `
          backup.example
          media.example:8080
`
	if d := cmp.Diff(want, out); d != "" {
		t.Error(d)
	}
	code, out, _ = runProbe(t, at+"/room/live.m3u8?token=hush", "--json")
	var got probed
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK {
		t.Fatalf("exit status %d, %v: %s", code, err, out)
	}
	if strings.Contains(out, "hush") {
		t.Errorf("a secret: %s", out)
	}
	if got.Format != "liverec-probe/1" || got.Site != "direct" || !got.Live || got.Why != "" || got.Note == "" ||
		!cmp.Equal(got.Hosts, []string{host, "backup.example", "media.example:8080"}) {
		t.Errorf("%+v", got)
	}
	if d := cmp.Diff([]quality{
		{Name: "so\x1burce", Container: "HLS", Video: "HEVC", Audio: "AAC", Width: 1920, Height: 1080, FrameRate: 59.94, Bitrate: 6000000, Chosen: true},
		{Name: "360p", Container: "HLS", Video: "H.264", Audio: "AAC", Width: 640, Height: 360, Bitrate: 800000},
		{Name: "audio", Container: "HLS", Audio: "AAC", Bitrate: 65000},
	}, got.Quality); d != "" {
		t.Error(d)
	}
}

// What a playlist can say, and what each is for a script.
func TestProbeHLSAnswers(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, liveList)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	const form = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=640x360\n"
	at := shelf(t, map[string]string{
		"/live": liveList, "/ended": liveList + "#EXT-X-ENDLIST\n", "/vod": strings.Replace(liveList, "#EXTINF", "#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF", 1),
		"/starting": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n", "/nested": form + "nested", "/gone": form + "nowhere", "/local": form + "file:///etc/passwd", "/page": form + "html",
		"/html": "<html>", "/plain": "#EXTM3U\nhttp://h/a.mp3\n", "/big": liveList + strings.Repeat("#\n", 5<<20), "/loop": "-> /loop",
		"/1": "-> /2", "/2": "-> /3", "/3": "-> /4", "/4": "-> /5", "/5": "-> /live", "/6": form + "7", "/7": "-> /8", "/8": "-> /1",
	})
	for _, c := range []struct {
		url  string
		code int
		says []string // on either stream
	}{
		{"/live", 0, []string{"live      yes", "no media came", "source  HLS  (would be recorded)\n", "media.example:8080"}},
		{"/starting", 0, []string{"live      yes"}},
		{"/1", 0, []string{"live      yes"}},
		{"/ended", 1, []string{"live      no", "complete"}},
		{"/vod", 1, []string{"live      no", "complete"}},
		{"/nested", 1, []string{"live      no", "list of qualities", "640x360"}},
		{"/gone", 1, []string{"live      no", "404", "640x360"}},
		{"/page", 1, []string{"live      no", "not an HLS playlist", "640x360"}},
		{"/local", 1, []string{"live      no", "none that can be opened"}},
		{"/6", 1, []string{"live      no", "more than 5 redirects"}},
		{"/plain", 1, []string{"names no segment"}},
		{"/big", 1, []string{"too large"}},
	} {
		t.Run(c.url, func(t *testing.T) {
			t.Parallel()
			code, out, errs := runProbe(t, at+c.url)
			if code != c.code {
				t.Errorf("exit status %d, want %d", code, c.code)
			}
			for _, s := range c.says {
				if !strings.Contains(out+errs, s) {
					t.Errorf("does not say %q: %s%s", s, out, errs)
				}
			}
		})
	}
	for _, prefix := range []string{"hls://", "HLS://"} {
		for _, rest := range []string{at, strings.TrimPrefix(at, "http://")} {
			t.Run(prefix+rest, func(t *testing.T) {
				t.Parallel()
				if code, out, errs := runProbe(t, prefix+rest+"/live"); code != exitOK || !strings.Contains(out, "live      yes") {
					t.Errorf("exit status %d: %s%s", code, out, errs)
				}
			})
		}
	}
	if code, out, errs := runProbe(t, "hls://"+at+"/html"); code != exitError || out != "" || !strings.Contains(errs, "does not begin with #EXTM3U") {
		t.Errorf("exit status %d: %s%s", code, out, errs)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(packed.Bytes())
			return
		}
		fmt.Fprint(w, liveList)
	}))
	t.Cleanup(srv.Close)
	t.Run("packed", func(t *testing.T) {
		t.Parallel()
		if code, out, errs := runProbe(t, srv.URL+"/live.m3u8"); code != exitOK || !strings.Contains(out, "live      yes") {
			t.Errorf("exit status %d: %s%s", code, out, errs)
		}
	})
}

func TestCodecNames(t *testing.T) {
	for in, want := range map[string]string{
		"avc1.64001f": "H.264", "hev1.1.6": "HEVC", "av01.0.08M.08": "AV1", "vp09.00": "VP9", "xyz1.2": "xyz1.2",
	} {
		if kind, got := codecName(in); kind != media.Video || got != want {
			t.Errorf("%q: %v %q", in, kind, got)
		}
	}
	for in, want := range map[string]string{"mp4a.40.2": "AAC", "mp4a.40.34": "MP3", "opus": "Opus", "ec-3": "AC-3", "fLaC": "fLaC"} {
		if kind, got := codecName(in); kind != media.Audio || got != want {
			t.Errorf("%q: %v %q", in, kind, got)
		}
	}
}
