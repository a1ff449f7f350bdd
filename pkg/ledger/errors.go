package ledger

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/liverec/liverec/pkg/segment"
)

var (
	// ErrRefused says that the record does not follow from what the ledger knows. Nothing was changed.
	ErrRefused = errors.New("refused")
	// ErrUnknown says that there is no such broadcast, part, delivery or target.
	ErrUnknown = errors.New("not in the ledger")
	// ErrAmbiguous says that a prefix fits more than one broadcast.
	ErrAmbiguous = errors.New("more than one broadcast begins like this")
	// ErrDiskFull says that the disk had no room for the record. It wraps syscall.ENOSPC. The ledger stays usable.
	ErrDiskFull = fmt.Errorf("disk full: %w", syscall.ENOSPC)
	// ErrDisk says that the disk could not write or sync the record. It wraps syscall.EIO. The ledger stays usable.
	ErrDisk = fmt.Errorf("disk error: %w", syscall.EIO)
	// ErrDead says that the ledger was closed, or fell at the crash seam.
	ErrDead = errors.New("the ledger is closed")
	// ErrFenced says that another process has opened the ledger since (its lock file was removed). This one must not
	// write any more.
	ErrFenced = errors.New("another process has taken over the ledger")
	// ErrNewer says that a newer liverec wrote the ledger.
	ErrNewer = errors.New("the ledger was written by a newer liverec")
	// ErrAbsent says that there is no ledger in the folder.
	ErrAbsent = errors.New("there is no ledger")
)

// Locked is the error of Open while another process holds the data folder.
type Locked struct {
	Path  string // the data folder
	PID   int    // 0 if the lock file does not tell
	Host  string
	Since time.Time
}

func (e *Locked) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the data folder %s belongs to a running liverec", e.Path)
	if e.PID != 0 {
		fmt.Fprintf(&b, " (process %d", e.PID)
		if e.Host != "" {
			fmt.Fprintf(&b, " on %s", e.Host)
		}
		if !e.Since.IsZero() {
			fmt.Fprintf(&b, ", since %s", e.Since.UTC().Format(time.RFC3339))
		}
		b.WriteString(")")
	}
	return b.String()
}

// Damage is the error of every record, and what Damaged tells, after the ledger file was found corrupt (K14). What
// may be read is the newest good copy, or nothing; what happened after that copy is known only to the disk and to the
// targets. Open with Config.Accept once a person has agreed to go on.
type Damage struct {
	Why    string    `json:"why"`             // what the check said
	Aside  string    `json:"aside,omitempty"` // what the damaged file is called now, "" if it was gone
	Copy   string    `json:"copy,omitempty"`  // the copy that was opened, "" if none was good: the ledger is empty
	CopyAt time.Time `json:"copy_at"`         // when the copy was made
	At     time.Time `json:"at"`              // when the damage was found
}

func (e *Damage) Error() string {
	s := "the ledger is damaged (" + e.Why + ")"
	if e.Aside != "" {
		s += "; it was kept as " + e.Aside
	}
	if e.Copy == "" {
		return s + "; there is no good copy, so nothing is known: nothing is written before somebody agrees"
	}
	return s + fmt.Sprintf("; %s of %s is read in its place: nothing is written before somebody agrees",
		e.Copy, e.CopyAt.UTC().Format(time.RFC3339))
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

func unknown(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrUnknown)
}

func noPart(id segment.ID) error { return unknown("part %s", id) }

// code is the primary result code of an SQLite error, 0 for any other.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

func isFull(err error) bool {
	return code(err) == sqlite3.SQLITE_FULL || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func isDisk(err error) bool {
	return code(err) == sqlite3.SQLITE_IOERR || errors.Is(err, syscall.EIO)
}

func isCorrupt(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB
}

// explain puts the word for a person in front of an error of the disk.
func explain(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrDiskFull), errors.Is(err, ErrDisk):
		return err
	case isFull(err):
		return fmt.Errorf("%w (%v)", ErrDiskFull, err)
	case isDisk(err):
		return fmt.Errorf("%w (%v)", ErrDisk, err)
	}
	return err
}
