package ledger

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/segment"
)

var states = []segment.DeliveryState{segment.Due, segment.Opening, segment.Uploading, segment.Committing, segment.Committed, segment.Verified, segment.Parked}

// Every transition from every state: the legal ones work, the others are refused and change nothing.
func TestEveryTransition(t *testing.T) {
	l := fresh(t)
	e := enter(t, l, "every")
	seq := uint32(0)
	try := func(name string, from segment.DeliveryState, parked bool, to segment.DeliveryState, legal bool) {
		t.Run(name, func(t *testing.T) {
			seq++
			p := seal(t, l, begin(t, l, e.Session.ID, seq))
			deliverTo(t, l, s3, p, from)
			if parked {
				must(t, l.Parked(t.Context(), s3, p.ID, "no cookie"))
			}
			was := delivery(t, l, s3, p.ID)
			err := step(t.Context(), l, s3, p, to)
			is := delivery(t, l, s3, p.ID)
			if !legal {
				refused(t, err)
				if d := cmp.Diff(was, is); d != "" {
					t.Fatalf("a refused record changed something:\n%s", d)
				}
				return
			}
			must(t, err)
			if is.State != to {
				t.Fatalf("it is %s", is.State)
			}
			if is.State != segment.Parked && is.Before != "" {
				t.Fatalf("it is no longer parked and still remembers %s", is.Before)
			}
			must(t, step(t.Context(), l, s3, p, to)) // acts are repeated after a crash
			again := delivery(t, l, s3, p.ID)
			if d := cmp.Diff(is, again); d != "" {
				t.Fatalf("the repetition changed something:\n%s", d)
			}
		})
	}
	for _, from := range states[:6] {
		for _, to := range states {
			try(fmt.Sprintf("%s to %s", from, to), from, false, to, from.CanBecome(to))
		}
		if from == segment.Verified {
			continue
		}
		for _, to := range states {
			legal := segment.Parked.CanBecome(to) && (to == segment.Parked || to == segment.Due || from.CanBecome(to))
			try(fmt.Sprintf("parked from %s to %s", from, to), from, true, to, legal)
		}
	}
}

func TestDeliveryKeepsWhatItIsTold(t *testing.T) {
	l := fresh(t)
	e := enter(t, l, "alice/x")
	p := begin(t, l, e.Session.ID, 1)
	must(t, l.Opening(t.Context(), s3, p.ID, 1000))
	must(t, l.Opened(t.Context(), s3, p.ID, "u1"))
	must(t, l.Acked(t.Context(), s3, p.ID, ack(2)))
	must(t, l.Acked(t.Context(), s3, p.ID, ack(1)))
	two := ack(2)
	two.Tag = "newer"
	must(t, l.Acked(t.Context(), s3, p.ID, two))
	due, err := l.Due(t.Context(), s3)
	must(t, err)
	if len(due) != 1 {
		t.Fatalf("%d are due", len(due))
	}
	want := segment.Delivery{
		Segment: p, Target: s3, Required: true, Key: "alice/x/P0001.flv", State: segment.Uploading, Chunk: 1000, Token: "u1",
		Acks: []segment.Ack{ack(1), two}, Since: due[0].Since,
	}
	want.Segment.Start = p.Start.Truncate(time.Microsecond)
	if d := cmp.Diff(want, due[0]); d != "" {
		t.Fatal(d)
	}

	must(t, l.Opened(t.Context(), s3, p.ID, "u1")) // the same upload goes on
	if d := delivery(t, l, s3, p.ID); len(d.Acks) != 2 {
		t.Fatalf("%d acks are left", len(d.Acks))
	}
	must(t, l.Opened(t.Context(), s3, p.ID, "u2")) // another one has nothing yet
	if d := delivery(t, l, s3, p.ID); len(d.Acks) != 0 || d.Token != "u2" {
		t.Fatalf("acks of the old upload are left: %+v", d)
	}

	refused(t, l.Committing(t.Context(), s3, p.ID)) // open still
	p = seal(t, l, p)
	must(t, l.Acked(t.Context(), s3, p.ID, ack(0)))
	must(t, l.Committing(t.Context(), s3, p.ID))
	must(t, l.Acked(t.Context(), s3, p.ID, ack(1))) // the target lacked one
	if d := delivery(t, l, s3, p.ID); d.State != segment.Uploading || len(d.Acks) != 2 {
		t.Fatalf("%+v", d)
	}
	must(t, l.Committing(t.Context(), s3, p.ID))
	r := segment.Receipt{Key: "k", Size: p.Size, Tag: "e", Sum: "s", Detail: `{"a":"\u0000"}`}
	must(t, l.Committed(t.Context(), s3, p.ID, r))
	small := proof(p)
	small.Size--
	refused(t, l.Verified(t.Context(), s3, p.ID, small))
	must(t, l.Verified(t.Context(), s3, p.ID, proof(p)))
	d := delivery(t, l, s3, p.ID)
	if d.State != segment.Verified || d.Receipt != r || d.Proof != proof(p) || len(d.Acks) != 0 || d.Token != "" || !d.Segment.Sealed {
		t.Fatalf("%+v", d)
	}
	if due, err := l.Due(t.Context(), s3); err != nil || len(due) != 0 {
		t.Fatalf("still due: %v %v", due, err)
	}
}

