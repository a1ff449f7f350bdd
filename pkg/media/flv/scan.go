package flv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// ErrNotFLV says that a file has neither an FLV header nor a tag where the head should end.
var ErrNotFLV = errors.New("not an FLV file")

// Tag is one whole tag of a file.
type Tag struct {
	Type   byte
	Kind   media.Kind
	Key    bool
	DTS    int64 // ms, as it stands in the file
	Offset int64 // of its header in the file
	Body   []byte
	Sum    uint64 // as media.Packet.Sum
}

// ScanConfig is what a Scan is told. All of it may be left out.
type ScanConfig struct {
	// HeadLen is how long the head is known to be: then a head that is garbage does not matter.
	HeadLen int64
	// Video and Audio are the bodies of the sequence headers for the case that the head is garbage.
	Video, Audio []byte
	// Tag is called for the media tags at the end of the file, in their order: for those of the last Last of media time,
	// and for all that begin at From or behind it where From > 0. The body is valid during the call. An error ends the scan.
	Tag  func(Tag) error
	Last time.Duration
	From int64
}

// Track is what a Scan found of one track.
type Track struct {
	Frames      int64
	First, Last int64 // DTS in ms; 0 without frames
}

// Scanned is what a Scan found.
type Scanned struct {
	End       int64 // of the last whole tag: the length that the file should have
	HeadLen   int64 // where the media begins
	HeadSound bool  // the script of the head could be read
	Config    struct {
		Video, Audio []byte // bodies of the sequence headers of the head
	}
	Meta         Metadata // of the script; what of it could be read
	Video, Audio Track
	LastKey      int64 // offset of the last key frame's tag; 0: none
	Others       int64 // tags behind the head that are no media
	Reconfigured int64 // sequence headers behind the head that differ from those in it; never in a file of ours
	// Head stands behind the last tag, index included, ready for Add and Patch; its Len is HeadLen. It is nil for a file
	// whose head has no room for it (one that liverec did not write) or no usable sequence header; then HeadErr says why.
	Head    *Head
	HeadErr error
}

// Scan walks a file that may be torn anywhere: at its end (half a tag, zeros, garbage), or in its head, which is
// patched in place. It reads headers only, except for the tags that the caller wants. Nothing is written.
//
// A tag counts when its PreviousTagSize is right, or wrong with another tag behind it. Errors: ErrNotFLV, those of the
// reader, that of ScanConfig.Tag.
func Scan(r io.ReaderAt, size int64, cfg ScanConfig) (*Scanned, error) {
	w := &walker{r: r, size: size}
	s := &Scanned{}
	if err := s.head(w, cfg); err != nil {
		return nil, err
	}
	var marks []mark
	latest, n := int64(0), 0
	at := s.HeadLen
	for {
		t, ok, err := w.tag(at)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if n%64 == 0 {
			marks = append(marks, mark{at, latest})
		}
		n++
		if err := s.count(w, t); err != nil {
			return nil, err
		}
		if t.isMedia() {
			latest = max(latest, t.dts)
		}
		at += int64(TagOverhead + t.size)
	}
	s.End = at
	if cfg.Tag == nil {
		return s, nil
	}
	return s, s.tell(w, cfg, marks, latest)
}

// mark is a place from which a second walk may begin: the largest DTS before it is known.
type mark struct {
	offset int64
	latest int64
}

// tell calls cfg.Tag for what it asked for.
func (s *Scanned) tell(w *walker, cfg ScanConfig, marks []mark, latest int64) error {
	since := latest - cfg.Last.Milliseconds()
	at := s.End
	for i := len(marks) - 1; i >= 0; i-- {
		at = marks[i].offset
		if (cfg.Last <= 0 || i > 0 && marks[i].latest < since) && (cfg.From <= 0 || at <= cfg.From) {
			break
		}
	}
	var body []byte
	for at < s.End {
		t, ok, err := w.tag(at)
		if err != nil || !ok {
			return err
		}
		if t.isMedia() && (cfg.Last > 0 && t.dts >= since || cfg.From > 0 && at >= cfg.From) {
			if cap(body) < t.size {
				body = make([]byte, t.size, max(t.size, 64<<10))
			}
			body = body[:t.size]
			if err := w.read(body, at+TagHeaderSize); err != nil {
				return err
			}
			err := cfg.Tag(Tag{Type: t.typ, Kind: t.class.Kind, Key: t.class.Key, DTS: t.dts, Offset: at, Body: body, Sum: Sum(t.typ, body)})
			if err != nil {
				return err
			}
		}
		at += int64(TagOverhead + t.size)
	}
	return nil
}

