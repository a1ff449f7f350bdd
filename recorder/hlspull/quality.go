package hlspull

import (
	"strconv"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/recorder"
)

var _ recorder.Graded = (*Source)(nil)

const (
	// stepAfter is how many segments in a row have to come slower than they play before a lower quality is taken.
	stepAfter = 3
	// restFor is how long a quality is stayed with before a better one is tried, and how long that has to look possible.
	restFor = time.Minute
	// mostSteps is how many steps up there are in an hour.
	mostSteps = 6
	// share is how much of the measured rate a lower quality may take, and less how much of the time a better one.
	share, less = 0.7, 0.6
)

// quality steps between the forms of a stream. It belongs to the engine, and does nothing unless "auto" was asked for.
type quality struct {
	ladder []hls.Variant // from the lowest to the best
	level  int
	busy   time.Time     // since when there was always something to fetch, or since it was measured last
	landed int           // segments that came since then,
	media  time.Duration // their time to play,
	bytes  int           // and size
	slow   bool          // the last stepAfter segments came slower than they play
	load   float64       // time to fetch by time to play, smoothed
	bits   float64       // per second that the line brings, smoothed; 0: unknown
	calm   time.Time     // since when a better quality looks possible
	step   time.Time     // the last one
	ups    []time.Time   // the last hour's
}

// climb prepares for stepping.
func (e *engine) climb() {
	e.quality = quality{}
	if e.master == nil || !strings.EqualFold(strings.TrimSpace(e.s.cfg.Quality), "auto") {
		return
	}
	e.quality.ladder = hls.Ladder(e.master)
	e.quality.level = e.rung(e.origins[e.at].variant)
}

func (e *engine) rung(v hls.Variant) int {
	for i, x := range e.quality.ladder {
		if x.URL == v.URL || hls.Same(x, v) {
			return i
		}
	}
	return len(e.quality.ladder) - 1
}

// timed takes in a segment of the main rendition. Several come over one line at once, so what counts is how long the line
// was busy for stepAfter of them, or for as many as there were.
func (e *engine) timed(j *job, now time.Time) {
	q := &e.quality
	if len(q.ladder) < 2 || j.seg.Duration <= 0 {
		return
	}
	if q.busy.IsZero() {
		q.busy = now.Add(-j.load.took)
	}
	q.media += j.seg.Duration
	q.bytes += len(j.load.plain)
	q.landed++
	pending := e.pending()
	if q.landed < stepAfter && pending > 0 {
		return
	}
	took := max(now.Sub(q.busy), time.Millisecond)
	load, bits := float64(took)/float64(q.media), float64(q.bytes)*8/took.Seconds()
	if q.bits == 0 {
		q.load, q.bits = load, bits
	}
	q.load += (load - q.load) / 3
	q.bits += (bits - q.bits) / 2
	q.slow = load > 1 && q.landed >= stepAfter
	q.landed, q.media, q.bytes, q.busy = 0, 0, 0, time.Time{}
	if pending > 0 {
		q.busy = now
	}
}

// pending is how many segments of the main rendition are to be fetched still, of those near.
func (e *engine) pending() (n int) {
	for _, j := range e.tracks[0].near() {
		if j.state == running || j.state == waiting && j.load.raw == nil {
			n++
		}
	}
	return n
}

// late takes in a segment that did not come in time at all.
func (e *engine) late(r loaded, _ time.Time) {
	if q := &e.quality; r.t.n == 0 && r.load.took > 0 {
		q.slow = true
		if bits := float64(r.load.read) * 8 / r.load.took.Seconds(); q.bits == 0 || bits < q.bits {
			q.bits = bits
		}
	}
}

