// Command bench measures what liverec costs, beside curl and whatever else is installed, in one run on one machine, and
// prints one table. The figures to quote are the ratios to curl: they hold on a busy machine too.
//
// It owns no promise of its own; the bounds that it prints are those of the README.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

const bitrate = 8_190_000

type bench struct {
	rooms   int
	steady  time.Duration
	rounds  int
	stream  time.Duration // length of the prepared stream
	live    time.Duration // length of the broadcast on the narrow line
	vod     time.Duration // media of the HLS list
	dir     string
	bin     string
	curl    string
	ffmpeg  string
	s3      string // versitygw, "" if there is none
	rows    [][4]string
	clients []*rig.Proc
}

// parts are what -only names. asked: not unless it is asked for.
var parts = []struct {
	name  string
	run   func(*bench, context.Context) error
	asked bool
}{
	{"size", (*bench).size, false}, {"start", (*bench).start, false}, {"pace", (*bench).pace, false}, {"rooms", (*bench).ten, false},
	{"hlspace", (*bench).hlsPace, false}, {"speed", (*bench).speed, false}, {"hls", (*bench).hlsSpeed, false}, {"line", (*bench).line, false},
	{"containers", (*bench).containers, true},
}

func names() (out []string) {
	for _, p := range parts {
		out = append(out, p.name)
	}
	return out
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	b := &bench{}
	flag.IntVar(&b.rooms, "rooms", 5, "rooms for each program at real pace")
	flag.DurationVar(&b.steady, "steady", 40*time.Second, "how long the real pace is measured")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds at full speed")
	flag.DurationVar(&b.stream, "stream", 10*time.Minute, "media that is recorded at full speed in each round")
	flag.DurationVar(&b.live, "live", 2*time.Minute, "length of the broadcast on the narrow line")
	flag.DurationVar(&b.vod, "vod", 18*time.Minute, "media of the HLS list that is recorded at full speed in each round")
	only := flag.String("only", "", "one of "+strings.Join(names(), ", "))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if b.dir, err = os.MkdirTemp("", "liverec-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	defer func() {
		for _, p := range b.clients {
			p.Kill()
		}
	}()
	if b.bin, err = rig.Binary(b.dir); err != nil {
		return err
	}
	b.curl, b.ffmpeg, b.s3 = rig.FindTool("curl"), rig.FindTool("ffmpeg"), rig.FindTool("versitygw")
	if b.curl == "" {
		return errors.New("curl is the measure of all things here and is not installed")
	}
	for _, part := range parts {
		if *only == "" && part.asked || *only != "" && *only != part.name {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s …\n", part.name)
		if err := part.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	fmt.Println("| what | measured | against curl, or what is named | bound |")
	fmt.Println("|---|---|---|---|")
	for _, r := range b.rows {
		fmt.Printf("| %s | %s | %s | %s |\n", r[0], r[1], r[2], r[3])
	}
	return nil
}

func (b *bench) row(what, measured, ratio, bound string) {
	b.rows = append(b.rows, [4]string{what, measured, ratio, bound})
	fmt.Fprintf(os.Stderr, "  %s: %s %s\n", what, measured, ratio)
}

func (b *bench) launch(bin, dir string, args ...string) (*rig.Proc, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p, err := rig.Run{Bin: bin, Dir: dir, Args: args}.StartProcess()
	if err == nil {
		b.clients = append(b.clients, p)
	}
	return p, err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func wait(ctx context.Context, p *rig.Proc, limit time.Duration) error {
	_, err := watch(ctx, p, limit)
	return err
}

// watch waits for the end of a process and gives its largest resident size in MiB. (The kernel's own figure at the end
// is of no use: it counts what the parent had when it started the child.)
func watch(ctx context.Context, p *rig.Proc, limit time.Duration) (float64, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	rss := 0.0
	for {
		select {
		case <-p.Done():
			if p.Code() != 0 {
				return rss, fmt.Errorf("it ended with %d: %s", p.Code(), p.Stderr.String())
			}
			return rss, nil
		case <-tick.C:
			rss = max(rss, peak(p.Pid()))
		case <-late:
			return rss, fmt.Errorf("not done after %v: %s", limit, p.Stderr.String())
		case <-ctx.Done():
			return rss, ctx.Err()
		}
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

func (b *bench) size(context.Context) error {
	info, err := os.Stat(b.bin)
	if err != nil {
		return err
	}
	b.row("size of the program", fmt.Sprintf("%.1f MiB", float64(info.Size())/(1<<20)), "", "30 MiB")
	return nil
}

// start measures from the start of the process to the first byte of media on the disk.
func (b *bench) start(ctx context.Context) error {
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
	if err := sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	var took []float64
	for i := range 7 {
		dir := filepath.Join(b.dir, fmt.Sprintf("start%d", i))
		p, err := b.launch(b.bin, dir, "record", srv.URL)
		if err != nil {
			return err
		}
		for deadline := time.Now().Add(10 * time.Second); ; {
			found, err := filepath.Glob(filepath.Join(dir, "liverec-data/media/*/P0001.flv.part"))
			if err != nil {
				return err
			}
			if len(found) == 1 {
				// The head is reserved at once; media lies behind it.
				if info, err := os.Stat(found[0]); err == nil && holdsMedia(found[0], info.Size()) {
					took = append(took, float64(time.Since(p.Started).Microseconds())/1000)
					break
				}
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("nothing on the disk: %s", p.Stderr.String())
			}
			time.Sleep(500 * time.Microsecond)
		}
		p.Kill()
	}
	b.row("start of the process to the first media byte on disk", fmt.Sprintf("%.0f ms", median(took)), "", "300 ms")
	return nil
}

// holdsMedia reports whether an FLV file has a byte behind its script tag and sequence headers.
func holdsMedia(name string, size int64) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	for at := int64(13); at < size; {
		var h [13]byte
		if _, err := f.ReadAt(h[:], at); err != nil {
			return false
		}
		if (h[0] == 8 || h[0] == 9) && h[12] == 1 {
			return true
		}
		at += 15 + (int64(h[1])<<16 | int64(h[2])<<8 | int64(h[3]))
	}
	return false
}

// ticks is the CPU time of a process so far.
func ticks(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// peak is the largest resident size of a process, in MiB.
func peak(pid int) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kb / 1024
		}
	}
	return 0
}

type client struct {
	name string
	bin  string
	args func(url, out string) []string
}

func (b *bench) peers() []client {
	all := []client{
		{"curl -o", b.curl, func(url, out string) []string { return []string{"-sS", "-o", out, url} }},
		{"liverec record", b.bin, func(url, out string) []string { return []string{"record", url, "--once", "--to", "archive"} }},
	}
	if b.ffmpeg != "" {
		all = append(all, client{"ffmpeg -c copy", b.ffmpeg, func(url, out string) []string {
			return []string{"-v", "error", "-i", url, "-c", "copy", "-f", "flv", out}
		}})
	}
	if p := rig.FindTool("streamlink"); p != "" {
		all = append(all, client{"streamlink", p, func(url, out string) []string { return []string{"-o", out, "httpstream://" + url, "best"} }})
	}
	if p := rig.FindTool("yt-dlp"); p != "" {
		all = append(all, client{"yt-dlp", p, func(url, out string) []string { return []string{"-q", "-o", out, url} }})
	}
	return all
}

// source serves a prepared stream as fast as it is taken: once for each round, then 404.
type source struct {
	url  string
	srv  *http.Server
	wg   sync.WaitGroup
	mu   sync.Mutex
	open bool
	data []byte
}

func newSource(data []byte) (*source, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &source{url: "http://" + ln.Addr().String() + "/live.flv", data: data}
	s.srv = &http.Server{Handler: s}
	s.wg.Go(func() { _ = s.srv.Serve(ln) }) // always "server closed"
	return s, nil
}

func (s *source) again() { s.mu.Lock(); s.open = true; s.mu.Unlock() }

func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	open := s.open
	s.open = false
	s.mu.Unlock()
	if !open {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "video/x-flv")
	for b := s.data; len(b) > 0; {
		n := min(len(b), 256<<10)
		if _, err := w.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

func (s *source) close() {
	_ = s.srv.Close() // nothing to be done about it
	s.wg.Wait()
}

func cpu(p *rig.Proc) float64 {
	u := p.Usage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// speed records and sends as fast as it goes.
func (b *bench) speed(ctx context.Context) error {
	var buf bytes.Buffer
	buf.Grow(int(b.stream.Seconds()*bitrate/8) + 1<<20)
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
	rss := map[string]float64{}
	measure := func(name string, p *rig.Proc) error {
		size, err := watch(ctx, p, 5*time.Minute)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		cost[name] = append(cost[name], cpu(p)/gb)
		rss[name] = max(rss[name], size)
		return nil
	}
	peers := b.peers()
	for round := range b.rounds {
		for _, c := range peers {
			dir := filepath.Join(b.dir, "speed", fmt.Sprint(round), c.name)
			src.again()
			p, err := b.launch(c.bin, dir, c.args(src.url, filepath.Join(dir, "out.flv"))...)
			if err != nil {
				return err
			}
			if err := measure(c.name, p); err != nil {
				return err
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	for _, c := range peers {
		bound := ""
		if c.bin == b.bin {
			bound = "1.6 x"
		}
		b.row("full speed to a folder: "+c.name+", CPU s per GB", fmt.Sprintf("%.2f", median(cost[c.name])),
			fmt.Sprintf("%.2f x", median(cost[c.name])/median(cost["curl -o"])), bound)
	}
	if b.s3 == "" {
		b.row("full speed to S3", "not measured", "versitygw is not installed", "4 x")
		return nil
	}
	s3, err := rig.RunS3(b.s3, filepath.Join(b.dir, "s3"), 0)
	if err != nil {
		return err
	}
	defer s3.Stop()
	film := filepath.Join(b.dir, "film.flv")
	if err := os.WriteFile(film, buf.Bytes(), 0o644); err != nil {
		return err
	}
	sends := []struct {
		name, bound string
		bin         string
		args        []string
		record      bool
	}{
		{"curl -T", "", b.curl, []string{"-sS", "-f", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "AK:" + rig.Secret,
			"-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T", film, s3.Endpoint + "/" + rig.Bucket + "/curl.flv"}, false},
		{"liverec upload", "4 x", b.bin, []string{"upload", film, "--to", s3.Dest("up", "")}, false},
		{"liverec record --to s3 (receiving, hashing and sending)", "", b.bin, []string{"record", src.url, "--once", "--to", s3.Dest("rec", "")}, true},
	}
	for round := range b.rounds {
		for _, s := range sends {
			dir := filepath.Join(b.dir, "send", fmt.Sprint(round), s.name[:4])
			if s.record {
				src.again()
			}
			p, err := b.launch(s.bin, dir, s.args...)
			if err != nil {
				return err
			}
			if err := measure(s.name, p); err != nil {
				return err
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	for _, s := range sends {
		b.row("full speed to S3: "+s.name+", CPU s per GB", fmt.Sprintf("%.2f", median(cost[s.name])),
			fmt.Sprintf("%.2f x", median(cost[s.name])/median(cost["curl -T"])), s.bound)
	}
	b.row("full speed: liverec record --to s3, largest RSS", fmt.Sprintf("%.0f MiB", rss[sends[2].name]), "", "")
	return nil
}
