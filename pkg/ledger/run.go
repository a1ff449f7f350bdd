package ledger

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// What cmd says.

// SetTargets names the targets of this run: Begin and Adopt make one delivery for each. What earlier parts owe to other
// targets stays as it is.
func (l *Ledger) SetTargets(ctx context.Context, ds []segment.Destination) error {
	ds = slices.Clone(ds)
	err := l.record(ctx, "the targets", "this run", keeps, func(t *tx) error {
		for i, d := range ds {
			if d.ID == "" {
				return refuse("a target has no name")
			}
			if slices.ContainsFunc(ds[:i], func(e segment.Destination) bool { return e.ID == d.ID }) {
				return refuse("%s is named twice", d.ID)
			}
		}
		for _, d := range ds {
			if _, err := t.exec(`INSERT INTO targets (id, spec, required, seen, owner, epoch) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, required = excluded.required, seen = excluded.seen,
				owner = excluded.owner, epoch = excluded.epoch`,
				string(d.ID), d.Spec, d.Required, micros(l.now()), t.owner, t.epoch); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		l.run.Store(&ds)
	}
	return err
}

// Plan is what becomes of the parts of a room, in the place of what SetTargets and Config.Keep say for all.
type Plan struct {
	Targets []segment.Destination // some of those of SetTargets
	Keep    time.Duration         // how long a part stays on the disk once it is safe
}

// SetPlan holds for every part that is begun from now on. It is of this process: nothing is written.
func (l *Ledger) SetPlan(room segment.RoomID, p Plan) error {
	run := l.run.Load()
	for _, d := range p.Targets {
		if run == nil || !slices.ContainsFunc(*run, func(e segment.Destination) bool { return e.ID == d.ID }) {
			return fmt.Errorf("the plan of room %s: %s is no target of this run", room, d.ID)
		}
	}
	p.Targets = slices.Clone(p.Targets)
	l.plans.Store(room, p)
	return nil
}

// DropPlan takes back what SetPlan said.
func (l *Ledger) DropPlan(room segment.RoomID) { l.plans.Delete(room) }

// plan is that of a room.
func (l *Ledger) plan(room segment.RoomID) Plan {
	if p, ok := l.plans.Load(room); ok {
		return p.(Plan)
	}
	p := Plan{Keep: l.keep}
	if run := l.run.Load(); run != nil {
		p.Targets = *run
	}
	return p
}

// Assign makes deliveries to the targets of this run for every sealed part that lies on the disk and is not safe, where
// it has none there yet: for somebody who resumes with another --to. It tells how many were made. What the part owes to
// its former targets stays.
func (l *Ledger) Assign(ctx context.Context) (int, error) {
	n := 0
	err := l.record(ctx, "deliveries", "what is not safe", keeps, func(t *tx) error {
		n = 0
		ps, err := parts(t, `WHERE p.reclaimed = 0 AND p.sealed <> 0 AND p.safe = 0 AND s.complete = 0`)
		if err != nil {
			return err
		}
		var before, after int
		if _, err := one(t, `SELECT count(*) FROM deliveries`, nil, &before); err != nil {
			return err
		}
		for _, p := range ps {
			s, err := session(t, p.ID.Session)
			if err != nil {
				return err
			}
			if err := l.deliver(t, p.n, s, p.Segment); err != nil {
				return err
			}
		}
		_, err = one(t, `SELECT count(*) FROM deliveries`, nil, &after)
		n = after - before
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Adopt takes files of the user's own as a broadcast that is over (`liverec upload`): each becomes a sealed part that
// is never removed, numbered in the order given, with its deliveries to the targets of the run. s names the broadcast
// as in Enter. Of each segment Path (absolute), Size and SHA256 must be known; ID and Foreign are set here. The same
// files again, while their broadcast is not complete, are that broadcast.
func (l *Ledger) Adopt(ctx context.Context, s segment.Session, files ...segment.Segment) (segment.Session, error) {
	var out segment.Session
	err := l.record(ctx, "adopt", fmt.Sprintf("%d files", len(files)), grows, func(t *tx) error {
		if len(files) == 0 {
			return refuse("there is no file")
		}
		for i, f := range files {
			switch {
			case !filepath.IsAbs(f.Path):
				return refuse("the path %q is not absolute", f.Path)
			case f.Size <= 0 || f.SHA256.IsZero():
				return refuse("%s has no size or no SHA-256", f.Path)
			case slices.ContainsFunc(files[:i], func(g segment.Segment) bool { return g.Path == f.Path }):
				return refuse("%s is named twice", f.Path)
			}
		}
		known, err := l.adopted(t, files)
		if err != nil {
			return err
		}
		if known != nil {
			out = known.Session
			ps, err := parts(t, `WHERE p.session = ?`, known.n)
			for _, p := range ps {
				if err == nil {
					err = l.deliver(t, p.n, *known, p.Segment)
				}
			}
			return err
		}
		now := l.now()
		row, err := l.addSession(t, s, now)
		if err != nil {
			return err
		}
		ended := s.Ended
		if ended.IsZero() {
			ended = now
		}
		row.Ended = moment(micros(ended))
		if _, err := t.exec(`UPDATE sessions SET ended = ? WHERE n = ?`, micros(ended), row.n); err != nil {
			return err
		}
		for i, f := range files {
			f.ID = segment.ID{Session: row.ID, Seq: uint32(i + 1)}
			f.Foreign = true
			if _, err := l.addPart(t, row, f, micros(now)); err != nil {
				return err
			}
		}
		out = row.Session
		return nil
	})
	if err != nil {
		return segment.Session{}, err
	}
	return out, nil
}

// adopted looks for a broadcast of exactly these files that is not complete.
func (l *Ledger) adopted(t *tx, files []segment.Segment) (*sessionRow, error) {
	ss, err := sessions(t, `WHERE s.complete = 0 AND s.n IN (SELECT session FROM parts WHERE is_foreign <> 0 AND seq = 1 AND path = ?)
		ORDER BY s.n DESC`, files[0].Path)
	if err != nil {
		return nil, err
	}
	for i, s := range ss {
		ps, err := parts(t, `WHERE p.session = ? ORDER BY p.seq`, s.n)
		if err != nil {
			return nil, err
		}
		same := slices.EqualFunc(ps, files, func(p partRow, f segment.Segment) bool {
			return p.Foreign && p.Path == f.Path && p.Size == f.Size && p.SHA256 == f.SHA256
		})
		if same {
			return &ss[i], nil
		}
	}
	return nil, nil
}

// SameRoom says that two names are of one room: what is known of it under the first goes on under the second. url and
// room_name of its sessions stay as they were written.
func (l *Ledger) SameRoom(ctx context.Context, other, id segment.RoomID) error {
	return l.record(ctx, "same", "room "+string(id), keeps, func(t *tx) error {
		switch {
		case other == "" || id == "":
			return refuse("the room has no name")
		case other == id:
			return nil
		}
		if _, err := t.exec(`UPDATE sessions SET room = ?1, owner = ?3, epoch = ?4 WHERE room = ?2`, string(id), string(other), t.owner, t.epoch); err != nil {
			return err
		}
		known, err := one(t, `SELECT 1 FROM rooms WHERE id = ?`, []any{string(id)}, new(int))
		if err != nil {
			return err
		}
		if known {
			_, err = t.exec(`DELETE FROM rooms WHERE id = ?`, string(other))
			return err
		}
		_, err = t.exec(`UPDATE rooms SET id = ?1, owner = ?3, epoch = ?4 WHERE id = ?2`, string(id), string(other), t.owner, t.epoch)
		return err
	})
}

// SetRoom keeps how a room is. It writes only when something changed; Since is the moment at which the state began
// (zero: now, if the state is another than before).
func (l *Ledger) SetRoom(ctx context.Context, r status.RoomState) error {
	return l.record(ctx, "state", "room "+string(r.Room.ID), keeps, func(t *tx) error {
		switch r.State {
		case status.Waiting, status.OnAir, status.Paused, status.Blocked, status.Unreachable, status.Ended:
		default:
			return refuse("%q is no state of a room", r.State)
		}
		if r.Room.ID == "" {
			return refuse("the room has no name")
		}
		since := micros(r.Since)
		if since == 0 {
			if _, err := one(t, `SELECT since FROM rooms WHERE id = ? AND state = ?`, []any{string(r.Room.ID), r.State}, &since); err != nil {
				return err
			}
			if since == 0 {
				since = micros(l.now())
			}
		}
		_, err := t.exec(`INSERT INTO rooms (id, url, name, site, state, since, quality, why, owner, epoch) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
			ON CONFLICT (id) DO UPDATE SET url = ?2, name = ?3, site = ?4, state = ?5, since = ?6, quality = ?7, why = ?8, owner = ?9, epoch = ?10
			WHERE (url, name, site, state, since, quality, why) IS NOT (?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
			string(r.Room.ID), r.Room.URL, r.Room.Name, r.Room.Site, r.State, since, r.Quality, r.Error, t.owner, t.epoch)
		return err
	})
}
