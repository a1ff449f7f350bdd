// Package supervise runs services, waits for them, and turns a panic into an error with its stack.
//
// It owns the goroutines that it starts. It never knows what a service does.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/backoff"
)

// Service does everything between its start and its return, and returns only when all that it started has ended.
type Service interface {
	Run(ctx context.Context) error
	String() string
}

// Policy says what happens when a service returns although nobody asked it to.
type Policy struct {
	// Restart starts it again, at growing distances. Without it the error is kept for Wait.
	Restart bool
	// Calm is how long a service must have run for the distance to begin anew. Default 1 min.
	Calm time.Duration
}

// Group is a set of services with one end.
type Group struct {
	log zerolog.Logger
	wg  sync.WaitGroup

	mu      sync.Mutex
	errs    []error
	running map[string]int
}

// NewGroup makes an empty group.
func NewGroup(log zerolog.Logger) *Group {
	return &Group{log: log, running: map[string]int{}}
}

// Go starts s. It ends with ctx.
func (g *Group) Go(ctx context.Context, s Service, p Policy) {
	if p.Calm <= 0 {
		p.Calm = time.Minute
	}
	name := s.String()
	g.mu.Lock()
	g.running[name]++
	g.mu.Unlock()
	g.wg.Go(func() {
		err := g.keep(ctx, s, p)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.running[name]--; g.running[name] == 0 {
			delete(g.running, name)
		}
		if err != nil {
			g.errs = append(g.errs, fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (g *Group) keep(ctx context.Context, s Service, p Policy) error {
	again := backoff.New(backoff.Policy{First: time.Second, Max: time.Minute})
	for {
		start := time.Now()
		err := Guard(ctx, s)
		// A context error inside err may be a network time-out; only ctx itself says that we were asked to stop.
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			return nil
		}
		if err == nil || ctx.Err() != nil || !p.Restart {
			return err
		}
		if time.Since(start) >= p.Calm {
			again.Reset()
		}
		wait := again.Next(err)
		g.log.Error().Err(err).Str("service", s.String()).Dur("again_in", wait).Msg("service failed, it will be started again")
		if !backoff.Sleep(ctx, wait) {
			return nil
		}
	}
}

// Wait returns when every service of the group has ended, with what they died of.
func (g *Group) Wait() error {
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}

// Running names the services that have not ended.
func (g *Group) Running() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := make([]string, 0, len(g.running))
	for n := range g.running {
		names = append(names, n)
	}
	return names
}

// PanicError is a panic of a service.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Guard runs s and gives a panic of its goroutine back as a PanicError.
func Guard(ctx context.Context, s Service) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return s.Run(ctx)
}
