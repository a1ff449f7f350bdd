// Package recordertest is a ledger in memory for tests of capture: it keeps what a Recorder says, refuses what the real
// ledger refuses, and fails on demand.
//
// It owns records, never files. It is no second implementation of the ledger: only what capture can tell and ask.
package recordertest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

// Journal is the ledger in memory. Its methods may be called from several goroutines.
type Journal struct {
	// Fail is asked before each call, by the name of the method; an error takes the call's place. It may block. Nil:
	// nothing fails. It must not change while calls are made.
	Fail func(ctx context.Context, method string) error
	// Lose is asked after each call that was kept; an error means that the answer is lost.
	Lose func(method string) error

	mu       sync.Mutex
	sessions []*Session
	calls    []string
}

// Session is what is known of one broadcast.
type Session struct {
	segment.Session
	Parts   map[uint32]*Part
	Gaps    []segment.Gap
	Repairs []segment.Repair
	Begun   []string // paths of all parts that were ever begun, also of those that were taken back
	note    []byte
	noteSeq uint32
	Left    bool
}

// Part is what is known of one part.
type Part struct {
	segment.Segment
	Extends []segment.Extent
}

var _ recorder.Journal = (*Journal)(nil)

func (j *Journal) call(ctx context.Context, method string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if j.Fail != nil {
		if err := j.Fail(ctx, method); err != nil {
			return err
		}
	}
	j.mu.Lock()
	err := do()
	if err == nil {
		j.calls = append(j.calls, method)
	}
	j.mu.Unlock()
	if err == nil && j.Lose != nil {
		err = j.Lose(method)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

func (j *Journal) session(id segment.SessionID) (*Session, error) {
	for _, s := range j.sessions {
		if s.ID == id {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no session %s", id)
}

func (j *Journal) part(id segment.ID) (*Session, *Part, error) {
	s, err := j.session(id.Session)
	if err != nil {
		return nil, nil, err
	}
	p := s.Parts[id.Seq]
	if p == nil {
		return nil, nil, fmt.Errorf("no part %s", id)
	}
	return s, p, nil
}

func (s *Session) entry() segment.Entry {
	e := segment.Entry{Session: s.Session, NextSeq: 1, State: slices.Clone(s.note)}
	for _, seq := range slices.Sorted(maps.Keys(s.Parts)) {
		e.NextSeq = seq + 1
		if p := s.Parts[seq]; !p.Sealed {
			if e.Open != nil {
				e.Left = append(e.Left, *e.Open)
			}
			seg := p.Segment
			e.Open = &seg
		}
	}
	return e
}

// Enter finds or makes the session.
func (j *Journal) Enter(ctx context.Context, room segment.Room, live segment.Session, at time.Time, grace time.Duration) (e segment.Entry, err error) {
	err = j.call(ctx, "Enter", func() error {
		for _, s := range slices.Backward(j.sessions) {
			if s.Room.ID == room.ID && s.Session.Ended.IsZero() && at.Sub(s.Heard) <= grace {
				s.Heard = maxTime(s.Heard, at)
				e = s.entry()
				e.Resumed = true
				return nil
			}
		}
		live.ID = segment.SessionID(fmt.Sprintf("S%04d", len(j.sessions)+1))
		live.Room, live.Heard = room, at
		s := &Session{Session: live, Parts: map[uint32]*Part{}}
		j.sessions = append(j.sessions, s)
		e = s.entry()
		return nil
	})
	return e, err
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Unended lists what has not ended.
func (j *Journal) Unended(ctx context.Context) (es []segment.Entry, err error) {
	err = j.call(ctx, "Unended", func() error {
		for _, s := range j.sessions {
			if s.Session.Ended.IsZero() {
				es = append(es, s.entry())
			}
		}
		return nil
	})
	return es, err
}

// Begin adds a part. Only the one before it may be open.
func (j *Journal) Begin(ctx context.Context, g segment.Segment) error {
	return j.call(ctx, "Begin", func() error {
		s, err := j.session(g.ID.Session)
		if err != nil {
			return err
		}
		e := s.entry()
		switch {
		case e.Open != nil && e.Open.ID == g.ID && e.Open.Path == g.Path && e.Open.Size == 0:
			return nil
		case !s.Session.Ended.IsZero():
			return fmt.Errorf("%s has ended", s.ID)
		case g.ID.Seq != e.NextSeq:
			return fmt.Errorf("begin %s: the next part is %d", g.ID, e.NextSeq)
		case len(e.Left) > 0:
			return fmt.Errorf("begin %s: %s is still open", g.ID, e.Left[0].ID)
		}
		s.Parts[g.ID.Seq] = &Part{Segment: g}
		s.Begun = append(s.Begun, g.Path)
		return nil
	})
}

// Extend moves the durable length, which never shrinks.
func (j *Journal) Extend(ctx context.Context, id segment.ID, x segment.Extent) error {
	return j.call(ctx, "Extend", func() error {
		s, p, err := j.part(id)
		switch {
		case err != nil:
			return err
		case p.Sealed:
			return fmt.Errorf("%s is sealed", id)
		case x.Durable < p.Size:
			return fmt.Errorf("%s: %d bytes are durable, not only %d", id, p.Size, x.Durable)
		}
		p.Size, p.Duration, p.VideoFrames, p.AudioFrames = x.Durable, x.Duration, x.VideoFrames, x.AudioFrames
		p.Extends = append(p.Extends, x)
		s.Heard = maxTime(s.Heard, x.At)
		if x.State != nil && id.Seq >= s.noteSeq {
			s.note, s.noteSeq = slices.Clone(x.State), id.Seq
		}
		return nil
	})
}

// Seal closes a part. The same seal again is harmless.
func (j *Journal) Seal(ctx context.Context, g segment.Segment) error {
	return j.call(ctx, "Seal", func() error {
		_, p, err := j.part(g.ID)
		switch {
		case err != nil:
			return err
		case p.Sealed && p.Size == g.Size && p.SHA256 == g.SHA256:
			return nil
		case p.Sealed:
			return fmt.Errorf("%s is sealed otherwise", g.ID)
		case g.Size <= 0 || g.SHA256.IsZero() || g.Path != p.Path || g.Cut == segment.CutNone:
			return fmt.Errorf("%s cannot be sealed as %+v", g.ID, g)
		case g.Size < p.Size:
			return fmt.Errorf("%s shrinks from %d to %d bytes", g.ID, p.Size, g.Size)
		}
		g.Sealed = true
		p.Segment = g
		return nil
	})
}

// Void takes the newest part back.
func (j *Journal) Void(ctx context.Context, id segment.ID) error {
	return j.call(ctx, "Void", func() error {
		s, p, err := j.part(id)
		switch {
		case err != nil:
			return err
		case p.Sealed:
			return fmt.Errorf("%s is sealed", id)
		case s.entry().NextSeq != id.Seq+1:
			return fmt.Errorf("%s is not the newest", id)
		}
		delete(s.Parts, id.Seq)
		return nil
	})
}

// Miss keeps a gap. There is one gap per place: the newest word on it counts.
func (j *Journal) Miss(ctx context.Context, g segment.Gap) error {
	return j.call(ctx, "Miss", func() error {
		s, err := j.session(g.Session)
		if err != nil {
			return err
		}
		s.Gaps = slices.DeleteFunc(s.Gaps, func(o segment.Gap) bool { return o.AfterSeq == g.AfterSeq && o.AtMedia == g.AtMedia })
		s.Gaps = append(s.Gaps, g)
		return nil
	})
}

// Mend keeps a repair.
func (j *Journal) Mend(ctx context.Context, r segment.Repair) error {
	return j.call(ctx, "Mend", func() error {
		s, err := j.session(r.Session)
		if err == nil && !slices.Contains(s.Repairs, r) {
			s.Repairs = append(s.Repairs, r)
		}
		return err
	})
}

// Leave ends a session. No part may be open.
func (j *Journal) Leave(ctx context.Context, id segment.SessionID, at time.Time, a segment.Account) error {
	return j.call(ctx, "Leave", func() error {
		s, err := j.session(id)
		if err != nil {
			return err
		}
		if e := s.entry(); e.Open != nil {
			return fmt.Errorf("leave %s: %s is still open", id, e.Open.ID)
		}
		if s.Session.Ended.IsZero() {
			s.Session.Ended = cmp.Or(at, s.Heard)
		}
		s.Account, s.Left, s.note = a, true, nil
		return nil
	})
}

// Sessions is a copy of everything, oldest first.
func (j *Journal) Sessions() []Session {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Session, len(j.sessions))
	for i, s := range j.sessions {
		out[i] = *s
		out[i].Parts = map[uint32]*Part{}
		for k, p := range s.Parts {
			c := *p
			c.Extends = slices.Clone(p.Extends)
			out[i].Parts[k] = &c
		}
		out[i].Gaps, out[i].Repairs, out[i].Begun = slices.Clone(s.Gaps), slices.Clone(s.Repairs), slices.Clone(s.Begun)
	}
	return out
}

// Calls are the methods that were heard, in order.
func (j *Journal) Calls() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.calls)
}

// Segments are the parts of a session, by Seq.
func (s Session) Segments() []segment.Segment {
	var out []segment.Segment
	for _, seq := range slices.Sorted(maps.Keys(s.Parts)) {
		out = append(out, s.Parts[seq].Segment)
	}
	return out
}
