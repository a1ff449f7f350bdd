package repair_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/recorder/repair"
)

// The files in testdata are 2 s of ffmpeg's testsrc2 of 128×72 at 25/s, and of its sine, each with a key frame every
// second where that is said:
//
//	closed.h264     libx264, -x264-params keyint=25:bframes=2:aud=1
//	open.h264       libx264, keyint=25:min-keyint=25:open-gop=1:bframes=2:aud=1: one IDR, then recovery points
//	refresh.h264    libx264, keyint=25:intra-refresh=1: one IDR, then recovery points without any I picture
//	hevc.h265       libx265, keyint=25:open-gop=0:repeat-headers=1:aud=1
//	hevc_open.h265  libx265, keyint=25:open-gop=1:repeat-headers=1: CRA pictures
//	av1.obu         libsvtav1, -g 25 -f obu
//	vp9.ivf         libvpx-vp9, -g 25, 1.2 s
//	opus.ogg        libopus, sound.ac3, sound.eac3, sound.mp3 (48 kHz)
//
// ffmpeg 5.1 cannot put most of them into FLV, so what follows does: wrappers make tag bodies of them.

// unit is one frame of an elementary stream, as MP4 has it.
type unit struct {
	at   int64 // ms
	key  bool  // a decoder can start here
	flag bool  // the source says so
	data []byte
}

