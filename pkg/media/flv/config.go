package flv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/yutopp/go-flv/tag"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// ErrBadConfig says that a sequence header cannot be used: the last valid one stays in force.
var ErrBadConfig = errors.New("unusable codec configuration")

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
	Profile, Compat, Level byte
	LengthSize             int // bytes of the length in front of each NAL unit: 1 to 4
	SPS, PPS               [][]byte
	SPSInfo                SPS // of the first SPS
}

// Width in pixels, after cropping.
func (c VideoConfig) Width() int { return c.SPSInfo.Width }

// Height in pixels, after cropping.
func (c VideoConfig) Height() int { return c.SPSInfo.Height }

// FrameDuration is how long a frame lasts according to the SPS; 0 if it does not say so or says nonsense.
func (c VideoConfig) FrameDuration() time.Duration {
	if c.SPSInfo.FrameRate < 1 || c.SPSInfo.FrameRate > 300 {
		return 0
	}
	return time.Duration(float64(time.Second) / c.SPSInfo.FrameRate)
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
	var c VideoConfig
	if len(b) < 7 {
		return c, badConfig("avcC of %d bytes", len(b))
	}
	if b[0] != 1 {
		return c, badConfig("avcC version %d", b[0])
	}
	c.Profile, c.Compat, c.Level, c.LengthSize = b[1], b[2], b[3], int(b[4]&3)+1
	var ok bool
	n, rest := int(b[5]&0x1F), b[6:]
	if c.SPS, rest, ok = parameterSets(rest, n); !ok {
		return c, badConfig("avcC ends inside its SPS")
	}
	if len(c.SPS) == 0 {
		return c, badConfig("avcC without SPS")
	}
	if len(rest) > 0 {
		if c.PPS, _, ok = parameterSets(rest[1:], int(rest[0])); !ok {
			return c, badConfig("avcC ends inside its PPS")
		}
	}
	info, err := ParseSPS(c.SPS[0])
	if err != nil {
		return c, err
	}
	c.SPSInfo = info
	return c, nil
}

func parameterSets(b []byte, n int) (sets [][]byte, rest []byte, ok bool) {
	for range n {
		if len(b) < 2 {
			return nil, nil, false
		}
		size := int(binary.BigEndian.Uint16(b))
		if size == 0 || len(b) < 2+size {
			return nil, nil, false
		}
		sets = append(sets, b[2:2+size:2+size])
		b = b[2+size:]
	}
	return sets, b, true
}

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
	return x.LengthSize == y.LengthSize && sameSets(x.SPS, y.SPS) && sameSets(x.PPS, y.PPS)
}

func sameSets(a, b [][]byte) bool {
	in := func(set []byte, sets [][]byte) bool {
		return slices.ContainsFunc(sets, func(s []byte) bool { return bytes.Equal(s, set) })
	}
	for _, s := range a {
		if !in(s, b) {
			return false
		}
	}
	for _, s := range b {
		if !in(s, a) {
			return false
		}
	}
	return true
}

