package page

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/status"
)

// How much of the overview is drawn at a time. The rest is a page further, so that 10,000 rooms cost what 200 do.
const (
	mostLive = 18
	mostRest = 60
	mostNeed = 4 // blocked rooms that are named
)

// ask is what somebody wants to see of the overview.
type ask struct {
	q    string // part of a room's name, address or title
	live int    // page
	rest int
	all  url.Values
}

func askOf(q url.Values) ask {
	all := url.Values{}
	for _, k := range []string{"q", "live", "rest"} {
		if v := q.Get(k); v != "" {
			all.Set(k, v)
		}
	}
	return ask{q: strings.ToLower(strings.TrimSpace(q.Get("q"))), live: number(q, "live"), rest: number(q, "rest"), all: all}
}

type overview struct {
	Truth   truth
	Needs   needs
	Live    []card
	NLive   int
	Lives   pager
	Rest    rest
	Targets []target
	Disk    disk
	Query   string
	Rooms   int
}

// truth is the line at the top.
type truth struct {
	Tone     string // ok, busy, warn, bad
	Headline string
	Oldest   string
	Say      string
	Counts   []string
}

type need struct {
	Tone, Title, Text, Cure, URL string
}

type needs struct{ Human, Weather []need }

type card struct {
	ID, Name, Title, URL string
	Bitrate              string
	Part, Length, Size   string
	Away                 []bar
	Gaps                 string
	HasGaps              bool
	Spark                spark
}

// bar is how much of an open part is on a target.
type bar struct {
	Name, Full string
	Percent    int
	Say        string
}

// spark is a polyline and where it begins; see points.
type spark struct{ Points, Foot string }

func sparkOf(values []float32) spark {
	s := spark{Points: points(values)}
	s.Foot, _, _ = strings.Cut(s.Points, ",")
	return s
}

type rest struct {
	Rows  []row
	Pager pager
	None  string // what to say where there are none
	First bool   // there is no room at all
}

type row struct {
	Name, State, Tone, Since, Unsafe, Error string
}

type target struct {
	Name, Full, State, Tone string
	Optional                bool
	Queue, Rate, ETA        string
	Oldest, Parked          string
	Error, Cure             string
}

type disk struct {
	Free     string
	Forecast string
	Tone     string
	Rungs    []rung
}

type rung struct {
	Tone, At, Does string
	Now            bool
}

func stateKey(s string) string {
	return map[string]string{status.Waiting: "state.waiting", status.OnAir: "state.live", status.Paused: "state.paused",
		status.Blocked: "state.blocked", status.Ended: "state.ended", status.Unreachable: "state.unreach"}[s]
}

// stateSay names a room's state, also one that a later version invents.
func stateSay(l lang, s string) string {
	if k := stateKey(s); k != "" {
		return l.t(k)
	}
	return s
}

func stateTone(s string) string {
	switch s {
	case status.OnAir:
		return "live"
	case status.Blocked:
		return "bad"
	case status.Unreachable:
		return "warn"
	case status.Paused:
		return "busy"
	}
	return "idle"
}

// split takes the cure out of an error: the stages write "what went wrong – What a person can do."
func split(why string) (text, cure string) {
	if i := strings.LastIndex(why, " – "); i > 0 {
		return why[:i], why[i+len(" – "):]
	}
	return why, ""
}

