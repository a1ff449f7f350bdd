package web

import (
	_ "embed"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/liverec/liverec/pkg/metrics"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/token"
)

// openAPI describes every route of the API; a test holds it and routes together.
//
//go:embed openapi.json
var openAPI []byte

func (s *Server) getOpenAPI(w http.ResponseWriter, r *http.Request) {
	if _, t := query(r); t != nil {
		writeTrouble(w, *t)
		return
	}
	s.writeBytes(w, r, "application/json", openAPI)
}

// getAlive says that the process answers, and nothing about how it is.
func (s *Server) getAlive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("alive\n"))
}

// getReady says whether the ledger takes records and the rooms were started.
func (s *Server) getReady(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := s.view.Ready(r.Context()); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, "not ready: %v\n", err)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) {
	st, err := s.view.Status(r.Context())
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	n, err := s.view.Numbers(r.Context())
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	scrape, err := s.metrics.Scrape(metrics.Input{Status: st, Numbers: n, ConfigOK: s.view.Config().OK, Version: s.cfg.Version})
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	scrape.ServeHTTP(w, r)
}

func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) {
	if _, t := query(r); t != nil {
		writeTrouble(w, *t)
		return
	}
	st, err := s.view.Status(r.Context())
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	s.writeJSON(w, r, st)
}

// query reads the query of a request; a parameter that is not known, or stands there twice, is refused.
func query(r *http.Request, known ...string) (url.Values, *trouble) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &trouble{http.StatusBadRequest, "bad_request", "the query cannot be read", ""}
	}
	for k, vs := range q {
		switch {
		case !slices.Contains(known, k):
			return nil, &trouble{http.StatusBadRequest, "bad_request", "there is no such parameter here", clip(k)}
		case len(vs) > 1:
			return nil, &trouble{http.StatusBadRequest, "bad_request", "it may stand in the query once", k}
		case !utf8.ValidString(vs[0]):
			return nil, &trouble{http.StatusBadRequest, "bad_request", "it is not UTF-8", k}
		}
	}
	return q, nil
}

// most reads how many a page has.
func most(q url.Values, limit int) (int, *trouble) {
	if !q.Has("most") {
		return 0, nil
	}
	n, err := strconv.Atoi(q.Get("most"))
	if err != nil || n < 1 || n > limit {
		return 0, &trouble{http.StatusBadRequest, "bad_request", fmt.Sprintf("it is a number from 1 to %d", limit), "most"}
	}
	return n, nil
}

type roomList struct {
	Rooms []Room `json:"rooms"`
	Next  string `json:"next,omitempty"` // the name to go on after
}

// maxRooms is the longest page of rooms; without "most" all of them are listed.
const maxRooms = 10_000

func (s *Server) listRooms(w http.ResponseWriter, r *http.Request) {
	q, t := query(r, "most", "after")
	if t == nil {
		var n int
		if n, t = most(q, maxRooms); t == nil {
			s.writeRooms(w, r, n, q.Get("after"))
			return
		}
	}
	writeTrouble(w, *t)
}

func (s *Server) writeRooms(w http.ResponseWriter, r *http.Request, n int, after string) {
	rooms, err := s.view.Rooms(r.Context())
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	if after != "" {
		i := slices.IndexFunc(rooms, func(x Room) bool { return x.Name == after })
		if i < 0 {
			writeTrouble(w, trouble{http.StatusUnprocessableEntity, "refused", "there is no room of that name to go on after", "after"})
			return
		}
		rooms = rooms[i+1:]
	}
	list := roomList{Rooms: rooms}
	if n > 0 && n < len(rooms) {
		list.Rooms, list.Next = rooms[:n], rooms[n-1].Name
	}
	if list.Rooms == nil {
		list.Rooms = []Room{}
	}
	s.writeJSON(w, r, list)
}

func (s *Server) getRoom(w http.ResponseWriter, r *http.Request) {
	if _, t := query(r); t != nil {
		writeTrouble(w, *t)
		return
	}
	rooms, err := s.view.Rooms(r.Context())
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	i := slices.IndexFunc(rooms, func(x Room) bool { return x.Name == r.PathValue("name") })
	if i < 0 {
		s.writeError(w, r, ErrNone)
		return
	}
	s.writeJSON(w, r, rooms[i])
}

// maxPriority bounds a priority both ways.
const maxPriority = 1_000_000

func badPriority(n int) *trouble {
	if n >= -maxPriority && n <= maxPriority {
		return nil
	}
	return &trouble{http.StatusUnprocessableEntity, "refused", fmt.Sprintf("it is a number from %d to %d", -maxPriority, maxPriority), "priority"}
}

