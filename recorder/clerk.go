package recorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
)

// clerk syncs the open part and tells the ledger, so that the writer waits for neither. Calls are made in the order in
// which they were asked for, each again and again until it succeeds; the sync of the open part overtakes them, and a
// newer one takes the place of an older one that has not begun.
type clerk struct {
	journal Journal
	ring    func(segment.Progress)
	log     zerolog.Logger
	warn    *obs.Warner

	wake chan struct{} // sent by everybody who changes what is below; never closed

	mu     sync.Mutex
	dirty  *syncWork
	ended  []*part // not written to any more, and perhaps not on the disk yet
	next   *call   // the Begin of the next part; it stands outside of the order, since it may have to wait for a seal
	calls  []*call
	live   int // parts that are begun and neither sealed nor taken back
	closed bool
}

// syncWork is one durable point of the open part.
type syncWork struct {
	part   *part
	extent segment.Extent
	tell   bool // the ledger too, not only the disk
}

// call is one word to the ledger.
type call struct {
	what string
	do   func(ctx context.Context) error
	// done is closed after do succeeded, or when the call was taken back.
	done chan struct{}
	// tried says that do is running or has run: it may have been heard whatever it returned.
	tried bool
}

func newClerk(j Journal, ring func(segment.Progress), log zerolog.Logger) *clerk {
	return &clerk{journal: j, ring: ring, log: log, warn: obs.NewWarner(log, time.Minute), wake: make(chan struct{}, 1)}
}

func (c *clerk) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// say asks for a call. Nobody waits for it unless they look at done.
func (c *clerk) say(what string, do func(ctx context.Context) error) *call {
	n := &call{what: what, do: do, done: make(chan struct{})}
	c.mu.Lock()
	c.calls = append(c.calls, n)
	c.mu.Unlock()
	c.poke()
	return n
}

// begin asks for the Begin of the next part. It is made as soon as no part but the newest one is unsealed.
func (c *clerk) begin(what string, do func(ctx context.Context) error) *call {
	n := &call{what: what, do: do, done: make(chan struct{})}
	c.mu.Lock()
	c.next = n
	c.mu.Unlock()
	c.poke()
	return n
}

// unbegin takes a Begin back. False: the ledger may have heard it.
func (c *clerk) unbegin(n *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == n {
		c.next = nil
	}
	return !n.tried
}

// count keeps how many parts the ledger has open.
func (c *clerk) count(d int) {
	c.mu.Lock()
	c.live += d
	c.mu.Unlock()
	c.poke()
}

// sync asks for the part to be made durable. It takes the place of an older wish.
func (c *clerk) sync(w *syncWork) {
	c.mu.Lock()
	if c.dirty != nil && c.dirty.part == w.part {
		w.tell = w.tell || c.dirty.tell
	}
	c.dirty = w
	c.mu.Unlock()
	c.poke()
}

// forget drops the wish to sync a part that goes to the sealer. The sealer may be busy with an earlier one, so the part
// is synced here once more before anything is said of what comes after it: else a power cut could take the end of this
// part and leave the next one, and nobody would know of the hole between them.
func (c *clerk) forget(p *part) {
	c.mu.Lock()
	if c.dirty != nil && c.dirty.part == p {
		c.dirty = nil
	}
	c.ended = append(c.ended, p)
	c.mu.Unlock()
	c.poke()
}

// close lets run end once everything was said.
func (c *clerk) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.poke()
}

// left is how many calls have not been made.
func (c *clerk) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

// run works until close was called and nothing is left, or until ctx is done.
func (c *clerk) run(ctx context.Context) {
	again := backoff.New(backoff.Policy{First: 100 * time.Millisecond, Max: 2 * time.Second})
	var pause <-chan time.Time // after the ledger refused something
	for ctx.Err() == nil {
		c.mu.Lock()
		work, ended := c.dirty, c.ended
		c.dirty, c.ended = nil, nil
		var begin, next *call
		if pause == nil {
			if c.next != nil && c.live <= 1 {
				begin = c.next
				begin.tried = true
			}
			if len(c.calls) > 0 {
				next = c.calls[0]
				next.tried = true
			}
		}
		end := c.closed && work == nil && len(ended) == 0 && len(c.calls) == 0
		c.mu.Unlock()

		for _, p := range ended {
			// An error is the sealer's, which tries it again until it works; a file that is closed is synced already,
			// or is looked at anew.
			_ = p.file.Sync()
		}
		if work != nil {
			c.durable(ctx, work)
		}
		ok := true
		if begin != nil && c.make(ctx, begin, &ok) {
			c.mu.Lock()
			c.live++
			if c.next == begin {
				c.next = nil
			}
			c.mu.Unlock()
			close(begin.done)
		}
		if next != nil && c.make(ctx, next, &ok) {
			c.mu.Lock()
			c.calls = c.calls[1:]
			c.mu.Unlock()
			close(next.done)
		}
		switch {
		case !ok:
			pause = time.After(again.Next(nil))
		case begin != nil || next != nil:
			c.warn.Add(nil, "ledger takes records again")
			again.Reset()
			continue
		case work != nil || len(ended) > 0:
			continue
		case end:
			return
		}
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-pause:
			pause = nil
		}
	}
}

// make tells the ledger. It reports whether that was heard; if not, ok becomes false.
func (c *clerk) make(ctx context.Context, n *call, ok *bool) bool {
	err := n.do(ctx)
	if err == nil {
		return true
	}
	*ok = false
	if ctx.Err() == nil {
		c.warn.Add(fmt.Errorf("%s: %w", n.what, err), "ledger does not take records, capture goes on")
	}
	return false
}

// durable makes one durable point: fsync, ledger, doorbell, in this order (I2).
func (c *clerk) durable(ctx context.Context, w *syncWork) {
	if err := w.part.file.Sync(); err != nil {
		if !errors.Is(err, os.ErrClosed) && !w.part.sealing.Load() {
			w.part.trouble.Store(&err) // the writer sees to it
		}
		return
	}
	if w.part.durable.Load() < w.extent.Durable {
		w.part.durable.Store(w.extent.Durable)
	}
	if w.tell && !w.part.sealing.Load() {
		if err := c.journal.Extend(ctx, w.part.seg.ID, w.extent); err != nil {
			// Recovery measures the file, and the next durable point says it all again.
			c.warn.Add(fmt.Errorf("extend %s: %w", w.part.seg.ID, err), "ledger does not take records, capture goes on")
		}
	}
	c.ring(segment.Progress{ID: w.part.seg.ID, Durable: w.extent.Durable})
}
