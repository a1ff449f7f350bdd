package liveroom

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server serves a room on a port of loopback.
type Server struct {
	URL string // "http://127.0.0.1:41234/live.flv"

	room *Room
	http *http.Server
	wg   sync.WaitGroup
}

// Listen opens a free port of 127.0.0.1 and serves the room there until Close. The room may be offline.
func (r *Room) Listen(ctx context.Context) (*Server, error) { return r.ListenAt(ctx, "127.0.0.1:0") }

// ListenAt is Listen at a given address.
func (r *Room) ListenAt(ctx context.Context, addr string) (*Server, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for the live room: %w", err)
	}
	return r.Serve(ln), nil
}

// Serve serves the room on ln, which it closes, until Close. In a synctest bubble ln can be made of net.Pipe.
func (r *Room) Serve(ln net.Listener) *Server {
	s := &Server{
		URL:  "http://" + ln.Addr().String() + "/live.flv",
		room: r,
		http: &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second},
	}
	// Serve's error is always "server closed": the listener is ours alone.
	s.wg.Go(func() { _ = s.http.Serve(ln) })
	return s
}

// Close closes all connections, stops the room and returns when every goroutine has ended.
func (s *Server) Close() error {
	err := s.http.Close()
	s.wg.Wait()
	s.room.Stop()
	if err != nil {
		return fmt.Errorf("close the live room: %w", err)
	}
	return nil
}
