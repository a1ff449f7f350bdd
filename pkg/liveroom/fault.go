package liveroom

import "time"

// Fault is what one connection suffers. The zero value is a sound connection.
type Fault struct {
	// Instead of the stream. At most one of them is looked at, in this order.

	Mute       bool          // no answer at all, until the client leaves
	Status     int           // answer with this status
	RetryAfter time.Duration // with Status: the header Retry-After, in whole seconds
	Redirect   string        // 302 to this address
	Silent     bool          // the head of the answer, then not one byte, until the client leaves
	Body       []byte        // 200 with these bytes (HTML, JSON …) and a clean end
	Type       string        // with Body: the Content-Type; default text/html

	// Of the whole connection.

	Rebase     bool          // the timestamps begin at 0
	Shift      time.Duration // is added to every timestamp
	NoKeys     bool          // key frames are left out
	NoVideo    bool          // audio only, headers included
	NoAudio    bool          // video only, headers included
	NoScript   bool          // no onMetaData
	NoTrailers bool          // every PreviousTagSize is 0
	CutBytes   int64         // the connection breaks after exactly so many bytes of the body; 0: never

	// Events happen in this order, each when its time has come.
	Events []Event
}

// Event is something that happens once to a connection. When it is due is said by Tags or by After; with both at 0 it
// is due at once. What happens is said by the other fields, in the order in which they stand here.
type Event struct {
	Tags  int           // when so many media tags have been sent since the last event (the first: since the start)
	After time.Duration // when so much time has gone by since the connection began
	Again bool          // comes back: after Tags tags more the same happens again (later events are never reached)

	Junk     []byte        // these bytes are sent between two tags
	Header   bool          // a second FLV header, with onMetaData and sequence headers
	Headers  bool          // the sequence headers once more
	Jump     time.Duration // all later timestamps are moved by this much
	Skip     time.Duration // media that is never sent: at least so much, then on with the next key frame
	Stall    time.Duration // nothing is sent for so long; then follows what has piled up
	Loop     time.Duration // from now on the last so many seconds come again and again, at the pace of the room
	LoopBack bool          // with Loop: the timestamps repeat too instead of rising
	Half     int           // so many bytes of the next tag, then End (Broken if End is not set)
	End      Ending
}

// Ending is how a connection ends.
type Ending uint8

// The endings.
const (
	GoOn   Ending = iota // it does not end
	Broken               // without the last chunk: the client sees an unexpected end
	Clean                // as HTTP wants it
)
