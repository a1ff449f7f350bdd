package rig

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// HLSMedia is a stretch of numbered media in segments, as ffmpeg cut it.
type HLSMedia struct {
	Ext   string // "ts" or "m4s"
	Init  []byte // fMP4 only
	Segs  []HLSBody
	First uint64 // number of the first picture
	Last  uint64
}

// HLSBody is one segment.
type HLSBody struct {
	Data     []byte
	Duration time.Duration
	First    uint64 // numbers of its pictures
	Last     uint64
}

// HLSCut says how to make an HLSMedia.
type HLSCut struct {
	First  uint64
	Length time.Duration // media
	FMP4   bool
	Offset time.Duration // clock of the first picture
	Small  bool          // the other clip: 480x270
	Codec  []string      // ffmpeg's options to encode with; nil: the numbered pictures as they are
}

// picturesPerSegment is what the built-in clip has between two key frames times its rate: segments of 2 s.
const picturesPerSegment = 60

// CutHLS makes numbered media. ffmpeg does the cutting: this code must not share the recorder's idea of a container.
func CutHLS(ctx context.Context, dir string, c HLSCut) (*HLSMedia, error) {
	cfg := liveroom.Config{Speed: 40, Duration: c.Length, First: c.First, Backlog: time.Hour}
	if c.Small {
		cfg.Changes = []time.Duration{0}
	}
	dir, err := os.MkdirTemp(dir, "hls")
	if err != nil {
		return nil, err
	}
	flv := filepath.Join(dir, "in.flv")
	for n := 1; ; n++ {
		whole, err := broadcast(ctx, cfg, flv)
		if err != nil {
			return nil, err
		}
		if whole {
			break
		}
		if n == 20 {
			return nil, errors.New("the built-in room is never read from its first picture on: this machine is too busy")
		}
	}
	kind, ext := "mpegts", "ts"
	if c.FMP4 {
		kind, ext = "fmp4", "m4s"
	}
	args := []string{"-v", "error", "-i", flv, "-map", "0:v:0", "-map", "0:a:0", "-c", "copy"}
	if c.Codec != nil {
		args = append(args[:len(args)-2], c.Codec...)
	}
	args = append(args, "-output_ts_offset", strconv.FormatFloat(c.Offset.Seconds(), 'f', 3, 64), "-muxdelay", "0", "-f", "hls", "-hls_time", "2",
		"-hls_list_size", "0", "-hls_segment_type", kind, "-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", filepath.Join(dir, "s%d."+ext),
		filepath.Join(dir, "list.m3u8"))
	cmd := exec.CommandContext(ctx, "ffmpeg", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ffmpeg: %w: %s", err, out)
	}
	m := &HLSMedia{Ext: ext, First: c.First}
	if c.FMP4 {
		if m.Init, err = os.ReadFile(filepath.Join(dir, "init.mp4")); err != nil {
			return nil, err
		}
	}
	list, err := os.Open(filepath.Join(dir, "list.m3u8"))
	if err != nil {
		return nil, err
	}
	defer list.Close()
	var length time.Duration
	next := c.First
	for lines := bufio.NewScanner(list); lines.Scan(); {
		line := lines.Text()
		if v, ok := strings.CutPrefix(line, "#EXTINF:"); ok {
			s, err := strconv.ParseFloat(strings.TrimSuffix(v, ","), 64)
			if err != nil {
				return nil, err
			}
			length = time.Duration(s * float64(time.Second))
		}
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, path.Base(line)))
		if err != nil {
			return nil, err
		}
		n := uint64((length + time.Second/60) * 30 / time.Second)
		m.Segs = append(m.Segs, HLSBody{Data: data, Duration: length, First: next, Last: next + n - 1})
		next += n
	}
	m.Last = next - 1
	return m, os.RemoveAll(dir)
}

