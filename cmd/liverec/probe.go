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
	"unicode"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/naming"
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
	Blocked  bool      `json:"blocked"` // the site does not talk to us, so that nobody knows whether it is live
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
	Bitrate    int64   `json:"bitrate"` // bit/s: of media time, if it was measured; else the greatest, as declared
	KeySeconds float64 `json:"key_frame_seconds"`
	Measured   bool    `json:"measured"` // else it is what a playlist declares
	Chosen     bool    `json:"chosen"`   // the one that `record` would begin with
}

// probeFor is how long a live stream is looked at.
const probeFor = 4 * time.Second

func probe(c *cli.Context, std streams) error {
	opt, err := globals(c)
	if err == nil {
		opt.sites, err = readSites(c)
	}
	if err == nil {
		err = only(c, 1, 1, "the address of a room")
	}
	if err != nil {
		return err
	}
	w, err := findRoom(c.Args().First(), opt)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, 30*time.Second)
	defer cancel()
	live, err := w.resolver(zerolog.Nop(), nil).Resolve(ctx, w.room)
	if live.Source != nil {
		defer live.Source.Close()
	}
	isHLS := live.Form == direct.FormHLS
	if err != nil && !isHLS {
		return &failure.Error{Op: "ask " + w.room.URL, Err: err}
	}
	p := probed{Format: "liverec-probe/1", URL: w.room.URL, Site: w.room.Site, Room: w.room.Name, Streamer: live.Streamer, Title: live.Title,
		Live: live.Presence == recorder.OnAir, Blocked: live.Presence == recorder.Blocked, Why: live.Why, Quality: []quality{}, Hosts: []string{}}
	chosen := -1 // of Quality, the one that is measured
	if isHLS {
		p.Title = w.room.Name
		if chosen, err = probeHLS(ctx, c.Args().First(), &p); err != nil {
			return &failure.Error{Op: "read " + w.room.URL, Err: err}
		}
	}
	if live.Source != nil && p.Live {
		p.addHost(live.Source.Host())
		q, err := measure(ctx, live.Source)
		switch {
		case err == nil && chosen >= 0:
			q.Name, q.Container, q.Chosen = p.Quality[chosen].Name, hlsName, true
			p.Quality[chosen] = q
		case err == nil:
			p.take(live.Source, q)
		case isHLS:
			if chosen >= 0 {
				p.Quality[chosen].Chosen = true
			}
			p.Note = oneLine(err.Error())
		default:
			return &failure.Error{Op: "read " + w.room.URL, Err: err}
		}
	}
	if c.Bool("json") {
		if err := writeJSON(std.out, p); err != nil {
			return err
		}
	} else if err := printProbe(std, p); err != nil {
		return err
	}
	if p.Blocked {
		return &exitStatus{exitError, "liverec: the site does not say whether the room is live: " + oneLine(p.Why)}
	}
	if !p.Live {
		return &exitStatus{exitError, "liverec: nothing is being sent: " + oneLine(or(p.Why, "the room is offline"))}
	}
	return nil
}

// measure reads a source for a few seconds, or until it has seen as much media, and says what is in it.
func measure(ctx context.Context, src recorder.Source) (quality, error) {
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	m := meter{quality: quality{Name: "source", Container: "FLV"}}
	batches := make(chan *media.Batch, 4)
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := range batches {
			for i := range b.Packets {
				m.add(&b.Packets[i])
			}
			b.Release()
			if m.last-m.first >= probeFor.Milliseconds() {
				cancel()
			}
		}
	})
	err := src.Run(ctx, batches)
	close(batches)
	wg.Wait()
	if !m.begun {
		if err == nil || ctx.Err() != nil {
			err = errors.New("connected, but no media came")
		}
		return m.quality, err
	}
	return m.result(), nil
}

// meter looks at packets.
type meter struct {
	quality
	begun                        bool
	first, last                  int64 // ms
	bytes, frames                int64
	keys, firstKey, lastKey      int64
	videoFrom, videoTo, overhead int64
}

