package hlspull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/recorder/hlspull/body"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
	"github.com/liverec/liverec/recorder/hlspull/plan"
)

// engine is one stay. Everything in it belongs to the goroutine of Run, except where it says otherwise.
type engine struct {
	s      *Source
	log    zerolog.Logger
	count  *tally     // safe for concurrent use
	memory *memory    // likewise
	shared *resources // likewise

	ctx    context.Context
	wg     sync.WaitGroup
	back   chan any // what workers bring; sent by them, read by Run until all have returned
	tracks []*track // the first one is the one that segments are counted by

	master  *hls.Master
	origins []origin
	at      int // the origin in use
	life    life
	left    time.Time // when an origin was left last
	hurried time.Time // when slowness was a reason to last
	rate    rate
	quality quality

	running   int       // segments being fetched
	calm      time.Time // one fetch at a time until then
	staleSeen time.Time
	size      int64 // of a segment, smoothed

	emitter *emitter
	warned  said
	ending  error     // what Run returns once all that is known is decided
	now     time.Time // of this step
	wake    time.Time // of the next one at the latest
}

// track is one rendition.
type track struct {
	name  string // "main", "sound"
	n     int
	watch watch
	plan  *plan.Planner
	jobs  []*job // in the order of the output
	past  [64]past
	pastN int
	told  bool // its end was told to the emitter
}

// past is what was handed on lately, to know it when it comes under another name.
type past struct {
	sum   uint64
	date  time.Time
	host  string
	epoch uint32
}

// life is how long the URL in use holds.
type life struct {
	until   time.Time // zero: not looked at yet
	said    bool      // until is the URL's own word
	renew   time.Time // when to ask for the next one
	asking  bool
	tried   time.Time
	fails   int
	failing time.Time // since when the room's URL itself has been refused
	err     error
}

// renewal is a new URL for the room.
type renewal struct {
	found *found
	err   error
}

func (e *engine) start(f func(ctx context.Context) any) {
	e.wg.Go(func() { e.back <- f(e.ctx) })
}

