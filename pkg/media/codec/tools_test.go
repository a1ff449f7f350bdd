package codec_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// ffmpeg encodes a clip into a file of that name. It skips the test where there is no ffmpeg; LIVEREC_NEED_TOOLS=1 makes
// it a duty.
func ffmpeg(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		if os.Getenv("LIVEREC_NEED_TOOLS") == "1" {
			t.Fatalf("ffmpeg is needed: %v", err)
		}
		t.Skip("no ffmpeg here")
	}
	path := filepath.Join(t.TempDir(), name)
	var errs strings.Builder
	cmd := exec.CommandContext(t.Context(), "ffmpeg", slices.Concat([]string{"-v", "error"}, args, []string{path})...)
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("ffmpeg %v: %v\n%s", args, err, errs.String())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func video(size string, more ...string) []string {
	return append([]string{"-f", "lavfi", "-i", "testsrc2=s=" + size + ":r=30", "-t", "2"}, more...)
}

func sound(channels string, more ...string) []string {
	return append([]string{"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "1", "-ac", channels}, more...)
}

// box is the content of the first MP4 box of that type.
func box(t testing.TB, mp4 []byte, typ string) []byte {
	t.Helper()
	i := bytes.Index(mp4, []byte(typ))
	if i < 4 {
		t.Fatalf("no %s in %d bytes", typ, len(mp4))
	}
	return mp4[i+4 : i-4+int(binary.BigEndian.Uint32(mp4[i-4:]))]
}

// units cuts an Annex B stream at its delimiters (aud is the first byte of one).
func units(b []byte, aud byte) [][]byte {
	mark := []byte{0, 0, 0, 1, aud}
	var out [][]byte
	for len(b) > 0 {
		n := bytes.Index(b[1:], mark)
		if n < 0 {
			return append(out, b)
		}
		out, b = append(out, b[:n+1]), b[n+1:]
	}
	return out
}

func TestAVCAgainstFFmpeg(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		w, h int
	}{
		{"crop", video("322x182", "-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-bf", "2"), 322, 182},
		{"high 10", video("640x360", "-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-pix_fmt", "yuv420p10le"), 640, 360},
		{"4:2:2", video("320x180", "-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-pix_fmt", "yuv422p"), 320, 180},
		{"4:4:4 interlaced", video("320x192", "-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-pix_fmt", "yuv444p", "-flags", "+ildct", "-x264opts", "tff=1"), 320, 192},
		{"baseline", video("320x184", "-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-profile:v", "baseline"), 320, 184},
	} {
		t.Run(c.name, func(t *testing.T) {
			mp4 := ffmpeg(t, "a.mp4", c.args...)
			want := box(t, mp4, "avcC")
			info, err := codec.Parse(media.AVC, want)
			if err != nil || info.Width != c.w || info.Height != c.h || info.FrameRate != 30 || info.NALLength != 4 {
				t.Fatalf("%+v, %v", info, err)
			}
			raw := ffmpeg(t, "a.h264", append(c.args, "-bsf:v", "h264_metadata=aud=insert")...)
			s, err := codec.NewSets(media.AVC, nil)
			if err != nil {
				t.Fatal(err)
			}
			var data []byte
			for i, au := range units(raw, 9) {
				var p codec.Picture
				data, p = s.FromAnnexB(data[:0], au)
				if p.Key != (i%30 == 0) || p.Open || p.Broken || p.Changed != (i == 0) || p.Slices == 0 {
					t.Fatalf("picture %d: %+v", i, p)
				}
				if !bytes.Contains(mp4, data) && i > 0 { // x264 leaves its name in the first
					t.Fatalf("picture %d of %d bytes is not what ffmpeg put into MP4", i, len(data))
				}
				if key, open := codec.Key(media.AVC, 4, data); key != p.Key || open {
					t.Fatalf("picture %d: Key says %v, %v", i, key, open)
				}
				back, err := codec.ToAnnexB(nil, data, 4)
				if err != nil {
					t.Fatal(err)
				}
				again, q := s.FromAnnexB(nil, back)
				if !bytes.Equal(again, data) || q.Changed {
					t.Fatalf("picture %d is not the same after there and back: %+v", i, q)
				}
			}
			if !codec.Equal(media.AVC, s.Record(), want) {
				t.Errorf("made %x\nwant %x", s.Record(), want)
			}
			if !bytes.Equal(s.Record()[:len(want)], want) {
				t.Logf("made %x\nwant %x", s.Record(), want)
			}
		})
	}
}

func TestOpenGOP(t *testing.T) {
	raw := ffmpeg(t, "a.h264", video("320x180", "-c:v", "libx264", "-g", "15", "-bf", "2", "-x264opts", "open-gop=1:scenecut=0", "-bsf:v", "h264_metadata=aud=insert")...)
	s, _ := codec.NewSets(media.AVC, nil)
	clean, open := 0, 0
	for _, au := range units(raw, 9) {
		_, p := s.FromAnnexB(nil, au)
		if p.Key && p.Open {
			open++
		} else if p.Key {
			clean++
		}
	}
	if clean != 1 || open != 3 {
		t.Errorf("%d clean keys, %d open ones", clean, open)
	}
	raw = ffmpeg(t, "a.h264", video("320x180", "-c:v", "libx264", "-g", "20", "-x264opts", "intra-refresh=1", "-bsf:v", "h264_metadata=aud=insert")...)
	s, _ = codec.NewSets(media.AVC, nil)
	clean, open = 0, 0
	for _, au := range units(raw, 9) {
		if _, p := s.FromAnnexB(nil, au); p.Key && p.Open {
			open++
		} else if p.Key {
			clean++
		}
	}
	if clean != 1 || open == 0 {
		t.Errorf("with gradual refresh %d clean keys, %d open ones", clean, open)
	}
}

func TestHEVCAgainstFFmpeg(t *testing.T) {
	for _, c := range []struct {
		name, opts, pix string
		w, h            int
	}{
		{"main", "log-level=none:keyint=30:min-keyint=30:scenecut=0:open-gop=0:aud=1:repeat-headers=1", "yuv420p", 318, 178},
		{"main 10", "log-level=none:keyint=30:min-keyint=30:scenecut=0:open-gop=0:aud=1:repeat-headers=1", "yuv420p10le", 640, 360},
		{"scaling lists", "log-level=none:keyint=30:min-keyint=30:scenecut=0:open-gop=0:aud=1:repeat-headers=1:scaling-list=default:hrd=1:vbv-maxrate=500:vbv-bufsize=500", "yuv422p", 320, 180},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := video(strings.Join([]string{itoa(c.w), itoa(c.h)}, "x"), "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", c.pix, "-x265-params", c.opts)
			mp4 := ffmpeg(t, "a.mp4", append(args, "-tag:v", "hvc1")...)
			want := box(t, mp4, "hvcC")
			info, err := codec.Parse(media.HEVC, want)
			if err != nil || info.Width != c.w || info.Height != c.h || info.FrameRate != 30 || info.NALLength != 4 {
				t.Fatalf("%+v, %v", info, err)
			}
			raw := ffmpeg(t, "a.hevc", args...)
			s, _ := codec.NewSets(media.HEVC, nil)
			for i, au := range units(raw, 35<<1) {
				data, p := s.FromAnnexB(nil, au)
				if p.Key != (i%30 == 0) || p.Open || p.Broken || p.Changed != (i == 0) {
					t.Fatalf("picture %d: %+v", i, p)
				}
				if key, open := codec.Key(media.HEVC, 4, data); key != p.Key || open {
					t.Fatalf("picture %d: Key says %v, %v", i, key, open)
				}
			}
			if !codec.Equal(media.HEVC, s.Record(), want) {
				t.Errorf("made %x\nwant %x", s.Record(), want)
			}
			if got := s.Record(); !bytes.Equal(got[:13], want[:13]) || !bytes.Equal(got[16:19], want[16:19]) {
				t.Errorf("made %x\nwant %x", got[:23], want[:23])
			}
			t.Log(info.Name)
		})
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

func TestAV1AgainstFFmpeg(t *testing.T) {
	for _, pix := range []string{"yuv420p", "yuv420p10le"} {
		args := video("318x180", "-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-g", "30", "-pix_fmt", pix)
		mp4 := ffmpeg(t, "a.mp4", args...)
		want := box(t, mp4, "av1C")
		info, err := codec.Parse(media.AV1, want)
		if err != nil || info.Width != 318 || info.Height != 180 {
			t.Fatalf("%+v, %v", info, err)
		}
		ivf := ffmpeg(t, "a.ivf", args...)
		got, ok := codec.BuildAV1C(ivf[32+12:])
		if !ok || !bytes.Equal(got[:3], want[:3]) || !codec.Equal(media.AV1, got, want) {
			t.Errorf("made %x\nwant %x", got, want)
		}
		n := 0
		for b := ivf[32:]; len(b) >= 12; n++ {
			size := int(binary.LittleEndian.Uint32(b))
			tu := b[12 : 12+size]
			if key, _ := codec.Key(media.AV1, 0, tu); key != (n%30 == 0) {
				t.Errorf("unit %d: key %v", n, key)
			}
			// Each begins with its delimiter.
			if s := codec.AV1Sample(nil, tu); !bytes.Equal(s, tu[2:]) || !bytes.Contains(mp4, s) {
				t.Errorf("unit %d: %d bytes became %d", n, len(tu), len(s))
			}
			b = b[12+size:]
		}
		if n < 60 {
			t.Errorf("%d temporal units", n)
		}
	}
}

func TestSoundAgainstFFmpeg(t *testing.T) {
	for _, c := range []struct {
		name, raw, box string
		args           []string
		codec          media.Codec
		build          func([]byte) ([]byte, error)
		want           codec.Info
	}{
		{"AAC", "a.aac", "esds", sound("2", "-c:a", "aac"), media.AAC, codec.BuildASC,
			codec.Info{Codec: media.AAC, Name: "mp4a.40.2", Profile: 2, SampleRate: 48000, CoreRate: 48000, Channels: 2, FrameSamples: 1024}},
		{"AAC 5.1", "a.aac", "esds", sound("6", "-c:a", "aac", "-ar", "44100"), media.AAC, codec.BuildASC,
			codec.Info{Codec: media.AAC, Name: "mp4a.40.2", Profile: 2, SampleRate: 44100, CoreRate: 44100, Channels: 6, FrameSamples: 1024}},
		{"AAC 2.1", "a.aac", "esds", nil, media.AAC, codec.BuildASC,
			codec.Info{Codec: media.AAC, Name: "mp4a.40.2", Profile: 2, SampleRate: 48000, CoreRate: 48000, Channels: 3, FrameSamples: 1024}},
		{"AC-3", "a.ac3", "dac3", sound("6", "-c:a", "ac3"), media.AC3, codec.BuildAC3,
			codec.Info{Codec: media.AC3, Name: "ac-3", SampleRate: 48000, CoreRate: 48000, Channels: 6, FrameSamples: 1536}},
		{"AC-3 44.1", "a.ac3", "dac3", sound("1", "-c:a", "ac3", "-ar", "44100"), media.AC3, codec.BuildAC3,
			codec.Info{Codec: media.AC3, Name: "ac-3", SampleRate: 44100, CoreRate: 44100, Channels: 1, FrameSamples: 1536}},
		{"E-AC-3", "a.eac3", "dec3", sound("6", "-c:a", "eac3"), media.EAC3, nil,
			codec.Info{Codec: media.EAC3, Name: "ec-3", SampleRate: 48000, CoreRate: 48000, Channels: 6, FrameSamples: 1536}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if c.name == "AAC 2.1" { // one that only a program config element can say
				args = []string{"-f", "lavfi", "-i", "anoisesrc=r=48000:seed=7,pan=2.1|FL=c0|FR=c0|LFE=c0", "-t", "1", "-c:a", "aac"}
			}
			raw := ffmpeg(t, c.raw, args...)
			mp4 := ffmpeg(t, "a.mp4", args...)
			want := box(t, mp4, c.box)
			if c.box == "esds" {
				i := bytes.LastIndex(want, []byte{5, 0x80, 0x80, 0x80})
				want = want[i+5 : i+5+int(want[i+4])]
			}
			frames, at := 0, 0
			var first []byte
			for at < len(raw) {
				var f codec.Frame
				var ok bool
				if c.codec == media.AAC {
					f, ok = codec.ADTSFrame(raw[at:])
				} else {
					var enhanced bool
					f, enhanced, ok = codec.AC3Frame(raw[at:])
					ok = ok && enhanced == (c.codec == media.EAC3)
				}
				if !ok || f.Size > len(raw)-at || f.Rate != c.want.SampleRate || f.Samples != c.want.FrameSamples {
					t.Fatalf("at %d of %d: %+v, %v", at, len(raw), f, ok)
				}
				data := raw[at+f.Header : at+f.Size]
				if frames > 0 && !bytes.Contains(mp4, data) {
					t.Fatalf("frame %d is not what ffmpeg put into MP4", frames)
				}
				if frames == 0 {
					first = raw[at : at+f.Size]
				}
				at += f.Size
				frames++
			}
			if frames < 28 {
				t.Errorf("%d frames", frames)
			}
			build := c.build
			if build == nil {
				build = codec.BuildEAC3
			}
			got, err := build(first)
			if err != nil || !codec.Equal(c.codec, got, want) {
				t.Errorf("made %x, want %x, %v", got, want, err)
			}
			info, err := codec.Parse(c.codec, got)
			if err != nil || info != c.want {
				t.Errorf("%+v, %v", info, err)
			}
			if n := info.Samples(first); n != c.want.FrameSamples {
				t.Errorf("%d samples", n)
			}
		})
	}
}

