package recorder

import (
	"context"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
)

// Reopen goes on in the open part of seg and says what is in it: frames, bytes, the running hash. Zero frames: none.
func Reopen(dir *durable.Dir, seg segment.Segment) (frames, size int64, content uint64, err error) {
	p, _, err := reopen(dir, seg, note{})
	if err != nil || p == nil {
		return 0, 0, 0, err
	}
	defer p.file.Close()
	return p.count, p.file.Size(), p.content(), nil
}

// Finish brings a part to its end as recovery does.
func Finish(dir *durable.Dir, seg segment.Segment) (segment.Segment, bool, error) {
	return finish(context.Background(), dir, seg, segment.CutRecovered, note{})
}

// ReadNote reads a note; ok is false if there is none that can be used.
func ReadNote(b []byte) (seq uint32, last [2]int64, ok bool) {
	n, ok := readNote(b)
	return n.Seq, n.last(), ok
}