// head finds out where the media begins and what the head says.
func (s *Scanned) head(w *walker, cfg ScanConfig) error {
	var sig [FileHeaderSize]byte
	known := cfg.HeadLen >= int64(FileHeaderSize) && cfg.HeadLen <= w.size
	sound := w.size >= int64(FileHeaderSize)
	if sound {
		if err := w.read(sig[:], 0); err != nil {
			return err
		}
		sound = string(sig[:3]) == "FLV"
	}
	switch {
	case sound:
		s.walkHead(w, sig[:], cfg)
		if w.err != nil {
			return w.err
		}
	case known:
		// Garbage in front, but somebody knows better.
		_, ok, err := w.tag(cfg.HeadLen)
		if err != nil {
			return err
		}
		if !ok && cfg.HeadLen < w.size {
			return fmt.Errorf("%w: no tag behind the head of %d bytes", ErrNotFLV, cfg.HeadLen)
		}
	default:
		return ErrNotFLV
	}
	if known && s.HeadLen != cfg.HeadLen {
		s.HeadLen, s.HeadSound = cfg.HeadLen, false
		if err := s.walkBack(w); err != nil {
			return err
		}
	}
	if s.Config.Video == nil {
		s.Config.Video = cfg.Video
	}
	if s.Config.Audio == nil {
		s.Config.Audio = cfg.Audio
	}
	s.Head, s.HeadErr = s.rebuild()
	return nil
}

// walkHead reads the tags of the head: a script and sequence headers, up to the first media tag.
func (s *Scanned) walkHead(w *walker, sig []byte, cfg ScanConfig) {
	at := min(int64(dataOffset(sig)+TagTrailerSize), w.size)
	s.HeadLen = at
	scripts := 0
	for cfg.HeadLen == 0 || at < cfg.HeadLen {
		t, ok, err := w.tag(at)
		if err != nil {
			w.err = err
			return
		}
		if !ok {
			return
		}
		var to *[]byte
		switch {
		case t.class.Kind == media.Script && scripts == 0:
		case t.class.Kind == media.VideoConfig && s.Config.Video == nil:
			to = &s.Config.Video
		case t.class.Kind == media.AudioConfig && s.Config.Audio == nil:
			to = &s.Config.Audio
		default:
			return
		}
		body := make([]byte, t.size)
		if w.err = w.read(body, at+TagHeaderSize); w.err != nil {
			return
		}
		if to != nil {
			*to = body
		} else {
			scripts++
			var err error
			s.Meta, err = ParseMetadata(body)
			s.HeadSound = err == nil
		}
		at += int64(TagOverhead + t.size)
		s.HeadLen = at
	}
}

// walkBack finds the sequence headers from the end of the head, where the begin of it is garbage.
func (s *Scanned) walkBack(w *walker) error {
	for at := s.HeadLen; at > int64(FileHeaderSize+TagOverhead); {
		b, err := w.bytes(at-TagTrailerSize, TagTrailerSize)
		if err != nil {
			return err
		}
		at -= TagTrailerSize + int64(binary.BigEndian.Uint32(b))
		if at < int64(FileHeaderSize) {
			return nil
		}
		t, ok, err := w.tag(at)
		if err != nil || !ok {
			return err
		}
		to := &s.Config.Video
		switch t.class.Kind {
		case media.VideoConfig:
		case media.AudioConfig:
			to = &s.Config.Audio
		default:
			return nil
		}
		*to = make([]byte, t.size)
		if err := w.read(*to, at+TagHeaderSize); err != nil {
			return err
		}
	}
	return nil
}

