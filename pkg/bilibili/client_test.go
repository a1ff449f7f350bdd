package bilibili_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/failure"
)

// login writes the cookie file of a new user and opens it.
func login(t *testing.T, s *bilitest.Server) (*bilitest.User, *bilibili.Account) {
	t.Helper()
	u := s.AddUser("alice")
	path := filepath.Join(t.TempDir(), "cookies.json")
	save(t, path, s.CookieFile(u))
	a, err := bilibili.OpenAccount(path)
	if err != nil {
		t.Fatal(err)
	}
	return u, a
}

func save(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func client(s *bilitest.Server, a *bilibili.Account) *bilibili.Client {
	return bilibili.NewClient(bilibili.Config{Account: a, Transport: s.Virtual()})
}

const nav = "https://api.bilibili.com/x/web-interface/nav"

func TestCheckOverSockets(t *testing.T) {
	s, err := bilitest.In(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	u, a := login(t, s)
	tr := s.Transport()
	defer tr.CloseIdleConnections()
	c := bilibili.NewClient(bilibili.Config{Account: a, Transport: tr})
	who, err := c.Check(t.Context())
	if err != nil || who.MID != u.MID || who.Name != "alice" || time.Until(who.Expires) < 179*24*time.Hour {
		t.Errorf("%+v, %v", who, err)
	}
	s.Expire(u)
	_, err = c.Check(t.Context())
	if failure.KindOf(err) != failure.NeedsHuman || bilibili.CodeOf(err) != -101 || !strings.Contains(failure.Hint(err), "liverec login bilibili --cookies "+a.Path()) {
		t.Errorf("an expired login: %v, hint %q", err, failure.Hint(err))
	}
}

// Chapter 5.4 of the upload reference and chapter 7 of the live one, as errors.
func TestRefusals(t *testing.T) {
	voucher := map[string]string{"v_voucher": "voucher_0"}
	for _, c := range []struct {
		name  string
		fault bilitest.Fault
		shape bilibili.Shape
		kind  failure.Kind
		code  int64
		word  string
		wait  time.Duration
		hint  string
	}{
		{name: "not logged in", fault: bilitest.Fault{Code: -101, Message: "账号未登录"}, kind: failure.NeedsHuman, code: -101, word: "-101", hint: "liverec login bilibili"},
		{name: "csrf", fault: bilitest.Fault{Code: -111}, kind: failure.NeedsHuman, code: -111, hint: "liverec login bilibili"},
		{name: "sign", fault: bilitest.Fault{Code: -3}, kind: failure.NeedsHuman, code: -3, hint: "clock"},
		{name: "bad request", fault: bilitest.Fault{Code: -400}, kind: failure.Permanent, code: -400},
		{name: "gone", fault: bilitest.Fault{Code: -404}, kind: failure.Permanent, code: -404},
		{name: "blocked, as a page", fault: bilitest.Fault{Status: 412, Body: "<html>出错啦"}, kind: failure.Throttled, code: -412, word: "HTTP 412", wait: 2 * time.Minute, hint: "address"},
		{name: "blocked, as JSON", fault: bilitest.Fault{Code: -412, Status: 412}, kind: failure.Throttled, code: -412, wait: 2 * time.Minute, hint: "address"},
		{name: "risk control", fault: bilitest.Fault{Code: -352, Data: voucher}, kind: failure.Throttled, code: -352, wait: 5 * time.Minute},
		{name: "a voucher and nothing else", fault: bilitest.Fault{Data: voucher}, kind: failure.Throttled, code: -352, wait: 5 * time.Minute},
		{name: "too often", fault: bilitest.Fault{Code: -799}, kind: failure.Throttled, code: -799, wait: time.Minute},
		{name: "429", fault: bilitest.Fault{Status: 429, Body: "slow down", Header: http.Header{"Retry-After": {"90"}}}, kind: failure.Throttled, code: -429, wait: 90 * time.Second},
		{name: "overload", fault: bilitest.Fault{Code: -509}, kind: failure.Transient, code: -509},
		{name: "502", fault: bilitest.Fault{Status: 502, Body: "<html>bad gateway"}, kind: failure.Transient, code: -502, word: "HTTP 502"},
		{name: "a page instead of JSON", fault: bilitest.Fault{Status: 200, Body: "<!DOCTYPE html>出错啦"}, kind: failure.Transient, code: -200},
		{name: "a page of a gateway is no word on the login", fault: bilitest.Fault{Status: 403, Body: "<html>"}, kind: failure.Transient, code: -1403},
		{name: "nothing", fault: bilitest.Fault{Status: 200}, kind: failure.Transient, code: -200},
		{name: "no envelope", fault: bilitest.Fault{Body: `{"hello":"world"}`}, kind: failure.Transient, code: -200},
		{name: "an unknown code", fault: bilitest.Fault{Code: 4711, Message: "什么"}, kind: failure.Transient, code: 4711, word: "什么"},
		{name: "an unknown code with a captcha", fault: bilitest.Fault{Code: 4711, Data: voucher}, kind: failure.Throttled, code: 4711, wait: 15 * time.Minute, hint: "by hand"},
		{name: "601", fault: bilitest.Fault{Code: 601, Message: "请输入验证码信息", Data: voucher}, kind: failure.Throttled, code: 601, wait: 15 * time.Minute, hint: "by hand"},
		{name: "21070", fault: bilitest.Fault{Code: 21070}, kind: failure.Throttled, code: 21070, wait: 30 * time.Second},
		{name: "21566", fault: bilitest.Fault{Code: 21566}, kind: failure.Throttled, code: 21566, wait: time.Hour, hint: "phone app"},
		{name: "137022", fault: bilitest.Fault{Code: 137022}, kind: failure.Throttled, code: 137022, wait: 2 * time.Hour, hint: "by hand"},
		{name: "21564", fault: bilitest.Fault{Code: 21564}, kind: failure.Throttled, code: 21564, wait: 24 * time.Hour, hint: "by hand"},
		{name: "a code as a string", fault: bilitest.Fault{Body: `{"code":"21070","message":"投稿过快"}`}, kind: failure.Throttled, code: 21070, word: "投稿过快", wait: 30 * time.Second},
		{name: "21015", fault: bilitest.Fault{Code: 21015}, kind: failure.Permanent, code: 21015},
		{name: "21103", fault: bilitest.Fault{Code: 21103}, kind: failure.NeedsHuman, code: 21103, hint: "80"},
		{name: "21590", fault: bilitest.Fault{Code: 21590}, kind: failure.NeedsHuman, code: 21590, hint: "newer liverec"},

		{name: "preupload without login", shape: bilibili.Upload, fault: bilitest.Fault{Status: 403}, kind: failure.NeedsHuman, code: -101, hint: "liverec login bilibili"},
		{name: "preupload, 406 of old", shape: bilibili.Upload, fault: bilitest.Fault{Status: 406, Body: `{"code":406,"message":"您上传视频过快，请您稍作休息后再继续"}`}, kind: failure.Throttled, code: 406, word: "过快", wait: 15 * time.Minute, hint: "by hand"},
		{name: "preupload, 406 of now", shape: bilibili.Upload, fault: bilitest.Fault{Status: 406, Body: `{"OK":0,"info":"您上传视频过快","code":601,"message":"您上传视频过快","detail":{"v_voucher":"voucher_0"}}`}, kind: failure.Throttled, code: 601, wait: 15 * time.Minute, hint: "by hand"},
		{name: "preupload, 406 as a page", shape: bilibili.Upload, fault: bilitest.Fault{Status: 406, Body: "<html>"}, kind: failure.Throttled, code: 406, wait: 15 * time.Minute, hint: "by hand"},
		{name: "preupload, not OK", shape: bilibili.Upload, fault: bilitest.Fault{Body: `{"OK":0,"info":"no"}`}, kind: failure.Transient, code: -200, word: "no"},
		{name: "preupload, OK but not 2xx", shape: bilibili.Upload, fault: bilitest.Fault{Status: 500, Body: `{"OK":1}`}, kind: failure.Transient, code: -500},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := bilitest.Unplugged()
			_, a := login(t, s)
			s.Fault("*", c.fault)
			err := client(s, a).Do(t.Context(), bilibili.Call{Op: "ask", URL: nav, As: bilibili.User, Shape: c.shape}, nil)
			e, ok := errors.AsType[*failure.Error](err)
			if !ok || e.Kind != c.kind || bilibili.CodeOf(err) != c.code || e.RetryAfter != c.wait {
				t.Fatalf("%v (%T), kind %v, code %d, wait %v", err, err, failure.KindOf(err), bilibili.CodeOf(err), failure.RetryAfter(err))
			}
			if !strings.Contains(err.Error(), c.word) || !strings.HasPrefix(err.Error(), "ask: ") {
				t.Errorf("%q does not say %q", err, c.word)
			}
			if (c.hint == "") != (e.Hint == "") && c.code != -352 || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("hint %q, want %q", e.Hint, c.hint)
			}
			if n := len(s.Requests("*")); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func TestAnswersAreDecoded(t *testing.T) {
	for _, c := range []struct {
		body  string
		shape bilibili.Shape
		want  int64
		bad   bool
	}{
		{body: `{"code":0,"message":"0","data":{"n":112861976201494}}`, want: 112861976201494},
		{body: `{"code":"0","data":{"n":7}}`, want: 7},
		{body: `{"code":0,"data":null}`, want: -1},
		{body: `{"code":0}`, want: -1},
		{body: `{"code":0,"data":[]}`, bad: true},
		{body: `{"OK":1,"n":500001630152509}`, shape: bilibili.Upload, want: 500001630152509},
	} {
		s := bilitest.Unplugged()
		s.Fault("*", bilitest.Fault{Body: c.body})
		out := struct{ N int64 }{-1}
		err := client(s, nil).Do(t.Context(), bilibili.Call{Op: "ask", URL: nav, Shape: c.shape}, &out)
		if (err != nil) != c.bad || !c.bad && out.N != c.want {
			t.Errorf("%s: %d, %v", c.body, out.N, err)
		}
	}
}

// What goes out: who, cookies, csrf words, signatures, headers.
func TestRequests(t *testing.T) {
	s := bilitest.Unplugged()
	u, a := login(t, s)
	cookie, csrf := a.Credentials().Cookie().Reveal(), a.Credentials().CSRF().Reveal()
	var got *http.Request
	var body string
	s.Handle("member.bilibili.com/", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got, body = r, string(b)
		bilitest.Reply(w, 0, "", nil)
	})
	s.Handle("api.live.bilibili.com/", func(w http.ResponseWriter, r *http.Request) {
		got, body = r, ""
		bilitest.Reply(w, 0, "", nil)
	})
	const member, live = "https://member.bilibili.com/x/vu/web/add/v3", "https://api.live.bilibili.com/room/v1/Room/get_info"
	anonymous, known := client(s, nil), client(s, a)
	for _, c := range []struct {
		name   string
		client *bilibili.Client
		call   bilibili.Call
		check  func(t *testing.T)
	}{
		{"nobody", known, bilibili.Call{URL: member, Query: url.Values{"r": {"probe"}}}, func(t *testing.T) {
			if got.Header.Get("Cookie") != "" || got.Method != "GET" || got.URL.RawQuery != "r=probe" || got.Header.Get("Referer") != "https://member.bilibili.com/" {
				t.Errorf("%s %s %v", got.Method, got.URL, got.Header)
			}
			if !strings.HasPrefix(got.UserAgent(), "Mozilla/5.0 (Windows") {
				t.Errorf("user agent %q", got.UserAgent())
			}
		}},
		{"a visitor without a login", anonymous, bilibili.Call{URL: live, As: bilibili.Visitor}, func(t *testing.T) {
			if c := got.Header.Get("Cookie"); !strings.HasPrefix(c, "buvid3=") || !strings.HasSuffix(c, "infoc") || got.Header.Get("Origin") != "https://live.bilibili.com" {
				t.Errorf("cookie %q, %v", c, got.Header)
			}
		}},
		{"a visitor with a login", known, bilibili.Call{URL: live, As: bilibili.Visitor}, func(t *testing.T) {
			if c := got.Header.Get("Cookie"); !strings.HasPrefix(c, cookie+"; buvid3=") {
				t.Errorf("cookie %q", c)
			}
		}},
		{"a write", known, bilibili.Call{URL: member, As: bilibili.User, CSRF: bilibili.InQuery | bilibili.InJSON, JSON: map[string]int{"n": 1}}, func(t *testing.T) {
			if got.Header.Get("Cookie") != cookie || got.Method != "POST" || got.URL.Query().Get("csrf") != csrf || body != `{"csrf":"`+csrf+`","n":1}` ||
				got.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s %v %s", got.Method, got.URL, got.Header, body)
			}
		}},
		{"a write of nothing", known, bilibili.Call{URL: member, As: bilibili.User, CSRF: bilibili.InJSON, JSON: struct{}{}}, func(t *testing.T) {
			if body != `{"csrf":"`+csrf+`"}` {
				t.Errorf("%s", body)
			}
		}},
		{"a form", known, bilibili.Call{URL: member, As: bilibili.User, CSRF: bilibili.InForm, Form: url.Values{"cover": {"data:x"}}}, func(t *testing.T) {
			if f, err := url.ParseQuery(body); err != nil || f.Get("csrf") != csrf || f.Get("cover") != "data:x" || got.URL.RawQuery != "" {
				t.Errorf("%s %s", got.URL, body)
			}
		}},
		{"the app", known, bilibili.Call{URL: member, As: bilibili.App, Query: url.Values{"build": {"7800300"}}, JSON: map[string]int{"n": 1}}, func(t *testing.T) {
			if who, code := s.ByToken(got); who != u || code != 0 || got.Header.Get("Cookie") != "" || !strings.Contains(got.UserAgent(), "BiliDroid") || body != `{"n":1}` {
				t.Errorf("%v %d %v %s", who, code, got.Header, body)
			}
		}},
		{"another app key", known, bilibili.Call{URL: member, As: bilibili.App, Key: bilibili.BCut}, func(t *testing.T) {
			if who, code := s.ByToken(got); who != u || code != 0 || got.URL.Query().Get("appkey") != "5dce947fe22167f9" {
				t.Errorf("%v %d %s", who, code, got.URL)
			}
		}},
		{"web keys", anonymous, bilibili.Call{URL: live, As: bilibili.Visitor, WBI: true, Query: url.Values{"room_id": {"6"}, "t": {"a b(c)*"}}}, func(t *testing.T) {
			if !s.Signed(got.URL.Query()) {
				t.Errorf("%s is not signed", got.URL)
			}
		}},
		{"own headers", known, bilibili.Call{URL: live, Header: http.Header{"referer": {"https://live.bilibili.com/6"}}}, func(t *testing.T) {
			if got.Header.Get("Referer") != "https://live.bilibili.com/6" {
				t.Errorf("%v", got.Header)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.call.Op = "ask"
			if err := c.client.Do(t.Context(), c.call, nil); err != nil {
				t.Fatal(err)
			}
			c.check(t)
		})
	}
	for _, as := range []bilibili.Identity{bilibili.User, bilibili.App} {
		got = nil
		err := anonymous.Do(t.Context(), bilibili.Call{Op: "ask", URL: member, As: as}, nil)
		if failure.KindOf(err) != failure.NeedsHuman || got != nil {
			t.Errorf("without a login: %v, asked: %v", err, got != nil)
		}
	}
}

// Web keys are asked for once, and again when a refusal says that they have changed.
func TestWebKeysAreKeptAndRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bilitest.Unplugged()
		s.Handle("GET api.live.bilibili.com/signed", func(w http.ResponseWriter, r *http.Request) {
			if !s.Signed(r.URL.Query()) {
				bilitest.Reply(w, -352, "风控校验失败", nil)
				return
			}
			bilitest.Reply(w, 0, "", nil)
		})
		c := client(s, nil)
		ask := func(want int64, navs int) {
			t.Helper()
			err := c.Do(t.Context(), bilibili.Call{Op: "ask", URL: "https://api.live.bilibili.com/signed", As: bilibili.Visitor, WBI: true}, nil)
			if bilibili.CodeOf(err) != want {
				t.Errorf("%v, want code %d", err, want)
			}
			if n := len(s.Requests("GET api.bilibili.com/x/web-interface/nav")); n != navs {
				t.Errorf("the keys were asked for %d times, want %d", n, navs)
			}
		}
		ask(0, 1)
		ask(0, 1)
		s.RotateKeys()
		ask(-352, 1) // a minute has not passed since they were asked for
		time.Sleep(2 * time.Minute)
		ask(0, 2)
		time.Sleep(3 * time.Hour)
		ask(0, 3)
		// A refusal that has nothing to do with the keys is one.
		time.Sleep(2 * time.Minute)
		s.Fault("* api.live.bilibili.com/*", bilitest.Fault{Code: -352, Times: 5})
		ask(-352, 4)
		ask(-352, 4)
		// Without an answer the old keys go on.
		s.NoFaults()
		time.Sleep(3 * time.Hour)
		s.Fault("* api.bilibili.com/*", bilitest.Fault{Cut: true})
		ask(0, 5)
	})
}

