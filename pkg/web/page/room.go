package page

import (
	"errors"
	"net/http"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/web"
)

type roomPage struct {
	Name, ID string
	URL      string
	Live     bool
	Head     roomHead
	Now      roomNow
	Player   player
	Can      verbs
	Form     form
	Cast     *castBrief
}

// roomHead is what stands beside the name.
type roomHead struct {
	State, Tone, Since, Title, Error string
}

// roomNow is what the room is recording.
type roomNow struct {
	Card   card
	Open   bool
	Unsafe string
	Facts  []fact
}

type fact struct{ Key, Value string }

type player struct {
	Name, Kind string // flv, mp4, ts; "" if nothing is open
	Stream     string
}

// verbs are the commands that make sense now.
type verbs struct {
	Name                              string
	Pause, Continue, Split, Stop, Own bool
}

func (p *Pages) headOf(l lang, pic *picture, st status.Room) roomHead {
	h := roomHead{State: stateSay(l, st.State), Tone: stateTone(st.State)}
	if st.Title != st.Room {
		h.Title = st.Title
	}
	if st.State != status.OnAir { // of a live room it is the name of the host
		h.Error = st.Error
	}
	if since := moment(st.Since); !since.IsZero() {
		h.Since = l.t("room.for", l.about(max(pic.at.Sub(since), time.Minute)))
	}
	return h
}

func (p *Pages) nowOf(l lang, pic *picture, s web.Room, st status.Room) roomNow {
	n := roomNow{Card: p.cardOf(l, pic, &st), Open: st.Open != nil, Unsafe: status.Size(st.UnsafeBytes)}
	n.Facts = []fact{{l.t("room.unsafe"), n.Unsafe}}
	if st.State == status.OnAir {
		n.Facts = append([]fact{{l.t("room.bitrate"), n.Card.Bitrate}}, n.Facts...)
	}
	if st.Quality != "" {
		n.Facts = append(n.Facts, fact{l.t("room.quality"), st.Quality})
	}
	n.Facts = append(n.Facts, fact{l.t("hist.gaps"), n.Card.Gaps}, fact{l.t("room.site"), s.Site},
		fact{l.t("room.source"), l.t(map[bool]string{true: "source.page", false: "source.file"}[s.Source == "page"])})
	return n
}

func verbsOf(s web.Room, st status.Room) verbs {
	v := verbs{Name: s.Name, Own: s.Source == "page"}
	switch st.State {
	case status.Paused, status.Ended:
		v.Continue = true
	default:
		v.Pause, v.Stop = true, true
	}
	v.Split = st.Open != nil && st.State == status.OnAir
	v.Stop = v.Stop || st.State == status.Paused
	return v
}

func (p *Pages) playerOf(r *http.Request, s web.Room, st status.Room) player {
	pl := player{Name: s.Name}
	if st.Open == nil {
		return pl
	}
	o, err := p.view.Open(r.Context(), s.Name)
	if err != nil {
		return pl
	}
	defer func() { _ = o.Close() }() // it was only read
	pl.Kind, pl.Stream = o.Container, streamURL(s.Name)
	return pl
}

func (p *Pages) roomParts(l lang, pic *picture, name string) []part {
	s, st, ok := pic.room(name)
	if !ok {
		return nil
	}
	of := name
	return []part{
		{id: "head", of: of, name: "roomhead", data: func() any { return p.headOf(l, pic, st) }},
		{id: "now", of: of, name: "roomnow", data: func() any { return p.nowOf(l, pic, s, st) }},
		{id: "verbs", of: of, name: "verbs", data: func() any { return verbsOf(s, st) }},
	}
}

func (p *Pages) room(w http.ResponseWriter, r *http.Request) {
	p.showRoom(w, r, http.StatusOK, r.URL.Query().Get("name"), nil)
}

// showRoom draws a room; with a form that was refused as it was sent, else with the settings as they are.
func (p *Pages) showRoom(w http.ResponseWriter, r *http.Request, code int, name string, sent *form) {
	pic, err := p.picture(r.Context())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	s, st, ok := pic.room(name)
	if !ok {
		if rooms, err := p.view.Rooms(r.Context()); err == nil { // one that came after the picture
			for _, x := range rooms {
				if x.Name == name {
					s, ok = x, true
				}
			}
		}
	}
	if !ok {
		p.missing(w, r)
		return
	}
	f := p.frame(r, "", name)
	l := f.Lang
	f.Live, f.Said = "/live?page=room&"+roomURL(name)[len("/room?"):], said(l, r)
	f.Here = roomURL(name)
	b := roomPage{Name: name, ID: mark("r", name), URL: s.URL, Live: st.State == status.OnAir, Head: p.headOf(l, pic, st),
		Now: p.nowOf(l, pic, s, st), Player: p.playerOf(r, s, st), Can: verbsOf(s, st), Form: formOf(s.Settings, pic)}
	b.Form.Name, b.Form.ReadOnly = name, s.Source != "page"
	if sent != nil {
		b.Form = *sent
		b.Form.Name = name
	}
	if st.Broadcast != "" {
		c, err := p.view.Broadcast(r.Context(), segment.SessionID(st.Broadcast))
		switch {
		case err == nil:
			b.Cast = p.brief(l, c)
		case !errors.Is(err, web.ErrNone):
			p.fail(w, r, err)
			return
		}
	}
	f.Body = b
	p.show(w, code, "room", f)
}
