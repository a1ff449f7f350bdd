package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

// A run with Once that was killed is started again when the grace is over: it ends the broadcast, and with it itself,
// unless another one is live.
func TestOnceAfterTheGrace(t *testing.T) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprint("live ", live), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{Duration: 10 * time.Second})
				r.cfg.Once, r.cfg.Grace = true, 20*time.Second
				r.room.Start(t.Context())
				r.life(newKiller(20))
				if s := r.session(); s.Left {
					t.Fatal("the broadcast ended before the death")
				}
				time.Sleep(time.Minute)
				sessions := 1
				if live {
					sessions = 2
					r.room.Start(t.Context())
				}
				r.journal.Fail = nil
				r.open(nil)
				begin := time.Now()
				r.start()
				select {
				case err := <-r.done:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(5 * time.Minute):
					t.Fatal("it does not end")
				}
				r.stop()
				if d := time.Since(begin); !live && d > time.Second {
					t.Errorf("it took %v", d)
				}
				ss := r.journal.Sessions()
				if len(ss) != sessions {
					t.Fatalf("%d sessions", len(ss))
				}
				for _, s := range ss {
					r.check(s, probe.Config)
					if !s.Left {
						t.Errorf("session %s has not ended", s.ID)
					}
				}
			})
		})
	}
}

// A source that breaks off and comes back at once costs nothing: no picture is missing, none stands twice, and the part
// goes on.
func TestReconnectIsSeamless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: 40 * time.Second, Fault: func(n int) liveroom.Fault {
			if n >= 6 {
				return liveroom.Fault{}
			}
			return liveroom.Fault{Events: []liveroom.Event{{After: 5 * time.Second, Half: 100, End: liveroom.Broken}}}
		}})
		r.cfg.Segment, r.cfg.Once = 20*time.Second, true
		r.room.Start(t.Context())
		r.start()
		r.wait()
		s := r.session()
		numbers := r.check(s)
		unbroken(t, numbers)
		if got, want := len(numbers), len(r.sent()); got < want-1 {
			t.Errorf("%d of %d pictures", got, want)
		}
		if n := len(s.Segments()); n != 2 {
			t.Errorf("%d parts", n)
		}
		if len(s.Gaps) != 0 || s.Account.Connections != 7 {
			t.Errorf("gaps %v, %d connections", s.Gaps, s.Account.Connections)
		}
		if err := s.Account.Check(); err != nil || s.Account.Written != total(s.Segments()) {
			t.Errorf("account %+v: %v", s.Account, err)
		}
	})
}

// offline makes a room that ends and starts again.
func (r *rig) again(after time.Duration) {
	time.Sleep(after)
	r.room.Start(r.t.Context())
}

// A source that is away for less than the grace goes on in the same part, with the hole written down; one that is away
// for longer begins a new broadcast.
func TestGrace(t *testing.T) {
	for _, c := range []struct {
		name     string
		away     time.Duration
		sessions int
	}{{"away for 50 s", 50 * time.Second, 1}, {"away for 70 s", 70 * time.Second, 2}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The connection breaks: no clean end, so the whole grace counts.
				r := newRig(t, liveroom.Config{Fault: func(n int) liveroom.Fault {
					if n == 0 {
						return liveroom.Fault{Events: []liveroom.Event{{After: 5 * time.Second, End: liveroom.Broken}}}
					}
					if time.Since(began(t)) < 5*time.Second+c.away {
						return liveroom.Fault{Status: 502}
					}
					return liveroom.Fault{}
				}})
				r.cfg.Segment = time.Hour
				r.room.Start(t.Context())
				r.start()
				time.Sleep(5*time.Second + c.away/2)
				if st := r.rec.Snapshot(); st.State != recorder.StateUnreachable || !strings.Contains(st.Why, "502") {
					t.Errorf("state %s (%s)", st.State, st.Why)
				}
				time.Sleep(c.away)
				r.halt()
				ss := r.journal.Sessions()
				if len(ss) != c.sessions {
					t.Fatalf("%d sessions", len(ss))
				}
				for _, s := range ss {
					once(t, r.check(s))
				}
				if c.sessions == 1 {
					g := ss[0].Gaps
					if len(g) != 1 || g[0].Length < c.away-2500*time.Millisecond || g[0].Length > c.away+11*time.Second || g[0].AfterSeq != 1 {
						t.Errorf("gaps %v", g)
					}
					return
				}
				if segs := ss[0].Segments(); !ss[0].Left || len(segs) != 1 || segs[0].Cut != segment.CutEnd {
					t.Errorf("first broadcast: left %v, %v", ss[0].Left, segs)
				}
				if ss[1].Left {
					t.Error("the stop ended the broadcast")
				}
			})
		})
	}
}

