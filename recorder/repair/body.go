package repair

import (
	"slices"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
)

const (
	maxCTS       = 10_000   // ms
	maxStrangers = 100      // packets in a row of another track than the one that is recorded
	maxRecord    = 64 << 10 // bytes of a header or a script that is kept: it goes into every State
)

// The NAL unit types that matter here.
const (
	avcSPS, avcPPS, avcFiller             = 7, 8, 12
	hevcVPS, hevcSPS, hevcPPS, hevcFiller = 32, 33, 34, 38
)

const temporalDelimiter = 2 // OBU type of AV1

// pick is the one of several tracks of a kind that is recorded.
type pick struct {
	set       bool
	track     uint8
	strangers int
}

// form is what a track's frames themselves say of their coding.
type form struct {
	codec  media.Codec
	layout uint32 // of sound frames without a header of their own; see layoutOf
	next   uint32 // another one, seen once

	sets *codec.Sets // of video with start codes
	of   uint64      // sum of the header that sets know
}

// speaks reports whether the codec of p can be recorded here.
func (r *Repairer) speaks(p *media.Packet) bool {
	sound := of(p.Kind) == aud
	switch p.Codec {
	case media.AVC, media.HEVC, media.AV1, media.VP9:
		if !sound {
			return true
		}
	case media.AAC, media.MP3, media.Opus, media.AC3, media.EAC3, media.FLAC, media.PCMA, media.PCMU:
		if sound {
			return true
		}
	}
	if r.unsupported == nil {
		u := &Unsupported{Codec: p.Codec}
		if p.Codec == media.NoCodec {
			u.Codec = media.OtherCodec
		}
		if p.Lead > 0 {
			u.Name = flv.CodecName(tagType(p.Kind), p.Body)
		}
		r.unsupported = u
	}
	return false
}

// picks reports whether p is of the track that is recorded: the one with the lowest number before anything was written,
// then the same for ever, unless it is gone.
func (r *Repairer) picks(p *media.Packet) bool {
	t := of(p.Kind)
	k := &r.pick[t]
	switch {
	case !k.set, k.track == p.Track:
	case p.Track < k.track && !r.clock.begun:
		r.forget(t)
	default:
		if k.strangers++; k.strangers <= maxStrangers {
			r.stats.OtherTracks++
			return false
		}
	}
	*k = pick{set: true, track: p.Track}
	return true
}

// forget gives up what is held of a track.
func (r *Repairer) forget(t int) {
	r.gate.change[t] = false
	r.hold = slices.DeleteFunc(r.hold, func(e entry) bool {
		if e.t() != t || e.kind == 0 {
			return false
		}
		if e.media() {
			r.account.Invalid++
			r.stats.OtherTracks++
		}
		r.holdBytes -= len(e.body)
		return true
	})
}

func tagType(k media.Kind) byte {
	if of(k) == aud {
		return flv.TagAudio
	}
	return flv.TagVideo
}

// isPlain reports whether a packet can stand in an FLV part as it is.
func isPlain(p *media.Packet) bool {
	switch p.Codec {
	case media.AVC, media.AAC:
		return p.Lead > 0 && flv.IsPlain(tagType(p.Kind), p.Body)
	}
	return false
}

// describe keeps what is said of the colours of the video.
func (r *Repairer) describe(p *media.Packet) {
	switch p.Codec {
	case media.AVC, media.HEVC, media.AV1, media.VP9:
		if k := &r.pick[vid]; len(p.Body) <= maxRecord && (!k.set || k.track == p.Track) {
			r.gate.colour = append(r.gate.colour[:0], p.Payload()...)
		}
	}
}

// resum makes the sum of a frame that is new or is named by its payload.
func (r *Repairer) resum(e *entry) {
	switch {
	case !e.media():
	case r.samples:
		e.sum = flv.Sum(tagType(e.kind), e.payload())
	default:
		e.sum = flv.Sum(tagType(e.kind), e.body)
	}
}

// remake begins a new body with what stands before the payload of e; the rest is appended to it.
func (r *Repairer) remake(e *entry) []byte {
	return append(r.remade, e.body[:min(int(e.lead), len(e.body))]...)
}

// made takes the body that remake began.
func (r *Repairer) made(e *entry, b []byte) {
	n := len(r.remade)
	e.body = b[n:len(b):len(b)]
	r.remade = b
}

// sanitise brings a frame into the form in which it is written, before anything is told by its sum: a copy of it that
// comes again takes the same way. It reports whether there is a frame.
func (r *Repairer) sanitise(e *entry) bool {
	anew := r.samples
	if e.cts > maxCTS || e.cts < -maxCTS {
		r.stats.BadCTS++
		r.made(e, append(r.remake(e), e.payload()...))
		if e.lead >= 3 {
			clear(e.body[e.lead-3 : e.lead])
		}
		e.cts, anew = 0, true
	}
	if e.codec == media.AVC || e.codec == media.HEVC {
		size := lengths(r.gate.newest(vid))
		if flv.StartCodes(e.payload(), size) {
			if !r.unstart(e) {
				return false
			}
			anew = true
		} else if n := fillers(e.codec, e.payload(), size); n > 0 {
			r.stats.FillerBytes += int64(n)
			if r.cfg.dropFiller && n < len(e.payload()) {
				r.made(e, dropFillers(r.remake(e), e.codec, e.payload(), size))
				anew = true
			}
		}
	}
	if p := e.payload(); e.codec == media.AV1 && len(p) > 0 && p[0]>>3&0x0F == temporalDelimiter {
		n := len(r.remake(e))
		b := codec.AV1Sample(r.remake(e), p) // MP4 has none
		if len(b) == n {
			return false
		}
		r.made(e, b)
		anew = true
	}
	if anew {
		r.resum(e)
	}
	return true
}

