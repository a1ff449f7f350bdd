package mp4

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media"
)

// ErrUnsupported says that MP4, or this package, cannot carry a codec, or not with that configuration.
var ErrUnsupported = errors.New("MP4 cannot carry it")

// ErrFull says that the open fragment must be flushed before more can be added.
var ErrFull = errors.New("the open fragment is full")

// Track is what the head of a part says of one track.
type Track struct {
	Codec media.Codec
	// Config is the configuration record as in the payload of a media.VideoConfig or media.AudioConfig: avcC, hvcC, av1C,
	// vpcC; AudioSpecificConfig, dOps (or an OpusHead), dac3, dec3, dfLa (or fLaC and STREAMINFO). vpcC and dfLa are meant
	// without version and flags, but are taken with them as well. Nothing for MP3 and G.711.
	Config        []byte
	Width, Height int // of video
	Colour        Colour
	SampleRate    int // of sound; 0: what the record says
	Channels      int // of sound; 0: what the record says
	// Timescale is ticks per second. 0: 90 000 for video, the sample rate for sound.
	Timescale uint32
}

// Colour is what the head says of the colours of video, in a colr box: code points of ITU-T H.273. The zero Colour: it says
// nothing, and what the stream itself says holds.
type Colour struct {
	Primaries, Transfer, Matrix uint16
	Full                        bool // samples have their full range
}

// Config is what a Writer begins with. A track that is nil does not exist.
type Config struct{ Video, Audio *Track }

// Sample is one access unit or sound frame.
type Sample struct {
	Video, Key bool
	Time       time.Duration // DTS, from the begin of the part
	Shift      time.Duration // PTS - DTS; may be negative
	Lasts      time.Duration // how long a frame of this track usually lasts; 0: not known
	Data       []byte        // copied
	// Sum is the XXH64 of the type byte (9 video, 8 sound) and Data, where the caller knows it: media.Packet.Sum of a packet
	// that is not from FLV. 0: not known.
	Sum uint64
}

// Writer makes the bytes of one hybrid MP4 file. It does no I/O.
type Writer struct {
	cfg     Config
	lanes   [2]*lane // video, sound; nil: no such track
	head    []byte   // nil: not asked for yet
	headLen int64
	written int64  // head and fragments
	seq     uint32 // of the last fragment
	content uint64
	frames  uint64 // in content
	hash    *xxhash.Digest
}

// lane is one track of a Writer. Ticks are absolute: on the track's clock, 0 at the begin of the part.
type lane struct {
	id      uint32
	video   bool
	track   Track
	scale   int64
	frame   framing
	entry   []byte // its sample entry
	opening edit   // of the first moov
	origin  int64  // where tfdt 0 is

	first, firstShift int64 // tick and shift of the first sample
	last, lasts       int64 // tick of the last sample, and how long it lasts as far as one knows
	end               int64 // largest tick where a picture or sound ends

	table
	open []opened // the samples of the open fragment
	data []byte   // and their bytes
}

// opened is a sample of the open fragment.
type opened struct {
	tick  int64
	lasts uint32 // known for all but the last
	size  uint32
	shift int32
	key   bool
	sum   uint64
}

// edit is an edit list: nothing for empty ticks of the movie's clock, then the track from its own tick start on.
type edit struct{ empty, start int64 }

const (
	movieScale = videoScale
	// snap is how far a sound frame may be from where the one before it ends and still be taken for the next one.
	snap = 2 * time.Millisecond
	// most that an open fragment holds. Offsets in a fragment have 31 bits.
	maxFragment        = 1 << 30
	maxFragmentSamples = 1 << 16
	placeholderLen     = 16
	headSlack          = 2*64 + 8 + slackLen // edit lists, or the free box that keeps their place
	slackLen           = 24
	slackName          = "lrec"
)

// NewWriter refuses with ErrUnsupported, by name, what MP4 cannot carry.
func NewWriter(cfg Config) (*Writer, error) {
	w := &Writer{hash: xxhash.New()}
	for i, t := range []*Track{cfg.Video, cfg.Audio} {
		if t == nil {
			continue
		}
		p, err := prepare(*t, i == 0)
		if err != nil {
			return nil, err
		}
		l := &lane{id: 1, video: i == 0, track: p, scale: int64(p.Timescale)}
		if w.lanes[0] != nil {
			l.id = 2
		}
		if i == 0 {
			w.cfg.Video = &l.track
		} else {
			w.cfg.Audio = &l.track
			l.frame = newFraming(p)
		}
		l.entry = p.appendEntry(nil, i == 0)
		w.lanes[i] = l
	}
	if w.lanes == [2]*lane{} {
		return nil, fmt.Errorf("%w: no track", ErrUnsupported)
	}
	w.headLen = int64(len(w.appendHead(nil)))
	w.written = w.headLen
	return w, nil
}