func (s *Server) addRoom(w http.ResponseWriter, r *http.Request) {
	var ask Settings
	_, t := query(r)
	if t == nil {
		t = readBody(r, &ask)
	}
	if t == nil && ask.URL == "" {
		t = &trouble{http.StatusUnprocessableEntity, "refused", "a room needs its address", "url"}
	}
	if t == nil && (ask.Name == "." || ask.Name == ".." || ask.Name == "/") { // no client and no router takes them for a name
		t = &trouble{http.StatusUnprocessableEntity, "refused", "an address cannot hold this name", "name"}
	}
	if t == nil {
		t = badPriority(ask.Priority)
	}
	if t != nil {
		writeTrouble(w, *t)
		return
	}
	room, err := s.do.Add(r.Context(), ask)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	s.log.Info().Str("room", room.Name).Msg("a room was added on the page")
	w.Header().Set("Location", "/api/v1/rooms/"+url.PathEscape(room.Name))
	s.writeMade(w, r, room)
}

func (s *Server) changeRoom(w http.ResponseWriter, r *http.Request) {
	var ask Change
	_, t := query(r)
	if t == nil {
		t = readBody(r, &ask)
	}
	if t == nil && ask.Priority != nil {
		t = badPriority(*ask.Priority)
	}
	if t != nil {
		writeTrouble(w, *t)
		return
	}
	room, err := s.do.Change(r.Context(), r.PathValue("name"), ask)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	s.log.Info().Str("room", room.Name).Msg("a room was changed on the page")
	s.writeJSON(w, r, room)
}

func (s *Server) removeRoom(w http.ResponseWriter, r *http.Request) {
	if _, t := query(r); t != nil {
		writeTrouble(w, *t)
		return
	}
	name := r.PathValue("name")
	if err := s.do.Remove(r.Context(), name); err != nil {
		s.writeError(w, r, err)
		return
	}
	s.log.Info().Str("room", name).Msg("a room was removed on the page")
	w.WriteHeader(http.StatusNoContent)
}

// command passes the last word of the path on to the room. The answer comes when the room has taken it, not when it is done.
func (s *Server) command(w http.ResponseWriter, r *http.Request) {
	if _, t := query(r); t != nil {
		writeTrouble(w, *t)
		return
	}
	room, verb := r.PathValue("name"), segment.Verb(path.Base(r.URL.Path))
	if err := s.do.Do(r.Context(), room, verb); err != nil {
		s.writeError(w, r, err)
		return
	}
	s.log.Info().Str("room", room).Str("command", string(verb)).Msg("a room was given a command on the page")
	w.WriteHeader(http.StatusAccepted)
}

func (s *Server) listBroadcasts(w http.ResponseWriter, r *http.Request) {
	q, t := query(r, "most", "after", "room")
	var n int
	if t == nil {
		n, t = most(q, 200)
	}
	if t != nil {
		writeTrouble(w, *t)
		return
	}
	list, err := s.view.Broadcasts(r.Context(), Query{Room: q.Get("room"), After: q.Get("after"), Most: n})
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	if list.List == nil {
		list.List = []Broadcast{}
	}
	s.writeJSON(w, r, list)
}

// broadcastDetail is one broadcast with everything that is known of it.
type broadcastDetail struct {
	Broadcast Broadcast       `json:"broadcast"`
	Parts     []status.Part   `json:"parts"`
	Gaps      []gapDetail     `json:"gaps"`
	Repairs   []repairDetail  `json:"repairs"`
	Published []publishDetail `json:"published"`
}

type gapDetail struct {
	AfterSeq uint32  `json:"after_seq"`
	AtMS     int64   `json:"at_ms"`
	At       string  `json:"at"`
	Seconds  float64 `json:"seconds"`
	Why      string  `json:"why"`
}

type repairDetail struct {
	Seq  uint32 `json:"seq"`
	AtMS int64  `json:"at_ms"`
	What string `json:"what"`
}

// publishDetail is the list that a target shows of a broadcast.
type publishDetail struct {
	Target   string `json:"target"`
	Required bool   `json:"required"`
	Parts    int    `json:"parts"`
	Ended    bool   `json:"ended"`
	Error    string `json:"error,omitempty"`
}

// Summary is a broadcast as it stands in a list.
func Summary(b segment.Broadcast) Broadcast {
	out := Broadcast{ID: string(b.Session.ID), Room: b.Session.Room.Name, Site: b.Session.Room.Site, Streamer: b.Session.Streamer, Title: b.Session.Title,
		Started: status.Stamp(b.Session.Started), Ended: status.Stamp(b.Session.Ended), Parts: len(b.Segments), Reclaimed: len(b.Reclaimed), Gaps: len(b.Gaps)}
	var missing time.Duration
	for _, g := range b.Gaps {
		missing += g.Length
	}
	out.GapSeconds = float64(missing.Milliseconds()) / 1000
	for _, p := range b.Segments {
		out.Size += p.Size
		out.DurationMS += p.Duration.Milliseconds()
		if status.Safe(b, p) {
			out.Safe++
		}
	}
	return out
}

