package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"github.com/liverec/liverec/pkg/segment"
)

func TestEnterGoesOnWithinGrace(t *testing.T) {
	l := fresh(t)
	grace := time.Minute
	at := func(d time.Duration) segment.Entry {
		t.Helper()
		e, err := l.Enter(t.Context(), room, segment.Session{Name: "alice/day", Title: "t"}, t0.Add(d), grace)
		must(t, err)
		return e
	}
	first := at(0)
	if first.Resumed || first.NextSeq != 1 || first.Session.Room != room || first.Session.Started != t0 || first.Session.Heard != t0 {
		t.Fatalf("%+v", first)
	}
	if _, err := ulid.ParseStrict(string(first.Session.ID)); err != nil {
		t.Fatal(err)
	}
	if e := at(grace); !e.Resumed || e.Session.ID != first.Session.ID || e.Session.Heard != t0.Add(grace) {
		t.Fatalf("exactly grace later: %+v", e)
	}
	if e := at(-time.Hour); !e.Resumed || e.Session.Heard != t0.Add(grace) { // the clock was set back
		t.Fatalf("%+v", e)
	}
	p := begin(t, l, first.Session.ID, 1)
	must(t, l.Extend(t.Context(), p.ID, segment.Extent{Durable: 100, At: t0.Add(10 * time.Minute)}))
	if e := at(11 * time.Minute); !e.Resumed || e.NextSeq != 2 || e.Open == nil || e.Open.Size != 100 {
		t.Fatalf("heard by Extend: %+v", e)
	}
	second := at(12*time.Minute + time.Microsecond)
	if second.Resumed || second.Session.ID == first.Session.ID || second.Session.Name != "alice/day (2)" {
		t.Fatalf("longer than grace: %+v", second)
	}
	unended, err := l.Unended(t.Context())
	must(t, err)
	if len(unended) != 2 || unended[0].Session.ID != first.Session.ID || unended[0].Open == nil {
		t.Fatalf("the older session is gone: %+v", unended)
	}
	must(t, l.Leave(t.Context(), second.Session.ID, t0.Add(12*time.Minute), segment.Account{}))
	if e := at(12*time.Minute + 2*time.Microsecond); e.Session.ID == second.Session.ID {
		t.Fatal("a broadcast that is over went on")
	}
	other := room
	other.ID = "direct:other"
	e, err := l.Enter(t.Context(), other, segment.Session{Name: "ALICE/day"}, t0, grace)
	must(t, err)
	if e.Resumed || e.Session.Name != "ALICE/day (4)" {
		t.Fatalf("another room: %+v", e)
	}
}

func TestNamesStayApartAndShort(t *testing.T) {
	l := fresh(t)
	seen := map[string]bool{}
	for _, base := range []string{"a", "A", "", "", "room/" + strings.Repeat("語", 80), "room/" + strings.Repeat("語", 80), "a (2)"} {
		name := strings.ToLower(enter(t, l, base).Session.Name)
		last := name[strings.LastIndex(name, "/")+1:]
		if seen[name] || len(last) > 240 || last == "" {
			t.Fatalf("%q (%d bytes)", name, len(last))
		}
		seen[name] = true
	}
}

// A session's note is the newest part's newest one, and stays when no part is open.
func TestEntryTellsWhatACrashLeft(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "left").Session.ID
	note := func(id segment.ID, n int64, text string) {
		t.Helper()
		must(t, l.Extend(t.Context(), id, segment.Extent{Durable: n, State: []byte(text), At: t0}))
	}
	entry := func() segment.Entry {
		t.Helper()
		es, err := l.Unended(t.Context())
		must(t, err)
		if len(es) != 1 {
			t.Fatalf("%d sessions", len(es))
		}
		return es[0]
	}
	p1 := begin(t, l, s, 1)
	note(p1.ID, 10, "one")
	if e := entry(); e.Open == nil || e.Open.ID != p1.ID || len(e.Left) != 0 || string(e.State) != "one" || e.NextSeq != 2 {
		t.Fatalf("%+v", e)
	}
	p2 := begin(t, l, s, 2)
	if e := entry(); e.Open == nil || e.Open.ID != p2.ID || len(e.Left) != 1 || e.Left[0].ID != p1.ID || string(e.State) != "one" || e.NextSeq != 3 {
		t.Fatalf("%+v", e)
	}
	refused(t, l.Begin(t.Context(), newPart(s, 3))) // two are open
	refused(t, l.Void(t.Context(), p1.ID))          // not the newest
	note(p2.ID, 10, "two")
	note(p1.ID, 20, "older")
	if e := entry(); string(e.State) != "two" {
		t.Fatalf("%+v", e)
	}
	must(t, l.Extend(t.Context(), p2.ID, segment.Extent{Durable: 11}))
	seal(t, l, p1)
	seal(t, l, p2)
	if e := entry(); e.Open != nil || len(e.Left) != 0 || string(e.State) != "two" || e.NextSeq != 3 {
		t.Fatalf("%+v", e)
	}
	p3 := begin(t, l, s, 3)
	must(t, l.Begin(t.Context(), p3)) // the answer was lost
	other := p3
	other.Path += "x"
	refused(t, l.Begin(t.Context(), other))
	must(t, l.Void(t.Context(), p3.ID))
	if e := entry(); e.Open != nil || e.NextSeq != 3 {
		t.Fatalf("%+v", e)
	}
	begin(t, l, s, 3)
	refused(t, l.Leave(t.Context(), s, t0, segment.Account{})) // a part is open
}

