package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/status"
)

const (
	hlsName    = "HLS"
	hlsWait    = 10 * time.Second // for one playlist
	hlsHops    = 5                // redirects that are followed
	hlsPrefix  = "hls://"
	httpPrefix = "httpstream://"
)

// probeHLS asks for the playlist of a room, and for the media playlist of the best quality if that is another one, since
// only that one says whether anything is being sent. It fills in what they say, and tells which of p.Quality is the best
// one, -1 if none can be had.
func probeHLS(ctx context.Context, raw string, p *probed) (chosen int, err error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: hlsWait}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) > hlsHops {
			return fmt.Errorf("more than %d redirects", hlsHops)
		}
		return nil
	}}
	list, at, err := playlist(ctx, client, fetchURL(raw))
	if err != nil {
		return -1, err
	}
	p.Live = false
	p.addHost(at.Host)
	m := list.Media
	if master := list.Master; master != nil {
		forms := slices.Clone(master.Variants)
		slices.SortStableFunc(forms, func(a, b hls.Variant) int { return hls.Compare(b, a) })
		for _, v := range forms {
			p.addForm(master, v)
		}
		best, err := hls.Choose(master, "")
		for i, q := range p.Quality {
			if err == nil && q.Name == formName(master, best.Variant) && q.Height == best.Variant.Height {
				chosen = i
				break
			}
		}
		if err != nil {
			p.Why = err.Error()
			return -1, nil
		}
		if list, at, err = playlist(ctx, client, best.Variant.URL); err != nil {
			p.Why = fmt.Sprintf("the playlist of the best quality cannot be read: %v", err)
			return -1, nil
		}
		if m = list.Media; m == nil {
			p.Why = "the best quality is a list of qualities again"
			return -1, nil
		}
		p.addHost(at.Host)
	} else {
		p.Quality = append(p.Quality, quality{Name: "source", Container: hlsName})
	}
	for _, s := range m.Segments {
		if u, err := url.Parse(s.URL); err == nil {
			p.addHost(u.Host)
		}
	}
	if p.Live = m.Live(); !p.Live {
		p.Why = "the playlist is complete, nothing will be added to it"
	}
	return chosen, nil
}

// fetchURL is what stands behind a prefix that only says what a URL is to be taken for.
func fetchURL(raw string) string {
	raw = strings.TrimSpace(raw)
	for _, prefix := range [...]string{hlsPrefix, httpPrefix} {
		if len(raw) >= len(prefix) && strings.EqualFold(raw[:len(prefix)], prefix) {
			if raw = raw[len(prefix):]; !strings.Contains(raw, "://") {
				raw = "http://" + raw
			}
			break
		}
	}
	return raw
}

// playlist gets one playlist with one request, and says where it came from in the end. No error of it has a URL in it:
// they hold secrets.
func playlist(ctx context.Context, client *http.Client, from string) (hls.Playlist, *url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, hlsWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return hls.Playlist{}, nil, errors.New("the URL cannot be read")
	}
	req.Header.Set("User-Agent", "liverec")
	req.Header.Set("Accept", "*/*")
	res, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return hls.Playlist{}, nil, fmt.Errorf("get playlist: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return hls.Playlist{}, nil, &failure.Error{Op: "get playlist", Code: strings.TrimSpace(fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode)))}
	}
	data, err := hls.Read(res.Body)
	if err != nil {
		return hls.Playlist{}, nil, err
	}
	list, err := hls.Parse(data, res.Request.URL)
	return list, res.Request.URL, err
}

// addHost keeps each host once, in the order in which they were met.
func (p *probed) addHost(host string) {
	if host != "" && !slices.Contains(p.Hosts, host) {
		p.Hosts = append(p.Hosts, host)
	}
}

