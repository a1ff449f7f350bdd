package pipelinetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// ErrIllegal is a step that the ledger must refuse.
var ErrIllegal = errors.New("illegal step")

// Ledger is an in-memory ledger with the methods of all four journals. It outlives a simulated crash like the file on
// the disk does.
type Ledger struct {
	// Hook is called before and after each record, with the record's name; an error takes the place of the record
	// (before), or of its answer (after). Nil means no hook. It is set before the first use.
	Hook func(step string, after bool) error
	// Now is the clock. Default time.Now.
	Now func() time.Time

	*state
}

type state struct {
	mu       sync.Mutex
	targets  []segment.Destination
	keep     time.Duration
	rooms    map[segment.RoomID]segment.SessionID // newest session
	sessions map[segment.SessionID]*session
	made     int
}

type session struct {
	segment.Session
	segments   []*part
	deliveries map[segment.TargetID]map[uint32]*segment.Delivery
	gaps       []segment.Gap
	repairs    []segment.Repair
	lists      map[segment.TargetID]*segment.Publication
}

type part struct {
	segment.Segment
	state      []byte
	reclaiming bool
	reclaimed  time.Time
	keep       time.Duration
}

// NewLedger makes an empty ledger whose segments get a delivery to each of the targets.
func NewLedger(keep time.Duration, targets ...segment.Destination) *Ledger {
	return &Ledger{state: &state{targets: targets, keep: keep, rooms: map[segment.RoomID]segment.SessionID{}, sessions: map[segment.SessionID]*session{}}}
}

// Open is the same ledger as another process sees it, with a hook of its own.
func (l *Ledger) Open(hook func(step string, after bool) error) *Ledger {
	return &Ledger{Hook: hook, Now: l.Now, state: l.state}
}

// Aim changes the targets of the segments that begin from now on, as a new run with other flags does.
func (l *Ledger) Aim(targets ...segment.Destination) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.targets = targets
}

func (l *Ledger) now() time.Time {
	if l.Now != nil {
		return l.Now()
	}
	return time.Now()
}

