package probe

import (
	"encoding/binary"
	"math/bits"
)

// The constants of XXH64, from its specification.
const (
	prime1 uint64 = 0x9E3779B185EBCA87
	prime2 uint64 = 0xC2B2AE3D27D4EB4F
	prime3 uint64 = 0x165667B19E3779F9
	prime4 uint64 = 0x85EBCA77C2B2AE63
	prime5 uint64 = 0x27D4EB2F165667C5
)

// xxh64 is XXH64 with seed 0 of all of b.
func xxh64(b []byte) uint64 {
	round := func(acc, lane uint64) uint64 { return bits.RotateLeft64(acc+lane*prime2, 31) * prime1 }
	n := uint64(len(b))
	var h uint64
	if len(b) >= 32 {
		v := [4]uint64{prime1, prime2, 0, 0}
		v[0] += prime2 // constants would overflow at compile time
		v[3] -= prime1
		for ; len(b) >= 32; b = b[32:] {
			for i := range v {
				v[i] = round(v[i], binary.LittleEndian.Uint64(b[8*i:]))
			}
		}
		h = bits.RotateLeft64(v[0], 1) + bits.RotateLeft64(v[1], 7) + bits.RotateLeft64(v[2], 12) + bits.RotateLeft64(v[3], 18)
		for _, x := range v {
			h = (h^round(0, x))*prime1 + prime4
		}
	} else {
		h = prime5
	}
	h += n
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^round(0, binary.LittleEndian.Uint64(b)), 27)*prime1 + prime4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(b))*prime1, 23)*prime2 + prime3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}

// chain is a running hash over frames in the order in which they come: of the value so far, the number of the frame from
// 1, and the sum of the frame, eight bytes each, least significant first.
type chain struct {
	n, h uint64
}

func (c *chain) add(sum uint64) {
	c.n++
	var b [24]byte
	binary.LittleEndian.PutUint64(b[0:], c.h)
	binary.LittleEndian.PutUint64(b[8:], c.n)
	binary.LittleEndian.PutUint64(b[16:], sum)
	c.h = xxh64(b[:])
}

// The first byte of what is summed: FLV's tag types, in every container.
const (
	soundByte   byte = 8
	pictureByte byte = 9
)
