package recorder_test

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/recordertest"
)

// recorded is a source that sends an FLV file from memory as fast as it is taken.
type recorded struct {
	data []byte
	tags int64
}

func (s *recorded) Host() string { return "memory" }
func (s *recorded) Close() error { return nil }

func (s *recorded) Run(_ context.Context, out chan<- *media.Batch) error {
	r := bytes.NewReader(s.data)
	d := flv.NewDemuxer(flv.DemuxerConfig{})
	var err error
	for err == nil {
		var b *media.Batch
		if b, err = d.Fill(r); b != nil {
			s.tags += int64(len(b.Packets))
			out <- b
		}
	}
	if b := d.Close(); b != nil {
		s.tags += int64(len(b.Packets))
		out <- b
	}
	return err
}

// stream is so much of a room of 8 Mbit/s.
func stream(tb testing.TB, d time.Duration) []byte {
	tb.Helper()
	var buf bytes.Buffer
	buf.Grow(int(d.Seconds()+1) << 20)
	if _, err := liveroom.Write(&buf, liveroom.Config{Bitrate: 8_000_000}, d); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// record takes a stream from memory to the disk, and says how many tags and allocations that were.
func record(tb testing.TB, data []byte, part time.Duration, kind recorder.Container) (tags, mallocs int64) {
	tb.Helper()
	dir, err := durable.Open(tb.TempDir(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer dir.Close()
	src := &recorded{data: data}
	rec, err := recorder.New(recorder.Config{Room: segment.Room{ID: "r", Name: "r"}, Segment: part, Container: kind, Once: true, ConfirmedEnd: time.Nanosecond},
		recorder.Deps{Resolver: &single{src}, Journal: &recordertest.Journal{}, Dir: dir, Log: zerolog.Nop()})
	if err != nil {
		tb.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := rec.Run(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return src.tags, int64(after.Mallocs - before.Mallocs)
}

// BenchmarkSourceToFile is everything between the socket and the disk: framing, digests, repair, cutting, writing,
// fsync, SHA-256 of the sealed parts.
func BenchmarkSourceToFile(b *testing.B) {
	data := stream(b, 5*time.Minute)
	for _, kind := range []recorder.Container{recorder.ContainerFLV, recorder.ContainerMP4, recorder.ContainerTS} {
		b.Run(string(kind), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var tags, mallocs int64
			for b.Loop() {
				t, m := record(b, data, time.Minute, kind)
				tags, mallocs = tags+t, mallocs+m
			}
			b.ReportMetric(float64(mallocs)/float64(tags), "allocs/tag")
		})
	}
}

// On the way to the disk a tag costs no allocation: three times as much media costs what it costs to look at the clock
// more often, not what it costs to count its tags.
func TestATagCostsNoAllocation(t *testing.T) {
	data := stream(t, 90*time.Second)
	short := data[:len(data)/3]
	for _, kind := range []recorder.Container{recorder.ContainerFLV, recorder.ContainerMP4, recorder.ContainerTS} {
		t.Run(string(kind), func(t *testing.T) {
			record(t, short, time.Hour, kind) // pools fill
			t1, m1 := record(t, short, time.Hour, kind)
			t3, m3 := record(t, data, time.Hour, kind)
			per := float64(m3-m1) / float64(t3-t1)
			t.Logf("%d tags: %d allocations, %d tags: %d", t1, m1, t3, m3)
			// With the race detector the pool drops a quarter of what it is given; make test runs this once more without it.
			if per > 0.05 && !raceDetector {
				t.Errorf("%.3f allocations per tag", per)
			}
		})
	}
}
