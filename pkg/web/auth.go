package web

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/token"
)

const (
	cookieName = "liverec"
	// lookEvery is how long a session may outlive a change of the password file.
	lookEvery = 5 * time.Second
)

// cookieFor is the name of the session's cookie: with TLS the browser itself sees to it that no other host and no plain
// page of this one has set it.
func cookieFor(secure bool) string {
	if secure {
		return "__Host-" + cookieName
	}
	return cookieName
}

// overTLS reports whether the browser speaks TLS, to us or to a proxy in front. A client that lies about it harms itself.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

// passFor says what a request may do. The trouble is that of a token that nobody knows, or of a ledger that cannot be asked.
func (s *Server) passFor(r *http.Request) (pass, *trouble) {
	if head := r.Header.Get("Authorization"); head != "" {
		kind, text, _ := strings.Cut(head, " ")
		h, ok := token.HashOf(strings.TrimSpace(text))
		if !strings.EqualFold(kind, "Bearer") || !ok {
			return pass{}, &trouble{http.StatusUnauthorized, "unauthorized", "Authorization has to be: Bearer lr_…", ""}
		}
		t, ok, err := s.store.UseToken(r.Context(), h, time.Now())
		switch {
		case err != nil:
			s.log.Warn().Err(err).Msg("a token cannot be looked up")
			return pass{}, &trouble{http.StatusServiceUnavailable, "busy", "the token cannot be looked up now", ""}
		case !ok || t.Hash != h:
			return pass{}, &trouble{http.StatusUnauthorized, "unauthorized", "this token is not known, it may have been removed", ""}
		}
		return pass{scope: t.Scope, still: func(ctx context.Context) bool {
			_, ok, err := s.store.UseToken(ctx, h, time.Now())
			return ok || err != nil // who cannot ask has not seen it go
		}}, nil
	}
	if s.pass == nil {
		return pass{scope: token.Write, person: true}, nil
	}
	c, err := r.Cookie(cookieFor(overTLS(r)))
	if err != nil {
		return pass{}, nil
	}
	s.followPassword(lookEvery)
	if !s.sessions.holds(c.Value, time.Now()) {
		return pass{}, nil
	}
	return pass{scope: token.Write, person: true, still: func(context.Context) bool {
		s.followPassword(lookEvery)
		return s.sessions.holds(c.Value, time.Now())
	}}, nil
}

// followPassword looks whether the password is another now, which ends all sessions. A file that cannot be used changes
// nothing and is named in the log.
func (s *Server) followPassword(every time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.checked) < every {
		return
	}
	s.checked = now
	changed, err := s.pass.read()
	msg := "the password file can be used again"
	if err != nil {
		msg = "the password file cannot be used, the password before stays"
	}
	s.warn.Add(err, msg)
	if changed {
		s.sessions.endAll()
		s.log.Info().Msg("the password is another, everybody has to sign in again")
	}
}

func loginFor(next string) string { return "/login?" + url.Values{"next": {next}}.Encode() }

// local is a path of ours to go on to, "/" for whatever could lead elsewhere.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsAny(next, "\\\r\n\t") || strings.HasPrefix(next, "/login") || strings.HasPrefix(next, "/logout") {
		return "/"
	}
	return next
}

// postLogin takes the form of the login page. Scripts that ask for JSON hear 204, 401 or 429 instead of being led around.
func (s *Server) postLogin(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		writeTrouble(w, trouble{http.StatusBadRequest, "bad_request", "the form cannot be read", ""})
		return
	}
	next, plain := local(r.PostForm.Get("next")), strings.Contains(r.Header.Get("Accept"), "application/json")
	if s.pass == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	from, now := place(r.RemoteAddr), time.Now()
	if wait := s.suspects.admit(from, now); wait > 0 {
		secs := int(math.Ceil(wait.Seconds()))
		w.Header().Set("Retry-After", fmt.Sprint(secs))
		if plain {
			writeTrouble(w, trouble{http.StatusTooManyRequests, "throttled", fmt.Sprintf("too many wrong passwords from this address; try again in %d s", secs), ""})
			return
		}
		http.Redirect(w, r, "/login?"+url.Values{"wait": {fmt.Sprint(secs)}, "next": {next}}.Encode(), http.StatusSeeOther)
		return
	}
	s.followPassword(0)
	if !s.pass.is(r.Context(), r.PostForm.Get("password")) {
		s.log.Warn().Str("from", from.String()).Msg("a wrong password was tried")
		if plain {
			writeTrouble(w, trouble{http.StatusUnauthorized, "unauthorized", "this is not the password", ""})
			return
		}
		http.Redirect(w, r, "/login?"+url.Values{"wrong": {"1"}, "next": {next}}.Encode(), http.StatusSeeOther)
		return
	}
	s.suspects.right(from)
	s.setCookie(w, r, s.sessions.open(now), int(sessionMost.Seconds()))
	s.log.Info().Str("from", from.String()).Msg("somebody signed in")
	if plain {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	http.SetCookie(w, &http.Cookie{Name: cookieFor(overTLS(r)), Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: overTLS(r), SameSite: http.SameSiteLaxMode})
}

func (s *Server) postLogout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookieFor(overTLS(r))); err == nil {
		s.sessions.end(c.Value)
		s.setCookie(w, r, "", -1)
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
