package mend

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/mp4"
)

// Limits of what is read of an MP4.
const (
	maxMoof   = 16 << 20
	maxSample = 256 << 20
	maxGroup  = 1 << 20 // samples that are sorted at once, 80 bytes each
)

// topBox is where a box at the top of a file lies.
type topBox struct {
	kind           string
	at, body, next int64
	open           bool // it says that it goes to the end of the file
}

func isTop(kind string) bool {
	switch kind {
	case "ftyp", "styp", "moov", "moof", "mdat", "free", "skip", "wide", "sidx", "ssix", "prft", "emsg", "mfra", "uuid", "meta", "pdin", "udta":
		return true
	}
	return false
}

// readTop reads a box header. ok is false where no box can begin.
func readTop(src io.ReaderAt, at, end int64) (b topBox, ok bool, err error) {
	var h [16]byte
	n := min(end-at, 16)
	if n < 8 {
		return b, false, nil
	}
	if _, err := src.ReadAt(h[:n], at); err != nil && err != io.EOF {
		return b, false, fmt.Errorf("read a box at %d: %w", at, err)
	}
	b = topBox{kind: string(h[4:8]), at: at, body: at + 8}
	size := int64(binary.BigEndian.Uint32(h[:]))
	switch {
	case size == 0:
		size, b.open = end-at, true
	case size == 1 && n == 16:
		size, b.body = int64(binary.BigEndian.Uint64(h[8:])), at+16
	}
	if !isTop(b.kind) || size < b.body-at || size > 1<<60 {
		return b, false, nil
	}
	b.next = at + size
	return b, true, nil
}

// seek finds the next place at or behind at where a fragment or a head begins, or the end.
func seek(src io.ReaderAt, at, end int64) (int64, error) {
	buf := make([]byte, 1<<20)
	for at < end {
		n := int(min(int64(len(buf)), end-at))
		if _, err := src.ReadAt(buf[:n], at); err != nil && err != io.EOF {
			return end, fmt.Errorf("read at %d: %w", at, err)
		}
		for i := 0; i+16 <= n; i++ {
			size := binary.BigEndian.Uint32(buf[i:])
			switch kind := string(buf[i+4 : i+8]); {
			case kind == "moof" && string(buf[i+12:i+16]) == "mfhd" && size <= maxMoof,
				kind == "moov" && string(buf[i+12:i+16]) == "mvhd",
				kind == "ftyp" && size >= 16 && size < 1024 && size%4 == 0,
				kind == "styp" && size >= 16 && size < 1024 && size%4 == 0:
				return at + int64(i), nil
			}
		}
		if int64(n) == end-at {
			break
		}
		at += int64(n - 15)
	}
	return end, nil
}

// piece is a file of its own inside the file: from one ftyp to the next.
type piece struct {
	from, to int64
	boxes    []topBox // the usable ones, with where they really end
	junk     int64
	junkAt   int64
	mended   bool // not all boxes end where they say
}

// survey walks over a stretch of the file and cuts it into pieces.
func survey(src io.ReaderAt, from, end int64) ([]piece, error) {
	var out []piece
	cur := piece{from: from}
	finish := func(at int64) {
		if cur.to = at; len(cur.boxes) > 0 || cur.junk > 0 {
			out = append(out, cur)
		}
		cur = piece{from: at}
	}
	for at := from; at < end; {
		b, ok, err := readTop(src, at, end)
		if err != nil {
			return nil, err
		}
		if !ok {
			next, err := seek(src, at+1, end)
			if err != nil {
				return nil, err
			}
			if cur.junk == 0 {
				cur.junkAt = at
			}
			cur.junk += next - at
			at = next
			continue
		}
		if b.kind == "mdat" {
			// What is behind it shows whether its size can be true. It begins with a moov in a closed hybrid file.
			grows := len(cur.boxes) > 0 && cur.boxes[len(cur.boxes)-1].kind == "moof"
			good := b.next == end && !(grows && b.open)
			if b.next < end {
				_, good, err = readTop(src, b.next, end)
			}
			if err == nil && !good && grows {
				b.next, err = seek(src, b.body, end)
				cur.mended = true
			}
			if err != nil {
				return nil, err
			}
		}
		b.next = min(b.next, end)
		if b.kind == "ftyp" {
			if len(cur.boxes) > 0 {
				finish(at)
			}
			cur.from = at // offsets count from here
		}
		if b.kind == "moov" && slices.ContainsFunc(cur.boxes, func(x topBox) bool { return x.kind == "moof" }) && fragmented(src, b) {
			finish(at)
		}
		cur.boxes = append(cur.boxes, b)
		at = b.next
	}
	finish(end)
	return out, nil
}

