package httpflv

import (
	"io"
	"net"
	"time"
)

const (
	// napFor is how long bytes may gather between two reads.
	napFor = 100 * time.Millisecond
	// napBelow is the size of a read from which on there is no waiting: there is more where that came from.
	napBelow = 128 << 10
	// probeEvery is how often a nap is half as long: if just as much arrives in half the time, it is not the sender
	// that sets the pace but our own receive window, and the naps stop for a while.
	probeEvery = 16
	// awakeFor is how long the naps stop then, twice as long each time in a row, up to awakeMost. The kernel widens
	// the window meanwhile.
	awakeFor  = 2 * time.Second
	awakeMost = time.Minute
	// probeFloor is what a nap must gather for the comparison to mean anything: no window is smaller than that.
	probeFloor = 32 << 10
)

// napper is a reader that waits before it reads, so that one wake-up serves many small packets: what works where the
// system cannot be told when to wake us. It belongs to one goroutine at a time.
type napper struct {
	r   io.Reader
	nap func(time.Duration) bool // false: the connection was closed meanwhile

	last  time.Time // end of the last read
	small bool      // the last read drained the socket
	naps  int
	usual float64   // bytes that a whole nap gathers, smoothed
	awake time.Time // no naps until then
	held  int       // how often in a row it was our window
}

func (g *napper) Read(p []byte) (int, error) {
	var napped time.Duration
	if g.small {
		now := time.Now()
		if wait := g.last.Add(napFor).Sub(now); wait > 0 && !now.Before(g.awake) {
			if g.naps++; g.naps%probeEvery == 0 {
				wait /= 2
			}
			if !g.nap(wait) {
				return 0, net.ErrClosed
			}
			napped = wait
		}
	}
	n, err := g.r.Read(p)
	g.last = time.Now()
	// A read that filled what it was given says nothing about the socket: only the room in p was small.
	g.small = n < napBelow && n < len(p)
	switch {
	case napped == 0 || n <= 0:
	case g.naps%probeEvery != 0:
		g.usual += (float64(n) - g.usual) / 4
	case g.usual >= probeFloor && float64(n) >= 0.7*g.usual:
		g.awake = g.last.Add(min(awakeFor<<g.held, awakeMost))
		g.held = min(g.held+1, 5)
	default:
		g.held = 0
	}
	return n, err
}

// napping reads from a connection in naps, until closed is.
func napping(c net.Conn, closed <-chan struct{}) io.Reader {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &napper{r: c, nap: func(d time.Duration) bool {
		timer.Reset(d)
		select {
		case <-timer.C:
			return true
		case <-closed:
			timer.Stop()
			return false
		}
	}}
}
