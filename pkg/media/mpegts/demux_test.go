package mpegts_test

import (
	"slices"
	"testing"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/mpegts"
)

func TestAgainstFFmpeg(t *testing.T) {
	for _, c := range []struct {
		name, format string
		args         []string
		codecs       []media.Codec
		bare         bool // the source's samples are those of the stream
	}{
		{"H.264 and AAC", "mp4", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "aac"}), []media.Codec{media.AVC, media.AAC}, true},
		{"H.264 and AAC 44.1", "mp4", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "aac", "-ar", "44100", "-ac", "2"}), []media.Codec{media.AVC, media.AAC}, true},
		{"HEVC and AC-3", "mp4", slices.Concat(lavfi("3", picture, tone), h265, []string{"-c:a", "ac3"}), []media.Codec{media.HEVC, media.AC3}, true},
		{"H.264 and E-AC-3", "mp4", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "eac3", "-ac", "6"}), []media.Codec{media.AVC, media.EAC3}, true},
		{"H.264 and Opus", "mkv", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "libopus", "-ac", "2"}), []media.Codec{media.AVC, media.Opus}, true},
		{"H.264 and MP3", "mkv", slices.Concat(lavfi("3", picture, tone), h264, []string{"-c:a", "libmp3lame", "-ac", "2"}), []media.Codec{media.AVC, media.MP3}, true},
		{"AAC alone", "mp4", slices.Concat(lavfi("3", tone), []string{"-c:a", "aac"}), []media.Codec{media.AAC}, true},
		{"H.264 alone", "mp4", slices.Concat(lavfi("3", picture), h264), []media.Codec{media.AVC}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			clip := encode(t, c.format, c.args...)
			b := read(t, clip.ts)
			k := demux(t, b, 0)
			source, ts := probe(t, clip.source), probe(t, clip.ts)
			for i, want := range c.codecs {
				video := want == media.AVC || want == media.HEVC
				units := k.of(video)
				if len(units) != len(ts[i]) || len(units) != len(source[i]) {
					t.Fatalf("%v: %d units, ffprobe has %d, and %d in the source", want, len(units), len(ts[i]), len(source[i]))
				}
				for n, u := range units {
					p := ts[i][n]
					if u.Codec != want || u.PTS != p.PTS || u.DTS != p.DTS || u.Key != p.Key || u.Corrupt || u.Open || u.Jump || u.Guessed {
						t.Fatalf("%v %d: %+v\nffprobe: %+v", want, n, show(u), p)
					}
					if (u.Config != nil) != (n == 0) {
						t.Errorf("%v %d: configuration %x", want, n, u.Config)
					}
					if got := hash(u.Data); got != source[i][n].Hash && !(want == media.Opus) {
						t.Fatalf("%v %d: %d bytes, %d in the source", want, n, len(u.Data), source[i][n].Size)
					}
					if !video && (u.Samples == 0 || u.Rate == 0) {
						t.Fatalf("%v %d: %d samples of %d Hz", want, n, u.Samples, u.Rate)
					}
				}
				if info, err := codec.Parse(want, units[0].Config); err != nil || video && (info.Width != 320 || info.Height != 180 || info.FrameRate != 30) {
					t.Errorf("%v: %+v, %v", want, info, err)
				}
			}
			if n := len(c.codecs); len(k.units) != len(ts[0])+func() int {
				if n > 1 {
					return len(ts[1])
				}
				return 0
			}() {
				t.Errorf("%d units", len(k.units))
			}
			cnt := k.count
			if cnt.Junk+cnt.Scrambled+cnt.Errors+cnt.Continuity+cnt.Corrupt+cnt.Torn+cnt.Tables+cnt.Duplicate != 0 {
				t.Errorf("%+v", cnt)
			}
			if len(k.programs) != 1 || len(k.programs[0].Streams) != len(c.codecs) {
				t.Errorf("%+v", k.programs)
			}
			for _, piece := range []int{1, 47, 188, 1000, 40000} {
				same(t, k.units, demux(t, b, piece).units)
			}
		})
	}
}

var _ mpegts.Unit
