package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	tsPacket = 188
	tsSync   = 0x47
	maxUnit  = 32 << 20 // of one PES packet
	maxPIDs  = 64
)

// tsStream is one elementary stream.
type tsStream struct {
	lane    lane
	pid     int
	unit    []byte // the PES packet that is being gathered
	at      int64  // where it begins
	open    bool
	left    []byte // sound: the begin of a frame whose rest is in the next PES packet
	leftAt  int64
	clock   time.Duration // sound: time of the next frame
	timed   bool
	sets    [][]byte // parameter sets in force
	settled bool     // the first picture was read
}

// tsFile is one pass over a transport stream.
type tsFile struct {
	c       *checker
	streams map[int]*tsStream
	order   []*tsStream
	tables  map[int]*section // PAT and PMT by PID
	pmt     int
	pcr     int
	pcrs    int
	cc      map[int]int8 // last continuity counter
	again   map[int]bool // the last packet came twice
	dts     int64        // last time stamp, unwrapped: the reference for the next
	hasDTS  bool
}

type section struct {
	b    []byte
	open bool
}

// readTS reads a transport stream with one program. The content of a picture is its NAL units behind lengths of 4 bytes,
// without delimiters, filler, end marks and the parameter sets that are in force, which every key frame repeats; of AAC
// the frame without ADTS; of Opus the packet without its control header; else the frame. Frames count in the order in
// which their PES packets begin.
func readTS(src io.ReaderAt, size int64) (Report, error) {
	f := &tsFile{
		c:       &checker{r: Report{Container: "ts", Size: size}, seen: map[Digest]int64{}, sorted: true},
		streams: map[int]*tsStream{}, tables: map[int]*section{0: {}}, pmt: -1, pcr: -1, cc: map[int]int8{}, again: map[int]bool{},
	}
	w := window{src: src}
	at := int64(0)
	for ; at+tsPacket <= size; at += tsPacket {
		p, err := w.read(at, tsPacket)
		if err != nil {
			return f.c.r, fmt.Errorf("read packet at %d: %w", at, err)
		}
		if p[0] != tsSync {
			f.c.problem(Framing, at, "no packet begins with %#02x", p[0])
			break // nothing behind it can be believed
		}
		f.c.r.Tags++
		f.packet(at, p)
	}
	if at < size && at+tsPacket > size {
		f.c.problem(Tail, at, "%d bytes of a packet", size-at)
	}
	for _, s := range f.order {
		f.end(s)
		if len(s.left) > 0 {
			f.c.problem(Tail, s.leftAt, "%d bytes of a frame of sound", len(s.left))
		}
	}
	var lanes []*lane
	for _, s := range f.order {
		lanes = append(lanes, &s.lane)
	}
	if f.pmt < 0 || len(f.order) == 0 {
		f.c.problem(Config, 0, "no program with media")
	} else if f.pcrs == 0 {
		f.c.problem(Framing, 0, "the program has no clock (PCR)")
	}
	f.c.finish(lanes)
	return f.c.r, nil
}

