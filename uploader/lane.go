package uploader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
)

const (
	rescanEvery = 30 * time.Second // how often Due is read without a reason
	newsEvery   = time.Second      // how often it is read because of doorbells of segments that nobody knows here
	checkEvery  = time.Minute      // how often a target that refuses is asked whether it would take something now, unless Limits says it
	parkedFor   = time.Hour        // how long a parked delivery waits until it is tried once more
	patience    = 5 * time.Second  // after the soft stop: how long the next try may be away
	warnEvery   = time.Minute
)

// schedule is that of one step of one delivery, and of a lane whose target cannot be reached.
var schedule = backoff.Policy{First: time.Second, Max: time.Minute, Immediate: true}

// step is the key of the waits for what is not a chunk.
const step = -1

// lane is one target with its planner and its workers. All fields below "the planner's own" belong to one goroutine.
type lane struct {
	cfg      Config
	journal  Journal
	dir      *durable.Dir
	log      zerolog.Logger
	target   Target
	id       segment.TargetID
	required bool
	limits   Limits
	workers  int
	files    *files
	out      chan<- segment.Outcome
	mail     *mailbox
	gauge    *gauge

	jobs    chan job      // unbuffered; sent and closed by the planner
	results chan result   // unbuffered; sent by the workers, one for each job, never closed
	done    chan struct{} // closed by the planner when it takes no more results

	// The planner's own.
	warn     *obs.Warner // about the target
	disk     *obs.Warner // about our files
	book     *obs.Warner // about the ledger
	flows    map[segment.ID]*flow
	order    []*flow // as Due gives them: oldest session first, then by Seq
	inFlight int
	worked   bool      // something was done since Due was read
	scanned  time.Time // when Due was read
	rescanAt time.Time // when Due is read again
	failures int       // in a row, over all deliveries
	pause    *backoff.Backoff
	until    time.Time // no new job before
	paused   time.Time // when until was set
	opensAt  time.Time // no upload is opened before
	refused  error     // why the target takes nothing; a person has to help
	told     string    // the refusal that control has heard of
	checkAt  time.Time // when to ask whether it would take something now
	checking bool
	ledger   *backoff.Backoff
}

// flow is a delivery as the planner knows it.
type flow struct {
	work
	busy    bool         // a job that is not a chunk is out
	sending map[int]bool // chunks that are out
	waits   map[int]*wait
	stale   bool      // the ledger knows better
	park    error     // is to be parked as soon as nothing of it is out
	asking  bool      // parked until the target is asked whether it would take something now
	again   time.Time // when a parked one is tried once more
}

// wait is how long one step of a delivery has to wait after it failed.
type wait struct {
	*backoff.Backoff
	until time.Time
}

func (f *flow) idle() bool { return !f.busy && len(f.sending) == 0 }

func (f *flow) waits4(key int) time.Time {
	if w, ok := f.waits[key]; ok {
		return w.until
	}
	return time.Time{}
}

// job is one exchange with the target, or one walk through the steps that follow upon each other.
type job struct {
	kind  jobKind
	flow  *flow // names the delivery; only the planner looks inside
	work  work  // a copy; a job that is not a chunk owns its acks
	chunk segment.Chunk
	began time.Time
}

type jobKind uint8

const (
	jobChunk jobKind = iota
	jobBegin
	jobFinish
	jobCheck
)

// result is what became of a job.
type result struct {
	job
	ack segment.Ack
	err error
}

func newLane(cfg Config, deps Deps, d Destination, f *files, out chan<- segment.Outcome) *lane {
	log := deps.Log.With().Str("target", string(d.Target.ID())).Logger()
	limits := d.Target.Limits()
	return &lane{
		cfg: cfg, journal: deps.Journal, dir: deps.Dir, log: log,
		target: d.Target, id: d.Target.ID(), required: d.Required, limits: limits,
		workers: max(1, min(cfg.Uploads, limits.Parallel)),
		files:   f, out: out, mail: newMailbox(), gauge: newGauge(d),
		jobs: make(chan job), results: make(chan result), done: make(chan struct{}),
		warn: obs.NewWarner(log, warnEvery), disk: obs.NewWarner(log, warnEvery), book: obs.NewWarner(log, warnEvery),
		flows: map[segment.ID]*flow{},
		pause: backoff.New(schedule), ledger: backoff.New(schedule),
	}
}

