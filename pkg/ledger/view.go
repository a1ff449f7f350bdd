package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// querier asks: the writer within its transaction, or a question within its snapshot.
type querier interface {
	rows(query string, args ...any) (*sql.Rows, error)
}

// view answers questions, each from one snapshot. It never changes anything.
type view struct {
	db   *sql.DB
	gate func() error // why nothing is answered any more; nil: it always is
	free chan *tx     // the connections that no question has now, each with its own statements; never closed
}

// serve makes room for n questions at a time. A connection is opened when it is needed first.
func (v *view) serve(db *sql.DB, n int) {
	v.db, v.free = db, make(chan *tx, n)
	for range n {
		v.free <- &tx{}
	}
}

// close waits for the questions that are under way. Whoever asks later gets an error.
func (v *view) close() error {
	all := make([]*tx, cap(v.free))
	for i := range all {
		all[i] = <-v.free
		all[i].drop()
	}
	err := v.db.Close()
	for _, t := range all {
		v.free <- t // nobody waits for ever
	}
	return err
}

// drop gives the connection back. The next question on this place opens another.
func (t *tx) drop() {
	t.forget()
	if t.conn != nil {
		t.conn.Close() // nothing was written on it
		t.conn = nil
	}
}

// ask runs f in one snapshot. A question takes milliseconds, so ctx limits only the waiting for its turn.
func (v *view) ask(ctx context.Context, what string, f func(q querier) error) error {
	if err := v.snapshot(ctx, f); err != nil {
		return fmt.Errorf("ask the ledger for %s: %w", what, err)
	}
	return nil
}

func (v *view) snapshot(ctx context.Context, f func(q querier) error) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var t *tx
	select {
	case t = <-v.free:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { v.free <- t }()
	if v.gate != nil {
		if err := v.gate(); err != nil {
			return err
		}
	}
	if t.conn == nil {
		if t.conn, err = v.db.Conn(background); err != nil {
			return err
		}
		t.stmts = map[string]*sql.Stmt{}
	}
	if err := t.control(`BEGIN`); err != nil {
		t.drop()
		return err
	}
	err = f(t)
	if rerr := t.control(`ROLLBACK`); rerr != nil {
		t.drop()
		if err == nil {
			err = rerr
		}
	}
	return err
}

// each calls scan for every row.
func each(q querier, scan func(r *sql.Rows) error, query string, args ...any) error {
	r, err := q.rows(query, args...)
	if err != nil {
		return err
	}
	defer r.Close()
	for r.Next() {
		if err := scan(r); err != nil {
			return err
		}
	}
	return r.Err()
}

// one reads the first row into dest and tells whether there was one.
func one(q querier, query string, args []any, dest ...any) (bool, error) {
	found := false
	err := each(q, func(r *sql.Rows) error {
		if found {
			return nil
		}
		found = true
		return r.Scan(dest...)
	}, query, args...)
	return found, err
}

// sessionRow is a session with what only the ledger needs of it.
type sessionRow struct {
	segment.Session
	n      int64
	fenced bool
}

const sessionCols = `s.n, s.id, s.room, s.url, s.room_name, s.site, s.streamer, s.title, s.name, s.started,
	max(s.heard, coalesce((SELECT max(h.heard) FROM parts h WHERE h.session = s.n), 0)),
	s.ended, s.complete, s.fenced, s.account FROM sessions s `

func sessions(q querier, tail string, args ...any) ([]sessionRow, error) {
	var out []sessionRow
	err := each(q, func(r *sql.Rows) error {
		var s sessionRow
		var started, heard, ended, complete int64
		var account string
		if err := r.Scan(&s.n, &s.ID, &s.Room.ID, &s.Room.URL, &s.Room.Name, &s.Room.Site, &s.Streamer, &s.Title, &s.Name,
			&started, &heard, &ended, &complete, &s.fenced, &account); err != nil {
			return err
		}
		s.Started, s.Heard, s.Ended, s.Complete = moment(started), moment(heard), moment(ended), complete != 0
		if account != "" {
			if err := json.Unmarshal([]byte(account), &s.Account); err != nil {
				return fmt.Errorf("read the account of session %s: %w", s.ID, err)
			}
		}
		out = append(out, s)
		return nil
	}, `SELECT `+sessionCols+tail, args...)
	return out, err
}

func session(q querier, id segment.SessionID) (sessionRow, error) {
	ss, err := sessions(q, `WHERE s.id = ?`, string(id))
	if err != nil {
		return sessionRow{}, err
	}
	if len(ss) == 0 {
		return sessionRow{}, unknown("session %s", id)
	}
	return ss[0], nil
}

