// Package media is what a Source hands to the recorder: packets, gathered in batches that come from a pool.
//
// It owns the memory of media that has left a socket and is not yet in a file, and says how much that can be. It
// never looks inside a body.
package media

import (
	"sync"
	"sync/atomic"
	"time"
)

// Kind tells what a packet is for.
type Kind uint8

// The kinds of packets.
const (
	Video       Kind = iota + 1 // one access unit
	Audio                       // one audio frame
	VideoConfig                 // decoder configuration (FLV: the AVC sequence header tag)
	AudioConfig                 // decoder configuration (FLV: the AAC sequence header tag)
	Script                      // onMetaData and its relatives
	EndMark                     // end of sequence
	Restart                     // no bytes: the source began anew inside one connection (a second FLV header)
	Invalid                     // whole, but nothing can be done with it (empty body, filter bit, unknown tag type)
	Join                        // no bytes: Seam says how what follows joins what came before (sources that number their media, as HLS)
)

func (k Kind) String() string {
	return [...]string{"none", "video", "audio", "video config", "audio config", "script", "end mark", "restart", "invalid", "join"}[k]
}

// Codec names what a packet is coded with.
type Codec uint8

// The codecs that liverec can name. Which of them are recorded is the recorder's affair.
const (
	NoCodec Codec = iota
	AVC
	HEVC
	AV1
	VP9
	AAC
	MP3
	Opus
	AC3
	EAC3
	FLAC
	PCMA // G.711 A-law
	PCMU // G.711 u-law
	VP8
	VVC
	OtherCodec
)

func (c Codec) String() string {
	return [...]string{"none", "H.264", "HEVC", "AV1", "VP9", "AAC", "MP3", "Opus", "AC-3", "E-AC-3", "FLAC",
		"G.711 A-law", "G.711 u-law", "VP8", "VVC", "other"}[c]
}

// Packet is one tag of an FLV stream, or one access unit of another. Body belongs to the batch: it is valid until
// Release.
type Packet struct {
	Kind  Kind
	Codec Codec
	Key   bool  // a decoder can start here
	Track uint8 // Enhanced FLV multitrack: the track's number; else 0
	// Lead is the length of the FLV tag header inside Body: 0 for a packet that did not come from FLV. Payload is what
	// is behind it.
	Lead uint16
	DTS  int64  // ms on the source's own clock as it was sent (FLV: 32 bits, sign extended); not unwrapped
	CTS  int32  // ms, PTS - DTS
	Body []byte // FLV: the whole tag body, first byte included, exactly as received; else the access unit alone
	Sum  uint64 // XXH64 of the FLV tag type byte (8 sound, 9 video) followed by Body; the same bytes always give the same sum

	// Exact and Shift are DTS and PTS - DTS where the source's clock is finer than 1 ms (MPEG-TS, MP4). They are 0 in
	// packets from FLV, for which DTS and CTS say it all.
	Exact time.Duration
	Shift time.Duration

	Seam *Seam // of a Join, else nil
}

// Payload is the coded data itself. Video is length-prefixed with 4 bytes (H.264, HEVC) or a temporal unit (AV1);
// sound is one raw frame without ADTS. Of a VideoConfig or AudioConfig it is the configuration record as MP4 has it
// (avcC, hvcC, av1C, vpcC; AudioSpecificConfig, dOps, dac3, dec3, dfLa), without its box header. H.264 and HEVC from FLV
// keep the prefix length that their configuration record names.
func (p *Packet) Payload() []byte { return p.Body[min(int(p.Lead), len(p.Body)):] }

// Seam is what a source that numbers its media knows of the place between two packets.
type Seam struct {
	Discontinuity bool          // the clock of what follows has nothing to do with the one before
	Missing       time.Duration // media that lies between and is not here; 0: nothing
	Why           string        // why it is missing
	At            time.Time     // wall clock of what follows, as the source says it; zero if it does not
	// Place is the source's own note on where it is, once what comes up to the next Join is written. A source gets the
	// last one that is durable back when it goes on after a restart.
	Place []byte
}

// Count is what one batch says about the bytes it was made from: Received = Header + Tags + Junk + Partial, in every
// batch and so over the connection. A byte is counted once its fate is known, not when it leaves the socket.
type Count struct {
	Received int64
	Header   int64 // file headers: 13 each, or as long as they say
	Tags     int64 // whole tags, 15 + body each
	Junk     int64 // skipped while looking for the next sound tag
	Partial  int64 // an unfinished tag at the end of the connection
}

// SlabSize is the room for bytes in an ordinary batch.
const SlabSize = 256 << 10

// MaxBody is the largest body that an FLV tag can have; a batch with one such packet travels alone.
const MaxBody = 1<<24 - 1

// Batch is a slab of bytes and the packets that lie in it, in arrival order. A bare one has its bytes elsewhere.
type Batch struct {
	Packets []Packet
	At      time.Time // when the last byte of it was read
	Count   Count

	buf  []byte
	size int    // bytes that are kept from being used again: of buf, or elsewhere
	done func() // not nil: they lie elsewhere
}

var bare = sync.Pool{New: func() any { return &Batch{Packets: make([]Packet, 0, 512)} }}

var slabs = sync.Pool{New: func() any { return &Batch{buf: make([]byte, SlabSize), Packets: make([]Packet, 0, 512)} }}

var inUse atomic.Int64

// Get takes an empty batch with room for at least n bytes. An ordinary one (n ≤ SlabSize) comes from the pool.
func Get(n int) *Batch {
	b := slabs.Get().(*Batch)
	if n > len(b.buf) {
		slabs.Put(b)
		b = &Batch{buf: make([]byte, n)}
	}
	b.size = len(b.buf)
	inUse.Add(int64(b.size))
	return b
}

// Bare gives an empty batch without room for bytes: its packets lie in memory of whoever fills it, who says so with Owe
// before the batch is sent.
func Bare() *Batch { return bare.Get().(*Batch) }

// Owe says that n bytes of a Bare batch lie elsewhere, and what gives them back: Release calls done, once, from wherever
// the batch has come to.
func (b *Batch) Owe(n int, done func()) {
	b.size, b.done = n, done
	inUse.Add(int64(n))
}

// Size is how many bytes the batch keeps from being used again.
func (b *Batch) Size() int { return b.size }

// Bytes is the whole slab, for whoever fills it.
func (b *Batch) Bytes() []byte { return b.buf }

// Release gives the batch back. Nobody may touch its packets or their bodies afterwards.
func (b *Batch) Release() {
	inUse.Add(-int64(b.size))
	if len(b.buf) != SlabSize && len(b.buf) > 0 {
		return
	}
	done := b.done
	clear(b.Packets)
	b.Packets, b.At, b.Count, b.size, b.done = b.Packets[:0], time.Time{}, Count{}, 0, nil
	if len(b.buf) > 0 {
		slabs.Put(b)
		return
	}
	bare.Put(b)
	if done != nil {
		done()
	}
}

// InUse is how many bytes of slabs are out of the pool now, over all rooms.
func InUse() int64 { return inUse.Load() }
