package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
)

// The waits of a submission. The listing is asked at most 5 s after an edit, then at doubling waits.
const (
	firstLook = 5 * time.Second
	lastLook  = 10 * time.Minute
	// helped is how soon what needs a person is tried again: the Submitter looks whether anything has changed before it
	// asks anybody, or says itself how long to wait.
	helped = 5 * time.Second
	// hopeful is how many failures in a row of the same list nobody is told about.
	hopeful = 3
)

// submissions sets the lists of a target whose lists are submissions, and looks what became of them. It is control's
// goroutine as an executor is: started by Run, ended by the closing of mail or by the hard context.
type submissions struct {
	mailbox
	c   *Control
	sub Submitter
	// edits is sent by Control.Edit, which waits; never closed.
	edits chan edit

	// Below is its own.
	lists map[segment.SessionID]*submission
	quiet time.Time // the target as a whole asked for patience until then
}

// edit is what a person wants a list to say.
type edit struct {
	list  Action
	facts Facts
	done  chan<- error // 1; it is on record, or not
}

// submission is what is remembered of one list.
type submission struct {
	publish *Action // the newest; nil: the list shows what it should
	edited  *Action // a person has changed what it says, and it does not say so yet
	look    *Action // nil: nothing waits to be proven
	token   string  // newer than that of the actions
	named   bool
	parts   int               // of the list that was confirmed
	redone  map[uint32]string // the objects that were sent again, by Seq: a plan from before that knows no better

	until  time.Time // after a failure: do not set it before
	again  *backoff.Backoff
	failed int
	why    string

	lookAt time.Time
	looks  time.Duration // the next wait
	warn   *obs.Warner
}

func newSubmissions(c *Control, s Submitter) *submissions {
	return &submissions{mailbox: newMailbox(), c: c, sub: s, edits: make(chan edit), lists: map[segment.SessionID]*submission{}}
}

func (e *submissions) String() string { return "submissions of " + string(e.sub.Target()) }

// Run sets lists and looks at them until the mailbox is closed and everything that was ready is done.
func (e *submissions) Run(ctx context.Context) error { return e.serve(ctx, e.edits, e) }

func (e *submissions) turn(ctx context.Context, _ bool) (did bool, wait time.Duration) {
	s, wait := e.next()
	if s == nil {
		return false, wait
	}
	e.do(ctx, s)
	return true, 0
}

// take hears what there is to do now. What was remembered of a list outlives a plan without it: its waits go on.
func (e *submissions) take(plan []Action) {
	for _, s := range e.lists {
		s.publish, s.look = s.edited, nil
	}
	for _, a := range plan {
		s := e.of(&a)
		switch a.Kind {
		case Publish:
			if len(a.Parts) >= s.parts {
				s.publish = &a
			}
		case Look:
			s.look = &a
		}
	}
	if len(e.lists) > 64 {
		maps.DeleteFunc(e.lists, func(_ segment.SessionID, s *submission) bool { return s.publish == nil && s.look == nil })
	}
}

// of is what is remembered of the list of a.
func (e *submissions) of(a *Action) *submission {
	s := e.lists[a.Session.ID]
	if s == nil {
		log := e.c.Log.With().Str("session", string(a.Session.ID)).Str("target", string(a.Target)).Logger()
		s = &submission{
			again: backoff.New(backoff.Policy{First: firstLook, Max: lastLook, Jitter: 0.05}), warn: obs.NewWarner(log, time.Minute),
			looks: firstLook,
		}
		e.lists[a.Session.ID] = s
	}
	if !s.named {
		s.token = a.Token
	}
	return s
}

// edit notes what a person wants a list to say, and has it set.
func (e *submissions) edit(ctx context.Context, x edit) error {
	s := e.of(&x.list)
	if err := e.sub.Edit(ctx, e.list(&x.list, s), x.facts); err != nil {
		return err
	}
	if s.edited = &x.list; s.publish == nil {
		s.publish = s.edited
	}
	return nil
}

// next picks what is due, or says how long to wait. The order of the sessions is that of their birth.
func (e *submissions) next() (*submission, time.Duration) {
	now := e.c.Now()
	nearest := time.Hour
	for _, id := range slices.Sorted(maps.Keys(e.lists)) {
		s := e.lists[id]
		for _, at := range s.due(e.quiet) {
			wait := at.Sub(now)
			if wait <= 0 {
				return s, 0
			}
			nearest = min(nearest, wait)
		}
	}
	return nil, nearest
}

