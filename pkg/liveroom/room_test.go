package liveroom_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
)

// pipes is a listener made of net.Pipe, for synctest bubbles.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type flvTag struct {
	typ     byte
	ts      int32
	body    []byte
	at      time.Time
	trailer uint32
}

// got is what a client saw on one connection.
type got struct {
	status  int
	header  http.Header
	tags    []flvTag
	heads   int
	rest    []byte // what was no whole tag at the end
	err     error  // nil: clean end
	raw     int64
	started time.Time
}

func (g got) frames() (out []uint64) {
	for _, t := range g.tags {
		if n, ok := liveroom.FrameNumber(t.body); ok {
			out = append(out, n)
		}
	}
	return out
}

// read reads a stream to its end or until enough says so.
func read(t *testing.T, client *http.Client, enough func(got) bool) got {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:1/live.flv", nil)
	if err != nil {
		t.Fatal(err)
	}
	g := got{started: time.Now()}
	res, err := client.Do(req)
	if err != nil {
		g.err = err
		return g
	}
	defer res.Body.Close()
	g.status, g.header = res.StatusCode, res.Header
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "video/x-flv" {
		g.rest, g.err = io.ReadAll(res.Body)
		return g
	}
	buf := make([]byte, 64<<10)
	for enough == nil || !enough(g) {
		n, err := res.Body.Read(buf)
		g.raw += int64(n)
		g.rest = append(g.rest, buf[:n]...)
		g.parse()
		if err != nil {
			if err != io.EOF {
				g.err = err
			}
			break
		}
	}
	return g
}

func (g *got) parse() {
	for {
		b := g.rest
		if bytes.HasPrefix(b, []byte("FLV\x01")) && len(b) >= 13 {
			g.heads++
			g.rest = b[13:]
			continue
		}
		if len(b) < 15 || (b[0] != 8 && b[0] != 9 && b[0] != 18) {
			return
		}
		n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		if len(b) < 15+n {
			return
		}
		ts := int32(uint32(b[7])<<24 | uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6]))
		g.tags = append(g.tags, flvTag{b[0], ts, bytes.Clone(b[11 : 11+n]), time.Now(), binary.BigEndian.Uint32(b[11+n:])})
		g.rest = b[15+n:]
	}
}

func frames(n int) func(got) bool { return func(g got) bool { return len(g.frames()) >= n } }

// bubble runs f with a live room in virtual time.
func bubble(t *testing.T, cfg liveroom.Config, f func(*testing.T, *liveroom.Room, *http.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		room, err := liveroom.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := newPipes()
		srv := room.Serve(p)
		tr := &http.Transport{DialContext: p.dial, DisableKeepAlives: true}
		room.Start(t.Context())
		f(t, room, &http.Client{Transport: tr})
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		tr.CloseIdleConnections()
	})
}

func TestStreamIsWholeAndNumbered(t *testing.T) {
	bubble(t, liveroom.Config{Duration: 20 * time.Second, First: 1000}, func(t *testing.T, room *liveroom.Room, c *http.Client) {
		g := read(t, c, nil)
		if g.err != nil || len(g.rest) != 0 || g.heads != 1 {
			t.Fatalf("end %v, rest %d bytes, %d heads", g.err, len(g.rest), g.heads)
		}
		if took := time.Since(g.started); took < 19900*time.Millisecond || took > 20100*time.Millisecond {
			t.Errorf("20 s of media took %v", took)
		}
		if g.tags[0].typ != 18 || g.tags[1].body[1] != 0 || g.tags[2].body[1] != 0 {
			t.Error("does not begin with metadata and both headers")
		}
		seen := map[string]bool{}
		last := map[byte]int32{8: -1, 9: -1}
		var audio int
		for i, tag := range g.tags[3:] {
			if tag.ts <= last[tag.typ] {
				t.Fatalf("tag %d: timestamp %d after %d", i, tag.ts, last[tag.typ])
			}
			last[tag.typ] = tag.ts
			if int(tag.trailer) != 11+len(tag.body) {
				t.Fatalf("tag %d: previous tag size %d", i, tag.trailer)
			}
			if tag.typ == 8 {
				audio++
			} else if seen[string(tag.body)] {
				t.Fatalf("tag %d: the same picture again", i)
			}
			seen[string(tag.body)] = true
			if at, ok := liveroom.FrameTime(tag.body); ok && tag.at.Sub(at) > 100*time.Millisecond {
				t.Fatalf("picture is %v old", tag.at.Sub(at))
			}
		}
		f := g.frames()
		if len(f) != 600 || f[0] != 1000 || f[599] != 1599 || audio != 938 {
			t.Errorf("%d pictures from %d to %d, %d audio frames", len(f), f[0], f[len(f)-1], audio)
		}
		sent := room.Connections()[0]
		if len(sent.Frames) != 600 || sent.Frames[0].Number != 1000 || sent.Tags != 1538 || sent.Why != "the broadcast is over" || sent.Bytes != g.raw {
			t.Errorf("the room remembers %d pictures, %d tags, %d of %d bytes, %q", len(sent.Frames), sent.Tags, sent.Bytes, g.raw, sent.Why)
		}
		if g := read(t, c, nil); g.status != http.StatusNotFound {
			t.Errorf("after the end: %d", g.status)
		}
		if room.Refused() != 1 || room.Live() {
			t.Errorf("refused %d, live %v", room.Refused(), room.Live())
		}
		room.Start(t.Context())
		if g := read(t, c, nil); g.err != nil || g.frames()[0] != 1600 || g.tags[3].ts != 0 {
			t.Errorf("second broadcast: %v, from %d at %d ms", g.err, g.frames()[0], g.tags[3].ts)
		}
	})
}

