package bilibili

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

const (
	// young is how long an auth may be refused without that meaning anything (U 3.2).
	young = 10 * time.Second
	// rotate is after how many failures in a row another node is tried.
	rotate = 4
	// doubted is how often an auth has to be refused before it is believed, if the node does not say why.
	doubted = 2

	preuploadTime = 30 * time.Second
	initTime      = 60 * time.Second
	// completeTime is for the merging, which may take long (U 3.4).
	completeTime = 5 * time.Minute
)

// place is an object on its node: what the receipt keeps.
type place struct {
	Endpoint string    `json:"endpoint"` // "//upos-cs-upcdnbda2.bilivideo.com"
	URI      string    `json:"uri"`      // "upos://ugcfx2lf/n240728….flv"
	Auth     string    `json:"auth"`
	At       time.Time `json:"at"` // when the auth was given
	BizID    int64     `json:"biz_id"`
}

func (p place) url(endpoint string) string {
	return "https:" + endpoint + "/" + strings.TrimPrefix(p.URI, "upos://")
}

// file is what a submission calls the part (U 3.1).
func (p place) file() string {
	base := path.Base(p.URI)
	return strings.TrimSuffix(base, path.Ext(base))
}

func readPlace(s string) (place, error) {
	var p place
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return p, fmt.Errorf("read where an upload lies: %w", err)
	}
	if !p.sound() {
		return p, errors.New("read where an upload lies: something is missing")
	}
	return p, nil
}

func (p place) sound() bool {
	u, err := url.Parse("https:" + p.Endpoint)
	return err == nil && strings.HasPrefix(p.Endpoint, "//") && u.Host != "" && u.Path == "" && p.Auth != "" &&
		strings.HasPrefix(p.URI, "upos://") && len(p.file()) > 1 && !strings.ContainsAny(p.URI, "?#")
}

// state is the token: what another process needs to go on (U 3.6).
type state struct {
	place
	Endpoints []string `json:"endpoints"`
	UploadID  string   `json:"upload_id"`
	Chunk     int64    `json:"chunk"`
	Total     int64    `json:"total"` // as declared: the size, or while it grows the most that it can become
	Name      string   `json:"name"`
	UID       int64    `json:"uid"`
}

// spare is a preupload of which no upload is in the ledger yet.
type spare struct {
	state
	size int64
}

// profile is that of the tools whose flow has no further call (U 3.1).
const profile = "ugcupos/bup"

// Open begins an upload. A preupload whose init failed, or whose chunks are of another size than the ledger knew, is used
// by the next Open of the same object: each one counts against the account (U 3.1).
func (t *Target) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	op := "open " + o.Key
	client, governor, err := t.Account()
	if err != nil {
		return nil, err
	}
	total := o.Size
	if total < 0 {
		total = o.MaxSize
	}
	if total <= 0 {
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Code: "there is nothing in it"}
	}
	t.mu.Lock()
	s := t.spares[o.Key]
	t.mu.Unlock()
	if s == nil || s.size != total || s.Name != fileName(o) || time.Since(s.At) > authLife {
		if s, err = t.preupload(ctx, client, governor, op, fileName(o), total); err != nil {
			return nil, err
		}
		t.mu.Lock()
		t.spares[o.Key] = s
		t.mu.Unlock()
	}
	if s.Chunk != o.Chunk {
		return nil, &failure.Error{Op: op, Kind: failure.Permanent, Err: &uploader.OtherChunks{Size: s.Chunk}}
	}
	u := &upload{t: t, client: client, key: o.Key, state: s.state}
	if u.UploadID, err = u.init(ctx, op); err != nil {
		if errors.Is(err, failure.ErrAbsent) { // the preupload is worthless
			t.forget(o.Key)
		}
		return nil, err
	}
	t.mu.Lock()
	delete(t.spares, o.Key)
	t.live[o.Key] = u
	t.mu.Unlock()
	return u, nil
}

func (t *Target) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.spares, key)
}

