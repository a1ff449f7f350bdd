package repair

// A source that repeats itself. Where its clock jumps back the media is dropped as known; where the clock goes on it is
// written, because a looped film is media like any other. Either way whoever reads should ask whether the broadcast is
// over, and look at another connection: a node that lost its origin repeats its cache for ever (T9).

const (
	loopGOPs   = 5
	loopTags   = 200     // where there is no video
	loopQuiet  = 10_000  // ms without anything new
	loopMost   = 600_000 // ms, what that grows to for a source that repeats itself on every connection
	loopForget = 60_000  // ms of new media after which it counts from the start again
	loopMemory = 64      // GOPs
)

// loop judges media that was written although it was known.
type loop struct {
	gops [loopMemory]uint64 // digests of the last whole groups of pictures, by running number
	n    int64
	open bool // a group is being gathered
	sum  uint64
	tags uint64
	from int64 // output time of its key frame

	newSound, oldSound int // audio tags of the group

	period int64 // how many groups ago this one was written before
	run    int   // how many groups in a row were
	newAt  int64 // ms, when the last new group ended, or the connection began
	quiet  int64 // ms that the next verdict takes
	novel  int64 // ms of new media since the last one
	due    bool  // a verdict was reached and not yet given
}

// begin starts the judgement anew, as each connection does. What was written stays known.
func (l *loop) begin(now int64) { l.run, l.newAt, l.due = 0, now, false }

// sound takes an audio tag; known says whether it was written before.
func (l *loop) sound(known bool) {
	if known {
		l.oldSound++
	} else {
		l.newSound++
	}
}

// picture takes a video tag and reports whether this ends the patience.
func (l *loop) picture(key bool, sum uint64, out, now int64) bool {
	verdict := false
	if key {
		if l.open {
			verdict = l.end(out-l.from, now)
		}
		l.open, l.sum, l.tags, l.from, l.newSound, l.oldSound = true, 0, 0, out, 0, 0
	}
	l.tags++
	l.sum = Chain(l.sum, l.tags, sum)
	return verdict
}

// end is the end of a group that lasted so many ms.
func (l *loop) end(length, now int64) bool {
	if l.quiet == 0 {
		l.quiet = loopQuiet
	}
	again := l.again()
	l.gops[l.n%loopMemory] = l.sum
	l.n++
	if !again || l.newSound > l.oldSound { // a new voice over an old picture is new
		l.run, l.newAt = 0, now
		if l.novel += length; l.novel >= loopForget {
			l.quiet = loopQuiet
		}
		return false
	}
	l.run++
	if l.run < loopGOPs || now-l.newAt <= l.quiet {
		return false
	}
	l.begin(now)
	l.quiet = min(2*l.quiet, loopMost)
	l.novel = 0
	l.due = true
	return true
}

// again reports whether the group that ends goes on with what was written before, in the same order.
func (l *loop) again() bool {
	if l.run > 0 && l.period <= min(l.n, loopMemory) && l.gops[(l.n-l.period)%loopMemory] == l.sum {
		return true
	}
	l.run = 0
	for p := int64(1); p <= min(l.n, loopMemory); p++ {
		if l.gops[(l.n-p)%loopMemory] == l.sum {
			l.period = p
			return true
		}
	}
	return false
}

// looping reports whether nothing came for long but what was dropped as known. What is held may be new.
func (r *Repairer) looping() bool {
	if r.loop.due {
		r.loop.due = false
		return true
	}
	return r.mode == running && r.now-r.newAt > loopQuiet &&
		(r.stats.LoopGOPs >= loopGOPs || !r.gate.cur[vid].set && r.loopDups >= loopTags)
}
