package liveroom

import (
	_ "embed"
	"encoding/binary"
	"fmt"
)

// The clips, made by clip.sh. Both last 8 s; the second has another picture size and B frames.
var (
	//go:embed clip.flv
	firstClip []byte
	//go:embed clip2.flv
	secondClip []byte
)

// FLV tag types.
const (
	tagAudio  = 8
	tagVideo  = 9
	tagScript = 18
)

// The clock of both clips: the timestamps of the room are made from counters, so that they never drift.
const (
	framesPerSecond = 30
	samplesPerFrame = 1024
	sampleRate      = 48000
)

type picture struct {
	body []byte // tag body: 5 bytes of header, then length-prefixed NAL units
	key  bool
}

type clip struct {
	width, height int
	videoConfig   []byte // body of the AVC sequence header tag
	audioConfig   []byte // body of the AAC sequence header tag
	video         []picture
	audio         [][]byte
	bytes         int // of all bodies
}

// parseClip takes an embedded clip apart. The slices point into data.
func parseClip(data []byte, width, height int) (*clip, error) {
	c := &clip{width: width, height: height}
	for at := 13; at+15 <= len(data); {
		size := int(data[at+1])<<16 | int(data[at+2])<<8 | int(data[at+3])
		if at+15+size > len(data) {
			return nil, fmt.Errorf("clip ends inside the tag at byte %d", at)
		}
		body := data[at+11 : at+11+size : at+11+size]
		switch data[at] {
		case tagVideo:
			switch {
			case size < 5 || body[0]&0x0f != 7:
				return nil, fmt.Errorf("clip has a video tag that is not AVC at byte %d", at)
			case body[1] == 0:
				c.videoConfig = body
			case body[1] == 1:
				c.video = append(c.video, picture{body: body, key: body[0]>>4 == 1})
				c.bytes += size
			}
		case tagAudio:
			switch {
			case size < 2 || body[0]>>4 != 10:
				return nil, fmt.Errorf("clip has an audio tag that is not AAC at byte %d", at)
			case body[1] == 0:
				c.audioConfig = body
			default:
				c.audio = append(c.audio, body)
				c.bytes += size
			}
		}
		at += 15 + size
	}
	if c.videoConfig == nil || c.audioConfig == nil || len(c.video) == 0 || !c.video[0].key ||
		len(c.video)*sampleRate != len(c.audio)*samplesPerFrame*framesPerSecond {
		return nil, fmt.Errorf("clip is not a loop: %d pictures, %d audio frames", len(c.video), len(c.audio))
	}
	return c, nil
}

// bytesPerSecond is the rate of the clip as sent, without padding.
func (c *clip) bytesPerSecond() float64 {
	seconds := float64(len(c.video)) / framesPerSecond
	overhead := 15*(len(c.video)+len(c.audio)) + (4+seiSize)*len(c.video)
	return float64(c.bytes+overhead) / seconds
}

// metadata is the body of an onMetaData tag, as live servers send it: no duration, no index.
func (c *clip) metadata() []byte {
	b := []byte{2, 0, 10}
	b = append(b, "onMetaData"...)
	number := func(key string, v uint64) { // v is the bit pattern of a float64
		b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
		b = append(b, key...)
		b = append(b, 0)
		b = binary.BigEndian.AppendUint64(b, v)
	}
	text := func(key, v string) {
		b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
		b = append(b, key...)
		b = append(b, 2)
		b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
		b = append(b, v...)
	}
	b = append(b, 8, 0, 0, 0, 8)
	number("width", bits(float64(c.width)))
	number("height", bits(float64(c.height)))
	number("framerate", bits(framesPerSecond))
	number("videocodecid", bits(7))
	number("audiocodecid", bits(10))
	number("audiosamplerate", bits(sampleRate))
	number("audiosamplesize", bits(16))
	text("encoder", "liverec liveroom")
	return append(b, 0, 0, 9)
}
