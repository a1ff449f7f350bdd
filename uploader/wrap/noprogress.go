package wrap

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// DefaultIdle is how long a transfer may stand still.
const DefaultIdle = 30 * time.Second

// slowest is the rate at which a target must at least be able to complete or to read back an object, in bytes per
// second: nobody can see those bytes move from out here.
const slowest = 1 << 20

// NoProgress ends calls that hang. A Put is cancelled when no byte of its body was taken for idle (0: DefaultIdle), or
// when the answer is that late after the last one; a transfer that moves may take as long as it likes, and time that is
// spent waiting for the body (a limit, a slow disk) does not count. Commit and Verify may work through the whole object
// where we cannot see it: they get idle and a second for each MiB, and that anew when they tell of bytes that move
// (uploader.Moved). All other calls get idle.
func NoProgress(t uploader.Target, idle time.Duration) uploader.Target {
	if idle <= 0 {
		idle = DefaultIdle
	}
	return &watched{t, idle}
}

type watched struct {
	t    uploader.Target
	idle time.Duration
}

// dog is a timer that cancels a call.
type dog struct {
	timer  *time.Timer
	idle   time.Duration
	cancel context.CancelCauseFunc
	ctx    context.Context
	stall  error
}

func watch(ctx context.Context, idle time.Duration) *dog {
	d := &dog{idle: idle, stall: fmt.Errorf("nothing moved for %v", idle)}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	d.timer = time.AfterFunc(idle, func() { d.cancel(d.stall) })
	d.ctx = uploader.WithMoved(d.ctx, func() { d.timer.Reset(idle) })
	return d
}

// end stops the watch and names the reason where it was the dog that ended the call.
func (d *dog) end(op, key string, err error) error {
	d.timer.Stop()
	if err != nil && context.Cause(d.ctx) == d.stall {
		err = &failure.Error{Op: op + " " + key, Kind: failure.Transient, Err: d.stall}
	}
	d.cancel(nil)
	return err
}

func (t *watched) whole(size int64) time.Duration {
	return t.idle + time.Duration(max(size, 0)/slowest)*time.Second
}

func (t *watched) ID() segment.TargetID    { return t.t.ID() }
func (t *watched) Limits() uploader.Limits { return t.t.Limits() }

func (t *watched) Check(ctx context.Context) error {
	d := watch(ctx, t.idle)
	return d.end("check", string(t.t.ID()), t.t.Check(d.ctx))
}

func (t *watched) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	d := watch(ctx, t.idle)
	up, err := t.t.Open(d.ctx, o)
	if err = d.end("open", o.Key, err); err != nil {
		return nil, err
	}
	return watchedUpload{up, t, o.Key}, nil
}

func (t *watched) Resume(ctx context.Context, o segment.Object, token string) (uploader.Upload, []segment.Ack, error) {
	d := watch(ctx, t.idle)
	up, acks, err := t.t.Resume(d.ctx, o, token)
	if err = d.end("resume", o.Key, err); err != nil {
		return nil, nil, err
	}
	return watchedUpload{up, t, o.Key}, acks, nil
}

func (t *watched) Verify(ctx context.Context, o segment.Object, r segment.Receipt) (segment.Proof, error) {
	d := watch(ctx, t.whole(o.Size))
	p, err := t.t.Verify(d.ctx, o, r)
	return p, d.end("verify", o.Key, err)
}

func (t *watched) Keep(ctx context.Context, key string, data []byte) error {
	d := watch(ctx, t.whole(int64(len(data))))
	return d.end("keep", key, t.t.Keep(d.ctx, key, data))
}

func (t *watched) Recall(ctx context.Context, key string) ([]byte, error) {
	d := watch(ctx, t.idle)
	data, err := t.t.Recall(d.ctx, key)
	return data, d.end("recall", key, err)
}

type watchedUpload struct {
	uploader.Upload
	t   *watched
	key string
}

func (u watchedUpload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	d := watch(ctx, u.t.idle)
	a, err := u.Upload.Put(d.ctx, c, &moving{body, d})
	return a, d.end(fmt.Sprintf("put chunk %d of", c.Index), u.key, err)
}

func (u watchedUpload) Commit(ctx context.Context, o segment.Object, acks []segment.Ack) (segment.Receipt, error) {
	d := watch(ctx, u.t.whole(o.Size))
	r, err := u.Upload.Commit(d.ctx, o, acks)
	return r, d.end("commit", u.key, err)
}

func (u watchedUpload) Abort(ctx context.Context) error {
	d := watch(ctx, u.t.idle)
	return d.end("abort", u.key, u.Upload.Abort(d.ctx))
}

// moving is a body that quiets the dog.
type moving struct {
	io.ReadSeeker
	d *dog
}

func (m *moving) Read(p []byte) (int, error) {
	m.d.timer.Stop()
	n, err := m.ReadSeeker.Read(p)
	m.d.timer.Reset(m.d.idle)
	return n, err
}

// Move implements uploader.FileBody: the dog watches while the network takes a piece.
func (m *moving) Move(most int, send func(f *os.File, off int64, n int) (int, error)) (int, error) {
	m.d.timer.Stop()
	n, err := move(m.ReadSeeker, most, func(f *os.File, off int64, n int) (int, error) {
		m.d.timer.Reset(m.d.idle)
		defer m.d.timer.Stop()
		return send(f, off, n)
	})
	m.d.timer.Reset(m.d.idle)
	return n, err
}
