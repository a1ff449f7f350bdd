package bilitest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server is the stand-in.
type Server struct {
	mux    *http.ServeMux
	hosts  map[string]bool // that a pattern names; read without lock once requests come
	ca     *authority
	front  *http.Server // the proxy
	tunnel *http.Server // what is behind it
	pipe   *pipe
	wg     sync.WaitGroup
	proxy  string
	folder string // holds the certificate

	mu       sync.Mutex
	offset   time.Duration
	faults   []*planned
	requests []Request
	strays   []string
	people
}

// In starts a stand-in with passport, api and nav in place. Its certificate lies in the folder dir. Close ends it.
func In(dir string) (*Server, error) {
	s := Unplugged()
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	s.ca, s.folder = ca, dir
	if err := os.WriteFile(s.CertFile(), ca.pem, 0o644); err != nil {
		return nil, fmt.Errorf("write the certificate: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s.proxy = "http://" + l.Addr().String()
	s.pipe = &pipe{conns: make(chan net.Conn), over: make(chan struct{}), addr: l.Addr()}
	s.front = &http.Server{Handler: http.HandlerFunc(s.serveProxy), ReadHeaderTimeout: time.Minute}
	s.tunnel = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.wg.Go(func() { _ = s.front.Serve(l) })       // ends with Close
	s.wg.Go(func() { _ = s.tunnel.Serve(s.pipe) }) // ends with Close
	return s, nil
}

// Unplugged makes a stand-in without any socket: only Virtual leads to it. It needs no Close.
func Unplugged() *Server {
	s := &Server{mux: http.NewServeMux(), hosts: map[string]bool{}}
	s.handleAccounts()
	return s
}

// Close ends the server and everything that it started.
func (s *Server) Close() {
	if s.front == nil {
		return
	}
	close(s.pipe.over)
	_ = s.front.Close()
	_ = s.tunnel.Close()
	s.wg.Wait()
}

// CertFile is the certificate of the stand-in's authority, PEM.
func (s *Server) CertFile() string { return filepath.Join(s.folder, "ca.pem") }

// ProxyURL is the address of the proxy.
func (s *Server) ProxyURL() string { return s.proxy }

// Env are the variables that lead a program here: the proxy, and the certificate for Go, OpenSSL, Python and curl.
func (s *Server) Env() []string {
	env := []string{"NO_PROXY=", "no_proxy="}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		env = append(env, name+"="+s.proxy)
	}
	for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} {
		env = append(env, name+"="+s.CertFile())
	}
	return env
}

// Transport leads an in-process client here, over real sockets and TLS.
func (s *Server) Transport() *http.Transport {
	u, err := url.Parse(s.proxy)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.ca.pem)
	return &http.Transport{
		Proxy:           func(*http.Request) (*url.URL, error) { return u, err },
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
}

// Handle adds an interface: pattern is ServeMux's, with method and host: "GET member.bilibili.com/preupload". A host
// that no pattern names cannot be reached. All patterns are added before the first request.
func (s *Server) Handle(pattern string, h http.HandlerFunc) {
	rest := pattern
	if _, after, ok := strings.Cut(pattern, " "); ok {
		rest = after
	}
	host, _, ok := strings.Cut(rest, "/")
	if !ok || host == "" {
		panic("bilitest: the pattern names no host: " + pattern)
	}
	s.mu.Lock()
	s.hosts[host] = true
	s.mu.Unlock()
	s.mux.HandleFunc(pattern, h)
}

func (s *Server) knows(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hosts[host] {
		if !slices.Contains(s.strays, host) {
			s.strays = append(s.strays, host)
		}
		return false
	}
	return true
}

