package probe_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/liverec/liverec/pkg/media/probe"
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

// What ffmpeg writes is sound in each container and codec, and the same media in each container that it is copied to.
func TestFilesOfFFmpeg(t *testing.T) {
	ffmpeg := tool(t, "ffmpeg")
	dir := t.TempDir()
	for _, c := range []struct {
		name, encode string
		video, audio string
		copies       []string // name and flags
	}{
		{"avc.mp4", "-c:v libx264 -preset ultrafast -g 60 -bf 2 -c:a aac", "avc", "aac", []string{
			"frag.mp4 -movflags frag_keyframe+empty_moov+default_base_moof", "delay.mp4 -movflags frag_keyframe+delay_moov",
			"cmaf.mp4 -movflags cmaf -frag_duration 500000", "fast.mp4 -movflags faststart", "avc.ts", "avc.flv -flvflags add_keyframe_index", "avc.mov"}},
		{"hevc.mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=60 -tag:v hvc1 -c:a ac3", "hevc", "ac-3", []string{
			"hevc.ts", "hevcfrag.mp4 -tag:v hvc1 -movflags frag_keyframe+delay_moov"}},
		{"eac3.mp4", "-c:v libx264 -preset ultrafast -g 60 -c:a eac3", "avc", "ec-3", []string{"eac3.ts"}},
		{"vp9.mp4", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 60 -c:a libopus", "vp9", "opus", []string{"vp9frag.mp4 -movflags frag_keyframe+empty_moov"}},
		{"av1.mp4", "-c:v libaom-av1 -usage realtime -cpu-used 8 -g 60 -c:a flac -strict -2", "av1", "flac", nil},
		{"mp3.mp4", "-c:v libx264 -preset ultrafast -g 60 -c:a libmp3lame", "avc", "mp3", []string{"mp3.ts"}},
		{"alaw.flv", "-c:v libx264 -preset ultrafast -g 60 -ar 8000 -c:a pcm_alaw -flvflags add_keyframe_index", "avc", "g711a", nil},
		{"opus.ts", "-c:v libx264 -preset ultrafast -g 60 -c:a libopus", "avc", "opus", nil},
		{"audio.mp4", "-vn -c:a aac", "", "aac", []string{"audio.ts"}},
		{"video.mp4", "-an -c:v libx264 -preset ultrafast", "avc", "", []string{"video.ts"}},
	} {
		first := filepath.Join(dir, c.name)
		args := strings.Fields("-v error -f lavfi -i testsrc2=s=320x180:r=30 -f lavfi -i sine=f=440:r=48000 -t 5 " + c.encode)
		if out, err := exec.CommandContext(t.Context(), ffmpeg, append(args, first)...).CombinedOutput(); err != nil {
			if os.Getenv("LIVEREC_NEED_TOOLS") == "1" {
				t.Errorf("%s: %v: %s", c.name, err, out)
			}
			t.Logf("%s cannot be made here: %s", c.name, out)
			continue
		}
		whole := examine(t, first, c.video, c.audio)
		for _, cp := range c.copies {
			f := strings.Fields(cp)
			name := filepath.Join(dir, f[0])
			args := append(append([]string{"-v", "error", "-i", first, "-c", "copy"}, f[1:]...), name)
			if out, err := exec.CommandContext(t.Context(), ffmpeg, args...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", f[0], err, out)
				continue
			}
			other := examine(t, name, c.video, c.audio)
			for i := range whole.Tracks {
				if i >= len(other.Tracks) || whole.Tracks[i].Media != other.Tracks[i].Media {
					t.Errorf("the media of %s is another in %s", c.name, f[0])
				}
			}
		}
	}
}

func examine(t *testing.T, name, video, audio string) probe.Report {
	t.Helper()
	r, err := probe.CheckFile(name)
	if err != nil {
		t.Error(err)
	}
	for _, p := range r.Problems {
		if !strings.Contains(p.Text, "lastkeyframelocation") { // ffmpeg counts it before it makes room for the index
			t.Errorf("%s: %v", filepath.Base(name), p)
		}
	}
	for kind, codec := range map[probe.Kind]string{probe.Video: video, probe.Audio: audio} {
		if tr, ok := r.Track(kind); ok != (codec != "") || tr.Codec != codec {
			t.Errorf("%s: the %s is %q, want %q", filepath.Base(name), kind, tr.Codec, codec)
		}
	}
	return r
}
