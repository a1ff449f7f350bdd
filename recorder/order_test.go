package recorder_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/segment"
)

// A part that was closed is on the disk before the ledger hears of anything that came after it, however slow its sync
// is: else a power cut could take its end and leave the part after it.
func TestI2_APartIsSyncedBeforeTheNextOneIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: 16 * time.Second})
		r.cfg.Segment, r.cfg.Once = 5*time.Second, true
		size := func(name string) int64 {
			if fi, err := os.Stat(filepath.Join(r.path, filepath.FromSlash(name))); err == nil {
				return fi.Size()
			}
			return 0
		}
		var mu sync.Mutex
		synced, closed := map[string]int64{}, map[string]int64{} // bytes by the name of the file
		newest := ""
		r.open(func(op durable.Op, name string) error {
			if !strings.HasPrefix(name, "media/") || !strings.HasSuffix(name, segment.PartSuffix) {
				return nil
			}
			switch op {
			case durable.OpCreate:
				mu.Lock()
				if newest != "" {
					closed[newest] = size(newest)
				}
				newest = name
				mu.Unlock()
			case durable.OpSync:
				n := size(name)
				time.Sleep(300 * time.Millisecond)
				mu.Lock()
				synced[name] = max(synced[name], n)
				mu.Unlock()
			}
			return nil
		})
		told := 0
		r.journal.Fail = func(_ context.Context, method string) error {
			mu.Lock()
			defer mu.Unlock()
			if method != "Extend" {
				return nil
			}
			told++
			for name, n := range closed {
				if synced[name] < n {
					t.Errorf("the ledger is told more, and of %s %d bytes of %d are on the disk", name, synced[name], n)
				}
			}
			return nil
		}
		r.room.Start(t.Context())
		r.start()
		r.wait()
		if len(closed) < 3 || told < 6 {
			t.Errorf("%d parts were closed, the ledger was told %d times", len(closed), told)
		}
	})
}