// preupload asks for a place for an object.
func (t *Target) preupload(ctx context.Context, client *bilibili.Client, governor *bilibili.Governor, op, name string, total int64) (*spare, error) {
	if err := governor.Try(bilibili.Preupload); err != nil {
		return nil, err
	}
	query := url.Values{
		"name": {name}, "size": {strconv.FormatInt(total, 10)}, "r": {"upos"}, "profile": {profile},
		"ssl": {"0"}, "version": {"2.14.0"}, "build": {"2140000"},
	}
	line := t.line(ctx, client)
	for k, v := range line {
		query[k] = v
	}
	var a struct {
		Auth      string   `json:"auth"`
		BizID     int64    `json:"biz_id"`
		Chunk     int64    `json:"chunk_size"`
		Endpoint  string   `json:"endpoint"`
		Endpoints []string `json:"endpoints"`
		URI       string   `json:"upos_uri"`
	}
	used := client.Account().Credentials()
	err := client.Do(ctx, bilibili.Call{
		Op: op, URL: "https://member.bilibili.com/preupload", Query: query, As: bilibili.User, Shape: bilibili.Upload, Timeout: preuploadTime,
	}, &a)
	if err = t.alive(client, used, governor.Report(bilibili.Preupload, err)); err != nil {
		return nil, err
	}
	s := &spare{size: total, state: state{
		place:     place{Endpoint: wanted(a.Endpoint, a.Endpoints, line), URI: a.URI, Auth: a.Auth, At: time.Now(), BizID: a.BizID},
		Endpoints: a.Endpoints, Chunk: a.Chunk, Total: total, Name: name, UID: used.MID(),
	}}
	if !s.sound() || s.Chunk <= 0 {
		return nil, &failure.Error{Op: op, Code: "the answer names no place for the upload"}
	}
	if !slices.Contains(s.Endpoints, s.Endpoint) {
		s.Endpoints = append(s.Endpoints, s.Endpoint)
	}
	return s, nil
}

// Resume goes on in an upload of another process. Nodes list nothing, so the ledger's acks count. An auth that is too
// old, and an upload that a node has refused, are absent: only another preupload helps then (U 3.6).
func (t *Target) Resume(_ context.Context, o segment.Object, token string) (uploader.Upload, []segment.Ack, error) {
	op := "go on with " + o.Key
	client, _, err := t.Account()
	if err != nil {
		return nil, nil, err
	}
	u := &upload{t: t, client: client, key: o.Key}
	if err := json.Unmarshal([]byte(token), &u.state); err != nil || !u.sound() || u.UploadID == "" || u.Chunk <= 0 {
		return nil, nil, &failure.Error{Op: op, Code: "the note about it cannot be read", Err: failure.ErrAbsent}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.gone[u.UploadID]:
		return nil, nil, &failure.Error{Op: op, Code: "the node does not take it any more", Err: failure.ErrAbsent}
	case time.Since(u.At) > authLife:
		return nil, nil, &failure.Error{Op: op, Code: "its auth is too old", Err: failure.ErrAbsent}
	case o.Chunk != u.Chunk:
		return nil, nil, &failure.Error{Op: op, Code: "it has other chunks", Err: failure.ErrAbsent}
	}
	if old := t.live[o.Key]; old != nil && old.UploadID == u.UploadID {
		return old, nil, nil
	}
	t.live[o.Key] = u
	return u, nil, nil
}

// upload is one object on its way.
type upload struct {
	t      *Target
	client *bilibili.Client
	key    string
	state

	mu       sync.Mutex
	node     int // which of Endpoints is used; 0: Endpoint
	failures int // in a row
	refused  int // 403 without a reason
}

// Token is everything that is known.
func (u *upload) Token() string {
	b, err := json.Marshal(u.state) // it changes no more after Open
	if err != nil {
		panic(fmt.Sprintf("a token that is no JSON: %v", err)) // strings, numbers and a moment of ours
	}
	return string(b)
}

