package mpegts_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/mpegts"
)

// builder writes packets by hand, also such as no muxer makes.
type builder struct {
	b  []byte
	cc map[int]byte
}

func newBuilder() *builder { return &builder{cc: map[int]byte{}} }

// packets cuts a payload into packets; the first one starts something. flags is the adaptation field's first byte.
func (w *builder) packets(pid int, payload []byte, flags ...byte) *builder {
	start := byte(0x40)
	for len(payload) > 0 {
		n := min(184-2*len(flags), len(payload))
		size := 184 - n
		p := []byte{0x47, start | byte(pid>>8), byte(pid), 0x10 | w.cc[pid]}
		if size > 0 {
			p[3] |= 0x20
			p = append(p, byte(size-1))
			if size > 1 {
				f := byte(0)
				if len(flags) > 0 {
					f = flags[0]
				}
				p = append(p, f)
				p = append(p, bytes.Repeat([]byte{0xFF}, size-2)...)
			}
		}
		w.b = append(append(w.b, p...), payload[:n]...)
		w.cc[pid] = (w.cc[pid] + 1) & 15
		payload, start, flags = payload[n:], 0, nil
	}
	return w
}

func checksum(b []byte) uint32 {
	c := uint32(0xFFFFFFFF)
	for _, x := range b {
		c ^= uint32(x) << 24
		for range 8 {
			if c&0x80000000 != 0 {
				c = c<<1 ^ 0x04C11DB7
			} else {
				c <<= 1
			}
		}
	}
	return c
}

func (w *builder) section(pid int, table byte, id int, version byte, body []byte) *builder {
	s := []byte{table, 0xB0, 0, byte(id >> 8), byte(id), 0xC1 | version<<1, 0, 0}
	s = append(s, body...)
	binary.BigEndian.PutUint16(s[1:], 0xB000|uint16(len(s)+4-3))
	s = binary.BigEndian.AppendUint32(s, checksum(s))
	return w.packets(pid, append([]byte{0}, s...))
}

// pat lists program numbers and the PIDs of their maps.
func (w *builder) pat(version byte, programs ...int) *builder {
	var b []byte
	for i := 0; i < len(programs); i += 2 {
		b = binary.BigEndian.AppendUint16(b, uint16(programs[i]))
		b = binary.BigEndian.AppendUint16(b, 0xE000|uint16(programs[i+1]))
	}
	return w.section(0, 0, 1, version, b)
}

type entry struct {
	pid         int
	typ         byte
	descriptors []byte
}

func (w *builder) pmt(pid, program int, version byte, streams ...entry) *builder {
	b := []byte{0xE1, 0, 0xF0, 0}
	for _, e := range streams {
		b = append(b, e.typ)
		b = binary.BigEndian.AppendUint16(b, 0xE000|uint16(e.pid))
		b = binary.BigEndian.AppendUint16(b, 0xF000|uint16(len(e.descriptors)))
		b = append(b, e.descriptors...)
	}
	return w.section(pid, 2, program, version, b)
}

func pes(id byte, pts int64, bounded bool, data ...[]byte) []byte {
	b := []byte{0, 0, 1, id, 0, 0, 0x80, 0, 0}
	if pts >= 0 {
		b[7], b[8] = 0x80, 5
		b = append(b, 0x21|byte(pts>>29)&0xE, byte(pts>>22), byte(pts>>14)|1, byte(pts>>7), byte(pts<<1)|1)
	}
	for _, d := range data {
		b = append(b, d...)
	}
	if bounded {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-6))
	}
	return b
}

// adts is a frame of AAC at 48 kHz.
func adts(size int, fill byte) []byte {
	b, err := codec.AppendADTS(nil, []byte{0x11, 0x90}, size)
	if err != nil {
		panic(err)
	}
	return append(b, bytes.Repeat([]byte{fill}, size)...)
}

func avc(nals ...[]byte) []byte {
	var b []byte
	for _, n := range nals {
		b = append(append(b, 0, 0, 0, 1), n...)
	}
	return b
}

