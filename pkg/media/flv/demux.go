package flv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media"
)

// ErrLostSync says that so many bytes in a row made no sense that it is better to connect again.
var ErrLostSync = errors.New("lost the tag borders of the FLV stream")

// ErrFiltered says that the stream consists of encrypted tags.
var ErrFiltered = errors.New("the FLV stream is encrypted (filter bit)")

// ContentError says that the stream is not FLV at all.
type ContentError struct {
	Content Content
	Head    []byte // its first bytes, at most SniffLen
}

func (e *ContentError) Error() string { return fmt.Sprintf("got %v instead of FLV", e.Content) }

// Limits of the reader.
const (
	softBody      = 4 << 20  // a larger body must prove itself before it is believed
	maxDataOffset = 64 << 10 // of a file header
	maxJunk       = 1 << 20  // skipped in a row
	junkHead      = 64       // bytes of junk in its event
	maxFiltered   = 50       // encrypted tags in a row
	emptyReads    = 100      // reads in a row that give neither bytes nor an error
	maxPending    = 64 << 10 // places that may turn out to be the begin of a chain
	lookAhead     = 12       // tag header and the first byte of the body
)

// EventKind says what the Demuxer met.
type EventKind uint8

// The events.
const (
	EventJunk         EventKind = iota + 1 // Bytes were skipped until the next sound tag (or until the end)
	EventJoined                            // the stream began without a file header
	EventRestart                           // a second file header: the source began anew
	EventTrailer                           // a PreviousTagSize is wrong; told once per connection, see Stats
	EventFiltered                          // an encrypted tag; told once in a row
	EventUnknownTag                        // a tag of an unknown type; told once per connection
	EventAnnexB                            // H.264 or HEVC with start codes instead of lengths; told once per connection
	EventTracks                            // several tracks of one kind: What names the one that is left out; told once per track number
	EventUnknownCodec                      // media of a codec that has no media.Codec: What names it; told once per connection and kind
	EventFalseKey                          // a frame that is flagged as a key frame and is none; told once per connection
)

func (k EventKind) String() string {
	return [...]string{"none", "junk between tags", "no file header", "source restarted", "wrong PreviousTagSize", "encrypted tag",
		"unknown tag type", "start codes instead of NAL unit lengths", "more than one track", "unknown codec",
		"key flag on a frame that depends on others"}[k]
}

// Event is something odd in the stream that the Demuxer has coped with.
type Event struct {
	Kind   EventKind
	Offset int64  // in the bytes of the connection, where it begins
	Bytes  int64  // EventJunk: how many
	Head   []byte // EventJunk: the first of them, at most 64; valid during the call
	What   string // of EventTracks and EventUnknownCodec
}

// DemuxerConfig is what a Demuxer can be told.
type DemuxerConfig struct {
	// Events is called inside Fill and Close; nil: nobody wants to know. A stream that is full of junk makes one call for
	// each run of it: whoever logs them brings them together.
	Events func(Event)
	Now    func() time.Time // stamps Batch.At; nil: time.Now, the only clock in this package
	// Patient never gives up: for files, where there is nothing else to connect to. There is no ContentError, no
	// ErrLostSync and no ErrFiltered then.
	Patient bool
}

// Stats counts what a Demuxer has met on its connection.
type Stats struct {
	Packets       int64
	Restarts      int64
	JunkRuns      int64
	WrongTrailers int64 // PreviousTagSize other than 11 + body
	Empty         int64 // tags without a body
	Filtered      int64
	Unknown       int64 // tags of unknown type
	AnnexB        int64
	OtherTracks   int64 // tracks inside bodies of several, left out
	FalseKeys     int64 // frames flagged as key frames that are none
}

type state uint8

const (
	starting state = iota // nothing is known yet
	synced                // pos is at a tag border
	lost                  // looking for the next two sound tags
)

type convention uint8

// What a server writes as PreviousTagSize, beside what is right.
const (
	convNone convention = iota
	convZero
	convBody // without the header
)

