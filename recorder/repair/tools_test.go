package repair_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/mp4"
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

// movies writes what came out into one MP4 file per part.
func (g *rig) movies(t testing.TB) (paths []string) {
	t.Helper()
	for n, c := range g.s.configs {
		var cfg mp4.Config
		for _, p := range []media.Packet{c.Video, c.Audio} {
			if p.Kind == 0 {
				continue
			}
			i, err := codec.Parse(p.Codec, p.Payload())
			if err != nil {
				t.Fatal(err)
			}
			tr := &mp4.Track{Codec: p.Codec, Config: p.Payload(), Width: i.Width, Height: i.Height, SampleRate: i.SampleRate, Channels: i.Channels}
			if p.Kind == media.VideoConfig {
				cfg.Video = tr
			} else {
				cfg.Audio = tr
				if p.Codec == media.MP3 || p.Codec == media.PCMA || p.Codec == media.PCMU {
					tr.Config = nil
				}
			}
		}
		if cfg.Video != nil && cfg.Video.Width == 0 {
			cfg.Video.Width, cfg.Video.Height = c.Width, c.Height
		}
		w, err := mp4.NewWriter(cfg)
		if err != nil {
			t.Fatal(err)
		}
		base := time.Duration(-1)
		for _, it := range g.s.items {
			if it.part != n+1 {
				continue
			}
			at := time.Duration(it.out) * time.Millisecond
			if base < 0 {
				base = at
			}
			err := w.Add(mp4.Sample{
				Video: it.kind == media.Video, Key: it.key, Time: at - base, Shift: time.Duration(it.cts) * time.Millisecond,
				Lasts: time.Duration(it.dur) * time.Millisecond, Data: it.data,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		b := w.Flush(bytes.Clone(w.Head()))
		tail, at, patch := w.Close()
		b = append(b, tail...)
		copy(b[at:], patch)
		p := filepath.Join(t.TempDir(), strconv.Itoa(n)+".mp4")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

// What comes out plays: ffmpeg decodes every frame of it and complains of nothing. Composition times are made up here,
// so nothing is asked of them.
func TestToolsDecodeEveryCodec(t *testing.T) {
	ffmpeg, ffprobe := tool(t, "ffmpeg"), tool(t, "ffprobe")
	check := func(t *testing.T, path string, video int) {
		t.Helper()
		out, err := exec.Command(ffmpeg, "-v", "error", "-xerror", "-i", path, "-f", "null", "-").CombinedOutput()
		lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(l string) bool {
			return l == "" || strings.Contains(l, "non monotonically increasing dts to muxer")
		})
		if err != nil || len(lines) > 0 {
			t.Errorf("ffmpeg: %v: %q", err, lines)
		}
		out, err = exec.Command(ffprobe, "-v", "error", "-count_frames", "-select_streams", "v", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", path).Output()
		if err != nil {
			t.Fatalf("ffprobe: %v", err)
		}
		if n, _ := strconv.Atoi(strings.Trim(string(out), "\n, ")); n != video {
			t.Errorf("%d frames were decoded, want %d", n, video)
		}
	}
	play := func(ts []tagged) *rig {
		g := newRig(t)
		g.r.Connect(g.now, "")
		g.play(packets(t, ts, 0))
		g.disconnect()
		return g
	}
	for name, c := range streams(t) {
		if c.a.codec == media.FLAC || c.vw == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := tags(c.v, c.vw)
			if c.aw != nil && c.a.codec != media.AAC { // noise is no AAC
				ts = mix(ts, tags(c.a, c.aw))
			}
			check(t, play(ts).movies(t)[0], len(c.v.units))
		})
	}
	t.Run("start codes", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			clip
			w wrap
		}{{pictures(t, media.AVC, "closed.h264", true), old(7)}, {pictures(t, media.HEVC, "hevc_open.h265", true), old(12)}} {
			for i := range c.units {
				c.units[i].data = startCoded(t, c.units[i].data)
			}
			check(t, play(tags(c.clip, c.w)[1:]).movies(t)[0], 50)
		}
	})
	t.Run("another size in band", func(t *testing.T) {
		t.Parallel()
		avc := pictures(t, media.AVC, "closed.h264", true)
		other := pictures(t, media.AVC, "wide.h264", true)
		ms := play(mix(tags(avc, old(7)), later(tags(other, old(7))[1:], 2000))).movies(t)
		if len(ms) != 2 {
			t.Fatalf("%d parts", len(ms))
		}
		check(t, ms[0], 50)
		check(t, ms[1], 50)
	})
}

// FLV of ffmpeg's own, with sound that has no header.
func TestToolsSoundOfOld(t *testing.T) {
	ffmpeg, ffprobe := tool(t, "ffmpeg"), tool(t, "ffprobe")
	for codecName, c := range map[string]struct {
		codec media.Codec
		args  []string
	}{
		"libmp3lame": {media.MP3, []string{"-ar", "44100"}},
		"pcm_alaw":   {media.PCMA, []string{"-ar", "8000", "-ac", "1"}},
		"pcm_mulaw":  {media.PCMU, []string{"-ar", "8000", "-ac", "1"}},
	} {
		for _, video := range []bool{true, false} {
			args := []string{"-v", "error", "-f", "lavfi", "-i", "sine"}
			if video {
				args = append(args, "-f", "lavfi", "-i", "testsrc2=s=128x72:r=25", "-map", "1", "-map", "0", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "25", "-bf", "2")
			}
			args = append(append(args, "-t", "3", "-c:a", codecName), c.args...)
			in, err := exec.Command(ffmpeg, append(args, "-f", "flv", "-")...).Output()
			if err != nil {
				t.Fatalf("%s: %v", codecName, err)
			}
			g := newRig(t)
			g.r.Connect(g.now, "")
			var ps []media.Packet
			_, _, err = flv.ReadAll(bytes.NewReader(in), flv.DemuxerConfig{}, func(b *media.Batch) error {
				for _, p := range b.Packets {
					p.Body = bytes.Clone(p.Body)
					ps = append(ps, p)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			sounds, pictures := 0, 0
			for _, p := range ps {
				switch p.Kind {
				case media.Audio:
					sounds++
				case media.Video:
					pictures++
				}
			}
			g.play(ps)
			g.disconnect()
			if a, v := len(g.s.kind(media.Audio)), len(g.s.kind(media.Video)); a != sounds || v != pictures || a == 0 || len(g.s.configs) != 1 || len(g.errs) > 0 {
				t.Fatalf("%s: %d of %d frames of sound, %d of %d pictures, %d parts, %v", codecName, a, sounds, v, pictures, len(g.s.configs), g.errs)
			}
			if got := g.s.configs[0].Audio.Codec; got != c.codec {
				t.Errorf("%s is %v", codecName, got)
			}
			g.want(0, 0, 0)
			g.again()
			path := g.movies(t)[0]
			if out, err := exec.Command(ffmpeg, "-v", "error", "-xerror", "-i", path, "-f", "null", "-").CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: %v: %s", codecName, err, out)
			}
			out, err := exec.Command(ffprobe, "-v", "error", "-count_packets", "-select_streams", "a", "-show_entries", "stream=nb_read_packets,duration", "-of", "csv=p=0", path).Output()
			if err != nil || !strings.HasPrefix(string(out), "3.0") && !strings.HasPrefix(string(out), "2.9") {
				t.Errorf("%s: %q, %v", codecName, out, err)
			}
		}
	}
}