// Run pulls until ctx is done or the stream is over. It returns ErrEnd if the source said so itself; ErrStill, ErrEmpty,
// or what the server answered, if the room has to be asked again: whoever then goes on passes the newest Place. What has
// come in order is handed on before it returns.
func (s *Source) Run(ctx context.Context, out chan<- *media.Batch) error {
	defer s.Close()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	e := &engine{s: s, log: s.cfg.Log, count: &tally{}, memory: &memory{dir: s.spool}, ctx: inner, back: make(chan any)}
	e.shared = newResources(s.client, e.count)
	if s.found == nil {
		f, err := s.resolve(ctx, s.cfg.URL)
		e.count.header(f.read)
		if err != nil {
			sendCount(out, e.count)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		s.found = f
	} else {
		e.count.header(s.found.read)
	}
	e.master, e.origins = s.found.master, s.found.origins
	e.setup(time.Now())
	e.emitter = newEmitter(e, out)
	e.memory.bell = e.emitter.ring
	var emitting sync.WaitGroup
	emitting.Go(e.emitter.run)
	whole := false
	defer func() {
		if whole {
			return
		}
		// A panic. Whoever catches it closes out: nobody may send then.
		cancel()
		e.drain(func(any) {})
		close(e.emitter.in)
		emitting.Wait()
	}()

	err := e.loop(ctx)
	e.emitter.final = errors.Is(err, ErrEnd) // it reads it once in is closed
	cancel()
	e.drain(e.last)
	e.stop()
	whole = true
	close(e.emitter.in)
	emitting.Wait()
	return err
}

// drain waits for all workers, and gives what they bring to take.
func (e *engine) drain(take func(any)) {
	done := make(chan struct{})
	var closing sync.WaitGroup
	closing.Go(func() { e.wg.Wait(); close(done) })
	defer closing.Wait()
	for {
		select {
		case r := <-e.back:
			take(r)
		case <-done:
			return
		}
	}
}

func sendCount(out chan<- *media.Batch, t *tally) {
	if c := t.take(); c.Received > 0 {
		b := media.Get(0)
		b.Count, b.At = c, time.Now()
		out <- b
	}
}

// setup makes the tracks of the first origin that is not known to be bad.
func (e *engine) setup(now time.Time) {
	e.at = e.pick("", now)
	e.climb()
	o := e.origins[e.at]
	main := &track{name: "main", plan: plan.New()}
	if p := e.s.place; p != nil && p.Video != nil {
		main.plan = plan.Resume(*p.Video)
	}
	e.tracks = []*track{main}
	if o.sound != "" {
		sound := &track{name: "sound", n: 1, plan: plan.New()}
		if p := e.s.place; p != nil && p.Audio != nil {
			sound.plan = plan.Resume(*p.Audio)
		}
		e.tracks = append(e.tracks, sound)
	}
	for _, t := range e.tracks {
		t.watch.changed, t.watch.target = now, 2*time.Second
	}
	e.point(now, false)
}

// point makes the lists those of the origin in use.
func (e *engine) point(now time.Time, moved bool) {
	o := e.origins[e.at]
	host := o.host()
	e.s.host.Store(&host)
	grade := gradeOf(o.variant)
	e.s.grade.Store(&grade)
	for _, t := range e.tracks {
		w := &t.watch
		raw := o.list
		if t.n == 1 {
			raw = o.sound
		}
		if raw == "" {
			continue // this origin has its sound elsewhere: go on with the old list
		}
		w.url = raw
		w.gen++
		if moved {
			w.poll = time.Time{}
		} else if w.busy && w.blocked {
			w.poll = now.Add(unblocked) // it hung
		}
		w.busy, w.due, w.moved, w.full = false, now, w.moved || moved, false
		w.tag, w.since, w.sum, w.copied = "", "", 0, time.Time{}
		w.fails, w.failing = 0, time.Time{}
	}
	e.life.until, e.life.renew, e.life.said = time.Time{}, time.Time{}, false
}

// loop runs until it is decided what Run returns.
func (e *engine) loop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		e.now, e.wake = now, now.Add(time.Minute)
		if err := e.step(now); err != nil {
			return err
		}
		timer.Reset(max(time.Until(e.wake), 0))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-e.back:
			e.take(r, time.Now())
		case <-e.emitter.bell:
		case <-timer.C:
		}
	}
}

// wakeAt asks for a step at t. What is due already is dealt with in this step, or waits for something else.
func (e *engine) wakeAt(t time.Time) {
	if t.After(e.now) && t.Before(e.wake) {
		e.wake = t
	}
}

// step starts all that is due, and hands on what is ready. It returns what Run returns once that is known.
func (e *engine) step(now time.Time) error {
	e.judge(now)
	e.steer(now)
	e.renew(now)
	for _, t := range e.tracks {
		w := &t.watch
		if w.busy || w.ended || e.ending != nil {
			continue
		}
		if now.Before(w.due) {
			e.wakeAt(w.due)
			continue
		}
		e.look(t, now)
	}
	for again := true; again; {
		again = false
		for _, t := range e.tracks {
			e.decide(t, now)
			if e.handOn(t, now) {
				again = true
			}
		}
	}
	e.fetch(now)
	return e.over()
}

// over is what Run returns, if all is done.
func (e *engine) over() error {
	main := e.tracks[0]
	idle := true
	for _, t := range e.tracks {
		idle = idle && len(t.jobs) == 0
	}
	if !idle {
		return nil
	}
	if e.ending != nil {
		return e.ending
	}
	if !main.watch.ended {
		return nil
	}
	for _, t := range e.tracks[1:] {
		if !t.watch.ended && (t.watch.busy || t.watch.began.Before(main.watch.changed) && t.watch.fails == 0) {
			return nil // the sound may have more
		}
	}
	return ErrEnd
}

