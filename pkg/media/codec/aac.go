package codec

import (
	"fmt"
	"slices"

	"github.com/liverec/liverec/pkg/media"
)

// The object types of AAC that matter here.
const (
	aacSBR   = 5
	aacERLC  = 17
	aacERLD  = 23
	aacELD   = 39
	aacPS    = 29
	aacLayer = 32 // layers 1 to 3 of MPEG audio are 32 to 34
	aacUSAC  = 42
)

var aacRates = [...]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

type aacInfo struct {
	outer, object    int
	coreRate, rate   int
	layout, channels int // channel configuration, and how many that are
	core, samples    int // samples per frame, of the core and what comes out
	sbr, ps          bool
}

func parseASC(b []byte) (aacInfo, error) {
	var c aacInfo
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
	c.object = object()
	c.outer = c.object
	c.coreRate = rate()
	c.layout = int(r.bits(4))
	c.channels = c.layout
	c.rate = c.coreRate
	if c.object == aacSBR || c.object == aacPS {
		c.sbr, c.ps = true, c.object == aacPS
		c.rate = rate()
		c.object = object()
	}
	c.core = 1024
	switch c.object {
	case 1, 2, 3, 4, 6, 7, aacERLC, 19, 20, 21, 22, aacERLD:
		short := r.flag()
		if r.flag() { // depends on a core coder
			r.bits(14)
		}
		extension := r.flag()
		if c.layout == 0 {
			c.channels = programChannels(r, nil)
		}
		if c.object == 6 || c.object == 20 {
			r.bits(3) // layer
		}
		if extension {
			switch c.object {
			case 22:
				r.bits(16)
			case aacERLC, 19, 20, aacERLD:
				r.bits(3)
			}
			r.bit()
		}
		switch {
		case c.object == aacERLD && short:
			c.core = 480
		case c.object == aacERLD:
			c.core = 512
		case short:
			c.core = 960
		}
	case aacELD:
		if c.core = 512; r.flag() {
			c.core = 480
		}
	}
	switch c.channels {
	case 7:
		c.channels = 8
	case 11:
		c.channels = 7
	case 12, 14:
		c.channels = 8
	case 13:
		c.channels = 24
	}
	if c.object == 0 || c.coreRate <= 0 || c.rate <= 0 || c.channels <= 0 || r.over || c.layout > 14 || c.layout >= 8 && c.layout <= 10 {
		return c, bad("AudioSpecificConfig of %d bytes: object type %d, %d Hz, channel configuration %d", len(b), c.object, c.rate, c.layout)
	}
	// Without the explicit form, SBR may be announced behind the rest.
	if !c.sbr && r.rest() >= 16 && r.bits(11) == 0x2B7 && object() == aacSBR && r.flag() {
		if ext := rate(); ext != 0 && !r.over {
			c.sbr, c.rate = true, ext
			if r.rest() >= 12 && r.bits(11) == 0x548 {
				c.ps = r.flag()
			}
		}
	}
	if c.samples = c.core; c.sbr && c.rate >= 2*c.coreRate {
		c.samples *= 2
	}
	if c.ps && c.channels == 1 {
		c.channels = 2
	}
	return c, nil
}

// programChannels reads a program config element and counts its channels; -1 if it is broken. With w it is copied there.
func programChannels(r *bitReader, w *bitWriter) int {
	take := func(n int) int {
		v := r.bits(n)
		if w != nil {
			w.put(v, n)
		}
		return int(v)
	}
	take(4 + 2 + 4)
	front, side, back, lfe := take(4), take(4), take(4), take(2)
	data, coupling := take(3), take(4)
	for range 2 { // mono and stereo mixdown
		if take(1) == 1 {
			take(4)
		}
	}
	if take(1) == 1 {
		take(3)
	}
	n := lfe
	for range front + side + back {
		n += 1 + take(1)
		take(4)
	}
	for range lfe + data {
		take(4)
	}
	for range coupling {
		take(5)
	}
	r.align()
	if w != nil {
		w.free = 0
	}
	for range take(8) { // a comment
		take(8)
	}
	if r.over || n == 0 {
		return -1
	}
	return n
}

func parseAAC(b []byte) (Info, error) {
	c, err := parseASC(b)
	if err != nil {
		return Info{}, err
	}
	return Info{Codec: media.AAC, Name: fmt.Sprintf("mp4a.40.%d", c.outer), Profile: c.object, SampleRate: c.rate, CoreRate: c.coreRate,
		Channels: c.channels, FrameSamples: c.samples}, nil
}

