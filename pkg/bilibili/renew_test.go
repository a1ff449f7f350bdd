package bilibili_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/failure"
)

const (
	infoFits    = "GET passport.bilibili.com/x/passport-login/oauth2/info"
	refreshFits = "POST passport.bilibili.com/x/passport-login/oauth2/refresh_token"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRenewal(t *testing.T) {
	for _, c := range []struct {
		name    string
		file    func(b []byte) []byte
		renewed bool
		asked   int // times that the service was asked whether it is due
	}{
		{"biliup's file", func(b []byte) []byte { return b }, true, 1},
		{"wrapped", func(b []byte) []byte { return []byte(`{"code":0,"mine":[1],"data":` + string(b) + `}`) }, true, 1},
		{"no platform", func(b []byte) []byte { return []byte(strings.Replace(string(b), `"platform": "BiliTV"`, `"p": 1`, 1)) }, true, 1},
		{"the wrong platform", func(b []byte) []byte { return []byte(strings.Replace(string(b), `BiliTV`, `Android`, 1)) }, false, 1},
		{"cookies of a browser", func(b []byte) []byte {
			c, err := bilibili.Parse(b)
			if err != nil {
				panic(err)
			}
			return []byte("Cookie: " + c.Cookie().Reveal())
		}, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := bilitest.Unplugged()
			u := s.AddUser("alice")
			path := filepath.Join(t.TempDir(), "cookies.json")
			save(t, path, c.file(s.CookieFile(u)))
			a, err := bilibili.OpenAccount(path)
			if err != nil {
				t.Fatal(err)
			}
			cl := client(s, a)
			if renewed, err := cl.Renew(t.Context()); renewed || err != nil && c.renewed {
				t.Fatalf("a fresh login: %v, %v", renewed, err)
			}
			s.WantsRenewal(200 * 24 * time.Hour)
			before := a.Credentials()
			renewed, err := cl.Renew(t.Context())
			if renewed != c.renewed || err != nil && failure.KindOf(err) != failure.NeedsHuman {
				t.Fatalf("%v, %v", renewed, err)
			}
			if n := len(s.Requests(infoFits)); n != 2*c.asked {
				t.Errorf("asked %d times, want %d", n, 2*c.asked)
			}
			if _, err := cl.Check(t.Context()); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if !renewed {
				if len(s.Requests(refreshFits)) > 0 {
					t.Error("a renewal was tried")
				}
				return
			}
			if before.Cookie() == a.Credentials().Cookie() {
				t.Error("the cookies are the old ones")
			}
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", fi.Mode(), err)
			}
			again, err := bilibili.OpenAccount(path)
			if err != nil || again.Credentials().Cookie() != a.Credentials().Cookie() || !again.Credentials().Renewable() {
				t.Errorf("the file holds others: %v", err)
			}
		})
	}
}

