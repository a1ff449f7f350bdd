package mp4_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/mp4"
)

var be = binary.BigEndian

// box makes a box of what numbers (4 bytes each), strings and byte slices say.
func box(typ string, parts ...any) []byte {
	b := []byte("\x00\x00\x00\x00" + typ)
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = be.AppendUint32(b, uint32(p))
		case uint64:
			b = be.AppendUint64(b, p)
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		}
	}
	be.PutUint32(b, uint32(len(b)))
	return b
}

// head is an initialisation section of two tracks with their defaults.
func head(t testing.TB) []byte {
	w, err := mp4.NewWriter(both())
	if err != nil {
		t.Fatal(err)
	}
	b := slices.Clone(w.Head())
	i := bytes.Index(b, []byte("trex"))
	copy(b[i+4:], box("trex", 0, 1, 1, 3000, 7, 0x10000)[8:])
	return b
}

func list(d *mp4.Demuxer, segment []byte) (got []string, err error) {
	for a, err := range d.Samples(segment) {
		if err != nil {
			return got, err
		}
		key := ""
		if a.Key {
			key = " key"
		}
		got = append(got, fmt.Sprintf("%d %d %d %d %q%s", a.Track, a.DTS, a.PTS, a.Lasts, a.Data, key))
	}
	return got, nil
}

func TestDemuxerFollowsTheRules(t *testing.T) {
	const base = 0x20000
	mfhd := box("mfhd", 0, 1)
	media1 := box("mdat", "AAAAAAABBBBBBBCCC")
	// A moof of one traf with a tfhd of 16 bytes, a tfdt of 16, and a trun of 16 + 4 per field.
	for _, c := range []struct {
		name    string
		segment []byte
		want    []string
	}{
		{"trex says it all", slices.Concat(box("styp", "msdh"), box("sidx", "anything"), box("emsg"), box("prft", 1, 2),
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("tfdt", 0, 5), box("trun", 1, 2, 24+16+16+20+8+8))), media1),
			[]string{`0 5 5 3000 "AAAAAAA"`, `0 3005 3005 3000 "BBBBBBB"`}},
		{"tfhd goes before trex", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base|0x38, 1, 10, 3, 0), box("tfdt", 0x01000000, uint64(1)<<40), box("trun", 1, 2, 24+28+20+20+8+8))), media1),
			[]string{`0 1099511627776 1099511627776 10 "AAA" key`, `0 1099511627786 1099511627786 10 "AAA" key`}},
		{"the first sample is another", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 5, 3, 24+16+24+8+8, 0))), media1),
			[]string{`0 0 0 3000 "AAAAAAA" key`, `0 3000 3000 3000 "BBBBBBB"`, `torn`}},
		{"each sample says it all", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 0x01000F01, 2, 24+16+52+8+8, 1, 2, 0, 5, 3, 4, 0x10000, -3))), media1),
			[]string{`0 0 5 1 "AA" key`, `0 1 -2 3 "AAAA"`}},
		{"negative in version 0", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 0x801, 1, 24+16+24+8+8, -1000))), media1),
			[]string{`0 0 -1000 3000 "AAAAAAA"`}},
		{"several runs, the second without an offset", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 1, 1, 24+16+20+16+8+8), box("trun", 0, 1))), media1),
			[]string{`0 0 0 3000 "AAAAAAA"`, `0 3000 3000 3000 "BBBBBBB"`}},
		{"no offset at all", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 0, 2))), media1),
			[]string{`0 0 0 3000 "AAAAAAA"`, `0 3000 3000 3000 "BBBBBBB"`}},
		{"the base is the moof, then where the last traf ended", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", 0, 1), box("trun", 1, 2, 24+8+16+20+8+24+16+8)), box("traf", box("tfhd", 0x18, 2, 1024, 3), box("trun", 0, 1))), media1),
			[]string{`0 0 0 3000 "AAAAAAA"`, `0 3000 3000 3000 "BBBBBBB"`, `1 0 0 1024 "CCC" key`}},
		{"an absolute base", slices.Concat(box("free", "1234"),
			box("moof", mfhd, box("traf", box("tfhd", 1, 1, uint64(12)), box("trun", 1, 1, 24+8+24+20+8+8)), box("free")), media1),
			[]string{`0 0 0 3000 "AAAAAAA"`}},
		{"an absolute base of a larger file", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", 1, 1, uint64(1)<<33), box("trun", 1, 1, 24+8+24+20+8))), media1),
			[]string{`0 0 0 3000 "AAAAAAA"`}},
		{"two fragments, the second without a time", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("tfdt", 0, 7), box("trun", 0, 1))), media1, box("uuid", "who knows"),
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 0, 1))), media1),
			[]string{`0 7 7 3000 "AAAAAAA"`, `0 3007 3007 3000 "AAAAAAA"`}},
		{"a track that is not in the head", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base, 9), box("trun", 0, 1)), box("traf", box("tfhd", base, 1), box("trun", 1, 1, 24+8+16+16+8+16+20+8))), media1),
			[]string{`0 0 0 3000 "AAAAAAA"`}},
		{"samples without bytes", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 0x200, 3, 0, 2, 0))), media1),
			[]string{`0 3000 3000 3000 "AA"`}},
		{"torn in the mdat", slices.Concat(
			box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 0, 2))), media1[:17]),
			[]string{`0 0 0 3000 "AAAAAAA"`, "torn"}},
		{"torn in the moof", box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 0, 2)))[:40], []string{"torn"}},
		{"more samples than numbers", slices.Concat(box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 0x200, 3, 1, 1))), media1), []string{"broken"}},
		{"more samples than anybody has", slices.Concat(box("moof", mfhd, box("traf", box("tfhd", base|0x10, 1, 0), box("trun", 0, -1))), media1), []string{"broken"}},
		{"a run of nobody", slices.Concat(box("moof", mfhd, box("traf", box("trun", 0, 1))), media1), []string{"broken"}},
		{"data in front of everything", slices.Concat(box("moof", mfhd, box("traf", box("tfhd", base, 1), box("trun", 1, 1, -100))), media1), []string{"torn"}},
		{"a time beyond all times", slices.Concat(box("moof", mfhd, box("traf", box("tfhd", base, 1), box("tfdt", 0x01000000, ^uint64(0)), box("trun", 0, 1))), media1), []string{"broken"}},
		{"nothing", nil, nil},
		{"rubbish", []byte("<html>"), []string{"broken"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := mp4.ParseInit(head(t))
			if err != nil {
				t.Fatal(err)
			}
			got, err := list(mp4.NewDemuxer(in), c.segment)
			switch {
			case errors.Is(err, mp4.ErrTorn):
				got = append(got, "torn")
			case errors.Is(err, mp4.ErrBroken):
				got = append(got, "broken")
			case err != nil:
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d, err)
			}
		})
	}
}

