package webdav

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// object makes a sealed segment of n bytes.
func object(n int) (segment.Object, string) {
	data := strings.Repeat("0123456789abcdef", n/16+1)[:n]
	return segment.Object{
		Key: "alice/P0001.flv", Size: int64(n), MaxSize: int64(n), SHA256: sha256.Sum256([]byte(data)), Chunk: int64(n),
	}, data
}

// carry sends an object from its opening to its proof, as far as it comes.
func carry(ctx context.Context, t uploader.Target, o segment.Object, data string) error {
	up, err := t.Open(ctx, o)
	if err != nil {
		return err
	}
	a, err := up.Put(ctx, segment.Chunk{Length: o.Size}, strings.NewReader(data))
	if err != nil {
		return err
	}
	r, err := up.Commit(ctx, o, []segment.Ack{a})
	if err != nil {
		return err
	}
	_, err = t.Verify(ctx, o, r)
	return err
}

// before answers requests of one method itself.
func before(method string, answer func(http.ResponseWriter, *http.Request) bool) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != method || !answer(w, r) {
				h.ServeHTTP(w, r)
			}
		})
	}
}

// Each refusal of a server says who can help, wherever it comes, and is never an answer to "is it there?".
func TestRefusalsHaveAKindAndACure(t *testing.T) {
	for _, c := range []struct {
		status int
		header string // "Name: value"
		kind   failure.Kind
		hint   string
		wait   time.Duration
	}{
		{status: 400},
		{status: 401, kind: failure.NeedsHuman, hint: "password of user alice"},
		{status: 403, kind: failure.NeedsHuman, hint: "allowed to write"},
		{status: 405, kind: failure.NeedsHuman, hint: "remote.php/dav/files"},
		{status: 407, kind: failure.NeedsHuman, hint: "HTTPS_PROXY"},
		{status: 413, kind: failure.Permanent, hint: "--max-size"},
		{status: 423, hint: "holds a lock"},
		{status: 429, header: "Retry-After: 7", kind: failure.Throttled, wait: 7 * time.Second},
		{status: 500},
		{status: 502},
		{status: 503},
		{status: 503, header: "Retry-After: 120", kind: failure.Throttled, wait: 2 * time.Minute},
		{status: 507, hint: "quota"},
		{status: 301, header: "Location: https://other.example/dav/?session=hunter2", kind: failure.NeedsHuman, hint: "https://other.example/dav/:"},
		{status: 200, hint: "no answer of a WebDAV server"}, // the login page of a hotel
		{status: 204, hint: "no answer of a WebDAV server"},
	} {
		p := library(t, false, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if k, v, ok := strings.Cut(c.header, ": "); ok {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
			})
		})
		target := p.target(t)
		o, _ := object(100)
		_, verr := target.Verify(t.Context(), o, segment.Receipt{})
		_, oerr := target.Open(t.Context(), o)
		for _, err := range []error{verr, oerr} {
			if errors.Is(err, failure.ErrAbsent) || errors.Is(err, failure.ErrDamaged) {
				t.Errorf("%d became an answer (I8): %v", c.status, err)
			}
			if err == nil || failure.KindOf(err) != c.kind || !strings.Contains(failure.Hint(err), c.hint) || failure.RetryAfter(err) != c.wait {
				t.Errorf("%d: %v is %v with hint %q and waits %v", c.status, err, failure.KindOf(err), failure.Hint(err), failure.RetryAfter(err))
			}
			if strings.Contains(err.Error()+failure.Hint(err), "hunter2") {
				t.Errorf("%d: the password is printed: %v", c.status, err)
			}
		}
		if err := target.Check(t.Context()); err == nil {
			t.Errorf("%d: the check passed", c.status)
		}
	}
}

// A lock, a full disk, an answer that is lost after the deed: the same calls made again end well, and leave nothing.
func TestAgainAfterTrouble(t *testing.T) {
	for _, method := range []string{"PROPFIND", "PUT", "MOVE", "DELETE", "GET", "MKCOL"} {
		for _, how := range []string{"locked", "full", "lost"} {
			t.Run(method+" "+how, func(t *testing.T) {
				var n atomic.Int64
				p := library(t, false, func(h http.Handler) http.Handler {
					return before(method, func(w http.ResponseWriter, r *http.Request) bool {
						if n.Add(1) != 1 {
							return false
						}
						switch how {
						case "locked":
							w.WriteHeader(http.StatusLocked)
						case "full":
							w.WriteHeader(http.StatusInsufficientStorage)
						case "lost":
							h.ServeHTTP(nowhere{}, r)
							panic(http.ErrAbortHandler)
						}
						return true
					})(h)
				})
				target := p.target(t)
				o, data := object(100_000)
				var err error
				for range 3 {
					if err = carry(t.Context(), target, o, data); err == nil {
						break
					}
					if errors.Is(err, failure.ErrAbsent) || errors.Is(err, failure.ErrDamaged) || failure.KindOf(err) != failure.Transient {
						t.Fatalf("trouble became an answer (I8): %v", err)
					}
				}
				must(t, err)
				if got, err := os.ReadFile(p.abs(o.Key)); err != nil || string(got) != data {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if left := p.left(t); len(left) > 0 || n.Load() == 0 {
					t.Errorf("left: %v, after %d requests", left, n.Load())
				}
			})
		}
	}
}

// nowhere is where an answer goes that is lost.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}

// A server that takes the file and does not answer is left when the context ends, and nothing is concluded.
func TestAServerThatHangs(t *testing.T) {
	free := make(chan struct{})
	p := library(t, false, before("GET", func(w http.ResponseWriter, r *http.Request) bool { <-free; return true }))
	defer close(free)
	o, data := object(1000)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := carry(ctx, p.target(t), o, data)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, failure.ErrAbsent) {
		t.Error(err)
	}
}