// Frame is the header of a frame of sound that can be found in a stream without a container.
type Frame struct {
	Size    int // bytes of the whole frame, header included
	Header  int // bytes of it that are left out where a container says the same: ADTS 7 or 9; else 0
	Rate    int // Hz
	Samples int // per channel
}

// ADTSFrame reads the header of an AAC frame. It needs 7 bytes. ok is false if there is none at the start of b.
// A frame of several raw data blocks is told as one, with the samples of all.
func ADTSFrame(b []byte) (f Frame, ok bool) {
	if len(b) < 7 || b[0] != 0xFF || b[1]&0xF6 != 0xF0 {
		return f, false
	}
	rate := int(b[2] >> 2 & 15)
	if rate >= len(aacRates) {
		return f, false
	}
	f.Rate, f.Header = aacRates[rate], 7
	if b[1]&1 == 0 {
		f.Header = 9
	}
	f.Size = int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5])>>5
	f.Samples = 1024 * (1 + int(b[6]&3))
	return f, f.Size >= f.Header
}

// BuildASC makes an AudioSpecificConfig from an ADTS header of at least 7 bytes; with channel configuration 0 it looks
// for a program config element behind it, and takes 2 channels if it finds none. The error is ErrBad.
func BuildASC(adts []byte) ([]byte, error) {
	f, ok := ADTSFrame(adts)
	if !ok {
		return nil, bad("no ADTS header")
	}
	object, rate, channels := uint32(adts[2]>>6)+1, uint32(adts[2]>>2&15), uint32(adts[2]&1)<<2|uint32(adts[3]>>6)
	var w bitWriter
	w.put(object, 5)
	w.put(rate, 4)
	if channels == 0 {
		r := &bitReader{b: adts[min(f.Header, len(adts)):min(len(adts), f.Size)]}
		if r.bits(3) == 5 { // a program config element
			p := w
			p.b = slices.Clone(w.b)
			p.put(0, 4+3)
			if programChannels(r, &p) > 0 {
				return p.b, nil
			}
		}
		channels = 2
	}
	w.put(channels, 4)
	w.put(0, 3)
	return w.b, nil
}

// AppendADTS appends the ADTS header for a raw frame of size bytes; asc is its AudioSpecificConfig. Of SBR only the
// core is named. The error is ErrBad: what ADTS cannot say (a frame above 8184 bytes, an odd rate or channels).
func AppendADTS(dst, asc []byte, size int) ([]byte, error) {
	c, err := parseASC(asc)
	if err != nil {
		return dst, err
	}
	h, err := adtsHeader(c)
	if err != nil {
		return dst, err
	}
	return appendADTS(dst, h, size)
}

// adtsHeader makes a header without a size.
func adtsHeader(c aacInfo) (h [7]byte, err error) {
	rate := -1
	for i, hz := range aacRates {
		if hz == c.coreRate {
			rate = i
		}
	}
	if c.object < 1 || c.object > 4 || rate < 0 || c.layout < 1 || c.layout > 7 || c.core != 1024 {
		return h, bad("ADTS cannot say AAC of object type %d, %d Hz, channel configuration %d, %d samples", c.object, c.coreRate, c.layout, c.core)
	}
	return [7]byte{0xFF, 0xF1, byte(c.object-1)<<6 | byte(rate)<<2 | byte(c.layout>>2), byte(c.layout&3) << 6, 0, 0x1F, 0xFC}, nil
}

func appendADTS(dst []byte, h [7]byte, size int) ([]byte, error) {
	if size += len(h); size > 1<<13-1 {
		return dst, bad("ADTS cannot say a frame of %d bytes", size)
	}
	h[3] |= byte(size >> 11)
	h[4] = byte(size >> 3)
	h[5] |= byte(size << 5)
	return append(dst, h[:]...), nil
}

// ADTS writes the headers for the raw frames of one AudioSpecificConfig.
type ADTS struct{ header [7]byte }

// NewADTS reads asc once. The error is ErrBad, as of AppendADTS.
func NewADTS(asc []byte) (ADTS, error) {
	c, err := parseASC(asc)
	if err != nil {
		return ADTS{}, err
	}
	h, err := adtsHeader(c)
	return ADTS{h}, err
}

// Append appends the header for a raw frame of size bytes.
func (a ADTS) Append(dst []byte, size int) ([]byte, error) { return appendADTS(dst, a.header, size) }
