package recorder

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/beat"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/supervise"
	"github.com/liverec/liverec/recorder/repair"
)

// whyStalled is the reason of a gap that our own disk made.
const whyStalled = "disk stalled"

// tickEvery is how often the writer looks at the clock while no batch comes. Sources that let bytes gather read on the
// same beat, so that the process wakes once for both.
const tickEvery = 250 * time.Millisecond

// watchEvery is how often the loop looks at the clock.
const watchEvery = time.Second

// parcel is what the loop hands to the writer: a batch, and before it what had to be given up. The batch may be nil.
type parcel struct {
	batch *media.Batch
	skip  skip
}

// skip is media that the loop gave up because the disk stood still.
type skip struct {
	on    bool
	tags  int64
	count media.Count
}

// queue is the way from the loop to the writer. It holds at most QueueBytes, or one batch that is larger than that.
type queue struct {
	ch    chan parcel
	bytes atomic.Int64  // in ch and in the writer's hand
	freed chan struct{} // cap 1: bytes went down
}

func newQueue() *queue {
	return &queue{ch: make(chan parcel, queueBatches), freed: make(chan struct{}, 1)}
}

func (q *queue) fits(b *media.Batch) bool {
	n := q.bytes.Load()
	return n == 0 || n+int64(b.Size()) <= QueueBytes
}

func (q *queue) done(b *media.Batch) {
	n := int64(b.Size())
	b.Release()
	q.bytes.Add(-n)
	select {
	case q.freed <- struct{}{}:
	default:
	}
}

// link is one connection: reader, loop and writer, and what the loop knows of them.
type link struct {
	c      *capture
	t      *take
	cancel context.CancelFunc
	q      *queue
	werr   chan error // cap 1: the writer's first error, while it goes on to drain

	verb  segment.Verb
	why   error // why the loop hung up
	seen  atomic.Int64
	out   atomic.Int64 // output time that was written last, ms
	video atomic.Bool
	shape shape // the writer's

	pending *media.Batch // waits for room
	weight  int64        // its size
	since   time.Time
	skip    skip
	began   time.Time
	ring    [60]slot
	secs    int
}

// slot is one second of the rate watch.
type slot struct{ bytes, out int64 }

// connection pulls one stream until it ends, and returns why. It is over when reader and writer have returned and
// everything that was received is written.
func (c *capture) connection(ctx context.Context, t *take, src Source) (segment.Verb, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &link{c: c, t: t, cancel: cancel, q: newQueue(), werr: make(chan error, 1), began: time.Now()}
	l.seen.Store(l.began.UnixNano())
	c.view.change(func(s *Snapshot) { s.Host = src.Host() })
	c.hear(t.live.about())

	in := make(chan *media.Batch)
	var wg sync.WaitGroup
	var rerr, werr error
	wg.Go(func() {
		defer close(in)
		rerr = guard(func() error { return src.Run(ctx, in) })
	})
	wg.Go(func() {
		werr = guard(func() error { return l.write() })
		if werr != nil {
			l.tell(werr)
			l.drain()
		}
	})
	l.loop(ctx, in)
	close(l.q.ch)
	wg.Wait()
	for _, err := range []error{rerr, werr} {
		if p, ok := errors.AsType[*supervise.PanicError](err); ok {
			c.abandon(p)
			return "", p
		}
	}
	c.view.wrote(t.seg)
	switch {
	case werr != nil:
		return l.verb, werr
	case l.why != nil:
		return l.verb, l.why
	}
	return l.verb, rerr
}

// tell makes the loop hang up, if it has not been told before.
func (l *link) tell(err error) {
	select {
	case l.werr <- err:
	default:
	}
}

// drain gives up what is still on its way to a writer that writes no more: the loop must never be stuck on it.
func (l *link) drain() {
	for p := range l.q.ch {
		if p.batch != nil {
			p.skip.tags += int64(len(p.batch.Packets))
			add(&p.skip.count, p.batch.Count)
			l.q.done(p.batch)
		}
		l.t.seg.skipped(p.skip)
	}
}

