package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/token"
)

// What a service keeps beside its recordings: the rooms of its page, the tokens of its API; and what its page lists.

// ErrExists says that there is such a room or token already.
var ErrExists = errors.New("it is there already")

// PageRoom is a room that was added on the page. What its settings mean is the caller's.
type PageRoom struct {
	ID       segment.RoomID
	Settings string // JSON
	Added    time.Time
}

// AddRoom keeps a room of the page. ErrExists: there is one with that ID and other settings.
func (l *Ledger) AddRoom(ctx context.Context, r PageRoom) error {
	return l.record(ctx, "the page's", "room "+string(r.ID), keeps, func(t *tx) error {
		if r.ID == "" {
			return refuse("the room has no name")
		}
		var was string
		there, err := one(t, `SELECT settings FROM page_rooms WHERE id = ?`, []any{string(r.ID)}, &was)
		switch {
		case err != nil:
			return err
		case there && was == r.Settings:
			return nil // the answer was lost
		case there:
			return twice("room", string(r.ID))
		case r.Added.IsZero():
			r.Added = l.now()
		}
		_, err = t.exec(`INSERT INTO page_rooms (id, settings, added, owner, epoch) VALUES (?, ?, ?, ?, ?)`,
			string(r.ID), r.Settings, micros(r.Added), t.owner, t.epoch)
		return err
	})
}

func twice(what, id string) error {
	return fmt.Errorf("%s %s: %w: %w", what, id, ErrRefused, ErrExists)
}

// ChangeRoom gives a room of the page other settings. ErrUnknown: there is none with that ID.
func (l *Ledger) ChangeRoom(ctx context.Context, id segment.RoomID, settings string) error {
	return l.record(ctx, "the page's", "room "+string(id), keeps, func(t *tx) error {
		n, err := t.exec(`UPDATE page_rooms SET settings = ?, owner = ?, epoch = ? WHERE id = ?`, settings, t.owner, t.epoch, string(id))
		if err == nil && n == 0 {
			err = unknown("room %s of the page", id)
		}
		return err
	})
}

// RemoveRoom forgets a room of the page, if it is there. What was recorded of it stays.
func (l *Ledger) RemoveRoom(ctx context.Context, id segment.RoomID) error {
	return l.record(ctx, "remove the page's", "room "+string(id), keeps, func(t *tx) error {
		_, err := t.exec(`DELETE FROM page_rooms WHERE id = ?`, string(id))
		return err
	})
}

// PageRooms lists the rooms of the page as they were added.
func (v *view) PageRooms(ctx context.Context) ([]PageRoom, error) {
	var out []PageRoom
	err := v.ask(ctx, "the rooms of the page", func(q querier) error {
		return each(q, func(r *sql.Rows) error {
			var p PageRoom
			var added int64
			if err := r.Scan(&p.ID, &p.Settings, &added); err != nil {
				return err
			}
			p.Added = moment(added)
			out = append(out, p)
			return nil
		}, `SELECT id, settings, added FROM page_rooms ORDER BY n`)
	})
	return out, err
}

