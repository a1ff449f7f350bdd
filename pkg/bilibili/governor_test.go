package bilibili_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/failure"
)

// refused is what the service says with a code.
func refused(code int64) error {
	s := bilitest.Unplugged()
	s.Fault("*", bilitest.Fault{Code: code})
	err := client(s, nil).Do(context.Background(), bilibili.Call{Op: "submit", URL: nav}, nil)
	if bilibili.CodeOf(err) != code {
		panic(err)
	}
	return err
}

func governor(t *testing.T, p bilibili.Pace) *bilibili.Governor {
	t.Helper()
	_, a := login(t, bilitest.Unplugged())
	return a.Governor(p, zerolog.Nop())
}

// turns waits for n turns and gives the times from now on.
func turns(t *testing.T, g *bilibili.Governor, class bilibili.Class, n int) []time.Duration {
	t.Helper()
	begun := time.Now()
	var at []time.Duration
	for range n {
		if err := g.Wait(t.Context(), class); err != nil {
			t.Fatal(err)
		}
		at = append(at, time.Since(begun).Round(time.Second))
	}
	return at
}

func TestPace(t *testing.T) {
	const s, m = time.Second, time.Minute
	for _, c := range []struct {
		name  string
		pace  bilibili.Pace
		class bilibili.Class
		want  []time.Duration
	}{
		{"submissions", bilibili.Pace{}, bilibili.Submission, []time.Duration{0, 3 * m, 6 * m, 9 * m}},
		{"submissions of another interval", bilibili.Pace{Interval: 20 * s}, bilibili.Submission, []time.Duration{0, 20 * s, 40 * s}},
		{"preuploads", bilibili.Pace{}, bilibili.Preupload, []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3 * m, 6 * m, 9 * m}},
		{"preuploads of a small burst", bilibili.Pace{Interval: 10 * s, Burst: 2}, bilibili.Preupload, []time.Duration{0, 0, 10 * s, 20 * s}},
		{"no interval", bilibili.Pace{Interval: -1}, bilibili.Submission, []time.Duration{0, 0, 0}},
		{"questions", bilibili.Pace{}, bilibili.Question, []time.Duration{0, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := turns(t, governor(t, c.pace), c.class, len(c.want)); !slices.Equal(got, c.want) {
					t.Errorf("turns at %v, want %v", got, c.want)
				}
			})
		})
	}
}

// A bucket fills up again, and not beyond its brim.
func TestPreuploadsAreRefilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := governor(t, bilibili.Pace{Interval: time.Minute, Burst: 3})
		turns(t, g, bilibili.Preupload, 3)
		time.Sleep(2 * time.Minute)
		if got := turns(t, g, bilibili.Preupload, 3); !slices.Equal(got, []time.Duration{0, 0, time.Minute}) {
			t.Errorf("after two minutes: %v", got)
		}
		time.Sleep(time.Hour)
		if got := turns(t, g, bilibili.Preupload, 4); !slices.Equal(got, []time.Duration{0, 0, 0, time.Minute}) {
			t.Errorf("after an hour: %v", got)
		}
	})
}

// Rooms of one process and other processes share one pace: the same file, one account object each.
func TestPaceIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a := login(t, bilitest.Unplugged())
		var mu sync.Mutex
		var at []time.Time
		var wg sync.WaitGroup
		for range 4 {
			own, err := bilibili.OpenAccount(a.Path())
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // two rooms of one process
				g := own.Governor(bilibili.Pace{}, zerolog.Nop())
				wg.Go(func() {
					for range 3 {
						if err := g.Wait(t.Context(), bilibili.Submission); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						at = append(at, time.Now())
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
		slices.SortFunc(at, time.Time.Compare)
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < 3*time.Minute {
				t.Errorf("turn %d came %v after the one before", i, d)
			}
		}
		if total := at[len(at)-1].Sub(at[0]); len(at) != 24 || total > 24*(3*time.Minute+time.Minute) {
			t.Errorf("%d turns took %v", len(at), total)
		}
	})
}

