package recorder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/supervise"
	"github.com/liverec/liverec/recorder/repair"
	"github.com/liverec/liverec/recorder/retime"
)

// Config is what a Recorder can be told.
type Config struct {
	Room    segment.Room
	Segment time.Duration // media time of a part; default 15 min
	MaxSize int64         // a part never grows beyond it; default 4 GiB
	Grace   time.Duration // how long the source may be away before the broadcast counts as ended; default 60 s
	// Container is the format of the parts; default ContainerAuto. A part that is open already stays what it is.
	Container Container
	// ConfirmedEnd is the part of the grace that a clean end needs which the source confirms; default 10 s.
	ConfirmedEnd time.Duration
	// Once: Run returns after one broadcast has ended. One of an earlier run counts whose grace was over before this run
	// began, unless the room is live then.
	Once bool
	// DiskFloor is how much must be free for a room to go on that a full disk has stopped; 0: it is tried at once.
	DiskFloor int64
}

// MinSize is the smallest Config.MaxSize: the head, and something behind it.
const MinSize = 1 << 20

// Validate fills in the defaults, or says what is wrong.
func (c *Config) Validate() error {
	if c.Segment == 0 {
		c.Segment = 15 * time.Minute
	}
	if c.MaxSize == 0 {
		c.MaxSize = 4 << 30
	}
	if c.Grace == 0 {
		c.Grace = time.Minute
	}
	if c.ConfirmedEnd == 0 {
		c.ConfirmedEnd = 10 * time.Second
	}
	if err := c.Container.Check(); err != nil {
		return err
	}
	switch {
	case c.Room.ID == "":
		return errors.New("a recorder needs a room")
	case c.Segment < time.Second:
		return fmt.Errorf("parts of %v are too short; 1s is the least", c.Segment)
	case c.Segment > 24*time.Hour:
		return fmt.Errorf("parts of %v are too long; 24h is the most", c.Segment)
	case c.MaxSize < MinSize:
		return fmt.Errorf("parts of %d bytes are too small; 1MiB is the least", c.MaxSize)
	case c.Grace < 0 || c.ConfirmedEnd < 0:
		return errors.New("a grace cannot be negative")
	}
	return nil
}

// Deps is what a Recorder works with.
type Deps struct {
	Resolver Resolver
	Journal  Journal
	Dir      *durable.Dir // the data folder; parts lie below its "media"
	// Progress is the doorbell: sends never block. The channel is somebody else's to close, after Run has returned.
	Progress chan<- segment.Progress
	Log      zerolog.Logger
	// Name makes the folder name of a new session on every target; the ledger keeps names apart. Nil: the room's name.
	Name func(s segment.Session, at time.Time) string
	// Free tells how many bytes the disk has left. Nil: a stopped room finds out by trying.
	Free func() (int64, error)
	// Ended is called after a session's end is in the ledger. Nil: nobody wants to know.
	Ended func(Report)
	// Changed is called when the streamer changes something during a broadcast, and at its begin where the ledger does not
	// have all of it. It must not block. Nil: nobody wants to know.
	Changed func(Change)
}

// Report is the end of one session as capture saw it.
type Report struct {
	Session segment.SessionID
	At      time.Time // when its last frame was heard
	Account segment.Account
	Balance error // the identity that does not hold, nil if all do
	Gaps    int
	GapTime time.Duration
}

// Recorder records one room: it waits until it is live, records, waits for it to come back, closes the broadcast,
// waits for the next one. It is a supervise.Service; Run may be called again after it has returned.
type Recorder struct {
	cfg  Config
	deps Deps
	log  zerolog.Logger
	view *view
	box  chan segment.Command // newest wins; sent by Do, never closed
	now  atomic.Pointer[bounds]
}

// Limits are what may change while a Recorder records: see Config.
type Limits struct {
	Segment time.Duration
	MaxSize int64
	Grace   time.Duration
}

// bounds are Limits as they are used. Nobody changes one that is in use.
type bounds struct {
	limit, hard, least, most int64
	grace                    time.Duration
}

