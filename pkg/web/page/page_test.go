package page

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/rs/zerolog"
	"golang.org/x/net/html"

	"github.com/liverec/liverec/pkg/token"
	"github.com/liverec/liverec/pkg/web"
	"github.com/liverec/liverec/pkg/web/page/pagetest"
)

type keys struct{ list []token.Token }

func (k *keys) AddToken(_ context.Context, t token.Token) error {
	k.list = append(k.list, t)
	return nil
}
func (k *keys) Tokens(context.Context) ([]token.Token, error) { return k.list, nil }
func (k *keys) RemoveToken(_ context.Context, id string) (bool, error) {
	n := len(k.list)
	k.list = slices.DeleteFunc(k.list, func(t token.Token) bool { return t.ID == id })
	return len(k.list) < n, nil
}

func build(t testing.TB, h *pagetest.House) (*Pages, *keys) {
	t.Helper()
	k := &keys{}
	p, err := New(h, h, Config{Zone: time.UTC, Now: h.Now, Tokens: k, Locked: true, Version: "1.2.3"}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return p, k
}

// tick is what Run does every second.
func tick(t testing.TB, p *Pages, h *pagetest.House) *picture {
	t.Helper()
	h.Step(time.Second)
	pic, err := p.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.history.sample(pic)
	p.now.Store(pic)
	p.ring()
	return pic
}

func get(t testing.TB, p http.Handler, target, language string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func post(t testing.TB, p http.Handler, target string, form url.Values, more ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func parse(t testing.TB, body string) *html.Node {
	t.Helper()
	n, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

func elements(n *html.Node, names ...string) (out []*html.Node) {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && slices.Contains(names, d.Data) {
			out = append(out, d)
		}
	}
	return out
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// every page of a house in trouble, with everything that can be there
var everyPage = []string{"/", "/?live=2&rest=3", "/?q=alice", "/?q=nobody", "/room?name=alice", "/room?name=kitchen-2", "/room?name=" + url.QueryEscape("深夜电台"),
	"/room/sure?verb=stop&name=alice", "/room/sure?verb=remove&name=alice", "/add", "/history", "/history?after=at-50", "/history?room=alice",
	"/broadcast?id=Balice", "/broadcast?id=BIG", "/broadcast?id=BIG&page=7", "/access", "/login", "/login?wrong=1", "/login?wait=90", "/nowhere"}

func troubled(t testing.TB, parts int) (*Pages, *pagetest.House) {
	h := pagetest.New(200, 30, parts)
	h.Trouble()
	h.Break(`/etc/liverec/liverec.toml:12:1: unknown key "segmnet"; segment would be right`)
	h.Play = func(string) (*web.Open, error) {
		return &web.Open{ReaderAt: strings.NewReader(""), Closer: io.NopCloser(nil), Container: "flv", Durable: func() int64 { return 0 }, Sealed: func() bool { return true }}, nil
	}
	p, k := build(t, h)
	k.list = []token.Token{{ID: "1", Name: `<b>script</b>`, Scope: token.Write, Made: h.Now()}}
	for range 30 {
		tick(t, p, h)
	}
	return p, h
}

func TestEveryPageIsSoundAndSafe(t *testing.T) {
	p, _ := troubled(t, 400)
	for _, target := range everyPage {
		for _, language := range []string{"en", "zh-CN,zh;q=0.9,en;q=0.5"} {
			w := get(t, p, target, language)
			want := http.StatusOK
			switch target {
			case "/nowhere":
				want = http.StatusNotFound
			case "/login?wrong=1":
				want = http.StatusUnauthorized
			case "/login?wait=90":
				want = http.StatusTooManyRequests
			}
			if w.Code != want {
				t.Errorf("%s in %s: %d", target, language, w.Code)
				continue
			}
			sound(t, target+" in "+language, parse(t, w.Body.String()))
		}
	}
}

func sound(t *testing.T, name string, doc *html.Node) {
	t.Helper()
	ids := map[string]int{}
	headings, level := 0, 0
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if id := attr(n, "id"); id != "" {
			ids[id]++
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "style", strings.HasPrefix(a.Key, "on"):
				t.Errorf("%s: <%s %s=%q> is not allowed by the Content-Security-Policy", name, n.Data, a.Key, a.Val)
			case a.Key == "src", a.Key == "href", a.Key == "action", a.Key == "data-series", strings.HasPrefix(a.Key, "hx-get"), strings.HasPrefix(a.Key, "hx-post"), a.Key == "hx-sse:connect":
				ours := strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "//") || strings.HasPrefix(a.Val, "#")
				room := n.Data == "a" && attr(n, "rel") == "noreferrer noopener" // the room itself, for a person to open
				if !ours && !room {
					t.Errorf("%s: <%s %s=%q> leads out", name, n.Data, a.Key, a.Val)
				}
			}
		}
		switch n.Data {
		case "script", "style":
			if text(n) != "" {
				t.Errorf("%s: a <%s> with content: %q", name, n.Data, text(n))
			}
		case "h1":
			headings++
			level = 1
		case "h2", "h3":
			if at := int(n.Data[1] - '0'); at > level+1 {
				t.Errorf("%s: %s %q behind a heading of level %d", name, n.Data, text(n), level)
			} else {
				level = at
			}
		case "button", "a":
			if text(n) == "" && attr(n, "aria-label") == "" && !has(n, "hidden") {
				t.Errorf("%s: a <%s> without a name: %v", name, n.Data, n.Attr)
			}
		case "img", "iframe", "object", "embed":
			t.Errorf("%s: there is a <%s>: %v", name, n.Data, n.Attr)
		case "form":
			if m := attr(n, "method"); m != "post" && m != "get" {
				t.Errorf("%s: a form with the method %q", name, m)
			}
		}
	}
	if headings != 1 {
		t.Errorf("%s has %d headings of the first level", name, headings)
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("%s: the id %s is there %d times", name, id, n)
		}
	}
	labels := map[string]bool{}
	for _, n := range elements(doc, "label") {
		labels[attr(n, "for")] = true
		for _, in := range elements(n, "input") {
			labels[attr(in, "id")] = true
		}
	}
	for _, n := range elements(doc, "input", "select", "textarea") {
		if attr(n, "type") != "hidden" && attr(n, "aria-label") == "" && !labels[attr(n, "id")] {
			t.Errorf("%s: the field %q has no label", name, attr(n, "name"))
		}
	}
	for n := range doc.Descendants() {
		for _, key := range []string{"aria-labelledby", "aria-describedby"} {
			if v := attr(n, key); v != "" && ids[v] == 0 && v != "ask-title" {
				t.Errorf("%s: %s names %s, which is not there", name, key, v)
			}
		}
	}
}

