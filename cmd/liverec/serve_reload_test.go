package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// kept is a target with a login that is looked after, and a connection that is to be closed.
type kept struct {
	uploader.Target
	id     segment.TargetID
	ends   time.Duration // how long the keeper takes to end
	keeps  bool          // it is being looked after
	closed int
	t      *testing.T
}

func (k *kept) ID() segment.TargetID { return k.id }
func (k *kept) String() string       { return string(k.id) }
func (k *kept) Run(ctx context.Context) error {
	k.keeps = true
	<-ctx.Done()
	time.Sleep(k.ends)
	k.keeps = false
	return nil
}

func (k *kept) Close() error {
	if k.closed++; k.keeps {
		k.t.Errorf("%s is closed while somebody looks after it", k.id)
	}
	return nil
}

// A target that another one has taken the place of is closed once, when nobody uses it any more; one that stays is not.
func TestTargetsThatAreGoneAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stays, goes, comes := &kept{id: "a", t: t}, &kept{id: "b", ends: time.Minute, t: t}, &kept{id: "b", t: t}
		h := &house{log: zerolog.Nop(), targets: []uploader.Destination{{Target: stays}, {Target: goes}}}
		l := &logins{h: h, ring: make(chan struct{}, 1), targets: h.targets}
		s := &service{h: h, stages: &stages{logins: l}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		synctest.Wait()
		now := []uploader.Destination{{Target: stays}, {Target: comes}}
		left := s.leave(now)
		l.set(now, left)
		left() // transport
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if goes.closed != 0 {
			t.Error("it is closed while control uses it")
		}
		left()
		synctest.Wait()
		if goes.closed != 1 || stays.closed != 0 || comes.closed != 0 || !stays.keeps || !comes.keeps {
			t.Errorf("closed %d, %d and %d times", goes.closed, stays.closed, comes.closed)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.loops.Wait()
	})
}
