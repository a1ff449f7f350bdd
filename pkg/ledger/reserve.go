package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"github.com/liverec/liverec/pkg/durable"
)

const (
	reserveName  = "reserve"
	reserveSize  = 4 << 20
	reserveSlice = 1 << 20
)

// level says how much of the reserve a record may take when the disk is full.
type level uint8

const (
	grows level = iota // asks for more media: takes nothing
	keeps              // says what became of media that is here: takes half
	frees              // leads to a removal: takes all
)

// reserve is space that is given up, slice by slice, when the disk is full, so that the records which free the disk
// get through. Only the writer goroutine uses it.
type reserve struct {
	dir  *durable.Dir
	size int64
	last time.Time // of the last try to make it whole
}

// fill makes the reserve whole. It is made of noise, since a file system may store zeros in no space at all.
func (r *reserve) fill() error {
	f, err := r.dir.Edit(reserveName)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = r.dir.Create(reserveName)
	}
	if err != nil {
		return fmt.Errorf("open the reserve: %w", err)
	}
	defer f.Close()
	if f.Size() > reserveSize {
		if err := f.Truncate(reserveSize); err != nil {
			return err
		}
	}
	r.size = f.Size()
	if r.size == reserveSize {
		return nil
	}
	noise := rand.NewChaCha8([32]byte{byte(r.size >> 20)})
	block := make([]byte, 256<<10)
	for f.Size() < reserveSize {
		noise.Read(block) // it always fills it
		if _, err := f.Write(block[:min(int64(len(block)), reserveSize-f.Size())]); err != nil {
			// What was written of it would be worth nothing and would only make the disk fuller.
			return errors.Join(fmt.Errorf("make the reserve: %w", err), f.Truncate(r.size))
		}
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("make the reserve: %w", err), f.Truncate(r.size))
	}
	r.size = reserveSize
	return nil
}

// give frees one slice, if a record of that level may have it.
func (r *reserve) give(l level) bool {
	var floor int64
	switch l {
	case frees:
	case keeps:
		floor = reserveSize / 2
	default:
		return false
	}
	if r.size <= floor {
		return false
	}
	f, err := r.dir.Edit(reserveName)
	if err != nil {
		r.size = 0
		return false
	}
	defer f.Close()
	n := max(floor, r.size-reserveSlice)
	if err := f.Truncate(n); err != nil {
		return false
	}
	r.size = n
	return true
}

// mend makes the reserve whole again once there is ample space, looking at most every ten seconds.
func (r *reserve) mend(now time.Time) error {
	if r.size == reserveSize || now.Sub(r.last) < 10*time.Second && now.After(r.last) {
		return nil
	}
	r.last = now
	var st unix.Statfs_t
	if err := unix.Statfs(r.dir.Path(), &st); err != nil {
		return nil // not known, so not ample
	}
	if free := uint64(st.Bavail) * uint64(st.Bsize); free < 3*reserveSize {
		return nil
	}
	return r.fill()
}
