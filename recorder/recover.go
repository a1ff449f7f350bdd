package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// whyDown is the reason of a gap that our own absence made, whyPower of one that was written and not yet safe.
const (
	whyDown  = "liverec was not running"
	whyPower = "lost before it was safe on the disk"
)

// loss is what was written into a part and is not there.
type loss struct {
	frames int64
	gap    segment.Gap
}

// lossOf compares a part that is finished with what was in it when it was closed.
func lossOf(done segment.Segment, n note) loss {
	end, ok := n.Ends[done.ID.Seq]
	frames := end.Frames - done.VideoFrames - done.AudioFrames
	if !ok || frames <= 0 {
		return loss{}
	}
	return loss{frames, segment.Gap{Session: done.ID.Session, AfterSeq: done.ID.Seq, At: done.Start.Add(done.Duration).UTC(), AtMedia: done.Duration,
		Length: max(ms(end.Place)-done.Duration, 0), Why: whyPower}}
}

// rollBack makes a state true again that knows of frames which are not in the file: tail is the end of what is.
func rollBack(s *repair.State, tail []repair.TailTag) {
	last := [2]int64{-1, -1}
	for _, x := range tail {
		t := vid
		if x.Kind == media.Audio {
			t = aud
		}
		last[t] = max(last[t], x.Out)
	}
	was := max(s.Last[vid], s.Last[aud])
	for t := range last {
		s.Last[t] = min(s.Last[t], last[t])
	}
	s.LastAt -= max(was-max(s.Last[vid], s.Last[aud]), 0)
	s.Digests = nil // of frames that are gone; the file knows those that are there
}

// leftovers are the parts of a session that are not sealed, in order of Seq.
func leftovers(e segment.Entry) []segment.Segment {
	parts := slices.Clone(e.Left)
	if e.Open != nil {
		parts = append(parts, *e.Open)
	}
	slices.SortFunc(parts, func(a, b segment.Segment) int { return int(a.ID.Seq) - int(b.ID.Seq) })
	return parts
}

// stub is how much media a part that was never synced must have to count. What is less came in the last second before
// the end, and after a power cut it is whatever the disk happened to keep: a picture without the sound headers, a part
// after one whose own end is gone. The source is asked for it again instead.
const stub = time.Second

// hasMedia looks whether there is media that counts in a part, wherever its file is. absent: there is no file.
func hasMedia(dir *durable.Dir, seg segment.Segment, n note) (found, renamed, absent bool, err error) {
	f, err := dir.Read(seg.Path)
	if err == nil {
		f.Close()
		return true, true, false, nil // nothing gets its name without a frame
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, false, false, err
	}
	f, err = dir.Read(seg.Path + segment.PartSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, true, nil
	}
	if err != nil {
		return false, false, false, err
	}
	defer f.Close()
	if seg.VideoFrames+seg.AudioFrames > 0 {
		return true, false, false, nil // the ledger was told after an fsync
	}
	fi, err := f.Stat()
	if err != nil {
		return false, false, false, fmt.Errorf("measure %s: %w", seg.Path, err)
	}
	if containerOf(seg.Path) != ContainerFLV {
		m, err := measure(f, fi.Size(), seg, n)
		return err == nil && m.frames > 0 && m.container.duration() >= stub, false, false, err
	}
	s, err := flv.Scan(f, fi.Size(), flv.ScanConfig{})
	if errors.Is(err, flv.ErrNotFLV) {
		return false, false, false, nil
	}
	if err != nil {
		return false, false, false, err
	}
	var first, last int64
	for i, t := range []flv.Track{s.Video, s.Audio} {
		if t.Frames > 0 {
			if i == 0 || s.Video.Frames == 0 {
				first = t.First
			}
			first, last = min(first, t.First), max(last, t.Last)
		}
	}
	return s.Video.Frames+s.Audio.Frames > 0 && ms(last-first) >= stub, false, false, nil
}

