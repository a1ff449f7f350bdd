// Package naming makes remote and local names out of what strangers call their streams.
//
// It owns the templates of --name and --title and the rules that make any text a safe file name. It is pure: the
// moment and its time zone are handed in.
package naming

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxComponent is the longest that one component of a name gets, in bytes. File systems take 255; the rest is room
// for the suffixes that keep names apart.
const MaxComponent = 120

// Facts fill a template.
type Facts struct {
	Site     string
	Room     string
	Streamer string
	Title    string
	At       time.Time // in the time zone of the names
}

// Template is a checked template.
type Template struct{ parts []part }

type part struct {
	text  string
	field string // "" for plain text
}

// DefaultName is the folder of a broadcast on a store.
const DefaultName = "{room}/{date}_{time}_{title}"

// DefaultTitle is the title of a submission.
const DefaultTitle = "{title}"

// Fields are the words that may stand in braces.
var fields = []string{"site", "room", "streamer", "title", "date", "time"}

// Parse checks a template. Its error says what was wrong and what would be right.
func Parse(s string) (Template, error) {
	var t Template
	rest := s
	for rest != "" {
		i := strings.IndexByte(rest, '{')
		if i < 0 {
			t.parts = append(t.parts, part{text: rest})
			break
		}
		if i > 0 {
			t.parts = append(t.parts, part{text: rest[:i]})
		}
		j := strings.IndexByte(rest[i:], '}')
		if j < 0 {
			return Template{}, fmt.Errorf("%q has a { without its }; the fields are {%s}", s, strings.Join(fields, "} {"))
		}
		field := rest[i+1 : i+j]
		known := false
		for _, f := range fields {
			known = known || f == field
		}
		if !known {
			return Template{}, fmt.Errorf("%q is not a field; the fields are {%s}", "{"+field+"}", strings.Join(fields, "} {"))
		}
		t.parts = append(t.parts, part{field: field})
		rest = rest[i+j+1:]
	}
	if strings.TrimSpace(s) == "" {
		return Template{}, fmt.Errorf("it is empty; the default is %s", DefaultName)
	}
	return t, nil
}

// String is the template as it was written.
func (t Template) String() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field != "" {
			b.WriteString("{" + p.field + "}")
		} else {
			b.WriteString(p.text)
		}
	}
	return b.String()
}

func (f Facts) get(field string) string {
	switch field {
	case "site":
		return f.Site
	case "room":
		return f.Room
	case "streamer":
		return f.Streamer
	case "title":
		return f.Title
	case "date":
		return f.At.Format("2006-01-02")
	case "time":
		return f.At.Format("150405")
	}
	return ""
}

// Name fills the template and makes each component safe. Slashes of the template part components, slashes in a fact
// do not. The result is never empty, never absolute, and has no component "." or "..".
func (t Template) Name(f Facts) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field == "" {
			b.WriteString(p.text)
			continue
		}
		b.WriteString(strings.ReplaceAll(clean(f.get(p.field)), "/", "_"))
	}
	var out []string
	for _, c := range strings.Split(b.String(), "/") {
		if strings.Trim(c, " ._-") == "" {
			continue
		}
		out = append(out, Safe(c))
		if len(out) == 8 {
			break
		}
	}
	if len(out) == 0 {
		return "untitled"
	}
	return strings.Join(out, "/")
}

// Text fills the template as text for people: one line, no control characters.
func (t Template) Text(f Facts) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field == "" {
			b.WriteString(p.text)
		} else {
			b.WriteString(clean(f.get(p.field)))
		}
	}
	return strings.TrimSpace(b.String())
}

// clean takes out what is not text: control characters, marks that turn the writing direction, joiners without a
// width, broken UTF-8.
func clean(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "_")
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r), unicode.Is(unicode.Cs, r),
			r == utf8.RuneError, r == '\u2028', r == '\u2029':
			return -1
		}
		return r
	}, norm.NFC.String(s))
}

// Line is s as one line for a terminal or a log: no control characters, nothing that turns the writing direction.
func Line(s string) string { return strings.TrimSpace(clean(s)) }

// Safe makes one component of a name: it works on every file system, is at most MaxComponent bytes long, and says
// what was meant.
func Safe(s string) string {
	s = strings.Map(func(r rune) rune {
		switch r {
		case '/', '\\', ':', '*', '?', '"', '<', '>', '|', 0:
			return '_'
		}
		return r
	}, clean(s))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > MaxComponent {
		cut := MaxComponent
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	s = strings.TrimRight(s, " ._-")
	if strings.HasPrefix(s, ".") {
		s = "_" + s[1:]
	}
	if s == "" {
		return "untitled"
	}
	base, _, _ := strings.Cut(s, ".")
	switch up := strings.ToUpper(strings.TrimSpace(base)); {
	case up == "CON", up == "PRN", up == "AUX", up == "NUL", up == "CONIN$", up == "CONOUT$",
		len(up) == 4 && (strings.HasPrefix(up, "COM") || strings.HasPrefix(up, "LPT")) && up[3] >= '0' && up[3] <= '9':
		s = "_" + s
	}
	return s
}
