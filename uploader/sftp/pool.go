package sftp

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

const (
	requests  = 16               // under way at once for one file, of 32 KiB each: half a MiB that a slow line has to swallow
	idleTime  = 30 * time.Second // no byte at all for so long, although one was asked for: the connection is gone
	patience  = 4                // times idleTime without an answer of the SFTP server, on a connection that lives
	extSync   = "fsync@openssh.com"
	extRename = "posix-rename@openssh.com"
	extSpace  = "statvfs@openssh.com"
)

// conn is one connection with one SFTP server on it. One call uses it at a time.
type conn struct {
	ssh  *ssh.Client
	sftp *sftp.Client

	heard    atomic.Int64 // when the last byte came, ns
	answered atomic.Int64 // when the SFTP server last said something, or the clock was set anew
	busy     atomic.Bool  // a call uses it
	resting  atomic.Bool  // the call does not wait for the SFTP server

	once sync.Once
	gone chan struct{} // closed by close
	wg   sync.WaitGroup
}

// wire is the network connection; it notes when something comes.
type wire struct {
	net.Conn
	heard *atomic.Int64
}

func (w wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// answers is what the SFTP server says.
type answers struct {
	io.Reader
	at *atomic.Int64
}

func (a answers) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if n > 0 {
		a.at.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *conn) has(extension string) bool {
	_, ok := c.sftp.HasExtension(extension)
	return ok
}

func (c *conn) rest(on bool) {
	c.answered.Store(time.Now().UnixNano())
	c.resting.Store(on)
}

func (c *conn) alive() bool {
	select {
	case <-c.gone:
		return false
	default:
		return true
	}
}

// end closes the connection; what still waits for it gets an error.
func (c *conn) end() {
	c.once.Do(func() {
		close(c.gone)
		_ = c.ssh.Close()
	})
}

// watch asks for a sign of life again and again, and ends the connection when none comes. It returns at once.
func (c *conn) watch(idle time.Duration) {
	c.wg.Go(func() {
		_ = c.sftp.Wait()
		c.end()
	})
	c.wg.Go(func() {
		tick := time.NewTicker(idle / 2)
		defer tick.Stop()
		for {
			select {
			case <-c.gone:
				return
			case <-tick.C:
				if _, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil); err != nil {
					c.end()
					return
				}
			}
		}
	})
	c.wg.Go(func() {
		tick := time.NewTicker(idle / 4)
		defer tick.Stop()
		for {
			select {
			case <-c.gone:
				return
			case now := <-tick.C:
				since := func(at *atomic.Int64) time.Duration { return now.Sub(time.Unix(0, at.Load())) }
				if since(&c.heard) > idle+idle/2 || c.busy.Load() && !c.resting.Load() && since(&c.answered) > patience*idle {
					c.end()
					return
				}
			}
		}
	})
}

// with runs f on a connection that nobody else uses meanwhile. The connection is ended when ctx is, and after an error
// that is not the SFTP server's own answer.
func (t *Target) with(ctx context.Context, op string, f func(*conn) error) error {
	if err := ctx.Err(); err != nil {
		return t.trouble(ctx, nil, op, err)
	}
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return t.trouble(ctx, nil, op, ctx.Err())
	}
	c, err := t.take(ctx, op)
	if err != nil {
		return t.trouble(ctx, nil, op, err)
	}
	c.rest(false)
	c.busy.Store(true)
	stop := context.AfterFunc(ctx, c.end)
	err = f(c)
	if err != nil {
		err = t.trouble(ctx, c, op, err)
	}
	c.busy.Store(false)
	if !stop() || err != nil && !answer(err) {
		c.end()
	}
	t.give(c)
	return err
}

// take gives a free connection, or a new one.
func (t *Target) take(ctx context.Context, op string) (*conn, error) {
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return nil, errors.New("the target was closed")
		}
		var c *conn
		if n := len(t.idle); n > 0 {
			c, t.idle = t.idle[n-1], t.idle[:n-1]
		}
		t.mu.Unlock()
		if c == nil {
			return t.login(ctx, op)
		}
		if c.alive() {
			return c, nil
		}
		c.wg.Wait()
	}
}

// give takes a connection back.
func (t *Target) give(c *conn) {
	t.mu.Lock()
	if c.alive() && !t.closed {
		t.idle = append(t.idle, c)
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	c.end()
	c.wg.Wait()
}

// Close ends all connections. All other calls must have returned.
func (t *Target) Close() error {
	t.mu.Lock()
	idle := t.idle
	t.idle, t.closed = nil, true
	t.mu.Unlock()
	for _, c := range idle {
		c.end()
		c.wg.Wait()
	}
	return nil
}
