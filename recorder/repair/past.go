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
	src  int64 // on the source's clock
	raw  int64 // src + the offset of its time
	out  int64
	prev int64 // the one before with the same bucket
}

// past remembers the last tags of one track. Tags are named by a running number.
type past struct {
	tags    [pastTags]pastTag
	buckets [pastBuckets]int64
	n       int64 // numbers below n were given

	// Where the offset changed, because a hole was closed: the stretches of equal offset, oldest first.
	spans  [pastSpans]span
	nSpans int
}

// span is a stretch of tags with one offset.
type span struct {
	from   int64
	offset int64
}

const pastSpans = 8

func (p *past) init() {
	for i := range p.buckets {
		p.buckets[i] = -1
	}
}

func (p *past) first() int64          { return max(0, p.n-pastTags) }
func (p *past) get(i int64) *pastTag  { return &p.tags[i%pastTags] }
func (p *past) bucket(s uint64) int64 { return int64(s % pastBuckets) }

func (p *past) add(t pastTag) {
	offset := t.raw - t.src
	if p.nSpans == 0 || p.spans[p.nSpans-1].offset != offset {
		if p.nSpans == pastSpans {
			copy(p.spans[:], p.spans[1:])
			p.nSpans--
		}
		p.spans[p.nSpans] = span{from: p.n, offset: offset}
		p.nSpans++
	}
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

// at finds the tag with this sum whose raw time is nearest to raw, at most slack away, among numbers from to below to;
// -1 if there is none. A raw time is never above its output time and not far below it.
func (p *past) at(sum uint64, raw, slack, from, to int64) int64 {
	best, bestD := int64(-1), slack+1
	for i, k := max(from, p.seek(raw-slack)), 0; i < to && k < 64; i, k = i+1, k+1 {
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

// find finds the tag with this sum whose source time is src, give or take slack; -1 if there is none.
func (p *past) find(sum uint64, src, slack int64) int64 {
	for k, to := p.nSpans-1, p.n; k >= 0 && to > p.first(); k-- {
		if i := p.at(sum, src+p.spans[k].offset, slack, max(p.spans[k].from, p.first()), to); i >= 0 {
			return i
		}
		to = p.spans[k].from
	}
	return -1
}

// covers reports whether something was written of source time src, give or take slack.
func (p *past) covers(src, slack int64) bool {
	for k, to := p.nSpans-1, p.n; k >= 0 && to > p.first(); k-- {
		raw := src + p.spans[k].offset
		i := max(p.seek(raw-slack), p.spans[k].from, p.first())
		if i < to && p.get(i).raw <= raw+slack {
			return true
		}
		to = p.spans[k].from
	}
	return false
}

// top is the highest source time among the last tags; bottom that of the oldest.
func (p *past) top() int64 {
	if p.n == 0 {
		return 0
	}
	top := p.get(p.n - 1).src
	for i := max(p.first(), p.n-64); i < p.n; i++ {
		top = max(top, p.get(i).src)
	}
	return top
}

func (p *past) bottom() int64 {
	if p.n == 0 {
		return 0
	}
	return p.get(p.first()).src
}

// since counts the tags from source time src on, as far as it was in one stretch.
func (p *past) since(src int64) int {
	n := 0
	for i := p.n - 1; i >= p.first() && n < 8 && p.get(i).src >= src; i-- {
		n++
	}
	return n
}