// Demuxer cuts one live stream into packets. It is fed by its caller, for one connection, from one goroutine.
type Demuxer struct {
	events func(Event)
	now    func() time.Time

	cur      *media.Batch // the slab that is being filled; nil: none
	pos, end int          // the bytes of cur whose fate is open
	base     int64        // offset of cur's first byte in the connection
	need     int          // bytes from pos on that the next step wants
	state    state
	err      error
	closed   bool

	run     int64 // junk skipped in a row
	runAt   int64
	runHead [junkHead]byte
	runLen  int

	conv     convention
	convRun  int
	filtered int // in a row

	patient    bool
	lengthSize [2]int // of H.264 and HEVC, from the newest sequence header
	told       told
	chains     finder
	hash       xxhash.Digest
	stats      Stats
}

// told is what there was an event for already.
type told struct {
	tracks [2][256 / 64]uint64 // video, sound: track numbers
	codec  [2]bool
}

// NewDemuxer makes a Demuxer for one connection.
func NewDemuxer(cfg DemuxerConfig) *Demuxer {
	d := &Demuxer{events: cfg.Events, now: cfg.Now, patient: cfg.Patient, lengthSize: [2]int{4, 4}}
	d.chains.reset()
	if d.events == nil {
		d.events = func(Event) {}
	}
	if d.now == nil {
		d.now = time.Now
	}
	return d
}

// Stats is what was met so far.
func (d *Demuxer) Stats() Stats { return d.stats }

// Pending is how many bytes were read whose fate is open. They are in no Count yet.
func (d *Demuxer) Pending() int { return d.end - d.pos }

// Fill reads until at least one packet is whole, which is mostly one Read, and returns all packets that are. The
// caller owns the batch. Without an error there is a batch with at least one packet; with an error there is none.
//
// Errors: what the reader returned (io.EOF as it is, io.ErrUnexpectedEOF for a body that ends too early),
// *ContentError, ErrLostSync, ErrFiltered. After an error only Close is left.
func (d *Demuxer) Fill(r io.Reader) (*media.Batch, error) {
	if d.closed {
		return nil, errors.New("read FLV from a demuxer that is closed")
	}
	idle := 0
	for d.err == nil {
		if d.cur == nil {
			d.cur, d.pos, d.end = media.Get(media.SlabSize), 0, 0
		}
		d.room()
		n, err := r.Read(d.cur.Bytes()[d.end:])
		d.end += n
		if n > 0 {
			d.cur.At = d.now()
			idle = 0
		} else if idle++; err == nil && idle >= emptyReads {
			err = io.ErrNoProgress
		}
		d.parse(err != nil)
		if err != nil && d.err == nil {
			d.err = err
		}
		if len(d.cur.Packets) > 0 {
			return d.detach(), nil
		}
	}
	return nil, d.err
}

// Close settles the bytes that are still held: tags that were waiting for what follows them, junk, the partial tail.
// It returns what is left to be counted or used, nil if there is nothing. The caller owns the batch. Every Demuxer
// must be closed, after an error too; closing twice is harmless.
func (d *Demuxer) Close() *media.Batch {
	if d.closed {
		return nil
	}
	d.closed = true
	if d.cur == nil {
		return nil
	}
	d.parse(true)
	rest := int64(d.end - d.pos)
	if d.fatal() || d.state == lost {
		d.skip(int(rest))
	} else {
		d.cur.Count.Partial += rest
		d.cur.Count.Received += rest
		d.pos = d.end
	}
	d.endRun()
	b := d.cur
	d.cur = nil
	if len(b.Packets) == 0 && b.Count == (media.Count{}) {
		b.Release()
		return nil
	}
	return b
}

// fatal reports whether it was our own verdict that ended the stream.
func (d *Demuxer) fatal() bool {
	var c *ContentError
	return errors.Is(d.err, ErrLostSync) || errors.Is(d.err, ErrFiltered) || errors.As(d.err, &c)
}

// room makes sure that there is a byte to read into. Only called while no packet lies in the slab.
func (d *Demuxer) room() {
	size := len(d.cur.Bytes())
	if d.pos == d.end {
		d.base += int64(d.pos)
		d.pos, d.end = 0, 0
	}
	if d.end < size && d.pos+d.need <= size {
		return
	}
	if d.pos > 0 { // junk and headers went before it
		buf := d.cur.Bytes()
		copy(buf, buf[d.pos:d.end])
		d.base += int64(d.pos)
		d.pos, d.end = 0, d.end-d.pos
	}
	if d.end < size {
		return
	}
	// Grow as bytes really arrive: a claim of 16 MiB with nothing behind it costs no more than the slab.
	b := media.Get(max(min(d.need, 2*size), size+1))
	copy(b.Bytes(), d.cur.Bytes()[:d.end])
	b.At, b.Count = d.cur.At, d.cur.Count
	d.cur.Release()
	d.cur = b
}

