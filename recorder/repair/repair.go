package repair

import (
	"bytes"
	"cmp"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
)

// The two tracks. Video is the master: its clock is the session's.
const (
	vid = 0
	aud = 1
)

// mode is what the Repairer does with a tag that comes in.
type mode uint8

const (
	starting mode = iota // hold until the headers are known; nothing was written yet
	running
	joining // hold until it is clear how the tags join what was written
)

// trigger is why a seam was opened.
type trigger uint8

const (
	noTrigger  trigger = iota
	byScript           // a second script tag or an end mark: something happened upstream, perhaps
	byJump             // a time stamp fits neither track
	byRestart          // a second file header
	byConnect          // a new connection
	maxTrigger = byConnect
)

// fresh reports whether the media before and after may come from different connections to the origin, so that a
// hole below a second is a loss and no jitter.
func (t trigger) fresh() bool { return t >= byRestart }

// entry is a packet on its way through. Body lies in the batch that is being pushed, or in the arena if owned.
type entry struct {
	kind    media.Kind
	codec   media.Codec
	key     bool // a decoder can start here
	flagged bool // the source calls it a key frame
	plain   bool // H.264 or AAC in the form that an FLV part holds as it is
	track   uint8
	lead    uint16
	size    size
	owned   bool
	settled bool // the seam was decided with this one: it must not open the next
	marker  bool // Sink.Config comes right before it
	cts     int32
	dts     int64 // as it was sent
	ext     int64 // unwrapped
	out     int64
	at      int64 // ms
	sum     uint64
	body    []byte
}

func (e *entry) media() bool { return e.kind == media.Video || e.kind == media.Audio }

// payload is the frame or the record alone.
func (e *entry) payload() []byte { return e.body[min(int(e.lead), len(e.body)):] }

// of tells which track a kind belongs to.
func of(k media.Kind) int {
	if k == media.Audio || k == media.AudioConfig {
		return aud
	}
	return vid
}

func (e *entry) t() int { return of(e.kind) }

// Repairer makes one stream out of the connections of one session. It is not safe for concurrent use.
type Repairer struct {
	cfg  limits
	sink Sink
	err  error // of the sink; the end

	account segment.Account
	stats   Stats

	now   int64 // ms, the latest wall time that was handed in
	epoch time.Time
	base  int64 // unix ms of epoch

	mode      mode
	early     []entry // sound from before the first key frame that may belong behind it
	hold      []entry
	holdBytes int
	holdSince int64
	work      []entry // released from hold, last one first
	trig      trigger
	armed     trigger
	why       string
	scripted  bool // this connection had its script
	atEnd     bool // of a batch: no more evidence is in memory

	gate    gate
	clock   clock
	pick    [2]pick
	forms   [2]form
	remade  []byte // bodies that were made anew for this batch
	samples bool   // sums are of payloads
	past    [2]past
	order   order

	replaying [2]bool
	cursor    [2]int64 // the next tag that a replay is expected to bring; -1 before its first
	replayed  [2]int64 // source time of the last replayed tag
	reported  bool     // the replay that goes on is known already
	loopDups  int64
	newAt     int64 // ms, when new media last came in, or the connection began
	loop      loop

	joint bool  // the first new frame behind a seam must show whether others are missing before it
	told  int64 // ms of them that are told already, and still in the clock

	unsupported *Unsupported
	changes     uint64

	item Item

	ordinal uint64
	content uint64
	frames  [2]int64
	sent    [2]int64 // last output that the sink took, -1 if none
	sentAt  int64
}

// limits is Config with its defaults, in ms.
type limits struct {
	window, seamWait, headerWait int64
	holdBytes                    int
	samples, dropFiller          bool
}

const (
	maxHoldTags  = 8192
	maxHoldMedia = 30_000 // ms
)

