package probe

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"
)

// track gathers what is known of a track while the file is read.
type track struct {
	Track
	steps   []int64 // ms
	lastMS  int64
	late    int // configurations after the first frame
	nalSize int
}

// flvFile is one pass over a file.
type flvFile struct {
	r       Report
	video   track
	audio   track
	seen    map[Digest]int64 // offset of the tag
	keys    map[int64]int64  // offset of each key frame tag → ms
	headers map[int64]int64  // offset of each video sequence header → ms
	lastKey int64            // offset
	scripts int
}

func (f *flvFile) problem(code Code, at int64, format string, args ...any) {
	if len(f.r.Problems) < 1000 {
		f.r.Problems = append(f.r.Problems, Problem{code, at, fmt.Sprintf(format, args...)})
	}
}

func readFLV(src io.ReaderAt, size int64) (Report, error) {
	f := &flvFile{
		r:    Report{Container: "flv", Size: size},
		seen: map[Digest]int64{}, keys: map[int64]int64{}, headers: map[int64]int64{},
	}
	f.video.Kind, f.audio.Kind = Video, Audio
	in := bufio.NewReaderSize(io.NewSectionReader(src, 0, size), 1<<20)
	if err := f.tags(in); err != nil {
		return f.r, err
	}
	f.close()
	return f.r, nil
}

// tags walks over all tags. The error is one of reading, not of content.
func (f *flvFile) tags(in *bufio.Reader) error {
	head := make([]byte, 13)
	if n, err := io.ReadFull(in, head); err != nil {
		f.problem(Tail, int64(n), "the file ends inside its header")
		return onlyIO(err)
	}
	if off := binary.BigEndian.Uint32(head[5:]); off != 9 {
		f.problem(Framing, 5, "data offset %d", off)
	}
	if head[4]&^5 != 0 {
		f.problem(Framing, 4, "reserved flags are set: %#02x", head[4])
	}
	if n := binary.BigEndian.Uint32(head[9:]); n != 0 {
		f.problem(Framing, 9, "first PreviousTagSize is %d", n)
	}
	var body []byte
	for at := int64(13); ; {
		var h [11]byte
		n, err := io.ReadFull(in, h[:])
		if err == io.EOF {
			break
		}
		if err != nil {
			f.problem(Tail, at, "%d bytes of a tag header", n)
			return onlyIO(err)
		}
		if h[0] != 8 && h[0] != 9 && h[0] != 18 {
			f.problem(Framing, at, "no tag begins with % x", h)
			return nil // nothing behind it can be believed
		}
		length := int(h[1])<<16 | int(h[2])<<8 | int(h[3])
		ts := int64(int32(uint32(h[7])<<24 | uint32(h[4])<<16 | uint32(h[5])<<8 | uint32(h[6])))
		if h[8]|h[9]|h[10] != 0 {
			f.problem(Framing, at, "stream id % x", h[8:])
		}
		if cap(body) < length+4 {
			body = make([]byte, length+4, 2*(length+4))
		}
		body = body[:length+4]
		if n, err := io.ReadFull(in, body); err != nil {
			f.problem(Tail, at, "%d of %d bytes of a tag", 11+n, 15+length)
			return onlyIO(err)
		}
		if got := binary.BigEndian.Uint32(body[length:]); got != uint32(11+length) {
			f.problem(Framing, at+11+int64(length), "PreviousTagSize %d instead of %d", got, 11+length)
		}
		f.r.Tags++
		switch h[0] {
		case 18:
			f.script(at, body[:length])
		case 9:
			f.picture(at, ts, body[:length])
		case 8:
			f.sound(at, ts, body[:length])
		}
		at += 15 + int64(length)
	}
	return nil
}

