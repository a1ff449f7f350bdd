package repair

import (
	"encoding/binary"
	"math"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
)

// StateVersion is the version of State that this package writes.
const StateVersion = 1

// State describes what was written so far.
func (r *Repairer) State() State {
	tags, bytes := r.held()
	a := r.account
	a.Parsed -= tags
	a.TagBytes -= bytes
	a.ReceivedBytes -= bytes
	s := State{
		Version: StateVersion,
		Offset:  r.clock.offset, RefRaw: r.clock.ref, RefExt: r.clock.refExt,
		Last: r.sent, Frame: r.clock.frame,
		Edge: r.clock.edge(), LastAt: r.sentAt,
		Closed:  append([]Closed(nil), r.clock.closed...),
		Ordinal: r.ordinal, Content: r.content, Frames: r.frames, Account: a,
	}
	if s.Ordinal == 0 {
		s.LastAt = r.now
	}
	own := func(h *header) ([]byte, *Form) {
		if !h.set {
			return nil, nil
		}
		b := append([]byte{}, h.body...)
		if h.plain && h.track == 0 {
			return b, nil
		}
		return b, &Form{Codec: h.codec.String(), Lead: h.lead, Track: h.track, Width: int(h.size.w), Height: int(h.size.h)}
	}
	s.Video, s.VideoForm = own(&r.gate.shown[vid])
	s.Audio, s.AudioForm = own(&r.gate.shown[aud])
	if r.gate.hasScript {
		s.Script = append([]byte{}, r.gate.script...)
	}
	if len(r.gate.colour) > 0 {
		s.Colour = append([]byte{}, r.gate.colour...)
	}
	return s
}

// avcLead and aacLead are the bytes before the record in the headers of FLV of old.
const (
	avcLead = 5
	aacLead = 2
)

// codecOf is the codec with that name.
func codecOf(name string) media.Codec {
	for c := media.NoCodec; c < media.OtherCodec; c++ {
		if c.String() == name {
			return c
		}
	}
	return media.OtherCodec
}

// digestSize is the length of one record of Digests.
const digestSize = 10

// digestReach is how far back Digests go, in ms. It fits their 16 bits.
const digestReach = 30_000

// Digests are the last 30 s of what the sink took, for State.Digests: about 25 kB. They belong into the note that is
// written when a part is closed and the next one may be begun by another process: what was closed may be away by then.
//
// A version byte, the number of video tags (2 bytes, big endian), and for each tag, video first and oldest first, how
// many ms it lies before the last one of its track (2 bytes) and its sum (8 bytes).
func (r *Repairer) Digests() []byte {
	b := make([]byte, 3, 1024*digestSize)
	b[0] = StateVersion
	for t := range r.past {
		p := &r.past[t]
		for i := p.seek(r.sent[t] - digestReach); i < p.n && p.get(i).out <= r.sent[t]; i++ {
			b = binary.BigEndian.AppendUint16(b, uint16(r.sent[t]-p.get(i).out))
			b = binary.BigEndian.AppendUint64(b, p.get(i).sum)
		}
		if t == vid {
			binary.BigEndian.PutUint16(b[1:], uint16((len(b)-3)/digestSize))
		}
	}
	return b
}

// before puts in front of a tail what the digests know of the time before it.
func (s *State) before(tail []TailTag) []TailTag {
	b := s.Digests
	if len(b) < 3 || b[0] != StateVersion {
		return tail
	}
	first := [2]int64{math.MaxInt64, math.MaxInt64}
	for _, tag := range tail {
		t := vid
		if tag.Kind == media.Audio {
			t = aud
		}
		first[t] = min(first[t], tag.Out)
	}
	videos := int(binary.BigEndian.Uint16(b[1:]))
	out := make([]TailTag, 0, len(b)/digestSize+len(tail))
	for i, b := 0, b[3:]; len(b) >= digestSize; i, b = i+1, b[digestSize:] {
		t, kind := vid, media.Video
		if i >= videos {
			t, kind = aud, media.Audio
		}
		at := s.Last[t] - int64(binary.BigEndian.Uint16(b))
		if at < 0 || at >= first[t] {
			continue
		}
		out = append(out, TailTag{Kind: kind, Out: at, Sum: binary.BigEndian.Uint64(b[2:])})
	}
	return append(out, tail...)
}

