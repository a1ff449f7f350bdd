// Package repair is the pure core of capture: packets of broken connections in, one sound stream out.
//
// It owns the clock of a session, the memory of what was written in the last half minute, the current headers, the
// order of the output, the facts about what is missing, and the balance of tags and bytes. It has no goroutine, does
// no I/O and never reads a clock: wall time is handed in. It never looks at a file and never decides where to cut.
//
// # What goes in
//
//	r := repair.New(cfg, sink)            // or repair.Restore(cfg, sink, state, tail) after a restart
//	r.Connect(now, why)                   // why the time before this connection is missing, if it turns out to be
//	r.Push(batch)                         // as often as there are batches; the caller releases them
//	r.Tick(now)                           // at least every 100 ms while no batch comes
//	r.Disconnect(now)                     // everything held comes out; the identities hold
//	r.State()                             // to be stored, whenever Epoch changed and every few seconds
//	r.Digests()                           // into the State that is stored when a part is closed for long
//
// # What comes out
//
// Sink.Config before the first media and before the media of each new configuration (a new part begins there),
// Sink.Media in writing order, Sink.Gap and Sink.Repair between the two items they belong between. Any codec that MP4
// can hold is taken; another comes back from Push as Unsupported, by name.
//
// # Stages
//
//	sanitise       bodies are brought into the form in which they are written: lengths for start codes, no absurd
//	               composition time, no temporal delimiters, no filler where that is asked for. One of several tracks of
//	               a kind is recorded, the one with the lowest number; the others count as invalid.
//	configure      a header that nobody sends is made: of MP3, AC-3 and G.711, which have none; of parameter sets and
//	               sequence headers in key frames, where no header came or its picture size is not theirs.
//	header gate    the same header again is dropped; a header that means the same replaces the old one in silence;
//	               another one takes effect at the next key frame, as Sink.Config; before that, media which only it
//	               explains is pre-roll. The last of several headers wins.
//	key frames     one is where a decoder can start, whatever the source flags: see below.
//	start          before anything was written, up to HeaderWait is spent on learning the headers of both tracks;
//	               video before the first key frame is pre-roll, and so is audio from before it.
//	seam           where the stream begins anew (a connection, a second file header, a second script, an end mark, a
//	               jump of the clock) the tags are held until it is clear how they join what was written: by the
//	               clock that went on, by tags that are known, or not at all.
//	timeline       64 bits from 32 or 24; one offset for both tracks; strictly rising per track.
//	order          two tracks merged by output time, at most 300 ms of media and 300 ms of wall time deep.
//
// Nothing is held longer than Window in the steady state, and Window + SeamWait at a seam: that is what a kill can
// cost (promise 4). Sorting whole groups of pictures would cost seconds.
//
// # How a seam is decided
//
//  1. If the clock that was in use still makes sense (a tag from there would be neither from the future nor older than
//     a node's cache) and places the first video tag after all that was written, the clock is right: content that
//     looks familiar is a static picture or a looped film, not a replay. What the clock leaves out is missing. Only at
//     a new connection whose first big tag is familiar does the live edge decide between this and 2.
//  2. Else the held tags are looked up by their digest among the last ones that were written. A shift of the clock is
//     accepted with one video tag of more than 200 bytes where it is none; else with three tags, or all there were to
//     the end, one of them such a video tag that was written only once. Where everything was written more than once,
//     the live edge must agree. Everything up to the end of what was written is dropped as duplicate; the new clock is
//     exact for both tracks. Where no digest is left after a restart, the clock alone does, if it brings the newest of
//     what is held to the live edge.
//  3. Else it is a hole of unknown content. Where wall time passed it is a gap as long as the wall says; where none
//     did, it is a jump of the clock and nothing is missing.
//
// However it was decided, the first new frame of the master track shows what is missing before it.
//
// Sums are taken after sanitising, not before: what is done to a body depends on nothing but the body and the header in
// force, so two copies stay two copies; and a process that was started anew knows only what is in the file.
//
// Inside a connection nothing is a duplicate as long as its clock goes on: a film that is shown again is new media.
//
// # A source that repeats itself
//
// Push returns ErrLoop when nothing new came for long: 10 s and 5 groups of pictures that were dropped because the
// clock jumped back again and again; or, where the clock goes on, as many groups whose bodies were written before in
// the same order, with no new sound in them. The latter is written, since it may be a looped film, and a Repair tells
// it; so the next verdict takes twice the time, up to 10 min, until a minute of something new came. Each connection is
// judged from its begin.
//
// # Where a decoder can start
//
// The Demuxer looks into frames that are flagged as key frames: an IDR, an IRAP picture, a recovery point; the frame
// header of AV1 and VP9. What is only flagged is no place to begin or to cut as long as there are real ones. A
// beginning waits for the second flagged frame at the most, so it costs one group of pictures; later a flagged frame
// counts after 600 frames without a real one, and where nothing is flagged, a real one counts unflagged. So Item.Key is
// all that whoever cuts need ask.
//
// # Sums
//
// In an FLV part the tag is what is kept, in MP4 the sample is. So the sum of an item is of the whole body as long as
// all that is recorded is H.264 and AAC as FLV of old has them, else of the payload; Config.Samples makes it payloads
// throughout. A tail that is read back from a part has the sums of its kind of file, and meets the same.
//
// # What is left to others, or undone
//
// Losses that a source hides by new time stamps (frame numbers would tell) are not looked for. The duration of a part
// against the wall, the pace of a source and the choice of hosts are of whoever connects. No sound is made up where
// none comes.
//
// Which test holds which fault of the catalogue says catalogue_test.go.
//
// # Gap or repair
//
//	a hole on a clock that goes with the wall   gap, exact by the clock. In a running connection its reason is
//	                                            WhyMissing: frames were dropped on the way to us
//	a reconnect on a new clock, nothing known   gap, as long as the wall says
//	a jump in a running connection              repair: a clock that jumps with nothing missing
//	a jump after more than 2 s of silence       gap, as long as the silence
//	an overlap, a loop, a seamless reconnect    repair
//	no video while audio goes on                repair; the pause stays in the file, else lips and voice would part
//
// Holes above one second are closed to one frame, shorter ones stay as they are. Both are reported at a reconnect and
// after a restart, down to a single frame.
package repair
