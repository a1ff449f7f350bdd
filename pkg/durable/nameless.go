package durable

import (
	"fmt"
	"os"
)

// Nameless gives a file below the folder dir that has no name: it is gone with the last one who has it open, whatever ends
// the process. It is for what needs no surviving.
func Nameless(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".liverec-*")
	if err != nil {
		return nil, fmt.Errorf("create a nameless file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("take the name of a file: %w", err)
	}
	return f, nil
}

// Reserve gives a file n bytes of the disk, so that none of them can be refused later. Where the file system cannot set
// them aside they are written.
func Reserve(f *os.File, n int64) error {
	done, err := allocate(f, n)
	if err != nil {
		return fmt.Errorf("reserve %d bytes of the disk: %w", n, err)
	}
	zeros := make([]byte, min(n, 1<<20))
	for at := int64(0); at < n && !done; {
		w, err := f.WriteAt(zeros[:min(int64(len(zeros)), n-at)], at)
		if at += int64(w); err != nil {
			return fmt.Errorf("reserve %d bytes of the disk: %w", n, err)
		}
	}
	return nil
}
