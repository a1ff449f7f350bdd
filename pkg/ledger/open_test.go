package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
)

func TestLockNamesItsHolder(t *testing.T) {
	path := data(t)
	if _, _, ok := Running(path); ok {
		t.Fatal("somebody runs in a folder that is not there")
	}
	now := &clock{t: t0}
	cfg := config(t, path)
	cfg.Now = now.now
	l := opened(t, cfg)
	_, err := Open(t.Context(), config(t, path))
	locked, ok := errors.AsType[*Locked](err)
	if !ok || locked.PID != os.Getpid() || !locked.Since.Equal(t0) || locked.Path != cfg.Dir.Path() {
		t.Fatalf("%v", err)
	}
	if s := err.Error(); !strings.Contains(s, fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(s, "2026-01-02T03:04:05Z") {
		t.Fatal(s)
	}
	if pid, since, ok := Running(path); !ok || pid != os.Getpid() || !since.Equal(t0) {
		t.Fatalf("%d %v %v", pid, since, ok)
	}
	must(t, l.Close())
	if _, _, ok := Running(path); ok {
		t.Fatal("it is closed and still runs")
	}
	opened(t, config(t, path))
}

func TestCleanEndAndEpoch(t *testing.T) {
	path := data(t)
	boom := false
	cfg := config(t, path)
	cfg.Hook = func(string) error {
		if boom {
			return errors.New("kill")
		}
		return nil
	}
	var last int64
	for i, c := range []struct{ clean, kill bool }{{true, false}, {true, true}, {false, false}, {true, false}} {
		boom = false
		l := opened(t, cfg)
		if l.Clean() != c.clean || l.Epoch() <= last {
			t.Fatalf("start %d: clean %v, epoch %d after %d", i, l.Clean(), l.Epoch(), last)
		}
		last = l.Epoch()
		if boom = c.kill; boom {
			if _, err := l.Enter(t.Context(), room, segment.Session{}, t0, 0); err == nil {
				t.Fatal("no error")
			}
		}
		must(t, l.Close())
	}
	// A lost ledger does not bring an epoch back.
	for _, name := range []string{dbName, copyName} {
		must(t, os.Remove(filepath.Join(path, name)))
	}
	if l := opened(t, cfg); l.Epoch() != last+1 || l.Damaged() != nil {
		t.Fatalf("epoch %d after %d, damage %v", l.Epoch(), last, l.Damaged())
	}
}

// Each record says who wrote it, and in which run.
func TestRecordsCarryOwnerAndEpoch(t *testing.T) {
	path := data(t)
	for _, owner := range []string{"anna", "berta"} {
		cfg := config(t, path)
		cfg.Owner = owner
		l := opened(t, cfg)
		for _, f := range story(l)[:9] {
			if err := f(t.Context()); err != nil && owner == "anna" {
				t.Fatal(err)
			}
		}
		if owner == "berta" {
			must(t, l.Miss(t.Context(), segment.Gap{Session: print0(t, l), Why: "y"}))
		}
		for _, table := range []string{"targets", "sessions", "parts", "notes", "deliveries", "acks", "gaps", "repairs"} {
			var n int
			must(t, l.view.db.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table+` WHERE owner = ? AND epoch = ?`, owner, l.Epoch()).Scan(&n))
			if n == 0 && (owner == "anna" || table == "gaps" || table == "targets") {
				t.Errorf("%s has nothing of %s in epoch %d", table, owner, l.Epoch())
			}
		}
		must(t, l.Close())
	}
}

func print0(t *testing.T, l *Ledger) segment.SessionID {
	t.Helper()
	ss, err := l.Sessions(t.Context(), 1)
	must(t, err)
	return ss[0].ID
}

// Somebody removed the lock file and started a second process: the first one must not write any more.
func TestFencedByANewerEpoch(t *testing.T) {
	path := data(t)
	l := opened(t, config(t, path))
	s := enter(t, l, "x").Session.ID
	must(t, os.Remove(filepath.Join(path, lockName)))
	m := opened(t, config(t, path))
	if err := l.Begin(t.Context(), newPart(s, 1)); !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
	if err := l.Begin(t.Context(), newPart(s, 1)); !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
	begin(t, m, s, 1)
}

