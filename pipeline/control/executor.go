package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
)

// executor sets the lists of one target, one after the other. It is control's goroutine: started by Run, ended by
// the closing of mail or by the hard context.
type executor struct {
	mailbox
	c   *Control
	pub Publisher

	// Below is the executor's own.
	lists map[segment.SessionID]*pace
	quiet time.Time // the target as a whole asked for patience until then
	plan  []Action
}

// pace is what the executor remembers of one list.
type pace struct {
	sure  bool   // what the target shows is known: it was asked, or it confirmed
	shown string // the digest that it confirmed
	parts int    // of the list that it confirmed
	last  time.Time
	until time.Time // after a failure: do not try before
	again *backoff.Backoff
	why   string
	warn  *obs.Warner
}

func newExecutor(c *Control, p Publisher) *executor {
	return &executor{mailbox: newMailbox(), c: c, pub: p, lists: map[segment.SessionID]*pace{}}
}

func (e *executor) String() string { return "publisher of " + string(e.pub.Target()) }

// Run sets lists until the mailbox is closed and everything that was ready is done.
func (e *executor) Run(ctx context.Context) error { return e.serve(ctx, nil, e) }

func (e *executor) turn(ctx context.Context, open bool) (did bool, wait time.Duration) {
	i, wait := e.next(open)
	if i < 0 {
		return false, wait
	}
	a := e.plan[i]
	e.plan = append(e.plan[:i:i], e.plan[i+1:]...)
	e.do(ctx, a)
	return true, 0
}

// edit is for submissions only: what a list of a store says follows from the recording.
func (e *executor) edit(context.Context, edit) error { return errors.ErrUnsupported }

func (e *executor) take(plan []Action) {
	e.plan = slices.DeleteFunc(plan, func(a Action) bool { return a.Kind != Publish })
	if len(plan) == 0 && len(e.lists) > 64 {
		clear(e.lists) // nothing is going on; whoever comes back is asked once more
	}
}

// next picks the first list whose time has come, or says how long to wait for the nearest one. After the soft stop the
// pace of a live list no longer counts; the patience after a failure does.
func (e *executor) next(open bool) (int, time.Duration) {
	now := e.c.Now()
	nearest := time.Hour
	for i, a := range e.plan {
		at := e.quiet
		if p := e.lists[a.Session.ID]; p != nil {
			if p.until.After(at) {
				at = p.until
			}
			if paced := p.last.Add(e.c.cfg.Pace); open && a.Manifest.Ended == nil && !p.last.IsZero() && paced.After(at) {
				at = paced
			}
		}
		wait := at.Sub(now)
		if wait <= 0 {
			return i, 0
		}
		nearest = min(nearest, wait)
	}
	return -1, nearest
}

// do sets one list, and keeps account of how that went.
func (e *executor) do(ctx context.Context, a Action) {
	p := e.lists[a.Session.ID]
	if p == nil {
		log := e.c.Log.With().Str("session", string(a.Session.ID)).Str("target", string(a.Target)).Logger()
		p = &pace{
			again: backoff.New(backoff.Policy{First: time.Second, Max: time.Minute}), warn: obs.NewWarner(log, time.Minute),
		}
		e.lists[a.Session.ID] = p
	}
	err := e.set(ctx, a, p)
	if ctx.Err() != nil {
		return // what happened is found out at the next start
	}
	p.warn.Add(err, "set the list")
	e.note(a, err)
	if err == nil {
		p.until = time.Time{}
		p.again.Reset()
		return
	}
	// The list is still to be set: it goes to the end of the plan, unless a newer plan has come.
	e.plan = append(e.plan, a)
	wait := p.again.Next(err)
	p.until = e.c.Now().Add(wait)
	if failure.KindOf(err) == failure.Throttled {
		e.quiet = p.until
	}
	if why := err.Error(); why != p.why {
		if err := e.c.Journal.Unpublished(ctx, a.Session.ID, a.Target, why); err == nil {
			p.why = why
			e.c.Nudge()
		}
	}
}

// set brings the target to show the list of a. The intention is on record before the first call (K9), and where it
// is not known how an earlier call ended, the target is asked before the call is made again (K9, K10).
func (e *executor) set(ctx context.Context, a Action, p *pace) error {
	parts := len(a.Manifest.Parts)
	switch stale := e.c.Now().Sub(p.last) < e.c.cfg.Every; {
	case parts < p.parts, p.shown == a.Digest && stale:
		return nil // the plan is older than what was done since
	case p.shown == a.Digest:
		p.sure = false // the ledger still asks for what was confirmed long ago: ask the target again
	}
	if err := e.c.Journal.Publishing(ctx, a.Session.ID, a.Target, a.Digest); err != nil {
		return fmt.Errorf("record the intention to set the list of %s on %s: %w", a.Session.ID, a.Target, err)
	}
	there := false
	if !p.sure {
		digest, n, found, err := e.pub.Find(ctx, a.Session)
		if err != nil {
			return err
		}
		if found && n > parts {
			return &failure.Error{
				Op: fmt.Sprintf("set the list of %s on %s", a.Session.Name, a.Target), Kind: failure.NeedsHuman,
				Code: fmt.Sprintf("it shows %d parts, %d are on record here", n, parts),
				Hint: "The ledger is older than the target. Run `liverec verify " + string(a.Session.ID) + "`.",
			}
		}
		there = found && digest == a.Digest
		p.sure = true
	}
	if !there {
		p.sure = false
		if err := e.pub.Put(ctx, a.Session, a.Manifest); err != nil {
			return err
		}
		p.sure = true
	}
	if err := e.c.Journal.Published(ctx, a.Session.ID, a.Target, a.Digest, parts, a.Manifest.Ended != nil); err != nil {
		p.sure = false
		return fmt.Errorf("record the list of %s on %s: %w", a.Session.ID, a.Target, err)
	}
	p.shown, p.parts, p.last, p.why = a.Digest, parts, e.c.Now(), ""
	e.c.Log.Info().Str("session", string(a.Session.ID)).Str("target", string(a.Target)).Int("parts", parts).
		Bool("ended", a.Manifest.Ended != nil).Msg("list published")
	e.c.Nudge()
	return nil
}

// note keeps what only a person can help with where Stuck finds it.
func (e *executor) note(a Action, err error) {
	key := list{a.Session.ID, a.Target}
	e.c.note(key, err)
}

func (c *Control) note(key list, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stuck, key)
	switch failure.KindOf(err) {
	case failure.NeedsHuman, failure.Permanent:
		if err != nil {
			c.stuck[key] = err
		}
	}
}
