package webdav

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/failure"
)

// newTransport has no limit on the time of a whole exchange: progress is watched by whoever calls.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   8,
		WriteBufferSize:       256 << 10,
		ReadBufferSize:        64 << 10,
		DisableCompression:    true,
	}
}

// errThere is the cause of a MOVE that was refused because the name is taken.
var errThere = errors.New("a file of that name is there already")

// url is the address of a key, or of the folder itself for ".".
func (t *Target) url(key string) *url.URL {
	u := *t.cfg.URL
	u.Path, u.RawPath = t.base+"/", ""
	if key != "." {
		u.Path += key
	}
	return &u
}

// request is one question to the server.
type request struct {
	method string
	url    *url.URL
	header map[string]string
	body   io.Reader // nil: none
	length int64
	also   []int // statuses besides 2xx that are answers and no trouble
}

// do asks. The answer's body has to be closed by the caller.
func (t *Target) do(ctx context.Context, op string, r request) (*http.Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), r.body)
	if err != nil {
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Err: errors.New("the name makes no address")}
	}
	if r.body != nil {
		req.ContentLength = r.length
	}
	req.Header.Set("User-Agent", "liverec/"+t.cfg.Version)
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	if t.cfg.User != "" {
		pass, err := t.password()
		if err != nil {
			return nil, &failure.Error{Op: op, Kind: failure.NeedsHuman, Err: err,
				Hint: "Put the password into a file and add password-file=FILE to the destination, or set " + PasswordEnv + "."}
		}
		req.SetBasicAuth(t.cfg.User, pass)
	}
	resp, err := t.http.RoundTrip(req) // not a Client: it would follow redirects, and turn a MOVE into a GET
	if err != nil {
		return nil, t.broken(ctx, op, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	for _, s := range r.also {
		if resp.StatusCode == s {
			return resp, nil
		}
	}
	defer drain(resp)
	return nil, t.refusal(op, resp)
}

// drain lets the connection be used again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

// password reads the file, or the environment. It is read again after the server has refused it.
func (t *Target) password() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pass != "" {
		return t.pass, nil
	}
	if t.cfg.PasswordFile == "" {
		if t.pass = t.cfg.Getenv(PasswordEnv); t.pass == "" {
			return "", errors.New("there is no password for user " + t.cfg.User)
		}
		return t.pass, nil
	}
	data, err := os.ReadFile(t.cfg.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if t.pass = strings.TrimRight(string(data), "\r\n"); t.pass == "" {
		return "", fmt.Errorf("read the password: %s is empty", t.cfg.PasswordFile)
	}
	return t.pass, nil
}

// broken is what an exchange without an answer means.
func (t *Target) broken(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	if inner, ok := errors.AsType[*failure.Error](err); ok { // of the body
		return &failure.Error{Op: op, Kind: inner.Kind, Err: err}
	}
	e := &failure.Error{Op: op, Kind: failure.Transient, Err: err}
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case authority, host, invalid:
		e.Kind = failure.NeedsHuman
		e.Hint = "The certificate of the server is not trusted: correct the name of the host, the clock, or the system's root certificates."
	case record, errors.Is(err, http.ErrSchemeMismatch):
		e.Kind, e.Hint = failure.NeedsHuman, "The server does not speak TLS there: webdav+http:// is for a server without it."
	}
	return e
}

