package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/token"
)

func TestRoomsOfThePage(t *testing.T) {
	path := data(t)
	l := opened(t, config(t, path))
	for _, id := range []segment.RoomID{"direct:http://h/b", "direct:http://h/a"} {
		must(t, l.AddRoom(t.Context(), PageRoom{ID: id, Settings: `{"url":"` + string(id) + `"}`}))
	}
	must(t, l.AddRoom(t.Context(), PageRoom{ID: "direct:http://h/a", Settings: `{"url":"direct:http://h/a"}`})) // the answer was lost
	if err := l.AddRoom(t.Context(), PageRoom{ID: "direct:http://h/a", Settings: `{}`}); !errors.Is(err, ErrExists) {
		t.Errorf("added twice: %v", err)
	}
	refused(t, l.AddRoom(t.Context(), PageRoom{}))
	must(t, l.ChangeRoom(t.Context(), "direct:http://h/b", `{"segment":"1m"}`))
	if err := l.ChangeRoom(t.Context(), "direct:http://h/c", `{}`); !errors.Is(err, ErrUnknown) {
		t.Errorf("changed a room that is not there: %v", err)
	}
	must(t, l.Close())
	l = opened(t, config(t, path))
	rs, err := l.PageRooms(t.Context())
	must(t, err)
	if len(rs) != 2 || rs[0].ID != "direct:http://h/b" || rs[0].Settings != `{"segment":"1m"}` || rs[0].Added.IsZero() || rs[1].ID != "direct:http://h/a" {
		t.Errorf("%+v", rs)
	}
	must(t, l.RemoveRoom(t.Context(), "direct:http://h/b"))
	must(t, l.RemoveRoom(t.Context(), "direct:http://h/b"))
	if rs, err = l.PageRooms(t.Context()); err != nil || len(rs) != 1 {
		t.Errorf("%+v, %v", rs, err)
	}
}

func TestTokensAreKeptByTheirHash(t *testing.T) {
	path := data(t)
	l := opened(t, config(t, path))
	k, text, err := token.New("backup", token.Read, t0)
	must(t, err)
	must(t, l.AddToken(t.Context(), k))
	if err := l.AddToken(t.Context(), k); !errors.Is(err, ErrExists) {
		t.Errorf("added twice: %v", err)
	}
	other, _, err := token.New("phone", token.Write, t0)
	must(t, err)
	must(t, l.AddToken(t.Context(), other))
	must(t, l.Close())
	for _, name := range []string{dbName, dbName + "-wal", copyName} {
		b, err := os.ReadFile(filepath.Join(path, name))
		if err == nil && len(text.Reveal()) > 10 && contains(b, text.Reveal()) {
			t.Errorf("I10: the token stands in %s", name)
		}
	}
	l = opened(t, config(t, path))
	all, err := l.Tokens(t.Context())
	must(t, err)
	if len(all) != 2 || all[0] != k || all[1] != other {
		t.Errorf("%+v", all)
	}
	_, before := l.Stats()
	for i := range 3 { // within a minute it is written once
		got, ok, err := l.UseToken(t.Context(), k.Hash, t0.Add(time.Hour+time.Duration(i)*10*time.Second))
		if err != nil || !ok || got.ID != k.ID || !got.Used.Equal(t0.Add(time.Hour)) {
			t.Errorf("%+v, %v, %v", got, ok, err)
		}
	}
	if _, after := l.Stats(); after-before != 1 {
		t.Errorf("%d commits", after-before)
	}
	if _, ok, err := l.UseToken(t.Context(), token.Hash{1}, t0); ok || err != nil {
		t.Errorf("a hash that nobody has: %v, %v", ok, err)
	}
	if there, err := l.RemoveToken(t.Context(), k.ID); !there || err != nil {
		t.Errorf("%v, %v", there, err)
	}
	if there, err := l.RemoveToken(t.Context(), k.ID); there || err != nil {
		t.Errorf("removed twice: %v, %v", there, err)
	}
	if _, ok, _ := l.UseToken(t.Context(), k.Hash, t0); ok {
		t.Error("a token that was removed is known")
	}
}

