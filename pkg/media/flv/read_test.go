package flv

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// readAll reads a file and checks that every byte has its account.
func readAll(t testing.TB, r io.Reader) (res result) {
	t.Helper()
	before := media.InUse()
	events := func(e Event) {
		e.Head = slices.Clone(e.Head)
		res.Events = append(res.Events, e)
	}
	res.Stats, res.Count, res.Err = ReadAll(r, DemuxerConfig{Events: events}, func(b *media.Batch) error {
		for _, p := range b.Packets {
			p.Body = bytes.Clone(p.Body)
			res.Packets = append(res.Packets, p)
		}
		return nil
	})
	if c := res.Count; c.Received != c.Header+c.Tags+c.Junk+c.Partial {
		t.Errorf("the account does not balance: %+v", c)
	}
	if media.InUse() != before {
		t.Errorf("%d bytes of slabs are still out", media.InUse()-before)
	}
	return res
}

func TestReadAll(t *testing.T) {
	one, two := append(heads(), frames(31, 40, 10)...), append(heads(), frames(32, 40, 10)...)
	noise := rand.New(rand.NewPCG(31, 1))
	random := make([]byte, 3<<20)
	for i := range random {
		random[i] = byte(noise.Uint32())
	}
	tags := func(fs []frame) (b []byte) {
		for _, f := range fs {
			b = f.append(b)
		}
		return b
	}
	all := append(slices.Clone(one), two...)
	whole := stream(all...)
	var hidden []byte
	for range 60 {
		hidden = AppendTag(hidden, TagVideo|filterBit, 1, random[:50])
	}
	for name, c := range map[string]struct {
		in   []byte
		junk int64
	}{
		"sound":                          {whole, 0},
		"no header":                      {tags(all), 0},
		"two files in one":               {slices.Concat(stream(one...), stream(two...)), 0},
		"three MiB of noise":             {slices.Concat(stream(one...), random, tags(two)), int64(len(random))},
		"three MiB of noise in front":    {slices.Concat(random, stream(all...)), int64(len(random))},
		"an answer in front":             {slices.Concat([]byte("<html><body>gone</body></html>"), whole), 30},
		"a playlist in front":            {slices.Concat([]byte("#EXTM3U\n"), whole), 8},
		"JSON between, and cut in a tag": {slices.Concat(stream(one...), []byte(`{"code":403}`), tags(two), two[5].append(nil)[:50]), 12},
		"encrypted in between":           {slices.Concat(stream(one...), hidden, tags(two)), 0},
		"zeros behind":                   {slices.Concat(whole, make([]byte, 2<<20)), 2 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{"at once": bytes.NewReader(c.in), "half": iotest.HalfReader(bytes.NewReader(c.in))} {
				res := readAll(t, r)
				if res.Err != nil {
					t.Fatalf("%s: %v", how, res.Err)
				}
				got := slices.DeleteFunc(res.Packets, func(p media.Packet) bool { return p.Kind == media.Restart || p.Kind == media.Invalid })
				same(t, got, all)
				if res.Count.Junk != c.junk {
					t.Errorf("%s: %d bytes of junk, want %d", how, res.Count.Junk, c.junk)
				}
				if res.Count.Received != int64(len(c.in)) {
					t.Errorf("%s: %d bytes of %d have an account", how, res.Count.Received, len(c.in))
				}
			}
		})
	}
	for name, in := range map[string]string{"nothing": "", "text": strings.Repeat("no media ", 300_000), "a header": string(stream())} {
		if res := readAll(t, strings.NewReader(in)); !errors.Is(res.Err, ErrNotFLV) {
			t.Errorf("%s: %v", name, res.Err)
		}
	}
	broken := errors.New("bad sector")
	if res := readAll(t, io.MultiReader(bytes.NewReader(whole[:5000]), iotest.ErrReader(broken))); !errors.Is(res.Err, broken) || len(res.Packets) == 0 {
		t.Errorf("%v", res.Err)
	}
	full := errors.New("no room")
	n := 0
	if _, _, err := ReadAll(bytes.NewReader(slices.Concat(whole, whole)), DemuxerConfig{Now: func() time.Time { return time.Unix(1, 0) }}, func(b *media.Batch) error {
		if n++; !b.At.Equal(time.Unix(1, 0)) {
			t.Error(b.At)
		}
		return full
	}); !errors.Is(err, full) || n != 1 {
		t.Errorf("%v after %d batches", err, n)
	}
}

