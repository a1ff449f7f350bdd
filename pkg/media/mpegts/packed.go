package mpegts

import (
	"bytes"
	"encoding/binary"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// Packed takes packed audio segments apart: ADTS, MP3, AC-3 or E-AC-3 frames behind an ID3 tag that holds the time of
// the first one. Its memory is bound by the largest segment.
type Packed struct {
	d Demuxer
	s *stream
}

// NewPacked starts nothing. Of cfg, Unit and DropCorrupt count.
func NewPacked(cfg DemuxerConfig) *Packed { return &Packed{d: Demuxer{cfg: cfg}} }

const stampOwner = "com.apple.streaming.transportStreamTimestamp\x00"

// IsPacked reports whether a segment begins as packed audio does. 10 bytes are enough.
func IsPacked(b []byte) bool {
	return len(b) >= 3 && string(b[:3]) == "ID3" || packedCodec(b) != media.NoCodec
}

// IsTS reports whether a segment begins as a transport stream does: sync bytes at 0, 188, 376 as far as b reaches.
func IsTS(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for at := 0; at < len(b) && at <= 2*packetSize; at += packetSize {
		if b[at] != syncByte {
			return false
		}
	}
	return true
}

// packedCodec tells what frames b begins with. The ADTS header is the one that MPEG audio of layer 0 would have.
func packedCodec(b []byte) media.Codec {
	if _, ok := codec.ADTSFrame(b); ok {
		return media.AAC
	}
	if _, ok := codec.MP3Frame(b); ok {
		return media.MP3
	}
	if _, enhanced, ok := codec.AC3Frame(b); ok {
		if enhanced {
			return media.EAC3
		}
		return media.AC3
	}
	return media.NoCodec
}

// cutID3 leaves out the ID3 tags at the begin of b. at is the time stamp that one of them holds, -1 if none does.
func cutID3(b []byte) (rest []byte, at int64) {
	at = -1
	for len(b) >= 10 && string(b[:3]) == "ID3" && (b[6]|b[7]|b[8]|b[9])&0x80 == 0 {
		size := 10 + (int(b[6])<<21 | int(b[7])<<14 | int(b[8])<<7 | int(b[9]))
		if b[5]&0x10 != 0 {
			size += 10 // a footer
		}
		tag := b[:min(size, len(b))]
		if i := bytes.Index(tag, []byte(stampOwner)); i >= 0 && len(tag) >= i+len(stampOwner)+8 {
			at = int64(binary.BigEndian.Uint64(tag[i+len(stampOwner):]) & (wrap - 1))
		}
		b = b[len(tag):]
	}
	return b, at
}

// Segment takes one whole segment. Frames get their time from its ID3 tag, and count on from it; without one from the
// frame before, and from 0 if there is none. A frame that the end cuts is dropped.
func (p *Packed) Segment(b []byte) error {
	d := &p.d
	if d.err != nil {
		return d.err
	}
	d.count.Received += int64(len(b))
	b, at := cutID3(b)
	if len(b) == 0 {
		return nil
	}
	kind := packedCodec(b)
	if p.s == nil || kind != media.NoCodec && kind != p.s.kind {
		if kind == media.NoCodec {
			d.count.Junk += int64(len(b))
			return nil
		}
		p.s = newStream(elementary{Stream: Stream{Codec: kind}})
	}
	if at >= 0 {
		p.s.pts, p.s.fresh = d.clock.unwrap(at), true
	}
	p.s.body, p.s.from = append(p.s.body[:0], b...), 0
	d.frames(p.s)
	if n := len(p.s.body); n > 0 {
		d.count.Torn += int64(n)
		d.count.Corrupt++
		p.s.body = p.s.body[:0]
	}
	return d.err
}

// Break says that the next segment does not continue the one before.
func (p *Packed) Break() {
	if p.s != nil {
		p.s.sound.timed = false
	}
}

// Near is as for Demuxer.
func (p *Packed) Near(t int64) { p.d.Near(t) }

// Count is what was seen so far. There are no packets: Received = tags and frames + Junk + Torn.
func (p *Packed) Count() Count { return p.d.count }
