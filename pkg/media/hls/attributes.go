package hls

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// attributes are those of one tag, in the order of the line.
type attributes []attribute

type attribute struct{ name, value string }

// maxAttributes is how many attributes of one tag are read.
const maxAttributes = 128

// parseAttributes reads `NAME=value,NAME="value, with a comma"`. It is forgiving: what has no = is passed over, a string
// that does not end goes on to the end of the line. No value that it returns has a quotation mark in it.
func parseAttributes(s string) attributes {
	var list attributes
	for len(list) < maxAttributes {
		s = strings.TrimLeft(s, ", \t")
		if s == "" {
			break
		}
		stop := strings.IndexAny(s, "=,")
		if stop < 0 {
			break
		}
		if s[stop] == ',' {
			s = s[stop:]
			continue
		}
		name := strings.TrimSpace(s[:stop])
		s = strings.TrimLeft(s[stop+1:], " \t")
		var value string
		if strings.HasPrefix(s, `"`) {
			value, s, _ = strings.Cut(s[1:], `"`)
		} else if stop := strings.IndexByte(s, ','); stop >= 0 {
			value, s = s[:stop], s[stop:]
		} else {
			value, s = s, ""
		}
		list = append(list, attribute{name, strings.TrimSpace(strings.ReplaceAll(value, `"`, ""))})
	}
	return list
}

// get is the value of an attribute; the last one counts. "" is absent.
func (a attributes) get(name string) string {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i].name == name {
			return a[i].value
		}
	}
	return ""
}

func (a attributes) yes(name string) bool { return strings.EqualFold(a.get(name), "YES") }

func (a attributes) integer(name string) int64 { return integer(a.get(name)) }

func (a attributes) seconds(name string) time.Duration { return seconds(decimal(a.get(name))) }

// size is a RESOLUTION: "1920x1080".
func (a attributes) size(name string) (width, height int) {
	w, h, ok := strings.Cut(strings.ToLower(a.get(name)), "x")
	x, y := integer(w), integer(h)
	if !ok || x <= 0 || y <= 0 || x > 1<<16 || y > 1<<16 {
		return 0, 0
	}
	return int(x), int(y)
}

// integer reads a number that is not negative, also one with decimals. What cannot be read, or is greater than a signed
// number of 64 bit, is 0.
func integer(s string) int64 {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return max(n, 0)
	}
	if f := decimal(s); f < 1<<63 {
		return int64(f)
	}
	return 0
}

// decimal reads the number at the beginning of s, at least 0; 0 if there is none.
func decimal(s string) float64 {
	s = strings.TrimSpace(s)
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		n := 0
		for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] == '.') {
			n++
		}
		f, err = strconv.ParseFloat(s[:n], 64)
	}
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f < 0 {
		return 0
	}
	return f
}

// maxSeconds is the longest duration that is believed, eleven days.
const maxSeconds = 1e6

func seconds(f float64) time.Duration {
	return time.Duration(math.Round(min(f, maxSeconds) * float64(time.Second)))
}

// date reads an ISO 8601 date; zero if it cannot be read.
func date(s string) time.Time {
	s = strings.TrimSpace(s)
	for _, layout := range [...]string{
		"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04:05",
		"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
				return time.Time{}
			}
			return t
		}
	}
	return time.Time{}
}

// byteRange reads "n" or "n@o". Without o the offset is -1. ok is false for what is no range.
func byteRange(s string) (r ByteRange, ok bool) {
	length, offset, has := strings.Cut(s, "@")
	n, err := strconv.ParseInt(strings.TrimSpace(length), 10, 64)
	if err != nil || n <= 0 {
		return ByteRange{}, false
	}
	if !has {
		return ByteRange{n, -1}, true
	}
	o, err := strconv.ParseInt(strings.TrimSpace(offset), 10, 64)
	if err != nil || o < 0 || o > math.MaxInt64-n {
		return ByteRange{}, false
	}
	return ByteRange{n, o}, true
}

// chain resolves ranges without an offset: each goes on where the one before ended, if that was of the same resource.
type chain struct {
	uri string
	end int64
}

func (c *chain) resolve(uri string, r ByteRange) ByteRange {
	if r.Length == 0 {
		c.uri = ""
		return r
	}
	if r.Offset < 0 && c.uri == uri && c.end <= math.MaxInt64-r.Length {
		r.Offset = c.end
	}
	c.uri = ""
	if r.Offset >= 0 {
		c.uri, c.end = uri, r.Offset+r.Length
	}
	return r
}
