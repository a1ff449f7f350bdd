package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pipeline/control/submission"
	"github.com/liverec/liverec/pipeline/reclaim"
	"github.com/liverec/liverec/pkg/beat"
	account "github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/ctl"
	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/supervise"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/hlspull"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/bilibili"
	"github.com/liverec/liverec/uploader/dest"
	"github.com/liverec/liverec/uploader/wrap"
)

// workerMemory is what one upload takes beside the file: the read and write buffers of its connection.
const workerMemory = 512 << 10

// stages is the object graph of a run.
type stages struct {
	h         *house
	crew      crew
	measure   func() (pipeline.Space, error)
	journal   recorder.Journal // of capture
	transport *uploader.Transport
	control   *control.Control
	ladder    *pipeline.Ladder
	st        pipeline.Stages
	bucket    *limit.Bytes
	fits      map[uploader.Target]fitted // what was made of each target
	made      int                        // how many there ever were
	own       bool                       // the status shows only rooms of this run, and others that have unsafe media
	rates     *rates
	logins    *logins
	rest      *recorder.Rest // ends what earlier runs of other rooms left; nil: nothing
	pipe      *pipeline.Pipeline

	mu   sync.Mutex // guards what is below, and is held while the ledger is read
	last sight

	changed func(recorder.Change) // hears what streamers change during broadcasts, must not block; nil: nobody does
}

// crew are the rooms of a run. Those of a service come and go.
type crew struct {
	mu   sync.Mutex
	list []*member // in the order in which they are shown
}

// member is one room of the run.
type member struct {
	watched
	rec *atomic.Pointer[recorder.Recorder] // the newest; nil in it before it starts
	do  func(segment.Verb)                 // a person's command; must not block
}

// all are the rooms of this moment.
func (c *crew) all() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list // set makes a new one
}

// set puts other rooms in the place of those of before.
func (c *crew) set(list []*member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = slices.Clone(list)
}

// find finds a room by its name, its address or its ID; nil if there is none.
func (c *crew) find(room string) *member {
	for _, m := range c.all() {
		if room == m.room.Name || room == m.room.URL || room == string(m.room.ID) {
			return m
		}
	}
	return nil
}

// command hands a command to what records the room now.
func (m *member) command(verb segment.Verb) {
	if r := m.rec.Load(); r != nil {
		r.Do(segment.Command{Room: m.room.ID, Verb: verb})
	}
}

// stages builds everything by hand. Nothing runs yet.
func (h *house) stages(rooms []watched) (*stages, error) {
	s := &stages{h: h, journal: h.led, measure: pipeline.Statfs(h.opt.data), bucket: limit.NewBytes(h.opt.rate.At(time.Now().In(h.zone.Load())))}
	s.rates = &rates{bucket: s.bucket, zone: &h.zone, ring: make(chan struct{}, 1), table: h.opt.rate}
	s.logins = &logins{h: h, ring: make(chan struct{}, 1), targets: h.targets}
	wrapped, publishers, submitters, err := s.fit(h.targets, h.dests)
	if err != nil {
		return nil, err
	}
	if s.transport, err = uploader.New(uploader.Config{Uploads: h.opt.uploads, MaxSize: h.opt.maxSize},
		uploader.Deps{Journal: h.led, Targets: wrapped, Dir: h.dir, Log: h.log}); err != nil {
		return nil, err
	}
	if s.control, err = control.New(control.Config{}, control.Deps{Journal: h.led, Publishers: publishers, Submitters: submitters, Mend: h.mend, Log: h.log}); err != nil {
		return nil, err
	}
	var lad []pipeline.Room
	var list []*member
	for _, w := range rooms {
		m := &member{watched: w, rec: &atomic.Pointer[recorder.Recorder]{}}
		m.do = m.command
		list = append(list, m)
		lad = append(lad, pipeline.Room{ID: w.room.ID, Name: w.room.Name, Do: func(c segment.Command) { m.command(c.Verb) }})
	}
	s.crew.set(list)
	if s.ladder, err = pipeline.NewLadder(pipeline.LadderConfig{MinFree: h.opt.minFree, StopFree: max(h.opt.stopFree, 1)}, // 0 means the default there, and "never" here
		pipeline.LadderDeps{Measure: s.measure, Rooms: lad, Log: h.log}); err != nil {
		return nil, err
	}
	disk := func() (reclaim.Disk, error) {
		sp, err := s.measure()
		return reclaim.Disk{Free: sp.Free, MinFree: s.ladder.State().MinFree}, err
	}
	rec, err := reclaim.New(reclaim.Config{}, reclaim.Deps{Journal: h.led, Dir: h.dir, Disk: disk, Log: h.log})
	if err != nil {
		return nil, err
	}
	s.st = pipeline.Stages{Transport: s.transport, Control: s.control, Reclaim: rec, Ladder: s.ladder, Ledger: h.led}
	for _, m := range list {
		s.st.Captures = append(s.st.Captures, func(out chan<- segment.Progress) (pipeline.Capture, error) { return s.record(m, m.watched, out) })
	}
	return s, nil
}

