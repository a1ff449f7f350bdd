package uploader_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
	"github.com/liverec/liverec/uploader/wrap"
)

var errRefused = &failure.Error{Op: "connect", Kind: failure.Transient, Err: errors.New("connection refused")}

// grow makes rooms parts of n bytes, each part lasting length, and rings every second. It never waits for the ring.
// It gives the moment at which each part was sealed.
func (h *house) grow(d *disk, r *run, rooms, parts, n int, length time.Duration, targets ...segment.TargetID) (sealed map[segment.ID]time.Time, dropped int) {
	sealed = map[segment.ID]time.Time{}
	for seq := 1; seq <= parts; seq++ {
		var segs []segment.Segment
		for room := range rooms {
			s := d.segment(h.t, fmt.Sprintf("01R%03d", room), uint32(seq), n)
			segs = append(segs, s)
			h.book.add(opened(s, 0), targets...)
		}
		for at := time.Second; at <= length; at += time.Second {
			time.Sleep(time.Second)
			for _, s := range segs {
				p := segment.Progress{ID: s.ID, Durable: int64(float64(n) * float64(at) / float64(length))}
				if at == length {
					h.book.add(s)
					p.Durable, p.Sealed = s.Size, true
					sealed[s.ID] = time.Now()
				} else {
					h.book.add(opened(s, p.Durable))
				}
				select {
				case r.in <- p:
				default:
					dropped++
				}
			}
		}
	}
	return sealed, dropped
}

func TestI5_DeadTargetSlowsNobody(t *testing.T) {
	for _, c := range []struct {
		name string
		fate wrap.Fate
	}{
		{"refuses connections", wrap.Fate{Err: errRefused}},
		{"hangs", wrap.Fate{Hang: true}},
		{"takes everything and loses every answer", wrap.Fate{Lost: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			synctest.Test(t, func(t *testing.T) {
				h := d.house(t)
				good, dead := targettest.NewRemote(chunked), targettest.NewRemote(chunked)
				seen := &once{remote: dead}
				h.book.acked = func(d segment.Delivery, a segment.Ack) {
					if d.Target == "dead" {
						seen.note(d, a)
					}
				}
				var calls atomic.Int64
				begin := time.Now()
				dead.Behave(func(wrap.Call) wrap.Fate {
					if at := time.Since(begin); at < time.Hour {
						if at > time.Hour/2 {
							calls.Add(1)
						}
						return c.fate
					}
					return wrap.Fate{}
				})
				good.Behave(func(wrap.Call) wrap.Fate { return wrap.Fate{Wait: 50 * time.Millisecond} })
				r := h.start(uploader.Config{}, wrap.NoProgress(good.Target("good"), 0), wrap.NoProgress(dead.Target("dead"), 0))

				late := time.Duration(0)
				sealed, dropped := h.grow(d, r, 20, 4, 1010, 15*time.Minute, "good", "dead")
				if dropped > 0 {
					t.Errorf("%d doorbells were dropped although nobody was busy", dropped)
				}
				for id, at := range sealed {
					p := h.book.row("good", id)
					if p.State != segment.Verified {
						if id.Seq < 4 {
							t.Errorf("%s is %s on the healthy target", id, p.State)
						}
						continue
					}
					late = max(late, p.Proof.At.Sub(at))
				}
				// 20 parts end at the same moment, each with 2 chunks, a commit and a verify at 50 ms, 3 at once.
				if late > 3*time.Second {
					t.Errorf("a part was proven %v after its seal", late)
				}
				stats := r.Stats()
				if stats[0].State != "ok" || stats[1].State != "unreachable" {
					t.Errorf("lanes are %s and %s", stats[0].State, stats[1].State)
				}
				if n := calls.Load(); n > 50 {
					t.Errorf("a dead target was called %d times in half an hour", n)
				}
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				if n := h.book.count(segment.Verified); n != 160 {
					t.Errorf("%d of 160 deliveries are proven three minutes after the target came back", n)
				}
				r.drain()
				h.whole(good, "good")
				h.whole(dead, "dead")
				seen.check(t)
			})
		})
	}
}

func TestEverybodyGoesOnWhenTheTargetIsBack(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		for i := range 8 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 500), mem)
		}
		remote := targettest.NewRemote(chunked)
		remote.Behave(func(c wrap.Call) wrap.Fate { return wrap.Fate{Err: errRefused} })
		r := h.start(uploader.Config{}, remote.Target(mem))
		time.Sleep(20*time.Minute + 500*time.Millisecond)
		remote.Behave(nil)
		for len(remote.Accepted()) == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		h.whole(remote, mem)
		r.drain()
	})
}

func TestLostDoorbellsAreHarmless(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		remote := targettest.NewRemote(chunked)
		r := h.start(uploader.Config{}, remote.Target(mem))
		synctest.Wait()
		s := d.segment(t, "01A", 1, 555)
		h.book.add(s, mem) // and nobody rings
		time.Sleep(31 * time.Second)
		synctest.Wait()
		h.whole(remote, mem)
		r.drain()
	})
}

