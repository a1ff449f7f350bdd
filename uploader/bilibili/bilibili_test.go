package bilibili

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
)

const testChunk = 4 << 10

// stand is a stand-in with one account.
type stand struct {
	server  *bilitest.Server
	studio  *bilitest.Studio
	user    *bilitest.User
	cookies string
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{server: bilitest.Unplugged()}
	s.studio = bilitest.NewStudio(s.server)
	s.studio.Turn(func(k *bilitest.Knobs) { k.Chunk = testChunk })
	s.user = s.server.AddUser("alice")
	s.cookies = filepath.Join(t.TempDir(), "cookies.json")
	s.login(t)
	return s
}

func (s *stand) login(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(s.cookies, s.server.CookieFile(s.user), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *stand) target(t *testing.T, change ...func(*Config)) *Target {
	t.Helper()
	cfg := Config{ID: "bilibili:test", Cookies: s.cookies, Interval: time.Nanosecond, Log: zerolog.Nop(), Transport: s.server.Virtual(), chunk: testChunk}
	for _, c := range change {
		c(&cfg)
	}
	target, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// kept stands for the ledger in the conformance suite: it keeps tokens and receipts, and small files, which no
// submission service has. What the lane would do without a receipt, complete again, is done here.
type kept struct {
	*Target
	book *book
}

type book struct {
	mu       sync.Mutex
	receipts map[string]segment.Receipt
	files    map[string][]byte
	aborted  map[string]bool
}

func (k kept) Keep(ctx context.Context, key string, data []byte) error {
	if k.cfg.Transport == http.RoundTripper(dead{}) {
		return weather(ctx, "keep", errDead)
	}
	k.book.mu.Lock()
	defer k.book.mu.Unlock()
	k.book.files[key] = bytes.Clone(data)
	return nil
}

func (k kept) Recall(ctx context.Context, key string) ([]byte, error) {
	if k.cfg.Transport == http.RoundTripper(dead{}) {
		return nil, weather(ctx, "recall", errDead)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.book.mu.Lock()
	defer k.book.mu.Unlock()
	if b, ok := k.book.files[key]; ok {
		return b, nil
	}
	return nil, failure.ErrAbsent
}

func (k kept) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	up, err := k.Target.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return keptUpload{up, k, o}, nil
}

func (k kept) Resume(ctx context.Context, o segment.Object, token string) (uploader.Upload, []segment.Ack, error) {
	if k.cfg.Transport == http.RoundTripper(dead{}) { // Resume asks nobody
		return nil, nil, weather(ctx, "resume", errDead)
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	k.book.mu.Lock()
	aborted := k.book.aborted[token]
	k.book.mu.Unlock()
	if aborted {
		return nil, nil, failure.ErrAbsent
	}
	up, acks, err := k.Target.Resume(ctx, o, token)
	if err != nil {
		return nil, nil, err
	}
	return keptUpload{up, k, o}, acks, nil
}

func (k kept) Verify(ctx context.Context, o segment.Object, r segment.Receipt) (segment.Proof, error) {
	if k.cfg.Transport == http.RoundTripper(dead{}) {
		r.Detail = `{"endpoint":"//upos-cs-upcdnbda2.bilivideo.com","uri":"upos://a/bc.flv","auth":"x","at":"` + time.Now().Format(time.RFC3339) + `"}`
	}
	k.book.mu.Lock()
	if r == (segment.Receipt{}) {
		r = k.book.receipts[o.Key]
	}
	k.book.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return segment.Proof{}, err
	}
	return k.Target.Verify(ctx, o, r)
}

type keptUpload struct {
	uploader.Upload
	k kept
	o segment.Object
}

func (u keptUpload) Commit(ctx context.Context, o segment.Object, acks []segment.Ack) (segment.Receipt, error) {
	r, err := u.Upload.Commit(ctx, o, acks)
	if err == nil {
		u.k.book.mu.Lock()
		defer u.k.book.mu.Unlock()
		u.k.book.receipts[o.Key] = r
	}
	return r, err
}

func (u keptUpload) Abort(ctx context.Context) error {
	u.k.book.mu.Lock()
	u.k.book.aborted[u.Token()] = true
	u.k.book.mu.Unlock()
	return u.Upload.Abort(ctx)
}

type dead struct{}

var errDead = errors.New("connection refused")

func (dead) RoundTrip(*http.Request) (*http.Response, error) { return nil, errDead }

func TestConformance(t *testing.T) {
	for name, knobs := range map[string]func(*bilitest.Knobs){
		"strict":                                func(*bilitest.Knobs) {},
		"another node, no ranges, fresh 403":    func(k *bilitest.Knobs) { k.OtherNode, k.NoRange, k.Fresh = true, true, 1 },
		"forgets what was completed, sloppy":    func(k *bilitest.Knobs) { k.Forgets, k.Sloppy = true, true },
		"refuses fewer chunks than declared":    func(k *bilitest.Knobs) { k.Whole = true },
		"takes them also while a segment grows": func(*bilitest.Knobs) {},
	} {
		t.Run(name, func(t *testing.T) {
			targettest.Run(t, func(t *testing.T) targettest.Env {
				s := newStand(t)
				s.studio.Turn(knobs)
				b := &book{receipts: map[string]segment.Receipt{}, files: map[string][]byte{}, aborted: map[string]bool{}}
				growing := strings.Contains(name, "grows")
				return targettest.Env{
					New: func(t *testing.T) uploader.Target {
						return kept{s.target(t, func(c *Config) { c.Streaming = growing }), b}
					},
					Read: func(_ *testing.T, key string) ([]byte, error) {
						b.mu.Lock()
						r, ok := b.receipts[key]
						b.mu.Unlock()
						for _, o := range s.studio.Objects() {
							if ok && o.File == r.Tag && o.Data != nil {
								return o.Data, nil
							}
						}
						return nil, fmt.Errorf("read %s: %w", key, fs.ErrNotExist)
					},
					Unreachable: func(t *testing.T) uploader.Target {
						return kept{s.target(t, func(c *Config) { c.Transport = dead{} }), b}
					},
				}
			})
		})
	}
}

// part is a segment of n bytes as an object.
func part(key string, n int64) (segment.Object, []byte) {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 31)
	}
	return segment.Object{ID: segment.ID{Session: "01J", Seq: 1}, Key: key, Size: n, MaxSize: n, SHA256: sha256.Sum256(data), Chunk: testChunk}, data
}

