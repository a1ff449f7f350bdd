package mpegts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/liverec/liverec/pkg/media/codec"
)

// Scanned is what Scan found.
type Scanned struct {
	Cut   int64  // length of the file after its last whole sample: truncate it to this. 0: not even the tables are there
	Muxer *Muxer // goes on from there; nil if Cut is 0
}

// ScanConfig is what Scan needs.
type ScanConfig struct {
	Config                                      // as it was given to NewMuxer
	Sample func(s Sample, at int64, sum uint64) // each whole sample in file order, at: where its PES begins; s.Data is valid during the call; may be nil
}

// scanPackets is how many packets are read at once.
const scanPackets = 1024

// Scan reads a file that a Muxer wrote and finds the end of its last whole sample. What a crash may have left behind that
// (a torn sample, zeros, garbage) does not matter. The error is one of reading, one of NewMuxer, or codec.ErrBad if the
// file was not begun with this Config. It reads the whole file once and holds one picture.
func Scan(r io.ReaderAt, size int64, cfg ScanConfig) (*Scanned, error) {
	m, err := NewMuxer(cfg.Config)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, scanPackets*packetSize)
	if size < int64(len(m.head)) {
		return &Scanned{}, nil
	}
	head := buf[:len(m.head)]
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	if !bytes.Equal(head, m.head) {
		return nil, fmt.Errorf("%w: the tables are not those of this configuration", codec.ErrBad)
	}
	s := scanner{m: m, sample: cfg.Sample, clock: clock{origin, true}}
	s.mark(int64(len(head)))
	for off := int64(len(head)); size-off >= packetSize; {
		n := int(min(int64(len(buf)), (size-off)/packetSize*packetSize))
		k, err := r.ReadAt(buf[:n], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read packets at %d: %w", off, err)
		}
		more := k == n
		for at := 0; at+packetSize <= k; at += packetSize {
			if more = s.packet(buf[at:at+packetSize], off+int64(at)); !more {
				break
			}
		}
		if !more {
			break
		}
		off += int64(n)
	}
	return s.end(), nil
}

// scanner reads the packets of a Muxer back. They are stricter than those of a Demuxer: anything odd is the end.
type scanner struct {
	m      *Muxer
	sample func(Sample, int64, uint64)
	clock  clock

	on   *lane // whose PES is read
	from int64 // where it begins
	pes  []byte
	need int // its length, -1: it does not say
	key  bool

	cut    int64
	tables [2]uint8 // counters there
	cc     [2]uint8

	data []byte
}

// mark takes notice of a place where the file may end.
func (s *scanner) mark(at int64) {
	s.cut, s.tables = at, s.m.tables
	for i, l := range [2]*lane{s.m.video, s.m.audio} {
		if l != nil {
			s.cc[i] = l.cc
		}
	}
}

func (s *scanner) packet(b []byte, off int64) bool {
	if b[0] != syncByte {
		return false
	}
	pid, start := int(binary.BigEndian.Uint16(b[1:])&0x1FFF), b[1]&0x40 != 0
	if s.on != nil && (start || pid != s.on.pid) {
		if s.need >= 0 || !s.unit() {
			return false
		}
		s.mark(off)
	}
	var cc *uint8
	var l *lane
	switch {
	case pid == nullPID:
		s.mark(off + packetSize)
		return true
	case pid == patPID:
		cc = &s.m.tables[0]
	case pid == pmtPID:
		cc = &s.m.tables[1]
	case s.m.video != nil && pid == videoPID:
		l = s.m.video
		cc = &l.cc
	case s.m.audio != nil && pid == audioPID:
		l = s.m.audio
		cc = &l.cc
	default:
		return false
	}
	if b[3]&15 != *cc {
		return false
	}
	*cc = (*cc + 1) & 15
	if l == nil {
		s.mark(off + packetSize)
		return true
	}
	payload, key := b[4:], false
	if b[3]&0x20 != 0 {
		n := int(b[4])
		if n > packetSize-5 {
			return false
		}
		key = n > 0 && b[5]&0x40 != 0
		payload = b[5+n:]
	}
	if start {
		if len(payload) < 14 {
			return false
		}
		s.on, s.from, s.pes, s.key, s.need = l, off, s.pes[:0], key, -1
		if n := int(binary.BigEndian.Uint16(payload[pesLengthAt:])); n > 0 {
			s.need = n + pesLengthAt + 2
		}
	}
	if s.on != l || len(s.pes) > 2*MaxUnit {
		return false
	}
	s.pes = append(s.pes, payload...)
	if s.need >= 0 && len(s.pes) >= s.need {
		if len(s.pes) > s.need || !s.unit() {
			return false
		}
		s.mark(off + packetSize)
	}
	return true
}

// unit takes the whole PES.
func (s *scanner) unit() bool {
	l, b := s.on, s.pes
	s.on = nil
	if len(b) < 9 || b[0] != 0 || b[1] != 0 || b[2] != 1 || len(b) < 9+int(b[8]) {
		return false
	}
	h := b[:9+int(b[8])]
	pts, dts, ok := times(h)
	if !ok {
		return false
	}
	dts = s.clock.unwrap(dts)
	pts = nearest(pts, dts)
	es := b[len(h):]
	if l == s.m.video {
		s.data = l.restore(s.data[:0], es)
		x := Sample{Video: true, Key: s.key, Time: toTime(dts - origin), Data: s.data}
		x.Shift = toTime(pts-origin) - x.Time
		s.m.rendered.add(0, s.give(x), x.Time+l.lasts(x.Time))
		return true
	}
	if h[6]&4 == 0 {
		x := Sample{Key: true, Time: toTime(dts - origin), Data: es}
		s.m.rendered.add(1, s.give(x), x.Time+l.lasts(x.Time))
		return true
	}
	for rest := es; len(rest) > 0; {
		f, is := l.splitter.next(rest)
		if is != whole || f.samples == 0 {
			return false
		}
		rest = rest[f.size:]
	}
	samples := int64(0)
	for rest := es; len(rest) > 0; {
		f, _ := l.splitter.next(rest)
		x := Sample{Key: true, Time: toTime(dts - origin + ticks(samples, f.rate)), Data: rest[f.header:f.size]}
		samples += int64(f.samples)
		s.m.rendered.add(1, s.give(x), toTime(dts-origin+ticks(samples, f.rate)))
		rest = rest[f.size:]
	}
	return len(es) > 0
}

// give tells one sample.
func (s *scanner) give(x Sample) uint64 {
	sum := s.m.sum(x.Video, x.Data)
	if s.sample != nil {
		s.sample(x, s.from, sum)
	}
	return sum
}

// end sets the Muxer to where the file is to be cut.
func (s *scanner) end() *Scanned {
	m := s.m
	m.tables, m.written, m.flushed = s.tables, s.cut, m.rendered
	m.begun = s.cut == int64(len(m.head))
	for i, l := range [2]*lane{m.video, m.audio} {
		if l != nil {
			l.cc = s.cc[i]
		}
	}
	return &Scanned{Cut: s.cut, Muxer: m}
}
