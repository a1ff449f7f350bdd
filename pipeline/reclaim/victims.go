package reclaim

import (
	"cmp"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// Disk is how full the disk is, in bytes. The zero value knows of no pressure.
type Disk struct {
	Free    int64
	MinFree int64 // below it safe parts go at once, whatever their Keep says
}

// Short is how many bytes are missing to MinFree.
func (d Disk) Short() int64 { return max(0, d.MinFree-d.Free) }

// Policy is what the owner of the disk wishes.
type Policy struct {
	Hold bool // nothing goes: a person has to look at the ledger first (K14)
}

// Victims lists what may be removed now, oldest first: safe segments of ours whose Keep is over, and, while the disk
// is short, as many of the other safe ones as it takes. A segment without all its required proofs is never among
// them (I1), a foreign one neither. A removal that has begun is finished.
//
// hs itself is not changed.
func Victims(hs []segment.Holding, d Disk, p Policy, now time.Time) []segment.Holding {
	if p.Hold {
		return nil
	}
	short := d.Short()
	var out, kept []segment.Holding
	for _, h := range hs {
		switch {
		case !h.Safe() || h.Foreign || !h.Sealed:
		case h.Reclaiming || h.Keep <= 0 || !now.Before(h.SafeAt.Add(h.Keep)):
			out = append(out, h)
			short -= h.Size
		default:
			kept = append(kept, h)
		}
	}
	slices.SortStableFunc(kept, older)
	for _, h := range kept {
		if short <= 0 {
			break
		}
		out = append(out, h)
		short -= h.Size
	}
	slices.SortStableFunc(out, older)
	return out
}

// older compares by session, whose names sort by birth, then by Seq; never by a clock.
func older(a, b segment.Holding) int {
	return cmp.Or(cmp.Compare(a.ID.Session, b.ID.Session), cmp.Compare(a.ID.Seq, b.ID.Seq))
}
