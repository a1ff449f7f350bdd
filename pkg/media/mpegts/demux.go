package mpegts

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/liverec/liverec/pkg/media"
)

// Unit is one access unit of video or one frame of sound. It and its Data are valid during the call only.
type Unit struct {
	Video bool
	Track int // 0 is the first of its kind in the program, and the only one unless DemuxerConfig.AllTracks
	PID   int
	Codec media.Codec

	PTS, DTS int64 // 90 kHz, unwrapped: they go on behind 33 bits, and below 0 only if the hint was there
	Samples  int   // sound: samples per channel in this frame
	Rate     int   // sound: Hz that Samples counts in

	Key  bool // a decoder can start here; always true of sound
	Open bool // see codec.Picture
	// Config is the configuration record, as media.Packet.Payload of a config packet has it, when it is first known and
	// whenever it changes (bytes that mean the same are no change); else nil. It is valid for good. MP3 has an empty
	// one that is not nil: its rate or channels are new.
	Config []byte
	// Data is as media.Packet.Payload has it: H.264 and HEVC behind 4-byte lengths, without delimiters, filler and what
	// the record says; AAC without ADTS; other sound one frame.
	Data []byte

	Corrupt bool // packets are missing from it, or what is there does not fit together
	Jump    bool // the stream announced that its clock begins anew here (discontinuity_indicator)
	Guessed bool // it came without a time: the one here is counted on from the one before
}

// DemuxerConfig is what a Demuxer needs.
type DemuxerConfig struct {
	// Unit takes the units, in the order in which they are whole. An error ends the Demuxer: Write and Flush return it.
	Unit func(*Unit) error
	// Program is told whenever the program's streams are first known or have changed; may be nil.
	Program func(Program)
	// Into is appended to by each picture, whose Data lies there then, for as long as its owner leaves it. nil: the Demuxer
	// has a buffer of its own.
	Into      *[]byte
	AllTracks bool // give out every supported stream, not only the first video and the first sound
	// DropCorrupt leaves out units with missing packets instead of marking them. They are counted in both cases.
	DropCorrupt bool
}

// Program is what a PMT says.
type Program struct {
	Number  int
	Streams []Stream // in its order
}

// Stream is one elementary stream of the program.
type Stream struct {
	PID   int
	Type  byte        // stream_type
	Codec media.Codec // NoCodec if it is not media (ID3, SCTE-35, subtitles); OtherCodec if it is and cannot be taken
	Why   string      // why it is not taken: "SAMPLE-AES H.264", "MPEG-2 video"; empty if it is
	Track int         // number among the taken ones of its kind, -1 if it is not taken
}

// Count says what became of the bytes: Received = Packets*188 + Junk + Held.
type Count struct {
	Received   int64
	Packets    int64 // whole packets
	Junk       int64 // bytes that are no packet
	Held       int64 // bytes that wait for what follows; 0 after Flush
	Null       int64 // packets, of these: stuffing
	Scrambled  int64 // … encrypted
	Errors     int64 // … with the transport error bit, or with an adaptation field that does not fit
	Other      int64 // … of streams that are not taken
	Duplicate  int64 // … sent twice
	Continuity int64 // places where packets are missing
	Units      int64 // given out
	Corrupt    int64 // units with something missing, given out or not
	Torn       int64 // bytes of elementary streams that belong to no unit
	Tables     int64 // PAT and PMT sections that could not be read
}

// MaxUnit is the most that one access unit may have; more is given out as corrupt and the rest counted as torn.
const MaxUnit = 16 << 20

const holdSize = 32 << 10

// What a PID is for, besides the index of a stream.
const (
	pidNone = -1 - iota
	pidTables
)

// Demuxer takes one transport stream apart. It is not for use by several goroutines at once. Its memory is bound by
// the largest access unit (MaxUnit per taken stream).
type Demuxer struct {
	cfg   DemuxerConfig
	count Count
	err   error

	hold   []byte
	synced bool

	pids     [numPIDs]int16
	pat      sections
	lastPAT  []byte
	programs []*program
	chosen   *program
	streams  []*stream

	clock clock
	unit  Unit
}