func (f *tsFile) packet(at int64, p []byte) {
	begin, pid := p[1]&0x40 != 0, int(p[1]&0x1f)<<8|int(p[2])
	if p[1]&0x80 != 0 {
		f.c.problem(Framing, at, "a packet that is marked as broken")
		return
	}
	if pid == 0x1fff {
		return
	}
	if p[3]&0xc0 != 0 {
		f.c.problem(Config, at, "scrambled packet")
		return
	}
	b, jump := p[4:], false
	if p[3]&0x20 != 0 {
		n := int(b[0])
		if n > len(b)-1 {
			f.c.problem(Framing, at, "adaptation field of %d bytes", n)
			return
		}
		if n > 0 {
			jump = b[1]&0x80 != 0
			if b[1]&0x10 != 0 && n >= 7 && pid == f.pcr {
				f.pcrs++
			}
		}
		b = b[1+n:]
	}
	s, t := f.streams[pid], f.tables[pid]
	if p[3]&0x10 == 0 || s == nil && t == nil {
		return
	}
	cc := int8(p[3] & 15)
	if last, ok := f.cc[pid]; ok && !jump {
		switch {
		case cc == last && !f.again[pid]:
			f.again[pid] = true
			return
		case cc != (last+1)&15:
			f.c.problem(Framing, at, "packets of stream %d are missing: number %d after %d", pid, cc, last)
		}
	}
	f.cc[pid], f.again[pid] = cc, false
	if t != nil {
		f.table(at, pid, t, begin, b)
		return
	}
	if begin {
		f.end(s)
		s.unit, s.at, s.open = append(s.unit[:0], b...), at, true
	} else if s.open {
		if len(s.unit) > maxUnit {
			f.c.problem(Frame, s.at, "a PES packet of more than %d bytes", maxUnit)
			s.open = false
			return
		}
		s.unit = append(s.unit, b...)
	} else {
		f.c.problem(Framing, at, "stream %d does not begin with the begin of a PES packet", pid)
	}
}

// table gathers a section of PAT or PMT.
func (f *tsFile) table(at int64, pid int, t *section, begin bool, b []byte) {
	if begin {
		if len(b) == 0 || int(b[0]) >= len(b) {
			f.c.problem(Framing, at, "torn table")
			return
		}
		t.b, t.open = append(t.b[:0], b[1+int(b[0]):]...), true
	} else if t.open {
		t.b = append(t.b, b...)
	}
	if !t.open || len(t.b) < 3 {
		return
	}
	n := 3 + (int(t.b[1]&15)<<8 | int(t.b[2]))
	if len(t.b) < n {
		return
	}
	t.open = false
	s := t.b[:n]
	if n < 12 || crc32MPEG(s) != 0 {
		f.c.problem(Framing, at, "a table whose checksum is wrong")
		return
	}
	body := s[8 : n-4]
	switch {
	case pid == 0 && s[0] == 0:
		for ; len(body) >= 4; body = body[4:] {
			program, pmt := binary.BigEndian.Uint16(body), int(body[2]&0x1f)<<8|int(body[3])
			if program == 0 {
				continue
			}
			if f.pmt < 0 {
				f.pmt = pmt
				f.tables[pmt] = &section{}
			} else if f.pmt != pmt {
				f.c.problem(Config, at, "a second program, or the program moves")
			}
			return
		}
	case pid == f.pmt && s[0] == 2 && len(body) >= 4:
		f.program(at, body)
	}
}

// program reads a PMT.
func (f *tsFile) program(at int64, b []byte) {
	f.pcr = int(b[0]&0x1f)<<8 | int(b[1])
	skip := 4 + (int(b[2]&15)<<8 | int(b[3]))
	if skip > len(b) {
		f.c.problem(Framing, at, "torn table of the program")
		return
	}
	for b = b[skip:]; len(b) >= 5; {
		pid, n := int(b[1]&0x1f)<<8|int(b[2]), 5+(int(b[3]&15)<<8|int(b[4]))
		if n > len(b) {
			f.c.problem(Framing, at, "torn table of the program")
			return
		}
		kind, codec := tsCodec(b[0], b[5:n])
		b = b[n:]
		if codec == "" {
			continue
		}
		if s := f.streams[pid]; s != nil {
			if s.lane.Codec != codec {
				f.c.problem(Config, at, "stream %d was %s and is %s", pid, s.lane.Codec, codec)
			}
			continue
		}
		if len(f.order) > 0 && f.hasDTS {
			f.c.problem(Config, at, "a stream that is not there from the begin")
		}
		if len(f.order) == maxPIDs {
			return
		}
		s := &tsStream{pid: pid, lane: lane{Track: Track{Kind: kind, Codec: codec}}}
		if codec == "avc" || codec == "hevc" {
			s.lane.shape.nalSize = 4
		}
		f.streams[pid] = s
		f.order = append(f.order, s)
	}
}

