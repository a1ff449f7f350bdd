package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/liverec/liverec/pkg/token"
)

// need is what a request must show.
type need uint8

const (
	needNothing need = iota
	needRead         // a session or a token
	needWrite        // a session or a token with the scope write
	needPerson       // a session: a token cannot make tokens
)

// route is one method of one path. The operation is its operationId in openapi.json; "" for what is no API.
type route struct {
	method, path string
	need         need
	operation    string
	serve        http.HandlerFunc
}

// routes are all of them but the pages.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/healthz", needNothing, "alive", s.getAlive},
		{"GET", "/readyz", needNothing, "ready", s.getReady},
		{"GET", "/metrics", needRead, "metrics", s.getMetrics},
		{"POST", "/login", needNothing, "", s.postLogin},
		{"POST", "/logout", needNothing, "", s.postLogout},
		{"GET", "/api/v1/status", needRead, "getStatus", s.getStatus},
		{"GET", "/api/v1/rooms", needRead, "listRooms", s.listRooms},
		{"POST", "/api/v1/rooms", needWrite, "addRoom", s.addRoom},
		{"GET", "/api/v1/rooms/{name}", needRead, "getRoom", s.getRoom},
		{"PATCH", "/api/v1/rooms/{name}", needWrite, "changeRoom", s.changeRoom},
		{"DELETE", "/api/v1/rooms/{name}", needWrite, "removeRoom", s.removeRoom},
		{"POST", "/api/v1/rooms/{name}/pause", needWrite, "pauseRoom", s.command},
		{"POST", "/api/v1/rooms/{name}/continue", needWrite, "continueRoom", s.command},
		{"POST", "/api/v1/rooms/{name}/split", needWrite, "splitRoom", s.command},
		{"POST", "/api/v1/rooms/{name}/stop", needWrite, "stopRoom", s.command},
		{"GET", "/api/v1/broadcasts", needRead, "listBroadcasts", s.listBroadcasts},
		{"GET", "/api/v1/broadcasts/{id}", needRead, "getBroadcast", s.getBroadcast},
		{"GET", "/api/v1/config", needRead, "getConfig", s.getConfig},
		{"GET", "/api/v1/events", needRead, "listen", s.hub.feed(asJSON).ServeHTTP},
		{"GET", "/api/v1/tokens", needPerson, "listTokens", s.listTokens},
		{"POST", "/api/v1/tokens", needPerson, "addToken", s.addToken},
		{"DELETE", "/api/v1/tokens/{id}", needPerson, "removeToken", s.removeToken},
		{"GET", "/api/v1/openapi.json", needRead, "openapi", s.getOpenAPI},
	}
}

// build makes the handler of everything.
func (s *Server) build() http.Handler {
	mux := http.NewServeMux()
	methods, needs := map[string][]string{}, map[string]need{}
	for _, r := range s.routes() {
		mux.Handle(r.method+" "+r.path, s.demand(r.need, r.serve))
		methods[r.path] = append(methods[r.path], r.method)
		if r.method == "GET" {
			methods[r.path] = append(methods[r.path], "HEAD")
		}
		if known, ok := needs[r.path]; !ok || r.need < known {
			needs[r.path] = r.need
		}
	}
	pages := s.pages()
	for path, allowed := range methods {
		if path == "/login" { // GET is the page's
			mux.Handle("GET /login", pages)
			allowed = append(allowed, "GET", "HEAD")
		}
		slices.Sort(allowed)
		allow := strings.Join(allowed, ", ")
		mux.Handle(path, s.demand(needs[path], func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			writeTrouble(w, trouble{http.StatusMethodNotAllowed, "method_not_allowed", "this address knows " + allow, ""})
		}))
	}
	mux.Handle("/api/", s.demand(needRead, func(w http.ResponseWriter, _ *http.Request) {
		writeTrouble(w, trouble{http.StatusNotFound, "no_route", "there is no such address; /api/v1/openapi.json lists them", ""})
	}))
	mux.Handle("/", pages)
	return s.guard(mux)
}

// demand lets a request pass that shows what is needed.
func (s *Server) demand(n need, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n == needNothing {
			next(w, r)
			return
		}
		p, t := s.passFor(r)
		switch {
		case t != nil:
		case p.scope == "":
			t = &trouble{http.StatusUnauthorized, "unauthorized", "sign in at /login, or send an API token as Authorization: Bearer lr_…", ""}
		case n == needWrite && !p.scope.Allows(token.Write):
			t = &trouble{http.StatusForbidden, "forbidden", "this token may only read", ""}
		case n == needPerson && !p.person:
			t = &trouble{http.StatusForbidden, "forbidden", "tokens are made, listed and removed by a person who is signed in, not by a token", ""}
		}
		if t != nil {
			if t.status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="liverec"`)
			}
			writeTrouble(w, *t)
			return
		}
		next(w, withPass(r, p))
	})
}

// pages is everything that is not in routes.
func (s *Server) pages() http.Handler {
	if s.cfg.Pages == nil {
		return s.demand(needRead, func(w http.ResponseWriter, _ *http.Request) {
			writeTrouble(w, trouble{http.StatusNotFound, "no_route", "there are no pages here", ""})
		})
	}
	inner := compress(s.cfg.Pages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, t := s.passFor(r)
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch signed := t == nil && p.person; {
		case read && r.URL.Path == "/login" && s.pass == nil:
			http.Redirect(w, r, "/", http.StatusSeeOther)
		case read && (r.URL.Path == "/login" || r.URL.Path == "/favicon.ico" || strings.HasPrefix(r.URL.Path, "/assets/")):
			inner.ServeHTTP(w, r)
		case t == nil && !signed && p.scope != "": // the pages can do more than a token may
			writeTrouble(w, trouble{http.StatusForbidden, "forbidden", "tokens are for the API, the pages are for people", ""})
		case !signed && r.Header.Get("HX-Request") != "": // htmx would paste the login form into the page
			w.Header().Set("HX-Redirect", "/login")
			writeTrouble(w, trouble{http.StatusUnauthorized, "unauthorized", "sign in at /login", ""})
		case !signed && read && strings.Contains(r.Header.Get("Accept"), "text/event-stream"): // a redirect would be asked again and again
			writeTrouble(w, trouble{http.StatusUnauthorized, "unauthorized", "sign in at /login", ""})
		case !signed && read:
			http.Redirect(w, r, loginFor(r.URL.RequestURI()), http.StatusSeeOther)
		case !signed:
			writeTrouble(w, trouble{http.StatusUnauthorized, "unauthorized", "sign in at /login", ""})
		case !read:
			inner.ServeHTTP(w, r)
		default:
			r, end := lasting(r, p)
			defer end()
			inner.ServeHTTP(w, r)
		}
	})
}
