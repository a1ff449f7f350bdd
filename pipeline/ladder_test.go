package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/segment"
)

func TestClimb(t *testing.T) {
	const gib = 1 << 30
	rooms := []segment.RoomID{"c", "b", "a"} // least important first
	base := pipeline.LadderState{Rung: pipeline.DiskOK, MinFree: 20 * gib, StopFree: gib}
	state := func(r pipeline.Rung, paused ...segment.RoomID) pipeline.LadderState {
		s := base
		s.Rung, s.Paused = r, paused
		return s
	}
	for _, tt := range []struct {
		name   string
		was    pipeline.LadderState
		free   int64
		rung   pipeline.Rung
		pause  string
		resume string
	}{
		{"plenty", base, 21 * gib, pipeline.DiskOK, "", ""},
		{"exactly the limit", base, 20 * gib, pipeline.DiskOK, "", ""},
		{"a byte below it", base, 20*gib - 1, pipeline.DiskLow, "", ""},
		{"low does not flutter", state(pipeline.DiskLow), 20*gib + 1, pipeline.DiskLow, "", ""},
		{"low ends", state(pipeline.DiskLow), 21 * gib, pipeline.DiskOK, "", ""},
		{"exactly the stop", state(pipeline.DiskLow), gib, pipeline.DiskLow, "", ""},
		{"below the stop the least important pauses", state(pipeline.DiskLow), gib - 1, pipeline.DiskStop, "c", ""},
		{"still below: the next", state(pipeline.DiskStop, "c"), gib - 1, pipeline.DiskStop, "b", ""},
		{"all are paused", state(pipeline.DiskStop, "c", "b", "a"), gib - 1, pipeline.DiskStop, "", ""},
		{"below half of it all at once", state(pipeline.DiskLow), gib/2 - 1, pipeline.DiskStop, "c b a", ""},
		{"above the stop nobody goes on yet", state(pipeline.DiskStop, "c", "b"), 2*gib - 1, pipeline.DiskStop, "", ""},
		{"at twice the stop the last one goes on", state(pipeline.DiskStop, "c", "b"), 2 * gib, pipeline.DiskStop, "", "b"},
		{"then the other one", state(pipeline.DiskStop, "c"), 2 * gib, pipeline.DiskLow, "", "c"},
		{"a room that is gone", state(pipeline.DiskStop, "x"), 2 * gib, pipeline.DiskLow, "", ""},
		{"straight down", base, 0, pipeline.DiskStop, "c b a", ""},
		{"straight up", state(pipeline.DiskStop, "c"), 100 * gib, pipeline.DiskOK, "", "c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.was.Paused)
			now, pause, resume := pipeline.Climb(tt.was, tt.free, rooms)
			if now.Rung != tt.rung {
				t.Errorf("rung %s, want %s", now.Rung, tt.rung)
			}
			if got := join(pause); got != tt.pause {
				t.Errorf("pause %q, want %q", got, tt.pause)
			}
			if got := join(resume); got != tt.resume {
				t.Errorf("resume %q, want %q", got, tt.resume)
			}
			if !slices.Equal(before, tt.was.Paused) {
				t.Error("Climb changed its argument")
			}
		})
	}
}

func join(ids []segment.RoomID) string {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = string(id)
	}
	return strings.Join(s, " ")
}

// Whatever the disk does: no room is paused twice or let go on twice, and with room enough everybody goes on.
func TestClimbAnyWay(t *testing.T) {
	rooms := []segment.RoomID{"d", "c", "b", "a"}
	rapid.Check(t, func(t *rapid.T) {
		s := pipeline.LadderState{Rung: pipeline.DiskOK, MinFree: rapid.Int64Range(1, 100).Draw(t, "min"), StopFree: rapid.Int64Range(1, 100).Draw(t, "stop")}
		paused := map[segment.RoomID]bool{}
		step := func(free int64) {
			var pause, resume []segment.RoomID
			s, pause, resume = pipeline.Climb(s, free, rooms)
			for _, id := range pause {
				if paused[id] || free >= s.StopFree {
					t.Fatalf("%s is paused at %d free", id, free)
				}
				paused[id] = true
			}
			for _, id := range resume {
				if !paused[id] || free < 2*s.StopFree {
					t.Fatalf("%s goes on at %d free", id, free)
				}
				delete(paused, id)
			}
			if len(s.Paused) != len(paused) {
				t.Fatalf("paused %v, want %v", s.Paused, paused)
			}
			if len(paused) > 0 && s.Rung != pipeline.DiskStop {
				t.Fatalf("rung %s with rooms paused", s.Rung)
			}
		}
		for range rapid.IntRange(0, 40).Draw(t, "looks") {
			step(rapid.Int64Range(0, 250).Draw(t, "free"))
		}
		for range len(rooms) + 1 {
			step(1000)
		}
		if len(paused) > 0 || s.Rung != pipeline.DiskOK {
			t.Fatalf("%s, paused %v with 1000 free", s.Rung, paused)
		}
	})
}

