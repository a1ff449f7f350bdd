package mpegts_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/mpegts"
)

// stream is ten seconds of pictures of 20 kB and sound, as a Muxer writes them.
func stream(tb testing.TB) []byte {
	m, err := mpegts.NewMuxer(mpegts.Config{Video: &mpegts.Track{Codec: media.AVC, Config: avcRecord}, Audio: &mpegts.Track{Codec: media.AAC, Config: []byte{0x11, 0x90}}})
	if err != nil {
		tb.Fatal(err)
	}
	file := m.Head()
	picture := append([]byte{0, 0, 0x4E, 0x20}, bytes.Repeat([]byte{0x41, 7, 0, 9}, 5000)...)
	key := slices.Clone(picture)
	key[4] = 0x65
	sound := bytes.Repeat([]byte{0x21}, 340)
	heard := time.Duration(0)
	for i := range 300 {
		at := time.Duration(i) * time.Second / 30
		s := mpegts.Sample{Video: true, Time: at, Data: picture}
		if i%60 == 0 {
			s.Key, s.Data = true, key
		}
		if err := m.Add(s); err != nil {
			tb.Fatal(err)
		}
		for ; heard < at; heard += 1024 * time.Second / 48000 {
			if err := m.Add(mpegts.Sample{Time: heard, Data: sound}); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return m.Flush(file)
}

func TestDemuxerAllocNothing(t *testing.T) {
	b := stream(t)
	units := 0
	d := mpegts.NewDemuxer(mpegts.DemuxerConfig{Unit: func(*mpegts.Unit) error { units++; return nil }})
	step := func() {
		if _, err := d.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	step()
	if n := testing.AllocsPerRun(3, step); n > 0 {
		t.Errorf("%v allocations for a segment of %d units", n, units/5)
	}
}

func BenchmarkDemuxer(b *testing.B) {
	ts := stream(b)
	d := mpegts.NewDemuxer(mpegts.DemuxerConfig{Unit: func(*mpegts.Unit) error { return nil }})
	b.SetBytes(int64(len(ts)))
	b.ReportAllocs()
	for b.Loop() {
		d.Write(ts)
		d.Flush()
	}
}

func BenchmarkMuxer(b *testing.B) {
	b.ReportAllocs()
	n := len(stream(b))
	b.SetBytes(int64(n))
	for b.Loop() {
		stream(b)
	}
}

func BenchmarkScan(b *testing.B) {
	ts := stream(b)
	cfg := mpegts.Config{Video: &mpegts.Track{Codec: media.AVC, Config: avcRecord}, Audio: &mpegts.Track{Codec: media.AAC, Config: []byte{0x11, 0x90}}}
	b.SetBytes(int64(len(ts)))
	for b.Loop() {
		if s, err := mpegts.Scan(bytes.NewReader(ts), int64(len(ts)), mpegts.ScanConfig{Config: cfg}); err != nil || s.Cut != int64(len(ts)) {
			b.Fatal(err)
		}
	}
}
