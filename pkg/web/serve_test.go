package web_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/token"
	"github.com/liverec/liverec/pkg/web"
	"github.com/liverec/liverec/pkg/web/webtest"
)

// pipes is a listener without sockets, for virtual time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
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
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8420} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run serves in a bubble until the test ends; stop ends it earlier.
func run(t *testing.T, s *web.Server) (*pipes, *http.Client, func()) {
	t.Helper()
	p := newPipes()
	s.SetListener(p)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) }}}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			c.CloseIdleConnections()
		})
	}
	t.Cleanup(stop)
	return p, c, stop
}

// stream is an open list of events.
type stream struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Reader
}

type event struct {
	name, id string
	status   status.Status
}

func listen(t *testing.T, c *http.Client, last string, header ...string) *stream {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), "GET", "http://127.0.0.1:8420/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Set(k, v)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return &stream{t, resp, bufio.NewReader(resp.Body)}
}

// next is the next event, and how many heartbeats came before it; false at the end.
func (s *stream) next() (e event, beats int, ok bool) {
	s.t.Helper()
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return e, beats, false
		}
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch key {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e.status); err != nil {
				s.t.Fatal(err)
			}
		case "":
			if value != "" {
				if beats++; beats > 100 {
					s.t.Fatal("nothing but heartbeats")
				}
			}
			if e.name != "" {
				return e, beats, true
			}
		}
	}
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := webtest.New(200)
		_, c, stop := run(t, door(t, h))
		defer stop()
		time.Sleep(time.Hour)
		if h.Looks != 0 {
			t.Errorf("nobody listened, and the status was asked %d times", h.Looks)
		}
		s := listen(t, c, "")
		if s.resp.StatusCode != 200 || s.resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("listen: %d %v", s.resp.StatusCode, s.resp.Header)
		}
		e, _, ok := s.next()
		if !ok || e.name != "status" || len(e.status.Rooms) != 200 || len(e.status.Targets) != 1 {
			t.Fatalf("the first event is %s with %d rooms", e.name, len(e.status.Rooms))
		}
		begin := time.Now()
		h.Edit(func(h *webtest.House) { h.Picture.Rooms[7].Title = "another" })
		e, _, _ = s.next()
		if e.name != "change" || len(e.status.Rooms) != 1 || e.status.Rooms[0].Title != "another" || len(e.status.Targets) != 0 {
			t.Errorf("the change is %s %+v", e.name, e.status)
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("it came after %v", d)
		}
		last := e.id

		// A hundred changes in a second are one event, which has the last of them.
		begin = time.Now()
		go func() {
			for i := range 100 {
				h.Edit(func(h *webtest.House) {
					h.Picture.Rooms[i].Bitrate = 1
					h.Picture.Rooms[9].Bitrate = int64(i)
				})
				time.Sleep(10 * time.Millisecond)
			}
		}()
		seen := 0
		for newest := int64(0); newest < 99; seen++ {
			if e, _, ok = s.next(); !ok {
				t.Fatal("the stream ended")
			}
			for _, r := range e.status.Rooms {
				if r.Room == "room-9" {
					newest = r.Bitrate
				}
			}
		}
		if seen > 3 || time.Since(begin) > 3*time.Second {
			t.Errorf("%d events in %v", seen, time.Since(begin))
		}
		// Quiet: a heartbeat each 15 s.
		go func() {
			time.Sleep(time.Minute + 5*time.Second)
			h.Edit(func(h *webtest.House) { h.Picture.Targets[0].DueParts = 3 })
		}()
		e, beats, _ := s.next()
		if beats < 3 || beats > 5 || e.name != "change" || len(e.status.Rooms) != 0 || len(e.status.Targets) != 1 {
			t.Errorf("after a quiet minute: %d beats, %+v", beats, e)
		}
		s.resp.Body.Close()

		// Who comes back gets what it missed, in one.
		s = listen(t, c, last)
		if e, _, _ = s.next(); e.name != "change" || len(e.status.Rooms) < 90 || len(e.status.Rooms) > 101 || len(e.status.Targets) != 1 {
			t.Errorf("after a while away: %s with %d rooms", e.name, len(e.status.Rooms))
		}
		// A room that went is told by telling everything.
		h.Edit(func(h *webtest.House) { h.Picture.Rooms = h.Picture.Rooms[1:] })
		if e, _, _ = s.next(); e.name != "status" || len(e.status.Rooms) != 199 {
			t.Errorf("a room that went: %s with %d rooms", e.name, len(e.status.Rooms))
		}
		s.resp.Body.Close()
		for _, id := range []string{"x", "x.1", ".", "0.0", strings.SplitAfter(last, ".")[0] + "99999999999999999999", strings.SplitAfter(last, ".")[0] + "4000"} {
			s = listen(t, c, id)
			if e, _, _ = s.next(); e.name != "status" {
				t.Errorf("with the ID %q: %s", id, e.name)
			}
			s.resp.Body.Close()
		}
		// The stream ends when the server does, and at once.
		s = listen(t, c, "")
		begin = time.Now()
		stopped := make(chan struct{})
		go func() { defer close(stopped); stop() }()
		for ok := true; ok; _, _, ok = s.next() {
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("the end took %v", d)
		}
		s.resp.Body.Close()
		<-stopped
	})
}

