package naming_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/liverec/liverec/pkg/naming"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("CST", 8*3600))

func TestName(t *testing.T) {
	for _, c := range []struct{ template, title, want string }{
		{naming.DefaultName, "hello", "alice/2026-01-02_030405_hello"},
		{naming.DefaultName, "", "alice/2026-01-02_030405"},
		{naming.DefaultName, "../../etc/passwd", "alice/2026-01-02_030405_.._.._etc_passwd"},
		{"{title}", "..", "untitled"},
		{"{title}", "a/b\\c:d*e?f\"g<h>i|j", "a_b_c_d_e_f_g_h_i_j"},
		{"{title}", "con", "_con"},
		{"{title}", "LPT1.flv", "_LPT1.flv"},
		{"{title}", ".hidden", "_hidden"},
		{"{title}", "ends with dots...", "ends with dots"},
		{"{title}", "e\u0301", "é"},
		{"{title}", "evil\u202egnp.exe", "evilgnp.exe"},
		{"{title}", "nul\x00l\x1b[31m", "null[31m"},
		{"/{room}//{title}/", "x", "alice/x"},
		{"../{title}", "x", "x"},
		{"{title}", strings.Repeat("直", 200), strings.Repeat("直", 40)},
	} {
		tmpl, err := naming.Parse(c.template)
		if err != nil {
			t.Errorf("%q: %v", c.template, err)
			continue
		}
		if got := tmpl.Name(naming.Facts{Room: "alice", Title: c.title, At: at}); got != c.want {
			t.Errorf("%q with %q: %q, want %q", c.template, c.title, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{"", "  ", "{titel}", "{title", "{}"} {
		if _, err := naming.Parse(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"", "..", "con", "a/b", "\xff\xfe", "aux.txt", " . ", "\u202e", strings.Repeat("é", 300)} {
		f.Add(s)
	}
	tmpl, err := naming.Parse(naming.DefaultName)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := tmpl.Name(naming.Facts{Room: s, Title: s, At: at})
		if !filepath.IsLocal(name) || filepath.Clean(name) != name {
			t.Fatalf("%q leads to %q", s, name)
		}
		for _, c := range strings.Split(name, "/") {
			if c == "" || len(c) > naming.MaxComponent+4 || !utf8.ValidString(c) || strings.ContainsAny(c, "\\:*?\"<>|\x00") ||
				strings.HasSuffix(c, ".") || strings.HasSuffix(c, " ") || strings.HasPrefix(c, ".") {
				t.Fatalf("%q gives component %q", s, c)
			}
			for _, r := range c {
				if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
					t.Fatalf("%q gives component %q with %U", s, c, r)
				}
			}
		}
		if strings.ContainsAny(naming.Line(s), "\n\r\x1b") {
			t.Fatalf("Line(%q) is no line", s)
		}
	})
}
