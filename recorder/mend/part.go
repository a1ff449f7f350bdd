package mend

import (
	"errors"
	"fmt"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/recorder/repair"
)

// What is gathered before it goes to the file.
const (
	bufferBytes   = 1 << 20
	fragmentBytes = 4 << 20
	fragmentTime  = 4 * time.Second
	fragmentLeast = time.Second // a key frame begins a fragment if the open one has so much
)

// errRefused says that a frame cannot stand in the file. Nothing of it was written.
var errRefused = errors.New("cannot stand in the file")

// frame is one frame with its time in the part.
type frame struct {
	video, key bool
	at, shift  time.Duration
	lasts      time.Duration
	body       []byte // the tag body of FLV, or the frame
	lead       int
}

// part is a file that is being written.
type part struct {
	file *durable.File
	name string // while it is written
	buf  []byte
	flv  *flv.Head
	mp4  *mp4.Writer
	head bool // the head of an MP4 is in buf or in the file
	// content is the running hash of what was written, by the writer of an MP4; that of FLV keeps none.
	content uint64
}

// config is what a part is made from; its bytes are its own.
type config struct {
	video, audio media.Packet
	meta         flv.Metadata
}

func (c config) has(video bool) bool {
	if video {
		return c.video.Kind != 0
	}
	return c.audio.Kind != 0
}

// plain reports whether the part can be FLV that everybody reads.
func (c config) plain() bool {
	for _, x := range []struct {
		typ byte
		p   *media.Packet
	}{{flv.TagVideo, &c.video}, {flv.TagAudio, &c.audio}} {
		if x.p.Kind != 0 && (x.p.Lead == 0 || !flv.IsPlain(x.typ, x.p.Body)) {
			return false
		}
	}
	return true
}

// newPart begins a part. length is about how long it will be.
func newPart(c config, length time.Duration) (p *part, err error) {
	p = &part{}
	if c.plain() {
		p.flv, err = flv.NewHead(flv.HeadConfig{Video: c.video.Body, Audio: c.audio.Body, Meta: c.meta, Limit: length})
		if err != nil {
			return nil, fmt.Errorf("lay out an FLV: %w", err)
		}
		p.buf = append(p.buf, p.flv.Patch()...)
		return p, nil
	}
	m := mp4.Config{}
	if c.video.Kind != 0 {
		m.Video = track(&c.video)
	}
	if c.audio.Kind != 0 {
		m.Audio = track(&c.audio)
	}
	if p.mp4, err = mp4.NewWriter(m); err != nil {
		return nil, fmt.Errorf("lay out an MP4: %w", err)
	}
	return p, nil
}

func track(p *media.Packet) *mp4.Track {
	t := &mp4.Track{Codec: p.Codec, Config: p.Payload()}
	info, err := codec.Parse(p.Codec, p.Payload())
	if err == nil {
		t.Width, t.Height = info.Width, info.Height
	}
	switch p.Codec {
	case media.MP3, media.PCMA, media.PCMU: // what there is is no record
		t.Config, t.SampleRate, t.Channels = nil, info.SampleRate, info.Channels
	}
	return t
}

func (p *part) ext() string {
	if p.flv != nil {
		return ".flv"
	}
	return ".mp4"
}

// add appends a frame.
func (p *part) add(f *frame) error {
	if p.flv != nil {
		typ := flv.TagAudio
		if f.video {
			typ = flv.TagVideo
		}
		ms := f.at.Milliseconds()
		p.flv.Add(typ, ms, len(f.body), f.key)
		p.buf = flv.AppendTag(p.buf, typ, uint32(ms), f.body)
		return p.write(bufferBytes)
	}
	if n, d := p.mp4.Pending(); n > 0 && (f.video && f.key && d >= fragmentLeast || n+len(f.body) > fragmentBytes || d >= fragmentTime) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	s := mp4.Sample{Video: f.video, Key: f.key, Time: f.at, Shift: f.shift, Lasts: f.lasts, Data: f.body[f.lead:]}
	err := p.mp4.Add(s)
	if errors.Is(err, mp4.ErrFull) {
		if err := p.flush(); err != nil {
			return err
		}
		err = p.mp4.Add(s)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return nil
}

// flush ends the open fragment of an MP4.
func (p *part) flush() error {
	if !p.head {
		p.buf, p.head = append(p.buf, p.mp4.Head()...), true
	}
	p.buf = p.mp4.Flush(p.buf)
	return p.write(bufferBytes)
}

// write hands the buffer to the system if it has so many bytes.
func (p *part) write(least int) error {
	if len(p.buf) < least {
		return nil
	}
	_, err := p.file.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}

// finish makes the file whole and durable.
func (p *part) finish() error {
	if p.mp4 != nil {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if err := p.write(1); err != nil {
		return err
	}
	patch, at := []byte(nil), int64(0)
	if p.flv != nil {
		patch = p.flv.Patch()
	} else {
		var tail []byte
		p.content = p.mp4.Content()
		tail, at, patch = p.mp4.Close()
		p.buf = append(p.buf, tail...)
		if err := p.write(1); err != nil {
			return err
		}
		if err := p.file.Sync(); err != nil {
			return err
		}
	}
	if _, err := p.file.WriteAt(patch, at); err != nil {
		return err
	}
	return p.file.Sync()
}

// usual is how long a frame lasts by the configuration, 0 if that does not say.
func usual(p *media.Packet) time.Duration {
	info, err := codec.Parse(p.Codec, p.Payload())
	if err != nil {
		return 0
	}
	return info.FrameDuration()
}

func frameOf(it *repair.Item) frame {
	return frame{video: it.Kind == media.Video, key: it.Key, at: it.Time, shift: it.Shift, lasts: it.Lasts,
		body: it.Body, lead: min(int(it.Lead), len(it.Body))}
}
