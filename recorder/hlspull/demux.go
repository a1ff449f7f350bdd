package hlspull

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unsafe"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/media/mpegts"
	"github.com/liverec/liverec/recorder/hlspull/body"
)

// frame is one access unit with its times on the clock of its rendition.
type frame struct {
	video, key bool
	flagged    bool // its container says that it is a key
	codec      media.Codec
	dts, pts   time.Duration
	lasts      time.Duration // 0: not known
	config     []byte        // not nil: the record that holds from here on
	data       []byte        // in the body of its segment, or in the arena of its chunk:
	block      *block        // that is what it lies in; nil: nobody's
}

// chunk is a segment taken apart.
type chunk struct {
	frames []frame  // by DTS
	broken error    // something of it could not be read
	blocks []*block // that frames lie in
	memory *memory
	cost   int // bytes of frames, where they are counted
}

// let gives back the memory of a chunk.
func (c *chunk) let() {
	for _, b := range c.blocks {
		b.drop()
	}
	c.blocks = nil
	if c.cost > 0 {
		c.memory.charge(-c.cost)
		c.cost = 0
	}
}

// span is where the frames of one kind begin, and where the last of them ends. ok is false if there is none.
func (c *chunk) span(video bool) (first, end time.Duration, ok bool) {
	var last, step time.Duration
	for i := range c.frames {
		f := &c.frames[i]
		if f.video != video {
			continue
		}
		if !ok {
			first, ok = f.dts, true
		} else if d := f.dts - last; d > 0 {
			step = d
		}
		last, end = f.dts, f.dts+f.lasts
		if f.lasts == 0 {
			end = f.dts + step
		}
	}
	return first, end, ok
}

func ownSection(b []byte) (*section, error) {
	in, err := mp4.ParseInit(b)
	if err == nil {
		err = usable(in)
	}
	if err != nil {
		return nil, err
	}
	return &section{in: in}, nil
}

// opener takes the segments of one rendition apart, in order.
type opener struct {
	ts     *mpegts.Demuxer
	packed *mpegts.Packed
	memory *memory
	block  *block // of arena
	arena  []byte // of chunk: what does not stay as it came is written there
	spare  *chunk // one that was sent, for its memory
	chunk  *chunk
	near   int64 // newest time stamp of a transport stream, 90 kHz, unwrapped
	known  bool
	fresh  [2]bool // the record of sound, of video, has to be told anew

	section *section
	mp4     *mp4.Demuxer
	entry   [2]entry
	last    [2]int64 // DTS of the newest sample, ticks, unwrapped
	scale   [2]uint32
	had     [2]bool
	record  [2][]byte // that was told last
}

// entry is the sample entry that is in use.
type entry struct {
	track, n int
	sets     *codec.Sets
	nal      int
}

func newOpener(m *memory) *opener {
	o := &opener{memory: m}
	cfg := mpegts.DemuxerConfig{Unit: o.unit, Into: &o.arena}
	o.ts, o.packed = mpegts.NewDemuxer(cfg), mpegts.NewPacked(cfg)
	return o
}

func kindOf(video bool) int {
	if video {
		return 1
	}
	return 0
}

// errNothing says that a segment holds nothing that can be recorded.
var errNothing = errors.New("nothing in it can be recorded")

// open takes one segment apart. broken says that it does not follow the one before. What is whole in a torn segment is
// given out. The memory of the segment goes over to the chunk.
func (o *opener) open(l *load, gap bool) *chunk {
	c := &chunk{memory: o.memory}
	o.chunk = c
	if s := o.spare; s != nil {
		c.frames, o.spare = s.frames, nil
	}
	defer func() {
		c.cost = cap(c.frames) * int(unsafe.Sizeof(frame{}))
		o.memory.charge(c.cost)
	}()
	if l.kind == body.FMP4 {
		if l.block != nil {
			c.blocks = append(c.blocks, l.block)
		}
	} else {
		defer l.block.drop()
		if !o.room(len(l.plain)) {
			return c
		}
	}
	switch l.kind {
	case body.TS:
		if gap {
			o.ts.Break()
		}
		if o.known {
			o.ts.Near(o.near)
		}
		if l.init != nil && l.init.in == nil && o.section != l.init {
			o.section = l.init
			c.note(o.ts.Write(l.init.raw))
		}
		c.note(o.ts.Write(l.plain))
		c.note(0, o.ts.Flush())
	case body.Packed:
		if gap {
			o.packed.Break()
		}
		if o.known {
			o.packed.Near(o.near)
		}
		c.note(0, o.packed.Segment(l.plain))
	case body.FMP4:
		o.fragments(l)
	case body.Unknown:
	}
	o.chunk, o.block, o.arena = nil, nil, nil
	slices.SortStableFunc(c.frames, func(a, b frame) int {
		switch {
		case a.dts < b.dts:
			return -1
		case a.dts > b.dts:
			return 1
		}
		return 0
	})
	if len(c.frames) == 0 && c.broken == nil {
		c.broken = errNothing
	}
	return c
}

