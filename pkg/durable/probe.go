package durable

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/liverec/liverec/pkg/failure"
)

// Probe writes, syncs, renames, reads back and removes a small file, as every later step will have to. Its error
// names the folder, its owner, the user that we are, and the cure. who, a word without a hyphen, stands in the file's
// name, so that Sweep finds what a kill left of it.
func (d *Dir) Probe(who string) error {
	name := Trial(who)
	err := d.probe(name)
	if err == nil {
		return nil
	}
	for _, n := range []string{name, name + ".renamed"} {
		_ = d.root.Remove(n) // what is left of a failed probe
	}
	return Explain(d.path, err)
}

const probes = ".liverec-probe-"

// Trial is a new name for a file that somebody tries something with and removes at once.
func Trial(who string) string { return probes + who + "-" + strings.ToLower(rand.Text()[:8]) }

// Sweep removes the files that probes of who left in the folder when they were killed. Nobody else may probe it under
// that name meanwhile.
func (d *Dir) Sweep(who string) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("list %s: %w", d.path, err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), probes+who+"-") {
			if err := d.Remove(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Dir) probe(name string) error {
	want := []byte("liverec was here\n")
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(want)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := d.Rename(name, name+".renamed"); err != nil {
		return err
	}
	r, err := d.Read(name + ".renamed")
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	r.Close()
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("read back %s: %d bytes differ from what was written", name, len(got))
	}
	if err != nil {
		return err
	}
	return d.Remove(name + ".renamed")
}

// Explain turns an error about a folder into one that tells a person who owns it, who we are, and what to do.
func Explain(path string, err error) error {
	e := &failure.Error{Op: "use folder " + path, Err: err, Kind: failure.NeedsHuman}
	who := fmt.Sprintf("user %d, group %d", os.Getuid(), os.Getgid())
	owner := ""
	// The deepest folder that exists tells whose permission is missing.
	at := path
	for {
		fi, serr := os.Stat(at)
		if serr == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				owner = fmt.Sprintf("%s belongs to user %d, group %d, mode %04o", at, st.Uid, st.Gid, fi.Mode().Perm())
			}
			break
		}
		i := strings.LastIndexByte(at, os.PathSeparator)
		if i <= 0 {
			break
		}
		at = at[:i]
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Hint = "The disk is full: free some space or choose another folder."
		e.Kind = failure.Transient
	case errors.Is(err, syscall.EROFS):
		e.Hint = "The file system is mounted read-only: mount it for writing or choose another folder."
	case errors.Is(err, fs.ErrPermission):
		e.Hint = fmt.Sprintf("%s and liverec runs as %s: run `chown -R %d:%d %s` or start liverec as that user.",
			owner, who, os.Getuid(), os.Getgid(), at)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		e.Hint = fmt.Sprintf("%s is a file: choose a folder.", at)
	default:
		e.Hint = fmt.Sprintf("%s, liverec runs as %s: fsync and rename must work there; choose a folder on a local disk.", owner, who)
	}
	return e
}
