// Package sftp keeps segments in a folder of a host that speaks SSH.
//
// It owns the files that it puts into that folder, the hidden temporary files beside them until they are whole, and the
// connections to the host. It never overwrites and never removes a file that stands under its final name: what cannot be a
// copy of the segment is refused, and a copy of the right size with wrong bytes is renamed to NAME.damaged-XXXXXX when
// the good one is there to take its place. It never talks to a host whose key it does not know, never retries by itself
// (the lanes do), and never takes "could not ask" for "not there".
//
// # One segment
//
// Chunks are written at their place into a temporary file, each over a connection of its own with several requests under
// way. The protocol cannot tell which of them are there, so the ledger's acks count; Commit measures the file, has the host
// sync it where it can (fsync@openssh.com), and renames it. Verify compares the SHA-256 of the file under its final name:
// the host computes it where the account has a shell with sha256sum; elsewhere, with Config.Reread, and whenever the host's
// word is not the right one, the file is read back over the line.
//
// # Connections
//
// A call has a connection for itself while it lasts, so that ending it (a context that is over, a host that has fallen
// silent) ends nothing else. Free ones wait in a pool and are kept alive.
package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// Config says where the folder is, and how to get in.
type Config struct {
	ID   segment.TargetID
	User string
	Host string // name or address, an IPv6 one without brackets
	Port int    // 0: 22
	Path string // the folder; one that is not absolute lies in the home of the account
	// Key is a private key file. Empty: the agent's keys, then ~/.ssh/id_ed25519, id_ecdsa and id_rsa.
	Key          string
	PasswordFile string // its first line is the password. Empty: $LIVEREC_SFTP_PASSWORD, if it is set
	KnownHosts   string // empty: ~/.ssh/known_hosts
	HostKey      string // the fingerprint ("SHA256:…") that takes the place of known hosts
	Known        bool   // the ledger has parts here: an absent or empty folder is a lost mount
	Reread       bool   // Verify always reads back over the line
	// Getenv is the environment, for HOME, SSH_AUTH_SOCK and LIVEREC_SFTP_PASSWORD. Nil: it is empty.
	Getenv func(string) string

	chunk int64         // smallest chunk; 4 MiB but in tests
	idle  time.Duration // of a connection; 30 s but in tests
}

const (
	minChunk  = 4 << 20
	maxChunk  = 256 << 20
	maxChunks = 1 << 20
	parallel  = 4
	maxSmall  = 64 << 20 // of what Recall reads into memory
	lowSpace  = 16 << 20 // a disk with less than this is full
)

// Target is the folder. It is safe for use by several goroutines.
type Target struct {
	cfg     Config
	keep    sync.Mutex    // one Keep at a time: they share a temporary name
	slots   chan struct{} // a token for each connection in use
	dialing chan struct{} // one login at a time: a refusal is heard once
	used    atomic.Bool   // something of ours is in the folder
	noShell atomic.Bool   // the account runs no sha256sum for us

	mu      sync.Mutex
	closed  bool
	idle    []*conn
	refused error // of the last login, until it may be tried again
	until   time.Time
}

var _ uploader.Target = (*Target)(nil)

// New checks the configuration. It asks nobody: Check does.
func New(cfg Config) (*Target, error) {
	if cfg.Host == "" || cfg.User == "" || cfg.Path == "" {
		return nil, errors.New("an SFTP target needs user, host and path")
	}
	if cfg.Port == 0 {
		cfg.Port = 22
	}
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	if cfg.ID == "" {
		cfg.ID = segment.TargetID(fmt.Sprintf("sftp://%s@%s:%d/%s", cfg.User, cfg.Host, cfg.Port, strings.TrimPrefix(cfg.Path, "/")))
	}
	if cfg.chunk == 0 {
		cfg.chunk = minChunk
	}
	if cfg.idle == 0 {
		cfg.idle = idleTime
	}
	t := &Target{cfg: cfg, slots: make(chan struct{}, parallel+2), dialing: make(chan struct{}, 1)}
	t.used.Store(cfg.Known)
	return t, nil
}

