package bilibili

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/hlspull"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
	"github.com/liverec/liverec/recorder/httpflv"
	"github.com/liverec/liverec/recorder/pace"
)

const (
	// every is how often a room looks while nothing is on, at what may be an answer of up to stale ago: the platform is
	// asked once in 20 to 22 s, for all rooms together. Tools that ask more often are blocked.
	every = 10 * time.Second
	stale = 2*every - time.Second
	// fresh is how old an answer may be just after a stream has ended, and lately is how long that is.
	fresh  = time.Second
	lately = 2 * time.Minute
	// settle is how long a broadcast may take from its begin until a stream is offered.
	settle = 90 * time.Second
	// look is how often the title is looked at during a broadcast.
	look = time.Minute

	openTimeout = 8 * time.Second // for one host
	mostTries   = 6               // hosts for one connection
	brief       = time.Minute     // a connection that lasted less speaks against its host

	pressedQN = 250             // the most that is taken with a disk that runs short at the begin: 720p
	turnEvery = 2 * time.Second // between two looks at the disk while the media is not measured
)

// SiteConfig makes a Site.
type SiteConfig struct {
	Client *bilibili.Client
	Hosts  *fetch.Hosts // remembers hosts that did badly; nil: of this Site alone
	Log    zerolog.Logger
	// Dial and Transport replace the network of the media; nil: TCP with the proxies of the environment.
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	Transport http.RoundTripper
}

// Site is what all rooms of a process share: the client, the one question about all of them, the memory of hosts.
type Site struct {
	cfg    SiteConfig
	client *bilibili.Client
	poller *Poller
	hosts  *fetch.Hosts

	mu     sync.Mutex
	owners map[int64]owner // who records which room
}

// owner is the resolver that has a room for itself, as long as it goes on asking.
type owner struct {
	r  *Resolver
	id segment.RoomID // that it is recorded under
	at time.Time
}

// let is how long after its last question a room is another resolver's to take.
const let = 5 * time.Minute

// claim takes a room for a resolver, or says how the one that has it wrote it. Who is recorded under one ID is one room, in
// whichever way it is written.
func (s *Site) claim(room int64, r *Resolver, id segment.RoomID) (other string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if o := s.owners[room]; o.r != nil && o.r.addr != r.addr && (id == "" || o.id != id) && now.Sub(o.at) < let {
		return o.r.addr.url(), false
	}
	if s.owners == nil {
		s.owners = map[int64]owner{}
	}
	s.owners[room] = owner{r, id, now}
	return "", true
}

// NewSite asks nobody yet.
func NewSite(cfg SiteConfig) *Site {
	if cfg.Hosts == nil {
		cfg.Hosts = &fetch.Hosts{}
	}
	return &Site{cfg: cfg, client: cfg.Client, poller: NewPoller(cfg.Client, cfg.Log), hosts: cfg.Hosts}
}

// Config says which room, and how.
type Config struct {
	URL      string // as Check takes it
	Quality  string // as CheckQuality takes it
	Codec    string // "avc" (default): H.264 wherever there is any; "hevc": H.265 where there is any
	Original bool   // ask provincial hosts for what the streamer sent instead of the platform's encoding of it
	Allow    Globs  // if any: no other host is connected to
	Ban      Globs  // hosts that are not connected to
	Ads      bool
	Pressed  func() bool // the disk runs short: with quality "auto" a lower quality is taken
	// Told hears of the room whenever its title, cover, area or status changed. It must not block. May be nil.
	Told func(About)
	Log  zerolog.Logger
}

// Resolver asks about one room.
type Resolver struct {
	site *Site
	cfg  Config
	addr address
	want want
	auto bool
	odd  *httpflv.Oddities // of all connections

	mu    sync.Mutex
	about About // the newest answer
	// of the goroutine that resolves
	id     segment.RoomID // that it was asked for last
	room   int64          // the long number; 0: not known yet
	live   time.Time      // when a stream was opened last, or ended
	truer  *opened        // the newest stream that the platform had not encoded again
	steps  pace.Steps
	last   *opened // the newest stream that was opened
	hinted bool
}

// opened is a stream with what was known when it was opened.
type opened struct {
	candidate
	played
}

