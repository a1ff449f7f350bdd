package mpegts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// Track is what a muxer must know of one stream.
type Track struct {
	Codec  media.Codec
	Config []byte // record as media.Packet.Payload of a config packet; nil for MP3
}

// Config says what a file holds. nil: no such track.
type Config struct{ Video, Audio *Track }

// Sample is one access unit or frame of sound, as media.Packet.Payload has it.
type Sample struct {
	Video, Key bool
	Time       time.Duration // DTS from the begin of the part
	Shift      time.Duration // PTS - DTS
	Data       []byte
}

// ErrCodec says that a transport stream cannot carry a codec, or that it is not written here.
var ErrCodec = errors.New("not for a transport stream")

// The layout of what is written. Both tables have one packet.
const (
	pmtPID   = 0x1000
	videoPID = 0x100
	audioPID = 0x101

	// origin is the time stamp of time 0, in 90 kHz; early is how much of that the program clock is behind a DTS.
	origin = 126000
	early  = 63000

	// A PES of sound gathers frames that follow each other exactly, up to so many bytes and so much time.
	packBytes = 2800
	packTicks = 90000 / 5
)

// Delimiters, each behind the start code of 4 bytes by which what a Muxer adds to a picture is known. What the picture
// has itself is behind start codes of 3 bytes.
var (
	added   = []byte{0, 0, 0, 1}
	own     = []byte{0, 0, 1}
	avcMark = []byte{0, 0, 0, 1, avcDelimiter, 0xF0}
	hevMark = []byte{0, 0, 0, 1, hevcDelimiter << 1, 1, 0x50}
)

const (
	avcDelimiter  = 9
	hevcDelimiter = 35
)

// Muxer writes one .ts file. Nothing that was written is ever changed.
//
// Each picture has a PES of its own; it begins with a delimiter, and at a key frame the tables stand before it and the
// parameter sets of the record in it. A PES of sound holds one frame, or several whose times follow each other exactly,
// so that every time is kept to the tick. The packets of a PES are not interleaved with others. A file that is cut
// anywhere plays up to there. Times are 33 bits: they come round after 26.5 h, as everybody's do.
//
// It holds what was added since the last Flush.
type Muxer struct {
	video, audio *lane
	head         []byte
	tables       [2]uint8 // counters of PAT and PMT
	begun        bool     // the tables are the newest thing in the file
	tablesAt     int64    // without video: when they were written last

	buf   []byte // packets that wait for Flush
	loose bool   // the last PES in it does not say how long it is
	pack  pack

	digest               *xxhash.Digest
	typ                  [1]byte
	pes, packed, scratch []byte

	written           int64
	rendered, flushed summary // what is in buf and before, what was flushed
	from, to          time.Duration
	waits             bool // something was added since the last Flush, of from to to
}

// pack is the PES of sound that is not yet closed.
type pack struct {
	data    []byte
	sums    []uint64
	at      int64 // DTS of its first frame
	rate    int
	samples int64
	opaque  bool // data is one sample, which is not one frame
	end     time.Duration
}

// summary is what a file says of its samples.
type summary struct {
	frames  [2]int64 // video, sound
	content uint64
	end     time.Duration
}

func (s *summary) add(kind int, sum uint64, end time.Duration) {
	s.frames[kind]++
	s.content = media.Chain(s.content, uint64(s.frames[0]+s.frames[1]), sum)
	s.end = max(s.end, end)
}

// lane is one track of a Muxer.
type lane struct {
	Track
	pid   int
	typ   byte // stream_type
	id    byte // stream_id
	descr []byte
	cc    uint8

	nal  int    // bytes of the lengths
	sets []byte // parameter sets behind added start codes
	mark []byte // delimiter, likewise
	last time.Duration
	step time.Duration
	any  bool

	adts     codec.ADTS
	splitter *stream
}

// NewMuxer refuses by name what it cannot carry: the error wraps ErrCodec, or codec.ErrBad for a record that is unusable.
func NewMuxer(cfg Config) (*Muxer, error) {
	m := &Muxer{digest: xxhash.New()}
	var err error
	if cfg.Video != nil {
		if m.video, err = newVideoLane(*cfg.Video); err != nil {
			return nil, err
		}
	}
	if cfg.Audio != nil {
		if m.audio, err = newAudioLane(*cfg.Audio); err != nil {
			return nil, err
		}
	}
	if m.video == nil && m.audio == nil {
		return nil, fmt.Errorf("%w: no track", ErrCodec)
	}
	m.head = m.appendTables(nil)
	m.written, m.begun = int64(len(m.head)), true
	return m, nil
}

