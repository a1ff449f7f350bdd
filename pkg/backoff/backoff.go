// Package backoff is the one schedule of retries, over cenkalti/backoff.
//
// It owns the waiting between attempts and never gives up: the library's own default ends after 15 minutes, which an
// always-on recorder must not.
package backoff

import (
	"context"
	"time"

	cenkalti "github.com/cenkalti/backoff/v4"

	"github.com/liverec/liverec/pkg/failure"
)

// Policy is a schedule as a value.
type Policy struct {
	First     time.Duration // default 1 s
	Max       time.Duration // default 1 min
	Factor    float64       // default 2
	Jitter    float64       // 0 … 1, default 0.2: a wait of d is anything in d ± Jitter·d
	Immediate bool          // the first retry does not wait at all
}

// Backoff counts the failures of one thing. It belongs to one goroutine.
type Backoff struct {
	exp       *cenkalti.ExponentialBackOff
	max       time.Duration
	immediate bool
	fresh     bool
}

// New makes a schedule at its beginning.
func New(p Policy) *Backoff {
	if p.First <= 0 {
		p.First = time.Second
	}
	if p.Max <= 0 {
		p.Max = time.Minute
	}
	if p.Factor < 1 {
		p.Factor = 2
	}
	if p.Jitter <= 0 {
		p.Jitter = 0.2
	}
	exp := cenkalti.NewExponentialBackOff(
		cenkalti.WithInitialInterval(p.First),
		cenkalti.WithMaxInterval(p.Max),
		cenkalti.WithMultiplier(p.Factor),
		cenkalti.WithRandomizationFactor(p.Jitter),
		cenkalti.WithMaxElapsedTime(0), // for ever
	)
	return &Backoff{exp: exp, max: p.Max, immediate: p.Immediate, fresh: true}
}

// Next is how long to wait after err. A remote that asked for more patience gets it.
func (b *Backoff) Next(err error) time.Duration {
	var d time.Duration
	if !b.immediate || !b.fresh {
		d = min(b.exp.NextBackOff(), b.max)
	}
	b.fresh = false
	return max(d, failure.RetryAfter(err))
}

// Wait waits as long as Next says. It is false when ctx is done.
func (b *Backoff) Wait(ctx context.Context, err error) bool { return Sleep(ctx, b.Next(err)) }

// Reset begins anew after a success.
func (b *Backoff) Reset() {
	b.exp.Reset()
	b.fresh = true
}

// Sleep waits for d. It is false when ctx is done, also when it was done before.
func Sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
