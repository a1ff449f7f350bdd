package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

const (
	dbName = "ledger.db"
	// copyName is the copy that is made at a clean end and once an hour.
	copyName = dbName + ".copy"
	// bakPrefix begins the name of the copy that is made before a migration; the schema that it has follows.
	bakPrefix = dbName + ".bak-"
	// asidePrefix begins the name that a damaged ledger gets; the moment follows.
	asidePrefix = dbName + ".damaged-"
	// intentName is there while a damaged ledger is being replaced, so that a crash in the middle is not taken for a
	// sound ledger.
	intentName = dbName + ".damage"

	firstCopy = time.Minute
	everyCopy = time.Hour

	applicationID = 0x6c766c67 // "lvlg", in the header of the file
)

//go:embed migrations/*.sql
var files embed.FS

// migration brings a ledger from schema number version-1 to version.
type migration struct {
	version int
	sql     string
}

// shipped lists the migrations of this binary, by number, without a hole.
func shipped() []migration {
	entries, err := files.ReadDir("migrations")
	if err != nil {
		panic(err) // it is in the binary
	}
	var out []migration
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "_")
		v, err := strconv.Atoi(number)
		b, rerr := files.ReadFile(path.Join("migrations", e.Name()))
		if err = errors.Join(err, rerr); err != nil || v != len(out)+1 {
			panic(fmt.Sprintf("migration %s is not number %d: %v", e.Name(), len(out)+1, err))
		}
		out = append(out, migration{v, string(b)})
	}
	return out
}

// source is a data source name for one file.
func source(file string, mode string, pragmas ...string) string {
	q := url.Values{}
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	q.Set("mode", mode)
	return (&url.URL{Scheme: "file", Path: file, RawQuery: q.Encode()}).String()
}

func openWriter(ctx context.Context, file string) (*sql.DB, *sql.Conn, error) {
	db, err := sql.Open("sqlite", source(file, "rwc",
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
		"cache_size(-2048)", "journal_size_limit(8388608)", "temp_store(MEMORY)"))
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", file, err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open %s: %w", file, explain(err)), db.Close())
	}
	return db, conn, nil
}

func openReader(file string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", source(file, "ro", "busy_timeout(10000)", "query_only(ON)", "cache_size(-1024)"))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	return db, nil
}

// inspect looks at the ledger file before it is used. A Damage says that it cannot be; nil says that it is sound or
// that there is none yet.
func (l *Ledger) inspect(ctx context.Context, steps []migration) (*Damage, error) {
	name := l.dir.Abs(dbName)
	if b, err := os.ReadFile(l.dir.Abs(intentName)); err == nil {
		d := &Damage{Why: "unreadable note of a damage", At: l.now().UTC()}
		if err := json.Unmarshal(b, d); err != nil {
			d.Aside = asidePrefix + d.At.Format(asideTime)
		}
		return d, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for a damage of the ledger: %w", err)
	}
	copies, err := l.copies()
	if err != nil {
		return nil, err
	}
	fi, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if len(copies) > 0 {
			return &Damage{Why: "the file is gone, copies of it are here", At: l.now().UTC()}, nil
		}
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for the ledger: %w", err)
	case fi.Size() == 0 && !exists(name+"-wal") && len(copies) == 0:
		return nil, nil // a first start that was killed
	}
	version, err := check(ctx, source(name, "rw", "busy_timeout(10000)"), len(steps))
	if why := broken(err); why != "" {
		return &Damage{Why: why, At: l.now().UTC()}, nil
	}
	if err != nil {
		return nil, err
	}
	if version == 0 && len(copies) > 0 {
		return &Damage{Why: "the file is empty, copies of it are not", At: l.now().UTC()}, nil
	}
	return nil, nil
}

// unsound is what quick_check says about a file.
type unsound string

func (u unsound) Error() string { return string(u) }

// broken says why a file cannot be used, "" if err says something else.
func broken(err error) string {
	if u, ok := errors.AsType[unsound](err); ok {
		return string(u)
	}
	if isCorrupt(err) {
		return err.Error()
	}
	return ""
}

