package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/ctl"
	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/metrics"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/web"
)

// front is the service as the page and the API see it.
type front struct{ s *service }

var (
	_ web.View      = front{}
	_ web.Commander = front{}
)

// Status is the newest picture.
func (f front) Status(ctx context.Context) (status.Status, error) {
	return f.s.stages.Status(ctx, false)
}

// Rooms are all rooms, those of the file first.
func (f front) Rooms(context.Context) ([]web.Room, error) {
	out := []web.Room{}
	for _, st := range f.s.all() {
		out = append(out, f.s.show(st))
	}
	return out, nil
}

// targetName is what the file calls a target; "" if it has none with that ID.
func (s *service) targetName(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range s.names {
		if i < len(s.h.run) && string(s.h.run[i].ID) == id {
			return n
		}
	}
	return ""
}

// show is a room as it is shown. The address has no secret in it.
func (s *service) show(st *seat) web.Room {
	st.mu.Lock()
	defer st.mu.Unlock()
	r := web.Room{Settings: st.shown, Site: st.who.room.Site, Source: "file", Since: st.since, Targets: st.targets}
	if st.page != nil {
		r.Source = "page"
	}
	r.Paused = st.paused
	return r
}

// Broadcasts lists what was recorded.
func (f front) Broadcasts(ctx context.Context, q web.Query) (web.Broadcasts, error) {
	var room segment.RoomID
	if q.Room != "" {
		if st := f.s.named(q.Room); st != nil {
			who, _ := st.now()
			room = who.room.ID
		} else if id, err := f.s.h.led.RoomNamed(ctx, q.Room); err != nil {
			return web.Broadcasts{}, err
		} else if room = id; room == "" {
			return web.Broadcasts{List: []web.Broadcast{}}, nil
		}
	}
	most := min(q.Most, 200)
	if most <= 0 {
		most = 50
	}
	list, more, err := f.s.h.led.List(ctx, room, segment.SessionID(q.After), most)
	if errors.Is(err, ledger.ErrUnknown) {
		err = web.ErrNone
	}
	if err != nil {
		return web.Broadcasts{}, err
	}
	out := web.Broadcasts{List: make([]web.Broadcast, 0, len(list))}
	for _, b := range list {
		out.List = append(out.List, web.Broadcast{ID: string(b.ID), Room: b.Room.Name, Site: b.Room.Site, Streamer: b.Streamer, Title: b.Title,
			Started: status.Stamp(b.Started), Ended: status.Stamp(b.Ended), Parts: b.Parts, Safe: b.Safe, Reclaimed: b.Reclaimed, Size: b.Size,
			DurationMS: b.Duration.Milliseconds(), Gaps: b.Gaps, GapSeconds: b.GapTime.Seconds()})
	}
	if more {
		out.Next = string(list[len(list)-1].ID)
	}
	return out, nil
}

// Broadcast is one with everything.
func (f front) Broadcast(ctx context.Context, id segment.SessionID) (segment.Broadcast, error) {
	b, err := f.s.h.led.Broadcast(ctx, id)
	if errors.Is(err, ledger.ErrUnknown) {
		return b, web.ErrNone
	}
	return b, err
}

// Open is the part that a room is recording.
func (f front) Open(ctx context.Context, room string) (*web.Open, error) {
	st := f.s.named(room)
	if st == nil {
		return nil, web.ErrNone
	}
	rec := st.rec.Load()
	if rec == nil {
		return nil, web.ErrNone
	}
	snap := rec.Snapshot()
	if snap.Open == nil || snap.Session == "" {
		return nil, web.ErrNone
	}
	id := segment.ID{Session: snap.Session, Seq: snap.Open.Seq}
	seg, err := f.s.h.led.Part(ctx, id)
	if errors.Is(err, ledger.ErrUnknown) {
		return nil, web.ErrNone
	}
	if err != nil {
		return nil, err
	}
	file, err := f.s.h.dir.Read(seg.Path + segment.PartSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = f.s.h.dir.Read(seg.Path) // it was closed just now
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, web.ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("open part %s for a look: %w", id, err)
	}
	o := &opened{st: st, id: id, file: file}
	return &web.Open{ReaderAt: file, Closer: file, ID: id, Container: strings.TrimPrefix(path.Ext(seg.Path), "."), Durable: o.durable, Sealed: o.sealed}, nil
}

