package facts

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

var start = time.Date(2026, 1, 2, 18, 0, 0, 0, time.UTC)

// broadcast makes one with so many closed parts, of which those in safe are proven on the only required target.
func broadcast(id string, sealed int, safe ...uint32) segment.Broadcast {
	se := segment.SessionID(id)
	b := segment.Broadcast{Session: segment.Session{ID: se, Room: segment.Room{ID: "direct:x", Name: "alice", URL: "http://h/x", Site: "direct"}, Title: "t", Name: "alice/x", Started: start},
		Deliveries: map[segment.TargetID][]segment.Delivery{}}
	for i := range sealed + 1 {
		s := segment.Segment{ID: segment.ID{Session: se, Seq: uint32(i + 1)}, Path: fmt.Sprintf("media/%s/P%04d.flv", id, i+1), Size: 100, Sealed: i < sealed, Start: start}
		b.Segments = append(b.Segments, s)
		d := segment.Delivery{Segment: s, Target: "file:/a", Required: true, State: segment.Committed}
		if slices.Contains(safe, s.ID.Seq) {
			d.State = segment.Verified
		}
		b.Deliveries["file:/a"] = append(b.Deliveries["file:/a"], d)
	}
	return b
}

func words(fs []Fact) string {
	var out []string
	for _, f := range fs {
		w := string(f.Kind)
		switch {
		case f.Part != nil:
			w += fmt.Sprint(" ", f.Part.Seq)
		case f.Trouble != nil:
			w = f.Trouble.State + " " + f.Trouble.Key
		}
		out = append(out, w)
	}
	return strings.Join(out, ", ")
}

func TestABroadcastIsToldInOrderAndOnce(t *testing.T) {
	ended := func(b segment.Broadcast, complete bool) segment.Broadcast {
		b.Session.Ended, b.Session.Complete = start.Add(time.Hour), complete
		b.Segments = b.Segments[:len(b.Segments)-1]
		return b
	}
	now := start
	tel := NewTeller(Config{Data: "/data"}, nil)
	look := func(bs ...segment.Broadcast) string {
		now = now.Add(time.Second)
		return words(tel.Look(Picture{Now: now, Broadcasts: bs}))
	}
	// restart: a new process with what the last one stored.
	restart := func() {
		state, _ := tel.State()
		tel = NewTeller(Config{Data: "/data"}, state)
	}
	if got := look(broadcast("0", 5, 1)); got != "" {
		t.Errorf("what was there before is told: %s", got)
	}
	steps := []struct {
		b    segment.Broadcast
		want string
	}{
		{broadcast("1", 0), "broadcast.start"},
		{broadcast("1", 1), "part.sealed 1"},
		{broadcast("1", 3), "part.sealed 2, part.sealed 3"},
		{broadcast("1", 3, 2), "part.safe 2"},
		{broadcast("1", 3, 2, 3), "part.safe 3"},
		{broadcast("1", 4, 2, 3, 1), "part.safe 1, part.sealed 4"},
		{broadcast("1", 4, 2, 3, 1, 4), "part.safe 4"},
		{broadcast("1", 6, 1, 2, 3, 4, 5), "part.sealed 5, part.safe 5, part.sealed 6"},
		{ended(broadcast("1", 6, 1, 2, 3, 4, 5), false), ""},
		{ended(broadcast("1", 6, 1, 2, 3, 4, 5, 6), true), "part.safe 6, broadcast.end"},
	}
	for i, s := range steps {
		if got := look(s.b); got != s.want {
			t.Errorf("step %d: %q, want %q", i, got, s.want)
		}
		restart()
		if got := look(s.b); got != "" {
			t.Errorf("step %d is told again after a restart: %s", i, got)
		}
	}
	if f := tel.Follows(); len(f) != 0 {
		t.Errorf("it still follows %v", f)
	}
}

