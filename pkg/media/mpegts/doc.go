// Package mpegts takes MPEG transport streams apart and puts them together.
//
// [Demuxer] is pushed bytes of .ts segments or files, in pieces of any size, and gives out access units; [Packed] does
// the same for the packed audio segments of HLS. [Muxer] writes a .ts file that is only ever appended to and plays at
// every moment; [Scan] reads such a file back after a crash. The package is pure: it opens nothing, waits for nothing
// and starts nothing. It does not re-time, sort or drop media: what was sent in a wrong order comes out in that order.
// Scrambled streams and SAMPLE-AES are named, not decrypted.
//
// Taken are H.264, HEVC, AAC (ADTS and LATM), MPEG audio of all layers (called MP3), AC-3, E-AC-3 and Opus. AV1 has no
// mapping that others read. What is not taken is named in [Stream].
//
// # Bounds
//
// A Demuxer holds one unit per taken stream, [MaxUnit] at most, and 32 KiB; a Muxer what was added since the last Flush.
// Neither allocates per packet or unit once its buffers have grown.
package mpegts
