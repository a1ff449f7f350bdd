package media

import "testing"

func TestPool(t *testing.T) {
	before := InUse()
	b := Get(SlabSize)
	if len(b.Bytes()) != SlabSize || len(b.Packets) != 0 || b.Count != (Count{}) || !b.At.IsZero() {
		t.Fatalf("a batch of %d bytes with %d packets", len(b.Bytes()), len(b.Packets))
	}
	big := Get(SlabSize + 1)
	if len(big.Bytes()) <= SlabSize || InUse()-before != int64(len(b.Bytes())+len(big.Bytes())) {
		t.Fatalf("%d bytes are in use", InUse()-before)
	}
	b.Packets, b.Count.Junk = append(b.Packets, Packet{Kind: Video}), 7
	b.Release()
	big.Release()
	if InUse() != before {
		t.Fatalf("%d bytes are still in use", InUse()-before)
	}
	for range 10 { // whichever it is, it must be empty
		b := Get(1)
		if len(b.Packets) != 0 || b.Count != (Count{}) {
			t.Fatalf("a used batch came back with %d packets, %+v", len(b.Packets), b.Count)
		}
		defer b.Release()
	}
}

// A batch whose bytes lie elsewhere gives them back once, and comes back empty.
func TestBare(t *testing.T) {
	before, back := InUse(), 0
	b := Bare()
	b.Packets = append(b.Packets, Packet{Kind: Video, Body: make([]byte, 7)})
	b.Owe(7, func() { back++ })
	if b.Size() != 7 || InUse()-before != 7 || back != 0 {
		t.Fatalf("it keeps %d bytes, %d are in use, given back %d times", b.Size(), InUse()-before, back)
	}
	b.Release()
	if InUse() != before || back != 1 {
		t.Fatalf("%d bytes are still in use, given back %d times", InUse()-before, back)
	}
	for range 10 {
		b := Bare()
		defer b.Release()
		if len(b.Packets) != 0 || b.Size() != 0 || len(b.Bytes()) != 0 {
			t.Fatalf("a used batch came back with %d packets and %d bytes", len(b.Packets), b.Size())
		}
	}
	if back != 1 {
		t.Errorf("given back %d times", back)
	}
}

func TestNames(t *testing.T) {
	for k := Kind(0); k <= Join; k++ {
		if k.String() == "" {
			t.Errorf("kind %d has no name", k)
		}
	}
	for c := NoCodec; c <= OtherCodec; c++ {
		if c.String() == "" {
			t.Errorf("codec %d has no name", c)
		}
	}
}
