package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/facts"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/status"
)

const (
	// pages is how many notes one message has at the most, and letters how long it gets: the shortest limit of the services
	// is 2,000.
	pages, letters = 12, 1800
	// shelf is how many notes wait for a receiver that cannot be reached.
	shelf = 100
)

// note is something to say about one thing.
type note struct {
	about string // the room, or the key of the trouble
	fact  facts.Fact
	at    time.Time
	more  int // earlier facts about the same thing that it stands for
}

// clerk decides what is said and when. It is pure and belongs to one goroutine.
type clerk struct {
	host    string
	waiting []note
	said    map[string][]time.Time // when something was said about a thing within the last hour
	shown   map[string]string      // the state of a trouble that the receiver knows
	dropped int                    // notes that did not fit on the shelf
}

func newClerk(host string) *clerk {
	return &clerk{host: host, said: map[string][]time.Time{}, shown: map[string]string{}}
}

func about(f facts.Fact) string {
	if f.Trouble != nil {
		return "trouble " + f.Trouble.Key
	}
	return "room " + f.Room.Room
}

// add takes a fact. While a thing has no message left in its hour, its newest fact stands for those before it.
func (c *clerk) add(f facts.Fact, now time.Time) {
	nt := note{about: about(f), fact: f, at: now}
	c.forget(nt.about, now)
	if len(c.said[nt.about])+c.count(nt.about) >= most {
		if i := slices.IndexFunc(c.waiting, func(w note) bool { return w.about == nt.about }); i >= 0 {
			last := i
			for j := i; j < len(c.waiting); j++ {
				if c.waiting[j].about == nt.about {
					last = j
				}
			}
			nt.more = c.waiting[last].more + 1
			c.waiting = slices.Delete(c.waiting, last, last+1)
		}
	}
	c.waiting = append(c.waiting, nt)
	if len(c.waiting) > shelf {
		c.waiting = slices.Delete(c.waiting, 0, 1)
		c.dropped++
	}
}

func (c *clerk) count(about string) (n int) {
	for _, w := range c.waiting {
		if w.about == about {
			n++
		}
	}
	return n
}

// forget drops what was said of a thing more than an hour ago.
func (c *clerk) forget(about string, now time.Time) {
	at := slices.DeleteFunc(c.said[about], func(t time.Time) bool { return now.Sub(t) >= span || t.After(now) })
	if c.said[about] = at; len(at) == 0 {
		delete(c.said, about)
	}
}

// free is when a thing has a message left, and which note of it is heard then.
func (c *clerk) free(nt note, before int) time.Time {
	said := c.said[nt.about]
	if len(said)+before < most {
		return nt.at.Add(gather)
	}
	return said[max(len(said)+before-most, 0)].Add(span)
}

// next is when there is something to send; zero: nothing waits.
func (c *clerk) next(now time.Time) time.Time {
	var at time.Time
	seen := map[string]int{}
	for _, nt := range c.waiting {
		if seen[nt.about] >= most {
			continue
		}
		if t := c.free(nt, seen[nt.about]); at.IsZero() || t.Before(at) {
			at = t
		}
		seen[nt.about]++
	}
	if !at.IsZero() && at.Before(now) {
		return now
	}
	return at
}

// take makes one message of what may be said now.
func (c *clerk) take(now time.Time) (string, []note) {
	for about := range c.said {
		c.forget(about, now)
	}
	var out, rest []note
	seen := map[string]int{}
	for _, nt := range c.waiting {
		// What comes with a note that is due goes with it.
		if len(c.said[nt.about])+seen[nt.about] >= most {
			rest = append(rest, nt)
			continue
		}
		if nt.fact.Trouble != nil && nt.more > 0 && c.shown[nt.about] == nt.fact.Trouble.State {
			continue // it came and went, and is as the receiver knows it
		}
		seen[nt.about]++
		out = append(out, nt)
	}
	c.waiting = rest
	return c.text(out), out
}

// told remembers that a message came through.
func (c *clerk) told(notes []note, now time.Time) {
	for _, nt := range notes {
		c.said[nt.about] = append(c.said[nt.about], now)
		if tr := nt.fact.Trouble; tr != nil {
			if c.shown[nt.about] = tr.State; tr.State == facts.Ends && len(c.shown) > 1000 {
				delete(c.shown, nt.about)
			}
		}
	}
	c.dropped = 0
}

// back puts notes on the shelf again that did not come through; those that are too old are given up.
func (c *clerk) back(notes []note, now time.Time) {
	c.waiting = append(notes, c.waiting...)
	c.waiting = slices.DeleteFunc(c.waiting, func(nt note) bool { return now.Sub(nt.at) > giveUp })
	if over := len(c.waiting) - shelf; over > 0 {
		c.waiting = slices.Delete(c.waiting, 0, over)
		c.dropped += over
	}
}

// text is a message for a phone.
func (c *clerk) text(notes []note) string {
	var b strings.Builder
	left := c.dropped
	for i, nt := range notes {
		s := c.say(nt)
		if i >= pages || b.Len()+len(s) > letters {
			left += len(notes) - i
			break
		}
		if i > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString(s)
	}
	if left > 0 && b.Len() > 0 {
		fmt.Fprintf(&b, "\n\n… and %d more; the page and `liverec status` have all of it.", left)
	}
	return b.String()
}

func (c *clerk) say(nt note) string {
	f := nt.fact
	var s string
	switch {
	case f.Trouble != nil && f.Trouble.State == facts.Ends:
		s = "Well again" + c.on() + ": " + f.Trouble.Text
	case f.Trouble != nil:
		s = "Trouble" + c.on() + ": " + f.Trouble.Text
		if f.Trouble.Hint != "" {
			s += "\n" + f.Trouble.Hint
		}
		if f.Trouble.Again {
			s += "\nIt comes and goes: the next word about it comes after an hour of quiet."
		}
	case f.Kind == facts.BroadcastStart:
		s = f.Room.Room + " is live"
		if t := naming.Line(f.Broadcast.Title); t != "" {
			s += ": " + clip(t)
		}
		s += "\n" + f.Room.URL
	default:
		s = f.Room.Room + " has ended" + lasted(f.Broadcast) + ": " + f.Report.Text + "."
		if !f.Report.Complete && f.Report.UnsafeBytes > 0 {
			s += "\n" + status.Size(f.Report.UnsafeBytes) + " are safe nowhere else yet, they are on their way."
		}
	}
	if nt.more > 0 {
		s += fmt.Sprintf("\n(and %d more changes of it since the last word)", nt.more)
	}
	return s
}

func (c *clerk) on() string {
	if c.host == "" {
		return ""
	}
	return " on " + c.host
}

func lasted(b *facts.Broadcast) string {
	from, err := time.Parse(time.RFC3339, b.Started)
	to, terr := time.Parse(time.RFC3339, b.Ended)
	if err != nil || terr != nil || to.Before(from) {
		return ""
	}
	return " after " + status.Span(to.Sub(from).Round(time.Second))
}

func clip(s string) string {
	if r := []rune(s); len(r) > 200 {
		return string(r[:199]) + "…"
	}
	return s
}