var (
	spsNAL = sps[4:]
	ppsNAL = []byte{0x68, 0xeb, 0xec, 0xb2, 0x2c}
	idrNAL = []byte{0x65, 0x88, 0x84, 1}
	pNAL   = []byte{0x41, 0x9A, 0x24, 1}
	audNAL = []byte{9, 0xF0}
)

func TestSeveralPrograms(t *testing.T) {
	w := newBuilder().pat(0, 0, 0x10, 7, 0x700, 3, 0x300, 9, 0x900).
		pmt(0x700, 7, 0, entry{0x71, 0x15, nil}, entry{0x72, 0x86, nil}). // ID3 and SCTE-35 only
		pmt(0x300, 3, 0, entry{0x31, 0x1B, nil}, entry{0x32, 0x15, nil}, entry{0x33, 0x0F, nil}, entry{0x34, 0x0F, nil}).
		pmt(0x900, 9, 0, entry{0x91, 0x1B, nil}).
		packets(0x31, pes(0xE0, 9000, false, avc(audNAL, spsNAL, ppsNAL, idrNAL))).
		packets(0x91, pes(0xE0, 9000, false, avc(audNAL, spsNAL, ppsNAL, idrNAL))).
		packets(0x33, pes(0xC0, 9000, true, adts(50, 1), adts(60, 2))).
		packets(0x34, pes(0xC0, 9000, true, adts(50, 3)))
	k := demux(t, w.b, 0)
	if len(k.programs) != 1 || k.programs[0].Number != 3 || len(k.units) != 3 || k.count.Other != 2 {
		t.Fatalf("%+v, %d units, %+v", k.programs, len(k.units), k.count)
	}
	for i, want := range []int{0, -1, 0, -1} {
		if got := k.programs[0].Streams[i].Track; got != want {
			t.Errorf("stream %d is track %d", i, got)
		}
	}
	var all taken
	cfg := all.config()
	cfg.AllTracks = true
	feed(t, mpegts.NewDemuxer(cfg), w.b, 100)
	if len(all.units) != 4 || all.units[2].Track != 1 || all.units[2].PID != 0x34 {
		t.Errorf("%d units of all tracks: %+v", len(all.units), all.units)
	}
}

func TestWhatIsNotTaken(t *testing.T) {
	reg := func(s string) []byte { return append([]byte{5, 4}, s...) }
	var streams []entry
	for i, e := range []entry{{0, 0xDB, nil}, {0, 0xCF, nil}, {0, 0xC1, nil}, {0, 0xC2, nil}, {0, 0x02, nil}, {0, 0x06, reg("AV01")},
		{0, 0x15, nil}, {0, 0x06, nil}, {0, 0x86, reg("CUEI")}, {0, 0x06, reg("AC-3")}, {0, 0x06, []byte{0x7A, 1, 0}}, {0, 0x06, append(reg("Opus"), 0x7F, 2, 0x80, 6)},
		{0, 0x24, nil}} {
		e.pid = 0x101 + i
		streams = append(streams, e)
	}
	k := demux(t, newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, streams...).packets(0x101, pes(0xE0, 9000, false, avc(idrNAL))).b, 0)
	if len(k.programs) != 1 || len(k.units) != 0 || k.count.Other != 1 {
		t.Fatalf("%+v, %d units, %+v", k.programs, len(k.units), k.count)
	}
	for i, want := range []string{"SAMPLE-AES H.264", "SAMPLE-AES AAC", "SAMPLE-AES AC-3", "SAMPLE-AES E-AC-3", "MPEG-2", "AV1"} {
		if s := k.programs[0].Streams[i]; !strings.Contains(s.Why, want) || s.Codec != media.OtherCodec || s.Track != -1 {
			t.Errorf("type %#x: %+v", s.Type, s)
		}
	}
	for i, want := range []media.Codec{media.NoCodec, media.NoCodec, media.NoCodec, media.AC3, media.EAC3, media.Opus, media.HEVC} {
		if s := k.programs[0].Streams[6+i]; s.Codec != want || s.Why != "" {
			t.Errorf("type %#x: %+v", s.Type, s)
		}
	}
}

