package ledger

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// I1, in the transaction that allows a removal: nothing but every required proof of the whole, sealed part of ours.
func TestI1_ReclaimingNeedsEveryProof(t *testing.T) {
	l := fresh(t, segment.Destination{ID: s3, Required: true}, segment.Destination{ID: nas, Required: true}, segment.Destination{ID: slow})
	s := enter(t, l, "reclaim").Session.ID
	p := begin(t, l, s, 1)
	no := func() {
		t.Helper()
		refused(t, l.Reclaiming(t.Context(), p.ID))
		refused(t, l.Reclaimed(t.Context(), p.ID))
	}
	no() // open
	p = seal(t, l, p)
	no() // sent nowhere
	deliver(t, l, s3, p)
	no() // one of two
	deliverTo(t, l, nas, p, segment.Committed)
	no() // a receipt is no proof
	deliver(t, l, slow, p)
	no() // not required is not enough
	must(t, l.Verified(t.Context(), nas, p.ID, proof(p)))
	must(t, l.Again(t.Context(), s3, p.ID, "verify found it gone"))
	no() // a proof was taken back
	if h := holding(t, l, p.ID); h == nil || h.Safe() {
		t.Fatalf("%+v", h)
	}
	deliver(t, l, s3, p)
	if h := holding(t, l, p.ID); h == nil || !h.Safe() || h.Reclaiming {
		t.Fatalf("%+v", h)
	}
	refused(t, l.Reclaimed(t.Context(), p.ID)) // the intention comes first
	must(t, l.Reclaiming(t.Context(), p.ID))
	if h := holding(t, l, p.ID); h == nil || !h.Reclaiming {
		t.Fatalf("%+v", h)
	}
	refused(t, l.Again(t.Context(), s3, p.ID, "too late"))
	must(t, l.Reclaiming(t.Context(), p.ID)) // K11
	must(t, l.Reclaimed(t.Context(), p.ID))
	must(t, l.Reclaimed(t.Context(), p.ID)) // K12
	refused(t, l.Reclaiming(t.Context(), p.ID))
	refused(t, l.Again(t.Context(), s3, p.ID, "too late"))
	if h := holding(t, l, p.ID); h != nil {
		t.Fatalf("%+v", h)
	}
	if b := look(t, l, s); b.Reclaimed[1].IsZero() || len(b.Segments) != 1 || b.Deliveries[s3][0].Proof.At.IsZero() {
		t.Fatalf("history is lost: %+v", b)
	}
}

func holding(t *testing.T, l *Ledger, id segment.ID) *segment.Holding {
	t.Helper()
	hs, err := l.Holdings(t.Context())
	must(t, err)
	for _, h := range hs {
		if h.ID == id {
			return &h
		}
	}
	return nil
}

func TestI1_WhatNobodyRequiresIsNeverFreed(t *testing.T) {
	l := fresh(t, segment.Destination{ID: slow})
	s := enter(t, l, "unwanted").Session.ID
	p := seal(t, l, begin(t, l, s, 1))
	deliver(t, l, slow, p)
	refused(t, l.Reclaiming(t.Context(), p.ID))
	if h := holding(t, l, p.ID); h == nil || h.Safe() {
		t.Fatalf("%+v", h)
	}
}

// What a freed part still owes to a target that is not required will never come: it says so and is due no more.
func TestFreedPartsOweNothing(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "freed").Session.ID
	p := seal(t, l, begin(t, l, s, 1))
	deliver(t, l, s3, p)
	deliverTo(t, l, slow, p, segment.Uploading)
	must(t, l.Reclaiming(t.Context(), p.ID))
	must(t, l.Reclaimed(t.Context(), p.ID))
	if due, err := l.Due(t.Context(), slow); err != nil || len(due) != 0 {
		t.Fatalf("%v %v", due, err)
	}
	if d := delivery(t, l, slow, p.ID); d.State != segment.Parked || d.Before != segment.Uploading || d.Why == "" {
		t.Fatalf("%+v", d)
	}
	refused(t, l.Unparked(t.Context(), slow, p.ID))
	if n, err := l.UnparkAll(t.Context()); err != nil || n != 0 {
		t.Fatalf("%d %v", n, err)
	}
}

func TestI4_PublishedListNeverShrinks(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "list").Session.ID
	refused(t, l.Published(t.Context(), s, s3, "d1", 1, false)) // not intended
	must(t, l.Publishing(t.Context(), s, s3, "d1"))
	refused(t, l.Published(t.Context(), s, s3, "d2", 1, false)) // another was intended
	must(t, l.Unpublished(t.Context(), s, s3, "503"))
	must(t, l.Published(t.Context(), s, s3, "d1", 2, false))
	must(t, l.Publishing(t.Context(), s, s3, "d0"))
	refused(t, l.Published(t.Context(), s, s3, "d0", 1, false))
	must(t, l.Unpublished(t.Context(), s, s3, "again 503"))
	want := map[segment.TargetID]segment.Publication{
		s3: {Session: s, Target: s3, Required: true, Wanted: "d0", Shown: "d1", Parts: 2, Why: "again 503"},
	}
	if d := cmp.Diff(want, look(t, l, s).Publications); d != "" {
		t.Fatal(d)
	}
}