// due are the moments at which something is to be done for the list.
func (s *submission) due(quiet time.Time) (at []time.Time) {
	if s.publish != nil {
		at = append(at, later(s.until, quiet))
	}
	if s.look != nil {
		at = append(at, s.lookAt)
	}
	return at
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (e *submissions) do(ctx context.Context, s *submission) {
	now := e.c.Now()
	if s.publish != nil && !now.Before(later(s.until, e.quiet)) {
		e.set(ctx, s)
		return
	}
	if s.look != nil && !now.Before(s.lookAt) {
		e.see(ctx, s)
	}
}

// list is what a Submitter is handed.
func (e *submissions) list(a *Action, s *submission) List {
	return List{
		Session: a.Session, Parts: a.Parts, Ended: a.Manifest.Ended != nil, Token: s.token,
		Name: func(ctx context.Context, token string) error {
			if token == s.token {
				return nil
			}
			if err := e.c.Journal.Named(ctx, a.Session.ID, a.Target, token); err != nil {
				return fmt.Errorf("record the submission of %s: %w", a.Session.ID, err)
			}
			s.token, s.named = token, true
			return nil
		},
	}
}

// set brings one list to its state. The intention is on record before the first call (K9).
func (e *submissions) set(ctx context.Context, s *submission) {
	a := s.publish
	err := e.c.Journal.Publishing(ctx, a.Session.ID, a.Target, a.Digest)
	if err == nil {
		err = e.sub.Submit(ctx, e.list(a, s))
	}
	if err == nil {
		err = e.c.Journal.Published(ctx, a.Session.ID, a.Target, a.Digest, len(a.Parts), a.Manifest.Ended != nil)
	}
	if ctx.Err() != nil {
		return // what happened is found out at the next start
	}
	now := e.c.Now()
	if !paced(err) {
		s.looks, s.lookAt = firstLook, now // whatever came of it, the list may be another one
	}
	if err == nil {
		s.publish, s.edited, s.parts, s.until, s.failed, s.why = nil, nil, len(a.Parts), time.Time{}, 0, ""
		s.again.Reset()
		s.warn.Add(nil, "set the list")
		e.c.note(list{a.Session.ID, a.Target}, nil)
		e.c.Log.Info().Str("session", string(a.Session.ID)).Str("target", string(a.Target)).Int("parts", len(a.Parts)).
			Bool("ended", a.Manifest.Ended != nil).Msg("list published")
		e.c.Nudge()
		return
	}
	if bad, ok := errors.AsType[*Bad](err); ok {
		for _, seq := range bad.Seqs {
			e.again(ctx, a, seq, bad.Err.Error())
		}
		s.publish, s.edited = nil, nil // the plan is old; what a person wants stands in the note
		s.until = now.Add(time.Second)
		e.c.Nudge()
		return
	}
	e.failure(ctx, a, s, err, now)
}

// paced reports whether err is the account's own pace, and nothing else.
func paced(err error) bool {
	f, ok := errors.AsType[*failure.Error](err)
	return ok && f.Kind == failure.Throttled && f.Code == ""
}

// failure decides when a list is set again, and who is told.
func (e *submissions) failure(ctx context.Context, a *Action, s *submission, err error, now time.Time) {
	kind := failure.KindOf(err)
	switch {
	case paced(err):
		s.until = now.Add(max(failure.RetryAfter(err), time.Second))
		return
	case kind == failure.NeedsHuman || kind == failure.Permanent:
		wait := failure.RetryAfter(err)
		if wait <= 0 {
			wait = helped
		}
		s.until = now.Add(wait)
	default:
		s.until = now.Add(s.again.Next(err))
	}
	s.failed++
	s.warn.Add(err, "set the list")
	e.c.note(list{a.Session.ID, a.Target}, err)
	if kind == failure.Throttled {
		e.quiet = s.until
	}
	if kind == failure.Transient && s.failed < hopeful {
		return
	}
	why := err.Error()
	if kind == failure.Throttled {
		why += ", the next try is at " + s.until.Format(time.DateTime)
	}
	if hint := failure.Hint(err); hint != "" {
		why += " – " + hint
	}
	if why != s.why {
		if err := e.c.Journal.Unpublished(ctx, a.Session.ID, a.Target, why); err == nil {
			s.why = why
			e.c.Nudge()
		}
	}
}

// see looks what became of the parts that wait to be proven.
func (e *submissions) see(ctx context.Context, s *submission) {
	a := s.look
	sight, err := e.sub.Look(ctx, e.list(a, s))
	if ctx.Err() != nil {
		return
	}
	now := e.c.Now()
	changed := false
	for _, d := range a.Parts {
		if d.State == segment.Verified {
			continue
		}
		seq := d.Segment.ID.Seq
		if tag, ok := s.redone[seq]; ok && tag == d.Receipt.Tag {
			continue // the plan is older than what was done
		}
		if p, ok := sight.Proven[seq]; ok {
			if verr := e.c.Journal.Verified(ctx, a.Target, d.Segment.ID, p); verr != nil {
				err = errors.Join(err, fmt.Errorf("record the proof of %s: %w", d.Segment.ID, verr))
				continue
			}
			changed = true
			e.c.Log.Info().Str("session", string(a.Session.ID)).Str("target", string(a.Target)).Uint32("seq", seq).Str("how", p.How).Msg("part proven")
		} else if e.redo(ctx, a, d, sight) {
			changed = true
			if s.redone == nil {
				s.redone = map[uint32]string{}
			}
			s.redone[seq] = d.Receipt.Tag
		}
	}
	if err != nil {
		s.warn.Add(err, "look at the list")
		e.c.note(list{a.Session.ID, a.Target}, err)
		if why := err.Error(); failure.KindOf(err) == failure.NeedsHuman && why != s.why {
			if hint := failure.Hint(err); hint != "" {
				why += " – " + hint
			}
			if err := e.c.Journal.Unpublished(ctx, a.Session.ID, a.Target, why); err == nil {
				s.why = why
			}
		}
	} else if s.publish == nil {
		e.c.note(list{a.Session.ID, a.Target}, nil)
	}
	wait := max(s.looks, failure.RetryAfter(err))
	if failure.KindOf(err) == failure.NeedsHuman && failure.RetryAfter(err) == 0 {
		wait = helped
	}
	s.lookAt = now.Add(wait)
	s.looks = min(2*s.looks, lastLook)
	if changed {
		s.look = nil // the plan is old
		e.c.Nudge()
	}
}

// redo has a part sent once more if it has to be.
func (e *submissions) redo(ctx context.Context, a *Action, d segment.Delivery, sight Sight) bool {
	seq := d.Segment.ID.Seq
	if why, ok := sight.Bad[seq]; ok {
		return e.again(ctx, a, seq, why)
	}
	if why, ok := sight.Broken[seq]; ok {
		return e.mend(ctx, a, d, why)
	}
	return false
}

// mend has a part sent once more: a repaired copy of it, if there was something to repair. The copy has to play as long as
// the part, since it will prove it. Reading and writing the file takes seconds per GB, in which no list of the target is
// set.
func (e *submissions) mend(ctx context.Context, a *Action, d segment.Delivery, why string) bool {
	s := d.Segment
	if e.c.Mend == nil || s.Foreign || d.Instead.Path != "" {
		return e.again(ctx, a, s.ID.Seq, why)
	}
	log := e.c.Log.With().Str("part", s.ID.String()).Str("target", string(a.Target)).Str("why", why).Logger()
	c, err := e.c.Mend(ctx, a.Target, s)
	if ctx.Err() != nil {
		return false // it is looked at again after the next start
	}
	if diff := (c.Duration - s.Duration).Abs(); err == nil && c.Path != "" && diff >= max(2*time.Second, s.Duration/100) {
		err = fmt.Errorf("the copy plays %v, the part %v", c.Duration.Round(time.Second), s.Duration.Round(time.Second))
	}
	switch {
	case err != nil:
		log.Warn().Err(err).Msg("part cannot be repaired, it is sent again as it is")
	case c.Path == "":
		log.Info().Msg("nothing is wrong with the part, it is sent again as it is")
	default:
		if err := e.c.Journal.Instead(ctx, a.Target, s.ID, c, why); err != nil {
			log.Error().Err(err).Msg("a part that has to be sent again cannot be")
			return false
		}
		log.Warn().Str("copy", c.Path).Int64("bytes", c.Size).Msg("part is repaired and sent again")
		return true
	}
	return e.again(ctx, a, s.ID.Seq, why)
}

// again has a part sent once more.
func (e *submissions) again(ctx context.Context, a *Action, seq uint32, why string) bool {
	id := segment.ID{Session: a.Session.ID, Seq: seq}
	if err := e.c.Journal.Again(ctx, a.Target, id, why); err != nil {
		e.c.Log.Error().Err(err).Str("part", id.String()).Str("target", string(a.Target)).Msg("a part that has to be sent again cannot be")
		return false
	}
	e.c.Log.Warn().Str("part", id.String()).Str("target", string(a.Target)).Str("why", why).Msg("part is sent again")
	return true
}
