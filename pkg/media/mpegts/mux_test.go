package mpegts_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/mpegts"
)

// samples are the units of a stream as a recorder hands them on, the first picture at 0, and what a Muxer must know.
func samples(units []mpegts.Unit) (mpegts.Config, []mpegts.Sample) {
	var cfg mpegts.Config
	base := int64(-1)
	for _, u := range units {
		if u.Config != nil {
			t := &mpegts.Track{Codec: u.Codec, Config: u.Config}
			if u.Video {
				cfg.Video = t
			} else {
				cfg.Audio = t
			}
		}
		if base < 0 || u.DTS < base {
			base = u.DTS
		}
	}
	var out []mpegts.Sample
	for _, u := range units {
		out = append(out, mpegts.Sample{Video: u.Video, Key: u.Key, Time: duration(u.DTS - base), Shift: duration(u.PTS - u.DTS), Data: u.Data})
	}
	slices.SortStableFunc(out, func(a, b mpegts.Sample) int { return int(a.Time - b.Time) })
	return cfg, out
}

func duration(ticks int64) time.Duration { return time.Duration(ticks) * time.Second / 90000 }

// mux writes samples, with a flush after every so many.
func mux(t testing.TB, cfg mpegts.Config, in []mpegts.Sample, every int) (file []byte, m *mpegts.Muxer, flushed []int) {
	t.Helper()
	m, err := mpegts.NewMuxer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	file = m.Head()
	for i, s := range in {
		if err := m.Add(s); err != nil {
			t.Fatalf("sample %d: %v", i, err)
		}
		if i%every == every-1 || i == len(in)-1 {
			size := m.Size()
			before := len(file)
			file = m.Flush(file)
			if size < int64(len(file)) || len(file)%188 != 0 || m.Written() != int64(len(file)) || len(file) == before {
				t.Fatalf("size %d was told, %d are written, %d are there", size, m.Written(), len(file))
			}
			flushed = append(flushed, len(file))
		}
	}
	if n, d := m.Pending(); n != 0 || d != 0 {
		t.Fatalf("%d bytes, %v are left", n, d)
	}
	return file, m, flushed
}

func sumOf(s mpegts.Sample) uint64 {
	if s.Video {
		return xxhash.Sum64(append([]byte{9}, s.Data...))
	}
	return xxhash.Sum64(append([]byte{8}, s.Data...))
}

type scanned struct {
	samples []mpegts.Sample
	sums    []uint64
	content uint64
}

