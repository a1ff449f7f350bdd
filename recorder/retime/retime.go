package retime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

const (
	// HoldBytes and HoldMedia bound what is held at a discontinuity until both tracks were seen.
	HoldBytes = 4 << 20
	HoldMedia = 2 * time.Second

	lossFrom = 100 * time.Millisecond // a hole behind a new connection that is told
	holeFrom = time.Second            // a longer step between two frames is closed
	backFrom = 500 * time.Millisecond // a clock that goes back further than this has jumped

	// turn is the period of a 33-bit clock of 90 kHz.
	turn = (1 << 33) * time.Second / 90_000

	earlyBy  = 100 * time.Millisecond // how much sooner than the first picture sound may begin
	maxEarly = 64                     // frames of sound that are kept for that

	maxShift = 10 * time.Second // a composition time beyond this is a fault of the source
)

const (
	vid = iota
	aud
)

// usual is how long a frame lasts of which nothing is known yet.
var usual = [2]time.Duration{time.Second / 25, 1024 * time.Second / 48_000}

// Retimer makes one stream out of the segments of one session. It is not safe for concurrent use.
type Retimer struct {
	sink repair.Sink
	same func(c media.Codec, a, b []byte) bool
	err  error

	offset time.Duration // output = Exact + offset
	last   [2]time.Duration
	frame  [2]time.Duration
	wrote  [2]bool // last is of this session

	config  [2]header // what the sink was told
	next    [2]header // what the source said last
	pending bool      // next differs from config: it takes effect at the next key frame
	begun   bool      // the sink had its first Config

	joined   bool // the next new frame is the first behind a seam
	fresh    bool // it is the first of a connection as well
	catching bool // until the first segment behind that is over: what was written may come again
	reopen   bool // the next frame begins a new clock
	why      string
	missing  time.Duration // told by seams since the last new frame
	gone     string        // why
	place    []byte        // what is up to there is written
	placeOut time.Duration // the output time of place
	ahead    []byte        // place at the end of the segment that comes in now

	hold      []held
	holdBytes int
	early     []held // sound from right before the first picture, until that comes

	flight  int64 // frames that were taken and neither held, written nor dropped yet: the sink may ask for the State meanwhile
	account segment.Account
	ordinal uint64
	content uint64
	frames  [2]int64
	lastAt  time.Time
	epoch   uint64
	item    repair.Item
}

type header struct {
	codec media.Codec
	body  []byte
	set   bool
}

type held struct {
	p  media.Packet
	at time.Time
}

// New begins a session. same reports whether two configuration records of a codec mean the same to a decoder.
func New(sink repair.Sink, same func(c media.Codec, a, b []byte) bool) *Retimer {
	return &Retimer{sink: sink, same: same, frame: usual}
}

// numbered is what a State holds of a Retimer beyond what it holds of a Repairer.
type numbered struct {
	Offset time.Duration    `json:"offset"` // ns
	Last   [2]time.Duration `json:"last"`
	Frame  [2]time.Duration `json:"frame"`
	Wrote  [2]bool          `json:"wrote"`
	Codec  [2]media.Codec   `json:"codec"`
	Set    [2]bool          `json:"set"`
	Place  []byte           `json:"place,omitempty"`
	At     time.Duration    `json:"at"` // output time of Place
}

// IsNumbered reports whether a State is that of a Retimer.
func IsNumbered(s repair.State) bool { return len(s.Numbered) > 0 }

// Place is the source's note in a State: what it needs to go on.
func Place(s repair.State) []byte {
	var n numbered
	if json.Unmarshal(s.Numbered, &n) != nil {
		return nil
	}
	return n.Place
}

// Place is the source's note on what is written: it is handed back to the source that goes on.
func (r *Retimer) Place() []byte { return r.place }

// Ahead is the source's note on the end of the segment that came last, whether all of it came or not.
func (r *Retimer) Ahead() []byte { return r.ahead }