// rebuild makes a Head of exactly HeadLen bytes.
func (s *Scanned) rebuild() (*Head, error) {
	script := s.HeadLen - int64(FileHeaderSize+TagOverhead)
	for _, c := range [][]byte{s.Config.Video, s.Config.Audio} {
		if len(c) > 0 {
			script -= int64(TagOverhead + len(c))
		}
	}
	if script <= 0 {
		return nil, fmt.Errorf("lay out the head of a part: %d bytes are too few", s.HeadLen)
	}
	return NewHead(HeadConfig{Video: s.Config.Video, Audio: s.Config.Audio, Meta: s.Meta, ScriptSize: int(script)})
}

// count takes one tag behind the head into account.
func (s *Scanned) count(w *walker, t walked) error {
	var k *Track
	switch t.class.Kind {
	case media.Video:
		k = &s.Video
		if t.class.Key {
			s.LastKey = t.at
		}
	case media.Audio:
		k = &s.Audio
	default:
		s.Others++
		if s.Head != nil {
			// The type is not told: an end mark is no frame, but its bytes count.
			s.Head.Add(TagScript, t.dts, t.size, false)
		}
		return s.configured(w, t)
	}
	if k.Frames == 0 {
		k.First = t.dts
	}
	k.Frames++
	k.Last = t.dts
	if s.Head != nil {
		s.Head.Add(t.typ, t.dts, t.size, t.class.Key)
	}
	return nil
}

// configured looks whether a sequence header behind the head says something new.
func (s *Scanned) configured(w *walker, t walked) error {
	if t.class.Kind != media.VideoConfig && t.class.Kind != media.AudioConfig {
		return nil
	}
	body := make([]byte, t.size)
	if err := w.read(body, t.at+TagHeaderSize); err != nil {
		return err
	}
	if t.class.Kind == media.VideoConfig && !VideoConfigEqual(body, s.Config.Video) ||
		t.class.Kind == media.AudioConfig && !AudioConfigEqual(body, s.Config.Audio) {
		s.Reconfigured++
	}
	return nil
}

// walker reads the headers of a file's tags.
type walker struct {
	r    io.ReaderAt
	size int64
	err  error
	buf  []byte // a window of the file, from off on
	off  int64
}

// walked is the header of one whole tag, with what the first bytes of its body say.
type walked struct {
	at    int64
	typ   byte
	size  int
	dts   int64
	class Class
}

func (t walked) isMedia() bool { return t.class.Kind == media.Video || t.class.Kind == media.Audio }

const (
	peek   = 48      // bytes of a body that Classify is shown
	window = 8 << 10 // bytes read at once: headers of small tags lie together, bodies of large ones are skipped
)

// tag reads the tag at an offset; ok is false when no whole tag is there.
func (w *walker) tag(at int64) (t walked, ok bool, err error) {
	if w.size-at < TagOverhead {
		return t, false, nil
	}
	b, err := w.bytes(at, TagHeaderSize+peek)
	if err != nil {
		return t, false, err
	}
	size := bodySize(b)
	end := at + int64(TagHeaderSize+size)
	if len(b) < lookAhead || kindOf(b) != sound || end+TagTrailerSize > w.size {
		return t, false, nil
	}
	t = walked{at: at, typ: b[0], size: size, dts: timestamp(b)}
	t.class = Classify(t.typ, b[TagHeaderSize:min(len(b), TagHeaderSize+size)])
	b, err = w.bytes(end, TagTrailerSize+lookAhead)
	if err != nil {
		return t, false, err
	}
	right := binary.BigEndian.Uint32(b) == uint32(size+TagHeaderSize)
	return t, right || follows(b[TagTrailerSize:]), nil
}

// bytes gives up to n bytes at an offset, fewer at the end of the file. They are valid until the next call.
func (w *walker) bytes(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-at))
	if at < w.off || at+int64(n) > w.off+int64(len(w.buf)) {
		if w.buf == nil {
			w.buf = make([]byte, window)
		}
		w.buf = w.buf[:min(int64(window), w.size-at)]
		w.off = at
		if err := w.read(w.buf, at); err != nil {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	i := int(at - w.off)
	return w.buf[i : i+n], nil
}

func (w *walker) read(b []byte, at int64) error {
	n, err := w.r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d of an FLV file: %w", len(b), at, err)
}
