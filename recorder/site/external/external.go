// Package external is the site of pages that nothing here knows: an installed streamlink or yt-dlp says where the stream
// of such a page is, and the stream itself is pulled by us.
//
// It owns how these programs are found, asked and bounded, and what their answers mean for a room. It never lets one of
// them carry media, never hands it a secret or a shell, and concludes from nothing but the program's own words that a room
// is offline: whatever else goes wrong is "could not ask".
package external

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/hlspull"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
	"github.com/liverec/liverec/recorder/httpflv"
	"github.com/liverec/liverec/recorder/pace"
)

// every is how often a page is asked about while nothing is on: each question is a whole program.
const every = time.Minute

// opening is how long it may take to open the stream that a program named: some requests, each with its own bound.
const opening = 25 * time.Second

var (
	// ErrAbsent says that neither program is installed.
	ErrAbsent = errors.New("neither streamlink nor yt-dlp is installed")
	// ErrUnknown says that no program that is installed knows the page.
	ErrUnknown = errors.New("neither streamlink nor yt-dlp knows this page")
)

// Install is what a person can do about ErrAbsent.
const Install = "Install streamlink or yt-dlp so that they are found in PATH (pipx install streamlink, pipx install yt-dlp), or give the address of the stream itself."

// Config says which page.
type Config struct {
	URL   string // http or https
	Tools *Tools // shared by all rooms

	Quality string // "auto", "best", "worst", a height, or a name that the program gives
	Ads     bool   // record what a playlist marks as advertising
	Hosts   *fetch.Hosts
	Pressed func() bool
	Log     zerolog.Logger
	// Dial replaces the network below the media; nil: TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Resolver asks about one page. It belongs to one goroutine.
type Resolver struct {
	cfg  Config
	page *url.URL
	odd  *httpflv.Oddities // of all connections

	steps pace.Steps
}

var _ recorder.Patient = (*Resolver)(nil)

// New checks the address and asks nobody.
func New(cfg Config) (*Resolver, error) {
	u, err := url.Parse(strings.TrimSpace(cfg.URL))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, errors.New("only http and https addresses are handed to another program")
	}
	if u.User != nil {
		return nil, errors.New("an address with a password in it is not handed to another program: its command line can be read by everybody on this machine")
	}
	return &Resolver{cfg: cfg, page: u, odd: httpflv.NewOddities(cfg.Log),
		steps: pace.Steps{Auto: cfg.Quality == "" || cfg.Quality == "auto"}}, nil
}

// Every is a minute: each question starts a program.
func (r *Resolver) Every() time.Duration { return every }

// Patience is what the programs may take, and the opening of the stream that they name.
func (r *Resolver) Patience() time.Duration { return Patience + opening }

// Resolve asks a program where the stream is, and opens it. The error is ErrAbsent, ErrUnknown, or says what could not be
// asked or opened.
func (r *Resolver) Resolve(ctx context.Context, _ segment.Room) (recorder.Live, error) {
	a, err := r.cfg.Tools.ask(ctx, r.page)
	if err != nil {
		return recorder.Live{}, err
	}
	live := recorder.Live{Presence: recorder.Offline, Streamer: a.streamer, Title: a.title, Why: a.why, Confirmed: a.confirmed}
	if !a.live {
		return live, nil
	}
	pick, err := choose(r.allowed(a.streams), r.cfg.Quality)
	if err != nil {
		return recorder.Live{}, err
	}
	src, err := r.open(ctx, a, pick)
	if err != nil {
		return recorder.Live{}, fmt.Errorf("open the stream that %s named: %w", a.program, err)
	}
	live.Presence, live.Source = recorder.OnAir, &Source{Source: src, offers: offers(a.streams), chosen: pick.name}
	if n, ok := src.(recorder.Numbered); ok {
		live.Source = &numbered{live.Source.(*Source), n}
	}
	return live, nil
}

