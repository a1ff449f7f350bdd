package bilibili_test

import (
	"context"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/recordertest"
	"github.com/liverec/liverec/recorder/site/bilibili"
)

// twins is a room in two qualities: the same pictures under the same numbers at the same time, in two sizes.
func twins(t *testing.T) (full, small *liveroom.Room, h http.Handler) {
	t.Helper()
	make := func(cfg liveroom.Config) *liveroom.Room {
		r, err := liveroom.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.End)
		return r
	}
	full, small = make(liveroom.Config{}), make(liveroom.Config{Changes: []time.Duration{0}})
	full.Start(t.Context())
	small.Start(t.Context())
	return full, small, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "_1500") {
			small.ServeHTTP(w, r)
			return
		}
		full.ServeHTTP(w, r)
	})
}

// A disk that runs short makes a room with quality "auto" go down: a clean cut, and the next part goes on where the last
// one ended.
func TestStepsDown(t *testing.T) {
	t.Parallel()
	_, _, h := twins(t)
	r, _ := room(t, bilitest.LiveRoom{FLV: h, Accept: []int{250, 150}, Formats: []string{"flv"}}, liveroom.Config{})
	var pressed atomic.Bool
	var log page
	res, err := site(t).Resolver(bilibili.Config{URL: address(r), Pressed: pressed.Load, Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir()
	dir, err := durable.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	where, err := bilibili.Check(address(r))
	if err != nil {
		t.Fatal(err)
	}
	journal := &recordertest.Journal{}
	rec, err := recorder.New(recorder.Config{Room: where, Segment: time.Minute}, recorder.Deps{Resolver: res, Journal: journal, Dir: dir, Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { done <- rec.Run(ctx) }()
	until := func(what string, f func(recorder.Snapshot) bool) {
		t.Helper()
		for range 3000 {
			if f(rec.Snapshot()) {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
		t.Fatalf("never: %s; %+v\n%s", what, rec.Snapshot(), log.String())
	}
	until("it is recorded", func(s recorder.Snapshot) bool {
		return s.Open != nil && s.Open.Duration > 3*time.Second && strings.HasPrefix(s.Quality, "high (超清), 640x360")
	})
	pressed.Store(true)
	until("the lower quality is recorded", func(s recorder.Snapshot) bool {
		return s.Open != nil && s.Open.Seq == 2 && s.Open.Duration > 3*time.Second && strings.HasPrefix(s.Quality, "medium (高清), 480x270")
	})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	parts := journal.Sessions()[0].Segments()
	if len(parts) != 2 || parts[0].Cut != segment.CutHeader {
		t.Fatalf("%+v", parts)
	}
	var numbers []uint64
	for _, p := range parts {
		rep, err := probe.File(filepath.Join(path, filepath.FromSlash(p.Path)))
		if err != nil {
			t.Fatal(err)
		}
		if err := rep.Check(); err != nil {
			t.Error(err)
		}
		numbers = append(numbers, rep.Numbers...)
	}
	if !strings.Contains(log.String(), "the disk runs short, a lower quality is taken") {
		t.Error(log.String())
	}
	// A node begins with its newest key frame. If that came before the end of the other quality, what was shown since then
	// is there in both; else what is missing is told.
	missing, twice := holes(numbers)
	told := 0.0
	g := journal.Sessions()[0].Gaps
	for _, g := range g {
		told += g.Length.Seconds()
	}
	if twice > 60 || math.Abs(told-float64(missing)/30) > 0.05 {
		t.Errorf("%d pictures are missing, %d are there twice: %v\ngaps %+v", missing, twice, probe.Ranges(numbers), g)
	}
}

func holes(numbers []uint64) (missing, twice int) {
	seen := map[uint64]int{}
	for _, n := range numbers {
		seen[n]++
	}
	for n := slices.Min(numbers); n <= slices.Max(numbers); n++ {
		switch seen[n] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
	}
	return missing, twice
}
