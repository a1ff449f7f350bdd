package pipelinetest_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pipeline/pipelinetest"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/uploader/wrap"
)

// dead makes the store say nothing at all for d: each call hangs until somebody loses patience.
func (w *world) dead(d time.Duration) {
	back := time.Now().Add(d)
	w.weather = func(wrap.Call) wrap.Fate {
		if time.Now().Before(back) {
			return wrap.Fate{Hang: true}
		}
		return wrap.Fate{}
	}
}

// Twenty rooms record for an hour while the target says nothing. No camera ever waits, nothing is lost, nothing is sent
// twice, and everything is in the archive soon after the target is back.
func TestI5_ATargetIsDeadForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShow()
		s.n, s.frames, s.every, s.part, s.flush = 20, 740, 5*time.Second, 25, 5*time.Second
		w := newWorld(t, chunked, 1, s)
		w.memory = pipelinetest.NewLedger(0, segment.Destination{ID: archive, Required: true})
		w.dead(time.Hour)
		start := time.Now()
		w.life(0)
		took := time.Since(start)
		if s.stall != 0 {
			t.Errorf("a camera waited for %v", s.stall)
		}
		if took < time.Hour || took > 65*time.Minute {
			t.Errorf("it took %v", took)
		}
		w.check(0)
	})
}

// The same with real recorders and the real ledger, and with an eye on memory: what twenty rooms hold stays below what
// was promised for them, however long the target is away.
func TestI5I7_RealRecordersAndADeadTarget(t *testing.T) {
	rooms, away := 20, time.Hour
	if raced {
		rooms, away = 4, 5*time.Minute
	}
	synctest.Test(t, func(t *testing.T) {
		st := &studios{t: t}
		for range rooms {
			st.all = append(st.all, newStudio(t, fmt.Sprintf("room%02d", len(st.all)), 25*time.Second))
		}
		w := newWorld(t, line, 1, st)
		w.dead(away)
		stop := make(chan struct{})
		var slabs int64
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					slabs = max(slabs, media.InUse())
				}
			}
		}()
		start := time.Now()
		w.life(0)
		close(stop)
		synctest.Wait()
		if took := time.Since(start); took < away || took > away+5*time.Minute {
			t.Errorf("it took %v", took)
		}
		for _, r := range st.recorders {
			if d := r.Snapshot().WorstStall; d != 0 {
				t.Errorf("%s waited for %v", r, d)
			}
		}
		promise := pipeline.Promise(rooms, recorder.MemoryPerRoom, rooms, 0)
		if slabs == 0 || slabs > promise.Bytes() {
			t.Errorf("%d bytes of slabs were in use, promised are\n%s", slabs, promise)
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		var stored int64 // the store is in memory too
		for _, k := range w.remote.Keys() {
			o, _ := w.remote.Object(k)
			stored += int64(len(o))
		}
		if live := int64(m.HeapAlloc) - 3*stored; live > promise.Bytes() {
			t.Errorf("%d bytes are alive, promised are\n%s", live, promise)
		}
		w.check(0)
	})
}

// studios is a scene of several studios.
type studios struct {
	t         *testing.T
	all       []*studio
	recorders []*recorder.Recorder
}

func (s *studios) rooms() int     { return len(s.all) }
func (s *studios) maxSize() int64 { return s.all[0].maxSize() }
func (s *studios) power() bool    { return false }

func (s *studios) captures(w *world, b book, dir *durable.Dir) []pipeline.CaptureFunc {
	var out []pipeline.CaptureFunc
	for _, st := range s.all {
		for _, build := range st.captures(w, b, dir) {
			out = append(out, func(c chan<- segment.Progress) (pipeline.Capture, error) {
				r, err := build(c)
				if rec, ok := r.(*recorder.Recorder); ok {
					s.recorders = append(s.recorders, rec)
				}
				return r, err
			})
		}
	}
	return out
}

func (s *studios) life(w *world, began, ended time.Time, cut bool) {
	for _, st := range s.all {
		st.life(w, began, ended, cut)
	}
}

// archive: the broadcasts are whole, each in its own folder.
func (s *studios) archive(w *world) {
	s.t.Helper()
	if got, want := len(w.remote.Keys()), len(s.all)*7; got != want {
		s.t.Errorf("%d parts in the archive, want %d", got, want)
	}
	pictures := 0
	for _, key := range w.remote.Keys() {
		data, _ := w.remote.Object(key)
		pictures += len(whole(s.t, key, data))
	}
	owed := 0
	for _, st := range s.all {
		owed += len(st.owed)
	}
	if sent := len(s.all) * 25 * 30; pictures < owed || pictures > sent || owed < sent*9/10 {
		s.t.Errorf("%d pictures in the archive, %d are owed, %d were sent", pictures, owed, sent)
	}
}
