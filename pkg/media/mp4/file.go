package mp4

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media"
)

// ErrTorn says that a file or a segment ends in the middle: what is in front of that place is sound. It is an ErrBroken.
var ErrTorn = fmt.Errorf("%w: it ends in the middle", ErrBroken)

// Limits of a File.
const (
	maxFileMoof = 16 << 20 // bytes of a moof
	columnLen   = 4 << 10  // bytes of a table that are in memory at once
	// pcmRun is how many samples of G.711 are given out as one, where they are of at most pcmSample bytes: QuickTime counts
	// each byte as a sample.
	pcmRun    = 1024
	pcmSample = 8
)

// File is an MP4 file of any origin: an ordinary one, a fragmented one, or one with an index and fragments behind it.
type File struct {
	Init
	r reader
}

// FileSample is one sample of a File.
type FileSample struct {
	Track, Entry int   // indexes into Init.Tracks and InitTrack.Entries
	DTS, PTS     int64 // ticks of the track, without the edit list
	Lasts        int64 // ticks
	Key          bool
	Offset       int64
	Size         int64 // at least 1, and inside the file
}

// Open reads the head of a file, which may stand at its end. Memory: at most twice the stsd boxes, each of at most 1 MiB.
// Errors: ErrBroken where there is no whole moov or what it says cannot be, those of the reader.
func Open(r io.ReaderAt, size int64) (*File, error) {
	in, err := readInit(r, size)
	if err != nil {
		return nil, err
	}
	return &File{Init: *in, r: reader{r: r, size: size}}, nil
}

// Samples gives the samples of all tracks that are not Refused, in the order in which they lie in the file; of each
// fragment in the order inside it. At a place where the file is torn or wrong it gives an error (ErrTorn, ErrBroken, those
// of the reader) and ends. Samples without bytes are passed over.
//
// Memory: 24 KiB for each track; for each fragment its moof, up to 16 MiB, and 80 bytes for each of its samples, up to
// 2²⁰.
func (f *File) Samples() iter.Seq2[FileSample, error] {
	return func(yield func(FileSample, error) bool) {
		if !f.indexed(yield) {
			return
		}
		f.fragmented(yield)
	}
}

// Data reads a sample; buf is used if it is large enough.
func (f *File) Data(s FileSample, buf []byte) ([]byte, error) {
	if s.Size < 0 || s.Offset < 0 || s.Offset+s.Size > f.r.size {
		return nil, broken("a sample of %d bytes at %d of a file of %d", s.Size, s.Offset, f.r.size)
	}
	if int64(cap(buf)) < s.Size {
		buf = make([]byte, s.Size)
	}
	buf = buf[:s.Size]
	return buf, f.r.read(buf, s.Offset)
}

// Content is media.Chain over all samples in the order of the file: Writer.Content of a file that liverec made, in each
// of its states. It reads the whole file, 256 KiB at a time. With ErrTorn it holds for what is in front.
func (f *File) Content() (content uint64, video, audio int64, err error) {
	d := digest{hash: xxhash.New()}
	for s, err := range f.Samples() {
		if err != nil {
			return content, video, audio, err
		}
		pictures := f.Tracks[s.Track].Kind == media.Video
		if pictures {
			video++
		} else {
			audio++
		}
		sum, err := d.sum(&f.r, pictures, s.Offset, s.Size)
		if err != nil {
			return content, video, audio, err
		}
		content = media.Chain(content, uint64(video+audio), sum)
	}
	return content, video, audio, nil
}

// digest makes sums of what lies in a file.
type digest struct {
	hash   *xxhash.Digest
	window []byte
}

const hashWindow = 256 << 10

func (d *digest) sum(r *reader, video bool, at, size int64) (uint64, error) {
	if d.window == nil {
		d.window = make([]byte, hashWindow)
	}
	d.hash.Reset()
	d.window[0] = kindByte(video)
	d.hash.Write(d.window[:1])
	for end := at + size; at < end; {
		b := d.window[:min(hashWindow, end-at)]
		if err := r.read(b, at); err != nil {
			return 0, err
		}
		d.hash.Write(b)
		at += int64(len(b))
	}
	return d.hash.Sum64(), nil
}

