package recorder

import (
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// part is the open file. The writer has it until it gives it to the sealer; the clerk syncs it meanwhile.
type part struct {
	output    // what is in the file, and whole units that are not in it yet
	container // what the file is made of

	seg   segment.Segment // ID, Room, Path, Start, Head; the rest is filled in at the seal
	base  int64           // output time of the file's time 0, ms
	exact time.Duration   // the same, as exact as the source's clock is
	// source is the time of the first frame on the source's clock, if this process began the part.
	source int64

	since time.Time // when the oldest frame came that is not in the file yet
	count int64     // frames, those that are not in the file included

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

// take takes one frame. It writes only when the buffer is full.
func (p *part) take(it *repair.Item) error {
	if !p.waiting() {
		p.since = it.At
	}
	err := p.add(&p.output, it, max(it.Out-p.base, 0), max(it.Time-p.exact, 0))
	if err == nil {
		p.count++
	}
	return err
}

// waiting reports whether there are frames that are not in the file yet.
func (p *part) waiting() bool { return p.waits() > 0 || p.held() > 0 }

// save hands everything that was taken to the system. After an error the file may end in a torn unit, and what the
// buffer held beyond that is lost.
func (p *part) save() error {
	if err := p.flush(&p.output); err != nil {
		return err
	}
	return p.write()
}

// memo is what a next process must be told of the file.
func (p *part) memo() noteFile {
	f := p.about()
	if f.Container != "" {
		f.Exact = p.exact
	}
	return f
}

// patch brings the head up to date. Everything that was taken must be in the file.
func (p *part) patch(now time.Time) error {
	p.patched, p.patchedSize = now, p.file.Size()
	head := p.index()
	if head == nil {
		return nil
	}
	_, err := p.file.WriteAt(head, 0)
	return err
}

// measure fills in what the container knows.
func (p *part) measure() segment.Segment { return measureOf(p.seg, p.container) }

func measureOf(s segment.Segment, c container) segment.Segment {
	s.Head = c.head()
	s.Duration = c.duration().Round(time.Millisecond)
	s.Size = c.size()
	s.VideoFrames, s.AudioFrames = c.frames()
	s.Content = c.content()
	return s
}
