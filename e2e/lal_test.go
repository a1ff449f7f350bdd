package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// A real live server, fed by a real encoder over RTMP, read over HTTP-FLV; and a real decoder that finds nothing wrong
// with any part.
func TestRealLiveServer(t *testing.T) {
	t.Parallel()
	lal, ffmpeg := rig.Tool(t, "lalserver"), rig.Tool(t, "ffmpeg")
	dir := t.TempDir()
	film := filepath.Join(dir, "film.flv")
	f, err := os.Create(film)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := liveroom.Write(f, liveroom.Config{Bitrate: 2_000_000}, 32*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	rtmp, web := rig.FreePort(t), rig.FreePort(t)
	off := map[string]any{"enable": false}
	conf, err := json.Marshal(map[string]any{
		"conf_version": "v0.4.1",
		"rtmp":         map[string]any{"enable": true, "addr": fmt.Sprintf("127.0.0.1:%d", rtmp), "gop_num": 1},
		"default_http": map[string]any{"http_listen_addr": fmt.Sprintf("127.0.0.1:%d", web)},
		"httpflv":      map[string]any{"enable": true, "url_pattern": "/", "gop_num": 1},
		"hls":          off, "httpts": off, "rtsp": off, "record": off, "relay_push": off, "static_relay_pull": off,
		"http_api": off, "http_notify": off, "pprof": off,
		"log": map[string]any{"level": 3, "filename": filepath.Join(dir, "lal.log"), "is_to_stdout": true, "assert_behavior": 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lal.json"), conf, 0o644); err != nil {
		t.Fatal(err)
	}
	rig.Run{Bin: lal, Dir: dir, Args: []string{"-c", "lal.json"}}.Start(t)
	url := fmt.Sprintf("http://127.0.0.1:%d/live/t1.flv", web)
	p := liverec(dir, "record", url, "--once", "--grace", "5s", "--segment", "10s").Start(t)
	time.Sleep(time.Second)
	push := rig.Run{Bin: ffmpeg, Dir: dir, Args: []string{"-v", "error", "-re", "-i", "film.flv", "-c", "copy", "-f", "flv",
		fmt.Sprintf("rtmp://127.0.0.1:%d/live/t1", rtmp)}}.Start(t)
	push.Ends(t, 60*time.Second, 0)
	p.Ends(t, 60*time.Second, 0)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
	rec.Once(t, nil)
	// The server may be looked at some seconds after the encoder came, and it may keep back what the encoder sent last.
	if n := rec.Numbers; len(rec.Missing()) != 0 || len(rec.Manifest.Gaps) != 0 || n[0] > 400 || n[len(n)-1] < 940 {
		t.Errorf("%v, gaps %+v", rec, rec.Manifest.Gaps)
	}
	decodes(t, rec)
}

// decodes lets ffmpeg read every part to its end and wants it to be silent.
func decodes(t *testing.T, rec *rig.Recording) {
	t.Helper()
	ffmpeg := rig.Tool(t, "ffmpeg")
	for i, part := range rec.Manifest.Parts {
		name := filepath.Join(rec.Dir, part.Name)
		out, err := exec.CommandContext(t.Context(), ffmpeg, "-v", "error", "-xerror", "-i", name, "-f", "null", "-").CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s does not decode: %v\n%s", part.Name, err, out)
		}
		out, err = exec.CommandContext(t.Context(), rig.Tool(t, "ffprobe"), "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", name).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", part.Name, err, out)
		}
		var seconds float64
		if _, err := fmt.Sscan(strings.TrimSpace(string(out)), &seconds); err != nil {
			t.Errorf("%s: %q", part.Name, out)
		}
		v, _ := rec.Parts[i].Track(probe.Video)
		if d := seconds - v.End.Seconds(); d < -0.15 || d > 0.15 {
			t.Errorf("%s: ffprobe has %v s, %v are in it", part.Name, seconds, v.End)
		}
	}
}

// What comes out of a kill decodes too.
func TestDecodesAfterKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := live(t, liveroom.Config{Changes: []time.Duration{9 * time.Second}})
	run := liverec(dir, "record", url, "--once", "--segment", "8s")
	for range 3 {
		p := run.Start(t)
		time.Sleep(4500 * time.Millisecond)
		p.Kill()
	}
	p := run.Start(t)
	time.Sleep(4 * time.Second)
	room.End()
	p.Ends(t, 60*time.Second, 0)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
	rec.Once(t, nil)
	rec.Admits(t, 200*time.Millisecond)
	decodes(t, rec)
}