// A part that was begun and taken back is begun again, maybe as another kind of file: it goes under its new name.
func TestNumberThatIsBegunAgain(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		remote := targettest.NewRemote(chunked)
		s := d.segment(t, "01A", 1, 555)
		h.book.add(opened(s, 0), mem)
		r := h.start(uploader.Config{}, remote.Target(mem))
		r.in <- segment.Progress{ID: s.ID, Durable: 0}
		time.Sleep(time.Second)
		synctest.Wait()
		h.book.mu.Lock()
		h.book.rows[pair{mem, s.ID}].Key = "01A/P0001.mp4"
		h.book.mu.Unlock()
		h.book.add(s)
		r.in <- segment.Progress{ID: s.ID, Durable: s.Size, Sealed: true}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if _, ok := remote.Object("01A/P0001.mp4"); !ok {
			t.Error("the part is not there under its new name")
		}
		if _, ok := remote.Object("01A/P0001.flv"); ok {
			t.Error("the part is there under its old name")
		}
		r.drain()
	})
}

func TestOpenSegmentIsOnItsWayAndTheHeadGoesOnceLast(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		remote := targettest.NewRemote(chunked)
		s := d.segment(t, "01A", 1, 1234)
		h.book.add(opened(s, 0), mem)
		r := h.start(uploader.Config{}, remote.Target(mem))
		for n := int64(0); n < s.Size; n += 10 {
			h.book.add(opened(s, n))
			r.in <- segment.Progress{ID: s.ID, Durable: n}
			time.Sleep(time.Second)
			synctest.Wait()
			if want := max(0, int(n/100)-1); len(remote.Accepted()) != want {
				t.Fatalf("%d chunks are away of %d bytes", len(remote.Accepted()), n)
			}
		}
		if _, ok := remote.Object("01A/P0001.flv"); ok {
			t.Fatal("half an object is to be seen")
		}
		h.book.add(s)
		r.in <- segment.Progress{ID: s.ID, Durable: s.Size, Sealed: true}
		synctest.Wait() // nothing waits for a timer
		h.whole(remote, mem)
		puts := remote.Accepted()
		if len(puts) != 13 || puts[11].Chunk.Index+puts[12].Chunk.Index != 12 {
			t.Errorf("%d chunks, the last ones are %+v", len(puts), puts[len(puts)-2:])
		}
		r.drain()
		if n := len(r.bad()); n > 0 || len(r.outcomes) != 1 {
			t.Errorf("outcomes: %+v", r.outcomes)
		}
	})
}

// TestTheEndWaitsForItsBytesOnly: at the seal the last chunk goes beside what is in flight, then the head; then complete
// and verify, and nothing waits for a timer, also where nobody had heard of the part before.
func TestTheEndWaitsForItsBytesOnly(t *testing.T) {
	const exchange = 100 * time.Millisecond
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint("known before ", known), func(t *testing.T) {
			d := newDisk(t)
			synctest.Test(t, func(t *testing.T) {
				h := d.house(t)
				remote := targettest.NewRemote(chunked)
				var mu sync.Mutex
				var begun []int
				remote.Behave(func(c wrap.Call) wrap.Fate {
					if c.Op == wrap.OpPut {
						mu.Lock()
						defer mu.Unlock()
						begun = append(begun, c.Chunk)
					}
					return wrap.Fate{Wait: exchange}
				})
				s := d.segment(t, "01A", 1, 350)
				if known {
					h.book.add(opened(s, 0), mem)
				}
				r := h.start(uploader.Config{}, remote.Target(mem))
				time.Sleep(exchange)
				want := 4 * exchange // open, put at once, commit, verify
				if known {
					h.book.add(opened(s, 200))
					r.in <- segment.Progress{ID: s.ID, Durable: 200}
					time.Sleep(2*exchange - time.Millisecond) // the first one is nearly away
					want = 4 * exchange                       // the last one, the head, commit, verify
				} else {
					want += exchange // three workers for four chunks
				}
				h.book.add(s, mem)
				sealed := time.Now()
				r.in <- segment.Progress{ID: s.ID, Durable: s.Size, Sealed: true}
				for h.book.count(segment.Verified) == 0 && time.Since(sealed) < time.Minute {
					time.Sleep(time.Millisecond)
				}
				if took := time.Since(sealed); took < want || took > want+5*time.Millisecond {
					t.Errorf("from the seal to the proof it took %v, not %v", took, want)
				}
				if len(begun) != 4 || begun[3] != 0 {
					t.Errorf("the chunks began in the order %v", begun)
				}
				h.whole(remote, mem)
				r.drain()
			})
		})
	}
}

// TestAcksAheadOfTheLedger: the ledger hears of the open part now and then only. After a restart a chunk that was
// acknowledged counts, also where the ledger does not know yet that its bytes are durable.
func TestAcksAheadOfTheLedger(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		remote := targettest.NewRemote(chunked)
		seen := &once{remote: remote}
		seen.watch(h.book)
		s := d.segment(t, "01A", 1, 555)
		h.book.add(opened(s, 100), mem)
		r := h.start(uploader.Config{}, remote.Target(mem))
		r.in <- segment.Progress{ID: s.ID, Durable: 450}
		time.Sleep(2 * time.Second)
		r.in <- segment.Progress{ID: s.ID, Durable: 450}
		time.Sleep(time.Second)
		if n := len(h.book.row(mem, s.ID).Acks); n != 3 {
			t.Fatalf("%d chunks are acknowledged", n)
		}
		r.kill()
		r = h.start(uploader.Config{}, remote.Target(mem))
		time.Sleep(5 * time.Second)
		h.book.add(s)
		r.in <- segment.Progress{ID: s.ID, Durable: s.Size, Sealed: true}
		time.Sleep(time.Second)
		r.drain()
		h.whole(remote, mem)
		seen.check(t)
		if n := len(remote.Accepted()); n != 6 {
			t.Errorf("%d chunks were sent", n)
		}
	})
}

