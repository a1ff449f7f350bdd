package localdir

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// Tokens. Anything else is the name of a temporary file. A key is never one of them, for temporary names begin with
// a dot.
const (
	tokenLink  = "link"  // Commit will link (or copy in one go where a link is refused)
	tokenThere = "there" // the whole file stood there already
)

// hidden makes a temporary name that carries the name it will have.
func hidden(base string) string {
	return "." + base + "." + strings.ToLower(rand.Text()[:10]) + durable.PartSuffix
}

// sweep removes temporary files of key but the one that is called but.
func (t *Target) sweep(d *durable.Dir, key, but string) error {
	dir := path.Dir(key)
	entries, err := os.ReadDir(d.Abs(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	prefix := "." + path.Base(key) + "."
	for _, e := range entries {
		n := e.Name()
		name := path.Join(dir, n)
		if len(n) == len(prefix)+10+len(durable.PartSuffix) && strings.HasPrefix(n, prefix) && strings.HasSuffix(n, durable.PartSuffix) &&
			e.Type().IsRegular() && name != but {
			if err := d.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// same reports whether the file under the final name is o, byte for byte. A file of the same size with other bytes is
// a copy that has gone bad. Everything else belongs to somebody: a Permanent error that names it.
func (t *Target) same(ctx context.Context, d *durable.Dir, op string, o segment.Object) (bool, error) {
	foreign := func(why string) error {
		return &failure.Error{Op: op, Kind: failure.Permanent, Code: why, Err: fs.ErrExist,
			Hint: fmt.Sprintf("%s is not overwritten: move it away or use another --name.", d.Abs(o.Key))}
	}
	if o.Size < 0 || o.SHA256.IsZero() {
		return false, foreign("a file of that name is there already")
	}
	fi, err := os.Lstat(d.Abs(o.Key))
	if err != nil {
		return false, t.trouble(op, err)
	}
	if !fi.Mode().IsRegular() {
		return false, foreign("something that is no file is there already")
	}
	if fi.Size() != o.Size {
		return false, foreign(fmt.Sprintf("a file of %d bytes is there already", fi.Size()))
	}
	sum, _, err := t.read(ctx, d, o.Key, false)
	if err != nil {
		return false, t.trouble(op, err)
	}
	return sum == o.SHA256, nil
}

// place gives a file of the right content its final name by link. It does not overwrite: what stands there already is
// kept if it is the same, and set aside if it has gone bad. kept reports the former.
func (t *Target) place(ctx context.Context, d *durable.Dir, op string, o segment.Object, link func() error) (kept bool, err error) {
	for range 2 {
		if err = link(); !errors.Is(err, fs.ErrExist) {
			return false, err
		}
		same, err := t.same(ctx, d, op, o)
		if same || err != nil {
			return same, err
		}
		if err := d.Rename(o.Key, o.Key+".damaged-"+strings.ToLower(rand.Text()[:6])); err != nil {
			return false, err
		}
	}
	return false, err
}

// read gives the SHA-256 of a file. fresh asks the kernel to forget its pages first, so that the bytes come from
// the disk or the server.
func (t *Target) read(ctx context.Context, d *durable.Dir, key string, fresh bool) (segment.Sum, int64, error) {
	f, err := d.Read(key)
	if err != nil {
		return segment.Sum{}, 0, err
	}
	defer f.Close()
	if fresh {
		if err := f.Sync(); err != nil && !is(err, syscall.EINVAL, syscall.EBADF, syscall.EROFS) {
			return segment.Sum{}, 0, err
		}
		forget(f)
	}
	h := sha256.New()
	n, err := copyBuffered(ctx, f, func(p []byte, _ int64) error { h.Write(p); return nil })
	if fresh {
		forget(f) // nobody will read it again soon
	}
	if err != nil {
		return segment.Sum{}, n, err
	}
	return segment.Sum(h.Sum(nil)), n, nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 1<<20); return &b }}

// copyBuffered hands a reader's bytes to each, in pieces with their offset, and looks at ctx between them.
func copyBuffered(ctx context.Context, r io.Reader, each func(p []byte, off int64) error) (int64, error) {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	var off int64
	for {
		if err := ctx.Err(); err != nil {
			return off, err
		}
		n, err := io.ReadFull(r, *bp)
		if n > 0 {
			if err := each((*bp)[:n], off); err != nil {
				return off, err
			}
			off += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return off, nil
		}
		if err != nil {
			return off, err
		}
	}
}

// upload is one object on its way into the archive.
type upload struct {
	t     *Target
	o     segment.Object
	token string
}

func (u *upload) Token() string { return u.token }

// Put writes one chunk at its place and returns when it is on the disk.
func (u *upload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	t, op := u.t, fmt.Sprintf("put chunk %d of %s", c.Index, u.o.Key)
	if u.token == tokenLink {
		return segment.Ack{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "whole segments are taken at Commit", Err: errors.ErrUnsupported}
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return segment.Ack{}, fmt.Errorf("%s: rewind: %w", op, err)
	}
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	write := func(p []byte, _ int64) error { crc.Write(p); return nil }
	var f *durable.File
	if u.token != tokenThere {
		d, err := t.root(op)
		if err != nil {
			return segment.Ack{}, err
		}
		f, err = d.Edit(u.token)
		if errors.Is(err, fs.ErrNotExist) {
			return segment.Ack{}, t.absent(op)
		}
		if err != nil {
			return segment.Ack{}, t.trouble(op, err)
		}
		write = func(p []byte, off int64) error {
			crc.Write(p)
			_, err := f.WriteAt(p, c.Offset+off)
			return err
		}
	}
	n, err := copyBuffered(ctx, io.LimitReader(body, c.Length), write)
	if err == nil && n != c.Length {
		err = fmt.Errorf("the local file gave %d of %d bytes: %w", n, c.Length, io.ErrUnexpectedEOF)
	}
	if f != nil {
		if err == nil {
			err = f.Sync()
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return segment.Ack{}, t.trouble(op, err)
	}
	return segment.Ack{Chunk: c, Tag: strconv.FormatUint(uint64(crc.Sum32()), 16), Sum: crc.Sum32()}, nil
}

// Commit gives the file its final name. It is idempotent: the same file under that name is success, another one is
// Permanent.
func (u *upload) Commit(ctx context.Context, o segment.Object, acks []segment.Ack) (segment.Receipt, error) {
	t, op := u.t, "commit "+o.Key
	if o.Size < 0 || o.SHA256.IsZero() {
		return segment.Receipt{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "size or SHA-256 is not known"}
	}
	if err := t.valid(op, o.Key); err != nil {
		return segment.Receipt{}, err
	}
	d, err := t.root(op)
	if err != nil {
		return segment.Receipt{}, err
	}
	how := "copied"
	switch u.token {
	case tokenThere:
		var same bool
		if same, err = t.same(ctx, d, op, o); err == nil && !same {
			err = &failure.Error{Op: op, Code: "the file is not what it was", Err: failure.ErrDamaged}
		}
	case tokenLink:
		how, err = t.commitLink(ctx, d, op, o)
	default:
		if err := whole(op, o, acks); err != nil {
			return segment.Receipt{}, err
		}
		err = t.commitTemp(ctx, d, op, o, u.token)
	}
	if err != nil {
		return segment.Receipt{}, t.trouble(op, err)
	}
	t.mark()
	fi, err := os.Lstat(d.Abs(o.Key))
	if err != nil {
		return segment.Receipt{}, t.trouble(op, err)
	}
	return segment.Receipt{Key: o.Key, Size: fi.Size(), Tag: inode(fi), Sum: "sha256:" + o.SHA256.String(), Detail: how}, nil
}

// whole checks that the acks are those of the whole object.
func whole(op string, o segment.Object, acks []segment.Ack) error {
	var end int64
	for i, a := range acks {
		if a.Index != i || a.Offset != end {
			return &failure.Error{Op: op, Kind: failure.Permanent, Code: fmt.Sprintf("chunk %d is missing", i)}
		}
		end += a.Length
	}
	if end != o.Size {
		return &failure.Error{Op: op, Kind: failure.Permanent, Code: fmt.Sprintf("chunks have %d of %d bytes", end, o.Size)}
	}
	return nil
}

func (t *Target) commitLink(ctx context.Context, d *durable.Dir, op string, o segment.Object) (how string, err error) {
	local, err := os.Lstat(o.Local)
	if errors.Is(err, fs.ErrNotExist) {
		// Ours is gone: fine if it is there from before, else nothing can be done here.
		if same, serr := t.same(ctx, d, op, o); serr == nil && same {
			return "linked", nil
		}
	}
	if err != nil {
		return "", &failure.Error{Op: op, Kind: failure.Permanent, Err: err, Hint: fmt.Sprintf("The recording %s must be there to be archived.", o.Local)}
	}
	if local.Size() != o.Size {
		return "", &failure.Error{Op: op, Kind: failure.Permanent, Code: fmt.Sprintf("%s has %d bytes, not %d", o.Local, local.Size(), o.Size)}
	}
	if local.Mode().IsRegular() && t.ours(o.Local) {
		if there, serr := os.Lstat(d.Abs(o.Key)); serr == nil && os.SameFile(there, local) {
			// A crash came between the link and the record of it; the folder may not be synced yet.
			return "linked", errors.Join(syncFile(d, o.Key), syncFile(d, path.Dir(o.Key)))
		}
		kept, err := t.place(ctx, d, op, o, func() error { return d.Link(o.Local, o.Key) })
		switch {
		case err == nil && kept:
			return "copied", nil
		case err == nil:
			return "linked", syncFile(d, o.Key)
		case !noLinks(err):
			return "", err
		}
	}
	return "copied", t.copyWhole(ctx, d, op, o)
}

// ours reports whether a file lies in the data folder. Only such a file will never change.
func (t *Target) ours(local string) bool {
	rel, err := filepath.Rel(t.cfg.Data, local)
	return t.cfg.Data != "" && err == nil && filepath.IsLocal(rel)
}

func noLinks(err error) bool {
	return is(err, syscall.EXDEV, syscall.EPERM, syscall.EMLINK, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.ENOTSUP)
}

// copyWhole copies the local file in one go, for what cannot or must not be linked.
func (t *Target) copyWhole(ctx context.Context, d *durable.Dir, op string, o segment.Object) (err error) {
	if _, serr := os.Lstat(d.Abs(o.Key)); serr == nil {
		if same, err := t.same(ctx, d, op, o); same || err != nil {
			return err
		}
	}
	src, err := os.Open(o.Local)
	if err != nil {
		return err
	}
	defer src.Close()
	temp := path.Join(path.Dir(o.Key), hidden(path.Base(o.Key)))
	f, err := d.Create(temp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Remove(temp))
		}
	}()
	h := sha256.New()
	_, err = copyBuffered(ctx, src, func(p []byte, _ int64) error {
		h.Write(p)
		_, err := f.Write(p)
		return err
	})
	if err == nil && segment.Sum(h.Sum(nil)) != o.SHA256 {
		err = &failure.Error{Op: op, Kind: failure.Permanent, Code: o.Local + " is not the file that it was",
			Hint: "The recording was changed after it was closed: run `liverec upload` on it again."}
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return t.commitTemp(ctx, d, op, o, temp)
}

// commitTemp gives the temporary file its final name without overwriting anything.
func (t *Target) commitTemp(ctx context.Context, d *durable.Dir, op string, o segment.Object, temp string) error {
	fi, err := os.Lstat(d.Abs(temp))
	if errors.Is(err, fs.ErrNotExist) {
		// The answer of an earlier Commit was lost, or somebody has removed the file.
		if _, serr := os.Lstat(d.Abs(o.Key)); serr == nil {
			if same, err := t.same(ctx, d, op, o); same || err != nil {
				return err
			}
		}
		return t.absent(op)
	}
	if err != nil {
		return err
	}
	if fi.Size() != o.Size {
		return &failure.Error{Op: op, Code: fmt.Sprintf("%s has %d of %d bytes", temp, fi.Size(), o.Size), Err: failure.ErrDamaged}
	}
	if err := syncFile(d, temp); err != nil {
		return err
	}
	if there, serr := os.Lstat(d.Abs(o.Key)); serr == nil && os.SameFile(there, fi) {
		return d.Remove(temp) // a crash came between the link and this
	}
	if _, err := t.place(ctx, d, op, o, func() error {
		err := d.Link(d.Abs(temp), o.Key)
		if !noLinks(err) {
			return err
		}
		// FAT, some SMB servers: a look and a rename is the best that they have.
		if _, serr := os.Lstat(d.Abs(o.Key)); !errors.Is(serr, fs.ErrNotExist) {
			return fs.ErrExist
		}
		return d.Rename(temp, o.Key)
	}); err != nil {
		return err
	}
	return d.Remove(temp) // syncs the folder; absent after a rename
}

func syncFile(d *durable.Dir, name string) error {
	f, err := d.Read(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func inode(fi fs.FileInfo) string {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("inode:%d", st.Ino)
	}
	return ""
}

// Abort removes the temporary file.
func (u *upload) Abort(ctx context.Context) error {
	if u.token == tokenLink || u.token == tokenThere {
		return nil
	}
	op := "abort " + u.o.Key
	d, err := u.t.root(op)
	if err != nil {
		return err
	}
	return u.t.trouble(op, d.Remove(u.token))
}

// Verify asks the archive. A link is proven by being the same file as ours, of the right length, synced; everything
// else is read back, past the page cache, and its SHA-256 compared.
func (t *Target) Verify(ctx context.Context, o segment.Object, _ segment.Receipt) (segment.Proof, error) {
	op := "verify " + o.Key
	if err := ctx.Err(); err != nil {
		return segment.Proof{}, fmt.Errorf("%s: %w", op, err)
	}
	if o.Size < 0 || o.SHA256.IsZero() {
		return segment.Proof{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "size or SHA-256 is not known"}
	}
	if err := t.valid(op, o.Key); err != nil {
		return segment.Proof{}, err
	}
	d, err := t.root(op)
	if err != nil {
		return segment.Proof{}, err
	}
	fi, err := os.Lstat(d.Abs(o.Key))
	if errors.Is(err, fs.ErrNotExist) {
		return segment.Proof{}, t.absent(op)
	}
	if err != nil {
		return segment.Proof{}, t.trouble(op, err)
	}
	bad := func(why string) error { return &failure.Error{Op: op, Code: why, Err: failure.ErrDamaged} }
	if !fi.Mode().IsRegular() {
		return segment.Proof{}, bad("it is no regular file")
	}
	if fi.Size() != o.Size {
		return segment.Proof{}, bad(fmt.Sprintf("it has %d bytes, not %d", fi.Size(), o.Size))
	}
	p := segment.Proof{Size: fi.Size(), Sum: "sha256:" + o.SHA256.String()}
	if !t.cfg.Reread && o.Local != "" {
		if local, lerr := os.Lstat(o.Local); lerr == nil && os.SameFile(local, fi) {
			if err := syncFile(d, o.Key); err != nil {
				return segment.Proof{}, t.trouble(op, err)
			}
			p.How, p.At = fmt.Sprintf("same file, %d bytes", p.Size), time.Now().UTC()
			return p, nil
		}
	}
	sum, n, err := t.read(ctx, d, o.Key, true)
	if errors.Is(err, fs.ErrNotExist) {
		return segment.Proof{}, t.absent(op)
	}
	if err != nil {
		return segment.Proof{}, t.trouble(op, err)
	}
	if n != o.Size {
		return segment.Proof{}, bad(fmt.Sprintf("%d bytes were read, not %d", n, o.Size))
	}
	if sum != o.SHA256 {
		return segment.Proof{}, bad("its SHA-256 is another one")
	}
	p.How, p.At = "size and SHA-256 read back", time.Now().UTC()
	return p, nil
}

var _ uploader.Upload = (*upload)(nil)