func newVideoLane(t Track) (*lane, error) {
	l := &lane{Track: t, pid: videoPID, id: 0xE0}
	switch t.Codec {
	case media.AVC:
		l.typ, l.mark = 0x1B, avcMark
	case media.HEVC:
		l.typ, l.mark, l.descr = 0x24, hevMark, registration("HEVC")
	default:
		return nil, fmt.Errorf("%w: %v", ErrCodec, t.Codec)
	}
	info, err := codec.Parse(t.Codec, t.Config)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of %v: %w", t.Codec, err)
	}
	p, err := codec.ReadSets(t.Codec, t.Config)
	if err != nil {
		return nil, fmt.Errorf("read the parameter sets of %v: %w", t.Codec, err)
	}
	l.nal, l.step = info.NALLength, info.FrameDuration()
	for _, sets := range [][][]byte{p.VPS, p.SPS, p.PPS} {
		for _, s := range sets {
			l.sets = append(append(l.sets, added...), s...)
		}
	}
	return l, nil
}

func newAudioLane(t Track) (*lane, error) {
	l := &lane{Track: t, pid: audioPID, id: 0xBD}
	opus := byte(0)
	switch t.Codec {
	case media.AAC:
		l.typ, l.id = 0x0F, 0xC0
		adts, err := codec.NewADTS(t.Config)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCodec, err)
		}
		l.adts = adts
	case media.MP3:
		l.typ, l.id = 0x03, 0xC0
	case media.AC3:
		l.typ, l.descr = 0x81, registration("AC-3")
	case media.EAC3:
		l.typ, l.descr = 0x87, registration("EAC3")
	case media.Opus:
		l.typ = 0x06
		var ok bool
		if opus, ok = codec.OpusTS(t.Config); !ok {
			return nil, fmt.Errorf("%w: %v with this mapping of its channels", ErrCodec, t.Codec)
		}
		l.descr = append(registration("Opus"), 0x7F, 2, 0x80, opus)
	default:
		return nil, fmt.Errorf("%w: %v", ErrCodec, t.Codec)
	}
	l.splitter = newStream(elementary{Stream: Stream{Codec: t.Codec}, opus: opus})
	return l, nil
}

func registration(format string) []byte { return append([]byte{0x05, 4}, format...) }

// appendTables appends PAT and PMT and counts them.
func (m *Muxer) appendTables(dst []byte) []byte {
	section := func(pid int, cc *uint8, sec []byte) {
		sec = binary.BigEndian.AppendUint32(sec, crc(sec))
		dst = append(dst, syncByte, 0x40|byte(pid>>8), byte(pid), 0x10|*cc, 0)
		dst = append(dst, sec...)
		for range packetSize - 5 - len(sec) {
			dst = append(dst, 0xFF)
		}
		*cc = (*cc + 1) & 15
	}
	section(patPID, &m.tables[0], []byte{0, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xE0 | pmtPID>>8, pmtPID & 0xFF})
	clock := m.video
	if clock == nil {
		clock = m.audio
	}
	pmt := []byte{2, 0xB0, 0, 0, 1, 0xC1, 0, 0, 0xE0 | byte(clock.pid>>8), byte(clock.pid), 0xF0, 0}
	for _, l := range []*lane{m.video, m.audio} {
		if l != nil {
			pmt = append(pmt, l.typ, 0xE0|byte(l.pid>>8), byte(l.pid), 0xF0, byte(len(l.descr)))
			pmt = append(pmt, l.descr...)
		}
	}
	pmt[2] = byte(len(pmt) + 4 - 3)
	section(pmtPID, &m.tables[1], pmt)
	return dst
}

// Head is what a new file begins with: PAT and PMT. The same ones every time.
func (m *Muxer) Head() []byte { return bytes.Clone(m.head) }

// toTicks is the nearest tick.
func toTicks(d time.Duration) int64 {
	s, r := int64(d/time.Second), int64(d%time.Second)
	r = r * 90000
	if r >= 0 {
		r += int64(time.Second) / 2
	} else {
		r -= int64(time.Second) / 2
	}
	return s*90000 + r/int64(time.Second)
}