// open connects to a stream.
func (r *Resolver) open(ctx context.Context, a answer, s stream) (recorder.Source, error) {
	if err := r.place(s.url); err != nil {
		return nil, err
	}
	if s.form == formHTTP {
		src, err := httpflv.Open(ctx, httpflv.Config{URL: s.url, Header: s.header, Dial: r.cfg.Dial, Odd: r.odd,
			Watch: &pace.Watch{Steps: &r.steps, Pressed: r.cfg.Pressed, Tell: func(why string) { r.cfg.Log.Warn().Msg(why) }}})
		if err == nil {
			r.opened(a.streams, s)
			return src, nil
		}
		if e, ok := errors.AsType[*httpflv.ContentError](err); !ok || e.Content != flv.HLSContent {
			return nil, err
		}
	}
	src, err := hlspull.New(hlspull.Config{
		URL: s.url, Header: s.header, Dial: r.cfg.Dial, Quality: s.quality, Ads: r.cfg.Ads, Hosts: r.cfg.Hosts, Pressed: r.cfg.Pressed,
		Log: r.cfg.Log, Renew: func(ctx context.Context) (string, error) { return r.renew(ctx, s) },
	})
	if err != nil {
		return nil, err
	}
	if err = src.Open(ctx); err == nil && len(src.Qualities()) > 0 {
		_, err = src.List(ctx)
	}
	if err == nil {
		return src, nil
	}
	src.Close()
	if _, ok := errors.AsType[*hls.QualityError](err); ok {
		return nil, &failure.Error{Op: "choose a quality", Kind: failure.NeedsHuman, Err: err, Hint: "liverec probe shows what there is."}
	}
	return nil, err
}

// allowed are the streams that line and disk keep up with, from the best to the worst. A multivariant playlist steps by
// itself.
func (r *Resolver) allowed(streams []stream) []stream {
	most := r.steps.Limit()
	if most == 0 || streams[0].list {
		return streams
	}
	return streams[max(0, min(len(streams)-most, len(streams)-1)):]
}

// opened tells the steps which of the streams was opened. The worst is 1.
func (r *Resolver) opened(streams []stream, s stream) {
	var all []int
	now := 1
	for i, x := range streams {
		all = append(all, len(streams)-i)
		if x.name == s.name {
			now = len(streams) - i
		}
	}
	r.steps.Opened(now, all, 1)
}

// renew asks again for the address of the same form of the stream.
func (r *Resolver) renew(ctx context.Context, was stream) (string, error) {
	a, err := r.cfg.Tools.ask(ctx, r.page)
	if err != nil {
		return "", err
	}
	if !a.live {
		return "", fmt.Errorf("the stream is gone: %s", a.why)
	}
	s, err := choose(a.streams, r.cfg.Quality)
	if err != nil {
		return "", err
	}
	if s.form != formHLS {
		return "", errors.New("the stream is no playlist any more")
	}
	return s.url, r.place(s.url)
}

// place refuses to be led into the network of this machine by a page of the internet.
func (r *Resolver) place(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("it is no http or https address")
	}
	if near(u.Hostname()) && !near(r.page.Hostname()) {
		return errors.New("it lies in a private network, which a page of the internet may not lead to")
	}
	return nil
}

// near reports whether a host, as written, is no public one.
func near(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap().WithZone("")
		return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}

// Offer is one form in which a stream can be had.
type Offer struct {
	Name   string
	Form   string // "FLV" or "HLS"
	Height int    // 0: unknown
	Host   string
	Chosen bool
}

// Source is a stream that a program named.
type Source struct {
	recorder.Source
	offers []Offer
	chosen string
}

// Offers is what else there was, from the best to the worst.
func (s *Source) Offers() []Offer {
	out := make([]Offer, len(s.offers))
	for i, o := range s.offers {
		o.Chosen = o.Name == s.chosen
		out[i] = o
	}
	return out
}

// Quality is what the program calls the form, or what the playlist has chosen.
func (s *Source) Quality() string {
	if g, ok := s.Source.(recorder.Graded); ok {
		if q := g.Quality(); q != "" {
			return q
		}
	}
	return s.chosen
}

// numbered is a Source that numbers its media.
type numbered struct {
	*Source
	inner recorder.Numbered
}

var _ recorder.Numbered = (*numbered)(nil)

// Resume hands the note on.
func (n *numbered) Resume(note []byte) { n.inner.Resume(note) }

func offers(streams []stream) []Offer {
	var out []Offer
	for _, s := range streams {
		o := Offer{Name: s.name, Form: "HLS", Height: s.height}
		if s.form == formHTTP {
			o.Form = "FLV"
		}
		if u, err := url.Parse(s.url); err == nil {
			o.Host = u.Host
		}
		out = append(out, o)
	}
	return out
}

// headers takes what a program wants to be sent, without what belongs to its own connection.
func headers(from map[string]string) http.Header {
	h := http.Header{}
	for k, v := range from {
		switch k = http.CanonicalHeaderKey(k); k {
		case "Accept-Encoding", "Accept", "Connection", "Host", "Range", "Content-Length", "Transfer-Encoding":
		default:
			if !strings.ContainsAny(k+v, "\r\n\x00") {
				h.Set(k, v)
			}
		}
	}
	return h
}
