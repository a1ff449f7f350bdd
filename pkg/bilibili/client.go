package bilibili

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/failure"
)

// Identity is who a call speaks as.
type Identity uint8

// The identities.
const (
	Nobody  Identity = iota // no cookie at all
	Visitor                 // buvid3, and the login cookies if there is an account: what the live interfaces want
	User                    // the login cookies; without an account the call is refused before it is sent
	App                     // access_key and app signature in the query (in the form, if the call has one)
)

// Place is a set of places where the csrf word goes (reference 0.5).
type Place uint8

// The places.
const (
	InQuery Place = 1 << iota
	InForm
	InJSON // the body must be an object
)

// Shape is how an answer looks (reference 0.2).
type Shape uint8

// The shapes.
const (
	Standard Shape = iota // {"code":0,"message":"0","data":{…}}: Do decodes data
	Upload                // {"OK":1,…}: Do decodes the whole body
)

// Call is one question to one interface.
type Call struct {
	Op      string        // for errors: "list the submissions"
	Method  string        // default GET, POST with a body
	URL     string        // https://host/path, without a query
	Query   url.Values    //
	Form    url.Values    // body, form-encoded
	JSON    any           // body; marshalled once, so that a repetition sends the same bytes
	Header  http.Header   // over those that every call has
	As      Identity      //
	CSRF    Place         // where the csrf word is put
	WBI     bool          // sign the query (live reference 6.1)
	Key     AppKey        // sign as this app; App without one takes that of the account
	Shape   Shape         //
	Timeout time.Duration // of one attempt, body included; default 15 s
	Limit   int64         // of the answer, bytes; default 4 MiB

	once bool // the call is the renewal itself: nothing repairs it
}

const (
	defaultTimeout = 15 * time.Second
	defaultLimit   = 4 << 20
)

// What clients of people say of themselves (reference 0.4).
const (
	browser = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
	android = "Mozilla/5.0 BiliDroid/7.80.0 (bbcallen@gmail.com) os/android model/MI 6 mobi_app/android build/7800300 channel/bili innerVer/7800310 osVer/13 network/2"
)

// UserAgent is what the client calls itself. Media requests want the same.
func UserAgent() string { return browser }

// Answer is what came back, whatever it says.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // at most Call.Limit
}

// Config makes a Client.
type Config struct {
	Account   *Account          // nil: nobody is logged in
	Log       zerolog.Logger    //
	Transport http.RoundTripper // nil: NewTransport()
}

// Client speaks to Bilibili. It may be used by many goroutines.
type Client struct {
	account *Account
	log     zerolog.Logger
	http    *http.Client
	buvid   string
	web     webKeyring
}

// NewTransport is a transport with the proxy of the environment, the roots of the system and time-outs for everything
// but bodies. It speaks HTTP/1.1, one connection per request in flight. Chunks and live media need one of these too.
func NewTransport() *http.Transport {
	d := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            d.DialContext,
		TLSHandshakeTimeout:    15 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: 256 << 10,
		ExpectContinueTimeout:  time.Second,
	}
}

// NewClient makes a client. It asks nothing yet.
func NewClient(cfg Config) *Client {
	if cfg.Transport == nil {
		cfg.Transport = NewTransport()
	}
	return &Client{
		account: cfg.Account,
		log:     cfg.Log,
		http: &http.Client{
			Transport: cfg.Transport,
			// A redirect would carry csrf words and tokens of the query elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		buvid: newBuvid(),
		web:   newKeyring(),
	}
}

// newBuvid makes the name of a visitor: <8-4-4-4-12 upper-case hex><5 digits>infoc (live reference 5).
func newBuvid() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%X-%X-%X-%X-%X%05dinfoc", b[:4], b[4:6], b[6:8], b[8:10], b[10:16], binary.BigEndian.Uint32(b[16:])%100000)
}

// Account is the account of the client, nil if there is none.
func (c *Client) Account() *Account { return c.account }

// HTTP is the client below: proxy and roots, no cookie, no redirect followed, no time-out but that of the request's
// context. Lines are probed and chunks are sent with it.
func (c *Client) HTTP() *http.Client { return c.http }

func (c *Client) credentials() *Credentials {
	if c.account == nil {
		return nil
	}
	return c.account.Credentials()
}

