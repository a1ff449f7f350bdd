package repair

import (
	"fmt"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// queue is a FIFO whose memory is used again.
type queue struct {
	e    []entry
	head int
}

func (q *queue) all() []entry { return q.e[q.head:] }
func (q *queue) len() int     { return len(q.e) - q.head }
func (q *queue) front() *entry {
	return &q.e[q.head]
}

func (q *queue) push(e entry) {
	if q.head > 0 && len(q.e) == cap(q.e) {
		n := copy(q.e, q.e[q.head:])
		clear(q.e[n:])
		q.e, q.head = q.e[:n], 0
	}
	q.e = append(q.e, e)
}

func (q *queue) pop() {
	q.e[q.head] = entry{}
	q.head++
	if q.head == len(q.e) {
		q.e, q.head = q.e[:0], 0
	}
}

// order merges the two tracks. Each is in order by itself.
type order struct {
	q         [2]queue
	newest    int64 // highest output time that is in here or was
	markers   int   // entries in here that begin a configuration
	configDue bool  // the next item, whichever it is, begins a configuration

	// Bodies that outlive their batch. They are copied over when the room is used up.
	arena, spare []byte
}

func (o *order) push(t int, e entry) {
	o.newest = max(o.newest, e.out)
	o.q[t].push(e)
}

// drain writes what is in its place for sure, and what has waited long enough.
func (r *Repairer) drain(force bool) {
	o := &r.order
	for r.err == nil {
		v, a := &o.q[vid], &o.q[aud]
		switch {
		case v.len() > 0 && a.len() > 0:
			if a.front().out < v.front().out {
				r.emit(aud)
			} else {
				r.emit(vid)
			}
		case v.len() > 0 && (force || r.due(v.front(), aud)):
			r.emit(vid)
		case a.len() > 0 && (force || r.due(a.front(), vid)):
			r.emit(aud)
		default:
			return
		}
	}
}

// due reports whether a tag need not wait for the other track.
func (r *Repairer) due(e *entry, other int) bool {
	return !r.gate.cur[other].set || r.order.newest-e.out >= r.cfg.window || r.now-e.at >= r.cfg.window
}

// emit hands the front of a track to the sink.
func (r *Repairer) emit(t int) {
	o := &r.order
	e := o.q[t].front()
	if o.configDue || e.marker {
		r.gate.show()
		if err := r.sink.Config(r.gate.configs()); err != nil {
			r.err = fmt.Errorf("begin a part at %d ms: %w", e.out, err)
			return
		}
		o.configDue = false
	}
	r.item = Item{
		Packet: media.Packet{
			Kind: e.kind, Codec: e.codec, Key: e.key, Track: e.track, Lead: e.lead, DTS: e.dts, CTS: e.cts,
			Shift: time.Duration(e.cts) * time.Millisecond, Body: e.body, Sum: e.sum,
		},
		Out: e.out, Time: time.Duration(e.out) * time.Millisecond, Ordinal: r.ordinal + 1, Dur: r.clock.frame[t], Lasts: time.Duration(r.clock.frame[t]) * time.Millisecond, At: time.UnixMilli(e.at),
	}
	if err := r.sink.Media(&r.item); err != nil {
		r.err = fmt.Errorf("write item %d at %d ms: %w", r.item.Ordinal, e.out, err)
		return
	}
	r.ordinal++
	r.content = Chain(r.content, r.ordinal, e.sum)
	r.frames[t]++
	r.account.Written++
	r.sent[t] = e.out
	r.sentAt = max(r.sentAt, e.at)
	if e.marker {
		o.markers--
	}
	o.q[t].pop()
}

// settle copies what is still held out of the batch that is about to go.
func (r *Repairer) settle() {
	o := &r.order
	fresh, all := 0, 0
	r.eachBody(func(e *entry) {
		all += len(e.body)
		if !e.owned {
			fresh += len(e.body)
		}
	})
	if all == fresh { // nothing of the arena is in use
		o.arena = o.arena[:0]
		if cap(o.arena) > arenaKeep && fresh < arenaKeep/4 {
			o.arena, o.spare = nil, nil
		}
	}
	if fresh == 0 {
		return
	}
	if len(o.arena)+fresh > cap(o.arena) {
		if cap(o.spare) < all {
			o.spare = make([]byte, 0, 2*all+arenaMin)
		}
		to := o.spare[:0]
		r.eachBody(func(e *entry) {
			n := len(to)
			to = append(to, e.body...)
			e.body, e.owned = to[n:len(to):len(to)], true
		})
		o.arena, o.spare = to, o.arena[:0]
		return
	}
	r.eachBody(func(e *entry) {
		if !e.owned {
			n := len(o.arena)
			o.arena = append(o.arena, e.body...)
			e.body, e.owned = o.arena[n:len(o.arena):len(o.arena)], true
		}
	})
}

const (
	arenaMin  = 64 << 10
	arenaKeep = 1 << 20 // what a seam or the start needed more than this is given back
)

// eachBody visits everything that is held.
func (r *Repairer) eachBody(f func(e *entry)) {
	for i := range r.hold {
		f(&r.hold[i])
	}
	for i := range r.early {
		f(&r.early[i])
	}
	for t := range r.order.q {
		es := r.order.q[t].all()
		for i := range es {
			f(&es[i])
		}
	}
}