// The map changes: another PID, then another codec on the same one. What stays keeps its state.
func TestMapChanges(t *testing.T) {
	w := newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, entry{0x101, 0x1B, nil}, entry{0x102, 0x0F, nil}).
		packets(0x101, pes(0xE0, 9000, false, avc(audNAL, spsNAL, ppsNAL, idrNAL))).
		packets(0x102, pes(0xC0, 9000, true, adts(50, 1))).
		pmt(0x100, 1, 0, entry{0x101, 0x1B, nil}, entry{0x102, 0x0F, nil}).
		packets(0x101, pes(0xE0, 12000, false, avc(audNAL, pNAL))).
		pmt(0x100, 1, 1, entry{0x105, 0x1B, nil}, entry{0x102, 0x0F, nil}).
		packets(0x105, pes(0xE0, 15000, false, avc(audNAL, spsNAL, ppsNAL, idrNAL))).
		packets(0x102, pes(0xC0, 10920, true, adts(50, 1))).
		pmt(0x100, 1, 2, entry{0x105, 0x1B, nil}, entry{0x102, 0x03, nil}).
		packets(0x102, pes(0xC0, 12840, true, []byte{0xFF, 0xFB, 0x14, 0x64}, make([]byte, 92)))
	k := demux(t, w.b, 0)
	if len(k.programs) != 3 || len(k.units) != 6 || k.count.Corrupt+k.count.Torn+k.count.Continuity != 0 {
		t.Fatalf("%d programs, %d units, %+v", len(k.programs), len(k.units), k.count)
	}
	configs := 0
	for _, u := range k.units {
		if u.Config != nil {
			configs++
		}
	}
	if configs != 4 || k.units[4].Codec != media.MP3 && k.units[5].Codec != media.MP3 {
		t.Errorf("%d configurations, %+v", configs, k.units)
	}
}

// Frames of sound do not care for the borders of PES.
func TestFramesAcrossPES(t *testing.T) {
	var es []byte
	var want [][]byte
	for i := range 20 {
		f := adts(100+i*13, byte(i))
		want = append(want, f[7:])
		es = append(es, f...)
	}
	for _, cut := range []int{300, 111, 7, 3, 1000} {
		w := newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, entry{0x102, 0x0F, nil})
		// The time of a PES is that of the first frame that begins in it.
		for at, n := 0, 0; at < len(es); n++ {
			end := min(at+cut, len(es))
			pts, begin := int64(-1), 0
			for i, f := range want {
				if begin >= at && begin < end {
					pts = 9000 + int64(i)*1920
					break
				}
				begin += len(f) + 7
			}
			w.packets(0x102, pes(0xC0, pts, true, es[at:end]))
			at = end
		}
		k := demux(t, w.b, 0)
		if len(k.units) != len(want) || k.count.Torn+k.count.Corrupt != 0 {
			t.Fatalf("cut at %d: %d frames, %+v", cut, len(k.units), k.count)
		}
		for i, u := range k.units {
			if !bytes.Equal(u.Data, want[i]) || u.PTS != 9000+int64(i)*1920 || (u.Config != nil) != (i == 0) {
				t.Fatalf("cut at %d: frame %d at %d, %d bytes", cut, i, u.PTS, len(u.Data))
			}
		}
	}
	// Half a frame, and the next PES begins with a whole one.
	w := newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, entry{0x102, 0x0F, nil}).
		packets(0x102, pes(0xC0, 9000, true, adts(50, 1), adts(60, 2)[:30])).
		packets(0x102, pes(0xC0, 12840, true, adts(50, 3), []byte("noise"), adts(50, 4)))
	k := demux(t, w.b, 0)
	if len(k.units) != 3 || k.count.Torn != 35 || k.count.Corrupt != 2 || k.units[1].PTS != 12840 || k.units[2].PTS != 14760 {
		t.Errorf("%d units, %+v", len(k.units), k.count)
	}
}