// run is the planner: it starts the workers, hands out what can be done, takes what was done, and waits for all of them.
func (l *lane) run(ctx context.Context, soft <-chan struct{}) {
	var wg sync.WaitGroup
	heard := WithRepeats(ctx, func(error) { l.gauge.retry(blip) })
	for range l.workers {
		wg.Go(func() { l.serve(heard) })
	}
	defer wg.Wait()
	defer close(l.done)
	defer close(l.jobs)
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	stopping := false
	for ctx.Err() == nil {
		l.hear()
		l.refresh(ctx)
		l.settleParked(ctx)
		j, wake := l.next(time.Now(), stopping)
		if j == nil && l.inFlight == 0 && l.worked {
			l.rescanAt = time.Time{} // idle: a doorbell may have been lost
			l.worked = false
			continue
		}
		if stopping && j == nil && l.over(wake) {
			break
		}
		var jobs chan<- job
		var offer job
		if j != nil {
			jobs, offer = l.jobs, *j
		}
		alarm.Reset(time.Until(wake))
		select {
		case jobs <- offer:
			l.sent(offer)
		case r := <-l.results:
			l.settle(ctx, r)
		case <-l.mail.bell:
		case <-alarm.C:
		case <-soft:
			stopping, soft = true, nil
			l.rescanAt = time.Time{} // the last doorbells may have been lost
		case <-ctx.Done():
		}
	}
	for l.inFlight > 0 { // they have heard it as well
		l.settle(ctx, <-l.results)
	}
	l.count()
}

// hear takes what the doorbells said.
func (l *lane) hear() {
	for id, p := range l.mail.take() {
		f, ok := l.flows[id]
		switch {
		case !ok && p.Sealed: // it came and went between two readings: whoever waits for the end waits for this one
			l.rescanAt = time.Time{}
		case !ok: // it is in the ledger, or not meant for this target
			if soon := l.scanned.Add(newsEvery); soon.Before(l.rescanAt) {
				l.rescanAt = soon
			}
		case p.Sealed:
			l.rescanAt = time.Time{} // its size and sum are in the ledger
		case !f.d.Segment.Sealed:
			f.d.Segment.Size = max(f.d.Segment.Size, p.Durable)
		}
	}
}

// refresh reads what is due when it is time.
func (l *lane) refresh(ctx context.Context) {
	now := time.Now()
	if now.Before(l.rescanAt) {
		return
	}
	due, err := l.journal.Due(ctx, l.id)
	if err != nil {
		l.trouble(ctx, fmt.Errorf("list what is due: %w", err))
		return
	}
	l.ledger.Reset()
	l.book.Add(nil, "ledger works again")
	l.scanned, l.rescanAt = now, now.Add(rescanEvery)
	seen := make(map[segment.ID]bool, len(due))
	order := make([]*flow, 0, len(due))
	for _, d := range due {
		id := d.Segment.ID
		d.Segment = d.Sent() // everything here is about the bytes that go
		seen[id] = true
		f, ok := l.flows[id]
		switch {
		case !ok || (f.stale || f.d.Key != d.Key || f.d.Instead != d.Instead) && f.idle():
			if ok && f.d.Key != d.Key {
				l.files.forget(id) // it was taken back and begun again, as another kind of file
			}
			f = newFlow(d)
			l.flows[id] = f
			if d.State == segment.Parked {
				f.asking = true // an earlier process parked it; whether the target takes it now is worth a question
			}
		default:
			size := f.d.Segment.Size
			f.d.Segment = d.Segment
			if !d.Segment.Sealed {
				f.d.Segment.Size = max(size, d.Segment.Size) // the doorbell was faster
			}
		}
		order = append(order, f)
	}
	for id, f := range l.flows {
		switch {
		case seen[id]:
		case f.idle():
			delete(l.flows, id)
			l.files.forget(id)
		default:
			order = append(order, f) // its job will find out
		}
	}
	l.order = order
	l.count()
}

