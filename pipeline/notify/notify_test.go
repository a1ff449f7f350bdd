package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/facts"
	"github.com/liverec/liverec/pkg/secret"
)

// fake is a receiver in memory.
type fake struct {
	mu   sync.Mutex
	got  []string
	at   []time.Time
	fail error
	hang chan struct{} // Send waits for it; nil: it does not
}

// logged is a log that can be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (f *fake) Send(text string) error {
	f.mu.Lock()
	hang, err := f.hang, f.fail
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got, f.at = append(f.got, text), append(f.at, time.Now())
	return nil
}

func (f *fake) set(fail error, hang chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.hang = fail, hang
}

func (f *fake) messages() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.got...)
}

func both(name string, s Sender) Receiver {
	return Receiver{Name: name, Key: name, On: []string{Broadcasts, Troubles}, Sender: s}
}

// bubble runs a Notifier in virtual time.
func bubble(t *testing.T, test func(t *testing.T, n *Notifier, log *logged), rs ...Receiver) {
	synctest.Test(t, func(t *testing.T) {
		log := &logged{}
		n := New(Config{Host: "nas"}, zerolog.New(log))
		n.Use(rs)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = n.Run(ctx) })
		test(t, n, log)
		cancel()
		wg.Wait()
	})
}

func begins(key string) facts.Fact { return trouble(key, facts.Begins, "It is bad.") }
func ends(key string) facts.Fact   { return trouble(key, facts.Ends, "It is well.") }
func trouble(key, state, text string) facts.Fact {
	return facts.Fact{Kind: facts.TroubleFact, Trouble: &facts.Trouble{Key: key, State: state, Text: text, Hint: map[bool]string{true: "Do it."}[state == facts.Begins]}}
}

func live(room, title string) facts.Fact {
	return facts.Fact{Kind: facts.BroadcastStart, Room: &facts.Room{Room: room, URL: "http://h/" + room}, Broadcast: &facts.Broadcast{Title: title, Started: "2026-01-02T18:00:00.000Z"}}
}

func over(room string, complete bool) facts.Fact {
	return facts.Fact{Kind: facts.BroadcastEnd, Room: &facts.Room{Room: room}, Broadcast: &facts.Broadcast{Started: "2026-01-02T18:00:00.000Z", Ended: "2026-01-02T21:02:00.000Z"},
		Report: &facts.Report{Text: "98.7 % recorded, 3 gaps, longest 41 s, 12 of 12 parts verified on 2 targets", Complete: complete, UnsafeBytes: map[bool]int64{false: 12e8}[complete]}}
}

func TestWhatIsSaid(t *testing.T) {
	f := &fake{}
	bubble(t, func(t *testing.T, n *Notifier, _ *logged) {
		say := func(want string, fs ...facts.Fact) {
			t.Helper()
			before := len(f.messages())
			for _, x := range fs {
				n.Tell(x)
			}
			time.Sleep(2 * gather)
			got := f.messages()
			if len(got) != before+1 && want != "" || want == "" && len(got) != before {
				t.Fatalf("%d messages, want one: %q", len(got)-before, got[before:])
			}
			if want != "" && got[before] != want {
				t.Errorf("it says\n%s\nwant\n%s", got[before], want)
			}
		}
		say("alice is live: singing\nhttp://h/alice", live("alice", "singing"))
		say("alice has ended after 3 h 2 min: 98.7 % recorded, 3 gaps, longest 41 s, 12 of 12 parts verified on 2 targets.", over("alice", true))
		say("bob is live\nhttp://h/bob\n\nTrouble on nas: It is bad.\nDo it.", live("bob", ""), begins("x"))
		say("Well again on nas: It is well.", ends("x"))
		say("bob has ended after 3 h 2 min: 98.7 % recorded, 3 gaps, longest 41 s, 12 of 12 parts verified on 2 targets.\n1.2 GB are safe nowhere else yet, they are on their way.", over("bob", false))
		say("", facts.Fact{Kind: facts.PartSafe})
	}, both("a", f))
}

