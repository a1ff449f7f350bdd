package mp4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media"
)

// ErrForeign says that a file was not made by a Writer, or that its head is torn and nobody knows what it was.
var ErrForeign = errors.New("not a hybrid MP4 of liverec")

// ScanConfig is what a Scan is told. All of it may be left out.
type ScanConfig struct {
	// Head is what Writer.Head gave when the file was made, for the case that the one in the file is torn.
	Head []byte
	// Config is the next best thing: with it alone a torn head can be made again, but how much later one track began than
	// the other is lost.
	Config *Config
	// Sample is called for the samples at the end of the file, in their order: for those of the last Last of media time,
	// and for all in fragments that begin at From or behind it where From > 0. An error ends the scan.
	Sample func(ScannedSample) error
	Last   time.Duration
	From   int64
	// Known spares reading the samples in front of it for their digests. It is not believed if it does not fit the file.
	Known Mark
}

// Mark is what a Writer said of the file after some Flush.
type Mark struct {
	Written int64 // Writer.Written
	Frames  int64 // both numbers of Writer.Frames together
	Content uint64
}

// ScannedSample is one sample of a file.
type ScannedSample struct {
	Video, Key bool
	Time       time.Duration // DTS from the begin of the part, as it was given to Add but in whole ticks
	Shift      time.Duration
	Offset     int64
	Size       int
	Sum        uint64 // XXH64 of the type byte (9 video, 8 sound) and the data
}

// ScannedTrack is what a Scan found of one track.
type ScannedTrack struct {
	Frames      int64
	First, Last time.Duration // DTS from the begin of the part; 0 without frames
}

// Scanned is what a Scan found.
type Scanned struct {
	End    int64 // of the last whole fragment: the length that the file should have
	Closed bool  // the file has its index. It goes away with what is behind End
	// Rewrite says that Writer.Head must be written over the begin of the file: it was closed, or its head is torn.
	Rewrite      bool
	Video, Audio ScannedTrack
	Config       Config
	Writer       *Writer // stands at End, ready for Add
}

// Scan walks a file of a Writer that may be torn anywhere, also in the middle of being closed. It reads the headers of
// fragments, and samples where their digests are asked for. Nothing is written. To go on: truncate to End, write
// Writer.Head at 0 where Rewrite says so, Add. What lies behind the last whole fragment does not matter.
//
// A file whose head is torn is found again by ScanConfig.Head, or by ScanConfig.Config; if it is shorter than its head,
// End is the length of that. Memory: that of the Writer, and at most twice the largest moof
// (4 MiB) and a window of 256 KiB.
//
// Errors: ErrForeign, those of the reader, that of ScanConfig.Sample.
func Scan(r io.ReaderAt, size int64, cfg ScanConfig) (*Scanned, error) {
	s := &scanner{reader: reader{r: r, size: size}, cfg: cfg, digest: digest{hash: xxhash.New()}}
	if err := s.begin(); err != nil {
		return nil, err
	}
	if err := s.walk(); err != nil {
		return nil, err
	}
	if err := s.tell(); err != nil {
		return nil, err
	}
	return &s.Scanned, nil
}

const (
	// maxMoof is the largest moof that a Writer makes: two tracks of 65 536 samples with 16 bytes each.
	maxMoof = 1<<12 + 2*16*maxFragmentSamples
	// markEvery is how many fragments lie between the places from which the second walk may begin.
	markEvery = 64
)

type scanner struct {
	reader
	Scanned
	cfg    ScanConfig
	init   *Init
	lanes  []*lane // by index into init.Tracks
	guess  bool    // the head was made from Config alone
	marks  []mark
	latest time.Duration // largest time of a sample
	known  bool          // cfg.Known fits
	moof   []byte
	pieces []piece
	digest digest
}

// mark is the begin of a fragment.
type mark struct {
	at     int64
	frames int64
	latest time.Duration
}

// begin finds the head: in the file, else in what the caller knows.
func (s *scanner) begin() error {
	head, err := s.readHead()
	if err != nil {
		return err
	}
	why := ErrForeign
	if head != nil {
		at := int(be.Uint32(head))
		free := [placeholderLen]byte{3: placeholderLen, 4: 'f', 5: 'r', 6: 'e', 7: 'e'}
		s.Rewrite = !bytes.Equal(head[at:at+placeholderLen], free[:])
		copy(head[at:], free[:])
		if why = s.restore(head); why == nil {
			return nil
		}
	}
	s.Rewrite = true
	if s.cfg.Head != nil {
		return s.restore(bytes.Clone(s.cfg.Head))
	}
	if s.cfg.Config != nil {
		w, err := NewWriter(*s.cfg.Config)
		if err != nil {
			return err
		}
		s.guess = true
		return s.restore(w.appendHead(nil))
	}
	return why
}

