package uploader_test

import (
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

func TestSumsOfChunks(t *testing.T) {
	const block = 64 << 10
	name := filepath.Join(t.TempDir(), "film.flv")
	data := make([]byte, 5*block+777)
	rand.NewChaCha8([32]byte{1}).Read(data)
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	info := func() os.FileInfo {
		t.Helper()
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return fi
	}
	var sums uploader.Sums
	w, keep := sums.Learn(name, info())
	for rest := data; len(rest) > 0; { // in bites that do not fit the blocks
		n := min(len(rest), 10_007)
		w.Write(rest[:n])
		rest = rest[n:]
	}
	whole := segment.Chunk{Length: int64(len(data))}
	if _, ok := sums.Of(name, info(), whole); ok {
		t.Error("known before it was kept")
	}
	keep()
	for _, c := range []struct {
		off, n int64
		ok     bool
	}{
		{0, int64(len(data)), true}, {0, block, true}, {block, 3 * block, true}, {4 * block, block + 777, true}, {5 * block, 777, true},
		{0, 100, false}, {100, block, false}, {0, 0, false}, {5 * block, 778, false}, {-block, block, false},
	} {
		sum, ok := sums.Of(name, info(), segment.Chunk{Offset: c.off, Length: c.n})
		if ok != c.ok {
			t.Errorf("%d bytes at %d: known %v", c.n, c.off, ok)
		}
		if ok && sum != crc32.Checksum(data[c.off:c.off+c.n], crc32.MakeTable(crc32.Castagnoli)) {
			t.Errorf("%d bytes at %d: %08x", c.n, c.off, sum)
		}
	}
	if _, ok := sums.Of(name+"x", info(), whole); ok {
		t.Error("another file")
	}
	if _, ok := (*uploader.Sums)(nil).Of(name, info(), whole); ok {
		t.Error("no sums")
	}

	old := info()
	if err := os.Chtimes(name, time.Time{}, old.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, ok := sums.Of(name, info(), whole); ok {
		t.Error("the file was written to since")
	}
	short, keepShort := sums.Learn("short", old)
	short.Write(data[:10])
	keepShort()
	if _, ok := sums.Of("short", old, segment.Chunk{Length: 10}); ok {
		t.Error("a file that was not read to its end")
	}
}
