package hlspull

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/recorder/hlspull/plan"
)

// WhyAd is the reason of a gap where advertising was left out.
const WhyAd = "advertisement"

// WhyCorrupt is the reason of a gap where what the source sent was not whole.
const WhyCorrupt = "corrupt at the source"

// WhyUnlisted is the reason of a gap where the clock and the dates of the list jump ahead together.
const WhyUnlisted = "missing in the playlist"

// item is what the engine gives to the emitter: a segment, or the place of one that is not to be had.
type item struct {
	track   int
	seg     plan.Segment
	load    load
	missing time.Duration // of what is not to be had
	why     string        // not empty: it is not to be had
	dup     bool          // it was handed on before
	open    bool          // parts of a segment: its place is not behind it
	end     bool          // nothing comes behind it
	wait    time.Duration // how long it may wait for its sound
}

// emitter takes segments apart and sends their packets, in order. It is a goroutine of its own.
type emitter struct {
	log    zerolog.Logger
	count  *tally
	memory *memory
	in     chan item     // sent by the engine; closed by it at the end
	bell   chan struct{} // sent by the emitter: there is room again, or it is starved; capacity 1
	// starved says that video has waited long enough for the oldest sound that is not here.
	starved atomic.Bool

	warned said
	pack   packer
	lanes  []*lane          // of each track
	edge   [2]time.Duration // where sound, and video, of the main clock end
	had    [2]bool
	step   [2]time.Duration // usual distance of two frames
	date   time.Time        // where the last segment ends, as the list says; zero: unknown
	told   [2]record
	gone   gone             // what is missing since the last segment of the main rendition
	quiet  gone             // what is missing of the sound
	rent   gone             // what is missing of a segment whose begin was sent
	place  place            // of the last segment
	past   [2]bool          // parts of the next segment were handed on, of sound, of video
	until  [2]time.Duration // as far as this
	owed   [2][]byte        // records of what is left out
	shift  time.Duration    // is added to the clock of the sound's own list
	fixed  bool             // shift holds
	begun  bool
	cut    bool // the last segment was not whole
	final  bool // nobody goes on behind it; set before in is closed
}

type record struct {
	codec media.Codec
	body  []byte
	set   bool
}

// said keeps the same warning from being given again and again.
type said struct {
	text string
	at   time.Time
}

// level is that of a warning: the same one counts for little for ten minutes.
func (s *said) level(text string) zerolog.Level {
	if text == s.text && time.Since(s.at) < 10*time.Minute {
		return zerolog.DebugLevel
	}
	s.text, s.at = text, time.Now()
	return zerolog.WarnLevel
}

// gone is a stretch that is not here.
type gone struct {
	length time.Duration
	why    string
	cut    bool // a discontinuity was declared in it
}

func (g *gone) add(length time.Duration, why string) {
	if length <= 0 {
		return
	}
	if g.why == "" || length > g.length {
		g.why = why // of several reasons that of the longest
	}
	g.length += length
}

// lane is one rendition.
type lane struct {
	opener *opener
	queue  []*opened
	torn   bool // what comes next does not follow what came last
	ended  bool
}

// opened is a segment that was taken apart, or the place of one that is missing.
type opened struct {
	item
	chunk   *chunk
	next    int  // first frame that was not sent
	starved bool // the engine was told that its sound is late
	since   time.Time
}

func newEmitter(e *engine, out chan<- *media.Batch) *emitter {
	m := &emitter{log: e.log, count: e.count, memory: e.memory, in: make(chan item, 8), bell: make(chan struct{}, 1)}
	m.pack = packer{out: out, count: e.count, hash: xxhash.New()}
	m.place = place{Version: placeVersion, Edge: [2]time.Duration{-1, -1}}
	for range e.tracks {
		m.lanes = append(m.lanes, &lane{opener: newOpener(e.memory)})
	}
	if p := e.s.place; p != nil {
		m.place = *p
		for k, at := range p.Edge {
			if at >= 0 {
				m.edge[k], m.had[k], m.begun = at, true, true
				m.until[k], m.past[k] = at, p.Open > 0
			}
		}
		if m.begun {
			near := max(m.edge[0], m.edge[1])
			for _, l := range m.lanes {
				l.opener.near, l.opener.known, l.torn = ticksOf(near), true, true
			}
		}
		if p.Video != nil && !p.Video.Date.IsZero() {
			m.date = p.Video.Date.Add(p.Video.Duration)
		}
	}
	return m
}

