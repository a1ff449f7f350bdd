package web

import "net/http"

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

// Feeders for tests of the package.
var (
	ParseBody = func(body []byte, dst any) (code, key string, ok bool) {
		t := parseBody(body, dst)
		if t == nil {
			return "", "", true
		}
		return t.code, t.key, false
	}
	_ http.Handler = (*feed)(nil)
)