func boundsOf(c Config) *bounds {
	limit := c.Segment.Milliseconds()
	return &bounds{limit: limit, hard: limit + min(forcedAfter.Milliseconds(), limit), least: min(shortest.Milliseconds(), limit/3), most: c.MaxSize, grace: c.Grace}
}

// Adjust changes the limits, also while Run goes on: the grace counts at once, the others for the next part. The open part
// ends at the next key frame after a limit that it has passed already. No frame is lost, no connection is touched.
func (r *Recorder) Adjust(l Limits) error {
	c := r.cfg
	c.Segment, c.MaxSize, c.Grace = l.Segment, l.MaxSize, l.Grace
	if err := c.Validate(); err != nil {
		return err
	}
	r.now.Store(boundsOf(c))
	return nil
}

// grace is how long a source may be away, at this moment.
func (r *Recorder) grace() time.Duration { return r.now.Load().grace }

var _ supervise.Service = (*Recorder)(nil)

// New makes a Recorder. It starts nothing.
func New(cfg Config, deps Deps) (*Recorder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Resolver == nil || deps.Journal == nil || deps.Dir == nil {
		return nil, errors.New("a recorder needs a resolver, a journal and a folder")
	}
	v := &view{s: Snapshot{Room: cfg.Room, State: StateEnded, Since: time.Now().UTC()}}
	r := &Recorder{cfg: cfg, deps: deps, log: deps.Log.With().Str("room", cfg.Room.Name).Logger(), view: v, box: make(chan segment.Command, 1)}
	r.now.Store(boundsOf(cfg))
	return r, nil
}

func (r *Recorder) String() string { return "recorder " + r.cfg.Room.Name }

// Room is the room that is recorded.
func (r *Recorder) Room() segment.Room { return r.cfg.Room }

// Snapshot is what the room is doing now. Everybody may ask.
func (r *Recorder) Snapshot() Snapshot { return r.view.snapshot(time.Now()) }

// Do hands in a command. It never waits; a newer command takes the place of one that was not heard yet.
func (r *Recorder) Do(c segment.Command) {
	for {
		select {
		case r.box <- c:
			return
		default:
		}
		select {
		case <-r.box:
		default:
		}
	}
}

// Run records until ctx is done, or with Once until one broadcast has ended. After ctx is done the open part is closed
// and sealed within 5 s; what is not done by then is left to the next start.
func (r *Recorder) Run(ctx context.Context) error {
	c := newCapture(ctx, r)
	err := c.loop(ctx)
	c.finish()
	r.view.set(StateEnded, "")
	return err
}

// capture is one run of a Recorder: nothing of it outlives Run, so that no stale state survives.
type capture struct {
	*Recorder
	hard   context.Context // ends when the stop has taken too long
	cancel context.CancelFunc
	over   chan struct{}  // closed by finish
	work   sync.WaitGroup // clerk and sealer
	watch  sync.WaitGroup // the deadline of a stop
	clerk  *clerk
	sealer *sealer

	take  *take  // nil: no broadcast goes on
	place []byte // where the broadcast before ended, as a source that numbers its media says it
	again *backoff.Backoff
	ended bool  // a broadcast of an earlier run, by this one
	fatal error // a panic: nothing more is done with what this capture holds
}

// take is one broadcast as this process captures it.
type take struct {
	seg    *Segmenter
	rep    joiner
	c      *capture
	live   Live
	heard  time.Time     // the room was last known to send
	why    string        // how the last connection ended
	clean  bool          // the server ended it as it should
	gone   bool          // the site says that nothing is being sent any more
	lasted time.Duration // media of the last connection
	over   bool          // the source said that the broadcast is over, and everything of it came
}

func newCapture(ctx context.Context, r *Recorder) *capture {
	c := &capture{Recorder: r, over: make(chan struct{})}
	c.hard, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.clerk = newClerk(r.deps.Journal, r.ring, r.log)
	c.sealer = newSealer(r.deps.Dir, c.clerk, r.log)
	c.again = backoff.New(backoff.Policy{First: time.Second, Max: 10 * time.Second, Immediate: true})
	c.work.Go(func() { c.clerk.run(c.hard) })
	c.work.Go(func() {
		c.sealer.run(c.hard)
		c.clerk.close() // nobody else has anything to say any more
	})
	c.watch.Go(func() { // a stop has its deadline, however the rest of it fares
		select {
		case <-ctx.Done():
		case <-c.over:
			return
		}
		t := time.NewTimer(stopLimit)
		defer t.Stop()
		select {
		case <-t.C:
			c.cancel()
		case <-c.over:
		}
	})
	return c
}

