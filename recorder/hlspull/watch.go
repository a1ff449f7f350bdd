package hlspull

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
	"github.com/liverec/liverec/recorder/hlspull/plan"
)

const (
	// soonest is the least time between two loads of a list.
	soonest = 200 * time.Millisecond
	// unblocked is how long a list is polled after a blocking reload has failed.
	unblocked = 60 * time.Second
	// longList is how many segments make a delta worth asking for.
	longList = 500
)

// watch is the state of one list that is loaded again and again. It belongs to the engine.
type watch struct {
	url      string
	gen      int // rises when the list comes from elsewhere
	busy     bool
	blocked  bool // the load that is under way is a blocking one
	unclosed bool // the last list ended with an open line
	due      time.Time
	began    time.Time // of the last load
	tag      string    // what makes the next load conditional
	since    string
	sum      uint64 // of the last body
	target   time.Duration
	moved    bool // the next list comes from another place than the last one that was planned
	full     bool // no delta next time
	fails    int
	failing  time.Time // since when every load has failed
	err      error     // the last one

	changed time.Time // when a list brought something new
	stale   time.Time // since when only old copies came
	empty   time.Time // since when there was nothing in it
	ended   bool

	control hls.ServerControl
	edge    uint64    // sequence number of the last segment listed
	listed  bool      // edge holds
	poll    time.Time // no blocking reload until then
	copied  time.Time // when the last full list came
	count   int
	first   plan.ID // of the last list
	newest  plan.Segment
	parts   []hls.Part // of the open segment, newest list
}

// glance is one load of a list.
type glance struct {
	t       *track
	gen     int
	began   time.Time
	blocked bool
	answer  fetch.Answer
	list    *hls.Media
	master  *hls.Master
	same    bool
	sum     uint64
	err     error
}

// look starts a load of the list of a track.
func (e *engine) look(t *track, now time.Time) {
	w := &t.watch
	w.busy, w.began = true, now
	raw, blocked := w.ask(now)
	w.blocked = blocked
	r := fetch.Request{URL: raw, Max: hls.MaxSize, Total: listTimeout, Tag: w.tag, Since: w.since}
	if blocked {
		r.First = 3*w.target + 5*time.Second
		r.Total = r.First + listTimeout
		r.Tag, r.Since = "", ""
	}
	gen, sum := w.gen, w.sum
	var variables map[string]string
	if e.master != nil {
		variables = e.master.Variables
	}
	e.start(func(ctx context.Context) any {
		g := glance{t: t, gen: gen, began: now, blocked: blocked}
		g.answer, g.err = e.s.client.Get(ctx, r)
		e.count.header(g.answer.Read)
		if g.err != nil || g.answer.Status == http.StatusNotModified {
			g.same = g.err == nil
			return g
		}
		if g.sum = xxhash.Sum64(g.answer.Body); g.sum == sum {
			g.same = true
			return g
		}
		p, err := hls.ParseWith(g.answer.Body, g.answer.URL, variables)
		g.list, g.master, g.err = p.Media, p.Master, err
		g.answer.Body = nil
		return g
	})
}

// ask is the URL of the next load: with blocking reload where the server knows it, as a delta where the list is long.
func (w *watch) ask(now time.Time) (raw string, blocked bool) {
	if !w.listed || w.moved {
		return w.url, false
	}
	blocked = w.control.BlockReload && !now.Before(w.poll)
	delta := w.control.SkipUntil > 0 && w.count > longList && !w.full && now.Sub(w.copied) < w.control.SkipUntil/2
	if !blocked && !delta {
		return w.url, false
	}
	u, err := url.Parse(w.url)
	if err != nil {
		return w.url, false
	}
	q := u.RawQuery
	add := func(s string) {
		if q != "" {
			q += "&"
		}
		q += s
	}
	if blocked {
		add("_HLS_msn=" + strconv.FormatUint(w.edge+1, 10))
	}
	if delta {
		add("_HLS_skip=YES")
	}
	u.RawQuery = q
	return u.String(), blocked
}

