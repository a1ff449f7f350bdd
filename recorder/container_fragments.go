package recorder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/media/mpegts"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
)

// fragmentBytes and fragmentTime bound what a fragment gathers while nobody looks at the clock.
const (
	fragmentBytes = 1 << 20
	fragmentTime  = 2 * time.Second
	// fragmentCost is more than what a frame costs beside its bytes: the head of a new fragment, and its places in the index.
	fragmentCost = 1 << 10
)

// muxer makes the bytes of one file that grows by fragments: mp4.Writer, mpegts.Muxer.
type muxer interface {
	Head() []byte
	Pending() (int, time.Duration)
	Flush(dst []byte) []byte
	Size() int64
	Written() int64
	Duration() time.Duration
	Frames() (video, audio int64)
	Content() uint64

	add(it *repair.Item, at time.Duration) error
	headLen() int64
	finish() ending
	kind() Container
}

// fragments is a part that grows by whole fragments, the head coming with the first one.
type fragments struct {
	muxer
	configs configs
	begun   bool // the head was handed out
}

var _ container = (*fragments)(nil)

func (c *fragments) head() int64                  { return c.headLen() }
func (c *fragments) size() int64                  { return c.Size() }
func (c *fragments) grows(n int) int64            { return int64(n) + int64(n)/16 + fragmentCost }
func (c *fragments) index() []byte                { return nil }
func (c *fragments) duration() time.Duration      { return c.Duration() }
func (c *fragments) frames() (video, audio int64) { return c.Frames() }
func (c *fragments) content() uint64              { return c.Content() }

func (c *fragments) held() int {
	n, _ := c.Pending()
	return n
}

