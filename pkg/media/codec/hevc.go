package codec

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"

	"github.com/liverec/liverec/pkg/media"
)

// The NAL unit types of HEVC that matter here.
const (
	hevcIRAP      = 16 // BLA_W_LP, the first of 16 to 21
	hevcCRA       = 21
	hevcLastVCL   = 31
	hevcVPS       = 32
	hevcSPS       = 33
	hevcPPS       = 34
	hevcAUD       = 35
	hevcEndSeq    = 36
	hevcEndStream = 37
	hevcFiller    = 38
)

// hevcProfile is the general part of profile_tier_level, as hvcC has it in its bytes 1 to 12.
type hevcProfile [12]byte

type hevcInfo struct {
	id                    uint32
	profile               hevcProfile
	layers                int // temporal
	nested                bool
	chroma                uint32
	depthLuma, depthColor uint32
	width, height         int
	rate                  float64
	segmentation          uint32
}

// hevcPTL reads a profile_tier_level with sub layers.
func hevcPTL(r *bitReader, subs int) (p hevcProfile) {
	for i := range p {
		p[i] = byte(r.bits(8))
	}
	var profile, level [8]bool
	for i := range subs {
		profile[i], level[i] = r.flag(), r.flag()
	}
	if subs > 0 {
		r.skip(2 * (8 - subs))
	}
	for i := range subs {
		if profile[i] {
			r.skip(88)
		}
		if level[i] {
			r.skip(8)
		}
	}
	return p
}

// parseHEVCSPS reads a sequence parameter set, its NAL unit header included.
func parseHEVCSPS(nal []byte) (hevcInfo, error) {
	var s hevcInfo
	if len(nal) < 16 || nal[0]>>1&0x3F != hevcSPS {
		return s, bad("an SPS of %d bytes", len(nal))
	}
	r := &bitReader{b: nal[2:], escaped: true}
	r.bits(4)
	subs := int(r.bits(3))
	s.layers, s.nested = subs+1, r.flag()
	if subs > 6 {
		return s, bad("an SPS of %d sub-layers", subs)
	}
	s.profile = hevcPTL(r, subs)
	s.id = r.ue()
	separate := false
	if s.chroma = r.ue(); s.chroma == 3 {
		separate = r.flag()
	}
	w, h := r.ue(), r.ue()
	var left, right, top, bottom uint32
	if r.flag() {
		left, right, top, bottom = r.ue(), r.ue(), r.ue(), r.ue()
	}
	s.depthLuma, s.depthColor = 8+r.ue(), 8+r.ue()
	if r.over || s.id > 15 || s.chroma > 3 || s.depthLuma > 16 || s.depthColor > 16 || w == 0 || h == 0 || w > maxSide || h > maxSide ||
		max(left, right, top, bottom) > maxSide {
		return s, bad("an SPS of %d bytes that makes no sense", len(nal))
	}
	unitX, unitY := uint32(1), uint32(1)
	if !separate && (s.chroma == 1 || s.chroma == 2) {
		unitX = 2
	}
	if !separate && s.chroma == 1 {
		unitY = 2
	}
	s.width, s.height = int(w)-int(unitX*(left+right)), int(h)-int(unitY*(top+bottom))
	if s.width <= 0 || s.height <= 0 {
		return s, bad("an SPS of %d×%d pixels", s.width, s.height)
	}
	hevcVUI(r, &s, subs) // what is behind is of no use without it, and if it cannot be read, only the rate is missing
	return s, nil
}

// hevcVUI goes on behind the bit depths.
func hevcVUI(r *bitReader, s *hevcInfo, subs int) {
	pocBits := r.ue() + 4
	if pocBits > 16 {
		return
	}
	first := subs
	if r.flag() {
		first = 0
	}
	for i := first; i <= subs; i++ {
		r.ue()
		r.ue()
		r.ue()
	}
	for range 6 { // coding block and transform sizes and depths
		r.ue()
	}
	if r.flag() && r.flag() { // scaling lists, and they are here
		for size := range 4 {
			step := 1
			if size == 3 {
				step = 3
			}
			for m := 0; m < 6; m += step {
				if !r.flag() {
					r.ue()
					continue
				}
				if size > 1 {
					r.se()
				}
				for range min(64, 1<<(4+size<<1)) {
					r.se()
				}
			}
		}
	}
	r.bits(2)
	if r.flag() { // PCM
		r.bits(8)
		r.ue()
		r.ue()
		r.bit()
	}
	sets := r.ue()
	if sets > 64 {
		return
	}
	var deltas [65]uint32
	for i := range int(sets) {
		if i > 0 && r.flag() { // told from the one before
			r.bit()
			r.ue()
			n := uint32(0)
			for range deltas[i-1] + 1 {
				used, keep := r.flag(), true
				if !used {
					keep = r.flag()
				}
				if used || keep {
					n++
				}
			}
			if deltas[i] = n; n > 32 {
				return
			}
			continue
		}
		before, after := r.ue(), r.ue()
		if before > 16 || after > 16 || r.over {
			return
		}
		for range before + after {
			r.ue()
			r.bit()
		}
		deltas[i] = before + after
	}
	if r.flag() { // long-term
		n := r.ue()
		if n > 32 {
			return
		}
		for range n {
			r.skip(int(pocBits) + 1)
		}
	}
	r.bits(2)
	if r.over || !r.flag() {
		return
	}
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
	r.bits(3)
	if r.flag() { // default display window
		r.ue()
		r.ue()
		r.ue()
		r.ue()
	}
	if r.flag() {
		tick, scale := r.bits(32), r.bits(32)
		if !r.over && tick != 0 {
			s.rate = sane(float64(scale) / float64(tick))
		}
		if r.flag() {
			r.ue()
		}
		if r.flag() {
			return // HRD parameters: nothing behind them is worth it
		}
	}
	if r.flag() { // restrictions
		r.bits(3)
		if n := r.ue(); n <= 4096 && !r.over {
			s.segmentation = n
		}
	}
}