func TestPicturesAndPES(t *testing.T) {
	head := func() *builder {
		return newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, entry{0x101, 0x1B, nil})
	}
	au := avc(audNAL, spsNAL, ppsNAL, idrNAL)
	long := append(bytes.Clone(pNAL), bytes.Repeat([]byte{7}, 1000)...)
	for _, c := range []struct {
		name    string
		w       *builder
		pts     []int64
		corrupt []int
		guessed []int
	}{
		{"a PES without a time goes on", head().packets(0x101, pes(0xE0, 9000, false, au)).packets(0x101, pes(0xE0, 12000, false, avc(audNAL, long)[:300])).
			packets(0x101, pes(0xE0, -1, false, avc(audNAL, long)[300:])).packets(0x101, pes(0xE0, 15000, false, avc(audNAL, pNAL))), []int64{9000, 12000, 15000}, nil, nil},
		{"two pictures in one", head().packets(0x101, pes(0xE0, 9000, false, au)).packets(0x101, pes(0xE0, 12000, false, avc(audNAL, pNAL, audNAL, pNAL))),
			[]int64{9000, 12000, 15000}, nil, []int{2}},
		{"shorter than it says", head().packets(0x101, pes(0xE0, 9000, true, au)).packets(0x101, func() []byte {
			p := pes(0xE0, 12000, true, avc(audNAL, pNAL))
			p[5] += 9
			return p
		}()).packets(0x101, pes(0xE0, 15000, true, avc(audNAL, pNAL))), []int64{9000, 12000, 15000}, []int{1}, nil},
		{"parameter sets alone", head().packets(0x101, pes(0xE0, 9000, false, avc(audNAL, spsNAL, ppsNAL))).packets(0x101, pes(0xE0, 9000, false, avc(idrNAL))),
			[]int64{9000}, nil, nil},
		{"a private stream header", head().packets(0x101, pes(0xE0, 9000, false, au)).packets(0x101, pes(0xBE, -1, true, bytes.Repeat([]byte{0xFF}, 20))).
			packets(0x101, pes(0xE0, 12000, false, avc(audNAL, pNAL))), []int64{9000, 12000}, nil, nil},
	} {
		k := demux(t, c.w.b, 0)
		if len(k.units) != len(c.pts) {
			t.Errorf("%s: %d units, %+v", c.name, len(k.units), k.count)
			continue
		}
		for i, u := range k.units {
			if u.PTS != c.pts[i] || u.Corrupt != slices.Contains(c.corrupt, i) || u.Guessed != slices.Contains(c.guessed, i) {
				t.Errorf("%s: unit %d: %+v", c.name, i, u)
			}
		}
		if k.units[0].Config == nil || !k.units[0].Key {
			t.Errorf("%s: %+v", c.name, k.units[0])
		}
	}
}

func TestCountersAndFlags(t *testing.T) {
	head := func() *builder {
		return newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, entry{0x101, 0x1B, nil}, entry{0x102, 0x0F, nil}).
			packets(0x101, pes(0xE0, 9000, false, avc(audNAL, spsNAL, ppsNAL, idrNAL)))
	}
	// The counter jumps, and it was announced.
	w := head()
	w.cc[0x101] += 5
	w.packets(0x101, pes(0xE0, 100, false, avc(audNAL, spsNAL, ppsNAL, idrNAL)), 0x80)
	k := demux(t, w.b, 0)
	if k.count.Continuity != 0 || len(k.units) != 2 || k.units[0].Jump || !k.units[1].Jump || k.units[1].PTS != 100 || k.units[0].Corrupt {
		t.Errorf("announced: %+v, %+v", k.count, k.units)
	}
	// It jumps, and it was not.
	w = head()
	w.cc[0x101] += 5
	w.packets(0x101, pes(0xE0, 12000, false, avc(audNAL, pNAL)))
	k = demux(t, w.b, 0)
	if k.count.Continuity != 1 || !k.units[0].Corrupt || k.units[1].Corrupt {
		t.Errorf("not announced: %+v, %+v", k.count, k.units)
	}
	// Scrambled, broken, null.
	w = head()
	at := len(w.b)
	w.packets(0x102, pes(0xC0, 9000, true, adts(50, 1))).packets(0x102, pes(0xC0, 9000, true, adts(50, 1))).packets(0x1FFF, []byte{1}).packets(0x102, pes(0xC0, 9000, true, adts(50, 1)))
	w.b[at+3] |= 0xC0
	w.b[at+188+1] |= 0x80
	w.b[at+3*188+4] = 200
	k = demux(t, w.b, 0)
	if k.count.Scrambled != 1 || k.count.Errors != 2 || k.count.Null != 1 || len(k.units) != 1 {
		t.Errorf("%+v", k.count)
	}
	// A table with a wrong checksum, and half a table.
	w = newBuilder()
	w.pat(0, 1, 0x100)
	w.b[180] ^= 1
	w.pmt(0x100, 1, 0, entry{0x101, 0x1B, nil})
	if k = demux(t, w.b, 0); k.count.Tables != 1 || len(k.programs) != 0 {
		t.Errorf("%+v", k.count)
	}
}