func TestNewConnectionBeginsWithTheNewestKeyFrame(t *testing.T) {
	bubble(t, liveroom.Config{}, func(t *testing.T, room *liveroom.Room, c *http.Client) {
		time.Sleep(7 * time.Second)
		g := read(t, c, frames(40))
		if f := g.frames(); f[0] != 180 || g.tags[3].body[0] != 0x17 || g.tags[3].ts != 6000 {
			t.Errorf("begins with picture %d at %d ms", f[0], g.tags[3].ts)
		}
		if burst := g.tags[3+30].at.Sub(g.started); burst != 0 {
			t.Errorf("the GOP cache took %v", burst)
		}
	})
}

func TestBitrateAndSpeed(t *testing.T) {
	for _, rate := range []int64{0, 2_000_000, 8_190_000} {
		var b bytes.Buffer
		n, err := liveroom.Write(&b, liveroom.Config{Bitrate: rate}, 16*time.Second)
		if err != nil || n != int64(b.Len()) {
			t.Fatal(n, err)
		}
		got := float64(n) * 8 / 16
		if rate > 0 && (got < 0.995*float64(rate) || got > 1.005*float64(rate)) {
			t.Errorf("bit rate %.0f, wanted %d", got, rate)
		}
		g := got2(b.Bytes())
		if f := g.frames(); len(f) != 480 || f[479] != 479 || len(g.rest) != 0 {
			t.Errorf("%d pictures", len(f))
		}
	}
	bubble(t, liveroom.Config{Speed: 8, Duration: 40 * time.Second}, func(t *testing.T, _ *liveroom.Room, c *http.Client) {
		g := read(t, c, nil)
		if took := time.Since(g.started); took < 4900*time.Millisecond || took > 5100*time.Millisecond || len(g.frames()) != 1200 {
			t.Errorf("40 s at eightfold speed took %v, %d pictures", took, len(g.frames()))
		}
	})
}

func got2(b []byte) got {
	g := got{rest: b}
	g.parse()
	return g
}