func (p *Pages) needsOf(l lang, pic *picture) needs {
	var n needs
	add := func(human bool, key, cureKey, who, why, link string) {
		title := l.t(key, isolate(who))
		text, cure := split(why)
		if cure == "" {
			cure = l.t(cureKey)
		}
		if human {
			n.Human = append(n.Human, need{Tone: "bad", Title: title, Text: text, Cure: cure, URL: link})
		} else {
			n.Weather = append(n.Weather, need{Tone: "warn", Title: title, Text: text, Cure: cure, URL: link})
		}
	}
	switch d := pic.status.Disk; d.Step {
	case "stop":
		add(true, "need.diskstop", "need.stopcure", status.Size(d.Free), "", "")
	case "low":
		add(true, "need.disklow", "need.diskcure", status.Size(d.Free), "", "")
	}
	for _, t := range pic.status.Targets {
		switch t.State {
		case status.TargetRefused:
			add(true, "need.refused", "need.refusedcure", pic.short(t.Target), t.Error, "")
		case status.TargetAway:
			add(false, "need.away", "need.awaycure", pic.short(t.Target), t.Error, "")
		}
	}
	blocked := 0 // a room that cannot be reached is weather that concerns nothing but itself: the list of rooms says it
	for _, r := range pic.status.Rooms {
		if r.State != status.Blocked {
			continue
		}
		if blocked++; blocked <= mostNeed {
			add(true, "need.blocked", "need.blockedcure", r.Room, r.Error, roomURL(r.Room))
		}
	}
	if blocked > mostNeed {
		n.Human = append(n.Human, need{Tone: "bad", Title: l.t("need.more", blocked-mostNeed)})
	}
	return n
}

func roomURL(name string) string { return "/room?name=" + url.QueryEscape(name) }

func (p *Pages) truthOf(l lang, pic *picture) truth {
	s := pic.status
	t := truth{Tone: "ok", Headline: l.t("truth.safe"), Say: l.t("truth.every")}
	var live, waiting, others int
	var in, out float64
	for _, r := range s.Rooms {
		switch r.State {
		case status.OnAir:
			live++
			in += float64(r.Bitrate)
		case status.Waiting, status.Ended:
			waiting++
		default:
			others++
		}
	}
	for _, x := range s.Targets {
		out += x.Rate * 8
	}
	if s.UnsafeBytes > 0 {
		t.Tone, t.Headline = "busy", l.t("truth.unsafe", status.Size(s.UnsafeBytes))
		t.Oldest = l.t("truth.oldest", l.about(time.Duration(s.OldestUnsafeSeconds*float64(time.Second))))
		t.Say = l.t("truth.recording")
	}
	n := p.needsOf(l, pic)
	switch {
	case len(n.Human) > 0:
		t.Tone = "bad"
	case len(n.Weather) > 0:
		t.Tone = "warn"
	}
	if t.Tone == "bad" || t.Tone == "warn" {
		t.Say = ""
	}
	if s.Running == nil {
		t.Say, t.Tone = l.t("truth.stopped"), "warn"
	}
	t.Counts = append(t.Counts, l.t("truth.counts", live, waiting))
	if others > 0 {
		t.Counts = append(t.Counts, l.t("truth.others", others))
	}
	if live > 0 || out > 0 {
		t.Counts = append(t.Counts, l.t("truth.flow", status.Rate(in), status.Rate(out)))
	}
	return t
}

func (p *Pages) cardOf(l lang, pic *picture, r *status.Room) card {
	c := card{ID: mark("r", r.Room), Name: r.Room, URL: roomURL(r.Room),
		Bitrate: status.Rate(float64(r.Bitrate)), Gaps: l.gaps(r.Gaps, seconds(r.GapSeconds)), HasGaps: r.Gaps > 0}
	if r.Title != r.Room { // a site that knows no titles says the name again
		c.Title = r.Title
	}
	if r.Open != nil {
		c.Part = fmt.Sprintf("P%04d", r.Open.Seq)
		c.Length = l.span((time.Duration(r.Open.DurationMS) * time.Millisecond).Truncate(time.Second))
		c.Size = status.Size(r.Open.Size)
		c.Away = p.bars(l, pic, r.Open)
	}
	return c
}

func (p *Pages) bars(l lang, pic *picture, o *status.Open) []bar {
	var bars []bar
	for id, n := range o.Away {
		b := bar{Name: pic.short(id), Full: id}
		if o.Size > 0 {
			b.Percent = int(min(n, o.Size) * 100 / o.Size)
		}
		b.Say = l.t("room.awayon", status.Size(n), status.Size(o.Size), b.Name)
		bars = append(bars, b)
	}
	slices.SortFunc(bars, func(a, b bar) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Full, b.Full)) })
	return bars
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

