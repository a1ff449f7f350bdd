package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/supervise"
)

// What Start may answer.
var (
	// ErrStopped: the pipeline does not run yet, or not any more.
	ErrStopped = errors.New("the pipeline does not run")
	// ErrTwice: a capture of that room runs, or has not returned yet.
	ErrTwice = errors.New("the room is captured already")
)

// floor is stage 1 of a Run: the captures that run. Rooms come and go on it; the channel that they ring on stays, and is
// closed by Run after the last one has returned.
type floor struct {
	p         *Pipeline
	ctx, hard context.Context
	progress  chan segment.Progress

	mu     sync.Mutex
	closed bool // nobody comes in any more
	all    map[*stage]struct{}
	rooms  map[segment.RoomID]*stage // those of Start
}

func newFloor(p *Pipeline, ctx, hard context.Context, progress chan segment.Progress) *floor {
	return &floor{p: p, ctx: ctx, hard: hard, progress: progress, all: map[*stage]struct{}{}, rooms: map[segment.RoomID]*stage{}}
}

// put starts a capture and forgets it when it has returned.
func (f *floor) put(c Capture) *stage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.run(c, nil)
}

// run starts a capture; gone is called, with the lock held, when it has returned.
func (f *floor) run(c Capture, gone func()) *stage {
	s := f.p.start(f.ctx, c)
	off := context.AfterFunc(f.hard, s.cancel)
	f.all[s] = struct{}{}
	s.left = make(chan struct{})
	go func() { // ends with the capture; awaited by whoever waits for left
		defer close(s.left)
		<-s.done
		off()
		s.cancel()
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.all, s)
		if gone != nil {
			gone()
		}
	}()
	return s
}

// any is one of the captures that run, nil if there is none.
func (f *floor) any() *stage {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.all {
		return s
	}
	return nil
}

// close lets nobody in any more, ends the context of everybody, and names them.
func (f *floor) close() []*stage {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	all := make([]*stage, 0, len(f.all))
	for s := range f.all {
		s.cancel()
		all = append(all, s)
	}
	return all
}

// open makes the floor of a Run the one that Start puts rooms on.
func (p *Pipeline) open(f *floor) {
	p.mu.Lock()
	p.floor = f
	p.mu.Unlock()
	if p.Opened != nil {
		p.Opened()
	}
}

// Running is a capture that was taken in by Start.
type Running struct{ s *stage }

// End ends the context of the capture, as a stop of the whole pipeline would: the open part is closed, the broadcast
// stays open for who comes next. It does not wait.
func (r *Running) End() { r.s.cancel() }

// Done is closed when the capture has returned and its room may be taken in again.
func (r *Running) Done() <-chan struct{} { return r.s.left }

// Err is what the capture died of. It is valid after Done.
func (r *Running) Err() error { return r.s.err }

// Start takes a room in while the pipeline runs. A room is there once: ErrTwice until the capture that was taken in for
// it before has returned. What happens to one capture, a panic among it, is no affair of the others. ErrStopped before
// Run has started the stages, and from the stop on.
func (p *Pipeline) Start(id segment.RoomID, build CaptureFunc) (*Running, error) {
	p.mu.Lock()
	f := p.floor
	p.mu.Unlock()
	if f == nil {
		return nil, ErrStopped
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed || f.ctx.Err() != nil || f.hard.Err() != nil:
		return nil, ErrStopped
	case f.rooms[id] != nil:
		return nil, fmt.Errorf("room %s: %w", id, ErrTwice)
	}
	c, err := made(build, f.progress)
	if err != nil {
		return nil, fmt.Errorf("make the capture of room %s: %w", id, err)
	}
	s := f.run(c, func() { delete(f.rooms, id) })
	f.rooms[id] = s
	return &Running{s}, nil
}

// made calls build and turns a panic in it into an error.
func made(build CaptureFunc, out chan<- segment.Progress) (c Capture, err error) {
	err = supervise.Guard(context.Background(), service{"capture", func(context.Context) (err error) {
		c, err = build(out)
		return err
	}})
	return c, err
}