func TestHostileTitlesStayText(t *testing.T) {
	p, h := troubled(t, 400)
	seen := map[string]bool{}
	for _, target := range []string{"/", "/history", "/broadcast?id=Bkitchen", "/broadcast?id=Bharbour-cam", "/access"} {
		doc := parse(t, get(t, p, target, "en").Body.String())
		for n := range doc.Descendants() {
			if n.Type == html.TextNode {
				for _, title := range append(pagetest.Titles, "<b>script</b>") {
					if strings.Contains(n.Data, title) {
						seen[title] = true
					}
				}
			}
		}
		if len(elements(doc, "img", "b")) > 0 {
			t.Errorf("%s: a title became an element", target)
		}
	}
	for _, title := range append(pagetest.Titles, "<b>script</b>") {
		if !seen[title] {
			t.Errorf("the title %q is not shown as it is", title)
		}
	}
	// And in what a live page is sent.
	var b strings.Builder
	pic := tick(t, p, h)
	for _, x := range p.overviewParts(english, pic, askOf(url.Values{})) {
		m, err := p.piece(english, pic.n, x)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(m.text)
	}
	if s := b.String(); strings.Contains(s, "<script") || strings.Contains(s, "<img") || !strings.Contains(s, "&lt;script&gt;alert(") {
		t.Error("a title became an element of a live piece")
	}
}

