package recorder

import (
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// part is the open file. The writer has it until it gives it to the sealer; the clerk syncs it meanwhile.
type part struct {
	seg  segment.Segment // ID, Room, Path, Start, Head; the rest is filled in at the seal
	file *durable.File
	head *flv.Head
	base int64 // output time of the file's time 0, ms
	// source is the time of the first frame on the source's clock, if this process began the part.
	source int64

	buf   []byte    // whole tags that are not in the file yet
	since time.Time // when the oldest of them came

	frames int64 // media tags, those in buf included
	// content is repair.Chain over them, with their ordinals in this part (from 1) and their digests: whoever reads the
	// media tags of a part in file order gets the same value.
	content uint64

	told    int64 // durable length of the last note to the ledger
	toldAt  time.Time
	synced  time.Time // last wish to sync
	wished  int64     // file size at that wish
	patched time.Time
	// patchedSize is the file size that the head in the file tells of.
	patchedSize int64

	durable *atomic.Int64 // bytes that are fsynced
	sealing atomic.Bool
	trouble atomic.Pointer[error] // a sync that went wrong
}

// add takes one frame. now is when it came. It writes only when the buffer is full.
func (p *part) add(typ byte, dts int64, body []byte, sum uint64, key bool, now time.Time) error {
	t := uint32(max(dts-p.base, 0))
	if len(p.buf)+flv.TagOverhead+len(body) > writeBuffer {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.head.Add(typ, int64(t), len(body), key)
	p.frames++
	p.content = repair.Chain(p.content, uint64(p.frames), sum)
	if len(p.buf) == 0 {
		p.since = now
	}
	p.buf = flv.AppendTagHeader(p.buf, typ, t, len(body))
	if flv.TagOverhead+len(body) > writeBuffer {
		return p.addLarge(body)
	}
	p.buf = append(p.buf, body...)
	p.buf = flv.AppendTagTrailer(p.buf, len(body))
	return nil
}

// addLarge writes a body that is larger than the buffer past it.
func (p *part) addLarge(body []byte) error {
	if err := p.flush(); err != nil {
		return err
	}
	if _, err := p.file.Write(body); err != nil {
		return err
	}
	p.buf = flv.AppendTagTrailer(p.buf, len(body))
	return p.flush()
}

// flush hands the buffer to the system. After an error the file may end in a torn tag, and what the buffer held
// beyond that is lost.
func (p *part) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	_, err := p.file.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}

// patch brings the head up to date. Everything that was added must be in the file.
func (p *part) patch(now time.Time) error {
	p.patched, p.patchedSize = now, p.head.Size()
	_, err := p.file.WriteAt(p.head.Patch(), 0)
	return err
}

// size is what the file will have when the buffer is written.
func (p *part) size() int64 { return p.head.Size() }

// measure fills in what the head knows.
func (p *part) measure() segment.Segment {
	s := p.seg
	s.Duration = p.head.Duration()
	s.Size = p.head.Size()
	s.VideoFrames, s.AudioFrames = p.head.Frames()
	s.Content = p.content
	return s
}