// began is when a bubble begins.
func began(*testing.T) time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

// What sends no usable media is given up within 30 s, is never called live, and makes no broadcast.
func TestUselessSources(t *testing.T) {
	for name, f := range map[string]liveroom.Fault{
		"not one byte":       {Silent: true},
		"no answer":          {Mute: true},
		"no key frame":       {NoKeys: true, NoAudio: true},
		"half a tag":         {Events: []liveroom.Event{{Half: 40, Stall: time.Hour}}},
		"HTML":               {Body: []byte("<!doctype html><p>geo block")},
		"server error":       {Status: 500},
		"header and silence": {Body: nil, Events: []liveroom.Event{{Stall: time.Hour}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{Fault: func(int) liveroom.Fault { return f }})
				r.room.Start(t.Context())
				r.start()
				tried := 0
				for range 120 {
					time.Sleep(time.Second)
					if st := r.rec.Snapshot(); st.State == recorder.StateLive {
						t.Fatalf("live after %v", time.Since(began(t)))
					}
					tried = len(r.room.Connections())
				}
				if tried < 4 {
					t.Errorf("only %d connections in 2 min", tried)
				}
				if d := r.halt(); d > 5*time.Second {
					t.Errorf("the stop took %v", d)
				}
				if ss := r.journal.Sessions(); len(ss) != 0 {
					t.Errorf("sessions %v", ss)
				}
			})
		})
	}
}

// A stop closes the part within 5 s without ending the broadcast; a start within the grace goes on in it, with the part
// after it.
func TestStopAndStartAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		r.cfg.Segment = time.Hour
		r.room.Start(t.Context())
		r.start()
		time.Sleep(7300 * time.Millisecond)
		if st := r.rec.Snapshot(); st.State != recorder.StateLive || st.Open == nil || st.Open.Seq != 1 || st.BitRate < 300_000 || st.BitRate > 600_000 {
			t.Errorf("%+v", st)
		}
		if d := r.halt(); d > time.Second {
			t.Errorf("the stop took %v", d)
		}
		s := r.session()
		if segs := s.Segments(); len(segs) != 1 || segs[0].Cut != segment.CutStop || s.Left {
			t.Fatalf("left %v, %v", s.Left, segs)
		}
		stopped := len(r.check(s))
		if want := len(r.received(began(t), time.Now().Add(-300*time.Millisecond))); stopped < want {
			t.Errorf("%d of %d pictures", stopped, want)
		}
		time.Sleep(3 * time.Second)
		r.start()
		time.Sleep(8 * time.Second)
		r.halt()
		s = r.session()
		numbers := r.check(s)
		once(t, numbers)
		missing := time.Duration(numbers[len(numbers)-1]+1-uint64(len(numbers))) * time.Second / 30
		told := time.Duration(0)
		for _, g := range s.Gaps {
			told += g.Length
		}
		if missing > 5*time.Second || (missing-told).Abs() > 150*time.Millisecond {
			t.Errorf("%v are missing, %v are said to be: %v", missing, told, s.Gaps)
		}
		if segs := s.Segments(); len(segs) != 2 || segs[1].Cut != segment.CutStop {
			t.Errorf("%v", segs)
		}
		r.noOrphans()
	})
}