func sources(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.go", "templates/*.html"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if b, err := os.ReadFile(n); err != nil {
				t.Fatal(err)
			} else if !strings.HasSuffix(n, "_test.go") {
				out[n] = string(b)
			}
		}
	}
	return out
}

func TestEveryTextIsThereInBothLanguagesAndUsed(t *testing.T) {
	used := map[string]bool{"theme.auto": true, "theme.light": true, "theme.dark": true} // made of the theme's name
	quoted := regexp.MustCompile(`"([a-z]+\.[a-z0-9]+)"`)
	called := regexp.MustCompile(`(?:\bt |\.t\()"([a-z]+\.[a-z0-9]+)"`)
	for name, src := range sources(t) {
		if name == "text.go" {
			src = src[strings.Index(src, "func (l lang) t("):]
		}
		for _, m := range called.FindAllStringSubmatch(src, -1) {
			if _, ok := table[m[1]]; !ok {
				t.Errorf("%s wants the text %s, which is not there", name, m[1])
			}
		}
		for _, m := range quoted.FindAllStringSubmatch(src, -1) {
			used[m[1]] = true
		}
	}
	verb := regexp.MustCompile(`%[a-z%]`)
	for key, line := range table {
		if !used[key] {
			t.Errorf("nobody uses the text %s", key)
		}
		for l, s := range line {
			if s == "" {
				t.Errorf("the text %s is missing in %s", key, lang(l).tag())
			}
		}
		if en, zh := verb.FindAllString(line[english], -1), verb.FindAllString(line[chinese], -1); !slices.Equal(en, zh) {
			t.Errorf("the text %s takes %v in English and %v in Chinese", key, en, zh)
		}
	}
}

// Words in a template would be in one language only.
func TestTemplatesHaveNoWordsOfTheirOwn(t *testing.T) {
	tag := regexp.MustCompile(`(?s)\{\{.*?\}\}|<[^>]*>`)
	for name, src := range sources(t) {
		if !strings.HasPrefix(name, "templates/") {
			continue
		}
		src = regexp.MustCompile(`(?s)\{\{define "fieldmore"\}\}.*?\n`).ReplaceAllString(src, "") // attributes without their tag
		rest := tag.ReplaceAllString(regexp.MustCompile(`(?s)\{\{.*?\}\}`).ReplaceAllString(src, ""), " ")
		for _, w := range strings.FieldsFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) }) {
			if w != "liverec" {
				t.Errorf("%s has the word %q", name, w)
			}
		}
	}
}

func TestChinesePagesAreChinese(t *testing.T) {
	p, _ := troubled(t, 400)
	for _, target := range []string{"/", "/room?name=chess-club", "/add", "/history", "/broadcast?id=Balice", "/access", "/login"} {
		doc := parse(t, get(t, p, target, "zh").Body.String())
		if l := attr(elements(doc, "html")[0], "lang"); l != "zh-CN" {
			t.Errorf("%s: the language is %q", target, l)
		}
		for _, n := range elements(doc, "h1", "h2", "h3", "label", "th", "dt", "summary") {
			s := text(n)
			if n.Parent.Data == "header" || has(n, "dir") || strings.HasPrefix(s, "P0") || s == "" || s == "SHA-256" || target == "/broadcast?id=Balice" && n.Data == "h1" {
				continue // what others called it
			}
			if !strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
				t.Errorf("%s: <%s> says %q", target, n.Data, s)
			}
		}
	}
}

func TestNothingNamesAnotherHost(t *testing.T) {
	// What stands in comments and names, and is never asked for.
	known := []string{"http://www.w3.org/2000/svg", "https://raw.githubusercontent.com/stefanpenner/es6-promise/master/LICENSE", "https://github.com/leeoniya/uPlot",
		"https://example.com"} // mpegts.js resolves a relative address against it to take its path
	address := regexp.MustCompile(`(?:https?|wss?)://[A-Za-z0-9._~/?#&=%+-]+`)
	check := func(name, s string) {
		for _, a := range address.FindAllString(s, -1) {
			if !slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(a, k) }) {
				t.Errorf("%s names %s", name, a)
			}
		}
		if strings.Contains(s, "@import") || strings.Contains(s, "url(") && strings.HasSuffix(name, ".css") {
			t.Errorf("%s loads something", name)
		}
	}
	for _, dir := range []string{"assets", "templates"} {
		err := filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || strings.Contains(name, "licences") {
				return err
			}
			b, err := os.ReadFile(name)
			check(name, string(b))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"htmx.txt", "uPlot.txt", "mpegts.js.txt"} {
		if b, err := licences.ReadFile("assets/licences/" + name); err != nil || len(b) < 200 {
			t.Errorf("the licence %s is not built in: %d bytes, %v", name, len(b), err)
		}
	}
}

func TestAssetsAreKeptForEverUnderTheirHash(t *testing.T) {
	p, _ := build(t, pagetest.New(1, 0, 1))
	for name, address := range p.assets.names {
		r := httptest.NewRequest(http.MethodGet, address, nil)
		r.Header.Set("Accept-Encoding", "br, gzip")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		h := w.Result().Header
		if w.Code != http.StatusOK || !strings.Contains(h.Get("Cache-Control"), "immutable") || h.Get("ETag") == "" {
			t.Errorf("%s: %d %v", name, w.Code, h)
		}
		if strings.HasSuffix(name, ".js") && h.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s is not compressed", name)
		}
		plain := get(t, p, address, "en")
		if plain.Header().Get("Content-Encoding") != "" || plain.Body.Len() < w.Body.Len() {
			t.Errorf("%s without compression: %d bytes, with it %d", name, plain.Body.Len(), w.Body.Len())
		}
		r.Header.Set("If-None-Match", h.Get("ETag"))
		again := httptest.NewRecorder()
		if p.ServeHTTP(again, r); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%s asked again: %d with %d bytes", name, again.Code, again.Body.Len())
		}
	}
	if w := get(t, p, "/assets/app.000000000000.css", "en"); w.Code != http.StatusNotFound {
		t.Errorf("a file with another hash: %d", w.Code)
	}
	if w := get(t, p, "/favicon.ico", "en"); w.Code != http.StatusOK || w.Header().Get("Content-Type") != "image/svg+xml" {
		t.Errorf("the icon: %d %v", w.Code, w.Header())
	}
}

func TestCommandsWorkWithoutScripts(t *testing.T) {
	h := pagetest.New(20, 4, 12)
	p, _ := build(t, h)
	doc := parse(t, get(t, p, "/room?name=alice", "en").Body.String())
	var verbs []string
	for _, b := range elements(doc, "button", "a") {
		if attr(b, "name") == "verb" {
			verbs = append(verbs, attr(b, "value"))
		} else if strings.HasPrefix(attr(b, "href"), "/room/sure") {
			verbs = append(verbs, "?"+attr(b, "href"))
		}
	}
	if want := []string{"split", "pause", "?/room/sure?verb=stop&name=alice", "?/room/sure?verb=remove&name=alice"}; !slices.Equal(verbs, want) {
		t.Errorf("a live room of the page can be told %q, not %q", verbs, want)
	}
	w := post(t, p, "/room/do", url.Values{"name": {"alice"}, "verb": {"pause"}})
	if w.Code != http.StatusSeeOther {
		t.Fatalf("pause: %d %s", w.Code, w.Body)
	}
	doc = parse(t, get(t, p, w.Header().Get("Location"), "en").Body.String())
	if s := text(doc); !strings.Contains(s, "\u2068alice\u2069 is being paused.") || !strings.Contains(s, "Continue") {
		t.Errorf("behind a pause the page says %.300s", s)
	}
	// Only with scripts an answer is a line alone.
	if w := post(t, p, "/room/do", url.Values{"name": {"alice"}, "verb": {"continue"}}, "HX-Request", "true"); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "<html") {
		t.Errorf("a command of htmx: %d %s", w.Code, w.Body)
	}
	// What cannot be taken back asks first.
	doc = parse(t, get(t, p, "/room/sure?verb=stop&name=alice", "en").Body.String())
	f := elements(doc, "main")[0]
	if f = elements(f, "form")[0]; attr(f, "action") != "/room/do" || attr(f, "method") != "post" {
		t.Errorf("the question posts to %q", attr(f, "action"))
	}
	post(t, p, "/room/do", url.Values{"name": {"alice"}, "verb": {"stop"}})
	if w := post(t, p, "/room/remove", url.Values{"name": {"alice"}}); w.Header().Get("Location") != "/?of=alice&said=removed" {
		t.Errorf("remove leads to %q", w.Header().Get("Location"))
	}
	if want := []string{"pause alice", "continue alice", "stop alice", "remove alice"}; !slices.Equal(h.Commands, want) {
		t.Errorf("the house was told %q, not %q", h.Commands, want)
	}
	for target, form := range map[string]url.Values{
		"/room/do":     {"name": {"nobody"}, "verb": {"pause"}},
		"/room/remove": {"name": {"nobody"}},
		"/room/change": {"room": {"nobody"}},
		"/access/end":  {"id": {"nobody"}},
	} {
		if w := post(t, p, target, form); w.Code != http.StatusNotFound {
			t.Errorf("%s with an unknown name: %d", target, w.Code)
		}
	}
	if w := post(t, p, "/room/do", url.Values{"name": {"kitchen"}, "verb": {"format"}}); w.Code != http.StatusNotFound || len(h.Commands) != 4 {
		t.Errorf("an unknown verb: %d, %q", w.Code, h.Commands)
	}
	if w := get(t, p, "/room/do?name=kitchen&verb=pause", "en"); w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed || len(h.Commands) != 4 {
		t.Errorf("a command by GET: %d, %q", w.Code, h.Commands)
	}
}

func TestARefusalStandsAtItsField(t *testing.T) {
	h := pagetest.New(20, 4, 12)
	p, _ := build(t, h)
	wrong := func(w *httptest.ResponseRecorder, key, want string, keeps ...string) {
		t.Helper()
		if w.Code != http.StatusUnprocessableEntity {
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
		doc := parse(t, w.Body.String())
		sound(t, "refused", doc)
		for n := range doc.Descendants() {
			if attr(n, "id") == "f-"+key && attr(n, "aria-invalid") == "true" && attr(n, "aria-describedby") == "e-"+key {
				for m := range doc.Descendants() {
					if attr(m, "id") == "e-"+key && strings.Contains(text(m), want) {
						want = ""
					}
				}
			}
			if i := slices.Index(keeps, attr(n, "value")); i >= 0 {
				keeps = slices.Delete(keeps, i, i+1)
			}
		}
		if want != "" || len(keeps) > 0 {
			t.Errorf("the field %s does not say %q, or %q was lost: %s", key, want, keeps, text(elements(doc, "main")[0]))
		}
	}
	wrong(post(t, p, "/add", url.Values{"url": {"nonsense"}, "name": {"neu"}}), "url", "is no address of a room", "nonsense", "neu")
	wrong(post(t, p, "/add", url.Values{"url": {"https://h/x"}, "segment": {"soon"}}), "segment", "is no length of time", "https://h/x", "soon")
	wrong(post(t, p, "/add", url.Values{"url": {"https://h/x"}, "priority": {"high"}}), "priority", `"high" is not a whole number`, "high")
	wrong(post(t, p, "/add", url.Values{"url": {"https://h/alice"}}), "url", "is there already")
	wrong(post(t, p, "/room/change", url.Values{"room": {"alice"}, "segment": {"soon"}, "to": {"archive, nas"}}), "segment", "is no length of time", "soon")
	if len(h.Commands) > 0 {
		t.Errorf("the house was told %q", h.Commands)
	}
	if w := post(t, p, "/add", url.Values{"url": {"https://h/neu"}}); w.Header().Get("Location") != "/room?name=neu&of=neu&said=added" {
		t.Errorf("a good room leads to %q", w.Header().Get("Location"))
	}
	if w := get(t, p, "/room?name=neu", "en"); w.Code != http.StatusOK {
		t.Errorf("the new room: %d", w.Code)
	}
	// Only what differs is changed.
	if w := post(t, p, "/room/change", url.Values{"room": {"alice"}, "to": {"archive, nas"}, "segment": {"15m"}}); !strings.Contains(w.Header().Get("Location"), "said=same") {
		t.Errorf("nothing changed leads to %q", w.Header().Get("Location"))
	}
	w := post(t, p, "/room/change", url.Values{"room": {"alice"}, "to": {"archive, nas"}, "segment": {"15m"}, "skip-titles": {"rerun\r\n\r\n重播 "}})
	if got := text(parse(t, get(t, p, w.Header().Get("Location"), "en").Body.String())); !strings.Contains(got, "In force: from part 4 on.") {
		t.Errorf("behind a change the page says %.300s", got)
	}
	rooms, err := h.Rooms(t.Context())
	if err != nil || !slices.Equal(rooms[0].SkipTitles, []string{"rerun", "重播"}) {
		t.Errorf("the titles are %q, %v", rooms[0].SkipTitles, err)
	}
	if w := post(t, p, "/room/change", url.Values{"room": {"chess-club-9"}, "segment": {"1h"}}); w.Code != http.StatusNotFound {
		t.Errorf("an unknown room: %d", w.Code)
	}
	if w := post(t, p, "/room/change", url.Values{"room": {"kitchen"}, "segment": {"1h"}}); w.Code != http.StatusConflict {
		t.Errorf("a room of the file: %d", w.Code)
	}
}

func TestLookIsKeptAndLeadsNowhereElse(t *testing.T) {
	p, _ := build(t, pagetest.New(1, 0, 1))
	w := post(t, p, "/look", url.Values{"theme": {"dark"}, "back": {"/room?name=alice"}})
	if c := w.Result().Cookies(); w.Header().Get("Location") != "/room?name=alice" || len(c) != 1 || c[0].Value != "dark" {
		t.Errorf("%q %v", w.Header().Get("Location"), c)
	}
	if w := post(t, p, "/look", url.Values{"theme": {"x; Domain=evil"}}); len(w.Result().Cookies()) > 0 {
		t.Errorf("a foreign value became a cookie: %v", w.Result().Cookies())
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "theme", Value: "dark"})
	r.AddCookie(&http.Cookie{Name: "lang", Value: "zh"})
	r.Header.Set("Accept-Language", "en")
	rec := httptest.NewRecorder()
	p.ServeHTTP(rec, r)
	if n := elements(parse(t, rec.Body.String()), "html")[0]; attr(n, "data-theme") != "dark" || attr(n, "lang") != "zh-CN" {
		t.Errorf("cookies are not heeded: %v", n.Attr)
	}
	for back, want := range map[string]string{"//evil.example/": "/", "https://evil.example/": "/", `/\evil.example`: "/", "javascript:alert(1)": "/", "": "/", "x": "/",
		"/history?after=a%26b": "/history?after=a%26b", "http:evil": "/", "/%0d%0aSet-Cookie:x": "/%0d%0aSet-Cookie:x"} {
		if got := local(back); got != want {
			t.Errorf("back to %q leads to %q, not %q", back, got, want)
		}
	}
	for header, want := range map[string]lang{"": english, "de-DE,de": english, "zh-TW": chinese, "zh": chinese, "en-US,en;q=0.9,zh;q=0.8": english,
		"fr,zh;q=0.8,en;q=0.3": chinese, ";;;": english} {
		if got := accepted(header); got != want {
			t.Errorf("%q: %v", header, got.tag())
		}
	}
}

func TestTokensAreShownOnce(t *testing.T) {
	p, k := build(t, pagetest.New(1, 0, 1))
	w := post(t, p, "/access/new", url.Values{"name": {"backup"}, "scope": {"read"}})
	shown := regexp.MustCompile(`lr_[A-Za-z0-9_-]+`).FindString(w.Body.String())
	if hash, ok := token.HashOf(shown); !ok || len(k.list) != 1 || k.list[0].Hash != hash || k.list[0].Scope != token.Read || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d: %q, %+v", w.Code, shown, k.list)
	}
	if w := get(t, p, "/access", "en"); strings.Contains(w.Body.String(), "lr_") || !strings.Contains(w.Body.String(), "backup") {
		t.Error("the list shows the text, or not the name")
	}
	if w := post(t, p, "/access/new", url.Values{"name": {" "}, "scope": {"read"}}); w.Code != http.StatusUnprocessableEntity || len(k.list) != 1 {
		t.Errorf("a token without a name: %d", w.Code)
	}
	if post(t, p, "/access/end", url.Values{"id": {k.list[0].ID}}); len(k.list) != 0 {
		t.Error("the token was not revoked")
	}
	bare, err := New(pagetest.New(1, 0, 1), nil, Config{}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if w := get(t, bare, "/access", "en"); w.Code != http.StatusNotFound {
		t.Errorf("without tokens there is a page of them: %d", w.Code)
	}
}

func TestTheTruth(t *testing.T) {
	for _, c := range []struct {
		name  string
		house func() *pagetest.House
		tone  string
		words []string
	}{
		{"nothing is live", func() *pagetest.House { return pagetest.New(5, 0, 1) }, "ok", []string{"Everything is safe", "0 live, 4 waiting"}},
		{"three rooms are", func() *pagetest.House { return pagetest.New(5, 3, 1) }, "busy", []string{"on this disk only", "the oldest for 9 min", "3 live"}},
		{"and targets are dead", func() *pagetest.House { h := pagetest.New(20, 3, 1); h.Trouble(); return h }, "bad",
			[]string{"Needs you", "\u2068bili\u2069 refuses", "Run `liverec login bilibili`", "\u2068nas\u2069 cannot be reached", "The disk is running short", "is blocked"}},
	} {
		h := c.house()
		p, _ := build(t, h)
		doc := parse(t, get(t, p, "/", "en").Body.String())
		s := text(doc)
		for _, w := range c.words {
			if !strings.Contains(s, w) {
				t.Errorf("%s: the page does not say %q: %.400s", c.name, w, s)
			}
		}
		if d := elements(doc, "span"); !slices.ContainsFunc(d, func(n *html.Node) bool { return attr(n, "class") == "dot "+c.tone }) {
			t.Errorf("%s: there is no dot that is %s", c.name, c.tone)
		}
	}
}

type silent struct{ *pagetest.House }

func (silent) Rooms(context.Context) ([]web.Room, error) {
	return nil, errors.New("the ledger is away")
}

func TestAHouseThatSaysNothing(t *testing.T) {
	p, err := New(silent{pagetest.New(3, 1, 1)}, nil, Config{}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	w := get(t, p, "/", "en")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the ledger is away") {
		t.Errorf("%d %.300s", w.Code, w.Body)
	}
	sound(t, "silent", parse(t, w.Body.String()))
	if w := get(t, p, "/room?name=alice", "en"); w.Code != http.StatusInternalServerError {
		t.Errorf("a room: %d", w.Code)
	}
}

// 10,000 parts and 200 rooms: what a page may cost to draw, and how large it may be. The numbers are measured in docs/dashboard.md.
func TestPagesStaySmall(t *testing.T) {
	p, _ := troubled(t, 10000)
	for target, most := range map[string]int{"/": 64 << 10, "/broadcast?id=BIG": 128 << 10, "/history": 64 << 10, "/room?name=alice": 40 << 10} {
		if n := get(t, p, target, "en").Body.Len(); n > most {
			t.Errorf("%s has %d bytes, more than %d", target, n, most)
		}
	}
	// The rest is a page further: together all pages show all rooms once.
	seen := map[string]int{}
	next := "/"
	for next != "" {
		doc := parse(t, get(t, p, next, "en").Body.String())
		next = ""
		for _, n := range elements(doc, "a") {
			if strings.HasPrefix(attr(n, "href"), "/room?name=") && n.Parent.Data == "li" {
				seen[text(n)]++
			}
			if attr(n, "rel") == "next" && strings.HasPrefix(attr(n, "href"), "/?rest=") {
				next = attr(n, "href")
			}
		}
	}
	if len(seen) != 170 {
		t.Errorf("%d rooms are shown as not live, not 170", len(seen))
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s is shown %d times", name, n)
		}
	}
}

func TestForecast(t *testing.T) {
	h := pagetest.New(3, 1, 1)
	p, _ := build(t, h)
	say := func() string {
		pic, err := p.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p.diskOf(english, pic).Forecast
	}
	if s := say(); s != "" {
		t.Errorf("without samples it says %q", s)
	}
	for range 120 {
		tick(t, p, h) // 9 MB/s of 412 GB
	}
	if s := say(); s != "full in 13 h at this rate" {
		t.Errorf("%q", s)
	}
}