// tsCodec says what a stream of a program is coded with; "" for what is no media.
func tsCodec(typ byte, descriptors []byte) (Kind, string) {
	switch typ {
	case 0x1b:
		return Video, "avc"
	case 0x24:
		return Video, "hevc"
	case 0x0f:
		return Audio, "aac"
	case 0x03, 0x04:
		return Audio, "mp3"
	case 0x81:
		return Audio, "ac-3"
	case 0x87, 0x84:
		return Audio, "ec-3"
	case 0x06:
		for d := descriptors; len(d) >= 2; {
			n := 2 + int(d[1])
			if n > len(d) {
				break
			}
			switch body := d[2:n]; {
			case d[0] == 0x6a, d[0] == 5 && string(body) == "AC-3":
				return Audio, "ac-3"
			case d[0] == 0x7a, d[0] == 5 && string(body) == "EAC3":
				return Audio, "ec-3"
			case d[0] == 5 && string(body) == "Opus":
				return Audio, "opus"
			case d[0] == 5 && string(body) == "HEVC":
				return Video, "hevc"
			}
			d = d[n:]
		}
	case 0x01, 0x02, 0x10, 0x33:
		return Video, "unknown"
	case 0x11:
		return Audio, "unknown"
	}
	return "", ""
}

// crc32MPEG is 0 for a section with its checksum behind it.
func crc32MPEG(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c) << 24
		for range 8 {
			if crc&(1<<31) != 0 {
				crc = crc<<1 ^ 0x04c11db7
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// end reads the PES packet that is whole now.
func (f *tsFile) end(s *tsStream) {
	if !s.open {
		return
	}
	s.open = false
	b := s.unit
	if len(b) < 9 || b[0] != 0 || b[1] != 0 || b[2] != 1 || b[6]&0xc0 != 0x80 || len(b) < 9+int(b[8]) {
		f.c.problem(Framing, s.at, "a PES packet with a torn head of stream %d", s.pid)
		return
	}
	if n := int(binary.BigEndian.Uint16(b[4:])); n > 0 {
		if len(b) < 6+n {
			f.c.problem(Tail, s.at, "%d of %d bytes of a PES packet", len(b), 6+n)
			return
		}
		if b = b[:6+n]; n < 3 || n < 3+int(b[8]) {
			f.c.problem(Framing, s.at, "a PES packet of %d bytes", n)
			return
		}
	}
	head, body := b[9:9+int(b[8])], b[9+int(b[8]):]
	var pts, dts int64
	stamp := func(b []byte) int64 {
		return int64(b[0]>>1&7)<<30 | int64(b[1])<<22 | int64(b[2]>>1)<<15 | int64(b[3])<<7 | int64(b[4]>>1)
	}
	timed := true
	switch flags := b[7] >> 6; {
	case flags == 2 && len(head) >= 5:
		pts = stamp(head)
		dts = pts
	case flags == 3 && len(head) >= 10:
		pts, dts = stamp(head), stamp(head[5:])
	default:
		timed = false
	}
	if timed {
		const turn = 1 << 33
		near := func(v, to int64) int64 { return to + (v-to+turn/2)&(turn-1) - turn/2 }
		if f.hasDTS {
			dts = near(dts, f.dts)
		}
		f.dts, f.hasDTS = dts, true
		pts = near(pts, dts)
	}
	if s.lane.Kind == Video {
		if !timed {
			f.c.problem(Order, s.at, "a picture without a time")
			return
		}
		f.picture(s, body, units(dts, 90000), units(pts, 90000))
		return
	}
	f.sound(s, body, units(pts, 90000), timed)
}

// picture takes one access unit of Annex B (or of an unknown codec).
func (f *tsFile) picture(s *tsStream, body []byte, dts, pts time.Duration) {
	c, l := f.c, &s.lane
	c.time(l, s.at, dts, pts, 0)
	if l.Codec != "avc" && l.Codec != "hevc" {
		c.picture(l, s.at, body, false, false)
		return
	}
	var key bool
	var units, sets [][]byte
	kindOf := func(nal []byte) int {
		if l.Codec == "hevc" {
			return int(nal[0] >> 1 & 0x3f)
		}
		return int(nal[0] & 31)
	}
	ok := eachAnnexB(body, func(nal []byte) {
		units = append(units, nal)
		switch kind := kindOf(nal); {
		case l.Codec == "avc" && (kind == 7 || kind == 8 || kind == 13), l.Codec == "hevc" && kind >= 32 && kind <= 34:
			sets = append(sets, nal)
		case l.Codec == "avc" && kind == 5, l.Codec == "hevc" && kind >= 16 && kind <= 21:
			key = true
		}
	})
	if !ok {
		c.problem(Frame, s.at, "a picture that does not begin with a start code")
	}
	if !s.settled {
		s.settled = true
		f.settle(s, sets, kindOf)
	} else if key {
		for _, n := range sets {
			if !slices.ContainsFunc(s.sets, func(o []byte) bool { return bytes.Equal(o, n) }) {
				c.problem(Config, s.at, "the video configuration changes inside the file")
				s.sets = append(s.sets[:min(len(s.sets), 255)], bytes.Clone(n))
			}
		}
	}
	out := make([]byte, 0, len(body)+64)
	for _, n := range units {
		switch kind := kindOf(n); {
		case l.Codec == "avc" && kind >= 9 && kind <= 12, l.Codec == "hevc" && kind >= 35 && kind <= 38:
			continue
		case slices.ContainsFunc(s.sets, func(o []byte) bool { return bytes.Equal(o, n) }):
			continue
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(n))), n...)
	}
	c.picture(l, s.at, out, false, false)
}

