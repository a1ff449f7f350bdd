package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
)

// What queues up while a commit is under way goes into the next one together.
func TestGroupCommit(t *testing.T) {
	hold, inside := make(chan struct{}), make(chan struct{}, 1)
	cfg := config(t, data(t))
	cfg.Hook = func(step string) error {
		if step == "commit mend" {
			inside <- struct{}{}
			<-hold
		}
		return nil
	}
	l := opened(t, cfg)
	aim(t, l)
	s := enter(t, l, "group").Session.ID
	p := begin(t, l, s, 1)
	deliverTo(t, l, s3, p, segment.Uploading)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Mend(t.Context(), segment.Repair{Session: s, Seq: 1, What: "x"}); err != nil {
			t.Error(err)
		}
	})
	<-inside
	r0, c0 := l.Stats()
	const n = 200
	for i := range n {
		wg.Go(func() {
			if err := l.Acked(t.Context(), s3, p.ID, ack(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() { // a record that is refused costs the others nothing
		if err := l.Reclaiming(t.Context(), p.ID); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	})
	for len(l.in) < n+1 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	r, c := l.Stats()
	if r -= r0; r != n+2 {
		t.Errorf("%d records", r)
	}
	// A group is cut short by its 10 ms where the machine is busy, so this says only that many records share a commit.
	if c -= c0; c < 1+n/groupMost || c > n/4 {
		t.Errorf("%d commits for %d records", c, n)
	}
	if d := delivery(t, l, s3, p.ID); len(d.Acks) != n {
		t.Fatalf("%d acks", len(d.Acks))
	}
}

// One caller alone waits for its commit and for nothing else: virtual time stands still. The bubble also shows that no
// goroutine is left, and that a bubble leaves nothing behind that the next one trips over.
func TestAloneCostsNoWaiting(t *testing.T) {
	for range 2 {
		path := data(t)
		synctest.Test(t, func(t *testing.T) {
			l := opened(t, config(t, path))
			aim(t, l)
			began := time.Now()
			e, err := l.Enter(t.Context(), room, segment.Session{Name: "n"}, began, time.Minute)
			must(t, err)
			p := newPart(e.Session.ID, e.NextSeq)
			p.Start = began
			must(t, l.Begin(t.Context(), p))
			for i := range 100 {
				must(t, l.Extend(t.Context(), p.ID, segment.Extent{Durable: int64(i), At: time.Now()}))
			}
			if d := time.Since(began); d != 0 {
				t.Fatalf("it waited %v", d)
			}
			time.Sleep(5 * time.Hour) // copies are made meanwhile
			if fi, err := os.Stat(filepath.Join(path, copyName)); err != nil || fi.Size() == 0 {
				t.Fatalf("there is no copy: %v", err)
			}
			must(t, l.Close())
		})
	}
}

func TestContextLimitsTheWaitingOnly(t *testing.T) {
	hold, inside := make(chan struct{}), make(chan struct{}, 1)
	cfg := config(t, data(t))
	cfg.Hook = func(step string) error {
		if step == "commit begin" {
			inside <- struct{}{}
			<-hold
		}
		return nil
	}
	l := opened(t, cfg)
	s := enter(t, l, "ctx").Session.ID
	ctx, cancel := context.WithCancelCause(t.Context())
	got := make(chan error)
	p := newPart(s, 1)
	go func() { got <- l.Begin(ctx, p) }()
	<-inside
	why := errors.New("the caller went away")
	cancel(why)
	if err := <-got; !errors.Is(err, why) {
		t.Fatal(err)
	}
	if _, err := l.Due(ctx, s3); !errors.Is(err, why) {
		t.Fatal(err)
	}
	close(hold)
	must(t, l.Extend(t.Context(), p.ID, segment.Extent{Durable: 1})) // it was written all the same
}

// story is a broadcast from its first moment to the last file, one record per step.
func story(l *Ledger) []func(ctx context.Context) error {
	var s segment.SessionID
	var p segment.Segment
	id := func() segment.ID { return segment.ID{Session: s, Seq: 1} }
	return []func(ctx context.Context) error{
		func(ctx context.Context) error {
			return l.SetTargets(ctx, []segment.Destination{{ID: s3, Required: true}})
		},
		func(ctx context.Context) error {
			e, err := l.Enter(ctx, room, segment.Session{Name: "story"}, t0, time.Minute)
			s, p = e.Session.ID, done(newPart(e.Session.ID, 1))
			return err
		},
		func(ctx context.Context) error { return l.Begin(ctx, newPart(s, 1)) },
		func(ctx context.Context) error {
			return l.Extend(ctx, id(), segment.Extent{Durable: 5000, State: []byte("note"), At: t0})
		},
		func(ctx context.Context) error { return l.Opening(ctx, s3, id(), 1000) },
		func(ctx context.Context) error { return l.Opened(ctx, s3, id(), "u") },
		func(ctx context.Context) error { return l.Acked(ctx, s3, id(), ack(1)) },
		func(ctx context.Context) error { return l.Miss(ctx, segment.Gap{Session: s, AfterSeq: 1, Why: "x"}) },
		func(ctx context.Context) error {
			return l.Mend(ctx, segment.Repair{Session: s, Seq: 1, What: "x"})
		},
		func(ctx context.Context) error { return l.Seal(ctx, p) },
		func(ctx context.Context) error { return l.Leave(ctx, s, t0, segment.Account{Parsed: 1, Written: 1}) },
		func(ctx context.Context) error { return l.Committing(ctx, s3, id()) },
		func(ctx context.Context) error { return l.Committed(ctx, s3, id(), segment.Receipt{Key: "k"}) },
		func(ctx context.Context) error { return l.Parked(ctx, s3, id(), "x") },
		func(ctx context.Context) error { return l.Unparked(ctx, s3, id()) },
		func(ctx context.Context) error { return l.Verified(ctx, s3, id(), proof(p)) },
		func(ctx context.Context) error { return l.Publishing(ctx, s, s3, "d") },
		func(ctx context.Context) error { return l.Unpublished(ctx, s, s3, "x") },
		func(ctx context.Context) error { return l.Published(ctx, s, s3, "d", 1, true) },
		func(ctx context.Context) error { return l.Complete(ctx, s) },
		func(ctx context.Context) error { return l.Reclaiming(ctx, id()) },
		func(ctx context.Context) error { return l.Reclaimed(ctx, id()) },
	}
}

// print is all that can be read of a ledger, without names that chance made.
func print(t *testing.T, l *Ledger) string {
	t.Helper()
	bs, err := l.Broadcasts(t.Context(), 0)
	must(t, err)
	es, err := l.Unended(t.Context())
	must(t, err)
	hs, err := l.Holdings(t.Context())
	must(t, err)
	ds, err := l.Targets(t.Context())
	must(t, err)
	var b strings.Builder
	for _, x := range []any{bs, es, hs, ds} {
		j, err := json.Marshal(x)
		must(t, err)
		b.Write(append(j, '\n'))
	}
	s := b.String()
	for _, x := range bs {
		s = strings.ReplaceAll(s, string(x.Session.ID), "SESSION")
	}
	return s
}

// K13: a kill before the commit leaves nothing of it, a kill after it leaves all of it, at every step of a story.
func TestK13_CommitIsWholeOrAbsent(t *testing.T) {
	still := &clock{t: t0}
	cfg := config(t, data(t))
	cfg.Now = still.now
	l := opened(t, cfg)
	prints := []string{print(t, l)}
	for i, f := range story(l) {
		must(t, f(t.Context()))
		prints = append(prints, print(t, l))
		if prints[i] == prints[i+1] {
			t.Fatalf("step %d left nothing", i)
		}
	}
	boom := errors.New("power cut")
	for i := range len(prints) - 1 {
		if slowly && i%5 != 1 {
			continue // the race detector has seen all of it by now
		}
		for _, when := range []string{"commit ", "committed "} {
			t.Run(fmt.Sprintf("%s%d", when, i), func(t *testing.T) {
				cfg := config(t, data(t))
				cfg.Now = still.now
				n := 0
				cfg.Hook = func(step string) error {
					if strings.HasPrefix(step, when) {
						if n++; n == i+1 {
							return boom
						}
					}
					return nil
				}
				l := opened(t, cfg)
				for k, f := range story(l)[:i+1] {
					if err := f(t.Context()); (k == i) != errors.Is(err, boom) {
						t.Fatalf("step %d: %v", k, err)
					}
				}
				for _, f := range story(l)[:3] {
					if err := f(t.Context()); !errors.Is(err, ErrDead) {
						t.Fatalf("a dead process answered: %v", err)
					}
				}
				if _, err := l.Active(t.Context()); !errors.Is(err, ErrDead) {
					t.Fatalf("a dead process answered: %v", err)
				}
				must(t, l.Close())
				cfg.Hook = nil
				l = opened(t, cfg)
				if l.Clean() {
					t.Error("the end counts as clean")
				}
				want := prints[i]
				if when == "committed " {
					want = prints[i+1]
				}
				if got := print(t, l); got != want {
					t.Errorf("the ledger has\n%s\nnot\n%s", got, want)
				}
			})
		}
	}
}

func TestAfterClose(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "x").Session.ID
	must(t, l.Close())
	must(t, l.Close())
	if err := l.Begin(t.Context(), newPart(s, 1)); !errors.Is(err, ErrDead) {
		t.Fatal(err)
	}
	if _, err := l.Unsafe(t.Context()); !errors.Is(err, ErrDead) {
		t.Fatal(err)
	}
}

// A commit for which there is no room is told to the caller, costs nothing else, and the ledger goes on. What leads to a
// removal gets through at the expense of the reserve.
func TestFullDiskAtCommit(t *testing.T) {
	for _, broken := range []error{syscall.ENOSPC, syscall.EIO} {
		t.Run(broken.Error(), func(t *testing.T) {
			var fail error
			cfg := config(t, data(t))
			free := 0 // how often a slice of the reserve has to be given up before there is room
			had := int64(0)
			cfg.Hook = func(step string) error {
				if !strings.HasPrefix(step, "commit ") || fail == nil {
					return nil
				}
				fi, err := cfg.Dir.Stat(reserveName)
				if err != nil {
					return err
				}
				if (had-fi.Size())/reserveSlice >= int64(free) {
					return nil
				}
				return &os.SyscallError{Syscall: "write", Err: fail}
			}
			l := opened(t, cfg)
			had = reserveSize
			aim(t, l)
			s := enter(t, l, "full").Session.ID
			p := seal(t, l, begin(t, l, s, 1))
			deliver(t, l, s3, p)
			q := begin(t, l, s, 2)
			before := print(t, l)

			fail, free = broken, 1<<20 // never
			for name, err := range map[string]error{
				"seal": l.Seal(t.Context(), done(q)), "extend": l.Extend(t.Context(), q.ID, segment.Extent{Durable: 9}),
				"reclaiming": l.Reclaiming(t.Context(), p.ID),
			} {
				if !errors.Is(err, broken) || broken == syscall.ENOSPC && (!errors.Is(err, ErrDiskFull) || !strings.Contains(err.Error(), "disk full")) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if got := print(t, l); got != before {
				t.Errorf("something was written:\n%s\n%s", before, got)
			}
			if broken == syscall.EIO {
				fail = nil
				must(t, l.Seal(t.Context(), done(q)))
				return
			}
			fail = nil
			mend(t, l)
			must(t, l.Extend(t.Context(), q.ID, segment.Extent{Durable: 10})) // and with it the reserve is made again
			must(t, l.Extend(t.Context(), q.ID, segment.Extent{Durable: 11}))
			if fi, err := cfg.Dir.Stat(reserveName); err != nil || fi.Size() != reserveSize {
				t.Fatalf("the reserve: %v %v", fi, err)
			}

			fail, free = broken, 3
			if err := l.Extend(t.Context(), q.ID, segment.Extent{Durable: 12}); !errors.Is(err, ErrDiskFull) {
				t.Errorf("capture took from the reserve: %v", err)
			}
			if err := l.Seal(t.Context(), done(q)); !errors.Is(err, ErrDiskFull) {
				t.Errorf("a seal took more than half of the reserve: %v", err)
			}
			must(t, l.Reclaiming(t.Context(), p.ID))
			must(t, l.Reclaimed(t.Context(), p.ID))
		})
	}
}

// mend has the writer look at the reserve without waiting ten seconds.
func mend(t *testing.T, l *Ledger) {
	t.Helper()
	must(t, l.append(t.Context(), "mend", grows, func(*tx) error { l.reserve.last = time.Time{}; return nil }))
}

// SQLite's own word for a full disk, in the middle of a record of several statements and in a group with others.
func TestFullDatabase(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "full").Session.ID
	pragma := func(q string) {
		t.Helper()
		_, err := l.tx.conn.ExecContext(t.Context(), q)
		must(t, err)
	}
	pragma(`PRAGMA max_page_count = 1`) // SQLite makes of it: no page more than there are
	n := uint32(1)
	var err error
	for ; n < 5000 && err == nil; n++ {
		if err = l.Begin(t.Context(), newPart(s, n)); err == nil {
			err = l.Seal(t.Context(), done(newPart(s, n)))
		}
	}
	if !errors.Is(err, ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() {
			errs[i] = l.Miss(t.Context(), segment.Gap{Session: s, AfterSeq: uint32(i), Why: strings.Repeat("w", 9000)})
		})
	}
	wg.Wait()
	for _, err := range errs {
		if !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		}
	}
	pragma(`PRAGMA max_page_count = 1000000`)
	e, err := l.Unended(t.Context())
	must(t, err)
	if e[0].Open != nil {
		must(t, l.Seal(t.Context(), done(*e[0].Open)))
	}
	seal(t, l, begin(t, l, s, e[0].NextSeq))
	must(t, l.Integrity(t.Context()))
	if b := look(t, l, s); len(b.Gaps) != 0 || len(b.Segments) != int(e[0].NextSeq) {
		t.Fatalf("%d gaps, %d parts", len(b.Gaps), len(b.Segments))
	}
}