func newFlow(d segment.Delivery) *flow {
	f := &flow{work: work{d: d, acks: map[int]segment.Ack{}}, sending: map[int]bool{}, waits: map[int]*wait{}}
	for _, a := range d.Acks {
		f.acks[a.Index] = a
		if !d.Segment.Sealed {
			// Only what is durable is offered (I2), and doorbells run ahead of the ledger: an ack says how far.
			f.d.Segment.Size = max(f.d.Segment.Size, a.Offset+a.Length)
		}
	}
	f.d.Acks = nil // they live in the map
	return f
}

// trouble is an error of the ledger: nothing is done that could not be written down.
func (l *lane) trouble(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	l.book.Add(err, "ledger does not take or give records, the lane waits")
	now := time.Now()
	l.rescanAt = now.Add(max(l.ledger.Next(err), 100*time.Millisecond))
	l.until, l.paused = l.rescanAt, now
}

// next chooses what to do now, and says when to look again if nothing comes up before.
func (l *lane) next(now time.Time, stopping bool) (*job, time.Time) {
	wake := l.rescanAt
	sooner := func(t time.Time) {
		if t.Before(wake) {
			wake = t
		}
	}
	if l.inFlight >= l.workers {
		return nil, wake
	}
	if l.wantsCheck() {
		if !now.Before(l.checkAt) && !l.checking {
			return &job{kind: jobCheck, began: now}, wake
		}
		if !l.checking {
			sooner(l.checkAt)
		}
	}
	if l.refused != nil {
		return nil, wake
	}
	if now.Before(l.until) {
		sooner(l.until)
		return nil, wake
	}
	if l.careful() && l.inFlight > 0 {
		return nil, wake // one at a time until one succeeds
	}
	for _, sealed := range [...]bool{true, false} { // what can be completed goes first
		if !sealed && stopping {
			break
		}
		for _, f := range l.order {
			if f.d.Segment.Sealed != sealed {
				continue
			}
			j, at := l.candidate(f, now)
			if j != nil {
				return j, wake
			}
			if !at.IsZero() {
				sooner(at)
			}
		}
	}
	return nil, wake
}

// careful reports whether the target has to show first that it works again.
func (l *lane) careful() bool { return l.failures > l.workers || !l.paused.IsZero() }

// recheck is how long a refusal is believed.
func (l *lane) recheck() time.Duration { return cmp.Or(l.limits.Recheck, checkEvery) }

// wantsCheck reports whether it should be asked if the target would take something now.
func (l *lane) wantsCheck() bool {
	if l.refused != nil {
		return true
	}
	for _, f := range l.order {
		if f.asking {
			return true
		}
	}
	return false
}

