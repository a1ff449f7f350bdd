package codec_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// What x264 and x265 say of 320×180 at 25/s and 318×178 at 30/s.
var (
	avcSPS  = unhex("6764000cacd941419f9f011000000300100000030320f1429960")
	avcPPS  = unhex("68ebecb22c")
	hevcVPS = unhex("40010c01ffff01600000030090000003000003003f959809")
	hevcSPS = unhex("42010101600000030090000003000003003fa00a080b9f796566924caf010000030001000003001e08")
	hevcPPS = unhex("4401c172b46240")
)

var every = []media.Codec{media.NoCodec, media.AVC, media.HEVC, media.AV1, media.VP9, media.AAC, media.MP3, media.Opus, media.AC3, media.EAC3,
	media.FLAC, media.PCMA, media.PCMU, media.VP8, media.VVC, media.OtherCodec}

func TestAudioSpecificConfig(t *testing.T) {
	for _, c := range []struct {
		hex, name                   string
		rate, core, channels, frame int
	}{
		{"1210", "mp4a.40.2", 44100, 44100, 2, 1024},
		{"1190", "mp4a.40.2", 48000, 48000, 2, 1024},
		{"121056e500", "mp4a.40.2", 44100, 44100, 2, 1024}, // SBR: no
		{"1214", "mp4a.40.2", 44100, 44100, 2, 960},
		{"2b118800", "mp4a.40.5", 48000, 24000, 2, 2048},
		{"29918800", "mp4a.40.5", 48000, 48000, 2, 1024},   // SBR that does not double
		{"131056e598", "mp4a.40.2", 48000, 24000, 2, 2048}, // announced behind
		{"eb098800", "mp4a.40.29", 48000, 24000, 2, 2048},  // parametric stereo: two channels out of one
		{"130856e59d4880", "mp4a.40.2", 48000, 24000, 2, 2048},
		{"1780567010", "mp4a.40.2", 44256, 44256, 2, 1024}, // a rate of its own
		{"b990", "mp4a.40.23", 48000, 48000, 2, 512},
		{"f8e650", "mp4a.40.39", 48000, 48000, 2, 480},
		{"11b8", "mp4a.40.2", 48000, 48000, 8, 1024}, // 7.1
		{hex: ""}, {hex: "12"}, {hex: "1680"}, {hex: "0000"}, {hex: "17"}, {hex: "11c0"},
	} {
		i, err := codec.Parse(media.AAC, unhex(c.hex))
		if c.rate == 0 {
			if !errors.Is(err, codec.ErrBad) {
				t.Errorf("%s: %+v, %v", c.hex, i, err)
			}
			continue
		}
		if err != nil || i.Name != c.name || i.SampleRate != c.rate || i.CoreRate != c.core || i.Channels != c.channels || i.FrameSamples != c.frame {
			t.Errorf("%s: %+v, %v", c.hex, i, err)
		}
	}
}

func TestADTS(t *testing.T) {
	for _, asc := range []string{"1210", "1190", "1208", "0a10", "1230"} {
		h, err := codec.AppendADTS([]byte{7}, unhex(asc), 700)
		if err != nil || len(h) != 8 {
			t.Fatalf("%s: %x, %v", asc, h, err)
		}
		f, ok := codec.ADTSFrame(h[1:])
		back, err := codec.BuildASC(h[1:])
		if !ok || f.Size != 707 || f.Header != 7 || f.Samples != 1024 || err != nil || hex.EncodeToString(back) != asc {
			t.Errorf("%s: %+v, %v; back %x, %v", asc, f, ok, back, err)
		}
	}
	for _, c := range []struct {
		asc  string
		size int
	}{{"1210", 8185}, {"1780567010", 100}, {"1214", 100}, {"f8e650", 100}, {"", 100}} {
		if h, err := codec.AppendADTS(nil, unhex(c.asc), c.size); !errors.Is(err, codec.ErrBad) || h != nil {
			t.Errorf("%s, %d bytes: %x, %v", c.asc, c.size, h, err)
		}
	}
	for _, bad := range []string{"fff15080", "fff1f480000ffc", "fff15080000ffc", "fff35080587ffc", "00f15080587ffc"} {
		if f, ok := codec.ADTSFrame(unhex(bad)); ok {
			t.Errorf("%s: %+v", bad, f)
		}
	}
}

