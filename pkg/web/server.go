package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/metrics"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/supervise"
)

const (
	headerLimit = 5 * time.Second  // for a client to say what it wants
	readLimit   = 30 * time.Second // and to send the body of it
	writeLimit  = 30 * time.Second // for an answer; ExtendWrite gives more
	idleLimit   = 2 * time.Minute  // between two requests on a connection
	headerBytes = 32 << 10
	bodyBytes   = 64 << 10
	maxConns    = 512             // more would take file descriptors that capture needs
	endLimit    = 2 * time.Second // for answers that are under way when the server ends
)

// ServerConfig is where the door stands and how it is locked.
type ServerConfig struct {
	Listen       string // "127.0.0.1:8420"; port 0 takes any
	PasswordFile string // "": no password, which only a loopback address may have
	TLSCert      string // PEM files; "": plain HTTP
	TLSKey       string
	Version      string
	// Pages is asked for everything but /api/, /metrics, /healthz, /readyz, POST /login and POST /logout; nil: there are no
	// pages. The house (a View, a Commander) it gets from whoever makes it; the door promises it the following.
	//
	// Who passes: only a request that is signed in reaches the handler, with three exceptions that everybody may see: GET
	// /login, GET /assets/… and GET /favicon.ico. Everybody else is sent to /login?next=PATH with 303. Where no password is
	// set (a loopback address), everybody is signed in and /login leads to /.
	//
	// Signing in: a form of GET /login posts "password" and "next" to /login; the door sets the cookie and sends the browser
	// to next. A wrong password leads back to /login?wrong=1&next=…, a throttled one to /login?wait=SECONDS&next=…; the page
	// shows that. A form that posts to /logout ends the session.
	//
	// A token opens no page: the pages can do more than a token may. The context of a GET ends when the server begins to end,
	// and within 15 s after the session did, so a page that listens or plays has to follow it.
	//
	// Forging: requests of other sites that change something are refused before they reach the handler
	// (http.CrossOriginProtection), so forms need no hidden token. Whatever changes something must be a POST, never a GET.
	//
	// Content-Security-Policy is set by the door for every answer, and has no nonce and no 'unsafe-inline': no <script> or
	// <style> with content, no on… and no style="…" attributes (styles that a script sets through the DOM are allowed); all
	// scripts, styles, fonts and pictures come from /assets/. blob: is allowed for media, workers and images, data: for
	// images. htmx needs includeIndicatorStyles:false and allowEval:false in its config. The other security headers are set
	// too; Cache-Control is "no-store" unless the handler sets it, as /assets/ should.
	//
	// Time: an answer has 30 s to be written. One that takes longer (a preview) calls ExtendWrite before each write; a
	// request body has at most 64 KiB. Text that is longer than a network packet is compressed on the way.
	Pages http.Handler
}

// Validate says what cannot be: a *Refusal with the key and the cure. It reads no file.
func (c ServerConfig) Validate() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return &Refusal{Key: "listen", Text: fmt.Sprintf("%q is no address; write host:port, like 127.0.0.1:8420", c.Listen)}
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return &Refusal{Key: "listen", Text: fmt.Sprintf("%q is no port; write a number from 1 to 65535", port)}
	}
	if c.PasswordFile == "" && !isLoopback(host) {
		return &Refusal{Key: "listen", Text: fmt.Sprintf("%s can be reached from other machines, which needs a password: set web.password-file, or listen on 127.0.0.1", c.Listen)}
	}
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		return &Refusal{Key: "web.tls-cert", Text: "it needs web.tls-key beside it"}
	case c.TLSCert == "" && c.TLSKey != "":
		return &Refusal{Key: "web.tls-key", Text: "it needs web.tls-cert beside it"}
	}
	return nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Server is the door.
type Server struct {
	cfg   ServerConfig
	view  View
	do    Commander
	store Store
	log   zerolog.Logger

	hub      *hub
	metrics  *metrics.Exposition
	pass     *password // nil: there is none
	cert     *certificate
	sessions *sessions
	suspects *throttle
	names    hosts // that a request may be for, where there is no password
	handler  http.Handler

	mu      sync.Mutex // guards what is below
	ln      net.Listener
	checked time.Time   // when the password file was last looked at
	warn    *obs.Warner // of that
}

