package reclaim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/liverec/liverec/pipeline/pipelinetest"
	"github.com/liverec/liverec/pipeline/reclaim"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
)

const (
	a segment.TargetID = "file:/a"
	b segment.TargetID = "s3://b"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

type edit func(*segment.Holding)

// holding is a proven one of 100 bytes on target a, safe for an hour.
func holding(seq uint32, edits ...edit) segment.Holding {
	h := segment.Holding{
		Segment:  segment.Segment{ID: segment.ID{Session: "S1", Seq: seq}, Path: fmt.Sprintf("media/S1/P%04d.flv", seq), Size: 100, Sealed: true},
		Required: []segment.TargetID{a},
		Proofs:   map[segment.TargetID]segment.Proof{a: {Size: 100, At: now.Add(-time.Hour)}},
		SafeAt:   now.Add(-time.Hour),
	}
	for _, e := range edits {
		e(&h)
	}
	return h
}

func keep(d time.Duration) edit { return func(h *segment.Holding) { h.Keep = d } }

func TestI1_Victims(t *testing.T) {
	day := keep(24 * time.Hour)
	unsafe := func(h *segment.Holding) { h.Proofs, h.SafeAt = nil, time.Time{} }
	for _, tt := range []struct {
		name string
		in   []segment.Holding
		disk reclaim.Disk
		hold bool
		want []uint32
	}{
		{"nothing", nil, reclaim.Disk{}, false, nil},
		{"safe, keep 0", []segment.Holding{holding(1)}, reclaim.Disk{}, false, []uint32{1}},
		{"oldest first", []segment.Holding{holding(3), holding(1), holding(2)}, reclaim.Disk{}, false, []uint32{1, 2, 3}},
		{"keep is over", []segment.Holding{holding(1, keep(time.Hour))}, reclaim.Disk{}, false, []uint32{1}},
		{"keep is not over", []segment.Holding{holding(1, keep(time.Hour+time.Second))}, reclaim.Disk{}, false, nil},
		{"keep 0 although the clock jumped back", []segment.Holding{holding(1, func(h *segment.Holding) { h.SafeAt = now.Add(time.Hour) })}, reclaim.Disk{}, false, []uint32{1}},
		{"no proof", []segment.Holding{holding(1, unsafe)}, reclaim.Disk{}, false, nil},
		{"no proof, full disk", []segment.Holding{holding(1, unsafe)}, reclaim.Disk{Free: 0, MinFree: 1000}, false, nil},
		{"nobody requires it", []segment.Holding{holding(1, func(h *segment.Holding) { h.Required = nil })}, reclaim.Disk{MinFree: 1000}, false, nil},
		{"one of two proofs", []segment.Holding{holding(1, func(h *segment.Holding) { h.Required = []segment.TargetID{a, b} })}, reclaim.Disk{MinFree: 1000}, false, nil},
		{"proof of another size", []segment.Holding{holding(1, func(h *segment.Holding) { h.Size = 101 })}, reclaim.Disk{MinFree: 1000}, false, nil},
		{"safe at no time", []segment.Holding{holding(1, func(h *segment.Holding) { h.SafeAt = time.Time{} })}, reclaim.Disk{MinFree: 1000}, false, nil},
		{"foreign", []segment.Holding{holding(1, func(h *segment.Holding) { h.Foreign = true })}, reclaim.Disk{MinFree: 1000}, false, nil},
		{"open", []segment.Holding{holding(1, func(h *segment.Holding) { h.Sealed = false })}, reclaim.Disk{MinFree: 1000}, false, nil},
		{"under pressure, whatever keep says", []segment.Holding{holding(1, day), holding(2, day)}, reclaim.Disk{Free: 0, MinFree: 1000}, false, []uint32{1, 2}},
		{"under pressure, no more than it takes", []segment.Holding{holding(3, day), holding(1, day), holding(2, day)}, reclaim.Disk{Free: 850, MinFree: 1000}, false, []uint32{1, 2}},
		{"what may go anyway counts first", []segment.Holding{holding(1, day), holding(2)}, reclaim.Disk{Free: 900, MinFree: 1000}, false, []uint32{2}},
		{"enough is free", []segment.Holding{holding(1, day)}, reclaim.Disk{Free: 1000, MinFree: 1000}, false, nil},
		{"begun removals are finished", []segment.Holding{holding(1, day, func(h *segment.Holding) { h.Reclaiming = true })}, reclaim.Disk{}, false, []uint32{1}},
		{"begun, but the proof is gone", []segment.Holding{holding(1, unsafe, func(h *segment.Holding) { h.Reclaiming = true })}, reclaim.Disk{}, false, nil},
		{"hold everything", []segment.Holding{holding(1)}, reclaim.Disk{MinFree: 1000}, true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []uint32
			for _, h := range reclaim.Victims(tt.in, tt.disk, reclaim.Policy{Hold: tt.hold}, now) {
				got = append(got, h.ID.Seq)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// world is a reclaimer's surroundings: a real folder, an in-memory ledger, and faults.
type world struct {
	t      failer
	ledger *pipelinetest.Ledger
	dir    *durable.Dir
	id     segment.SessionID
	log    bytes.Buffer
	n      uint32
	proven map[string]map[segment.TargetID]bool // by path: the oracle, kept apart from the ledger
	fault  func(step string) error
}

type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

func newWorld(t failer, folder string, keep time.Duration, targets ...segment.TargetID) *world {
	w := &world{t: t, proven: map[string]map[segment.TargetID]bool{}}
	var ds []segment.Destination
	for _, id := range targets {
		ds = append(ds, segment.Destination{ID: id, Required: true})
	}
	w.ledger = pipelinetest.NewLedger(keep, ds...)
	w.ledger.Hook = func(step string, after bool) error {
		if after {
			step += " answer"
		}
		return w.at(step)
	}
	var err error
	w.dir, err = durable.Open(folder, func(op durable.Op, name string) error {
		if op == durable.OpRemove {
			for _, id := range targets {
				if strings.HasSuffix(name, ".flv") && !w.proven[name][id] {
					w.t.Errorf("I1: %s is removed without the proof of %s", name, id)
				}
			}
		}
		return w.at(string(op))
	})
	w.must(err)
	e, err := w.ledger.Enter(context.Background(), segment.Room{ID: "r"}, segment.Session{}, time.Now(), time.Minute)
	w.must(err)
	w.id = e.Session.ID
	return w
}

func (w *world) at(step string) error {
	if w.fault == nil {
		return nil
	}
	return w.fault(step)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// add makes a sealed part of 10 bytes.
func (w *world) add() segment.ID {
	w.t.Helper()
	w.n++
	id := segment.ID{Session: w.id, Seq: w.n}
	s := segment.Segment{ID: id, Path: fmt.Sprintf("media/%s/%s.flv", w.id, id.Base()), Size: 10, SHA256: segment.Sum{1}, Cut: segment.CutTime}
	w.must(w.ledger.Begin(context.Background(), s))
	f, err := w.dir.Create(s.Path)
	w.must(err)
	_, err = f.Write(make([]byte, 10))
	w.must(err)
	w.must(f.Close())
	w.must(w.ledger.Seal(context.Background(), s))
	w.proven[s.Path] = map[segment.TargetID]bool{}
	return id
}

func (w *world) path(id segment.ID) string { return fmt.Sprintf("media/%s/%s.flv", w.id, id.Base()) }

// prove delivers a part and tells the oracle, unless the ledger did not take it.
func (w *world) prove(id segment.ID, t segment.TargetID) error {
	ctx := context.Background()
	for _, step := range []func() error{
		func() error { return w.ledger.Opening(ctx, t, id, 0) },
		func() error { return w.ledger.Opened(ctx, t, id, "x") },
		func() error { return w.ledger.Committing(ctx, t, id) },
		func() error { return w.ledger.Committed(ctx, t, id, segment.Receipt{}) },
		func() error {
			w.proven[w.path(id)][t] = true // durable at the latest when the next line answers
			err := w.ledger.Verified(ctx, t, id, segment.Proof{Size: 10, How: "asked", At: time.Now()})
			if err != nil && !strings.Contains(err.Error(), "answer") {
				w.proven[w.path(id)][t] = false
			}
			return err
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) there(id segment.ID) bool {
	_, err := os.Stat(w.dir.Abs(w.path(id)))
	return err == nil
}

// run has a fresh reclaimer, as after a start, look at the disk for d.
func (w *world) run(d time.Duration, disk reclaim.Disk) {
	w.t.Helper()
	r, err := reclaim.New(reclaim.Config{}, reclaim.Deps{
		Journal: w.ledger, Dir: w.dir, Disk: func() (reclaim.Disk, error) { return disk, nil }, Log: zerolog.New(&w.log),
	})
	w.must(err)
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := r.Run(ctx, nil); err != nil && w.fault == nil {
		w.t.Errorf("Run: %v", err)
	}
}

func TestAProvenPartGoesAndItsProofIsInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), 0, a, b)
		one, two := w.add(), w.add()
		w.must(w.prove(one, a))
		w.must(w.prove(one, b))
		w.must(w.prove(two, a))
		w.run(time.Minute, reclaim.Disk{Free: 0, MinFree: 1 << 40})
		if w.there(one) || !w.there(two) {
			t.Errorf("there: %v %v, want only the second", w.there(one), w.there(two))
		}
		if log := w.log.String(); strings.Count(log, "part reclaimed") != 1 || !strings.Contains(log, `"how":"asked"`) || !strings.Contains(log, string(b)) {
			t.Errorf("log: %s", log)
		}
		w.must(w.prove(two, b))
		w.run(time.Minute, reclaim.Disk{})
		if _, err := os.Stat(w.dir.Abs("media/" + string(w.id))); !os.IsNotExist(err) {
			t.Errorf("the empty folder is still there: %v", err)
		}
	})
}

// A copy that was sent in the place of a part goes with it, also when the power failed between the two.
func TestACopyGoesWithItsPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), 0, a)
		id := w.add()
		c := segment.Copy{Path: fmt.Sprintf("media/%s/P0001.repaired.mp4", w.id), Size: 3}
		w.must(os.WriteFile(w.dir.Abs(c.Path), []byte("abc"), 0o600))
		w.must(w.ledger.Instead(t.Context(), a, id, c, "the transcode failed"))
		w.run(time.Minute, reclaim.Disk{})
		if _, err := os.Stat(w.dir.Abs(c.Path)); err != nil {
			t.Errorf("it goes before the proof: %v", err)
		}
		w.must(w.prove(id, a))
		w.fault = func(step string) error {
			if step == "reclaimed" {
				return errors.New("the power is off")
			}
			return nil
		}
		w.run(time.Minute, reclaim.Disk{})
		w.fault = nil
		w.must(os.MkdirAll(filepath.Dir(w.dir.Abs(c.Path)), 0o755))
		w.must(os.WriteFile(w.dir.Abs(c.Path), []byte("abc"), 0o600)) // as if it had failed before this one
		w.run(time.Minute, reclaim.Disk{})
		if _, err := os.Stat(w.dir.Abs("media/" + string(w.id))); !os.IsNotExist(err) {
			t.Errorf("something is left: %v", err)
		}
	})
}

func TestKeepIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), time.Hour, a)
		id := w.add()
		w.must(w.prove(id, a))
		w.run(59*time.Minute, reclaim.Disk{})
		if !w.there(id) {
			t.Fatal("gone before its time")
		}
		w.run(2*time.Minute, reclaim.Disk{})
		if w.there(id) {
			t.Fatal("still there")
		}
	})
}

func TestAKickIsHeardAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), 0, a)
		id := w.add()
		r, err := reclaim.New(reclaim.Config{Every: time.Hour}, reclaim.Deps{Journal: w.ledger, Dir: w.dir, Log: zerolog.Nop()})
		w.must(err)
		ctx, cancel := context.WithCancel(t.Context())
		kick, done := make(chan struct{}, 1), make(chan error)
		go func() { done <- r.Run(ctx, kick) }()
		synctest.Wait()
		w.must(w.prove(id, a))
		kick <- struct{}{}
		synctest.Wait()
		if w.there(id) {
			t.Error("still there")
		}
		cancel()
		w.must(<-done)
	})
}

// K11 and K12, and every other place where the power can fail: afterwards the part is gone and on record as such.
func TestK11K12_ABegunRemovalIsFinished(t *testing.T) {
	for k := 1; ; k++ {
		steps := 0
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, t.TempDir(), 0, a)
			id := w.add()
			w.must(w.prove(id, a))
			w.fault = func(step string) error {
				if steps++; steps >= k {
					return errors.New("power cut at " + step)
				}
				return nil
			}
			w.run(time.Second, reclaim.Disk{})
			w.fault = nil
			w.run(time.Second, reclaim.Disk{})
			if w.there(id) {
				t.Errorf("step %d: the file is still there", k)
			}
			hs, err := w.ledger.Holdings(t.Context())
			w.must(err)
			if len(hs) != 0 {
				t.Errorf("step %d: the ledger still holds %v", k, hs)
			}
		})
		if steps < k {
			if k < 6 {
				t.Fatalf("only %d steps were seen", k)
			}
			return
		}
	}
}

