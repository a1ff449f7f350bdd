package recorder

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/liverec/liverec/pkg/durable"
)

// What is lent from a slab comes out at its place, and the slab may be used again after keep.
func TestOutputLendsAndKeeps(t *testing.T) {
	dir, err := durable.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	f, err := dir.Create("out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := output{file: f, buf: make([]byte, 0, writeBuffer)}
	random := rand.New(rand.NewPCG(1, 2))
	slab, alien := make([]byte, 256<<10), make([]byte, 64<<10)
	var want []byte
	lent := 0
	for range 60 {
		for i := range slab {
			slab[i] = byte(random.Uint32())
		}
		for i := range alien {
			alien[i] = byte(random.Uint32())
		}
		o.slab = slab
		for at, most := 0, 1+random.IntN(len(slab)); at < most; {
			n := min(random.IntN(3*lendFrom)+random.IntN(2)*random.IntN(40<<10), most-at)
			piece := slab[at : at+n]
			if random.IntN(4) == 0 {
				piece = alien[:n]
			}
			if err := o.reserve(2 + len(piece)); err != nil {
				t.Fatal(err)
			}
			o.buf = append(o.buf, 'h')
			o.gather(piece)
			o.buf = append(o.buf, 't')
			want = append(append(append(want, 'h'), piece...), 't')
			lent = max(lent, len(o.lent))
			if o.waits() > writeBuffer {
				t.Fatalf("%d bytes wait", o.waits())
			}
			at += n + 1
		}
		if err := o.keep(); err != nil {
			t.Fatal(err)
		}
		if len(o.lent) > 0 || o.debt != 0 || o.slab != nil {
			t.Fatalf("%d pieces are still lent", len(o.lent))
		}
	}
	if err := o.write(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dir.Abs("out"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) || f.Size() != int64(len(want)) {
		t.Errorf("%d bytes came out, %d went in, or others", len(got), len(want))
	}
	if lent < 3 {
		t.Errorf("at most %d pieces were lent at once", lent)
	}
}
