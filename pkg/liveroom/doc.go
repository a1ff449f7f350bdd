// Package liveroom is a live room that needs no network: an HTTP-FLV server on loopback that behaves like a CDN edge.
// `liverec demo` records from it, and so do the tests.
//
// A real H.264/AAC clip is embedded and looped with rising timestamps. In front of each picture lies an SEI message
// with the picture's number and the wall clock, so no two pictures are ever the same and whoever reads a recording
// can say which pictures are missing and which stand twice (FrameNumber). Every connection can be given faults: cuts
// at any byte, stalls, refusals, jumps of the clock, rubbish between tags, loops and holes; the room remembers which
// picture left on which connection and when.
//
// It owns the sending side only: it imports nothing else of liverec, never records, and knows nothing of parts.
package liveroom