// A map of more than one packet.
func TestLongMap(t *testing.T) {
	var streams []entry
	for i := range 30 {
		streams = append(streams, entry{0x200 + i, 0x15, bytes.Repeat([]byte{0x26, 3, 1, 2, 3}, 4)})
	}
	streams = append(streams, entry{0x101, 0x1B, nil})
	w := newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, streams...).packets(0x101, pes(0xE0, 9000, false, avc(audNAL, spsNAL, ppsNAL, idrNAL)))
	k := demux(t, w.b, 0)
	if len(k.programs) != 1 || len(k.programs[0].Streams) != 31 || len(k.units) != 1 {
		t.Errorf("%+v, %+v", k.programs, k.count)
	}
}

func TestErrorOfUnit(t *testing.T) {
	stop := errors.New("enough")
	w := newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, entry{0x102, 0x0F, nil})
	for range 5 {
		w.packets(0x102, pes(0xC0, 9000, true, adts(50, 1)))
	}
	n := 0
	d := mpegts.NewDemuxer(mpegts.DemuxerConfig{Unit: func(*mpegts.Unit) error { n++; return stop }})
	_, err := d.Write(w.b)
	if !errors.Is(err, stop) || !errors.Is(d.Flush(), stop) || n != 1 {
		t.Errorf("%v after %d units", err, n)
	}
	if _, err := d.Write(w.b); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func id3(t int64) []byte {
	owner := "com.apple.streaming.transportStreamTimestamp\x00"
	frame := append([]byte("PRIV"), 0, 0, 0, byte(len(owner)+8), 0, 0)
	frame = binary.BigEndian.AppendUint64(append(frame, owner...), uint64(t))
	return append([]byte{'I', 'D', '3', 4, 0, 0, 0, 0, 0, byte(len(frame))}, frame...)
}

func TestPacked(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want media.Codec
	}{
		{"a.aac", []string{"-c:a", "aac"}, media.AAC},
		{"a.mp3", []string{"-c:a", "libmp3lame", "-id3v2_version", "0", "-write_xing", "0"}, media.MP3},
		{"a.ac3", []string{"-c:a", "ac3"}, media.AC3},
		{"a.eac3", []string{"-c:a", "eac3"}, media.EAC3},
	} {
		dir := t.TempDir()
		run(t, "ffmpeg", slices.Concat([]string{"-v", "error"}, lavfi("2", tone), c.args, []string{dir + "/" + c.name})...)
		raw := read(t, dir+"/"+c.name)
		var k taken
		p := mpegts.NewPacked(k.config())
		const near = 1<<33 - 90000 // it wraps in the second segment
		segments := [][]byte{append(id3(near), raw...), append(id3(near+180000-1<<33), raw...), raw}
		for i, s := range segments {
			if !mpegts.IsPacked(s[:10]) || mpegts.IsTS(s) {
				t.Errorf("%s: segment %d is not told", c.name, i)
			}
			if err := p.Segment(s); err != nil {
				t.Fatal(err)
			}
		}
		n := len(k.units) / 3
		at := int64(0)
		for i, u := range k.units {
			if i%n == 0 && i/n < 2 {
				at = near + int64(i/n)*180000
			}
			if u.PTS < at-1 || u.PTS > at+1 || u.Codec != c.want || u.Corrupt || (u.Config != nil) != (i == 0) {
				t.Fatalf("%s: frame %d: %+v, want it at %d", c.name, i, show(u), at)
			}
			at = u.PTS + int64(u.Samples)*90000/int64(u.Rate)
		}
		if n < 80 && c.want == media.AAC || n < 50 {
			t.Errorf("%s: %d frames in a segment", c.name, n)
		}
		// Torn: what is whole comes out.
		var half taken
		p = mpegts.NewPacked(half.config())
		if err := p.Segment(segments[0][:len(segments[0])/2]); err != nil || len(half.units) < n*4/10 || len(half.units) > n*6/10 || p.Count().Torn == 0 {
			t.Errorf("%s: half of it gives %d of %d frames: %v, %+v", c.name, len(half.units), n, err, p.Count())
		}
	}
	var k taken
	p := mpegts.NewPacked(k.config())
	if err := p.Segment([]byte("<html>")); err != nil || len(k.units) != 0 || p.Count().Junk != 6 {
		t.Errorf("%v, %+v", err, p.Count())
	}
	if mpegts.IsPacked([]byte("<html>")) || mpegts.IsTS(nil) {
		t.Error("a page is taken for media")
	}
}

