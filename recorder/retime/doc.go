// Package retime is the pure core of capture for sources that number their media (HLS): what such a source says about
// order and loss is taken as true, and its clocks become one.
//
// It owns the clock of a session and the current configuration. Which media is missing, repeated or left out was decided
// by the source before (media.Seam); package repair is for sources that cannot tell. It has no goroutine, does no I/O
// and never reads a clock; it never looks at a file and never decides where to cut.
//
// # What goes in
//
// As into repair.Repairer: Connect, Push for each batch, Tick, Disconnect, and State after it. Packets are in the order in
// which they are to be written; their Exact time is continuous between two Joins that declare a discontinuity, and a
// Join stands before the media of each segment.
//
// # What comes out
//
// Calls of a repair.Sink, with Item.Time to the nanosecond.
//
// # How a seam is joined
//
//	no discontinuity           the clock goes on; what is not later than what was written is a duplicate
//	discontinuity              the clock begins anew: the first frame of either track follows the last one of its own
//	                           by at least one frame, with one offset for both, so lip sync is untouched
//	missing media              a gap as long as the clock says where it went on, else as long as the source says
//	a hole above 1 s           is closed to one frame and told: as gap where media is missing, else as repair. Shorter
//	                           ones stay as they are
//	a clock that jumps back    without a word of the source: as a discontinuity, and a repair tells it
//	another configuration      takes effect at the next key frame, as Sink.Config; what only it explains is pre-roll
//
// A 33-bit clock (MPEG-TS) that was unwrapped by another process is brought to the turn that is nearest.
//
// A session begins with its first key frame, and with the sound that begins up to 100 ms sooner.
//
// Memory: at a discontinuity frames are held until both tracks were seen, at most HoldBytes and HoldMedia; else nothing
// is held.
package retime