func (m *meter) add(pk *media.Packet) {
	switch pk.Kind {
	case media.VideoConfig:
		m.Video = pk.Codec.String()
		if info, err := codec.Parse(pk.Codec, pk.Payload()); err == nil {
			m.Width, m.Height, m.FrameRate = info.Width, info.Height, info.FrameRate
		}
		return
	case media.AudioConfig:
		m.Audio = pk.Codec.String()
		if info, err := codec.Parse(pk.Codec, pk.Payload()); err == nil {
			m.SampleRate, m.Channels = info.SampleRate, info.Channels
		}
		return
	case media.Video:
		if m.frames++; m.frames == 1 {
			m.videoFrom = pk.DTS
		}
		m.videoTo = max(m.videoTo, pk.DTS)
		if m.Video == "" {
			m.Video = pk.Codec.String()
		}
		if pk.Key {
			if m.keys == 0 {
				m.firstKey = pk.DTS
			}
			m.keys, m.lastKey = m.keys+1, pk.DTS
		}
	case media.Audio:
		if m.Audio == "" {
			m.Audio = pk.Codec.String()
		}
	default:
		return
	}
	if !m.begun {
		m.begun, m.first, m.last = true, pk.DTS, pk.DTS
	}
	m.last = max(m.last, pk.DTS)
	m.bytes += int64(len(pk.Body))
	if pk.Lead > 0 {
		m.bytes += flv.TagOverhead
	}
}

func (m *meter) result() quality {
	q := m.quality
	q.Measured = true
	if m.last > m.first {
		q.Bitrate = m.bytes * 8000 / (m.last - m.first)
	}
	if m.keys > 1 {
		q.KeySeconds = float64(m.lastKey-m.firstKey) / float64(m.keys-1) / 1000
	}
	if q.FrameRate == 0 && m.videoTo > m.videoFrom && m.frames > 1 {
		q.FrameRate = math.Round(float64(m.frames-1)*1e5/float64(m.videoTo-m.videoFrom)) / 100
	}
	return q
}

func printProbe(std streams, p probed) error {
	var b strings.Builder
	row := func(name, text string) { fmt.Fprintf(&b, "%-9s %s\n", name, text) }
	row("room", fmt.Sprintf("%s (%s)", naming.Line(p.Room), p.Site))
	if p.Streamer != "" {
		row("streamer", naming.Line(p.Streamer))
	}
	if p.Title != "" {
		row("title", naming.Line(p.Title))
	}
	switch {
	case p.Live:
		row("live", "yes")
	case p.Blocked:
		row("live", "not known: "+naming.Line(p.Why))
	default:
		row("live", "no: "+naming.Line(p.Why))
	}
	if p.Note != "" {
		row("note", p.Note)
	}
	table := make([][]string, len(p.Quality))
	for i, q := range p.Quality {
		table[i] = q.cells()
	}
	for i, line := range columns(table) {
		name := ""
		if i == 0 {
			name = "quality"
		}
		row(name, line)
	}
	for i, h := range p.Hosts {
		name := ""
		if i == 0 {
			name = "host"
		}
		row(name, hostOf(h))
	}
	_, err := fmt.Fprint(std.out, b.String())
	return err
}

// columns puts the cells of rows below each other. A column that is empty in all of them is left out.
func columns(rows [][]string) []string {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], cellWidth(c))
		}
	}
	lines := make([]string, len(rows))
	for n, r := range rows {
		var b strings.Builder
		for i, c := range r {
			if widths[i] > 0 {
				b.WriteString(c + strings.Repeat(" ", widths[i]-cellWidth(c)+2))
			}
		}
		lines[n] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// cellWidth is how many columns of a terminal a text takes: Chinese, Japanese and Korean signs take two.
func cellWidth(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x1100 && unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana) || r >= 0x3000 && r <= 0x303F || r >= 0xFF01 && r <= 0xFF60 || r >= 0x1F300 && r <= 0x1FAFF {
			n++
		}
	}
	return n
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