// Config is what the Writer was made with; what was left open is filled in.
func (w *Writer) Config() Config { return w.cfg }

// Head is what a new file begins with: HeadLen bytes. It should be called when the first frame of each track was added,
// and before the bytes of the first Flush are written; from the first call on, or from the first Flush, it stays the
// same. Valid as long as the Writer is.
func (w *Writer) Head() []byte {
	if w.head == nil {
		w.settle()
		w.head = w.appendHead(nil)
	}
	return w.head
}

// settle fixes what the first moov says of time.
func (w *Writer) settle() {
	// Time 0 of the movie is the first frame that is shown. What comes of a track that has not begun yet may be shown
	// before that, but not before the first DTS.
	zero, known, all := time.Duration(0), false, true
	for _, l := range w.lanes {
		all = all && (l == nil || l.n > 0)
	}
	for _, l := range w.lanes {
		if l == nil || l.n == 0 {
			continue
		}
		t := duration(l.first, l.scale)
		if all {
			t = duration(l.first+l.firstShift, l.scale)
		}
		if !known || t < zero {
			zero, known = t, true
		}
	}
	for _, l := range w.lanes {
		if l == nil {
			continue
		}
		if l.n == 0 {
			l.origin = ticks(zero, l.scale)
			continue
		}
		l.origin = l.first
		l.opening.start = max(l.firstShift, 0)
		l.opening.empty = max(ticks(duration(l.first+l.opening.start, l.scale)-zero, movieScale), 0)
	}
}

// HeadLen is the length of the head, known from the begin. The first HeadLen bytes of a file may still be patched;
// everything behind them is only appended to.
func (w *Writer) HeadLen() int64 { return w.headLen }

// Add takes a sample into the open fragment. Times that do not rise within a track are moved to the next tick. Errors:
// ErrFull, a track that does not exist, a sample that is empty or more than 1 GiB, a gap of more than 2³¹ ticks. After an
// error the sample is not part of the file; the Writer goes on.
func (w *Writer) Add(s Sample) error {
	i := 1
	if s.Video {
		i = 0
	}
	l := w.lanes[i]
	switch {
	case l == nil && s.Video:
		return errors.New("add a sample: the file has no video track")
	case l == nil:
		return errors.New("add a sample: the file has no sound track")
	case len(s.Data) == 0:
		return errors.New("add a sample: it is empty")
	case len(s.Data) > maxFragment:
		return fmt.Errorf("add a sample: %d bytes are too many", len(s.Data))
	}
	if n, _ := w.Pending(); n > 0 && (n+len(s.Data) > maxFragment || len(l.open) >= maxFragmentSamples) {
		return ErrFull
	}
	tick, shift := l.place(s)
	var delta int64
	switch {
	case l.n > 0:
		tick = max(tick, l.last+1)
		delta = tick - l.last
	case w.head != nil:
		tick = max(tick, l.origin)
	}
	if delta > math.MaxInt32 || shift > math.MaxInt32 || shift < math.MinInt32 {
		return fmt.Errorf("add a sample: %v behind the one before, with a composition time of %v", duration(delta, l.scale), s.Shift)
	}
	sum := s.Sum
	if sum == 0 {
		w.hash.Reset()
		w.hash.Write([]byte{kindByte(s.Video)})
		w.hash.Write(s.Data)
		sum = w.hash.Sum64()
	}
	if len(l.open) > 0 {
		l.open[len(l.open)-1].lasts = uint32(delta)
	}
	lasts := l.length(s, delta)
	l.open = append(l.open, opened{tick: tick, lasts: uint32(lasts), size: uint32(len(s.Data)), shift: int32(shift), key: s.Key || !s.Video, sum: sum})
	l.data = append(l.data, s.Data...)
	l.count(tick, delta, lasts, shift, uint32(len(s.Data)), s.Key || !s.Video)
	return nil
}

// count takes a sample into the table.
func (l *lane) count(tick, delta, lasts, shift int64, size uint32, key bool) {
	if l.n == 0 {
		l.first, l.firstShift, l.end = tick, shift, tick+shift+lasts
	}
	l.add(uint32(delta), size, int32(shift), key)
	l.last, l.lasts = tick, lasts
	l.end = max(l.end, tick+shift+lasts)
}

