package repair

import (
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// likeness is what a tag of a replay can be.
type likeness uint8

const (
	newMedia  likeness = iota // not written yet: the replay is over for this track
	known                     // written already
	backAgain                 // the replay itself began anew
)

const (
	clockSlack = 2   // ms by which two copies of a tag may differ on one clock
	looseSlack = 100 // ms by which they may differ where the tail of a file is all that is known
)

// compare tells whether a tag of a replay was written already.
func (r *Repairer) compare(t int, e *entry) likeness {
	p, c := &r.past[t], &r.clock
	if p.n == 0 { // the clock is all that there is to tell by
		if c.has[t] && e.ext+c.offset[t] <= c.lastRaw[t] {
			r.stats.Late++
			return known
		}
		return newMedia
	}
	begun := r.cursor[t] >= 0
	if t == vid && len(e.body) > bigTag {
		r.follow(e)
	}
	if begun && !e.settled && e.ext < r.replayed[t]-backLimit {
		return backAgain
	}
	if begun && r.cursor[t] == p.n || e.ext > p.top()+c.frame[t]/2 {
		return newMedia
	}
	r.replayed[t] = e.ext
	i := p.find(e.sum, e.ext, clockSlack)
	if i < 0 {
		i = p.find(e.sum, e.ext, looseSlack)
	}
	switch {
	case i >= 0 && i >= r.cursor[t]:
		r.cursor[t] = i + 1
		return known
	case e.ext > p.get(p.n-1).src:
		return newMedia
	}
	r.stats.Late++
	return known
}

// follow corrects the clock inside a replay by a tag that was written once: what was written across a hole of unknown
// length does not have the distances that the replay has, and the distance to the last tags counts.
func (r *Repairer) follow(e *entry) {
	p := &r.past[vid]
	if p.count(e.sum) != 1 || p.find(e.sum, e.ext, clockSlack) >= 0 {
		return
	}
	p.each(e.sum, func(i int64) bool {
		if by := p.get(i).src - e.ext; i >= r.cursor[vid] && by <= maxHoldMedia && by >= -maxHoldMedia {
			r.shift(by)
			e.ext += by
			r.replayed[vid] += by
			r.replayed[aud] += by
		}
		return false
	})
}

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
			r.release()
			return
		}
		for i := range r.hold {
			if r.hold[i].media() {
				r.account.PreRoll++
			}
		}
		clear(r.hold)
		r.hold = r.hold[:0]
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
	last := &r.hold[len(r.hold)-1]
	for i := range r.hold {
		if e := &r.hold[i]; e.media() && e.t() == last.t() {
			return last.media() && last.ext-e.ext >= maxHoldMedia
		}
	}
	return false
}

// master is the track whose clock is the session's.
func (r *Repairer) master() int {
	if r.gate.cur[vid].set {
		return vid
	}
	return aud
}

// join tries to end a seam. last says that there will be no more evidence.
func (r *Repairer) join(last bool) {
	var lead [2]*entry // first media of each track
	for i := range r.hold {
		e := &r.hold[i]
		if e.media() && lead[e.t()] == nil {
			lead[e.t()] = e
		}
	}
	m := lead[r.master()]
	if m == nil && last {
		m = lead[1-r.master()]
	}
	if m == nil {
		if last {
			r.letGo(lead)
		}
		return
	}
	c := &r.clock
	t := m.t()
	d := r.missing(t, m)

	// 1. The clock went on, past all that was written. At a new connection that is not the last word where the tags
	// look familiar: another node may number its tags a few seconds ahead.
	tight := d >= -c.frame[t] && d <= c.frame[t]
	onward := m.ext > r.top(t)+clockSlack && (tight || d > 0 && c.plausible(m.at, m.ext+c.offset[t]))
	if onward && !(r.trig.fresh() && r.looks(true)) {
		if d+c.frame[t] > aheadLimit && lead[aud] == nil && c.has[aud] && !last && !r.atEnd {
			return // closing a hole is neater when both sides of both tracks are known
		}
		r.resume(lead)
		return
	}

	// 2. Known tags.
	if last || !onward && r.worthALook() {
		if s, ok := r.match(last); ok && (!onward || r.fromEdge(s, s.shift) < r.fromEdge(s, 0)) {
			r.overlap(s, lead)
			return
		}
	}
	if last && r.trig.fresh() && !onward && r.past[t].n == 0 && c.has[t] {
		// Nothing is left of what was written but its clock: that must do, where it brings the newest of what is
		// held to the live edge.
		if s := r.score(0); r.fromEdge(s, 0) <= edgeSlack {
			s.first = m.ext
			r.overlap(s, lead)
			return
		}
	}
	if last || r.trig == byJump && r.looks(false) {
		r.resume(lead)
	}
}

