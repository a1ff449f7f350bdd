package plan

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/media/hls"
)

const (
	// minKeep is how many segments are remembered at least; else it is three windows.
	minKeep = 64
	// maxKeep bounds what is remembered of one epoch, and of earlier ones.
	maxKeep = 1 << 17
	// MaxUnseen is how many segments of one stretch are named one by one; what lies before stands in one Segment.
	MaxUnseen = 1024

	minTarget = 500 * time.Millisecond
	maxTarget = 60 * time.Second
	// usual is the duration of a segment of which nothing is known.
	usual = 4 * time.Second
	// maxLost is the longest stretch between two epochs that dates are believed.
	maxLost = 24 * time.Hour
)

// Planner follows one rendition. It is not safe for concurrent use.
type Planner struct {
	begun     bool
	epoch     uint32
	offset    int64   // number = sequence + offset
	offsets   []int64 // others that held before
	last      int64   // highest number given out in this epoch
	entries   map[int64]*entry
	low       int64            // no number below is in entries
	paths     map[string]int64 // the newest number of a key
	old       map[string]struct{}
	oldest    []string // keys of old in the order they came in
	placeless bool
	window    int           // most segments in a list so far
	median    time.Duration // of the durations in the last list
	at        time.Time     // of the last list that counted
	stale     stale
	suspect   *Snapshot // looked like a new epoch
	ads       []ad
}

// entry is what is remembered of a segment.
type entry struct {
	seq      int64
	url      string
	key      string // path, query if that is needed, and range
	base     string // last part of the path
	date     time.Time
	duration time.Duration
	period   uint64
	init     *hls.Map
	keys     []hls.Key
	span     hls.ByteRange
	unseen   bool
	src      *hls.Segment // while its list is planned
	dated    bool
}

func (e *entry) ends() time.Time {
	if e.date.IsZero() {
		return e.date
	}
	return e.date.Add(e.duration)
}

// stale is a run of old copies with nothing newer between.
type stale struct {
	edge  int64
	steps int64
	seen  bool
}

type ad struct {
	id         string
	start, end time.Time
	open       bool // no end is known: up to the next discontinuity
}

// New begins with the first list.
func New() *Planner {
	return &Planner{entries: map[int64]*entry{}, paths: map[string]int64{}, old: map[string]struct{}{}}
}

// Resume goes on behind a place.
func Resume(at Place) *Planner {
	p := New()
	if at.Number > math.MaxInt64 || at.Sequence > math.MaxInt64 || at.Duration < 0 {
		return p
	}
	p.begun, p.epoch, p.at, p.median = true, at.Epoch, at.At, at.Duration
	p.last, p.low = int64(at.Number), int64(at.Number)
	p.offset = int64(at.Number) - int64(at.Sequence)
	e := &entry{seq: int64(at.Sequence), date: at.Date, duration: at.Duration, period: at.Period,
		span: hls.ByteRange{Length: at.Range[0], Offset: at.Range[1]}, base: path.Base(at.Path)}
	e.key = keyOf(at.Path, e.span)
	p.remember(p.last, e)
	return p
}

// Place is what has to be known to go on behind segment s.
func (s Segment) Place(now time.Time) Place {
	return Place{ID: s.ID, Sequence: s.Sequence, Path: s.Path, Range: [2]int64{s.Range.Length, s.Range.Offset}, Date: s.Date,
		Duration: s.Duration, Period: s.Period, At: now}
}

// Reset forgets what was given out, so that the next list begins with its first segment. Epochs go on.
func (p *Planner) Reset() { p.forget(); p.begun = false }

// Plan takes the next list. Segments of it belong to the caller, what they point to is shared with the list, which must
// not be changed.
func (p *Planner) Plan(s Snapshot) Result { return p.plan(s, false) }

