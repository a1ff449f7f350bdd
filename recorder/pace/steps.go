package pace

import (
	"fmt"
	"slices"
	"time"
)

const (
	// mostHosts is how many hosts are tried at one quality: if three are slow, it is the line.
	mostHosts = 3
	// lately is how long a host that was slow counts.
	lately = 5 * time.Minute
	// stay is how long a slow stream is stayed with where there is nothing better to go to.
	stay = 10 * time.Minute
	// rest is how long a quality is stayed with before a better one is tried, and pressedRest before a lower one is taken
	// because the disk goes on filling.
	rest        = 2 * time.Minute
	pressedRest = time.Minute
	// failed is how soon after a step up a step down means that it was one too many.
	failed = 3 * time.Minute
	// longRest is the longest rest.
	longRest = 30 * time.Minute
)

// Steps decides on the quality of one room. It outlives the connections. It belongs to one goroutine at a time.
type Steps struct {
	Auto bool // the quality may be changed

	limit  int   // no quality above it is taken; 0: there is no limit
	now    int   // the quality in use
	best   int   // more than that is never given; 0: unknown
	ladder []int // rising
	hosts  int   // that have the quality in use

	slow map[string]time.Time // hosts, of this quality
	hold time.Time            // until then slow is stayed with
	step time.Time            // the last one
	up   time.Time            // the last one up
	rest time.Duration        // before the next one up
	calm time.Time            // since when the disk is not pressed
}

// Limit is the best quality that may be taken, 0 if there is no limit.
func (s *Steps) Limit() int { return s.limit }

// Begin limits a stream that is not open yet, for the disk runs short already.
func (s *Steps) Begin(limit int, now time.Time) {
	if s.Auto && s.limit == 0 {
		s.limit, s.step = limit, now
	}
}

// Opened says what was opened: the quality, all that there are, and how many hosts have it.
func (s *Steps) Opened(quality int, all []int, hosts int) {
	s.ladder = slices.Clone(all)
	if !slices.Contains(s.ladder, quality) {
		s.ladder = append(s.ladder, quality)
	}
	slices.Sort(s.ladder)
	s.ladder = slices.Compact(s.ladder)
	asked := s.ladder[len(s.ladder)-1]
	for i := len(s.ladder) - 1; i > 0 && s.limit > 0 && asked > s.limit; i-- {
		asked = s.ladder[i-1]
	}
	if quality < asked {
		s.best = quality // more was asked for, this was given
	} else if quality > s.best {
		s.best = 0
	}
	if quality != s.now {
		s.slow = nil
	}
	s.now, s.hosts = quality, hosts
}

// Slow takes in that a host delivers too little. leave says whether to hang up, and why for a person.
func (s *Steps) Slow(host string, rate float64, now time.Time) (why string, leave bool) {
	if now.Before(s.hold) {
		return "", false
	}
	if s.slow == nil {
		s.slow = map[string]time.Time{}
	}
	for h, at := range s.slow {
		if now.Sub(at) > lately {
			delete(s.slow, h)
		}
	}
	s.slow[host] = now
	words := fmt.Sprintf("the stream came at %.2f of real time", rate)
	if len(s.slow) < min(s.hosts, mostHosts) {
		return words + ", another host is tried", true
	}
	if to := s.lower(); s.Auto && to > 0 {
		s.down(to, now)
		return words + " on every host, a lower quality is taken", true
	}
	s.slow, s.hold = nil, now.Add(stay)
	return words + ", and there is nothing better to go to", false
}

// Turn is asked once a second. leave says that another quality is to be taken, and why.
func (s *Steps) Turn(pressed bool, now time.Time) (why string, leave bool) {
	if !s.Auto || s.now == 0 {
		return "", false
	}
	if pressed {
		s.calm = time.Time{}
		if to := s.lower(); to > 0 && (s.step.IsZero() || now.Sub(s.step) >= pressedRest) {
			s.down(to, now)
			return "the disk runs short, a lower quality is taken", true
		}
		return "", false
	}
	if s.calm.IsZero() {
		s.calm = now
	}
	wait := max(s.rest, rest)
	if s.limit == 0 || now.Sub(s.calm) < wait || now.Sub(s.step) < wait {
		return "", false
	}
	to := s.higher()
	if to == 0 {
		s.limit = 0
		return "", false
	}
	s.limit, s.step, s.up = to, now, now
	if to == s.ladder[len(s.ladder)-1] || to == s.best {
		s.limit = 0
	}
	return "line and disk keep up, a better quality is tried", true
}

func (s *Steps) down(to int, now time.Time) {
	if !s.up.IsZero() && now.Sub(s.up) < failed {
		s.rest = min(max(2*s.rest, 2*rest), longRest)
	} else {
		s.rest = rest
	}
	s.limit, s.step, s.slow = to, now, nil
}

// lower is the next quality below the one in use, 0 if there is none.
func (s *Steps) lower() int {
	if i := slices.Index(s.ladder, s.now); i > 0 {
		return s.ladder[i-1]
	}
	return 0
}

// higher is the next quality above the one in use that may be given, 0 if there is none.
func (s *Steps) higher() int {
	i := slices.Index(s.ladder, s.now)
	if i < 0 || i+1 == len(s.ladder) || s.best > 0 && s.ladder[i+1] > s.best {
		return 0
	}
	return s.ladder[i+1]
}
