package mp4_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/mp4"
)

var (
	avcC = []byte{1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0, 4, 0x67, 0x64, 0, 0x1F, 1, 0, 2, 0x68, 0xEE}
	asc  = []byte{0x11, 0x90} // AAC-LC, 48 kHz, stereo
)

func both() mp4.Config {
	return mp4.Config{Video: &mp4.Track{Codec: media.AVC, Config: avcC, Width: 320, Height: 180}, Audio: &mp4.Track{Codec: media.AAC, Config: asc}}
}

// live makes samples as a source with two B frames sends them: pictures of 40 ms with a key each 12, AAC of 48 kHz.
func live(seed uint64, d time.Duration) []mp4.Sample {
	r := rand.New(rand.NewPCG(seed, 1))
	data := func(n int) []byte {
		b := make([]byte, 1+r.IntN(n))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	var s []mp4.Sample
	order := []time.Duration{2, 4, 1, 1} // of the frame's place in a group, in frames
	for i := 0; ; i++ {
		t := time.Duration(i) * 40 * time.Millisecond
		if t >= d {
			break
		}
		s = append(s, mp4.Sample{Video: true, Key: i%12 == 0, Time: t, Shift: order[i%4] * 40 * time.Millisecond, Lasts: 40 * time.Millisecond, Data: data(300)})
	}
	for i := 0; ; i++ {
		t := 80*time.Millisecond + time.Duration(i)*1024*time.Second/48_000
		if t >= d {
			break
		}
		s = append(s, mp4.Sample{Time: t, Lasts: 21 * time.Millisecond, Data: data(60)})
	}
	slices.SortStableFunc(s, func(a, b mp4.Sample) int { return int(a.Time - b.Time) })
	return s
}

// file is a recording in memory, as a recorder would write it.
type file struct {
	w *mp4.Writer
	b []byte
}

func create(t testing.TB, cfg mp4.Config) *file {
	t.Helper()
	w, err := mp4.NewWriter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &file{w: w}
}

func (f *file) add(t testing.TB, s ...mp4.Sample) {
	t.Helper()
	for _, x := range s {
		if err := f.w.Add(x); err != nil {
			t.Fatal(err)
		}
		if _, d := f.w.Pending(); d >= 200*time.Millisecond {
			f.flush()
		}
	}
}

func (f *file) flush() {
	if len(f.b) == 0 {
		f.b = append(f.b, f.w.Head()...)
	}
	f.b = f.w.Flush(f.b)
}

func (f *file) close() (between, closed []byte) {
	if len(f.b) == 0 {
		f.b = append(f.b, f.w.Head()...)
	}
	tail, at, patch := f.w.Close()
	between = slices.Concat(f.b, tail)
	closed = slices.Clone(between)
	copy(closed[at:], patch)
	return between, closed
}

func sum(video bool, b []byte) uint64 {
	kind := byte(8)
	if video {
		kind = 9
	}
	return xxhash.Sum64(append([]byte{kind}, b...))
}

// told is everything that a Scan says of a file.
func told(t testing.TB, b []byte, cfg mp4.ScanConfig) (*mp4.Scanned, []mp4.ScannedSample) {
	t.Helper()
	var all []mp4.ScannedSample
	cfg.Last = 1 << 62
	cfg.Sample = func(s mp4.ScannedSample) error {
		all = append(all, s)
		return nil
	}
	sc, err := mp4.Scan(bytes.NewReader(b), int64(len(b)), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return sc, all
}

func TestScanTellsWhatWasAdded(t *testing.T) {
	for name, cut := range map[string]func([]mp4.Sample) []mp4.Sample{
		"both": func(s []mp4.Sample) []mp4.Sample { return s },
		"sound first": func(s []mp4.Sample) []mp4.Sample {
			return slices.DeleteFunc(s, func(x mp4.Sample) bool { return x.Video && x.Time < 480*time.Millisecond })
		},
		"sound late": func(s []mp4.Sample) []mp4.Sample {
			return slices.DeleteFunc(s, func(x mp4.Sample) bool { return !x.Video && x.Time < time.Second })
		},
		"later": func(s []mp4.Sample) []mp4.Sample {
			for i := range s {
				s[i].Time += time.Hour
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := cut(live(1, 3*time.Second))
			f := create(t, both())
			f.add(t, in...)
			f.flush()
			video, audio := f.w.Frames()
			content, mark := f.w.Content(), f.w.Mark()
			between, closed := f.close()
			for state, b := range map[string][]byte{"open": f.b, "between": between, "closed": closed} {
				sc, all := told(t, b, mp4.ScanConfig{})
				if sc.End != int64(len(f.b)) || sc.Video.Frames != video || sc.Audio.Frames != audio || sc.Writer.Content() != content ||
					sc.Closed != (state == "closed") || sc.Rewrite != sc.Closed || sc.Writer.Mark() != mark {
					t.Errorf("%s: %+v, content %x; want end %d, %d and %d frames, content %x", state, sc, sc.Writer.Content(), len(f.b), video, audio, content)
				}
				if d := cmp.Diff(sc.Config, f.w.Config()); d != "" {
					t.Errorf("%s: config %s", state, d)
				}
				if !bytes.Equal(sc.Writer.Head(), f.b[:f.w.HeadLen()]) {
					t.Errorf("%s: another head", state)
				}
				var chain uint64
				for i, s := range all {
					chain = media.Chain(chain, uint64(i+1), s.Sum)
				}
				if chain != content {
					t.Errorf("%s: the samples chain to %x, not %x", state, chain, content)
				}
				slices.SortStableFunc(all, func(a, b mp4.ScannedSample) int { return int(a.Time - b.Time) })
				for i, s := range all {
					w := in[i]
					got := mp4.ScannedSample{Video: w.Video, Key: w.Key || !w.Video, Time: s.Time, Shift: w.Shift, Offset: s.Offset, Size: len(w.Data), Sum: sum(w.Video, w.Data)}
					if s != got || (s.Time-w.Time).Abs() > 1 || !bytes.Equal(b[s.Offset:s.Offset+int64(s.Size)], w.Data) {
						t.Fatalf("%s: sample %d is %+v, want %+v at %v", state, i, s, got, w.Time)
					}
				}
			}
		})
	}
}

// TestScanGoesOnFromEveryByte cuts a file at each byte, goes on and closes: the same media as without the accident.
func TestScanGoesOnFromEveryByte(t *testing.T) {
	in := live(2, 900*time.Millisecond)
	f := create(t, both())
	f.add(t, in...)
	f.flush()
	head := f.w.Head()
	between, closed := f.close()
	_, want := told(t, closed, mp4.ScanConfig{})

	goOn := func(t *testing.T, b []byte) {
		sc, had := told(t, b, mp4.ScanConfig{Head: head})
		g := &file{w: sc.Writer, b: slices.Concat(b, make([]byte, len(head)))[:sc.End]}
		if sc.Rewrite {
			copy(g.b, sc.Writer.Head())
		}
		rest := slices.Clone(in)
		for _, h := range had { // what is there already
			i := slices.IndexFunc(rest, func(s mp4.Sample) bool { return s.Video == h.Video && sum(s.Video, s.Data) == h.Sum })
			rest = slices.Delete(rest, i, i+1)
		}
		g.add(t, rest...)
		g.flush()
		_, end := g.close()
		if !bytes.Equal(end, closed) {
			_, got := told(t, end, mp4.ScanConfig{})
			if d := cmp.Diff(want, got); d != "" {
				t.Fatal(d)
			}
			t.Fatal("the same samples, but other bytes")
		}
	}
	for n := range len(between) + 1 {
		goOn(t, between[:n])
	}
	goOn(t, closed)
	// The patch itself can be torn, and the file longer or shorter than it says.
	for n := range 17 {
		b := slices.Clone(between)
		at := int(binary.BigEndian.Uint32(b))
		copy(b[at:at+n], closed[at:])
		goOn(t, b)
		goOn(t, b[:len(f.b)])
		goOn(t, b[:len(f.b)-1])
	}
	// What a power failure leaves behind.
	goOn(t, append(slices.Clone(f.b), make([]byte, 5000)...))
	moof := bytes.LastIndex(f.b, []byte("moof"))
	for n := range 200 {
		goOn(t, append(slices.Clone(f.b[:moof+n]), make([]byte, 5000)...))
	}
}

func TestScanWithoutAHead(t *testing.T) {
	f := create(t, both())
	f.add(t, live(3, 2*time.Second)...)
	f.flush()
	_, want := told(t, f.b, mp4.ScanConfig{})
	head := f.w.HeadLen()
	b := slices.Clone(f.b)
	clear(b[:head])
	for _, x := range [][]byte{b, b[:head], b[:40], nil} {
		if _, err := mp4.Scan(bytes.NewReader(x), int64(len(x)), mp4.ScanConfig{}); err == nil {
			t.Fatalf("%d bytes of nothing are a file", len(x))
		}
	}
	cfg := both()
	for name, c := range map[string]mp4.ScanConfig{"head": {Head: f.w.Head()}, "config": {Config: &cfg}} {
		sc, got := told(t, b, c)
		if d := cmp.Diff(want, got); d != "" || !sc.Rewrite || sc.End != int64(len(b)) {
			t.Errorf("%s: %+v %s", name, sc, d)
		}
		if !bytes.Equal(sc.Writer.Head(), f.w.Head()) {
			t.Errorf("%s: another head", name)
		}
		if sc, _ = told(t, b[:40], c); sc.End != head || !bytes.Equal(sc.Writer.Head()[:40], f.w.Head()[:40]) {
			t.Errorf("%s: nothing but a piece of a head ends at %d, not %d", name, sc.End, head)
		}
	}
}

// counting counts the bytes that are read.
type counting struct {
	*bytes.Reader
	n int64
}

func (c *counting) ReadAt(b []byte, at int64) (int, error) {
	n, err := c.Reader.ReadAt(b, at)
	c.n += int64(n)
	return n, err
}

func TestScanReadsNoMoreThanItMust(t *testing.T) {
	f := create(t, mp4.Config{Video: both().Video})
	var mark mp4.Mark
	big := make([]byte, 50_000)
	for i := range 5000 {
		f.add(t, mp4.Sample{Video: true, Key: i%50 == 0, Time: time.Duration(i) * 40 * time.Millisecond, Lasts: 40 * time.Millisecond, Data: big[:len(big)-i]})
		if i == 4900 {
			f.flush()
			mark = f.w.Mark()
		}
	}
	f.flush()
	for name, c := range map[string]struct {
		cfg     mp4.ScanConfig
		most    int64
		samples int
	}{
		"everything":     {mp4.ScanConfig{}, int64(len(f.b)) * 21 / 20, 0},
		"from a mark":    {mp4.ScanConfig{Known: mark}, 11 << 20, 0},
		"a foreign mark": {mp4.ScanConfig{Known: mp4.Mark{Written: mark.Written, Frames: mark.Frames + 1}}, int64(len(f.b)) * 21 / 20, 0},
		"the tail":       {mp4.ScanConfig{Known: mark, Last: 10 * time.Second}, 19 << 20, 251},
		"from the mark":  {mp4.ScanConfig{Known: mark, From: mark.Written}, 11 << 20, 99},
	} {
		r, n := &counting{Reader: bytes.NewReader(f.b)}, 0
		if c.samples > 0 {
			c.cfg.Sample = func(mp4.ScannedSample) error { n++; return nil }
		}
		sc, err := mp4.Scan(r, int64(len(f.b)), c.cfg)
		if err != nil || sc.Writer.Mark() != f.w.Mark() {
			t.Fatalf("%s: %v, %+v, want %+v", name, err, sc.Writer.Mark(), f.w.Mark())
		}
		if r.n > c.most || n != c.samples {
			t.Errorf("%s: %d of %d bytes were read, at most %d expected; %d samples, want %d", name, r.n, len(f.b), c.most, n, c.samples)
		}
	}
}