func TestThrottledLaneKeepsStill(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		for i := range 5 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 500), mem)
		}
		remote := targettest.NewRemote(chunked)
		begin := time.Now()
		var at []time.Duration
		remote.Behave(func(c wrap.Call) wrap.Fate {
			if c.Op == wrap.OpPut && time.Since(begin) < 100*time.Second {
				at = append(at, time.Since(begin)) // one at a time from the second on
				return wrap.Fate{Err: &failure.Error{Op: "put", Kind: failure.Throttled, Code: "503 SlowDown", RetryAfter: 40 * time.Second}}
			}
			return wrap.Fate{}
		})
		r := h.start(uploader.Config{Uploads: 1}, remote.Target(mem))
		time.Sleep(time.Second)
		if s := r.Stats()[0]; s.State != "throttled" || !strings.Contains(s.Error, "503") || s.Retries["throttled"] != 1 {
			t.Errorf("the lane says %+v", s)
		}
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if want := []time.Duration{0, 40 * time.Second, 80 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("tried at %v, not %v", at, want)
		}
		h.whole(remote, mem)
		if s := r.Stats()[0]; s.State != "ok" || s.Error != "" || s.Sent != 2500 {
			t.Errorf("the lane says %+v", s)
		}
		r.drain()
	})
}

// A target that says how long to wait is asked again then, however often it says so.
func TestThrottledKeepsToTheTargetsOwnPatience(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(d.segment(t, "01A", 1, 500), mem)
		remote := targettest.NewRemote(chunked)
		begin := time.Now()
		var at, want []time.Duration
		for i := range 12 {
			want = append(want, time.Duration(i)*2*time.Second)
		}
		remote.Behave(func(c wrap.Call) wrap.Fate {
			if c.Op == wrap.OpOpen && len(at) < len(want) {
				at = append(at, time.Since(begin))
				return wrap.Fate{Err: &failure.Error{Op: "open", Kind: failure.Throttled, Code: "503 SlowDown", RetryAfter: 2 * time.Second}}
			}
			return wrap.Fate{}
		})
		r := h.start(uploader.Config{Uploads: 1}, remote.Target(mem))
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(at, want) {
			t.Errorf("tried at %v, not %v", at, want)
		}
		h.whole(remote, mem)
		r.drain()
	})
}

func TestRefusalParksAndComesBack(t *testing.T) {
	d := newDisk(t)
	dead := &failure.Error{Op: "put", Kind: failure.NeedsHuman, Code: "403 InvalidAccessKeyId", Hint: "Look at AWS_ACCESS_KEY_ID."}
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := d.house(t)
				for i := range 6 {
					h.book.add(d.segment(t, "01A", uint32(i+1), 500), mem)
				}
				h.book.add(opened(d.segment(t, "01B", 1, 500), 0), mem)
				remote := targettest.NewRemote(chunked)
				var healed atomic.Bool
				var checks atomic.Int64
				remote.Behave(func(c wrap.Call) wrap.Fate {
					switch {
					case healed.Load():
					case c.Op == wrap.OpCheck:
						checks.Add(1)
						return wrap.Fate{Err: dead}
					case c.Op == wrap.OpPut && c.Key == "01A/P0002.flv":
						return wrap.Fate{Err: dead}
					}
					return wrap.Fate{Wait: 10 * time.Millisecond}
				})
				r := h.start(uploader.Config{}, remote.Target(mem))
				time.Sleep(10*time.Minute + time.Second)
				synctest.Wait()
				if n := h.book.count(segment.Parked); n < 4 {
					t.Errorf("%d parts are parked", n)
				}
				if n := h.book.count(segment.Due); n != 1 {
					t.Errorf("%d parts are due: only the open one has no need to be parked", n)
				}
				if bad := r.bad(); len(bad) != 1 || failure.KindOf(bad[0].Err) != failure.NeedsHuman {
					t.Errorf("one refusal is one outcome, not %+v", bad)
				}
				if n := checks.Load(); n != 10 {
					t.Errorf("%d checks in ten minutes", n)
				}
				if s := r.Stats()[0]; s.State != "refused" || !strings.Contains(s.Error, "AWS_ACCESS_KEY_ID") {
					t.Errorf("the lane says %+v", s)
				}
				healed.Store(true)
				if restart {
					r.kill()
					r = h.start(uploader.Config{}, remote.Target(mem)) // `liverec resume` asks at once
				} else {
					time.Sleep(time.Minute)
				}
				time.Sleep(5 * time.Second)
				if n := h.book.count(segment.Verified); n != 6 {
					t.Errorf("%d of 6 are proven after the cure", n)
				}
				h.book.add(d.segment(t, "01B", 1, 500))
				r.drain()
				h.whole(remote, mem)
			})
		})
	}
}

