// Package wrap holds what can be put around any uploader.Target: Retry for short blips, Limit for bandwidth, NoProgress
// for hung connections, Meter for counting, Fault for tests.
//
// It owns no connection and no file, and never changes what a call means. All decorators hand a body on as an
// io.ReadSeeker, so that whoever is inside may send it twice. The order matters: see Stack.
package wrap

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// Stack puts the usual decorators around t in the right order: the meter sees bytes as they pass the limit, the watchdog
// does not count the time that the limit takes, and each attempt of Retry has a watchdog of its own. A nil bucket or
// meter is left out; idle is NoProgress's.
func Stack(t uploader.Target, bucket *limit.Bytes, idle time.Duration, meter func(n int)) uploader.Target {
	t = Retry(NoProgress(t, idle))
	if bucket != nil {
		t = Limit(t, bucket)
	}
	if meter != nil {
		t = Meter(t, meter)
	}
	return t
}

// uploads is a Target whose uploads are wrapped; the decorators embed it.
type uploads struct {
	uploader.Target
	wrap func(uploader.Upload, segment.Object) uploader.Upload
}

func (t uploads) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	up, err := t.Target.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return t.wrap(up, o), nil
}

func (t uploads) Resume(ctx context.Context, o segment.Object, token string) (uploader.Upload, []segment.Ack, error) {
	up, acks, err := t.Target.Resume(ctx, o, token)
	if err != nil {
		return nil, nil, err
	}
	return t.wrap(up, o), acks, nil
}

// bodies is an Upload whose bodies are wrapped.
type bodies struct {
	uploader.Upload
	wrap func(context.Context, io.ReadSeeker) io.ReadSeeker
}

func (u bodies) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	return u.Upload.Put(ctx, c, u.wrap(ctx, body))
}

// Limit lets bodies through at the bucket's rate. Several targets may share one bucket.
func Limit(t uploader.Target, bucket *limit.Bytes) uploader.Target {
	return uploads{t, func(up uploader.Upload, _ segment.Object) uploader.Upload {
		return bodies{up, func(ctx context.Context, body io.ReadSeeker) io.ReadSeeker {
			return limited{reader{bucket.Reader(ctx, body), body}, body, bucket}
		}}
	}}
}

// limited is a body that passes at the bucket's rate. While there is none, the system may move it.
type limited struct {
	reader
	body   io.ReadSeeker
	bucket *limit.Bytes
}

// Move implements uploader.FileBody.
func (l limited) Move(most int, send func(f *os.File, off int64, n int) (int, error)) (int, error) {
	if !l.bucket.Off() {
		return 0, errors.ErrUnsupported
	}
	return move(l.body, most, send)
}

// move has a body moved, if it lies in a file.
func move(body io.ReadSeeker, most int, send func(f *os.File, off int64, n int) (int, error)) (int, error) {
	if b, ok := body.(uploader.FileBody); ok {
		return b.Move(most, send)
	}
	return 0, errors.ErrUnsupported
}

// Meter calls add with the number of bytes of each read of a body, as they move; those of a second attempt count again.
// add is called from several goroutines.
func Meter(t uploader.Target, add func(n int)) uploader.Target {
	return uploads{t, func(up uploader.Upload, _ segment.Object) uploader.Upload {
		return bodies{up, func(_ context.Context, body io.ReadSeeker) io.ReadSeeker {
			return reader{metered{body, add}, body}
		}}
	}}
}

type metered struct {
	r   io.Reader
	add func(n int)
}

func (m metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if n > 0 {
		m.add(n)
	}
	return n, err
}

// reader reads through one and seeks in the other, which lies below it.
type reader struct {
	io.Reader
	io.Seeker
}
