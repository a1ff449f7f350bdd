package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// socket is one direction of a connection in memory with a buffer as a kernel has it: a write returns at once while
// there is room, a read takes all that is there.
type socket struct {
	mu       sync.Mutex
	cond     *sync.Cond
	buf      []byte
	max      int
	eof      bool // the writer has closed
	gone     bool // the reader has closed
	deadline time.Time
	timer    *time.Timer
}

func newSocket() *socket {
	s := &socket{max: 1 << 20}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *socket) late() bool { return !s.deadline.IsZero() && !time.Now().Before(s.deadline) }

func (s *socket) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) == 0 {
		switch {
		case s.gone:
			return 0, net.ErrClosed
		case s.eof:
			return 0, io.EOF
		case s.late():
			return 0, os.ErrDeadlineExceeded
		}
		s.cond.Wait()
	}
	n := copy(p, s.buf)
	s.buf = append(s.buf[:0], s.buf[n:]...)
	s.cond.Broadcast()
	return n, nil
}

func (s *socket) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := 0; ; {
		if s.gone || s.eof {
			return n, errors.New("broken pipe")
		}
		k := min(len(p)-n, s.max-len(s.buf))
		s.buf = append(s.buf, p[n:n+k]...)
		n += k
		s.cond.Broadcast()
		if n == len(p) {
			return n, nil
		}
		s.cond.Wait()
	}
}

func (s *socket) set(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	s.cond.Broadcast()
}

// conn is one end.
type conn struct{ in, out *socket }

func (c conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c conn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c conn) Close() error {
	c.in.set(func() {
		c.in.gone = true
		if c.in.timer != nil {
			c.in.timer.Stop()
		}
	})
	c.out.set(func() { c.out.eof = true })
	return nil
}
func (c conn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c conn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }
func (c conn) SetReadDeadline(t time.Time) error {
	c.in.set(func() {
		c.in.deadline = t
		if c.in.timer != nil {
			c.in.timer.Stop()
			c.in.timer = nil
		}
		if !t.IsZero() {
			c.in.timer = time.AfterFunc(time.Until(t), c.in.cond.Broadcast)
		}
	})
	return nil
}
func (c conn) SetWriteDeadline(time.Time) error { return nil }
func (c conn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }

// pipes is a network in memory for synctest bubbles: a listener and the dial to it.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := newSocket(), newSocket()
	select {
	case p.conns <- conn{a, b}:
		return conn{b, a}, nil
	case <-p.done:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
