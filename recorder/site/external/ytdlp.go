package external

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/liverec/liverec/pkg/naming"
)

// ytdlpAnswer is what `yt-dlp --dump-single-json URL` prints.
type ytdlpAnswer struct {
	Type       string         `json:"_type"`
	Title      string         `json:"title"`
	FullTitle  string         `json:"fulltitle"`
	Uploader   string         `json:"uploader"`
	Channel    string         `json:"channel"`
	UploaderID string         `json:"uploader_id"`
	LiveStatus string         `json:"live_status"`
	IsLive     *bool          `json:"is_live"`
	Duration   float64        `json:"duration"`
	Formats    []ytdlpFormat  `json:"formats"`
	Entries    []*ytdlpAnswer `json:"entries"`
	Extractor  string         `json:"extractor"`
	ytdlpFormat
}

type ytdlpFormat struct {
	ID       string            `json:"format_id"`
	URL      string            `json:"url"`
	Manifest string            `json:"manifest_url"`
	Protocol string            `json:"protocol"`
	Ext      string            `json:"ext"`
	Video    string            `json:"vcodec"`
	Audio    string            `json:"acodec"`
	Height   float64           `json:"height"`
	FPS      float64           `json:"fps"`
	Rate     float64           `json:"tbr"`
	DRM      any               `json:"has_drm"` // true, false or "maybe"
	Headers  map[string]string `json:"http_headers"`
	Cookies  string            `json:"cookies"`
}

// offline are yt-dlp's words for a room in which nothing is on, with whether they are the platform's own.
var offline = [...]string{
	"not currently live", "is offline", "live event will begin", "premieres in", "live event has ended", "is not live", "livestream has ended",
	"broadcast has ended", "live stream has ended",
}

// readYTDLP makes sense of it.
func readYTDLP(out []byte, errs string) (answer, error) {
	var y *ytdlpAnswer
	if err := json.Unmarshal(out, &y); err != nil && len(strings.TrimSpace(string(out))) > 0 {
		return answer{}, fmt.Errorf("its answer cannot be read: %s", said(string(out[:min(len(out), 200)])+" "+errs))
	}
	if y == nil {
		return failed(errs)
	}
	if y.Type == "playlist" || len(y.Entries) > 0 {
		entry := (*ytdlpAnswer)(nil)
		for _, e := range y.Entries {
			if e != nil && e.going() && len(e.Formats) > 0 {
				entry = e
				break
			}
		}
		if entry == nil {
			return answer{why: "yt-dlp finds a list in which nothing is live"}, nil
		}
		y = entry
	}
	a := answer{title: naming.Line(first(y.FullTitle, y.Title)), streamer: naming.Line(first(y.Uploader, y.Channel, y.UploaderID))}
	switch y.LiveStatus {
	case "is_upcoming":
		a.why = "the broadcast is announced, it has not begun"
	case "post_live", "was_live":
		a.why, a.confirmed = "the broadcast is over", true
	}
	if a.why == "" && !y.going() {
		a.why = "the page has a recording, nothing live"
	}
	if a.why != "" {
		return a, nil
	}
	formats := y.Formats
	if len(formats) == 0 && y.URL != "" {
		formats = []ytdlpFormat{y.ytdlpFormat}
	}
	other := map[string]bool{}
	for _, f := range formats {
		if drm, _ := f.DRM.(bool); drm || f.URL == "" || f.Video == "none" {
			continue // encrypted, or no picture: sound comes with its playlist
		}
		st := stream{name: f.ID, url: f.URL, header: headers(f.Headers), height: int(f.Height), rate: f.FPS, bits: f.Rate}
		switch {
		case strings.HasPrefix(f.Protocol, "m3u8"):
			st.form = formHLS
			if f.Manifest != "" {
				st.url, st.alone, st.list = f.Manifest, f.URL, true
			} else if f.Audio == "none" {
				other["HLS without sound"] = true
				continue
			}
		case (f.Protocol == "http" || f.Protocol == "https") && f.Ext == "flv":
			st.form = formHTTP
		default:
			other[f.Protocol] = true
			continue
		}
		if c := cookies(f.Cookies, st.url); c != "" {
			st.header.Set("Cookie", c)
		}
		a.streams = append(a.streams, st)
	}
	if len(a.streams) == 0 {
		return a, fmt.Errorf("%w: FLV and HLS are recorded, and there is neither", errUseless)
	}
	slices.Reverse(a.streams) // they stand from the worst to the best
	slices.SortStableFunc(a.streams, func(x, y stream) int { return compare(y, x) })
	a.live = true
	return a, nil
}

// going reports whether a page has something live, or at least says nothing else.
func (y *ytdlpAnswer) going() bool {
	switch {
	case y.LiveStatus == "is_live" || y.IsLive != nil && *y.IsLive:
		return true
	case y.LiveStatus != "" || y.IsLive != nil:
		return false
	}
	return y.Duration == 0
}

// failed says what an answer without content means.
func failed(errs string) (answer, error) {
	words := ""
	for line := range strings.Lines(errs) {
		if strings.HasPrefix(line, "ERROR:") {
			words = strings.TrimSpace(strings.TrimPrefix(line, "ERROR:"))
		}
	}
	low := strings.ToLower(words)
	switch {
	case words == "":
		return answer{}, fmt.Errorf("it gave no answer and no reason: %s", said(errs))
	case strings.HasPrefix(words, "Unsupported URL"):
		return answer{}, errUnknown
	}
	for _, w := range offline {
		if strings.Contains(low, w) && !strings.Contains(low, "http error") {
			return answer{why: said(words), confirmed: true}, nil
		}
	}
	return answer{}, refused(words)
}

// cookies makes a Cookie header of yt-dlp's list ("a=1; Domain=.host; Path=/; b=2; Domain=…") for one address.
func cookies(list, raw string) string {
	u, err := url.Parse(raw)
	if err != nil || list == "" {
		return ""
	}
	type cookie struct{ name, value, domain, path string }
	var all []cookie
	for part := range strings.SplitSeq(list, "; ") {
		k, v, _ := strings.Cut(part, "=")
		switch low := strings.ToLower(strings.TrimSpace(k)); low {
		case "domain", "path":
			if n := len(all); n > 0 && low == "domain" {
				all[n-1].domain = strings.TrimPrefix(strings.ToLower(v), ".")
			} else if n > 0 {
				all[n-1].path = v
			}
		case "secure", "expires", "max-age", "httponly", "samesite":
		default:
			all = append(all, cookie{name: strings.TrimSpace(k), value: v})
		}
	}
	host := strings.ToLower(u.Hostname())
	var out []string
	for _, c := range all {
		v := (&http.Cookie{Name: c.name, Value: strings.Trim(c.value, `"`)}).String()
		if v == "" || c.domain == "" || host != c.domain && !strings.HasSuffix(host, "."+c.domain) || c.path != "" && !strings.HasPrefix(u.Path, strings.TrimSuffix(c.path, "/")) {
			continue
		}
		out = append(out, v)
	}
	return strings.Join(out, "; ")
}

func first(of ...string) string {
	for _, s := range of {
		if s != "" {
			return s
		}
	}
	return ""
}
