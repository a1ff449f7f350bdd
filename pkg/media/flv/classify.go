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
	oldHeader  = 1 // of all the others: the codec alone
	modEx      = 7
	exSequence = 0
	exCoded    = 1
	exEnd      = 2
	exCodedX   = 3
	exMetadata = 4 // audio: the layout of many channels
	exTSStart  = 5
	exTracks   = 6 // video; audio has it at 5
	exSounds   = 5
)

// How an Enhanced FLV tag with several tracks is laid out.
const (
	oneTrack byte = iota
	manyTracks
	manyCodecs
)

// Class is what one body is.
type Class struct {
	Kind  media.Kind
	Codec media.Codec
	Key   bool  // the frame is flagged as a key frame; whether a decoder can start there only its data says
	CTS   int32 // ms
	// Lead and End are where the data lies: of the frame, of the configuration record, of the script. End is 0 where it
	// goes on to the end of the body.
	Lead, End int
	Track     uint8 // Enhanced FLV multitrack: the number of the track that Lead and End are of
	Others    int   // … and how many others lie in the same body
}

// Classify tells what the body of a tag is. An empty or truncated body, a command frame, the filter bit and an unknown
// type give media.Invalid. It never fails and never allocates.
//
// What an Enhanced FLV metadata tag says of a video track (colours), and of a sound track (the layout of its channels),
// is a media.Script with a codec; other scripts have none. Of a body with several tracks it is track 0, or the first one
// where there is no track 0.
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

// KeyFlag reports whether the body of a video tag is flagged as a key frame. media.Packet.Key is more: there a decoder
// can start.
func KeyFlag(body []byte) bool {
	return len(body) > 0 && tag.FrameType(body[0]>>4&0x07) == tag.FrameTypeKeyFrame
}

// IsPlain reports whether the body of a video or sound tag is H.264 or AAC in the form that every reader of FLV knows,
// so that it can stand in a part of liverec as it is.
func IsPlain(typ byte, body []byte) bool {
	if len(body) == 0 {
		return false
	}
	switch typ {
	case TagVideo:
		return body[0]&exHeader == 0 && tag.CodecID(body[0]&0x0F) == tag.CodecIDAVC
	case TagAudio:
		return tag.SoundFormat(body[0]>>4) == tag.SoundFormatAAC
	}
	return false
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
		c.Kind, c.Key, c.Lead = media.Video, frame == tag.FrameTypeKeyFrame, oldHeader
		return c
	}
	if len(body) < avcHeader {
		// Some servers end a sequence with two bytes.
		if len(body) >= 2 && tag.AVCPacketType(body[1]) == tag.AVCPacketTypeEOS {
			c.Kind, c.Lead = media.EndMark, len(body)
		}
		return c
	}
	switch tag.AVCPacketType(body[1]) {
	case tag.AVCPacketTypeSequenceHeader:
		c.Kind, c.Lead = media.VideoConfig, avcHeader
	case tag.AVCPacketTypeEOS:
		c.Kind, c.Lead = media.EndMark, avcHeader
	case tag.AVCPacketTypeNALU:
		if len(body) > avcHeader {
			c.Kind, c.Key, c.CTS, c.Lead = media.Video, frame == tag.FrameTypeKeyFrame, si24(body[2:5]), avcHeader
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
			c.Kind, c.Lead = media.AudioConfig, aacHeader
		case tag.AACPacketTypeRaw:
			c.Kind, c.Lead = media.Audio, aacHeader
		}
		return c
	}
	c := Class{Kind: media.Audio, Codec: audioCodec(format), Lead: oldHeader}
	if len(body) < 2 {
		c.Kind, c.Lead = media.Invalid, 0
	}
	return c
}

// extended is the head of an Enhanced FLV body, read.
type extended struct {
	packet  byte // type, behind all ModEx blocks and the multitrack byte
	fourcc  string
	at, end int // where the data of the track lies in the body
	track   uint8
	others  int
}

