package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
)

const childDir = "LIVEREC_LEDGER_CHILD"

// TestChild is the process that TestKill kills: eight rooms record as fast as they can, and say so on stdout after each
// answer of the ledger.
func TestChild(t *testing.T) {
	path := os.Getenv(childDir)
	if path == "" {
		t.Skip("it runs in a process of its own")
	}
	dir, err := durable.Open(path, nil)
	must(t, err)
	l, err := Open(t.Context(), Config{Dir: dir, Log: zerolog.Nop()})
	must(t, err)
	aim(t, l)
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...) // one write: a kill leaves whole lines or a torn last one
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := room
			r.ID += segment.RoomID(fmt.Sprint(i))
			e, err := l.Enter(t.Context(), r, segment.Session{Name: string(r.ID)}, t0, time.Hour)
			for _, p := range append(e.Left, deref(e.Open)...) {
				if err == nil {
					err = l.Seal(t.Context(), done(p))
				}
			}
			for seq := e.NextSeq; err == nil; seq++ {
				p := newPart(e.Session.ID, seq)
				if err = l.Begin(t.Context(), p); err != nil {
					break
				}
				say("begin %s %d", e.Session.ID, seq)
				for k := range 3 {
					if err = step(t.Context(), l, s3, p, steps[min(k, 1)]); err != nil {
						break
					}
					if err = l.Acked(t.Context(), s3, p.ID, ack(k)); k == 0 {
						err = nil // no upload yet: refused
					} else if err == nil {
						say("ack %s %d %d", e.Session.ID, seq, k)
					}
				}
				if err == nil {
					err = l.Seal(t.Context(), done(p))
				}
				if err == nil {
					say("seal %s %d", e.Session.ID, seq)
				}
			}
			t.Error(err)
		})
	}
	wg.Wait()
}

func deref(p *segment.Segment) []segment.Segment {
	if p == nil {
		return nil
	}
	return []segment.Segment{*p}
}

// A real kill -9 in full write, again and again in one folder: no acknowledged record is lost, the file is sound, and a
// second process reads while the first one writes.
func TestKill(t *testing.T) {
	rounds, most := 9, 150
	if testing.Short() || slowly {
		rounds, most = 3, 30
	}
	path := data(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	said := map[string]bool{}
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), childDir+"="+path)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewReader(out)
		var fresh []string
		read := func() bool {
			s, err := lines.ReadString('\n')
			if err != nil {
				return false
			}
			if s = strings.TrimSpace(s); strings.Count(s, " ") >= 2 {
				fresh = append(fresh, s)
			}
			return true
		}
		for n := 20 + random.IntN(most); len(fresh) < n; {
			if !read() {
				must(t, cmd.Wait())
				t.Fatal("the child ended by itself")
			}
		}
		// This process is the second one.
		r, err := OpenReader(path)
		must(t, err)
		if pid, since, ok := r.Running(); !ok || pid != cmd.Process.Pid || since.IsZero() {
			t.Fatalf("running: %d %v %v, not %d", pid, since, ok, cmd.Process.Pid)
		}
		if locked, ok := errors.AsType[*Locked](openError(t, path)); !ok || locked.PID != cmd.Process.Pid {
			t.Fatalf("the lock: %+v", locked)
		}
		bs, err := r.Broadcasts(t.Context(), 0)
		must(t, err)
		kept(t, bs, fresh)
		for range 3 {
			if _, err := r.Unsafe(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Due(t.Context(), s3); err != nil {
				t.Fatal(err)
			}
		}
		must(t, cmd.Process.Kill())
		for read() {
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child was not killed")
		}
		for _, s := range fresh {
			said[s] = true
		}
		if _, _, ok := r.Running(); ok {
			t.Fatal("the dead process still runs")
		}
		all := make([]string, 0, len(said))
		for s := range said {
			all = append(all, s)
		}
		bs, err = r.Broadcasts(t.Context(), 0) // nobody writes; the log of the dead one is read
		must(t, err)
		kept(t, bs, all)
		must(t, r.Close())
		if round%3 == 2 {
			l := opened(t, config(t, path))
			if l.Clean() {
				t.Error("a kill counts as a clean end")
			}
			must(t, l.Integrity(t.Context()))
			bs, err := l.Broadcasts(t.Context(), 0)
			must(t, err)
			kept(t, bs, all)
			must(t, l.Close())
		}
	}
	t.Logf("%d records were acknowledged", len(said))
}