// fitted is a target as the stages have it.
type fitted struct {
	lane   uploader.Target
	number int               // of all that were ever made
	pub    control.Publisher // one of
	submit control.Submitter // these
}

// fit makes of targets what the stages need. What was made of one before stays the same value, so that nobody begins
// anew for it.
func (s *stages) fit(targets []uploader.Destination, dests []dest.Dest) (lanes []uploader.Destination, ps []control.Publisher, ss []control.Submitter, err error) {
	was := s.fits
	s.fits = make(map[uploader.Target]fitted, len(targets))
	for i, d := range targets {
		f, ok := was[d.Target]
		if !ok {
			s.made++
			f.lane, f.number = wrap.Stack(d.Target, s.bucket, 30*time.Second, nil), s.made
			if f.submit, err = s.h.submitter(d.Target, dests[i], s.title); err != nil {
				s.fits = was
				return nil, nil, nil, err
			}
			if f.submit == nil {
				f.pub = control.NewStorePublisher(f.lane)
			}
		}
		s.fits[d.Target] = f
		lanes = append(lanes, uploader.Destination{Target: f.lane, Required: d.Required, Version: f.number})
		if f.submit != nil {
			ss = append(ss, f.submit)
		} else {
			ps = append(ps, f.pub)
		}
	}
	return lanes, ps, ss, nil
}

// record makes the recorder of a room, as w says. Nothing runs yet.
func (s *stages) record(m *member, w watched, out chan<- segment.Progress) (pipeline.Capture, error) {
	log := s.h.log.With().Str("room", w.room.Name).Logger()
	res := w.resolver(log, func() bool { return s.ladder.State().Rung != pipeline.DiskOK })
	limits := limitsOf(w.opt)
	r, err := recorder.New(recorder.Config{Room: w.room, Segment: limits.Segment, MaxSize: limits.MaxSize, Grace: limits.Grace,
		Container: w.opt.holder, Once: s.h.opt.once, DiskFloor: 2 * s.h.opt.stopFree},
		recorder.Deps{Resolver: res, Journal: s.journal, Dir: s.h.dir, Progress: out, Log: s.h.log,
			Name: func(se segment.Session, at time.Time) string {
				name := w.opt.name
				if now := s.crew.find(string(w.room.ID)); now != nil {
					name = now.opt.name // it may have changed
				}
				return remoteName(name, se, at.In(s.h.zone.Load()))
			},
			Ended:   func(recorder.Report) { s.control.Nudge() }, // what is complete now is told at once, not at the next look
			Free:    func() (int64, error) { sp, err := s.measure(); return sp.Free, err },
			Changed: s.changed})
	if err != nil {
		return nil, err
	}
	m.rec.Store(r)
	return r, nil
}

