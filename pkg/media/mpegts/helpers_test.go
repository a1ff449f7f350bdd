package mpegts_test

import (
	"bytes"
	"testing"

	"github.com/liverec/liverec/pkg/media/mpegts"
)

// taken is what came out of a Demuxer.
type taken struct {
	units    []mpegts.Unit
	programs []mpegts.Program
	count    mpegts.Count
}

func (k *taken) config() mpegts.DemuxerConfig {
	return mpegts.DemuxerConfig{
		Unit: func(u *mpegts.Unit) error {
			c := *u
			c.Data = bytes.Clone(u.Data)
			k.units = append(k.units, c)
			return nil
		},
		Program: func(p mpegts.Program) { k.programs = append(k.programs, p) },
	}
}

func (k *taken) of(video bool) []mpegts.Unit {
	var out []mpegts.Unit
	for _, u := range k.units {
		if u.Video == video {
			out = append(out, u)
		}
	}
	return out
}

// demux takes b apart in pieces of that size, 0 for all at once, and checks that every byte is accounted for.
func demux(t testing.TB, b []byte, piece int) *taken {
	t.Helper()
	var k taken
	d := mpegts.NewDemuxer(k.config())
	feed(t, d, b, piece)
	k.count = balance(t, d)
	if int(k.count.Units) != len(k.units) {
		t.Errorf("%d units of %d", len(k.units), k.count.Units)
	}
	return &k
}

func feed(t testing.TB, d *mpegts.Demuxer, b []byte, piece int) {
	t.Helper()
	for len(b) > 0 {
		n := min(len(b), piece)
		if piece == 0 {
			n = len(b)
		}
		if m, err := d.Write(b[:n]); err != nil || m != n {
			t.Fatalf("write: %d, %v", m, err)
		}
		balance(t, d)
		b = b[n:]
	}
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	if c := balance(t, d); c.Held != 0 {
		t.Errorf("%d bytes are held after a flush", c.Held)
	}
}

func balance(t testing.TB, d *mpegts.Demuxer) mpegts.Count {
	t.Helper()
	c := d.Count()
	if c.Received != c.Packets*188+c.Junk+c.Held {
		t.Fatalf("bytes are missing: %+v", c)
	}
	return c
}

// same compares what came out of two Demuxers.
func same(t testing.TB, a, b []mpegts.Unit) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d units and %d", len(a), len(b))
	}
	for i := range a {
		x, y := a[i], b[i]
		data := bytes.Equal(x.Data, y.Data) && bytes.Equal(x.Config, y.Config) && (x.Config == nil) == (y.Config == nil)
		if !data || x.PTS != y.PTS || x.DTS != y.DTS || x.Key != y.Key || x.Codec != y.Codec || x.Corrupt != y.Corrupt || x.Guessed != y.Guessed {
			t.Fatalf("unit %d: %v\nand %v", i, show(x), show(y))
		}
	}
}

func show(u mpegts.Unit) mpegts.Unit {
	u.Data = u.Data[:min(len(u.Data), 16)]
	return u
}

// packetsOf is where each packet of a stream begins that belongs to pid.
func packetsOf(ts []byte, pid int) (at []int) {
	for i := 0; i+188 <= len(ts); i += 188 {
		if int(ts[i+1]&0x1F)<<8|int(ts[i+2]) == pid {
			at = append(at, i)
		}
	}
	return at
}
