package uploader

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/liverec/liverec/pkg/segment"
)

// roundTo is what chunk sizes above a target's smallest one are rounded up to.
const roundTo = 64 << 10

// ChunkSize chooses the chunk size of an object: the target's smallest, or as much more as keeps the number of chunks
// below MaxChunks. size is the final size, or -1 while the segment is open; then maxSize is what it can grow to. It is 0
// where the target takes whole segments only, and an error where the target cannot take an object of that size.
func ChunkSize(l Limits, size, maxSize int64) (int64, error) {
	if l.MinChunk <= 0 {
		return 0, nil
	}
	if size < 0 {
		size = max(maxSize, 1)
	}
	chunk := l.MinChunk
	if l.MaxChunks > 0 {
		// One below the limit, so that it is never met; a target of one chunk has no room for that.
		if least := ceil(size, int64(max(l.MaxChunks-1, 1))); least > chunk {
			chunk = least
			if chunk > roundTo {
				chunk = ceil(chunk, roundTo) * roundTo
			}
		}
	}
	if l.MaxChunk > 0 && chunk > l.MaxChunk {
		chunk = l.MaxChunk
		if l.MaxChunks > 0 && ceil(size, chunk) > int64(l.MaxChunks) {
			return 0, fmt.Errorf("%d bytes are more than the target takes: %d chunks of %d bytes", size, l.MaxChunks, l.MaxChunk)
		}
	}
	return chunk, nil
}

func ceil(a, b int64) int64 { return a/b + min(a%b, 1) }

// plan is what can be known of the chunks of one upload: a value without memory.
type plan struct {
	chunk  int64 // size of all chunks but the last; 0: none are sent
	size   int64 // durable bytes; once sealed: all
	head   int64 // the first so many bytes may change until the seal
	sealed bool
}

// count is how many chunks are known: all of them once sealed, the whole ones before.
func (p plan) count() int {
	switch {
	case p.chunk <= 0 || p.size <= 0:
		return 0
	case p.sealed:
		return int(ceil(p.size, p.chunk))
	}
	return int(p.size / p.chunk)
}

// at is chunk i of count.
func (p plan) at(i int) segment.Chunk {
	off := int64(i) * p.chunk
	return segment.Chunk{Index: i, Offset: off, Length: min(p.chunk, p.size-off)}
}

// fits reports whether a is an ack for a chunk of this plan. While the segment grows it can only say so for chunks that
// are whole.
func (p plan) fits(c segment.Chunk) bool {
	return c.Index >= 0 && c.Index < p.count() && c == p.at(c.Index)
}

// next is the chunk to send now. A chunk whose bytes may still change waits for the seal. Chunk 0 goes once and last:
// when all others are acknowledged. (Beside what is in flight by then it would come to a fast store before the last of
// them; on a narrow line, where time counts, the one order is as fast as the other.) has reports the chunks that are acknowledged, off those that must not be sent now (in flight, or waiting for their next
// try).
func (p plan) next(has, off func(int) bool) (segment.Chunk, bool) {
	n, others := p.count(), true
	for i := 1; i < n; i++ {
		others = others && has(i)
		if !has(i) && !off(i) && (p.sealed || int64(i)*p.chunk >= p.head) {
			return p.at(i), true
		}
	}
	if p.sealed && others && n > 0 && !has(0) && !off(0) {
		return p.at(0), true
	}
	return segment.Chunk{}, false
}

// complete reports whether every chunk of a sealed segment is acknowledged.
func (p plan) complete(has func(int) bool) bool {
	if !p.sealed {
		return false
	}
	for i := range p.count() {
		if !has(i) {
			return false
		}
	}
	return true
}

// offers reports whether anything of the segment could be sent now if nothing was sent yet.
func (p plan) offers() bool {
	if p.sealed {
		return p.size > 0
	}
	_, ok := p.next(func(int) bool { return false }, func(int) bool { return false })
	return ok
}

// inOrder gives acks by Index.
func inOrder(acks map[int]segment.Ack) []segment.Ack {
	list := make([]segment.Ack, 0, len(acks))
	for _, a := range acks {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b segment.Ack) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

// union is what counts after a restart. ours are the acks in the ledger, listed is what the store says it has; nil
// means that it cannot list. kept may be relied upon. found are chunks that the store has and the ledger has not: the
// answer was lost (K6), and the bytes have to be compared before they count. lost are acknowledged chunks that the
// store does not have as we sent them.
func union(p plan, ours, listed []segment.Ack) (kept, found []segment.Ack, lost []int) {
	if listed == nil {
		for _, a := range ours {
			if p.fits(a.Chunk) {
				kept = append(kept, a)
			} else {
				lost = append(lost, a.Index)
			}
		}
		return kept, nil, lost
	}
	there := make(map[int]segment.Ack, len(listed))
	for _, a := range listed {
		there[a.Index] = a
	}
	for _, a := range ours {
		b, ok := there[a.Index]
		// A store that does not list sums lists the tag that it gave to the same bytes.
		same := b.Sum == a.Sum || b.Sum == 0 && b.Tag == a.Tag && b.Tag != ""
		if ok && p.fits(a.Chunk) && b.Length == a.Length && same {
			kept = append(kept, a)
		} else {
			lost = append(lost, a.Index)
		}
		delete(there, a.Index)
	}
	for _, b := range listed {
		if _, ok := there[b.Index]; ok && p.fits(b.Chunk) {
			found = append(found, b)
			delete(there, b.Index)
		}
	}
	return kept, found, lost
}
