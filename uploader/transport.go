package uploader

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
)

// Config is what transport may be told. It is a plain value.
type Config struct {
	// Uploads is the most chunks in flight per target, 0: 3. A target's Limits.Parallel may keep it lower.
	Uploads int
	// MaxSize is what a segment can grow to at the most (--max-size), 0: 4 GiB. It chooses the chunk size of uploads that
	// begin before the seal.
	MaxSize int64
}

// The defaults of Config.
const (
	DefaultUploads = 3
	DefaultMaxSize = 4 << 30
)

// Destination is a target with its part in the bargain.
type Destination struct {
	Target   Target
	Required bool
	// Version tells Retarget that a target with an ID that is known is another one all the same.
	Version int
}

// Deps are the things that transport works with; all are handed in.
type Deps struct {
	Journal Journal
	Targets []Destination
	// Dir is the data folder; Segment.Path is a name in it.
	Dir *durable.Dir
	Log zerolog.Logger
}

// Transport carries deliveries to their targets.
type Transport struct {
	cfg  Config
	deps Deps

	change chan struct{} // cap 1; rung by Retarget, never closed

	mu    sync.Mutex // guards what is below, and deps.Targets
	lanes []*lane    // of the newest Run
	then  []func()   // of each Retarget that was not followed yet
}

// New checks what it is given and starts nothing.
func New(cfg Config, deps Deps) (*Transport, error) {
	if cfg.Uploads < 0 {
		return nil, fmt.Errorf("%d uploads at once: it has to be 1 or more", cfg.Uploads)
	}
	if cfg.Uploads == 0 {
		cfg.Uploads = DefaultUploads
	}
	if cfg.MaxSize < 0 {
		return nil, fmt.Errorf("a largest segment of %d bytes", cfg.MaxSize)
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = DefaultMaxSize
	}
	if deps.Journal == nil || deps.Dir == nil {
		return nil, errors.New("transport needs a journal and a data folder")
	}
	if err := cfg.check(deps.Targets); err != nil {
		return nil, err
	}
	return &Transport{cfg: cfg, deps: deps, change: make(chan struct{}, 1)}, nil
}

// check says which targets cannot be.
func (cfg Config) check(targets []Destination) error {
	seen := map[segment.TargetID]bool{}
	for _, d := range targets {
		if d.Target == nil {
			return errors.New("a destination without a target")
		}
		if id := d.Target.ID(); seen[id] {
			return fmt.Errorf("target %s is named twice", id)
		} else {
			seen[id] = true
		}
		if _, err := ChunkSize(d.Target.Limits(), -1, cfg.MaxSize); err != nil {
			return fmt.Errorf("target %s cannot take the largest segment: %w", d.Target.ID(), err)
		}
	}
	return nil
}

// Retarget puts other targets in the place of those of before, also while Run goes on. The lane of a target that stays
// (its ID, Version and Required) notices nothing. One that is gone has its calls cut off, as by a hard stop; a lane of another target
// with its ID begins after it has ended. An error changes nothing. then is called once nobody here uses the targets any
// more that are gone: at the earliest when Run goes on, at the latest before it returns. It
// must not block. Nil: nobody wants to know.
func (t *Transport) Retarget(targets []Destination, then func()) error {
	if err := t.cfg.check(targets); err != nil {
		return err
	}
	t.mu.Lock()
	t.deps.Targets = slices.Clone(targets)
	if then != nil {
		t.then = append(t.then, then)
	}
	t.mu.Unlock()
	select {
	case t.change <- struct{}{}:
	default: // it is ringing already
	}
	return nil
}

