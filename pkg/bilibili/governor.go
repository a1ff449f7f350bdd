package bilibili

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/failure"
)

// Class is what an account wants to do.
type Class uint8

// The classes.
const (
	Preupload  Class = iota // member.bilibili.com/preupload: bursts of Pace.Burst, refilled by one per Interval
	Submission              // add and edit: at least Interval apart
	Question                // everything else that speaks for the account: only waits out a blocked address
	classes
)

func (c Class) String() string { return [...]string{"preupload", "submission", "question"}[c] }

// Pace is how fast one account may go.
type Pace struct {
	Interval time.Duration // between two submissions; default 3 min, negative: none
	Burst    int           // most preuploads at once; default 10
}

// Governor paces one account over all rooms and processes that share its cookie file. It may be used by many goroutines.
type Governor struct {
	account *Account
	pace    Pace
	log     zerolog.Logger

	turn  chan struct{} // full while somebody uses what is below
	alone bool          // the file beside the cookie file cannot be used
	own   paceState     // instead of it

	warned sync.Once
}

// Hold is a refusal that is being waited out.
type Hold struct {
	Code  int64
	Since time.Time
	Until time.Time
	Hint  string // what a person can do to end it
}

// paceState is what stands in NAME.pace. It holds no secret.
type paceState struct {
	Format string `json:"format"`
	// Preuploads is when the bucket of preuploads is full again.
	Preuploads time.Time `json:"preuploads,omitzero"`
	// Submitted is when the last turn of a submission was given.
	Submitted time.Time       `json:"submitted,omitzero"`
	Series    [classes]series `json:"series"`
}

