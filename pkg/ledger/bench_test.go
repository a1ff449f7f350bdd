package ledger

import (
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// How many records a second does one caller get through, each durable before the next? This is what Extend costs.
func BenchmarkExtend(b *testing.B) {
	l := fresh(b)
	e := enter(b, l, "bench")
	p := begin(b, l, e.Session.ID, 1)
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		n++
		must(b, l.Extend(b.Context(), p.ID, segment.Extent{Durable: n, Duration: time.Duration(n) * time.Second, At: t0.Add(time.Duration(n) * time.Second)}))
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "commits/s")
}

// How many acks a second do 32 workers get through together?
func BenchmarkAckedParallel(b *testing.B) {
	l := fresh(b)
	e := enter(b, l, "bench")
	p := begin(b, l, e.Session.ID, 1)
	deliverTo(b, l, s3, p, segment.Uploading)
	r0, c0 := l.Stats()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := l.Acked(b.Context(), s3, p.ID, ack(i%500)); err != nil {
				b.Error(err)
			}
		}
	})
	r, c := l.Stats()
	b.ReportMetric(float64(c-c0)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(r-r0)/float64(max(1, c-c0)), "records/commit")
}

// What does a lane pay for looking into the ledger while one part of 500 acknowledged chunks is under way?
func BenchmarkDue(b *testing.B) {
	l := fresh(b)
	e := enter(b, l, "bench")
	p := begin(b, l, e.Session.ID, 1)
	deliverTo(b, l, s3, p, segment.Uploading)
	for i := range 500 {
		must(b, l.Acked(b.Context(), s3, p.ID, ack(i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Due(b.Context(), s3); err != nil {
			b.Fatal(err)
		}
	}
}

// What does control pay for looking at everything: 20 live sessions of 50 parts with two targets?
func BenchmarkActive(b *testing.B) {
	l := fresh(b)
	for range 20 {
		e := enter(b, l, "bench")
		for seq := range uint32(50) {
			p := seal(b, l, begin(b, l, e.Session.ID, seq+1))
			deliver(b, l, s3, p)
		}
		room.ID += "x"
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Active(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
