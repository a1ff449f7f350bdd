package repair_test

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/recorder/repair"
)

// Sequence headers of a real stream: x264, 320×180, 25/s, High; AAC-LC 44.1 kHz stereo.
var (
	videoA = unhex("17000000000164000cffe1001a6764000cacd941419f9f011000000300100000030320f142996001000468ef8fcbfdf8f800")
	videoB = mustBuild(videoA, 0x0d)
	audioA = unhex("af00121056e500")
	audioB = unhex("af001190")
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// mustBuild makes another valid header: the same with another level in the SPS.
func mustBuild(body []byte, level byte) []byte {
	c, err := flv.ParseVideoConfig(body)
	if err != nil {
		panic(err)
	}
	sps := slices.Clone(c.SPS[0])
	sps[3] = level
	b, err := flv.BuildVideoConfig(c.LengthSize, [][]byte{sps}, c.PPS)
	if err != nil {
		panic(err)
	}
	return b
}

// frame is a tag as the encoder made it: at is its true time in ms.
type frame struct {
	kind media.Kind
	key  bool
	at   int64
	cts  int32
	body []byte
	sum  uint64
}

func (f frame) packet(dts int64) media.Packet {
	p := media.Packet{Kind: f.kind, Key: f.key, DTS: int64(int32(uint32(dts))), CTS: f.cts, Body: f.body, Sum: f.sum}
	switch f.kind {
	case media.Video, media.VideoConfig:
		p.Codec, p.Lead = media.AVC, 5
	case media.Audio, media.AudioConfig:
		p.Codec, p.Lead = media.AAC, 2
	}
	return p
}

func header(k media.Kind, body []byte) media.Packet {
	typ := byte(flv.TagVideo)
	if k == media.AudioConfig {
		typ = flv.TagAudio
	}
	return frame{kind: k, body: body, sum: flv.Sum(typ, body)}.packet(0)
}

func video(r *rand.Rand, at int64, key bool, size int) frame {
	b := []byte{0x27, 1, 0, 0, 0}
	nal := byte(0x41)
	if key {
		b[0], nal = 0x17, 0x65
	}
	b = binary.BigEndian.AppendUint32(b, uint32(size+1))
	b = append(b, nal)
	for range size {
		b = append(b, byte(r.Uint32()))
	}
	return frame{kind: media.Video, key: key, at: at, body: b, sum: flv.Sum(flv.TagVideo, b)}
}

func audio(r *rand.Rand, at int64, size int) frame {
	b := []byte{0xAF, 1}
	for range size {
		b = append(b, byte(r.Uint32()))
	}
	return frame{kind: media.Audio, at: at, body: b, sum: flv.Sum(flv.TagAudio, b)}
}

const (
	frameMS = 40
	gopLen  = 50
	gopMS   = frameMS * gopLen
)

// film makes ms milliseconds of 25 frames a second with a key frame every 2 s, and the sound to it. With still, the
// picture and the sound are the same all the time but for the key frames.
func film(seed uint64, ms int64, still bool) []frame {
	r := rand.New(rand.NewPCG(seed, 7))
	p, a := video(r, 0, false, 300), audio(r, 0, 30)
	var out []frame
	sound := 0.0
	for at := int64(0); at < ms; at += frameMS {
		key := at%gopMS == 0
		v := p
		if key {
			v = video(r, at, true, 900)
		} else if !still {
			v = video(r, at, false, 60+r.IntN(400))
		}
		v.at = at
		out = append(out, v)
		for ; sound < float64(at+frameMS); sound += 1024.0 / 44.1 {
			s := a
			if !still {
				s = audio(r, 0, 30+r.IntN(40))
			}
			s.at = int64(sound)
			out = append(out, s)
		}
	}
	return out
}

func only(fs []frame, k media.Kind) []frame {
	return slices.DeleteFunc(slices.Clone(fs), func(f frame) bool { return f.kind != k })
}

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Failed() bool
}

// got is an item as the sink saw it.
type got struct {
	kind  media.Kind
	key   bool
	out   int64
	dur   int64
	size  int
	sum   uint64
	at    time.Time
	cts   int32
	part  int
	wrote time.Time

	packet media.Packet // with a body of its own
	data   []byte       // its payload
}