func scan(t testing.TB, file []byte, cfg mpegts.Config) (*mpegts.Scanned, scanned) {
	t.Helper()
	var k scanned
	last := int64(0)
	s, err := mpegts.Scan(bytes.NewReader(file), int64(len(file)), mpegts.ScanConfig{Config: cfg, Sample: func(s mpegts.Sample, at int64, sum uint64) {
		if at < last || at%188 != 0 {
			t.Fatalf("a sample at %d behind one at %d", at, last)
		}
		last = at
		s.Data = bytes.Clone(s.Data)
		k.samples, k.sums = append(k.samples, s), append(k.sums, sum)
		k.content = media.Chain(k.content, uint64(len(k.sums)), sum)
		if sum != sumOf(s) {
			t.Fatalf("sample %d: its sum is not that of its data", len(k.sums))
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s, k
}

// byTrack sorts what a file gives in its own order.
func byTrack(in []mpegts.Sample) []mpegts.Sample {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b mpegts.Sample) int {
		switch {
		case a.Video != b.Video && a.Video:
			return -1
		case a.Video != b.Video:
			return 1
		}
		return int(a.Time - b.Time)
	})
	return out
}

func sameSamples(t testing.TB, got, want []mpegts.Sample) {
	t.Helper()
	got, want = byTrack(got), byTrack(want)
	if len(got) != len(want) {
		for i := range min(len(got), len(want)) {
			if !bytes.Equal(got[i].Data, want[i].Data) {
				t.Logf("first difference at sample %d: %v at %v, want %v at %v", i, got[i].Video, got[i].Time, want[i].Video, want[i].Time)
				break
			}
		}
		t.Fatalf("%d samples, want %d", len(got), len(want))
	}
	near := func(a, b time.Duration) bool { return max(a-b, b-a) <= 1 } // ns
	for i, g := range got {
		w := want[i]
		if g.Video != w.Video || g.Key != w.Key || !near(g.Time, w.Time) || !near(g.Shift, w.Shift) || !bytes.Equal(g.Data, w.Data) {
			t.Fatalf("sample %d: %v %v %v %v, %d bytes\nwant %v %v %v %v, %d bytes", i, g.Video, g.Key, g.Time, g.Shift, len(g.Data), w.Video, w.Key, w.Time, w.Shift, len(w.Data))
		}
	}
}

func TestMuxer(t *testing.T) {
	for _, c := range []struct {
		name, format string
		args         []string
	}{
		{"H.264 and AAC", "mp4", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "aac"})},
		{"large H.264 and AAC 44.1", "mp4", slices.Concat(lavfi("0.6", "testsrc2=s=960x540:r=25,noise=alls=60", tone), []string{"-c:v", "libx264", "-preset", "ultrafast", "-qp", "8", "-g", "5", "-c:a", "aac", "-ar", "44100"})},
		{"HEVC and AC-3", "mp4", slices.Concat(lavfi("3", picture, tone), h265, []string{"-c:a", "ac3"})},
		{"H.264 and E-AC-3", "mp4", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "eac3"})},
		{"H.264 and Opus", "mkv", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "libopus", "-ac", "2"})},
		{"H.264 and MP3", "mkv", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "libmp3lame", "-ac", "2"})},
		{"AAC alone", "mp4", slices.Concat(lavfi("5", tone), []string{"-c:a", "aac"})},
		{"H.264 alone", "mp4", slices.Concat(lavfi("3", picture), h264)},
	} {
		t.Run(c.name, func(t *testing.T) {
			clip := encode(t, c.format, c.args...)
			cfg, in := samples(demux(t, read(t, clip.ts), 0).units)
			for _, every := range []int{1, 7, 1 << 30} {
				file, m, _ := mux(t, cfg, in, every)
				k := demux(t, file, 0)
				again, back := samples(k.units)
				sameSamples(t, back, in)
				for _, p := range [][2]*mpegts.Track{{cfg.Video, again.Video}, {cfg.Audio, again.Audio}} {
					if p[0] != nil && !codec.Equal(p[0].Codec, p[0].Config, p[1].Config) {
						t.Errorf("%v became %v", p[0], p[1])
					}
				}
				if n := k.count; n.Junk+n.Errors+n.Other+n.Continuity+n.Corrupt+n.Torn+n.Tables != 0 {
					t.Errorf("%+v", n)
				}
				s, found := scan(t, file, cfg)
				sameSamples(t, found.samples, in)
				v, a := m.Frames()
				sv, sa := s.Muxer.Frames()
				if s.Cut != int64(len(file)) || found.content != m.Content() || s.Muxer.Content() != m.Content() || v != sv || a != sa || int(v+a) != len(in) ||
					s.Muxer.Duration() != m.Duration() || s.Muxer.Written() != m.Written() {
					t.Errorf("cut %d of %d, content %x and %x, %d+%d and %d+%d frames, %v and %v", s.Cut, len(file), found.content, m.Content(), v, a, sv, sa,
						s.Muxer.Duration(), m.Duration())
				}
				if last := in[len(in)-1].Time; m.Duration() < last || m.Duration() > last+200*time.Millisecond {
					t.Errorf("it lasts %v, the last sample is at %v", m.Duration(), last)
				}
				path := write(t, "a.ts", file)
				if every == 7 {
					// Decodes without a word.
					run(t, "ffmpeg", "-v", "warning", "-xerror", "-err_detect", "explode", "-i", path, "-f", "null", "-")
					compareWithProbe(t, k.units, path)
				}
			}
			plain, _, _ := mux(t, cfg, in, 40)
			t.Logf("%d bytes, ffmpeg has %d, the source %d", len(plain), len(read(t, clip.ts)), len(read(t, clip.source)))
		})
	}
}

// compareWithProbe compares times, keys and counts with what ffprobe reads.
func compareWithProbe(t *testing.T, units []mpegts.Unit, path string) {
	t.Helper()
	streams := probe(t, path)
	i := 0
	for _, video := range []bool{true, false} {
		var mine []mpegts.Unit
		for _, u := range units {
			if u.Video == video {
				mine = append(mine, u)
			}
		}
		if mine == nil {
			continue
		}
		if i >= len(streams) || len(mine) != len(streams[i]) {
			t.Fatalf("%d units, ffprobe has not", len(mine))
		}
		for n, u := range mine {
			if p := streams[i][n]; max(u.PTS-p.PTS, p.PTS-u.PTS, u.DTS-p.DTS, p.DTS-u.DTS) > 1 || u.Key != p.Key {
				t.Fatalf("unit %d: %+v\nffprobe: %+v", n, show(u), p)
			}
		}
		i++
	}
}

