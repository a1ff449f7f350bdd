// Package notify tells people what they want to know: that a broadcast began and how it ended, what is wrong and that it
// is well again.
//
// It owns the words, the patience with receivers, and the promise that nobody is told too much: what comes together goes
// out together, and at most three messages an hour are about one thing. It is never in the way of media: Tell does not
// block, a receiver that hangs holds one goroutine and loses what does not fit into its queue, which is counted and told.
// No address of a receiver is printed: it is a secret.
package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/facts"
)

const (
	// Queue is how many facts wait for one receiver at the most.
	Queue = 256
	// gather is how long a message waits for others that come with it.
	gather = 5 * time.Second
	// patience is how long a receiver may take for one message.
	patience = 30 * time.Second
	// most is how many messages in an hour are about one room, or one trouble.
	most = 3
	span = time.Hour
	// What cannot be told is tried again between these distances, and given up after a while.
	soonest, latest = 30 * time.Second, 15 * time.Minute
	giveUp          = 12 * time.Hour
	// deaf is how long a receiver has to fail before the others hear of it.
	deaf = 10 * time.Minute
)

// Topics of the config file.
const (
	Broadcasts = "broadcast"
	Troubles   = "trouble"
)

// Sender brings a message to its receiver. Send may block for as long as it likes; it is not called again before it
// returns. Its error holds no secret.
type Sender interface {
	Send(text string) error
}

// Receiver is somebody who wants to hear of things.
type Receiver struct {
	Name   string // for logs
	Key    string // what makes it the same in another config; holds no secret that is printed
	On     []string
	Sender Sender
}

// Config of a Notifier.
type Config struct {
	// Host is the name of this machine: troubles say where they are.
	Host string
}

// Notifier tells facts to receivers.
type Notifier struct {
	cfg     Config
	log     zerolog.Logger
	changed chan struct{} // rung by Use; made by New, never closed

	mu    sync.Mutex // guards what is below
	lanes []*lane
	fresh []*lane // that Run has not started yet
	over  bool    // Run has returned, or is about to
}

// lane is one receiver with its queue.
type lane struct {
	to     Receiver
	queue  chan facts.Fact // made by Use; sent by Tell; closed by Use or Run, under the mutex
	closed bool            // guarded by Notifier.mu, like all below

	lost    int64
	lostAt  time.Time
	failing time.Time // since when nothing came through; zero: it does
	why     string
}

// New makes a Notifier without receivers; it starts nothing.
func New(cfg Config, log zerolog.Logger) *Notifier {
	return &Notifier{cfg: cfg, log: log, changed: make(chan struct{}, 1)}
}

func (n *Notifier) String() string { return "notifications" }

// Use takes the receivers of a new config. One that is there still keeps its queue and what it was told; one that is not
// there any more is told nothing more.
func (n *Notifier) Use(rs []Receiver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return
	}
	var lanes []*lane
	for _, r := range rs {
		i := slices.IndexFunc(n.lanes, func(l *lane) bool {
			return l.to.Key == r.Key && l.to.Name == r.Name && slices.Equal(l.to.On, r.On) && !slices.Contains(lanes, l)
		})
		if i >= 0 {
			lanes = append(lanes, n.lanes[i])
			continue
		}
		l := &lane{to: r, queue: make(chan facts.Fact, Queue)} // 256 facts of some KiB
		lanes, n.fresh = append(lanes, l), append(n.fresh, l)
	}
	for _, l := range n.lanes {
		if !slices.Contains(lanes, l) {
			l.closed = true
			close(l.queue)
		}
	}
	n.lanes = lanes
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// topic is what a fact is about, "" if nobody is notified of it.
func topic(f facts.Fact) string {
	switch f.Kind {
	case facts.BroadcastStart, facts.BroadcastEnd:
		return Broadcasts
	case facts.TroubleFact:
		return Troubles
	}
	return ""
}

// Tell puts a fact into the queues of those who want to hear of it. It never blocks.
func (n *Notifier) Tell(f facts.Fact) {
	about := topic(f)
	if about == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.lanes {
		if l.closed || !slices.Contains(l.to.On, about) {
			continue
		}
		select {
		case l.queue <- f:
		default:
			l.lost++
			l.lostAt = time.Now()
			if l.lost == 1 || l.lost%100 == 0 {
				n.log.Warn().Str("receiver", l.to.Name).Int64("lost", l.lost).Msg("receiver is too slow, it is not told everything")
			}
		}
	}
}

// Lost is how many facts did not fit into a queue.
func (n *Notifier) Lost() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum int64
	for _, l := range n.lanes {
		sum += l.lost
	}
	return sum
}