// New begins a session.
func New(cfg Config, sink Sink) *Repairer {
	r := &Repairer{
		cfg: limits{
			window:     cmp.Or(cfg.Window, 300*time.Millisecond).Milliseconds(),
			seamWait:   cmp.Or(cfg.SeamWait, 400*time.Millisecond).Milliseconds(),
			headerWait: cmp.Or(cfg.HeaderWait, 3*time.Second).Milliseconds(),
			holdBytes:  cmp.Or(cfg.HoldBytes, 4<<20),
			samples:    cfg.Samples, dropFiller: cfg.DropFiller,
		},
		sink:    sink,
		sent:    [2]int64{-1, -1},
		samples: cfg.Samples,
	}
	r.past[vid].init()
	r.past[aud].init()
	return r
}

// Connect says that a new connection begins. why tells how the last one ended; it becomes the reason of the gap if
// something is missing. Of several connections without any new media the first reason counts.
func (r *Repairer) Connect(at time.Time, why string) {
	r.wall(at)
	if r.err != nil {
		return
	}
	r.close()
	if r.why == "" {
		r.why = why
	}
	r.account.Connections++
	r.scripted = false
	r.gate.calm()
	r.armed = byConnect
	r.joint, r.told = true, 0
	r.stats.LoopGOPs, r.loopDups, r.newAt = 0, 0, r.now
	r.loop.begin(r.now)
}

// Push takes one batch in. The batch stays the caller's: what is held longer is copied.
//
// ErrLoop, ErrFlapping and *Unsupported speak of the source: the batch was taken in. Any other error is the sink's
// and final.
func (r *Repairer) Push(b *media.Batch) error {
	if r.err != nil {
		return r.err
	}
	at := r.wall(b.At)
	r.account.ReceivedBytes += b.Count.Received
	r.account.HeaderBytes += b.Count.Header
	r.account.TagBytes += b.Count.Tags
	r.account.JunkBytes += b.Count.Junk
	r.account.PartialBytes += b.Count.Partial
	r.unsupported = nil
	if r.remade = r.remade[:0]; cap(r.remade) > arenaKeep {
		r.remade = nil
	}
	for i := range b.Packets {
		r.take(&b.Packets[i], at)
		if r.err != nil {
			return r.err
		}
	}
	r.atEnd = true
	r.decide(false)
	r.run()
	r.atEnd = false
	r.drain(false)
	if r.err != nil {
		return r.err
	}
	r.settle()
	return r.verdict()
}

// Tick says how late it is while no batch comes.
func (r *Repairer) Tick(now time.Time) error {
	if r.err != nil {
		return r.err
	}
	r.wall(now)
	r.atEnd = true
	r.decide(false)
	r.run()
	r.atEnd = false
	r.drain(false)
	return r.err
}

// Disconnect ends a connection: everything held is decided and written.
func (r *Repairer) Disconnect(at time.Time) error {
	if r.err != nil {
		return r.err
	}
	r.wall(at)
	r.close()
	return r.err
}

// close decides what is open with the evidence at hand and empties the window.
func (r *Repairer) close() {
	// Every decision settles at least the first tag that is held; a trigger that came meanwhile costs one more turn.
	for left := 2 * (len(r.hold) + len(r.work) + 1); r.err == nil && left > 0 && len(r.hold)+len(r.work) > 0; left-- {
		r.decide(true)
		r.run()
	}
	r.drain(true)
	r.account.PreRoll += int64(len(r.early))
	clear(r.early)
	r.early = r.early[:0]
}

// verdict is what there is to say against the source.
func (r *Repairer) verdict() error {
	switch {
	case r.unsupported != nil:
		return r.unsupported
	case r.gate.quarantine:
		return ErrFlapping
	case r.looping():
		return ErrLoop
	}
	return nil
}

// wall turns a time into ms. Differences are monotonic where the runtime knows better than the wall.
func (r *Repairer) wall(t time.Time) int64 {
	if r.epoch.IsZero() {
		r.epoch, r.base = t, t.UnixMilli()
	}
	ms := r.base + t.Sub(r.epoch).Milliseconds()
	r.now = max(r.now, ms)
	return r.now
}