// address is the object on the node that is used now.
func (u *upload) address(query url.Values) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	node := u.Endpoint
	if u.node > 0 {
		i := slices.Index(u.Endpoints, u.Endpoint)
		node = u.Endpoints[(max(i, 0)+u.node)%len(u.Endpoints)]
	}
	return u.url(node) + "?" + query.Encode()
}

// ask makes one exchange with the node and gives the answer's body. Failures move on to the next node.
func (u *upload) ask(ctx context.Context, op, method string, query url.Values, body io.Reader, size int64, kind string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.address(query), body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("X-Upos-Auth", u.Auth)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := u.client.HTTP().Do(req)
	if err != nil {
		u.failed(ctx)
		return nil, weather(ctx, op, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		e := refusal(op, resp)
		return nil, u.judge(ctx, e, resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		u.failed(ctx)
		return nil, weather(ctx, op, err)
	}
	u.mu.Lock()
	u.failures, u.refused = 0, 0
	u.mu.Unlock()
	return b, nil
}

func (u *upload) failed(ctx context.Context) {
	if ctx.Err() != nil {
		return // that says nothing about the node
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failures++
	if u.failures >= rotate && len(u.Endpoints) > 1 {
		u.failures, u.node = 0, (u.node+1)%len(u.Endpoints)
	}
}

// judge says what a refusal of a node means: a fresh auth is sometimes refused (U 3.2), an old one and an unknown upload
// are gone for good (U 3.6), all else is weather.
func (u *upload) judge(ctx context.Context, e *failure.Error, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusForbidden:
		u.mu.Lock()
		u.refused++
		n := u.refused
		u.mu.Unlock()
		said := resp.Header.Get("X-Upos-Auth") != ""
		if !said && (time.Since(u.At) < young || n < doubted) {
			return e
		}
	case http.StatusNotFound, http.StatusGone:
	default:
		u.failed(ctx)
		return e
	}
	u.t.mu.Lock()
	if u.UploadID != "" {
		u.t.gone[u.UploadID] = true
	}
	u.t.mu.Unlock()
	e.Err = failure.ErrAbsent
	return e
}

// init opens the multipart upload.
func (u *upload) init(ctx context.Context, op string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, initTime)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		b, err := u.ask(ctx, op, http.MethodPost, url.Values{"uploads": {""}, "output": {"json"}}, nil, 0, "")
		if err == nil {
			var a struct {
				OK int    `json:"OK"`
				ID string `json:"upload_id"`
			}
			if jerr := json.Unmarshal(b, &a); jerr != nil || a.ID == "" {
				return "", &failure.Error{Op: op, Code: "no upload id in the answer"}
			}
			return a.ID, nil
		}
		fresh := time.Since(u.At) < young && strings.HasPrefix(codeOf(err), "HTTP 403") && !errors.Is(err, failure.ErrAbsent)
		if !fresh || !backoff.Sleep(ctx, wait) {
			return "", err
		}
	}
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*failure.Error](err); ok {
		return e.Code
	}
	return ""
}

