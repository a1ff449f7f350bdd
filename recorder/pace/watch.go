package pace

import (
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// GiveUp is why a connection was hung up that sent well enough to go on.
type GiveUp struct{ Why string }

func (e *GiveUp) Error() string { return e.Why }

// Watch looks after one connection for a Steps.
type Watch struct {
	Host    string
	Steps   *Steps
	Pressed func() bool       // the disk runs short; nil: it never does
	Slow    func(host string) // a host is left for being slow; may be nil
	Tell    func(why string)  // a host is slow and stayed with; may be nil

	meter Meter
	next  time.Time
}

// Add takes in what came now.
func (w *Watch) Add(b *media.Batch, now time.Time) { w.meter.Add(b, now) }

// Check is called when what came was taken, waited is how long that took. An error, which is a *GiveUp, says to hang up.
func (w *Watch) Check(now time.Time, waited time.Duration) error {
	w.meter.Blocked(waited)
	if now.Before(w.next) {
		return nil
	}
	w.next = now.Add(time.Second)
	if rate, slow := w.meter.Check(now); slow {
		why, leave := w.Steps.Slow(w.Host, rate, now)
		switch {
		case leave:
			if w.Slow != nil {
				w.Slow(w.Host)
			}
			return &GiveUp{why}
		case why != "" && w.Tell != nil:
			w.Tell(why)
		}
	}
	return w.Turn(now)
}

// Turn looks at the disk, and at whether a better quality is possible, where no media is measured.
func (w *Watch) Turn(now time.Time) error {
	if why, leave := w.Steps.Turn(w.Pressed != nil && w.Pressed(), now); leave {
		return &GiveUp{why}
	}
	return nil
}