// kindByte is the FLV tag type, which every sum begins with.
func kindByte(video bool) byte {
	if video {
		return 9
	}
	return 8
}

// indexed gives the samples that the moov lists. It returns false when that is all.
func (f *File) indexed(yield func(FileSample, error) bool) bool {
	var cursors []*cursor
	for i := range f.Tracks {
		if t := &f.Tracks[i]; t.Refused == nil && t.Kind != 0 {
			c, err := newCursor(&f.r, t, i)
			if err == nil {
				err = c.advance()
			}
			if err != nil {
				yield(FileSample{}, err)
				return false
			}
			if !c.done {
				cursors = append(cursors, c)
			}
		}
	}
	for len(cursors) > 0 {
		first := 0
		for i, c := range cursors {
			if c.s.Offset < cursors[first].s.Offset {
				first = i
			}
		}
		c := cursors[first]
		if c.s.Offset+c.s.Size > f.r.size {
			yield(FileSample{}, fmt.Errorf("%w: a sample of %d bytes at %d of %d", ErrTorn, c.s.Size, c.s.Offset, f.r.size))
			return false
		}
		if c.refused() == nil && !yield(c.s, nil) {
			return false
		}
		if err := c.advance(); err != nil {
			yield(FileSample{}, err)
			return false
		}
		if c.done {
			cursors = slices.Delete(cursors, first, first+1)
		}
	}
	return true
}

// fragmented gives the samples of the fragments.
func (f *File) fragmented(yield func(FileSample, error) bool) {
	d := newFragments(&f.Init)
	var moof []byte
	var pieces []piece
	var torn piece // that lies outside of the file
	for at := int64(0); at < f.r.size; {
		h, whole, err := f.r.header(at, f.r.size)
		if err == nil && h.typ == fourCC("moof") && whole && h.size > maxFileMoof {
			err = broken("a moof of %d bytes at %d", h.size, at)
		}
		if err == nil && h.typ == fourCC("moof") && whole {
			if int64(cap(moof)) < h.size {
				moof = make([]byte, h.size)
			}
			moof, pieces = moof[:h.size], pieces[:0]
			if err = f.r.read(moof, at); err == nil {
				torn = piece{}
				err = d.parse(moof[h.head:], at, at+h.size, func(p piece) error {
					if p.offset >= 0 && p.offset+p.size <= f.r.size {
						pieces = append(pieces, p)
					} else if torn.size == 0 || p.offset < torn.offset {
						torn = p // a million of them may be described in a few bytes: the first one in the file is enough
					}
					return nil
				})
				if torn.size > 0 {
					pieces = append(pieces, torn)
				}
			}
			slices.SortStableFunc(pieces, func(a, b piece) int { return cmp.Compare(a.offset, b.offset) })
			for _, p := range pieces {
				if p.offset < 0 || p.offset+p.size > f.r.size {
					yield(FileSample{}, fmt.Errorf("%w: a sample of %d bytes at %d of %d", ErrTorn, p.size, p.offset, f.r.size))
					return
				}
				if !yield(FileSample{Track: p.track, Entry: p.entry, DTS: p.dts, PTS: p.dts + p.shift, Lasts: p.lasts, Key: p.key,
					Offset: p.offset, Size: p.size}, nil) {
					return
				}
			}
		}
		if err == nil && !whole {
			err = fmt.Errorf("%w: box %v of %d bytes at %d of %d", ErrTorn, h.typ, h.size, at, f.r.size)
		}
		if err != nil {
			yield(FileSample{}, err)
			return
		}
		at += h.size
	}
}

// column is a table in the file, of which a window is in memory.
type column struct {
	r      *reader
	at     int64 // of the first entry
	entry  int64 // bytes of each
	n      int64
	window []byte
	from   int64 // first entry in window
}