// enhanced walks the head of an Enhanced FLV body; tracks is the packet type that says that there are several. ok is
// false when the body ends too early or contradicts itself.
func enhanced(body []byte, tracks byte) (x extended, ok bool) {
	x.packet, x.at, x.end = body[0]&0x0F, 1, len(body)
	for x.packet == modEx {
		if len(body) < x.at+1 {
			return x, false
		}
		n := int(body[x.at]) + 1
		x.at++
		if n == 256 {
			if len(body) < x.at+2 {
				return x, false
			}
			n = int(binary.BigEndian.Uint16(body[x.at:])) + 1
			x.at += 2
		}
		if len(body) < x.at+n+1 {
			return x, false
		}
		x.packet = body[x.at+n] & 0x0F
		x.at += n + 1
	}
	if x.packet == tracks {
		return x.several(body, tracks)
	}
	if x.fourcc = fourCC(body, x.at); x.fourcc == "" {
		return x, false
	}
	x.at += 4
	return x, true
}

// several finds the track to record in a body that says how many tracks and codecs it has, and the packet type of all.
func (x extended) several(body []byte, tracks byte) (extended, bool) {
	if len(body) < x.at+1 {
		return x, false
	}
	layout := body[x.at] >> 4
	x.packet = body[x.at] & 0x0F
	x.at++
	if x.packet == tracks || x.packet == modEx || layout > manyCodecs {
		return x, false
	}
	code := ""
	if layout != manyCodecs {
		if code = fourCC(body, x.at); code == "" {
			return x, false
		}
		x.at += 4
	}
	if layout == oneTrack {
		if len(body) < x.at+1 {
			return x, false
		}
		x.fourcc, x.track = code, body[x.at]
		x.at++
		return x, true
	}
	n := 0
	for at := x.at; at < len(body); n++ {
		if layout == manyCodecs {
			if code = fourCC(body, at); code == "" {
				return x, n > 0
			}
			at += 4
		}
		if len(body) < at+4 {
			return x, n > 0
		}
		id, size := body[at], int(body[at+1])<<16|int(body[at+2])<<8|int(body[at+3])
		at += 4
		if size > len(body)-at {
			return x, n > 0
		}
		if n == 0 || id == 0 && x.track != 0 {
			x.fourcc, x.track, x.at, x.end = code, id, at, at+size
		}
		x.others = n
		at += size
	}
	return x, n > 0
}

// fourCC gives the code at a place in a body; one that is known costs nothing. It is "" when the body ends before.
func fourCC(body []byte, at int) string {
	if len(body) < at+4 {
		return ""
	}
	switch code := body[at : at+4]; string(code) {
	case "avc1":
		return "avc1"
	case "hvc1":
		return "hvc1"
	case "vvc1":
		return "vvc1"
	case "av01":
		return "av01"
	case "vp08":
		return "vp08"
	case "vp09":
		return "vp09"
	case "mp4a":
		return "mp4a"
	case "Opus":
		return "Opus"
	case "fLaC":
		return "fLaC"
	case "ac-3":
		return "ac-3"
	case "ec-3":
		return "ec-3"
	case ".mp3":
		return ".mp3"
	}
	return "????"
}

func classifyExVideo(body []byte) Class {
	c := Class{Kind: media.Invalid, Codec: media.OtherCodec}
	x, ok := enhanced(body, exTracks)
	if !ok {
		return c
	}
	composed := false // coded frames carry a composition time
	switch x.fourcc {
	case "avc1":
		c.Codec, composed = media.AVC, true
	case "hvc1":
		c.Codec, composed = media.HEVC, true
	case "vvc1":
		c.Codec, composed = media.VVC, true
	case "av01":
		c.Codec = media.AV1
	case "vp08":
		c.Codec = media.VP8
	case "vp09":
		c.Codec = media.VP9
	}
	frame := tag.FrameType(body[0] >> 4 & 0x07)
	if frame == tag.FrameTypeVideoInfoCommandFrame && x.packet != exMetadata {
		return c
	}
	c.lies(x, body)
	switch x.packet {
	case exSequence, exTSStart:
		if x.at < x.end {
			c.Kind = media.VideoConfig
		}
	case exEnd:
		c.Kind = media.EndMark
	case exMetadata:
		c.Kind = media.Script
	case exCoded:
		if composed {
			if x.end-x.at < 3 {
				return c
			}
			c.CTS = si24(body[x.at:])
			c.Lead += 3
		}
		fallthrough
	case exCodedX:
		if c.Lead < x.end {
			c.Kind, c.Key = media.Video, frame == tag.FrameTypeKeyFrame
		}
	}
	return c
}

