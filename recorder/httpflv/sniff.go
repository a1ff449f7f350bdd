package httpflv

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/liverec/liverec/pkg/media/flv"
)

// settled reports whether more bytes cannot change what the first ones say: a live server may send no more than a
// file header for seconds.
func settled(b []byte) bool { return bytes.HasPrefix(b, []byte("FLV")) || len(b) >= flv.SniffLen }

// sniff tells what an answer is by its first bytes. Content types are not asked: they are wrong too often.
func sniff(b []byte) flv.Content {
	c := flv.Sniff(b)
	if c == flv.UnknownContent && joined(b) {
		return flv.FLVContent
	}
	return c
}

// joined reports whether b could be an FLV stream that was joined in the middle, at a tag: a known tag type and stream
// id 0. Whether it really is one, the demuxer finds out.
func joined(b []byte) bool {
	return len(b) >= flv.TagHeaderSize && (b[0] == flv.TagAudio || b[0] == flv.TagVideo || b[0] == flv.TagScript) &&
		b[1]&0xf0 == 0 && b[8] == 0 && b[9] == 0 && b[10] == 0
}

// StatusError is an answer that is not 200 OK.
type StatusError struct {
	Code   int
	Status string // "404 Not Found"
}

func (e *StatusError) Error() string { return e.Status }

// ContentError is an answer whose first bytes are not FLV.
type ContentError struct {
	Content flv.Content
	First   []byte // at most the first 64 bytes
}

func (e *ContentError) Error() string {
	if e.Content == flv.EmptyContent {
		return "sent nothing instead of FLV"
	}
	return fmt.Sprintf("sent %s instead of FLV: %s", e.Content, excerpt(e.First))
}

// excerpt shows the beginning of what came, without anything that could act on a terminal.
func excerpt(b []byte) string {
	for _, c := range b {
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' || c >= 0x7f {
			return fmt.Sprintf("% x", b[:min(len(b), 16)])
		}
	}
	return fmt.Sprintf("%q", strings.Join(strings.Fields(string(b)), " "))
}