// top is the highest source time of a track that was written lately.
func (r *Repairer) top(t int) int64 {
	if r.past[t].n == 0 && r.clock.has[t] {
		return r.clock.lastRaw[t] - r.clock.offset[t]
	}
	return r.past[t].top()
}

// worthALook keeps the search from being made for every tag of a long hold.
func (r *Repairer) worthALook() bool {
	n := len(r.hold)
	if n <= 12 || n&(n-1) == 0 || r.atEnd {
		return true
	}
	e := &r.hold[n-1]
	return e.kind == media.Video && len(e.body) > bigTag && r.past[vid].count(e.sum) == 1 &&
		r.past[vid].find(e.sum, e.ext, clockSlack) >= 0
}

// missing is the media time between the end of a track and a tag.
func (r *Repairer) missing(t int, e *entry) int64 {
	c := &r.clock
	raw := e.ext + c.offset[t]
	if !c.has[t] {
		return raw - c.end()
	}
	return raw - c.lastRaw[t] - c.frame[t]
}

// looks reports whether a video tag is held that is big enough to be known, and whether the first such is.
func (r *Repairer) looks(familiar bool) bool {
	for i := range r.hold {
		e := &r.hold[i]
		if e.kind == media.Video && len(e.body) > bigTag {
			return (r.past[vid].count(e.sum) > 0) == familiar
		}
	}
	return false
}

const (
	maxCandidates = 48
	maxProbes     = 24   // known tags that offer a shift
	maxScored     = 4096 // held tags that a candidate is measured by
	edgeSlack     = 1000 // ms
	edgeMargin    = 200  // ms
)

// score is how well a shift of the source's clock explains what is held.
type score struct {
	shift     int64
	first     int64 // shifted source time of the first known tag
	tags      int   // known
	big       int   // of them video above 200 bytes
	unique    int   // of them those that were written only once
	bigUnique int
	against   int   // later tags at a place where something else was written
	behind    int   // how many tags were written from the first known one on
	beyond    bool  // held tags go on behind all that was written
	newest    int64 // source time of the newest held tag, shifted
	newestAt  int64
}