// judge looks at what the lists have not done for too long.
func (e *engine) judge(now time.Time) {
	if e.ending != nil {
		return
	}
	w := &e.tracks[0].watch
	if w.ended {
		return
	}
	if !w.empty.IsZero() {
		if now.Sub(w.empty) >= emptyFor {
			e.ending = ErrEmpty
		}
		w.changed = now
		return
	}
	still := now.Sub(w.changed)
	switch {
	case still >= 6*w.target && still >= 6*time.Second:
		e.ending = fmt.Errorf("%w for %v", ErrStill, still.Round(time.Second))
		if w.err != nil {
			e.ending = fmt.Errorf("%w: %w", ErrStill, w.err)
		}
		e.addParts(now)
	case still >= 3*w.target && now.Sub(e.left) >= 3*w.target:
		e.leave("nothing new in the playlist", now)
	case !w.stale.IsZero() && now.Sub(w.stale) >= 3*w.target && now.Sub(e.left) >= 3*w.target:
		e.leave("only old copies of the playlist", now)
	}
	if e.slow(now) && (e.elsewhere(now) || now.Sub(e.hurried) >= 5*time.Minute) {
		e.hurried = now
		e.leave("segments come slower than real time", now)
	}
	if _, gone := refused(w.err); gone && w.fails > 0 && now.Sub(w.failing) >= 2*w.target && e.life.fails > 0 && !e.life.asking {
		if _, gone := refused(e.life.err); gone && e.ending == nil {
			e.ending = e.life.err // the room is gone too: whoever asks it again will hear the same
			e.addParts(now)
		}
	}
	e.wakeAt(w.changed.Add(3 * w.target))
	e.wakeAt(w.changed.Add(6 * w.target))
}

// elsewhere reports whether there is another origin that is not known to be bad.
func (e *engine) elsewhere(now time.Time) bool {
	for i, o := range e.origins {
		if i != e.at && !e.s.cfg.Hosts.Bad(o.host(), now) {
			return true
		}
	}
	return false
}

// leave goes to the next origin; with one only, it asks the room again.
func (e *engine) leave(why string, now time.Time) {
	target := max(e.tracks[0].watch.target, time.Second)
	if !e.left.IsZero() && now.Sub(e.left) < 2*target || e.ending != nil {
		return
	}
	from := e.origins[e.at]
	e.left = now
	if len(e.origins) < 2 {
		e.wantRenewal(now, why)
		return
	}
	e.s.cfg.Hosts.Failed(from.host(), now)
	for i := 1; i < len(e.origins); i++ {
		n := (e.at + i) % len(e.origins)
		if i == len(e.origins)-1 || !e.s.cfg.Hosts.Bad(e.origins[n].host(), now) {
			e.at = n
			break
		}
	}
	e.log.Warn().Str("why", why).Str("from", from.host()).Str("to", e.origins[e.at].host()).Msg("host left")
	e.rate = rate{}
	e.point(now, true)
	e.retryNow(now)
}

// retryNow gives segments that wait for a retry another one: they may have another URL soon.
func (e *engine) retryNow(now time.Time) {
	for _, t := range e.tracks {
		for _, j := range t.jobs {
			if j.state == waiting && j.load.raw == nil {
				j.retry = now
			}
		}
	}
}

// noteLife finds out until when the URL in use holds.
func (e *engine) noteLife(t *track, now time.Time) {
	if t.n != 0 || !e.life.until.IsZero() {
		return
	}
	until, ok := expiry(t.watch.url, now)
	if !ok {
		e.life.until = now.Add(365 * 24 * time.Hour)
		return
	}
	e.life.until, e.life.said = until, true
	e.life.renew = now.Add(until.Sub(now) * 4 / 5)
}

// wantRenewal asks the room again soon: at once, then at doubling waits.
func (e *engine) wantRenewal(now time.Time, why string) {
	l := &e.life
	if l.asking || e.ending != nil {
		return
	}
	at := now
	if !l.tried.IsZero() {
		at = later(l.tried.Add(min(time.Second<<min(l.fails, 5), 20*time.Second)), now)
	}
	if l.renew.IsZero() || at.Before(l.renew) {
		l.renew = at
		e.log.Info().Str("why", why).Msg("asking the room for its URL again")
	}
}

