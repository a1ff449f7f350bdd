package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/liverec/liverec/pkg/segment"
)

// Being named as a target, or being sent to, is not yet having stored something.
func TestStoredTakesAProof(t *testing.T) {
	l := fresh(t, segment.Destination{ID: "file:/a", Spec: "file:/a", Required: true}, segment.Destination{ID: "file:/b", Spec: "file:/b", Required: true})
	p := seal(t, l, begin(t, l, enter(t, l, "one").Session.ID, 1))
	deliverTo(t, l, "file:/a", p, segment.Committed)
	stored := func() map[segment.TargetID]bool {
		t.Helper()
		got, err := l.Stored(t.Context())
		must(t, err)
		return got
	}
	if d := cmp.Diff(map[segment.TargetID]bool{}, stored()); d != "" {
		t.Error(d)
	}
	must(t, l.Verified(t.Context(), "file:/a", p.ID, proof(p)))
	if d := cmp.Diff(map[segment.TargetID]bool{"file:/a": true}, stored()); d != "" {
		t.Error(d)
	}
}

// Two failures at one place are one gap, as long as was said last.
func TestAGapThatIsToldAgainIsOne(t *testing.T) {
	l := fresh(t, segment.Destination{ID: "file:/a", Spec: "file:/a", Required: true})
	s := enter(t, l, "one").Session.ID
	begin(t, l, s, 1)
	first := segment.Gap{Session: s, AfterSeq: 1, At: t0, AtMedia: 4 * time.Second, Length: time.Second, Why: "source closed the connection"}
	last := first
	last.At, last.Length, last.Why = t0.Add(time.Second), 3*time.Second, "liverec was not running"
	other := first
	other.AtMedia = 9 * time.Second
	for _, g := range []segment.Gap{first, other, last} {
		must(t, l.Miss(t.Context(), g))
	}
	if d := cmp.Diff([]segment.Gap{last, other}, look(t, l, s).Gaps, cmpopts.SortSlices(func(a, b segment.Gap) bool { return a.AtMedia < b.AtMedia }), cmpopts.EquateApproxTime(time.Microsecond)); d != "" {
		t.Error(d)
	}
}