// TestDemuxerStops: whoever has enough gets no more.
func TestDemuxerStops(t *testing.T) {
	f := create(t, both())
	f.add(t, live(1, time.Second)...)
	f.flush()
	in, err := mp4.ParseInit(f.b)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range mp4.NewDemuxer(in).Samples(f.b) {
		if n++; n == 7 {
			break
		}
	}
	file, err := mp4.Open(bytes.NewReader(f.b), int64(len(f.b)))
	if err != nil {
		t.Fatal(err)
	}
	for range file.Samples() {
		if n++; n == 14 {
			break
		}
	}
	if n != 14 {
		t.Error(n)
	}
}

func TestContentOfEachState(t *testing.T) {
	f := create(t, both())
	f.add(t, live(4, 3*time.Second)...)
	f.flush()
	content := f.w.Content()
	nv, na := f.w.Frames()
	between, closed := f.close()
	for state, b := range map[string][]byte{"open": f.b, "between": between, "closed": closed} {
		file, err := mp4.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		got, video, audio, err := file.Content()
		if err != nil || got != content || video != nv || audio != na {
			t.Errorf("%s: %x of %d and %d (%v), want %x of %d and %d", state, got, video, audio, err, content, nv, na)
		}
		var buf []byte
		chain, n := uint64(0), uint64(0)
		for s, err := range file.Samples() {
			if err != nil {
				t.Fatal(err)
			}
			if buf, err = file.Data(s, buf); err != nil {
				t.Fatal(err)
			}
			n++
			chain = media.Chain(chain, n, sum(file.Tracks[s.Track].Kind == media.Video, buf))
		}
		if chain != content {
			t.Errorf("%s: the data chains to %x", state, chain)
		}
	}
	// Cut off anywhere: what is in front of the cut is told, then that it is torn.
	for _, n := range []int64{int64(len(f.b)) - 1, f.w.HeadLen() + 5, int64(len(f.b)) / 2} {
		file, err := mp4.Open(bytes.NewReader(f.b[:n]), n)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err = file.Content(); !errors.Is(err, mp4.ErrTorn) {
			t.Errorf("cut at %d of %d: %v", n, len(f.b), err)
		}
	}
	if _, err := mp4.Open(bytes.NewReader(closed), int64(len(closed))-10); !errors.Is(err, mp4.ErrBroken) {
		t.Errorf("without its index: %v", err)
	}
}

