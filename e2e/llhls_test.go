package e2e

import (
	"bytes"
	bigendian "encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluenviron/gohlslib/v2"
	"github.com/bluenviron/gohlslib/v2/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// flvTag is one tag of the numbered clip.
type flvTag struct {
	kind byte // 8 sound, 9 video
	at   time.Duration
	body []byte
}

// clip gives the numbered pictures of the built-in room, and the sound to them, as FLV tags.
func clip(t *testing.T, length time.Duration) []flvTag {
	t.Helper()
	var b bytes.Buffer
	if _, err := liveroom.Write(&b, liveroom.Config{}, length); err != nil {
		t.Fatal(err)
	}
	var out []flvTag
	for in := b.Bytes()[13:]; len(in) > 0; {
		n := int(in[1])<<16 | int(in[2])<<8 | int(in[3])
		ms := int(in[7])<<24 | int(in[4])<<16 | int(in[5])<<8 | int(in[6])
		out = append(out, flvTag{in[0], time.Duration(ms) * time.Millisecond, in[11 : 11+n]})
		in = in[15+n:]
	}
	return out
}

// packager is gohlslib's muxer behind a server, as MediaMTX has it, fed in real time.
type packager struct {
	muxer  *gohlslib.Muxer
	blocks bool        // hold a reload until the whole segment is there, as the RFC wants it; gohlslib answers at its first part
	gone   atomic.Bool // everything is answered with 404

	mu      sync.Mutex
	blocked int      // list requests that name the segment to wait for
	asked   []string // list requests
}

func (p *packager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, ".m3u8") {
		p.mu.Lock()
		p.asked = append(p.asked, r.URL.String())
		if r.URL.Query().Has("_HLS_msn") {
			p.blocked++
		}
		p.mu.Unlock()
	}
	if p.gone.Load() {
		http.NotFound(w, r)
		return
	}
	if q := r.URL.Query(); p.blocks && q.Has("_HLS_msn") {
		q.Set("_HLS_part", "999") // there is none: it is the first one of the next segment
		r.URL.RawQuery = q.Encode()
	}
	p.muxer.Handle(w, r)
}

// feed writes tags at their time; stall is how long it pauses in front of picture 200.
func (p *packager) feed(t *testing.T, video, sound *gohlslib.Track, tags []flvTag, stall time.Duration) {
	t.Helper()
	var sets [][]byte
	start, n := time.Now(), 0
	for _, tag := range tags {
		time.Sleep(time.Until(start.Add(tag.at)))
		if tag.kind == 9 && tag.body[1] == 1 {
			if n++; n == 200 {
				time.Sleep(stall)
				start = start.Add(stall)
			}
		}
		ntp := start.Add(tag.at)
		switch {
		case tag.kind == 9 && tag.body[1] == 0:
			h264 := video.Codec.(*codecs.H264)
			sets = [][]byte{h264.SPS, h264.PPS}
		case tag.kind == 9:
			au := units(tag.body[5:])
			if tag.body[0]>>4 == 1 {
				au = slices.Concat(sets, au)
			}
			if err := p.muxer.WriteH264(video, ntp, int64(tag.at)*90/int64(time.Millisecond), au); err != nil {
				t.Error(err)
			}
		case tag.kind == 8 && tag.body[1] == 1:
			at := int64(tag.at) * 48 / int64(time.Millisecond)
			if err := p.muxer.WriteMPEG4Audio(sound, ntp, at, [][]byte{tag.body[2:]}); err != nil {
				t.Error(err)
			}
		}
	}
}

// units takes an access unit apart.
func units(b []byte) [][]byte {
	var out [][]byte
	for len(b) > 4 {
		n := bigendian.BigEndian.Uint32(b)
		out = append(out, b[4:4+n])
		b = b[4+n:]
	}
	return out
}

// parameters reads the decoder configuration of the clip.
func parameters(t *testing.T, tags []flvTag) (*codecs.H264, *codecs.MPEG4Audio) {
	t.Helper()
	var v codecs.H264
	var a codecs.MPEG4Audio
	for _, tag := range tags {
		switch {
		case tag.kind == 9 && tag.body[1] == 0:
			b := tag.body[5+6:]
			n := bigendian.BigEndian.Uint16(b)
			v.SPS = b[2 : 2+n]
			b = b[2+n+1:]
			v.PPS = b[2 : 2+bigendian.BigEndian.Uint16(b)]
		case tag.kind == 8 && tag.body[1] == 0:
			var c mpeg4audio.AudioSpecificConfig
			if err := c.Unmarshal(tag.body[2:]); err != nil {
				t.Fatal(err)
			}
			a.Config = c
		}
	}
	return &v, &a
}

