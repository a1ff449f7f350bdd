// Package httpflv is a Source over HTTP-FLV: one GET, one response without an end, one FLV stream in it.
//
// It owns the socket of one connection: how it is dialled, which redirects are followed, what may stand in the first
// bytes, how long silence may last and how often the process wakes up for it. It never tries again, never decides
// whether a room is live, and never looks into a tag: that is pkg/media/flv.
//
// Wake-ups, not bytes, cost the CPU at real pace: a live server flushes each tag, some 70 small packets a second. So
// on Linux what comes gathers in the socket for up to a quarter of a second, and all rooms of a process are read at the
// same moments; at full speed nobody waits for that.
package httpflv