// Which class is held back by which refusal, for how long, and how it grows.
func TestHolds(t *testing.T) {
	const none = time.Duration(0)
	for _, c := range []struct {
		code                            int64
		class                           bilibili.Class
		preupload, submission, question time.Duration // waits after the first refusal
		series                          []time.Duration
		hint                            string
	}{
		{601, bilibili.Preupload, 15 * time.Minute, 15 * time.Minute, none, []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 8 * time.Hour}, "by hand"},
		{406, bilibili.Preupload, 15 * time.Minute, 15 * time.Minute, none, nil, "by hand"},
		{601, bilibili.Submission, 15 * time.Minute, 15 * time.Minute, none, nil, "by hand"},
		{21566, bilibili.Submission, none, time.Hour, none, []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 16 * time.Hour, 24 * time.Hour}, "phone app"},
		{137022, bilibili.Submission, none, 2 * time.Hour, none, nil, "by hand"},
		{21070, bilibili.Submission, none, 30 * time.Second, none, []time.Duration{30 * time.Second, time.Minute}, ""},
		{21564, bilibili.Submission, none, 24 * time.Hour, none, []time.Duration{24 * time.Hour, 24 * time.Hour}, ""},
		{21515, bilibili.Submission, 12 * time.Hour, 12 * time.Hour, none, nil, ""},
		{-412, bilibili.Question, 2 * time.Minute, 2 * time.Minute, 2 * time.Minute, []time.Duration{2 * time.Minute, 4 * time.Minute}, "address"},
		{-352, bilibili.Submission, 5 * time.Minute, 5 * time.Minute, 5 * time.Minute, []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, 30 * time.Minute}, ""},
		{-101, bilibili.Submission, none, none, none, nil, ""},
		{21015, bilibili.Submission, none, none, none, nil, ""},
		{4711, bilibili.Submission, none, none, none, nil, ""},
	} {
		t.Run(fmt.Sprint(c.code, " ", c.class), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := governor(t, bilibili.Pace{Interval: -1})
				no := refused(c.code)
				err := g.Report(c.class, no)
				if bilibili.CodeOf(err) != c.code {
					t.Errorf("Report gives %v", err)
				}
				for class, want := range map[bilibili.Class]time.Duration{bilibili.Preupload: c.preupload, bilibili.Submission: c.submission, bilibili.Question: c.question} {
					err := g.Try(class)
					if (err != nil) != (want > 0) || failure.RetryAfter(err) != want {
						t.Errorf("%v: %v, wait %v, want %v", class, err, failure.RetryAfter(err), want)
						continue
					}
					if err != nil && (failure.KindOf(err) != failure.Throttled || !strings.Contains(err.Error(), fmt.Sprint(c.code)) || !strings.Contains(failure.Hint(err), c.hint)) {
						t.Errorf("%v: %v, hint %q", class, err, failure.Hint(err))
					}
				}
				for i, want := range c.series {
					if i > 0 {
						err = g.Report(c.class, no)
					}
					if got := failure.RetryAfter(err); got != want {
						t.Errorf("refusal %d: wait %v, want %v", i+1, got, want)
					}
					begun := time.Now()
					if werr := g.Wait(t.Context(), c.class); werr != nil || time.Since(begun) != want {
						t.Errorf("refusal %d: waited %v, want %v, %v", i+1, time.Since(begun), want, werr)
					}
				}
				// A success ends the series.
				if c.series != nil {
					if err := g.Report(c.class, nil); err != nil {
						t.Error(err)
					}
					if got := failure.RetryAfter(g.Report(c.class, no)); got != c.series[0] {
						t.Errorf("after a success: wait %v, want %v", got, c.series[0])
					}
				}
			})
		})
	}
}