func onlyIO(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

func (f *flvFile) script(at int64, body []byte) {
	f.scripts++
	name, value, err := readScript(body)
	if f.r.Tags == 1 {
		switch {
		case err != nil:
			f.problem(Metadata, at, "the first tag cannot be read: %v", err)
		case name != "onMetaData":
			f.problem(Metadata, at, "the first tag is %q", name)
		default:
			f.r.Metadata = value
		}
	}
}

// configure takes a decoder configuration.
func (f *flvFile) configure(t *track, at int64, codec string, config []byte) bool {
	if t.Config == nil {
		t.Codec, t.Config = codec, slices.Clone(config)
		if t.Frames > 0 {
			f.problem(Config, at, "the %s configuration comes after %d frames", t.Kind, t.Frames)
		}
		return true
	}
	if slices.Equal(t.Config, config) {
		f.problem(Config, at, "the %s configuration comes again", t.Kind)
	} else {
		f.problem(Config, at, "the %s configuration changes inside the file", t.Kind)
	}
	return false
}

// frame takes the time of a frame.
func (f *flvFile) frame(t *track, at, ts int64) {
	now := time.Duration(ts) * time.Millisecond
	if t.Config == nil && t.Frames == 0 {
		f.problem(Config, at, "a %s frame without a configuration before it", t.Kind)
	}
	if t.Frames == 0 {
		t.First = now
		if ts < 0 {
			f.problem(Order, at, "the first %s frame is at %d ms", t.Kind, ts)
		}
	} else {
		step := ts - t.lastMS
		t.steps = append(t.steps, step)
		if step <= 0 {
			f.problem(Order, at, "%s at %d ms after %d ms", t.Kind, ts, t.lastMS)
		}
		if d := time.Duration(step) * time.Millisecond; d > t.Step {
			t.Step = d
			if t.Kind == Video && d > MaxStep {
				f.problem(Step, at, "%v between two pictures", d)
			}
		}
	}
	t.Frames++
	t.lastMS, t.Last = ts, now
}

func (f *flvFile) picture(at, ts int64, body []byte) {
	t := &f.video
	if len(body) < 5 {
		f.problem(Frame, at, "video tag of %d bytes", len(body))
		return
	}
	if body[0]&0x80 != 0 || body[0]&0x0f != 7 {
		f.problem(Frame, at, "a video tag that is not AVC begins with %#02x", body[0])
		return
	}
	switch body[1] {
	case 0:
		if f.configure(t, at, "avc", body[5:]) {
			n, w, h, err := readAVCC(body[5:])
			if err != nil {
				f.problem(Config, at, "AVC configuration: %v", err)
			}
			t.nalSize, t.Width, t.Height = n, w, h
		}
		f.headers[at] = ts
	case 1:
		f.frame(t, at, ts)
		if t.nalSize == 0 {
			return
		}
		idr, slices, number, numbered, err := readAccessUnit(body[5:], t.nalSize)
		if err != nil {
			f.problem(Frame, at, "access unit: %v", err)
		} else if slices == 0 {
			f.problem(Frame, at, "access unit without a slice")
		}
		key := body[0]>>4 == 1
		if key {
			f.keys[at] = ts
			f.lastKey = at
			t.Keys++
			if !idr {
				f.problem(Frame, at, "marked as key frame but holds no IDR slice")
			}
		}
		if t.Frames == 1 && !(key && idr) {
			f.problem(Start, at, "the first picture is no IDR")
		}
		if numbered {
			f.r.Numbers = append(f.r.Numbers, number)
			f.r.At = append(f.r.At, t.Last)
		}
		sum := sha256.Sum256(body)
		d := Digest(sum[:8])
		f.r.Digests = append(f.r.Digests, d)
		if first, ok := f.seen[d]; ok {
			f.problem(Twice, at, "the picture of byte %d again", first)
		} else {
			f.seen[d] = at
		}
	case 2: // end of sequence
	default:
		f.problem(Frame, at, "AVC packet type %d", body[1])
	}
}

func (f *flvFile) sound(at, ts int64, body []byte) {
	t := &f.audio
	if len(body) < 2 {
		f.problem(Frame, at, "audio tag of %d bytes", len(body))
		return
	}
	if body[0]>>4 != 10 {
		f.problem(Frame, at, "an audio tag that is not AAC begins with %#02x", body[0])
		return
	}
	switch body[1] {
	case 0:
		f.configure(t, at, "aac", body[2:])
	case 1:
		if len(body) == 2 {
			f.problem(Frame, at, "empty audio frame")
		}
		f.frame(t, at, ts)
		t.Keys++
	default:
		f.problem(Frame, at, "AAC packet type %d", body[1])
	}
}

// close compares what was read with what the file says about itself.
func (f *flvFile) close() {
	for _, t := range []*track{&f.video, &f.audio} {
		if t.Frames == 0 {
			if t.Config != nil {
				f.problem(Config, 0, "a %s configuration but not one frame", t.Kind)
			}
			continue
		}
		t.End = t.Last
		if len(t.steps) > 0 {
			s := slices.Clone(t.steps)
			slices.Sort(s)
			t.End += time.Duration(s[len(s)/2]) * time.Millisecond
		}
		f.r.Tracks = append(f.r.Tracks, t.Track)
	}
	if len(f.r.Tracks) == 0 {
		f.problem(Start, 0, "no media")
	}
	if len(f.r.Tracks) == 2 {
		f.r.Skew = f.video.End - f.audio.End
		if f.r.Skew.Abs() > MaxSkew {
			f.problem(Skew, f.r.Size, "video ends at %v, audio at %v", f.video.End, f.audio.End)
		}
	}
	if f.scripts > 1 {
		f.problem(Metadata, 0, "%d script tags", f.scripts)
	}
	f.metadata()
}

func (f *flvFile) metadata() {
	m := f.r.Metadata
	if m == nil {
		f.problem(Metadata, 13, "no onMetaData in front")
		return
	}
	number := func(key string) (float64, bool) {
		v, ok := m[key].(float64)
		return v, ok
	}
	agree := func(key string, want, tolerance float64) {
		if got, ok := number(key); ok && !(got >= want-tolerance && got <= want+tolerance) {
			f.problem(Metadata, 13, "%s is %v, found %v", key, got, want)
		}
	}
	if d, ok := number("duration"); !ok || d <= 0 {
		f.problem(Metadata, 13, "no duration")
	} else {
		f.r.Duration = time.Duration(d * float64(time.Second))
		agree("duration", f.r.Media().Seconds(), 0.1)
	}
	if _, ok := number("filesize"); !ok {
		f.problem(Metadata, 13, "no filesize")
	}
	agree("filesize", float64(f.r.Size), 0)
	if v := f.video; v.Frames > 0 {
		agree("width", float64(v.Width), 0)
		agree("height", float64(v.Height), 0)
		agree("videocodecid", 7, 0)
		agree("lastkeyframelocation", float64(f.lastKey), 0)
		agree("lastkeyframetimestamp", float64(f.keys[f.lastKey])/1000, 0.001)
		agree("lasttimestamp", max(v.Last, f.audio.Last).Seconds(), 0.1)
	}
	if f.audio.Frames > 0 {
		agree("audiocodecid", 10, 0)
	}
	if f.video.Frames > 0 {
		f.index(m)
	}
}

// index checks that each entry points at the head of a key frame tag of that time. The first entry may point at the
// sequence header instead, as some players skip it.
func (f *flvFile) index(m map[string]any) {
	k, _ := m["keyframes"].(map[string]any)
	times, ok1 := k["times"].([]any)
	positions, ok2 := k["filepositions"].([]any)
	if !ok1 || !ok2 || len(times) == 0 {
		f.problem(Index, 13, "no key frame index")
		return
	}
	if len(times) != len(positions) {
		f.problem(Index, 13, "%d times and %d positions", len(times), len(positions))
		return
	}
	indexed := map[int64]bool{}
	lastPos := int64(-1)
	for i := range times {
		at, ok1 := times[i].(float64)
		pos, ok2 := positions[i].(float64)
		if !ok1 || !ok2 {
			f.problem(Index, 13, "entry %d is no number", i)
			return
		}
		off := int64(pos)
		f.r.Index = append(f.r.Index, Entry{time.Duration(at * float64(time.Second)), off})
		if off <= lastPos {
			f.problem(Index, off, "entry %d does not rise", i)
		}
		lastPos = off
		ms, ok := f.keys[off]
		if !ok && i == 0 {
			if ms, ok = f.headers[off]; ok {
				ms = 0
			}
		} else if ok {
			indexed[off] = true
		}
		if !ok {
			f.problem(Index, off, "entry %d points at no key frame", i)
		} else if d := at*1000 - float64(ms); d < -1 || d > 1 {
			f.problem(Index, off, "entry %d says %v s, the key frame is at %d ms", i, at, ms)
		}
	}
	// An index that ran out of room drops every second entry, so it may be thinner than the key frames, but evenly so
	// and to the end.
	offs := make([]int64, 0, len(f.keys))
	for off := range f.keys {
		offs = append(offs, off)
	}
	slices.Sort(offs)
	missing, worst := 0, 0
	for _, off := range offs {
		if indexed[off] {
			missing = 0
			continue
		}
		missing++
		worst = max(worst, missing)
	}
	if len(indexed) == 0 || worst > 2*len(offs)/len(indexed)+1 {
		f.problem(Index, 13, "%d of %d key frames are in the index, %d in a row are not", len(indexed), len(offs), worst)
	}
}
