package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/segment"
)

// identify asks who those rooms are that are new, so that two ways of writing one room are one room. What the ledger has
// under the name that was written goes on under the other one. The caller holds turn.
func (s *service) identify(ctx context.Context, rooms []config.Room) {
	var ask []watched
	var keys []segment.RoomID
	for _, r := range rooms {
		key := segment.RoomID(r.Key())
		if s.ids[key] != "" || s.seats[key] != nil || slices.Contains(keys, key) {
			continue
		}
		opt, err := roomOptionsOf(r)
		if err != nil {
			continue // whoever takes the room in says so
		}
		if w, err := s.sites.find(r.URL, opt); err == nil && w.identify != nil {
			ask, keys = append(ask, w), append(keys, key)
		}
	}
	// Those that can be another room's second name come first: short links and short numbers. Not all may get a turn.
	slices.SortStableFunc(ask, func(a, b watched) int { return cmp.Compare(len(a.room.ID), len(b.room.ID)) })
	slices.SortStableFunc(keys, func(a, b segment.RoomID) int { return cmp.Compare(len(a), len(b)) })
	for i := range ask {
		budget, site := s.budgets.of(ask[i].room.URL, ask[i].room), ask[i].identify
		ask[i].identify = func(ctx context.Context, log zerolog.Logger) (segment.RoomID, error) {
			if !budget.take(ctx) {
				return "", errors.New("many rooms ask now")
			}
			return site(ctx, log)
		}
	}
	s.h.identify(ctx, ask)
	for i, w := range ask {
		if w.identify == nil {
			s.ids[keys[i]] = w.room.ID
		}
	}
}

// identity is who a room is, as far as it is known. The caller holds turn.
func (s *service) identity(r config.Room) segment.RoomID {
	key := segment.RoomID(r.Key())
	if st := s.seats[key]; st != nil {
		return st.id // it does not change while somebody records under it
	}
	return cmp.Or(s.ids[key], key)
}

// once refuses a config that has one room twice, in two ways of writing it. The caller holds turn.
func (s *service) once(cfg config.Config) error {
	first := map[segment.RoomID]config.Room{}
	for _, r := range cfg.Rooms {
		id := s.identity(r)
		if o, ok := first[id]; ok {
			return fmt.Errorf("%s: room %s is the same room as %s, written in another way; leave one of them out", cfg.File, clip(cmp.Or(r.Name, r.URL)), clip(cmp.Or(o.Name, o.URL)))
		}
		first[id] = r
	}
	return nil
}

// whose finds the seat of a room, whichever way it is written; nil if there is none. The caller holds turn.
func (s *service) whose(r config.Room) *seat {
	id := s.identity(r)
	for _, st := range s.order {
		if st.id == id {
			return st
		}
	}
	return nil
}

// rename keeps a seat under the way in which its room is written now. The caller holds turn.
func (s *service) rename(st *seat, r config.Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seats, st.key)
	st.key = segment.RoomID(r.Key())
	s.seats[st.key] = st
}