// toTime is the nearest nanosecond.
func toTime(t int64) time.Duration {
	s, r := t/90000, t%90000
	r *= int64(time.Second)
	if r >= 0 {
		r += 45000
	} else {
		r -= 45000
	}
	return time.Duration(s)*time.Second + time.Duration(r/90000)
}

// Add takes a copy of s.Data. The error wraps codec.ErrBad: the sample cannot be written, nothing was taken; or ErrCodec:
// there is no such track.
func (m *Muxer) Add(s Sample) error {
	if s.Video {
		return m.addVideo(s)
	}
	return m.addAudio(s)
}

func (m *Muxer) addVideo(s Sample) error {
	l := m.video
	if l == nil {
		return fmt.Errorf("%w: a picture, and no track for it", ErrCodec)
	}
	if len(s.Data) > MaxUnit {
		return fmt.Errorf("%w: a picture of %d bytes", codec.ErrBad, len(s.Data))
	}
	dts := toTicks(s.Time)
	m.pes = appendPESHead(m.pes[:0], l.id, toTicks(s.Time+s.Shift), dts, true)
	head := len(m.pes)
	var clean bool
	var err error
	if m.pes, clean, err = l.annexB(m.pes, s.Data, s.Key); err != nil {
		return err
	}
	data := s.Data
	if !clean { // what is read back is not what was given
		m.scratch = l.restore(m.scratch[:0], m.pes[head:])
		data = m.scratch
	}
	if len(data) == 0 {
		return fmt.Errorf("%w: a picture of %d bytes without a NAL unit", codec.ErrBad, len(s.Data))
	}
	if s.Key || dts-m.pack.at >= packTicks {
		m.closePack()
	}
	if s.Key && !m.begun {
		m.buf = m.appendTables(m.buf)
	}
	m.loose = !setPESLength(m.pes)
	m.buf = appendPackets(m.buf, m.pes, l.pid, &l.cc, origin+dts-early, s.Key)
	m.begun = false
	at := toTime(dts) // as it is read back
	end := at + l.lasts(at)
	m.rendered.add(0, m.sum(true, data), end)
	m.wait(at, end)
	return nil
}

// lasts is how long a picture at t lasts, as far as can be told from the one before.
func (l *lane) lasts(t time.Duration) time.Duration {
	if d := t - l.last; l.any && d > 0 && d < time.Second {
		l.step = d
	}
	l.last, l.any = t, true
	return l.step
}

func (m *Muxer) wait(from, to time.Duration) {
	if !m.waits {
		m.waits, m.from, m.to = true, from, to
	}
	m.from, m.to = min(m.from, from), max(m.to, to)
}

// sum is the digest of a sample.
func (m *Muxer) sum(video bool, data []byte) uint64 {
	if m.typ[0] = 8; video {
		m.typ[0] = 9
	}
	m.digest.Reset()
	m.digest.Write(m.typ[:])
	m.digest.Write(data)
	return m.digest.Sum64()
}

// annexB appends a picture. clean is false if restore gives something else than data back: NAL units that are empty, end
// in zeros or have a start code inside, as no encoder makes them.
func (l *lane) annexB(dst, data []byte, key bool) (_ []byte, clean bool, err error) {
	clean = true
	first := true
	for at := 0; at < len(data); {
		if len(data)-at < l.nal {
			return dst, false, l.torn(data)
		}
		n := 0
		for _, c := range data[at : at+l.nal] {
			n = n<<8 | int(c)
		}
		if at += l.nal; n > len(data)-at {
			return dst, false, l.torn(data)
		}
		nal := data[at : at+n]
		at += n
		for len(nal) > 0 && nal[len(nal)-1] == 0 {
			nal, clean = nal[:len(nal)-1], false
		}
		if len(nal) == 0 {
			clean = false
			continue
		}
		clean = clean && !bytes.Contains(nal, own)
		delimits := nal[0] == l.mark[len(added)]
		if first && !delimits {
			dst = append(dst, l.mark...)
		}
		if first && key && !delimits {
			dst = append(dst, l.sets...)
		}
		dst = append(append(dst, own...), nal...)
		if first && key && delimits {
			dst = append(dst, l.sets...)
		}
		first = false
	}
	return dst, clean, nil
}

func (l *lane) torn(data []byte) error {
	return fmt.Errorf("%w: a picture of %d bytes whose lengths do not add up", codec.ErrBad, len(data))
}

