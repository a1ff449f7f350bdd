package flv

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

func TestParseVideoConfig(t *testing.T) {
	c, err := ParseVideoConfig(videoConfig)
	if err != nil {
		t.Fatal(err)
	}
	if c.Width != 320 || c.Height != 180 || c.FrameRate != 25 || c.FrameDuration() != 40*time.Millisecond ||
		c.Profile != 100 || c.Level != 12 || c.LengthSize != 4 || len(c.SPS) != 1 || len(c.PPS) != 1 {
		t.Fatalf("got %+v", c)
	}
}

func TestBadVideoConfig(t *testing.T) { // C18
	edit := func(f func(b []byte) []byte) []byte { return f(slices.Clone(videoConfig)) }
	for name, b := range map[string][]byte{
		"empty":              nil,
		"one byte":           {0x17},
		"header only":        videoConfig[:5],
		"frames":             edit(func(b []byte) []byte { b[1] = 1; return b }),
		"HEVC":               edit(func(b []byte) []byte { b[0] = 0x1C; return b }),
		"no SPS":             edit(func(b []byte) []byte { b[10] = 0xE0; return b }),
		"version":            edit(func(b []byte) []byte { b[5] = 0; return b }),
		"SPS too long":       edit(func(b []byte) []byte { b[11] = 1; return b }),
		"SPS is none":        edit(func(b []byte) []byte { b[13] = 0x68; return b }),
		"SPS is cut":         videoConfig[:20],
		"SPS of no size":     edit(func(b []byte) []byte { b[12] = 0; return b }),
		"noise as SPS":       edit(func(b []byte) []byte { copy(b[17:], "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"); return b }),
		"PPS is cut":         videoConfig[:len(videoConfig)-6],
		"Enhanced FLV, avc1": append([]byte("\x90avc1"), videoConfig[5:]...),
	} {
		if _, err := ParseVideoConfig(b); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVideoConfigEqual(t *testing.T) {
	sps, pps := unhex("6764000cacd941419f9f011000000300100000030320f1429960"), unhex("68ef8fcb")
	other := unhex("68ee3cb0")
	build := func(size int, sps, pps [][]byte) []byte {
		b, err := BuildVideoConfig(size, sps, pps)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	same := build(4, [][]byte{sps}, [][]byte{pps})
	if !bytes.Equal(same, videoConfig) {
		t.Fatalf("built %x, the encoder wrote %x", same, videoConfig)
	}
	level := slices.Clone(videoConfig)
	level[8]++ // only said outside of the SPS
	for name, tc := range map[string]struct {
		a, b []byte
		want bool
	}{
		"same bytes":      {videoConfig, same, true},
		"no extension":    {videoConfig, videoConfig[:len(videoConfig)-4], true},
		"level outside":   {videoConfig, level, true},
		"order of PPS":    {build(4, [][]byte{sps}, [][]byte{pps, other}), build(4, [][]byte{sps}, [][]byte{other, pps}), true},
		"twice":           {videoConfig, build(4, [][]byte{sps, sps}, [][]byte{pps}), true},
		"another PPS":     {videoConfig, build(4, [][]byte{sps}, [][]byte{other}), false},
		"one PPS more":    {videoConfig, build(4, [][]byte{sps}, [][]byte{pps, other}), false},
		"length size":     {videoConfig, build(2, [][]byte{sps}, [][]byte{pps}), false},
		"broken":          {videoConfig, videoConfig[:9], false},
		"equally broken":  {videoConfig[:9], videoConfig[:9], true},
		"nothing":         {nil, videoConfig, false},
		"nothing at all ": {nil, nil, true},
	} {
		if VideoConfigEqual(tc.a, tc.b) != tc.want || VideoConfigEqual(tc.b, tc.a) != tc.want {
			t.Errorf("%s: not %v", name, tc.want)
		}
	}
	if _, err := BuildVideoConfig(4, nil, [][]byte{pps}); !errors.Is(err, ErrBadConfig) {
		t.Errorf("built without SPS: %v", err)
	}
}

func TestParseASC(t *testing.T) {
	for name, tc := range map[string]struct {
		asc  string
		want [5]int // object type, rate, that of the core, channels, samples of a frame
	}{
		"LC 44.1":                {"1210", [5]int{2, 44100, 44100, 2, 1024}},
		"LC 48":                  {"1190", [5]int{2, 48000, 48000, 2, 1024}},
		"LC, SBR said to be off": {"121056e500", [5]int{2, 44100, 44100, 2, 1024}},
		"LC 960":                 {"1194", [5]int{2, 48000, 48000, 2, 960}},
		"mono":                   {"1208", [5]int{2, 44100, 44100, 1, 1024}},
		"7.1":                    {"1238", [5]int{2, 44100, 44100, 8, 1024}},
		"explicit SBR":           {"2b920800", [5]int{2, 44100, 22050, 2, 2048}},
		"PS":                     {"eb8a0800", [5]int{2, 44100, 22050, 2, 2048}},
		"SBR behind":             {"139056e5a0", [5]int{2, 44100, 22050, 2, 2048}},
		"rate as a number":       {"1780258010", [5]int{2, 19200, 19200, 2, 1024}},
	} {
		got, err := ParseASC(unhex(tc.asc))
		if err != nil || [5]int{got.Profile, got.SampleRate, got.CoreRate, got.Channels, got.FrameSamples} != tc.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, asc := range map[string]string{"empty": "", "one byte": "12", "no rate": "1680", "no object": "0210", "no channels": "1200", "SBR cut": "2b92"} {
		if c, err := ParseASC(unhex(asc)); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	c, err := ParseAudioConfig(audioConfig)
	if err != nil || c.FrameDuration().Round(time.Microsecond) != 23220*time.Microsecond {
		t.Errorf("%+v %v, %v", c, c.FrameDuration(), err)
	}
	for _, b := range [][]byte{nil, {0xAF}, {0xAF, 0}, {0xAF, 1, 0x12, 0x10}, {0x2F, 0, 0x12, 0x10}} {
		if _, err := ParseAudioConfig(b); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%x: %v", b, err)
		}
	}
	if !AudioConfigEqual(audioConfig, unhex("af001210")) || AudioConfigEqual(audioConfig, unhex("af001190")) || AudioConfigEqual(audioConfig, nil) {
		t.Error("comparison of audio configurations")
	}
}

func TestNALUnits(t *testing.T) {
	nals := func(ns ...[]byte) []byte {
		b := []byte{0x17, 1, 0, 0, 0}
		for _, n := range ns {
			b = append(b, 0, 0, 0, byte(len(n)))
			b = append(b, n...)
		}
		return b
	}
	sps := []byte{0x67, 1, 2, 3}
	idr := nals([]byte{9, 0x10}, sps, []byte{0x68, 1}, []byte{0x65, 1})
	if !IsIDR(idr, 4) || !bytes.Equal(InBandSPS(idr, 4), sps) || !bytes.Equal(InBandPPS(idr, 4), []byte{0x68, 1}) || IsAnnexB(idr, 4) {
		t.Error("an IDR picture with its parameter sets")
	}
	open := nals([]byte{6, 6}, []byte{0x61, 1})
	if IsIDR(open, 4) || InBandSPS(open, 4) != nil {
		t.Error("an open GOP")
	}
	if IsIDR(idr[:12], 4) || IsIDR(nil, 4) || IsIDR(idr, 0) || IsIDR(idr, 5) {
		t.Error("broken bodies")
	}
	if n := testing.AllocsPerRun(100, func() { IsIDR(idr, 4); InBandSPS(idr, 4) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestClassify(t *testing.T) {
	const (
		cfg, vid, end, bad, scr = media.VideoConfig, media.Video, media.EndMark, media.Invalid, media.Script
		avc, hevc, av1, vp9     = media.AVC, media.HEVC, media.AV1, media.VP9
	)
	for in, want := range map[string]Class{
		"\x17\x00\x00\x00\x00\x01": {Kind: cfg, Codec: avc, Lead: 5},
		"\x17\x01\xFF\xFF\xB0x":    {Kind: vid, Codec: avc, Key: true, CTS: -80, Lead: 5},
		"\x27\x01\x7F\xFF\xFFx":    {Kind: vid, Codec: avc, CTS: 0x7FFFFF, Lead: 5},
		"\x27\x01\x80\x00\x00x":    {Kind: vid, Codec: avc, CTS: -0x800000, Lead: 5},
		"\x17\x02\x00\x00\x00":     {Kind: end, Codec: avc, Lead: 5},
		"\x17\x02":                 {Kind: end, Codec: avc, Lead: 2},
		"\x17\x03\x00\x00\x00x":    {Kind: bad, Codec: avc},
		"\x1C\x00\x00\x00\x00\x01": {Kind: cfg, Codec: hevc, Lead: 5},
		"\x1C\x01\x00\x00\x28x":    {Kind: vid, Codec: hevc, Key: true, CTS: 40, Lead: 5},
		"\x2D\x01\x00\x00\x00x":    {Kind: vid, Codec: av1, Lead: 5},
		"\x12x":                    {Kind: vid, Codec: media.OtherCodec, Key: true, Lead: 1},
		"\x57\x00":                 {Kind: bad, Codec: avc},
		"\x90hvc1x":                {Kind: cfg, Codec: hevc, Lead: 5},
		"\x90hvc1":                 {Kind: bad, Codec: hevc, Lead: 5},
		"\x91hvc1\xFF\xFF\xB0x":    {Kind: vid, Codec: hevc, Key: true, CTS: -80, Lead: 8},
		"\x91hvc1\xFF\xFF\xB0":     {Kind: bad, Codec: hevc, CTS: -80, Lead: 8},
		"\xA3hvc1x":                {Kind: vid, Codec: hevc, Lead: 5},
		"\x93avc1x":                {Kind: vid, Codec: avc, Key: true, Lead: 5},
		"\x91av01x":                {Kind: vid, Codec: av1, Key: true, Lead: 5},
		"\x92av01":                 {Kind: end, Codec: av1, Lead: 5},
		"\x95av01\x80\x04":         {Kind: cfg, Codec: av1, Lead: 5},
		"\x91vp09x":                {Kind: vid, Codec: vp9, Key: true, Lead: 5},
		"\xA1vp08x":                {Kind: vid, Codec: media.VP8, Lead: 5},
		"\x91vvc1\x00\x00\x00x":    {Kind: vid, Codec: media.VVC, Key: true, Lead: 8},
		"\x91avc1\x00\x00\x28x":    {Kind: vid, Codec: avc, Key: true, CTS: 40, Lead: 8},
		"\x91evilx":                {Kind: vid, Codec: media.OtherCodec, Key: true, Lead: 5},
		"\x94hvc1x":                {Kind: scr, Codec: hevc, Lead: 5},
		"\xD4hvc1x":                {Kind: scr, Codec: hevc, Lead: 5}, // the frame type does not matter
		"\xD1hvc1\x00\x00\x00x":    {Kind: bad, Codec: hevc},
		"\x91hvc1\x00":             {Kind: bad, Codec: hevc, Lead: 5},
		"\x97\x02abc\x03hvc1x":     {Kind: vid, Codec: hevc, Key: true, Lead: 10},
		"\x97\x00a\x07\x00b\x01hvc1\x00\x00\x09x": {Kind: vid, Codec: hevc, Key: true, CTS: 9, Lead: 14},
		"\x97\xFF\x00\x00a\x07\x00b\x03hv":        {Kind: bad, Codec: media.OtherCodec},
		"\x97\xFF\x00\x00a\x03hvc1x":              {Kind: vid, Codec: hevc, Key: true, Lead: 10},
		"\x97\x09a":                               {Kind: bad, Codec: media.OtherCodec},
		// One track, with its number.
		"\x96\x01av01\x00x":             {Kind: vid, Codec: av1, Key: true, Lead: 7},
		"\x96\x01av01\x05x":             {Kind: vid, Codec: av1, Key: true, Lead: 7, Track: 5},
		"\x96\x01hvc1\x02\x00\x00\x07x": {Kind: vid, Codec: hevc, Key: true, CTS: 7, Lead: 10, Track: 2},
		"\x96\x00hvc1\x00x":             {Kind: cfg, Codec: hevc, Lead: 7},
		"\x96\x01av01":                  {Kind: bad, Codec: media.OtherCodec},
		"\x96\x06av01\x00x":             {Kind: bad, Codec: media.OtherCodec},
		"\x96\x31av01\x00x":             {Kind: bad, Codec: media.OtherCodec},
		// Two tracks of one codec: 0 wherever it stands, else the first.
		"\x96\x13av01\x00\x00\x00\x02ab\x01\x00\x00\x01c": {Kind: vid, Codec: av1, Key: true, Lead: 10, End: 12, Others: 1},
		"\x96\x13av01\x01\x00\x00\x02ab\x00\x00\x00\x01c": {Kind: vid, Codec: av1, Key: true, Lead: 16, Others: 1},
		"\x96\x13av01\x07\x00\x00\x02ab\x03\x00\x00\x01c": {Kind: vid, Codec: av1, Key: true, Lead: 10, End: 12, Track: 7, Others: 1},
		"\x96\x13av01\x00\x00\x00\x02ab\x01\x00\x00\x09c": {Kind: vid, Codec: av1, Key: true, Lead: 10, End: 12},
		"\x96\x13av01\x00\x00\x00\x09ab":                  {Kind: bad, Codec: media.OtherCodec},
		// Two tracks of two codecs.
		"\x96\x21av01\x01\x00\x00\x02abhvc1\x00\x00\x00\x04\x00\x00\x05c": {Kind: vid, Codec: hevc, Key: true, CTS: 5, Lead: 23, Others: 1},
		"\x97\x00a\x06\x21av01\x00\x00\x00\x01avp09\x01\x00\x00\x01b":     {Kind: vid, Codec: av1, Key: true, Lead: 13, End: 14, Others: 1},
	} {
		if got := Classify(TagVideo, []byte(in)); got != want {
			t.Errorf("video %q: %+v, want %+v", in, got, want)
		}
	}
	const (
		acfg, snd = media.AudioConfig, media.Audio
		aac       = media.AAC
	)
	for in, want := range map[string]Class{
		"\xAF\x00\x12\x10":  {Kind: acfg, Codec: aac, Lead: 2},
		"\xAF\x01x":         {Kind: snd, Codec: aac, Lead: 2},
		"\xAF\x02x":         {Kind: bad, Codec: aac},
		"\xAF\x01":          {Kind: bad, Codec: aac},
		"\x2Fxx":            {Kind: snd, Codec: media.MP3, Lead: 1},
		"\xEFxx":            {Kind: snd, Codec: media.MP3, Lead: 1},
		"\xDFxx":            {Kind: snd, Codec: media.Opus, Lead: 1},
		"\x7Fxx":            {Kind: snd, Codec: media.PCMA, Lead: 1},
		"\x8Fxx":            {Kind: snd, Codec: media.PCMU, Lead: 1},
		"\x7F":              {Kind: bad, Codec: media.PCMA},
		"\xBFxx":            {Kind: snd, Codec: media.OtherCodec, Lead: 1},
		"\x90Opusx":         {Kind: acfg, Codec: media.Opus, Lead: 5},
		"\x91Opusx":         {Kind: snd, Codec: media.Opus, Lead: 5},
		"\x91Opus":          {Kind: bad, Codec: media.Opus, Lead: 5}, // silence
		"\x91ac-3x":         {Kind: snd, Codec: media.AC3, Lead: 5},
		"\x91ec-3x":         {Kind: snd, Codec: media.EAC3, Lead: 5},
		"\x90fLaCx":         {Kind: acfg, Codec: media.FLAC, Lead: 5},
		"\x90.mp3":          {Kind: bad, Codec: media.MP3, Lead: 5},
		"\x92.mp3":          {Kind: end, Codec: media.MP3, Lead: 5},
		"\x91mp4ax":         {Kind: snd, Codec: aac, Lead: 5},
		"\x94Opusx":         {Kind: scr, Codec: media.Opus, Lead: 5},
		"\x95\x01mp4a\x00x": {Kind: snd, Codec: aac, Lead: 7},
		"\x95\x11Opus\x02\x00\x00\x01a\x00\x00\x00\x01b": {Kind: snd, Codec: media.Opus, Lead: 15, Others: 1},
		"\x97\x02abc\x01Opusx":                           {Kind: snd, Codec: media.Opus, Lead: 10},
		"\x91Op":                                         {Kind: bad, Codec: media.OtherCodec},
	} {
		if got := Classify(TagAudio, []byte(in)); got != want {
			t.Errorf("audio %q: %+v, want %+v", in, got, want)
		}
	}
	if Classify(TagVideo, nil).Kind != media.Invalid || Classify(15, []byte("x")).Kind != media.Invalid || Classify(TagScript, []byte("x")).Kind != media.Script {
		t.Error("nothing, an unknown type or a script")
	}
}

func TestStartCodes(t *testing.T) {
	for in, want := range map[string]bool{
		"\x00\x00\x00\x01\x65abc":                         true,
		"\x00\x00\x01\x67abc\x00\x00\x01\x65abc":          true,
		"\x00\x00\x00\x01\x65":                            false, // one NAL unit of one byte
		"\x00\x00\x01\x2C\x41 cut off":                    false, // a NAL unit of 300 bytes, damaged
		"\x00\x00\x00\x02\x41a\x00\x00\x00\x01\x41":       false,
		"\x00\x00\x00\x01\x09\x00\x00\x00\x02\x65a":       false,
		"\x00\x00\x00\x01\x09\xF0\x00\x00\x00\x01\x65abc": true,
		"\x00\x00\x01":                                    false,
	} {
		if got := StartCodes([]byte(in), 4); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestKeyFlagAndPlain(t *testing.T) {
	for in, want := range map[string][2]bool{
		"\x17": {true, true}, "\x27": {false, true}, "\x1C": {true, false}, "\x91": {true, false}, "\xA1": {false, false}, "": {false, false},
	} {
		if got := [2]bool{KeyFlag([]byte(in)), IsPlain(TagVideo, []byte(in))}; got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
	if !IsPlain(TagAudio, []byte{0xAF}) || IsPlain(TagAudio, []byte{0x95}) || IsPlain(TagAudio, []byte{0x2F}) || IsPlain(TagScript, []byte{2}) {
		t.Error("sound")
	}
}

func TestCodecName(t *testing.T) {
	for _, tc := range []struct {
		typ  byte
		body string
		want string
	}{
		{TagVideo, "\x17", "H.264"}, {TagVideo, "\x1C", "HEVC (FLV codec id 12)"}, {TagVideo, "\x1D", "AV1 (FLV codec id 13)"},
		{TagVideo, "\x90hvc1", "HEVC (Enhanced FLV hvc1)"}, {TagVideo, "\x90avc1", "H.264 (Enhanced FLV avc1)"},
		{TagVideo, "\x90evil", "Enhanced FLV with an unknown codec"}, {TagVideo, "\x90", "Enhanced FLV"}, {TagVideo, "", ""},
		{TagAudio, "\xAF", "AAC"}, {TagAudio, "\x2F", "MP3"}, {TagAudio, "\x7F", "G.711 A-law"}, {TagAudio, "\x91Opus", "Opus (Enhanced FLV Opus)"}, {TagScript, "x", ""},
	} {
		if got := CodecName(tc.typ, []byte(tc.body)); got != tc.want {
			t.Errorf("%q is %q, want %q", tc.body, got, tc.want)
		}
	}
}

func FuzzVideoConfig(f *testing.F) {
	f.Add(videoConfig)
	f.Add(videoConfig[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseVideoConfig(b)
		if err != nil {
			if !errors.Is(err, ErrBadConfig) {
				t.Fatal(err)
			}
			return
		}
		if c.Width <= 0 || c.Height <= 0 || c.Width > 1<<14 || c.Height > 1<<14 || len(c.SPS) == 0 || c.FrameDuration() < 0 {
			t.Fatalf("accepted %+v", c)
		}
		if !VideoConfigEqual(b, slices.Clone(b)) {
			t.Fatal("differs from itself")
		}
		if len(c.PPS) > 0 && len(c.PPS) <= 255 {
			again, err := BuildVideoConfig(c.LengthSize, c.SPS, c.PPS)
			if err != nil || !VideoConfigEqual(b, again) {
				t.Fatalf("built anew it differs: %v", err)
			}
		}
	})
}

func FuzzASC(f *testing.F) {
	for _, s := range []string{"1210", "2b920800", "eb8a0800", "139056e5a0", "1780258010", "1200"} {
		f.Add(unhex(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseASC(b)
		if err != nil {
			if !errors.Is(err, ErrBadConfig) {
				t.Fatal(err)
			}
			return
		}
		if c.SampleRate <= 0 || c.Channels <= 0 || c.Channels > 128 || c.FrameDuration() <= 0 {
			t.Fatalf("accepted %+v", c)
		}
	})
}

func FuzzBodies(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	f.Add(TagVideo, videoBody(r, true, 0, 20), 4)
	f.Add(TagAudio, []byte("\x97\xFF\x00\x00a\x03hvc1"), 4)
	f.Fuzz(func(t *testing.T, typ byte, b []byte, size int) {
		c := Classify(typ, b)
		_ = c.Kind.String() + c.Codec.String() + CodecName(typ, b)
		IsIDR(b, size)
		IsAnnexB(b, 1+size&3)
		InBandPPS(b, size)
		InBandSPS(b, size)
		if c.Key && c.Kind != media.Video {
			t.Fatalf("%v is a key", c.Kind)
		}
	})
}
