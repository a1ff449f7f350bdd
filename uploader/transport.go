package uploader

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
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

	mu    sync.Mutex
	lanes []*lane // of the newest Run
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
	seen := map[segment.TargetID]bool{}
	for _, d := range deps.Targets {
		if d.Target == nil {
			return nil, errors.New("a destination without a target")
		}
		if id := d.Target.ID(); seen[id] {
			return nil, fmt.Errorf("target %s is named twice", id)
		} else {
			seen[id] = true
		}
		if _, err := ChunkSize(d.Target.Limits(), -1, cfg.MaxSize); err != nil {
			return nil, fmt.Errorf("target %s cannot take the largest segment: %w", d.Target.ID(), err)
		}
	}
	return &Transport{cfg: cfg, deps: deps}, nil
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
	lanes := make([]*lane, 0, len(t.deps.Targets))
	for _, d := range t.deps.Targets {
		lanes = append(lanes, newLane(t.cfg, t.deps, d, files, out))
	}
	t.mu.Lock()
	t.lanes = lanes
	t.mu.Unlock()

	soft := make(chan struct{})
	var wg sync.WaitGroup
	errs := make([]error, len(lanes))
	for i, l := range lanes {
		wg.Go(func() {
			if errs[i] = guarded(func() { l.run(ctx, soft) }); errs[i] != nil {
				errs[i] = fmt.Errorf("lane of %s: %w", l.id, errs[i])
				cancel(errs[i])
			}
		})
	}
	t.dispatch(ctx, in, lanes)
	close(soft)
	wg.Wait()
	if n, bytes := t.Left(); n > 0 {
		t.deps.Log.Info().Int("segments", n).Int64("bytes", bytes).Msg("transport stopped with media that is safe nowhere else, it goes on at the next start")
	}
	return errors.Join(errs...)
}

// dispatch hands each doorbell to every lane. It never waits for one.
func (t *Transport) dispatch(ctx context.Context, in <-chan segment.Progress, lanes []*lane) {
	for {
		select {
		case <-ctx.Done():
			return
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
