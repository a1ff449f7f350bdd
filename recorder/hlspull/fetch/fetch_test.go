package fetch_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
)

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(r *http.Request, code int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Request: r, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func client(t *testing.T, home string, f trip) *fetch.Client {
	t.Helper()
	u, err := url.Parse(home)
	if err != nil {
		t.Fatal(err)
	}
	return fetch.New(fetch.Config{Home: u, Transport: f, Header: http.Header{"Referer": {"http://site/"}, "cookie": {"a=secret"}}})
}

func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		home, to string
		ok       bool
	}{
		{"http://a.example/", "http://b.example/x", true},
		{"http://a.example/", "https://b.example/x", true},
		{"http://a.example/", "http://127.0.0.1/x", false},
		{"http://a.example/", "http://127.9.9.9:8080/x", false},
		{"http://a.example/", "http://localhost/x", false},
		{"http://a.example/", "http://x.LOCALHOST./x", false},
		{"http://a.example/", "http://printer.local/x", false},
		{"http://a.example/", "http://10.0.0.1/x", false},
		{"http://a.example/", "http://172.20.0.1/x", false},
		{"http://a.example/", "http://192.168.1.1/x", false},
		{"http://a.example/", "http://169.254.169.254/latest/meta-data", false},
		{"http://a.example/", "http://100.100.100.200/x", false},
		{"http://a.example/", "http://0.0.0.0/x", false},
		{"http://a.example/", "http://[::1]/x", false},
		{"http://a.example/", "http://[::ffff:10.0.0.1]/x", false},
		{"http://a.example/", "http://[fd00::1]/x", false},
		{"http://a.example/", "http://[fe80::1%25eth0]/x", false},
		{"http://a.example/", "http://[64:ff9b::a00:1]/x", false},
		{"http://a.example/", "file:///etc/passwd", false},
		{"http://a.example/", "ftp://b.example/x", false},
		{"http://a.example/", "data:text/plain,x", false},
		{"http://a.example/", "", false},
		{"http://127.0.0.1:80/", "http://192.168.1.1/x", true},
		{"http://192.168.1.9/", "http://127.0.0.1/x", true},
		{"http://127.0.0.1:80/", "file:///etc/passwd", false},
	} {
		for _, way := range []string{"asked", "redirected"} {
			asked := ""
			cl := client(t, c.home, func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/redirect" {
					return answer(r, 302, "", "Location", c.to), nil
				}
				asked = r.URL.String()
				return answer(r, 200, "x"), nil
			})
			to := c.to
			if way == "redirected" {
				if to == "" {
					continue
				}
				to = strings.TrimSuffix(c.home, "/") + "/redirect"
			}
			_, err := cl.Get(t.Context(), fetch.Request{URL: to, Max: 10})
			_, place := errors.AsType[*fetch.PlaceError](err)
			if c.ok != (err == nil) || !c.ok && (!place || asked != "") {
				t.Errorf("%s to %s, %s: %v, asked %q", c.home, c.to, way, err, asked)
			}
			if err != nil && strings.Contains(err.Error(), "passwd") {
				t.Errorf("an address is told: %v", err)
			}
		}
	}
}

