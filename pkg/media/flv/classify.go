package flv

import (
	"encoding/binary"

	"github.com/yutopp/go-flv/tag"

	"github.com/liverec/liverec/pkg/media"
)

// Codec ids that the specification of Adobe does not have, and the marks of Enhanced FLV.
const (
	codecHEVC  = 12 // the "China" extension
	codecAV1   = 13 // private builds
	exHeader   = 0x80
	exAudio    = tag.SoundFormatReserved // format 9
	soundOpus  = 13                      // unofficial
	avcHeader  = 5                       // bytes before the payload: frame type and codec, packet type, composition time
	aacHeader  = 2
	modEx      = 7
	exSequence = 0
	exCoded    = 1
	exEnd      = 2
	exCodedX   = 3
	exMetadata = 4
	exTSStart  = 5
	exTracks   = 6 // video; audio has it at 5
)

// Class is what one body is.
type Class struct {
	Kind  media.Kind
	Codec media.Codec
	Key   bool  // the frame is flagged as a key frame; see IsIDR
	CTS   int32 // ms
}

// Classify tells what the body of a tag is. An empty or truncated body, a command frame, the filter bit and an unknown
// type give media.Invalid. It never fails and never allocates.
//
// AVC and AAC are only what can be recorded as such: their Enhanced FLV form has media.OtherCodec and is named by
// CodecName.
func Classify(typ byte, body []byte) Class {
	if len(body) == 0 {
		return Class{Kind: media.Invalid}
	}
	switch typ {
	case TagVideo:
		return classifyVideo(body)
	case TagAudio:
		return classifyAudio(body)
	case TagScript:
		return Class{Kind: media.Script}
	}
	return Class{Kind: media.Invalid}
}

func classifyVideo(body []byte) Class {
	if body[0]&exHeader != 0 {
		return classifyExVideo(body)
	}
	frame := tag.FrameType(body[0] >> 4)
	c := Class{Kind: media.Invalid, Codec: videoCodec(body[0] & 0x0F)}
	if frame == tag.FrameTypeVideoInfoCommandFrame {
		return c
	}
	switch c.Codec {
	case media.AVC, media.HEVC, media.AV1:
	default:
		c.Kind, c.Key = media.Video, frame == tag.FrameTypeKeyFrame
		return c
	}
	if len(body) < avcHeader {
		// Some servers end a sequence with two bytes.
		if len(body) >= 2 && tag.AVCPacketType(body[1]) == tag.AVCPacketTypeEOS {
			c.Kind = media.EndMark
		}
		return c
	}
	switch tag.AVCPacketType(body[1]) {
	case tag.AVCPacketTypeSequenceHeader:
		c.Kind = media.VideoConfig
	case tag.AVCPacketTypeEOS:
		c.Kind = media.EndMark
	case tag.AVCPacketTypeNALU:
		if len(body) > avcHeader {
			c.Kind, c.Key, c.CTS = media.Video, frame == tag.FrameTypeKeyFrame, si24(body[2:5])
		}
	}
	return c
}

func classifyAudio(body []byte) Class {
	format := tag.SoundFormat(body[0] >> 4)
	switch format {
	case exAudio:
		return classifyExAudio(body)
	case tag.SoundFormatAAC:
		c := Class{Kind: media.Invalid, Codec: media.AAC}
		if len(body) <= aacHeader {
			return c
		}
		switch tag.AACPacketType(body[1]) {
		case tag.AACPacketTypeSequenceHeader:
			c.Kind = media.AudioConfig
		case tag.AACPacketTypeRaw:
			c.Kind = media.Audio
		}
		return c
	}
	c := Class{Kind: media.Audio, Codec: audioCodec(format)}
	if len(body) < 2 {
		c.Kind = media.Invalid
	}
	return c
}

// enhanced walks the head of an Enhanced FLV body: the packet type behind all ModEx blocks, the FourCC and the rest.
// ok is false when the body ends too early.
func enhanced(body []byte, tracks byte) (packet byte, fourcc, rest []byte, ok bool) {
	packet = body[0] & 0x0F
	rest = body[1:]
	for packet == modEx {
		if len(rest) < 1 {
			return packet, nil, nil, false
		}
		n := int(rest[0]) + 1
		rest = rest[1:]
		if n == 256 {
			if len(rest) < 2 {
				return packet, nil, nil, false
			}
			n = int(binary.BigEndian.Uint16(rest)) + 1
			rest = rest[2:]
		}
		if len(rest) < n+1 {
			return packet, nil, nil, false
		}
		packet = rest[n] & 0x0F
		rest = rest[n+1:]
	}
	if packet == tracks {
		// One more byte: how many tracks and codecs, and the packet type of all of them.
		if len(rest) < 1 {
			return packet, nil, nil, false
		}
		packet = rest[0] & 0x0F
		rest = rest[1:]
	}
	if len(rest) < 4 {
		return packet, nil, nil, false
	}
	return packet, rest[:4], rest[4:], true
}