// partRow is a segment with what only the ledger needs of it.
type partRow struct {
	segment.Segment
	n, session      int64
	keep            time.Duration
	sealed          int64
	safe            int64
	reclaiming      int64
	reclaimed       int64
	sessionEnded    int64
	sessionComplete int64
}

const partCols = `p.n, p.session, s.id, p.seq, s.room, p.path, p.is_foreign, p.start, p.duration, p.size, p.head, p.sha256,
	p.video, p.audio, p.content, p.cut, p.keep, p.sealed, p.safe, p.reclaiming, p.reclaimed, s.ended, s.complete `

// scan reads partCols, and more behind them.
func (p *partRow) scan(r *sql.Rows, more ...any) error {
	var start, duration, keep, content int64
	var sum sql.RawBytes
	dest := append([]any{&p.n, &p.session, &p.ID.Session, &p.ID.Seq, &p.Room, &p.Path, &p.Foreign, &start, &duration, &p.Size,
		&p.Head, &sum, &p.VideoFrames, &p.AudioFrames, &content, &p.Cut, &keep, &p.sealed, &p.safe, &p.reclaiming, &p.reclaimed,
		&p.sessionEnded, &p.sessionComplete}, more...)
	if err := r.Scan(dest...); err != nil {
		return err
	}
	p.Start, p.Duration, p.keep, p.Content = moment(start), span(duration), span(keep), uint64(content)
	copy(p.SHA256[:], sum)
	p.Sealed = p.sealed != 0
	return nil
}

func parts(q querier, tail string, args ...any) ([]partRow, error) {
	var out []partRow
	err := each(q, func(r *sql.Rows) error {
		var p partRow
		if err := p.scan(r); err != nil {
			return err
		}
		out = append(out, p)
		return nil
	}, `SELECT `+partCols+`FROM parts p JOIN sessions s ON s.n = p.session `+tail, args...)
	return out, err
}

func part(q querier, id segment.ID) (partRow, error) {
	ps, err := parts(q, `WHERE s.id = ? AND p.seq = ?`, string(id.Session), id.Seq)
	if err != nil {
		return partRow{}, err
	}
	if len(ps) == 0 {
		return partRow{}, noPart(id)
	}
	return ps[0], nil
}

const deliveryCols = `d.n, t.id, d.required, d.key, d.state, d.before, d.chunk, d.token, d.receipt, d.proof_size, d.proof_sum,
	d.proof_how, d.proof_at, d.why, d.since, d.stored, d.instead `

// deliveryRow is a delivery with its row.
type deliveryRow struct {
	segment.Delivery
	n int64
}

// scanner keeps the destinations of one delivery row, so that they are made once per question.
type scanner struct {
	d            deliveryRow
	receipt      string
	instead      string
	proof, since int64
	stored       int64
	dest         []any
}

func newScanner() *scanner {
	s := &scanner{}
	d := &s.d
	s.dest = []any{&d.n, &d.Target, &d.Required, &d.Key, &d.State, &d.Before, &d.Chunk, &d.Token, &s.receipt, &d.Proof.Size,
		&d.Proof.Sum, &d.Proof.How, &s.proof, &d.Why, &s.since, &s.stored, &s.instead}
	return s
}

func (s *scanner) delivery() (segment.Delivery, int64, error) {
	d := s.d.Delivery
	d.Receipt = segment.Receipt{}
	if s.receipt != "" {
		if err := json.Unmarshal([]byte(s.receipt), &d.Receipt); err != nil {
			return d, 0, fmt.Errorf("read the receipt of %s: %w", d.Key, err)
		}
	}
	d.Instead = segment.Copy{}
	if s.instead != "" {
		if err := json.Unmarshal([]byte(s.instead), &d.Instead); err != nil {
			return d, 0, fmt.Errorf("read what is sent in the place of %s: %w", d.Key, err)
		}
	}
	d.Proof.At, d.Since, d.Stored = moment(s.proof), moment(s.since), moment(s.stored)
	return d, s.d.n, nil
}