// detach hands the slab over and carries the unfinished tail into the next one.
func (d *Demuxer) detach() *media.Batch {
	b := d.cur
	d.cur = nil
	d.base += int64(d.pos)
	if tail := b.Bytes()[d.pos:d.end]; len(tail) > 0 {
		n := media.SlabSize
		if d.need > n && len(tail) > n/2 {
			n = min(d.need, 2*len(tail)+media.SlabSize)
		}
		d.cur = media.Get(max(n, len(tail)))
		d.cur.At = b.At
		d.pos, d.end = 0, copy(d.cur.Bytes(), tail)
	} else {
		d.pos, d.end = 0, 0
	}
	return b
}

// parse cuts what there is. final says that nothing will follow.
func (d *Demuxer) parse(final bool) {
	for d.err == nil && d.pos < d.end {
		d.need = 0
		w := d.cur.Bytes()[d.pos:d.end]
		var on bool
		switch d.state {
		case starting:
			on = d.begin(w, final)
		case synced:
			on = d.step(w, final)
		case lost:
			on = d.seek(w, final)
		}
		if !on {
			return
		}
	}
}

// at is the offset of pos in the connection.
func (d *Demuxer) at() int64 { return d.base + int64(d.pos) }

func (d *Demuxer) wait(n int) bool {
	d.need = n
	return false
}

func (d *Demuxer) header(n int) {
	d.cur.Count.Header += int64(n)
	d.cur.Count.Received += int64(n)
	d.pos += n
	d.state = synced
}

// skip counts n bytes as junk.
func (d *Demuxer) skip(n int) {
	if n == 0 {
		return
	}
	if d.run == 0 {
		d.runAt, d.runLen = d.at(), 0
	}
	d.runLen += copy(d.runHead[d.runLen:], d.cur.Bytes()[d.pos:d.pos+n])
	d.run += int64(n)
	d.cur.Count.Junk += int64(n)
	d.cur.Count.Received += int64(n)
	d.pos += n
}

func (d *Demuxer) endRun() {
	if d.run > 0 {
		d.stats.JunkRuns++
		d.events(Event{Kind: EventJunk, Offset: d.runAt, Bytes: d.run, Head: d.runHead[:d.runLen]})
	}
	d.run, d.runLen = 0, 0
}

// begin looks at the first bytes of the connection.
func (d *Demuxer) begin(w []byte, final bool) bool {
	const sig = "FLV"
	if n := min(len(w), len(sig)); string(w[:n]) == sig[:n] {
		if len(w) < headerLen {
			return d.wait(FileHeaderSize)
		}
		off := dataOffset(w)
		if len(w) < off+TagTrailerSize {
			return d.wait(off + TagTrailerSize)
		}
		if binary.BigEndian.Uint32(w[off:]) != 0 {
			// The first PreviousTagSize is wrong, or it is not there at all.
			if len(w) < off+TagTrailerSize+lookAhead && !final {
				return d.wait(off + TagTrailerSize + lookAhead)
			}
			if follows(w[off:]) && !follows(w[off+TagTrailerSize:]) {
				d.header(off)
				return true
			}
			d.trailer(d.at() + int64(off))
		}
		d.header(off + TagTrailerSize)
		return true
	}
	if len(w) < SniffLen && !final {
		return d.wait(SniffLen)
	}
	switch c := Sniff(w); {
	case c == UnknownContent, c == FLVContent, d.patient:
	default:
		d.err = &ContentError{Content: c, Head: append([]byte(nil), w[:min(len(w), SniffLen)]...)}
		return false
	}
	d.events(Event{Kind: EventJoined, Offset: d.at()})
	d.state = lost
	return true
}

const headerLen = FileHeaderSize - TagTrailerSize

