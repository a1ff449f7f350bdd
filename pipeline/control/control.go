package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/supervise"
)

// Config of a Control. The zero value is the default.
type Config struct {
	Every  time.Duration // how often the ledger is read although nothing was heard; default 10 s
	Settle time.Duration // how long news are gathered before the ledger is read; default 50 ms
	Pace   time.Duration // shortest time between two lists of one live session on one target; default 2 s
}

func (c Config) withDefaults() Config {
	if c.Every <= 0 {
		c.Every = 10 * time.Second
	}
	if c.Settle <= 0 {
		c.Settle = 50 * time.Millisecond
	}
	if c.Pace <= 0 {
		c.Pace = 2 * time.Second
	}
	return c
}

// Condition is something that a person should know. Control tells its beginning and its end, each once.
type Condition struct {
	Key      string
	Why      string
	Target   segment.TargetID // "" if it is about none
	Resolved bool
}

// Deps are the parts that a Control works with.
type Deps struct {
	Journal    Journal
	Publishers []Publisher             // at most one per target, or one of
	Submitters []Submitter             // these
	Mend       Mender                  // nil: what a target calls broken is sent again as it is
	Tell       func(Condition)         // may be nil; must not block
	Finished   func(segment.Broadcast) // each completed broadcast, once, as it was; may be nil; must not block
	Now        func() time.Time        // default time.Now
	Log        zerolog.Logger
}

// Control is stage 3. It reads the ledger when something happened, decides, and has it done.
type Control struct {
	cfg Config
	Deps
	nudge  chan struct{} // 1; sent by Nudge and the executors; never closed
	change chan struct{} // 1; sent by Retarget; never closed

	mu     sync.Mutex // guards what is below, and Publishers and Submitters
	gaps   int
	stuck  map[list]error
	active map[string]Condition
	edits  map[segment.TargetID]chan<- edit // of the submissions that run
	then   []func()                         // of each Retarget that was not followed yet
}

// list names one list: what a target shows of a session.
type list struct {
	session segment.SessionID
	target  segment.TargetID
}

// New makes a Control. It starts nothing.
func New(cfg Config, d Deps) (*Control, error) {
	if d.Journal == nil {
		return nil, errors.New("control: a journal is needed")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if err := once(d.Publishers, d.Submitters); err != nil {
		return nil, err
	}
	return &Control{
		cfg: cfg.withDefaults(), Deps: d, nudge: make(chan struct{}, 1), change: make(chan struct{}, 1),
		stuck: map[list]error{}, active: map[string]Condition{},
	}, nil
}

// once refuses a target that has two publishers.
func once(ps []Publisher, ss []Submitter) error {
	seen := map[segment.TargetID]bool{}
	for _, p := range ps {
		if seen[p.Target()] {
			return fmt.Errorf("control: target %s has two publishers", p.Target())
		}
		seen[p.Target()] = true
	}
	for _, s := range ss {
		if seen[s.Target()] {
			return fmt.Errorf("control: target %s has two publishers", s.Target())
		}
		seen[s.Target()] = true
	}
	return nil
}

// Retarget puts other publishers in the place of those of before, also while Run goes on: calls that are under way are
// cut off, and what they would have said is asked, as after a restart. An error changes nothing. then is called once nobody
// here uses the publishers of before any more, which needs a Run; it must not block. Nil: nobody wants to know.
func (c *Control) Retarget(ps []Publisher, ss []Submitter, then func()) error {
	if err := once(ps, ss); err != nil {
		return err
	}
	c.mu.Lock()
	c.Publishers, c.Submitters = slices.Clone(ps), slices.Clone(ss)
	if then != nil {
		c.then = append(c.then, then)
	}
	c.mu.Unlock()
	select {
	case c.change <- struct{}{}:
	default: // it is ringing already
	}
	return nil
}

// executors are those of the publishers of one moment.
type executors struct {
	hands  map[segment.TargetID]hand
	group  *supervise.Group
	cancel context.CancelFunc
	stop   func() error // lets them finish what is ready
}

func (c *Control) begin(ctx context.Context) *executors {
	c.mu.Lock()
	ps, ss, then := c.Publishers, c.Submitters, c.then
	c.then = nil
	c.mu.Unlock()
	for _, call := range then { // the executors of before have ended
		call()
	}
	x := &executors{hands: make(map[segment.TargetID]hand, len(ps)+len(ss)), group: supervise.NewGroup(c.Log)}
	ctx, x.cancel = context.WithCancel(ctx)
	edits := make(map[segment.TargetID]chan<- edit, len(ss))
	for _, p := range ps {
		x.hands[p.Target()] = newExecutor(c, p)
	}
	for _, s := range ss {
		e := newSubmissions(c, s)
		x.hands[s.Target()], edits[s.Target()] = e, e.edits
	}
	c.open(edits)
	for _, e := range x.hands {
		x.group.Go(ctx, e, supervise.Policy{Restart: true})
	}
	x.stop = sync.OnceValue(func() error {
		for _, e := range x.hands {
			e.end()
		}
		return x.group.Wait()
	})
	return x
}

func (c *Control) String() string { return "control" }

// Nudge makes control look at the ledger soon. It never blocks.
func (c *Control) Nudge() {
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// Gaps counts the gaps of the broadcasts that were completed since the start.
func (c *Control) Gaps() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gaps
}

// Stuck is why the list of session s on target t cannot be set without a person, nil if it can or if nobody knows.
func (c *Control) Stuck(s segment.SessionID, t segment.TargetID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuck[list{s, t}]
}

// Conditions lists what a person should know now, by key.
func (c *Control) Conditions() []Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Condition, 0, len(c.active))
	for _, k := range slices.Sorted(maps.Keys(c.active)) {
		out = append(out, c.active[k])
	}
	return out
}