func TestSyncFrames(t *testing.T) {
	for _, c := range []struct {
		hex      string
		f        codec.Frame
		enhanced bool
	}{
		{"0b7700001c405fe1", codec.Frame{Size: 1536, Rate: 48000, Samples: 1536}, false}, // 384 kb/s
		{"0b7702ff3f86ff00", codec.Frame{Size: 1536, Rate: 48000, Samples: 1536}, true},
		{"0b7701ff0f86ff00", codec.Frame{Size: 1024, Rate: 48000, Samples: 256}, true},
		{"0b7742ff3f86ff00", codec.Frame{Size: 1536, Rate: 48000}, true}, // depends on the one before
		{"0b770aff3f86ff00", codec.Frame{Size: 1536, Rate: 48000}, true}, // of the second program
	} {
		f, enhanced, ok := codec.AC3Frame(unhex(c.hex))
		if !ok || f != c.f || enhanced != c.enhanced {
			t.Errorf("%s: %+v, %v, %v; want %+v", c.hex, f, enhanced, ok, c.f)
		}
	}
	for code, size := range map[byte]int{0x40: 138, 0x41: 140, 0x5C: 1670, 0x5D: 1672, 0x00: 128, 0x25: 2560, 0xA5: 3840} {
		f, _, ok := codec.AC3Frame([]byte{0x0B, 0x77, 0, 0, code, 0x40, 0, 0})
		if !ok || f.Size != size {
			t.Errorf("code %#x: %+v, %v; want %d", code, f, ok, size)
		}
	}
	for _, bad := range []string{"0b7700001e40", "0b770000de405fe1", "0b77000026405fe1", "0b7700001e985fe1", "0b77c2ff3f86ff00"} {
		if f, _, ok := codec.AC3Frame(unhex(bad)); ok {
			t.Errorf("%s: %+v", bad, f)
		}
	}
	for _, c := range []struct {
		hex string
		n   int
	}{{"fc", 960}, {"fd", 1920}, {"e0", 120}, {"fb03", 2880}, {"1b02", 5760}, {"1b03", 0}, {"78", 960}, {"fb", 0}, {"", 0}, {"08", 960}} {
		i := codec.Info{Codec: media.Opus}
		if n := i.Samples(unhex(c.hex)); n != c.n {
			t.Errorf("Opus %s: %d samples, want %d", c.hex, n, c.n)
		}
	}
}

func annexB(nals ...[]byte) []byte {
	var b []byte
	for i, n := range nals {
		if i%2 == 0 {
			b = append(b, 0)
		}
		b = append(append(b, 0, 0, 1), n...)
	}
	return b
}

func prefixed(n int, nals ...[]byte) []byte {
	var b []byte
	for _, nal := range nals {
		l := binary.BigEndian.AppendUint32(nil, uint32(len(nal)))
		b = append(append(b, l[4-n:]...), nal...)
	}
	return b
}

var (
	idr    = []byte{0x65, 0x88, 0x84, 1}
	inter  = []byte{0x41, 0x9A, 0x24, 1}
	intra  = []byte{0x41, 0x88, 0x84, 1} // I, but no IDR
	aud    = []byte{9, 0xF0}
	filler = []byte{12, 0xFF, 0xFF, 0x80}
	sei    = []byte{6, 5, 4, 1, 2, 3, 4, 0x80}
	point  = []byte{6, 6, 1, 0xC4, 0x80} // recovery point, at once
)

// otherPPS is one of number 0 too, and not the same.
func otherPPS() []byte { p := bytes.Clone(avcPPS); p[len(p)-1] ^= 4; return p }