// plan does it. sure: a list that looks like a new epoch is one.
func (p *Planner) plan(s Snapshot, sure bool) Result {
	l := s.List
	r := Result{Ended: l.Ended, Grows: l.Type == "EVENT" || l.Type == "VOD"}
	es := p.read(l)
	if len(es) == 0 {
		r.Empty, r.Target = true, target(l.TargetDuration, 0)
		return r
	}
	median := middle(es)
	for _, e := range es {
		r.Window += e.duration
	}
	r.Target = target(l.TargetDuration, median)
	p.noteAds(l)

	begins := false
	if !p.begun {
		p.begun, p.epoch, begins = true, p.epoch+1, true
		p.start(es[0].seq)
	} else {
		v := p.align(es, s, median, &r)
		switch {
		case v == isStale && p.restarted(es):
			v = isEpoch
		case v == isEpoch && !sure && !p.newer(es, median):
			// A list that was cut off, or mixed up, looks like this too. One more that fits it makes it sure.
			if p.suspect == nil || !fits(p.suspect.List, l) {
				p.suspect = &s
				r.Stale, r.Doubt = true, true
				return r
			}
			first := p.plan(*p.suspect, true)
			p.suspect = nil
			r = p.plan(s, false)
			r.New, r.Events = append(first.New, r.New...), append(first.Events, r.Events...)
			r.Changed = len(r.New) > 0
			return r
		}
		switch v {
		case isFull:
			r.Full = true
			return r
		case isStale:
			r.Stale = true
			r.Events = append(r.Events, Event{What: OldCopy})
			return r
		case isEpoch:
			begins = true
		}
	}
	var lost time.Duration
	if begins && len(p.entries) > 0 { // an epoch was before
		lost = p.between(es[0])
		r.Events = append(r.Events, Event{What: Restarted, Length: lost})
		p.forget()
		p.epoch++
		p.start(es[0].seq)
	}
	first, edge := p.number(es[0]), p.number(es[len(es)-1])
	r.First, r.Edge = p.id(first), p.id(edge)
	if edge < p.last {
		r.Stale = true
		if p.restarted(es) {
			r.Events = append(r.Events, Event{What: Restarted})
			p.forget()
			p.epoch++
			p.start(es[0].seq)
			begins, r.Stale = true, false
			first, edge = p.number(es[0]), p.number(es[len(es)-1])
			r.First, r.Edge = p.id(first), p.id(edge)
		} else {
			r.Events = append(r.Events, Event{What: OldCopy})
		}
	} else {
		p.stale = stale{}
	}
	if !r.Stale {
		p.median, p.at = median, s.At
		p.window = max(p.window, len(es))
	}
	p.carry(es, s.Moved)
	if p.last+1 < first {
		p.missed(es, first, &r)
	}
	for _, e := range es {
		n := p.number(e)
		if n <= p.last {
			k := p.entries[n]
			if k == nil {
				if n >= p.last-minKeep { // from before the beginning: it helps to recognise the list
					p.remember(n, e)
					p.low = min(p.low, n)
				}
				continue
			}
			was := *k
			*k = *e
			if e.date.IsZero() {
				k.date = was.date
			}
			if was.unseen && k.key != "" {
				p.paths[k.key] = n
			}
			r.Known = append(r.Known, p.segment(n, k))
			k.src = nil
			continue
		}
		prev := p.entries[n-1]
		p.remember(n, e)
		p.last = n
		seg := p.segment(n, e)
		switch {
		case begins && n == first:
			seg.Begins, seg.Discontinuity, seg.Lost = true, true, lost
		case prev != nil && e.period > prev.period && (prev.unseen || n == first):
			seg.Discontinuity = true
		}
		r.New = append(r.New, seg)
		r.Changed = true
	}
	for _, e := range es {
		e.src = nil
	}
	if r.Changed {
		p.suspect = nil
	}
	p.prune()
	return r
}

// fits reports whether b may be the same list as a, now or a little later.
func fits(a, b *hls.Media) bool {
	n := uint64(len(a.Segments))
	if n == 0 || len(b.Segments) == 0 {
		return false
	}
	for i := range b.Segments {
		s := &b.Segments[i]
		if s.Sequence >= a.Segments[0].Sequence && s.Sequence-a.Segments[0].Sequence < n {
			if was := &a.Segments[s.Sequence-a.Segments[0].Sequence]; pathOf(was) == pathOf(s) && was.Range == s.Range {
				return true
			}
		}
	}
	first, edge := b.Segments[0].Sequence, a.Segments[n-1].Sequence
	return first > edge && first-edge <= n
}

func (p *Planner) start(seq int64) {
	p.offset, p.last, p.low = 0, seq-1, seq
	p.stale = stale{}
}

func (p *Planner) number(e *entry) int64 { return e.seq + p.offset }

func (p *Planner) id(n int64) ID { return ID{p.epoch, uint64(max(n, 0))} }