// A file is cut anywhere. What was flushed before is there, and writing goes on as if nothing had been.
func TestScanAndGoOn(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
	}{
		{"small", slices.Concat(lavfi("2", picture, tone), h264, []string{"-c:a", "aac"})},
		{"pictures that do not say their length", slices.Concat(lavfi("0.6", "testsrc2=s=960x540:r=25,noise=alls=60", tone), []string{"-c:v", "libx264", "-preset", "ultrafast", "-qp", "8", "-g", "5", "-c:a", "aac"})},
		{"sound alone", slices.Concat(lavfi("5", tone), []string{"-c:a", "aac"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, in := samples(demux(t, read(t, encode(t, "mp4", c.args...).ts), 0).units)
			every, long := 13, strings.Contains(c.name, "length")
			if long { // a picture is the last thing that is flushed
				every = 1
			}
			file, _, flushed := mux(t, cfg, in, every)
			if long != (len(packetsOf(file, 0x1FFF)) > 0) {
				t.Fatal("the pictures are not as large as they should be, or too large")
			}
			cuts := []int{376, 377, 564, len(file) - 1, len(file) - 188}
			for eighth := range 8 {
				cuts = append(cuts, len(file)*eighth/8, len(file)*eighth/8/188*188)
			}
			for _, n := range flushed {
				cuts = append(cuts, n, n-188, n+188)
			}
			for _, cut := range cuts {
				if cut > len(file) {
					continue
				}
				if cut < 376 {
					if s, _ := scan(t, file[:cut], cfg); s.Cut != 0 || s.Muxer != nil {
						t.Errorf("cut at %d: %+v", cut, s)
					}
					continue
				}
				for _, tail := range [][]byte{nil, make([]byte, 4096), bytes.Repeat([]byte{0x47, 1, 2}, 500)} {
					s, found := scan(t, append(slices.Clone(file[:cut]), tail...), cfg)
					safe := 376
					for _, n := range flushed {
						if n <= cut {
							safe = n
						}
					}
					// Of a packet that is completed by something else nobody can tell.
					if s.Cut < int64(safe) || s.Cut > int64(cut+187)/188*188 || s.Cut > int64(cut) && tail == nil || found.content != s.Muxer.Content() {
						t.Fatalf("cut at %d: %d, and %d was flushed", cut, s.Cut, safe)
					}
					if tail != nil {
						continue
					}
					// Those that are missing once more.
					left := missing(in, found.samples)
					whole := slices.Clone(file[:s.Cut])
					for i, x := range left {
						if err := s.Muxer.Add(x); err != nil {
							t.Fatal(err)
						}
						if i%9 == 8 {
							whole = s.Muxer.Flush(whole)
						}
					}
					whole = s.Muxer.Flush(whole)
					k := demux(t, whole, 0)
					_, back := samples(k.units)
					sameSamples(t, back, in)
					if k.count.Continuity+k.count.Corrupt+k.count.Torn != 0 {
						t.Errorf("cut at %d: %+v", cut, k.count)
					}
					if e, f := scan(t, whole, cfg); f.content != s.Muxer.Content() || e.Cut != int64(len(whole)) || s.Muxer.Written() != e.Cut {
						t.Errorf("cut at %d: %d of %d, content %x and %x", cut, e.Cut, len(whole), f.content, s.Muxer.Content())
					}
				}
			}
		})
	}
}

func missing(all, have []mpegts.Sample) (left []mpegts.Sample) {
	type key struct {
		video bool
		sum   uint64
		at    time.Duration
	}
	seen := map[key]bool{}
	for _, s := range have {
		seen[key{s.Video, sumOf(s), s.Time.Round(time.Microsecond)}] = true
	}
	for _, s := range all {
		if !seen[key{s.Video, sumOf(s), s.Time.Round(time.Microsecond)}] {
			left = append(left, s)
		}
	}
	return left
}