// serveProxy answers CONNECT with a tunnel to ourselves, and plain requests by ourselves.
func (s *Server) serveProxy(w http.ResponseWriter, r *http.Request) {
	host := hostOf(r.Host)
	if r.Method != http.MethodConnect {
		if host == "" || !s.knows(host) {
			http.Error(w, "no such host in this world", http.StatusBadGateway)
			return
		}
		s.ServeHTTP(w, r)
		return
	}
	if !s.knows(host) {
		http.Error(w, "no such host in this world", http.StatusBadGateway)
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		conn.Close()
		return
	}
	if buf.Reader.Buffered() > 0 { // a client that does not wait for the answer
		conn = &prefixed{conn, buf.Reader}
	}
	// The handshake is ours: http.Server would write about each one that fails.
	secure := tls.Server(conn, &tls.Config{GetCertificate: s.ca.certificate, MinVersion: tls.VersionTLS12})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return
	}
	s.pipe.give(secure)
}

func hostOf(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return strings.ToLower(h)
	}
	return strings.ToLower(hostport)
}

type prefixed struct {
	net.Conn
	r io.Reader
}

func (p *prefixed) Read(b []byte) (int, error) { return p.r.Read(b) }

// pipe is the listener of what comes through the tunnel.
type pipe struct {
	conns chan net.Conn
	over  chan struct{}
	addr  net.Addr
}

func (p *pipe) give(c net.Conn) {
	select {
	case p.conns <- c:
	case <-p.over:
		c.Close()
	}
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}
func (p *pipe) Close() error   { return nil }
func (p *pipe) Addr() net.Addr { return p.addr }

// Fault spoils requests. The zero value of a field changes nothing.
type Fault struct {
	Skip  int           // so many pass first
	Times int           // then so many are hit; 0: one; negative: all
	Delay time.Duration // before anything else
	Hang  bool          // no answer until the client goes away
	Cut   bool          // the connection breaks before anything was done
	Lose  bool          // everything is done, then the connection breaks instead of the answer
	Late  time.Duration // everything is done, then the answer takes so long
	// Instead of the real answer, and without doing anything:
	Status  int    // an HTTP status, with Body
	Code    int64  // an envelope with this code and Message
	Message string //
	Data    any    // of that envelope, such as {"v_voucher":"…"}
	Body    string //
	Header  http.Header
}

type planned struct {
	fits string
	Fault
}

// Fault plans a fault for requests that fit: "METHOD host/path", where a trailing * stands for the rest and METHOD may
// be *. Of several that fit the oldest counts.
func (s *Server) Fault(fits string, f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &planned{fits, f})
}

// NoFaults takes back all faults that have not come.
func (s *Server) NoFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func fit(fits, method, hostPath string) bool {
	m, rest, ok := strings.Cut(fits, " ")
	if !ok {
		m, rest = "*", fits
	}
	if m != "*" && m != method {
		return false
	}
	if p, ok := strings.CutSuffix(rest, "*"); ok {
		return strings.HasPrefix(hostPath, p)
	}
	return rest == hostPath
}

// fault takes the fault for a request, nil if there is none.
func (s *Server) fault(method, hostPath string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.faults {
		if !fit(p.fits, method, hostPath) {
			continue
		}
		if p.Skip > 0 {
			p.Skip--
			continue
		}
		if p.Times > 0 {
			if p.Times--; p.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return &p.Fault
	}
	return nil
}

// Request is a request that came.
type Request struct {
	At     time.Time // of the stand-in
	Method string
	Host   string
	Path   string
	Query  url.Values
	Header http.Header
}

// Requests are those that fit, in order of arrival.
func (s *Server) Requests(fits string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Request
	for _, r := range s.requests {
		if fit(fits, r.Method, r.Host+r.Path) {
			out = append(out, r)
		}
	}
	return out
}

// Strays are hosts that were asked for and that nobody handles: a test expects none.
func (s *Server) Strays() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.strays)
}

// Now is the time of the stand-in.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.offset)
}

// Advance moves the time of the stand-in on against that of the process.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
}