// settle waits for the disk where a chunk was written to it.
func (o *opener) settle(c *chunk) error {
	for _, b := range c.blocks {
		if err := b.settle(); err != nil {
			return err
		}
	}
	return nil
}

// done takes the memory of a chunk of which all was sent.
func (o *opener) done(c *chunk) {
	if cap(c.frames) > usualFrames {
		return
	}
	clear(c.frames)
	c.frames = c.frames[:0]
	o.spare = c
}

// room makes an arena for what n bytes become.
func (o *opener) room(n int) bool {
	b, err := o.memory.get(n+n/64, math.MaxInt)
	if err != nil {
		o.chunk.broken = err
		return false
	}
	o.chunk.blocks = append(o.chunk.blocks, b)
	o.block, o.arena = b, b.b[:0]
	return true
}

// maxFrames is how many frames one segment may have: those of minutes. usualFrames is how many are kept room for.
const maxFrames, usualFrames = 1 << 16, 1 << 12

// errFrames says that a segment has more.
var errFrames = fmt.Errorf("more than %d frames", maxFrames)

func (c *chunk) note(_ int, err error) {
	if c.broken == nil {
		c.broken = err
	}
}

func ticks90(n int64) time.Duration {
	return time.Duration(n/90_000)*time.Second + time.Duration(n%90_000)*time.Second/90_000
}

// unit takes a frame of a transport stream. Pictures lie in the arena; the demuxer lends the sound: it is copied.
func (o *opener) unit(u *mpegts.Unit) error {
	if len(u.Data) == 0 && u.Config == nil {
		return nil
	}
	if len(o.chunk.frames) >= maxFrames {
		return errFrames
	}
	o.near, o.known = u.DTS, true
	data := u.Data
	if !u.Video {
		at := len(o.arena)
		o.arena = append(o.arena, data...)
		data = o.arena[at:len(o.arena):len(o.arena)]
	}
	f := frame{video: u.Video, key: u.Key, codec: u.Codec, dts: ticks90(u.DTS), pts: ticks90(u.PTS), config: u.Config, data: data, block: o.block}
	if u.Rate > 0 {
		f.lasts = time.Duration(u.Samples) * time.Second / time.Duration(u.Rate)
	}
	o.chunk.frames = append(o.chunk.frames, f)
	return nil
}

