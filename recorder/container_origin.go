package recorder

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/recorder/repair"
)

// configs is what the head of the next part is made from. The bodies are as they came: from FLV with their tag header.
type configs struct {
	video, audio, script []byte
	codec                [2]media.Codec // video, sound; NoCodec: no such track
	lead                 [2]int         // length of the FLV tag headers, 0 where there are none
	tagged               bool           // the frames have such headers as well
}

const (
	vid = 0
	aud = 1
)

func newConfigs(c repair.Configs) configs {
	v := configs{video: bytes.Clone(c.Video.Body), audio: bytes.Clone(c.Audio.Body), script: bytes.Clone(c.Script)}
	for t, p := range []media.Packet{c.Video, c.Audio} {
		if p.Kind == 0 && len(p.Body) == 0 {
			continue
		}
		if v.codec[t] = p.Codec; p.Codec == media.NoCodec {
			v.codec[t] = []media.Codec{media.AVC, media.AAC}[t]
		}
		v.lead[t] = headerLead(&p)
		v.tagged = v.tagged || v.lead[t] > 0
	}
	return v
}

// headerLead is the length of the FLV tag header of a configuration.
func headerLead(p *media.Packet) int {
	b := p.Body
	switch {
	case p.Lead > 0:
		return int(p.Lead)
	case len(b) > 5 && (b[0] == 0x17 || b[0] == 0x1c) && b[1] == 0: // no configuration record begins like this
		return 5
	case len(b) > 2 && b[0]>>4 == 10 && b[1] == 0 && p.Kind != media.VideoConfig:
		return 2
	}
	return 0
}

// record is the configuration record of a track.
func (c *configs) record(t int) []byte {
	b := c.video
	if t == aud {
		b = c.audio
	}
	return b[min(c.lead[t], len(b)):]
}

// leadOf is the length of the FLV tag header of a frame.
func (c *configs) leadOf(p *media.Packet) int {
	switch {
	case p.Lead > 0:
		return int(p.Lead)
	case !c.tagged:
		return 0
	case p.Kind == media.Video:
		return 5
	}
	return 2
}

// choose is the container of parts with these configurations.
func (c *configs) choose(want Container) Container {
	if want != ContainerAuto && want != "" {
		return want
	}
	for t, only := range []media.Codec{media.AVC, media.AAC} {
		if c.codec[t] != media.NoCodec && c.codec[t] != only {
			return ContainerMP4
		}
	}
	if !c.tagged {
		return ContainerMP4
	}
	return ContainerFLV
}

// origin remembers what the frames of a part looked like when they came, where its file does not: the headers of their
// FLV tags. A Repairer knows frames by the digest of the whole tag, so that a next process needs them to recognise what
// the source sends again. Where a header cannot be made again a frame is not recognised, nothing else.
type origin struct {
	// Video key frames and others, each without and with a composition time, and sound. A composition time is the last
	// thing in a header, and is left out here.
	Leads [5][]byte `json:"leads"`
}

const mostLead = 32 // headers that are longer hold what changes from frame to frame

func originSlot(video, key, shifted bool) int {
	if !video {
		return 4
	}
	i := 0
	if !key {
		i = 2
	}
	if shifted {
		i++
	}
	return i
}

// learn looks at a frame with a header of n bytes.
func (o *origin) learn(it *repair.Item, n int) {
	if n > mostLead || n > len(it.Body) {
		return
	}
	i := originSlot(it.Kind == media.Video, it.Key, it.CTS != 0)
	lead := it.Body[:n]
	if i == 1 || i == 3 {
		lead = lead[:max(n-3, 0)]
	}
	if !bytes.Equal(o.Leads[i], lead) {
		o.Leads[i] = append(o.Leads[i][:0], lead...)
	}
}

// seen reports whether any frame had a header.
func (o *origin) seen() bool {
	return slices.ContainsFunc(o.Leads[:], func(b []byte) bool { return len(b) > 0 })
}

func (o *origin) clone() *origin {
	if o == nil {
		return nil
	}
	c := &origin{}
	for i, b := range o.Leads {
		c.Leads[i] = bytes.Clone(b)
	}
	return c
}

// sum is the digest of a frame as the source sent it, and the size of its body then.
func (o *origin) sum(video, key bool, shift time.Duration, data []byte) (uint64, int) {
	cts := int32(shift.Round(time.Millisecond) / time.Millisecond)
	var lead []byte
	if o != nil {
		i := originSlot(video, key, cts != 0)
		lead = o.Leads[i]
		if i == 1 || i == 3 {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], uint32(cts))
			if len(lead) > 0 {
				lead = append(slices.Clip(lead), b[1:]...)
			}
		}
	}
	typ := flv.TagAudio
	if video {
		typ = flv.TagVideo
	}
	return digest(typ, lead, data), len(lead) + len(data)
}

// digest is flv.Sum of a body in two pieces.
func digest(typ byte, lead, data []byte) uint64 {
	var d xxhash.Digest
	var t [1]byte
	t[0] = typ
	d.Reset()
	_, _ = d.Write(t[:]) // a Digest takes everything
	_, _ = d.Write(lead)
	_, _ = d.Write(data)
	return d.Sum64()
}

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
