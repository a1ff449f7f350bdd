package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// shape is what a decoder configuration says.
type shape struct {
	nalSize       int // of NAL length prefixes, 0: none
	width, height int
	rate          int // Hz, 0: not known
	frame         int // sound: samples of rate in one frame, 0: not known
}

// configure reads a decoder configuration record, as it stands in its box in MP4 without the box header.
func configure(codec string, b []byte) (s shape, err error) {
	switch codec {
	case "avc":
		s.nalSize, s.width, s.height, err = readAVCC(b)
	case "hevc":
		s.nalSize, s.width, s.height, err = readHVCC(b)
	case "av1":
		s.width, s.height, err = readAV1C(b)
	case "vp9":
		if len(b) != 12 || b[0] != 1 {
			err = fmt.Errorf("record of %d bytes", len(b))
		} else if n := int(binary.BigEndian.Uint16(b[10:])); n != 0 {
			err = fmt.Errorf("%d bytes of initialisation data", n)
		}
	case "aac":
		s.rate, s.frame, err = readASC(b)
	case "opus":
		if len(b) < 11 || b[0] != 0 || b[1] == 0 {
			err = fmt.Errorf("record of %d bytes", len(b))
		} else if n := int(b[1]); b[10] != 0 && len(b) < 13+n {
			err = errors.New("torn channel map")
		}
		s.rate = 48000
	case "ac-3":
		if len(b) != 3 {
			return s, fmt.Errorf("record of %d bytes", len(b))
		}
		if fs := b[0] >> 6; fs < 3 {
			s.rate, s.frame = [...]int{48000, 44100, 32000}[fs], 1536
		} else {
			err = errors.New("reserved sample rate")
		}
	case "ec-3":
		if len(b) < 5 {
			return s, fmt.Errorf("record of %d bytes", len(b))
		}
		if fs := b[2] >> 6; fs < 3 {
			s.rate = [...]int{48000, 44100, 32000}[fs]
		}
	case "flac":
		if len(b) < 4+4+34 || b[4]&0x7f != 0 || b[5] != 0 || b[6] != 0 || b[7] != 34 {
			return s, fmt.Errorf("no stream information in %d bytes", len(b))
		}
		s.rate = int(b[18])<<12 | int(b[19])<<4 | int(b[20])>>4
		if s.rate == 0 {
			err = errors.New("sample rate 0")
		}
	}
	return s, err
}

// needsConfig reports whether a decoder of the codec must be told something before the first frame.
func needsConfig(codec string) bool {
	switch codec {
	case "mp3", "g711a", "g711u", "vp8":
		return false
	}
	return true
}

// readASC reads an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1): Hz and samples of one frame, both as the core codec
// has them.
func readASC(b []byte) (rate, frame int, err error) {
	r := &bitReader{b: b}
	kind := r.u(5)
	if kind == 31 {
		kind = 32 + r.u(6)
	}
	hz := func() int {
		if i := r.u(4); i == 15 {
			return int(r.u(24))
		} else if i < uint64(len(aacRates)) {
			return aacRates[i]
		}
		return 0
	}
	rate = hz()
	channels := r.u(4)
	if kind == 5 || kind == 29 { // SBR said first
		hz()
		if kind = r.u(5); kind == 31 {
			kind = 32 + r.u(6)
		}
	}
	frame = 1024
	if r.u(1) == 1 {
		frame = 960
	}
	if r.over || len(b) < 2 {
		return 0, 0, fmt.Errorf("record of %d bytes", len(b))
	}
	if kind == 0 || rate == 0 || channels > 14 {
		return 0, 0, fmt.Errorf("object type %d, %d Hz, channel configuration %d", kind, rate, channels)
	}
	return rate, frame, nil
}

var aacRates = [...]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// readHVCC reads an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1).
func readHVCC(b []byte) (nalSize, width, height int, err error) {
	if len(b) < 23 || b[0] > 1 { // drafts wrote version 0
		return 0, 0, 0, fmt.Errorf("record of %d bytes", len(b))
	}
	nalSize = int(b[21]&3) + 1
	if nalSize == 3 {
		return 0, 0, 0, errors.New("NAL lengths of 3 bytes")
	}
	arrays := int(b[22])
	b = b[23:]
	var have [64]int
	for range arrays {
		if len(b) < 3 {
			return nalSize, width, height, errors.New("torn record")
		}
		kind, n := int(b[0]&0x3f), int(binary.BigEndian.Uint16(b[1:]))
		b = b[3:]
		for range n {
			if len(b) < 2 {
				return nalSize, width, height, errors.New("torn record")
			}
			l := int(binary.BigEndian.Uint16(b))
			if l < 3 || len(b) < 2+l {
				return nalSize, width, height, errors.New("torn parameter set")
			}
			u := b[2 : 2+l]
			b = b[2+l:]
			if got := int(u[0] >> 1 & 0x3f); got != kind {
				return nalSize, width, height, fmt.Errorf("a NAL unit of type %d among those of type %d", got, kind)
			}
			if kind == 33 && have[33] == 0 {
				if width, height, err = readHEVCSPS(u); err != nil {
					return nalSize, 0, 0, err
				}
			}
			have[kind]++
		}
	}
	if have[32] == 0 || have[33] == 0 || have[34] == 0 {
		return nalSize, width, height, fmt.Errorf("%d video, %d sequence and %d picture parameter sets", have[32], have[33], have[34])
	}
	return nalSize, width, height, nil
}

