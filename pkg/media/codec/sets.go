package codec

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/liverec/liverec/pkg/media"
)

// Picture is what a Sets saw in one access unit.
type Picture struct {
	Key     bool // a decoder can start here
	Open    bool // … but pictures that are shown before it may be missing something: no IDR
	Changed bool // Sets.Record is new from this picture on
	Slices  int  // NAL units that hold coded picture; 0: there is no picture in it
	Broken  bool // lengths that do not add up, an empty NAL unit or a forbidden bit: what was whole is here
}

// The kinds of parameter sets.
const (
	setVPS = iota
	setSPS
	setPPS
	setKinds
	noSet = -1
)

type set struct {
	kind int
	id   uint32
	nal  []byte
}

// maxPending bounds the parameter sets that wait for a picture, in bytes.
const maxPending = 256 << 10

// span is a NAL unit inside an access unit.
type span struct{ from, to int }

// Sets follows the parameter sets of one H.264 or HEVC track. It is made by NewSets.
type Sets struct {
	// Keep: parameter sets that come now are not to be trusted (the access unit is torn). They stay in the picture, and
	// the record stays as it is.
	Keep bool

	codec   media.Codec
	sets    []set
	record  []byte
	pending []set // came without a picture
	waiting int   // bytes of them
	nals    []span
	found   []set // scratch
}