// read makes entries of a list. Their dates count on from the last one that is written.
func (p *Planner) read(l *hls.Media) []*entry {
	if l.IFramesOnly || l.Sequence > math.MaxInt64-uint64(len(l.Segments)) {
		return nil
	}
	es := make([]*entry, len(l.Segments))
	seen := make(map[string]bool, len(es))
	var next time.Time
	for i := range l.Segments {
		s := &l.Segments[i]
		e := &entry{seq: int64(s.Sequence), url: s.URL, date: s.Date, duration: s.Duration, period: s.Period, init: s.Map, keys: s.Keys,
			span: s.Range, src: s, dated: !s.Date.IsZero()}
		if !e.dated && !s.Discontinuity {
			e.date = next
		}
		next = e.ends()
		where := pathOf(s)
		e.base = path.Base(where)
		es[i] = e
		if s.Range.Length > 0 && s.Range.Offset < 0 {
			continue // it goes on behind one that is not in this list
		}
		e.key = keyOf(where, s.Range)
		if seen[e.key] {
			p.nameless()
		}
		seen[e.key] = true
	}
	if p.placeless {
		for _, e := range es {
			if e.base = ""; e.key != "" {
				e.key = keyOf(e.url, e.span)
			}
		}
	}
	// dates that stand only behind the first segments hold for those too
	for i := len(es) - 2; i >= 0; i-- {
		if es[i].date.IsZero() && !es[i+1].date.IsZero() && !es[i+1].src.Discontinuity {
			es[i].date = es[i+1].date.Add(-es[i].duration)
		}
	}
	return es
}

// nameless says that paths are no names here: several segments have the same one. Whole addresses are, then.
func (p *Planner) nameless() {
	if p.placeless {
		return
	}
	p.placeless = true
	clear(p.paths)
	for n, k := range p.entries {
		k.key, k.base = keyOf(k.url, k.span), ""
		if !k.unseen && k.span.Offset >= 0 {
			p.paths[k.key] = max(n, p.paths[k.key])
		}
	}
}

// pathOf is the path of a segment's URL, as it is written there.
func pathOf(s *hls.Segment) string {
	where := s.URL
	if where == "" {
		where = s.URI
	}
	if _, rest, ok := strings.Cut(where, "://"); ok {
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			where = rest[i:]
		} else {
			where = "/"
		}
	}
	where, _, _ = strings.Cut(where, "?")
	return where
}

func keyOf(where string, r hls.ByteRange) string {
	if r.Length > 0 {
		return fmt.Sprintf("%s#%d@%d", where, r.Length, r.Offset)
	}
	return where
}

