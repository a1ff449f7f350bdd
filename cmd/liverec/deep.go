package main

import (
	"context"
	"fmt"
	"io"

	"github.com/liverec/liverec/pkg/failure"
	mediaprobe "github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// archived is what the copies of a target can be read with.
type archived interface {
	ReadAt(ctx context.Context, key string, b []byte, off int64) (int, error)
}

// archivePiece is how much of a copy is asked for at once.
const archivePiece = 4 << 20

// archiveReader reads one copy in large pieces. The pieces that the checker wants come in rising order, but for its first
// look around.
type archiveReader struct {
	ctx  context.Context
	from archived
	key  string
	size int64
	b    []byte
	at   int64
}

// ReadAt is that of io.ReaderAt.
func (a *archiveReader) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		at := off + int64(done)
		if at >= a.size {
			return done, io.EOF
		}
		if at < a.at || at >= a.at+int64(len(a.b)) {
			want := int(min(archivePiece, a.size-at))
			if cap(a.b) < want {
				a.b = make([]byte, want)
			}
			n, err := a.from.ReadAt(a.ctx, a.key, a.b[:want], at)
			if a.b, a.at = a.b[:n], at; n == 0 {
				if err == nil || err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return done, err
			}
		}
		done += copy(b[done:], a.b[at-a.at:])
	}
	return done, nil
}

// compareContent makes the running hash over the media of a copy anew, from the copy alone. Parts that liverec did not
// record have none, and neither do targets that cannot be read.
func compareContent(ctx context.Context, t uploader.Target, d segment.Delivery, res *checked) {
	from, ok := t.(archived)
	if !ok || d.Segment.Content == 0 {
		return
	}
	want := fmt.Sprintf("%016x", d.Segment.Content)
	r, err := mediaprobe.Check(&archiveReader{ctx: ctx, from: from, key: d.Key, size: d.Segment.Size}, d.Segment.Size)
	switch {
	case err != nil:
		res.OK, res.Answer, res.Error = false, "could not ask", err.Error()
		if failure.KindOf(err) == failure.Permanent {
			res.Answer = "damaged"
		}
		return
	case r.Content != d.Segment.Content:
		res.OK, res.Answer = false, "damaged"
		res.Error = fmt.Sprintf("the content hash over its media is %016x, not %s", r.Content, want)
		return
	}
	res.Content = want
	res.Proof.How += ", content hash of its media"
}
