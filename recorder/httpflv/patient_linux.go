package httpflv

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// patient reads from a TCP connection so that what arrives during a nap wakes nobody: the poller is only told when a
// nap's worth of bytes has gathered (SO_RCVLOWAT; that also makes the receive window wide enough for them), or, once a
// read has found nothing, at the first byte. What is no TCP connection is read as it is.
func patient(c net.Conn) io.Reader {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	return &lowWater{raw: raw}
}

type lowWater struct {
	raw  syscall.RawConn
	mark int
}

// set moves the mark. A kernel that does not want to costs wake-ups, no bytes.
func (l *lowWater) set(fd, mark int) {
	if l.mark != mark && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, mark) == nil {
		l.mark = mark
	}
}

func (l *lowWater) Read(p []byte) (n int, err error) {
	rerr := l.raw.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Read(int(fd), p)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if errors.Is(err, unix.EAGAIN) {
			l.set(int(fd), 1)
			return false
		}
		l.set(int(fd), gatherBelow)
		return true
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}
