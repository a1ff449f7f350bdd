package probe

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// What a file may cost to look at. One sample costs 64 bytes with its place in the order of the file, so 1 GB is the most
// that a hostile file can ask for, if it is as large as it says; an hour of a broadcast has about 300 000.
const (
	maxMovie   = 256 << 20 // of a moov or moof
	maxSamples = 1 << 24   // of all tracks, in each of the two lists
	maxSample  = 256 << 20
	maxTracks  = 64
)

// sample is one frame. Times are in units of its track.
type sample struct {
	dts, shift int64 // shift: PTS - DTS
	at         int64 // in the file
	size       uint32
	lasts      uint32
	key        bool
}

// box is where a box lies.
type box struct {
	kind           string
	at, body, next int64
}

// mp4Track is one trak.
type mp4Track struct {
	id        uint32
	handler   string
	codec     string
	config    []byte
	configErr error
	tag       string // of the sample entry
	entries   int
	other     bool // samples use another entry than the first
	width     int
	height    int
	rate      int
	timescale int64
	duration  int64 // of mdhd, in units
	empty     int64 // leading empty edit, in units of the movie
	skip      int64 // media time of the first edit, in units
	shown     int64 // length of that edit, in units of the movie; 0: to the end
	edited    bool
	samples   []sample // of the tables

	// defaults of fragments
	lasts, size, flags uint32
}

// movie is one moov.
type movie struct {
	at         int64
	timescale  int64
	duration   int64
	fragmented bool // mvex
	tracks     []*mp4Track
}

func (m *movie) track(id uint32) *mp4Track {
	for _, t := range m.tracks {
		if t.id == id {
			return t
		}
	}
	return nil
}

// mp4File is what one run over the boxes of a file, or of the inside of an mdat, finds.
type mp4File struct {
	c      *checker
	src    io.ReaderAt
	movies []*movie
	moofs  int
	frags  map[uint32][]sample // by track
	end    map[uint32]int64    // where the last fragment of a track ends, in units
	data   []box               // mdat
	head   []string            // the first boxes
	boxes  int
	total  int // samples
	size   int64
}

func newMP4File(c *checker, src io.ReaderAt, size int64) *mp4File {
	return &mp4File{c: c, src: src, size: size, frags: map[uint32][]sample{}, end: map[uint32]int64{}}
}

var errTornBox = errors.New("torn box")

// readBox reads the header of the box at a place.
func readBox(src io.ReaderAt, at, end int64) (box, error) {
	var h [16]byte
	if end-at < 8 {
		return box{}, errTornBox
	}
	n, err := src.ReadAt(h[:min(end-at, 16)], at)
	if n < 8 {
		return box{}, err
	}
	size := int64(binary.BigEndian.Uint32(h[:]))
	b := box{kind: string(h[4:8]), at: at, body: at + 8}
	switch size {
	case 0:
		b.next = end
		return b, nil
	case 1:
		if n < 16 {
			return b, errTornBox
		}
		size, b.body = int64(binary.BigEndian.Uint64(h[8:])), at+16
	}
	if size < b.body-at || size > math.MaxInt64-at {
		return b, fmt.Errorf("a box of %d bytes", size)
	}
	b.next = at + size
	return b, nil
}

var topBoxes = []string{"ftyp", "styp", "moov", "moof", "mdat", "free", "skip", "wide", "sidx", "ssix", "prft", "emsg", "mfra",
	"uuid", "meta", "pdin", "udta"}