// fleet are the lanes of a Run. It belongs to the goroutine of Run; only errs is everybody's.
type fleet struct {
	t     *Transport
	ctx   context.Context
	fail  context.CancelCauseFunc
	soft  chan struct{} // closed by Run
	files *files
	out   chan<- segment.Outcome
	ships map[segment.TargetID]*ship
	wg    sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// ship is a lane that runs.
type ship struct {
	lane    *lane
	version int
	end     context.CancelFunc
	done    chan struct{} // closed when it has ended
}

// follow brings the lanes in line with the targets.
func (f *fleet) follow() []*lane {
	f.t.mu.Lock()
	deps, then := f.t.deps, f.t.then
	f.t.then = nil
	f.t.mu.Unlock()
	var ended []*ship
	stay := map[segment.TargetID]bool{}
	lanes := make([]*lane, 0, len(deps.Targets))
	for _, d := range deps.Targets {
		id := d.Target.ID()
		stay[id] = true
		s := f.ships[id]
		if s == nil || s.version != d.Version || s.lane.required != d.Required {
			var before chan struct{}
			if s != nil {
				s.end()
				ended = append(ended, s)
				before = s.done
			}
			s = f.launch(newLane(f.t.cfg, deps, d, f.files, f.out), before)
			s.version = d.Version
			f.ships[id] = s
		}
		lanes = append(lanes, s.lane)
	}
	for id, s := range f.ships {
		if !stay[id] {
			s.end()
			ended = append(ended, s)
			delete(f.ships, id)
		}
	}
	if len(then) > 0 {
		f.wg.Go(func() {
			for _, s := range ended {
				<-s.done
			}
			for _, call := range then {
				call()
			}
		})
	}
	f.t.mu.Lock()
	f.t.lanes = lanes
	f.t.mu.Unlock()
	return lanes
}

// launch starts a lane, after the one before it has ended.
func (f *fleet) launch(l *lane, before <-chan struct{}) *ship {
	ctx, end := context.WithCancel(f.ctx)
	s := &ship{lane: l, end: end, done: make(chan struct{})}
	f.wg.Go(func() {
		defer close(s.done)
		defer end()
		if before != nil {
			<-before
		}
		err := guarded(func() { l.run(ctx, f.soft) })
		if err == nil {
			return
		}
		err = fmt.Errorf("lane of %s: %w", l.id, err)
		f.mu.Lock()
		f.errs = append(f.errs, err)
		f.mu.Unlock()
		f.fail(err)
	})
	return s
}

// Run carries everything that the journal calls due. in are doorbells: any of them may have been lost. On out goes each
// delivery that was proven or parked; a receiver that is slow slows the lanes and nothing else. Run closes neither.
//
// When in is closed the soft stop begins: what is in flight and what is sealed goes on until nothing is due, or only
// what has to wait for a person or for a target that cannot be reached: whoever wants to see that through keeps in open.
// The end of ctx is the hard stop: calls are cut off, and what they would have said is asked at the next start. Run returns when every goroutine
// that it started has ended; Left then counts what is not proven. The error is never a target's: it means that a lane
// broke an invariant of its own, and Run may be called again.
func (t *Transport) Run(ctx context.Context, in <-chan segment.Progress, out chan<- segment.Outcome) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	files := newFiles(t.deps.Dir)
	defer files.close()
	f := &fleet{t: t, ctx: ctx, fail: cancel, soft: make(chan struct{}), files: files, out: out, ships: map[segment.TargetID]*ship{}}
	t.dispatch(ctx, in, f)
	close(f.soft)
	f.wg.Wait()
	if n, bytes := t.Left(); n > 0 {
		t.deps.Log.Info().Int("segments", n).Int64("bytes", bytes).Msg("transport stopped with media that is safe nowhere else, it goes on at the next start")
	}
	return errors.Join(f.errs...)
}

// dispatch starts the lanes and hands each doorbell to every one of them. It never waits for one.
func (t *Transport) dispatch(ctx context.Context, in <-chan segment.Progress, f *fleet) {
	lanes := f.follow()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.change:
			lanes = f.follow()
		case p, ok := <-in:
			if !ok {
				return
			}
			for _, l := range lanes {
				l.mail.put(p)
			}
		}
	}
}

// guarded turns a panic into an error with its stack.
func guarded(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	f()
	return nil
}

// Stats is what every lane says about itself, in the order of Deps.Targets; empty before Run. It may be called at any
// time from any goroutine.
func (t *Transport) Stats() []LaneStats {
	t.mu.Lock()
	lanes := t.lanes
	t.mu.Unlock()
	stats := make([]LaneStats, 0, len(lanes))
	for _, l := range lanes {
		stats = append(stats, l.gauge.stats(time.Now()))
	}
	return stats
}

// Left counts the segments that some required target has not proven, and their bytes, as the lanes of the last Run left
// them.
func (t *Transport) Left() (segments int, bytes int64) {
	t.mu.Lock()
	lanes := t.lanes
	t.mu.Unlock()
	left := map[segment.ID]int64{}
	for _, l := range lanes {
		if l.required {
			l.gauge.left(left)
		}
	}
	for _, n := range left {
		bytes += n
	}
	return len(left), bytes
}

// Verify asks t anew whether the copy of a delivery is there and whole: failure.ErrAbsent and failure.ErrDamaged are
// answers, anything else means that it could not be asked. It changes nothing, and works in any process.
func Verify(ctx context.Context, t Target, d segment.Delivery) (segment.Proof, error) {
	s := d.Sent()
	if !s.Sealed {
		return segment.Proof{}, fmt.Errorf("verify %s: it is still open", d.Key)
	}
	p, err := t.Verify(ctx, segment.Object{
		ID: s.ID, Key: d.Key, Size: s.Size, MaxSize: s.Size, SHA256: s.SHA256, Chunk: d.Chunk,
	}, d.Receipt)
	if err == nil && p.Size != s.Size {
		return p, fmt.Errorf("verify %s: a proof of %d bytes for a segment of %d", d.Key, p.Size, s.Size)
	}
	return p, err
}