// NewSets follows a track of codec AVC or HEVC. record is what is known already: avcC or hvcC; nil if nothing is. The
// error is ErrBad.
func NewSets(c media.Codec, record []byte) (*Sets, error) {
	s := &Sets{codec: c}
	if c != media.AVC && c != media.HEVC {
		return nil, bad("%v has no parameter sets", c)
	}
	if len(record) == 0 {
		return s, nil
	}
	p, err := ReadSets(c, record)
	if err != nil {
		return nil, err
	}
	for kind := range setKinds {
		for _, nal := range *p.of(kind) {
			if k, id := s.identify(nal); k == kind {
				s.sets = put(s.sets, set{k, id, bytes.Clone(nal)})
			}
		}
	}
	if s.record = s.build(s.sets); s.record == nil { // sets are in the stream
		if _, err := Parse(c, record); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Record is the current configuration record, with lengths of 4 bytes; nil until all that it needs has come. It is
// never changed: a new one is a new slice.
func (s *Sets) Record() []byte { return s.record }

// FromAnnexB appends an access unit, given with start codes, to dst as NAL units behind 4-byte lengths.
//
// Left out are access unit delimiters, filler, end of sequence and stream marks, and parameter sets that the record
// has. Others become part of a new record when the picture is a key (Changed), and are left out likewise. In any other
// picture they stay where they are, so that nothing is lost until the next key. Sets that come without a picture
// (Slices 0; nothing is appended) belong to the next one.
//
// It allocates only when dst is too small (it never grows by more than 4 bytes per NAL unit) or the record changes.
func (s *Sets) FromAnnexB(dst, au []byte) ([]byte, Picture) {
	dst, p, _ := s.fromAnnexB(dst, au, false)
	return dst, p
}

// FirstFromAnnexB does the same for the first access unit in b, which ends where a delimiter stands behind a slice. n is
// its length.
func (s *Sets) FirstFromAnnexB(dst, b []byte) (_ []byte, p Picture, n int) {
	return s.fromAnnexB(dst, b, true)
}

func (s *Sets) fromAnnexB(dst, au []byte, first bool) (_ []byte, p Picture, n int) {
	s.nals = s.nals[:0]
	n = len(au)
	sliced := false
	for from := nextStart(au, 0); from < len(au); {
		if first {
			slice, delimiter := s.border(au[from])
			if sliced && delimiter {
				n = from - 3
				break
			}
			sliced = sliced || slice
		}
		end := startCode(au, from)
		to := end
		for to > from && au[to-1] == 0 { // zeros behind a NAL unit, and the first one of a long start code
			to--
		}
		if to > from {
			s.nals = append(s.nals, span{from, to})
		}
		from = min(end+3, len(au))
	}
	dst = s.rewrite(dst, au[:n], &p)
	return dst, p, n
}

// border tells by the first byte of a NAL unit whether it is a slice, and whether it is a delimiter.
func (s *Sets) border(head byte) (slice, delimiter bool) {
	if s.codec == media.AVC {
		t := head & 0x1F
		return t >= avcSlice && t <= avcIDR, t == avcAUD
	}
	t := head >> 1 & 0x3F
	return t < 32, t == hevcAUD
}

// startCode finds the next 00 00 01 at or behind from, or the end.
func startCode(b []byte, from int) int {
	if i := bytes.Index(b[from:], []byte{0, 0, 1}); i >= 0 {
		return from + i
	}
	return len(b)
}

func nextStart(b []byte, from int) int { return min(startCode(b, from)+3, len(b)) }

// FromPrefixed does the same for an access unit whose NAL units stand behind lengths of nalLength bytes.
func (s *Sets) FromPrefixed(dst, au []byte, nalLength int) ([]byte, Picture) {
	s.nals = s.nals[:0]
	var p Picture
	for at := 0; at < len(au); {
		from, to, ok := nextNAL(au, at, nalLength)
		if !ok {
			p.Broken = true
			break
		}
		if to > from {
			s.nals = append(s.nals, span{from, to})
		} else {
			p.Broken = true
		}
		at = to
	}
	dst = s.rewrite(dst, au, &p)
	return dst, p
}

// nextNAL finds the borders of the NAL unit whose length stands at at.
func nextNAL(b []byte, at, nalLength int) (from, to int, ok bool) {
	if nalLength < 1 || nalLength > 4 || len(b)-at < nalLength {
		return 0, 0, false
	}
	n := 0
	for _, c := range b[at : at+nalLength] {
		n = n<<8 | int(c)
	}
	if from = at + nalLength; n > len(b)-from {
		return 0, 0, false
	}
	return from, from + n, true
}

// identify says which parameter set a NAL unit is: noSet for others, and for those that cannot be told.
func (s *Sets) identify(nal []byte) (kind int, id uint32) {
	if s.codec == media.AVC {
		switch nal[0] & 0x1F {
		case avcSPS:
			if i, err := parseAVCSPS(nal); err == nil {
				return setSPS, i.id
			}
		case avcPPS:
			r := bitReader{b: nal[1:min(len(nal), 16)], escaped: true}
			if id := r.ue(); !r.over && id < 256 {
				return setPPS, id
			}
		}
		return noSet, 0
	}
	if len(nal) < 3 || hevcLayer(nal) != 0 {
		return noSet, 0
	}
	switch nal[0] >> 1 & 0x3F {
	case hevcVPS:
		return setVPS, uint32(nal[2] >> 4)
	case hevcSPS:
		if i, err := parseHEVCSPS(nal); err == nil {
			return setSPS, i.id
		}
	case hevcPPS:
		r := bitReader{b: nal[2:min(len(nal), 16)], escaped: true}
		if id := r.ue(); !r.over && id < 64 {
			return setPPS, id
		}
	}
	return noSet, 0
}

func hevcLayer(nal []byte) byte { return nal[0]&1<<5 | nal[1]>>3 }

// class is what a NAL unit is good for.
type class uint8

const (
	other class = iota
	slice
	parameters
	redundant // delimiters and filler
)

func (s *Sets) class(nal []byte) class {
	if s.codec == media.AVC {
		switch nal[0] & 0x1F {
		case avcSlice, avcPartition, avcIDR:
			return slice
		case avcSPS, avcPPS:
			return parameters
		case avcAUD, avcEndSeq, avcEndStream, avcFiller:
			return redundant
		}
		return other
	}
	switch t := nal[0] >> 1 & 0x3F; {
	case t <= hevcLastVCL:
		return slice
	case t >= hevcVPS && t <= hevcPPS:
		return parameters
	case t >= hevcAUD && t <= hevcFiller:
		return redundant
	}
	return other
}

// rewrite appends the NAL units of au that s.nals points to.
func (s *Sets) rewrite(dst, au []byte, p *Picture) []byte {
	k := keyFinder{codec: s.codec}
	s.found = s.found[:0]
	for _, n := range s.nals {
		nal := au[n.from:n.to]
		if nal[0]&0x80 != 0 || s.codec == media.HEVC && len(nal) < 2 {
			p.Broken = true
			continue
		}
		switch k.add(nal); s.class(nal) {
		case slice:
			p.Slices++
		case parameters:
			if s.same(nal) { // the usual case, without a look inside
				if len(s.found) > 0 {
					s.forget(nal)
				}
				continue
			}
			if kind, id := s.identify(nal); kind != noSet && len(nal) <= math.MaxUint16 {
				s.found = put(s.found, set{kind, id, nal})
			}
		}
	}
	if p.Slices == 0 {
		for _, f := range s.found {
			if !s.Keep && s.waiting+len(f.nal) <= maxPending {
				f.nal = bytes.Clone(f.nal)
				s.pending = put(s.pending, f)
				s.waiting += len(f.nal)
			}
		}
		return dst
	}
	p.Key, p.Open = k.result()
	if len(s.found)+len(s.pending) > 0 {
		if !s.Keep && (p.Key || s.record == nil) {
			p.Changed = s.absorb(au)
		}
		for _, f := range s.pending {
			if !s.same(f.nal) {
				dst = appendNAL(dst, f.nal)
			}
		}
		s.pending, s.waiting = nil, 0
	}
	for _, n := range s.nals {
		nal := au[n.from:n.to]
		if nal[0]&0x80 != 0 || s.codec == media.HEVC && len(nal) < 2 {
			continue
		}
		switch s.class(nal) {
		case redundant:
			continue
		case parameters:
			if s.same(nal) || s.outdone(nal) {
				continue
			}
		}
		dst = appendNAL(dst, nal)
	}
	return dst
}

// forget takes out of found what a later set of the same access unit has taken the place of.
func (s *Sets) forget(nal []byte) {
	kind, id := s.identify(nal)
	s.found = slices.DeleteFunc(s.found, func(f set) bool { return f.kind == kind && f.id == id })
}

// outdone reports whether another set of the same name comes later in the access unit, so that this one counts for nothing.
func (s *Sets) outdone(nal []byte) bool {
	kind, id := s.identify(nal)
	if kind == noSet || len(nal) > math.MaxUint16 {
		return false
	}
	for _, f := range s.found {
		if f.kind == kind && f.id == id {
			return !bytes.Equal(f.nal, nal)
		}
	}
	return true
}

func appendNAL(dst, nal []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(nal))), nal...)
}