// broadcast runs a room and reads it. whole says that it was read from the first picture on: where the machine is busy, the
// room may be beyond it before the request comes.
func broadcast(ctx context.Context, cfg liveroom.Config, flv string) (whole bool, err error) {
	room, err := liveroom.New(cfg)
	if err != nil {
		return false, err
	}
	server, err := room.Listen(ctx)
	if err != nil {
		return false, err
	}
	defer server.Close()
	reading, missed := context.WithCancel(ctx)
	defer missed()
	ran := make(chan error, 1)
	go func() {
		err := room.Run(ctx)
		if len(room.Connections()) == 0 {
			missed()
		}
		ran <- err
	}()
	err = fetch(reading, server.URL, flv)
	if gone := <-ran; gone != nil {
		return false, gone
	}
	if err != nil && reading.Err() != nil {
		return false, nil // it was over before the request came
	}
	if err != nil {
		return false, fmt.Errorf("read the built-in room: %w", err)
	}
	r, err := probe.CheckFile(flv)
	if err != nil {
		return false, fmt.Errorf("look at the built-in room's stream: %w", err)
	}
	return len(r.Numbers) > 0 && r.Numbers[0] == cfg.First, nil
}

func fetch(ctx context.Context, url, to string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for {
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if res.StatusCode == http.StatusNotFound { // not live yet
			res.Body.Close()
			time.Sleep(5 * time.Millisecond)
			continue
		}
		f, err := os.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, res.Body)
		res.Body.Close()
		return errors.Join(err, f.Close())
	}
}

// HLSSegment is one entry of the live list.
type HLSSegment struct {
	Name   string // as the list has it, unless Path says otherwise
	Body   HLSBody
	Before []string // lines in front of its EXTINF
	Title  string
	// Key and IV encrypt it.
	Key, IV []byte
	NoIV    bool // the list does not say the vector
	Range   bool // it is a range of one resource for all such segments
	from    int
	Init    []byte // fMP4: of this segment; a new EXT-X-MAP stands where it changes
}

// HLSList is what a list says at one moment.
type HLSList struct {
	Head     []string // lines behind EXTM3U
	Target   int
	Sequence int
	Segments []*HLSSegment
	End      bool
	Text     string // replaces everything
}

// HLSRequest is one request as the fault sees it.
type HLSRequest struct {
	Path string // without the query
	Host string // host:port that was asked
	Kind string // "master", "list", "segment", "init", "key"
	N    int    // of this path, from 0
	At   time.Duration
	HTTP *http.Request
}

// HLSAnswer is what a request gets instead of what it asked for. The zero value changes nothing.
type HLSAnswer struct {
	Status int
	Body   []byte
	Delay  time.Duration
	Cut    int  // so many bytes of the body, with the length of all of it
	Short  int  // so many bytes, declared as that
	Hang   bool // nothing until the client leaves
}

// HLSConfig is a live HLS room.
type HLSConfig struct {
	Segments []*HLSSegment
	Every    time.Duration // a segment joins the list; default its own duration
	Window   int           // segments in the list; default 5
	Master   func(o *HLS, base string) string
	List     func(l *HLSList, at time.Duration) // changes a list before it is written
	Fault    func(r HLSRequest) HLSAnswer
	Query    string // behind every name in lists ("?t=1")
	Hosts    int    // how many addresses there are; default 1
}

// HLS is a running room. Its first request starts its clock.
type HLS struct {
	cfg     HLSConfig
	URLs    []string // of the hosts, without a path
	servers []*http.Server
	lists   []net.Listener

	mu     sync.Mutex
	start  time.Time
	counts map[string]int
	log    []HLSRequest
	whole  []byte // of the ranges
}

