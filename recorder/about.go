package recorder

import "github.com/liverec/liverec/pkg/segment"

// About is what a site says of a room, and what a streamer may change in the course of a broadcast. "" is not known.
type About struct {
	Streamer string
	Title    string
	Cover    string // address of a picture
}

// over gives what is known of both, the newer first.
func (a About) over(old About) About {
	for _, f := range [...]struct{ to, from *string }{{&a.Streamer, &old.Streamer}, {&a.Title, &old.Title}, {&a.Cover, &old.Cover}} {
		if *f.to == "" {
			*f.to = *f.from
		}
	}
	return a
}

// Informed is a Source that keeps what it knows of its room fresh.
type Informed interface {
	Source
	// About is the newest that is known. Everybody may ask, once a second.
	About() About
}

// Change is something that a streamer changed during a broadcast.
type Change struct {
	Room     segment.Room
	Session  segment.SessionID
	Was, Now About
}

// hear takes in what a site says of the room. The state shows it at once. What the broadcast began with stays in its
// manifest and in its name: Deps.Changed is told of what is different since then, each time once.
func (c *capture) hear(a About) {
	var change Change
	c.view.change(func(s *Snapshot) {
		a = a.over(About{s.Streamer, s.Title, s.Cover})
		s.Streamer, s.Title, s.Cover = a.Streamer, a.Title, a.Cover
		if v := c.view; v.said != a && v.cast != "" {
			change = Change{Room: c.cfg.Room, Session: v.cast, Was: v.said, Now: a}
			v.said = a
		}
	})
	if change.Session == "" {
		return
	}
	if change.Was.Title != a.Title || change.Was.Streamer != a.Streamer {
		c.log.Info().Str("session", string(change.Session)).Str("title", a.Title).Str("streamer", a.Streamer).Str("was", change.Was.Title).
			Msg("the streamer changed the title or the name")
	}
	if c.deps.Changed != nil {
		c.deps.Changed(change)
	}
}

// cast says which broadcast goes on and what the ledger has of it; "": none.
func (c *capture) cast(id segment.SessionID, a About) {
	c.view.change(func(*Snapshot) { c.view.cast, c.view.said = id, a })
}
