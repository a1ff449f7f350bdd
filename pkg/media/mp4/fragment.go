package mp4

import (
	"fmt"
	"iter"

	"github.com/liverec/liverec/pkg/media"
)

// maxRun is the most samples of one moof.
const maxRun = 1 << 20

// Access is one sample of a segment.
type Access struct {
	Track    int   // index into Init.Tracks
	Entry    int   // index into InitTrack.Entries
	DTS, PTS int64 // ticks of the track, without the edit list. A tfdt of 32 bits is not unwrapped
	Lasts    int64 // ticks
	Key      bool
	Data     []byte // part of what was given to Samples
}

// Demuxer takes the samples out of the segments of one initialisation section.
type Demuxer struct{ f fragments }

// NewDemuxer begins with a head. Tracks that are Refused, and such that are neither video nor sound, are passed over.
func NewDemuxer(in *Init) *Demuxer { return &Demuxer{f: newFragments(in)} }

// Samples gives the samples of a segment: fragment by fragment, in each track by track as they are described. What is
// neither moof nor mdat is skipped. A segment that is torn or wrong gives the samples in front of that place and then an
// error, ErrBroken or ErrTorn; nothing follows it. The data is not copied, and no more than a few hundred bytes are allocated.
//
// A track whose fragments have no tfdt goes on where it ended in the last segment.
func (d *Demuxer) Samples(segment []byte) iter.Seq2[Access, error] {
	return func(yield func(Access, error) bool) {
		size := int64(len(segment))
		stopped := false
		for at := int64(0); size-at > 0; {
			h, ok := parseHeader(segment[at:])
			if h.size == 0 {
				h.size = size - at
			}
			if !ok {
				yield(Access{}, broken("no box at %d of a segment of %d bytes", at, size))
				return
			}
			if h.size <= size-at && h.typ == fourCC("moof") {
				err := d.f.parse(segment[at+int64(h.head):at+h.size], at, at+h.size, func(p piece) error {
					if p.offset < 0 || p.offset+p.size > size {
						return fmt.Errorf("%w: a sample of %d bytes at %d of a segment of %d", ErrTorn, p.size, p.offset, size)
					}
					a := Access{Track: p.track, Entry: p.entry, DTS: p.dts, PTS: p.dts + p.shift, Lasts: p.lasts, Key: p.key,
						Data: segment[p.offset : p.offset+p.size : p.offset+p.size]}
					if !yield(a, nil) {
						stopped = true
						return errStop
					}
					return nil
				})
				if stopped {
					return
				}
				if err != nil {
					yield(Access{}, err)
					return
				}
			}
			if h.size > size-at {
				yield(Access{}, fmt.Errorf("%w: box %v of %d bytes at %d of a segment of %d", ErrTorn, h.typ, h.size, at, size))
				return
			}
			at += h.size
		}
	}
}

var errStop = broken("nobody wants more")

// piece is a sample as its fragment describes it.
type piece struct {
	track, entry      int
	dts, shift, lasts int64
	key               bool
	offset, size      int64
}

// fragments reads moof boxes.
type fragments struct {
	in   *Init
	next []int64 // of each track: DTS behind its last sample
	seen int64   // samples in this moof
}

func newFragments(in *Init) fragments { return fragments{in: in, next: make([]int64, len(in.Tracks))} }

func (f *fragments) track(id uint32) int {
	for i := range f.in.Tracks {
		if f.in.Tracks[i].ID == id {
			return i
		}
	}
	return -1
}

// parse reads the body of the moof that lies at [at, end). Offsets of samples count from where at does. Samples without
// bytes take time, but are not told.
func (f *fragments) parse(b []byte, at, end int64, each func(piece) error) error {
	f.seen = 0
	implicit := at // where the data of a traf begins that does not say it
	for {
		typ, body, rest, done, err := next(b)
		if err != nil || done {
			return err
		}
		if typ == fourCC("traf") {
			if implicit, err = f.traf(body, at, end, implicit, each); err != nil {
				return err
			}
		}
		b = rest
	}
}

// The rest of the tfhd flags.
const (
	tfhdOffset = 0x01
	tfhdEntry  = 0x02
)