// settle takes the parameter sets of the first picture.
func (f *tsFile) settle(s *tsStream, sets [][]byte, kindOf func([]byte) int) {
	need := []int{7, 8}
	if s.lane.Codec == "hevc" {
		need = []int{32, 33, 34}
	}
	for _, n := range sets {
		s.sets = append(s.sets, bytes.Clone(n))
		kind := kindOf(n)
		need = slices.DeleteFunc(need, func(k int) bool { return k == kind })
		var err error
		switch {
		case s.lane.Width > 0:
		case s.lane.Codec == "avc" && kind == 7:
			s.lane.Width, s.lane.Height, err = readSPS(n)
		case s.lane.Codec == "hevc" && kind == 33:
			s.lane.Width, s.lane.Height, err = readHEVCSPS(n)
		}
		if err != nil {
			f.c.problem(Config, s.at, "%s configuration: %v", s.lane.Codec, err)
		}
	}
	if len(need) > 0 {
		f.c.problem(Config, s.at, "parameter sets of types %v are not in the first picture", need)
	}
}

// eachAnnexB calls f for the NAL units behind start codes. ok is false if something else is in front of the first.
func eachAnnexB(b []byte, f func(nal []byte)) (ok bool) {
	code := []byte{0, 0, 1}
	at := bytes.Index(b, code)
	if at < 0 {
		return len(b) == 0
	}
	ok = len(bytes.TrimLeft(b[:at], "\x00")) == 0
	for b = b[at+3:]; ; {
		next := bytes.Index(b, code)
		nal := b
		if next >= 0 {
			nal = b[:next]
		}
		if nal = bytes.TrimRight(nal, "\x00"); len(nal) > 0 {
			f(nal)
		}
		if next < 0 {
			return ok
		}
		b = b[next+3:]
	}
}

// tsFrame is what a frame of sound says of itself in front.
type tsFrame struct {
	size, skip, tail int // skip: header that is no part of the frame
	lasts            time.Duration
	config           []byte // what must be the same in all of them
}

