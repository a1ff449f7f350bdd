package hls

import (
	"bytes"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lines goes over the lines of a playlist without the blank ones and without white space around. A line ends at LF, CR
// or both. Each line is a string of its own, so that what is kept of it does not keep the playlist.
func lines(data []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(data) > 0 {
			line := data
			if stop := bytes.IndexAny(data, "\r\n"); stop >= 0 {
				line, data = data[:stop], data[stop+1:]
			} else {
				data = nil
			}
			if line = bytes.TrimSpace(line); len(line) > 0 && !yield(string(line)) {
				return
			}
		}
	}
}

// tag splits "#EXTINF:4,": name "EXTINF", value "4,". Of a URI or a comment the name is "".
func tag(line string) (name, value string) {
	if !strings.HasPrefix(line, "#EXT") {
		return "", ""
	}
	name, value, _ = strings.Cut(line[1:], ":")
	return strings.TrimSpace(name), strings.TrimSpace(value)
}

// begin checks what each playlist begins with and returns the rest.
func begin(data []byte) ([]byte, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLarge, len(data), MaxSize)
	}
	data = bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF")), " \t\r\n\f\v")
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrNotPlaylist)
	}
	rest, ok := bytes.CutPrefix(data, []byte("#EXTM3U"))
	if !ok {
		if headless(data) {
			return data, nil
		}
		return nil, fmt.Errorf("%w: it does not begin with #EXTM3U", ErrNotPlaylist)
	}
	if stop := bytes.IndexAny(rest, "\r\n"); stop >= 0 {
		return rest[stop:], nil
	}
	return nil, nil
}

// headless reports whether a text without #EXTM3U begins with a tag that only a playlist has.
func headless(data []byte) bool {
	if stop := bytes.IndexAny(data, "\r\n"); stop >= 0 {
		data = data[:stop]
	}
	name, _ := tag(string(data[:min(len(data), 64)]))
	return strings.HasPrefix(name, "EXT-X-") || name == "EXTINF"
}

type kind uint8

const (
	neither kind = iota
	master
	media
)

// decide tells a multivariant playlist from a media playlist: by the first tag that is sure, else by the first one that
// stands only in one of them.
func decide(data []byte) kind {
	likely := neither
	for line := range lines(data) {
		name, _ := tag(line)
		k := neither
		switch name {
		case "EXT-X-STREAM-INF":
			return master
		case "EXTINF", "EXT-X-TARGETDURATION":
			return media
		case "EXT-X-MEDIA", "EXT-X-I-FRAME-STREAM-INF", "EXT-X-SESSION-DATA", "EXT-X-SESSION-KEY", "EXT-X-CONTENT-STEERING":
			k = master
		case "EXT-X-MEDIA-SEQUENCE", "EXT-X-DISCONTINUITY-SEQUENCE", "EXT-X-DISCONTINUITY", "EXT-X-ENDLIST", "EXT-X-PLAYLIST-TYPE",
			"EXT-X-I-FRAMES-ONLY", "EXT-X-PART-INF", "EXT-X-PART", "EXT-X-PRELOAD-HINT", "EXT-X-SERVER-CONTROL", "EXT-X-SKIP",
			"EXT-X-KEY", "EXT-X-MAP", "EXT-X-PROGRAM-DATE-TIME", "EXT-X-BYTERANGE", "EXT-X-GAP", "EXT-X-BITRATE", "EXT-X-DATERANGE":
			k = media
		}
		if likely == neither {
			likely = k
		}
	}
	return likely
}

// extra is what grafov does not say, or not rightly, of one segment.
type extra struct {
	keys    []Key
	mapKeys []Key // that held where its EXT-X-MAP stood
	gap     bool
	open    bool // its range has no offset that is known
	bitrate int64
	parts   []Part
	tags    []Tag
}

// mediaScan is what the first pass leaves of a media playlist: text for grafov, and the rest.
type mediaScan struct {
	text     bytes.Buffer
	segments []extra
	rest     Media // without Segments, and with what grafov reads of the head as 0
}

