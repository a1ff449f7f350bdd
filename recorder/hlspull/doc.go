// Package hlspull is a Source over HLS: playlists that move, segments that come and go, one ordered stream of packets.
//
// It owns one room's stay with one HLS stream: which quality and host it is taken from, when lists are asked for again,
// which segments are fetched in which order and for how long they are tried, what they are decrypted with, and what is
// missing between them. It never decides whether a room is live, never re-times what it hands on and never writes.
//
// # How
//
//	room URL ── resolve ─► list of origins (hosts of one quality)
//	watcher of each rendition ── list ─► plan.Planner ── segments ─► queue ── fetch ── check, decrypt ─► emitter ─► batches
//
// One goroutine (Run) holds all state: it starts what is due and takes in what comes back. Each question to a server is a
// goroutine of its own, at most one per list and MaxFetches for segments. The emitter is one more: it takes segments apart
// and is the only one that waits for the receiver, so that lists are watched and segments fetched meanwhile.
//
// # What a batch holds
//
// Before each segment stands a Join, with what is known of the place: see [media.Seam]. Discontinuity is told by the clock
// and not by the tag: a tag where the clock goes on does nothing, a jump without a tag is one. Between two of them Exact
// is continuous. Where a stretch is missing and the clock went on over it, Discontinuity is false and Missing is as long as
// the hole in the clock. Missing sound alone is told likewise, at the segment of video that it belongs to, with no hole in
// the video's clock.
//
// # How long a segment is tried
//
// A server has to keep a segment that has left the list for its own duration and that of the longest list it was in. So
// a segment is tried until that long after it was listed last, whatever came behind it, and only then is it missing. Three
// things shorten that: its key cannot be had for keyPatience, the memory is full and later ones are about to be lost, or
// Run is told to stop.
//
// Where it was decided otherwise than in the reference: what is fetched is kept in memory, so a key that cannot be had is
// waited for only as long as memory and keyPatience allow.
//
// # Memory
//
// A segment lies in one piece of memory from its first byte until the receiver has given back the last batch: packets are
// not copied into batches. A transport stream is taken apart into a second piece, after which the first one is free. All
// pieces together are at most MaxMemory, those that are kept for the next segments included, and MaxHeld more while one is
// taken apart. A segment larger than MaxHeld lies in a file without a name that is mapped into memory, one at a time and up
// to MaxSegment: what of it is in memory is the system's affair. Its place on the disk is reserved before, what was written
// is synced before it is relied on, and a disk that fails under it all the same costs the segment, not the process. See
// Memory for all the rest.
package hlspull