// What was interrupted and not found again within the grace is sealed as recovered and ended, by the room's own
// Recorder or, for a room of another run, by Recover.
func TestLeftovers(t *testing.T) {
	for _, how := range []string{"own", "other", "other, at once", "other, in time", "other, then own"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{Duration: 8 * time.Second})
				r.cfg.Segment = time.Hour
				r.room.Start(t.Context())
				k := newKiller(0)
				time.AfterFunc(7300*time.Millisecond, k.kill)
				if !r.life(k) {
					t.Fatal("alive")
				}
				r.open(nil)
				r.journal.Fail = nil
				r.deps.Dir = r.dir
				switch how {
				case "own":
					r.start()
					time.Sleep(2 * time.Minute)
					r.halt()
				case "other":
					time.Sleep(2 * time.Minute)
					rest, err := recorder.Recover(t.Context(), recorder.RecoverConfig{}, r.deps, nil)
					if err != nil || !rest.Empty() {
						t.Fatal(err, rest)
					}
				case "other, at once":
					rest, err := recorder.Recover(t.Context(), recorder.RecoverConfig{Now: true}, r.deps, nil)
					if err != nil || !rest.Empty() {
						t.Fatal(err, rest)
					}
				case "other, then own": // the room is added anew before its grace is over
					rest, err := recorder.Recover(t.Context(), recorder.RecoverConfig{}, r.deps, nil)
					if err != nil || rest.Empty() {
						t.Fatal(err, rest)
					}
					over := make(chan error, 1)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					go func() { over <- rest.Run(ctx) }()
					rest.Spare(r.cfg.Room.ID)
					time.Sleep(2 * time.Minute)
					if err := <-over; err != nil || !rest.Empty() || r.session().Left {
						t.Fatalf("%v: a broadcast that a recorder goes on with has ended", err)
					}
					r.start()
					time.Sleep(2 * time.Minute)
					r.halt()
				case "other, in time":
					if _, err := recorder.Recover(t.Context(), recorder.RecoverConfig{}, r.deps, map[segment.RoomID]bool{r.cfg.Room.ID: true}); err != nil {
						t.Fatal(err)
					}
					if s := r.session(); s.Segments()[0].Sealed {
						t.Fatal("the room's own part was sealed")
					}
					rest, err := recorder.Recover(t.Context(), recorder.RecoverConfig{}, r.deps, nil)
					if err != nil || rest.Empty() {
						t.Fatal(err, rest)
					}
					if s := r.session(); !s.Segments()[0].Sealed || s.Left {
						t.Fatalf("%+v", s)
					}
					if err := rest.Run(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				s := r.session()
				if segs := s.Segments(); len(segs) != 1 || segs[0].Cut != segment.CutRecovered || !s.Left {
					t.Fatalf("left %v, %v", s.Left, segs)
				}
				numbers := r.check(s)
				unbroken(t, numbers)
				if len(numbers) < 6*30 {
					t.Errorf("%d pictures", len(numbers))
				}
				if err := s.Account.Check(); err != nil || s.Account.Written != total(s.Segments()) {
					t.Errorf("account %+v: %v", s.Account, err)
				}
			})
		})
	}
}

// A person's commands: split cuts at the next key frame, pause closes the part and makes a gap, stop ends the broadcast.
func TestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		r.cfg.Segment = time.Hour
		r.room.Start(t.Context())
		r.start()
		do := func(v segment.Verb) { r.rec.Do(segment.Command{Room: r.cfg.Room.ID, Verb: v}) }
		time.Sleep(4500 * time.Millisecond)
		do(segment.VerbSplit)
		time.Sleep(5 * time.Second)
		do(segment.VerbPause)
		time.Sleep(10 * time.Second)
		if st := r.rec.Snapshot().State; st != recorder.StatePaused {
			t.Errorf("state %s", st)
		}
		do(segment.VerbContinue)
		time.Sleep(6 * time.Second)
		do(segment.VerbStop)
		r.wait()
		s := r.session()
		numbers := r.check(s)
		once(t, numbers)
		var cuts []segment.Cause
		for _, g := range s.Segments() {
			cuts = append(cuts, g.Cut)
		}
		if want := []segment.Cause{segment.CutSplit, segment.CutPause, segment.CutStop}; !slices.Equal(cuts, want) {
			t.Errorf("cuts %v", cuts)
		}
		if d := s.Segments()[0].Duration; (d - 6*time.Second).Abs() > 5*time.Millisecond {
			t.Errorf("split after %v", d)
		}
		missing := time.Duration(numbers[len(numbers)-1]+1-uint64(len(numbers))) * time.Second / 30
		if len(s.Gaps) != 1 || s.Gaps[0].Why != "paused" || (s.Gaps[0].Length-missing).Abs() > 150*time.Millisecond {
			t.Errorf("gaps %v, %v are missing", s.Gaps, missing)
		}
		if !s.Left {
			t.Error("the broadcast goes on")
		}
	})
}