// sorted gives the rooms that somebody asked for: those that are live, and the rest with what needs a look first.
func sorted(pic *picture, a ask) (live, rest []*status.Room) {
	for i := range pic.status.Rooms {
		r := &pic.status.Rooms[i]
		if a.q != "" && !strings.Contains(strings.ToLower(r.Room+"\n"+r.Title+"\n"+r.URL), a.q) {
			continue
		}
		if r.State == status.OnAir {
			live = append(live, r)
		} else {
			rest = append(rest, r)
		}
	}
	rank := map[string]int{status.Blocked: 0, status.Unreachable: 1, status.Paused: 2, status.Waiting: 3, status.Ended: 4}
	slices.SortStableFunc(rest, func(a, b *status.Room) int { return rank[a.State] - rank[b.State] })
	return live, rest
}

func (p *Pages) restOf(l lang, pic *picture, rooms []*status.Room, a ask) rest {
	lo, hi, pg := cut(len(rooms), mostRest, a.rest, a.all, "/", "rest")
	out := rest{Pager: pg}
	for _, r := range rooms[lo:hi] {
		x := row{Name: r.Room, State: stateSay(l, r.State), Tone: stateTone(r.State), Error: r.Error}
		if since := moment(r.Since); !since.IsZero() {
			x.Since = l.about(max(pic.at.Sub(since), time.Minute))
		}
		if r.UnsafeBytes > 0 {
			x.Unsafe = status.Size(r.UnsafeBytes)
		}
		out.Rows = append(out.Rows, x)
	}
	switch {
	case len(pic.status.Rooms) == 0:
		out.First = true
	case len(rooms) == 0 && a.q != "":
		out.None = l.t("rooms.nothing")
	}
	return out
}

func (p *Pages) targetsOf(l lang, pic *picture) []target {
	var out []target
	for _, s := range pic.status.Targets {
		t := target{Name: pic.short(s.Target), Full: s.Target, Optional: !s.Required, State: l.t("state.ok"), Tone: "ok",
			Queue: l.t("target.empty"), Rate: status.Rate(s.Rate * 8)}
		t.Error, t.Cure = split(s.Error)
		switch s.State {
		case status.TargetAway:
			t.State, t.Tone = l.t("state.away"), "warn"
			t.Cure = cmp.Or(t.Cure, l.t("need.awaycure"))
		case status.TargetRefused:
			t.State, t.Tone = l.t("state.refused"), "bad"
			t.Cure = cmp.Or(t.Cure, l.t("need.refusedcure"))
		case status.TargetThrottled:
			t.State, t.Tone = l.t("state.throttle"), "busy"
		case status.OK:
			t.Error, t.Cure = "", "" // what was is over
		}
		if s.DueParts == 1 {
			t.Queue = l.t("target.queue1", status.Size(s.DueBytes))
		} else if s.DueParts > 0 {
			t.Queue = l.t("target.queue", s.DueParts, status.Size(s.DueBytes))
		}
		if s.DueBytes > 0 && s.Rate > 0 {
			if d := seconds(float64(s.DueBytes) / s.Rate); d >= time.Minute && d < 30*24*time.Hour {
				t.ETA = l.t("target.done", l.about(d))
			}
		}
		if s.OldestDueSeconds >= 60 {
			t.Oldest = l.t("target.oldest", l.about(seconds(s.OldestDueSeconds)))
		}
		if s.Parked > 0 {
			t.Parked = l.t("target.parked", s.Parked)
		}
		out = append(out, t)
	}
	return out
}

func (p *Pages) diskOf(l lang, pic *picture) disk {
	s := pic.status.Disk
	d := disk{Free: status.Size(s.Free), Tone: "ok"}
	switch s.Step {
	case "low":
		d.Tone = "warn"
	case "stop":
		d.Tone = "bad"
	}
	d.Rungs = []rung{
		{Tone: "ok", At: l.t("disk.ok", status.Size(s.MinFree)), Does: l.t("disk.okdo"), Now: d.Tone == "ok"},
		{Tone: "warn", At: l.t("disk.low", status.Size(s.MinFree)), Does: l.t("disk.lowdo"), Now: d.Tone == "warn"},
		{Tone: "bad", At: l.t("disk.low", status.Size(s.StopFree)), Does: l.t("disk.stopdo"), Now: d.Tone == "bad"},
	}
	if slope, ok := p.history.slope(); ok {
		d.Forecast = forecast(l, s, slope)
	}
	return d
}