func TestRefusedLaneEndsTheSoftStop(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(d.segment(t, "01A", 1, 500), mem)
		h.book.add(d.segment(t, "01A", 2, 500), mem)
		remote := targettest.NewRemote(chunked)
		remote.Behave(func(wrap.Call) wrap.Fate {
			return wrap.Fate{Err: &failure.Error{Op: "call", Kind: failure.NeedsHuman}}
		})
		for range 2 { // the second one finds them parked
			begin := time.Now()
			r := h.start(uploader.Config{}, remote.Target(mem))
			r.drain()
			if took := time.Since(begin); took > time.Second {
				t.Errorf("only a person can help, and it waited %v", took)
			}
			if n, bytes := r.Left(); n != 2 || bytes != 1000 {
				t.Errorf("left: %d segments, %d bytes", n, bytes)
			}
			if n := h.book.count(segment.Parked); n != 2 {
				t.Errorf("%d are parked", n)
			}
		}
		h.legal()
	})
}

func TestPermanentParksOneAndOthersGoOn(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		for i := range 4 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 500), mem)
		}
		remote := targettest.NewRemote(chunked)
		tries := 0
		remote.Behave(func(c wrap.Call) wrap.Fate {
			if c.Op == wrap.OpOpen && c.Key == "01A/P0002.flv" {
				if tries++; tries < 3 {
					return wrap.Fate{Err: &failure.Error{Op: "open", Kind: failure.Permanent, Code: "400"}}
				}
			}
			return wrap.Fate{}
		})
		r := h.start(uploader.Config{}, remote.Target(mem))
		synctest.Wait()
		if v, p := h.book.count(segment.Verified), h.book.count(segment.Parked); v != 3 || p != 1 {
			t.Errorf("%d proven, %d parked", v, p)
		}
		if bad := r.bad(); len(bad) != 1 || bad[0].ID.Seq != 2 {
			t.Errorf("outcomes: %+v", bad)
		}
		time.Sleep(2*time.Hour + time.Minute) // it is tried once more each hour
		synctest.Wait()
		h.whole(remote, mem)
		r.drain()
	})
}

func TestOneThatAlwaysFailsSlowsNobody(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		for i := range 30 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 1000), mem)
		}
		remote := targettest.NewRemote(chunked)
		var tries atomic.Int64
		remote.Behave(func(c wrap.Call) wrap.Fate {
			if c.Op == wrap.OpPut && c.Key == "01A/P0001.flv" && c.Chunk == 4 {
				tries.Add(1)
				return wrap.Fate{Wait: time.Second, Err: errRefused}
			}
			return wrap.Fate{Wait: time.Second}
		})
		begin := time.Now()
		r := h.start(uploader.Config{}, remote.Target(mem))
		// 29 parts of 10 chunks, an open, a commit and a verify each, 3 at once, a second each.
		ideal := time.Duration(29*13/3) * time.Second
		for h.book.count(segment.Verified) < 29 && time.Since(begin) < time.Hour {
			time.Sleep(time.Second)
		}
		if took := time.Since(begin); took > ideal*115/100 {
			t.Errorf("the others took %v, without it they take %v", took, ideal)
		}
		time.Sleep(time.Hour)
		if n := tries.Load(); n < 50 || n > 120 {
			t.Errorf("tried %d times in about an hour", n)
		}
		remote.Behave(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		h.whole(remote, mem)
		r.drain()
	})
}