// place is the tick of a sample and its composition shift.
func (l *lane) place(s Sample) (tick, shift int64) {
	if l.video {
		tick = ticks(s.Time, l.scale)
		return tick, ticks(s.Time+s.Shift, l.scale) - tick
	}
	tick = ticks(s.Time+s.Shift, l.scale)
	if next := l.last + l.lasts; l.n > 0 && duration(tick-next, l.scale).Abs() <= snap {
		tick = next
	}
	return tick, 0
}

// length is how long a sample lasts as far as one knows before the next one comes.
func (l *lane) length(s Sample, delta int64) int64 {
	if !l.video {
		if n := l.frame.ticks(s.Data); n > 0 {
			return min(n, math.MaxInt32)
		}
	}
	n := ticks(s.Lasts, l.scale)
	// The distance that was just measured is better than a round number near it, where the clock is fine enough.
	if n <= 0 || (n-delta)*1000 <= l.scale && (delta-n)*1000 <= l.scale {
		n = delta
	}
	if n <= 0 {
		n = l.scale / 25
	}
	return min(max(n, 1), math.MaxInt32)
}

// Pending is how many bytes of media and how much media time wait in the open fragment.
func (w *Writer) Pending() (int, time.Duration) {
	var n int
	var d time.Duration
	for _, l := range w.lanes {
		if l == nil || len(l.open) == 0 {
			continue
		}
		n += len(l.data)
		d = max(d, duration(l.last+l.lasts-l.open[0].tick, l.scale))
	}
	return n, d
}

// Flush appends the open fragment, moof and mdat, to dst; nothing if it is empty.
func (w *Writer) Flush(dst []byte) []byte {
	dst, data := w.FlushHead(dst)
	return append(append(dst, data[0]...), data[1]...)
}

// FlushHead is Flush without a copy of the media: it appends what stands before it to dst. data follows in this order, and
// is valid until the next Add.
func (w *Writer) FlushHead(dst []byte) (head []byte, data [2][]byte) {
	bytes, any := 0, false
	for _, l := range w.lanes {
		if l != nil && len(l.open) > 0 {
			bytes, any = bytes+len(l.data), true
		}
	}
	if !any {
		return dst, data
	}
	w.Head()
	begin := len(dst)
	dst, moof := open(dst, "moof")
	dst, at := openFull(dst, "mfhd", 0, 0)
	w.seq++
	dst = shut(be.AppendUint32(dst, w.seq), at)
	var holes [2]int // where the data offsets stand
	for i, l := range w.lanes {
		if l != nil && len(l.open) > 0 {
			dst, holes[i] = l.appendTraf(dst)
		}
	}
	dst = shut(dst, moof)
	offset := len(dst) - begin + 8
	dst = be.AppendUint32(dst, uint32(8+bytes))
	dst = append(dst, "mdat"...)
	for i, l := range w.lanes {
		if l == nil || len(l.open) == 0 {
			continue
		}
		be.PutUint32(dst[holes[i]:], uint32(offset))
		l.addChunk(w.written+int64(offset), uint32(len(l.open)))
		offset += len(l.data)
		for _, o := range l.open {
			w.frames++
			w.content = media.Chain(w.content, w.frames, o.sum)
		}
		data[i] = l.data
		l.open, l.data = l.open[:0], l.data[:0]
	}
	w.written += int64(offset)
	return dst, data
}

// Sample flags as ISO BMFF has them.
const (
	flagsKey   = 2 << 24       // depends on no other
	flagsOther = 1<<24 | 1<<16 // depends on others, is no sync sample
	tfhdBase   = 0x020000      // offsets count from the moof
	tfhdLasts  = 0x08
	tfhdSize   = 0x10
	tfhdFlags  = 0x20
	trunOffset = 0x01
	trunFirst  = 0x04
	trunLasts  = 0x100
	trunSizes  = 0x200
	trunFlags  = 0x400
	trunShifts = 0x800
)

func (l *lane) flags() uint32 {
	if l.video {
		return flagsOther
	}
	return flagsKey
}

