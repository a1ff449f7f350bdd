package targettest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/wrap"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Remote is a store in memory. It keeps whole objects, checks what a real store checks, remembers everything that it
// accepted, and can be told to lie, hang and forget. It holds no lock while it waits, so it lives in a synctest bubble.
type Remote struct {
	limits uploader.Limits

	mu      sync.Mutex
	script  wrap.Script
	lag     time.Duration
	mute    bool
	linger  bool
	rot     func(key string, chunk int) bool
	objects map[string]object
	uploads map[string]*upload // by token
	files   map[string][]byte
	tokens  int
	puts    []Accepted
	commits []string
}

type object struct {
	data []byte
	at   time.Time
}

type upload struct {
	key    string
	done   bool // completed, and still there
	chunk  int64
	chunks map[int]kept
}

type kept struct {
	ack  segment.Ack
	data []byte
	at   time.Time
}

// Accepted is a chunk that the store took. Its answer may have been lost.
type Accepted struct {
	Key   string
	Token string
	Chunk segment.Chunk
	At    time.Time
}

// NewRemote makes an empty store with these abilities.
func NewRemote(l uploader.Limits) *Remote {
	return &Remote{
		limits:  l,
		objects: map[string]object{}, uploads: map[string]*upload{}, files: map[string][]byte{},
	}
}

// Target is a client of the store, as a process has one. A second Target is a second process: it knows nothing of what
// the first one did.
func (r *Remote) Target(id segment.TargetID) uploader.Target {
	return wrap.Fault(&client{r, id}, func(c wrap.Call) wrap.Fate {
		r.mu.Lock()
		s := r.script
		r.mu.Unlock()
		if s == nil {
			return wrap.Fate{}
		}
		return s(c)
	})
}

// Behave sets what becomes of each call from now on; nil: the weather is good.
func (r *Remote) Behave(s wrap.Script) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = s
}

// ListLate makes the store eventually consistent: chunks that are younger than d are not listed, objects that are
// younger are not found.
func (r *Remote) ListLate(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lag = d
}

// Mute makes the store one that cannot list the chunks of an upload.
func (r *Remote) Mute() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = true
}

// Linger makes the store one that keeps an upload after its completion and completes it again when it is asked to.
func (r *Remote) Linger() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.linger = true
}

// Rot makes the store keep one byte wrong in each chunk that f picks, and say that all is well.
func (r *Remote) Rot(f func(key string, chunk int) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rot = f
}

// Forget drops all uploads that are under way, as an expiry does.
func (r *Remote) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.uploads)
}

// ForgetChunk drops one chunk of the uploads of key.
func (r *Remote) ForgetChunk(key string, chunk int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.uploads {
		if u.key == key {
			delete(u.chunks, chunk)
		}
	}
}

// Damage changes one byte of an object.
func (r *Remote) Damage(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.objects[key]; ok {
		o.data = slices.Clone(o.data)
		o.data[len(o.data)/2] ^= 1
		r.objects[key] = o
	}
}

// Lose takes an object away behind everybody's back.
func (r *Remote) Lose(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.objects, key)
}

// Object is what lies under a final name.
func (r *Remote) Object(key string) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.objects[key]
	return o.data, ok
}

// Keys lists the final names.
func (r *Remote) Keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var keys []string
	for k := range r.objects {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Pending is the number of uploads that are under way.
func (r *Remote) Pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, u := range r.uploads {
		if !u.done {
			n++
		}
	}
	return n
}

// Accepted is every chunk that was ever taken, in order.
func (r *Remote) Accepted() []Accepted {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.puts)
}

// Commits are the keys of all completions that were ever carried out, in order.
func (r *Remote) Commits() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.commits)
}

// client is one process's view of a Remote.
type client struct {
	r  *Remote
	id segment.TargetID
}

var _ uploader.Target = (*client)(nil)

func (c *client) ID() segment.TargetID            { return c.id }
func (c *client) Limits() uploader.Limits         { return c.r.limits }
func (c *client) Check(ctx context.Context) error { return alive(ctx, "check "+string(c.id)) }

// alive is the error of a call whose context is over.
func alive(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return refuse(op, failure.Transient, "", err)
	}
	return nil
}

func refuse(op string, kind failure.Kind, code string, err error) error {
	return &failure.Error{Op: op, Kind: kind, Code: code, Err: err}
}

func (c *client) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	if err := alive(ctx, "open "+o.Key); err != nil {
		return nil, err
	}
	if o.Size == 0 {
		return nil, refuse("open "+o.Key, failure.Permanent, "400", errors.New("an object has at least one byte"))
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for token, u := range c.r.uploads {
		if u.key == o.Key {
			delete(c.r.uploads, token) // left behind by an Open whose answer was lost
		}
	}
	c.r.tokens++
	token := fmt.Sprintf("upload-%d", c.r.tokens)
	c.r.uploads[token] = &upload{key: o.Key, chunk: o.Chunk, chunks: map[int]kept{}}
	return &sending{c.r, o.Key, token}, nil
}

