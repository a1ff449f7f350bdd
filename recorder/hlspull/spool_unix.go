//go:build unix

package hlspull

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// mapped makes a file look like memory.
func mapped(f *os.File, n int) ([]byte, error) {
	b, err := syscall.Mmap(int(f.Fd()), 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of a file: %w", n, err)
	}
	return b, nil
}

func unmap(b []byte) {
	if err := syscall.Munmap(b); err != nil {
		panic("hlspull: what was mapped cannot be unmapped: " + err.Error())
	}
}

// unwritten reports whether the system could not write what it read into memory that is a file.
func unwritten(err error) bool { return errors.Is(err, syscall.EFAULT) }