func TestMP3AgainstFFmpeg(t *testing.T) {
	for _, rate := range []string{"48000", "44100", "22050", "11025"} {
		raw := ffmpeg(t, "a.mp3", sound("2", "-c:a", "libmp3lame", "-ar", rate, "-id3v2_version", "0", "-write_xing", "0")...)
		at, n, samples := 0, 0, 0
		for at < len(raw) {
			f, ok := codec.MP3Frame(raw[at:])
			if !ok || itoa(f.Rate) != rate {
				t.Fatalf("at %d of %d: %+v, %v", at, len(raw), f, ok)
			}
			at, n, samples = at+f.Size, n+1, samples+f.Samples
		}
		info, err := codec.Parse(media.MP3, raw[:4])
		if at != len(raw) || err != nil || info.Channels != 2 || itoa(info.SampleRate) != rate || samples < info.SampleRate {
			t.Errorf("%s: %d frames of %d samples end at %d of %d; %+v, %v", rate, n, samples, at, len(raw), info, err)
		}
	}
}

func TestOpusAndFLACAgainstFFmpeg(t *testing.T) {
	for _, channels := range []string{"1", "2", "6"} {
		mp4 := ffmpeg(t, "a.mp4", sound(channels, "-c:a", "libopus")...)
		ogg := ffmpeg(t, "a.ogg", sound(channels, "-c:a", "libopus")...)
		want := box(t, mp4, "dOps")
		got, err := codec.BuildOpus(ogg[bytes.Index(ogg, []byte("OpusHead")):])
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s channels: made %x, want %x, %v", channels, got, want, err)
		}
		code, ok := codec.OpusTS(got)
		if !ok || itoa(int(code)) != channels {
			t.Errorf("%s channels: code %d, %v", channels, code, ok)
		}
		ts, err := codec.BuildOpusTS(code)
		if err != nil || !codec.Equal(media.Opus, ts, got) {
			t.Errorf("%s channels: from TS %x, want %x, %v", channels, ts, want, err)
		}
	}
	flac := ffmpeg(t, "a.flac", sound("2", "-c:a", "flac")...)
	mp4 := ffmpeg(t, "a.mp4", sound("2", "-c:a", "flac", "-strict", "-2")...)
	want := box(t, mp4, "dfLa")
	got, err := codec.BuildFLAC(flac[:42])
	if err != nil || !codec.Equal(media.FLAC, got, want) || !codec.Equal(media.FLAC, got, want[4:]) {
		t.Errorf("made %x, want %x, %v", got, want, err)
	}
	info, err := codec.Parse(media.FLAC, want[4:])
	if err != nil || info.SampleRate != 48000 || info.Channels != 2 || info.FrameSamples == 0 {
		t.Errorf("%+v, %v", info, err)
	}
	at := bytes.Index(flac, []byte{0xFF, 0xF8})
	if n := info.Samples(flac[at:]); n != info.FrameSamples {
		t.Errorf("a frame of %d samples, blocks of %d", n, info.FrameSamples)
	}
}

func TestVP9Key(t *testing.T) {
	ivf := ffmpeg(t, "a.ivf", video("320x180", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30")...)
	n := 0
	for b := ivf[32:]; len(b) >= 12; n++ {
		size := int(binary.LittleEndian.Uint32(b))
		if key, _ := codec.Key(media.VP9, 0, b[12:12+size]); key != (n == 0 || n == 30) {
			t.Errorf("frame %d: key %v", n, key)
		}
		b = b[12+size:]
	}
	if n != 60 {
		t.Errorf("%d frames", n)
	}
	mp4 := ffmpeg(t, "a.mp4", video("320x180", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")...)
	if i, err := codec.Parse(media.VP9, box(t, mp4, "vpcC")); err != nil || !strings.HasPrefix(i.Name, "vp09.00.") {
		t.Errorf("%+v, %v", i, err)
	}
}
