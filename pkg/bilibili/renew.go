package bilibili

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/failure"
)

const (
	infoURL    = "https://passport.bilibili.com/x/passport-login/oauth2/info"
	refreshURL = "https://passport.bilibili.com/x/passport-login/oauth2/refresh_token"

	// renewBefore is how long before their end credentials are renewed, whatever the service says.
	renewBefore = 10 * 24 * time.Hour
)

// key is the app key that the token was made with, as far as the file says.
func (c *Credentials) key() AppKey {
	if c.platform == "Android" {
		return Android
	}
	return TV
}

// platformOf is what biliup calls a login with this key.
func platformOf(k AppKey) string {
	if k == Android {
		return "Android"
	}
	return platformTV
}

// Renew asks whether the credentials want to be renewed and does it if so, under the lock beside the cookie file: not
// from within Governor.Write, which holds it. renewed is true when the credentials in hand are newer than before,
// whoever renewed them. Credentials that cannot be renewed (cookies of a browser) are no error.
func (c *Client) Renew(ctx context.Context) (renewed bool, err error) {
	if c.account == nil {
		return false, nil
	}
	if err := c.account.flush(); err != nil {
		return false, err
	}
	cred := c.account.Credentials()
	if !cred.Renewable() {
		return false, nil
	}
	key, due, err := c.due(ctx, cred)
	if err != nil || !due {
		return false, err
	}
	l, err := c.account.lock(ctx)
	if err != nil && ctx.Err() != nil {
		return false, &failure.Error{Op: "renew the login", Err: ctx.Err()}
	}
	if err != nil {
		return false, &failure.Error{Op: "renew the login", Kind: failure.NeedsHuman, Err: err, Hint: "The folder of the cookie file must be writable, or the login ends " + day(cred.Expires()) + "."}
	}
	defer l.release()
	if now := c.account.Credentials(); !now.same(cred) {
		return true, nil // another process was faster
	}
	if err := c.account.writable(); err != nil {
		return false, &failure.Error{Op: "renew the login", Kind: failure.NeedsHuman, Err: err, Hint: "The folder of the cookie file must be writable, or the login ends " + day(cred.Expires()) + "."}
	}
	// Once the service has answered, the old credentials are dead: nothing may take the answer away from us.
	var g grant
	err = c.Do(context.WithoutCancel(ctx), Call{
		Op: "renew the login", URL: refreshURL, As: App, Key: key, Timeout: 20 * time.Second, once: true,
		Form: url.Values{"actionKey": {"appkey"}, "refresh_token": {cred.refresh.Reveal()}},
	}, &g)
	if err != nil {
		return false, err
	}
	fresh, err := cred.with(g, platformOf(key))
	if err != nil {
		return false, &failure.Error{Op: "renew the login", Kind: failure.NeedsHuman, Err: err, Hint: loginHint(c.account.path)}
	}
	if err := c.account.store(fresh); err != nil {
		return true, &failure.Error{Op: "write the renewed login", Kind: failure.NeedsHuman, Err: err, Hint: "This process goes on with the new login; the cookie file holds a dead one until it can be written."}
	}
	c.log.Info().Time("until", fresh.Expires()).Msg("the Bilibili login was renewed")
	return true, nil
}

func day(t time.Time) string {
	if t.IsZero() {
		return "some day"
	}
	return "on " + t.Format(time.DateOnly)
}

// due asks whether the token wants to be renewed, and finds its app key where the file does not say.
func (c *Client) due(ctx context.Context, cred *Credentials) (AppKey, bool, error) {
	soon := !cred.Expires().IsZero() && time.Until(cred.Expires()) < renewBefore
	keys := []AppKey{cred.key()}
	if cred.platform == "" {
		keys = append(keys, Android)
	}
	var err error
	for _, key := range keys {
		var info struct {
			Refresh   bool  `json:"refresh"`
			ExpiresIn int64 `json:"expires_in"`
		}
		err = c.Do(ctx, Call{Op: "ask whether the login wants to be renewed", URL: infoURL, As: App, Key: key, Query: url.Values{"actionKey": {"appkey"}}}, &info)
		switch code := CodeOf(err); {
		case err == nil:
			soon = soon || info.Refresh || info.ExpiresIn > 0 && time.Duration(info.ExpiresIn)*time.Second < renewBefore
			return key, soon, nil
		case code == -663:
			continue // made with another key
		case code == -101:
			return key, true, nil // the token has ended; its refresh token may not have
		}
		return key, false, err
	}
	return AppKey{}, false, err
}

// Keeper checks and renews the credentials at start, daily and on refusal. It is a supervise.Service.
type Keeper struct {
	client *Client
	log    zerolog.Logger
	tell   func(Who, error)
	nudge  chan struct{}
}

// Keeper makes the keeper of the client's account. tell, which may be nil, hears the outcome of each check in Run's
// goroutine: who is logged in, or what is wrong.
func (c *Client) Keeper(log zerolog.Logger, tell func(Who, error)) *Keeper {
	if tell == nil {
		tell = func(Who, error) {}
	}
	return &Keeper{c, log, tell, make(chan struct{}, 1)}
}

// FileKeeper keeps the login of a cookie file alive, also of one that is not there yet. It is a supervise.Service.
type FileKeeper struct {
	Cookies   string
	Log       zerolog.Logger
	Transport http.RoundTripper // nil: NewTransport()
}

func (k FileKeeper) String() string { return "the login of " + k.Cookies }

// Run keeps the login alive until ctx ends.
func (k FileKeeper) Run(ctx context.Context) error {
	for {
		if a, err := OpenAccount(k.Cookies); err == nil {
			return NewClient(Config{Account: a, Log: k.Log, Transport: k.Transport}).Keeper(k.Log, nil).Run(ctx)
		}
		if !backoff.Sleep(ctx, checkRest) { // who needs it says what is wrong with the file
			return nil
		}
	}
}

func (k *Keeper) String() string { return "the Bilibili login" }

// Refused asks for a check now: somebody was told that he is not logged in. It never blocks.
func (k *Keeper) Refused() {
	select {
	case k.nudge <- struct{}{}:
	default:
	}
}

const (
	checkEvery = 24 * time.Hour
	checkRest  = time.Minute // between two checks, whatever is refused
)

// Run keeps the credentials alive until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	retry := backoff.New(backoff.Policy{First: time.Minute, Max: time.Hour})
	for {
		who, err := k.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		k.tell(who, err)
		if cred := k.client.credentials(); err == nil && !cred.Renewable() && !cred.Expires().IsZero() && time.Until(cred.Expires()) < renewBefore {
			k.log.Warn().Time("until", cred.Expires()).Str("hint", loginHint(k.client.path())).Msg("the Bilibili login ends soon and cannot be renewed")
		}
		wait := checkEvery
		if err != nil {
			k.log.Warn().Err(err).Str("hint", failure.Hint(err)).Msg("the Bilibili login cannot be used or renewed")
			wait = retry.Next(err)
		} else {
			retry.Reset()
		}
		if !backoff.Sleep(ctx, checkRest) {
			return nil
		}
		t := time.NewTimer(max(wait-checkRest, 0))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-k.nudge:
		case <-t.C:
		}
		t.Stop()
	}
}

// once renews and checks. Of a login that works and cannot be renewed, both are told.
func (k *Keeper) once(ctx context.Context) (Who, error) {
	_, rerr := k.client.Renew(ctx)
	who, err := k.client.Check(ctx)
	if err == nil && rerr != nil && failure.KindOf(rerr) == failure.NeedsHuman {
		return who, rerr
	}
	return who, err
}
