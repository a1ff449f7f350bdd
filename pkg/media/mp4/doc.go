// Package mp4 writes hybrid MP4 and reads MP4 of any origin.
//
// It owns the bytes of the format and nothing else: no goroutine, no file, no clock, no decision about what is kept. It
// never looks inside a picture, never changes a sample, and never converts a codec's configuration except into the form
// that a sample entry wants. What comes from outside is read with limits: no size that a box claims is allocated before
// it is compared with what is there.
//
// # Hybrid MP4
//
// While it grows a file is a fragmented MP4: it plays to the last whole fragment whatever happens. Closed it is an
// ordinary MP4 with one full index. Three things make that work:
//
//	open    ftyp · free (16 bytes) · moov (no samples, mvex) · free · moof mdat · moof mdat · …
//	close 1 the same, and behind it a moov that lists every sample
//	close 2 ftyp · mdat (64-bit size, covers all that came before the last moov) · moov
//
// The last step overwrites the 16 bytes of the first free box; nothing else of a file is ever changed. A crash anywhere
// leaves a file that plays, and Scan finds the place to go on.
//
//	w, err := mp4.NewWriter(mp4.Config{Video: &v, Audio: &a})
//	w.Add(s) …                            // the first frames
//	buf = append(buf, w.Head()...)        // once, before the first Flush; HeadLen bytes
//	buf = w.Flush(buf)                    // every 500 ms: what was added becomes one fragment
//	tail, at, patch := w.Close()          // append tail, sync, write patch at at, sync
//
// The fragments hold both tracks, so the files are not CMAF and do not say so; where a track never got a sample the index
// leaves it out.
//
// # Time
//
// The caller's times count from the begin of the part. The file shows its earliest first frame at 0, and both tracks keep
// their distance: a track that begins later gets an empty edit, and the picture delay that B frames need is taken out by
// the edit list. The edit list of the first moov can only know frames that were added before Head was called; of a track
// that comes later its fragments tell the delay, and the last moov has the edit for it. So the three states of a file
// show every frame at the same time, whenever Head is called; only, when it was called too early the file begins with as
// little of nothing as B frames delay the first picture, and a track that then begins before the first DTS of the other
// (or, if Head came before everything, before time 0) is held back to there.
//
// Video has 90 000 ticks a second and sound as many as samples, unless Track.Timescale says otherwise. A sound frame that
// is within 2 ms of where the one before it ends is put exactly there, so that times from a clock of milliseconds become
// exact; each frame is compared with the caller's time, so nothing drifts by more than those 2 ms.
//
// # Memory
//
// A Writer keeps the open fragment, and for each sample of the file 12 bytes, for each track of each fragment 16: 9.5 MB
// for three hours of 30 frames/s with AAC.
package mp4