// BuildVideoConfig makes the body of an AVC sequence header tag from parameter sets that were found in the stream.
func BuildVideoConfig(lengthSize int, sps, pps [][]byte) ([]byte, error) {
	if len(sps) == 0 || len(pps) == 0 || len(sps) > 31 || len(pps) > 255 || len(sps[0]) < 4 || lengthSize < 1 || lengthSize > 4 {
		return nil, badConfig("%d SPS, %d PPS, lengths of %d bytes", len(sps), len(pps), lengthSize)
	}
	rec := []byte{1, sps[0][1], sps[0][2], sps[0][3], 0xFC | byte(lengthSize-1), 0xE0 | byte(len(sps))}
	for _, s := range sps {
		rec = append(binary.BigEndian.AppendUint16(rec, uint16(len(s))), s...)
	}
	rec = append(rec, byte(len(pps)))
	for _, s := range pps {
		rec = append(binary.BigEndian.AppendUint16(rec, uint16(len(s))), s...)
	}
	if info, err := ParseSPS(sps[0]); err != nil {
		return nil, err
	} else if info.HasChroma {
		rec = append(rec, 0xFC|byte(info.Chroma), 0xF8|byte(info.DepthLuma-8), 0xF8|byte(info.DepthChroma-8), 0)
	}
	var w bytes.Buffer
	err := tag.EncodeVideoData(&w, &tag.VideoData{FrameType: tag.FrameTypeKeyFrame, CodecID: tag.CodecIDAVC,
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

// SPS is what liverec wants to know of an AVC sequence parameter set.
type SPS struct {
	ID             uint32
	Profile, Level byte
	Width, Height  int     // after cropping
	FrameRate      float64 // frames per second from the VUI; 0: it does not say
	HasChroma      bool    // the profile says the following three
	Chroma         uint32  // chroma_format_idc
	DepthLuma      uint32
	DepthChroma    uint32
}

// ParseSPS reads an AVC SPS NAL unit. The error is ErrBadConfig.
func ParseSPS(nal []byte) (SPS, error) {
	var s SPS
	if len(nal) < 4 || nal[0]&0x1F != nalSPS {
		return s, badConfig("not an SPS")
	}
	r := &bitReader{b: unescape(nal[1:])}
	s.Profile = byte(r.bits(8))
	r.bits(8)
	s.Level = byte(r.bits(8))
	s.ID = r.ue()
	s.Chroma, s.DepthLuma, s.DepthChroma = 1, 8, 8
	separate := false
	switch s.Profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		s.HasChroma = true
		if s.Chroma = r.ue(); s.Chroma == 3 {
			separate = r.bit() == 1
		}
		s.DepthLuma, s.DepthChroma = r.ue()+8, r.ue()+8
		r.bit() // lossless
		if r.bit() == 1 {
			lists := 8
			if s.Chroma == 3 {
				lists = 12
			}
			for i := range lists {
				if r.bit() == 1 {
					skipScalingList(r, i)
				}
			}
		}
	}
	r.ue() // log2_max_frame_num_minus4
	switch r.ue() {
	case 0:
		r.ue()
	case 1:
		r.bit()
		r.se()
		r.se()
		for n := r.ue(); n > 0 && !r.over; n-- {
			r.se()
		}
	}
	r.ue() // max_num_ref_frames
	r.bit()
	width, height := int64(r.ue())+1, int64(r.ue())+1
	frameOnly := r.bit() == 1
	if !frameOnly {
		r.bit()
		height *= 2
	}
	width, height = width*16, height*16
	r.bit() // direct_8x8_inference
	if r.bit() == 1 {
		left, right, top, bottom := int64(r.ue()), int64(r.ue()), int64(r.ue()), int64(r.ue())
		unitX, unitY := int64(1), int64(1)
		if !separate && (s.Chroma == 1 || s.Chroma == 2) {
			unitX = 2
		}
		if !separate && s.Chroma == 1 {
			unitY = 2
		}
		if !frameOnly {
			unitY *= 2
		}
		width -= (left + right) * unitX
		height -= (top + bottom) * unitY
	}
	const largest = 16384
	if r.over || s.ID > 31 || s.Chroma > 3 || s.DepthLuma > 14 || s.DepthChroma > 14 || width <= 0 || height <= 0 || width > largest || height > largest {
		return SPS{}, badConfig("SPS of %d bytes says %d×%d", len(nal), width, height)
	}
	s.Width, s.Height = int(width), int(height)
	if r.bit() == 1 {
		s.FrameRate = vuiRate(r)
	}
	return s, nil
}

func skipScalingList(r *bitReader, i int) {
	size := 16
	if i >= 6 {
		size = 64
	}
	last, next := int32(8), int32(8)
	for range size {
		if next != 0 {
			next = (last + r.se() + 256) % 256
		}
		if next != 0 {
			last = next
		}
		if r.over {
			return
		}
	}
}

func vuiRate(r *bitReader) float64 {
	if r.bit() == 1 && r.bits(8) == 255 { // aspect ratio
		r.bits(32)
	}
	if r.bit() == 1 { // overscan
		r.bit()
	}
	if r.bit() == 1 { // video signal type
		r.bits(4)
		if r.bit() == 1 {
			r.bits(24)
		}
	}
	if r.bit() == 1 { // chroma location
		r.ue()
		r.ue()
	}
	if r.bit() == 0 { // timing
		return 0
	}
	tick, scale := r.bits(32), r.bits(32)
	if r.over || tick == 0 {
		return 0
	}
	return float64(scale) / (2 * float64(tick))
}

// AudioConfig is an AAC configuration.
type AudioConfig struct {
	ObjectType   int // of the core: 2 is AAC-LC
	SampleRate   int // of what comes out, Hz
	CoreRate     int // of the core; half of SampleRate with explicit SBR
	Channels     int
	FrameSamples int // samples per channel that come out of one frame: 1024, 2048 with explicit SBR
	SBR, PS      bool
}

// FrameDuration is how long one audio frame lasts.
func (c AudioConfig) FrameDuration() time.Duration {
	if c.SampleRate <= 0 {
		return 0
	}
	return time.Duration(c.FrameSamples) * time.Second / time.Duration(c.SampleRate)
}

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

var aacRates = [...]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// ParseASC reads an AudioSpecificConfig. The error is ErrBadConfig.
func ParseASC(b []byte) (AudioConfig, error) {
	const (
		objectSBR = 5
		objectPS  = 29
		objectER  = 17
	)
	var c AudioConfig
	r := &bitReader{b: b}
	rate := func() int {
		if i := r.bits(4); i == 15 {
			return int(r.bits(24))
		} else if int(i) < len(aacRates) {
			return aacRates[i]
		}
		return 0
	}
	object := func() int {
		o := int(r.bits(5))
		if o == 31 {
			o = 32 + int(r.bits(6))
		}
		return o
	}
	c.ObjectType = object()
	c.CoreRate = rate()
	channels := int(r.bits(4))
	c.SampleRate = c.CoreRate
	if c.ObjectType == objectSBR || c.ObjectType == objectPS {
		c.SBR, c.PS = true, c.ObjectType == objectPS
		c.SampleRate = rate()
		c.ObjectType = object()
	}
	c.FrameSamples = 1024
	switch c.ObjectType {
	case 1, 2, 3, 4, 6, 7, objectER, 19, 20, 21, 22, 23:
		if r.bit() == 1 {
			c.FrameSamples = 960
			if c.ObjectType == 23 {
				c.FrameSamples = 480
			}
		} else if c.ObjectType == 23 {
			c.FrameSamples = 512
		}
		if r.bit() == 1 { // depends on a core coder
			r.bits(14)
		}
		r.bit() // extension flag
		if channels == 0 {
			channels = programChannels(r)
		}
	default:
		if channels == 0 {
			return AudioConfig{}, badConfig("AudioSpecificConfig of object type %d without channels", c.ObjectType)
		}
	}
	const fastest = 192_000
	if c.ObjectType == 0 || c.CoreRate == 0 || c.SampleRate == 0 || c.CoreRate > fastest || c.SampleRate > fastest || channels < 0 || channels > 16 || r.over {
		return AudioConfig{}, badConfig("AudioSpecificConfig of %d bytes: object type %d, %d Hz, %d channels", len(b), c.ObjectType, c.SampleRate, channels)
	}
	if c.Channels = channels; channels == 7 {
		c.Channels = 8
	}
	// Without the explicit form, SBR may be announced behind the rest.
	if !c.SBR && len(b)*8-r.at >= 16 && r.bits(11) == 0x2B7 && object() == objectSBR && r.bit() == 1 {
		if ext := rate(); ext != 0 && !r.over {
			c.SBR, c.SampleRate = true, ext
			if len(b)*8-r.at >= 12 && r.bits(11) == 0x548 {
				c.PS = r.bit() == 1
			}
		}
	}
	if c.SBR && c.CoreRate > 0 && c.SampleRate >= 2*c.CoreRate {
		c.FrameSamples *= 2
	}
	return c, nil
}

// programChannels counts the channels of a program config element; -1 if it is broken.
func programChannels(r *bitReader) int {
	r.bits(4 + 2 + 4)
	front, side, back, lfe := int(r.bits(4)), int(r.bits(4)), int(r.bits(4)), int(r.bits(2))
	data, coupling := int(r.bits(3)), int(r.bits(4))
	for range 2 { // mono and stereo mixdown
		if r.bit() == 1 {
			r.bits(4)
		}
	}
	if r.bit() == 1 {
		r.bits(3)
	}
	n := lfe
	for range front + side + back {
		n += 1 + int(r.bit())
		r.bits(4)
	}
	for range lfe + data {
		r.bits(4)
	}
	for range coupling {
		r.bits(5)
	}
	r.at = (r.at + 7) &^ 7
	for range r.bits(8) { // a comment
		r.bits(8)
	}
	if r.over || n == 0 {
		return -1
	}
	return n
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
	return err == nil && x == y
}