// submitter makes the submissions of a target that has such; nil for a store.
func (h *house) submitter(t uploader.Target, d dest.Dest, title func(segment.Room) (naming.Template, bool)) (control.Submitter, error) {
	s := d.Submission
	if s == nil {
		return nil, nil
	}
	if c := s.Cover; c != "" && !strings.Contains(c, "://") {
		if _, err := os.Stat(c); err != nil {
			return nil, fmt.Errorf("cover of target %s: %w", d.ID, err)
		}
	}
	user, ok := t.(*bilibili.Target)
	if !ok {
		return nil, fmt.Errorf("target %s has no account", d.ID)
	}
	cfg := submission.Config{
		Target: d.ID, Account: user.Account, Refused: user.Refused, Title: h.opt.title, TitleOf: title, TID: s.TID, Copyright: s.Copyright, Cover: s.Cover, Private: s.Private,
		Parts: s.Parts, Release: submission.Release(s.Release), Continue: s.Lost == "continue", Log: h.log,
	}
	for _, x := range []struct {
		to   *naming.Template
		text string
	}{{&cfg.Tag, s.Tag}, {&cfg.Desc, s.Desc}, {&cfg.Source, s.Source}, {&cfg.Dynamic, s.Dynamic}} {
		if x.text == "" {
			continue
		}
		var err error
		if *x.to, err = naming.Parse(x.text); err != nil {
			return nil, fmt.Errorf("target %s: %w", d.ID, err)
		}
	}
	return submission.New(cfg)
}

// title is the template of the submissions of a room, as it is now. False: nobody watches the room any more.
func (s *stages) title(room segment.Room) (naming.Template, bool) {
	if m := s.crew.find(string(room.ID)); m != nil {
		return m.opt.title, true
	}
	return naming.Template{}, false
}

// remoteName is the folder of a broadcast on every target.
func remoteName(name naming.Template, se segment.Session, at time.Time) string {
	return name.Name(naming.Facts{Site: se.Room.Site, Room: se.Room.Name, Streamer: se.Streamer, Title: se.Title, At: at})
}

// run starts the pipeline with everything around it, and waits for its end. beside is what else runs as long.
func (s *stages) run(soft, hard context.Context, cfg pipeline.Config, beside ...supervise.Service) (pipeline.Result, error) {
	for _, d := range s.h.targets {
		cfg.Targets = append(cfg.Targets, d.Target.ID())
	}
	p, err := pipeline.New(cfg, s.st, s.h.log)
	if err != nil {
		return pipeline.Result{}, err
	}
	s.pipe = p
	// I7: what the queues can hold at the most, as the sum that pipeline/budget.go signs for.
	promise := pipeline.Promise(len(s.crew.all()), recorder.MemoryPerRoom, len(s.h.targets)*s.h.opt.uploads, workerMemory)
	promise = append(promise, pipeline.Hold{What: "HLS streams", Count: len(s.crew.all()), Each: hlspull.Memory})
	s.h.log.Debug().Str("sum", status.Size(promise.Bytes())).Str("of", promise.String()).Msg("memory promise")
	around, end := context.WithCancel(context.WithoutCancel(soft))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	srv, err := ctl.Listen(s.h.opt.data, s, s)
	if err != nil {
		s.h.log.Warn().Err(err).Msg("no control socket: pause, split and stop will not work")
	} else {
		wg.Go(func() {
			if err := srv.Run(around); err != nil {
				s.h.log.Warn().Err(err).Msg("control socket ended")
			}
		})
	}
	beside = append(beside, s.rates, s.logins)
	wg.Go(func() { s.remember(around) })
	if c := s.h.opt.sites.cookies; c != "" { // the account that asks about rooms; with one file the two share a lock
		beside = append(beside, account.FileKeeper{Cookies: c, Log: s.h.log})
	}
	if s.rest != nil {
		wg.Go(func() {
			if err := supervise.Guard(around, s.rest); err != nil && around.Err() == nil {
				s.h.log.Error().Err(err).Msg("broadcasts of an earlier run could not be ended, the next start tries again")
			}
		})
	}
	for _, b := range beside {
		wg.Go(func() {
			g := supervise.NewGroup(s.h.log)
			g.Go(around, b, supervise.Policy{Restart: true})
			if err := g.Wait(); err != nil {
				s.h.log.Error().Err(err).Msg("a service ended with an error")
			}
		})
	}
	if s.h.screen != nil {
		wg.Go(func() {
			s.h.screen.follow(around, s.h.opt.segment, func(ctx context.Context) (status.Status, error) { return s.Status(ctx, false) })
		})
	}
	type ending struct {
		res pipeline.Result
		err error
	}
	over := make(chan ending, 1)
	wg.Go(func() {
		res, err := p.Run(soft, hard)
		over <- ending{res, err}
	})
	e := <-over
	return e.res, e.err
}