func send(t *testing.T, up uploader.Upload, o segment.Object, data []byte) []segment.Ack {
	t.Helper()
	var acks []segment.Ack
	for off := int64(0); off < o.Size; off += o.Chunk {
		c := segment.Chunk{Index: len(acks), Offset: off, Length: min(o.Chunk, o.Size-off)}
		var a segment.Ack
		var err error
		for range 50 {
			if a, err = up.Put(t.Context(), c, io.NewSectionReader(bytes.NewReader(data), c.Offset, c.Length)); err == nil {
				break
			}
			time.Sleep(time.Second)
		}
		if err != nil {
			t.Fatal(err)
		}
		acks = append(acks, a)
	}
	return acks
}

const uposNode = "upos-cs-upcdn*"

// 30 % of the chunks fail: only those are sent again (a figure of the requirement), and one preupload is enough.
func TestOnlyFailedChunksAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		target := s.target(t)
		o, data := part("a/P0001.flv", 100*testChunk-5)
		up, err := target.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		s.studio.Turn(func(*bilitest.Knobs) {})
		for i := range 43 { // of 143 PUTs
			f := bilitest.Fault{Skip: i * 2}
			switch i % 3 {
			case 0:
				f.Status = http.StatusBadGateway
			case 1:
				f.Cut = true
			default:
				f.Status, f.Body = http.StatusInternalServerError, "{}"
			}
			s.server.Fault("PUT "+uposNode, f)
		}
		acks := send(t, up, o, data)
		r, err := up.Commit(t.Context(), o, acks)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := target.Verify(t.Context(), o, r); err != nil {
			t.Fatal(err)
		}
		obj := s.studio.Objects()
		if len(obj) != 1 || !bytes.Equal(obj[0].Data, data) {
			t.Fatalf("%d objects, or other bytes", len(obj))
		}
		for n, times := range obj[0].Puts {
			if times != 1 {
				t.Errorf("chunk %d was stored %d times", n, times)
			}
		}
		if puts := len(s.server.Requests("PUT " + uposNode)); puts != 143 {
			t.Errorf("%d PUTs for 100 chunks with 43 failures", puts)
		}
		if n := len(preuploads(s)); n != 1 {
			t.Errorf("%d preuploads", n)
		}
	})
}

func preuploads(s *stand) []bilitest.Request {
	all := s.server.Requests("GET member.bilibili.com/preupload")
	return slices.DeleteFunc(all, func(r bilitest.Request) bool { return r.Query.Get("r") == "probe" })
}

