package s3

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/liverec/liverec/uploader"
)

// pieceSize is what is moved between two looks of the watch over the progress.
const pieceSize = 256 << 10

// mover sends bodies that lie in files by sendfile(2): they are neither read nor written by us, and where nobody encrypts
// them, not copied.
type mover struct {
	io.Writer // never used: it makes a mover what WriteTo takes
	to        syscall.RawConn
	left      int64
}

// newMover is nil for what is no TCP connection.
func newMover(c net.Conn, n int64) *mover {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	to, err := t.SyscallConn()
	if err != nil {
		return nil
	}
	return &mover{to: to, left: n}
}

// all sends what is left of the body.
func (m *mover) all(body uploader.FileBody) (sent int64, err error) {
	for m.left > 0 {
		n, err := body.Move(int(min(m.left, pieceSize)), m.piece)
		sent += int64(n)
		m.left -= int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func (m *mover) piece(f *os.File, off int64, n int) (int, error) {
	from, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	sent := 0
	var serr error
	werr := m.to.Write(func(to uintptr) bool {
		serr = nil
		cerr := from.Control(func(fd uintptr) {
			for sent < n && serr == nil {
				var k int
				k, serr = unix.Sendfile(int(to), int(fd), &off, n-sent)
				switch {
				case errors.Is(serr, unix.EINTR):
					serr = nil
				case serr == nil && k <= 0:
					serr = io.ErrUnexpectedEOF
				case k > 0:
					sent += k
				}
			}
		})
		if cerr != nil {
			serr = cerr
		}
		return !errors.Is(serr, unix.EAGAIN)
	})
	switch {
	case werr != nil:
		return sent, werr
	case serr == nil || errors.Is(serr, io.ErrUnexpectedEOF):
		return sent, serr
	case sent == 0 && (errors.Is(serr, unix.EINVAL) || errors.Is(serr, unix.ENOSYS) || errors.Is(serr, unix.EOPNOTSUPP)):
		return 0, errors.ErrUnsupported // this file system cannot
	}
	return sent, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("sendfile", serr)}
}
