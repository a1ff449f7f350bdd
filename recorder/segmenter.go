package recorder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// DiskError is trouble of our own disk. Everything that was whole before it is kept.
type DiskError struct{ Err error }

func (e *DiskError) Error() string { return "write media: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *DiskError) Unwrap() error { return e.Err }

// Segmenter writes the output of a Repairer into parts and cuts them. It belongs to one goroutine at a time: the writer
// while there is a connection, the recorder loop else. It takes no lock and waits for the ledger only before the first
// frame of a part, which is begun ahead of the cut.
//
// I2: the bytes of a part at or above its head are appended and never change; the doorbell rings for what is fsynced.
type Segmenter struct {
	room segment.Room
	// bounds are those of the open part: limit, hard (without a key frame) and least in ms, most in bytes.
	bounds
	newest *atomic.Pointer[bounds] // for the next part
	taken  *bounds                 // the newest of which the open part knows
	want   Container
	// samples says that the Repairer knows frames by their data alone, whatever they come from (repair.Config.Samples).
	samples bool
	dir     *durable.Dir
	clerk   *clerk
	sealer  *sealer
	log     zerolog.Logger
	// enter finds the session to write into. It is called before the first part of a session.
	enter   func(ctx context.Context, at time.Time) (segment.Entry, error)
	repairs repairs
	view    *view
	split   atomic.Bool // somebody asked for a cut

	ctx       context.Context // of the writes: hard
	session   segment.SessionID
	next      uint32          // number of the next part to begin
	begun     *call           // its Begin, nil if nobody asked for it
	beginning segment.Segment // that Begin
	begunHead int64
	late      bool // the ledger was waited for, in vain
	part      *part
	slab      []byte        // see lend
	lastSeq   uint32        // of the part before the open one
	lastEnd   time.Duration // its duration
	spare     []byte        // write buffer of the next part
	configs   configs
	gops      gops
	recovered bool // the open part is an earlier process's, and nothing was added to it
	noteDue   bool
	epoch     uint64
	noted     uint64    // the Epoch of last
	heard     time.Time // when the last written frame was received
	lastOut   int64     // its output time
	lost      lost
	last      note                     // the last one
	cuts      map[uint32]segment.Cause // of the newest closed parts: they may not be sealed yet
	ends      map[uint32]partEnd       // of the same ones
	seen      time.Time                // when a video frame was written, or any frame of a room without video
	adjust    segment.Account
	gaps      int
	gapTime   time.Duration
	lastGap   segment.Gap
	retold    bool      // lastGap is an earlier process's, and so short that whoever goes on finds the same hole again
	blank     time.Time // when the first frame came, if none could be written yet
	blankAt   int64     // its time on the source's clock
	refused   refused
	owed      segment.Gap // what a failed write cost; the Repairer finds it with what follows, if anything follows
}

// lost is a stretch at the begin of a part that cannot be decoded because its key frame is elsewhere.
type lost struct {
	frames int64
	from   int64 // output time
	why    string
	wait   bool // the next part must wait for a key frame
}

// refused is a stretch of frames that the container does not take.
type refused struct {
	frames int64
	from   int64 // output time
	seq    uint32
	at     time.Duration // the place in part seq
	why    string
}

// repairs is the Repairer that feeds the Segmenter, as the Segmenter sees it.
type repairs interface {
	// State describes what was handed out so far.
	State() repair.State
	// Digests are those of the last half minute, for the State of a part that may be away before the next one begins.
	Digests() []byte
	// Epoch changes whenever what the last State said of the clock or the configuration is out of date.
	Epoch() uint64
	// Rebuild puts another Repairer in place of one whose Sink failed: it goes on from what is on the disk.
	Rebuild(s repair.State, tail []repair.TailTag)
}

var _ repair.Sink = (*Segmenter)(nil)

// repairing is what a Repairer must be told that feeds the Segmenter.
func (s *Segmenter) repairing() repair.Config { return repair.Config{Samples: s.samples} }

// Config takes the codec configuration: a new part begins with the next frame.
func (s *Segmenter) Config(c repair.Configs) error {
	if s.part != nil {
		cause := segment.CutHeader
		if s.recovered {
			cause = segment.CutRecovered
		}
		if err := s.Close(cause); err != nil {
			return err
		}
	}
	s.configs = newConfigs(c)
	s.lost.wait = false // a key frame is next, or the sound that belongs to it
	s.gops.broken()
	return nil
}

// Media writes one frame.
func (s *Segmenter) Media(it *repair.Item) error {
	start := it.Kind == media.Video && it.Key || len(s.configs.video) == 0
	if s.part != nil {
		if cause := s.before(it, start); cause != segment.CutNone {
			if err := s.cut(cause); err != nil {
				return err
			}
		}
	}
	if s.part == nil {
		if s.lost.wait && !start {
			s.lose(it)
			return nil
		}
		if err := s.open(it); err != nil {
			s.gops.broken()
			s.lost = lost{wait: true, why: whyDisk}
			if e, ok := errors.AsType[*ContainerError](err); ok {
				s.lost.why = e.Error()
			} else {
				s.blanks(it.At, it.DTS)
			}
			s.repairs.Rebuild(s.last.Repair, s.tail())
			return err
		}
		s.found(it)
	}
	s.part.slab = s.slab
	switch err := s.part.take(it); {
	case errors.Is(err, errRefused):
		s.refuse(it, err)
		return nil
	case err != nil:
		return s.fail(err)
	case s.refused.frames > 0:
		s.accepted(it)
	}
	s.heard, s.lastOut, s.owed = it.At, it.Out, segment.Gap{}
	if it.Kind == media.Video || len(s.configs.video) == 0 {
		s.seen = it.At
	}
	s.recovered = false
	return nil
}

// lend says that the frames which follow may lie in slab, and that keep is called before it is given back: until then
// they need not be copied.
func (s *Segmenter) lend(slab []byte) { s.slab = slab }

// keep ends the loan.
func (s *Segmenter) keep() error {
	s.slab = nil
	if s.part == nil {
		return nil
	}
	if err := s.part.keep(); err != nil {
		return s.fail(err)
	}
	return nil
}

// before says whether the part must end before this frame, and why.
func (s *Segmenter) before(it *repair.Item, start bool) segment.Cause {
	p := s.part
	if start {
		s.gops.begin(it.Out, p.size())
	}
	if p.count == 0 {
		return segment.CutNone
	}
	if b := s.newest.Load(); b != s.taken {
		s.adapt(b)
	}
	now := it.Out - p.base
	switch {
	case p.size()+p.grows(len(it.Body)) > s.most:
		return segment.CutSize
	case now >= s.hard && it.Out-max(s.gops.start, p.base) >= s.hard-s.limit:
		return s.ifReady(segment.CutTime) // no key frame since the limit, or for as long
	case !start:
	case s.split.Load():
		if cause := s.ifReady(segment.CutSplit); cause != segment.CutNone {
			s.split.Store(false)
			return cause
		}
	case p.size()+s.gops.largest() > s.most:
		return s.ifReady(segment.CutSize)
	case now+s.gops.longest() > s.limit && now >= s.least:
		return s.ifReady(segment.CutTime)
	}
	return segment.CutNone
}

// adapt takes limits over for the open part as far as it can have them: never wider ones, for which its head has no room,
// and no size that it has reached already, which would cut it in the middle of a group of pictures.
func (s *Segmenter) adapt(b *bounds) {
	s.taken = b
	s.limit, s.hard, s.least = min(s.limit, b.limit), min(s.hard, b.hard), min(s.least, b.least)
	switch {
	case b.most >= s.most:
	case s.part.size()+2*s.gops.largest() < b.most:
		s.most = b.most
	default:
		s.split.Store(true)
	}
}

// refuse accounts for a frame that the container does not take.
func (s *Segmenter) refuse(it *repair.Item, err error) {
	if s.refused.frames == 0 {
		s.refused.from, s.refused.why = it.Out, err.Error()
		s.refused.seq, s.refused.at = s.place()
	}
	s.refused.frames++
	s.adjust.Written--
	s.adjust.Dropped++
}

// accepted ends such a stretch.
func (s *Segmenter) accepted(it *repair.Item) {
	r := s.refused
	s.refused = refused{}
	s.miss(segment.Gap{Session: s.session, AfterSeq: r.seq, At: it.At.UTC(), AtMedia: r.at, Length: ms(max(it.Out-r.from, 0)), Why: r.why})
}

// ifReady gives the cause back if the next part is begun, or becomes so in a moment. Else the part grows on: a ledger
// that does not answer costs a limit, not a frame.
func (s *Segmenter) ifReady(c segment.Cause) segment.Cause {
	s.prepare()
	select {
	case <-s.begun.done:
		return c
	default:
	}
	if s.late {
		return segment.CutNone
	}
	t := time.NewTimer(beginWait)
	defer t.Stop()
	select {
	case <-s.begun.done:
		return c
	case <-t.C:
		s.late = true // once is enough
		return segment.CutNone
	case <-s.ctx.Done():
		return segment.CutNone
	}
}

func (s *Segmenter) name(seq uint32, kind Container) segment.Segment {
	id := segment.ID{Session: s.session, Seq: seq}
	return segment.Segment{ID: id, Room: s.room.ID, Path: path.Join("media", string(s.session), id.Base()+"."+string(kind))}
}

// prepare tells the ledger that the next part begins, unless that was done.
func (s *Segmenter) prepare() {
	if s.begun != nil || s.session == "" {
		return
	}
	seg := s.name(s.next, s.configs.choose(s.want))
	seg.Start = time.Now().UTC()
	seg.Head = s.begunHead
	s.begun = s.clerk.begin("begin "+seg.ID.String(), func(ctx context.Context) error { return s.clerk.journal.Begin(ctx, seg) })
	s.beginning = seg
}

// unprepare takes the next part back, because there will be none.
func (s *Segmenter) unprepare() {
	if s.begun == nil {
		return
	}
	if !s.clerk.unbegin(s.begun) {
		s.void(s.beginning, s.begun)
	}
	s.begun = nil
}

// rename takes the next part back if it was begun for another container than it gets.
func (s *Segmenter) rename(kind Container) error {
	if s.begun == nil || s.beginning.Path == s.name(s.next, kind).Path {
		return nil
	}
	if !s.clerk.unbegin(s.begun) {
		c := s.void(s.beginning, s.begun)
		select {
		case <-c.done:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	s.begun = nil
	return nil
}

// void takes back a segment that was begun and has no frame. An attempt to write it may have left a file without one.
// begin is its Begin, nil if that was certainly heard: else it is said again, which is harmless, so that there is
// something to take back.
func (s *Segmenter) void(seg segment.Segment, begin *call) *call {
	return s.clerk.say("void "+seg.ID.String(), func(ctx context.Context) error {
		counted := begin == nil
		if !counted {
			select {
			case <-begin.done:
				counted = true
			default:
				if err := s.clerk.journal.Begin(ctx, seg); err != nil {
					return err
				}
			}
		}
		if err := s.dir.Remove(seg.Path + segment.PartSuffix); err != nil {
			return err
		}
		if err := s.clerk.journal.Void(ctx, seg.ID); err != nil {
			return err
		}
		if counted {
			s.clerk.count(-1)
		}
		return nil
	})
}

// open begins a part with this frame.
func (s *Segmenter) open(it *repair.Item) error {
	s.taken = s.newest.Load()
	s.bounds = *s.taken
	kind := s.configs.choose(s.want)
	c, begin, err := newContainer(kind, s.configs, ms(s.hard), !s.samples)
	if err != nil {
		return fmt.Errorf("begin a part: %w", err)
	}
	if s.session == "" {
		e, err := s.enter(s.ctx, it.At)
		if err != nil {
			return err
		}
		s.session, s.next = e.Session.ID, max(e.NextSeq, 1)
	}
	s.begunHead = c.head()
	if err := s.rename(kind); err != nil {
		return fmt.Errorf("begin a part: %w", err)
	}
	s.prepare()
	select {
	case <-s.begun.done:
	case <-s.ctx.Done():
		return fmt.Errorf("begin a part: %w", s.ctx.Err())
	}
	seg := s.name(s.next, kind)
	seg.Start, seg.Head = it.At.UTC(), c.head()
	file, err := s.create(seg.Path + segment.PartSuffix)
	if err != nil {
		return &DiskError{err} // the number stays begun, for the next attempt
	}
	s.begun, s.begunHead, s.late = nil, c.head(), false
	s.next++
	buf := s.spare
	if buf == nil {
		buf = make([]byte, 0, writeBuffer)
	}
	s.spare = nil
	s.part = &part{output: output{file: file, buf: append(buf[:0], begin...)}, container: c, seg: seg, base: it.Out, exact: it.Time, source: it.DTS,
		since: it.At, patched: it.At, patchedSize: int64(len(begin)), durable: new(atomic.Int64)}
	if s.gops.open {
		s.gops.moved(c.size())
	} else if it.Key || len(s.configs.video) == 0 {
		s.gops.begin(it.Out, c.size())
	}
	s.noteDue = true
	s.log.Info().Str("session", string(s.session)).Uint32("seq", seg.ID.Seq).Msg("segment begun")
	if s.last.Version == 0 || s.noted != s.repairs.Epoch() || !closeBy(baseOf(seg.ID.Seq, s.last), it.Out) {
		// Without any note a next process would know nothing of the source's clock and place, and with one from before a hole
		// it would find that hole again in front of what follows.
		s.await(s.extend(s.part, s.note(s.part)))
	}
	return nil
}

// closeBy reports whether two output times are as far apart as rounding, or the length of a last frame, puts them.
func closeBy(a, b int64) bool { return max(a-b, b-a) <= 100 }

// await waits for the ledger, for a moment.
func (s *Segmenter) await(c *call) {
	t := time.NewTimer(gapWait)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// create makes the file of a part. One that is there already has this number and no media in it: an attempt to begin
// this part was cut short.
func (s *Segmenter) create(name string) (*durable.File, error) {
	f, err := s.dir.Create(name)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if f, err = s.dir.Edit(name); err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// cut ends the open part at the last frame that was written.
func (s *Segmenter) cut(cause segment.Cause) error {
	p := s.part
	if err := p.save(); err != nil {
		return s.fail(err)
	}
	s.release(cause)
	return nil
}

// release gives the open part to the sealer.
func (s *Segmenter) release(cause segment.Cause) {
	p := s.part
	s.part = nil
	p.sealing.Store(true)
	s.clerk.forget(p)
	seg := p.measure()
	seg.Cut = cause
	s.lastSeq, s.lastEnd = seg.ID.Seq, seg.Duration
	for seq := range s.cuts {
		if seq+8 <= seg.ID.Seq {
			delete(s.cuts, seq)
			delete(s.ends, seq)
		}
	}
	if s.ends == nil {
		s.ends = map[uint32]partEnd{}
	}
	s.ends[seg.ID.Seq] = partEnd{Frames: p.count, Place: seg.Duration.Milliseconds()}
	n := s.note(p)
	n.Closed, n.Place = cause, seg.Duration.Milliseconds()
	switch cause {
	case segment.CutStop, segment.CutPause, segment.CutRecovered: // the next part may be another process's
		n.Repair.Digests = s.repairs.Digests()
	}
	s.cuts[seg.ID.Seq] = cause
	s.extend(p, n)
	s.spare, p.buf = p.buf, nil
	s.sealer.seal(p, seg)
}

func (s *Segmenter) extent(p *part, size int64) segment.Extent {
	v, a := p.frames()
	return segment.Extent{Durable: size, Duration: p.duration(), VideoFrames: v, AudioFrames: a, At: s.heard.UTC()}
}

// note describes the open part, of which everything is in the file.
func (s *Segmenter) note(p *part) note {
	s.noted = s.repairs.Epoch()
	s.last = note{
		Version: noteVersion, Samples: s.samples, File: p.memo(), Seq: p.seg.ID.Seq, Head: p.seg.Head, Base: p.base, Size: p.file.Size(), Frames: p.count, Content: p.content(),
		Cuts: maps.Clone(s.cuts), Ends: maps.Clone(s.ends), Repair: s.repairs.State(), Adjust: s.adjust, Gaps: s.gaps, GapTime: s.gapTime.Milliseconds(), Gap: s.lastGap,
	}
	return s.last
}

// Tick writes, patches, syncs and begins ahead what is due. It is called after every batch and at least every
// flushEvery while a part is open, never from inside the Repairer.
func (s *Segmenter) Tick(now time.Time) error { return s.tick(now, false) }

// Rest is a Tick after which nothing waits any more: no more is coming for a while, and nobody will look at the clock.
func (s *Segmenter) Rest(now time.Time) error { return s.tick(now, true) }

func (s *Segmenter) tick(now time.Time, rest bool) error {
	p := s.part
	if p == nil {
		return nil
	}
	if err := p.trouble.Load(); err != nil {
		p.save() // what can be saved; what cannot is missed below
		return s.fail(*err)
	}
	if s.near(p) {
		s.prepare()
	}
	if p.synced.IsZero() && !rest && !p.complete() && now.Sub(p.since) < flushEvery {
		return nil // its head comes with the first frame of the other track
	}
	if e := s.repairs.Epoch(); e != s.epoch {
		s.epoch, s.noteDue = e, true
	}
	fresh := p.synced.IsZero()
	due := fresh || rest || now.Sub(p.synced) >= syncEvery || s.noteDue
	if p.waiting() && (due || now.Sub(p.since) >= flushEvery) {
		if err := p.save(); err != nil {
			return s.fail(err)
		}
	}
	if (rest || now.Sub(p.patched) >= patchEvery) && p.file.Size()+int64(p.waits()) > p.patchedSize {
		if err := p.save(); err != nil {
			return s.fail(err)
		}
		if err := p.patch(now); err != nil { // an old index costs nobody a frame; the sealer tries again
			s.log.Warn().Err(err).Uint32("seq", p.seg.ID.Seq).Msg("index of the open part cannot be renewed now")
		}
	}
	size := p.file.Size()
	if !due || size == p.wished && !s.noteDue {
		return nil
	}
	w := &syncWork{part: p, extent: s.extent(p, size)}
	if s.noteDue || rest || now.Sub(p.toldAt) >= extendEvery || size/chunkStep != p.told/chunkStep {
		w.tell, w.extent.State = true, s.note(p).encode()
		p.told, p.toldAt, s.noteDue = size, now, false
	}
	p.synced, p.wished = now, size
	s.clerk.sync(w)
	return nil
}

// near reports whether the end of the part comes into sight.
func (s *Segmenter) near(p *part) bool {
	if s.begun != nil {
		return false
	}
	lead := max(2*s.gops.longest(), min(s.limit/4, 10_000))
	return s.lastOut-p.base+lead >= s.limit || p.size()+2*s.gops.largest() >= s.most || s.split.Load()
}

// Close ends the open part, if there is one. Frames that were written stay, also after an error.
func (s *Segmenter) Close(cause segment.Cause) error {
	s.gops.broken()
	if cause != segment.CutHeader && cause != segment.CutRecovered {
		s.lost.wait = true // what continues the group of pictures cannot be decoded without its begin
	}
	if s.part == nil {
		return nil
	}
	if s.recovered && cause != segment.CutPause {
		cause = segment.CutRecovered
	}
	if s.part.count == 0 {
		return s.discard()
	}
	return s.cut(cause)
}

// discard takes back a part without a frame. Its number is used again.
func (s *Segmenter) discard() error {
	p := s.part
	s.part = nil
	s.clerk.forget(p)
	p.sealing.Store(true)
	p.drop()
	s.spare, p.buf = p.buf, nil
	p.file.Close() // nothing in it counts
	s.next = p.seg.ID.Seq
	s.void(p.seg, nil)
	return nil
}

// fail ends the open part at its last whole tag after the disk refused a write. What was in the buffer beyond that is
// lost, and is said to be. The Repairer that is calling is replaced.
func (s *Segmenter) fail(cause error) error {
	p := s.part
	s.part = nil
	s.clerk.forget(p)
	p.sealing.Store(true)
	s.gops.broken()
	s.lost = lost{wait: true, why: whyDisk}
	p.drop()
	s.spare, p.buf = p.buf, nil
	written, length := p.count, p.duration()
	p.file.Close() // a new look at it follows
	n := s.last
	if n.Seq != p.seg.ID.Seq {
		n.Seq, n.Head, n.Base, n.Size, n.Frames, n.Content, n.File = p.seg.ID.Seq, p.seg.Head, p.base, 0, 0, 0, p.memo()
	}
	p.seg.Size = p.durable.Load()
	whole, tail, err := reopen(s.dir, p.seg, n)
	switch {
	case err != nil:
		s.log.Error().Err(err).Str("session", string(s.session)).Uint32("seq", p.seg.ID.Seq).Msg("part cannot be closed now, it is tried again")
		s.lastSeq, s.lastEnd = p.seg.ID.Seq, length
		s.repairs.Rebuild(n.Repair, nil)
		s.sealer.rescue(p.seg, segment.CutPause, n)
	case whole == nil:
		// The number stays begun; the next attempt uses it and the file.
		s.next, s.begun, s.beginning = p.seg.ID.Seq, done(), p.seg
		s.blanks(p.seg.Start, p.source)
		s.repairs.Rebuild(n.Repair, nil)
		s.missed(written, length, s.heard)
	default:
		whole.durable = p.durable
		s.part = whole
		s.repairs.Rebuild(n.Repair, tail)
		s.missed(written-whole.count, length-whole.duration(), s.heard)
		s.release(segment.CutPause)
	}
	return &DiskError{cause}
}

// closedFrom is about the length of the shortest hole that the Repairer closes.
const closedFrom = 970 * time.Millisecond

const (
	whyDisk   = "disk full"
	whyPaused = "paused"
)

// missed accounts for frames that were given to the file and are not in it.
func (s *Segmenter) missed(frames int64, length time.Duration, at time.Time) {
	if frames <= 0 {
		return
	}
	s.adjust.Parsed += frames
	s.adjust.Dropped += frames
	seq, place := s.place()
	s.owed = segment.Gap{Session: s.session, AfterSeq: seq, At: at.UTC(), AtMedia: place, Length: max(length, 0), Why: whyDisk}
}

// settle writes down what a failed write cost, now that nothing follows any more.
func (s *Segmenter) settle() {
	if s.owed.Length > 0 {
		s.miss(s.owed)
	}
	s.owed = segment.Gap{}
}

// tail reads the last seconds of the part before back, for a Repairer that begins anew.
func (s *Segmenter) tail() []repair.TailTag {
	if s.lastSeq == 0 {
		return nil
	}
	m, ok := s.reread(s.lastSeq, s.last)
	if !ok {
		return nil // without it a repetition is not recognised, nothing else
	}
	return m.tail
}

// done is a call that was made long ago.
func done() *call {
	c := &call{done: make(chan struct{}), tried: true}
	close(c.done)
	return c
}

// place is where in which part the last written frame ends.
func (s *Segmenter) place() (uint32, time.Duration) {
	if s.part != nil && s.part.count > 0 {
		return s.part.seg.ID.Seq, s.part.duration()
	}
	return s.lastSeq, s.lastEnd
}

// Gap writes down media that was sent and is not here.
func (s *Segmenter) Gap(g repair.Gap) {
	s.owed = segment.Gap{} // it is part of this one
	if s.session == "" {
		return // before the first frame nothing is missing
	}
	seq, at := s.place()
	s.missing(segment.Gap{Session: s.session, AfterSeq: seq, At: g.At.UTC(), AtMedia: at, Length: g.Length, Why: g.Why}, g.Length > closedFrom)
}

// extend puts a note before everything that is told later.
func (s *Segmenter) extend(p *part, n note) *call {
	e := s.extent(p, 0)
	e.State = n.encode()
	return s.clerk.say("note "+p.seg.ID.String(), func(ctx context.Context) error {
		e.Durable = p.durable.Load() // now that no sync of it is under way
		return s.clerk.journal.Extend(ctx, p.seg.ID, e)
	})
}

// miss tells the ledger of a gap that the clock of the output has as well.
func (s *Segmenter) miss(g segment.Gap) { s.missing(g, false) }

// missing tells the ledger of a gap; closed: what follows it is about to be brought up to what was before it. A gap at the place of the last one, with no frame between them, is one with it: the
// ledger keeps one gap per place, the newest word on it.
//
// What comes after the gap must not be on the disk before the gap is in the ledger, else a crash between the two would
// make it silent. So what came before is written, and the ledger is waited for, for a moment: one that does not answer
// costs no frame.
func (s *Segmenter) missing(g segment.Gap, closed bool) {
	length := g.Length
	if l := s.lastGap; l.Session == g.Session && l.AfterSeq == g.AfterSeq && l.AtMedia == g.AtMedia {
		s.gaps--
		s.gapTime -= l.Length
		g.At, g.Why = l.At, l.Why
		if !s.retold {
			g.Length += l.Length
		}
	}
	s.lastGap, s.retold = g, false
	s.gaps++
	s.gapTime += g.Length
	s.noteDue = true
	s.view.change(func(v *Snapshot) { v.Gaps, v.GapTime = s.gaps, s.gapTime })
	s.log.Warn().Str("session", string(g.Session)).Uint32("seq", g.AfterSeq).Dur("length", g.Length).Str("why", g.Why).Msg("media is missing")
	if p := s.part; p != nil {
		if p.save() != nil {
			return // the next write says so again
		}
		n := s.note(p)
		if closed {
			// The hole is closed in the file, so only a note can tell a next process that the other clocks went on.
			n.Repair.LastAt += length.Milliseconds()
			n.Repair.Edge += length.Milliseconds()
			n.Repair.Offset[0] -= length.Milliseconds()
			n.Repair.Offset[1] -= length.Milliseconds()
		}
		// The place of the gap must be there for good before it is told, else a power cut could take that place away, and the
		// next process would find the same hole, and more, at another one.
		s.clerk.say("sync "+p.seg.ID.String(), func(context.Context) error {
			_ = p.file.Sync() // an error is seen again where it can be acted upon
			return nil
		})
		s.extend(p, n)
	}
	s.await(s.clerk.say("write down a gap", func(ctx context.Context) error { return s.clerk.journal.Miss(ctx, g) }))
}

// Repair writes down what was put right.
func (s *Segmenter) Repair(r repair.Repair) {
	if s.session == "" {
		return
	}
	seq, at := s.place()
	m := segment.Repair{Session: s.session, Seq: max(seq, 1), AtMedia: at, What: r.What}
	s.noteDue = true
	s.clerk.say("write down a repair", func(ctx context.Context) error { return s.clerk.journal.Mend(ctx, m) })
}

// lose gives a frame up that no decoder could use: the part before was closed in the middle of its group.
func (s *Segmenter) lose(it *repair.Item) {
	if s.lost.frames == 0 {
		s.lost.from = it.Out
	}
	s.lost.frames++
	s.adjust.Written--
	s.adjust.Dropped++
}

// skipped accounts for what never came to the Repairer.
func (s *Segmenter) skipped(k skip) {
	s.adjust.ReceivedBytes += k.count.Received
	s.adjust.HeaderBytes += k.count.Header
	s.adjust.TagBytes += k.count.Tags
	s.adjust.JunkBytes += k.count.Junk
	s.adjust.PartialBytes += k.count.Partial
	s.adjust.Parsed += k.tags
	s.adjust.Dropped += k.tags
	s.noteDue = true
}

// blanks keeps when the first frame of the broadcast came that could not be written. The Repairer, which begins anew,
// knows of none.
func (s *Segmenter) blanks(at time.Time, source int64) {
	if s.lastSeq == 0 && s.blank.IsZero() {
		s.blank, s.blankAt = at, source
	}
}

// found ends such a stretch.
func (s *Segmenter) found(it *repair.Item) {
	if !s.blank.IsZero() {
		s.owed = segment.Gap{}
		length := it.At.Sub(s.blank)
		if d := ms(it.DTS - s.blankAt); d >= 0 && (d-length).Abs() < 20*time.Second {
			length = d // the source's clock knows it better: the first frame now may be older than now
		}
		s.miss(segment.Gap{Session: s.session, At: s.blank.UTC(), Length: max(length, 0), Why: whyDisk})
		s.blank = time.Time{}
	}
	if s.lost.frames > 0 && s.lastSeq > 0 {
		s.miss(segment.Gap{Session: s.session, AfterSeq: s.lastSeq, At: s.heard.UTC(), AtMedia: s.lastEnd,
			Length: ms(max(it.Out-s.lost.from, 0)), Why: s.lost.why})
	}
	s.lost = lost{}
}

// learn takes from the last frames of an earlier process what the next cut is predicted from.
func (s *Segmenter) learn(tail []repair.TailTag) {
	at := int64(0) // file size before the first of them, as if all were in the open part
	if s.part != nil {
		at = s.part.size()
	}
	for _, x := range tail {
		at -= int64(flv.TagOverhead + x.Size)
	}
	for _, x := range tail {
		if x.Kind == media.Video && x.Key || len(s.configs.video) == 0 {
			s.gops.begin(x.Out, at)
		}
		at += int64(flv.TagOverhead + x.Size)
		s.lastOut = max(s.lastOut, x.Out)
	}
}
