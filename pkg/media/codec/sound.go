package codec

import (
	"encoding/binary"

	"github.com/liverec/liverec/pkg/media"
)

var mp3Kbps = [2][3][15]int{ // MPEG-1, then 2 and 2.5; layers 1 to 3
	{
		{0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},
		{0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
	},
	{
		{0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
	},
}

var mp3Rates = [3]int{44100, 48000, 32000}

// MP3Frame reads the header of an MPEG-1, 2 or 2.5 audio frame of layer 1, 2 or 3. It needs 4 bytes. Free format is
// not known.
func MP3Frame(b []byte) (f Frame, ok bool) {
	f, _, ok = mp3Frame(b)
	return f, ok
}

func mp3Frame(b []byte) (f Frame, channels int, ok bool) {
	if len(b) < 4 || b[0] != 0xFF || b[1]&0xE0 != 0xE0 {
		return f, 0, false
	}
	version, layer := b[1]>>3&3, 4-int(b[1]>>1&3) // 0: 2.5, 2: 2, 3: 1
	kbps, rate, pad := int(b[2]>>4), int(b[2]>>2&3), int(b[2]>>1&1)
	if version == 1 || layer == 4 || kbps == 0 || kbps == 15 || rate == 3 || b[3]&3 == 2 {
		return f, 0, false
	}
	table := 0
	f.Rate = mp3Rates[rate]
	if version != 3 {
		table = 1
		f.Rate /= 2
	}
	if version == 0 {
		f.Rate /= 2
	}
	bits := mp3Kbps[table][layer-1][kbps] * 1000
	switch {
	case layer == 1:
		f.Samples = 384
		f.Size = (12*bits/f.Rate + pad) * 4
	case layer == 3 && version != 3:
		f.Samples = 576
		f.Size = 72*bits/f.Rate + pad
	default:
		f.Samples = 1152
		f.Size = 144*bits/f.Rate + pad
	}
	if channels = 2; b[3]>>6 == 3 {
		channels = 1
	}
	return f, channels, true
}

func parseMP3(frame []byte) (Info, error) {
	i := Info{Codec: media.MP3, Name: "mp4a.40.34"}
	if len(frame) == 0 {
		return i, nil
	}
	f, channels, ok := mp3Frame(frame)
	if !ok {
		return Info{}, bad("no MP3 frame")
	}
	i.SampleRate, i.CoreRate, i.Channels, i.FrameSamples = f.Rate, f.Rate, channels, f.Samples
	return i, nil
}

var (
	ac3Kbps     = [19]int{32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640}
	ac3Channels = [8]int{2, 1, 2, 3, 3, 4, 4, 5}
	ac3Rates    = [3]int{48000, 44100, 32000}
)

// ac3Info is the header of a sync frame.
type ac3Info struct {
	Frame
	enhanced                                      bool
	rate, bsid, bsmod, mode, lfe, code, kind, sub uint32
	chanmap                                       uint32
}

func readAC3(b []byte) (f ac3Info, ok bool) {
	if len(b) < 8 || b[0] != 0x0B || b[1] != 0x77 {
		return f, false
	}
	f.bsid = uint32(b[5] >> 3)
	if f.bsid <= 10 {
		f.rate, f.code = uint32(b[4]>>6), uint32(b[4]&0x3F)
		if f.rate == 3 || int(f.code>>1) >= len(ac3Kbps) {
			return f, false
		}
		r := &bitReader{b: b[5:]}
		r.bits(5)
		f.bsmod, f.mode = r.bits(3), r.bits(3)
		if f.mode&1 != 0 && f.mode != 1 {
			r.bits(2)
		}
		if f.mode&4 != 0 {
			r.bits(2)
		}
		if f.mode == 2 {
			r.bits(2)
		}
		f.lfe = r.bit()
		f.Rate, f.Samples = ac3Rates[f.rate], 1536
		words := ac3Kbps[f.code>>1] * 1000 * 1536 / 16 / f.Rate
		if f.rate == 1 {
			words += int(f.code & 1)
		}
		f.Size = words * 2
		if f.bsid > 8 { // half and quarter rates
			f.Rate >>= f.bsid - 8
		}
		return f, true
	}
	if f.bsid > 16 {
		return f, false
	}
	f.enhanced = true
	r := &bitReader{b: b[2:]}
	f.kind, f.sub = r.bits(2), r.bits(3)
	f.Size = int(r.bits(11)+1) * 2
	f.rate = r.bits(2)
	blocks := 6
	if f.rate == 3 {
		half := r.bits(2)
		if half == 3 {
			return f, false
		}
		f.Rate = ac3Rates[half] / 2
	} else {
		f.Rate = ac3Rates[f.rate]
		blocks = [4]int{1, 2, 3, 6}[r.bits(2)]
	}
	f.mode, f.lfe = r.bits(3), r.bit()
	r.bits(5 + 5)
	if r.flag() {
		r.bits(8)
	}
	if f.mode == 0 {
		r.bits(5)
		if r.flag() {
			r.bits(8)
		}
	}
	if f.kind == 1 && r.flag() {
		f.chanmap = r.bits(16)
	}
	if f.kind != 1 {
		f.Samples = 256 * blocks
	}
	return f, f.kind != 3 && f.Size >= 8
}

// AC3Frame reads the header of an AC-3 or E-AC-3 sync frame. It needs 8 bytes. enhanced tells which of the two it is.
// A dependent E-AC-3 frame, or one of a further program, has no samples of its own: Samples is 0, it belongs to the
// frame before.
func AC3Frame(b []byte) (f Frame, enhanced, ok bool) {
	a, ok := readAC3(b)
	if a.sub != 0 {
		a.Samples = 0
	}
	return a.Frame, a.enhanced, ok
}

// BuildAC3 makes a dac3 from an AC-3 sync frame. The error is ErrBad.
func BuildAC3(frame []byte) ([]byte, error) {
	f, ok := readAC3(frame)
	if !ok || f.enhanced {
		return nil, bad("no AC-3 frame")
	}
	var w bitWriter
	w.put(f.rate, 2)
	w.put(f.bsid, 5)
	w.put(f.bsmod, 3)
	w.put(f.mode, 3)
	w.put(f.lfe, 1)
	w.put(f.code>>1, 5)
	w.put(0, 5)
	return w.b, nil
}

// BuildEAC3 makes a dec3 from one access unit of E-AC-3: one independent frame and those that belong to it. The error
// is ErrBad.
func BuildEAC3(unit []byte) ([]byte, error) {
	var programs []ac3Info
	var depend, where []uint32
	size, samples, rate := len(unit), 0, 0
	for len(unit) > 0 {
		f, ok := readAC3(unit)
		if !ok || !f.enhanced && len(programs) == 0 {
			break
		}
		switch {
		case f.kind != 1 && len(programs) < 8:
			programs, depend, where = append(programs, f), append(depend, 0), append(where, 0)
		case f.kind == 1 && len(programs) > 0:
			depend[len(depend)-1]++
			where[len(where)-1] |= f.chanmap >> 5 & 0x1FF // the map has 16 positions, the record those from Lc/Rc on
		}
		if samples == 0 {
			samples, rate = f.Samples, f.Rate
		}
		unit = unit[min(f.Size, len(unit)):]
	}
	if len(programs) == 0 || samples == 0 {
		return nil, bad("no E-AC-3 frame")
	}
	var w bitWriter
	w.put(uint32(min(size*8*rate/samples/1000, 1<<13-1)), 13)
	w.put(uint32(len(programs)-1), 3)
	for i, f := range programs {
		w.put(f.rate, 2)
		w.put(f.bsid, 5)
		w.put(0, 2)
		w.put(f.bsmod, 3)
		w.put(f.mode, 3)
		w.put(f.lfe, 1)
		w.put(0, 3)
		if n := min(depend[i], 15); n > 0 {
			w.put(n, 4)
			w.put(where[i], 9)
		} else {
			w.put(0, 5)
		}
	}
	return w.b, nil
}

func parseAC3(b []byte) (Info, error) {
	if len(b) < 3 {
		return Info{}, bad("dac3 of %d bytes", len(b))
	}
	r := &bitReader{b: b}
	rate, bsid := r.bits(2), r.bits(5)
	r.bits(3)
	mode, lfe, code := r.bits(3), r.bit(), r.bits(5)
	if rate == 3 || int(code) >= len(ac3Kbps) {
		return Info{}, bad("dac3 that makes no sense")
	}
	hz := ac3Rates[rate]
	if bsid > 8 && bsid <= 10 {
		hz >>= bsid - 8
	}
	return Info{Codec: media.AC3, Name: "ac-3", SampleRate: hz, CoreRate: hz, Channels: ac3Channels[mode] + int(lfe), FrameSamples: 1536}, nil
}

func parseEAC3(b []byte) (Info, error) {
	if len(b) < 5 {
		return Info{}, bad("dec3 of %d bytes", len(b))
	}
	r := &bitReader{b: b}
	r.bits(13 + 3)
	rate := r.bits(2)
	r.bits(5 + 2 + 3)
	mode, lfe := r.bits(3), r.bit()
	r.bits(3)
	channels := ac3Channels[mode] + int(lfe)
	if r.bits(4) > 0 {
		// Lc/Rc, Lrs/Rrs, Cs, Ts, Lsd/Rsd, Lw/Rw, Lvh/Rvh, Cvh, LFE2, from the last bit on
		where := r.bits(9)
		for i, n := range [9]int{2, 2, 1, 1, 2, 2, 2, 1, 1} {
			if where>>i&1 == 1 {
				channels += n
			}
		}
	}
	hz := 24000 // one of the half rates; the frames say which
	if rate < 3 {
		hz = ac3Rates[rate]
	}
	if r.over {
		return Info{}, bad("dec3 of %d bytes", len(b))
	}
	return Info{Codec: media.EAC3, Name: "ec-3", SampleRate: hz, CoreRate: hz, Channels: channels, FrameSamples: 1536}, nil
}

// BuildOpus makes a dOps from an OpusHead packet (Ogg, Matroska, FLV). The error is ErrBad.
func BuildOpus(head []byte) ([]byte, error) {
	if len(head) < 19 || string(head[:8]) != "OpusHead" || head[8] > 15 || head[9] == 0 {
		return nil, bad("no OpusHead in %d bytes", len(head))
	}
	channels, family := head[9], head[18]
	rec := []byte{0, channels}
	rec = binary.BigEndian.AppendUint16(rec, binary.LittleEndian.Uint16(head[10:]))
	rec = binary.BigEndian.AppendUint32(rec, binary.LittleEndian.Uint32(head[12:]))
	rec = binary.BigEndian.AppendUint16(rec, binary.LittleEndian.Uint16(head[16:]))
	rec = append(rec, family)
	if family == 0 {
		if channels > 2 {
			return nil, bad("OpusHead of %d channels without a mapping", channels)
		}
		return rec, nil
	}
	if len(head) < 21+int(channels) {
		return nil, bad("OpusHead ends inside its mapping")
	}
	return append(rec, head[19:21+int(channels)]...), nil
}

// What Vorbis, and so Opus, does with 3 to 8 channels: streams, coupled ones, and which of them feeds which speaker.
var opusMaps = [9]struct {
	coupled byte
	mapping []byte
}{
	3: {1, []byte{0, 2, 1}}, 4: {2, []byte{0, 1, 2, 3}}, 5: {2, []byte{0, 4, 1, 2, 3}}, 6: {2, []byte{0, 4, 1, 2, 3, 5}},
	7: {3, []byte{0, 4, 1, 2, 3, 5, 6}}, 8: {3, []byte{0, 6, 1, 2, 3, 4, 5, 7}},
}

// BuildOpusTS makes a dOps from the channel configuration code of MPEG-TS (1 to 8 channels, 0 dual mono). The error is
// ErrBad.
func BuildOpusTS(code byte) ([]byte, error) {
	channels := code
	if code == 0 {
		channels = 2
	}
	if channels > 8 {
		return nil, bad("Opus of channel configuration %#x", code)
	}
	rec := []byte{0, channels, 0x01, 0x38, 0, 0, 0xBB, 0x80, 0, 0, 0} // 312 samples before the start, 48 kHz
	switch {
	case code == 0:
		rec[10] = 255
		rec = append(rec, 2, 0, 0, 1)
	case code > 2:
		m := opusMaps[code]
		rec[10] = 1
		rec = append(append(rec, channels-m.coupled, m.coupled), m.mapping...)
	}
	return rec, nil
}

// OpusTS is the channel configuration code of MPEG-TS for a dOps. ok is false for a mapping that it cannot say.
func OpusTS(dops []byte) (code byte, ok bool) {
	if _, err := parseOpus(dops); err != nil {
		return 0, false
	}
	for code := range byte(9) {
		if c, err := BuildOpusTS(code); err == nil && c[1] == dops[1] && string(c[10:]) == string(dops[10:]) {
			return code, true
		}
	}
	return 0, false
}

func parseOpus(b []byte) (Info, error) {
	if len(b) < 11 || b[0] != 0 || b[1] == 0 {
		return Info{}, bad("dOps of %d bytes", len(b))
	}
	if b[10] != 0 && len(b) < 13+int(b[1]) || b[10] == 0 && b[1] > 2 {
		return Info{}, bad("dOps without a mapping of its %d channels", b[1])
	}
	return Info{Codec: media.Opus, Name: "opus", SampleRate: 48000, CoreRate: 48000, Channels: int(b[1]), PreSkip: int(binary.BigEndian.Uint16(b[2:]))}, nil
}

// opusSamples is how many samples at 48 kHz a packet holds; 0 if it is broken.
func opusSamples(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	size := 0
	switch config := b[0] >> 3; {
	case config < 12: // SILK
		size = [4]int{480, 960, 1920, 2880}[config&3]
	case config < 16: // both
		size = [2]int{480, 960}[config&1]
	default: // CELT
		size = 120 << (config & 3)
	}
	n := 1
	switch b[0] & 3 {
	case 1, 2:
		n = 2
	case 3:
		if len(b) < 2 {
			return 0
		}
		n = int(b[1] & 0x3F)
	}
	if n*size > 5760 {
		return 0
	}
	return n * size
}

// streaminfo finds the 34 bytes in what is written around them.
func streaminfo(b []byte) ([]byte, bool) {
	if len(b) >= 4 && string(b[:4]) == "fLaC" {
		b = b[4:]
	} else {
		b = boxed(b, 0)
	}
	if len(b) >= 38 && b[0]&0x7F == 0 && b[1] == 0 && b[2] == 0 && b[3] == 34 {
		b = b[4:]
	} else if len(b) != 34 {
		return nil, false
	}
	return b[:34], true
}

// BuildFLAC makes a dfLa from STREAMINFO: its 34 bytes, or these behind a block header, "fLaC" or both. The record
// begins with the version and flags of the box. The error is ErrBad.
func BuildFLAC(b []byte) ([]byte, error) {
	s, ok := streaminfo(b)
	if !ok {
		return nil, bad("no STREAMINFO in %d bytes", len(b))
	}
	rec := append([]byte{0, 0, 0, 0, 0x80, 0, 0, 34}, s...)
	if _, err := parseFLAC(rec); err != nil {
		return nil, err
	}
	return rec, nil
}

func parseFLAC(b []byte) (Info, error) {
	s, ok := streaminfo(b)
	if !ok {
		return Info{}, bad("dfLa of %d bytes", len(b))
	}
	r := &bitReader{b: s}
	shortest, longest := r.bits(16), r.bits(16)
	r.bits(24)
	r.bits(24)
	rate, channels := int(r.bits(20)), int(r.bits(3))+1
	if rate == 0 || longest < 16 {
		return Info{}, bad("dfLa of %d Hz, blocks of %d", rate, longest)
	}
	i := Info{Codec: media.FLAC, Name: "fLaC", SampleRate: rate, CoreRate: rate, Channels: channels}
	if shortest == longest {
		i.FrameSamples = int(longest)
	}
	return i, nil
}

// flacSamples reads the header of a FLAC frame; 0 if there is none.
func flacSamples(b []byte) int {
	if len(b) < 5 || b[0] != 0xFF || b[1]&0xFC != 0xF8 {
		return 0
	}
	switch n := int(b[2] >> 4); {
	case n == 1:
		return 192
	case n >= 2 && n <= 5:
		return 576 << (n - 2)
	case n >= 8:
		return 256 << (n - 8)
	case n == 6 || n == 7:
		at := 5 // behind the number, which is coded as UTF-8 codes a character
		for lead := b[4] << 1; b[4] >= 0xC0 && lead&0x80 != 0; lead <<= 1 {
			at++
		}
		if n == 6 && len(b) > at {
			return int(b[at]) + 1
		}
		if n == 7 && len(b) > at+1 {
			return int(binary.BigEndian.Uint16(b[at:])) + 1
		}
	}
	return 0
}