// State describes what was written so far.
func (r *Retimer) State() repair.State {
	n := numbered{Offset: r.offset, Last: r.last, Frame: r.frame, Wrote: r.wrote, Place: r.place, At: r.placeOut}
	for t := range r.config {
		n.Codec[t], n.Set[t] = r.config[t].codec, r.config[t].set
	}
	raw, err := json.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("retime: plain numbers cannot be written: %v", err))
	}
	s := repair.State{
		Version: repair.StateVersion, Last: [2]int64{-1, -1}, Ordinal: r.ordinal, Content: r.content, Frames: r.frames,
		Account: r.account, Numbered: raw, LastAt: r.lastAt.UnixMilli(),
	}
	s.Account.Parsed -= r.flight
	for _, waiting := range [2][]held{r.hold, r.early} {
		for i := range waiting {
			n := int64(len(waiting[i].p.Body))
			s.Account.Parsed--
			s.Account.TagBytes -= n
			s.Account.ReceivedBytes -= n
		}
	}
	for t := range s.Last {
		if r.wrote[t] {
			s.Last[t] = millis(r.last[t])
		}
		s.Frame[t] = millis(r.frame[t])
	}
	if r.config[vid].set {
		s.Video = append([]byte{}, r.config[vid].body...)
	}
	if r.config[aud].set {
		s.Audio = append([]byte{}, r.config[aud].body...)
	}
	return s
}

// Restore goes on with a session of an earlier process. Sink.Config is not called for the configuration that the state
// knows. What the tail holds beyond the state is counted as received and written; its times are in ms, so what comes
// again within half a frame of its end is a duplicate.
func Restore(sink repair.Sink, same func(c media.Codec, a, b []byte) bool, s repair.State, tail []repair.TailTag) *Retimer {
	r := New(sink, same)
	var n numbered
	if json.Unmarshal(s.Numbered, &n) != nil {
		return r
	}
	r.account, r.ordinal, r.content, r.frames = s.Account, s.Ordinal, s.Content, s.Frames
	r.offset, r.last, r.wrote, r.place, r.ahead, r.placeOut = n.Offset, n.Last, n.Wrote, n.Place, n.Place, n.At
	for t, f := range n.Frame {
		if f > 0 {
			r.frame[t] = f
		}
	}
	for t, body := range [2][]byte{s.Video, s.Audio} {
		if n.Set[t] {
			r.config[t] = header{codec: n.Codec[t], body: bytes.Clone(body), set: true}
			r.next[t], r.begun = r.config[t], true
		}
	}
	known := [2]int64{-1, -1} // ms
	for t := range known {
		if n.Wrote[t] {
			known[t] = millis(n.Last[t])
		}
	}
	for _, x := range tail {
		t := vid
		if x.Kind == media.Audio {
			t = aud
		}
		if x.Out <= known[t] {
			continue
		}
		known[t] = x.Out
		r.last[t], r.wrote[t] = time.Duration(x.Out)*time.Millisecond, true
		r.ordinal++
		r.content = repair.Chain(r.content, r.ordinal, x.Sum)
		r.frames[t]++
		r.account.Parsed++
		r.account.Written++
		r.account.ReceivedBytes += int64(x.Size)
		r.account.TagBytes += int64(x.Size)
	}
	return r
}

// Digests are empty: a source that numbers its media needs none.
func (r *Retimer) Digests() []byte { return nil }

// Epoch changes whenever what the last State said of clock, configuration or place is out of date.
func (r *Retimer) Epoch() uint64 { return r.epoch }

// Account is the balance so far.
func (r *Retimer) Account() segment.Account {
	a := r.account
	a.Held = int64(len(r.hold) + len(r.early))
	return a
}

// Connect says that the source begins anew. why tells how it ended last.
func (r *Retimer) Connect(at time.Time, why string) {
	if r.err != nil {
		return
	}
	if r.err = r.release(true); r.err != nil {
		return
	}
	r.dropEarly()
	if r.why == "" {
		r.why = why
	}
	r.account.Connections++
	r.fresh, r.catching, r.joined = r.any(), r.any(), r.any()
	r.ahead = r.place // the source was asked to go on behind that: what it began to send may not be whole
}

// Push takes one batch in. The batch stays the caller's.
func (r *Retimer) Push(b *media.Batch) error {
	if r.err != nil {
		return r.err
	}
	r.account.ReceivedBytes += b.Count.Received
	r.account.HeaderBytes += b.Count.Header
	r.account.TagBytes += b.Count.Tags
	r.account.JunkBytes += b.Count.Junk
	r.account.PartialBytes += b.Count.Partial
	for i := range b.Packets {
		if r.err = r.take(&b.Packets[i], b.At); r.err != nil {
			return r.err
		}
	}
	return nil
}

// Tick has nothing to do: no decision of a Retimer depends on how late it is.
func (r *Retimer) Tick(time.Time) error { return r.err }