// A long pause is one broadcast as long as the room sends, and ends it when the room does not.
func TestLongPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: time.Hour, Backlog: 10 * time.Second})
		r.cfg.Segment = time.Hour
		r.room.Start(t.Context())
		r.start()
		time.Sleep(5 * time.Second)
		r.rec.Do(segment.Command{Verb: segment.VerbPause})
		time.Sleep(50 * time.Minute)
		if s := r.session(); s.Left {
			t.Error("the broadcast was ended")
		}
		time.Sleep(time.Hour)
		if s := r.session(); !s.Left {
			t.Error("the broadcast was not ended")
		}
		if st := r.rec.Snapshot().State; st != recorder.StatePaused {
			t.Errorf("state %s", st)
		}
		r.halt()
	})
}

// A codec configuration that changes begins a new part.
func TestConfigChangeBeginsAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: 20 * time.Second, Changes: []time.Duration{7 * time.Second}})
		r.cfg.Segment, r.cfg.Once = time.Hour, true
		r.room.Start(t.Context())
		r.start()
		r.wait()
		s := r.session()
		unbroken(t, r.check(s))
		segs := s.Segments()
		if len(segs) != 2 || segs[0].Cut != segment.CutHeader || segs[1].Cut != segment.CutEnd {
			t.Errorf("%v", segs)
		}
	})
}

// A ledger that takes nothing for ten minutes costs no frame (I5): the open part goes on beyond its limit, and everything is
// told when the ledger is back.
func TestI5_LedgerIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: 14 * time.Minute, Backlog: 10 * time.Second})
		r.cfg.Segment, r.cfg.Once = time.Minute, true
		r.journal.Fail = func(context.Context, string) error {
			if d := time.Since(began(t)); d > 90*time.Second && d < 12*time.Minute {
				return errors.New("database is locked")
			}
			return nil
		}
		r.room.Start(t.Context())
		r.start()
		r.wait()
		s := r.session()
		numbers := r.check(s, probe.Index) // a part that grows far beyond its limit has a coarser index
		unbroken(t, numbers)
		if len(numbers) != len(r.sent()) || len(s.Gaps) != 0 {
			t.Errorf("%d of %d pictures, gaps %v", len(numbers), len(r.sent()), s.Gaps)
		}
		if d := s.Segments()[1].Duration; d < 10*time.Minute {
			t.Errorf("the part that was open lasts %v", d)
		}
		if st := r.rec.Snapshot().WorstStall; st > 0 {
			t.Errorf("capture stalled for %v", st)
		}
		if !s.Left {
			t.Error("not left")
		}
	})
}

// A ledger that does not answer at all is the same.
func TestI5_LedgerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: 5 * time.Minute, Backlog: 10 * time.Second})
		r.cfg.Segment, r.cfg.Once = time.Minute, true
		r.journal.Fail = func(ctx context.Context, _ string) error {
			if d := time.Until(began(t).Add(4 * time.Minute)); d > 0 && time.Since(began(t)) > 30*time.Second {
				select {
				case <-time.After(d):
				case <-ctx.Done():
				}
			}
			return nil
		}
		r.room.Start(t.Context())
		r.start()
		r.wait()
		s := r.session()
		numbers := r.check(s, probe.Index)
		unbroken(t, numbers)
		if len(numbers) != len(r.sent()) || len(s.Gaps) != 0 {
			t.Errorf("%d of %d pictures, gaps %v", len(numbers), len(r.sent()), s.Gaps)
		}
	})
}

