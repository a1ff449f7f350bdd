package mpegts_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/mpegts"
)

func TestAgainstFFmpeg(t *testing.T) {
	for _, c := range []struct {
		name, format string
		args         []string
		codecs       []media.Codec
		bare         bool // the source's samples are those of the stream
	}{
		{"H.264 and AAC", "mp4", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "aac"}), []media.Codec{media.AVC, media.AAC}, true},
		{"H.264 and AAC 44.1", "mp4", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "aac", "-ar", "44100", "-ac", "2"}), []media.Codec{media.AVC, media.AAC}, true},
		{"HEVC and AC-3", "mp4", slices.Concat(lavfi("3", picture, tone), h265, []string{"-c:a", "ac3"}), []media.Codec{media.HEVC, media.AC3}, true},
		{"H.264 and E-AC-3", "mp4", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "eac3", "-ac", "6"}), []media.Codec{media.AVC, media.EAC3}, true},
		{"H.264 and Opus", "mkv", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "libopus", "-ac", "2"}), []media.Codec{media.AVC, media.Opus}, true},
		{"H.264 and MP3", "mkv", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "libmp3lame", "-ac", "2"}), []media.Codec{media.AVC, media.MP3}, true},
		{"AAC alone", "mp4", slices.Concat(lavfi("3", tone), []string{"-c:a", "aac"}), []media.Codec{media.AAC}, true},
		{"H.264 alone", "mp4", slices.Concat(lavfi("3", picture), h264), []media.Codec{media.AVC}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			clip := encode(t, c.format, c.args...)
			b := read(t, clip.ts)
			k := demux(t, b, 0)
			source, ts := probe(t, clip.source), probe(t, clip.ts)
			for i, want := range c.codecs {
				video := want == media.AVC || want == media.HEVC
				units := k.of(video)
				if len(units) != len(ts[i]) || len(units) != len(source[i]) {
					t.Fatalf("%v: %d units, ffprobe has %d, and %d in the source", want, len(units), len(ts[i]), len(source[i]))
				}
				for n, u := range units {
					p := ts[i][n]
					tick := int64(0)
					if want == media.AAC { // at 44.1 kHz ffprobe adds up rounded lengths
						tick = 1
					}
					if u.Codec != want || max(u.PTS-p.PTS, p.PTS-u.PTS, u.DTS-p.DTS, p.DTS-u.DTS) > tick || u.Key != p.Key || u.Corrupt || u.Open || u.Jump || u.Guessed {
						t.Fatalf("%v %d: %+v\nffprobe: %+v", want, n, show(u), p)
					}
					if (u.Config != nil) != (n == 0) {
						t.Errorf("%v %d: configuration %x", want, n, u.Config)
					}
					if got := hash(u.Data); got != source[i][n].Hash && !(want == media.Opus) {
						t.Fatalf("%v %d: %d bytes, %d in the source", want, n, len(u.Data), source[i][n].Size)
					}
					if !video && (u.Samples == 0 || u.Rate == 0) {
						t.Fatalf("%v %d: %d samples of %d Hz", want, n, u.Samples, u.Rate)
					}
				}
				if info, err := codec.Parse(want, units[0].Config); err != nil || video && (info.Width != 320 || info.Height != 180 || info.FrameRate != 30) {
					t.Errorf("%v: %+v, %v", want, info, err)
				}
			}
			cnt := k.count
			if cnt.Junk+cnt.Scrambled+cnt.Errors+cnt.Continuity+cnt.Corrupt+cnt.Torn+cnt.Tables+cnt.Duplicate != 0 {
				t.Errorf("%+v", cnt)
			}
			if len(k.programs) != 1 || len(k.programs[0].Streams) != len(c.codecs) {
				t.Errorf("%+v", k.programs)
			}
			for _, piece := range []int{1, 47, 188, 1000, 40000} {
				same(t, k.units, demux(t, b, piece).units)
			}
		})
	}
}

// basic is a clip of H.264 with B frames and AAC that several tests take apart.
func basic(t *testing.T, more ...string) (clip, []byte) {
	c := encode(t, "mp4", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "aac"})...)
	path := c.ts
	if more != nil {
		path = c.remux(t, more...)
	}
	return c, read(t, path)
}