func TestTheEndWaitsForTheLastCopiesButNotForEver(t *testing.T) {
	tel := NewTeller(Config{}, []byte(`{"broadcasts":{}}`))
	b := broadcast("1", 2, 1)
	b.Session.Ended, b.Segments = start, b.Segments[:2]
	if got := words(tel.Look(Picture{Now: start.Add(time.Second), Broadcasts: []segment.Broadcast{b}})); strings.Contains(got, "end") {
		t.Errorf("told at once: %s", got)
	}
	if f := tel.Follows(); len(f) != 1 {
		t.Errorf("it follows %v", f)
	}
	fs := tel.Look(Picture{Now: start.Add(10 * time.Minute), Broadcasts: []segment.Broadcast{b}})
	if words(fs) != "broadcast.end" || fs[0].Report.Complete || fs[0].Report.Verified != 1 || fs[0].Report.Parts != 2 {
		t.Errorf("after ten minutes: %s, %+v", words(fs), fs)
	}
	b = broadcast("1", 2, 1, 2)
	b.Session.Ended, b.Segments, b.Session.Complete = start, b.Segments[:2], true
	if got := words(tel.Look(Picture{Now: start.Add(time.Hour), Broadcasts: []segment.Broadcast{b}})); got != "part.safe 2" {
		t.Errorf("later: %s", got)
	}
}

// Whatever the order of events and restarts, each part is told sealed once and safe once.
func TestNoPartIsToldTwice(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	tel := NewTeller(Config{}, []byte(`{"broadcasts":{}}`))
	seen := map[string]int{}
	var safe []uint32
	sealed, now := 0, start
	for range 600 {
		now = now.Add(time.Second)
		switch r.IntN(4) {
		case 0:
			sealed = min(sealed+1, 60)
		case 1, 2:
			if sealed > 0 {
				if s := uint32(r.IntN(sealed) + 1); !slices.Contains(safe, s) {
					safe = append(safe, s)
				}
			}
		case 3:
			state, _ := tel.State()
			tel = NewTeller(Config{}, state)
		}
		var lerr error
		var bs []segment.Broadcast
		if r.IntN(5) > 0 {
			bs = append(bs, broadcast("1", sealed, safe...))
		} else {
			lerr = errors.New("busy")
		}
		for _, f := range tel.Look(Picture{Now: now, Ledger: lerr, Broadcasts: bs}) {
			if f.Part != nil {
				seen[fmt.Sprint(f.Kind, f.Part.Seq)]++
			}
		}
	}
	for k, n := range seen {
		if n != 1 {
			t.Errorf("seed %d: %s was told %d times", seed, k, n)
		}
	}
	if len(seen) < sealed+len(safe)-2 {
		t.Errorf("seed %d: %d facts of %d parts, %d of them safe", seed, len(seen), sealed, len(safe))
	}
	state, _ := tel.State()
	if len(state) > 1500 {
		t.Errorf("the memory takes %d bytes: %s", len(state), state)
	}
}

