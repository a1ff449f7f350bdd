package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pipeline/reclaim"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/supervise"
)

// Capture is stage 1 of one room. Run returns when the room is done with, or within Config.StopCapture after its
// context is; nothing is sent on the progress channel afterwards.
type Capture = supervise.Service

// CaptureFunc makes the capture of one room. Its sends on out never block: a full channel costs a doorbell.
type CaptureFunc func(out chan<- segment.Progress) (Capture, error)

// Transport is stage 2.
type Transport interface {
	// Run carries what the ledger calls due. The closing of in is the soft stop: what is in flight is finished. The
	// end of ctx is the hard one. Run closes neither channel and returns when nobody of its own can send any more.
	Run(ctx context.Context, in <-chan segment.Progress, out chan<- segment.Outcome) error
}

// Ledger is what the pipeline itself asks, to know when it is done and with what result.
type Ledger interface {
	Active(ctx context.Context) ([]segment.Broadcast, error)
	Holdings(ctx context.Context) ([]segment.Holding, error)
}

// Stages are the parts of the house.
type Stages struct {
	Captures  []CaptureFunc // those of the start, may be empty: `resume`, `upload`; Pipeline.Start takes in more
	Transport Transport
	Control   *control.Control
	Reclaim   *reclaim.Reclaimer
	Ladder    *Ladder // nil: the disk is not watched
	Ledger    Ledger
	// Opened is called when the stages run and Start takes rooms in. It must not block; nil: nobody wants to know.
	Opened func()
}

// Config of a Pipeline. Zero durations mean the defaults.
type Config struct {
	// Once ends the pipeline by itself when every capture has returned and nothing is left that can move.
	Once    bool
	Targets []segment.TargetID // the targets of this run: what others still lack is not waited for
	Rooms   []segment.RoomID   // whose media counts in the Result; nil: everything in the ledger
	Hold    bool               // reclaim holds everything: freeing the disk is not waited for

	StopCapture time.Duration // default 5 s
	StopGrace   time.Duration // for uploads in flight, default 20 s
	StopControl time.Duration // for lists in flight, default 5 s
}

// lastCall is how long a stage may take after its context has ended before it is left behind.
const lastCall = 2 * time.Second

// Result is how it ended, for the exit status and the last lines.
type Result struct {
	Stopped     bool     // somebody asked; otherwise everything that could be done is done
	Unsafe      int64    // bytes of media that are safe nowhere else
	UnsafeParts int      //
	Parked      []Parked // what only a person can help with
	Gaps        int      // in the broadcasts of this run
	Abandoned   []string // stages that did not return in time
}

// Parked is a delivery or a list that waits for a person.
type Parked struct {
	Target segment.TargetID
	ID     segment.ID // Seq 0: the list of the session
	Why    string
}

// Safe reports whether everything recorded is verified and listed on every required target.
func (r Result) Safe() bool { return r.UnsafeParts == 0 && len(r.Parked) == 0 }

// Pipeline owns the channels between the stages and the order in which they start and stop.
type Pipeline struct {
	cfg Config
	Stages
	log zerolog.Logger

	mu    sync.Mutex
	floor *floor // of the Run that is under way
}

// New makes a Pipeline. It starts nothing.
func New(cfg Config, s Stages, log zerolog.Logger) (*Pipeline, error) {
	if s.Transport == nil || s.Control == nil || s.Reclaim == nil || s.Ledger == nil {
		return nil, errors.New("pipeline: transport, control, reclaim and the ledger are needed")
	}
	for _, d := range []struct {
		d   *time.Duration
		def time.Duration
	}{{&cfg.StopCapture, 5 * time.Second}, {&cfg.StopGrace, 20 * time.Second}, {&cfg.StopControl, 5 * time.Second}} {
		if *d.d <= 0 {
			*d.d = d.def
		}
	}
	return &Pipeline{cfg: cfg, Stages: s, log: log}, nil
}

// stage is one running service and the means to end it.
type stage struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed when it has returned
	left   chan struct{} // of a capture: closed when the floor has forgotten it
	err    error         // valid after done
}

// start runs a service, again after each failure, until it returns without an error or ctx is done.
func (p *Pipeline) start(ctx context.Context, s supervise.Service) *stage {
	ctx, cancel := context.WithCancel(ctx)
	st := &stage{name: s.String(), cancel: cancel, done: make(chan struct{})}
	g := supervise.NewGroup(p.log)
	g.Go(ctx, s, supervise.Policy{Restart: true})
	go func() { // owned by Run, which waits for done
		defer close(st.done)
		st.err = g.Wait()
	}()
	return st
}

// service gives a function a name.
type service struct {
	name string
	run  func(ctx context.Context) error
}

func (s service) Run(ctx context.Context) error { return s.run(ctx) }
func (s service) String() string                { return s.name }

