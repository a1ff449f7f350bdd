package ledger

import (
	"testing"

	"github.com/liverec/liverec/pkg/segment"
)

// A part that is stored on a target whose list is the proof is neither due nor safe; the proof makes it safe, and sending
// it again forgets everything.
func TestListing(t *testing.T) {
	l := fresh(t)
	e := enter(t, l, "listing")
	for i, early := range []segment.DeliveryState{segment.Due, segment.Uploading, segment.Committing, segment.Verified} {
		p := seal(t, l, begin(t, l, e.Session.ID, uint32(i+1)))
		deliverTo(t, l, s3, p, early)
		refused(t, l.Listing(t.Context(), s3, p.ID))
	}
	p := seal(t, l, begin(t, l, e.Session.ID, 5))
	deliverTo(t, l, s3, p, segment.Committed)
	for range 2 { // acts are repeated after a crash
		must(t, l.Listing(t.Context(), s3, p.ID))
	}
	d := delivery(t, l, s3, p.ID)
	if d.State != segment.Committed || d.Stored.IsZero() || !d.Listable() || d.Receipt == (segment.Receipt{}) || d.Token != "" || len(d.Acks) != 0 {
		t.Fatalf("%+v", d)
	}
	due, err := l.Due(t.Context(), s3)
	must(t, err)
	for _, d := range due {
		if d.Segment.ID == p.ID {
			t.Error("it is due")
		}
	}
	refused(t, l.Reclaiming(t.Context(), p.ID)) // I1

	must(t, l.Again(t.Context(), s3, p.ID, "the transcode failed"))
	if d := delivery(t, l, s3, p.ID); d.State != segment.Due || !d.Stored.IsZero() || d.Listable() {
		t.Fatalf("sent again: %+v", d)
	}
	deliverTo(t, l, s3, p, segment.Committed)
	must(t, l.Listing(t.Context(), s3, p.ID))
	must(t, l.Verified(t.Context(), s3, p.ID, proof(p)))
	if d := delivery(t, l, s3, p.ID); d.State != segment.Verified || d.Stored.IsZero() {
		t.Fatalf("proven: %+v", d)
	}
}

// What a publisher notes about a list is kept as it is, and only for a list that was intended (K9).
func TestNamed(t *testing.T) {
	l := fresh(t)
	e := enter(t, l, "named")
	seal(t, l, begin(t, l, e.Session.ID, 1))
	refused(t, l.Named(t.Context(), e.Session.ID, s3, "note"))
	must(t, l.Publishing(t.Context(), e.Session.ID, s3, "digest"))
	for _, note := range []string{`{"try":1}`, `{"aid":2}`, `{"aid":2}`} {
		must(t, l.Named(t.Context(), e.Session.ID, s3, note))
		if got := look(t, l, e.Session.ID).Publications[s3].Token; got != note {
			t.Errorf("%q, not %q", got, note)
		}
	}
}
