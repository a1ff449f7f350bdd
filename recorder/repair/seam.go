package repair

import (
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// known, and its relatives, is what a tag of a replay can be.
type likeness uint8

const (
	newMedia  likeness = iota // not written yet: the replay is over for this track
	known                     // written already
	backAgain                 // the replay itself began anew
)

// compare tells whether a tag of a replay was written already. It follows the past from where the replay met it.
func (r *Repairer) compare(t int, e *entry) likeness {
	p, c := &r.past[t], &r.clock
	raw := e.ext + c.offset[t]
	if p.n == 0 {
		return newMedia
	}
	begun := r.cursor[t] >= 0
	if begun && !e.settled && raw < r.replayed[t]-backLimit {
		return backAgain
	}
	if begun && r.cursor[t] == p.n || raw > p.top()+c.frame[t]/2 {
		return newMedia
	}
	r.replayed[t] = raw
	i := p.at(e.sum, raw, clockSlack)
	if i < 0 {
		i = p.at(e.sum, raw, looseSlack)
	}
	switch {
	case i >= 0 && i >= r.cursor[t]:
		r.cursor[t] = i + 1
		return known
	case raw > c.lastRaw[t]:
		return newMedia
	}
	r.stats.Late++
	return known
}

const (
	clockSlack = 2   // ms by which two copies of a tag may differ on one clock
	looseSlack = 100 // ms by which they may differ where the tail of a file is all we know
)

// decide ends a hold as soon as it can be ended; with force, at once.
func (r *Repairer) decide(force bool) {
	if len(r.hold) == 0 || r.err != nil {
		return
	}
	switch r.mode {
	case starting:
		over := force || r.full() || len(r.work) == 0 && r.now-r.holdSince >= r.cfg.headerWait
		if !over && !r.ready() {
			return
		}
		if r.prepare() {
			r.mode = running
		} else {
			for i := range r.hold {
				if r.hold[i].media() {
					r.account.PreRoll++
					r.hold[i].kind = 0
				}
			}
			clear(r.hold)
			r.hold = r.hold[:0]
			return
		}
		r.release()
	case joining:
		r.join(force || r.full() || len(r.work) == 0 && r.now-r.holdSince >= r.cfg.seamWait)
	}
}

// full reports whether no more may be held.
func (r *Repairer) full() bool {
	if r.holdBytes >= r.cfg.holdBytes || len(r.hold) >= maxHoldTags {
		return true
	}
	if r.mode == starting {
		return false
	}
	var first *entry
	for i := range r.hold {
		if e := &r.hold[i]; e.media() {
			first = e
			break
		}
	}
	last := &r.hold[len(r.hold)-1]
	return first != nil && last.media() && last.track() == first.track() && last.ext-first.ext >= maxHoldMedia
}

// join tries to end a seam. last says that there will be no more evidence.
func (r *Repairer) join(last bool) {
	var lead [2]*entry // first media of each track
	for i := range r.hold {
		e := &r.hold[i]
		if e.media() && lead[e.track()] == nil {
			lead[e.track()] = e
		}
	}
	m := lead[vid]
	if m == nil && (last || !r.gate.cur[vid].set) {
		m = lead[aud]
	}
	if m == nil {
		if last {
			r.resume(lead)
		}
		return
	}
	t := m.track()
	raw := m.ext + r.clock.offset[t]
	d := r.missing(t, raw)

	// 1. The clock went on, past all that was written. At a new connection that is not the last word where the tags
	// look familiar: another node may number its tags a few seconds ahead.
	tight := d >= -r.clock.frame[t] && d <= r.clock.frame[t]
	likely := r.clock.plausible(m.at, raw)
	onward := raw > r.past[t].top() && (tight || likely && d > 0)
	if onward && (!r.trig.fresh() || !r.familiar()) {
		if d > aheadLimit && lead[aud] == nil && r.clock.has[aud] && !last && !r.atEnd {
			return // closing a hole is neater when both sides of both tracks are known
		}
		r.resume(lead)
		return
	}

	// 2. Known tags.
	if !onward || last {
		if s, ok := r.match(last); ok && (!onward || r.closer(s)) {
			r.overlap(s.offset, s.first, lead)
			return
		}
	}
	if last || r.trig == byJump && r.stranger() {
		r.resume(lead)
	}
}

// missing is the media time between the end of a track and raw.
func (r *Repairer) missing(t int, raw int64) int64 {
	c := &r.clock
	if !c.has[t] {
		return raw - c.end()
	}
	return raw - c.lastRaw[t] - c.frame[t]
}

// stranger reports whether a video tag is held that is big enough to be known and is not.
func (r *Repairer) stranger() bool {
	e := r.firstBig()
	return e != nil && r.past[vid].count(e.sum) == 0
}

// familiar reports whether the first video tag that is big enough was written before.
func (r *Repairer) familiar() bool {
	e := r.firstBig()
	return e != nil && r.past[vid].count(e.sum) > 0
}

func (r *Repairer) firstBig() *entry {
	for i := range r.hold {
		if e := &r.hold[i]; e.kind == media.Video && len(e.body) > bigTag {
			return e
		}
	}
	return nil
}

// closer reports whether an offset brings the newest held tag nearer to the live edge than the old clock does.
func (r *Repairer) closer(s score) bool {
	off := func(raw int64) int64 {
		d := s.lastAt - raw - r.clock.edge()
		return max(d, -d)
	}
	t := r.master()
	return off(s.lastRaw) < off(s.lastRaw-s.offset+r.clock.offset[t])
}

// master is the track whose clock is the session's.
func (r *Repairer) master() int {
	if r.gate.cur[vid].set {
		return vid
	}
	return aud
}

const (
	maxCandidates = 48
	maxProbes     = 24  // held tags that are looked up
	maxScored     = 768 // held tags that a candidate is measured by
)

// score is how well an offset explains what is held.
type score struct {
	offset    int64
	first     int64 // raw time of the first known tag
	tags      int   // known
	big       int   // of them video above 200 bytes
	unique    int   // of them those that were written only once
	bigUnique int
	against   int  // later tags at a place where something else was written
	behind    int  // how many tags were written from the first known one on
	beyond    bool // held tags go on behind all that was written
	lastRaw   int64
	lastAt    int64
}

// match looks for an offset of the video track (of audio where there is no video) under which held tags are what was
// written.
func (r *Repairer) match(last bool) (best score, ok bool) {
	t := r.master()
	var cands [maxCandidates]int64
	n := 1
	cands[0] = r.clock.offset[t] // the clock that was in use
	p := &r.past[t]
	probes := 0
	for i := range r.hold {
		e := &r.hold[i]
		if !e.media() || e.track() != t || t == vid && len(e.body) <= bigTag {
			continue
		}
		if probes++; probes > maxProbes {
			break
		}
		p.each(e.sum, func(k int64) bool {
			c := p.get(k).raw - e.ext
			for _, have := range cands[:n] {
				if max(c-have, have-c) <= clockSlack {
					return true
				}
			}
			if n < maxCandidates {
				cands[n] = c
				n++
			}
			return n < maxCandidates
		})
	}
	late := int64(-1)
	for i, c := range cands[:n] {
		s := r.score(c - r.clock.offset[t])
		s.offset = c
		switch {
		case i == 0:
			sure := s.big >= 1 || s.tags >= 8
			if t == aud {
				sure = s.unique >= 3 || s.tags >= 8
			}
			if sure && s.against == 0 || s.bigUnique >= 1 && s.tags >= 3 && s.against*4 <= s.tags {
				return s, true
			}
		case s.tags < 3 && (s.tags < s.behind || !s.beyond) || s.against*8 > s.tags:
		case s.bigUnique >= 1 || t == aud && s.unique >= 8:
			if late < 0 || s.tags > best.tags {
				best, late, ok = s, 0, true
			}
		case last && !ok && s.big >= 1 && !r.clock.young(r.now):
			// The same bytes were written more than once. The live edge tells which of them this can be.
			if d := s.lastAt - s.lastRaw - r.clock.edge(); max(d, -d) <= edgeSlack && (late < 0 || max(d, -d) < late) {
				best, late = s, max(d, -d)
			}
		}
	}
	return best, ok || late >= 0
}

const edgeSlack = 1000 // ms

// score measures a shift of both tracks against what is held.
func (r *Repairer) score(shift int64) (s score) {
	for i, n := 0, 0; i < len(r.hold) && n < maxScored; i++ {
		e := &r.hold[i]
		if !e.media() {
			continue
		}
		n++
		t := e.track()
		p := &r.past[t]
		raw := e.ext + r.clock.offset[t] + shift
		s.lastRaw, s.lastAt = max(s.lastRaw, raw), e.at
		if p.n > 0 && raw > p.top()+clockSlack && s.tags > 0 {
			s.beyond = true
		}
		if p.n == 0 || raw > p.top()+clockSlack || raw < p.get(p.first()).raw-clockSlack {
			continue
		}
		if p.at(e.sum, raw, clockSlack) < 0 {
			if s.tags > 0 && p.covers(raw, r.clock.frame[t]) && p.at(e.sum, raw, looseSlack) < 0 {
				s.against++
			}
			continue
		}
		if s.tags == 0 {
			s.first = raw
			for t := range r.past {
				s.behind += int(r.past[t].n - r.past[t].seek(raw))
			}
		}
		s.tags++
		big := t == vid && len(e.body) > bigTag
		if big {
			s.big++
		}
		if p.count(e.sum) == 1 {
			s.unique++
			if big {
				s.bigUnique++
			}
		}
	}
	return s
}

// young reports whether the live edge is not known well yet.
func (c *clock) young(now int64) bool { return now-c.since < burstWall }

// overlap goes on with an offset that was proven by known tags: they are dropped up to the end of what was written.
func (r *Repairer) overlap(offset, first int64, lead [2]*entry) {
	c := &r.clock
	t := r.master()
	shift := offset - c.offset[t]
	for t := range c.offset {
		c.offset[t] += shift
		c.hasAlt[t] = false
		r.replaying[t], r.cursor[t] = true, -1
	}
	if !r.reported {
		r.reported = true
		twice := seconds(r.past[t].top() - first + c.frame[t])
		if r.trig.fresh() {
			r.stats.Seams++
			r.sink.Repair(Repair{Kind: Seam, Out: r.edgeOut(), What: "connection renewed without loss, " + twice + " came twice"})
		} else {
			r.sink.Repair(Repair{Kind: Replay, Out: r.edgeOut(), What: "the source sent " + twice + " again"})
		}
	}
	r.letGo(lead)
}

// resume goes on without known tags: where the clock says, or at the end of what was written.
func (r *Repairer) resume(lead [2]*entry) {
	m := lead[vid]
	if m == nil {
		m = lead[aud]
	}
	if m == nil {
		r.letGo(lead)
		return
	}
	c := &r.clock
	t := m.track()
	raw := m.ext + c.offset[t]
	d := r.missing(t, raw)
	wait := max(0, m.at-c.lastAt)
	frame := c.frame[t]
	likely := c.plausible(m.at, raw)
	tight := d >= -frame && d <= frame
	fresh := r.trig.fresh()
	for t := range r.replaying {
		r.replaying[t] = false
	}
	switch {
	case d >= -backLimit && d <= aheadLimit && (tight || likely || !fresh):
		if !fresh {
			break // the other track jumped, or none
		}
		if 4*d > 3*frame {
			r.gap(d, r.reason())
		} else {
			r.stats.Seams++
			r.sink.Repair(Repair{Kind: Seam, Out: r.edgeOut(), What: "connection renewed without loss"})
		}
	case likely && d > aheadLimit:
		why := WhyMissing
		if fresh {
			why = r.reason()
		}
		r.gap(d, why)
		by := r.closeUp(lead, true)
		c.edgeNow -= by
		c.edgeOld -= by
	default:
		r.stats.Jumps++
		switch {
		case fresh && wait >= frame:
			r.gap(wait, r.reason())
		case !fresh && wait > futureSlack+frame:
			r.gap(wait, WhySilent)
		default:
			what := "clock jumped ahead by "
			if d < 0 {
				what = "clock jumped back by "
			}
			r.sink.Repair(Repair{Kind: Clock, Out: r.edgeOut(), What: what + seconds(d)})
		}
		by := r.closeUp(lead, fresh)
		c.renew(m.at, raw+by)
	}
	r.letGo(lead)
}

// closeUp moves the offsets so that the held tags follow what was written at one frame's distance, and says by how
// much. Both tracks move together; with both false, one that did not jump stays.
func (r *Repairer) closeUp(lead [2]*entry, both bool) int64 {
	c := &r.clock
	t := vid
	if lead[vid] == nil {
		t = aud
	}
	o := 1 - t
	need := func(t int) int64 {
		end := c.end()
		if c.has[t] {
			end = c.last[t] + c.frame[t]
		}
		return end - lead[t].ext - c.offset[t]
	}
	by := need(t)
	stays := false
	if lead[o] != nil && c.has[o] {
		if !both && c.fits(o, lead[o].ext+c.offset[o]) {
			stays = true
		} else if n := need(o); n > by && n-by <= aheadLimit-c.frame[t] {
			by = n // no overlap in either
		}
	}
	c.alt[o], c.hasAlt[o] = c.offset[o], !both && lead[o] == nil
	c.offset[t] += by
	c.hasAlt[t] = false
	if !stays {
		c.offset[o] += by
	}
	return by
}

// letGo ends the seam.
func (r *Repairer) letGo(lead [2]*entry) {
	for _, e := range lead {
		if e != nil {
			e.settled = true
		}
	}
	r.mode, r.trig = running, noTrigger
	r.release()
}

// anchor finds a place for a tag that fits nowhere and whose seam is decided: near by it stays, and is clamped if
// need be; far away its track has a clock of its own (S8).
func (r *Repairer) anchor(t int, e *entry) int64 {
	c := &r.clock
	raw := e.ext + c.offset[t]
	end := c.end()
	d := raw - end
	back := c.has[t] && raw < c.last[t]+c.frame[t]-backLimit
	if back {
		end = c.last[t] + c.frame[t]
		d = raw - end
	}
	if !back && d >= -skewLimit && d <= skewLimit {
		return raw
	}
	c.offset[t] += end - raw
	r.stats.Jumps++
	r.sink.Repair(Repair{Kind: Clock, Out: r.edgeOut(), What: "the clock of the " + trackName(t) + " is " + seconds(d) + " away from the other"})
	return end
}

func (r *Repairer) reason() string {
	if r.why == "" {
		return "connection lost"
	}
	return r.why
}

// edgeOut is where the last frame ends: of video, where there is video.
func (r *Repairer) edgeOut() int64 {
	for t := range r.clock.has {
		if r.clock.has[t] {
			return r.clock.last[t] + r.clock.frame[t]
		}
	}
	return 0
}

func (r *Repairer) gap(ms int64, why string) {
	r.sink.Gap(Gap{At: time.UnixMilli(r.clock.lastAt), Out: r.edgeOut(), Length: time.Duration(ms) * time.Millisecond, Why: why})
}
