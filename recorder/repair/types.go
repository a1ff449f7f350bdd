package repair

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
)

// Config holds the limits. The zero value of a field means its default.
type Config struct {
	Window     time.Duration // most media and most wall time that sorting may hold back; default 300 ms
	SeamWait   time.Duration // most wall time that a seam may be left open; default 400 ms
	HeaderWait time.Duration // most wall time before the first media that is spent on headers; default 3 s
	HoldBytes  int           // most bytes held at a seam or at the start; default 4 MiB. Then it is decided at once
	// Samples says that parts hold samples and not tags (MP4): sums are of Payload then. It is so without it too, from
	// the first configuration on that is not H.264 and AAC in the form of FLV of old.
	Samples    bool
	DropFiller bool // leave filler NAL units out (C16)
}

// Item is one packet of the output. It and its Body are valid during the call of Sink.Media only.
type Item struct {
	// Kind is Video or Audio; Key says that a decoder can start here; DTS is the source's own; CTS, Lead, Body and Sum are
	// what must be written. Sum is of the type byte of FLV and Body, or and Payload: see Config.Samples.
	media.Packet
	Out int64 // ms on the session's clock: 0 at the first key frame, strictly rising in each track
	// Time is Out, exact: finer than 1 ms where the source's clock is. Packet.Shift is its composition time.
	Time    time.Duration
	Ordinal uint64        // 1, 2, 3 … over the session, in the order of the output
	Dur     int64         // ms, how long a frame of this track usually lasts
	Lasts   time.Duration // Dur, exact
	At      time.Time     // when it was received
}

// Configs is what the head of a part needs. All bytes belong to the Repairer and stay as they are until the next
// call of Sink.Config: copy what must live longer.
//
// Payload is the record of the codec as MP4 has it, but for MP3 and G.711, which have none: of MP3 it is the header of
// a frame (4 bytes), of G.711 it is empty. What nobody sent is made from the frames. A Lead above 0 says that Body is a
// tag body; H.264 and AAC may stand in an FLV part where flv.IsPlain says so of both Bodies.
type Configs struct {
	Video  media.Packet // Kind is 0 if there is no video
	Audio  media.Packet // Kind is 0 if there is no audio
	Script []byte       // body of the newest script tag, nil if none came
	// Width and Height are the size of VP9 pictures in pixels, as its record does not say it; 0 of all other codecs.
	Width, Height int
	Colour        []byte // what the newest Enhanced FLV metadata tag said of the video (AMF0: "colorInfo", object); nil if none came
}

// Gap is media that was sent and is not here.
type Gap struct {
	At     time.Time     // wall clock when the last frame before it was received
	Out    int64         // ms on the session's clock: where that frame ends
	Length time.Duration // media time that is missing
	Why    string
}

// WhyMissing is the reason of a gap inside a running connection.
const WhyMissing = "frames missing at the source"

// WhySilent is the reason of a gap where the source sent nothing for a while and went on with another clock.
const WhySilent = "source stood still"

// RepairKind tells what a Repair is about.
type RepairKind uint8

// The kinds of repairs.
const (
	Seam   RepairKind = iota + 1 // a reconnect or restart that lost nothing
	Replay                       // the source sent media again inside a connection
	Clock                        // the source's clock jumped
	Pause                        // one track stood still while the other went on
)

// Repair is something wrong that was put right with nothing missing.
type Repair struct {
	Kind RepairKind
	Out  int64 // ms on the session's clock
	What string
}

// Sink takes the output. It is called from inside the Repairer's methods. An error of Media or Config ends the
// Repairer: the item is not counted as written, and every later call returns the same error. What was written can
// then go on with Restore.
type Sink interface {
	Media(it *Item) error
	// Config comes before the first media and whenever the configuration changes: a new part begins. The next item
	// is a key frame, or audio that precedes it by a little, or audio if there is no video.
	Config(c Configs) error
	Gap(g Gap)
	Repair(r Repair)
}

// What Push returns when the source is not worth staying with. The batch was taken in all the same; the caller
// should hang up and connect elsewhere.
var (
	// ErrLoop: more than 10 s of nothing but what is already here, in at least 5 groups of pictures. Ask whether the
	// broadcast is over. Where the clock goes on what is repeated is written all the same, the verdict is given once,
	// and the next one needs twice the time, up to 10 min, until a minute of new media came.
	ErrLoop = errors.New("the source repeats itself")
	// ErrFlapping: a fourth change of the configuration within 60 s of one connection. Nothing more of this
	// connection is taken.
	ErrFlapping = errors.New("the source changes its configuration again and again")
)

// Unsupported is returned by Push for media that no part can hold. Such packets are counted as invalid.
type Unsupported struct {
	Codec media.Codec
	Name  string // what the source calls it, as flv.CodecName; "" if it does not
}

