// Package localdir keeps segments in a folder: a disk, a NAS mount.
//
// It owns the files that it puts into that folder, and the hidden temporary files beside them until they are whole.
// It never overwrites and never removes a file that stands under its final name: what cannot be a copy of the segment is
// refused, and a copy of the right size with wrong bytes is renamed to NAME.damaged-XXXXXX when the good one is there to
// take its place. It never concludes from a folder that has vanished (a lost mount) that the files in it are gone.
//
// Where data folder and archive are on one file system a sealed segment is linked. Elsewhere its chunks are written
// at their place into a temporary file, each synced before it is acknowledged, and Commit gives the file its name.
//
// How a lost mount is noticed: the folder must be the one that was opened (same device and inode). When another one
// has taken its place, or when Config.Known says that parts were stored before, an absent or empty folder means
// "cannot be reached". No marker file is needed in the user's folder: the ledger knows that something was stored, and
// an unmounted mount point is empty.
package localdir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// Config says where the archive is.
type Config struct {
	ID   segment.TargetID // default "file:" + Path
	Path string           // the archive, absolute; it is made if it is absent, with its parents
	// Data is the data folder, absolute. Segments below it are linked if the file systems allow it; files from
	// elsewhere belong to somebody who may change them, and are copied. Empty: nothing is linked.
	Data string
	// Known says that the ledger has parts in this archive. Then an absent or empty folder is a lost mount.
	Known bool
	// Reread makes Verify read every file back, also the ones that are links.
	Reread bool
	Hook   durable.Hook // fault seam, nil in production
}

// Sizes of the copying way. A NAS likes few large writes, and each chunk costs one fsync.
const (
	minChunk  = 4 << 20
	maxChunk  = 256 << 20
	maxChunks = 1 << 20
	parallel  = 2
	maxSmall  = 64 << 20 // of what Recall reads into memory
)

// Target is the archive folder. It is safe for use by several goroutines.
type Target struct {
	cfg  Config
	link bool
	keep sync.Mutex // one Keep at a time, so that what lies around is from earlier processes

	mu   sync.Mutex
	dir  *durable.Dir // nil while the folder cannot be reached
	id   fs.FileInfo  // what dir was when it was opened
	used bool         // something of ours is in it
}

var _ uploader.Target = (*Target)(nil)

// New opens the archive and finds out by linking whether links are possible. An archive that cannot be reached or
// written is no error here: Check says what is wrong with it, and chunks will be copied.
func New(cfg Config) (*Target, error) {
	if !filepath.IsAbs(cfg.Path) {
		return nil, fmt.Errorf("archive folder %q is not an absolute path", cfg.Path)
	}
	cfg.Path = filepath.Clean(cfg.Path)
	if cfg.ID == "" {
		cfg.ID = segment.TargetID("file:" + cfg.Path)
	}
	t := &Target{cfg: cfg, used: cfg.Known}
	if d, err := t.root("open"); err == nil && cfg.Data != "" {
		_ = d.Sweep(who(cfg.Data)) // what is in the way is found by Check
		t.link = canLink(cfg.Data, d)
	}
	return t, nil
}

// who is what the files of trials are called by: one process at a time works with a data folder, several share an archive.
func who(data string) string {
	host, _ := os.Hostname() // without a name all the same
	sum := sha256.Sum256([]byte(host + "\x00" + data))
	return hex.EncodeToString(sum[:6])
}

// canLink really links: mounts, overlays and file systems without links all answer in their own way.
func canLink(data string, archive *durable.Dir) bool {
	if fi, err := os.Stat(data); err != nil || !fi.IsDir() {
		return false
	}
	d, err := durable.Open(data, nil)
	if err != nil {
		return false
	}
	defer d.Close()
	if err := d.Sweep(who(data)); err != nil {
		return false
	}
	name := durable.Trial(who(data))
	f, err := d.Create(name)
	if err != nil {
		return false
	}
	_ = f.Close()
	defer func() { _ = d.Remove(name) }()
	if err := archive.Link(d.Abs(name), name); err != nil {
		return false
	}
	a, aerr := archive.Stat(name)
	b, berr := d.Stat(name)
	same := aerr == nil && berr == nil && os.SameFile(a, b)
	return archive.Remove(name) == nil && same
}

