package mend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/recorder/repair"
	"github.com/liverec/liverec/recorder/retime"
)

// source is one file on its way through an engine.
type source struct {
	ctx    context.Context
	file   io.ReaderAt
	size   int64
	report *Report
	found  probe.Report
	out    *sink
}

// began is the wall clock that engines are told, at the begin of a file. Only differences count.
var began = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// pace is how much media the engine gets at once.
const pace = 40 * time.Millisecond

// headOnly are the problems of an FLV whose frames are all right.
var headOnly = map[probe.Code]bool{probe.Metadata: true, probe.Index: true, probe.Tail: true}

// flv goes through a file of FLV.
func (s *source) flv() error {
	straight := s.found.Container == "flv"
	for _, p := range s.found.Problems {
		straight = straight && headOnly[p.Code]
	}
	for _, t := range s.found.Tracks {
		straight = straight && (t.Codec == "avc" || t.Codec == "aac")
	}
	if straight {
		done, err := s.copyFLV()
		if done || err != nil {
			return err
		}
	}
	r := repair.New(repair.Config{SeamWait: 2 * time.Second, HoldBytes: 16 << 20}, s.out)
	at := began
	r.Connect(at, "")
	m, calm := meter{}, flaps{}
	var unsupported []string
	var junk, junkAt int64 = 0, -1
	push := func(b *media.Batch) error {
		err := r.Push(b)
		var u *repair.Unsupported
		switch {
		case errors.As(err, &u):
			if name := u.Error(); len(unsupported) == 0 || unsupported[len(unsupported)-1] != name {
				unsupported = append(unsupported, name)
			}
		case errors.Is(err, repair.ErrLoop):
		case errors.Is(err, repair.ErrFlapping): // a file may change as often as it likes
			if err := r.Disconnect(at); err != nil {
				return err
			}
			r.Connect(at, "")
		case err != nil:
			return err
		}
		return nil
	}
	events := func(e flv.Event) {
		if e.Kind == flv.EventJunk {
			if junk += e.Bytes; junkAt < 0 {
				junkAt = e.Offset
			}
		}
	}
	stats, _, err := flv.ReadAll(io.NewSectionReader(s.file, 0, s.size), flv.DemuxerConfig{Events: events}, func(b *media.Batch) error {
		// A batch is many seconds of a small stream: what it is cut into has the time at which live it would have come.
		piece := media.Batch{Count: b.Count}
		for from, i := 0, 0; i < len(b.Packets); i++ {
			if calm.changes(&b.Packets[i]) {
				// The engine leaves a connection whose configuration flaps; there is no other to go to, so let it be another.
				if piece.Packets, piece.At = b.Packets[from:i], at; i > from {
					if err := push(&piece); err != nil {
						return err
					}
				}
				from, piece.Count = i, media.Count{}
				if err := r.Disconnect(at); err != nil {
					return err
				}
				r.Connect(at, "")
				s.out.quiet = true
			}
			m.add(&b.Packets[i])
			if now := began.Add(m.total); now.Sub(at) >= pace || i == len(b.Packets)-1 {
				at = now
				piece.Packets, piece.At = b.Packets[from:i+1], at
				if err := push(&piece); err != nil {
					return err
				}
				from, piece.Count = i+1, media.Count{}
			}
		}
		return s.ctx.Err()
	})
	if err != nil && !errors.Is(err, flv.ErrNotFLV) {
		return err
	}
	if err := r.Disconnect(at); err != nil {
		return err
	}
	if junk > 0 {
		s.report.wrong(junkAt, int(max(stats.JunkRuns, 1)), "%d bytes that are no FLV", junk)
	}
	if stats.Restarts > 0 {
		s.report.wrong(0, int(stats.Restarts), "another file header inside the file")
	}
	if len(unsupported) > 0 {
		s.report.Left = append(s.report.Left, unsupported[0]+": left out")
	}
	a, st := r.Account(), r.Stats()
	s.balance(a.Duplicates, a.PreRoll, a.Invalid)
	if n := st.Clamped + st.Made; n > 0 {
		s.did("%d time stamps that did not rise were moved", n)
	}
	if st.BadCTS > 0 {
		s.did("%d composition times of more than 10 s were set to 0", st.BadCTS)
	}
	return nil
}

func (s *source) did(format string, a ...any) {
	s.report.Done = append(s.report.Done, Deed{Part: 1, What: fmt.Sprintf(format, a...)})
}

// balance tells of frames that are not in the parts.
func (s *source) balance(duplicates, preRoll, invalid int64) {
	if duplicates > 0 {
		s.did("%d frames that are there twice were left out", duplicates)
	}
	if preRoll > 0 {
		s.did("%d frames from before the first picture that a decoder can start with were left out", preRoll)
	}
	if invalid > 0 {
		s.did("%d tags that nothing can be done with were left out", invalid)
	}
}

// flaps counts the configurations of one connection.
type flaps struct {
	sum [2]uint64
	n   int
}

