package mend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/recorder/repair"
)

const (
	weaveTime  = 2 * time.Second
	weaveBytes = 16 << 20 // of each track
)

const (
	vid = 0
	aud = 1
)

func index(video bool) int {
	if video {
		return vid
	}
	return aud
}

// sink writes what an engine puts out. It weaves the tracks together, so that the same media gives the same file however
// it was woven before, and knows what is left over at the end of a part.
type sink struct {
	ctx    context.Context
	dir    *durable.Dir
	base   string // name of the parts, without number and extension
	report *Report
	length time.Duration // about how long all of it is

	cfg   config
	ready bool // cfg is set
	lasts [2]time.Duration
	part  *part
	parts []*part // finished, the open one included

	wait    [2][]frame
	bytes   [2]int
	last    [2]time.Duration // of what was written
	end     [2]time.Duration // when it is over
	wrote   [2]bool
	begin   time.Duration // of the part
	refused int64

	quiet    bool // the next seam is one that we made
	straight bool // frames are written as they come, and begin is given
}

var _ repair.Sink = (*sink)(nil)

// Config begins another part with the next frame.
func (s *sink) Config(c repair.Configs) error {
	if err := s.close(); err != nil {
		return err
	}
	s.cfg = config{video: c.Video, audio: c.Audio}
	s.cfg.video.Body, s.cfg.audio.Body = bytes.Clone(c.Video.Body), bytes.Clone(c.Audio.Body)
	if m, err := flv.ParseMetadata(c.Script); err == nil || len(m.Props) > 0 {
		s.cfg.meta = m
	}
	s.ready = true
	s.lasts = [2]time.Duration{}
	if c.Audio.Kind != 0 {
		s.lasts[aud] = usual(&s.cfg.audio)
	}
	return nil
}

// Media takes one frame.
func (s *sink) Media(it *repair.Item) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	f := frameOf(it)
	t := index(f.video)
	if s.lasts[t] > 0 {
		f.lasts = s.lasts[t]
	}
	if s.straight || !s.cfg.has(!f.video) {
		return s.write(&f)
	}
	f.body = bytes.Clone(f.body)
	s.wait[t] = append(s.wait[t], f)
	s.bytes[t] += len(f.body)
	return s.weave()
}

// weave writes what is in its place.
func (s *sink) weave() error {
	for {
		v, a := s.wait[vid], s.wait[aud]
		t := vid
		switch {
		case len(v) > 0 && len(a) > 0:
			if a[0].at < v[0].at {
				t = aud
			}
		case len(v) > 0 && (v[len(v)-1].at-v[0].at >= weaveTime || s.bytes[vid] > weaveBytes):
		case len(a) > 0 && (a[len(a)-1].at-a[0].at >= weaveTime || s.bytes[aud] > weaveBytes):
			t = aud
		default:
			return nil
		}
		if err := s.pop(t); err != nil {
			return err
		}
	}
}

func (s *sink) pop(t int) error {
	f := s.wait[t][0]
	s.wait[t][0] = frame{}
	s.wait[t] = s.wait[t][1:]
	s.bytes[t] -= len(f.body)
	return s.write(&f)
}

// write appends a frame to the open part, or begins one with it.
func (s *sink) write(f *frame) error {
	if s.part == nil {
		if !s.ready {
			return errors.New("a frame without a configuration")
		}
		if err := s.open(f.at); err != nil {
			return err
		}
	}
	t := index(f.video)
	s.last[t], s.wrote[t] = f.at, true
	s.end[t] = max(s.end[t], f.at+f.lasts, f.at+f.shift+f.lasts)
	x := *f
	x.at = max(f.at-s.begin, 0)
	err := s.part.add(&x)
	if errors.Is(err, errRefused) {
		s.refused++
		return nil
	}
	return err
}

func (s *sink) open(at time.Duration) error {
	p, err := newPart(s.cfg, s.length)
	if err != nil {
		return err
	}
	p.name = fmt.Sprintf("%s.%d%s.part", s.base, len(s.parts)+1, p.ext())
	if p.file, err = s.dir.Create(p.name); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there already; another repair is under way, or was cut short: remove it", s.dir.Abs(p.name))
		}
		return durable.Explain(s.dir.Path(), err)
	}
	if s.part = p; !s.straight {
		s.begin = at
	}
	s.parts = append(s.parts, p)
	s.last, s.end, s.wrote = [2]time.Duration{}, [2]time.Duration{}, [2]bool{}
	return nil
}

// close ends the open part: what the two tracks have in common is written, and what one has beyond it left out.
func (s *sink) close() error {
	for len(s.wait[vid]) > 0 && len(s.wait[aud]) > 0 {
		if err := s.weave(); err != nil {
			return err
		}
	}
	for t := range s.wait {
		if len(s.wait[t]) == 0 {
			continue
		}
		other := 1 - t
		end := s.end[other]
		// A track that was written past the end of the other one stays: the other one was silent before.
		for s.wrote[other] && len(s.wait[t]) > 0 && !(s.wrote[t] && s.last[t] >= end+probe.MaxSkew) {
			n := len(s.wait[t])
			last := &s.wait[t][n-1]
			if over := last.at + last.lasts - end; over <= probe.MaxSkew {
				break
			}
			if s.wait[t][0].at < end {
				if err := s.pop(t); err != nil {
					return err
				}
				continue
			}
			what := "pictures go on after the sound"
			if t == aud {
				what = "sound goes on after the pictures"
			}
			s.did(s.wait[t][0].at, fmt.Sprintf("%s by %s at the end: %d frames left out", what, short(last.at+last.lasts-end), n))
			s.wait[t], s.bytes[t] = nil, 0
		}
		for len(s.wait[t]) > 0 {
			if err := s.pop(t); err != nil {
				return err
			}
		}
	}
	if s.part == nil {
		return nil
	}
	p := s.part
	s.part = nil
	if s.refused > 0 {
		s.did(s.begin, fmt.Sprintf("%d frames cannot stand in the file: left out", s.refused))
		s.refused = 0
	}
	if err := p.finish(); err != nil {
		return err
	}
	return p.file.Close()
}

// did puts a deed into the report. at is on the clock of the engine.
func (s *sink) did(at time.Duration, what string) {
	n := max(len(s.parts), 1)
	if s.part == nil {
		at, s.begin = 0, 0
	}
	s.report.Done = append(s.report.Done, Deed{Part: n, AtMS: max(at-s.begin, 0).Milliseconds(), What: what})
}

// Gap is media that is missing.
func (s *sink) Gap(g repair.Gap) {
	s.did(time.Duration(g.Out)*time.Millisecond, fmt.Sprintf("%s are missing here (%s): the hole is closed", short(g.Length), g.Why))
}

// Repair is something that the engine put right.
func (s *sink) Repair(r repair.Repair) {
	if r.Kind == repair.Seam && s.quiet {
		s.quiet = false
		return
	}
	s.did(time.Duration(r.Out)*time.Millisecond, r.What)
}