// Another process has renewed the login: the refusal of the old one is answered by one repetition.
func TestRenewedElsewhere(t *testing.T) {
	s := bilitest.Unplugged()
	u, a := login(t, s)
	c := client(s, a)
	if _, err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Login(u) // the file still holds the old one …
	s.Handle("GET member.bilibili.com/first", func(w http.ResponseWriter, r *http.Request) {
		_, code := s.ByCookie(r)
		if code != 0 { // … and gets the new one while the question is on its way
			save(t, a.Path(), s.CookieFile(u))
		}
		bilitest.Reply(w, code, "", nil)
	})
	if err := c.Do(t.Context(), bilibili.Call{Op: "ask", URL: "https://member.bilibili.com/first", As: bilibili.User}, nil); err != nil {
		t.Error(err)
	}
	if n := len(s.Requests("* member.bilibili.com/*")); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	s.Expire(u)
	if err := c.Do(t.Context(), bilibili.Call{Op: "ask", URL: "https://member.bilibili.com/first", As: bilibili.User}, nil); bilibili.CodeOf(err) != -101 {
		t.Errorf("%v", err)
	}
}

func TestTransportTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bilitest.Unplugged()
		_, a := login(t, s)
		c := client(s, a)
		call := bilibili.Call{Op: "ask", URL: nav, As: bilibili.User, CSRF: bilibili.InQuery, Timeout: 7 * time.Second}

		s.Fault("*", bilitest.Fault{Hang: true})
		begun := time.Now()
		err := c.Do(t.Context(), call, nil)
		if failure.KindOf(err) != failure.Transient || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 7*time.Second {
			t.Errorf("a hanging server: %v after %v", err, time.Since(begun))
		}
		for _, f := range []bilitest.Fault{{Cut: true}, {Lose: true}} {
			s.Fault("*", f)
			if err := c.Do(t.Context(), call, nil); err == nil || failure.KindOf(err) != failure.Transient || strings.Contains(err.Error(), "csrf") || strings.Contains(err.Error(), "https") {
				t.Errorf("%+v: %v", f, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.Fault("*", bilitest.Fault{Hang: true})
		if err := c.Do(ctx, call, nil); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "within") {
			t.Errorf("the caller gave up: %v", err)
		}
		call.Limit = 100
		s.Fault("*", bilitest.Fault{Body: `{"code":0,"data":"` + strings.Repeat("x", 100) + `"}`})
		if err := c.Do(t.Context(), call, nil); err == nil || !strings.Contains(err.Error(), "more than 100 bytes") {
			t.Errorf("a long answer: %v", err)
		}
		if err := c.Do(t.Context(), bilibili.Call{Op: "ask", URL: "https://elsewhere.example/"}, nil); err == nil {
			t.Error("a host outside of the world answers")
		}
	})
}

