package pace_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/pace"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// stream is what comes over a connection: every beat a batch with all pictures up to a point of the media clock.
type stream struct {
	m    pace.Meter
	now  time.Time
	dts  float64 // ms
	sent int64
}

// beat lets a quarter of a second go by in which so much media came.
func (s *stream) beat(media_ float64) (rate float64, slow bool) {
	s.now = s.now.Add(250 * time.Millisecond)
	var b media.Batch
	for s.dts += media_; float64(s.sent)+40 <= s.dts; {
		s.sent += 40
		b.Packets = append(b.Packets, media.Packet{Kind: media.Video, DTS: s.sent}, media.Packet{Kind: media.Audio, DTS: s.sent + 7})
	}
	s.m.Add(&b, s.now)
	if s.now.Sub(epoch)%time.Second == 0 {
		return s.m.Check(s.now)
	}
	return 0, false
}

// A connection is slow when it falls behind for 20 s, and in no other case.
func TestMeter(t *testing.T) {
	for _, c := range []struct {
		name  string
		media func(at time.Duration, s *stream) float64 // of the next beat
		slow  bool
	}{
		{"real time", func(time.Duration, *stream) float64 { return 250 }, false},
		{"real time behind a cache of 5 s", func(at time.Duration, _ *stream) float64 {
			if at == 0 {
				return 5000
			}
			return 250
		}, false},
		{"0.95 of real time", func(time.Duration, *stream) float64 { return 237.5 }, false},
		{"0.85 of real time", func(time.Duration, *stream) float64 { return 212.5 }, true},
		{"half of real time", func(time.Duration, *stream) float64 { return 125 }, true},
		{"segments of 4 s", func(at time.Duration, _ *stream) float64 {
			if at%(4*time.Second) == 0 {
				return 4000
			}
			return 0
		}, false},
		// T12: the server leaves out whole groups, so that the clock jumps and only what is in between is media.
		{"a line that carries half, and a server that drops the rest", func(at time.Duration, s *stream) float64 {
			if at > 8*time.Second && at%(4*time.Second) == 0 {
				s.skip(2000)
			}
			return 125
		}, true},
		// The streamer's own line: nothing comes, then the newest does, and what was in between never existed.
		{"a streamer whose pictures are missing", func(at time.Duration, s *stream) float64 {
			switch in := at % (8 * time.Second); {
			case in >= 5*time.Second:
				return 0
			case in == 0 && at > 0:
				s.skip(3000)
			}
			return 250
		}, false},
		{"a clock that begins anew", func(at time.Duration, s *stream) float64 {
			if at == 30*time.Second {
				s.skip(-float64(s.sent))
			}
			return 250
		}, false},
		{"a clock that jumps ahead", func(at time.Duration, s *stream) float64 {
			if at == 30*time.Second {
				s.skip(90_000)
			}
			return 250
		}, false},
		{"nothing but silence", func(time.Duration, *stream) float64 { return 0 }, false}, // others look after that
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &stream{now: epoch}
			told := time.Duration(0)
			for at := time.Duration(0); at < 2*time.Minute && told == 0; at += 250 * time.Millisecond {
				if _, slow := s.beat(c.media(at, s)); slow {
					told = at
				}
			}
			if (told > 0) != c.slow {
				t.Errorf("slow after %v", told)
			}
			if c.slow && (told < 19*time.Second || told > 45*time.Second) {
				t.Errorf("slow after %v", told)
			}
		})
	}
}

// skip moves the clock of what comes next, without media.
func (s *stream) skip(by float64) {
	s.dts += by
	s.sent += int64(by)
}

// While nobody takes what comes, whoever sends it is not to blame.
func TestMeterOwnDisk(t *testing.T) {
	s := &stream{now: epoch}
	for range 4 * 120 {
		s.m.Blocked(150 * time.Millisecond)
		if rate, slow := s.beat(125); slow {
			t.Fatalf("slow at %.2f", rate)
		}
	}
}