// testdata/ledger-v1.db was written by the first ledger and is kept as it is: whatever comes later has to read it.
func TestMigrateFromVersion1(t *testing.T) {
	path := data(t)
	must(t, os.MkdirAll(path, 0o755))
	old, err := os.ReadFile("testdata/ledger-v1.db")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(path, dbName), old, 0o644))
	check := func(l *Ledger) {
		t.Helper()
		must(t, l.Integrity(t.Context()))
		bs, err := l.Broadcasts(t.Context(), 0)
		must(t, err)
		if len(bs) != 2 || bs[0].Session.Name != "alice/2026-01-02_030405_old" || !bs[0].Session.Complete || len(bs[0].Segments) != 2 ||
			bs[0].Reclaimed[1].IsZero() || bs[0].Deliveries[s3][1].Proof.How == "" || len(bs[0].Gaps) != 1 || len(bs[0].Repairs) != 1 {
			t.Fatalf("the finished broadcast: %+v", bs)
		}
		es, err := l.Unended(t.Context())
		must(t, err)
		if len(es) != 1 || es[0].Open == nil || es[0].Open.Size != 5000 || string(es[0].State) != "note" {
			t.Fatalf("the open one: %+v", es)
		}
		if d := bs[1].Deliveries[s3]; len(d) != 1 || len(d[0].Acks) != 2 || d[0].Token != "upload-1" {
			t.Fatalf("its delivery: %+v", d)
		}
	}
	l := opened(t, config(t, path))
	check(l)
	must(t, l.Close())
	if _, err := os.Stat(filepath.Join(path, bakPrefix+"1")); len(shipped()) == 1 && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("a ledger that is up to date was copied")
	}

	// A step that is yet to come: the former file is kept, the step is done once, and a broken one changes nothing.
	next := append(shipped(), migration{len(shipped()) + 1, `ALTER TABLE parts ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';`})
	bad := append(slices.Clone(next), migration{len(next) + 1, `ALTER TABLE parts ADD COLUMN size2 TEXT; SELECT nonsense;`})
	if _, err := open(t.Context(), config(t, path), bad); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("schema %d", len(bad))) {
		t.Fatal(err)
	}
	for range 2 {
		l, err := open(t.Context(), config(t, path), next)
		must(t, err)
		check(l)
		var colour string
		must(t, l.view.db.QueryRowContext(t.Context(), `SELECT colour FROM parts`).Scan(&colour))
		if err := l.view.db.QueryRowContext(t.Context(), `SELECT size2 FROM parts`).Scan(&colour); err == nil {
			t.Fatal("half of a broken step is there")
		}
		must(t, l.Close())
	}
	bak, err := openReader(filepath.Join(path, fmt.Sprintf("%s%d", bakPrefix, len(shipped()))))
	must(t, err)
	defer bak.Close()
	version, err := schema(t.Context(), bak, len(shipped()))
	must(t, err)
	if version != len(shipped()) {
		t.Fatalf("the kept file has schema %d", version)
	}

	// A newer ledger than this program knows.
	_, err = Open(t.Context(), config(t, path))
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), fmt.Sprintf("it has schema %d and this one knows %d; use the newer program", len(next), len(shipped()))) {
		t.Fatal(err)
	}
	if _, err := OpenReader(path); !errors.Is(err, ErrNewer) {
		t.Fatal(err)
	}
	if _, _, ok := Running(path); ok {
		t.Fatal("a refused start keeps the lock")
	}
}

// go test -run TestWriteVersion1 with LIVEREC_WRITE_V1 made testdata/ledger-v1.db, once.
func TestWriteVersion1(t *testing.T) {
	out := os.Getenv("LIVEREC_WRITE_V1")
	if out == "" {
		t.Skip("the file is shipped and stays as it is")
	}
	path := data(t)
	cfg := config(t, path)
	cfg.Now = (&clock{t: t0}).now
	l := opened(t, cfg)
	aim(t, l)
	s := enter(t, l, "alice/2026-01-02_030405_old").Session.ID
	for seq := range uint32(2) {
		p := seal(t, l, begin(t, l, s, seq+1))
		deliver(t, l, s3, p)
		must(t, l.Reclaiming(t.Context(), p.ID))
		must(t, l.Reclaimed(t.Context(), p.ID))
	}
	must(t, l.Miss(t.Context(), segment.Gap{Session: s, AfterSeq: 1, At: t0, Length: time.Second, Why: "source closed the connection"}))
	must(t, l.Mend(t.Context(), segment.Repair{Session: s, Seq: 1, What: "clock jumped ahead by 90 s"}))
	must(t, l.Leave(t.Context(), s, t0.Add(time.Hour), segment.Account{}))
	publish(t, l, s, s3, 2, true)
	must(t, l.Complete(t.Context(), s))
	p := begin(t, l, enter(t, l, "alice/2026-01-02_030405_old").Session.ID, 1)
	must(t, l.Extend(t.Context(), p.ID, segment.Extent{Durable: 5000, State: []byte("note"), At: t0}))
	deliverTo(t, l, s3, p, segment.Uploading)
	must(t, l.Acked(t.Context(), s3, p.ID, ack(1)))
	must(t, l.Acked(t.Context(), s3, p.ID, ack(2)))
	must(t, l.Close())
	b, err := os.ReadFile(filepath.Join(path, copyName))
	must(t, err)
	must(t, os.WriteFile(out, b, 0o644))
}

