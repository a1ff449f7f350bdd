// Package page is what a person sees of `liverec serve` in a browser: the overview, a page for each room and each
// broadcast, the forms, and the previews of what is being recorded.
//
// It owns the templates, the texts in both languages, the assets that are built in, and a bounded history of numbers for
// the plots. It never touches the pipeline: it reads a View and hands commands to a web.Commander. It never asks
// another host for anything, keeps no session, and starts no goroutine: Run takes the samples and belongs to the caller,
// and a live page is served by the goroutine of its own request.
//
// # How a page stays fresh
//
// Every page works without scripts. With them it opens one event stream (GET /live), and for each picture that Run takes
// the handler renders the small pieces that page shows, compares each with what it sent last, and sends those that
// differ as one event. Pages of one language share the rendering. A page that never reads holds one piece of text and
// its connection, until its write deadline ends it; nobody waits for it, and what it missed it never gets: the newest
// picture wins. A page in the background closes its stream.
//
// # Memory
//
// The history of a number is 300 samples of one second and 720 means of 30 s, 4 bytes each. A room has three numbers:
// 12,240 bytes, so 200 rooms hold 2.4 MB; no more than 1,024 rooms have a history at a time (12.5 MB), those that were
// live last. A preview holds 256 KiB, and there are 16 at a time.
package page

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/web"
)

// View is what the pages look at; see web.View, which promises more.
type View interface {
	Status(ctx context.Context) (status.Status, error)
	Rooms(ctx context.Context) ([]web.Room, error)
	Broadcasts(ctx context.Context, q web.Query) (web.Broadcasts, error)
	Broadcast(ctx context.Context, id segment.SessionID) (segment.Broadcast, error)
	Open(ctx context.Context, room string) (*web.Open, error)
	Config() web.Config
}

var _ View = web.View(nil)

// Config is what the pages need besides the rooms.
type Config struct {
	Zone   *time.Location // times are shown in it; default time.Local
	Locked bool           // there is a password, and so a session that can be ended
	Tokens Tokens         // nil: the page of tokens does not exist
	// TargetName is what the config file calls a status.Target.Target, "" if it has no name; nil: the rooms tell.
	TargetName func(target string) string
	Version    string           // of the program
	Now        func() time.Time // default time.Now
}

// Pages is the http.Handler of all pages. See New.
type Pages struct {
	view View
	cmd  web.Commander
	cfg  Config
	log  zerolog.Logger

	mux    *http.ServeMux
	assets *assets
	sets   [langs]map[string]*template.Template // one of each page, and "parts" for the pieces

	now     atomic.Pointer[picture]
	history *history
	pieces  pieces
	seats   chan struct{} // one for each preview that plays; taken and given back by its handler

	mu   sync.Mutex
	news chan struct{} // closed and replaced at every picture
}

// picture is what the house looked like at one moment. It never changes once it is shown.
type picture struct {
	status status.Status
	rooms  []web.Room
	config web.Config
	names  map[string]string // of targets in the config file, by status.Target.Target
	at     time.Time
	n      uint64 // counts the pictures
}

// pace is how often Run takes a picture: what View promises is at most a second old.
const pace = time.Second

// New builds the pages. Run has to be started for live pages, plots and forecasts; without it each page shows the state
// of its own moment.
func New(view View, cmd web.Commander, cfg Config, log zerolog.Logger) (*Pages, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Zone == nil {
		cfg.Zone = time.Local
	}
	p := &Pages{view: view, cmd: cmd, cfg: cfg, log: log, history: newHistory(), seats: make(chan struct{}, previews), news: make(chan struct{})}
	p.pieces.made = map[pieceKey]piece{}
	var err error
	if p.assets, err = builtIn(); err != nil {
		return nil, err
	}
	for l := range langs {
		if p.sets[l], err = p.parse(l); err != nil {
			return nil, err
		}
	}
	p.mux = p.routes()
	return p, nil
}