// A reader that never reads is let go after 15 s, and costs no memory until then.
func TestAReaderThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := webtest.New(200)
		p, c, stop := run(t, door(t, h))
		defer stop()
		edited := make(chan struct{})
		defer func() { <-edited }()
		go func() {
			defer close(edited)
			for i := range 40 {
				h.Edit(func(h *webtest.House) { h.Picture.Rooms[i].Bitrate++ })
				time.Sleep(time.Second)
			}
		}()
		var dead []net.Conn
		for range 200 {
			conn, err := p.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprint(conn, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			dead = append(dead, conn)
		}
		synctest.Wait()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := listen(t, c, "") // and one who reads, whom they cost nothing
		time.Sleep(10 * time.Second)
		synctest.Wait()
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grew := int64(after.HeapAlloc) - int64(before.HeapAlloc); grew > 4<<20 {
			t.Errorf("200 readers who do not read grew by %d bytes in 10 s", grew)
		}
		if e, _, ok := s.next(); !ok || e.name != "status" {
			t.Error("a reader who reads hears nothing")
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for i, conn := range dead {
			// What is left is what was under way; then it is closed.
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Fatalf("reader %d: %v", i, err)
			}
		}
		s.resp.Body.Close()
	})
}

func TestStreamsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, stop := run(t, door(t, webtest.New(1)))
		defer stop()
		var open []*stream
		for range 256 {
			open = append(open, listen(t, c, ""))
		}
		s := listen(t, c, "")
		if s.resp.StatusCode != 503 || s.resp.Header.Get("Retry-After") == "" {
			t.Errorf("one too many: %d", s.resp.StatusCode)
		}
		wantError(t, s.resp, 503, "busy", "")
		for _, s := range open {
			s.resp.Body.Close()
		}
	})
}

// A token that is removed ends the streams that it opened.
func TestARemovedTokenEndsItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := webtest.New(1)
		_, c, stop := run(t, door(t, h, locked(t)))
		defer stop()
		s := listen(t, c, "", newToken(t, h, token.Read))
		if _, _, ok := s.next(); !ok {
			t.Fatal("a token opens no stream")
		}
		h.Edit(func(h *webtest.House) { h.Keys = nil })
		begin := time.Now()
		if _, _, ok := s.next(); ok || time.Since(begin) > 20*time.Second {
			t.Errorf("the stream lasts for %v", time.Since(begin))
		}
		s.resp.Body.Close()
	})
}

// A page that listens is let go when its session ends, and when the server does: at once.
func TestAPageThatListensIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := door(t, webtest.New(1), locked(t))
		cookie := login(t, s)
		_, c, stop := run(t, s)
		defer stop()
		open := func() *http.Response {
			r, err := http.NewRequestWithContext(context.Background(), "GET", "http://127.0.0.1:8420/lasts", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Cookie", strings.TrimPrefix(cookie, "Cookie: "))
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		page, begin := open(), time.Now()
		time.Sleep(time.Hour - time.Second)
		ask(s, "POST", "/logout", "", cookie)
		text(t, page)
		if d := time.Since(begin); d < time.Hour-time.Second || d > time.Hour+15*time.Second {
			t.Errorf("the page was let go after %v", d)
		}
		cookie = login(t, s)
		page, begin = open(), time.Now()
		stopped := make(chan struct{})
		go func() { defer close(stopped); stop() }()
		text(t, page)
		if d := time.Since(begin); d > 100*time.Millisecond {
			t.Errorf("the page was let go %v after the end", d)
		}
		<-stopped
		if d := time.Since(begin); d > time.Second {
			t.Errorf("the server took %v to end", d)
		}
	})
}

// A client that sends its request slowly, or none, or half a body, is cut off.
func TestSlowClientsAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, stop := run(t, door(t, webtest.New(1)))
		defer stop()
		for request, most := range map[string]time.Duration{
			"": 6 * time.Second, "GET / HT": 6 * time.Second, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ": 6 * time.Second,
			"POST /api/v1/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{": 31 * time.Second,
			"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":                                                                  121 * time.Second, // answered, then idle
		} {
			conn, err := p.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begin); d > most {
				t.Errorf("%q holds a connection for %v", request, d)
			}
		}
	})
}