// refusal is what an answer means that is none of 2xx.
func (t *Target) refusal(op string, resp *http.Response) error {
	e := &failure.Error{Op: op, Kind: failure.Transient, Code: resp.Status, RetryAfter: retryAfter(resp.Header)}
	switch s := resp.StatusCode; {
	case s == http.StatusUnauthorized:
		e.Kind, e.Hint = failure.NeedsHuman, "The server wants a user: webdav+https://USER@HOST/PATH."
		if t.cfg.User != "" {
			e.Hint = "The server refuses the password of user " + t.cfg.User + ": correct it (Nextcloud with two factors wants an app password)."
			t.mu.Lock()
			t.pass = "" // the file may hold another one by now
			t.mu.Unlock()
		}
	case s == http.StatusForbidden:
		e.Kind, e.Hint = failure.NeedsHuman, "The user must be allowed to write, rename and remove in "+t.where()+"."
	case s == http.StatusProxyAuthRequired:
		e.Kind, e.Hint = failure.NeedsHuman, "The proxy wants a password: set it in HTTPS_PROXY."
	case s/100 == 3:
		e.Kind, e.Hint = failure.NeedsHuman, "Write the address that the server redirects to."
		if to, err := resp.Location(); err == nil {
			e.Hint = fmt.Sprintf("The server redirects to %s://%s: write the address that it means.", to.Scheme, to.Host+to.EscapedPath())
		}
	case s == http.StatusMethodNotAllowed, s == http.StatusNotImplemented:
		e.Kind, e.Hint = failure.NeedsHuman, "Does this address speak WebDAV, with PROPFIND, MKCOL and MOVE? For Nextcloud it is https://HOST/remote.php/dav/files/USER/FOLDER."
	case s == http.StatusRequestEntityTooLarge:
		e.Kind, e.Hint = failure.Permanent, "The server, or a proxy before it, takes no file of that size: raise its limit (nginx: client_max_body_size), or use a smaller --max-size."
	case s == http.StatusRequestURITooLong:
		e.Kind, e.Hint = failure.Permanent, "Use a shorter --name."
	case s == http.StatusLocked:
		e.Hint = "Another program holds a lock on the file: close it there."
	case s == http.StatusInsufficientStorage:
		e.Hint = "The server or the user's quota is full: free some space there."
	case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable && e.RetryAfter > 0:
		e.Kind = failure.Throttled
	}
	return e
}

// refusedWith reports whether err is the refusal of this status.
func refusedWith(err error, status int) bool {
	e, ok := errors.AsType[*failure.Error](err)
	return ok && strings.HasPrefix(e.Code, strconv.Itoa(status)+" ")
}

// retryAfter reads the header in both of its forms.
func retryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.Atoi(v); err == nil && s > 0 && s < 1e6 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		from := time.Now()
		if d, err := http.ParseTime(h.Get("Date")); err == nil {
			from = d // its clock, not ours
		}
		return max(0, at.Sub(from))
	}
	return 0
}

// absent says that the server answered and has no such file, after it was asked for the folder as well: a server that
// has lost its disk gives the same answer for both.
func (t *Target) absent(ctx context.Context, op, code string) error {
	if err := t.seen(ctx, op); err != nil {
		return err
	}
	return &failure.Error{Op: op, Code: code, Err: failure.ErrAbsent}
}

// seen asks for the folder. It may be absent as long as nothing was stored in it.
func (t *Target) seen(ctx context.Context, op string) error {
	list, err := t.propfind(ctx, op, ".", "0")
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case list != nil:
		t.used = true
	case t.used:
		return &failure.Error{Op: op, Kind: failure.Transient, Code: "the folder is not there",
			Hint: fmt.Sprintf("%s is not there although parts were stored in it: has the server lost its disk? If it was removed on purpose, make it again.", t.where())}
	}
	return nil
}

// entry is a file or a folder in a listing.
type entry struct {
	name string
	dir  bool
	size int64
}

// multistatus is the answer to a PROPFIND, as much as is of use.
type multistatus struct {
	XMLName   xml.Name `xml:"DAV: multistatus"`
	Responses []struct {
		Href  string `xml:"DAV: href"`
		Props []struct {
			Status     string    `xml:"DAV: status"`
			Length     string    `xml:"DAV: prop>getcontentlength"`
			Collection *struct{} `xml:"DAV: prop>resourcetype>collection"`
		} `xml:"DAV: propstat"`
	} `xml:"DAV: response"`
}

const wanted = `<?xml version="1.0" encoding="utf-8"?><d:propfind xmlns:d="DAV:"><d:prop><d:resourcetype/><d:getcontentlength/></d:prop></d:propfind>`