func (p *Pages) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.overview)
	mux.HandleFunc("GET /room", p.room)
	mux.HandleFunc("GET /room/sure", p.sure)
	mux.HandleFunc("POST /room/do", p.do)
	mux.HandleFunc("POST /room/change", p.change)
	mux.HandleFunc("POST /room/remove", p.remove)
	mux.HandleFunc("GET /add", p.addForm)
	mux.HandleFunc("POST /add", p.add)
	mux.HandleFunc("GET /history", p.broadcasts)
	mux.HandleFunc("GET /broadcast", p.broadcast)
	mux.HandleFunc("GET /live", p.live)
	mux.HandleFunc("GET /series", p.series)
	mux.HandleFunc("GET /preview", p.preview)
	mux.HandleFunc("GET /preview/part", p.part)
	mux.HandleFunc("POST /look", p.look)
	mux.HandleFunc("GET /login", p.login)
	if p.cfg.Tokens != nil {
		mux.HandleFunc("GET /access", p.access)
		mux.HandleFunc("POST /access/new", p.newToken)
		mux.HandleFunc("POST /access/end", p.endToken)
	}
	mux.HandleFunc("GET /assets/{file}", p.assets.serve)
	mux.HandleFunc("GET /favicon.ico", p.assets.icon)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { p.missing(w, r) })
	return mux
}

// ServeHTTP answers one request. Who may pass was decided before.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Run takes a picture every second until ctx is done, keeps the samples of the plots, and rings for the live pages.
func (p *Pages) Run(ctx context.Context) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		pic, err := p.take(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			p.log.Warn().Err(err).Msg("the pages have no picture of the house")
		default:
			p.history.sample(pic)
			p.now.Store(pic)
			p.ring()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (p *Pages) ring() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.news)
	p.news = make(chan struct{})
}

// bell is closed at the next picture.
func (p *Pages) bell() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.news
}

// picture is the newest one, or a fresh one where Run took none within three seconds.
func (p *Pages) picture(ctx context.Context) (*picture, error) {
	if pic := p.now.Load(); pic != nil && p.cfg.Now().Sub(pic.at) < 3*pace {
		return pic, nil
	}
	return p.take(ctx)
}

func (p *Pages) take(ctx context.Context) (*picture, error) {
	st, err := p.view.Status(ctx)
	if err != nil {
		return nil, err
	}
	rooms, err := p.view.Rooms(ctx)
	if err != nil {
		return nil, err
	}
	pic := &picture{status: st, rooms: rooms, config: p.view.Config(), names: map[string]string{}, at: p.cfg.Now(), n: 1}
	if last := p.now.Load(); last != nil {
		pic.n = last.n + 1
	}
	if p.cfg.TargetName != nil {
		for _, t := range st.Targets {
			pic.names[t.Target] = p.cfg.TargetName(t.Target)
		}
		return pic, nil
	}
	for _, r := range rooms {
		if len(r.To) == len(r.Targets) {
			for i, id := range r.Targets {
				pic.names[id] = r.To[i]
			}
		}
	}
	return pic, nil
}

// room finds a room's settings and its state; ok is false if nobody knows it.
func (pic *picture) room(name string) (s web.Room, st status.Room, ok bool) {
	for _, r := range pic.status.Rooms {
		if r.Room == name {
			st, ok = r, true
			break
		}
	}
	for _, r := range pic.rooms {
		if r.Name == name {
			return r, st, true
		}
	}
	return web.Room{Settings: web.Settings{Name: name, URL: st.URL}, Site: st.Site, Source: "file"}, st, ok
}

// frame is what every page is drawn with.
type frame struct {
	Lang     lang
	Theme    string // auto, light, dark
	Next     string // the theme after it
	Title    string
	Nav      string // which entry of the menu is this page
	Here     string // this page, for coming back
	Live     string // address of the event stream, "" for a page that does not change
	Config   string // what is wrong with the config file
	Said     string // what a command answered
	Locked   bool
	Access   bool
	SignedIn bool
	Version  string
	Body     any
}

func langOf(r *http.Request) lang {
	if c, err := r.Cookie("lang"); err == nil {
		switch c.Value {
		case "en":
			return english
		case "zh":
			return chinese
		}
	}
	return accepted(r.Header.Get("Accept-Language"))
}

