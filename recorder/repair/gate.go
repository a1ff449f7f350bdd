package repair

import (
	"time"

	"github.com/liverec/liverec/pkg/media"
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
	sum   uint64
	body  []byte
}

func (h *header) copy(from *header) {
	h.set, h.codec, h.sum = from.set, from.codec, from.sum
	h.body = append(h.body[:0], from.body...)
}

func (h *header) packet(k media.Kind) media.Packet {
	if !h.set {
		return media.Packet{}
	}
	return media.Packet{Kind: k, Codec: h.codec, Body: h.body, Sum: h.sum}
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

	times      [flapChanges]int64
	changes    int
	quarantine bool

	// Of cur[vid], for look.
	lengthSize    int // 0: not parsed yet
	width, height int
	seenSPS       []byte
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
	t := vid
	if p.Kind == media.AudioConfig {
		t = aud
	}
	return g.cur[t].set && g.cur[t].sum == p.Sum
}

// offer is a header that came. The last one before media wins.
func (g *gate) offer(t int, codec media.Codec, sum uint64, body []byte) {
	c := &g.cur[t]
	if c.set && c.codec == codec && (c.sum == sum || sameHeader(t, c.body, body)) {
		g.change[t] = false
		return
	}
	g.change[t] = true
	g.cand[t].copy(&header{set: true, codec: codec, sum: sum, body: body})
}

// pass decides on a media tag. The caller commits after begin and change.
func (g *gate) pass(t int, e *entry, begun bool) verdict {
	if g.quarantine {
		return refuse
	}
	hasVideo := g.cur[vid].set || g.change[vid]
	turn := t == vid && e.key || !hasVideo && g.change[aud]
	if !begun {
		if turn && (g.change[t] || g.cur[t].set) {
			return begin
		}
		return reject
	}
	if g.change[vid] || g.change[aud] {
		if turn {
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
	if !g.cur[t].set {
		return reject
	}
	return take
}

// commit puts the candidates in force.
func (g *gate) commit() {
	for t := range g.cand {
		if g.change[t] {
			g.cur[t].copy(&g.cand[t])
			g.change[t] = false
			if t == vid {
				g.lengthSize, g.seenSPS = 0, g.seenSPS[:0]
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
	if g.hasScript {
		c.Script = g.script
	}
	return c
}

// audioFrame is how long an audio frame lasts, in ms; 0 if the header does not tell.
func (g *gate) audioFrame() int64 {
	if !g.cur[aud].set {
		return 0
	}
	a, err := flv.ParseAudioConfig(g.cur[aud].body)
	if err != nil {
		return 0
	}
	return a.FrameDuration().Round(time.Millisecond).Milliseconds()
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
			if e.track() != t || e.kind == 0 {
				continue
			}
			if e.media() {
				if r.gate.change[t] {
					break
				}
				continue
			}
			r.gate.offer(t, e.codec, e.sum, e.body)
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
			wait[e.track()] = true
		} else {
			seen[e.track()] = true
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