// The packager of MediaMTX: low latency with parts and blocking reload, fMP4 (the sound has a list of its own in both),
// and MPEG-TS. Every picture that stood in a list stands in the archive once.
func TestPackager(t *testing.T) {
	t.Parallel()
	tags := clip(t, 13*time.Second)
	upTo := func(pictures int) []flvTag { // and the sound to them
		n := 0
		for i, tag := range tags {
			if tag.kind == 9 && tag.body[1] == 1 {
				if n++; n == pictures {
					return tags[:i+1]
				}
			}
		}
		t.Fatalf("the clip has %d pictures", n)
		return nil
	}
	for _, c := range []struct {
		name    string
		variant gohlslib.MuxerVariant
		fed     []flvTag
		least   uint64 // pictures that must be there, from the first
		closes  bool   // the packager says that it is over; else its list stands still
		stall   time.Duration
	}{
		// The encoder dies inside a segment of which some parts are listed already: they are the only copy.
		{name: "ll-dies", variant: gohlslib.MuxerVariantLowLatency, fed: upTo(320), least: 300 + 6},
		// It is away for so long that the parts are taken, and then the segment goes on.
		{name: "ll-stalls", variant: gohlslib.MuxerVariantLowLatency, fed: upTo(361), least: 360, closes: true, stall: 16 * time.Second},
		{name: "ll-ends", variant: gohlslib.MuxerVariantLowLatency, fed: upTo(361), least: 360, closes: true},
		{name: "fmp4", variant: gohlslib.MuxerVariantFMP4, fed: upTo(361), least: 360, closes: true},
		{name: "ts", variant: gohlslib.MuxerVariantMPEGTS, fed: upTo(361), least: 360, closes: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, a := parameters(t, tags)
			video, sound := &gohlslib.Track{Codec: v, ClockRate: 90000}, &gohlslib.Track{Codec: a, ClockRate: 48000}
			p := &packager{muxer: &gohlslib.Muxer{Variant: c.variant, Tracks: []*gohlslib.Track{video, sound},
				SegmentMinDuration: 2 * time.Second, SegmentCount: 8}, blocks: !c.closes}
			if err := p.muxer.Start(); err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewServer(p)
			t.Cleanup(srv.Close)
			closed := sync.OnceFunc(p.muxer.Close)
			t.Cleanup(closed) // in front of the server: it holds requests
			dir := t.TempDir()
			run := liverec(dir, "record", srv.URL+"/index.m3u8", "--once", "--segment", "10m", "--grace", "8s").Start(t)
			p.feed(t, video, sound, c.fed, c.stall)
			if c.closes {
				time.Sleep(4 * time.Second) // a packager lets its last segments be fetched
				p.gone.Store(true)
				closed()
			}
			run.Ends(t, 60*time.Second, 0)
			rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
			var want []uint64
			for n := range c.least {
				want = append(want, n)
			}
			rec.Once(t, want)
			if len(rec.Parts) != 1 || len(rec.Manifest.Gaps) != 0 || !strings.HasSuffix(rec.Manifest.Parts[0].Name, ".mp4") {
				t.Errorf("%v, gaps %+v", rec, rec.Manifest.Gaps)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			ll := c.variant == gohlslib.MuxerVariantLowLatency
			if ll && p.blocked < 2 || p.blocks && p.blocked < 4 || !ll && p.blocked > 0 {
				t.Errorf("%d of %d list requests wait for the next segment", p.blocked, len(p.asked))
			}
			t.Logf("%d list requests, %d of them blocking", len(p.asked), p.blocked)
			decodes(t, rec)
		})
	}
}

// lal's HLS: MPEG-TS, lists with blank lines in them.
func TestRealLiveServerHLS(t *testing.T) {
	t.Parallel()
	lal, ffmpeg := rig.Tool(t, "lalserver"), rig.Tool(t, "ffmpeg")
	dir := t.TempDir()
	film, err := os.Create(filepath.Join(dir, "film.flv"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := liveroom.Write(film, liveroom.Config{}, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := film.Close(); err != nil {
		t.Fatal(err)
	}
	rtmp, web := rig.FreePort(t), rig.FreePort(t)
	off := map[string]any{"enable": false}
	conf, err := json.Marshal(map[string]any{
		"conf_version": "v0.4.1",
		"rtmp":         map[string]any{"enable": true, "addr": fmt.Sprintf("127.0.0.1:%d", rtmp), "gop_num": 1},
		"default_http": map[string]any{"http_listen_addr": fmt.Sprintf("127.0.0.1:%d", web)},
		"hls": map[string]any{"enable": true, "url_pattern": "/hls/", "out_path": filepath.Join(dir, "hls") + "/",
			"fragment_duration_ms": 2000, "fragment_num": 6, "delete_threshold": 6, "cleanup_mode": 0},
		"httpflv": off, "httpts": off, "rtsp": off, "record": off, "relay_push": off, "static_relay_pull": off,
		"http_api": off, "http_notify": off, "pprof": off,
		"log": map[string]any{"level": 3, "filename": filepath.Join(dir, "lal.log"), "is_to_stdout": true, "assert_behavior": 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lal.json"), conf, 0o600); err != nil {
		t.Fatal(err)
	}
	rig.Run{Bin: lal, Dir: dir, Args: []string{"-c", "lal.json"}}.Start(t)
	p := liverec(dir, "record", fmt.Sprintf("http://127.0.0.1:%d/hls/t1.m3u8", web), "--once", "--grace", "6s").Start(t)
	time.Sleep(time.Second)
	rig.Run{Bin: ffmpeg, Dir: dir, Args: []string{"-v", "error", "-re", "-i", "film.flv", "-c", "copy", "-f", "flv",
		fmt.Sprintf("rtmp://127.0.0.1:%d/live/t1", rtmp)}}.Start(t).Ends(t, 60*time.Second, 0)
	p.Ends(t, 60*time.Second, 0)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
	rec.Once(t, nil)
	// The server may drop what the encoder sent last.
	if n := rec.Numbers; len(rec.Missing()) != 0 || len(rec.Manifest.Gaps) != 0 || len(rec.Parts) != 1 || n[0] != 0 || n[len(n)-1] < 590 {
		t.Errorf("%v, gaps %+v", rec, rec.Manifest.Gaps)
	}
	decodes(t, rec)
}
