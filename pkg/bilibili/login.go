package bilibili

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
)

const (
	codeURL = "https://passport.bilibili.com/x/passport-tv-login/qrcode/auth_code"
	pollURL = "https://passport.bilibili.com/x/passport-tv-login/qrcode/poll"

	codeLives = 180 * time.Second // reference 1.2
	pollEvery = 2 * time.Second
	mostCodes = 20 // an hour: nobody is there
)

// What the poll says besides 0.
const (
	codeWaiting = 86039
	codeScanned = 86090
	codeExpired = 86038
)

// LoginStep is what a person has to know of a login under way.
type LoginStep struct {
	URL     string    // a new QR code to show; whoever scans it gives us the login of that phone, it is no secret of ours
	Expires time.Time // of the code
	Scanned bool      // the code was scanned: now it has to be confirmed on the phone
}

// Login is the QR login of the TV client (reference 1.2): it shows codes until one is confirmed or ctx ends, and writes
// the cookie file at path, in the form of biliup, under the lock beside it. What the file held for the same user and the
// login does not speak of is kept. A file that is there and is no cookie file is not touched. tell hears of every step.
func Login(ctx context.Context, cfg Config, path string, tell func(LoginStep)) (*Account, error) {
	target, err := loginTarget(path)
	if err != nil {
		return nil, err
	}
	c := NewClient(Config{Log: cfg.Log, Transport: cfg.Transport})
	var g grant
	for n := 0; ; n++ {
		if n == mostCodes {
			return nil, &failure.Error{Op: "log in", Kind: failure.NeedsHuman, Err: errors.New("nobody has scanned a code for an hour")}
		}
		ok, err := c.loginOnce(ctx, tell, &g)
		if err != nil {
			return nil, err
		}
		if ok {
			break
		}
	}
	return saveLogin(context.WithoutCancel(ctx), target, g)
}

// loginTarget finds where the login will be written and tries whether it can be, before anybody takes out a phone.
func loginTarget(path string) (string, error) {
	target, err := filepath.Abs(path)
	if err != nil {
		return "", &failure.Error{Op: "find " + path, Kind: failure.NeedsHuman, Err: err}
	}
	if real, err := filepath.EvalSymlinks(target); err == nil {
		target = real
	}
	switch fi, err := os.Stat(target); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return "", &failure.Error{Op: "look at " + path, Kind: failure.NeedsHuman, Err: err}
	case fi.Size() > 0:
		if _, _, err := load(target); err != nil {
			return "", &failure.Error{Op: "replace " + path, Kind: failure.NeedsHuman, Err: err, Hint: "Something else lies there: name another file with --cookies."}
		}
	}
	d, err := durable.Open(filepath.Dir(target), nil)
	if err != nil {
		return "", durable.Explain(filepath.Dir(target), err)
	}
	defer d.Close()
	return target, d.Probe("login")
}

// loginOnce shows one code. It is false when the code has ended unused.
func (c *Client) loginOnce(ctx context.Context, tell func(LoginStep), g *grant) (bool, error) {
	var code struct {
		URL  string `json:"url"`
		Code string `json:"auth_code"`
	}
	begun := time.Now()
	form := url.Values{"local_id": {"0"}, "ts": {strconv.FormatInt(begun.Unix(), 10)}}
	if err := c.Do(ctx, Call{Op: "ask for a QR code", URL: codeURL, Form: form, Key: TV}, &code); err != nil {
		return false, err
	}
	if code.URL == "" || code.Code == "" {
		return false, &failure.Error{Op: "ask for a QR code", Err: errors.New("there is none in the answer")}
	}
	expires := begun.Add(codeLives)
	tell(LoginStep{URL: code.URL, Expires: expires})
	scanned := false
	for {
		if !backoff.Sleep(ctx, pollEvery) {
			return false, &failure.Error{Op: "wait for the phone", Err: ctx.Err()}
		}
		form := url.Values{"auth_code": {code.Code}, "local_id": {"0"}, "ts": {strconv.FormatInt(time.Now().Unix(), 10)}}
		*g = grant{}
		err := c.Do(ctx, Call{Op: "ask whether the code was confirmed", URL: pollURL, Form: form, Key: TV}, g)
		switch CodeOf(err) {
		case codeWaiting:
		case codeScanned:
			if !scanned {
				tell(LoginStep{Expires: expires, Scanned: true})
			}
			scanned = true
		case codeExpired:
			return false, nil
		default:
			if err == nil {
				return true, nil
			}
			if failure.KindOf(err) != failure.Transient {
				return false, err
			}
			// The weather: ask again, as long as the code lives.
		}
		if time.Since(begun) > codeLives+3*pollEvery {
			return false, nil // the service should have said so
		}
	}
}

// saveLogin writes what a login has brought.
func saveLogin(ctx context.Context, target string, g grant) (*Account, error) {
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if l, err := (&Account{path: target}).lock(within); err == nil {
		defer l.release()
	} // else somebody holds on to a login that is replaced anyway
	old, _, _ := load(target) // absent, or no login: there is nothing to keep
	fresh, err := (*Credentials)(nil).with(g, platformTV)
	if err != nil {
		return nil, &failure.Error{Op: "log in", Kind: failure.NeedsHuman, Err: err, Hint: "Confirm what Bilibili asks for on the phone, then try again."}
	}
	if old != nil && old.form != formText && old.mid == fresh.mid {
		if fresh, err = old.with(g, platformTV); err != nil {
			return nil, &failure.Error{Op: "log in", Err: err}
		}
	}
	if err := write(target, fresh); err != nil {
		return nil, &failure.Error{Op: "write " + target, Kind: failure.NeedsHuman, Err: err}
	}
	return OpenAccount(target)
}
