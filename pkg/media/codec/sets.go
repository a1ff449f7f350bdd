package codec

import "github.com/liverec/liverec/pkg/media"

// Picture is what a Sets saw in one access unit.
type Picture struct {
	Key     bool // a decoder can start here
	Open    bool // … but pictures that are shown before it may be missing something: no IDR
	Changed bool // Sets.Record is new from this picture on
	Slices  int  // NAL units that hold coded picture; 0: there is no picture in it
	Broken  bool // lengths that do not add up, an empty NAL unit or a forbidden bit: what was whole is here
}

// Sets follows the parameter sets of one H.264 or HEVC track. It is made by NewSets.
type Sets struct{ codec media.Codec }

// NewSets follows a track of codec AVC or HEVC. record is what is known already: avcC or hvcC; nil if nothing is. The
// error is ErrBad.
func NewSets(c media.Codec, record []byte) (*Sets, error) { return &Sets{c}, nil }

// Record is the current configuration record, with lengths of 4 bytes; nil until all that it needs has come. It is
// never changed: a new one is a new slice.
func (s *Sets) Record() []byte { return nil }

// FromAnnexB appends an access unit, given with start codes, to dst as NAL units behind 4-byte lengths.
//
// Left out are access unit delimiters, filler, end of sequence and stream marks, and parameter sets that the record
// has. Others become part of a new record when the picture is a key (Changed), and are left out likewise. In any other
// picture they stay where they are, so that nothing is lost until the next key. Sets that come without a picture
// (Slices 0; nothing is appended) belong to the next one.
//
// It allocates only when dst is too small (it never grows by more than 4 bytes per NAL unit) or the record changes.
func (s *Sets) FromAnnexB(dst, au []byte) ([]byte, Picture) { return dst, Picture{} }

// FromPrefixed does the same for an access unit whose NAL units stand behind lengths of nalLength bytes.
func (s *Sets) FromPrefixed(dst, au []byte, nalLength int) ([]byte, Picture) { return dst, Picture{} }

// ToAnnexB appends the NAL units of a length-prefixed access unit to dst, each behind a 4-byte start code.
func ToAnnexB(dst, au []byte, nalLength int) ([]byte, error) { return dst, ErrBad }

// ParameterSets is what an avcC or hvcC holds. Its slices point into what was parsed.
type ParameterSets struct{ VPS, SPS, PPS [][]byte }

// ReadSets takes the parameter sets out of an avcC or hvcC. The error is ErrBad.
func ReadSets(c media.Codec, record []byte) (ParameterSets, error) { return ParameterSets{}, ErrBad }

// BuildAVCC makes an avcC with lengths of 4 bytes. The error is ErrBad: no SPS or PPS, or one that cannot be read.
func BuildAVCC(sps, pps [][]byte) ([]byte, error) { return nil, ErrBad }

// BuildHVCC makes an hvcC with lengths of 4 bytes. The error is ErrBad.
func BuildHVCC(vps, sps, pps [][]byte) ([]byte, error) { return nil, ErrBad }