func (e *engine) renew(now time.Time) {
	l := &e.life
	if l.asking || l.renew.IsZero() || e.ending != nil || e.tracks[0].watch.ended {
		return
	}
	if now.Before(l.renew) {
		e.wakeAt(l.renew)
		return
	}
	l.asking, l.tried, l.renew = true, now, time.Time{}
	e.start(func(ctx context.Context) any {
		raw, err := e.s.cfg.Renew(ctx)
		if err != nil {
			return renewal{err: fmt.Errorf("ask the room again: %w", err)}
		}
		f, err := e.s.resolve(ctx, raw)
		e.count.header(f.read)
		return renewal{f, err}
	})
}

// renewed takes in the answer of the room.
func (e *engine) renewed(r renewal, now time.Time) {
	l := &e.life
	l.asking = false
	if r.err != nil {
		l.fails++
		l.err = r.err
		if l.failing.IsZero() {
			l.failing = now
		}
		if l.said && l.until.After(now) && e.tracks[0].watch.fails == 0 {
			l.renew = now.Add(min(time.Second<<min(l.fails, 5), 20*time.Second)) // the old one holds still
		}
		e.log.Warn().Err(r.err).Msg("the room cannot be asked again")
		return
	}
	l.fails, l.failing, l.err = 0, time.Time{}, nil
	was := e.origins[e.at]
	e.same(r.found)
	e.master, e.origins = r.found.master, r.found.origins
	e.at = e.pick(was.host(), now)
	if len(e.quality.ladder) > 0 && e.master != nil {
		e.quality.ladder = hls.Ladder(e.master)
		e.quality.level = e.rung(e.origins[e.at].variant)
	}
	if len(e.tracks) > 1 && e.origins[e.at].sound == "" {
		e.log.Warn().Msg("the sound has no playlist of its own any more")
	}
	e.point(now, pathOf(was.list) != pathOf(e.origins[e.at].list))
	e.retryNow(now)
}

// take is what a worker brought.
func (e *engine) take(r any, now time.Time) {
	switch r := r.(type) {
	case glance:
		e.seen(r, now)
	case loaded:
		e.landed(r, now)
	case renewal:
		e.renewed(r, now)
	}
}

// last is what a worker brought after the end: only its bytes count.
func (e *engine) last(r any) {
	if r, ok := r.(loaded); ok {
		e.running--
		r.j.state = waiting
		if r.err != nil {
			e.count.partial(r.load.read - r.j.load.read)
			if r.load.block != r.j.load.block {
				r.load.block.drop()
			}
			return
		}
		r.j.load, r.j.state = r.load, ready
	}
}

// stop hands on what is there in order, and counts what is not.
func (e *engine) stop() {
	now := time.Now()
	for _, t := range e.tracks {
		for len(t.jobs) > 0 && (t.jobs[0].state == ready || t.jobs[0].state == missing) {
			j := t.jobs[0]
			t.jobs = t.jobs[1:]
			e.emitter.in <- e.item(t, j, now)
		}
		for _, j := range t.jobs {
			if j.load.raw != nil || j.load.plain != nil {
				e.count.partial(j.load.read)
			}
			j.let()
		}
	}
}

// let gives back what a job has in memory.
func (j *job) let() {
	j.load.block.drop()
	j.best.block.drop()
	j.load, j.best, j.copies = load{}, load{}, 0
}

// add makes a job of a new segment.
func (t *track) add(s plan.Segment, r plan.Result, now time.Time) {
	j := &job{seg: s, listed: now, retry: now}
	switch {
	case s.Skip:
		j.state = missing
	case s.Gap:
		j.state, j.lost, j.why = missing, true, "declared missing by the source"
	case s.Unseen:
		j.deadline = now.Add(max(r.Window, 10*time.Second))
		if s.URL == "" {
			j.deadline = now.Add(r.Target)
		}
	case s.URL == "":
		j.state, j.lost, j.why = missing, true, "the playlist leads to a place that is not asked"
	default:
		j.setDeadline(r, now)
	}
	t.jobs = append(t.jobs, j)
}

func (j *job) setDeadline(r plan.Result, now time.Time) {
	j.stays = r.Grows || r.Ended
	j.deadline = now.Add(j.seg.Duration + r.Window)
	if r.Grows {
		j.deadline = now.Add(max(j.seg.Duration+r.Window, staysFor))
	}
}

// staysFor is how long a segment that its list keeps is tried at least.
const staysFor = 10 * time.Minute

