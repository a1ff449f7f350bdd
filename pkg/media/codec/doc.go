// Package codec reads and writes what decoders are configured with, and looks into coded frames as far as a recorder
// must: which parameter sets they carry, whether a decoder can start there, how many samples they hold.
//
// It owns the configuration records of every [media.Codec] (avcC, hvcC, av1C, vpcC; AudioSpecificConfig, dOps, dac3,
// dec3, dfLa, each without its box header), the borders of NAL units, and the frame headers of the sound codecs. It is
// pure and never decodes a picture, never knows of containers, tracks or clocks, and never changes a coded frame apart
// from how its NAL units are delimited and which of the redundant ones are left out.
//
// # Records
//
// [Parse] reads a record into an [Info]; [Equal] tells whether two records are the same to a decoder. Records are made
// by the Build functions. What cannot be used is reported as [ErrBad], and nothing here panics or reads beyond what it
// was given; every loop is bound by the length of the input.
//
// # Video frames
//
// Inside liverec a frame of H.264 or HEVC is a sequence of NAL units, each behind its length in 4 bytes. A [Sets] keeps
// the parameter sets of one track, turns frames of both forms into this one, and says when the record has changed.
package codec
