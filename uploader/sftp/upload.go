package sftp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// tokenThere is the token where the whole file stood there already. Others are the random part of a temporary name.
const tokenThere = "there"

const tokenLength = 10

func newToken() string { return strings.ToLower(rand.Text()[:tokenLength]) }

func isToken(s string) bool {
	return len(s) == tokenLength && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// upload is one object on its way to the host.
type upload struct {
	t     *Target
	o     segment.Object
	token string
}

var _ uploader.Upload = (*upload)(nil)

func (u *upload) Token() string { return u.token }

func (u *upload) temp() string { return hidden(u.t.path(u.o.Key), u.token) }

// feed is a body on its way to the host. Silence while the body is waited for is not the host's.
type feed struct {
	ctx context.Context
	r   io.Reader
	crc hash.Hash32
	c   *conn // nil: it goes nowhere
}

func (f *feed) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	if f.c != nil {
		f.c.rest(true)
		defer f.c.rest(false)
	}
	n, err := f.r.Read(p)
	f.crc.Write(p[:n])
	return n, err
}

// Put writes one chunk at its place and returns when the host has answered for every byte.
func (u *upload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	t, op := u.t, fmt.Sprintf("put chunk %d of %s", c.Index, u.o.Key)
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return segment.Ack{}, fmt.Errorf("%s: rewind: %w", op, err)
	}
	in := &feed{ctx: ctx, r: io.LimitReader(body, c.Length), crc: crc32.New(castagnoli)}
	var n int64
	var err error
	if u.token == tokenThere {
		if n, err = io.Copy(io.Discard, in); err != nil {
			return segment.Ack{}, fmt.Errorf("%s: %w", op, err)
		}
	} else if err = t.with(ctx, op, func(cn *conn) error {
		f, err := cn.sftp.OpenFile(u.temp(), os.O_WRONLY)
		if errors.Is(err, fs.ErrNotExist) {
			return t.absent(ctx, cn, op)
		}
		if err != nil {
			return err
		}
		in.c = cn
		if _, err = f.Seek(c.Offset, io.SeekStart); err == nil {
			n, err = f.ReadFromWithConcurrency(in, requests)
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	}); err != nil {
		return segment.Ack{}, err
	}
	if n != c.Length {
		return segment.Ack{}, fmt.Errorf("%s: the local file gave %d of %d bytes: %w", op, n, c.Length, io.ErrUnexpectedEOF)
	}
	sum := in.crc.Sum32()
	return segment.Ack{Chunk: c, Tag: strconv.FormatUint(uint64(sum), 16), Sum: sum}, nil
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
	if u.token != tokenThere {
		if err := whole(op, o, acks); err != nil {
			return segment.Receipt{}, err
		}
	}
	var size int64
	err := t.with(ctx, op, func(c *conn) error {
		var err error
		if u.token == tokenThere {
			var same bool
			if same, err = t.same(ctx, c, op, o); err == nil && !same {
				err = &failure.Error{Op: op, Code: "the file is not what it was", Err: failure.ErrDamaged}
			}
		} else {
			err = u.place(ctx, c, op, o)
		}
		if err != nil {
			return err
		}
		fi, err := c.sftp.Lstat(t.path(o.Key))
		if err == nil {
			size = fi.Size()
		}
		return err
	})
	if err != nil {
		return segment.Receipt{}, err
	}
	t.used.Store(true)
	return segment.Receipt{Key: o.Key, Size: size, Sum: "sha256:" + o.SHA256.String()}, nil
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

// place measures and syncs the temporary file and renames it. What stands under the final name already is kept if it is
// the same, and set aside if it has gone bad.
func (u *upload) place(ctx context.Context, c *conn, op string, o segment.Object) error {
	t, temp, final := u.t, u.temp(), u.t.path(o.Key)
	fi, err := c.sftp.Lstat(temp)
	if errors.Is(err, fs.ErrNotExist) {
		// The answer of an earlier Commit was lost, or somebody has removed the file.
		if _, serr := c.sftp.Lstat(final); serr == nil {
			if same, err := t.same(ctx, c, op, o); same || err != nil {
				return err
			}
		}
		return t.absent(ctx, c, op)
	}
	if err != nil {
		return err
	}
	if fi.Size() != o.Size {
		return &failure.Error{Op: op, Code: fmt.Sprintf("the file has %d of %d bytes", fi.Size(), o.Size), Err: failure.ErrDamaged}
	}
	if err := syncFile(c, temp); err != nil {
		return err
	}
	for range 2 {
		// OpenSSH links and unlinks here, and refuses what is there. Other hosts overwrite, hence the look.
		if _, err = c.sftp.Lstat(final); errors.Is(err, fs.ErrNotExist) {
			return c.sftp.Rename(temp, final)
		}
		if err != nil {
			return err
		}
		same, err := t.same(ctx, c, op, o)
		if err != nil {
			return err
		}
		if same { // also where a crash of the host came between link and unlink
			if err := c.sftp.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
		if err := c.sftp.Rename(final, final+".damaged-"+newToken()[:6]); err != nil {
			return err
		}
	}
	return &failure.Error{Op: op, Kind: failure.Transient, Code: "another file takes the name again and again"}
}

// syncFile has the host write the file to its disk, where it offers that.
func syncFile(c *conn, name string) error {
	if !c.has(extSync) {
		return nil
	}
	f, err := c.sftp.OpenFile(name, os.O_WRONLY)
	if err != nil {
		return err
	}
	c.rest(true) // the host's disk may take long for it; the caller's patience counts
	err = f.Sync()
	c.rest(false)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Abort removes the temporary file.
func (u *upload) Abort(ctx context.Context) error {
	if u.token == tokenThere {
		return nil
	}
	return u.t.with(ctx, "abort "+u.o.Key, func(c *conn) error {
		if err := c.sftp.Remove(u.temp()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// same reports whether the file under the final name is o. A file of the same size with other bytes is a copy that has
// gone bad. Everything else belongs to somebody: a Permanent error that names it.
func (t *Target) same(ctx context.Context, c *conn, op string, o segment.Object) (bool, error) {
	foreign := func(why string) error {
		return &failure.Error{Op: op, Kind: failure.Permanent, Code: why, Err: fs.ErrExist,
			Hint: fmt.Sprintf("%s on %s is not overwritten: move it away or use another --name.", t.path(o.Key), t.cfg.Host)}
	}
	if o.Size < 0 || o.SHA256.IsZero() {
		return false, foreign("a file of that name is there already")
	}
	fi, err := c.sftp.Lstat(t.path(o.Key))
	if err != nil {
		return false, err
	}
	if !fi.Mode().IsRegular() {
		return false, foreign("something that is no file is there already")
	}
	if fi.Size() != o.Size {
		return false, foreign(fmt.Sprintf("a file of %d bytes is there already", fi.Size()))
	}
	how, err := t.prove(ctx, c, o)
	return how != "", err
}

// prove says how the bytes under the final name were found to be those of o; "": they are others.
func (t *Target) prove(ctx context.Context, c *conn, o segment.Object) (how string, err error) {
	name := t.path(o.Key)
	if !t.cfg.Reread && t.summed(c, name, o.SHA256) {
		return "size, and SHA-256 computed by the host", nil
	}
	f, err := c.sftp.Open(name)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	n, err := f.WriteTo(&sink{ctx, h})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil || n != o.Size || segment.Sum(h.Sum(nil)) != o.SHA256 {
		return "", err
	}
	return "size and SHA-256 read back", nil
}

// sink is a hash that stops when its context is over.
type sink struct {
	ctx context.Context
	h   hash.Hash
}

func (s *sink) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.h.Write(p)
}

// summed reports whether the host's own sha256sum of a file says want. Only yes is an answer: an account without a
// shell, another root than that of SFTP, and a file that is damaged all say something else.
func (t *Target) summed(c *conn, name string, want segment.Sum) bool {
	if t.noShell.Load() {
		return false
	}
	c.rest(true)
	defer c.rest(false)
	s, err := c.ssh.NewSession()
	if err != nil {
		t.noShell.Store(true)
		return false
	}
	defer s.Close()
	var out few
	s.Stdout = &out
	err = s.Run("sha256sum < '" + strings.ReplaceAll(name, "'", `'\''`) + "'")
	got, _, _ := strings.Cut(string(out.b), " ")
	if sum, herr := hex.DecodeString(got); err != nil || herr != nil || len(sum) != len(want) {
		t.noShell.Store(true)
		return false
	} else {
		return bytes.Equal(sum, want[:])
	}
}

// few keeps the beginning of what is written to it.
type few struct{ b []byte }

func (f *few) Write(p []byte) (int, error) {
	f.b = append(f.b, p[:min(len(p), 1024-len(f.b))]...)
	return len(p), nil
}

// Verify asks the host for size and SHA-256 of what stands under the final name.
func (t *Target) Verify(ctx context.Context, o segment.Object, _ segment.Receipt) (segment.Proof, error) {
	op := "verify " + o.Key
	if o.Size < 0 || o.SHA256.IsZero() {
		return segment.Proof{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "size or SHA-256 is not known"}
	}
	if err := t.valid(op, o.Key); err != nil {
		return segment.Proof{}, err
	}
	bad := func(why string) error { return &failure.Error{Op: op, Code: why, Err: failure.ErrDamaged} }
	var how string
	err := t.with(ctx, op, func(c *conn) error {
		fi, err := c.sftp.Lstat(t.path(o.Key))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return t.absent(ctx, c, op)
		case err != nil:
			return err
		case !fi.Mode().IsRegular():
			return bad("it is no regular file")
		case fi.Size() != o.Size:
			return bad(fmt.Sprintf("it has %d bytes, not %d", fi.Size(), o.Size))
		}
		how, err = t.prove(ctx, c, o)
		if errors.Is(err, fs.ErrNotExist) {
			return t.absent(ctx, c, op)
		}
		if err == nil && how == "" {
			return bad("its SHA-256 is another one")
		}
		return err
	})
	if err != nil {
		return segment.Proof{}, err
	}
	return segment.Proof{Size: o.Size, Sum: "sha256:" + o.SHA256.String(), How: how, At: time.Now().UTC()}, nil
}