// still says that the list was not changed: what it named it names still.
func (t *track) still(now time.Time) {
	for _, j := range t.jobs {
		if j.state != missing && !j.seg.Unseen && j.seg.Epoch == t.watch.first.Epoch && j.seg.Number >= t.watch.first.Number && now.After(j.listed) {
			j.deadline = j.deadline.Add(now.Sub(j.listed))
			j.listed = now
		}
	}
}

// update takes over what the newest list says of segments that are on their way.
func (t *track) update(r plan.Result, now time.Time) {
	if len(t.jobs) == 0 || len(r.Known) == 0 {
		return
	}
	known := make(map[plan.ID]*plan.Segment, len(r.Known))
	for i := range r.Known {
		known[r.Known[i].ID] = &r.Known[i]
	}
	for _, j := range t.jobs {
		s := known[j.seg.ID]
		if s == nil || j.state == missing {
			continue
		}
		if j.seg.URL != s.URL && j.state == waiting {
			j.retry = now
			j.tries = min(j.tries, 1)
		}
		ad, skip, disc, begins, lost := j.seg.Ad, j.seg.Skip, j.seg.Discontinuity, j.seg.Begins, j.seg.Lost
		j.seg = *s
		j.seg.Ad, j.seg.Skip = j.seg.Ad || ad, j.seg.Skip || skip
		j.seg.Discontinuity, j.seg.Begins, j.seg.Lost = j.seg.Discontinuity || disc, begins, lost
		j.listed = now
		j.setDeadline(r, now)
	}
}

// addParts is track.addParts of all tracks.
func (e *engine) addParts(now time.Time) {
	for _, t := range e.tracks {
		t.addParts(now)
	}
}

// addParts makes a segment of the parts of the one that was open when the stream ended: there is no other copy.
func (t *track) addParts(now time.Time) {
	w := &t.watch
	if len(w.parts) == 0 || w.parts[0].URL == "" {
		return
	}
	s := w.newest
	s.Number++
	s.Sequence++
	s.URL, s.Path, s.Range, s.Title, s.Duration = "", "", hls.ByteRange{}, "", 0
	s.Discontinuity, s.Begins, s.Gap, s.Lost, s.Unseen = false, false, false, 0, false
	if !s.Date.IsZero() {
		s.Date = s.Date.Add(w.newest.Duration)
	}
	s.Parts, w.parts = w.parts, nil
	for _, p := range s.Parts {
		s.Duration += p.Duration
	}
	t.jobs = append(t.jobs, &job{seg: s, listed: now, retry: now, deadline: now.Add(s.Duration + 3*w.target), open: true})
}

// horizon is how many segments are tried in one step, and twice as many how many are looked at: a list may have hours.
const horizon = 128

// near gives out the jobs of a track that are looked at in one step, with their places in the line: those in front, up to
// 2·horizon that were listed and wait. What was never listed is bounded by itself.
func (t *track) near() iter.Seq2[int, *job] {
	return func(yield func(int, *job) bool) {
		n := 0
		for i, j := range t.jobs {
			if j.state == waiting && !j.seg.Unseen {
				n++
			}
			if n > 2*horizon || !yield(i, j) {
				return
			}
		}
	}
}