// newColumn looks at a table with a count behind skip bytes. A box that is not there is an empty table.
func newColumn(r *reader, e extent, skip, entry int64) (c column, err error) {
	c = column{r: r, at: e.at + skip + 4, entry: entry}
	if e.size == 0 {
		return c, nil
	}
	if e.size < skip+4 {
		return c, broken("a table of %d bytes", e.size)
	}
	var b [4]byte
	if err := r.read(b[:], e.at+skip); err != nil {
		return c, err
	}
	c.n = int64(be.Uint32(b[:]))
	if c.n*entry > e.size-skip-4 {
		return c, broken("a table of %d entries in %d bytes", c.n, e.size)
	}
	return c, nil
}

// get gives the bytes of entry i, valid until the next call.
func (c *column) get(i int64) ([]byte, error) {
	if at := (i - c.from) * c.entry; i >= c.from && at+c.entry <= int64(len(c.window)) {
		return c.window[at : at+c.entry], nil
	}
	if c.window == nil {
		c.window = make([]byte, columnLen)
	}
	n := min(columnLen/c.entry, c.n-i)
	c.window, c.from = c.window[:n*c.entry], i
	if err := c.r.read(c.window, c.at+i*c.entry); err != nil {
		c.window = c.window[:0]
		return nil, err
	}
	return c.window[:c.entry], nil
}

// runs walks a table of (count, value).
type runs struct {
	column
	next  int64
	left  uint32
	value uint32
}

// take uses up to n of the current run; where the table has ended the last value goes on.
func (r *runs) take(n uint32) (got, value uint32, err error) {
	for r.left == 0 && r.next < r.n {
		b, err := r.get(r.next)
		if err != nil {
			return 0, 0, err
		}
		r.left, r.value = be.Uint32(b), be.Uint32(b[4:])
		r.next++
	}
	if r.left == 0 {
		return n, r.value, nil
	}
	n = min(n, r.left)
	r.left -= n
	return n, r.value, nil
}

// cursor walks the index of one track.
type cursor struct {
	t    *InitTrack
	s    FileSample // the current one
	done bool

	deltas, shifts              runs
	keys, chunkRuns, sizes, off column
	fixed                       uint32 // size of each sample; 0: see sizes
	bits                        int64  // of an entry of stz2
	count                       int64
	i                           int64 // of the next sample
	dts                         int64
	key                         int64 // next entry of keys
	chunk, chunkRun             int64 // next ones
	perChunk, entry, left       uint32
	offset                      int64
	budget                      int64 // bytes that may still come: a track is not larger than its file
}

func newCursor(r *reader, t *InitTrack, index int) (*cursor, error) {
	x := &t.tables
	c := &cursor{t: t, budget: r.size, s: FileSample{Track: index}}
	for _, col := range []struct {
		to    *column
		e     extent
		entry int64
	}{{&c.deltas.column, x.stts, 8}, {&c.shifts.column, x.ctts, 8}, {&c.keys, x.stss, 4}, {&c.chunkRuns, x.stsc, 12}} {
		var err error
		if *col.to, err = newColumn(r, col.e, 4, col.entry); err != nil {
			return nil, err
		}
	}
	var err error
	if x.co64.size > 0 {
		c.off, err = newColumn(r, x.co64, 4, 8)
	} else {
		c.off, err = newColumn(r, x.stco, 4, 4)
	}
	if err != nil {
		return nil, err
	}
	return c, c.readSizes(r)
}

func (c *cursor) readSizes(r *reader) error {
	e, small := c.t.tables.stsz, c.t.tables.stz2
	if e.size == 0 && small.size == 0 {
		return nil
	}
	var b [12]byte
	if e.size == 0 {
		e = small
	} else {
		small.size = 0
	}
	if e.size < 12 {
		return broken("a table of sizes of %d bytes", e.size)
	}
	if err := r.read(b[:], e.at); err != nil {
		return err
	}
	c.count, c.bits = int64(be.Uint32(b[8:])), 32
	if small.size > 0 {
		c.bits = int64(b[7])
		if c.bits != 4 && c.bits != 8 && c.bits != 16 {
			return broken("sizes of %d bits", c.bits)
		}
	} else if c.fixed = be.Uint32(b[4:]); c.fixed != 0 {
		return nil
	}
	if (c.count*c.bits+7)/8 > e.size-12 {
		return broken("a table of %d sizes in %d bytes", c.count, e.size)
	}
	entry := max(c.bits/8, 1)
	c.sizes = column{r: r, at: e.at + 12, entry: entry, n: (c.count*c.bits + 7) / 8 / entry}
	return nil
}

