package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// Report says in a few words how a broadcast went.
type Report struct {
	Recorded time.Duration
	Missing  time.Duration
	Gaps     int
	Longest  time.Duration
	Parts    int
	// Proven is how many parts every required target has proven; Targets is how many targets are required.
	Proven   int
	Targets  int
	Parked   int
	Repairs  int
	Unsafe   int64 // bytes that are safe nowhere else
	Balance  error // of the accounting identities, nil if they hold
	Complete bool
}

// MakeReport counts what the ledger knows of a broadcast.
func MakeReport(b segment.Broadcast) Report {
	r := Report{Gaps: len(b.Gaps), Repairs: len(b.Repairs), Missing: gapTime(b.Gaps), Complete: b.Session.Complete, Balance: b.Session.Account.Check()}
	for _, g := range b.Gaps {
		r.Longest = max(r.Longest, g.Length)
	}
	required := map[segment.TargetID]bool{}
	for t, ds := range b.Deliveries {
		for _, d := range ds {
			if d.Required {
				required[t] = true
			}
			if d.State == segment.Parked {
				r.Parked++
			}
		}
	}
	r.Targets = len(required)
	for _, s := range b.Segments {
		r.Parts++
		r.Recorded += s.Duration
		if Safe(b, s) {
			r.Proven++
		} else if !s.Foreign {
			r.Unsafe += s.Size
		}
	}
	return r
}

// Share is how much of the broadcast is here, 0 … 1.
func (r Report) Share() float64 {
	whole := r.Recorded + r.Missing
	if whole <= 0 {
		return 0
	}
	return float64(r.Recorded) / float64(whole)
}

// String is the line at the end: "98.7 % recorded, 3 gaps, longest 41 s, 12 of 12 parts verified on 2 targets".
func (r Report) String() string {
	if r.Parts == 0 {
		return "nothing recorded"
	}
	share := r.Share() * 100
	if r.Missing > 0 && share > 99.9 {
		share = 99.9 // "100 %" is said only when nothing is missing
	}
	var parts []string
	if r.Recorded > 0 { // files that were only sent have no media time that anybody measured
		parts = append(parts, fmt.Sprintf("%s recorded", strings.Replace(fmt.Sprintf("%.1f %%", share), "100.0", "100", 1)))
		switch r.Gaps {
		case 0:
			parts = append(parts, "no gaps")
		case 1:
			parts = append(parts, "1 gap of "+Span(r.Longest))
		default:
			parts = append(parts, fmt.Sprintf("%d gaps, longest %s", r.Gaps, Span(r.Longest)))
		}
	}
	parts = append(parts, fmt.Sprintf("%d of %d %s verified on %d %s", r.Proven, r.Parts, plural(r.Parts, "part"), r.Targets, plural(r.Targets, "target")))
	if r.Parked > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting for a person", r.Parked))
	}
	if r.Balance != nil {
		parts = append(parts, "the count of frames does not balance: "+r.Balance.Error())
	}
	return strings.Join(parts, ", ")
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// Span is a duration as a person says it: 0.4 s, 41 s, 12 min 3 s, 3 h 2 min.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d < 10*time.Second:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		d = d.Round(time.Second)
		return strings.TrimSuffix(fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60), " 0 s")
	}
	d = d.Round(time.Minute)
	return strings.TrimSuffix(fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60), " 0 min")
}

// Size is a number of bytes as a person says it, in powers of 1000: 812 B, 1.3 MB, 3.1 GB.
func Size(n int64) string {
	if n < 0 {
		return "-" + Size(-n)
	}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB"} {
		f /= 1000
		if f < 999.5 {
			break
		}
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %s", f, unit)
	}
	return fmt.Sprintf("%.0f %s", f, unit)
}

// Rate is a number of bits per second as a person says it: 8.2 Mbit/s.
func Rate(bits float64) string {
	if bits <= 0 {
		return "0 bit/s"
	}
	s := Size(int64(bits))
	return strings.TrimSuffix(s, "B") + "bit/s"
}