// dataOffset is where the file header w says that it ends, if that can be true.
func dataOffset(w []byte) int {
	off := binary.BigEndian.Uint32(w[5:9])
	if off < uint32(headerLen) || off > maxDataOffset {
		return headerLen
	}
	return int(off)
}

// step takes the next tag at a border.
func (d *Demuxer) step(w []byte, final bool) bool {
	if ok, wait := restarts(w); wait && !final {
		return d.wait(FileHeaderSize)
	} else if ok {
		d.restart(w)
		return true
	}
	if len(w) < lookAhead {
		return d.wait(TagOverhead)
	}
	kind := kindOf(w)
	if kind == nonsense {
		return d.lose()
	}
	size := bodySize(w)
	total := size + TagOverhead
	suspect := kind == odd || total > media.SlabSize
	if (suspect || final && len(w) < total) && d.refuted(0, total) {
		return d.lose()
	}
	if len(w) < total {
		return d.wait(total + lookAhead)
	}
	prev := binary.BigEndian.Uint32(w[total-TagTrailerSize:])
	right := d.conv.allows(size, prev)
	if kind == odd || !right {
		next := w[total:]
		switch {
		case len(next) >= lookAhead:
			if !follows(next) {
				return d.lose()
			}
		case !final:
			return d.wait(total + lookAhead)
		case !right && d.convRun == 0:
			return false // the last tag, and its end is not what it should be
		}
	}
	d.learn(size, prev, total)
	d.emit(w[:total], kind)
	return true
}

// restart takes a second file header.
func (d *Demuxer) restart(w []byte) {
	d.stats.Restarts++
	d.events(Event{Kind: EventRestart, Offset: d.at()})
	n := FileHeaderSize
	if binary.BigEndian.Uint32(w[headerLen:]) != 0 {
		n = headerLen
	}
	d.header(n)
	d.cur.Packets = append(d.cur.Packets, media.Packet{Kind: media.Restart})
}

// learn remembers how this server writes PreviousTagSize.
func (d *Demuxer) learn(size int, prev uint32, total int) {
	if prev == uint32(size+TagHeaderSize) {
		d.conv, d.convRun = convNone, 0
		return
	}
	d.trailer(d.at() + int64(total-TagTrailerSize))
	d.convRun++
	c := convNone
	switch prev {
	case 0:
		c = convZero
	case uint32(size):
		c = convBody
	}
	if d.convRun >= 2 {
		d.conv = c
	}
}

func (d *Demuxer) trailer(at int64) {
	d.stats.WrongTrailers++
	if d.stats.WrongTrailers == 1 {
		d.events(Event{Kind: EventTrailer, Offset: at})
	}
}

// allows reports whether prev is what a server of this convention writes behind a body of size bytes.
func (c convention) allows(size int, prev uint32) bool {
	return prev == uint32(size+TagHeaderSize) || c == convZero && prev == 0 || c == convBody && prev == uint32(size)
}

// emit makes a packet of a whole tag.
func (d *Demuxer) emit(t []byte, v verdict) {
	typ, size := t[0], bodySize(t)
	body := t[TagHeaderSize : TagHeaderSize+size : TagHeaderSize+size]
	p := media.Packet{Kind: media.Invalid, DTS: timestamp(t), Body: body, Sum: sum(&d.hash, typ, body)}
	if typ&filterBit != 0 {
		d.stats.Filtered++
		if d.filtered++; d.filtered == 1 {
			d.events(Event{Kind: EventFiltered, Offset: d.at()})
		}
		if d.filtered >= maxFiltered && !d.patient {
			d.err = ErrFiltered
		}
	} else {
		d.filtered = 0
		if v == sound {
			d.classify(typ, &p)
		}
		d.inspect(typ, &p)
	}
	d.stats.Packets++
	d.cur.Packets = append(d.cur.Packets, p)
	d.cur.Count.Tags += int64(len(t))
	d.cur.Count.Received += int64(len(t))
	d.pos += len(t)
}

