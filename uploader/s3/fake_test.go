package s3

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a strict S3 in memory. It holds requests to the rules that real stores hold them to (part sizes, part order,
// checksums, upload ids, conditions), knows nothing of signatures, and can be told to misbehave.
type fake struct {
	t      *testing.T
	srv    *httptest.Server
	bucket string
	part   int64 // smallest part but the last
	page   int   // entries of a listing

	mu      sync.Mutex
	objects map[string]*fakeObject
	uploads map[string]*fakeUpload
	ids     int
	log     []string // "PUT part 1", one for each request that arrived

	// Ways of the store.
	noChecksums bool // knows no x-amz-checksum-*: ignores them
	rejects     bool // answers 501 to headers that it does not know: checksums and conditions
	hideUploads int  // listings of uploads that are still empty, counted down
	noListing   bool // lists no uploads at all
	encrypts    bool // ETags are no MD5s
	bare        bool // leaves the number of parts out of composites
	whole       bool // keeps the CRC-32C of the whole instead of composites
	discreet    bool // does not say at the creation that it will check CRC-32C

	// trouble decides about a request; see fate.
	trouble func(what string, nth int) fate
	times   map[string]int
}

// fate is what becomes of a request. The zero fate lets it through.
type fate struct {
	status     int    // answered at once, nothing is done
	code       string // of the answer
	header     http.Header
	lost       bool // done, but the connection breaks instead of an answer
	cut        bool // the connection breaks in the middle of the request's body
	flip       bool // one byte of the body arrives wrong
	inside     bool // 200, and an error in the body
	short      bool // the answer's body breaks off
	wrongStore bool // one byte is stored wrong, and all is said to be well
	html       bool // a page that is no S3
}

type fakeObject struct {
	data []byte
	etag string
	crc  string // as a HEAD shows it
	meta http.Header
}

type fakeUpload struct {
	key   string
	crc   bool
	meta  http.Header
	parts map[int]*fakePart
}

type fakePart struct {
	data []byte
	etag string
	crc  string
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, bucket: "bucket", part: 64 << 10, page: 1000, objects: map[string]*fakeObject{}, uploads: map[string]*fakeUpload{}, times: map[string]int{}}
	f.srv = httptest.NewServer(f)
	t.Cleanup(f.srv.Close)
	return f
}

// target is a client as a new process has one.
func (f *fake) target(t *testing.T, change ...func(*Config)) *Target {
	t.Helper()
	cfg := Config{
		Bucket: f.bucket, Prefix: "live", Endpoint: f.srv.URL, part: f.part,
		Getenv: env("AWS_ACCESS_KEY_ID", "AK", "AWS_SECRET_ACCESS_KEY", "SK"),
	}
	for _, c := range change {
		c(&cfg)
	}
	target, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target
}

// env is an environment of names and values in turn.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// count tells how many requests of a kind came.
func (f *fake) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, l := range f.log {
		if l == what || strings.HasPrefix(l, what+" ") {
			n++
		}
	}
	return n
}

func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

// with runs act while no request is served.
func (f *fake) with(act func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	act()
}

// get is the object under a key, nil if there is none.
func (f *fake) get(key string) *fakeObject {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects["live/"+key]
}

// put makes o the object under a key, nil takes it away.
func (f *fake) put(key string, o *fakeObject) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o == nil {
		delete(f.objects, "live/"+key)
		return
	}
	f.objects["live/"+key] = o
}

// behave sets what becomes of requests from now on. trouble is called with the fake locked.
func (f *fake) behave(trouble func(what string, nth int) fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = trouble
	clear(f.times)
}