// ServeHTTP is the stand-in behind the proxy: the log, the faults, the interfaces.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := hostOf(r.Host)
	s.mu.Lock()
	s.requests = append(s.requests, Request{time.Now().Add(s.offset), r.Method, host, r.URL.Path, r.URL.Query(), r.Header.Clone()})
	s.mu.Unlock()
	f := s.fault(r.Method, host+r.URL.Path)
	if f == nil {
		s.mux.ServeHTTP(w, r)
		return
	}
	if f.Delay > 0 && !wait(r.Context(), f.Delay) {
		panic(http.ErrAbortHandler)
	}
	switch {
	case f.Hang:
		// The body is read, else the server does not see the client go.
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Cut:
		panic(http.ErrAbortHandler)
	case f.Lose:
		s.mux.ServeHTTP(&lost{header: http.Header{}}, r)
		panic(http.ErrAbortHandler)
	case f.Late > 0:
		a := &answer{header: http.Header{}}
		s.mux.ServeHTTP(a, r)
		if !wait(r.Context(), f.Late) {
			panic(http.ErrAbortHandler)
		}
		for name, v := range a.header {
			w.Header()[name] = v
		}
		a.WriteHeader(http.StatusOK) // if nobody has
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body.String()) // the client went away: nobody is left to tell
	case f.Code != 0, f.Data != nil:
		_, _ = io.Copy(io.Discard, r.Body)
		for name, v := range f.Header {
			w.Header()[name] = v
		}
		if f.Status != 0 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(f.Status)
		}
		Reply(w, f.Code, f.Message, f.Data)
	case f.Status != 0, f.Body != "":
		_, _ = io.Copy(io.Discard, r.Body)
		for name, v := range f.Header {
			w.Header()[name] = v
		}
		if f.Status != 0 {
			w.WriteHeader(f.Status)
		}
		_, _ = io.WriteString(w, f.Body)
	default:
		s.mux.ServeHTTP(w, r)
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// lost is an answer that nobody gets.
type lost struct{ header http.Header }

func (l *lost) Header() http.Header         { return l.header }
func (l *lost) Write(b []byte) (int, error) { return len(b), nil }
func (l *lost) WriteHeader(int)             {}

// Reply writes an envelope.
func Reply(w http.ResponseWriter, code int64, message string, data any) {
	if message == "" {
		message = fmt.Sprint(code)
	}
	e := map[string]any{"code": code, "message": message, "ttl": 1}
	if data != nil {
		e["data"] = data
	}
	Write(w, e)
}

// Write writes a JSON answer of any shape.
func Write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(v) // the client went away: nobody is left to tell
}

// Virtual leads a client here without any socket: the handler runs in the goroutine of the caller, the body of the
// answer is complete when RoundTrip returns. For synctest. A handler must return when the request's context ends.
func (s *Server) Virtual() http.RoundTripper { return virtual{s} }

type virtual struct{ s *Server }

func (v virtual) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	host := hostOf(r.URL.Host)
	if !v.s.knows(host) {
		return nil, errors.New("no such host in this world: " + host)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	in.Host, in.RequestURI, in.RemoteAddr = r.URL.Host, r.URL.RequestURI(), "192.0.2.1:1234"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &answer{header: http.Header{}}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			resp, err = nil, r.Context().Err()
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
		}
	}()
	v.s.ServeHTTP(w, in)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return &http.Response{Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(strings.NewReader(w.body.String())), ContentLength: int64(w.body.Len()), Request: r}, nil
}

// answer is an answer in memory.
type answer struct {
	header http.Header
	status int
	body   strings.Builder
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}
func (a *answer) Flush() {}

// authority makes a certificate for each host that is asked for.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte

	mu    sync.Mutex
	leafs map[string]*tls.Certificate
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "liverec test authority"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	return &authority{key: key, cert: cert, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), leafs: map[string]*tls.Certificate{}}, nil
}

func (a *authority) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if h.ServerName == "" {
		return nil, errors.New("the client names no host")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.leafs[h.ServerName]; c != nil {
		return c, nil
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(a.leafs) + 2)), Subject: pkix.Name{CommonName: "stand-in"}, DNSNames: []string{h.ServerName},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, a.key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", h.ServerName, err)
	}
	a.leafs[h.ServerName] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
	return a.leafs[h.ServerName], nil
}