// match looks for a shift under which held tags are what was written.
func (r *Repairer) match(last bool) (best score, ok bool) {
	t := r.master()
	c := &r.clock
	p := &r.past[t]
	var cands [maxCandidates]int64 // the first is the clock that was in use
	n, probes := 1, 0
	onward, first := int64(0), true // the shift with which the first held tag comes right after what was written
	for i := range r.hold {
		e := &r.hold[i]
		if !e.media() || e.t() != t {
			continue
		}
		if first {
			onward, first = c.last[t]+c.frame[t]-c.offset[t]-e.ext, false
		}
		if t == vid && len(e.body) <= bigTag {
			continue
		}
		if p.count(e.sum) == 0 {
			continue
		}
		if probes++; probes > maxProbes {
			break
		}
		p.each(e.sum, func(k int64) bool {
			s := p.get(k).src - e.ext
			for _, have := range cands[:n] {
				if max(s-have, have-s) <= clockSlack {
					return true
				}
			}
			if n < maxCandidates {
				cands[n] = s
				n++
			}
			return n < maxCandidates
		})
	}
	late := int64(-1)
	for i, shift := range cands[:n] {
		s := r.score(shift)
		if i == 0 {
			// Where the clock agrees, one big tag will do; but inside a connection a still picture after a jump must
			// not pass for a replay.
			sure := s.big >= 1 || s.tags >= 8
			if t == aud {
				sure = s.unique >= 3 || s.tags >= 8
			}
			sure = sure && s.against == 0 && (r.trig.fresh() || s.unique >= 1)
			if sure || s.bigUnique >= 1 && s.tags >= 3 && s.against*4 <= s.tags {
				return s, true
			}
		}
		switch {
		case s.tags < 3 && (s.tags < s.behind || !s.beyond) || s.against*8 > s.tags:
		case s.bigUnique >= 1 || t == aud && s.unique >= 8:
			if !ok || s.tags > best.tags {
				best, ok = s, true
			}
		case last && !ok && s.big >= 1 && r.now-c.since >= burstWall:
			// The same bytes were written more than once. The live edge tells which of them this can be, if it is
			// not the next of their kind.
			if d := r.fromEdge(s, shift); d <= edgeSlack && d+edgeMargin < r.fromEdge(s, onward) && (late < 0 || d < late) {
				best, late = s, d
			}
		}
	}
	return best, ok || late >= 0
}

// fromEdge is how far from the live edge a shift puts the newest held tag.
func (r *Repairer) fromEdge(s score, shift int64) int64 {
	raw := s.newest - s.shift + shift + r.clock.offset[r.master()]
	d := s.newestAt - raw - r.clock.edge()
	return max(d, -d)
}

