package bilitest

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Knobs are what the real service does in more than one way, or in its own time. They may be changed at any moment
// through Studio.Turn.
type Knobs struct {
	Chunk     int64         // chunk_size; 0: 10 MiB (U 3.1)
	Fresh     int           // so many first uses of an auth are refused with 403 (U 3.2, U 9.2)
	OtherNode bool          // preupload names another node than the one that was asked for (U 2.4)
	Uploads   int           // preuploads of one user within Window; 0: any number (U 9.1)
	Window    time.Duration // 0: an hour
	Style     int           // of that refusal: 0 code 601 with voucher, 1 the older body, 2 an HTML page
	Sloppy    bool          // size, start, end, chunk and chunks of a PUT are not looked at, as the real server (U 3.3)
	Whole     bool          // complete refuses fewer chunks than were declared (U 9.2)
	Forgets   bool          // an upload that was completed is not known any more
	NoRange   bool          // GET answers the whole object

	Gap       time.Duration // between two submissions of one user, else 21070 (U 9.3); 0: none
	Daily     int           // submissions of one user a day by one interface, else 21566 (U 9.3: another one still works); 0: any number
	ListLate  time.Duration // how late list and view show a change
	First     time.Duration // from submission to the first renditions
	Second    time.Duration // from those to the end of the transcode
	Review    time.Duration // from the last change to state 0
	WebAdd    int64         // the code with which web add refuses; 0: it works
	WebEdit   int64         // the same of web edit
	Transcode func(Part) Outcome
}

// Part is what a transcode is told.
type Part struct {
	File string // server's name
	Name string // as preupload was told
	Data []byte
	AID  int64
}

// Outcome is what becomes of a part.
type Outcome struct {
	Fail     int     // fail code; 0: it goes well
	Late     bool    // fails in the second stage only (U 6.3)
	Duration float64 // seconds; 0: as the file has it
}

// Studio is the uploads and submissions of a Server.
type Studio struct {
	s *Server

	mu       sync.Mutex
	k        Knobs
	objects  map[string]*object // by bucket/key
	files    map[string]*object // by server name
	pre      map[int64][]time.Time
	ids      int64
	archives map[int64]*archive
	adds     map[int64][]time.Time
	daily    map[string][]time.Time // by user and interface
	history  []Change
	made     int
}

type object struct {
	path, file, name string
	uid              int64
	biz              int64
	auth             string
	at               time.Time
	fresh            int
	size             int64
	uploads          map[string]map[int][]byte
	declared         map[string]int
	done             map[string]bool
	data             []byte // nil until it was completed
	puts             map[int]int
}

// lineNames are the nodes of the stand-in (U 2.3).
var lineNames = []string{"bda2", "bldsa", "tx"}

func nodeOf(line string) string { return "upos-cs-upcdn" + line + ".bilivideo.com" }

// NewStudio adds uploads and submissions to a stand-in, before its first request.
func NewStudio(s *Server) *Studio {
	t := &Studio{
		s: s, objects: map[string]*object{}, files: map[string]*object{}, pre: map[int64][]time.Time{}, ids: 500001630152509,
		archives: map[int64]*archive{}, adds: map[int64][]time.Time{}, daily: map[string][]time.Time{},
	}
	s.Handle("GET member.bilibili.com/preupload", t.preupload)
	for _, l := range lineNames {
		s.Handle(nodeOf(l)+"/", t.node)
		s.Handle(nodeOf(l)+"/OK", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }) // U 9.1
	}
	t.handleSubmissions()
	return t
}

// Turn changes knobs.
func (t *Studio) Turn(f func(*Knobs)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.k)
}

func (t *Studio) chunk() int64 {
	if t.k.Chunk > 0 {
		return t.k.Chunk
	}
	return 10 << 20
}

// Object is a stored object as it is now.
type Object struct {
	File, Name string
	Data       []byte      // nil: not completed
	Puts       map[int]int // how often each chunk was stored, by part number
}

