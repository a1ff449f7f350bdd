package flv

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
	goflv "github.com/yutopp/go-flv"
	"github.com/yutopp/go-flv/tag"

	"github.com/liverec/liverec/pkg/media"
)

// The types of tags.
const (
	TagAudio  = byte(tag.TagTypeAudio)
	TagVideo  = byte(tag.TagTypeVideo)
	TagScript = byte(tag.TagTypeScriptData)
)

// Sizes of the format, in bytes.
const (
	FileHeaderSize = int(goflv.HeaderLength) + 4 // with the first PreviousTagSize
	TagHeaderSize  = 11
	TagTrailerSize = 4                              // PreviousTagSize
	TagOverhead    = TagHeaderSize + TagTrailerSize // what a tag costs besides its body
)

const (
	filterBit    = 0x20
	reservedBits = 0xC0
	typeMask     = 0x1F
)

// AppendFileHeader appends the file header and the PreviousTagSize of nothing: FileHeaderSize bytes. The flags say
// which tracks the file really has.
func AppendFileHeader(dst []byte, audio, video bool) []byte {
	var flags goflv.Flags
	if audio {
		flags |= goflv.FlagsAudio
	}
	if video {
		flags |= goflv.FlagsVideo
	}
	w := bytes.NewBuffer(dst)
	// A bytes.Buffer takes everything.
	_ = goflv.EncodeFlvHeader(w, &goflv.Header{Version: 1, Flags: flags, DataOffset: goflv.HeaderLength})
	return append(w.Bytes(), 0, 0, 0, 0)
}

// AppendTagHeader appends the 11 bytes before a body of size bytes: dts in ms with its timestamp extension, StreamID 0.
// A size above media.MaxBody cannot be said in the format and is a fault of the caller: it panics.
func AppendTagHeader(dst []byte, typ byte, dts uint32, size int) []byte {
	if size < 0 || size > media.MaxBody {
		panic(fmt.Sprintf("flv: a body of %d bytes", size))
	}
	return append(dst, typ, byte(size>>16), byte(size>>8), byte(size),
		byte(dts>>16), byte(dts>>8), byte(dts), byte(dts>>24), 0, 0, 0)
}

// AppendTagTrailer appends the PreviousTagSize of a tag with a body of size bytes.
func AppendTagTrailer(dst []byte, size int) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(size+TagHeaderSize))
}

// AppendTag appends a whole tag: TagOverhead + len(body) bytes.
func AppendTag(dst []byte, typ byte, dts uint32, body []byte) []byte {
	dst = AppendTagHeader(dst, typ, dts, len(body))
	dst = append(dst, body...)
	return AppendTagTrailer(dst, len(body))
}

// AppendEndMark appends the tag that says that the video is over (AVC end of sequence).
func AppendEndMark(dst []byte, dts uint32) []byte {
	w := bytes.NewBuffer(dst)
	t := tag.FlvTag{TagType: tag.TagTypeVideo, Timestamp: dts, Data: &tag.VideoData{
		FrameType: tag.FrameTypeKeyFrame, CodecID: tag.CodecIDAVC, AVCPacketType: tag.AVCPacketTypeEOS, Data: bytes.NewReader(nil),
	}}
	// The data fits its type and a bytes.Buffer takes everything.
	_ = tag.EncodeFlvTag(w, &t)
	return AppendTagTrailer(w.Bytes(), 5)
}

// Sum is the digest of a tag that media.Packet carries: XXH64 of the type byte followed by the body.
func Sum(typ byte, body []byte) uint64 {
	var d xxhash.Digest
	return sum(&d, typ, body)
}

func sum(d *xxhash.Digest, typ byte, body []byte) uint64 {
	d.Reset()
	t := [1]byte{typ}
	_, _ = d.Write(t[:]) // a Digest takes everything
	_, _ = d.Write(body)
	return d.Sum64()
}

func bodySize(h []byte) int { return int(h[1])<<16 | int(h[2])<<8 | int(h[3]) }

// timestamp is the tag's time as it was sent: 32 bits with their sign, ms.
func timestamp(h []byte) int64 {
	return int64(int32(uint32(h[7])<<24 | uint32(h[4])<<16 | uint32(h[5])<<8 | uint32(h[6])))
}

func streamID(h []byte) int { return int(h[8])<<16 | int(h[9])<<8 | int(h[10]) }
