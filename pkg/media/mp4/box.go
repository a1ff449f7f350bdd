package mp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"
)

// ErrBroken says that bytes are not what ISO BMFF allows.
var ErrBroken = errors.New("broken MP4")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBroken, fmt.Sprintf(format, args...))
}

var be = binary.BigEndian

// code is a box type or a sample entry's name.
type code uint32

func fourCC(s string) code { return code(s[0])<<24 | code(s[1])<<16 | code(s[2])<<8 | code(s[3]) }

func (c code) String() string {
	b := [4]byte{byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)}
	for _, x := range b {
		if x < ' ' || x > '~' {
			return fmt.Sprintf("0x%08x", uint32(c))
		}
	}
	return string(b[:])
}

// open begins a box; shut fills in its size.
func open(b []byte, typ string) ([]byte, int) {
	return append(append(b, 0, 0, 0, 0), typ...), len(b)
}

// openFull begins a box with version and flags.
func openFull(b []byte, typ string, version byte, flags uint32) ([]byte, int) {
	b, at := open(b, typ)
	return be.AppendUint32(b, uint32(version)<<24|flags), at
}

func shut(b []byte, at int) []byte {
	be.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

func zeros(b []byte, n int) []byte {
	for range n {
		b = append(b, 0)
	}
	return b
}

// header is the begin of a box: its type, how long the header is and how long all of it.
type header struct {
	typ  code
	head int
	size int64 // header included; 0: up to the end of what it lies in
}

// parseHeader reads a box header; ok is false when b is too short or the size cannot be. b must hold 16 bytes, or all
// that there are.
func parseHeader(b []byte) (h header, ok bool) {
	if len(b) < 8 {
		return h, false
	}
	h = header{typ: code(be.Uint32(b[4:])), head: 8, size: int64(be.Uint32(b))}
	switch h.size {
	case 0:
		return h, true
	case 1:
		if len(b) < 16 {
			return h, false
		}
		n := be.Uint64(b[8:])
		h.head, h.size = 16, int64(n)
		return h, n >= 16 && n < 1<<62
	}
	return h, h.size >= 8
}

// next cuts the first box off b. done is true when nothing is left; fewer than 8 bytes behind the last box are ignored,
// as QuickTime ends some lists with four zeros.
func next(b []byte) (typ code, body, rest []byte, done bool, err error) {
	if len(b) < 8 {
		return 0, nil, nil, true, nil
	}
	h, ok := parseHeader(b)
	if h.size == 0 {
		h.size = int64(len(b))
	}
	if !ok || h.size > int64(len(b)) {
		return 0, nil, nil, false, broken("box %v of %d bytes in %d", h.typ, h.size, len(b))
	}
	return h.typ, b[h.head:h.size], b[h.size:], false, nil
}

// ticks rounds a time to whole ticks of a clock.
func ticks(d time.Duration, scale int64) int64 {
	s, ns := int64(d/time.Second), int64(d%time.Second)
	if ns < 0 {
		s, ns = s-1, ns+int64(time.Second)
	}
	return s*scale + (ns*scale+int64(time.Second)/2)/int64(time.Second)
}

// duration is the inverse of ticks, to the nearest nanosecond.
func duration(t, scale int64) time.Duration {
	s, r := t/scale, t%scale
	if r < 0 {
		s, r = s-1, r+scale
	}
	const most = int64(1<<63-1) / int64(time.Second)
	s = min(max(s, -most), most-1) // a foreign clock
	return time.Duration(s)*time.Second + time.Duration((r*int64(time.Second)+scale/2)/scale)
}

// rescale gives t ticks of one clock in ticks of another, rounded to the nearest.
func rescale(t, from, to int64) int64 {
	if from == to {
		return t
	}
	neg := t < 0
	if neg {
		t = -t
	}
	hi, lo := bits.Mul64(uint64(t), uint64(to))
	lo, carry := bits.Add64(lo, uint64(from)/2, 0)
	hi += carry
	if hi >= uint64(from) {
		t = 1<<63 - 1
	} else {
		q, _ := bits.Div64(hi, lo, uint64(from))
		t = int64(min(q, 1<<63-1))
	}
	if neg {
		t = -t
	}
	return t
}