func TestStoreThatLies(t *testing.T) {
	for _, c := range []struct {
		name  string
		act   func(r *targettest.Remote)
		puts  int // at the most, for 3 parts of 6 chunks
		again int // how often a delivery begins anew
	}{
		{"keeps a wrong byte once", func(r *targettest.Remote) {
			n := 0
			r.Rot(func(key string, chunk int) bool {
				if chunk == 3 {
					n++
				}
				return chunk == 3 && n == 1
			})
		}, 24, 1},
		{"lists late", func(r *targettest.Remote) { r.ListLate(10 * time.Second) }, 18, 0},
		{"lists very late", func(r *targettest.Remote) { r.ListLate(25 * time.Second) }, 18, 0},
		{"every answer is lost once", func(r *targettest.Remote) {
			r.Behave(func(c wrap.Call) wrap.Fate { return wrap.Fate{Lost: c.Nth == 1} })
		}, 36, 0},
		{"every body breaks off once", func(r *targettest.Remote) {
			r.Behave(func(c wrap.Call) wrap.Fate { return wrap.Fate{Cut: c.Nth == 1} })
		}, 18, 0},
		{"every chunk arrives wrong once", func(r *targettest.Remote) {
			r.Behave(func(c wrap.Call) wrap.Fate { return wrap.Fate{Flip: c.Nth == 1} })
		}, 36, 0},
		{"hangs at every call once", func(r *targettest.Remote) {
			r.Behave(func(c wrap.Call) wrap.Fate { return wrap.Fate{Hang: c.Nth == 1} })
		}, 18, 0},
		{"503 at every call once", func(r *targettest.Remote) {
			r.Behave(func(c wrap.Call) wrap.Fate {
				if c.Nth > 1 {
					return wrap.Fate{}
				}
				return wrap.Fate{Err: &failure.Error{Kind: failure.Throttled, RetryAfter: 3 * time.Second}}
			})
		}, 18, 0},
		{"every other call fails", func(r *targettest.Remote) {
			r.Behave(func(c wrap.Call) wrap.Fate {
				if c.Nth%2 == 1 {
					return wrap.Fate{Err: errRefused}
				}
				return wrap.Fate{}
			})
		}, 18, 0},
		{"forgets its uploads", func(r *targettest.Remote) {
			n := 0
			r.Behave(func(c wrap.Call) wrap.Fate {
				if c.Op == wrap.OpPut && c.Chunk == 4 {
					if n++; n <= 2 {
						r.Forget()
					}
				}
				return wrap.Fate{}
			})
		}, 36, -1},
		{"forgets a chunk before the commit", func(r *targettest.Remote) {
			r.Behave(func(c wrap.Call) wrap.Fate {
				if c.Op == wrap.OpCommit && c.Nth == 1 {
					r.ForgetChunk(c.Key, 2)
				}
				return wrap.Fate{}
			})
		}, 21, 0},
		{"loses the object after the commit", func(r *targettest.Remote) {
			r.Behave(func(c wrap.Call) wrap.Fate {
				if c.Op == wrap.OpVerify && c.Nth == 1 {
					r.Lose(c.Key)
				}
				return wrap.Fate{}
			})
		}, 36, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			synctest.Test(t, func(t *testing.T) {
				h := d.house(t)
				for i := range 3 {
					h.book.add(d.segment(t, "01A", uint32(i+1), 555), mem)
				}
				remote := targettest.NewRemote(chunked)
				c.act(remote)
				seen := &once{remote: remote}
				seen.watch(h.book)
				r := h.start(uploader.Config{}, wrap.NoProgress(remote.Target(mem), 0))
				begin := time.Now()
				h.settle()
				r.drain()
				h.whole(remote, mem)
				if c.name != "forgets a chunk before the commit" {
					seen.check(t)
				}
				if n := len(remote.Accepted()); n > c.puts {
					t.Errorf("%d chunks were sent", n)
				}
				if n := h.book.times("again"); c.again >= 0 && n != c.again {
					t.Errorf("%d deliveries began anew", n)
				}
				if took := time.Since(begin); took > 10*time.Minute {
					t.Errorf("it took %v", took)
				}
				if len(r.bad()) > 0 {
					t.Errorf("outcomes: %+v", r.bad())
				}
			})
		})
	}
}

func TestStoreThatRotsForEverParks(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(d.segment(t, "01A", 1, 555), mem)
		h.book.add(d.segment(t, "01A", 2, 555), mem)
		remote := targettest.NewRemote(chunked)
		remote.Rot(func(key string, chunk int) bool { return strings.Contains(key, "P0001") })
		r := h.start(uploader.Config{}, remote.Target(mem))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		row := h.book.row(mem, segment.ID{Session: "01A", Seq: 1})
		if row.State != segment.Parked || !strings.Contains(row.Why, "3 times in a row") {
			t.Errorf("it is %s: %s", row.State, row.Why)
		}
		if n := len(remote.Accepted()); n != 3*6+6 {
			t.Errorf("%d chunks were sent", n)
		}
		if bad := r.bad(); len(bad) != 1 || !errors.Is(bad[0].Err, failure.ErrDamaged) || failure.Hint(bad[0].Err) == "" {
			t.Errorf("outcomes: %+v", bad)
		}
		if h.book.count(segment.Verified) != 1 {
			t.Error("the other one is not proven")
		}
		r.drain()
		h.legal()
	})
}

func TestRestartKnowsWhatTheStoreHas(t *testing.T) {
	d := newDisk(t)
	id := segment.ID{Session: "01A", Seq: 1}
	for _, c := range []struct {
		name    string
		between func(h *house, r *targettest.Remote)
		puts    int
	}{
		{"nothing happens", func(*house, *targettest.Remote) {}, 6},
		{"the ledger does not know of one", func(h *house, r *targettest.Remote) {
			row := h.book.rows[pair{mem, id}]
			row.Acks = row.Acks[:len(row.Acks)-1]
		}, 6},
		{"one arrived wrong and its answer was lost", func(h *house, r *targettest.Remote) {
			row := h.book.rows[pair{mem, id}]
			row.Acks = row.Acks[:len(row.Acks)-1]
			up, _, err := r.Target(mem).Resume(context.Background(), segment.Object{ID: id, Key: row.Key}, row.Token)
			if err != nil {
				h.t.Fatal(err)
			}
			c := segment.Chunk{Index: 4, Offset: 400, Length: 100}
			if _, err := up.Put(context.Background(), c, strings.NewReader(strings.Repeat("x", 100))); err != nil {
				h.t.Fatal(err)
			}
		}, 8},
		{"the store has lost one", func(h *house, r *targettest.Remote) { r.ForgetChunk("01A/P0001.flv", 2) }, 7},
		{"the upload has expired", func(h *house, r *targettest.Remote) { r.Forget() }, 6 + 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := d.house(t)
				s := d.segment(t, "01A", 1, 555)
				h.book.add(opened(s, 510), mem)
				remote := targettest.NewRemote(chunked)
				r := h.start(uploader.Config{}, remote.Target(mem))
				synctest.Wait()
				if n := len(remote.Accepted()); n != 4 {
					t.Fatalf("%d chunks are away", n)
				}
				r.kill()
				c.between(h, remote)
				r = h.start(uploader.Config{}, remote.Target(mem))
				synctest.Wait()
				h.book.add(s)
				r.drain()
				h.whole(remote, mem)
				if n := len(remote.Accepted()); n != c.puts {
					t.Errorf("%d chunks were sent, not %d", n, c.puts)
				}
			})
		})
	}
}

