// Command faults records the same faulty live streams with liverec and with the programs that people use today, each
// for itself, and counts what came out: pictures that the server offered and that are not there, pictures that stand
// twice, files that a strict decoder refuses. `make faults` runs it; it needs streamlink and yt-dlp in the PATH and
// leaves out what is not there.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// recorder is a program and how it is called.
type recorder struct {
	name string
	args func(url, dir string) []string
}

func recorders(bin string) []recorder {
	rs := []recorder{
		{"liverec", func(url, dir string) []string {
			return []string{bin, "record", url, "--once", "--segment", "10m", "--grace", "20s", "--no-progress", "--data", filepath.Join(dir, "data"), "--to", "file:" + filepath.Join(dir, "out")}
		}},
		{"ffmpeg", func(url, dir string) []string {
			args := []string{"ffmpeg", "-v", "error"}
			if strings.HasSuffix(url, ".m3u8") {
				args = append(args, "-live_start_index", "0")
			}
			return append(args, "-i", url, "-c", "copy", filepath.Join(dir, "out", "a.ts"))
		}},
		{"streamlink", func(url, dir string) []string {
			kind := "hls://"
			if strings.HasSuffix(url, ".flv") {
				kind = "httpstream://"
			}
			return []string{"streamlink", "--hls-live-restart", "-o", filepath.Join(dir, "out", "a.ts"), kind + url, "best"}
		}},
		{"yt-dlp", func(url, dir string) []string {
			return []string{"yt-dlp", "-q", "--no-part", "--hls-use-mpegts", "-o", filepath.Join(dir, "out", "a.ts"), url}
		}},
	}
	return slices.DeleteFunc(rs, func(r recorder) bool {
		_, err := exec.LookPath(r.args("", "")[0])
		return err != nil
	})
}

// result is what came out of one recording.
type result struct {
	missing, twice, broken, parts int
	code                          int
	note                          string
}

func (r result) String() string {
	if r.note != "" {
		return r.note
	}
	s := fmt.Sprintf("%d / %d / %d", r.missing, r.twice, r.broken)
	if r.code != 0 {
		s += fmt.Sprintf(" (exit %d)", r.code)
	}
	return s
}

func main() {
	bin := flag.String("bin", os.Getenv("LIVEREC_BIN"), "the program")
	only := flag.String("only", "", "scenarios whose name holds this")
	tools := flag.String("tools", "", "programs, separated by commas; default all that are there")
	jobs := flag.Int("jobs", 8, "recordings at once")
	verbose := flag.Bool("v", false, "print what the programs say")
	flag.Parse()
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer os.RemoveAll(dir)

	rs := recorders(*bin)
	if *tools != "" {
		rs = slices.DeleteFunc(rs, func(r recorder) bool { return !slices.Contains(strings.Split(*tools, ","), r.name) })
	}
	streams := append(hlsStreams(ctx, dir), flvStreams()...)
	streams = slices.DeleteFunc(streams, func(s stream) bool { return !strings.Contains(s.name, *only) })
	table := make([][]result, len(streams))
	limit := make(chan struct{}, *jobs)
	var wg sync.WaitGroup
	for i, s := range streams {
		table[i] = make([]result, len(rs))
		for j, r := range rs {
			limit <- struct{}{}
			wg.Go(func() {
				defer func() { <-limit }()
				table[i][j] = record(ctx, filepath.Join(dir, fmt.Sprintf("%d-%d", i, j)), s, r, *verbose)
				fmt.Fprintf(os.Stderr, "%s, %s: %v\n", s.name, r.name, table[i][j])
			})
		}
	}
	wg.Wait()
	fmt.Printf("Missing / repeated pictures / broken files.\n\n| stream |")
	for _, r := range rs {
		fmt.Printf(" %s |", r.name)
	}
	fmt.Printf("\n| --- |%s\n", strings.Repeat(" --- |", len(rs)))
	for i, s := range streams {
		fmt.Printf("| %s |", s.name)
		for j := range rs {
			fmt.Printf(" %v |", table[i][j])
		}
		fmt.Println()
	}
}

// stream is a faulty stream that can be begun again for each recorder.
type stream struct {
	name string
	// run starts it; want are the pictures that were offered, once it is over.
	run func() (url string, length time.Duration, want func() []uint64, stop func(), err error)
}

func hlsStreams(ctx context.Context, dir string) []stream {
	kit := &rig.HLSKit{Ctx: ctx, Dir: dir}
	var out []stream
	for i, s := range rig.HLSScenarios() {
		out = append(out, stream{"HLS: " + s.Name, func() (string, time.Duration, func() []uint64, func(), error) {
			c := rig.HLSScenarios()[i].Make(kit) // a fault may have a memory of its own
			o, err := rig.RunHLS(c)
			if err != nil {
				return "", 0, nil, nil, err
			}
			return o.URL(), o.Length(), func() []uint64 { return s.Want(c) }, o.Close, nil
		}})
	}
	return out
}

