package recorder

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// flvPart is a part as FLV: the tags of the source, byte for byte, behind a head with an index of constant size. Frames
// that did not come as such tags get a tag header.
type flvPart struct {
	h       *flv.Head
	configs configs
	origin  *origin // nil: all frames are tags as they came
	n       uint64  // media tags
	chain   uint64
	lead    [5]byte // scratch
}

var _ container = (*flvPart)(nil)

// newFLV makes the head of a part, and what the file begins with.
func newFLV(c configs, limit time.Duration) (*flvPart, []byte, error) {
	p := &flvPart{configs: c}
	for t, only := range []media.Codec{media.AVC, media.AAC} {
		if c.codec[t] != media.NoCodec && c.codec[t] != only {
			return nil, nil, &ContainerError{Container: ContainerFLV, Codec: c.codec[t]}
		}
	}
	video, audio := c.video, c.audio
	if len(video) > 0 && !plainVideo(video, c.lead[vid]) {
		video, p.origin = append([]byte{0x17, 0, 0, 0, 0}, c.record(vid)...), &origin{}
	}
	if len(audio) > 0 && !plainAudio(audio, c.lead[aud]) {
		audio, p.origin = append([]byte{aacTag, 0}, c.record(aud)...), &origin{}
	}
	var err error
	p.h, err = flv.NewHead(flv.HeadConfig{Video: video, Audio: audio, Meta: metadata(c.script), Limit: limit})
	if err != nil {
		return nil, nil, err
	}
	return p, p.h.Patch(), nil
}

// aacTag is the first byte of every AAC tag: whatever it says beside the codec is ignored.
const aacTag = 0xaf

// plainVideo and plainAudio report whether a body with a tag header of so many bytes is that of an AVC or AAC tag, and not
// of Enhanced FLV or none at all.
func plainVideo(b []byte, lead int) bool { return lead == 5 && b[0]&0x8f == 7 }
func plainAudio(b []byte, lead int) bool { return lead == 2 && b[0]>>4 == 10 }

func metadata(script []byte) flv.Metadata {
	if len(script) == 0 {
		return flv.Metadata{}
	}
	m, err := flv.ParseMetadata(script)
	if err != nil {
		return flv.Metadata{} // it is for information only
	}
	return m
}

func (c *flvPart) head() int64                  { return c.h.Len() }
func (c *flvPart) size() int64                  { return c.h.Size() }
func (c *flvPart) grows(n int) int64            { return int64(flv.TagOverhead + n) }
func (c *flvPart) held() int                    { return 0 }
func (c *flvPart) flush(*output) error          { return nil }
func (c *flvPart) index() []byte                { return c.h.Patch() }
func (c *flvPart) finish() ending               { return ending{patch: c.h.Patch()} }
func (c *flvPart) complete() bool               { return true }
func (c *flvPart) duration() time.Duration      { return c.h.Duration() }
func (c *flvPart) frames() (video, audio int64) { return c.h.Frames() }
func (c *flvPart) content() uint64              { return c.chain }

func (c *flvPart) about() noteFile {
	if c.origin == nil {
		return noteFile{}
	}
	return noteFile{Container: ContainerFLV, Origin: c.origin.clone()}
}

func (c *flvPart) add(o *output, it *repair.Item, ms int64, _ time.Duration) error {
	lead := min(c.configs.leadOf(&it.Packet), len(it.Body))
	if it.Kind == media.Video {
		if plainVideo(it.Body, lead) {
			return c.tag(o, flv.TagVideo, ms, it.Key, nil, it.Body, it.Sum)
		}
		h := append(c.lead[:0], 0x27, 1, byte(it.CTS>>16), byte(it.CTS>>8), byte(it.CTS))
		if it.Key {
			h[0] = 0x17
		}
		return c.wrap(o, flv.TagVideo, ms, it, h, lead)
	}
	if plainAudio(it.Body, lead) {
		return c.tag(o, flv.TagAudio, ms, it.Key, nil, it.Body, it.Sum)
	}
	return c.wrap(o, flv.TagAudio, ms, it, append(c.lead[:0], aacTag, 1), lead)
}

// wrap writes a frame that came without a tag header, or with another one.
func (c *flvPart) wrap(o *output, typ byte, ms int64, it *repair.Item, head []byte, lead int) error {
	if c.origin == nil {
		c.origin = &origin{}
	}
	if lead > 0 {
		c.origin.learn(it, lead)
	}
	data := it.Body[lead:]
	if len(head)+len(data) > media.MaxBody {
		return fmt.Errorf("%w: %d bytes are too many for FLV", errRefused, len(data))
	}
	return c.tag(o, typ, ms, it.Key, head, data, digest(typ, head, data))
}

