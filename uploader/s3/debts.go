package s3

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/failure"
)

// lateness is how long after a lost answer a store may list for the first time what it has created.
const lateness = time.Minute

const (
	payAtOnce = 4           // debts that are looked after beside another call
	closeTime = time.Second // for what is owed at the end
)

// debts are the keys under which an upload may lie that nobody knows: the answer to its creation was lost, or the abort
// of it did not come through. Each is swept at every occasion until the store has had the time to list it. They live in
// memory: a process that was killed finds its uploads at the next Check and the next Open.
type debts struct {
	late time.Duration
	// turn is held by whoever sweeps debts, and by an Open of a key that is owed: its new upload must not be swept.
	turn chan struct{}

	mu sync.Mutex
	m  map[string]debt
}

type debt struct {
	since time.Time // of the last loss
	but   string    // the upload of that key that is in use, "" if there is none
}

func newDebts(late time.Duration) *debts {
	if late == 0 {
		late = lateness
	}
	return &debts{late: late, turn: make(chan struct{}, 1), m: map[string]debt{}}
}

// lock waits for the turn.
func (d *debts) lock(ctx context.Context) error {
	select {
	case d.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *debts) unlock() { <-d.turn }

// owe notes that an upload of key may have been left behind.
func (d *debts) owe(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.m[key] = debt{since: time.Now(), but: d.m[key].but}
}

func (d *debts) owed(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.m[key]
	return ok
}

// use notes which upload of key is in use from now on.
func (d *debts) use(key, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o, ok := d.m[key]; ok {
		o.but = id
		d.m[key] = o
	}
}

// looked notes that all was aborted that a listing which began at a time had of key.
func (d *debts) looked(key string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o, ok := d.m[key]; ok && at.Sub(o.since) >= d.late {
		delete(d.m, key)
	}
}

// oldest lists at most n keys that are owed.
func (d *debts) oldest(n int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.m) == 0 {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(d.m), func(a, b string) int {
		return cmp.Or(d.m[a].since.Compare(d.m[b].since), cmp.Compare(a, b))
	})
	return keys[:min(n, len(keys))]
}

func (d *debts) but(key string) (id string, owed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, ok := d.m[key]
	return o.but, ok
}

// pay sweeps keys that are owed, at most n, but for one that has just been swept. What cannot be swept now stays owed.
func (t *Target) pay(ctx context.Context, n int, done string) {
	keys := t.debts.oldest(n)
	if len(keys) == 0 {
		return
	}
	select {
	case t.debts.turn <- struct{}{}:
		defer t.debts.unlock()
	default:
		return // somebody is at it
	}
	for _, key := range keys {
		but, owed := t.debts.but(key)
		if !owed || key == done {
			continue
		}
		if t.sweep(ctx, "sweep "+key, key, but) != nil {
			return
		}
	}
}

// unheard reports whether the store may have done what it was asked although the answer is an error.
func unheard(err error, n *note) bool {
	if err == nil || failure.KindOf(err) == failure.NeedsHuman || n.status >= 400 && n.status < 500 || n.status == http.StatusNotImplemented {
		return false
	}
	dial, ok := errors.AsType[*net.OpError](err)
	return !ok || dial.Op != "dial"
}
