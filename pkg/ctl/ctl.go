// Package ctl is the control socket: HTTP over a Unix socket in the data folder, guarded by the file system's
// permissions, through which a second liverec asks the running one.
//
// It owns the protocol and both its ends. It never touches the pipeline: it reads pictures and passes commands on.
package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// Name of the socket in the data folder.
const Name = "ctl.sock"

// View gives the newest picture. It is cheap and never waits for the pipeline.
type View interface {
	Status(ctx context.Context, parts bool) (status.Status, error)
}

// Commander passes a command on to a room: by the room's name, URL or ID. It returns when the room has taken it.
type Commander interface {
	Do(ctx context.Context, room string, verb segment.Verb) error
}

// ErrNoRoom says that no room of the process has that name.
var ErrNoRoom = errors.New("no such room in the running process")

// Server answers on the socket.
type Server struct {
	path string
	srv  *http.Server
	ln   net.Listener
}

// Listen opens the socket in the data folder dir. A socket that a dead process left is replaced; whoever holds the
// lock of the data folder may do that.
func Listen(dir string, v View, c Commander) (*Server, error) {
	path := filepath.Join(dir, Name)
	s := &Server{path: path}
	bound := path
	// The address of a Unix socket is at most 107 bytes long; a long data path is reached through its own descriptor.
	if len(path) > 100 {
		f, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", dir, err)
		}
		defer f.Close()
		bound = fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), Name)
	}
	if err := syscall.Unlink(path); err != nil && !errors.Is(err, syscall.ENOENT) {
		return nil, fmt.Errorf("replace socket %s: %w", path, err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "unix", bound)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("guard socket %s: %w", path, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		st, err := v.Status(r.Context(), r.FormValue("parts") != "")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(st) // a reader that went away is no event
	})
	mux.HandleFunc("POST /rooms", func(w http.ResponseWriter, r *http.Request) {
		var ask request
		if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&ask); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		switch err := c.Do(r.Context(), ask.Room, ask.Verb); {
		case errors.Is(err, ErrNoRoom):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	s.ln, s.srv = ln, &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	return s, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.srv.Close() })
	defer stop()
	err := s.srv.Serve(s.ln)
	if uerr := syscall.Unlink(s.path); uerr != nil && !errors.Is(uerr, syscall.ENOENT) {
		return fmt.Errorf("take socket %s away: %w", s.path, uerr)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) String() string { return "control socket" }

type request struct {
	Room string       `json:"room"`
	Verb segment.Verb `json:"verb"`
}

// Client asks the process that holds a data folder.
type Client struct{ http *http.Client }

// Dial makes a client of the data folder dir. It does not connect yet.
func Dial(dir string) *Client {
	return &Client{&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			path := filepath.Join(dir, Name)
			if len(path) > 100 {
				f, err := os.Open(dir)
				if err != nil {
					return nil, err
				}
				defer f.Close()
				path = fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), Name)
			}
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}}}}
}

// Status asks for the newest picture.
func (c *Client) Status(ctx context.Context, parts bool) (status.Status, error) {
	url := "http://liverec/status"
	if parts {
		url += "?parts=1"
	}
	var st status.Status
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return st, err
	}
	return st, c.do(req, &st)
}

// Do passes a command on.
func (c *Client) Do(ctx context.Context, room string, verb segment.Verb) error {
	body, err := json.Marshal(request{room, verb})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://liverec/rooms", bytes.NewReader(body))
	if err != nil {
		return err
	}
	return c.do(req, nil)
}

func (c *Client) do(req *http.Request, into any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the running process: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return ErrNoRoom
	}
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return fmt.Errorf("ask the running process: %s", bytes.TrimSpace(b))
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of the running process: %w", err)
	}
	return nil
}
