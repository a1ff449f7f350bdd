package wrap

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// onDisk is a body that can be moved. There is no file: the tests look at places only.
type onDisk struct {
	*strings.Reader
	moved int
}

func (b *onDisk) Move(most int, send func(f *os.File, off int64, n int) (int, error)) (int, error) {
	if b.Len() == 0 {
		return 0, io.EOF
	}
	at := b.Size() - int64(b.Len())
	n, err := send(nil, at, min(most, b.Len()))
	if n > 0 {
		b.moved += n
		if _, err := b.Seek(at+int64(n), io.SeekStart); err != nil {
			return n, err
		}
	}
	return n, err
}

// mover is an upload that has bodies moved. Its first Put fails while a piece is on its way.
type mover struct {
	uploader.Upload
	puts int
	free chan struct{} // closed when the late piece of the first attempt is through
	late chan error
	got  []int64
}

func (u *mover) Put(_ context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	b, ok := body.(uploader.FileBody)
	if !ok {
		return segment.Ack{}, errors.New("the body cannot be moved")
	}
	if u.puts++; u.puts == 1 {
		going := make(chan struct{})
		go func() {
			_, err := b.Move(4, func(_ *os.File, _ int64, n int) (int, error) {
				close(going)
				<-u.free
				return n, nil
			})
			u.late <- err
		}()
		<-going
		return segment.Ack{}, &failure.Error{Kind: failure.Transient, Err: io.ErrUnexpectedEOF}
	}
	for {
		_, err := b.Move(4, func(_ *os.File, off int64, n int) (int, error) {
			if off == 4 { // in the middle of this attempt
				close(u.free)
				synctest.Wait()
			}
			u.got = append(u.got, off)
			return n, nil
		})
		if errors.Is(err, io.EOF) {
			return segment.Ack{Chunk: c}, nil
		}
		if err != nil {
			return segment.Ack{}, err
		}
	}
}

// A piece of a failed attempt that the network takes late does not disturb the next one.
func TestAMovedBodyIsLentToOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &mover{free: make(chan struct{}), late: make(chan error, 1)}
		body := &onDisk{Reader: strings.NewReader("0123456789")}
		bucket := limit.NewBytes(0)
		c := segment.Chunk{Length: 10}
		if _, err := (retried{watchedUpload{up, &watched{idle: DefaultIdle}, "k"}, "k"}).Put(t.Context(), c, limited{reader{body, body}, body, bucket}); err != nil {
			t.Fatal(err)
		}
		if err := <-up.late; !errors.Is(err, errOver) {
			t.Errorf("the late piece: %v", err)
		}
		if len(up.got) != 3 || up.got[1] != 4 || up.got[2] != 8 || body.moved != 10 {
			t.Errorf("pieces at %v, %d bytes moved", up.got, body.moved)
		}
		bucket.Set(1e6)
		if _, err := (limited{reader{body, body}, body, bucket}).Move(4, nil); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("with a limit: %v", err)
		}
	})
}
