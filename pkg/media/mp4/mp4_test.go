package mp4_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
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
				if _, again := (&file{w: sc.Writer, b: f.b}).close(); !bytes.Equal(again, closed) {
					t.Errorf("%s: closed after the scan it is another file", state)
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
	step := 1
	if raceDetector {
		step = 5 // without it every byte is tried
	}
	for n := 0; n <= len(between); n += step {
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

// TestSoundOfAClockOfMillisecondsIsExact: AAC whose times were rounded to milliseconds lasts exactly 1024 samples each.
func TestSoundOfAClockOfMillisecondsIsExact(t *testing.T) {
	const n = 5000
	for name, c := range map[string]struct {
		track mp4.Track
		data  []byte
		frame int64
	}{
		"AAC 44.1 kHz":           {mp4.Track{Codec: media.AAC, Config: []byte{0x12, 0x10}}, []byte{1}, 1024},
		"AAC 44.1 kHz, 960":      {mp4.Track{Codec: media.AAC, Config: []byte{0x12, 0x14}}, []byte{1}, 960},
		"HE-AAC 22.05/44.1 kHz":  {mp4.Track{Codec: media.AAC, Config: []byte{0x2B, 0x92, 0x08, 0x00}}, []byte{1}, 2048},
		"Opus":                   {mp4.Track{Codec: media.Opus, Config: []byte{0, 2, 1, 56, 0, 0, 0xBB, 0x80, 0, 0, 0}}, []byte{0xFC, 0}, 960},
		"AC-3":                   {mp4.Track{Codec: media.AC3, Config: []byte{0x10, 0x11, 0x40}}, []byte{1}, 1536},
		"MP3":                    {mp4.Track{Codec: media.MP3, SampleRate: 44_100, Channels: 2}, []byte{0xFF, 0xFB, 0x90, 0}, 1152},
		"MP3 of MPEG-2":          {mp4.Track{Codec: media.MP3, SampleRate: 22_050, Channels: 2}, []byte{0xFF, 0xF3, 0x90, 0}, 576},
		"G.711":                  {mp4.Track{Codec: media.PCMA}, make([]byte, 8*33), 264},
		"E-AC-3 of three blocks": {mp4.Track{Codec: media.EAC3, Config: []byte{0, 0x20, 0x0F, 0, 0}, SampleRate: 48_000}, []byte{0x0B, 0x77, 0, 3, 0x24, 0x80, 0, 0}, 768},
	} {
		f := create(t, mp4.Config{Audio: &c.track})
		rate := int64(f.w.Config().Audio.SampleRate)
		for i := range int64(n) {
			ms := (i*c.frame*1000/rate + 7) // rounded down, with an offset
			f.add(t, mp4.Sample{Time: time.Duration(ms) * time.Millisecond, Lasts: 23 * time.Millisecond, Data: c.data})
		}
		f.flush()
		_, closed := f.close()
		in, err := mp4.Open(bytes.NewReader(closed), int64(len(closed)))
		if err != nil {
			t.Fatal(err)
		}
		i := int64(0)
		for s, err := range in.Samples() {
			if err != nil {
				t.Fatal(err)
			}
			if s.DTS != i*c.frame || s.Lasts != c.frame {
				t.Fatalf("%s: sample %d at %d lasts %d, want %d", name, i, s.DTS, s.Lasts, c.frame)
			}
			i++
		}
		if i != n {
			t.Errorf("%s: %d samples", name, i)
		}
	}
}

// TestSoundFollowsItsClock: a source that runs 0.1 % fast is not held at the nominal rate, and a hole stays a hole.
func TestSoundFollowsItsClock(t *testing.T) {
	f := create(t, mp4.Config{Audio: both().Audio})
	var want []time.Duration
	for i := range 3000 {
		at := time.Duration(i) * 1024 * time.Second / 48_000 * 1001 / 1000
		if i >= 1500 {
			at += 400 * time.Millisecond
		}
		want = append(want, at)
		f.add(t, mp4.Sample{Time: at, Data: []byte{1}})
	}
	f.flush()
	_, all := told(t, f.b, mp4.ScanConfig{})
	for i, s := range all {
		if d := (s.Time - want[i]).Abs(); d > 2*time.Millisecond+time.Second/48_000 {
			t.Fatalf("sample %d is %v away from its time", i, d)
		}
	}
}

func TestTimesAlwaysRise(t *testing.T) {
	f := create(t, both())
	for i, at := range []time.Duration{0, 0, 40, 20, 80, 80, 120, -50} {
		s := mp4.Sample{Video: true, Key: i == 0, Time: at * time.Millisecond, Data: []byte{byte(i)}}
		f.add(t, s)
		s.Video = false
		f.add(t, s)
	}
	f.flush()
	_, all := told(t, f.b, mp4.ScanConfig{})
	last := map[bool]time.Duration{true: -1, false: -1}
	for _, s := range all {
		if s.Time <= last[s.Video] {
			t.Errorf("%v behind %v", s.Time, last[s.Video])
		}
		last[s.Video] = s.Time
	}
	if len(all) != 16 {
		t.Errorf("%d samples", len(all))
	}
}

func TestAddRefuses(t *testing.T) {
	f := create(t, mp4.Config{Video: both().Video})
	ok := mp4.Sample{Video: true, Key: true, Data: []byte{1}}
	for name, s := range map[string]mp4.Sample{
		"no such track": {Data: []byte{1}},
		"empty":         {Video: true},
	} {
		if err := f.w.Add(s); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	f.add(t, ok)
	ok.Time = 100 * time.Hour
	if err := f.w.Add(ok); err == nil {
		t.Error("a gap of 100 hours is taken")
	}
	ok.Time = time.Second
	f.add(t, ok)
	f.flush()
	if n, _ := f.w.Frames(); n != 2 {
		t.Errorf("%d frames", n)
	}
	// A caller that never flushes.
	n := 0
	for {
		ok.Time += time.Millisecond
		if err := f.w.Add(ok); errors.Is(err, mp4.ErrFull) {
			break
		} else if err != nil || n > 1<<17 {
			t.Fatalf("%d samples: %v", n, err)
		}
		n++
	}
	f.flush()
	f.add(t, ok)
}

func TestNewWriterRefusesByName(t *testing.T) {
	for _, c := range []struct {
		track mp4.Track
		video bool
		name  string
	}{
		{mp4.Track{Codec: media.VP8}, true, "VP8"},
		{mp4.Track{Codec: media.VVC}, true, "VVC"},
		{mp4.Track{Codec: media.NoCodec}, true, "none"},
		{mp4.Track{Codec: media.AVC}, true, "H.264"},
		{mp4.Track{Codec: media.AVC, Config: avcC}, false, "H.264 as sound"},
		{mp4.Track{Codec: media.HEVC, Config: make([]byte, 22)}, true, "HEVC"},
		{mp4.Track{Codec: media.AV1, Config: make([]byte, 4)}, true, "AV1"},
		{mp4.Track{Codec: media.VP9, Config: make([]byte, 4)}, true, "VP9"},
		{mp4.Track{Codec: media.AVC, Config: avcC, Width: 70_000}, true, "H.264 of 70000"},
		{mp4.Track{Codec: media.AAC}, false, "AAC"},
		{mp4.Track{Codec: media.AAC, Config: asc}, true, "AAC as video"},
		{mp4.Track{Codec: media.Opus, Config: []byte{1}}, false, "Opus"},
		{mp4.Track{Codec: media.AC3}, false, "AC-3"},
		{mp4.Track{Codec: media.EAC3}, false, "E-AC-3"},
		{mp4.Track{Codec: media.FLAC, Config: make([]byte, 20)}, false, "FLAC"},
		{mp4.Track{Codec: media.MP3}, false, "MP3 without a sample rate"},
		{mp4.Track{Codec: media.OtherCodec}, false, "other"},
	} {
		cfg := mp4.Config{Audio: &c.track}
		if c.video {
			cfg = mp4.Config{Video: &c.track}
		}
		if _, err := mp4.NewWriter(cfg); !errors.Is(err, mp4.ErrUnsupported) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := mp4.NewWriter(mp4.Config{}); err == nil {
		t.Error("a file without tracks")
	}
}

// TestRecordsOfOtherShape: what other containers hold becomes what MP4 holds.
func TestRecordsOfOtherShape(t *testing.T) {
	info := append([]byte{0x10, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x0B, 0xB8, 0x02, 0xF0}, make([]byte, 20)...)
	block := append([]byte{0x80, 0, 0, 34}, info...)
	vp9 := []byte{0, 10, 0x82, 1, 1, 1, 0, 0}
	for name, c := range map[string]struct {
		track mp4.Track
		want  []byte
	}{
		"OpusHead":    {mp4.Track{Codec: media.Opus, Config: []byte("OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00")}, []byte{0, 2, 1, 0x38, 0, 0, 0xBB, 0x80, 0, 0, 0}},
		"fLaC":        {mp4.Track{Codec: media.FLAC, Config: append([]byte("fLaC"), block...)}, block},
		"dfLa":        {mp4.Track{Codec: media.FLAC, Config: append(make([]byte, 4), block...)}, block},
		"blocks":      {mp4.Track{Codec: media.FLAC, Config: block}, block},
		"STREAMINFO":  {mp4.Track{Codec: media.FLAC, Config: info}, block},
		"vpcC":        {mp4.Track{Codec: media.VP9, Config: append([]byte{1, 0, 0, 0}, vp9...)}, vp9},
		"vpcC record": {mp4.Track{Codec: media.VP9, Config: vp9}, vp9},
	} {
		cfg := mp4.Config{Audio: &c.track}
		if c.track.Codec == media.VP9 {
			cfg = mp4.Config{Video: &c.track}
		}
		w, err := mp4.NewWriter(cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		in, err := mp4.ParseInit(w.Head())
		if err != nil || in.Tracks[0].Refused != nil {
			t.Fatalf("%s: %v %v", name, err, in.Tracks[0].Refused)
		}
		if got := in.Tracks[0].Config; !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", name, got, c.want)
		}
		if name == "fLaC" && (in.Tracks[0].SampleRate != 48_000 || in.Tracks[0].Channels != 2) {
			t.Errorf("%s: %+v", name, in.Tracks[0].Track)
		}
	}
}

// sparse is a file that is mostly a hole.
type sparse struct {
	at    []int64
	parts [][]byte
	size  int64
}

func (s *sparse) put(at int64, b []byte) {
	s.at, s.parts = append(s.at, at), append(s.parts, slices.Clone(b))
	s.size = max(s.size, at+int64(len(b)))
}

func (s *sparse) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	for i, at := range s.at {
		if from, to := max(at, off), min(at+int64(len(s.parts[i])), off+int64(len(b))); from < to {
			copy(b[from-off:to-off], s.parts[i][from-at:])
		}
	}
	if off+int64(len(b)) > s.size {
		return int(max(s.size-off, 0)), io.EOF
	}
	return len(b), nil
}

// TestMoreThan4GiB has twelve fragments of 1 GB, of which only what tells of them is there.
func TestMoreThan4GiB(t *testing.T) {
	const size = 1_000_000_000
	w, err := mp4.NewWriter(mp4.Config{Video: both().Video})
	if err != nil {
		t.Fatal(err)
	}
	s := &sparse{}
	var offsets []int64
	for i := range 12 {
		sample := mp4.Sample{Video: true, Key: true, Time: time.Duration(i) * time.Second, Lasts: time.Second, Data: []byte{1}}
		if err := w.AddHollow(sample, size); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s.put(0, w.Head())
		}
		at := w.Written()
		s.put(at, w.FlushHollow(nil, size))
		offsets = append(offsets, s.size)
		s.size = w.Written()
	}
	known := mp4.ScanConfig{Known: mp4.Mark{Written: w.Written(), Frames: 12}}
	check := func(state string) {
		t.Helper()
		sc, err := mp4.Scan(s, s.size, known)
		if err != nil || sc.End != w.Written() || sc.Video.Frames != 12 || sc.Writer.Size() != w.Size() {
			t.Fatalf("%s: %v %+v", state, err, sc)
		}
		f, err := mp4.Open(s, s.size)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for x, err := range f.Samples() {
			if err != nil || x.Offset != offsets[i] || x.Size != size || x.DTS != int64(i)*90_000 {
				t.Fatalf("%s: sample %d is %+v (%v), want it at %d", state, i, x, err, offsets[i])
			}
			i++
		}
		if i != 12 {
			t.Errorf("%s: %d samples", state, i)
		}
	}
	check("open")
	want := w.Size()
	tail, at, patch := w.Close()
	s.put(s.size, tail)
	check("between")
	s.put(at, patch)
	check("closed")
	if s.size > want || s.size < want-100 {
		t.Errorf("%d bytes, Size said %d", s.size, want)
	}
}

func TestAllocsPerSample(t *testing.T) {
	w, err := mp4.NewWriter(both())
	if err != nil {
		t.Fatal(err)
	}
	var buf []byte
	data := make([]byte, 4000)
	i := 0
	step := func() {
		for range 13 {
			at := time.Duration(i) * 40 * time.Millisecond
			if w.Add(mp4.Sample{Video: true, Key: i%50 == 0, Time: at, Shift: 80 * time.Millisecond, Data: data}) != nil ||
				w.Add(mp4.Sample{Time: at, Data: data[:300]}) != nil {
				t.Error("not taken")
			}
			i++
		}
		w.Size()
		buf = w.Flush(buf[:0])
	}
	step()
	// 26 samples and a fragment each. What is left are the blocks of the table: two for 2048 samples of each track.
	if n := testing.AllocsPerRun(2000, step); n > 0.1 {
		t.Errorf("%v allocations for 26 samples", n)
	}
}

func TestSizeIsNeverTooSmall(t *testing.T) {
	in := live(5, 20*time.Second)
	for _, n := range []int{0, 1, 2, 3, 10, 50, 500, len(in)} {
		f := create(t, both())
		f.add(t, in[:n]...)
		said := f.w.Size()
		between, _ := f.close()
		if got := int64(len(between)); got > said || got < said-150-12*30 {
			t.Errorf("%d samples: %d bytes, Size said %d", n, got, said)
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	w, err := mp4.NewWriter(both())
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	video, audio := make([]byte, 20_000), make([]byte, 340) // 8 Mbit/s at 50 frames/s
	b.ReportAllocs()
	b.SetBytes(int64(25*len(video) + 24*len(audio)))
	i, j := 0, 0
	for b.Loop() {
		for range 25 {
			w.Add(mp4.Sample{Video: true, Key: i%100 == 0, Time: time.Duration(i) * 20 * time.Millisecond, Shift: 40 * time.Millisecond, Data: video})
			i++
		}
		for range 24 {
			w.Add(mp4.Sample{Time: time.Duration(j) * 1024 * time.Second / 48_000, Data: audio})
			j++
		}
		buf = w.Flush(buf[:0])
	}
}

func BenchmarkDemuxer(b *testing.B) {
	f := create(b, both())
	f.add(b, live(1, 10*time.Second)...)
	f.flush()
	in, err := mp4.ParseInit(f.b)
	if err != nil {
		b.Fatal(err)
	}
	d := mp4.NewDemuxer(in)
	b.ReportAllocs()
	b.SetBytes(int64(len(f.b)))
	for b.Loop() {
		n := 0
		for _, err := range d.Samples(f.b) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
}

// BenchmarkScan finds three hours again whose content is known up to the end.
func BenchmarkScan(b *testing.B) {
	f := create(b, both())
	data := make([]byte, 100)
	j := 0
	for i := range 3 * 3600 * 25 {
		at := time.Duration(i) * 40 * time.Millisecond
		f.w.Add(mp4.Sample{Video: true, Key: i%50 == 0, Time: at, Shift: 80 * time.Millisecond, Data: data[:50+i%50]})
		for ; time.Duration(j)*1024*time.Second/48_000 < at; j++ {
			f.w.Add(mp4.Sample{Time: time.Duration(j) * 1024 * time.Second / 48_000, Data: data[:20+i%9]})
		}
		if _, d := f.w.Pending(); d >= 500*time.Millisecond {
			f.flush()
		}
	}
	f.flush()
	b.ReportAllocs()
	for b.Loop() {
		sc, err := mp4.Scan(bytes.NewReader(f.b), int64(len(f.b)), mp4.ScanConfig{Known: f.w.Mark()})
		if err != nil || sc.Writer.Mark() != f.w.Mark() {
			b.Fatal(err, sc)
		}
	}
}
