package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline/hook"
	"github.com/liverec/liverec/pipeline/notify"
	"github.com/liverec/liverec/pkg/facts"
	"github.com/liverec/liverec/pkg/segment"
)

// crowd is a service whose ledger has rooms that are live, each with parts that are safe nowhere.
func crowd(tb testing.TB, rooms, parts int) *service {
	tb.Helper()
	opt := options{data: tb.TempDir(), uploads: 1, stopFree: 1}
	h, err := open(tb.Context(), opt, streams{in: strings.NewReader(""), out: tb.Output(), err: tb.Output()}, zerolog.Nop(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.close(); err != nil {
			tb.Error(err)
		}
	})
	h.run = []segment.Destination{{ID: "file:/a", Spec: "/a", Required: true}}
	if err := h.led.SetTargets(tb.Context(), h.run); err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range rooms {
		wg.Go(func() {
			url := fmt.Sprintf("http://h/%d.flv", i)
			room := segment.Room{ID: segment.RoomID("direct:" + url), URL: url, Name: fmt.Sprintf("room%d", i), Site: "direct"}
			now := time.Now()
			e, err := h.led.Enter(tb.Context(), room, segment.Session{Name: room.Name}, now, time.Minute)
			for seq := uint32(1); seq <= uint32(parts) && err == nil; seq++ {
				id := segment.ID{Session: e.Session.ID, Seq: seq}
				s := segment.Segment{ID: id, Room: room.ID, Path: "media/" + id.String() + ".flv", Start: now, Head: 4096}
				if err = h.led.Begin(tb.Context(), s); err == nil && seq < uint32(parts) {
					s.Size, s.Duration, s.Sealed, s.Cut, s.VideoFrames, s.Content = 1<<20, time.Minute, true, segment.CutTime, 1800, 1
					s.SHA256[0] = 1
					err = h.led.Seal(tb.Context(), s)
				}
			}
			if err != nil {
				tb.Error(err)
			}
		})
	}
	wg.Wait()
	s := &service{h: h}
	if s.stages, err = h.stages(nil); err != nil {
		tb.Fatal(err)
	}
	s.own, s.read.OK = true, true
	return s
}

// used is the processor time of this process.
func used(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What the looks at 200 live rooms with 50 unsafe parts each cost in a second: an open page asks each second, and what
// tells of news every other.
func BenchmarkLooks(b *testing.B) {
	s := crowd(b, 200, 50)
	c := newCrier(s)
	c.hooks, c.notes = hook.New(hook.Config{}, s.h.log), notify.New(notify.Config{}, s.h.log)
	tel := facts.NewTeller(facts.Config{}, nil)
	for b.Loop() {
		began, was := time.Now(), used(b)
		second := time.NewTicker(time.Second)
		for i := range 12 {
			if _, err := s.Status(context.Background(), false); err != nil {
				b.Fatal(err)
			}
			if i%2 == 0 {
				if p := c.picture(context.Background(), tel, false); p.Ledger != nil || len(p.Broadcasts) != 200 {
					b.Fatal(p.Ledger, len(p.Broadcasts))
				}
			}
			<-second.C
		}
		second.Stop()
		b.ReportMetric(float64(used(b)-was)/float64(time.Millisecond)/time.Since(began).Seconds(), "ms-cpu/s")
	}
}