func (c *fragments) add(o *output, it *repair.Item, _ int64, at time.Duration) error {
	if n, d := c.Pending(); n > 0 && (n+len(it.Body) > fragmentBytes || d >= fragmentTime) {
		if err := c.flush(o); err != nil {
			return err
		}
	}
	err := c.muxer.add(it, at)
	if errors.Is(err, mp4.ErrFull) {
		if err := c.flush(o); err != nil {
			return err
		}
		err = c.muxer.add(it, at)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return nil
}

func (c *fragments) about() noteFile {
	f := noteFile{Container: c.kind(), Codec: c.configs.codec, Record: [2][]byte{c.configs.record(vid), c.configs.record(aud)}}
	if c.begun && c.headLen() > 0 {
		f.Head = c.Head()
	}
	return f
}

// flush hands the open fragment out and to the system at once: it is larger than what the buffer gathers.
func (c *fragments) flush(o *output) error {
	if !c.begun {
		o.buf = append(o.buf, c.Head()...)
		c.begun = true
	}
	var data [2][]byte
	if m, ok := c.muxer.(mp4Muxer); ok {
		o.buf, data = m.FlushHead(o.buf)
	} else {
		o.buf = c.Flush(o.buf)
	}
	err := o.write()
	for _, d := range data { // not copied once more: it is most of what there is
		if err == nil && len(d) > 0 {
			_, err = o.file.Write(d)
		}
	}
	if cap(o.buf) > 2*fragmentBytes { // one very large frame was in it
		o.buf = make([]byte, 0, writeBuffer)
	}
	return err
}

// complete reports whether the head can be made: frames of every track were seen.
func (c *fragments) complete() bool {
	v, a := c.Frames()
	return c.begun || (c.configs.codec[vid] == media.NoCodec || v > 0) && (c.configs.codec[aud] == media.NoCodec || a > 0)
}

// newFragments begins a part that is not FLV.
func newFragments(kind Container, c configs) (*fragments, error) {
	f := &fragments{configs: c}
	var err error
	if kind == ContainerTS {
		f.muxer, err = newTS(c)
	} else {
		f.muxer, err = newMP4(c)
	}
	return f, err
}

// mp4Muxer is hybrid MP4: fragments while it grows, an ordinary MP4 once it is closed.
type mp4Muxer struct{ *mp4.Writer }

func newMP4(c configs) (muxer, error) {
	w, err := mp4.NewWriter(mp4Config(&c))
	if err != nil {
		return nil, err
	}
	return mp4Muxer{w}, nil
}

func mp4Config(c *configs) (m mp4.Config) {
	if c.codec[vid] != media.NoCodec {
		t := track(c, vid)
		m.Video = &t
	}
	if c.codec[aud] != media.NoCodec {
		t := track(c, aud)
		m.Audio = &t
	}
	return m
}

func track(c *configs, i int) mp4.Track {
	t := mp4.Track{Codec: c.codec[i], Config: c.record(i)}
	info, err := codec.Parse(t.Codec, t.Config)
	if err == nil {
		t.Width, t.Height, t.SampleRate, t.Channels = info.Width, info.Height, info.SampleRate, info.Channels
	}
	if i == vid {
		t.Colour = c.colour
	}
	switch t.Codec {
	case media.MP3, media.PCMA, media.PCMU:
		t.Config = nil // what there is is no record
	default:
		t.SampleRate, t.Channels = 0, 0 // the record says it
	}
	return t
}

func (m mp4Muxer) kind() Container { return ContainerMP4 }
func (m mp4Muxer) headLen() int64  { return m.HeadLen() }

func (m mp4Muxer) add(it *repair.Item, at time.Duration) error {
	s := mp4.Sample{Video: it.Kind == media.Video, Key: it.Key, Time: at, Shift: it.Shift, Lasts: it.Lasts,
		Data: it.Payload()}
	// A Repairer whose parts hold no tags makes its sums of the data. Around a change of the configuration sound may come
	// with another kind of sum, and costs next to nothing.
	if it.Lead == 0 || s.Video {
		s.Sum = it.Sum
	}
	return m.Add(s)
}

func (m mp4Muxer) finish() ending {
	tail, at, patch := m.Close()
	return ending{tail: tail, patch: patch, at: at}
}

// tsMuxer is MPEG-TS: nothing of it ever changes.
type tsMuxer struct {
	*mpegts.Muxer
	tracks [2]span
}

// span is how far one track reaches.
type span struct {
	frames            int64
	first, last, step time.Duration
}

func (s *span) add(at, usual time.Duration) {
	switch {
	case s.frames == 0:
		s.first, s.step = at, usual
	case at > s.last:
		s.step = at - s.last
	}
	s.frames++
	s.last = at
}

func newTS(c configs) (muxer, error) {
	m, err := mpegts.NewMuxer(tsConfig(&c))
	if err != nil {
		return nil, err
	}
	return &tsMuxer{Muxer: m}, nil
}

func tsConfig(c *configs) (m mpegts.Config) {
	if c.codec[vid] != media.NoCodec {
		m.Video = &mpegts.Track{Codec: c.codec[vid], Config: c.record(vid)}
	}
	if c.codec[aud] != media.NoCodec {
		m.Audio = &mpegts.Track{Codec: c.codec[aud], Config: c.record(aud)}
	}
	return m
}

func (m *tsMuxer) kind() Container { return ContainerTS }
func (m *tsMuxer) headLen() int64  { return 0 }
func (m *tsMuxer) finish() ending  { return ending{} }

// Duration is from the first frame to the end of the last one, of video if there is some, else of sound.
func (m *tsMuxer) Duration() time.Duration {
	for _, s := range m.tracks {
		if s.frames > 0 {
			return s.last + s.step - s.first
		}
	}
	return 0
}

func (m *tsMuxer) Frames() (video, audio int64) { return m.tracks[vid].frames, m.tracks[aud].frames }

func (m *tsMuxer) add(it *repair.Item, at time.Duration) error {
	err := m.Add(mpegts.Sample{Video: it.Kind == media.Video, Key: it.Key, Time: at, Shift: it.Shift, Data: it.Payload()})
	if err == nil {
		m.count(it.Kind == media.Video, at, it.Lasts)
	}
	return err
}

func (m *tsMuxer) count(video bool, at, usual time.Duration) {
	t := aud
	if video {
		t = vid
	}
	m.tracks[t].add(at, usual)
}

// measureMP4 walks a hybrid MP4, wherever a crash has left it.
func measureMP4(r io.ReaderAt, size int64, seg segment.Segment, n note) (measured, error) {
	m := measured{base: baseOf(seg.ID.Seq, n)}
	m.exact = exactOf(seg.ID.Seq, n)
	c, own := n.tracks(seg.ID.Seq)
	cfg := mp4.ScanConfig{Last: tailLength, From: 1}
	if own {
		cfg.Head, cfg.From = n.File.Head, max(n.Size, 1)
		cfg.Known = mp4.Mark{Written: n.Size, Frames: n.Frames, Content: n.Content}
	}
	if c.codec != [2]media.Codec{} {
		head := mp4Config(&c)
		cfg.Config = &head
	}
	units := own && (c.codec[vid] == media.AVC || c.codec[vid] == media.HEVC)
	var frames []stored
	cfg.Sample = func(s mp4.ScannedSample) error {
		f := stored{at: s.Time, off: s.Offset, tag: repair.TailTag{Kind: media.Audio, Key: s.Key, Size: s.Size, Sum: s.Sum}}
		if s.Video {
			f.tag.Kind = media.Video
		}
		frames = append(frames, f)
		if s.Offset >= seg.Size && m.torn == 0 {
			return m.look(r, s, units)
		}
		return nil
	}
	s, err := mp4.Scan(r, size, cfg)
	if errors.Is(err, mp4.ErrForeign) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	m.end, m.frames = s.End, s.Video.Frames+s.Audio.Frames
	m.tail = fit(frames, m.exact, known(own, n), n.last())
	if s.Writer == nil {
		m.err = mp4.ErrForeign
		return m, nil
	}
	if s.Rewrite {
		m.rewrite = s.Writer.Head()
	}
	c.set(vid, s.Config.Video)
	c.set(aud, s.Config.Audio)
	m.container = &fragments{muxer: mp4Muxer{s.Writer}, configs: c, begun: true}
	return m, nil
}

// look tells whether a frame that may not have been synced is what was written. A file system can give zeros for what it
// lost with the power, and MP4 has nothing between two frames that would show it.
func (m *measured) look(r io.ReaderAt, s mp4.ScannedSample, units bool) error {
	data := make([]byte, s.Size)
	if _, err := r.ReadAt(data, s.Offset); err != nil {
		return fmt.Errorf("read %d bytes at %d: %w", s.Size, s.Offset, err)
	}
	zeros := len(data) - len(bytes.TrimRight(data, "\x00"))
	// No NAL unit ends in zeros; a few of them are what sloppy encoders leave behind one.
	if zeros >= 4 && (zeros == len(data) || units && s.Video && zeros >= 16) {
		m.torn = s.Offset
	}
	return nil
}

// known is the length of the file that the note knows.
func known(own bool, n note) int64 {
	if own {
		return n.Size
	}
	return 0
}

func (c *configs) set(t int, k *mp4.Track) {
	if k == nil {
		c.codec[t] = media.NoCodec
		return
	}
	c.codec[t], c.lead[t] = k.Codec, 0
	if t == vid {
		c.video = k.Config
	} else {
		c.audio = k.Config
	}
}

// measureTS walks an MPEG-TS file of ours.
func measureTS(r io.ReaderAt, size int64, seg segment.Segment, n note) (measured, error) {
	m := measured{base: baseOf(seg.ID.Seq, n)}
	m.exact = exactOf(seg.ID.Seq, n)
	c, own := n.tracks(seg.ID.Seq)
	if !own {
		var err error
		if c, err = configsOfTS(r, size); err != nil || c.codec == [2]media.Codec{} {
			return m, err
		}
	}
	var frames []stored
	ts := &tsMuxer{}
	s, err := mpegts.Scan(r, size, mpegts.ScanConfig{Config: tsConfig(&c), Sample: func(s mpegts.Sample, at int64, sum uint64) {
		f := stored{at: s.Time, off: at, tag: repair.TailTag{Kind: media.Audio, Key: s.Key, Size: len(s.Data), Sum: sum}}
		if s.Video {
			f.tag.Kind = media.Video
		}
		frames = append(frames, f)
		ts.count(s.Video, s.Time, 0)
	}})
	if errors.Is(err, codec.ErrBad) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	m.end = s.Cut
	if s.Muxer == nil {
		return m, nil
	}
	ts.Muxer = s.Muxer
	m.frames = int64(len(frames))
	m.tail = fit(recent(frames, known(own, n)), m.exact, known(own, n), n.last())
	m.container = &fragments{muxer: ts, configs: c, begun: true}
	return m, nil
}

// recent leaves what the note does not know, and the last of what it does.
func recent(frames []stored, known int64) []stored {
	last := time.Duration(0)
	for i := range frames {
		last = max(last, frames[i].at)
	}
	for i := range frames {
		if frames[i].off >= known || frames[i].at >= last-tailLength {
			return frames[i:]
		}
	}
	return nil
}

// configsOfTS finds what a transport stream begins with.
func configsOfTS(r io.ReaderAt, size int64) (c configs, err error) {
	d := mpegts.NewDemuxer(mpegts.DemuxerConfig{Unit: func(u *mpegts.Unit) error {
		t := aud
		if u.Video {
			t = vid
		}
		if u.Track == 0 && u.Config != nil && c.codec[t] == media.NoCodec {
			c.codec[t] = u.Codec
			if u.Video {
				c.video = u.Config
			} else {
				c.audio = u.Config
			}
		}
		return nil
	}})
	if _, err := io.Copy(d, io.NewSectionReader(r, 0, min(size, 1<<20))); err != nil {
		return c, fmt.Errorf("read the begin of a part: %w", err)
	}
	return c, d.Flush()
}
