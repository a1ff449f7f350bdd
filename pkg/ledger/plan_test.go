package ledger

import (
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

func TestARoomHasItsOwnTargetsAndKeep(t *testing.T) {
	l := fresh(t, segment.Destination{ID: s3, Required: true}, segment.Destination{ID: nas, Required: true})
	a := enter(t, l, "a").Session
	other, err := l.Enter(t.Context(), segment.Room{ID: "direct:http://h/b.flv"}, segment.Session{Name: "b"}, t0, 0)
	must(t, err)
	b := other.Session
	must(t, l.SetPlan(a.Room.ID, Plan{Targets: []segment.Destination{{ID: nas, Required: true}}, Keep: time.Hour}))
	if err := l.SetPlan(a.Room.ID, Plan{Targets: []segment.Destination{{ID: "file:/elsewhere"}}}); err == nil {
		t.Error("a plan with a target that the run does not have was taken")
	}
	owes := func(id segment.SessionID, seq uint32) (ts []segment.TargetID) {
		for _, x := range []segment.TargetID{s3, nas} {
			for _, d := range look(t, l, id).Deliveries[x] {
				if d.Segment.ID.Seq == seq {
					ts = append(ts, x)
				}
			}
		}
		return ts
	}
	first := begin(t, l, a.ID, 1)
	begin(t, l, b.ID, 1)
	if got := owes(a.ID, 1); len(got) != 1 || got[0] != nas {
		t.Errorf("the room with a plan owes %v", got)
	}
	if got := owes(b.ID, 1); len(got) != 2 {
		t.Errorf("the room without one owes %v", got)
	}
	first = seal(t, l, first)
	if h := holding(t, l, first.ID); h.Keep != time.Hour {
		t.Errorf("keeps %v", h.Keep)
	}
	must(t, l.SetPlan(a.Room.ID, Plan{Targets: []segment.Destination{{ID: s3, Required: true}}}))
	second := seal(t, l, begin(t, l, a.ID, 2))
	if got := owes(a.ID, 2); len(got) != 1 || got[0] != s3 || len(owes(a.ID, 1)) != 1 {
		t.Errorf("after the change the second part owes %v, the first one %v", got, owes(a.ID, 1))
	}
	if h := holding(t, l, second.ID); h.Keep != 0 {
		t.Errorf("keeps %v", h.Keep)
	}
	l.DropPlan(a.Room.ID)
	begin(t, l, a.ID, 3)
	if got := owes(a.ID, 3); len(got) != 2 {
		t.Errorf("without a plan it owes %v", got)
	}
}
