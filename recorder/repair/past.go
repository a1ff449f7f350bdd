package repair

// bigTag is the size above which a video tag is evidence: smaller ones are the same for every frame of a static
// picture.
const bigTag = 200

const (
	pastTags    = 2048 // at 60 frames a second 34 s
	pastBuckets = 4096
)

// pastTag is a tag that was written.
type pastTag struct {
	sum  uint64
	raw  int64
	out  int64
	prev int64 // the one before with the same bucket
	big  bool
}

// past remembers the last tags of one track. Tags are named by a running number.
type past struct {
	tags    [pastTags]pastTag
	buckets [pastBuckets]int64
	n       int64 // numbers below n were given
}

func (p *past) init() {
	for i := range p.buckets {
		p.buckets[i] = -1
	}
}

func (p *past) first() int64          { return max(0, p.n-pastTags) }
func (p *past) get(i int64) *pastTag  { return &p.tags[i%pastTags] }
func (p *past) bucket(s uint64) int64 { return int64(s % pastBuckets) }

func (p *past) add(t pastTag) {
	b := p.bucket(t.sum)
	t.prev = p.buckets[b]
	p.tags[p.n%pastTags] = t
	p.buckets[b] = p.n
	p.n++
}

// each calls f with the number of every tag that has this sum, newest first, until f says no.
func (p *past) each(sum uint64, f func(i int64) bool) {
	for i := p.buckets[p.bucket(sum)]; i >= p.first(); i = p.get(i).prev {
		if p.get(i).sum == sum && !f(i) {
			return
		}
	}
}

// count tells how often a sum is there, up to 2.
func (p *past) count(sum uint64) int {
	n := 0
	for i := p.buckets[p.bucket(sum)]; i >= p.first() && n < 2; i = p.get(i).prev {
		if p.get(i).sum == sum {
			n++
		}
	}
	return n
}

// seek returns the first number whose output time is not below out.
func (p *past) seek(out int64) int64 {
	lo, hi := p.first(), p.n
	for lo < hi {
		mid := (lo + hi) / 2
		if p.get(mid).out < out {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// at finds the tag with this sum whose raw time is nearest to raw, at most slack away; -1 if there is none. A raw
// time is never above its output time and not far below it.
func (p *past) at(sum uint64, raw, slack int64) int64 {
	best, bestD := int64(-1), slack+1
	for i, k := p.seek(raw-slack), 0; i < p.n && k < 64; i, k = i+1, k+1 {
		t := p.get(i)
		if t.out > raw+slack+2*backLimit {
			break
		}
		d := max(t.raw-raw, raw-t.raw)
		if t.sum == sum && d < bestD {
			best, bestD = i, d
		}
	}
	return best
}

// covers reports whether something was written at raw, give or take slack.
func (p *past) covers(raw, slack int64) bool {
	i := p.seek(raw - slack)
	return i < p.n && p.get(i).raw <= raw+slack
}

// top is the highest raw time among the last tags.
func (p *past) top() int64 {
	if p.n == 0 {
		return 0
	}
	top := p.get(p.n - 1).raw
	for i := max(p.first(), p.n-64); i < p.n; i++ {
		top = max(top, p.get(i).raw)
	}
	return top
}
