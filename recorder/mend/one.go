package mend

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media/probe"
)

// ErrSound: nothing is wrong with the file, so there is nothing to repair.
var ErrSound = errors.New("nothing is wrong with it")

// Made is a copy that One has made.
type Made struct {
	Name   string // below the folder, with slashes
	Size   int64
	Media  int64  // milliseconds, from the first frame to the end of the last one
	SHA256 string // hex
}

// One makes one sound copy of the file name, both below dir: base and .flv or .mp4 behind it. Where that cannot be one
// file that is sound, nothing is left behind; neither is what an earlier call left that was cut off in the middle, and a
// copy of that name is replaced.
func One(ctx context.Context, dir *durable.Dir, name, base string) (m Made, err error) {
	found, err := probe.CheckFile(dir.Abs(name))
	if err == nil && len(found.Problems) == 0 {
		return m, ErrSound
	}
	work := base + ".making"
	if err := empty(dir, work); err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, empty(dir, work))
		}
	}()
	r, err := File(ctx, dir.Abs(name), Options{Dir: dir.Abs(work)})
	switch {
	case err != nil:
		return m, err
	case len(r.Parts) != 1:
		return m, fmt.Errorf("it would take %d files", len(r.Parts))
	}
	p := r.Parts[0]
	m = Made{Name: base + path.Ext(p.Path), Size: p.Size, Media: p.DurationMS}
	if m.SHA256, err = sum(p.Path); err != nil {
		return m, err
	}
	if err := dir.Remove(m.Name); err != nil {
		return m, err
	}
	if err := dir.Rename(path.Join(work, filepath.Base(p.Path)), m.Name); err != nil {
		return m, err
	}
	return m, dir.RemoveEmpty(work)
}

// empty takes a folder away with what is in it.
func empty(dir *durable.Dir, folder string) error {
	list, err := os.ReadDir(dir.Abs(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", folder, err)
	}
	for _, e := range list {
		if err := dir.Remove(path.Join(folder, e.Name())); err != nil {
			return err
		}
	}
	return dir.RemoveEmpty(folder)
}

func sum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