// A redirect is an answer, not a way: what stands in the query goes nowhere else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	s := bilitest.Unplugged()
	s.Handle("GET b23.tv/abc1234", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://live.bilibili.com/6?from=x", http.StatusFound)
	})
	c := client(s, nil)
	a, err := c.Fetch(t.Context(), bilibili.Call{Op: "follow", URL: "https://b23.tv/abc1234"})
	if err != nil || a.Status != 302 || a.Header.Get("Location") != "https://live.bilibili.com/6?from=x" {
		t.Errorf("%+v, %v", a, err)
	}
	if err := c.Do(t.Context(), bilibili.Call{Op: "follow", URL: "https://b23.tv/abc1234"}, nil); bilibili.CodeOf(err) != -302 {
		t.Errorf("%v", err)
	}
}

// Nothing that is logged or said holds a secret, even if the service repeats one.
func TestNoSecretLeaks(t *testing.T) {
	s := bilitest.Unplugged()
	u, a := login(t, s)
	var log strings.Builder
	c := bilibili.NewClient(bilibili.Config{Account: a, Log: zerolog.New(&log).Level(zerolog.TraceLevel), Transport: s.Virtual()})
	said := ""
	for _, secret := range s.Secrets(u) {
		for _, f := range []bilitest.Fault{{Code: 4711, Message: "you said " + secret}, {Code: 601, Message: secret}, {Cut: true}, {Status: 500, Body: secret}} {
			for _, as := range []bilibili.Identity{bilibili.User, bilibili.App, bilibili.Visitor} {
				s.Fault("*", f)
				err := c.Do(t.Context(), bilibili.Call{Op: "ask", URL: nav, As: as, CSRF: bilibili.InQuery}, nil)
				if err == nil {
					t.Fatal("no error")
				}
				said += err.Error() + failure.Hint(err) + "\n"
			}
		}
	}
	for _, secret := range s.Secrets(u) {
		if strings.Contains(said, secret) || strings.Contains(log.String(), secret) {
			t.Errorf("%s leaks", secret)
		}
	}
	if !strings.Contains(log.String(), "refused") || !strings.Contains(said, "you said ***") {
		t.Errorf("nothing was said: %s\n%s", log.String(), strconv.Quote(said))
	}
}
