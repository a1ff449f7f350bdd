package hlspull

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
)

// origin is one place that the chosen form can be had from.
type origin struct {
	list, sound string // URLs of the playlists; sound is empty if it is in the segments
	variant     hls.Variant
}

func (o origin) host() string { return hostOf(o.list) }

func hostOf(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.Host
	}
	return ""
}

// found is what the room's URL led to.
type found struct {
	master  *hls.Master // nil: the URL is a media playlist
	origins []origin
	read    int64
}

// Quality is one form in which a stream is offered.
type Quality struct {
	hls.Variant
	Chosen bool
	Hosts  []string // of it, the first one first
}

// Open asks for the playlist, and chooses. It is for whoever wants to know before Run whether there is a stream; Run does
// it otherwise. The error is a *fetch.StatusError, hls.ErrNotPlaylist or hls.ErrTooLarge, wrapped, that of the choice, or
// says that nobody could be asked.
func (s *Source) Open(ctx context.Context) error {
	f, err := s.resolve(ctx, s.cfg.URL)
	if err != nil {
		return err
	}
	s.found = f
	host := f.origins[0].host()
	s.host.Store(&host)
	return nil
}

// Qualities is what Open found, in the order of the playlist; nil if there is no choice.
func (s *Source) Qualities() []Quality {
	if s.found == nil || s.found.master == nil {
		return nil
	}
	var qs []Quality
	for _, v := range s.found.master.Variants {
		q := Quality{Variant: v, Chosen: v.URL == s.found.origins[0].list, Hosts: []string{hostOf(v.URL)}}
		if q.Chosen {
			for _, o := range s.found.origins[1:] {
				q.Hosts = append(q.Hosts, o.host())
			}
		}
		qs = append(qs, q)
	}
	return qs
}

// listTimeout is how long a list may take in all.
const listTimeout = 10 * time.Second

// load gets and reads one playlist.
func (s *Source) load(ctx context.Context, raw string) (hls.Playlist, fetch.Answer, error) {
	a, err := s.client.Get(ctx, fetch.Request{URL: raw, Max: hls.MaxSize, Total: listTimeout})
	if err != nil {
		return hls.Playlist{}, a, fmt.Errorf("load playlist: %w", err)
	}
	var variables map[string]string
	if s.found != nil && s.found.master != nil && raw != s.cfg.URL {
		variables = s.found.master.Variables
	}
	p, err := hls.ParseWith(a.Body, a.URL, variables)
	if err != nil {
		return hls.Playlist{}, a, fmt.Errorf("load playlist: %w", err)
	}
	return p, a, nil
}

// resolve follows the room's URL to the playlists of the chosen form.
func (s *Source) resolve(ctx context.Context, raw string) (*found, error) {
	p, a, err := s.load(ctx, raw)
	f := &found{read: a.Read}
	if err != nil {
		return f, err
	}
	if p.Master == nil {
		f.origins = []origin{{list: raw}}
		return f, nil
	}
	f.master = p.Master
	f.origins, err = choose(p.Master, s.cfg.Quality)
	return f, err
}

// choose makes origins of a form and its backups.
func choose(m *hls.Master, quality string) ([]origin, error) {
	c, err := hls.Choose(m, quality)
	if err != nil {
		return nil, err
	}
	return originsOf(m, c), nil
}

func originsOf(m *hls.Master, c hls.Choice) []origin {
	var origins []origin
	for _, v := range append([]hls.Variant{c.Variant}, c.Backups...) {
		origins = append(origins, origin{list: v.URL, sound: soundOf(m, v), variant: v})
	}
	return origins
}

// soundOf is the playlist of the sound that belongs to a variant, "" if it is inside. The default one wins, then one that
// may be chosen by itself, then the first.
func soundOf(m *hls.Master, v hls.Variant) string {
	best, rank := "", -1
	for _, r := range m.Renditions {
		if r.Type != "AUDIO" || r.Group != v.Audio || v.Audio == "" {
			continue
		}
		if r.URI == "" {
			return ""
		}
		n := 0
		switch {
		case r.Default:
			n = 2
		case r.Autoselect:
			n = 1
		}
		if n > rank && r.URL != "" {
			best, rank = r.URL, n
		}
	}
	if best == v.URL {
		return "" // a form that is sound alone names itself
	}
	return best
}

// refused reports whether an error is an answer that another URL may cure, and gone whether it says that there is
// nothing any more.
func refused(err error) (yes, gone bool) {
	e, ok := errors.AsType[*fetch.StatusError](err)
	if !ok {
		return false, false
	}
	switch e.Code {
	case http.StatusNotFound, http.StatusGone:
		return true, true
	case http.StatusForbidden, http.StatusUnauthorized:
		return true, false
	}
	return false, false
}

func pathOf(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.EscapedPath()
	}
	return ""
}