// ID names the archive.
func (t *Target) ID() segment.TargetID { return t.cfg.ID }

// Linking reports whether sealed segments are linked into the archive.
func (t *Target) Linking() bool { return t.link }

// Limits: whole segments where they are linked, growing chunks where they are copied.
func (t *Target) Limits() uploader.Limits {
	if t.link {
		return uploader.Limits{Parallel: parallel}
	}
	return uploader.Limits{MinChunk: minChunk, MaxChunk: maxChunk, MaxChunks: maxChunks, Parallel: parallel, Growing: true}
}

// Close gives the folder back.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dir == nil {
		return nil
	}
	err := t.dir.Close()
	t.dir = nil
	return err
}

// root is the archive folder. It is opened anew when another one has taken its place.
func (t *Target) root(op string) (*durable.Dir, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, err := os.Stat(t.cfg.Path)
	if err == nil && t.dir != nil && os.SameFile(now, t.id) {
		return t.dir, nil
	}
	if t.dir != nil {
		_ = t.dir.Close() // what still uses it gets an error, and asks again
		t.dir = nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if t.used {
			return nil, t.gone(op, "is not there")
		}
	case err != nil:
		return nil, t.trouble(op, err)
	case t.used:
		empty, err := isEmpty(t.cfg.Path)
		if err != nil {
			return nil, t.trouble(op, err)
		}
		if empty {
			return nil, t.gone(op, "is empty")
		}
	}
	d, err := durable.Open(t.cfg.Path, t.cfg.Hook)
	if err != nil {
		return nil, t.trouble(op, err)
	}
	id, err := d.Stat(".")
	if err != nil {
		_ = d.Close()
		return nil, t.trouble(op, err)
	}
	t.dir, t.id = d, id
	return d, nil
}

func (t *Target) mark() {
	t.mu.Lock()
	t.used = true
	t.mu.Unlock()
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

func (t *Target) gone(op, how string) error {
	return &failure.Error{
		Op: op, Kind: failure.Transient, Code: "archive folder " + how,
		Hint: fmt.Sprintf("%s %s although parts were stored in it: mount it again. If it was emptied on purpose, put any file into it (`mkdir -p %s && touch %s`).",
			t.cfg.Path, how, t.cfg.Path, filepath.Join(t.cfg.Path, ".keep")),
	}
}

// trouble makes an error of a file call one that says who can help.
func (t *Target) trouble(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*failure.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", op, err)
	}
	e := &failure.Error{Op: op, Kind: failure.Transient, Err: err}
	switch {
	case is(err, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS) || errors.Is(err, fs.ErrPermission),
		is(err, syscall.ENOTDIR):
		x := durable.Explain(t.cfg.Path, err)
		e.Kind, e.Hint = failure.KindOf(x), failure.Hint(x)
	case is(err, syscall.ESTALE, syscall.EIO, syscall.ENOTCONN, syscall.ETIMEDOUT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENODEV):
		e.Hint = fmt.Sprintf("Look at the mount or the disk behind %s.", t.cfg.Path)
	case is(err, syscall.ENAMETOOLONG):
		e.Kind, e.Hint = failure.Permanent, "The name is too long for this file system: use a shorter --name."
	}
	return e
}

