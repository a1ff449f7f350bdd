package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/liverec/liverec/pkg/backoff"
)

// lockName is the file whose flock says that a process holds the data folder. It stays when the process is gone; only
// the flock counts.
const lockName = "lock"

// holder is what stands in the lock file.
type holder struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Host    string    `json:"host"`
	Epoch   int64     `json:"epoch"` // highest epoch that ever wrote here; survives a lost ledger.db
}

type lock struct{ f *os.File }

// take locks the folder. It answers with what the former holder left.
func take(ctx context.Context, dir string) (*lock, holder, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, holder{}, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	// A reader that asks whether anybody is here holds a shared lock for a moment: do not take it for an owner.
	for try := 0; ; try++ {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, holder{}, fmt.Errorf("lock the data folder %s: %w", dir, err)
		}
		if try == 4 || !backoff.Sleep(ctx, 20*time.Millisecond) {
			h, _ := readHolder(f)
			f.Close()
			return nil, holder{}, &Locked{Path: dir, PID: h.PID, Host: h.Host, Since: h.Started}
		}
	}
	h, _ := readHolder(f) // unreadable: a crash came while it was written; it only tells a story
	return &lock{f}, h, nil
}

// write says who holds the folder.
func (l *lock) write(h holder) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	// Longer content is written over first and cut afterwards, so that a full disk still takes it.
	if _, err := l.f.WriteAt(append(b, '\n'), 0); err != nil {
		return fmt.Errorf("write the lock of the data folder: %w", err)
	}
	if err := l.f.Truncate(int64(len(b) + 1)); err != nil {
		return fmt.Errorf("write the lock of the data folder: %w", err)
	}
	return nil
}

func (l *lock) release() error { return l.f.Close() } // the flock goes with the last descriptor

func readHolder(f io.ReaderAt) (holder, error) {
	b := make([]byte, 4096)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return holder{}, err
	}
	var h holder
	if err := json.Unmarshal(b[:n], &h); err != nil {
		return holder{}, err
	}
	return h, nil
}

// Running tells which process holds the data folder at path now; ok is false if none does. It changes nothing.
func Running(path string) (pid int, since time.Time, ok bool) {
	f, err := os.Open(filepath.Join(path, lockName))
	if err != nil {
		return 0, time.Time{}, false
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, time.Time{}, false // nobody has it; what we took goes with the descriptor
	}
	h, _ := readHolder(f)
	return h.PID, h.Started, true
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}