func (s *Server) getBroadcast(w http.ResponseWriter, r *http.Request) {
	if _, t := query(r); t != nil {
		writeTrouble(w, *t)
		return
	}
	b, err := s.view.Broadcast(r.Context(), segment.SessionID(r.PathValue("id")))
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	out := broadcastDetail{Broadcast: Summary(b), Parts: []status.Part{}, Gaps: []gapDetail{}, Repairs: []repairDetail{}, Published: []publishDetail{}}
	out.Parts = append(out.Parts, status.Make(status.Input{Now: time.Now(), Broadcasts: []segment.Broadcast{b}, WithParts: true}).Parts...)
	for _, g := range b.Gaps {
		out.Gaps = append(out.Gaps, gapDetail{g.AfterSeq, g.AtMedia.Milliseconds(), status.Stamp(g.At), float64(g.Length.Milliseconds()) / 1000, g.Why})
	}
	for _, p := range b.Repairs {
		out.Repairs = append(out.Repairs, repairDetail{p.Seq, p.AtMedia.Milliseconds(), p.What})
	}
	for t, p := range b.Publications {
		out.Published = append(out.Published, publishDetail{string(t), p.Required, p.Parts, p.Ended, p.Why})
	}
	slices.SortFunc(out.Published, func(a, b publishDetail) int { return strings.Compare(a.Target, b.Target) })
	s.writeJSON(w, r, out)
}

type configState struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	At    string `json:"at"`
	File  string `json:"file"`
}

func (s *Server) getConfig(w http.ResponseWriter, r *http.Request) {
	if _, t := query(r); t != nil {
		writeTrouble(w, *t)
		return
	}
	c := s.view.Config()
	s.writeJSON(w, r, configState{c.OK, c.Error, status.Stamp(c.At), c.File})
}

// tokenState is a token as it is listed.
type tokenState struct {
	ID    string      `json:"id"`
	Name  string      `json:"name"`
	Scope token.Scope `json:"scope"`
	Made  string      `json:"made"`
	Used  string      `json:"used"`
	Token string      `json:"token,omitempty"` // the text, when it is made and never again
}

func stateOf(t token.Token) tokenState {
	return tokenState{ID: t.ID, Name: t.Name, Scope: t.Scope, Made: status.Stamp(t.Made), Used: status.Stamp(t.Used)}
}

func (s *Server) listTokens(w http.ResponseWriter, r *http.Request) {
	if _, t := query(r); t != nil {
		writeTrouble(w, *t)
		return
	}
	ts, err := s.store.Tokens(r.Context())
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	list := make([]tokenState, len(ts))
	for i, t := range ts {
		list[i] = stateOf(t)
	}
	s.writeJSON(w, r, struct {
		Tokens []tokenState `json:"tokens"`
	}{list})
}

// maxTokens bounds what the ledger keeps of them.
const maxTokens = 200

func (s *Server) addToken(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Name  string      `json:"name"`
		Scope token.Scope `json:"scope"`
	}
	_, t := query(r)
	if t == nil {
		t = readBody(r, &ask)
	}
	if t != nil {
		writeTrouble(w, *t)
		return
	}
	tok, text, err := token.New(ask.Name, ask.Scope, time.Now())
	if err != nil {
		key := "name"
		if ask.Scope != token.Read && ask.Scope != token.Write {
			key = "scope"
		}
		s.writeError(w, r, &Refusal{Key: key, Text: err.Error()})
		return
	}
	all, err := s.store.Tokens(r.Context())
	if err == nil && len(all) >= maxTokens {
		err = &Refusal{Key: "name", Text: fmt.Sprintf("there are %d tokens already; remove those that are not used", len(all))}
	}
	if err == nil {
		err = s.store.AddToken(r.Context(), tok)
	}
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	s.log.Info().Str("id", tok.ID).Str("name", tok.Name).Str("scope", string(tok.Scope)).Msg("a token was made")
	out := stateOf(tok)
	out.Token = text.Reveal()
	w.Header().Set("Location", "/api/v1/tokens/"+tok.ID)
	s.writeMade(w, r, out)
}

func (s *Server) removeToken(w http.ResponseWriter, r *http.Request) {
	if _, t := query(r); t != nil {
		writeTrouble(w, *t)
		return
	}
	id := r.PathValue("id")
	ok, err := s.store.RemoveToken(r.Context(), id)
	switch {
	case err != nil:
		s.writeError(w, r, err)
	case !ok:
		writeTrouble(w, trouble{http.StatusNotFound, "not_found", "there is no such token", ""})
	default:
		s.log.Info().Str("id", id).Msg("a token was removed")
		w.WriteHeader(http.StatusNoContent)
	}
}