// clip is one track.
type clip struct {
	codec  media.Codec
	record []byte // what Configs must say; for MP3 only its length counts
	start  []byte // what the source sends as configuration, where that is something else
	units  []unit
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// nals cuts a stream with start codes.
func nals(b []byte) (out [][]byte) {
	code := []byte{0, 0, 1}
	for i := bytes.Index(b, code); i >= 0; {
		b = b[i+3:]
		i = bytes.Index(b, code)
		nal := b
		if i >= 0 {
			nal = b[:i]
		}
		out = append(out, bytes.TrimRight(nal, "\x00"))
	}
	return out
}

func nalType(c media.Codec, nal []byte) int {
	if c == media.HEVC {
		return int(nal[0] >> 1 & 0x3F)
	}
	return int(nal[0] & 0x1F)
}

func isSet(c media.Codec, t int) bool {
	return c == media.AVC && (t == 7 || t == 8) || c == media.HEVC && t >= 32 && t <= 34
}

// pictures is a clip of H.264 or HEVC. Parameter sets stand in the record alone, unless they are kept.
func pictures(t testing.TB, c media.Codec, name string, keep bool) clip {
	t.Helper()
	out := clip{codec: c}
	var sets codec.ParameterSets
	var au [][]byte
	var seen bool // the access unit has a slice
	flush := func() {
		if !seen {
			return
		}
		u := unit{at: int64(len(out.units)) * 40}
		for _, n := range au {
			u.data = append(binary.BigEndian.AppendUint32(u.data, uint32(len(n))), n...)
		}
		u.key, _ = codec.Key(c, 4, u.data)
		u.flag = u.key
		out.units = append(out.units, u)
		au, seen = nil, false
	}
	for _, n := range nals(file(t, name)) {
		typ := nalType(c, n)
		slice := c == media.AVC && typ >= 1 && typ <= 5 || c == media.HEVC && typ < 32
		first := c == media.AVC && n[1]&0x80 != 0 || c == media.HEVC && slice && n[2]&0x80 != 0
		if !slice || first {
			flush()
		}
		seen = seen || slice
		if isSet(c, typ) {
			to := map[int]*[][]byte{7: &sets.SPS, 8: &sets.PPS, 32: &sets.VPS, 33: &sets.SPS, 34: &sets.PPS}[typ]
			if !slices.ContainsFunc(*to, func(b []byte) bool { return bytes.Equal(b, n) }) {
				*to = append(*to, n)
			}
			if !keep {
				continue
			}
		}
		au = append(au, n)
	}
	flush()
	var err error
	if c == media.AVC {
		out.record, err = codec.BuildAVCC(sets.SPS, sets.PPS)
	} else {
		out.record, err = codec.BuildHVCC(sets.VPS, sets.SPS, sets.PPS)
	}
	if err != nil || len(out.units) != 50 || !out.units[0].key {
		t.Fatalf("%s: %d pictures, %v", name, len(out.units), err)
	}
	return out
}

// startCoded gives a picture start codes.
func startCoded(t testing.TB, data []byte) []byte {
	t.Helper()
	b, err := codec.ToAnnexB(nil, data, 4)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func av1(t testing.TB) clip {
	t.Helper()
	out := clip{codec: media.AV1}
	b := file(t, "av1.obu")
	for len(b) > 0 {
		size, n := binary.Uvarint(b[1:]) // the same as LEB128
		total := 1 + n + int(size)
		if b[0]>>3&15 == 2 { // temporal delimiter
			out.units = append(out.units, unit{at: int64(len(out.units)) * 40})
		} else {
			u := &out.units[len(out.units)-1]
			u.data = append(u.data, b[:total]...)
		}
		b = b[total:]
	}
	for i := range out.units {
		u := &out.units[i]
		u.key, _ = codec.Key(media.AV1, 0, u.data)
		u.flag = u.key
	}
	var ok bool
	if out.record, ok = codec.BuildAV1C(out.units[0].data); !ok || len(out.units) != 50 || !out.units[0].key {
		t.Fatalf("%d temporal units", len(out.units))
	}
	return out
}

func vp9(t testing.TB) clip {
	t.Helper()
	out := clip{codec: media.VP9, record: []byte{0, 10, 0x82, 2, 2, 2, 0, 0}}
	b := file(t, "vp9.ivf")[32:]
	for len(b) > 12 {
		n := int(binary.LittleEndian.Uint32(b))
		u := unit{at: int64(len(out.units)) * 40, data: b[12 : 12+n]}
		u.key, _ = codec.Key(media.VP9, 0, u.data)
		u.flag = u.key
		out.units = append(out.units, u)
		b = b[12+n:]
	}
	if len(out.units) != 30 || !out.units[0].key {
		t.Fatalf("%d frames", len(out.units))
	}
	return out
}

// sound is a clip of a codec whose frames say their length.
func sound(t testing.TB, c media.Codec) clip {
	t.Helper()
	out := clip{codec: c}
	b := file(t, map[media.Codec]string{media.MP3: "sound.mp3", media.AC3: "sound.ac3", media.EAC3: "sound.eac3"}[c])
	at := 0.0
	for len(b) > 8 {
		f, ok := codec.MP3Frame(b)
		if c != media.MP3 {
			f, _, ok = codec.AC3Frame(b)
		}
		if !ok && c == media.MP3 && len(out.units) == 0 { // an ID3 tag
			b = b[1:]
			continue
		}
		if !ok {
			t.Fatalf("%v: no frame after %d", c, len(out.units))
		}
		n := min(f.Size, len(b))
		out.units = append(out.units, unit{at: int64(at), data: b[:n]})
		at += float64(f.Samples) * 1000 / float64(f.Rate)
		b = b[n:]
	}
	var err error
	switch c {
	case media.AC3:
		out.record, err = codec.BuildAC3(out.units[0].data)
	case media.EAC3:
		out.record, err = codec.BuildEAC3(out.units[0].data)
	default:
		out.record = out.units[0].data[:4]
	}
	if err != nil || len(out.units) < 40 {
		t.Fatalf("%v: %d frames, %v", c, len(out.units), err)
	}
	return out
}

func opus(t testing.TB) clip {
	t.Helper()
	out := clip{codec: media.Opus}
	b := file(t, "opus.ogg")
	var packets [][]byte
	var part []byte
	for len(b) >= 27 {
		n := int(b[26])
		lacing, data := b[27:27+n], b[27+n:]
		for _, l := range lacing {
			part = append(part, data[:l]...)
			data = data[l:]
			if l < 255 {
				packets = append(packets, part)
				part = nil
			}
		}
		b = data
	}
	out.start = packets[0]
	var err error
	if out.record, err = codec.BuildOpus(packets[0]); err != nil {
		t.Fatal(err)
	}
	for i, p := range packets[2:] {
		out.units = append(out.units, unit{at: int64(i) * 20, data: p})
	}
	return out
}

// noise is sound of a codec that nothing looks into.
func noise(c media.Codec, record, start []byte, step int64, n int) clip {
	out := clip{codec: c, record: record, start: start}
	for i := range n {
		data := make([]byte, 160)
		for k := range data {
			data[k] = byte(i*7 + k*k + i*k)
		}
		out.units = append(out.units, unit{at: int64(i) * step, data: data})
	}
	return out
}

func aac(n int) clip { return noise(media.AAC, audioA[2:], nil, 23, n) }

// wrap makes the body of a tag: the configuration with header set, else a frame.
type wrap func(header bool, u unit, cts int32) []byte

func u24(v int32) []byte { return []byte{byte(v >> 16), byte(v >> 8), byte(v)} }

// old is the form of FLV of old: codec ids 7, 12 and 13.
func old(id byte) wrap {
	return func(header bool, u unit, cts int32) []byte {
		b := []byte{0x20 | id, 1}
		if u.flag || header {
			b[0] = 0x10 | id
		}
		if header {
			b[1], cts = 0, 0
		}
		return append(append(b, u24(cts)...), u.data...)
	}
}

// enhanced is Enhanced FLV; cts says that coded frames carry it, x that they are sent without. pre stands before the
// FourCC: it begins with the packet type where several bytes are needed to say it.
func enhanced(fourcc string, cts, x bool) wrap {
	return func(header bool, u unit, shift int32) []byte {
		b := []byte{exByte(header, u, x)}
		b = append(b, fourcc...)
		if cts && !header && !x {
			b = append(b, u24(shift)...)
		}
		return append(b, u.data...)
	}
}

func exByte(header bool, u unit, x bool) byte {
	b := byte(0xA1)
	if u.flag || header {
		b = 0x91
	}
	switch {
	case header:
		b &= 0xF0
	case x:
		b += 2
	}
	return b
}

// modEx puts a nanosecond offset and an unknown modifier of 300 bytes in front.
func modEx(w wrap) wrap {
	return func(header bool, u unit, cts int32) []byte {
		b := w(header, u, cts)
		pre := []byte{b[0]&0xF0 | 7, 2, 0, 1, 2, 0x07, 0xFF, 1, 43}
		pre = append(pre, make([]byte, 300)...)
		pre = append(pre, 0x10|b[0]&0x0F)
		return append(pre, b[1:]...)
	}
}

// tracks makes it the form for several tracks: with others 0 one per tag, else as many more with one codec.
func tracks(video bool, number byte, others int, w wrap) wrap {
	return func(header bool, u unit, cts int32) []byte {
		b := w(header, u, cts)
		multi := byte(6)
		if !video {
			multi = 5
		}
		packet := b[0] & 0x0F
		out := []byte{b[0]&0xF0 | multi, packet}
		if others > 0 {
			out[1] |= 0x10
		}
		out = append(out, b[1:5]...)
		data := b[5:]
		if others == 0 {
			return append(append(out, number), data...)
		}
		for i := range others {
			out = append(out, byte(i)+number+1, 0, 0, 3, 1, 2, 3)
		}
		out = append(append(out, number), u24(int32(len(data)))...)
		return append(out, data...)
	}
}

func oldSound(first byte) wrap {
	return func(header bool, u unit, cts int32) []byte {
		if first>>4 == 10 {
			kind := byte(1)
			if header {
				kind = 0
			}
			return append([]byte{first, kind}, u.data...)
		}
		if header {
			return nil
		}
		return append([]byte{first}, u.data...)
	}
}

func newSound(fourcc string, headed bool) wrap {
	return func(header bool, u unit, cts int32) []byte {
		if header && !headed {
			return nil
		}
		b := byte(0x91)
		if header {
			b = 0x90
		}
		return append(append([]byte{b}, fourcc...), u.data...)
	}
}

// tagged is a tag before it is written.
type tagged struct {
	typ  byte
	at   int64
	body []byte
}

// tags wraps a clip, headers in front.
func tags(c clip, w wrap) (out []tagged) {
	typ := byte(flv.TagVideo)
	if c.isSound() {
		typ = flv.TagAudio
	}
	start := c.start
	if start == nil {
		start = c.record
	}
	if b := w(true, unit{data: start}, 0); b != nil {
		out = append(out, tagged{typ, 0, b})
	}
	for i, u := range c.units {
		out = append(out, tagged{typ, u.at, w(false, u, int32(i%3)*40)})
	}
	return out
}

func (c clip) isSound() bool { return c.codec >= media.AAC && c.codec <= media.PCMU }

// mix brings tracks together, in the order of their time.
func mix(ts ...[]tagged) []tagged {
	out := slices.Concat(ts...)
	slices.SortStableFunc(out, func(a, b tagged) int { return int(a.at - b.at) })
	return out
}

// packets is what the Demuxer makes of tags, each at its time plus shift.
func packets(t testing.TB, ts []tagged, shift int64) []media.Packet {
	t.Helper()
	b := flv.AppendFileHeader(nil, true, true)
	for _, x := range ts {
		b = flv.AppendTag(b, x.typ, uint32(x.at+shift), x.body)
	}
	d := flv.NewDemuxer(flv.DemuxerConfig{})
	r := bytes.NewReader(b)
	var out []media.Packet
	for {
		batch, err := d.Fill(r)
		if err == io.EOF {
			batch = d.Close()
		} else if err != nil {
			t.Fatal(err)
		}
		if batch == nil {
			return out
		}
		for _, p := range batch.Packets {
			p.Body = slices.Clone(p.Body)
			out = append(out, p)
		}
		batch.Release()
		if err != nil {
			return out
		}
	}
}

// play pushes packets at the pace of their time stamps.
func (g *rig) play(ps []media.Packet) {
	g.t.Helper()
	if len(ps) == 0 {
		return
	}
	start, first := g.now, ps[0].DTS
	for len(ps) > 0 {
		n := 1
		for n < len(ps) && ps[n].DTS < ps[0].DTS+100 {
			n++
		}
		g.advance(start.Add(time.Duration(max(ps[n-1].DTS-first, 0)) * time.Millisecond))
		g.push(ps[:n]...)
		ps = ps[n:]
	}
}

// samples checks that what was written of a track is these frames.
func (g *rig) samples(c clip, want []unit) {
	g.t.Helper()
	k := media.Video
	if c.isSound() {
		k = media.Audio
	}
	got := g.s.kind(k)
	if len(got) != len(want) {
		g.t.Errorf("%v: %d frames, want %d", c.codec, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i].data, want[i].data) {
			g.t.Errorf("%v: frame %d of %d is %x…, want %x…", c.codec, i, len(want), head(got[i].data), head(want[i].data))
			return
		}
		if k == media.Video && got[i].key != want[i].key {
			g.t.Errorf("%v: frame %d: key is %v", c.codec, i, got[i].key)
		}
	}
}

func head(b []byte) []byte { return b[:min(len(b), 12)] }

// again feeds what was written to a new Repairer: nothing may change (6.3).
func (g *rig) again() {
	g.t.Helper()
	h := newRig(g.t)
	h.r.Connect(h.now, "")
	part := 0
	var ps []media.Packet
	for _, it := range g.s.items {
		if it.part != part {
			part = it.part
			c := g.s.configs[part-1]
			for _, p := range []media.Packet{c.Video, c.Audio} {
				if p.Kind != 0 && len(p.Body) > 0 {
					p.DTS = it.out
					p.Body = slices.Clone(p.Body)
					ps = append(ps, p)
				}
			}
		}
		p := it.packet
		p.DTS = it.out
		ps = append(ps, p)
	}
	h.play(ps)
	h.disconnect()
	h.want(0, 0, 0)
	if len(h.errs) > 0 {
		g.t.Errorf("again: %v", h.errs)
	}
	if len(h.s.items) != len(g.s.items) || h.s.content != g.s.content || len(h.s.configs) != len(g.s.configs) {
		g.t.Errorf("%d items in %d parts, content %x; again: %d items in %d parts, %x", len(g.s.items), len(g.s.configs), g.s.content,
			len(h.s.items), len(h.s.configs), h.s.content)
		return
	}
	for i := range h.s.items {
		if a, b := g.s.items[i], h.s.items[i]; a.out != b.out || !bytes.Equal(a.data, b.data) || a.key != b.key {
			g.t.Fatal(fmt.Sprintf("item %d: %+v, again %+v", i, a.packet, b.packet))
		}
	}
	st := h.r.Stats()
	st.Changes, st.FillerBytes = 0, 0
	if st != (repair.Stats{}) {
		g.t.Errorf("a rule fired: %+v", st)
	}
}

// note takes a State through JSON.
func (g *rig) note() repair.State {
	g.t.Helper()
	b, err := json.Marshal(g.r.State())
	if err != nil {
		g.t.Fatal(err)
	}
	var s repair.State
	if err := json.Unmarshal(b, &s); err != nil {
		g.t.Fatal(err)
	}
	return s
}
