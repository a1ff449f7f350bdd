package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Op is what a request asks of S3.
type Op string

// The operations.
const (
	OpPut         Op = "PutObject"
	OpGet         Op = "GetObject"
	OpHead        Op = "HeadObject"
	OpDelete      Op = "DeleteObject"
	OpCreate      Op = "CreateMultipartUpload"
	OpPart        Op = "UploadPart"
	OpComplete    Op = "CompleteMultipartUpload"
	OpAbort       Op = "AbortMultipartUpload"
	OpListParts   Op = "ListParts"
	OpListUploads Op = "ListMultipartUploads"
	OpList        Op = "ListObjects"
	OpBucket      Op = "Bucket"
)

// Act is what the proxy does with a request. The zero value forwards it.
type Act struct {
	LoseAnswer bool          // forward it, then close the connection without the answer
	Hang       time.Duration // keep it for so long, then close the connection; nothing is forwarded
	Status     int           // answer with this status and RetryAfter; nothing is forwarded
	RetryAfter int           // seconds
	CloseAt    int64         // read so many bytes of the body, then close the connection; nothing is forwarded
	Flip       bool          // forward it with one bit of the body wrong
	Late       bool          // lists: answer as if the newest entry were not known yet
}

// Call is one request that went through the proxy.
type Call struct {
	Op       Op
	Key      string
	Upload   string
	Part     int
	Bytes    int64 // of the body
	At, Done time.Time
	Status   int  // of the store, 0 if it was not asked
	Told     bool // the client was given that answer
	Act      Act
}

// Proxy stands in front of an S3 server, remembers everything, and does what Fault says.
type Proxy struct {
	URL string

	target *url.URL
	fault  func(Call) Act
	rate   *pacer
	srv    *http.Server
	client *http.Transport
	wg     sync.WaitGroup

	mu    sync.Mutex
	calls []Call
}

// StartProxy puts a proxy in front of endpoint. fault may be nil; it is called one request at a time.
func StartProxy(t testing.TB, endpoint string, fault func(Call) Act) *Proxy {
	t.Helper()
	p, err := NewProxy(endpoint, fault, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// NewProxy is StartProxy outside of a test. rate limits the bodies of all requests together to so many bit/s; 0: off.
func NewProxy(endpoint string, fault func(Call) Act, rate float64) (*Proxy, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		URL: "http://" + ln.Addr().String(), target: u, fault: fault, rate: newPacer(rate),
		client: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32},
	}
	p.srv = &http.Server{Handler: p}
	p.wg.Go(func() { _ = p.srv.Serve(ln) }) // always "server closed"
	return p, nil
}

// Close closes all connections.
func (p *Proxy) Close() {
	_ = p.srv.Close() // nothing to be done about it
	p.wg.Wait()
	p.client.CloseIdleConnections()
}

// Calls is a copy of all requests so far.
func (p *Proxy) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Call(nil), p.calls...)
}

// Count counts calls.
func (p *Proxy) Count(match func(Call) bool) int {
	n := 0
	for _, c := range p.Calls() {
		if match(c) {
			n++
		}
	}
	return n
}

// Twice lists the chunks that were sent again although the store had accepted them.
func (p *Proxy) Twice() []string {
	type id struct {
		key  string
		part int
	}
	done := map[id]time.Time{}
	var out []string
	for _, c := range p.Calls() {
		if c.Op != OpPart {
			continue
		}
		k := id{c.Key, c.Part}
		if at, ok := done[k]; ok && c.At.After(at) {
			out = append(out, fmt.Sprintf("chunk %d of %s was accepted at %s and sent again at %s (upload %.8s)",
				c.Part, c.Key, at.Format("15:04:05.000"), c.At.Format("15:04:05.000"), c.Upload))
		}
		if c.Status == http.StatusOK && !c.Act.Flip {
			if _, ok := done[k]; !ok {
				done[k] = c.Done
			}
		}
	}
	return out
}

func operation(r *http.Request) Call {
	path := r.URL.Path
	c := Call{At: time.Now(), Bytes: max(0, r.ContentLength)}
	if len(path) > 1 {
		for i := 1; i < len(path); i++ {
			if path[i] == '/' {
				c.Key = path[i+1:]
				break
			}
		}
	}
	q := r.URL.Query()
	c.Upload = q.Get("uploadId")
	c.Part, _ = strconv.Atoi(q.Get("partNumber")) // 0 where there is none
	switch {
	case c.Key == "" && q.Has("uploads"):
		c.Op = OpListUploads
	case c.Key == "" && (q.Has("list-type") || q.Has("prefix")):
		c.Op = OpList
	case c.Key == "":
		c.Op = OpBucket
	case r.Method == http.MethodPost && q.Has("uploads"):
		c.Op = OpCreate
	case r.Method == http.MethodPost:
		c.Op = OpComplete
	case r.Method == http.MethodPut && c.Upload != "":
		c.Op = OpPart
	case r.Method == http.MethodPut:
		c.Op = OpPut
	case r.Method == http.MethodDelete && c.Upload != "":
		c.Op = OpAbort
	case r.Method == http.MethodDelete:
		c.Op = OpDelete
	case r.Method == http.MethodGet && c.Upload != "":
		c.Op = OpListParts
	case r.Method == http.MethodHead:
		c.Op = OpHead
	default:
		c.Op = OpGet
	}
	return c
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := operation(r)
	p.mu.Lock()
	if p.fault != nil {
		call.Act = p.fault(call)
	}
	i := len(p.calls)
	p.calls = append(p.calls, call)
	p.mu.Unlock()
	status, told := p.serve(w, r, call.Act)
	p.mu.Lock()
	p.calls[i].Done, p.calls[i].Status, p.calls[i].Told = time.Now(), status, told
	p.mu.Unlock()
	if !told && status >= 0 {
		panic(http.ErrAbortHandler)
	}
}

