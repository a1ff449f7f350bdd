package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pipeline/pipelinetest"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/segment"
)

// bench is control at work on an in-memory ledger and store.
type bench struct {
	t      *testing.T
	ledger *pipelinetest.Ledger
	store  *pipelinetest.Store
	c      *control.Control
	in     chan segment.Outcome
	kick   chan struct{}
	done   chan error
	hard   context.CancelFunc
	id     segment.SessionID

	told     record[control.Condition]
	finished record[segment.Broadcast]
}

// record is what control has said, in order; control writes it while the test reads.
type record[T any] struct {
	mu  sync.Mutex
	all []T
}

func (r *record[T]) add(x T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
}

func (r *record[T]) list() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, ledger: pipelinetest.NewLedger(0, segment.Destination{ID: here, Required: true}), store: pipelinetest.NewStore(here)}
	e, err := b.ledger.Enter(t.Context(), segment.Room{ID: "r", URL: "http://h/live.flv"}, segment.Session{}, time.Now(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	b.id = e.Session.ID
	return b
}

func (b *bench) start() {
	b.t.Helper()
	c, err := control.New(control.Config{}, control.Deps{
		Journal: b.ledger, Publishers: []control.Publisher{control.NewStorePublisher(b.store)},
		Tell: b.told.add, Finished: b.finished.add, Log: zerolog.Nop(),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	b.c, b.hard, b.in, b.kick, b.done = c, cancel, make(chan segment.Outcome, 64), make(chan struct{}, 1), make(chan error, 1)
	go func() { b.done <- c.Run(ctx, b.in, b.kick) }()
}

func (b *bench) stop() {
	b.t.Helper()
	close(b.in)
	if err := <-b.done; err != nil {
		b.t.Errorf("Run: %v", err)
	}
	b.hard()
}

func (b *bench) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// prove records and delivers part seq.
func (b *bench) prove(seq uint32) {
	b.t.Helper()
	ctx := b.t.Context()
	id := segment.ID{Session: b.id, Seq: seq}
	s := segment.Segment{ID: id, Path: fmt.Sprintf("media/%s/%s.flv", b.id, id.Base()), Start: time.Now(), Duration: time.Second, Size: 10, SHA256: segment.Sum{1}, Cut: segment.CutTime}
	b.do(b.ledger.Begin(ctx, segment.Segment{ID: id, Path: s.Path}))
	b.do(b.ledger.Seal(ctx, s))
	b.do(b.ledger.Opening(ctx, here, id, 0))
	b.do(b.ledger.Opened(ctx, here, id, "t"))
	b.do(b.ledger.Committing(ctx, here, id))
	b.do(b.ledger.Committed(ctx, here, id, segment.Receipt{}))
	b.do(b.ledger.Verified(ctx, here, id, segment.Proof{Size: 10, At: time.Now()}))
	if b.in != nil {
		b.in <- segment.Outcome{Target: here, ID: id}
	}
}

func (b *bench) leave() {
	b.t.Helper()
	b.do(b.ledger.Leave(b.t.Context(), b.id, time.Now(), segment.Account{}))
}

// lists is what the store was given, as part counts; a negative one is an ended list.
func (b *bench) lists() []int {
	b.t.Helper()
	var out []int
	for _, p := range b.store.Puts() {
		m, err := manifest.Parse(p.Data)
		b.do(err)
		n := len(m.Parts)
		if m.Ended != nil {
			n = -n
		}
		out = append(out, n)
	}
	return out
}

func (b *bench) wantLists(want ...int) {
	b.t.Helper()
	if got := b.lists(); fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("lists %v, want %v", got, want)
	}
}

func (b *bench) complete() bool {
	b.t.Helper()
	all, err := b.ledger.All(context.WithoutCancel(b.t.Context()))
	b.do(err)
	return all[0].Session.Complete
}

func TestAListIsSetAtEveryChangeAndPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		b.prove(1)
		time.Sleep(time.Second)
		b.wantLists(1)
		b.prove(2)
		time.Sleep(100 * time.Millisecond)
		b.prove(3)
		time.Sleep(500 * time.Millisecond)
		b.wantLists(1) // at most one list in 2 s
		time.Sleep(time.Second)
		b.wantLists(1, 3) // and the newest wins
		b.prove(4)
		b.leave()
		time.Sleep(200 * time.Millisecond)
		b.wantLists(1, 3, -4) // at once at the end
		if !b.complete() {
			t.Error("the broadcast is not complete")
		}
		if f := b.finished.list(); len(f) != 1 || len(f[0].Segments) != 4 || !f[0].Session.Complete {
			t.Errorf("finished %+v", f)
		}
		select {
		case <-b.kick:
		default:
			t.Error("nobody rang for reclaim")
		}
		time.Sleep(time.Hour)
		b.wantLists(1, 3, -4)
		b.stop()
	})
}

func TestASoftStopSetsWhatIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		b.prove(1)
		time.Sleep(time.Second)
		b.prove(2)
		b.stop()
		b.wantLists(1, 2)
	})
}

func TestAListThatWasMissedIsFoundByTheTicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.prove(1) // nobody rings
		b.start()
		time.Sleep(time.Millisecond)
		b.wantLists(1)
		in := b.in
		b.in = nil
		b.prove(2)
		b.in = in
		time.Sleep(11 * time.Second)
		b.wantLists(1, 2)
		b.stop()
	})
}

// K9, K10: whichever side of which call the power fails at, the list is set, and set once more at the most.
func TestK9K10_AskBeforeRepeating(t *testing.T) {
	errCrash := errors.New("power cut")
	for _, at := range []struct {
		name  string
		where string
		step  string
		after bool
		puts  []int
	}{
		{"before the intention", "ledger", "publishing", false, []int{1}},
		{"after the intention", "ledger", "publishing", true, []int{1}},
		{"before the call", "store", "keep", false, []int{1}},
		{"after the call (K9)", "store", "keep", true, []int{1}},
		{"before the record (K10)", "ledger", "published", false, []int{1}},
		{"after the record", "ledger", "published", true, []int{1}},
	} {
		t.Run(at.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.prove(1)
				var dead, fired atomic.Bool
				hook := func(where, step string, after bool) error {
					if where == at.where && step == at.step && after == at.after && fired.CompareAndSwap(false, true) {
						dead.Store(true)
					}
					if dead.Load() {
						return errCrash
					}
					return nil
				}
				b.ledger.Hook = func(step string, after bool) error { return hook("ledger", step, after) }
				b.store.Hook = func(_ context.Context, step string, after bool) error { return hook("store", step, after) }
				b.start()
				time.Sleep(time.Minute)
				if !fired.Load() {
					t.Fatal("the step was never reached")
				}
				b.hard() // the process is gone
				b.stop()
				dead.Store(false)
				b.start()
				time.Sleep(time.Minute)
				b.wantLists(at.puts...)
				all, _ := b.ledger.All(t.Context())
				if p := all[0].Publications[here]; p.Parts != 1 || p.Shown == "" {
					t.Errorf("publication %+v", p)
				}
				b.stop()
			})
		})
	}
}

func TestI4_ATargetThatShowsMoreIsNotShortened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.prove(1)
		all, _ := b.ledger.All(t.Context())
		m := manifest.Make(all[0], here)
		m.Parts = append(m.Parts, m.Parts[0])
		m.Parts[1].Seq = 2
		b.do(b.store.Keep(t.Context(), control.Key(all[0].Session), m.Encode()))
		b.start()
		time.Sleep(5 * time.Minute)
		b.wantLists(2)
		if err := b.c.Stuck(b.id, here); failure.KindOf(err) != failure.NeedsHuman {
			t.Errorf("Stuck: %v", err)
		}
		if told := b.told.list(); len(told) != 1 || told[0].Key != "list file:/archive" {
			t.Errorf("told %+v, want one condition", told)
		}
		b.stop()
	})
}

func TestTheManifestOfAnotherBroadcastIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.prove(1)
		all, _ := b.ledger.All(t.Context())
		other := all[0]
		other.Session.ID = "S9999"
		b.do(b.store.Keep(t.Context(), control.Key(all[0].Session), manifest.Make(other, here).Encode()))
		b.start()
		time.Sleep(5 * time.Minute)
		b.wantLists(1)
		if err := b.c.Stuck(b.id, here); failure.Hint(err) == "" {
			t.Errorf("Stuck: %v", err)
		}
		b.stop()
	})
}

