package bilibili_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/bilibili"
)

// A room is one, however it is written, and a process records it once.
func TestSameRoom(t *testing.T) {
	r, _ := room(t, bilitest.LiveRoom{Short: 4711}, liveroom.Config{})
	rooms.Link("SameRoo", address(r))
	s := site(t)
	short, link := "https://live.bilibili.com/4711", "https://b23.tv/SameRoo"
	for _, raw := range []string{short, address(r), link} {
		if id, err := s.Identify(t.Context(), raw); err != nil || id != segment.RoomID(fmt.Sprintf("bilibili:%d", r.ID)) {
			t.Errorf("%s: %s, %v", raw, id, err)
		}
	}
	if id, err := s.Identify(t.Context(), "https://live.bilibili.com/404404"); err == nil {
		t.Errorf("there is a room %s", id)
	}
	first, second := resolver(t, s, bilibili.Config{URL: short}), resolver(t, s, bilibili.Config{URL: address(r)})
	if live := resolve(t, first); live.Presence != recorder.OnAir {
		t.Fatalf("%+v", live)
	}
	if live := resolve(t, second); live.Presence != recorder.Blocked || !strings.Contains(live.Why, "the same room as "+short) {
		t.Errorf("%+v", live)
	}
	if live := resolve(t, first); live.Presence != recorder.OnAir {
		t.Errorf("%+v", live)
	}
	// One that is written in another way from now on is no other one.
	as := segment.Room{ID: "bilibili:1"}
	for _, r := range []*bilibili.Resolver{first, second} {
		live, err := r.Resolve(t.Context(), as)
		if err != nil || live.Presence != recorder.OnAir {
			t.Fatalf("%+v, %v", live, err)
		}
		live.Source.Close()
	}
}
