package codec

// bitReader reads single bits. Beyond the end it gives zeros and remembers it. With escaped it leaves out the emulation
// prevention bytes of a NAL unit.
type bitReader struct {
	b       []byte
	at      int    // next byte
	cur     uint32 // what is left of the byte before
	left    uint   // bits of it
	zeros   int
	used    int // bits
	escaped bool
	over    bool
}

func (r *bitReader) bit() uint32 {
	if r.left == 0 {
		if r.escaped && r.zeros >= 2 && r.at < len(r.b) && r.b[r.at] == 3 {
			r.at++
			r.zeros = 0
		}
		if r.at >= len(r.b) {
			r.over = true
			return 0
		}
		c := r.b[r.at]
		r.at++
		if c == 0 {
			r.zeros++
		} else {
			r.zeros = 0
		}
		r.cur, r.left = uint32(c), 8
	}
	r.left--
	r.used++
	return r.cur >> r.left & 1
}

// bits reads n ≤ 32 bits.
func (r *bitReader) bits(n int) uint32 {
	var v uint32
	for range n {
		v = v<<1 | r.bit()
	}
	return v
}

func (r *bitReader) flag() bool { return r.bit() == 1 }

func (r *bitReader) skip(n int) {
	for range n {
		r.bit()
		if r.over {
			return
		}
	}
}

func (r *bitReader) align() { r.skip(int(r.left)) }

// ue reads an unsigned Exp-Golomb number.
func (r *bitReader) ue() uint32 {
	zeros := 0
	for r.bit() == 0 {
		if zeros++; zeros > 32 || r.over {
			r.over = true
			return 0
		}
	}
	if zeros == 0 {
		return 0
	}
	return uint32(uint64(1)<<zeros - 1 + uint64(r.bits(zeros)))
}

// se reads a signed Exp-Golomb number.
func (r *bitReader) se() int32 {
	v := r.ue()
	if v&1 != 0 {
		return int32(v/2 + 1)
	}
	return -int32(v / 2)
}

// rest is how many whole bits are still there, without regard to escapes.
func (r *bitReader) rest() int { return int(r.left) + (len(r.b)-r.at)*8 }

// bitWriter appends single bits.
type bitWriter struct {
	b    []byte
	free uint // bits that are free in the last byte
}

func (w *bitWriter) put(v uint32, n int) {
	for n--; n >= 0; n-- {
		if w.free == 0 {
			w.b, w.free = append(w.b, 0), 8
		}
		w.free--
		w.b[len(w.b)-1] |= byte(v>>n&1) << w.free
	}
}