// walk reads the boxes from one place to another. The error is one of reading, not of content.
func (f *mp4File) walk(at, end int64) error {
	for at < end {
		b, err := readBox(f.src, at, end)
		switch {
		case errors.Is(err, errTornBox) || err == io.EOF:
			f.c.problem(Tail, at, "%d bytes of a box header", end-at)
			return nil
		case err != nil && b.kind == "":
			return err
		case err != nil:
			f.c.problem(Framing, at, "%v", err)
			return nil
		}
		if !slices.Contains(topBoxes, b.kind) {
			f.c.problem(Framing, at, "no box begins with %q", b.kind)
			return nil // nothing behind it can be believed
		}
		if f.boxes++; len(f.head) < 4 {
			f.head = append(f.head, b.kind)
		}
		if b.next > end {
			f.c.problem(Tail, at, "%d of %d bytes of %s", end-at, b.next-at, b.kind)
			b.next = end
			if b.kind != "mdat" {
				return nil
			}
		}
		switch b.kind {
		case "moov", "moof":
			if b.next-b.body > maxMovie {
				f.c.problem(Framing, at, "%s of %d bytes", b.kind, b.next-at)
				return nil
			}
			body := make([]byte, b.next-b.body)
			if _, err := f.src.ReadAt(body, b.body); err != nil {
				return fmt.Errorf("read %s at %d: %w", b.kind, at, err)
			}
			if b.kind == "moov" {
				err = f.movie(b, body)
			} else {
				f.moofs++
				err = f.fragment(b, body)
			}
			if err != nil {
				f.c.problem(Framing, at, "%s: %v", b.kind, err)
			}
		case "mdat":
			f.data = append(f.data, b)
		}
		at = b.next
	}
	return nil
}

