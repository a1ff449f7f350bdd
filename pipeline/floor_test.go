package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/segment"
)

// service runs the house while rooms come and go; end stops it and gives the result.
func (h *house) service() (p *pipeline.Pipeline, end func() pipeline.Result) {
	h.t.Helper()
	h.cfg.Once = false
	p = h.build()
	ctx, stop := context.WithCancel(h.t.Context())
	done := make(chan pipeline.Result, 1)
	opened := make(chan struct{})
	p.Opened = func() { close(opened) }
	go func() {
		r, err := p.Run(ctx, h.t.Context())
		if err != nil {
			h.t.Errorf("the run ends with %v", err)
		}
		done <- r
	}()
	<-opened
	return p, func() pipeline.Result { stop(); return <-done }
}

func TestRoomsComeAndGoWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.captures = []pipeline.CaptureFunc{h.camera("first", 100)}
		early := h.build()
		if _, err := early.Start("a", h.camera("a", 1)); !errors.Is(err, pipeline.ErrStopped) {
			t.Errorf("taken in before the start: %v", err)
		}
		p, end := h.service()
		a, err := p.Start("a", h.camera("a", 100))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Start("a", h.camera("a", 1)); !errors.Is(err, pipeline.ErrTwice) {
			t.Errorf("taken in twice: %v", err)
		}
		broken := errors.New("no such site")
		if _, err := p.Start("c", func(chan<- segment.Progress) (pipeline.Capture, error) { return nil, broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
		if _, err := p.Start("c", func(chan<- segment.Progress) (pipeline.Capture, error) { panic("broken invariant") }); err == nil {
			t.Error("a panic was taken in")
		}
		if _, err := p.Start("c", h.camera("c", 100)); err != nil { // what could not be made holds no place
			t.Error(err)
		}
		time.Sleep(15 * time.Second)
		a.End()
		<-a.Done()
		if a.Err() != nil {
			t.Error(a.Err())
		}
		time.Sleep(3 * time.Second)
		if a, err = p.Start("a", h.camera("a", 100)); err != nil { // within the grace: its broadcast goes on
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if r := end(); !r.Stopped || !r.Safe() || len(r.Abandoned) > 0 {
			t.Errorf("%+v", r)
		}
		if _, err := p.Start("d", h.camera("d", 1)); !errors.Is(err, pipeline.ErrStopped) {
			t.Errorf("taken in after the stop: %v", err)
		}
		if got := h.said(); got != "camera ends, camera ends, camera ends, camera ends, progress closed, transport ends" {
			t.Errorf("order: %s", got)
		}
		var cuts []string
		for _, m := range h.manifests() {
			var c []string
			for _, part := range m.Parts {
				c = append(c, part.Cut)
			}
			cuts = append(cuts, strings.Join(c, " "))
		}
		slices.Sort(cuts)
		// 23 s of "first" and of c; a was taken out after 15 s and came back 3 s later, as one broadcast.
		if got := strings.Join(cuts, ", "); got != "time stop stop, time time stop, time time stop" {
			t.Errorf("cuts %s", got)
		}
	})
}

// ringer rings until the last moment of its Run, a second after it was told to end: on a closed channel that panics.
type ringer struct {
	out  chan<- segment.Progress
	left *atomic.Int32
}

func (r ringer) String() string { return "ringer" }

func (r ringer) Run(ctx context.Context) error {
	defer r.left.Add(-1)
	for ctx.Err() == nil {
		select {
		case r.out <- segment.Progress{}: // on a closed channel this panics
		default:
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Second) // the seal
	select {
	case r.out <- segment.Progress{}:
	default:
	}
	return nil
}

func TestTheChannelClosesAfterTheLastRoomThatCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		p, end := h.service()
		var left atomic.Int32
		var wg sync.WaitGroup
		for i := range 20 { // they come while the stop begins
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				left.Add(1)
				_, err := p.Start(segment.RoomID(fmt.Sprint(i)), func(out chan<- segment.Progress) (pipeline.Capture, error) { return ringer{out, &left}, nil })
				if err != nil {
					left.Add(-1)
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		r := end()
		if n := left.Load(); n > 0 && len(r.Abandoned) == 0 {
			t.Errorf("%d rooms were still there", n)
		}
		wg.Wait()
		if len(r.Abandoned) > 0 || left.Load() != 0 {
			t.Errorf("%+v, %d left", r, left.Load())
		}
	})
}