func TestFoundCompleteLeavesNoUploadBehind(t *testing.T) {
	d := newDisk(t)
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("running=%v", running), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := d.house(t)
				s := d.segment(t, "01A", 1, 555)
				h.book.add(s, mem)
				remote := targettest.NewRemote(chunked)
				n := 0
				remote.Behave(func(c wrap.Call) wrap.Fate {
					switch {
					case c.Op == wrap.OpVerify && n < 3: // the object is there, and is denied
						n++
						return wrap.Fate{Err: &failure.Error{Op: "verify", Err: failure.ErrDamaged}}
					case c.Op == wrap.OpCommit && len(remote.Commits()) == 1:
						return wrap.Fate{Err: errRefused}
					case c.Op == wrap.OpAbort && c.Nth == 2:
						return wrap.Fate{Err: errRefused}
					}
					return wrap.Fate{}
				})
				r := h.start(uploader.Config{}, remote.Target(mem))
				if !running {
					time.Sleep(500 * time.Millisecond)
					r.kill()
					r = h.start(uploader.Config{}, remote.Target(mem))
				}
				time.Sleep(5 * time.Minute)
				h.whole(remote, mem)
				r.drain()
			})
		})
	}
}

func TestSoftStopFinishesWhatIsSealed(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		for i := range 10 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 555), mem)
		}
		open := d.segment(t, "01A", 11, 999)
		h.book.add(opened(open, 500), mem)
		remote := targettest.NewRemote(chunked)
		remote.Behave(func(wrap.Call) wrap.Fate { return wrap.Fate{Wait: 100 * time.Millisecond} })
		r := h.start(uploader.Config{}, remote.Target(mem))
		time.Sleep(50 * time.Millisecond)
		r.drain()
		if n := h.book.count(segment.Verified); n != 10 {
			t.Errorf("%d of 10 are proven", n)
		}
		if n, bytes := r.Left(); n != 1 || bytes != 500 {
			t.Errorf("left: %d segments, %d bytes", n, bytes)
		}
		h.legal()
	})
}

func TestHardStopEndsEverything(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		for i := range 10 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 555), mem)
		}
		remote := targettest.NewRemote(chunked)
		remote.Behave(func(c wrap.Call) wrap.Fate { return wrap.Fate{Hang: c.Op == wrap.OpPut} })
		r := h.start(uploader.Config{}, wrap.NoProgress(remote.Target(mem), 0))
		time.Sleep(time.Second)
		begin := time.Now()
		close(r.in)
		time.AfterFunc(20*time.Second, r.cancel) // --stop-grace
		<-r.done
		if took := time.Since(begin); took != 20*time.Second {
			t.Errorf("it took %v", took)
		}
		if n, bytes := r.Left(); n != 10 || bytes != 5550 {
			t.Errorf("left: %d segments, %d bytes", n, bytes)
		}
		if r.err != nil {
			t.Error(r.err)
		}
		h.legal()
	})
}

func TestSoftStopAndADeadTarget(t *testing.T) {
	d := newDisk(t)
	for _, open := range []bool{false, true} {
		t.Run(fmt.Sprintf("doorbells go on %v", open), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := d.house(t)
				h.book.add(d.segment(t, "01A", 1, 555), mem)
				remote := targettest.NewRemote(chunked)
				begin := time.Now()
				remote.Behave(func(wrap.Call) wrap.Fate {
					if time.Since(begin) < 10*time.Minute {
						return wrap.Fate{Err: errRefused}
					}
					return wrap.Fate{}
				})
				r := h.start(uploader.Config{}, remote.Target(mem))
				if open {
					h.settle()
				}
				r.drain()
				took := time.Since(begin)
				if !open && took > time.Minute {
					t.Errorf("it waited %v for a dead target", took)
				}
				if open {
					h.whole(remote, mem)
					if took > 12*time.Minute {
						t.Errorf("it took %v", took)
					}
				}
			})
		})
	}
}