// restore appends the sample that annexB has written: what it has added is left out.
func (l *lane) restore(dst, es []byte) []byte {
	for at := startCode(es, 0); at < len(es); {
		from := at + len(own)
		next := startCode(es, from)
		nal := es[from:next]
		for len(nal) > 0 && nal[len(nal)-1] == 0 {
			nal = nal[:len(nal)-1]
		}
		if ours := at > 0 && es[at-1] == 0; !ours && len(nal) > 0 {
			for i := l.nal - 1; i >= 0; i-- {
				dst = append(dst, byte(len(nal)>>(8*i)))
			}
			dst = append(dst, nal...)
		}
		at = next
	}
	return dst
}

func startCode(b []byte, from int) int {
	if i := bytes.Index(b[from:], own); i >= 0 {
		return from + i
	}
	return len(b)
}

func (m *Muxer) addAudio(s Sample) error {
	l := m.audio
	if l == nil {
		return fmt.Errorf("%w: sound, and no track for it", ErrCodec)
	}
	if len(s.Data) == 0 {
		return fmt.Errorf("%w: a frame of %v without data", codec.ErrBad, l.Codec)
	}
	b, err := l.wrap(m.scratch[:0], s.Data)
	m.scratch = b
	if err != nil {
		return err
	}
	f, is := l.splitter.next(b)
	opaque := is != whole || f.size != len(b) || f.samples == 0
	if len(b) > 0xFFFF-20 {
		return fmt.Errorf("%w: a frame of %v with %d bytes", codec.ErrBad, l.Codec, len(s.Data))
	}
	p, at := &m.pack, toTicks(s.Time+s.Shift)
	if len(p.data) > 0 && (opaque || p.opaque || p.rate != f.rate || at != p.at+ticks(p.samples, p.rate) || at-p.at >= packTicks ||
		len(p.data)+len(b) > packBytes) {
		m.closePack()
	}
	if len(p.data) == 0 {
		p.at, p.rate, p.samples, p.opaque = at, f.rate, 0, opaque
	}
	if opaque {
		p.end = toTime(at) + l.lasts(toTime(at))
	} else {
		p.samples += int64(f.samples)
		p.end = toTime(p.at + ticks(p.samples, p.rate))
	}
	p.data = append(p.data, b...)
	p.sums = append(p.sums, m.sum(false, s.Data))
	m.wait(toTime(at), p.end)
	return nil
}

// wrap appends a frame with what the stream has in front of it.
func (l *lane) wrap(dst, data []byte) ([]byte, error) {
	switch l.Codec {
	case media.AAC:
		var err error
		if dst, err = l.adts.Append(dst, len(data)); err != nil {
			return dst, err
		}
	case media.Opus:
		dst = append(dst, 0x7F, 0xE0)
		n := len(data)
		for ; n >= 0xFF; n -= 0xFF {
			dst = append(dst, 0xFF)
		}
		dst = append(dst, byte(n))
	}
	return append(dst, data...), nil
}

// closePack renders the PES of sound.
func (m *Muxer) closePack() {
	p, l := &m.pack, m.audio
	if len(p.data) == 0 {
		return
	}
	clock := int64(-1)
	if m.video == nil {
		if p.at-m.tablesAt >= 2*90000 && !m.begun {
			m.buf = m.appendTables(m.buf)
			m.tablesAt = p.at
		}
		clock = origin + p.at - early
	}
	m.packed = appendPESHead(m.packed[:0], l.id, p.at, p.at, !p.opaque)
	m.packed = append(m.packed, p.data...)
	setPESLength(m.packed) // it always fits
	m.buf = appendPackets(m.buf, m.packed, l.pid, &l.cc, clock, false)
	m.begun, m.loose = false, false
	for _, s := range p.sums {
		m.rendered.add(1, s, p.end)
	}
	p.data, p.sums = p.data[:0], p.sums[:0]
}

const pesLengthAt = 4

// appendPESHead begins a PES; its length is 0. Times count from the begin of the part. aligned says that it begins with
// an access unit.
func appendPESHead(dst []byte, id byte, pts, dts int64, aligned bool) []byte {
	flags := byte(0x80)
	if aligned {
		flags |= 4
	}
	stamp := func(mark byte, t int64) {
		t = (t + origin) & (wrap - 1)
		dst = append(dst, mark<<4|byte(t>>29)&0xE|1, byte(t>>22), byte(t>>14)|1, byte(t>>7), byte(t<<1)|1)
	}
	dst = append(dst, 0, 0, 1, id, 0, 0, flags)
	if pts == dts {
		dst = append(dst, 0x80, 5)
		stamp(2, pts)
		return dst
	}
	dst = append(dst, 0xC0, 10)
	stamp(3, pts)
	stamp(1, dts)
	return dst
}

