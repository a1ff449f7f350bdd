package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/media/hls"
)

const (
	dialTimeout = 5 * time.Second
	keepAlive   = 15 * time.Second
	// FirstByte, Stall are how long a server may say nothing, before and inside a body.
	FirstByte = 5 * time.Second
	Stall     = 4 * time.Second
	// maxHops is how many redirects are followed.
	maxHops = 10
	// maxWait is the longest Retry-After that is honoured.
	maxWait     = 10 * time.Second
	firstBuffer = 64 << 10
	// maxUnzipped is the most that is decompressed: no segment is so much larger than it has to be.
	maxUnzipped = 32 << 20
	// unknownShare is the share of a transfer whose length is not known.
	unknownShare = 256 << 10
)

// Config says how to ask.
type Config struct {
	// Home is the room's address: what a playlist may lead to depends on where that is.
	Home   *url.URL
	Header http.Header // sent with each request; Cookie and Authorization only to Home's host
	// Dial replaces the network below HTTP; nil: TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Transport replaces HTTP itself; nil: one of its own with the proxies of the environment.
	Transport http.RoundTripper
}

// Client asks for resources. It is safe for concurrent use. Close it.
type Client struct {
	cfg   Config
	http  *http.Client
	own   *http.Transport // nil: not ours
	guard *guard
}

// New starts nothing.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg, guard: newGuard(cfg.Home)}
	rt := cfg.Transport
	if rt == nil {
		dial := cfg.Dial
		if dial == nil {
			dial = c.guard.dial
		}
		// Without ForceAttemptHTTP2 it speaks HTTP/1.1: a transfer that stalls takes its connection along, and the next try
		// has one of its own.
		c.own = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dial,
			TLSHandshakeTimeout:    dialTimeout,
			MaxIdleConns:           16,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			ReadBufferSize:         64 << 10,
		}
		rt = c.own
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // it has no reason to
	}
	c.http = &http.Client{Transport: rt, Jar: jar, CheckRedirect: c.redirect}
	return c
}

// Close hangs up what is idle.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// Request is one question.
type Request struct {
	URL   string
	Range hls.ByteRange // Length 0: all of it; Offset has to be known
	Max   int64         // most bytes of the body, also decompressed
	First time.Duration // to the head of the answer; default FirstByte
	Total time.Duration // for all of it; 0: no limit but Stall
	// Sharers is how many transfers have the line between them: one that by Total has its share of the bytes gets Total for
	// each of them. 0: 1.
	Sharers int
	// Tag and Since make it conditional: ETag and Last-Modified of the copy that is here.
	Tag, Since string
	Memory     Memory // nil: new memory each time
}

// Memory is where bodies come to lie.
type Memory interface {
	// Get gives at least n bytes; an error of it ends the reading and is returned.
	Get(n int) ([]byte, error)
	// Put takes back what Get gave and nobody uses any more. What an Answer lies in is never put back.
	Put(b []byte)
}

// Answer is what came. Of a broken one Body is what came before it broke.
type Answer struct {
	Status     int
	Body       []byte   // decompressed, and no more than the range
	URL        *url.URL // after redirects; nil if nobody answered
	Tag, Since string
	Read       int64         // bytes that were read from the network
	Took       time.Duration // from the question to the last byte
	Body1      time.Duration // from the first byte to the last
}

// Host is where it came from, "host:port", or "".
func (a Answer) Host() string {
	if a.URL == nil {
		return ""
	}
	return a.URL.Host
}

// StatusError is an answer that is not 200, 206 or 304.
type StatusError struct {
	Code int
	Wait time.Duration // Retry-After, at most 10 s; 0: not said
}

func (e *StatusError) Error() string {
	if t := http.StatusText(e.Code); t != "" {
		return fmt.Sprintf("%d %s", e.Code, t)
	}
	return fmt.Sprintf("status %d", e.Code)
}

// Errors of Get, wrapped.
var (
	ErrTooLarge = errors.New("larger than is allowed")
	ErrShort    = errors.New("cut off")
	ErrSilent   = errors.New("no byte for too long")
	ErrSlow     = errors.New("took too long")
	ErrRange    = errors.New("another range than was asked for")
)

// PlaceError is an address that the stream may not lead to.
type PlaceError struct{ What string }

func (e *PlaceError) Error() string { return "refused to follow the playlist to " + e.What }

