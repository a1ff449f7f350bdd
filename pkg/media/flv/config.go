package flv

import (
	"bytes"
	"fmt"
	"io"

	"github.com/yutopp/go-flv/tag"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// ErrBadConfig says that a sequence header cannot be used: the last valid one stays in force.
var ErrBadConfig = codec.ErrBad

func badConfig(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadConfig, fmt.Sprintf(format, args...))
}

// The NAL unit types of AVC that matter here.
const (
	nalIDR = 5
	nalSPS = 7
	nalPPS = 8
)

// The NAL unit types of HEVC where a decoder can start.
const (
	irapFirst = 16
	irapLast  = 23
)

// VideoConfig is an AVC decoder configuration. Its slices point into what was parsed.
type VideoConfig struct {
	codec.Info     // of the first SPS
	LengthSize int // bytes of the length in front of each NAL unit: 1, 2 or 4
	SPS, PPS   [][]byte
}

// ParseVideoConfig reads the body of an AVC sequence header tag. The error is ErrBadConfig.
func ParseVideoConfig(body []byte) (VideoConfig, error) {
	if len(body) == 0 {
		return VideoConfig{}, badConfig("an empty video tag")
	}
	r := bytes.NewReader(body)
	var v tag.VideoData
	if err := tag.DecodeVideoData(r, &v); err != nil {
		return VideoConfig{}, badConfig("a video tag of %d bytes", len(body))
	}
	if v.CodecID != tag.CodecIDAVC || body[0]&exHeader != 0 || v.AVCPacketType != tag.AVCPacketTypeSequenceHeader {
		return VideoConfig{}, badConfig("not an AVC sequence header")
	}
	return ParseAVCC(body[len(body)-r.Len():])
}

// ParseAVCC reads an AVCDecoderConfigurationRecord. The error is ErrBadConfig.
func ParseAVCC(b []byte) (VideoConfig, error) {
	info, err := codec.Parse(media.AVC, b)
	if err != nil {
		return VideoConfig{}, err
	}
	if info.Width > largest || info.Height > largest {
		return VideoConfig{}, badConfig("avcC of %d×%d pixels", info.Width, info.Height)
	}
	sets, err := codec.ReadSets(media.AVC, b)
	return VideoConfig{Info: info, LengthSize: info.NALLength, SPS: sets.SPS, PPS: sets.PPS}, err
}

// What is believed of a sequence header, at the most: pixels and Hz.
const (
	largest = 16384
	fastest = 192_000
)

// VideoConfigEqual reports whether two AVC sequence header bodies say the same: the same length size and the same sets
// of SPS and PPS, in whatever order. Of two that cannot be read, only equal bytes are equal.
func VideoConfigEqual(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, err := ParseVideoConfig(a)
	if err != nil {
		return false
	}
	y, err := ParseVideoConfig(b)
	if err != nil {
		return false
	}
	return x.LengthSize == y.LengthSize && codec.ParameterSets{SPS: x.SPS, PPS: x.PPS}.Equal(codec.ParameterSets{SPS: y.SPS, PPS: y.PPS})
}

// BuildVideoConfig makes the body of an AVC sequence header tag from parameter sets that were found in the stream.
func BuildVideoConfig(lengthSize int, sps, pps [][]byte) ([]byte, error) {
	if lengthSize != 1 && lengthSize != 2 && lengthSize != 4 {
		return nil, badConfig("lengths of %d bytes", lengthSize)
	}
	rec, err := codec.BuildAVCC(sps, pps)
	if err != nil {
		return nil, err
	}
	rec[4] = 0xFC | byte(lengthSize-1)
	var w bytes.Buffer
	err = tag.EncodeVideoData(&w, &tag.VideoData{FrameType: tag.FrameTypeKeyFrame, CodecID: tag.CodecIDAVC,
		AVCPacketType: tag.AVCPacketTypeSequenceHeader, Data: bytes.NewReader(rec)})
	if err != nil {
		return nil, fmt.Errorf("write an AVC sequence header: %w", err)
	}
	return w.Bytes(), nil
}

// nextNAL cuts the first NAL unit from b; ok is false when the length chain is broken.
func nextNAL(b []byte, lengthSize int) (nal, rest []byte, ok bool) {
	if len(b) < lengthSize {
		return nil, nil, false
	}
	n := 0
	for _, c := range b[:lengthSize] {
		n = n<<8 | int(c)
	}
	if n > len(b)-lengthSize {
		return nil, nil, false
	}
	return b[lengthSize : lengthSize+n], b[lengthSize+n:], true
}

// findNAL gives the first NAL unit of that type in a body of AVC frames, nil if there is none.
func findNAL(body []byte, lengthSize int, typ byte) []byte {
	if len(body) < avcHeader {
		return nil
	}
	return nalOf(body[avcHeader:], lengthSize, typ)
}

func hasNAL(b []byte, lengthSize int, typ byte) bool { return nalOf(b, lengthSize, typ) != nil }