// candidate is the next job of one delivery; if there is none now, when there may be one.
func (l *lane) candidate(f *flow, now time.Time) (*job, time.Time) {
	if f.busy || f.stale || f.park != nil || f.d.Listable() {
		return nil, time.Time{}
	}
	if f.d.State == segment.Parked {
		return nil, f.again
	}
	alone := func(kind jobKind) (*job, time.Time) {
		if !f.idle() {
			return nil, time.Time{}
		}
		if at := f.waits4(step); now.Before(at) {
			return nil, at
		}
		w := f.work
		w.acks = maps.Clone(f.acks)
		return &job{kind: kind, flow: f, work: w, began: now}, time.Time{}
	}
	p := f.plan()
	if (f.d.State == segment.Due || f.d.State == segment.Opening) && now.Before(l.opensAt) {
		return nil, l.opensAt
	}
	switch f.d.State {
	case segment.Due:
		if !f.d.Segment.Sealed {
			if !l.limits.Growing {
				return nil, time.Time{}
			}
			chunk, err := l.chunkSize(f.d.Segment)
			if err != nil || !planOf(f.d.Segment, chunk).offers() {
				return nil, time.Time{}
			}
		}
		return alone(jobBegin)
	case segment.Opening:
		return alone(jobBegin)
	case segment.Committing, segment.Committed:
		return alone(jobFinish)
	}
	if f.up == nil {
		return alone(jobBegin)
	}
	if p.complete(f.has) {
		return alone(jobFinish)
	}
	var soonest time.Time
	c, ok := p.next(f.has, func(i int) bool {
		if f.sending[i] {
			return true
		}
		at := f.waits4(i)
		if !now.Before(at) {
			return false
		}
		if soonest.IsZero() || at.Before(soonest) {
			soonest = at
		}
		return true
	})
	if !ok {
		return nil, soonest
	}
	w := f.work
	w.acks = nil
	return &job{kind: jobChunk, flow: f, work: w, chunk: c, began: now}, time.Time{}
}

// sent notes that a worker has taken a job.
func (l *lane) sent(j job) {
	l.inFlight++
	l.worked = true
	l.gauge.inFlight(l.inFlight)
	switch j.kind {
	case jobCheck:
		l.checking = true
	case jobChunk:
		j.flow.sending[j.chunk.Index] = true
	default:
		j.flow.busy = true
	}
}

// serve is a worker.
func (l *lane) serve(ctx context.Context) {
	for j := range l.jobs {
		select {
		case l.results <- l.do(ctx, j):
		case <-l.done:
		}
	}
}

func (l *lane) do(ctx context.Context, j job) (r result) {
	r.job = j
	defer func() {
		if v := recover(); v != nil {
			// The planner drops what it knows of the delivery and reads the ledger.
			r.err = &journalError{fmt.Errorf("panic: %v\n%s", v, debug.Stack())}
		}
	}()
	switch j.kind {
	case jobCheck:
		r.err = l.target.Check(ctx)
	case jobBegin:
		r.err = l.begin(ctx, &r.work)
	case jobFinish:
		r.err = l.finish(ctx, &r.work)
	case jobChunk:
		r.ack, r.err = l.send(ctx, j.work.d, j.work.up, j.chunk)
	}
	if r.work.d.Listable() && r.err == nil {
		l.files.forget(r.work.d.Segment.ID)
		l.tell(ctx, segment.Outcome{Target: l.id, ID: r.work.d.Segment.ID})
	}
	return r
}

func (l *lane) tell(ctx context.Context, o segment.Outcome) {
	select {
	case l.out <- o: // a slow receiver is no reason to lose it, but …
	case <-ctx.Done(): // … the ledger has it already
	}
}

// settle takes what a worker did.
func (l *lane) settle(ctx context.Context, r result) {
	l.inFlight--
	l.gauge.inFlight(l.inFlight)
	now := time.Now()
	if r.kind == jobCheck {
		l.checked(ctx, r.err, now)
		return
	}
	f := r.flow
	key := step
	if r.kind == jobChunk {
		key = r.chunk.Index
		delete(f.sending, key)
		if r.err == nil {
			f.acks[key] = r.ack
		}
	} else {
		f.busy = false
		seg := f.d.Segment // may have grown meanwhile
		f.work = r.work
		f.d.Segment = seg
	}
	if f.d.Listable() {
		delete(l.flows, f.d.Segment.ID)
		for i := range l.order {
			if l.order[i] == f {
				l.order = append(l.order[:i:i], l.order[i+1:]...)
				break
			}
		}
		done := "part verified"
		if f.d.State != segment.Verified {
			done = "part stored" // the list has to prove it
		}
		l.log.Info().Str("session", string(f.d.Segment.ID.Session)).Uint32("seq", f.d.Segment.ID.Seq).
			Int64("bytes", f.d.Segment.Size).Str("how", f.d.Proof.How).Msg(done)
		l.count()
	}
	if r.err == nil {
		delete(f.waits, key)
		l.healthy()
		return
	}
	if ctx.Err() != nil {
		return // cut off by the stop
	}
	l.failed(ctx, f, key, r, now)
}

