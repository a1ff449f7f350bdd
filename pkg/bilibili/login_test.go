package bilibili_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/failure"
)

const (
	codeFits = "POST passport.bilibili.com/x/passport-tv-login/qrcode/auth_code"
	pollFits = "POST passport.bilibili.com/x/passport-tv-login/qrcode/poll"
)

func TestLogin(t *testing.T) {
	for _, c := range []struct {
		name  string
		plan  func(s *bilitest.Server)
		scan  time.Duration // when the phone comes
		codes int           // that are shown
		steps int           // "scanned" words
	}{
		{name: "at once", scan: 5 * time.Second, codes: 1, steps: 1},
		{name: "after two codes", scan: 400 * time.Second, codes: 3, steps: 1},
		{name: "in bad weather", scan: 20 * time.Second, codes: 1, steps: 1, plan: func(s *bilitest.Server) {
			s.Fault(pollFits, bilitest.Fault{Times: 3, Cut: true})
			s.Fault(pollFits, bilitest.Fault{Times: 3, Status: 502, Body: "<html>"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bilitest.Unplugged()
				u := s.AddUser("alice")
				if c.plan != nil {
					c.plan(s)
				}
				path := filepath.Join(t.TempDir(), "cookies.json")
				var wg sync.WaitGroup
				wg.Go(func() {
					time.Sleep(c.scan)
					if !s.Scan(u, 2) {
						t.Error("there is no code")
					}
				})
				codes, scanned := map[string]bool{}, 0
				a, err := bilibili.Login(t.Context(), bilibili.Config{Transport: s.Virtual()}, path, func(st bilibili.LoginStep) {
					if st.Scanned {
						scanned++
						return
					}
					codes[st.URL] = true
					if time.Until(st.Expires) != 180*time.Second || !strings.HasPrefix(st.URL, "https://passport.bilibili.com/") {
						t.Errorf("%+v", st)
					}
				})
				wg.Wait()
				if err != nil || len(codes) != c.codes || scanned != c.steps {
					t.Fatalf("%v, %d codes, scanned %d times", err, len(codes), scanned)
				}
				who, err := client(s, a).Check(t.Context())
				if err != nil || who.Name != "alice" || time.Until(who.Expires) < 179*24*time.Hour {
					t.Errorf("%+v, %v", who, err)
				}
				fi, err := os.Stat(path)
				if err != nil || fi.Mode().Perm() != 0o600 {
					t.Errorf("%v, %v", fi.Mode(), err)
				}
				if got := string(read(t, path)); !strings.Contains(got, `"platform": "BiliTV"`) || !strings.Contains(got, `"cookie_info"`) || !strings.Contains(got, `"token_info"`) {
					t.Error("the file is not in biliup's form")
				}
				if !a.Credentials().Renewable() {
					t.Error("the login cannot be renewed")
				}
			})
		})
	}
}

func TestLoginIsRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault string
		f     bilitest.Fault
		kind  failure.Kind
		says  string
	}{
		{"no code", codeFits, bilitest.Fault{Times: -1, Cut: true}, failure.Transient, "QR code"},
		{"a bad sign", codeFits, bilitest.Fault{Code: -3}, failure.NeedsHuman, "-3"},
		{"an empty code", codeFits, bilitest.Fault{Body: `{"code":0,"data":{}}`}, failure.Transient, "none"},
		{"a blocked address", codeFits, bilitest.Fault{Status: 412}, failure.Throttled, "412"},
		{"the poll is refused", pollFits, bilitest.Fault{Code: -400}, failure.Permanent, "-400"},
		{"risk control instead of cookies", pollFits, bilitest.Fault{Body: `{"code":0,"data":{"url":"https://passport.bilibili.com/verify"}}`}, failure.NeedsHuman, "no cookies"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bilitest.Unplugged()
				s.Fault(c.fault, c.f)
				path := filepath.Join(t.TempDir(), "cookies.json")
				_, err := bilibili.Login(t.Context(), bilibili.Config{Transport: s.Virtual()}, path, func(bilibili.LoginStep) {})
				if err == nil || failure.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v", err)
				}
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Error("a file was written")
				}
			})
		})
	}
}

func TestLoginEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bilitest.Unplugged()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		path := filepath.Join(t.TempDir(), "cookies.json")
		if _, err := bilibili.Login(ctx, bilibili.Config{Transport: s.Virtual()}, path, func(bilibili.LoginStep) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stopped: %v", err)
		}
		begun := time.Now()
		if _, err := bilibili.Login(t.Context(), bilibili.Config{Transport: s.Virtual()}, path, func(bilibili.LoginStep) {}); err == nil || time.Since(begun) > 2*time.Hour {
			t.Errorf("nobody comes: %v after %v", err, time.Since(begun))
		}
	})
}

// Where the login is written: over an older one, keeping what the user has added, and over nothing else.
func TestLoginTarget(t *testing.T) {
	for _, c := range []struct {
		name  string
		file  func(s *bilitest.Server, u *bilitest.User) string
		bad   string
		keeps bool
	}{
		{name: "the same user", keeps: true, file: func(s *bilitest.Server, u *bilitest.User) string {
			return strings.Replace(string(s.CookieFile(u)), `"platform"`, `"mine": "note of the user", "platform"`, 1)
		}},
		{name: "another user", file: func(s *bilitest.Server, _ *bilitest.User) string {
			return strings.Replace(string(s.CookieFile(s.AddUser("bob"))), `"platform"`, `"mine": "note of the user", "platform"`, 1)
		}},
		{name: "a Cookie header", file: func(*bilitest.Server, *bilitest.User) string { return "SESSDATA=x; bili_jct=y" }},
		{name: "an empty file", file: func(*bilitest.Server, *bilitest.User) string { return "" }},
		{name: "something else", bad: "no SESSDATA", file: func(*bilitest.Server, *bilitest.User) string { return "export PATH=/bin" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := bilitest.Unplugged()
				u := s.AddUser("alice")
				path := filepath.Join(t.TempDir(), "cookies.json")
				content := c.file(s, u)
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
				a, err := bilibili.Login(t.Context(), bilibili.Config{Transport: s.Virtual()}, path, func(bilibili.LoginStep) { s.Scan(u, 0) })
				if c.bad != "" {
					if err == nil || !strings.Contains(err.Error(), c.bad) || string(read(t, path)) != content || len(s.Requests("*")) > 0 {
						t.Errorf("%v, asked %d times", err, len(s.Requests("*")))
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				fi, err := os.Stat(path)
				if err != nil || fi.Mode().Perm() != 0o600 || a.Credentials().MID() != u.MID {
					t.Errorf("mode %v, user %d, %v", fi.Mode(), a.Credentials().MID(), err)
				}
				if kept := strings.Contains(string(read(t, path)), "note of the user"); kept != c.keeps {
					t.Errorf("the note of the user was kept: %v, want %v", kept, c.keeps)
				}
			})
		})
	}
}