// check opens a file, has it checked, and tells its schema.
func check(ctx context.Context, dsn string, newest int) (version int, err error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return 0, fmt.Errorf("open the ledger: %w", err)
	}
	defer db.Close()
	if version, err = schema(ctx, db, newest); err != nil {
		return 0, err
	}
	return version, quickCheck(plain{db}, `PRAGMA quick_check(3)`)
}

// quickCheck runs a check of SQLite. An unsound error is what it found.
func quickCheck(q querier, query string) error {
	var found []string
	err := each(q, func(r *sql.Rows) error {
		var s string
		if err := r.Scan(&s); err != nil {
			return err
		}
		if s != "ok" {
			found = append(found, strings.ReplaceAll(s, "\n", ", "))
		}
		return nil
	}, query)
	if err != nil {
		return fmt.Errorf("check the ledger: %w", err)
	}
	if len(found) > 0 {
		return unsound(strings.Join(found, "; "))
	}
	return nil
}

// plain is a querier without statements and transactions, for a file that is only looked at.
type plain struct{ db *sql.DB }

func (p plain) rows(query string, args ...any) (*sql.Rows, error) {
	return p.db.QueryContext(background, query, args...)
}

// schema tells the schema number of a file and refuses one that is not ours to read.
func schema(ctx context.Context, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, newest int) (int, error) {
	var version, app int
	if err := db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return 0, fmt.Errorf("read the schema number of the ledger: %w", err)
	}
	if err := db.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&app); err != nil {
		return 0, fmt.Errorf("read the mark of the ledger: %w", err)
	}
	if app != applicationID && (app != 0 || version != 0) {
		return 0, fmt.Errorf("%s is an SQLite file of another program (mark %#x): move it away", dbName, uint32(app))
	}
	if version > newest {
		return 0, fmt.Errorf("%w: it has schema %d and this one knows %d; use the newer program", ErrNewer, version, newest)
	}
	return version, nil
}

// migrate brings the ledger to the newest schema, one step per transaction. The file is copied before the first.
func (l *Ledger) migrate(ctx context.Context, steps []migration) error {
	version, err := schema(ctx, l.tx.conn, len(steps))
	if err != nil || version == len(steps) {
		return err
	}
	if version > 0 {
		if err := l.copyTo(ctx, bakPrefix+strconv.Itoa(version)); err != nil {
			return fmt.Errorf("copy the ledger before its schema changes: %w", err)
		}
	}
	groups := [][]migration{steps} // a new ledger is whole or not there: a second process may look at any moment
	if version > 0 {
		groups = nil
		for i := range steps[version:] {
			groups = append(groups, steps[version+i:version+i+1])
		}
	}
	for _, g := range groups {
		var text strings.Builder
		for _, m := range g {
			text.WriteString(m.sql + "\n")
		}
		to := g[len(g)-1].version
		script := fmt.Sprintf("BEGIN IMMEDIATE;\n%s\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;\nCOMMIT;", text.String(), applicationID, to)
		if _, err := l.tx.conn.ExecContext(ctx, script); err != nil {
			_, rerr := l.tx.conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
			if code(rerr) == 1 {
				rerr = nil // SQLite did it by itself
			}
			return errors.Join(fmt.Errorf("bring the ledger to schema %d: %w", to, explain(err)), rerr)
		}
		if version > 0 {
			l.log.Info().Int("schema", to).Msg("ledger migrated")
		}
	}
	return nil
}

// copy keeps the newest good state beside the ledger.
func (l *Ledger) copy(ctx context.Context) error { return l.copyTo(ctx, copyName) }

func (l *Ledger) copyTo(ctx context.Context, name string) error {
	temp := name + ".part"
	if err := l.dir.Remove(temp); err != nil {
		return err
	}
	err := func() error {
		if _, err := l.tx.conn.ExecContext(ctx, `VACUUM INTO ?`, l.dir.Abs(temp)); err != nil {
			return fmt.Errorf("copy the ledger: %w", explain(err))
		}
		f, err := l.dir.Edit(temp)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
		return l.dir.Rename(temp, name)
	}()
	if err != nil {
		return errors.Join(err, l.dir.Remove(temp))
	}
	return nil
}

