package hls

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
)

// maxVariables is how many EXT-X-DEFINE of one playlist are read.
const maxVariables = 256

// define replaces {$name} by what EXT-X-DEFINE has said above. A name that is not defined stays as it is. imported is what
// the playlist that led here has defined: known is what this one has.
func define(data []byte, base *url.URL, imported map[string]string) (text []byte, known map[string]string, err error) {
	if !bytes.Contains(data, []byte("#EXT-X-DEFINE")) {
		return data, nil, nil
	}
	known = map[string]string{}
	var out bytes.Buffer
	for line := range lines(data) {
		if name, value := tag(line); name == "EXT-X-DEFINE" {
			a := parseAttributes(value)
			if len(known) >= maxVariables {
				continue
			}
			if n := a.get("NAME"); n != "" {
				known[n] = a.get("VALUE")
			} else if n := a.get("QUERYPARAM"); n != "" {
				known[n] = base.Query().Get(n)
			} else if n := a.get("IMPORT"); n != "" {
				if v, is := imported[n]; is {
					known[n] = v
				}
			}
			continue
		}
		if strings.Contains(line, "{$") && replace(&out, line, known) > MaxSize {
			return nil, nil, fmt.Errorf("%w: more than %d bytes with its variables", ErrTooLarge, MaxSize)
		} else if !strings.Contains(line, "{$") {
			out.WriteString(line)
		}
		out.WriteByte('\n')
	}
	return out.Bytes(), known, nil
}

// replace writes a line with its variables and returns how long all is now; it stops at MaxSize.
func replace(out *bytes.Buffer, line string, known map[string]string) int {
	for out.Len() <= MaxSize {
		before, rest, found := strings.Cut(line, "{$")
		out.WriteString(before)
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		value, is := known[name]
		if !closed || !is {
			out.WriteString("{$")
			line = rest
			continue
		}
		out.WriteString(value)
		line = after
	}
	return out.Len()
}