// start serves on a real socket.
func start(t *testing.T, s *web.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// 100 MB cost nothing: they are refused before they are read.
func TestABodyOf100MB(t *testing.T) {
	s := door(t, webtest.New(1))
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := strings.TrimSuffix(s.URL(), "/")
	start(t, s)
	const size = 100 << 20
	for _, c := range []struct {
		name, method, path string
		told               bool // the length is told beforehand
	}{{"told", "POST", "/api/v1/rooms", true}, {"chunked", "POST", "/api/v1/rooms", false}, {"to a page", "POST", "/x", true}, {"with a GET", "GET", "/api/v1/rooms", false}, {"login", "POST", "/login", false}} {
		sent := &endless{left: size}
		r, err := http.NewRequestWithContext(t.Context(), c.method, at+c.path, sent)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if c.told {
			r.ContentLength = size
		}
		client := &http.Client{Transport: &http.Transport{}}
		resp, err := client.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestEntityTooLarge && c.path == "/api/v1/rooms" && c.method == "POST" {
				t.Errorf("%s: %d", c.name, resp.StatusCode)
			}
		}
		client.CloseIdleConnections()
		if took := size - sent.rest(); took > 16<<20 {
			t.Errorf("%s: %d bytes were taken", c.name, took)
		}
	}
}

// endless gives so many bytes and counts.
type endless struct {
	mu   sync.Mutex
	left int
}

func (e *endless) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	for i := range n {
		p[i] = ' '
	}
	e.left -= n
	return n, nil
}

func (e *endless) rest() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.left
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t, "localhost")
	var log bytes.Buffer
	h := webtest.New(1)
	s, err := web.New(web.ServerConfig{Listen: "127.0.0.1:0", TLSCert: cert, TLSKey: key, PasswordFile: passwordFile(t, cheapHash), Pages: http.HandlerFunc(page)}, h, h, h, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := s.URL()
	if !strings.HasPrefix(at, "https://127.0.0.1:") {
		t.Errorf("the address is %s", at)
	}
	start(t, s)
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	c := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}}
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), "GET", at+"login", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if body := text(t, resp); resp.StatusCode != 200 || resp.ProtoMajor != 2 || !strings.Contains(body, "page /login") {
		t.Errorf("over TLS: %d %s %s", resp.StatusCode, resp.Proto, body)
	}
}

func TestCertificatesAreFollowed(t *testing.T) {
	cert, key := certificate(t, "localhost")
	cert2, key2 := certificate(t, "renewed")
	var log bytes.Buffer
	move := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(to, later, later); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c, err := web.OpenCertificate(cert, key, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		name := func() string {
			pair, err := c.Get()
			if err != nil {
				t.Fatal(err)
			}
			return pair.Leaf.Subject.CommonName
		}
		move(cert2, cert)
		time.Sleep(2 * time.Minute)
		if got := name(); got != "localhost" || !strings.Contains(log.String(), "the one before stays") {
			t.Errorf("with half of a renewal it shows %s; log: %s", got, log.String())
		}
		move(key2, key)
		time.Sleep(2 * time.Minute)
		if got := name(); got != "renewed" {
			t.Errorf("after the renewal it shows %s", got)
		}
	})
}

func TestAnAddressThatIsTaken(t *testing.T) {
	first := door(t, webtest.New(0))
	if err := first.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken := first.Addr()
	start(t, first)
	second := door(t, webtest.New(0), func(c *web.ServerConfig) { c.Listen = taken })
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("a second one on %s: %v", taken, err)
	}
}

// Connections beyond the limit are refused, and come again when others have gone.
func TestConnectionsAreCounted(t *testing.T) {
	s := door(t, webtest.New(0))
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()
	start(t, s)
	var d net.Dialer
	var open []net.Conn
	refused := 0
	for range 520 {
		c, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for _, c := range open[512:] {
		if _, err := c.Read(make([]byte, 1)); err != nil {
			refused++
		}
	}
	if refused != 8 {
		t.Errorf("%d of 8 connections too many were refused", refused)
	}
	for _, c := range open {
		c.Close()
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody is let in again: %v", err)
		}
		runtime.Gosched()
	}
}

// What a change costs with 200 rooms that all move, and 200 readers: it is compared and written once.
func BenchmarkChange200Rooms(b *testing.B) {
	h := webtest.New(200)
	hub := web.NewHub(h, zerolog.Nop())
	st, err := h.Status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	hub.Take(st)
	id := ""
	for b.Loop() {
		st.Rooms = append([]status.Room(nil), st.Rooms...)
		for i := range st.Rooms {
			st.Rooms[i].Bitrate++
		}
		hub.Take(st)
		d, ok := hub.Since(id)
		if !ok {
			b.Fatal("nothing changed")
		}
		id = d.ID
		web.Encode(d.ID, web.JSON(d))
	}
}