// TestRetriesTellOfBlips: what a decorator heals within seconds is weather too, and people are to see it.
func TestRetriesTellOfBlips(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(d.segment(t, "01A", 1, 555), mem)
		remote := targettest.NewRemote(chunked)
		puts := 0
		remote.Behave(func(c wrap.Call) wrap.Fate {
			if c.Op != wrap.OpPut {
				return wrap.Fate{}
			}
			if puts++; puts == 1 || puts == 2 {
				return wrap.Fate{Err: errRefused}
			}
			return wrap.Fate{}
		})
		r := h.start(uploader.Config{Uploads: 1}, wrap.Stack(remote.Target(mem), limit.NewBytes(0), 0, func(int) {}))
		r.drain()
		h.whole(remote, mem)
		if got := r.Stats()[0].Retries; len(got) != 1 || got["blip"] != 2 {
			t.Errorf("retries: %v", got)
		}
	})
}

func TestNoRecordNoAct(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		for i := range 3 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 555), mem)
		}
		remote := targettest.NewRemote(chunked)
		var calls atomic.Int64
		full := errors.New("database or disk is full")
		remote.Behave(func(c wrap.Call) wrap.Fate {
			if c.Op == wrap.OpPut && calls.Add(1) == 4 {
				h.book.mu.Lock()
				h.book.fail = full
				h.book.mu.Unlock()
			}
			return wrap.Fate{Wait: time.Millisecond}
		})
		r := h.start(uploader.Config{}, remote.Target(mem))
		time.Sleep(10 * time.Minute)
		if n := calls.Load(); n > 4+3 {
			t.Errorf("%d chunks were sent without a record", n-4)
		}
		h.book.mu.Lock()
		if n := h.book.dues; n > 40 {
			t.Errorf("the ledger was asked %d times", n)
		}
		h.book.fail = nil
		h.book.mu.Unlock()
		time.Sleep(90 * time.Second)
		synctest.Wait()
		h.whole(remote, mem)
		r.drain()
	})
}

func TestLocalFileIsGone(t *testing.T) {
	d := newDisk(t)
	s := d.segment(t, "01A", 1, 555)
	short := d.segment(t, "01A", 2, 555)
	if err := os.Remove(d.dir.Abs(s.Path)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.dir.Abs(short.Path), 320); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(s, mem)
		h.book.add(short, mem)
		h.book.add(d.segment(t, "01A", 3, 555), mem)
		remote := targettest.NewRemote(chunked)
		r := h.start(uploader.Config{}, remote.Target(mem))
		time.Sleep(time.Minute)
		if row := h.book.row(mem, s.ID); row.State != segment.Parked || !strings.Contains(row.Why, "no such file") {
			t.Errorf("the one that is gone is %s: %s", row.State, row.Why)
		}
		if row := h.book.row(mem, short.ID); row.State != segment.Uploading || len(row.Acks) != 2 {
			t.Errorf("the one that is too short is %s with %d acks", row.State, len(row.Acks))
		}
		if h.book.count(segment.Verified) != 1 {
			t.Error("the third one is not proven")
		}
		if s := r.Stats()[0]; s.State != "ok" {
			t.Errorf("our own trouble made the target %s", s.State)
		}
		r.kill()
		h.legal()
	})
}

// A target that takes whole parts opens them itself, and may take a file that is not there for weather.
func TestLocalFileOfAWholePartIsGone(t *testing.T) {
	d := newDisk(t)
	s := d.segment(t, "01A", 1, 555)
	if err := os.Remove(d.dir.Abs(s.Path)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(s, mem)
		h.book.add(d.segment(t, "01A", 2, 555), mem)
		remote := targettest.NewRemote(uploader.Limits{Parallel: 2})
		r := h.start(uploader.Config{}, remote.Target(mem))
		time.Sleep(time.Minute)
		if row := h.book.row(mem, s.ID); row.State != segment.Parked || !strings.Contains(row.Why, "local file") || !strings.Contains(row.Why, "no such file") {
			t.Errorf("the one that is gone is %s: %s", row.State, row.Why)
		}
		if h.book.count(segment.Verified) != 1 {
			t.Error("the other one is not proven")
		}
		if s := r.Stats()[0]; s.State != "ok" {
			t.Errorf("our own trouble made the target %s", s.State)
		}
		r.drain()
		h.legal()
	})
}

func TestFilesAreClosedWhenTheyAreProven(t *testing.T) {
	d := newDisk(t)
	ours := func() (n int) {
		links, err := filepath.Glob("/proc/self/fd/*")
		if err != nil || len(links) == 0 {
			t.Skip("cannot see which files are open here")
		}
		for _, l := range links {
			if name, err := os.Readlink(l); err == nil && strings.HasPrefix(name, d.dir.Path()+"/media") {
				n++
			}
		}
		return n
	}
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(d.segment(t, "01A", 1, 555), "one", "two")
		slow := d.segment(t, "01A", 2, 555)
		h.book.add(opened(slow, 220), "one", "two")
		one, two := targettest.NewRemote(chunked), targettest.NewRemote(chunked)
		r := h.start(uploader.Config{}, one.Target("one"), two.Target("two"))
		synctest.Wait()
		if n := ours(); n != 1 {
			t.Errorf("%d files are open, one for two lanes", n)
		}
		h.book.add(slow)
		r.in <- segment.Progress{ID: slow.ID, Durable: slow.Size, Sealed: true}
		synctest.Wait()
		if n := ours(); n != 0 {
			t.Errorf("%d files are open although all is proven: they would keep their room on the disk", n)
		}
		r.drain()
	})
}