// classify tells what a packet is and where its data lies.
func (d *Demuxer) classify(typ byte, p *media.Packet) {
	c := Classify(typ, p.Body)
	if c.Others > 0 {
		d.stats.OtherTracks += int64(c.Others)
		d.track(typ, c.Track+1, p.Body)
	} else if c.Track > 0 {
		d.track(typ, c.Track, p.Body)
	}
	if c.End > 0 || c.Lead > math.MaxUint16 {
		if c.End == 0 {
			c.End = len(p.Body)
		}
		from := 0
		if c.Lead > math.MaxUint16 { // more ModEx data than Packet can skip
			from, c.Lead = c.Lead, 0
		}
		p.Body = p.Body[from:c.End:c.End]
		p.Sum = sum(&d.hash, typ, p.Body)
	}
	p.Kind, p.Codec, p.Key, p.CTS, p.Lead, p.Track = c.Kind, c.Codec, c.Key, c.CTS, uint16(c.Lead), c.Track
	if p.Codec == media.OtherCodec && (p.Kind == media.Video || p.Kind == media.Audio) {
		if told := &d.told.codec[kindIndex(typ)]; !*told {
			*told = true
			d.events(Event{Kind: EventUnknownCodec, Offset: d.at(), What: CodecName(typ, p.Body)})
		}
	}
}

func kindIndex(typ byte) int {
	if typ == TagAudio {
		return 1
	}
	return 0
}

// track tells of a track besides the first, once.
func (d *Demuxer) track(typ, number byte, body []byte) {
	seen := &d.told.tracks[kindIndex(typ)][number/64]
	if *seen&(1<<(number%64)) != 0 {
		return
	}
	*seen |= 1 << (number % 64)
	what := "video"
	if typ == TagAudio {
		what = "audio"
	}
	d.events(Event{Kind: EventTracks, Offset: d.at(), What: fmt.Sprintf("%s track %d, %s", what, number, CodecName(typ, body))})
}

// inspect counts what is odd about a packet, and finds out whether a key frame is one.
func (d *Demuxer) inspect(typ byte, p *media.Packet) {
	switch {
	case typ != TagAudio && typ != TagVideo && typ != TagScript:
		if d.stats.Unknown++; d.stats.Unknown == 1 {
			d.events(Event{Kind: EventUnknownTag, Offset: d.at()})
		}
		return
	case len(p.Body) == 0:
		d.stats.Empty++
		return
	case p.Kind == media.VideoConfig:
		d.measure(p)
		return
	case p.Kind != media.Video:
		return
	}
	size := 0 // of lengths
	switch p.Codec {
	case media.AVC:
		size = d.lengthSize[0]
	case media.HEVC:
		size = d.lengthSize[1]
	}
	starts := false
	if size > 0 && StartCodes(p.Payload(), size) {
		starts = true
		if d.stats.AnnexB++; d.stats.AnnexB == 1 {
			d.events(Event{Kind: EventAnnexB, Offset: d.at()})
		}
	}
	if p.Key && p.Codec != media.OtherCodec && p.Codec != media.VVC {
		if p.Key = isKey(p.Codec, p.Payload(), size, starts); !p.Key {
			if d.stats.FalseKeys++; d.stats.FalseKeys == 1 {
				d.events(Event{Kind: EventFalseKey, Offset: d.at()})
			}
		}
	}
}

// measure remembers how long the lengths in front of NAL units are.
func (d *Demuxer) measure(p *media.Packet) {
	const avcAt, hevcAt = 4, 21
	b := p.Payload()
	switch {
	case len(b) == 0 || b[0] == 0: // start codes: not a record
	case p.Codec == media.AVC && len(b) > avcAt:
		d.lengthSize[0] = int(b[avcAt]&3) + 1
	case p.Codec == media.HEVC && len(b) > hevcAt:
		d.lengthSize[1] = int(b[hevcAt]&3) + 1
	}
}

// lose gives up the border at pos.
func (d *Demuxer) lose() bool {
	d.state = lost
	d.skip(1)
	return true
}

// seek looks for the first place where two sound tags, or a file header and a tag, follow each other.
func (d *Demuxer) seek(w []byte, final bool) bool {
	for i := 0; i < len(w); i++ {
		switch w[i] {
		case TagAudio, TagVideo, TagScript, 'F':
		default:
			continue
		}
		found, need := d.candidate(i, final)
		if !found && need == 0 {
			continue
		}
		d.skip(i)
		if d.tooMuch() {
			return false
		}
		if need > 0 {
			return d.wait(need)
		}
		d.endRun()
		d.chains.reset()
		d.state = synced
		return true
	}
	d.skip(len(w))
	d.tooMuch()
	return false
}

