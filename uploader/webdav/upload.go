package webdav

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// upload is one file on its way. Its token is the name of an empty temporary file, which says that the upload is open. Each
// attempt to send the file has a name of its own, which is the tag of its ack: what is left of an attempt that broke off
// may come to the server later than the next one, and would cut its file.
type upload struct {
	t     *Target
	o     segment.Object
	token string
}

func (u *upload) Token() string { return u.token }

// Put sends the whole file to a temporary name.
func (u *upload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	op := fmt.Sprintf("put chunk %d of %s", c.Index, u.o.Key)
	if c.Index != 0 || c.Offset != 0 || c.Length != u.o.Size {
		return segment.Ack{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "a WebDAV server takes whole files", Err: errors.ErrUnsupported}
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return segment.Ack{}, fmt.Errorf("%s: rewind: %w", op, err)
	}
	l := &lent{r: io.LimitReader(body, c.Length), crc: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	name := tempName(u.o.Key, strings.ToLower(rand.Text()[:10]))
	err := u.t.put(ctx, op, name, l, c.Length)
	n, sum := l.back()
	switch {
	case errors.Is(err, errNoFolder): // if somebody has removed it, the upload is gone with it
		if _, serr := u.t.stat(ctx, op, u.token); serr != nil {
			err = serr
		}
		return segment.Ack{}, err
	case err != nil:
		return segment.Ack{}, err
	case n != c.Length:
		return segment.Ack{}, &failure.Error{Op: op, Code: fmt.Sprintf("the server answered after %d of %d bytes", n, c.Length)}
	}
	return segment.Ack{Chunk: c, Tag: path.Base(name), Sum: sum}, nil
}

// lent is a body that is taken back when the exchange is over: the transport may read on for a while.
type lent struct {
	mu   sync.Mutex
	r    io.Reader // nil: taken back
	crc  hash.Hash32
	read int64
}

func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.r == nil {
		return 0, errors.New("the exchange is over")
	}
	n, err := l.r.Read(p)
	l.crc.Write(p[:n])
	l.read += int64(n)
	return n, err
}

func (l *lent) back() (int64, uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r = nil
	return l.read, l.crc.Sum32()
}

// Commit gives the file its final name. A file that has the name already is kept where it is the same, replaced where it
// has the same length and other bytes (a copy that has gone bad), and is somebody else's otherwise.
func (u *upload) Commit(ctx context.Context, o segment.Object, acks []segment.Ack) (segment.Receipt, error) {
	t, op := u.t, "commit "+o.Key
	if o.Size <= 0 || o.SHA256.IsZero() {
		return segment.Receipt{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "size or SHA-256 is not known"}
	}
	if err := t.valid(op, o.Key); err != nil {
		return segment.Receipt{}, err
	}
	if len(acks) != 1 || acks[0].Index != 0 || acks[0].Length != o.Size {
		return segment.Receipt{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "chunk 0 is missing"}
	}
	done := segment.Receipt{Key: o.Key, Size: o.Size, Sum: "sha256:" + o.SHA256.String()}
	temps, err := t.temps(ctx, op, o.Key)
	if err != nil {
		return segment.Receipt{}, err
	}
	size := int64(-1)
	for _, e := range temps {
		if e.name == acks[0].Tag {
			size = e.size
		}
	}
	switch {
	case size == o.Size:
		from := path.Join(path.Dir(o.Key), acks[0].Tag)
		if err = t.move(ctx, op, from, o.Key, false); errors.Is(err, errThere) {
			err = t.instead(ctx, op, o, from)
		}
	case size >= 0:
		err = &failure.Error{Op: op, Code: fmt.Sprintf("the server kept %d of %d bytes", size, o.Size), Err: failure.ErrDamaged}
	default: // the answer to an earlier Commit was lost, or the file
		if _, err = t.Verify(ctx, o, done); errors.Is(err, failure.ErrAbsent) {
			err = &failure.Error{Op: op, Code: "the server has lost what was sent", Err: failure.ErrDamaged}
		}
	}
	if err != nil {
		return segment.Receipt{}, err
	}
	return done, u.Abort(ctx) // of what is left beside it
}

// temps lists the temporary files of key.
func (t *Target) temps(ctx context.Context, op, key string) ([]entry, error) {
	list, err := t.list(ctx, op, path.Dir(key))
	if err != nil && !errors.Is(err, failure.ErrAbsent) {
		return nil, err
	}
	return slices.DeleteFunc(list, func(e entry) bool { return e.dir || !strings.HasPrefix(e.name, tempPrefix(key)) }), nil
}

