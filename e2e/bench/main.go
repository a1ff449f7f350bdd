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
	dir     string
	bin     string
	curl    string
	ffmpeg  string
	s3      string // versitygw, "" if there is none
	rows    [][4]string
	clients []*rig.Proc
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
	only := flag.String("only", "", "one of pace, speed, start, line, size")
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
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"size", b.size}, {"start", b.start}, {"pace", b.pace}, {"speed", b.speed}, {"line", b.line}} {
		if *only != "" && *only != part.name {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s …\n", part.name)
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	fmt.Println("| what | measured | against curl | bound |")
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

// pace lets all programs record side by side at real pace.
func (b *bench) pace(ctx context.Context) error {
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
	peers := b.peers()
	procs := map[string][]*rig.Proc{}
	for i := range b.rooms {
		for _, c := range peers {
			dir := filepath.Join(b.dir, "pace", c.name, strconv.Itoa(i))
			p, err := b.launch(c.bin, dir, c.args(srv.URL, filepath.Join(dir, "out.flv"))...)
			if err != nil {
				return err
			}
			procs[c.name] = append(procs[c.name], p)
		}
	}
	if err := sleep(ctx, 12*time.Second); err != nil {
		return err
	}
	read := func() (map[string][]time.Duration, error) {
		out := map[string][]time.Duration{}
		for name, list := range procs {
			for _, p := range list {
				d, err := ticks(p.Pid())
				if err != nil {
					return nil, fmt.Errorf("%s: %w: %s", name, err, p.Stderr.String())
				}
				out[name] = append(out[name], d)
			}
		}
		return out, nil
	}
	before, err := read()
	if err != nil {
		return err
	}
	from := time.Now()
	if err := sleep(ctx, b.steady); err != nil {
		return err
	}
	after, err := read()
	if err != nil {
		return err
	}
	wall := time.Since(from)
	share := map[string]float64{}
	for name := range procs {
		var sum time.Duration
		for i := range after[name] {
			sum += after[name][i] - before[name][i]
		}
		share[name] = 100 * sum.Seconds() / wall.Seconds() / float64(b.rooms)
	}
	for _, c := range peers {
		bound, rss := "", 0.0
		for _, p := range procs[c.name] {
			rss = max(rss, peak(p.Pid()))
		}
		if c.bin == b.bin {
			bound = "0.8 x"
		}
		b.row(fmt.Sprintf("real pace, 8.19 Mbit/s: %s, CPU of one core per room", c.name),
			fmt.Sprintf("%.2f %%", share[c.name]), fmt.Sprintf("%.2f x", share[c.name]/share["curl -o"]), bound)
		if c.bin == b.bin {
			b.row("real pace: liverec, largest RSS of one room", fmt.Sprintf("%.0f MiB", rss), "", "48 MiB")
		}
		for _, p := range procs[c.name] {
			p.Kill()
		}
	}
	return nil
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

// line measures how long it takes from the end of the stream until the last object is verified, where the line is 1.3
// times as wide as the stream: for parts of several lengths, and for the two ways that people use today.
func (b *bench) line(ctx context.Context) error {
	if b.s3 == "" {
		return nil
	}
	s3, err := rig.RunS3(b.s3, filepath.Join(b.dir, "line-s3"), 0)
	if err != nil {
		return err
	}
	defer s3.Stop()
	room, err := liveroom.New(liveroom.Config{Bitrate: bitrate, Duration: b.live})
	if err != nil {
		return err
	}
	srv, err := room.Listen(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	room.Start(ctx)
	end := time.Now().Add(b.live)

	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	results := map[string]time.Duration{}
	way := func(name string, run func(p *rig.Proxy, dir string) error) error {
		proxy, err := rig.NewProxy(s3.Endpoint, nil, 1.3*bitrate)
		if err != nil {
			return err
		}
		dir := filepath.Join(b.dir, "line", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		wg.Go(func() {
			defer proxy.Close()
			err := run(proxy, dir)
			var last time.Time
			for _, c := range proxy.Calls() {
				if strings.HasSuffix(c.Key, ".flv") && c.Done.After(last) {
					last = c.Done
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
			results[name] = last.Sub(end)
		})
		return nil
	}
	put := func(proxy *rig.Proxy, dir, file, key string) error {
		p, err := rig.Run{Bin: b.curl, Dir: dir, Args: []string{"-sS", "-f", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "AK:" + rig.Secret,
			"-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T", file, proxy.URL + "/" + rig.Bucket + "/" + key}}.StartProcess()
		if err != nil {
			return err
		}
		return wait(ctx, p, b.live*3)
	}
	lengths := []time.Duration{15 * time.Second, 45 * time.Second, 15 * time.Minute}
	for _, length := range lengths {
		if err := way("liverec "+length.String(), func(proxy *rig.Proxy, dir string) error {
			p, err := rig.Run{Bin: b.bin, Dir: dir, Args: []string{"record", srv.URL, "--once", "--segment", length.String(), "--to", s3.Dest(length.String(), proxy.URL)}}.StartProcess()
			if err != nil {
				return err
			}
			return wait(ctx, p, b.live*3)
		}); err != nil {
			return err
		}
	}
	if err := way("serial", func(proxy *rig.Proxy, dir string) error {
		p, err := rig.Run{Bin: b.curl, Dir: dir, Args: []string{"-sS", "-o", "out.flv", srv.URL}}.StartProcess()
		if err != nil {
			return err
		}
		if err := wait(ctx, p, b.live*2); err != nil {
			return err
		}
		return put(proxy, dir, "out.flv", "serial.flv")
	}); err != nil {
		return err
	}
	if b.ffmpeg != "" {
		if err := way("closed", func(proxy *rig.Proxy, dir string) error {
			p, err := rig.Run{Bin: b.ffmpeg, Dir: dir, Args: []string{"-v", "error", "-i", srv.URL, "-c", "copy", "-f", "segment", "-segment_time", "30", "-reset_timestamps", "1", "out%04d.flv"}}.StartProcess()
			if err != nil {
				return err
			}
			for i := 0; ; i++ {
				name, next := fmt.Sprintf("out%04d.flv", i), filepath.Join(dir, fmt.Sprintf("out%04d.flv", i+1))
				for p.Alive() {
					if _, err := os.Stat(next); err == nil {
						break
					}
					if err := sleep(ctx, 100*time.Millisecond); err != nil {
						return err
					}
				}
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					return nil
				}
				if err := put(proxy, dir, name, "closed/"+name); err != nil {
					return err
				}
			}
		}); err != nil {
			return err
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	share := func(d time.Duration) string {
		return fmt.Sprintf("%.1f s (%.0f %% of the broadcast)", d.Seconds(), 100*d.Seconds()/b.live.Seconds())
	}
	for _, length := range lengths {
		b.row("end of the stream to the last object verified, line of 1.3 x: liverec, parts of "+length.String(), share(results["liverec "+length.String()]), "", "5 s")
	}
	b.row("the same: record, then upload", share(results["serial"]), "", "")
	if b.ffmpeg != "" {
		b.row("the same: closed files of 30 s, one by one", share(results["closed"]), "", "")
	}
	return nil
}
