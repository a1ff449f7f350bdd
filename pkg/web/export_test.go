package web

import (
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/liverec/liverec/pkg/status"
)

// RouteForTest is a route as the mux has it.
type RouteForTest struct{ Method, Path, Need, Operation string }

// RoutesForTest lists what was registered.
func (s *Server) RoutesForTest() []RouteForTest {
	var out []RouteForTest
	for _, r := range s.routes() {
		out = append(out, RouteForTest{r.method, r.path, [...]string{"nothing", "read", "write", "person"}[r.need], r.operation})
	}
	return out
}

// ParseBody is parseBody: ok, or the code and the key of what is wrong.
func ParseBody(body []byte, dst any) (code, key string, ok bool) {
	if t := parseBody(body, dst); t != nil {
		return t.code, t.key, false
	}
	return "", "", true
}

// What tests of time look at without a socket.
var (
	Local       = local
	Place       = place
	NewThrottle = newThrottle
	NewSessions = newSessions
	NewHub      = newHub
	Encode      = encodeEvents
	JSON        = asJSON

	OpenCertificate = openCertificate
)

// Get is what a browser is shown.
func (c *certificate) Get() (*tls.Certificate, error) { return c.get(nil) }

// Admit is throttle.admit; Right is throttle.right; Suspects is how many are remembered.
func (t *throttle) Admit(p netip.Prefix, now time.Time) time.Duration { return t.admit(p, now) }
func (t *throttle) Right(p netip.Prefix)                              { t.right(p) }
func (t *throttle) Suspects() int                                     { return len(t.seen) }

// Open is sessions.open; Holds is sessions.holds; Count is how many there are.
func (s *sessions) Open(now time.Time) string             { return s.open(now) }
func (s *sessions) Holds(text string, now time.Time) bool { return s.holds(text, now) }
func (s *sessions) Count() int                            { return len(s.all) }

// Take is hub.take; Since is what changed after an ID, and whether anything did.
func (h *hub) Take(st status.Status) { h.take(st) }
func (h *hub) Since(id string) (delta, bool) {
	c, _, rung := h.since(h.parse(id))
	return c, rung == nil
}

// SetListener makes Run serve on ln.
func (s *Server) SetListener(ln net.Listener) { s.ln = ln }