// steer takes a lower quality when the line or the disk does not keep up, and a better one when it would.
func (e *engine) steer(now time.Time) {
	q := &e.quality
	if len(q.ladder) < 2 || e.ending != nil || e.tracks[0].watch.ended {
		return
	}
	main := e.tracks[0]
	pending, near := e.pending(), false
	for _, j := range main.near() {
		if j.state == waiting {
			near = near || j.tries > 0 && j.notThere == 0 && j.deadline.Sub(now) < 2*main.watch.target
		}
	}
	pressed := e.s.cfg.Pressed != nil && e.s.cfg.Pressed()
	recently := !q.step.IsZero() && now.Sub(q.step) < 10*time.Second
	if q.level > 0 && !recently && (q.slow && pending > 1 || near || pressed && now.Sub(q.step) >= restFor) {
		to := q.level - 1
		if !pressed {
			for to > 0 && rateOf(q.ladder[to]) > share*q.bits {
				to--
			}
		}
		e.shift(to, now, "line or disk does not keep up")
		return
	}
	if q.level+1 >= len(q.ladder) || pressed {
		q.calm = time.Time{}
		return
	}
	here, next := rateOf(q.ladder[q.level]), rateOf(q.ladder[q.level+1])
	if here <= 0 || next <= 0 || q.load*next/here >= less || pending > 2 {
		q.calm = time.Time{}
		return
	}
	if q.calm.IsZero() {
		q.calm = now
	}
	for len(q.ups) > 0 && now.Sub(q.ups[0]) > time.Hour {
		q.ups = q.ups[1:]
	}
	if now.Sub(q.calm) < restFor || now.Sub(q.step) < restFor {
		e.wakeAt(later(q.calm.Add(restFor), q.step.Add(restFor)))
		return
	}
	if len(q.ups) < mostSteps {
		q.ups = append(q.ups, now)
		e.shift(q.level+1, now, "there is room for more")
	}
}

// rateOf is what a form takes, in bit/s; 0 if it does not say.
func rateOf(v hls.Variant) float64 {
	if v.AverageBandwidth > 0 {
		return float64(v.AverageBandwidth)
	}
	return float64(v.Bandwidth)
}

// shift goes to another quality, from the first segment on that is not being fetched.
func (e *engine) shift(level int, now time.Time, why string) {
	q := &e.quality
	was := e.origins[e.at]
	v := q.ladder[level]
	e.log.Info().Str("why", why).Int("from", q.ladder[q.level].Height).Int("to", v.Height).Int64("bandwidth", v.Bandwidth).Msg("quality changed")
	q.level, q.step, q.slow, q.calm, q.load, q.bits = level, now, false, time.Time{}, 0, 0
	q.landed, q.media, q.bytes, q.busy = 0, 0, 0, time.Time{}
	e.origins = originsOf(e.master, hls.Pick(e.master, v))
	e.at = e.pick(was.host(), now)
	e.point(now, true)
}

// pick is the origin at a host, or else the first one that is not known to be bad.
func (e *engine) pick(host string, now time.Time) int {
	first := -1
	for i, o := range e.origins {
		if e.s.cfg.Hosts.Bad(o.host(), now) {
			continue
		}
		if o.host() == host {
			return i
		}
		if first < 0 {
			first = i
		}
	}
	return max(first, 0)
}

// same finds the form that is in use in a new multivariant playlist.
func (e *engine) same(f *found) {
	if f.master == nil || len(e.quality.ladder) < 2 {
		return
	}
	now := e.quality.ladder[e.quality.level]
	for _, v := range f.master.Variants {
		if hls.Same(v, now) || v.Height == now.Height && v.Bandwidth == now.Bandwidth && v.FrameRate == now.FrameRate {
			f.origins = originsOf(f.master, hls.Pick(f.master, v))
			return
		}
	}
}

// Quality is the form that segments come in now, as its list calls it or by its height; "" if there is no choice.
func (s *Source) Quality() string {
	if g := s.grade.Load(); g != nil {
		return *g
	}
	return ""
}

func gradeOf(v hls.Variant) string {
	switch {
	case v.Name != "":
		return naming.Line(v.Name)
	case v.Height > 0:
		return strconv.Itoa(v.Height) + "p"
	}
	return ""
}
