package httpflv

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// gatherFor is how long bytes may gather in the socket between two reads: the reads fall on the beat of that length.
	gatherFor = 250 * time.Millisecond
	// gatherMost is how many bytes that may be: so many wake the reader before it is time, and at full speed it is they
	// who do.
	gatherMost = 512 << 10
	// gatherRoom is the receive window that is asked for, so that nobody is held up while bytes gather.
	gatherRoom = 2 * gatherMost
	// gatherAfter is how long a connection is read at once first: the first frames are on the disk early.
	gatherAfter = time.Second
)

// gathering is a connection whose reads let bytes gather once on says so. Above it lie TLS and HTTP, which know nothing
// of it.
type gathering struct {
	net.Conn
	on     *atomic.Bool
	r      io.Reader
	closed chan struct{} // closed by Close
	once   sync.Once
}

func newGathering(c net.Conn, on *atomic.Bool) *gathering {
	g := &gathering{Conn: c, on: on, closed: make(chan struct{})}
	if g.r = patient(c); g.r == nil {
		g.r = napping(c, g.closed)
	}
	return g
}

func (g *gathering) Read(p []byte) (int, error) {
	if !g.on.Load() {
		return g.Conn.Read(p)
	}
	return g.r.Read(p)
}

func (g *gathering) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Conn.Close()
}
