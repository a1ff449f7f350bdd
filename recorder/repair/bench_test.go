package repair_test

import (
	"slices"
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
	if raceDetector {
		return
	}
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

// Nothing is allocated for a packet of any other codec either, whatever is done to it on its way.
func TestNoAllocationPerPacketOfAnyCodec(t *testing.T) {
	if raceDetector {
		return
	}
	hevc, avc := pictures(t, media.HEVC, "hevc.h265", true), pictures(t, media.AVC, "closed.h264", true)
	coded := hevc
	coded.units = slices.Clone(hevc.units)
	padded := avc
	padded.units = slices.Clone(avc.units)
	for i := range coded.units {
		coded.units[i].data = startCoded(t, hevc.units[i].data)
		padded.units[i].data = slices.Concat(avc.units[i].data, []byte{0, 0, 0, 6, 0x0C, 0xFF, 0xFF, 0xFF, 0xFF, 0x80})
	}
	for name, c := range map[string]struct {
		v, a   clip
		vw, aw wrap
	}{
		"hvc1, Opus":        {hevc, opus(t), enhanced("hvc1", true, false), newSound("Opus", true)},
		"id 12, AC-3":       {hevc, sound(t, media.AC3), old(12), newSound("ac-3", false)},
		"av01, MP3":         {av1(t), sound(t, media.MP3), enhanced("av01", false, false), oldSound(0x2F)},
		"start codes":       {coded, aac(86), old(12), oldSound(0xAF)},
		"filler, E-AC-3":    {padded, sound(t, media.EAC3), old(7), newSound("ec-3", false)},
		"multitrack, u-law": {hevc, noise(media.PCMU, nil, nil, 20, 100), tracks(true, 0, 2, enhanced("hvc1", true, false)), oldSound(0x8E)},
	} {
		ps := packets(t, mix(tags(c.v, c.vw), tags(c.a, c.aw)), 0)
		r := repair.New(repair.Config{DropFiller: true}, &nowhere{})
		r.Connect(zero, "")
		var batches []*media.Batch
		for i := 0; i < len(ps); {
			b := &media.Batch{}
			for from := ps[i].DTS; i < len(ps) && ps[i].DTS < from+100; i++ {
				b.Packets = append(b.Packets, ps[i])
			}
			batches = append(batches, b)
		}
		at, n := zero, 0
		next := func() {
			b := batches[n%len(batches)]
			for k := range b.Packets {
				p := &b.Packets[k]
				if p.Kind != media.Video && p.Kind != media.Audio {
					continue
				}
				if n >= len(batches) {
					p.DTS += 2000
				}
				d := p.Payload() // another picture each time
				if len(d) < 40 {
					continue
				}
				tail := d[len(d)-20:]
				tail[0], tail[1], tail[2] = byte(n)|1, byte(n>>7)|1, byte(n>>14)|1
				p.Sum++
			}
			n++
			at = at.Add(100 * time.Millisecond)
			b.At = at
			if err := r.Push(b); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		for range 700 {
			next()
		}
		if allocs := testing.AllocsPerRun(400, next); allocs != 0 {
			t.Errorf("%s: %v allocations per batch", name, allocs)
		}
	}
}