func (c *Client) path() string {
	if c.account == nil {
		return ""
	}
	return c.account.path
}

// Do asks and decodes the data of the answer into out (nil: it is not wanted). Trouble is a *failure.Error whose cause
// is a *Refusal where the remote itself refused: kind, code, wait and hint are those of the table. A cookie that was
// renewed by another process meanwhile, and web keys that were changed, are repaired by one repetition; nothing else is
// repeated. No error holds a secret or a query.
func (c *Client) Do(ctx context.Context, call Call, out any) error {
	for first := true; ; first = false {
		cred := c.credentials()
		asked := time.Now()
		a, err := c.send(ctx, call, cred)
		if err != nil {
			return err
		}
		data, refusal := open(call.Shape, a.Status, a.Body)
		if refusal == nil {
			return decode(call.Op, data, out)
		}
		if a.Header.Get("X-Bili-Gaia-Vvoucher") != "" {
			refusal.Voucher = true
		}
		refusal.Message = cred.mask(refusal.Message)
		c.log.Debug().Str("op", call.Op).Int("status", a.Status).Int64("code", refusal.Code).Str("message", refusal.Message).Msg("refused")
		if first && !call.once && c.repaired(ctx, call, cred, refusal.Code, asked) {
			continue
		}
		e := trouble(call.Op, refusal, c.path())
		if s, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil && s > 0 {
			e.RetryAfter = max(e.RetryAfter, min(time.Duration(s)*time.Second, 24*time.Hour))
		}
		return e
	}
}

// repaired reports whether the same call may go through now. All these refusals come before anything was done.
func (c *Client) repaired(ctx context.Context, call Call, cred *Credentials, code int64, asked time.Time) bool {
	switch {
	case cred != nil && (code == -101 || code == -111 || code == -663):
		return c.account.changed(ctx, cred)
	case call.WBI && code == -352:
		return c.web.renew(ctx, c, asked)
	}
	return false
}

func decode(op string, data json.RawMessage, out any) error {
	if out == nil {
		return nil
	}
	if len(data) == 0 || string(data) == "null" {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &failure.Error{Op: op, Err: fmt.Errorf("read the answer: %w", err)}
	}
	return nil
}

// Fetch asks and gives the answer as it is, redirects included (b23.tv, room pages). Only transport trouble is an error.
func (c *Client) Fetch(ctx context.Context, call Call) (*Answer, error) {
	return c.send(ctx, call, c.credentials())
}

// send makes one attempt.
func (c *Client) send(ctx context.Context, call Call, cred *Credentials) (*Answer, error) {
	timeout, limit := call.Timeout, call.Limit
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if limit <= 0 {
		limit = defaultLimit
	}
	if cred == nil && (call.As == User || call.As == App) || call.As == App && !cred.HasToken() {
		why := "it needs a login"
		if cred != nil {
			why = "the cookie file holds no access token"
		}
		return nil, &failure.Error{Op: call.Op, Kind: failure.NeedsHuman, Err: errors.New(why), Hint: loginHint(c.path())}
	}
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := c.request(within, call, cred)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, within, call, cred, timeout, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, c.broken(ctx, within, call, cred, timeout, err)
	}
	if int64(len(body)) > limit {
		return nil, &failure.Error{Op: call.Op, Err: fmt.Errorf("the answer has more than %d bytes", limit)}
	}
	return &Answer{resp.StatusCode, resp.Header, body}, nil
}

// broken makes the error of a call without an answer. The URL, with its query, stays out of it.
func (c *Client) broken(ctx, within context.Context, call Call, cred *Credentials, timeout time.Duration, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case within.Err() != nil:
		err = fmt.Errorf("no answer within %s: %w", timeout, context.DeadlineExceeded)
	case cred.mask(err.Error()) != err.Error():
		err = errors.New(cred.mask(err.Error()))
	}
	return &failure.Error{Op: call.Op, Err: err}
}