// Objects are all that were ever preuploaded, by server name.
func (t *Studio) Objects() []Object {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Object
	for _, f := range slices.Sorted(maps.Keys(t.files)) {
		o := t.files[f]
		out = append(out, Object{o.file, o.name, o.data, maps.Clone(o.puts)})
	}
	return out
}

// Spoil changes an object behind everybody's back.
func (t *Studio) Spoil(file string, f func(data []byte) []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.files[file]; o != nil {
		o.data = f(slices.Clone(o.data))
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func (t *Studio) preupload(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("r") == "probe" { // U 2.1: no login needed
		var lines []map[string]any
		for _, l := range lineNames {
			lines = append(lines, map[string]any{"os": "upos", "query": "probe_version=20250923&upcdn=" + l + "&zone=cs", "probe_url": "//" + nodeOf(l) + "/OK"})
		}
		writeJSON(w, 200, map[string]any{"OK": 1, "lines": lines, "probe": map[string]any{"post": 0.1}})
		return
	}
	u, _ := t.s.ByCookie(r)
	if u == nil { // U 3.1: not logged in
		w.WriteHeader(http.StatusForbidden)
		return
	}
	now := t.s.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	window := t.k.Window
	if window == 0 {
		window = time.Hour
	}
	t.pre[u.MID] = slices.DeleteFunc(t.pre[u.MID], func(at time.Time) bool { return now.Sub(at) >= window })
	if t.k.Uploads > 0 && len(t.pre[u.MID]) >= t.k.Uploads { // U 3.1: too many preuploads
		const slow = "您上传视频过快，请您稍作休息后再继续"
		switch t.k.Style {
		case 1:
			writeJSON(w, http.StatusNotAcceptable, map[string]any{"code": 406, "message": slow})
		case 2:
			w.WriteHeader(http.StatusNotAcceptable)
			_, _ = io.WriteString(w, "<!DOCTYPE html><html><title>出错啦</title></html>")
		default:
			writeJSON(w, http.StatusNotAcceptable, map[string]any{"OK": 0, "info": slow, "code": 601, "message": slow,
				"detail": map[string]any{"v_voucher": "voucher_00000000-0000-0000-0000-000000000000"}})
		}
		return
	}
	t.pre[u.MID] = append(t.pre[u.MID], now)
	size, err := strconv.ParseInt(q.Get("size"), 10, 64)
	ext := path.Ext(q.Get("name"))
	profile := q.Get("profile")
	if err != nil || size <= 0 || ext == "" || q.Get("r") != "upos" || profile != "ugcupos/bup" && profile != "ugcfx/bup" { // U 9.1
		writeJSON(w, 200, map[string]any{"OK": 0, "info": "bad request"})
		return
	}
	t.ids += 7
	o := &object{
		file: fmt.Sprintf("n%s%016x", now.Format("060102"), uint64(t.ids)*0x9e3779b97f4a7c15), name: q.Get("name"), uid: u.MID, biz: t.ids, at: now, size: size,
		fresh: t.k.Fresh, uploads: map[string]map[int][]byte{}, declared: map[string]int{}, done: map[string]bool{}, puts: map[int]int{},
	}
	o.path = "ugcfx2lf/" + o.file + ext
	line := q.Get("upcdn")
	if !slices.Contains(lineNames, line) {
		line = lineNames[0]
	}
	if t.k.OtherNode {
		line = lineNames[(slices.Index(lineNames, line)+1)%len(lineNames)]
	}
	sign := md5.Sum([]byte(o.path))
	o.auth = fmt.Sprintf("ak=1494471752&cdn=%s&os=upos&sign=%s&timestamp=%d.%03d&uid=%d&uip=203.0.113.9&uport=52096&use_dqp=0",
		url.QueryEscape("//"+nodeOf(line)), hex.EncodeToString(sign[:]), now.Unix(), now.Nanosecond()/1e6, u.MID)
	t.objects[o.path], t.files[o.file] = o, o
	var all []string
	for _, l := range lineNames {
		all = append(all, "//"+nodeOf(l))
	}
	writeJSON(w, 200, map[string]any{
		"OK": 1, "auth": o.auth, "biz_id": o.biz, "chunk_retry": 10, "chunk_retry_delay": 3, "chunk_size": t.chunk(),
		"endpoint": "//" + nodeOf(line), "endpoints": all, "expose_params": nil, "put_query": "os=upos&profile=" + url.QueryEscape(profile),
		"threads": 3, "timeout": 1200, "uip": "203.0.113.9", "upos_uri": "upos://" + o.path,
	})
}

// node is an upload node.
func (t *Studio) node(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<30))
	if err != nil || r.ContentLength >= 0 && int64(len(body)) != r.ContentLength {
		panic(http.ErrAbortHandler) // it broke off on the way
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now, q := t.s.Now(), r.URL.Query()
	o := t.objects[strings.TrimPrefix(r.URL.Path, "/")]
	if o == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	auth := r.Header.Get("X-Upos-Auth")
	switch {
	case r.Header.Get("Cookie") != "": // U 0.2: no cookie is needed; ours must not send one
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "a cookie came here")
		return
	case auth != o.auth: // U 9.2
		w.WriteHeader(http.StatusForbidden)
		return
	case now.Sub(o.at) > 5*24*time.Hour: // U 3.5
		w.Header().Set("X-Upos-Auth", fmt.Sprintf("AUTH_TS_GT_5DAY AUTH=%s Now=%d DURATION=%d", auth, now.Unix(), int(now.Sub(o.at).Seconds())))
		w.WriteHeader(http.StatusForbidden)
		return
	case o.fresh > 0: // U 3.2
		o.fresh--
		w.WriteHeader(http.StatusForbidden)
		return
	}
	id := q.Get("uploadId")
	switch {
	case r.Method == http.MethodGet:
		t.read(w, r, o)
	case r.Method == http.MethodPost && q.Has("uploads"):
		sum := md5.Sum(fmt.Appendf(nil, "%s %d", o.path, len(o.uploads)))
		id = hex.EncodeToString(sum[:])
		o.uploads[id] = map[int][]byte{}
		if q.Get("output") != "json" { // U 3.2
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
			return
		}
		bucket, key, _ := strings.Cut(o.path, "/")
		writeJSON(w, 200, map[string]any{"OK": 1, "bucket": bucket, "key": "/" + key, "upload_id": id})
	case o.uploads[id] == nil: // U 9.2
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPut:
		t.put(w, r, o, id, q, body)
	case r.Method == http.MethodPost:
		t.complete(w, o, id, q)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (t *Studio) put(w http.ResponseWriter, r *http.Request, o *object, id string, q url.Values, body []byte) {
	num := func(key string) int64 {
		n, err := strconv.ParseInt(q.Get(key), 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	n, chunk, total := num("partNumber"), t.chunk(), num("total")
	if n < 1 || n > 10000 || len(body) == 0 || r.ContentLength < 0 { // U 9.2
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if o.done[id] && t.k.Forgets {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	start := (n - 1) * chunk
	full := int64(len(body)) == chunk || start+int64(len(body)) == total
	growing := total == o.size && int64(len(body)) < chunk                                                                 // the last one of an upload whose size was declared too large
	if !t.k.Sloppy && (num("size") != int64(len(body)) || num("start") != start || num("end") != start+int64(len(body)) || // U 9.2, strict
		num("chunk") != n-1 || total != o.size || num("chunks") != (total+chunk-1)/chunk || !full && !growing) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "strict: "+q.Encode())
		return
	}
	o.uploads[id][int(n)] = slices.Clone(body) // the last write wins, U 3.3
	o.declared[id] = int(num("chunks"))
	o.puts[int(n)]++
	_, _ = io.WriteString(w, "MULTIPART_PUT_SUCCESS")
}

func (t *Studio) complete(w http.ResponseWriter, o *object, id string, q url.Values) {
	if q.Get("name") == "" || q.Get("biz_id") != strconv.FormatInt(o.biz, 10) { // U 3.4
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if o.done[id] && t.k.Forgets {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	parts := o.uploads[id]
	highest := 0
	for n := range parts {
		highest = max(highest, n)
	}
	expect := highest
	if t.k.Whole {
		expect = o.declared[id]
	}
	if len(parts) == 0 || len(parts) != expect { // U 3.4: a hole
		writeJSON(w, http.StatusInternalServerError, map[string]any{
			"error":     fmt.Sprintf("/data/app/bvcupos_stor/ctrl/multipart.lua:210: PART_COUNT_ERR_GOT_%d_EXPECT_%d", len(parts), expect),
			"http_code": 500, "reqid": "", "title": "UposstorException",
		})
		return
	}
	var data []byte
	for n := 1; n <= highest; n++ {
		data = append(data, parts[n]...)
	}
	o.data, o.done[id] = data, true
	bucket, key, _ := strings.Cut(o.path, "/")
	writeJSON(w, 200, map[string]any{"OK": 1, "location": o.path, "bucket": bucket, "key": "/" + key, "etag": "591659056"})
}

func (t *Studio) read(w http.ResponseWriter, r *http.Request, o *object) {
	if o.data == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if t.k.NoRange {
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(o.data))
}

// TestPart makes the content of a part that plays so many seconds, n bytes long: only this stand-in knows how long it
// is.
func TestPart(seconds float64, n int) []byte {
	b := fmt.Appendf(nil, "%s%f\n", testPart, seconds)
	for len(b) < n {
		b = append(b, byte(len(b)*7))
	}
	return b
}

const testPart = "liverec test part "

// playTime is how long a file plays, as far as it is whole: its declared length for a test part, the time stamps of
// the tags for an FLV, 0 for anything else (U 9.3: derived from the stored file).
func playTime(data []byte) float64 {
	if rest, ok := bytes.CutPrefix(data, []byte(testPart)); ok {
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		f, _ := strconv.ParseFloat(string(line), 64) // ours, or 0
		return f
	}
	if len(data) < 13 || string(data[:3]) != "FLV" {
		return 0
	}
	var first, last, before int64 = -1, 0, 0
	var step int64
	for p := 13; p+11 <= len(data); {
		size := int(data[p+1])<<16 | int(data[p+2])<<8 | int(data[p+3])
		if p+11+size+4 > len(data) {
			break
		}
		if kind := data[p] & 0x1f; kind == 9 {
			at := int64(binary.BigEndian.Uint32(data[p+4:p+8])>>8) | int64(data[p+7])<<24
			if first < 0 {
				first = at
			}
			if at > before && before > 0 {
				step = at - before
			}
			before, last = at, max(last, at)
		}
		p += 11 + size + 4
	}
	if first < 0 {
		return 0
	}
	return float64(last-first+step) / 1000
}

// Store puts an object in place as an upload of u does, and gives its server name.
func (t *Studio) Store(u *User, name string, data []byte) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids += 7
	o := &object{
		file: fmt.Sprintf("n%s%016x", t.s.Now().Format("060102"), uint64(t.ids)*0x9e3779b97f4a7c15), name: name, uid: u.MID, biz: t.ids, at: t.s.Now(),
		size: int64(len(data)), uploads: map[string]map[int][]byte{}, declared: map[string]int{}, done: map[string]bool{}, puts: map[int]int{}, data: data,
	}
	o.path = "ugcfx2lf/" + o.file + path.Ext(name)
	t.objects[o.path], t.files[o.file] = o, o
	return o.file
}