func TestForeignDatabaseIsLeftAlone(t *testing.T) {
	path := data(t)
	l := opened(t, config(t, path))
	_, err := l.tx.conn.ExecContext(t.Context(), `PRAGMA application_id = 17`)
	must(t, err)
	must(t, l.Close())
	if _, err := Open(t.Context(), config(t, path)); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Fatal(err)
	}
}

// wrecks are the ways in which a ledger file can be lost.
var wrecks = map[string]func(name string) error{
	"header":    func(name string) error { return scribble(name, 0, 100) },
	"a page":    func(name string) error { return scribble(name, 4096*3, 4096) },
	"all of it": func(name string) error { return os.WriteFile(name, []byte(strings.Repeat("rubbish ", 4096)), 0o644) },
	"cut":       func(name string) error { return os.Truncate(name, 4096*5) },
	"emptied":   func(name string) error { return os.Truncate(name, 0) },
	"gone":      os.Remove,
}

func scribble(name string, off, n int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte(strings.Repeat("x", int(n))), off)
	return err
}

// K14: the damaged file is kept, the newest good copy is read in its place, and nothing is written before somebody
// agrees. A broadcast from before does not go on, since its next numbers may be taken.
func TestK14_DamagedLedger(t *testing.T) {
	for name, wreck := range wrecks {
		if slowly && name != "a page" {
			continue
		}
		for _, withCopy := range []bool{true, false} {
			if !withCopy && (name == "gone" || name == "emptied") {
				continue // that is how a new folder looks
			}
			t.Run(fmt.Sprintf("%s, copy %v", name, withCopy), func(t *testing.T) {
				path := data(t)
				l := opened(t, config(t, path))
				aim(t, l)
				s := enter(t, l, "before").Session.ID
				seal(t, l, begin(t, l, s, 1))
				must(t, l.Close())
				if !withCopy {
					must(t, os.Remove(filepath.Join(path, copyName)))
				}
				must(t, wreck(filepath.Join(path, dbName)))
				wrecked, werr := os.ReadFile(filepath.Join(path, dbName))

				for start := range 3 { // no later start overlooks it
					l = opened(t, config(t, path))
					d := l.Damaged()
					if d == nil || d.Why == "" || (d.Copy != "") != withCopy || d.At.IsZero() {
						t.Fatalf("start %d: %+v", start, d)
					}
					if werr == nil {
						kept, err := os.ReadFile(filepath.Join(path, d.Aside))
						if err != nil || string(kept) != string(wrecked) {
							t.Fatalf("the damaged file was not kept: %v", err)
						}
					}
					ss, err := l.Sessions(t.Context(), 0)
					must(t, err)
					if len(ss) != map[bool]int{true: 1, false: 0}[withCopy] {
						t.Fatalf("%d sessions", len(ss))
					}
					_, err = l.Enter(t.Context(), room, segment.Session{}, t0, time.Minute)
					if got, ok := errors.AsType[*Damage](err); !ok || got.Why != d.Why {
						t.Fatalf("it was written: %v", err)
					}
					must(t, l.Close())
				}

				cfg := config(t, path)
				cfg.Accept = true
				l = opened(t, cfg)
				if l.Damaged() != nil {
					t.Fatal("agreed, and still damaged")
				}
				e, err := l.Enter(t.Context(), room, segment.Session{Name: "after"}, t0, time.Hour)
				must(t, err)
				if e.Resumed || e.Session.ID == s {
					t.Fatalf("the old broadcast goes on: %+v", e)
				}
				if withCopy {
					refused(t, l.Begin(t.Context(), newPart(s, 2)))
					must(t, l.Leave(t.Context(), s, t0, segment.Account{}))
				}
				must(t, l.Integrity(t.Context()))
				must(t, l.Close())
				if l = opened(t, config(t, path)); l.Damaged() != nil || !l.Clean() {
					t.Fatalf("%v %v", l.Damaged(), l.Clean())
				}
			})
		}
	}
}

