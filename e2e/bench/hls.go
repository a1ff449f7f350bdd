package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/liverec/liverec/e2e/rig"
)

// hlsKinds are the containers of segments that are measured.
var hlsKinds = []struct{ name, ext, muxer string }{{"TS", "ts", "mpegts"}, {"fMP4", "m4s", "fmp4"}}

const segmentLength = 2 * time.Second

// hlsPeers are the programs that take a playlist. ffmpeg is the first one: the others are compared with it.
func (b *bench) hlsPeers() []client {
	all := []client{
		{"ffmpeg -c copy", b.ffmpeg, func(url, out string) []string {
			return []string{"-v", "error", "-i", url, "-c", "copy", out + ".mp4"}
		}},
		{"liverec record", b.bin, func(url, _ string) []string {
			return []string{"record", url, "--once", "--to", "archive", "--log-level", "warn"}
		}},
	}
	if p := rig.FindTool("streamlink"); p != "" {
		all = append(all, client{"streamlink", p, func(url, out string) []string {
			return []string{"--hls-live-restart", "-o", out, "hls://" + url, "best"}
		}})
	}
	return all
}

// cutHLS makes pictures that are as hard to squeeze as real ones, once, and repeats them in a list of the length that is
// asked for, in segments on the disk. It gives the bytes of all segments.
func (b *bench) cutHLS(ctx context.Context, muxer, ext, dir string, length time.Duration) (int64, error) {
	clip := filepath.Join(b.dir, "clip.mp4")
	ff := func(dir string, args ...string) error {
		cmd := exec.CommandContext(ctx, b.ffmpeg, append([]string{"-v", "error", "-y"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ffmpeg %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	const clipLength = 24
	if _, err := os.Stat(clip); err != nil {
		if err := ff(b.dir, "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30,noise=alls=40:allf=t", "-f", "lavfi", "-i", "sine=r=48000",
			"-t", strconv.Itoa(clipLength), "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "8M", "-maxrate", "8M", "-bufsize", "8M", "-g", "60",
			"-keyint_min", "60", "-sc_threshold", "0", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k", clip); err != nil {
			return 0, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	if err := ff(dir, "-stream_loop", strconv.Itoa(int(length.Seconds())/clipLength), "-i", clip, "-t", fmt.Sprint(length.Seconds()), "-c", "copy", "-muxdelay", "0",
		"-f", "hls", "-hls_time", fmt.Sprint(segmentLength.Seconds()), "-hls_list_size", "0", "-hls_segment_type", muxer,
		"-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", "s%d."+ext, "list.m3u8"); err != nil {
		return 0, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "s*."+ext))
	if err != nil {
		return 0, err
	}
	var size int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}

// serve answers requests until it is stopped.
func serve(h http.Handler) (url string, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: h}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) }) // always "server closed"
	return "http://" + ln.Addr().String(), func() { _ = srv.Close(); wg.Wait() }, nil
}

// hlsSpeed records a list that has all of its segments and its end, as fast as it goes. They come out of the page cache.
func (b *bench) hlsSpeed(ctx context.Context) error {
	if b.ffmpeg == "" {
		return nil
	}
	for _, k := range hlsKinds {
		dir := filepath.Join(b.dir, "hls-"+k.ext)
		size, err := b.cutHLS(ctx, k.muxer, k.ext, dir, b.vod)
		if err != nil {
			return err
		}
		url, stop, err := serve(http.FileServer(http.Dir(dir)))
		if err != nil {
			return err
		}
		gb := float64(size) / 1e9
		cost, rss := map[string][]float64{}, map[string]float64{}
		peers := b.hlsPeers()
		for round := range b.rounds {
			for _, c := range peers {
				if c.name == "streamlink" && round > 0 {
					continue // it takes a minute of CPU
				}
				out := filepath.Join(b.dir, "hls", k.ext, fmt.Sprint(round), c.name)
				p, err := b.launch(c.bin, out, c.args(url+"/list.m3u8", filepath.Join(out, "out"))...)
				if err != nil {
					return err
				}
				peak, err := watch(ctx, p, 5*time.Minute)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				cost[c.name] = append(cost[c.name], cpu(p)/gb)
				rss[c.name] = max(rss[c.name], peak)
				if err := os.RemoveAll(out); err != nil {
					return err
				}
			}
		}
		stop()
		for _, c := range peers {
			bound := ""
			if c.bin == b.bin {
				bound = "1.0 x ffmpeg"
			}
			b.row(fmt.Sprintf("HLS (%s) to MP4 at full speed, %.2f GB: %s, CPU s per GB", k.name, gb, c.name), fmt.Sprintf("%.2f", median(cost[c.name])),
				fmt.Sprintf("%.2f x ffmpeg", median(cost[c.name])/median(cost[peers[0].name])), bound)
		}
		b.row(fmt.Sprintf("HLS (%s) at full speed: liverec, largest RSS", k.name), fmt.Sprintf("%.0f MiB", rss["liverec record"]), "", "")
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// window is a list that grows at real pace.
type window struct {
	dir   string
	lines [][]string // of each segment, in the whole list
	head  []string
	begun time.Time
	files http.Handler
}

const windowLength = 5

func openWindow(dir string) (*window, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "list.m3u8"))
	if err != nil {
		return nil, err
	}
	w := &window{dir: dir, begun: time.Now(), files: http.FileServer(http.Dir(dir))}
	var open []string
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line == "#EXT-X-ENDLIST" || strings.HasPrefix(line, "#EXT-X-MEDIA-SEQUENCE") || strings.HasPrefix(line, "#EXT-X-PLAYLIST-TYPE"):
		case strings.HasPrefix(line, "#EXTINF"):
			open = []string{line}
		case strings.HasPrefix(line, "#"):
			w.head = append(w.head, line)
		default:
			w.lines = append(w.lines, append(open, line))
		}
	}
	return w, nil
}

