package recorder_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/recorder"
)

// film is a source that sends what an MP4 file holds, as one that numbers its media.
type film struct {
	data          []byte
	video, sounds int // frames that were sent
}

func (f *film) Host() string  { return "film" }
func (f *film) Close() error  { return nil }
func (f *film) Resume([]byte) {}

func (f *film) Run(_ context.Context, out chan<- *media.Batch) error {
	r := bytes.NewReader(f.data)
	file, err := mp4.Open(r, r.Size())
	if err != nil {
		return err
	}
	var samples []mp4.FileSample
	for s, err := range file.Samples() {
		if err != nil {
			return err
		}
		samples = append(samples, s)
	}
	at := func(s mp4.FileSample, ticks int64) time.Duration {
		t := file.Tracks[s.Track]
		return time.Duration(ticks-t.Start) * time.Second / time.Duration(t.Timescale)
	}
	slices.SortStableFunc(samples, func(a, b mp4.FileSample) int { return int(at(a, a.DTS) - at(b, b.DTS)) })
	head := media.Get(64 << 10)
	head.At = time.Now()
	head.Packets = append(head.Packets, media.Packet{Kind: media.Join, Seam: &media.Seam{Place: []byte("0")}})
	for i, t := range file.Tracks {
		p := media.Packet{Kind: media.VideoConfig, Codec: t.Codec, Body: t.Config}
		if t.Kind == media.Audio {
			p.Kind = media.AudioConfig
		}
		if t.Codec == media.MP3 { // which has none: the head of a frame tells
			k := slices.IndexFunc(samples, func(s mp4.FileSample) bool { return s.Track == i })
			b, err := file.Data(samples[k], nil)
			if err != nil {
				return err
			}
			p.Body = b[:4]
		}
		head.Packets = append(head.Packets, p)
	}
	out <- head
	for _, s := range samples {
		b := media.Get(int(s.Size))
		b.At = time.Now()
		body, err := file.Data(s, b.Bytes())
		if err != nil {
			return err
		}
		t := file.Tracks[s.Track]
		p := media.Packet{Kind: t.Kind, Codec: t.Codec, Key: s.Key, Body: body, Exact: at(s, s.DTS), Shift: at(s, s.PTS) - at(s, s.DTS), Sum: flv.Sum(flv.TagVideo, body)}
		p.DTS, p.CTS = p.Exact.Milliseconds(), int32(p.Shift.Milliseconds())
		if t.Kind == media.Audio {
			p.Sum = flv.Sum(flv.TagAudio, body)
			f.sounds++
		} else {
			f.video++
		}
		b.Packets = append(b.Packets, p)
		out <- b
	}
	return io.EOF
}

// Whatever the codecs are, every part plays to its end without a word from ffmpeg, and every frame is there.
func TestContainersPlay(t *testing.T) {
	x264 := []string{"-c:v", "libx264", "-g", "25", "-bf", "2"}
	x265 := []string{"-c:v", "libx265", "-x265-params", "keyint=25:min-keyint=25:log-level=error:open-gop=0"}
	av1 := []string{"-c:v", "libaom-av1", "-cpu-used", "8", "-g", "25", "-usage", "realtime"}
	aac, opus := []string{"-c:a", "aac"}, []string{"-c:a", "libopus"}
	auto := []recorder.Container{recorder.ContainerAuto}
	for _, c := range []struct {
		name  string
		args  [][]string
		kinds []recorder.Container
	}{
		{"H.264 AAC", [][]string{x264, aac}, []recorder.Container{recorder.ContainerAuto, recorder.ContainerFLV, recorder.ContainerTS}},
		{"HEVC AAC", [][]string{x265, aac}, []recorder.Container{recorder.ContainerAuto, recorder.ContainerTS}},
		{"AV1 Opus", [][]string{av1, opus}, auto},
		{"HEVC AC-3", [][]string{x265, {"-c:a", "ac3"}}, []recorder.Container{recorder.ContainerAuto, recorder.ContainerTS}},
		{"H.264 MP3", [][]string{x264, {"-c:a", "libmp3lame"}}, auto},
		{"H.264 E-AC-3", [][]string{x264, {"-c:a", "eac3"}}, auto},
		{"VP9 FLAC", [][]string{{"-c:v", "libvpx-vp9", "-deadline", "realtime", "-g", "25"}, {"-c:a", "flac", "-strict", "-2"}}, auto},
		{"H.264 alone", [][]string{x264, {"-an"}}, auto},
		{"AAC alone", [][]string{{"-vn"}, aac}, auto},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "film.mp4")
			args := []string{"-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25", "-f", "lavfi", "-i", "sine=r=48000", "-t", "4"}
			out, err := exec.CommandContext(t.Context(), tool(t, "ffmpeg"), append(slices.Concat(args, slices.Concat(c.args...)), name)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			data := read(t, name)
			for _, kind := range c.kinds {
				t.Run(string(kind), func(t *testing.T) {
					var files [][]byte
					var ext string
					synctest.Test(t, func(t *testing.T) {
						r := newRig(t, liveroom.Config{})
						src := &film{data: data}
						r.deps.Resolver = &single{src}
						r.cfg.Once, r.cfg.Container, r.cfg.Segment = true, kind, 2*time.Second
						r.start()
						r.wait()
						s := r.session()
						r.check(s, probe.Skew)
						var video, sounds int64
						for _, g := range s.Segments() {
							video, sounds = video+g.VideoFrames, sounds+g.AudioFrames
							files, ext = append(files, read(t, filepath.Join(r.path, g.Path))), filepath.Ext(g.Path)
						}
						if video != int64(src.video) || sounds != int64(src.sounds) && sounds != int64(src.sounds)-1 { // priming comes before the first picture
							t.Errorf("%d of %d pictures, %d of %d frames of sound", video, src.video, sounds, src.sounds)
						}
						if len(files) < 2 || len(files) > 3 {
							t.Errorf("%d parts", len(files))
						}
					})
					for _, b := range files {
						name := filepath.Join(t.TempDir(), "part"+ext)
						if err := os.WriteFile(name, b, 0o644); err != nil {
							t.Fatal(err)
						}
						plays(t, name)
					}
				})
			}
		})
	}
}
