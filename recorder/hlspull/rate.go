package hlspull

import (
	"time"
)

// slowFor is how long a host may deliver less than slowest of real time while there is more to fetch.
const (
	slowFor = 20 * time.Second
	slowest = 0.9
)

// rate is how fast segments come from the host in use, while they are waited for.
type rate struct {
	since time.Time     // there was always something to fetch since then
	media time.Duration // that came since then
}

// slow reports whether the host in use has been too slow for too long.
func (e *engine) slow(now time.Time) bool {
	behind := false
	for _, j := range e.tracks[0].jobs {
		if j.state == running || j.state == waiting && j.seg.URL != "" {
			behind = true
			break
		}
	}
	switch {
	case !behind:
		e.rate = rate{}
		return false
	case e.rate.since.IsZero():
		e.rate = rate{since: now}
	}
	took := now.Sub(e.rate.since)
	if took < slowFor {
		e.wakeAt(e.rate.since.Add(slowFor))
		return false
	}
	bad := float64(e.rate.media) < slowest*float64(took)
	e.rate = rate{since: now}
	return bad
}
