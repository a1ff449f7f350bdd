package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/web"
	"github.com/liverec/liverec/recorder"
)

const (
	// insist is how often a room is told again to end: a newer command may have taken the place of the older one.
	insist = 5 * time.Second
	// clockEvery is how often a window is looked at, whatever it says: a clock that is set is noticed within it.
	clockEvery = time.Minute
	// waitEvery is how often a room is looked at, at the most, while nothing is on: a site that could be asked more often
	// is not asked so for many rooms. Who was recorded just now is looked for sooner.
	waitEvery = 5 * time.Second
	// skippedEvery is how often a live room is looked at whose title is not wanted.
	skippedEvery = time.Minute
)

// seat is a room of the service, from when it comes until it is gone. Its loop keeps a capture of it running, makes
// another when the settings ask for it, and ends it when the window closes or a person says so.
type seat struct {
	svc  *service
	rec  *atomic.Pointer[recorder.Recorder]
	wake chan struct{} // cap 1; rung by everybody who changes something below, never closed
	left chan struct{} // closed when the loop has ended
	id   segment.RoomID
	key  segment.RoomID // of its address as it is written; guarded by the service's turn

	mu      sync.Mutex
	who     *member // who it is in the crew; another one after each change
	cfg     config.Room
	page    *web.Settings // as the room was added on the page; nil: it stands in the file
	gen     int           // rises when the capture has to be made anew
	paused  bool          // by a person
	stopped bool          // by a person, until it is told to continue
	gone    bool          // its recording ends as by stop, and the room is forgotten
	since   string        // where the newest change takes effect
	shown   web.Settings  // the settings as texts
	targets []string      // where its parts go, by the IDs of targets
}

// newSeat makes the seat of a room. Nothing runs yet.
func (s *service) newSeat(cfg config.Room, page *web.Settings) (*seat, error) {
	st := &seat{svc: s, rec: &atomic.Pointer[recorder.Recorder]{}, wake: make(chan struct{}, 1), left: make(chan struct{}), page: page, paused: cfg.Paused,
		id: s.identity(cfg), key: segment.RoomID(cfg.Key())}
	return st, st.take(cfg)
}

// take takes other settings over. The caller holds mu, or nobody else knows the seat yet.
func (st *seat) take(cfg config.Room) error {
	opt, err := roomOptionsOf(cfg)
	if err != nil {
		return err
	}
	w, err := st.svc.sites.find(cfg.URL, opt)
	if err != nil {
		return err
	}
	w.room.ID = st.id
	if cfg.Name != "" {
		w.room.Name = cfg.Name
	}
	resolver := w.resolver
	w.resolver = func(log zerolog.Logger, pressed func() bool) recorder.Resolver {
		return &gate{seat: st, inner: resolver(log, pressed), budget: st.svc.budgets.of(cfg.URL, w.room)}
	}
	st.cfg, st.who = cfg, &member{watched: w, rec: st.rec, do: st.command}
	st.shown = shownAs(cfg, st.svc.cfg.Defaults, w.room)
	return nil
}

// now is the seat at this moment.
func (st *seat) now() (who *member, cfg config.Room) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.who, st.cfg
}

// change changes something under the lock and tells the loop.
func (st *seat) change(f func()) {
	st.mu.Lock()
	f()
	st.mu.Unlock()
	st.ring()
}

// added are the settings of a room of the page; nil for one of the file.
func (st *seat) added() *web.Settings {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.page
}

func (st *seat) ring() {
	select {
	case st.wake <- struct{}{}:
	default: // it is ringing already
	}
}

// command is a person's.
func (st *seat) command(verb segment.Verb) {
	switch verb {
	case segment.VerbPause:
		st.change(func() { st.paused = true })
	case segment.VerbContinue:
		st.change(func() { st.paused, st.stopped = false, false })
		who, _ := st.now()
		if st.svc.ladder.Paused(who.room.ID) {
			who.log(st.svc).Warn().Msg("the room goes on when the disk has room again")
			return
		}
	case segment.VerbStop:
		st.change(func() { st.stopped = true })
	}
	who, _ := st.now()
	who.command(verb)
	st.svc.remembers(st)
}

// ladder is the disk ladder's command: it lets nobody go on whom a person has paused.
func (st *seat) ladder(c segment.Command) {
	st.mu.Lock()
	who, paused := st.who, st.paused
	st.mu.Unlock()
	if c.Verb != segment.VerbContinue || !paused {
		who.command(c.Verb)
	}
}

func (m *member) log(s *service) *zerolog.Logger {
	l := s.h.log.With().Str("room", m.room.Name).Logger()
	return &l
}

// tune gives what records the room now its newest limits.
func (st *seat) tune() error {
	who, _ := st.now()
	if r := st.rec.Load(); r != nil {
		return r.Adjust(limitsOf(who.opt))
	}
	return nil
}

// limitsOf are what a recorder takes over while it records.
func limitsOf(o roomOptions) recorder.Limits {
	return recorder.Limits{Segment: o.segment, MaxSize: o.maxSize, Grace: max(o.grace, time.Nanosecond)} // 0 means the default there
}

