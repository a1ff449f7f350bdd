package recorder

import (
	"errors"
	"io"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// flvPart is a part as FLV: the tags of the source, byte for byte, behind a head with an index of constant size.
type flvPart struct {
	h     *flv.Head
	n     uint64 // media tags
	chain uint64
}

var _ container = (*flvPart)(nil)

// newFLV makes the head of a part, and what the file begins with.
func newFLV(c configs, limit time.Duration) (*flvPart, []byte, error) {
	h, err := flv.NewHead(flv.HeadConfig{Video: c.video, Audio: c.audio, Meta: metadata(c.script), Limit: limit})
	if err != nil {
		return nil, nil, err
	}
	return &flvPart{h: h}, h.Patch(), nil
}

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
func (c *flvPart) duration() time.Duration      { return c.h.Duration() }
func (c *flvPart) frames() (video, audio int64) { return c.h.Frames() }
func (c *flvPart) content() uint64              { return c.chain }

func (c *flvPart) add(o *output, it *repair.Item, ms int64, _ time.Duration) error {
	typ := flv.TagAudio
	if it.Kind == media.Video {
		typ = flv.TagVideo
	}
	if err := o.reserve(flv.TagOverhead + len(it.Body)); err != nil {
		return err
	}
	c.h.Add(typ, ms, len(it.Body), it.Key)
	c.n++
	c.chain = repair.Chain(c.chain, c.n, it.Sum)
	o.buf = flv.AppendTagHeader(o.buf, typ, uint32(ms), len(it.Body))
	if flv.TagOverhead+len(it.Body) <= writeBuffer {
		o.buf = append(o.buf, it.Body...)
		o.buf = flv.AppendTagTrailer(o.buf, len(it.Body))
		return nil
	}
	// A body that is larger than the buffer goes past it.
	if err := o.write(); err != nil {
		return err
	}
	if _, err := o.file.Write(it.Body); err != nil {
		return err
	}
	o.buf = flv.AppendTagTrailer(o.buf, len(it.Body))
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
	var c flvPart
	if n.Seq == seg.ID.Seq && n.Size >= s.HeadLen && n.Size <= s.End && n.Frames > 0 {
		from, c = n.Size, flvPart{n: uint64(n.Frames), chain: n.Content}
	}
	if err := m.readFLV(&c, r, size, n, from); err != nil {
		return m, err
	}
	if m.frames != s.Video.Frames+s.Audio.Frames { // the note is not of this file: everything again
		m.tail = nil
		if err := m.readFLV(&flvPart{}, r, size, n, s.HeadLen); err != nil {
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
			c.chain = repair.Chain(c.chain, c.n, t.Sum)
		}
		m.tail = append(m.tail, repair.TailTag{Kind: t.Kind, Key: t.Key, Out: t.DTS + m.base, Size: len(t.Body), Sum: t.Sum})
		return nil
	})
	if err != nil {
		return err
	}
	m.end, m.frames, m.err = s.End, int64(c.n), s.HeadErr
	if c.h = s.Head; c.h != nil {
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
