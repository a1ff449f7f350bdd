package probe

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// maxProblems is how many problems are kept; the file is not sound after the first.
const maxProblems = 1000

// smallPicture is the size up to which a picture may stand in a file twice: a still scene is coded in few bytes, and
// showing a frame again in AV1 is always the same few.
const smallPicture = 200

// checker asks of frames what is the same in MP4 and TS.
type checker struct {
	r       Report
	seen    map[Digest]int64 // 16 bytes and a little more for each picture
	scratch []byte
	content chain
	sorted  bool // frames do not come in the order of the file: their sums wait in sums
	sums    []placed
}

// placed is the sum of a frame that begins at a place in the file.
type placed struct {
	at  int64
	sum uint64
}

func (c *checker) problem(code Code, at int64, format string, args ...any) {
	if len(c.r.Problems) < maxProblems {
		c.r.Problems = append(c.r.Problems, Problem{code, at, fmt.Sprintf(format, args...)})
	}
}

// lane is a track that is being read.
type lane struct {
	Track
	shape   shape
	content chain
	media   chain
	steps   map[time.Duration]int // between two frames, at most maxSteps kinds
	last    time.Duration
	timed   bool
}

const maxSteps = 4096

// time takes the times of the next frame of a lane, in decoding order. lasts is 0 where the container does not say.
func (c *checker) time(l *lane, at int64, dts, pts, lasts time.Duration) {
	if !l.timed {
		l.First, l.Begin, l.Until = dts, pts, pts
		l.timed = true
	} else {
		step := dts - l.last
		if l.steps == nil {
			l.steps = map[time.Duration]int{}
		}
		if _, ok := l.steps[step]; ok || len(l.steps) < maxSteps {
			l.steps[step]++
		}
		if step <= 0 {
			c.problem(Order, at, "%s at %v after %v", l.Kind, dts, l.last)
		}
		if step > l.Step {
			l.Step = step
			if l.Kind == Video && step > MaxStep {
				c.problem(Step, at, "%v between two pictures", step)
			}
		}
	}
	if d := pts - dts; d > 10*time.Second || d < -10*time.Second {
		c.problem(Order, at, "%s is decoded at %v and shown at %v", l.Kind, dts, pts)
	}
	l.last, l.Last, l.End = dts, dts, dts+lasts
	l.Begin, l.Until = min(l.Begin, pts), max(l.Until, pts+lasts)
}

// usual is the median of the steps.
func (l *lane) usual() time.Duration {
	keys := make([]time.Duration, 0, len(l.steps))
	all := 0
	for d, n := range l.steps {
		keys = append(keys, d)
		all += n
	}
	slices.Sort(keys)
	n := 0
	for _, d := range keys {
		if n += l.steps[d]; 2*n > all {
			return d
		}
	}
	return 0
}

// picture takes one access unit in file order. key is what the container says of it; flagged is false where the
// container says nothing.
func (c *checker) picture(l *lane, at int64, b []byte, key, flagged bool) {
	p, err := readPicture(l.Codec, b, l.shape.nalSize, &c.scratch)
	first := l.content.n == 0
	startable := p.start || p.recovery || p.foreign
	switch {
	case err != nil:
		c.problem(Frame, at, "access unit: %v", err)
	case p.coded == 0:
		c.problem(Frame, at, "access unit without a picture")
	case flagged && key && !startable:
		c.problem(Frame, at, "marked as key frame, but no decoder can start with it")
	case flagged && !key && p.start:
		c.problem(Index, at, "a key frame that is not marked as one")
	}
	if first && (!startable || flagged && !key) {
		c.problem(Start, at, "a decoder cannot start with the first picture")
	}
	if startable && (!flagged || key) {
		l.Keys++
	}
	if p.numbered {
		c.r.Numbers = append(c.r.Numbers, p.number)
		c.r.At = append(c.r.At, l.last)
	}
	sum := sha256.Sum256(b)
	d := Digest(sum[:8])
	c.r.Digests = append(c.r.Digests, d)
	if before, ok := c.seen[d]; !ok {
		c.seen[d] = at
	} else if len(b) > smallPicture {
		c.problem(Twice, at, "the picture of byte %d again", before)
	}
	c.sum(l, at, pictureByte, b, p.media)
}

// sound takes one frame of sound in file order.
func (c *checker) sound(l *lane, at int64, b []byte) {
	if len(b) == 0 {
		c.problem(Frame, at, "empty frame of sound")
	}
	l.Keys++
	c.sum(l, at, soundByte, b, 0)
}

func (c *checker) sum(l *lane, at int64, typ byte, b []byte, media uint64) {
	c.scratch = append(append(c.scratch[:0], typ), b...)
	s := xxh64(c.scratch)
	if c.sorted {
		c.sums = append(c.sums, placed{at, s})
	} else {
		c.content.add(s)
	}
	l.content.add(s)
	if typ == soundByte {
		media = s
	}
	l.media.add(media)
	l.Frames++
}

// finish compares the lanes with each other.
func (c *checker) finish(lanes []*lane) {
	have := map[Kind]*lane{}
	for _, l := range lanes {
		if l.Frames == 0 {
			c.problem(Config, 0, "a %s track without one frame", l.Kind)
			continue
		}
		if l.End == l.Last {
			l.End += l.usual()
			l.Until += l.usual()
		}
		l.Content, l.Media = l.content.h, l.media.h
		c.r.Tracks = append(c.r.Tracks, l.Track)
		if have[l.Kind] == nil {
			have[l.Kind] = l
		}
	}
	slices.SortStableFunc(c.sums, func(a, b placed) int { return cmp.Compare(a.at, b.at) })
	for _, p := range c.sums {
		c.content.add(p.sum)
	}
	c.r.Content = c.content.h
	if len(c.r.Tracks) == 0 {
		c.problem(Start, 0, "no media")
	}
	if v, a := have[Video], have[Audio]; v != nil && a != nil {
		c.r.Problems = append(c.r.Problems, c.r.skew(v.Track, a.Track)...)
	}
}

// skew compares the ends of the two tracks. Parts are cut by decoding time and played by the time of showing, which for
// pictures is later by the delay of their order: the track that is in time by one of the two is in time.
func (r *Report) skew(v, a Track) (found []Problem) {
	smaller := func(a, b time.Duration) time.Duration {
		if a.Abs() < b.Abs() {
			return a
		}
		return b
	}
	r.Lead, r.Skew = smaller(v.Begin-a.Begin, v.First-v.delay-a.First+a.delay), smaller(v.Until-a.Until, v.End-v.delay-a.End+a.delay)
	if r.Lead.Abs() > MaxSkew {
		found = append(found, Problem{Skew, 0, fmt.Sprintf("video begins at %v, audio at %v", v.Begin, a.Begin)})
	}
	if r.Skew.Abs() > MaxSkew {
		found = append(found, Problem{Skew, r.Size, fmt.Sprintf("video ends at %v, audio at %v", v.Until, a.Until)})
	}
	return found
}
