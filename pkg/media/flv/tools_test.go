package flv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	goflv "github.com/yutopp/go-flv"
	"github.com/yutopp/go-flv/tag"

	"github.com/liverec/liverec/pkg/media"
)

// tool finds an optional program. LIVEREC_NEED_TOOLS=1 makes it a duty.
func tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("LIVEREC_NEED_TOOLS") == "1" {
			t.Fatalf("%s is needed: %v", name, err)
		}
		t.Skipf("no %s here", name)
	}
	return p
}

func run(t testing.TB, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return out.String(), errs.String()
}

// clip is a real FLV of x264 and AAC, made by ffmpeg.
func clip(t testing.TB, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clip.flv")
	run(t, "ffmpeg", slices.Concat([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=frequency=440",
		"-t", "4", "-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-c:a", "aac", "-ac", "2"}, args, []string{path})...)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// source is a clip, cut into packets.
type source struct {
	video, audio []byte
	packets      []media.Packet
}

func open(t testing.TB, b []byte) source {
	t.Helper()
	res := demux(t, bytes.NewReader(b))
	if res.Err != nil || res.Count.Junk+res.Count.Partial != 0 {
		t.Fatalf("read what ffmpeg wrote: %v, %+v", res.Err, res.Count)
	}
	s := source{packets: res.media()}
	for _, p := range res.Packets {
		switch p.Kind {
		case media.VideoConfig:
			s.video = p.Body
		case media.AudioConfig:
			s.audio = p.Body
		}
	}
	return s
}

// record writes the clip n times in a row, as the recorder would: the head is patched every 10 s of media. keep > 0
// cuts the file there, as a power failure would.
func (s source) record(t testing.TB, n int, keep float64) (path string, h *Head) {
	t.Helper()
	h, err := NewHead(HeadConfig{Video: s.video, Audio: s.audio, Limit: time.Duration(n) * 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, p := range s.packets {
		total += int64(len(p.Body) + TagOverhead)
	}
	limit := h.Len() + total*int64(n)
	if keep > 0 {
		limit = int64(float64(limit) * keep)
	}
	b := bytes.Clone(h.Patch())
	patched := int64(0)
	for i := range n {
		for _, p := range s.packets {
			typ, dts := TagVideo, p.DTS+int64(i)*4040
			if p.Kind == media.Audio {
				typ = TagAudio
			}
			b = AppendTag(b, typ, uint32(dts), p.Body)
			if int64(len(b)) > limit {
				break
			}
			h.Add(typ, dts, len(p.Body), p.Key)
			if dts-patched >= 10_000 {
				copy(b, h.Patch())
				patched = dts
			}
		}
	}
	if keep > 0 {
		b = b[:limit]
	} else {
		copy(b, h.Patch())
	}
	path = filepath.Join(t.TempDir(), "part.flv")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, h
}

// probed is what ffprobe says about a file.
type probed struct {
	Streams []struct {
		Type    string `json:"codec_type"`
		Packets string `json:"nb_read_packets"`
		Width   int    `json:"width"`
		Height  int    `json:"height"`
		Rate    string `json:"r_frame_rate"`
		Sample  string `json:"sample_rate"`
	} `json:"streams"`
	Format struct {
		Duration string `json:"duration"`
	} `json:"format"`
}

func probe(t testing.TB, path string) (p probed, warnings string) {
	t.Helper()
	out, errs := run(t, "ffprobe", "-v", "warning", "-count_packets", "-show_streams", "-show_format", "-of", "json", path)
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatal(err)
	}
	return p, errs
}

func TestToolsReadAPart(t *testing.T) {
	s := open(t, clip(t))
	path, h := s.record(t, 3, 0)
	p, warnings := probe(t, path)
	if warnings != "" {
		t.Errorf("ffprobe complains: %s", warnings)
	}
	video, audio := h.Frames()
	for _, st := range p.Streams {
		want := video
		if st.Type == "audio" {
			want = audio
		}
		if st.Packets != fmt.Sprint(want) {
			t.Errorf("ffprobe counts %s packets of %s, we wrote %d", st.Packets, st.Type, want)
		}
	}
	if d, err := strconv.ParseFloat(p.Format.Duration, 64); err != nil || (time.Duration(d*1e9)-h.Duration()).Abs() > 50*time.Millisecond {
		t.Errorf("ffprobe says %s s, we say %v", p.Format.Duration, h.Duration())
	}
	if _, errs := run(t, "ffmpeg", "-v", "warning", "-i", path, "-f", "null", "-"); errs != "" {
		t.Errorf("ffmpeg complains: %s", errs)
	}
	// What was torn and found again plays as well.
	path, _ = s.record(t, 5, 0.7)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	sc, err := Scan(f, info.Size(), ScanConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(sc.End); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(sc.Head.Patch(), 0); err != nil {
		t.Fatal(err)
	}
	p, warnings = probe(t, path)
	if warnings != "" {
		t.Errorf("ffprobe complains about the part that was found again: %s", warnings)
	}
	if got := p.Streams[0].Packets; got != fmt.Sprint(sc.Video.Frames) && got != fmt.Sprint(sc.Audio.Frames) {
		t.Errorf("ffprobe counts %s packets, the scan %d and %d", got, sc.Video.Frames, sc.Audio.Frames)
	}
}

var bytesRead = regexp.MustCompile(`Statistics: (\d+) bytes read`)

func TestToolsSeekByTheIndex(t *testing.T) {
	s := open(t, clip(t, "-b:v", "600k", "-maxrate", "600k", "-bufsize", "600k"))
	for name, keep := range map[string]float64{"closed": 0, "cut at 60 %": 0.6} {
		path, h := s.record(t, 150, keep) // 10 minutes
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		at := h.Duration().Seconds() * 0.8
		_, errs := run(t, "ffmpeg", "-v", "debug", "-ss", fmt.Sprint(at), "-i", path, "-frames:v", "1", "-f", "null", "-")
		if strings.Contains(errs, "Keyframe index parsing failed") {
			t.Errorf("%s: ffmpeg cannot read the index", name)
		}
		m := bytesRead.FindStringSubmatch(errs)
		if m == nil {
			t.Fatalf("%s: ffmpeg does not say how much it read:\n%s", name, errs)
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if n > info.Size()/10 {
			t.Errorf("%s: ffmpeg read %d of %d bytes to seek to %.0f s", name, n, info.Size(), at)
		}
	}
}

// TestToolsAgreeOnConfigs compares what we read from sequence headers with what ffprobe reads.
func TestToolsAgreeOnConfigs(t *testing.T) {
	for name, args := range map[string][]string{
		"cropped":    {"-vf", "scale=638:358"},
		"interlaced": {"-vf", "scale=720:576", "-x264-params", "interlaced=1"},
		"4:4:4":      {"-pix_fmt", "yuv444p", "-vf", "scale=322:182"},
		"10 bit":     {"-pix_fmt", "yuv420p10le"},
		"baseline":   {"-profile:v", "baseline", "-r", "30000/1001", "-ar", "48000", "-ac", "1"},
		"wide":       {"-vf", "scale=1920:1080,setsar=4/3", "-ar", "22050"},
	} {
		t.Run(name, func(t *testing.T) {
			b := clip(t, append(args, "-t", "0.2")...)
			s := open(t, b)
			v, err := ParseVideoConfig(s.video)
			if err != nil {
				t.Fatal(err)
			}
			a, err := ParseAudioConfig(s.audio)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "x.flv")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			p, _ := probe(t, path)
			for _, st := range p.Streams {
				switch st.Type {
				case "video":
					if st.Width != v.Width || st.Height != v.Height {
						t.Errorf("%d×%d, ffprobe says %d×%d", v.Width, v.Height, st.Width, st.Height)
					}
					if num, den, ok := strings.Cut(st.Rate, "/"); ok {
						n, _ := strconv.ParseFloat(num, 64)
						d, _ := strconv.ParseFloat(den, 64)
						if r := v.FrameRate; n/d < r*0.99 || n/d > r*1.01 {
							t.Errorf("%v frames/s, ffprobe says %s", r, st.Rate)
						}
					}
				case "audio":
					if st.Sample != fmt.Sprint(a.SampleRate) {
						t.Errorf("%d Hz, ffprobe says %s", a.SampleRate, st.Sample)
					}
				}
			}
			for _, k := range s.packets {
				if k.Kind == media.Video && k.Key && !IsIDR(k.Body, v.LengthSize) {
					t.Error("a key frame of x264 has no IDR picture")
				}
			}
		})
	}
}

// TestGoFLVReadsOurOutput has the fixed library as a second, independent reader. It cannot read an index in a script,
// so it gets the file without it, and a reader that always fills the buffer.
func TestGoFLVReadsOurOutput(t *testing.T) {
	fs := frames(7, 100, 20)
	fs[20].dts = 0x01ABCDEF
	fs[22].body = append([]byte{0x27, 1, 0xFF, 0xFF, 0xB0}, fs[22].body[5:]...)
	fs[22].typ = TagVideo
	h, b := part(t, time.Minute, fs)
	scriptEnd := 13 + TagOverhead + h.ScriptSize()
	b = AppendEndMark(slices.Concat(b[:13], b[scriptEnd:]), 4000)
	all := append([]frame{{TagVideo, 0, videoConfig}, {TagAudio, 0, audioConfig}}, fs...)
	all = append(all, frame{TagVideo, 4000, []byte{0x17, 2, 0, 0, 0}})
	dec, err := goflv.NewDecoder(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range all {
		var g tag.FlvTag
		if err := dec.Decode(&g); err != nil {
			t.Fatalf("tag %d: %v", i, err)
		}
		if byte(g.TagType) != f.typ || g.Timestamp != f.dts || g.StreamID != 0 {
			t.Fatalf("tag %d: type %d at %d, want %d at %d", i, g.TagType, g.Timestamp, f.typ, f.dts)
		}
		c := Classify(f.typ, f.body)
		var payload []byte
		switch d := g.Data.(type) {
		case *tag.VideoData:
			if c.CTS != d.CompositionTime || c.Key != (d.FrameType == tag.FrameTypeKeyFrame && d.AVCPacketType == tag.AVCPacketTypeNALU) ||
				(c.Kind == media.VideoConfig) != (d.AVCPacketType == tag.AVCPacketTypeSequenceHeader) ||
				(c.Kind == media.EndMark) != (d.AVCPacketType == tag.AVCPacketTypeEOS) {
				t.Fatalf("tag %d: %+v, we say %+v", i, d, c)
			}
			payload, err = io.ReadAll(d.Data)
			payload = append(slices.Clone(f.body[:5]), payload...)
		case *tag.AudioData:
			if (c.Kind == media.AudioConfig) != (d.AACPacketType == tag.AACPacketTypeSequenceHeader) {
				t.Fatalf("tag %d: %+v, we say %+v", i, d, c)
			}
			payload, err = io.ReadAll(d.Data)
			payload = append(slices.Clone(f.body[:2]), payload...)
		}
		if err != nil || !bytes.Equal(payload, f.body) {
			t.Fatalf("tag %d has another body: %v", i, err)
		}
	}
	var g tag.FlvTag
	if err := dec.Decode(&g); !errors.Is(err, io.EOF) {
		t.Fatalf("behind the last tag: %v", err)
	}
	// The same bytes through our own reader, one at a time.
	same(t, demux(t, iotest.OneByteReader(bytes.NewReader(b))).Packets, all)
}
