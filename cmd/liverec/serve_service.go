package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/supervise"
	"github.com/liverec/liverec/pkg/web"
	pages "github.com/liverec/liverec/pkg/web/page"
	"github.com/liverec/liverec/recorder"
)

// service is `serve`: the rooms of a file and of the page, on one house.
type service struct {
	*stages
	h       *house
	flags   options           // as the command line says it
	set     func(string) bool // whether the command line says a flag
	file    string
	again   <-chan struct{} // somebody wants the file to be read again
	mark    mark            // of the file as it was read at the start
	sites   *sites
	budgets *budgets
	door    *doorway
	manager *manager
	pages   *pages.Pages
	tally   *tally
	crier   *crier

	loops sync.WaitGroup // those of the seats
	soft  context.Context

	// turn is held by whoever changes the service, one after the other: a reading of the file, a person on the page. Its
	// holder may read what is below without mu, and holds both to write.
	turn sync.Mutex
	ids  map[segment.RoomID]segment.RoomID // who a room is, by the key of its address; of those that could be asked about

	mu     sync.Mutex // guards what is below
	cfg    config.Config
	read   web.Config               // how the last reading of the file went
	names  []string                 // of the targets, in the order of dests
	seats  map[segment.RoomID]*seat // by key
	order  []*seat                  // those of the file as written, then those of the page as added
	open   bool                     // rooms can be started
	ending bool                     // no change is taken any more
}

// furnish opens the targets of a config and asks them.
func (s *service) furnish(ctx context.Context, cfg config.Config) error {
	names, ds, err := s.flags.destinations(cfg, nil)
	if err != nil {
		return err
	}
	if err := s.h.furnish(ctx, ds, false); err != nil {
		return err
	}
	s.cfg, s.names, s.mark = cfg, names, markOf(s.file)
	s.read = web.Config{OK: true, At: time.Now(), File: s.file}
	return nil
}

// prepare builds everything up to the start.
func (s *service) prepare(ctx context.Context) error {
	s.sites, s.budgets, s.seats, s.tally = newSites(s.h.opt.sites.cookies), newBudgets(), map[segment.RoomID]*seat{}, newTally()
	s.ids = map[segment.RoomID]segment.RoomID{}
	s.soft = ctx
	var err error
	if s.stages, err = s.h.stages(nil); err != nil {
		return err
	}
	s.journal, s.own = counted{s.h.led, s.tally}, true
	kept, err := s.h.led.PageRooms(ctx)
	if err != nil {
		return err
	}
	ask := slices.Clone(s.cfg.Rooms)
	for _, k := range kept {
		if r, _, err := s.keptRoom(k); err == nil {
			ask = append(ask, r)
		}
	}
	s.identify(ctx, ask)
	if err := s.once(s.cfg); err != nil {
		return usagef("%v", err)
	}
	keep := map[segment.RoomID]bool{}
	for _, r := range s.cfg.Rooms {
		st, err := s.newSeat(r, nil)
		if err != nil {
			return fmt.Errorf("room %s: %w", r.Name, err)
		}
		s.seats[st.key] = st
		s.order = append(s.order, st)
	}
	s.recall(kept)
	for _, st := range s.order {
		if err := s.plan(st); err != nil {
			return err
		}
		who, _ := st.now()
		keep[who.room.ID] = true
	}
	s.muster()
	if s.stages.rest, err = recorder.Recover(ctx, recorder.RecoverConfig{Grace: s.cfg.Defaults.Grace}, recorder.Deps{Journal: s.h.led, Dir: s.h.dir, Log: s.h.log}, keep); err != nil {
		return fmt.Errorf("go on where the last run ended: %w", err)
	}
	s.st.Opened = s.opened
	s.manager.alive = func(ctx context.Context) error {
		_, err := s.h.led.PageRooms(ctx)
		return err
	}
	s.crier = newCrier(s)
	f := front{s}
	if s.pages, err = pages.New(f, f, pages.Config{Zone: s.cfg.Zone, Locked: s.cfg.Web.PasswordFile != "", Tokens: s.h.led, TargetName: s.targetName,
		Version: versionOf().Version}, s.h.log); err != nil {
		return err
	}
	srv, err := s.makeDoor(s.cfg)
	if err != nil {
		return err
	}
	s.door = &doorway{next: make(chan *web.Server, 1), now: srv}
	return srv.Listen(ctx)
}

// recall takes in the rooms of the page. One that does not go together with the file waits there, and is named.
func (s *service) recall(kept []ledger.PageRoom) {
	for _, k := range kept {
		if err := s.recallOne(k); err != nil {
			s.h.log.Error().Err(err).Str("room", string(k.ID)).Msg("a room of the page is not watched")
		}
	}
}

// keptRoom is a room of the page as the ledger keeps it.
func (s *service) keptRoom(k ledger.PageRoom) (r config.Room, set web.Settings, err error) {
	if err := json.Unmarshal([]byte(k.Settings), &set); err != nil {
		return r, set, fmt.Errorf("read its settings: %w", err)
	}
	r, err = s.roomOf(set)
	return r, set, err
}

func (s *service) recallOne(k ledger.PageRoom) error {
	r, set, err := s.keptRoom(k)
	if err != nil {
		return err
	}
	st, err := s.newSeat(r, &set)
	if err != nil {
		return err
	}
	if o := s.taken(st); o != nil {
		who, _ := o.now()
		return fmt.Errorf("room %s has its address or its name", who.room.Name)
	}
	s.seats[st.key] = st
	s.order = append(s.order, st)
	return nil
}