// Pain 64: 1,000 flaps in an hour give at most 3 messages, and the last one is true.
func TestAThousandFlapsGiveThreeMessages(t *testing.T) {
	for _, c := range []struct {
		name      string
		one, two  facts.Fact
		last      string
		turns     int
		toldOfAll bool
	}{
		{"trouble", begins("x"), ends("x"), "Well again", 500, false},
		{"a room", live("alice", "t"), over("alice", true), "has ended", 500, true},
	} {
		f := &fake{}
		bubble(t, func(t *testing.T, n *Notifier, _ *logged) {
			for range c.turns {
				n.Tell(c.one)
				time.Sleep(3600 * time.Millisecond)
				n.Tell(c.two)
				time.Sleep(3600 * time.Millisecond)
			}
			if got := f.messages(); len(got) > 3 || len(got) == 0 {
				t.Errorf("%s: %d messages in the hour: %q", c.name, len(got), got)
			}
			time.Sleep(2 * time.Hour)
			got := f.messages()
			if !strings.Contains(got[len(got)-1], c.last) {
				t.Errorf("%s: the last message is %q", c.name, got[len(got)-1])
			}
			if c.toldOfAll && !strings.Contains(got[len(got)-1], "more changes") {
				t.Errorf("%s: it does not say what it left out: %q", c.name, got[len(got)-1])
			}
			for i := 3; i < len(f.at); i++ {
				if d := f.at[i].Sub(f.at[i-3]); d < time.Hour {
					t.Errorf("%s: four messages within %v", c.name, d)
				}
			}
		}, both("a", f))
	}
}

// A quiet subject does not wait for one that has used up its hour.
func TestOneSubjectDoesNotHoldAnother(t *testing.T) {
	f := &fake{}
	bubble(t, func(t *testing.T, n *Notifier, _ *logged) {
		for range 3 {
			n.Tell(begins("x"))
			time.Sleep(time.Minute)
			n.Tell(ends("x"))
			time.Sleep(time.Minute)
		}
		before := len(f.messages())
		n.Tell(begins("y"))
		time.Sleep(2 * gather)
		if got := f.messages(); len(got) != before+1 {
			t.Errorf("%d messages more", len(got)-before)
		}
	}, both("a", f))
}

// I5: a receiver that hangs keeps nobody: not whoever tells, not the others; when it comes back it hears what is true.
func TestI5_AHangingReceiverBlocksNobody(t *testing.T) {
	bad, good := &fake{}, &fake{}
	bubble(t, func(t *testing.T, n *Notifier, log *logged) {
		hang := make(chan struct{})
		bad.set(nil, hang)
		start := time.Now()
		for i := range 2000 {
			n.Tell(begins(fmt.Sprint(i)))
			if i%100 == 99 {
				time.Sleep(time.Minute)
			}
		}
		if d := time.Since(start); d != 20*time.Minute {
			t.Errorf("telling took %v", d-20*time.Minute)
		}
		if got := good.messages(); len(got) < 20 {
			t.Errorf("the other one got %d messages", len(got))
		}
		if c := n.Conditions(); len(c) != 1 || c[0].Key != "notify bad" || !strings.Contains(c[0].Text, "does not answer") {
			t.Errorf("trouble: %+v", c)
		}
		close(hang)
		time.Sleep(time.Minute)
		if got := bad.messages(); len(got) != 2 || !strings.Contains(got[1], "more") || len(got[1]) > 2000 {
			t.Errorf("it got %d messages: %.2500q", len(got), got)
		}
		if c := n.Conditions(); len(c) != 0 {
			t.Errorf("trouble that is over: %+v", c)
		}
		if l := strings.Count(log.String(), "\n"); l > 12 {
			t.Errorf("%d lines of log: %s", l, log)
		}
	}, both("bad", bad), both("good", good))
}

