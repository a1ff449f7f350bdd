// Package probe says whether a finished recording is sound: FLV, MP4 and MPEG-TS. It is the second opinion: it shares no code with the
// writers and readers of liverec, uses nothing but the standard library, and is written from the format
// specifications alone, so an error in a writer cannot hide in it.
//
// It owns the questions (is every tag whole, does time only rise, does the file start where a decoder can start, does
// the index point where it says) and their answers as values. It never changes a file.
package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Kind of a track.
type Kind string

// The kinds.
const (
	Video Kind = "video"
	Audio Kind = "audio"
)

// Code names a kind of problem, so that a caller can say which ones it knows about.
type Code string

// The codes.
const (
	Framing  Code = "framing"  // a byte where no tag can begin, an unknown tag, a wrong PreviousTagSize
	Tail     Code = "tail"     // the file ends inside a tag
	Config   Code = "config"   // no decoder configuration before the first frame, or one again later on
	Start    Code = "start"    // the first picture is none that a decoder can start with
	Order    Code = "order"    // a timestamp that does not rise within its track
	Step     Code = "step"     // more than MaxStep between two pictures
	Skew     Code = "skew"     // the tracks begin or end more than MaxSkew apart
	Frame    Code = "frame"    // an access unit that is not whole
	Twice    Code = "twice"    // a picture that stands in the file twice
	Metadata Code = "metadata" // no onMetaData in front, or one that does not agree with the file
	Index    Code = "index"    // no key frame index, or one that points to the wrong place
	Agree    Code = "agree"    // MP4: the fragments and the final tables tell different things
)

// What Problems are measured by. The values themselves are in the Report, for callers that want to be stricter.
const (
	MaxStep = time.Second
	MaxSkew = 100 * time.Millisecond
)

// Problem is one thing that is wrong.
type Problem struct {
	Code   Code
	Offset int64 // in the file
	Text   string
}

func (p Problem) String() string { return fmt.Sprintf("%s at byte %d: %s", p.Code, p.Offset, p.Text) }

// Track is what is in the file of one kind. Times are on the file's own clock.
type Track struct {
	Kind   Kind
	Codec  string // avc, hevc, av1, vp9, vp8; aac, mp3, opus, ac-3, ec-3, flac, g711a, g711u; unknown
	Frames int
	Keys   int           // frames that a decoder can start with
	First  time.Duration // DTS of the first frame
	Last   time.Duration // DTS of the last frame
	End    time.Duration // end of the last frame: Last and the usual distance of frames
	Step   time.Duration // the largest distance of two frames
	Width  int           // as the decoder configuration has it
	Height int
	Config []byte // decoder configuration record, as its box in MP4 has it
	// Begin and Until are when the first frame is shown and the last one is over, by composition time and edit list.
	Begin, Until time.Duration
	delay        time.Duration // what the edit list takes out of the video for the order of its pictures
	// Content is the running hash over the frames of this track; Report.Content says of what.
	Content uint64
	// Media is the same of what is coded alone: H.264 and HEVC without parameter sets, messages and delimiters, AV1
	// without sequence headers, sound as it is. It is the same for the same media in each container.
	Media uint64
}

// Entry is one entry of the key frame index.
type Entry struct {
	At     time.Duration
	Offset int64
}

// Report is what was found. It says what is there; Problems says what of it should not be.
type Report struct {
	Container string // flv, mp4, ts
	Layout    string // MP4: fragmented (open), between (the tables are there, the head is not patched), hybrid (closed), plain, lost
	Size      int64
	Tags      int // FLV: tags; MP4: boxes at the top
	Tracks    []Track
	Duration  time.Duration // as the metadata has it, 0 if it has none
	Index     []Entry
	Metadata  map[string]any // FLV: onMetaData; numbers are float64
	Lead      time.Duration  // begin of the video less begin of the audio; 0 with one track
	Skew      time.Duration  // end of the video less end of the audio; 0 with one track
	// Content is the running hash of all frames in file order: of each, XXH64 over FLV's tag type (9 video, 8 sound) and
	// the frame as it is stored (FLV: the tag's body; TS: see readTS), chained with its number.
	Content  uint64
	Numbers  []uint64        // picture numbers in file order, where the pictures carry those of pkg/liveroom
	At       []time.Duration // DTS of each of Numbers
	Digests  []Digest        // of each picture in file order: two equal ones are one picture
	Problems []Problem
}

// Digest stands for the content of one picture.
type Digest [8]byte

// Track gives the first track of a kind.
func (r Report) Track(k Kind) (Track, bool) {
	for _, t := range r.Tracks {
		if t.Kind == k {
			return t, true
		}
	}
	return Track{}, false
}

// Media is the time from the first frame to the end of the last one: of the video, or of the audio where there is no
// video.
func (r Report) Media() time.Duration {
	for _, k := range []Kind{Video, Audio} {
		if t, ok := r.Track(k); ok {
			return t.End - t.First
		}
	}
	return 0
}

// Check is nil if the file is sound, apart from problems with one of the given codes.
func (r Report) Check(known ...Code) error {
	var errs []error
	for _, p := range r.Problems {
		if !slices.Contains(known, p.Code) {
			errs = append(errs, errors.New(p.String()))
		}
	}
	if len(errs) > 10 {
		errs = append(errs[:10], fmt.Errorf("and %d more", len(errs)-10))
	}
	return errors.Join(errs...)
}

// Range is a run of picture numbers, both ends included.
type Range struct{ First, Last uint64 }

func (r Range) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Ranges puts numbers together to runs, in their order.
func Ranges(numbers []uint64) []Range {
	var out []Range
	for _, n := range numbers {
		if k := len(out); k > 0 && out[k-1].Last+1 == n {
			out[k-1].Last = n
		} else {
			out = append(out, Range{n, n})
		}
	}
	return out
}

// CheckFile looks at the file of that name, whatever its name says of what is in it. An error means that it could not be
// read or is no recording at all; what is wrong inside a recording is in Report.Problems.
func CheckFile(name string) (Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return Report{}, fmt.Errorf("probe: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Report{}, fmt.Errorf("probe: %w", err)
	}
	r, err := Check(f, info.Size())
	if err != nil {
		return r, fmt.Errorf("probe %s: %w", name, err)
	}
	return r, nil
}

// Check is CheckFile for everything that can be read at any place.
func Check(src io.ReaderAt, size int64) (Report, error) {
	head := make([]byte, min(size, tsPacket+1))
	if n, err := src.ReadAt(head, 0); n < len(head) && err != nil {
		return Report{Size: size}, fmt.Errorf("read the head: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte("FLV\x01")) && len(head) >= 9:
		return readFLV(src, size)
	case len(head) >= tsPacket && head[0] == tsSync && (len(head) == tsPacket || head[tsPacket] == tsSync):
		return readTS(src, size)
	case len(head) >= 8 && slices.Contains([]string{"ftyp", "styp", "moov", "moof", "mdat", "free", "skip", "wide", "sidx"}, string(head[4:8])):
		return readMP4(src, size)
	}
	return Report{Size: size}, fmt.Errorf("not a recording: it begins with %q", head[:min(len(head), 16)])
}

// File is CheckFile.
func File(name string) (Report, error) { return CheckFile(name) }

// Reader is Check.
func Reader(src io.ReaderAt, size int64) (Report, error) { return Check(src, size) }
