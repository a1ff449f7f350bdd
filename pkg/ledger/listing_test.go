package ledger

import (
	"slices"
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

// A copy that is sent in the place of a part has its own length, stays when the part is sent again, and goes with it.
func TestInstead(t *testing.T) {
	l := fresh(t)
	e := enter(t, l, "instead")
	p := begin(t, l, e.Session.ID, 1)
	c := segment.Copy{Path: "media/x/P0001.repaired.flv", Size: p.Size + 1<<20, Duration: p.Duration}
	refused(t, l.Instead(t.Context(), s3, p.ID, c, "open"))
	p = seal(t, l, p)
	c.Size = p.Size + 1<<20
	refused(t, l.Instead(t.Context(), s3, p.ID, segment.Copy{Size: 1}, "no name"))
	deliverTo(t, l, s3, p, segment.Committed)
	must(t, l.Listing(t.Context(), s3, p.ID))
	for range 2 {
		must(t, l.Instead(t.Context(), s3, p.ID, c, "the transcode failed"))
	}
	refused(t, l.Instead(t.Context(), s3, p.ID, segment.Copy{Path: "other", Size: 1}, "a second copy"))
	d := delivery(t, l, s3, p.ID)
	if d.State != segment.Due || !d.Stored.IsZero() || d.Instead != c || d.Sent().Size != c.Size || d.Sent().Path != c.Path || d.Segment.Size != p.Size {
		t.Fatalf("%+v", d)
	}
	must(t, l.Opening(t.Context(), s3, p.ID, c.Size))
	must(t, l.Opened(t.Context(), s3, p.ID, "u"))
	refused(t, l.Acked(t.Context(), s3, p.ID, segment.Ack{Chunk: segment.Chunk{Length: c.Size + 1}}))
	must(t, l.Acked(t.Context(), s3, p.ID, segment.Ack{Chunk: segment.Chunk{Length: c.Size}}))
	must(t, l.Again(t.Context(), s3, p.ID, "forgotten"))
	if d := delivery(t, l, s3, p.ID); d.Instead != c {
		t.Errorf("sent again: %+v", d)
	}
	paths, err := l.Paths(t.Context())
	must(t, err)
	held, err := l.Holdings(t.Context())
	must(t, err)
	if !slices.Contains(paths, c.Path) || len(held) != 1 || !slices.Equal(held[0].Copies, []string{c.Path}) {
		t.Errorf("known are %v, held %+v", paths, held)
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