func TestSets(t *testing.T) {
	s, err := codec.NewSets(media.AVC, nil)
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string, nals [][]byte, want codec.Picture, left ...[]byte) {
		t.Helper()
		before := s.Record()
		got, p := s.FromAnnexB([]byte{1, 2}, annexB(nals...))
		if p != want || !bytes.Equal(got[2:], prefixed(4, left...)) {
			t.Errorf("%s: %+v %x\nwant %+v %x", what, p, got[2:], want, prefixed(4, left...))
		}
		if changed := !bytes.Equal(before, s.Record()); changed != want.Changed {
			t.Errorf("%s: the record changed: %v", what, changed)
		}
	}
	type n = [][]byte
	step("before all", n{aud, inter}, codec.Picture{Slices: 1}, inter)
	step("alone", n{aud, avcSPS}, codec.Picture{})
	step("not yet", n{inter}, codec.Picture{Slices: 1}, avcSPS, inter)
	step("the rest", n{avcPPS, inter, inter}, codec.Picture{Slices: 2, Changed: true}, inter, inter)
	first := s.Record()
	step("key", n{aud, avcSPS, avcPPS, sei, idr, filler}, codec.Picture{Slices: 1, Key: true}, sei, idr)
	step("changed inside", n{aud, otherPPS(), inter}, codec.Picture{Slices: 1}, otherPPS(), inter)
	step("changed at key", n{aud, avcSPS, otherPPS(), idr}, codec.Picture{Slices: 1, Key: true, Changed: true}, idr)
	if codec.Equal(media.AVC, first, s.Record()) {
		t.Error("another PPS makes no difference")
	}
	step("ahead of it", n{avcPPS}, codec.Picture{})
	step("and it", n{idr}, codec.Picture{Slices: 1, Key: true, Changed: true}, idr)
	step("recovery point", n{point, intra}, codec.Picture{Slices: 1, Key: true, Open: true}, point, intra)
	step("intra alone", n{intra}, codec.Picture{Slices: 1}, intra)
	step("a P slice among them", n{point, intra, inter}, codec.Picture{Slices: 2}, point, intra, inter)
	step("sets and intra", n{avcSPS, avcPPS, intra}, codec.Picture{Slices: 1, Key: true, Open: true}, intra)
	step("forbidden bit", n{{0xE5, 1, 2}, inter}, codec.Picture{Slices: 1, Broken: true}, inter)
	step("an SPS that is none", n{{0x67, 1}, idr}, codec.Picture{Slices: 1, Key: true}, []byte{0x67, 1}, idr)

	if !codec.Equal(media.AVC, s.Record(), first) {
		t.Errorf("%x\nis not %x", s.Record(), first)
	}
	again, err := codec.NewSets(media.AVC, first)
	if err != nil || !bytes.Equal(again.Record(), first) {
		t.Fatalf("%v: %x", err, again.Record())
	}
	for _, size := range []int{1, 2, 4} {
		got, p := again.FromPrefixed(nil, prefixed(size, aud, avcSPS, avcPPS, idr), size)
		if !bytes.Equal(got, prefixed(4, idr)) || p != (codec.Picture{Slices: 1, Key: true}) {
			t.Errorf("lengths of %d bytes: %x, %+v", size, got, p)
		}
	}
	got, p := again.FromPrefixed(nil, append(prefixed(4, inter), 0, 0, 1, 0, 7), 4)
	if !bytes.Equal(got, prefixed(4, inter)) || !p.Broken {
		t.Errorf("a torn one: %x, %+v", got, p)
	}
	if _, err := codec.ToAnnexB(nil, []byte{0, 0, 0, 9, 1}, 4); !errors.Is(err, codec.ErrBad) {
		t.Errorf("a torn one to Annex B: %v", err)
	}
}

func TestSetsOfAnotherSequence(t *testing.T) {
	pps1 := []byte{0x68, 0x5A, 0xEC, 0xB2, 0x2C} // number 1
	s, _ := codec.NewSets(media.AVC, nil)
	s.FromAnnexB(nil, annexB(avcSPS, avcPPS, pps1, idr))
	p, err := codec.ReadSets(media.AVC, s.Record())
	if err != nil || len(p.PPS) != 2 {
		t.Fatalf("%v, %d PPS", err, len(p.PPS))
	}
	next := bytes.Clone(avcSPS)
	next[3]++ // another level
	if _, pic := s.FromAnnexB(nil, annexB(next, avcPPS, idr)); !pic.Changed {
		t.Error("no change")
	}
	if p, err = codec.ReadSets(media.AVC, s.Record()); err != nil || len(p.PPS) != 1 || len(p.SPS) != 1 || !bytes.Equal(p.SPS[0], next) {
		t.Errorf("%v, %x", err, p)
	}
}

func TestSetsAllocNothing(t *testing.T) {
	s, _ := codec.NewSets(media.AVC, nil)
	au := annexB(aud, avcSPS, avcPPS, sei, idr, filler)
	dst, _ := s.FromAnnexB(make([]byte, 0, 1000), au)
	if n := testing.AllocsPerRun(100, func() {
		dst, _ = s.FromAnnexB(dst[:0], au)
		codec.Key(media.AVC, 4, dst)
	}); n != 0 {
		t.Errorf("%v allocations per picture", n)
	}
}

