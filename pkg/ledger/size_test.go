package ledger

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/liverec/liverec/pkg/segment"
)

// A million chunks in two hundred parts leave a ledger of two hundred parts: acks go with the proof.
func TestMillionAcksLeaveASmallLedger(t *testing.T) {
	parts, chunks := 200, 5000
	if slowly {
		parts, chunks = 4, 100
	} else if testing.Short() || os.Getenv("LIVEREC_LONG") == "" {
		parts, chunks = 20, 500 // the same in small; LIVEREC_LONG=1 for the whole million
	}
	path := data(t)
	l := opened(t, config(t, path))
	aim(t, l, segment.Destination{ID: s3, Required: true})
	s := enter(t, l, "million").Session.ID
	for seq := range uint32(parts) {
		p := seal(t, l, begin(t, l, s, seq+1))
		deliverTo(t, l, s3, p, segment.Uploading)
		var wg sync.WaitGroup
		for w := range 64 {
			wg.Go(func() {
				for i := w; i < chunks; i += 64 {
					if err := l.Acked(t.Context(), s3, p.ID, ack(i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		must(t, l.Committing(t.Context(), s3, p.ID))
		must(t, l.Committed(t.Context(), s3, p.ID, segment.Receipt{Key: "k", Size: p.Size, Tag: "0123456789abcdef0123456789abcdef-500"}))
		must(t, l.Verified(t.Context(), s3, p.ID, proof(p)))
	}
	records, commits := l.Stats()
	must(t, l.Close())
	size := func(name string) int64 {
		fi, err := os.Stat(filepath.Join(path, name))
		must(t, err)
		return fi.Size()
	}
	db, small := size(dbName), size(copyName)
	t.Logf("%d acks in %d records and %d commits: ledger %d kB, copied %d kB", parts*chunks, records, commits, db>>10, small>>10)
	if limit := int64(200_000 + parts*1000); small > limit {
		t.Errorf("the copy has %d bytes, more than %d", small, limit)
	}
	if limit := int64(200_000 + parts*1000 + chunks*150); db > limit { // room for the acks of one part
		t.Errorf("the ledger has %d bytes, more than %d", db, limit)
	}
}