func (p *Pages) frame(r *http.Request, nav, title string) frame {
	f := frame{Lang: langOf(r), Theme: "auto", Title: title, Nav: nav, Here: r.URL.RequestURI(), Locked: p.cfg.Locked,
		Access: p.cfg.Tokens != nil, SignedIn: true, Version: p.cfg.Version}
	if c, err := r.Cookie("theme"); err == nil && (c.Value == "light" || c.Value == "dark") {
		f.Theme = c.Value
	}
	f.Next = map[string]string{"auto": "dark", "dark": "light", "light": "auto"}[f.Theme]
	if c := p.view.Config(); !c.OK {
		f.Config = c.Error
	}
	return f
}

// show draws a page. A page is small enough to be drawn into memory first, so that an error can still become one.
func (p *Pages) show(w http.ResponseWriter, code int, name string, f frame) {
	var b bytes.Buffer
	if err := p.sets[f.Lang][name].ExecuteTemplate(&b, "layout", f); err != nil {
		p.log.Error().Err(err).Str("page", name).Msg("a page could not be drawn")
		http.Error(w, f.Lang.t("app.trouble"), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", f.Lang.tag())
	w.Header().Add("Vary", "Cookie, Accept-Language")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // who does not read it is gone
}

type notice struct{ Head, Text string }

func (p *Pages) missing(w http.ResponseWriter, r *http.Request) {
	f := p.frame(r, "", "")
	f.Title = f.Lang.t("app.notfound")
	f.Body = notice{f.Title, f.Lang.t("app.gone")}
	p.show(w, http.StatusNotFound, "notice", f)
}

// fail shows what a View or a Commander answered.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, web.ErrNone) {
		p.missing(w, r)
		return
	}
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, web.ErrReadOnly), errors.Is(err, web.ErrExists):
		code = http.StatusConflict
	case errors.Is(err, web.ErrStopping):
		code = http.StatusServiceUnavailable
	default:
		p.log.Warn().Err(err).Str("path", r.URL.Path).Msg("a page could not be answered")
	}
	f := p.frame(r, "", "")
	f.Title = f.Lang.t("app.trouble")
	f.Body = notice{f.Title, err.Error()}
	p.show(w, code, "notice", f)
}

// look keeps the language and the colours that somebody chose, in cookies, and goes back to where they were.
func (p *Pages) look(w http.ResponseWriter, r *http.Request) {
	for name, allowed := range map[string][]string{"lang": {"en", "zh"}, "theme": {"auto", "light", "dark"}} {
		for _, v := range allowed {
			if r.PostFormValue(name) == v {
				http.SetCookie(w, &http.Cookie{Name: name, Value: v, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode})
			}
		}
	}
	http.Redirect(w, r, local(r.PostFormValue("back")), http.StatusSeeOther)
}

// local is a path of this host, whatever somebody wrote into a form: "/" for all else.
func local(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || u.Opaque != "" || len(u.Path) == 0 || u.Path[0] != '/' ||
		(len(u.Path) > 1 && (u.Path[1] == '/' || u.Path[1] == '\\')) {
		return "/"
	}
	return u.RequestURI()
}

func (p *Pages) login(w http.ResponseWriter, r *http.Request) {
	f := p.frame(r, "", "")
	f.Title, f.SignedIn, f.Config = f.Lang.t("login.title"), false, ""
	body := struct{ Next, Wrong string }{Next: local(r.URL.Query().Get("next"))}
	code := http.StatusOK
	if s := r.URL.Query().Get("wait"); s != "" {
		if d, err := time.ParseDuration(s + "s"); err == nil && d > 0 {
			body.Wrong, code = f.Lang.t("login.wait", f.Lang.about(d)), http.StatusTooManyRequests
		}
	} else if r.URL.Query().Has("wrong") {
		body.Wrong, code = f.Lang.t("login.wrong"), http.StatusUnauthorized
	}
	f.Body = body
	p.show(w, code, "login", f)
}
