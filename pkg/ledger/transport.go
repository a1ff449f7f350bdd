package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// What transport may say: uploader.Journal.

// way is a delivery with its part, as the transitions need it.
type way struct {
	part     partRow
	delivery segment.Delivery
	n        int64
}

func (l *Ledger) way(q querier, t segment.TargetID, id segment.ID) (way, error) {
	var w way
	found := false
	sc := newScanner()
	err := each(q, func(r *sql.Rows) error {
		found = true
		if err := w.part.scan(r, sc.dest...); err != nil {
			return err
		}
		var err error
		w.delivery, w.n, err = sc.delivery()
		return err
	}, `SELECT `+partCols+`, `+deliveryCols+`FROM sessions s JOIN parts p ON p.session = s.n JOIN deliveries d ON d.part = p.n
		JOIN targets t ON t.n = d.target WHERE s.id = ? AND p.seq = ? AND t.id = ?`, string(id.Session), id.Seq, string(t))
	if err == nil && !found {
		err = unknown("delivery of %s to %s", id, t)
	}
	return w, err
}

// may refuses a transition that the states do not have. A parked delivery goes on from where it stood.
func (w way) may(to segment.DeliveryState) error {
	from := w.delivery.State
	if !from.CanBecome(to) {
		return refuse("it is %s and cannot become %s", from, to)
	}
	if from == segment.Parked && to != segment.Parked && to != segment.Due && !w.delivery.Before.CanBecome(to) {
		return refuse("it was parked while it was %s and cannot become %s", w.delivery.Before, to)
	}
	return nil
}

// size is how long the file is that is sent.
func (w way) size() int64 {
	if w.delivery.Instead.Path != "" {
		return w.delivery.Instead.Size
	}
	return w.part.Size
}

// moving runs a transition of one delivery.
func (l *Ledger) moving(ctx context.Context, op string, t segment.TargetID, id segment.ID, f func(x *tx, w way) error) error {
	return l.record(ctx, op, id.String()+" to "+string(t), keeps, func(x *tx) error {
		w, err := l.way(x, t, id)
		if err != nil {
			return err
		}
		return f(x, w)
	})
}

// Opening says that an upload with chunks of that size is about to be opened.
func (l *Ledger) Opening(ctx context.Context, t segment.TargetID, id segment.ID, chunk int64) error {
	return l.moving(ctx, "opening", t, id, func(x *tx, w way) error {
		if err := w.may(segment.Opening); err != nil {
			return err
		}
		if w.part.reclaiming != 0 {
			return refuse("its file is freed")
		}
		if chunk < 0 {
			return refuse("a chunk of %d bytes", chunk)
		}
		if w.delivery.State == segment.Opening && w.delivery.Chunk == chunk {
			return nil
		}
		_, err := x.exec(`UPDATE deliveries SET state = 'opening', before = '', chunk = ?, token = '', since = ?, owner = ?, epoch = ?
			WHERE n = ?`, chunk, micros(l.now()), x.owner, x.epoch, w.n)
		return err
	})
}

// Opened says that the upload is called token. Acks of another upload are forgotten.
func (l *Ledger) Opened(ctx context.Context, t segment.TargetID, id segment.ID, token string) error {
	return l.moving(ctx, "opened", t, id, func(x *tx, w way) error {
		if err := w.may(segment.Uploading); err != nil {
			return err
		}
		if w.delivery.State == segment.Uploading && w.delivery.Token == token {
			return nil
		}
		if w.delivery.Token != token {
			if _, err := x.exec(`DELETE FROM acks WHERE delivery = ?`, w.n); err != nil {
				return err
			}
		}
		_, err := x.exec(`UPDATE deliveries SET state = 'uploading', before = '', token = ?, since = ?, owner = ?, epoch = ? WHERE n = ?`,
			token, micros(l.now()), x.owner, x.epoch, w.n)
		return err
	})
}

// Acked says that the target accepted a chunk of the upload that is under way; the newest ack of an index counts. An ack
// that comes while the delivery is parked is kept, and one that comes after Committing takes it back to Uploading: the
// target said that it lacks something.
func (l *Ledger) Acked(ctx context.Context, t segment.TargetID, id segment.ID, a segment.Ack) error {
	return l.moving(ctx, "acked", t, id, func(x *tx, w way) error {
		state := w.delivery.State
		if state == segment.Parked {
			state = w.delivery.Before
		}
		switch {
		case state != segment.Uploading && state != segment.Committing:
			return refuse("it is %s: no upload is under way", w.delivery.State)
		case a.Index < 0 || a.Offset < 0 || a.Length <= 0:
			return refuse("chunk %d at %d with %d bytes", a.Index, a.Offset, a.Length)
		case w.delivery.Chunk > 0 && (a.Offset != int64(a.Index)*w.delivery.Chunk || a.Length > w.delivery.Chunk):
			return refuse("chunk %d at %d with %d bytes is none of an upload in chunks of %d", a.Index, a.Offset, a.Length, w.delivery.Chunk)
		case w.part.Sealed && a.Offset+a.Length > w.size():
			return refuse("chunk %d ends at %d, the part has %d bytes", a.Index, a.Offset+a.Length, w.size())
		}
		if w.delivery.State == segment.Committing {
			if _, err := x.exec(`UPDATE deliveries SET state = 'uploading', since = ?, owner = ?, epoch = ? WHERE n = ?`,
				micros(l.now()), x.owner, x.epoch, w.n); err != nil {
				return err
			}
		}
		_, err := x.exec(`INSERT INTO acks (delivery, idx, off, len, tag, sum, owner, epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (delivery, idx) DO UPDATE SET off = excluded.off, len = excluded.len, tag = excluded.tag, sum = excluded.sum,
			owner = excluded.owner, epoch = excluded.epoch`, w.n, a.Index, a.Offset, a.Length, a.Tag, a.Sum, x.owner, x.epoch)
		return err
	})
}