// New checks everything that can be checked before anybody comes: the address, the password file, the certificate. What is
// wrong with them is a *Refusal. It opens nothing.
func New(cfg ServerConfig, v View, c Commander, store Store, log zerolog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log = log.With().Str("part", "web").Logger()
	s := &Server{cfg: cfg, view: v, do: c, store: store, log: log, hub: newHub(v, log), metrics: metrics.New(), sessions: newSessions(), suspects: newThrottle(),
		warn: obs.NewWarner(log, time.Hour)}
	var err error
	if cfg.PasswordFile != "" {
		if s.pass, err = openPassword(cfg.PasswordFile); err != nil {
			return nil, err
		}
	} else {
		s.names = hostsOf(cfg.Listen)
	}
	if cfg.TLSCert != "" {
		if s.cert, err = openCertificate(cfg.TLSCert, cfg.TLSKey, log); err != nil {
			return nil, err
		}
	}
	s.handler = s.build()
	return s, nil
}

func (s *Server) String() string { return "web server" }

// Handler is everything behind the socket, for tests.
func (s *Server) Handler() http.Handler { return s.handler }

// Listen opens the socket, so that an address that is taken is known at the start. Run does it where nobody did.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln != nil {
		return nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return &failure.Error{Op: "open the page at " + s.cfg.Listen, Kind: failure.NeedsHuman, Err: err,
			Hint: "Another program may have that port; write another one as `listen` in the config file."}
	}
	// "localhost" is what the machine says it is; only the socket knows.
	if host, _, err := net.SplitHostPort(ln.Addr().String()); s.pass == nil && (err != nil || !isLoopback(host)) {
		return errors.Join(&Refusal{Key: "listen", Text: fmt.Sprintf("%s leads to %s, which is no loopback address; set web.password-file, or listen on 127.0.0.1", s.cfg.Listen, host)}, ln.Close())
	}
	s.ln = &limited{Listener: ln, log: s.log}
	return nil
}

// Addr is where it listens, "" before Listen.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln == nil {
		return ""
	}
	return s.ln.Addr().String()
}

// URL is the address for a browser on this machine, "" before Listen.
func (s *Server) URL() string {
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return ""
	}
	if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if s.cert != nil {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/"
}

type service struct {
	name string
	run  func(ctx context.Context) error
}

func (s service) Run(ctx context.Context) error { return s.run(ctx) }
func (s service) String() string                { return s.name }

// Run serves until ctx ends; answers that are under way then have 2 s.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := supervise.NewGroup(s.log)
	g.Go(ctx, service{"web events", s.hub.run}, supervise.Policy{Restart: true})
	g.Go(ctx, service{"web requests", func(ctx context.Context) error {
		defer cancel() // a socket that broke ends the other too
		return s.serve(ctx)
	}}, supervise.Policy{})
	return g.Wait()
}

func (s *Server) serve(ctx context.Context) error {
	base, cut := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), endKey{}, ctx))
	defer cut()
	srv := &http.Server{Handler: s.handler, ReadHeaderTimeout: headerLimit, ReadTimeout: readLimit, WriteTimeout: writeLimit,
		IdleTimeout: idleLimit, MaxHeaderBytes: headerBytes, ErrorLog: errorLog(s.log), BaseContext: func(net.Listener) context.Context { return base }}
	ended := make(chan struct{}) // closed by what AfterFunc starts
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		s.hub.end()
		end, cancel := context.WithTimeout(base, endLimit)
		defer cancel()
		if srv.Shutdown(end) == nil {
			return
		}
		cut() // whoever still streams hears it by its context
		srv.Close()
	})
	s.mu.Lock()
	ln := s.ln
	s.ln = nil // Serve closes it
	s.mu.Unlock()
	s.log.Info().Str("addr", ln.Addr().String()).Bool("tls", s.cert != nil).Bool("password", s.pass != nil).Msg("page is open")
	if s.cert != nil {
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.cert.get}
	}
	var err error
	if s.cert != nil {
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the page: %w", err)
}

// endKey leads from the context of a request to that of the server, which ends when the server begins to end.
type endKey struct{}

// lasting gives an answer that may last (an open page listens for hours) a context that ends when the server does, or
// within 15 s after the pass of its reader has ended.
func lasting(r *http.Request, p pass) (*http.Request, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	stops := []func() bool{}
	if end, ok := ctx.Value(endKey{}).(context.Context); ok {
		stops = append(stops, context.AfterFunc(end, cancel))
	}
	if p.still != nil {
		made := make(chan struct{}) // closed below, once again is known
		var again *time.Timer
		again = time.AfterFunc(heartbeat, func() {
			<-made
			if ctx.Err() == nil && !p.still(ctx) {
				cancel()
			}
			if ctx.Err() == nil {
				again.Reset(heartbeat)
			}
		})
		close(made)
		stops = append(stops, again.Stop)
	}
	return r.WithContext(ctx), func() {
		cancel()
		for _, stop := range stops {
			stop()
		}
	}
}