// take counts one packet and sends it on its way.
func (r *Repairer) take(p *media.Packet, at int64) {
	if p.Kind == media.Restart {
		r.restart()
		return
	}
	r.account.Parsed++
	switch p.Kind {
	case media.Script:
		r.account.Scripts++
		if p.Codec != media.NoCodec {
			r.describe(p)
			return
		}
		r.script(p.Body)
	case media.EndMark:
		r.account.EndMarks++
		r.armed = max(r.armed, byScript)
	case media.VideoConfig, media.AudioConfig:
		e := entry{kind: p.Kind, codec: p.Codec, track: p.Track, lead: p.Lead, plain: isPlain(p), body: p.Body, sum: p.Sum, at: at}
		if !r.speaks(p) || !r.picks(p) || !r.gate.repeats(p) && !r.record(&e) {
			r.account.Invalid++
			return
		}
		r.account.Headers++
		r.heading(e)
	case media.Video, media.Audio:
		if !r.speaks(p) || r.gate.quarantine || !r.picks(p) {
			r.account.Invalid++
			return
		}
		e := entry{
			kind: p.Kind, codec: p.Codec, key: p.Key, track: p.Track, lead: p.Lead, plain: isPlain(p), cts: p.CTS, dts: p.DTS,
			ext: r.clock.unwrap(p.DTS), at: at, sum: p.Sum, body: p.Body,
		}
		e.flagged = p.Key || p.Kind == media.Video && p.Lead > 0 && flv.KeyFlag(p.Body)
		if !r.sanitise(&e) {
			r.account.Invalid++
			return
		}
		was := r.samples
		r.configure(&e)
		if r.samples != was { // what was held was begun with
			r.resum(&e)
		}
		r.step(e)
		r.run()
	default:
		r.account.Invalid++
	}
}

// heading takes a header on its way.
func (r *Repairer) heading(e entry) {
	if r.mode == running {
		r.gate.offer(&e)
		return
	}
	r.keep(e)
	r.decide(false)
	r.run()
}

// restart is a second file header in one connection: the node was connected anew to whatever is behind it.
func (r *Repairer) restart() {
	if r.mode == joining {
		r.decide(true)
		r.run()
	}
	if r.why == "" {
		r.why = "the source began anew"
	}
	r.scripted = false
	r.armed = max(r.armed, byRestart)
	r.joint, r.told = true, 0
}

func (r *Repairer) script(body []byte) {
	same := r.gate.hasScript && bytes.Equal(r.gate.script, body)
	if !same && len(body) <= maxRecord {
		m, err := flv.ParseMetadata(body)
		if err != nil && len(m.Props) == 0 {
			return // cue points, texts: nobody's business
		}
		r.gate.announced = announces(m)
		r.gate.script, r.gate.hasScript = append(r.gate.script[:0], body...), true
	}
	if r.scripted {
		r.armed = max(r.armed, byScript)
	}
	r.scripted = true
	if r.mode == starting {
		r.decide(false)
		r.run()
	}
}

// keep adds to what is held.
func (r *Repairer) keep(e entry) {
	if len(r.hold) == 0 {
		r.holdSince, r.holdBytes = e.at, 0
	}
	r.holdBytes += len(e.body)
	r.hold = append(r.hold, e)
}

// release puts everything held back on its way, in order, before what is released already.
func (r *Repairer) release() {
	for i := len(r.hold) - 1; i >= 0; i-- {
		r.work = append(r.work, r.hold[i])
	}
	clear(r.hold)
	r.hold = r.hold[:0]
	r.holdBytes = 0
}

// run works off what was released.
func (r *Repairer) run() {
	for len(r.work) > 0 && r.err == nil {
		n := len(r.work) - 1
		e := r.work[n]
		r.work[n] = entry{}
		r.work = r.work[:n]
		r.step(e)
	}
}