func TestAFactIsOneObjectForAHook(t *testing.T) {
	tel := NewTeller(Config{Data: "/data"}, []byte(`{"broadcasts":{}}`))
	fs := tel.Look(Picture{Now: start, Broadcasts: []segment.Broadcast{broadcast("1", 1, 1)}})
	got, err := json.Marshal(fs[2])
	want := `{"format":"liverec-fact/1","fact":"part.safe","at":"2026-01-02T18:00:00.000Z","room":{"room":"alice","url":"http://h/x","site":"direct"},` +
		`"broadcast":{"broadcast":"1","title":"t","streamer":"","name":"alice/x","started":"2026-01-02T18:00:00.000Z","ended":""},` +
		`"part":{"seq":1,"name":"P0001.flv","path":"/data/media/1/P0001.flv","size":100,"sha256":"","duration_ms":0,"started":"2026-01-02T18:00:00.000Z","cut":"",` +
		`"targets":[{"target":"file:/a","required":true,"key":"","verified":true}]}}`
	if err != nil || string(got) != strings.Replace(want, `"sha256":""`, `"sha256":"`+segment.Sum{}.String()+`"`, 1) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// The examples of the documentation are facts, and it names every kind.
func TestTheDocumentationShowsFacts(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "hooks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kind{BroadcastStart, PartSealed, PartSafe, BroadcastEnd, TroubleFact} {
		if !strings.Contains(string(doc), "| `"+string(k)+"` |") {
			t.Errorf("docs/hooks.md does not say when %s is", k)
		}
	}
	n := 0
	for _, b := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		n++
		dec := json.NewDecoder(strings.NewReader(b[1]))
		dec.DisallowUnknownFields()
		var f Fact
		if err := dec.Decode(&f); err != nil || f.Format != Format {
			t.Errorf("an example is no fact: %v\n%s", err, b[1])
			continue
		}
		// Nothing of the fact is left out either.
		var shown, whole map[string]any
		again, err := json.Marshal(f)
		if err := errors.Join(err, json.Unmarshal([]byte(b[1]), &shown), json.Unmarshal(again, &whole)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(shown, whole) {
			t.Errorf("the example is\n%s\nthe fact is\n%s", b[1], again)
		}
	}
	if n != 2 {
		t.Errorf("%d examples", n)
	}
}

