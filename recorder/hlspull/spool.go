package hlspull

import (
	"fmt"
	"os"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
)

// spool gives a block of n bytes that is a file without a name: the system keeps in memory what it has room for. All of
// its bytes are on the disk before it is given out, so that none can be refused later, when there would be nobody to tell.
func (m *memory) spool(n int) (*block, error) {
	m.mu.Lock()
	full := m.disk+n > MaxSpool
	if !full {
		m.disk += n
	}
	m.mu.Unlock()
	if full {
		return nil, errDisk
	}
	b, err := spoolFile(m.dir, n)
	if err != nil {
		m.mu.Lock()
		m.disk -= n
		m.mu.Unlock()
		return nil, fmt.Errorf("%w, and no place on the disk: %w", fetch.ErrTooLarge, err)
	}
	x := &block{m: m, b: b, file: true}
	x.refs.Store(1)
	return x, nil
}

func spoolFile(dir string, n int) ([]byte, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := durable.Nameless(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	zeros := make([]byte, 1<<20)
	for at := 0; at < n; {
		w, err := f.Write(zeros[:min(len(zeros), n-at)])
		if at += w; err != nil {
			return nil, fmt.Errorf("reserve %d bytes: %w", n, err)
		}
	}
	return mapped(f, n)
}