var _ recorder.Resolver = (*Resolver)(nil)

// Resolver makes one for a room. The error is that of Check or CheckQuality.
func (s *Site) Resolver(cfg Config) (*Resolver, error) {
	a, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	w, err := parseQuality(cfg.Quality)
	if err != nil {
		return nil, err
	}
	switch cfg.Codec {
	case "", "avc", "hevc":
	default:
		return nil, fmt.Errorf("%q is no codec; use avc or hevc", clip(cfg.Codec))
	}
	auto := cfg.Quality == "" || cfg.Quality == "auto"
	return &Resolver{site: s, cfg: cfg, addr: a, want: w, auto: auto, steps: pace.Steps{Auto: auto},
		odd: httpflv.NewOddities(cfg.Log)}, nil
}

// Identify asks which room an address leads to: written by its short number, by its long one or by a short link it is the
// same.
func (s *Site) Identify(ctx context.Context, raw string) (segment.RoomID, error) {
	a, err := parse(raw)
	if err != nil {
		return "", err
	}
	r := &Resolver{site: s, addr: a}
	if err := r.find(ctx); err != nil {
		return "", err
	}
	return segment.RoomID(Name + ":" + address{number: r.room}.String()), nil
}

// Every is how often a room looks while nothing is on: 10 s.
func (r *Resolver) Every() time.Duration { return every }

// About is the newest answer of the platform about the room, the zero value if there was none yet. Everybody may ask.
func (r *Resolver) About() About {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.about
}

func (r *Resolver) note(a About) {
	r.mu.Lock()
	was := r.about
	if a.Title == "" && a.Room == was.Room { // an answer about a closed room names nothing
		a.Title, a.Streamer, a.Cover, a.Area = was.Title, was.Streamer, was.Cover, was.Area
	}
	r.about = a
	r.mu.Unlock()
	was.At, was.Since = a.At, a.Since
	if was != a && r.cfg.Told != nil {
		r.cfg.Told(a)
	}
}

// Resolve asks what the room does, and opens its stream if there is one. Offline is always the platform's own word;
// whatever says that the platform does not talk to us, or not about this room to us, is Blocked.
func (r *Resolver) Resolve(ctx context.Context, room segment.Room) (recorder.Live, error) {
	r.id = room.ID
	live, err := r.resolve(ctx)
	if err != nil {
		if src := r.reopen(ctx); src != nil {
			a := r.About()
			return recorder.Live{Presence: recorder.OnAir, Streamer: a.Streamer, Title: a.Title, Cover: a.Cover, Source: src}, nil
		}
	}
	if b, ok := errors.AsType[*BlockedError](err); ok {
		return recorder.Live{Presence: recorder.Blocked, Why: b.Why + ", not asked again before " + b.Until.Format("15:04:05")}, nil
	}
	return live, err
}

func (r *Resolver) resolve(ctx context.Context) (recorder.Live, error) {
	if b := r.site.poller.Blocked(); b != nil {
		return recorder.Live{}, b
	}
	if err := r.find(ctx); err != nil {
		return recorder.Live{}, err
	}
	if other, ok := r.site.claim(r.room, r, r.id); !ok {
		return recorder.Live{Presence: recorder.Blocked, Why: "it is the same room as " + other + ", which is recorded already"}, nil
	}
	age := stale
	if time.Since(r.live) < lately {
		age = fresh
	}
	about, err := r.site.poller.Ask(ctx, r.room, age)
	if err != nil {
		return recorder.Live{}, err
	}
	r.note(about)
	about = r.About()
	live := recorder.Live{Streamer: about.Streamer, Title: about.Title, Cover: about.Cover}
	if off, why := silent(about.Status, about.Shut, about.locked); off {
		live.Presence, live.Confirmed, live.Why = recorder.Offline, true, why
		return live, nil
	}
	if about.Shut != "" {
		live.Presence, live.Why = recorder.Blocked, about.Shut
		return live, nil
	}
	w := r.want
	if r.auto && r.cfg.Pressed != nil && r.cfg.Pressed() {
		r.steps.Begin(pressedQN, time.Now())
	}
	if most := r.steps.Limit(); most > 0 {
		w = want{qn: most}
	}
	p, err := r.offered(ctx, r.room, w)
	if err != nil {
		return recorder.Live{}, err
	}
	if off, why := silent(p.status, p.shut, p.locked); off {
		live.Presence, live.Confirmed, live.Why = recorder.Offline, true, why
		return live, nil
	}
	switch {
	case p.shut != "" && len(p.options) == 0:
		live.Presence, live.Why = recorder.Blocked, p.shut
	case len(p.options) == 0 && p.drm:
		live.Presence, live.Why = recorder.Blocked, "the broadcast has to be paid for and is copy-protected"
	case len(p.options) == 0 && (about.Since.IsZero() || time.Since(about.Since) < settle):
		return recorder.Live{}, fmt.Errorf("%w yet", errNothing)
	case len(p.options) == 0:
		live.Presence, live.Why = recorder.Blocked, errNothing.Error()+"; it may be for members only"
	default:
		src, err := r.connect(ctx, p)
		if err != nil {
			return recorder.Live{}, err
		}
		live.Presence, live.Source = recorder.OnAir, src
		r.live = time.Now()
	}
	return live, nil
}