// ring tells transport that something is durable. Nobody waits for it.
func (r *Recorder) ring(p segment.Progress) {
	select {
	case r.deps.Progress <- p:
	default:
		if r.deps.Progress != nil {
			r.view.change(func(s *Snapshot) { s.DoorbellsLost++ })
		}
	}
}

// finish waits until every part is sealed and everything is said, or until the deadline of a stop is over.
func (c *capture) finish() {
	c.sealer.close()
	c.work.Wait()
	if parts, calls := c.sealer.left(), c.clerk.left(); parts+calls > 0 {
		c.log.Warn().Int("parts", parts).Int("records", calls).Msg("stopped before everything was closed, the next start goes on")
	}
	close(c.over)
	c.cancel()
	c.watch.Wait()
}

// newTake begins a broadcast; its session is entered with its first frame.
func (c *capture) newTake() *take {
	t := &take{c: c}
	t.seg = c.newSegmenter(t)
	t.rep = repair.New(t.seg.repairing(), t.seg)
	return t
}

func (c *capture) newSegmenter(t *take) *Segmenter {
	b := c.now.Load()
	return &Segmenter{
		room: c.cfg.Room, bounds: *b, newest: &c.now, taken: b,
		want: c.cfg.Container, samples: c.cfg.Container.forced(), dir: c.deps.Dir, clerk: c.clerk, sealer: c.sealer, log: c.log, enter: t.enter, repairs: t, view: c.view, ctx: c.hard,
		next: 1, cuts: map[uint32]segment.Cause{},
	}
}

// State is that of the Repairer.
func (t *take) State() repair.State { return t.rep.State() }

// Digests are those of the Repairer.
func (t *take) Digests() []byte { return t.rep.Digests() }

// Epoch is that of the Repairer.
func (t *take) Epoch() uint64 { return t.rep.Epoch() }

// Rebuild replaces the Repairer.
func (t *take) Rebuild(s repair.State, tail []repair.TailTag) {
	if _, ok := t.rep.(*retime.Retimer); ok && s.Version == 0 {
		t.rep = retime.New(t.seg, codec.Equal)
		return
	}
	t.rep = restoreJoiner(t.seg, s, tail)
}

// enter makes the session known to the ledger, as soon as the ledger takes it.
func (t *take) enter(ctx context.Context, at time.Time) (segment.Entry, error) {
	s := segment.Session{Room: t.c.cfg.Room, Streamer: t.live.Streamer, Title: t.live.Title, Started: at.UTC(), Heard: at.UTC()}
	s.Name = s.Room.Name
	if t.c.deps.Name != nil {
		s.Name = t.c.deps.Name(s, at)
	}
	again := backoff.New(backoff.Policy{First: 100 * time.Millisecond, Max: 5 * time.Second})
	for {
		e, err := t.c.deps.Journal.Enter(ctx, t.c.cfg.Room, s, at.UTC(), t.c.grace())
		if err == nil {
			t.c.log.Info().Str("session", string(e.Session.ID)).Bool("resumed", e.Resumed).Msg("broadcast begun")
			t.c.cast(e.Session.ID, About{Streamer: e.Session.Streamer, Title: e.Session.Title})
			t.c.hear(t.live.about())
			return e, nil
		}
		t.c.log.Error().Err(err).Msg("ledger does not take the broadcast, it is tried again")
		if !again.Wait(ctx, err) {
			return segment.Entry{}, fmt.Errorf("enter %s: %w", t.c.cfg.Room.ID, err)
		}
	}
}

// account is the balance of the broadcast so far.
func (t *take) account() segment.Account { return t.rep.Account().Add(t.seg.adjust) }