func TestAckedRefusesWhatCannotBe(t *testing.T) {
	l := fresh(t)
	e := enter(t, l, "acks")
	p := begin(t, l, e.Session.ID, 1)
	refused(t, l.Acked(t.Context(), s3, p.ID, ack(0))) // no upload
	deliverTo(t, l, s3, p, segment.Uploading)
	p = seal(t, l, p)
	for name, a := range map[string]segment.Ack{
		"wrong place":  {Chunk: segment.Chunk{Index: 1, Offset: 1001, Length: 999}},
		"too long":     {Chunk: segment.Chunk{Index: 0, Offset: 0, Length: 1001}},
		"empty":        {Chunk: segment.Chunk{Index: 0}},
		"negative":     {Chunk: segment.Chunk{Index: -1, Offset: -1000, Length: 1000}},
		"past the end": {Chunk: segment.Chunk{Index: partSize / 1000, Offset: partSize, Length: 1000}},
	} {
		t.Run(name, func(t *testing.T) { refused(t, l.Acked(t.Context(), s3, p.ID, a)) })
	}
	// A worker's answer that comes after another worker had the delivery parked is not lost: the chunk is there.
	must(t, l.Parked(t.Context(), s3, p.ID, "403"))
	must(t, l.Acked(t.Context(), s3, p.ID, ack(7)))
	d := delivery(t, l, s3, p.ID)
	if d.State != segment.Parked || d.Before != segment.Uploading || d.Why != "403" || len(d.Acks) != 1 {
		t.Fatalf("%+v", d)
	}
	must(t, l.Unparked(t.Context(), s3, p.ID))
	if d := delivery(t, l, s3, p.ID); d.State != segment.Uploading || len(d.Acks) != 1 {
		t.Fatalf("%+v", d)
	}
}

func TestUnknownNamesAreUnknown(t *testing.T) {
	l := fresh(t)
	e := enter(t, l, "unknown")
	p := begin(t, l, e.Session.ID, 1)
	other := segment.ID{Session: e.Session.ID, Seq: 2}
	for name, err := range map[string]error{
		"target":      l.Opening(t.Context(), nas, p.ID, 1),
		"part":        l.Opening(t.Context(), s3, other, 1),
		"session":     l.Leave(t.Context(), "01J", t0, segment.Account{}),
		"extend":      l.Extend(t.Context(), other, segment.Extent{}),
		"seal":        l.Seal(t.Context(), done(newPart(e.Session.ID, 2))),
		"reclaim":     l.Reclaiming(t.Context(), other),
		"list target": l.Publishing(t.Context(), e.Session.ID, "x", "d"),
		"list":        l.Unpublished(t.Context(), "01J", s3, "d"),
	} {
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnparkAllAndBacklogs(t *testing.T) {
	l := fresh(t)
	e := enter(t, l, "parked")
	var ps []segment.Segment
	for seq := range uint32(4) {
		ps = append(ps, seal(t, l, begin(t, l, e.Session.ID, seq+1)))
	}
	deliver(t, l, s3, ps[0])
	must(t, l.Parked(t.Context(), s3, ps[1].ID, "the password is wrong"))
	deliverTo(t, l, s3, ps[2], segment.Committed)
	must(t, l.Parked(t.Context(), s3, ps[2].ID, "the cookie is dead"))
	want := []Backlog{
		{Destination: segment.Destination{ID: s3, Spec: string(s3), Required: true}, Parts: 3, Bytes: ps[1].Size + ps[2].Size + ps[3].Size,
			Parked: 2, Oldest: moment(micros(ps[1].Start)), Why: "the cookie is dead"},
		{Destination: segment.Destination{ID: slow, Spec: string(slow)}, Parts: 4, Bytes: ps[0].Size + ps[1].Size + ps[2].Size + ps[3].Size,
			Oldest: moment(micros(ps[0].Start))},
	}
	got, err := l.Backlogs(t.Context())
	must(t, err)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	n, err := l.UnparkAll(t.Context())
	must(t, err)
	if n != 2 {
		t.Fatalf("%d were let go", n)
	}
	if d := delivery(t, l, s3, ps[2].ID); d.State != segment.Committed || d.Receipt.Key != "k" {
		t.Fatalf("%+v", d)
	}
	if d := delivery(t, l, s3, ps[1].ID); d.State != segment.Due {
		t.Fatalf("%+v", d)
	}
}

func TestDueIsInOrder(t *testing.T) {
	l := fresh(t)
	a, b := enter(t, l, "a"), enter(t, l, "b")
	for _, s := range []segment.SessionID{b.Session.ID, a.Session.ID} {
		for seq := range uint32(11) {
			seal(t, l, begin(t, l, s, seq+1))
		}
	}
	due, err := l.Due(t.Context(), s3)
	must(t, err)
	for i, d := range due {
		want := segment.ID{Session: a.Session.ID, Seq: uint32(i%11) + 1}
		if i >= 11 {
			want.Session = b.Session.ID
		}
		if d.Segment.ID != want {
			t.Fatalf("place %d has %s, not %s", i, d.Segment.ID, want)
		}
	}
	if len(due) != 22 {
		t.Fatalf("%d are due", len(due))
	}
}
