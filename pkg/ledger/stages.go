package ledger

import (
	"context"
	"fmt"

	"github.com/liverec/liverec/pkg/segment"
)

// What control may say: control.Journal.

// Publishing says that the target is about to be asked to show the list with that digest.
func (l *Ledger) Publishing(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string) error {
	return l.record(ctx, "publishing", fmt.Sprintf("session %s on %s", s, t), keeps, func(x *tx) error {
		if digest == "" {
			return refuse("the list has no digest")
		}
		_, err := running(x, s)
		if err != nil {
			return err
		}
		return l.publication(x, s, t, `wanted = excluded.wanted`, digest, "")
	})
}

// publication makes or changes the row of a list. set tells what of an existing row changes.
func (l *Ledger) publication(x *tx, s segment.SessionID, t segment.TargetID, set, wanted, why string) error {
	known, err := one(x, `SELECT 1 FROM targets WHERE id = ?`, []any{string(t)}, new(int))
	if err != nil {
		return err
	}
	if !known {
		return unknown("target %s", t)
	}
	_, err = x.exec(`INSERT INTO publications (session, target, required, wanted, why, since, owner, epoch)
		SELECT s.n, t.n, coalesce((SELECT max(d.required) FROM deliveries d JOIN parts p ON p.n = d.part
			WHERE p.session = s.n AND d.target = t.n), t.required), ?, ?, ?, ?, ? FROM sessions s, targets t WHERE s.id = ? AND t.id = ?
		ON CONFLICT (session, target) DO UPDATE SET `+set+`, since = excluded.since, owner = excluded.owner, epoch = excluded.epoch`,
		wanted, why, micros(l.now()), x.owner, x.epoch, string(s), string(t))
	return err
}

// list is a publication as the transitions need it.
func list(q querier, s segment.SessionID, t segment.TargetID) (p segment.Publication, found bool, err error) {
	found, err = one(q, `SELECT u.wanted, u.shown, u.parts, u.ended, u.why FROM publications u JOIN sessions s ON s.n = u.session
		JOIN targets t ON t.n = u.target WHERE s.id = ? AND t.id = ?`, []any{string(s), string(t)},
		&p.Wanted, &p.Shown, &p.Parts, &p.Ended, &p.Why)
	return p, found, err
}

// Published says that the target shows the list that was last intended, with so many parts. The list never shrinks (I4).
func (l *Ledger) Published(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string, n int, ended bool) error {
	return l.record(ctx, "published", fmt.Sprintf("session %s on %s", s, t), keeps, func(x *tx) error {
		p, found, err := list(x, s, t)
		switch {
		case err != nil:
			return err
		case !found || p.Wanted != digest:
			return refuse("that list was not intended")
		case n < p.Parts:
			return refuse("a list of %d parts was confirmed, this one has %d", p.Parts, n)
		case p.Shown == digest && p.Parts == n && p.Ended == ended && p.Why == "":
			return nil
		}
		_, err = x.exec(`UPDATE publications SET shown = ?, parts = ?, ended = ?, why = '', since = ?, owner = ?, epoch = ?
			WHERE session = (SELECT n FROM sessions WHERE id = ?) AND target = (SELECT n FROM targets WHERE id = ?)`,
			digest, n, ended, micros(l.now()), x.owner, x.epoch, string(s), string(t))
		return err
	})
}

// Named keeps what the target calls the list, or what was learnt about it: the publisher's own note, kept as it is.
func (l *Ledger) Named(ctx context.Context, s segment.SessionID, t segment.TargetID, token string) error {
	return l.record(ctx, "named", fmt.Sprintf("session %s on %s", s, t), keeps, func(x *tx) error {
		n, err := x.exec(`UPDATE publications SET token = ?, since = ?, owner = ?, epoch = ?
			WHERE session = (SELECT n FROM sessions WHERE id = ?) AND target = (SELECT n FROM targets WHERE id = ?)`,
			token, micros(l.now()), x.owner, x.epoch, string(s), string(t))
		if err == nil && n == 0 {
			return refuse("no list of it was ever intended")
		}
		return err
	})
}

// Unpublished says why a list could not be set. What the target shows stays what was last confirmed.
func (l *Ledger) Unpublished(ctx context.Context, s segment.SessionID, t segment.TargetID, why string) error {
	return l.record(ctx, "unpublished", fmt.Sprintf("session %s on %s", s, t), keeps, func(x *tx) error {
		if _, err := session(x, s); err != nil {
			return err
		}
		p, found, err := list(x, s, t)
		if err != nil || found && p.Why == why {
			return err
		}
		return l.publication(x, s, t, `why = excluded.why`, "", why)
	})
}