// The proof disappears between the intention and the removal: the file stays.
func TestI1_ProofsAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), 0, a)
		id := w.add()
		w.must(w.prove(id, a))
		w.run(time.Second, reclaim.Disk{})
		if w.there(id) {
			t.Fatal("the test proves nothing")
		}
		id = w.add()
		w.must(w.prove(id, a))
		r, err := reclaim.New(reclaim.Config{}, reclaim.Deps{Journal: forgetful{w.ledger}, Dir: w.dir, Log: zerolog.Nop()})
		w.must(err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w.must(r.Run(ctx, nil))
		if !w.there(id) {
			t.Error("removed without a proof")
		}
	})
}

// forgetful loses the proof of everything that is being reclaimed.
type forgetful struct{ *pipelinetest.Ledger }

func (f forgetful) Holdings(ctx context.Context) ([]segment.Holding, error) {
	hs, err := f.Ledger.Holdings(ctx)
	for i := range hs {
		if hs[i].Reclaiming {
			hs[i].Proofs = nil
		}
	}
	return hs, err
}

func TestForeignFilesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), 0, a)
		mine := filepath.Join(t.TempDir(), "holiday.flv")
		w.must(os.WriteFile(mine, []byte("0123456789"), 0o600))
		ctx := t.Context()
		id := segment.ID{Session: w.id, Seq: 1}
		s := segment.Segment{ID: id, Path: mine, Foreign: true, Size: 10, SHA256: segment.Sum{1}, Cut: segment.CutEnd}
		w.must(w.ledger.Begin(ctx, s))
		w.must(w.ledger.Seal(ctx, s))
		w.proven[w.path(id)] = map[segment.TargetID]bool{}
		w.must(w.prove(id, a))
		w.run(time.Minute, reclaim.Disk{MinFree: 1 << 40})
		if _, err := os.Stat(mine); err != nil {
			t.Error(err)
		}
	})
}

