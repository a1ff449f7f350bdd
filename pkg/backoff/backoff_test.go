package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/failure"
)

func TestNextGrowsToTheCapAndNeverStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.New(backoff.Policy{First: time.Second, Max: 10 * time.Second, Jitter: 0.1, Immediate: true})
		if d := b.Next(nil); d != 0 {
			t.Fatalf("first retry waits %v, want 0", d)
		}
		for i, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
			want *= time.Second
			if d := b.Next(nil); d < want*9/10 || d > min(want*11/10, 10*time.Second) {
				t.Errorf("retry %d waits %v, want %v ± 10 %%, at most 10 s", i+2, d, want)
			}
		}
		time.Sleep(1000 * time.Hour) // the library's default would have ended after 15 minutes
		if d := b.Next(nil); d < 9*time.Second || d > 10*time.Second {
			t.Errorf("after 1000 h a retry waits %v, want 9 … 10 s", d)
		}
		b.Reset()
		if d := b.Next(nil); d != 0 {
			t.Errorf("after a success the first retry waits %v, want 0", d)
		}
	})
}

func TestNextKeepsRetryAfter(t *testing.T) {
	b := backoff.New(backoff.Policy{First: time.Second})
	if d := b.Next(&failure.Error{Kind: failure.Throttled, RetryAfter: 5 * time.Minute}); d != 5*time.Minute {
		t.Errorf("got %v, want the 5 min that the remote asked for", d)
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		b := backoff.New(backoff.Policy{First: time.Hour, Max: time.Hour})
		start := time.Now()
		if b.Wait(ctx, nil) {
			t.Error("Wait says true although its context ended")
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("Wait came back after %v, want 3 s", d)
		}
		if backoff.Sleep(ctx, 0) {
			t.Error("Sleep on a dead context says true")
		}
	})
}