// TestToolsParseInit compares what a head says with what went into ffmpeg.
func TestToolsParseInit(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		video mp4.Track
		audio mp4.Track
	}{
		"H.264, AAC":        {[]string{"-c:v", "libx264", "-c:a", "aac", "-ar", "44100", "-ac", "2"}, mp4.Track{Codec: media.AVC}, mp4.Track{Codec: media.AAC, SampleRate: 44_100, Channels: 2}},
		"HEVC, AC-3":        {[]string{"-c:v", "libx265", "-x265-params", "log-level=error", "-c:a", "ac3", "-ac", "6"}, mp4.Track{Codec: media.HEVC}, mp4.Track{Codec: media.AC3, SampleRate: 48_000, Channels: 6}},
		"AV1, Opus":         {[]string{"-c:v", "libsvtav1", "-preset", "12", "-c:a", "libopus", "-ac", "1"}, mp4.Track{Codec: media.AV1}, mp4.Track{Codec: media.Opus, SampleRate: 48_000, Channels: 1}},
		"VP9, FLAC":         {[]string{"-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "flac", "-strict", "-2"}, mp4.Track{Codec: media.VP9}, mp4.Track{Codec: media.FLAC, SampleRate: 48_000, Channels: 1}},
		"H.264, E-AC-3":     {[]string{"-c:v", "libx264", "-c:a", "eac3", "-ac", "2"}, mp4.Track{Codec: media.AVC}, mp4.Track{Codec: media.EAC3, SampleRate: 48_000, Channels: 2}},
		"H.264, MP3":        {[]string{"-c:v", "libx264", "-c:a", "libmp3lame", "-ac", "2"}, mp4.Track{Codec: media.AVC}, mp4.Track{Codec: media.MP3, SampleRate: 48_000, Channels: 2}},
		"H.264, A-law .mov": {[]string{"-c:v", "libx264", "-c:a", "pcm_alaw", "-ar", "8000"}, mp4.Track{Codec: media.AVC}, mp4.Track{Codec: media.PCMA, SampleRate: 8000, Channels: 1}},
		"H.264, AAC .mov":   {[]string{"-c:v", "libx264", "-c:a", "aac", "-ac", "2"}, mp4.Track{Codec: media.AVC}, mp4.Track{Codec: media.AAC, SampleRate: 48_000, Channels: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			to := "x.mp4"
			if strings.HasSuffix(name, ".mov") {
				to = "x.mov"
			}
			b := read(t, made(t, slices.Concat(c.args, []string{"-t", "0.5", to})...))
			in, err := mp4.ParseInit(b)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []mp4.Track{c.video, c.audio} {
				got := in.Tracks[i]
				if i == 0 {
					want.Width, want.Height = 320, 180
				}
				if got.Refused != nil {
					t.Fatal(got.Refused)
				}
				if len(got.Config) == 0 && want.Codec != media.MP3 && want.Codec != media.PCMA {
					t.Errorf("%v without a record", want.Codec)
				}
				want.Config, want.Timescale = got.Config, got.Timescale
				if d := cmp.Diff(want, got.Track); d != "" {
					t.Error(d)
				}
				// A head of ours says the same.
				cfg := mp4.Config{Video: &got.Track}
				if i == 1 {
					cfg = mp4.Config{Audio: &got.Track}
				}
				w, err := mp4.NewWriter(cfg)
				if err != nil {
					t.Fatal(err)
				}
				again, err := mp4.ParseInit(w.Head())
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(got.Track, again.Tracks[0].Track); d != "" {
					t.Errorf("ours: %s", d)
				}
			}
		})
	}
}

func TestToolsEncryptedTracksAreRefused(t *testing.T) {
	b := read(t, made(t, "-c:v", "libx264", "-c:a", "aac", "-t", "0.5", "-encryption_scheme", "cenc-aes-ctr",
		"-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8", "x.mp4"))
	f, err := mp4.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"avc1, cenc", "mp4a, cenc"} {
		if err := f.Tracks[i].Refused; !errors.Is(err, mp4.ErrEncrypted) || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want it to name %s", err, name)
		}
	}
	for s := range f.Samples() {
		t.Fatalf("%+v comes out", s)
	}
}