// A server that says 201 and keeps a part of the file is found out before the file has its name.
func TestAServerThatCuts(t *testing.T) {
	p := library(t, false, func(h http.Handler) http.Handler {
		return before("PUT", func(w http.ResponseWriter, r *http.Request) bool {
			r.Body = http.MaxBytesReader(nil, r.Body, 10)
			h.ServeHTTP(nowhere{}, r)
			w.WriteHeader(http.StatusCreated)
			return true
		})(h)
	})
	o, data := object(1000)
	if err := carry(t.Context(), p.target(t), o, data); !errors.Is(err, failure.ErrDamaged) && failure.KindOf(err) != failure.Transient || err == nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.abs(o.Key)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a file has its name: %v", err)
	}
}

// Somebody else's file is not replaced.
func TestAForeignFileStays(t *testing.T) {
	p := library(t, false, nil)
	target := p.target(t)
	o, data := object(1000)
	must(t, target.Keep(t.Context(), o.Key, []byte("the diary of another")))
	err := carry(t.Context(), target, o, data)
	if failure.KindOf(err) != failure.Permanent || !errors.Is(err, fs.ErrExist) || !strings.Contains(failure.Hint(err), "--name") {
		t.Errorf("%v, %q", err, failure.Hint(err))
	}
	if got, _ := os.ReadFile(p.abs(o.Key)); string(got) != "the diary of another" {
		t.Errorf("it is %q now", got)
	}
}

// A server whose disk is gone answers 404 to everything. That is not "absent" where something was stored.
func TestI8_AServerWithoutItsDiskIsNotEmpty(t *testing.T) {
	p := library(t, false, nil)
	target := p.target(t)
	o, data := object(1000)
	must(t, carry(t.Context(), target, o, data))
	must(t, os.Rename(filepath.Join(p.dir, "live"), filepath.Join(p.dir, "lost")))
	known := p.target(t, func(c *Config) { c.Known = true })
	for _, target := range []*Target{target, known} {
		_, verr := target.Verify(t.Context(), o, segment.Receipt{})
		_, rerr := target.Recall(t.Context(), "alice/manifest.json")
		_, oerr := target.Open(t.Context(), o)
		for _, err := range []error{verr, rerr, oerr, target.Check(t.Context())} {
			if err == nil || errors.Is(err, failure.ErrAbsent) || failure.KindOf(err) != failure.Transient || !strings.Contains(failure.Hint(err), "lost its disk") {
				t.Errorf("%v, %q", err, failure.Hint(err))
			}
		}
	}
	if _, err := os.Stat(filepath.Join(p.dir, "live")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the folder was made anew on the wrong disk")
	}
	must(t, os.Rename(filepath.Join(p.dir, "lost"), filepath.Join(p.dir, "live")))
	_, err := known.Verify(t.Context(), o, segment.Receipt{})
	must(t, err)
}

// The password comes from the file, and is read again after a refusal.
func TestPasswordFile(t *testing.T) {
	p := library(t, false, nil)
	file := filepath.Join(t.TempDir(), "password")
	target := p.target(t, func(c *Config) { c.PasswordFile = file })
	says := func(want string) {
		t.Helper()
		err := target.Check(t.Context())
		if failure.KindOf(err) != failure.NeedsHuman || !strings.Contains(failure.Hint(err), want) {
			t.Errorf("%v, %q", err, failure.Hint(err))
		}
	}
	says("password-file=FILE")
	must(t, os.WriteFile(file, []byte("\n"), 0o600))
	says("password-file=FILE")
	must(t, os.WriteFile(file, []byte("wrong\n"), 0o600))
	says("refuses the password")
	must(t, os.WriteFile(file, []byte("hunter2\n"), 0o600))
	must(t, target.Check(t.Context()))
	target = p.target(t, func(c *Config) { c.User = "" })
	says("USER@HOST")
}

func TestReadAt(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		p := library(t, false, before("GET", func(_ http.ResponseWriter, r *http.Request) bool {
			if !ranges {
				r.Header.Del("Range")
			}
			return false
		}))
		target := p.target(t)
		must(t, target.Keep(t.Context(), "a", []byte("0123456789")))
		b := make([]byte, 4)
		if n, err := target.ReadAt(t.Context(), "a", b, 3); err != nil || string(b[:n]) != "3456" {
			t.Errorf("%q, %v", b[:n], err)
		}
		if n, err := target.ReadAt(t.Context(), "a", b, 8); err == nil || string(b[:n]) != "89" {
			t.Errorf("%q, %v", b[:n], err)
		}
		if n, err := target.ReadAt(t.Context(), "a", b, 100); err == nil || n != 0 {
			t.Errorf("%q, %v", b[:n], err)
		}
		if _, err := target.ReadAt(t.Context(), "b", b, 0); !errors.Is(err, failure.ErrAbsent) {
			t.Error(err)
		}
	}
}

// Apache answers 403 where a file is replaced between its look and its reading. One that stays is a refusal.
func TestRecallWhileItIsReplaced(t *testing.T) {
	var n, most atomic.Int64
	p := library(t, false, before("GET", func(w http.ResponseWriter, _ *http.Request) bool {
		if n.Add(1) > most.Load() {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	}))
	target := p.target(t)
	must(t, target.Keep(t.Context(), "a", []byte("0123456789")))
	most.Store(2)
	if data, err := target.Recall(t.Context(), "a"); err != nil || string(data) != "0123456789" {
		t.Errorf("%q, %v", data, err)
	}
	most.Store(1000)
	if _, err := target.Recall(t.Context(), "a"); failure.KindOf(err) != failure.NeedsHuman {
		t.Error(err)
	}
}