func FuzzDemuxer(f *testing.F) {
	f.Add(newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, entry{0x101, 0x1B, nil}, entry{0x102, 0x0F, nil}).
		packets(0x101, pes(0xE0, 9000, false, avc(audNAL, spsNAL, ppsNAL, idrNAL))).
		packets(0x102, pes(0xC0, 9000, true, adts(50, 1), adts(60, 2)[:40])).
		packets(0x102, pes(0xC0, 12000, true, adts(60, 2)[40:])).b, uint16(100))
	f.Add(newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, entry{0x101, 0x24, nil}, entry{0x102, 0x06, append([]byte{5, 4}, "Opus"...)}, entry{0x103, 0x87, nil}).
		packets(0x102, pes(0xBD, 9000, true, []byte{0x7F, 0xE0, 3, 0xFC, 1, 2})).
		packets(0x103, pes(0xBD, 9000, true, []byte{0x0b, 0x77, 0x00, 0x05, 0x3f, 0x86, 0xff, 0, 0, 0, 0, 0})).b, uint16(188))
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		collect := func(piece int) *taken {
			var k taken
			cfg := k.config()
			cfg.AllTracks = true
			d := mpegts.NewDemuxer(cfg)
			feed(t, d, b, piece)
			d.Break()
			feed(t, d, b, piece)
			k.count = balance(t, d)
			return &k
		}
		k := collect(0)
		for _, u := range k.units {
			if u.Codec == media.AVC || u.Codec == media.HEVC {
				if _, err := codec.ToAnnexB(nil, u.Data, 4); err != nil {
					t.Fatal(err)
				}
			}
		}
		same(t, k.units, collect(int(piece)+1).units)
		p := mpegts.NewPacked(k.config())
		if err := p.Segment(b); err != nil {
			t.Fatal(err)
		}
		mpegts.IsPacked(b)
		mpegts.IsTS(b)
	})
}