func (d *Demuxer) tooMuch() bool {
	if d.run > maxJunk && d.err == nil && !d.patient {
		d.err = ErrLostSync
	}
	return d.err != nil
}

// candidate says whether two sound tags begin i bytes behind pos; need > 0: so many bytes from there would tell.
func (d *Demuxer) candidate(i int, final bool) (found bool, need int) {
	p := d.cur.Bytes()[d.pos+i : d.end]
	unknown := func(n int) (bool, int) {
		if final {
			return false, 0
		}
		return false, n
	}
	if ok, wait := restarts(p); wait {
		return unknown(FileHeaderSize + lookAhead)
	} else if ok {
		if len(p) < FileHeaderSize+lookAhead {
			return unknown(FileHeaderSize + lookAhead)
		}
		return binary.BigEndian.Uint32(p[headerLen:]) == 0 && kindOf(p[FileHeaderSize:]) == sound, 0
	}
	at := 0
	for range 2 {
		t := p[at:]
		if len(t) < lookAhead {
			return unknown(at + lookAhead)
		}
		if ok, _ := restarts(t); ok && at > 0 {
			return true, 0
		}
		size := bodySize(t)
		total := size + TagOverhead
		if kindOf(t) != sound || t[0]&filterBit != 0 || size > softBody || d.refuted(i+at, total) {
			return false, 0
		}
		if len(t) < total {
			return unknown(at + total + lookAhead)
		}
		if !d.conv.allows(size, binary.BigEndian.Uint32(t[total-TagTrailerSize:])) {
			if streamID(t) != 0 {
				return false, 0
			}
			if len(t) < total+lookAhead {
				return unknown(at + total + lookAhead)
			}
			if !follows(t[total:]) {
				return false, 0
			}
		}
		at += total
	}
	return true, 0
}

// refuted reports whether the tag that claims total bytes i bytes behind pos cannot be one, because a chain of whole
// tags lies inside it.
func (d *Demuxer) refuted(i, total int) bool {
	from := d.at() + int64(i)
	return d.chains.inside(d.cur.Bytes()[:d.end], d.base, d.at(), span{from, from + int64(total)}, d.conv)
}

// verdict is what a tag header says about itself.
type verdict uint8

const (
	nonsense verdict = iota
	odd              // could be a tag that nobody knows
	sound
)

// kindOf judges a tag header by its lookAhead bytes. StreamID and size are not looked at.
func kindOf(h []byte) verdict {
	if h[0]&reservedBits != 0 {
		return nonsense
	}
	first := h[TagHeaderSize]
	ok := false
	switch h[0] & typeMask {
	case TagVideo:
		if first&exHeader != 0 {
			ok = first&0x0F <= modEx
		} else {
			frame, codec := first>>4, first&0x0F
			ok = frame >= 1 && frame <= 5 && (codec >= 2 && codec <= 7 || codec == codecHEVC || codec == codecAV1)
		}
	case TagAudio:
		ok = first>>4 != 12 // all the others have a meaning somewhere
	case TagScript:
		ok = first == amfString
	default:
		return odd
	}
	if ok || h[0]&filterBit != 0 || bodySize(h) == 0 {
		return sound
	}
	return odd
}

// follows reports whether b, at least lookAhead bytes of it, is what may come behind a tag.
func follows(b []byte) bool {
	if len(b) < lookAhead {
		return false
	}
	ok, _ := restarts(b)
	return ok || kindOf(b) == sound
}

// restarts reports whether w begins with a file header of the usual form; wait: it may, with more bytes.
func restarts(w []byte) (ok, wait bool) {
	const sig = "FLV\x01"
	const offset = "\x00\x00\x00\x09"
	if w[0] != sig[0] {
		return false, false
	}
	if n := min(len(w), len(sig)); string(w[:n]) != sig[:n] {
		return false, false
	}
	if n := min(len(w), headerLen); n > 5 && string(w[5:n]) != offset[:n-5] {
		return false, false
	}
	if len(w) < FileHeaderSize {
		return false, true
	}
	return true, false
}
