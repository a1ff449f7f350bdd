package recorder

import (
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// What one room may hold in memory.
const (
	// queueBatches is the capacity of the channel between the loop and the writer.
	queueBatches = 16
	// QueueBytes bounds the slabs in that channel and in the writer's hand together.
	QueueBytes = queueBatches * media.SlabSize
	// writeBuffer is what the writer gathers for one write(2).
	writeBuffer = 256 << 10
	// MemoryPerRoom is what a live room holds at the most: the queue, a slab that is being filled, a slab that waits
	// in the loop, the write buffer or the open fragment twice (as it grows, and on its way into the file), and one packet
	// that is too large for a slab. Such a packet is in the fragment as well until that is written. The index of an MP4
	// part comes on top: 12 bytes for each of its frames, and as much again for a moment when it is closed.
	MemoryPerRoom = QueueBytes + 2*media.SlabSize + max(writeBuffer, 3*fragmentBytes) + media.MaxBody
)

// How long things may take. A byte lies up to a beat (tickEvery) in the socket, and flushEvery plus a beat here, two beats
// where the source falls silent: less than the second that a kill may cost. flushEvery is shorter than a beat, so that a
// room which is read once a beat is written every other.
const (
	flushEvery  = 200 * time.Millisecond // oldest byte in the write buffer
	syncEvery   = time.Second            // between two fsyncs of the open part, if something is new
	extendEvery = 5 * time.Second        // between two notes to the ledger, unless a chunk border was passed
	chunkStep   = 5 << 20                // smallest chunk of any target: passing a multiple of it is news
	patchEvery  = 10 * time.Second       // the index in the head

	stallLimit  = 6 * time.Second  // the reader waits so long for the disk (one that slept takes that long), then media is given up
	mediaLimit  = 15 * time.Second // no retained frame: another connection
	slowWindow  = time.Minute      // less than slowBytes in it: another connection
	slowBytes   = 10 << 10 * 60
	liveLimit   = 10 * time.Second       // "live" is only said while media came so recently
	beginWait   = time.Second            // a cut waits so long for the ledger to begin the next part
	gapWait     = 500 * time.Millisecond // what comes after a gap waits so long for the gap to be in the ledger
	stopLimit   = 5 * time.Second        // from the stop to the last seal
	askLimit    = 20 * time.Second       // one question to a site
	forcedAfter = 30 * time.Second       // without a key frame a part ends so long after its limit, or at twice the limit
	shortest    = 5 * time.Second        // no part is cut shorter by time
	// flapping is how much media a connection must have brought for its end to be believed at once, however short the open
	// part is.
	flapping  = 30 * time.Second
	gopMemory = 32              // GOPs whose largest one predicts the next
	diskRetry = 5 * time.Second // between two looks at a full disk
)
