package mp4

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// ErrEncrypted says that the samples of a track are encrypted.
var ErrEncrypted = errors.New("encrypted")

// Limits of what is read from a head. What is beyond them is refused, not cut.
const (
	maxTracks  = 64
	maxEntries = 64
	maxBox     = 1 << 20 // of a box that is read into memory whole: stsd and smaller ones
	maxDepth   = 1 << 16 // boxes looked at in one head
)

// Init is what the head of a file, or the initialisation section of segments, says.
type Init struct {
	Brand      string // major brand; "" without ftyp
	Fragmented bool   // there is a mvex: samples come in fragments
	Timescale  uint32 // of the movie
	Tracks     []InitTrack

	end int64 // of the moov
}

// InitTrack is one track of a file.
type InitTrack struct {
	ID    uint32
	Kind  media.Kind // Video, Audio; 0: something else, like text
	Track            // as the first sample entry has it; Timescale is the track's own
	// Name of the first sample entry: "avc1", "hev1", …
	Name string
	// Refused says why the samples of this track cannot be had: ErrEncrypted, ErrUnsupported or ErrBroken. Nothing of it
	// is ever given out.
	Refused error
	// Entries are all sample entries. Most files have one.
	Entries []Track
	// Empty and Start are the edit list, in ticks of the track: nothing is shown for Empty ticks, then the track from its
	// own tick Start on. So a sample is shown at PTS - Start + Empty.
	Empty, Start int64
	Duration     int64 // in ticks, as the head has it; 0: not told

	refused []error // of each entry
	trex    defaults
	tables  tables
}

// defaults are what trex or tfhd say of samples that say nothing themselves.
type defaults struct {
	entry, lasts, size, flags uint32
}

// extent is the body of a box somewhere in the file.
type extent struct{ at, size int64 }

// tables are where the index of a track is.
type tables struct {
	stts, ctts, stss, stsc, stsz, stz2, stco, co64 extent
	hasStss                                        bool
}

// ParseInit reads an initialisation section, or a whole file in memory: the first moov counts. Errors: ErrBroken.
func ParseInit(b []byte) (*Init, error) {
	return readInit(bytes.NewReader(b), int64(len(b)))
}

// reader gives the boxes of a file.
type reader struct {
	r     io.ReaderAt
	size  int64
	boxes int // seen so far
	buf   [16]byte
}

func (r *reader) read(b []byte, at int64) error {
	n, err := r.r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d of an MP4 file: %w", len(b), at, err)
}

// header reads the box header at an offset below end. whole is false when no box can be there or it does not end by
// end; a size of 0 is filled in.
func (r *reader) header(at, end int64) (h header, whole bool, err error) {
	n := min(int64(len(r.buf)), end-at)
	if n < 8 {
		return h, false, nil
	}
	if err := r.read(r.buf[:n], at); err != nil {
		return h, false, err
	}
	h, ok := parseHeader(r.buf[:n])
	if h.size == 0 {
		h.size = end - at
	}
	return h, ok && h.size <= end-at, nil
}

// children calls each for the boxes in [at, end).
func (r *reader) children(in extent, each func(typ code, body extent) error) error {
	for at, end := in.at, in.at+in.size; end-at >= 8; {
		if r.boxes++; r.boxes > maxDepth {
			return broken("more than %d boxes in its head", maxDepth)
		}
		h, whole, err := r.header(at, end)
		if err != nil {
			return err
		}
		if !whole {
			return broken("box %v of %d bytes at %d, where %d are left", h.typ, h.size, at, end-at)
		}
		if err := each(h.typ, extent{at + int64(h.head), h.size - int64(h.head)}); err != nil {
			return err
		}
		at += h.size
	}
	return nil
}

// body reads a small box.
func (r *reader) body(e extent) ([]byte, error) {
	if e.size > maxBox {
		return nil, broken("a box of %d bytes in its head", e.size)
	}
	b := make([]byte, e.size)
	return b, r.read(b, e.at)
}

func readInit(src io.ReaderAt, size int64) (*Init, error) {
	r := &reader{r: src, size: size}
	in := &Init{}
	for at := int64(0); ; {
		if r.boxes++; r.boxes > maxDepth {
			return nil, broken("no moov among the first %d boxes", maxDepth)
		}
		h, whole, err := r.header(at, size)
		if err != nil {
			return nil, err
		}
		if !whole {
			return nil, broken("no whole moov: box %v of %d bytes at %d, where %d are left", h.typ, h.size, at, size-at)
		}
		body := extent{at + int64(h.head), h.size - int64(h.head)}
		switch h.typ {
		case fourCC("ftyp"):
			if body.size >= 4 {
				var b [4]byte
				if err := r.read(b[:], body.at); err != nil {
					return nil, err
				}
				in.Brand = code(be.Uint32(b[:])).String()
			}
		case fourCC("moov"):
			in.end = at + h.size
			return in, in.readMoov(r, body)
		}
		at += h.size
	}
}