// setPESLength reports whether the PES is short enough to say its length.
func setPESLength(pes []byte) bool {
	n := len(pes) - pesLengthAt - 2
	if n > 0xFFFF {
		return false
	}
	binary.BigEndian.PutUint16(pes[pesLengthAt:], uint16(n))
	return true
}

// appendPackets cuts a PES into packets. clock is the program clock for the first one, below 0 for none; key sets its
// random access indicator.
func appendPackets(dst, pes []byte, pid int, cc *uint8, clock int64, key bool) []byte {
	for start := byte(0x40); len(pes) > 0; start = 0 {
		field := 0 // bytes of the adaptation field
		if start != 0 {
			if key {
				field = 2
			}
			if clock >= 0 {
				field = 8
			}
		}
		n := min(packetSize-4-field, len(pes))
		control := byte(0x10)
		size := packetSize - 4 - n // with stuffing
		if size > 0 {
			control = 0x30
		}
		dst = append(dst, syncByte, start|byte(pid>>8), byte(pid), control|*cc)
		*cc = (*cc + 1) & 15
		if size > 0 {
			dst = append(dst, byte(size-1))
		}
		if size > 1 {
			flags, used := byte(0), 2
			if start != 0 && key {
				flags |= 0x40
			}
			if start != 0 && clock >= 0 {
				flags |= 0x10
			}
			dst = append(dst, flags)
			if flags&0x10 != 0 {
				c := clock & (wrap - 1)
				dst = append(dst, byte(c>>25), byte(c>>17), byte(c>>9), byte(c>>1), byte(c<<7)|0x7E, 0)
				used = 8
			}
			for ; used < size; used++ {
				dst = append(dst, 0xFF)
			}
		}
		dst = append(dst, pes[:n]...)
		pes = pes[n:]
	}
	return dst
}

// appendNull appends a packet that means nothing.
func appendNull(dst []byte) []byte {
	dst = append(dst, syncByte, nullPID>>8, nullPID&0xFF, 0x10)
	for range packetSize - 4 {
		dst = append(dst, 0xFF)
	}
	return dst
}

// Pending is the bytes and the media time that wait for Flush.
func (m *Muxer) Pending() (int, time.Duration) {
	if !m.waits {
		return 0, 0
	}
	return len(m.buf) + len(m.pack.data), m.to - m.from
}

// Flush appends all that was added to dst, as whole packets; nothing if nothing was. What it gave out is known to be whole
// by whoever reads it: behind a picture too long to say its length stands a packet that means nothing.
func (m *Muxer) Flush(dst []byte) []byte {
	if !m.waits {
		return dst
	}
	m.closePack()
	if m.loose {
		m.buf = appendNull(m.buf)
		m.loose = false
	}
	m.written += int64(len(m.buf))
	dst = append(dst, m.buf...)
	m.buf, m.waits = m.buf[:0], false
	m.flushed = m.rendered
	return dst
}

// Size is of the file if it were flushed and closed now, Head included.
func (m *Muxer) Size() int64 {
	n := m.written + int64(len(m.buf))
	if p := len(m.pack.data); p > 0 {
		n += int64(p+packetSize)/(packetSize-4)*packetSize + 3*packetSize // its header, and tables
	}
	if m.loose {
		n += packetSize
	}
	return n
}

// Written is Head and all that was flushed.
func (m *Muxer) Written() int64 { return m.written }

// Duration is how far the flushed samples reach.
func (m *Muxer) Duration() time.Duration { return m.flushed.end }

// Frames is how many samples were flushed.
func (m *Muxer) Frames() (video, audio int64) { return m.flushed.frames[0], m.flushed.frames[1] }

// Content is media.Chain over the flushed samples in file order. The sum of a sample is XXH64 of a type byte (9 video,
// 8 sound) and its data as it was handed in. Of a picture that cannot be written as it is (NAL units that are empty, end
// in zeros or have start codes inside) it is that of what can be read back.
func (m *Muxer) Content() uint64 { return m.flushed.content }