// Put sends one chunk. Only number, upload and auth name it; the rest is exact all the same (U 3.3).
func (u *upload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	op := fmt.Sprintf("put chunk %d of %s", c.Index, u.key)
	if c.Length <= 0 || c.Offset != int64(c.Index)*u.Chunk || c.Length > u.Chunk || c.Offset+c.Length > u.Total {
		return segment.Ack{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: "it is no chunk of this upload"}
	}
	query := url.Values{
		"partNumber": {strconv.Itoa(c.Index + 1)}, "uploadId": {u.UploadID}, "chunk": {strconv.Itoa(c.Index)},
		"chunks": {strconv.FormatInt((u.Total+u.Chunk-1)/u.Chunk, 10)}, "size": {strconv.FormatInt(c.Length, 10)},
		"start": {strconv.FormatInt(c.Offset, 10)}, "end": {strconv.FormatInt(c.Offset+c.Length, 10)},
		"total": {strconv.FormatInt(u.Total, 10)},
	}
	r := &reading{body: body, left: c.Length}
	defer r.end()
	_, err := u.ask(ctx, op, http.MethodPut, query, io.NopCloser(r), c.Length, "application/octet-stream")
	if err != nil {
		return segment.Ack{}, err
	}
	sum, left := r.read()
	if left != 0 { // the node answered before it had everything
		return segment.Ack{}, &failure.Error{Op: op, Err: fmt.Errorf("%w: answered %d bytes before the end", failure.ErrDamaged, left)}
	}
	return segment.Ack{Chunk: c, Sum: sum, Tag: "etag"}, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// reading is the body of one exchange: it sums what is sent, and lets nobody read from the segment after the exchange.
type reading struct {
	mu   sync.Mutex
	body io.Reader
	sum  uint32
	left int64
	over bool
}

var errOver = errors.New("this exchange is over")

func (r *reading) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.over:
		return 0, errOver
	case r.left == 0:
		return 0, io.EOF
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
	r.sum = crc32.Update(r.sum, castagnoli, p[:n])
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *reading) read() (sum uint32, left int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sum, r.left
}

func (r *reading) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// Commit has the node merge the chunks. The list names what was really sent (U 4.3), contiguous from the first.
func (u *upload) Commit(ctx context.Context, o segment.Object, acks []segment.Ack) (segment.Receipt, error) {
	op := "complete " + o.Key
	type part struct {
		Number int    `json:"partNumber"`
		ETag   string `json:"eTag"`
	}
	parts := make([]part, len(acks))
	var size int64
	for i, a := range acks {
		if a.Index != i || a.Offset != size || a.Length <= 0 || a.Length != u.Chunk && i < len(acks)-1 {
			return segment.Receipt{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: fmt.Sprintf("chunk %d is missing", i)}
		}
		parts[i] = part{i + 1, "etag"}
		size += a.Length
	}
	if size != o.Size || size == 0 {
		return segment.Receipt{}, &failure.Error{Op: op, Kind: failure.Permanent, Code: fmt.Sprintf("chunks of %d bytes for %d", size, o.Size)}
	}
	body, err := json.Marshal(map[string]any{"parts": parts})
	if err != nil {
		return segment.Receipt{}, fmt.Errorf("%s: %w", op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	query := url.Values{
		"output": {"json"}, "name": {u.Name}, "profile": {profile}, "uploadId": {u.UploadID}, "biz_id": {strconv.FormatInt(u.BizID, 10)},
	}
	var a struct {
		OK   int    `json:"OK"`
		ETag string `json:"etag"`
	}
	b, err := u.ask(ctx, op, http.MethodPost, query, bytes.NewReader(body), int64(len(body)), "application/json")
	switch {
	case errors.Is(err, failure.ErrAbsent):
		// Perhaps it was completed, and the node has forgotten the upload: the object knows.
		if n, lerr := length(ctx, u.client.HTTP(), op, u.place, size); lerr != nil || n != size {
			return segment.Receipt{}, err
		}
	case err != nil:
		return segment.Receipt{}, err
	default:
		if err := json.Unmarshal(b, &a); err != nil || a.OK != 1 {
			return segment.Receipt{}, &failure.Error{Op: op, Code: "the answer says neither yes nor no"}
		}
	}
	detail, err := json.Marshal(u.place)
	if err != nil {
		return segment.Receipt{}, fmt.Errorf("%s: %w", op, err)
	}
	return segment.Receipt{Key: strings.TrimPrefix(u.URI, "upos://"), Size: size, Tag: u.file(), Sum: a.ETag, Detail: string(detail)}, nil
}

// Abort leaves the upload to its own end: no call for it is known, and what was never completed is never seen.
func (u *upload) Abort(context.Context) error {
	u.t.mu.Lock()
	defer u.t.mu.Unlock()
	if u.t.live[u.key] == u {
		delete(u.t.live, u.key)
	}
	u.t.gone[u.UploadID] = true
	return nil
}