// reopen connects to where the stream came from until a moment ago, without asking the platform: an address holds for an
// hour, so that a connection which broke is not lost only because nobody could be asked meanwhile. Nil: it cannot be.
func (r *Resolver) reopen(ctx context.Context) recorder.Source {
	if r.last == nil || time.Since(r.live) > lately || r.last.expires.Before(time.Now().Add(10*time.Second)) || ctx.Err() != nil {
		return nil
	}
	src, err := r.open(ctx, r.last.candidate)
	if err != nil {
		return nil // what the platform said, or did not say, is the better word
	}
	r.cfg.Log.Warn().Str("host", r.last.at).Msg("bilibili cannot be asked; its last address of the stream still holds, going on there")
	return r.wrap(src, r.last.candidate, r.last.played)
}

// silent reports whether nothing is being sent, by the platform's own word.
func silent(s Status, shut string, locked bool) (yes bool, why string) {
	switch {
	case locked:
		return true, shut
	case s == Round:
		return true, "the room shows recorded videos (round play), nothing live"
	case s != On:
		return true, "the room is offline"
	}
	return false, ""
}

// find finds the room's long number, once.
func (r *Resolver) find(ctx context.Context) error {
	if r.room != 0 {
		return nil
	}
	n := r.addr.number
	if n == 0 {
		var err error
		if n, err = follow(ctx, r.site.client, r.addr.short); err != nil {
			return r.site.poller.judge(err)
		}
	}
	d, err := knock(ctx, r.site.client, n)
	if err = r.site.poller.judge(err); err != nil {
		return err
	}
	r.room = d.Room
	return nil
}

// connect opens the first address that answers.
func (r *Resolver) connect(ctx context.Context, p played) (recorder.Source, error) {
	all, err := r.candidates(p, time.Now())
	if err != nil {
		if errors.Is(err, errHosts) {
			return nil, &failure.Error{Op: "choose a host", Kind: failure.NeedsHuman, Err: err, Hint: "Change one of the two lists."}
		}
		return nil, err
	}
	var first error
	for i, c := range all {
		if i == mostTries || ctx.Err() != nil {
			break
		}
		src, err := r.open(ctx, c)
		if err == nil {
			if c.form == formFLV {
				r.truer = nil
				if !again(c.path) {
					r.truer = &opened{c, p}
				}
			}
			r.last = &opened{c, p}
			return r.wrap(src, c, p), nil
		}
		r.cfg.Log.Debug().Err(err).Str("host", c.at).Str("form", c.form.String()).Msg("this host does not send the stream")
		if r.truer != nil && c.url == r.truer.url {
			r.truer = nil
		} else if ctx.Err() == nil && !missing(err) {
			r.site.hosts.Failed(c.at, time.Now())
		}
		if first == nil {
			first = fmt.Errorf("open the stream at %s: %w", c.at, err)
		}
	}
	if first == nil {
		first = ctx.Err()
	}
	return nil, first
}