// RunHLS starts a room. Close it.
func RunHLS(cfg HLSConfig) (*HLS, error) {
	if cfg.Window == 0 {
		cfg.Window = 5
	}
	if cfg.Hosts == 0 {
		cfg.Hosts = 1
	}
	o := &HLS{cfg: cfg, counts: map[string]int{}}
	for i, s := range cfg.Segments {
		if s.Name == "" {
			s.Name = fmt.Sprintf("seg%d.ts", i)
		}
		if s.Range {
			s.from = len(o.whole)
			o.whole = append(o.whole, s.Body.Data...)
		}
	}
	for range cfg.Hosts {
		ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			o.Close()
			return nil, err
		}
		srv := &http.Server{Handler: o, ReadHeaderTimeout: time.Minute}
		o.lists, o.servers, o.URLs = append(o.lists, ln), append(o.servers, srv), append(o.URLs, "http://"+ln.Addr().String())
		go srv.Serve(ln)
	}
	return o, nil
}

// URL is what a person would type.
func (o *HLS) URL() string {
	if o.cfg.Master != nil {
		return o.URLs[0] + "/master.m3u8"
	}
	return o.URLs[0] + "/live.m3u8"
}

// Close stops it.
func (o *HLS) Close() {
	for _, s := range o.servers {
		s.Close()
	}
}

// Kill stops one of the hosts for ever.
func (o *HLS) Kill(host int) { o.servers[host].Close() }

// Length is how long it takes until the last segment is in the list.
func (o *HLS) Length() time.Duration {
	var d time.Duration
	for i := range o.cfg.Segments {
		d = o.due(i)
	}
	return d
}

// due is when a segment joins the list: when its media would have been made.
func (o *HLS) due(n int) time.Duration {
	var d time.Duration
	for i := 0; i <= n; i++ {
		if o.cfg.Every > 0 {
			d += o.cfg.Every
		} else {
			d += o.cfg.Segments[i].Body.Duration
		}
	}
	return d - min(d, 4*time.Second) // two segments are there at once
}

// Requests are all so far.
func (o *HLS) Requests() []HLSRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]HLSRequest(nil), o.log...)
}

func (o *HLS) note(r *http.Request, kind string) HLSRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.start.IsZero() {
		o.start = time.Now()
	}
	q := HLSRequest{Path: r.URL.Path, Host: r.Host, Kind: kind, N: o.counts[r.URL.Path], At: time.Since(o.start), HTTP: r}
	o.counts[r.URL.Path]++
	o.log = append(o.log, q)
	return q
}

func (o *HLS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	kind := "segment"
	switch {
	case name == "master.m3u8":
		kind = "master"
	case strings.HasSuffix(name, ".m3u8"):
		kind = "list"
	case strings.HasPrefix(name, "init"):
		kind = "init"
	case strings.HasPrefix(name, "key"):
		kind = "key"
	}
	q := o.note(r, kind)
	var a HLSAnswer
	if o.cfg.Fault != nil {
		a = o.cfg.Fault(q)
	}
	if a.Hang {
		<-r.Context().Done()
		return
	}
	if a.Delay > 0 {
		select {
		case <-time.After(a.Delay):
		case <-r.Context().Done():
			return
		}
		q.At += a.Delay
	}
	body := a.Body
	if body == nil && (a.Status == 0 || a.Status == http.StatusOK) {
		body = o.body(w, r, kind, name, q.At)
		if body == nil {
			http.NotFound(w, r)
			return
		}
	}
	status := http.StatusOK
	if a.Status != 0 {
		status = a.Status
	} else if kind == "segment" && r.Header.Get("Range") != "" {
		status = http.StatusPartialContent
	}
	if a.Short > 0 {
		body = body[:min(a.Short, len(body))]
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	if a.Cut > 0 {
		w.Write(body[:min(a.Cut, len(body))])
		if c, ok := w.(http.Flusher); ok {
			c.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	w.Write(body)
}

func (o *HLS) body(w http.ResponseWriter, r *http.Request, kind, name string, at time.Duration) []byte {
	switch kind {
	case "master":
		if o.cfg.Master == nil {
			return nil
		}
		return []byte(o.cfg.Master(o, "http://"+r.Host))
	case "list":
		return []byte(o.list(at))
	case "init":
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "init"), ".mp4"))
		if err != nil || n >= len(o.cfg.Segments) {
			return nil
		}
		return o.cfg.Segments[n].Init
	case "key":
		n, err := strconv.Atoi(strings.TrimPrefix(name, "key"))
		if err != nil || n >= len(o.cfg.Segments) {
			return nil
		}
		return o.cfg.Segments[n].Key
	}
	if name == "all.ts" {
		var from, to int
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n != 2 || from > to || to >= len(o.whole) {
			return nil
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(o.whole)))
		return o.whole[from : to+1]
	}
	// The newest segment of a name that is there: names come again after a restart of the packager.
	for i := len(o.cfg.Segments) - 1; i >= 0; i-- {
		s := o.cfg.Segments[i]
		if s.Name != name || o.due(i) > at {
			continue
		}
		if s.Key != nil {
			return seal(s.Body.Data, s.Key, s.IV)
		}
		return s.Body.Data
	}
	return nil
}