// step is the way of one media tag or held header.
func (r *Repairer) step(e entry) {
	if r.mode != running {
		r.keep(e)
		r.decide(false)
		return
	}
	t := e.t()
	if !e.media() {
		if e.kind != 0 {
			r.gate.offer(&e)
		}
		return
	}
	if !r.clock.begun {
		r.armed = noTrigger
		r.accept(t, e, 0)
		return
	}
	if trig := r.armed; trig != noTrigger {
		r.armed = noTrigger
		if trig != byScript || !r.continues(t, &e) {
			r.open(trig, e)
			return
		}
	}
	if r.replaying[t] {
		switch r.compare(t, &e) {
		case known:
			r.drop(t, &e)
			return
		case backAgain:
			r.open(byJump, e)
			return
		}
		r.replaying[t] = false
	}
	raw, ok := r.clock.place(t, e.ext)
	if !ok {
		if !e.settled && r.clock.has[t] {
			r.open(byJump, e)
			return
		}
		raw = r.anchor(t, &e)
	}
	r.accept(t, e, raw)
}

// continues reports whether a tag goes on where its track stopped.
func (r *Repairer) continues(t int, e *entry) bool {
	raw, ok := r.clock.place(t, e.ext)
	return ok && (!r.clock.has[t] || raw > r.clock.lastRaw[t])
}

// open begins a seam. What was before it is written at once, so that the past is whole.
func (r *Repairer) open(trig trigger, e entry) {
	r.drain(true)
	if r.err != nil {
		return
	}
	r.mode, r.trig = joining, trig
	r.keep(e)
	r.decide(false)
}

// drop counts a tag that is here already.
func (r *Repairer) drop(t int, e *entry) {
	r.account.Duplicates++
	r.loopDups++
	if t == vid && (e.key || e.flagged) {
		r.stats.LoopGOPs++
	}
}

// accept takes a tag into the output. raw is its place on the session's clock.
func (r *Repairer) accept(t int, e entry, raw int64) {
	if t == vid {
		r.gate.starts(&e, r.clock.begun)
		if e.key {
			r.look(&e)
		}
	}
	switch r.gate.pass(t, &e, r.clock.begun) {
	case reject:
		if !r.clock.begun && t == aud {
			r.wait(e)
			return
		}
		r.account.PreRoll++
		return
	case refuse:
		r.account.Invalid++
		return
	case begin:
		r.changes++
		r.commit(&e)
		r.clock.start(e.ext, e.at)
		r.clock.setAudioFrame(r.gate.audioFrame())
		r.order.configDue = true
		raw = 0
		r.recall(&e)
	case change:
		// A new video header rides on its key frame, and older audio still sorts before it. With a new audio header
		// all that is older comes out first, and audio from just before the key frame opens the new part.
		r.stats.Changes++
		audio := r.gate.change[aud]
		if audio || r.order.markers > 0 {
			r.drain(true)
			if r.err != nil {
				return
			}
		}
		r.changes++
		r.commit(&e)
		if audio {
			r.order.configDue = true
			r.clock.setAudioFrame(r.gate.audioFrame())
		} else {
			e.marker = true
			r.order.markers++
		}
	}
	c := &r.clock
	if c.has[t] && raw < c.lastRaw[t] || c.has[t] && raw == c.lastRaw[t] && t == vid && len(e.body) > bigTag {
		if r.past[t].find(e.sum, raw-c.offset[t], 0) >= 0 {
			r.drop(t, &e)
			return
		}
	}
	if !c.has[t] && raw < 0 {
		r.account.PreRoll++ // audio from before the first key frame
		return
	}
	if c.has[t] {
		if idle := raw - c.last[t] - c.frame[t]; idle > pauseAfter {
			r.sink.Repair(Repair{Kind: Pause, Out: c.last[t] + c.frame[t],
				What: "no " + trackName(t) + " for " + seconds(idle) + " while " + trackName(1-t) + " went on"})
		}
	}
	if r.joint && t == r.master() {
		r.joint = false
		if c.has[t] {
			if d := raw - c.lastRaw[t] - c.frame[t] - r.told; 4*d > 3*c.frame[t] {
				r.gap(d, r.reason())
			}
		}
	}
	var how step
	e.out, how = c.stamp(t, raw)
	switch how {
	case clamped:
		r.stats.Clamped++
	case made:
		r.stats.Made++
	}
	c.live(e.at, raw)
	if t == aud {
		r.loop.sound(r.past[t].count(e.sum) > 0)
	} else if r.loop.picture(e.key || e.flagged, e.sum, e.out, e.at) {
		r.sink.Repair(Repair{Kind: Replay, Out: e.out, What: ErrLoop.Error()})
	}
	r.past[t].add(pastTag{sum: e.sum, src: raw - c.offset[t], raw: raw, out: e.out})
	r.stats.LoopGOPs, r.loopDups, r.reported = 0, 0, false
	if !r.joint {
		r.why = ""
	}
	r.newAt = e.at
	r.order.push(t, e)
	r.drain(false)
}