// tidy brings everything of a session to its end that a crash left unsealed, but for the part that can be gone on
// with, which is returned. next is the number of the next part to begin, now the note with what was found in the parts.
// losses are those that are not in it.
func (s *Segmenter) tidy(ctx context.Context, deps Deps, e segment.Entry, n note) (open *segment.Segment, next uint32, losses []loss, now note, err error) {
	parts := leftovers(e)
	next = max(e.NextSeq, 1)
	// From the end: what was begun and has no frame is taken back (K1), its number is used again.
	for len(parts) > 0 {
		last := parts[len(parts)-1]
		found, renamed, _, err := hasMedia(deps.Dir, last, n)
		if err != nil {
			return nil, 0, nil, n, err
		}
		if found {
			if !renamed && !(n.Seq == last.ID.Seq && n.Closed != segment.CutNone) {
				open = &last
				parts = parts[:len(parts)-1]
			}
			break
		}
		if err := deps.Dir.Remove(last.Path + segment.PartSuffix); err != nil {
			return nil, 0, nil, n, err
		}
		if err := deps.Journal.Void(ctx, last.ID); err != nil {
			return nil, 0, nil, n, fmt.Errorf("void %s: %w", last.ID, err)
		}
		deps.Log.Info().Str("session", string(last.ID.Session)).Uint32("seq", last.ID.Seq).Msg("recovery: empty segment taken back")
		next = last.ID.Seq
		parts = parts[:len(parts)-1]
	}
	for i, seg := range parts {
		later := open
		if i+1 < len(parts) {
			later = &parts[i+1]
		}
		cause, kept := causeOf(deps.Dir, seg, later, n), false
		keep := func(done segment.Segment, l loss) error {
			behind := n.Seq <= seg.ID.Seq || n.Seq >= next && open == nil // what it was of was taken back
			if n.Version == 0 || !behind {
				return nil
			}
			was, ok := s.took(n, done, cause, l)
			if !ok {
				return nil
			}
			n, kept = was, true
			return deps.Journal.Extend(ctx, seg.ID, segment.Extent{Durable: seg.Size, Duration: seg.Duration, VideoFrames: seg.VideoFrames,
				AudioFrames: seg.AudioFrames, At: e.Session.Heard, State: n.encode()})
		}
		l, err := settleOne(ctx, deps, seg, cause, n, keep)
		if err != nil {
			return nil, 0, nil, n, err
		}
		if l.frames > 0 && !kept {
			losses = append(losses, l)
		}
	}
	return open, next, losses, n, nil
}

// took is the note behind a part that a crash left unsealed: everything of the part is in it, so that a next process
// needs neither the part, which may be away by then, nor to do again what was done here. ok is false if the part cannot
// be read.
func (s *Segmenter) took(n note, done segment.Segment, cause segment.Cause, l loss) (now note, ok bool) {
	seq := done.ID.Seq
	now = n
	if n.Seq > seq { // of a part that was taken back: it knows all of this one, but not where it began
		now.Seq, now.Base, now.Size, now.Frames, now.Content, now.File, now.Closed = seq, 0, math.MaxInt64, 0, 0, noteFile{}, segment.CutNone
	}
	m, ok := s.reread(seq, now)
	if !ok {
		return n, false
	}
	if n.Seq > seq {
		if end, ok := n.Ends[seq]; ok {
			m.base = max(n.Repair.Last[0], n.Repair.Last[1]) - lastOf(m.tail) - (end.Place - done.Duration.Milliseconds())
		}
		for i := range m.tail {
			m.tail[i].Out += m.base
		}
	}
	rep := restoreJoiner(s, n.Repair, m.tail)
	now.Repair = rep.State()
	now.Repair.Digests = rep.Digests()
	if now.Seq != seq || now.Closed == segment.CutNone {
		now.Seq, now.Head, now.Base, now.Size, now.Frames, now.Content, now.File = seq, done.Head, m.base, m.end, m.frames, m.container.content(), m.container.about()
		if now.File.Container != "" {
			now.File.Exact = m.exact
		}
		now.Closed, now.Place = cause, done.Duration.Milliseconds()
		if end, ok := n.Ends[seq]; ok {
			now.Place = end.Place
		}
	}
	if l.frames > 0 {
		now.Adjust.Written -= l.frames
		now.Adjust.Dropped += l.frames
		now.Gaps, now.GapTime, now.Gap = n.Gaps+1, n.GapTime+l.gap.Length.Milliseconds(), l.gap
		now.Ends = maps.Clone(n.Ends)
		end := now.Ends[seq]
		end.Frames = done.VideoFrames + done.AudioFrames
		now.Ends[seq] = end
	}
	return now, true
}