// propfind asks for a key, and with depth "1" for what is in it. nil without an error is a 404.
func (t *Target) propfind(ctx context.Context, op, key, depth string) ([]entry, error) {
	r := request{
		method: "PROPFIND", url: t.url(key), header: map[string]string{"Depth": depth, "Content-Type": "application/xml; charset=utf-8"},
		body: strings.NewReader(wanted), length: int64(len(wanted)), also: []int{http.StatusNotFound},
	}
	if depth == "1" && key != "." {
		r.url.Path += "/"
	}
	resp, err := t.do(ctx, op, r)
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, nil
	case http.StatusMultiStatus:
	default:
		return nil, &failure.Error{Op: op, Kind: failure.Transient, Code: resp.Status,
			Hint: "That is no answer of a WebDAV server: is something between it and us, or the address another one?"}
	}
	var m multistatus
	if err := xml.NewDecoder(io.LimitReader(resp.Body, maxSmall)).Decode(&m); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", op, context.Cause(ctx))
		}
		return nil, &failure.Error{Op: op, Kind: failure.Transient, Code: "read the properties", Err: err}
	}
	list := make([]entry, 0, len(m.Responses))
	for _, one := range m.Responses {
		href, err := url.Parse(strings.TrimSpace(one.Href))
		if err != nil {
			return nil, &failure.Error{Op: op, Kind: failure.Transient, Code: "read the properties", Err: errors.New("an address is broken")}
		}
		e := entry{name: path.Base(href.Path), size: -1}
		for _, p := range one.Props {
			if !strings.Contains(p.Status, " 200") {
				continue
			}
			e.dir = e.dir || p.Collection != nil
			if n, err := strconv.ParseInt(strings.TrimSpace(p.Length), 10, 64); err == nil {
				e.size = n
			}
		}
		list = append(list, e)
	}
	if len(list) == 0 {
		return nil, &failure.Error{Op: op, Kind: failure.Transient, Code: "read the properties", Err: errors.New("the answer is empty")}
	}
	return list, nil
}

// stat gives the size of a file. failure.ErrAbsent: there is none.
func (t *Target) stat(ctx context.Context, op, key string) (entry, error) {
	list, err := t.propfind(ctx, op, key, "0")
	switch {
	case err != nil:
		return entry{}, err
	case list == nil:
		return entry{}, t.absent(ctx, op, "404")
	case !list[0].dir && list[0].size < 0:
		return entry{}, &failure.Error{Op: op, Kind: failure.Transient, Code: "the server does not say how long the file is"}
	}
	return list[0], nil
}

// list gives what is in a folder. failure.ErrAbsent: there is none.
func (t *Target) list(ctx context.Context, op, dir string) ([]entry, error) {
	list, err := t.propfind(ctx, op, dir, "1")
	if err == nil && list == nil {
		return nil, t.absent(ctx, op, "404")
	}
	return list, err
}

// mkdirs makes a folder and what is above it.
func (t *Target) mkdirs(ctx context.Context, op, dir string) error {
	if err := t.seen(ctx, op); err != nil {
		return err // its parents are not made on the wrong disk
	}
	t.dirs.Lock()
	defer t.dirs.Unlock()
	u := t.url(dir)
	if dir != "." {
		u.Path += "/"
	}
	return t.mkcol(ctx, op, u)
}

func (t *Target) mkcol(ctx context.Context, op string, u *url.URL) error {
	for made := false; ; made = true {
		resp, err := t.do(ctx, op, request{method: "MKCOL", url: u, also: []int{http.StatusMethodNotAllowed, http.StatusConflict, http.StatusNotFound}})
		if err != nil {
			return err
		}
		drain(resp)
		switch {
		case resp.StatusCode/100 == 2, resp.StatusCode == http.StatusMethodNotAllowed: // made, or there already
			return nil
		case made, u.Path == "/":
			return &failure.Error{Op: op, Kind: failure.NeedsHuman, Code: "make folder " + u.Path + ": " + resp.Status,
				Hint: "Make the folder on the server, or correct the path in the destination."}
		}
		above := *u
		if above.Path = path.Dir(strings.TrimSuffix(u.Path, "/")); above.Path != "/" {
			above.Path += "/"
		}
		if err := t.mkcol(ctx, op, &above); err != nil {
			return err
		}
	}
}