// Another process goes on at the missing chunk, without a second preupload, until the auth is five days old.
func TestGoesOnInAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		o, data := part("a/P0001.flv", 3*testChunk+1)
		up, err := s.target(t).Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		first := o
		first.Size = 2 * testChunk
		acks := send(t, up, first, data)
		token := up.Token()

		time.Sleep(4 * 24 * time.Hour)
		second, listed, err := s.target(t).Resume(t.Context(), o, token)
		if err != nil || listed != nil {
			t.Fatal(err, listed)
		}
		for i := 2; i < 4; i++ {
			c := segment.Chunk{Index: i, Offset: int64(i) * testChunk, Length: min(testChunk, o.Size-int64(i)*testChunk)}
			a, err := second.Put(t.Context(), c, io.NewSectionReader(bytes.NewReader(data), c.Offset, c.Length))
			if err != nil {
				t.Fatal(err)
			}
			acks = append(acks, a)
		}
		if _, err := second.Commit(t.Context(), o, acks); err != nil {
			t.Fatal(err)
		}
		if n := len(preuploads(s)); n != 1 {
			t.Errorf("%d preuploads", n)
		}
		if _, _, err := s.target(t).Resume(t.Context(), segment.Object{Key: o.Key, Size: o.Size, Chunk: 2 * testChunk}, token); !errors.Is(err, failure.ErrAbsent) {
			t.Errorf("an upload in other chunks goes on: %v", err)
		}
		time.Sleep(24 * time.Hour)
		if _, _, err := s.target(t).Resume(t.Context(), o, token); !errors.Is(err, failure.ErrAbsent) {
			t.Errorf("an auth of five days: %v", err)
		}
	})
}

// A node says that an auth is too old, or does not know the upload: that is absent, and nothing else is.
func TestRefusalsOfNodes(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  bilitest.Fault
		calls  int
		absent bool
	}{
		{"expired", bilitest.Fault{Status: 403, Header: http.Header{"X-Upos-Auth": {"AUTH_TS_GT_5DAY AUTH=secret Now=1 DURATION=2"}}}, 1, true},
		{"unknown upload", bilitest.Fault{Status: 404}, 1, true},
		{"403 once", bilitest.Fault{Status: 403}, 1, false},
		{"403 twice", bilitest.Fault{Status: 403, Times: 2}, 2, true},
		{"500", bilitest.Fault{Status: 500, Times: 3}, 3, false},
		{"lost", bilitest.Fault{Cut: true}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStand(t)
				target := s.target(t)
				o, data := part("a/P0001.flv", testChunk)
				up, err := target.Open(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				s.server.Fault("PUT "+uposNode, c.fault)
				for range c.calls {
					_, err = up.Put(t.Context(), segment.Chunk{Length: testChunk}, bytes.NewReader(data))
				}
				if err == nil || errors.Is(err, failure.ErrAbsent) != c.absent || failure.KindOf(err) != failure.Transient {
					t.Fatalf("%v, %v", err, failure.KindOf(err))
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("I10: %v", err)
				}
				_, _, err = target.Resume(t.Context(), o, up.Token())
				if errors.Is(err, failure.ErrAbsent) != c.absent {
					t.Errorf("going on: %v", err)
				}
			})
		})
	}
}

// A server that wants other chunks is obeyed, and the preupload that told so is used.
func TestOtherChunks(t *testing.T) {
	s := newStand(t)
	s.studio.Turn(func(k *bilitest.Knobs) { k.Chunk = 3000 })
	target := s.target(t)
	o, data := part("a/P0001.flv", 10_000)
	_, err := target.Open(t.Context(), o)
	other, ok := errors.AsType[*uploader.OtherChunks](err)
	if !ok || other.Size != 3000 || failure.KindOf(err) != failure.Permanent {
		t.Fatal(err)
	}
	o.Chunk = other.Size
	up, err := target.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.Commit(t.Context(), o, send(t, up, o, data)); err != nil {
		t.Fatal(err)
	}
	if n := len(preuploads(s)); n != 1 {
		t.Errorf("%d preuploads", n)
	}
}

