package hlspull

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"unsafe"

	"github.com/liverec/liverec/pkg/durable"
)

// What is too large for memory lies in a file without a name that looks like memory. A disk can fail under it, and then
// whoever touches it is struck by a signal that ends the process, unless the goroutine asked to be told: all of them are
// inside guard when they read or write a block. What the disk may refuse is asked for before, and what was written is
// settled before anybody relies on it.

var (
	// errSpool says that the disk has no place for a segment.
	errSpool = errors.New("it is too large for memory, and there is no place on the disk")
	// errFault says that the disk did not keep what was written.
	errFault = errors.New("it is too large for memory, and the disk failed under it")
)

// spool gives a block of n bytes in a file. All of them are reserved before it is given out.
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
	f, b, err := spoolFile(m.dir, n)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.disk -= n
		return nil, fmt.Errorf("%w: %w", errSpool, err)
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	m.mapped[m.maps%len(m.mapped)] = stretch{from, from + uintptr(n)}
	m.maps++
	x := &block{m: m, b: b, file: f}
	x.refs.Store(1)
	return x, nil
}

func spoolFile(dir string, n int) (*os.File, []byte, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := durable.Nameless(dir)
	if err != nil {
		return nil, nil, err
	}
	err = durable.Reserve(f, int64(n))
	var b []byte
	if err == nil {
		b, err = mapped(f, n)
	}
	if err != nil {
		f.Close() // nothing was written
		return nil, nil, err
	}
	return f, b, nil
}

// settle waits until the disk has what was written into a block: what it could not take is known then. In memory there is
// nothing to wait for.
func (b *block) settle() error {
	if b == nil || b.file == nil {
		return nil
	}
	if err := b.file.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errFault, err)
	}
	return nil
}

// stretch is a piece of the address space.
type stretch struct{ from, to uintptr }

// guard runs f, which touches what lies in files: where the disk fails under it, f ends there and errFault is returned. Any
// other panic goes on.
func (m *memory) guard(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		at, ok := p.(interface{ Addr() uintptr })
		if !ok || !m.had(at.Addr()) {
			panic(p)
		}
		err = errFault
	}()
	f()
	return nil
}

// had reports whether an address is, or lately was, one of a file.
func (m *memory) had(at uintptr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.mapped {
		if at >= s.from && at < s.to {
			return true
		}
	}
	return false
}
