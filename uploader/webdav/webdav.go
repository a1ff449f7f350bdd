// Package webdav keeps segments on a WebDAV server: a NAS, Apache, nginx, Nextcloud.
//
// It owns the files that it puts below its folder, and the temporary files (liverec-….tmp) beside them until they
// are whole. It never sends half a file under a final name, never PUTs a range into a file (servers answer 201 and cut the
// file to the range), never replaces a file that cannot be its own copy of the same segment, never follows a redirect
// with a body or a password, and never takes "could not ask" for "not there".
//
// # One segment
//
// The protocol knows whole files only, so a segment is one chunk, which goes when the segment is sealed: PUT with its
// length to a temporary name, PROPFIND of the size, MOVE to the final name, and for the proof a GET whose SHA-256 is
// compared. It is a chunk and not a whole file at Commit, so that its bytes are limited, metered and watched on their way.
// Neither size nor what a server says of itself (an ETag, a checksum that it was told) proves bytes; reading does.
//
// # What servers do with MOVE
//
// Some (Apache, x/net) remove the file that is replaced before they rename the new one. Keep therefore has the new small
// file whole under a second name before it replaces the old one, and Recall looks there when the first is missing.
package webdav

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// PasswordEnv names the variable that holds the password where no file does.
const PasswordEnv = "LIVEREC_WEBDAV_PASSWORD"

// Config says where the folder is.
type Config struct {
	ID   segment.TargetID
	URL  *url.URL // http or https, without user, query and fragment; the folder is made if it is absent
	User string   // "": nobody logs in
	// PasswordFile holds the password, absolute; "": PasswordEnv does.
	PasswordFile string
	// Known says that the ledger has parts in this folder. Then an absent folder is a server that has lost its disk.
	Known   bool
	Getenv  func(string) string // nil: it is empty
	Version string              // of liverec, for the User-Agent
	// Transport replaces the HTTP transport in tests, nil: our own.
	Transport http.RoundTripper
}

const (
	minChunk = 64 << 10
	maxFile  = 1 << 40
	parallel = 2
	maxSmall = 64 << 20 // of what Recall and a listing read into memory
)

// Target is a folder on a server. It is safe for use by several goroutines.
type Target struct {
	cfg  Config
	base string // path of the folder, clean, without a slash at its end; "" is the root
	http http.RoundTripper
	keep sync.Mutex // one Keep at a time: its temporary names are fixed

	dirs sync.Mutex // one at a time makes folders; servers answer 423 to the second
	mu   sync.Mutex
	pass string // as it was read; "": it has to be read
	used bool   // the folder was there
}

var _ uploader.Target = (*Target)(nil)

// New checks the configuration. It asks nobody: Check does.
func New(cfg Config) (*Target, error) {
	u := cfg.URL
	if u == nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the address of the folder must be http://HOST/PATH or https://HOST/PATH")
	}
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	if cfg.ID == "" {
		cfg.ID = segment.TargetID("webdav+" + u.String())
	}
	t := &Target{cfg: cfg, base: strings.TrimSuffix(path.Clean("/"+u.Path), "/"), http: cfg.Transport, used: cfg.Known}
	if t.http == nil {
		t.http = newTransport()
	}
	return t, nil
}

// ID names the folder.
func (t *Target) ID() segment.TargetID { return t.cfg.ID }

// Limits: one chunk, which is the whole file.
func (t *Target) Limits() uploader.Limits {
	return uploader.Limits{MinChunk: minChunk, MaxChunk: maxFile, MaxChunks: 1, Parallel: parallel}
}

// Close gives idle connections back.
func (t *Target) Close() error {
	if c, ok := t.http.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	return nil
}

// Check puts a small file into the folder, renames it, looks at it and removes it.
func (t *Target) Check(ctx context.Context) error {
	op := "use " + t.where()
	one, two := tempName("", "check"), tempName("", "checked")
	text := []byte("liverec looks whether it may write here\n")
	if err := t.place(ctx, op, one, text); err != nil {
		return err
	}
	if err := t.move(ctx, op, one, two, true); err != nil {
		return errors.Join(err, t.remove(ctx, op, one))
	}
	e, err := t.stat(ctx, op, two)
	if err == nil && e.size != int64(len(text)) {
		err = &failure.Error{Op: op, Code: fmt.Sprintf("the server kept %d of %d bytes", e.size, len(text))}
	}
	return errors.Join(err, t.remove(ctx, op, two))
}

// where is the folder as a person knows it.
func (t *Target) where() string { return t.cfg.URL.Host + t.base + "/" }