func (c *client) Resume(ctx context.Context, o segment.Object, token string) (uploader.Upload, []segment.Ack, error) {
	if err := alive(ctx, "resume "+o.Key); err != nil {
		return nil, nil, err
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	u, ok := c.r.uploads[token]
	if !ok {
		return nil, nil, refuse("resume "+o.Key, failure.Transient, "404 NoSuchUpload", failure.ErrAbsent)
	}
	up := &sending{c.r, o.Key, token}
	if c.r.mute || c.r.limits.MinChunk == 0 {
		return up, nil, nil
	}
	acks := []segment.Ack{}
	for _, k := range u.chunks {
		if time.Since(k.at) >= c.r.lag {
			acks = append(acks, k.ack)
		}
	}
	slices.SortFunc(acks, func(a, b segment.Ack) int { return a.Index - b.Index })
	return up, acks, nil
}

func (c *client) Verify(ctx context.Context, o segment.Object, _ segment.Receipt) (segment.Proof, error) {
	if err := alive(ctx, "verify "+o.Key); err != nil {
		return segment.Proof{}, err
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	got, ok := c.r.objects[o.Key]
	if !ok || time.Since(got.at) < c.r.lag {
		return segment.Proof{}, refuse("verify "+o.Key, failure.Transient, "404", failure.ErrAbsent)
	}
	sum := segment.Sum(sha256.Sum256(got.data))
	if int64(len(got.data)) != o.Size || sum != o.SHA256 {
		return segment.Proof{}, refuse("verify "+o.Key, failure.Transient, "", failure.ErrDamaged)
	}
	return segment.Proof{Size: o.Size, Sum: sum.String(), How: "size and SHA-256 in memory", At: time.Now()}, nil
}

func (c *client) Keep(ctx context.Context, key string, data []byte) error {
	if err := alive(ctx, "keep "+key); err != nil {
		return err
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.files[key] = bytes.Clone(data)
	return nil
}

func (c *client) Recall(ctx context.Context, key string) ([]byte, error) {
	if err := alive(ctx, "recall "+key); err != nil {
		return nil, err
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	data, ok := c.r.files[key]
	if !ok {
		return nil, refuse("recall "+key, failure.Transient, "404", failure.ErrAbsent)
	}
	return bytes.Clone(data), nil
}

// sending is an upload as a client holds it.
type sending struct {
	r     *Remote
	key   string
	token string
}

func (s *sending) Token() string { return s.token }

func (s *sending) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	op := fmt.Sprintf("put chunk %d of %s", c.Index, s.key)
	data, err := io.ReadAll(body)
	if err != nil {
		return segment.Ack{}, refuse(op, failure.Transient, "", err)
	}
	if err := alive(ctx, op); err != nil {
		return segment.Ack{}, err
	}
	l := s.r.limits
	if int64(len(data)) != c.Length {
		return segment.Ack{}, refuse(op, failure.Transient, "400 IncompleteBody", fmt.Errorf("%d bytes of %d", len(data), c.Length))
	}
	if l.MaxChunk > 0 && c.Length > l.MaxChunk || l.MaxChunks > 0 && c.Index >= l.MaxChunks {
		return segment.Ack{}, refuse(op, failure.Permanent, "400 EntityTooLarge", nil)
	}
	sum := crc32.Checksum(data, castagnoli)
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	u, ok := s.r.uploads[s.token]
	if !ok {
		return segment.Ack{}, refuse(op, failure.Transient, "404 NoSuchUpload", failure.ErrAbsent)
	}
	a := segment.Ack{Chunk: c, Tag: fmt.Sprintf("%s/%d/%08x", s.token, c.Index, sum), Sum: sum}
	if s.r.rot != nil && s.r.rot(s.key, c.Index) {
		data[len(data)/2] ^= 0x40
	}
	u.chunks[c.Index] = kept{a, data, time.Now()}
	s.r.puts = append(s.r.puts, Accepted{s.key, s.token, c, time.Now()})
	return a, nil
}

func (s *sending) Commit(ctx context.Context, o segment.Object, acks []segment.Ack) (segment.Receipt, error) {
	if err := alive(ctx, "commit "+s.key); err != nil {
		return segment.Receipt{}, err
	}
	op := "commit " + s.key
	var data []byte
	if s.r.limits.MinChunk == 0 {
		var err error
		if data, err = os.ReadFile(o.Local); err != nil {
			return segment.Receipt{}, refuse(op, failure.Transient, "", err)
		}
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	u, ok := s.r.uploads[s.token]
	if !ok {
		return segment.Receipt{}, refuse(op, failure.Transient, "404 NoSuchUpload", failure.ErrAbsent)
	}
	for i, a := range acks {
		k, ok := u.chunks[a.Index]
		if !ok || k.ack.Tag != a.Tag || a.Index != i {
			return segment.Receipt{}, refuse(op, failure.Permanent, "400 InvalidPart", fmt.Errorf("chunk %d is not what was put", a.Index))
		}
		if i < len(acks)-1 && a.Length < s.r.limits.MinChunk {
			return segment.Receipt{}, refuse(op, failure.Permanent, "400 EntityTooSmall", nil)
		}
		data = append(data, k.data...)
	}
	if int64(len(data)) != o.Size {
		return segment.Receipt{}, refuse(op, failure.Permanent, "400 InvalidPart", fmt.Errorf("the chunks are %d bytes, the object %d", len(data), o.Size))
	}
	if u.done = true; !s.r.linger {
		delete(s.r.uploads, s.token)
	}
	s.r.objects[s.key] = object{data, time.Now()}
	s.r.commits = append(s.r.commits, s.key)
	return segment.Receipt{Key: s.key, Size: o.Size, Tag: s.token}, nil
}

func (s *sending) Abort(ctx context.Context) error {
	if err := alive(ctx, "abort "+s.key); err != nil {
		return err
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	delete(s.r.uploads, s.token)
	return nil
}