func classifyExVideo(body []byte) Class {
	packet, fourcc, rest, ok := enhanced(body, exTracks)
	c := Class{Kind: media.Invalid, Codec: media.OtherCodec}
	if !ok {
		return c
	}
	composed := false // coded frames carry a composition time
	switch string(fourcc) {
	case "hvc1":
		c.Codec, composed = media.HEVC, true
	case "av01":
		c.Codec = media.AV1
	case "vp09":
		c.Codec = media.VP9
	case "avc1", "vvc1":
		composed = true
	}
	frame := tag.FrameType(body[0] >> 4 & 0x07)
	if frame == tag.FrameTypeVideoInfoCommandFrame && packet != exMetadata {
		return c
	}
	switch packet {
	case exSequence, exTSStart:
		c.Kind = media.VideoConfig
	case exEnd:
		c.Kind = media.EndMark
	case exCoded:
		c.Kind, c.Key = media.Video, frame == tag.FrameTypeKeyFrame
		if composed {
			if len(rest) < 3 {
				c.Kind, c.Key = media.Invalid, false
			} else {
				c.CTS = si24(rest)
			}
		}
	case exCodedX:
		c.Kind, c.Key = media.Video, frame == tag.FrameTypeKeyFrame
	}
	return c
}

func classifyExAudio(body []byte) Class {
	packet, fourcc, _, ok := enhanced(body, exTSStart)
	c := Class{Kind: media.Invalid, Codec: media.OtherCodec}
	if !ok {
		return c
	}
	switch string(fourcc) {
	case "Opus":
		c.Codec = media.Opus
	case "ac-3":
		c.Codec = media.AC3
	case ".mp3":
		c.Codec = media.MP3
	}
	switch packet {
	case exSequence:
		c.Kind = media.AudioConfig
	case exCoded:
		c.Kind = media.Audio
	case exEnd:
		c.Kind = media.EndMark
	}
	return c
}

func videoCodec(id byte) media.Codec {
	switch tag.CodecID(id) {
	case tag.CodecIDAVC:
		return media.AVC
	case codecHEVC:
		return media.HEVC
	case codecAV1:
		return media.AV1
	}
	return media.OtherCodec
}

func audioCodec(f tag.SoundFormat) media.Codec {
	switch f {
	case tag.SoundFormatAAC:
		return media.AAC
	case tag.SoundFormatMP3, tag.SoundFormatMP3_8kHz:
		return media.MP3
	case soundOpus:
		return media.Opus
	}
	return media.OtherCodec
}

// CodecName names what a video or audio body is coded with, and how it is wrapped where that matters, for people:
// "H.264", "HEVC (FLV codec id 12)", "AV1 (Enhanced FLV av01)", "G.711". It is "" when the body does not say.
func CodecName(typ byte, body []byte) string {
	if len(body) == 0 {
		return ""
	}
	switch typ {
	case TagVideo:
		if body[0]&exHeader != 0 {
			_, fourcc, _, ok := enhanced(body, exTracks)
			return enhancedName(fourcc, ok)
		}
		return [16]string{1: "JPEG", 2: "Sorenson H.263", 3: "Screen Video", 4: "VP6", 5: "VP6 with alpha", 6: "Screen Video 2", 7: "H.264",
			8: "H.263 (FLV codec id 8)", 9: "MPEG-4 (FLV codec id 9)", codecHEVC: "HEVC (FLV codec id 12)", codecAV1: "AV1 (FLV codec id 13)"}[body[0]&0x0F]
	case TagAudio:
		if tag.SoundFormat(body[0]>>4) == exAudio {
			_, fourcc, _, ok := enhanced(body, exTSStart)
			return enhancedName(fourcc, ok)
		}
		return [16]string{0: "PCM", 1: "ADPCM", 2: "MP3", 3: "PCM", 4: "Nellymoser", 5: "Nellymoser", 6: "Nellymoser", 7: "G.711", 8: "G.711",
			10: "AAC", 11: "Speex", 13: "Opus (FLV sound format 13)", 14: "MP3", 15: "device sound"}[body[0]>>4]
	}
	return ""
}

func enhancedName(fourcc []byte, ok bool) string {
	if !ok {
		return "Enhanced FLV"
	}
	name := map[string]string{"avc1": "H.264", "hvc1": "HEVC", "vvc1": "VVC", "av01": "AV1", "vp08": "VP8", "vp09": "VP9",
		"mp4a": "AAC", "Opus": "Opus", "fLaC": "FLAC", "ac-3": "AC-3", "ec-3": "E-AC-3", ".mp3": "MP3"}[string(fourcc)]
	if name == "" {
		return "Enhanced FLV with an unknown codec"
	}
	return name + " (Enhanced FLV " + string(fourcc) + ")"
}

// si24 reads a signed number of 24 bits.
func si24(b []byte) int32 {
	return int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8) >> 8
}