// unstart puts lengths in the place of start codes (C8). ok is false for what holds no picture.
func (r *Repairer) unstart(e *entry) (ok bool) {
	f := &r.forms[vid]
	h := r.gate.newest(vid)
	if f.sets == nil || f.codec != e.codec || f.of != h.sum {
		var record []byte
		if h.set && h.codec == e.codec {
			record = h.payload()
		}
		s, err := codec.NewSets(e.codec, record)
		if err != nil {
			if s, err = codec.NewSets(e.codec, nil); err != nil {
				return false
			}
		}
		f.sets, f.codec, f.of = s, e.codec, h.sum
	}
	r.stats.StartCodes++
	b, pic := f.sets.FromAnnexB(r.remake(e), e.payload())
	if pic.Slices == 0 {
		return false
	}
	r.made(e, b)
	e.key = pic.Key
	e.flagged = e.flagged || pic.Key
	record := f.sets.Record()
	if record != nil && (pic.Changed || !h.set || h.codec != e.codec || lengths(h) != 4) {
		c := r.wrap(e, record)
		f.of = c.sum
		r.heading(c)
	}
	return true
}

// wrap makes a header of a record, in the form that belongs to the frame e.
func (r *Repairer) wrap(e *entry, record []byte) entry {
	k := media.VideoConfig
	if e.kind == media.Audio {
		k = media.AudioConfig
	}
	c := entry{kind: k, codec: e.codec, track: e.track, body: record, at: e.at}
	if e.plain && k == media.VideoConfig {
		c.plain, c.lead = true, avcLead
		c.body = append([]byte{0x17, 0, 0, 0, 0}, record...)
	}
	c.sum = flv.Sum(tagType(k), c.body)
	return c
}

// lengths is how long the lengths in front of the NAL units are that belong to a header.
func lengths(h *header) int {
	const avcAt, hevcAt = 4, 21
	b := h.payload()
	switch {
	case h.set && h.codec == media.AVC && len(b) > avcAt:
		return int(b[avcAt]&3) + 1
	case h.set && h.codec == media.HEVC && len(b) > hevcAt:
		return int(b[hevcAt]&3) + 1
	}
	return 4
}

// nalType is the type of a NAL unit with at least one byte.
func nalType(c media.Codec, first byte) int {
	if c == media.HEVC {
		return int(first >> 1 & 0x3F)
	}
	return int(first & 0x1F)
}

// cut takes the first NAL unit off an access unit; ok is false at its end and where the lengths do not add up.
func cut(b []byte, size int) (nal, rest []byte, ok bool) {
	if len(b) < size {
		return nil, nil, false
	}
	n := 0
	for _, c := range b[:size] {
		n = n<<8 | int(c)
	}
	if n > len(b)-size {
		return nil, nil, false
	}
	return b[size : size+n], b[size+n:], true
}

func isFiller(c media.Codec, nal []byte) bool {
	if len(nal) == 0 {
		return false
	}
	t := nalType(c, nal[0])
	return c == media.AVC && t == avcFiller || c == media.HEVC && t == hevcFiller
}

// fillers counts the bytes of filler in an access unit, lengths included (C16).
func fillers(c media.Codec, b []byte, size int) (n int) {
	for nal, rest, ok := cut(b, size); ok; nal, rest, ok = cut(rest, size) {
		if isFiller(c, nal) {
			n += size + len(nal)
		}
	}
	return n
}

func dropFillers(dst []byte, c media.Codec, b []byte, size int) []byte {
	for len(b) > 0 {
		nal, rest, ok := cut(b, size)
		if !ok {
			return append(dst, b...)
		}
		if !isFiller(c, nal) {
			dst = append(dst, b[:size+len(nal)]...)
		}
		b = rest
	}
	return dst
}

// layoutOf is what of a sound frame's own header a decoder is set up by; ok is false where there is none.
func layoutOf(c media.Codec, b []byte) (v uint32, ok bool) {
	switch {
	case c == media.MP3 && len(b) >= 4:
		mono := uint32(0)
		if b[3]>>6 == 3 {
			mono = 1
		}
		// The protection bit, the bit rate and the padding change from frame to frame.
		return uint32(b[1]&0xFE)<<16 | uint32(b[2]&0x0C)<<8 | mono, b[0] == 0xFF && b[1]&0xE0 == 0xE0 && b[2]&0x0C != 0x0C
	case c == media.AC3 && len(b) >= 7:
		// fscod, bsid and bsmod, acmod with lfeon behind it; the bit rate does not matter.
		return uint32(b[4]&0xC0)<<16 | uint32(b[5])<<8 | uint32(b[6]), b[0] == 0x0B && b[1] == 0x77
	case c == media.EAC3 && len(b) >= 6:
		return uint32(b[2]&0xF8)<<16 | uint32(b[4])<<8 | uint32(b[5]), b[0] == 0x0B && b[1] == 0x77
	}
	return 0, false
}

