package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// testdata/mpegts.js is dist/mpegts.js of the npm package mpegts.js 1.8.2, unchanged; its licences lie beside it.

// browser is a headless Chromium. Where there is none the tests that play are skipped, not those that open one.
type browser struct {
	ctx context.Context // nil: there is none
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := rig.FindTool("chromium")
	if path == "" && os.Getenv("LIVEREC_NEED_TOOLS") == "" {
		return &browser{}
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(rig.Tool(t, "chromium")), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"), chromedp.Flag("mute-audio", true),
		chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(60*time.Second))
	all, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, closed := chromedp.NewContext(all)
	t.Cleanup(func() { closed(); stop() })
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return &browser{ctx}
}

// played is what the page says.
type played struct {
	Error    string    `json:"error"`
	Duration float64   `json:"duration"`
	Width    int       `json:"width"`
	Middle   float64   `json:"middle"` // where it was after it was told to go to the middle
	Ends     []float64 `json:"ends"`
	Frames   int       `json:"frames"`
}

// page plays a file from its begin to its end, then from its middle to its end.
const page = `<!doctype html><meta charset=utf-8><video muted preload=auto></video><script src=/mpegts.js></script><script>
const v = document.querySelector('video'), out = {ends: []};
const once = (name) => new Promise((yes, no) => {
	v.addEventListener(name, yes, {once: true});
	v.addEventListener('error', () => no(new Error('video: ' + (v.error && v.error.message))), {once: true});
	setTimeout(() => no(new Error('no ' + name + ' at ' + v.currentTime + ' of ' + v.duration + ', ready ' + v.readyState)), 20000);
});
async function play(url, flv) {
	try {
		const there = once('loadedmetadata');
		let broken = null;
		if (flv) {
			const p = mpegts.createPlayer({type: 'flv', url, isLive: false}, {lazyLoad: false, enableWorker: false});
			p.on(mpegts.Events.ERROR, (kind, what, more) => { broken = kind + ' ' + what + ' ' + JSON.stringify(more); });
			p.attachMediaElement(v);
			p.load();
		} else {
			v.src = url;
		}
		await there;
		out.duration = v.duration;
		out.width = v.videoWidth;
		v.playbackRate = 8;
		let end = once('ended');
		await v.play();
		await end;
		out.ends.push(v.currentTime);
		if (!(out.duration > 0 && isFinite(out.duration))) out.duration = v.duration; // a part without a closed head
		const seeked = once('seeked');
		v.currentTime = v.duration / 2;
		await seeked;
		out.middle = v.currentTime;
		end = once('ended');
		await v.play();
		await end;
		out.ends.push(v.currentTime);
		out.frames = v.getVideoPlaybackQuality().totalVideoFrames;
		if (broken) throw new Error(broken);
	} catch (e) {
		out.error = String(e);
	}
	return out;
}
</script>`