// Committing says that the object is about to be completed. The part must be sealed.
func (l *Ledger) Committing(ctx context.Context, t segment.TargetID, id segment.ID) error {
	return l.moving(ctx, "committing", t, id, func(x *tx, w way) error {
		if err := w.may(segment.Committing); err != nil {
			return err
		}
		if !w.part.Sealed {
			return refuse("the part is still open")
		}
		if w.delivery.State == segment.Committing {
			return nil
		}
		_, err := x.exec(`UPDATE deliveries SET state = 'committing', before = '', since = ?, owner = ?, epoch = ? WHERE n = ?`,
			micros(l.now()), x.owner, x.epoch, w.n)
		return err
	})
}

// Committed says that the target calls the object complete.
func (l *Ledger) Committed(ctx context.Context, t segment.TargetID, id segment.ID, r segment.Receipt) error {
	return l.moving(ctx, "committed", t, id, func(x *tx, w way) error {
		if err := w.may(segment.Committed); err != nil {
			return err
		}
		if w.delivery.State == segment.Committed && w.delivery.Receipt == r {
			return nil
		}
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = x.exec(`UPDATE deliveries SET state = 'committed', before = '', receipt = ?, since = ?, owner = ?, epoch = ? WHERE n = ?`,
			string(b), micros(l.now()), x.owner, x.epoch, w.n)
		return err
	})
}

// Verified says that the target was asked anew and has the object whole. The proof must be about as many bytes as the
// part has. With the last required proof the part is safe. What was only needed on the way (token, acks) is forgotten.
func (l *Ledger) Verified(ctx context.Context, t segment.TargetID, id segment.ID, p segment.Proof) error {
	return l.moving(ctx, "verified", t, id, func(x *tx, w way) error {
		if err := w.may(segment.Verified); err != nil {
			return err
		}
		if !w.part.Sealed || p.Size != w.part.Size {
			return refuse("the proof is about %d bytes, the part has %d", p.Size, w.part.Size)
		}
		now := l.now()
		if p.At.IsZero() {
			p.At = now
		}
		if _, err := x.exec(`DELETE FROM acks WHERE delivery = ?`, w.n); err != nil {
			return err
		}
		since := micros(now)
		if w.delivery.State == segment.Verified {
			since = micros(w.delivery.Since)
		}
		if _, err := x.exec(`UPDATE deliveries SET state = 'verified', before = '', token = '', why = '', proof_size = ?, proof_sum = ?,
			proof_how = ?, proof_at = ?, since = ?, owner = ?, epoch = ? WHERE n = ?`,
			p.Size, p.Sum, p.How, micros(p.At), since, x.owner, x.epoch, w.n); err != nil {
			return err
		}
		_, err := x.exec(`UPDATE parts SET safe = ?, owner = ?, epoch = ? WHERE n = ? AND safe = 0
			AND EXISTS (SELECT 1 FROM deliveries d WHERE d.part = parts.n AND d.required <> 0)
			AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.part = parts.n AND d.required <> 0 AND d.state <> 'verified')`,
			micros(now), x.owner, x.epoch, w.part.n)
		return err
	})
}

// Listing says that the target was asked anew and has the object whole, on a target where that is no proof yet: its list
// has to show the part first. The delivery stays Committed and is not due any more. What was only needed on the way is
// forgotten.
func (l *Ledger) Listing(ctx context.Context, t segment.TargetID, id segment.ID) error {
	return l.moving(ctx, "listing", t, id, func(x *tx, w way) error {
		switch {
		case w.delivery.State != segment.Committed:
			return refuse("it is %s: the target has not completed it", w.delivery.State)
		case !w.delivery.Stored.IsZero():
			return nil
		}
		if _, err := x.exec(`DELETE FROM acks WHERE delivery = ?`, w.n); err != nil {
			return err
		}
		now := micros(l.now())
		_, err := x.exec(`UPDATE deliveries SET token = '', why = '', stored = ?, since = ?, owner = ?, epoch = ? WHERE n = ?`,
			now, now, x.owner, x.epoch, w.n)
		return err
	})
}

