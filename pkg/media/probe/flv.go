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
	shape   shape
	steps   []int64 // ms
	lastMS  int64
	content chain
	media   chain
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
	content chain
	scratch []byte
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
func (f *flvFile) configure(t *track, at int64, codec string, config []byte) {
	if t.Config == nil {
		if t.Frames > 0 {
			f.problem(Config, at, "the %s configuration comes after %d frames", t.Kind, t.Frames)
		}
		var err error
		t.Codec, t.Config = codec, slices.Clone(config)
		if t.shape, err = configure(codec, config); err != nil {
			f.problem(Config, at, "%s configuration: %v", codec, err)
		}
		t.Width, t.Height = t.shape.width, t.shape.height
		return
	}
	if t.Codec == codec && slices.Equal(t.Config, config) {
		f.problem(Config, at, "the %s configuration comes again", t.Kind)
	} else {
		f.problem(Config, at, "the %s configuration changes inside the file", t.Kind)
	}
}

// frame takes the time of a frame.
func (f *flvFile) frame(t *track, at, ts, shift int64) {
	now := time.Duration(ts) * time.Millisecond
	shown := now + time.Duration(shift)*time.Millisecond
	if t.Frames == 0 {
		t.Begin, t.Until = shown, shown
	}
	t.Begin, t.Until = min(t.Begin, shown), max(t.Until, shown)
	if t.Config == nil && t.Frames == 0 && needsConfig(t.Codec) {
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

// What a tag is for.
type purpose uint8

const (
	ofConfig purpose = iota + 1
	ofFrame
	ofNothing // end of sequence, colour information
)

// pictureTag reads the head of a video tag: legacy, and Enhanced FLV without its multitrack form.
func pictureTag(b []byte) (codec string, is purpose, head int, shift int64, err error) {
	codec, is, head, err = pictureHead(b)
	if is == ofFrame && (codec == "avc" || codec == "hevc") && (b[0]&0x80 == 0 || b[0]&15 == 1) {
		c := b[head-3 : head]
		shift = int64(int32(uint32(c[0])<<24|uint32(c[1])<<16|uint32(c[2])<<8) >> 8)
	}
	return codec, is, head, shift, err
}

func pictureHead(b []byte) (codec string, is purpose, head int, err error) {
	if len(b) < 5 {
		return "", 0, 0, fmt.Errorf("video tag of %d bytes", len(b))
	}
	if b[0]&0x80 == 0 {
		codec = map[byte]string{7: "avc", 12: "hevc", 13: "av1"}[b[0]&15]
		if codec == "" {
			return "", 0, 0, fmt.Errorf("video codec %d", b[0]&15)
		}
		if b[1] > 2 {
			return codec, 0, 0, fmt.Errorf("packet type %d", b[1])
		}
		return codec, [...]purpose{ofConfig, ofFrame, ofNothing}[b[1]], 5, nil
	}
	codec = map[string]string{"avc1": "avc", "hvc1": "hevc", "av01": "av1", "vp09": "vp9", "vp08": "vp8"}[string(b[1:5])]
	if codec == "" {
		return "", 0, 0, fmt.Errorf("video codec %q", b[1:5])
	}
	switch kind := b[0] & 15; kind {
	case 0:
		return codec, ofConfig, 5, nil
	case 1:
		if codec != "avc" && codec != "hevc" {
			return codec, ofFrame, 5, nil
		}
		if len(b) < 8 {
			return codec, 0, 0, fmt.Errorf("video tag of %d bytes", len(b))
		}
		return codec, ofFrame, 8, nil
	case 3:
		return codec, ofFrame, 5, nil
	case 2, 4:
		return codec, ofNothing, 5, nil
	default:
		return codec, 0, 0, fmt.Errorf("packet type %d", kind)
	}
}

// soundTag is pictureTag for audio.
func soundTag(b []byte) (codec string, is purpose, head int, err error) {
	if len(b) < 2 {
		return "", 0, 0, fmt.Errorf("audio tag of %d bytes", len(b))
	}
	switch b[0] >> 4 {
	case 10:
		if b[1] > 1 {
			return "aac", 0, 0, fmt.Errorf("AAC packet type %d", b[1])
		}
		return "aac", [...]purpose{ofConfig, ofFrame}[b[1]], 2, nil
	case 2, 14:
		return "mp3", ofFrame, 1, nil
	case 7:
		return "g711a", ofFrame, 1, nil
	case 8:
		return "g711u", ofFrame, 1, nil
	case 9:
		if len(b) < 5 {
			return "", 0, 0, fmt.Errorf("audio tag of %d bytes", len(b))
		}
		codec = map[string]string{"mp4a": "aac", "Opus": "opus", "ac-3": "ac-3", "ec-3": "ec-3", "fLaC": "flac", ".mp3": "mp3"}[string(b[1:5])]
		if codec == "" {
			return "", 0, 0, fmt.Errorf("audio codec %q", b[1:5])
		}
		switch kind := b[0] & 15; kind {
		case 0:
			return codec, ofConfig, 5, nil
		case 1:
			return codec, ofFrame, 5, nil
		case 2, 4:
			return codec, ofNothing, 5, nil
		default:
			return codec, 0, 0, fmt.Errorf("packet type %d", kind)
		}
	}
	return "", 0, 0, fmt.Errorf("sound format %d", b[0]>>4)
}

func (f *flvFile) picture(at, ts int64, body []byte) {
	t := &f.video
	codec, is, head, shift, err := pictureTag(body)
	if err != nil {
		f.problem(Frame, at, "%v", err)
		return
	}
	switch is {
	case ofConfig:
		f.configure(t, at, codec, body[head:])
		f.headers[at] = ts
	case ofFrame:
		if t.Frames == 0 && t.Codec == "" {
			t.Codec = codec
		}
		f.frame(t, at, ts, shift)
		p := picture{foreign: true}
		if codec != t.Codec {
			f.problem(Frame, at, "%s among %s", codec, t.Codec)
		} else if t.Config != nil || !needsConfig(codec) {
			if p, err = readPicture(codec, body[head:], t.shape.nalSize, &f.scratch); err != nil {
				f.problem(Frame, at, "access unit: %v", err)
			} else if p.coded == 0 {
				f.problem(Frame, at, "access unit without a slice")
			}
		}
		startable := p.start || p.recovery || p.foreign
		key := body[0]>>4&7 == 1
		if key {
			f.keys[at] = ts
			f.lastKey = at
			t.Keys++
			if !startable {
				f.problem(Frame, at, "marked as key frame but holds no IDR slice")
			}
		}
		if t.Frames == 1 && !(key && startable) {
			f.problem(Start, at, "the first picture is no IDR")
		}
		if p.numbered {
			f.r.Numbers = append(f.r.Numbers, p.number)
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
		f.sum(t, pictureByte, body, p.media)
	}
}

func (f *flvFile) sound(at, ts int64, body []byte) {
	t := &f.audio
	codec, is, head, err := soundTag(body)
	if err != nil {
		f.problem(Frame, at, "%v", err)
		return
	}
	switch is {
	case ofConfig:
		f.configure(t, at, codec, body[head:])
	case ofFrame:
		if t.Frames == 0 && t.Codec == "" {
			t.Codec = codec
		}
		if codec != t.Codec {
			f.problem(Frame, at, "%s among %s", codec, t.Codec)
		}
		if len(body) == head {
			f.problem(Frame, at, "empty audio frame")
		}
		f.frame(t, at, ts, 0)
		t.Keys++
		f.scratch = append(append(f.scratch[:0], soundByte), body[head:]...)
		f.sum(t, soundByte, body, xxh64(f.scratch))
	}
}

// sum counts one frame into the running hashes.
func (f *flvFile) sum(t *track, typ byte, body []byte, media uint64) {
	f.scratch = append(append(f.scratch[:0], typ), body...)
	s := xxh64(f.scratch)
	f.content.add(s)
	t.content.add(s)
	t.media.add(media)
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
		t.Until += t.End - t.Last
		t.Content, t.Media = t.content.h, t.media.h
		f.r.Tracks = append(f.r.Tracks, t.Track)
	}
	f.r.Content = f.content.h
	if len(f.r.Tracks) == 0 {
		f.problem(Start, 0, "no media")
	}
	if len(f.r.Tracks) == 2 {
		f.r.Problems = append(f.r.Problems, f.r.skew(f.video.Track, f.audio.Track)...)
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
		if v.Width > 0 {
			agree("width", float64(v.Width), 0)
			agree("height", float64(v.Height), 0)
		}
		if v.Codec == "avc" {
			agree("videocodecid", 7, 0)
		}
		agree("lastkeyframelocation", float64(f.lastKey), 0)
		agree("lastkeyframetimestamp", float64(f.keys[f.lastKey])/1000, 0.001)
		agree("lasttimestamp", max(v.Last, f.audio.Last).Seconds(), 0.1)
	}
	if f.audio.Frames > 0 && f.audio.Codec == "aac" {
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