// A full disk: the part is closed at its last whole frame, the room is paused, the hole is written down, and it goes on
// by itself when there is room. No frame that was written is lost, none stands twice.
func TestFullDisk(t *testing.T) { inEach(t, fullDisk) }

func fullDisk(t *testing.T, kind recorder.Container) {
	for _, c := range []struct {
		name string
		op   durable.Op
		err  error
	}{
		{"no space", durable.OpWrite, syscall.ENOSPC}, {"no space for a new file", durable.OpCreate, syscall.ENOSPC},
		{"write error", durable.OpWrite, syscall.EIO}, {"sync error", durable.OpSync, syscall.EIO}, {"head error", durable.OpWriteAt, syscall.EIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{Duration: time.Minute})
				r.cfg.Container = kind
				r.cfg.Segment, r.cfg.Once = 10*time.Second, true
				r.open(func(op durable.Op, name string) error {
					if d := time.Since(began(t)); op == c.op && strings.HasPrefix(name, "media") && d > 14500*time.Millisecond && d < 33*time.Second {
						return c.err
					}
					return nil
				})
				free := int64(100)
				r.deps.Free = func() (int64, error) {
					if time.Since(began(t)) > 33*time.Second {
						free = 1000
					}
					return free, nil
				}
				r.cfg.DiskFloor = 500
				r.room.Start(t.Context())
				r.start()
				time.Sleep(30 * time.Second)
				if st := r.rec.Snapshot(); (st.State == recorder.StatePaused) == (c.op == durable.OpWriteAt) {
					t.Errorf("state %s", st.State)
				}
				r.wait()
				s := r.session()
				numbers := r.check(s)
				once(t, numbers)
				missing := time.Duration(numbers[len(numbers)-1]+1-uint64(len(numbers))) * time.Second / 30
				told := time.Duration(0)
				for _, g := range s.Gaps {
					told += g.Length
					if g.Why != "disk full" {
						t.Errorf("gap %v", g)
					}
				}
				if c.op == durable.OpWriteAt && missing > 0 {
					t.Errorf("%v are missing for the sake of an index", missing)
				}
				if missing > 25*time.Second || (missing-told).Abs() > 250*time.Millisecond {
					t.Errorf("%v are missing, %v are said to be: %v", missing, told, s.Gaps)
				}
				if last := numbers[len(numbers)-1]; last != 30*60-1 {
					t.Errorf("the last picture is %d", last)
				}
				if err := s.Account.Check(); err != nil || s.Account.Written != total(s.Segments()) {
					t.Errorf("account %+v: %v, %d in the parts", s.Account, err, total(s.Segments()))
				}
				r.noOrphans()
			})
		})
	}
}

// A disk that stands still for longer than the queue holds: media is given up up to a key frame, the stretch is a gap,
// and the rest is whole.
func TestDiskStandsStill(t *testing.T) { inEach(t, diskStandsStill) }

func diskStandsStill(t *testing.T, kind recorder.Container) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: time.Minute, Bitrate: 8_000_000})
		r.cfg.Container = kind
		r.cfg.Segment, r.cfg.Once = time.Hour, true
		var stood atomic.Bool
		r.open(func(op durable.Op, name string) error {
			if op == durable.OpWrite && time.Since(began(t)) > 10*time.Second && stood.CompareAndSwap(false, true) {
				time.Sleep(15 * time.Second)
			}
			return nil
		})
		r.room.Start(t.Context())
		r.start()
		r.wait()
		s := r.session()
		numbers := r.check(s)
		once(t, numbers)
		missing := time.Duration(numbers[len(numbers)-1]+1-uint64(len(numbers))) * time.Second / 30
		const most = 15*time.Second + 2*time.Second // until the disk goes on, and to the next key frame
		if len(s.Gaps) == 0 || missing == 0 || missing > most {
			t.Fatalf("gaps %v, %v are missing", s.Gaps, missing)
		}
		told := time.Duration(0)
		for _, g := range s.Gaps {
			told += g.Length
		}
		if s.Gaps[0].Why != "disk stalled" || (missing-told).Abs() > 150*time.Millisecond {
			t.Errorf("%v are missing, %v are said to be: %v", missing, told, s.Gaps)
		}
		if st := r.rec.Snapshot().WorstStall; st < 2*time.Second {
			t.Errorf("worst stall %v", st)
		}
		if err := s.Account.Check(); err != nil || s.Account.Dropped == 0 || s.Account.Written != total(s.Segments()) {
			t.Errorf("account %+v: %v", s.Account, err)
		}
	})
}