// Complete marks a session of which nothing is left to do but to free the disk: it has ended, every part is sealed and
// proven on every required target, and each of them shows the whole list with its end.
func (l *Ledger) Complete(ctx context.Context, id segment.SessionID) error {
	return l.record(ctx, "complete", "session "+string(id), keeps, func(x *tx) error {
		s, err := session(x, id)
		if err != nil {
			return err
		}
		if s.Complete {
			return nil
		}
		if s.Ended.IsZero() {
			return refuse("the broadcast has not ended")
		}
		var seq uint32
		open, err := one(x, `SELECT seq FROM parts WHERE session = ? AND sealed = 0`, []any{s.n}, &seq)
		if err != nil {
			return err
		}
		if open {
			return refuse("part %d is still open", seq)
		}
		var t string
		owed, err := one(x, `SELECT p.seq, t.id FROM parts p JOIN deliveries d ON d.part = p.n JOIN targets t ON t.n = d.target
			WHERE p.session = ? AND d.required <> 0 AND d.state <> 'verified' ORDER BY p.seq, t.n`, []any{s.n}, &seq, &t)
		if err != nil {
			return err
		}
		if owed {
			return refuse("part %d is not proven on %s", seq, t)
		}
		hidden, err := one(x, `SELECT t.id FROM parts p JOIN deliveries d ON d.part = p.n JOIN targets t ON t.n = d.target
			LEFT JOIN publications u ON u.session = p.session AND u.target = d.target
			WHERE p.session = ? AND d.required <> 0 GROUP BY t.n
			HAVING coalesce(max(u.ended), 0) = 0 OR coalesce(max(u.parts), 0) < count(*)`, []any{s.n}, &t)
		if err != nil {
			return err
		}
		if hidden {
			return refuse("%s does not show the whole list yet", t)
		}
		if _, err := x.exec(`DELETE FROM notes WHERE session = ?`, s.n); err != nil {
			return err
		}
		_, err = x.exec(`UPDATE sessions SET complete = ?, owner = ?, epoch = ? WHERE n = ?`, micros(l.now()), x.owner, x.epoch, s.n)
		return err
	})
}

// What reclaim may say: reclaim.Journal.

// Reclaiming comes before the file is removed. It is refused unless the part is sealed and ours, and every required
// target has a proof of its whole size on record (I1): they are read in the transaction that records it. Repeating it
// after a crash checks the proofs again (K11).
func (l *Ledger) Reclaiming(ctx context.Context, id segment.ID) error {
	return l.record(ctx, "reclaiming", id.String(), frees, func(x *tx) error {
		p, err := part(x, id)
		if err != nil {
			return err
		}
		switch {
		case p.Foreign:
			return refuse("the file belongs to the user")
		case p.reclaimed != 0:
			return refuse("it is freed already")
		case !p.Sealed:
			return refuse("it is still open")
		}
		var t string
		missing, err := one(x, `SELECT t.id FROM deliveries d JOIN targets t ON t.n = d.target WHERE d.part = ? AND d.required <> 0
			AND (d.state <> 'verified' OR d.proof_at = 0 OR d.proof_size <> ?) ORDER BY t.n`, []any{p.n, p.Size}, &t)
		if err != nil {
			return err
		}
		if missing {
			return refuse("%s has not proven it", t)
		}
		wanted, err := one(x, `SELECT 1 FROM deliveries WHERE part = ? AND required <> 0`, []any{p.n}, new(int))
		if err != nil {
			return err
		}
		if !wanted || p.safe == 0 {
			return refuse("no required target has it")
		}
		if p.reclaiming != 0 {
			return nil
		}
		_, err = x.exec(`UPDATE parts SET reclaiming = ?, owner = ?, epoch = ? WHERE n = ?`, micros(l.now()), x.owner, x.epoch, p.n)
		return err
	})
}

// Reclaimed says that the file is gone. Repeating it is harmless.
func (l *Ledger) Reclaimed(ctx context.Context, id segment.ID) error {
	return l.record(ctx, "reclaimed", id.String(), frees, func(x *tx) error {
		p, err := part(x, id)
		switch {
		case err != nil:
			return err
		case p.reclaimed != 0:
			return nil
		case p.reclaiming == 0:
			return refuse("its removal was not intended")
		}
		now := l.now()
		if _, err := x.exec(`UPDATE parts SET reclaimed = ?, owner = ?, epoch = ? WHERE n = ?`, micros(now), x.owner, x.epoch, p.n); err != nil {
			return err
		}
		return l.forgone(x, p, now)
	})
}
