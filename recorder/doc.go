// Package recorder is stage 1, capture: it waits until a room is live, pulls its stream, and leaves parts on the disk
// that play alone, one after the other, with every hole written down.
//
// It owns the open part and nothing else: a Recorder per room (resolve, connect, write, again), a Segmenter that cuts
// and writes, a sealer that finishes closed parts, a clerk that tells the ledger, and Recover, which brings to an end
// what a crash left. It never waits for anything but its own disk (I5), never knows a target, never takes "could not
// ask" for "offline" (I8), and never removes a file that holds media.
//
// # Goroutines of one room
//
//	recorder loop   Recorder.Run         resolves, waits, keeps watch, stands between reader and writer
//	source reader   Recorder.connection  Source.Run; per connection
//	                                     (an HLS source starts goroutines of its own and waits for them: see hlspull)
//	writer          Recorder.connection  repair or retime, and Segmenter; per connection, else the loop itself has them
//	clerk           Recorder.Run         fsync of the open part, every call to the Journal but Enter, in order
//	sealer          Recorder.Run         patch, fsync, rename, SHA-256 of a closed part
//
// # Containers
//
// A part is FLV (the tags of the source behind a head with an index), hybrid MP4 (fragments, and an index once it is
// closed) or MPEG-TS: see Container. FLV and MP4 have a head that is patched, so Segment.Head is above 0; a fragment of
// MP4 or TS is handed to the disk as a whole, at least as often as the buffer of FLV. Where a crash leaves an MP4 part, at
// whatever step of its closing, the index is cut off again and the part goes on, or is closed anew.
//
// # Memory of one room
//
// At most QueueBytes of slabs wait between reader and writer, one more is being filled and one is held by the loop;
// a packet that does not fit into a slab travels alone. See MemoryPerRoom. An HLS source holds up to hlspull.Memory
// beside that.
//
// # Invariant I2
//
// offered ≤ durable ≤ written: a doorbell rings only after fsync, and a byte at or above Segment.Head that was written
// never changes. The head, with its index if it is FLV, is patched in place until the seal.
package recorder
