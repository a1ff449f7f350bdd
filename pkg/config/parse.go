package config

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a container may have no time zones of its own
	"unicode"

	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/secret"
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// DefaultTo is the only target of a file that names none, as it is for `liverec record`.
const DefaultTo = "file:./liverec-archive"

// defaultTarget is what that target is called.
const defaultTarget = "archive"

// longestSubmitted is the longest part that Bilibili transcodes.
const longestSubmitted = 10 * time.Hour

// largestSubmitted is the largest part that liverec submits.
const largestSubmitted = 29 << 30

// reader turns the shape of a file into a Config, and collects what is wrong.
type reader struct {
	p      *places
	checks Checks
	base   string
	errs   Errors
}

// Parse reads the bytes of a file. file is its absolute path: relative ones in it start from its folder. Secrets that it
// names by file are read as well.
func Parse(data []byte, file string, c Checks) (Config, error) {
	raw, p, errs := decode(data, file)
	if errs != nil {
		return Config{}, errs
	}
	r := &reader{p: p, checks: c, base: filepath.Dir(file)}
	cfg := r.file(raw)
	cfg.File = file
	if len(r.errs) > 0 {
		slices.SortStableFunc(r.errs, func(a, b *Error) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return Config{}, r.errs
	}
	return cfg, nil
}

// Default is what a service does without a file: no room, the page on loopback, an archive folder below base.
func Default(base string, c Checks) (Config, error) {
	cfg, err := Parse(nil, filepath.Join(base, "none"), c)
	cfg.File = ""
	return cfg, err
}

func (r *reader) bad(path, format string, args ...any) {
	r.errs = append(r.errs, r.p.value(path, format, args...))
}

// file makes a Config of the shape.
func (r *reader) file(raw *rawFile) Config {
	c := Config{Listen: DefaultListen, Zone: time.Local, Uploads: 3, StopFree: 1 << 30, StopGrace: 20 * time.Second}
	if raw.Listen != nil {
		c.Listen = *raw.Listen
	}
	c.Data = r.path("data", raw.Data)
	if raw.Timezone != nil {
		zone, err := time.LoadLocation(*raw.Timezone)
		if err != nil || *raw.Timezone == "" || *raw.Timezone == "Local" {
			r.bad("timezone", "%q is no time zone; use a name such as \"Asia/Shanghai\", \"Europe/Berlin\" or \"UTC\"", clip(*raw.Timezone))
			zone = time.Local
		}
		c.Zone = zone
	}
	c.LogLevel = r.oneOf("log-level", raw.LogLevel, "", "trace", "debug", "info", "warn", "error")
	c.LogFormat = r.oneOf("log-format", raw.LogFormat, "", "text", "json")
	if raw.Uploads != nil {
		if *raw.Uploads < 1 || *raw.Uploads > 64 {
			r.bad("uploads", "%d is not a number from 1 to 64", *raw.Uploads)
		}
		c.Uploads = int(*raw.Uploads)
	}
	if raw.LimitRate != nil {
		var err error
		if c.LimitRate, err = limit.ParseTable(*raw.LimitRate); err != nil {
			r.bad("limit-rate", "%v; right would be \"20M\", or \"08:00,5M 23:00,off\"", err)
		}
	}
	c.KeepSet = raw.Keep != nil
	c.Keep = r.duration("keep", raw.Keep, 0, 0, 10*365*24*time.Hour)
	c.MinFree = r.size("min-free", raw.MinFree, 0, 1, math.MaxInt64)
	c.StopFree = r.size("stop-free", raw.StopFree, c.StopFree, 0, math.MaxInt64)
	if c.MinFree > 0 && c.MinFree < c.StopFree {
		r.bad("min-free", "%s is less than stop-free; it must be at least that", clip(*raw.MinFree))
	}
	c.StopGrace = r.duration("stop-grace", raw.StopGrace, c.StopGrace, 0, 24*time.Hour)
	c.AcceptCopy = raw.AcceptCopy != nil && *raw.AcceptCopy
	c.BilibiliCookies = r.path("bilibili-cookies", raw.Cookies)
	c.Web = r.web(raw.Web)
	r.listen(c)
	r.targets(raw, &c)
	r.rooms(raw, &c)
	for i, n := range raw.Notify {
		c.Notify = append(c.Notify, r.notify("notify."+strconv.Itoa(i), n))
	}
	for i, h := range raw.Hook {
		c.Hooks = append(c.Hooks, r.hook("hook."+strconv.Itoa(i), h))
	}
	return c
}

func (r *reader) duration(path string, s *string, def, low, high time.Duration) time.Duration {
	if s == nil {
		return def
	}
	d, err := duration(*s, low, high)
	if err != nil {
		r.bad(path, "%v", err)
	}
	return d
}

func (r *reader) size(path string, s *string, def, low, high int64) int64 {
	if s == nil {
		return def
	}
	n, err := size(*s, low, high)
	if err != nil {
		r.bad(path, "%v", err)
	}
	return n
}

func (r *reader) oneOf(path string, s *string, def string, words ...string) string {
	if s == nil {
		return def
	}
	if !slices.Contains(words, *s) {
		r.bad(path, "%q is none of %s", clip(*s), strings.Join(words, ", "))
	}
	return *s
}

// path makes a path absolute.
func (r *reader) path(path string, s *string) string {
	switch {
	case s == nil:
		return ""
	case *s == "":
		r.bad(path, "it is empty; name a path, or leave the key out")
		return ""
	case strings.ContainsRune(*s, 0):
		r.bad(path, "a path cannot hold a NUL")
		return ""
	case filepath.IsAbs(*s):
		return filepath.Clean(*s)
	}
	return filepath.Join(r.base, *s)
}

func (r *reader) web(raw *rawWeb) Web {
	if raw == nil {
		return Web{}
	}
	w := Web{PasswordFile: r.path("web.password-file", raw.PasswordFile), TLSCert: r.path("web.tls-cert", raw.TLSCert), TLSKey: r.path("web.tls-key", raw.TLSKey)}
	w.Password = r.secret("web.password-file", w.PasswordFile)
	if n := len(w.Password.Reveal()); n > 0 && n < 8 {
		r.bad("web.password-file", "the password in %s has less than 8 characters; make one with `head -c 18 /dev/urandom | base64`", w.PasswordFile)
	}
	switch {
	case w.TLSCert != "" && w.TLSKey == "":
		r.bad("web.tls-cert", "it needs tls-key beside it")
	case w.TLSKey != "" && w.TLSCert == "":
		r.bad("web.tls-key", "it needs tls-cert beside it")
	}
	return w
}

// secret reads the first line of a file that holds a secret.
func (r *reader) secret(path, file string) secret.String {
	if file == "" {
		return secret.String{}
	}
	s, err := Secret(file)
	if err != nil {
		r.bad(path, "%v", err)
	}
	return s
}

// Secret reads a secret: the first line of a file that not everybody can read. What a container or the system hands over
// below /run may have any mode: who gets there sees the process as well.
func Secret(file string) (secret.String, error) {
	data, err := read(file, 64<<10)
	if err != nil {
		return secret.String{}, err
	}
	fi, err := os.Stat(file)
	if err != nil {
		return secret.String{}, fmt.Errorf("look at %s: %w", file, err)
	}
	if fi.Mode().Perm()&0o004 != 0 && !strings.HasPrefix(file, "/run/secrets/") && !strings.HasPrefix(file, "/run/credentials/") {
		return secret.String{}, fmt.Errorf("everybody on this machine can read %s (mode %04o); `chmod 600 %s`", file, fi.Mode().Perm(), file)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	if line = strings.TrimSpace(line); line == "" {
		return secret.String{}, fmt.Errorf("%s is empty; its first line should be the secret", file)
	}
	return secret.New(line), nil
}

// listen checks the address of the page, and that strangers cannot come in without a password.
func (r *reader) listen(c Config) {
	host, port, err := net.SplitHostPort(c.Listen)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 && port != "0" {
		r.bad("listen", "%q is no address such as \"127.0.0.1:8420\" or \"0.0.0.0:8420\"", clip(c.Listen))
		return
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "localhost":
		return
	case err != nil && host != "":
		r.bad("listen", "%q is no IP address; use 127.0.0.1 for this machine, or 0.0.0.0 for all of its addresses", clip(host))
	case (err != nil || !addr.IsLoopback()) && c.Web.PasswordFile == "":
		r.bad("listen", "%s can be reached from other machines, which needs a password: add [web] with password-file, or listen on 127.0.0.1", clip(c.Listen))
	}
}

func (r *reader) targets(raw *rawFile, c *Config) {
	names := slices.Sorted(maps.Keys(raw.Target))
	if len(names) == 0 {
		t := Target{Name: defaultTarget, To: DefaultTo, Required: true}
		if r.checks.Destination != nil {
			if _, _, err := r.checks.Destination(t.To, r.base); err != nil {
				r.errs = append(r.errs, &Error{File: r.p.file, Text: sprintf("the target %s beside this file: %v", DefaultTo, err)})
			}
		}
		c.Targets = []Target{t}
		return
	}
	seen := map[string]string{}
	for _, name := range names {
		path := "target." + name
		if name == "" || strings.ContainsFunc(name, func(c rune) bool { return unicode.IsControl(c) || unicode.IsSpace(c) }) {
			r.bad(path, "%q is no name for a target; use letters, digits and dashes", clip(name))
			continue
		}
		to := raw.Target[name].To
		if to == nil || strings.TrimSpace(*to) == "" {
			r.bad(path+".to", "where to is missing; right would be to = \"/srv/archive\" or to = \"s3://bucket/prefix?endpoint=https://host\"")
			continue
		}
		t := Target{Name: name, To: *to, Required: true}
		if r.checks.Destination != nil {
			id, required, err := r.checks.Destination(t.To, r.base)
			switch other, twice := seen[id]; {
			case err != nil:
				r.bad(path+".to", "%v", err)
			case twice:
				r.bad(path+".to", "it is the same place as target %s; leave one of them out", other)
			default:
				seen[id], t.Required = name, required
			}
		}
		c.Targets = append(c.Targets, t)
	}
}

func (r *reader) rooms(raw *rawFile, c *Config) {
	base := Room{Segment: 15 * time.Minute, MaxSize: 4 << 30, Quality: "auto", Container: "auto", Ads: "skip", Grace: time.Minute, BilibiliCodec: "avc",
		Title: must(naming.Parse(naming.DefaultTitle)), Folder: must(naming.Parse(naming.DefaultName))}
	known := map[string]Target{}
	var all []string
	for _, t := range c.Targets {
		known[t.Name] = t
		all = append(all, t.Name)
	}
	base.To = all
	if d := raw.Defaults; d != nil {
		base = r.shared("defaults", &d.rawShared, base, known)
		base.Folder = r.template("defaults.name", d.Name, base.Folder)
	}
	c.Defaults = base
	if len(all) > 0 && !slices.ContainsFunc(c.Targets, func(t Target) bool { return t.Required }) {
		r.bad("target."+all[0]+".to", "every target has required=false, so that nothing would ever be safe; leave it out of at least one")
	}
	names, urls := map[string]int{}, map[string]int{}
	c.Rooms = make([]Room, 0, len(raw.Room))
	for i := range raw.Room {
		path := "room." + strconv.Itoa(i)
		room := r.room(path, &raw.Room[i], base, known)
		name := room.Name
		if room.URL != "" && r.checks.Room != nil {
			id, short, err := r.checks.Room(room.URL)
			if err != nil {
				r.bad(path+".url", "%v", err)
				continue
			}
			room.key = id
			if name == "" {
				name = short
			}
		}
		if room.key == "" {
			room.key = strings.TrimSpace(room.URL)
		}
		if first, ok := urls[room.key]; ok && room.URL != "" {
			r.bad(path+".url", "it is the same room as the one in line %d; leave one of them out", r.line("room."+strconv.Itoa(first)+".url"))
		} else if other, ok := names[strings.ToLower(name)]; ok && name != "" {
			at, from := path+".name", ""
			if room.Name == "" {
				at, from = path+".url", " (made from the address)"
			}
			r.bad(at, "the room in line %d is called %q as well%s; give one of them another name", r.line("room."+strconv.Itoa(other)), clip(name), from)
		}
		if _, ok := urls[room.key]; !ok {
			urls[room.key] = i
		}
		if _, ok := names[strings.ToLower(name)]; !ok {
			names[strings.ToLower(name)] = i
		}
		c.Rooms = append(c.Rooms, room)
	}
}

func (r *reader) line(path string) int { return r.p.value(path, "").Line }

func must(t naming.Template, err error) naming.Template {
	if err != nil {
		panic(fmt.Sprintf("a built-in template is wrong: %v", err))
	}
	return t
}

func (r *reader) room(path string, raw *rawRoom, base Room, known map[string]Target) Room {
	room := r.shared(path, &raw.rawShared, base, known)
	if raw.URL == nil || strings.TrimSpace(*raw.URL) == "" {
		r.bad(path+".url", "the address of the room is missing; right would be url = \"https://live.bilibili.com/1\"")
	} else {
		room.URL = strings.TrimSpace(*raw.URL)
	}
	if raw.Name != nil {
		room.Name = *raw.Name
		if err := checkName(room.Name); err != nil {
			r.bad(path+".name", "%v", err)
		}
	}
	room.Folder = r.template(path+".folder", raw.Folder, room.Folder)
	room.Paused = raw.Paused != nil && *raw.Paused
	return room
}

// checkName refuses what cannot be called on a command line, in an address or in a log.
func checkName(s string) error {
	switch {
	case strings.TrimSpace(s) != s || s == "":
		return fmt.Errorf("%q is no name: it is empty, or has a space at an end", clip(s))
	case len(s) > naming.MaxComponent:
		return fmt.Errorf("%q is too long; use at most %d bytes", clip(s), naming.MaxComponent)
	case strings.Contains(s, "{"):
		return fmt.Errorf("%q looks like a template; the remote folder of a room is called folder here, name is what the room is called", clip(s))
	case naming.Line(s) != s || strings.ContainsAny(s, "/\\"):
		return fmt.Errorf("%q is no name: it has a slash or a control character", clip(s))
	case s == "." || s == "..":
		return fmt.Errorf("%q is no name: no address can hold it", s)
	}
	return nil
}

func (r *reader) shared(path string, raw *rawShared, base Room, known map[string]Target) Room {
	room := base
	if raw.To != nil {
		room.To = slices.Clone(*raw.To)
		r.to(path+".to", room.To, known)
	}
	room.Segment = r.duration(path+".segment", raw.Segment, base.Segment, time.Second, 24*time.Hour)
	if room.Segment > longestSubmitted && (raw.Segment != nil || raw.To != nil) {
		for _, name := range room.To {
			if strings.HasPrefix(known[name].To, "bilibili:") {
				r.bad(path+".segment", "Bilibili takes parts of at most %s, and %s is one of the targets; right would be \"1h\"", short(longestSubmitted), name)
			}
		}
	}
	room.MaxSize = r.size(path+".max-size", raw.MaxSize, base.MaxSize, 1<<20, 5<<40)
	if room.MaxSize > largestSubmitted && (raw.MaxSize != nil || raw.To != nil) {
		for _, name := range room.To {
			if strings.HasPrefix(known[name].To, "bilibili:") {
				r.bad(path+".max-size", "Bilibili takes parts of at most %dGiB, and %s is one of the targets; right would be \"4GiB\"", largestSubmitted>>30, name)
			}
		}
	}
	if raw.Quality != nil {
		room.Quality = strings.TrimSpace(*raw.Quality)
		if room.Quality == "" || strings.ContainsFunc(room.Quality, unicode.IsControl) {
			r.bad(path+".quality", "%q is no quality; use auto, best, worst, a height such as \"720\", or a name that liverec probe shows", clip(room.Quality))
		}
	}
	room.Container = r.oneOf(path+".container", raw.Container, base.Container, "auto", "flv", "mp4", "ts")
	room.Ads = r.oneOf(path+".ads", raw.Ads, base.Ads, "skip", "keep")
	room.Grace = r.duration(path+".grace", raw.Grace, base.Grace, 0, 7*24*time.Hour)
	room.Title = r.template(path+".title", raw.Title, base.Title)
	room.BilibiliCodec = r.oneOf(path+".bilibili-codec", raw.Codec, base.BilibiliCodec, "avc", "hevc")
	room.BilibiliAllowHosts = r.hosts(path+".bilibili-allow-hosts", raw.Allow, base.BilibiliAllowHosts)
	room.BilibiliBanHosts = r.hosts(path+".bilibili-ban-hosts", raw.Ban, base.BilibiliBanHosts)
	if raw.Original != nil {
		room.BilibiliOriginal = *raw.Original
	}
	if raw.Window != nil {
		w, err := ParseWindow(*raw.Window)
		if err != nil {
			r.bad(path+".window", "%v", err)
		}
		room.Window = w
	}
	if raw.Skip != nil {
		room.SkipTitles = slices.Clone(*raw.Skip)
		for i, s := range room.SkipTitles {
			if strings.TrimSpace(s) == "" {
				r.bad(path+".skip-titles."+strconv.Itoa(i), "it is empty, and every title would be skipped")
			}
		}
	}
	if raw.Priority != nil {
		if *raw.Priority < -1000 || *raw.Priority > 1000 {
			r.bad(path+".priority", "%d is out of range; use -1000 to 1000", *raw.Priority)
		}
		room.Priority = int(*raw.Priority)
	}
	return room
}

// to checks the names of the targets of a room.
func (r *reader) to(path string, names []string, known map[string]Target) {
	if len(names) == 0 {
		r.bad(path, "it is empty, so that nothing would ever be safe; name a target, or leave the key out to use all of them")
		return
	}
	required := false
	for i, name := range names {
		t, ok := known[name]
		at := path + "." + strconv.Itoa(i)
		switch {
		case !ok && (strings.ContainsAny(name, ":/") || name == "."):
			r.bad(at, "%q is a destination, and rooms name targets here; add [target.NAME] with to = \"…\" and write to = [\"NAME\"]", clip(scrub(name)))
			required = true
		case !ok:
			all := slices.Sorted(maps.Keys(known))
			if near := nearest(name, all); near != "" {
				r.bad(at, "there is no target %q; did you mean %q?", clip(name), near)
			} else {
				r.bad(at, "there is no target %q; there is %s, or add [target.%s]", clip(name), strings.Join(all[:min(len(all), 8)], ", "), clip(name))
			}
			required = true
		case slices.Contains(names[:i], name):
			r.bad(at, "%q is named twice; leave one of them out", clip(name))
		}
		required = required || t.Required
	}
	if !required {
		r.bad(path, "every target of it has required=false, so that nothing would ever be safe; add one that is required")
	}
}

// scrub cuts what may be a secret out of something that looks like an address.
func scrub(s string) string {
	s, _, _ = strings.Cut(s, "?")
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = s[i+1:]
	}
	return s
}

func (r *reader) template(path string, s *string, def naming.Template) naming.Template {
	if s == nil {
		return def
	}
	t, err := naming.Parse(*s)
	if err != nil {
		r.bad(path, "%v", err)
	}
	return t
}

func (r *reader) hosts(path string, s *string, def string) string {
	if s == nil {
		return def
	}
	if r.checks.Hosts != nil {
		if err := r.checks.Hosts(*s); err != nil {
			r.bad(path, "%v", err)
		}
	}
	return *s
}

func (r *reader) notify(path string, raw rawNotify) Notify {
	n := Notify{On: slices.Clone(Topics)}
	at := path + ".url"
	switch {
	case raw.URL != nil && raw.URLFile != nil:
		r.bad(path+".url-file", "url stands beside it; leave one of them out")
	case raw.URL != nil:
		n.URL = secret.New(strings.TrimSpace(*raw.URL))
	case raw.URLFile != nil:
		at = path + ".url-file"
		n.URL = r.secret(at, r.path(at, raw.URLFile))
	default:
		r.bad(path, "the address is missing; right would be url = \"telegram://TOKEN@telegram?chats=ID\", or url-file with that in its first line")
	}
	kind, _, ok := strings.Cut(n.URL.Reveal(), "://")
	kind, _, _ = strings.Cut(kind, "+")
	switch {
	case n.URL.IsZero() && raw.URL != nil && raw.URLFile == nil:
		r.bad(at, "it is empty; right would be \"telegram://TOKEN@telegram?chats=ID\"")
	case n.URL.IsZero():
	case !ok || kind == "" || strings.ContainsFunc(kind, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') }):
		r.bad(at, "it is no shoutrrr address; it looks like \"telegram://TOKEN@telegram?chats=ID\"")
	case r.checks.Notify != nil:
		if err := r.checks.Notify(n.URL); err != nil {
			r.bad(at, "%v", err)
		}
	}
	n.Name = kind
	if raw.Name != nil {
		n.Name = *raw.Name
		if err := checkName(n.Name); err != nil {
			r.bad(path+".name", "%v", err)
		}
	}
	if raw.On != nil {
		n.On = slices.Clone(*raw.On)
		if len(n.On) == 0 {
			r.bad(path+".on", "it is empty, so that nothing would ever be told; use \"broadcast\", \"trouble\" or both")
		}
		for i, on := range n.On {
			if !slices.Contains(Topics, on) {
				r.bad(path+".on."+strconv.Itoa(i), "%q is none of %s", clip(on), strings.Join(Topics, ", "))
			}
		}
	}
	return n
}

func (r *reader) hook(path string, raw rawHook) Hook {
	h := Hook{Timeout: r.duration(path+".timeout", raw.Timeout, time.Minute, time.Second, 24*time.Hour)}
	if raw.On == nil {
		r.bad(path+".on", "what to wait for is missing; use one of %s", strings.Join(Events, ", "))
	} else if h.On = *raw.On; !slices.Contains(Events, h.On) {
		if near := nearest(h.On, Events); near != "" {
			r.bad(path+".on", "%q is no event; did you mean %q?", clip(h.On), near)
		} else {
			r.bad(path+".on", "%q is none of %s", clip(h.On), strings.Join(Events, ", "))
		}
	}
	if raw.Run == nil || len(*raw.Run) == 0 || (*raw.Run)[0] == "" {
		r.bad(path+".run", "the program is missing; right would be run = [\"/usr/local/bin/after-part\"]")
		return h
	}
	h.Run = slices.Clone(*raw.Run)
	for i, s := range h.Run {
		if strings.ContainsRune(s, 0) {
			r.bad(path+".run."+strconv.Itoa(i), "an argument cannot hold a NUL")
		}
	}
	if prog := h.Run[0]; strings.Contains(prog, "/") {
		h.Run[0] = r.path(path+".run", &prog)
		if fi, err := os.Stat(h.Run[0]); err != nil {
			r.bad(path+".run.0", "%s cannot be found; name a program", h.Run[0])
		} else if fi.IsDir() || fi.Mode()&0o111 == 0 {
			r.bad(path+".run.0", "%s cannot be executed; `chmod +x` it", h.Run[0])
		}
	} else {
		r.bad(path+".run.0", "%q is no path; write the whole one, such as \"/usr/bin/%s\"", clip(prog), clip(prog))
	}
	return h
}