func contains(b []byte, s string) bool {
	for i := 0; i+len(s) <= len(b); i++ {
		if string(b[i:i+len(s)]) == s {
			return true
		}
	}
	return false
}

func TestListOfBroadcasts(t *testing.T) {
	l := fresh(t, segment.Destination{ID: s3, Required: true})
	var ids []segment.SessionID
	for i := range 7 {
		s := enter(t, l, fmt.Sprint("s", i)).Session
		ids = append(ids, s.ID)
		p := seal(t, l, begin(t, l, s.ID, 1))
		if i%2 == 0 {
			deliver(t, l, s3, p)
		}
		if i == 0 {
			must(t, l.Reclaiming(t.Context(), p.ID))
			must(t, l.Reclaimed(t.Context(), p.ID))
			must(t, l.Miss(t.Context(), segment.Gap{Session: s.ID, AfterSeq: 1, At: t0, Length: 3 * time.Second, Why: "test"}))
		}
	}
	e, err := l.Enter(t.Context(), segment.Room{ID: "direct:http://h/b.flv", Name: "bob"}, segment.Session{Name: "b"}, t0, 0)
	must(t, err)
	var after segment.SessionID
	var got []segment.SessionID
	pages := 0
	for more := true; more; pages++ {
		var page []Sum
		page, more, err = l.List(t.Context(), room.ID, after, 3)
		must(t, err)
		for _, s := range page {
			got = append(got, s.ID)
			after = s.ID
		}
	}
	if pages != 3 || len(got) != 7 || got[0] != ids[6] || got[6] != ids[0] {
		t.Errorf("%d pages, %v of %v", pages, got, ids)
	}
	all, more, err := l.List(t.Context(), "", "", 100)
	if err != nil || more || len(all) != 8 || all[0].ID != e.Session.ID {
		t.Fatalf("%d, %v, %v", len(all), more, err)
	}
	if s := all[7]; s.Parts != 1 || s.Safe != 1 || s.Reclaimed != 1 || s.Size == 0 || s.Gaps != 1 || s.GapTime != 3*time.Second || s.Room.Name != "alice" {
		t.Errorf("%+v", s)
	}
	if s := all[2]; s.Parts != 1 || s.Safe != 0 || s.Reclaimed != 0 {
		t.Errorf("%+v", s)
	}
	if _, _, err := l.List(t.Context(), "", "01J00000000000000000000000", 1); !errors.Is(err, ErrUnknown) {
		t.Errorf("after a broadcast that is not there: %v", err)
	}
}

// What a page of the history costs when there are 10,000 parts; it has to be less than 50 ms.
func BenchmarkList(b *testing.B) {
	l := fresh(b, segment.Destination{ID: s3, Required: true})
	const sessions, each = 50, 200
	for i := range sessions {
		s := enter(b, l, fmt.Sprint("s", i)).Session.ID
		must(b, l.record(b.Context(), "many", "parts", keeps, func(t *tx) error {
			row, err := session(t, s)
			for seq := uint32(1); seq <= each && err == nil; seq++ {
				p := done(newPart(s, seq))
				_, err = l.addPart(t, row, p, 1)
			}
			return err
		}))
	}
	b.ReportAllocs()
	cpu := func() time.Duration {
		var u syscall.Rusage
		must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := cpu()
	for b.Loop() {
		if page, _, err := l.List(b.Context(), "", "", sessions); err != nil || len(page) != sessions || page[0].Parts != each {
			b.Fatal(len(page), err)
		}
	}
	b.ReportMetric(float64((cpu()-began).Milliseconds())/float64(b.N), "cpu-ms/op") // on a busy machine the time says little
}
