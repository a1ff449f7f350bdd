package flv

import (
	"bytes"
	"unicode/utf8"
)

// Content is what the first bytes of an answer look like.
type Content uint8

// What Sniff can tell apart.
const (
	UnknownContent Content = iota
	EmptyContent
	FLVContent
	HLSContent
	MPEGTSContent
	MP4Content
	HTMLContent // XML as well
	JSONContent
	TextContent // printable, and none of the others
)

func (c Content) String() string {
	return [...]string{"unknown data", "nothing", "FLV", "an HLS playlist", "MPEG-TS", "MP4", "HTML or XML", "JSON", "text"}[c]
}

// SniffLen is how many bytes Sniff wants at the most. Fewer are enough for everything but MPEG-TS.
const SniffLen = 512

// Sniff says what an answer is from its first bytes. A byte order mark and white space before text are skipped.
func Sniff(b []byte) Content {
	if len(b) > SniffLen {
		b = b[:SniffLen]
	}
	switch {
	case len(b) == 0:
		return EmptyContent
	case bytes.HasPrefix(b, []byte("FLV")):
		return FLVContent
	case len(b) >= 8 && isBox(string(b[4:8])):
		return MP4Content
	case b[0] == 0x47 && len(b) > 188 && b[188] == 0x47 && (len(b) <= 376 || b[376] == 0x47):
		return MPEGTSContent
	}
	t := bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF")), " \t\r\n\f")
	if len(t) == 0 {
		return EmptyContent
	}
	if bytes.HasPrefix(t, []byte("#EXTM3U")) {
		return HLSContent
	}
	if !isText(t) {
		return UnknownContent
	}
	switch t[0] {
	case '<':
		return HTMLContent
	case '{', '[':
		return JSONContent
	}
	return TextContent
}

func isBox(s string) bool {
	switch s {
	case "ftyp", "styp", "moov", "moof", "sidx":
		return true
	}
	return false
}

// isText reports whether b has no byte that text does not have. A page may be in any encoding, so only its first
// bytes are looked at and bytes above 0x7F count as text when most others are plain.
func isText(b []byte) bool {
	if len(b) > 64 {
		b = b[:64]
	}
	high := 0
	for _, c := range b {
		switch {
		case c >= utf8.RuneSelf:
			high++
		case c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f', c == 0x7F:
			return false
		}
	}
	return high*2 <= len(b)
}
