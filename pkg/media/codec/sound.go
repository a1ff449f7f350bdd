package codec

// Frame is the header of a frame of sound that can be found in a stream without a container.
type Frame struct {
	Size    int // bytes of the whole frame, header included
	Header  int // bytes of it that are left out where a container says the same: ADTS 7 or 9; else 0
	Rate    int // Hz
	Samples int // per channel
}

// ADTSFrame reads the header of an AAC frame. It needs 7 bytes. ok is false if there is none at the start of b.
func ADTSFrame(b []byte) (f Frame, ok bool) { return Frame{}, false }

// MP3Frame reads the header of an MPEG-1, 2 or 2.5 audio frame of layer 1, 2 or 3. It needs 4 bytes.
func MP3Frame(b []byte) (f Frame, ok bool) { return Frame{}, false }

// AC3Frame reads the header of an AC-3 or E-AC-3 sync frame. It needs 8 bytes. enhanced tells which of the two it is.
// A dependent E-AC-3 frame has no samples of its own: Samples is 0, it belongs to the frame before.
func AC3Frame(b []byte) (f Frame, enhanced, ok bool) { return Frame{}, false, false }

// BuildASC makes an AudioSpecificConfig from an ADTS header of at least 7 bytes. The error is ErrBad.
func BuildASC(adts []byte) ([]byte, error) { return nil, ErrBad }

// AppendADTS appends the ADTS header for a raw frame of size bytes; asc is its AudioSpecificConfig. The error is ErrBad:
// what ADTS cannot say (a frame above 8184 bytes, an odd rate or number of channels).
func AppendADTS(dst, asc []byte, size int) ([]byte, error) { return dst, ErrBad }

// BuildOpus makes a dOps from an OpusHead packet (Ogg, Matroska, FLV). The error is ErrBad.
func BuildOpus(head []byte) ([]byte, error) { return nil, ErrBad }

// BuildOpusTS makes a dOps from the channel configuration code of MPEG-TS (1 to 8 channels, 0 dual mono).
func BuildOpusTS(code byte) ([]byte, error) { return nil, ErrBad }

// BuildAC3 makes a dac3 from an AC-3 sync frame; BuildEAC3 a dec3 from one access unit of E-AC-3, that is one
// independent frame and the dependent ones behind it. The error is ErrBad.
func BuildAC3(frame []byte) ([]byte, error)  { return nil, ErrBad }
func BuildEAC3(frame []byte) ([]byte, error) { return nil, ErrBad }

// BuildFLAC makes a dfLa from STREAMINFO: its 34 bytes, or these behind a block header, "fLaC" or both.
func BuildFLAC(streaminfo []byte) ([]byte, error) { return nil, ErrBad }
