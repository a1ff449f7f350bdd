// Package webtest is a house for tests of the door and of the pages: rooms, broadcasts and tokens that live in memory.
//
// It owns what a test puts into it and what it says when it is asked. It records nothing and watches nothing.
package webtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/metrics"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/token"
	"github.com/liverec/liverec/pkg/web"
)

// House is a View, a Commander and a Store. Fill it before the first request, or through Edit.
type House struct {
	mu sync.Mutex // guards what is below

	Told     []string // what was commanded: "pause alice"
	Picture  status.Status
	Known    []web.Room
	Sessions []segment.Broadcast // newest first
	Keys     []token.Token
	Counted  metrics.Numbers
	File     web.Config
	Sick     error // what Ready says
	Broken   error // what every question to the ledger says
	Looks    int   // how often Status was asked
}

var (
	_ web.View      = (*House)(nil)
	_ web.Commander = (*House)(nil)
	_ web.Store     = (*House)(nil)
)

// New makes a house with so many rooms: the first is of the file, the others of the page; every second one is live.
func New(rooms int) *House {
	h := &House{Picture: status.Status{Format: status.Format, Rooms: []status.Room{}, Targets: []status.Target{}}, File: web.Config{OK: true, File: "/etc/liverec.toml"}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range rooms {
		r := web.Room{Settings: web.Settings{URL: fmt.Sprintf("http://example.com/%d.flv", i), Name: fmt.Sprintf("room-%d", i)}, Site: "direct", Source: "page", Targets: []string{"file:/archive"}}
		if i == 0 {
			r.Source = "file"
		}
		h.Known = append(h.Known, r)
		st := status.Room{Room: r.Name, URL: r.URL, Site: r.Site, State: status.Waiting, Since: status.Stamp(at)}
		if i%2 == 1 {
			id := segment.SessionID(fmt.Sprintf("01J0000000000000000000%04d", i))
			st.State, st.Broadcast, st.Title, st.Bitrate = status.OnAir, string(id), "a title", 8_190_000
			st.Open = &status.Open{Seq: 3, DurationMS: 1000, Size: 1 << 20, Durable: 1 << 20, Away: map[string]int64{"file:/archive": 1 << 19}}
			h.Sessions = append(h.Sessions, Broadcast(id, segment.Room{Name: r.Name, URL: r.URL, Site: r.Site}, 3))
		}
		h.Picture.Rooms = append(h.Picture.Rooms, st)
		h.Counted.Rooms = append(h.Counted.Rooms, metrics.Room{Room: r.Name, ReceivedTotal: 1 << 20})
	}
	h.Picture.Targets = append(h.Picture.Targets, status.Target{Target: "file:/archive", Required: true, State: status.OK})
	h.Counted.Targets = append(h.Counted.Targets, metrics.Target{Target: "file:/archive", UploadedTotal: 1 << 20})
	h.Counted.Parts = map[metrics.PartState]int64{metrics.Open: int64(len(h.Sessions)), metrics.Safe: 2 * int64(len(h.Sessions))}
	return h
}

// Broadcast makes one with so many parts, all but the last proven on one target.
func Broadcast(id segment.SessionID, room segment.Room, parts int) segment.Broadcast {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const target = segment.TargetID("file:/archive")
	b := segment.Broadcast{Session: segment.Session{ID: id, Room: room, Streamer: "Alice", Title: "a title", Started: at, Heard: at.Add(time.Hour)},
		Deliveries: map[segment.TargetID][]segment.Delivery{}, Reclaimed: map[uint32]time.Time{},
		Gaps:         []segment.Gap{{Session: id, AfterSeq: 1, At: at, AtMedia: time.Minute, Length: 4 * time.Second, Why: "source closed the connection"}},
		Repairs:      []segment.Repair{{Session: id, Seq: 1, AtMedia: time.Second, What: "clock jumped ahead by 90 s"}},
		Publications: map[segment.TargetID]segment.Publication{target: {Session: id, Target: target, Required: true, Parts: parts - 1}}}
	for i := range parts {
		s := segment.Segment{ID: segment.ID{Session: id, Seq: uint32(i + 1)}, Start: at.Add(time.Duration(i) * 15 * time.Minute), Duration: 15 * time.Minute, Size: 900 << 20}
		d := segment.Delivery{Target: target, Required: true, Key: fmt.Sprintf("alice/P%04d.flv", i+1), State: segment.Uploading}
		if i < parts-1 {
			s.Sealed, s.Cut, s.SHA256 = true, segment.CutTime, segment.Sum{1}
			d.State, d.Proof = segment.Verified, segment.Proof{Size: s.Size, Sum: "crc32c:0", How: "size and SHA-256 read back", At: at}
		}
		d.Segment = s
		b.Segments = append(b.Segments, s)
		b.Deliveries[target] = append(b.Deliveries[target], d)
	}
	return b
}

// Edit changes what is there while somebody may be asking.
func (h *House) Edit(f func(h *House)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

// Status is the picture, with the moment of the question.
func (h *House) Status(context.Context) (status.Status, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Looks++
	st := h.Picture
	st.Rooms, st.Targets = slices.Clone(st.Rooms), slices.Clone(st.Targets)
	st.At = status.Stamp(time.Now())
	return st, h.Broken
}

// Rooms lists them.
func (h *House) Rooms(context.Context) ([]web.Room, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.Known), h.Broken
}

// Broadcasts lists them; a page goes on after an id.
func (h *House) Broadcasts(_ context.Context, q web.Query) (web.Broadcasts, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	most := q.Most
	if most == 0 {
		most = 50
	}
	var out web.Broadcasts
	begun := q.After == ""
	for _, b := range h.Sessions {
		switch {
		case !begun:
			begun = string(b.Session.ID) == q.After
		case q.Room != "" && b.Session.Room.Name != q.Room:
		case len(out.List) == most:
			out.Next = out.List[most-1].ID
			return out, h.Broken
		default:
			out.List = append(out.List, web.Summary(b))
		}
	}
	return out, h.Broken
}

// Broadcast is one.
func (h *House) Broadcast(_ context.Context, id segment.SessionID) (segment.Broadcast, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.Sessions {
		if b.Session.ID == id {
			return b, h.Broken
		}
	}
	return segment.Broadcast{}, web.ErrNone
}

// Open has nothing to show.
func (h *House) Open(context.Context, string) (*web.Open, error) { return nil, web.ErrNone }

// Config is File.
func (h *House) Config() web.Config {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.File
}

// Numbers is Counted.
func (h *House) Numbers(context.Context) (metrics.Numbers, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.Counted, h.Broken
}

// Ready is Sick.
func (h *House) Ready(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.Sick
}

func (h *House) find(name string) (int, error) {
	if h.Broken != nil {
		return 0, h.Broken
	}
	if i := slices.IndexFunc(h.Known, func(r web.Room) bool { return r.Name == name }); i >= 0 {
		return i, nil
	}
	return 0, web.ErrNone
}

// Do notes the command.
func (h *House) Do(_ context.Context, room string, verb segment.Verb) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.find(room); err != nil {
		return err
	}
	h.Told = append(h.Told, string(verb)+" "+room)
	return nil
}

