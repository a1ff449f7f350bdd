package recorder_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

// talking is a site that knows about its room, and whose streamer changes his mind.
type talking struct {
	recorder.Resolver
	mu  sync.Mutex
	now recorder.About
}

func (s *talking) say(a recorder.About) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = a
}

func (s *talking) about() recorder.About {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *talking) Resolve(ctx context.Context, room segment.Room) (recorder.Live, error) {
	live, err := s.Resolver.Resolve(ctx, room)
	a := s.about()
	live.Title, live.Streamer, live.Cover = a.Title, a.Streamer, a.Cover
	if live.Source != nil {
		live.Source = &talkingSource{live.Source, s}
	}
	return live, err
}

type talkingSource struct {
	recorder.Source
	site *talking
}

func (s *talkingSource) About() recorder.About { return s.site.about() }
func (s *talkingSource) Quality() string       { return "source" }

// What the streamer changes during a broadcast is shown at once and told once; the broadcast keeps the name that it began
// with. A restart tells what is different from the ledger.
func TestChangesOfTheTitle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		site := &talking{Resolver: r.deps.Resolver, now: recorder.About{Streamer: "alice", Title: "one"}}
		r.deps.Resolver = site
		changes := make(chan recorder.Change, 16)
		r.deps.Changed = func(c recorder.Change) { changes <- c }
		told := func(want ...string) {
			t.Helper()
			for _, w := range want {
				select {
				case c := <-changes:
					if got := c.Was.Title + ">" + c.Now.Title + " " + c.Now.Cover; got != w || c.Session != r.session().ID || c.Room != r.cfg.Room || c.Now.Streamer != "alice" {
						t.Errorf("%+v, want %s", c, w)
					}
				default:
					t.Errorf("nothing was told, want %s", w)
				}
			}
			select {
			case c := <-changes:
				t.Errorf("%+v was told", c)
			default:
			}
		}
		r.room.Start(t.Context())
		r.start()
		time.Sleep(3 * time.Second)
		told()
		if s := r.rec.Snapshot(); s.Title != "one" || s.Quality != "source, 640x360 H.264" {
			t.Errorf("%+v", s)
		}
		site.say(recorder.About{Title: "two"}) // who it is is not known again
		time.Sleep(3 * time.Second)
		told("one>two ")
		site.say(recorder.About{Title: "two", Cover: "https://i/c.jpg"})
		time.Sleep(3 * time.Second)
		told("two>two https://i/c.jpg")
		if s := r.rec.Snapshot(); s.Title != "two" || s.Streamer != "alice" || s.Cover != "https://i/c.jpg" {
			t.Errorf("%+v", s)
		}
		r.halt()
		site.say(recorder.About{Title: "three"})
		r.start()
		time.Sleep(3 * time.Second)
		told("one>three ")
		r.room.End()
		time.Sleep(20 * time.Second)
		if s := r.rec.Snapshot(); s.Quality != "" {
			t.Errorf("%+v", s)
		}
		r.halt()
		told()
		if s := r.session(); s.Title != "one" || s.Streamer != "alice" {
			t.Errorf("the ledger has %+v", s.Session)
		}
	})
}
