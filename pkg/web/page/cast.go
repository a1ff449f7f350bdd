package page

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/web"
)

// How much of a broadcast is drawn at a time.
const (
	mostParts  = 50
	mostGaps   = 200
	mostBlocks = 240 // of a time line: parts that would be narrower are drawn as one
	mostCasts  = 50
)

type castRow struct {
	ID, Room, Title, Streamer string
	Began                     time.Time
	Length, Size, Gaps        string
	HasGaps                   bool
	Safe, Parts               int
	State, Tone               string
}

type castList struct {
	Room          string
	Rows          []castRow
	Older, Newest string
}

func (p *Pages) broadcasts(w http.ResponseWriter, r *http.Request) {
	q := web.Query{Room: r.URL.Query().Get("room"), After: r.URL.Query().Get("after"), Most: mostCasts}
	list, err := p.view.Broadcasts(r.Context(), q)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	f := p.frame(r, "history", "")
	l := f.Lang
	f.Title = l.t("hist.title")
	b := castList{Room: q.Room}
	if q.Room != "" {
		f.Title = l.t("hist.of", isolate(q.Room))
	}
	for _, c := range list.List {
		row := castRow{ID: c.ID, Room: c.Room, Title: c.Title, Streamer: c.Streamer, Began: moment(c.Started),
			Length: l.span((time.Duration(c.DurationMS) * time.Millisecond).Round(time.Second)), Size: status.Size(c.Size),
			Gaps: l.gaps(c.Gaps, seconds(c.GapSeconds)), HasGaps: c.Gaps > 0, Safe: c.Safe, Parts: c.Parts}
		switch {
		case c.Ended == "":
			row.State, row.Tone = l.t("hist.live"), "live"
		case c.Safe == c.Parts:
			row.State, row.Tone = l.t("hist.safe"), "ok"
		default:
			row.State, row.Tone = l.t("hist.unsafe"), "warn"
		}
		b.Rows = append(b.Rows, row)
	}
	link := func(after string) string {
		v := url.Values{}
		if q.Room != "" {
			v.Set("room", q.Room)
		}
		if after != "" {
			v.Set("after", after)
		}
		return strings.TrimSuffix("/history?"+v.Encode(), "?")
	}
	if list.Next != "" {
		b.Older = link(list.Next)
	}
	if q.After != "" {
		b.Newest = link("")
	}
	f.Body = b
	p.show(w, http.StatusOK, "history", f)
}

// castBrief is a broadcast in a few words and its time line.
type castBrief struct {
	ID, Title, Streamer string
	Began, Ended        time.Time
	Open                bool // not ended, or nobody knows
	Report              []string
	Tone                string
	Line                timeline
	Identity            string
}

type timeline struct {
	Alt     string
	Blocks  []block
	Gaps    []block
	Repairs []block
	Marks   []instant
}

// block is a stretch of a time line 1000 wide.
type block struct {
	X, W string
	Say  string
}

type instant struct{ Say string }

// index finds a delivery by target and part; broadcasts with 10,000 parts are no reason to search.
type index map[segment.TargetID]map[uint32]*segment.Delivery

func indexOf(b segment.Broadcast) index {
	ix := index{}
	for t, ds := range b.Deliveries {
		m := make(map[uint32]*segment.Delivery, len(ds))
		for i := range ds {
			m[ds[i].Segment.ID.Seq] = &ds[i]
		}
		ix[t] = m
	}
	return ix
}

