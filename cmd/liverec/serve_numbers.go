package main

import (
	"context"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/metrics"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

const (
	// countEvery is how old a number may be that the ledger has to count.
	countEvery = 15 * time.Second
	// mostReasons is how many reasons of gaps a room has in the metrics; what comes then is "other".
	mostReasons = 20
)

// tally counts what the metrics want to know and nobody else keeps.
type tally struct {
	mu      sync.Mutex // guards what is below
	missing map[segment.RoomID]map[string]float64
	last    map[segment.SessionID]segment.Gap // the newest of each, which may be told again
	rooms   map[segment.SessionID]segment.RoomID

	census ledger.Census
	unsafe map[segment.RoomID]time.Time
	at     time.Time
}

func newTally() *tally {
	return &tally{missing: map[segment.RoomID]map[string]float64{}, last: map[segment.SessionID]segment.Gap{}, rooms: map[segment.SessionID]segment.RoomID{}}
}

// counted is the journal of capture, with the gaps counted on their way.
type counted struct {
	recorder.Journal
	t *tally
}

// Enter learns whose session it is.
func (c counted) Enter(ctx context.Context, room segment.Room, live segment.Session, at time.Time, grace time.Duration) (segment.Entry, error) {
	e, err := c.Journal.Enter(ctx, room, live, at, grace)
	if err == nil {
		c.t.mu.Lock()
		c.t.rooms[e.Session.ID] = room.ID
		c.t.mu.Unlock()
	}
	return e, err
}

// Miss counts.
func (c counted) Miss(ctx context.Context, g segment.Gap) error {
	err := c.Journal.Miss(ctx, g)
	if err == nil {
		c.t.miss(g)
	}
	return err
}

// Leave forgets the session.
func (c counted) Leave(ctx context.Context, id segment.SessionID, at time.Time, a segment.Account) error {
	err := c.Journal.Leave(ctx, id, at, a)
	if err == nil {
		c.t.mu.Lock()
		delete(c.t.last, id)
		delete(c.t.rooms, id)
		c.t.mu.Unlock()
	}
	return err
}

func (t *tally) miss(g segment.Gap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	room, known := t.rooms[g.Session]
	if !known {
		return // of a session that was recovered
	}
	length := g.Length
	if was, ok := t.last[g.Session]; ok && was.AfterSeq == g.AfterSeq && was.AtMedia == g.AtMedia {
		length = max(length-was.Length, 0) // the same one, told anew
	}
	t.last[g.Session] = g
	m := t.missing[room]
	if m == nil {
		m = map[string]float64{}
		t.missing[room] = m
	}
	why := reasonOf(g.Why)
	if _, ok := m[why]; !ok && len(m) >= mostReasons {
		why = "other"
	}
	m[why] += length.Seconds()
}

// reasonOf makes a reason that stands for many: without numbers and addresses.
func reasonOf(why string) string {
	why, _, _ = strings.Cut(why, ": ")
	fields := strings.Fields(why)
	for i, f := range fields {
		if strings.ContainsFunc(f, unicode.IsDigit) || strings.Contains(f, "/") {
			fields[i] = "…"
		}
	}
	return strings.Join(fields, " ")
}

// numbers are made from what is at hand; the ledger is asked every few seconds at the most.
func (s *service) numbers(ctx context.Context) (metrics.Numbers, error) {
	n := metrics.Numbers{Parts: map[metrics.PartState]int64{}}
	t := s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Sub(t.at) >= countEvery {
		c, err := s.h.led.Census(ctx)
		if err != nil {
			return n, err
		}
		u, err := s.h.led.Unsafe(ctx)
		if err != nil {
			return n, err
		}
		t.census, t.unsafe, t.at = c, u.Began, now
	}
	n.Parts[metrics.Open], n.Parts[metrics.Unsafe], n.Parts[metrics.Safe], n.Parts[metrics.Freed] = t.census.Open, t.census.Unsafe, t.census.Safe, t.census.Reclaimed
	for _, m := range s.crew.all() {
		r := metrics.Room{Room: m.room.Name, MissingTotal: map[string]float64{}}
		for why, sec := range t.missing[m.room.ID] {
			r.MissingTotal[why] = sec
		}
		if at := t.unsafe[m.room.ID]; !at.IsZero() {
			r.OldestUnsafe = max(now.Sub(at).Seconds(), 0)
		}
		if rec := m.rec.Load(); rec != nil {
			r.ReceivedTotal = rec.Snapshot().Received
		}
		n.Rooms = append(n.Rooms, r)
	}
	for _, l := range s.transport.Stats() {
		n.Targets = append(n.Targets, metrics.Target{Target: string(l.Target), UploadedTotal: l.Sent, RetriesTotal: l.Retries})
	}
	return n, nil
}
