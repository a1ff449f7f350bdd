// Package bilibili keeps segments in Bilibili's object store (UPOS), from where a submission takes its parts.
//
// It owns the uploads and nothing that people can see: lists are made by pipeline/control/submission. It never asks for
// a second preupload while the first one can be used, never completes an upload with a hole, sends no cookie to an upload
// node, and never takes "could not ask" for "not there". Rows of the upload reference are cited as "U".
//
// # One segment
//
//	preupload (member, as the user, a turn of the governor) → init → PUT … → complete → GET of the last byte
//
// The token holds all that another process needs to go on: node, object, auth with its moment, upload id, chunk size
// (U 3.6). Nothing lists what a node has stored, so the ledger's acks count. The receipt holds the same without the
// upload, so that the object can be read back for the five days that its auth lives; its Tag is the file name by which a
// submission calls the part, and by which Find knows our submission again: the server makes it, and no two are the same.
//
// Complete is repeated until it is known: it is harmless (U 3.4), and giving up would lose everything. A node that keeps
// failing is left for the next one that preupload named; object and auth stay the same (U 2.4).
package bilibili

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// ErrOld: the upload was made more than five days ago, and its node answers nobody any more (U 3.5). Whether the part is
// there can be seen in the submission only.
var ErrOld = errors.New("the upload is older than five days, the node does not answer for it any more")

// Config says whose uploads they are.
type Config struct {
	ID      segment.TargetID
	Cookies string // the cookie file
	// Interval is the shortest time between two submissions of the account; it goes to the governor.
	Interval  time.Duration
	Streaming bool // chunks go while the segment grows
	Listed    bool // a whole object is no proof: the submission has to show it
	Log       zerolog.Logger
	// Transport replaces the HTTP transport in tests, nil: our own.
	Transport http.RoundTripper

	chunk int64 // 10 MiB but in tests
}

const (
	usualChunk = 10 << 20 // U 3.1; what preupload answers counts
	// maxChunks keeps an object below 32 GB, above which it is not transcoded (U 3.7). Nodes take 10,000 chunks.
	maxChunks = 3000
	parallel  = 8
	// recheck is how often a refusal is looked at. Nobody is asked before the cookie file has changed or reask is over.
	recheck = 4 * time.Second
	reask   = 10 * time.Minute
	// authLife is how long an auth can be used: 5 days (U 3.6), less what a last upload may take.
	authLife = 5*24*time.Hour - 2*time.Hour
)

// Target is an account.
type Target struct {
	cfg Config

	mu       sync.Mutex
	client   *bilibili.Client
	governor *bilibili.Governor
	keeper   *bilibili.Keeper
	dead     *bilibili.Credentials // that were refused
	deadErr  error
	deadAt   time.Time
	spares   map[string]*spare // preuploads that are not in the ledger yet, by key
	live     map[string]*upload
	gone     map[string]bool // upload ids that the nodes do not take any more
	lines    lines
}

var _ uploader.Target = (*Target)(nil)

// New checks the configuration. It asks nobody, and a cookie file that is not there is Check's affair.
func New(cfg Config) (*Target, error) {
	if cfg.Cookies == "" {
		return nil, errors.New("bilibili: names no cookie file")
	}
	if cfg.ID == "" {
		cfg.ID = segment.TargetID("bilibili:?cookies=" + cfg.Cookies)
	}
	if cfg.chunk == 0 {
		cfg.chunk = usualChunk
	}
	t := &Target{cfg: cfg, spares: map[string]*spare{}, live: map[string]*upload{}, gone: map[string]bool{}}
	if _, _, err := t.Account(); err != nil && failure.KindOf(err) != failure.NeedsHuman {
		return nil, err
	}
	return t, nil
}

// ID names the account.
func (t *Target) ID() segment.TargetID { return t.cfg.ID }