// record runs f under the lock, with the hook on both sides.
func (l *Ledger) record(ctx context.Context, step string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.Hook != nil {
		if err := l.Hook(step, false); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	l.mu.Lock()
	err := f()
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	if l.Hook != nil {
		if err := l.Hook(step, true); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

func (l *Ledger) part(id segment.ID) (*session, *part, error) {
	s := l.sessions[id.Session]
	if s == nil || id.Seq == 0 || int(id.Seq) > len(s.segments) {
		return nil, nil, fmt.Errorf("%w: there is no segment %s", ErrIllegal, id)
	}
	return s, s.segments[id.Seq-1], nil
}

func (l *Ledger) entry(s *session) segment.Entry {
	e := segment.Entry{Session: s.Session, NextSeq: uint32(len(s.segments)) + 1}
	for i, p := range s.segments {
		if p.state != nil {
			e.State = p.state
		}
		switch {
		case p.Sealed:
		case i == len(s.segments)-1:
			open := p.Segment
			e.Open = &open
		default:
			e.Left = append(e.Left, p.Segment)
		}
	}
	return e
}

// Enter is of recorder.Journal.
func (l *Ledger) Enter(ctx context.Context, room segment.Room, live segment.Session, at time.Time, grace time.Duration) (segment.Entry, error) {
	var e segment.Entry
	err := l.record(ctx, "enter", func() error {
		if s := l.sessions[l.rooms[room.ID]]; s != nil && s.Ended.IsZero() && at.Sub(s.Heard) <= grace {
			e = l.entry(s)
			e.Resumed = true
			return nil
		}
		l.made++
		id := segment.SessionID(fmt.Sprintf("S%04d", l.made))
		s := &session{
			Session:    segment.Session{ID: id, Room: room, Streamer: live.Streamer, Title: live.Title, Name: "show/" + string(id), Started: at, Heard: at},
			deliveries: map[segment.TargetID]map[uint32]*segment.Delivery{}, lists: map[segment.TargetID]*segment.Publication{},
		}
		l.sessions[id], l.rooms[room.ID] = s, id
		e = l.entry(s)
		return nil
	})
	return e, err
}

// Unended is of recorder.Journal.
func (l *Ledger) Unended(ctx context.Context) ([]segment.Entry, error) {
	var out []segment.Entry
	err := l.read(ctx, func() {
		for _, s := range l.sorted() {
			if s.Ended.IsZero() {
				out = append(out, l.entry(s))
			}
		}
	})
	return out, err
}

func (l *Ledger) read(ctx context.Context, f func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.Hook != nil {
		if err := l.Hook("read", false); err != nil {
			return fmt.Errorf("read: %w", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	return nil
}

func (l *Ledger) sorted() []*session {
	return slices.SortedFunc(maps.Values(l.sessions), func(a, b *session) int { return cmp.Compare(a.ID, b.ID) })
}

// Begin is of recorder.Journal.
func (l *Ledger) Begin(ctx context.Context, seg segment.Segment) error {
	return l.record(ctx, "begin", func() error {
		s := l.sessions[seg.ID.Session]
		switch {
		case s == nil:
			return fmt.Errorf("%w: there is no session %s", ErrIllegal, seg.ID.Session)
		case int(seg.ID.Seq) != len(s.segments)+1:
			return fmt.Errorf("%w: segment %s after %d segments", ErrIllegal, seg.ID, len(s.segments))
		case !s.Ended.IsZero():
			return fmt.Errorf("%w: segment %s in a session that has ended", ErrIllegal, seg.ID)
		}
		s.segments = append(s.segments, &part{Segment: seg, keep: l.keep})
		for _, t := range l.targets {
			if s.deliveries[t.ID] == nil {
				s.deliveries[t.ID] = map[uint32]*segment.Delivery{}
				s.lists[t.ID] = &segment.Publication{Session: s.ID, Target: t.ID, Required: t.Required}
			}
			s.deliveries[t.ID][seg.ID.Seq] = &segment.Delivery{
				Target: t.ID, Required: t.Required, State: segment.Due, Since: l.now(),
				Key: s.Name + "/" + path.Base(seg.Path),
			}
		}
		return nil
	})
}

// Extend is of recorder.Journal.
func (l *Ledger) Extend(ctx context.Context, id segment.ID, e segment.Extent) error {
	return l.record(ctx, "extend", func() error {
		s, p, err := l.part(id)
		if err != nil {
			return err
		}
		if p.Sealed || e.Durable < p.Size {
			return fmt.Errorf("%w: segment %s from %d to %d bytes", ErrIllegal, id, p.Size, e.Durable)
		}
		p.Size, p.Duration, p.VideoFrames, p.AudioFrames = e.Durable, e.Duration, e.VideoFrames, e.AudioFrames
		if e.At.After(s.Heard) {
			s.Heard = e.At
		}
		if e.State != nil {
			p.state = e.State
		}
		return nil
	})
}

// Seal is of recorder.Journal.
func (l *Ledger) Seal(ctx context.Context, seg segment.Segment) error {
	return l.record(ctx, "seal", func() error {
		_, p, err := l.part(seg.ID)
		if err != nil {
			return err
		}
		if seg.Size < p.Size || seg.Cut == segment.CutNone || seg.SHA256.IsZero() {
			return fmt.Errorf("%w: seal %s with %d of %d bytes, cut %q, sum %s", ErrIllegal, seg.ID, seg.Size, p.Size, seg.Cut, seg.SHA256)
		}
		if p.Sealed {
			if p.SHA256 != seg.SHA256 {
				return fmt.Errorf("%w: seal %s again with another sum", ErrIllegal, seg.ID)
			}
			return nil
		}
		seg.Sealed = true
		p.Segment = seg
		return nil
	})
}

// Void is of recorder.Journal.
func (l *Ledger) Void(ctx context.Context, id segment.ID) error {
	return l.record(ctx, "void", func() error {
		s, p, err := l.part(id)
		if err != nil {
			return err
		}
		if p.Sealed || int(id.Seq) != len(s.segments) {
			return fmt.Errorf("%w: void %s", ErrIllegal, id)
		}
		s.segments = s.segments[:id.Seq-1]
		for _, d := range s.deliveries {
			delete(d, id.Seq)
		}
		return nil
	})
}

// Miss is of recorder.Journal.
func (l *Ledger) Miss(ctx context.Context, g segment.Gap) error {
	return l.record(ctx, "miss", func() error {
		s := l.sessions[g.Session]
		if s == nil {
			return fmt.Errorf("%w: there is no session %s", ErrIllegal, g.Session)
		}
		// One at each place, the newest word holds, as in pkg/ledger.
		s.gaps = slices.DeleteFunc(s.gaps, func(o segment.Gap) bool { return o.AfterSeq == g.AfterSeq && o.AtMedia == g.AtMedia })
		s.gaps = append(s.gaps, g)
		return nil
	})
}

// Mend is of recorder.Journal.
func (l *Ledger) Mend(ctx context.Context, r segment.Repair) error {
	return l.record(ctx, "mend", func() error {
		s := l.sessions[r.Session]
		if s == nil {
			return fmt.Errorf("%w: there is no session %s", ErrIllegal, r.Session)
		}
		s.repairs = append(s.repairs, r)
		return nil
	})
}

// Leave is of recorder.Journal.
func (l *Ledger) Leave(ctx context.Context, id segment.SessionID, at time.Time, a segment.Account) error {
	return l.record(ctx, "leave", func() error {
		s := l.sessions[id]
		if s == nil {
			return fmt.Errorf("%w: there is no session %s", ErrIllegal, id)
		}
		for _, p := range s.segments {
			if !p.Sealed {
				return fmt.Errorf("%w: leave %s with an open segment", ErrIllegal, id)
			}
		}
		s.Ended, s.Account = at, a
		return nil
	})
}

// Due is of uploader.Journal.
func (l *Ledger) Due(ctx context.Context, t segment.TargetID) ([]segment.Delivery, error) {
	var out []segment.Delivery
	err := l.read(ctx, func() {
		for _, s := range l.sorted() {
			for _, d := range l.list(s, t) {
				if !d.Listable() {
					out = append(out, d)
				}
			}
		}
	})
	return out, err
}

// list copies the deliveries of one session to one target, by Seq.
func (l *Ledger) list(s *session, t segment.TargetID) []segment.Delivery {
	out := make([]segment.Delivery, 0, len(s.deliveries[t]))
	for _, seq := range slices.Sorted(maps.Keys(s.deliveries[t])) {
		d := *s.deliveries[t][seq]
		d.Segment = s.segments[seq-1].Segment
		d.Acks = slices.Clone(d.Acks)
		out = append(out, d)
	}
	return out
}

// step moves a delivery to another state and changes it.
func (l *Ledger) step(ctx context.Context, name string, t segment.TargetID, id segment.ID, to segment.DeliveryState, change func(*segment.Delivery) error) error {
	return l.record(ctx, name, func() error {
		s, _, err := l.part(id)
		if err != nil {
			return err
		}
		d := s.deliveries[t][id.Seq]
		if d == nil {
			return fmt.Errorf("%w: there is no delivery of %s to %s", ErrIllegal, id, t)
		}
		if to == "" {
			to = d.State
		}
		if !d.State.CanBecome(to) {
			return fmt.Errorf("%w: delivery of %s to %s from %s to %s", ErrIllegal, id, t, d.State, to)
		}
		was := d.State
		if change != nil {
			if err := change(d); err != nil {
				return err
			}
		}
		d.State = to
		if was != to {
			d.Since = l.now()
		}
		return nil
	})
}

// Opening is of uploader.Journal.
func (l *Ledger) Opening(ctx context.Context, t segment.TargetID, id segment.ID, chunk int64) error {
	return l.step(ctx, "opening", t, id, segment.Opening, func(d *segment.Delivery) error {
		d.Chunk, d.Token, d.Acks = chunk, "", nil
		return nil
	})
}

// Opened is of uploader.Journal.
func (l *Ledger) Opened(ctx context.Context, t segment.TargetID, id segment.ID, token string) error {
	return l.step(ctx, "opened", t, id, segment.Uploading, func(d *segment.Delivery) error {
		d.Token = token
		return nil
	})
}

// Acked is of uploader.Journal.
func (l *Ledger) Acked(ctx context.Context, t segment.TargetID, id segment.ID, a segment.Ack) error {
	return l.step(ctx, "acked", t, id, "", func(d *segment.Delivery) error {
		if d.State != segment.Uploading {
			return fmt.Errorf("%w: a chunk of %s is acknowledged while %s", ErrIllegal, id, d.State)
		}
		i, there := slices.BinarySearchFunc(d.Acks, a, func(x, y segment.Ack) int { return cmp.Compare(x.Index, y.Index) })
		if there {
			d.Acks[i] = a
		} else {
			d.Acks = slices.Insert(d.Acks, i, a)
		}
		return nil
	})
}

// Committing is of uploader.Journal.
func (l *Ledger) Committing(ctx context.Context, t segment.TargetID, id segment.ID) error {
	return l.step(ctx, "committing", t, id, segment.Committing, nil)
}

// Committed is of uploader.Journal.
func (l *Ledger) Committed(ctx context.Context, t segment.TargetID, id segment.ID, r segment.Receipt) error {
	return l.step(ctx, "committed", t, id, segment.Committed, func(d *segment.Delivery) error {
		d.Receipt = r
		return nil
	})
}

// Verified is of uploader.Journal.
func (l *Ledger) Verified(ctx context.Context, t segment.TargetID, id segment.ID, p segment.Proof) error {
	return l.step(ctx, "verified", t, id, segment.Verified, func(d *segment.Delivery) error {
		if _, seg, _ := l.part(id); !seg.Sealed || p.Size != seg.Size {
			return fmt.Errorf("%w: a proof of %d bytes for %s, which has %d", ErrIllegal, p.Size, id, seg.Size)
		}
		d.Proof, d.Why = p, ""
		return nil
	})
}

// Listing is of uploader.Journal.
func (l *Ledger) Listing(ctx context.Context, t segment.TargetID, id segment.ID) error {
	return l.step(ctx, "listing", t, id, segment.Committed, func(d *segment.Delivery) error {
		if d.State != segment.Committed {
			return fmt.Errorf("%w: %s is stored while it is %s", ErrIllegal, id, d.State)
		}
		d.Stored, d.Token, d.Acks, d.Why = l.now(), "", nil, ""
		return nil
	})
}

// Again is of uploader.Journal.
func (l *Ledger) Again(ctx context.Context, t segment.TargetID, id segment.ID, why string) error {
	return l.step(ctx, "again", t, id, segment.Due, func(d *segment.Delivery) error {
		if _, p, _ := l.part(id); !p.reclaimed.IsZero() || p.reclaiming {
			return fmt.Errorf("%w: %s is due again, but it is not here any more", ErrIllegal, id)
		}
		d.Chunk, d.Token, d.Acks, d.Receipt, d.Stored, d.Proof, d.Why = 0, "", nil, segment.Receipt{}, time.Time{}, segment.Proof{}, why
		return nil
	})
}

// Instead is of control.Journal.
func (l *Ledger) Instead(ctx context.Context, t segment.TargetID, id segment.ID, c segment.Copy, why string) error {
	return l.step(ctx, "instead", t, id, segment.Due, func(d *segment.Delivery) error {
		if _, p, _ := l.part(id); p.reclaiming || !p.Sealed || d.Instead.Path != "" && d.Instead != c {
			return fmt.Errorf("%w: a copy in the place of %s", ErrIllegal, id)
		}
		d.Chunk, d.Token, d.Acks, d.Receipt, d.Stored, d.Proof, d.Why, d.Instead = 0, "", nil, segment.Receipt{}, time.Time{}, segment.Proof{}, why, c
		return nil
	})
}

// Parked is of uploader.Journal.
func (l *Ledger) Parked(ctx context.Context, t segment.TargetID, id segment.ID, why string) error {
	return l.step(ctx, "parked", t, id, segment.Parked, func(d *segment.Delivery) error {
		if d.State != segment.Parked {
			d.Before = d.State
		}
		d.Why = why
		return nil
	})
}

// Unparked is of uploader.Journal.
func (l *Ledger) Unparked(ctx context.Context, t segment.TargetID, id segment.ID) error {
	l.mu.Lock()
	var to segment.DeliveryState = segment.Due
	if s := l.sessions[id.Session]; s != nil && s.deliveries[t][id.Seq] != nil {
		to = s.deliveries[t][id.Seq].Before
	}
	l.mu.Unlock()
	return l.step(ctx, "unparked", t, id, to, func(d *segment.Delivery) error {
		if d.State != segment.Parked {
			return fmt.Errorf("%w: unpark %s while %s", ErrIllegal, id, d.State)
		}
		return nil
	})
}

// Active is of control.Journal.
func (l *Ledger) Active(ctx context.Context) ([]segment.Broadcast, error) {
	all, err := l.All(ctx)
	return slices.DeleteFunc(all, func(b segment.Broadcast) bool { return b.Session.Complete }), err
}

// Broadcasts lists every broadcast; limit is for show.
func (l *Ledger) Broadcasts(ctx context.Context, _ int) ([]segment.Broadcast, error) {
	return l.All(ctx)
}

// All lists every broadcast.
func (l *Ledger) All(ctx context.Context) ([]segment.Broadcast, error) {
	var out []segment.Broadcast
	err := l.read(ctx, func() {
		for _, s := range l.sorted() {
			b := segment.Broadcast{
				Session: s.Session, Gaps: slices.Clone(s.gaps), Repairs: slices.Clone(s.repairs),
				Deliveries: map[segment.TargetID][]segment.Delivery{}, Publications: map[segment.TargetID]segment.Publication{},
				Reclaimed: map[uint32]time.Time{},
			}
			for _, p := range s.segments {
				b.Segments = append(b.Segments, p.Segment)
				if !p.reclaimed.IsZero() {
					b.Reclaimed[p.ID.Seq] = p.reclaimed
				}
			}
			for t := range s.deliveries {
				b.Deliveries[t] = l.list(s, t)
			}
			for t, p := range s.lists {
				b.Publications[t] = *p
			}
			out = append(out, b)
		}
	})
	return out, err
}

func (l *Ledger) list1(id segment.SessionID, t segment.TargetID) (*segment.Publication, error) {
	s := l.sessions[id]
	if s == nil || s.lists[t] == nil {
		return nil, fmt.Errorf("%w: there is no list of %s on %s", ErrIllegal, id, t)
	}
	return s.lists[t], nil
}

// Publishing is of control.Journal.
func (l *Ledger) Publishing(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string) error {
	return l.record(ctx, "publishing", func() error {
		p, err := l.list1(s, t)
		if err == nil {
			p.Wanted = digest
		}
		return err
	})
}

// Published is of control.Journal.
func (l *Ledger) Published(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string, parts int, ended bool) error {
	return l.record(ctx, "published", func() error {
		p, err := l.list1(s, t)
		if err != nil {
			return err
		}
		if p.Wanted != digest {
			return fmt.Errorf("%w: list %.8s of %s is shown, %.8s was intended", ErrIllegal, digest, s, p.Wanted)
		}
		if parts < p.Parts {
			return fmt.Errorf("%w: the list of %s shrinks from %d to %d parts (I4)", ErrIllegal, s, p.Parts, parts)
		}
		p.Shown, p.Parts, p.Ended, p.Why = digest, parts, ended, ""
		return nil
	})
}

// Named is of control.Journal.
func (l *Ledger) Named(ctx context.Context, s segment.SessionID, t segment.TargetID, token string) error {
	return l.record(ctx, "named", func() error {
		p, err := l.list1(s, t)
		if err == nil {
			p.Token = token
		}
		return err
	})
}

// Unpublished is of control.Journal.
func (l *Ledger) Unpublished(ctx context.Context, s segment.SessionID, t segment.TargetID, why string) error {
	return l.record(ctx, "unpublished", func() error {
		p, err := l.list1(s, t)
		if err == nil {
			p.Why = why
		}
		return err
	})
}

// Complete is of control.Journal.
func (l *Ledger) Complete(ctx context.Context, id segment.SessionID) error {
	return l.record(ctx, "complete", func() error {
		s := l.sessions[id]
		if s == nil || s.Ended.IsZero() {
			return fmt.Errorf("%w: complete %s, which has not ended", ErrIllegal, id)
		}
		for t, p := range s.lists {
			for seq, d := range s.deliveries[t] {
				if d.Required && d.State != segment.Verified {
					return fmt.Errorf("%w: complete %s while part %d is %s on %s", ErrIllegal, id, seq, d.State, t)
				}
			}
			if p.Required && len(s.deliveries[t]) > 0 && !p.Ended {
				return fmt.Errorf("%w: complete %s while its list on %s is not ended", ErrIllegal, id, t)
			}
		}
		s.Complete = true
		return nil
	})
}

func (l *Ledger) holding(s *session, p *part) segment.Holding {
	h := segment.Holding{Segment: p.Segment, Keep: p.keep, Proofs: map[segment.TargetID]segment.Proof{}, Reclaiming: p.reclaiming}
	safe := true
	for _, t := range slices.Sorted(maps.Keys(s.deliveries)) {
		d := s.deliveries[t][p.ID.Seq]
		if d != nil && d.Instead.Path != "" {
			h.Copies = append(h.Copies, d.Instead.Path)
		}
		if d == nil || !d.Required {
			continue
		}
		h.Required = append(h.Required, t)
		if d.State != segment.Verified {
			safe = false
			continue
		}
		h.Proofs[t] = d.Proof
		if d.Proof.At.After(h.SafeAt) {
			h.SafeAt = d.Proof.At
		}
	}
	if !safe {
		h.SafeAt = time.Time{}
	}
	return h
}

// Holdings is of reclaim.Journal.
func (l *Ledger) Holdings(ctx context.Context) ([]segment.Holding, error) {
	var out []segment.Holding
	err := l.read(ctx, func() {
		for _, s := range l.sorted() {
			for _, p := range s.segments {
				if p.Sealed && p.reclaimed.IsZero() {
					out = append(out, l.holding(s, p))
				}
			}
		}
	})
	return out, err
}

// Reclaiming is of reclaim.Journal.
func (l *Ledger) Reclaiming(ctx context.Context, id segment.ID) error {
	return l.record(ctx, "reclaiming", func() error {
		s, p, err := l.part(id)
		if err != nil {
			return err
		}
		if h := l.holding(s, p); !h.Safe() || p.Foreign {
			return fmt.Errorf("%w: reclaim %s without its proofs (I1)", ErrIllegal, id)
		}
		p.reclaiming = true
		return nil
	})
}

// Reclaimed is of reclaim.Journal.
func (l *Ledger) Reclaimed(ctx context.Context, id segment.ID) error {
	return l.record(ctx, "reclaimed", func() error {
		_, p, err := l.part(id)
		if err != nil {
			return err
		}
		if !p.reclaiming {
			return fmt.Errorf("%w: %s is reclaimed, which nobody intended", ErrIllegal, id)
		}
		p.reclaimed = l.now()
		return nil
	})
}