// ExtendWrite gives an answer another 30 s, from now on: a long one calls it before each write. It fails when the reader
// is gone.
func ExtendWrite(w http.ResponseWriter) error {
	return http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit))
}

// guard stands before everything: what holds for each request, whoever sends it.
func (s *Server) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeTrouble(w, trouble{http.StatusForbidden, "cross_origin", "this was asked by another web site", ""})
	}))
	inner := cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil || v == http.ErrAbortHandler {
				if v != nil {
					panic(v) // net/http's own word for "cut this connection"
				}
				return
			}
			s.log.Error().Str("method", r.Method).Str("path", r.URL.Path).Interface("panic", v).Bytes("stack", debug.Stack()).Msg("a request met a bug")
			writeTrouble(w, trouble{http.StatusInternalServerError, "internal", "liverec could not do this; its log says why", ""})
		}()
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		if s.pass == nil && !s.names.has(r.Host) {
			// Without a password the browser's idea of "same site" is all there is, and a stranger's DNS can lie about it.
			writeTrouble(w, trouble{http.StatusMisdirectedRequest, "wrong_host", "this address is not known here; use http://" + s.cfg.Listen, ""})
			return
		}
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			writeTrouble(w, trouble{http.StatusForbidden, "cross_origin", "this was asked by another web site", ""})
			return
		}
		if r.ContentLength > bodyBytes {
			h.Set("Connection", "close")
			writeTrouble(w, tooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, bodyBytes)
		inner.ServeHTTP(w, r)
	})
}

// policy lets nothing in but our own files: no inline script or style, no other host.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self'; " +
	"connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// hosts are the names of a loopback address.
type hosts struct{ listen string }

func hostsOf(listen string) hosts {
	host, _, _ := net.SplitHostPort(listen) // Validate has seen it
	return hosts{strings.ToLower(host)}
}

func (h hosts) has(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	return isLoopback(host) || strings.HasSuffix(host, ".localhost") || host != "" && host == h.listen
}

// certificate follows its files: a renewed one is taken within a minute, a broken one is not taken.
type certificate struct {
	cert, key string
	log       zerolog.Logger

	mu      sync.Mutex // guards what is below
	now     *tls.Certificate
	checked time.Time
	changed [2]time.Time
	warn    *obs.Warner
}

const certEvery = time.Minute

func openCertificate(cert, key string, log zerolog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, log: log, warn: obs.NewWarner(log, time.Hour)}
	if err := c.read(); err != nil {
		return nil, err
	}
	c.checked = time.Now()
	return c, nil
}

// read takes the files over if they are others than before. The caller holds mu, or nobody else knows c yet.
func (c *certificate) read() error {
	var changed [2]time.Time
	for i, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			return &Refusal{Key: [...]string{"web.tls-cert", "web.tls-key"}[i], Text: err.Error()}
		}
		changed[i] = info.ModTime()
	}
	if c.now != nil && changed == c.changed {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return &Refusal{Key: "web.tls-cert", Text: fmt.Sprintf("%s with the key %s: %s", c.cert, c.key, strings.TrimPrefix(err.Error(), "tls: "))}
	}
	if c.now != nil {
		c.log.Info().Str("file", c.cert).Time("until", pair.Leaf.NotAfter).Msg("certificate was renewed")
	}
	c.now, c.changed = &pair, changed
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certEvery {
		c.checked = now
		err, msg := c.read(), "the certificate on the disk can be used again"
		if err != nil {
			msg = "the certificate on the disk cannot be used, the one before stays"
		}
		c.warn.Add(err, msg)
	}
	return c.now, nil
}

// limited refuses connections beyond maxConns, instead of letting them wait: file descriptors belong to capture first.
type limited struct {
	net.Listener
	log  zerolog.Logger
	open atomic.Int64
	told atomic.Int64 // when it was last said, Unix seconds
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= maxConns {
			return &counted{Conn: c, of: l}, nil
		}
		l.open.Add(-1)
		c.Close() // nothing was written that could be lost
		if now, told := time.Now().Unix(), l.told.Load(); now-told >= 60 && l.told.CompareAndSwap(told, now) {
			l.log.Warn().Int("connections", maxConns).Msg("too many connections to the page, new ones are refused")
		}
	}
}

type counted struct {
	net.Conn
	of   *limited
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.of.open.Add(-1) })
	return c.Conn.Close()
}