func middle(es []*entry) time.Duration {
	ds := make([]time.Duration, 0, len(es))
	for _, e := range es {
		if e.duration > 0 {
			ds = append(ds, e.duration)
		}
	}
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// target is the time between two reloads: what is declared is wrong by much at times.
func target(declared, median time.Duration) time.Duration {
	switch {
	case median > 0 && declared > 0:
		declared = min(declared, max(median, minTarget))
	case median > 0:
		declared = median
	case declared == 0:
		declared = usual
	}
	return min(max(declared, minTarget), maxTarget)
}

func (p *Planner) remember(n int64, e *entry) {
	if e.key == "" {
		p.entries[n] = e
		return
	}
	if old, known := p.paths[e.key]; known && old != n && !e.unseen {
		if k := p.entries[old]; k != nil && k.url == e.url && k.url != "" && old == n-1 {
			p.nameless() // one name for all: live.ts
			e.key, e.base = keyOf(e.url, e.span), ""
		}
	}
	p.entries[n] = e
	if !e.unseen {
		p.paths[e.key] = n
	}
}

// forget ends an epoch.
func (p *Planner) forget() {
	for key := range p.paths {
		if _, known := p.old[key]; !known {
			p.old[key] = struct{}{}
			p.oldest = append(p.oldest, key)
		}
	}
	for len(p.oldest) > max(minKeep, 3*p.window) {
		delete(p.old, p.oldest[0])
		p.oldest = p.oldest[1:]
	}
	clear(p.entries)
	clear(p.paths)
	p.offset, p.offsets = 0, nil
}

func (p *Planner) prune() {
	from := p.last - int64(min(max(minKeep, 3*p.window), maxKeep))
	if from-p.low > int64(2*len(p.entries))+16 { // more numbers than entries: go over these
		for n, e := range p.entries {
			if n < from {
				p.drop(n, e)
			}
		}
		p.low = from
		return
	}
	for ; p.low < from; p.low++ {
		if e := p.entries[p.low]; e != nil {
			p.drop(p.low, e)
		}
	}
}

func (p *Planner) drop(n int64, e *entry) {
	delete(p.entries, n)
	if p.paths[e.key] == n {
		delete(p.paths, e.key)
	}
}

// carry fills in what the list leaves to an older one: maps, keys, and where a byte range goes on.
func (p *Planner) carry(es []*entry, moved bool) {
	var before *entry
	if !moved {
		n := p.number(es[0]) - 1
		if before = p.entries[n]; before == nil && n >= p.last {
			before = p.entries[p.last]
		}
	}
	for i, e := range es {
		n := p.number(e)
		if before != nil {
			if e.init == nil {
				e.init = before.init
			}
			if e.keys == nil {
				e.keys = before.keys
			}
		}
		if k := p.entries[n]; k != nil && !moved && !k.unseen && k.key == e.key {
			if e.init == nil {
				e.init = k.init
			}
			if e.keys == nil {
				e.keys = k.keys
			}
		}
		if e.span.Length > 0 && e.span.Offset < 0 {
			k := p.entries[n]
			switch {
			case before != nil && before.span.Length > 0 && before.span.Offset >= 0 && samePath(before.url, e.url) && (i > 0 || !before.unseen):
				e.span.Offset = before.span.Offset + before.span.Length
			case k != nil && k.span.Length == e.span.Length && k.span.Offset >= 0 && samePath(k.url, e.url):
				e.span.Offset = k.span.Offset
			}
			if e.span.Offset >= 0 {
				where := pathOf(e.src)
				if p.placeless {
					where = e.url
				}
				e.key = keyOf(where, e.span)
			}
		}
		before = e
	}
}

func samePath(a, b string) bool {
	a, _, _ = strings.Cut(a, "?")
	b, _, _ = strings.Cut(b, "?")
	return a == b
}

func (p *Planner) segment(n int64, e *entry) Segment {
	s := e.src
	seg := Segment{ID: p.id(n), Sequence: uint64(e.seq), URL: e.url, Path: pathOf(s), Range: e.span, Duration: e.duration, Date: e.date,
		Dated: e.dated, Title: s.Title, Period: e.period, Map: e.init, Keys: e.keys, Parts: s.Parts, Discontinuity: s.Discontinuity,
		Gap: s.Gap, Count: 1}
	if p.placeless {
		seg.Path = e.url
	}
	switch {
	case strings.Contains(e.base, "preloading"):
		seg.Skip = true
	case strings.Contains(s.Title, "Amazon") || p.isAd(e):
		seg.Ad = true
	}
	return seg
}

// noteAds keeps the advertising that a list names: the tag leaves the list before the segments do.
func (p *Planner) noteAds(l *hls.Media) {
	for _, d := range l.DateRanges {
		if d.Start.IsZero() || d.Class != "twitch-stitched-ad" && !strings.HasPrefix(d.ID, "stitched-ad-") {
			continue
		}
		a := ad{id: d.ID, start: d.Start, end: d.End}
		if a.end.IsZero() && d.Duration > 0 {
			a.end = d.Start.Add(d.Duration)
		}
		a.open = a.end.IsZero()
		if i := slices.IndexFunc(p.ads, func(x ad) bool { return x.id == a.id && x.start.Equal(a.start) }); i >= 0 {
			if !a.open {
				p.ads[i] = a
			}
			continue
		}
		if len(p.ads) >= 64 {
			p.ads = p.ads[1:]
		}
		p.ads = append(p.ads, a)
	}
}

// isAd reports whether a segment begins inside advertising. Dates are rounded at times, so a tenth of a second counts
// for nothing.
func (p *Planner) isAd(e *entry) bool {
	if e.date.IsZero() {
		return false
	}
	const slack = 100 * time.Millisecond
	for i := range p.ads {
		a := &p.ads[i]
		if e.date.Before(a.start.Add(-slack)) {
			continue
		}
		if a.open && e.src.Discontinuity && e.date.After(a.start.Add(slack)) {
			a.end, a.open = e.date, false
		}
		if a.open || e.date.Before(a.end.Add(-slack)) {
			return true
		}
	}
	return false
}
