package web_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/token"
	"github.com/liverec/liverec/pkg/web"
	"github.com/liverec/liverec/pkg/web/webtest"
)

const thePassword = "correct horse battery"

// passwordFile is a file with that text in it.
func passwordFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// door is a server with a password, or an open one on loopback, with pages that say their address.
func door(t *testing.T, h *webtest.House, edit ...func(*web.ServerConfig)) *web.Server {
	t.Helper()
	cfg := web.ServerConfig{Listen: "127.0.0.1:0", Version: "test", Pages: http.HandlerFunc(page)}
	for _, f := range edit {
		f(&cfg)
	}
	s, err := web.New(cfg, h, h, h, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// page is any page, and says which.
func page(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/lasts" {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		_ = web.ExtendWrite(w) // for the last chunk
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "page %s\n", r.URL.Path)
	if r.URL.Path == "/long" {
		_, _ = io.WriteString(w, strings.Repeat("text ", 10_000))
	}
}

// locked sets thePassword, as a hash that costs a test nothing.
func locked(t *testing.T) func(*web.ServerConfig) {
	file := passwordFile(t, cheapHash+"\n")
	return func(c *web.ServerConfig) { c.PasswordFile = file }
}

// ask sends a request past the socket. The body is sent as JSON; header is "Key: value".
func ask(s *web.Server, method, path, body string, header ...string) *http.Response {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(context.Background(), method, "http://127.0.0.1:8420/", in)
	u, err := url.Parse(path)
	if err != nil {
		panic(err)
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.RequestURI = u.Path, u.RawPath, u.RawQuery, path
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		if r.Header.Set(k, v); k == "Host" {
			r.Host = v
		}
		if k == "From" {
			r.RemoteAddr = v
		}
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantError checks the form of an error, and gives its text.
func wantError(t *testing.T, r *http.Response, status int, code, key string) string {
	t.Helper()
	body := text(t, r)
	var e struct {
		Error struct{ Code, Text, Key string } `json:"error"`
	}
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %q is no error of the API: %v", r.StatusCode, body, err)
		return ""
	}
	if r.StatusCode != status || e.Error.Code != code || e.Error.Key != key || e.Error.Text == "" {
		t.Errorf("got %d %+v, want %d, code %q, key %q", r.StatusCode, e.Error, status, code, key)
	}
	return e.Error.Text
}

func login(t *testing.T, s *web.Server, header ...string) string {
	t.Helper()
	r := ask(s, "POST", "/login", "password="+url.QueryEscape(thePassword), append([]string{"Content-Type: application/x-www-form-urlencoded"}, header...)...)
	if r.StatusCode != http.StatusSeeOther || len(r.Cookies()) != 1 {
		t.Fatalf("login: %d %v", r.StatusCode, r.Header)
	}
	return "Cookie: " + r.Cookies()[0].Name + "=" + r.Cookies()[0].Value
}

func newToken(t *testing.T, h *webtest.House, scope token.Scope) string {
	t.Helper()
	tok, secret, err := token.New("test", scope, h.File.At)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddToken(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	return "Authorization: Bearer " + secret.Reveal()
}

// operation is a route as openapi.json tells of it.
type operation struct {
	method, path, id, need string
	statuses               []string
	body                   bool
}

func operations(t *testing.T) []operation {
	t.Helper()
	data, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	var out []operation
	for path, methods := range doc.Paths {
		for method, raw := range methods {
			if method == "parameters" {
				continue
			}
			var o struct {
				OperationID string                     `json:"operationId"`
				Need        string                     `json:"x-need"`
				Responses   map[string]json.RawMessage `json:"responses"`
				RequestBody json.RawMessage            `json:"requestBody"`
			}
			if err := json.Unmarshal(raw, &o); err != nil {
				t.Fatal(err)
			}
			op := operation{method: strings.ToUpper(method), path: path, id: o.OperationID, need: o.Need, body: o.RequestBody != nil}
			for st := range o.Responses {
				op.statuses = append(op.statuses, st)
			}
			out = append(out, op)
		}
	}
	slices.SortFunc(out, func(a, b operation) int {
		return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(a.method, b.method))
	})
	return out
}

// The document and the mux are held together in both directions: each route is told, each operation is served.
func TestOpenAPIIsTheRoutes(t *testing.T) {
	told := map[string]operation{}
	for _, o := range operations(t) {
		told[o.method+" "+o.path] = o
	}
	s := door(t, webtest.New(2))
	for _, r := range s.RoutesForTest() {
		if r.Operation == "" {
			continue
		}
		o, ok := told[r.Method+" "+r.Path]
		if !ok || o.id != r.Operation || o.need != r.Need {
			t.Errorf("route %+v is told as %+v", r, o)
		}
		delete(told, r.Method+" "+r.Path)
	}
	for k, o := range told {
		t.Errorf("%s (%s) is told, and there is no such route", k, o.id)
	}
}

// place fills in the wildcards of a path.
func place(path string) string {
	return strings.NewReplacer("{name}", "room-1", "{id}", "x").Replace(path)
}

// No open door: every route is walked without credentials.
func TestEveryRouteWithoutCredentials(t *testing.T) {
	h := webtest.New(2)
	s := door(t, h, locked(t))
	open := []string{"GET /healthz", "GET /readyz", "GET /login", "POST /login", "POST /logout", "GET /assets/app.js", "GET /favicon.ico"}
	var walk []string
	for _, r := range s.RoutesForTest() {
		for _, m := range []string{r.Method, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
			walk = append(walk, m+" "+place(r.Path))
		}
	}
	for _, p := range []string{"/", "/rooms/x", "/login/", "/api/", "/api/v1/nothing", "/api/v2/status", "/assets", "/%2e%2e/api/v1/status", "/login/../api/v1/status", "//api/v1/status",
		"/assets/../api/v1/status", "/assets/%2e%2e/", "/metrics/", "/debug/pprof/", "/metrics?x=1", "/API/v1/status"} {
		walk = append(walk, "GET "+p, "POST "+p)
	}
	before := h.Looks
	for _, w := range walk {
		method, path, _ := strings.Cut(w, " ")
		for _, header := range []string{"", "Authorization: Bearer lr_" + strings.Repeat("A", 43), "Authorization: Basic YTpi", "Cookie: liverec=x", "Cookie: __Host-liverec=x"} {
			r := ask(s, method, path, "", header)
			body := text(t, r)
			pattern := strings.Replace(method, "HEAD", "GET", 1) + " " + path
			health := strings.HasPrefix(path, "/healthz") || strings.HasPrefix(path, "/readyz")
			switch {
			case slices.Contains(open, pattern) || health || strings.HasPrefix(path, "/assets/") && method == "GET" && !strings.Contains(path, ".."):
			case r.StatusCode == http.StatusUnauthorized:
			case r.StatusCode == http.StatusMethodNotAllowed && (strings.HasPrefix(path, "/login") || strings.HasPrefix(path, "/logout")):
			case r.StatusCode == http.StatusSeeOther && strings.HasPrefix(r.Header.Get("Location"), "/login?next="):
			case r.StatusCode == http.StatusTemporaryRedirect || r.StatusCode == http.StatusMovedPermanently: // to the clean path, which is walked too
			default:
				t.Errorf("%s with %q answers %d: %s", w, header, r.StatusCode, body)
			}
			if strings.Contains(body, "room-") {
				t.Errorf("%s with %q tells of the rooms: %s", w, header, body)
			}
			if r.Header.Get("Content-Security-Policy") == "" || r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("X-Frame-Options") != "DENY" {
				t.Errorf("%s has not the headers that every answer has: %v", w, r.Header)
			}
		}
	}
	if len(h.Told) > 0 || len(h.Known) != 2 || len(h.Keys) > 0 || h.Looks != before {
		t.Errorf("somebody without credentials reached the house: %v", h.Told)
	}
}

func TestScopesOfTokens(t *testing.T) {
	for _, scope := range []token.Scope{token.Read, token.Write} {
		h := webtest.New(3)
		s := door(t, h, locked(t))
		auth := newToken(t, h, scope)
		for _, o := range operations(t) {
			if o.id == "listen" {
				continue // it lasts; see TestEvents
			}
			r := ask(s, o.method, place(o.path), map[bool]string{true: "{}"}[o.body], auth)
			refused := r.StatusCode == http.StatusForbidden || r.StatusCode == http.StatusUnauthorized
			if want := o.need == "person" || o.need == "write" && scope == token.Read; refused != want {
				t.Errorf("%s with scope %s: %d", o.id, scope, r.StatusCode)
			}
			if !slices.Contains(o.statuses, fmt.Sprint(r.StatusCode)) {
				t.Errorf("%s answers %d, which is not told", o.id, r.StatusCode)
			}
		}
		// The pages make tokens, so no token may reach them.
		wantError(t, ask(s, "GET", "/", "", auth), 403, "forbidden", "")
		wantError(t, ask(s, "POST", "/tokens", "", auth), 403, "forbidden", "")
	}
}

func TestLoginAndLogout(t *testing.T) {
	s := door(t, webtest.New(2), locked(t))
	form := "Content-Type: application/x-www-form-urlencoded"
	if r := ask(s, "GET", "/login?next=%2Frooms%2Falice", ""); r.StatusCode != 200 || text(t, r) != "page /login\n" {
		t.Errorf("the login page: %d", r.StatusCode)
	}
	if r := ask(s, "POST", "/login", "password=wrong&next=%2Frooms%2Falice", form); r.StatusCode != 303 || r.Header.Get("Location") != "/login?next=%2Frooms%2Falice&wrong=1" {
		t.Errorf("a wrong password: %d %s", r.StatusCode, r.Header.Get("Location"))
	}
	wantError(t, ask(s, "POST", "/login", "password=wrong", form, "Accept: application/json"), 401, "unauthorized", "")
	r := ask(s, "POST", "/login", "password="+url.QueryEscape(thePassword)+"&next=%2Frooms%2Falice", form)
	if r.StatusCode != 303 || r.Header.Get("Location") != "/rooms/alice" {
		t.Fatalf("the right password: %d %s", r.StatusCode, r.Header.Get("Location"))
	}
	c := r.Cookies()[0]
	if c.Name != "liverec" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure || c.Path != "/" {
		t.Errorf("the cookie is %+v", c)
	}
	cookie := "Cookie: liverec=" + c.Value
	if r := ask(s, "GET", "/", "", cookie); text(t, r) != "page /\n" {
		t.Error("the session does not hold")
	}
	if r := ask(s, "GET", "/api/v1/rooms", "", cookie); r.StatusCode != 200 {
		t.Errorf("the API with a session: %d", r.StatusCode)
	}
	if r := ask(s, "POST", "/logout", "", cookie); r.StatusCode != 303 || r.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %d", r.StatusCode)
	}
	if r := ask(s, "GET", "/api/v1/rooms", "", cookie); r.StatusCode != 401 {
		t.Errorf("after the logout: %d", r.StatusCode)
	}
	for _, header := range []string{"X-Forwarded-Proto: https"} {
		if c := ask(s, "POST", "/login", "password="+url.QueryEscape(thePassword), form, header).Cookies()[0]; c.Name != "__Host-liverec" || !c.Secure {
			t.Errorf("the cookie over TLS is %+v", c)
		}
	}
	if r := ask(s, "GET", "/", "", "HX-Request: true"); r.StatusCode != 401 || r.Header.Get("HX-Redirect") != "/login" {
		t.Errorf("htmx without a session: %d", r.StatusCode)
	}
}

func TestNextLeadsNowhereElse(t *testing.T) {
	for next, want := range map[string]string{
		"/rooms/a?b=c": "/rooms/a?b=c", "": "/", "https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/", "javascript:alert(1)": "/",
		"/login?x": "/", "/logout": "/", "rooms": "/", "/a\r\nX: y": "/", "/\t/evil.example": "/", "http:evil.example": "/",
	} {
		if got := web.Local(next); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
	}
}

func TestANewPasswordEndsAllSessions(t *testing.T) {
	file := passwordFile(t, thePassword)
	s := door(t, webtest.New(1), func(c *web.ServerConfig) { c.PasswordFile = file })
	cookie := login(t, s)
	if err := os.WriteFile(file, []byte("another password"), 0o600); err != nil {
		t.Fatal(err)
	}
	form := "Content-Type: application/x-www-form-urlencoded"
	if r := ask(s, "POST", "/login", "password="+url.QueryEscape(thePassword), form, "Accept: application/json"); r.StatusCode != 401 {
		t.Errorf("the old password: %d", r.StatusCode)
	}
	if r := ask(s, "GET", "/api/v1/status", "", cookie); r.StatusCode != 401 {
		t.Errorf("the old session: %d", r.StatusCode)
	}
	if r := ask(s, "POST", "/login", "password=another+password", form, "Accept: application/json"); r.StatusCode != 204 {
		t.Errorf("the new password: %d", r.StatusCode)
	}
	if err := os.Chmod(file, 0o644); err != nil { // nothing changes while the file cannot be used
		t.Fatal(err)
	}
	if r := ask(s, "POST", "/login", "password=another+password", form, "Accept: application/json"); r.StatusCode != 204 {
		t.Errorf("the password of the file that was readable before: %d", r.StatusCode)
	}
}

func TestConfigIsRefusedWithTheCure(t *testing.T) {
	good, bare := passwordFile(t, thePassword), passwordFile(t, thePassword)
	if err := os.Chmod(bare, 0o644); err != nil {
		t.Fatal(err)
	}
	cert, key := certificate(t, "localhost")
	junk := passwordFile(t, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	_, other := certificate(t, "localhost")
	for name, c := range map[string]struct {
		cfg  web.ServerConfig
		key  string
		says string
	}{
		"no port":                    {web.ServerConfig{Listen: "127.0.0.1"}, "listen", "127.0.0.1:8420"},
		"no such port":               {web.ServerConfig{Listen: "127.0.0.1:99999"}, "listen", "65535"},
		"all addresses":              {web.ServerConfig{Listen: ":8420"}, "listen", "password-file"},
		"all addresses, IPv6":        {web.ServerConfig{Listen: "[::]:8420"}, "listen", "password-file"},
		"a name":                     {web.ServerConfig{Listen: "example.com:8420"}, "listen", "password-file"},
		"another address":            {web.ServerConfig{Listen: "192.168.1.2:8420"}, "listen", "127.0.0.1"},
		"password file is not there": {web.ServerConfig{Listen: ":8420", PasswordFile: good + "x"}, "web.password-file", "no such file"},
		"readable by others":         {web.ServerConfig{Listen: ":8420", PasswordFile: bare}, "web.password-file", "chmod 600"},
		"empty":                      {web.ServerConfig{Listen: ":8420", PasswordFile: passwordFile(t, "\n")}, "web.password-file", "8 characters"},
		"short":                      {web.ServerConfig{Listen: ":8420", PasswordFile: passwordFile(t, "1234567\n")}, "web.password-file", "8 characters"},
		"two lines":                  {web.ServerConfig{Listen: ":8420", PasswordFile: passwordFile(t, "12345678\n12345678\n")}, "web.password-file", "one line"},
		"a folder":                   {web.ServerConfig{Listen: ":8420", PasswordFile: t.TempDir()}, "web.password-file", "no file"},
		"a broken hash":              {web.ServerConfig{Listen: ":8420", PasswordFile: passwordFile(t, "$argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA")}, "web.password-file", "262144"},
		"another hash":               {web.ServerConfig{Listen: ":8420", PasswordFile: passwordFile(t, "$argon2i$v=19$m=65536,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA")}, "web.password-file", "$argon2id$"},
		"no key":                     {web.ServerConfig{Listen: "127.0.0.1:0", TLSCert: cert}, "web.tls-cert", "tls-key"},
		"no certificate":             {web.ServerConfig{Listen: "127.0.0.1:0", TLSKey: key}, "web.tls-key", "tls-cert"},
		"broken certificate":         {web.ServerConfig{Listen: "127.0.0.1:0", TLSCert: junk, TLSKey: key}, "web.tls-cert", junk},
		"another key":                {web.ServerConfig{Listen: "127.0.0.1:0", TLSCert: cert, TLSKey: other}, "web.tls-cert", other},
		"certificate is not there":   {web.ServerConfig{Listen: "127.0.0.1:0", TLSCert: cert + "x", TLSKey: key}, "web.tls-cert", cert + "x"},
	} {
		h := webtest.New(0)
		_, err := web.New(c.cfg, h, h, h, zerolog.Nop())
		r, ok := errors.AsType[*web.Refusal](err)
		if !ok || r.Key != c.key || !strings.Contains(r.Text, c.says) || strings.Contains(fmt.Sprint(err), thePassword) {
			t.Errorf("%s: %v, want key %s and %q", name, err, c.key, c.says)
		}
	}
	for _, listen := range []string{"127.0.0.1:0", "127.9.9.9:0", "localhost:0", "[::1]:0", "LOCALHOST:0"} {
		if err := (web.ServerConfig{Listen: listen}).Validate(); err != nil {
			t.Errorf("%s needs a password: %v", listen, err)
		}
	}
}

// cheapHash is that of thePassword with the least that argon2 can do.
const cheapHash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQxMjM0NTY3OA$MYhkh5J5Xbql/RTJN+G+edMDOCm+Mgj8HtuNSL1YsrE"

// argonHash is what the argon2 program makes of thePassword.
const argonHash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM0NTY3OA$TF2s+BxXXkq+AjpBEgc5wHOhZK9bDkPqMKd49TXum2g"

// The hash of a password is taken as well as the password.
func TestAHashInThePasswordFile(t *testing.T) {
	file := passwordFile(t, argonHash+"\n")
	s := door(t, webtest.New(1), func(c *web.ServerConfig) { c.PasswordFile = file })
	login(t, s)
	if r := ask(s, "POST", "/login", "password=x", "Content-Type: application/x-www-form-urlencoded", "Accept: application/json"); r.StatusCode != 401 {
		t.Errorf("a wrong password: %d", r.StatusCode)
	}
}

func TestStrangersNamesAreRefusedOnLoopback(t *testing.T) {
	s := door(t, webtest.New(1))
	for host, ok := range map[string]bool{
		"127.0.0.1:8420": true, "127.0.0.1": true, "localhost:8420": true, "LOCALHOST": true, "[::1]:8420": true, "[::1]": true, "127.1.2.3:1": true, "liverec.localhost:8420": true,
		"evil.example:8420": false, "evil.example": false, "localhost.evil.example": false, "": false, "10.0.0.1:8420": false, "127.0.0.1.evil.example": false, "evil.example#localhost": false,
	} {
		r := ask(s, "GET", "/api/v1/status", "", "Host: "+host)
		if (r.StatusCode == 200) != ok {
			t.Errorf("host %q: %d", host, r.StatusCode)
		}
		if !ok {
			wantError(t, r, http.StatusMisdirectedRequest, "wrong_host", "")
		}
	}
	if r := ask(door(t, webtest.New(1), locked(t)), "GET", "/login", "", "Host: recorder.example"); r.StatusCode != 200 {
		t.Errorf("with a password any name is good, the cookie is bound to it: %d", r.StatusCode)
	}
}

func TestOtherSitesChangeNothing(t *testing.T) {
	h := webtest.New(2)
	s := door(t, h)
	for _, header := range [][]string{{"Origin: http://evil.example"}, {"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site"}, {"Origin: null"}, {"Origin: http://127.0.0.1:9999"}} {
		wantError(t, ask(s, "POST", "/api/v1/rooms/room-1/pause", "", header...), 403, "cross_origin", "")
		wantError(t, ask(s, "POST", "/login", "", header...), 403, "cross_origin", "")
		wantError(t, ask(s, "DELETE", "/api/v1/rooms/room-1", "", header...), 403, "cross_origin", "")
	}
	wantError(t, ask(s, "GET", "/api/v1/status", "", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"), 403, "cross_origin", "")
	for _, header := range [][]string{{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}, {"Sec-Fetch-Site: same-origin"}, {"Sec-Fetch-Site: none"}} {
		if r := ask(s, "GET", "/", "", header...); r.StatusCode != 200 {
			t.Errorf("%v: %d", header, r.StatusCode)
		}
	}
	if r := ask(s, "POST", "/api/v1/rooms/room-1/pause", "", "Origin: http://127.0.0.1:8420"); r.StatusCode != 202 {
		t.Errorf("our own page: %d", r.StatusCode)
	}
	if got := fmt.Sprint(h.Told); got != "[pause room-1]" {
		t.Errorf("told: %s", got)
	}
}

func TestBigTextIsCompressedAndAskedForOnce(t *testing.T) {
	s := door(t, webtest.New(200))
	r := ask(s, "GET", "/api/v1/rooms", "", "Accept-Encoding: br, gzip;q=0.5")
	small := text(t, r)
	if r.Header.Get("Content-Encoding") != "gzip" || len(small) > 8000 {
		t.Errorf("%d bytes, %v", len(small), r.Header)
	}
	plain := ask(s, "GET", "/api/v1/rooms", "", "Accept-Encoding: gzip;q=0")
	if body := text(t, plain); plain.Header.Get("Content-Encoding") != "" || body != unzip(t, small) {
		t.Error("compressed and plain are not the same")
	}
	tag := r.Header.Get("Etag")
	if again := ask(s, "GET", "/api/v1/rooms", "", "If-None-Match: "+tag); again.StatusCode != 304 || text(t, again) != "" || tag == "" {
		t.Errorf("the same again: %d", again.StatusCode)
	}
	if r := ask(s, "PATCH", "/api/v1/rooms/room-7", `{"priority":3}`); r.StatusCode != 200 {
		t.Fatalf("change: %d", r.StatusCode)
	}
	if again := ask(s, "GET", "/api/v1/rooms", "", "If-None-Match: "+tag); again.StatusCode != 200 {
		t.Errorf("after a change: %d", again.StatusCode)
	}
	if page := ask(s, "GET", "/long", "", "Accept-Encoding: gzip"); page.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(unzip(t, text(t, page)), "page /long") {
		t.Errorf("a page: %v", page.Header)
	}
	if r := ask(s, "GET", "/healthz", "", "Accept-Encoding: gzip"); text(t, r) != "alive\n" {
		t.Error("a short answer was compressed")
	}
}

func TestAnswersOfTheHouse(t *testing.T) {
	h := webtest.New(2)
	s := door(t, h)
	if r := ask(s, "GET", "/readyz", ""); r.StatusCode != 200 {
		t.Errorf("ready: %d", r.StatusCode)
	}
	h.Edit(func(h *webtest.House) { h.Sick = errors.New("the ledger takes no records") })
	if r := ask(s, "GET", "/readyz", ""); r.StatusCode != 503 || !strings.Contains(text(t, r), "the ledger takes no records") {
		t.Errorf("not ready: %d", r.StatusCode)
	}
	if r := ask(s, "GET", "/healthz", ""); r.StatusCode != 200 {
		t.Errorf("alive: %d", r.StatusCode)
	}
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{errors.New("disk /secret/path broke"), 500, "internal"}, {web.ErrStopping, 503, "stopping"}, {fmt.Errorf("ask: %w", context.DeadlineExceeded), 503, "busy"},
	} {
		h.Edit(func(h *webtest.House) { h.Broken = c.err })
		for _, path := range []string{"/api/v1/status", "/api/v1/rooms", "/api/v1/broadcasts", "/api/v1/tokens", "/metrics"} {
			if said := wantError(t, ask(s, "GET", path, ""), c.status, c.code, ""); strings.Contains(said, "secret") {
				t.Errorf("%s tells %q", path, said)
			}
		}
		wantError(t, ask(s, "POST", "/api/v1/rooms/room-1/stop", ""), c.status, c.code, "")
	}
}

func TestABugAnswersAndIsLogged(t *testing.T) {
	var log bytes.Buffer
	h := webtest.New(0)
	s, err := web.New(web.ServerConfig{Listen: "127.0.0.1:0", Pages: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })}, h, h, h, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, ask(s, "GET", "/", ""), 500, "internal", "")
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "door_test.go") {
		t.Errorf("the log says %s", log.String())
	}
}