// Restore goes on with a session of an earlier process. Sink.Config is not called for the configuration that the
// state knows: the open part has it in its head.
//
// What the tail holds beyond the state is counted as received and written. The next connection is joined to the tail
// like any other; give Connect the reason "liverec was not running".
func Restore(cfg Config, sink Sink, s State, tail []TailTag) *Repairer {
	r := New(cfg, sink)
	r.account, r.ordinal, r.content, r.frames = s.Account, s.Ordinal, s.Content, s.Frames
	put := func(k media.Kind, f *Form, old Form, body []byte) {
		if body == nil && f == nil {
			return
		}
		if f == nil {
			f = &old
		}
		t := of(k)
		p := media.Packet{Kind: k, Codec: codecOf(f.Codec), Lead: f.Lead, Body: body}
		r.gate.cur[t].copy(&header{
			set: true, codec: p.Codec, plain: isPlain(&p), track: f.Track, lead: f.Lead, size: size{uint16(f.Width), uint16(f.Height)}, sum: flv.Sum(tagType(k), body), body: body,
		})
		r.gate.shown[t].copy(&r.gate.cur[t])
		r.pick[t] = pick{set: true, track: f.Track}
	}
	put(media.VideoConfig, s.VideoForm, Form{Codec: media.AVC.String(), Lead: avcLead}, s.Video)
	put(media.AudioConfig, s.AudioForm, Form{Codec: media.AAC.String(), Lead: aacLead}, s.Audio)
	if s.Script != nil {
		r.gate.script, r.gate.hasScript = append(r.gate.script, s.Script...), true
	}
	r.gate.colour = append(r.gate.colour, s.Colour...)
	if s.Ordinal == 0 && len(tail) == 0 {
		r.gate.cur, r.gate.shown, r.pick = [2]header{}, [2]header{}, [2]pick{}
		return r
	}
	r.samples = r.cfg.samples || !r.gate.plain()

	c := &r.clock
	r.mode = running
	c.begun = true
	c.haveRef, c.ref, c.refExt = true, s.RefRaw, s.RefExt
	c.offset, c.frame = s.Offset, s.Frame
	c.closed = append(c.closed, s.Closed...)
	if c.frame[vid] <= 0 {
		c.frame[vid] = fallbackV
	}
	if c.frame[aud] <= 0 {
		c.frame[aud] = fallbackA
		c.setAudioFrame(r.gate.audioFrame())
	} else {
		c.told = r.gate.audioFrame() > 0
	}
	for t := range s.Last {
		if s.Last[t] >= 0 && s.Ordinal > 0 {
			c.has[t], c.last[t], c.lastRaw[t] = true, s.Last[t], s.Last[t]
			r.sent[t] = s.Last[t]
		}
	}
	was := c.end()
	for _, tag := range s.before(tail) {
		t := vid
		if tag.Kind == media.Audio {
			t = aud
		}
		if tag.Out > r.sent[t] {
			r.ordinal++
			r.content = Chain(r.content, r.ordinal, tag.Sum)
			r.frames[t]++
			r.account.Parsed++
			r.account.Written++
			r.account.TagBytes += int64(tag.Size) + tagOverhead
			r.account.ReceivedBytes += int64(tag.Size) + tagOverhead
			r.sent[t] = tag.Out
		}
		if n := r.past[t].n; n > 0 {
			d := tag.Out - r.past[t].get(n-1).out
			if d <= 0 {
				continue
			}
			if t == vid && d <= aheadLimit {
				c.measure(vid, d)
			}
		}
		r.past[t].add(pastTag{sum: tag.Sum, src: tag.Out - c.offset[t] - s.closed(t, tag.Out), raw: tag.Out, out: tag.Out})
	}
	for t := range c.has {
		if r.sent[t] >= 0 {
			c.has[t], c.last[t], c.lastRaw[t] = true, r.sent[t], r.sent[t]
		}
	}
	r.sentAt = s.LastAt + max(0, c.end()-was)
	if was == 0 && s.Edge != 0 { // nothing was written yet at its time
		r.sentAt = s.Edge + max(r.sent[vid], r.sent[aud])
	}
	c.lastAt = r.sentAt
	c.edgeNow, c.edgeOld = s.Edge, s.Edge
	c.bucketEnd = r.sentAt + edgeBucket
	c.since = r.sentAt - burstWall
	r.newAt = r.sentAt
	r.now = r.sentAt
	return r
}
