package media

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Chain adds one frame to the running hash of the content of a part or of a session. It begins with 0; ordinals count
// from 1, in the order of the file; sum is the frame's digest, as in Packet.Sum.
func Chain(h, ordinal, sum uint64) uint64 {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[0:], h)
	binary.LittleEndian.PutUint64(b[8:], ordinal)
	binary.LittleEndian.PutUint64(b[16:], sum)
	return xxhash.Sum64(b[:])
}
