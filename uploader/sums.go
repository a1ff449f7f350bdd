package uploader

import (
	"hash/crc32"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// sumBlock is how much of a file one remembered sum covers. Chunks begin at multiples of it (roundTo).
const sumBlock = 64 << 10

// Sums remembers CRC-32Cs of local files that were read through for another reason in this process, so that a chunk
// need not be read once more before it is sent: 4 bytes for each 64 KiB, 64 KiB for a GB. They say what a file was when
// it was read; where it has changed since, the store refuses the chunk. The zero value is empty; a nil *Sums stays so.
type Sums struct {
	mu    sync.Mutex
	files map[string]fileSums
}

type fileSums struct {
	size int64
	mod  time.Time
	crcs []uint32 // of each block; the last one may be short
}

// Learn gives a writer that is to see all of the file name, from the beginning, and keep, which remembers what it saw
// if that is all that info (of before the reading) promises.
func (s *Sums) Learn(name string, info fs.FileInfo) (w io.Writer, keep func()) {
	b := &blocks{}
	return b, func() {
		if s == nil || b.size != info.Size() {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.files == nil {
			s.files = map[string]fileSums{}
		}
		s.files[name] = fileSums{b.size, info.ModTime(), b.crcs}
	}
}

// Of is the CRC-32C of a chunk of the file name. ok is false if it is not known, or if info is of another file than the
// one that was read.
func (s *Sums) Of(name string, info fs.FileInfo, c segment.Chunk) (sum uint32, ok bool) {
	if s == nil {
		return 0, false
	}
	s.mu.Lock()
	f, ok := s.files[name]
	s.mu.Unlock()
	end := c.Offset + c.Length
	if !ok || info.Size() != f.size || !info.ModTime().Equal(f.mod) || c.Length <= 0 || c.Offset < 0 || end > f.size ||
		c.Offset%sumBlock != 0 || end%sumBlock != 0 && end != f.size {
		return 0, false
	}
	for off := c.Offset; off < end; off += sumBlock {
		sum = join(sum, f.crcs[off/sumBlock], min(sumBlock, end-off))
	}
	return sum, true
}

// blocks sums what is written to it, block by block.
type blocks struct {
	size int64
	crcs []uint32
}

func (b *blocks) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if b.size%sumBlock == 0 {
			b.crcs = append(b.crcs, 0)
		}
		k := min(int64(len(p)), sumBlock-b.size%sumBlock)
		last := &b.crcs[len(b.crcs)-1]
		*last = crc32.Update(*last, castagnoli, p[:k])
		b.size += k
		p = p[k:]
	}
	return n, nil
}

// shift is a linear map over GF(2): column i is what becomes of bit i of a sum.
type shift [32]uint32

func (m *shift) of(v uint32) (r uint32) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		r ^= m[i] & -(v & 1)
	}
	return r
}

// zeros is what n bytes of zero do to a sum that was begun at 0 and is not inverted.
func zeros(n int64) shift {
	var bit, all shift // one bit of zero; what is gathered
	bit[0] = crc32.Castagnoli
	for i := range 31 {
		bit[i+1] = 1 << i
	}
	for i := range all {
		all[i] = 1 << i
	}
	for n *= 8; n > 0; n >>= 1 {
		if n&1 != 0 {
			for i := range all {
				all[i] = bit.of(all[i])
			}
		}
		var twice shift
		for i := range twice {
			twice[i] = bit.of(bit[i])
		}
		bit = twice
	}
	return all
}

var wholeBlock = sync.OnceValue(func() shift { return zeros(sumBlock) })

// join is the sum of two stretches from the sums of each; n is the length of the second one, at most a block.
func join(a, b uint32, n int64) uint32 {
	m := wholeBlock()
	if n != sumBlock {
		m = zeros(n)
	}
	return m.of(a) ^ b
}
