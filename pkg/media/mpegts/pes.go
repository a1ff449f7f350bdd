package mpegts

import (
	"encoding/binary"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// maxHead is the longest PES header.
const maxHead = 9 + 255

// maxCarry bounds what is kept of a frame of sound that goes on in the next PES.
const maxCarry = 64 << 10

const typeLATM = 0x11

// stream is the state of one elementary stream that is taken.
type stream struct {
	elementary
	kind media.Codec // as the PMT says

	cc        int // -1: not to be compared
	mark      uint64
	jumps     bool // a jump comes with the next PES
	announced bool // … it has come, and no unit has told it yet

	// The PES that is read: first its header, then its body behind what is still in body.
	open     bool
	head     []byte
	headDone bool
	left     int  // bytes of the body that are to come, -1: unbounded
	torn     bool // packets are missing
	skip     bool // what comes up to the next PES belongs to nothing

	body []byte
	from int // where in body the newest PES begins: the time belongs to the first frame that begins there or behind

	pts, dts int64 // of the unit in body (video), of from (sound)
	timed    bool  // they are known
	fresh    bool  // sound: pts is not used yet

	// video
	sets *codec.Sets
	out  []byte
	last int64 // DTS of the unit before
	step int64 // between the last two
	// config is a new record that no unit has told yet.
	config []byte

	sound sound
	latm  codec.LATM
}

func newStream(e elementary) *stream {
	s := &stream{elementary: e, kind: e.Codec, cc: -1, head: make([]byte, 0, maxHead)}
	if isVideo(e.Codec) {
		s.sets, _ = codec.NewSets(e.Codec, nil) // refuses other codecs only
	}
	return s
}

// elementary takes the payload of one packet.
func (d *Demuxer) elementary(s *stream, b []byte, start bool) {
	if start {
		d.startPES(s)
	}
	if !s.open || s.skip {
		d.count.Torn += int64(len(b))
		return
	}
	if !s.headDone {
		n := min(len(b), headLen(s.head, b)-len(s.head))
		s.head = append(s.head, b[:n]...)
		b = b[n:]
		if len(s.head) < headLen(s.head, nil) {
			return
		}
		if d.readHead(s); !s.open {
			d.count.Torn += int64(len(b))
			return
		}
	}
	if s.left >= 0 && s.sets == nil { // of video the length is often wrong, and the next one begins in a packet of its own
		n := min(len(b), s.left)
		d.count.Torn += int64(len(b) - n)
		b = b[:n]
	}
	if room := MaxUnit - len(s.body); len(b) > room {
		d.count.Torn += int64(len(b) - room)
		b = b[:room]
		s.torn = true
	}
	s.body = append(s.body, b...)
	if s.left > 0 {
		s.left = max(0, s.left-len(b))
	}
	if s.left == 0 && s.sets == nil {
		d.endPES(s)
	}
}

// headLen is how long the header is, as far as can be told from its begin in a and b.
func headLen(a, b []byte) int {
	at := func(i int) (byte, bool) {
		if i < len(a) {
			return a[i], true
		}
		if i -= len(a); i < len(b) {
			return b[i], true
		}
		return 0, false
	}
	id, ok := at(3)
	if !ok {
		return 9
	}
	switch id {
	case 0xBC, 0xBE, 0xBF, 0xF0, 0xF1, 0xFF, 0xF2, 0xF8: // they have none, and are no media
		return 6
	}
	n, ok := at(8)
	if !ok {
		return 9
	}
	return 9 + int(n)
}

// startPES begins a PES. Whether it also begins a unit is known after its header.
func (d *Demuxer) startPES(s *stream) {
	if s.sets == nil || s.open && s.left > 0 {
		d.endPES(s)
	}
	if s.open && !s.headDone {
		d.count.Corrupt++
	}
	s.open, s.skip, s.headDone, s.head = true, false, false, s.head[:0]
}

// readHead reads the PES header that is complete.
func (d *Demuxer) readHead(s *stream) {
	h := s.head
	s.headDone = true
	if h[0] != 0 || h[1] != 0 || h[2] != 1 || len(h) < 9 || h[6]&0xC0 != 0x80 {
		d.giveUp(s)
		return
	}
	if h[6]&0x30 != 0 {
		d.count.Scrambled++
		d.giveUp(s)
		return
	}
	pts, dts, ok := times(h)
	if s.sets != nil && (ok || len(s.body) == 0) { // without a time it goes on with the unit
		d.endUnit(s)
		s.open = true
	}
	s.left = -1
	if n := int(binary.BigEndian.Uint16(h[4:])); n > 0 {
		s.left = max(0, n-(len(h)-6))
	}
	s.from = len(s.body)
	if s.jumps {
		s.announced, s.jumps = true, false
	}
	if ok {
		dts = d.clock.unwrap(dts)
		s.pts, s.dts, s.timed, s.fresh = nearest(pts, dts), dts, true, true
	}
}

// giveUp ends the unit that was before, and takes nothing up to the next PES.
func (d *Demuxer) giveUp(s *stream) {
	if s.sets != nil {
		d.endUnit(s)
	}
	s.open, s.skip = false, true
}

// times reads the time stamps of a PES header.
func times(h []byte) (pts, dts int64, ok bool) {
	stamp := func(b []byte) int64 {
		return int64(b[0]>>1&7)<<30 | int64(b[1])<<22 | int64(b[2]>>1)<<15 | int64(b[3])<<7 | int64(b[4]>>1)
	}
	if h[7]&0x80 == 0 || len(h) < 14 {
		return 0, 0, false
	}
	pts = stamp(h[9:])
	if dts = pts; h[7]&0x40 != 0 && len(h) >= 19 {
		dts = stamp(h[14:])
	}
	return pts, dts, true
}

// lost takes notice of missing packets.
func (d *Demuxer) lost(s *stream) {
	if !s.open || s.skip || s.headDone && s.left == 0 {
		return
	}
	s.torn = true
	if s.sets == nil { // frames are found by their lengths only
		d.endPES(s)
		s.skip = true
	}
}

// endPES ends the PES, and of video the unit.
func (d *Demuxer) endPES(s *stream) {
	if s.sets != nil {
		d.endUnit(s)
		return
	}
	if !s.open {
		return
	}
	s.open = false
	if s.skip {
		s.torn = false
		return
	}
	if s.headDone {
		d.frames(s)
	}
	if s.torn || s.left > 0 || !s.headDone { // the frame that was begun will not be completed
		d.count.Torn += int64(len(s.body))
		d.count.Corrupt++
		s.body = s.body[:0]
	}
	s.torn, s.left = false, 0
}

// endUnit gives out the picture in body.
func (d *Demuxer) endUnit(s *stream) {
	corrupt := s.torn || s.left > 0
	s.open, s.torn, s.left = false, false, 0
	au := s.body
	s.body = s.body[:0]
	if len(au) == 0 {
		return
	}
	pts, dts, guessed := s.pts, s.dts, !s.timed
	if guessed {
		dts = s.last + s.step
		pts = dts
	} else if step := dts - s.last; step > 0 && step < 90000 {
		s.step = step
	}
	for len(au) > 0 && d.err == nil {
		end := d.picture(s, au, pts, dts, corrupt, guessed)
		s.last = dts
		if au = au[end:]; len(au) > 0 { // several in one PES: only the first has a time
			dts += s.step
			pts, guessed = dts, true
		}
	}
	s.timed = false
}

// picture gives out the first picture in au, which is n bytes long.
func (d *Demuxer) picture(s *stream, au []byte, pts, dts int64, corrupt, guessed bool) (n int) {
	s.sets.Keep = corrupt
	into := d.cfg.Into
	if into == nil {
		s.out = s.out[:0]
		into = &s.out
	}
	at := len(*into)
	out, p, n := s.sets.FirstFromAnnexB(*into, au)
	*into = out
	out = out[at:len(out):len(out)]
	corrupt = corrupt || p.Broken
	if p.Changed {
		s.config = s.sets.Record()
	}
	if p.Slices == 0 {
		if corrupt {
			d.count.Corrupt++
		}
		d.count.Torn += int64(n)
		return n
	}
	if corrupt {
		d.count.Corrupt++
		if d.cfg.DropCorrupt {
			d.count.Torn += int64(n)
			return n
		}
	}
	u := &d.unit
	*u = Unit{Video: true, Track: s.Track, PID: s.PID, Codec: s.Codec, PTS: pts, DTS: dts, Key: p.Key, Open: p.Open, Data: out,
		Corrupt: corrupt, Jump: s.announced, Guessed: guessed}
	u.Config, s.config, s.announced = s.config, nil, false
	d.give(u)
	return n
}

func (d *Demuxer) give(u *Unit) {
	d.count.Units++
	d.err = d.cfg.Unit(u)
}
