package httpflv

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/liverec/liverec/pkg/beat"
)

// patient reads from a TCP connection so that what arrives meanwhile wakes nobody: once the socket is drained it is read
// again on the next beat, or as soon as gatherMost bytes lie in it. For what is no TCP connection it is nil.
func patient(c net.Conn) io.Reader {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil
	}
	l := &lowWater{conn: t, raw: raw}
	l.now = func(fd uintptr) { l.read(fd) }
	l.gathered = func(fd uintptr) bool {
		l.set(fd, gatherMost)
		if !l.asked {
			l.asked = true // what came before is no news for the poller
			return readable(fd)
		}
		return true
	}
	l.first = func(fd uintptr) bool {
		l.set(fd, 1)
		l.read(fd)
		return !errors.Is(l.err, unix.EAGAIN)
	}
	return l
}

// lowWater is such a reader. The poller is told of a socket only when it holds as many bytes as its low-water mark says
// (SO_RCVLOWAT), has been closed by the other side, or can take no more.
//
// The calls that are made at each read go past the scheduler: none of them can block, and one that the scheduler knows of
// wakes its watchman each time.
type lowWater struct {
	conn *net.TCPConn
	raw  syscall.RawConn

	mark    int
	drained bool      // the last read left nothing behind
	until   time.Time // read at once until then

	// What the functions below work with. They are made once, so that a read allocates nothing.
	p     []byte
	n     int
	err   error
	asked bool

	now      func(fd uintptr)
	gathered func(fd uintptr) bool
	first    func(fd uintptr) bool
}

func (l *lowWater) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	l.p = p
	defer func() { l.p = nil }()
	began := time.Now()
	if l.until.IsZero() {
		l.until = began.Add(gatherAfter)
		if err := l.raw.Control(func(fd uintptr) { l.set(fd, gatherRoom) }); err != nil { // the kernel widens the window for it
			return 0, err
		}
	}
	if began.Before(l.until) {
		return l.wait()
	}
	if l.drained {
		if err := l.gather(began); err != nil {
			return 0, err
		}
	}
	if err := l.raw.Control(l.now); err != nil {
		return 0, err
	}
	if errors.Is(l.err, unix.EAGAIN) {
		return l.wait() // a silent source is heard at its first byte
	}
	return l.result()
}

// gather waits until it is time or enough bytes are there.
func (l *lowWater) gather(now time.Time) error {
	if err := l.conn.SetReadDeadline(now.Add(beat.Until(now, gatherFor))); err != nil {
		return err
	}
	l.asked = false
	err := l.raw.Read(l.gathered)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		err = l.conn.SetReadDeadline(time.Time{})
	}
	return err
}

// wait reads what there is, or the first bytes that come.
func (l *lowWater) wait() (int, error) {
	if err := l.raw.Read(l.first); err != nil {
		return 0, err
	}
	return l.result()
}

func (l *lowWater) result() (int, error) {
	switch l.drained = l.n < len(l.p); {
	case l.err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", l.err)}
	case l.n == 0:
		return 0, io.EOF
	}
	return l.n, nil
}

func (l *lowWater) read(fd uintptr) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&l.p[0])), uintptr(len(l.p)))
		switch errno {
		case 0:
			l.n, l.err = int(n), nil
			return
		case unix.EINTR:
		default:
			l.n, l.err = 0, errno
			return
		}
	}
}

// set moves the mark. A kernel that does not want to costs wake-ups, no bytes.
func (l *lowWater) set(fd uintptr, mark int) {
	if l.mark != mark && unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, mark) == nil {
		l.mark = mark
	}
}

// readable reports whether the poller would speak of the socket now.
func readable(fd uintptr) bool {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	var zero unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&zero)), 0, 0, 0)
	return errno != 0 || n > 0
}
