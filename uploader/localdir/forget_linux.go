package localdir

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget asks the kernel to drop the clean pages of a file. It is a wish; a file system may ignore it.
func forget(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED) })
}