// What follows from slow hosts and a full disk, told as a story of one room.
func TestSteps(t *testing.T) {
	now := epoch
	s := pace.Steps{Auto: true}
	all := []int{10000, 400, 250, 150}
	s.Opened(10000, all, 2)
	slow := func(host, want string, leave bool) {
		t.Helper()
		if why, got := s.Slow(host, 0.7, now); got != leave || !strings.Contains(why, want) {
			t.Fatalf("%s: %q, %v", host, why, got)
		}
	}
	turn := func(pressed bool, want string) {
		t.Helper()
		if why, got := s.Turn(pressed, now); got != (want != "") || !strings.Contains(why, want) {
			t.Fatalf("%q, want %q", why, want)
		}
	}
	limit := func(want int) {
		t.Helper()
		if s.Limit() != want {
			t.Fatalf("limit %d, want %d", s.Limit(), want)
		}
	}
	slow("a", "another host", true)
	limit(0)
	s.Opened(10000, all, 2)
	slow("b", "on every host", true)
	limit(400)
	s.Opened(400, all, 2)
	turn(false, "")
	now = now.Add(2*time.Minute + time.Second)
	turn(false, "better quality is tried")
	limit(0)
	s.Opened(10000, all, 2)
	now = now.Add(20 * time.Second)
	slow("a", "another host", true)
	now = now.Add(20 * time.Second)
	slow("b", "on every host", true) // one too many: it takes twice as long now
	limit(400)
	s.Opened(400, all, 2)
	now = now.Add(3 * time.Minute)
	turn(false, "")
	now = now.Add(time.Minute + time.Second)
	turn(false, "better")
	s.Opened(10000, all, 2)
	now = now.Add(10 * time.Minute)
	turn(true, "disk runs short") // one step a minute
	limit(400)
	s.Opened(400, all, 2)
	turn(true, "")
	now = now.Add(time.Minute)
	turn(true, "disk")
	limit(250)
	s.Opened(250, all, 2)
	now = now.Add(time.Minute)
	turn(true, "disk")
	s.Opened(150, all, 2)
	now = now.Add(time.Minute)
	turn(true, "") // nothing is lower
	slow("a", "another host", true)
	slow("b", "nothing better", false)
	slow("a", "", false) // it is stayed with
	now = now.Add(time.Minute)
	turn(false, "")
	for _, want := range []int{250, 400, 0} { // and back, step by step
		now = now.Add(2*time.Minute + time.Second)
		turn(false, "better")
		limit(want)
		s.Opened(max(want, 10000*(1-min(want, 1))), all, 2)
	}
	turn(false, "")
}

// What the platform has and does not give is not tried again and again.
func TestStepsWithoutALogin(t *testing.T) {
	now := epoch
	s := pace.Steps{Auto: true}
	all := []int{10000, 400, 250, 150}
	s.Opened(250, all, 1)
	if _, leave := s.Turn(true, now); !leave || s.Limit() != 150 {
		t.Fatalf("limit %d", s.Limit())
	}
	s.Opened(150, all, 1)
	s.Turn(false, now)
	now = now.Add(5 * time.Minute)
	if _, leave := s.Turn(false, now); !leave || s.Limit() != 0 {
		t.Fatalf("limit %d", s.Limit())
	}
	s.Opened(250, all, 1)
	now = now.Add(time.Hour)
	if why, leave := s.Turn(false, now); leave {
		t.Error(why)
	}
	// A disk that runs short before anything is open.
	s = pace.Steps{Auto: true}
	s.Begin(250, now)
	s.Opened(150, []int{10000, 150}, 1)
	s.Turn(false, now)
	now = now.Add(5 * time.Minute)
	if _, leave := s.Turn(false, now); !leave || s.Limit() != 0 {
		t.Errorf("limit %d", s.Limit())
	}
	// A quality that somebody chose is stayed with.
	s = pace.Steps{}
	s.Begin(250, now)
	s.Opened(10000, all, 1)
	if _, leave := s.Turn(true, now); leave || s.Limit() != 0 {
		t.Error("it stepped")
	}
	if why, leave := s.Slow("a", 0.5, now); leave || !strings.Contains(why, "nothing better") {
		t.Error(why)
	}
}

// A Watch hangs up with words for the log.
func TestWatch(t *testing.T) {
	s := &pace.Steps{Auto: true}
	s.Opened(2, []int{1, 2}, 1)
	left := ""
	w := pace.Watch{Host: "a", Steps: s, Slow: func(h string) { left = h }}
	x := &stream{now: epoch}
	for range 400 {
		x.now = x.now.Add(250 * time.Millisecond)
		var b media.Batch
		for range 3 {
			x.sent += 40
			b.Packets = append(b.Packets, media.Packet{Kind: media.Audio, DTS: x.sent})
		}
		w.Add(&b, x.now)
		if err := w.Check(x.now, 0); err != nil {
			if g, ok := errors.AsType[*pace.GiveUp](err); !ok || !strings.Contains(g.Why, "0.48 of real time on every host") || left != "a" || s.Limit() != 1 {
				t.Errorf("%v, %q, %d", err, left, s.Limit())
			}
			return
		}
	}
	t.Error("it stayed")
}
