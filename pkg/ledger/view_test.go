package ledger

import (
	"sync"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// Questions that all meet their statements for the first time once waited for one another for ever.
func TestManyFirstQuestionsAtOnce(t *testing.T) {
	rounds := 20
	if slowly {
		rounds = 2
	}
	for range rounds {
		l := fresh(t, segment.Destination{ID: "file:/a", Spec: "file:/a", Required: true})
		ctx := t.Context()
		done := make(chan struct{})
		go func() {
			defer close(done)
			var wg sync.WaitGroup
			start := make(chan struct{})
			for _, ask := range []func() error{
				func() error { _, err := l.Unended(ctx); return err },
				func() error { _, err := l.Holdings(ctx); return err },
				func() error { _, err := l.Active(ctx); return err },
				func() error { _, err := l.Due(ctx, "file:/a"); return err },
				func() error { _, err := l.Backlogs(ctx); return err },
				func() error { _, err := l.Paths(ctx); return err },
				func() error { _, err := l.Rooms(ctx); return err },
				func() error { _, err := l.Unsafe(ctx); return err },
			} {
				wg.Go(func() {
					<-start
					if err := ask(); err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			wg.Wait()
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("the questions wait for one another")
		}
	}
}

// Whoever asks after the end, or waits for its turn meanwhile, gets an error and does not hang.
func TestQuestionsAtTheEnd(t *testing.T) {
	path := data(t)
	l := opened(t, config(t, path))
	r, err := OpenReader(path)
	must(t, err)
	var wg sync.WaitGroup
	asked := make(chan struct{}, 64)
	for range 8 {
		wg.Go(func() {
			for {
				_, lerr := l.Active(t.Context())
				_, rerr := r.Active(t.Context())
				if lerr != nil && rerr != nil {
					return
				}
				select {
				case asked <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 20 {
		<-asked
	}
	must(t, l.Close())
	must(t, r.Close())
	wg.Wait()
}