// hevcVPSRate is the frame rate that a video parameter set names.
func hevcVPSRate(nal []byte) float64 {
	if len(nal) < 4 {
		return 0
	}
	r := &bitReader{b: nal[2:], escaped: true}
	r.bits(12)
	subs := int(r.bits(3))
	if subs > 6 {
		return 0
	}
	r.bits(17)
	hevcPTL(r, subs)
	first := subs
	if r.flag() {
		first = 0
	}
	for i := first; i <= subs; i++ {
		r.ue()
		r.ue()
		r.ue()
	}
	layer := int(r.bits(6))
	sets := r.ue()
	if sets > 1023 {
		return 0
	}
	for range sets {
		r.skip(layer + 1)
	}
	if !r.flag() {
		return 0
	}
	tick, scale := r.bits(32), r.bits(32)
	if r.over || tick == 0 {
		return 0
	}
	return sane(float64(scale) / float64(tick))
}

func readHVCC(b []byte) (p ParameterSets, nalLength int, err error) {
	if len(b) < 23 {
		return p, 0, bad("hvcC of %d bytes", len(b))
	}
	if b[0] > 1 { // old writers leave 0
		return p, 0, bad("hvcC version %d", b[0])
	}
	if nalLength = int(b[21]&3) + 1; nalLength == 3 {
		return p, 0, bad("hvcC with lengths of 3 bytes")
	}
	rest := b[23:]
	for range b[22] {
		if len(rest) < 3 {
			return p, 0, bad("hvcC ends inside its arrays")
		}
		typ, n := rest[0]&0x3F, int(binary.BigEndian.Uint16(rest[1:]))
		sets, r, ok := cutSets(rest[3:], n)
		if !ok {
			return p, 0, bad("hvcC ends inside its parameter sets")
		}
		rest = r
		if typ >= hevcVPS && typ <= hevcPPS {
			l := p.of(int(typ) - hevcVPS)
			if *l = append(*l, sets...); len(*l) > maxSets {
				return p, 0, bad("hvcC with more than %d parameter sets of a kind", maxSets)
			}
		}
	}
	return p, nalLength, nil
}

func parseHVCC(b []byte) (Info, error) {
	p, n, err := readHVCC(b)
	if err != nil {
		return Info{}, err
	}
	i := Info{Codec: media.HEVC, Name: hevcName(hevcProfile(b[1:13])), Profile: int(b[1] & 0x1F), Level: int(b[12]), NALLength: n}
	if len(p.SPS) == 0 {
		return i, nil // they are in the stream
	}
	s, err := parseHEVCSPS(p.SPS[0])
	if err != nil {
		return Info{}, err
	}
	i.Width, i.Height, i.FrameRate = s.width, s.height, s.rate
	if i.FrameRate == 0 && len(p.VPS) > 0 {
		i.FrameRate = hevcVPSRate(p.VPS[0])
	}
	return i, nil
}

func hevcName(p hevcProfile) string {
	var s strings.Builder
	s.WriteString("hvc1.")
	if space := p[0] >> 6; space > 0 {
		s.WriteByte('A' + space - 1)
	}
	tier := byte('L')
	if p[0]&0x20 != 0 {
		tier = 'H'
	}
	fmt.Fprintf(&s, "%d.%X.%c%d", p[0]&0x1F, bits.Reverse32(binary.BigEndian.Uint32(p[1:])), tier, p[11])
	constraints := p[5:11]
	for len(constraints) > 0 && constraints[len(constraints)-1] == 0 {
		constraints = constraints[:len(constraints)-1]
	}
	for _, c := range constraints {
		fmt.Fprintf(&s, ".%X", c)
	}
	return s.String()
}

// BuildHVCC makes an hvcC with lengths of 4 bytes. The error is ErrBad.
func BuildHVCC(vps, sps, pps [][]byte) ([]byte, error) {
	if len(vps) == 0 || len(sps) == 0 || len(pps) == 0 || len(vps)+len(sps)+len(pps) > maxSets {
		return nil, bad("an hvcC of %d VPS, %d SPS and %d PPS", len(vps), len(sps), len(pps))
	}
	s, err := parseHEVCSPS(sps[0])
	if err != nil {
		return nil, err
	}
	rec := append([]byte{1}, s.profile[:]...)
	rec = binary.BigEndian.AppendUint16(rec, 0xF000|uint16(s.segmentation))
	rec = append(rec, 0xFC, 0xFC|byte(s.chroma), 0xF8|byte(s.depthLuma-8), 0xF8|byte(s.depthColor-8), 0, 0)
	last := byte(s.layers)<<3 | 3
	if s.nested {
		last |= 4
	}
	rec = append(rec, last, 3)
	for i, sets := range [][][]byte{vps, sps, pps} {
		rec = append(rec, 0x80|byte(hevcVPS+i))
		rec = binary.BigEndian.AppendUint16(rec, uint16(len(sets)))
		for _, set := range sets {
			if rec, err = appendSet(rec, set); err != nil {
				return nil, err
			}
		}
	}
	return rec, nil
}
