package hlspull_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/hlspull"
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

func command(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &errs, dir
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return out.String()
}

// What ffmpeg writes comes out frame by frame, as often as ffprobe counts it.
func TestFFmpeg(t *testing.T) {
	source := []string{"-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "6"}
	x264 := []string{"-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-bf", "2", "-pix_fmt", "yuv420p"}
	x265 := []string{"-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=50:log-level=none", "-pix_fmt", "yuv420p"}
	aac := []string{"-c:a", "aac"}
	hls := []string{"-f", "hls", "-hls_time", "2", "-hls_list_size", "0"}
	for _, c := range []struct {
		name  string
		args  []string
		out   string
		codec [2]media.Codec // video, sound
	}{
		{"transport stream", slices.Concat(x264, aac, hls), "list.m3u8", [2]media.Codec{media.AVC, media.AAC}},
		{"HEVC in a transport stream", slices.Concat(x265, []string{"-c:a", "ac3"}, hls), "list.m3u8", [2]media.Codec{media.HEVC, media.AC3}},
		{"fMP4", slices.Concat(x264, aac, hls, []string{"-hls_segment_type", "fmp4"}), "list.m3u8", [2]media.Codec{media.AVC, media.AAC}},
		{"HEVC and Opus in fMP4", slices.Concat(x265, []string{"-tag:v", "hvc1", "-c:a", "libopus"}, hls, []string{"-hls_segment_type", "fmp4"}), "list.m3u8", [2]media.Codec{media.HEVC, media.Opus}},
		{"byte ranges", slices.Concat(x264, aac, hls, []string{"-hls_flags", "single_file"}), "list.m3u8", [2]media.Codec{media.AVC, media.AAC}},
		{"byte ranges of fMP4", slices.Concat(x264, aac, hls, []string{"-hls_segment_type", "fmp4", "-hls_flags", "single_file"}), "list.m3u8", [2]media.Codec{media.AVC, media.AAC}},
		{"AES-128", slices.Concat(x264, aac, hls, []string{"-hls_key_info_file", "key.info"}), "list.m3u8", [2]media.Codec{media.AVC, media.AAC}},
		{"separate sound", slices.Concat(x264, aac, []string{"-map", "0:v", "-map", "1:a"}, hls,
			[]string{"-var_stream_map", "v:0,agroup:g a:0,agroup:g,default:yes", "-master_pl_name", "list.m3u8"}), "v%v.m3u8", [2]media.Codec{media.AVC, media.AAC}},
		{"separate sound in fMP4", slices.Concat(x264, aac, []string{"-map", "0:v", "-map", "1:a"}, hls,
			[]string{"-hls_segment_type", "fmp4", "-var_stream_map", "v:0,agroup:g a:0,agroup:g,default:yes", "-master_pl_name", "list.m3u8"}), "v%v.m3u8", [2]media.Codec{media.AVC, media.AAC}},
		{"a clock that wraps", slices.Concat(x264, aac, []string{"-output_ts_offset", "95439"}, hls), "list.m3u8", [2]media.Codec{media.AVC, media.AAC}},
		{"packed sound", slices.Concat([]string{"-map", "1:a"}, aac, []string{"-f", "segment", "-segment_time", "2", "-segment_format", "adts", "-segment_list", "list.m3u8"}), "s%d.aac", [2]media.Codec{media.NoCodec, media.AAC}},
		{"sound alone", slices.Concat([]string{"-map", "1:a"}, aac, hls), "list.m3u8", [2]media.Codec{media.NoCodec, media.AAC}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "key"), "0123456789abcdef")
			write(t, filepath.Join(dir, "key.info"), "key\nkey\n")
			command(t, dir, "ffmpeg", slices.Concat(source, c.args, []string{c.out})...)
			srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
			defer srv.Close()
			s, err := hlspull.New(hlspull.Config{URL: srv.URL + "/list.m3u8", Log: zerolog.New(zerolog.NewTestWriter(t))})
			if err != nil {
				t.Fatal(err)
			}
			out := make(chan *media.Batch, 16)
			var frames [2]int
			var kinds string
			var last [2]time.Duration
			done := make(chan struct{})
			go func() {
				defer close(done)
				for b := range out {
					for _, p := range b.Packets {
						k := 0
						switch p.Kind {
						case media.Join:
							if p.Seam.Missing != 0 || p.Seam.Discontinuity && len(kinds) > 0 {
								t.Errorf("after %d frames: %+v", frames, p.Seam)
							}
							continue
						case media.VideoConfig, media.AudioConfig:
							kinds += p.Kind.String() + " "
							continue
						case media.Audio:
							k = 1
						default:
						}
						if p.Codec != c.codec[k] {
							t.Errorf("%v frame of %v", p.Kind, p.Codec)
						}
						if p.Exact <= last[k] && frames[k] > 0 || p.Exact > last[k]+time.Second && frames[k] > 0 {
							t.Errorf("%v %d at %v behind one at %v", p.Kind, frames[k], p.Exact, last[k])
						}
						last[k] = p.Exact
						frames[k]++
					}
					b.Release()
				}
			}()
			err = s.Run(t.Context(), out)
			close(out)
			<-done
			if !errors.Is(err, hlspull.ErrEnd) {
				t.Errorf("ended with %v", err)
			}
			want := count(t, dir)
			if frames != want {
				t.Errorf("%d frames of video and sound, want %d", frames, want)
			}
			if n := strings.Count(kinds, "config"); n != min(want[0], 1)+min(want[1], 1) {
				t.Errorf("configurations: %s", kinds)
			}
			if last[0] > 0 && last[1] > 0 && (last[0]-last[1]).Abs() > 150*time.Millisecond {
				t.Errorf("video ends at %v, sound at %v", last[0], last[1])
			}
		})
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// count is how many packets of video and sound ffprobe finds.
func count(t testing.TB, dir string) (n [2]int) {
	t.Helper()
	var probe struct {
		Streams []struct {
			Kind string `json:"codec_type"`
			N    string `json:"nb_read_packets"`
		}
	}
	text := command(t, dir, "ffprobe", "-v", "error", "-allowed_extensions", "ALL", "-count_packets", "-show_entries", "stream=codec_type,nb_read_packets", "-of", "json", "list.m3u8")
	if err := json.Unmarshal([]byte(text), &probe); err != nil {
		t.Fatal(err)
	}
	for _, s := range probe.Streams {
		x, err := strconv.Atoi(s.N)
		if err != nil {
			t.Fatal(err)
		}
		if s.Kind == "video" {
			n[0] += x
		} else {
			n[1] += x
		}
	}
	return n
}
