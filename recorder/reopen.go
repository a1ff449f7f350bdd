package recorder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// tailLength is how much media of a part is read back for its digests.
const tailLength = 30 * time.Second

// errDamaged says that bytes which were durable are not sound any more.
var errDamaged = errors.New("the part is damaged below its durable length")

// reopen goes on in a part that an earlier process, or a refused write, left open: the file is cut to its last whole
// tag, and everything that is known of it is rebuilt from it. n is the newest note; where it is of this part, only what
// came after it is hashed again. seg is as the ledger has it. The part is nil if there is no frame in it; the file is
// left as it is then.
func reopen(dir *durable.Dir, seg segment.Segment, n note) (*part, []repair.TailTag, error) {
	f, err := dir.Edit(seg.Path + segment.PartSuffix)
	if err != nil {
		return nil, nil, err
	}
	m, err := measure(f, f.Size(), seg, n)
	if err != nil || m.frames == 0 || m.head == nil {
		f.Close()
		if err == nil && m.frames > 0 {
			err = fmt.Errorf("rebuild the head of %s: %w: %w", seg.ID, errDamaged, m.headErr)
		}
		return nil, nil, err
	}
	if m.end < seg.Size {
		f.Close()
		return nil, nil, fmt.Errorf("%s ends at %d of %d bytes: %w", seg.ID, m.end, seg.Size, errDamaged)
	}
	if m.end < f.Size() {
		if err := f.Truncate(m.end); err != nil {
			f.Close()
			return nil, nil, err
		}
	}
	seg.Head = m.head.Len()
	p := &part{seg: seg, file: f, head: m.head, base: m.base, buf: make([]byte, 0, writeBuffer), frames: m.frames, content: m.content,
		durable: new(atomic.Int64)}
	p.durable.Store(seg.Size)
	return p, m.tail, nil
}

// measured is what a file says about a part.
type measured struct {
	end     int64
	head    *flv.Head
	headErr error
	base    int64
	frames  int64
	content uint64
	tail    []repair.TailTag
}

// measure reads a part through. A file that is no FLV at all, because it was created and not written, has no frames.
func measure(r io.ReaderAt, size int64, seg segment.Segment, n note) (measured, error) {
	m := measured{base: baseOf(seg.ID.Seq, n)}
	s, err := scan(r, size, n, 0)
	if errors.Is(err, flv.ErrNotFLV) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	from := s.HeadLen
	if n.Seq == seg.ID.Seq && n.Size >= s.HeadLen && n.Size <= s.End && n.Frames > 0 {
		from, m.frames, m.content = n.Size, n.Frames, n.Content
	}
	if err := m.read(r, size, n, from); err != nil {
		return m, err
	}
	if m.frames != s.Video.Frames+s.Audio.Frames { // the note is not of this file: everything again
		m.frames, m.content, m.tail = 0, 0, nil
		if err := m.read(r, size, n, s.HeadLen); err != nil {
			return m, err
		}
	}
	return m, nil
}