// ID names the folder.
func (t *Target) ID() segment.TargetID { return t.cfg.ID }

// Limits: growing chunks. Four connections fill a line that one would not.
func (t *Target) Limits() uploader.Limits {
	return uploader.Limits{MinChunk: t.cfg.chunk, MaxChunk: maxChunk, MaxChunks: maxChunks, Parallel: parallel, Growing: true}
}

func (t *Target) path(key string) string { return path.Join(t.cfg.Path, key) }

func (t *Target) valid(op, key string) error {
	if key == "" || key == "." || path.Clean(key) != key || !filepath.IsLocal(filepath.FromSlash(key)) || strings.ContainsRune(key, 0) {
		return &failure.Error{Op: op, Kind: failure.Permanent, Code: "the name leads outside of the folder"}
	}
	return nil
}

// hidden makes a temporary name beside p that carries the name it will have.
func hidden(p, token string) string {
	return path.Join(path.Dir(p), "."+path.Base(p)+"."+token+durable.PartSuffix)
}

// there says what is wrong with the folder itself, once something of ours is known to be in it.
func (t *Target) there(ctx context.Context, c *conn, op string) error {
	if !t.used.Load() {
		return nil
	}
	list, err := c.sftp.ReadDirContext(ctx, t.cfg.Path)
	how := "is empty"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		how = "is not there"
	case err != nil:
		return err
	case len(list) > 0:
		return nil
	}
	return &failure.Error{
		Op: op, Kind: failure.Transient, Code: "folder " + how,
		Hint: fmt.Sprintf("%s on %s %s although parts were stored in it: mount it again. If it was emptied on purpose, put any file into it.",
			t.cfg.Path, t.cfg.Host, how),
	}
}

// absent says that the host answered and has no such file, after one more look at the folder: a mount that was lost on
// the host gives the same answer.
func (t *Target) absent(ctx context.Context, c *conn, op string) error {
	if err := t.there(ctx, c, op); err != nil {
		return err
	}
	return &failure.Error{Op: op, Err: failure.ErrAbsent}
}

// mkdir makes a folder with its parents.
func (t *Target) mkdir(ctx context.Context, c *conn, op, dir string) error {
	if fi, err := c.sftp.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if err := t.there(ctx, c, op); err != nil {
		return err
	}
	return c.sftp.MkdirAll(dir)
}

// write makes a new file of data, synced where the host can.
func (t *Target) write(c *conn, name string, data []byte) error {
	if err := c.sftp.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := c.sftp.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil && c.has(extSync) {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Check makes the folder if it is absent, and writes and removes a small file in it.
func (t *Target) Check(ctx context.Context) error {
	op := "use " + string(t.cfg.ID)
	return t.with(ctx, op, func(c *conn) error {
		if err := t.mkdir(ctx, c, op, t.cfg.Path); err != nil {
			return err
		}
		if err := t.full(c, op); err != nil {
			return err
		}
		name := path.Join(t.cfg.Path, ".liverec-check"+durable.PartSuffix)
		err := t.write(c, name, make([]byte, 4096))
		if rerr := c.sftp.Remove(name); err == nil {
			err = rerr
		}
		return err
	})
}

// Open makes the temporary file. Those of the same name that an earlier Open left are removed.
func (t *Target) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	op := "open " + o.Key
	if err := t.valid(op, o.Key); err != nil {
		return nil, err
	}
	if o.Size == 0 {
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "there is nothing in it"}
	}
	u := &upload{t: t, o: o}
	err := t.with(ctx, op, func(c *conn) error {
		final := t.path(o.Key)
		if err := t.mkdir(ctx, c, op, path.Dir(final)); err != nil {
			return err
		}
		if err := t.sweep(ctx, c, final); err != nil {
			return err
		}
		switch _, err := c.sftp.Lstat(final); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		default:
			same, err := t.same(ctx, c, op, o)
			if err != nil {
				return err
			}
			if same {
				u.token = tokenThere
				return nil
			}
		}
		u.token = newToken()
		f, err := c.sftp.OpenFile(hidden(final, u.token), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if err != nil {
			return err
		}
		t.used.Store(true)
		return f.Close()
	})
	if err != nil {
		return nil, err
	}
	return u, nil
}