// series is a row of refusals without a success between them.
type series struct {
	Code  int64     `json:"code,omitempty"`
	Count int       `json:"count,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

const (
	paceFormat = "liverec-pace/1"
	maxPace    = 16 << 10
	// longestHold bounds what a state file of another clock can do.
	longestHold = 25 * time.Hour
	// paceLock is how long the state is waited for: others hold it for moments only.
	paceLock = 20 * time.Second
)

// Governor makes a governor of the account. Those of one cookie file share their state, also between processes, in the
// file NAME.pace beside it. Where that cannot be written, each process has its own, and says so once.
func (a *Account) Governor(p Pace, log zerolog.Logger) *Governor {
	switch {
	case p.Interval == 0:
		p.Interval = 3 * time.Minute
	case p.Interval < 0:
		p.Interval = 0
	}
	if p.Burst <= 0 {
		p.Burst = 10
	}
	return &Governor{account: a, pace: p, log: log, turn: make(chan struct{}, 1)}
}

// Try takes a turn now, or says how long it has to be waited: *failure.Error, Throttled, with RetryAfter and, if the
// remote had refused, its code and hint.
func (g *Governor) Try(class Class) error { return g.try(context.Background(), class) }

func (g *Governor) try(ctx context.Context, class Class) error {
	var err error
	lerr := g.with(ctx, func(s *paceState, now time.Time) bool {
		err = s.take(class, g.pace, now)
		return err == nil && class != Question
	})
	if lerr != nil {
		return lerr
	}
	return err
}

// Wait takes a turn, as soon as there is one. Only the end of ctx ends it, and is its only error.
func (g *Governor) Wait(ctx context.Context, class Class) error {
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := g.try(ctx, class)
		if err == nil {
			return nil
		}
		// Another process may end a hold before its time.
		if !backoff.Sleep(ctx, min(max(failure.RetryAfter(err), 10*time.Millisecond), time.Minute)) {
			return ctx.Err()
		}
	}
}

// take gives a turn or says why not.
func (s *paceState) take(class Class, p Pace, now time.Time) error {
	for i := range s.Series {
		h := s.Series[i]
		if wait := h.Until.Sub(now); wait > 0 && s.holds(Class(i), class) {
			t := ruleOf(&Refusal{Code: h.Code})
			return &failure.Error{Op: "wait with the " + class.String(), Kind: failure.Throttled, Code: fmt.Sprint(h.Code), RetryAfter: wait,
				Hint: t.hint, Err: fmt.Errorf("Bilibili refused %s; the next try is at %s", times(h.Count), h.Until.Format(time.TimeOnly))}
		}
	}
	spaced := func(wait time.Duration) error {
		return &failure.Error{Op: "wait with the " + class.String(), Kind: failure.Throttled, RetryAfter: wait,
			Err: errors.New("the account goes no faster than its interval")}
	}
	switch class {
	case Preupload:
		full := s.Preuploads
		if full.Before(now) {
			full = now
		}
		if wait := full.Sub(now) - time.Duration(p.Burst-1)*p.Interval; wait > 0 {
			return spaced(wait)
		}
		s.Preuploads = full.Add(p.Interval)
	case Submission:
		if wait := s.Submitted.Add(p.Interval).Sub(now); wait > 0 && !s.Submitted.IsZero() {
			return spaced(wait)
		}
		s.Submitted = now
	}
	return nil
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// holds reports whether a refusal of one class holds another back.
func (s *paceState) holds(refused, class Class) bool {
	switch ruleOf(&Refusal{Code: s.Series[refused].Code}).scope {
	case holdsAll:
		return true
	case holdsUploads:
		return class != Question
	case holdsClass:
		return class == refused
	}
	return false
}

// Report tells how a call of the class went. A refusal that asks for patience becomes a hold of the class (of more, where
// the table says so), longer at each repetition; a success ends the series; other trouble says nothing. It gives err
// back, where there is a hold with its RetryAfter. Whoever can submit through another interface reports the refusal of
// the last one only.
func (g *Governor) Report(class Class, err error) error {
	e, _ := errors.AsType[*failure.Error](err)
	r, _ := errors.AsType[*Refusal](err)
	if err != nil && (e == nil || r == nil || ruleOf(r).scope == holdsNothing) {
		return err
	}
	var hold series
	fresh := false
	lerr := g.with(context.Background(), func(s *paceState, now time.Time) bool {
		q := &s.Series[class]
		if err == nil {
			if *q == (series{}) || now.Before(q.Until) { // during a hold it was on its way before it
				return false
			}
			*q = series{}
			return true
		}
		if now.Before(q.Until) { // the answers of calls that were on their way together are one refusal
			hold = *q
			return false
		}
		if q.Count == 0 {
			q.Since = now
		}
		t := ruleOf(r)
		wait := t.first << min(q.Count, 16)
		wait = max(min(wait, t.most), min(e.RetryAfter, 24*time.Hour))
		q.Code, q.Count, q.Until = known(r), q.Count+1, now.Add(wait)
		hold, fresh = *q, true
		return true
	})
	if err == nil || lerr != nil {
		return err
	}
	if fresh {
		g.log.Warn().Stringer("class", class).Int64("code", r.Code).Str("message", r.Message).Time("until", hold.Until).Str("hint", e.Hint).
			Msg("Bilibili asks this account to wait")
	}
	c := *e
	c.RetryAfter = max(time.Until(hold.Until), 0)
	return &c
}

// known is the code under which the table finds the rule of r again.
func known(r *Refusal) int64 {
	if _, ok := table[r.Code]; ok {
		return r.Code
	}
	if r.Voucher {
		return 601
	}
	if r.Status == 412 {
		return -412
	}
	return -799
}

// Write runs f as the only writer of the account, over all processes: fetch and edit of a submission belong into one f.
// It takes no turn, and Renew must not be called inside. Where the lock beside the cookie file cannot be had because of
// the file system, f runs all the same, alone in this process.
func (g *Governor) Write(ctx context.Context, f func(ctx context.Context) error) error {
	l, err := g.account.lock(ctx)
	switch {
	case err == nil:
		defer l.release()
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		g.unshared(err)
		select {
		case g.account.writer <- struct{}{}:
			defer func() { <-g.account.writer }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f(ctx)
}

// Holds are the refusals that are being waited out now, by class.
func (g *Governor) Holds() (map[Class]Hold, error) {
	m := map[Class]Hold{}
	err := g.with(context.Background(), func(s *paceState, now time.Time) bool {
		for i, q := range s.Series {
			if now.Before(q.Until) {
				m[Class(i)] = Hold{q.Code, q.Since, q.Until, ruleOf(&Refusal{Code: q.Code}).hint}
			}
		}
		return false
	})
	return m, err
}

// Release ends all holds: somebody says that it is worth a try (`liverec resume`, a manual submission). Series go on: if
// that was wrong, the next wait is longer.
func (g *Governor) Release() error {
	return g.with(context.Background(), func(s *paceState, now time.Time) bool {
		changed := false
		for i := range s.Series {
			if now.Before(s.Series[i].Until) {
				s.Series[i].Until, changed = now, true
			}
		}
		return changed
	})
}

// with gives f the state under its lock, and keeps it if f has changed it.
func (g *Governor) with(ctx context.Context, f func(s *paceState, now time.Time) bool) error {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if g.alone {
		g.own.tidy(time.Now(), g.pace)
		f(&g.own, time.Now())
		return nil
	}
	within, cancel := context.WithTimeout(ctx, paceLock)
	defer cancel()
	file, err := openPace(within, g.account.path+".pace")
	if within.Err() != nil && err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &failure.Error{Op: "look at the pace of the account", RetryAfter: time.Second, Err: err} // a process that was stopped in the middle
	}
	if err != nil {
		g.alone = true
		g.unshared(err)
		f(&g.own, time.Now())
		return nil
	}
	defer file.Close()
	s := readPace(file)
	now := time.Now()
	s.tidy(now, g.pace)
	if !f(&s, now) {
		return nil
	}
	if err := writePace(file, s); err != nil {
		g.alone, g.own = true, s
		g.unshared(err)
	}
	return nil
}

func (g *Governor) unshared(err error) {
	g.warned.Do(func() {
		g.log.Warn().Err(err).Msg("the pace of the Bilibili account cannot be shared with other processes: the folder of the cookie file should be writable")
	})
}

// openPace opens the state file and takes its flock, which goes with the descriptor. It is held for moments only.
func openPace(ctx context.Context, name string) (*os.File, error) {
	l, err := flock(ctx, name)
	if err != nil {
		return nil, err
	}
	return l.f, nil
}

// readPace reads the state. One that is damaged is none.
func readPace(r io.ReaderAt) paceState {
	b := make([]byte, maxPace)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return paceState{}
	}
	var s paceState
	if json.Unmarshal(b[:n], &s) != nil || s.Format != paceFormat {
		return paceState{}
	}
	return s
}

// writePace writes over the state in one go and cuts it afterwards: a killed process leaves the old one or the new one.
func writePace(f *os.File, s paceState) error {
	s.Format = paceFormat
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write pace: %w", err)
	}
	if _, err := f.WriteAt(append(b, '\n'), 0); err != nil {
		return fmt.Errorf("write pace: %w", err)
	}
	if err := f.Truncate(int64(len(b) + 1)); err != nil {
		return fmt.Errorf("write pace: %w", err)
	}
	return nil
}

// tidy bounds what a clock that was set back can make of the state.
func (s *paceState) tidy(now time.Time, p Pace) {
	if s.Submitted.After(now) {
		s.Submitted = now
	}
	if most := now.Add(time.Duration(p.Burst) * p.Interval); s.Preuploads.After(most) {
		s.Preuploads = most
	}
	for i := range s.Series {
		q := &s.Series[i]
		if ruleOf(&Refusal{Code: q.Code}).scope == holdsNothing {
			*q = series{} // of a version that knows other codes
		}
		q.Count = max(q.Count, 0)
		if q.Until.After(now.Add(longestHold)) {
			q.Until = now.Add(longestHold)
		}
	}
}
