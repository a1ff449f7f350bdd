package e2e

import (
	"bytes"
	bigendian "encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// codecKind says how ffmpeg makes 6 s of a codec that players of live streams meet, and what must come out.
type codecKind struct {
	name         string
	video, sound string // as the checker names them; "" if there is none
	encode       string // ffmpeg's options
	fmp4         bool
	apart        bool // the sound has a list of its own
	frames       int  // of the video
	// What Chromium shows of it.
	width int
	mute  bool // nothing
}

const (
	aacSound  = " -c:a aac -ac 2"
	avcB      = "-c:v libx264 -preset ultrafast -bf 2 -b_strategy 0 -g 30 -sc_threshold 0"
	hevc      = "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=30:min-keyint=30:scenecut=0:bframes=2:pools=1:frame-threads=1 -tag:v hvc1"
	codecTime = 6 * time.Second
)

// codecKinds are the codecs of HLS. That Debian's Chromium has no HEVC and no AC-3 is a fact of that build.
var codecKinds = []codecKind{
	{name: "ts-avc-b-aac", video: "avc", sound: "aac", encode: avcB + aacSound, frames: 180, width: 320},
	{name: "ts-avc-b-aac-apart", video: "avc", sound: "aac", encode: avcB + aacSound, apart: true, frames: 180, width: 320},
	{name: "fmp4-avc-b-aac-apart", video: "avc", sound: "aac", encode: avcB + aacSound, fmp4: true, apart: true, frames: 180, width: 320},
	{name: "fmp4-hevc-aac", video: "hevc", sound: "aac", encode: hevc + aacSound, fmp4: true, frames: 180},
	{name: "fmp4-av1-opus", video: "av1", sound: "opus", encode: "-c:v libsvtav1 -preset 12 -g 30 -svtav1-params lp=1:pred-struct=1 -c:a libopus -ac 2", fmp4: true, frames: 180, width: 320},
	{name: "ts-hevc-ac3", video: "hevc", sound: "ac-3", encode: hevc + " -c:a ac3", frames: 180, mute: true},
	{name: "ts-aac", sound: "aac", encode: aacSound},
	{name: "fmp4-aac", sound: "aac", encode: aacSound, fmp4: true},
}

// make lets ffmpeg make it in dir. The result is the list to record and what a reader of everything in it sees.
func (c codecKind) make(t *testing.T, dir string) (list string, sources []string) {
	t.Helper()
	args := []string{"-f", "lavfi", "-i", "testsrc2=s=320x180:r=30", "-f", "lavfi", "-i", "sine=f=440:r=48000:beep_factor=4",
		"-t", strconv.FormatFloat(codecTime.Seconds(), 'f', 0, 64)}
	if c.video != "" {
		args = append(args, "-map", "0:v")
	}
	args = append(append(args, "-map", "1:a", "-pix_fmt", "yuv420p"), strings.Fields(c.encode)...)
	kind, ext := "mpegts", "ts"
	if c.fmp4 {
		kind, ext = "fmp4", "m4s"
	}
	args = append(args, "-f", "hls", "-hls_time", "1", "-hls_list_size", "0", "-hls_segment_type", kind)
	if c.apart {
		args = append(args, "-hls_fmp4_init_filename", "init%v.mp4", "-hls_segment_filename", "s%v_%03d."+ext, "-master_pl_name", "master.m3u8",
			"-var_stream_map", "v:0,agroup:sound a:0,agroup:sound,default:yes", "list%v.m3u8")
	} else {
		args = append(args, "-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", "s_%03d."+ext, "list.m3u8")
	}
	if err := rig.EncodeHLS(t.Context(), rig.Tool(t, "ffmpeg"), dir, args...); err != nil {
		t.Fatal(err)
	}
	lists, err := filepath.Glob(filepath.Join(dir, "list*.m3u8"))
	if err != nil || len(lists) == 0 {
		t.Fatalf("no lists: %v", err)
	}
	for _, l := range lists {
		n := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(l), "list"), ".m3u8")
		files, err := filepath.Glob(filepath.Join(dir, "s"+n+"_*"))
		if err != nil {
			t.Fatal(err)
		}
		if c.fmp4 {
			files = append([]string{filepath.Join(dir, "init"+n+".mp4")}, files...)
		}
		var all bytes.Buffer
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
		source := filepath.Join(dir, "all"+n)
		if err := os.WriteFile(source, all.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, source)
	}
	if c.apart {
		return "master.m3u8", sources
	}
	return filepath.Base(lists[0]), sources
}

