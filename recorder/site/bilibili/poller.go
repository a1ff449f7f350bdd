package bilibili

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/failure"
)

const (
	// perCall is how many rooms one question is about; projects use up to 200.
	perCall = 100
	// apart is the least time between two questions of a process, whatever they are about.
	apart = time.Second
	// gather is how long a question waits for more rooms to ask about.
	gather = 100 * time.Millisecond
	// forget is when a room that nobody asks about leaves the batch.
	forget = 15 * time.Minute
	// callTimeout is how long one question may take.
	callTimeout = 10 * time.Second

	holdFirst = 2 * time.Minute
	holdMost  = 30 * time.Minute
)

// BlockedError says that the platform refuses to talk to us: nothing is known of the room.
type BlockedError struct {
	Why   string
	Until time.Time // nobody is asked before
}

func (e *BlockedError) Error() string { return e.Why }

// Poller is the one who asks the platform what the rooms of this process do: all of them in one question, at a rate that
// does not depend on how many there are. It may be used by many goroutines; the one who needs an answer first asks for
// all, the others wait for it. It starts no goroutine.
type Poller struct {
	client *bilibili.Client
	log    zerolog.Logger

	mu    sync.Mutex
	rooms map[int64]*known
	round *round // the question that is gathered or under way
	last  time.Time

	hold    *BlockedError // the platform is left alone until then
	refused int           // holds in a row
}

// known is what is known of one room.
type known struct {
	about About
	err   error // of the newest question; about is older then
	asked time.Time
	want  time.Time // when somebody last wanted to know
}

// round is one question.
type round struct {
	done chan struct{}
}

// NewPoller asks nobody yet.
func NewPoller(client *bilibili.Client, log zerolog.Logger) *Poller {
	return &Poller{client: client, log: log, rooms: map[int64]*known{}}
}

// Ask says what a room does, by an answer that is younger than age, or that was asked for after Ask was called. The error is a *BlockedError while the platform
// refuses us, or says why nobody could be asked.
func (p *Poller) Ask(ctx context.Context, room int64, age time.Duration) (About, error) {
	began := time.Now()
	for {
		p.mu.Lock()
		now := time.Now()
		k := p.rooms[room]
		if k == nil {
			k = &known{}
			p.rooms[room] = k
		}
		k.want = now
		fresh := age
		if k.err != nil {
			fresh = min(age, 3*time.Second) // whoever could not be asked may be asked again soon
		}
		if !k.asked.IsZero() && (now.Sub(k.asked) < fresh || k.asked.After(began)) {
			a, err := k.about, k.err
			p.mu.Unlock()
			return a, err
		}
		if err := p.held(now); err != nil {
			p.mu.Unlock()
			return About{}, err
		}
		r, lead := p.round, false
		if r == nil {
			r, lead = &round{done: make(chan struct{})}, true
			p.round = r
		}
		p.mu.Unlock()
		if lead {
			p.ask(ctx, r)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return About{}, fmt.Errorf("ask what the room does: %w", ctx.Err())
		}
		if ctx.Err() != nil {
			return About{}, fmt.Errorf("ask what the room does: %w", ctx.Err())
		}
	}
}

// Blocked is what holds the platform's door shut for us now, nil if nothing does.
func (p *Poller) Blocked() *BlockedError {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held(time.Now())
}

func (p *Poller) held(now time.Time) *BlockedError {
	if p.hold != nil && now.Before(p.hold.Until) {
		return p.hold
	}
	return nil
}

// ask asks for all rooms whose answer is not quite new, as far as ctx lets it. Whoever waits for r looks again then.
func (p *Poller) ask(ctx context.Context, r *round) {
	defer func() {
		p.mu.Lock()
		p.round = nil
		p.mu.Unlock()
		close(r.done)
	}()
	p.mu.Lock()
	wait := max(gather, time.Until(p.last.Add(apart)))
	p.mu.Unlock()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	due := p.due(time.Now())
	for part := range slices.Chunk(due, perCall) {
		if ctx.Err() != nil || p.Blocked() != nil {
			return
		}
		p.some(ctx, part)
	}
}

// due lists the rooms to ask about, those that were waited for longest first.
func (p *Poller) due(now time.Time) []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = now
	var due []int64
	for n, k := range p.rooms {
		switch {
		case now.Sub(k.want) > forget:
			delete(p.rooms, n)
		case now.Sub(k.asked) >= apart:
			due = append(due, n)
		}
	}
	slices.SortFunc(due, func(a, b int64) int {
		if c := p.rooms[a].asked.Compare(p.rooms[b].asked); c != 0 {
			return c
		}
		return int(min(max(a-b, -1), 1))
	})
	return due
}

// some asks about as many rooms as one question takes, and singly for those that are not in its answer.
func (p *Poller) some(ctx context.Context, rooms []int64) {
	within, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := batch(within, p.client, rooms)
	if err = p.judge(err); err != nil {
		if ctx.Err() == nil {
			for _, n := range rooms {
				p.store(n, About{}, err)
			}
		}
		return
	}
	for _, n := range rooms {
		if a, ok := got[n]; ok {
			p.store(n, a, nil)
		}
	}
	for _, n := range rooms {
		if _, ok := got[n]; ok {
			continue
		}
		if ctx.Err() != nil || p.Blocked() != nil {
			return
		}
		within, cancel := context.WithTimeout(ctx, callTimeout)
		a, err := single(within, p.client, n)
		cancel()
		if err = p.judge(err); err != nil && ctx.Err() != nil {
			return
		}
		p.store(n, a, err)
	}
}

func (p *Poller) store(room int64, a About, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.rooms[room]
	if k == nil {
		return // forgotten meanwhile
	}
	k.asked, k.err = time.Now(), err
	if err == nil {
		k.about = a
	}
}

// judge looks at how a question went: a refusal to talk to us holds all questions back, longer each time.
func (p *Poller) judge(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	why, ok := antibot(err)
	if !ok {
		if err == nil {
			p.refused = 0
		}
		return err
	}
	now := time.Now()
	if h := p.held(now); h != nil {
		return h // another question came first
	}
	d := failure.RetryAfter(err)
	if d <= 0 {
		d = holdFirst
	}
	d = min(d<<min(p.refused, 5), holdMost)
	d += time.Duration(rand.Int64N(int64(d)/10 + 1))
	p.refused++
	p.hold = &BlockedError{Why: why, Until: now.Add(d)}
	p.log.Warn().Str("why", why).Str("asking_again_in", d.Round(time.Second).String()).Msg("bilibili refuses to answer; no room is asked about until then, which would prolong it")
	return p.hold
}

// antibot reports whether an error is the platform's refusal to talk to us, as opposed to trouble of any other kind.
func antibot(err error) (why string, yes bool) {
	if b, ok := errors.AsType[*BlockedError](err); ok {
		return b.Why, true
	}
	r, ok := errors.AsType[*bilibili.Refusal](err)
	if !ok {
		return "", false
	}
	switch {
	case r.Code == -412 || r.Status == http.StatusPreconditionFailed:
		return "bilibili blocks this address for some time (412)", true
	case r.Voucher:
		return "bilibili wants a captcha", true
	case r.Code == -352:
		return "bilibili takes us for a robot (-352)", true
	case r.Code == -799 || r.Status == http.StatusTooManyRequests:
		return "bilibili was asked too often (-799)", true
	case r.Status == http.StatusForbidden:
		return "bilibili refuses this address (403)", true
	}
	return "", false
}