func classifyExAudio(body []byte) Class {
	c := Class{Kind: media.Invalid, Codec: media.OtherCodec}
	x, ok := enhanced(body, exSounds)
	if !ok {
		return c
	}
	switch x.fourcc {
	case "mp4a":
		c.Codec = media.AAC
	case "Opus":
		c.Codec = media.Opus
	case "fLaC":
		c.Codec = media.FLAC
	case "ac-3":
		c.Codec = media.AC3
	case "ec-3":
		c.Codec = media.EAC3
	case ".mp3":
		c.Codec = media.MP3
	}
	c.lies(x, body)
	switch x.packet {
	case exSequence:
		if x.at < x.end { // MP3 and AC-3 may begin with nothing
			c.Kind = media.AudioConfig
		}
	case exCoded:
		if x.at < x.end { // nothing in it: silence
			c.Kind = media.Audio
		}
	case exEnd:
		c.Kind = media.EndMark
	case exMetadata:
		c.Kind = media.Script
	}
	return c
}

// lies takes over where the data of the track is.
func (c *Class) lies(x extended, body []byte) {
	c.Lead, c.Track, c.Others = x.at, x.track, x.others
	if x.end < len(body) {
		c.End = x.end
	}
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
	case tag.SoundFormatG711ALawLogarithmicPCM:
		return media.PCMA
	case tag.SoundFormatG711muLawLogarithmicPCM:
		return media.PCMU
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
			x, ok := enhanced(body, exTracks)
			return enhancedName(x.fourcc, ok)
		}
		return [16]string{1: "JPEG", 2: "Sorenson H.263", 3: "Screen Video", 4: "VP6", 5: "VP6 with alpha", 6: "Screen Video 2", 7: "H.264",
			8: "H.263 (FLV codec id 8)", 9: "MPEG-4 (FLV codec id 9)", codecHEVC: "HEVC (FLV codec id 12)", codecAV1: "AV1 (FLV codec id 13)"}[body[0]&0x0F]
	case TagAudio:
		if tag.SoundFormat(body[0]>>4) == exAudio {
			x, ok := enhanced(body, exSounds)
			return enhancedName(x.fourcc, ok)
		}
		return [16]string{0: "PCM", 1: "ADPCM", 2: "MP3", 3: "PCM", 4: "Nellymoser", 5: "Nellymoser", 6: "Nellymoser", 7: "G.711 A-law", 8: "G.711 u-law",
			10: "AAC", 11: "Speex", 13: "Opus (FLV sound format 13)", 14: "MP3", 15: "device sound"}[body[0]>>4]
	}
	return ""
}

func enhancedName(fourcc string, ok bool) string {
	if !ok {
		return "Enhanced FLV"
	}
	name := map[string]string{"avc1": "H.264", "hvc1": "HEVC", "vvc1": "VVC", "av01": "AV1", "vp08": "VP8", "vp09": "VP9",
		"mp4a": "AAC", "Opus": "Opus", "fLaC": "FLAC", "ac-3": "AC-3", "ec-3": "E-AC-3", ".mp3": "MP3"}[fourcc]
	if name == "" {
		return "Enhanced FLV with an unknown codec"
	}
	return name + " (Enhanced FLV " + fourcc + ")"
}

// si24 reads a signed number of 24 bits.
func si24(b []byte) int32 {
	return int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8) >> 8
}
