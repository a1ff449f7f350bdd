package durable

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostPieces is how many pieces one call of the system takes (IOV_MAX).
const mostPieces = 1024

// gatherer is what WriteAll works with. It is kept, so that a write allocates nothing.
type gatherer struct {
	vec  []unix.Iovec
	off  int64
	n    int
	err  error
	conn syscall.RawConn
	call func(fd uintptr)
}

// gather writes pieces at off and says how many bytes that were.
func (f *File) gather(pieces [][]byte, off int64) (int64, error) {
	g := &f.gatherer
	if g.conn == nil {
		conn, err := f.f.SyscallConn()
		if err != nil {
			return 0, err
		}
		g.conn, g.call = conn, g.write
	}
	defer func() { clear(g.vec) }() // the pieces are the caller's again
	var total int64
	for len(pieces) > 0 {
		g.vec = g.vec[:0]
		want := 0
		for _, p := range pieces[:min(len(pieces), mostPieces)] {
			if len(p) > 0 {
				v := unix.Iovec{Base: unsafe.SliceData(p)}
				v.SetLen(len(p))
				g.vec = append(g.vec, v)
				want += len(p)
			}
		}
		if want == 0 {
			pieces = pieces[min(len(pieces), mostPieces):]
			continue
		}
		g.off = off + total
		if err := g.conn.Control(g.call); err != nil {
			return total, err
		}
		if g.err != nil {
			return total, fmt.Errorf("pwritev: %w", g.err)
		}
		if g.n == 0 {
			return total, fmt.Errorf("pwritev: %w", io.ErrShortWrite)
		}
		total += int64(g.n)
		// What was not taken is offered again, which brings the error if there is one.
		for left := g.n; left > 0 || len(pieces) > 0 && len(pieces[0]) == 0; pieces = pieces[1:] {
			if left < len(pieces[0]) {
				if n, err := f.f.WriteAt(pieces[0][left:], off+total); err != nil {
					return total + int64(n), err
				}
				total += int64(len(pieces[0]) - left)
				left = 0
				continue
			}
			left -= len(pieces[0])
		}
	}
	return total, nil
}

// write is one call. It may block, so the scheduler knows of it.
func (g *gatherer) write(fd uintptr) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_PWRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(g.vec))), uintptr(len(g.vec)), uintptr(g.off), uintptr(g.off>>32), 0)
		if errno == 0 {
			g.n, g.err = int(n), nil
			return
		}
		g.n, g.err = 0, errno
		if !errors.Is(errno, unix.EINTR) {
			return
		}
	}
}
