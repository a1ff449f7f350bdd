package hlspull

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
	"github.com/liverec/liverec/recorder/hlspull/plan"
)

// Limits.
const (
	// MaxMemory is the most that bodies of segments take in all, and MaxHeld one of them: what is larger lies in a file.
	MaxMemory = 64 << 20
	MaxHeld   = 32 << 20
	// MaxSegment is the most that one segment may have.
	MaxSegment = 256 << 20
	// MaxSpool is the most that such files take: a segment, and what is made of it.
	MaxSpool = 2*MaxSegment + MaxSegment/8
	// Memory is what one Source holds at the most (I7): bodies of segments, one of them twice; and of each of two renditions a
	// list as it came, as it was read and as it was planned, at 1.5 KiB for each of its segments; 16 sections as they
	// came and as they were read. What lies in mapped files is not counted.
	Memory = MaxMemory + MaxHeld + 2*(hls.MaxSize+hls.MaxSegments*3<<9) + 2*maxSections*MaxInit
	// MaxInit is the most that an initialisation section may have.
	MaxInit = 1 << 20
	// MaxFetches is how many segments are fetched at once where the line is behind.
	MaxFetches = 6

	usualFetches = 3
	// keep is what only the oldest segment may use of the memory.
	keep = 16 << 20
	// keyPatience is how long a key is tried before what it belongs to is missing.
	keyPatience = 60 * time.Second
	// emptyFor is how long a list may be empty, or end with nothing in it.
	emptyFor = 60 * time.Second
)

// ErrEnd says that the source itself has ended the stream (EXT-X-ENDLIST in a list that is not empty), and that all of it
// was handed on. It wraps recorder.ErrOver, and so io.EOF.
var ErrEnd = fmt.Errorf("the playlist has ended: %w", recorder.ErrOver)

// ErrStill says that nothing was added to the list for long: the room has to be asked again.
var ErrStill = errors.New("nothing new in the playlist")

// ErrEmpty says that the list had nothing in it for a minute.
var ErrEmpty = errors.New("the playlist is empty")

// Config says what to pull.
type Config struct {
	URL    string      // of a multivariant or a media playlist
	Header http.Header // sent with each request; Cookie and Authorization to the host of URL only
	// Dial replaces the network below HTTP, Transport all of HTTP; nil: TCP with the proxies of the environment.
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	Transport http.RoundTripper

	Quality string // as hls.Choose has it; "auto" steps down and up with the line
	Ads     bool   // record what the list marks as advertising
	// Place is the newest note of a Join whose media is durable, to go on behind it; nil: from the first segment listed.
	Place []byte
	// Renew asks the room again for the URL, before the one that is in use expires and when it is refused; nil: URL holds.
	Renew func(ctx context.Context) (string, error)
	// Hosts remembers hosts that did badly, over rooms and Sources; nil: for this Source alone.
	Hosts *fetch.Hosts
	// Pressed reports that the disk does not keep up: with Quality "auto" that is a reason to step down. May be nil.
	Pressed func() bool
	Log     zerolog.Logger
}

// Source pulls one HLS stream.
type Source struct {
	cfg    Config
	client *fetch.Client
	place  *place
	spool  string // folder for what is too large for memory
	host   atomic.Pointer[string]
	grade  atomic.Pointer[string]
	found  *found // what Open found
}

var _ recorder.Source = (*Source)(nil)

// New checks cfg and asks nobody.
func New(cfg Config) (*Source, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("the URL of the playlist is no http or https URL")
	}
	if cfg.Hosts == nil {
		cfg.Hosts = &fetch.Hosts{}
	}
	if cfg.Renew == nil {
		cfg.Renew = func(context.Context) (string, error) { return cfg.URL, nil }
	}
	s := &Source{cfg: cfg, client: fetch.New(fetch.Config{Home: u, Header: cfg.Header, Dial: cfg.Dial, Transport: cfg.Transport})}
	s.Resume(cfg.Place)
	s.host.Store(&u.Host)
	return s, nil
}

// Spool says in which folder segments may lie for a moment that are too large for memory; if nobody does, in the system's
// for temporary files. Call it before Run.
func (s *Source) Spool(dir string) { s.spool = dir }

// Host is where segments come from now: "host:port".
func (s *Source) Host() string { return *s.host.Load() }

// Close frees the connections. After Run there is nothing to close.
func (s *Source) Close() error {
	s.client.Close()
	return nil
}

const placeVersion = 1

// place is the note that a Join carries.
type place struct {
	Version int         `json:"v"`
	Video   *plan.Place `json:"main,omitempty"`  // the rendition that segments are counted by
	Audio   *plan.Place `json:"sound,omitempty"` // the newest segment of the other one that is wholly handed on
	// Edge is where the clock stood behind it, of each track; -1: it has none.
	Edge [2]time.Duration `json:"edge"`
	// Open is how much of Edge is of parts of the segment behind Video, which was never whole when they were handed on.
	Open  time.Duration `json:"open,omitempty"`
	Media string        `json:"list,omitempty"` // path of the list
}