// Get asks once. 304 is an answer without a body. The error is that of ctx, a *StatusError, a *PlaceError, one of the
// errors above, that of Room, or one of the network.
func (c *Client) Get(ctx context.Context, r Request) (Answer, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" {
		return Answer{}, &PlaceError{"an address that cannot be read"}
	}
	if err := c.guard.check(u); err != nil {
		return Answer{}, err
	}
	begin := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if r.First <= 0 {
		r.First = FirstByte
	}
	first := time.AfterFunc(r.First, func() { cancel(fmt.Errorf("%w: no answer for %v", ErrSilent, r.First)) })
	defer first.Stop()
	var came, want atomic.Int64
	if r.Total > 0 {
		sharers := int64(max(r.Sharers, 1))
		round := int64(1)
		var total *time.Timer
		ready := make(chan struct{})
		total = time.AfterFunc(r.Total, func() {
			<-ready
			if w := want.Load(); round < sharers && (w > 0 && came.Load()*sharers >= w*round || w <= 0 && came.Load() >= round*unknownShare) {
				round++
				total.Reset(r.Total)
				return
			}
			cancel(fmt.Errorf("%w: not whole after %v", ErrSlow, time.Duration(round)*r.Total))
		})
		close(ready)
		defer total.Stop()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Answer{}, &PlaceError{"an address that cannot be read"}
	}
	c.head(req, r)
	res, err := c.http.Do(req)
	if err != nil {
		return Answer{Took: time.Since(begin)}, why(ctx, err)
	}
	defer res.Body.Close()
	first.Stop()
	a := Answer{Status: res.StatusCode, URL: res.Request.URL, Tag: res.Header.Get("ETag"), Since: res.Header.Get("Last-Modified")}
	switch res.StatusCode {
	case http.StatusNotModified:
		a.Took = time.Since(begin)
		return a, nil
	case http.StatusOK, http.StatusPartialContent:
	default:
		a.Read, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 4<<10)) // so that the connection can be used again
		a.Took = time.Since(begin)
		return a, &StatusError{res.StatusCode, wait(res.Header.Get("Retry-After"))}
	}
	skip, take := int64(0), int64(-1)
	if r.Range.Length > 0 {
		if skip, take, err = cut(res, r.Range); err != nil {
			return a, err
		}
	}
	started := time.Now()
	stalled := time.AfterFunc(Stall, func() { cancel(fmt.Errorf("%w: %v inside the body", ErrSilent, Stall)) })
	defer stalled.Stop()
	b := &body{r: res.Body, want: res.ContentLength, max: r.Max + skip, mem: r.Memory, alive: func(n int64) {
		stalled.Reset(Stall)
		came.Store(n)
	}}
	if take >= 0 {
		b.want = min(skip+take, b.want)
		if res.ContentLength < 0 {
			b.want = skip + take
		}
		b.enough = skip + take
	}
	want.Store(b.want)
	err = b.read()
	a.Read, a.Took, a.Body1 = b.n, time.Since(begin), time.Since(started)
	a.Body = b.buf
	if err != nil {
		a.Body = a.Body[min(skip, int64(len(a.Body))):]
		return a, why(ctx, err)
	}
	if take >= 0 {
		if int64(len(a.Body)) < skip+take {
			a.Body = a.Body[min(skip, int64(len(a.Body))):]
			return a, fmt.Errorf("%w: %d bytes of a range of %d", ErrShort, len(a.Body), take)
		}
		a.Body = a.Body[skip : skip+take]
	}
	if bytes.HasPrefix(a.Body, []byte{0x1f, 0x8b}) {
		plain, err := unzip(a.Body, min(r.Max, maxUnzipped), r.Memory)
		if err != nil {
			return a, err
		}
		if r.Memory != nil {
			r.Memory.Put(b.buf)
		}
		a.Body = plain
	}
	return a, nil
}