// One room is captured once, however many ask at the same moment.
func TestOneRoomIsCapturedOnce(t *testing.T) {
	h := newHouse(t)
	p, end := h.service()
	var running, most, made atomic.Int32
	build := func(chan<- segment.Progress) (pipeline.Capture, error) {
		return only(func(ctx context.Context) error {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			made.Add(1)
			defer running.Add(-1)
			<-ctx.Done()
			return nil
		}), nil
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if r, err := p.Start("room", build); err == nil {
					r.End()
					<-r.Done()
				} else if !errors.Is(err, pipeline.ErrTwice) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	end()
	if most.Load() != 1 || made.Load() == 0 { // how often each of them wins is the scheduler's affair
		t.Errorf("%d at once, %d in all", most.Load(), made.Load())
	}
}

type only func(ctx context.Context) error

func (f only) Run(ctx context.Context) error { return f(ctx) }
func (f only) String() string                { return "only" }

func TestARoomThatPanicsIsNoAffairOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		p, end := h.service()
		var falls atomic.Int32
		bad, err := p.Start("bad", func(chan<- segment.Progress) (pipeline.Capture, error) {
			return only(func(context.Context) error { falls.Add(1); panic("broken invariant") }), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Start("good", h.camera("good", 100)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if n := falls.Load(); n < 5 {
			t.Errorf("%d starts in two minutes: it is not tried again", n)
		}
		bad.End()
		<-bad.Done()
		if r := end(); !r.Safe() {
			t.Errorf("%+v", r)
		}
		if ms := h.manifests(); len(ms) != 1 || len(ms[0].Parts) < 12 {
			t.Errorf("%d broadcasts, the first with %d parts; want 12 of 10 s", len(ms), len(ms[0].Parts))
		}
	})
}

func TestTheLadderFollowsTheRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var did []string
		free := int64(1 << 40)
		room := func(id segment.RoomID, priority int) pipeline.Room {
			return pipeline.Room{ID: id, Name: string(id), Priority: priority, Do: func(c segment.Command) {
				mu.Lock()
				defer mu.Unlock()
				did = append(did, string(c.Verb)+" "+string(id))
			}}
		}
		l, err := pipeline.NewLadder(pipeline.LadderConfig{MinFree: 100, StopFree: 10}, pipeline.LadderDeps{
			Measure: func() (pipeline.Space, error) {
				mu.Lock()
				defer mu.Unlock()
				return pipeline.Space{Free: free, Total: 1 << 40}, nil
			},
			Rooms: []pipeline.Room{room("old", 0), room("dear", 9)}, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		go l.Run(t.Context(), make(chan struct{}, 1))
		set := func(n int64) {
			mu.Lock()
			free = n
			mu.Unlock()
			time.Sleep(2 * time.Second) // one look, at the full second between
		}
		said := func() string {
			mu.Lock()
			defer mu.Unlock()
			return strings.Join(did, ", ")
		}
		time.Sleep(time.Second)
		set(9)
		if got := said(); got != "pause old" || !l.Paused("old") || l.Paused("dear") {
			t.Fatalf("did %s", got)
		}
		l.SetRooms([]pipeline.Room{room("dear", 0), room("new", 9), room("old", 5)}) // other priorities, one more
		set(9)
		l.SetRooms([]pipeline.Room{room("dear", 0), room("new", 9)}) // old is gone, and with it its pause
		if l.Paused("old") {
			t.Error("a room that is gone is paused")
		}
		set(1000)
		set(1000)
		if got := said(); got != "pause old, pause dear, continue dear" {
			t.Errorf("did %s", got)
		}
	})
}