// offered ≤ durable ≤ written, and no byte at or above the head ever changes below what was once offered.
func TestI2_DurableBytesNeverChange(t *testing.T) { inEach(t, durableBytesNeverChange) }

func durableBytesNeverChange(t *testing.T, kind recorder.Container) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: 31 * time.Second})
		r.cfg.Container = kind
		r.cfg.Segment, r.cfg.Once = 10*time.Second, true
		synced := map[string]int64{}
		r.room.Start(t.Context())
		r.start()
		was := map[segment.ID][]byte{}
		for {
			select {
			case p := <-r.ring:
				s := r.session()
				part := s.Parts[p.ID.Seq]
				name := r.dir.Abs(part.Path)
				if !p.Sealed {
					name += segment.PartSuffix
				}
				b, err := os.ReadFile(name)
				if errors.Is(err, fs.ErrNotExist) && !p.Sealed {
					continue // it was sealed while the bell rang
				}
				if err != nil {
					t.Fatal(err)
				}
				if int64(len(b)) < p.Durable {
					t.Fatalf("%s: %d bytes are offered, %d are there", p.ID, p.Durable, len(b))
				}
				if old := was[p.ID]; string(old) != string(b[min(part.Head, int64(len(b))):][:len(old)]) {
					t.Fatalf("%s: bytes that were offered have changed", p.ID)
				}
				if p.Durable > part.Head {
					was[p.ID] = slices.Clone(b[part.Head:p.Durable])
				}
				if p.Durable < synced[name] {
					t.Errorf("%s: the durable length shrinks", p.ID)
				}
				synced[name] = p.Durable
			case err := <-r.done:
				if err != nil {
					t.Fatal(err)
				}
				r.stop()
				if len(was) != 4 {
					t.Errorf("%d parts were offered", len(was))
				}
				return
			}
		}
	})
}

// One refused operation, whichever it is, costs at most the frames that were in the buffer, and says so.
func TestDiskRefusesOnce(t *testing.T) { inEach(t, diskRefusesOnce) }

func diskRefusesOnce(t *testing.T, kind recorder.Container) {
	run := func(t *testing.T, at int) (ops int) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, liveroom.Config{Duration: 13 * time.Second})
			r.cfg.Container = kind
			r.cfg.Segment, r.cfg.Once = 5*time.Second, true
			var mu sync.Mutex
			what := ""
			r.open(func(op durable.Op, name string) error {
				if !strings.HasPrefix(name, "media") {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				if ops++; ops == at {
					what = string(op) + " " + name
					return syscall.ENOSPC
				}
				return nil
			})
			r.room.Start(t.Context())
			r.start()
			r.wait()
			s := r.session()
			numbers := r.check(s, probe.Config) // a part may end after its first picture, before the first sound
			once(t, numbers)
			missing, told := holes(s, numbers)
			missing += time.Duration(numbers[0]) * time.Second / 30
			if missing > 8*time.Second || (missing-told).Abs() > 350*time.Millisecond {
				t.Errorf("%v are missing, %v are said to be: %v", missing, told, s.Gaps)
			}
			if err := s.Account.Check(); err != nil || s.Account.Written != total(s.Segments()) {
				t.Errorf("account %+v: %v, %d in the parts", s.Account, err, total(s.Segments()))
			}
			if !s.Left {
				t.Error("not left")
			}
			r.noOrphans()
			if t.Failed() {
				t.Fatalf("operation %d: %s; %v", at, what, s.Segments())
			}
		})
		return ops
	}
	all := run(t, 0)
	stride := 2
	if testing.Short() || raceDetector {
		stride = 11
	}
	for k := 1 + rand.IntN(stride); k <= all; k += stride {
		run(t, k)
		if t.Failed() {
			return
		}
	}
}