// fewChanges is how many the engine takes from one connection.
const fewChanges = 3

// changes reports whether a packet is one configuration too many.
func (f *flaps) changes(p *media.Packet) bool {
	if p.Kind != media.VideoConfig && p.Kind != media.AudioConfig {
		return false
	}
	t := index(p.Kind == media.VideoConfig)
	if f.sum[t] == p.Sum {
		return false
	}
	first := f.sum[t] == 0
	if f.sum[t] = p.Sum; first {
		return false
	}
	if f.n++; f.n <= fewChanges {
		return false
	}
	f.n = 1
	return true
}

// meter measures the media time of a stream of FLV, jumps left out.
type meter struct {
	total time.Duration
	last  [2]int64
	have  [2]bool
}

func (m *meter) add(p *media.Packet) {
	if p.Kind != media.Video && p.Kind != media.Audio {
		return
	}
	t := index(p.Kind == media.Video)
	if t == aud && m.have[vid] {
		return // the pictures tell
	}
	if d := int64(int32(uint32(p.DTS) - uint32(m.last[t]))); m.have[t] && d > 0 && d <= 1000 {
		m.total += time.Duration(d) * time.Millisecond
	}
	m.last[t], m.have[t] = p.DTS, true
}

// copyFLV copies a file whose frames are all right. done is false, and nothing was written, where FLV is not what it
// should be in.
func (s *source) copyFLV() (done bool, err error) {
	start := time.Duration(1 << 62)
	for _, t := range s.found.Tracks {
		start = min(start, t.First)
	}
	var c repair.Configs
	told := false
	it := repair.Item{}
	errOther := errors.New("not plain")
	_, _, err = flv.ReadAll(io.NewSectionReader(s.file, 0, s.size), flv.DemuxerConfig{}, func(b *media.Batch) error {
		for i := range b.Packets {
			p := b.Packets[i]
			switch p.Kind {
			case media.VideoConfig:
				c.Video = held(p)
			case media.AudioConfig:
				c.Audio = held(p)
			case media.Script:
				c.Script = append([]byte{}, p.Body...)
			case media.Video, media.Audio:
				if !told {
					told = true
					if !(config{video: c.Video, audio: c.Audio}).plain() {
						return errOther
					}
					if err := s.out.Config(c); err != nil {
						return err
					}
					s.out.begin, s.out.straight = start, true
				}
				it.Packet = p
				it.Time = time.Duration(p.DTS) * time.Millisecond
				it.Shift = time.Duration(p.CTS) * time.Millisecond
				if err := s.out.Media(&it); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if errors.Is(err, errOther) {
		return false, nil
	}
	return true, err
}

func held(p media.Packet) media.Packet {
	p.Body = append([]byte{}, p.Body...)
	return p
}

// feed hands packets to the engine for sources that number their media.
type feed struct {
	s      *source
	engine *retime.Retimer
	batch  media.Batch
}

func (s *source) feed() *feed {
	f := &feed{s: s, engine: retime.New(s.out, codec.Equal)}
	f.engine.Connect(began, "")
	return f
}

func (f *feed) push(p media.Packet) error {
	f.batch.Packets = append(f.batch.Packets[:0], p)
	f.batch.At = began.Add(max(p.Exact, 0))
	return f.engine.Push(&f.batch)
}

// config tells a configuration record.
func (f *feed) config(video bool, c media.Codec, record []byte) error {
	kind := media.AudioConfig
	if video {
		kind = media.VideoConfig
	}
	return f.push(media.Packet{Kind: kind, Codec: c, Body: record})
}

// frame hands over one frame.
func (f *feed) frame(video, key bool, c media.Codec, dts, shift time.Duration, body []byte) error {
	if err := f.s.ctx.Err(); err != nil {
		return err
	}
	kind := media.Audio
	if video {
		kind = media.Video
	} else {
		// Sound may begin the first part, a little before the first picture; another one begins with a key frame.
		key = f.engine.Account().Written == 0
	}
	return f.push(media.Packet{Kind: kind, Codec: c, Key: key, DTS: dts.Milliseconds(), CTS: int32(shift.Milliseconds()), Exact: dts, Shift: shift, Body: body})
}

// join says that the clock of what follows has nothing to do with the one before.
func (f *feed) join() error {
	return f.push(media.Packet{Kind: media.Join, Seam: &media.Seam{Discontinuity: true}})
}

func (f *feed) end() error {
	if err := f.engine.Disconnect(began); err != nil {
		return err
	}
	a := f.engine.Account()
	f.s.balance(a.Duplicates, a.PreRoll, a.Invalid)
	return nil
}

// ticks turns a time of a track into ns.
func ticks(v int64, scale uint32) time.Duration {
	if scale == 0 {
		return 0
	}
	s := int64(scale)
	q, r := v/s, v%s
	q = min(max(q, -1e9), 1e9)
	return time.Duration(q*1e9 + r*1e9/s)
}