// missing reports whether an answer says that there is no such stream: that speaks against the stream, not the host.
func missing(err error) bool {
	if e, ok := errors.AsType[*httpflv.StatusError](err); ok {
		return e.Code == http.StatusNotFound
	}
	if e, ok := errors.AsType[*fetch.StatusError](err); ok {
		return e.Code == http.StatusNotFound
	}
	return false
}

// header is what media hosts want to see; without the Referer many answer 403. Cookies are none of their business.
func (r *Resolver) header() http.Header {
	return http.Header{
		"User-Agent": {bilibili.UserAgent()}, "Referer": {"https://" + liveHost + "/" + strconv.FormatInt(r.room, 10)}, "Origin": {"https://" + liveHost},
	}
}

// open opens one address.
func (r *Resolver) open(ctx context.Context, c candidate) (recorder.Source, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if c.form == formFLV {
		return httpflv.Open(ctx, httpflv.Config{URL: c.url, Header: r.header(), Dial: r.site.cfg.Dial, Public: []string{"Referer"}, Odd: r.odd,
			Watch: &pace.Watch{Steps: &r.steps, Pressed: r.cfg.Pressed,
				Slow: func(string) { r.site.hosts.Failed(c.at, time.Now()) },
				Tell: func(why string) { r.cfg.Log.Warn().Str("host", c.at).Msg(why) }}})
	}
	at := c.place
	src, err := hlspull.New(hlspull.Config{
		URL: c.url, Header: r.header(), Dial: r.site.cfg.Dial, Transport: r.site.cfg.Transport, Ads: r.cfg.Ads, Hosts: r.site.hosts, Log: r.cfg.Log,
		Renew: func(ctx context.Context) (string, error) { return r.renew(ctx, &at, c.option) },
	})
	if err != nil {
		return nil, err
	}
	if err = src.Open(ctx); err == nil && len(src.Qualities()) > 0 {
		_, err = src.List(ctx)
	}
	if err != nil {
		src.Close()
		return nil, err
	}
	return src, nil
}

// renew gives a new address of the same form and quality. Being asked long before the one in use expires means that its
// host does badly.
func (r *Resolver) renew(ctx context.Context, at *place, was option) (string, error) {
	now := time.Now()
	if at.expires.IsZero() || at.expires.Sub(now) > 15*time.Minute {
		r.site.hosts.Failed(at.at, now)
	}
	about, err := r.site.poller.Ask(ctx, r.room, fresh)
	if err != nil {
		return "", err
	}
	if about.Status != On {
		return "", errors.New("the platform says that the broadcast is over")
	}
	p, err := r.play(ctx, r.room, was.qn, was.codec == "hevc")
	if err != nil {
		return "", err
	}
	for _, o := range p.options {
		if o.form != was.form || o.codec != was.codec || o.qn != was.qn {
			continue
		}
		places, err := order(o.places, r.cfg.Allow, r.cfg.Ban, r.site.hosts, now)
		if err != nil {
			return "", err
		}
		next := places[0]
		if r.cfg.Original && !again(at.path) {
			if own, ok := original(next); ok {
				next = own
			}
		}
		*at = next
		return next.url, nil
	}
	return "", errors.New("the stream is not offered in this form any more")
}

// Offer is one form in which the stream can be had.
type Offer struct {
	Name   string // "original (原画)"
	Form   string // "FLV" or "HLS"
	Codec  string // "avc", "hevc"
	Chosen bool
}

// Source is the stream of a room.
type Source struct {
	recorder.Source
	r      *Resolver
	host   string
	name   string // of the quality
	form   form
	offers []Offer
	hosts  []string
}

// numbered is a Source that numbers its media.
type numbered struct {
	*Source
	inner recorder.Numbered
}

var (
	_ recorder.Numbered = (*numbered)(nil)
	_ recorder.Informed = (*numbered)(nil)
	_ recorder.Graded   = (*numbered)(nil)
)

// Resume hands the note on.
func (n *numbered) Resume(place []byte) { n.inner.Resume(place) }