// Everything of an Enhanced FLV stream that is odd is told, and told once.
func TestDemuxEvents(t *testing.T) {
	hvc := func(pre string, track string) []byte {
		return []byte(pre + "hvc1" + track + "\x00\x00\x00\x05\x26\x01abc")
	}
	many := []byte("\x96\x11av01\x00\x00\x00\x02ab\x01\x00\x00\x03cde\x07\x00\x00\x01f")
	idr, p := videoConfig, videoBody(rand.New(rand.NewPCG(1, 1)), false, 0, 100)
	lie := slices.Clone(p)
	lie[0] = 0x17
	fs := []frame{
		{TagVideo, 0, idr}, {TagVideo, 0, lie}, {TagVideo, 1, p}, {TagVideo, 2, lie},
		{TagVideo, 10, hvc("\x96\x03", "\x02")}, {TagVideo, 10, hvc("\x96\x03", "\x02")}, {TagVideo, 11, hvc("\x96\x03", "\x00")},
		{TagVideo, 20, many}, {TagVideo, 21, many},
		{TagVideo, 30, []byte("\x91evilx")}, {TagVideo, 31, []byte("\x91evilx")}, {TagAudio, 32, []byte("\xB6xx")},
		{TagAudio, 33, []byte("\x95\x01Opus\x03x")},
	}
	res := everywhere(t, stream(fs...))
	var got []string
	for _, e := range res.Events {
		got = append(got, e.Kind.String()+": "+e.What)
	}
	want := []string{
		"key flag on a frame that depends on others: ", "more than one track: video track 2, HEVC (Enhanced FLV hvc1)",
		"more than one track: video track 1, AV1 (Enhanced FLV av01)", "unknown codec: Enhanced FLV with an unknown codec",
		"unknown codec: Speex", "more than one track: audio track 3, Opus (Enhanced FLV Opus)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
	if s := res.Stats; s.FalseKeys < 2 || s.OtherTracks != 4 {
		t.Errorf("%+v", s)
	}
	if p := res.Packets[7]; string(p.Payload()) != "ab" || p.Track != 0 || p.Sum != Sum(TagVideo, p.Body) || p.Kind != media.Video {
		t.Errorf("%q: %+v", p.Payload(), p)
	}
	if res.Packets[1].Key || !KeyFlag(res.Packets[1].Body) {
		t.Error("a P picture is no key frame")
	}
}

// More ModEx data than Packet.Lead can say.
func TestDemuxHugeModEx(t *testing.T) {
	b := []byte{0x97, 0xFF, 0xFF, 0xFF}
	b = append(b, make([]byte, 1<<16)...)
	b = append(b, "\x03vp09data"...)
	res := everywhere(t, stream(frame{TagVideo, 5, b}, frame{TagVideo, 9, videoConfig}))
	p := res.Packets[0]
	if string(p.Payload()) != "data" || p.Kind != media.Video || p.Lead != 0 || p.Sum != Sum(TagVideo, p.Body) {
		t.Errorf("%d bytes, %v", len(p.Payload()), p.Kind)
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{"\x17\x01\x00\x00\x00x", "\x1C\x01\x00\x00\x00x", "\x91hvc1\x00\x00\x00x", "\x97\x02abc\x03hvc1x",
		"\x96\x13av01\x01\x00\x00\x02ab\x00\x00\x00\x01c", "\x96\x21av01\x00\x00\x00\x01avp09\x01\x00\x00\x01b", "\x95\x11Opus\x02\x00\x00\x01a\x00\x00\x00\x01b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, typ := range []byte{TagVideo, TagAudio, TagScript, 15} {
			c := Classify(typ, b)
			if c.Lead < 0 || c.Lead > len(b) || c.End < 0 || c.End > len(b) || c.End > 0 && c.End < c.Lead {
				t.Fatalf("%+v of %d bytes", c, len(b))
			}
			if (c.Kind == media.Video || c.Kind == media.Audio) && c.Codec != media.OtherCodec {
				end := len(b)
				if c.End > 0 {
					end = c.End
				}
				if c.Lead >= end {
					t.Fatalf("%+v: a frame of nothing", c)
				}
			}
			CodecName(typ, b)
			IsPlain(typ, b)
		}
		// The Demuxer says the same of it, whatever is in it.
		res := demux(t, bytes.NewReader(stream(frame{TagVideo, 0, videoConfig}, frame{TagVideo, 1, b}, frame{TagAudio, 2, b}, frame{TagVideo, 3, videoConfig})))
		if res.Count.Received == 0 {
			t.Fatal("nothing was read")
		}
	})
}

// No tag of any codec costs an allocation.
func TestNoAllocationPerTagOfAnyCodec(t *testing.T) {
	if raceDetector {
		return
	}
	r := rand.New(rand.NewPCG(3, 3))
	body := func(head string, n int) []byte {
		b := append([]byte(head), 0, 0, 0, byte(n), 0x26, 1)
		for range n - 2 {
			b = append(b, byte(r.Uint32()))
		}
		return b
	}
	var one []byte
	for i := range uint32(200) {
		for _, h := range []string{"\x1C\x01\x00\x00\x00", "\x91hvc1\x00\x00\x00", "\xA3hvc1", "\x93av01", "\x97\x02abc\x03hvc1", "\x96\x01hvc1\x00\x00\x00\x00", "\x93vp09"} {
			one = AppendTag(one, TagVideo, i*40, body(h, 200))
		}
		for _, h := range []string{"\x91Opus", "\x91ac-3", "\x2F", "\x7E", "\x95\x01Opus\x00"} {
			one = AppendTag(one, TagAudio, i*40, body(h, 100))
		}
	}
	d := NewDemuxer(DemuxerConfig{})
	in := io.MultiReader(bytes.NewReader(stream(heads()...)), &loop{b: one})
	read := func() {
		b, err := d.Fill(in)
		if err != nil {
			t.Fatal(err)
		}
		b.Release()
	}
	for range 50 {
		read()
	}
	before := d.Stats().Packets
	allocs := testing.AllocsPerRun(200, read)
	if tags := float64(d.Stats().Packets-before) / 201; allocs/tags > 0.05 {
		t.Fatalf("%.1f allocations for %.1f tags", allocs, tags)
	}
}
