package ledger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"

	"github.com/liverec/liverec/pkg/segment"
)

// What capture may say: recorder.Journal.

// Enter says that the room was found live at this moment and answers with the session to go on in: the room's newest
// one that has not ended, if it was heard no longer than grace ago, else a new one. live names the new one: its Name
// gets a number if another session has it, its Title, Streamer and Started are taken as they are.
func (l *Ledger) Enter(ctx context.Context, room segment.Room, live segment.Session, at time.Time, grace time.Duration) (segment.Entry, error) {
	var e segment.Entry
	err := l.record(ctx, "enter", "room "+string(room.ID), grows, func(t *tx) error {
		if room.ID == "" {
			return refuse("the room has no name")
		}
		ss, err := sessions(t, `WHERE s.room = ? AND s.ended = 0 ORDER BY s.n DESC LIMIT 1`, string(room.ID))
		if err != nil {
			return err
		}
		if len(ss) == 1 && !ss[0].fenced && at.Sub(ss[0].Heard) <= grace {
			if e, err = entry(t, ss[0]); err != nil {
				return err
			}
			if at.After(e.Session.Heard) {
				e.Session.Heard = moment(micros(at))
				_, err = t.exec(`UPDATE sessions SET heard = ?, owner = ?, epoch = ? WHERE n = ?`, micros(at), t.owner, t.epoch, ss[0].n)
			}
			return err
		}
		live.Room = room
		s, err := l.addSession(t, live, at)
		e = segment.Entry{Session: s.Session, NextSeq: 1}
		return err
	})
	if err != nil {
		return segment.Entry{}, err
	}
	return e, nil
}