func ticksOf(d time.Duration) int64 {
	return int64(d/time.Second)*90_000 + int64(d%time.Second)*90_000/int64(time.Second)
}

// takes reports whether the engine can send without waiting.
func (m *emitter) takes() bool { return len(m.in) < cap(m.in) }

func (m *emitter) ring() {
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

// run ends when in is closed and all of it was sent.
func (m *emitter) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := m.flush(false)
		timer.Reset(wait)
		select {
		case it, more := <-m.in:
			if !more {
				m.flush(true)
				m.close()
				return
			}
			m.ring()
			m.take(it)
		case <-timer.C:
		}
	}
}

// take opens a segment.
func (m *emitter) take(it item) {
	l := m.lanes[it.track]
	if it.end {
		l.ended = true
		return
	}
	o := &opened{item: it, since: time.Now()}
	switch {
	case it.dup:
		m.count.junk(it.load.read)
		m.free(o)
		return
	case it.why != "" || it.load.plain == nil:
		l.torn = l.torn || it.missing > 0
	default:
		o.chunk = l.open(&it.load, l.torn || it.seg.Discontinuity)
		o.load.block, o.load.raw, o.load.plain = nil, nil, nil // what is needed of it the chunk holds
		l.torn = false
		if b := o.chunk.broken; b != nil {
			m.log.WithLevel(m.warned.level(b.Error())).Err(b).Uint64("msn", it.seg.Sequence).Msg("segment cannot be read to its end")
			if len(o.chunk.frames) == 0 {
				o.chunk.let()
				o.chunk, o.missing, o.why = nil, it.seg.Duration, "unreadable: "+b.Error()
				if errors.Is(b, errFault) {
					o.why = reason(b)
				}
				m.count.junk(it.load.read)
				m.free(o)
				l.torn = true
			}
		}
	}
	if it.track == 0 && o.chunk != nil && m.past != [2]bool{} && !m.trim(o) {
		m.count.junk(it.load.read)
		m.free(o)
		l.opener.done(o.chunk)
		return
	}
	l.queue = append(l.queue, o)
}

// open takes a segment apart. Where the disk fails under it, there is nothing in it, and whoever did it is of no more use.
func (l *lane) open(from *load, gap bool) (c *chunk) {
	o := l.opener
	err := o.memory.guard(func() { c = o.open(from, gap) })
	if err == nil {
		err = o.settle(c)
	}
	if err == nil {
		return c
	}
	if c == nil {
		c = o.chunk
	}
	c.frames, c.broken = nil, err
	l.opener = newOpener(o.memory)
	l.opener.near, l.opener.known = o.near, o.known
	return c
}

// trim takes out of a segment what was handed on of its parts when the stream seemed to be over. It reports whether
// anything is left.
func (m *emitter) trim(o *opened) bool {
	if v := m.place.Video; v == nil || o.seg.Epoch != v.Epoch || o.seg.Number != v.Number+1 {
		m.past = [2]bool{} // it is another one
		return true
	}
	kept := o.chunk.frames[:0]
	for _, f := range o.chunk.frames {
		if !m.passed(&f) {
			kept = append(kept, f)
		}
	}
	o.chunk.frames = kept
	if len(kept) == 0 && !o.open {
		at := o.seg.Place(time.Now())
		m.place.Video, m.place.Open, m.past = &at, 0, [2]bool{}
	}
	return len(kept) > 0
}

// passed reports whether a frame of the segment behind the place was handed on before. Once one was not, none is. The
// record that a frame brings goes over to the next one.
func (m *emitter) passed(f *frame) bool {
	k := kindOf(f.video)
	if !m.past[k] {
		return false
	}
	if d := m.until[k] - f.dts; d > time.Millisecond && d < m.place.Open+time.Second {
		if f.config != nil {
			m.owed[k] = f.config
		}
		return true
	}
	m.past[k] = false
	if f.config == nil {
		f.config = m.owed[k]
	}
	return false
}

func (m *emitter) free(o *opened) {
	o.load.block.drop()
	o.load.block = nil
	if o.chunk != nil {
		o.chunk.let()
	}
}