func is(err error, nos ...syscall.Errno) bool {
	for _, no := range nos {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// absent says that the archive answered and has no such file. It looks at the folder once more first: a mount that
// was lost in between would have given the same answer.
func (t *Target) absent(op string) error {
	if _, err := t.root(op); err != nil {
		return err
	}
	return &failure.Error{Op: op, Err: failure.ErrAbsent}
}

// Check writes, syncs, renames and removes a small file. Its refusal names the owner, the user that we are, and the
// cure.
func (t *Target) Check(ctx context.Context) error {
	op := "use folder " + t.cfg.Path
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	d, err := t.root(op)
	if err != nil {
		return err
	}
	err = d.Probe(who(t.cfg.Data))
	if is(err, syscall.ESTALE, syscall.EIO, syscall.ENOTCONN, syscall.ETIMEDOUT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENODEV) {
		return &failure.Error{Op: op, Err: err, Hint: fmt.Sprintf("Look at the mount or the disk behind %s.", t.cfg.Path)}
	}
	return err
}

// Open begins an upload: nothing on the disk where the segment will be linked, a temporary file elsewhere.
// Temporary files of the same name that an earlier Open left are removed.
func (t *Target) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	op := "open " + o.Key
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if err := t.valid(op, o.Key); err != nil {
		return nil, err
	}
	if o.Size == 0 {
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "there is nothing in it"}
	}
	d, err := t.root(op)
	if err != nil {
		return nil, err
	}
	if err := t.sweep(d, o.Key, ""); err != nil {
		return nil, t.trouble(op, err)
	}
	if t.link {
		if o.Size < 0 {
			return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "segment is still open", Err: errors.ErrUnsupported}
		}
		return &upload{t: t, o: o, token: tokenLink}, nil
	}
	switch _, err := os.Lstat(d.Abs(o.Key)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, t.trouble(op, err)
	default:
		same, err := t.same(ctx, d, op, o)
		if err != nil {
			return nil, err
		}
		if same {
			return &upload{t: t, o: o, token: tokenThere}, nil
		}
	}
	temp := path.Join(path.Dir(o.Key), hidden(path.Base(o.Key)))
	f, err := d.Create(temp)
	if err != nil {
		return nil, t.trouble(op, err)
	}
	if err := f.Close(); err != nil {
		return nil, t.trouble(op, err)
	}
	t.mark()
	return &upload{t: t, o: o, token: temp}, nil
}

// Resume goes on in the temporary file. It lists no acks: which chunks are in a file nobody can tell from outside, so
// the ledger's count, and Commit measures.
func (t *Target) Resume(ctx context.Context, o segment.Object, token string) (uploader.Upload, []segment.Ack, error) {
	op := "resume " + o.Key
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", op, err)
	}
	if err := t.valid(op, o.Key); err != nil {
		return nil, nil, err
	}
	d, err := t.root(op)
	if err != nil {
		return nil, nil, err
	}
	u := &upload{t: t, o: o, token: token}
	if token == tokenLink || token == tokenThere {
		return u, nil, nil
	}
	if path.Dir(token) != path.Dir(o.Key) || !strings.HasPrefix(path.Base(token), "."+path.Base(o.Key)+".") || !strings.HasSuffix(token, durable.PartSuffix) {
		return nil, nil, &failure.Error{Op: op, Code: "token is not of this object", Err: failure.ErrAbsent}
	}
	switch fi, err := os.Lstat(d.Abs(token)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, t.absent(op)
	case err != nil:
		return nil, nil, t.trouble(op, err)
	case !fi.Mode().IsRegular():
		return nil, nil, &failure.Error{Op: op, Err: failure.ErrAbsent}
	}
	return u, nil, nil
}

// Keep replaces a small file all at once.
func (t *Target) Keep(ctx context.Context, key string, data []byte) error {
	op := "keep " + key
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := t.valid(op, key); err != nil {
		return err
	}
	t.keep.Lock()
	defer t.keep.Unlock()
	d, err := t.root(op)
	if err != nil {
		return err
	}
	if err := t.sweep(d, key, ""); err != nil {
		return t.trouble(op, err)
	}
	if err := d.Replace(key, data); err != nil {
		return t.trouble(op, err)
	}
	t.mark()
	return nil
}

// Recall reads a small file back.
func (t *Target) Recall(ctx context.Context, key string) ([]byte, error) {
	op := "recall " + key
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if err := t.valid(op, key); err != nil {
		return nil, err
	}
	d, err := t.root(op)
	if err != nil {
		return nil, err
	}
	f, err := d.Read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, t.absent(op)
	}
	if err != nil {
		return nil, t.trouble(op, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err != nil {
		return nil, t.trouble(op, err)
	}
	if len(data) > maxSmall {
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "larger than 64 MiB", Err: failure.ErrDamaged}
	}
	return data, nil
}

// valid refuses keys that no sound part of liverec makes.
func (t *Target) valid(op, key string) error {
	if key == "" || key == "." || path.Clean(key) != key || !filepath.IsLocal(filepath.FromSlash(key)) || strings.ContainsRune(key, 0) {
		return &failure.Error{Op: op, Kind: failure.Permanent, Code: "the name leads outside of the archive"}
	}
	return nil
}
