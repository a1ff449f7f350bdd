package localdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// ReadAt reads a stretch of an object, as io.ReaderAt does. failure.ErrAbsent: there is none of that name.
func (t *Target) ReadAt(ctx context.Context, key string, b []byte, off int64) (int, error) {
	op := "read " + key
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	if err := t.valid(op, key); err != nil {
		return 0, err
	}
	d, err := t.root(op)
	if err != nil {
		return 0, err
	}
	f, err := d.Read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, t.absent(op)
	}
	if err != nil {
		return 0, t.trouble(op, err)
	}
	defer f.Close()
	return f.ReadAt(b, off)
}