// fragmented reports whether a moov announces fragments.
func fragmented(src io.ReaderAt, moov topBox) bool {
	for at := moov.body; at+8 <= moov.next; {
		var h [8]byte
		if _, err := src.ReadAt(h[:], at); err != nil {
			return false
		}
		size := int64(binary.BigEndian.Uint32(h[:]))
		if string(h[4:]) == "mvex" {
			return true
		}
		if size < 8 {
			return false
		}
		at += size
	}
	return false
}

// view is a file put together from pieces of another and of memory.
type view struct {
	src  io.ReaderAt
	runs []viewRun
	size int64
}

type viewRun struct {
	at  int64 // in the view
	n   int64
	src int64  // in the file
	mem []byte // instead
}

func (v *view) add(src, n int64) {
	v.runs = append(v.runs, viewRun{at: v.size, n: n, src: src})
	v.size += n
}

func (v *view) addBytes(b []byte) {
	v.runs = append(v.runs, viewRun{at: v.size, n: int64(len(b)), mem: b})
	v.size += int64(len(b))
}

// ReadAt is that of io.ReaderAt.
func (v *view) ReadAt(b []byte, at int64) (int, error) {
	i, found := slices.BinarySearchFunc(v.runs, at, func(r viewRun, at int64) int { return cmp.Compare(r.at, at) })
	if !found {
		i--
	}
	done := 0
	for ; done < len(b) && i >= 0 && i < len(v.runs); i++ {
		r := &v.runs[i]
		off := at + int64(done) - r.at
		if off >= r.n {
			continue
		}
		part := b[done:min(len(b), done+int(r.n-off))]
		if r.mem != nil {
			copy(part, r.mem[off:])
		} else if n, err := v.src.ReadAt(part, r.src+off); n < len(part) {
			return done + n, cmp.Or(err, io.ErrUnexpectedEOF)
		}
		done += len(part)
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

// grown puts the head and the fragments of a piece together, with nothing between them: what was no box, and a moov that
// lists all samples, are left out. Offsets that count from the begin of the file are moved along.
func grown(src io.ReaderAt, boxes []topBox) (*view, error) {
	v := &view{src: src}
	base := int64(0) // where absolute offsets count from, seen from the moof
	for i, b := range boxes {
		switch b.kind {
		case "ftyp", "styp":
			v.add(b.at, b.next-b.at)
		case "moov":
			if fragmented(src, b) {
				v.add(b.at, b.next-b.at)
			}
		case "moof":
			if b.next-b.at > maxMoof {
				continue
			}
			moof := make([]byte, b.next-b.at)
			if n, err := src.ReadAt(moof, b.at); n < len(moof) {
				return nil, fmt.Errorf("read the fragment at %d: %w", b.at, err)
			}
			if i+1 == len(boxes) || boxes[i+1].kind != "mdat" {
				continue // its data is gone
			}
			move(moof[b.body-b.at:], func(off int64) int64 {
				if d := off - b.at; d >= 0 && d <= int64(len(moof))+16 {
					base = d
				} // else rubbish in front has moved the moof since
				return v.size + base
			})
			v.addBytes(moof)
		case "mdat":
			head := make([]byte, b.body-b.at)
			n := b.next - b.at
			if len(head) == 16 {
				binary.BigEndian.PutUint32(head, 1)
				binary.BigEndian.PutUint64(head[8:], uint64(n))
			} else if n < 1<<32 {
				binary.BigEndian.PutUint32(head, uint32(n))
			}
			copy(head[4:], "mdat")
			v.addBytes(head)
			v.add(b.body, b.next-b.body)
		}
	}
	return v, nil
}

// move changes the absolute offsets in the body of a moof.
func move(b []byte, to func(int64) int64) {
	walkBoxes(b, func(kind string, traf []byte) {
		if kind != "traf" {
			return
		}
		walkBoxes(traf, func(kind string, b []byte) {
			if kind == "tfhd" && len(b) >= 16 && b[3]&1 != 0 {
				at := b[8:16]
				binary.BigEndian.PutUint64(at, uint64(to(int64(binary.BigEndian.Uint64(at)))))
			}
		})
	})
}

func walkBoxes(b []byte, f func(kind string, body []byte)) {
	for len(b) >= 8 {
		n := int(binary.BigEndian.Uint32(b))
		if n < 8 || n > len(b) {
			return
		}
		f(string(b[4:8]), b[8:n])
		b = b[n:]
	}
}

// mp4 goes through an MP4 file.
func (s *source) mp4() error {
	pieces, err := survey(s.file, 0, s.size)
	if err != nil {
		return err
	}
	f := s.feed()
	lost, used := false, 0
	for _, p := range pieces {
		if p.junk > 0 {
			s.report.wrong(p.junkAt, 1, "%d bytes that are no box", p.junk)
		}
		if len(p.boxes) == 0 {
			continue
		}
		file, err := s.open(p)
		if errors.Is(err, ErrLost) {
			lost = true
			continue
		}
		if err != nil {
			return err
		}
		if used > 0 {
			s.did("another file begins inside at byte %d: its media is joined", p.from)
			if err := f.join(); err != nil {
				return err
			}
		}
		used++
		if err := s.samples(f, file, used > 1); err != nil {
			return err
		}
	}
	if used == 0 && lost {
		return ErrLost
	}
	if lost {
		s.report.Left = append(s.report.Left, "a stretch without its index is lost")
	}
	return f.end()
}

// open finds the way into a piece: its tables, its fragments, or the fragments inside the mdat of a file that was closed
// and then lost its end.
func (s *source) open(p piece) (*mp4.File, error) {
	var head *topBox
	hasMoof := false
	for i := range p.boxes {
		b := &p.boxes[i]
		switch {
		case b.kind == "moof":
			hasMoof = true
		case b.kind == "moov" && head == nil:
			head = b
		}
	}
	if head != nil && hasMoof && fragmented(s.file, *head) && (p.junk > 0 || p.mended) {
		v, err := grown(s.file, p.boxes)
		if err != nil {
			return nil, err
		}
		if f, err := mp4.Open(v, v.size); err == nil {
			return f, nil
		}
	} else if head != nil {
		if f, err := mp4.Open(io.NewSectionReader(s.file, p.from, p.to-p.from), p.to-p.from); err == nil {
			return f, nil
		} else if !errors.Is(err, mp4.ErrBroken) {
			return nil, err
		}
	}
	for _, b := range p.boxes {
		if b.kind != "mdat" {
			continue
		}
		if in, ok, err := readTop(s.file, b.body, b.next); err != nil || !ok || in.kind != "moov" || !fragmented(s.file, in) {
			continue
		}
		inner, err := survey(s.file, b.body, b.next)
		if err != nil {
			return nil, err
		}
		if len(inner) == 0 {
			continue
		}
		v, err := grown(s.file, inner[0].boxes)
		if err != nil {
			return nil, err
		}
		if f, err := mp4.Open(v, v.size); err == nil {
			s.did("the index is gone: made again from the fragments that the file grew by")
			return f, nil
		}
	}
	return nil, ErrLost
}

// way is a track of an MP4 on its way.
type way struct {
	t     *mp4.InitTrack
	file  *mp4.File
	index int
	entry int
	nal   int
	sets  *codec.Sets // of a track whose parameter sets stand between the pictures
	buf   []byte
}

// samples hands the samples of one file over, in the order of their times as far as the file is woven.
func (s *source) samples(f *feed, file *mp4.File, joined bool) error {
	ways := map[int]*way{}
	var have [2]bool
	for i := range file.Tracks {
		t := &file.Tracks[i]
		video := t.Kind == media.Video
		switch {
		case t.Kind == 0:
			continue // text and the like
		case t.Refused != nil:
			s.report.Left = append(s.report.Left, fmt.Sprintf("track %d is left out: %v", t.ID, t.Refused))
			continue
		case have[index(video)]:
			s.report.Left = append(s.report.Left, fmt.Sprintf("track %d (another %v) is left out", t.ID, t.Codec))
			continue
		}
		have[index(video)] = true
		ways[i] = &way{t: t, file: file, index: i, entry: -1}
	}
	for _, w := range ways {
		if err := s.enter(f, w, 0); err != nil {
			return err
		}
	}
	var group []mp4.FileSample
	runs := map[int]bool{} // tracks that were seen in this group
	last := -1
	keyed := !have[vid]
	early := int64(0)
	when := func(x *mp4.FileSample) time.Duration {
		t := &file.Tracks[x.Track]
		return ticks(x.DTS-t.Start+t.Empty, t.Timescale)
	}
	flush := func() error {
		slices.SortStableFunc(group, func(a, b mp4.FileSample) int { return cmp.Compare(when(&a), when(&b)) })
		if !keyed {
			i := slices.IndexFunc(group, func(x mp4.FileSample) bool { return x.Key && file.Tracks[x.Track].Kind == media.Video })
			if i < 0 && len(group) < maxGroup {
				return nil // with the next one
			}
			if keyed = true; i >= 0 {
				from := when(&group[i]) + ticks(group[i].PTS-group[i].DTS, file.Tracks[group[i].Track].Timescale) - soundBefore
				n := len(group)
				group = slices.DeleteFunc(group, func(x mp4.FileSample) bool {
					return file.Tracks[x.Track].Kind == media.Audio && when(&x) < from
				})
				early += int64(n - len(group))
			}
		}
		if joined && len(group) > 0 {
			// A new clock is placed by the first frames of both tracks: they come first.
			joined = false
			if i := slices.IndexFunc(group, func(x mp4.FileSample) bool { return x.Track != group[0].Track }); i > 1 {
				x := group[i]
				copy(group[2:], group[1:i])
				group[1] = x
			}
		}
		for i := range group {
			if err := s.sample(f, file, ways[group[i].Track], &group[i], when(&group[i])); err != nil {
				return err
			}
		}
		group = group[:0]
		return nil
	}
	for x, err := range file.Samples() {
		if err != nil {
			if !errors.Is(err, mp4.ErrBroken) {
				return err
			}
			if len(s.report.Wrong) == 0 {
				s.report.wrong(0, 1, "%v", err)
			}
			break
		}
		if ways[x.Track] == nil {
			continue
		}
		if x.Track != last && runs[x.Track] || len(group) >= maxGroup {
			if err := flush(); err != nil {
				return err
			}
			clear(runs)
		}
		last, runs[x.Track] = x.Track, true
		group = append(group, x)
	}
	keyed = keyed || !slices.ContainsFunc(group, func(x mp4.FileSample) bool { return x.Key && file.Tracks[x.Track].Kind == media.Video })
	if err := flush(); err != nil {
		return err
	}
	if early > 0 {
		s.did("%d frames of sound from before the first picture were left out", early)
	}
	return nil
}

// enter begins another sample entry of a track.
func (s *source) enter(f *feed, w *way, entry int) error {
	w.entry = entry
	e := w.t.Track
	if entry < len(w.t.Entries) {
		e = w.t.Entries[entry]
	}
	w.nal, w.sets = 0, nil
	info, err := codec.Parse(e.Codec, e.Config)
	if err == nil {
		w.nal = info.NALLength
	}
	inBand := w.t.Name == "hev1" || w.t.Name == "avc3"
	if inBand && (e.Codec == media.AVC || e.Codec == media.HEVC) {
		record := e.Config
		if err != nil {
			record = nil
		}
		sets, serr := codec.NewSets(e.Codec, record)
		if serr == nil {
			w.sets = sets
			if w.nal == 0 {
				w.nal = 4
			}
			if r := sets.Record(); r != nil {
				return f.config(true, e.Codec, r)
			}
			return nil // it comes with the first picture
		}
	}
	record := e.Config
	if e.Codec == media.MP3 { // what it is configured with is the header of a frame
		record = nil
		for x, err := range w.file.Samples() {
			if err != nil {
				break
			}
			if x.Track == w.index && x.Entry == entry && x.Size >= 4 && x.Size < maxSample {
				if record, err = w.file.Data(x, nil); err != nil {
					return err
				}
				record = record[:4]
				break
			}
		}
	}
	return f.config(w.t.Kind == media.Video, e.Codec, record)
}

// sample hands one sample over.
func (s *source) sample(f *feed, file *mp4.File, w *way, x *mp4.FileSample, dts time.Duration) error {
	if x.Entry != w.entry {
		if err := s.enter(f, w, x.Entry); err != nil {
			return err
		}
	}
	if x.Size > maxSample {
		s.did("a frame of %d bytes was left out", x.Size)
		return nil
	}
	data, err := file.Data(*x, w.buf)
	if err != nil {
		return err
	}
	w.buf = data
	video, key, c := w.t.Kind == media.Video, x.Key, w.t.Codec
	shift := ticks(x.PTS-x.DTS, w.t.Timescale)
	if video {
		switch c {
		case media.AVC, media.HEVC, media.AV1, media.VP8, media.VP9:
			key, _ = codec.Key(c, w.nal, data)
		}
	}
	if w.sets != nil {
		out, p := w.sets.FromPrefixed(nil, data, w.nal)
		if p.Changed {
			if err := f.config(true, c, bytes.Clone(w.sets.Record())); err != nil {
				return err
			}
		}
		if p.Slices == 0 {
			return nil
		}
		data = out
	}
	return f.frame(video, key, c, dts, shift, data)
}