// TestHeadsThatAreWrong: none is taken for something it is not.
func TestHeadsThatAreWrong(t *testing.T) {
	good := head(t)
	for n := range len(good) {
		if n >= bytes.Index(good, []byte("lrec"))-8 {
			break // behind the moov
		}
		if _, err := mp4.ParseInit(good[:n]); !errors.Is(err, mp4.ErrBroken) {
			t.Fatalf("cut at %d of %d: %v", n, len(good), err)
		}
	}
	many := make([][]byte, 65)
	for i := range many {
		many[i] = box("trak", box("tkhd", 0, 0, 0, i))
	}
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"HTML":             []byte("<html><body>Not found</body></html>"),
		"too many tracks":  box("moov", slices.Concat(many...)),
		"too many boxes":   box("moov", bytes.Repeat(box("free"), 1<<16)),
		"a short tkhd":     box("moov", box("trak", box("tkhd", 0))),
		"a box too large":  box("moov", box("trak", be.AppendUint32(nil, 1000), "tkhd")),
		"a huge stsd":      box("moov", box("trak", box("stsd", make([]byte, 1<<20+1)))),
		"only torn boxes":  {0, 0, 1},
		"a size of 2 to 6": {0, 0, 0, 3, 'm', 'o', 'o', 'v'},
	} {
		if in, err := mp4.ParseInit(b); !errors.Is(err, mp4.ErrBroken) {
			t.Errorf("%s: %v, %+v", name, err, in)
		}
	}
	// Tracks of which nothing is known are there, but refused.
	in, err := mp4.ParseInit(box("moov", box("trak", box("tkhd", 0, 0, 0, 7)), box("trak", box("tkhd", 0, 0, 0, 8),
		box("mdia", box("mdhd", 0, 0, 0, 600, 0, 0), box("hdlr", 0, 0, "text"), box("minf", box("stbl", box("stsd", 0, 1, box("tx3g", 0, 1))))))))
	if err != nil || in.Tracks[0].Refused == nil || !errors.Is(in.Tracks[1].Refused, mp4.ErrUnsupported) || !strings.Contains(in.Tracks[1].Refused.Error(), "tx3g") {
		t.Errorf("%v %+v", err, in)
	}
}

// TestTablesOfOtherWriters: sizes of four bits, offsets of 32, chunks of changing length.
func TestTablesOfOtherWriters(t *testing.T) {
	b := plain()
	f, err := mp4.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if tr := f.Tracks[0]; tr.Empty != 500 || tr.Start != 500 || tr.Codec != media.AVC {
		t.Errorf("%+v", tr)
	}
	var got []mp4.FileSample
	for s, err := range f.Samples() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s)
	}
	want := []mp4.FileSample{
		{DTS: 0, PTS: 500, Lasts: 1000, Key: true, Offset: 8, Size: 1},
		{DTS: 1000, PTS: 1500, Lasts: 1000, Offset: 9, Size: 2},
		{DTS: 2000, PTS: 1500, Lasts: 1000, Offset: 20, Size: 3},
		{DTS: 3000, PTS: 2500, Lasts: 1000, Key: true, Offset: 23, Size: 4},
		{DTS: 4000, PTS: 3500, Lasts: 1000, Offset: 30, Size: 5},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