// acks reads the acks of the deliveries that a query names (its first column), by row and index.
func acks(q querier, where string, args ...any) (map[int64][]segment.Ack, error) {
	out := map[int64][]segment.Ack{}
	err := each(q, func(r *sql.Rows) error {
		var n int64
		var a segment.Ack
		if err := r.Scan(&n, &a.Index, &a.Offset, &a.Length, &a.Tag, &a.Sum); err != nil {
			return err
		}
		out[n] = append(out[n], a)
		return nil
	}, `SELECT a.delivery, a.idx, a.off, a.len, a.tag, a.sum FROM acks a WHERE a.delivery IN (`+where+`) ORDER BY a.delivery, a.idx`, args...)
	return out, err
}

// Due lists what still has to go to a target: every delivery that is not Verified, oldest session first, then by Seq,
// open segments among them. A part whose file was freed is not listed: nothing can be sent of it; neither is one that is
// stored and waits for the target's list.
func (v *view) Due(ctx context.Context, t segment.TargetID) ([]segment.Delivery, error) {
	var out []segment.Delivery
	err := v.ask(ctx, "what is due to "+string(t), func(q querier) error {
		var rows []int64
		sc := newScanner()
		err := each(q, func(r *sql.Rows) error {
			var p partRow
			if err := p.scan(r, sc.dest...); err != nil {
				return err
			}
			d, n, err := sc.delivery()
			if err != nil {
				return err
			}
			d.Segment = p.Segment
			out, rows = append(out, d), append(rows, n)
			return nil
		}, `SELECT `+partCols+`, `+deliveryCols+`FROM targets t JOIN deliveries d ON d.target = t.n
			JOIN parts p ON p.n = d.part JOIN sessions s ON s.n = p.session
			WHERE t.id = ? AND d.state <> 'verified' AND d.stored = 0 AND p.reclaiming = 0 ORDER BY p.session, p.seq`, string(t))
		if err != nil || len(out) == 0 {
			return err
		}
		all, err := acks(q, `SELECT d.n FROM deliveries d JOIN targets t ON t.n = d.target WHERE t.id = ? AND d.state <> 'verified'`, string(t))
		for i, n := range rows {
			out[i].Acks = all[n]
		}
		return err
	})
	return out, err
}

// broadcast gathers everything about one session.
func broadcast(q querier, s sessionRow) (segment.Broadcast, error) {
	b := segment.Broadcast{
		Session: s.Session, Deliveries: map[segment.TargetID][]segment.Delivery{},
		Publications: map[segment.TargetID]segment.Publication{}, Reclaimed: map[uint32]time.Time{},
	}
	ps, err := parts(q, `WHERE p.session = ? ORDER BY p.seq`, s.n)
	if err != nil {
		return b, err
	}
	place := make(map[int64]int, len(ps))
	for i, p := range ps {
		place[p.n] = i
		b.Segments = append(b.Segments, p.Segment)
		if p.reclaimed != 0 {
			b.Reclaimed[p.ID.Seq] = moment(p.reclaimed)
		}
	}
	all, err := acks(q, `SELECT d.n FROM deliveries d JOIN parts p ON p.n = d.part WHERE p.session = ? AND d.state <> 'verified'`, s.n)
	if err != nil {
		return b, err
	}
	sc := newScanner()
	var row int64
	err = each(q, func(r *sql.Rows) error {
		if err := r.Scan(append([]any{&row}, sc.dest...)...); err != nil {
			return err
		}
		d, n, err := sc.delivery()
		if err != nil {
			return err
		}
		d.Segment, d.Acks = b.Segments[place[row]], all[n]
		b.Deliveries[d.Target] = append(b.Deliveries[d.Target], d)
		return nil
	}, `SELECT d.part, `+deliveryCols+`FROM parts p JOIN deliveries d ON d.part = p.n JOIN targets t ON t.n = d.target
		WHERE p.session = ? ORDER BY p.seq, t.n`, s.n)
	if err != nil {
		return b, err
	}
	err = each(q, func(r *sql.Rows) error {
		g := segment.Gap{Session: s.ID}
		var at, media, length int64
		if err := r.Scan(&g.AfterSeq, &at, &media, &length, &g.Why); err != nil {
			return err
		}
		g.At, g.AtMedia, g.Length = moment(at), span(media), span(length)
		b.Gaps = append(b.Gaps, g)
		return nil
	}, `SELECT after_seq, at, at_media, length, why FROM gaps WHERE session = ? ORDER BY after_seq, at_media, n`, s.n)
	if err != nil {
		return b, err
	}
	err = each(q, func(r *sql.Rows) error {
		m := segment.Repair{Session: s.ID}
		var media int64
		if err := r.Scan(&m.Seq, &media, &m.What); err != nil {
			return err
		}
		m.AtMedia = span(media)
		b.Repairs = append(b.Repairs, m)
		return nil
	}, `SELECT seq, at_media, what FROM repairs WHERE session = ? ORDER BY seq, at_media, n`, s.n)
	if err != nil {
		return b, err
	}
	err = each(q, func(r *sql.Rows) error {
		p := segment.Publication{Session: s.ID}
		if err := r.Scan(&p.Target, &p.Required, &p.Wanted, &p.Shown, &p.Parts, &p.Ended, &p.Token, &p.Why); err != nil {
			return err
		}
		b.Publications[p.Target] = p
		return nil
	}, `SELECT t.id, u.required, u.wanted, u.shown, u.parts, u.ended, u.token, u.why
		FROM publications u JOIN targets t ON t.n = u.target WHERE u.session = ?`, s.n)
	return b, err
}

