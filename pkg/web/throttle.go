package web

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	freeTries   = 5                // wrong passwords before the first wait
	firstWait   = time.Second      // doubles with each further wrong one
	longestWait = 15 * time.Minute //
	forgive     = time.Hour        // after so long without a wrong one an address begins anew
	maxSuspects = 4096             // addresses that are remembered; those that were wrong longest ago give way
)

// throttle makes guessing slow: per address, since a person who forgot the password shall not be locked out by somebody
// else's guesses.
type throttle struct {
	mu   sync.Mutex // guards what is below
	seen map[netip.Prefix]*suspect
}

type suspect struct {
	wrong int       // tries that were wrong or are not decided yet
	last  time.Time // of the newest
}

func newThrottle() *throttle { return &throttle{seen: map[netip.Prefix]*suspect{}} }

// place is what counts as one address: an IPv6 subscriber has a whole /64.
func place(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // both lengths fit
	return p
}

// admit counts a try as wrong before anybody knows, so that a hundred at once are no way around; right takes it back.
// wait is how long the address has to wait instead, 0 if it may try.
func (t *throttle) admit(p netip.Prefix, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.seen[p]
	if s != nil && now.Sub(s.last) >= forgive {
		s.wrong = 0
	}
	if s == nil {
		if len(t.seen) >= maxSuspects {
			t.forget(now)
		}
		s = &suspect{}
		t.seen[p] = s
	}
	if s.wrong >= freeTries {
		if wait = s.last.Add(pause(s.wrong)).Sub(now); wait > 0 {
			return wait
		}
	}
	s.wrong++
	s.last = now
	return 0
}

// pause is how long an address waits after so many wrong tries.
func pause(wrong int) time.Duration {
	d := firstWait
	for range wrong - freeTries {
		if d *= 2; d >= longestWait {
			return longestWait
		}
	}
	return d
}

// forget makes room: for the oldest quarter at once, so that somebody with very many addresses costs little. The caller
// holds mu.
func (t *throttle) forget(now time.Time) {
	type aged struct {
		p    netip.Prefix
		last time.Time
	}
	left := make([]aged, 0, len(t.seen))
	for p, s := range t.seen {
		if now.Sub(s.last) >= forgive {
			delete(t.seen, p)
			continue
		}
		left = append(left, aged{p, s.last})
	}
	if len(left) < maxSuspects {
		return
	}
	slices.SortFunc(left, func(a, b aged) int { return a.last.Compare(b.last) })
	for _, a := range left[:maxSuspects/4] {
		delete(t.seen, a.p)
	}
}

// right says that the address knows the password.
func (t *throttle) right(p netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, p)
}
