package plan

import (
	"cmp"
	"slices"
	"time"
)

type verdict uint8

const (
	isSame  verdict = iota // p.offset holds for the list
	isEpoch                // numbers begin anew
	isStale                // an old copy
	isFull                 // a delta that does not fit
)

// align finds out how a list lies over what is known, and sets the offset.
func (p *Planner) align(es []*entry, s Snapshot, median time.Duration, r *Result) verdict {
	agree, contradict, bases := p.compare(es)
	if agree == 0 {
		// Edges may number differently, each for itself.
		for _, d := range p.offsets {
			was := p.offset
			p.offset = d
			a, c, b := p.compare(es)
			p.offset = was
			if a > 0 {
				agree, contradict, bases = a, c, b
				p.renumber(d)
				break
			}
		}
	}
	newer := p.newer(es, median)
	if agree > 0 {
		if newer && p.redated(es, median) {
			return isEpoch
		}
		return isSame
	}
	first, edge := p.number(es[0]), p.number(es[len(es)-1])
	if !p.placeless && (first <= p.last || first > p.last+1 && !p.plausible(es, s, median)) {
		if d, ok := p.vote(es, func(e *entry) (int64, bool) { n, known := p.paths[e.key]; return n, known }); ok {
			if newer {
				return isEpoch
			}
			p.renumber(d)
			r.Events = append(r.Events, Event{What: Renumber})
			return isSame
		}
	}
	if d, ok := p.vote(es, p.byDate(median)); ok {
		p.renumber(d)
		r.Events = append(r.Events, Event{What: Renamed})
		return isSame
	}
	older := p.older(es)
	if bases > 0 && !newer {
		r.Events = append(r.Events, Event{What: Renamed})
		return isSame
	}
	if !newer && first <= p.last {
		for _, e := range es {
			if _, known := p.old[e.key]; known && e.key != "" {
				return isStale
			}
		}
	}
	n := int64(max(len(es), p.window))
	switch {
	case first > p.last:
		if first == p.last+1 || p.plausible(es, s, median) {
			return isSame
		}
		if s.List.Skipped > 0 {
			return isFull
		}
		return isEpoch
	case s.List.Skipped > 0:
		return isFull
	case newer:
		return isEpoch
	case older:
		return isStale
	case s.Moved && edge >= p.last-2*n:
		return isSame
	case contradict > 0:
		return isEpoch
	case edge >= p.last-2*n:
		return isStale
	}
	return isEpoch
}

// compare counts the entries that have the name that is known under their number, those that have another one, and of
// these the ones whose last part is the same.
func (p *Planner) compare(es []*entry) (agree, contradict, bases int) {
	for _, e := range es {
		k := p.entries[p.number(e)]
		if k == nil || k.unseen {
			continue
		}
		if k.key == e.key || e.key == "" && k.span.Length == e.span.Length && samePath(k.url, e.url) {
			agree++
			continue
		}
		contradict++
		if e.base != "" && e.base == k.base {
			bases++
		}
	}
	return agree, contradict, bases
}

// maxOffsets is how many numberings are remembered beside the current one.
const maxOffsets = 4

func (p *Planner) renumber(d int64) {
	if d == p.offset {
		return
	}
	p.offsets = slices.DeleteFunc(p.offsets, func(o int64) bool { return o == d })
	if len(p.offsets) >= maxOffsets {
		p.offsets = p.offsets[1:]
	}
	p.offsets = append(p.offsets, p.offset)
	p.offset = d
}

// vote asks each entry where it lies and answers with the offset that most of them name.
func (p *Planner) vote(es []*entry, where func(*entry) (int64, bool)) (offset int64, ok bool) {
	votes := map[int64]int{}
	most := 0
	for _, e := range es {
		n, known := where(e)
		if !known {
			continue
		}
		d := n - e.seq
		votes[d]++
		if votes[d] > most {
			most, offset = votes[d], d
		}
	}
	return offset, most > 0
}

