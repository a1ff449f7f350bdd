package flv

import (
	"errors"
	"fmt"
	"io"

	"github.com/liverec/liverec/pkg/media"
)

// ReadAll cuts a whole file of any origin into packets: no header or several, wrong sizes, rubbish between the tags or
// before them, an end in the middle of a tag. It gives up at nothing but the errors of r, which it names, and of take.
// take is called for each batch, in the order of the file; the batch is gone when it returns. cfg.Patient is taken as
// set.
//
// The memory is what a Demuxer needs, whatever the size of the file. Stats.Packets tells how many tags there were; for
// a file without any the error is ErrNotFLV.
func ReadAll(r io.Reader, cfg DemuxerConfig, take func(*media.Batch) error) (Stats, media.Count, error) {
	cfg.Patient = true
	d := NewDemuxer(cfg)
	var count media.Count
	hand := func(b *media.Batch) error {
		if b == nil {
			return nil
		}
		defer b.Release()
		count.Received += b.Count.Received
		count.Header += b.Count.Header
		count.Tags += b.Count.Tags
		count.Junk += b.Count.Junk
		count.Partial += b.Count.Partial
		return take(b)
	}
	var err error
	for err == nil {
		var b *media.Batch
		if b, err = d.Fill(r); err == nil {
			if err = hand(b); err != nil {
				if b := d.Close(); b != nil {
					b.Release()
				}
				return d.Stats(), count, err
			}
		}
	}
	tail := hand(d.Close())
	switch {
	case tail != nil:
		return d.Stats(), count, tail
	case !errors.Is(err, io.EOF):
		return d.Stats(), count, fmt.Errorf("read FLV behind %d bytes: %w", count.Received, err)
	case d.Stats().Packets == 0:
		return d.Stats(), count, ErrNotFLV
	}
	return d.Stats(), count, nil
}