func TestCompleteNeedsEverything(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "complete").Session.ID
	p := begin(t, l, s, 1)
	no := func(why string) {
		t.Helper()
		if err := l.Complete(t.Context(), s); !errors.Is(err, ErrRefused) {
			t.Fatalf("%s: %v", why, err)
		}
	}
	no("live")
	p = seal(t, l, p)
	must(t, l.Leave(t.Context(), s, t0, segment.Account{}))
	no("nothing is proven")
	deliver(t, l, s3, p)
	no("nothing is published")
	publish(t, l, s, s3, 1, false)
	no("the end is not published")
	publish(t, l, s, s3, 1, true)
	must(t, l.Complete(t.Context(), s))
	must(t, l.Complete(t.Context(), s))
	if b, err := l.Active(t.Context()); err != nil || len(b) != 0 {
		t.Fatalf("%v %v", b, err)
	}
	if b := look(t, l, s); !b.Session.Complete {
		t.Fatalf("%+v", b.Session)
	}
}

func TestFindByPrefix(t *testing.T) {
	l := fresh(t)
	a := enter(t, l, "a").Session.ID
	b := enter(t, l, "b").Session.ID
	i := 0
	for a[i] == b[i] {
		i++
	}
	for _, ok := range []string{string(a), string(a[:i+1]), lower(string(a[:i+1]))} {
		got, err := l.Find(t.Context(), ok)
		must(t, err)
		if got.Session.ID != a {
			t.Fatalf("%s gave %s", ok, got.Session.ID)
		}
	}
	if _, err := l.Find(t.Context(), string(a[:i])); !errors.Is(err, ErrAmbiguous) {
		t.Fatal(err)
	}
	for _, none := range []string{"", "ZZZ", "%", "' OR 1", "ü"} {
		if _, err := l.Find(t.Context(), none); !errors.Is(err, ErrUnknown) {
			t.Fatalf("%q: %v", none, err)
		}
	}
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 32
		}
	}
	return string(b)
}

func TestUnsafeAndPaths(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "unsafe").Session.ID
	p1 := seal(t, l, begin(t, l, s, 1))
	p2 := seal(t, l, begin(t, l, s, 2))
	p3 := begin(t, l, s, 3)
	must(t, l.Extend(t.Context(), p3.ID, segment.Extent{Durable: 77}))
	void := begin(t, l, s, 4)
	must(t, l.Void(t.Context(), void.ID))
	adopted := foreign(t, "/home/u/a.flv")
	_, err := l.Adopt(t.Context(), segment.Session{Name: "mine"}, adopted)
	must(t, err)
	deliver(t, l, s3, p1)
	u, err := l.Unsafe(t.Context())
	must(t, err)
	want := Unsafe{Bytes: p2.Size + 77, Parts: 2, Oldest: moment(micros(p2.Start)), Rooms: map[segment.RoomID]int64{room.ID: p2.Size + 77},
		Began: map[segment.RoomID]time.Time{room.ID: moment(micros(p2.Start))}}
	if d := cmp.Diff(want, u); d != "" {
		t.Fatal(d)
	}
	must(t, l.Reclaiming(t.Context(), p1.ID))
	paths, err := l.Paths(t.Context())
	must(t, err)
	if d := cmp.Diff([]string{p1.Path, p2.Path, p3.Path, p3.Path + ".part"}, paths); d != "" {
		t.Fatal(d)
	}
	must(t, l.Reclaimed(t.Context(), p1.ID))
	if paths, err = l.Paths(t.Context()); err != nil || len(paths) != 3 {
		t.Fatalf("%v %v", paths, err)
	}
	for name, own := range map[string]bool{"ledger.db": true, "ledger.db-wal": true, "ledger.db.bak-1": true, "ledger.db.copy": true,
		"ledger.db.damaged-x-wal": true, "lock": true, "reserve": true, "media/x": false, "lock2": false, "ledger.dbx": false} {
		if Own(name) != own {
			t.Errorf("%s: %v", name, !own)
		}
	}
}

func foreign(t *testing.T, path string) segment.Segment {
	t.Helper()
	abs, err := filepath.Abs(path)
	must(t, err)
	return segment.Segment{Path: abs, Size: 1234, SHA256: segment.Sum{9}, Start: t0, Room: "upload"}
}