func TestFaults(t *testing.T) {
	const over = "the broadcast is over"
	tests := []struct {
		name  string
		fault liveroom.Fault
		check func(g got, sent liveroom.Connection) error
	}{
		{"cut at a byte", liveroom.Fault{CutBytes: 12345}, func(g got, sent liveroom.Connection) error {
			if g.raw != 12345 || g.err == nil || sent.Bytes != 12345 || len(sent.Frames) != len(g.frames()) {
				return fmt.Errorf("%d bytes, end %v, %d of %d pictures", g.raw, g.err, len(g.frames()), len(sent.Frames))
			}
			return nil
		}},
		{"cut after tags", liveroom.Fault{Events: []liveroom.Event{{Tags: 100, End: liveroom.Broken}}}, func(g got, sent liveroom.Connection) error {
			if len(g.tags) != 103 || g.err == nil || len(g.rest) != 0 || sent.Tags != 100 {
				return fmt.Errorf("%d tags, end %v", len(g.tags), g.err)
			}
			return nil
		}},
		{"clean end after tags", liveroom.Fault{Events: []liveroom.Event{{Tags: 100, End: liveroom.Clean}}}, func(g got, _ liveroom.Connection) error {
			if len(g.tags) != 103 || g.err != nil {
				return fmt.Errorf("%d tags, end %v", len(g.tags), g.err)
			}
			return nil
		}},
		{"half a tag", liveroom.Fault{Events: []liveroom.Event{{Tags: 10, Half: 100, End: liveroom.Clean}}}, func(g got, sent liveroom.Connection) error {
			if len(g.tags) != 13 || len(g.rest) != 100 || g.err != nil || sent.Tags != 10 {
				return fmt.Errorf("%d tags, %d bytes more, end %v", len(g.tags), len(g.rest), g.err)
			}
			return nil
		}},
		{"status", liveroom.Fault{Status: 503, RetryAfter: 7 * time.Second}, func(g got, sent liveroom.Connection) error {
			if g.status != 503 || g.header.Get("Retry-After") != "7" || sent.Status != 503 {
				return fmt.Errorf("status %d, %v", g.status, g.header)
			}
			return nil
		}},
		{"html", liveroom.Fault{Body: []byte("<html>")}, func(g got, _ liveroom.Connection) error {
			if string(g.rest) != "<html>" || g.status != 200 {
				return fmt.Errorf("%d %q", g.status, g.rest)
			}
			return nil
		}},
		{"junk, second head, headers", liveroom.Fault{Events: []liveroom.Event{{Tags: 10, Header: true}, {Tags: 10, Headers: true}, {Tags: 10, Junk: []byte("<junk>")}}}, func(g got, _ liveroom.Connection) error {
			if g.heads != 2 || len(g.tags) != 3+10+3+10+2+10 || !bytes.HasPrefix(g.rest, []byte("<junk>")) {
				return fmt.Errorf("%d heads, %d tags, then %.10q", g.heads, len(g.tags), g.rest)
			}
			return nil
		}},
		{"jumps", liveroom.Fault{Rebase: true, Events: []liveroom.Event{{Tags: 10, Jump: time.Hour}, {Tags: 10, Jump: -2 * time.Hour}}}, func(g got, _ liveroom.Connection) error {
			a, b, c := g.tags[3].ts, g.tags[13].ts, g.tags[23].ts
			if a != 0 || b < 3600000 || b > 3601000 || c > -3590000 || len(g.frames()) != 300 {
				return fmt.Errorf("timestamps %d, %d, %d", a, b, c)
			}
			return nil
		}},
		{"hole", liveroom.Fault{Events: []liveroom.Event{{Tags: 100, Skip: 3 * time.Second}}}, func(g got, sent liveroom.Connection) error {
			f := g.frames()
			if f[0] != 0 || f[len(f)-1] != 299 || len(f) != 300-(180-39) || len(f) != len(sent.Frames) {
				return fmt.Errorf("%d pictures, %v", len(f), f)
			}
			return nil
		}},
		{"stall", liveroom.Fault{Events: []liveroom.Event{{Tags: 100, Stall: 5 * time.Second}}}, func(g got, _ liveroom.Connection) error {
			if pause := g.tags[103].at.Sub(g.tags[102].at); pause < 5*time.Second || len(g.frames()) != 300 {
				return fmt.Errorf("pause of %v, %d pictures", pause, len(g.frames()))
			}
			return nil
		}},
		{"no key frames, no audio", liveroom.Fault{NoKeys: true, NoAudio: true, NoScript: true, NoTrailers: true}, func(g got, _ liveroom.Connection) error {
			if len(g.frames()) != 295 || len(g.tags) != 296 || g.tags[0].trailer != 0 {
				return fmt.Errorf("%d pictures in %d tags", len(g.frames()), len(g.tags))
			}
			return nil
		}},
		{"no video", liveroom.Fault{NoVideo: true}, func(g got, _ liveroom.Connection) error {
			if len(g.frames()) != 0 || len(g.tags) != 2+469 {
				return fmt.Errorf("%d tags", len(g.tags))
			}
			return nil
		}},
		{"every 50 tags the headers", liveroom.Fault{Events: []liveroom.Event{{Tags: 50, Again: true, Headers: true}}}, func(g got, sent liveroom.Connection) error {
			if len(g.tags) != 3+sent.Tags+2*(sent.Tags/50) {
				return fmt.Errorf("%d tags for %d of media", len(g.tags), sent.Tags)
			}
			return nil
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := liveroom.Config{Duration: 10 * time.Second, Fault: func(int) liveroom.Fault { return test.fault }}
			bubble(t, cfg, func(t *testing.T, room *liveroom.Room, c *http.Client) {
				g := read(t, c, nil)
				synctest.Wait()
				if err := test.check(g, room.Connections()[0]); err != nil {
					t.Error(err)
				}
				if why := room.Connections()[0].Why; g.err == nil && why != over && !strings.Contains(why, "fault") && !strings.Contains(why, "answered") {
					t.Error("the room says:", why)
				}
			})
		})
	}
}

