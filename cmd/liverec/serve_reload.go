package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/web"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/dest"
)

// nextStart are the keys beside config.Change.Restart whose change waits for the next start of the service.
var nextStart = []string{"uploads", "stop-grace"}

// reload reads the file again and takes over what changed. A file that is wrong changes nothing, and is told in the log,
// on the page and in the metric config_ok.
func (s *service) reload(ctx context.Context) {
	s.manager.reloading()
	defer s.manager.ready()
	cfg, err := loadConfig(s.file)
	if err == nil {
		err = s.apply(ctx, cfg)
	}
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	was := s.read
	s.read = web.Config{OK: err == nil, At: time.Now(), File: s.file}
	if err != nil {
		s.read.Error = oneLine(err.Error())
	}
	now := s.read
	s.mu.Unlock()
	switch {
	case err != nil && was.Error != now.Error:
		s.h.log.Error().Err(errors.New(now.Error)).Str("hint", failure.Hint(err)).Msg("config file is not taken over, everything goes on as before")
	case err == nil && !was.OK:
		s.h.log.Info().Str("config", s.file).Msg("config file is right again")
	}
}

// apply takes another config over. What can refuse comes first, so that an error has changed nothing.
func (s *service) apply(ctx context.Context, cfg config.Config) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	d := config.Diff(s.cfg, cfg)
	if d.IsZero() {
		return nil
	}
	page, err := s.against(ctx, cfg)
	if err != nil {
		return err
	}
	door, err := s.newDoor(cfg, d)
	if err != nil {
		return err
	}
	if len(d.TargetsAdded)+len(d.TargetsRemoved)+len(d.TargetsChanged) > 0 {
		if err := s.retarget(ctx, cfg); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.cfg = cfg
	s.mu.Unlock()
	s.globals(cfg, d)
	if door != nil {
		s.door.replace(door)
	}
	for _, r := range d.RoomsRemoved {
		st := s.seats[segment.RoomID(r.Key())]
		if st == nil || slices.ContainsFunc(d.RoomsAdded, func(a config.Room) bool { return s.identity(a) == st.id }) {
			continue // it is written in another way now
		}
		if st.added() == nil {
			s.dismiss(st)
			who, _ := st.now()
			who.log(s).Info().Msg("room is not in the config file any more, its recording ends")
		}
	}
	var errs []error
	for _, r := range d.RoomsChanged {
		if st := s.seats[segment.RoomID(r.New.Key())]; st != nil {
			errs = append(errs, s.adjust(st, r.New))
		}
	}
	for _, r := range d.RoomsAdded {
		if st := s.whose(r); st != nil { // a room of the page that stands in the file now, or one that is written in another way
			s.rename(st, r)
			st.mu.Lock()
			st.page = nil
			st.mu.Unlock()
			errs = append(errs, s.adjust(st, r))
			continue
		}
		st, err := s.newSeat(r, nil)
		if err == nil {
			err = s.seat(st)
		}
		errs = append(errs, err)
	}
	for st, r := range page {
		errs = append(errs, s.adjust(st, r))
	}
	for _, st := range s.order { // what everybody shares may have changed: keep, a target behind a name
		errs = append(errs, s.plan(st))
	}
	s.arrange()
	s.h.log.Info().Int("added", len(d.RoomsAdded)).Int("removed", len(d.RoomsRemoved)).Int("changed", len(d.RoomsChanged)).
		Strs("targets_added", d.TargetsAdded).Strs("targets_removed", d.TargetsRemoved).Strs("targets_changed", d.TargetsChanged).Strs("keys", d.Global).
		Msg("config file taken over")
	if wait := slices.DeleteFunc(slices.Clone(d.Global), func(k string) bool { return !slices.Contains(nextStart, k) && !slices.Contains(d.Restart(), k) }); len(wait) > 0 {
		s.h.log.Warn().Strs("keys", wait).Msg("these keys take effect at the next start")
	}
	return errors.Join(errs...)
}

// against looks whether a config goes together with the rooms of the page, and whether its own rooms can be found. It
// gives what becomes of the rooms of the page. The caller holds turn.
func (s *service) against(ctx context.Context, cfg config.Config) (map[*seat]config.Room, error) {
	s.identify(ctx, cfg.Rooms)
	if err := s.once(cfg); err != nil {
		return nil, err
	}
	names := map[string]string{} // of the file's rooms, by name
	for _, r := range cfg.Rooms {
		opt, err := roomOptionsOf(r)
		if err != nil {
			return nil, fmt.Errorf("%s: room %s: %w", cfg.File, r.Name, err)
		}
		w, err := s.sites.find(r.URL, opt)
		if err != nil {
			return nil, fmt.Errorf("%s: room %s: %w", cfg.File, r.Name, err)
		}
		name := r.Name
		if name == "" {
			name = w.room.Name
		}
		names[fold(name)] = r.Key()
	}
	page := map[*seat]config.Room{}
	for _, st := range s.order {
		set := st.added()
		who, _ := st.now()
		if set == nil || slices.ContainsFunc(cfg.Rooms, func(r config.Room) bool { return r.Key() == string(st.key) || s.identity(r) == st.id }) {
			continue
		}
		if _, taken := names[fold(who.room.Name)]; taken {
			return nil, fmt.Errorf("%s: room %q: a room of the page is called so; give one of them another name", cfg.File, clip(who.room.Name))
		}
		r, err := cfg.Room(config.Settings(*set), checks())
		if err != nil {
			return nil, fmt.Errorf("%s: the room %s of the page does not go together with it: %w", cfg.File, who.room.Name, err)
		}
		page[st] = r
	}
	return page, nil
}