// stream is what ffprobe finds of one kind.
type stream struct {
	packets int
	first   float64 // the earliest presentation time
}

// streams counts the packets of files: of a part, or of the lists of a source.
func streams(t *testing.T, files ...string) map[string]stream {
	t.Helper()
	out := map[string]stream{}
	for _, f := range files {
		b, err := exec.CommandContext(t.Context(), rig.Tool(t, "ffprobe"), "-v", "error", "-show_entries", "packet=codec_type,pts_time", "-of", "json", f).Output()
		if err != nil {
			t.Fatalf("ffprobe %s: %v", f, err)
		}
		var p struct {
			Packets []struct {
				Type string  `json:"codec_type"`
				PTS  float64 `json:"pts_time,string"`
			} `json:"packets"`
		}
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatalf("ffprobe %s: %v\n%s", f, err, b)
		}
		for _, x := range p.Packets {
			s, ok := out[x.Type]
			if !ok {
				s.first = math.Inf(1)
			}
			s.packets++
			s.first = min(s.first, x.PTS)
			out[x.Type] = s
		}
	}
	return out
}

// same fails the test unless the one part of a recording has the same media as its source: as many packets, of the same
// content, with the sound as far from the video as it was there.
func same(t *testing.T, rec *rig.Recording, sources ...string) {
	t.Helper()
	if len(rec.Parts) != 1 || len(rec.Manifest.Gaps) != 0 {
		t.Fatalf("%v, gaps %+v", rec, rec.Manifest.Gaps)
	}
	part := filepath.Join(rec.Dir, rec.Manifest.Parts[0].Name)
	want, have := streams(t, sources...), streams(t, part)
	for kind, w := range want {
		if h := have[kind]; h.packets != w.packets {
			t.Errorf("%d packets of %s, the source has %d", h.packets, kind, w.packets)
		}
	}
	if len(want) == 2 {
		was, is := want["audio"].first-want["video"].first, have["audio"].first-have["video"].first
		if math.Abs(is-was) > 1.0/30 {
			t.Errorf("the sound begins %.3f s after the video, in the source %.3f s", is, was)
		}
	}
	for _, s := range sources {
		r, err := probe.CheckFile(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, was := range r.Tracks {
			if is, _ := rec.Parts[0].Track(was.Kind); is.Media != was.Media {
				t.Errorf("the %s (%d frames) is not that of the source (%d frames)", was.Kind, is.Frames, was.Frames)
			}
		}
	}
}

// Each codec that HLS has, recorded from a live list: MP4 with the media of the source, nothing more, nothing less, and
// readers that we did not write find nothing wrong with it.
func TestCodecs(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	for _, c := range codecKinds {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, media := t.TempDir(), t.TempDir()
			list, sources := c.make(t, media)
			room := rig.ServeHLSFolder(t, media)
			liverec(dir, "record", room.URL+list, "--once", "--grace", "20s").Start(t).Ends(t, codecTime+45*time.Second, 0)
			rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
			same(t, rec, sources...)
			v, _ := rec.Parts[0].Track(probe.Video)
			a, _ := rec.Parts[0].Track(probe.Audio)
			if v.Codec != c.video || a.Codec != c.sound || v.Frames != c.frames || rec.Parts[0].Layout != "hybrid" {
				t.Errorf("%s, %d frames of %q and %d of %q", rec.Parts[0].Layout, v.Frames, v.Codec, a.Frames, a.Codec)
			}
			if c.video == "hevc" && v.Width != 320 {
				t.Errorf("%d pixels wide", v.Width)
			}
			rig.Empty(t, filepath.Join(dir, "liverec-data"))
			part := filepath.Join(rec.Dir, rec.Manifest.Parts[0].Name)
			t.Run("ffmpeg", func(t *testing.T) { strict(t, part) })
			t.Run("gstreamer", func(t *testing.T) { gstreamer(t, part, v.Frames, a.Frames) })
			t.Run("chromium", func(t *testing.T) {
				if c.mute {
					t.Skip("this Chromium has no decoder for either track")
				}
				b.plays(t, part, rec.Manifest.Parts[0].DurationMS, c.width)
			})
		})
	}
}