// A real full disk: media fills a small file system to the last byte, and the ledger still says what was freed.
func TestRealFullDisk(t *testing.T) {
	path := t.TempDir()
	if err := unix.Mount("liverec-test", path, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir, err := durable.Open(filepath.Join(path, "d"), nil)
	must(t, err)
	l, err := Open(t.Context(), Config{Dir: dir})
	must(t, err)
	aim(t, l)
	s := enter(t, l, "full").Session.ID
	var ps []segment.Segment
	for n := range uint32(40) {
		ps = append(ps, seal(t, l, begin(t, l, s, n+1)))
		deliver(t, l, s3, ps[n])
	}
	media, err := dir.Create("media")
	must(t, err)
	block := make([]byte, 4096)
	fill := func() {
		for err == nil {
			_, err = media.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	fill()
	// Gaps with long reasons until not even the write-ahead log has room.
	full := false
	for i := 0; i < 4000 && !full; i++ {
		if err := l.Extend(t.Context(), ps[0].ID, segment.Extent{Durable: 1}); !errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
		gerr := l.append(t.Context(), "filler", grows, func(x *tx) error {
			_, err := x.exec(`INSERT OR REPLACE INTO marks (name, value, owner, epoch) VALUES (?, ?, '', 0)`, fmt.Sprint(i), strings.Repeat("x", 20000))
			return err
		})
		if gerr != nil {
			if !errors.Is(gerr, ErrDiskFull) {
				t.Fatal(gerr)
			}
			full = true
		}
	}
	if !full {
		t.Fatal("the disk never was full")
	}
	for i, p := range ps {
		must(t, l.Reclaiming(t.Context(), p.ID))
		must(t, l.Reclaimed(t.Context(), p.ID))
		if i < 2 {
			fill() // whoever writes media takes what the reserve gave up
		}
	}
	must(t, media.Truncate(0))
	mend(t, l)
	seal(t, l, begin(t, l, s, 41))
	if fi, err := dir.Stat(reserveName); err != nil || fi.Size() != reserveSize {
		t.Fatalf("the reserve was not made again: %v %v", fi, err)
	}
	must(t, l.Integrity(t.Context()))
	must(t, errors.Join(media.Close(), l.Close(), dir.Close()))
}
