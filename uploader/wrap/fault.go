package wrap

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// Op names a call at the fault seam.
type Op string

// The calls on a target and on an upload.
const (
	OpCheck  Op = "check"
	OpOpen   Op = "open"
	OpResume Op = "resume"
	OpVerify Op = "verify"
	OpKeep   Op = "keep"
	OpRecall Op = "recall"
	OpPut    Op = "put"
	OpCommit Op = "commit"
	OpAbort  Op = "abort"
)

// Ops lists the calls at the fault seam.
func Ops() []Op {
	return []Op{OpCheck, OpOpen, OpResume, OpVerify, OpKeep, OpRecall, OpPut, OpCommit, OpAbort}
}

// Call is one call at the fault seam.
type Call struct {
	Op    Op
	Key   string // "" for a check
	Chunk int    // of a put, else -1
	Nth   int    // how often this has been called with the same Op, Key and Chunk, from 1
}

// Fate is what becomes of a call. The zero Fate lets it through.
type Fate struct {
	Wait time.Duration // goes by first
	Hang bool          // nothing happens until the context ends
	Cut  bool          // put: the body breaks off in the middle
	Flip bool          // put: one byte of the body arrives wrong
	Err  error         // is answered; without Lost nothing was done
	Lost bool          // the call is carried out and its answer lost: Err, or a broken connection, is answered
}

// Script decides what becomes of each call. It is called from several goroutines.
type Script func(Call) Fate

// ErrLost is the broken connection of a lost answer.
var ErrLost = errors.New("connection reset by peer")

// Fault is the test seam: t behind a line that does what the script says.
func Fault(t uploader.Target, s Script) uploader.Target {
	return &faulty{Target: t, script: s, times: map[Call]int{}}
}

type faulty struct {
	uploader.Target
	script Script

	mu    sync.Mutex
	times map[Call]int
}

// do asks the script and carries the call out as it says.
func (f *faulty) do(ctx context.Context, op Op, key string, chunk int, act func(Fate) error) error {
	c := Call{Op: op, Key: key, Chunk: chunk}
	f.mu.Lock()
	f.times[c]++
	n := f.times[c]
	f.mu.Unlock()
	c.Nth = n
	fate := f.script(c)
	broken := func(err error) error {
		return &failure.Error{Op: string(op) + " " + key, Kind: failure.Transient, Err: err}
	}
	if !backoff.Sleep(ctx, fate.Wait) {
		return broken(context.Cause(ctx))
	}
	if fate.Hang {
		<-ctx.Done()
		return broken(context.Cause(ctx))
	}
	if fate.Err != nil && !fate.Lost {
		return fate.Err
	}
	err := act(fate)
	if !fate.Lost {
		return err
	}
	if fate.Err != nil {
		return fate.Err
	}
	return broken(ErrLost)
}

func (f *faulty) Check(ctx context.Context) error {
	return f.do(ctx, OpCheck, "", -1, func(Fate) error { return f.Target.Check(ctx) })
}

func (f *faulty) Open(ctx context.Context, o segment.Object) (up uploader.Upload, err error) {
	err = f.do(ctx, OpOpen, o.Key, -1, func(Fate) (err error) {
		up, err = f.Target.Open(ctx, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &faultyUpload{up, f, o.Key}, nil
}

func (f *faulty) Resume(ctx context.Context, o segment.Object, token string) (up uploader.Upload, acks []segment.Ack, err error) {
	err = f.do(ctx, OpResume, o.Key, -1, func(Fate) (err error) {
		up, acks, err = f.Target.Resume(ctx, o, token)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return &faultyUpload{up, f, o.Key}, acks, nil
}

func (f *faulty) Verify(ctx context.Context, o segment.Object, r segment.Receipt) (p segment.Proof, err error) {
	err = f.do(ctx, OpVerify, o.Key, -1, func(Fate) (err error) {
		p, err = f.Target.Verify(ctx, o, r)
		return err
	})
	if err != nil {
		return segment.Proof{}, err
	}
	return p, nil
}

func (f *faulty) Keep(ctx context.Context, key string, data []byte) error {
	return f.do(ctx, OpKeep, key, -1, func(Fate) error { return f.Target.Keep(ctx, key, data) })
}

func (f *faulty) Recall(ctx context.Context, key string) (data []byte, err error) {
	err = f.do(ctx, OpRecall, key, -1, func(Fate) (err error) {
		data, err = f.Target.Recall(ctx, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

type faultyUpload struct {
	uploader.Upload
	f   *faulty
	key string
}

func (u *faultyUpload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (a segment.Ack, err error) {
	err = u.f.do(ctx, OpPut, u.key, c.Index, func(fate Fate) (err error) {
		switch {
		case fate.Cut:
			body = &spoilt{ReadSeeker: body, at: c.Length / 2, cut: true}
		case fate.Flip:
			body = &spoilt{ReadSeeker: body, at: c.Length / 2}
		}
		a, err = u.Upload.Put(ctx, c, body)
		return err
	})
	if err != nil {
		return segment.Ack{}, err
	}
	return a, nil
}

func (u *faultyUpload) Commit(ctx context.Context, o segment.Object, acks []segment.Ack) (r segment.Receipt, err error) {
	err = u.f.do(ctx, OpCommit, u.key, -1, func(Fate) (err error) {
		r, err = u.Upload.Commit(ctx, o, acks)
		return err
	})
	if err != nil {
		return segment.Receipt{}, err
	}
	return r, nil
}

func (u *faultyUpload) Abort(ctx context.Context) error {
	return u.f.do(ctx, OpAbort, u.key, -1, func(Fate) error { return u.Upload.Abort(ctx) })
}

// spoilt is a body that breaks off at a place, or has a wrong byte there.
type spoilt struct {
	io.ReadSeeker
	at, pos int64
	cut     bool
}

func (s *spoilt) Read(p []byte) (int, error) {
	if s.cut {
		if s.pos >= s.at {
			return 0, &failure.Error{Kind: failure.Transient, Err: io.ErrUnexpectedEOF}
		}
		p = p[:min(int64(len(p)), s.at-s.pos)]
	}
	n, err := s.ReadSeeker.Read(p)
	if !s.cut && s.at >= s.pos && s.at < s.pos+int64(n) {
		p[s.at-s.pos] ^= 0x20
	}
	s.pos += int64(n)
	return n, err
}

func (s *spoilt) Seek(off int64, whence int) (int64, error) {
	pos, err := s.ReadSeeker.Seek(off, whence)
	if err == nil {
		s.pos = pos
	}
	return pos, err
}