// sink keeps everything and checks what must always hold.
type sink struct {
	t       tb
	items   []got
	configs []repair.Configs
	gaps    []repair.Gap
	repairs []repair.Repair
	last    map[media.Kind]int64
	ordinal uint64
	content uint64
	mp4     bool
	plain   bool // parts are FLV: sums are of whole bodies
	fail    func(n int) error
	begun   func()
	now     func() time.Time
}

func (s *sink) Media(it *repair.Item) error {
	if s.fail != nil {
		if err := s.fail(len(s.items)); err != nil {
			return err
		}
	}
	if len(s.configs) == 0 {
		s.t.Error("media before any configuration")
	}
	if last, ok := s.last[it.Kind]; ok && it.Out <= last {
		s.t.Errorf("item %d, %v: output time %d after %d", it.Ordinal, it.Kind, it.Out, last)
	}
	if it.Out < 0 {
		s.t.Errorf("item %d: output time %d", it.Ordinal, it.Out)
	}
	s.ordinal++
	if it.Ordinal != s.ordinal {
		s.t.Errorf("ordinal %d, want %d", it.Ordinal, s.ordinal)
		s.ordinal = it.Ordinal
	}
	s.content = repair.Chain(s.content, it.Ordinal, it.Sum)
	typ := byte(flv.TagVideo)
	if it.Kind == media.Audio {
		typ = flv.TagAudio
	}
	of := it.Body
	if !s.plain || s.mp4 {
		of = it.Payload()
	}
	if flv.Sum(typ, of) != it.Sum {
		s.t.Errorf("item %d: the body is not what its sum says", it.Ordinal)
	}
	s.last[it.Kind] = it.Out
	s.items = append(s.items, got{kind: it.Kind, key: it.Key, out: it.Out, dur: it.Dur, size: len(it.Body), sum: it.Sum, at: it.At,
		cts: it.CTS, part: len(s.configs), wrote: s.now()})
	g := &s.items[len(s.items)-1]
	g.packet = it.Packet
	g.packet.Body = slices.Clone(it.Body)
	g.data = g.packet.Payload()
	return nil
}

func (s *sink) Config(c repair.Configs) error {
	c.Video.Body, c.Audio.Body = slices.Clone(c.Video.Body), slices.Clone(c.Audio.Body)
	s.configs = append(s.configs, c)
	is := func(typ byte, p media.Packet) bool { return p.Kind == 0 || p.Lead > 0 && flv.IsPlain(typ, p.Body) }
	s.plain = is(flv.TagVideo, c.Video) && is(flv.TagAudio, c.Audio)
	if s.begun != nil {
		s.begun()
	}
	return nil
}

func (s *sink) Gap(g repair.Gap)       { s.gaps = append(s.gaps, g) }
func (s *sink) Repair(r repair.Repair) { s.repairs = append(s.repairs, r) }

func (s *sink) kind(k media.Kind) []got {
	return slices.DeleteFunc(slices.Clone(s.items), func(g got) bool { return g.kind != k })
}

func (s *sink) gapTotal() time.Duration {
	var d time.Duration
	for _, g := range s.gaps {
		d += g.Length
	}
	return d
}

func (s *sink) count(k repair.RepairKind) int {
	n := 0
	for _, r := range s.repairs {
		if r.Kind == k {
			n++
		}
	}
	return n
}

// rig is a Repairer on a virtual wall clock.
type rig struct {
	t    tb
	s    *sink
	r    *repair.Repairer
	now  time.Time
	errs []error
	when []time.Time // of errs
}

var zero = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newRig(t tb) *rig {
	s := &sink{t: t, last: map[media.Kind]int64{}}
	g := &rig{t: t, s: s, r: repair.New(repair.Config{}, s), now: zero}
	s.now = func() time.Time { return g.now }
	return g
}

// push hands packets in as one batch at this moment. Their bytes are scribbled over afterwards, as a pool would.
func (g *rig) push(ps ...media.Packet) {
	g.t.Helper()
	b := &media.Batch{At: g.now, Packets: slices.Clone(ps)}
	for i := range b.Packets {
		b.Packets[i].Body = slices.Clone(b.Packets[i].Body)
		if b.Packets[i].Kind == media.Restart {
			b.Count.Header += 13
			b.Count.Received += 13
			continue
		}
		n := int64(len(b.Packets[i].Body)) + 15
		b.Count.Tags += n
		b.Count.Received += n
	}
	if err := g.r.Push(b); err != nil {
		g.errs, g.when = append(g.errs, err), append(g.when, g.now)
	}
	for i := range b.Packets {
		clear(b.Packets[i].Body)
	}
}