// sweep removes the temporary files of key.
func (t *Target) sweep(ctx context.Context, op, key string) error {
	temps, err := t.temps(ctx, op, key)
	for _, e := range temps {
		err = errors.Join(err, t.remove(ctx, op, path.Join(path.Dir(key), e.name)))
	}
	return err
}

// instead decides about the file that has our name.
func (t *Target) instead(ctx context.Context, op string, o segment.Object, from string) error {
	there, err := t.stat(ctx, op, o.Key)
	if err != nil {
		return err
	}
	if there.dir || there.size != o.Size {
		return &failure.Error{Op: op, Kind: failure.Permanent, Code: fmt.Sprintf("a file of %d bytes is there already", there.size), Err: fs.ErrExist,
			Hint: fmt.Sprintf("%s is not overwritten: move it away or use another --name.", path.Join(t.where(), o.Key))}
	}
	_, err = t.Verify(ctx, o, segment.Receipt{})
	switch {
	case err == nil:
		return nil // Commit tidies up
	case errors.Is(err, failure.ErrDamaged):
		return t.move(ctx, op, from, o.Key, true)
	}
	return err
}

// Abort removes the temporary files.
func (u *upload) Abort(ctx context.Context) error {
	return u.t.sweep(ctx, "abort "+u.o.Key, u.o.Key)
}

// Verify reads the file back and compares its SHA-256. A connection that breaks proves nothing.
func (t *Target) Verify(ctx context.Context, o segment.Object, _ segment.Receipt) (segment.Proof, error) {
	op := "verify " + o.Key
	if err := t.valid(op, o.Key); err != nil {
		return segment.Proof{}, err
	}
	if o.Size < 0 || o.SHA256.IsZero() {
		return segment.Proof{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "size or SHA-256 is not known"}
	}
	e, err := t.stat(ctx, op, o.Key)
	if err != nil {
		return segment.Proof{}, err
	}
	bad := func(why string) (segment.Proof, error) {
		return segment.Proof{}, &failure.Error{Op: op, Code: why, Err: failure.ErrDamaged}
	}
	if e.dir || e.size != o.Size {
		return bad(fmt.Sprintf("the file has %d bytes, not %d", e.size, o.Size))
	}
	h := sha256.New()
	var n int64
	_, err = t.get(ctx, op, o.Key, func(r io.Reader) (err error) {
		bp := buffers.Get().(*[]byte)
		defer buffers.Put(bp)
		n, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{&heard{ctx, io.LimitReader(r, o.Size+1)}}, *bp)
		return err
	})
	switch {
	case err != nil:
		return segment.Proof{}, err
	case n != o.Size:
		return bad(fmt.Sprintf("%d bytes were read back, not %d", n, o.Size))
	case segment.Sum(h.Sum(nil)) != o.SHA256:
		return bad("the SHA-256 is another one")
	}
	return segment.Proof{Size: n, Sum: "sha256:" + o.SHA256.String(), How: "size and SHA-256 read back", At: time.Now().UTC()}, nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// heard tells whoever watches the call that bytes move.
type heard struct {
	ctx context.Context
	r   io.Reader
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if n > 0 {
		uploader.Moved(h.ctx)
	}
	return n, err
}

// ReadAt reads a stretch of a file, as io.ReaderAt does: one request. failure.ErrAbsent: there is none of that name.
func (t *Target) ReadAt(ctx context.Context, key string, b []byte, off int64) (int, error) {
	op := "read " + key
	if err := t.valid(op, key); err != nil {
		return 0, err
	}
	if len(b) == 0 {
		return 0, nil
	}
	resp, err := t.do(ctx, op, request{
		method: http.MethodGet, url: t.url(key), header: map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", off, off+int64(len(b))-1)},
		also: []int{http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable},
	})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return 0, t.absent(ctx, op, "404")
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, io.EOF
	case http.StatusPartialContent:
	case http.StatusOK: // the server knows no ranges
		if _, err := io.CopyN(io.Discard, resp.Body, off); errors.Is(err, io.EOF) {
			return 0, io.EOF
		} else if err != nil {
			return 0, t.broken(ctx, op, err)
		}
	default:
		return 0, &failure.Error{Op: op, Kind: failure.Transient, Code: resp.Status, Err: errors.New("that is not the file")}
	}
	n, err := io.ReadFull(resp.Body, b)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && resp.ContentLength == int64(n):
		return n, io.EOF
	}
	return n, t.broken(ctx, op, err)
}