// read walks the file and hashes what begins at or behind from.
func (m *measured) read(r io.ReaderAt, size int64, n note, from int64) error {
	s, err := scanTags(r, size, n, from, func(t flv.Tag) error {
		if t.Offset >= from {
			m.frames++
			m.content = repair.Chain(m.content, uint64(m.frames), t.Sum)
		}
		m.tail = append(m.tail, repair.TailTag{Kind: t.Kind, Key: t.Key, Out: t.DTS + m.base, Size: len(t.Body), Sum: t.Sum})
		return nil
	})
	if err != nil {
		return err
	}
	m.end, m.head, m.headErr = s.End, s.Head, s.HeadErr
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

// baseOf is the output time at which a part begins: as the note says, or where the part before it ended.
func baseOf(seq uint32, n note) int64 {
	switch {
	case n.Seq == seq:
		return n.Base
	case n.Seq > 0 && n.Seq < seq && n.Closed != segment.CutNone:
		return n.Base + n.Place
	case n.Seq > 0 && n.Seq < seq:
		return max(n.Repair.Last[0], n.Repair.Last[1])
	}
	return 0
}

// finish brings a part that nobody will write to any more to its end, wherever a crash has left it: still open (K2),
// not renamed (K3), not sealed (K4). media is false if there is none in it: then there is no file any more, and the
// segment is to be voided (K1).
func finish(ctx context.Context, dir *durable.Dir, seg segment.Segment, cause segment.Cause, n note) (done segment.Segment, media bool, err error) {
	if _, err := dir.Stat(seg.Path); err == nil {
		return finishRenamed(ctx, dir, seg, cause, n)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return seg, false, err
	}
	p, _, err := reopen(dir, seg, n)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return seg, false, nil
	case errors.Is(err, errDamaged):
		return finishDamaged(ctx, dir, seg, cause, n)
	case err != nil:
		return seg, false, err
	case p == nil:
		return seg, false, dir.Remove(seg.Path + segment.PartSuffix)
	}
	done = p.measure()
	done.Cut = cause
	s := sealing{dir: dir, seg: done, part: p}
	if err := s.run(ctx); err != nil {
		if !s.closed {
			p.file.Close() // the next attempt opens it again
		}
		return seg, true, err
	}
	return s.seg, true, nil
}

// finishRenamed measures a part that has its name already.
func finishRenamed(ctx context.Context, dir *durable.Dir, seg segment.Segment, cause segment.Cause, n note) (segment.Segment, bool, error) {
	f, err := dir.Read(seg.Path)
	if err != nil {
		return seg, true, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return seg, true, fmt.Errorf("measure %s: %w", seg.Path, err)
	}
	m, err := measure(f, fi.Size(), seg, n)
	if err != nil {
		return seg, true, err
	}
	if m.head != nil {
		p := part{seg: seg, head: m.head, content: m.content}
		seg = p.measure()
		seg.Head = m.head.Len()
	}
	if err := rename(dir, seg.Path); err != nil { // its folder may not be synced
		return seg, true, err
	}
	return sum(ctx, dir, seg, cause)
}

// finishDamaged keeps a part as it is on the disk: what a target already has of it must not change.
func finishDamaged(ctx context.Context, dir *durable.Dir, seg segment.Segment, cause segment.Cause, n note) (segment.Segment, bool, error) {
	f, err := dir.Edit(seg.Path + segment.PartSuffix)
	if err != nil {
		return seg, true, err
	}
	m, err := measure(f, f.Size(), seg, n)
	if err == nil && m.head != nil {
		p := part{seg: seg, head: m.head, content: m.content}
		seg = p.measure()
		seg.Head = m.head.Len()
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return seg, true, err
	}
	if err := rename(dir, seg.Path); err != nil {
		return seg, true, err
	}
	return sum(ctx, dir, seg, cause)
}

func sum(ctx context.Context, dir *durable.Dir, seg segment.Segment, cause segment.Cause) (segment.Segment, bool, error) {
	var err error
	if seg.SHA256, seg.Size, err = hash(ctx, dir, seg.Path); err != nil {
		return seg, true, err
	}
	seg.Cut, seg.Sealed = cause, true
	return seg, true, nil
}

// rescue asks for a part to be finished that could not be closed where it was written.
func (s *sealer) rescue(seg segment.Segment, cause segment.Cause, n note) {
	s.then(func(ctx context.Context) error {
		done, media, err := finish(ctx, s.dir, seg, cause, n)
		if err != nil {
			return err
		}
		if !media {
			s.clerk.say("void "+seg.ID.String(), func(ctx context.Context) error {
				if err := s.clerk.journal.Void(ctx, seg.ID); err != nil {
					return err
				}
				s.clerk.count(-1)
				return nil
			})
			return nil
		}
		s.record(done)
		return nil
	})
}