// advance lets the wall go on, with a Tick every 100 ms as promised.
func (g *rig) advance(to time.Time) {
	g.t.Helper()
	for to.Sub(g.now) > 100*time.Millisecond {
		g.now = g.now.Add(100 * time.Millisecond)
		if err := g.r.Tick(g.now); err != nil {
			g.t.Errorf("tick: %v", err)
			return
		}
	}
	if to.After(g.now) {
		g.now = to
	}
}

func (g *rig) connect(why string) {
	g.r.Connect(g.now, why)
	g.push(header(media.VideoConfig, videoA), header(media.AudioConfig, audioA))
}

func (g *rig) disconnect() {
	g.t.Helper()
	if err := g.r.Disconnect(g.now); err != nil {
		g.t.Errorf("disconnect: %v", err)
	}
	a := g.r.Account()
	if err := a.Check(); err != nil {
		g.t.Error(err)
	}
	if a.Held != 0 {
		g.t.Errorf("%d tags held after Disconnect", a.Held)
	}
	if want := int64(g.s.ordinal); a.Written != want {
		g.t.Errorf("account says %d written, sink has %d", a.Written, want)
	}
}

// live plays frames at the pace of the wall, ten batches a second; the first frame arrives now. shift is added to
// their time stamps. Frames before true time burst come at once.
func (g *rig) live(fs []frame, burst int64, shift func(f frame) int64) {
	g.t.Helper()
	if len(fs) == 0 {
		return
	}
	start, base := g.now, max(burst, fs[0].at)
	for i := 0; i < len(fs); {
		var ps []media.Packet
		until := max(fs[i].at, base)/100*100 + 100
		if fs[i].at < burst {
			until = burst
		}
		for ; i < len(fs) && fs[i].at < until; i++ {
			ps = append(ps, fs[i].packet(fs[i].at+shift(fs[i])))
		}
		if len(ps) == 0 {
			i++ // out of order by a little
			continue
		}
		g.advance(start.Add(time.Duration(until-base) * time.Millisecond))
		g.push(ps...)
	}
}

func by(ms int64) func(frame) int64 { return func(frame) int64 { return ms } }

// same checks that the video (and the audio from the first key frame on) is what it should be, each once, in order.
func (g *rig) same(want []frame) {
	g.t.Helper()
	for _, k := range []media.Kind{media.Video, media.Audio} {
		a, b := g.s.kind(k), only(want, k)
		if len(a) != len(b) {
			g.t.Errorf("%v: %d frames written, want %d", k, len(a), len(b))
		}
		for i := range min(len(a), len(b)) {
			if a[i].sum != b[i].sum {
				g.t.Errorf("%v: frame %d of %d (true time %d, output %d) is not the one it should be", k, i, len(b), b[i].at, a[i].out)
				return
			}
		}
	}
}

// steps checks that no video step is longer than a second.
func (g *rig) steps() {
	g.t.Helper()
	v := g.s.kind(media.Video)
	for i := 1; i < len(v); i++ {
		if d := v[i].out - v[i-1].out; d > 1000 {
			g.t.Errorf("video step of %d ms at %d", d, v[i-1].out)
		}
	}
}

func (g *rig) want(gaps int, total time.Duration, repairs int) {
	g.t.Helper()
	if len(g.s.gaps) != gaps {
		g.t.Errorf("%d gaps, want %d: %+v", len(g.s.gaps), gaps, g.s.gaps)
	}
	if d := (g.s.gapTotal() - total).Abs(); d > frameMS*time.Millisecond {
		g.t.Errorf("gaps of %v, want %v", g.s.gapTotal(), total)
	}
	if len(g.s.repairs) != repairs {
		g.t.Errorf("%d repairs, want %d: %+v", len(g.s.repairs), repairs, g.s.repairs)
	}
}

// heldFor is the longest time between the arrival of an item and its writing.
func (g *rig) heldFor() (d time.Duration) {
	for _, it := range g.s.items {
		d = max(d, it.wrote.Sub(it.at))
	}
	return d
}

func between(fs []frame, from, to int64) []frame {
	out := make([]frame, 0, len(fs))
	for _, f := range fs {
		if f.at >= from && f.at < to {
			out = append(out, f)
		}
	}
	return out
}

func metadata() media.Packet { return script("onMetaData") }