func TestLATM(t *testing.T) {
	c, b := basic(t, "-mpegts_flags", "latm")
	units, source := demux(t, b, 0).of(false), probe(t, c.source)
	if len(units) != len(source[1]) {
		t.Fatalf("%d frames of %d", len(units), len(source[1]))
	}
	for i, u := range units {
		if hash(u.Data) != source[1][i].Hash || u.Codec != media.AAC || u.Samples != 1024 || u.Rate != 48000 || (u.Config != nil) != (i == 0) || u.Corrupt || u.Guessed ||
			i > 0 && u.PTS != units[i-1].PTS+1920 {
			t.Fatalf("frame %d: %+v", i, show(u))
		}
	}
	if info, err := codec.Parse(media.AAC, units[0].Config); err != nil || info.SampleRate != 48000 || info.Channels != 1 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestClockWraps(t *testing.T) {
	c, _ := basic(t)
	plain := demux(t, read(t, c.remux(t, "-mpegts_copyts", "1", "-output_ts_offset", "42")), 0).units
	// 33 bits are full 95443.7 s from 0.
	b := read(t, c.remux(t, "-mpegts_copyts", "1", "-output_ts_offset", "95442"))
	k := demux(t, b, 0)
	if len(k.units) != len(plain) {
		t.Fatalf("%d units, want %d", len(k.units), len(plain))
	}
	for i, u := range k.units {
		if want := plain[i].DTS + 95400*90000; u.DTS != want || u.PTS != plain[i].PTS+95400*90000 {
			t.Fatalf("unit %d at %d, %d, want %d", i, u.PTS, u.DTS, want)
		}
	}
	if last := k.units[len(k.units)-1]; last.DTS < 1<<33 {
		t.Fatalf("it did not wrap: %d", last.DTS)
	}
	// With a hint the same bytes lie elsewhere.
	for _, turns := range []int64{-1, 1, 5} {
		var h taken
		d := mpegts.NewDemuxer(h.config())
		d.Near(plain[0].DTS + 95400*90000 + turns<<33)
		feed(t, d, b, 0)
		for i, u := range h.units {
			if u.DTS != k.units[i].DTS+turns<<33 || u.PTS != k.units[i].PTS+turns<<33 {
				t.Fatalf("unit %d at %d with a hint", i, u.DTS)
			}
		}
	}
}

// Two segments: the second one without PAT and PMT goes on with those of the first.
func TestSegments(t *testing.T) {
	_, b := basic(t)
	all := demux(t, b, 0)
	var video []int
	for i := 0; i+188 <= len(b); i += 188 {
		if b[i+1]&0x40 != 0 && int(b[i+1]&0x1F)<<8|int(b[i+2]) == all.programs[0].Streams[0].PID {
			video = append(video, i)
		}
	}
	var k taken
	d := mpegts.NewDemuxer(k.config())
	// All tables, as an init section may have them, and nothing else of a segment that begins in the middle.
	feed(t, d, b[:3*188], 0)
	half := video[45]
	for _, part := range [][]byte{b[3*188 : half], b[half:]} {
		var rest []byte
		for i := 0; i < len(part); i += 188 {
			if pid := int(part[i+1]&0x1F)<<8 | int(part[i+2]); pid == 0x100 || pid == 0x101 {
				rest = append(rest, part[i:i+188]...)
			}
		}
		feed(t, d, rest, 0)
	}
	same(t, sorted(all.units), sorted(k.units))
	if c := balance(t, d); c.Continuity+c.Corrupt+c.Torn != 0 || len(k.programs) != 1 {
		t.Errorf("%+v, %d programs", c, len(k.programs))
	}
}

func sorted(units []mpegts.Unit) []mpegts.Unit {
	units = slices.Clone(units)
	slices.SortStableFunc(units, func(a, b mpegts.Unit) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.DTS, b.DTS))
	})
	return units
}

func TestCutAnywhere(t *testing.T) {
	_, b := basic(t)
	all := sorted(demux(t, b, 0).units)
	for eighth := 1; eighth < 8; eighth++ {
		cut := len(b) * eighth / 8
		k := demux(t, b[:cut], 0)
		if n := len(k.units); n < len(all)*(eighth-1)/8 || n >= len(all) {
			t.Errorf("%d/8: %d units of %d", eighth, n, len(all))
		}
		if k.count.Junk != int64(cut%188) {
			t.Errorf("%d/8: %+v", eighth, k.count)
		}
		bad := 0
		for _, u := range k.units {
			i := slices.IndexFunc(all, func(a mpegts.Unit) bool { return a.Video == u.Video && a.DTS == u.DTS })
			if i < 0 {
				t.Fatalf("%d/8: a unit at %d that was never there", eighth, u.DTS)
			}
			if !slices.Equal(u.Data, all[i].Data) {
				bad++
			}
		}
		if bad > 1 { // the last picture: its length is not told, and a segment may end where it ends
			t.Errorf("%d/8: %d units differ", eighth, bad)
		}
		// The other end: nothing comes out that is not right, the picture that was cut is missing.
		k = demux(t, b[cut:], 0)
		if n := len(k.units); n > 0 {
			for _, u := range k.units {
				i := slices.IndexFunc(all, func(a mpegts.Unit) bool { return a.Video == u.Video && a.DTS == u.DTS })
				if i < 0 || len(u.Data) < len(all[i].Data) && !u.Corrupt {
					t.Fatalf("behind %d/8: %v", eighth, show(u))
				}
			}
		} else if eighth < 6 {
			t.Errorf("behind %d/8: nothing", eighth)
		}
	}
}