// sound cuts a PES packet into frames. The time in it is that of the first one that begins in it.
func (f *tsFile) sound(s *tsStream, body []byte, pts time.Duration, timed bool) {
	c, l := f.c, &s.lane
	at := s.at
	held := len(s.left)
	if held > 0 {
		body, at = append(s.left, body...), s.leftAt
		s.left = nil
	}
	if held == 0 && timed {
		s.clock, s.timed = pts, true
	}
	for whole := body; len(body) > 0; {
		if gone := len(whole) - len(body); held > 0 && gone >= held {
			if at = s.at; timed {
				s.clock, s.timed = pts, true
			}
			held = 0
		}
		x, err := readTSFrame(l.Codec, body)
		if err != nil {
			c.problem(Frame, at, "%v", err)
			return
		}
		if x.size == 0 || x.size > len(body) { // the rest comes next
			if len(body) > maxUnit {
				c.problem(Frame, at, "a frame of sound of %d bytes", len(body))
				return
			}
			s.left, s.leftAt = bytes.Clone(body), at
			return
		}
		if l.Config == nil {
			l.Config = bytes.Clone(x.config)
		} else if !bytes.Equal(l.Config, x.config) {
			c.problem(Config, at, "the audio configuration changes inside the file")
			l.Config = bytes.Clone(x.config)
		}
		if !s.timed {
			c.problem(Order, at, "a frame of sound without a time")
		}
		c.time(l, at, s.clock, s.clock, x.lasts)
		s.clock += x.lasts
		c.sound(l, at, body[x.skip:x.size-x.tail])
		body = body[x.size:]
	}
}

// readTSFrame reads the header of the frame at the begin of b; size 0 means that more bytes are needed.
func readTSFrame(codec string, b []byte) (x tsFrame, err error) {
	per := func(samples, rate int) time.Duration {
		return time.Duration(samples) * time.Second / time.Duration(rate)
	}
	switch codec {
	case "aac":
		if len(b) < 7 {
			return x, nil
		}
		if b[0] != 0xff || b[1]&0xf6 != 0xf0 {
			return x, fmt.Errorf("no ADTS frame begins with % x", b[:2])
		}
		rate := int(b[2] >> 2 & 15)
		x.size, x.skip = int(b[3]&3)<<11|int(b[4])<<3|int(b[5]>>5), 9-2*int(b[1]&1)
		if rate >= len(aacRates) || x.size <= x.skip || b[6]&3 != 0 {
			return x, fmt.Errorf("ADTS frame of %d bytes with rate %d", x.size, rate)
		}
		x.lasts, x.config = per(1024, aacRates[rate]), []byte{b[2] & 0xfd, b[3] & 0xc0}
	case "mp3":
		if len(b) < 4 {
			return x, nil
		}
		version, layer, rate, fs := b[1]>>3&3, b[1]>>1&3, int(b[2]>>4), int(b[2]>>2&3)
		if b[0] != 0xff || b[1]&0xe0 != 0xe0 || version == 1 || layer == 0 || rate == 0 || rate == 15 || fs == 3 {
			return x, fmt.Errorf("no MPEG audio frame begins with % x", b[:4])
		}
		hz := [...]int{44100, 48000, 32000}[fs]
		table := [...]int{32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320} // layer 3 of MPEG-1
		low := version != 3
		switch {
		case low && layer == 3:
			table = [...]int{32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256}
		case low:
			table = [...]int{8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}
		case layer == 3:
			table = [...]int{32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448}
		case layer == 2:
			table = [...]int{32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384}
		}
		if low {
			hz /= 2
		}
		if version == 0 {
			hz /= 2
		}
		padding, samples := int(b[2]>>1&1), 1152
		switch {
		case layer == 3:
			samples = 384
			x.size = (12*table[rate-1]*1000/hz + padding) * 4
		case layer == 1 && low:
			samples = 576
			x.size = 72*table[rate-1]*1000/hz + padding
		default:
			x.size = 144*table[rate-1]*1000/hz + padding
		}
		x.lasts, x.config = per(samples, hz), []byte{b[1] & 0xfe, b[2] & 0x0c}
	case "ac-3", "ec-3":
		return readAC3Frame(b)
	case "opus":
		if len(b) < 3 {
			return x, nil
		}
		if b[0] != 0x7f || b[1]&0xe0 != 0xe0 {
			return x, fmt.Errorf("no Opus packet begins with % x", b[:2])
		}
		n, at := 0, 2
		for at < len(b) {
			c := b[at]
			at++
			n += int(c)
			if c != 255 {
				break
			}
		}
		if b[1]&0x10 != 0 {
			at += 2
		}
		if b[1]&8 != 0 {
			at += 2
		}
		if b[1]&4 != 0 {
			if at >= len(b) {
				return x, nil
			}
			at += 1 + int(b[at])
		}
		x.size, x.skip, x.lasts, x.config = at+n, at, 20*time.Millisecond, []byte{}
		if at < len(b) && n > 0 {
			x.lasts = opusLasts(b[at:min(at+n, len(b))])
		}
	default:
		x.size, x.config = len(b), []byte{}
	}
	return x, nil
}