func TestSilenceAndLoop(t *testing.T) {
	faults := []liveroom.Fault{
		{Silent: true}, {Mute: true},
		{Events: []liveroom.Event{{Tags: 800, Loop: 4 * time.Second}}},
	}
	bubble(t, liveroom.Config{Fault: func(n int) liveroom.Fault { return faults[n] }}, func(t *testing.T, room *liveroom.Room, c *http.Client) {
		c.Timeout = time.Minute
		if g := read(t, c, nil); g.status != 200 || g.raw != 0 || g.err == nil {
			t.Errorf("silent: %d, %d bytes, %v", g.status, g.raw, g.err)
		}
		if g := read(t, c, nil); g.status != 0 || !errors.Is(g.err, context.DeadlineExceeded) {
			t.Errorf("mute: %d, %v", g.status, g.err)
		}
		c.Timeout = 0
		g := read(t, c, frames(1200))
		f := g.frames()
		count := map[uint64]int{}
		for _, n := range f {
			count[n]++
		}
		var most int
		for _, n := range count {
			most = max(most, n)
		}
		if len(count) > 500 || most < 5 {
			t.Errorf("%d pictures, %d different, one %d times", len(f), len(count), most)
		}
		var last int32 = -1
		for _, tag := range g.tags[3:] {
			if tag.ts < last {
				t.Fatal("the loop goes back in time")
			}
			last = tag.ts
		}
		if took := time.Since(g.started); took < 35*time.Second {
			t.Errorf("1200 pictures took %v", took)
		}
	})
}

func TestChangeOfClipComesAtAKeyFrame(t *testing.T) {
	cfg := liveroom.Config{Duration: 12 * time.Second, Changes: []time.Duration{3 * time.Second, 9 * time.Second}, Base: -time.Second}
	bubble(t, cfg, func(t *testing.T, room *liveroom.Room, c *http.Client) {
		g := read(t, c, nil)
		var at []int32
		for i, tag := range g.tags[:len(g.tags)-2] {
			if tag.typ == 9 && tag.body[1] == 0 {
				at = append(at, tag.ts)
				if k := g.tags[i+2]; k.typ != 9 || k.body[0] != 0x17 || k.body[1] != 1 {
					t.Error("no key frame behind the headers")
				}
			}
		}
		if fmt.Sprint(at) != "[-1000 3000 9000]" || len(g.frames()) != 360 {
			t.Errorf("headers at %v, %d pictures", at, len(g.frames()))
		}
	})
}

func TestSlowClientLosesGOPsAndNothingElseStops(t *testing.T) {
	cfg := liveroom.Config{Backlog: 5 * time.Second, Fault: func(n int) liveroom.Fault {
		if n == 0 {
			return liveroom.Fault{Events: []liveroom.Event{{Tags: 10, Stall: 60 * time.Second}}}
		}
		return liveroom.Fault{}
	}}
	bubble(t, cfg, func(t *testing.T, room *liveroom.Room, c *http.Client) {
		g := read(t, c, frames(100))
		if c := room.Connections()[0]; c.Dropped == 0 {
			t.Error("nothing was dropped")
		}
		f := g.frames()
		hole := 0
		for i := 1; i < len(f); i++ {
			if f[i] != f[i-1]+1 {
				hole++
			}
		}
		if hole != 1 {
			t.Errorf("%d holes", hole)
		}
		if room.Next() < 1800 {
			t.Errorf("the room is at %d", room.Next())
		}
	})
}

func TestRealSocket(t *testing.T) {
	room, err := liveroom.New(liveroom.Config{Speed: 20, Duration: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := room.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	room.Start(t.Context())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got2(b).frames()); n != 300 {
		t.Errorf("%d pictures", n)
	}
}

// Decoders must find nothing wrong with the numbered stream.
func TestDecodes(t *testing.T) {
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		if os.Getenv("LIVEREC_NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip("no ffmpeg")
	}
	file := filepath.Join(t.TempDir(), "a.flv")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := liveroom.Write(f, liveroom.Config{Bitrate: 1_000_000}, 17*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), ffmpeg, "-v", "error", "-xerror", "-i", file, "-f", "null", "-").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

func FuzzFrameNumber(f *testing.F) {
	var b bytes.Buffer
	if _, err := liveroom.Write(&b, liveroom.Config{}, 300*time.Millisecond); err != nil {
		f.Fatal(err)
	}
	for _, t := range got2(b.Bytes()).tags {
		f.Add(t.body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		liveroom.FrameNumber(body)
		liveroom.FrameTime(body)
	})
}