// byDate finds the known segment that began within a quarter of a segment of the same moment.
func (p *Planner) byDate(median time.Duration) func(*entry) (int64, bool) {
	type dated struct {
		n int64
		t time.Time
	}
	var known []dated
	for n, k := range p.entries {
		if !k.unseen && !k.date.IsZero() {
			known = append(known, dated{n, k.date})
		}
	}
	slices.SortFunc(known, func(a, b dated) int { return cmp.Or(a.t.Compare(b.t), cmp.Compare(a.n, b.n)) })
	return func(e *entry) (int64, bool) {
		if e.date.IsZero() {
			return 0, false
		}
		// of the last one that is not later, and the first one that is, the nearer
		i, _ := slices.BinarySearchFunc(known, e.date, func(k dated, t time.Time) int {
			if k.t.After(t) {
				return 1
			}
			return -1
		})
		best, n, found := median/4, int64(0), false
		for _, k := range known[max(i-1, 0):min(i+1, len(known))] {
			if d := e.date.Sub(k.t).Abs(); d < best {
				best, n, found = d, k.n, true
			}
		}
		return n, found
	}
}

// newest is the last segment of which a date is known, nil if there is none.
func (p *Planner) newest() *entry {
	for n := p.last; n >= p.low && n > p.last-16; n-- {
		if k := p.entries[n]; k != nil && !k.unseen && !k.date.IsZero() {
			return k
		}
	}
	return nil
}

// newer reports whether all of a list is newer than all that is known, as far as dates say.
func (p *Planner) newer(es []*entry, median time.Duration) bool {
	k := p.newest()
	if k == nil {
		return false
	}
	// What follows a segment begins where that ends: half of it, which may be a short one, is left to dates that wander.
	t := k.date.Add(min(median, k.ends().Sub(k.date)) / 2)
	for _, e := range es {
		if e.date.IsZero() || !e.date.After(t) {
			return false
		}
	}
	return true
}

// older reports whether dates say that nothing of a list is new.
func (p *Planner) older(es []*entry) bool {
	k := p.newest()
	if k == nil {
		return false
	}
	for _, e := range es {
		if e.date.IsZero() || e.date.After(k.date) {
			return false
		}
	}
	return true
}

// redated reports whether a segment that is known has another date now, by more than dates wander.
func (p *Planner) redated(es []*entry, median time.Duration) bool {
	for _, e := range es {
		if k := p.entries[p.number(e)]; k != nil && !k.date.IsZero() {
			return e.date.Sub(k.date).Abs() >= 2*median
		}
	}
	return false
}

// plausible reports whether a list that begins behind all that is known can belong to the same numbering: its dates,
// the time that has passed, or its names say so.
func (p *Planner) plausible(es []*entry, s Snapshot, median time.Duration) bool {
	count := p.number(es[0]) - p.last - 1
	step := p.step(median)
	k := p.entries[p.last]
	if k != nil && !k.date.IsZero() && !es[0].date.IsZero() {
		if d := es[0].date.Sub(k.ends()); d > 0 {
			want := float64(count) * float64(step)
			if slack := 2 * float64(len(es)) * float64(step); float64(d) > want/2-slack && float64(d) < want*2+slack {
				return true
			}
		}
	}
	if float64(count)*float64(step) <= float64(s.At.Sub(p.at))*1.25+2*float64(max(len(es), 1))*float64(step) {
		return true
	}
	_, ok := p.pattern(es)
	return ok
}

// step is how long a segment usually is.
func (p *Planner) step(median time.Duration) time.Duration {
	switch {
	case p.median > 0:
		return p.median
	case median > 0:
		return median
	}
	return usual
}

// between is the media time between the last segment that is known and the first of a new epoch, 0 if nothing says.
func (p *Planner) between(e *entry) time.Duration {
	k := p.entries[p.last]
	if k == nil || k.date.IsZero() || e.date.IsZero() {
		return 0
	}
	if d := e.date.Sub(k.ends()); d > p.step(0)/2 && d < maxLost {
		return d
	}
	return 0
}

// restarted counts how far old copies of the list have moved with nothing newer between. One that moves for longer
// than it is long is no old copy.
func (p *Planner) restarted(es []*entry) bool {
	edge := es[len(es)-1].seq
	if !p.stale.seen {
		p.stale = stale{edge: edge, seen: true}
		return false
	}
	if edge < p.stale.edge {
		p.stale = stale{edge: edge, seen: true} // yet another one
		return false
	}
	p.stale.steps += edge - p.stale.edge
	p.stale.edge = edge
	return p.stale.steps > int64(len(es))+3
}
