package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	client "github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
	"github.com/liverec/liverec/recorder/httpflv"
	"github.com/liverec/liverec/recorder/site/bilibili"
	"github.com/liverec/liverec/recorder/site/direct"
	"github.com/liverec/liverec/recorder/site/external"
)

// siteFlags are those of single sites.
func siteFlags() []cli.Flag {
	return []cli.Flag{
		text("bilibili-cookies", "", "cookie file of an account: qualities above 720p need a login (rooms of live.bilibili.com)"),
		text("bilibili-codec", "avc", "avc, or hevc where the room has it"),
		text("bilibili-allow-hosts", "", "patterns of the only hosts that media is taken from, with commas: cn-gotcha04,*.bilivideo.com"),
		text("bilibili-ban-hosts", "", "patterns of hosts that no media is taken from; *.mcdn.* comes last anyway"),
		toggle("bilibili-original", "ask provincial HLS hosts for what the streamer sent instead of bilibili's encoding of it; no guarantee"),
	}
}

// siteOptions are those flags, checked.
type siteOptions struct {
	cookies    string
	codec      string
	allow, ban bilibili.Globs
	original   bool
}

func readSites(c *cli.Context) (siteOptions, error) {
	s := siteOptions{cookies: c.String("bilibili-cookies"), codec: c.String("bilibili-codec"), original: c.Bool("bilibili-original")}
	if s.codec != "avc" && s.codec != "hevc" {
		return s, usagef("%s: %q is neither avc nor hevc", label(c, "bilibili-codec"), clip(s.codec))
	}
	var err error
	if s.allow, err = bilibili.ParseGlobs(c.String("bilibili-allow-hosts")); err != nil {
		return s, usagef("%s: %v", label(c, "bilibili-allow-hosts"), err)
	}
	if s.ban, err = bilibili.ParseGlobs(c.String("bilibili-ban-hosts")); err != nil {
		return s, usagef("%s: %v", label(c, "bilibili-ban-hosts"), err)
	}
	return s, nil
}

// sites is what all rooms of a process share. It asks nobody before the first room does.
type sites struct {
	cookies string // file of the account that asks; "": nobody is logged in
	hosts   *fetch.Hosts

	mu      sync.Mutex // guards what is below
	account *client.Account
	bili    *bilibili.Site
	tools   *external.Tools
}

func newSites(cookies string) *sites { return &sites{cookies: cookies, hosts: &fetch.Hosts{}} }

// checkRoom makes a room of an address, or says which sites there are. It asks nobody.
func checkRoom(raw string) (segment.Room, error) {
	if bilibili.Knows(raw) {
		return bilibili.Check(raw)
	}
	return direct.Check(raw)
}

// find finds the site of an address, or says which sites there are.
func (s *sites) find(raw string, opt roomOptions) (watched, error) {
	if bilibili.Knows(raw) {
		return s.findBilibili(raw, opt)
	}
	room, err := direct.Check(raw)
	if err != nil {
		return watched{}, usagef("%v", err)
	}
	return watched{room: room, opt: opt, resolver: func(log zerolog.Logger, pressed func() bool) recorder.Resolver {
		r, err := direct.New(direct.Config{URL: raw, Quality: opt.quality, Ads: opt.ads, Hosts: s.hosts, Pressed: pressed, Log: log})
		if err != nil {
			panic(fmt.Sprintf("an address that was checked cannot be used: %v", err)) // New refuses what Check refuses, nothing else
		}
		if !mayBePage(raw) {
			return r
		}
		x, err := external.New(external.Config{URL: raw, Tools: s.programs(log), Quality: opt.quality, Ads: opt.ads, Hosts: s.hosts, Pressed: pressed, Log: log})
		if err != nil {
			return r // a password in the address: no other program gets to see it
		}
		return &page{direct: r, external: x}
	}}, nil
}

func (s *sites) findBilibili(raw string, opt roomOptions) (watched, error) {
	room, err := bilibili.Check(raw)
	if err != nil {
		return watched{}, usagef("%v", err)
	}
	if err := bilibili.CheckQuality(opt.quality); err != nil {
		return watched{}, usagef("--quality: %v", err)
	}
	if err := s.login(); err != nil {
		return watched{}, err
	}
	return watched{room: room, opt: opt, identify: func(ctx context.Context, log zerolog.Logger) (segment.RoomID, error) {
		return s.bilibili(log).Identify(ctx, raw)
	}, resolver: func(log zerolog.Logger, pressed func() bool) recorder.Resolver {
		r, err := s.bilibili(log).Resolver(bilibili.Config{URL: raw, Quality: opt.quality, Codec: opt.sites.codec, Original: opt.sites.original,
			Allow: opt.sites.allow, Ban: opt.sites.ban, Ads: opt.ads, Pressed: pressed, Log: log})
		if err != nil {
			panic(fmt.Sprintf("a room that was checked cannot be used: %v", err)) // Resolver refuses what was checked above, nothing else
		}
		return r
	}}, nil
}

// identifyFor is how long a start may wait to learn who its rooms are.
const identifyFor = 8 * time.Second

// identify gives each room the identity that all ways of writing it have, and brings what the ledger has under another
// one together with it; its identify is nil then. Who cannot be asked about now is recorded under the name that was
// written; the next start joins the two.
func (h *house) identify(ctx context.Context, rooms []watched) {
	ctx, cancel := context.WithTimeout(ctx, identifyFor)
	defer cancel()
	var wg sync.WaitGroup
	for i := range rooms {
		w := &rooms[i]
		if w.identify == nil {
			continue
		}
		wg.Go(func() {
			id, err := w.identify(ctx, h.log)
			if err == nil && id != w.room.ID {
				err = h.led.SameRoom(ctx, w.room.ID, id)
			}
			if err == nil {
				w.room.ID, w.identify = id, nil
			}
			if err != nil && ctx.Err() == nil {
				h.log.Debug().Err(err).Str("room", w.room.Name).Msg("who the room is could not be asked, it goes by the name that was written")
			}
		})
	}
	wg.Wait()
}

