package uploader

import (
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/liverec/liverec/pkg/segment"
)

// The body of a chunk may be moved, read, and both: it is counted once, and its sum is known only if all was read.
func TestABodyIsMovedOrRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "P0001.flv")
	text := "0123456789abcdefghij"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	counted := 0
	s := newSource(f, segment.Chunk{Offset: 5, Length: 10}, func(n int) { counted += n })
	var got strings.Builder
	send := func(f *os.File, off int64, n int) (int, error) {
		k, err := io.Copy(&got, io.NewSectionReader(f, off, int64(min(n, 3))))
		return int(k), err
	}
	if n, err := s.Move(8, send); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := io.CopyN(&got, s, 2); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := s.Move(8, send)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got.String() != text[5:15] || counted != 10 {
		t.Errorf("%q, %d bytes were counted", got.String(), counted)
	}
	if sum, ok := s.checksum(); ok {
		t.Errorf("the sum of what was not seen is %08x", sum)
	}
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Move(8, func(*os.File, int64, int) (int, error) { return 0, errors.ErrUnsupported }); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		t.Fatal(err)
	}
	if sum, ok := s.checksum(); !ok || sum != crc32.Checksum([]byte(text[5:15]), castagnoli) || s.trouble() != nil {
		t.Errorf("sum %08x, known: %v, trouble %v", sum, ok, s.trouble())
	}

	short := newSource(f, segment.Chunk{Offset: 15, Length: 10}, func(int) {})
	if _, err := short.Move(8, func(*os.File, int64, int) (int, error) { return 0, io.ErrUnexpectedEOF }); err == nil || short.trouble() == nil {
		t.Errorf("a file that is too short: %v, trouble %v", err, short.trouble())
	}
	if _, err := newSource(strings.NewReader(text), segment.Chunk{Length: 10}, func(int) {}).Move(8, send); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("what is no file: %v", err)
	}
}
