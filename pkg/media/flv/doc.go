// Package flv knows the FLV file format: it cuts a live byte stream into packets, reads and compares codec
// configurations, and writes parts that play and seek while they grow.
//
// It owns the bytes of the format and nothing else: no goroutine, no socket, no file, no decision about what is
// kept. It never gives bytes from outside to a decoder without limits, and never rewrites a body.
//
// # Reading a live stream
//
//	d := flv.NewDemuxer(flv.DemuxerConfig{Events: func(e flv.Event) { … }})
//	for {
//		b, err := d.Fill(r)      // blocks in r.Read until at least one packet is whole
//		if b != nil { out <- b } // the receiver releases it
//		if err != nil { break }  // io.EOF, *ContentError, ErrLostSync, ErrFiltered or the reader's own error
//	}
//	if b := d.Close(); b != nil { out <- b } // the last packets and the account of the unfinished tail
//
// Fill never returns a batch together with an error. Every batch balances alone: Received = Header + Tags + Junk +
// Partial, because bytes are counted as received when their fate is known; Pending says how many are still open.
// What comes out does not depend on how the reader cuts the bytes. Fill blocks as long as its reader does: watchdogs
// belong into the reader.
//
//	func Sniff(b []byte) Content
//	func Classify(typ byte, body []byte) Class        // kind, codec, key flag, composition time, place of the data of one body
//	func CodecName(typ byte, body []byte) string      // for refusing by name: "HEVC (Enhanced FLV hvc1)"
//	func Sum(typ byte, body []byte) uint64            // media.Packet.Sum
//	func KeyFlag(body []byte) bool                    // what the source says; media.Packet.Key is what is true
//	func IsPlain(typ byte, body []byte) bool          // H.264 or AAC that can stand in an FLV part as it is
//
// A file of any origin, however broken, is read by
//
//	stats, count, err := flv.ReadAll(r, flv.DemuxerConfig{Events: …}, func(b *media.Batch) error { … })
//
// which never gives up before the end. Of the packets the caller keeps what it copies.
//
// # Enhanced FLV and its relatives
//
// All of versions 1 and 2 is read, and the private codec numbers: HEVC 12, AV1 13, Opus 13. media.Packet.Lead is set so
// that Payload is the sample or the record alone, whatever stands before it. Two records come as their sender has them
// and not as MP4 has them: OpusHead and the STREAMINFO of FLAC (codec.BuildOpus, codec.BuildFLAC).
//
// Of a tag with several tracks track 0 is kept, or the first one where there is no 0: Body is cut to end with its data,
// Sum is of that, and the others are counted (Stats.OtherTracks) and named once (EventTracks). Track 0 is what the
// standard calls the default, and a recorder that writes one picture and one sound has no use for the rest. Tags with
// one track each all become packets with their Track; who receives them chooses.
//
// A metadata tag of a video track (colours) is a media.Script with a codec. Nanosecond offsets of ModEx are passed over:
// they are below the clock of the format. An empty sound tag is silence, which needs no packet to be kept: it is
// media.Invalid and no event. VVC and VP8 are named and left to the receiver to refuse.
//
// media.Packet.Key of a flagged frame is checked against its data (EventFalseKey); an unflagged frame is never looked
// into, for a player would not start there either.
//
// # Codec configuration
//
// Arguments called body are whole tag bodies, as in media.Packet.Body. The records in them are read by package codec, whose
// Info both configurations are.
//
//	func ParseVideoConfig(body []byte) (VideoConfig, error) // avcC; ErrBadConfig if it cannot be used
//	func ParseAudioConfig(body []byte) (AudioConfig, error) // AudioSpecificConfig; ErrBadConfig
//	func VideoConfigEqual(a, b []byte) bool                 // the same SPS and PPS, whatever else differs
//	func AudioConfigEqual(a, b []byte) bool
//	func IsIDR(body []byte, lengthSize int) bool
//	func InBandSPS(body []byte, lengthSize int) []byte      // nil if there is none; InBandPPS as well
//	func IsAnnexB(body []byte, lengthSize int) bool
//	func BuildVideoConfig(lengthSize int, sps, pps [][]byte) ([]byte, error)
//
// # Script data
//
//	func ParseMetadata(body []byte) (Metadata, error) // onMetaData with limits; the order of keys is kept
//	func (Metadata) Get(name string) (Value, bool)
//	func (Metadata) Number(name string) (float64, bool)
//
// # Writing a part
//
//	h, err := flv.NewHead(flv.HeadConfig{Video: vbody, Audio: abody, Meta: m, Limit: 15 * time.Minute})
//	buf = append(buf, h.Patch()...)                        // the first h.Len() bytes of the file
//	buf = flv.AppendTag(buf, flv.TagVideo, dts, body)      // or AppendTagHeader, body, AppendTagTrailer
//	h.Add(flv.TagVideo, dts, len(body), key)               // for every tag behind the head
//	f.WriteAt(h.Patch(), 0)                                // every 10 s and at the end: the same length for ever
//
//	func (h *Head) Len() int64                // of the head
//	func (h *Head) Size() int64               // of the file: head and every tag that was added
//	func (h *Head) Duration() time.Duration   // first frame to the end of the last one; video, else audio
//	func (h *Head) Frames() (video, audio int64)
//	func (h *Head) VideoStep() time.Duration  // how long a frame lasts: measured, else from the SPS, else 0
//	func (h *Head) Patch() []byte             // valid until the next call
//
// # Finding a part again after a crash
//
//	s, err := flv.Scan(f, size, flv.ScanConfig{HeadLen: seg.Head, Last: 30 * time.Second, Tag: func(t flv.Tag) error { … }})
//	// truncate the file to s.End, write s.Head.Patch() over its begin, go on with s.Head.Add
//
// # What the fixed library does here
//
// yutopp/go-flv splits the bodies of sequence headers that lie in memory, names types and codecs, and writes what
// liverec makes itself: the file header, built sequence headers, the end mark. In tests it is the second reader of our
// output. It sees neither a live stream nor a script from outside: it corrupts the one at short reads and can be killed
// by the other.
package flv