// Dead lines cost seconds, not minutes, and the line that answers is asked for.
func TestLinesHaveDeadlines(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault map[string]bilitest.Fault
		want  string
	}{
		{"one hangs, one fails", map[string]bilitest.Fault{
			"POST upos-cs-upcdnbda2.bilivideo.com/OK": {Hang: true}, "POST upos-cs-upcdntx.bilivideo.com/OK": {Status: 500},
		}, "bldsa"},
		{"all fail", map[string]bilitest.Fault{"POST upos-cs-*": {Status: 500, Times: -1}}, ""},
		{"the list hangs", map[string]bilitest.Fault{"GET member.bilibili.com/preupload": {Hang: true}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStand(t)
				for fits, f := range c.fault {
					s.server.Fault(fits, f)
				}
				target := s.target(t)
				client, _, err := target.Account()
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if got := target.line(t.Context(), client).Get("upcdn"); got != c.want {
					t.Errorf("line %q", got)
				}
				if took := time.Since(began); took > probeAll {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestThrottledPreupload(t *testing.T) {
	for style := range 3 {
		t.Run(fmt.Sprint(style), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStand(t)
				s.studio.Turn(func(k *bilitest.Knobs) { k.Uploads, k.Style = 1, style })
				target := s.target(t)
				o, _ := part("a/P0001.flv", 10)
				if _, err := target.Open(t.Context(), o); err != nil {
					t.Fatal(err)
				}
				o.Key = "a/P0002.flv"
				_, err := target.Open(t.Context(), o)
				if failure.KindOf(err) != failure.Throttled || failure.RetryAfter(err) < time.Minute {
					t.Fatalf("%v: %v, %v", err, failure.KindOf(err), failure.RetryAfter(err))
				}
				before := len(preuploads(s))
				if _, err = target.Open(t.Context(), o); failure.KindOf(err) != failure.Throttled {
					t.Fatal(err)
				}
				if n := len(preuploads(s)); n != before {
					t.Error("asked while it was held")
				}
			})
		})
	}
}

// A dead login is a refusal with its cure; it is looked at again when the file has changed, and not before.
func TestDeadLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		target := s.target(t)
		if err := target.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.server.Expire(s.user)
		for range 5 {
			err := target.Check(t.Context())
			if failure.KindOf(err) != failure.NeedsHuman || !strings.Contains(failure.Hint(err), "liverec login bilibili") {
				t.Fatalf("%v: %v", err, failure.Hint(err))
			}
		}
		if n := len(s.server.Requests("GET api.bilibili.com/*")); n > 4 {
			t.Errorf("asked %d times with a login that was known to be dead", n)
		}
		s.user = s.server.AddUser("alice again")
		time.Sleep(time.Second)
		s.login(t)
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(s.cookies, later, later); err != nil {
			t.Fatal(err)
		}
		if err := target.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := New(Config{Cookies: "/nowhere/cookies.json"}); err != nil {
		t.Errorf("a file that is not there is Check's affair: %v", err)
	}
}

// What a segment grows to is declared, and what was sent is completed; a node that refuses that leads to a whole upload.
func TestStreaming(t *testing.T) {
	s := newStand(t)
	target := s.target(t, func(c *Config) { c.Streaming = true })
	o, data := part("a/P0001.flv", 3*testChunk+7)
	growing := o
	growing.Size, growing.MaxSize = -1, 50*testChunk
	up, err := target.Open(t.Context(), growing)
	if err != nil {
		t.Fatal(err)
	}
	acks := send(t, up, o, data)
	s.studio.Turn(func(k *bilitest.Knobs) { k.Whole = true })
	if _, err := up.Commit(t.Context(), o, acks); !errors.Is(err, failure.ErrDamaged) {
		t.Fatalf("a refused completion: %v", err)
	}
	s.studio.Turn(func(k *bilitest.Knobs) { k.Whole = false })
	r, err := up.Commit(t.Context(), o, acks)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := target.Verify(t.Context(), o, r); err != nil {
		t.Fatal(err)
	}
	if got := s.studio.Objects()[0]; !bytes.Equal(got.Data, data) {
		t.Error("other bytes")
	}
}

// Every secret of the account and of the upload stays out of errors.
func TestI10_NoSecretInErrors(t *testing.T) {
	s := newStand(t)
	target := s.target(t)
	o, data := part("a/P0001.flv", testChunk)
	up, err := target.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	auth := up.(*upload).Auth
	var errs []error
	for _, f := range []bilitest.Fault{{Status: 403}, {Status: 500}, {Cut: true}, {Status: 403, Header: http.Header{"X-Upos-Auth": {"AUTH_TS_GT_5DAY AUTH=" + auth}}}} {
		s.server.Fault("PUT "+uposNode, f)
		_, err := up.Put(t.Context(), segment.Chunk{Length: testChunk}, bytes.NewReader(data))
		errs = append(errs, err)
	}
	all := errors.Join(errs...).Error()
	for _, secret := range []string{auth, "sign=", "uploadId"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q stands in %s", secret, all)
		}
	}
}
