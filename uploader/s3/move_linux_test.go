package s3

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

// filed is a body that lies in a file. It counts what is read of it, and what is moved.
type filed struct {
	*io.SectionReader
	f           *os.File
	from        int64
	refuse      int // so many bytes before the end it does not want to be moved any more
	read, moved int
}

var _ uploader.FileBody = (*filed)(nil)

func (b *filed) Read(p []byte) (int, error) {
	n, err := b.SectionReader.Read(p)
	b.read += n
	return n, err
}

func (b *filed) Move(most int, send func(f *os.File, off int64, n int) (int, error)) (int, error) {
	pos, err := b.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	left := b.Size() - pos
	if left == 0 {
		return 0, io.EOF
	}
	if left <= int64(b.refuse) {
		return 0, errors.ErrUnsupported
	}
	n, err := send(b.f, b.from+pos, int(min(left, int64(most))))
	b.moved += n
	_, serr := b.Seek(int64(n), io.SeekCurrent)
	return n, errors.Join(err, serr)
}

// A body that lies in a file goes to the network without passing through our hands; one that changes its mind on the
// way is read from there on. Either way the store gets the same bytes.
func TestFilesAreMoved(t *testing.T) {
	const size, chunk = 12 << 20, 5 << 20
	data := make([]byte, size)
	src := rand.NewChaCha8([32]byte{1})
	if _, err := src.Read(data); err != nil {
		t.Fatal(err)
	}
	local := filepath.Join(t.TempDir(), "P0001.flv")
	if err := os.WriteFile(local, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(local)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		name   string
		refuse int
	}{{"all of it", 0}, {"but the end", 1<<20 + 17}} {
		t.Run(c.name, func(t *testing.T) {
			fake := newFake(t)
			target := fake.target(t)
			o := segment.Object{ID: segment.ID{Session: "01J", Seq: 1}, Key: "a/P0001.flv", Local: local, Size: size, MaxSize: size, SHA256: sha256.Sum256(data), Chunk: chunk}
			up, err := target.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			var acks []segment.Ack
			read, moved := 0, 0
			for off := int64(0); off < size; off += chunk {
				n := min(chunk, size-off)
				b := &filed{SectionReader: io.NewSectionReader(f, off, n), f: f, from: off, refuse: c.refuse}
				a, err := up.Put(t.Context(), segment.Chunk{Index: len(acks), Offset: off, Length: n}, b)
				if err != nil {
					t.Fatal(err)
				}
				acks, read, moved = append(acks, a), read+b.read, moved+b.moved
			}
			if _, err := up.Commit(t.Context(), o, acks); err != nil {
				t.Fatal(err)
			}
			if got := fake.get("a/P0001.flv"); got == nil || !bytes.Equal(got.data, data) {
				t.Error("the store has other bytes")
			}
			if read+moved != size || moved < size/2 || (read > 0) != (c.refuse > 0) {
				t.Errorf("%d bytes were read and %d moved, of %d", read, moved, size)
			}
		})
	}
}

// A file that has become shorter ends the body at once; whose trouble that is, the body knows.
func TestAMovedFileMayBeTooShort(t *testing.T) {
	local := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(local, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(local)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fake := newFake(t)
	target := fake.target(t)
	up, err := target.Open(t.Context(), segment.Object{ID: segment.ID{Session: "01J", Seq: 1}, Key: "a/P0001.flv", Size: -1, MaxSize: 10 << 20, Chunk: 5 << 20})
	if err != nil {
		t.Fatal(err)
	}
	zeros := bytes.NewReader(make([]byte, 2000)) // what the checksum is made from
	b := &lying{filed{SectionReader: io.NewSectionReader(zeros, 0, 2000), f: f}}
	if _, err := up.Put(t.Context(), segment.Chunk{Index: 0, Offset: 0, Length: 2000}, b); err == nil || b.moved != 1000 {
		t.Errorf("%d bytes were moved: %v", b.moved, err)
	}
}

// lying says what its file does not hold.
type lying struct{ filed }
