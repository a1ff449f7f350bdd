package repair

import (
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
)

const (
	flapChanges = 3      // changes that one connection may make …
	flapTime    = 60_000 // … in so many ms
)

// header is a decoder configuration. Its bytes are the gate's own.
type header struct {
	set   bool
	codec media.Codec
	plain bool
	track uint8
	lead  uint16
	size  size
	sum   uint64
	body  []byte
}

// size is that of the picture, of VP9 alone: its record does not have it, its key frames do. 0: not seen yet.
type size struct{ w, h uint16 }

func (h *header) copy(from *header) {
	body := append(h.body[:0], from.body...)
	*h = *from
	h.body = body
}

// payload is the configuration record.
func (h *header) payload() []byte { return h.body[min(int(h.lead), len(h.body)):] }

func (h *header) packet(k media.Kind) media.Packet {
	if !h.set {
		return media.Packet{}
	}
	return media.Packet{Kind: k, Codec: h.codec, Track: h.track, Lead: h.lead, Body: h.body, Sum: h.sum}
}

// gate owns the headers: what is in force, what came since, and what the sink knows.
type gate struct {
	cur    [2]header // in force for what is taken in
	cand   [2]header // came later and differs; valid where change is true
	shown  [2]header // what Sink.Config was last told; cur may be up to a window ahead
	change [2]bool

	script    []byte
	hasScript bool
	announced tracks // by the script
	colour    []byte // body of the newest Enhanced FLV metadata tag

	times      [flapChanges]int64
	changes    int
	quarantine bool

	seenSPS []byte // of the last key frame whose sets the header has not

	sinceKey int // video frames since the last one where a decoder can start
	flags    int // … and among them those that were flagged as such
	soft     int // … of these, since a configuration waits for its begin
}

// tracks is what a script says about the tracks of a stream.
type tracks struct{ audio, video answer }

type answer uint8

const (
	unknown answer = iota
	no
	yes
)

// verdict is what the gate says to a media tag.
type verdict uint8

const (
	take   verdict = iota
	reject         // nothing decodes it: pre-roll
	refuse         // the connection is in quarantine
	begin          // the first tag of the session
	change         // a new configuration begins with this tag
)

// repeats reports whether p is the very header that is in force.
func (g *gate) repeats(p *media.Packet) bool {
	h := &g.cur[of(p.Kind)]
	return h.set && h.codec == p.Codec && h.sum == p.Sum && int(h.lead) == int(p.Lead)
}

// offer is a header that came. The last one before media wins.
func (g *gate) offer(e *entry) {
	h := header{set: true, codec: e.codec, plain: e.plain, track: e.track, lead: e.lead, size: e.size, sum: e.sum, body: e.body}
	t := e.t()
	if h.size == (size{}) && g.cur[t].codec == h.codec {
		h.size = g.cur[t].size
	}
	if c := &g.cur[t]; c.set && c.codec == h.codec && c.plain == h.plain && sameHeader(c, &h) {
		g.change[t] = false
		return
	}
	g.change[t] = true
	g.cand[t].copy(&h)
}

// newest is the header that the next frame of a track is told by.
func (g *gate) newest(t int) *header {
	if g.change[t] {
		return &g.cand[t]
	}
	return &g.cur[t]
}

// plain reports whether what is in force is nothing but H.264 and AAC in the form that an FLV part holds as it is.
func (g *gate) plain() bool {
	for t := range g.cur {
		if g.cur[t].set && !g.cur[t].plain {
			return false
		}
	}
	return true
}

const (
	// keyless is how many frames may pass without a sound key frame until the source's flag is believed: 20 s at 30
	// frames a second.
	keyless = 600
	softly  = 2 // flagged frames that a new configuration waits for at the most
)

// starts decides whether a video frame that the source only flags counts as one where a decoder can start (C15): where
// sound key frames come, never. Where a beginning waits, from the second flagged one on; else after 20 s without any.
// Without any flag as long, the data decides.
func (g *gate) starts(e *entry, begun bool) {
	if !e.key {
		g.sinceKey++
		if begun && !g.change[vid] && !g.change[aud] {
			g.soft = 0
		} else if e.flagged {
			g.soft++
		}
		switch {
		case e.flagged:
			g.flags++
			e.key = g.sinceKey > keyless || g.soft >= softly
		case g.sinceKey > keyless && g.flags == 0:
			e.key, _ = codec.Key(e.codec, lengths(g.newest(vid)), e.payload())
		}
	}
	if e.key {
		g.sinceKey, g.flags, g.soft = 0, 0, 0
	}
}

