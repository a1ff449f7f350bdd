// Package httpflv is a Source over HTTP-FLV: one GET, one response without an end, one FLV stream in it.
//
// It owns the socket of one connection: how it is dialled, which redirects are followed, what may stand in the first
// bytes, how long silence may last and how often the process wakes up for it. It never tries again, never decides
// whether a room is live, and never looks into a tag: that is pkg/media/flv.
//
// Wake-ups, not bytes, cost the CPU at real pace: a live server flushes each tag, some 70 small packets a second. So
// the reader lets up to a tenth of a second gather in the socket before it reads, as long as the reads stay small;
// at full speed it never waits.
package httpflv