// loop resolves, records and waits, until ctx is done.
func (c *capture) loop(ctx context.Context) error {
	if err := c.adopt(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if c.take != nil && !time.Now().Before(c.deadline()) {
			c.end(segment.CutEnd)
			if c.cfg.Once {
				return nil
			}
		}
		verb := c.step(ctx)
		if verb == "" && c.through() && ctx.Err() == nil {
			c.log.Info().Msg("the broadcast of the earlier run is over, and the room is not live")
			return nil
		}
		if verb == segment.VerbPause {
			verb = c.pause(ctx, whyPaused, StatePaused)
		}
		if c.fatal != nil {
			return c.fatal
		}
		if verb == segment.VerbStop {
			c.end(segment.CutStop)
			return nil
		}
	}
	c.stop()
	return nil
}

// through reports whether the one broadcast of Config.Once was an earlier run's, which this one has brought to its end.
func (c *capture) through() bool { return c.cfg.Once && c.ended && c.take == nil && c.fatal == nil }

// deadline is when the broadcast that goes on counts as over, if nothing is heard until then.
func (c *capture) deadline() time.Time {
	t := c.take
	if t.over {
		return t.heard
	}
	if t.clean && t.gone {
		return t.heard.Add(min(c.cfg.ConfirmedEnd, c.grace()))
	}
	return t.heard.Add(c.grace())
}

// step asks once and does what the answer calls for. It returns the command that cut it short, if one did.
func (c *capture) step(ctx context.Context) segment.Verb {
	live, err := c.ask(ctx)
	switch {
	case ctx.Err() != nil:
		c.drop(live)
		return ""
	case err != nil:
		c.away(false)
		state := StateUnreachable
		if failure.KindOf(err) == failure.NeedsHuman {
			state = StateBlocked
		}
		d := c.again.Next(err)
		c.say(state, err.Error(), d)
		c.view.change(func(s *Snapshot) { s.Error = err.Error() })
		return c.wait(ctx, d)
	case live.Presence == OnAir && live.Source != nil:
		return c.record(ctx, live)
	case live.Presence == Blocked:
		c.away(false)
		d := max(c.again.Next(nil), c.deps.Resolver.Every())
		c.say(StateBlocked, live.Why, d)
		return c.wait(ctx, d)
	}
	c.away(live.Confirmed)
	c.closeEarly()
	every := c.deps.Resolver.Every()
	d := every + time.Duration(rand.Int64N(int64(every)/10+1)) // rooms that began together do not ask together for ever
	if c.take != nil {
		d = min(d, c.again.Next(nil))
	} else {
		c.again.Reset()
	}
	c.say(StateWaiting, live.Why, every)
	return c.wait(ctx, d)
}

// away keeps what the source said of itself last.
func (c *capture) away(confirmed bool) {
	if c.take != nil {
		c.take.gone = confirmed
	}
}

// closeEarly closes the open part once a clean end is confirmed: its last chunks leave while the rest of ConfirmedEnd is
// waited for, instead of after it. Should the source come back in that time, the same broadcast goes on in a new part,
// as it would for a viewer. A part that is shorter than the shortest one stays open if the connection was short too, so that
// a source that flaps does not make one part each time.
func (c *capture) closeEarly() {
	t := c.take
	if t == nil || !t.clean || !t.gone || t.seg.part == nil || t.seg.lastOut-t.seg.part.base < t.seg.least && t.lasted < flapping {
		return
	}
	if err := t.seg.Close(segment.CutEnd); err != nil {
		c.log.Error().Err(err).Msg("part cannot be closed cleanly")
	}
	t.seg.lost.why = t.why
	c.view.wrote(t.seg)
}

// ask resolves, but not beyond the moment at which the broadcast would be over.
func (c *capture) ask(ctx context.Context) (Live, error) {
	limit := askLimit
	if p, ok := c.deps.Resolver.(Patient); ok {
		limit = max(limit, p.Patience())
	}
	if c.take != nil {
		limit = min(limit, max(time.Until(c.deadline()), 2*time.Second))
	}
	ask, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	live, err := c.deps.Resolver.Resolve(ask, c.cfg.Room)
	if err != nil && ctx.Err() == nil && ask.Err() != nil {
		err = fmt.Errorf("no answer for %v", limit.Round(time.Second))
	}
	return live, err
}

