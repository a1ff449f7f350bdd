// Package direct is the site of URLs that answer with media themselves: no room page, no API, the stream is the room.
//
// It owns what a URL must look like, what of it is a secret, and what an answer of such a server means for the room:
// 404 is "nothing is being sent", other refusals and a silent network are "could not ask". It never retries and never
// waits longer than one request takes; how often it is asked is the recorder's affair.
package direct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/hlspull"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
	"github.com/liverec/liverec/recorder/httpflv"
	"github.com/liverec/liverec/recorder/pace"
)

// Name is what the site is called in manifests and in status.
const Name = "direct"

// What a stream comes as.
const (
	FormFLV = "FLV"
	FormHLS = "HLS"
)

// The prefixes that force what a URL is taken for.
const (
	prefixHTTP = "httpstream://"
	prefixHLS  = "hls://"
)

// address is a URL that was checked.
type address struct {
	fetch  *url.URL // with everything that the server wants to see
	forced flv.Content
}

func parse(raw string) (address, error) {
	var a address
	rest := strings.TrimSpace(raw)
	switch {
	case strings.HasPrefix(strings.ToLower(rest), prefixHTTP):
		rest, a.forced = rest[len(prefixHTTP):], flv.FLVContent
	case strings.HasPrefix(strings.ToLower(rest), prefixHLS):
		rest, a.forced = rest[len(prefixHLS):], flv.HLSContent
	}
	for _, c := range rest {
		if c < 0x20 || c == 0x7f {
			return a, errors.New("a room URL has no control characters in it")
		}
	}
	if a.forced != flv.UnknownContent && !strings.Contains(rest, "://") {
		rest = "http://" + rest
	}
	u, err := url.Parse(rest)
	if err != nil {
		if strings.Contains(err.Error(), "missing protocol scheme") || strings.Contains(err.Error(), "first path segment") {
			return a, noScheme(rest)
		}
		return a, errors.New("this is no URL; it looks like http://host/live.flv")
	}
	switch {
	case u.Scheme == "":
		return a, noScheme(rest)
	case !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https"):
		if u.Opaque != "" { // host:port/path without a scheme
			return a, noScheme(rest)
		}
		return a, fmt.Errorf("%q is a scheme that nothing here can open; use http:// or https:// (site %q: any URL that answers with FLV or HLS)", u.Scheme, Name)
	case u.Hostname() == "":
		return a, errors.New("the URL names no host; it looks like http://host/live.flv")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := net.LookupPort("tcp", p); err != nil || n == 0 {
			return a, fmt.Errorf("%q is no port", p)
		}
	}
	u.Scheme, u.Host, u.Fragment, u.RawFragment = strings.ToLower(u.Scheme), canonicalHost(u), "", ""
	if u.Path == "" {
		u.Path = "/"
	}
	a.fetch = u
	return a, nil
}

func noScheme(rest string) error {
	return fmt.Errorf("the room URL has no scheme; try http://%s", strings.TrimLeft(withoutSecrets(rest), "/"))
}

// withoutSecrets cuts user info and query off a text that could not be parsed.
func withoutSecrets(s string) string {
	s, _, _ = strings.Cut(s, "?")
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = s[i+1:]
	}
	return s
}

func canonicalHost(u *url.URL) string {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	port := u.Port()
	if port == "80" && strings.EqualFold(u.Scheme, "http") || port == "443" && strings.EqualFold(u.Scheme, "https") {
		port = ""
	}
	if port != "" {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// secretKeys are the query keys whose values let somebody in, in lower case.
var secretKeys = [...]string{
	"sign", "signature", "sig", "token", "access_token", "auth", "auth_key", "authkey", "key", "secret", "password", "passwd", "pass", "pwd",
	"wssecret", "wstime", "txsecret", "txtime", "expire", "expires", "e", "exp", "deadline", "aid", "hdnts", "hdnea", "policy",
	"key-pair-id", "st", "user", "username", "session", "sid", "ticket", "credential",
}

func isSecret(key string) bool {
	key = strings.ToLower(key)
	return slices.Contains(secretKeys[:], key) || strings.HasPrefix(key, "x-amz-") || strings.HasPrefix(key, "x-goog-") ||
		strings.Contains(key, "secret") || strings.Contains(key, "token") || strings.Contains(key, "sign") || strings.Contains(key, "passw")
}

// Check makes a room of a URL, or says what is wrong with it and what would be right. It asks nobody. The room's ID and
// URL hold no user info and no value of a signature.
func Check(raw string) (segment.Room, error) {
	a, err := parse(raw)
	if err != nil {
		return segment.Room{}, err
	}
	id, show := *a.fetch, *a.fetch
	id.User, show.User = nil, nil
	if a.fetch.User != nil {
		show.User = url.User("***")
	}
	known, masked := url.Values{}, url.Values{}
	for k, v := range a.fetch.Query() {
		if isSecret(k) {
			masked[k] = []string{"***"}
			continue
		}
		known[k], masked[k] = v, v
	}
	id.RawQuery, show.RawQuery = known.Encode(), strings.ReplaceAll(masked.Encode(), "%2A%2A%2A", "***")
	return segment.Room{
		ID:   segment.RoomID(Name + ":" + id.String()),
		URL:  strings.ReplaceAll(show.String(), "%2A%2A%2A", "***"),
		Name: title(a.fetch),
		Site: Name,
	}, nil
}

// title is what a room is called whose owner gave it no name: the last part of the path, or the host.
func title(u *url.URL) string {
	base := path.Base(u.Path)
	if ext := path.Ext(base); ext != base {
		base = strings.TrimSuffix(base, ext)
	}
	switch strings.ToLower(base) {
	case "", "/", ".", "index", "playlist":
		return u.Hostname()
	}
	return base
}

// Config says what to open.
type Config struct {
	URL    string      // as the user wrote it, with its secrets
	Header http.Header // User-Agent, Referer, Cookie … of the user's choice
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)

	// The rest is for HLS.
	Quality string       // as hls.Choose has it; "" or "auto": steps down and up with the line
	Ads     bool         // record what a playlist marks as advertising
	Hosts   *fetch.Hosts // remembers hosts that did badly; nil: nobody does
	Pressed func() bool  // the disk does not keep up; nil: it always does
	Log     zerolog.Logger
}

// Resolver opens the URL of one room. Being live and being open are one thing here.
type Resolver struct {
	cfg   Config
	addr  address
	every time.Duration
	odd   *httpflv.Oddities // of all connections
	steps pace.Steps        // there is one quality, and one host
}

var _ recorder.Resolver = (*Resolver)(nil)

// New makes a Resolver. The error is that of Check.
func New(cfg Config) (*Resolver, error) {
	a, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	every := 5 * time.Second
	if ip, err := netip.ParseAddr(a.fetch.Hostname()); a.fetch.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
		every = time.Second
	}
	return &Resolver{cfg: cfg, addr: a, every: every, odd: httpflv.NewOddities(cfg.Log)}, nil
}

