package flv

import "encoding/binary"

// finder looks for chains: three whole tags in a row, each with the right PreviousTagSize. Where one lies inside the
// body that a tag header claims, the claim is false. Every byte is looked at once; what cannot be decided yet is
// remembered, so that the answer does not depend on how the bytes arrive.
type finder struct {
	next    int64   // places before it were looked at
	pending []int64 // places that may begin a chain once more bytes are there
	found   []span
}

type span struct{ from, to int64 }

// holds reports whether t lies behind the begin of s and not beyond its end.
func (s span) holds(t span) bool { return t.from > s.from && t.to <= s.to }

func (f *finder) reset() { f.next, f.pending, f.found = 0, f.pending[:0], f.found[:0] }

const chainLen = 3

// inside reports whether a chain lies inside the claim, which begins at pos or later. buf holds the bytes of the connection from offset base on; those
// before pos do not matter any more.
func (f *finder) inside(buf []byte, base, pos int64, claim span, conv convention) bool {
	f.forget(pos)
	for _, s := range f.found {
		if claim.holds(s) {
			return true
		}
	}
	hit := false
	kept := f.pending[:0]
	for _, q := range f.pending {
		end, open := chain(buf[q-base:], conv)
		switch {
		case open:
			kept = append(kept, q)
		case end > 0:
			s := span{q, q + int64(end)}
			f.found = append(f.found, s)
			hit = hit || claim.holds(s)
		}
	}
	f.pending = kept
	if hit {
		return true
	}
	last := min(claim.to, base+int64(len(buf)))
	for f.next = max(f.next, pos+1); f.next < last; f.next++ {
		b := buf[f.next-base:]
		switch b[0] {
		case TagAudio, TagVideo, TagScript:
		default:
			continue
		}
		end, open := chain(b, conv)
		switch {
		case open && len(f.pending) < maxPending:
			f.pending = append(f.pending, f.next)
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

// forget drops what lies before pos.
func (f *finder) forget(pos int64) {
	if f.next < pos {
		f.next, f.pending, f.found = pos, f.pending[:0], f.found[:0]
		return
	}
	n := 0
	for n < len(f.pending) && f.pending[n] < pos {
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

// chain returns the length of the chain at the begin of b, 0 if there is none; open: more bytes would tell.
func chain(b []byte, conv convention) (end int, open bool) {
	at := 0
	for range chainLen {
		t := b[at:]
		if len(t) < lookAhead {
			return 0, true
		}
		size := bodySize(t)
		if kindOf(t) != sound || t[0]&filterBit != 0 || size == 0 || size > softBody {
			return 0, false
		}
		total := size + TagOverhead
		if len(t) < total {
			return 0, true
		}
		if !conv.allows(size, binary.BigEndian.Uint32(t[total-TagTrailerSize:])) {
			return 0, false
		}
		at += total
	}
	return at, false
}