// guard turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &supervise.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// abandon leaves everything as it is after a panic: what is in memory cannot be trusted, what is on the disk can. The
// next run goes on from there.
func (c *capture) abandon(p *supervise.PanicError) {
	c.fatal = p
	if t := c.take; t != nil && t.seg.part != nil {
		part := t.seg.part
		t.seg.part = nil
		c.clerk.forget(part)
		part.sealing.Store(true)
		part.file.Close() // recovery measures it
	}
	c.take = nil
}

// loop stands between reader and writer until the reader has closed in.
func (l *link) loop(ctx context.Context, in <-chan *media.Batch) {
	tick := time.NewTimer(beat.Until(time.Now(), watchEvery))
	defer tick.Stop()
	stalled := time.NewTimer(stallLimit)
	stalled.Stop()
	defer stalled.Stop()
	done := ctx.Done()
	for {
		var recv <-chan *media.Batch
		var send chan<- parcel
		if l.pending == nil {
			recv = in
		} else if l.q.fits(l.pending) {
			send = l.q.ch
		}
		select {
		case b, ok := <-recv:
			if !ok {
				l.flush()
				return
			}
			if l.receive(b); l.pending != nil {
				stalled.Reset(stallLimit)
			}
		case send <- parcel{l.pending, l.skip}:
			l.sent()
			stalled.Stop()
		case <-l.q.freed:
		case <-stalled.C:
			if l.pending != nil {
				l.giveUp(l.pending)
				l.pending = nil
			}
		case now := <-tick.C:
			tick.Reset(beat.Until(now, watchEvery))
			if err := l.watch(now); err != nil {
				l.hangUp(err)
			}
		case cmd := <-l.c.box:
			l.command(cmd)
		case err := <-l.werr:
			l.hangUp(err)
		case <-done:
			done = nil // the reader closes in soon; until then it must not be stuck
		}
	}
}

func (l *link) hangUp(err error) {
	if l.why == nil {
		l.why = err
	}
	l.cancel()
}

func (l *link) command(cmd segment.Command) {
	switch cmd.Verb {
	case segment.VerbSplit:
		l.t.seg.split.Store(true)
	case segment.VerbPause, segment.VerbStop:
		l.verb = cmd.Verb
		l.cancel()
	}
}

// receive takes a batch from the reader and gives it to the writer at once if there is room.
func (l *link) receive(b *media.Batch) {
	now := time.Now()
	l.c.view.received(now, b.Count.Received)
	l.ring[l.secs%len(l.ring)].bytes += b.Count.Received
	if l.skip.on && (!l.q.fits(b) || l.video.Load() && !fromKey(b, &l.skip)) {
		l.giveUp(b)
		return
	}
	l.pending, l.weight, l.since = b, int64(b.Size()), now
	if !l.q.fits(b) {
		return
	}
	select {
	case l.q.ch <- parcel{b, l.skip}:
		l.sent()
	default:
	}
}

func (l *link) sent() {
	l.q.bytes.Add(l.weight) // the batch is the writer's, and may be another one by now
	if d := time.Since(l.since); d > 10*time.Millisecond {
		l.c.view.change(func(s *Snapshot) { s.WorstStall = max(s.WorstStall, d) })
	}
	l.pending, l.skip = nil, skip{}
}

// giveUp lets a batch go. Headers in it are lost as well: servers repeat them, and a stream that does not is caught by
// the Repairer, which knows the current ones.
func (l *link) giveUp(b *media.Batch) {
	if !l.skip.on {
		l.c.view.change(func(s *Snapshot) { s.WorstStall = max(s.WorstStall, time.Since(l.since)) })
		l.c.log.Error().Msg("disk stands still, media is given up until the next key frame that it can take")
	}
	l.skip.on = true
	l.skip.tags += int64(len(b.Packets))
	add(&l.skip.count, b.Count)
	b.Release()
}

func add(a *media.Count, b media.Count) {
	a.Received += b.Received
	a.Header += b.Header
	a.Tags += b.Tags
	a.Junk += b.Junk
	a.Partial += b.Partial
}

// fromKey cuts off a batch what comes before its first key frame; false: there is none in it.
func fromKey(b *media.Batch, s *skip) bool {
	for i := range b.Packets {
		if k := b.Packets[i].Kind; k == media.VideoConfig || k == media.Video && b.Packets[i].Key {
			s.tags += int64(i)
			n := copy(b.Packets, b.Packets[i:])
			clear(b.Packets[n:])
			b.Packets = b.Packets[:n]
			return true
		}
	}
	return false
}