// pass decides on a media tag. The caller commits after begin and change.
func (g *gate) pass(t int, e *entry, begun bool) verdict {
	if g.quarantine {
		return refuse
	}
	hasVideo := g.cur[vid].set || g.change[vid]
	turn := t == vid && e.key || !hasVideo && g.change[aud]
	if !begun {
		if turn && g.newest(t).fits(e) {
			return begin
		}
		return reject
	}
	if g.change[vid] || g.change[aud] {
		if turn && g.newest(t).fits(e) {
			if g.changes >= flapChanges && e.at-g.times[g.changes%flapChanges] < flapTime {
				g.quarantine = true
				return refuse
			}
			g.times[g.changes%flapChanges] = e.at
			g.changes++
			return change
		}
		if g.change[t] {
			return reject
		}
	}
	if !g.cur[t].fits(e) {
		return reject
	}
	return take
}

// fits reports whether a frame can be one that this header configures.
func (h *header) fits(e *entry) bool { return h.set && h.codec == e.codec && (e.plain || !h.plain) }

// commit puts the candidates in force.
func (g *gate) commit() {
	for t := range g.cand {
		if g.change[t] {
			g.cur[t].copy(&g.cand[t])
			g.change[t] = false
			if t == vid {
				g.seenSPS = g.seenSPS[:0]
			}
		}
	}
}

// show makes what is in force what the sink knows.
func (g *gate) show() {
	for t := range g.cur {
		g.shown[t].copy(&g.cur[t])
	}
}

// calm forgets the changes of the last connection.
func (g *gate) calm() { g.quarantine, g.changes = false, 0 }

func (g *gate) configs() Configs {
	c := Configs{Video: g.shown[vid].packet(media.VideoConfig), Audio: g.shown[aud].packet(media.AudioConfig)}
	if g.shown[vid].set {
		c.Width, c.Height = int(g.shown[vid].size.w), int(g.shown[vid].size.h)
	}
	if g.hasScript {
		c.Script = g.script
	}
	if c.Video.Kind != 0 && len(g.colour) > 0 {
		c.Colour = g.colour
	}
	return c
}

// audioFrame is how long an audio frame lasts, in ms; 0 if the header does not tell.
func (g *gate) audioFrame() int64 {
	if !g.cur[aud].set {
		return 0
	}
	h := &g.cur[aud]
	var d time.Duration
	if h.codec == media.AAC {
		if a, err := flv.ParseASC(h.payload()); err == nil {
			d = a.FrameDuration()
		}
	} else if i, err := codec.Parse(h.codec, h.payload()); err == nil && i.FrameSamples > 0 {
		d = i.FrameDuration() // else it is measured
	}
	return d.Round(time.Millisecond).Milliseconds()
}

// prepare is the end of the start: of each track the first header that came counts for the media before it too.
// It reports whether there is any.
func (r *Repairer) prepare() bool {
	for t := range r.gate.cur {
		if r.gate.cur[t].set || r.gate.change[t] {
			continue
		}
		for i := range r.hold {
			e := &r.hold[i]
			if e.t() != t || e.kind == 0 {
				continue
			}
			if e.media() {
				if r.gate.change[t] {
					break
				}
				continue
			}
			r.gate.offer(e)
			e.kind = 0
		}
	}
	return r.gate.change != [2]bool{}
}

// ready reports whether the headers of all tracks that there will be are here.
func (r *Repairer) ready() bool {
	var seen, wait [2]bool
	for t := range seen {
		seen[t] = r.gate.cur[t].set || r.gate.change[t]
	}
	media := false
	for i := range r.hold {
		e := &r.hold[i]
		if e.media() {
			media = true
			wait[e.t()] = true
		} else {
			seen[e.t()] = true
		}
	}
	if !media {
		return false
	}
	a := r.gate.announced
	switch {
	case seen[vid] && seen[aud]:
		return true
	case seen[vid]:
		return a.audio == no && !wait[aud]
	case seen[aud]:
		return a.video == no && !wait[vid]
	}
	return false
}
