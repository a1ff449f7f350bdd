package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// request is one record on its way to the writer.
type request struct {
	op    string
	level level
	run   func(*tx) error // may run more than once: its results are assigned, never added to
	err   error
	done  chan struct{} // closed by the writer when err stands
}

// tx is the transaction of the writer, and the statements of its connection.
type tx struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	owner string
	epoch int64
	wrote bool // by the record that is running
}

var background = context.Background() // a statement that has begun is not broken off: it takes microseconds

func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if s := t.stmts[query]; s != nil {
		return s, nil
	}
	s, err := t.conn.PrepareContext(background, query)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	t.stmts[query] = s
	return s, nil
}

// exec changes something and tells how many rows.
func (t *tx) exec(query string, args ...any) (int64, error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(background, args...)
	if err != nil {
		t.wrote = true // how far it came is not known
		return 0, err
	}
	n, err := r.RowsAffected()
	t.wrote = t.wrote || n > 0
	return n, err
}

// insert adds a row and gives its number.
func (t *tx) insert(query string, args ...any) (int64, error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	t.wrote = true
	r, err := s.ExecContext(background, args...)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// rows makes tx a querier.
func (t *tx) rows(query string, args ...any) (*sql.Rows, error) {
	s, err := t.stmt(query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(background, args...)
}

func (t *tx) control(query string) error {
	s, err := t.stmt(query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(background)
	return err
}

func (t *tx) forget() {
	for _, s := range t.stmts {
		s.Close()
	}
	t.stmts = nil
}

// record has run executed in the next group and waits until it is durable. The error names what was attempted.
func (l *Ledger) record(ctx context.Context, op, noun string, lv level, run func(*tx) error) error {
	err := l.append(ctx, op, lv, run)
	if err != nil {
		return fmt.Errorf("record %s of %s: %w", op, noun, err)
	}
	return nil
}

func (l *Ledger) append(ctx context.Context, op string, lv level, run func(*tx) error) error {
	if l.damage != nil {
		return l.damage
	}
	if err := l.alive(); err != nil {
		return err
	}
	r := &request{op: op, level: lv, run: run, done: make(chan struct{})}
	if err := l.send(ctx, r); err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Ledger) send(ctx context.Context, r *request) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.end {
		return ErrDead
	}
	select {
	case l.in <- r:
		return nil
	default:
	}
	select {
	case l.in <- r:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// loop is the writer goroutine. It ends when the channel is closed and empty.
func (l *Ledger) loop() {
	defer close(l.done)
	snap := time.NewTimer(firstCopy)
	defer snap.Stop()
	for {
		select {
		case r, ok := <-l.in:
			if !ok {
				return
			}
			l.group(r)
		case <-snap.C:
			snap.Reset(everyCopy)
			if l.damage != nil || l.alive() != nil {
				continue
			}
			if err := l.copy(background); err != nil {
				l.log.Warn().Err(err).Msg("no copy of the ledger was made")
			}
		}
	}
}

// group writes r and what is waiting behind it in one commit. It never waits for more.
func (l *Ledger) group(r *request) {
	runtime.Gosched() // let those whom the last commit set free come in
	l.batch = append(l.batch[:0], r)
	err := l.commit()
	if err != nil && l.alive() == nil {
		// One of the group, or the disk. Each alone, so that nobody pays for another.
		for _, r := range l.batch {
			l.single(r)
		}
		err = nil
	}
	for _, r := range l.batch {
		if err != nil {
			r.err = err
		}
		close(r.done)
	}
	clear(l.batch)
	if err := l.reserve.mend(l.now()); err != nil {
		l.log.Debug().Err(err).Msg("the reserve space of the ledger could not be made again")
	}
}

// commit runs and commits the batch, and takes in what arrives meanwhile. A refused record gets its error and costs
// the others nothing. Any other trouble is the error of all: everything is rolled back.
func (l *Ledger) commit() error {
	if err := l.alive(); err != nil {
		return err
	}
	if err := l.begin(); err != nil {
		return errors.Join(err, l.rollback())
	}
	began := time.Now()
	wrote := false
	for i := 0; i < len(l.batch); i++ {
		ok, err := l.execute(l.batch[i])
		if err != nil {
			return errors.Join(err, l.rollback())
		}
		wrote = wrote || ok
		if i == len(l.batch)-1 && i+1 < groupMost && time.Since(began) < groupWait {
			select {
			case r, open := <-l.in:
				if open {
					l.batch = append(l.batch, r)
				}
			default:
			}
		}
	}
	return l.finish(l.batch, wrote)
}

// single writes one record in a commit of its own, with the help of the reserve where it may have it.
func (l *Ledger) single(r *request) {
	for {
		r.err = nil
		err := l.alive()
		if err == nil {
			err = l.begin()
		}
		if err == nil {
			var wrote bool
			if wrote, err = l.execute(r); err == nil {
				err = l.finish([]*request{r}, wrote)
			}
		}
		if err == nil {
			return
		}
		if l.alive() == nil {
			err = errors.Join(err, l.rollback())
			if isFull(err) && l.reserve.give(r.level) {
				continue
			}
		}
		r.err = explain(err)
		return
	}
}

func (l *Ledger) begin() error {
	if err := l.tx.control(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	rows, err := l.tx.rows(`SELECT max(epoch) FROM runs`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var newest int64
	for rows.Next() {
		if err := rows.Scan(&newest); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if newest != l.epoch {
		l.die(ErrFenced)
		return errors.Join(ErrFenced, rows.Close(), l.rollback())
	}
	return nil
}

// execute runs one record. Its error is one after which the transaction cannot be kept.
func (l *Ledger) execute(r *request) (wrote bool, err error) {
	l.tx.wrote = false
	r.err = nil
	if err := r.run(&l.tx); err != nil {
		if l.tx.wrote || !errors.Is(err, ErrRefused) && !errors.Is(err, ErrUnknown) {
			return false, err
		}
		r.err = err
		return false, nil
	}
	return l.tx.wrote, nil
}

// finish commits what the records did.
func (l *Ledger) finish(rs []*request, wrote bool) error {
	if !wrote {
		return l.rollback()
	}
	ops := ""
	if l.hook != nil {
		names := make([]string, len(rs))
		for i, r := range rs {
			names[i] = r.op
		}
		ops = strings.Join(names, " ")
		if err := l.hook("commit " + ops); err != nil {
			if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) {
				l.die(fmt.Errorf("%w: %w", ErrDead, err))
			}
			return errors.Join(err, l.rollback())
		}
	}
	if err := l.tx.control(`COMMIT`); err != nil {
		return errors.Join(err, l.rollback())
	}
	l.commits.Add(1)
	l.records.Add(int64(len(rs)))
	if l.hook != nil {
		if err := l.hook("committed " + ops); err != nil {
			err = fmt.Errorf("%w: %w", ErrDead, err)
			l.die(err)
			return err
		}
	}
	return nil
}

// rollback ends the transaction if there is one. SQLite ends it by itself after some errors.
func (l *Ledger) rollback() error {
	err := l.tx.control(`ROLLBACK`)
	if code(err) == sqlite3.SQLITE_ERROR {
		return nil // there is none any more
	}
	return err
}