// held are the tags that wait for the URI of their segment.
type held struct {
	inf      bool
	duration float64
	title    string
	date     time.Time
	cut      bool
	gap      bool
	span     ByteRange
	init     attributes // EXT-X-MAP
	mapKeys  []Key
	key      attributes // the last EXT-X-KEY
	parts    []Part
	tags     []Tag
}

// scanMedia goes over a media playlist once. URLs are left to the join.
func scanMedia(data []byte) (*mediaScan, error) {
	s := &mediaScan{}
	var (
		h              held
		keys           []Key
		bitrate        int64
		spans, pieces  chain
		first, cuts    int64 = -1, -1 // media sequence and discontinuity sequence
		parts, vendors int
		body           bytes.Buffer
	)
	for line := range lines(data) {
		name, value := tag(line)
		s.rest.Open = name == "" && line[0] != '#'
		if name == "" {
			if line[0] == '#' {
				continue // a comment
			}
			if !h.inf {
				s.rest.Orphans++
				continue
			}
			if len(s.segments) == MaxSegments {
				return nil, fmt.Errorf("%w: more than %d segments", ErrTooLarge, MaxSegments)
			}
			span := spans.resolve(line, h.span)
			h.write(&body, line, span)
			s.segments = append(s.segments, extra{keys: keys, mapKeys: h.mapKeys, gap: h.gap, open: span.Offset < 0, bitrate: bitrate,
				parts: h.parts, tags: h.tags})
			h = held{}
			continue
		}
		switch name {
		case "EXTINF":
			length, title, _ := strings.Cut(value, ",")
			h.inf, h.duration, h.title = true, min(decimal(length), maxSeconds), strings.TrimSpace(title)
		case "EXT-X-BYTERANGE":
			if r, ok := byteRange(value); ok {
				h.span = r
			}
		case "EXT-X-DISCONTINUITY":
			h.cut = true
		case "EXT-X-PROGRAM-DATE-TIME":
			if t := date(value); !t.IsZero() {
				h.date = t
			}
		case "EXT-X-GAP":
			h.gap = true
		case "EXT-X-BITRATE":
			bitrate = min(integer(value), math.MaxInt64/1000) * 1000
		case "EXT-X-MAP":
			if a := parseAttributes(value); a.get("URI") != "" {
				h.init, h.mapKeys = a, keys
			}
		case "EXT-X-KEY":
			if a := parseAttributes(value); a.get("METHOD") != "" {
				h.key, keys = a, withKey(keys, a)
			}
		case "EXT-X-PART":
			a := parseAttributes(value)
			if parts++; parts > MaxParts || a.get("URI") == "" {
				continue
			}
			p := Part{URI: a.get("URI"), Duration: a.seconds("DURATION"), Independent: a.yes("INDEPENDENT"), Gap: a.yes("GAP")}
			r, _ := byteRange(a.get("BYTERANGE"))
			p.Range = pieces.resolve(p.URI, r)
			h.parts = append(h.parts, p)
		case "EXT-X-PRELOAD-HINT":
			if a := parseAttributes(value); a.get("URI") != "" && len(s.rest.Hints) < maxHints {
				s.rest.Hints = append(s.rest.Hints, Hint{Type: a.get("TYPE"), URI: a.get("URI"), Start: a.integer("BYTERANGE-START"), Length: a.integer("BYTERANGE-LENGTH")})
			}
		case "EXT-X-DATERANGE":
			if len(s.rest.DateRanges) < maxRanges {
				s.rest.DateRanges = append(s.rest.DateRanges, dateRange(parseAttributes(value), len(s.segments)))
			}
		case "EXT-X-MEDIA-SEQUENCE":
			first = once(first, value)
		case "EXT-X-DISCONTINUITY-SEQUENCE":
			cuts = once(cuts, value)
		case "EXT-X-TARGETDURATION":
			s.rest.TargetDuration = seconds(decimal(value))
		case "EXT-X-VERSION":
			s.rest.Version = int(min(integer(value), math.MaxInt32))
		case "EXT-X-PLAYLIST-TYPE":
			if t := strings.ToUpper(value); t == "EVENT" || t == "VOD" {
				s.rest.Type = t
			}
		case "EXT-X-ENDLIST":
			s.rest.Ended = true
		case "EXT-X-I-FRAMES-ONLY":
			s.rest.IFramesOnly = true
		case "EXT-X-INDEPENDENT-SEGMENTS":
			s.rest.Independent = true
		case "EXT-X-PART-INF":
			s.rest.PartTarget = parseAttributes(value).seconds("PART-TARGET")
		case "EXT-X-SERVER-CONTROL":
			a := parseAttributes(value)
			s.rest.ServerControl = ServerControl{a.yes("CAN-BLOCK-RELOAD"), a.seconds("CAN-SKIP-UNTIL"), a.yes("CAN-SKIP-DATERANGES"),
				a.seconds("HOLD-BACK"), a.seconds("PART-HOLD-BACK")}
		case "EXT-X-SKIP":
			s.rest.Skipped = uint64(min(parseAttributes(value).integer("SKIPPED-SEGMENTS"), math.MaxInt32))
		case "EXTM3U", "EXT-X-START", "EXT-X-DEFINE", "EXT-X-RENDITION-REPORT", "EXT-X-ALLOW-CACHE":
		default:
			if vendors++; vendors <= maxTags {
				h.tags = append(h.tags, Tag{name, value})
			}
		}
	}
	if n := len(data); n > 0 && (data[n-1] == '\n' || data[n-1] == '\r') {
		s.rest.Open = false
	}
	s.rest.Parts, s.rest.Tags = h.parts, h.tags
	s.text.WriteString("#EXTM3U\n")
	for _, head := range [...]struct {
		is         bool
		name, text string
	}{
		{first > 0, "MEDIA-SEQUENCE", strconv.FormatInt(first, 10)},
		{cuts > 0, "DISCONTINUITY-SEQUENCE", strconv.FormatInt(cuts, 10)},
		{s.rest.Type != "", "PLAYLIST-TYPE", s.rest.Type},
	} {
		if head.is {
			fmt.Fprintf(&s.text, "#EXT-X-%s:%s\n", head.name, head.text)
		}
	}
	if s.rest.IFramesOnly {
		s.text.WriteString("#EXT-X-I-FRAMES-ONLY\n")
	}
	body.WriteTo(&s.text) // into memory
	if s.rest.Ended {
		s.text.WriteString("#EXT-X-ENDLIST\n")
	}
	return s, nil
}