func broadcasts(q querier, tail string, args ...any) ([]segment.Broadcast, error) {
	ss, err := sessions(q, tail, args...)
	if err != nil {
		return nil, err
	}
	out := make([]segment.Broadcast, 0, len(ss))
	for _, s := range ss {
		b, err := broadcast(q, s)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// Active lists the sessions that are not complete, oldest first.
func (v *view) Active(ctx context.Context) (out []segment.Broadcast, err error) {
	err = v.ask(ctx, "the active broadcasts", func(q querier) error {
		out, err = broadcasts(q, `WHERE s.complete = 0 ORDER BY s.n`)
		return err
	})
	return out, err
}

// Broadcasts lists the newest sessions with everything that is known of them, the newest last; limit 0 means all.
func (v *view) Broadcasts(ctx context.Context, limit int) (out []segment.Broadcast, err error) {
	err = v.ask(ctx, "the broadcasts", func(q querier) error {
		out, err = broadcasts(q, newest, most(limit))
		return err
	})
	return out, err
}

const newest = `WHERE s.n IN (SELECT n FROM sessions ORDER BY n DESC LIMIT ?) ORDER BY s.n`

func most(limit int) int {
	if limit <= 0 {
		return -1
	}
	return limit
}

// Sessions lists the newest sessions, the newest last; limit 0 means all.
func (v *view) Sessions(ctx context.Context, limit int) ([]segment.Session, error) {
	var out []segment.Session
	err := v.ask(ctx, "the sessions", func(q querier) error {
		ss, err := sessions(q, newest, most(limit))
		for _, s := range ss {
			out = append(out, s.Session)
		}
		return err
	})
	return out, err
}

// Broadcast tells everything about one session. ErrUnknown: there is none.
func (v *view) Broadcast(ctx context.Context, id segment.SessionID) (b segment.Broadcast, err error) {
	err = v.ask(ctx, "broadcast "+string(id), func(q querier) error {
		s, err := session(q, id)
		if err != nil {
			return err
		}
		b, err = broadcast(q, s)
		return err
	})
	return b, err
}

// Find is the broadcast whose id begins with prefix, in any case. ErrUnknown: none does; ErrAmbiguous: several do.
func (v *view) Find(ctx context.Context, prefix string) (b segment.Broadcast, err error) {
	err = v.ask(ctx, "a broadcast", func(q querier) error {
		p := strings.ToUpper(strings.TrimSpace(prefix))
		if p == "" || strings.Trim(p, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
			return unknown("broadcast %q", prefix)
		}
		ss, err := sessions(q, `WHERE s.id >= ? AND s.id < ? ORDER BY s.id LIMIT 3`, p, p+"~")
		switch {
		case err != nil:
			return err
		case len(ss) == 0:
			return unknown("broadcast %q", prefix)
		case len(ss) > 1:
			return fmt.Errorf("broadcast %q: %w: %s, %s …", prefix, ErrAmbiguous, ss[0].ID, ss[1].ID)
		}
		b, err = broadcast(q, ss[0])
		return err
	})
	return b, err
}

// entry is where a session goes on.
func entry(q querier, s sessionRow) (segment.Entry, error) {
	e := segment.Entry{Session: s.Session, Resumed: true, NextSeq: 1}
	if _, err := one(q, `SELECT coalesce(max(seq), 0) + 1 FROM parts WHERE session = ?`, []any{s.n}, &e.NextSeq); err != nil {
		return e, err
	}
	open, err := parts(q, `WHERE p.session = ? AND p.sealed = 0 ORDER BY p.seq`, s.n)
	if err != nil {
		return e, err
	}
	for i, p := range open {
		if i == len(open)-1 && p.ID.Seq+1 == e.NextSeq {
			e.Open = &open[i].Segment
		} else {
			e.Left = append(e.Left, p.Segment)
		}
	}
	_, err = one(q, `SELECT state FROM notes WHERE session = ?`, []any{s.n}, &e.State)
	return e, err
}

// Unended lists the sessions of all rooms that have not ended, oldest first, each with what a crash left open.
func (v *view) Unended(ctx context.Context) ([]segment.Entry, error) {
	var out []segment.Entry
	err := v.ask(ctx, "the sessions that have not ended", func(q querier) error {
		ss, err := sessions(q, `WHERE s.ended = 0 ORDER BY s.n`)
		if err != nil {
			return err
		}
		for _, s := range ss {
			e, err := entry(q, s)
			if err != nil {
				return err
			}
			out = append(out, e)
		}
		return nil
	})
	return out, err
}

// Holdings lists the sealed segments of ours that still lie on the disk, oldest first, the ones whose removal has begun
// among them.
func (v *view) Holdings(ctx context.Context) ([]segment.Holding, error) {
	var out []segment.Holding
	err := v.ask(ctx, "what lies on the disk", func(q querier) error {
		ps, err := parts(q, `WHERE p.reclaimed = 0 AND p.sealed <> 0 AND p.is_foreign = 0 ORDER BY p.session, p.seq`)
		if err != nil || len(ps) == 0 {
			return err
		}
		place := make(map[int64]int, len(ps))
		for i, p := range ps {
			place[p.n] = i
			out = append(out, segment.Holding{
				Segment: p.Segment, Keep: p.keep, SafeAt: moment(p.safe), Reclaiming: p.reclaiming != 0,
				Proofs: map[segment.TargetID]segment.Proof{},
			})
		}
		return each(q, func(r *sql.Rows) error {
			var row, at int64
			var t segment.TargetID
			var required bool
			var proof segment.Proof
			var instead string
			if err := r.Scan(&row, &t, &required, &proof.Size, &proof.Sum, &proof.How, &at, &instead); err != nil {
				return err
			}
			i, here := place[row]
			if !here {
				return nil
			}
			if instead != "" {
				out[i].Copies = append(out[i].Copies, instead)
			}
			if required {
				out[i].Required = append(out[i].Required, t)
			}
			if at != 0 {
				proof.At = moment(at)
				out[i].Proofs[t] = proof
			}
			return nil
		}, `SELECT d.part, t.id, d.required, d.proof_size, d.proof_sum, d.proof_how, d.proof_at, coalesce(json_extract(nullif(d.instead, ''), '$.path'), '')
			FROM parts p JOIN deliveries d ON d.part = p.n JOIN targets t ON t.n = d.target
			WHERE p.reclaimed = 0 AND p.sealed <> 0 AND p.is_foreign = 0 ORDER BY d.part, t.n`)
	})
	return out, err
}

// Targets lists every destination that was ever in use, the first one first.
func (v *view) Targets(ctx context.Context) ([]segment.Destination, error) {
	var out []segment.Destination
	err := v.ask(ctx, "the targets", func(q querier) error {
		return each(q, func(r *sql.Rows) error {
			var d segment.Destination
			if err := r.Scan(&d.ID, &d.Spec, &d.Required); err != nil {
				return err
			}
			out = append(out, d)
			return nil
		}, `SELECT id, spec, required FROM targets ORDER BY n`)
	})
	return out, err
}

// Backlog is what a destination still lacks.
type Backlog struct {
	segment.Destination
	Parts  int       // deliveries that are not verified and can still be sent, the parked ones among them
	Bytes  int64     // their size
	Parked int       // those that wait for a person
	Oldest time.Time // start of the oldest such part
	Why    string    // why the newest parked one is parked
}

// Backlogs lists every destination that was ever in use, with what it still lacks.
func (v *view) Backlogs(ctx context.Context) ([]Backlog, error) {
	var out []Backlog
	err := v.ask(ctx, "what the targets lack", func(q querier) error {
		return each(q, func(r *sql.Rows) error {
			var b Backlog
			var oldest int64
			if err := r.Scan(&b.ID, &b.Spec, &b.Required, &b.Parts, &b.Bytes, &b.Parked, &oldest, &b.Why); err != nil {
				return err
			}
			b.Oldest = moment(oldest)
			out = append(out, b)
			return nil
		}, `SELECT t.id, t.spec, t.required, count(x.n), coalesce(sum(x.size), 0), coalesce(sum(x.state = 'parked'), 0),
				coalesce(min(x.start), 0),
				coalesce((SELECT k.why FROM deliveries k JOIN parts kp ON kp.n = k.part WHERE k.target = t.n AND k.state = 'parked'
					AND k.state <> 'verified' AND kp.reclaiming = 0 ORDER BY k.since DESC LIMIT 1), '')
			FROM targets t LEFT JOIN (SELECT d.n, d.target, d.state, p.size, p.start FROM deliveries d JOIN parts p ON p.n = d.part
				WHERE d.state <> 'verified' AND p.reclaiming = 0) x ON x.target = t.n
			GROUP BY t.n ORDER BY t.n`)
	})
	return out, err
}

// Unsafe is media that is here and safe nowhere else: open or sealed, not every required target has proven it, and not
// a file of the user's own.
type Unsafe struct {
	Bytes  int64
	Parts  int
	Oldest time.Time // start of the oldest such part; zero if there is none
	Rooms  map[segment.RoomID]int64
	Began  map[segment.RoomID]time.Time // start of the oldest such part of each room
}

// Unsafe sums the media that is here and safe nowhere else.
func (v *view) Unsafe(ctx context.Context) (Unsafe, error) {
	u := Unsafe{Rooms: map[segment.RoomID]int64{}, Began: map[segment.RoomID]time.Time{}}
	err := v.ask(ctx, "what is safe nowhere else", func(q querier) error {
		return each(q, func(r *sql.Rows) error {
			var room segment.RoomID
			var n int
			var bytes, oldest int64
			if err := r.Scan(&room, &n, &bytes, &oldest); err != nil {
				return err
			}
			u.Rooms[room], u.Began[room] = bytes, moment(oldest)
			u.Bytes += bytes
			u.Parts += n
			if at := moment(oldest); u.Oldest.IsZero() || at.Before(u.Oldest) {
				u.Oldest = at
			}
			return nil
		}, `SELECT s.room, count(*), sum(p.size), min(p.start) FROM parts p JOIN sessions s ON s.n = p.session
			WHERE p.reclaimed = 0 AND p.safe = 0 AND p.is_foreign = 0 GROUP BY s.room`)
	})
	return u, err
}

// Paths lists the files of ours that may lie below the data folder, sorted: everything that is not freed, with
// the copies that were made of it. An open part stands under both of its names. Whatever else lies below media/ is an orphan.
func (v *view) Paths(ctx context.Context) ([]string, error) {
	var out []string
	err := v.ask(ctx, "the paths", func(q querier) error {
		return each(q, func(r *sql.Rows) error {
			var p string
			var sealed int64
			if err := r.Scan(&p, &sealed); err != nil {
				return err
			}
			out = append(out, p)
			if sealed == 0 {
				out = append(out, p+segment.PartSuffix)
			}
			return nil
		}, `SELECT path, sealed FROM parts WHERE reclaimed = 0 AND is_foreign = 0
			UNION ALL SELECT json_extract(d.instead, '$.path'), 1 FROM deliveries d JOIN parts p ON p.n = d.part
			WHERE d.instead <> '' AND p.reclaimed = 0`)
	})
	sort.Strings(out)
	return out, err
}

// Rooms lists the rooms with the state that was last recorded of each.
func (v *view) Rooms(ctx context.Context) ([]status.RoomState, error) {
	var out []status.RoomState
	err := v.ask(ctx, "the rooms", func(q querier) error {
		return each(q, func(r *sql.Rows) error {
			var s status.RoomState
			var since int64
			if err := r.Scan(&s.Room.ID, &s.Room.URL, &s.Room.Name, &s.Room.Site, &s.State, &since, &s.Quality, &s.Error); err != nil {
				return err
			}
			s.Since = moment(since)
			out = append(out, s)
			return nil
		}, `SELECT id, url, name, site, state, since, quality, why FROM rooms ORDER BY n`)
	})
	return out, err
}

// Integrity has SQLite look at every page and index of the file. An error names what is wrong.
func (v *view) Integrity(ctx context.Context) error {
	return v.ask(ctx, "its integrity", func(q querier) error {
		if err := quickCheck(q, `PRAGMA integrity_check(3)`); err != nil {
			return err
		}
		lost := 0
		err := each(q, func(*sql.Rows) error { lost++; return nil }, `PRAGMA foreign_key_check`)
		if err == nil && lost > 0 {
			err = unsound(fmt.Sprintf("%d rows refer to rows that are not there", lost))
		}
		return err
	})
}