// fetch starts what is to be fetched: the one whose deadline is next first, of lists that nothing leaves what is played
// first.
func (e *engine) fetch(now time.Time) {
	type try struct {
		*job
		t *track
		i int // its place in the line
	}
	var due []try
	behind := 0
	for _, t := range e.tracks {
		guesses, doubt := t.guesses()
		old := guesses - horizon/2 // the newest that were never listed come first: what is older is gone sooner
		looked := 0
		for i, j := range t.near() {
			if j.state != waiting || j.seg.URL == "" && len(j.seg.Parts) == 0 {
				continue
			}
			if j.seg.Unseen {
				if old--; (old >= 0 || j.seg.Number < doubt) && (i > 0 || e.fits()) {
					continue
				}
			}
			behind++
			if now.Before(j.retry) {
				e.wakeAt(j.retry)
				continue
			}
			if i > 0 && j.load.raw == nil && !e.fits() {
				continue
			}
			due = append(due, try{j, t, i})
			if looked++; looked >= horizon {
				break
			}
		}
	}
	most := usualFetches
	if behind >= 3+len(e.tracks) {
		most = MaxFetches
	}
	if now.Before(e.calm) {
		most = 1
		e.wakeAt(e.calm)
	}
	slices.SortStableFunc(due, func(a, b try) int {
		switch {
		case a.seg.Unseen && b.seg.Unseen:
			return cmp.Compare(b.seg.Number, a.seg.Number)
		case a.stays && b.stays:
			return cmp.Compare(a.i, b.i) // the sound must not stay behind the picture
		}
		return a.deadline.Compare(b.deadline)
	})
	for _, d := range due {
		if e.running >= most {
			return
		}
		j, t, head := d.job, d.t, d.i == 0
		if !head && j.load.raw == nil && !e.fits() {
			continue
		}
		e.running++
		j.state = running
		if j.tries++; j.tries == 1 && j.stays {
			j.deadline = later(j.deadline, now.Add(staysFor))
		}
		seg, l, gen := j.seg, j.load, t.watch.gen
		limit := MaxMemory - keep
		if head {
			limit = MaxMemory
		}
		e.start(func(ctx context.Context) any {
			r := e.pull(ctx, seg, l, limit, most)
			r.t, r.j, r.gen = t, j, gen
			return r
		})
	}
}

// guesses is how many segments wait that were never listed and have a name all the same. doubt is the newest of them that
// was asked for in vain: what is older waits until that is sure.
func (t *track) guesses() (n int, doubt uint64) {
	for _, j := range t.near() {
		if j.state == waiting && j.seg.Unseen && j.seg.URL != "" {
			n++
			if j.notThere > 0 {
				doubt = j.seg.Number
			}
		}
	}
	return n, doubt
}

// older gives up what was never listed and is older than a segment that is not there any more.
func (e *engine) older(t *track, gone *job) {
	for _, j := range t.jobs {
		if j.state == waiting && j.seg.Unseen && j.seg.Epoch == gone.seg.Epoch && j.seg.Number <= gone.seg.Number {
			e.lose(j, errGone)
		}
		if j == gone {
			return // what stands behind it is newer
		}
	}
}

// fits reports whether there is room for another segment of usual size that is not the oldest.
func (e *engine) fits() bool {
	return int64(e.memory.now())+int64(e.running+1)*e.size <= MaxMemory-keep
}

// landed takes in one try.
func (e *engine) landed(r loaded, now time.Time) {
	e.running--
	j := r.j
	if r.err == nil {
		j.best.block.drop()
		j.load, j.best, j.state, j.err, j.notThere = r.load, load{}, ready, nil, 0
		e.size += (int64(len(r.load.plain)) - e.size) / 4
		if r.t.n == 0 {
			e.rate.media += j.seg.Duration
			e.timed(j, now)
		}
		return
	}
	if e.ctx.Err() != nil {
		j.state = waiting
		e.count.partial(r.load.read - j.load.read)
		if r.load.block != j.load.block {
			r.load.block.drop()
		}
		return
	}
	j.state, j.err = waiting, r.err
	if r.late { // the body is here
		j.load = r.load
		if j.since.IsZero() {
			j.since = now
			e.log.WithLevel(e.warned.level(r.err.Error())).Err(r.err).Uint64("msn", j.seg.Sequence).Msg("segment cannot be opened yet")
		}
		j.retry = now.Add(min(backoff(j.tries)+time.Second, 2*time.Second))
		if _, place := errors.AsType[*fetch.PlaceError](r.err); place || errors.Is(r.err, errScheme) {
			e.lose(j, r.err)
		}
		if yes, gone := refused(r.err); yes && !gone {
			e.wantRenewal(now, "a key was refused")
		}
		return
	}
	if j.load.torn { // it was the last hope
		e.lose(j, r.err)
		return
	}
	e.count.junk(r.load.read)
	j.load = load{} // it is fetched anew
	switch n := len(r.load.plain); {
	case r.torn && !errors.Is(r.err, errTitle) && n > len(j.best.plain):
		j.best.block.drop()
		j.best, j.copies = r.load, 1
	case r.torn && !errors.Is(r.err, errTitle) && n > 0 && n == len(j.best.plain):
		j.copies++
		fallthrough
	default:
		r.load.block.drop()
	}
	if j.copies >= 2 {
		// the server has no other: what is whole of it is better than nothing
		e.log.Warn().Uint64("msn", j.seg.Sequence).Int("bytes", len(j.best.plain)).Msg("segment is torn at the source")
		e.useBest(j, now)
		return
	}
	j.retry = now.Add(backoff(j.tries))
	e.trouble(r, now)
}