func TestOpenFileSurvivesTheSeal(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		s := d.segment(t, "01A", 1, 555)
		part := d.dir.Abs(s.Path + segment.PartSuffix)
		if err := os.Rename(d.dir.Abs(s.Path), part); err != nil {
			t.Fatal(err)
		}
		h.book.add(opened(s, 400), "chunks", "whole")
		remote, whole := targettest.NewRemote(chunked), targettest.NewRemote(uploader.Limits{Parallel: 1})
		r := h.start(uploader.Config{}, remote.Target("chunks"), whole.Target("whole"))
		synctest.Wait()
		if n := len(remote.Accepted()); n != 3 {
			t.Errorf("%d chunks are away", n)
		}
		if err := os.Rename(part, d.dir.Abs(s.Path)); err != nil {
			t.Fatal(err)
		}
		h.book.add(s)
		r.in <- segment.Progress{ID: s.ID, Durable: s.Size, Sealed: true}
		synctest.Wait()
		h.whole(remote, "chunks")
		h.whole(whole, "whole")
		r.drain()
	})
}

// panics is a target with a fault of its own.
type panics struct {
	uploader.Target
	n atomic.Int64
}

func (p *panics) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	if p.n.Add(1) == 1 {
		panic("index out of range")
	}
	return p.Target.Open(ctx, o)
}

func TestPanicOfATargetIsAnError(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(d.segment(t, "01A", 1, 555), mem)
		remote := targettest.NewRemote(chunked)
		r := h.start(uploader.Config{}, &panics{Target: remote.Target(mem)})
		time.Sleep(time.Minute)
		synctest.Wait()
		h.whole(remote, mem)
		r.drain()
	})
}

func TestStats(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(d.segment(t, "01A", 1, 30_000), mem)
		remote := targettest.NewRemote(chunked)
		remote.Behave(func(c wrap.Call) wrap.Fate { return wrap.Fate{Wait: 300 * time.Millisecond} })
		r := h.start(uploader.Config{Uploads: 3}, remote.Target(mem))
		time.Sleep(20*time.Second + 50*time.Millisecond)
		s := r.Stats()[0]
		if s.InFlight != 3 || s.Rate < 900 || s.Rate > 1100 || s.Sent < 19_000 || s.Sent > 20_000 || !s.Required || s.Target != mem {
			t.Errorf("3 chunks of 100 bytes in 0.3 s: %+v", s)
		}
		r.drain()
		time.Sleep(12 * time.Second)
		if s := r.Stats()[0]; s.InFlight != 0 || s.Rate != 0 || s.Sent != 30_000 {
			t.Errorf("at rest: %+v", s)
		}
	})
}

func TestVerifyAsksAnew(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		s := d.segment(t, "01A", 1, 555)
		h.book.add(s, mem)
		remote := targettest.NewRemote(chunked)
		h.start(uploader.Config{}, remote.Target(mem)).drain()
		row := h.book.row(mem, s.ID)
		if p, err := uploader.Verify(t.Context(), remote.Target(mem), row); err != nil || p.Size != 555 {
			t.Errorf("%+v, %v", p, err)
		}
		remote.Damage(row.Key)
		if _, err := uploader.Verify(t.Context(), remote.Target(mem), row); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("damaged: %v", err)
		}
		remote.Lose(row.Key)
		if _, err := uploader.Verify(t.Context(), remote.Target(mem), row); !errors.Is(err, failure.ErrAbsent) {
			t.Errorf("lost: %v", err)
		}
		row.Segment.Sealed = false
		if _, err := uploader.Verify(t.Context(), remote.Target(mem), row); err == nil {
			t.Error("an open segment was proven")
		}
	})
}

func TestNewRefuses(t *testing.T) {
	d := newDisk(t)
	target := targettest.NewRemote(chunked).Target(mem)
	tiny := targettest.NewRemote(uploader.Limits{MinChunk: 1, MaxChunk: 10, MaxChunks: 10, Parallel: 1}).Target("tiny")
	for _, c := range []struct {
		name string
		cfg  uploader.Config
		deps uploader.Deps
	}{
		{"no journal", uploader.Config{}, uploader.Deps{Dir: d.dir}},
		{"no folder", uploader.Config{}, uploader.Deps{Journal: newBook()}},
		{"uploads below one", uploader.Config{Uploads: -1}, uploader.Deps{Journal: newBook(), Dir: d.dir}},
		{"negative size", uploader.Config{MaxSize: -1}, uploader.Deps{Journal: newBook(), Dir: d.dir}},
		{"no target", uploader.Config{}, uploader.Deps{Journal: newBook(), Dir: d.dir, Targets: []uploader.Destination{{}}}},
		{"twice", uploader.Config{}, uploader.Deps{Journal: newBook(), Dir: d.dir, Targets: []uploader.Destination{{Target: target}, {Target: target}}}},
		{"parts too large for the target", uploader.Config{MaxSize: 101}, uploader.Deps{Journal: newBook(), Dir: d.dir, Targets: []uploader.Destination{{Target: tiny}}}},
	} {
		if _, err := uploader.New(c.cfg, c.deps); err == nil {
			t.Errorf("%s: taken", c.name)
		}
	}
}
