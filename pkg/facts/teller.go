package facts

import (
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// NewTeller makes a Teller that goes on where the State of an earlier one ended. Without a state, or with one that cannot
// be read, the first picture is the begin: what is in it already is not news, but for its troubles.
func NewTeller(cfg Config, state []byte) *Teller {
	if cfg.Patience <= 0 {
		cfg.Patience = 10 * time.Minute
	}
	if cfg.Unsafe <= 0 {
		cfg.Unsafe = 3 * time.Hour
	}
	t := &Teller{cfg: cfg, live: map[string]time.Time{}}
	if json.Unmarshal(state, &t.mem) != nil {
		t.mem = memory{}
	}
	if t.mem.Troubles == nil {
		t.mem.Troubles = map[string]*trouble{}
	}
	for k, v := range t.mem.Troubles {
		if v == nil {
			delete(t.mem.Troubles, k)
		}
	}
	for k, v := range t.mem.Broadcasts {
		if v == nil {
			delete(t.mem.Broadcasts, k)
		}
	}
	return t
}

// State is what a Teller of the next process needs, and whether it changed since it was asked last. It is to be stored
// before the facts are told.
func (t *Teller) State() (state []byte, changed bool) {
	changed, t.dirt = t.dirt, false
	state, err := json.Marshal(t.mem)
	if err != nil {
		panic(fmt.Sprintf("the memory of facts cannot be written: %v", err)) // strings, numbers and times
	}
	return state, changed
}

// Follows are the broadcasts that the next picture has to have, complete or not.
func (t *Teller) Follows() []segment.SessionID {
	var ids []segment.SessionID
	for id, b := range t.mem.Broadcasts {
		if !b.Ended {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Look gives the facts that a picture adds, in their order: broadcasts first, then troubles.
func (t *Teller) Look(p Picture) []Fact {
	var out []Fact
	if p.Ledger == nil {
		out = t.broadcasts(p)
	}
	out = append(out, t.troubles(p)...)
	t.last = p.Now
	return out
}

func (t *Teller) broadcasts(p Picture) []Fact {
	first := t.mem.Broadcasts == nil
	if first {
		t.mem.Broadcasts = map[segment.SessionID]*told{}
		t.dirt = true
	}
	var out []Fact
	seen := map[segment.SessionID]bool{}
	for _, b := range p.Broadcasts {
		id := b.Session.ID
		if seen[id] || slices.ContainsFunc(b.Segments, func(s segment.Segment) bool { return s.Foreign }) {
			continue // files that somebody sent with `liverec upload`
		}
		seen[id] = true
		was := t.mem.Broadcasts[id]
		if was == nil {
			was = &told{}
			t.mem.Broadcasts[id], t.dirt = was, true
			if !first {
				out = append(out, t.fact(BroadcastStart, p.Now, b))
			}
		}
		fs := t.parts(p, b, was)
		over := !b.Session.Ended.IsZero() && (b.Session.Complete || p.Now.Sub(b.Session.Ended) >= t.cfg.Patience)
		if over && !was.Ended {
			was.Ended, t.dirt = true, true
			f := t.fact(BroadcastEnd, p.Now, b)
			f.Report = report(b)
			fs = append(fs, f)
		}
		if !first {
			out = append(out, fs...)
		}
	}
	for id := range t.mem.Broadcasts {
		if !seen[id] {
			delete(t.mem.Broadcasts, id)
			t.dirt = true
		}
	}
	return out
}

// parts tells of parts that were closed, or became safe. Most looks find nothing and cost two comparisons.
func (t *Teller) parts(p Picture, b segment.Broadcast, was *told) []Fact {
	var out []Fact
	from, _ := slices.BinarySearchFunc(b.Segments, min(was.Sealed, was.Safe)+1, func(s segment.Segment, seq uint32) int {
		return int(int64(s.ID.Seq) - int64(seq))
	})
	whole := true // every part up to here is safe
	for _, s := range b.Segments[from:] {
		if !s.Sealed {
			break
		}
		seq := s.ID.Seq
		if seq > was.Sealed {
			was.Sealed, t.dirt = seq, true
			f := t.fact(PartSealed, p.Now, b)
			f.Part = t.part(b, s)
			out = append(out, f)
		}
		if seq <= was.Safe {
			continue
		}
		if !status.Safe(b, s) {
			whole = false
			continue
		}
		i := slices.Index(was.Later, seq)
		if i < 0 {
			f := t.fact(PartSafe, p.Now, b)
			f.Part = t.part(b, s)
			out = append(out, f)
			was.Later, t.dirt = append(was.Later, seq), true
			i = len(was.Later) - 1
		}
		if whole {
			was.Safe, t.dirt = seq, true
			was.Later = slices.Delete(was.Later, i, i+1)
		}
	}
	return out
}

func (t *Teller) fact(kind Kind, now time.Time, b segment.Broadcast) Fact {
	se := b.Session
	return Fact{Format: Format, Kind: kind, At: status.Stamp(now),
		Room:      &Room{se.Room.Name, se.Room.URL, se.Room.Site},
		Broadcast: &Broadcast{string(se.ID), se.Title, se.Streamer, se.Name, status.Stamp(se.Started), status.Stamp(se.Ended)}}
}

func (t *Teller) part(b segment.Broadcast, s segment.Segment) *Part {
	p := &Part{Seq: s.ID.Seq, Name: path.Base(s.Path), Path: filepath.Join(t.cfg.Data, filepath.FromSlash(s.Path)), Size: s.Size, SHA256: s.SHA256.String(),
		DurationMS: s.Duration.Milliseconds(), Started: status.Stamp(s.Start), Cut: string(s.Cut), Targets: []Copy{}}
	for target, ds := range b.Deliveries {
		for _, d := range ds {
			if d.Segment.ID == s.ID {
				p.Targets = append(p.Targets, Copy{string(target), d.Required, d.Key, d.State == segment.Verified})
			}
		}
	}
	slices.SortFunc(p.Targets, func(a, b Copy) int { return strings.Compare(a.Target, b.Target) })
	return p
}

func report(b segment.Broadcast) *Report {
	r := status.MakeReport(b)
	return &Report{Text: r.String(), Share: r.Share(), RecordedMS: r.Recorded.Milliseconds(), MissingMS: r.Missing.Milliseconds(), Gaps: r.Gaps,
		LongestMS: r.Longest.Milliseconds(), Parts: r.Parts, Verified: r.Proven, Targets: r.Targets, Parked: r.Parked, UnsafeBytes: r.Unsafe, Complete: r.Complete}
}