// fragments takes an fMP4 segment apart. The first track of each kind counts.
func (o *opener) fragments(l *load) {
	c := o.chunk
	if l.init == nil || l.init.in == nil {
		c.broken = errors.New("it has no initialisation section")
		return
	}
	if l.init != o.section {
		o.section, o.mp4 = l.init, mp4.NewDemuxer(l.init.in)
		for k := range o.entry {
			o.entry[k] = entry{track: -1, n: -1}
		}
		for i := range l.init.in.Tracks {
			t := &l.init.in.Tracks[i]
			if k := kindOf(t.Kind == media.Video); (t.Kind == media.Video || t.Kind == media.Audio) && t.Refused == nil && o.entry[k].track < 0 {
				o.entry[k].track = i
			}
		}
	}
	for a, err := range o.mp4.Samples(l.plain) {
		if err == nil && len(c.frames) >= maxFrames {
			err = errFrames
		}
		if err != nil {
			c.broken = err
			return
		}
		t := &l.init.in.Tracks[a.Track]
		video := t.Kind == media.Video
		k := kindOf(video)
		if o.entry[k].track != a.Track || t.Timescale == 0 || a.Entry < 0 || a.Entry >= len(t.Entries) {
			continue
		}
		x := &t.Entries[a.Entry]
		var config []byte
		if o.entry[k].n != a.Entry {
			o.entry[k] = entry{track: a.Track, n: a.Entry}
			if err := o.begin(k, t.Name, x); err != nil {
				c.broken = err
				return
			}
			config = o.tell(k, x)
		}
		// The edit list holds the delay of B frames and of the encoder of the sound: without it the sound comes early.
		dts := o.unwrap(k, a.DTS, t.Timescale) + t.Empty - t.Start
		f := frame{video: video, key: !video, flagged: a.Key, codec: x.Codec, dts: scaled(dts, t.Timescale), lasts: scaled(a.Lasts, t.Timescale),
			pts: scaled(dts+a.PTS-a.DTS, t.Timescale), config: config, data: a.Data, block: l.block}
		if s := o.entry[k].sets; s != nil {
			if o.block == nil && !o.room(len(l.plain)) {
				return
			}
			f.block = o.block
			at := len(o.arena)
			var p codec.Picture
			o.arena, p = s.FromPrefixed(o.arena, a.Data, o.entry[k].nal)
			f.data = o.arena[at:len(o.arena):len(o.arena)]
			if p.Changed {
				f.config = s.Record()
				o.record[k] = f.config
			}
			if len(f.data) == 0 {
				continue
			}
			f.key = f.key || p.Key
		} else if video {
			f.key, _ = codec.Key(x.Codec, 4, a.Data)
		}
		c.frames = append(c.frames, f)
	}
	c.trust()
}

// trust takes what the container says of keys for true unless it says it of every picture: some packagers never fill in
// the flags.
func (c *chunk) trust() {
	pictures, flagged := 0, 0
	for i := range c.frames {
		if f := &c.frames[i]; f.video {
			if pictures++; f.flagged {
				flagged++
			}
		}
	}
	if flagged == pictures && pictures > 1 {
		return
	}
	for i := range c.frames {
		c.frames[i].key = c.frames[i].key || c.frames[i].flagged
	}
}

// begin looks at a sample entry: parameter sets that stand in the samples, or lengths that are not of 4 bytes, need a
// second look at each sample.
func (o *opener) begin(k int, name string, x *mp4.Track) error {
	if x.Codec != media.AVC && x.Codec != media.HEVC {
		return nil
	}
	info, err := codec.Parse(x.Codec, x.Config)
	if err != nil {
		return fmt.Errorf("read decoder configuration: %w", err)
	}
	o.entry[k].nal = info.NALLength
	if info.NALLength == 4 && name != "avc3" && name != "hev1" {
		return nil
	}
	sets, err := codec.NewSets(x.Codec, x.Config)
	if err != nil {
		return fmt.Errorf("read decoder configuration: %w", err)
	}
	o.entry[k].sets = sets
	return nil
}

// tell is the record of a sample entry if it means something else than the one before, else nil.
func (o *opener) tell(k int, x *mp4.Track) []byte {
	record := x.Config
	if s := o.entry[k].sets; s != nil && s.Record() != nil {
		record = s.Record()
	}
	if record == nil {
		record = []byte{}
	}
	o.record[k] = record
	return record
}

// unwrap makes a clock of 32 bits go on.
func (o *opener) unwrap(k int, dts int64, scale uint32) int64 {
	const turn = 1 << 32
	if o.had[k] && o.scale[k] == scale {
		if d := dts - o.last[k]; dts < turn && d < 0 {
			// it can only be a wrap if it is near the place where the other turn goes on
			if n := (-d + turn/2) / turn; n > 0 && (d+n*turn) < int64(scale)*3600 && (d+n*turn) > -int64(scale)*60 {
				dts += n * turn
			}
		}
	}
	o.last[k], o.scale[k], o.had[k] = dts, scale, true
	return dts
}

func scaled(n int64, scale uint32) time.Duration {
	s := int64(scale)
	return time.Duration(n/s)*time.Second + time.Duration(n%s)*time.Second/time.Duration(s)
}