func TestLadder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards what the ladder and the test share
		space, broken := pipeline.Space{Free: 100 << 30, Total: 500 << 30}, error(nil)
		var log []string
		disk := func(free int64, err error) {
			mu.Lock()
			defer mu.Unlock()
			space.Free, broken = free, err
		}
		say := func(format string, a ...any) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf(format, a...))
		}
		do := func(c segment.Command) { say("%s %s", c.Verb, c.Room) }
		l, err := pipeline.NewLadder(pipeline.LadderConfig{}, pipeline.LadderDeps{
			Measure: func() (pipeline.Space, error) {
				mu.Lock()
				defer mu.Unlock()
				return space, broken
			},
			Rooms: []pipeline.Room{{ID: "important", Priority: 10, Do: do}, {ID: "other", Do: do}},
			Low:   func(low bool) { say("low %v", low) },
			Tell:  func(r pipeline.Rung, _ string) { say("%s", r) },
			Log:   zerolog.Nop(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		kick, done := make(chan struct{}, 1), make(chan error)
		go func() { done <- l.Run(ctx, kick) }()
		want := func(w string) {
			t.Helper()
			time.Sleep(2 * time.Second) // one look
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(log, ", "); got != w {
				t.Errorf("got  %q\nwant %q", got, w)
			}
			log = nil
		}
		time.Sleep(time.Second) // from now on between two looks
		want("")
		if len(kick) != 0 {
			t.Error("rang although nothing is low")
		}
		disk(19<<30, nil)
		want("low, low true")
		if len(kick) != 1 {
			t.Error("did not ring although it is low")
		}
		if d, err := l.Disk(); err != nil || d.Short() != 1<<30 {
			t.Errorf("disk %+v, %v", d, err)
		}
		want("") // one alert per condition
		disk(1<<30-1, nil)
		want("stop, pause other")
		disk(1<<30-1, errors.New("EIO"))
		want("") // could not ask: nothing changes
		disk(1<<30-1, nil)
		want("pause important")
		want("")
		disk(2<<30, nil)
		want("continue important")
		want("low, continue other")
		disk(100<<30, nil)
		want("ok, low false")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestDefaultMinFree(t *testing.T) {
	for total, want := range map[int64]int64{100 << 30: 10 << 30, 1 << 40: 20 << 30, 200 << 30: 20 << 30, 0: 20 << 30} {
		if got := pipeline.DefaultMinFree(total); got != want {
			t.Errorf("%d: %d, want %d", total, got, want)
		}
	}
}

func TestStatfsMeasuresThisDisk(t *testing.T) {
	s, err := pipeline.Statfs(t.TempDir())()
	if err != nil || s.Total <= 0 || s.Free < 0 || s.Free > s.Total {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := pipeline.Statfs("/no/such/place")(); err == nil {
		t.Error("a place that is not there was measured")
	}
}

func TestI7_BudgetIsTheSum(t *testing.T) {
	b := pipeline.Promise(20, 21<<20, 12, 256<<10)
	var sum int64
	for _, h := range b {
		sum += int64(h.Count) * h.Each
	}
	if b.Bytes() != sum || sum < 20*21<<20 || !strings.Contains(b.String(), "20 live rooms x 22 MB = 440 MB") {
		t.Errorf("%d, %d\n%s", b.Bytes(), sum, b)
	}
}
