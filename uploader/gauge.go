package uploader

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// The states of a lane.
const (
	laneOK          = "ok"
	laneUnreachable = "unreachable"
	laneRefused     = "refused"
	laneThrottled   = "throttled"
)

// blip is the kind of a retry of which the lane heard nothing else: the next attempt of the same call was good, or a
// failure of that call is counted besides.
const blip = "blip"

// window is how far back a rate looks.
const window = 10

// gauge is what can be seen of a lane from outside. Its lock is held for moments only.
type gauge struct {
	mu      sync.Mutex
	now     LaneStats // Rate is worked out when it is asked for
	pending map[segment.ID]int64

	start  time.Time
	moved  [window + 1]int64 // bytes by second, a ring
	second int64             // the newest second in it, since start
}

func newGauge(d Destination) *gauge {
	now := time.Now()
	return &gauge{start: now, now: LaneStats{
		Target: d.Target.ID(), Required: d.Required, State: laneOK, Since: now, Retries: map[string]int64{},
	}}
}

// advance brings the ring to now.
func (g *gauge) advance(now time.Time) {
	s := int64(now.Sub(g.start) / time.Second)
	for n := min(s-g.second, window+1); n > 0; n-- {
		g.moved[(s-n+1)%(window+1)] = 0
	}
	g.second = max(g.second, s)
}

// move counts bytes as they go, those of failed attempts among them.
func (g *gauge) move(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.advance(time.Now())
	g.moved[g.second%(window+1)] += int64(n)
}

// state says how the lane is; the time of a change is kept.
func (g *gauge) state(state string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now.State != state {
		g.now.State, g.now.Since = state, time.Now()
	}
	g.now.Error = ""
	if err != nil {
		g.now.Error = explain(err)
	}
}

func (g *gauge) sent(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now.Sent += n
}

func (g *gauge) retry(kind string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now.Retries[kind]++
}

type repeatKey struct{}

// WithRepeats lets heard know of each call below ctx that a decorator makes again before anybody outside sees the
// failure. It is called from several goroutines, with the error of the attempt that failed.
func WithRepeats(ctx context.Context, heard func(error)) context.Context {
	return context.WithValue(ctx, repeatKey{}, heard)
}

// Repeat is what such a decorator says before its next attempt.
func Repeat(ctx context.Context, err error) {
	if heard, ok := ctx.Value(repeatKey{}).(func(error)); ok {
		heard(err)
	}
}

type movedKey struct{}

// WithMoved lets heard know of bytes that a call below ctx moves where its caller cannot see them.
func WithMoved(ctx context.Context, heard func()) context.Context {
	return context.WithValue(ctx, movedKey{}, heard)
}

// Moved is what a target says while it reads an object back: the call takes long and does not hang.
func Moved(ctx context.Context) {
	if heard, ok := ctx.Value(movedKey{}).(func()); ok {
		heard()
	}
}

func (g *gauge) inFlight(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now.InFlight = n
}

// unproven replaces the list of what the lane has not proven.
func (g *gauge) unproven(list map[segment.ID]int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending = list
}

func (g *gauge) left(into map[segment.ID]int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.Copy(into, g.pending)
}

func (g *gauge) stats(now time.Time) LaneStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.advance(now)
	s := g.now
	s.Retries = maps.Clone(g.now.Retries)
	// The second that is running now is not whole: it is left out, and the window+1 places hold window whole ones.
	var sum int64
	for i := range g.moved {
		if int64(i) != g.second%(window+1) {
			sum += g.moved[i]
		}
	}
	if whole := min(g.second, window); whole > 0 {
		s.Rate = float64(sum) / float64(whole)
	}
	return s
}