// run is the loop: it ends when the room is gone, or with the pipeline.
func (st *seat) run(ctx context.Context) {
	defer close(st.left)
	again := backoff.New(backoff.Policy{First: time.Second, Max: time.Minute})
	for ctx.Err() == nil {
		st.mu.Lock()
		who, gen, gone, hold, paused := st.who, st.gen, st.gone, st.stopped, st.paused
		st.mu.Unlock()
		if gone {
			return
		}
		if hold {
			select {
			case <-st.wake:
			case <-ctx.Done():
			}
			continue
		}
		running, err := st.svc.pipe.Start(who.room.ID, func(out chan<- segment.Progress) (pipeline.Capture, error) {
			c, err := st.svc.record(who, who.watched, out)
			if err == nil && (paused || st.svc.ladder.Paused(who.room.ID)) {
				who.command(segment.VerbPause)
			}
			return c, err
		})
		if errors.Is(err, pipeline.ErrStopped) {
			return
		}
		if err != nil {
			who.log(st.svc).Error().Err(err).Msg("room cannot be started, it is tried again")
			again.Wait(ctx, err)
			continue
		}
		again.Reset()
		if err := st.tune(); err != nil { // what changed while it was being made
			who.log(st.svc).Error().Err(err).Msg("room goes on with the limits of before")
		}
		st.follow(ctx, running, gen)
	}
}

// follow returns when the capture has returned, which it brings about when it is time.
func (st *seat) follow(ctx context.Context, running *pipeline.Running, gen int) {
	look := time.NewTimer(0)
	defer look.Stop()
	closed := false // the window, when it was looked at last
	for {
		select {
		case <-running.Done():
			return
		case <-ctx.Done():
			return // the pipeline ends it, as all others
		case <-st.wake:
		case <-look.C:
		}
		st.mu.Lock()
		who, cfg, over, other, held := st.who, st.cfg, st.gone || st.stopped, st.gen != gen, st.paused
		st.mu.Unlock()
		if over {
			who.command(segment.VerbStop)
			look.Reset(insist)
			continue
		}
		if other {
			running.End()
			look.Reset(insist)
			continue
		}
		now := time.Now().In(st.svc.h.zone.Load())
		wait := clockEvery
		if next := cfg.Window.Next(now); !next.IsZero() {
			wait = min(wait, time.Until(next))
		}
		switch was := closed; {
		case !cfg.Window.Open(now):
			closed = true
			if snap := who.rec.Load().Snapshot(); snap.Open != nil {
				if !was {
					who.log(st.svc).Info().Str("window", cfg.Window.String()).Msg("window is over, the recording ends")
				}
				who.command(segment.VerbStop) // a broadcast of its own, closed with cut "stop"
				wait = min(wait, insist)
			}
		case was && !held && !st.svc.ladder.Paused(who.room.ID):
			closed = false
			who.command(segment.VerbContinue) // look at once
		default:
			closed = false
		}
		look.Reset(max(wait, time.Millisecond))
	}
}

// gate stands between a recorder and its site: it holds a room back outside its window, lets live broadcasts pass whose
// title is wanted, and spreads the questions of many rooms. It belongs to the recorder's goroutine.
type gate struct {
	seat   *seat
	inner  recorder.Resolver
	budget *budget

	live    time.Time // when the room was found on air last
	skipped bool
}

var _ recorder.Resolver = (*gate)(nil)

// Resolve asks the site, if it is to be asked.
func (g *gate) Resolve(ctx context.Context, room segment.Room) (recorder.Live, error) {
	_, cfg := g.seat.now()
	now := time.Now().In(g.seat.svc.h.zone.Load())
	g.skipped = false
	if !cfg.Window.Open(now) {
		g.live = time.Time{}
		return recorder.Live{Presence: recorder.Offline, Why: fmt.Sprintf("outside of its window %s", cfg.Window)}, nil
	}
	// Who is recording does not wait for those who look whether there is something to record.
	if g.live.IsZero() || time.Since(g.live) > cfg.Grace+time.Minute {
		if !g.budget.take(ctx) {
			return recorder.Live{Presence: recorder.Offline, Why: "many rooms ask " + g.budget.name + " now, this one's turn comes"}, nil
		}
	}
	live, err := g.inner.Resolve(ctx, room)
	if err != nil || live.Presence != recorder.OnAir {
		return live, err
	}
	if word, skip := cfg.Skips(live.Title); skip {
		if live.Source != nil {
			live.Source.Close() // nobody reads from it
		}
		g.skipped = true
		return recorder.Live{Presence: recorder.Offline, Streamer: live.Streamer, Title: live.Title, Form: live.Form,
			Why: fmt.Sprintf("live, and skipped: %q is in the title %q", word, clip(live.Title))}, nil
	}
	g.live = time.Now()
	return live, nil
}

// Every is that of the site, or longer where nothing is expected.
func (g *gate) Every() time.Duration {
	every := max(g.inner.Every(), waitEvery)
	_, cfg := g.seat.now()
	if g.skipped || !cfg.Window.Open(time.Now().In(g.seat.svc.h.zone.Load())) {
		every = max(every, skippedEvery)
	}
	return every
}