// score measures a shift against what is held.
func (r *Repairer) score(shift int64) score {
	s := score{shift: shift}
	for i, n := 0, 0; i < len(r.hold) && n < maxScored; i++ {
		e := &r.hold[i]
		if !e.media() {
			continue
		}
		n++
		t := e.t()
		p := &r.past[t]
		src := e.ext + shift
		s.newest, s.newestAt = src, e.at
		switch {
		case p.n == 0 || src < p.bottom()-clockSlack:
		case src > p.top()+clockSlack:
			s.beyond = s.beyond || s.tags > 0
		case p.find(e.sum, src, clockSlack) >= 0:
			if s.tags == 0 {
				s.first = src
				for t := range r.past {
					s.behind += r.past[t].since(src)
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
		case s.tags > 0 && p.covers(src, r.clock.frame[t]) && p.find(e.sum, src, looseSlack) < 0:
			s.against++
		}
	}
	return s
}

// shift moves the source's clock: what comes, and what is held already.
func (r *Repairer) shift(by int64) {
	r.clock.refExt += by
	for i := range r.hold {
		r.hold[i].ext += by
	}
	for i := range r.work {
		r.work[i].ext += by
	}
}

// overlap goes on with a clock that was proven by known tags: they are dropped up to the end of what was written.
func (r *Repairer) overlap(s score, lead [2]*entry) {
	r.shift(s.shift)
	for t := range r.replaying {
		r.replaying[t], r.cursor[t] = true, -1
		r.clock.hasAlt[t] = false
	}
	if !r.reported {
		r.reported = true
		t := r.master()
		twice := seconds(r.top(t) - s.first + r.clock.frame[t])
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
	m := lead[r.master()]
	if m == nil {
		m = lead[1-r.master()]
	}
	c := &r.clock
	t := m.t()
	d := r.missing(t, m)
	wait := max(0, m.at-c.lastAt)
	frame := c.frame[t]
	likely := c.plausible(m.at, m.ext+c.offset[t])
	tight := d >= -frame && d <= frame
	fresh := r.trig.fresh()
	r.replaying = [2]bool{}
	master := t == r.master()
	switch {
	case d >= -backLimit && d+frame <= aheadLimit && (tight || likely || !fresh):
		if !fresh {
			break // the other track jumped, or none
		}
		r.joint = r.joint && !master
		if 4*d > 3*frame {
			r.told = d
			r.gap(d, r.reason())
		} else {
			r.stats.Seams++
			r.sink.Repair(Repair{Kind: Seam, Out: r.edgeOut(), What: "connection renewed without loss"})
		}
	case likely && d > 0:
		why := WhyMissing
		if fresh {
			why = r.reason()
		}
		r.gap(d, why)
		r.joint = r.joint && !master
		by, _ := r.closing(lead, true)
		c.close(-by)
		for t := range c.offset {
			c.offset[t] += by
			c.hasAlt[t] = false
		}
		c.edgeNow -= by
		c.edgeOld -= by
	default:
		r.stats.Jumps++
		r.joint = false
		switch {
		case fresh && likely && d < -backLimit && r.otherwise():
			// Another quality of the stream, on the same clock: a node's cache begins before the end of what was
			// written. Its pictures cannot be left out, for the rest is built on them.
			wait = 0
			r.sink.Repair(Repair{Kind: Seam, Out: r.edgeOut(), What: "the stream goes on in another form, which begins " + seconds(d) + " earlier"})
		case fresh && wait >= frame:
			r.gap(wait, r.reason())
		case !fresh && wait > futureSlack+frame:
			r.gap(wait, WhySilent)
		default:
			wait = 0
			what := "clock jumped ahead by "
			if d < 0 {
				what = "clock jumped back by "
			}
			r.sink.Repair(Repair{Kind: Clock, Out: r.edgeOut(), What: what + seconds(d)})
		}
		by, stays := r.closing(lead, fresh)
		if wait > 0 { // the source's clock has the hole, the session's has not
			c.close(wait)
			c.offset[vid] -= wait
			c.offset[aud] -= wait
			r.shift(wait)
		}
		r.shift(by)
		o := 1 - t
		c.hasAlt = [2]bool{}
		switch {
		case stays:
			c.offset[o] -= by
		case !fresh && lead[o] == nil: // it will jump, or not
			c.alt[o], c.hasAlt[o] = c.offset[o]-by, true
		}
		c.renew(m.at, m.ext+c.offset[t])
	}
	r.letGo(lead)
}

// otherwise reports whether the picture is in another form than what was written.
func (r *Repairer) otherwise() bool {
	if r.gate.change[vid] {
		return true
	}
	for i := range r.hold {
		e := &r.hold[i]
		if e.kind != media.VideoConfig {
			continue
		}
		h := header{set: true, codec: e.codec, plain: e.plain, lead: e.lead, body: e.body}
		if c := &r.gate.cur[vid]; c.set && (c.codec != h.codec || c.plain != h.plain || !sameHeader(c, &h)) {
			return true
		}
	}
	return false
}

// closing is the move that brings the held tags to one frame behind what was written. With both false, the track
// that did not jump stays where it is.
func (r *Repairer) closing(lead [2]*entry, both bool) (by int64, stays bool) {
	c := &r.clock
	t := r.master()
	if lead[t] == nil {
		t = 1 - t
	}
	o := 1 - t
	need := func(t int) int64 {
		end := c.end()
		if c.has[t] {
			end = c.last[t] + c.frame[t]
		}
		return end - lead[t].ext - c.offset[t]
	}
	by = need(t)
	if lead[o] != nil && c.has[o] {
		if !both && c.fits(o, lead[o].ext+c.offset[o]) {
			return by, true
		}
		if n := need(o); n > by && n-by <= aheadLimit/2 {
			by = n // no overlap in either
		}
	}
	return by, false
}

// letGo ends the seam.
func (r *Repairer) letGo(lead [2]*entry) {
	for _, e := range lead {
		if e != nil {
			e.settled = true
		}
	}
	r.mode, r.trig = running, noTrigger
	r.changes++
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
	r.changes++
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