// clock unwraps time stamps of 33 bits.
type clock struct {
	last int64
	set  bool
}

const wrap = 1 << 33

func (c *clock) near(t int64) { c.last, c.set = t, true }

func (c *clock) unwrap(ts int64) int64 {
	if !c.set {
		c.near(ts)
		return ts
	}
	c.last = nearest(ts, c.last)
	return c.last
}

// nearest is the time that is ts in its low 33 bits and as near to ref as can be.
func nearest(ts, ref int64) int64 {
	d := (ts - ref) & (wrap - 1)
	if d >= wrap/2 {
		d -= wrap
	}
	return ref + d
}

// NewDemuxer starts nothing.
func NewDemuxer(cfg DemuxerConfig) *Demuxer {
	d := &Demuxer{cfg: cfg, hold: make([]byte, 0, holdSize)}
	for i := range d.pids {
		d.pids[i] = pidNone
	}
	d.pids[patPID] = pidTables
	d.pat.cc = -1
	return d
}

// Write takes the next bytes. It keeps none of p. What comes out does not depend on how the bytes are cut. The error is
// the one of Unit.
func (d *Demuxer) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		if d.err != nil {
			return n, d.err
		}
		take := min(len(p)-n, holdSize-len(d.hold))
		d.hold = append(d.hold, p[n:n+take]...)
		d.count.Received += int64(take)
		n += take
		d.cut(false)
	}
	return len(p), d.err
}

// Flush says that the segment or file is at its end: units that wait for the next one to begin are given out, and half
// a packet is junk. Tables, parameter sets and the clock are kept, and so is half a frame of sound: the next segment may
// go on with them. Continuity counters are not compared with those of the next segment.
func (d *Demuxer) Flush() error {
	if d.err == nil {
		d.cut(true)
		d.synced = false
	}
	for _, s := range d.streams {
		if d.err == nil {
			d.endPES(s)
		}
		s.cc = -1
	}
	d.pat.cc, d.pat.on = -1, false
	for _, p := range d.programs {
		p.sections.cc, p.sections.on = -1, false
	}
	return d.err
}

// Break says that what comes next does not continue what was before (a discontinuity, a missing segment, another
// variant): half a frame of sound is dropped, and times are not counted on. Call it after Flush.
func (d *Demuxer) Break() {
	for _, s := range d.streams {
		d.count.Torn += int64(len(s.body))
		s.body, s.from, s.fresh, s.sound.timed = s.body[:0], 0, false, false
	}
}

// Near is a hint for unwrapping: the next time stamp is the one nearest to t (90 kHz). Without a hint the first one is
// taken as it is, and each later one as nearest to the one before, over all streams.
func (d *Demuxer) Near(t int64) { d.clock.near(t) }

// Count is what was seen so far.
func (d *Demuxer) Count() Count {
	c := d.count
	c.Held = int64(len(d.hold))
	return c
}

// cut takes whole packets from what is held. A packet is taken when it is known what follows it.
func (d *Demuxer) cut(final bool) {
	at := 0
	for d.err == nil {
		b := d.hold[at:]
		if len(b) == 0 {
			break
		}
		if !d.synced {
			n, ok, wait := findSync(b, final)
			d.count.Junk += int64(n)
			at += n
			if d.synced = ok; !ok {
				if wait {
					break
				}
			}
			continue
		}
		if b[0] != syncByte {
			d.synced = false
			continue
		}
		if len(b) <= packetSize && !final {
			break
		}
		if len(b) < packetSize {
			d.count.Junk += int64(len(b))
			at += len(b)
			break
		}
		if len(b) > packetSize && b[packetSize] != syncByte {
			if len(b) < 3*packetSize && !final {
				break
			}
			// Either something else follows this packet, or it is short and the next one begins inside it.
			if n := d.torn(b); n > 0 {
				d.count.Junk += int64(n)
				at += n
				continue
			}
		}
		d.count.Packets++
		d.packet(b[:packetSize])
		at += packetSize
	}
	d.hold = d.hold[:copy(d.hold, d.hold[at:])]
}

