package recorder

import (
	"bytes"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/recorder/repair"
)

const (
	vid = 0
	aud = 1
)

// configs is what the head of the next part is made from. The bodies are as they came: from FLV with their tag header.
type configs struct {
	video, audio, script []byte
	codec                [2]media.Codec // NoCodec: no such track
	lead                 [2]int         // length of the tag headers
	colour               mp4.Colour     // of video, where the source says it outside the pictures
}

func newConfigs(c repair.Configs) configs {
	v := configs{video: bytes.Clone(c.Video.Body), audio: bytes.Clone(c.Audio.Body), script: bytes.Clone(c.Script)}
	for t, p := range []media.Packet{c.Video, c.Audio} {
		if p.Kind != 0 {
			v.codec[t], v.lead[t] = p.Codec, min(int(p.Lead), len(p.Body))
		}
	}
	if said, ok := flv.ParseColour(c.Colour); ok {
		v.colour = mp4.Colour{Primaries: said.Primaries, Transfer: said.Transfer, Matrix: said.Matrix}
	}
	return v
}

func (c *configs) body(t int) []byte {
	if t == vid {
		return c.video
	}
	return c.audio
}

// record is the configuration record of a track, as in media.Packet.Payload.
func (c *configs) record(t int) []byte { return c.body(t)[c.lead[t]:] }

// plain reports whether a track is what an FLV part holds as it came.
func (c *configs) plain(t int) bool {
	typ, only := flv.TagVideo, media.AVC
	if t == aud {
		typ, only = flv.TagAudio, media.AAC
	}
	return c.codec[t] == only && c.lead[t] > 0 && flv.IsPlain(typ, c.body(t))
}

// tags reports whether every track is so.
func (c *configs) tags() bool {
	for t := range c.codec {
		if c.codec[t] != media.NoCodec && !c.plain(t) {
			return false
		}
	}
	return true
}

// choose is the container of parts with these configurations.
func (c *configs) choose(want Container) Container {
	switch {
	case want != ContainerAuto && want != "":
		return want
	case c.tags():
		return ContainerFLV
	}
	return ContainerMP4
}

// forced reports whether no part holds FLV tags as they came, so that a Repairer must know frames by their data alone.
func (c Container) forced() bool { return c == ContainerMP4 || c == ContainerTS }

// stored is a frame that was read back from a file that is not FLV.
type stored struct {
	tag repair.TailTag
	at  time.Duration // from the begin of the part
	off int64         // in the file
}

// fit gives frames their output times, in whole ms. A file may have them a little off, so what the note says decides which
// of them it knows: those in front of known, in the file. They come out in the order of their times.
func fit(frames []stored, base time.Duration, known int64, last [2]int64) []repair.TailTag {
	const slack = 50 * time.Microsecond // more than a tick
	for t, kind := range []media.Kind{media.Video, media.Audio} {
		limit := last[t]
		for i := len(frames) - 1; i >= 0; i-- {
			f := &frames[i]
			if f.tag.Kind != kind {
				continue
			}
			f.tag.Out = int64((base + f.at + slack) / time.Millisecond)
			if f.off < known {
				f.tag.Out = min(f.tag.Out, limit)
				limit = f.tag.Out - 1
			}
		}
		least := last[t] + 1
		for i := range frames {
			if f := &frames[i]; f.tag.Kind == kind && f.off >= known {
				f.tag.Out = max(f.tag.Out, least)
				least = f.tag.Out + 1
			}
		}
	}
	slices.SortStableFunc(frames, func(a, b stored) int { return int(a.tag.Out - b.tag.Out) })
	tags := make([]repair.TailTag, len(frames))
	for i := range frames {
		tags[i] = frames[i].tag
	}
	return tags
}
