package flv

import (
	"encoding/binary"
	"math"
)

// finder looks for chains: three whole tags in a row, each with the right PreviousTagSize. Where one lies inside the
// body that a tag header claims, the claim is false. Every byte is looked at once; what cannot be decided yet is
// remembered, so that the answer does not depend on how the bytes arrive.
type finder struct {
	next    int64  // places before it were looked at
	pending []span // places that may begin a chain, by place; to: where the bytes end that the next step needs
	ready   int64  // the smallest to of them
	found   []span
}

type span struct{ from, to int64 }

// holds reports whether t lies behind the begin of s and not beyond its end.
func (s span) holds(t span) bool { return t.from > s.from && t.to <= s.to }

func (f *finder) reset() {
	f.next, f.pending, f.ready, f.found = 0, f.pending[:0], math.MaxInt64, f.found[:0]
}

const chainLen = 3

// inside reports whether a chain lies inside the claim, which begins at pos or later. buf holds the bytes of the
// connection from offset base on; those before pos do not matter any more.
func (f *finder) inside(buf []byte, base, pos int64, claim span, conv convention) bool {
	f.forget(pos)
	for _, s := range f.found {
		if claim.holds(s) {
			return true
		}
	}
	have := base + int64(len(buf))
	if f.ready <= have && f.retry(buf, base, claim, conv) {
		return true
	}
	last := min(claim.to, have)
	for f.next = max(f.next, pos+1); f.next < last; f.next++ {
		b := buf[f.next-base:]
		switch b[0] {
		case TagAudio, TagVideo, TagScript:
		default:
			continue
		}
		end, need := chain(b, conv)
		switch {
		case need > 0 && len(f.pending) < maxPending:
			p := span{f.next, f.next + int64(need)}
			f.pending = append(f.pending, p)
			f.ready = min(f.ready, p.to)
		case end > 0:
			s := span{f.next, f.next + int64(end)}
			f.found = append(f.found, s)
			if claim.holds(s) {
				f.next++
				return true
			}
		}
	}
	return false
}

// retry looks again at the places that were waiting for bytes which are there now.
func (f *finder) retry(buf []byte, base int64, claim span, conv convention) (hit bool) {
	have := base + int64(len(buf))
	kept := f.pending[:0]
	f.ready = math.MaxInt64
	for _, p := range f.pending {
		if p.to <= have {
			end, need := chain(buf[p.from-base:], conv)
			if end > 0 {
				s := span{p.from, p.from + int64(end)}
				f.found = append(f.found, s)
				hit = hit || claim.holds(s)
			}
			if need == 0 {
				continue
			}
			p.to = p.from + int64(need)
		}
		kept = append(kept, p)
		f.ready = min(f.ready, p.to)
	}
	f.pending = kept
	return hit
}

// forget drops what lies before pos.
func (f *finder) forget(pos int64) {
	if f.next < pos {
		f.reset()
		f.next = pos
		return
	}
	n := 0
	for n < len(f.pending) && f.pending[n].from < pos {
		n++
	}
	if n > 0 {
		f.pending = append(f.pending[:0], f.pending[n:]...)
	}
	n = 0
	for _, s := range f.found {
		if s.from >= pos {
			f.found[n] = s
			n++
		}
	}
	f.found = f.found[:n]
}

// chain returns the length of the chain at the begin of b, 0 if there is none; need > 0: so many bytes would tell more.
func chain(b []byte, conv convention) (end, need int) {
	at := 0
	for range chainLen {
		t := b[at:]
		if len(t) < lookAhead {
			return 0, at + lookAhead
		}
		size := bodySize(t)
		if kindOf(t) != sound || t[0]&filterBit != 0 || size == 0 || size > softBody {
			return 0, 0
		}
		total := size + TagOverhead
		if len(t) < total {
			return 0, at + total
		}
		if !conv.allows(size, binary.BigEndian.Uint32(t[total-TagTrailerSize:])) {
			return 0, 0
		}
		at += total
	}
	return at, 0
}
