package ledger

import (
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// A room that turns out to be another one brings its broadcasts along: the one that goes on is gone on with, and each says
// still how its room was written.
func TestSameRoom(t *testing.T) {
	l := fresh(t)
	short := segment.Room{ID: "bilibili:6", URL: "https://live.bilibili.com/6", Name: "6", Site: "bilibili"}
	long := segment.Room{ID: "bilibili:7734200", URL: "https://live.bilibili.com/7734200", Name: "7734200", Site: "bilibili"}
	first, err := l.Enter(t.Context(), short, segment.Session{Name: "one"}, t0, time.Minute)
	must(t, err)
	must(t, l.SetRoom(t.Context(), status.RoomState{Room: short, State: status.OnAir}))
	must(t, l.SameRoom(t.Context(), short.ID, long.ID))
	must(t, l.SameRoom(t.Context(), short.ID, long.ID)) // again
	must(t, l.SameRoom(t.Context(), long.ID, long.ID))
	refused(t, l.SameRoom(t.Context(), "", long.ID))
	rooms, err := l.Rooms(t.Context())
	must(t, err)
	if len(rooms) != 1 || rooms[0].Room.ID != long.ID || rooms[0].Room.URL != short.URL {
		t.Errorf("%+v", rooms)
	}
	e, err := l.Enter(t.Context(), long, segment.Session{Name: "two"}, t0.Add(30*time.Second), time.Minute)
	must(t, err)
	if !e.Resumed || e.Session.ID != first.Session.ID || e.Session.Room.URL != short.URL || e.Session.Room.Name != "6" || e.Session.Room.ID != long.ID {
		t.Errorf("%+v", e)
	}
	// Both were known: one is left.
	must(t, l.SetRoom(t.Context(), status.RoomState{Room: short, State: status.Waiting}))
	must(t, l.SetRoom(t.Context(), status.RoomState{Room: long, State: status.OnAir}))
	must(t, l.SameRoom(t.Context(), short.ID, long.ID))
	if rooms, err = l.Rooms(t.Context()); err != nil || len(rooms) != 1 || rooms[0].State != status.OnAir {
		t.Errorf("%+v, %v", rooms, err)
	}
}