func (c *cursor) size(i int64) (int64, error) {
	if c.fixed != 0 {
		return int64(c.fixed), nil
	}
	at := i
	if c.bits == 4 {
		at = i / 2
	}
	b, err := c.sizes.get(at)
	if err != nil {
		return 0, err
	}
	switch c.bits {
	case 4:
		return int64(b[0]>>(4*(1-i%2))) & 15, nil
	case 8:
		return int64(b[0]), nil
	case 16:
		return int64(be.Uint16(b)), nil
	}
	return int64(be.Uint32(b)), nil
}

func (c *cursor) refused() error {
	if c.s.Entry < len(c.t.refused) {
		return c.t.refused[c.s.Entry]
	}
	return nil
}

// advance goes to the next sample that has bytes.
func (c *cursor) advance() error {
	for c.i < c.count {
		for c.left == 0 {
			if err := c.nextChunk(); err != nil {
				return err
			}
		}
		n := uint32(1)
		if c.fixed != 0 && c.fixed <= pcmSample && (c.t.Codec == media.PCMA || c.t.Codec == media.PCMU) {
			n = uint32(min(pcmRun, int64(c.left), c.count-c.i))
		}
		n, lasts, err := c.deltas.take(n)
		if err != nil {
			return err
		}
		size, err := c.size(c.i)
		if err != nil {
			return err
		}
		_, shift, err := c.shifts.take(1)
		if err != nil {
			return err
		}
		key, err := c.isKey()
		if err != nil {
			return err
		}
		size *= int64(n)
		entry := int(c.entry) - 1
		if entry < 0 || entry >= len(c.t.Entries) {
			entry = 0
		}
		c.s = FileSample{Track: c.s.Track, Entry: entry, DTS: c.dts, PTS: c.dts + int64(int32(shift)), Lasts: int64(lasts) * int64(n), Key: key,
			Offset: c.offset, Size: size}
		c.i += int64(n)
		c.left -= n
		c.dts += c.s.Lasts
		c.offset += size
		if size == 0 {
			continue
		}
		if c.budget -= size; c.budget < 0 {
			return broken("a track that is larger than its file")
		}
		return nil
	}
	c.done = true
	return nil
}

func (c *cursor) nextChunk() error {
	if c.chunk >= c.off.n {
		return broken("%d samples, but the chunks end at %d", c.count, c.i)
	}
	for c.chunkRun < c.chunkRuns.n {
		b, err := c.chunkRuns.get(c.chunkRun)
		if err != nil {
			return err
		}
		if int64(be.Uint32(b)) > c.chunk+1 {
			break
		}
		c.perChunk, c.entry = be.Uint32(b[4:]), be.Uint32(b[8:])
		c.chunkRun++
	}
	b, err := c.off.get(c.chunk)
	if err != nil {
		return err
	}
	if len(b) == 8 {
		c.offset = int64(be.Uint64(b))
	} else {
		c.offset = int64(be.Uint32(b))
	}
	if c.offset < 0 || c.offset > 1<<62 {
		return broken("a chunk at %d", uint64(c.offset))
	}
	c.left = c.perChunk
	c.chunk++
	return nil
}

func (c *cursor) isKey() (bool, error) {
	if !c.t.tables.hasStss || c.t.Kind == media.Audio {
		return true, nil
	}
	for c.key < c.keys.n {
		b, err := c.keys.get(c.key)
		if err != nil {
			return false, err
		}
		switch n := int64(be.Uint32(b)); {
		case n == c.i+1:
			return true, nil
		case n > c.i+1:
			return false, nil
		}
		c.key++
	}
	return false, nil
}