// strict lets ffmpeg decode a file to its end; anything it has to say is an error.
func strict(t *testing.T, name string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), rig.Tool(t, "ffmpeg"), "-v", "error", "-xerror", "-i", name, "-f", "null", "-").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("ffmpeg: %v\n%s", err, out)
	}
}

// flvOf writes what ffmpeg encoded to MP4 as FLV with HEVC, which ffmpeg's own muxer of that age cannot: with codec id 12 as
// Chinese platforms have it, or as Enhanced FLV.
func flvOf(t *testing.T, film string, enhanced bool) (tags []flvTag) {
	t.Helper()
	b, err := os.ReadFile(film)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), rig.Tool(t, "ffprobe"), "-v", "error", "-show_entries", "packet=codec_type,pts_time,dts_time,pos,size,flags", "-of", "json", film).Output()
	if err != nil {
		t.Fatalf("ffprobe: %v", err)
	}
	var p struct {
		Packets []struct {
			Type  string  `json:"codec_type"`
			PTS   float64 `json:"pts_time,string"`
			DTS   float64 `json:"dts_time,string"`
			Pos   int     `json:"pos,string"`
			Size  int     `json:"size,string"`
			Flags string  `json:"flags"`
		} `json:"packets"`
	}
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatal(err)
	}
	video := func(key bool, kind byte, cts int, data []byte) []byte {
		frame := byte(2)
		if key {
			frame = 1
		}
		var head []byte
		if enhanced {
			head = append([]byte{0x80 | frame<<4 | kind}, "hvc1"...)
		} else {
			head = []byte{frame<<4 | 12, kind}
		}
		if kind == 1 || !enhanced {
			head = append(head, byte(cts>>16), byte(cts>>8), byte(cts))
		}
		return append(head, data...)
	}
	at := bytes.Index(b, []byte("hvcC"))
	record := b[at+4 : at-4+int(bigendian.BigEndian.Uint32(b[at-4:]))]
	tags = []flvTag{{9, 0, video(true, 0, 0, record)}, {8, 0, []byte{0xaf, 0, 0x11, 0x90}}} // AAC-LC, 48 kHz, stereo
	begin := 0.0
	for _, x := range p.Packets {
		begin = min(begin, x.DTS)
	}
	for _, x := range p.Packets {
		dts, data := math.Round((x.DTS-begin)*1000), b[x.Pos:x.Pos+x.Size]
		tag := flvTag{8, time.Duration(dts) * time.Millisecond, append([]byte{0xaf, 1}, data...)}
		if x.Type == "video" {
			cts := int(math.Round((x.PTS-begin)*1000) - dts)
			kind := byte(1)
			if cts == 0 && enhanced {
				kind = 3 // without an offset
			}
			tag.kind, tag.body = 9, video(strings.HasPrefix(x.Flags, "K"), kind, cts, data)
		}
		tags = append(tags, tag)
	}
	slices.SortStableFunc(tags, func(a, b flvTag) int { return int(a.at - b.at) })
	return tags
}

// sendFLV serves tags in real time, as often as it is asked if again is set, else once.
func sendFLV(t *testing.T, tags []flvTag, again bool) string {
	t.Helper()
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 1 && !again {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "video/x-flv")
		w.Write([]byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"))
		start := time.Now()
		for _, tag := range tags {
			if wait := time.Until(start.Add(tag.at)); wait > 0 {
				http.NewResponseController(w).Flush()
				time.Sleep(wait)
			}
			n, ms := len(tag.body), int(tag.at.Milliseconds())
			w.Write([]byte{tag.kind, byte(n >> 16), byte(n >> 8), byte(n), byte(ms >> 16), byte(ms >> 8), byte(ms), byte(ms >> 24), 0, 0, 0})
			w.Write(tag.body)
			if _, err := w.Write(bigendian.BigEndian.AppendUint32(nil, uint32(n+11))); err != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.CloseClientConnections)
	return srv.URL + "/live.flv"
}

// film lets ffmpeg make HEVC and AAC.
func film(t *testing.T, length string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "film.mp4")
	args := []string{"-f", "lavfi", "-i", "testsrc2=s=320x180:r=30", "-f", "lavfi", "-i", "sine=f=440:r=48000:beep_factor=4", "-t", length, "-pix_fmt", "yuv420p"}
	if err := rig.EncodeHLS(t.Context(), rig.Tool(t, "ffmpeg"), t.TempDir(), append(append(args, strings.Fields(hevc+aacSound)...), name)...); err != nil {
		t.Fatal(err)
	}
	return name
}

