package recorder_test

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

func sha(t *testing.T, name string) segment.Sum { return sha256.Sum256(read(t, name)) }

// content walks the media tags of a file by hand and chains them as repair.Chain says it does.
func content(t *testing.T, name string) uint64 {
	b := read(t, name)
	h, n := uint64(0), uint64(0)
	for at := 13; at < len(b); {
		size := int(b[at+1])<<16 | int(b[at+2])<<8 | int(b[at+3])
		typ, body := b[at], b[at+11:at+11+size]
		if typ == 9 && body[1] == 1 || typ == 8 && body[1] == 1 {
			n++
			var v [24]byte
			binary.LittleEndian.PutUint64(v[0:], h)
			binary.LittleEndian.PutUint64(v[8:], n)
			binary.LittleEndian.PutUint64(v[16:], xxhash.Sum64(append([]byte{typ}, body...)))
			h = xxhash.Sum64(v[:])
		}
		at += 15 + size
	}
	return h
}

// A broadcast of 35 s in parts of 10 s: every picture once, parts as long as the limit exactly, the end known after the
// source has confirmed it.
func TestBroadcastBecomesParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: 35 * time.Second})
		r.cfg.Once = true
		r.room.Start(t.Context())
		begin := time.Now()
		r.start()
		r.wait()
		took := time.Since(begin)
		s := r.session()
		numbers := r.check(s)
		unbroken(t, numbers)
		if got, want := len(numbers), len(r.sent()); got != want {
			t.Errorf("%d of %d pictures", got, want)
		}
		segs := s.Segments()
		if len(segs) != 4 {
			t.Fatalf("%d parts", len(segs))
		}
		for i, g := range segs {
			want, cut := 10*time.Second, segment.CutTime
			if i == 3 {
				want, cut = 5*time.Second, segment.CutEnd
			}
			if (g.Duration-want).Abs() > 2*time.Millisecond || g.Cut != cut {
				t.Errorf("%s lasts %v and was cut by %s", g.ID, g.Duration, g.Cut)
			}
		}
		if took < 44*time.Second || took > 48*time.Second {
			t.Errorf("it took %v", took)
		}
		if !s.Left || len(s.Gaps) != 0 {
			t.Errorf("left %v, gaps %v", s.Left, s.Gaps)
		}
		if len(r.reports) != 1 || r.reports[0].Balance != nil {
			t.Errorf("reports %+v", r.reports)
		}
		if err := s.Account.Check(); err != nil || s.Account.Held != 0 || s.Account.Written != total(segs) {
			t.Errorf("account %+v: %v; %d frames in the parts", s.Account, err, total(segs))
		}
		r.noOrphans()
		if st := r.rec.Snapshot().State; st != recorder.StateEnded {
			t.Errorf("state %s", st)
		}
	})
}

func total(segs []segment.Segment) (n int64) {
	for _, g := range segs {
		n += g.VideoFrames + g.AudioFrames
	}
	return n
}
