package bilibili

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/liverec/liverec/pkg/bilibili"
)

// playInfo is the answer of getRoomPlayInfo.
type playInfo struct {
	door
	Special []int `json:"all_special_types"`
	Play    *struct {
		URL *struct {
			Names []struct {
				QN   int    `json:"qn"`
				Name string `json:"desc"`
			} `json:"g_qn_desc"`
			Stream []struct {
				Protocol string `json:"protocol_name"`
				Format   []struct {
					Name  string `json:"format_name"`
					Codec []struct {
						Name   string `json:"codec_name"`
						QN     int    `json:"current_qn"`
						Accept []int  `json:"accept_qn"`
						Base   string `json:"base_url"`
						DRM    bool   `json:"drm"`
						Places []struct {
							Host  string `json:"host"`
							Extra string `json:"extra"`
						} `json:"url_info"`
					} `json:"codec"`
				} `json:"format"`
			} `json:"stream"`
		} `json:"playurl"`
	} `json:"playurl_info"`
}

// specialPaid is the kind of broadcast that has to be paid for.
const specialPaid = 203

// form is a container on its way to us.
type form uint8

// The forms, in the order in which they are taken.
const (
	formFLV form = iota
	formFMP4
	formTS
)

func (f form) String() string { return [...]string{"FLV", "HLS", "HLS"}[f] }

// option is one form of the stream in one quality.
type option struct {
	form   form
	codec  string // avc, hevc, av1
	qn     int
	accept []int
	places []place
}

// played is what can be had now.
type played struct {
	status  Status
	shut    string // why nothing can be had, "" if something can
	locked  bool
	drm     bool
	options []option
	names   map[int]string // what the platform calls its qualities
}

// play asks for the addresses of the stream in one quality.
func (r *Resolver) play(ctx context.Context, room int64, qn int, hevc bool) (played, error) {
	codecs := "0"
	if hevc {
		codecs = "0,1"
	}
	var info playInfo
	err := r.site.poller.judge(r.site.client.Do(ctx, bilibili.Call{
		Op: "ask for the addresses of the stream", URL: api + "/xlive/web-room/v2/index/getRoomPlayInfo", As: bilibili.Visitor, WBI: true, Timeout: callTimeout,
		Query: url.Values{
			"room_id": {strconv.FormatInt(room, 10)}, "protocol": {"0,1"}, "format": {"0,1,2"}, "codec": {codecs}, "qn": {strconv.Itoa(qn)},
			"platform": {"web"}, "ptype": {"8"}, "dolby": {"5"}, "panorama": {"1"}, "web_location": {"444.8"},
		},
	}, &info))
	if err != nil {
		if bilibili.CodeOf(err) == codePassword {
			return played{status: On, shut: "the room is behind a password"}, nil
		}
		return played{}, absent(err, room)
	}
	p := played{status: Status(info.Status), names: map[int]string{}}
	p.shut, p.locked = info.shut()
	if slices.Contains(info.Special, specialPaid) {
		p.drm = true
	}
	if info.Play == nil || info.Play.URL == nil {
		return p, nil
	}
	for _, n := range info.Play.URL.Names {
		p.names[n.QN] = n.Name
	}
	for _, s := range info.Play.URL.Stream {
		for _, f := range s.Format {
			o := option{}
			switch {
			case s.Protocol == "http_stream" && f.Name == "flv":
				o.form = formFLV
			case s.Protocol == "http_hls" && f.Name == "fmp4":
				o.form = formFMP4
			case s.Protocol == "http_hls" && f.Name == "ts":
				o.form = formTS
			default:
				continue
			}
			for _, c := range f.Codec {
				if c.DRM {
					p.drm = true
					continue
				}
				o.codec, o.qn, o.accept, o.places = c.Name, c.QN, c.Accept, nil
				for _, u := range c.Places {
					if at, ok := placeOf(u.Host + c.Base + u.Extra); ok {
						o.places = append(o.places, at)
					}
				}
				if len(o.places) > 0 {
					p.options = append(p.options, o)
				}
			}
		}
	}
	return p, nil
}