// liar gives our own segments paths that lead elsewhere.
type liar struct {
	*pipelinetest.Ledger
	path string
}

func (l liar) Holdings(ctx context.Context) ([]segment.Holding, error) {
	hs, err := l.Ledger.Holdings(ctx)
	for i := range hs {
		hs[i].Path = l.path
	}
	return hs, err
}

func TestNothingOutsideOfMediaIsRemoved(t *testing.T) {
	for _, p := range []string{"ledger.db", "media/../ledger.db", "/etc/passwd", "../x", "media", ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, t.TempDir(), 0, a)
			w.must(w.dir.Replace("ledger.db", []byte("x")))
			w.must(w.prove(w.add(), a))
			w.dir, _ = durable.Open(w.dir.Path(), func(op durable.Op, name string) error {
				if op == durable.OpRemove && name != "media/"+string(w.id) { // the tidy-up of folders may look
					t.Errorf("path %q: remove %q", p, name)
				}
				return nil
			})
			r, err := reclaim.New(reclaim.Config{}, reclaim.Deps{Journal: liar{w.ledger, p}, Dir: w.dir, Log: zerolog.Nop()})
			w.must(err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			w.must(r.Run(ctx, nil))
			if r.Err() == nil {
				t.Errorf("path %q: no error", p)
			}
		})
	}
}

func TestHoldRemovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir(), 0, a)
		id := w.add()
		w.must(w.prove(id, a))
		r, err := reclaim.New(reclaim.Config{Policy: reclaim.Policy{Hold: true}}, reclaim.Deps{Journal: w.ledger, Dir: w.dir, Log: zerolog.Nop()})
		w.must(err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w.must(r.Run(ctx, nil))
		if !w.there(id) {
			t.Error("removed")
		}
	})
}

// Random histories with random faults, crashes and a full disk: the oracle in the remove hook watches I1, and once
// the faults are over everything that is proven is freed.
func TestI1_RandomFaults(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		targets := []segment.TargetID{a, b}[:rapid.IntRange(1, 2).Draw(rt, "targets")]
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(rt, filepath.Join(base, fmt.Sprint(n)), 0, targets...)
			defer w.dir.Close()
			var ids []segment.ID
			faulty := func(share int) func(string) error {
				return func(step string) error {
					if rapid.IntRange(0, share).Draw(rt, step) == 0 {
						return errors.New("fault at " + step)
					}
					return nil
				}
			}
			for range rapid.IntRange(1, 8).Draw(rt, "history") {
				w.fault = nil
				switch rapid.IntRange(0, 4).Draw(rt, "what") {
				case 0, 1:
					ids = append(ids, w.add())
				case 2, 3:
					if len(ids) > 0 {
						w.fault = faulty(12)
						_ = w.prove(rapid.SampledFrom(ids).Draw(rt, "id"), rapid.SampledFrom(targets).Draw(rt, "target"))
					}
				case 4:
					w.fault = faulty(4)
					w.run(15*time.Second, reclaim.Disk{MinFree: rapid.Int64Range(0, 100).Draw(rt, "min free")})
				}
			}
			w.fault = nil
			w.run(time.Second, reclaim.Disk{MinFree: 1 << 40})
			for _, id := range ids {
				proven := true
				for _, x := range targets {
					proven = proven && w.proven[w.path(id)][x]
				}
				if w.there(id) == proven {
					rt.Errorf("%s: proven %v, there %v", id, proven, w.there(id))
				}
			}
		})
	})
}
