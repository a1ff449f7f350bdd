package uploader_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
	"github.com/liverec/liverec/uploader/wrap"
)

// On a target whose list is the proof a whole object is stored and no more: not due, not verified, and told to control.
func TestAListedTargetStoresOnly(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		limits := chunked
		limits.Listed = true
		for i := range 3 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 500), mem)
		}
		remote := targettest.NewRemote(limits)
		r := h.start(uploader.Config{}, remote.Target(mem))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for seq := range uint32(3) {
			row := h.book.row(mem, segment.ID{Session: "01A", Seq: seq + 1})
			if row.State != segment.Committed || row.Stored.IsZero() || !row.Listable() {
				t.Errorf("part %d: %+v", seq+1, row)
			}
		}
		sent := len(remote.Accepted())
		time.Sleep(time.Minute) // nothing is sent or asked again
		if n := len(remote.Accepted()); n != sent {
			t.Errorf("%d chunks were sent again", n-sent)
		}
		if n, _ := r.Left(); n != 0 {
			t.Errorf("%d parts are left to transport", n)
		}
		r.drain()
	})
}

// A delivery with a copy sends the copy, and the other targets of the part its own file: also from one process.
func TestACopyInTheStead(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		s := d.segment(t, "01A", 1, 500)
		body := bytes.Repeat([]byte("copy "), 200)[:777]
		c := segment.Copy{Path: s.Path + ".copy", Size: 777, SHA256: fmt.Sprintf("%x", sha256.Sum256(body))}
		if err := os.WriteFile(d.dir.Abs(c.Path), body, 0o600); err != nil {
			t.Fatal(err)
		}
		const other = segment.TargetID("mem:other")
		h.book.add(s, mem, other)
		h.book.rows[pair{mem, s.ID}].Instead = c
		limits := chunked
		limits.Listed = true
		one, two := targettest.NewRemote(limits), targettest.NewRemote(chunked)
		r := h.start(uploader.Config{}, one.Target(mem), two.Target(other))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		row := h.book.row(mem, s.ID)
		if got, _ := one.Object(row.Key); !row.Listable() || !bytes.Equal(got, body) {
			t.Errorf("stored %v: %d bytes", row.Listable(), len(got))
		}
		if got, _ := two.Object(row.Key); int64(len(got)) != s.Size || h.book.row(other, s.ID).State != segment.Verified {
			t.Errorf("the other target has %d bytes, %v", len(got), h.book.row(other, s.ID).State)
		}
		if p, err := uploader.Verify(t.Context(), one.Target(mem), row); err != nil || p.Size != c.Size {
			t.Errorf("asked anew: %v, %v", p, err)
		}
		r.drain()
	})
}

// choosy wants chunks of another size than it said.
type choosy struct {
	uploader.Target
	size  int64
	opens *atomic.Int64
}

func (c choosy) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	c.opens.Add(1)
	if o.Chunk != c.size {
		return nil, &failure.Error{Op: "open", Kind: failure.Permanent, Err: &uploader.OtherChunks{Size: c.size}}
	}
	return c.Target.Open(ctx, o)
}

func TestATargetThatNamesItsChunksAtOpen(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		h.book.add(d.segment(t, "01A", 1, 500), mem)
		remote := targettest.NewRemote(chunked)
		var opens atomic.Int64
		r := h.start(uploader.Config{}, choosy{remote.Target(mem), 2 * chunked.MinChunk, &opens})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if row := h.book.row(mem, segment.ID{Session: "01A", Seq: 1}); row.State != segment.Verified || row.Chunk != 2*chunked.MinChunk {
			t.Errorf("%s in chunks of %d", row.State, row.Chunk)
		}
		if n := opens.Load(); n != 2 {
			t.Errorf("opened %d times", n)
		}
		r.drain()
		h.whole(remote, mem)
	})
}

// The patience that Open asks for is for other Opens: what is on its way goes on.
func TestPatienceWithNewPartsOnly(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		limits := chunked
		limits.Apart = true
		for i := range 2 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 500), mem)
		}
		remote := targettest.NewRemote(limits)
		var opens atomic.Int64
		begin := time.Now()
		remote.Behave(func(c wrap.Call) wrap.Fate {
			switch c.Op {
			case wrap.OpOpen:
				if opens.Add(1) > 1 && time.Since(begin) < 15*time.Minute {
					return wrap.Fate{Err: &failure.Error{Op: "open", Kind: failure.Throttled, Code: "601", RetryAfter: 15 * time.Minute}}
				}
			case wrap.OpPut:
				return wrap.Fate{Wait: 10 * time.Second}
			}
			return wrap.Fate{}
		})
		r := h.start(uploader.Config{Uploads: 2}, remote.Target(mem))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := h.book.count(segment.Verified); n != 1 {
			t.Errorf("%d parts are proven while new ones have to wait", n)
		}
		if n := opens.Load(); n != 2 {
			t.Errorf("opened %d times", n)
		}
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if n := h.book.count(segment.Verified); n != 2 {
			t.Errorf("%d parts are proven", n)
		}
		r.drain()
	})
}

// A target may wish to be looked at more often while it refuses.
func TestRecheck(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		h := d.house(t)
		limits := chunked
		limits.Recheck = 4 * time.Second
		h.book.add(d.segment(t, "01A", 1, 500), mem)
		remote := targettest.NewRemote(limits)
		var healed atomic.Bool
		remote.Behave(func(c wrap.Call) wrap.Fate {
			if !healed.Load() {
				return wrap.Fate{Err: &failure.Error{Op: "x", Kind: failure.NeedsHuman, Code: "-101"}}
			}
			return wrap.Fate{}
		})
		r := h.start(uploader.Config{}, remote.Target(mem))
		time.Sleep(time.Minute)
		healed.Store(true)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := h.book.count(segment.Verified); n != 1 {
			t.Error("the cure was not seen within 5 s")
		}
		r.drain()
	})
}