// useBest takes the longest copy that came of a torn segment. It is opened as any other.
func (e *engine) useBest(j *job, now time.Time) {
	j.load.block.drop()
	j.load, j.best, j.copies = j.best, load{}, 0
	j.load.raw, j.load.read, j.load.torn = nil, 0, true // its bytes were counted as junk when it was torn
	j.retry, j.err = now, nil
	if j.load.at.IsZero() {
		j.load.at = now
	}
	if len(j.load.plain) == 0 {
		e.lose(j, fetch.ErrShort)
	}
}

// trouble draws the consequences of a try that failed.
func (e *engine) trouble(r loaded, now time.Time) {
	j := r.j
	status, _ := errors.AsType[*fetch.StatusError](r.err)
	_, place := errors.AsType[*fetch.PlaceError](r.err)
	j.notThere++
	switch {
	case status != nil && (status.Code == 404 || status.Code == 410 || status.Code == 400):
		if j.seg.Unseen && j.notThere >= 2 {
			e.older(r.t, j)
		}
		return
	case status != nil && (status.Code == 429 || status.Code == 503):
		e.calm = now.Add(max(status.Wait, 5*time.Second))
		j.retry = now.Add(max(status.Wait, backoff(j.tries)))
		return
	case status != nil && (status.Code == 403 || status.Code == 401):
		if j.seg.Unseen {
			e.lose(j, errGone)
			return
		}
		e.wantRenewal(now, "a segment was refused: "+status.Error())
		return
	case place, errors.Is(r.err, errScheme), errors.Is(r.err, fetch.ErrTooLarge), errors.Is(r.err, errSpool):
		e.lose(j, r.err)
		return
	case errors.Is(r.err, errFault):
		if j.tries >= 2 {
			e.lose(j, r.err) // the disk is not better for a third time, and no host is to blame
		}
		return
	case errors.Is(r.err, errMemory), errors.Is(r.err, errDisk):
		j.tries--
		j.notThere--
		j.retry = now.Add(200 * time.Millisecond)
		if errors.Is(r.err, errMemory) {
			e.evict(r.t, j)
		}
		return
	case errors.Is(r.err, fetch.ErrSlow):
		e.calm = now.Add(10 * time.Second) // one after the other loses less
		e.late(r, now)
	case errors.Is(r.err, body.ErrKey) && j.tries >= 4:
		e.lose(j, r.err)
		return
	}
	if j.tries >= 2 && r.gen == r.t.watch.gen {
		e.leave(fmt.Sprintf("segments fail: %v", r.err), now)
	}
}

// errGone says that a segment that was never listed is not there either.
var errGone = errors.New("it was never listed, and is not there")

// evict makes room for the oldest segment: the newest ones that came too early are dropped and fetched again later.
func (e *engine) evict(t *track, head *job) {
	if t.jobs[0] != head {
		return
	}
	for _, t := range e.tracks {
		for i := len(t.jobs) - 1; i > 0; i-- {
			j := t.jobs[i]
			if j.load.block == nil && j.best.block == nil || j.state == running {
				continue
			}
			e.count.junk(j.load.read)
			j.let()
			j.state = waiting
			if e.memory.now() < MaxMemory/2 {
				return
			}
		}
	}
}

// lose decides that a segment is not to be had.
func (e *engine) lose(j *job, err error) {
	if j.state == missing {
		return
	}
	if j.load.raw != nil || j.load.plain != nil {
		e.count.junk(j.load.read)
	}
	j.let()
	j.state, j.lost, j.why = missing, true, reason(err)
	if errors.Is(err, errGone) {
		j.why = "not in the playlist any more when it was asked for"
	}
	e.log.WithLevel(e.warned.level(j.why)).Uint64("msn", j.seg.Sequence).Uint32("epoch", j.seg.Epoch).Str("why", j.why).Dur("length", j.seg.Duration).Msg("segment is lost")
}