// flush sends all that can be sent, and says how long to wait for the rest. all: nothing more will come.
func (m *emitter) flush(all bool) time.Duration {
	main := m.lanes[0]
	for len(main.queue) > 0 {
		o := main.queue[0]
		if o.chunk != nil && len(m.lanes) > 1 && !all {
			if wait := m.paired(o); wait > 0 {
				return wait
			}
		}
		main.queue[0] = nil
		main.queue = main.queue[1:]
		m.send(o)
	}
	if len(m.lanes) > 1 && main.ended || all {
		for _, l := range m.lanes[1:] {
			if main.ended && !l.ended && !all {
				continue
			}
			m.rest(l)
		}
	}
	return time.Hour
}

// paired says how long a segment has to wait for the sound that belongs to it, 0 if it need not.
func (m *emitter) paired(o *opened) time.Duration {
	l := m.lanes[1]
	if l.ended {
		return 0
	}
	patience := o.wait
	if !m.begun {
		patience *= 3 // what begins without sound becomes a part without
	}
	m.align(o)
	_, end, _ := o.chunk.span(o.video())
	if m.fixed && m.reach(l, end) >= end-m.step[0] {
		return 0
	}
	left := time.Until(o.since.Add(patience))
	if left > 0 {
		return left
	}
	// What holds it up is given up, so that the rest of the sound comes in time. The engine answers at once.
	if !o.starved {
		o.starved = true
		m.starved.Store(true)
		m.ring()
	}
	return max(left+answer, 0)
}

// answer is how long the engine may take to give up what holds up the sound.
const answer = 200 * time.Millisecond

func (o *opened) video() bool {
	_, _, ok := o.chunk.span(true)
	return ok
}

// reach is how far the sound is known, on the main clock, of what does not lie far beyond end: what is missing of it counts.
func (m *emitter) reach(l *lane, end time.Duration) time.Duration {
	at := time.Duration(math.MinInt64)
	if m.had[0] {
		at = m.edge[0]
	}
	for _, o := range l.queue {
		if o.chunk == nil {
			if at != math.MinInt64 {
				at += o.missing
			}
			continue
		}
		if first, last, ok := o.chunk.span(false); ok && first+m.shift < end+apart {
			at = max(at, last+m.shift)
		}
	}
	return at
}

// apart is how far the clocks of two lists may differ at the same moment before they are two clocks.
const apart = 10 * time.Second

// align finds out how the clock of the sound's own list lies to the main one: they are one by the rules, unless dates
// say otherwise, or they are far apart. It is done once, and again where both begin anew in different ways.
func (m *emitter) align(o *opened) {
	if m.fixed && !o.seg.Discontinuity {
		return
	}
	begin, _, here := o.chunk.span(o.video())
	if !here {
		return
	}
	var with *opened
	for _, s := range m.lanes[1].queue {
		if s.chunk == nil {
			continue
		}
		at, _, ok := s.chunk.span(false)
		switch {
		case !ok:
		case m.fixed && (at+m.shift-begin).Abs() < apart:
			return // as it was
		case with == nil && (!m.fixed || s.seg.Discontinuity):
			with = s
		}
	}
	if with == nil {
		return
	}
	at, _, _ := with.chunk.span(false)
	d := at - begin
	switch dated := !with.seg.Date.IsZero() && !o.seg.Date.IsZero(); {
	case dated && (d-with.seg.Date.Sub(o.seg.Date)).Abs() > time.Second && d.Abs() > time.Second:
		m.shift = with.seg.Date.Sub(o.seg.Date) - d
	case !dated && d.Abs() > apart:
		m.shift = -d
	default:
		m.shift = 0
	}
	m.fixed = true
}

// over reports whether the oldest sound is of a clock that is over: it lies far beyond end, and what comes behind it
// does not.
func (m *emitter) over(l *lane, begin, end time.Duration) bool {
	for _, o := range l.queue[1:] {
		if o.chunk == nil {
			continue
		}
		if at, _, ok := o.chunk.span(false); ok && at+m.shift > begin-apart && at+m.shift < end+apart {
			return true
		}
	}
	return false
}