func (l Live) about() About { return About{l.Streamer, l.Title, l.Cover} }

func (c *capture) drop(live Live) {
	if live.Source != nil {
		live.Source.Close() // nobody reads from it
	}
}

// say tells a change of state once, with how often the room is looked at.
func (c *capture) say(state State, why string, every time.Duration) {
	if !c.view.set(state, why) {
		return
	}
	switch state {
	case StateWaiting:
		c.log.Info().Str("why", why).Str("looking_every", every.Round(100*time.Millisecond).String()).Msg("nothing is being sent, waiting")
	case StateLive:
		c.log.Info().Str("host", why).Msg("recording")
	default:
		c.log.Warn().Str("why", why).Str("state", string(state)).Msg("room cannot be recorded now, it is tried again for ever")
	}
}

// wait waits for d, for the end of the broadcast's grace, or for a command.
func (c *capture) wait(ctx context.Context, d time.Duration) segment.Verb {
	if c.through() {
		d = 0
	}
	if c.take != nil {
		d = min(d, max(time.Until(c.deadline()), 0))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ""
		case <-t.C:
			return ""
		case cmd := <-c.box:
			switch cmd.Verb {
			case segment.VerbPause, segment.VerbStop:
				return cmd.Verb
			case segment.VerbContinue:
				return ""
			}
		}
	}
}

// record runs one connection and draws the conclusions.
func (c *capture) record(ctx context.Context, live Live) segment.Verb {
	if c.take == nil {
		c.take = c.newTake()
	}
	t := c.take
	t.live, t.gone, t.over = live, false, false
	t.suit(live.Source)
	before, from := t.seg.seen, t.seg.lastOut
	t.rep.Connect(time.Now(), t.why)
	verb, err := c.connection(ctx, t, live.Source)
	if c.fatal != nil {
		return ""
	}
	got := t.seg.seen.After(before)
	t.why, t.clean = reason(err), errors.Is(err, io.EOF) || errors.Is(err, repair.ErrLoop)
	t.over, t.lasted = errors.Is(err, ErrOver), ms(t.seg.lastOut-from)
	switch {
	case got:
		t.heard = t.seg.heard
		if t.seg.lastOut-from >= time.Second.Milliseconds() {
			c.again.Reset() // a source that hangs up after every frame is not asked in a circle
		}
	case t.seg.session == "":
		c.take = nil // nothing came that anybody could call a broadcast
	}
	if ctx.Err() != nil || verb != "" {
		return verb
	}
	if d, ok := errors.AsType[*DiskError](err); ok {
		c.log.Error().Err(d).Msg("room is paused, the disk takes no media")
		c.view.change(func(s *Snapshot) { s.Error = d.Error() })
		t.heard = time.Now() // the source is not to blame
		return c.pause(ctx, whyDisk, StatePaused)
	}
	c.view.change(func(s *Snapshot) { s.Error = reason(err) })
	d := c.again.Next(err)
	if errors.Is(err, ErrOver) && !got {
		c.say(StateWaiting, reason(err), c.deps.Resolver.Every())
		return c.wait(ctx, max(d, c.deps.Resolver.Every()))
	}
	if got {
		c.view.set(StateWaiting, reason(err))
		c.log.Info().Str("why", reason(err)).Msg("connection ended, looking whether the room goes on")
	} else {
		state := StateUnreachable
		if _, ok := errors.AsType[*repair.Unsupported](err); ok {
			state = StateBlocked // it answers, with what cannot be recorded
		}
		c.say(state, reason(err), d)
	}
	return c.wait(ctx, d)
}

// reason is how a connection ended, as it stands in a gap.
func reason(err error) string {
	switch {
	case err == nil:
		return "connection ended"
	case errors.Is(err, ErrOver):
		return "the source says that the broadcast is over"
	case errors.Is(err, io.EOF):
		return "source closed the connection"
	}
	if e, ok := errors.AsType[*ContainerError](err); ok {
		return e.Error()
	}
	return err.Error()
}