// readHead gives the head of the file; nil if there is none that a Writer made.
func (s *scanner) readHead() ([]byte, error) {
	// The placeholder may be torn itself. So its place counts and not its content.
	h, whole, err := s.header(0, s.size)
	if err != nil || !whole || h.typ != fourCC("ftyp") || h.head != 8 || h.size > 256 {
		return nil, err
	}
	at := h.size + placeholderLen
	for _, want := range []string{"moov", "free"} {
		h, whole, err = s.header(at, s.size)
		if err != nil || !whole || h.typ != fourCC(want) || h.head != 8 || h.size > maxBox {
			return nil, err
		}
		at += h.size
	}
	if h.size < 8+slackLen {
		return nil, nil
	}
	head := make([]byte, at)
	if err := s.read(head, 0); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head[at-h.size+8:], []byte(slackName+"\x00\x00\x00\x01")) {
		return nil, nil
	}
	return head, nil
}

// restore makes the Writer that once made this head.
func (s *scanner) restore(head []byte) error {
	in, err := ParseInit(head)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if in.end+8+slackLen > int64(len(head)) {
		return fmt.Errorf("%w: its head ends with the moov", ErrForeign)
	}
	var cfg Config
	tracks := [2]int{-1, -1}
	for i := range in.Tracks {
		t := &in.Tracks[i]
		if t.Refused != nil {
			return fmt.Errorf("%w: %w", ErrForeign, t.Refused)
		}
		switch {
		case t.Kind == media.Video && cfg.Video == nil:
			cfg.Video, tracks[0] = &t.Track, i
		case t.Kind == media.Audio && cfg.Audio == nil:
			cfg.Audio, tracks[1] = &t.Track, i
		default:
			return fmt.Errorf("%w: a track too many", ErrForeign)
		}
	}
	w, err := NewWriter(cfg)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	s.lanes = make([]*lane, len(in.Tracks))
	slack := head[in.end+8+8:]
	for i, track := range tracks {
		if track < 0 {
			continue
		}
		t, l := &in.Tracks[track], w.lanes[i]
		if t.ID != l.id || int64(t.Track.Timescale) != l.scale {
			return fmt.Errorf("%w: its tracks have other numbers or clocks", ErrForeign)
		}
		l.opening = edit{empty: rescale(t.Empty, l.scale, movieScale), start: t.Start}
		l.origin = int64(be.Uint64(slack[8*i:]))
		s.lanes[track] = l
	}
	w.head, w.headLen, w.written = head, int64(len(head)), int64(len(head))
	s.init, s.Writer, s.Scanned.Config = in, w, w.cfg
	return nil
}

// walk goes through the fragments and fills the tables of the Writer.
func (s *scanner) walk() error {
	w := s.Writer
	at := w.headLen
	for n := 0; ; n++ {
		frames := s.Video.Frames + s.Audio.Frames
		if n%markEvery == 0 {
			s.marks = append(s.marks, mark{at, frames, s.latest})
		}
		if s.cfg.Known.Written == at && s.cfg.Known.Frames == frames {
			s.known = true
		}
		end, ok, err := s.fragment(at)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		pieces := s.pieces
		if s.guess {
			s.orient(pieces)
			s.guess = false
		}
		for _, p := range pieces {
			s.take(p)
		}
		for i, l := range s.lanes {
			var n uint32
			var first int64
			for _, p := range pieces {
				if p.track == i {
					if n == 0 {
						first = p.offset
					}
					n++
				}
			}
			if n > 0 {
				l.addChunk(first, n)
			}
		}
		w.seq++
		w.written, at = end, end
	}
	s.End = at
	return s.look()
}