// candidate is a copy of the ledger.
type candidate struct {
	name string
	at   time.Time
}

// copies lists what could be opened in the place of the ledger, newest first.
func (l *Ledger) copies() ([]candidate, error) {
	entries, err := os.ReadDir(l.dir.Path())
	if err != nil {
		return nil, fmt.Errorf("look for copies of the ledger: %w", err)
	}
	var out []candidate
	for _, e := range entries {
		_, err := strconv.Atoi(strings.TrimPrefix(e.Name(), bakPrefix))
		if e.Name() != copyName && (err != nil || !strings.HasPrefix(e.Name(), bakPrefix)) {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			continue // gone
		}
		out = append(out, candidate{e.Name(), fi.ModTime().UTC()})
	}
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.name, b.name))
	})
	return out, nil
}

const asideTime = "20060102T150405.000Z"

// restore keeps the damaged file under another name and puts the newest good copy in its place (K14). It may be broken
// off anywhere and is begun again by the next Open.
func (l *Ledger) restore(ctx context.Context, d *Damage, steps []migration) error {
	if !exists(l.dir.Abs(intentName)) {
		if exists(l.dir.Abs(dbName)) {
			d.Aside = asidePrefix + d.At.Format(asideTime)
		}
		b, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if err := l.dir.Replace(intentName, b); err != nil {
			return err
		}
	}
	if d.Aside != "" && !exists(l.dir.Abs(d.Aside)) {
		for _, suffix := range []string{"-shm", "-wal", ""} { // the file itself last: it says that all are away
			if exists(l.dir.Abs(dbName + suffix)) {
				if err := l.dir.Rename(dbName+suffix, d.Aside+suffix); err != nil {
					return err
				}
			}
		}
	}
	for _, suffix := range []string{"-shm", "-wal", ""} { // what an earlier try put there
		if err := l.dir.Remove(dbName + suffix); err != nil {
			return err
		}
	}
	copies, err := l.copies()
	if err != nil {
		return err
	}
	for _, c := range copies {
		version, err := check(ctx, source(l.dir.Abs(c.name), "ro")+"&immutable=1", len(steps))
		if err != nil || version == 0 {
			continue // not good either
		}
		b, err := os.ReadFile(l.dir.Abs(c.name))
		if err != nil {
			return fmt.Errorf("read %s: %w", c.name, err)
		}
		if err := l.dir.Replace(dbName, b); err != nil {
			return err
		}
		d.Copy, d.CopyAt = c.name, c.at
		break
	}
	l.log.Error().Str("kept", d.Aside).Str("opened", d.Copy).Str("why", d.Why).Msg("the ledger is damaged")
	return nil
}

const damageMark = "damage"

// mark keeps the damage in the ledger itself, so that no later start overlooks it.
func (l *Ledger) mark(ctx context.Context, d Damage) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = l.tx.conn.ExecContext(ctx, `INSERT OR REPLACE INTO marks (name, value, owner, epoch) VALUES (?, ?, ?, 0)`,
		damageMark, string(b), l.owner)
	if err != nil {
		return fmt.Errorf("keep in mind that the ledger was damaged: %w", explain(err))
	}
	return l.dir.Remove(intentName)
}

func (l *Ledger) marked(ctx context.Context) (*Damage, error) {
	var s string
	err := l.tx.conn.QueryRowContext(ctx, `SELECT value FROM marks WHERE name = ?`, damageMark).Scan(&s)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the marks of the ledger: %w", err)
	}
	var d Damage
	if err := json.Unmarshal([]byte(s), &d); err != nil {
		return nil, fmt.Errorf("read the marks of the ledger: %w", err)
	}
	return &d, nil
}

// accept goes on with a copy. What came after it is not known here, so no broadcast of before goes on: its next number
// may be taken on the disk and on the targets.
func (l *Ledger) accept(ctx context.Context) error {
	_, err := l.tx.conn.ExecContext(ctx, `BEGIN IMMEDIATE; UPDATE sessions SET fenced = 1 WHERE ended = 0; DELETE FROM marks WHERE name = '`+damageMark+`'; COMMIT;`)
	return explain(err)
}