func (c *Client) head(req *http.Request, r Request) {
	for k, v := range c.cfg.Header {
		if k = http.CanonicalHeaderKey(k); private(k) && c.cfg.Home != nil && !strings.EqualFold(req.URL.Host, c.cfg.Home.Host) {
			continue
		}
		req.Header[k] = v
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Accept", "*/*")
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "liverec")
	}
	if r.Range.Length > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.Range.Offset, r.Range.Offset+r.Range.Length-1))
	}
	if r.Tag != "" {
		req.Header.Set("If-None-Match", r.Tag)
	}
	if r.Since != "" {
		req.Header.Set("If-Modified-Since", r.Since)
	}
}

// private are headers that are meant for one host.
func private(header string) bool { return header == "Cookie" || header == "Authorization" }

// redirect follows at most maxHops hops, none of them twice.
func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxHops {
		return fmt.Errorf("more than %d redirects", maxHops)
	}
	if err := c.guard.check(req.URL); err != nil {
		return err
	}
	for _, v := range via {
		if v.URL.String() == req.URL.String() {
			return errors.New("redirected in a circle")
		}
	}
	if req.URL.Host != via[0].URL.Host || req.URL.Scheme == "http" && via[0].URL.Scheme == "https" {
		req.Header.Del("Cookie")
		req.Header.Del("Authorization")
	}
	return nil
}

// cut says which part of an answer is the range that was asked for.
func cut(res *http.Response, r hls.ByteRange) (skip, take int64, err error) {
	if res.StatusCode == http.StatusOK {
		if r.Offset > 1<<30 {
			return 0, 0, fmt.Errorf("%w: all of a large resource", ErrRange)
		}
		return r.Offset, r.Length, nil
	}
	span, ok := strings.CutPrefix(res.Header.Get("Content-Range"), "bytes ")
	if !ok {
		return 0, r.Length, nil
	}
	span, _, _ = strings.Cut(span, "/") // the total grows with each segment
	from, to, _ := strings.Cut(span, "-")
	a, err1 := strconv.ParseInt(strings.TrimSpace(from), 10, 64)
	b, err2 := strconv.ParseInt(strings.TrimSpace(to), 10, 64)
	if err1 != nil || err2 != nil {
		return 0, r.Length, nil
	}
	if a > r.Offset || b < a {
		return 0, 0, fmt.Errorf("%w: bytes %d to %d", ErrRange, a, b)
	}
	if b < r.Offset+r.Length-1 {
		return 0, 0, fmt.Errorf("%w: it ends at %d", ErrShort, b)
	}
	return r.Offset - a, r.Length, nil
}

func wait(after string) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(after)); err == nil && n > 0 {
		return min(time.Duration(min(n, 3600))*time.Second, maxWait)
	}
	if t, err := http.ParseTime(after); err == nil {
		return min(max(time.Until(t), 0), maxWait)
	}
	return 0
}

// body reads one body into one piece of memory.
type body struct {
	r      io.Reader
	want   int64 // length that was announced, -1: none was
	enough int64 // 0: to the end
	max    int64
	mem    Memory
	alive  func(n int64) // n bytes are here
	buf    []byte
	n      int64
}

func (b *body) read() error {
	if b.want > b.max {
		return fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLarge, b.want, b.max)
	}
	if need := max(b.want, 512); int64(cap(b.buf)) < need {
		if b.want < 0 {
			need = firstBuffer
		}
		if err := b.grow(int(need)); err != nil {
			return err
		}
	}
	for b.enough == 0 || b.n < b.enough {
		if b.n == b.want && b.want >= 0 && b.enough == 0 {
			// one more read, for the end that has to follow
			var one [1]byte
			n, err := b.r.Read(one[:])
			if n > 0 {
				return fmt.Errorf("%w: more than was announced", ErrTooLarge)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			continue
		}
		if len(b.buf) == cap(b.buf) {
			if b.n >= b.max {
				return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, b.max)
			}
			if err := b.grow(int(min(int64(2*cap(b.buf)), b.max+1))); err != nil {
				return err
			}
		}
		end := cap(b.buf)
		if b.enough > 0 {
			end = int(min(int64(end), b.enough))
		}
		n, err := b.r.Read(b.buf[len(b.buf):end])
		b.buf = b.buf[:len(b.buf)+n]
		b.n += int64(n)
		if n > 0 {
			b.alive(b.n)
		}
		if b.want >= 0 && b.n > b.want && b.enough == 0 {
			return fmt.Errorf("%w: more than was announced", ErrTooLarge)
		}
		if b.n > b.max {
			return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, b.max)
		}
		switch {
		case errors.Is(err, io.EOF) && b.want > 0 && b.n < b.want && b.enough == 0, errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: %d of %d bytes", ErrShort, b.n, b.want)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

func (b *body) grow(n int) error {
	var next []byte
	if b.mem == nil {
		next = make([]byte, n)
	} else {
		var err error
		if next, err = b.mem.Get(n); err != nil {
			return err
		}
	}
	next = next[:copy(next, b.buf)]
	if b.mem != nil && b.buf != nil {
		b.mem.Put(b.buf)
	}
	b.buf = next
	return nil
}

// unzip decompresses what was compressed without being asked for, to at most limit bytes.
func unzip(b []byte, limit int64, mem Memory) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	out := &body{r: z, want: -1, max: limit, alive: func(int64) {}, mem: mem}
	if err := out.read(); err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return out.buf, nil
}

// why takes the URL and the socket addresses out of an error of the network, and says which of our own limits it was.
func why(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		return cause
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Err != nil {
		err = fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}

// Hosts remembers which hosts did badly. It is safe for concurrent use, and may serve all rooms.
type Hosts struct {
	mu  sync.Mutex
	bad map[string]time.Time // until when
}

// penalty is how long a host that failed is left aside while there are others.
const penalty = 10 * time.Minute

// maxHosts bounds what is remembered.
const maxHosts = 1024

// Failed leaves a host aside for 10 minutes.
func (h *Hosts) Failed(host string, now time.Time) {
	if h == nil || host == "" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bad == nil {
		h.bad = map[string]time.Time{}
	}
	for k, until := range h.bad {
		if len(h.bad) >= maxHosts || now.After(until) {
			delete(h.bad, k)
		}
	}
	h.bad[host] = now.Add(penalty)
}

// Bad reports whether a host is left aside now.
func (h *Hosts) Bad(host string, now time.Time) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	until, known := h.bad[host]
	return known && now.Before(until)
}