// Again takes a delivery back to Due: the target was asked and has neither the object nor a usable upload. It is refused
// once the removal of our file has begun.
func (l *Ledger) Again(ctx context.Context, t segment.TargetID, id segment.ID, why string) error {
	return l.moving(ctx, "again", t, id, func(x *tx, w way) error { return l.again(x, w, why) })
}

// Instead takes a delivery back to Due as Again does; from now on a copy is sent in the place of the part's own file.
func (l *Ledger) Instead(ctx context.Context, t segment.TargetID, id segment.ID, c segment.Copy, why string) error {
	return l.moving(ctx, "instead", t, id, func(x *tx, w way) error {
		switch {
		case !w.part.Sealed || w.part.Foreign:
			return refuse("only a sealed part of ours has copies")
		case c.Path == "" || c.Size <= 0:
			return refuse("a copy without a name or without bytes")
		case w.delivery.Instead == c && w.delivery.State == segment.Due:
			return nil
		case w.delivery.Instead.Path != "":
			return refuse("there is a copy already: %s", w.delivery.Instead.Path)
		}
		if err := l.again(x, w, why); err != nil {
			return err
		}
		b, err := json.Marshal(c)
		if err != nil {
			return err
		}
		_, err = x.exec(`UPDATE deliveries SET instead = ? WHERE n = ?`, string(b), w.n)
		return err
	})
}

// again is the change that Again and Instead have in common.
func (l *Ledger) again(x *tx, w way, why string) error {
	if w.part.reclaiming != 0 {
		return refuse("our file is freed: there is nothing to send again")
	}
	if err := w.may(segment.Due); err != nil {
		return err
	}
	if w.delivery.State == segment.Due && w.delivery.Why == why {
		return nil
	}
	if _, err := x.exec(`DELETE FROM acks WHERE delivery = ?`, w.n); err != nil {
		return err
	}
	if _, err := x.exec(`UPDATE deliveries SET state = 'due', before = '', chunk = 0, token = '', receipt = '', stored = 0, proof_size = 0,
		proof_sum = '', proof_how = '', proof_at = 0, why = ?, since = ?, owner = ?, epoch = ? WHERE n = ?`,
		why, micros(l.now()), x.owner, x.epoch, w.n); err != nil {
		return err
	}
	if !w.delivery.Required {
		return nil
	}
	_, err := x.exec(`UPDATE parts SET safe = 0, owner = ?, epoch = ? WHERE n = ? AND safe <> 0`, x.owner, x.epoch, w.part.n)
	return err
}

// Parked sets a delivery aside until a person or a timer helps. Everything that was reached stays.
func (l *Ledger) Parked(ctx context.Context, t segment.TargetID, id segment.ID, why string) error {
	return l.moving(ctx, "parked", t, id, func(x *tx, w way) error {
		if err := w.may(segment.Parked); err != nil {
			return err
		}
		return l.park(x, w, why)
	})
}

func (l *Ledger) park(x *tx, w way, why string) error {
	before, since := w.delivery.State, micros(l.now())
	if before == segment.Parked {
		if w.delivery.Why == why {
			return nil
		}
		before, since = w.delivery.Before, micros(w.delivery.Since)
	}
	_, err := x.exec(`UPDATE deliveries SET state = 'parked', before = ?, why = ?, since = ?, owner = ?, epoch = ? WHERE n = ?`,
		string(before), why, since, x.owner, x.epoch, w.n)
	return err
}

// Unparked lets a delivery go on from where it stood when it was parked. One that is not parked stays as it is.
func (l *Ledger) Unparked(ctx context.Context, t segment.TargetID, id segment.ID) error {
	return l.moving(ctx, "unparked", t, id, func(x *tx, w way) error {
		if w.delivery.State != segment.Parked {
			return nil
		}
		if w.part.reclaiming != 0 {
			return refuse("our file is freed: there is nothing to send")
		}
		_, err := x.exec(`UPDATE deliveries SET state = before, before = '', since = ?, owner = ?, epoch = ? WHERE n = ?`,
			micros(l.now()), x.owner, x.epoch, w.n)
		return err
	})
}

// UnparkAll lets every parked delivery go on, for `liverec resume`. It tells how many there were.
func (l *Ledger) UnparkAll(ctx context.Context) (int, error) {
	var n int64
	err := l.record(ctx, "unparked", "everything", keeps, func(x *tx) (err error) {
		n, err = x.exec(`UPDATE deliveries SET state = before, before = '', since = ?, owner = ?, epoch = ? WHERE state = 'parked'
			AND part IN (SELECT n FROM parts WHERE reclaiming = 0)`, micros(l.now()), x.owner, x.epoch)
		return err
	})
	if err != nil {
		return 0, err
	}
	return int(n), nil
}

// forgone says of the deliveries that a freed part still owed that nothing will come of them.
func (l *Ledger) forgone(x *tx, p partRow, now time.Time) error {
	_, err := x.exec(`UPDATE deliveries SET before = iif(state = 'parked', before, state), state = 'parked', since = ?, owner = ?, epoch = ?,
		why = 'our file was freed after all required targets had it' WHERE part = ? AND state <> 'verified'`,
		micros(now), x.owner, x.epoch, p.n)
	return err
}