// Add takes any address with a scheme, and any name.
func (h *House) Add(_ context.Context, s web.Settings) (web.Room, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !strings.Contains(s.URL, "://") {
		return web.Room{}, &web.Refusal{Key: "url", Text: "it has no scheme; write http://…"}
	}
	if s.Name == "" {
		s.Name = s.URL
	}
	if slices.ContainsFunc(h.Known, func(r web.Room) bool { return r.Name == s.Name || r.URL == s.URL }) {
		return web.Room{}, web.ErrExists
	}
	r := web.Room{Settings: s, Site: "direct", Source: "page", Targets: []string{"file:/archive"}}
	h.Known = append(h.Known, r)
	return r, h.Broken
}

// Change changes the fields that are named.
func (h *House) Change(_ context.Context, room string, c web.Change) (web.Room, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, err := h.find(room)
	if err != nil {
		return web.Room{}, err
	}
	r := h.Known[i]
	if r.Source == "file" {
		return web.Room{}, web.ErrReadOnly
	}
	text := func(to *string, from *string) {
		if from != nil {
			*to = *from
		}
	}
	text(&r.Segment, c.Segment)
	text(&r.MaxSize, c.MaxSize)
	text(&r.Quality, c.Quality)
	text(&r.Container, c.Container)
	text(&r.Ads, c.Ads)
	text(&r.Grace, c.Grace)
	text(&r.Title, c.Title)
	text(&r.Window, c.Window)
	if c.To != nil {
		r.To = *c.To
	}
	if c.SkipTitles != nil {
		r.SkipTitles = *c.SkipTitles
	}
	if c.Priority != nil {
		r.Priority = *c.Priority
	}
	r.Since = "now"
	h.Known[i] = r
	return r, nil
}

// Remove forgets a room of the page.
func (h *House) Remove(_ context.Context, room string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, err := h.find(room)
	if err != nil {
		return err
	}
	if h.Known[i].Source == "file" {
		return web.ErrReadOnly
	}
	h.Known = slices.Delete(h.Known, i, i+1)
	return nil
}

// AddToken keeps it.
func (h *House) AddToken(_ context.Context, t token.Token) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Keys = append(h.Keys, t)
	return h.Broken
}

// Tokens lists them.
func (h *House) Tokens(context.Context) ([]token.Token, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.Keys), h.Broken
}

// RemoveToken forgets it.
func (h *House) RemoveToken(_ context.Context, id string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.Keys)
	h.Keys = slices.DeleteFunc(h.Keys, func(t token.Token) bool { return t.ID == id })
	return len(h.Keys) < n, h.Broken
}

// UseToken finds it.
func (h *House) UseToken(_ context.Context, hash token.Hash, at time.Time) (token.Token, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.Keys {
		if h.Keys[i].Hash == hash {
			h.Keys[i].Used = at
			return h.Keys[i], true, h.Broken
		}
	}
	return token.Token{}, false, h.Broken
}
