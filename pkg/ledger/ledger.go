package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
)

// Config of a Ledger.
type Config struct {
	Dir   *durable.Dir     // the data folder; it stays the caller's
	Owner string           // who writes, in each record; default the host's name
	Keep  time.Duration    // how long a part that is begun now stays on the disk once it is safe
	Now   func() time.Time // default time.Now
	Log   zerolog.Logger
	// Accept says that a person has agreed to go on with what is left after the ledger was damaged (Damage).
	Accept bool
	// Hook is the crash seam: it is called before ("commit extend") and after ("committed extend") each commit, with
	// the records in it. An error stops everything at that place, as a kill would: the ledger then answers only
	// errors. ENOSPC and EIO are a disk's errors instead: the commit is taken back and the ledger goes on.
	Hook func(step string) error
}

// Ledger is the one writer of a data folder. It fits the Journal of each stage. All methods may be called from
// several goroutines; each call that records something returns after its record is durable, and its context limits
// the waiting only: a record whose caller went away may still be written.
type Ledger struct {
	view
	dir   *durable.Dir
	owner string
	keep  time.Duration
	now   func() time.Time
	log   zerolog.Logger
	hook  func(step string) error
	most  int // rows of one kind in a session: mostRows but in tests

	lock   *lock
	epoch  int64
	clean  bool
	damage *Damage

	dead    atomic.Pointer[error]                 // why nothing is answered any more
	run     atomic.Pointer[[]segment.Destination] // the targets of this run
	plans   sync.Map                              // segment.RoomID -> Plan: of the rooms that have one of their own
	commits atomic.Int64
	records atomic.Int64

	mu    sync.RWMutex // guards closed against senders
	end   bool
	in    chan *request // capacity 256; sent by every method that records, closed by Close
	done  chan struct{} // closed by the writer goroutine when it ends
	once  sync.Once
	close error

	// Below belongs to the writer goroutine, and to Open and Close when it does not run.
	db      *sql.DB
	tx      tx
	reserve reserve
	batch   []*request
}

const (
	readers   = 4 // connections for questions
	queue     = 256
	groupMost = 64
	groupWait = 10 * time.Millisecond
)

// Open locks the data folder, brings its ledger up to date and starts the writer. The errors that a caller may want to
// tell apart are *Locked and ErrNewer. A damaged ledger is no error: see Damaged.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	return open(ctx, cfg, shipped())
}

func open(ctx context.Context, cfg Config, steps []migration) (*Ledger, error) {
	if cfg.Dir == nil {
		return nil, errors.New("open the ledger: a data folder is needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	host, _ := os.Hostname() // a label
	if cfg.Owner == "" {
		cfg.Owner = host
	}
	lk, former, err := take(ctx, cfg.Dir.Path())
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		dir: cfg.Dir, owner: cfg.Owner, keep: cfg.Keep, now: cfg.Now, log: cfg.Log, hook: cfg.Hook, most: mostRows, lock: lk,
		in: make(chan *request, queue), done: make(chan struct{}),
		reserve: reserve{dir: cfg.Dir},
	}
	if err := l.start(ctx, cfg.Accept, former, host, steps); err != nil {
		return nil, errors.Join(err, l.shut(), lk.release())
	}
	go l.loop() // awaited by Close
	return l, nil
}

func (l *Ledger) start(ctx context.Context, accept bool, former holder, host string, steps []migration) error {
	// The name of the holder first: whoever is refused wants to read it. A full disk must not keep us out.
	h := holder{PID: os.Getpid(), Started: l.now().UTC(), Host: host, Epoch: former.Epoch}
	if err := l.lock.write(h); err != nil && !isFull(err) {
		return err
	}
	found, err := l.inspect(ctx, steps)
	if err != nil {
		return err
	}
	if found != nil {
		if err := l.restore(ctx, found, steps); err != nil {
			return fmt.Errorf("put a good copy in the place of the damaged ledger: %w", err)
		}
	}
	if l.db, l.tx.conn, err = openWriter(ctx, l.dir.Abs(dbName)); err != nil {
		return err
	}
	l.tx.stmts = map[string]*sql.Stmt{}
	if err := l.migrate(ctx, steps); err != nil {
		return err
	}
	if found != nil {
		if err := l.mark(ctx, *found); err != nil {
			return err
		}
	}
	if l.damage, err = l.marked(ctx); err != nil {
		return err
	}
	if l.damage != nil && accept {
		if err := l.accept(ctx); err != nil {
			return fmt.Errorf("go on after the damage of the ledger: %w", err)
		}
		l.damage = nil
	}
	if err := l.register(ctx, former, h); err != nil {
		return err
	}
	db, err := openReader(l.dir.Abs(dbName))
	if err != nil {
		return err
	}
	l.view.gate = l.alive
	l.view.serve(db, readers)
	if err := l.reserve.load(); err != nil {
		return err
	}
	if err := l.reserve.mend(l.now()); err != nil {
		l.log.Warn().Err(err).Msg("the reserve space of the ledger could not be made")
	}
	return nil
}

// register opens the run: its epoch is higher than any before, also than those of a ledger that got lost.
func (l *Ledger) register(ctx context.Context, former, h holder) error {
	var last, ended sql.NullInt64
	err := l.tx.conn.QueryRowContext(ctx, `SELECT epoch, ended FROM runs ORDER BY epoch DESC LIMIT 1`).Scan(&last, &ended)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		l.clean = true
	case err != nil:
		return fmt.Errorf("read the runs of the ledger: %w", err)
	default:
		l.clean = ended.Int64 != 0
	}
	l.epoch = max(last.Int64, former.Epoch) + 1
	h.Epoch = l.epoch
	if err := l.lock.write(h); err != nil && !isFull(err) {
		return err
	}
	l.tx.owner, l.tx.epoch = l.owner, l.epoch
	if l.damage != nil {
		l.clean = false
		return nil // read only
	}
	for {
		_, err = l.tx.conn.ExecContext(ctx, `INSERT INTO runs (epoch, owner, host, pid, started) VALUES (?, ?, ?, ?, ?)`,
			l.epoch, l.owner, h.Host, h.PID, micros(h.Started))
		if err == nil {
			return nil
		}
		// Full at the very start: what frees the disk has to get in.
		if lerr := l.reserve.load(); lerr != nil || !isFull(err) || !l.reserve.give(frees) {
			return fmt.Errorf("begin a run of the ledger: %w", explain(err))
		}
	}
}

