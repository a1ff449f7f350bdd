// Package mend makes sound parts out of a recording that is not: FLV, MPEG-TS and MP4 of any origin.
//
// It owns the way from a file to packets (what is torn, out of place or glued together there), the parts that are
// written beside it, and the report on both. What is decided about clocks, repeated media, configurations and order is
// decided by the engines of live capture: package repair for FLV, package retime for what numbers its media. It never
// changes what it reads, never overwrites anything, and never makes a frame up.
//
// # The way of a file
//
//	look      package probe says what is wrong, and the same again of each part in the end
//	read      every whole frame, whatever is between: flv.ReadAll, mpegts.Demuxer, the fragments or the tables of an MP4
//	join      the engine. Instead of the wall clock it gets the time of the media itself, so a jump of the clock is a jump
//	          and no silence; where frames are missing nobody can tell, and the report says only that it jumped
//	write     FLV stays FLV where H.264 and AAC are in it, all else becomes MP4. Another configuration begins another part
//
// A file of FLV that is sound but for its head, its index or its end goes past the engine: every tag is copied in its
// order, so nothing can be lost that was not lost before.
//
// # The ends of a part
//
// Where a file was cut off, one track reaches further than the other. What is more than a frame beyond the end of the
// other track is left out, if it is at most two seconds; a track that is silent for longer stays silent. Sound from
// before the first picture that a decoder can start with is left out as well.
//
// # Memory
//
// Two seconds of media while the tracks are woven together, at most 32 MiB; one frame, at most 256 MiB; the samples of
// one fragment, or of an MP4 that is not woven at all, 80 MiB at the most; the index of the part, 12 bytes for each frame;
// and what the checker takes, 64 bytes for each frame of an MP4 and 16 for each picture. An hour of a broadcast costs
// about 40 MB.
package mend
