package external

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/liverec/liverec/pkg/failure"
)

// form is how a stream is pulled.
type form uint8

const (
	formHTTP form = iota + 1 // one response: FLV, or what turns out to be a playlist
	formHLS
)

// stream is one form of a stream that we can pull.
type stream struct {
	name    string
	form    form
	url     string // of the stream itself, or of the multivariant playlist that it stands in
	header  http.Header
	height  int     // 0: unknown
	rate    float64 // frames per second; 0: unknown
	bits    float64 // kbit/s; 0: unknown
	list    bool    // url may be a multivariant playlist: it chooses by itself
	alone   string  // with list: the media playlist of this form
	quality string  // set by choose: what the playlist is to choose
}

// answer is what a program says about a page.
type answer struct {
	program   string
	live      bool
	confirmed bool   // the platform's own word that it is not
	why       string // why it is not
	streamer  string
	title     string
	streams   []stream // from the best to the worst, at least one if live
}

func compare(a, b stream) int {
	return cmp.Or(cmp.Compare(a.height, b.height), cmp.Compare(a.rate, b.rate), cmp.Compare(a.bits, b.bits))
}

// choose picks one of the streams, which stand from the best to the worst. A multivariant playlist gets to choose by
// itself wherever it can: the programs' own order is not that of hls.Choose, and only the whole list has the sound and the
// backups that belong to a form.
func choose(streams []stream, quality string) (stream, error) {
	q := strings.ToLower(strings.TrimSpace(quality))
	pick := func(s stream, q string) (stream, error) {
		s.quality = q
		return s, nil
	}
	switch q {
	case "", "auto", "best":
		return pick(streams[0], cmp.Or(q, "auto"))
	case "worst":
		return pick(streams[len(streams)-1], q)
	}
	for _, s := range streams {
		if strings.ToLower(s.name) == q {
			if s.alone != "" {
				s.url, s.list = s.alone, false
			}
			return pick(s, "")
		}
	}
	tall, _, _ := strings.Cut(q, "p")
	if height, err := strconv.Atoi(tall); err == nil && height > 0 {
		if i := slices.IndexFunc(streams, func(s stream) bool { return s.list }); i >= 0 {
			return pick(streams[i], q)
		}
		for _, s := range streams {
			if s.height > 0 && s.height <= height {
				return pick(s, "")
			}
		}
		return pick(streams[len(streams)-1], "")
	}
	var names []string
	for _, s := range streams {
		names = append(names, s.name)
	}
	return stream{}, &failure.Error{Op: "choose a quality", Kind: failure.NeedsHuman, Hint: "liverec probe shows what there is.",
		Err: fmt.Errorf("none is called %q; there is %s", quality, strings.Join(names, ", "))}
}