// A crash at any file operation while the damaged ledger is replaced: the damage is never forgotten, and neither the
// damaged file nor the copy is lost.
func TestK14_CrashWhileReplacing(t *testing.T) {
	boom := errors.New("power cut")
	every := 1
	if slowly {
		every = 7
	}
	for k := 1; ; k += every {
		path := data(t)
		l := opened(t, config(t, path))
		enter(t, l, "before")
		must(t, l.Close())
		must(t, scribble(filepath.Join(path, dbName), 0, 5000))
		n, armed := 0, false
		dir, err := durable.Open(path, func(durable.Op, string) error {
			if !armed {
				return nil
			}
			if n++; n >= k { // and nothing works any more
				return boom
			}
			return nil
		})
		must(t, err)
		armed = true
		l, err = Open(t.Context(), Config{Dir: dir})
		ended := n < k
		if err == nil {
			must(t, l.Close())
		} else if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		must(t, dir.Close())
		l = opened(t, config(t, path))
		d := l.Damaged()
		if d == nil || d.Copy != copyName {
			t.Fatalf("crash at operation %d: %+v", k, d)
		}
		kept, err := os.ReadFile(filepath.Join(path, d.Aside))
		must(t, err)
		if !strings.HasPrefix(string(kept), "xxxx") {
			t.Fatalf("crash at operation %d: the damaged file is lost", k)
		}
		if ss, err := l.Sessions(t.Context(), 0); err != nil || len(ss) != 1 {
			t.Fatalf("crash at operation %d: %v %v", k, ss, err)
		}
		must(t, l.Close())
		if ended {
			if k < 10 {
				t.Fatalf("only %d operations", k)
			}
			return
		}
	}
}

// The newest copy is damaged as well: the one before is opened.
func TestK14_NewestGoodCopy(t *testing.T) {
	path := data(t)
	l := opened(t, config(t, path))
	enter(t, l, "before")
	must(t, l.copyTo(context.Background(), bakPrefix+"1"))
	enter(t, l, "later")
	must(t, l.Close())
	must(t, scribble(filepath.Join(path, dbName), 0, 200))
	must(t, scribble(filepath.Join(path, copyName), 0, 200))
	l = opened(t, config(t, path))
	if d := l.Damaged(); d == nil || d.Copy != bakPrefix+"1" {
		t.Fatalf("%+v", d)
	}
	if ss, err := l.Sessions(t.Context(), 0); err != nil || len(ss) != 1 || ss[0].Name != "before" {
		t.Fatalf("%v %v", ss, err)
	}
}

func TestReserveIsMadeAndKept(t *testing.T) {
	path := data(t)
	l := opened(t, config(t, path))
	must(t, l.Close())
	name := filepath.Join(path, reserveName)
	fi, err := os.Stat(name)
	must(t, err)
	if fi.Size() != reserveSize {
		t.Fatalf("%d bytes", fi.Size())
	}
	must(t, os.Truncate(name, 1<<20))
	l = opened(t, config(t, path))
	must(t, l.Close())
	if fi, err = os.Stat(name); err != nil || fi.Size() != reserveSize {
		t.Fatalf("%v %v", fi, err)
	}
}

// Whoever looks while the first start makes the ledger sees none or a whole one.
func TestANewLedgerIsWholeOrAbsent(t *testing.T) {
	for range 10 {
		path := t.TempDir()
		stop := make(chan struct{})
		seen := make(chan error, 1)
		go func() {
			defer close(seen)
			for {
				r, err := OpenReader(path)
				if err == nil {
					err = r.Close()
				}
				if err != nil && !errors.Is(err, ErrAbsent) {
					seen <- err
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		l, err := Open(t.Context(), config(t, path))
		must(t, err)
		close(stop)
		if err := <-seen; err != nil {
			t.Error(err)
		}
		must(t, l.Close())
	}
}
