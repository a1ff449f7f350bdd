package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

// onAir is a site that finds every room live.
type onAir struct {
	title  string
	asked  int
	closed int
}

func (o *onAir) Resolve(context.Context, segment.Room) (recorder.Live, error) {
	o.asked++
	return recorder.Live{Presence: recorder.OnAir, Title: o.title, Source: o}, nil
}
func (o *onAir) Every() time.Duration                           { return time.Second }
func (o *onAir) Run(context.Context, chan<- *media.Batch) error { return nil }
func (o *onAir) Host() string                                   { return "h" }
func (o *onAir) Close() error                                   { o.closed++; return nil }

func gateOf(t *testing.T, zone string, room config.Room) (*gate, *onAir) {
	t.Helper()
	z, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{}
	h.zone.Store(z)
	site := &onAir{}
	b := newBudgets().of("http://h/live.flv", segment.Room{Site: "direct"})
	room.Grace = time.Minute
	return &gate{seat: &seat{svc: &service{h: h}, cfg: room}, inner: site, budget: b}, site
}

func TestTheGateKnowsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := config.ParseWindow("18:00-02:00")
		if err != nil {
			t.Fatal(err)
		}
		g, site := gateOf(t, "Asia/Shanghai", config.Room{Window: w})
		open := 0
		time.Sleep(time.Until(time.Date(2000, 3, 1, 0, 0, 0, 0, time.UTC))) // 08:00 in Shanghai
		for range 24 * 4 {
			live, err := g.Resolve(t.Context(), segment.Room{})
			if err != nil {
				t.Fatal(err)
			}
			hour := time.Now().In(g.seat.svc.h.zone.Load()).Hour()
			switch want := hour >= 18 || hour < 2; {
			case want != (live.Presence == recorder.OnAir):
				t.Errorf("at %d o'clock: %+v", hour, live)
			case want:
				open++
			case !strings.Contains(live.Why, "outside of its window 18:00-02:00") || g.Every() < time.Minute:
				t.Errorf("at %d o'clock: %q, every %v", hour, live.Why, g.Every())
			}
			time.Sleep(15 * time.Minute)
		}
		if open != 8*4 || site.asked != open {
			t.Errorf("open %d times, asked %d times", open, site.asked)
		}
	})
}

func TestTheGateSkipsTitles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, site := gateOf(t, "UTC", config.Room{SkipTitles: []string{"rerun"}})
		site.title = "Best of (RERUN)"
		live, err := g.Resolve(t.Context(), segment.Room{})
		if err != nil || live.Presence != recorder.Offline || live.Confirmed || !strings.Contains(live.Why, `"rerun"`) || site.closed != 1 || g.Every() != skippedEvery {
			t.Errorf("%+v, %v, closed %d times, every %v", live, err, site.closed, g.Every())
		}
		site.title = "new show"
		if live, err = g.Resolve(t.Context(), segment.Room{}); err != nil || live.Presence != recorder.OnAir || site.closed != 1 || g.Every() != waitEvery {
			t.Errorf("%+v, %v", live, err)
		}
	})
}

// Two hundred rooms of one host ask within their budget, and each has been asked about within seconds.
func TestQuestionsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newBudgets()
		began := time.Now()
		var last time.Duration
		for i := range 200 {
			b := all.of(fmt.Sprintf("http://h:8080/%d.flv", i), segment.Room{Site: "direct"})
			if !b.take(t.Context()) {
				t.Fatal("no turn")
			}
			last = time.Since(began)
		}
		if last < 3*time.Second || last > 5*time.Second {
			t.Errorf("200 questions took %v, want about 4 s", last)
		}
		if b := all.of("http://other/live.flv", segment.Room{Site: "direct"}); !b.take(t.Context()) || time.Since(began) != last {
			t.Error("another host had to wait")
		}
	})
}
