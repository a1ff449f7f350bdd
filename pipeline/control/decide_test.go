package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/segment"
)

const (
	here  segment.TargetID = "file:/archive"
	there segment.TargetID = "s3://bucket"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// broadcast has len(states) sealed parts of a minute; states are those of its deliveries to here.
func broadcast(states ...segment.DeliveryState) segment.Broadcast {
	b := segment.Broadcast{
		Session:      segment.Session{ID: "S1", Name: "show", Started: began},
		Deliveries:   map[segment.TargetID][]segment.Delivery{},
		Publications: map[segment.TargetID]segment.Publication{here: {Session: "S1", Target: here, Required: true}},
	}
	for i, st := range states {
		s := segment.Segment{
			ID: segment.ID{Session: "S1", Seq: uint32(i + 1)}, Start: began.Add(time.Duration(i) * time.Minute),
			Duration: time.Minute, Size: 100, Sealed: true, Cut: segment.CutTime,
		}
		b.Segments = append(b.Segments, s)
		b.Deliveries[here] = append(b.Deliveries[here], segment.Delivery{
			Segment: s, Target: here, Required: true, State: st, Key: fmt.Sprintf("show/P%04d.flv", i+1),
		})
	}
	return b
}

type edit func(*segment.Broadcast)

func shown(t segment.TargetID) edit {
	return func(b *segment.Broadcast) {
		m := manifest.Make(*b, t)
		p := b.Publications[t]
		p.Shown, p.Parts, p.Ended = m.Digest(), len(m.Parts), m.Ended != nil
		b.Publications[t] = p
	}
}

func ended(b *segment.Broadcast) { b.Session.Ended = began.Add(2 * time.Minute) }

func open(b *segment.Broadcast) {
	n := len(b.Segments) - 1
	b.Segments[n].Sealed = false
	b.Deliveries[here][n].Segment.Sealed = false
}

// also adds a second target with the given states.
func also(required bool, states ...segment.DeliveryState) edit {
	return func(b *segment.Broadcast) {
		b.Publications[there] = segment.Publication{Session: "S1", Target: there, Required: required}
		for i, st := range states {
			b.Deliveries[there] = append(b.Deliveries[there], segment.Delivery{
				Segment: b.Segments[i], Target: there, Required: required, State: st, Key: fmt.Sprintf("show/P%04d.flv", i+1),
			})
		}
	}
}

func TestDecide(t *testing.T) {
	v, c, d, parked := segment.Verified, segment.Committed, segment.Due, segment.Parked
	soon := began.Add(2*time.Minute + time.Second)
	for _, tt := range []struct {
		name  string
		b     segment.Broadcast
		edits []edit
		now   time.Time
		want  string
	}{
		{"nothing is proven", broadcast(d), nil, began, ""},
		{"the first part", broadcast(v, d), nil, began, "publish 1 on file:/archive"},
		{"the same list is shown", broadcast(v, d), []edit{shown(here)}, began, ""},
		{"the title changed", broadcast(v), []edit{shown(here), func(b *segment.Broadcast) { b.Session.Title = "new" }}, began, "publish 1 on file:/archive"},
		{"a hole", broadcast(v, d, v), []edit{shown(here)}, began, ""},
		{"I4: a proof was taken back", broadcast(d, v), []edit{func(b *segment.Broadcast) {
			b.Publications[here] = segment.Publication{Required: true, Shown: "x", Parts: 2}
		}}, began, ""},
		{"I4: fewer than shown", broadcast(v, d), []edit{func(b *segment.Broadcast) {
			b.Publications[here] = segment.Publication{Required: true, Shown: "x", Parts: 2}
		}}, began, ""},
		{"over, the list is not", broadcast(v, v), []edit{shown(here), ended}, soon, "publish 2 ended on file:/archive"},
		{"over and shown", broadcast(v, v), []edit{ended, shown(here)}, soon, "complete"},
		{"over, a part is open", broadcast(v, d), []edit{open, ended, shown(here)}, soon, ""},
		{"over, a part is committed only", broadcast(v, c), []edit{ended, shown(here)}, soon, ""},
		{"over with no part at all", broadcast(), []edit{ended}, soon, "complete"},
		{"nothing yet", broadcast(), nil, soon, ""},
		{"two targets, one is behind", broadcast(v, v), []edit{also(true, v, d), ended, shown(here), shown(there)}, soon, ""},
		{"two targets, one list is behind", broadcast(v, v), []edit{also(true, v, v), ended, shown(here)}, soon, "publish 2 ended on s3://bucket"},
		{"two targets, done", broadcast(v, v), []edit{also(true, v, v), ended, shown(here), shown(there)}, soon, "complete"},
		{"one that is not required is behind", broadcast(v, v), []edit{also(false, v, d), ended, shown(here), shown(there)}, soon, ""},
		{"patience with it is over", broadcast(v, v), []edit{also(false, v, d), ended, shown(here), shown(there)}, soon.Add(control.Patience), "complete"},
		{"parked", broadcast(parked, parked), []edit{func(b *segment.Broadcast) { b.Deliveries[here][0].Why = "cookie is dead" }}, began,
			"alert parked file:/archive: 2 parts for file:/archive wait for a person: cookie is dead"},
		{"late", broadcast(v, d), []edit{shown(here)}, began.Add(20 * time.Minute),
			"alert late file:/archive: 1 part for file:/archive is not safe after 18m0s"},
		{"the list is refused", broadcast(d), []edit{func(b *segment.Broadcast) { b.Publications[here] = segment.Publication{Why: "403"} }}, began,
			"alert list file:/archive: the list of show on file:/archive is not up to date: 403"},
		{"the account is wrong", broadcast(), []edit{ended, func(b *segment.Broadcast) { b.Session.Account.Parsed = 1 }}, soon,
			"complete; alert account S1: the account of broadcast S1 does not balance: tags do not balance: parsed 1, accounted for 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, e := range tt.edits {
				e(&tt.b)
			}
			var got []string
			for _, a := range control.Decide(tt.b, tt.now) {
				switch a.Kind {
				case control.Publish:
					s := fmt.Sprintf("publish %d", len(a.Manifest.Parts))
					if a.Manifest.Ended != nil {
						s += " ended"
					}
					if a.Digest != a.Manifest.Digest() {
						t.Error("the digest is not that of the manifest")
					}
					got = append(got, s+" on "+string(a.Target))
				case control.Complete:
					got = append(got, "complete")
				case control.Alert:
					got = append(got, "alert "+a.Key+": "+a.Why)
				}
			}
			if g := strings.Join(got, "; "); g != tt.want {
				t.Fatalf("got  %q\nwant %q", g, tt.want)
			}
		})
	}
}