func (p *Pages) brief(l lang, b segment.Broadcast) *castBrief {
	ix := indexOf(b)
	required := map[segment.TargetID]bool{}
	parked := 0
	for t, ds := range ix {
		for _, d := range ds {
			if d.Required {
				required[t] = true
			}
			if d.State == segment.Parked {
				parked++
			}
		}
	}
	var recorded, missing time.Duration
	proven := 0
	for _, s := range b.Segments {
		recorded += s.Duration
		safe, any := true, false
		for t := range required {
			if d := ix[t][s.ID.Seq]; d != nil && d.Required {
				any = true
				safe = safe && d.State == segment.Verified
			}
		}
		if safe && any {
			proven++
		}
	}
	for _, g := range b.Gaps {
		missing += g.Length
	}
	c := &castBrief{ID: string(b.Session.ID), Title: b.Session.Title, Streamer: b.Session.Streamer, Began: b.Session.Started,
		Ended: b.Session.Ended, Open: b.Session.Ended.IsZero(), Tone: "ok"}
	if c.Streamer == b.Session.Room.Name {
		c.Streamer = "" // it stands there already
	}
	if whole := recorded + missing; whole > 0 {
		share := float64(recorded) / float64(whole) * 100
		if missing > 0 {
			share = min(share, 99.9) // all of it is said only when nothing is missing
		}
		c.Report = append(c.Report, l.t("cast.share", strings.Replace(fmt.Sprintf("%.1f %%", share), "100.0", "100", 1)))
	}
	c.Report = append(c.Report, l.gaps(len(b.Gaps), missing))
	if len(required) == 1 {
		c.Report = append(c.Report, l.t("cast.proven1", proven, len(b.Segments)))
	} else {
		c.Report = append(c.Report, l.t("cast.proven", proven, len(b.Segments), len(required)))
	}
	if parked > 0 {
		c.Report = append(c.Report, l.t("cast.parked", parked))
		c.Tone = "bad"
	}
	if proven < len(b.Segments) && c.Tone == "ok" {
		c.Tone = "busy"
	}
	if err := b.Session.Account.Check(); err != nil && !c.Open {
		c.Identity = l.t("cast.identity", err.Error())
	}
	c.Line = p.timeline(l, b)
	return c
}

func (p *Pages) timeline(l lang, b segment.Broadcast) timeline {
	line := timeline{Alt: l.t("cast.linealt", len(b.Segments), len(b.Gaps))}
	if len(b.Segments) == 0 {
		return line
	}
	from := b.Segments[0].Start
	if len(b.Gaps) > 0 && b.Gaps[0].AfterSeq == 0 && b.Gaps[0].At.Before(from) && !b.Gaps[0].At.IsZero() {
		from = b.Gaps[0].At
	}
	to := from
	for _, s := range b.Segments {
		if end := s.Start.Add(s.Duration); end.After(to) {
			to = end
		}
	}
	for _, g := range b.Gaps {
		if end := g.At.Add(g.Length); end.After(to) {
			to = end
		}
	}
	whole := to.Sub(from)
	if whole <= 0 {
		whole = time.Second
	}
	place := func(at time.Time, d time.Duration, least float64) block {
		x := min(max(float64(at.Sub(from))/float64(whole)*1000, 0), 1000-least)
		w := min(max(float64(d)/float64(whole)*1000, least), 1000-x)
		return block{X: fmt.Sprintf("%.2f", x), W: fmt.Sprintf("%.2f", w)}
	}
	each := max((len(b.Segments)+mostBlocks-1)/mostBlocks, 1)
	for i := 0; i < len(b.Segments); i += each {
		first, last := b.Segments[i], b.Segments[min(i+each, len(b.Segments))-1]
		k := place(first.Start, last.Start.Add(last.Duration).Sub(first.Start), 0.5)
		k.Say = first.ID.Base()
		if last.ID != first.ID {
			k.Say += "–" + last.ID.Base()
		}
		k.Say += " · " + p.when(l, first.Start)
		line.Blocks = append(line.Blocks, k)
	}
	for _, g := range b.Gaps[:min(len(b.Gaps), mostGaps)] {
		k := place(g.At, g.Length, 3)
		k.Say = l.t("cast.gap") + " · " + l.span(g.Length) + " · " + g.Why
		line.Gaps = append(line.Gaps, k)
	}
	for _, r := range b.Repairs[:min(len(b.Repairs), mostGaps)] {
		i, ok := slices.BinarySearchFunc(b.Segments, r.Seq, func(s segment.Segment, seq uint32) int { return cmp.Compare(s.ID.Seq, seq) })
		if !ok {
			continue
		}
		k := place(b.Segments[i].Start.Add(r.AtMedia), 0, 2)
		k.Say = l.t("cast.repair") + " · " + r.What
		line.Repairs = append(line.Repairs, k)
	}
	for i := range 5 {
		line.Marks = append(line.Marks, instant{Say: p.clock(from.Add(whole*time.Duration(i)/4), whole)})
	}
	return line
}

func (p *Pages) clock(t time.Time, whole time.Duration) string {
	t = t.In(p.cfg.Zone)
	if whole < 10*time.Minute {
		return t.Format("15:04:05")
	}
	return t.Format("15:04")
}

type castPage struct {
	Room     string
	Brief    *castBrief
	Parts    []partRow
	Pager    pager
	Gaps     []gapRow
	MoreGaps int
	Repairs  []repairRow
	MoreReps int
	Targets  []string
}

type partRow struct {
	Base, Cut, Local, Size, Length, Frames, SHA string
	Began                                       time.Time
	Ways                                        []way
}

