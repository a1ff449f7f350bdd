// Package uploader is stage 2, transport: it carries segments to targets, chunk by chunk, while they grow, and does
// not rest before each copy is proven.
//
// It owns the deliveries: what was sent, what the target said, what was asked anew. It never deletes, moves or changes
// a local file, never reorders parts and never publishes a list. It says everything it learns to its Journal before it
// acts upon it, so that a new process can go on at any line.
//
// # Lanes
//
// Each target has a lane of its own: one planner that knows all deliveries of the target, and Parallel workers that do
// one exchange with the target each. The planner hands a job to a worker that is free, over an unbuffered channel; a
// worker hands the result back in the same way. Lanes share nothing but the bucket of bandwidth and the open files, so
// a target that hangs, refuses or throttles cannot slow another.
//
// The disk is the queue: a lane holds no media, and the doorbell (segment.Progress) may be lost. The planner reads
// Journal.Due when it hears of something new, and every 30 s in any case.
//
// # One delivery
//
//	Opening → Target.Open → Opened → (Put → Acked)… → sealed: last chunk, head chunk → Committing → Commit → Committed
//	→ Verify → Verified → Outcome
//
// Every arrow is recorded before the next act begins (I3). After a crash the record says what to ask: Opening opens
// again (the target finds what the lost answer was about), Uploading resumes by token, Committing verifies before it
// commits, Committed verifies. "Could not ask" moves nothing (I8).
//
// # Memory
//
// A worker owns no buffer: its body is a section of the local file, read by whoever sends it, or moved by the system
// (FileBody) where nothing has to look at the bytes. A lane costs its
// deliveries that are not yet verified, about 1 KiB each and 64 bytes for each acknowledged chunk.
package uploader