// once keeps the first number that can be read.
func once(have int64, value string) int64 {
	if have >= 0 {
		return have
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64-math.MaxInt32-MaxSegments {
		return -1
	}
	return n
}

// write writes one segment with all that was held for it, in one order.
func (h *held) write(b *bytes.Buffer, uri string, span ByteRange) {
	if h.cut {
		b.WriteString("#EXT-X-DISCONTINUITY\n")
	}
	writeTag(b, "EXT-X-KEY", h.key, "METHOD", "URI", "IV", "KEYFORMAT", "KEYFORMATVERSIONS")
	if uri := h.init.get("URI"); uri != "" {
		fmt.Fprintf(b, `#EXT-X-MAP:URI="%s"`, uri)
		if r, ok := byteRange(h.init.get("BYTERANGE")); ok {
			fmt.Fprintf(b, `,BYTERANGE="%d@%d"`, r.Length, max(r.Offset, 0))
		}
		b.WriteByte('\n')
	}
	if !h.date.IsZero() {
		fmt.Fprintf(b, "#EXT-X-PROGRAM-DATE-TIME:%s\n", h.date.Format(time.RFC3339Nano))
	}
	if span.Length > 0 {
		fmt.Fprintf(b, "#EXT-X-BYTERANGE:%d", span.Length)
		if span.Offset >= 0 {
			fmt.Fprintf(b, "@%d", span.Offset)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(b, "#EXTINF:%s,%s\n%s\n", strconv.FormatFloat(h.duration, 'f', -1, 64), h.title, uri)
}

// writeTag writes the named attributes that are there, and nothing if there are none.
func writeTag(b *bytes.Buffer, name string, a attributes, names ...string) {
	sep := "#" + name + ":"
	for _, n := range names {
		if v := a.get(n); v != "" {
			fmt.Fprintf(b, `%s%s="%s"`, sep, n, v)
			sep = ","
		}
	}
	if sep == "," {
		b.WriteByte('\n')
	}
}

// withKey is the set of keys after one more tag. The old set is not touched: segments share it.
func withKey(keys []Key, a attributes) []Key {
	k := Key{Method: a.get("METHOD"), URI: a.get("URI"), IV: a.get("IV"), Format: a.get("KEYFORMAT"), Versions: a.get("KEYFORMATVERSIONS")}
	if k.Method == "NONE" {
		return []Key{}
	}
	if k.Format == "" {
		k.Format = "identity"
	}
	if i := slices.IndexFunc(keys, func(old Key) bool { return old.Format == k.Format }); i >= 0 {
		if keys[i] == k {
			return keys
		}
		keys = slices.Clone(keys)
		keys[i] = k
		return keys
	}
	if len(keys) >= maxKeys {
		return keys
	}
	return append(slices.Clip(slices.Clone(keys)), k)
}

func dateRange(a attributes, before int) DateRange {
	r := DateRange{ID: a.get("ID"), Class: a.get("CLASS"), Start: date(a.get("START-DATE")), End: date(a.get("END-DATE")),
		Duration: a.seconds("DURATION"), Attributes: make(map[string]string, len(a)), Before: before}
	if a.get("DURATION") == "" {
		r.Duration = a.seconds("PLANNED-DURATION")
	}
	for _, x := range a {
		r.Attributes[x.name] = x.value
	}
	return r
}

// masterScan is what the first pass leaves of a multivariant playlist.
type masterScan struct {
	text     bytes.Buffer
	variants []Variant // only what grafov does not say, or not rightly
	rest     Master    // without Variants
}

// scanMaster goes over a multivariant playlist once.
func scanMaster(data []byte) *masterScan {
	s := &masterScan{}
	s.text.WriteString("#EXTM3U\n")
	var inf attributes // EXT-X-STREAM-INF that waits for its URI
	waits := false
	for line := range lines(data) {
		name, value := tag(line)
		if name == "" {
			if line[0] == '#' || !waits {
				continue
			}
			waits = false
			if len(s.variants) == MaxForms {
				s.rest.Dropped++
				continue
			}
			v := Variant{Bandwidth: inf.integer("BANDWIDTH"), AverageBandwidth: inf.integer("AVERAGE-BANDWIDTH"),
				FrameRate: decimal(inf.get("FRAME-RATE")), Pathway: inf.get("PATHWAY-ID"), StableID: inf.get("STABLE-VARIANT-ID")}
			v.Width, v.Height = inf.size("RESOLUTION")
			s.variants = append(s.variants, v)
			s.text.WriteString("#EXT-X-STREAM-INF:PROGRAM-ID=1")
			for _, n := range [...]string{"CODECS", "NAME", "VIDEO-RANGE", "HDCP-LEVEL", "AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"} {
				if v := inf.get(n); v != "" {
					fmt.Fprintf(&s.text, `,%s="%s"`, n, v)
				}
			}
			fmt.Fprintf(&s.text, "\n%s\n", line)
			continue
		}
		switch name {
		case "EXT-X-STREAM-INF":
			if waits {
				s.rest.Dropped++ // the one before had no URI
			}
			inf, waits = parseAttributes(value), true
		case "EXT-X-MEDIA":
			if len(s.rest.Renditions) == MaxForms {
				s.rest.Dropped++
				continue
			}
			a := parseAttributes(value)
			s.rest.Renditions = append(s.rest.Renditions, Rendition{Type: a.get("TYPE"), Group: a.get("GROUP-ID"), Name: a.get("NAME"),
				Language: a.get("LANGUAGE"), URI: a.get("URI"), Default: a.yes("DEFAULT"), Autoselect: a.yes("AUTOSELECT"),
				Forced: a.yes("FORCED"), Channels: a.get("CHANNELS"), Characteristics: a.get("CHARACTERISTICS"), InstreamID: a.get("INSTREAM-ID")})
		case "EXT-X-INDEPENDENT-SEGMENTS":
			s.rest.Independent = true
		}
	}
	if waits {
		s.rest.Dropped++
	}
	return s
}
