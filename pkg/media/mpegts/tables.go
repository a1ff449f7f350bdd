package mpegts

import (
	"encoding/binary"

	"github.com/liverec/liverec/pkg/media"
)

const (
	packetSize = 188
	syncByte   = 0x47
	patPID     = 0
	nullPID    = 0x1FFF
	numPIDs    = 1 << 13

	maxSection  = 1024 // of PAT and PMT
	maxPrograms = 64
	maxStreams  = 64
)

var crcTable = func() (t [256]uint32) {
	for i := range t {
		c := uint32(i) << 24
		for range 8 {
			if c&0x80000000 != 0 {
				c = c<<1 ^ 0x04C11DB7
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()

// crc is that of sections; over a section with its CRC it is 0.
func crc(b []byte) uint32 {
	c := uint32(0xFFFFFFFF)
	for _, x := range b {
		c = c<<8 ^ crcTable[byte(c>>24)^x]
	}
	return c
}

// sections puts the sections of one PID together.
type sections struct {
	cc  int // -1: none yet
	buf []byte
	on  bool // buf is a section that has begun
}

// payload takes what one packet has of them and gives out each whole section.
func (s *sections) payload(b []byte, start bool, bad *int64, take func([]byte)) {
	if start {
		if len(b) == 0 || int(b[0]) > len(b)-1 {
			s.on = false
			return
		}
		n := int(b[0])
		if s.on {
			s.add(b[1:1+n], bad, take)
		}
		b = b[1+n:]
		s.on, s.buf = true, s.buf[:0]
	}
	if s.on {
		s.add(b, bad, take)
	}
}

func (s *sections) add(b []byte, bad *int64, take func([]byte)) {
	s.buf = append(s.buf, b...)
	for s.on {
		if len(s.buf) > 0 && s.buf[0] == 0xFF { // stuffing up to the end of the packet
			s.on = false
			return
		}
		if len(s.buf) < 3 {
			return
		}
		size := 3 + int(binary.BigEndian.Uint16(s.buf[1:])&0xFFF)
		if size > maxSection {
			*bad++
			s.on = false
			return
		}
		if len(s.buf) < size {
			return
		}
		if sec := s.buf[:size]; size < 12 || sec[1]&0x80 == 0 || crc(sec) != 0 {
			*bad++
		} else {
			take(sec)
		}
		s.buf = append(s.buf[:0], s.buf[size:]...)
	}
}

// tableBody is the part of a section between its header and its CRC, nil if it is not that table or not yet valid.
func tableBody(sec []byte, table byte) []byte {
	if sec[0] != table || sec[5]&1 == 0 {
		return nil
	}
	return sec[8 : len(sec)-4]
}

// program is one entry of a PAT.
type program struct {
	number, pid int
	sections    sections
	last        []byte // the newest PMT section
}

// elementary is one entry of a PMT.
type elementary struct {
	Stream
	opus byte // channel configuration code
}

// parsePMT reads the body of a PMT section.
func parsePMT(b []byte) []elementary {
	if len(b) < 4 {
		return nil
	}
	skip := 4 + int(binary.BigEndian.Uint16(b[2:])&0xFFF)
	if skip > len(b) {
		return nil
	}
	var out []elementary
	for b = b[skip:]; len(b) >= 5 && len(out) < maxStreams; {
		e := elementary{Stream: Stream{Type: b[0], PID: int(binary.BigEndian.Uint16(b[1:]) & 0x1FFF), Track: -1}}
		n := min(int(binary.BigEndian.Uint16(b[3:])&0xFFF), len(b)-5)
		e.classify(b[5 : 5+n])
		out = append(out, e)
		b = b[5+n:]
	}
	return out
}

// classify tells what a stream is from its type and descriptors.
func (e *elementary) classify(descriptors []byte) {
	refuse := func(why string) { e.Codec, e.Why = media.OtherCodec, why }
	var format string // of the registration descriptor
	var ac3, eac3, opus bool
	for d := descriptors; len(d) >= 2; {
		n := min(int(d[1]), len(d)-2)
		body := d[2 : 2+n]
		switch tag := d[0]; {
		case tag == 0x05 && n >= 4:
			format = string(body[:4])
		case tag == 0x6A:
			ac3 = true
		case tag == 0x7A:
			eac3 = true
		case tag == 0x7F && n >= 2 && body[0] == 0x80:
			opus, e.opus = true, body[1]
		}
		d = d[2+n:]
	}
	switch e.Type {
	case 0x01, 0x02:
		refuse("MPEG-2 video")
	case 0x03, 0x04:
		e.Codec = media.MP3
	case 0x0F:
		e.Codec = media.AAC
	case 0x10:
		refuse("MPEG-4 part 2 video")
	case 0x11:
		e.Codec = media.AAC
	case 0x1B:
		e.Codec = media.AVC
	case 0x1C:
		refuse("AAC without ADTS")
	case 0x24:
		e.Codec = media.HEVC
	case 0x33:
		refuse("VVC")
	case 0x42, 0xD2, 0xD4:
		refuse("AVS video")
	case 0x80, 0x83:
		refuse("LPCM or TrueHD")
	case 0x81:
		e.Codec = media.AC3
	case 0x82, 0x85, 0x8A:
		refuse("DTS")
	case 0x84, 0x87, 0xA1:
		e.Codec = media.EAC3
	case 0xDB:
		refuse("SAMPLE-AES H.264")
	case 0xCF:
		refuse("SAMPLE-AES AAC")
	case 0xC1:
		refuse("SAMPLE-AES AC-3")
	case 0xC2:
		refuse("SAMPLE-AES E-AC-3")
	case 0xEA:
		refuse("VC-1")
	case 0x06:
		switch {
		case opus || format == "Opus":
			if e.Codec = media.Opus; !opus {
				e.opus = 2
			}
		case ac3 || format == "AC-3":
			e.Codec = media.AC3
		case eac3 || format == "EAC3":
			e.Codec = media.EAC3
		case format == "HEVC":
			e.Codec = media.HEVC
		case format == "AV01":
			refuse("AV1 in a transport stream")
		case format == "VP09":
			refuse("VP9 in a transport stream")
		}
	}
}

// parsePAT reads the body of a PAT section into programs.
func parsePAT(b []byte, add func(number, pid int)) {
	for ; len(b) >= 4; b = b[4:] {
		if number := int(binary.BigEndian.Uint16(b)); number != 0 {
			add(number, int(binary.BigEndian.Uint16(b[2:])&0x1FFF))
		}
	}
}