func (f *fragments) traf(b []byte, moof, end, implicit int64, each func(piece) error) (int64, error) {
	track, def, base, known := -1, defaults{}, implicit, false
	var at int64
	for first := true; ; {
		typ, body, rest, done, err := next(b)
		if err != nil || done {
			return at, err
		}
		b = rest
		switch typ {
		case fourCC("tfhd"):
			if len(body) < 8 {
				return at, broken("a tfhd of %d bytes", len(body))
			}
			if track = f.track(be.Uint32(body[4:])); track < 0 {
				return implicit, nil // of a track that the head does not have
			}
			def = f.in.Tracks[track].trex
			flags := be.Uint32(body) & 0xFFFFFF
			body = body[8:]
			if flags&tfhdOffset != 0 {
				if len(body) < 8 {
					return at, broken("a tfhd that is too short for its flags")
				}
				// In a file of its own a segment knows where it is; cut out of a larger one its moof does.
				base, body = int64(be.Uint64(body)), body[8:]
				if base < 0 || base > end {
					base = moof
				}
			} else if flags&tfhdBase != 0 {
				base = moof
			}
			for _, o := range []struct {
				flag uint32
				to   *uint32
			}{{tfhdEntry, &def.entry}, {tfhdLasts, &def.lasts}, {tfhdSize, &def.size}, {tfhdFlags, &def.flags}} {
				if flags&o.flag == 0 {
					continue
				}
				if len(body) < 4 {
					return at, broken("a tfhd that is too short for its flags")
				}
				*o.to, body = be.Uint32(body), body[4:]
			}
			known, at = true, base
		case fourCC("tfdt"):
			if !known {
				continue
			}
			switch {
			case len(body) >= 12 && body[0] == 1:
				f.next[track] = int64(be.Uint64(body[4:]))
			case len(body) >= 8 && body[0] == 0:
				f.next[track] = int64(be.Uint32(body[4:]))
			default:
				return at, broken("a tfdt of %d bytes", len(body))
			}
		case fourCC("trun"):
			if !known {
				return at, broken("a trun without a tfhd")
			}
			if at, err = f.trun(body, track, def, base, at, first, end, each); err != nil {
				return at, err
			}
			first = false
		}
	}
}

// trun reads one run; at is where its data begins if it does not say it.
func (f *fragments) trun(b []byte, track int, def defaults, base, at int64, first bool, end int64, each func(piece) error) (int64, error) {
	short := func() error { return broken("a trun that is too short for its flags") }
	if len(b) < 8 {
		return at, short()
	}
	flags, n := be.Uint32(b)&0xFFFFFF, int64(be.Uint32(b[4:]))
	b = b[8:]
	if flags&trunOffset != 0 {
		if len(b) < 4 {
			return at, short()
		}
		at, b = base+int64(int32(be.Uint32(b))), b[4:]
	} else if first && at < end {
		at = end + 8 // in an mdat right behind the moof
	}
	firstFlags, hasFirst := uint32(0), flags&trunFirst != 0
	if hasFirst {
		if len(b) < 4 {
			return at, short()
		}
		firstFlags, b = be.Uint32(b), b[4:]
	}
	var each4 int64
	for _, f := range []uint32{trunLasts, trunSizes, trunFlags, trunShifts} {
		if flags&f != 0 {
			each4 += 4
		}
	}
	if f.seen += n; f.seen > maxRun || n*each4 > int64(len(b)) {
		return at, broken("a trun of %d samples in %d bytes", n, len(b))
	}
	t := &f.in.Tracks[track]
	refused := t.Refused
	entry := int(def.entry) - 1
	if entry < 0 || entry >= len(t.Entries) {
		entry = 0
	}
	if len(t.refused) > entry && t.Refused == nil {
		refused = t.refused[entry]
	}
	for i := range n {
		s := def
		if i == 0 && hasFirst {
			s.flags = firstFlags
		}
		var shift int64
		if flags&trunLasts != 0 {
			s.lasts, b = be.Uint32(b), b[4:]
		}
		if flags&trunSizes != 0 {
			s.size, b = be.Uint32(b), b[4:]
		}
		if flags&trunFlags != 0 {
			s.flags, b = be.Uint32(b), b[4:]
		}
		if flags&trunShifts != 0 {
			// Version 0 has no sign, and yet there are negative ones in it: nobody delays a picture by 2³¹ ticks.
			shift, b = int64(int32(be.Uint32(b))), b[4:]
		}
		dts := f.next[track]
		if dts < 0 || dts > 1<<62 {
			return at, broken("a sample at tick %d", uint64(dts))
		}
		f.next[track] += int64(s.lasts)
		p := piece{track: track, entry: entry, dts: dts, shift: shift, lasts: int64(s.lasts),
			key: t.Kind == media.Audio || s.flags&(1<<16) == 0, offset: at, size: int64(s.size)}
		at += p.size
		if refused != nil || t.Kind == 0 || p.size == 0 {
			continue
		}
		if err := each(p); err != nil {
			return at, err
		}
	}
	return at, nil
}
