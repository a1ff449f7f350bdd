package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/direct"
)

// probed is what would be recorded now.
type probed struct {
	Format   string    `json:"format"`
	URL      string    `json:"url"`
	Site     string    `json:"site"`
	Room     string    `json:"room"`
	Streamer string    `json:"streamer"`
	Title    string    `json:"title"`
	Live     bool      `json:"live"`
	Why      string    `json:"why,omitempty"`
	Note     string    `json:"note,omitempty"` // what else a person should know before recording
	Quality  []quality `json:"qualities"`
	Hosts    []string  `json:"hosts"`
}

// quality is one form in which the stream can be had.
type quality struct {
	Name       string  `json:"name"`
	Container  string  `json:"container"`
	Video      string  `json:"video"`
	Audio      string  `json:"audio"`
	Width      int     `json:"width"`
	Height     int     `json:"height"`
	FrameRate  float64 `json:"frame_rate"`
	SampleRate int     `json:"sample_rate"`
	Channels   int     `json:"channels"`
	Bitrate    int64   `json:"bitrate"` // bit/s of media time, measured; of HLS the greatest, as declared
	KeySeconds float64 `json:"key_frame_seconds"`
}

// probeFor is how long a live stream is looked at.
const probeFor = 4 * time.Second

func probe(c *cli.Context, std streams) error {
	_, err := globals(c)
	if err == nil {
		err = only(c, 1, 1, "the address of a room")
	}
	if err != nil {
		return err
	}
	w, err := findRoom(c.Args().First(), options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, 30*time.Second)
	defer cancel()
	live, err := w.resolver(zerolog.Nop(), nil).Resolve(ctx, w.room)
	other, isOther := errors.AsType[*direct.UnsupportedError](err)
	isHLS := isOther && other.Content == flv.HLSContent
	if err != nil && !isHLS {
		return &failure.Error{Op: "ask " + w.room.URL, Err: err}
	}
	p := probed{Format: "liverec-probe/1", URL: w.room.URL, Site: w.room.Site, Room: w.room.Name, Streamer: live.Streamer, Title: live.Title,
		Live: live.Presence == recorder.OnAir, Why: live.Why, Quality: []quality{}, Hosts: []string{}}
	switch {
	case isHLS:
		p.Title = w.room.Name
		if err := probeHLS(ctx, c.Args().First(), &p); err != nil {
			return &failure.Error{Op: "read " + w.room.URL, Err: err}
		}
	case live.Source != nil:
		p.Hosts = append(p.Hosts, live.Source.Host())
		q, err := measure(ctx, live.Source)
		if err != nil {
			return &failure.Error{Op: "read " + w.room.URL, Err: err}
		}
		p.Quality = append(p.Quality, q)
	}
	if c.Bool("json") {
		if err := writeJSON(std.out, p); err != nil {
			return err
		}
	} else if err := printProbe(std, p); err != nil {
		return err
	}
	if !p.Live {
		return &exitStatus{exitError, "liverec: nothing is being sent: " + oneLine(or(p.Why, "the room is offline"))}
	}
	return nil
}

// measure reads a source for a few seconds and says what is in it.
func measure(ctx context.Context, src recorder.Source) (quality, error) {
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	q := quality{Name: "source", Container: "FLV"}
	var bytes, first, last, keys, firstKey, lastKey int64
	var frames int
	begun := false
	batches := make(chan *media.Batch, 4)
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := range batches {
			for i := range b.Packets {
				pk := &b.Packets[i]
				switch pk.Kind {
				case media.VideoConfig:
					q.Video = pk.Codec.String()
					if vc, err := flv.ParseVideoConfig(pk.Body); err == nil {
						q.Width, q.Height, q.FrameRate = vc.Width(), vc.Height(), vc.SPSInfo.FrameRate
					}
				case media.AudioConfig:
					q.Audio = pk.Codec.String()
					if ac, err := flv.ParseAudioConfig(pk.Body); err == nil {
						q.SampleRate, q.Channels = ac.SampleRate, ac.Channels
					}
				case media.Video, media.Audio:
					if pk.Kind == media.Video {
						frames++
						if q.Video == "" {
							q.Video = flv.CodecName(flv.TagVideo, pk.Body)
						}
						if pk.Key {
							if keys == 0 {
								firstKey = pk.DTS
							}
							keys, lastKey = keys+1, pk.DTS
						}
					} else if q.Audio == "" {
						q.Audio = flv.CodecName(flv.TagAudio, pk.Body)
					}
					if !begun {
						begun, first = true, pk.DTS
					}
					last = max(last, pk.DTS)
					bytes += int64(len(pk.Body)) + 15
				}
			}
			b.Release()
		}
	})
	err := src.Run(ctx, batches)
	close(batches)
	wg.Wait()
	if !begun {
		if err == nil || ctx.Err() != nil {
			err = errors.New("connected, but no media came")
		}
		return q, err
	}
	if last > first {
		q.Bitrate = bytes * 8000 / (last - first)
	}
	if keys > 1 {
		q.KeySeconds = float64(lastKey-firstKey) / float64(keys-1) / 1000
	}
	if q.FrameRate == 0 && last > first && frames > 1 {
		q.FrameRate = math.Round(float64(frames-1)*1e5/float64(last-first)) / 100
	}
	return q, nil
}

func printProbe(std streams, p probed) error {
	var b strings.Builder
	row := func(name, format string, a ...any) { fmt.Fprintf(&b, "%-9s %s\n", name, fmt.Sprintf(format, a...)) }
	row("room", "%s (%s)", naming.Line(p.Room), p.Site)
	if p.Streamer != "" {
		row("streamer", "%s", naming.Line(p.Streamer))
	}
	if p.Title != "" {
		row("title", "%s", naming.Line(p.Title))
	}
	if p.Live {
		row("live", "yes")
	} else {
		row("live", "no: %s", naming.Line(p.Why))
	}
	if p.Note != "" {
		row("note", "%s", p.Note)
	}
	for _, q := range p.Quality {
		if q.Container == hlsName {
			row("quality", "%s", hlsLine(q))
			continue
		}
		row("quality", "%s: %s, %s %dx%d at %.4g frames/s, %s %d Hz %d ch, %s, a key frame each %.3g s", q.Name, q.Container, or(q.Video, "no video"), q.Width, q.Height,
			q.FrameRate, or(q.Audio, "no audio"), q.SampleRate, q.Channels, status.Rate(float64(q.Bitrate)), q.KeySeconds)
	}
	for _, h := range p.Hosts {
		row("host", "%s", hostOf(h))
	}
	_, err := fmt.Fprint(std.out, b.String())
	return err
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func hostOf(h string) string {
	if u, err := url.Parse(h); err == nil && u.Host != "" {
		return u.Host
	}
	return naming.Line(h)
}
