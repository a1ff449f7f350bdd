package flv

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// loop gives the same bytes for ever.
type loop struct {
	b  []byte
	at int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.b[l.at:])
	if l.at += n; l.at == len(l.b) {
		l.at = 0
	}
	return n, nil
}

// busy is what 8 Mbit/s look like: 25 frames/s of 40 kB and their sound, without the file header.
func busy(seed uint64) []byte {
	var b []byte
	r := rand.New(rand.NewPCG(seed, 3))
	for _, f := range frames(seed, 250, 50) {
		if f.typ == TagVideo {
			f.body = videoBody(r, f.body[0] == 0x17, 0, 38_000)
		}
		b = f.append(b)
	}
	return b
}

func BenchmarkDemux(b *testing.B) {
	for name, chunk := range map[string]int{"slab": media.SlabSize, "100ms": 100_000, "tcp": 1448} {
		b.Run(name, func(b *testing.B) {
			d := NewDemuxer(DemuxerConfig{Now: func() time.Time { return time.Time{} }})
			r := &limited{&loop{b: busy(1)}, chunk}
			start := &limited{io.MultiReader(bytes.NewReader(stream()), r), chunk}
			tags, bytes := 0, int64(0)
			next := func() {
				batch, err := d.Fill(start)
				if err != nil {
					b.Fatal(err)
				}
				tags += len(batch.Packets)
				bytes += batch.Count.Tags
				batch.Release()
			}
			for range 100 {
				next()
			}
			tags, bytes = 0, 0
			b.ReportAllocs()
			b.ResetTimer()
			for tags < b.N { // one op is one tag
				next()
			}
			b.SetBytes(bytes / int64(tags))
		})
	}
}

type limited struct {
	r io.Reader
	n int
}

func (l *limited) Read(p []byte) (int, error) { return l.r.Read(p[:min(len(p), l.n)]) }

func BenchmarkAppendTag(b *testing.B) {
	body := make([]byte, 40_000)
	buf := make([]byte, 0, 64<<10)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		buf = AppendTag(buf[:0], TagVideo, 1, body)
	}
}

func BenchmarkHeadAdd(b *testing.B) {
	h, err := NewHead(HeadConfig{Video: videoConfig, Audio: audioConfig, Limit: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	dts := int64(0)
	for b.Loop() {
		h.Add(TagVideo, dts, 40_000, dts%2000 == 0)
		dts += 40
	}
}

func BenchmarkHeadPatch(b *testing.B) {
	h, err := NewHead(HeadConfig{Video: videoConfig, Audio: audioConfig, Limit: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		h.Patch()
	}
}
