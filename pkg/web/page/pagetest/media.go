package pagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/media/mpegts"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/web"
)

// Media is a part as it grows: all its bytes, and how many of them are durable after each half second of media.
type Media struct {
	Container string
	Bytes     []byte
	Durable   []int64
	Keys      []int // numbers of the halves of a second in which a key frame came
}

const half = 500 * time.Millisecond

// Make writes a part of that length in a container as the recorder does, from an FLV clip that is looped.
func Make(clip []byte, container string, length time.Duration) (*Media, error) {
	var video, audio []byte // bodies
	var packets []media.Packet
	_, _, err := flv.ReadAll(bytes.NewReader(clip), flv.DemuxerConfig{}, func(b *media.Batch) error {
		for _, p := range b.Packets {
			p.Body = bytes.Clone(p.Body)
			switch p.Kind {
			case media.VideoConfig:
				video = p.Body
			case media.AudioConfig:
				audio = p.Body
			case media.Video, media.Audio:
				packets = append(packets, p)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(packets) == 0 || video == nil || audio == nil {
		return nil, errors.New("the clip has not all that a part needs")
	}
	m := &Media{Container: container}
	w, err := begin(container, video, audio, length)
	if err != nil {
		return nil, err
	}
	m.Bytes = w.head()
	round := time.Duration(packets[len(packets)-1].DTS-packets[0].DTS+33) * time.Millisecond
	next := half
	for at := time.Duration(0); at < length; at += round {
		for _, p := range packets {
			now := at + time.Duration(p.DTS-packets[0].DTS)*time.Millisecond
			for now >= next {
				m.Bytes = w.flush(m.Bytes)
				m.Durable = append(m.Durable, int64(len(m.Bytes)))
				next += half
			}
			if p.Kind == media.Video && p.Key {
				m.Keys = append(m.Keys, len(m.Durable))
			}
			if m.Bytes, err = w.add(m.Bytes, p, now); err != nil {
				return nil, err
			}
		}
	}
	m.Bytes = w.flush(m.Bytes)
	m.Durable = append(m.Durable, int64(len(m.Bytes)))
	return m, nil
}

type writer struct {
	head  func() []byte
	add   func(b []byte, p media.Packet, at time.Duration) ([]byte, error)
	flush func(b []byte) []byte
}

func begin(container string, video, audio []byte, length time.Duration) (writer, error) {
	same := func(b []byte) []byte { return b }
	switch container {
	case "flv":
		h, err := flv.NewHead(flv.HeadConfig{Video: video, Audio: audio, Limit: length})
		return writer{
			head: func() []byte { return bytes.Clone(h.Patch()) },
			add: func(b []byte, p media.Packet, at time.Duration) ([]byte, error) {
				typ := flv.TagAudio
				if p.Kind == media.Video {
					typ = flv.TagVideo
				}
				h.Add(typ, at.Milliseconds(), len(p.Body), p.Key)
				return flv.AppendTag(b, typ, uint32(at.Milliseconds()), p.Body), nil
			},
			flush: func(b []byte) []byte { copy(b, h.Patch()); return b }}, err
	case "mp4":
		v, err := flv.ParseVideoConfig(video)
		if err != nil {
			return writer{}, err
		}
		w, err := mp4.NewWriter(mp4.Config{
			Video: &mp4.Track{Codec: media.AVC, Config: video[5:], Width: v.Width, Height: v.Height},
			Audio: &mp4.Track{Codec: media.AAC, Config: audio[2:]}})
		return writer{
			head: func() []byte { return w.Head() },
			add: func(b []byte, p media.Packet, at time.Duration) ([]byte, error) {
				return b, w.Add(mp4.Sample{Video: p.Kind == media.Video, Key: p.Key, Time: at, Shift: time.Duration(p.CTS) * time.Millisecond, Data: p.Payload()})
			},
			flush: w.Flush}, err
	case "ts":
		w, err := mpegts.NewMuxer(mpegts.Config{Video: &mpegts.Track{Codec: media.AVC, Config: video[5:]}, Audio: &mpegts.Track{Codec: media.AAC, Config: audio[2:]}})
		return writer{head: func() []byte { return w.Head() },
			add: func(b []byte, p media.Packet, at time.Duration) ([]byte, error) {
				return b, w.Add(mpegts.Sample{Video: p.Kind == media.Video, Key: p.Key, Time: at, Shift: time.Duration(p.CTS) * time.Millisecond, Data: p.Payload()})
			},
			flush: w.Flush}, err
	}
	return writer{head: func() []byte { return nil }, flush: same}, fmt.Errorf("there is no container %q", container)
}

// Growing is a Media of which so much is there.
type Growing struct {
	*Media
	At     func() int // how many halves of a second are durable
	Closed func() bool
	Wrong  atomic.Int64 // reads that went beyond what was durable
}

type cautious struct{ g *Growing }

func (c cautious) ReadAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > c.g.now() {
		c.g.Wrong.Add(1)
	}
	return bytes.NewReader(c.g.Bytes).ReadAt(b, at)
}

func (g *Growing) now() int64 {
	if g.Closed() {
		return int64(len(g.Bytes))
	}
	return g.Durable[min(max(g.At(), 1), len(g.Durable))-1]
}

// Open is it as a View gives it.
func (g *Growing) Open() *web.Open {
	return &web.Open{ReaderAt: cautious{g}, Closer: io.NopCloser(nil), ID: segment.ID{Session: "B", Seq: 4}, Container: g.Container, Durable: g.now, Sealed: g.Closed}
}