const (
	maxEarly  = 128  // tags of sound that wait for the first key frame
	earlyTime = 1000 // ms that they may be ahead of it
)

// wait keeps sound that came before the first key frame: it may be from behind it all the same, where the tracks are
// sent out of step.
func (r *Repairer) wait(e entry) {
	if len(r.early) == maxEarly {
		r.account.PreRoll++
		n := copy(r.early, r.early[1:])
		r.early[n] = entry{}
		r.early = r.early[:n]
	}
	r.early = append(r.early, e)
}

// recall sends the sound that waited for the first frame e on its way behind it.
func (r *Repairer) recall(e *entry) {
	for i := len(r.early) - 1; i >= 0; i-- {
		if d := r.early[i].ext - e.ext; d < 0 || d > earlyTime {
			r.account.PreRoll++
			continue
		}
		r.resum(&r.early[i])
		r.work = append(r.work, r.early[i])
	}
	clear(r.early)
	r.early = r.early[:0]
}

// commit puts the new configuration in force, and with it what the sums are of: those of what came before it in this
// connection and is still to come are made anew.
func (r *Repairer) commit(e *entry) {
	r.gate.commit()
	was := r.samples
	if r.samples = r.cfg.samples || !r.gate.plain(); r.samples == was {
		return
	}
	r.resum(e)
	for i := range r.hold {
		r.resum(&r.hold[i])
	}
	for i := range r.work {
		r.resum(&r.work[i])
	}
}

// trackName is for people.
func trackName(t int) string {
	if t == aud {
		return "audio"
	}
	return "video"
}

// Account is the balance so far. Held is 0 after Disconnect.
func (r *Repairer) Account() segment.Account {
	a := r.account
	a.Held, _ = r.held()
	return a
}

// held counts the tags that came in and went nowhere yet, and their bytes.
func (r *Repairer) held() (tags, bytes int64) {
	count := func(es []entry) {
		for i := range es {
			if es[i].media() {
				tags++
				bytes += int64(len(es[i].body)) + tagOverhead
			}
		}
	}
	count(r.hold)
	count(r.early)
	count(r.work)
	count(r.order.q[vid].all())
	count(r.order.q[aud].all())
	return tags, bytes
}

const tagOverhead = 15 // header and trailer of a tag

// Configs is the current configuration, for the head of the next part.
func (r *Repairer) Configs() Configs { return r.gate.configs() }

// Epoch changes whenever the clock or the configuration does. Then the State that was stored last is out of date.
func (r *Repairer) Epoch() uint64 { return r.changes }

// Stats counts what was put right.
func (r *Repairer) Stats() Stats { return r.stats }

// Chain adds one item to the running hash of content. It begins with 0.
func Chain(h, ordinal, sum uint64) uint64 { return media.Chain(h, ordinal, sum) }