func TestI5_ADeadTargetBlocksNobodyAndIsOneCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var dead atomic.Bool
		dead.Store(true)
		var calls atomic.Int64
		b.store.Hook = func(ctx context.Context, step string, after bool) error {
			n := calls.Add(1)
			if !dead.Load() {
				return nil
			}
			if n%2 == 0 {
				return &failure.Error{Op: "keep", Kind: failure.Throttled, Code: "503", RetryAfter: 30 * time.Second}
			}
			select { // a socket that says nothing
			case <-ctx.Done():
			case <-time.After(30 * time.Second):
			}
			return &failure.Error{Op: "keep", Err: errors.New("no answer for 30 s")}
		}
		b.start()
		for i := range uint32(30) {
			b.prove(i + 1)
			time.Sleep(2 * time.Minute)
		}
		if n := calls.Load(); n > 200 || n < 20 {
			t.Errorf("a dead target was called %d times in an hour", n)
		}
		dead.Store(false)
		b.leave()
		time.Sleep(2 * time.Minute)
		b.wantLists(-30)
		if !b.complete() {
			t.Error("not complete")
		}
		told, open := b.told.list(), 0
		for _, x := range told {
			if x.Resolved {
				open--
			} else {
				open++
			}
		}
		if len(told) != 2 || open != 0 {
			t.Errorf("told %d times: %+v", len(told), told)
		}
		b.stop()
	})
}

func TestAHardStopEndsACallInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.prove(1)
		b.store.Hook = func(ctx context.Context, step string, after bool) error {
			<-ctx.Done()
			return ctx.Err()
		}
		b.start()
		time.Sleep(time.Minute)
		start := time.Now()
		b.hard()
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("took %v", d)
		}
	})
}

// A target whose publisher is replaced is asked by the new one, also in the middle of a call of the old one.
func TestRetarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		if err := b.c.Retarget([]control.Publisher{control.NewStorePublisher(b.store), control.NewStorePublisher(b.store)}, nil, nil); err == nil {
			t.Error("two publishers of one target")
		}
		b.do(b.c.Retarget(nil, nil, nil))
		time.Sleep(time.Second)
		b.prove(1)
		time.Sleep(time.Minute)
		b.wantLists() // nobody is there to do it
		hangs, hung := pipelinetest.NewStore(here), new(atomic.Int32)
		hangs.Hook = func(ctx context.Context, step string, after bool) error {
			hung.Add(1)
			defer hung.Add(-1)
			<-ctx.Done()
			return ctx.Err()
		}
		b.do(b.c.Retarget([]control.Publisher{control.NewStorePublisher(hangs)}, nil, nil))
		time.Sleep(time.Minute)
		gone := make(chan struct{})
		b.do(b.c.Retarget([]control.Publisher{control.NewStorePublisher(b.store)}, nil, func() {
			if hung.Load() != 0 {
				t.Error("one of before is in a call still")
			}
			close(gone)
		}))
		<-gone
		time.Sleep(time.Minute)
		b.wantLists(1)
		b.prove(2)
		b.leave()
		b.stop()
		b.wantLists(1, -2)
	})
}

type rotten struct{ *pipelinetest.Store }

func (r rotten) Recall(ctx context.Context, key string) ([]byte, error) {
	data, err := r.Store.Recall(ctx, key)
	if len(data) > 0 {
		data[len(data)/2] ^= 1
	}
	return data, err
}

func TestPutReadsBack(t *testing.T) {
	s := rotten{pipelinetest.NewStore(here)}
	b := broadcast(segment.Verified)
	err := control.NewStorePublisher(s).Put(t.Context(), b.Session, manifest.Make(b, here))
	if !errors.Is(err, failure.ErrDamaged) {
		t.Fatalf("a wrong byte was not seen: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	p := control.NewStorePublisher(pipelinetest.NewStore(here))
	for name, d := range map[string]control.Deps{
		"no journal":                   {},
		"two publishers of one target": {Journal: pipelinetest.NewLedger(0), Publishers: []control.Publisher{p, p}},
	} {
		if _, err := control.New(control.Config{}, d); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