// healthy notes that the target did something that it was asked for.
func (l *lane) healthy() {
	if l.refused != nil {
		return // what was in flight before the refusal proves nothing
	}
	if l.careful() {
		for _, f := range l.order {
			clear(f.waits) // it was not their fault
		}
	}
	l.failures, l.until, l.paused, l.told = 0, time.Time{}, time.Time{}, ""
	l.pause.Reset()
	l.gauge.state(laneOK, nil)
	l.warn.Add(nil, "target works again")
	l.disk.Add(nil, "reading the recording works again")
}

// failed decides what follows from an error.
func (l *lane) failed(ctx context.Context, f *flow, key int, r result, now time.Time) {
	var journal *journalError
	var local *localError
	err := r.err
	switch {
	case errors.As(err, &journal):
		f.stale = true
		l.trouble(ctx, err)
		return
	case errors.As(err, &local):
		if gone(err) {
			f.park = &failure.Error{Op: "send " + f.d.Key, Kind: failure.Permanent, Err: err}
			return
		}
		l.postpone(f, key, err, now)
		l.disk.Add(err, "reading the recording does not work, it is tried again")
		return
	case failure.KindOf(err) == failure.Transient && (errors.Is(err, failure.ErrAbsent) || errors.Is(err, failure.ErrDamaged)):
		// The target answered: it is well, only this delivery is not.
		if errors.Is(err, failure.ErrAbsent) {
			l.gauge.retry("absent")
			if r.kind == jobChunk {
				f.up = nil // ask what became of the upload
			}
		} else {
			l.gauge.retry("damaged")
		}
		l.postpone(f, key, err, now)
		l.log.Debug().Err(err).Str("key", f.d.Key).Msg("tried again")
		return
	}
	kind := failure.KindOf(err)
	l.gauge.retry(kind.String())
	switch kind {
	case failure.NeedsHuman:
		f.park, f.asking = err, true
		l.refuse(err, now)
	case failure.Permanent:
		f.park = err
	case failure.Throttled:
		if l.limits.Apart && r.kind == jobBegin {
			l.opensAt = now.Add(max(failure.RetryAfter(err), time.Second))
			l.gauge.state(laneThrottled, err)
			l.warn.Add(err, "target asks for patience with new parts, what is on its way goes on")
			return
		}
		if r.began.Before(l.paused) { // it began before the lane knew
			if at := now.Add(failure.RetryAfter(err)); at.After(l.until) {
				l.until = at
			}
		} else {
			// A target that names its own patience knows better than our schedule, which would double it each time.
			d := failure.RetryAfter(err)
			if d <= 0 {
				d = l.pause.Next(err)
			}
			l.until, l.paused = now.Add(max(d, time.Second)), now
		}
		l.gauge.state(laneThrottled, err)
		l.warn.Add(err, "target asks for patience")
	default:
		l.postpone(f, key, err, now)
		if r.began.Before(l.paused) {
			return // it began before the lane knew: it tells nothing new
		}
		l.failures++
		if l.failures > l.workers {
			l.until, l.paused = now.Add(l.pause.Next(err)), now
			l.gauge.state(laneUnreachable, err)
			l.warn.Add(err, "target cannot be reached, what is due waits on the disk")
		} else {
			l.log.Debug().Err(err).Str("key", f.d.Key).Msg("tried again")
		}
	}
}

// postpone lets one step of one delivery wait.
func (l *lane) postpone(f *flow, key int, err error, now time.Time) {
	w, ok := f.waits[key]
	if !ok {
		w = &wait{Backoff: backoff.New(schedule)}
		f.waits[key] = w
	}
	w.until = now.Add(w.Next(err))
	f.d.Why = err.Error()
}