// forecast says when the disk is short, or full, if it goes on like this.
func forecast(l lang, d status.Disk, perSecond float64) string {
	const far = 14 * 24 * time.Hour
	until := func(limit int64) time.Duration {
		if perSecond >= 0 || d.Free <= limit {
			return far
		}
		return min(seconds(min(float64(d.Free-limit)/-perSecond, far.Seconds())), far)
	}
	if full := until(d.StopFree); full < far {
		if short := until(d.MinFree); short < full && full > 24*time.Hour {
			return l.t("disk.short", l.about(short))
		}
		return l.t("disk.full", l.about(full))
	}
	return l.t("disk.steady")
}

func (p *Pages) overviewOf(l lang, pic *picture, a ask) overview {
	live, others := sorted(pic, a)
	lo, hi, pg := cut(len(live), mostLive, a.live, a.all, "/", "live")
	o := overview{Truth: p.truthOf(l, pic), Needs: p.needsOf(l, pic), NLive: len(live), Lives: pg, Rest: p.restOf(l, pic, others, a),
		Targets: p.targetsOf(l, pic), Disk: p.diskOf(l, pic), Query: a.all.Get("q"), Rooms: len(pic.status.Rooms)}
	for _, r := range live[lo:hi] {
		c := p.cardOf(l, pic, r)
		c.Spark = sparkOf(p.history.spark(r.Room))
		o.Live = append(o.Live, c)
	}
	return o
}

// overviewParts are the pieces of the overview that can change.
func (p *Pages) overviewParts(l lang, pic *picture, a ask) []part {
	live, others := sorted(pic, a)
	lo, hi, pg := cut(len(live), mostLive, a.live, a.all, "/", "live")
	of := a.all.Encode()
	var names strings.Builder
	for _, r := range live[lo:hi] {
		names.WriteString(r.Room + "\x00" + r.Title + "\x00")
	}
	fmt.Fprint(&names, pg)
	parts := []part{
		{id: "truth", name: "truth", data: func() any { return p.truthOf(l, pic) }},
		{id: "needs", name: "needs", data: func() any { return p.needsOf(l, pic) }},
		{id: "live", of: of, key: names.String(), name: "live", data: func() any { return p.overviewOf(l, pic, a) }},
	}
	for _, r := range live[lo:hi] {
		id := mark("r", r.Room)
		parts = append(parts,
			part{id: id, name: "numbers", data: func() any { return p.cardOf(l, pic, r) }},
			part{id: id + "s", every: 10, name: "spark", data: func() any { return sparkOf(p.history.spark(r.Room)) }})
	}
	return append(parts,
		part{id: "rest", of: of, name: "rest", data: func() any { return p.restOf(l, pic, others, a) }},
		part{id: "targets", name: "targets", data: func() any { return p.targetsOf(l, pic) }},
		part{id: "disk", name: "disk", data: func() any { return p.diskOf(l, pic) }})
}

func (p *Pages) overview(w http.ResponseWriter, r *http.Request) {
	f := p.frame(r, "overview", "")
	f.Title = f.Lang.t("app.overview")
	pic, err := p.picture(r.Context())
	if err != nil {
		p.log.Warn().Err(err).Msg("the overview has no picture of the house")
		f.Body = notice{f.Lang.t("app.silent"), err.Error()}
		p.show(w, http.StatusServiceUnavailable, "notice", f)
		return
	}
	a := askOf(r.URL.Query())
	q := url.Values{"page": {"overview"}}
	for k, v := range a.all {
		q[k] = v
	}
	f.Live, f.Said = "/live?"+q.Encode(), said(f.Lang, r)
	f.Body = p.overviewOf(f.Lang, pic, a)
	p.show(w, http.StatusOK, "overview", f)
}