// login reads the cookie file, once.
func (s *sites) login() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cookies != "" && s.account == nil {
		s.account, err = client.OpenAccount(s.cookies)
	}
	return err
}

// bilibili is the platform that all its rooms share: one poller asks for all of them. It has the logger of the first.
func (s *sites) bilibili(log zerolog.Logger) *bilibili.Site {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bili == nil {
		s.bili = bilibili.NewSite(bilibili.SiteConfig{Client: client.NewClient(client.Config{Account: s.account, Log: log}), Hosts: s.hosts, Log: log})
	}
	return s.bili
}

// programs are the other programs that find streams in pages.
func (s *sites) programs(log zerolog.Logger) *external.Tools {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tools == nil {
		var env []string
		for _, k := range external.Passed {
			if v, ok := os.LookupEnv(k); ok {
				env = append(env, k+"="+v)
			}
		}
		s.tools = external.NewTools(external.ToolsConfig{Env: env, Log: log})
	}
	return s.tools
}

// mayBePage reports whether an address may be a page with a stream in it, rather than certainly a stream.
func mayBePage(raw string) bool {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" { // hls:// and httpstream:// say what it is
		return false
	}
	switch strings.ToLower(path.Ext(u.Path)) {
	case ".flv", ".m3u8", ".m3u", ".ts", ".mp4", ".m4s", ".mpd", ".mkv", ".webm", ".xs":
		return false
	}
	return true
}

// page is an address that answers with media itself, or is a page in which another program finds the stream. It belongs
// to one goroutine.
type page struct {
	direct, external recorder.Resolver
	found            bool // the other program knew the page last time
}

var _ recorder.Patient = (*page)(nil)

// Resolve asks the address itself first.
func (p *page) Resolve(ctx context.Context, room segment.Room) (recorder.Live, error) {
	var own error
	if !p.found {
		live, err := p.direct.Resolve(ctx, room)
		if !isPage(err) {
			return live, err
		}
		own = err
	}
	live, err := p.external.Resolve(ctx, room)
	if err == nil {
		p.found = true
		return live, nil
	}
	switch {
	case errors.Is(err, external.ErrAbsent):
		p.found = false
		if own == nil {
			own = err
		}
		return recorder.Live{}, &failure.Error{Op: "find the stream in the page", Kind: failure.KindOf(own), Hint: external.Install,
			Err: fmt.Errorf("%w; streamlink or yt-dlp may find one in it, and neither is installed (pipx install streamlink)", own)}
	case errors.Is(err, external.ErrUnknown):
		p.found = false
		if own != nil {
			err = fmt.Errorf("%w; streamlink and yt-dlp find no stream in it", own)
		}
	}
	return recorder.Live{}, err
}

// Every is that of whoever knows the room.
func (p *page) Every() time.Duration {
	if p.found {
		return p.external.Every()
	}
	return p.direct.Every()
}

// Patience is that of both, since both may be asked.
func (p *page) Patience() time.Duration {
	d := pageWait
	if x, ok := p.external.(recorder.Patient); ok {
		d += x.Patience()
	}
	return d
}

// Patience is that of the site behind the gate; 0: the usual.
func (g *gate) Patience() time.Duration {
	if p, ok := g.inner.(recorder.Patient); ok {
		return p.Patience()
	}
	return 0
}

// pageWait is how long an address may take to turn out to be a page.
const pageWait = 15 * time.Second

// isPage reports whether an answer may be that of a page: it is one, or it is not for programs like this one.
func isPage(err error) bool {
	if e, ok := errors.AsType[*httpflv.ContentError](err); ok {
		return e.Content == flv.HTMLContent
	}
	if e, ok := errors.AsType[*httpflv.StatusError](err); ok {
		return e.Code == http.StatusForbidden || e.Code == http.StatusUnauthorized || e.Code == http.StatusNotAcceptable
	}
	return false
}

// take takes in what was measured of a source, and what the site says of the other forms.
func (p *probed) take(src recorder.Source, q quality) {
	type offer struct {
		name, form, video string
		height            int
		chosen            bool
	}
	var offers []offer
	if s, ok := src.(interface{ Offers() []bilibili.Offer }); ok {
		for _, o := range s.Offers() {
			name := map[string]string{"avc": "H.264", "hevc": "HEVC", "av1": "AV1"}[o.Codec]
			offers = append(offers, offer{o.Name, o.Form, name, 0, o.Chosen})
		}
	}
	if s, ok := src.(interface{ Offers() []external.Offer }); ok {
		for _, o := range s.Offers() {
			offers = append(offers, offer{o.Name, o.Form, "", o.Height, o.Chosen})
			p.addHost(o.Host)
		}
	}
	if s, ok := src.(interface{ Hosts() []string }); ok {
		for _, h := range s.Hosts() {
			p.addHost(h)
		}
	}
	q.Chosen = true
	if len(offers) == 0 {
		p.Quality = append(p.Quality, q)
		return
	}
	for _, o := range offers {
		if o.chosen {
			q.Name, q.Container = o.name, o.form
			p.Quality = append(p.Quality, q)
			continue
		}
		p.Quality = append(p.Quality, quality{Name: o.name, Container: o.form, Video: o.video, Height: o.height})
	}
}
