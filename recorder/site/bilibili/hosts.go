package bilibili

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/recorder/hlspull/fetch"
)

// Globs are patterns for hosts: "*.mcdn.bilivideo.cn", "cn-gotcha01". One without a dot is compared with the name that the
// platform gives the CDN ("cdn=cn-gotcha01") too, and with the first label of the host.
type Globs []string

// ParseGlobs reads a list with commas between the patterns.
func ParseGlobs(s string) (Globs, error) {
	var g Globs
	for p := range strings.SplitSeq(s, ",") {
		p = strings.ToLower(strings.TrimSpace(p))
		if p == "" {
			continue
		}
		if _, err := path.Match(p, "x"); err != nil || strings.ContainsAny(p, "/ ") {
			return nil, fmt.Errorf("%q is no pattern for a host; it looks like *.mcdn.bilivideo.cn or cn-gotcha01", clip(p))
		}
		g = append(g, p)
	}
	return g, nil
}

func (g Globs) match(p place) bool {
	host := strings.ToLower(p.host)
	label, _, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(g, func(glob string) bool {
		for _, name := range [...]string{host, p.cdn, label} {
			if ok, err := path.Match(glob, name); err == nil && ok && name != "" {
				return true
			}
		}
		return false
	})
}

// place is one URL of a stream.
type place struct {
	url     string
	host    string // without the port
	at      string // with it
	cdn     string // the platform's name of the network, "" if it does not say
	path    string
	expires time.Time // zero: it does not say
}

func placeOf(raw string) (place, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return place{}, false
	}
	q := u.Query()
	p := place{url: raw, host: strings.ToLower(u.Hostname()), at: u.Host, cdn: strings.ToLower(q.Get("cdn")), path: u.Path}
	for _, key := range [...]string{"expires", "deadline"} {
		if t := unix(q.Get(key)); !t.IsZero() && (p.expires.IsZero() || t.Before(p.expires)) {
			p.expires = t
		}
	}
	return p, true
}

func unix(s string) time.Time {
	n, ok := number(s)
	if !ok || n < 1e9 || n > 1e11 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

var (
	gotcha   = regexp.MustCompile(`gotcha(0[45789]|208|204)`)
	regional = regexp.MustCompile(`^cn-[a-z]+-[a-z]{2}-[0-9]+-[0-9]+\.`)
	peer     = regexp.MustCompile(`(^|\.)mcdn\.|^xy[0-9a-fx]+xy`)
)

// rank orders hosts by what is known of their kind, the best first: the platform's own networks, whatever is unknown,
// provincial nodes, which glitch over long distances, and last the boxes in people's homes, which have sent bad data.
func (p place) rank() int {
	switch {
	case peer.MatchString(p.host):
		return 3
	case regional.MatchString(p.host):
		return 2
	case gotcha.MatchString(p.host):
		return 0
	}
	return 1
}

// errHosts says that the lists of a person leave nothing.
var errHosts = errors.New("none of the hosts that are offered is allowed by --bilibili-allow-hosts and --bilibili-ban-hosts")

// order takes out what is not allowed and puts the best host first; hosts that did badly lately come after those that did
// not, in the same order. Within a kind the platform's order stays.
func order(places []place, allow, ban Globs, hosts *fetch.Hosts, now time.Time) ([]place, error) {
	var out []place
	for _, p := range places {
		if ban.match(p) || len(allow) > 0 && !allow.match(p) {
			continue
		}
		out = append(out, p)
	}
	if len(out) == 0 && len(places) > 0 {
		var names []string
		for _, p := range places {
			names = append(names, p.host)
		}
		return nil, fmt.Errorf("%w: %s", errHosts, strings.Join(slices.Compact(names), ", "))
	}
	weight := func(p place) int {
		n := p.rank()
		if hosts.Bad(p.at, now) {
			n += 10
		}
		return n
	}
	slices.SortStableFunc(out, func(a, b place) int { return weight(a) - weight(b) })
	return out, nil
}

// encoded matches the name of a stream that the platform has encoded again, though it is served as the original.
var encoded = regexp.MustCompile(`(/live_[0-9a-z]+(?:_bs)?_[0-9]+)_(bluray|prohevc|minihevc|4000|2500|1500)\b`)

// again reports whether a path names an encoding of the platform's own.
func again(path string) bool { return encoded.MatchString(path) }

// original gives the address of what the streamer sent, instead of the platform's encoding of it. That works only for
// fMP4 from provincial nodes, which do not check what was signed; ok is false everywhere else.
func original(p place) (place, bool) {
	if p.rank() != 2 || !strings.HasSuffix(p.path, ".m3u8") || !again(p.path) {
		return p, false
	}
	head, tail, _ := strings.Cut(p.url, "?")
	head = encoded.ReplaceAllString(head, "$1")
	if tail != "" {
		head += "?" + tail
	}
	return placeOf(head)
}