// readHEVCSPS reads the picture size from a sequence parameter set (ITU-T H.265, 7.3.2.2.1).
func readHEVCSPS(nal []byte) (width, height int, err error) {
	if len(nal) < 4 {
		return 0, 0, errors.New("short sequence parameter set")
	}
	r := &bitReader{b: unescape(nal[2:])}
	r.u(4)
	layers := int(r.u(3))
	r.u(1)
	r.u(88) // general profile, tier
	r.u(8)  // and level
	var profile, level [8]bool
	for i := range layers {
		profile[i], level[i] = r.u(1) == 1, r.u(1) == 1
	}
	if layers > 0 {
		for range 8 - layers {
			r.u(2)
		}
	}
	for i := range layers {
		if profile[i] {
			r.u(88)
		}
		if level[i] {
			r.u(8)
		}
	}
	r.ue()
	chroma := r.ue()
	separate := chroma == 3 && r.u(1) == 1
	w, h := r.ue(), r.ue()
	var left, right, top, bottom uint64
	if r.u(1) == 1 {
		left, right, top, bottom = r.ue(), r.ue(), r.ue(), r.ue()
	}
	if r.over || w > 1<<16 || h > 1<<16 || left|right|top|bottom > 1<<16 {
		return 0, 0, errors.New("torn sequence parameter set")
	}
	cropX, cropY := uint64(1), uint64(1)
	if !separate && (chroma == 1 || chroma == 2) {
		cropX = 2
	}
	if !separate && chroma == 1 {
		cropY = 2
	}
	width, height = int(w)-int(cropX*(left+right)), int(h)-int(cropY*(top+bottom))
	if width <= 0 || height <= 0 {
		return 0, 0, fmt.Errorf("picture of %d x %d", width, height)
	}
	return width, height, nil
}

// readAV1C reads an AV1CodecConfigurationRecord. A sequence header in it tells the largest picture; there may be none,
// as it comes with every key frame.
func readAV1C(b []byte) (width, height int, err error) {
	if len(b) < 4 || b[0] != 0x81 {
		return 0, 0, fmt.Errorf("record of %d bytes", len(b))
	}
	err = eachOBU(b[4:], func(kind int, body []byte) error {
		if kind == 1 && width == 0 {
			width, height, err = readSequence(body)
			return err
		}
		return nil
	})
	return width, height, err
}

