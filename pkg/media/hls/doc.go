// Package hls reads HLS playlists, as they are found and not only as they should be.
//
// It owns what a playlist says: which segments it names and what belongs to each of them, which forms of a stream a
// multivariant playlist offers and which of them is the best. It is pure: it opens no connection, keeps nothing between
// two playlists and starts nothing. What changed from one playlist to the next, when to ask again, and what is lost, is
// the business of whoever follows a stream. Compressed answers are not its business either: bytes come in as text.
//
// # How
//
// A playlist passes two readers. The first, in this package, goes over the lines once. It drops what no playlist needs
// (byte order mark, carriage returns, blank lines, comments), holds the tags of a segment back until its URI has come,
// takes what the second reader does not know, and writes a clean playlist of few tags in one order. That goes to
// github.com/grafov/m3u8, which reads it well and would not survive the original: a blank line at the wrong place ends
// the program. The two are joined by the ordinal of the segment, and nothing of grafov's types leaves the package.
//
//	playlist ── lines ── held tags ── clean text ── grafov/m3u8 ──┐
//	                         └── what it does not know ── [i] ────┴── Master or Media
//
// What grafov reads differently from what is needed is taken from the first pass: the target duration (it raises it to
// the longest segment), sets of keys (it keeps the last), byte ranges that go on where the last one ended (it reads 0),
// bandwidths (32 bit, whole numbers), renditions (it keeps those only that a variant names).
//
// # Limits
//
// [MaxSize] bytes, [MaxSegments] segments, [MaxForms] variants and as many renditions, [MaxParts] parts. Numbers that
// make no sense are as good as absent. Apart from size, a text that begins with #EXTM3U, or with another tag of a playlist, and has one tag by which it can
// be told what it is, is never refused.
//
// # URIs
//
// Each URI is kept as it was written and as an absolute URL, resolved against the URL that the playlist came from in the
// end. Only http and https come out of that; for everything else, such as file:, data: and skd:, the URL is empty, and
// the segment keeps its place in the numbering. A relative URI does not inherit the playlist's query. Whether a host may
// be asked at all is decided by whoever dials. Variables (EXT-X-DEFINE) are replaced first; those that a media playlist
// imports from the multivariant one stay as they are written.
//
// The shapes are those of RFC 8216 and of draft-pantos-hls-rfc8216bis.
package hls