// Run works until in is closed; then it decides once more, lets each executor finish what is ready, marks what is
// complete and returns. ctx is the hard end: it stops calls in flight. kick is rung, never waited for, whenever
// something may have become free to go. Run may be called again after it returned with an error.
func (c *Control) Run(ctx context.Context, in <-chan segment.Outcome, kick chan<- struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x := c.begin(ctx)
	defer c.open(nil)
	defer func() { // also after a panic
		_ = x.stop() // whoever got here without its error has a worse one
		x.cancel()
	}()
	ring := func() {
		select {
		case kick <- struct{}{}:
		default: // it is ringing already
		}
	}
	warn := obs.NewWarner(c.Log, time.Minute)
	pass := func(execs map[segment.TargetID]hand) {
		err := c.pass(ctx, execs, ring)
		if ctx.Err() == nil {
			warn.Add(err, "read and decide")
		}
	}

	ticker := time.NewTicker(c.cfg.Every)
	defer ticker.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	armed := true
	arm := func() {
		if !armed {
			due.Reset(c.cfg.Settle)
			armed = true
		}
	}
	for open := true; open; {
		select {
		case o, ok := <-in:
			if !ok {
				open = false
				break
			}
			if o.Err == nil {
				ring()
			}
			arm()
		case <-c.nudge:
			arm()
		case <-c.change:
			x.cancel()
			if err := x.stop(); err != nil {
				warn.Add(err, "end the publishers of before")
			}
			x = c.begin(ctx)
			arm()
		case <-ticker.C:
			arm()
		case <-due.C:
			armed = false
			pass(x.hands)
		case <-ctx.Done():
			return x.stop()
		}
	}
	pass(x.hands)
	err := x.stop()
	if ctx.Err() == nil {
		pass(nil) // what the executors did may have been the last thing to do
	}
	return err
}

func (c *Control) open(edits map[segment.TargetID]chan<- edit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.edits = edits
}

// Edit changes what the running submissions of a session say of themselves, on every target that has such. It returns
// when that is on record; the submissions show it as soon as their pace allows. It is an error if there is none.
func (c *Control) Edit(ctx context.Context, id segment.SessionID, f Facts) error {
	all, err := c.Journal.Active(ctx)
	if err != nil {
		return fmt.Errorf("list the active broadcasts: %w", err)
	}
	i := slices.IndexFunc(all, func(b segment.Broadcast) bool { return b.Session.ID == id })
	if i < 0 {
		return fmt.Errorf("broadcast %s is not going on", id)
	}
	c.mu.Lock()
	edits := c.edits
	c.mu.Unlock()
	none := true
	for t, to := range edits {
		a, ok := setting(all[i], t)
		if !ok || a.Token == "" {
			continue
		}
		none = false
		done := make(chan error, 1)
		select {
		case to <- edit{a, f, done}:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case err := <-done:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if none {
		return fmt.Errorf("broadcast %s has no submission yet", id)
	}
	return nil
}

// hand does what was decided for one target.
type hand interface {
	supervise.Service
	hand(plan []Action) // puts a plan in the place of an older one; only Control.Run's goroutine calls it
	end()               // there will be no other plan
}

// pass reads, decides and hands out. One unreadable ledger means that nothing is done, not that nothing is there.
func (c *Control) pass(ctx context.Context, execs map[segment.TargetID]hand, ring func()) error {
	all, err := c.Journal.Active(ctx)
	if err != nil {
		return fmt.Errorf("list the active broadcasts: %w", err)
	}
	now := c.Now()
	plans := make(map[segment.TargetID][]Action, len(execs))
	var alerts []Action
	var errs []error
	for _, b := range all {
		for _, a := range Decide(b, now) {
			switch a.Kind {
			case Publish, Look:
				if execs[a.Target] != nil {
					plans[a.Target] = append(plans[a.Target], a)
				}
			case Complete:
				if err := c.Journal.Complete(ctx, b.Session.ID); err != nil {
					errs = append(errs, fmt.Errorf("complete broadcast %s: %w", b.Session.ID, err))
					continue
				}
				c.finished(b)
				ring()
			case Alert:
				alerts = append(alerts, a)
			}
		}
	}
	for t, e := range execs {
		e.hand(plans[t])
	}
	c.tell(alerts)
	return errors.Join(errs...)
}

func (c *Control) finished(b segment.Broadcast) {
	c.mu.Lock()
	c.gaps += len(b.Gaps)
	for k := range c.stuck {
		if k.session == b.Session.ID {
			delete(c.stuck, k)
		}
	}
	c.mu.Unlock()
	c.Log.Info().Str("room", b.Session.Room.Name).Str("session", string(b.Session.ID)).Int("parts", len(b.Segments)).
		Int("gaps", len(b.Gaps)).Msg("broadcast complete")
	if c.Finished != nil {
		b.Session.Complete = true
		c.Finished(b)
	}
}

// tell compares the conditions of now with those of before.
func (c *Control) tell(alerts []Action) {
	now := make(map[string]Condition, len(alerts))
	for _, a := range alerts {
		if _, twice := now[a.Key]; !twice {
			now[a.Key] = Condition{Key: a.Key, Why: a.Why, Target: a.Target}
		}
	}
	c.mu.Lock()
	before := c.active
	c.active = now
	c.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(now)) {
		if _, known := before[k]; !known {
			c.Log.Error().Str("target", string(now[k].Target)).Msg(now[k].Why)
			c.report(now[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[k]; !still {
			was := before[k]
			was.Resolved = true
			c.Log.Info().Str("target", string(was.Target)).Str("was", was.Why).Msg("resolved")
			c.report(was)
		}
	}
}

func (c *Control) report(x Condition) {
	if c.Tell != nil {
		c.Tell(x)
	}
}