// appendTraf describes the open fragment. hole is where the data offset is to be written.
func (l *lane) appendTraf(b []byte) (_ []byte, hole int) {
	o := l.open
	tfhd, trun := uint32(tfhdBase), uint32(trunOffset)
	var keys int
	for i := range o {
		if o[i].lasts != o[0].lasts {
			trun |= trunLasts
		}
		if o[i].size != o[0].size {
			trun |= trunSizes
		}
		if o[i].shift != 0 {
			trun |= trunShifts
		}
		if o[i].key {
			keys++
		}
	}
	if trun&trunLasts == 0 {
		tfhd |= tfhdLasts
	}
	if trun&trunSizes == 0 {
		tfhd |= tfhdSize
	}
	if l.video {
		switch {
		case keys == len(o):
			tfhd |= tfhdFlags
		case keys == 1 && o[0].key:
			trun |= trunFirst
		case keys > 0:
			trun |= trunFlags
		}
	}

	b, traf := open(b, "traf")
	b, at := openFull(b, "tfhd", 0, tfhd)
	b = be.AppendUint32(b, l.id)
	if tfhd&tfhdLasts != 0 {
		b = be.AppendUint32(b, o[0].lasts)
	}
	if tfhd&tfhdSize != 0 {
		b = be.AppendUint32(b, o[0].size)
	}
	if tfhd&tfhdFlags != 0 {
		b = be.AppendUint32(b, flagsKey)
	}
	b = shut(b, at)
	b, at = openFull(b, "tfdt", 1, 0)
	b = shut(be.AppendUint64(b, uint64(o[0].tick-l.origin)), at)
	b, at = openFull(b, "trun", 1, trun)
	b = be.AppendUint32(b, uint32(len(o)))
	hole = len(b)
	b = be.AppendUint32(b, 0)
	if trun&trunFirst != 0 {
		b = be.AppendUint32(b, flagsKey)
	}
	for i := range o {
		if trun&trunLasts != 0 {
			b = be.AppendUint32(b, o[i].lasts)
		}
		if trun&trunSizes != 0 {
			b = be.AppendUint32(b, o[i].size)
		}
		if trun&trunFlags != 0 {
			f := uint32(flagsOther)
			if o[i].key {
				f = flagsKey
			}
			b = be.AppendUint32(b, f)
		}
		if trun&trunShifts != 0 {
			b = be.AppendUint32(b, uint32(o[i].shift))
		}
	}
	return shut(shut(b, at), traf), hole
}

// Size is how large the file will be if it is closed now: head, fragments, the open fragment and the index. It may say a
// little too much: up to 150 bytes, and 12 for each sample of the open fragment.
func (w *Writer) Size() int64 {
	n := w.written
	first := true
	moov := int64(8 + 120)
	for _, l := range w.lanes {
		if l == nil {
			continue
		}
		if len(l.open) > 0 {
			if first {
				n += 8 + 16 + 8
				first = false
			}
			n += l.trafLen() + int64(len(l.data))
		}
		if w.lists(l) {
			moov += l.trakLen()
		}
	}
	return n + moov
}

// trafLen is at least the length of what appendTraf appends, and at most 24 bytes and 12 for each sample more. It
// takes no look at the samples.
func (l *lane) trafLen() int64 {
	n := int64(8 + 16 + 12 + 20 + 20 + 4)
	each := int64(8)
	if l.video {
		each = 16
	}
	return n + each*int64(len(l.open))
}

// Written is the head and all fragments that were flushed: what must be in the file now.
func (w *Writer) Written() int64 { return w.written }

// Mark is what a later Scan may be told of the file as it is after the last Flush.
func (w *Writer) Mark() Mark {
	return Mark{Written: w.written, Frames: int64(w.frames), Content: w.content}
}

// Duration is from the first frame to the end of the last one, of video if there is some, else of sound.
func (w *Writer) Duration() time.Duration {
	for _, l := range w.lanes {
		if l != nil && l.n > 0 {
			return duration(l.last+l.lasts-l.first, l.scale)
		}
	}
	return 0
}

// Frames counts the samples that were added.
func (w *Writer) Frames() (video, audio int64) {
	if l := w.lanes[0]; l != nil {
		video = l.n
	}
	if l := w.lanes[1]; l != nil {
		audio = l.n
	}
	return video, audio
}

// Content is media.Chain over the samples that were flushed, in the order of the file: in each fragment video first.
func (w *Writer) Content() uint64 { return w.content }

// Close says how to finish the file: append tail (the open fragment, if there is one, and the index), sync, then write
// patch at offset at, sync. A crash in between is harmless. The Writer must not be used afterwards.
func (w *Writer) Close() (tail []byte, at int64, patch []byte) {
	w.Head()
	tail = make([]byte, 0, w.Size()-w.written)
	tail = w.Flush(tail)
	tail = w.appendMoov(tail, true)
	at = int64(len(w.appendType(nil)))
	patch = append(be.AppendUint32(nil, 1), "mdat"...)
	return tail, at, be.AppendUint64(patch, uint64(w.written-at))
}