// opened follows a part that somebody looks at.
type opened struct {
	st   *seat
	id   segment.ID
	file *os.File
}

// open is how much of the part is durable, false when it is not the open one any more.
func (o *opened) open() (int64, bool) {
	if rec := o.st.rec.Load(); rec != nil {
		if s := rec.Snapshot(); s.Session == o.id.Session && s.Open != nil && s.Open.Seq == o.id.Seq {
			return s.Open.Durable, true
		}
	}
	return 0, false
}

func (o *opened) sealed() bool { _, open := o.open(); return !open }

func (o *opened) durable() int64 {
	if n, open := o.open(); open {
		return n
	}
	fi, err := o.file.Stat()
	if err != nil {
		return 0
	}
	return fi.Size()
}

// Config says how the last reading of the file went.
func (f front) Config() web.Config {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return f.s.read
}

// stopping reports whether no change is taken any more.
func (s *service) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}

// Ready is nil when the service does what it is for.
func (f front) Ready(ctx context.Context) error {
	f.s.mu.Lock()
	open, ending := f.s.open, f.s.ending
	f.s.mu.Unlock()
	switch {
	case ending:
		return errors.New("stopping")
	case !open:
		return errors.New("starting")
	}
	if _, err := f.s.h.led.PageRooms(ctx); err != nil {
		return errors.New("the ledger does not answer")
	}
	if f.s.h.led.Damaged() != nil {
		return errors.New("the ledger is damaged")
	}
	return nil
}

// Do passes a command on.
func (f front) Do(ctx context.Context, room string, verb segment.Verb) error {
	switch verb {
	case segment.VerbPause, segment.VerbContinue, segment.VerbSplit, segment.VerbStop:
	default:
		return &web.Refusal{Key: "verb", Text: fmt.Sprintf("%q is no command; use pause, continue, split or stop", clip(string(verb)))}
	}
	err := f.s.stages.Do(ctx, room, verb)
	if errors.Is(err, ctl.ErrNoRoom) {
		return web.ErrNone
	}
	return err
}

// Add takes a room in.
func (f front) Add(ctx context.Context, set web.Settings) (web.Room, error) {
	st, err := f.s.add(ctx, set)
	if err != nil {
		return web.Room{}, err
	}
	return f.s.show(st), nil
}

// Change changes a room of the page.
func (f front) Change(ctx context.Context, room string, c web.Change) (web.Room, error) {
	st, err := f.s.alter(ctx, room, func(set *web.Settings) {
		put(&set.To, c.To)
		put(&set.Segment, c.Segment)
		put(&set.MaxSize, c.MaxSize)
		put(&set.Quality, c.Quality)
		put(&set.Container, c.Container)
		put(&set.Ads, c.Ads)
		put(&set.Grace, c.Grace)
		put(&set.Title, c.Title)
		put(&set.Window, c.Window)
		put(&set.SkipTitles, c.SkipTitles)
		put(&set.Priority, c.Priority)
	})
	if err != nil {
		return web.Room{}, err
	}
	return f.s.show(st), nil
}