// send hands on one segment of the main rendition, and the sound that belongs to it.
func (m *emitter) send(o *opened) {
	if o.chunk == nil {
		m.gone.add(o.missing+o.seg.Lost, o.why)
		m.gone.cut = m.gone.cut || o.seg.Discontinuity
		m.free(o)
		return
	}
	m.pack.at = o.load.at
	frames := o.chunk.frames
	var used []*opened
	var sound []frame
	if len(m.lanes) > 1 {
		m.align(o)
		begin, end, _ := o.chunk.span(o.video())
		sound, used = m.sound(begin, end)
		frames = merge(frames, sound)
	}
	m.join(o, sound)
	m.configs(frames)
	if len(m.lanes) > 1 && !m.told[0].set {
		for _, s := range m.lanes[1].queue { // it begins later, and belongs to the same part
			if s.chunk != nil && len(s.chunk.frames) > 0 {
				m.configs(s.chunk.frames)
				break
			}
		}
	}
	for i := range frames {
		if err := m.frame(&frames[i]); err != nil {
			m.log.WithLevel(m.warned.level(err.Error())).Err(err).Uint64("msn", o.seg.Sequence).Msg("segment cannot be read to its end")
			_, end, _ := o.chunk.span(o.video())
			m.rent.add(end-frames[i].dts, reason(err))
			break
		}
	}
	m.begun = true
	m.cut = o.load.torn || o.chunk.broken != nil
	m.count.tags(o.load.read)
	m.free(o)
	m.lanes[0].opener.done(o.chunk)
	for _, s := range used {
		m.count.tags(s.load.read)
		m.free(s)
		m.lanes[1].opener.done(s.chunk)
	}
	m.pack.flush()
}

// sound takes the frames of the sound's own list that belong before end. used are the segments that are at their end.
func (m *emitter) sound(begin, end time.Duration) (frames []frame, used []*opened) {
	l := m.lanes[1]
	fresh := m.gone.length > 0 || !m.begun
	for len(l.queue) > 0 {
		o := l.queue[0]
		if o.chunk == nil {
			if m.had[0] && m.edge[0]+m.quiet.length >= end {
				return frames, used // it belongs to what comes later
			}
			m.quiet.add(o.missing, "sound: "+o.why)
			l.queue = l.queue[1:]
			continue
		}
		for ; o.next < len(o.chunk.frames); o.next++ {
			f := o.chunk.frames[o.next]
			if f.video {
				continue
			}
			f.dts += m.shift
			f.pts += m.shift
			if m.passed(&f) {
				continue
			}
			switch {
			case f.dts >= end+apart && m.over(l, begin, end):
				m.late(&f)
				continue
			case f.dts >= end:
				return frames, used
			case fresh && f.dts < begin-100*time.Millisecond:
				continue // from before the begin, or from where the picture is missing as well
			case f.dts < begin-apart:
				m.late(&f)
				continue
			}
			frames = append(frames, f)
		}
		if !o.open {
			id := o.seg.Place(time.Now())
			m.place.Audio = &id
		}
		used = append(used, o)
		l.queue = l.queue[1:]
	}
	return frames, used
}

// late admits sound that came when its picture had been handed on long ago, or its clock was over.
func (m *emitter) late(f *frame) {
	if m.begun {
		m.quiet.add(max(f.lasts, m.step[0]), "sound: it came too late")
	}
}

// merge puts two rows of frames into one, by DTS.
func merge(a, b []frame) []frame {
	if len(b) == 0 {
		return a
	}
	all := make([]frame, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if b[0].dts < a[0].dts {
			all, b = append(all, b[0]), b[1:]
		} else {
			all, a = append(all, a[0]), a[1:]
		}
	}
	return append(append(all, a...), b...)
}

// rest hands on sound that is left when the main rendition has ended.
func (m *emitter) rest(l *lane) {
	for _, o := range l.queue {
		if o.chunk == nil {
			m.free(o)
			continue
		}
		for ; o.next < len(o.chunk.frames) && m.begun; o.next++ {
			f := o.chunk.frames[o.next]
			f.dts, f.pts = f.dts+m.shift, f.pts+m.shift
			if !f.video && f.dts < m.edge[1]+time.Second && !m.passed(&f) && m.frame(&f) != nil {
				break
			}
		}
		m.count.tags(o.load.read)
		m.free(o)
	}
	l.queue = nil
}