func TestAdoptedFilesBelongToTheUser(t *testing.T) {
	l := fresh(t)
	a, b := foreign(t, "/home/u/a.FLV"), foreign(t, "/home/u/b.fl v\n")
	s, err := l.Adopt(t.Context(), segment.Session{Name: "mine", Room: segment.Room{ID: "upload"}}, a, b)
	must(t, err)
	again, err := l.Adopt(t.Context(), segment.Session{Name: "mine", Room: segment.Room{ID: "upload"}}, a, b)
	must(t, err)
	if again.ID != s.ID || s.Ended.IsZero() || s.Name != "mine" {
		t.Fatalf("%+v, again %+v", s, again)
	}
	got := look(t, l, s.ID)
	if len(got.Segments) != 2 || !got.Segments[0].Foreign || !got.Segments[1].Sealed || got.Segments[1].Path != b.Path {
		t.Fatalf("%+v", got.Segments)
	}
	if d := got.Deliveries[s3]; len(d) != 2 || d[0].Key != "mine/P0001.flv" || d[1].Key != "mine/P0002" {
		t.Fatalf("%+v", d)
	}
	for _, p := range got.Segments {
		deliver(t, l, s3, p)
		refused(t, l.Reclaiming(t.Context(), p.ID))
	}
	publish(t, l, s.ID, s3, 2, true)
	must(t, l.Complete(t.Context(), s.ID))
	if h, err := l.Holdings(t.Context()); err != nil || len(h) != 0 {
		t.Fatalf("%v %v", h, err)
	}
	third, err := l.Adopt(t.Context(), segment.Session{Name: "mine"}, a, b)
	must(t, err)
	if third.ID == s.ID || third.Name != "mine (2)" {
		t.Fatalf("%+v", third)
	}
	for name, bad := range map[string][]segment.Segment{
		"none": nil, "relative": {{Path: "x", Size: 1, SHA256: segment.Sum{1}}}, "twice": {a, a}, "empty": {{Path: a.Path, SHA256: segment.Sum{1}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.Adopt(t.Context(), segment.Session{}, bad...)
			refused(t, err)
		})
	}
}

func TestAssignGivesAnotherTargetWhatIsNotSafe(t *testing.T) {
	l := fresh(t)
	s := enter(t, l, "assign").Session.ID
	p1 := seal(t, l, begin(t, l, s, 1))
	p2 := seal(t, l, begin(t, l, s, 2))
	deliver(t, l, s3, p1)
	aim(t, l, segment.Destination{ID: nas, Required: true})
	for _, want := range []int{1, 0} {
		n, err := l.Assign(t.Context())
		must(t, err)
		if n != want {
			t.Fatalf("%d deliveries were made, not %d", n, want)
		}
	}
	if ds := look(t, l, s).Deliveries[nas]; len(ds) != 1 || ds[0].Segment.ID != p2.ID {
		t.Fatalf("%+v", ds)
	}
	deliver(t, l, s3, p2)
	refused(t, l.Reclaiming(t.Context(), p2.ID)) // the new one is required as well
	deliver(t, l, nas, p2)
	must(t, l.Reclaiming(t.Context(), p2.ID))
}

func TestRoomsAreWrittenAtChangesOnly(t *testing.T) {
	c := &clock{t: t0}
	cfg := config(t, data(t))
	cfg.Now = c.now
	commits := 0
	cfg.Hook = func(step string) error {
		if step == "committed state" {
			commits++
		}
		return nil
	}
	l := opened(t, cfg)
	r := status.RoomState{Room: room, State: status.Waiting}
	for range 3 {
		must(t, l.SetRoom(t.Context(), r))
		c.move(1e9)
	}
	r.State, r.Quality = status.OnAir, "1080p"
	must(t, l.SetRoom(t.Context(), r))
	since := c.now()
	c.move(1e9)
	r.Error = "slow"
	must(t, l.SetRoom(t.Context(), r))
	if commits != 3 {
		t.Fatalf("%d commits", commits)
	}
	r.Since = moment(micros(since))
	got, err := l.Rooms(t.Context())
	must(t, err)
	if d := cmp.Diff([]status.RoomState{r}, got); d != "" {
		t.Fatal(d)
	}
	r.State = "asleep"
	refused(t, l.SetRoom(t.Context(), r))
}

func TestBroadcastsAndSessionsNewestLast(t *testing.T) {
	l := fresh(t)
	var ids []segment.SessionID
	for range 4 {
		ids = append(ids, enter(t, l, "many").Session.ID)
	}
	ss, err := l.Sessions(t.Context(), 2)
	must(t, err)
	bs, err := l.Broadcasts(t.Context(), 0)
	must(t, err)
	if len(ss) != 2 || ss[1].ID != ids[3] || ss[0].ID != ids[2] || len(bs) != 4 || bs[0].Session.ID != ids[0] {
		t.Fatalf("%v %v", ss, bs)
	}
}
