package uploader

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
)

// mostFiles is how many local files transport keeps open that nobody is reading now.
const mostFiles = 64

// files are the local files that are being sent, each opened once for all lanes. An open file survives the rename at the
// seal.
type files struct {
	dir *durable.Dir

	mu   sync.Mutex
	open map[name]*file
	tick int64
}

// name is what a file is found by: a copy that goes to one target in the place of the segment's own is another file.
type name struct {
	id   segment.ID
	path string
}

type file struct {
	f     *os.File
	users int
	used  int64 // tick of the last use
	over  bool  // nobody is to find it any more
}

func newFiles(dir *durable.Dir) *files {
	return &files{dir: dir, open: map[name]*file{}}
}

// take gives the file of a segment and what to call when it is not read any more.
func (c *files) take(s segment.Segment) (*os.File, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tick++
	n := name{s.ID, s.Path}
	e, ok := c.open[n]
	if !ok {
		f, err := c.find(s)
		if err != nil {
			return nil, nil, err
		}
		e = &file{f: f}
		c.open[n] = e
	}
	e.users++
	e.used = c.tick
	c.trim()
	return e.f, func() { c.give(e) }, nil
}

func (c *files) find(s segment.Segment) (*os.File, error) {
	if s.Foreign {
		return os.Open(s.Path)
	}
	names := [2]string{s.Path + segment.PartSuffix, s.Path}
	if s.Sealed {
		names[0], names[1] = names[1], names[0]
	}
	f, err := c.dir.Read(names[0])
	if errors.Is(err, fs.ErrNotExist) { // it is being sealed at this moment, or was recovered
		f, err = c.dir.Read(names[1])
	}
	return f, err
}

func (c *files) give(e *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.users--
	if e.over && e.users == 0 {
		e.f.Close() // it was only read
	}
	c.trim()
}

// trim closes the files that were not used for longest.
func (c *files) trim() {
	for len(c.open) > mostFiles {
		var oldest name
		var e *file
		for n, f := range c.open {
			if f.users == 0 && (e == nil || f.used < e.used) {
				oldest, e = n, f
			}
		}
		if e == nil {
			return
		}
		c.drop(oldest, e)
	}
}

// forget lets go of a segment: an open file would keep its room on the disk after reclaim has removed it.
func (c *files) forget(id segment.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, e := range c.open {
		if n.id == id {
			c.drop(n, e)
		}
	}
}

func (c *files) drop(n name, e *file) {
	delete(c.open, n)
	e.over = true
	if e.users == 0 {
		e.f.Close() // it was only read
	}
}

func (c *files) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, e := range c.open {
		c.drop(n, e)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// source is the body of one chunk: a section of the local file. It keeps our own trouble apart from the target's, counts
// what moves, and knows the sum of what was read. A transport may read from it for a moment after its call has ended.
type source struct {
	moved func(n int)

	file io.ReaderAt
	from int64 // of the chunk in it

	mu   sync.Mutex
	r    *io.SectionReader
	pos  int64
	sum  uint32
	good bool // sum is of everything before pos
	err  error
}

func newSource(f io.ReaderAt, c segment.Chunk, moved func(int)) *source {
	return &source{file: f, from: c.Offset, r: io.NewSectionReader(f, c.Offset, c.Length), moved: moved, good: true}
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.r.Read(p)
	if s.good {
		s.sum = crc32.Update(s.sum, castagnoli, p[:n])
	}
	s.pos += int64(n)
	switch {
	case err == io.EOF && s.pos < s.r.Size():
		err = fmt.Errorf("the local file is %d bytes shorter than it was: %w", s.r.Size()-s.pos, io.ErrUnexpectedEOF)
		s.err = err
	case err != nil && err != io.EOF:
		s.err = err
	}
	if n > 0 {
		s.moved(n)
	}
	return n, err
}

// Move implements FileBody. What is moved is not seen here: its sum is not known, the target's word counts.
func (s *source) Move(most int, send func(f *os.File, off int64, n int) (int, error)) (int, error) {
	s.mu.Lock()
	f, ok := s.file.(*os.File)
	from, size := s.pos, s.r.Size()
	s.mu.Unlock()
	switch {
	case !ok:
		return 0, errors.ErrUnsupported
	case from >= size:
		return 0, io.EOF
	}
	// Without the lock: a network may take its time, and only whoever holds the body moves it.
	n, err := send(f, s.from+from, int(min(int64(most), size-from)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > 0 {
		if _, serr := s.r.Seek(from+int64(n), io.SeekStart); err == nil {
			err = serr
		}
		s.pos, s.good = from+int64(n), false
		s.moved(n)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the local file is %d bytes shorter than it was: %w", size-s.pos, io.ErrUnexpectedEOF)
		s.err = err
	}
	return n, err
}

func (s *source) Seek(off int64, whence int) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pos, err := s.r.Seek(off, whence)
	if err == nil && pos != s.pos {
		// Sums are taken of whole passes; whoever jumps about is trusted.
		s.pos, s.good, s.sum = pos, pos == 0, 0
	}
	return pos, err
}

// trouble is what went wrong while reading the local file.
func (s *source) trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// checksum is the CRC-32C of the chunk if the last pass read all of it.
func (s *source) checksum() (uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum, s.good && s.pos == s.r.Size()
}