// configure makes the header that a frame needs and nobody sent: of codecs that have none, and of those that carry it
// in their key frames.
func (r *Repairer) configure(e *entry) {
	t := e.t()
	f := &r.forms[t]
	switch e.codec {
	case media.MP3, media.AC3, media.EAC3:
		v, ok := layoutOf(e.codec, e.payload())
		if !ok || f.codec == e.codec && f.layout == v && r.headed(t, e.codec) {
			f.next = f.layout
			return
		}
		if f.codec == e.codec && f.layout != v && f.next != v {
			f.next = v // one frame may be broken
			return
		}
		record, ok := soundRecord(e.codec, e.payload())
		if !ok {
			return
		}
		f.codec, f.layout, f.next = e.codec, v, v
		r.heading(r.wrap(e, record))
	case media.PCMA, media.PCMU, media.Opus:
		if r.headed(t, e.codec) {
			return
		}
		var record []byte
		if e.codec == media.Opus {
			record, _ = codec.BuildOpusTS(2) // a decoder makes two channels of one
		}
		r.heading(r.wrap(e, record))
	case media.AVC, media.HEVC, media.AV1:
		if !e.flagged && !e.key || r.headed(t, e.codec) {
			return
		}
		if record := inBand(e.codec, e.payload(), 4); record != nil {
			r.heading(r.wrap(e, record))
		}
	}
}

// headed reports whether a header of that codec came for a track.
func (r *Repairer) headed(t int, c media.Codec) bool {
	if h := r.gate.newest(t); h.set && h.codec == c {
		return true
	}
	for i := range r.hold {
		if e := &r.hold[i]; !e.media() && e.kind != 0 && e.t() == t && e.codec == c {
			return true
		}
	}
	return false
}

// soundRecord makes the record of a codec that sends none. Of MP3 it is the header of a frame.
func soundRecord(c media.Codec, frame []byte) ([]byte, bool) {
	var record []byte
	var err error
	switch c {
	case media.AC3:
		record, err = codec.BuildAC3(frame)
	case media.EAC3:
		record, err = codec.BuildEAC3(frame)
	default:
		record = slices.Clone(frame[:4])
	}
	return record, err == nil
}

// inBand makes a configuration record of what a key frame carries; nil if that is not enough.
func inBand(c media.Codec, b []byte, size int) []byte {
	if c == media.AV1 {
		record, _ := codec.BuildAV1C(b)
		return record
	}
	var sets [3][][]byte
	for nal, rest, ok := cut(b, size); ok; nal, rest, ok = cut(rest, size) {
		gather(&sets, c, nal)
	}
	return build(c, sets, size)
}

// gather sorts a NAL unit in where it is a parameter set: VPS, SPS, PPS.
func gather(sets *[3][][]byte, c media.Codec, nal []byte) {
	if len(nal) < 2 {
		return
	}
	switch t := nalType(c, nal[0]); {
	case c == media.HEVC && t == hevcVPS:
		sets[0] = append(sets[0], nal)
	case c == media.AVC && t == avcSPS, c == media.HEVC && t == hevcSPS:
		sets[1] = append(sets[1], nal)
	case c == media.AVC && t == avcPPS, c == media.HEVC && t == hevcPPS:
		sets[2] = append(sets[2], nal)
	}
}

// build makes a record for NAL units behind lengths of size bytes.
func build(c media.Codec, sets [3][][]byte, size int) []byte {
	if len(sets[1]) == 0 || len(sets[2]) == 0 {
		return nil
	}
	var record []byte
	var err error
	at := 4
	if c == media.HEVC {
		record, err = codec.BuildHVCC(sets[0], sets[1], sets[2])
		at = 21
	} else {
		record, err = codec.BuildAVCC(sets[1], sets[2])
	}
	if err != nil || len(record) <= at {
		return nil
	}
	record[at] = record[at]&^3 | byte(size-1)
	return record
}

// startCoded makes a record of parameter sets with start codes, which some send where the record belongs.
func startCoded(c media.Codec, b []byte) []byte {
	var sets [3][][]byte
	for len(b) > 0 {
		n := 0
		for n < len(b) && (n+2 >= len(b) || b[n] != 0 || b[n+1] != 0 || b[n+2] != 1) {
			n++
		}
		nal := b[:n]
		for len(nal) > 0 && nal[len(nal)-1] == 0 {
			nal = nal[:len(nal)-1]
		}
		gather(&sets, c, nal)
		b = b[min(n+3, len(b)):]
	}
	return build(c, sets, 4)
}
