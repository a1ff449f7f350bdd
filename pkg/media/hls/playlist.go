package hls

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Limits of what is read.
const (
	MaxSize     = 8 << 20 // bytes of one playlist, before and after variables were replaced
	MaxSegments = 1 << 16 // segments of one playlist; more is an error, since numbering would suffer
	MaxForms    = 512     // variants, and renditions, of one playlist; more are counted in Master.Dropped
	MaxParts    = 1 << 14 // parts of one playlist; more are left out
	maxTags     = 1 << 16 // tags of vendors in one playlist; more are left out
	maxRanges   = 1 << 12 // date ranges of one playlist; more are left out
	maxKeys     = 16      // keys that hold at one time; more are left out
	maxHints    = 16      // preload hints; more are left out
)

// Errors of [Parse] and [Read], wrapped.
var (
	// ErrNotPlaylist says that the text is no playlist: an error page, an empty answer, compressed data.
	ErrNotPlaylist = errors.New("not an HLS playlist")
	// ErrTooLarge says that a limit was passed.
	ErrTooLarge = errors.New("playlist too large")
)

// Playlist is one playlist: either Master or Media is not nil.
type Playlist struct {
	Master *Master
	Media  *Media
}

// Master is a multivariant playlist: the forms in which a stream can be had. It does not say whether the stream is live.
type Master struct {
	Variants   []Variant   // in the order of the playlist, which means nothing
	Renditions []Rendition // in the order of the playlist, also those that no variant names
	// Independent: each segment of every variant begins with a key frame. False says nothing.
	Independent bool
	// Dropped is how many variants and renditions were left out: beyond MaxForms, without a URI, or with one that
	// nothing here may open.
	Dropped int
	// Variables are those of its EXT-X-DEFINE, for ParseWith of what it leads to.
	Variables map[string]string
}

// Variant is one form of the stream (EXT-X-STREAM-INF and the URI below it). Absent attributes are zero.
type Variant struct {
	URI              string // as written
	URL              string // absolute, http or https; never empty
	Bandwidth        int64  // greatest bit/s of a segment
	AverageBandwidth int64  // bit/s
	Width, Height    int    // pixels
	FrameRate        float64
	Codecs           []string // RFC 6381: "avc1.64001f", "mp4a.40.2"
	Name             string   // not in the standard; Wowza and others
	Range            string   // "SDR", "PQ", "HLG"
	HDCP             string   // "NONE", "TYPE-0", "TYPE-1"
	Audio            string   // the GROUP-ID of its audio renditions; likewise the next three
	Video            string
	Subtitles        string
	Captions         string // "NONE": certainly has no closed captions
	Pathway          string // content steering: variants of different pathways are the same in different places
	StableID         string
}

// Rendition is another version of one track (EXT-X-MEDIA).
type Rendition struct {
	Type            string // "AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"
	Group           string // the GROUP-ID that variants name
	Name            string
	Language        string // RFC 5646
	URI             string // as written; empty: the track is inside the variant's own segments
	URL             string // absolute, http or https; empty with a URI: nothing that may be opened
	Default         bool
	Autoselect      bool
	Forced          bool
	Channels        string // "2", "16/JOC"
	Characteristics string
	InstreamID      string // closed captions: "CC1"
}

// Media is a media playlist: the window of segments that can be had now.
type Media struct {
	// Sequence is the number of Segments[0], or would be if there were one: EXT-X-MEDIA-SEQUENCE plus Skipped.
	Sequence uint64
	Skipped  uint64 // EXT-X-SKIP: so many segments before Segments[0] are left out, since the client knows them
	// Discontinuities is how many EXT-X-DISCONTINUITY have left the window, as far as the playlist says.
	Discontinuities uint64
	TargetDuration  time.Duration // as declared, though segments may be longer; 0: not declared
	Version         int           // 0: not declared
	Type            string        // "EVENT": nothing leaves the window, "VOD": nothing changes, or ""
	Ended           bool          // EXT-X-ENDLIST: no segment will be added
	IFramesOnly     bool          // trick play, nothing to record
	Independent     bool          // each segment begins with a key frame; false says nothing
	Segments        []Segment

	// Low latency. Parts are those of the segment that is still growing, behind the last one.
	PartTarget    time.Duration
	Parts         []Part
	Hints         []Hint
	ServerControl ServerControl

	DateRanges []DateRange
	// Tags are the tags of vendors behind the last segment, such as EXT-X-TWITCH-PREFETCH.
	Tags []Tag
	// Open: the text ends with a URI and no line end behind it. Some packagers write so; else the list was cut off, and the
	// last segment may have half a name.
	Open bool
	// Orphans is how many URIs had no EXTINF and are no segments therefore.
	Orphans int
}

// Live reports whether segments may be added: there is no EXT-X-ENDLIST and the type is not VOD.
func (m *Media) Live() bool { return !m.Ended && m.Type != "VOD" }