// refuse notes that a person has to help: nothing more is tried until Check passes.
func (l *lane) refuse(err error, now time.Time) {
	if l.refused == nil {
		l.checkAt = now.Add(l.recheck())
	}
	l.refused = err
	l.gauge.state(laneRefused, err)
}

// checked takes the answer to "would you take something now?".
func (l *lane) checked(ctx context.Context, err error, now time.Time) {
	l.checking = false
	l.checkAt = now.Add(l.recheck())
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		if l.refused != nil {
			l.log.Info().Msg("target takes parts again")
		}
		l.refused = nil
		l.gauge.state(laneOK, nil)
		for _, f := range l.order {
			if f.asking {
				f.again = now
			}
		}
		return
	}
	switch failure.KindOf(err) {
	case failure.NeedsHuman, failure.Permanent:
		l.refuse(err, now)
	}
}

// settleParked parks what has to be parked and frees what may go on. While the target refuses everything, whatever could
// be completed is parked as well, so that whoever waits for it knows that only a person can help.
func (l *lane) settleParked(ctx context.Context) {
	now := time.Now()
	for _, f := range l.order {
		if ctx.Err() != nil {
			return
		}
		if !f.idle() || f.stale || f.d.Listable() {
			continue
		}
		parked := f.d.State == segment.Parked
		if l.refused != nil && f.d.Segment.Sealed && !parked && f.park == nil {
			f.park, f.asking = l.refused, true
		}
		var err error
		switch {
		case f.park != nil && !parked:
			err = l.parkNow(ctx, f, now)
		case parked && l.refused == nil && !f.again.IsZero() && !now.Before(f.again):
			err = l.free(ctx, f)
		}
		if err != nil {
			f.stale = true
			l.trouble(ctx, err)
			return
		}
	}
}

func (l *lane) parkNow(ctx context.Context, f *flow, now time.Time) error {
	why := explain(f.park)
	if err := record(ctx, func(ctx context.Context) error { return l.journal.Parked(ctx, l.id, f.d.Segment.ID, why) }); err != nil {
		return err
	}
	f.d.Before, f.d.State, f.d.Why = f.d.State, segment.Parked, why
	f.again = time.Time{}
	if !f.asking {
		f.again = now.Add(parkedFor)
	}
	// One refusal of the target is one outcome, however many parts wait for it.
	if !f.asking || l.told != why {
		l.log.Error().Str("session", string(f.d.Segment.ID.Session)).Uint32("seq", f.d.Segment.ID.Seq).Str("why", why).
			Msg("part is parked")
		l.tell(ctx, segment.Outcome{Target: l.id, ID: f.d.Segment.ID, Err: f.park})
	}
	if f.asking {
		l.told = why
	}
	f.park = nil
	return nil
}

func (l *lane) free(ctx context.Context, f *flow) error {
	if err := record(ctx, func(ctx context.Context) error { return l.journal.Unparked(ctx, l.id, f.d.Segment.ID) }); err != nil {
		return err
	}
	f.d.State, f.asking, f.again = f.d.Before, false, time.Time{}
	clear(f.waits)
	return nil
}

// over reports whether nothing more can be done after the doorbells have ended. wake is when the next try would be: a
// target that cannot be reached is not waited for longer than patience.
func (l *lane) over(wake time.Time) bool {
	if l.inFlight > 0 {
		return false
	}
	waiting := false
	for _, f := range l.order {
		if f.asking && f.d.State == segment.Parked && l.refused == nil {
			waiting = true // parked by an earlier process, and not asked yet
		}
		if f.d.Segment.Sealed && f.d.State != segment.Parked {
			waiting = true
		}
	}
	return !waiting || (l.careful() || time.Now().Before(l.opensAt)) && time.Until(wake) > patience
}

// count publishes what is not proven.
func (l *lane) count() {
	list := make(map[segment.ID]int64, len(l.flows))
	for id, f := range l.flows {
		list[id] = f.d.Segment.Size
	}
	l.gauge.unproven(list)
}