// addSession makes a session that was first heard at this moment.
func (l *Ledger) addSession(t *tx, s segment.Session, at time.Time) (sessionRow, error) {
	id, err := ulid.New(ulid.Timestamp(at), rand.Reader)
	if err != nil {
		return sessionRow{}, fmt.Errorf("name a session that begins at %v: %w", at, err)
	}
	s.ID = segment.SessionID(id.String())
	if s.Started.IsZero() {
		s.Started = at
	}
	s.Started, s.Heard, s.Ended, s.Complete, s.Account = moment(micros(s.Started)), moment(micros(at)), time.Time{}, false, segment.Account{}
	if s.Name, err = freeName(t, s); err != nil {
		return sessionRow{}, err
	}
	n, err := t.insert(`INSERT INTO sessions (id, room, url, room_name, site, streamer, title, name, started, heard, owner, epoch)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, string(s.ID), string(s.Room.ID), s.Room.URL, s.Room.Name, s.Room.Site,
		s.Streamer, s.Title, s.Name, micros(s.Started), micros(at), t.owner, t.epoch)
	return sessionRow{Session: s, n: n}, err
}

// freeName is the session's name, with a number behind it if it is taken: "name (2)". Case does not tell names apart,
// since on some targets it does not tell folders apart.
func freeName(q querier, s segment.Session) (string, error) {
	base := s.Name
	if base == "" {
		base = string(s.ID)
	}
	for i := 1; ; i++ {
		name := base
		if i > 1 {
			name = numbered(base, i)
		}
		taken, err := one(q, `SELECT 1 FROM sessions WHERE name = ?`, []any{name}, new(int))
		if err != nil {
			return "", err
		}
		if !taken {
			return name, nil
		}
	}
}

// numbered keeps the last component within the 255 bytes that file systems take.
func numbered(name string, i int) string {
	suffix := fmt.Sprintf(" (%d)", i)
	dir, last := path.Split(name)
	for len(last)+len(suffix) > 240 {
		_, n := utf8.DecodeLastRuneInString(last)
		last = last[:len(last)-n]
	}
	return dir + last + suffix
}

// Begin comes before the file exists. It also makes one delivery for each target of the run. Parts are numbered without
// a hole; beside the new part only the one before it may be open still. Beginning the same part again is harmless while
// nothing was written to it.
func (l *Ledger) Begin(ctx context.Context, s segment.Segment) error {
	return l.record(ctx, "begin", s.ID.String(), grows, func(t *tx) error {
		sess, err := session(t, s.ID.Session)
		if err != nil {
			return err
		}
		e, err := entry(t, sess)
		if err != nil {
			return err
		}
		switch {
		case e.Open != nil && e.Open.ID == s.ID && e.Open.Path == s.Path && e.Open.Size == 0:
			return nil // the answer was lost
		case !sess.Ended.IsZero():
			return refuse("the broadcast is over")
		case sess.fenced:
			return refuse("the broadcast is known from a copy of a damaged ledger only: nothing is added to it")
		case s.ID.Seq != e.NextSeq:
			return refuse("the next part is number %d", e.NextSeq)
		case s.Path == "" || s.Foreign:
			return refuse("it needs a path below the data folder")
		case len(e.Left) > 0:
			return refuse("%s is still open", e.Left[0].ID)
		}
		_, err = l.addPart(t, sess, s, 0)
		return err
	})
}

// addPart makes a part and its deliveries, sealed at a moment or open.
func (l *Ledger) addPart(t *tx, sess sessionRow, s segment.Segment, sealed int64) (int64, error) {
	sum := []byte{}
	if sealed != 0 {
		sum = s.SHA256[:]
	}
	now := l.now()
	heard := int64(0)
	if sealed == 0 && !s.Start.After(now) {
		heard = micros(s.Start)
	}
	n, err := t.insert(`INSERT INTO parts (session, seq, path, is_foreign, start, duration, size, head, sha256, video, audio,
		content, cut, keep, heard, sealed, owner, epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		sess.n, s.ID.Seq, s.Path, s.Foreign, micros(s.Start), s.Duration.Microseconds(), s.Size, s.Head, sum, s.VideoFrames,
		s.AudioFrames, int64(s.Content), string(s.Cut), l.plan(sess.Room.ID).Keep.Microseconds(), heard, sealed, t.owner, t.epoch)
	if err != nil {
		return 0, err
	}
	return n, l.deliver(t, n, sess, s)
}

// deliver makes the deliveries of a part to the targets of its room, or of the run, that it does not have yet.
func (l *Ledger) deliver(t *tx, part int64, sess sessionRow, s segment.Segment) error {
	for _, d := range l.plan(sess.Room.ID).Targets {
		n, err := t.exec(`INSERT INTO deliveries (part, target, required, key, since, owner, epoch)
			VALUES (?, (SELECT n FROM targets WHERE id = ?), ?, ?, ?, ?, ?) ON CONFLICT (part, target) DO NOTHING`,
			part, string(d.ID), d.Required, sess.Name+"/"+s.ID.Base()+extension(s.Path), micros(l.now()), t.owner, t.epoch)
		if err == nil && n > 0 && d.Required {
			_, err = t.exec(`UPDATE parts SET safe = 0 WHERE n = ? AND safe <> 0`, part) // one more has to have it
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// extension is what a part's file name ends in, if it is an ordinary one: a foreign file may be called anything.
func extension(p string) string {
	ext := path.Ext(p)
	if len(ext) < 2 || len(ext) > 9 || strings.Trim(ext[1:], "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return ""
	}
	return strings.ToLower(ext)
}

// Extend comes after an fsync. It may be skipped: recovery measures the file. What is durable never shrinks (I2).
func (l *Ledger) Extend(ctx context.Context, id segment.ID, e segment.Extent) error {
	return l.record(ctx, "extend", id.String(), grows, func(t *tx) error {
		n, err := t.exec(`UPDATE parts SET size = ?1, duration = ?2, video = ?3, audio = ?4, heard = max(heard, ?5), owner = ?6,
			epoch = ?7 WHERE session = (SELECT n FROM sessions WHERE id = ?8) AND seq = ?9 AND sealed = 0 AND size <= ?1`,
			e.Durable, e.Duration.Microseconds(), e.VideoFrames, e.AudioFrames, micros(e.At), t.owner, t.epoch, string(id.Session), id.Seq)
		if err != nil {
			return err
		}
		if n == 0 {
			p, err := part(t, id)
			if err != nil {
				return err
			}
			if p.Sealed {
				return refuse("it is sealed")
			}
			return refuse("%d bytes of it are durable, not only %d", p.Size, e.Durable)
		}
		if e.State == nil {
			return nil
		}
		_, err = t.exec(`INSERT INTO notes (session, seq, state, owner, epoch) VALUES ((SELECT n FROM sessions WHERE id = ?), ?, ?, ?, ?)
			ON CONFLICT (session) DO UPDATE SET seq = excluded.seq, state = excluded.state, owner = excluded.owner,
			epoch = excluded.epoch WHERE excluded.seq >= seq`, string(id.Session), id.Seq, e.State, t.owner, t.epoch)
		return err
	})
}

// Seal comes after fsync, rename and fsync of the folder, and after the SHA-256 is known. Repeating it with the same
// size and sum is harmless, with others it is refused. If the file turns out to be shorter than what was once durable
// (the disk lied), whatever was sent of it is void and its deliveries begin anew.
func (l *Ledger) Seal(ctx context.Context, s segment.Segment) error {
	return l.record(ctx, "seal", s.ID.String(), keeps, func(t *tx) error {
		p, err := part(t, s.ID)
		if err != nil {
			return err
		}
		switch {
		case p.Sealed && p.Size == s.Size && p.SHA256 == s.SHA256:
			return nil
		case p.Sealed:
			return refuse("it is sealed already, with %d bytes and SHA-256 %s", p.Size, p.SHA256)
		case s.Size <= 0 || s.SHA256.IsZero():
			return refuse("a sealed part has a size and a SHA-256")
		case s.Path != "" && s.Path != p.Path:
			return refuse("it lies at %s, not at %s", p.Path, s.Path)
		}
		now := micros(l.now())
		if s.Size < p.Size {
			_, err := t.exec(`DELETE FROM acks WHERE delivery IN (SELECT n FROM deliveries WHERE part = ?)`, p.n)
			if err != nil {
				return err
			}
			_, err = t.exec(`UPDATE deliveries SET state = 'due', before = '', chunk = 0, token = '', stored = 0, since = ?, owner = ?, epoch = ?,
				why = 'the file is shorter than what was on the disk once' WHERE part = ? AND state <> 'due'`, now, t.owner, t.epoch, p.n)
			if err != nil {
				return err
			}
			l.log.Error().Str("session", string(s.ID.Session)).Uint32("seq", s.ID.Seq).Int64("durable", p.Size).
				Int64("bytes", s.Size).Msg("the file is shorter than what was on the disk once")
		}
		_, err = t.exec(`UPDATE parts SET start = ?, duration = ?, size = ?, head = ?, sha256 = ?, video = ?, audio = ?, content = ?,
			cut = ?, sealed = ?, owner = ?, epoch = ? WHERE n = ?`, micros(s.Start), s.Duration.Microseconds(), s.Size, s.Head,
			s.SHA256[:], s.VideoFrames, s.AudioFrames, int64(s.Content), string(s.Cut), now, t.owner, t.epoch, p.n)
		return err
	})
}

// Void takes back a segment that holds no media: the newest one, not sealed. Its number is used again.
func (l *Ledger) Void(ctx context.Context, id segment.ID) error {
	return l.record(ctx, "void", id.String(), keeps, func(t *tx) error {
		p, err := part(t, id)
		if err != nil {
			return err
		}
		if p.Sealed {
			return refuse("it is sealed")
		}
		later, err := one(t, `SELECT 1 FROM parts WHERE session = ? AND seq > ?`, []any{p.session, id.Seq}, new(int))
		if err != nil {
			return err
		}
		if later {
			return refuse("a later part was begun")
		}
		for _, q := range []string{
			`DELETE FROM acks WHERE delivery IN (SELECT n FROM deliveries WHERE part = ?)`,
			`DELETE FROM deliveries WHERE part = ?`,
			`DELETE FROM parts WHERE n = ?`,
		} {
			if _, err := t.exec(q, p.n); err != nil {
				return err
			}
		}
		return nil
	})
}

// Miss keeps a gap. There is one at each place (session, part, media time): where the story is told again, with another
// length or reason, since nothing came between two failures or since a crash lay between, the newest word holds. A
// session has mostRows of them at the most: see fold.
func (l *Ledger) Miss(ctx context.Context, g segment.Gap) error {
	return l.record(ctx, "miss", "session "+string(g.Session), keeps, func(t *tx) error {
		s, err := running(t, g.Session)
		if err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM gaps WHERE session = ? AND after_seq = ? AND at_media = ?`, s.n, g.AfterSeq, g.AtMedia.Microseconds()); err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO gaps (session, after_seq, at, at_media, length, why, owner, epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			s.n, g.AfterSeq, micros(g.At), g.AtMedia.Microseconds(), g.Length.Microseconds(), g.Why, t.owner, t.epoch)
		if err != nil {
			return err
		}
		return l.fold(t, s.n, "gaps", "why", "length = length + (SELECT length FROM gaps WHERE n = ?2),")
	})
}

// Mend keeps a repair. The same repair again is harmless. A session has mostRows of them at the most: see fold.
func (l *Ledger) Mend(ctx context.Context, r segment.Repair) error {
	return l.record(ctx, "mend", "session "+string(r.Session), keeps, func(t *tx) error {
		s, err := running(t, r.Session)
		if err != nil {
			return err
		}
		n, err := t.exec(`INSERT INTO repairs (session, seq, at_media, what, owner, epoch) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT DO NOTHING`, s.n, r.Seq, r.AtMedia.Microseconds(), r.What, t.owner, t.epoch)
		if err != nil || n == 0 {
			return err
		}
		return l.fold(t, s.n, "repairs", "what", "")
	})
}

// mostRows is how many gaps, and how many repairs, a session has at the most: a hostile stream can make one of each
// with every frame, and all of them are read for each manifest, which has some 3 MB of them then.
const mostRows = 10_000

// fold keeps the rows of a session within mostRows after one was added: the newest row stays as it is, since it may be
// told again, the one before it goes into the one before that, whose text counts what it has swallowed. The lengths of
// gaps add up, so that what is missing stays true.
func (l *Ledger) fold(t *tx, session int64, table, text, sum string) error {
	var rows int
	if _, err := one(t, `SELECT count(*) FROM `+table+` WHERE session = ?`, []any{session}, &rows); err != nil || rows <= l.most {
		return err
	}
	// The newest rows of all are most likely those of this session: no index, and no sorting.
	var into, gone int64
	var was string
	newest := ` FROM ` + table + ` WHERE +session = ? ORDER BY n DESC LIMIT 1 OFFSET `
	if _, err := one(t, `SELECT n`+newest+`1`, []any{session}, &gone); err != nil {
		return err
	}
	if _, err := one(t, `SELECT n, `+text+newest+`2`, []any{session}, &into, &was); err != nil {
		return err
	}
	if _, err := t.exec(`UPDATE OR IGNORE `+table+` SET `+sum+` `+text+` = ?3 WHERE n = ?1`, into, gone, swallowed(was)); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM `+table+` WHERE n = ?`, gone)
	return err
}

const swallowing = "; and %d more, too many to list"

// swallowed is the text of a row that takes in one more.
func swallowed(text string) string {
	n := 0
	if i := strings.LastIndex(text, "; and "); i >= 0 {
		if _, err := fmt.Sscanf(text[i:], swallowing, &n); err == nil && text[i:] == fmt.Sprintf(swallowing, n) {
			text = text[:i]
		}
	}
	return text + fmt.Sprintf(swallowing, n+1)
}

// running is a session of which something may still be told.
func running(t *tx, id segment.SessionID) (sessionRow, error) {
	s, err := session(t, id)
	if err == nil && s.Complete {
		err = refuse("the broadcast is complete")
	}
	return s, err
}

// Leave says that the broadcast is over: at is when its last frame was heard (zero: when the room was last heard). a is
// the balance of the session. No part may be open. Repeating it renews the balance only.
func (l *Ledger) Leave(ctx context.Context, id segment.SessionID, at time.Time, a segment.Account) error {
	return l.record(ctx, "leave", "session "+string(id), keeps, func(t *tx) error {
		s, err := session(t, id)
		if err != nil {
			return err
		}
		account, err := json.Marshal(a)
		if err != nil {
			return err
		}
		switch {
		case s.Complete && s.Account == a:
			return nil
		case s.Complete:
			return refuse("the broadcast is complete")
		case !s.Ended.IsZero():
			at = s.Ended
		case at.IsZero():
			at = s.Heard
		}
		open, err := parts(t, `WHERE p.session = ? AND p.sealed = 0`, s.n)
		if err != nil {
			return err
		}
		if len(open) > 0 {
			return refuse("%s is still open", open[0].ID)
		}
		if _, err := t.exec(`UPDATE sessions SET ended = ?, account = ?, owner = ?, epoch = ? WHERE n = ?`,
			micros(at), string(account), t.owner, t.epoch, s.n); err != nil {
			return err
		}
		_, err = t.exec(`DELETE FROM notes WHERE session = ?`, s.n)
		return err
	})
}