// what names a request.
func what(r *http.Request, key string) string {
	q := r.URL.Query()
	switch {
	case key == "" && q.Has("uploads"):
		return "LIST uploads"
	case key == "" && q.Has("location"):
		return "GET location"
	case key == "":
		return r.Method + " bucket"
	case q.Has("uploads"):
		return "CREATE"
	case q.Has("uploadId") && r.Method == http.MethodGet:
		return "LIST parts"
	case q.Has("uploadId") && r.Method == http.MethodPut:
		return "PUT part " + q.Get("partNumber")
	case q.Has("uploadId") && r.Method == http.MethodPost:
		return "COMPLETE"
	case q.Has("uploadId") && r.Method == http.MethodDelete:
		return "ABORT"
	}
	return r.Method + " object"
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	bucket, rawKey, _ := strings.Cut(path, "/")
	key, err := url.PathUnescape(rawKey)
	if err != nil {
		f.t.Errorf("key %q: %v", rawKey, err)
	}
	name := what(r, key)
	f.mu.Lock()
	f.log = append(f.log, name)
	f.times[name]++
	nth := f.times[name]
	var ft fate
	if f.trouble != nil {
		ft = f.trouble(name, nth)
	}
	f.mu.Unlock()

	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AK/") {
		f.fail(w, r, http.StatusForbidden, "AccessDenied", nil)
		return
	}
	if sha := r.Header.Get("X-Amz-Content-Sha256"); strings.HasPrefix(sha, "STREAMING") {
		f.t.Errorf("%s: signed in chunks", name)
	}
	switch {
	case ft.html:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(max(ft.status, 200))
		fmt.Fprint(w, "<html><body>It works!</body></html>")
		return
	case ft.status != 0:
		f.fail(w, r, ft.status, ft.code, ft.header)
		return
	}
	body := io.Reader(r.Body)
	if ft.cut {
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		panic(http.ErrAbortHandler)
	}
	data, err := io.ReadAll(body)
	if err != nil || r.ContentLength >= 0 && int64(len(data)) != r.ContentLength {
		return // the client went away
	}
	if ft.flip && len(data) > 0 {
		data[len(data)/2] ^= 1
	}
	rec := httptest.NewRecorder()
	f.serve(rec, r, bucket, key, name, data, ft)
	if ft.lost {
		panic(http.ErrAbortHandler)
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	if ft.inside {
		w.Header().Set("Content-Type", "application/xml")
		fmt.Fprint(w, "<?xml version=\"1.0\"?>\n\n<Error><Code>InternalError</Code><Message>We encountered an internal error. Please try again.</Message></Error>")
		return
	}
	out := rec.Body.Bytes()
	if r.Method != http.MethodHead {
		w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	}
	w.WriteHeader(rec.Code)
	if ft.short {
		_, _ = w.Write(out[:len(out)/2])
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(out)
}

func (f *fake) fail(w http.ResponseWriter, r *http.Request, status int, code string, h http.Header) {
	for k, v := range h {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead && code != "" {
		fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>it is %s</Message><Region>%s</Region></Error>", code, code, h.Get("X-Region"))
	}
}

func crc64(data []byte) string { return base64CRC(crc32.Checksum(data, castagnoli)) }

func (f *fake) etag(data []byte) string {
	sum := md5.Sum(data)
	if f.encrypts {
		sum = md5.Sum(append([]byte("key"), data...))
	}
	return hex.EncodeToString(sum[:])
}

// checkBody is what S3 checks of a body before it answers.
func (f *fake) checkBody(w http.ResponseWriter, r *http.Request, data []byte) bool {
	if v := r.Header.Get("X-Amz-Checksum-Crc32c"); v != "" && !f.noChecksums && v != crc64(data) {
		f.fail(w, r, http.StatusBadRequest, "XAmzContentChecksumMismatch", nil)
		return false
	}
	sum := md5.Sum(data)
	if v := r.Header.Get("Content-Md5"); v != "" && v != base64.StdEncoding.EncodeToString(sum[:]) {
		f.fail(w, r, http.StatusBadRequest, "BadDigest", nil)
		return false
	}
	if v := r.Header.Get("X-Amz-Content-Sha256"); v != "UNSIGNED-PAYLOAD" {
		if s := sha256.Sum256(data); v != hex.EncodeToString(s[:]) {
			f.fail(w, r, http.StatusBadRequest, "XAmzContentSHA256Mismatch", nil)
			return false
		}
	}
	return true
}

func meta(h http.Header) http.Header {
	m := http.Header{}
	for k, v := range h {
		if strings.HasPrefix(k, "X-Amz-Meta-") || k == "Content-Type" {
			m[k] = v
		}
	}
	return m
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request, bucket, key, name string, data []byte, ft fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bucket != f.bucket {
		f.fail(w, r, http.StatusNotFound, "NoSuchBucket", nil)
		return
	}
	if f.rejects {
		for k := range r.Header {
			if strings.HasPrefix(k, "X-Amz-Checksum-") && r.Method != http.MethodHead && r.Method != http.MethodGet || k == "If-None-Match" {
				f.fail(w, r, http.StatusNotImplemented, "NotImplemented", nil)
				return
			}
		}
	}
	q := r.URL.Query()
	u := f.uploads[q.Get("uploadId")]
	if q.Has("uploadId") && (u == nil || u.key != key) {
		f.fail(w, r, http.StatusNotFound, "NoSuchUpload", nil)
		return
	}
	switch kind, _, _ := strings.Cut(name, " "); {
	case name == "HEAD bucket":
	case name == "GET location":
		fmt.Fprint(w, `<LocationConstraint>us-east-1</LocationConstraint>`)
	case name == "LIST uploads":
		f.listUploads(w, r, q)
	case name == "CREATE":
		f.ids++
		id := fmt.Sprintf("id/%d+&=", f.ids) // ids are opaque and may need escaping
		f.uploads[id] = &fakeUpload{key: key, meta: meta(r.Header), crc: r.Header.Get("X-Amz-Checksum-Algorithm") == "CRC32C" && !f.noChecksums, parts: map[int]*fakePart{}}
		if f.uploads[id].crc && !f.discreet {
			w.Header().Set("X-Amz-Checksum-Algorithm", "CRC32C")
		}
		f.xml(w, struct {
			XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
			Bucket   string
			Key      string
			UploadID string `xml:"UploadId"`
		}{Bucket: bucket, Key: key, UploadID: id})
	case kind == "PUT" && u != nil:
		n, err := strconv.Atoi(q.Get("partNumber"))
		if err != nil || n < 1 || n > 10000 {
			f.fail(w, r, http.StatusBadRequest, "InvalidArgument", nil)
			return
		}
		if u.crc && r.Header.Get("X-Amz-Checksum-Crc32c") == "" {
			f.fail(w, r, http.StatusBadRequest, "InvalidRequest", nil)
			return
		}
		if !f.checkBody(w, r, data) {
			return
		}
		p := &fakePart{etag: f.etag(data)}
		if u.crc {
			p.crc = crc64(data)
			w.Header().Set("X-Amz-Checksum-Crc32c", p.crc)
		}
		if ft.wrongStore {
			data[len(data)/2] ^= 1
		}
		p.data = data
		u.parts[n] = p
		w.Header().Set("ETag", `"`+p.etag+`"`)
	case name == "LIST parts":
		f.listParts(w, q, u)
	case name == "ABORT":
		delete(f.uploads, q.Get("uploadId"))
		w.WriteHeader(http.StatusNoContent)
	case name == "COMPLETE":
		f.complete(w, r, bucket, key, q.Get("uploadId"), u, data)
	case name == "PUT object":
		if f.objects[key] != nil && r.Header.Get("If-None-Match") == "*" {
			f.fail(w, r, http.StatusPreconditionFailed, "PreconditionFailed", nil)
			return
		}
		if !f.checkBody(w, r, data) {
			return
		}
		o := &fakeObject{etag: f.etag(data), meta: meta(r.Header)}
		if r.Header.Get("X-Amz-Checksum-Crc32c") != "" && !f.noChecksums {
			o.crc = crc64(data)
			w.Header().Set("X-Amz-Checksum-Crc32c", o.crc)
		}
		if ft.wrongStore {
			data[len(data)/2] ^= 1
		}
		o.data = data
		f.objects[key] = o
		w.Header().Set("ETag", `"`+o.etag+`"`)
	case name == "HEAD object", name == "GET object":
		o := f.objects[key]
		if o == nil {
			f.fail(w, r, http.StatusNotFound, "NoSuchKey", nil)
			return
		}
		for k, v := range o.meta {
			w.Header()[k] = v
		}
		w.Header().Set("ETag", `"`+o.etag+`"`)
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", strconv.Itoa(len(o.data)))
		if o.crc != "" && r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
			crc := o.crc
			if f.bare {
				crc, _, _ = strings.Cut(crc, "-")
			}
			if f.whole {
				crc = crc64(o.data)
			}
			w.Header().Set("X-Amz-Checksum-Crc32c", crc)
		}
		if name == "GET object" {
			_, _ = w.Write(o.data)
		}
	default:
		f.t.Errorf("unexpected request %s %s", r.Method, r.URL)
		f.fail(w, r, http.StatusNotImplemented, "NotImplemented", nil)
	}
}

func (f *fake) xml(w io.Writer, v any) {
	if err := xml.NewEncoder(w).Encode(v); err != nil {
		f.t.Error(err)
	}
}

func (f *fake) listUploads(w http.ResponseWriter, r *http.Request, q url.Values) {
	type upload struct {
		Key      string
		UploadID string `xml:"UploadId"`
	}
	var all []upload
	for id, u := range f.uploads {
		if strings.HasPrefix(u.key, q.Get("prefix")) {
			all = append(all, upload{url.QueryEscape(u.key), id})
		}
	}
	sort.Slice(all, func(i, j int) bool {
		return all[i].Key < all[j].Key || all[i].Key == all[j].Key && all[i].UploadID < all[j].UploadID
	})
	if f.hideUploads > 0 {
		f.hideUploads--
		all = nil
	}
	if f.noListing {
		f.fail(w, r, http.StatusNotImplemented, "NotImplemented", nil)
		return
	}
	res := struct {
		XMLName            xml.Name `xml:"ListMultipartUploadsResult"`
		EncodingType       string
		IsTruncated        bool
		NextKeyMarker      string
		NextUploadIDMarker string   `xml:"NextUploadIdMarker"`
		Uploads            []upload `xml:"Upload"`
	}{EncodingType: "url"}
	for _, u := range all {
		k, _ := url.QueryUnescape(u.Key)
		if m := q.Get("key-marker"); m != "" && (k < m || k == m && u.UploadID <= q.Get("upload-id-marker")) {
			continue
		}
		if len(res.Uploads) == f.page {
			res.IsTruncated = true
			break
		}
		res.Uploads = append(res.Uploads, u)
		res.NextKeyMarker, res.NextUploadIDMarker = u.Key, url.QueryEscape(u.UploadID)
	}
	f.xml(w, res)
}

func (f *fake) listParts(w io.Writer, q url.Values, u *fakeUpload) {
	type part struct {
		PartNumber     int
		ETag           string
		Size           int
		ChecksumCRC32C string `xml:",omitempty"`
	}
	res := struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		Key                  string
		UploadID             string `xml:"UploadId"`
		IsTruncated          bool
		NextPartNumberMarker int
		Parts                []part `xml:"Part"`
	}{Key: u.key, UploadID: q.Get("uploadId")}
	var ns []int
	for n := range u.parts {
		ns = append(ns, n)
	}
	slices.Sort(ns)
	marker, _ := strconv.Atoi(q.Get("part-number-marker"))
	for _, n := range ns {
		if n <= marker {
			continue
		}
		if len(res.Parts) == f.page {
			res.IsTruncated = true
			break
		}
		p := u.parts[n]
		res.Parts = append(res.Parts, part{n, `"` + p.etag + `"`, len(p.data), p.crc})
		res.NextPartNumberMarker = n
	}
	f.xml(w, res)
}

