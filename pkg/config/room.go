package config

import (
	"strings"
)

// Settings are those of one room as texts, as the page and the ledger keep them; "" or nil is the default.
type Settings struct {
	URL        string   `json:"url"`
	Name       string   `json:"name,omitempty"`
	To         []string `json:"to,omitempty"`
	Segment    string   `json:"segment,omitempty"`
	MaxSize    string   `json:"max-size,omitempty"`
	Quality    string   `json:"quality,omitempty"`
	Container  string   `json:"container,omitempty"`
	Ads        string   `json:"ads,omitempty"`
	Grace      string   `json:"grace,omitempty"`
	Title      string   `json:"title,omitempty"`
	Window     string   `json:"window,omitempty"`
	SkipTitles []string `json:"skip-titles,omitempty"`
	Priority   int      `json:"priority,omitempty"`
	Paused     bool     `json:"paused,omitempty"`
}

// Room makes a room of settings that stand in no file, with the targets and the defaults of this config. Its error is an
// *Error that names the key.
func (c *Config) Room(s Settings, checks Checks) (Room, error) {
	text := func(v string) *string {
		if v == "" {
			return nil
		}
		return &v
	}
	raw := rawRoom{URL: text(s.URL), Name: text(s.Name)}
	raw.Segment, raw.MaxSize, raw.Quality, raw.Container = text(s.Segment), text(s.MaxSize), text(s.Quality), text(s.Container)
	raw.Ads, raw.Grace, raw.Title, raw.Window = text(s.Ads), text(s.Grace), text(s.Title), text(s.Window)
	if s.To != nil {
		raw.To = &s.To
	}
	if s.SkipTitles != nil {
		raw.Skip = &s.SkipTitles
	}
	if s.Priority != 0 {
		p := int64(s.Priority)
		raw.Priority = &p
	}
	raw.Paused = &s.Paused
	known := map[string]Target{}
	for _, t := range c.Targets {
		known[t.Name] = t
	}
	r := &reader{p: &places{}, checks: checks, base: c.Base()}
	room := r.room("room", &raw, c.Defaults, known)
	room.key = room.URL
	if len(r.errs) == 0 && checks.Room != nil {
		id, _, err := checks.Room(room.URL)
		if err != nil {
			r.bad("room.url", "%v", err)
		}
		room.key = id
	}
	if len(r.errs) > 0 {
		r.errs[0].Key = strings.TrimPrefix(r.errs[0].Key, "room.")
		return Room{}, r.errs[0]
	}
	return room, nil
}

// Skips reports whether a broadcast with such a title is not wanted, and for which word.
func (r Room) Skips(title string) (word string, yes bool) {
	t := strings.ToLower(title)
	for _, w := range r.SkipTitles {
		if strings.Contains(t, strings.ToLower(w)) {
			return w, true
		}
	}
	return "", false
}