func flvStreams() []stream {
	every := func(f liveroom.Fault) func(int) liveroom.Fault { return func(int) liveroom.Fault { return f } }
	var out []stream
	for _, s := range []struct {
		name string
		cfg  liveroom.Config
	}{
		{"sound", liveroom.Config{}},
		{"cut, the overlap is sent again", liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 400, End: liveroom.Broken}}})}},
		{"cut, and the clock begins anew", liveroom.Config{Fault: every(liveroom.Fault{Rebase: true, Events: []liveroom.Event{{Tags: 400, End: liveroom.Broken}}})}},
		{"rubbish between tags", liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 150, Again: true, Junk: bytes.Repeat([]byte("\x00<junk>\x09\xff"), 7)}}})}},
		{"a second head", liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 300, Again: true, Header: true}}})}},
		{"repeated headers", liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 40, Again: true, Headers: true}}})}},
		{"picture size changes", liveroom.Config{Changes: []time.Duration{10 * time.Second}}},
		{"clock jumps by an hour either way", liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 300, Jump: time.Hour}, {Tags: 300, Jump: -time.Hour}}})}},
		{"refused at first", liveroom.Config{Fault: func(n int) liveroom.Fault {
			if n < 3 {
				return liveroom.Fault{Status: []int{404, 500, 503}[n]}
			}
			return liveroom.Fault{}
		}}},
	} {
		out = append(out, stream{"FLV: " + s.name, func() (string, time.Duration, func() []uint64, func(), error) {
			cfg := s.cfg
			cfg.Duration = 24 * time.Second
			room, err := liveroom.New(cfg)
			if err != nil {
				return "", 0, nil, nil, err
			}
			server, err := room.Listen(context.Background())
			if err != nil {
				return "", 0, nil, nil, err
			}
			ctx, cancel := context.WithCancel(context.Background())
			room.Start(ctx)
			want := func() []uint64 {
				return rig.Sent(room.Connections(), func(liveroom.Connection, liveroom.Frame) bool { return true })
			}
			return server.URL, cfg.Duration, want, func() { cancel(); server.Close() }, nil
		}})
	}
	return out
}

func record(ctx context.Context, dir string, s stream, r recorder, verbose bool) (res result) {
	defer func() {
		if v := recover(); v != nil {
			res.note = fmt.Sprint(v)
		}
	}()
	if err := os.MkdirAll(filepath.Join(dir, "out"), 0o755); err != nil {
		return result{note: err.Error()}
	}
	url, length, want, stop, err := s.run()
	if err != nil {
		return result{note: err.Error()}
	}
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, length+75*time.Second)
	defer cancel()
	args := r.args(url, dir)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.CombinedOutput()
	if verbose {
		fmt.Fprintf(os.Stderr, "--- %s, %s: %v\n%s\n", s.name, r.name, err, out)
	}
	if cmd.ProcessState != nil {
		res.code = cmd.ProcessState.ExitCode()
	}
	count(&res, filepath.Join(dir, "out"), want())
	os.RemoveAll(dir)
	return res
}

// count reads all files below dir.
func count(res *result, dir string, want []uint64) {
	var names []string
	filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Ext(name) != ".json" {
			names = append(names, name)
		}
		return nil
	})
	slices.Sort(names)
	seen := map[uint64]int{}
	for _, name := range names {
		for _, n := range numbers(name) {
			seen[n]++
		}
		res.parts++
		if exec.Command("ffmpeg", "-v", "error", "-xerror", "-i", name, "-map", "0:v", "-f", "null", "-").Run() != nil {
			res.broken++
		}
	}
	for _, n := range want {
		if seen[n] == 0 {
			res.missing++
		}
	}
	for _, n := range seen {
		res.twice += n - 1
	}
}

// numbers reads the pictures of a file. What our own reader cannot take is brought into plain TS first.
func numbers(name string) []uint64 {
	if r, err := probe.CheckFile(name); err == nil && len(r.Numbers) > 0 {
		return r.Numbers
	}
	plain := name + ".plain.ts"
	defer os.Remove(plain)
	if exec.Command("ffmpeg", "-v", "quiet", "-i", name, "-map", "0:v", "-c", "copy", "-f", "mpegts", plain).Run() != nil {
		return nil
	}
	r, err := probe.CheckFile(plain)
	if err != nil {
		return nil
	}
	return r.Numbers
}