func (in *Init) readMoov(r *reader, body extent) error {
	var trex []defaults
	var ids []uint32
	err := r.children(body, func(typ code, body extent) error {
		switch typ {
		case fourCC("mvhd"):
			b, err := r.body(body)
			if err != nil {
				return err
			}
			in.Timescale, _ = parseTimes(b)
		case fourCC("trak"):
			if len(in.Tracks) == maxTracks {
				return broken("more than %d tracks", maxTracks)
			}
			in.Tracks = append(in.Tracks, InitTrack{})
			return in.Tracks[len(in.Tracks)-1].readTrak(r, body)
		case fourCC("mvex"):
			in.Fragmented = true
			return r.children(body, func(typ code, body extent) error {
				if typ != fourCC("trex") || len(ids) == maxTracks {
					return nil
				}
				b, err := r.body(body)
				if err != nil {
					return err
				}
				if len(b) < 24 {
					return broken("a trex of %d bytes", len(b))
				}
				ids = append(ids, be.Uint32(b[4:]))
				trex = append(trex, defaults{be.Uint32(b[8:]), be.Uint32(b[12:]), be.Uint32(b[16:]), be.Uint32(b[20:])})
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range in.Tracks {
		t := &in.Tracks[i]
		t.trex.entry = 1
		for j, id := range ids {
			if id == t.ID {
				t.trex = trex[j]
			}
		}
		if t.Empty > 0 && in.Timescale > 0 {
			t.Empty = rescale(t.Empty, int64(in.Timescale), int64(t.Timescale))
		} else {
			t.Empty = 0
		}
	}
	return nil
}

// parseTimes reads what mvhd and mdhd have in common; 0 where it is not there. All ones mean that nobody knows.
func parseTimes(b []byte) (scale uint32, lasts int64) {
	switch {
	case len(b) >= 20 && b[0] == 0:
		scale, lasts = be.Uint32(b[12:]), int64(be.Uint32(b[16:]))
		if lasts == 1<<32-1 {
			lasts = 0
		}
	case len(b) >= 32 && b[0] == 1:
		scale, lasts = be.Uint32(b[20:]), max(int64(be.Uint64(b[24:])), 0)
	}
	return scale, lasts
}

func (t *InitTrack) readTrak(r *reader, body extent) error {
	var entries []byte
	var read func(typ code, body extent) error
	read = func(typ code, body extent) error {
		keep := func(e *extent) error {
			*e = body
			return nil
		}
		switch typ {
		case fourCC("mdia"), fourCC("minf"), fourCC("stbl"), fourCC("edts"):
			return r.children(body, read)
		case fourCC("stts"):
			return keep(&t.tables.stts)
		case fourCC("ctts"):
			return keep(&t.tables.ctts)
		case fourCC("stss"):
			t.tables.hasStss = true
			return keep(&t.tables.stss)
		case fourCC("stsc"):
			return keep(&t.tables.stsc)
		case fourCC("stsz"):
			return keep(&t.tables.stsz)
		case fourCC("stz2"):
			return keep(&t.tables.stz2)
		case fourCC("stco"):
			return keep(&t.tables.stco)
		case fourCC("co64"):
			return keep(&t.tables.co64)
		case fourCC("tkhd"), fourCC("mdhd"), fourCC("hdlr"), fourCC("elst"), fourCC("stsd"):
			b, err := r.body(body)
			if err != nil {
				return err
			}
			return t.readLeaf(typ, b, &entries)
		}
		return nil
	}
	if err := r.children(body, read); err != nil {
		return err
	}
	if t.Track.Timescale == 0 {
		t.Refused = broken("track %d has no clock", t.ID)
		t.Track.Timescale = 1
	}
	return t.readEntries(entries)
}

func (t *InitTrack) readLeaf(typ code, b []byte, entries *[]byte) error {
	short := broken("a %v of %d bytes", typ, len(b))
	switch typ {
	case fourCC("tkhd"):
		at := 12
		if len(b) > 0 && b[0] == 1 {
			at = 20
		}
		if len(b) < at+4 {
			return short
		}
		t.ID = be.Uint32(b[at:])
	case fourCC("mdhd"):
		t.Track.Timescale, t.Duration = parseTimes(b)
	case fourCC("hdlr"):
		if len(b) < 12 {
			return short
		}
		switch code(be.Uint32(b[8:])) {
		case fourCC("vide"):
			t.Kind = media.Video
		case fourCC("soun"):
			t.Kind = media.Audio
		}
	case fourCC("elst"):
		if len(b) < 8 {
			return short
		}
		t.readEdits(b)
	case fourCC("stsd"):
		if len(b) < 8 {
			return short
		}
		*entries = b[8:]
	}
	return nil
}

// readEdits takes the begin of an edit list: an empty edit, and where the first real one starts. Whoever cuts out parts
// of a track by edits gets all of it.
func (t *InitTrack) readEdits(b []byte) {
	n, wide := be.Uint32(b[4:]), b[0] == 1
	for b = b[8:]; n > 0; n-- {
		var lasts, start int64
		switch {
		case wide && len(b) >= 20:
			lasts, start = int64(be.Uint64(b)), int64(be.Uint64(b[8:]))
			b = b[20:]
		case !wide && len(b) >= 12:
			lasts, start = int64(be.Uint32(b)), int64(int32(be.Uint32(b[4:])))
			b = b[12:]
		default:
			return
		}
		if start >= 0 {
			t.Start = start
			return
		}
		if lasts < 0 || t.Empty+lasts < 0 {
			return
		}
		t.Empty += lasts // of the movie's clock, until that is known
	}
}

func (t *InitTrack) readEntries(b []byte) error {
	for {
		typ, body, rest, done, err := next(b)
		if err != nil {
			return err
		}
		if done || len(t.Entries) == maxEntries {
			break
		}
		e, refused := parseEntry(typ, body, t.Kind)
		e.Timescale = t.Track.Timescale
		t.Entries, t.refused = append(t.Entries, e), append(t.refused, refused)
		if t.Name == "" {
			t.Name = typ.String()
		}
		b = rest
	}
	if len(t.Entries) == 0 {
		if t.Refused == nil {
			t.Refused = broken("track %d has no sample entry", t.ID)
		}
		return nil
	}
	if t.Refused == nil {
		t.Refused = t.refused[0]
	}
	t.Track = t.Entries[0]
	return nil
}

// parseEntry reads one sample entry. refused says why its samples are of no use.
func parseEntry(typ code, b []byte, kind media.Kind) (t Track, refused error) {
	if typ == fourCC("encv") || typ == fourCC("enca") {
		return t, fmt.Errorf("%w: sample entry %v (%s)", ErrEncrypted, typ, protection(b, kind))
	}
	var children []byte
	switch kind {
	case media.Video:
		if len(b) < 78 {
			return t, broken("a sample entry %v of %d bytes", typ, len(b))
		}
		t.Width, t.Height = int(be.Uint16(b[24:])), int(be.Uint16(b[26:]))
		children = b[78:]
	case media.Audio:
		if len(b) < 28 {
			return t, broken("a sample entry %v of %d bytes", typ, len(b))
		}
		t.Channels, t.SampleRate = int(be.Uint16(b[16:])), int(be.Uint16(b[24:]))
		children = b[28:]
		switch version := be.Uint16(b[8:]); { // of QuickTime
		case version == 1 && len(children) >= 16:
			children = children[16:]
		case version == 2 && len(children) >= 36:
			t.Channels = int(be.Uint32(children[12:]) & 0xFF)
			children = children[36:]
		}
	default:
		return t, fmt.Errorf("%w: sample entry %v", ErrUnsupported, typ)
	}
	switch typ {
	case fourCC("avc1"), fourCC("avc3"):
		t.Codec = media.AVC
	case fourCC("hvc1"), fourCC("hev1"), fourCC("dvh1"), fourCC("dvhe"):
		t.Codec = media.HEVC
	case fourCC("av01"):
		t.Codec = media.AV1
	case fourCC("vp09"):
		t.Codec = media.VP9
	case fourCC("vp08"):
		t.Codec = media.VP8
	case fourCC("vvc1"), fourCC("vvi1"):
		t.Codec = media.VVC
	case fourCC("mp4a"):
		t.Codec = media.OtherCodec // until the esds says more
	case fourCC("Opus"):
		t.Codec = media.Opus
	case fourCC("ac-3"), fourCC("sac3"):
		t.Codec = media.AC3
	case fourCC("ec-3"):
		t.Codec = media.EAC3
	case fourCC("fLaC"):
		t.Codec = media.FLAC
	case fourCC(".mp3"):
		t.Codec = media.MP3
	case fourCC("alaw"):
		t.Codec = media.PCMA
	case fourCC("ulaw"):
		t.Codec = media.PCMU
	default:
		return t, fmt.Errorf("%w: sample entry %v", ErrUnsupported, typ)
	}
	refused = t.readRecord(children, 0)
	if refused == nil && t.Codec == media.OtherCodec {
		refused = fmt.Errorf("%w: sample entry %v without a codec that is known", ErrUnsupported, typ)
	}
	switch t.Codec {
	case media.AC3, media.EAC3, media.Opus, media.FLAC: // of these the entry often says 2 channels, or a rate that did not fit
		if info, err := codec.Parse(t.Codec, t.Config); err == nil {
			t.SampleRate, t.Channels = info.SampleRate, info.Channels
		}
	}
	return t, refused
}

// readRecord finds the configuration record among the boxes of a sample entry.
func (t *Track) readRecord(b []byte, depth int) error {
	for {
		typ, body, rest, done, err := next(b)
		if err != nil {
			return nil // QuickTime leaves more than boxes behind; a record that is missing shows when it is needed
		}
		if done {
			return nil
		}
		full := func(n int) {
			if len(body) >= 4 {
				body = body[min(n, len(body)):]
			}
			t.Config = bytes.Clone(body)
		}
		switch {
		case typ == fourCC("sinf"):
			return fmt.Errorf("%w: %v with a sinf box", ErrEncrypted, t.Codec)
		case typ == fourCC("wave") && depth == 0:
			if err := t.readRecord(body, depth+1); err != nil {
				return err
			}
		case typ == fourCC("esds") && (t.Codec == media.OtherCodec || t.Codec == media.MP3):
			if len(body) >= 4 {
				t.readESDS(body[4:])
			}
		case t.Codec == media.AVC && typ == fourCC("avcC"), t.Codec == media.HEVC && typ == fourCC("hvcC"),
			t.Codec == media.AV1 && typ == fourCC("av1C"), t.Codec == media.VVC && typ == fourCC("vvcC"),
			t.Codec == media.Opus && typ == fourCC("dOps"), t.Codec == media.AC3 && typ == fourCC("dac3"),
			t.Codec == media.EAC3 && typ == fourCC("dec3"):
			full(0)
		case (t.Codec == media.VP9 || t.Codec == media.VP8) && typ == fourCC("vpcC"), t.Codec == media.FLAC && typ == fourCC("dfLa"):
			full(4)
		case typ == fourCC("colr") && len(body) >= 11 && string(body[:4]) == "nclx":
			t.Colour = Colour{be.Uint16(body[4:]), be.Uint16(body[6:]), be.Uint16(body[8:]), body[10]&0x80 != 0}
		}
		b = rest
	}
}

// readESDS reads the descriptors of an esds box.
func (t *Track) readESDS(b []byte) {
	for len(b) >= 2 {
		tag, n := b[0], 0
		b = b[1:]
		for i := 0; i < 4 && len(b) > 0; i++ {
			x := b[0]
			b = b[1:]
			n = n<<7 | int(x&0x7F)
			if x&0x80 == 0 {
				break
			}
		}
		n = min(n, len(b))
		d := b[:n]
		switch tag {
		case 3: // ES: its fields, then more descriptors
			if len(d) < 3 {
				return
			}
			flags, skip := d[2], 3
			if flags&0x80 != 0 {
				skip += 2
			}
			if flags&0x40 != 0 && len(d) > skip {
				skip += 1 + int(d[skip])
			}
			if flags&0x20 != 0 {
				skip += 2
			}
			b = d[min(skip, len(d)):]
			continue
		case 4: // how to decode
			if len(d) < 13 {
				return
			}
			switch d[0] {
			case 0x40, 0x66, 0x67, 0x68:
				t.Codec = media.AAC
			case 0x69, 0x6B:
				t.Codec = media.MP3
			case 0xA5:
				t.Codec = media.AC3
			case 0xA6:
				t.Codec = media.EAC3
			case 0xAD:
				t.Codec = media.Opus
			}
			b = d[13:]
			continue
		case 5:
			if t.Codec == media.AAC {
				t.Config = bytes.Clone(d)
				if info, err := codec.Parse(t.Codec, d); err == nil {
					t.SampleRate = info.SampleRate
					if info.Channels > 0 {
						t.Channels = info.Channels
					}
				}
			}
			return
		}
		b = b[n:]
	}
}

// protection names the codec that is encrypted and how.
func protection(b []byte, kind media.Kind) string {
	skip := 28
	if kind == media.Video {
		skip = 78
	}
	if len(b) < skip {
		return "broken"
	}
	original, scheme := "unknown codec", "unknown scheme"
	for b = b[skip:]; ; {
		typ, body, rest, done, err := next(b)
		if done || err != nil {
			return original + ", " + scheme
		}
		if typ == fourCC("sinf") {
			for body := body; ; {
				typ, leaf, rest, done, err := next(body)
				if done || err != nil {
					break
				}
				if typ == fourCC("frma") && len(leaf) >= 4 {
					original = code(be.Uint32(leaf)).String()
				}
				if typ == fourCC("schm") && len(leaf) >= 8 {
					scheme = code(be.Uint32(leaf[4:])).String()
				}
				body = rest
			}
		}
		b = rest
	}
}