// What the file holds and a renewal does not speak of stays.
func TestRenewalKeepsWhatItDoesNotKnow(t *testing.T) {
	s := bilitest.Unplugged()
	u := s.AddUser("alice")
	var file map[string]any
	if err := json.Unmarshal(s.CookieFile(u), &file); err != nil {
		t.Fatal(err)
	}
	info := file["cookie_info"].(map[string]any)
	info["cookies"] = append(info["cookies"].([]any), map[string]any{"name": "buvid3", "value": "mine", "note": "kept"})
	info["more"] = "kept"
	file["note"], file["access_token"] = map[string]any{"of": "the user"}, "the old one"
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real.json"), filepath.Join(dir, "cookies.json")
	save(t, path, b)
	if err := os.Symlink("real.json", link); err != nil {
		t.Fatal(err)
	}
	a, err := bilibili.OpenAccount(link)
	if err != nil {
		t.Fatal(err)
	}
	s.WantsRenewal(200 * 24 * time.Hour)
	if renewed, err := client(s, a).Renew(t.Context()); !renewed || err != nil {
		t.Fatal(renewed, err)
	}
	got := string(read(t, path))
	for _, want := range []string{`"the user"`, `"more"`, `"buvid3"`, `"note": "kept"`, `".bigfun.cn"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is gone", want)
		}
	}
	if strings.Contains(got, "the old one") {
		t.Error("the second access_token is an old one")
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
}

// Several processes share the file: one renews, the others take what it got.
func TestOneRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bilitest.Unplugged()
		_, a := login(t, s)
		s.WantsRenewal(200 * 24 * time.Hour)
		s.Fault(infoFits, bilitest.Fault{Times: -1, Delay: time.Second}) // so that all know that it is due
		s.Fault(refreshFits, bilitest.Fault{Times: -1, Delay: 3 * time.Second})
		var wg sync.WaitGroup
		var mu sync.Mutex
		done := map[string]int{}
		for range 5 {
			own, err := bilibili.OpenAccount(a.Path()) // as another process would
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				renewed, err := client(s, own).Renew(t.Context())
				_, cerr := client(s, own).Check(t.Context())
				mu.Lock()
				defer mu.Unlock()
				if renewed && err == nil && cerr == nil {
					done["well"]++
				} else {
					t.Error(renewed, err, cerr)
				}
			})
		}
		wg.Wait()
		if n := len(s.Requests(refreshFits)); n != 1 || done["well"] != 5 {
			t.Errorf("%d renewals, %v", n, done)
		}
	})
}

// Between the moment in which the service has renewed a login and the one in which the file says so, the old one is
// refused: whoever asks then waits for the new one.
func TestRefusedDuringARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bilitest.Unplugged()
		u, a := login(t, s)
		s.WantsRenewal(200 * 24 * time.Hour)
		s.Fault(refreshFits, bilitest.Fault{Late: 2 * time.Second})
		other, err := bilibili.OpenAccount(a.Path())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if renewed, err := client(s, a).Renew(t.Context()); !renewed || err != nil {
				t.Error(renewed, err)
			}
		})
		time.Sleep(time.Second)
		for _, asking := range []*bilibili.Account{a, other} {
			wg.Go(func() {
				if _, err := client(s, asking).Check(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		// A login that is dead is said to be so at once, or soon where somebody holds the lock.
		s.Expire(u)
		begun := time.Now()
		if _, err := client(s, a).Check(t.Context()); bilibili.CodeOf(err) != -101 || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		err = a.Governor(bilibili.Pace{}, zerolog.Nop()).Write(t.Context(), func(ctx context.Context) error {
			_, err := client(s, a).Check(ctx)
			return err
		})
		if bilibili.CodeOf(err) != -101 || time.Since(begun) > 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

// A stop in the middle of a renewal does not lose its answer.
func TestRenewalIsFinishedDespiteAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bilitest.Unplugged()
		_, a := login(t, s)
		s.WantsRenewal(200 * 24 * time.Hour)
		s.Fault(refreshFits, bilitest.Fault{Delay: 5 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if renewed, err := client(s, a).Renew(ctx); !renewed || err != nil {
			t.Fatal(renewed, err)
		}
		if _, err := client(s, a).Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRenewalFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		plan  func(s *bilitest.Server, u *bilitest.User, a *bilibili.Account)
		kind  failure.Kind
		alive bool // the login afterwards
	}{
		{"the question has no answer", func(s *bilitest.Server, _ *bilitest.User, _ *bilibili.Account) {
			s.Fault(infoFits, bilitest.Fault{Cut: true})
		}, failure.Transient, true},
		{"the renewal has no answer and was not done", func(s *bilitest.Server, _ *bilitest.User, _ *bilibili.Account) {
			s.Fault(refreshFits, bilitest.Fault{Cut: true})
		}, failure.Transient, true},
		{"the renewal brings no cookies", func(s *bilitest.Server, _ *bilitest.User, _ *bilibili.Account) {
			s.Fault(refreshFits, bilitest.Fault{Body: `{"code":0,"data":{"url":"https://passport.bilibili.com/verify"}}`})
		}, failure.NeedsHuman, true},
		{"logged out everywhere", func(s *bilitest.Server, u *bilitest.User, _ *bilibili.Account) { s.Expire(u) }, failure.NeedsHuman, false},
		{"the folder cannot be locked", func(_ *bilitest.Server, _ *bilitest.User, a *bilibili.Account) {
			if err := os.Mkdir(a.Path()+".lock", 0o700); err != nil {
				panic(err)
			}
		}, failure.NeedsHuman, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := bilitest.Unplugged()
			u, a := login(t, s)
			s.WantsRenewal(200 * 24 * time.Hour)
			c.plan(s, u, a)
			before := string(read(t, a.Path()))
			renewed, err := client(s, a).Renew(t.Context())
			if renewed || err == nil || failure.KindOf(err) != c.kind {
				t.Errorf("%v, %v", renewed, err)
			}
			if string(read(t, a.Path())) != before {
				t.Error("the file was changed")
			}
			if _, err := client(s, a).Check(t.Context()); (err == nil) != c.alive {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// A new login that cannot be written is used all the same, and written as soon as it can be.
func TestRenewedLoginThatCannotBeWritten(t *testing.T) {
	s := bilitest.Unplugged()
	_, a := login(t, s)
	s.WantsRenewal(200 * 24 * time.Hour)
	old := read(t, a.Path())
	// While the answer is on its way, something takes the file's place that cannot be replaced.
	s.OnRenewal(func() {
		if err := errors.Join(os.Remove(a.Path()), os.MkdirAll(filepath.Join(a.Path(), "x"), 0o700)); err != nil {
			t.Error(err)
		}
	})
	renewed, err := client(s, a).Renew(t.Context())
	if !renewed || failure.KindOf(err) != failure.NeedsHuman {
		t.Fatal(renewed, err)
	}
	if _, err := client(s, a).Check(t.Context()); err != nil {
		t.Errorf("the new login: %v", err)
	}
	if err := os.RemoveAll(a.Path()); err != nil {
		t.Fatal(err)
	}
	s.WantsRenewal(0)
	if renewed, err := client(s, a).Renew(t.Context()); renewed || err != nil {
		t.Fatal(renewed, err)
	}
	if got := read(t, a.Path()); string(got) == string(old) {
		t.Error("the file holds the old login")
	}
	again, err := bilibili.OpenAccount(a.Path())
	if err != nil || again.Credentials().Cookie() != a.Credentials().Cookie() {
		t.Errorf("the file holds another login: %v", err)
	}
}

func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bilitest.Unplugged()
		u, a := login(t, s)
		type heard struct {
			at  time.Duration
			ok  bool
			who string
		}
		var mu sync.Mutex
		var kept []heard
		outcomes := func() []heard {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(kept)
		}
		begun := time.Now()
		k := client(s, a).Keeper(zerolog.Nop(), func(w bilibili.Who, err error) {
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, heard{time.Since(begun).Truncate(time.Hour), err == nil, w.Name})
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := k.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(49 * time.Hour)
		all := outcomes()
		if len(all) != 3 || !all[0].ok || all[2].at != 48*time.Hour || all[0].who != "alice" {
			t.Fatalf("%+v", all)
		}
		s.Expire(u)
		for range 3 { // many refusals, one check
			k.Refused()
		}
		time.Sleep(time.Second)
		if all = outcomes(); len(all) != 4 || all[3].ok {
			t.Fatalf("after a refusal: %+v", all)
		}
		save(t, a.Path(), func() []byte { s.Login(u); return s.CookieFile(u) }())
		time.Sleep(3 * time.Minute)
		if all = outcomes(); !all[len(all)-1].ok {
			t.Errorf("after a new login: %+v", all)
		}
		// In time: the login of 180 days is renewed before it ends, for two years.
		time.Sleep(2 * 365 * 24 * time.Hour)
		for _, h := range outcomes()[5:] {
			if !h.ok {
				t.Errorf("%+v", h)
			}
		}
		if n := len(s.Requests(refreshFits)); n < 4 || n > 6 {
			t.Errorf("%d renewals in two years", n)
		}
		cancel()
		wg.Wait()
	})
}

// A cookie file that only rooms use is kept alive too, as soon as it is there.
func TestFileKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bilitest.Unplugged()
		u := s.AddUser("alice")
		name := filepath.Join(t.TempDir(), "cookies.json")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := (bilibili.FileKeeper{Cookies: name, Log: zerolog.Nop(), Transport: s.Virtual()}).Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Hour)
		save(t, name, s.CookieFile(u))
		time.Sleep(200 * 24 * time.Hour)
		synctest.Wait()
		if n := len(s.Requests(refreshFits)); n != 1 {
			t.Errorf("%d renewals in 200 days", n)
		}
		cancel()
		wg.Wait()
	})
}

// Cookies of a browser end: said before, day by day.
func TestKeeperSaysThatALoginEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bilitest.Unplugged()
		u := s.AddUser("alice")
		c, err := bilibili.Parse(s.CookieFile(u))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "cookies.txt")
		save(t, path, []byte(c.Cookie().Reveal()))
		a, err := bilibili.OpenAccount(path)
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		ctx, cancel := context.WithTimeout(t.Context(), 175*24*time.Hour)
		defer cancel()
		if err := client(s, a).Keeper(zerolog.New(&log), nil).Run(ctx); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "ends soon"); n < 4 || n > 6 || strings.Contains(log.String(), c.Cookie().Reveal()) {
			t.Errorf("said %d times in the last five days:\n%s", n, log.String())
		}
	})
}

func TestOpenAccount(t *testing.T) {
	dir := t.TempDir()
	save(t, filepath.Join(dir, "page.html"), []byte("<html>"))
	for _, path := range []string{filepath.Join(dir, "absent.json"), filepath.Join(dir, "page.html"), dir} {
		_, err := bilibili.OpenAccount(path)
		if failure.KindOf(err) != failure.NeedsHuman || !strings.Contains(failure.Hint(err), "liverec login bilibili --cookies "+path) {
			t.Errorf("%s: %v, hint %q", path, err, failure.Hint(err))
		}
	}
	if _, err := bilibili.OpenAccount(""); err == nil {
		t.Error("a file without a name")
	}
}

// The file is looked at whenever the login is used; a moment in which it cannot be read changes nothing.
func TestFileIsReadAgain(t *testing.T) {
	s := bilitest.Unplugged()
	u, a := login(t, s)
	first := a.Credentials()
	if a.Credentials() != first {
		t.Error("the file was read again although nothing has changed")
	}
	s.Login(u)
	save(t, a.Path(), []byte(`{"cookie_info":{"coo`))
	if a.Credentials() != first {
		t.Error("half a file was believed")
	}
	save(t, a.Path(), s.CookieFile(u))
	if c := a.Credentials(); c.Cookie() == first.Cookie() {
		t.Error("the file was not read again")
	}
	if err := os.Remove(a.Path()); err != nil {
		t.Fatal(err)
	}
	if a.Credentials().Cookie().IsZero() {
		t.Error("the login went with the file")
	}
}