// errNothing says that nothing is offered.
var errNothing = errors.New("the room is live, but no stream of it is offered")

// offered asks for the stream until the answer is of the quality that is wanted, at most twice for each set of codecs.
// What it gives back stands in the order in which it is to be tried.
func (r *Resolver) offered(ctx context.Context, room int64, w want) (played, error) {
	hevc := r.cfg.Codec == "hevc"
	qn := w.first()
	p, err := r.play(ctx, room, qn, hevc)
	if err == nil && len(p.options) == 0 && !hevc && p.status == On && p.shut == "" && !p.drm {
		hevc = true // a room that is sent as HEVC has nothing else
		p, err = r.play(ctx, room, qn, hevc)
	}
	if err != nil || len(p.options) == 0 {
		return p, err
	}
	var accept []int
	for _, o := range p.options {
		accept = append(append(accept, o.accept...), o.qn)
	}
	target, _ := w.pick(accept)
	if target != qn && !slices.ContainsFunc(p.options, func(o option) bool { return o.qn == target }) {
		again, err := r.play(ctx, room, target, hevc)
		switch {
		case err != nil:
			return p, err
		case len(again.options) > 0:
			p = again
		}
	}
	r.sort(p.options, target)
	if got := p.options[0].qn; got < target && !r.hinted {
		r.hinted = true
		r.cfg.Log.Warn().Str("wanted", label(target, p.names[target])).Str("given", label(got, p.names[got])).
			Msg("bilibili gives a lower quality than the room has; a login gives more (--bilibili-cookies FILE)")
	}
	return p, nil
}

// sort puts the option first that is tried first: the quality that is wanted, or else the nearest; then the codec, then
// the form.
func (r *Resolver) sort(options []option, target int) {
	distance := func(o option) int {
		if o.qn > target {
			return o.qn - target + 100000 // a lower one rather than a higher one
		}
		return target - o.qn
	}
	codec := func(o option) int {
		if (o.codec == "hevc") == (r.cfg.Codec == "hevc") {
			return 0
		}
		return 1
	}
	kind := func(o option) int {
		if r.cfg.Original && o.form == formFMP4 && slices.ContainsFunc(o.places, func(p place) bool { _, ok := original(p); return ok }) {
			return -1
		}
		return int(o.form)
	}
	slices.SortStableFunc(options, func(a, b option) int {
		return cmp.Or(distance(a)-distance(b), codec(a)-codec(b), kind(a)-kind(b))
	})
}

// candidate is one address to try.
type candidate struct {
	place
	option
}

// candidates are the addresses in the order in which they are tried: those of the first option, and behind them those of
// others of the same quality.
func (r *Resolver) candidates(p played, now time.Time) ([]candidate, error) {
	var out []candidate
	var refused error
	for _, o := range p.options {
		if len(out) > 0 && o.qn != out[0].qn {
			break
		}
		places, err := order(o.places, r.cfg.Allow, r.cfg.Ban, r.site.hosts, now)
		if err != nil {
			refused = err
			continue
		}
		var front, back []candidate
		for _, at := range places {
			if r.cfg.Original && o.form == formFMP4 {
				if own, ok := original(at); ok {
					front = append(front, candidate{own, o})
				}
			}
			if o.form == formFLV && r.truer != nil && r.truer.qn == o.qn && len(front) == 0 && again(at.path) && r.truer.expires.After(now.Add(10*time.Second)) {
				front = append(front, candidate{r.truer.place, o})
			}
			back = append(back, candidate{at, o})
		}
		out = append(out, append(front, back...)...)
	}
	if len(out) == 0 {
		return nil, cmp.Or(refused, errNothing)
	}
	return out, nil
}