func (c *Client) request(ctx context.Context, call Call, cred *Credentials) (*http.Request, error) {
	u, err := url.Parse(call.URL)
	if err != nil || u.Host == "" || u.RawQuery != "" {
		return nil, &failure.Error{Op: call.Op, Kind: failure.Permanent, Err: errors.New("the address of the call is none")}
	}
	csrf := ""
	if cred != nil {
		csrf = cred.CSRF().Reveal()
	}
	query, form := clone(call.Query), clone(call.Form)
	if call.CSRF&InQuery != 0 {
		query.Set("csrf", csrf)
	}
	if call.CSRF&InForm != 0 {
		form.Set("csrf", csrf)
	}
	rawQuery, rawForm := "", ""
	key := call.Key
	if call.As == App && key == (AppKey{}) {
		key = cred.key()
	}
	if key != (AppKey{}) {
		signed := query
		if call.Form != nil {
			signed = form
		}
		if call.As == App {
			signed.Set("access_key", cred.access.Reveal())
		}
		if !signed.Has("ts") {
			signed.Set("ts", strconv.FormatInt(time.Now().Unix(), 10))
		}
		if call.Form != nil {
			rawForm = key.Sign(form)
		} else {
			rawQuery = key.Sign(query)
		}
	}
	if rawQuery == "" {
		rawQuery = query.Encode()
	}
	if rawForm == "" {
		rawForm = form.Encode()
	}
	if call.WBI {
		keys, err := c.web.keys(ctx, c)
		if err != nil {
			return nil, &failure.Error{Op: call.Op, Kind: failure.KindOf(err), RetryAfter: failure.RetryAfter(err), Hint: failure.Hint(err), Err: err}
		}
		rawQuery = keys.sign(query, strconv.FormatInt(time.Now().Unix(), 10))
	}
	u.RawQuery = rawQuery

	var body []byte
	method, kind := call.Method, ""
	switch {
	case call.JSON != nil:
		if body, err = json.Marshal(call.JSON); err != nil {
			return nil, &failure.Error{Op: call.Op, Kind: failure.Permanent, Err: fmt.Errorf("write the body: %w", err)}
		}
		if call.CSRF&InJSON != 0 {
			body = splice(body, csrf)
		}
		kind = "application/json"
	case call.Form != nil:
		body, kind = []byte(rawForm), "application/x-www-form-urlencoded"
	}
	if method == "" {
		method = http.MethodGet
		if kind != "" {
			method = http.MethodPost
		}
	}
	var reader io.Reader
	if kind != "" {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), reader)
	if err != nil {
		return nil, &failure.Error{Op: call.Op, Kind: failure.Permanent, Err: errors.New("the address of the call is none")}
	}
	c.dress(req, call, cred, kind)
	return req, nil
}

// dress gives a request its headers.
func (c *Client) dress(req *http.Request, call Call, cred *Credentials, kind string) {
	h := req.Header
	h.Set("User-Agent", browser)
	switch host := req.URL.Hostname(); {
	case call.As == App || call.Key != (AppKey{}):
		h.Set("User-Agent", android)
	case host == "api.live.bilibili.com" || host == "live.bilibili.com":
		h.Set("Referer", "https://live.bilibili.com/")
		h.Set("Origin", "https://live.bilibili.com")
	case host == "member.bilibili.com":
		h.Set("Referer", "https://member.bilibili.com/")
		h.Set("Origin", "https://member.bilibili.com")
	default:
		h.Set("Referer", "https://www.bilibili.com/")
	}
	h.Set("Accept", "*/*")
	h.Set("Accept-Language", "zh-CN,zh;q=0.9,en;q=0.5")
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	for name, v := range call.Header {
		h[http.CanonicalHeaderKey(name)] = v
	}
	cookies := ""
	if (call.As == Visitor || call.As == User) && cred != nil {
		cookies = cred.Cookie().Reveal()
	}
	if call.As == Visitor && (cred == nil || !cred.Has("buvid3")) {
		if cookies != "" {
			cookies += "; "
		}
		cookies += "buvid3=" + c.buvid
	}
	if cookies != "" {
		h["Cookie"] = []string{cookies} // by hand: net/http would quote or drop values
	}
}

func clone(v url.Values) url.Values {
	n := url.Values{}
	for name, values := range v {
		n[name] = append([]string(nil), values...)
	}
	return n
}