// Run starts the stages, captures last, and returns when every one of them has ended, in the order in which the data
// flows. The end of ctx is the soft stop (the first signal), the end of hard is the hard one (the second): every
// context ends and nobody is waited for longer than two seconds. The error is of this program, never of a target: a
// Result with unsafe media is no error.
func (p *Pipeline) Run(ctx, hard context.Context) (Result, error) {
	progress := make(chan segment.Progress, ProgressCap)
	outcomes := make(chan segment.Outcome, OutcomesCap)
	kick := make(chan struct{}, KickCap)

	captures := make([]Capture, 0, len(p.Captures))
	for _, build := range p.Captures {
		c, err := build(progress)
		if err != nil {
			return Result{}, fmt.Errorf("make a capture: %w", err)
		}
		captures = append(captures, c)
	}
	rooms := newFloor(p, ctx, hard, progress)
	w := newWave(hard)
	defer w.end()

	ctl := p.start(hard, service{p.Control.String(), func(ctx context.Context) error { return p.Control.Run(ctx, outcomes, kick) }})
	tra := p.start(hard, service{"transport", func(ctx context.Context) error { return p.Transport.Run(ctx, progress, outcomes) }})
	rec := p.start(hard, service{p.Reclaim.String(), func(ctx context.Context) error { return p.Reclaim.Run(ctx, kick) }})
	var lad *stage
	if p.Ladder != nil {
		lad = p.start(hard, service{p.Ladder.String(), func(ctx context.Context) error { return p.Ladder.Run(ctx, kick) }})
	}
	for _, c := range captures {
		rooms.put(c)
	}
	p.open(rooms)

	var r Result
	r.Stopped = !p.wait(ctx, hard, rooms)

	// The stop wave, along the data.
	caps := rooms.close()
	w.await(p.cfg.StopCapture, caps...)
	for _, s := range caps {
		if w.returned(s) {
			<-s.left
		}
	}
	if w.lost == nil { // nobody can ring any more
		close(progress)
	}
	w.await(p.cfg.StopGrace, tra)
	if w.returned(tra) {
		close(outcomes)
	} else {
		ctl.cancel()
	}
	w.await(p.cfg.StopControl, ctl)
	rec.cancel()
	ends := []*stage{rec}
	if lad != nil {
		lad.cancel()
		ends = append(ends, lad)
	}
	w.await(lastCall, ends...)

	r.Abandoned = w.lost
	errs := w.errs
	if len(w.lost) > 0 {
		errs = append(errs, fmt.Errorf("these did not stop in time: %v", w.lost))
	}
	errs = append(errs, p.sum(context.WithoutCancel(ctx), &r))
	if r.UnsafeParts > 0 {
		p.log.Warn().Int("parts", r.UnsafeParts).Str("size", status.Size(r.Unsafe)).Msg("media is safe nowhere else, it goes on at the next start")
	}
	return r, errors.Join(errs...)
}

// wait returns when somebody asks for a stop (false), or when the captures are done and nothing is left that can move
// (true).
func (p *Pipeline) wait(ctx, hard context.Context, rooms *floor) bool {
	for s := rooms.any(); s != nil && p.cfg.Once; s = rooms.any() {
		select {
		case <-s.left:
		case <-ctx.Done():
			return false
		case <-hard.Done():
			return false
		}
	}
	if !p.cfg.Once {
		select {
		case <-ctx.Done():
		case <-hard.Done():
		}
		return false
	}
	if ctx.Err() != nil {
		return false
	}
	return p.settle(ctx, hard)
}

// wave is the stop in progress.
type wave struct {
	hard context.Context
	over chan struct{} // closed lastCall after the hard stop
	stop func()
	lost []string
	errs []error
}

func newWave(hard context.Context) *wave {
	w := &wave{hard: hard, over: make(chan struct{})}
	timers := make(chan *time.Timer, 1)
	off := context.AfterFunc(hard, func() { timers <- time.AfterFunc(lastCall, func() { close(w.over) }) })
	w.stop = func() {
		if !off() {
			(<-timers).Stop()
		}
	}
	return w
}

func (w *wave) end() { w.stop() }

// await waits for stages, until their time is over; then their contexts end, and they get a last call. Who has not
// returned by then is lost: it is named, not waited for.
func (w *wave) await(soft time.Duration, stages ...*stage) {
	timer := time.NewTimer(soft)
	defer timer.Stop()
	for _, s := range stages {
		select {
		case <-s.done:
		case <-w.hard.Done():
		case <-timer.C:
			timer.Reset(0) // over for the others as well
		}
	}
	for _, s := range stages {
		s.cancel()
	}
	last := time.NewTimer(lastCall)
	defer last.Stop()
	for _, s := range stages {
		select {
		case <-s.done:
		case <-w.over:
		case <-last.C:
			last.Reset(0)
		}
		if !w.returned(s) {
			w.lost = append(w.lost, s.name)
		} else if s.err != nil {
			w.errs = append(w.errs, s.err)
		}
	}
}

func (w *wave) returned(s *stage) bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
