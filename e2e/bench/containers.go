package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// both are the containers that H.264 and AAC from FLV can be written to.
var both = []string{"flv", "mp4"}

const kills = 10

// containers compares FLV with hybrid MP4 on the same live FLV stream: docs/containers.md is made of it.
func (b *bench) containers(ctx context.Context) error {
	for _, step := range []func(context.Context) error{b.killed, b.whole, b.growing} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// open is the part that is being recorded below a data folder.
func open(dir, kind string) string {
	found, err := filepath.Glob(filepath.Join(dir, "liverec-data/media/*/P*."+kind+".part"))
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

// killed kills both recorders at the same moments, and counts what is in the file as it lies there, and in the archive
// after `liverec resume`.
func (b *bench) killed(ctx context.Context) error {
	room, err := liveroom.New(liveroom.Config{Bitrate: bitrate})
	if err != nil {
		return err
	}
	srv, err := room.Listen(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	room.Start(ctx)
	defer room.Stop()
	random := rand.New(rand.NewPCG(1, 2))
	lost, lag, kept, pictures := map[string]int{}, map[string][]float64{}, map[string]int{}, 0
	for i := range kills {
		procs, dirs := map[string]*rig.Proc{}, map[string]string{}
		from := time.Now()
		for _, k := range both {
			dirs[k] = filepath.Join(b.dir, "killed", k, strconv.Itoa(i))
			if procs[k], err = b.launch(b.bin, dirs[k], "record", srv.URL, "--container", k, "--to", "archive"); err != nil {
				return err
			}
		}
		if err := sleep(ctx, 4*time.Second+time.Duration(random.Int64N(int64(4*time.Second)))); err != nil {
			return err
		}
		at := time.Now()
		for _, k := range both {
			procs[k].Kill()
		}
		sent := map[uint64]time.Time{} // the later of the two connections
		var first uint64               // that both could have
		for _, c := range room.Connections() {
			if c.Opened.Before(from) || len(c.Frames) == 0 {
				continue
			}
			first = max(first, c.Frames[0].Number)
			for _, f := range c.Frames {
				if f.At.After(sent[f.Number]) {
					sent[f.Number] = f.At
				}
			}
		}
		count := func(k, name string) (int, float64, error) {
			have := map[uint64]bool{}
			var newest uint64
			if name != "" {
				r, err := probe.File(name)
				if err != nil {
					return 0, 0, err
				}
				for _, n := range r.Numbers {
					have[n], newest = true, max(newest, n)
				}
			}
			missing := 0
			for n, when := range sent {
				if n >= first && when.Before(at.Add(-time.Second)) && !have[n] {
					missing++
				}
			}
			return missing, at.Sub(sent[newest]).Seconds() * 1000, nil
		}
		for n, when := range sent {
			if n >= first && when.Before(at.Add(-time.Second)) {
				pictures++
			}
		}
		for _, k := range both {
			missing, late, err := count(k, open(dirs[k], k))
			if err != nil {
				return err
			}
			lost[k] += missing
			lag[k] = append(lag[k], late)
			p, err := b.launch(b.bin, dirs[k], "resume")
			if err != nil {
				return err
			}
			if err := wait(ctx, p, time.Minute); err != nil {
				return err
			}
			found, err := filepath.Glob(filepath.Join(dirs[k], "archive/*/*/P*."+k))
			if err != nil || len(found) != 1 {
				return fmt.Errorf("%d parts after resume: %w", len(found), err)
			}
			if missing, _, err = count(k, found[0]); err != nil {
				return err
			}
			kept[k] += missing
		}
	}
	for _, k := range both {
		most := 0.0
		for _, v := range lag[k] {
			most = max(most, v)
		}
		b.row(fmt.Sprintf("%s: %d kills, pictures lost of the %d received more than 1 s before, in the file as it lies there", k, kills, pictures), strconv.Itoa(lost[k]), "", "0")
		b.row(k+": the same in the archive after `liverec resume`", strconv.Itoa(kept[k]), "", "0")
		b.row(k+": how old the newest picture in the file was at the kill, median (largest)", fmt.Sprintf("%.0f ms (%.0f)", median(lag[k]), most), "", "1000 ms")
	}
	return nil
}

// whole records a long stream at full speed: CPU, size, seeking in the closed file, and in one that a kill has left.
func (b *bench) whole(ctx context.Context) error {
	var buf bytes.Buffer
	if _, err := liveroom.Write(&buf, liveroom.Config{Bitrate: bitrate}, b.stream); err != nil {
		return err
	}
	gb := float64(buf.Len()) / 1e9
	src, err := newSource(buf.Bytes())
	if err != nil {
		return err
	}
	defer src.close()
	cost := map[string][]float64{}
	files := map[string]string{}
	for round := range b.rounds {
		for _, k := range both {
			dir := filepath.Join(b.dir, "whole", strconv.Itoa(round), k)
			src.again()
			p, err := b.launch(b.bin, dir, "record", src.url, "--once", "--to", "archive", "--container", k, "--segment", "2h")
			if err != nil {
				return err
			}
			if err := wait(ctx, p, 5*time.Minute); err != nil {
				return err
			}
			cost[k] = append(cost[k], cpu(p)/gb)
			found, err := filepath.Glob(filepath.Join(dir, "archive/*/*/P*."+k))
			if err != nil || len(found) != 1 {
				return fmt.Errorf("%d parts: %w", len(found), err)
			}
			if old := files[k]; old != "" {
				if err := os.Remove(old); err != nil {
					return err
				}
			}
			files[k] = found[0]
		}
	}
	for _, k := range both {
		info, err := os.Stat(files[k])
		if err != nil {
			return err
		}
		b.row(k+": CPU s per GB, full speed to a folder", fmt.Sprintf("%.2f", median(cost[k])), fmt.Sprintf("%.2f x flv", median(cost[k])/median(cost["flv"])), "")
		b.row(k+": size against the bytes of the stream", fmt.Sprintf("%+.3f %%", 100*(float64(info.Size())/float64(buf.Len())-1)), "", "")
		if err := b.seek(ctx, k+", closed, "+b.stream.String(), files[k], b.stream/2); err != nil {
			return err
		}
		// and one that is killed at 60 %
		dir := filepath.Join(b.dir, "half", k)
		src.again()
		p, err := b.launch(b.bin, dir, "record", src.url, "--to", "archive", "--container", k, "--segment", "2h")
		if err != nil {
			return err
		}
		for p.Alive() {
			if info, err := os.Stat(open(dir, k)); err == nil && info.Size() > int64(buf.Len())*6/10 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		p.Kill()
		if err := b.seek(ctx, k+", killed at 60 %, full speed (before any index was written)", open(dir, k), b.stream/4); err != nil {
			return err
		}
	}
	return nil
}

var readCall = regexp.MustCompile(`(?:p?read(?:64)?)\((\d+).*= (\d+)$`)

// seek lets ffmpeg go to a place and take the first picture there, and counts what it reads of the file.
func (b *bench) seek(ctx context.Context, what, name string, at time.Duration) error {
	strace := rig.FindTool("strace")
	if b.ffmpeg == "" || strace == "" {
		return nil
	}
	log := filepath.Join(b.dir, "trace")
	out, err := exec.CommandContext(ctx, strace, "-f", "-e", "trace=openat,read,pread64,lseek", "-o", log, b.ffmpeg, "-v", "error", "-copyts", "-ss", fmt.Sprint(at.Seconds()), "-i", name,
		"-map", "0:v", "-c", "copy", "-frames:v", "1", "-f", "framehash", "-").Output()
	if err != nil {
		return fmt.Errorf("seek in %s: %w", name, err)
	}
	f, err := os.Open(log)
	if err != nil {
		return err
	}
	defer f.Close()
	fd, seeks, size := "", 0, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.Contains(line, "openat(") && strings.Contains(line, filepath.Base(name)) {
			fd = strings.TrimSpace(line[strings.LastIndex(line, "=")+1:])
		}
		if m := readCall.FindStringSubmatch(line); m != nil && m[1] == fd {
			n, _ := strconv.Atoi(m[2])
			size += n
		}
		if strings.Contains(line, "lseek("+fd+",") && !strings.Contains(line, "SEEK_END") {
			seeks++
		}
	}
	landed, num, den := "nothing", 0.0, 1.0
	for line := range strings.Lines(string(out)) {
		if _, err := fmt.Sscanf(line, "#tb 0: %f/%f", &num, &den); err == nil {
			continue
		}
		if f := strings.Split(line, ","); len(f) > 3 && !strings.HasPrefix(line, "#") {
			if pts, err := strconv.ParseFloat(strings.TrimSpace(f[2]), 64); err == nil {
				landed = fmt.Sprintf("%.2f s", pts*num/den)
			}
		}
	}
	b.row(what+": ffmpeg seeks to "+at.String(), fmt.Sprintf("%.2f MB read, %d seeks", float64(size)/1e6, seeks), "lands at "+landed, "")
	return nil
}

// growing records to S3 while it is live: what has to wait for the end, and who plays what comes out.
func (b *bench) growing(ctx context.Context) error {
	if b.s3 == "" {
		return errors.New("versitygw is not installed")
	}
	s3, err := rig.RunS3(b.s3, filepath.Join(b.dir, "grow-s3"), 0)
	if err != nil {
		return err
	}
	defer s3.Stop()
	const length = time.Minute
	room, err := liveroom.New(liveroom.Config{Bitrate: bitrate, Duration: length})
	if err != nil {
		return err
	}
	srv, err := room.Listen(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	room.Start(ctx)
	end := time.Now().Add(length)
	procs, proxies, dirs, torn := map[string]*rig.Proc{}, map[string]*rig.Proxy{}, map[string]string{}, map[string]string{}
	for _, k := range both {
		if proxies[k], err = rig.NewProxy(s3.Endpoint, nil, 0); err != nil {
			return err
		}
		defer proxies[k].Close()
		dirs[k] = filepath.Join(b.dir, "growing", k)
		if procs[k], err = b.launch(b.bin, dirs[k], "record", srv.URL, "--once", "--container", k, "--to", s3.Dest("grow-"+k, proxies[k].URL), "--to", "archive"); err != nil {
			return err
		}
	}
	if err := sleep(ctx, length*6/10); err != nil {
		return err
	}
	for _, k := range both { // as a kill would leave it
		raw, err := os.ReadFile(open(dirs[k], k))
		if err != nil {
			return err
		}
		torn[k] = filepath.Join(b.dir, "torn."+k)
		if err := os.WriteFile(torn[k], raw[:len(raw)-1000], 0o644); err != nil {
			return err
		}
	}
	for _, k := range both {
		if err := wait(ctx, procs[k], 3*time.Minute); err != nil {
			return err
		}
		var before, after int64
		for _, c := range proxies[k].Calls() {
			if c.Op != rig.OpPart && c.Op != rig.OpPut || !strings.HasSuffix(c.Key, "."+k) {
				continue
			}
			if c.At.Before(end) {
				before += c.Bytes
			} else {
				after += c.Bytes
			}
		}
		found, err := filepath.Glob(filepath.Join(dirs[k], "archive/*/*/P*."+k))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("%d parts: %w", len(found), err)
		}
		b.row(k+": to S3 while it grows, bytes that left before the end of a minute", fmt.Sprintf("%.1f MB", float64(before)/1e6), "", "")
		b.row(k+": … and behind it (head chunk, tail, index)", fmt.Sprintf("%.1f MB", float64(after)/1e6), "", "")
		for _, f := range []struct{ what, name string }{{"closed", found[0]}, {"cut off while it grew", torn[k]}} {
			if err := b.seek(ctx, k+", "+f.what+", real pace", f.name, 20*time.Second); err != nil {
				return err
			}
			b.row(k+", "+f.what+": ffmpeg -xerror", b.readers(ctx, k, f.name), "", "")
			said, err := b.chromium(ctx, f.name)
			if err != nil {
				said = err.Error()
			}
			b.row(k+", "+f.what+": Chromium <video>", said, "", "")
		}
	}
	return nil
}

// readers counts the pictures that other programs find.
func (b *bench) readers(ctx context.Context, kind, name string) string {
	out, err := exec.CommandContext(ctx, b.ffmpeg, "-v", "error", "-xerror", "-i", name, "-map", "0:v", "-c", "copy", "-f", "framecrc", "-").Output()
	n := 0
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	said := fmt.Sprintf("%d pictures, status %v", n, err)
	gst := rig.FindTool("gst-launch-1.0")
	if gst == "" {
		return said
	}
	demux, pad := "qtdemux", "d.video_0"
	if kind == "flv" {
		demux, pad = "flvdemux", "d.video"
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err = exec.CommandContext(limit, gst, "-v", "filesrc", "location="+name, "!", demux, "name=d", pad, "!", "queue", "!", "fakesink", "silent=false", "sync=false").CombinedOutput()
	return said + fmt.Sprintf("; GStreamer: %d pictures, status %v", bytes.Count(out, []byte("chain   ****")), err)
}

const page = `<!doctype html><video muted preload=auto></video><script>
const v = document.querySelector('video');
const once = (name) => new Promise((yes, no) => {
	v.addEventListener(name, yes, {once: true});
	v.addEventListener('error', () => no(new Error(v.error.message)), {once: true});
	setTimeout(() => no(new Error('no ' + name + ' at ' + v.currentTime + ' of ' + v.duration)), 15000);
});
async function play() {
	const out = {};
	try {
		v.src = '/file';
		await once('loadedmetadata');
		out.duration = v.duration;
		const s = once('seeked');
		v.currentTime = 20;
		await s;
		out.middle = v.currentTime;
		v.playbackRate = 8;
		const e = once('ended');
		await v.play();
		await e;
		out.end = v.currentTime;
	} catch (e) { out.error = String(e); }
	return out;
}</script>`

// shown is what the page says.
type shown struct {
	Error    string  `json:"error"`
	Duration float64 `json:"duration"`
	Middle   float64 `json:"middle"`
	End      float64 `json:"end"`
}

// chromium plays a file: its length, a seek to second 20, on to the end.
func (b *bench) chromium(ctx context.Context, name string) (string, error) {
	path := rig.FindTool("chromium")
	if path == "" {
		return "not installed", nil
	}
	url, stop, err := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/file" {
			w.Header().Set("Content-Type", map[string]string{".mp4": "video/mp4", ".flv": "video/x-flv"}[filepath.Ext(name)])
			http.ServeFile(w, r, name)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(page)) // the browser has gone
	}))
	if err != nil {
		return "", err
	}
	defer stop()
	all, end := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"), chromedp.Flag("mute-audio", true), chromedp.WSURLReadTimeout(60*time.Second))...)
	defer end()
	tab, leave := chromedp.NewContext(all)
	defer leave()
	if err := chromedp.Do(tab, chromedp.Navigate(url)); err != nil {
		return "", err
	}
	tab, cancel := context.WithTimeout(tab, time.Minute)
	defer cancel()
	out, err := chromedp.Run(tab, chromedp.Evaluate[shown]("play()", chromedp.EvalAwaitPromise))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("duration %.1f s, seek to 20 s lands at %.1f s, end %.1f s %s", out.Duration, out.Middle, out.End, out.Error), nil
}