type way struct {
	Name, Full, State, Tone, Key, Proof, Sum, Error string
	At                                              time.Time
	Optional                                        bool
}

type gapRow struct {
	At                   time.Time
	Where, Length, Cause string
}

type repairRow struct{ Where, What string }

func place(l lang, seq uint32, at time.Duration) string {
	if seq == 0 {
		return l.t("cast.before")
	}
	return segment.ID{Seq: seq}.Base() + " + " + l.span(at.Round(100*time.Millisecond))
}

func (p *Pages) broadcast(w http.ResponseWriter, r *http.Request) {
	b, err := p.view.Broadcast(r.Context(), segment.SessionID(r.URL.Query().Get("id")))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	pic, err := p.picture(r.Context())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	f := p.frame(r, "history", "")
	l := f.Lang
	f.Title = cmp.Or(b.Session.Title, l.t("hist.untitled"))
	c := castPage{Room: b.Session.Room.Name, Brief: p.brief(l, b)}
	at := url.Values{"id": {string(b.Session.ID)}}
	lo, hi, pg := cut(len(b.Segments), mostParts, number(r.URL.Query(), "page"), at, "/broadcast", "page")
	c.Pager = pg
	ix := indexOf(b)
	targets := make([]segment.TargetID, 0, len(ix))
	for t := range ix {
		targets = append(targets, t)
	}
	slices.Sort(targets)
	for _, t := range targets {
		c.Targets = append(c.Targets, pic.short(string(t)))
	}
	for _, s := range b.Segments[lo:hi] {
		c.Parts = append(c.Parts, p.partOf(l, pic, b, s, targets, ix))
	}
	for _, g := range b.Gaps[:min(len(b.Gaps), mostGaps)] {
		c.Gaps = append(c.Gaps, gapRow{At: g.At, Where: place(l, g.AfterSeq, g.AtMedia), Length: l.span(g.Length), Cause: g.Why})
	}
	c.MoreGaps = len(b.Gaps) - len(c.Gaps)
	for _, x := range b.Repairs[:min(len(b.Repairs), mostGaps)] {
		c.Repairs = append(c.Repairs, repairRow{place(l, x.Seq, x.AtMedia), x.What})
	}
	c.MoreReps = len(b.Repairs) - len(c.Repairs)
	f.Body = c
	p.show(w, http.StatusOK, "broadcast", f)
}

func (p *Pages) partOf(l lang, pic *picture, b segment.Broadcast, s segment.Segment, targets []segment.TargetID, ix index) partRow {
	row := partRow{Base: s.ID.Base(), Local: l.t("local.open"), Size: status.Size(s.Size), Length: l.span(s.Duration.Round(time.Second)), Began: s.Start,
		Frames: l.t("cast.framesn", s.VideoFrames, s.AudioFrames)}
	if s.Sealed {
		row.Local, row.SHA = l.t("local.sealed"), s.SHA256.String()
	}
	if _, gone := b.Reclaimed[s.ID.Seq]; gone {
		row.Local = l.t("local.freed")
	}
	if k := map[segment.Cause]string{segment.CutTime: "cut.time", segment.CutSize: "cut.size", segment.CutHeader: "cut.header",
		segment.CutSplit: "cut.split", segment.CutPause: "cut.pause", segment.CutStop: "cut.stop", segment.CutEnd: "cut.end",
		segment.CutRecovered: "cut.recovered"}[s.Cut]; k != "" {
		row.Cut = l.t(k)
	}
	for _, t := range targets {
		d := ix[t][s.ID.Seq]
		if d == nil {
			continue
		}
		x := way{Name: pic.short(string(t)), Full: string(t), Key: d.Key, Optional: !d.Required, Tone: "busy", State: string(d.State)}
		if k := map[segment.DeliveryState]string{segment.Due: "way.due", segment.Opening: "way.opening", segment.Uploading: "way.uploading",
			segment.Committing: "way.committing", segment.Committed: "way.committed", segment.Verified: "way.verified", segment.Parked: "way.parked"}[d.State]; k != "" {
			x.State = l.t(k)
		}
		switch d.State {
		case segment.Verified:
			x.Tone, x.Proof, x.Sum, x.At = "ok", d.Proof.How, d.Proof.Sum, d.Proof.At
		case segment.Parked:
			x.Tone, x.Error = "bad", d.Why
		default:
			x.Error = d.Why
		}
		row.Ways = append(row.Ways, x)
	}
	return row
}
