package liveroom

import "encoding/binary"

// encoder turns tags into the bytes of one connection.
type encoder struct {
	fault   Fault
	clip    *clip // whose headers were sent last
	shift   int64 // ms, added to all timestamps
	rebased bool
	last    int64 // timestamp of the last tag, as sent
}

// appendStart appends the file header and what comes before the first media tag.
func (e *encoder) appendStart(b []byte) []byte {
	b = append(b, 'F', 'L', 'V', 1, 5, 0, 0, 0, 9, 0, 0, 0, 0)
	if !e.fault.NoScript {
		b = e.append(b, tagScript, e.last, e.clip.metadata())
	}
	return e.appendHeaders(b)
}

func (e *encoder) appendHeaders(b []byte) []byte {
	if !e.fault.NoVideo {
		b = e.append(b, tagVideo, e.last, e.clip.videoConfig)
	}
	if !e.fault.NoAudio {
		b = e.append(b, tagAudio, e.last, e.clip.audioConfig)
	}
	return b
}

// wants reports whether a tag is sent on this connection at all.
func (e *encoder) wants(t tag) bool {
	switch {
	case t.change:
		return true
	case t.typ == tagAudio:
		return !e.fault.NoAudio
	default:
		return !e.fault.NoVideo && !(t.key && e.fault.NoKeys)
	}
}

// appendTag appends a media tag, or the headers of the clip that a mark announces.
func (e *encoder) appendTag(b []byte, t tag) []byte {
	if e.fault.Rebase && !e.rebased {
		e.rebased = true
		e.shift -= t.ts
	}
	e.last = t.ts + e.shift
	if t.change {
		e.clip = t.clip
		return e.appendHeaders(b)
	}
	return e.append(b, t.typ, e.last, t.body)
}

func (e *encoder) append(b []byte, typ byte, ts int64, body []byte) []byte {
	n, t := len(body), uint32(ts)
	b = append(b, typ, byte(n>>16), byte(n>>8), byte(n), byte(t>>16), byte(t>>8), byte(t), byte(t>>24), 0, 0, 0)
	b = append(b, body...)
	if e.fault.NoTrailers {
		return append(b, 0, 0, 0, 0)
	}
	return binary.BigEndian.AppendUint32(b, uint32(11+n))
}
