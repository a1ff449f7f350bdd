package bilitest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/bilibili/bilitest"
)

func start(t *testing.T) *bilitest.Server {
	t.Helper()
	s, err := bilitest.In(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, rt http.RoundTripper, url, cookie string) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Both ways to the stand-in, sockets and none, are the same stand-in.
func TestWaysIn(t *testing.T) {
	s := start(t)
	tr := s.Transport()
	tr.DisableKeepAlives = true // else net/http repeats a GET by itself whose connection was an old one
	defer tr.CloseIdleConnections()
	for name, rt := range map[string]http.RoundTripper{"sockets": tr, "virtual": s.Virtual()} {
		t.Run(name, func(t *testing.T) {
			const nav = "https://api.bilibili.com/x/web-interface/nav"
			fits := "GET api.bilibili.com/x/web-interface/nav"
			if status, body, err := get(t, rt, nav, ""); err != nil || status != 200 || !strings.Contains(body, `"code":-101`) {
				t.Errorf("nobody: %d %s %v", status, body, err)
			}
			s.Fault(fits, bilitest.Fault{Skip: 1, Times: 2, Code: -352, Message: "no"})
			for i, want := range []string{"-101", "-352", "-352", "-101"} {
				if _, body, err := get(t, rt, nav, ""); err != nil || !strings.Contains(body, `"code":`+want) {
					t.Errorf("request %d: %s %v, want %s", i, body, err, want)
				}
			}
			s.Fault(fits, bilitest.Fault{Status: 412, Body: "<html>"})
			if status, body, err := get(t, rt, nav, ""); err != nil || status != 412 || body != "<html>" {
				t.Errorf("412: %d %q %v", status, body, err)
			}
			before := len(s.Requests(fits))
			for _, f := range []bilitest.Fault{{Cut: true}, {Lose: true}} {
				s.Fault(fits, f)
				if _, _, err := get(t, rt, nav, ""); err == nil {
					t.Errorf("%+v: an answer came", f)
				}
			}
			if n := len(s.Requests(fits)) - before; n != 2 {
				t.Errorf("%d requests were logged, want 2", n)
			}
			if _, body, err := get(t, rt, "https://www.example.com/", ""); err == nil {
				t.Errorf("a strange host answers %s", body)
			}
		})
	}
	if got := s.Strays(); len(got) != 1 || got[0] != "www.example.com" {
		t.Errorf("strays %v", got)
	}
}

func TestHang(t *testing.T) {
	s := bilitest.Unplugged()
	s.Fault("*", bilitest.Fault{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.bilibili.com/x/space/myinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() {
		_, err := s.Virtual().RoundTrip(req)
		over <- err
	}()
	for len(s.Requests("*")) == 0 {
		select {
		case err := <-over:
			t.Fatal("it ended by itself:", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
