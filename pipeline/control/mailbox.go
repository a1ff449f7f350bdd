package control

import (
	"context"
	"time"
)

// mailbox hands plans to the one goroutine that does them: 1, the newest plan wins. It is sent by hand, closed by end.
type mailbox struct{ plans chan []Action }

func newMailbox() mailbox { return mailbox{make(chan []Action, 1)} }

// hand puts a plan in the place of an older one. Only Control.Run's goroutine calls it.
func (m mailbox) hand(plan []Action) {
	select {
	case <-m.plans:
	default:
	}
	m.plans <- plan
}

func (m mailbox) end() { close(m.plans) }

// worker does plans. All of it runs in one goroutine.
type worker interface {
	take(plan []Action)
	// turn does one thing whose time has come, or says how long there is nothing to do. open: another plan may come.
	turn(ctx context.Context, open bool) (did bool, wait time.Duration)
	edit(ctx context.Context, x edit) error
}

// serve has w work until the mailbox is closed and everything that was ready is done, or until ctx ends. The last plan
// stays when the mailbox is closed.
func (m mailbox) serve(ctx context.Context, edits <-chan edit, w worker) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for open := true; ; {
		did, wait := w.turn(ctx, open)
		switch {
		case did:
			wait = 0 // only look for a newer plan: there may be more to do in this one
		case !open:
			return nil
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case plan, ok := <-m.plans:
			if open = ok; ok {
				w.take(plan)
			}
		case x := <-edits:
			x.done <- w.edit(ctx, x)
		case <-timer.C:
		}
	}
}