// serve returns the status of the store (-1: it was not asked, but the client has an answer) and whether the client was
// told.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, act Act) (int, bool) {
	switch {
	case act.Hang > 0:
		select {
		case <-time.After(act.Hang):
		case <-r.Context().Done():
		}
		return 0, false
	case act.Status != 0:
		if act.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(act.RetryAfter))
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(act.Status)
		code := "SlowDown"
		if act.Status != http.StatusServiceUnavailable {
			code = "InternalError"
		}
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>by the test</Message></Error>`, code)
		return -1, true
	case act.CloseAt > 0:
		_, _ = io.CopyN(io.Discard, r.Body, act.CloseAt) // whatever comes
		return 0, false
	}
	ctx := r.Context()
	if act.LoseAnswer {
		ctx = context.WithoutCancel(ctx) // the store must have it whatever the client does
	}
	body := p.rate.reader(ctx, r.Body)
	if act.Flip {
		body = &flipper{r: body, at: max(0, r.ContentLength/2)}
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, p.target.String()+r.URL.RequestURI(), io.NopCloser(body))
	if err != nil {
		return 0, false
	}
	out.Header = r.Header.Clone()
	out.Host = r.Host // it is signed
	out.ContentLength = r.ContentLength
	out.TransferEncoding = r.TransferEncoding
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	res, err := p.client.RoundTrip(out)
	if err != nil {
		return 0, false
	}
	defer res.Body.Close()
	if act.LoseAnswer {
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode, false
	}
	var from io.Reader = res.Body
	if act.Late {
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return res.StatusCode, false
		}
		from = bytes.NewReader(forget(b))
		res.Header.Del("Content-Length")
	}
	for k, v := range res.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(res.StatusCode)
	if _, err := io.Copy(w, from); err != nil {
		return res.StatusCode, false
	}
	return res.StatusCode, http.NewResponseController(w).Flush() == nil
}

var entries = regexp.MustCompile(`(?s)<(Part|Upload|Contents)>.*?</(Part|Upload|Contents)>`)

// forget takes the last entry out of a listing.
func forget(b []byte) []byte {
	all := entries.FindAllIndex(b, -1)
	if len(all) == 0 {
		return b
	}
	last := all[len(all)-1]
	return append(append([]byte(nil), b[:last[0]]...), b[last[1]:]...)
}

// flipper flips one bit at byte at.
type flipper struct {
	r  io.Reader
	at int64
}

func (f *flipper) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if f.at >= 0 && f.at < int64(n) {
		b[f.at] ^= 1
	}
	f.at -= int64(n)
	return n, err
}

// pacer is a line of limited rate, shared by all that read through it.
type pacer struct {
	perByte time.Duration
	mu      sync.Mutex
	free    time.Time
}

// lineSlack is how much of a line's time may be caught up.
const lineSlack = 300 * time.Millisecond

func newPacer(bitsPerSecond float64) *pacer {
	if bitsPerSecond <= 0 {
		return nil
	}
	return &pacer{perByte: time.Duration(8e9 / bitsPerSecond)}
}

func (p *pacer) reader(ctx context.Context, r io.Reader) io.Reader {
	if p == nil {
		return r
	}
	return &paced{p, ctx, r}
}

type paced struct {
	p   *pacer
	ctx context.Context
	r   io.Reader
}

func (r *paced) Read(b []byte) (int, error) {
	n, err := r.r.Read(b[:min(len(b), 16<<10)])
	if n == 0 {
		return n, err
	}
	r.p.mu.Lock()
	now := time.Now()
	// A busy machine sleeps longer than it was told to: what the line lost by that it gets back.
	if late := now.Add(-lineSlack); r.p.free.Before(late) {
		r.p.free = late
	}
	r.p.free = r.p.free.Add(time.Duration(n) * r.p.perByte)
	wait := r.p.free.Sub(now)
	r.p.mu.Unlock()
	select {
	case <-time.After(wait):
		return n, err
	case <-r.ctx.Done():
		return n, errors.Join(err, r.ctx.Err())
	}
}