func (w *window) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, ".m3u8") {
		w.files.ServeHTTP(rw, r)
		return
	}
	end := min(windowLength+int(time.Since(w.begun)/segmentLength), len(w.lines))
	first := end - windowLength
	out := append(append([]string(nil), w.head...), fmt.Sprintf("#EXT-X-MEDIA-SEQUENCE:%d", first))
	for _, l := range w.lines[first:end] {
		out = append(out, l...)
	}
	rw.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
	_, _ = rw.Write([]byte(strings.Join(out, "\n") + "\n")) // a client that has gone
}

// hlsPace lets all programs record side by side from a list that grows as a live one does.
func (b *bench) hlsPace(ctx context.Context) error {
	if b.ffmpeg == "" {
		return nil
	}
	for _, k := range hlsKinds {
		dir := filepath.Join(b.dir, "hlspace-"+k.ext)
		if _, err := b.cutHLS(ctx, k.muxer, k.ext, dir, b.steady+settled+time.Minute); err != nil {
			return err
		}
		w, err := openWindow(dir)
		if err != nil {
			return err
		}
		url, stop, err := serve(w)
		if err != nil {
			return err
		}
		peers, procs := b.hlsPeers(), map[string][]*rig.Proc{}
		for i := range b.rooms {
			for _, c := range peers {
				out := filepath.Join(b.dir, "hlspace", k.ext, c.name, strconv.Itoa(i))
				p, err := b.launch(c.bin, out, c.args(url+"/list.m3u8", filepath.Join(out, "out"))...)
				if err != nil {
					return err
				}
				procs[c.name] = append(procs[c.name], p)
			}
		}
		share, err := b.steadily(ctx, procs, b.steady)
		if err != nil {
			return err
		}
		for _, c := range peers {
			b.row(fmt.Sprintf("HLS (%s) at real pace, 8.1 Mbit/s: %s, CPU of one core per room", k.name, c.name),
				fmt.Sprintf("%.2f %%", share[c.name]/float64(b.rooms)), fmt.Sprintf("%.2f x ffmpeg", share[c.name]/share[peers[0].name]), "")
			for _, p := range procs[c.name] {
				p.Kill()
			}
		}
		stop()
	}
	return nil
}