// No state that risks media is without a word (pain 64): every state of status, and the word that it gives.
func TestEveryRiskHasItsAlert(t *testing.T) {
	gap := func(why string, ago, length time.Duration) segment.Broadcast {
		b := broadcast("1", 0)
		b.Gaps = []segment.Gap{{At: start.Add(-ago), Length: length, Why: why}}
		return b
	}
	room := func(state string) status.Status {
		return status.Status{Rooms: []status.Room{{Room: "alice", State: state, Error: "403"}}}
	}
	target := func(t status.Target) status.Status {
		t.Target = "s3://b"
		return status.Status{Targets: []status.Target{t}}
	}
	step := func(s string) status.Status {
		return status.Status{Disk: status.Disk{Free: 1e9, MinFree: 2e10, StopFree: 1e9, Step: s}}
	}
	list := broadcast("1", 0)
	list.Publications = map[segment.TargetID]segment.Publication{"s3://b": {Required: true, Wanted: "a", Why: "503"}}
	offline := gap("frames missing at the source", 0, 0)
	offline.Session.Ended = start.Add(-time.Hour)
	for _, c := range []struct {
		name string
		p    Picture
		want string        // the key
		soon time.Duration // it is told at this, and not a second before
	}{
		{"target ok", Picture{Status: target(status.Target{State: status.OK})}, "", 0},
		{"target refuses", Picture{Status: target(status.Target{State: status.TargetRefused})}, "refused s3://b", 30 * time.Second},
		{"target away with parts", Picture{Status: target(status.Target{State: status.TargetAway, DueParts: 2})}, "unreachable s3://b", 10 * time.Minute},
		{"target away with nothing to do", Picture{Status: target(status.Target{State: status.TargetAway})}, "unreachable s3://b", 30 * time.Minute},
		{"target throttled", Picture{Status: target(status.Target{State: status.TargetThrottled, DueParts: 2})}, "throttled s3://b", time.Hour},
		{"parked", Picture{Status: target(status.Target{State: status.TargetRefused, Parked: 2})}, "parked s3://b", 10 * time.Second},
		{"disk ok", Picture{Status: step("ok")}, "", 0},
		{"disk low", Picture{Status: step("low")}, "disk-low", 10 * time.Second},
		{"disk stop", Picture{Status: step("stop")}, "disk-stop", 0},
		{"room waits", Picture{Status: room(status.Waiting)}, "", 0},
		{"room live", Picture{Status: room(status.OnAir)}, "", 0},
		{"room paused", Picture{Status: room(status.Paused)}, "", 0},
		{"room ended", Picture{Status: room(status.Ended)}, "", 0},
		{"room blocked", Picture{Status: room(status.Blocked)}, "blocked alice", time.Minute},
		{"room away", Picture{Status: room(status.Unreachable)}, "room alice", time.Hour},
		{"room away, and was not live", Picture{Status: room(status.Unreachable), Broadcasts: []segment.Broadcast{offline}}, "room alice", time.Hour},
		{"room away while live", Picture{Status: room(status.Unreachable), Broadcasts: []segment.Broadcast{broadcast("1", 0)}}, "room alice", 5 * time.Minute},
		{"ledger", Picture{Ledger: errors.New("read-only")}, "ledger", 10 * time.Second},
		{"config", Picture{Config: "f:3:1: x"}, "config", 0},
		{"list", Picture{Broadcasts: []segment.Broadcast{list}}, "list s3://b 1", 10 * time.Minute},
		{"long unsafe", Picture{Status: status.Status{OldestUnsafeSeconds: 3 * 3600, UnsafeBytes: 5}}, "unsafe", time.Minute},
		{"not long unsafe", Picture{Status: status.Status{OldestUnsafeSeconds: 3*3600 - 1, UnsafeBytes: 5}}, "", 0},
		{"a large gap", Picture{Broadcasts: []segment.Broadcast{gap("source stood still", time.Minute, 40*time.Second)}}, "gaps alice", 0},
		{"a small gap", Picture{Broadcasts: []segment.Broadcast{gap("source stood still", time.Minute, 20*time.Second)}}, "", 0},
		{"an old gap", Picture{Broadcasts: []segment.Broadcast{gap("source stood still", time.Hour, 40*time.Second)}}, "", 0},
		{"advertising", Picture{Broadcasts: []segment.Broadcast{gap(WhyAd, time.Minute, 40*time.Second)}}, "", 0},
		{"what only the process knows", Picture{More: []Condition{{Key: "hooks", Text: "x", Well: "y"}}}, "hooks", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tel := NewTeller(Config{}, []byte(`{"broadcasts":{"1":{}}}`))
			at := time.Duration(0)
			var told []Fact
			for ; at <= 2*time.Hour && len(told) == 0; at += time.Second {
				if c.soon > 2*time.Minute && at > 0 && at < c.soon-time.Minute {
					at += 9 * time.Second
				}
				c.p.Now = start.Add(at)
				told = tel.Look(c.p)
				told = slices.DeleteFunc(told, func(f Fact) bool { return f.Trouble == nil || f.Trouble.Key == "disk-low" && c.want != "disk-low" })
				if c.want == "" && at > 0 {
					at += time.Minute
				}
			}
			if c.want == "" {
				if len(told) > 0 {
					t.Errorf("told: %s", told[0].Trouble.Text)
				}
				return
			}
			if words(told) != "begins "+c.want || at-time.Second != c.soon {
				t.Fatalf("after %v: %s, want %s after %v", at-time.Second, words(told), c.want, c.soon)
			}
			tr := told[0].Trouble
			if tr.Text == "" || c.name != "what only the process knows" && tr.Hint == "" || strings.Contains(tr.Text, "..") {
				t.Errorf("it says %+v", tr)
			}
			t.Log(tr.Text, "|", tr.Hint)
			// Its end comes, once, and not at the first moment without it.
			var ends []Fact
			for off := at; off < at+5*time.Minute; off += time.Second {
				ends = append(ends, tel.Look(Picture{Now: start.Add(off)})...)
				if len(ends) > 0 && off < at+quiet-2*time.Second {
					t.Fatalf("its end is told after %v", off-at)
				}
			}
			ends = slices.DeleteFunc(ends, func(f Fact) bool { return f.Trouble.Key != c.want })
			if words(ends) != "ends "+c.want || c.soon > 0 && !strings.Contains(ends[0].Trouble.Text, ", after ") {
				t.Errorf("its end: %s", words(ends))
			}
			t.Log(ends[0].Trouble.Text)
		})
	}
}