// Whatever is added, what is read back is what was counted; whatever is cut off, nothing that was flushed is lost.
func FuzzMuxer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 0x65, 1}, uint16(40), uint16(500), true)
	f.Add([]byte{0, 0, 0, 2, 9, 0xF0, 0, 0, 0, 5, 0x65, 0, 0, 1, 4}, uint16(1), uint16(900), false)
	f.Fuzz(func(t *testing.T, data []byte, step, cut uint16, key bool) {
		cfg := mpegts.Config{Video: &mpegts.Track{Codec: media.AVC, Config: avcRecord}, Audio: &mpegts.Track{Codec: media.AC3}}
		m, err := mpegts.NewMuxer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		file := m.Head()
		var safe int
		for i := range 4 {
			at := duration(int64(i) * int64(step))
			m.Add(mpegts.Sample{Video: true, Key: key, Time: at, Data: data})
			m.Add(mpegts.Sample{Key: true, Time: at, Data: data[len(data)/2:]})
			m.Add(mpegts.Sample{Key: true, Time: at + duration(2880), Data: data})
			file = m.Flush(file)
			if len(file) <= int(cut) {
				safe = len(file)
			}
		}
		s, found := scan(t, file, cfg)
		if s.Cut != int64(len(file)) || found.content != m.Content() || s.Muxer.Content() != m.Content() || s.Muxer.Duration() != m.Duration() {
			t.Fatalf("cut %d of %d, content %x and %x, %v and %v", s.Cut, len(file), found.content, m.Content(), s.Muxer.Duration(), m.Duration())
		}
		if int(cut) >= len(m.Head()) && int(cut) <= len(file) {
			if s, found := scan(t, file[:cut], cfg); s.Cut < int64(safe) || s.Cut > int64(cut) || found.content != s.Muxer.Content() {
				t.Fatalf("cut at %d: %d of %d, content %x and %x", cut, s.Cut, safe, found.content, s.Muxer.Content())
			}
		}
		// Garbage in it never gets through as something else than an end.
		if len(file) > int(cut) {
			file[cut] ^= 0x10
			mpegts.Scan(bytes.NewReader(file), int64(len(file)), mpegts.ScanConfig{Config: cfg})
		}
	})
}

// Any payload in packets that are sound, with a hole somewhere.
func FuzzElementary(f *testing.F) {
	f.Add(byte(0x1B), avc(audNAL, spsNAL, ppsNAL, idrNAL), avc(audNAL, pNAL), uint16(3))
	f.Add(byte(0x0F), slices.Concat(adts(50, 1), adts(60, 2)[:40]), adts(60, 2)[40:], uint16(9))
	f.Add(byte(0x03), append([]byte{0xFF, 0xFB, 0x14, 0x64}, make([]byte, 92)...), []byte{0xFF, 0xFB}, uint16(9))
	f.Add(byte(0x87), []byte{0x0b, 0x77, 0x00, 0x05, 0x3f, 0x86, 0xff, 0, 0, 0, 0, 0, 0x0b, 0x77, 0x40, 0x05, 0x3f, 0x86, 0xff, 0, 0, 0, 0, 0}, []byte{0x0b}, uint16(9))
	f.Add(byte(0x11), []byte{0x56, 0xE0, 0x0C, 0x20, 0, 0x11, 0x90, 0, 2, 1, 0xFE, 0, 0, 0, 0}, []byte{0x56}, uint16(9))
	f.Add(byte(0x06), []byte{0x7F, 0xE0, 3, 0xFC, 1, 2}, []byte{0x7F, 0xFC, 0xFF, 3, 0, 0, 0, 0, 1, 9}, uint16(9))
	f.Fuzz(func(t *testing.T, typ byte, a, b []byte, hole uint16) {
		if len(a)+len(b) > 1<<16-100 {
			return
		}
		w := newBuilder().pat(0, 1, 0x100).pmt(0x100, 1, 0, entry{0x101, typ, append([]byte{5, 4}, "Opus"...)})
		for i, p := range [][]byte{a, b, a} {
			w.packets(0x101, pes(0xE0, int64(9000*i)-9000, hole&1 == 1, p))
		}
		for _, torn := range [][]byte{w.b, slices.Delete(slices.Clone(w.b), min(376+int(hole)/188*188, len(w.b)), min(376+int(hole)/188*188+188, len(w.b)))} {
			k := demux(t, torn, 0)
			same(t, k.units, demux(t, torn, 61).units)
			for _, u := range k.units {
				if u.Video != (u.Codec == media.AVC || u.Codec == media.HEVC) || !u.Video && (u.Rate <= 0 || u.Samples <= 0 && !u.Corrupt) || len(u.Data) == 0 && !u.Corrupt {
					t.Fatalf("%+v", u)
				}
				if u.Config == nil || u.Codec == media.MP3 {
					continue
				}
				if _, err := codec.Parse(u.Codec, u.Config); err != nil {
					t.Fatalf("%+v: %v", u, err)
				}
			}
		}
	})
}
