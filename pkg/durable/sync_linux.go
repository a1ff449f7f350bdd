package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// fdatasync syncs the bytes and the length, not the times.
func fdatasync(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := conn.Control(func(fd uintptr) {
		for {
			if serr = unix.Fdatasync(int(fd)); !errors.Is(serr, unix.EINTR) {
				return
			}
		}
	}); err != nil {
		return err
	}
	return serr
}

// allocate sets n bytes aside; done is false where the file system does not know how.
func allocate(f *os.File, n int64) (done bool, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var serr error
	if err := conn.Control(func(fd uintptr) {
		for {
			if serr = unix.Fallocate(int(fd), 0, 0, n); !errors.Is(serr, unix.EINTR) {
				return
			}
		}
	}); err != nil {
		return false, err
	}
	if errors.Is(serr, unix.EOPNOTSUPP) || errors.Is(serr, unix.ENOSYS) {
		return false, nil
	}
	return serr == nil, serr
}