// Clean reports whether the last run ended by Close. The first run of all counts as one that follows a clean end.
func (l *Ledger) Clean() bool { return l.clean }

// Epoch is the number of this run; it rises at each Open.
func (l *Ledger) Epoch() int64 { return l.epoch }

// Damaged tells what happened if the ledger was found corrupt at this or an earlier Open and nobody has agreed yet to
// go on (Config.Accept); nil if all is well. While it is not nil, every record is refused with it.
func (l *Ledger) Damaged() *Damage { return l.damage }

// Stats tells how many records were written in how many commits since Open.
func (l *Ledger) Stats() (records, commits int64) {
	return l.records.Load(), l.commits.Load()
}

// Close waits for the records that are under way, marks the end of the run as clean, keeps a copy of the ledger and
// gives the lock back. Records and questions that come later are ErrDead. Closing twice is harmless.
func (l *Ledger) Close() error {
	l.once.Do(func() {
		l.mu.Lock()
		l.end = true
		close(l.in)
		l.mu.Unlock()
		<-l.done
		ctx := context.Background()
		var errs []error
		if l.dead.Load() == nil && l.damage == nil {
			if _, err := l.tx.conn.ExecContext(ctx, `UPDATE runs SET ended = ? WHERE epoch = ?`, micros(l.now()), l.epoch); err != nil {
				errs = append(errs, fmt.Errorf("mark the end of the run in the ledger: %w", explain(err)))
			} else if err := l.copy(ctx); err != nil && !isFull(err) {
				errs = append(errs, err)
			}
		}
		l.die(ErrDead)
		l.close = errors.Join(errors.Join(errs...), l.shut(), l.lock.release())
	})
	return l.close
}

// die ends all answers. The first reason counts.
func (l *Ledger) die(err error) { l.dead.CompareAndSwap(nil, &err) }

func (l *Ledger) alive() error {
	if p := l.dead.Load(); p != nil {
		return *p
	}
	return nil
}

// shut closes the connections.
func (l *Ledger) shut() error {
	var errs []error
	l.tx.forget()
	if l.view.db != nil {
		errs = append(errs, l.view.close())
	}
	if l.tx.conn != nil {
		errs = append(errs, l.tx.conn.Close())
	}
	if l.db != nil {
		errs = append(errs, l.db.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// Own reports whether a name in the data folder (relative, with slashes) is the ledger's own: its file with all
// companions and copies, the lock, the reserve. Such a file is no orphan.
func Own(name string) bool {
	return name == lockName || name == reserveName || name == dbName ||
		strings.HasPrefix(name, dbName+"-") || strings.HasPrefix(name, dbName+".") ||
		strings.HasPrefix(name, "."+dbName+".") // the temporary name of a copy that is put in place
}

// load measures what is there of the reserve.
func (r *reserve) load() error {
	fi, err := r.dir.Stat(reserveName)
	if errors.Is(err, fs.ErrNotExist) {
		r.size = 0
		return nil
	}
	if err != nil {
		return fmt.Errorf("measure the reserve: %w", err)
	}
	r.size = min(fi.Size(), reserveSize)
	return nil
}

// micros is how a moment is stored: UTC microseconds since 1970, 0 for the zero moment.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// moment is the reverse of micros.
func moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func span(us int64) time.Duration { return time.Duration(us) * time.Microsecond }
