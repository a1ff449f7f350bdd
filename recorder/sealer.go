package recorder

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
)

// sealer finishes closed parts, one after the other, in order: patch, fsync, close, rename, fsync of the folder,
// SHA-256, ledger. It tries each for ever: a part that is not sealed stays on the disk and is not forgotten.
type sealer struct {
	dir   *durable.Dir
	clerk *clerk
	log   zerolog.Logger
	warn  *obs.Warner

	wake chan struct{} // sent by everybody who changes what is below; never closed

	mu     sync.Mutex
	jobs   []func(ctx context.Context) error
	closed bool
}

func newSealer(dir *durable.Dir, c *clerk, log zerolog.Logger) *sealer {
	return &sealer{dir: dir, clerk: c, log: log, warn: obs.NewWarner(log, time.Minute), wake: make(chan struct{}, 1)}
}

// then asks for do after everything that was asked for before. An error means: again later.
func (s *sealer) then(do func(ctx context.Context) error) {
	s.mu.Lock()
	s.jobs = append(s.jobs, do)
	s.mu.Unlock()
	s.poke()
}

func (s *sealer) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// close lets run end once everything is done.
func (s *sealer) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.poke()
}

// left is how many jobs are not done.
func (s *sealer) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.jobs)
}

// run works until close was called and nothing is left, or until ctx is done.
func (s *sealer) run(ctx context.Context) {
	again := backoff.New(backoff.Policy{First: 200 * time.Millisecond, Max: time.Second})
	for {
		s.mu.Lock()
		var job func(ctx context.Context) error
		if len(s.jobs) > 0 {
			job = s.jobs[0]
		}
		end := s.closed && job == nil
		s.mu.Unlock()
		if end {
			return
		}
		if job == nil {
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
			}
			continue
		}
		if err := job(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.warn.Add(err, "closed part cannot be finished yet, it stays on the disk")
			if !again.Wait(ctx, err) {
				return
			}
			continue
		}
		s.warn.Add(nil, "closed parts can be finished again")
		again.Reset()
		s.mu.Lock()
		s.jobs = s.jobs[1:]
		s.mu.Unlock()
	}
}

// seal asks for a part to be finished. The part belongs to the sealer from now on. seg is what it will be, but for the
// sum.
func (s *sealer) seal(p *part, seg segment.Segment) {
	steps := sealing{dir: s.dir, seg: seg, part: p}
	s.then(func(ctx context.Context) error {
		if err := steps.run(ctx); err != nil {
			return err
		}
		s.record(steps.seg)
		return nil
	})
}

// record tells the ledger and rings.
func (s *sealer) record(done segment.Segment) {
	s.clerk.say("seal "+done.ID.String(), func(ctx context.Context) error {
		if err := s.clerk.journal.Seal(ctx, done); err != nil {
			return err
		}
		s.clerk.count(-1)
		s.log.Info().Str("session", string(done.ID.Session)).Uint32("seq", done.ID.Seq).Int64("bytes", done.Size).Dur("duration", done.Duration).
			Str("cut", string(done.Cut)).Msg("segment sealed")
		s.clerk.ring(segment.Progress{ID: done.ID, Durable: done.Size, Sealed: true})
		return nil
	})
}

// sealing is how far the end of one part has come. Every step may be done again.
type sealing struct {
	dir  *durable.Dir
	seg  segment.Segment
	part *part

	ending ending
	end    int64 // of the media

	ended, synced, closed, renamed bool
}

func (s *sealing) run(ctx context.Context) error {
	if !s.synced {
		if err := s.part.save(); err != nil {
			return err
		}
		if !s.ended {
			s.ending, s.end, s.ended = s.part.finish(), s.part.file.Size(), true
			s.seg.Size = s.end + int64(len(s.ending.tail))
		}
		if err := s.ending.apply(s.part.file, s.end); err != nil {
			return fmt.Errorf("close %s: %w", s.seg.ID, err)
		}
		s.synced, s.ending = true, ending{}
	}
	if !s.closed {
		// Everything is on the disk; what Close could still complain about cannot be done again either.
		s.closed = true
		if err := s.part.file.Close(); err != nil {
			return err
		}
	}
	if !s.renamed {
		if err := rename(s.dir, s.seg.Path); err != nil {
			return err
		}
		s.renamed = true
	}
	sum, size, err := hash(ctx, s.dir, s.seg.Path)
	if err != nil {
		return err
	}
	if size != s.seg.Size {
		return fmt.Errorf("%s has %d bytes, %d were written", s.seg.Path, size, s.seg.Size)
	}
	s.seg.SHA256, s.seg.Sealed = sum, true
	return nil
}

// rename gives a finished part its name. It may have it already.
func rename(dir *durable.Dir, path string) error {
	err := dir.Rename(path+segment.PartSuffix, path)
	if errors.Is(err, fs.ErrNotExist) {
		return dir.Rename(path, path) // it has the name; only the folder may not be synced
	}
	return err
}

// hash reads a file through.
func hash(ctx context.Context, dir *durable.Dir, path string) (segment.Sum, int64, error) {
	var sum segment.Sum
	f, err := dir.Read(path)
	if err != nil {
		return sum, 0, err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 256<<10)
	var size int64
	for {
		if ctx.Err() != nil {
			return sum, 0, ctx.Err()
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return sum, 0, fmt.Errorf("read %s: %w", path, err)
		}
	}
	h.Sum(sum[:0])
	return sum, size, nil
}
