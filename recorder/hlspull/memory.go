package hlspull

import (
	"errors"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/recorder/hlspull/fetch"
)

// memory is what bodies of segments lie in, and what is made of them. It is counted while somebody has it, and kept for a
// while after that: segments are much alike in size, and fresh memory costs as much as copying into it.
type memory struct {
	bell func() // rung when something was given back; may be called by anybody, at any time
	dir  string // where segments go that are too large for it

	mu    sync.Mutex
	used  int // of blocks that somebody has
	disk  int // of those that are files
	spare []spare
	idle  int // of spare
	// where files were, the newest ones: no more are there at once
	mapped [MaxSpool/MaxHeld + 1]stretch
	maps   int
}

// spare is memory that nobody has.
type spare struct {
	b     []byte
	since time.Time
}

const (
	// mostSpare and spareLife are how much is kept, and for how long.
	mostSpare = 16 << 20
	spareLife = 30 * time.Second
	// least is the smallest block.
	least = 64 << 10
)

// block is one piece of memory. Whoever has it drops it once; who hands it to several holds it for each of them.
type block struct {
	m    *memory
	b    []byte
	file *os.File // not nil: b is this file, which looks like memory
	refs atomic.Int32
}

// errMemory says that there is no room for a segment now.
var errMemory = errors.New("no memory for another segment")

// errDisk says that others are on the disk now that have no place in memory.
var errDisk = errors.New("other segments are as large")

// get gives a block of at least n bytes if all of them together are no more than limit then.
func (m *memory) get(n, limit int) (*block, error) {
	n = rounded(n)
	if n > MaxHeld {
		return m.spool(n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := -1
	for i := range m.spare {
		if have := cap(m.spare[i].b); have >= n && have <= 2*n && (at < 0 || have < cap(m.spare[at].b)) {
			at = i
		}
	}
	if at >= 0 && m.used+cap(m.spare[at].b) > limit {
		at = -1
	}
	if at < 0 && m.used+n > limit {
		return nil, errMemory
	}
	var b []byte
	if at >= 0 {
		b = m.take(at)
	} else {
		for len(m.spare) > 0 && m.used+n+m.idle > MaxMemory {
			m.take(0)
		}
		b = make([]byte, n)
	}
	m.used += cap(b)
	x := &block{m: m, b: b[:cap(b)]}
	x.refs.Store(1)
	return x, nil
}

// rounded makes sizes that are much alike the same: it gives away an eighth at the most.
func rounded(n int) int {
	n = max(n, least)
	step := max(1<<(bits.Len(uint(n))-4), 1)
	return (n + step - 1) / step * step
}

// take takes one out of spare.
func (m *memory) take(i int) []byte {
	b := m.spare[i].b
	m.idle -= cap(b)
	m.spare[i].b = nil
	m.spare = append(m.spare[:i], m.spare[i+1:]...)
	return b
}

// charge counts n bytes that are in no block; with n below 0 they are gone.
func (m *memory) charge(n int) {
	m.mu.Lock()
	m.used += n
	m.mu.Unlock()
}

// hold makes one more have it.
func (b *block) hold() { b.refs.Add(1) }

// drop gives it back, unless somebody else has it still. nil has nothing to give.
func (b *block) drop() {
	if b == nil {
		return
	}
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("hlspull: memory was given back twice")
	}
	m := b.m
	m.mu.Lock()
	if b.file != nil {
		m.disk -= len(b.b)
		unmap(b.b)
		b.file.Close() // nobody wants to know any more how its writing went
	} else {
		m.used -= cap(b.b)
		now := time.Now()
		m.spare = append(m.spare, spare{b.b, now})
		m.idle += cap(b.b)
		for len(m.spare) > 0 && (m.idle > mostSpare || m.used+m.idle > MaxMemory || now.Sub(m.spare[0].since) > spareLife) {
			m.take(0)
		}
	}
	b.b = nil
	m.mu.Unlock()
	m.bell()
}

func (m *memory) now() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// desk is the memory of one try: what is left on it at the end is given back.
type desk struct {
	m      *memory
	limit  int
	blocks []*block
}

var _ fetch.Memory = (*desk)(nil)

// Get gives memory.
func (d *desk) Get(n int) ([]byte, error) {
	if n > MaxSegment+1 {
		return nil, fetch.ErrTooLarge
	}
	b, err := d.m.get(n, d.limit)
	if err != nil {
		return nil, err
	}
	d.blocks = append(d.blocks, b)
	return b.b, nil
}

// Put takes it back.
func (d *desk) Put(b []byte) { d.keep(b).drop() }

// keep takes off the desk what b lies in: whoever asks has it now. Slices of one block have the same end.
func (d *desk) keep(b []byte) *block {
	if cap(b) == 0 {
		return nil
	}
	for i, x := range d.blocks {
		if len(x.b) > 0 && &x.b[len(x.b)-1] == &b[:cap(b)][cap(b)-1] {
			d.blocks = append(d.blocks[:i], d.blocks[i+1:]...)
			return x
		}
	}
	return nil
}

// clear gives back what is left.
func (d *desk) clear() {
	for _, b := range d.blocks {
		b.drop()
	}
	d.blocks = nil
}