func TestMuxerRefuses(t *testing.T) {
	opus, _ := codec.BuildOpusTS(2)
	odd := append(bytes.Clone(opus[:10]), 255, 2, 2, 0, 1)
	for _, c := range []struct {
		cfg  mpegts.Config
		name string
	}{
		{mpegts.Config{}, "no track"},
		{mpegts.Config{Video: &mpegts.Track{Codec: media.AV1}}, "AV1"},
		{mpegts.Config{Video: &mpegts.Track{Codec: media.VP9}}, "VP9"},
		{mpegts.Config{Audio: &mpegts.Track{Codec: media.FLAC}}, "FLAC"},
		{mpegts.Config{Audio: &mpegts.Track{Codec: media.PCMA}}, "G.711"},
		{mpegts.Config{Audio: &mpegts.Track{Codec: media.AAC, Config: []byte{0x12, 0x14}}}, "960"},
		{mpegts.Config{Audio: &mpegts.Track{Codec: media.Opus, Config: odd}}, "Opus"},
	} {
		if _, err := mpegts.NewMuxer(c.cfg); !errors.Is(err, mpegts.ErrCodec) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := mpegts.NewMuxer(mpegts.Config{Video: &mpegts.Track{Codec: media.AVC}}); !errors.Is(err, codec.ErrBad) {
		t.Errorf("H.264 without a record: %v", err)
	}
	m, err := mpegts.NewMuxer(mpegts.Config{Audio: &mpegts.Track{Codec: media.AAC, Config: []byte{0x12, 0x10}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []mpegts.Sample{{}, {Data: make([]byte, 9000)}, {Video: true, Data: []byte{1}}} {
		if err := m.Add(s); !errors.Is(err, codec.ErrBad) && !errors.Is(err, mpegts.ErrCodec) {
			t.Errorf("%v", err)
		}
	}
	if n, _ := m.Pending(); n != 0 || len(m.Flush(nil)) != 0 {
		t.Errorf("%d bytes of what was refused", n)
	}
}

var (
	avcRecord = func() []byte {
		rec, err := codec.BuildAVCC([][]byte{{0x67, 0x64, 0, 0x0c, 0xac, 0xd9, 0x41, 0x41, 0x9f, 0x9f, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0x99, 0x60}},
			[][]byte{{0x68, 0xeb, 0xec, 0xb2, 0x2c}})
		if err != nil {
			panic(err)
		}
		return rec
	}()
	sps = []byte{0, 0, 0, 26, 0x67, 0x64, 0, 0x0c, 0xac, 0xd9, 0x41, 0x41, 0x9f, 0x9f, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0x99, 0x60}
)

// What sources put into their pictures comes back as it was, as far as start codes can say it; and what cannot be said
// has the same sum here and there.
func TestOddPictures(t *testing.T) {
	cfg := mpegts.Config{Video: &mpegts.Track{Codec: media.AVC, Config: avcRecord}}
	nal := func(b ...byte) []byte { return append([]byte{0, 0, 0, byte(len(b))}, b...) }
	for _, c := range []struct {
		name  string
		data  []byte
		exact bool
	}{
		{"plain", nal(0x65, 1, 2, 3), true},
		{"with a delimiter", slices.Concat(nal(9, 0xF0), nal(0x65, 1, 2, 3)), true},
		{"with parameter sets", slices.Concat(sps, nal(0x68, 0xeb, 0xec, 0xb2, 0x2c), nal(0x65, 1, 2)), true},
		{"with both", slices.Concat(nal(9, 0xF0), sps, nal(0x68, 0xeb, 0xec, 0xb2, 0x2c), nal(0x65, 1, 2)), true},
		{"with a delimiter behind", slices.Concat(nal(0x65, 1, 2), nal(9, 0x30)), true},
		{"with three zeros", nal(0x65, 0, 0, 0, 5), true},
		{"zeros at the end", slices.Concat(nal(0x65, 1, 0, 0), nal(0x65, 2)), false},
		{"empty unit", slices.Concat(nal(), nal(0x65, 2)), false},
		{"start code inside", slices.Concat(nal(0x65, 0, 0, 1, 0x65, 4), nal(0x65, 2)), false},
		{"long start code inside", slices.Concat(nal(0x65, 0, 0, 0, 1, 0x65, 4), nal(0x65, 2)), false},
	} {
		for _, key := range []bool{true, false} {
			in := []mpegts.Sample{{Video: true, Key: true, Data: nal(0x65, 9)}, {Video: true, Key: key, Time: 40 * time.Millisecond, Data: c.data}}
			file, m, _ := mux(t, cfg, in, 1)
			s, found := scan(t, file, cfg)
			if s.Cut != int64(len(file)) || m.Content() != found.content || len(found.samples) != 2 {
				t.Errorf("%s: cut %d of %d, content %x, %x", c.name, s.Cut, len(file), m.Content(), found.content)
				continue
			}
			if exact := bytes.Equal(found.samples[1].Data, c.data); exact != c.exact {
				t.Errorf("%s: %x became %x", c.name, c.data, found.samples[1].Data)
			}
		}
	}
	m, _ := mpegts.NewMuxer(cfg)
	for _, data := range [][]byte{nil, {0, 0, 0, 9, 1}, {0, 0}, {0, 0, 0, 0}, {0, 0, 0, 2, 0, 0}} {
		if err := m.Add(mpegts.Sample{Video: true, Data: data}); !errors.Is(err, codec.ErrBad) {
			t.Errorf("%x: %v", data, err)
		}
	}
	if len(m.Flush(nil)) != 0 {
		t.Error("something of it was written")
	}
}

// Frames that are none are kept, each in a PES of its own.
func TestOddSound(t *testing.T) {
	cfg := mpegts.Config{Audio: &mpegts.Track{Codec: media.MP3}}
	frame := append([]byte{0xFF, 0xFB, 0x90, 0x64}, make([]byte, 413)...) // 128 kb/s at 44.1 kHz
	in := []mpegts.Sample{{Key: true, Data: frame}, {Key: true, Time: 26 * time.Millisecond, Data: []byte("no frame")},
		{Key: true, Time: 52 * time.Millisecond, Data: slices.Concat(frame, frame)}, {Key: true, Time: 104 * time.Millisecond, Data: frame}}
	file, m, _ := mux(t, cfg, in, 10)
	s, found := scan(t, file, cfg)
	sameSamples(t, found.samples, in)
	if s.Cut != int64(len(file)) || found.content != m.Content() {
		t.Errorf("cut %d of %d, content %x, %x", s.Cut, len(file), m.Content(), found.content)
	}
}

func TestScanForeign(t *testing.T) {
	cfg := mpegts.Config{Video: &mpegts.Track{Codec: media.AVC, Config: avcRecord}}
	if s, err := mpegts.Scan(bytes.NewReader(nil), 0, mpegts.ScanConfig{Config: cfg}); err != nil || s.Cut != 0 || s.Muxer != nil {
		t.Errorf("an empty file: %+v, %v", s, err)
	}
	b := bytes.Repeat([]byte("no transport stream "), 100)
	if s, err := mpegts.Scan(bytes.NewReader(b), int64(len(b)), mpegts.ScanConfig{Config: cfg}); !errors.Is(err, codec.ErrBad) {
		t.Errorf("a text: %+v, %v", s, err)
	}
}

func TestMuxerAllocNothing(t *testing.T) {
	m, _ := mpegts.NewMuxer(mpegts.Config{Video: &mpegts.Track{Codec: media.AVC, Config: avcRecord}, Audio: &mpegts.Track{Codec: media.AAC, Config: []byte{0x11, 0x90}}})
	picture := append([]byte{0, 0, 0x10, 0}, bytes.Repeat([]byte{0x65}, 4096)...)
	sound := bytes.Repeat([]byte{0x21}, 300)
	dst := make([]byte, 0, 1<<20)
	i := 0
	step := func() {
		at := time.Duration(i) * 40 * time.Millisecond
		if err := errors.Join(m.Add(mpegts.Sample{Video: true, Key: i%50 == 0, Time: at, Data: picture}), m.Add(mpegts.Sample{Time: at, Data: sound})); err != nil {
			t.Fatal(err)
		}
		if i++; i%10 == 0 {
			dst = m.Flush(dst[:0])
		}
	}
	for range 200 {
		step()
	}
	if n := testing.AllocsPerRun(200, step); n >= 1 {
		t.Errorf("%v allocations per step", n)
	}
}

// 27 hours: the clock comes round in the middle.
func TestMuxerWraps(t *testing.T) {
	cfg := mpegts.Config{Video: &mpegts.Track{Codec: media.AVC, Config: avcRecord}}
	var in []mpegts.Sample
	for i := range 100 {
		s := mpegts.Sample{Video: true, Key: i%10 == 0, Time: time.Duration(i) * 1000 * time.Second, Data: []byte{0, 0, 0, 2, 0x41, 1}}
		if s.Key {
			s.Data[4] = 0x65
		}
		in = append(in, s)
	}
	file, m, _ := mux(t, cfg, in, 3)
	_, found := scan(t, file, cfg)
	sameSamples(t, found.samples, in)
	_, back := samples(demux(t, file, 0).units)
	sameSamples(t, back, in)
	if m.Duration() < 99000*time.Second {
		t.Errorf("%v", m.Duration())
	}
}