// Calls that were on their way together are refused together: that is one refusal. A success that was on its way before
// the hold does not end it.
func TestOneRefusalOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := governor(t, bilibili.Pace{Interval: -1})
		no := refused(601)
		for range 5 {
			if d := failure.RetryAfter(g.Report(bilibili.Preupload, no)); d != 15*time.Minute {
				t.Errorf("wait %v", d)
			}
		}
		time.Sleep(5 * time.Minute)
		if d := failure.RetryAfter(g.Report(bilibili.Preupload, no)); d != 10*time.Minute {
			t.Errorf("wait %v after five minutes", d)
		}
		if err := g.Report(bilibili.Preupload, nil); err != nil {
			t.Error(err)
		}
		if err := g.Try(bilibili.Preupload); failure.RetryAfter(err) != 10*time.Minute {
			t.Errorf("a late success ended the hold: %v", err)
		}
	})
}

// A hold is shared, shown, survives the process, and can be released.
func TestHoldIsSharedAndReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a := login(t, bilitest.Unplugged())
		var log strings.Builder
		g := a.Governor(bilibili.Pace{Interval: -1}, zerolog.New(&log))
		_ = g.Report(bilibili.Submission, refused(137022))
		_ = g.Report(bilibili.Submission, refused(137022))
		if n := strings.Count(log.String(), "asks this account to wait"); n != 1 || !strings.Contains(log.String(), "137022") {
			t.Errorf("said %d times: %s", n, log.String())
		}
		later, err := bilibili.OpenAccount(a.Path())
		if err != nil {
			t.Fatal(err)
		}
		other := later.Governor(bilibili.Pace{Interval: -1}, zerolog.Nop())
		holds, err := other.Holds()
		if h := holds[bilibili.Submission]; err != nil || len(holds) != 1 || h.Code != 137022 || time.Until(h.Until) != 2*time.Hour || h.Hint == "" {
			t.Errorf("%+v, %v", holds, err)
		}
		var wg sync.WaitGroup
		begun := time.Now()
		wg.Go(func() {
			if err := other.Wait(t.Context(), bilibili.Submission); err != nil || time.Since(begun) > 2*time.Minute {
				t.Errorf("waited %v, %v", time.Since(begun), err)
			}
		})
		time.Sleep(time.Minute)
		if err := g.Release(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if d := failure.RetryAfter(g.Report(bilibili.Submission, refused(137022))); d != 4*time.Hour {
			t.Errorf("after a release that was wrong: wait %v", d)
		}
	})
}