func TestGarbageBetweenPackets(t *testing.T) {
	_, b := basic(t)
	all := demux(t, b, 0)
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 17, 187, 188, 189, 1000, 5000} {
		var dirty []byte
		garbage := 0
		for i := 0; i < len(b); i += 188 {
			if i/188%5 == 0 && r.IntN(4) == 0 { // three packets in a row are needed to go on
				for range size {
					c := byte(r.Uint32())
					if c == 0x47 {
						c++
					}
					dirty = append(dirty, c)
					garbage++
				}
			}
			dirty = append(dirty, b[i:i+188]...)
		}
		k := demux(t, dirty, 0)
		if k.count.Junk != int64(garbage) || k.count.Continuity != 0 {
			t.Errorf("%d bytes: %+v", size, k.count)
		}
		same(t, all.units, k.units)
		same(t, all.units, demux(t, dirty, 1313).units)
	}
	// Garbage that has sync bytes in it may cost what is beside it, and no more.
	var dirty []byte
	for i := 0; i < len(b); i += 188 {
		if i%(188*40) == 188*20 {
			for range 300 {
				dirty = append(dirty, 0x47, byte(r.Uint32()), byte(r.Uint32()))
			}
		}
		dirty = append(dirty, b[i:i+188]...)
	}
	k := demux(t, dirty, 0)
	if len(k.units) < len(all.units)*8/10 {
		t.Errorf("%d units of %d: %+v", len(k.units), len(all.units), k.count)
	}
	same(t, k.units, demux(t, dirty, 777).units)
}

// A packet that lost some of its bytes does not take the next one along.
func TestShortPacket(t *testing.T) {
	_, b := basic(t)
	all := demux(t, b, 0)
	for _, missing := range []int{1, 50, 187} {
		cut := 100 * 188
		k := demux(t, slices.Concat(b[:cut], b[cut+missing:]), 0)
		if k.count.Junk != int64(188-missing) || k.count.Continuity > 1 || len(k.units) < len(all.units)-8 {
			t.Errorf("%d missing: %d units of %d, %+v", missing, len(k.units), len(all.units), k.count)
		}
	}
}

func TestMissingPackets(t *testing.T) {
	_, b := basic(t)
	all := demux(t, b, 0)
	for _, pid := range []int{0x100, 0x101} {
		at := packetsOf(b, pid)
		for _, n := range []int{10, 41, len(at) / 2, len(at) - 3} {
			i := at[n]
			if b[i+1]&0x40 != 0 {
				i = at[n+1]
			}
			torn := slices.Concat(b[:i], b[i+188:])
			k := demux(t, torn, 0)
			if k.count.Continuity != 1 || k.count.Corrupt != 1 {
				t.Errorf("packet %d of PID %#x: %+v", n, pid, k.count)
			}
			corrupt := 0
			for _, u := range k.units {
				j := slices.IndexFunc(all.units, func(a mpegts.Unit) bool { return a.Video == u.Video && a.DTS == u.DTS })
				if j < 0 {
					t.Fatalf("packet %d of PID %#x: a unit at %d that was never there", n, pid, u.DTS)
				}
				if u.Corrupt {
					corrupt++
				} else if !slices.Equal(u.Data, all.units[j].Data) {
					t.Errorf("packet %d of PID %#x: the unit at %d is torn and does not say so", n, pid, u.DTS)
				}
			}
			if pid == 0x100 && corrupt != 1 {
				t.Errorf("packet %d: %d corrupt units", n, corrupt)
			}
			var dropped taken
			cfg := dropped.config()
			cfg.DropCorrupt = true
			d := mpegts.NewDemuxer(cfg)
			feed(t, d, torn, 0)
			if len(dropped.units) != len(k.units)-corrupt {
				t.Errorf("packet %d of PID %#x: %d units are left of %d", n, pid, len(dropped.units), len(k.units))
			}
		}
	}
}

// Sent twice is not wrong.
func TestPacketsTwice(t *testing.T) {
	_, b := basic(t)
	var twice []byte
	for i := 0; i < len(b); i += 188 {
		twice = append(twice, b[i:i+188]...)
		if b[i+3]&0x10 != 0 && i%3 == 0 {
			twice = append(twice, b[i:i+188]...)
		}
	}
	k := demux(t, twice, 0)
	if k.count.Continuity != 0 || k.count.Duplicate == 0 {
		t.Errorf("%+v", k.count)
	}
	same(t, demux(t, b, 0).units, k.units)
}
