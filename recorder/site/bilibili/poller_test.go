package bilibili_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	client "github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/recorder/site/bilibili"
)

// However many rooms there are, the platform is asked at one rate, and each room hears of a change in time.
func TestOneQuestionForAllRooms(t *testing.T) {
	t.Parallel()
	const n, every, age, length = 250, 10 * time.Second, 19 * time.Second, 10 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		world := bilitest.Unplugged()
		live := bilitest.NewLive(world)
		all := make([]*bilitest.LiveRoom, n)
		for i := range all {
			all[i] = live.Add(bilitest.LiveRoom{ID: int64(5_000_000_000 + i), Title: "a", Streamer: "b"})
		}
		p := bilibili.NewPoller(client.NewClient(client.Config{Transport: world.Virtual()}), zerolog.Nop())
		began := time.Now()
		var on atomic.Int64 // when the rooms went live
		var slowest atomic.Int64
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		var wg sync.WaitGroup
		for _, r := range all {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(r.ID), 1))
				sleep := time.NewTimer(time.Duration(random.Int64N(int64(every))))
				defer sleep.Stop()
				seen := false
				for {
					select {
					case <-ctx.Done():
						if !seen {
							t.Errorf("room %d never heard of it", r.ID)
						}
						return
					case <-sleep.C:
					}
					a, err := p.Ask(ctx, r.ID, age)
					if err != nil && ctx.Err() == nil {
						t.Error(err)
					}
					if !seen && a.Status == bilibili.On {
						seen = true
						late := time.Since(began) - time.Duration(on.Load())
						for was := slowest.Load(); int64(late) > was && !slowest.CompareAndSwap(was, int64(late)); was = slowest.Load() {
						}
					}
					sleep.Reset(every + time.Duration(random.Int64N(int64(every)/10)))
				}
			})
		}
		wg.Go(func() {
			time.Sleep(length / 2)
			on.Store(int64(time.Since(began)))
			live.Change(func() {
				for _, r := range all {
					r.Status, r.Since = 1, time.Now()
				}
			})
		})
		wg.Wait()
		// Each round is one question for each 100 rooms, and no round comes before an answer is age old.
		most := int(length/age+2) * (n + 99) / 100
		if got := len(world.Requests("*")); got > most {
			t.Errorf("%d questions in %v, at most %d are called for", got, length, most)
		}
		if s := time.Duration(slowest.Load()); s > age+every+every/10+2*time.Second {
			t.Errorf("a room heard of it after %v", s)
		}
	})
}

// Whoever needs an answer now does not get an older one, and those who ask at once share the question.
func TestFreshAnswersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := bilitest.Unplugged()
		live := bilitest.NewLive(world)
		r := live.Add(bilitest.LiveRoom{ID: 7_000_000_000, Status: 1, Since: time.Now()})
		p := bilibili.NewPoller(client.NewClient(client.Config{Transport: world.Virtual()}), zerolog.Nop())
		if a, err := p.Ask(t.Context(), r.ID, 0); err != nil || a.Status != bilibili.On {
			t.Fatal(a, err)
		}
		live.Change(func() { r.Status = 0 })
		if a, err := p.Ask(t.Context(), r.ID, time.Minute); err != nil || a.Status != bilibili.On {
			t.Error("an answer that was new enough was asked for again", a, err)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if a, err := p.Ask(t.Context(), r.ID, 0); err != nil || a.Status != bilibili.Off {
					t.Error(a, err)
				}
			})
		}
		wg.Wait()
		if n := len(world.Requests("GET api.live.bilibili.com/*")); n != 2 {
			t.Errorf("%d questions", n)
		}
		// The one who asks goes away: the others get their answer.
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := p.Ask(ctx, r.ID, 0); err == nil {
				t.Error("an answer for nobody")
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := p.Ask(t.Context(), r.ID, 0); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

// Each refusal is waited out longer than the one before, up to half an hour; an answer ends the series.
func TestHoldsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := bilitest.Unplugged()
		live := bilitest.NewLive(world)
		r := live.Add(bilitest.LiveRoom{ID: 7_000_000_001})
		p := bilibili.NewPoller(client.NewClient(client.Config{Transport: world.Virtual()}), zerolog.Nop())
		world.Fault("* api.live.bilibili.com/*", bilitest.Fault{Code: -412, Times: 6})
		var was time.Duration
		for i := range 6 {
			if _, err := p.Ask(t.Context(), r.ID, 0); err == nil {
				t.Fatal("an answer")
			}
			b := p.Blocked()
			if b == nil {
				t.Fatal("nothing is held")
			}
			d := time.Until(b.Until)
			if i < 4 && d < 3*was/2 || d < 2*time.Minute || d > 34*time.Minute {
				t.Errorf("hold %d is of %v after %v", i, d, was)
			}
			was = d
			time.Sleep(d + time.Second)
		}
		if _, err := p.Ask(t.Context(), r.ID, 0); err != nil {
			t.Error(err)
		}
		if n := len(world.Requests("GET api.live.bilibili.com/*")); n != 7 {
			t.Errorf("%d questions", n)
		}
		world.Fault("* api.live.bilibili.com/*", bilitest.Fault{Code: -412})
		time.Sleep(time.Minute)
		if _, err := p.Ask(t.Context(), r.ID, 0); err == nil || time.Until(p.Blocked().Until) > 3*time.Minute {
			t.Errorf("the series goes on: %v", p.Blocked())
		}
	})
}