// Every is how often the URL is tried while nothing is on: 5 s, on the own machine 1 s.
func (r *Resolver) Every() time.Duration { return r.every }

// Resolve tries the URL with one GET. FLV means on air, and the Source in the answer is that very connection, its first
// bytes included. A playlist means on air if the playlist of the chosen quality can be had too. 404 and 410 are the
// server's own word that nothing is being sent. Any other answer, and none, is an error: it says nothing about the room.
func (r *Resolver) Resolve(ctx context.Context, _ segment.Room) (recorder.Live, error) {
	if r.addr.forced == flv.HLSContent {
		return r.playlist(ctx)
	}
	src, err := httpflv.Open(ctx, httpflv.Config{URL: r.addr.fetch.String(), Header: r.cfg.Header, Dial: r.cfg.Dial, Odd: r.odd,
		Watch: &pace.Watch{Steps: &r.steps, Tell: func(why string) { r.cfg.Log.Warn().Msg(why) }}})
	if err == nil {
		r.steps.Opened(1, nil, 1)
		switch r.cfg.Quality {
		case "", "auto", "best", "worst":
			return recorder.Live{Presence: recorder.OnAir, Title: title(r.addr.fetch), Source: src, Form: FormFLV}, nil
		}
		src.Close()
		return recorder.Live{}, &failure.Error{Op: "open stream", Kind: failure.NeedsHuman, Hint: "Leave out --quality, or name the room's HLS address.",
			Err: fmt.Errorf("an FLV address has one quality, which is not called %q", r.cfg.Quality)}
	}
	if e, ok := errors.AsType[*httpflv.StatusError](err); ok {
		return answered(e.Code, e.Status, err)
	}
	if e, ok := errors.AsType[*httpflv.ContentError](err); ok {
		switch e.Content {
		case flv.HLSContent:
			if r.addr.forced == flv.UnknownContent {
				return r.playlist(ctx)
			}
			return recorder.Live{}, unsupported(e.Content)
		case flv.MPEGTSContent, flv.MP4Content:
			return recorder.Live{}, unsupported(e.Content)
		}
		return recorder.Live{}, fmt.Errorf("open stream: %w", err)
	}
	return recorder.Live{}, err
}

// playlist opens HLS.
func (r *Resolver) playlist(ctx context.Context) (recorder.Live, error) {
	src, err := hlspull.New(hlspull.Config{
		URL: r.addr.fetch.String(), Header: r.cfg.Header, Dial: r.cfg.Dial, Quality: cmp.Or(r.cfg.Quality, "auto"), Ads: r.cfg.Ads,
		Hosts: r.cfg.Hosts, Pressed: r.cfg.Pressed, Log: r.cfg.Log,
	})
	if err != nil {
		return recorder.Live{}, fmt.Errorf("open stream: %w", err)
	}
	if err = src.Open(ctx); err == nil && len(src.Qualities()) > 0 { // else Open had the list itself
		_, err = src.List(ctx)
	}
	if err == nil {
		return recorder.Live{Presence: recorder.OnAir, Title: title(r.addr.fetch), Source: src, Form: FormHLS}, nil
	}
	src.Close()
	none := recorder.Live{Form: FormHLS}
	if e, ok := errors.AsType[*fetch.StatusError](err); ok {
		live, err := answered(e.Code, e.Error(), err)
		live.Form = FormHLS
		return live, err
	}
	if _, ok := errors.AsType[*hls.QualityError](err); ok {
		return none, &failure.Error{Op: "open stream", Kind: failure.NeedsHuman, Err: err, Hint: "liverec probe shows what there is."}
	}
	return none, fmt.Errorf("open stream: %w", err)
}

// answered says what a refusal means.
func answered(code int, status string, err error) (recorder.Live, error) {
	switch code {
	case http.StatusNotFound, http.StatusGone:
		return recorder.Live{Presence: recorder.Offline, Confirmed: true, Why: status}, nil
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return recorder.Live{}, &failure.Error{Op: "open stream", Kind: failure.Throttled, Err: err}
	}
	return recorder.Live{}, fmt.Errorf("open stream: %w", err)
}

// UnsupportedError is media that this version does not record.
type UnsupportedError struct{ Content flv.Content }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("the URL answers with %s; FLV and HLS are recorded", e.Content)
}

func unsupported(c flv.Content) error {
	return &failure.Error{Op: "open stream", Kind: failure.NeedsHuman, Err: &UnsupportedError{Content: c},
		Hint: "Use the room's FLV or HLS address, if it has one."}
}
