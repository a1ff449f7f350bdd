package hls

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChoose(t *testing.T) {
	ladder := []string{
		`#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="chunked",NAME="1080p60 (source)"`,
		"#EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=640x360,FRAME-RATE=30,NAME=\"Low\"", "360",
		`#EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS="mp4a.40.5"`, "sound",
		"#EXT-X-STREAM-INF:BANDWIDTH=6000000,RESOLUTION=1920x1080,FRAME-RATE=30", "1080",
		`#EXT-X-STREAM-INF:BANDWIDTH=6000000,RESOLUTION=1920x1080,FRAME-RATE=60,VIDEO="chunked"`, "1080p60",
		"#EXT-X-STREAM-INF:BANDWIDTH=9000000,RESOLUTION=1280x720", "720",
		`#EXT-X-STREAM-INF:BANDWIDTH=6000000,RESOLUTION=1920x1080,FRAME-RATE=60,VIDEO="chunked"`, "https://backup.example/1080p60",
		`#EXT-X-STREAM-INF:BANDWIDTH=5900000,RESOLUTION=1920x1080,FRAME-RATE=60`, "https://third.example/1080p60",
		`#EXT-X-STREAM-INF:BANDWIDTH=3000000,RESOLUTION=1920x1080,FRAME-RATE=60`, "1080p60-thin",
		`#EXT-X-STREAM-INF:BANDWIDTH=6000000,RESOLUTION=1920x1080,FRAME-RATE=60,VIDEO="chunked"`, "https://backup.example/1080p60",
	}
	for _, c := range []struct {
		quality string
		lines   []string
		want    string   // URI
		backups []string // URIs
		bad     string
	}{
		{quality: "", lines: ladder, want: "1080p60", backups: []string{"https://backup.example/1080p60", "https://third.example/1080p60"}},
		{quality: "Best", lines: ladder, want: "1080p60", backups: []string{"https://backup.example/1080p60", "https://third.example/1080p60"}},
		{quality: "auto", lines: ladder, want: "1080p60", backups: []string{"https://backup.example/1080p60", "https://third.example/1080p60"}},
		{quality: "worst", lines: ladder, want: "360"},
		{quality: "audio", lines: ladder, want: "sound"},
		{quality: "720", lines: ladder, want: "720"},
		{quality: "720p", lines: ladder, want: "720"},
		{quality: "900", lines: ladder, want: "720"},
		{quality: "1080p30", lines: ladder, want: "1080"},
		{quality: "1080p60", lines: ladder, want: "1080p60", backups: []string{"https://backup.example/1080p60", "https://third.example/1080p60"}},
		{quality: "720p30", lines: ladder, want: "720"},
		{quality: "1080px", lines: ladder, bad: "1080px"},
		{quality: "", lines: []string{"#EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=2x2", "a", "#EXT-X-STREAM-INF:BANDWIDTH=3,VIDEO=\"chunked\"", "b"}, want: "b"},
		{quality: "", lines: []string{"#EXT-X-STREAM-INF:BANDWIDTH=9,AVERAGE-BANDWIDTH=3", "a", "#EXT-X-STREAM-INF:BANDWIDTH=8,AVERAGE-BANDWIDTH=4", "b"}, want: "b"},
		{quality: "144", lines: ladder, want: "360"},
		{quality: "low", lines: ladder, want: "360"},
		{quality: "chunked", lines: ladder, want: "1080p60", backups: []string{"https://backup.example/1080p60", "https://third.example/1080p60"}},
		{quality: "1080P60 (Source)", lines: ladder, want: "1080p60", backups: []string{"https://backup.example/1080p60", "https://third.example/1080p60"}},
		{quality: "nice", lines: ladder, bad: "nice"},
		{quality: "-5", lines: ladder, bad: "-5"},
		{quality: "", lines: []string{"#EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS=\"mp4a.40.5\"", "sound"}, want: "sound"},
		{quality: "worst", lines: []string{"#EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS=\"mp4a.40.5\"", "sound", "#EXT-X-STREAM-INF:BANDWIDTH=90000,CODECS=\"hvc1.1,mp4a.40.5\"", "small"}, want: "small"},
		{quality: "audio", lines: []string{"#EXT-X-STREAM-INF:BANDWIDTH=1", "a"}, bad: "sound"},
		{quality: "", lines: []string{"#EXT-X-STREAM-INF:BANDWIDTH=1", "a", "#EXT-X-STREAM-INF:BANDWIDTH=3", "b", "#EXT-X-STREAM-INF:BANDWIDTH=2", "c"}, want: "b"},
		{quality: "", lines: []string{"#EXT-X-STREAM-INF:X=1", "a", "#EXT-X-STREAM-INF:X=1", "b"}, want: "a"},
		{quality: "", lines: []string{`#EXT-X-MEDIA:TYPE=AUDIO,URI="x"`}, bad: "none"},
		{quality: "720", lines: []string{"#EXT-X-STREAM-INF:BANDWIDTH=1", "a", "#EXT-X-STREAM-INF:BANDWIDTH=3", "b"}, want: "b"},
	} {
		got, err := Choose(masterOf(t, c.lines...), c.quality)
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%q: %v, want %q", c.quality, err, c.bad)
			}
			continue
		}
		var backups []string
		for _, b := range got.Backups {
			backups = append(backups, b.URI)
		}
		if err != nil || got.Variant.URI != c.want || !cmp.Equal(backups, c.backups) {
			t.Errorf("%q: %q and %q, %v, want %q and %q", c.quality, got.Variant.URI, backups, err, c.want, c.backups)
		}
	}
}

func TestSeparateAudio(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		want        bool
		n           int
	}{
		{"no group", "#EXT-X-STREAM-INF:BANDWIDTH=1\nv", false, 0},
		{"group of its own playlists", "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"x\"\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"b\",URI=\"x\"\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"a\",URI=\"x\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv", true, 1},
		{"default inside", "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",DEFAULT=YES\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"x\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv", false, 2},
		{"one that may not be opened", "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"file:///x\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv", true, 1},
	} {
		got, err := Choose(masterOf(t, c.lines), "")
		if err != nil || got.Separate() != c.want || len(got.Audio) != c.n {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}