func nalOf(b []byte, lengthSize int, typ byte) []byte {
	if lengthSize < 1 || lengthSize > 4 {
		return nil
	}
	for rest := b; len(rest) > 0; {
		nal, next, ok := nextNAL(rest, lengthSize)
		if !ok {
			return nil
		}
		if len(nal) > 0 && nal[0]&0x1F == typ {
			return nal
		}
		rest = next
	}
	return nil
}

// IsIDR reports whether a body of AVC frames holds an IDR picture, where every decoder can start. A key flag alone may
// stand on an open GOP.
func IsIDR(body []byte, lengthSize int) bool { return findNAL(body, lengthSize, nalIDR) != nil }

// InBandSPS gives the first SPS that a body of AVC frames carries, nil if it carries none.
func InBandSPS(body []byte, lengthSize int) []byte { return findNAL(body, lengthSize, nalSPS) }

// InBandPPS gives the first PPS that a body of AVC frames carries, nil if it carries none.
func InBandPPS(body []byte, lengthSize int) []byte { return findNAL(body, lengthSize, nalPPS) }

// IsAnnexB reports whether a body of AVC frames uses start codes where lengths belong.
func IsAnnexB(body []byte, lengthSize int) bool {
	return len(body) >= avcHeader+5 && StartCodes(body[avcHeader:], lengthSize)
}

// StartCodes reports whether an access unit of H.264 or HEVC has start codes where lengths belong: it begins with one
// and its bytes make no sense as lengths. The short form of a start code is also the length of a NAL unit of 256 to 511
// bytes, so another must follow.
func StartCodes(b []byte, lengthSize int) bool {
	if len(b) < 5 || b[0] != 0 || b[1] != 0 || b[2] != 1 && (b[2] != 0 || b[3] != 1) {
		return false
	}
	for rest := b; len(rest) > 0; {
		_, next, ok := nextNAL(rest, lengthSize)
		if !ok {
			return b[2] == 0 || bytes.Contains(b[3:], b[:3])
		}
		rest = next
	}
	return false
}

// isKey reports whether a decoder can start at a frame that is flagged as a key frame. size is that of the lengths in
// front of NAL units where the codec has them; starts says that there are start codes instead.
func isKey(c media.Codec, b []byte, size int, starts bool) bool {
	if c != media.AVC && c != media.HEVC {
		key, _ := codec.Key(c, size, b)
		return key
	}
	if starts {
		return annexBKey(c, b)
	}
	if c == media.AVC && hasNAL(b, size, nalIDR) { // nearly always
		return true
	}
	key, _ := codec.Key(c, size, b)
	return key
}

// annexBKey does the same for start codes: there, only real key pictures count.
func annexBKey(c media.Codec, b []byte) bool {
	for i := 0; i+3 < len(b); i++ {
		if b[i] != 0 || b[i+1] != 0 || b[i+2] != 1 {
			continue
		}
		switch n := b[i+3]; {
		case c == media.AVC && n&0x1F == nalIDR:
			return true
		case c == media.HEVC && n>>1&0x3F >= irapFirst && n>>1&0x3F <= irapLast:
			return true
		}
		i += 2
	}
	return false
}

// AudioConfig is an AAC configuration.
type AudioConfig struct{ codec.Info }

// ParseAudioConfig reads the body of an AAC sequence header tag. The error is ErrBadConfig.
func ParseAudioConfig(body []byte) (AudioConfig, error) {
	if len(body) == 0 {
		return AudioConfig{}, badConfig("an empty audio tag")
	}
	var a tag.AudioData
	if err := tag.DecodeAudioData(bytes.NewReader(body), &a); err != nil {
		return AudioConfig{}, badConfig("an audio tag of %d bytes", len(body))
	}
	if a.SoundFormat != tag.SoundFormatAAC || a.AACPacketType != tag.AACPacketTypeSequenceHeader {
		return AudioConfig{}, badConfig("not an AAC sequence header")
	}
	asc, err := io.ReadAll(a.Data)
	if err != nil {
		return AudioConfig{}, badConfig("an audio tag that cannot be read: %v", err)
	}
	return ParseASC(asc)
}

// ParseASC reads an AudioSpecificConfig. The error is ErrBadConfig.
func ParseASC(b []byte) (AudioConfig, error) {
	info, err := codec.Parse(media.AAC, b)
	if err != nil {
		return AudioConfig{}, err
	}
	if info.CoreRate > fastest || info.SampleRate > fastest {
		return AudioConfig{}, badConfig("AudioSpecificConfig of %d and %d Hz", info.CoreRate, info.SampleRate)
	}
	return AudioConfig{info}, nil
}

// AudioConfigEqual reports whether two AAC sequence header bodies say the same. Of two that cannot be read, only equal
// bytes are equal.
func AudioConfigEqual(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, err := ParseAudioConfig(a)
	if err != nil {
		return false
	}
	y, err := ParseAudioConfig(b)
	return err == nil && x == y && codec.Equal(media.AAC, a[aacHeader:], b[aacHeader:])
}