// Limits are those of UPOS.
func (t *Target) Limits() uploader.Limits {
	return uploader.Limits{
		MinChunk: t.cfg.chunk, MaxChunk: t.cfg.chunk, MaxChunks: maxChunks, Parallel: parallel,
		Growing: t.cfg.Streaming, Listed: t.cfg.Listed, Recheck: recheck, Apart: true,
	}
}

// Account is the way to speak as the account. NeedsHuman: the cookie file cannot be read.
func (t *Target) Account() (*bilibili.Client, *bilibili.Governor, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client == nil {
		a, err := bilibili.OpenAccount(t.cfg.Cookies)
		if err != nil {
			return nil, nil, err
		}
		t.client = bilibili.NewClient(bilibili.Config{Account: a, Log: t.cfg.Log, Transport: t.cfg.Transport})
		t.keeper = t.client.Keeper(t.cfg.Log, nil)
		t.governor = a.Governor(bilibili.Pace{Interval: t.cfg.Interval}, t.cfg.Log)
	}
	return t.client, t.governor, nil
}

// String names what Run keeps.
func (t *Target) String() string { return "the login of " + string(t.cfg.ID) }

// Run keeps the login alive until ctx ends. It is a supervise.Service, and only worth its while in a process that stays.
func (t *Target) Run(ctx context.Context) error {
	for {
		if _, _, err := t.Account(); err == nil {
			return t.keeper.Run(ctx)
		}
		if !backoff.Sleep(ctx, recheck) { // Check says what is wrong with the file
			return nil
		}
	}
}

// Refused says that somebody was told that the login is dead: perhaps it can be renewed. It never waits.
func (t *Target) Refused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keeper != nil {
		t.keeper.Refused()
	}
}

// Close gives idle connections back.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil {
		t.client.HTTP().CloseIdleConnections()
	}
	return nil
}

// Check asks whether the login is alive. One that was refused is not tried again before the cookie file has changed, or
// some minutes are over.
func (t *Target) Check(ctx context.Context) error {
	client, _, err := t.Account()
	if err != nil {
		return err
	}
	now := client.Account().Credentials()
	t.mu.Lock()
	refused := t.deadErr
	if t.dead != now || time.Since(t.deadAt) >= reask {
		refused = nil
	}
	t.mu.Unlock()
	if refused != nil {
		return refused
	}
	_, err = client.Check(ctx)
	return t.alive(client, now, err)
}

// alive remembers a login that was refused.
func (t *Target) alive(client *bilibili.Client, used *bilibili.Credentials, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if failure.KindOf(err) == failure.NeedsHuman {
		t.dead, t.deadErr, t.deadAt = used, err, time.Now()
		t.keeper.Refused()
	} else if err == nil {
		t.dead, t.deadErr = nil, nil
	}
	return err
}

// Keep is not needed here: the list of a session is a submission.
func (t *Target) Keep(context.Context, string, []byte) error {
	return &failure.Error{Op: "keep a file on " + string(t.cfg.ID), Kind: failure.Permanent, Code: "Bilibili takes videos only"}
}

// Recall is Keep's sister.
func (t *Target) Recall(_ context.Context, key string) ([]byte, error) {
	return nil, &failure.Error{Op: "recall " + key, Code: "Bilibili keeps videos only", Err: failure.ErrAbsent}
}

