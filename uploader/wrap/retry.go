package wrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// blip is how long a call may have taken for a further attempt to be worth it here: what lasts longer is weather, and
// weather is the lane's affair, which has to know of it.
const (
	blip     = 3 * time.Second
	attempts = 3
)

// Retry heals short blips: a call that fails fast with a Transient error is made again, twice at the most, within 3 s.
// Commit is never repeated (its answer may be lost: the lane asks first), and neither is Check, which is itself a
// question about the weather. Each further attempt is told to uploader.Repeat.
func Retry(t uploader.Target) uploader.Target {
	return retrying{uploads{t, func(up uploader.Upload, o segment.Object) uploader.Upload { return retried{up, o.Key} }}}
}

func again(ctx context.Context, act func() error) error {
	wait := backoff.New(backoff.Policy{First: 100 * time.Millisecond, Max: time.Second, Factor: 5})
	start := time.Now()
	for n := 1; ; n++ {
		err := act()
		if err == nil || n == attempts || failure.KindOf(err) != failure.Transient ||
			errors.Is(err, failure.ErrAbsent) || errors.Is(err, failure.ErrDamaged) ||
			time.Since(start) > blip || !wait.Wait(ctx, err) {
			return err
		}
		uploader.Repeat(ctx, err)
	}
}

type retrying struct{ uploads }

func (t retrying) Open(ctx context.Context, o segment.Object) (up uploader.Upload, err error) {
	err = again(ctx, func() (err error) {
		up, err = t.uploads.Open(ctx, o)
		return err
	})
	return up, err
}

func (t retrying) Resume(ctx context.Context, o segment.Object, token string) (up uploader.Upload, acks []segment.Ack, err error) {
	err = again(ctx, func() (err error) {
		up, acks, err = t.uploads.Resume(ctx, o, token)
		return err
	})
	return up, acks, err
}

func (t retrying) Verify(ctx context.Context, o segment.Object, r segment.Receipt) (p segment.Proof, err error) {
	err = again(ctx, func() (err error) {
		p, err = t.uploads.Verify(ctx, o, r)
		return err
	})
	return p, err
}

func (t retrying) Keep(ctx context.Context, key string, data []byte) error {
	return again(ctx, func() error { return t.uploads.Keep(ctx, key, data) })
}

func (t retrying) Recall(ctx context.Context, key string) (data []byte, err error) {
	err = again(ctx, func() (err error) {
		data, err = t.uploads.Recall(ctx, key)
		return err
	})
	return data, err
}

type retried struct {
	uploader.Upload
	key string
}

func (u retried) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (a segment.Ack, err error) {
	err = again(ctx, func() (err error) {
		l := &lease{body: body, turn: make(chan struct{}, 1)}
		defer l.end()
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return &failure.Error{Op: fmt.Sprintf("rewind chunk %d of %s", c.Index, u.key), Err: err}
		}
		a, err = u.Upload.Put(ctx, c, l)
		return err
	})
	return a, err
}

// lease is the body of one attempt. An HTTP transport may go on reading for a moment after its call has failed; that
// must not disturb the next attempt.
type lease struct {
	body io.ReadSeeker
	turn chan struct{} // holds one while the body is in use: a lock that a synctest bubble can see through
	over bool
}

var errOver = errors.New("this attempt is over")

func (l *lease) Read(p []byte) (int, error) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.over {
		return 0, errOver
	}
	return l.body.Read(p)
}

// Move implements uploader.FileBody. Whoever ends the attempt does not wait for the network; what it took by then is as
// if it had not been taken.
func (l *lease) Move(most int, send func(f *os.File, off int64, n int) (int, error)) (int, error) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.over {
		return 0, errOver
	}
	return move(l.body, most, func(f *os.File, off int64, n int) (int, error) {
		<-l.turn
		n, err := send(f, off, n)
		l.turn <- struct{}{}
		if l.over {
			return 0, errOver
		}
		return n, err
	})
}

func (l *lease) Seek(off int64, whence int) (int64, error) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.over {
		return 0, errOver
	}
	return l.body.Seek(off, whence)
}

func (l *lease) end() {
	l.turn <- struct{}{}
	l.over = true
	<-l.turn
}