// remember writes the states of the rooms into the ledger when they change, for a second process.
func (s *stages) remember(ctx context.Context) {
	type shown struct{ state, quality string }
	was := map[segment.RoomID]shown{}
	tick := time.NewTimer(time.Hour)
	defer tick.Stop()
	for {
		for _, m := range s.crew.all() {
			r := m.rec.Load()
			if r == nil {
				continue
			}
			snap := r.Snapshot()
			is := shown{string(snap.State), snap.Quality}
			if is == was[m.room.ID] {
				continue
			}
			if err := s.h.led.SetRoom(ctx, status.RoomState{Room: m.room, State: string(snap.State), Since: snap.Since, Quality: snap.Quality, Error: snap.Error}); err == nil {
				was[m.room.ID] = is
			}
		}
		tick.Reset(beat.Until(time.Now(), time.Second)) // when the recorders look at their clocks too
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// How old what the ledger said may be. With many rooms that have much to send a reading is no trifle: whoever looks each
// second gets what was read before until lookRest times as long has gone by as the reading took, so that all looks
// together take a fiftieth of a core at the most, but no longer than lookMost. What only this process knows (states, bit
// rates, the open parts) is of the moment in any case.
const (
	lookLeast = time.Second
	lookMost  = 15 * time.Second
	lookRest  = 50
)

// sight is what the ledger said to all who look.
type sight struct {
	st     status.Status
	active []segment.Broadcast // that are not complete; nobody changes them
	err    error
	at     time.Time     // when it was read
	good   time.Duration // for how long
}

// look reads the ledger, unless somebody did just now. fresh reads it in any case. The caller holds mu.
func (s *stages) look(ctx context.Context, fresh bool) sight {
	now := time.Now()
	if !fresh && !s.last.at.IsZero() && now.Sub(s.last.at) < s.last.good {
		return s.last
	}
	l := sight{at: now, good: lookLeast}
	if l.st, l.active, l.err = pictureOf(ctx, s.h.led, s.h.aims(), false, status.Disk{}, now); l.err == nil {
		l.good = min(max(lookRest*time.Since(now), lookLeast), lookMost)
	}
	if l.err == nil || ctx.Err() == nil { // else it is the affair of whoever asked
		s.last = l
	}
	return l
}

// Status is the newest picture: see lookLeast.
func (s *stages) Status(ctx context.Context, parts bool) (status.Status, error) {
	if parts {
		now := time.Now()
		st, err := picture(ctx, s.h.led, s.h.aims(), parts, status.Disk{}, now)
		if err == nil {
			s.overlay(&st, now)
		}
		return st, err
	}
	st, _, err := s.sees(ctx, false)
	return st, err
}

// sees is the newest picture, with the broadcasts that are not complete. fresh: what the ledger says at this moment.
func (s *stages) sees(ctx context.Context, fresh bool) (status.Status, []segment.Broadcast, error) {
	s.mu.Lock()
	l := s.look(ctx, fresh)
	s.mu.Unlock()
	st := l.st
	if l.err != nil {
		return st, nil, l.err
	}
	st.Rooms = s.arranged(st.Rooms)
	st.Targets = append([]status.Target(nil), st.Targets...)
	s.overlay(&st, time.Now())
	return st, l.active, nil
}

// arranged gives the rooms of the run first, in the order in which they are shown, and then those of earlier ones. A
// service leaves out what is not its own and safe.
func (s *stages) arranged(rooms []status.Room) []status.Room {
	crew := s.crew.all()
	place := make(map[string]int, len(crew))
	for i, m := range crew {
		place[m.room.URL] = i
	}
	out := make([]status.Room, 0, len(rooms))
	for _, r := range rooms {
		if _, mine := place[r.URL]; mine || !s.own || r.UnsafeBytes > 0 {
			out = append(out, r)
		}
	}
	at := func(r status.Room) int {
		if i, ok := place[r.URL]; ok {
			return i
		}
		return len(crew)
	}
	slices.SortStableFunc(out, func(a, b status.Room) int { return at(a) - at(b) })
	return out
}

// overlay lays over the ledger's picture what only this process knows.
func (s *stages) overlay(st *status.Status, now time.Time) {
	pid, since, _ := runningSelf()
	st.Running = &status.Running{PID: pid, Since: status.Stamp(since)}
	lad := s.ladder.State()
	st.Disk = status.Disk{Free: lad.Space.Free, MinFree: lad.MinFree, StopFree: lad.StopFree, Step: string(lad.Rung)}
	places := make(map[string]int, len(st.Rooms))
	for i, r := range st.Rooms {
		places[r.URL] = i
	}
	for _, m := range s.crew.all() {
		rec := m.rec.Load()
		if rec == nil {
			continue
		}
		snap := rec.Snapshot()
		at, ok := places[m.room.URL]
		if !ok {
			at = len(st.Rooms)
			st.Rooms = append(st.Rooms, status.Room{Room: m.room.Name, URL: m.room.URL, Site: m.room.Site})
		}
		r := &st.Rooms[at]
		r.State, r.Since, r.Bitrate, r.Error = string(snap.State), status.Stamp(snap.Since), int64(snap.BitRate), snap.Why
		if snap.Title != "" {
			r.Title = snap.Title
		}
		r.Quality = snap.Quality
		if open := snap.Open; open == nil {
			r.Open = nil
		} else {
			more, away := beyond(r, snap.Session, open)
			st.UnsafeBytes += more
			r.UnsafeBytes += more
			for j := range st.Targets {
				if _, ok := away[st.Targets[j].Target]; ok {
					st.Targets[j].DueBytes += more
				}
			}
			r.Open = &status.Open{Seq: open.Seq, DurationMS: open.Duration.Milliseconds(), Size: open.Size, Durable: open.Durable, Away: away}
		}
		if snap.Session != "" && string(snap.Session) == r.Broadcast {
			r.Gaps, r.GapSeconds = snap.Gaps, snap.GapTime.Seconds()
		}
	}
	for _, l := range s.transport.Stats() {
		for i := range st.Targets {
			t := &st.Targets[i]
			if t.Target != string(l.Target) {
				continue
			}
			t.State, t.Rate, t.InFlight, t.Retries = l.State, l.Rate, l.InFlight, 0
			if l.Error != "" || l.State == status.OK {
				t.Error = l.Error
			}
			for _, n := range l.Retries {
				t.Retries += n
			}
		}
	}
}

// beyond is how much of the open part the ledger's picture of the room does not count yet, and what of it is away. The
// ledger hears of an open part every few seconds only; a part that it has sealed counts there already, while the room
// still tells of it as open for a moment.
func beyond(r *status.Room, session segment.SessionID, open *recorder.Open) (int64, map[string]int64) {
	if r.Broadcast != string(session) || open.Seq > r.Newest {
		return open.Durable, map[string]int64{}
	}
	if r.Open == nil || r.Open.Seq != open.Seq {
		return 0, map[string]int64{}
	}
	return max(open.Durable-r.Open.Size, 0), r.Open.Away
}

// Do passes a person's command to a room: by its name, its URL or its ID.
func (s *stages) Do(_ context.Context, room string, verb segment.Verb) error {
	m := s.crew.find(room)
	switch {
	case m == nil:
		return fmt.Errorf("%s: %w", clip(room), ctl.ErrNoRoom)
	case m.rec.Load() == nil:
		return errors.New("the room is not started yet")
	}
	m.do(verb)
	return nil
}
