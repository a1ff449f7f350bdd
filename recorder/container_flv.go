package recorder

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// flvPart is a part as FLV: the tags of the source, byte for byte, behind a head with an index of constant size. Frames
// that did not come as such tags get a tag header.
type flvPart struct {
	h     *flv.Head
	n     uint64 // media tags
	chain uint64
	// sums says that the sum of a video tag is that of its packet. Else it is made from what is written, as always for
	// sound: around a change of the configuration sound may come with the other kind of sum, and costs next to nothing.
	sums bool
	lead [avcLead]byte // scratch
}

var _ container = (*flvPart)(nil)

// The tag headers of H.264 and AAC.
const (
	avcLead = 5
	aacLead = 2
	aacTag  = 0xaf // what it says beside the codec is ignored
)

// newFLV makes the head of a part, and what the file begins with. sums: see flvPart.
func newFLV(c configs, limit time.Duration, sums bool) (*flvPart, []byte, error) {
	for t, only := range []media.Codec{media.AVC, media.AAC} {
		if c.codec[t] != media.NoCodec && c.codec[t] != only {
			return nil, nil, &ContainerError{Container: ContainerFLV, Codec: c.codec[t]}
		}
	}
	video, audio := c.video, c.audio
	if c.codec[vid] != media.NoCodec && !c.plain(vid) {
		video = append([]byte{0x17, 0, 0, 0, 0}, c.record(vid)...)
	}
	if c.codec[aud] != media.NoCodec && !c.plain(aud) {
		audio = append([]byte{aacTag, 0}, c.record(aud)...)
	}
	h, err := flv.NewHead(flv.HeadConfig{Video: video, Audio: audio, Meta: metadata(c.script), Limit: limit})
	if err != nil {
		return nil, nil, err
	}
	return &flvPart{h: h, sums: sums && c.tags()}, h.Patch(), nil
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
func (c *flvPart) complete() bool               { return true }
func (c *flvPart) duration() time.Duration      { return c.h.Duration() }
func (c *flvPart) frames() (video, audio int64) { return c.h.Frames() }
func (c *flvPart) content() uint64              { return c.chain }

func (c *flvPart) about() noteFile { return noteFile{} }

func (c *flvPart) add(o *output, it *repair.Item, ms int64, _ time.Duration) error {
	typ := flv.TagAudio
	if it.Kind == media.Video {
		typ = flv.TagVideo
	}
	if it.Lead > 0 && flv.IsPlain(typ, it.Body) {
		sum := it.Sum
		if !c.sums || typ == flv.TagAudio {
			sum = digest(typ, nil, it.Body)
		}
		return c.tag(o, typ, ms, it.Key, nil, it.Body, sum)
	}
	data := it.Payload()
	head := append(c.lead[:0], aacTag, 1)
	if typ == flv.TagVideo {
		head = append(c.lead[:0], 0x27, 1, byte(it.CTS>>16), byte(it.CTS>>8), byte(it.CTS))
		if it.Key {
			head[0] = 0x17
		}
	}
	if len(head)+len(data) > media.MaxBody {
		return fmt.Errorf("%w: %d bytes are too many for FLV", errRefused, len(data))
	}
	return c.tag(o, typ, ms, it.Key, head, data, digest(typ, head, data))
}

// digest is flv.Sum of a body in two pieces.
func digest(typ byte, head, data []byte) uint64 {
	var d xxhash.Digest
	t := [1]byte{typ}
	d.Reset()
	_, _ = d.Write(t[:]) // a Digest takes everything
	_, _ = d.Write(head)
	_, _ = d.Write(data)
	return d.Sum64()
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
		o.gather(data)
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
	var c flvPart
	if n.Seq == seg.ID.Seq && n.Size >= s.HeadLen && n.Size <= s.End && n.Frames > 0 {
		from, c.n, c.chain = n.Size, uint64(n.Frames), n.Content
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
			c.chain = media.Chain(c.chain, c.n, t.Sum)
		}
		tag := repair.TailTag{Kind: t.Kind, Key: t.Key, Out: t.DTS + m.base, Size: len(t.Body), Sum: t.Sum}
		if n.data() {
			lead := aacLead
			if t.Type == flv.TagVideo {
				lead = avcLead
			}
			data := t.Body[min(lead, len(t.Body)):]
			tag.Size, tag.Sum = len(data), digest(t.Type, nil, data)
		}
		m.tail = append(m.tail, tag)
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