// absorb makes a new record with the parameter sets of this access unit and those that wait. It reports whether there
// is one, and leaves everything as it was if not.
func (s *Sets) absorb(au []byte) bool {
	here := slices.Clone(s.pending) // all of them, also those that the record has
	for _, n := range s.nals {
		nal := au[n.from:n.to]
		if nal[0]&0x80 == 0 && s.class(nal) == parameters {
			if kind, id := s.identify(nal); kind != noSet && len(nal) <= math.MaxUint16 {
				here = put(here, set{kind, id, nal})
			}
		}
	}
	all, anew := slices.Clone(s.sets), false
	for _, h := range here {
		if old := find(all, h.kind, h.id); h.kind == setSPS && old != nil && !bytes.Equal(old, h.nal) {
			anew = true
		}
	}
	if anew && slices.ContainsFunc(here, func(h set) bool { return h.kind == setPPS }) {
		// What was said of another sequence is over.
		all = slices.DeleteFunc(all, func(h set) bool { return h.kind != setVPS })
	}
	for _, h := range here {
		h.nal = bytes.Clone(h.nal)
		all = put(all, h)
	}
	record := s.build(all)
	if record == nil {
		if s.record == nil { // the rest may follow
			s.sets = all
		}
		return false
	}
	s.sets, s.record = all, record
	return true
}

// build makes a record, nil if something is missing.
func (s *Sets) build(sets []set) []byte {
	slices.SortStableFunc(sets, func(a, b set) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	})
	var p ParameterSets
	for _, e := range sets {
		l := p.of(e.kind)
		*l = append(*l, e.nal)
	}
	var record []byte
	var err error
	if s.codec == media.AVC {
		record, err = BuildAVCC(p.SPS, p.PPS)
	} else {
		record, err = BuildHVCC(p.VPS, p.SPS, p.PPS)
	}
	if err != nil {
		return nil
	}
	return record
}

// same reports whether the record has this parameter set.
func (s *Sets) same(nal []byte) bool {
	if s.record == nil {
		return false
	}
	for i := range s.sets {
		if bytes.Equal(s.sets[i].nal, nal) {
			return true
		}
	}
	return false
}

// put replaces the set of that kind and number, or adds it.
func put(sets []set, n set) []set {
	for i := range sets {
		if sets[i].kind == n.kind && sets[i].id == n.id {
			sets[i] = n
			return sets
		}
	}
	if len(sets) == maxSets {
		return sets
	}
	return append(sets, n)
}

func find(sets []set, kind int, id uint32) []byte {
	for i := range sets {
		if sets[i].kind == kind && sets[i].id == id {
			return sets[i].nal
		}
	}
	return nil
}

// ReadSets takes the parameter sets out of an avcC or hvcC. The error is ErrBad.
func ReadSets(c media.Codec, record []byte) (p ParameterSets, err error) {
	switch c {
	case media.AVC:
		p, _, err = readAVCC(record)
	case media.HEVC:
		p, _, err = readHVCC(record)
	default:
		err = bad("%v has no parameter sets", c)
	}
	return p, err
}

// ToAnnexB appends the NAL units of a length-prefixed access unit to dst, each behind a 4-byte start code. The error is
// ErrBad: lengths that do not add up.
func ToAnnexB(dst, au []byte, nalLength int) ([]byte, error) {
	for at := 0; at < len(au); {
		from, to, ok := nextNAL(au, at, nalLength)
		if !ok {
			return dst, bad("an access unit of %d bytes whose lengths do not add up", len(au))
		}
		if to > from {
			dst = append(append(dst, 0, 0, 0, 1), au[from:to]...)
		}
		at = to
	}
	return dst, nil
}
