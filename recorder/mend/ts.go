package mend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/mpegts"
)

// soundBefore is how much earlier than the first picture sound may begin.
const soundBefore = 100 * time.Millisecond

// ts goes through a transport stream, twice: first to learn which tracks there are and where the first picture is that
// a decoder can start with.
func (s *source) ts() error {
	var first [2]record
	var want [2]bool
	var key time.Duration
	keyed := false
	var left []string
	known := errors.New("known")
	_, err := s.demux(mpegts.DemuxerConfig{DropCorrupt: true,
		Program: func(p mpegts.Program) {
			left = left[:0]
			for _, x := range p.Streams {
				switch {
				case x.Why != "":
					left = append(left, fmt.Sprintf("stream %d (%s) is left out", x.PID, x.Why))
				case x.Track > 0:
					left = append(left, fmt.Sprintf("stream %d (another %v) is left out", x.PID, x.Codec))
				case x.Track == 0:
					want[index(isVideo(x.Codec))] = true
				}
			}
		},
		Unit: func(u *mpegts.Unit) error {
			r := &first[index(u.Video)]
			if !r.known && u.Config != nil {
				*r = recordOf(u)
			}
			if u.Video && u.Key && r.known && !keyed {
				key, keyed = ticks(u.DTS, 90_000), true
			}
			if (keyed || !want[vid]) && (first[aud].known || !want[aud]) {
				return known
			}
			return nil
		}})
	if err != nil && !errors.Is(err, known) {
		return err
	}
	s.report.Left = append(s.report.Left, left...)
	f := s.feed()
	for t, r := range first {
		if r.known && (t == aud || keyed) {
			if err := f.config(t == vid, r.codec, r.b); err != nil {
				return err
			}
		}
	}
	var broken, early int64
	count, err := s.demux(mpegts.DemuxerConfig{Unit: func(u *mpegts.Unit) error {
		if u.Jump && u.Config == nil { // with another configuration the jump alone is enough
			if err := f.join(); err != nil {
				return err
			}
		}
		if u.Config != nil {
			r := recordOf(u)
			if err := f.config(u.Video, r.codec, r.b); err != nil {
				return err
			}
		}
		dts := ticks(u.DTS, 90_000)
		switch {
		case u.Corrupt:
			broken++
			return nil
		case keyed && !u.Video && f.engine.Account().Written == 0 && dts < key-soundBefore:
			early++
			return nil
		}
		return f.frame(u.Video, u.Key, u.Codec, dts, ticks(u.PTS-u.DTS, 90_000), u.Data)
	}})
	if err != nil {
		return err
	}
	if err := f.end(); err != nil {
		return err
	}
	if count.Junk > 0 {
		s.report.wrong(0, 1, "%d bytes that are no packets", count.Junk)
	}
	if count.Continuity > 0 && (count.Junk > 0 || s.found.Container == "") { // else the look at the file told it
		s.report.wrong(0, int(count.Continuity), "packets are missing")
	}
	if broken > 0 {
		s.did("%d frames of which something is missing were left out", broken)
	}
	if early > 0 {
		s.did("%d frames of sound from before the first picture were left out", early)
	}
	return nil
}

// record is a configuration record.
type record struct {
	codec media.Codec
	b     []byte
	known bool
}

// recordOf is what a unit with a new configuration brings. That of MP3 is the header of a frame.
func recordOf(u *mpegts.Unit) record {
	r := record{codec: u.Codec, b: u.Config, known: true}
	if u.Codec == media.MP3 {
		r.b = bytes.Clone(u.Data[:min(4, len(u.Data))])
	}
	return r
}

// isVideo reports whether a codec is one of pictures.
func isVideo(c media.Codec) bool {
	switch c {
	case media.AVC, media.HEVC, media.AV1, media.VP8, media.VP9, media.VVC:
		return true
	}
	return false
}

func (s *source) demux(cfg mpegts.DemuxerConfig) (mpegts.Count, error) {
	d := mpegts.NewDemuxer(cfg)
	in := io.NewSectionReader(s.file, 0, s.size)
	buf := make([]byte, 256<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, err := d.Write(buf[:n]); err != nil {
				return d.Count(), err
			}
		}
		if err == io.EOF {
			return d.Count(), d.Flush()
		}
		if err != nil {
			return d.Count(), fmt.Errorf("read the transport stream: %w", err)
		}
		if err := s.ctx.Err(); err != nil {
			return d.Count(), err
		}
	}
}