func (o *HLS) list(at time.Duration) string {
	l := HLSList{}
	last := -1
	for i := range o.cfg.Segments {
		if o.due(i) <= at {
			last = i
		}
	}
	l.Sequence = max(0, last+1-o.cfg.Window)
	l.Segments = o.cfg.Segments[l.Sequence : last+1]
	l.End = last == len(o.cfg.Segments)-1
	for _, s := range o.cfg.Segments {
		l.Target = max(l.Target, int((s.Body.Duration + time.Second/2).Seconds()))
	}
	if o.cfg.List != nil {
		o.cfg.List(&l, at)
	}
	if l.Text != "" {
		return l.Text
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:%d\n#EXT-X-MEDIA-SEQUENCE:%d\n", l.Target, l.Sequence)
	for _, h := range l.Head {
		b.WriteString(h + "\n")
	}
	var init []byte
	for _, s := range l.Segments {
		for _, line := range s.Before {
			b.WriteString(line + "\n")
		}
		n := 0
		for i := range o.cfg.Segments {
			if o.cfg.Segments[i] == s {
				n = i
			}
		}
		if s.Init != nil && !bytes.Equal(init, s.Init) {
			first := n
			for first > 0 && bytes.Equal(o.cfg.Segments[first-1].Init, s.Init) {
				first--
			}
			fmt.Fprintf(&b, "#EXT-X-MAP:URI=\"init%d.mp4%s\"\n", first, o.cfg.Query)
			init = s.Init
		}
		if s.Key != nil {
			for first := n; first > 0 && bytes.Equal(o.cfg.Segments[first-1].Key, s.Key); first-- {
				n = first - 1
			}
			fmt.Fprintf(&b, "#EXT-X-KEY:METHOD=AES-128,URI=\"key%d%s\"", n, o.cfg.Query)
			if !s.NoIV {
				fmt.Fprintf(&b, ",IV=0x%x", s.IV)
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "#EXTINF:%.6f,%s\n", s.Body.Duration.Seconds(), s.Title)
		if s.Range {
			fmt.Fprintf(&b, "#EXT-X-BYTERANGE:%d@%d\nall.ts%s\n", len(s.Body.Data), s.from, o.cfg.Query)
			continue
		}
		b.WriteString(s.Name + o.cfg.Query + "\n")
	}
	if l.End {
		b.WriteString("#EXT-X-ENDLIST\n")
	}
	return b.String()
}

// seal encrypts as AES-128 of HLS wants it.
func seal(data, key, iv []byte) []byte {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	n := aes.BlockSize - len(data)%aes.BlockSize
	out := append(bytes.Clone(data), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(c, iv).CryptBlocks(out, out)
	return out
}

// SequenceIV is the initialisation vector of a segment without one.
func SequenceIV(sequence int) []byte {
	iv := make([]byte, 16)
	binary.BigEndian.PutUint64(iv[8:], uint64(sequence))
	return iv
}
