package uploader_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
	"github.com/liverec/liverec/uploader/wrap"
)

// Targets come, go and are replaced while the others send.
func TestRetarget(t *testing.T) {
	d := newDisk(t)
	synctest.Test(t, func(t *testing.T) {
		const second segment.TargetID = "memory:second"
		h := d.house(t)
		for i := range 20 {
			h.book.add(d.segment(t, "01A", uint32(i+1), 3_000), mem, second)
		}
		slow := func(c wrap.Call) wrap.Fate { return wrap.Fate{Wait: 300 * time.Millisecond} }
		a, b := targettest.NewRemote(chunked), targettest.NewRemote(chunked)
		a.Behave(slow)
		check := &once{remote: a}
		h.book.acked = func(d segment.Delivery, ack segment.Ack) {
			if d.Target == mem {
				check.note(d, ack)
			}
		}
		first := wrap.Stack(a.Target(mem), limit.NewBytes(0), time.Hour, nil) // as it is in the program: not even comparable
		r := h.start(uploader.Config{}, first)
		time.Sleep(10 * time.Second)
		if len(a.Accepted()) == 0 || len(b.Accepted()) != 0 {
			t.Fatalf("%d and %d chunks", len(a.Accepted()), len(b.Accepted()))
		}
		kept := uploader.Destination{Target: first, Required: true}
		if err := r.Retarget([]uploader.Destination{kept, kept}, nil); err == nil {
			t.Error("a target is there twice")
		}
		if err := r.Retarget([]uploader.Destination{kept, {Target: b.Target(second), Required: true}}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if len(b.Accepted()) == 0 || len(r.Stats()) != 2 {
			t.Errorf("the new target got %d chunks, %d lanes", len(b.Accepted()), len(r.Stats()))
		}
		var gone atomic.Int32
		// The same store by another value, as after a change of its options: the lane begins anew where it was.
		if err := r.Retarget([]uploader.Destination{{Target: a.Target(mem), Required: true, Version: 1}}, func() { gone.Add(1) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		n := len(b.Accepted())
		time.Sleep(10 * time.Second)
		if len(b.Accepted()) != n {
			t.Error("a target that is gone gets more")
		}
		if gone.Load() != 1 {
			t.Errorf("it was told %d times that those of before are not used any more", gone.Load())
		}
		if err := r.Retarget([]uploader.Destination{{Target: a.Target(mem), Required: true, Version: 2}, {Target: b.Target(second), Required: true}}, nil); err != nil {
			t.Fatal(err)
		}
		h.settle()
		h.whole(a, mem)
		h.whole(b, second)
		r.drain()
		if r.err != nil {
			t.Error(r.err)
		}
		check.check(t)
	})
}
