package probe

import (
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// The sum is the one that everybody else means by XXH64.
func TestSumIsXXH64(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if got, want := xxh64(b), xxhash.Sum64(b); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
	}
}
