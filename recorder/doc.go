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
//	writer          Recorder.connection  repair and Segmenter; per connection, else the loop itself has them
//	clerk           Recorder.Run         fsync of the open part, every call to the Journal but Enter, in order
//	sealer          Recorder.Run         patch, fsync, rename, SHA-256 of a closed part
//
// # Memory of one room
//
// At most QueueBytes of slabs wait between reader and writer, one more is being filled and one is held by the loop;
// a packet that does not fit into a slab travels alone. See MemoryPerRoom.
//
// # Invariant I2
//
// offered ≤ durable ≤ written: a doorbell rings only after fsync, and a byte at or above Segment.Head that was written
// never changes. The head, with its index, is patched in place until the seal.
package recorder