// decide looks at segments whose time is over.
func (e *engine) decide(t *track, now time.Time) {
	starved := t.n == 1 && e.emitter.starved.Swap(false)
	short := e.memory.now() > MaxMemory-keep
	for i, j := range t.jobs[:min(len(t.jobs), 2*horizon)] {
		if j.state != waiting {
			continue
		}
		if j.seg.Ad && !e.s.cfg.Ads {
			j.state, j.lost, j.why = missing, true, WhyAd
			continue
		}
		if j.seg.Unseen && j.seg.URL == "" {
			// another edge may still list it, if there is one
			if e.staleSeen.IsZero() || now.Sub(e.staleSeen) > time.Minute || now.After(j.deadline) {
				e.lose(j, errGone)
				continue
			}
			e.wakeAt(j.deadline)
			continue
		}
		if j.stays && j.tries == 0 {
			continue // its turn has not come
		}
		end := j.deadline
		if !j.since.IsZero() { // only its key or its section is missing
			end = later(j.since.Add(keyPatience), j.deadline)
		}
		if i == 0 && starved && j.tries > 0 {
			end = now // the video waits no longer
		}
		if i == 0 && short && j.tries >= 3 && e.pressed(t, now) {
			end = now
		}
		if now.Before(end) {
			e.wakeAt(end)
			continue
		}
		if len(j.best.plain) > 0 {
			e.useBest(j, now)
			j.deadline = now.Add(10 * time.Second) // for its section
			continue
		}
		e.lose(j, j.err)
	}
}

// pressed reports whether later segments are about to be lost because there is no memory for them.
func (e *engine) pressed(t *track, now time.Time) bool {
	for _, j := range t.jobs[1:] {
		if j.state == waiting && j.load.raw == nil && j.deadline.Sub(now) < 2*max(t.watch.target, time.Second) {
			return true
		}
	}
	return false
}

// handOn gives the head of the line to the emitter, if it is decided.
func (e *engine) handOn(t *track, now time.Time) bool {
	some := false
	for len(t.jobs) > 0 && (t.jobs[0].state == ready || t.jobs[0].state == missing) {
		j := t.jobs[0]
		if !e.emitter.takes() {
			return some // its bell rings
		}
		e.emitter.in <- e.item(t, j, now)
		t.jobs[0] = nil
		t.jobs = t.jobs[1:]
		some = true
	}
	if len(t.jobs) == 0 && !t.told && (t.watch.ended || e.ending != nil) && e.emitter.takes() {
		e.emitter.in <- item{track: t.n, end: true}
		t.told = true
	}
	return some
}

// item is what the emitter is given of a job.
func (e *engine) item(t *track, j *job, now time.Time) item {
	it := item{track: t.n, seg: j.seg, open: j.open, wait: max(t.watch.target, time.Second)}
	if j.state == missing {
		if it.why = j.why; j.lost {
			it.missing = j.seg.Duration
		}
		return it
	}
	it.load, it.dup = j.load, e.again(t, j)
	return it
}

// again reports whether a segment was handed on before, under another name: its bytes are the same, and it comes from
// another host, after the packager began anew, with the same date, or right behind its twin.
func (e *engine) again(t *track, j *job) bool {
	if j.load.kind == body.Packed {
		return false // silence is always the same
	}
	now := past{j.load.sum, j.seg.Date, j.load.host, j.seg.Epoch}
	for i := range t.past {
		p := &t.past[i]
		if p.sum != now.sum || p.sum == 0 {
			continue
		}
		last := i == (t.pastN+len(t.past)-1)%len(t.past)
		if p.host != now.host || p.epoch != now.epoch || !p.date.IsZero() && p.date.Equal(now.date) || last {
			return true
		}
	}
	t.past[t.pastN] = now
	t.pastN = (t.pastN + 1) % len(t.past)
	return false
}