// findSync looks for two or three sync bytes at the distance of a packet. n bytes are before them, or cannot hold any.
func findSync(b []byte, final bool) (n int, ok, wait bool) {
	for {
		i := bytes.IndexByte(b[n:], syncByte)
		if i < 0 {
			return len(b), false, false
		}
		n += i
		rest := b[n:]
		switch {
		case len(rest) > packetSize && rest[packetSize] != syncByte, len(rest) > 2*packetSize && rest[2*packetSize] != syncByte:
		case len(rest) > 2*packetSize, final && len(rest) >= packetSize:
			return n, true, false
		case !final:
			return n, false, true
		}
		n++
	}
}

// torn reports where inside the packet at the begin of b another one begins, of a PID that is known.
func (d *Demuxer) torn(b []byte) int {
	for n := 1; n < packetSize; n++ {
		if b[n] != syncByte || len(b) <= n+packetSize || b[n+packetSize] != syncByte || len(b) > n+2*packetSize && b[n+2*packetSize] != syncByte {
			continue
		}
		pid := int(binary.BigEndian.Uint16(b[n+1:]) & 0x1FFF)
		if b[n+1]&0x80 == 0 && b[n+3]&0x30 != 0 && (pid == nullPID || d.pids[pid] != pidNone) {
			return n
		}
	}
	return 0
}

func (d *Demuxer) packet(b []byte) {
	pid := int(binary.BigEndian.Uint16(b[1:]) & 0x1FFF)
	if pid == nullPID {
		d.count.Null++
		return
	}
	if b[1]&0x80 != 0 {
		d.count.Errors++
		return
	}
	start, cc, payload := b[1]&0x40 != 0, int(b[3]&15), b[4:]
	jump := false
	if b[3]&0x20 != 0 { // adaptation field
		n := int(b[4])
		if n > packetSize-5 {
			d.count.Errors++
			return
		}
		jump = n > 0 && b[5]&0x80 != 0
		payload = b[5+n:]
	}
	to := d.pids[pid]
	if to == pidNone {
		d.count.Other++
		return
	}
	if b[3]&0xC0 != 0 {
		d.count.Scrambled++
		return
	}
	if b[3]&0x10 == 0 { // no payload
		if to >= 0 && jump {
			d.jump(d.streams[to])
		}
		return
	}
	if to == pidTables {
		d.table(pid, cc, payload, start)
		return
	}
	s := d.streams[to]
	if jump {
		d.jump(s)
	}
	mark := fingerprint(payload)
	switch {
	case s.cc < 0 || cc == (s.cc+1)&15:
	case cc == s.cc && mark == s.mark:
		d.count.Duplicate++
		return
	default:
		d.count.Continuity++
		d.lost(s)
	}
	s.cc, s.mark = cc, mark
	d.elementary(s, payload, start)
}

// fingerprint is enough of a payload to know one that is sent twice.
func fingerprint(b []byte) uint64 {
	if len(b) < 8 {
		return uint64(len(b))
	}
	return binary.BigEndian.Uint64(b[len(b)-8:])*31 + uint64(len(b))
}

// jump takes the announcement that counters and clock begin anew.
func (d *Demuxer) jump(s *stream) {
	s.cc = -1
	s.jumps = true
}

func (d *Demuxer) table(pid, cc int, payload []byte, start bool) {
	if pid == patPID {
		if d.pat.continues(cc) {
			d.pat.payload(payload, start, &d.count.Tables, d.takePAT)
		}
		return
	}
	for _, p := range d.programs {
		if p.pid == pid && p.sections.continues(cc) {
			p.sections.payload(payload, start, &d.count.Tables, func(sec []byte) { d.takePMT(p, sec) })
			return
		}
	}
}

