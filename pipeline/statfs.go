//go:build unix

package pipeline

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Statfs measures the file system that holds path.
func Statfs(path string) func() (Space, error) {
	return func() (Space, error) {
		var s unix.Statfs_t
		if err := unix.Statfs(path, &s); err != nil {
			return Space{}, fmt.Errorf("measure the disk of %s: %w", path, err)
		}
		return Space{Free: int64(s.Bavail) * int64(s.Bsize), Total: int64(s.Blocks) * int64(s.Bsize)}, nil
	}
}
