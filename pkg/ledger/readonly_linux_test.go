package ledger

import (
	"testing"

	"golang.org/x/sys/unix"
)

// readOnly shows the folder path at another place where nothing can be written.
func readOnly(t *testing.T, path string) string {
	t.Helper()
	at := t.TempDir()
	if err := unix.Mount(path, at, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("a folder cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("a folder cannot be made read-only here: %v", err)
	}
	return at
}