// lastOf is the highest output time in a tail.
func lastOf(tail []repair.TailTag) int64 {
	last := int64(0)
	for _, x := range tail {
		last = max(last, x.Out)
	}
	return last
}

// settleOne finishes and seals one part. What it lost is told before, and keep is called.
func settleOne(ctx context.Context, deps Deps, seg segment.Segment, cause segment.Cause, n note, keep func(segment.Segment, loss) error) (loss, error) {
	done, found, err := finish(ctx, deps.Dir, seg, cause, n)
	if err != nil {
		return loss{}, fmt.Errorf("finish %s: %w", seg.ID, err)
	}
	if !found {
		if err := deps.Journal.Void(ctx, seg.ID); err != nil {
			return loss{}, fmt.Errorf("void %s: %w", seg.ID, err)
		}
		return loss{}, nil
	}
	l := lossOf(done, n)
	if l.frames > 0 {
		if err := deps.Journal.Miss(ctx, l.gap); err != nil {
			return loss{}, fmt.Errorf("write down what %s lost: %w", seg.ID, err)
		}
		deps.Log.Warn().Str("session", string(seg.ID.Session)).Uint32("seq", seg.ID.Seq).Dur("length", l.gap.Length).Str("why", whyPower).Msg("media is missing")
	}
	if err := keep(done, l); err != nil {
		return loss{}, fmt.Errorf("write down what is in %s: %w", seg.ID, err)
	}
	if err := deps.Journal.Seal(ctx, done); err != nil {
		return loss{}, fmt.Errorf("seal %s: %w", seg.ID, err)
	}
	deps.Log.Info().Str("session", string(seg.ID.Session)).Uint32("seq", seg.ID.Seq).Int64("bytes", done.Size).
		Str("cut", string(done.Cut)).Msg("recovery: segment sealed")
	select {
	case deps.Progress <- segment.Progress{ID: done.ID, Durable: done.Size, Sealed: true}:
	default:
	}
	return l, nil
}

// causeOf is why a part ended that no one will write to any more: as it was written down, else as far as can be seen.
func causeOf(dir *durable.Dir, seg segment.Segment, later *segment.Segment, n note) segment.Cause {
	if n.Seq == seg.ID.Seq && n.Closed != segment.CutNone {
		return n.Closed
	}
	if c := n.Cuts[seg.ID.Seq]; c != segment.CutNone {
		return c
	}
	if later == nil {
		return segment.CutRecovered
	}
	a, aok := configsOf(dir, seg)
	b, bok := configsOf(dir, *later)
	if aok && bok && !(bytes.Equal(a.record(vid), b.record(vid)) && bytes.Equal(a.record(aud), b.record(aud))) {
		return segment.CutHeader
	}
	return segment.CutTime
}

// configsOf reads the codec configuration in the head of a part.
func configsOf(dir *durable.Dir, seg segment.Segment) (configs, bool) {
	f, err := dir.Read(seg.Path)
	if err != nil {
		if f, err = dir.Read(seg.Path + segment.PartSuffix); err != nil {
			return configs{}, false
		}
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return configs{}, false
	}
	switch containerOf(seg.Path) {
	case ContainerTS:
		c, err := configsOfTS(f, fi.Size())
		return c, err == nil
	case ContainerMP4:
		s, err := mp4.Scan(f, fi.Size(), mp4.ScanConfig{})
		if err != nil {
			return configs{}, false
		}
		c := configs{}
		if v := s.Config.Video; v != nil {
			c.video, c.codec[vid] = v.Config, v.Codec
		}
		if a := s.Config.Audio; a != nil {
			c.audio, c.codec[aud] = a.Config, a.Codec
		}
		return c, true
	}
	s, err := flv.Scan(f, min(fi.Size(), 1<<20), flv.ScanConfig{})
	if err != nil {
		return configs{}, false
	}
	var c repair.Configs
	if len(s.Config.Video) > 0 {
		c.Video = media.Packet{Kind: media.VideoConfig, Codec: media.AVC, Lead: avcLead, Body: s.Config.Video}
	}
	if len(s.Config.Audio) > 0 {
		c.Audio = media.Packet{Kind: media.AudioConfig, Codec: media.AAC, Lead: aacLead, Body: s.Config.Audio}
	}
	return newConfigs(c), true
}