// readAC3Frame reads one access unit of AC-3 or E-AC-3: a frame, and the dependent ones behind it.
func readAC3Frame(b []byte) (x tsFrame, err error) {
	for len(b)-x.size >= 6 {
		h := b[x.size:]
		dependent := h[5]>>3 > 10 && h[2]>>6 == 1
		if x.size > 0 && !dependent {
			return x, nil
		}
		if h[0] != 0x0b || h[1] != 0x77 {
			if x.size > 0 {
				return x, nil
			}
			return x, fmt.Errorf("no AC-3 frame begins with % x", h[:2])
		}
		rates := [...]int{48000, 44100, 32000}
		if h[5]>>3 > 10 { // E-AC-3
			fs, blocks := int(h[4]>>6), 6
			hz := 0
			if fs == 3 {
				if h[4]>>4&3 == 3 {
					return x, fmt.Errorf("E-AC-3 with a reserved rate")
				}
				hz = rates[h[4]>>4&3] / 2
			} else {
				hz, blocks = rates[fs], [...]int{1, 2, 3, 6}[h[4]>>4&3]
			}
			if !dependent {
				x.lasts, x.config = time.Duration(256*blocks)*time.Second/time.Duration(hz), []byte{h[4] & 0xcf, h[5] >> 3}
			}
			x.size += 2 * (int(h[2]&7)<<8 | int(h[3]) + 1)
		} else {
			fs, code := int(h[4]>>6), int(h[4]&63)
			if fs == 3 || code > 37 {
				return x, fmt.Errorf("AC-3 frame with rate %d and size %d", fs, code)
			}
			kbps := [...]int{32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640}[code/2]
			switch fs {
			case 0:
				x.size = 4 * kbps
			case 1:
				x.size = 2 * (kbps*96000/44100 + code&1)
			case 2:
				x.size = 6 * kbps
			}
			x.lasts, x.config = 1536*time.Second/time.Duration(rates[fs]), []byte{h[4] & 0xc0, h[5] >> 3}
			return x, nil
		}
		if x.size >= len(b) {
			return x, nil
		}
	}
	return x, nil
}

// opusLasts reads the length of an Opus packet (RFC 6716, 3.1).
func opusLasts(b []byte) time.Duration {
	config := b[0] >> 3
	var frame time.Duration
	switch {
	case config < 12:
		frame = [...]time.Duration{10, 20, 40, 60}[config&3] * time.Millisecond
	case config < 16:
		frame = [...]time.Duration{10, 20}[config&1] * time.Millisecond
	default:
		frame = 2500 * time.Microsecond << (config & 3)
	}
	n := 1
	switch b[0] & 3 {
	case 1, 2:
		n = 2
	case 3:
		if len(b) > 1 {
			n = int(b[1] & 63)
		}
	}
	return frame * time.Duration(n)
}
