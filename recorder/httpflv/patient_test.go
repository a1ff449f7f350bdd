//go:build linux

package httpflv

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// pair is a connection over loopback: the side that lets bytes gather, past its beginning, and the other.
func pair(t *testing.T) (*gathering, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	on := &atomic.Bool{}
	on.Store(true)
	g := newGathering(c, on)
	l, ok := g.r.(*lowWater)
	if !ok {
		t.Fatalf("reads with a %T", g.r)
	}
	if err := l.raw.Control(func(fd uintptr) { l.set(fd, gatherRoom) }); err != nil {
		t.Fatal(err)
	}
	l.until = time.Now().Add(-time.Second)
	t.Cleanup(func() { g.Close(); peer.Close() })
	return g, peer
}

func send(t *testing.T, c net.Conn, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
}

// One read serves many packets; a source that pauses keeps nothing back.
func TestPacketsGather(t *testing.T) {
	g, peer := pair(t)
	buf := make([]byte, 64<<10)
	send(t, peer, []byte("first"))
	if n, err := g.Read(buf); err != nil || string(buf[:n]) != "first" {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
	for range 2 {
		got, reads := 0, 0
		for i := range 100 {
			send(t, peer, bytes.Repeat([]byte{byte(i)}, 100))
		}
		for got < 100*100 {
			n, err := g.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += n
			reads++
		}
		if reads > 50 {
			t.Errorf("%d reads for 100 packets", reads)
		}
	}
	if l := g.r.(*lowWater); l.mark != gatherMost {
		t.Errorf("the mark is %d", l.mark)
	}
}

// After a pause the first byte is heard, and what follows it gathers again.
func TestSilenceIsBroken(t *testing.T) {
	g, peer := pair(t)
	l := g.r.(*lowWater)
	l.drained = true
	got := make(chan string, 1)
	go func() {
		buf := make([]byte, 10)
		n, err := g.Read(buf)
		if err != nil {
			t.Error(err)
		}
		got <- string(buf[:n])
	}()
	time.Sleep(2 * gatherFor)
	send(t, peer, []byte("x"))
	if s := <-got; s != "x" || !l.drained {
		t.Errorf("read %q, drained: %v", s, l.drained)
	}
}

// At full speed it is the bytes that wake the reader: by the beat alone this would take half a minute. The same through TLS,
// which reads in pieces of its own.
func TestFullSpeed(t *testing.T) {
	const size = 64 << 20
	for _, secure := range []bool{false, true} {
		g, peer := pair(t)
		var from io.Reader = g
		var to io.Writer = peer
		if secure {
			srv := httptest.NewUnstartedServer(nil)
			srv.StartTLS()
			cert := srv.TLS.Certificates
			srv.Close()
			from = tls.Client(g, &tls.Config{InsecureSkipVerify: true})
			to = tls.Server(peer, &tls.Config{Certificates: cert})
		}
		done := make(chan error, 1)
		go func() {
			block := make([]byte, 100_000)
			var err error
			for sent := 0; sent < size && err == nil; sent += len(block) {
				_, err = to.Write(block[:min(len(block), size-sent)])
			}
			peer.Close()
			done <- err
		}()
		begin := time.Now()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{from}, make([]byte, 256<<10))
		if n != size || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes came through, %v", n, err)
		}
		if d, most := time.Since(begin), size/gatherMost*gatherFor/2; d > most {
			t.Errorf("it took %v, more than %v", d, most)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// However the connection ends, a read that lets bytes gather ends with it.
func TestEndWhileGathering(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(g *gathering, peer net.Conn)
		want error
	}{
		{"the other side closes", func(_ *gathering, peer net.Conn) { peer.Close() }, io.EOF},
		{"we close", func(g *gathering, _ net.Conn) { g.Close() }, net.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, peer := pair(t)
			g.r.(*lowWater).drained = true
			done := make(chan error, 1)
			go func() {
				_, err := g.Read(make([]byte, 10))
				done <- err
			}()
			c.end(g, peer)
			if err := <-done; !errors.Is(err, c.want) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestGatheringAllocatesNothing(t *testing.T) {
	g, peer := pair(t)
	buf, data := make([]byte, 64<<10), make([]byte, 1000)
	// A read that waits for the beat has an error of the poller's in between; one that does not has nothing.
	if n := testing.AllocsPerRun(100, func() {
		send(t, peer, data)
		g.r.(*lowWater).drained = false
		if _, err := g.Read(buf); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%.1f allocations per read", n)
	}
}
