package hls

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grafov/m3u8"
	"pgregory.net/rapid"
)

// fataler is what *testing.T and *rapid.T have in common here.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// check holds what is true of each playlist, whatever it was made of.
func check(t fataler, data []byte) {
	p, err := Parse(data, base(t))
	if errors.Is(err, errGaveUp) {
		t.Fatalf("the first pass let something through: %v\n%q", err, data)
	}
	if err != nil {
		if !errors.Is(err, ErrNotPlaylist) && !errors.Is(err, ErrTooLarge) || p != (Playlist{}) {
			t.Fatalf("%v, %+v", err, p)
		}
		return
	}
	if (p.Master == nil) == (p.Media == nil) {
		t.Fatalf("%+v", p)
	}
	url := func(uri, url string) {
		if url != "" && (uri == "" || !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://")) {
			t.Fatalf("%q became %q", uri, url)
		}
	}
	rest, err := begin(data)
	if err != nil {
		t.Fatal(err)
	}
	if m := p.Master; m != nil {
		if len(m.Variants) > MaxForms || len(m.Renditions) > MaxForms {
			t.Fatalf("%d variants, %d renditions", len(m.Variants), len(m.Renditions))
		}
		for _, v := range m.Variants {
			if url(v.URI, v.URL); v.URL == "" || v.Bandwidth < 0 || v.Width < 0 || v.Height < 0 || v.FrameRate < 0 {
				t.Fatalf("%+v", v)
			}
		}
		if _, err := Choose(m, ""); (err != nil) != (len(m.Variants) == 0) {
			t.Fatalf("%v of %d", err, len(m.Variants))
		}
		once := scanMaster(rest).text.Bytes()
		if again := scanMaster(once).text.Bytes(); len(p.Master.Variants) > 0 && strings.Count(string(once), "\n#EXT-X-STREAM-INF") != strings.Count(string(again), "\n#EXT-X-STREAM-INF") {
			t.Fatalf("%q became %q", once, again)
		}
		return
	}
	m := p.Media
	for i, s := range m.Segments {
		url(s.URI, s.URL)
		if s.Sequence != m.Sequence+uint64(i) || s.Duration < 0 || s.URI == "" || strings.HasPrefix(s.URI, "#") || s.Range.Length < 0 || s.Range.Offset < -1 || s.Period < m.Discontinuities ||
			s.Range.Length == 0 && s.Range.Offset != 0 || strings.ContainsAny(s.URI+s.Title, "\r\n") {
			t.Fatalf("%d: %+v", i, s)
		}
		if i > 0 && (m.Segments[i-1].Map != nil && s.Map == nil || m.Segments[i-1].Keys != nil && s.Keys == nil || s.Period < m.Segments[i-1].Period) {
			t.Fatalf("%d: %+v is not carried from %+v", i, s, m.Segments[i-1])
		}
		for _, k := range s.Keys {
			if url(k.URI, k.URL); k.Method == "" || k.Method == "NONE" || k.Format == "" {
				t.Fatalf("%d: %+v", i, k)
			}
		}
		if s.Map != nil {
			if url(s.Map.URI, s.Map.URL); s.Map.URI == "" || s.Map.Range.Offset < 0 || s.Map.Range.Length < 0 {
				t.Fatalf("%d: %+v", i, s.Map)
			}
		}
	}
	// What the first pass writes is clean: going over it again changes nothing.
	s, err := scanMedia(rest)
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Clone(s.text.Bytes())
	again, err := scanMedia(text[len("#EXTM3U"):])
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(text), again.text.String()); d != "" {
		t.Fatalf("%q: %s", data, d)
	}
	// The two readers agree on keys, as far as the other one can say.
	g, err := m3u8.NewMediaPlaylist(0, uint(max(len(m.Segments), 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.DecodeFrom(&s.text, false); err != nil {
		t.Fatal(err)
	}
	for i, x := range m.Segments {
		k := g.Segments[i].Key
		if k == nil {
			continue
		}
		if k.Method == "NONE" && len(x.Keys) > 0 || k.Method != "NONE" && len(x.Keys) < maxKeys && !contains(x.Keys, k) {
			t.Fatalf("%d: %+v is not among %+v", i, k, x.Keys)
		}
	}
}

func contains(keys []Key, want *m3u8.Key) bool {
	for _, k := range keys {
		if k.Method == want.Method && k.URI == want.URI && k.IV == want.IV {
			return true
		}
	}
	return false
}

// dictionary is what playlists are made of, and what they are broken with.
var dictionary = [...]string{
	"", " ", "#", "# comment", "#EXTM3U", "\xEF\xBB\xBF", "\x00", "<html>", "stray", "a.ts", "b.ts?x=1", "http://h/c.ts", "file:///etc/passwd", "%zz", "\xff\xfe",
	"#EXTINF:4,", "#EXTINF:3.96,8a9f|1b2c", "#EXTINF", "#EXTINF:", "#EXTINF:-1", "#EXTINF:NaN,x", "#EXTINF:1e400,", "#EXTINFO:4", "#EXTINF:0x1p-3,",
	"#EXT-X-TARGETDURATION:4", "#EXT-X-TARGETDURATION:", "#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE:7", "#EXT-X-MEDIA-SEQUENCE:-1", "#EXT-X-MEDIA-SEQUENCE:18446744073709551615",
	"#EXT-X-DISCONTINUITY", "#EXT-X-DISCONTINUITY-SEQUENCE:2", "#EXT-X-DISCONTINUITYX", "#EXT-X-ENDLIST", "#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-PLAYLIST-TYPE:EVENT", "#EXT-X-PLAYLIST-TYPE:",
	`#EXT-X-KEY:METHOD=AES-128,URI="k"`, `#EXT-X-KEY:METHOD=NONE`, "#EXT-X-KEY:", "#EXT-X-KEY", `#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="f",IV=0x1`, `#EXT-X-KEY:METHOD="a,URI=`, `#EXT-X-KEY:METHOD= " ",URI="x"`,
	`#EXT-X-MAP:URI="i.mp4"`, `#EXT-X-MAP:URI="i.mp4",BYTERANGE="7"`, `#EXT-X-MAP:URI="i.mp4",BYTERANGE="7@9"`, "#EXT-X-MAP:", `#EXT-X-MAP:URI=""`, `#EXT-X-MAP:URI=" "`,
	"#EXT-X-BYTERANGE:5", "#EXT-X-BYTERANGE:5@6", "#EXT-X-BYTERANGE:", "#EXT-X-BYTERANGE:9223372036854775807", "#EXT-X-BYTERANGE:-1@-1", "#EXT-X-BYTERANGE:1@9223372036854775806",
	"#EXT-X-PROGRAM-DATE-TIME:2024-01-02T03:04:05Z", "#EXT-X-PROGRAM-DATE-TIME:0000-01-01T00:00:00+14:00", "#EXT-X-PROGRAM-DATE-TIME:9999-12-31T23:59:59-14:00", "#EXT-X-PROGRAM-DATE-TIME:0001-01-01T00:00:00Z", "#EXT-X-PROGRAM-DATE-TIME:",
	"#EXT-X-GAP", "#EXT-X-BITRATE:99999999999999999999", "#EXT-X-SKIP:SKIPPED-SEGMENTS=3", "#EXT-X-SKIP:", `#EXT-X-PART:URI="p",DURATION=1,BYTERANGE="5"`, `#EXT-X-PART:`, `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="q"`,
	"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES", `#EXT-X-DATERANGE:ID="x"`, "#EXT-BILI-AUX:1|K|2|3", "#EXT", "#EXT:", "#EXT-X-CUE-OUT:30", "#EXT-X-CUE-OUT-CONT:", "#EXT-SCTE35:", "#EXT-OATCLS-SCTE35:", "#EXT-X-CUE-IN",
	"#WV-CYPHER-VERSION", "#WV-VIDEO-RESOLUTION", "#WV-AUDIO-CHANNELS", "#WV-ECM", "#EXT-X-START:TIME-OFFSET=x", "#EXT-X-I-FRAMES-ONLY", "#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-VERSION:999", "#EXT-X-VERSION:",
	"#EXT-X-STREAM-INF:BANDWIDTH=1", "#EXT-X-STREAM-INF:", "#EXT-X-STREAM-INF", `#EXT-X-STREAM-INF:BANDWIDTH=99999999999999999999,RESOLUTION=1920x1080,CODECS="avc1.64001f,mp4a.40.2",AUDIO="a",VIDEO="v"`,
	`#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",URI="x"`, "#EXT-X-MEDIA:", "#EXT-X-MEDIA", `#EXT-X-I-FRAME-STREAM-INF:URI="x"`, "#EXT-X-I-FRAME-STREAM-INF:", "#EXT-X-SESSION-KEY:METHOD=AES-128", `#EXT-X-DEFINE:NAME="n",VALUE="v"`,
}

func FuzzParse(f *testing.F) {
	for _, line := range dictionary {
		f.Add([]byte("#EXTM3U\n#EXT-X-TARGETDURATION:4\n" + line + "\n#EXTINF:4,\na.ts\n" + line))
	}
	f.Add([]byte("\xEF\xBB\xBF\r\n#EXTM3U\r#EXT-X-STREAM-INF:BANDWIDTH=1\r\rv"))
	f.Fuzz(func(t *testing.T, data []byte) { check(t, data) })
}

// Each byte is a line of the dictionary, or, beyond it, the end of a line without LF.
func FuzzLines(f *testing.F) {
	f.Add([]byte{24, 37, 0, 15, 9})
	f.Add([]byte{24, 43, 0, 15, 9, 30, 15, 0, 10})
	f.Fuzz(func(t *testing.T, picks []byte) {
		b := bytes.NewBufferString("#EXTM3U\n")
		for i, p := range picks {
			if int(p) >= len(dictionary) {
				b.WriteString([...]string{"\r", "\r\n", "", " ", "\t\r"}[(int(p)+i)%5])
				continue
			}
			b.WriteString(dictionary[p])
			b.WriteByte('\n')
		}
		check(t, b.Bytes())
	})
}

// What is sprinkled between the lines of a playlist changes nothing of what it says.
func TestNoiseChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.IntRange(0, 1<<20)
		lines := []string{"#EXT-X-TARGETDURATION:4", fmt.Sprintf("#EXT-X-MEDIA-SEQUENCE:%d", number.Draw(t, "sequence"))}
		first := lines[1][len("#EXT-X-MEDIA-SEQUENCE:"):]
		tags := rapid.SampledFrom([]string{`#EXT-X-KEY:METHOD=AES-128,URI="k1"`, `#EXT-X-KEY:METHOD=AES-128,URI="k2",IV=0x5`, "#EXT-X-KEY:METHOD=NONE", `#EXT-X-MAP:URI="i"`, `#EXT-X-MAP:URI="j",BYTERANGE="5@6"`,
			"#EXT-X-BYTERANGE:10", "#EXT-X-BYTERANGE:10@20", "#EXT-X-DISCONTINUITY", "#EXT-X-PROGRAM-DATE-TIME:2024-01-02T03:04:05.678+08:00", "#EXT-X-GAP", "#EXT-X-BITRATE:500",
			"#EXT-BILI-AUX:1|K|2|3", `#EXT-X-PART:URI="p",DURATION=1,BYTERANGE="7"`, `#EXT-X-DATERANGE:ID="x",START-DATE="2024-01-02T03:04:05Z"`})
		uris := rapid.SampledFrom([]string{"v.mp4", "w.mp4", "https://h/x.ts?y=1", "file:///etc/passwd"})
		var want []string
		for range rapid.IntRange(0, 12).Draw(t, "segments") {
			lines = append(lines, rapid.SliceOfN(tags, 0, 3).Draw(t, "before")...)
			lines = append(lines, fmt.Sprintf("#EXTINF:%d.%03d,title", number.Draw(t, "seconds")%1000, number.Draw(t, "ms")%1000))
			lines = append(lines, rapid.SliceOfN(tags, 0, 2).Draw(t, "behind")...)
			want = append(want, uris.Draw(t, "uri"))
			lines = append(lines, want[len(want)-1])
		}
		lines = append(lines, rapid.SliceOfN(tags, 0, 3).Draw(t, "after")...)
		if rapid.Bool().Draw(t, "ended") {
			lines = append(lines, "#EXT-X-ENDLIST")
		}
		plain := parseText(t, "#EXTM3U\n"+strings.Join(lines, "\n")+"\n")
		if plain.Media == nil || len(plain.Media.Segments) != len(want) || fmt.Sprint(plain.Media.Sequence) != first {
			t.Fatalf("%+v of %q", plain.Media, lines)
		}
		for i, s := range plain.Media.Segments {
			if s.URI != want[i] {
				t.Fatalf("%d is %q, not %q", i, s.URI, want[i])
			}
		}
		noise := rapid.SliceOfN(rapid.SampledFrom([]string{"\n", "\r", "\r\n", " \t\n", "# comment\n", "#\r", "##EXTINF:9,\n", "#WV-CYPHER-VERSION\n", "\u00a0\n", "#EXT-X-VERSION\r", "#EXTM3U\n"}), 0, 3)
		ends := rapid.SampledFrom([]string{"\n", "\r", "\r\n", " \n", "\t\r\n", "\n\n"})
		var b strings.Builder
		b.WriteString(rapid.SampledFrom([]string{"", "\xEF\xBB\xBF", "\xEF\xBB\xBF\r\n", "\n \n"}).Draw(t, "start"))
		b.WriteString("#EXTM3U" + ends.Draw(t, "end"))
		for _, line := range lines {
			b.WriteString(strings.Join(noise.Draw(t, "noise"), ""))
			b.WriteString(rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "indent") + line + ends.Draw(t, "end"))
		}
		b.WriteString(strings.Join(noise.Draw(t, "noise"), ""))
		if d := cmp.Diff(plain, parseText(t, b.String())); d != "" {
			t.Fatalf("%q: %s", b.String(), d)
		}
		check(t, []byte(b.String()))
	})
}