// put sends a body of known length to a key. Where the folder may be missing, errNoFolder is in the chain.
func (t *Target) put(ctx context.Context, op, key string, body io.Reader, length int64) error {
	r := request{
		method: http.MethodPut, url: t.url(key), body: body, length: length,
		header: map[string]string{"Content-Type": "application/octet-stream"}, also: []int{http.StatusConflict, http.StatusNotFound, http.StatusInternalServerError},
	}
	if length == 0 {
		r.body = http.NoBody
	}
	if length > 1<<20 {
		r.header["Expect"] = "100-continue" // a server that refuses does not have to read it first
	}
	resp, err := t.do(ctx, op, r)
	if err != nil {
		return err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusConflict, http.StatusNotFound, http.StatusInternalServerError: // the last is lighttpd's
		return &failure.Error{Op: op, Kind: failure.Transient, Code: resp.Status, Err: errNoFolder}
	case http.StatusMultiStatus, http.StatusAccepted, http.StatusPartialContent:
		return &failure.Error{Op: op, Kind: failure.Transient, Code: resp.Status, Err: errors.New("that is no answer to a file")}
	}
	t.mu.Lock()
	t.used = true
	t.mu.Unlock()
	return nil
}

var errNoFolder = errors.New("is the folder missing?")

// place puts a small file, and makes its folders where they are missing.
func (t *Target) place(ctx context.Context, op, key string, data []byte) error {
	err := t.put(ctx, op, key, bytes.NewReader(data), int64(len(data)))
	if !errors.Is(err, errNoFolder) {
		return err
	}
	if err := t.mkdirs(ctx, op, path.Dir(key)); err != nil {
		return err
	}
	return t.put(ctx, op, key, bytes.NewReader(data), int64(len(data)))
}

// move renames. Without over a name that is taken is errThere. failure.ErrAbsent: from is not there.
func (t *Target) move(ctx context.Context, op, from, to string, over bool) error {
	flag := "F"
	if over {
		flag = "T"
	}
	resp, err := t.do(ctx, op, request{
		method: "MOVE", url: t.url(from), header: map[string]string{"Destination": t.url(to).String(), "Overwrite": flag},
		also: []int{http.StatusPreconditionFailed, http.StatusNotFound, http.StatusConflict},
	})
	if err != nil {
		return err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusPreconditionFailed:
		return &failure.Error{Op: op, Code: resp.Status, Err: errThere}
	case http.StatusNotFound:
		return t.absent(ctx, op, "404")
	case http.StatusConflict, http.StatusMultiStatus, http.StatusAccepted:
		return &failure.Error{Op: op, Kind: failure.Transient, Code: resp.Status, Err: errors.New("the file was not moved")}
	}
	return nil
}

// remove deletes a file; one that is not there is removed.
func (t *Target) remove(ctx context.Context, op, key string) error {
	resp, err := t.do(ctx, op, request{method: http.MethodDelete, url: t.url(key), also: []int{http.StatusNotFound}})
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode == http.StatusMultiStatus {
		return &failure.Error{Op: op, Kind: failure.Transient, Code: resp.Status, Err: errors.New("the file was not removed")}
	}
	return nil
}

// get hands the content of a file to read, and says which version it was. failure.ErrAbsent: there is none.
func (t *Target) get(ctx context.Context, op, key string, read func(io.Reader) error) (string, error) {
	resp, err := t.do(ctx, op, request{method: http.MethodGet, url: t.url(key), also: []int{http.StatusNotFound}})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		drain(resp)
		return "", t.absent(ctx, op, "404")
	case http.StatusOK:
	default:
		return "", &failure.Error{Op: op, Kind: failure.Transient, Code: resp.Status, Err: errors.New("that is not the file")}
	}
	if err := read(resp.Body); err != nil {
		return "", t.broken(ctx, op, err)
	}
	return version(resp.Header), nil
}

// version tells two files of one name apart, as far as the server can. A young file's tag is weak at first.
func version(h http.Header) string {
	return strings.TrimPrefix(h.Get("ETag"), "W/") + " " + h.Get("Last-Modified") + " " + h.Get("Content-Length")
}