// fragment reads the samples of the moof at an offset into pieces; ok is false when no whole fragment of a Writer is there.
func (s *scanner) fragment(at int64) (end int64, ok bool, err error) {
	s.pieces = s.pieces[:0]
	h, whole, err := s.header(at, s.size)
	if err != nil || !whole || h.typ != fourCC("moof") || h.head != 8 || h.size > maxMoof {
		return 0, false, err
	}
	m, whole, err := s.header(at+h.size, s.size)
	if err != nil || !whole || m.typ != fourCC("mdat") || m.head != 8 || be.Uint32(s.buf[:]) == 0 {
		return 0, false, err
	}
	if int64(cap(s.moof)) < h.size {
		s.moof = make([]byte, h.size, 2*h.size)
	}
	s.moof = s.moof[:h.size]
	if err := s.read(s.moof, at); err != nil {
		return 0, false, err
	}
	data := at + h.size + 8
	end = at + h.size + m.size
	last := make([]int64, len(s.lanes))
	for i, l := range s.lanes {
		last[i] = -1
		if l.n > 0 {
			last[i] = l.last - l.origin
		}
	}
	f := newFragments(s.init)
	err = f.parse(s.moof[8:], at, at+h.size, func(p piece) error {
		l := s.lanes[p.track]
		if p.offset != data || p.size >= keyBit || p.dts <= last[p.track] || l.n > 0 && p.dts-last[p.track] > math.MaxInt32 {
			return errStop
		}
		last[p.track] = p.dts
		data += p.size
		s.pieces = append(s.pieces, p)
		return nil
	})
	// Else it is a moof, but none of ours: overwritten, or zeros.
	return end, err == nil && data == end && len(s.pieces) > 0, nil
}

// orient sets the edit lists of a head that was made from Config alone: both tracks begin together, the picture at 0.
func (s *scanner) orient(pieces []piece) {
	w := s.Writer
	seen := make([]bool, len(s.lanes))
	zero := time.Duration(0)
	for _, p := range pieces { // video is in front
		l := s.lanes[p.track]
		if !seen[p.track] && p.dts == 0 && l.video {
			l.opening.start = max(p.shift, 0)
			zero = duration(l.opening.start, l.scale)
		} else if !seen[p.track] {
			l.origin = ticks(zero, l.scale)
		}
		seen[p.track] = true
	}
	w.head = w.appendHead(nil)
}

// take puts one sample into the table of its track.
func (s *scanner) take(p piece) {
	l := s.lanes[p.track]
	tick := p.dts + l.origin
	delta := int64(0)
	if l.n > 0 {
		delta = tick - l.last
	}
	l.count(tick, delta, p.lasts, p.shift, uint32(p.size), p.key)
	t := &s.Audio
	if l.video {
		t = &s.Video
	}
	at := duration(tick, l.scale)
	if t.Frames == 0 {
		t.First = at
	}
	t.Frames++
	t.Last = at
	s.latest = max(s.latest, at)
}

// look says whether the file was closed.
func (s *scanner) look() error {
	h, whole, err := s.header(s.End, s.size)
	if err != nil || !whole || h.typ != fourCC("moov") {
		return err
	}
	at := int64(len(s.Writer.appendType(nil)))
	b := make([]byte, placeholderLen)
	if s.size < at+placeholderLen {
		return nil
	}
	if err := s.read(b, at); err != nil {
		return err
	}
	p, ok := parseHeader(b)
	s.Closed = ok && p.typ == fourCC("mdat") && p.size == s.End-at
	return nil
}

// tell hashes what must be hashed and calls cfg.Sample for what it asked for.
func (s *scanner) tell() error {
	w := s.Writer
	hashFrom := w.headLen
	if s.known {
		hashFrom = s.cfg.Known.Written
		w.content = s.cfg.Known.Content
	}
	since := s.latest - s.cfg.Last
	from := s.marks[0]
	for i := len(s.marks) - 1; i >= 0; i-- {
		m := s.marks[i]
		if m.at <= hashFrom && (s.cfg.Sample == nil || (s.cfg.Last <= 0 || m.latest < since) && (s.cfg.From <= 0 || m.at <= s.cfg.From)) {
			from = m
			break
		}
	}
	w.frames = uint64(from.frames)
	for i := range s.lanes {
		s.lanes[i] = &lane{video: s.lanes[i].video, scale: s.lanes[i].scale, origin: s.lanes[i].origin} // of no past
	}
	for at := from.at; at < s.End; {
		end, ok, err := s.fragment(at)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("read a fragment at %d of an MP4 file again: %w", at, ErrBroken)
		}
		for _, p := range s.pieces {
			w.frames++
			l := s.lanes[p.track]
			t := duration(p.dts+l.origin, l.scale)
			wanted := s.cfg.Sample != nil && (s.cfg.Last > 0 && t >= since || s.cfg.From > 0 && at >= s.cfg.From)
			if !wanted && at < hashFrom {
				continue
			}
			sum, err := s.digest.sum(&s.reader, l.video, p.offset, p.size)
			if err != nil {
				return err
			}
			if at >= hashFrom {
				w.content = media.Chain(w.content, w.frames, sum)
			}
			if wanted {
				err := s.cfg.Sample(ScannedSample{Video: l.video, Key: p.key, Time: t, Shift: duration(p.shift, l.scale),
					Offset: p.offset, Size: int(p.size), Sum: sum})
				if err != nil {
					return err
				}
			}
		}
		at = end
	}
	return nil
}
