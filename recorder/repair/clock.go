package repair

import (
	"slices"
	"strconv"
)

const (
	backLimit    = 500  // ms back that count as an overlap, not as a jump
	aheadLimit   = 1000 // ms from one tag to the next that count as jitter, not as a jump
	skewLimit    = 3000 // ms between the tracks that are not yet two clocks
	stuckLimit   = 4    // equal time stamps in a row before they are made up
	pauseAfter   = 3000 // ms without one track that are worth a word
	wrap24       = 1 << 24
	wrapSlack    = 60_000 // ms around a 24-bit wrap
	fallbackV    = 33     // ms
	fallbackA    = 23     // ms
	edgeBucket   = 60_000 // ms over which the live edge is measured, twice
	futureSlack  = 2000   // ms that a tag may be ahead of the live edge
	cacheLimit   = 30_000 // ms that a node's cache may be behind it
	burstWall    = 2000   // ms of a new clock in which the live edge is not known yet
	burstMedia   = 10_000 // ms of media that may come in that time
	maxDeltas    = 31
	deltaRefresh = 8
)

// clock turns the source's time stamps into the session's.
//
// The source's clock is unwrapped to 64 bits and goes on over all connections: when the source takes another one, the
// reference moves. "raw" is source time + offset, on the session's clock but as uneven as it was sent; the offset
// changes where a hole is closed. "out" rises strictly.
type clock struct {
	begun bool

	haveRef bool
	ref     uint32 // last time stamp of any track
	refExt  int64

	offset [2]int64
	alt    [2]int64 // the offset before the last jump that this track took no part in yet
	hasAlt [2]bool

	has     [2]bool
	last    [2]int64 // out
	lastRaw [2]int64
	stuck   [2]int
	frame   [2]int64

	closed []Closed

	deltas  [2][maxDeltas]int64
	nDeltas [2]int
	told    bool // the header says how long a frame of sound lasts

	edgeNow, edgeOld int64 // smallest (wall - raw) in this bucket and in the one before
	bucketEnd        int64
	lastAt           int64 // wall time of the last accepted tag
	since, sinceRaw  int64 // where this clock began, on the wall and in the session
}

// unwrap makes 64 bits of a time stamp. One reference serves both tracks, so they never wrap apart.
func (c *clock) unwrap(dts int64) int64 {
	raw := uint32(dts)
	if !c.haveRef {
		c.haveRef, c.ref, c.refExt = true, raw, int64(int32(raw))
		return c.refExt
	}
	d := int64(int32(raw - c.ref))
	switch { // a source that forgets the high byte
	case d >= -wrap24-wrapSlack && d <= -wrap24+wrapSlack:
		d += wrap24
	case d >= wrap24-wrapSlack && d <= wrap24+wrapSlack:
		d -= wrap24
	}
	c.ref = raw
	c.refExt += d
	return c.refExt
}

// start makes ext the zero of the session.
func (c *clock) start(ext, at int64) {
	c.begun = true
	c.offset = [2]int64{-ext, -ext}
	c.frame = [2]int64{fallbackV, fallbackA}
	c.renew(at, 0)
}

// renew says that raw now is measured by a clock of which nothing is known.
func (c *clock) renew(at, raw int64) {
	c.since, c.sinceRaw = at, raw
	c.edgeNow, c.edgeOld = at-raw, at-raw
	c.bucketEnd = at + edgeBucket
}

// live keeps the live edge.
func (c *clock) live(at, raw int64) {
	c.lastAt = at
	lag := at - raw
	if at >= c.bucketEnd {
		c.edgeOld, c.edgeNow = c.edgeNow, lag
		c.bucketEnd = at + edgeBucket
	}
	c.edgeNow = min(c.edgeNow, lag)
}

func (c *clock) edge() int64 { return min(c.edgeNow, c.edgeOld) }