// The one writer: what is fetched is what is edited.
func TestWriteIsExclusive(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a := login(t, bilitest.Unplugged())
				if !shared { // a file system without locks, as far as we can make one
					if err := os.Mkdir(a.Path()+".lock", 0o700); err != nil {
						t.Fatal(err)
					}
				}
				inside, most, done := 0, 0, 0
				var mu sync.Mutex
				var wg sync.WaitGroup
				for i := range 6 {
					own := a
					if shared && i%2 == 0 {
						var err error
						if own, err = bilibili.OpenAccount(a.Path()); err != nil {
							t.Fatal(err)
						}
					}
					g := own.Governor(bilibili.Pace{}, zerolog.Nop())
					wg.Go(func() {
						err := g.Write(t.Context(), func(context.Context) error {
							mu.Lock()
							inside++
							most = max(most, inside)
							mu.Unlock()
							time.Sleep(3 * time.Second)
							mu.Lock()
							inside--
							done++
							mu.Unlock()
							return nil
						})
						if err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if most != 1 || done != 6 {
					t.Errorf("%d writers at once, %d done", most, done)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				g := a.Governor(bilibili.Pace{}, zerolog.Nop())
				err := g.Write(ctx, func(context.Context) error {
					return g.Write(ctx, func(context.Context) error { return nil }) // a lock in itself waits for ever
				})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// A state that is damaged, of another clock, or cannot be had, stops nobody for long.
func TestStateThatIsNone(t *testing.T) {
	for _, c := range []struct {
		name string
		file string
		want time.Duration // for a submission
	}{
		{"empty", "", 0},
		{"half", `{"format":"liverec-pace/1","submitted":"2000-01`, 0},
		{"of another kind", `{"format":"x","submitted":"2000-01-01T00:00:00Z"}`, 0},
		{"of a clock ahead", `{"format":"liverec-pace/1","preuploads":"2033-01-01T00:00:00Z","submitted":"2033-01-01T00:00:00Z","series":[{},{},{}]}`, 3 * time.Minute},
		{"held by a clock ahead", `{"format":"liverec-pace/1","series":[{},{"code":137022,"count":1,"until":"2033-01-01T00:00:00Z"},{}]}`, 25 * time.Hour},
		{"with a count below nothing", `{"format":"liverec-pace/1","series":[{},{"code":601,"count":-70,"until":"1999-01-01T00:00:00Z"},{}]}`, 0},
		{"with a code that this version does not know", `{"format":"liverec-pace/1","series":[{},{"code":999,"count":1,"until":"2033-01-01T00:00:00Z"},{}]}`, 0},
		{"cannot be opened", "folder", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a := login(t, bilitest.Unplugged())
				if c.file == "folder" {
					if err := os.Mkdir(a.Path()+".pace", 0o700); err != nil {
						t.Fatal(err)
					}
				} else {
					save(t, a.Path()+".pace", []byte(c.file))
				}
				var log strings.Builder
				g := a.Governor(bilibili.Pace{}, zerolog.New(&log))
				err := g.Try(bilibili.Submission)
				if failure.RetryAfter(err) != c.want {
					t.Errorf("%v, wait %v, want %v", err, failure.RetryAfter(err), c.want)
				}
				if c.want == 0 {
					if err := g.Try(bilibili.Submission); failure.RetryAfter(err) != 3*time.Minute {
						t.Errorf("the second turn: %v", err)
					}
				}
				if got := failure.RetryAfter(g.Report(bilibili.Submission, refused(601))); got != 15*time.Minute && c.want == 0 {
					t.Errorf("a refusal: wait %v", got)
				}
				if warned := strings.Contains(log.String(), "cannot be shared"); warned != (c.file == "folder") {
					t.Errorf("log %s", log.String())
				}
			})
		})
	}
}

// A process that was stopped while it held the state stops others for moments, and they do not go on without it.
func TestStateThatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a := login(t, bilitest.Unplugged())
		g := a.Governor(bilibili.Pace{}, zerolog.Nop())
		if err := g.Try(bilibili.Submission); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(a.Path() + ".pace")
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := g.Try(bilibili.Question); err == nil || failure.KindOf(err) != failure.Transient || time.Since(begun) > time.Minute {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := g.Wait(ctx, bilibili.Submission); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := g.Wait(t.Context(), bilibili.Submission); err != nil || time.Since(begun) < 2*time.Minute {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

// Whatever the service answers, no turn comes before its time: 60 random accounts of three processes each.
func TestRandomSchedules(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			_, a := login(t, bilitest.Unplugged())
			codes := []int64{0, 0, 0, 601, 21070, 21566, -412, 4711}
			no := map[int64]error{}
			for _, code := range codes {
				if code != 0 {
					no[code] = refused(code)
				}
			}
			var mu sync.Mutex
			var last, until time.Time
			var wg sync.WaitGroup
			for range 3 {
				own, err := bilibili.OpenAccount(a.Path())
				if err != nil {
					t.Fatal(err)
				}
				g := own.Governor(bilibili.Pace{}, zerolog.Nop())
				own2 := rand.New(rand.NewPCG(rng.Uint64(), 1))
				wg.Go(func() {
					for range 4 {
						if err := g.Wait(t.Context(), bilibili.Submission); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						now := time.Now()
						if !last.IsZero() && now.Sub(last) < 3*time.Minute {
							t.Errorf("seed %d: a turn %v after the last one", seed, now.Sub(last))
						}
						if now.Before(until) {
							t.Errorf("seed %d: a turn %v before the end of a hold", seed, until.Sub(now))
						}
						last = now
						if err := g.Report(bilibili.Submission, no[codes[own2.IntN(len(codes))]]); bilibili.CodeOf(err) != 4711 && err != nil {
							until = now.Add(failure.RetryAfter(err))
						}
						mu.Unlock()
						time.Sleep(time.Duration(own2.IntN(400)) * time.Second)
					}
				})
			}
			wg.Wait()
		})
	}
}
