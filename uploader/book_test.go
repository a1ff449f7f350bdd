package uploader_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
	"github.com/liverec/liverec/uploader/wrap"
)

// power is the mains: it can fail at any step that the journal or a target takes, before the step or after it.
type power struct {
	mu    sync.Mutex
	n, at int
	last  string
	dead  bool
	off   chan struct{}
}

var errPower = errors.New("the power is off")

func newPower(at int) *power { return &power{at: at, off: make(chan struct{})} }

func (p *power) step(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errPower
	}
	p.n++
	if p.n == p.at {
		p.dead, p.last = true, what
		close(p.off)
		return errPower
	}
	return nil
}

func (p *power) script(c wrap.Call) wrap.Fate {
	what := fmt.Sprintf("%s %d", c.Op, c.Chunk)
	if err := p.step("before " + what); err != nil {
		return wrap.Fate{Err: err}
	}
	if err := p.step("after " + what); err != nil {
		return wrap.Fate{Err: err, Lost: true}
	}
	return wrap.Fate{}
}

type pair struct {
	t  segment.TargetID
	id segment.ID
}

// book is a ledger in memory that refuses what a ledger refuses.
type book struct {
	mu      sync.Mutex
	power   *power
	segs    map[segment.ID]segment.Segment
	rows    map[pair]*segment.Delivery
	ill     []string // illegal acts
	history []string
	acked   func(d segment.Delivery, a segment.Ack) // under the lock
	fail    error                                   // every record is answered with it
	dues    int
}

func newBook() *book {
	return &book{power: newPower(0), segs: map[segment.ID]segment.Segment{}, rows: map[pair]*segment.Delivery{}}
}

// add takes a segment in, with a delivery for each target.
func (b *book) add(s segment.Segment, targets ...segment.TargetID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.segs[s.ID] = s
	for _, t := range targets {
		if _, ok := b.rows[pair{t, s.ID}]; !ok {
			b.rows[pair{t, s.ID}] = &segment.Delivery{
				Target: t, Required: true, State: segment.Due, Key: fmt.Sprintf("%s/%s.flv", s.ID.Session, s.ID.Base()), Segment: segment.Segment{ID: s.ID},
			}
		}
	}
}

func (b *book) row(t segment.TargetID, id segment.ID) segment.Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := *b.rows[pair{t, id}]
	d.Segment = b.segs[id]
	return d
}

func (b *book) count(state segment.DeliveryState) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.rows {
		if d.State == state {
			n++
		}
	}
	return n
}

func (b *book) total() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.rows)
}