func TestBeginMakesDeliveries(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "alice/x").Session.ID
	p := begin(t, l, s, 1)
	aim(t, l, segment.Destination{ID: nas, Spec: "file:x", Required: true})
	begin(t, l, s, 2)
	b := look(t, l, s)
	got := map[segment.TargetID]string{}
	for to, ds := range b.Deliveries {
		for _, d := range ds {
			got[to] += fmt.Sprintf("%d %v %s %s;", d.Segment.ID.Seq, d.Required, d.Key, d.State)
		}
	}
	want := map[segment.TargetID]string{
		s3: "1 true alice/x/P0001.flv due;", slow: "1 false alice/x/P0001.flv due;", nas: "2 true alice/x/P0002.flv due;",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	ds, err := l.Targets(t.Context())
	must(t, err)
	if len(ds) != 3 || ds[2] != (segment.Destination{ID: nas, Spec: "file:x", Required: true}) {
		t.Fatalf("%+v", ds)
	}
	refused(t, l.SetTargets(t.Context(), []segment.Destination{{ID: nas}, {ID: nas}}))
	p2 := newPart(s, 3)
	for name, bad := range map[string]segment.Segment{
		"a hole":  func() segment.Segment { p := p2; p.ID.Seq = 4; return p }(),
		"taken":   p,
		"no path": func() segment.Segment { p := p2; p.Path = ""; return p }(),
		"foreign": func() segment.Segment { p := p2; p.Foreign = true; return p }(),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "taken" {
				must(t, l.Extend(t.Context(), p.ID, segment.Extent{Durable: 1}))
			}
			refused(t, l.Begin(t.Context(), bad))
		})
	}
}

func TestI2_DurableNeverShrinks(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "durable").Session.ID
	p := begin(t, l, s, 1)
	must(t, l.Extend(t.Context(), p.ID, segment.Extent{Durable: 100, Duration: time.Second, VideoFrames: 3, AudioFrames: 4}))
	refused(t, l.Extend(t.Context(), p.ID, segment.Extent{Durable: 99}))
	if got := look(t, l, s).Segments[0]; got.Size != 100 || got.Duration != time.Second || got.VideoFrames != 3 || got.AudioFrames != 4 {
		t.Fatalf("%+v", got)
	}
	seal(t, l, p)
	refused(t, l.Extend(t.Context(), p.ID, segment.Extent{Durable: 1 << 40}))
}

// If the disk forgot what it had promised, what was sent of the part is not of this file.
func TestSealOfAShortenedFileSendsItAgain(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "short").Session.ID
	p := begin(t, l, s, 1)
	must(t, l.Extend(t.Context(), p.ID, segment.Extent{Durable: 5000}))
	deliverTo(t, l, s3, p, segment.Uploading)
	must(t, l.Acked(t.Context(), s3, p.ID, ack(1)))
	q := done(p)
	q.Size = 1500
	must(t, l.Seal(t.Context(), q))
	if d := delivery(t, l, s3, p.ID); d.State != segment.Due || len(d.Acks) != 0 || d.Token != "" {
		t.Fatalf("%+v", d)
	}
}

func TestSealIsForEver(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "seal").Session.ID
	p := begin(t, l, s, 1)
	empty := done(p)
	empty.Size = 0
	refused(t, l.Seal(t.Context(), empty))
	unsummed := done(p)
	unsummed.SHA256 = segment.Sum{}
	refused(t, l.Seal(t.Context(), unsummed))
	p = seal(t, l, p)
	p.Start = p.Start.Truncate(time.Microsecond)
	if d := cmp.Diff(p, look(t, l, s).Segments[0]); d != "" {
		t.Fatal(d)
	}
	must(t, l.Seal(t.Context(), p))
	other := p
	other.SHA256[5]++
	refused(t, l.Seal(t.Context(), other))
	refused(t, l.Void(t.Context(), p.ID))
	if d := cmp.Diff(p, look(t, l, s).Segments[0]); d != "" {
		t.Fatal(d)
	}
}

