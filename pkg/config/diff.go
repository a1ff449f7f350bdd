package config

import (
	"reflect"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/naming"
)

// Change is what differs between two files. What is not named in it did not change, and nobody has to touch it.
type Change struct {
	// Global are the keys at the top of the file and in [web], [[notify]] and [[hook]] as a whole: "limit-rate", "web",
	// "notify", "hook".
	Global []string

	TargetsAdded   []string // names
	TargetsRemoved []string
	TargetsChanged []string // go somewhere else

	RoomsAdded   []Room
	RoomsRemoved []Room
	RoomsChanged []RoomChange
}

// RoomChange is a room that is in both files and is not the same.
type RoomChange struct {
	Old, New Room
	Keys     []string // "segment", "to"; a room whose target goes somewhere else has "to" as well
}

// IsZero reports whether nothing changed.
func (c Change) IsZero() bool { return reflect.ValueOf(c).IsZero() }

// Key is what makes a room the same in another file: its canonical address.
func (r Room) Key() string { return r.key }

// restart are the keys that take effect when the service starts anew, with no other way.
var restart = []string{"listen", "data", "log-format", "bilibili-cookies", "accept-copy"}

// Restart are those of the changed keys that need a new start to take effect.
func (c Change) Restart() []string {
	var out []string
	for _, k := range c.Global {
		if slices.Contains(restart, k) {
			out = append(out, k)
		}
	}
	return out
}

// Diff says what differs between two configs. The order of rooms in the file is no difference.
func Diff(old, new Config) Change {
	var c Change
	global := func(key string, a, b any) {
		if !same(a, b) {
			c.Global = append(c.Global, key)
		}
	}
	global("listen", old.Listen, new.Listen)
	global("data", old.Data, new.Data)
	global("timezone", old.Zone.String(), new.Zone.String())
	global("log-level", old.LogLevel, new.LogLevel)
	global("log-format", old.LogFormat, new.LogFormat)
	global("uploads", old.Uploads, new.Uploads)
	global("limit-rate", old.LimitRate, new.LimitRate)
	global("keep", [2]any{old.Keep, old.KeepSet}, [2]any{new.Keep, new.KeepSet})
	global("min-free", old.MinFree, new.MinFree)
	global("stop-free", old.StopFree, new.StopFree)
	global("stop-grace", old.StopGrace, new.StopGrace)
	global("accept-copy", old.AcceptCopy, new.AcceptCopy)
	global("bilibili-cookies", old.BilibiliCookies, new.BilibiliCookies)
	global("web", old.Web, new.Web)
	global("notify", old.Notify, new.Notify)
	global("hook", old.Hooks, new.Hooks)

	moved := map[string]bool{}
	for _, t := range new.Targets {
		was, ok := old.Target(t.Name)
		switch {
		case !ok:
			c.TargetsAdded = append(c.TargetsAdded, t.Name)
		case was != t || old.Base() != new.Base():
			c.TargetsChanged = append(c.TargetsChanged, t.Name)
			moved[t.Name] = true
		}
	}
	for _, t := range old.Targets {
		if _, ok := new.Target(t.Name); !ok {
			c.TargetsRemoved = append(c.TargetsRemoved, t.Name)
		}
	}

	was := make(map[string]Room, len(old.Rooms))
	for _, r := range old.Rooms {
		was[r.key] = r
	}
	for _, r := range new.Rooms {
		o, ok := was[r.key]
		delete(was, r.key)
		if !ok {
			c.RoomsAdded = append(c.RoomsAdded, r)
			continue
		}
		if keys := Differ(o, r, moved); len(keys) > 0 {
			c.RoomsChanged = append(c.RoomsChanged, RoomChange{o, r, keys})
		}
	}
	for _, r := range old.Rooms {
		if _, ok := was[r.key]; ok {
			c.RoomsRemoved = append(c.RoomsRemoved, r)
		}
	}
	return c
}

// Differ lists the keys in which two rooms differ; moved are targets that go somewhere else.
func Differ(a, b Room, moved map[string]bool) []string {
	var keys []string
	for _, f := range []struct {
		key  string
		a, b any
	}{
		{"url", a.URL, b.URL}, {"name", a.Name, b.Name}, {"to", a.To, b.To}, {"segment", a.Segment, b.Segment}, {"max-size", a.MaxSize, b.MaxSize},
		{"quality", a.Quality, b.Quality}, {"container", a.Container, b.Container}, {"ads", a.Ads, b.Ads}, {"grace", a.Grace, b.Grace},
		{"title", a.Title, b.Title}, {"folder", a.Folder, b.Folder}, {"bilibili-codec", a.BilibiliCodec, b.BilibiliCodec},
		{"bilibili-allow-hosts", a.BilibiliAllowHosts, b.BilibiliAllowHosts}, {"bilibili-ban-hosts", a.BilibiliBanHosts, b.BilibiliBanHosts},
		{"bilibili-original", a.BilibiliOriginal, b.BilibiliOriginal}, {"window", a.Window, b.Window}, {"skip-titles", a.SkipTitles, b.SkipTitles},
		{"priority", a.Priority, b.Priority}, {"paused", a.Paused, b.Paused},
	} {
		if !same(f.a, f.b) || f.key == "to" && slices.ContainsFunc(b.To, func(t string) bool { return moved[t] }) {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// same compares two values of a config. Those that most rooms share are compared without reflection.
func same(a, b any) bool {
	switch a := a.(type) {
	case string:
		return a == b
	case time.Duration:
		return a == b
	case int64:
		return a == b
	case int:
		return a == b
	case bool:
		return a == b
	case []string:
		return slices.Equal(a, b.([]string))
	case Window:
		return a.text == b.(Window).text
	case naming.Template, limit.Table:
		return reflect.DeepEqual(a, b)
	}
	return reflect.DeepEqual(a, b)
}
