package bilibili

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
)

// Account is a cookie file. It may be used by many goroutines.
type Account struct {
	path   string        // the file itself, links followed
	writer chan struct{} // full while this process writes, where the file system has no lock

	mu   sync.Mutex
	cred *Credentials
	seen fs.FileInfo // of the file that cred was read from
	owed bool        // cred is newer than the file, which could not be written
}

// OpenAccount reads the cookie file. A file that is absent or holds no login is NeedsHuman with the cure.
func OpenAccount(path string) (*Account, error) {
	if path == "" {
		return nil, errors.New("read cookie file: it has no name")
	}
	abs, err := resolve(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	a := &Account{path: abs, writer: make(chan struct{}, 1)}
	if a.cred, a.seen, err = load(abs); err != nil {
		return nil, unreadable(path, err)
	}
	return a, nil
}

// resolve follows links, so that a renewal replaces the file and not the link.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	return filepath.EvalSymlinks(abs)
}

func unreadable(path string, err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err // the path is said once
	}
	return &failure.Error{Op: "read cookie file " + path, Kind: failure.NeedsHuman, Err: err, Hint: loginHint(path)}
}

func loginHint(path string) string {
	if path == "" {
		return "Log in with `liverec login bilibili` and name the cookie file."
	}
	return "Log in with `liverec login bilibili --cookies " + path + "`."
}

// load reads a file that may be replaced at any moment.
func load(path string) (*Credentials, fs.FileInfo, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, nil, errors.New("it is not a file")
	}
	if fi.Size() > maxFile {
		return nil, nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	c, err := Parse(b)
	return c, fi, err
}

// Path is the cookie file.
func (a *Account) Path() string { return a.path }

// Credentials are those of the file now: it is read again when it has changed. If it cannot be read at the moment, they
// are the last ones.
func (a *Account) Credentials() *Credentials {
	a.mu.Lock()
	defer a.mu.Unlock()
	fi, err := os.Stat(a.path)
	if err != nil || a.seen != nil && os.SameFile(fi, a.seen) && fi.ModTime().Equal(a.seen.ModTime()) && fi.Size() == a.seen.Size() {
		return a.cred
	}
	if c, seen, err := load(a.path); err == nil {
		a.cred, a.seen, a.owed = c, seen, false
	}
	return a.cred
}

// renewalTime is how long a refused call waits for a renewal that may be under way.
const renewalTime = 5 * time.Second

// changed reports whether there are other credentials than those that were refused. The service kills the old ones
// before anybody has the new ones: while somebody holds the lock, they are waited for.
func (a *Account) changed(ctx context.Context, refused *Credentials) bool {
	for end := time.Now().Add(renewalTime); ; {
		busy := a.locked()
		if !a.Credentials().same(refused) {
			return true
		}
		if !busy || !time.Now().Before(end) || !backoff.Sleep(ctx, 100*time.Millisecond) {
			return false
		}
	}
}

// locked reports whether somebody holds the lock of the account.
func (a *Account) locked() bool {
	f, err := os.Open(a.path + ".lock")
	if err != nil {
		return false // nobody has ever held it
	}
	defer f.Close() // and with it what was taken to ask
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Mode is the file's mode; anything but 0600 lets others read the login.
func (a *Account) Mode() (fs.FileMode, error) {
	fi, err := os.Stat(a.path)
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", a.path, err)
	}
	return fi.Mode().Perm(), nil
}

// store writes credentials to the file, all at once, for the owner only.
func (a *Account) store(c *Credentials) error {
	err := write(a.path, c)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cred, a.owed = c, err != nil // the old ones are dead, wherever the new ones are
	if err == nil {
		a.seen, _ = os.Stat(a.path) // gone again: read anew when it is back
	}
	return err
}

// flush writes what an earlier store could not, unless somebody has changed the file meanwhile.
func (a *Account) flush() error {
	c := a.Credentials()
	a.mu.Lock()
	owed := a.owed
	a.mu.Unlock()
	if !owed {
		return nil
	}
	return a.store(c)
}

func write(path string, c *Credentials) error {
	b, err := c.encode()
	if err != nil {
		return err
	}
	d, err := durable.Open(filepath.Dir(path), nil)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.ReplacePrivate(filepath.Base(path), b); err != nil {
		return durable.Explain(d.Path(), err)
	}
	return nil
}

// writable tries whether store would work, before something is done that makes the old content worthless.
func (a *Account) writable() error {
	d, err := durable.Open(filepath.Dir(a.path), nil)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Probe("login")
}

// fileLock is an flock on a file beside the cookie file. It is held over processes and, because each take opens the file
// anew, between goroutines.
type fileLock struct{ f *os.File }

// flock takes the lock, waiting for others until ctx ends.
func flock(ctx context.Context, name string) (*fileLock, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", name, err)
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &fileLock{f}, nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("take lock %s: %w", name, err)
		}
		if !backoff.Sleep(ctx, wait) {
			f.Close()
			return nil, fmt.Errorf("wait for lock %s: %w", name, ctx.Err())
		}
	}
}

func (l *fileLock) release() { l.f.Close() } // the flock goes with the descriptor; nothing was written that could be lost

// lock takes the lock of the account: one process renews or edits at a time.
func (a *Account) lock(ctx context.Context) (*fileLock, error) { return flock(ctx, a.path+".lock") }