// Whatever comes and goes gives at most three messages in any hour, and the last one is true.
func TestFlapping(t *testing.T) {
	for _, c := range []struct {
		name    string
		on, off time.Duration
		after   time.Duration
	}{
		{"1,000 times an hour", 2 * time.Second, 1600 * time.Millisecond, 0}, {"with a wait", 2 * time.Second, 1600 * time.Millisecond, 10 * time.Minute},
		{"slowly", 3 * time.Minute, 4 * time.Minute, 0}, {"very slowly", 20 * time.Minute, 15 * time.Minute, 0}, {"a blink a minute", time.Second, 59 * time.Second, 10 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			tel := NewTeller(Config{}, nil)
			var told []time.Time
			open, n := false, 0
			look := func(now time.Time, on bool) {
				p := Picture{Now: now}
				if on {
					p.More = []Condition{{Key: "x", After: c.after, Text: "bad", Well: "well"}}
				}
				for _, f := range tel.Look(p) {
					if open == (f.Trouble.State == Begins) {
						t.Fatalf("at %v it %s, and did before", now, f.Trouble.State)
					}
					open = f.Trouble.State == Begins
					told = append(told, now)
					n++
				}
			}
			step, span := 400*time.Millisecond, 90*time.Minute
			if c.on >= time.Minute {
				step, span = 10*time.Second, 4*time.Hour
			}
			now := start
			for ; now.Before(start.Add(span)); now = now.Add(step) {
				look(now, now.Sub(start)%(c.on+c.off) < c.on)
			}
			for end := now.Add(2 * time.Hour); now.Before(end); now = now.Add(time.Minute) {
				look(now, false)
			}
			if open {
				t.Error("its end was never told")
			}
			for i := range told {
				if i >= 3 && told[i].Sub(told[i-3]) < time.Hour {
					t.Errorf("four messages in %v", told[i].Sub(told[i-3]))
				}
			}
			if c.name == "a blink a minute" != (n == 0) {
				t.Errorf("%d messages", n)
			}
			t.Logf("%d messages in %v", n, span)
		})
	}
}

func TestATroubleOutlivesARestart(t *testing.T) {
	tel := NewTeller(Config{}, nil)
	bad := Picture{Now: start, More: []Condition{{Key: "x", Text: "bad", Well: "It is well"}}}
	if got := words(tel.Look(bad)); got != "begins x" {
		t.Fatal(got)
	}
	state, changed := tel.State()
	if _, again := tel.State(); !changed || again {
		t.Errorf("changed %v, then %v", changed, again)
	}
	tel = NewTeller(Config{}, state)
	bad.Now = start.Add(time.Hour)
	if got := words(tel.Look(Picture{Now: bad.Now})); got != "" {
		t.Errorf("a process that has just begun says %s", got)
	}
	if got := words(tel.Look(bad)); got != "" || len(tel.Open()) != 1 {
		t.Errorf("told again: %s", got)
	}
	tel = NewTeller(Config{}, state)
	tel.Look(Picture{Now: bad.Now})
	if got := words(tel.Look(Picture{Now: bad.Now.Add(quiet)})); got != "ends x" || len(tel.Open()) != 0 {
		t.Errorf("its end: %q", got)
	}
	for _, junk := range []string{"", "x", "[]", `{"troubles":{"x":null},"broadcasts":{"y":null}}`, `{"broadcasts":5}`} {
		NewTeller(Config{}, []byte(junk)).Look(bad)
	}
}

func BenchmarkLook(b *testing.B) {
	var bs []segment.Broadcast
	for i := range 200 {
		bs = append(bs, broadcast(fmt.Sprint(i), 50, 1, 2, 3))
	}
	tel := NewTeller(Config{}, []byte(`{"broadcasts":{}}`))
	for b.Loop() {
		tel.Look(Picture{Now: start, Broadcasts: bs})
	}
}
