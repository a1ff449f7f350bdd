package bilitest

import (
	"net/http"
	"time"
)

// Server is the stand-in.
type Server struct{ mux *http.ServeMux }

// New starts a stand-in with passport, api and nav in place. Close ends it.
func New() (*Server, error) { panic("outline") }

// Close ends the server and everything that it started.
func (s *Server) Close() { panic("outline") }

// Env are the variables that lead a program here: HTTPS_PROXY, HTTP_PROXY, NO_PROXY, SSL_CERT_FILE and their kin.
func (s *Server) Env() []string { panic("outline") }

// Transport leads an in-process client here, over real sockets and TLS.
func (s *Server) Transport() *http.Transport { panic("outline") }

// Virtual leads a client here without any socket: the handler runs in the goroutine of the caller. For synctest.
func (s *Server) Virtual() http.RoundTripper { panic("outline") }

// Handle adds an interface: pattern is ServeMux's, with method and host: "GET member.bilibili.com/preupload". A host
// that no pattern names cannot be reached.
func (s *Server) Handle(pattern string, h http.HandlerFunc) { panic("outline") }

// Fault spoils requests. The zero value of a field changes nothing.
type Fault struct {
	Skip  int           // so many pass first
	Times int           // then so many are hit; 0: one; negative: all
	Delay time.Duration // before anything else
	Hang  bool          // no answer until the client goes away
	Cut   bool          // the connection breaks before anything was done
	Lose  bool          // everything is done, then the connection breaks instead of the answer
	// Instead of the real answer, and without doing anything:
	Status  int    // an HTTP status, with Body
	Code    int64  // an envelope with this code and Message
	Message string //
	Data    any    // of that envelope, such as {"v_voucher":"…"}
	Body    string //
	Header  http.Header
}

// Fault plans a fault for requests that fit: "METHOD host/path", where a trailing * stands for the rest and METHOD may
// be *.
func (s *Server) Fault(fits string, f Fault) { panic("outline") }

// Request is a request that came, body read by the handler not included.
type Request struct {
	At     time.Time
	Method string
	Host   string
	Path   string
	Query  string
	Header http.Header
}

// Requests are those that fit, in order of arrival.
func (s *Server) Requests(fits string) []Request { panic("outline") }

// Strays are hosts that were asked for and that nobody handles: a test expects none.
func (s *Server) Strays() []string { panic("outline") }

// Now is the time of the stand-in; Advance moves it on against that of the process.
func (s *Server) Now() time.Time          { panic("outline") }
func (s *Server) Advance(d time.Duration) { panic("outline") }

// Reply writes an envelope.
func Reply(w http.ResponseWriter, code int64, message string, data any) { panic("outline") }
