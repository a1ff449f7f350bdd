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
	for err == nil && m.torn > 0 {
		m, err = measure(f, m.torn, seg, n)
	}
	if err != nil || m.frames == 0 || m.container == nil {
		f.Close()
		switch {
		case err != nil:
		case m.frames > 0:
			err = fmt.Errorf("rebuild the head of %s: %w: %w", seg.ID, errDamaged, m.err)
		case seg.Size > 0:
			err = fmt.Errorf("nothing can be read of %d bytes of %s: %w", seg.Size, seg.ID, errDamaged)
		}
		return nil, nil, err
	}
	if m.end < seg.Size {
		f.Close()
		return nil, nil, fmt.Errorf("%s ends at %d of %d bytes: %w", seg.ID, m.end, seg.Size, errDamaged)
	}
	if m.rewrite != nil { // before the cut: a file that is closed must not lose its index first
		if _, err := f.WriteAt(m.rewrite, 0); err != nil {
			f.Close()
			return nil, nil, err
		}
	}
	if m.end < f.Size() {
		if err := f.Truncate(m.end); err != nil {
			f.Close()
			return nil, nil, err
		}
	}
	seg.Head = m.container.head()
	p := &part{output: output{file: f, buf: make([]byte, 0, writeBuffer)}, container: m.container, seg: seg, base: m.base, exact: m.exact,
		count: m.frames, durable: new(atomic.Int64)}
	p.durable.Store(seg.Size)
	return p, m.tail, nil
}

// measured is what a file says about a part.
type measured struct {
	end       int64
	container container // stands behind the last whole unit, ready for more; nil: it cannot be gone on with
	err       error     // why not
	torn      int64     // place of the first frame that is not what was written; 0: none was seen
	rewrite   []byte    // what the file must begin with to be gone on with; nil: it does
	base      int64
	exact     time.Duration // base, as exact as it is known
	frames    int64
	tail      []repair.TailTag
}

// measure reads a part through.
func measure(r io.ReaderAt, size int64, seg segment.Segment, n note) (measured, error) {
	m, err := measureAs(containerOf(seg.Path), r, size, seg, n)
	if err == nil && m.exact == 0 {
		m.exact = ms(m.base)
	}
	return m, err
}

func measureAs(kind Container, r io.ReaderAt, size int64, seg segment.Segment, n note) (measured, error) {
	switch kind {
	case ContainerMP4:
		return measureMP4(r, size, seg, n)
	case ContainerTS:
		return measureTS(r, size, seg, n)
	}
	return measureFLV(r, size, seg, n)
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

// exactOf is the same, as exact as the source's clock is.
func exactOf(seq uint32, n note) time.Duration {
	if n.Seq == seq && n.File.Container != "" {
		return n.File.Exact
	}
	return ms(baseOf(seq, n))
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
	if m.container != nil {
		seg = measureOf(seg, m.container)
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
	if err == nil && m.container != nil {
		seg = measureOf(seg, m.container)
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