func put[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

// Remove forgets a room of the page.
func (f front) Remove(ctx context.Context, room string) error { return f.s.remove(ctx, room) }

// roomOf makes a room of the page's settings: a *web.Refusal says what is wrong with them. The caller holds turn.
func (s *service) roomOf(set web.Settings) (config.Room, error) {
	r, err := s.cfg.Room(config.Settings(set), checks())
	if e, ok := errors.AsType[*config.Error](err); ok {
		return r, &web.Refusal{Key: e.Key, Text: e.Text}
	}
	return r, err
}

// add takes a room of the page in: into the ledger first, so that it is there after a crash.
func (s *service) add(ctx context.Context, set web.Settings) (*seat, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.stopping() {
		return nil, web.ErrStopping
	}
	r, err := s.roomOf(set)
	if err != nil {
		return nil, err
	}
	s.identify(ctx, []config.Room{r})
	st, err := s.newSeat(r, &set)
	if u, ok := errors.AsType[*usageError](err); ok {
		return nil, &web.Refusal{Key: "url", Text: u.msg}
	}
	if err != nil {
		return nil, err
	}
	if s.taken(st) != nil {
		return nil, web.ErrExists
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	who, _ := st.now()
	if err := s.h.led.AddRoom(ctx, ledger.PageRoom{ID: st.key, Settings: string(text)}); err != nil {
		if errors.Is(err, ledger.ErrExists) { // one that the file has taken the place of, or whose name is taken
			err = web.ErrExists
		}
		return nil, err
	}
	if err := s.seat(st); err != nil {
		return nil, err
	}
	who.log(s).Info().Str("url", who.room.URL).Msg("room added on the page")
	return st, nil
}

// taken finds the seat that has the address or the name of another one. The caller holds turn.
func (s *service) taken(st *seat) *seat {
	who, _ := st.now()
	for _, o := range s.order {
		w, _ := o.now()
		if o != st && (w.room.ID == who.room.ID || strings.EqualFold(w.room.Name, who.room.Name)) {
			return o
		}
	}
	return nil
}

// alter changes the settings of a room of the page.
func (s *service) alter(ctx context.Context, room string, f func(*web.Settings)) (*seat, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.stopping() {
		return nil, web.ErrStopping
	}
	st := s.lookup(room)
	switch {
	case st == nil:
		return nil, web.ErrNone
	case st.added() == nil:
		return nil, web.ErrReadOnly
	}
	set := *st.added()
	f(&set)
	r, err := s.roomOf(set)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	if err := s.h.led.ChangeRoom(ctx, st.key, string(text)); err != nil {
		return nil, err
	}
	st.mu.Lock()
	st.page = &set
	st.mu.Unlock()
	return st, s.adjust(st, r)
}

// remove forgets a room of the page. Its recording ends as by stop.
func (s *service) remove(ctx context.Context, room string) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.stopping() {
		return web.ErrStopping
	}
	st := s.lookup(room)
	switch {
	case st == nil:
		return web.ErrNone
	case st.added() == nil:
		return web.ErrReadOnly
	}
	who, _ := st.now()
	if err := s.h.led.RemoveRoom(ctx, st.key); err != nil {
		return err
	}
	s.dismiss(st)
	who.log(s).Info().Msg("room removed on the page")
	return nil
}

// remembers keeps that a person has paused a room of the page, for the next start.
func (s *service) remembers(st *seat) {
	s.turn.Lock()
	defer s.turn.Unlock()
	st.mu.Lock()
	if st.page == nil || st.page.Paused == st.paused {
		st.mu.Unlock()
		return
	}
	set := *st.page
	set.Paused = st.paused
	st.page = &set
	who := st.who
	st.mu.Unlock()
	text, err := json.Marshal(set)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.soft), 5*time.Second)
		defer cancel()
		err = s.h.led.ChangeRoom(ctx, st.key, string(text))
	}
	if err != nil {
		who.log(s).Warn().Err(err).Msg("that the room is paused is not on record, the next start does not know it")
	}
}

// shownAs are the settings of a room as texts: those that are not the default of all rooms.
func shownAs(r, d config.Room, room segment.Room) web.Settings {
	w := web.Settings{URL: room.URL, Name: room.Name, SkipTitles: r.SkipTitles, Priority: r.Priority, Window: r.Window.String()}
	span := func(to *string, v, def time.Duration) {
		if v != def {
			*to = v.String()
		}
	}
	word := func(to *string, v, def string) {
		if v != def {
			*to = v
		}
	}
	span(&w.Segment, r.Segment, d.Segment)
	span(&w.Grace, r.Grace, d.Grace)
	if r.MaxSize != d.MaxSize {
		w.MaxSize = fmt.Sprint(r.MaxSize)
	}
	word(&w.Quality, r.Quality, d.Quality)
	word(&w.Container, r.Container, d.Container)
	word(&w.Ads, r.Ads, d.Ads)
	if r.Title.String() != d.Title.String() {
		w.Title = r.Title.String()
	}
	if !slices.Equal(r.To, d.To) {
		w.To = r.To
	}
	return w
}

// Numbers are what the process counts.
func (f front) Numbers(ctx context.Context) (metrics.Numbers, error) { return f.s.numbers(ctx) }