// continues compares counters: of a section with a hole nothing is kept, a packet that is sent twice is not wanted.
func (s *sections) continues(cc int) bool {
	if cc == s.cc {
		return false
	}
	if s.cc >= 0 && cc != (s.cc+1)&15 {
		s.on = false
	}
	s.cc = cc
	return true
}

func (d *Demuxer) takePAT(sec []byte) {
	body := tableBody(sec, 0)
	if body == nil || bytes.Equal(sec, d.lastPAT) {
		return
	}
	d.lastPAT = append(d.lastPAT[:0], sec...)
	var programs []*program
	parsePAT(body, func(number, pid int) {
		if len(programs) == maxPrograms || pid < 0x10 || pid == nullPID {
			return
		}
		for _, p := range d.programs {
			if p.number == number && p.pid == pid {
				programs = append(programs, p)
				return
			}
		}
		programs = append(programs, &program{number: number, pid: pid, sections: sections{cc: -1}})
	})
	if len(programs) == 0 {
		return
	}
	for _, p := range d.programs {
		if d.pids[p.pid] == pidTables {
			d.pids[p.pid] = pidNone
		}
	}
	for _, p := range programs {
		if d.pids[p.pid] == pidNone { // a stream that is taken stays
			d.pids[p.pid] = pidTables
		}
	}
	d.programs = programs
	if !slices.Contains(programs, d.chosen) {
		d.chosen = nil // its streams go on until another one is found
	}
}

func (d *Demuxer) takePMT(p *program, sec []byte) {
	body := tableBody(sec, 2)
	if body == nil || int(binary.BigEndian.Uint16(sec[3:])) != p.number || d.chosen != nil && d.chosen != p || d.chosen == p && bytes.Equal(sec, p.last) {
		return
	}
	found := parsePMT(body)
	if d.chosen == nil && !slices.ContainsFunc(found, func(e elementary) bool { return e.Codec != media.NoCodec }) {
		return // without sound or picture
	}
	p.last = append(p.last[:0], sec...)
	d.chosen = p
	d.streamsAre(found)
	if d.cfg.Program != nil {
		out := Program{Number: p.number}
		for _, e := range found {
			out.Streams = append(out.Streams, e.Stream)
		}
		d.cfg.Program(out)
	}
}

// streamsAre sets up what a PMT says, and writes the track numbers into it. Streams that stay the same keep their state.
func (d *Demuxer) streamsAre(found []elementary) {
	var streams []*stream
	tracks := [2]int{}
	for i := range found {
		e := &found[i]
		if e.Codec == media.NoCodec || e.Codec == media.OtherCodec || e.PID < 0x10 || e.PID == nullPID || d.pids[e.PID] == pidTables {
			continue
		}
		kind := 1
		if isVideo(e.Codec) {
			kind = 0
		}
		if tracks[kind] > 0 && !d.cfg.AllTracks || slices.ContainsFunc(streams, func(s *stream) bool { return s.PID == e.PID }) {
			continue
		}
		e.Track = tracks[kind]
		tracks[kind]++
		s := newStream(*e)
		for _, old := range d.streams {
			if old.PID == e.PID && old.Type == e.Type && old.kind == e.Codec && old.opus == e.opus {
				s = old
				s.Track = e.Track
			}
		}
		streams = append(streams, s)
	}
	for _, old := range d.streams {
		if !slices.Contains(streams, old) && d.err == nil {
			d.endPES(old)
			d.count.Torn += int64(len(old.body))
		}
		d.pids[old.PID] = pidNone
	}
	for i, s := range streams {
		d.pids[s.PID] = int16(i)
	}
	d.streams = streams
}

func isVideo(c media.Codec) bool { return c == media.AVC || c == media.HEVC }