func TestWhatFailsIsTriedAgain(t *testing.T) {
	f := &fake{}
	f.set(errors.New("503"), nil)
	bubble(t, func(t *testing.T, n *Notifier, log *logged) {
		n.Tell(begins("x"))
		time.Sleep(3 * time.Hour)
		n.Tell(ends("x"))
		time.Sleep(time.Hour)
		f.set(nil, nil)
		time.Sleep(latest)
		if got := f.messages(); len(got) != 1 || !strings.Contains(got[0], "Trouble") || !strings.Contains(got[0], "Well again") {
			t.Errorf("it got %q", got)
		}
		if l := strings.Count(log.String(), "503"); l != 1 {
			t.Errorf("%d lines about it: %s", l, log)
		}
		f.set(errors.New("503"), nil)
		n.Tell(begins("old"))
		time.Sleep(giveUp + time.Hour)
		f.set(nil, nil)
		n.Tell(begins("new"))
		time.Sleep(time.Hour)
		if got := f.messages(); len(got) != 2 || strings.Count(got[1], "Trouble") != 1 {
			t.Errorf("it got %q", got)
		}
	}, both("a", f))
}

func TestTheEndSaysWhatWaits(t *testing.T) {
	f, stuck := &fake{}, &fake{}
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		stuck.set(nil, hang)
		n := New(Config{}, zerolog.Nop())
		n.Use([]Receiver{both("a", f), both("b", stuck)})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = n.Run(ctx) })
		n.Tell(begins("x"))
		time.Sleep(time.Second)
		start := time.Now()
		cancel()
		wg.Wait()
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("the end took %v", d)
		}
		if got := f.messages(); len(got) != 1 {
			t.Errorf("it got %q", got)
		}
		n.Tell(begins("y")) // nobody hears, nobody dies
		n.Use(nil)
		close(hang)
	})
}

func TestReceiversHearWhatTheyAskedFor(t *testing.T) {
	a, b := &fake{}, &fake{}
	ra, rb := both("a", a), both("b", b)
	ra.On, rb.On = []string{Broadcasts}, []string{Troubles}
	bubble(t, func(t *testing.T, n *Notifier, _ *logged) {
		n.Tell(live("alice", ""))
		n.Tell(begins("x"))
		time.Sleep(time.Minute)
		n.Use([]Receiver{rb})
		n.Tell(live("alice", ""))
		n.Tell(ends("x"))
		time.Sleep(time.Minute)
		if len(a.messages()) != 1 || len(b.messages()) != 2 || strings.Contains(b.messages()[0], "live") {
			t.Errorf("a %q, b %q", a.messages(), b.messages())
		}
	}, ra, rb)
}

// The addresses of receivers are secrets (I10).
func TestI10_NoErrorShowsAnAddress(t *testing.T) {
	const token = "5012345678:AAHk-very_secret.token"
	for _, c := range []struct{ addr, want string }{
		{"telegram://" + token + "@telegram", "telegram"},
		{"nosuch://" + token + "@x", `no service "nosuch"`},
		{"discord://", "discord"},
		{"logger://", "would tell nobody"},
		{token, "it is no shoutrrr address"},
		{"generic://%zz" + token, "generic"},
		{"smtp://user:" + token + "@host:port/?from=a@b", "smtp"},
	} {
		_, err := Open(secret.New(c.addr))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "very_secret") || strings.Contains(err.Error(), "5012345678") {
			t.Errorf("%s: %v", c.addr, err)
		}
	}
	var got string
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = string(b)
		w.WriteHeader(status)
	}))
	host := strings.TrimPrefix(srv.URL, "http://")
	s, err := Open(secret.New("generic://" + host + "/hook/very_secret_token?disabletls=yes&@Key=very_secret_header"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send("alice is live: 歌\nhttp://h/alice"); err != nil || got != "alice is live: 歌\nhttp://h/alice" {
		t.Errorf("it arrives as %q: %v", got, err)
	}
	status = http.StatusForbidden
	refused := s.Send("x")
	srv.Close()
	gone := s.Send("x")
	for _, err := range []error{refused, gone} {
		if err == nil || strings.Contains(err.Error(), "very_secret") || strings.Contains(err.Error(), host) {
			t.Errorf("the error is %v", err)
		}
	}
	t.Log(refused, "|", gone)
}
