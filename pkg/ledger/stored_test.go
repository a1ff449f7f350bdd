package ledger

import (
	"testing"

	"github.com/google/go-cmp/cmp"

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