// seen takes in a load.
func (e *engine) seen(g glance, now time.Time) {
	t := g.t
	w := &t.watch
	w.busy = false
	if g.gen != w.gen {
		return // it comes from a place that was left meanwhile
	}
	if g.err == nil && g.master != nil {
		g.err = errors.New("load playlist: a multivariant playlist where a media playlist was")
	}
	if g.err != nil {
		e.failed(t, g, now)
		return
	}
	if w.fails > 0 {
		e.log.Info().Str("list", t.name).Int("failures", w.fails).Msg("playlist can be had again")
	}
	w.fails, w.failing, w.err = 0, time.Time{}, nil
	w.tag, w.since = g.answer.Tag, g.answer.Since
	if g.same {
		e.unchanged(t, g, now)
		return
	}
	w.sum = g.sum
	if open := g.list.Open && len(g.list.Segments) > 0; open && !w.unclosed {
		// half a name is a wrong one; a packager that always ends so will do it again
		g.list.Segments = g.list.Segments[:len(g.list.Segments)-1]
		w.unclosed, w.sum, w.tag, w.since = true, 0, "", ""
	} else {
		w.unclosed = open
	}
	r := t.plan.Plan(plan.Snapshot{List: g.list, At: g.began, Moved: w.moved})
	for _, ev := range r.Events {
		l := e.log.Info()
		if ev.What == plan.OldCopy || ev.What == plan.Renamed {
			l = e.log.Debug()
		}
		l.Str("list", t.name).Uint64("count", ev.Count).Dur("length", ev.Length).Msg(ev.What.String())
	}
	w.target = r.Target
	w.control = g.list.ServerControl
	switch {
	case r.Full:
		w.full, w.due, w.sum = true, now, 0
		w.tag, w.since = "", ""
		return
	case r.Empty:
		if w.empty.IsZero() {
			w.empty = now
		}
		w.due = later(g.began.Add(w.target), now)
		return
	case r.Doubt:
		w.sum, w.tag, w.since = 0, "", ""
		w.due = later(g.began.Add(min(w.target/2, time.Second)), now)
		return
	case r.Stale:
		if w.stale.IsZero() {
			w.stale = now
		}
		e.staleSeen = now
		t.update(r, now)
		w.due = later(g.began.Add(w.target/2), now)
		return
	}
	w.moved, w.full, w.empty, w.stale = false, false, time.Time{}, time.Time{}
	last := &g.list.Segments[len(g.list.Segments)-1]
	w.edge, w.listed, w.count = last.Sequence, true, len(g.list.Segments)+int(min(g.list.Skipped, 1<<20))
	if g.list.Skipped == 0 {
		w.copied = now
	}
	w.parts, w.first = g.list.Parts, r.First
	if n := len(r.New); n > 0 {
		w.newest = r.New[n-1]
	} else if n := len(r.Known); n > 0 {
		w.newest = r.Known[n-1]
	}
	t.update(r, now)
	if r.Changed {
		w.changed = now
		for _, s := range r.New {
			t.add(s, r, now)
		}
	}
	w.ended = r.Ended
	e.noteLife(t, now)
	switch {
	case w.ended:
		if len(w.parts) > 0 {
			t.addParts(now)
		}
	case g.blocked && r.Changed, !g.blocked && r.Changed && w.control.BlockReload && !now.Before(w.poll):
		w.due = later(g.began.Add(soonest), now)
	case r.Changed:
		wait := w.target
		if last.Duration > 0 {
			wait = min(wait, max(last.Duration, soonest))
		}
		w.due = later(g.began.Add(wait), now)
	default:
		e.unchanged(t, g, now)
	}
}

// unchanged plans the next load after one that brought nothing.
func (e *engine) unchanged(t *track, g glance, now time.Time) {
	w := &t.watch
	if g.blocked && now.Sub(g.began) < w.target/2 {
		w.poll = now.Add(unblocked) // it does not block
	}
	if t.watch.listed && w.empty.IsZero() {
		t.still(now)
	}
	w.due = later(g.began.Add(max(w.target/2, soonest)), now)
}

// failed plans the next load after one that did not come off.
func (e *engine) failed(t *track, g glance, now time.Time) {
	w := &t.watch
	w.err = g.err
	if g.blocked {
		// the server does not block, or not for so long: ask at once in the plain way
		w.poll, w.due = now.Add(unblocked), now
		return
	}
	if w.failing.IsZero() {
		w.failing = now
	}
	w.fails++
	if w.fails == 1 {
		e.log.Warn().Err(g.err).Str("list", t.name).Msg("playlist cannot be had")
	}
	w.tag, w.since = "", ""
	wait := min(backoff(min(w.fails, 4)), max(w.target, time.Second))
	if s, ok := errors.AsType[*fetch.StatusError](g.err); ok && s.Wait > 0 {
		wait = s.Wait
	}
	w.due = now.Add(wait)
	yes, _ := refused(g.err)
	if yes {
		e.wantRenewal(now, "playlist was refused: "+g.err.Error())
	}
	if w.fails >= 2 && !yes || w.fails >= 4 {
		e.leave(fmt.Sprintf("playlist failed: %v", g.err), now)
	}
}

func later(t, now time.Time) time.Time {
	if t.Before(now) {
		return now
	}
	return t
}