// Conditions are the troubles of the receivers, for a picture: another receiver, the page and the log can say them.
func (n *Notifier) Conditions() []facts.Condition {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []facts.Condition
	for _, l := range n.lanes {
		if !l.failing.IsZero() && time.Since(l.failing) >= deaf || l.lost > 0 && time.Since(l.lostAt) < deaf {
			why := l.why
			if why == "" {
				why = "it is too slow"
			}
			out = append(out, facts.Condition{Key: "notify " + l.to.Name, Well: "Notifications by " + l.to.Name + " arrive again",
				Text: "Notifications by " + l.to.Name + " do not arrive: " + why, Hint: "Try `liverec serve --test-notify`; look at the address and the network."})
		}
	}
	return out
}

// Run tells what there is to tell until ctx ends. What waits then gets one last try, for which receivers have two seconds.
func (n *Notifier) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		n.mu.Lock()
		for _, l := range n.fresh {
			wg.Go(func() { n.work(ctx, l) })
		}
		n.fresh = nil
		n.mu.Unlock()
		select {
		case <-n.changed:
		case <-ctx.Done():
			n.mu.Lock()
			n.over = true
			for _, l := range n.lanes {
				l.closed = true
				close(l.queue)
			}
			n.mu.Unlock()
			return nil
		}
	}
}

// work tells one receiver its facts.
func (n *Notifier) work(ctx context.Context, l *lane) {
	c := newClerk(n.cfg.Host)
	var busy chan error // the message on its way; nil: none is
	var sent []note     // what is in it
	late := false       // it took longer than patience
	wait := soonest
	hold := time.Time{} // not before: the last try failed
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	at := time.Time{} // when to look next; zero: there is nothing to look at
	plan := func() {
		if at = c.next(time.Now()); !at.IsZero() && at.Before(hold) {
			at = hold
		}
	}
	queue := l.queue
	for queue != nil {
		timer.Reset(max(time.Until(at), 0))
		due := timer.C
		if at.IsZero() {
			due = nil
		}
		select {
		case f, ok := <-queue:
			if !ok {
				queue = nil
				continue
			}
			c.add(f, time.Now())
			if busy == nil {
				plan()
			}
		case <-due:
			switch {
			case busy == nil:
				text, notes := c.take(time.Now())
				if text == "" {
					plan()
					continue
				}
				sent, late = notes, false
				busy = send(l.to.Sender, text)
				at = time.Now().Add(patience)
			case !late: // it hangs; nothing else is sent before it has come back
				late = true
				at = time.Time{}
				n.failed(l, errors.New("it does not answer"))
			}
		case err := <-busy:
			busy = nil
			if err == nil {
				c.told(sent, time.Now())
				n.well(l)
				wait, hold = soonest, time.Time{}
			} else {
				c.back(sent, time.Now())
				n.failed(l, err)
				hold = time.Now().Add(wait)
				wait = min(2*wait, latest)
			}
			plan()
		}
	}
	if ctx.Err() == nil {
		return // it is not in the config any more
	}
	timer.Reset(2 * time.Second)
	if busy == nil {
		if text, _ := c.take(time.Now()); text != "" {
			busy = send(l.to.Sender, text)
		}
	}
	if busy != nil {
		select {
		case err := <-busy:
			if err != nil {
				n.failed(l, err)
			}
		case <-timer.C:
			n.log.Warn().Str("receiver", l.to.Name).Msg("the last notification did not come through")
		}
	}
}

// send begins to send. Nobody can end it: a sender that hangs keeps one goroutine, and no second one, until it returns.
func send(s Sender, text string) chan error {
	done := make(chan error, 1) // one answer, for a receiver that may be gone
	go func() {
		defer func() {
			if v := recover(); v != nil {
				done <- fmt.Errorf("the sender died: %T", v)
			}
		}()
		done <- s.Send(text)
	}()
	return done
}

func (n *Notifier) failed(l *lane, err error) {
	n.mu.Lock()
	first := l.failing.IsZero() || l.why != err.Error()
	if l.failing.IsZero() {
		l.failing = time.Now()
	}
	l.why = err.Error()
	n.mu.Unlock()
	if first {
		n.log.Warn().Err(err).Str("receiver", l.to.Name).Msg("notification does not come through, it is tried again")
	}
}

func (n *Notifier) well(l *lane) {
	n.mu.Lock()
	since := l.failing
	l.failing, l.why = time.Time{}, ""
	n.mu.Unlock()
	if !since.IsZero() {
		n.log.Info().Str("receiver", l.to.Name).Msg("notifications come through again")
	}
}