// Verify reads the length of the stored object back: it asks for the last byte. Without a receipt there is nobody to ask:
// only the token knows the object, and to complete it again is harmless (K7).
func (t *Target) Verify(ctx context.Context, o segment.Object, r segment.Receipt) (segment.Proof, error) {
	op := "verify " + o.Key
	if r.Detail == "" {
		return segment.Proof{}, &failure.Error{Op: op, Code: "nobody knows of a completed upload", Err: failure.ErrAbsent}
	}
	p, err := readPlace(r.Detail)
	if err != nil {
		return segment.Proof{}, &failure.Error{Op: op, Code: "the receipt is not one of ours", Err: failure.ErrAbsent}
	}
	if time.Since(p.At) > 5*24*time.Hour {
		return segment.Proof{}, &failure.Error{Op: op, Err: ErrOld}
	}
	client, _, err := t.Account()
	if err != nil {
		return segment.Proof{}, err
	}
	size, err := length(ctx, client.HTTP(), op, p, o.Size)
	if err != nil {
		return segment.Proof{}, err
	}
	if size != o.Size {
		return segment.Proof{}, &failure.Error{Op: op, Err: fmt.Errorf("%w: %d bytes are stored, %d were sent", failure.ErrDamaged, size, o.Size)}
	}
	return segment.Proof{Size: size, Sum: "upos:" + p.file(), How: "length read back from the upload node", At: time.Now()}, nil
}

// length asks a node how long an object is.
func length(ctx context.Context, c *http.Client, op string, p place, want int64) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url(p.Endpoint), nil)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	req.Header.Set("X-Upos-Auth", p.Auth)
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", max(want-1, 0)))
	resp, err := c.Do(req)
	if err != nil {
		return 0, weather(ctx, op, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusPartialContent:
		_, all, ok := strings.Cut(resp.Header.Get("Content-Range"), "/")
		var n int64
		if _, err := fmt.Sscanf(all, "%d", &n); !ok || err != nil {
			return 0, &failure.Error{Op: op, Code: "206 without a length"}
		}
		return n, nil
	case http.StatusRequestedRangeNotSatisfiable: // it is shorter than that
		_, all, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
		var n int64
		fmt.Sscanf(all, "%d", &n) // 0 is shorter as well
		return n, nil
	case http.StatusOK: // the node knows no ranges: the header counts, and the bytes where there is none
		if resp.ContentLength >= 0 {
			return resp.ContentLength, nil
		}
		n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, want+1))
		if err != nil {
			return 0, weather(ctx, op, err)
		}
		return n, nil
	case http.StatusNotFound:
		return 0, &failure.Error{Op: op, Code: "404", Err: failure.ErrAbsent}
	}
	e := refusal(op, resp)
	if strings.HasPrefix(resp.Header.Get("X-Upos-Auth"), "AUTH_TS_GT_5DAY") {
		e.Err = ErrOld
	}
	return 0, e
}

// weather is an exchange that came to nothing.
func weather(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	if inner := errors.Unwrap(err); inner != nil {
		err = inner // without the address, whose query is nobody's business
	}
	return &failure.Error{Op: op, Kind: failure.Transient, Err: err}
}

// refusal is an answer of a node that is no success. Only the status and the diagnostic word of the header are told: the
// rest of it repeats the auth.
func refusal(op string, resp *http.Response) *failure.Error {
	e := &failure.Error{Op: op, Kind: failure.Transient, Code: fmt.Sprintf("HTTP %d", resp.StatusCode)}
	if word, _, _ := strings.Cut(resp.Header.Get("X-Upos-Auth"), " "); resp.StatusCode == http.StatusForbidden && word != "" {
		e.Code += " " + word
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		e.Kind = failure.Throttled
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 2<<10)) // for its words only
	if strings.Contains(string(body), partCount) {
		e.Err = fmt.Errorf("%w: the node misses chunks", failure.ErrDamaged)
	}
	return e
}

// partCount begins the word of a node that has another number of chunks than it expects (U 3.4).
const partCount = "PART_COUNT_ERR"

// fileName is the name that preupload is told: with an extension, which the object gets. That of the file counts: a
// repaired copy may be of another kind than the part.
func fileName(o segment.Object) string {
	name := path.Base(o.Key)
	if ext := path.Ext(o.Local); ext != "" && ext != segment.PartSuffix {
		name = strings.TrimSuffix(name, path.Ext(name)) + ext
	}
	if path.Ext(name) == "" {
		name += ".flv"
	}
	return name
}
