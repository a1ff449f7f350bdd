package mpegts

import (
	"bytes"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// sound is what is known of a stream of sound between two frames.
type sound struct {
	base  int64 // 90 kHz
	n     int64 // samples since then
	rate  int   // Hz
	timed bool  // base is known

	print  uint64 // of the headers that the record was made from
	config []byte
	known  bool
}

// now is when the next frame begins. It is counted from the last time that the stream told, so that nothing adds up.
func (s *sound) now() int64 { return s.base + ticks(s.n, s.rate) }

// ticks is how long samples last, to the nearest tick of 90 kHz.
func ticks(samples int64, rate int) int64 {
	return (samples*90000 + int64(rate)/2) / int64(rate)
}

// frame is one frame of sound as it stands in the stream.
type frame struct {
	size    int // of all of it
	header  int // what of it is not data
	rate    int
	samples int
	print   uint64 // of what the record depends on
}

// What next found.
type found uint8

const (
	whole found = iota
	more        // it begins here, and the rest of it is not here
	none
)

// next reads the frame at the begin of b.
func (s *stream) next(b []byte) (f frame, is found) {
	switch s.kind {
	case media.AAC:
		if s.Type == typeLATM {
			return s.nextLATM(b)
		}
		if len(b) < 7 {
			return f, short(b, 0xFF)
		}
		h, ok := codec.ADTSFrame(b)
		if !ok {
			return f, none
		}
		f = frame{h.Size, h.Header, h.Rate, h.Samples, uint64(b[2])<<8 | uint64(b[3]&0xC0)}
	case media.MP3:
		if len(b) < 4 {
			return f, short(b, 0xFF)
		}
		h, ok := codec.MP3Frame(b)
		if !ok {
			return f, none
		}
		mono := uint64(0)
		if b[3]>>6 == 3 {
			mono = 1
		}
		f = frame{h.Size, 0, h.Rate, h.Samples, uint64(b[1]&^1)<<8 | uint64(b[2]&0x0C)<<1 | mono}
	case media.AC3, media.EAC3:
		return s.nextAC3(b)
	case media.Opus:
		return nextOpus(b)
	}
	if f.size > len(b) {
		return f, more
	}
	return f, whole
}

// nextLATM takes one LOAS frame. What is in it is not yet looked at.
func (s *stream) nextLATM(b []byte) (f frame, is found) {
	if len(b) < 3 {
		return f, short(b, 0x56)
	}
	size, ok := codec.LATMFrame(b)
	if !ok {
		return f, none
	}
	if f.size = size; size > len(b) {
		return f, more
	}
	return f, whole
}

// short tells of a piece that is too short for a header whether it may be one.
func short(b []byte, first byte) found {
	if b[0] == first {
		return more
	}
	return none
}

// nextAC3 takes an independent frame and those that belong to it.
func (s *stream) nextAC3(b []byte) (f frame, is found) {
	for at := 0; ; {
		if len(b)-at < 8 {
			if at == 0 {
				return f, short(b, 0x0B)
			}
			return f, whole
		}
		h, enhanced, ok := codec.AC3Frame(b[at:])
		if at == 0 && (!ok || h.Samples == 0) {
			return f, none
		}
		if at > 0 && (!ok || h.Samples > 0) {
			return f, whole
		}
		x := b[at:]
		if at == 0 {
			f.rate, f.samples = h.Rate, h.Samples
			if s.Codec = media.AC3; enhanced {
				s.Codec = media.EAC3
			}
		}
		if enhanced {
			f.print = (f.print^uint64(x[2]&0xF8)<<16^uint64(x[4])<<8^uint64(x[5]))*0x100000001B3 + 1
		} else {
			f.print = uint64(x[4]&0xFE)<<16 | uint64(x[5])<<8 | uint64(x[6])
		}
		if at += h.Size; at > len(b) {
			f.size = at
			return f, more
		}
		f.size = at
	}
}

// nextOpus takes one access unit with its control header.
func nextOpus(b []byte) (f frame, is found) {
	if len(b) < 3 {
		return f, short(b, 0x7F)
	}
	if b[0] != 0x7F || b[1]&0xE0 != 0xE0 {
		return f, none
	}
	at, size := 2, 0
	for {
		if at == len(b) {
			return f, more
		}
		size += int(b[at])
		at++
		if b[at-1] != 0xFF {
			break
		}
	}
	if b[1]&0x10 != 0 { // trimmed at the start
		at += 2
	}
	if b[1]&0x08 != 0 { // at the end
		at += 2
	}
	if b[1]&0x04 != 0 { // extension
		if at >= len(b) {
			return f, more
		}
		at += 1 + int(b[at])
	}
	f = frame{size: at + size, header: at, rate: 48000, print: 1}
	if f.size > len(b) {
		return f, more
	}
	f.samples = codec.Info{Codec: media.Opus}.Samples(b[at:f.size])
	return f, whole
}

// record makes the configuration record for the frame in b.
func (s *stream) record(b []byte) ([]byte, error) {
	switch s.Codec {
	case media.AAC:
		if s.Type == typeLATM {
			return s.latm.Record(), nil
		}
		return codec.BuildASC(b)
	case media.AC3:
		return codec.BuildAC3(b)
	case media.EAC3:
		return codec.BuildEAC3(b)
	case media.Opus:
		return codec.BuildOpusTS(s.opus)
	}
	return []byte{}, nil
}

// frames gives out the whole frames in s.body and keeps what is behind the last one.
func (d *Demuxer) frames(s *stream) {
	b, at := s.body, 0
	if s.from > 0 && s.from < len(b) && !s.joins(b) {
		at = s.from
		d.count.Torn += int64(at)
		d.count.Corrupt++
	}
	for at < len(b) && d.err == nil {
		f, is := s.next(b[at:])
		if is == none {
			n := s.search(b[at:])
			d.count.Torn += int64(n)
			d.count.Corrupt++
			at += n
			continue
		}
		if is == more {
			break
		}
		d.frame(s, b[at:at+f.size], f, at >= s.from)
		at += f.size
	}
	rest := b[at:]
	if len(rest) > maxCarry || s.Codec == media.Opus {
		d.count.Torn += int64(len(rest))
		rest = rest[:0]
	}
	if s.fresh && len(rest) > 0 && at >= s.from { // the frame to which the time belongs goes on in the next PES
		s.sound.base, s.sound.n, s.sound.timed, s.fresh = s.pts, 0, true, false
	}
	s.body = s.body[:copy(s.body, rest)]
	s.from = 0
}

// joins reports whether what is left of the PES before goes on in this one.
func (s *stream) joins(b []byte) bool {
	f, is := s.next(b)
	if is != whole {
		_, anew := s.next(b[s.from:])
		return is == more && anew == none
	}
	if f.size == len(b) {
		return true
	}
	if _, is = s.next(b[f.size:]); is != none {
		return true
	}
	_, is = s.next(b[s.from:])
	return is == none
}

// search finds the next place where a frame begins, and another one behind it as far as b reaches. b does not begin
// with one.
func (s *stream) search(b []byte) int {
	first := byte(0xFF)
	switch s.kind {
	case media.AC3, media.EAC3:
		first = 0x0B
	case media.Opus:
		first = 0x7F
	case media.AAC:
		if s.Type == typeLATM {
			first = 0x56
		}
	}
	for n := 1; n < len(b); n++ {
		i := bytes.IndexByte(b[n:], first)
		if i < 0 {
			break
		}
		n += i
		f, is := s.next(b[n:])
		if is == none {
			continue
		}
		if is == whole && f.size < len(b)-n {
			if _, is = s.next(b[n+f.size:]); is == none {
				continue
			}
		}
		return n
	}
	return len(b)
}

// frame gives out one frame. here: it begins in the newest PES.
func (d *Demuxer) frame(s *stream, b []byte, f frame, here bool) {
	n := &s.sound
	guessed, data := false, b[f.header:]
	if s.Type == typeLATM {
		var changed bool
		var err error
		if data, changed, err = s.latm.Read(b); err != nil {
			// Without its configuration nothing can be said of it, not even how long it lasts.
			d.count.Torn += int64(len(b))
			d.count.Corrupt++
			return
		}
		i := s.latm.Info()
		f.rate, f.samples = i.SampleRate, i.FrameSamples
		if f.print = n.print; changed {
			f.print++
		}
	}
	switch {
	case s.fresh && here:
		n.base, n.n, n.timed, s.fresh = s.pts, 0, true, false
	case !n.timed:
		guessed = true
		n.base, n.n, n.timed = d.clock.last, 0, true
	case n.n > 0 && n.rate != f.rate:
		n.base, n.n = n.now(), 0
	}
	n.rate = f.rate
	t := n.now()
	n.n += int64(f.samples)
	u := &d.unit
	*u = Unit{Track: s.Track, PID: s.PID, Codec: s.Codec, PTS: t, DTS: t, Samples: f.samples, Rate: f.rate, Key: true, Data: data,
		Jump: s.announced, Guessed: guessed}
	if !n.known || f.print != n.print {
		rec, err := s.record(b)
		switch {
		case err != nil:
			u.Corrupt = true
		case !n.known || s.Codec == media.MP3 || !codec.Equal(s.Codec, rec, n.config):
			u.Config, n.config = rec, rec
			n.known = true
		}
		n.print = f.print
	}
	if u.Corrupt || f.samples == 0 || len(u.Data) == 0 {
		u.Corrupt = true
		d.count.Corrupt++
		if d.cfg.DropCorrupt {
			d.count.Torn += int64(len(b))
			return
		}
	}
	s.announced = false
	d.give(u)
}