// arrange puts the rooms into the order of the page: those of the file as written, then those of the page as added. The
// caller holds turn.
func (s *service) arrange() {
	place := map[segment.RoomID]int{}
	for i, r := range s.cfg.Rooms {
		place[segment.RoomID(r.Key())] = i - len(s.cfg.Rooms)
	}
	order := slices.Clone(s.order)
	slices.SortStableFunc(order, func(a, b *seat) int {
		return place[a.key] - place[b.key] // those of the page have none: 0
	})
	s.mu.Lock()
	s.order = order
	s.mu.Unlock()
	s.muster()
}

// globals takes over what is no room's and no target's. The caller holds turn.
func (s *service) globals(cfg config.Config, d config.Change) {
	has := func(keys ...string) bool {
		return slices.ContainsFunc(d.Global, func(k string) bool { return slices.Contains(keys, k) })
	}
	s.h.zone.Store(cfg.Zone)
	if has("limit-rate", "timezone") {
		s.rates.change(cfg.LimitRate)
	}
	if has("log-level") && !s.set("log-level") {
		setLevel(cfg.LogLevel)
	}
	if has("min-free", "stop-free") {
		s.stages.ladder.SetLimits(cfg.MinFree, max(cfg.StopFree, 1))
	}
	if has("keep") {
		s.mu.Lock()
		s.h.opt.keep, s.h.opt.keepSet = cfg.Keep, cfg.KeepSet
		s.mu.Unlock()
	}
	if has("notify", "hook") {
		s.crier.use(cfg)
	}
}

// setLevel sets the level of the logs of a service.
func setLevel(level string) {
	l, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		l = zerolog.InfoLevel
	}
	zerolog.SetGlobalLevel(l)
}

// retarget opens the targets of another config that are new, and hands all of them to transport and control. Targets
// that are not in it any more stay for what they are still owed. The caller holds turn.
func (s *service) retarget(ctx context.Context, cfg config.Config) error {
	names, ds, err := s.flags.destinations(cfg, s.names)
	if err != nil {
		return fmt.Errorf("%s: %w", cfg.File, err)
	}
	known, err := s.h.led.Stored(ctx)
	if err != nil {
		return err
	}
	reuse := map[segment.TargetID]int{} // place in h.targets
	for i, d := range s.h.dests {
		reuse[d.ID] = i
	}
	var fresh []dest.Dest
	now := map[segment.TargetID]bool{}
	for _, d := range ds {
		if i, ok := reuse[d.ID]; !ok || s.h.dests[i].Spec != d.Spec {
			fresh = append(fresh, d)
			now[d.ID] = true
		}
	}
	built, err := s.h.build(ctx, fresh, known, now)
	closeAll := func(ts []uploader.Target) {
		for _, t := range ts {
			if c, ok := t.(io.Closer); ok {
				c.Close() // nothing was sent by it
			}
		}
	}
	if err != nil {
		closeAll(built)
		return fmt.Errorf("%s: %w", cfg.File, err)
	}
	made := map[segment.TargetID]uploader.Target{}
	for i, d := range fresh {
		made[d.ID] = built[i]
	}
	var targets []uploader.Destination
	var dests []dest.Dest
	var run []segment.Destination
	in := map[segment.TargetID]bool{}
	for _, d := range ds {
		t := made[d.ID]
		if t == nil {
			t = s.h.targets[reuse[d.ID]].Target
		}
		in[d.ID] = true
		targets, dests, run = append(targets, uploader.Destination{Target: t, Required: d.Required}), append(dests, d), append(run, d.Destination)
	}
	for i, d := range s.h.dests {
		if !in[d.ID] {
			targets, dests = append(targets, s.h.targets[i]), append(dests, d)
		}
	}
	lanes, ps, ss, err := s.fit(targets, dests)
	if err != nil {
		closeAll(built)
		return fmt.Errorf("%s: %w", cfg.File, err)
	}
	if err := s.h.led.SetTargets(ctx, run); err != nil {
		closeAll(built)
		return err
	}
	left := s.leave(targets)
	if err := errors.Join(s.transport.Retarget(lanes, left), s.control.Retarget(ps, ss, left)); err != nil {
		return err
	}
	s.mu.Lock()
	s.names = names
	s.mu.Unlock()
	s.h.aim(run, targets, dests)
	s.logins.set(targets, left)
	return nil
}

// leave gives what is to be called by each of the three that use targets (transport, control, logins) once it does not use
// those of before any more that are not among now: then they are closed. The caller holds turn.
func (s *service) leave(now []uploader.Destination) func() {
	var gone []uploader.Target
	for _, d := range s.h.targets {
		if !slices.ContainsFunc(now, func(n uploader.Destination) bool { return n.Target == d.Target }) {
			gone = append(gone, d.Target)
		}
	}
	var users atomic.Int32
	users.Store(3)
	return func() {
		if users.Add(-1) > 0 {
			return
		}
		for _, t := range gone {
			c, ok := t.(io.Closer)
			if !ok {
				continue
			}
			s.loops.Go(func() { // a store may be asked for a last time
				if err := c.Close(); err != nil {
					s.h.log.Warn().Err(err).Str("target", string(t.ID())).Msg("a target that is not in use any more was not closed cleanly")
				}
			})
		}
	}
}