func (b *book) Due(ctx context.Context, t segment.TargetID) ([]segment.Delivery, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dues++
	if b.power.dead {
		return nil, errPower
	}
	if b.fail != nil {
		return nil, b.fail
	}
	var list []segment.Delivery
	for k, d := range b.rows {
		if k.t == t && !d.Listable() {
			c := *d
			c.Acks = slices.Clone(d.Acks)
			c.Segment = b.segs[k.id]
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(x, y segment.Delivery) int {
		if x.Segment.ID.Session != y.Segment.ID.Session {
			if x.Segment.ID.Session < y.Segment.ID.Session {
				return -1
			}
			return 1
		}
		return int(x.Segment.ID.Seq) - int(y.Segment.ID.Seq)
	})
	return list, nil
}

// do makes one record: the power may fail before it, or after it.
func (b *book) do(t segment.TargetID, id segment.ID, what string, from []segment.DeliveryState, act func(d *segment.Delivery) error) error {
	if err := b.power.step("before " + what); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	d, ok := b.rows[pair{t, id}]
	if !ok {
		return fmt.Errorf("%s of %s: no such delivery", what, id)
	}
	if !slices.Contains(from, d.State) {
		text := fmt.Sprintf("%s of %s when it is %s", what, id, d.State)
		b.ill = append(b.ill, text)
		return errors.New(text)
	}
	before := d.State
	if err := act(d); err != nil {
		b.ill = append(b.ill, err.Error())
		return err
	}
	if !before.CanBecome(d.State) {
		panic(fmt.Sprintf("%s: %s became %s", what, before, d.State))
	}
	b.history = append(b.history, fmt.Sprintf("%s %s %s", t, id.Base(), what))
	return b.power.step("after " + what)
}

type states = []segment.DeliveryState

func (b *book) Opening(ctx context.Context, t segment.TargetID, id segment.ID, chunk int64) error {
	return b.do(t, id, "opening", states{segment.Due, segment.Opening}, func(d *segment.Delivery) error {
		d.State, d.Chunk, d.Token, d.Acks = segment.Opening, chunk, "", nil
		return nil
	})
}

func (b *book) Opened(ctx context.Context, t segment.TargetID, id segment.ID, token string) error {
	return b.do(t, id, "opened", states{segment.Opening, segment.Uploading, segment.Committing}, func(d *segment.Delivery) error {
		if d.State != segment.Opening && token != d.Token {
			return fmt.Errorf("opened %q while %q is under way", token, d.Token)
		}
		d.State, d.Token = segment.Uploading, token
		return nil
	})
}

func (b *book) Acked(ctx context.Context, t segment.TargetID, id segment.ID, a segment.Ack) error {
	return b.do(t, id, "acked", states{segment.Uploading}, func(d *segment.Delivery) error {
		s := b.segs[id]
		if d.Instead.Path != "" {
			s.Size = d.Instead.Size
		}
		if s.Sealed && a.Offset+a.Length > s.Size || a.Offset != int64(a.Index)*d.Chunk || a.Offset < s.Head && !s.Sealed {
			return fmt.Errorf("ack of %+v in %d bytes", a.Chunk, s.Size)
		}
		d.Acks = slices.DeleteFunc(d.Acks, func(o segment.Ack) bool { return o.Index == a.Index })
		d.Acks = append(d.Acks, a)
		slices.SortFunc(d.Acks, func(x, y segment.Ack) int { return x.Index - y.Index })
		if b.acked != nil {
			b.acked(*d, a)
		}
		return nil
	})
}

func (b *book) Committing(ctx context.Context, t segment.TargetID, id segment.ID) error {
	return b.do(t, id, "committing", states{segment.Uploading, segment.Committing}, func(d *segment.Delivery) error {
		if s := b.segs[id]; !s.Sealed {
			return fmt.Errorf("committing of the open segment %s", id)
		}
		d.State = segment.Committing
		return nil
	})
}

func (b *book) Committed(ctx context.Context, t segment.TargetID, id segment.ID, r segment.Receipt) error {
	return b.do(t, id, "committed", states{segment.Committing}, func(d *segment.Delivery) error {
		d.State, d.Receipt = segment.Committed, r
		return nil
	})
}

func (b *book) Verified(ctx context.Context, t segment.TargetID, id segment.ID, p segment.Proof) error {
	return b.do(t, id, "verified", states{segment.Committed}, func(d *segment.Delivery) error {
		if p.Size != b.segs[id].Size {
			return fmt.Errorf("verified of %s with %d bytes", id, p.Size)
		}
		d.State, d.Proof = segment.Verified, p
		return nil
	})
}

func (b *book) Listing(ctx context.Context, t segment.TargetID, id segment.ID) error {
	return b.do(t, id, "listing", states{segment.Committed}, func(d *segment.Delivery) error {
		d.Stored, d.Token, d.Acks = time.Now(), "", nil
		return nil
	})
}

func (b *book) Again(ctx context.Context, t segment.TargetID, id segment.ID, why string) error {
	from := states{segment.Opening, segment.Uploading, segment.Committing, segment.Committed}
	return b.do(t, id, "again", from, func(d *segment.Delivery) error {
		d.State, d.Chunk, d.Token, d.Acks, d.Receipt, d.Why = segment.Due, 0, "", nil, segment.Receipt{}, why
		return nil
	})
}

func (b *book) Parked(ctx context.Context, t segment.TargetID, id segment.ID, why string) error {
	from := states{segment.Due, segment.Opening, segment.Uploading, segment.Committing, segment.Committed}
	return b.do(t, id, "parked", from, func(d *segment.Delivery) error {
		d.Before, d.State, d.Why = d.State, segment.Parked, why
		return nil
	})
}

func (b *book) Unparked(ctx context.Context, t segment.TargetID, id segment.ID) error {
	return b.do(t, id, "unparked", states{segment.Parked}, func(d *segment.Delivery) error {
		d.State = d.Before
		return nil
	})
}

// times is how often a record of this kind was made.
func (b *book) times(what string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.history {
		if len(h) > len(what) && h[len(h)-len(what)-1:] == " "+what {
			n++
		}
	}
	return n
}

// house is a data folder with segments, a ledger, and stores.
type house struct {
	t    testing.TB
	dir  *durable.Dir
	book *book
	data map[segment.ID][]byte
}

// disk is a data folder whose files outlive many houses.
type disk struct {
	dir  *durable.Dir
	data map[segment.ID][]byte
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	dir, err := durable.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return &disk{dir, map[segment.ID][]byte{}}
}

func (d *disk) house(t testing.TB) *house {
	return &house{t: t, dir: d.dir, book: newBook(), data: d.data}
}

// segment makes a file of n bytes on the disk if it is not there, and the sealed segment that it is.
func (d *disk) segment(t testing.TB, session string, seq uint32, n int) segment.Segment {
	t.Helper()
	s := segment.Segment{
		ID: segment.ID{Session: segment.SessionID(session), Seq: seq}, Size: int64(n), Sealed: true, Cut: segment.CutTime, Head: 10,
	}
	s.Path = fmt.Sprintf("media/%s/%s.flv", session, s.ID.Base())
	if _, ok := d.data[s.ID]; !ok {
		data := make([]byte, n)
		seed := [32]byte{byte(seq), byte(n), byte(n >> 8)}
		copy(seed[3:], session)
		rand.NewChaCha8(seed).Read(data)
		if err := os.MkdirAll(filepath.Dir(d.dir.Abs(s.Path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.dir.Abs(s.Path), data, 0o644); err != nil {
			t.Fatal(err)
		}
		d.data[s.ID] = data
	}
	s.SHA256 = sha256.Sum256(d.data[s.ID])
	return s
}

// opened is s as it was when n bytes of it were durable.
func opened(s segment.Segment, n int64) segment.Segment {
	s.Sealed, s.Size, s.SHA256, s.Cut = false, n, segment.Sum{}, segment.CutNone
	return s
}

// run is a Transport at work.
type run struct {
	*uploader.Transport
	in     chan segment.Progress
	out    chan segment.Outcome
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	outcomes []segment.Outcome
	err      error
}

// start runs a new Transport, as a new process would. It ends with in, or with cancel.
func (h *house) start(cfg uploader.Config, targets ...uploader.Target) *run {
	h.t.Helper()
	deps := uploader.Deps{Journal: h.book, Dir: h.dir, Log: zerolog.Nop()}
	for _, t := range targets {
		deps.Targets = append(deps.Targets, uploader.Destination{Target: t, Required: true})
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = 100_000
	}
	tr, err := uploader.New(cfg, deps)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{Transport: tr, in: make(chan segment.Progress, 64), out: make(chan segment.Outcome, 64), cancel: cancel, done: make(chan struct{})}
	h.t.Cleanup(func() { // of a test that failed in between
		cancel()
		<-r.done
	})
	go func() {
		defer close(r.done)
		r.err = tr.Run(ctx, r.in, r.out)
		close(r.out)
	}()
	go func() {
		for o := range r.out {
			r.mu.Lock()
			r.outcomes = append(r.outcomes, o)
			r.mu.Unlock()
		}
	}()
	return r
}

// settle waits until every delivery is proven or parked, for an hour at the most.
func (h *house) settle() {
	for range 36_000 {
		if h.book.count(segment.Verified)+h.book.count(segment.Parked) == h.book.total() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// bad are the outcomes with an error.
func (r *run) bad() (list []segment.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.outcomes {
		if o.Err != nil {
			list = append(list, o)
		}
	}
	return list
}

// drain is the soft stop.
func (r *run) drain() {
	close(r.in)
	<-r.done
	r.cancel()
}

// kill is the hard stop.
func (r *run) kill() {
	r.cancel()
	<-r.done
}

// once checks that no chunk was sent again after its ack was in the ledger, unless the upload is another one.
type once struct {
	remote *targettest.Remote
	mu     sync.Mutex
	seen   []ackAt
}

type ackAt struct {
	key, token string
	index      int
	after      int // how many chunks the store had accepted by then
}

func (o *once) watch(b *book) { b.acked = o.note }

func (o *once) note(d segment.Delivery, a segment.Ack) {
	n := len(o.remote.Accepted())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, ackAt{d.Key, d.Token, a.Index, n})
}

func (o *once) check(t testing.TB) {
	t.Helper()
	puts := o.remote.Accepted()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.seen {
		for _, p := range puts[a.after:] {
			if p.Key == a.key && p.Token == a.token && p.Chunk.Index == a.index {
				t.Errorf("chunk %d of %s was sent again after its ack was recorded", a.index, a.key)
			}
		}
	}
}

// whole checks that the store has everything, proven, once, and that nothing was left behind.
func (h *house) whole(remote *targettest.Remote, target segment.TargetID) {
	h.t.Helper()
	h.legal()
	h.book.mu.Lock()
	defer h.book.mu.Unlock()
	for k, d := range h.book.rows {
		if k.t != target {
			continue
		}
		if d.State != segment.Verified {
			h.t.Errorf("%s is %s (%s)", d.Key, d.State, d.Why)
			continue
		}
		if got, ok := remote.Object(d.Key); !ok || string(got) != string(h.data[k.id]) {
			h.t.Errorf("%s is verified and not there as it was recorded", d.Key)
		}
	}
	if n := remote.Pending(); n != 0 {
		h.t.Errorf("%d uploads were left open", n)
	}
}

func (h *house) legal() {
	h.t.Helper()
	h.book.mu.Lock()
	defer h.book.mu.Unlock()
	if len(h.book.ill) > 0 {
		h.t.Errorf("illegal acts: %q", h.book.ill)
	}
}