func TestEqual(t *testing.T) {
	pps1 := []byte{0x68, 0x5A, 0xEC, 0xB2, 0x2C}
	build := func(sps []byte, pps ...[]byte) []byte {
		rec, err := codec.BuildAVCC([][]byte{sps}, pps)
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	level := bytes.Clone(avcSPS)
	level[3]++
	short := build(avcSPS, avcPPS)
	short[4] = 0xFD
	dac3, _ := codec.BuildAC3(unhex("0b7700001e405fe1"))
	opus, _ := codec.BuildOpusTS(2)
	rate := bytes.Clone(opus)
	rate[5]++
	mono, _ := codec.BuildOpusTS(1)
	for i, c := range []struct {
		codec media.Codec
		a, b  []byte
		same  bool
	}{
		{media.AVC, build(avcSPS, avcPPS, pps1), build(avcSPS, pps1, avcPPS), true},
		{media.AVC, build(avcSPS, avcPPS), build(avcSPS, avcPPS)[:len(build(avcSPS, avcPPS))-4], true}, // without the chroma at its end
		{media.AVC, build(avcSPS, avcPPS), build(avcSPS, avcPPS, pps1), false},
		{media.AVC, build(avcSPS, avcPPS), build(level, avcPPS), false},
		{media.AVC, build(avcSPS, avcPPS), short, false},
		{media.AVC, []byte{1, 2}, []byte{1, 2}, true},
		{media.AVC, []byte{1, 2}, []byte{1, 3}, false},
		{media.AAC, unhex("1210"), unhex("1190"), false},
		{media.AAC, unhex("1210"), unhex("121000"), true},
		{media.AAC, unhex("1210"), unhex("1214"), false},
		{media.AAC, unhex("1310"), unhex("131056e598"), false},
		{media.Opus, opus, rate, true},
		{media.Opus, opus, mono, false},
		{media.AC3, dac3, bytes.Clone(dac3), true},
		{media.MP3, nil, []byte{}, true},
		{media.VP9, unhex("0100000000158201020200" + "00"), unhex("00158201020200" + "00"), true},
		{media.VP9, unhex("01000000001f820102020000"), unhex("0015820102020000"), false},
	} {
		if got := codec.Equal(c.codec, c.a, c.b); got != c.same {
			t.Errorf("%d, %v: %v", i, c.codec, got)
		}
		if codec.Equal(c.codec, c.a, c.b) != codec.Equal(c.codec, c.b, c.a) {
			t.Errorf("%d, %v: one way only", i, c.codec)
		}
	}
}

func TestHEVCRecord(t *testing.T) {
	rec, err := codec.BuildHVCC([][]byte{hevcVPS}, [][]byte{hevcSPS}, [][]byte{hevcPPS})
	if err != nil {
		t.Fatal(err)
	}
	i, err := codec.Parse(media.HEVC, rec)
	if err != nil || i.Name != "hvc1.1.6.L63.90" || i.NALLength != 4 {
		t.Errorf("%+v, %v", i, err)
	}
	for _, c := range []struct {
		typ       byte
		key, open bool
	}{{1, false, false}, {19, true, false}, {20, true, false}, {21, true, true}, {16, true, true}, {17, true, false}, {22, false, false}} {
		nal := []byte{c.typ << 1, 1, 0x80}
		if key, open := codec.Key(media.HEVC, 4, prefixed(4, nal)); key != c.key || open != c.open {
			t.Errorf("type %d: %v, %v", c.typ, key, open)
		}
		nal[1] |= 8 // another layer
		if key, _ := codec.Key(media.HEVC, 4, prefixed(4, nal)); key {
			t.Errorf("type %d of an enhancement layer is a key", c.typ)
		}
	}
}

func FuzzRecords(f *testing.F) {
	avcC, _ := codec.BuildAVCC([][]byte{avcSPS}, [][]byte{avcPPS})
	hvcC, _ := codec.BuildHVCC([][]byte{hevcVPS}, [][]byte{hevcSPS}, [][]byte{hevcPPS})
	for _, b := range [][]byte{avcC, hvcC, unhex("810d0c000a0b0000002d4cffb3cc06fdc0"), unhex("121056e500"), unhex("000201380000bb80000000"), unhex("103dc0"),
		unhex("0c00200f00"), unhex("56e00c20001190000201fe00000000"), unhex("0000000080000022" + "10001000" + "000000000000" + "0bb802f000000000" + strings.Repeat("00", 16))} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range every {
			i, err := codec.Parse(c, b)
			if err != nil && !errors.Is(err, codec.ErrBad) {
				t.Fatalf("%v: %v", c, err)
			}
			if err == nil && (i.Codec != c || i.Width < 0 || i.Height < 0 || i.SampleRate < 0 || i.Channels < 0 || i.FrameDuration() < 0 || i.Samples(b) < 0) {
				t.Fatalf("%v: %+v", c, i)
			}
			if !codec.Equal(c, b, bytes.Clone(b)) {
				t.Fatalf("%v is not equal to itself", c)
			}
			codec.Equal(c, b, b[:len(b)/2])
			codec.Key(c, 4, b)
			codec.NewSets(c, b)
		}
		for _, build := range []struct {
			codec media.Codec
			make  func([]byte) ([]byte, error)
		}{{media.AAC, codec.BuildASC}, {media.Opus, codec.BuildOpus}, {media.AC3, codec.BuildAC3}, {media.EAC3, codec.BuildEAC3}, {media.FLAC, codec.BuildFLAC},
			{media.AV1, func(b []byte) ([]byte, error) {
				if rec, ok := codec.BuildAV1C(b); ok {
					return rec, nil
				}
				return nil, codec.ErrBad
			}}} {
			if rec, err := build.make(b); err == nil {
				if _, err := codec.Parse(build.codec, rec); err != nil {
					t.Fatalf("%v: made %x of %x, and %v", build.codec, rec, b, err)
				}
			}
		}
		codec.MP3Frame(b)
		codec.OpusTS(b)
		codec.AppendADTS(nil, b, len(b))
		codec.AV1Sample(nil, b)
		var l codec.LATM
		if data, _, err := l.Read(b); err == nil && (l.Record() == nil || len(data) > len(b)) {
			t.Fatalf("LATM: %x", data)
		}
	})
}