// AddToken keeps a token whose ID and Hash nobody has.
func (l *Ledger) AddToken(ctx context.Context, k token.Token) error {
	return l.record(ctx, "token", k.ID, keeps, func(t *tx) error {
		there, err := one(t, `SELECT 1 FROM tokens WHERE id = ? OR hash = ?`, []any{k.ID, k.Hash[:]}, new(int))
		switch {
		case err != nil:
			return err
		case there:
			return twice("token", k.ID)
		case k.ID == "":
			return refuse("the token has no name")
		}
		_, err = t.exec(`INSERT INTO tokens (id, name, scope, hash, made, used, owner, epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			k.ID, k.Name, string(k.Scope), k.Hash[:], micros(k.Made), micros(k.Used), t.owner, t.epoch)
		return err
	})
}

const tokenCols = `SELECT id, name, scope, hash, made, used FROM tokens `

func tokens(q querier, tail string, args ...any) ([]token.Token, error) {
	var out []token.Token
	err := each(q, func(r *sql.Rows) error {
		var k token.Token
		var hash sql.RawBytes
		var made, used int64
		if err := r.Scan(&k.ID, &k.Name, &k.Scope, &hash, &made, &used); err != nil {
			return err
		}
		copy(k.Hash[:], hash)
		k.Made, k.Used = moment(made), moment(used)
		out = append(out, k)
		return nil
	}, tokenCols+tail, args...)
	return out, err
}

// Tokens lists the tokens, oldest first.
func (v *view) Tokens(ctx context.Context) (out []token.Token, err error) {
	err = v.ask(ctx, "the tokens", func(q querier) error {
		out, err = tokens(q, `ORDER BY n`)
		return err
	})
	return out, err
}

// RemoveToken forgets a token; false if there was none.
func (l *Ledger) RemoveToken(ctx context.Context, id string) (bool, error) {
	found := false
	err := l.record(ctx, "remove", "token "+id, keeps, func(t *tx) error {
		n, err := t.exec(`DELETE FROM tokens WHERE id = ?`, id)
		found = n > 0
		return err
	})
	return found && err == nil, err
}

// usedEvery is how exactly it is known when a token was last used.
const usedEvery = time.Minute

// UseToken finds the token with a hash and notes the moment as its Used, if the one on record is older than a minute;
// false if there is none.
func (l *Ledger) UseToken(ctx context.Context, h token.Hash, at time.Time) (token.Token, bool, error) {
	var found []token.Token
	err := l.ask(ctx, "a token", func(q querier) (err error) {
		found, err = tokens(q, `WHERE hash = ?`, h[:])
		return err
	})
	if err != nil || len(found) == 0 {
		return token.Token{}, false, err
	}
	k := found[0]
	if at.Sub(k.Used) < usedEvery {
		return k, true, nil
	}
	// Not on record is no reason to keep anybody out.
	if err := l.record(ctx, "use of", "token "+k.ID, keeps, func(t *tx) error {
		_, err := t.exec(`UPDATE tokens SET used = ?, owner = ?, epoch = ? WHERE id = ?`, micros(at), t.owner, t.epoch, k.ID)
		return err
	}); err != nil {
		l.log.Warn().Err(err).Str("token", k.ID).Msg("when a token was last used is not on record")
	}
	k.Used = moment(micros(at))
	return k, true, nil
}

// Sum is a broadcast in a list.
type Sum struct {
	segment.Session
	Parts     int
	Safe      int // with every required proof
	Reclaimed int // gone from the disk
	Size      int64
	Duration  time.Duration
	Gaps      int
	GapTime   time.Duration
}

// List is a page of the broadcasts of a room ("": of all), newest first: at most so many, older than after ("": from the
// newest). more reports whether there are still older ones. ErrUnknown: there is no broadcast after.
func (v *view) List(ctx context.Context, room segment.RoomID, after segment.SessionID, most int) (out []Sum, more bool, err error) {
	err = v.ask(ctx, "a list of broadcasts", func(q querier) error {
		before := int64(1 << 62)
		if after != "" {
			there, err := one(q, `SELECT n FROM sessions WHERE id = ?`, []any{string(after)}, &before)
			if err != nil {
				return err
			}
			if !there {
				return unknown("session %s", after)
			}
		}
		tail, args := `WHERE s.n < ? ORDER BY s.n DESC LIMIT ?`, []any{before, most + 1}
		if room != "" {
			tail, args = `WHERE s.room = ? AND s.n < ? ORDER BY s.n DESC LIMIT ?`, []any{string(room), before, most + 1}
		}
		ss, err := sessions(q, tail, args...)
		if err != nil {
			return err
		}
		if more = len(ss) > most; more {
			ss = ss[:most]
		}
		for _, s := range ss {
			sum := Sum{Session: s.Session}
			var duration, gaps int64
			if _, err := one(q, `SELECT count(*), coalesce(sum(safe <> 0), 0), coalesce(sum(reclaimed <> 0), 0), coalesce(sum(size), 0),
				coalesce(sum(duration), 0) FROM parts WHERE session = ?`, []any{s.n}, &sum.Parts, &sum.Safe, &sum.Reclaimed, &sum.Size, &duration); err != nil {
				return err
			}
			if _, err := one(q, `SELECT count(*), coalesce(sum(length), 0) FROM gaps WHERE session = ?`, []any{s.n}, &sum.Gaps, &gaps); err != nil {
				return err
			}
			sum.Duration, sum.GapTime = span(duration), span(gaps)
			out = append(out, sum)
		}
		return nil
	})
	return out, more, err
}

// RoomNamed finds the ID under which broadcasts of a room of that name are kept, the newest one; "" if there is none.
func (v *view) RoomNamed(ctx context.Context, name string) (id segment.RoomID, err error) {
	err = v.ask(ctx, "a room", func(q querier) error {
		_, err := one(q, `SELECT id FROM rooms WHERE name = ? ORDER BY since DESC LIMIT 1`, []any{name}, &id)
		return err
	})
	return id, err
}

// Census counts the parts of everybody by where they are.
type Census struct {
	Open      int64 // being recorded
	Unsafe    int64 // closed, and a required proof is missing
	Safe      int64 // every required proof is there, the file still lies on the disk
	Reclaimed int64 // safe, and gone from the disk
}

// Census counts. It looks at what lies on the disk row by row, and at the rest by their number only.
func (v *view) Census(ctx context.Context) (c Census, err error) {
	err = v.ask(ctx, "how many parts there are", func(q querier) error {
		var all, here int64
		if _, err := one(q, `SELECT count(*) FROM parts`, nil, &all); err != nil {
			return err
		}
		_, err := one(q, `SELECT count(*), coalesce(sum(sealed = 0), 0), coalesce(sum(sealed <> 0 AND safe = 0), 0), coalesce(sum(sealed <> 0 AND safe <> 0), 0)
			FROM parts WHERE reclaimed = 0`, nil, &here, &c.Open, &c.Unsafe, &c.Safe)
		c.Reclaimed = all - here
		return err
	})
	return c, err
}

// Part is one segment. ErrUnknown: there is none with that ID.
func (v *view) Part(ctx context.Context, id segment.ID) (s segment.Segment, err error) {
	err = v.ask(ctx, "part "+id.String(), func(q querier) error {
		p, err := part(q, id)
		s = p.Segment
		return err
	})
	return s, err
}
