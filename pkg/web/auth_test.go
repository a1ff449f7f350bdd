package web_test

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/web"
	"github.com/liverec/liverec/pkg/web/webtest"
)

func TestWrongPasswordsWait(t *testing.T) {
	th := web.NewThrottle()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := web.Place("192.0.2.1:1234")
	for i := range 5 {
		if w := th.Admit(p, now); w != 0 {
			t.Fatalf("try %d waits %v", i+1, w)
		}
	}
	var waits []time.Duration
	for range 14 {
		w := th.Admit(p, now)
		if w <= 0 {
			t.Fatal("a try too many passed")
		}
		if early := th.Admit(p, now.Add(w-time.Millisecond)); early <= 0 {
			t.Fatal("a try before its time passed")
		}
		waits = append(waits, w)
		now = now.Add(w)
		if w := th.Admit(p, now); w != 0 {
			t.Fatalf("a try in time waits %v", w)
		}
	}
	want := "[1s 2s 4s 8s 16s 32s 1m4s 2m8s 4m16s 8m32s 15m0s 15m0s 15m0s 15m0s]"
	if got := fmt.Sprint(waits); got != want {
		t.Errorf("waits are %s, want %s", got, want)
	}
	if w := th.Admit(web.Place("192.0.2.2:1234"), now); w != 0 {
		t.Errorf("a neighbour waits %v", w)
	}
	if w := th.Admit(p, now.Add(time.Hour)); w != 0 {
		t.Errorf("an hour later it is not forgiven: %v", w)
	}
	th.Right(p)
	for range 5 {
		if w := th.Admit(p, now); w != 0 {
			t.Errorf("after the right password it waits %v", w)
		}
	}
}

func TestPlaces(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1/32", "[::ffff:192.0.2.1]:1": "192.0.2.1/32", "[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64",
		"@": "invalid Prefix", "": "invalid Prefix",
	} {
		if got := web.Place(addr).String(); got != want {
			t.Errorf("%s is %s, want %s", addr, got, want)
		}
	}
}

func TestTheThrottleRemembersABoundedNumber(t *testing.T) {
	th := web.NewThrottle()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		th.Admit(netip.PrefixFrom(a, 32), now.Add(time.Duration(i)))
	}
	if n := th.Suspects(); n < 3072 || n > 4096 {
		t.Errorf("%d addresses are remembered", n)
	}
}

// A hundred tries at once are no way around the throttle, and the clock alone lets the next one in.
func TestLoginIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := door(t, webtest.New(1), locked(t))
		try := func(from, password string) int {
			r := ask(s, "POST", "/login", "password="+url.QueryEscape(password), "Content-Type: application/x-www-form-urlencoded", "Accept: application/json", "From: "+from)
			if r.StatusCode == 429 && r.Header.Get("Retry-After") == "" {
				t.Error("nobody is told how long to wait")
			}
			return r.StatusCode
		}
		got := make(chan int, 100)
		for range 100 {
			go func() { got <- try("192.0.2.1:5", "wrong") }()
		}
		count := map[int]int{}
		for range 100 {
			count[<-got]++
		}
		if count[401] != 5 || count[429] != 95 {
			t.Errorf("answers: %v", count)
		}
		if st := try("192.0.2.1:6", thePassword); st != 429 {
			t.Errorf("even the right password has to wait: %d", st)
		}
		r := ask(s, "POST", "/login", "password=x&next=%2Fa", "Content-Type: application/x-www-form-urlencoded", "From: 192.0.2.1:7")
		if loc := r.Header.Get("Location"); loc != "/login?next=%2Fa&wait=1" {
			t.Errorf("a browser is sent to %s", loc)
		}
		if st := try("192.0.2.9:6", thePassword); st != 204 {
			t.Errorf("another address: %d", st)
		}
		time.Sleep(2 * time.Second)
		if st := try("192.0.2.1:6", thePassword); st != 204 {
			t.Errorf("two seconds later: %d", st)
		}
	})
}

func TestSessionsEnd(t *testing.T) {
	s := web.NewSessions()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const day = 24 * time.Hour
	idle, busy := s.Open(begin), s.Open(begin)
	for d := range 29 {
		if !s.Holds(busy, begin.Add(time.Duration(d)*day)) {
			t.Fatalf("a session in use ended on day %d", d)
		}
	}
	if s.Holds(idle, begin.Add(7*day)) {
		t.Error("a session that was idle for a week holds")
	}
	if s.Holds(busy, begin.Add(30*day)) {
		t.Error("a session of 30 days holds")
	}
	if s.Holds("", begin) || s.Holds(strings.Repeat("A", 43), begin) {
		t.Error("any text is a session")
	}
	for i := range 1100 {
		s.Open(begin.Add(time.Duration(i) * time.Second))
	}
	if n := s.Count(); n != 1000 {
		t.Errorf("%d sessions are kept", n)
	}
}
