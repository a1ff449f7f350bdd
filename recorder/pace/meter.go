package pace

import (
	"time"

	"github.com/liverec/liverec/pkg/media"
)

const (
	// Window is how long a connection is looked at before it is called slow.
	Window = 20 * time.Second
	// Floor is the part of real time that has to come in it.
	Floor = 0.9
	// behind is how far a connection that is slow has fallen back.
	behind = 2 * time.Second
	// jump is the longest step of a clock that is media; more is a hole or another clock.
	jump = 1000 // ms

	looks = int(Window/time.Second) + 1
)

// Meter measures one connection. The zero value is ready.
type Meter struct {
	begin  time.Time
	tracks [2]track // picture, sound
	ahead  int64    // ms by which the media clock has been ahead of ours at the most, or rather the least behind
	known  bool     // ahead is
	lag    int64    // ms that the newest media was older than the newest ever was

	blocked time.Duration // that nobody took what had come
	look    [looks]look
	n       int
}

// track is the clock of one track.
type track struct {
	seen bool
	last int64 // ms
	sum  int64 // ms of media
}

// look is what was known at a moment.
type look struct {
	at      time.Time
	sum     int64
	picture bool
	blocked time.Duration
}

// main is the track that is measured: the picture, where there is one.
func (m *Meter) main() *track {
	if m.tracks[0].seen {
		return &m.tracks[0]
	}
	return &m.tracks[1]
}

// Add takes in what came now.
func (m *Meter) Add(b *media.Batch, now time.Time) {
	if m.begin.IsZero() {
		m.begin = now
	}
	for i := range b.Packets {
		p := &b.Packets[i]
		var t *track
		switch p.Kind {
		case media.Video:
			t = &m.tracks[0]
		case media.Audio:
			t = &m.tracks[1]
		default:
			continue
		}
		d := p.DTS - t.last
		switch {
		case !t.seen:
			t.seen = true
		case d > 0 && d <= jump:
			t.sum += d
		case d < -jump/2 && t == m.main(): // another clock: how far behind we are is not changed by it
			m.ahead += d
		}
		t.last = p.DTS
	}
	if t := m.main(); t.seen && len(b.Packets) > 0 {
		a := t.last - now.Sub(m.begin).Milliseconds()
		if !m.known || a > m.ahead {
			m.ahead, m.known = a, true
		}
		m.lag = m.ahead - a // while nothing comes it is not known
	}
}

// Blocked says that what had come was not taken for so long, which is not the fault of whoever sends it.
func (m *Meter) Blocked(d time.Duration) { m.blocked += d }

// Check looks, once a second, at the time before. slow says that the connection delivers less than it plays and has fallen
// back; rate is how much of real time came.
func (m *Meter) Check(now time.Time) (rate float64, slow bool) {
	t := m.main()
	if !t.seen {
		return 0, false
	}
	l := look{now, t.sum, m.tracks[0].seen, m.blocked}
	if m.n > 0 && m.look[(m.n-1)%looks].picture != l.picture {
		m.n = 0 // another track is the measure now
	}
	m.look[m.n%looks] = l
	m.n++
	if m.n < looks {
		return 0, false
	}
	was := m.look[m.n%looks]
	wall := now.Sub(was.at) - (l.blocked - was.blocked)
	if wall < Window-time.Second {
		return 0, false // our own disk stood still
	}
	rate = float64(l.sum-was.sum) / float64(wall.Milliseconds())
	return rate, rate < Floor && m.lag > behind.Milliseconds()
}