// plan tells the ledger where the parts of a room go. The caller holds turn.
func (s *service) plan(st *seat) error {
	who, cfg := st.now()
	p := ledger.Plan{Keep: s.h.opt.keep}
	var ids []string
	for _, name := range cfg.To {
		for i, n := range s.names {
			if n != name {
				continue
			}
			p.Targets = append(p.Targets, s.h.run[i])
			ids = append(ids, string(s.h.run[i].ID))
			if s.h.dests[i].Submission != nil && !s.h.opt.keepSet {
				p.Keep = max(p.Keep, keepSubmitted)
			}
		}
	}
	st.mu.Lock()
	st.targets = ids
	st.mu.Unlock()
	return s.h.led.SetPlan(who.room.ID, p)
}

// muster tells the crew and the disk ladder which rooms there are. The caller holds turn.
func (s *service) muster() {
	list := make([]*member, 0, len(s.order))
	lad := make([]pipeline.Room, 0, len(s.order))
	for _, st := range s.order {
		who, cfg := st.now()
		list = append(list, who)
		lad = append(lad, pipeline.Room{ID: who.room.ID, Name: who.room.Name, Priority: cfg.Priority, Do: st.ladder})
	}
	s.crew.set(list)
	s.stages.ladder.SetRooms(lad)
}

// opened is called when the pipeline takes rooms in.
func (s *service) opened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	for _, st := range s.order {
		s.loops.Go(func() { st.run(s.soft) })
	}
	s.manager.ready()
}

// seat takes a room in. The caller holds turn.
func (s *service) seat(st *seat) error {
	if err := s.plan(st); err != nil {
		return err
	}
	if s.stages.rest != nil {
		s.stages.rest.Spare(st.id) // what an earlier run left of it is this one's now
	}
	s.mu.Lock()
	s.seats[st.key] = st
	s.order = append(slices.Clone(s.order), st)
	if s.open {
		s.loops.Go(func() { st.run(s.soft) })
	}
	s.mu.Unlock()
	s.muster()
	return nil
}

// dismiss forgets a room; its recording ends as by stop. The caller holds turn.
func (s *service) dismiss(st *seat) {
	s.mu.Lock()
	delete(s.seats, st.key)
	s.order = slices.DeleteFunc(slices.Clone(s.order), func(o *seat) bool { return o == st })
	s.mu.Unlock()
	s.muster()
	st.change(func() { st.gone = true })
}

// quiet are the keys that a recording does not notice: they are read when they are needed.
var quiet = []string{"to", "title", "folder", "window", "skip-titles", "priority", "paused", "segment", "max-size", "grace"}

// nextPart are those of them that hold for the next part.
var nextPart = []string{"to", "segment", "max-size"}

// adjust gives a room other settings. A recording goes on in its part if none of them is about how it is recorded; else
// its part is closed, and the broadcast goes on in the next one. The caller holds turn.
func (s *service) adjust(st *seat, r config.Room) error {
	was, old := st.now()
	keys := config.Differ(old, r, nil)
	if len(keys) == 0 {
		return nil
	}
	anew := slices.ContainsFunc(keys, func(k string) bool { return !slices.Contains(quiet, k) })
	since := "now"
	if rec := st.rec.Load(); rec != nil {
		if snap := rec.Snapshot(); snap.Open != nil && (anew || slices.ContainsFunc(keys, func(k string) bool { return slices.Contains(nextPart, k) })) {
			since = fmt.Sprintf("part %d", snap.Open.Seq+1)
		}
	}
	st.mu.Lock()
	err := st.take(r)
	if err == nil {
		st.since = since
		if anew {
			st.gen++
		}
		if old.Paused != r.Paused {
			st.paused = r.Paused
		}
	}
	st.mu.Unlock()
	if err != nil {
		return err
	}
	if err := errors.Join(st.tune(), s.plan(st)); err != nil {
		return err
	}
	s.muster()
	if old.Paused != r.Paused {
		verb := segment.VerbContinue
		if r.Paused {
			verb = segment.VerbPause
		}
		was.command(verb)
	}
	st.ring()
	was.log(s).Info().Strs("changed", keys).Str("effective", since).Msg("settings of the room changed")
	return nil
}

// all are the rooms of this moment, in the order of the page.
func (s *service) all() []*seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

// named finds a room by its name; nil if there is none.
func (s *service) named(name string) *seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookup(name)
}

// lookup is named for those who hold mu.
func (s *service) lookup(name string) *seat {
	for _, st := range s.order {
		if who, _ := st.now(); who.room.Name == name {
			return st
		}
	}
	return nil
}

// run runs the service until it is stopped.
func (s *service) run(soft, hard context.Context) (pipeline.Result, error) {
	s.h.log.Info().Int("rooms", len(s.order)).Int("targets", len(s.names)).Str("page", s.door.server().URL()).Str("config", s.file).Msg("service begins")
	off := context.AfterFunc(soft, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ending = true
		s.manager.stopping()
	})
	defer off()
	res, err := s.stages.run(soft, hard, pipeline.Config{StopGrace: s.h.opt.stopGrace}, s.beside()...)
	s.loops.Wait()
	return res, err
}

// beside is what runs beside the pipeline, and ends after it.
func (s *service) beside() []supervise.Service {
	return []supervise.Service{s.door, pageLife{s.pages}, s.crier, s.manager, &follower{file: s.file, again: s.again, watch: watchFile(s.file), read: s.reload, last: s.mark,
		fail: func(err error) {
			s.h.log.Warn().Err(err).Str("every", statEvery.String()).Msg("the folder of the config file cannot be watched, the file is looked at now and then")
		}}}
}

// pageLife keeps the pages up to date.
type pageLife struct{ *pages.Pages }

func (pageLife) String() string { return "pages" }
