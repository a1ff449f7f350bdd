package httpflv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/recorder/pace"
)

const (
	dialTimeout   = 5 * time.Second
	headerTimeout = 8 * time.Second
	// firstTimeout is how long the first bytes of the body may take: they say what it is.
	firstTimeout = 10 * time.Second
	// maxHops is how many redirects are followed.
	maxHops = 10
	// readBuffer is what a chunked body is read through. What goes through it is copied once more, so at full speed, where
	// a chunk is larger, most of the bytes go past it from the kernel into the slab; at real pace it costs a handful of
	// reads more on each beat. Measured with 16 to 128 KiB.
	readBuffer = 32 << 10
)

// Config says what to open.
type Config struct {
	URL    string      // http or https; user info in it becomes Basic authorisation
	Header http.Header // sent with the request: User-Agent, Referer, Cookie …; kept from other hosts after a redirect,
	Public []string    // but for these, which hold no secret: "Referer"
	Idle   time.Duration
	// Dial replaces the network; nil: TCP. For tests in memory.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Odd is told what is odd in the stream; nil: nobody is.
	Odd *Oddities
	// Watch looks at how fast media comes, and may say to hang up; nil: nobody does. Host is filled in.
	Watch *pace.Watch
}

// Open sends the one GET and waits for the first bytes of the answer. The Source that it returns holds the open
// connection with those bytes in it: Run it or Close it. An answer that is not 200 is a *StatusError, one that is not
// FLV a *ContentError; everything else means that nobody could be asked. ctx bounds Open alone.
//
// No error text holds the URL: it may carry a signature.
func Open(ctx context.Context, cfg Config) (*Source, error) {
	if cfg.Idle <= 0 {
		cfg.Idle = 10 * time.Second
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("the URL cannot be read")
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Source{cancel: cancel, idle: cfg.Idle, host: u.Host, odd: cfg.Odd, watch: cfg.Watch}
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	if err := s.open(life, u, cfg); err != nil {
		s.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("open stream: %w", ctx.Err())
		}
		return nil, err
	}
	return s, nil
}

func (s *Source) open(ctx context.Context, u *url.URL, cfg Config) error {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	}
	// Without ForceAttemptHTTP2 it speaks HTTP/1.1: one long response would only be held back by HTTP/2's flow control.
	s.transport = &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return newGathering(c, &s.gather), nil
		},
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		ReadBufferSize:        readBuffer,
		WriteBufferSize:       4 << 10,
		MaxIdleConns:          1,
		IdleConnTimeout:       time.Second,
		DisableCompression:    true,
	}
	client := &http.Client{Transport: s.transport, CheckRedirect: redirect(cfg.Public)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return errors.New("the URL cannot be read")
	}
	for k, v := range cfg.Header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Accept", "*/*")
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "liverec")
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("connect: %w", plain(err))
	}
	s.body = res.Body
	s.host = res.Request.URL.Host
	if res.StatusCode != http.StatusOK {
		return &StatusError{Code: res.StatusCode, Status: status(res)}
	}
	return s.sniff()
}

// sniff waits for the first bytes and refuses what is not FLV.
func (s *Source) sniff() error {
	var late atomic.Bool
	timer := time.AfterFunc(firstTimeout, func() {
		late.Store(true)
		s.cancel()
	})
	defer timer.Stop()
	buf := make([]byte, 0, 4<<10)
	for !settled(buf) {
		n, err := s.body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == nil {
			continue
		}
		if late.Load() {
			if len(buf) == 0 {
				return fmt.Errorf("no byte for %v after the answer", firstTimeout)
			}
			break
		}
		if !errors.Is(err, io.EOF) && len(buf) == 0 {
			return fmt.Errorf("read first bytes: %w", plain(err))
		}
		break // what there is must do
	}
	if c := sniff(buf); c != flv.FLVContent {
		return &ContentError{Content: c, First: buf[:min(len(buf), 64)]}
	}
	s.first = buf
	return nil
}

// redirect follows at most maxHops hops, none of them twice, to http and https only. What was meant for one host is
// kept from the next, but for what is public.
func redirect(public []string) func(req *http.Request, via []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if len(via) > maxHops {
			return fmt.Errorf("more than %d redirects", maxHops)
		}
		if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
			return fmt.Errorf("redirected to a %q address", req.URL.Scheme)
		}
		if req.URL.Scheme == "http" && via[0].URL.Scheme == "https" {
			return errors.New("redirected from https to http")
		}
		for _, v := range via {
			if v.URL.String() == req.URL.String() {
				return errors.New("redirected in a circle")
			}
		}
		if !strings.EqualFold(req.URL.Host, via[0].URL.Host) {
			for _, h := range [...]string{"Cookie", "Authorization", "Referer"} {
				if !slices.Contains(public, h) {
					req.Header.Del(h)
				}
			}
		}
		return nil
	}
}

// plain takes the URL and the socket addresses out of an error of the network: the one may hold a signature, the
// others differ from attempt to attempt, so that the same trouble would never look the same twice.
func plain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Err != nil {
		err = fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}

func status(res *http.Response) string {
	if t := http.StatusText(res.StatusCode); t != "" {
		return fmt.Sprintf("%d %s", res.StatusCode, t)
	}
	return fmt.Sprintf("status %d", res.StatusCode)
}