// Disconnect ends a connection: everything held is written.
func (r *Retimer) Disconnect(time.Time) error {
	if r.err == nil {
		r.err = r.release(true)
		r.dropEarly()
	}
	return r.err
}

// End says that the session is over: what the source said to be missing behind the last frame is told.
func (r *Retimer) End() {
	if r.missing > 0 && r.any() && r.err == nil {
		r.sink.Gap(repair.Gap{At: r.lastAt, Out: millis(r.edge()), Length: r.missing, Why: r.gone})
		r.missing = 0
	}
}

func (r *Retimer) take(p *media.Packet, at time.Time) error {
	switch p.Kind {
	case media.Join:
		return r.join(p.Seam)
	case media.VideoConfig, media.AudioConfig:
		r.account.Parsed++
		r.account.Headers++
		if err := r.release(true); err != nil {
			return err
		}
		r.learn(p)
		return nil
	case media.Video, media.Audio:
		r.account.Parsed++
		return r.frameIn(p, at)
	}
	r.account.Parsed++
	r.account.Invalid++
	return nil
}

// join begins a segment.
func (r *Retimer) join(s *media.Seam) error {
	if s == nil {
		return nil
	}
	if err := r.release(true); err != nil {
		return err
	}
	if !bytes.Equal(r.place, r.ahead) {
		r.place = r.ahead
		if !r.fresh { // else all of it was written before, and what follows may have been too
			r.placeOut = r.edge()
		}
		r.epoch++
	}
	if !r.fresh {
		r.catching = false
	}
	r.ahead = bytes.Clone(s.Place)
	if s.Missing > 0 {
		r.missing += s.Missing
		r.gone = s.Why
	}
	r.reopen = r.reopen || s.Discontinuity
	r.joined = true
	return nil
}

// learn takes a configuration record.
func (r *Retimer) learn(p *media.Packet) {
	t := vid
	if p.Kind == media.AudioConfig {
		t = aud
	}
	h := header{codec: p.Codec, body: bytes.Clone(p.Payload()), set: true}
	r.next[t] = h
	cur := &r.config[t]
	if cur.set && cur.codec == h.codec && (bytes.Equal(cur.body, h.body) || r.same(h.codec, cur.body, h.body)) {
		r.next[t] = *cur
	}
	r.pending = r.next[vid].set && !r.current(vid) || r.next[aud].set && !r.current(aud)
}

// frameIn is one frame. At the begin of a new clock it may be held until the other track is seen.
func (r *Retimer) frameIn(p *media.Packet, at time.Time) error {
	t := track(p)
	if !r.next[t].set {
		r.account.PreRoll++
		return nil
	}
	if !r.begun && t == aud && r.next[vid].set {
		r.keepEarly(p, at)
		return nil
	}
	if !r.starts(p) && len(r.hold) == 0 && (!r.begun || r.pending && !r.current(t)) {
		r.account.PreRoll++ // only a configuration that is not in effect yet explains it, or it is from before the begin
		return nil
	}
	if len(r.early) > 0 {
		if err := r.begin(p); err != nil {
			return err
		}
	}
	if len(r.hold) > 0 || r.newClock() && r.both() {
		return r.keep(p, at)
	}
	return r.write(p, at)
}

// keepEarly keeps sound until the first picture shows how much of it belongs there.
func (r *Retimer) keepEarly(p *media.Packet, at time.Time) {
	if len(r.early) >= maxEarly {
		r.early = append(r.early[:0], r.early[1:]...)
		r.account.PreRoll++
	}
	q := *p
	q.Body = bytes.Clone(p.Body)
	r.early = append(r.early, held{q, at})
}

func (r *Retimer) dropEarly() {
	r.account.PreRoll += int64(len(r.early))
	r.early = nil
}

// begin starts the session with the sound that precedes its first picture by a little.
func (r *Retimer) begin(picture *media.Packet) error {
	early := r.early
	r.early = nil
	for len(early) > 0 && (early[0].p.Exact < picture.Exact-earlyBy || early[0].p.Exact > picture.Exact+earlyBy) {
		early = early[1:]
		r.account.PreRoll++
	}
	if len(early) == 0 {
		return nil
	}
	r.flight += int64(len(early)) + 1 // and the picture
	if err := r.configure(0); err != nil {
		return err
	}
	for i := range early {
		r.flight--
		if err := r.write(&early[i].p, early[i].at); err != nil {
			return err
		}
	}
	r.flight--
	return nil
}