func TestGapsRepairsAndBalance(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "gaps").Session.ID
	g := segment.Gap{Session: s, AfterSeq: 3, At: t0, AtMedia: 412033 * time.Millisecond, Length: 4200 * time.Millisecond, Why: "source closed the connection"}
	r := segment.Repair{Session: s, Seq: 3, AtMedia: time.Second, What: "clock jumped ahead by 90 s"}
	earlier := g
	earlier.AfterSeq = 1
	for range 2 { // said twice, kept once
		must(t, l.Miss(t.Context(), g))
		must(t, l.Miss(t.Context(), earlier))
		must(t, l.Mend(t.Context(), r))
	}
	a := segment.Account{ReceivedBytes: 1 << 60, TagBytes: 1 << 60, Parsed: 5, Written: 5}
	must(t, l.Leave(t.Context(), s, t0.Add(time.Hour), a))
	a.Connections = 2
	must(t, l.Leave(t.Context(), s, t0.Add(2*time.Hour), a)) // the balance is renewed, the end stays
	b := look(t, l, s)
	g.At = moment(micros(g.At))
	earlier.At = g.At
	if d := cmp.Diff([]segment.Gap{earlier, g}, b.Gaps); d != "" {
		t.Fatal(d)
	}
	if d := cmp.Diff([]segment.Repair{r}, b.Repairs); d != "" {
		t.Fatal(d)
	}
	if b.Session.Account != a || !b.Session.Ended.Equal(t0.Add(time.Hour)) || b.Session.Complete {
		t.Fatalf("%+v", b.Session)
	}
	refused(t, l.Begin(t.Context(), newPart(s, 1))) // it is over
	must(t, l.Complete(t.Context(), s))
	refused(t, l.Miss(t.Context(), segment.Gap{Session: s, Length: 1, Why: "late"}))
}

// A hostile stream makes a gap and a repair with each frame: the rows stay bounded, the missing time stays true, and the
// newest word on the newest gap still holds.
func TestRowsOfASessionAreBounded(t *testing.T) {
	l := fresh(t)
	l.most = 20
	s, other := enter(t, l, "alice").Session.ID, enter(t, l, "bob").Session.ID
	must(t, l.Miss(t.Context(), segment.Gap{Session: other, Length: time.Second, Why: "quiet"}))
	var missing time.Duration
	for i := range 100 {
		g := segment.Gap{Session: s, AfterSeq: 1, At: t0.Add(time.Duration(i) * time.Second), AtMedia: time.Duration(i) * time.Second,
			Length: time.Duration(i+1) * time.Millisecond, Why: "hole"}
		must(t, l.Miss(t.Context(), g))
		must(t, l.Miss(t.Context(), g)) // the answer was lost
		g.Length += time.Millisecond
		must(t, l.Miss(t.Context(), g)) // it has become longer
		missing += g.Length
		r := segment.Repair{Session: s, Seq: 1, AtMedia: g.AtMedia, What: "clock"}
		must(t, l.Mend(t.Context(), r))
		must(t, l.Mend(t.Context(), r))
	}
	b := look(t, l, s)
	if len(b.Gaps) != 20 || len(b.Repairs) != 20 {
		t.Fatalf("%d gaps and %d repairs", len(b.Gaps), len(b.Repairs))
	}
	var sum time.Duration
	for _, g := range b.Gaps {
		sum += g.Length
	}
	if sum != missing {
		t.Errorf("%v are missing, the gaps say %v", missing, sum)
	}
	if g := b.Gaps[18]; g.Why != "hole; and 80 more, too many to list" || g.AtMedia != 18*time.Second {
		t.Errorf("the gap that took the others in: %+v", g)
	}
	if g := b.Gaps[19]; g.Why != "hole" || g.AtMedia != 99*time.Second || g.Length != 101*time.Millisecond {
		t.Errorf("the newest gap: %+v", g)
	}
	if r := b.Repairs[18]; r.What != "clock; and 80 more, too many to list" {
		t.Errorf("the repair that took the others in: %+v", r)
	}
	if b := look(t, l, other); len(b.Gaps) != 1 || b.Gaps[0].Why != "quiet" {
		t.Errorf("another broadcast has %+v", b.Gaps)
	}
}