// flush hands over what is left when the reader is done.
func (l *link) flush() {
	if l.skip.on {
		l.q.ch <- parcel{nil, l.skip}
	}
}

// watch looks at the clock once a second: whether media is retained, and whether it comes too slowly.
func (l *link) watch(now time.Time) error {
	if i, ok := l.t.live.Source.(Informed); ok {
		l.c.hear(i.About())
	}
	if l.pending != nil || l.skip.on {
		return nil // the disk is to blame, not the source
	}
	if d := now.Sub(time.Unix(0, l.seen.Load())); d >= mediaLimit {
		return fmt.Errorf("no usable media for %v", mediaLimit)
	}
	l.ring[l.secs%len(l.ring)].out = l.out.Load()
	l.secs++
	oldest := l.ring[l.secs%len(l.ring)]
	l.ring[l.secs%len(l.ring)] = slot{}
	if l.secs < len(l.ring) || !l.video.Load() {
		return nil
	}
	var bytes int64
	for _, s := range l.ring {
		bytes += s.bytes
	}
	// Little is no fault of a picture that stands still; little and late is.
	if bytes < slowBytes && l.out.Load()-oldest.out < slowWindow.Milliseconds()/2 {
		return fmt.Errorf("less than %d KB/s for %v, and slower than real time", slowBytes/60/1024, slowWindow)
	}
	return nil
}

// write is the writer: it returns when the queue is closed and everything is written, or with an error of the disk.
func (l *link) write() error {
	t := l.t
	tick := time.NewTimer(beat.Until(time.Now(), tickEvery))
	defer tick.Stop()
	var pushed time.Time
	var source error // the source is not worth staying with
	for {
		select {
		case p, ok := <-l.q.ch:
			now := time.Now()
			if !ok {
				if err := fatal(t.rep.Disconnect(now), &source); err != nil {
					return err
				}
				err := t.seg.Rest(now)
				l.show()
				if err != nil {
					return err
				}
				return source
			}
			err := l.push(p, now, &source)
			if err == nil {
				err = t.seg.Tick(now)
			}
			l.show()
			if err != nil {
				return err
			}
			pushed = now
		case now := <-tick.C:
			tick.Reset(beat.Until(now, tickEvery))
			if now.Sub(pushed) < tickEvery+tickEvery/2 {
				continue // a batch came a moment ago or is about to come, and does all of this
			}
			err := fatal(t.rep.Tick(now), &source)
			if err == nil {
				err = t.seg.Tick(now)
			}
			l.show()
			if err != nil {
				return err
			}
		}
	}
}

func (l *link) push(p parcel, now time.Time, source *error) error {
	t := l.t
	if p.skip.on {
		if err := fatal(t.rep.Disconnect(now), source); err != nil {
			if p.batch != nil {
				l.q.done(p.batch)
			}
			return err
		}
		t.seg.skipped(p.skip)
		t.rep.Connect(now, whyStalled)
	}
	if p.batch == nil {
		return nil
	}
	had := *source
	t.seg.lend(p.batch.Bytes())
	err := fatal(t.rep.Push(p.batch), source)
	if kerr := t.seg.keep(); err == nil {
		err = kerr
	}
	l.q.done(p.batch)
	if *source != nil && had == nil {
		l.tell(*source) // what is still on its way is written
	}
	return err
}

// fatal tells apart what ends the writing from what only speaks against the source.
func fatal(err error, source *error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, repair.ErrLoop), errors.Is(err, repair.ErrFlapping):
	default:
		if _, ok := errors.AsType[*repair.Unsupported](err); !ok {
			return err
		}
	}
	if *source == nil {
		*source = err
	}
	return nil
}

// show tells the loop and everybody who looks how far the writer is.
func (l *link) show() {
	s := l.t.seg
	if s.seen.IsZero() {
		return
	}
	if ns := s.seen.UnixNano(); ns > l.seen.Load() {
		l.seen.Store(ns)
		l.c.view.change(func(v *Snapshot) { v.Error = "" })
		l.c.say(StateLive, l.t.live.Source.Host(), 0)
	}
	l.out.Store(s.lastOut)
	l.video.Store(len(s.configs.video) > 0)
	l.grade()
	l.c.view.wrote(s)
}