// sweep removes the temporary files of a final name.
func (t *Target) sweep(ctx context.Context, c *conn, final string) error {
	entries, err := c.sftp.ReadDirContext(ctx, path.Dir(final))
	if err != nil {
		return err
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "."+path.Base(final)+".")
		token, part := strings.CutSuffix(rest, durable.PartSuffix)
		if ok && part && isToken(token) && e.Mode().IsRegular() {
			if err := c.sftp.Remove(path.Join(path.Dir(final), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Resume goes on in the temporary file. It lists no acks: which chunks are in a file nobody can tell from outside.
func (t *Target) Resume(ctx context.Context, o segment.Object, token string) (uploader.Upload, []segment.Ack, error) {
	op := "resume " + o.Key
	if err := t.valid(op, o.Key); err != nil {
		return nil, nil, err
	}
	u := &upload{t: t, o: o, token: token}
	err := t.with(ctx, op, func(c *conn) error {
		if token == tokenThere {
			return nil
		}
		if !isToken(token) {
			return &failure.Error{Op: op, Code: "token is not of this target", Err: failure.ErrAbsent}
		}
		fi, err := c.sftp.Lstat(hidden(t.path(o.Key), token))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return t.absent(ctx, c, op)
		case err != nil:
			return err
		case !fi.Mode().IsRegular():
			return &failure.Error{Op: op, Err: failure.ErrAbsent}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return u, nil, nil
}

// Keep replaces a small file. It does so all at once on a host that has posix-rename@openssh.com; elsewhere there is a
// moment without the file.
func (t *Target) Keep(ctx context.Context, key string, data []byte) error {
	op := "keep " + key
	if err := t.valid(op, key); err != nil {
		return err
	}
	t.keep.Lock()
	defer t.keep.Unlock()
	return t.with(ctx, op, func(c *conn) error {
		final := t.path(key)
		if err := t.mkdir(ctx, c, op, path.Dir(final)); err != nil {
			return err
		}
		temp := hidden(final, "keep")
		if err := t.write(c, temp, data); err != nil {
			_ = c.sftp.Remove(temp)
			return err
		}
		t.used.Store(true)
		if c.has(extRename) {
			return c.sftp.PosixRename(temp, final)
		}
		if err := c.sftp.Remove(final); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return c.sftp.Rename(temp, final)
	})
}

// Recall reads a small file back.
func (t *Target) Recall(ctx context.Context, key string) ([]byte, error) {
	op := "recall " + key
	if err := t.valid(op, key); err != nil {
		return nil, err
	}
	var data []byte
	err := t.with(ctx, op, func(c *conn) error {
		f, err := c.sftp.Open(t.path(key))
		if errors.Is(err, fs.ErrNotExist) {
			return t.absent(ctx, c, op)
		}
		if err != nil {
			return err
		}
		data, err = io.ReadAll(io.LimitReader(f, maxSmall+1))
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err == nil && len(data) > maxSmall {
			err = &failure.Error{Op: op, Kind: failure.Permanent, Code: "larger than 64 MiB", Err: failure.ErrDamaged}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// ReadAt reads a stretch of an object, as io.ReaderAt does. failure.ErrAbsent: there is none of that name.
func (t *Target) ReadAt(ctx context.Context, key string, b []byte, off int64) (n int, err error) {
	op := "read " + key
	if err := t.valid(op, key); err != nil {
		return 0, err
	}
	end := false
	err = t.with(ctx, op, func(c *conn) error {
		f, err := c.sftp.Open(t.path(key))
		if errors.Is(err, fs.ErrNotExist) {
			return t.absent(ctx, c, op)
		}
		if err != nil {
			return err
		}
		n, err = f.ReadAt(b, off)
		if end = errors.Is(err, io.EOF); end {
			err = nil
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	})
	if err == nil && end {
		err = io.EOF
	}
	return n, err
}