// join says how a segment goes on. sound is what belongs to it of the sound's own list.
func (m *emitter) join(o *opened, sound []frame) {
	m.gone.add(m.rent.length, m.rent.why)
	m.rent = gone{}
	s := &media.Seam{Missing: m.gone.length + o.seg.Lost, Why: m.gone.why, At: o.seg.Date}
	if o.seg.Lost > m.gone.length {
		s.Why = "the packager began anew"
	}
	tagged := o.seg.Discontinuity || m.gone.cut
	k := kindOf(o.video())
	first, end, _ := o.chunk.span(o.video())
	d := first - m.edge[k]
	switch {
	case !m.had[k]:
		s.Discontinuity = m.begun || !m.had[0] && !m.had[1]
	case s.Missing > 0:
		if s.Discontinuity = (d - s.Missing).Abs() > max(time.Second, s.Missing/4); !s.Discontinuity {
			s.Missing = d // the clock knows it better than the list
		}
	case tagged:
		s.Discontinuity = d.Abs() > max(100*time.Millisecond, 2*m.step[k])
	default:
		s.Discontinuity = d > time.Second || d < -100*time.Millisecond
	}
	if s.Missing == 0 && d > time.Second && m.had[k] && !m.date.IsZero() && o.seg.Dated && !tagged {
		if by := o.seg.Date.Sub(m.date); (by - d).Abs() < time.Second {
			s.Discontinuity, s.Missing, s.Why = false, d, WhyUnlisted
		}
	}
	if s.Missing == 0 && m.cut && m.had[k] && !tagged && d > 2*m.step[k] && d < time.Minute {
		s.Discontinuity, s.Missing, s.Why = false, d, WhyCorrupt
	}
	m.cut = false
	if s.Missing <= 0 && m.quiet.length > 0 {
		s.Missing, s.Why = m.quiet.length, m.quiet.why
	}
	if s.Missing < 0 {
		s.Missing = 0
	}
	m.gone, m.quiet = gone{}, gone{}
	if s.Discontinuity {
		m.had = [2]bool{}
	}
	if o.open {
		m.place.Open += end - first
	} else {
		at := o.seg.Place(time.Now())
		m.place.Video, m.place.Open = &at, 0
	}
	m.place.Edge = [2]time.Duration{-1, -1}
	for k := range m.place.Edge {
		if _, e, ok := o.chunk.span(k == 1); ok && e >= 0 {
			m.place.Edge[k] = e
		} else if m.had[k] {
			m.place.Edge[k] = m.edge[k]
		}
	}
	if n := len(sound); n > 0 {
		m.place.Edge[0] = sound[n-1].dts + max(sound[n-1].lasts, m.step[0])
	}
	m.date = time.Time{}
	if !o.seg.Date.IsZero() {
		m.date = o.seg.Date.Add(o.seg.Duration)
	}
	note, err := json.Marshal(m.place)
	if err != nil {
		note = nil // dates beyond year 9999: it goes on without
	}
	s.Place = note
	m.pack.add(media.Packet{Kind: media.Join, Seam: s, Exact: first, DTS: millis(first)}, nil, nil)
}

// configs tells the records that a segment begins with before any of its frames, so that a part can begin with both.
func (m *emitter) configs(frames []frame) {
	var seen [2]bool
	for i := range frames {
		f := &frames[i]
		if k := kindOf(f.video); !seen[k] {
			seen[k] = true
			m.config(f)
		}
		if seen[0] && seen[1] {
			return
		}
	}
}

// config tells a record if a decoder would find it different from the one before.
func (m *emitter) config(f *frame) {
	if f.config == nil {
		return
	}
	r := &m.told[kindOf(f.video)]
	if r.set && r.codec == f.codec && (string(r.body) == string(f.config) || codec.Equal(f.codec, r.body, f.config)) {
		return
	}
	*r = record{f.codec, f.config, true}
	p := media.Packet{Kind: media.AudioConfig, Codec: f.codec, Key: true, Exact: f.dts, DTS: millis(f.dts)}
	if f.video {
		p.Kind = media.VideoConfig
	}
	m.pack.add(p, f.config, nil)
}

