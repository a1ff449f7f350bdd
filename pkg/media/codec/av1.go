package codec

import (
	"bytes"
	"fmt"

	"github.com/liverec/liverec/pkg/media"
)

// The OBU types of AV1 that matter here.
const (
	obuSequence    = 1
	obuDelimiter   = 2
	obuFrameHeader = 3
	obuTiles       = 4
	obuFrame       = 6
	obuTileList    = 8
	obuPadding     = 15
)

// nextOBU cuts the first OBU from b. An OBU without a size reaches to the end.
func nextOBU(b []byte) (typ byte, whole, payload, rest []byte, ok bool) {
	if len(b) == 0 || b[0]&0x80 != 0 {
		return 0, nil, nil, nil, false
	}
	typ = b[0] >> 3 & 15
	at := 1
	if b[0]&4 != 0 {
		at++
	}
	if len(b) < at {
		return 0, nil, nil, nil, false
	}
	size := len(b) - at
	if b[0]&2 != 0 {
		v, n := leb128(b[at:])
		if at += n; n == 0 || v > uint64(len(b)-at) {
			return 0, nil, nil, nil, false
		}
		size = int(v)
	}
	return typ, b[:at+size], b[at : at+size], b[at+size:], true
}

func leb128(b []byte) (v uint64, n int) {
	for i := range min(8, len(b)) {
		v |= uint64(b[i]&0x7F) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}

type av1Info struct {
	profile, level, tier uint32
	depth                int
	mono, subX, subY     uint32
	position             uint32
	width, height        int
	rate                 float64
	reduced              bool
}

// parseAV1Sequence reads the payload of a sequence header OBU.
func parseAV1Sequence(b []byte) (av1Info, bool) {
	var s av1Info
	r := &bitReader{b: b}
	s.profile = r.bits(3)
	r.bit() // still picture
	s.reduced = r.flag()
	if s.reduced {
		s.level = r.bits(5)
	} else {
		model, delay := false, 0
		if r.flag() { // timing
			tick, scale := r.bits(32), r.bits(32)
			if equal := r.flag(); equal {
				if per := uint64(r.ue()) + 1; tick > 0 {
					s.rate = sane(float64(scale) / float64(tick) / float64(per))
				}
			}
			if model = r.flag(); model {
				delay = int(r.bits(5)) + 1
				r.bits(32)
				r.bits(10)
			}
		}
		display := r.flag()
		for i := range r.bits(5) + 1 {
			r.bits(12)
			level, tier := r.bits(5), uint32(0)
			if level > 7 {
				tier = r.bit()
			}
			if i == 0 {
				s.level, s.tier = level, tier
			}
			if model && r.flag() {
				r.skip(2*delay + 1)
			}
			if display && r.flag() {
				r.bits(4)
			}
		}
	}
	wBits, hBits := int(r.bits(4))+1, int(r.bits(4))+1
	s.width, s.height = int(r.bits(wBits))+1, int(r.bits(hBits))+1
	if !s.reduced && r.flag() { // frame ids
		r.bits(7)
	}
	r.bits(3) // 128×128, filter intra, intra edge
	if !s.reduced {
		r.bits(4) // interintra, masked, warped, dual filter
		hint := r.flag()
		if hint {
			r.bits(2)
		}
		screen := uint32(2)
		if !r.flag() {
			screen = r.bit()
		}
		if screen > 0 && !r.flag() {
			r.bit()
		}
		if hint {
			r.bits(3)
		}
	}
	r.bits(3) // superres, cdef, restoration
	s.depth = 8
	if r.flag() {
		if s.depth = 10; s.profile == 2 && r.flag() {
			s.depth = 12
		}
	}
	if s.profile != 1 {
		s.mono = r.bit()
	}
	primaries, transfer, matrix := uint32(2), uint32(2), uint32(2)
	if r.flag() {
		primaries, transfer, matrix = r.bits(8), r.bits(8), r.bits(8)
	}
	switch {
	case s.mono == 1:
		s.subX, s.subY = 1, 1
	case primaries == 1 && transfer == 13 && matrix == 0: // sRGB
	default:
		r.bit()
		switch {
		case s.profile == 0:
			s.subX, s.subY = 1, 1
		case s.profile == 2 && s.depth == 12:
			if s.subX = r.bit(); s.subX == 1 {
				s.subY = r.bit()
			}
		case s.profile == 2:
			s.subX = 1
		}
		if s.subX == 1 && s.subY == 1 {
			s.position = r.bits(2)
		}
	}
	return s, !r.over && s.profile <= 2
}

// av1Sequence finds the sequence header in a run of OBUs.
func av1Sequence(b []byte) (whole, payload []byte) {
	for len(b) > 0 {
		typ, w, p, rest, ok := nextOBU(b)
		if !ok {
			return nil, nil
		}
		if typ == obuSequence {
			return w, p
		}
		b = rest
	}
	return nil, nil
}

func parseAV1C(b []byte) (Info, error) {
	if len(b) < 4 || b[0] != 0x81 {
		return Info{}, bad("av1C of %d bytes", len(b))
	}
	depth := 8
	if b[2]&0x40 != 0 {
		if depth = 10; b[2]&0x20 != 0 {
			depth = 12
		}
	}
	tier := byte('M')
	if b[2]&0x80 != 0 {
		tier = 'H'
	}
	i := Info{Codec: media.AV1, Profile: int(b[1] >> 5), Level: int(b[1] & 0x1F)}
	i.Name = fmt.Sprintf("av01.%d.%02d%c.%02d", i.Profile, i.Level, tier, depth)
	if _, p := av1Sequence(b[4:]); p != nil {
		s, ok := parseAV1Sequence(p)
		if !ok {
			return Info{}, bad("av1C whose sequence header makes no sense")
		}
		i.Width, i.Height, i.FrameRate = s.width, s.height, s.rate
	}
	return i, nil
}

func equalAV1C(a, b []byte) bool {
	_, x := av1Sequence(a[4:])
	_, y := av1Sequence(b[4:])
	if x != nil && y != nil {
		return bytes.Equal(x, y)
	}
	return bytes.Equal(a[:3], b[:3]) // one of them leaves it to the stream
}

// BuildAV1C makes an av1C from a temporal unit, or any run of OBUs with sizes, that holds a sequence header. ok is
// false if there is none that can be read.
func BuildAV1C(obus []byte) (record []byte, ok bool) {
	whole, p := av1Sequence(obus)
	if p == nil {
		return nil, false
	}
	s, ok := parseAV1Sequence(p)
	if !ok {
		return nil, false
	}
	flags := byte(s.tier<<7 | s.mono<<4 | s.subX<<3 | s.subY<<2 | s.position)
	if s.depth > 8 {
		flags |= 0x40
	}
	if s.depth > 10 {
		flags |= 0x20
	}
	record = []byte{0x81, byte(s.profile<<5 | s.level), flags, 0}
	if whole[0]&2 == 0 { // its size must be there
		record = append(record, whole[0]|2)
		if whole[0]&4 != 0 {
			record = append(record, whole[1])
		}
		n := len(p)
		for ; n > 0x7F; n >>= 7 {
			record = append(record, byte(n)|0x80)
		}
		return append(append(record, byte(n)), p...), true
	}
	return append(record, whole...), true
}

// AV1Sample appends a temporal unit to dst as MP4 wants it: without temporal delimiters, padding and tile lists. What
// cannot be read is appended as it is.
func AV1Sample(dst, obus []byte) []byte {
	for len(obus) > 0 {
		typ, whole, _, rest, ok := nextOBU(obus)
		if !ok {
			return append(dst, obus...)
		}
		if typ != obuDelimiter && typ != obuPadding && typ != obuTileList {
			dst = append(dst, whole...)
		}
		obus = rest
	}
	return dst
}

// av1Key reports whether the first frame of a temporal unit is a key frame that is shown.
func av1Key(b []byte) bool {
	for len(b) > 0 {
		typ, _, p, rest, ok := nextOBU(b)
		if !ok {
			return false
		}
		switch typ {
		case obuSequence:
			if s, ok := parseAV1Sequence(p); ok && s.reduced {
				return true // still pictures are nothing else
			}
		case obuFrame, obuFrameHeader:
			// show_existing_frame 0, frame_type 0, show_frame 1
			return len(p) > 0 && p[0]>>4 == 1
		}
		b = rest
	}
	return false
}

// vp9Key reports whether a frame, or the first one of a superframe, is a key frame.
func vp9Key(b []byte) bool {
	if len(b) == 0 || b[0]>>6 != 2 {
		return false
	}
	r := &bitReader{b: b}
	r.bits(2)
	if profile := r.bit() | r.bit()<<1; profile == 3 {
		r.bit()
	}
	return !r.flag() && !r.flag() && !r.over // neither shown again nor predicted
}

// boxed leaves out the version and flags with which vpcC and dfLa begin in MP4.
func boxed(b []byte, version byte) []byte {
	if len(b) >= 8 && b[0] == version && b[1] == 0 && b[2] == 0 && b[3] == 0 {
		return b[4:]
	}
	return b
}

func parseVPCC(c media.Codec, b []byte) (Info, error) {
	b = boxed(b, 1)
	if len(b) < 6 {
		return Info{}, bad("vpcC of %d bytes", len(b))
	}
	i := Info{Codec: c, Profile: int(b[0]), Level: int(b[1])}
	if i.Profile > 3 {
		return Info{}, bad("vpcC of profile %d", i.Profile)
	}
	four := "vp09"
	if c == media.VP8 {
		four = "vp08"
	}
	i.Name = fmt.Sprintf("%s.%02d.%02d.%02d", four, i.Profile, i.Level, b[2]>>4)
	return i, nil
}