func (r *Resolver) wrap(src recorder.Source, c candidate, p played) recorder.Source {
	s := &Source{Source: src, r: r, host: c.at, name: label(c.qn, p.names[c.qn]), form: c.form}
	r.steps.Opened(c.qn, qualities(p), len(c.places))
	seen := map[Offer]bool{}
	add := func(o option, qn int, chosen bool) {
		of := Offer{Name: label(qn, p.names[qn]), Form: o.form.String(), Codec: o.codec}
		if !seen[of] {
			seen[of] = true
			of.Chosen = chosen
			s.offers = append(s.offers, of)
		}
	}
	add(c.option, c.qn, true)
	for _, o := range p.options {
		add(o, o.qn, false)
		for _, qn := range o.accept {
			add(o, qn, false)
		}
	}
	s.hosts = append(s.hosts, c.at)
	for _, at := range c.places {
		if at.at != c.at {
			s.hosts = append(s.hosts, at.at)
		}
	}
	r.cfg.Log.Info().Str("host", c.at).Str("quality", s.name).Str("codec", c.codec).Str("form", c.form.String()).
		Bool("encoded_again", again(c.path)).Msg("stream opened")
	if n, ok := src.(recorder.Numbered); ok {
		return &numbered{s, n}
	}
	return s
}

// Offers is in what forms the stream can be had, the chosen one first. Some of them may need a login.
func (s *Source) Offers() []Offer { return append([]Offer(nil), s.offers...) }

// Quality is what the platform calls the quality: "original (原画)".
func (s *Source) Quality() string { return s.name }

// About is the newest that the platform said of the room.
func (s *Source) About() recorder.About {
	a := s.r.About()
	return recorder.About{Streamer: a.Streamer, Title: a.Title, Cover: a.Cover}
}

// Hosts is where the chosen form can be had.
func (s *Source) Hosts() []string { return append([]string(nil), s.hosts...) }

// Run pulls the stream. Meanwhile the room's title is looked at once a minute. When the stream ends the platform is asked
// whether the broadcast is over: if it says so the end is a clean one (io.EOF), however the connection ended; what a
// playlist says of its own end is never enough.
func (s *Source) Run(ctx context.Context, out chan<- *media.Batch) error {
	began := time.Now()
	running, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.r.watch(watching) })
	if s.form != formFLV {
		wg.Go(func() { s.turn(watching, hangUp) })
	}
	err := s.Source.Run(running, out)
	stop()
	wg.Wait()
	s.r.live = time.Now()
	if err == nil || ctx.Err() != nil {
		return err
	}
	if running.Err() != nil {
		err = context.Cause(running)
	}
	if _, ok := errors.AsType[*pace.GiveUp](err); ok {
		return err // the room goes on, and so do we
	}
	about, over := s.r.over(ctx)
	switch {
	case over:
		return fmt.Errorf("%s; bilibili says: %s: %w", err, about, io.EOF)
	case errors.Is(err, recorder.ErrOver):
		err = fmt.Errorf("the playlist has ended, the room goes on: %w", io.EOF)
	}
	if time.Since(began) < brief {
		s.r.site.hosts.Failed(s.host, time.Now())
	}
	return err
}

// turn hangs up when the disk, or its having room again, calls for another quality. With FLV the media is measured, and
// this is looked at with it.
func (s *Source) turn(ctx context.Context, hangUp context.CancelCauseFunc) {
	w := pace.Watch{Steps: &s.r.steps, Pressed: s.r.cfg.Pressed}
	t := time.NewTicker(turnEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			if err := w.Turn(now); err != nil {
				hangUp(err)
				return
			}
		}
	}
}

// over asks whether the broadcast is over. Not to know is no.
func (r *Resolver) over(ctx context.Context) (why string, yes bool) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	about, err := r.site.poller.Ask(ctx, r.room, 0)
	if err != nil {
		return "", false
	}
	r.note(about)
	yes, why = silent(about.Status, about.Shut, about.locked)
	return why, yes
}

// watch keeps what is known of the room fresh while its stream runs.
func (r *Resolver) watch(ctx context.Context) {
	t := time.NewTimer(look)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r.site.claim(r.room, r, r.id)
		if about, err := r.site.poller.Ask(ctx, r.room, look/2); err == nil {
			r.note(about)
		}
		t.Reset(look)
	}
}
