package page

import (
	"fmt"
	"hash/fnv"
	"html/template"
	"io/fs"
	"math"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/liverec/liverec/pkg/status"
)

var speaks = language.NewMatcher([]language.Tag{language.English, language.Chinese})

// accepted chooses the language that a browser asks for; English for all that is neither.
func accepted(header string) lang {
	tags, _, err := language.ParseAcceptLanguage(header)
	if err != nil || len(tags) == 0 {
		return english
	}
	_, i, how := speaks.Match(tags...)
	if how == language.No {
		return english
	}
	return lang(i)
}

// parse builds the templates in one language: a set for each page, and the pieces alone.
func (p *Pages) parse(l lang) (map[string]*template.Template, error) {
	base, err := template.New("").Funcs(template.FuncMap{
		"t":       l.t,
		"tag":     l.tag,
		"asset":   p.assets.url,
		"size":    status.Size,
		"rate":    status.Rate,
		"span":    l.span,
		"about":   l.about,
		"ms":      func(n int64) string { return l.span(time.Duration(n) * time.Millisecond) },
		"when":    func(t time.Time) string { return p.when(l, t) },
		"stamp":   status.Stamp,
		"dict":    func(kv ...any) map[string]any { return dict(kv) },
		"list":    func(v ...any) []any { return v },
		"roomurl": roomURL,
	}).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("parse the built-in templates: %w", err)
	}
	set := map[string]*template.Template{"parts": template.Must(base.Clone())}
	names, err := fs.Glob(templateFiles, "templates/page_*.html")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		t, err := template.Must(base.Clone()).ParseFS(templateFiles, n)
		if err != nil {
			return nil, fmt.Errorf("parse the built-in templates: %w", err)
		}
		set[strings.TrimSuffix(strings.TrimPrefix(path.Base(n), "page_"), ".html")] = t
	}
	return set, nil
}

func dict(kv []any) map[string]any {
	m := map[string]any{}
	for i := 0; i+1 < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return m
}

// when is a moment in the zone of the house: the day only where it is not today.
func (p *Pages) when(l lang, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	t = t.In(p.cfg.Zone)
	now := p.cfg.Now().In(p.cfg.Zone)
	switch {
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return t.Format("15:04:05")
	case t.Year() == now.Year() && l == english:
		return t.Format("2 Jan 15:04")
	case t.Year() == now.Year():
		return t.Format("1月2日 15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// moment reads what status.Stamp wrote.
func moment(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// mark is a name as the id of an element: it begins with a letter and has no character that a selector knows.
func mark(kind, name string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash takes everything
	return kind + strconv.FormatUint(h.Sum64(), 36)
}

// isolate keeps a name of any direction from turning the sentence around it.
func isolate(name string) string { return "\u2068" + name + "\u2069" }

// short is what people call a target: its name in the config file, else the words of its address that tell it from others.
func (pic *picture) short(id string) string {
	if n := pic.names[id]; n != "" {
		return n
	}
	return shortTarget(id)
}

func shortTarget(id string) string {
	u, err := url.Parse(id)
	if err != nil || u.Scheme == "" {
		return id
	}
	switch {
	case u.Scheme == "file":
		dir := strings.TrimRight(u.Path+u.Opaque, "/")
		parts := strings.Split(dir, "/")
		if len(parts) > 2 {
			return "…/" + strings.Join(parts[len(parts)-2:], "/")
		}
		return dir
	case u.Opaque != "":
		return u.Scheme + " " + u.Opaque
	case u.Host == "" && u.Path == "":
		if tag := u.Query().Get("tag"); tag != "" {
			return u.Scheme + " " + tag
		}
		return u.Scheme
	}
	return u.Scheme + " " + strings.TrimRight(u.Host+u.Path, "/")
}

// pages cuts a list into pages.
type pager struct {
	From, To, All int // From counts from 1
	Before, After string
}

// cut gives the n-th page of a list of all elements, from 1, and where the neighbours are. key is the name in the query.
func cut(all, most, n int, q url.Values, at, key string) (lo, hi int, p pager) {
	last := max((all+most-1)/most, 1)
	n = min(max(n, 1), last)
	lo, hi = (n-1)*most, min(n*most, all)
	p = pager{From: lo + 1, To: hi, All: all}
	link := func(n int) string {
		c := url.Values{}
		for k, v := range q {
			c[k] = v
		}
		c.Set(key, strconv.Itoa(n))
		return at + "?" + c.Encode()
	}
	if n > 1 {
		p.Before = link(n - 1)
	}
	if n < last {
		p.After = link(n + 1)
	}
	return lo, hi, p
}

func number(q url.Values, key string) int {
	n, err := strconv.Atoi(q.Get(key))
	if err != nil {
		return 1
	}
	return n
}

// points draws a row of values as an SVG polyline in a box of 100 x 24, from zero to the largest.
func points(values []float32) string {
	var top float32
	known := 0
	for _, v := range values {
		if !math.IsNaN(float64(v)) {
			top, known = max(top, v), known+1
		}
	}
	if known < 2 || top <= 0 {
		return ""
	}
	var b strings.Builder
	const most = fineLen / 10
	for i, v := range values {
		if math.IsNaN(float64(v)) {
			continue
		}
		x := 100 - float64(len(values)-1-i)*100/(most-1)
		fmt.Fprintf(&b, "%.1f,%.1f ", x, 22-20*float64(v/top))
	}
	return strings.TrimSpace(b.String())
}
