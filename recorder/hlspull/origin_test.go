package hlspull_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/recorder/hlspull"
)

// frames per segment of the made-up stream: video 4/s, sound 10/s; a segment has 2 s.
const (
	segDur    = 2 * time.Second
	videoRate = 4
	soundRate = 10
	scale     = 1000
)

func unhex(_ testing.TB, s string) []byte {

	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func box(typ string, parts ...[]byte) []byte {
	b := append([]byte{0, 0, 0, 0}, typ...)
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func u32(ns ...uint32) []byte {
	var b []byte
	for _, n := range ns {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

func u16(ns ...uint16) []byte {
	var b []byte
	for _, n := range ns {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

const (
	vid = 1
	aud = 2
)

// initSection has the tracks that are asked for. stamp goes into the creation time, which means nothing.
func initSection(t testing.TB, tracks int, stamp uint32, level byte) []byte {
	avcC := append([]byte{1, 0x64, 0, level, 0xff, 0xe1}, sps(t, level)...)
	avcC = append(avcC, 1, 0, 5)
	avcC = append(avcC, unhex(t, "68ebecb22c")...)
	avcC = append(avcC, 0xfd, 0xf8, 0xf8, 0)
	entry := box("avc1", u32(0), u16(0, 1), make([]byte, 16), u16(320, 180), u32(0x480000, 0x480000, 0), u16(1), make([]byte, 32), u16(0x18, 0xffff), box("avcC", avcC))
	esds := box("esds", u32(0), []byte{3, 25, 0, 1, 0, 4, 17, 0x40, 0x15, 0, 0, 0}, u32(128000, 128000), []byte{5, 2, 0x11, 0x90, 6, 1, 2})
	mp4a := box("mp4a", u32(0), u16(0, 1), u32(0, 0), u16(2, 16, 0, 0), u32(48000<<16), esds)
	trak := func(id uint32, handler string, head, sample []byte) []byte {
		empty := func(typ string, n int) []byte { return box(typ, make([]byte, n)) }
		return box("trak", box("tkhd", u32(7, stamp, stamp, id, 0, 0), make([]byte, 60)),
			box("mdia", box("mdhd", u32(0, stamp, stamp, scale, 0), u16(0x55c4, 0)), box("hdlr", u32(0, 0), []byte(handler), make([]byte, 13)),
				box("minf", head, box("stbl", box("stsd", u32(0, 1), sample), empty("stts", 8), empty("stsc", 8), empty("stsz", 12), empty("stco", 8)))))
	}
	trex := func(id uint32) []byte { return box("trex", u32(0, id, 1, 0, 0, 0)) }
	var traks, trexs []byte
	if tracks&vid != 0 {
		traks = append(traks, trak(1, "vide", box("vmhd", u32(1, 0, 0)), entry)...)
		trexs = append(trexs, trex(1)...)
	}
	if tracks&aud != 0 {
		traks = append(traks, trak(2, "soun", box("smhd", u32(0, 0)), mp4a)...)
		trexs = append(trexs, trex(2)...)
	}
	return append(box("ftyp", []byte("iso6"), u32(0)), box("moov", box("mvhd", u32(0, stamp, stamp, 1000, 0, 0x10000), make([]byte, 76)), traks, box("mvex", trexs))...)
}

// sps is a parameter set of 320x180; only its level differs.
func sps(t testing.TB, level byte) []byte {
	s := unhex(t, "6764000cacd941419f9f011000000300100000030320f1429960")
	s[3] = level
	return append(u16(uint16(len(s))), s...)
}

// segmentOf is segment n with the tracks that are asked for. at is the clock of frame 0, in ms. version of tfdt is 0 or 1.
func segmentOf(n, tracks int, at int64, version byte, salt byte) []byte {
	return flaggedSegment(n, tracks, at, version, salt, 0x02000000, 0x01010000)
}

// flaggedSegment is one whose sample flags of a key, and of the other pictures, are as they are said to be.
func flaggedSegment(n, tracks int, at int64, version byte, salt byte, key, other uint32) []byte {
	type run struct {
		id      uint32
		samples [][]byte
		flags   []uint32
		base    int64
		lasts   uint32
	}
	var runs []run
	if tracks&vid != 0 {
		r := run{id: 1, lasts: scale / videoRate}
		per := int(segDur/time.Second) * videoRate
		for i := range per {
			ord := n*per + i
			nal := byte(0x41)
			flags := other
			if i == 0 {
				nal, flags = 0x65, key
			}
			body := append([]byte{nal, 0x88, salt}, fmt.Sprintf("v%08d", ord)...)
			r.samples = append(r.samples, append(u32(uint32(len(body))), body...))
			r.flags = append(r.flags, flags)
		}
		r.base = at + int64(n*per)*int64(r.lasts)
		runs = append(runs, r)
	}
	if tracks&aud != 0 {
		r := run{id: 2, lasts: scale / soundRate}
		per := int(segDur/time.Second) * soundRate
		for i := range per {
			r.samples = append(r.samples, append([]byte{0x21, salt}, fmt.Sprintf("a%08d", n*per+i)...))
			r.flags = append(r.flags, 0x02000000)
		}
		r.base = at + int64(n*per)*int64(r.lasts)
		runs = append(runs, r)
	}
	build := func(size int) []byte {
		offset := size + 8
		var trafs, data []byte
		for _, r := range runs {
			trun := u32(0x000701, uint32(len(r.samples)), uint32(offset))
			for i, s := range r.samples {
				trun = append(trun, u32(r.lasts, uint32(len(s)), r.flags[i])...)
				data = append(data, s...)
				offset += len(s)
			}
			tfdt := append([]byte{1, 0, 0, 0}, binary.BigEndian.AppendUint64(nil, uint64(r.base))...)
			if version == 0 {
				tfdt = append([]byte{0, 0, 0, 0}, u32(uint32(r.base))...)
			}
			trafs = append(trafs, box("traf", box("tfhd", u32(0x020000, r.id)), box("tfdt", tfdt), box("trun", trun))...)
		}
		moof := box("moof", box("mfhd", u32(0, uint32(n+1))), trafs)
		if size == 0 {
			return moof
		}
		return append(moof, box("mdat", data)...)
	}
	return append(box("styp", []byte("msdh"), u32(0)), build(len(build(0)))...)
}

// reply is one answer of an origin.
type reply struct {
	status int
	header http.Header
	body   []byte
	after  time.Duration  // latency
	rate   int            // bytes/s of the body; 0: at once
	cut    int            // > 0: the connection breaks after so many bytes
	length int            // Content-Length if it is a lie; 0: honest
	hang   bool           // no answer at all
	to     string         // redirect
	line   *line          // the body comes over a line that all share
	read   func(sent int) // called before each piece of the body, and at its end; nil: not
}

func ok(b []byte) reply { return reply{status: 200, body: b} }
func no(code int) reply { return reply{status: code} }

// origin answers requests in memory.
type origin struct {
	begun  time.Time
	handle func(r *http.Request, at time.Duration) reply
	resume bool // whoever runs goes on after an end that is none, with the place

	mu   sync.Mutex
	asks []string // "host path?query"
}

func (o *origin) asked(part string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.asks {
		if strings.Contains(a, part) {
			n++
		}
	}
	return n
}

func (o *origin) RoundTrip(req *http.Request) (*http.Response, error) {
	o.mu.Lock()
	o.asks = append(o.asks, req.URL.Host+" "+req.URL.RequestURI())
	r := o.handle(req, time.Since(o.begun))
	o.mu.Unlock()
	if r.hang {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	if r.after > 0 {
		t := time.NewTimer(r.after)
		defer t.Stop()
		select {
		case <-t.C:
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	if r.header == nil {
		r.header = http.Header{}
	}
	if r.to != "" {
		r.status = 302
		r.header.Set("Location", r.to)
	}
	length, announced := len(r.body), len(r.body)
	if r.length != 0 {
		announced = r.length
		length = max(announced, 0)
	}
	return &http.Response{StatusCode: r.status, Header: r.header, Request: req, ContentLength: int64(announced), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: &stream{ctx: req.Context(), b: r.body, rate: r.rate, cut: r.cut, length: length, line: r.line, begun: o.begun, read: r.read}}, nil
}

// stream is a body that comes at a rate, and may break.
type stream struct {
	ctx       context.Context
	b         []byte
	rate, cut int
	length    int
	sent      int
	line      *line
	begun     time.Time
	read      func(sent int)
}

func (s *stream) Read(p []byte) (int, error) {
	if s.read != nil {
		p = p[:min(len(p), 1<<20)]
		s.read(s.sent)
	}
	if s.cut > 0 && s.sent >= s.cut {
		return 0, io.ErrUnexpectedEOF
	}
	if s.sent >= len(s.b) {
		if s.sent < s.length {
			return 0, io.ErrUnexpectedEOF
		}
		return 0, io.EOF
	}
	n := min(len(p), len(s.b)-s.sent)
	if s.cut > 0 {
		n = min(n, s.cut-s.sent)
	}
	if s.rate > 0 {
		n = min(n, max(s.rate/10, 1))
		t := time.NewTimer(time.Duration(n) * time.Second / time.Duration(s.rate))
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.ctx.Done():
			return 0, s.ctx.Err()
		}
	}
	if s.line != nil {
		n = min(n, 32<<10)
		t := time.NewTimer(s.line.carry(n, time.Since(s.begun)))
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.ctx.Done():
			return 0, s.ctx.Err()
		}
	}
	copy(p, s.b[s.sent:s.sent+n])
	s.sent += n
	return n, nil
}

func (s *stream) Close() error { return nil }

// channel is a live stream: segment n is there from (n+1)·2 s on.
type channel struct {
	window int
	msn    int // number of segment 0
	total  int // segments in all, then ENDLIST; 0: no end
	dates  bool
	name   func(n int) string // path of segment n
	head   string
	tag    func(n int) string // lines before segment n
	base   time.Time
}

func (c *channel) last(at time.Duration) int {
	n := int(at/segDur) - 1 + c.window // it began long ago enough to have a full window
	if c.total > 0 {
		n = min(n, c.total-1)
	}
	return n
}

func (c *channel) list(at time.Duration) []byte {
	last := c.last(at)
	return c.span(max(last-c.window+1, 0), last, c.total > 0 && last == c.total-1)
}

func (c *channel) span(first, last int, ended bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:%d\n%s", c.msn+first, c.head)
	if c.head == "" {
		b.WriteString("#EXT-X-MAP:URI=\"init.mp4\"\n")
	}
	for n := first; n <= last; n++ {
		if c.tag != nil {
			b.WriteString(c.tag(n))
		}
		if c.dates {
			fmt.Fprintf(&b, "#EXT-X-PROGRAM-DATE-TIME:%s\n", c.base.Add(time.Duration(n)*segDur).Format(time.RFC3339Nano))
		}
		name := fmt.Sprintf("s%d.m4s", n)
		if c.name != nil {
			name = c.name(n)
		}
		fmt.Fprintf(&b, "#EXTINF:2.0,\n%s\n", name)
	}
	if ended {
		b.WriteString("#EXT-X-ENDLIST\n")
	}
	return b.Bytes()
}

// number is the segment that a path names, -1 if none.
func number(path string) int {
	n := -1
	base := path[strings.LastIndexByte(path, '/')+1:]
	fmt.Sscanf(base, "s%d.", &n)
	return n
}

// seam is a Join as a test compares it.
type seam struct {
	before int // video frames that came before it
	media.Seam
}

// result is what came out of a Run.
type result struct {
	grades       []string // what the quality was called, at changes
	video, sound []int    // ordinals, in order of arrival
	salts        []byte
	dts          [3][]time.Duration
	seams        []seam
	kinds        string // v a V A j, one for each packet
	configs      int
	told         []string // each configuration, and how many frames of video came before it
	count        media.Count
	err          error
	took         time.Duration
	place        []byte
	asks         *origin
	runs         int
	hold         func() // called before the first batch is taken; nil: not
}

func (r *result) gaps() (total time.Duration, why []string) {
	for _, s := range r.seams {
		if s.Missing > 0 {
			total += s.Missing
			why = append(why, s.Why)
		}
	}
	return total, why
}

// run pulls from an origin until it ends, or for so long.
func run(t *testing.T, cfg hlspull.Config, o *origin, limit time.Duration) *result {
	t.Helper()
	o.begun = time.Now()
	cfg.Transport = o
	if cfg.URL == "" {
		cfg.URL = "http://a.example/live/index.m3u8"
	}
	if testing.Verbose() {
		cfg.Log = zerolog.New(zerolog.NewTestWriter(t)).Hook(zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
			e.Dur("at", time.Since(o.begun))
		}))
	} else {
		cfg.Log = zerolog.Nop()
	}
	res := &result{asks: o}
	for begun := time.Now(); ; {
		s, err := hlspull.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		drive(t, s, res, limit-time.Since(begun))
		if !o.resume || errors.Is(res.err, hlspull.ErrEnd) || time.Since(begun) >= limit {
			return res
		}
		res.runs++
		cfg.Place = res.place
		time.Sleep(time.Second)
	}
}

func drive(t *testing.T, s *hlspull.Source, res *result, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out := make(chan *media.Batch, 4)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res.hold != nil {
			res.hold()
		}
		for b := range out {
			if q := s.Quality(); len(res.grades) == 0 || res.grades[len(res.grades)-1] != q {
				res.grades = append(res.grades, q)
			}
			res.take(t, b)
			b.Release()
		}
	}()
	begun := time.Now()
	res.err = s.Run(ctx, out)
	res.took = time.Since(begun)
	close(out)
	<-done
	if c := res.count; c.Received != c.Header+c.Tags+c.Junk+c.Partial {
		t.Errorf("balance: %+v", c)
	}
}

func (r *result) take(t *testing.T, b *media.Batch) {
	if c := b.Count; c.Received != c.Header+c.Tags+c.Junk+c.Partial {
		t.Errorf("balance of a batch: %+v", c)
	}
	r.count.Received += b.Count.Received
	r.count.Header += b.Count.Header
	r.count.Tags += b.Count.Tags
	r.count.Junk += b.Count.Junk
	r.count.Partial += b.Count.Partial
	for i := range b.Packets {
		p := &b.Packets[i]
		switch p.Kind {
		case media.Join:
			r.kinds += "j"
			s := seam{len(r.video), *p.Seam}
			r.place = s.Place
			r.seams = append(r.seams, s)
			if !json.Valid(s.Place) {
				t.Errorf("place %q", s.Place)
			}
		case media.VideoConfig, media.AudioConfig:
			r.kinds += map[media.Kind]string{media.VideoConfig: "V", media.AudioConfig: "A"}[p.Kind]
			r.configs++
			what := "unreadable"
			if info, err := codec.Parse(p.Codec, p.Body); err == nil && p.Kind == media.VideoConfig {
				what = fmt.Sprintf("%dx%d", info.Width, info.Height)
			} else if err == nil {
				what = fmt.Sprintf("%d Hz %d", info.SampleRate, info.Channels)
			}
			r.told = append(r.told, fmt.Sprintf("%v %s @%d", p.Codec, what, len(r.video)))
		case media.Video, media.Audio:
			k, list := "v", &r.video
			if p.Kind == media.Audio {
				k, list = "a", &r.sound
			}
			r.kinds += k
			at := bytes.LastIndex(p.Body, []byte(k+"0"))
			if at < 0 {
				t.Errorf("frame %q", p.Body)
				continue
			}
			n := 0
			fmt.Sscanf(string(p.Body[at+1:]), "%d", &n)
			*list = append(*list, n)
			if k == "v" {
				r.salts = append(r.salts, p.Body[at-1])
				if p.Key != (n%(int(segDur/time.Second)*videoRate) == 0) {
					t.Errorf("frame %d: key %v", n, p.Key)
				}
			}
			kind := vid
			if k == "a" {
				kind = aud
			}
			r.dts[kind] = append(r.dts[kind], p.Exact)
			if p.DTS != int64(p.Exact/time.Millisecond) || p.Sum == 0 {
				t.Errorf("DTS %d, exact %v, sum %x", p.DTS, p.Exact, p.Sum)
			}
		default:
			t.Errorf("packet of kind %v", p.Kind)
		}
	}
}

// runs writes ordinals as "0-15 24-31".
func runs(ns []int) string {
	var b strings.Builder
	for i := 0; i < len(ns); {
		j := i
		for j+1 < len(ns) && ns[j+1] == ns[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d-%d", ns[i], ns[j])
		i = j + 1
	}
	return b.String()
}

// segs is what runs writes for the video of segments a to b.
func segs(a, b int) string {
	per := int(segDur/time.Second) * videoRate
	return fmt.Sprintf("%d-%d", a*per, (b+1)*per-1)
}

// serve answers with the init section and segments by their names, and with the list for everything else.
func (c *channel) serve(t testing.TB) func(r *http.Request, at time.Duration) reply {
	return func(r *http.Request, at time.Duration) reply {
		switch {
		case strings.HasSuffix(r.URL.Path, "init.mp4"):
			return ok(initSection(t, vid|aud, 0, 0x14))
		case strings.HasSuffix(r.URL.Path, ".m3u8"):
			return ok(c.list(at))
		}
		n := number(r.URL.Path)
		if n < 0 || n > c.last(at) || n < c.last(at)-2*c.window {
			return no(404)
		}
		return ok(segmentOf(n, vid|aud, 0, 1, 0))
	}
}

func wantEnd(t *testing.T, r *result) {
	t.Helper()
	if !errors.Is(r.err, hlspull.ErrEnd) || !errors.Is(r.err, io.EOF) {
		t.Errorf("ended with %v after %v", r.err, r.took)
	}
}

func wantVideo(t *testing.T, r *result, want string) {
	t.Helper()
	if got := runs(r.video); got != want {
		t.Errorf("video %s, want %s", got, want)
	}
}

func wantNoGap(t *testing.T, r *result) {
	t.Helper()
	if d, why := r.gaps(); d != 0 {
		t.Errorf("%v missing: %q", d, why)
	}
}