func openError(t *testing.T, path string) error {
	l, err := Open(t.Context(), config(t, path))
	if err == nil {
		l.Close()
	}
	return err
}

// kept checks that what a child said is there.
func kept(t *testing.T, bs []segment.Broadcast, said []string) {
	t.Helper()
	by := map[segment.SessionID]segment.Broadcast{}
	for _, b := range bs {
		by[b.Session.ID] = b
	}
	for _, s := range said {
		var what string
		var id segment.SessionID
		var seq, k int
		if n, err := fmt.Sscan(s, &what, &id, &seq, &k); n < 3 {
			t.Fatalf("%q: %v", s, err)
		}
		b := by[id]
		if len(b.Segments) < seq || b.Segments[seq-1].ID.Seq != uint32(seq) {
			t.Fatalf("lost: %s", s)
		}
		switch what {
		case "seal":
			if !b.Segments[seq-1].Sealed {
				t.Fatalf("lost: %s", s)
			}
		case "ack":
			d := b.Deliveries[s3][seq-1]
			found := false
			for _, a := range d.Acks {
				found = found || a == ack(k)
			}
			if !found {
				t.Fatalf("lost: %s", s)
			}
		}
	}
}

func TestReaderMakesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	if _, err := OpenReader(path); !errors.Is(err, ErrAbsent) {
		t.Fatal(err)
	}
	if exists(path) {
		t.Fatal("the folder was made")
	}
	must(t, os.Mkdir(path, 0o755))
	if _, err := OpenReader(path); !errors.Is(err, ErrAbsent) {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(path); err != nil || len(names) != 0 {
		t.Fatalf("%v %v", names, err)
	}
}

// After a clean end, too: what is there can be read, it stays as it is, and the next writer is not disturbed.
func TestReaderAfterTheEnd(t *testing.T) {
	path := data(t)
	l := opened(t, config(t, path))
	aim(t, l)
	s := enter(t, l, "x").Session.ID
	seal(t, l, begin(t, l, s, 1))
	must(t, l.Close())
	before, err := os.ReadFile(filepath.Join(path, dbName))
	must(t, err)
	r, err := OpenReader(path)
	must(t, err)
	defer r.Close()
	if b, err := r.Find(t.Context(), string(s)); err != nil || len(b.Segments) != 1 {
		t.Fatalf("%v %v", b, err)
	}
	if _, err := r.view.db.ExecContext(t.Context(), `DELETE FROM parts`); err == nil {
		t.Fatal("the reader can write")
	}
	after, err := os.ReadFile(filepath.Join(path, dbName))
	must(t, err)
	if string(before) != string(after) {
		t.Fatal("reading changed the file")
	}
	m := opened(t, config(t, path))
	if !m.Clean() {
		t.Fatal("reading made the end unclean")
	}
	begin(t, m, s, 2)
	if b, err := r.Broadcast(t.Context(), s); err != nil || len(b.Segments) != 2 { // the same reader sees the next process
		t.Fatalf("%v %v", b, err)
	}
	must(t, r.Integrity(t.Context()))
}

// A folder that the reader may not write to, as for another user or on a read-only mount.
func TestReaderOfAReadOnlyFolder(t *testing.T) {
	path := data(t)
	l := opened(t, config(t, path))
	s := enter(t, l, "x").Session.ID
	must(t, l.Close())
	r, err := OpenReader(readOnly(t, path))
	must(t, err)
	if ss, err := r.Sessions(t.Context(), 0); err != nil || len(ss) != 1 || ss[0].ID != s {
		t.Fatalf("%v %v", ss, err)
	}
	must(t, r.Close())
}