// plays fails the test unless a file of that length and width plays from begin to end and from its middle to its end.
// Width 0: this Chromium has no decoder for the video, but one for the sound.
func (b *browser) plays(t *testing.T, name string, lengthMS int64, width int) {
	t.Helper()
	if b.ctx == nil {
		t.Skip("chromium is not installed; `make setup` gets it")
	}
	file := "/part" + filepath.Ext(name)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) })
	mux.HandleFunc("/mpegts.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "testdata/mpegts.js") })
	mux.HandleFunc(file, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
	srv := httptest.NewServer(mux)
	defer srv.CloseClientConnections() // a video element keeps its connection
	ctx, closed := chromedp.NewContext(b.ctx)
	defer closed()
	if err := chromedp.Do(ctx, chromedp.Navigate(srv.URL)); err != nil {
		t.Fatalf("Chromium: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Evaluate[played](fmt.Sprintf("play(%q, %t)", file, filepath.Ext(name) == ".flv"), chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("Chromium: %v", err)
	}
	length := float64(lengthMS) / 1000
	near := func(a, b float64) bool { return a-b < 0.2 && b-a < 0.2 }
	switch {
	case got.Error != "":
		t.Errorf("Chromium: %+v", got)
	case !near(got.Duration, length), got.Width != width, !near(got.Middle, length/2), len(got.Ends) != 2, !near(got.Ends[0], length), !near(got.Ends[1], length):
		t.Errorf("%.3f s, %d pixels wide: Chromium has %+v", length, width, got)
	case width > 0 && got.Frames == 0:
		t.Errorf("no picture was shown: %+v", got)
	}
}

// gstreamer lets GStreamer's own demuxers read a file; each frame must come out. There is no queue: both sinks speak from
// one thread, else a word of one could overtake that of the other.
func gstreamer(t *testing.T, name string, video, sound int) {
	t.Helper()
	gst := rig.Tool(t, "gst-launch-1.0")
	demux, v, a := "qtdemux", "video_0", "audio_0"
	if filepath.Ext(name) == ".flv" {
		demux, v, a = "flvdemux", "video", "audio"
	}
	args := []string{"-v", "filesrc", "location=" + name, "!", demux, "name=d"}
	if video > 0 {
		args = append(args, "d."+v, "!", "fakesink", "name=pictures", "silent=false", "sync=false", "async=false")
	}
	if sound > 0 {
		args = append(args, "d."+a, "!", "fakesink", "name=sounds", "silent=false", "sync=false", "async=false")
	}
	out, err := exec.CommandContext(t.Context(), gst, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("gst-launch-1.0: %v\n%.3000s", err, out)
	}
	for sink, want := range map[string]int{"pictures": video, "sounds": sound} {
		n := 0
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "GstFakeSink:"+sink+": last-message = chain") {
				n++
			}
		}
		if n != want {
			t.Errorf("GStreamer has %d %s of %d", n, sink, want)
		}
	}
	if strings.Contains(string(out), "WARNING") || strings.Contains(string(out), "ERROR") {
		t.Errorf("GStreamer: %.3000s", out)
	}
}

// A part in FLV: mpegts.js plays it, by the index in its head too.
func TestPlayersFLV(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	dir := t.TempDir()
	_, url := live(t, liveroom.Config{Duration: 9 * time.Second})
	liverec(dir, "record", url, "--once").Start(t).Ends(t, after(9*time.Second), 0)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
	part := filepath.Join(rec.Dir, rec.Manifest.Parts[0].Name)
	if filepath.Ext(part) != ".flv" || len(rec.Parts) != 1 {
		t.Fatalf("%v", rec)
	}
	v, _ := rec.Parts[0].Track(probe.Video)
	a, _ := rec.Parts[0].Track(probe.Audio)
	t.Run("gstreamer", func(t *testing.T) { gstreamer(t, part, v.Frames, a.Frames) })
	t.Run("chromium", func(t *testing.T) { b.plays(t, part, rec.Manifest.Parts[0].DurationMS, 640) })
}

// What lies on the disk after kill -9 plays as it is, before anything has mended it.
func TestPlayersKilled(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	for _, container := range []string{"mp4", "flv"} {
		t.Run(container, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, url := live(t, liveroom.Config{})
			p := liverec(dir, "record", url, "--once", "--container", container).Start(t)
			time.Sleep(9 * time.Second)
			p.Signal(syscall.SIGKILL)
			<-p.Done()
			data := filepath.Join(dir, "liverec-data", "media")
			var part string
			for _, f := range rig.Files(t, data) {
				if strings.Contains(f, "."+container) {
					part = filepath.Join(data, f)
				}
			}
			if part == "" {
				t.Fatalf("no open part: %v", rig.Files(t, data))
			}
			open, err := os.ReadFile(part)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, "open."+container)
			if err := os.WriteFile(name, open, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := probe.File(name)
			if err != nil {
				t.Fatal(err)
			}
			v, _ := r.Track(probe.Video)
			a, _ := r.Track(probe.Audio)
			if v.End < 5*time.Second {
				t.Errorf("9 s after the start %v are on the disk", v.End)
			}
			if container == "mp4" && r.Layout != "fragmented" {
				t.Errorf("the open part is %s", r.Layout)
			}
			t.Run("gstreamer", func(t *testing.T) { gstreamer(t, name, v.Frames, a.Frames) })
			t.Run("chromium", func(t *testing.T) { b.plays(t, name, r.Media().Milliseconds(), 640) })
		})
	}
}
