package codec

import (
	"bytes"

	"github.com/liverec/liverec/pkg/media"
)

// LATM takes raw AAC frames out of LATM in its synchronised form (LOAS), one stream of one layer with one frame in each
// element: what encoders send. Its zero value has seen nothing yet.
type LATM struct {
	record    []byte
	info      Info
	subframes int
	out       []byte
}

// LATMFrame reads the header of a LOAS frame, 3 bytes. size is that of the whole frame.
func LATMFrame(b []byte) (size int, ok bool) {
	if len(b) < 3 || b[0] != 0x56 || b[1]&0xE0 != 0xE0 {
		return 0, false
	}
	return 3 + int(b[1]&0x1F)<<8 + int(b[2]), true
}

// Read takes one whole LOAS frame. data is valid until the next call. changed says that Record is new. The error is
// ErrBad: it cannot be read, or its configuration has not come yet.
func (l *LATM) Read(frame []byte) (data []byte, changed bool, err error) {
	size, ok := LATMFrame(frame)
	if !ok || size > len(frame) {
		return nil, false, bad("no LOAS frame in %d bytes", len(frame))
	}
	r := &bitReader{b: frame[3:size]}
	if !r.flag() {
		if changed, err = l.configure(r); err != nil {
			return nil, false, err
		}
	}
	if l.record == nil {
		return nil, false, bad("LATM without a configuration")
	}
	if l.subframes > 0 {
		return nil, changed, bad("LATM with %d frames in an element", l.subframes+1)
	}
	n := 0
	for {
		b := int(r.bits(8))
		if n += b; b != 0xFF || r.over {
			break
		}
	}
	if r.over || n*8 > r.rest() {
		return nil, changed, bad("LATM whose frame of %d bytes does not fit", n)
	}
	l.out = l.out[:0]
	for range n {
		l.out = append(l.out, byte(r.bits(8)))
	}
	return l.out, changed, nil
}

// Record is the AudioSpecificConfig, nil until it has come. Info is what it says.
func (l *LATM) Record() []byte { return l.record }

// Info is what the record says.
func (l *LATM) Info() Info { return l.info }

// configure reads a StreamMuxConfig.
func (l *LATM) configure(r *bitReader) (changed bool, err error) {
	value := func() (v int) {
		for range r.bits(2) + 1 {
			v = v<<8 | int(r.bits(8))
		}
		return v
	}
	version := r.bit()
	if version == 1 && r.flag() {
		return false, bad("LATM of an unknown version")
	}
	if version == 1 {
		value()
	}
	same, subframes, programs, layers := r.flag(), int(r.bits(6)), r.bits(4), r.bits(3)
	if !same || programs > 0 || layers > 0 {
		return false, bad("LATM with %d programs of %d layers", programs+1, layers+1)
	}
	var w bitWriter
	if version == 1 {
		bits := value()
		if bits > r.rest() || bits > 8*256 {
			return false, bad("LATM with a configuration of %d bits", bits)
		}
		for range bits {
			w.put(r.bit(), 1)
		}
	} else if !copyASC(r, &w) {
		return false, bad("LATM with a configuration whose end cannot be told")
	}
	if r.bits(3) != 0 {
		return false, bad("LATM with frames of fixed length")
	}
	r.bits(8)
	if r.flag() { // other data
		if version == 1 {
			value()
		} else {
			for more := true; more && !r.over; {
				more = r.flag()
				r.bits(8)
			}
		}
	}
	if r.flag() {
		r.bits(8) // checksum
	}
	if r.over {
		return false, bad("LATM that ends inside its configuration")
	}
	l.subframes = subframes
	if l.record != nil && (bytes.Equal(w.b, l.record) || Equal(media.AAC, w.b, l.record)) {
		return false, nil
	}
	info, err := parseAAC(w.b)
	if err != nil {
		return false, err
	}
	l.record, l.info = w.b, info
	return true, nil
}

// copyASC copies an AudioSpecificConfig that does not say how long it is.
func copyASC(r *bitReader, w *bitWriter) bool {
	take := func(n int) uint32 {
		v := r.bits(n)
		w.put(v, n)
		return v
	}
	rate := func() {
		if take(4) == 15 {
			take(24)
		}
	}
	object := take(5)
	rate()
	layout := take(4)
	if object == aacSBR || object == aacPS {
		rate()
		object = take(5)
	}
	if object < 1 || object > 4 {
		return false
	}
	take(1)
	if take(1) == 1 {
		take(14)
	}
	extension := take(1) == 1
	if layout == 0 {
		if programChannels(r, w) < 0 {
			return false
		}
	}
	return !extension && !r.over
}