// starts reports whether a part may begin with a frame: a key frame, or sound where there is no picture.
func (r *Retimer) starts(p *media.Packet) bool {
	return p.Kind == media.Video && p.Key || !r.next[vid].set
}

// current reports whether the sink knows the configuration of a track.
func (r *Retimer) current(t int) bool {
	n, c := &r.next[t], &r.config[t]
	return c.set && c.codec == n.codec && bytes.Equal(c.body, n.body)
}

// newClock reports whether the next frame begins a clock that must be joined to one before it.
func (r *Retimer) newClock() bool { return r.joined && r.reopen && r.any() }

func (r *Retimer) both() bool { return r.next[vid].set && r.next[aud].set }

// keep holds a frame, and lets all go as soon as both tracks are there.
func (r *Retimer) keep(p *media.Packet, at time.Time) error {
	q := *p
	q.Body = bytes.Clone(p.Body)
	r.hold = append(r.hold, held{q, at})
	r.holdBytes += len(q.Body)
	return r.release(false)
}

func (r *Retimer) release(all bool) error {
	if len(r.hold) == 0 {
		return nil
	}
	first := [2]*media.Packet{}
	for i := range r.hold {
		if p := &r.hold[i].p; first[track(p)] == nil {
			first[track(p)] = p
		}
	}
	last := &r.hold[len(r.hold)-1].p
	if !all && (first[vid] == nil || first[aud] == nil) && r.holdBytes < HoldBytes && last.Exact-r.hold[0].p.Exact < HoldMedia {
		return nil
	}
	r.place0(first)
	hold := r.hold
	r.hold, r.holdBytes = nil, 0
	r.flight += int64(len(hold))
	for i := range hold {
		r.flight--
		if err := r.write(&hold[i].p, hold[i].at); err != nil {
			return err
		}
	}
	return nil
}

// place0 gives a new clock its offset: the earliest at which neither track overlaps what was written of it.
func (r *Retimer) place0(first [2]*media.Packet) {
	have := false
	var offset time.Duration
	for t, p := range first {
		if p == nil {
			continue
		}
		end := r.edge()
		if r.wrote[t] {
			end = r.last[t] + r.frame[t]
		}
		if o := end - p.Exact; !have || o > offset {
			offset, have = o, true
		}
	}
	if have {
		r.offset = offset
		r.reopen = false
		r.epoch++
	}
}

// edge is where everything written so far ends.
func (r *Retimer) edge() time.Duration {
	var e time.Duration
	for t := range r.last {
		if r.wrote[t] {
			e = max(e, r.last[t]+r.frame[t])
		}
	}
	return e
}

// write brings one frame onto the clock of the session and hands it out.
func (r *Retimer) write(p *media.Packet, at time.Time) error {
	r.flight++
	err := r.put(p, at)
	r.flight--
	return err
}

func (r *Retimer) put(p *media.Packet, at time.Time) error {
	t := track(p)
	switch {
	case !r.any():
		r.offset, r.reopen = -p.Exact, false // 0 at the first frame
		r.epoch++
	case r.joined && r.reopen:
		f := [2]*media.Packet{}
		f[t] = p
		r.place0(f)
	case r.fresh:
		r.turns(p.Exact)
	}
	out := p.Exact + r.offset
	if r.again(t, out) {
		r.account.Duplicates++
		return nil
	}
	if r.joined {
		out = r.settle(t, out)
	}
	if r.wrote[t] {
		switch d := out - r.last[t]; {
		case d <= 0 && d > -backFrom:
			r.account.Duplicates++
			return nil
		case d <= 0:
			out = r.jump(t, out, "the clock jumped back by ")
		case d > r.frame[t]+holeFrom && out > r.edge()+holeFrom:
			out = r.jump(t, out, "the clock jumped ahead by ")
		}
	} else if out < 0 {
		r.account.PreRoll++ // sound from before the first picture
		return nil
	}
	if (r.pending || !r.begun) && r.starts(p) {
		if err := r.configure(out); err != nil {
			return err
		}
	}
	return r.hand(t, p, out, at)
}

// any reports whether anything was written.
func (r *Retimer) any() bool { return r.wrote[vid] || r.wrote[aud] }

