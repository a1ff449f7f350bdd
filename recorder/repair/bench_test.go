package repair_test

import (
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/repair"
)

type nowhere struct{ n int64 }

func (s *nowhere) Media(it *repair.Item) error   { s.n += int64(len(it.Body)); return nil }
func (s *nowhere) Config(c repair.Configs) error { return nil }
func (s *nowhere) Gap(g repair.Gap)              {}
func (s *nowhere) Repair(r repair.Repair)        {}

// steady is a Repairer in the middle of a stream and a function that pushes the next 100 ms of it.
func steady(tb testing.TB) (next func() int, s *nowhere) {
	fs := film(50, 60_000, false)
	s = &nowhere{}
	r := repair.New(repair.Config{}, s)
	r.Connect(zero, "")
	var batches []*media.Batch
	for at := int64(0); at < 60_000; at += 100 {
		b := &media.Batch{}
		if at == 0 {
			b.Packets = append(b.Packets, header(media.VideoConfig, videoA), header(media.AudioConfig, audioA))
		}
		for _, f := range between(fs, at, at+100) {
			b.Packets = append(b.Packets, f.packet(f.at))
		}
		batches = append(batches, b)
	}
	i, at := 0, zero
	return func() int {
		b := batches[i%len(batches)]
		for k := range b.Packets {
			if i >= len(batches) && b.Packets[k].Kind <= media.Audio {
				b.Packets[k].DTS += 60_000
				b.Packets[k].Sum++
			}
		}
		i++
		at = at.Add(100 * time.Millisecond)
		b.At = at
		if err := r.Push(b); err != nil {
			tb.Fatal(err)
		}
		return len(b.Packets)
	}, s
}

func TestNoAllocationPerPacket(t *testing.T) {
	next, s := steady(t)
	for range 1200 {
		next()
	}
	if n := testing.AllocsPerRun(1000, func() { next() }); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
	if s.n == 0 {
		t.Error("nothing came out")
	}
}

func BenchmarkPush(b *testing.B) {
	next, s := steady(b)
	for range 1200 {
		next()
	}
	was := s.n
	b.ReportAllocs()
	b.ResetTimer()
	packets := 0
	for packets < b.N {
		packets += next()
	}
	b.SetBytes((s.n - was) / int64(max(1, b.N)))
}