// adopt goes on with the broadcast that an earlier process did not end, if the room was heard no longer than the grace
// ago; everything older of this room is brought to its end.
func (c *capture) adopt(ctx context.Context) error {
	again := backoff.New(backoff.Policy{First: 100 * time.Millisecond, Max: 5 * time.Second})
	for {
		err := c.tryAdopt(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		c.log.Error().Err(err).Msg("what an earlier run left cannot be gone on with yet, it is tried again")
		c.view.set(StateWaiting, err.Error())
		if !again.Wait(ctx, err) {
			return nil
		}
	}
}

func (c *capture) tryAdopt(ctx context.Context) error {
	entries, err := c.deps.Journal.Unended(ctx)
	if err != nil {
		return fmt.Errorf("ask the ledger for broadcasts that have not ended: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e segment.Entry) bool { return e.Session.Room.ID != c.cfg.Room.ID })
	slices.SortFunc(entries, func(a, b segment.Entry) int { return bytes.Compare([]byte(a.Session.ID), []byte(b.Session.ID)) })
	for i, e := range entries {
		t, err := c.restore(ctx, e)
		if err != nil {
			return err
		}
		c.take = t
		if i+1 < len(entries) || !time.Now().Before(c.deadline()) {
			c.end(segment.CutRecovered)
			c.ended = true
			continue
		}
		c.log.Info().Str("session", string(e.Session.ID)).Bool("open", t.seg.part != nil).Msg("recovery: broadcast goes on where it was")
		c.view.wrote(t.seg)
		c.view.change(func(s *Snapshot) {
			s.Gaps, s.GapTime, s.Streamer, s.Title = t.seg.gaps, t.seg.gapTime, e.Session.Streamer, e.Session.Title
		})
		c.cast(e.Session.ID, t.live.about())
	}
	return nil
}

// restore makes a broadcast of an earlier process to one of this: what is unsealed is settled, the open part is open
// again, the Repairer knows the last frames.
func (c *capture) restore(ctx context.Context, e segment.Entry) (*take, error) {
	n, noted := readNote(e.State)
	t := &take{c: c, heard: e.Session.Heard, why: whyDown, live: Live{Streamer: e.Session.Streamer, Title: e.Session.Title}}
	t.seg = c.newSegmenter(t)
	s := t.seg
	s.session = e.Session.ID
	open, next, losses, n, err := s.tidy(ctx, c.deps, e, n)
	if err != nil {
		return nil, err
	}
	s.next, s.heard = next, e.Session.Heard
	s.adjust, s.gaps, s.gapTime = n.Adjust, n.Gaps, ms(n.GapTime)
	s.lost = lost{wait: true, why: whyDown}
	if n.Cuts != nil {
		s.cuts = n.Cuts
	}
	s.ends = n.Ends
	s.lastSeq = next - 1
	if open != nil && containerOf(open.Path) != ContainerFLV {
		s.samples = true // what it holds can be recognised by nothing else
	}
	n.Samples = s.samples
	var tail []repair.TailTag
	if noted && (open == nil || n.Seq < open.ID.Seq) {
		// The note is of a part that is closed by now. What came into that part after it is read back, and its last
		// seconds: a source that repeats them is recognised by it.
		if m, ok := s.reread(n.Seq, n); ok {
			tail = m.tail
			if n.Closed == segment.CutNone {
				n.Closed, n.Place = segment.CutTime, m.container.duration().Milliseconds()
			}
		}
	}
	if n.Seq == s.lastSeq {
		s.lastEnd = ms(n.Place)
	} else if end, ok := n.Ends[s.lastSeq]; ok { // the note is of a part that was taken back
		s.lastEnd = ms(end.Place)
	}
	if noted {
		s.last, s.lastGap, s.retold = n, n.Gap, n.Gap.Length <= closedFrom
		if g := n.Gap; g.Session == s.session {
			c.clerk.say("write down a gap", func(ctx context.Context) error { return c.deps.Journal.Miss(ctx, g) })
		}
	}
	for _, l := range losses {
		s.adjust.Written -= l.frames
		s.adjust.Dropped += l.frames
		s.gaps, s.gapTime, s.lastGap = s.gaps+1, s.gapTime+l.gap.Length, l.gap
	}
	state := n.Repair
	if open != nil {
		p, tags, err := reopen(c.deps.Dir, *open, n)
		switch {
		case errors.Is(err, errDamaged):
			c.log.Error().Err(err).Str("session", string(s.session)).Uint32("seq", open.ID.Seq).Msg("recovery: part is kept as it is")
			if _, err := settleOne(ctx, c.deps, *open, segment.CutRecovered, n, func(segment.Segment, loss) error { return nil }); err != nil {
				return nil, err
			}
			s.next, s.lastSeq = open.ID.Seq+1, open.ID.Seq
		case err != nil:
			return nil, err
		case p == nil:
			return nil, fmt.Errorf("open %s: it had frames a moment ago", open.ID)
		default:
			tail = append(tail, tags...)
			c.clerk.count(1)
			s.part, s.recovered, s.lost.wait = p, true, false
			s.next, s.lastSeq, s.begunHead = open.ID.Seq+1, open.ID.Seq-1, p.seg.Head
			p.wished = p.file.Size()
			// The ledger may not have heard of the last seconds; the file has.
			if end := p.seg.Start.Add(p.duration()); end.After(t.heard) && !end.After(time.Now()) {
				t.heard, s.heard = end, end
			}
			if own := noted && n.Seq == open.ID.Seq; own && p.count < n.Frames {
				rollBack(&state, tags)
				s.adjust.Written -= n.Frames - p.count
				s.adjust.Dropped += n.Frames - p.count
			} else if !own {
				state = c.stateFrom(p, n, tail, t.heard)
			}
		}
	}
	t.rep = restoreJoiner(s, state, tail)
	if state.Version == 0 {
		return t, nil
	}
	cfg := t.rep.Configs()
	s.configs = newConfigs(cfg)
	s.lastOut = max(state.Last[0], state.Last[1])
	s.learn(tail)
	return t, nil
}

// stateFrom makes a state for a part whose own note did not come to the ledger any more: what the note before says of
// the clock, and the configuration from the file.
func (c *capture) stateFrom(p *part, n note, tail []repair.TailTag, heard time.Time) repair.State {
	s := n.Repair
	if s.Version == 0 {
		s = repair.State{Version: repair.StateVersion, Last: [2]int64{-1, -1}, LastAt: heard.UnixMilli()}
		if len(tail) > 0 {
			s.Edge = heard.UnixMilli() - tail[len(tail)-1].Out
		}
	}
	cfg, ok := configsOf(c.deps.Dir, p.seg)
	if !ok {
		return s
	}
	s.Video, s.VideoForm = headerFrom(&cfg, vid, s.Video, s.VideoForm)
	s.Audio, s.AudioForm = headerFrom(&cfg, aud, s.Audio, s.AudioForm)
	return s
}

// headerFrom is the header of a track for a state: the one that it has, if the file says the same, since the file does not
// tell in which form the source sends it.
func headerFrom(c *configs, t int, body []byte, form *repair.Form) ([]byte, *repair.Form) {
	lead := []int{avcLead, aacLead}[t]
	if form != nil {
		lead = int(form.Lead)
	}
	switch {
	case c.codec[t] == media.NoCodec:
		return nil, nil
	case body != nil && bytes.Equal(body[min(lead, len(body)):], c.record(t)):
		return body, form
	case c.plain(t):
		return c.body(t), nil
	}
	return c.record(t), &repair.Form{Codec: c.codec[t].String()}
}

// reread measures a sealed part; ok is false if it does not lie here any more.
func (s *Segmenter) reread(seq uint32, n note) (m measured, ok bool) {
	for _, kind := range []Container{ContainerFLV, ContainerMP4, ContainerTS} {
		seg := s.name(seq, kind)
		f, err := s.dir.Read(seg.Path)
		if err != nil {
			if f, err = s.dir.Read(seg.Path + segment.PartSuffix); err != nil {
				continue
			}
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return m, false
		}
		m, err = measure(f, fi.Size(), seg, n)
		return m, err == nil && m.container != nil
	}
	return m, false
}

// RecoverConfig says how what other runs left is brought to its end.
type RecoverConfig struct {
	Grace time.Duration // of the earlier run; default 60 s
	Now   bool          // whoever asks does not wait for the grace: every broadcast ends
}

// Recover brings everything of rooms that are not recorded by this run (keep) to its end: what was begun and never
// written is taken back, interrupted seals are finished, open parts are sealed as recovered. Broadcasts whose grace is
// over end; the others are left to the Service that is returned, which ends them in their time. The rooms in keep are
// left to their Recorders, who go on in the open part (K1-K4).
func Recover(ctx context.Context, cfg RecoverConfig, deps Deps, keep map[segment.RoomID]bool) (*Rest, error) {
	if cfg.Grace <= 0 {
		cfg.Grace = time.Minute
	}
	entries, err := deps.Journal.Unended(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the ledger for broadcasts that have not ended: %w", err)
	}
	rest := &Rest{cfg: cfg, deps: deps}
	var errs []error
	for _, e := range entries {
		if keep[e.Session.Room.ID] {
			continue
		}
		if err := rest.bring(ctx, e); err != nil {
			errs = append(errs, fmt.Errorf("recover %s of room %s: %w", e.Session.ID, e.Session.Room.Name, err))
		}
	}
	return rest, errors.Join(errs...)
}

// Rest is what Recover could not end because the grace of its broadcast is not over.
type Rest struct {
	cfg  RecoverConfig
	deps Deps

	mu  sync.Mutex // held while a broadcast ends; guards what is below
	due []due
}

// due is a broadcast that ends when its grace is over.
type due struct {
	Report
	room segment.RoomID
}

// String names the service.
func (r *Rest) String() string { return "broadcasts of earlier runs" }

// Empty reports whether there is nothing to wait for.
func (r *Rest) Empty() bool {
	_, some := r.first()
	return !some
}

// Spare leaves the broadcasts of a room to a Recorder that is about to begin: the room would be in two hands. When it has
// returned, Run has ended them or never does.
func (r *Rest) Spare(room segment.RoomID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = slices.DeleteFunc(r.due, func(d due) bool { return d.room == room })
}

// first is the broadcast that ends first.
func (r *Rest) first() (due, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.due) == 0 {
		return due{}, false
	}
	return slices.MinFunc(r.due, func(a, b due) int { return a.At.Compare(b.At) }), true
}

// leave ends a broadcast, unless it was spared meanwhile.
func (r *Rest) leave(ctx context.Context, d due) (left bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.due, func(o due) bool { return o.Session == d.Session })
	if i < 0 {
		return false, nil
	}
	if err := r.deps.Journal.Leave(ctx, d.Session, d.At, d.Account); err != nil {
		return false, err
	}
	r.due = slices.Delete(r.due, i, i+1)
	return true, nil
}

// bring seals what is left of a session, and ends it if it is time.
func (r *Rest) bring(ctx context.Context, e segment.Entry) error {
	room := &Recorder{cfg: Config{Room: e.Session.Room, Grace: r.cfg.Grace}, deps: r.deps, log: r.deps.Log.With().Str("room", e.Session.Room.Name).Logger(), view: &view{}}
	if err := room.cfg.Validate(); err != nil {
		return err
	}
	room.now.Store(boundsOf(room.cfg))
	c := newCapture(ctx, room)
	defer c.finish()
	t, err := c.restore(ctx, e)
	if err != nil {
		return err
	}
	c.take = t
	if r.cfg.Now || !time.Now().Before(c.deadline()) {
		c.end(segment.CutRecovered)
		return nil
	}
	c.stop()
	r.due = append(r.due, due{Report{Session: e.Session.ID, At: e.Session.Heard, Account: t.account(), Gaps: t.seg.gaps, GapTime: t.seg.gapTime}, e.Session.Room.ID})
	return nil
}

// Run ends each broadcast when its grace is over. It returns when all are ended or ctx is done.
func (r *Rest) Run(ctx context.Context) error {
	again := backoff.New(backoff.Policy{First: time.Second, Max: 10 * time.Second})
	for {
		d, some := r.first()
		if !some || !backoff.Sleep(ctx, time.Until(d.At.Add(r.cfg.Grace))) {
			return nil
		}
		left, err := r.leave(ctx, d)
		if err != nil {
			r.deps.Log.Error().Err(err).Str("session", string(d.Session)).Msg("broadcast of an earlier run cannot be ended yet, it is tried again")
			if !again.Wait(ctx, err) {
				return nil
			}
			continue
		}
		if left && r.deps.Ended != nil {
			r.deps.Ended(d.Report)
		}
	}
}