// pause closes the open part and waits: for a person's word, or, where the disk was the reason, for room on it. The
// broadcast stays open as long as the room is heard of meanwhile.
func (c *capture) pause(ctx context.Context, why string, state State) segment.Verb {
	if t := c.take; t != nil {
		if err := t.seg.Close(segment.CutPause); err != nil {
			c.log.Error().Err(err).Msg("part could not be closed as it should")
		}
		t.seg.lost.why = why
		t.why, t.clean, t.gone = why, false, false
		c.view.wrote(t.seg)
	}
	c.say(state, why, diskRetry)
	look := time.NewTimer(c.lookEvery(why))
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ""
		case cmd := <-c.box:
			switch cmd.Verb {
			case segment.VerbPause:
				why = whyPaused
				c.view.set(state, why)
			case segment.VerbContinue:
				return ""
			case segment.VerbStop:
				return cmd.Verb
			}
		case <-look.C:
			if why == whyDisk && c.room() {
				return ""
			}
			c.keepHearing(ctx)
			look.Reset(c.lookEvery(why))
		}
	}
}

func (c *capture) lookEvery(why string) time.Duration {
	if why == whyDisk {
		return diskRetry
	}
	return max(c.deps.Resolver.Every(), min(c.grace()/2, 30*time.Second))
}

// room reports whether the disk can take media again.
func (c *capture) room() bool {
	if c.deps.Free == nil {
		return true
	}
	free, err := c.deps.Free()
	return err != nil || free >= c.cfg.DiskFloor // whether a disk that says nothing takes media, a try will tell
}

// keepHearing asks during a pause whether the broadcast goes on, and ends it when it was away for the grace.
func (c *capture) keepHearing(ctx context.Context) {
	if c.take == nil {
		return
	}
	live, err := c.ask(ctx)
	c.drop(live)
	if err == nil && live.Presence == OnAir {
		c.take.heard = time.Now()
	} else if ctx.Err() == nil && !time.Now().Before(c.deadline()) {
		c.end(segment.CutEnd)
	}
}

// end closes the broadcast.
func (c *capture) end(cause segment.Cause) {
	t := c.take
	c.take = nil
	if t == nil {
		return
	}
	if err := t.seg.Close(cause); err != nil {
		c.log.Error().Err(err).Msg("last part could not be closed as it should")
	}
	c.view.wrote(t.seg)
	c.cast("", About{})
	if t.seg.session == "" {
		return
	}
	if r, ok := t.rep.(*retime.Retimer); ok {
		r.End()
		c.place = r.Ahead()
	}
	t.seg.settle()
	t.seg.unprepare()
	rep := Report{Session: t.seg.session, At: t.seg.heard.UTC(), Account: t.account(), Gaps: t.seg.gaps, GapTime: t.seg.gapTime}
	if rep.Balance = rep.Account.Check(); rep.Balance != nil {
		c.log.Error().Err(rep.Balance).Str("session", string(rep.Session)).Msg("the account of the broadcast does not balance")
	}
	c.leave(rep)
}

// leave says that a broadcast is over, after everything else of it was said.
func (c *capture) leave(rep Report) {
	c.sealer.then(func(context.Context) error {
		c.clerk.say("leave "+string(rep.Session), func(ctx context.Context) error {
			if err := c.deps.Journal.Leave(ctx, rep.Session, rep.At, rep.Account); err != nil {
				return err
			}
			c.log.Info().Str("session", string(rep.Session)).Int64("frames", rep.Account.Written).Int64("duplicates", rep.Account.Duplicates).
				Int("gaps", rep.Gaps).Dur("missing", rep.GapTime).Msg("broadcast is over")
			if c.deps.Ended != nil {
				c.deps.Ended(rep)
			}
			return nil
		})
		return nil
	})
}

// stop closes the open part. The broadcast goes on: a next start within the grace continues it.
func (c *capture) stop() {
	t := c.take
	if t == nil {
		return
	}
	if err := t.seg.Close(segment.CutStop); err != nil {
		c.log.Error().Err(err).Msg("open part could not be closed as it should")
	}
	t.seg.settle()
	t.seg.unprepare()
	c.view.wrote(t.seg)
}