// tag writes one tag whose body is head and data.
func (c *flvPart) tag(o *output, typ byte, ms int64, key bool, head, data []byte, sum uint64) error {
	size := len(head) + len(data)
	if err := o.reserve(flv.TagOverhead + size); err != nil {
		return err
	}
	c.h.Add(typ, ms, size, key)
	c.n++
	c.chain = media.Chain(c.chain, c.n, sum)
	o.buf = flv.AppendTagHeader(o.buf, typ, uint32(ms), size)
	o.buf = append(o.buf, head...)
	if flv.TagOverhead+size <= writeBuffer {
		o.buf = append(o.buf, data...)
		o.buf = flv.AppendTagTrailer(o.buf, size)
		return nil
	}
	// A body that is larger than the buffer goes past it.
	if err := o.write(); err != nil {
		return err
	}
	if _, err := o.file.Write(data); err != nil {
		return err
	}
	o.buf = flv.AppendTagTrailer(o.buf, size)
	return o.write()
}

// measureFLV reads a part through. A file that is no FLV at all, because it was created and not written, has no frames.
func measureFLV(r io.ReaderAt, size int64, seg segment.Segment, n note) (measured, error) {
	m := measured{base: baseOf(seg.ID.Seq, n)}
	s, err := scan(r, size, n, 0)
	if errors.Is(err, flv.ErrNotFLV) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	from := s.HeadLen
	c := flvPart{origin: n.File.Origin.clone()}
	if n.Seq == seg.ID.Seq && n.Size >= s.HeadLen && n.Size <= s.End && n.Frames > 0 {
		from, c.n, c.chain = n.Size, uint64(n.Frames), n.Content
	}
	if err := m.readFLV(&c, r, size, n, from); err != nil {
		return m, err
	}
	if m.frames != s.Video.Frames+s.Audio.Frames { // the note is not of this file: everything again
		m.tail = nil
		if err := m.readFLV(&flvPart{origin: c.origin}, r, size, n, s.HeadLen); err != nil {
			return m, err
		}
	}
	return m, nil
}

// readFLV walks the file and hashes what begins at or behind from.
func (m *measured) readFLV(c *flvPart, r io.ReaderAt, size int64, n note, from int64) error {
	s, err := scanTags(r, size, n, from, func(t flv.Tag) error {
		if t.Offset >= from {
			c.n++
			c.chain = media.Chain(c.chain, c.n, t.Sum)
		}
		tag := repair.TailTag{Kind: t.Kind, Key: t.Key, Out: t.DTS + m.base, Size: len(t.Body), Sum: t.Sum}
		if c.origin != nil {
			lead := 2
			if t.Type == flv.TagVideo {
				lead = 5
			}
			shift := time.Duration(flv.Classify(t.Type, t.Body).CTS) * time.Millisecond
			tag.Sum, tag.Size = c.origin.sum(t.Type == flv.TagVideo, t.Key, shift, t.Body[min(lead, len(t.Body)):])
		}
		m.tail = append(m.tail, tag)
		return nil
	})
	if err != nil {
		return err
	}
	m.end, m.frames, m.err = s.End, int64(c.n), s.HeadErr
	if c.h = s.Head; c.h != nil {
		c.configs = configs{video: s.Config.Video, audio: s.Config.Audio}
		if len(s.Config.Video) > 0 {
			c.configs.codec[vid], c.configs.lead[vid] = media.AVC, 5
		}
		if len(s.Config.Audio) > 0 {
			c.configs.codec[aud], c.configs.lead[aud] = media.AAC, 2
		}
		c.configs.tagged = c.origin == nil || c.origin.seen()
		m.container = c
	}
	return nil
}

func scan(r io.ReaderAt, size int64, n note, head int64) (*flv.Scanned, error) {
	return scanTags(r, size, n, head, nil)
}

// scanTags scans with the file's own head, and where that is torn with what the note knows of it.
func scanTags(r io.ReaderAt, size int64, n note, from int64, tag func(flv.Tag) error) (*flv.Scanned, error) {
	cfg := flv.ScanConfig{Tag: tag, Last: tailLength, From: from, Video: n.Repair.Video, Audio: n.Repair.Audio}
	probe, err := flv.Scan(r, size, flv.ScanConfig{})
	if err != nil || !probe.HeadSound || probe.Head == nil {
		if n.Head == 0 || size <= n.Head {
			if err == nil && probe.Head == nil {
				return probe, nil
			}
			if err != nil {
				return nil, err
			}
		}
		cfg.HeadLen = n.Head
	}
	if tag == nil && cfg.HeadLen == 0 {
		return probe, nil
	}
	return flv.Scan(r, size, cfg)
}
