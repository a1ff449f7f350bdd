package supervise_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/supervise"
)

type service func(ctx context.Context) error

func (s service) Run(ctx context.Context) error { return s(ctx) }
func (s service) String() string                { return "it" }

func TestAPanicIsAnErrorAndTheServiceComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := supervise.NewGroup(zerolog.Nop())
		var starts []time.Duration
		begin := time.Now()
		g.Go(ctx, service(func(ctx context.Context) error {
			starts = append(starts, time.Since(begin))
			if len(starts) < 4 {
				panic("boom")
			}
			<-ctx.Done()
			return ctx.Err()
		}), supervise.Policy{Restart: true})
		time.Sleep(time.Minute)
		cancel()
		if err := g.Wait(); err != nil {
			t.Errorf("a stop on request is an error: %v", err)
		}
		if len(starts) != 4 {
			t.Fatalf("started %d times, want 4: %v", len(starts), starts)
		}
		if gap := starts[3] - starts[2]; gap < 3*time.Second || gap > 5*time.Second {
			t.Errorf("the third restart came after %v, want about 4 s", gap)
		}
	})
}

func TestATimeoutInsideIsNotAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := supervise.NewGroup(zerolog.Nop())
		g.Go(t.Context(), service(func(context.Context) error { return context.DeadlineExceeded }), supervise.Policy{})
		if err := g.Wait(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the time-out", err)
		}
	})
}

func TestGuardKeepsTheStack(t *testing.T) {
	err := supervise.Guard(t.Context(), service(func(context.Context) error { panic("boom") }))
	p, ok := errors.AsType[*supervise.PanicError](err)
	if !ok || p.Value != "boom" || !strings.Contains(string(p.Stack), "supervise_test.go") {
		t.Errorf("got %v", err)
	}
}