// frame hands on one frame. The error is that of the disk under it.
func (m *emitter) frame(f *frame) error {
	m.config(f)
	k := kindOf(f.video)
	if len(f.data) == 0 {
		return nil
	}
	if len(f.data) > media.MaxBody {
		m.log.Warn().Int("bytes", len(f.data)).Msg("frame is larger than any may be")
		return nil
	}
	shift := f.pts - f.dts
	p := media.Packet{Kind: media.Audio, Codec: f.codec, Key: f.key, Exact: f.dts, DTS: millis(f.dts), Shift: shift, CTS: int32(millis(shift))}
	if f.video {
		p.Kind = media.Video
	}
	if f.block != nil && f.block.file != nil {
		if err := m.memory.guard(func() { m.pack.add(p, f.data, f.block) }); err != nil {
			return err
		}
	} else {
		m.pack.add(p, f.data, f.block)
	}
	if m.had[k] {
		if d := f.dts - m.edge[k] + m.step[k]; d > 0 && d < time.Second {
			m.step[k] = d
		}
	}
	if f.lasts > 0 {
		m.step[k] = f.lasts
	}
	m.edge[k], m.had[k] = f.dts+m.step[k], true
	return nil
}

// close sends what is left: a last Join, which says that all before it is whole.
func (m *emitter) close() {
	for _, l := range m.lanes {
		for _, o := range l.queue {
			m.free(o)
		}
	}
	if m.begun && m.place.Video != nil {
		if note, err := json.Marshal(m.place); err == nil {
			if !m.final {
				m.gone = gone{} // whoever goes on tries it again, and tells it then
			}
			m.gone.add(m.rent.length, m.rent.why)
			m.pack.add(media.Packet{Kind: media.Join, Seam: &media.Seam{Missing: m.gone.length, Why: m.gone.why, Place: note}, Exact: m.edge[1], DTS: millis(m.edge[1])}, nil, nil)
		}
	}
	m.pack.flush()
	sendCount(m.pack.out, m.count)
}

// millis rounds down.
func millis(d time.Duration) int64 {
	n := int64(d / time.Millisecond)
	if d < 0 && d%time.Millisecond != 0 {
		n--
	}
	return n
}

// packer fills batches: with what lies in the memory of segments, which the receiver gives back, and with copies of what
// lies in files.
type packer struct {
	out    chan<- *media.Batch
	count  *tally
	hash   *xxhash.Digest
	b      *media.Batch
	slab   bool // b has room of its own
	n      int  // bytes of b
	blocks []*block
	at     time.Time
}

// mostPackets is how many packets travel in one batch.
const mostPackets = 512

// add adds one packet, whose body lies in a block; nil: it is nobody's.
func (p *packer) add(k media.Packet, data []byte, in *block) {
	slab := in != nil && in.file != nil
	if p.b != nil && (p.n+len(data) > max(media.SlabSize, len(p.b.Bytes())) || len(p.b.Packets) >= mostPackets || slab != p.slab && len(data) > 0) {
		p.flush()
	}
	if p.b == nil {
		if p.slab = slab; slab {
			p.b = media.Get(len(data))
		} else {
			p.b = media.Bare()
		}
	}
	k.Body = data
	switch {
	case p.slab:
		at := p.n
		k.Body = p.b.Bytes()[at : at+copy(p.b.Bytes()[at:], data)]
		k.Body = k.Body[:len(k.Body):len(k.Body)]
	case in != nil && (len(p.blocks) == 0 || p.blocks[len(p.blocks)-1] != in):
		in.hold()
		p.blocks = append(p.blocks, in)
	}
	p.n += len(data)
	switch k.Kind {
	case media.Video:
		k.Sum = p.sum(9, k.Body)
	case media.Audio:
		k.Sum = p.sum(8, k.Body)
	}
	p.b.Packets = append(p.b.Packets, k)
}

func (p *packer) sum(kind byte, data []byte) uint64 {
	p.hash.Reset()
	p.hash.Write([]byte{kind})
	p.hash.Write(data)
	return p.hash.Sum64()
}

func (p *packer) flush() {
	if p.b == nil {
		return
	}
	b := p.b
	if !p.slab {
		blocks := slices.Clone(p.blocks)
		b.Owe(p.n, func() {
			for _, x := range blocks {
				x.drop()
			}
		})
	}
	clear(p.blocks)
	p.b, p.n, p.blocks = nil, 0, p.blocks[:0]
	b.Count = p.count.take()
	if b.At = p.at; b.At.IsZero() {
		b.At = time.Now()
	}
	p.out <- b
}