// children calls f for each box in b.
func children(b []byte, f func(kind string, body []byte) error) error {
	for len(b) > 0 {
		if len(b) < 8 {
			return errTornBox
		}
		n, head := uint64(binary.BigEndian.Uint32(b)), uint64(8)
		switch {
		case n == 0:
			n = uint64(len(b))
		case n == 1 && len(b) >= 16:
			n, head = binary.BigEndian.Uint64(b[8:]), 16
		}
		if n < head || n > uint64(len(b)) {
			return fmt.Errorf("box %q of %d bytes, %d are left", b[4:8], n, len(b))
		}
		if err := f(string(b[4:8]), b[head:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// fields reads numbers one after the other. Reading past the end gives zeros and sets over.
type fields struct {
	b    []byte
	over bool
}

func (f *fields) u(n int) (v uint64) {
	if n > len(f.b) {
		f.over, f.b = true, nil
		return 0
	}
	for _, c := range f.b[:n] {
		v = v<<8 | uint64(c)
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) u32() uint32 { return uint32(f.u(4)) }

// full reads version and flags of a full box.
func (f *fields) full() (version uint8, flags uint32) {
	v := f.u32()
	return uint8(v >> 24), v & 0xffffff
}

// wide is 8 bytes in version 1, else 4.
func (f *fields) wide(version uint8) uint64 {
	if version == 1 {
		return f.u(8)
	}
	return f.u(4)
}

func (f *mp4File) movie(at box, body []byte) error {
	m := &movie{at: at.at}
	var extends []byte
	err := children(body, func(kind string, b []byte) error {
		in := &fields{b: b}
		switch kind {
		case "mvhd":
			v, _ := in.full()
			in.wide(v)
			in.wide(v)
			m.timescale, m.duration = int64(in.u(4)), int64(in.wide(v))
			if in.over || m.timescale == 0 {
				return errors.New("torn mvhd")
			}
		case "mvex":
			m.fragmented, extends = true, b
		case "trak":
			if len(m.tracks) == maxTracks {
				return errors.New("too many tracks")
			}
			t := &mp4Track{}
			m.tracks = append(m.tracks, t)
			if err := f.track(t, b); err != nil {
				return fmt.Errorf("track %d: %w", t.id, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if m.timescale == 0 {
		return errors.New("no mvhd")
	}
	f.movies = append(f.movies, m)
	return children(extends, func(kind string, b []byte) error {
		if kind != "trex" {
			return nil
		}
		in := &fields{b: b}
		in.full()
		if t := m.track(in.u32()); t != nil {
			in.u32()
			t.lasts, t.size, t.flags = in.u32(), in.u32(), in.u32()
		}
		return nil
	})
}

func (f *mp4File) track(t *mp4Track, body []byte) error {
	var tables []byte
	err := children(body, func(kind string, b []byte) error {
		switch kind {
		case "tkhd":
			in := &fields{b: b}
			v, _ := in.full()
			in.wide(v)
			in.wide(v)
			t.id = in.u32()
		case "edts":
			return children(b, func(kind string, b []byte) error {
				if kind == "elst" {
					t.edits(b)
				}
				return nil
			})
		case "mdia":
			return children(b, func(kind string, b []byte) error {
				in := &fields{b: b}
				switch kind {
				case "mdhd":
					v, _ := in.full()
					in.wide(v)
					in.wide(v)
					t.timescale, t.duration = int64(in.u(4)), int64(in.wide(v))
				case "hdlr":
					in.full()
					in.u32()
					if len(in.b) >= 4 {
						t.handler = string(in.b[:4])
					}
				case "minf":
					return children(b, func(kind string, b []byte) error {
						if kind == "stbl" {
							tables = b
						}
						return nil
					})
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if t.timescale <= 0 || t.timescale > 1e9 {
		return fmt.Errorf("timescale %d", t.timescale)
	}
	return f.tables(t, tables)
}

// edits reads an edit list: an empty edit in front, then the one that is played.
func (t *mp4Track) edits(b []byte) {
	in := &fields{b: b}
	v, _ := in.full()
	for n := in.u32(); n > 0 && !in.over; n-- {
		long := int64(in.wide(v))
		var media int64
		if v == 1 {
			media = int64(in.u(8))
		} else {
			media = int64(int32(in.u32()))
		}
		in.u32()
		if in.over || t.edited {
			return
		}
		if media == -1 {
			t.empty += long
		} else {
			t.skip, t.shown, t.edited = media, long, true
		}
	}
}

// tables reads stbl: what the track is coded with, and its samples.
func (f *mp4File) tables(t *mp4Track, body []byte) error {
	part := map[string][]byte{}
	err := children(body, func(kind string, b []byte) error {
		if _, twice := part[kind]; twice && kind != "sgpd" && kind != "sbgp" && kind != "saiz" && kind != "saio" {
			return fmt.Errorf("%s comes twice", kind)
		}
		part[kind] = b
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.describe(part["stsd"]); err != nil {
		return err
	}
	// sizes
	in := &fields{b: part["stsz"]}
	in.full()
	constant, count := in.u32(), in.u32()
	if count == 0 || part["stsz"] == nil {
		if part["stz2"] != nil {
			return errors.New("compact sample sizes are not read here")
		}
		return nil
	}
	if constant == 0 && int(count) > len(in.b)/4 || constant > 0 && int64(count) > f.size/int64(constant) || f.total+int(count) > maxSamples {
		return fmt.Errorf("%d samples", count)
	}
	f.total += int(count)
	list := make([]sample, count)
	for i := range list {
		if list[i].size = constant; constant == 0 {
			list[i].size = in.u32()
		}
	}
	// times
	in = &fields{b: part["stts"]}
	in.full()
	i, now := 0, int64(0)
	for runs := in.u32(); runs > 0 && !in.over; runs-- {
		n, delta := in.u32(), in.u32()
		for ; n > 0; n-- {
			if i == len(list) {
				return errors.New("stts has more samples than stsz")
			}
			list[i].dts, list[i].lasts = now, delta
			now += int64(delta)
			i++
		}
	}
	if i != len(list) {
		return fmt.Errorf("stts has %d of %d samples", i, len(list))
	}
	if b := part["ctts"]; b != nil {
		in = &fields{b: b}
		in.full()
		i = 0
		for runs := in.u32(); runs > 0 && !in.over; runs-- {
			n, shift := in.u32(), int64(int32(in.u32()))
			for ; n > 0; n-- {
				if i == len(list) {
					return errors.New("ctts has more samples than stsz")
				}
				list[i].shift = shift
				i++
			}
		}
		if i != len(list) {
			return fmt.Errorf("ctts has %d of %d samples", i, len(list))
		}
	}
	if b := part["stss"]; b != nil {
		in = &fields{b: b}
		in.full()
		last := uint32(0)
		for n := in.u32(); n > 0 && !in.over; n-- {
			k := in.u32()
			if k <= last || k > count {
				return fmt.Errorf("stss names sample %d after %d", k, last)
			}
			list[k-1].key = true
			last = k
		}
	} else {
		for i := range list {
			list[i].key = true
		}
	}
	t.samples = list
	return t.places(part, list)
}

// places works out where the samples of a track are: stsc says how many are in each chunk, stco or co64 where it begins.
func (t *mp4Track) places(part map[string][]byte, list []sample) error {
	chunks, width := &fields{b: part["stco"]}, 4
	if b := part["co64"]; b != nil {
		chunks, width = &fields{b: b}, 8
	}
	chunks.full()
	n := chunks.u32()
	if int(n) > len(chunks.b)/width {
		return fmt.Errorf("%d chunks", n)
	}
	runs := &fields{b: part["stsc"]}
	runs.full()
	left := runs.u32()
	if int(left) > len(runs.b)/12 || left == 0 {
		return fmt.Errorf("stsc with %d entries", left)
	}
	first, per, desc := runs.u32(), runs.u32(), runs.u32()
	if first != 1 {
		return fmt.Errorf("stsc begins with chunk %d", first)
	}
	next := uint32(math.MaxUint32)
	var nextPer, nextDesc uint32
	more := func() {
		next = math.MaxUint32
		if left--; left > 0 {
			next, nextPer, nextDesc = runs.u32(), runs.u32(), runs.u32()
		}
	}
	more()
	i := 0
	for k := uint32(1); k <= n; k++ {
		if k == next {
			per, desc = nextPer, nextDesc
			more()
		}
		t.other = t.other || desc != 1
		at := int64(chunks.u(width))
		for range per {
			if i == len(list) {
				return errors.New("the chunks hold more samples than stsz")
			}
			list[i].at = at
			at += int64(list[i].size)
			i++
		}
	}
	if i != len(list) {
		return fmt.Errorf("the chunks hold %d of %d samples", i, len(list))
	}
	return nil
}

// describe reads stsd.
func (t *mp4Track) describe(b []byte) error {
	in := &fields{b: b}
	in.full()
	in.u32()
	if in.over {
		return errors.New("no sample description")
	}
	return children(in.b, func(kind string, b []byte) error {
		if t.entries++; t.entries > 1 {
			return nil
		}
		t.tag = kind
		head := 28
		switch t.handler {
		case "vide":
			head = 78
			if len(b) >= head {
				t.width, t.height = int(binary.BigEndian.Uint16(b[24:])), int(binary.BigEndian.Uint16(b[26:]))
			}
		case "soun":
			if len(b) >= head {
				t.rate = int(binary.BigEndian.Uint16(b[24:]))
				switch binary.BigEndian.Uint16(b[8:]) { // QuickTime's versions
				case 1:
					head += 16
				case 2:
					head += 36
				}
			}
		default:
			return nil
		}
		if len(b) < head {
			return fmt.Errorf("sample entry of %d bytes", len(b))
		}
		t.codec = map[string]string{
			"avc1": "avc", "avc3": "avc", "hvc1": "hevc", "hev1": "hevc", "av01": "av1", "vp09": "vp9", "vp08": "vp8",
			"Opus": "opus", "ac-3": "ac-3", "ec-3": "ec-3", "fLaC": "flac", "alaw": "g711a", "ulaw": "g711u", ".mp3": "mp3",
		}[kind]
		if t.codec == "" && kind != "mp4a" {
			t.codec = "unknown"
		}
		return children(b[head:], t.extra)
	})
}

// extra takes a box behind a sample entry.
func (t *mp4Track) extra(kind string, b []byte) error {
	switch kind {
	case "avcC", "hvcC", "av1C", "vpcC", "dOps", "dac3", "dec3", "dfLa":
		t.config = bytes.Clone(b)
	case "wave": // QuickTime
		return children(b, t.extra)
	case "esds":
		kind, config, err := readESDS(b)
		t.codec, t.config, t.configErr = kind, bytes.Clone(config), err
	}
	return nil
}

// readESDS reads an elementary stream descriptor (ISO/IEC 14496-1, 7.2.6).
func readESDS(b []byte) (codec string, config []byte, err error) {
	in := &fields{b: b}
	in.full()
	descriptor := func(want byte) bool {
		tag := byte(in.u(1))
		n := 0
		for range 4 {
			c := int(in.u(1))
			n = n<<7 | c&0x7f
			if c&0x80 == 0 {
				break
			}
		}
		if tag != want || n > len(in.b) || in.over {
			return false
		}
		in.b = in.b[:n]
		return true
	}
	if !descriptor(3) {
		return "unknown", nil, errors.New("torn esds")
	}
	in.u(2)
	flags := in.u(1)
	if flags&0x80 != 0 {
		in.u(2)
	}
	if flags&0x40 != 0 {
		for n := in.u(1); n > 0; n-- {
			in.u(1)
		}
	}
	if flags&0x20 != 0 {
		in.u(2)
	}
	if !descriptor(4) {
		return "unknown", nil, errors.New("torn esds")
	}
	object := in.u(1)
	in.u(12)
	switch object {
	case 0x40, 0x66, 0x67, 0x68:
		codec = "aac"
	case 0x69, 0x6b:
		return "mp3", nil, nil
	case 0xa5:
		return "ac-3", nil, nil
	default:
		return "unknown", nil, nil
	}
	if !descriptor(5) {
		return codec, nil, errors.New("esds without a decoder configuration")
	}
	return codec, in.b, nil
}

// fragment reads one moof.
func (f *mp4File) fragment(at box, body []byte) error {
	if len(f.movies) == 0 {
		return errors.New("a fragment before any moov")
	}
	m := f.movies[0]
	next := at.at // where data goes on
	begun := false
	return children(body, func(kind string, b []byte) error {
		if kind != "traf" {
			return nil
		}
		var t *mp4Track
		var base, decode int64
		var lasts, size, flags uint32
		timed := false
		err := children(b, func(kind string, b []byte) error {
			in := &fields{b: b}
			v, bits := in.full()
			switch kind {
			case "tfhd":
				id := in.u32()
				if t = m.track(id); t == nil {
					return fmt.Errorf("a fragment of track %d", id)
				}
				lasts, size, flags = t.lasts, t.size, t.flags
				base = next
				if bits&0x20000 != 0 || !begun {
					base = at.at
				}
				begun = true
				if bits&1 != 0 {
					base = int64(in.u(8))
				}
				next = base
				if bits&2 != 0 {
					t.other = t.other || in.u32() != 1
				}
				if bits&8 != 0 {
					lasts = in.u32()
				}
				if bits&0x10 != 0 {
					size = in.u32()
				}
				if bits&0x20 != 0 {
					flags = in.u32()
				}
				if in.over {
					return errors.New("torn tfhd")
				}
				decode = f.end[id]
				if n := len(t.samples); n > 0 && len(f.frags[id]) == 0 {
					decode = t.samples[n-1].dts + int64(t.samples[n-1].lasts)
				}
			case "tfdt":
				if decode, timed = int64(in.wide(v)), true; in.over || decode < 0 {
					return errors.New("torn tfdt")
				}
			case "trun":
				if t == nil {
					return errors.New("trun before tfhd")
				}
				count := in.u32()
				first, hasFirst := uint32(0), false
				if bits&1 != 0 {
					next = base + int64(int32(in.u32()))
				}
				if bits&4 != 0 {
					first, hasFirst = in.u32(), true
				}
				row := 0
				for _, bit := range []uint32{0x100, 0x200, 0x400, 0x800} {
					if bits&bit != 0 {
						row += 4
					}
				}
				if in.over || row > 0 && int(count) > len(in.b)/row || f.total+int(count) > maxSamples ||
					bits&0x200 == 0 && int64(count)*int64(size) > f.size || bits&0x200 == 0 && size == 0 && count > 0 {
					return fmt.Errorf("a run of %d samples", count)
				}
				f.total += int(count)
				for i := range count {
					s := sample{dts: decode, at: next, lasts: lasts, size: size}
					is := flags
					if bits&0x100 != 0 {
						s.lasts = in.u32()
					}
					if bits&0x200 != 0 {
						s.size = in.u32()
					}
					if bits&0x400 != 0 {
						is = in.u32()
					} else if i == 0 && hasFirst {
						is = first
					}
					if bits&0x800 != 0 {
						s.shift = int64(int32(in.u32())) // negative in version 0 as well, by some writers
					}
					s.key = is&0x10000 == 0
					f.frags[t.id] = append(f.frags[t.id], s)
					next += int64(s.size)
					decode += int64(s.lasts)
				}
				f.end[t.id] = decode
			}
			return nil
		})
		if err != nil {
			return err
		}
		if t != nil && !timed {
			f.c.problem(Framing, at.at, "a fragment of track %d without its time (tfdt)", t.id)
		}
		return nil
	})
}

// units turns a time of a track into ns. Files of more than 30 years are cut there.
func units(v, timescale int64) time.Duration {
	q, r := v/timescale, v%timescale
	q = min(max(q, -1e9), 1e9)
	return time.Duration(q*1e9 + r*1e9/timescale)
}

// decoded and shown are the times of a sample with the edit list applied. The decoding time leaves out what the edit
// list skips for the sake of pictures that are shown later than they are decoded, so the first one is at 0.
func (t *mp4Track) times(m *movie, s sample) (dts, pts time.Duration) {
	shift := units(t.empty, m.timescale)
	return shift + units(s.dts, t.timescale), shift + units(s.dts+s.shift-t.skip, t.timescale)
}

func (t *mp4Track) kind() Kind {
	switch t.handler {
	case "vide":
		return Video
	case "soun":
		return Audio
	}
	return ""
}

func readMP4(src io.ReaderAt, size int64) (Report, error) {
	c := &checker{r: Report{Container: "mp4", Size: size}, seen: map[Digest]int64{}}
	f := newMP4File(c, src, size)
	if err := f.walk(0, size); err != nil {
		return c.r, err
	}
	c.r.Tags = f.boxes
	if len(f.head) == 0 || f.head[0] != "ftyp" && f.head[0] != "styp" {
		c.problem(Framing, 0, "the file does not begin with ftyp")
	}
	if len(f.movies) == 0 {
		c.r.Layout = "lost"
		c.problem(Config, 0, "no moov: nothing tells what is in the file")
		return c.r, nil
	}
	m := f.movies[0]
	lists := map[uint32][]sample{}
	switch {
	case m.fragmented && len(f.movies) > 1:
		c.r.Layout = "between"
		final := f.movies[len(f.movies)-1]
		for _, t := range m.tracks {
			lists[t.id] = f.frags[t.id]
		}
		f.agree(m, lists, final)
		f.durations(final)
	case m.fragmented:
		c.r.Layout = "fragmented"
		for _, t := range m.tracks {
			lists[t.id] = append(t.samples, f.frags[t.id]...)
		}
	default:
		c.r.Layout = "plain"
		for _, t := range m.tracks {
			lists[t.id] = t.samples
		}
		if len(f.movies) > 1 {
			c.problem(Framing, f.movies[1].at, "a second moov")
		}
		if f.moofs > 0 {
			c.problem(Framing, 0, "fragments, but a moov that announces none")
		}
		if err := f.hybrid(m, lists); err != nil {
			return c.r, err
		}
		f.durations(m)
	}
	return c.r, f.read(m, lists)
}

// hybrid looks whether the file grew as fragments, which are inside its mdat since it was closed. If so both must tell
// the same.
func (f *mp4File) hybrid(m *movie, lists map[uint32][]sample) error {
	if len(f.data) == 0 {
		return nil
	}
	d := f.data[0]
	b, err := readBox(f.src, d.body, d.next)
	if err != nil || b.kind != "moov" || b.next > d.next {
		return nil
	}
	f.c.r.Layout = "hybrid"
	inner := newMP4File(f.c, f.src, f.size)
	if err := inner.walk(d.body, d.next); err != nil {
		return err
	}
	if len(inner.movies) != 1 || !inner.movies[0].fragmented {
		f.c.problem(Agree, d.at, "%d moov in the mdat of a closed file", len(inner.movies))
		return nil
	}
	grown := inner.movies[0]
	inner.data = nil
	fragments := map[uint32][]sample{}
	for _, t := range grown.tracks {
		fragments[t.id] = append(t.samples, inner.frags[t.id]...)
	}
	inner.agree(grown, fragments, m)
	return nil
}

// agree compares what the fragments tell with what the final tables tell.
func (f *mp4File) agree(m *movie, lists map[uint32][]sample, final *movie) {
	if len(m.tracks) != len(final.tracks) {
		f.c.problem(Agree, final.at, "%d tracks in fragments, %d in the tables", len(m.tracks), len(final.tracks))
	}
	for _, t := range m.tracks {
		other := final.track(t.id)
		if other == nil {
			f.c.problem(Agree, final.at, "track %d is not in the tables", t.id)
			continue
		}
		list := lists[t.id]
		if t.tag != other.tag || t.handler != other.handler || !bytes.Equal(t.config, other.config) {
			f.c.problem(Agree, final.at, "track %d is described in another way by the tables", t.id)
		}
		if len(list) != len(other.samples) {
			f.c.problem(Agree, final.at, "track %d has %d samples in fragments, %d in the tables", t.id, len(list), len(other.samples))
		}
		told := 0
		for i := range min(len(list), len(other.samples)) {
			a, b := list[i], other.samples[i]
			ad, ap := t.times(m, a)
			bd, bp := other.times(final, b)
			var what string
			switch {
			case a.at != b.at || a.size != b.size:
				what = fmt.Sprintf("is at %d with %d bytes in its fragment, at %d with %d by the tables", a.at, a.size, b.at, b.size)
			case a.key != b.key && t.kind() == Video:
				what = "is a key frame in one of the two only"
			case (ad - bd).Abs() > time.Millisecond:
				what = fmt.Sprintf("is decoded at %v by its fragment, at %v by the tables", ad, bd)
			case (ap - bp).Abs() > time.Millisecond:
				what = fmt.Sprintf("is shown at %v by its fragment, at %v by the tables", ap, bp)
			default:
				continue
			}
			f.c.problem(Agree, a.at, "sample %d of track %d %s", i+1, t.id, what)
			if told++; told == 3 {
				break
			}
		}
	}
}

// durations compares what a final moov says of lengths with its tables.
func (f *mp4File) durations(m *movie) {
	longest := time.Duration(0)
	for _, t := range m.tracks {
		n := len(t.samples)
		if n == 0 || t.kind() == "" {
			continue
		}
		last := t.samples[n-1]
		whole := units(last.dts+int64(last.lasts), t.timescale)
		if d := units(t.duration, t.timescale); (d - whole).Abs() > MaxSkew {
			f.c.problem(Metadata, m.at, "track %d says that it lasts %v, its samples last %v", t.id, d, whole)
		}
		end := time.Duration(math.MinInt64)
		for _, x := range t.samples {
			_, pts := t.times(m, x)
			end = max(end, pts+units(int64(x.lasts), t.timescale))
		}
		if t.edited && t.shown > 0 {
			if to := units(t.empty+t.shown, m.timescale); end-to > MaxSkew {
				f.c.problem(Metadata, m.at, "the edit list of track %d ends at %v, its last sample at %v", t.id, to, end)
			}
		}
		longest = max(longest, end)
	}
	f.c.r.Duration = units(m.duration, m.timescale)
	if d := f.c.r.Duration; (d - longest).Abs() > MaxSkew {
		f.c.problem(Metadata, m.at, "the movie says that it lasts %v, its tracks end at %v", d, longest)
	}
}

// order is a sample's place in the file.
type order struct {
	at    int64
	lane  uint32
	index uint32
}

// read goes through all samples: first their times by track, then their bytes in the order of the file.
func (f *mp4File) read(m *movie, lists map[uint32][]sample) error {
	c := f.c
	var lanes []*lane
	byLane := make([]*lane, len(m.tracks))
	n, bytesOf := 0, int64(0)
	for i, t := range m.tracks {
		list := lists[t.id]
		n += len(list)
		for _, s := range list {
			bytesOf += int64(s.size)
		}
		if t.kind() == "" {
			continue
		}
		l := &lane{Track: Track{Kind: t.kind(), Codec: t.codec, Config: t.config, Width: t.width, Height: t.height,
			delay: units(t.skip, t.timescale)}}
		lanes, byLane[i] = append(lanes, l), l
		f.configuration(m, t, l)
		for k, s := range list {
			dts, pts := t.times(m, s)
			lasts := time.Duration(0)
			if k == len(list)-1 {
				lasts = units(int64(s.lasts), t.timescale)
			}
			c.time(l, s.at, dts, pts, lasts)
			if d := pts + units(int64(s.lasts), t.timescale); d > l.Until && s.lasts > 0 {
				l.Until = d
			}
		}
	}
	all := make([]order, 0, n)
	for i, t := range m.tracks {
		for k, s := range lists[t.id] {
			all = append(all, order{s.at, uint32(i), uint32(k)})
		}
	}
	slices.SortStableFunc(all, func(a, b order) int { return cmp.Compare(a.at, b.at) })
	room := int64(0)
	for _, d := range f.data {
		room += d.next - d.body
	}
	if m.fragmented && bytesOf != room && len(f.frags) > 0 {
		c.problem(Frame, 0, "the fragments tell of %d bytes of media, the file has %d", bytesOf, room)
	}
	w := window{src: f.src}
	last, d := int64(0), 0
	for _, o := range all {
		s := lists[m.tracks[o.lane].id][o.index]
		end := s.at + int64(s.size)
		if s.at < last {
			c.problem(Frame, s.at, "two samples share bytes")
		}
		last = max(last, end)
		for d < len(f.data) && s.at >= f.data[d].next {
			d++
		}
		if d == len(f.data) || s.at < f.data[d].body || end > f.data[d].next || s.size > maxSample {
			c.problem(Frame, s.at, "a sample of %d bytes that is not in the data of the file", s.size)
			if l := byLane[o.lane]; l != nil {
				l.Frames++
			}
			continue
		}
		b, err := w.read(s.at, int(s.size))
		if err != nil {
			return fmt.Errorf("read sample at %d: %w", s.at, err)
		}
		switch l := byLane[o.lane]; {
		case l == nil:
		case l.Kind == Video:
			l.last, _ = m.tracks[o.lane].times(m, s)
			c.picture(l, s.at, b, s.key, true)
		default:
			c.sound(l, s.at, b)
		}
	}
	c.finish(lanes)
	return nil
}

// configuration checks what a track says of its codec.
func (f *mp4File) configuration(m *movie, t *mp4Track, l *lane) {
	c := f.c
	name := t.codec
	switch {
	case t.entries != 1 || t.other:
		c.problem(Config, m.at, "the %s configuration changes inside the file", l.Kind)
	case t.tag == "hev1":
		c.problem(Config, m.at, "HEVC is tagged hev1; many players want hvc1")
	case t.tag == "encv" || t.tag == "enca":
		c.problem(Config, m.at, "the %s is encrypted", l.Kind)
	}
	if t.configErr != nil {
		c.problem(Config, m.at, "%s configuration: %v", name, t.configErr)
		return
	}
	if len(t.config) == 0 {
		if needsConfig(name) && name != "unknown" {
			c.problem(Config, m.at, "the %s has no configuration", l.Kind)
		}
		return
	}
	s, err := configure(name, t.config)
	if err != nil {
		c.problem(Config, m.at, "%s configuration: %v", name, err)
	}
	l.shape = s
	if s.width > 0 {
		if t.width != s.width || t.height != s.height {
			c.problem(Metadata, m.at, "the track says %d x %d, its pictures are %d x %d", t.width, t.height, s.width, s.height)
		}
		l.Width, l.Height = s.width, s.height
	}
}

// window reads pieces of a file that come in rising order with few calls.
type window struct {
	src io.ReaderAt
	b   []byte
	at  int64
}

const windowSize = 1 << 20

func (w *window) read(at int64, n int) ([]byte, error) {
	if at < w.at || at+int64(n) > w.at+int64(len(w.b)) {
		want := max(n, windowSize)
		if cap(w.b) < want {
			w.b = make([]byte, want)
		}
		w.b = w.b[:want]
		got, err := w.src.ReadAt(w.b, at)
		if w.b, w.at = w.b[:got], at; got < n {
			return nil, cmp.Or(err, io.ErrUnexpectedEOF)
		}
	}
	return w.b[at-w.at : at-w.at+int64(n)], nil
}
