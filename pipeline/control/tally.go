package control

import (
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// Tally is what the end report is made from: sums over broadcasts, in constant memory.
type Tally struct {
	Broadcasts int
	Parts      int
	Bytes      int64
	Recorded   time.Duration // media time that is here
	Gaps       int
	Missing    time.Duration // media time that is not
	Longest    time.Duration // the longest gap
	Repairs    int
	Verified   int                // parts that every required target has
	Unbalanced int                // broadcasts whose account does not balance
	Targets    []segment.TargetID // every target that was to have something, sorted
}

// Add counts one more broadcast.
func (t Tally) Add(b segment.Broadcast) Tally {
	t.Broadcasts++
	missing := map[uint32]bool{}
	t.Targets = slices.Clone(t.Targets)
	for _, id := range Targets(b) {
		if i, known := slices.BinarySearch(t.Targets, id); !known {
			t.Targets = slices.Insert(t.Targets, i, id)
		}
		for _, d := range b.Deliveries[id] {
			if d.Required && d.State != segment.Verified {
				missing[d.Segment.ID.Seq] = true
			}
		}
	}
	for _, s := range b.Segments {
		t.Parts++
		t.Bytes += s.Size
		t.Recorded += s.Duration
		if s.Sealed && !missing[s.ID.Seq] {
			t.Verified++
		}
	}
	for _, g := range b.Gaps {
		t.Gaps++
		t.Missing += g.Length
		t.Longest = max(t.Longest, g.Length)
	}
	t.Repairs += len(b.Repairs)
	if b.Session.Account.Check() != nil && !b.Session.Ended.IsZero() {
		t.Unbalanced++
	}
	return t
}

// Share is how much of what was sent is here, from 0 to 1; 1 where nothing was sent.
func (t Tally) Share() float64 {
	if all := t.Recorded + t.Missing; all > 0 {
		return float64(t.Recorded) / float64(all)
	}
	return 1
}