// A name that resolves into the network behind us is refused where it is dialled.
func TestNamesThatResolveInside(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	ips, err := net.DefaultResolver.LookupIP(t.Context(), "ip4", name)
	if err != nil || len(ips) == 0 || !ips[0].IsPrivate() && !ips[0].IsLoopback() || strings.Contains(name, "localhost") {
		t.Skipf("%s does not resolve to a private address", name)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(ips[0].String(), "0"))
	if err != nil {
		t.Skip(err)
	}
	asked := false
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true })}}
	srv.Start()
	defer srv.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	u := fmt.Sprintf("http://%s:%s/", name, port)
	public, err := url.Parse("http://192.0.2.1/")
	if err != nil {
		t.Fatal(err)
	}
	cl := fetch.New(fetch.Config{Home: public})
	defer cl.Close()
	_, err = cl.Get(t.Context(), fetch.Request{URL: u, Max: 10})
	if _, place := errors.AsType[*fetch.PlaceError](err); !place || asked {
		t.Errorf("%v", err)
	}
	home, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	own := fetch.New(fetch.Config{Home: home})
	defer own.Close()
	if _, err := own.Get(t.Context(), fetch.Request{URL: u, Max: 10}); err != nil || !asked {
		t.Errorf("the room's own host: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	var seen []string
	cl := client(t, "http://a.example/", func(r *http.Request) (*http.Response, error) {
		seen = append(seen, fmt.Sprintf("%s cookie=%q referer=%q", r.URL.Host, r.Header.Get("Cookie"), r.Header.Get("Referer")))
		switch r.URL.Path {
		case "/circle":
			return answer(r, 302, "", "Location", "/circle2"), nil
		case "/circle2":
			return answer(r, 302, "", "Location", "/circle"), nil
		case "/far":
			return answer(r, 302, "", "Location", "http://b.example/x"), nil
		case "/x":
			return answer(r, 200, "x"), nil
		}
		return answer(r, 302, "", "Location", r.URL.Path+"x"), nil
	})
	for path, want := range map[string]string{"/circle": "circle", "/endless": "more than 10"} {
		if _, err := cl.Get(t.Context(), fetch.Request{URL: "http://a.example" + path, Max: 10}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	seen = nil
	a, err := cl.Get(t.Context(), fetch.Request{URL: "http://a.example/far", Max: 10})
	if err != nil || a.Host() != "b.example" || a.URL.Path != "/x" {
		t.Errorf("%+v, %v", a, err)
	}
	if got := strings.Join(seen, "; "); got != `a.example cookie="a=secret" referer="http://site/"; b.example cookie="" referer="http://site/"` {
		t.Errorf("asked %s", got)
	}
}

func TestBodies(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(bytes.Repeat([]byte("x"), 5000))
	z.Close()
	for _, c := range []struct {
		name   string
		answer func(r *http.Request) *http.Response
		r      fetch.Request
		want   string // length of the body, or a part of the error
		is     error
	}{
		{"plain", func(r *http.Request) *http.Response { return answer(r, 200, "12345") }, fetch.Request{Max: 5}, "5", nil},
		{"one too many", func(r *http.Request) *http.Response { return answer(r, 200, "123456") }, fetch.Request{Max: 5}, "", fetch.ErrTooLarge},
		{"unknown length", func(r *http.Request) *http.Response {
			a := answer(r, 200, strings.Repeat("x", 300_000))
			a.ContentLength = -1
			return a
		}, fetch.Request{Max: 300_000}, "300000", nil},
		{"unknown length, too long", func(r *http.Request) *http.Response {
			a := answer(r, 200, strings.Repeat("x", 300_001))
			a.ContentLength = -1
			return a
		}, fetch.Request{Max: 300_000}, "", fetch.ErrTooLarge},
		{"short", func(r *http.Request) *http.Response {
			a := answer(r, 200, "123")
			a.ContentLength = 10
			return a
		}, fetch.Request{Max: 50}, "", fetch.ErrShort},
		{"more than was announced", func(r *http.Request) *http.Response {
			a := answer(r, 200, "12345")
			a.ContentLength = 3
			return a
		}, fetch.Request{Max: 50}, "", fetch.ErrTooLarge},
		{"compressed", func(r *http.Request) *http.Response { return answer(r, 200, zipped.String()) }, fetch.Request{Max: 5000}, "5000", nil},
		{"a bomb", func(r *http.Request) *http.Response { return answer(r, 200, zipped.String()) }, fetch.Request{Max: 4999}, "", fetch.ErrTooLarge},
		{"range", func(r *http.Request) *http.Response {
			return answer(r, 206, "cde", "Content-Range", "bytes 2-4/9")
		}, fetch.Request{Max: 5, Range: hls.ByteRange{Length: 3, Offset: 2}}, "3", nil},
		{"range of a growing whole", func(r *http.Request) *http.Response {
			return answer(r, 206, "cde", "Content-Range", "bytes 2-4/*")
		}, fetch.Request{Max: 5, Range: hls.ByteRange{Length: 3, Offset: 2}}, "3", nil},
		{"range, all of it", func(r *http.Request) *http.Response { return answer(r, 200, "abcdefgh") }, fetch.Request{Max: 5, Range: hls.ByteRange{Length: 3, Offset: 2}}, "3", nil},
		{"range, all of it and too short", func(r *http.Request) *http.Response { return answer(r, 200, "abcd") }, fetch.Request{Max: 5, Range: hls.ByteRange{Length: 3, Offset: 2}}, "", fetch.ErrShort},
		{"another range", func(r *http.Request) *http.Response {
			return answer(r, 206, "def", "Content-Range", "bytes 3-5/9")
		}, fetch.Request{Max: 5, Range: hls.ByteRange{Length: 3, Offset: 2}}, "", fetch.ErrRange},
		{"a shorter range", func(r *http.Request) *http.Response {
			return answer(r, 206, "cd", "Content-Range", "bytes 2-3/9")
		}, fetch.Request{Max: 5, Range: hls.ByteRange{Length: 3, Offset: 2}}, "", fetch.ErrShort},
		{"no room", func(r *http.Request) *http.Response { return answer(r, 200, strings.Repeat("x", 2000)) },
			fetch.Request{Max: 5000, Memory: full{}}, "", os.ErrExist},
	} {
		c.r.URL = "http://a.example/x"
		a, err := client(t, "http://a.example/", func(r *http.Request) (*http.Response, error) { return c.answer(r), nil }).Get(t.Context(), c.r)
		if c.is != nil {
			if !errors.Is(err, c.is) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || fmt.Sprint(len(a.Body)) != c.want || c.r.Range.Length > 0 && string(a.Body) != "cde" {
			t.Errorf("%s: %d bytes, %v", c.name, len(a.Body), err)
		}
	}
}

// full is memory that has no room.
type full struct{}

func (full) Get(int) ([]byte, error) { return nil, os.ErrExist }
func (full) Put([]byte)              {}

func TestConditional(t *testing.T) {
	cl := client(t, "http://a.example/", func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") == `"v1"` && r.Header.Get("If-Modified-Since") == "then" {
			return answer(r, 304, ""), nil
		}
		return answer(r, 200, "x", "ETag", `"v1"`, "Last-Modified", "then"), nil
	})
	a, err := cl.Get(t.Context(), fetch.Request{URL: "http://a.example/", Max: 10})
	if err != nil || a.Tag != `"v1"` || a.Since != "then" {
		t.Fatalf("%+v, %v", a, err)
	}
	a, err = cl.Get(t.Context(), fetch.Request{URL: "http://a.example/", Max: 10, Tag: a.Tag, Since: a.Since})
	if err != nil || a.Status != 304 || a.Body != nil {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestRetryAfter(t *testing.T) {
	for after, want := range map[string]time.Duration{"3": 3 * time.Second, "900": 10 * time.Second, "-1": 0, "soon": 0, "99999999999": 10 * time.Second,
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): 0, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): 10 * time.Second} {
		_, err := client(t, "http://a.example/", func(r *http.Request) (*http.Response, error) {
			return answer(r, 429, "", "Retry-After", after), nil
		}).Get(t.Context(), fetch.Request{URL: "http://a.example/", Max: 10})
		if s, ok := errors.AsType[*fetch.StatusError](err); !ok || s.Code != 429 || s.Wait != want {
			t.Errorf("%q: %v", after, err)
		}
	}
}

// trickle gives one byte each time.
type trickle struct {
	ctx   context.Context
	every time.Duration
	step  int
}

func (s trickle) Read(p []byte) (int, error) {
	select {
	case <-time.After(s.every):
		return min(s.step, len(p)), nil
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}

func (trickle) Close() error { return nil }

func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name  string
		trip  trip
		r     fetch.Request
		is    error
		after time.Duration
	}{
		{"no answer", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, fetch.Request{}, fetch.ErrSilent, 5 * time.Second},
		{"stalls", func(r *http.Request) (*http.Response, error) {
			a := answer(r, 200, "")
			a.ContentLength, a.Body = 1000, trickle{r.Context(), time.Hour, 1}
			return a, nil
		}, fetch.Request{}, fetch.ErrSilent, 4 * time.Second},
		{"trickles", func(r *http.Request) (*http.Response, error) {
			a := answer(r, 200, "")
			a.ContentLength, a.Body = 1000, trickle{r.Context(), 3 * time.Second, 1}
			return a, nil
		}, fetch.Request{Total: 10 * time.Second, Sharers: 6}, fetch.ErrSlow, 10 * time.Second},
		{"has its share, then stops having it", func(r *http.Request) (*http.Response, error) {
			a := answer(r, 200, "")
			a.ContentLength, a.Body = 1000, trickle{r.Context(), time.Second, 30}
			return a, nil
		}, fetch.Request{Total: 10 * time.Second, Sharers: 3}, fetch.ErrSlow, 10 * time.Second},
		{"has its share", func(r *http.Request) (*http.Response, error) {
			a := answer(r, 200, "")
			a.ContentLength, a.Body = 1000, trickle{r.Context(), time.Second, 40}
			return a, nil
		}, fetch.Request{Total: 10 * time.Second, Sharers: 3}, fetch.ErrTooLarge, 25 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				c.r.URL, c.r.Max = "http://a.example/", 1<<20
				_, err := client(t, "http://a.example/", c.trip).Get(t.Context(), c.r)
				if took := time.Since(begun); !errors.Is(err, c.is) || took.Round(time.Second) < c.after || took > c.after+2*time.Second {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
}

func TestHosts(t *testing.T) {
	var h fetch.Hosts
	now := time.Now()
	h.Failed("a", now)
	for i := range 5000 {
		h.Failed(fmt.Sprint("h", i), now)
	}
	if h.Failed("b", now); !h.Bad("b", now.Add(9*time.Minute)) || h.Bad("b", now.Add(11*time.Minute)) || h.Bad("c", now) {
		t.Error("what was remembered is wrong")
	}
	var none *fetch.Hosts
	if none.Failed("a", now); none.Bad("a", now) {
		t.Error("nobody remembers")
	}
}
