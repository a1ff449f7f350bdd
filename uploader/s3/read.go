package s3

import (
	"context"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// ReadAt reads a stretch of an object, as io.ReaderAt does: one request. failure.ErrAbsent: there is none of that name.
func (t *Target) ReadAt(ctx context.Context, key string, b []byte, off int64) (int, error) {
	op := "read " + key
	if err := t.valid(op, key); err != nil {
		return 0, err
	}
	if len(b) == 0 {
		return 0, nil
	}
	got := 0
	n, err := t.call(ctx, op, func(ctx context.Context, c *minio.Core) error {
		opts := minio.GetObjectOptions{}
		if err := opts.SetRange(off, off+int64(len(b))-1); err != nil {
			return err
		}
		body, _, _, err := c.GetObject(ctx, t.cfg.Bucket, t.key(key), opts)
		if err != nil {
			return err
		}
		defer body.Close()
		got, err = io.ReadFull(body, b)
		if err == io.ErrUnexpectedEOF || err == io.EOF {
			return nil
		}
		return err
	})
	switch {
	case err != nil && n.status == http.StatusNotFound:
		return 0, t.absent(ctx, op)
	case err != nil:
		return got, err
	case got < len(b):
		return got, io.EOF
	}
	return got, nil
}
