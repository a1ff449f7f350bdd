package hls

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestDefine(t *testing.T) {
	u, err := url.Parse("http://h/live/list.m3u8?token=abc&x=1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"name", "#EXT-X-DEFINE:NAME=\"p\",VALUE=\"v1\"\n#EXTINF:4,\n{$p}/a.ts", "http://h/live/v1/a.ts"},
		{"query", "#EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXTINF:4,\na.ts?t={$token}&u={$token}", "http://h/live/a.ts?t=abc&u=abc"},
		{"unknown", "#EXT-X-DEFINE:NAME=\"p\",VALUE=\"v1\"\n#EXTINF:4,\n/{$q}/{$p}", "http://h/%7B$q%7D/v1"},
		{"not closed", "#EXT-X-DEFINE:NAME=\"p\",VALUE=\"v1\"\n#EXTINF:4,\n/{$p", "http://h/%7B$p"},
		{"no definition", "#EXTINF:4,\n/{$p}", "http://h/%7B$p%7D"},
		{"in a tag", "#EXT-X-DEFINE:NAME=\"d\",VALUE=\"8\"\n#EXTINF:{$d},\na.ts", "http://h/live/a.ts"},
	} {
		p, err := Parse([]byte("#EXTM3U\n"+c.text+"\n"), u)
		if err != nil || len(p.Media.Segments) != 1 || p.Media.Segments[0].URL != c.want {
			t.Errorf("%s: %+v, %v", c.name, p.Media, err)
		}
	}
	from, err := Parse([]byte("#EXTM3U\n#EXT-X-DEFINE:NAME=\"auth\",VALUE=\"s3cr\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8?a={$auth}\n"), u)
	if err != nil || from.Master.Variants[0].URL != "http://h/live/v.m3u8?a=s3cr" {
		t.Fatalf("%+v, %v", from.Master, err)
	}
	led := []byte("#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"auth\"\n#EXT-X-DEFINE:IMPORT=\"none\"\n#EXTINF:4,\na.ts?t={$auth}&n={$none}\n")
	if p, err := ParseWith(led, u, from.Master.Variables); err != nil || p.Media.Segments[0].URL != "http://h/live/a.ts?t=s3cr&n={$none}" {
		t.Errorf("%+v, %v", p.Media, err)
	}
	bomb := "#EXTM3U\n#EXT-X-DEFINE:NAME=\"a\",VALUE=\"" + strings.Repeat("x", 1<<20) + "\"\n#EXTINF:4,\n" + strings.Repeat("{$a}", 1<<10) + "\n"
	if _, err := Parse([]byte(bomb), u); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestHeadless(t *testing.T) {
	u := &url.URL{Scheme: "http", Host: "h", Path: "/"}
	for text, want := range map[string]int{
		"#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n": 1, "#EXTINF:4,\na.ts": 1, "#EXT-X-VERSION:3\r#EXTINF:4,\ra\r#EXTINF:4,\rb": 2,
		"#A comment\n#EXTINF:4,\na.ts": -1, "a.ts\n": -1,
	} {
		p, err := Parse([]byte(text), u)
		n := -1
		if err == nil {
			n = len(p.Media.Segments)
		}
		if n != want {
			t.Errorf("%q: %d segments, %v", text, n, err)
		}
	}
}

func TestOpen(t *testing.T) {
	u := &url.URL{Scheme: "http", Host: "h", Path: "/"}
	for text, want := range map[string]bool{
		"#EXTINF:4,\na.ts": true, "#EXTINF:4,\na.ts\n": false, "#EXTINF:4,\na.ts\r": false, "#EXTINF:4,\na.ts\n#EXT-X-ENDLIST": false, "#EXTINF:4,\na.ts\n#x": false,
	} {
		p, err := Parse([]byte("#EXTM3U\n"+text), u)
		if err != nil || p.Media.Open != want {
			t.Errorf("%q: %v, %v", text, p.Media, err)
		}
	}
}

func TestInlineKey(t *testing.T) {
	for _, c := range []struct {
		uri, want string
		is, bad   bool
	}{
		{"https://h/key", "", false, false},
		{"data", "", false, false},
		{"data:text/plain;base64,MDEyMzQ1Njc4OWFiY2RlZg==", "0123456789abcdef", true, false},
		{"DATA:;base64,MDEyMzQ1Njc4OWFiY2RlZg", "0123456789abcdef", true, false},
		{"data:;base64,%4DDEyMzQ1Njc4OWFiY2RlZg%3D%3D", "0123456789abcdef", true, false},
		{"data:,%30123456789abcdef", "0123456789abcdef", true, false},
		{"data:;base64", "", true, true},
		{"data:;base64,!", "", true, true},
		{"data:,%3", "", true, true},
	} {
		key, is, err := Key{URI: c.uri}.Inline()
		if string(key) != c.want || is != c.is || (err != nil) != c.bad {
			t.Errorf("%s: %q, %v, %v", c.uri, key, is, err)
		}
	}
}
