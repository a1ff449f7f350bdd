package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// readAVCC reads an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1): the size of NAL length prefixes and the
// picture size of its first sequence parameter set.
func readAVCC(b []byte) (nalSize, width, height int, err error) {
	if len(b) < 7 || b[0] != 1 {
		return 0, 0, 0, fmt.Errorf("record of %d bytes", len(b))
	}
	nalSize = int(b[4]&3) + 1
	if nalSize == 3 {
		return 0, 0, 0, errors.New("NAL lengths of 3 bytes")
	}
	sets := int(b[5] & 31)
	b = b[6:]
	unit := func() ([]byte, bool) {
		if len(b) < 2 {
			return nil, false
		}
		n := int(binary.BigEndian.Uint16(b))
		if n == 0 || len(b) < 2+n {
			return nil, false
		}
		u := b[2 : 2+n]
		b = b[2+n:]
		return u, true
	}
	for i := range sets {
		u, ok := unit()
		if !ok || u[0]&31 != 7 {
			return nalSize, 0, 0, errors.New("torn sequence parameter set")
		}
		if i == 0 {
			if width, height, err = readSPS(u); err != nil {
				return nalSize, 0, 0, err
			}
		}
	}
	if len(b) < 1 {
		return nalSize, width, height, errors.New("no picture parameter set")
	}
	pictures := int(b[0])
	b = b[1:]
	for range pictures {
		if u, ok := unit(); !ok || u[0]&31 != 8 {
			return nalSize, width, height, errors.New("torn picture parameter set")
		}
	}
	if sets == 0 || pictures == 0 {
		return nalSize, width, height, fmt.Errorf("%d sequence and %d picture parameter sets", sets, pictures)
	}
	return nalSize, width, height, nil
}

// bitReader reads an RBSP. Reading past the end gives zeros and sets over.
type bitReader struct {
	b    []byte
	pos  int
	over bool
}

func (r *bitReader) u(n int) (v uint64) {
	for range n {
		v <<= 1
		if r.pos>>3 >= len(r.b) {
			r.over = true
			continue
		}
		v |= uint64(r.b[r.pos>>3]>>(7-r.pos&7)) & 1
		r.pos++
	}
	return v
}

func (r *bitReader) ue() uint64 {
	zeros := 0
	for r.u(1) == 0 {
		if zeros++; zeros > 32 || r.over {
			r.over = true
			return 0
		}
	}
	return 1<<zeros - 1 + r.u(zeros)
}

func (r *bitReader) se() int64 {
	v := r.ue()
	if v&1 == 1 {
		return int64(v+1) / 2
	}
	return -int64(v / 2)
}

// unescape takes the emulation prevention bytes out.
func unescape(b []byte) []byte {
	if !bytes.Contains(b, []byte{0, 0, 3}) {
		return b
	}
	out := make([]byte, 0, len(b))
	zeros := 0
	for _, c := range b {
		if zeros >= 2 && c == 3 {
			zeros = 0
			continue
		}
		if out = append(out, c); c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return out
}

// readSPS reads the picture size from a sequence parameter set (ITU-T H.264, 7.3.2.1.1).
func readSPS(nal []byte) (width, height int, err error) {
	if len(nal) < 4 {
		return 0, 0, errors.New("short sequence parameter set")
	}
	r := &bitReader{b: unescape(nal[1:])}
	profile := r.u(8)
	r.u(16)
	r.ue()
	chroma := uint64(1)
	separate := false
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		if chroma = r.ue(); chroma == 3 {
			separate = r.u(1) == 1
		}
		r.ue()
		r.ue()
		r.u(1)
		if r.u(1) == 1 {
			lists := 8
			if chroma == 3 {
				lists = 12
			}
			for i := range lists {
				if r.u(1) == 0 {
					continue
				}
				size := 16
				if i >= 6 {
					size = 64
				}
				last, next := int64(8), int64(8)
				for range size {
					if next != 0 {
						next = (last + r.se() + 256) % 256
					}
					if next != 0 {
						last = next
					}
				}
			}
		}
	}
	r.ue() // log2_max_frame_num
	switch r.ue() {
	case 0:
		r.ue()
	case 1:
		r.u(1)
		r.se()
		r.se()
		n := r.ue()
		for range min(n, 256) {
			r.se()
		}
	}
	r.ue()
	r.u(1)
	mbWidth, mapHeight := r.ue()+1, r.ue()+1
	framesOnly := r.u(1)
	if framesOnly == 0 {
		r.u(1)
	}
	r.u(1)
	var left, right, top, bottom uint64
	if r.u(1) == 1 {
		left, right, top, bottom = r.ue(), r.ue(), r.ue(), r.ue()
	}
	if r.over || mbWidth > 1<<12 || mapHeight > 1<<12 {
		return 0, 0, errors.New("torn sequence parameter set")
	}
	cropX, cropY := uint64(1), 2-framesOnly
	if !separate && chroma != 0 && chroma != 3 {
		cropX = 2
		if chroma == 1 {
			cropY *= 2
		}
	}
	w := int64(mbWidth*16) - int64(cropX*(left+right))
	h := int64((2-framesOnly)*mapHeight*16) - int64(cropY*(top+bottom))
	if w <= 0 || h <= 0 {
		return 0, 0, fmt.Errorf("picture of %d x %d", w, h)
	}
	return int(w), int(h), nil
}

// number is the mark of pictures that come from pkg/liveroom, in an SEI message of unregistered user data.
const numberMark = "\xc4\x6e\x21\x5d\x9b\x37\x4f\xa8\xb1\x66\x52\xe9\x7a\x3d\x1f\x8c"

// readNumber looks through the messages of an SEI unit (ITU-T H.264, 7.3.2.3.1).
func readNumber(b []byte) (uint64, bool) {
	value := func() (v int, ok bool) {
		for len(b) > 0 {
			c := b[0]
			b = b[1:]
			v += int(c)
			if c != 255 {
				return v, true
			}
		}
		return 0, false
	}
	for len(b) > 2 {
		kind, ok1 := value()
		size, ok2 := value()
		if !ok1 || !ok2 || size > len(b) {
			return 0, false
		}
		payload := b[:size]
		b = b[size:]
		if kind == 5 && len(payload) >= 32 && string(payload[:16]) == numberMark {
			n, err := strconv.ParseUint(string(payload[16:32]), 16, 64)
			return n, err == nil
		}
	}
	return 0, false
}