func (e *Unsupported) Error() string {
	name := e.Name
	if name == "" {
		name = e.Codec.String()
	}
	return "codec " + name + " is not supported here"
}

// State is what a new process needs to go on. It describes what the Sink was given, nothing that is held. It may be
// older than the file: Restore reads the rest from the tail. Take one in each Sink.Config (when the new part is begun),
// after each Push that changed Repairer.Epoch, and else every few seconds; store it only after the file is durable up
// to there. With a state from before the last change of epoch nothing is lost or doubled, but the length of the next
// gap may be wrong, since a file does not tell the source's clock.
//
// Without any state a caller may make one: Version, Last {-1, -1}, Edge (unix ms when the last frame was heard - its
// output time), Video and Audio (the headers in the head of the part).
type State struct {
	Version int             `json:"v"`
	Offset  [2]int64        `json:"offset"`  // video, audio: output = source clock + offset
	RefRaw  uint32          `json:"ref_raw"` // last time stamp that was read, as sent and unwrapped
	RefExt  int64           `json:"ref_ext"`
	Last    [2]int64        `json:"last"` // last output of each track, -1 if none
	Frame   [2]int64        `json:"frame"`
	Edge    int64           `json:"edge"`             // ms, smallest (wall - output) lately; the live edge
	LastAt  int64           `json:"last_at"`          // unix ms when the last item was received
	Closed  []Closed        `json:"closed,omitempty"` // the last holes that were closed
	Ordinal uint64          `json:"ordinal"`          // of the last item
	Content uint64          `json:"content"`          // Chain over all items
	Frames  [2]int64        `json:"frames"`
	Account segment.Account `json:"account"`
	Video   []byte          `json:"video,omitempty"` // header bodies and script
	Audio   []byte          `json:"audio,omitempty"`
	Script  []byte          `json:"script,omitempty"`
	Colour  []byte          `json:"colour,omitempty"`
	// VideoForm and AudioForm say what these headers are. Notes of old have none: H.264 and AAC as FLV of old has them.
	VideoForm *Form `json:"video_form,omitempty"`
	AudioForm *Form `json:"audio_form,omitempty"`
	// Numbered is what package retime keeps beyond this, for a source that numbers its media. Only it reads it.
	Numbered json.RawMessage `json:"numbered,omitempty"`
	// Digests stands for the tail where the file may be gone by the time of Restore. Only Repairer.Digests fills it in.
	Digests []byte `json:"digests,omitempty"`
}

// Form is what a header in a State is.
type Form struct {
	Codec string `json:"codec"` // media.Codec.String
	Lead  uint16 `json:"lead,omitempty"`
	Track uint8  `json:"track,omitempty"`
	// Width and Height are as in Configs.
	Width  int `json:"width,omitempty"`
	Height int `json:"height,omitempty"`
}

// Closed is a hole in the source's clock that the session's clock has not.
type Closed struct {
	Out    int64 `json:"out"`    // ms on the session's clock
	Length int64 `json:"length"` // ms
	// Last are the last frames of each track before it: what follows in one track may come before the end of the other.
	// Zero: an older state, Out must do.
	Last [2]int64 `json:"last,omitzero"`
}

// closed is how much of the source's clock was closed behind an output time of track t.
func (s State) closed(t int, out int64) int64 {
	var sum int64
	for _, c := range s.Closed {
		if c.Last == [2]int64{} && c.Out > out || c.Last != [2]int64{} && c.Last[t] >= out {
			sum += c.Length
		}
	}
	return sum
}

// TailTag is one media tag that was read back from the end of the open part, in file order. Out is on the session's
// clock: the time in the file plus the base of the part. The tail must reach back to where State was taken and
// should hold the last 30 s. What it does not hold is taken from State.Digests, where they are.
type TailTag struct {
	Kind media.Kind // Video or Audio
	Key  bool
	Out  int64
	Size int
	Sum  uint64
}

// Stats counts what was put right, over the life of one Repairer.
type Stats struct {
	Seams    int64 // joins without loss
	Jumps    int64 // clock jumps
	Clamped  int64 // time stamps that did not rise and were moved to the last + 1 ms
	Made     int64 // time stamps that stood still and were made up from the frame length
	BadCTS   int64 // composition times beyond 10 s, set to 0
	Changes  int64 // configurations after the first
	Late     int64 // unknown tags older than what was written, dropped as duplicates
	LoopGOPs int64 // groups of pictures dropped since the last new one of this connection

	StartCodes  int64 // frames with start codes that were given lengths
	OtherTracks int64 // packets of tracks that are not recorded
	FillerBytes int64 // of filler NAL units that came in; left out where Config says so
}
