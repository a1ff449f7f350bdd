package hls

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/grafov/m3u8"
)

// Read reads a playlist's text to its end, and no more than [MaxSize] bytes of it.
func Read(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read playlist: %w", err)
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxSize)
	}
	return data, nil
}

// Parse reads a playlist that came from base, the URL after all redirects, which has to be absolute and http or https.
// It does not keep data. The error is ErrNotPlaylist or ErrTooLarge, wrapped, or says what is wrong with base.
func Parse(data []byte, base *url.URL) (Playlist, error) { return ParseWith(data, base, nil) }

// ParseWith is Parse of a playlist that a multivariant playlist led to: its EXT-X-DEFINE may import that one's Variables.
func ParseWith(data []byte, base *url.URL, variables map[string]string) (Playlist, error) {
	if base == nil || allowed(base) == "" {
		return Playlist{}, errors.New("read playlist: where it comes from is no http or https URL")
	}
	var known map[string]string
	data, err := begin(data)
	if err == nil {
		data, known, err = define(data, base, variables)
	}
	if err != nil {
		return Playlist{}, err
	}
	var p Playlist
	switch decide(data) {
	case master:
		if p.Master, err = parseMaster(data, base); err == nil {
			p.Master.Variables = known
		}
	case media:
		p.Media, err = parseMedia(data, base)
	default:
		err = fmt.Errorf("%w: it names no segment and no variant", ErrNotPlaylist)
	}
	if err != nil {
		return Playlist{}, err
	}
	return p, nil
}

// errGaveUp says that grafov met something that the first pass should have kept from it.
var errGaveUp = errors.New("the reader behind the first pass gave up")

// guard runs f, which is not ours, and makes an error of its panic.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %w: %v", ErrNotPlaylist, errGaveUp, r)
		}
	}()
	return f()
}

func parseMedia(data []byte, base *url.URL) (*Media, error) {
	s, err := scanMedia(data)
	if err != nil {
		return nil, err
	}
	var p *m3u8.MediaPlaylist
	err = guard(func() (err error) {
		if p, err = m3u8.NewMediaPlaylist(0, uint(max(len(s.segments), 1))); err == nil {
			err = p.DecodeFrom(&s.text, false)
		}
		return err
	})
	if err == nil && int(p.Count()) != len(s.segments) {
		err = fmt.Errorf("%w: %w: %d segments became %d", ErrNotPlaylist, errGaveUp, len(s.segments), p.Count())
	}
	if err != nil {
		return nil, err
	}
	r := resolver{base: base}
	m := s.rest
	m.Sequence, m.Discontinuities = p.SeqNo+m.Skipped, p.DiscontinuitySeq
	m.Segments = make([]Segment, len(s.segments))
	period := m.Discontinuities
	var now *Map
	for i, x := range s.segments {
		g := p.Segments[i]
		if g.Discontinuity {
			period++
		}
		if g.Map != nil {
			next := Map{URI: g.Map.URI, URL: r.absolute(g.Map.URI), Range: ByteRange{g.Map.Limit, g.Map.Offset}, Keys: r.keys(x.mapKeys)}
			if now == nil || !sameMap(*now, next) {
				now = &next
			}
		}
		span := ByteRange{g.Limit, g.Offset}
		if x.open {
			span.Offset = -1
		}
		m.Segments[i] = Segment{
			Sequence: m.Sequence + uint64(i), URI: g.URI, URL: r.absolute(g.URI), Duration: seconds(g.Duration), Title: g.Title,
			Discontinuity: g.Discontinuity, Period: period, Gap: x.gap, Range: span, Bitrate: x.bitrate,
			Map: now, Keys: r.keys(x.keys), Parts: r.parts(x.parts), Tags: x.tags,
		}
		if !g.ProgramDateTime.IsZero() {
			m.Segments[i].Date = g.ProgramDateTime.UTC()
		}
	}
	m.Parts = r.parts(m.Parts)
	for i := range m.Hints {
		m.Hints[i].URL = r.absolute(m.Hints[i].URI)
	}
	return &m, nil
}

func sameMap(a, b Map) bool {
	if a.URI != b.URI || a.Range != b.Range || len(a.Keys) != len(b.Keys) || (a.Keys == nil) != (b.Keys == nil) {
		return false
	}
	for i := range a.Keys {
		if a.Keys[i] != b.Keys[i] {
			return false
		}
	}
	return true
}

func parseMaster(data []byte, base *url.URL) (*Master, error) {
	s := scanMaster(data)
	p := m3u8.NewMasterPlaylist()
	err := guard(func() error { return p.DecodeFrom(&s.text, false) })
	if err == nil && len(p.Variants) != len(s.variants) {
		err = fmt.Errorf("%w: %w: %d variants became %d", ErrNotPlaylist, errGaveUp, len(s.variants), len(p.Variants))
	}
	if err != nil {
		return nil, err
	}
	r := resolver{base: base}
	m := s.rest
	m.Variants = make([]Variant, 0, len(s.variants))
	for i, v := range s.variants {
		g := p.Variants[i]
		if v.URI, v.URL = g.URI, r.absolute(g.URI); v.URL == "" {
			m.Dropped++
			continue
		}
		for c := range strings.SplitSeq(g.Codecs, ",") {
			if c = strings.TrimSpace(c); c != "" {
				v.Codecs = append(v.Codecs, c)
			}
		}
		v.Name, v.Range, v.HDCP = g.Name, g.VideoRange, g.HDCPLevel
		v.Audio, v.Video, v.Subtitles, v.Captions = g.Audio, g.Video, g.Subtitles, g.Captions
		m.Variants = append(m.Variants, v)
	}
	for i := range m.Renditions {
		m.Renditions[i].URL = r.absolute(m.Renditions[i].URI)
	}
	return &m, nil
}

// resolver makes URIs absolute.
type resolver struct {
	base   *url.URL
	source []Key // the set that was resolved last, and
	made   []Key // what came out of it: segments share sets
}

// absolute is the URL that a URI of the playlist means, or "" if nothing here may open it.
func (r *resolver) absolute(uri string) string {
	if uri == "" {
		return ""
	}
	u, err := r.base.Parse(uri)
	if err != nil {
		return ""
	}
	return allowed(u)
}

// allowed is the URL without its fragment if it is http or https and names a host, else "".
func allowed(u *url.URL) string {
	if !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https") || u.Hostname() == "" || u.Opaque != "" {
		return ""
	}
	clean := *u
	clean.Fragment, clean.RawFragment = "", ""
	return clean.String()
}

func (r *resolver) keys(keys []Key) []Key {
	if len(keys) == 0 {
		return keys // nil and empty are two things
	}
	if len(r.source) == len(keys) && &r.source[0] == &keys[0] {
		return r.made
	}
	made := make([]Key, len(keys))
	for i, k := range keys {
		k.URL = r.absolute(k.URI)
		made[i] = k
	}
	r.source, r.made = keys, made
	return made
}

func (r *resolver) parts(parts []Part) []Part {
	for i := range parts {
		parts[i].URL = r.absolute(parts[i].URI)
	}
	return parts
}