// Open makes the folders and an empty temporary file, and removes those that an earlier Open of the same object left.
func (t *Target) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	op := "open " + o.Key
	if err := t.valid(op, o.Key); err != nil {
		return nil, err
	}
	switch {
	case o.Size == 0:
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "there is nothing in it"}
	case o.Size < 0:
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "segment is still open", Err: errors.ErrUnsupported}
	}
	if err := t.sweep(ctx, op, o.Key); err != nil {
		return nil, err
	}
	token := tempName(o.Key, strings.ToLower(rand.Text()[:10]))
	if err := t.place(ctx, op, token, nil); err != nil {
		return nil, err
	}
	return &upload{t, o, token}, nil
}

// Resume looks for the token. It lists nothing: Commit looks at what was sent.
func (t *Target) Resume(ctx context.Context, o segment.Object, token string) (uploader.Upload, []segment.Ack, error) {
	op := "resume " + o.Key
	if err := t.valid(op, o.Key); err != nil {
		return nil, nil, err
	}
	if path.Dir(token) != path.Dir(o.Key) || !strings.HasPrefix(path.Base(token), tempPrefix(o.Key)) {
		return nil, nil, t.absent(ctx, op, "token is not of this object")
	}
	if _, err := t.stat(ctx, op, token); err != nil {
		return nil, nil, err
	}
	return &upload{t, o, token}, nil, nil
}

// Keep replaces a small file. A reader sees the old or the new one; see the package comment.
func (t *Target) Keep(ctx context.Context, key string, data []byte) error {
	op := "keep " + key
	if err := t.valid(op, key); err != nil {
		return err
	}
	t.keep.Lock()
	defer t.keep.Unlock()
	half, next := tempName(key, "half"), tempName(key, "next")
	if err := t.place(ctx, op, half, data); err != nil {
		return err
	}
	e, err := t.stat(ctx, op, half)
	if err == nil && e.size != int64(len(data)) {
		err = &failure.Error{Op: op, Code: fmt.Sprintf("the server kept %d of %d bytes", e.size, len(data)), Err: failure.ErrDamaged}
	}
	if err != nil {
		return err
	}
	if err := t.move(ctx, op, half, key, false); !errors.Is(err, errThere) {
		return err
	}
	if err := t.move(ctx, op, half, next, true); err != nil {
		return err
	}
	return t.move(ctx, op, next, key, true)
}

// Recall reads a small file back.
func (t *Target) Recall(ctx context.Context, key string) ([]byte, error) {
	op := "recall " + key
	if err := t.valid(op, key); err != nil {
		return nil, err
	}
	var err error
	forbidden := 0
	for range 10 { // it is being replaced, perhaps again and again
		for _, name := range []string{key, tempName(key, "next")} {
			var data []byte
			data, err = t.small(ctx, op, name)
			switch {
			case err == nil:
				return data, nil
			case errors.Is(err, failure.ErrAbsent), errors.Is(err, errChanged):
			case refusedWith(err, http.StatusForbidden) && forbidden < 3:
				forbidden++ // Apache says so when the file that it saw is not there to be opened
			default:
				return nil, err
			}
		}
	}
	return nil, err
}

var errChanged = errors.New("the file is being replaced")

// small reads a small file and makes sure that it is one: Apache looks how long a file is, opens it then, and sends the
// beginning of another one if it was replaced in between.
func (t *Target) small(ctx context.Context, op, key string) ([]byte, error) {
	var data []byte
	before, err := t.get(ctx, op, key, func(r io.Reader) (err error) {
		data, err = io.ReadAll(io.LimitReader(r, maxSmall+1))
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(data) > maxSmall {
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "larger than 64 MiB", Err: failure.ErrDamaged}
	}
	after, err := t.do(ctx, op, request{method: http.MethodHead, url: t.url(key), also: []int{http.StatusNotFound}})
	if err != nil {
		return nil, err
	}
	drain(after)
	if after.StatusCode == http.StatusNotFound || version(after.Header) != before {
		return nil, &failure.Error{Op: op, Kind: failure.Transient, Err: errChanged}
	}
	return data, nil
}

// tempPrefix begins all temporary names that belong to key.
func tempPrefix(key string) string {
	sum := sha256.Sum256([]byte(path.Base(key)))
	return "liverec-" + hex.EncodeToString(sum[:4]) + "-"
}

// tempName is a temporary name beside key. It does not end in .part, which Nextcloud takes from nobody, and does not begin
// with a dot: nginx does not list what does.
func tempName(key, what string) string {
	return path.Join(path.Dir(key), tempPrefix(key)+what+".tmp")
}

// valid refuses keys that no sound part of liverec makes.
func (t *Target) valid(op, key string) error {
	if key == "" || key == "." || path.Clean(key) != key || !filepath.IsLocal(filepath.FromSlash(key)) || !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return &failure.Error{Op: op, Kind: failure.Permanent, Code: "the name leads outside of the folder"}
	}
	return nil
}