// again reports whether a frame behind a new connection was written before: the source goes on behind its place, and
// what was written behind that comes twice.
func (r *Retimer) again(t int, out time.Duration) bool {
	return r.catching && r.wrote[t] && out <= r.last[t]+r.frame[t]/2 && out >= r.placeOut-backFrom
}

// settle says what is known of the place between two segments, at the first frame behind it, and returns the time of
// that frame.
func (r *Retimer) settle(t int, out time.Duration) time.Duration {
	missing, gone, fresh, why := r.missing, r.gone, r.fresh, r.why
	r.joined, r.fresh, r.missing, r.gone, r.why = false, false, 0, "", ""
	if !r.any() {
		return out
	}
	edge := r.edge()
	if r.wrote[t] {
		edge = r.last[t] + r.frame[t]
	}
	hole := out - edge
	lost := missing > 0
	switch {
	case lost && hole > r.frame[t]:
		missing = hole // the clock went on: it knows better
	case !lost && fresh && hole > lossFrom:
		missing, gone, lost = hole, why, true
	}
	switch {
	case lost:
		if gone == "" {
			gone = why
		}
		r.sink.Gap(repair.Gap{At: r.lastAt, Out: millis(r.edge()), Length: missing, Why: gone})
		if hole > holeFrom {
			r.offset -= hole
			out -= hole
			r.epoch++
		}
	case fresh:
		r.sink.Repair(repair.Repair{Kind: repair.Seam, Out: millis(r.edge()), What: "connection renewed without loss"})
	}
	return out
}

// jump joins a clock that jumped without a word of the source.
func (r *Retimer) jump(t int, out time.Duration, what string) time.Duration {
	to := max(r.edge(), r.last[t]+r.frame[t])
	d := out - to
	r.offset -= d
	r.epoch++
	r.sink.Repair(repair.Repair{Kind: repair.Clock, Out: millis(to), What: what + d.Abs().Round(time.Millisecond).String()})
	return to
}

// turns brings a 33-bit clock that another process unwrapped to the turn that is nearest.
func (r *Retimer) turns(exact time.Duration) {
	if !r.any() {
		return
	}
	d := exact + r.offset - r.edge()
	n := (d + turn/2) / turn
	if d < -turn/2 {
		n = (d - turn/2) / turn
	}
	if n != 0 && (d-n*turn).Abs() < time.Hour {
		r.offset -= n * turn
		r.epoch++
	}
}

// configure tells the sink what follows.
func (r *Retimer) configure(out time.Duration) error {
	r.config = r.next
	r.pending, r.begun = false, true
	r.epoch++
	if err := r.sink.Config(r.Configs()); err != nil {
		return fmt.Errorf("begin a part at %v: %w", out, err)
	}
	return nil
}

// Configs is the configuration in effect.
func (r *Retimer) Configs() repair.Configs {
	c := repair.Configs{}
	if h := &r.config[vid]; h.set {
		c.Video = media.Packet{Kind: media.VideoConfig, Codec: h.codec, Body: h.body}
	}
	if h := &r.config[aud]; h.set {
		c.Audio = media.Packet{Kind: media.AudioConfig, Codec: h.codec, Body: h.body}
	}
	return c
}

// hand gives one frame to the sink.
func (r *Retimer) hand(t int, p *media.Packet, out time.Duration, at time.Time) error {
	shift := p.Shift
	if shift.Abs() > maxShift {
		shift = 0
	}
	r.item = repair.Item{Packet: *p, Out: millis(out), Time: out, Ordinal: r.ordinal + 1, Dur: millis(r.frame[t]), Lasts: r.frame[t], At: at}
	r.item.Shift, r.item.CTS = shift, int32(shift/time.Millisecond)
	if err := r.sink.Media(&r.item); err != nil {
		return fmt.Errorf("write item %d at %v: %w", r.item.Ordinal, out, err)
	}
	r.ordinal++
	r.content = repair.Chain(r.content, r.ordinal, p.Sum)
	r.frames[t]++
	r.account.Written++
	if r.wrote[t] {
		if d := out - r.last[t]; d > 0 && d <= holeFrom/2 {
			r.frame[t] = d
		}
	}
	r.last[t], r.wrote[t], r.lastAt = out, true, at
	return nil
}

func track(p *media.Packet) int {
	if p.Kind == media.Audio || p.Kind == media.AudioConfig {
		return aud
	}
	return vid
}

func millis(d time.Duration) int64 { return int64(d / time.Millisecond) }
