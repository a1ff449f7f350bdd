package external

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/naming"
)

// streamlinkAnswer is what `streamlink --json URL` prints.
type streamlinkAnswer struct {
	Error    string `json:"error"`
	Metadata struct {
		Author string `json:"author"`
		Title  string `json:"title"`
	} `json:"metadata"`
	Streams map[string]streamlinkStream `json:"streams"`
}

type streamlinkStream struct {
	Type    string            `json:"type"`
	URL     string            `json:"url"`
	Master  string            `json:"master"`
	Method  string            `json:"method"`
	Body    any               `json:"body"`
	Headers map[string]string `json:"headers"`
}

var named = regexp.MustCompile(`^(\d{2,4})p(\d{2,3})?(\+?)(_alt\d*)?$`)

// readStreamlink makes sense of it.
func readStreamlink(out []byte, errs string) (answer, error) {
	var s streamlinkAnswer
	if err := json.Unmarshal(out, &s); err != nil {
		return answer{}, fmt.Errorf("its answer cannot be read: %s", said(string(out[:min(len(out), 200)])+" "+errs))
	}
	a := answer{streamer: naming.Line(s.Metadata.Author), title: naming.Line(s.Metadata.Title)}
	if len(s.Streams) == 0 {
		switch {
		case strings.HasPrefix(s.Error, "No playable streams"):
			a.why = "streamlink finds no playable stream"
			return a, nil
		case strings.HasPrefix(s.Error, "No plugin can handle"):
			return a, errUnknown
		case s.Error == "":
			return a, errors.New("its answer names no stream and no reason")
		}
		return a, refused(s.Error)
	}
	best, worst := s.Streams["best"], s.Streams["worst"]
	other := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.Streams)) {
		v := s.Streams[name]
		st := stream{name: name, url: v.URL, header: headers(v.Headers)}
		switch {
		case name == "best" || name == "worst":
			continue
		case v.URL == "":
			other[v.Type] = true
			continue
		case v.Type == "hls":
			st.form = formHLS
			if v.Master != "" {
				st.url, st.alone, st.list = v.Master, v.URL, true
			}
		case v.Type == "http" && (v.Method == "" || v.Method == "GET") && v.Body == nil:
			st.form = formHTTP
		default:
			other[v.Type] = true
			continue
		}
		if m := named.FindStringSubmatch(name); m != nil {
			st.height, _ = strconv.Atoi(m[1])
			st.rate, _ = strconv.ParseFloat(m[2], 64)
		}
		// Names without a number have no order among themselves but what the program says of the ends.
		switch v.URL {
		case best.URL:
			st.bits = 2
		case worst.URL:
			st.bits = -1
		}
		a.streams = append(a.streams, st)
	}
	if len(a.streams) == 0 {
		return a, fmt.Errorf("%w: it offers %s, and FLV and HLS are recorded", errUseless, strings.Join(slices.Sorted(maps.Keys(other)), ", "))
	}
	top := 0 // heights that are known
	for _, st := range a.streams {
		top = max(top, st.height)
	}
	slices.SortStableFunc(a.streams, func(x, y stream) int {
		// "source" and its kin have no number, and are no less for it if the program calls them the best.
		if x.height == 0 && x.bits == 2 {
			x.height = top + 1
		}
		if y.height == 0 && y.bits == 2 {
			y.height = top + 1
		}
		return compare(y, x)
	})
	a.live = true
	return a, nil
}

// refused is a program's own word that something did not work.
func refused(words string) error {
	err := errors.New(said(words))
	switch low := strings.ToLower(words); {
	case strings.Contains(low, "429") && strings.Contains(low, "too many"), strings.Contains(low, "http error 429"), strings.Contains(low, "429 client error"):
		return &failure.Error{Op: "ask the site", Kind: failure.Throttled, Err: err}
	}
	return err
}
