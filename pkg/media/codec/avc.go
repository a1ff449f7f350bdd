package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/liverec/liverec/pkg/media"
)

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// The NAL unit types of AVC that matter here.
const (
	avcSlice     = 1
	avcPartition = 2
	avcIDR       = 5
	avcSEI       = 6
	avcSPS       = 7
	avcPPS       = 8
	avcAUD       = 9
	avcEndSeq    = 10
	avcEndStream = 11
	avcFiller    = 12
)

// maxSide is more than any level of any codec allows.
const maxSide = 1 << 16

type avcInfo struct {
	profile, compat, level        byte
	id                            uint32
	hasChroma                     bool
	chroma, depthLuma, depthColor uint32
	width, height                 int
	rate                          float64
}

func highAVC(profile byte) bool {
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		return true
	}
	return false
}

// parseAVCSPS reads a sequence parameter set, its NAL unit header included.
func parseAVCSPS(nal []byte) (avcInfo, error) {
	s := avcInfo{chroma: 1, depthLuma: 8, depthColor: 8}
	if len(nal) < 4 || nal[0]&0x1F != avcSPS {
		return s, bad("an SPS of %d bytes", len(nal))
	}
	r := &bitReader{b: nal[1:], escaped: true}
	s.profile, s.compat, s.level = byte(r.bits(8)), byte(r.bits(8)), byte(r.bits(8))
	s.id = r.ue()
	separate := false
	if highAVC(s.profile) {
		s.hasChroma = true
		if s.chroma = r.ue(); s.chroma == 3 {
			separate = r.flag()
		}
		s.depthLuma, s.depthColor = 8+r.ue(), 8+r.ue()
		r.bit()
		if r.flag() { // scaling matrix
			lists := 8
			if s.chroma == 3 {
				lists = 12
			}
			for i := range lists {
				if r.flag() {
					size := 16
					if i >= 6 {
						size = 64
					}
					last, next := int32(8), int32(8)
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
	}
	r.ue() // log2_max_frame_num
	switch r.ue() {
	case 0:
		r.ue()
	case 1:
		r.bit()
		r.se()
		r.se()
		n := r.ue()
		if n > 255 {
			return s, bad("an SPS with a picture order cycle of %d", n)
		}
		for range n {
			r.se()
		}
	}
	r.ue() // reference frames
	r.bit()
	w, h := r.ue()+1, r.ue()+1
	frames := r.bit()
	if frames == 0 {
		r.bit()
	}
	r.bit()
	var left, right, top, bottom uint32
	if r.flag() {
		left, right, top, bottom = r.ue(), r.ue(), r.ue(), r.ue()
	}
	if r.over || s.id > 31 || s.chroma > 3 || s.depthLuma > 14 || s.depthColor > 14 || w == 0 || h == 0 ||
		w > maxSide/16 || h > maxSide/16 || max(left, right, top, bottom) > maxSide {
		return s, bad("an SPS of %d bytes that makes no sense", len(nal))
	}
	unitX, unitY := uint32(1), 2-frames
	if s.chroma != 0 && !separate {
		if s.chroma < 3 {
			unitX = 2
		}
		if s.chroma == 1 {
			unitY *= 2
		}
	}
	s.width = int(w)*16 - int(unitX*(left+right))
	s.height = int(h)*16*int(2-frames) - int(unitY*(top+bottom))
	if s.width <= 0 || s.height <= 0 {
		return s, bad("an SPS of %d×%d pixels", s.width, s.height)
	}
	if r.flag() {
		s.rate = avcTiming(r)
	}
	return s, nil
}

func avcTiming(r *bitReader) float64 {
	if r.flag() && r.bits(8) == 255 { // aspect ratio
		r.bits(32)
	}
	if r.flag() {
		r.bit() // overscan
	}
	if r.flag() { // video signal
		r.bits(4)
		if r.flag() {
			r.bits(24)
		}
	}
	if r.flag() { // chroma location
		r.ue()
		r.ue()
	}
	if !r.flag() {
		return 0
	}
	tick, scale := r.bits(32), r.bits(32)
	if r.over || tick == 0 {
		return 0
	}
	return sane(float64(scale) / (2 * float64(tick)))
}

// sane drops frame rates that nobody sends.
func sane(rate float64) float64 {
	if rate < 1 || rate > 300 {
		return 0
	}
	return rate
}

// ParameterSets is what an avcC or hvcC holds. Its slices point into what was parsed.
type ParameterSets struct{ VPS, SPS, PPS [][]byte }

func (p *ParameterSets) of(kind int) *[][]byte {
	return [...]*[][]byte{&p.VPS, &p.SPS, &p.PPS}[kind]
}

// maxSets is more than AVC (32 SPS, 256 PPS) and HEVC (16, 16, 64) know.
const maxSets = 320

func readAVCC(b []byte) (p ParameterSets, nalLength int, err error) {
	if len(b) < 7 {
		return p, 0, bad("avcC of %d bytes", len(b))
	}
	if b[0] != 1 {
		return p, 0, bad("avcC version %d", b[0])
	}
	if nalLength = int(b[4]&3) + 1; nalLength == 3 {
		return p, 0, bad("avcC with lengths of 3 bytes")
	}
	var ok bool
	rest := b[6:]
	if p.SPS, rest, ok = cutSets(rest, int(b[5]&0x1F)); !ok || len(p.SPS) == 0 {
		return p, 0, bad("avcC of %d bytes without a whole SPS", len(b))
	}
	if len(rest) > 0 {
		if p.PPS, _, ok = cutSets(rest[1:], int(rest[0])); !ok {
			return p, 0, bad("avcC ends inside its PPS")
		}
	}
	return p, nalLength, nil
}

func cutSets(b []byte, n int) (sets [][]byte, rest []byte, ok bool) {
	for range n {
		if len(b) < 2 {
			return nil, nil, false
		}
		size := int(binary.BigEndian.Uint16(b))
		if size == 0 || len(b) < 2+size || len(sets) == maxSets {
			return nil, nil, false
		}
		sets = append(sets, b[2:2+size:2+size])
		b = b[2+size:]
	}
	return sets, b, true
}

func parseAVCC(b []byte) (Info, error) {
	p, n, err := readAVCC(b)
	if err != nil {
		return Info{}, err
	}
	s, err := parseAVCSPS(p.SPS[0])
	if err != nil {
		return Info{}, err
	}
	return Info{Codec: media.AVC, Name: fmt.Sprintf("avc1.%02x%02x%02x", b[1], b[2], b[3]), Profile: int(b[1]), Level: int(b[3]),
		Width: s.width, Height: s.height, FrameRate: s.rate, NALLength: n}, nil
}

// BuildAVCC makes an avcC with lengths of 4 bytes. The error is ErrBad: no SPS or PPS, or one that cannot be read.
func BuildAVCC(sps, pps [][]byte) ([]byte, error) {
	if len(sps) == 0 || len(pps) == 0 || len(sps) > 31 || len(pps) > 255 {
		return nil, bad("an avcC of %d SPS and %d PPS", len(sps), len(pps))
	}
	info, err := parseAVCSPS(sps[0])
	if err != nil {
		return nil, err
	}
	rec := []byte{1, info.profile, info.compat, info.level, 0xFF, 0xE0 | byte(len(sps))}
	for _, s := range sps {
		if rec, err = appendSet(rec, s); err != nil {
			return nil, err
		}
	}
	rec = append(rec, byte(len(pps)))
	for _, s := range pps {
		if rec, err = appendSet(rec, s); err != nil {
			return nil, err
		}
	}
	if info.hasChroma {
		rec = append(rec, 0xFC|byte(info.chroma), 0xF8|byte(info.depthLuma-8), 0xF8|byte(info.depthColor-8), 0)
	}
	return rec, nil
}

func appendSet(rec, set []byte) ([]byte, error) {
	if len(set) < 2 || len(set) > 0xFFFF {
		return rec, bad("a parameter set of %d bytes", len(set))
	}
	return append(binary.BigEndian.AppendUint16(rec, uint16(len(set))), set...), nil
}

// avcIntra reports whether a slice is I or SI.
func avcIntra(nal []byte) bool {
	if len(nal) < 2 {
		return false
	}
	r := bitReader{b: nal[1:min(len(nal), 24)], escaped: true}
	r.ue() // first_mb_in_slice
	t := r.ue() % 5
	return !r.over && (t == 2 || t == 4)
}

// avcRecovery looks for a recovery point in an SEI NAL unit. frames is how many pictures it takes until all is right.
func avcRecovery(nal []byte) (frames uint32, ok bool) {
	for b := nal[1:]; len(b) >= 2; {
		typ, size := 0, 0
		for len(b) > 0 && b[0] == 0xFF {
			typ, b = typ+255, b[1:]
		}
		if len(b) == 0 {
			return 0, false
		}
		typ, b = typ+int(b[0]), b[1:]
		for len(b) > 0 && b[0] == 0xFF {
			size, b = size+255, b[1:]
		}
		if len(b) == 0 {
			return 0, false
		}
		size, b = size+int(b[0]), b[1:]
		if typ == 6 {
			r := bitReader{b: b, escaped: true}
			n := r.ue()
			return n, !r.over
		}
		// The size does not count escapes. Each stands behind two zeros.
		for size > 0 && len(b) > 0 {
			n := min(size, len(b))
			if i := bytes.Index(b[:n], []byte{0, 0, 3}); i >= 0 {
				size, b = size-i-2, b[i+3:]
				continue
			}
			size, b = size-n, b[n:]
		}
	}
	return 0, false
}
