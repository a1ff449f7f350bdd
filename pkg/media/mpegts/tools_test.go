package mpegts_test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// tool finds an optional program. LIVEREC_NEED_TOOLS=1 makes it a duty.
func tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("LIVEREC_NEED_TOOLS") == "1" {
			t.Fatalf("%s is needed: %v", name, err)
		}
		t.Skipf("no %s here", name)
	}
	return p
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return out.String()
}

// clip is an encoded file and the same remuxed to a transport stream.
type clip struct{ source, ts string }

// encoded is what encode has made: source and transport stream by their arguments. Several tests want the same ones.
var encoded sync.Map

// encode makes a clip of what the arguments say. format is the container of the source.
func encode(t testing.TB, format string, args ...string) clip {
	t.Helper()
	dir := t.TempDir()
	c := clip{filepath.Join(dir, "a."+format), filepath.Join(dir, "a.ts")}
	key := format + " " + strings.Join(args, " ")
	if made, ok := encoded.Load(key); ok {
		for i, path := range [2]string{c.source, c.ts} {
			if err := os.WriteFile(path, made.([2][]byte)[i], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	run(t, "ffmpeg", slices.Concat([]string{"-v", "error"}, args, []string{c.source})...)
	c.ts = c.remux(t)
	encoded.Store(key, [2][]byte{read(t, c.source), read(t, c.ts)})
	return c
}

func (c clip) remux(t testing.TB, args ...string) string {
	path := filepath.Join(t.TempDir(), "b.ts")
	run(t, "ffmpeg", slices.Concat([]string{"-v", "error", "-i", c.source, "-map", "0", "-c", "copy"}, args, []string{path})...)
	return path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// packet is one of ffprobe's.
type packet struct {
	Stream   int
	PTS, DTS int64
	Key      bool
	Size     int
	Hash     string
}

// probe lists the packets of a file, by stream.
func probe(t testing.TB, path string) [][]packet {
	t.Helper()
	var v struct {
		Packets []struct {
			Stream int    `json:"stream_index"`
			PTS    int64  `json:"pts"`
			DTS    int64  `json:"dts"`
			Flags  string `json:"flags"`
			Size   string `json:"size"`
			Hash   string `json:"data_hash"`
		} `json:"packets"`
	}
	if err := json.Unmarshal([]byte(run(t, "ffprobe", "-v", "error", "-show_packets", "-show_data_hash", "MD5", "-of", "json", path)), &v); err != nil {
		t.Fatal(err)
	}
	var out [][]packet
	for _, p := range v.Packets {
		for len(out) <= p.Stream {
			out = append(out, nil)
		}
		size, _ := strconv.Atoi(p.Size)
		out[p.Stream] = append(out[p.Stream], packet{p.Stream, p.PTS, p.DTS, strings.HasPrefix(p.Flags, "K"), size, strings.TrimPrefix(p.Hash, "MD5:")})
	}
	return out
}

func hash(b []byte) string {
	s := md5.Sum(b)
	return hex.EncodeToString(s[:])
}

const (
	picture = "testsrc2=s=320x180:r=30"
	tone    = "sine=frequency=440:sample_rate=48000"
)

func lavfi(seconds string, sources ...string) []string {
	var a []string
	for _, s := range sources {
		a = append(a, "-f", "lavfi", "-i", s)
	}
	return append(a, "-t", seconds)
}

// x264 and x265 as fast as they go.
var (
	h264 = []string{"-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "30"}
	h265 = []string{"-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:info=0:keyint=30:bframes=2:open-gop=0", "-tag:v", "hvc1"}
)
