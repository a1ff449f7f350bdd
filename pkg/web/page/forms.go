package page

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/web"
)

// form is the settings of a room as they stand in the fields of a page.
type form struct {
	Name     string // of the room that is changed, "" for a new one
	ReadOnly bool
	Values   map[string]string
	Wrong    map[string]string // what is wrong with a field, by its key
	Known    string            // names of targets
	Message  string
}

// fields are the keys of the forms, as in the config file. A Refusal of another key is told above the form.
var fields = []string{"url", "name", "to", "segment", "max-size", "quality", "container", "ads", "grace", "title", "window",
	"skip-titles", "priority", "paused"}

func formOf(s web.Settings, pic *picture) form {
	f := form{Values: map[string]string{"url": s.URL, "name": s.Name, "to": strings.Join(s.To, ", "), "segment": s.Segment, "max-size": s.MaxSize,
		"quality": s.Quality, "container": s.Container, "ads": s.Ads, "grace": s.Grace, "title": s.Title, "window": s.Window,
		"skip-titles": strings.Join(s.SkipTitles, "\n"), "priority": ""}, Wrong: map[string]string{}}
	if s.Priority != 0 {
		f.Values["priority"] = strconv.Itoa(s.Priority)
	}
	f.known(pic)
	return f
}

func (f *form) known(pic *picture) {
	var names []string
	for _, n := range pic.names {
		if n != "" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	f.Known = strings.Join(slices.Compact(names), ", ")
}

// read takes the fields of a request. The priority is the one that is not a text.
func read(l lang, r *http.Request) (f form, s web.Settings) {
	f = form{Values: map[string]string{}, Wrong: map[string]string{}}
	for _, k := range fields {
		f.Values[k] = strings.TrimSpace(r.PostFormValue(k))
	}
	v := f.Values
	s = web.Settings{URL: v["url"], Name: v["name"], To: list(v["to"], ","), Segment: v["segment"], MaxSize: v["max-size"], Quality: v["quality"],
		Container: v["container"], Ads: v["ads"], Grace: v["grace"], Title: v["title"], Window: v["window"], SkipTitles: list(v["skip-titles"], "\n"),
		Paused: v["paused"] != ""}
	if v["priority"] != "" {
		n, err := strconv.Atoi(v["priority"])
		if err != nil {
			f.Wrong["priority"] = l.t("set.number", v["priority"])
		}
		s.Priority = n
	}
	return f, s
}

func list(s, by string) []string {
	var out []string
	for _, x := range strings.Split(s, by) {
		if x = strings.TrimSpace(x); x != "" {
			out = append(out, x)
		}
	}
	return out
}

// refuse puts what a Commander answered to where it belongs, and reports whether it was a refusal at all.
func (f *form) refuse(l lang, err error) bool {
	if errors.Is(err, web.ErrExists) {
		f.Wrong["url"] = l.t("set.exists")
		return true
	}
	no, ok := errors.AsType[*web.Refusal](err)
	if !ok {
		return false
	}
	if slices.Contains(fields, no.Key) {
		f.Wrong[no.Key] = no.Text
	} else {
		f.Message = no.Error()
	}
	return true
}

func (p *Pages) addForm(w http.ResponseWriter, r *http.Request) {
	pic, err := p.picture(r.Context())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.showAdd(w, r, http.StatusOK, formOf(web.Settings{URL: r.URL.Query().Get("url")}, pic))
}

func (p *Pages) showAdd(w http.ResponseWriter, r *http.Request, code int, f form) {
	fr := p.frame(r, "add", "")
	fr.Title, fr.Here, fr.Body = fr.Lang.t("app.add"), "/add", f
	p.show(w, code, "add", fr)
}

func (p *Pages) add(w http.ResponseWriter, r *http.Request) {
	l := langOf(r)
	f, s := read(l, r)
	if pic, err := p.picture(r.Context()); err == nil {
		f.known(pic)
	}
	if len(f.Wrong) > 0 {
		p.showAdd(w, r, http.StatusUnprocessableEntity, f)
		return
	}
	room, err := p.cmd.Add(r.Context(), s)
	switch {
	case err == nil:
		redirect(w, r, roomURL(room.Name), "added", room.Name)
	case f.refuse(l, err):
		p.showAdd(w, r, http.StatusUnprocessableEntity, f)
	default:
		p.fail(w, r, err)
	}
}

// changed is a field that differs from what is in force; nil if it does not.
func changed[T any](is, want T, same func(a, b T) bool) *T {
	if same(is, want) {
		return nil
	}
	return &want
}

func (p *Pages) change(w http.ResponseWriter, r *http.Request) {
	l := langOf(r)
	name := r.PostFormValue("room")
	f, s := read(l, r)
	rooms, err := p.view.Rooms(r.Context())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	i := slices.IndexFunc(rooms, func(x web.Room) bool { return x.Name == name })
	if i < 0 {
		p.missing(w, r)
		return
	}
	if pic, err := p.picture(r.Context()); err == nil {
		f.known(pic)
	}
	if len(f.Wrong) > 0 {
		p.showRoom(w, r, http.StatusUnprocessableEntity, name, &f)
		return
	}
	is := rooms[i].Settings
	text := func(a, b string) bool { return a == b }
	c := web.Change{To: changed(is.To, s.To, slices.Equal), Segment: changed(is.Segment, s.Segment, text), MaxSize: changed(is.MaxSize, s.MaxSize, text),
		Quality: changed(is.Quality, s.Quality, text), Container: changed(is.Container, s.Container, text), Ads: changed(is.Ads, s.Ads, text),
		Grace: changed(is.Grace, s.Grace, text), Title: changed(is.Title, s.Title, text), Window: changed(is.Window, s.Window, text),
		SkipTitles: changed(is.SkipTitles, s.SkipTitles, slices.Equal), Priority: changed(is.Priority, s.Priority, func(a, b int) bool { return a == b })}
	if c == (web.Change{}) {
		redirect(w, r, roomURL(name), "same", name)
		return
	}
	room, err := p.cmd.Change(r.Context(), name, c)
	switch {
	case err == nil:
		redirect(w, r, roomURL(name), "changed", room.Since)
	case f.refuse(l, err):
		p.showRoom(w, r, http.StatusUnprocessableEntity, name, &f)
	default:
		p.fail(w, r, err)
	}
}

// redirect goes on to a page that says what became of a command.
func redirect(w http.ResponseWriter, r *http.Request, to, what, about string) {
	by := "?"
	if strings.Contains(to, "?") {
		by = "&"
	}
	http.Redirect(w, r, to+by+url.Values{"said": {what}, "of": {about}}.Encode(), http.StatusSeeOther)
}

// said is the answer to the command that led to this page, "" if there was none.
func said(l lang, r *http.Request) string {
	q := r.URL.Query()
	of := q.Get("of")
	name := isolate(of)
	switch q.Get("said") {
	case "pause":
		return l.t("said.pause", name)
	case "continue":
		return l.t("said.cont", name)
	case "split":
		return l.t("said.split", name)
	case "stop":
		return l.t("said.stop", name)
	case "added":
		return l.t("said.added", name)
	case "removed":
		return l.t("said.removed", name)
	case "same":
		return l.t("said.same")
	case "changed":
		since := l.t("said.now")
		if n, ok := strings.CutPrefix(of, "part "); ok {
			since = l.t("said.part", n)
		}
		return l.t("said.changed", since)
	case "ended":
		return l.t("key.ended")
	}
	return ""
}

type question struct {
	Title, Why, Action, Button, Name, Verb string
}

// question asks before what cannot be taken back; nil for what needs no question.
func questionOf(l lang, verb, name string) *question {
	switch verb {
	case "stop":
		return &question{Title: l.t("sure.stop", isolate(name)), Why: l.t("sure.stopwhy"), Action: "/room/do", Button: l.t("do.stop"), Name: name, Verb: verb}
	case "remove":
		return &question{Title: l.t("sure.remove", isolate(name)), Why: l.t("sure.rmwhy"), Action: "/room/remove", Button: l.t("do.remove"), Name: name, Verb: verb}
	}
	return nil
}

func (p *Pages) sure(w http.ResponseWriter, r *http.Request) {
	f := p.frame(r, "", "")
	q := questionOf(f.Lang, r.URL.Query().Get("verb"), r.URL.Query().Get("name"))
	if q == nil {
		p.missing(w, r)
		return
	}
	f.Title, f.Body = q.Title, q
	p.show(w, http.StatusOK, "sure", f)
}

func (p *Pages) do(w http.ResponseWriter, r *http.Request) {
	name, verb := r.PostFormValue("name"), segment.Verb(r.PostFormValue("verb"))
	switch verb {
	case segment.VerbPause, segment.VerbContinue, segment.VerbSplit, segment.VerbStop:
	default:
		p.missing(w, r)
		return
	}
	if err := p.cmd.Do(r.Context(), name, verb); err != nil {
		p.fail(w, r, err)
		return
	}
	if r.Header.Get("HX-Request") != "" {
		l := langOf(r)
		p.say(w, l, said(l, &http.Request{URL: &url.URL{RawQuery: url.Values{"said": {string(verb)}, "of": {name}}.Encode()}}))
		return
	}
	redirect(w, r, roomURL(name), string(verb), name)
}

// say answers a command that a script sent: only the line that tells what became of it.
func (p *Pages) say(w http.ResponseWriter, l lang, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := p.sets[l]["parts"].ExecuteTemplate(w, "said", text); err != nil {
		p.log.Debug().Err(err).Msg("an answer was not read")
	}
}

func (p *Pages) remove(w http.ResponseWriter, r *http.Request) {
	name := r.PostFormValue("name")
	if err := p.cmd.Remove(r.Context(), name); err != nil {
		p.fail(w, r, err)
		return
	}
	redirect(w, r, "/", "removed", name)
}