// HEVC over FLV, both ways that it is sent: MP4 with the tag that Apple's players need, media and lip sync of the source.
func TestCodecsFLV(t *testing.T) {
	t.Parallel()
	for _, enhanced := range []bool{false, true} {
		name := "id12"
		if enhanced {
			name = "hvc1"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, source := t.TempDir(), film(t, "6")
			url := sendFLV(t, flvOf(t, source, enhanced), false)
			liverec(dir, "record", url, "--once", "--grace", "20s").Start(t).Ends(t, 60*time.Second, 0)
			rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
			same(t, rec, source)
			part := filepath.Join(rec.Dir, rec.Manifest.Parts[0].Name)
			out, err := exec.CommandContext(t.Context(), rig.Tool(t, "ffprobe"), "-v", "error", "-select_streams", "v", "-show_entries", "stream=codec_tag_string", "-of", "default=nw=1:nk=1", part).Output()
			if err != nil || strings.TrimSpace(string(out)) != "hvc1" || filepath.Ext(part) != ".mp4" {
				t.Errorf("%s: tag %q (%v)", part, out, err)
			}
			v, _ := rec.Parts[0].Track(probe.Video)
			a, _ := rec.Parts[0].Track(probe.Audio)
			strict(t, part)
			gstreamer(t, part, v.Frames, a.Frames)
		})
	}
}

// The container can be chosen, where it can carry what comes.
func TestContainers(t *testing.T) {
	t.Parallel()
	k := hlsKit()
	const length = 8 * time.Second
	hls := func(fmp4 bool) func(t *testing.T) (string, func() []uint64) {
		m, err := k.Cut(rig.HLSCut{Length: length, FMP4: fmp4})
		if err != nil {
			t.Fatal(err)
		}
		return func(t *testing.T) (string, func() []uint64) {
			c := rig.HLSConfig{Segments: rig.Entries(m, 0)}
			o := origin(t, c)
			return o.URL(), func() []uint64 { return rig.HLSScenario{}.Want(c) }
		}
	}
	flv := func(t *testing.T) (string, func() []uint64) {
		room, url := live(t, liveroom.Config{Duration: length})
		return url, func() []uint64 { return rig.Sent(room.Connections(), nil) }
	}
	ts, fmp4 := hls(false), hls(true)
	for _, c := range []struct {
		name, container string
		source          func(t *testing.T) (url string, want func() []uint64)
	}{
		{"FLV to MP4", "mp4", flv},
		{"FLV to TS", "ts", flv},
		{"FLV to FLV", "flv", flv},
		{"TS to TS", "ts", ts},
		{"TS to FLV", "flv", ts},
		{"fMP4 to TS", "ts", fmp4},
		{"fMP4 to FLV", "flv", fmp4},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			url, want := c.source(t)
			liverec(dir, "record", url, "--once", "--container", c.container).Start(t).Ends(t, after(length), 0)
			rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
			rec.Once(t, want())
			rec.Admits(t, 0)
			if len(rec.Parts) != 1 || filepath.Ext(rec.Manifest.Parts[0].Name) != "."+c.container || rec.Parts[0].Container != c.container {
				t.Errorf("%v", rec)
			}
			for _, part := range rec.Manifest.Parts {
				strict(t, filepath.Join(rec.Dir, part.Name))
			}
			rig.Empty(t, filepath.Join(dir, "liverec-data"))
		})
	}
	t.Run("HEVC to FLV", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		url := sendFLV(t, flvOf(t, film(t, "4"), false), true)
		p := liverec(dir, "record", url, "--container", "flv").Start(t)
		var s struct {
			Rooms []struct {
				State string `json:"state"`
			} `json:"rooms"`
		}
		rig.Until(t, 30*time.Second, "the room is blocked", func() bool {
			rig.JSON(t, liverec(dir, "status", "--json"), 0, &s)
			return len(s.Rooms) == 1 && s.Rooms[0].State == "blocked"
		})
		if said := strings.ToLower(p.Stderr.String()); !strings.Contains(said, "flv") || !strings.Contains(said, "hevc") {
			t.Error("it does not say what cannot go where")
		}
		p.Signal(syscall.SIGTERM)
		p.Ends(t, 10*time.Second, 0)
		if names := rig.Files(t, filepath.Join(dir, "liverec-data", "media")); len(names) > 0 {
			t.Errorf("left on the disk: %v", names)
		}
	})
}