// plausible reports whether a tag that arrives at this moment can have this place on the clock that is in use: it is
// not from the future and not older than a node's cache.
func (c *clock) plausible(at, raw int64) bool {
	early := c.edge() - (at - raw)
	if early > futureSlack {
		return at-c.since < burstWall && raw-c.sinceRaw <= burstMedia
	}
	return early >= -cacheLimit
}

// close notes that a hole was closed.
func (c *clock) close(length int64) {
	if len(c.closed) == pastSpans {
		c.closed = append(c.closed[:0], c.closed[1:]...)
	}
	c.closed = append(c.closed, Closed{Out: c.end(), Length: length, Last: c.last})
}

// end is where the output is.
func (c *clock) end() int64 {
	var end int64
	for t := range c.has {
		if c.has[t] {
			end = max(end, c.last[t]+c.frame[t])
		}
	}
	return end
}

// fits reports whether a tag of track t may stand at raw.
func (c *clock) fits(t int, raw int64) bool {
	if !c.has[t] {
		d := raw - c.end()
		return d >= -skewLimit && d <= skewLimit
	}
	if raw == c.lastRaw[t] { // it stands still; the output may be far ahead by now
		return true
	}
	if d := raw - c.last[t]; d >= c.frame[t]-backLimit && d <= aheadLimit {
		return true
	}
	d := raw - c.end()
	return d >= -backLimit && d <= aheadLimit && raw > c.last[t]
}

// place finds the place of a tag: on its track's own clock, on the other's, on the one before.
func (c *clock) place(t int, ext int64) (raw int64, ok bool) {
	raw = ext + c.offset[t]
	if c.fits(t, raw) {
		c.hasAlt[t] = false
		return raw, true
	}
	if o := c.offset[1-t]; c.has[1-t] && o != c.offset[t] && c.fits(t, ext+o) {
		c.offset[t], c.hasAlt[t] = o, false
		return ext + o, true
	}
	if c.hasAlt[t] && c.fits(t, ext+c.alt[t]) {
		c.offset[t], c.hasAlt[t] = c.alt[t], false
		return ext + c.offset[t], true
	}
	return raw, false
}

type step uint8

const (
	kept step = iota
	clamped
	made
)

// stamp gives a tag its output time.
func (c *clock) stamp(t int, raw int64) (int64, step) {
	out, how := raw, kept
	if c.has[t] {
		if raw == c.lastRaw[t] {
			c.stuck[t]++
		} else {
			c.stuck[t] = 0
		}
		switch {
		case c.stuck[t] >= stuckLimit:
			out, how = c.last[t]+c.frame[t], made
		case out <= c.last[t]:
			out, how = c.last[t]+1, clamped
		}
		if d := raw - c.lastRaw[t]; (t == vid || !c.told) && d > 0 && d <= aheadLimit {
			c.measure(t, d)
		}
	}
	c.has[t], c.last[t], c.lastRaw[t] = true, out, raw
	return out, how
}

// measure keeps the frame length of a track that nobody tells: the median of the last distances.
func (c *clock) measure(t int, d int64) {
	c.deltas[t][c.nDeltas[t]%maxDeltas] = d
	c.nDeltas[t]++
	n := min(c.nDeltas[t], maxDeltas)
	if n < 3 || n == maxDeltas && c.nDeltas[t]%deltaRefresh != 0 {
		return
	}
	var s [maxDeltas]int64
	copy(s[:], c.deltas[t][:n])
	slices.Sort(s[:n])
	c.frame[t] = s[n/2]
}

// setAudioFrame takes what the header of the sound says; 0: it does not say.
func (c *clock) setAudioFrame(ms int64) {
	if c.told = ms > 0; c.told {
		c.frame[aud] = ms
	}
}

// seconds is a duration in ms for people: "90 s", "1.5 s".
func seconds(ms int64) string {
	if ms < 0 {
		ms = -ms
	}
	return strconv.FormatFloat(float64((ms+50)/100)/10, 'f', -1, 64) + " s"
}