// eachOBU walks over open bitstream units with sizes (AV1, 5.3).
func eachOBU(b []byte, f func(kind int, body []byte) error) error {
	for len(b) > 0 {
		h := b[0]
		if h&0x80 != 0 {
			return errors.New("forbidden bit of an OBU is set")
		}
		b = b[1:]
		if h&4 != 0 {
			if len(b) == 0 {
				return errors.New("torn OBU header")
			}
			b = b[1:]
		}
		n := uint64(len(b))
		if h&2 != 0 {
			n = 0
			i := 0
			for ; ; i++ {
				if i >= len(b) || i == 8 {
					return errors.New("torn OBU size")
				}
				n |= uint64(b[i]&0x7f) << (7 * i)
				if b[i]&0x80 == 0 {
					break
				}
			}
			b = b[i+1:]
		}
		if n > uint64(len(b)) {
			return fmt.Errorf("OBU of %d bytes, %d are left", n, len(b))
		}
		if err := f(int(h>>3&15), b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// readSequence reads the largest picture from an AV1 sequence header (AV1, 5.5.1).
func readSequence(b []byte) (width, height int, err error) {
	r := &bitReader{b: b}
	r.u(3)
	r.u(1)
	if r.u(1) == 1 { // reduced still picture
		r.u(5)
	} else {
		decoderModel := false
		delayBits := 0
		if r.u(1) == 1 { // timing
			r.u(64)
			if r.u(1) == 1 {
				zeros := 0
				for r.u(1) == 0 && !r.over {
					zeros++
				}
				if zeros < 32 {
					r.u(zeros)
				}
			}
			if decoderModel = r.u(1) == 1; decoderModel {
				delayBits = int(r.u(5)) + 1
				r.u(32)
				r.u(10)
			}
		}
		initial := r.u(1) == 1
		for range int(r.u(5)) + 1 {
			r.u(12)
			if r.u(5) > 7 {
				r.u(1)
			}
			if decoderModel && r.u(1) == 1 {
				r.u(delayBits)
				r.u(delayBits)
				r.u(1)
			}
			if initial && r.u(1) == 1 {
				r.u(4)
			}
		}
	}
	wb, hb := int(r.u(4))+1, int(r.u(4))+1
	width, height = int(r.u(wb))+1, int(r.u(hb))+1
	if r.over {
		return 0, 0, errors.New("torn sequence header")
	}
	return width, height, nil
}

// picture is what a coded picture says about itself.
type picture struct {
	start    bool // a decoder can start here: IDR, IRAP, key frame
	recovery bool // it can start here as well, by a recovery point
	coded    int  // slices or frames
	number   uint64
	numbered bool
	media    uint64 // sum of what is coded, without what a container may add or leave out
	sets     bool   // parameter sets or a sequence header are in it
	foreign  bool   // a codec that is not understood: start is not known
}

// readPicture looks at one access unit. b is length-prefixed with nalSize bytes (H.264, HEVC), a temporal unit (AV1) or a
// frame. scratch is room for what is summed.
func readPicture(codec string, b []byte, nalSize int, scratch *[]byte) (p picture, err error) {
	sum := append((*scratch)[:0], pictureByte)
	defer func() { *scratch = sum }()
	switch codec {
	case "avc", "hevc":
		err = eachUnit(b, nalSize, func(nal []byte) error {
			coded, err := p.unit(codec, nal)
			if coded {
				sum = append(sum, nal...)
			}
			return err
		})
	case "av1":
		err = eachOBU(b, func(kind int, body []byte) error {
			switch kind {
			case 1:
				p.sets = true
			case 3, 6: // frame header, frame
				if p.coded == 0 && len(body) > 0 {
					p.start = body[0]>>5 == 0 // shown for the first time, and a key frame
				}
				p.coded++
				sum = append(sum, body...)
			case 4:
				sum = append(sum, body...)
			}
			return nil
		})
	case "vp9":
		sum = append(sum, b...)
		if len(b) > 0 && b[0]>>6 == 2 {
			r := &bitReader{b: b}
			r.u(2)
			if low, high := r.u(1), r.u(1); low+2*high == 3 {
				r.u(1)
			}
			p.coded = 1
			p.start = r.u(1) == 0 && r.u(1) == 0
		}
	case "vp8":
		sum = append(sum, b...)
		if len(b) > 3 {
			p.coded, p.start = 1, b[0]&1 == 0
		}
	default:
		sum = append(sum, b...)
		p.coded, p.foreign = 1, true
	}
	p.media = xxh64(sum)
	return p, err
}

// eachUnit walks over length-prefixed NAL units, which must fill b exactly.
func eachUnit(b []byte, nalSize int, f func(nal []byte) error) error {
	for at := 0; at < len(b); {
		if at+nalSize > len(b) {
			return fmt.Errorf("%d bytes behind the last NAL unit", len(b)-at)
		}
		n := 0
		for _, c := range b[at : at+nalSize] {
			n = n<<8 | int(c)
		}
		at += nalSize
		if n <= 0 || at+n > len(b) {
			return fmt.Errorf("NAL unit of %d bytes, %d are left", n, len(b)-at)
		}
		if err := f(b[at : at+n]); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// unit looks at one NAL unit and says whether it is a slice.
func (p *picture) unit(codec string, nal []byte) (coded bool, err error) {
	if nal[0]&0x80 != 0 {
		return false, errors.New("forbidden bit is set")
	}
	if codec == "hevc" {
		if len(nal) < 2 {
			return false, errors.New("NAL unit of 1 byte")
		}
		switch kind := nal[0] >> 1 & 0x3f; {
		case kind < 32:
			if p.coded == 0 {
				p.start = kind >= 16 && kind <= 21
			}
			p.coded++
			return true, nil
		case kind < 35:
			p.sets = true
		case kind == 39:
			p.message(unescape(nal[2:]))
		}
		return false, nil
	}
	switch nal[0] & 31 {
	case 5:
		p.start = true
		p.coded++
		return true, nil
	case 1, 2, 3, 4:
		p.coded++
		return true, nil
	case 6:
		p.message(unescape(nal[1:]))
		p.recovery = p.recovery || recoveryPoint(unescape(nal[1:]))
	case 7, 8:
		p.sets = true
	}
	return false, nil
}

func (p *picture) message(b []byte) {
	if v, ok := readNumber(b); ok {
		p.number, p.numbered = v, true
	}
}

// recoveryPoint reports whether the messages of an H.264 SEI unit say that everything is right from this picture on.
func recoveryPoint(b []byte) bool {
	for len(b) > 2 {
		kind, size := int(b[0]), int(b[1])
		if kind == 255 || size == 255 || 2+size > len(b) {
			return false
		}
		if kind == 6 {
			return size > 0 && b[2]&0x80 != 0 // recovery_frame_cnt is 0
		}
		b = b[2+size:]
	}
	return false
}