func FuzzSets(f *testing.F) {
	f.Add(annexB(aud, avcSPS, avcPPS, sei, idr), true)
	f.Add(annexB([]byte{0x46, 1, 0x50}, hevcVPS, hevcSPS, hevcPPS, []byte{0x28, 1, 0x80}), false)
	f.Add(annexB(point, intra), true)
	f.Fuzz(func(t *testing.T, b []byte, avc bool) {
		c := media.HEVC
		if avc {
			c = media.AVC
		}
		s, _ := codec.NewSets(c, nil)
		got, p := s.FromAnnexB(nil, b)
		if (p.Slices == 0) != (len(got) == 0) {
			t.Fatalf("%+v, %d bytes", p, len(got))
		}
		if rec := s.Record(); rec != nil {
			if _, err := codec.Parse(c, rec); err != nil {
				t.Fatalf("%v: %x", err, rec)
			}
		}
		// What came out stays as it is.
		again, q := s.FromPrefixed(nil, got, 4)
		if !bytes.Equal(again, got) && !q.Changed || q.Broken {
			t.Fatalf("%x\nthen %x %+v", got, again, q)
		}
		back, err := codec.ToAnnexB(nil, again, 4)
		if err != nil {
			t.Fatal(err)
		}
		if third, _ := s.FromAnnexB(nil, back); !bytes.Equal(third, again) {
			t.Fatalf("%x\nthen %x", again, third)
		}
		for n := 1; n <= 4; n++ {
			s.FromPrefixed(nil, b, n)
			codec.ToAnnexB(nil, b, n)
			codec.Key(c, n, b)
		}
	})
}

func TestSPSOfOtherEncoders(t *testing.T) {
	for name, c := range map[string]struct {
		sps           string
		width, height int
		rate          float64
	}{
		"x264 1080p, cropped": {"6764002aacd940780227e5c05a808080a0000003002000000781e30632c0", 1920, 1080, 30},
		"baseline":            {"6742c01ed9005005bb011000000300100000030320f162e480", 1280, 720, 25},
	} {
		record, err := codec.BuildAVCC([][]byte{unhex(c.sps)}, [][]byte{unhex("68ef8fcb")})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if i, err := codec.Parse(media.AVC, record); err != nil || i.Width != c.width || i.Height != c.height || i.FrameRate != c.rate {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
}