// splice puts the csrf word into an object.
func splice(body []byte, csrf string) []byte {
	body = bytes.TrimSpace(body)
	if len(body) < 2 || body[0] != '{' {
		return body
	}
	w, _ := json.Marshal(csrf) // a string always can
	head := `{"csrf":` + string(w)
	if rest := bytes.TrimSpace(body[1:]); len(rest) > 0 && rest[0] != '}' {
		head += ","
	}
	return append([]byte(head), body[1:]...)
}

// Who is the person who is logged in.
type Who struct {
	MID     int64
	Name    string
	Expires time.Time // of the cookies; zero if unknown
}

// nav is the answer to the question who we are. It comes with the web keys, also to nobody.
type nav struct {
	IsLogin bool   `json:"isLogin"`
	MID     int64  `json:"mid"`
	Name    string `json:"uname"`
	Web     struct {
		Img string `json:"img_url"`
		Sub string `json:"sub_url"`
	} `json:"wbi_img"`
}

const navURL = "https://api.bilibili.com/x/web-interface/nav"

// Check asks whether the cookies are alive (reference 1.6). Dead ones are NeedsHuman.
func (c *Client) Check(ctx context.Context) (Who, error) {
	const op = "check the login"
	var n nav
	if err := c.Do(ctx, Call{Op: op, URL: navURL, As: User}, &n); err != nil {
		return Who{}, err
	}
	if !n.IsLogin {
		return Who{}, trouble(op, &Refusal{Code: -101, Status: http.StatusOK, Message: "not logged in"}, c.path())
	}
	return Who{n.MID, clean(n.Name), c.credentials().Expires()}, nil
}

// webKeyring keeps the web keys.
type webKeyring struct {
	turn chan struct{} // holds one token: who has it reads or writes what is below
	now  *ring
}

type ring struct {
	keys  webKeys
	asked time.Time
}

const (
	keysLive = 2 * time.Hour   // the keys change about daily
	keysRest = 1 * time.Minute // between two questions after a refusal
)

func newKeyring() webKeyring {
	w := webKeyring{turn: make(chan struct{}, 1), now: &ring{}}
	w.turn <- struct{}{}
	return w
}

func (w *webKeyring) keys(ctx context.Context, c *Client) (webKeys, error) {
	select {
	case <-ctx.Done():
		return webKeys{}, ctx.Err()
	case <-w.turn:
	}
	defer func() { w.turn <- struct{}{} }()
	if w.now.keys.mixed() != "" && time.Since(w.now.asked) < keysLive {
		return w.now.keys, nil
	}
	k, err := c.askKeys(ctx)
	if err != nil {
		if w.now.keys.mixed() != "" {
			return w.now.keys, nil // old ones may still do
		}
		return k, err
	}
	*w.now = ring{k, time.Now()}
	return k, nil
}

// renew asks for the keys again, at most once in a minute. It reports whether there are others than those that were used
// at the time.
func (w *webKeyring) renew(ctx context.Context, c *Client, used time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-w.turn:
	}
	defer func() { w.turn <- struct{}{} }()
	if w.now.asked.After(used) {
		return true // another call has asked meanwhile
	}
	if time.Since(w.now.asked) < keysRest {
		return false
	}
	k, err := c.askKeys(ctx)
	if err != nil {
		return false
	}
	changed := k != w.now.keys
	*w.now = ring{k, time.Now()}
	return changed
}

func (c *Client) askKeys(ctx context.Context) (webKeys, error) {
	const op = "ask for the web keys"
	a, err := c.send(ctx, Call{Op: op, URL: navURL, As: Visitor, Timeout: 10 * time.Second}, c.credentials())
	if err != nil {
		return webKeys{}, err
	}
	data, refusal := open(Standard, a.Status, a.Body)
	var n nav
	_ = json.Unmarshal(data, &n) // no data: no keys
	k := webKeys{stem(n.Web.Img), stem(n.Web.Sub)}
	if k.mixed() == "" {
		if refusal == nil || refusal.Code == -101 {
			refusal = &Refusal{Code: -352, Status: a.Status, Message: "no keys in the answer"}
		}
		return k, trouble(op, refusal, c.path())
	}
	return k, nil
}

// stem is a file's name in a URL, without its extension.
func stem(u string) string {
	u = u[strings.LastIndexByte(u, '/')+1:]
	s, _, _ := strings.Cut(u, ".")
	return s
}