// addForm adds one variant, or only its host if a better place for the same form is there already.
func (p *probed) addForm(m *hls.Master, v hls.Variant) {
	if u, err := url.Parse(v.URL); err == nil {
		p.addHost(u.Host)
	}
	q := quality{Name: formName(m, v), Container: hlsName, Width: v.Width, Height: v.Height, FrameRate: v.FrameRate, Bitrate: v.Bandwidth}
	for _, c := range v.Codecs {
		switch kind, name := codecName(c); kind {
		case media.Video:
			q.Video = name
		case media.Audio:
			q.Audio = name
		}
	}
	if !slices.Contains(p.Quality, q) {
		p.Quality = append(p.Quality, q)
	}
}

// formName is what a variant is called: by itself, by its video group, by its size.
func formName(m *hls.Master, v hls.Variant) string {
	if v.Name != "" {
		return v.Name
	}
	if v.Video != "" {
		for _, r := range m.Renditions {
			if r.Type == "VIDEO" && r.Group == v.Video && r.Name != "" {
				return r.Name
			}
		}
		return v.Video
	}
	switch {
	case v.Height > 0:
		return fmt.Sprintf("%dp", v.Height)
	case v.AudioOnly():
		return "audio"
	}
	return "source"
}

// codecName says what an entry of CODECS is (RFC 6381: "avc1.64001f"). What it does not know goes by its own name, as
// video.
func codecName(codec string) (media.Kind, string) {
	id, _, _ := strings.Cut(strings.ToLower(codec), ".")
	switch id {
	case "avc1", "avc2", "avc3", "avc4":
		return media.Video, media.AVC.String()
	case "hvc1", "hev1", "dvh1", "dvhe":
		return media.Video, media.HEVC.String()
	case "av01", "dav1":
		return media.Video, media.AV1.String()
	case "vp09", "vp9":
		return media.Video, media.VP9.String()
	case "mp4a":
		if c := strings.ToLower(codec); c == "mp4a.40.34" || c == "mp4a.69" || c == "mp4a.6b" {
			return media.Audio, media.MP3.String()
		}
		return media.Audio, media.AAC.String()
	case "mp3":
		return media.Audio, media.MP3.String()
	case "opus":
		return media.Audio, media.Opus.String()
	case "ac-3", "ec-3":
		return media.Audio, media.AC3.String()
	}
	if (hls.Variant{Codecs: []string{codec}}).AudioOnly() {
		return media.Audio, codec
	}
	return media.Video, codec
}

// cells are a quality for a person: name, form, picture, size, frame rate, sound, bit rate, key frames, and whether it is
// the one. What is not known is empty.
func (q quality) cells() []string {
	video, sound := q.Video, q.Audio
	if q.Measured {
		video, sound = or(video, "no video"), or(sound, "no sound")
	}
	size, frames, rate, keys, chosen := "", "", "", "", ""
	switch {
	case q.Width > 0 && q.Height > 0:
		size = fmt.Sprintf("%dx%d", q.Width, q.Height)
	case q.Height > 0:
		size = fmt.Sprintf("%dp", q.Height)
	}
	if q.FrameRate > 0 {
		frames = fmt.Sprintf("%.4g frames/s", q.FrameRate)
	}
	if q.SampleRate > 0 {
		sound += fmt.Sprintf(" %g kHz", float64(q.SampleRate)/1000)
	}
	switch q.Channels {
	case 0:
	case 1:
		sound += " mono"
	case 2:
		sound += " stereo"
	default:
		sound += fmt.Sprintf(" %d channels", q.Channels)
	}
	if q.Bitrate > 0 {
		if rate = status.Rate(float64(q.Bitrate)); !q.Measured {
			rate = "up to " + rate
		}
	}
	if q.KeySeconds > 0 {
		keys = fmt.Sprintf("a key frame every %.3g s", q.KeySeconds)
	}
	if q.Chosen {
		chosen = "(would be recorded)"
	}
	cells := []string{q.Name, q.Container, video, size, frames, sound, rate, keys, chosen}
	for i, c := range cells {
		cells[i] = naming.Line(c)
	}
	return cells
}
