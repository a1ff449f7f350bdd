package mpegts

import "github.com/liverec/liverec/pkg/media"

// Unit is one access unit of video or one frame of sound. It and its Data are valid during the call only.
type Unit struct {
	Video bool
	Track int // 0 is the first of its kind in the program, and the only one unless DemuxerConfig.AllTracks
	Codec media.Codec

	PTS, DTS int64 // 90 kHz, unwrapped: they go on behind 33 bits, and below 0 only if the hint was there
	Samples  int   // sound: samples per channel in this frame
	Rate     int   // sound: Hz that Samples counts in

	Key  bool // a decoder can start here; always true of sound
	Open bool // see codec.Picture
	// Config is the configuration record, as media.Packet.Payload of a config packet has it, when it is first known and
	// whenever it changes (bytes that mean the same are no change); else nil. It is valid for good. MP3 has an empty
	// one that is not nil.
	Config []byte
	// Data is as media.Packet.Payload has it: H.264 and HEVC behind 4-byte lengths, without delimiters, filler and what
	// the record says; AAC without ADTS; other sound one frame.
	Data []byte

	Corrupt bool // packets are missing from it, or what is there does not fit together
	Jump    bool // the stream announced that its clock or counters begin anew here (discontinuity_indicator)
}

// DemuxerConfig is what a Demuxer needs.
type DemuxerConfig struct {
	// Unit takes the units, in the order in which they are whole. An error ends the Demuxer: Write and Flush return it.
	Unit func(*Unit) error
	// Program is told whenever the program's streams are first known or have changed; may be nil.
	Program   func(Program)
	AllTracks bool // give out every supported stream, not only the first video and the first sound
	// DropCorrupt leaves out units with missing packets instead of marking them. They are counted in both cases.
	DropCorrupt bool
}

// Program is what a PMT says.
type Program struct {
	Number  int
	Streams []Stream // in its order
}

// Stream is one elementary stream of the program.
type Stream struct {
	PID   int
	Type  byte        // stream_type
	Codec media.Codec // NoCodec if it is not media (ID3, SCTE-35, subtitles); OtherCodec if it is and cannot be taken
	Why   string      // why it is not taken: "SAMPLE-AES H.264", "LATM AAC", "MPEG-2 video"; empty if it is
	Track int         // number among the taken ones of its kind, -1 if it is not taken
}

// Count says what became of the bytes: Received = Packets*188 + Junk + Held.
type Count struct {
	Received   int64
	Packets    int64 // whole packets
	Junk       int64 // bytes that are no packet
	Held       int64 // bytes that wait for the rest of a packet; 0 after Flush
	Null       int64 // packets, of these: stuffing
	Scrambled  int64 // … encrypted
	Errors     int64 // … with the transport error bit
	Other      int64 // … of streams that are not taken
	Continuity int64 // places where packets are missing
	Units      int64 // given out
	Corrupt    int64 // units with something missing, given out or not
	Torn       int64 // bytes of elementary streams that belong to no unit
	Tables     int64 // PAT and PMT sections that could not be read
}

// Demuxer takes one transport stream apart. It is not for use by several goroutines at once. Its memory is bound by
// the largest access unit (MaxUnit per taken stream).
type Demuxer struct{}

// MaxUnit is the most that one access unit may have; more is given out as corrupt and the rest counted as torn.
const MaxUnit = 16 << 20

// NewDemuxer starts nothing.
func NewDemuxer(cfg DemuxerConfig) *Demuxer { return &Demuxer{} }

// Write takes the next bytes. It keeps none of p. The error is the one of Unit.
func (d *Demuxer) Write(p []byte) (int, error) { return len(p), nil }

// Flush says that the segment or file is at its end: units that wait for the next one to begin are given out, and half
// a packet is junk. Tables, parameter sets, counters and the clock are kept: the next segment may go on with them.
func (d *Demuxer) Flush() error { return nil }

// Break says that what comes next does not continue what was before (a discontinuity, a missing segment, another
// variant): continuity counters are not compared, half frames are dropped. Call it after Flush.
func (d *Demuxer) Break() {}

// Near is a hint for unwrapping: the next time stamp is the one nearest to t (90 kHz). Without a hint the first one is
// taken as it is, and each later one as nearest to the one before, over all streams.
func (d *Demuxer) Near(t int64) {}

// Count is what was seen so far.
func (d *Demuxer) Count() Count { return Count{} }