// Segment is one segment of a window.
type Segment struct {
	Sequence uint64 // media sequence number; each is one more than that of the segment before
	URI      string // as written
	URL      string // absolute, http or https; empty: nothing that may be opened
	Duration time.Duration
	Title    string // what stands behind the comma of EXTINF; Bilibili: "<size>|<crc32>", both in hex
	// Date is the wall clock of its first sample (EXT-X-PROGRAM-DATE-TIME), in UTC; zero if this very segment has none.
	// A date without a zone is taken for UTC.
	Date time.Time
	// Discontinuity: format, tracks or clock may differ from those of the segment before.
	Discontinuity bool
	// Period counts the discontinuities of the stream up to and including that of this segment.
	Period  uint64
	Gap     bool      // the server says itself that it does not have it: do not ask
	Range   ByteRange // zero: the whole of URL
	Bitrate int64     // bit/s, declared (EXT-X-BITRATE), carried forward; 0: not declared
	// Map is the initialisation section that holds, carried forward; nil: none was named up to here in this playlist,
	// and an older playlist's may hold. It is shared: equal maps in a row are one pointer.
	Map *Map
	// Keys are the keys that hold, one for each KEYFORMAT, carried forward. nil: none was named up to here in this
	// playlist, and an older playlist's may hold. Not nil and empty: METHOD=NONE, it is certainly not encrypted. Shared.
	Keys  []Key
	Parts []Part // its low-latency parts, if they are still listed
	Tags  []Tag  // the tags of vendors before it: EXT-BILI-AUX, EXT-X-CUE-OUT
}

// ByteRange is a piece of a resource. The zero value is all of it.
type ByteRange struct {
	Length int64
	// Offset of the first byte. -1: it goes on where the range of the segment before ended, and that segment is not in
	// this playlist or not of the same resource.
	Offset int64
}

// Map is an initialisation section (EXT-X-MAP).
type Map struct {
	URI   string
	URL   string // as that of a segment
	Range ByteRange
	Keys  []Key // that hold where the tag stands, as those of a segment; the section is encrypted with them
}

// Key says how segments are encrypted (EXT-X-KEY, with a METHOD other than NONE).
type Key struct {
	Method   string // "AES-128", "SAMPLE-AES", "SAMPLE-AES-CTR"
	URI      string
	URL      string // as that of a segment; empty for skd: and data:, see Inline
	IV       string // as written, "0x" and 32 hex digits; empty: the sequence number of the segment
	Format   string // KEYFORMAT, "identity" if it is absent
	Versions string // KEYFORMATVERSIONS
}

// Inline is the key that a data: URI holds itself. is says whether URI is such a one.
func (k Key) Inline() (key []byte, is bool, err error) {
	const scheme = "data:"
	if len(k.URI) < len(scheme) || !strings.EqualFold(k.URI[:len(scheme)], scheme) {
		return nil, false, nil
	}
	about, text, found := strings.Cut(k.URI[len(scheme):], ",")
	if !found {
		return nil, true, errors.New("read the key in the playlist: its data: URI has no comma")
	}
	if text, err = url.PathUnescape(text); err != nil {
		return nil, true, fmt.Errorf("read the key in the playlist: %w", err)
	}
	if !strings.HasSuffix(strings.ToLower(about), ";base64") {
		return []byte(text), true, nil
	}
	if key, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "=")); err != nil {
		return nil, true, fmt.Errorf("read the key in the playlist: %w", err)
	}
	return key, true, nil
}

// Vector is the initialisation vector for the segment with this number, or an error if IV cannot be read. An
// initialisation section has no number, so that its key has to have an IV.
func (k Key) Vector(sequence uint64) ([16]byte, error) {
	var v [16]byte
	if k.IV == "" {
		binary.BigEndian.PutUint64(v[8:], sequence)
		return v, nil
	}
	digits, ok := strings.CutPrefix(strings.ToLower(k.IV), "0x")
	if !ok || len(digits) > 32 {
		return v, fmt.Errorf("read the initialisation vector %q: it is not 0x and up to 32 hex digits", k.IV)
	}
	raw, err := hex.DecodeString(strings.Repeat("0", 32-len(digits)) + digits)
	if err != nil {
		return v, fmt.Errorf("read the initialisation vector %q: %w", k.IV, err)
	}
	copy(v[:], raw)
	return v, nil
}

// Part is a piece of a segment that can be had before the segment is whole (EXT-X-PART). All parts of a segment in a
// row are the segment.
type Part struct {
	URI         string
	URL         string // as that of a segment
	Duration    time.Duration
	Independent bool // has a key frame
	Gap         bool
	Range       ByteRange
}

// Hint names what will come next (EXT-X-PRELOAD-HINT). It may be withdrawn.
type Hint struct {
	Type   string // "PART", "MAP"
	URI    string
	URL    string // as that of a segment
	Start  int64  // first byte
	Length int64  // 0: to the end
}

// ServerControl says what a server can do for a client that asks again (EXT-X-SERVER-CONTROL).
type ServerControl struct {
	BlockReload    bool          // _HLS_msn and _HLS_part are understood
	SkipUntil      time.Duration // _HLS_skip is understood, for segments that are that far from the end; 0: it is not
	SkipDateRanges bool
	HoldBack       time.Duration
	PartHoldBack   time.Duration
}

// DateRange is metadata of a stretch of time (EXT-X-DATERANGE): advertising, SCTE-35.
type DateRange struct {
	ID         string
	Class      string
	Start, End time.Time         // in UTC; zero: absent
	Duration   time.Duration     // DURATION, or PLANNED-DURATION if that is absent; 0: neither
	Attributes map[string]string // all of them, without quotation marks
	// Before is the index in Segments of the segment below the tag, len(Segments) if there is none. The range need not
	// begin there; Start says when it does.
	Before int
}

// Tag is a tag that is not of the standard: "#EXT-BILI-AUX:97cffb|K|8a9f|1b2c" has the name "EXT-BILI-AUX" and the
// value behind the colon.
type Tag struct{ Name, Value string }