func (f *fake) complete(w http.ResponseWriter, r *http.Request, bucket, key, id string, u *fakeUpload, body []byte) {
	var req struct {
		Parts []struct {
			PartNumber     int
			ETag           string
			ChecksumCRC32C string
		} `xml:"Part"`
	}
	if err := xml.Unmarshal(body, &req); err != nil || len(req.Parts) == 0 {
		f.fail(w, r, http.StatusBadRequest, "MalformedXML", nil)
		return
	}
	if f.objects[key] != nil && r.Header.Get("If-None-Match") == "*" {
		f.fail(w, r, http.StatusPreconditionFailed, "PreconditionFailed", nil)
		return
	}
	var all []byte
	var etags []string
	var crcs []uint32
	last := 0
	for i, p := range req.Parts {
		have := u.parts[p.PartNumber]
		switch {
		case p.PartNumber <= last:
			f.fail(w, r, http.StatusBadRequest, "InvalidPartOrder", nil)
			return
		case have == nil || strings.Trim(p.ETag, `"`) != have.etag || u.crc && p.ChecksumCRC32C != have.crc:
			f.fail(w, r, http.StatusBadRequest, "InvalidPart", nil)
			return
		case i < len(req.Parts)-1 && int64(len(have.data)) < f.part:
			f.fail(w, r, http.StatusBadRequest, "EntityTooSmall", nil)
			return
		case i > 0 && i < len(req.Parts)-1 && len(have.data) != len(u.parts[req.Parts[0].PartNumber].data):
			f.t.Errorf("part %d of %s has another size than the first", p.PartNumber, key)
		}
		last = p.PartNumber
		all = append(all, have.data...)
		etags = append(etags, have.etag)
		if c, ok := parseCRC(have.crc); ok {
			crcs = append(crcs, c)
		}
	}
	o := &fakeObject{data: bytes.Clone(all), etag: compositeMD5(etags), meta: u.meta}
	if u.crc {
		o.crc = composite(crcs)
	}
	f.objects[key] = o
	delete(f.uploads, id)
	f.xml(w, struct {
		XMLName        xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket         string
		Key            string
		ETag           string
		ChecksumCRC32C string `xml:",omitempty"`
	}{Bucket: bucket, Key: key, ETag: `"` + o.etag + `"`, ChecksumCRC32C: o.crc})
}
