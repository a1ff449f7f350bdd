package ledger

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Reader reads the ledger of a data folder while another process may be writing it. It creates no folder and changes
// nothing that anybody can see in the ledger.
type Reader struct {
	view
	path string
}

// OpenReader opens the ledger below the data folder at path for reading. ErrAbsent: there is none, and nothing was
// made. ErrNewer: it is newer than this program.
func OpenReader(path string) (*Reader, error) {
	name := filepath.Join(path, dbName)
	fi, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Size() == 0 && !exists(name+"-wal") {
		return nil, fmt.Errorf("open the ledger in %s: %w", path, ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("open the ledger in %s: %w", path, err)
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("open the ledger in %s: %w", path, err)
	}
	db, err := openReader(abs)
	if err != nil {
		return nil, err
	}
	newest := len(shipped())
	version, err := schema(background, db, newest)
	if code(err) == sqlite3.SQLITE_CANTOPEN && !exists(abs+"-wal") {
		// A folder in which this process may not make the index of the log. There is no log, so nobody writes.
		if err := db.Close(); err != nil {
			return nil, fmt.Errorf("open the ledger in %s: %w", path, err)
		}
		if db, err = sql.Open("sqlite", source(abs, "ro", "query_only(ON)")+"&immutable=1"); err != nil {
			return nil, fmt.Errorf("open the ledger in %s: %w", path, err)
		}
		version, err = schema(background, db, newest)
	}
	switch {
	case err != nil:
	case version == 0:
		err = ErrAbsent // its first start has not come that far
	case version < newest:
		err = fmt.Errorf("it has schema %d and this program reads %d: it is brought up to date when this liverec records next", version, newest)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the ledger in %s: %w", path, err), db.Close())
	}
	r := &Reader{path: path}
	r.serve(db, readers)
	return r, nil
}

// Running tells which process holds the data folder now; ok is false if none does.
func (r *Reader) Running() (pid int, since time.Time, ok bool) { return Running(r.path) }

// Close ends the reading.
func (r *Reader) Close() error { return r.view.close() }