// Whatever the ledger says, doing what Decide asks leads to shown lists that only grow, and to an end.
func TestI4_DecideNeverShrinks(t *testing.T) {
	states := []segment.DeliveryState{segment.Due, segment.Committed, segment.Verified, segment.Parked}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "parts")
		first := make([]segment.DeliveryState, n)
		for i := range first {
			first[i] = segment.Due
		}
		b := broadcast(first...)
		parts := 0
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			d := &b.Deliveries[here][rapid.IntRange(0, n-1).Draw(t, "part")]
			d.State = rapid.SampledFrom(states).Draw(t, "state") // also back from verified
			if rapid.IntRange(0, 9).Draw(t, "end") == 0 {
				ended(&b)
			}
			for _, a := range control.Decide(b, began) {
				switch a.Kind {
				case control.Publish:
					if len(a.Manifest.Parts) < parts {
						t.Fatalf("the list shrinks from %d to %d", parts, len(a.Manifest.Parts))
					}
					for i, p := range a.Manifest.Parts {
						if p.Seq != uint32(i+1) || b.Deliveries[here][i].State != segment.Verified {
							t.Fatalf("part %d of the list is part %d, %s", i+1, p.Seq, b.Deliveries[here][i].State)
						}
					}
					parts = len(a.Manifest.Parts)
					shown(here)(&b)
				case control.Complete:
					for _, d := range b.Deliveries[here] {
						if d.State != segment.Verified {
							t.Fatalf("complete while part %s is %s", d.Segment.ID, d.State)
						}
					}
				}
			}
		}
		ended(&b)
		for i := range b.Deliveries[here] {
			b.Deliveries[here][i].State = segment.Verified
		}
		shown(here)(&b)
		if got := control.Decide(b, began); len(got) != 1 || got[0].Kind != control.Complete {
			t.Fatalf("at the end: %v", got)
		}
	})
}

// A part that is stored is listed, looked at, and keeps the broadcast from being complete until the list proves it; one
// that was sent again makes another list.
func TestDecideOfASubmission(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	seg := segment.Segment{ID: segment.ID{Session: "S", Seq: 1}, Size: 10, SHA256: segment.Sum{1}, Sealed: true, Start: at, Duration: time.Second}
	d := segment.Delivery{Segment: seg, Target: "sub", Required: true, State: segment.Committed, Receipt: segment.Receipt{Tag: "n1"}}
	b := segment.Broadcast{
		Session: segment.Session{ID: "S", Name: "s", Started: at, Ended: at.Add(time.Minute)}, Segments: []segment.Segment{seg},
		Deliveries:   map[segment.TargetID][]segment.Delivery{"sub": {d}},
		Publications: map[segment.TargetID]segment.Publication{"sub": {Session: "S", Target: "sub", Required: true}},
	}
	kinds := func() (list []control.Kind, digest string) {
		for _, a := range control.Decide(b, at.Add(2*time.Minute)) {
			list = append(list, a.Kind)
			if a.Kind == control.Publish {
				digest = a.Digest
			}
		}
		return list, digest
	}
	want := func(what string, list ...control.Kind) string {
		t.Helper()
		got, digest := kinds()
		if !slices.Equal(got, list) {
			t.Errorf("%s: %v, not %v", what, got, list)
		}
		return digest
	}
	set := func(f func(*segment.Delivery)) { f(&b.Deliveries["sub"][0]) }

	want("complete and not yet asked anew")
	set(func(d *segment.Delivery) { d.Stored = at })
	digest := want("stored", control.Publish)
	b.Publications["sub"] = segment.Publication{Required: true, Wanted: digest, Shown: digest, Parts: 1, Ended: true, Token: "note"}
	want("listed", control.Look)
	set(func(d *segment.Delivery) { d.State, d.Stored = segment.Due, time.Time{} })
	want("failed, to be sent again: the list does not shrink")
	set(func(d *segment.Delivery) { d.State, d.Stored, d.Receipt.Tag = segment.Committed, at, "n2" })
	other := want("sent again", control.Publish, control.Look)
	if other == digest {
		t.Error("a part that was sent again is the same list")
	}
	b.Publications["sub"] = segment.Publication{Required: true, Wanted: other, Shown: other, Parts: 1, Ended: true, Token: "note"}
	set(func(d *segment.Delivery) { d.State, d.Proof = segment.Verified, segment.Proof{Size: 10, At: at} })
	want("proven", control.Complete)
}
