package mend_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media/mpegts"
	"github.com/liverec/liverec/pkg/media/probe"
)

// The content hash that the writer of transport streams keeps is the one that the checker finds in the file.
func TestContentOfWrittenTS(t *testing.T) {
	for _, name := range []string{"a.ts", "b.ts"} {
		b := clip(t, name)
		var m *mpegts.Muxer
		var cfg mpegts.Config
		var out []byte
		var wait []mpegts.Sample
		begin := time.Duration(-1)
		ns := func(v int64) time.Duration { return time.Duration(v) * time.Second / 90_000 }
		d := mpegts.NewDemuxer(mpegts.DemuxerConfig{Unit: func(u *mpegts.Unit) error {
			if u.Config != nil {
				track := &mpegts.Track{Codec: u.Codec, Config: u.Config}
				if u.Video {
					cfg.Video = track
				} else {
					cfg.Audio = track
				}
			}
			if begin < 0 {
				begin = ns(u.DTS)
			}
			wait = append(wait, mpegts.Sample{Video: u.Video, Key: u.Key, Time: ns(u.DTS) - begin, Shift: ns(u.PTS - u.DTS), Data: bytes.Clone(u.Data)})
			if cfg.Video == nil || cfg.Audio == nil {
				return nil
			}
			if m == nil {
				var err error
				if m, err = mpegts.NewMuxer(cfg); err != nil {
					return err
				}
				out = append(out, m.Head()...)
			}
			for _, s := range wait {
				if err := m.Add(s); err != nil {
					return err
				}
			}
			if wait = wait[:0]; u.Video && u.Key {
				out = m.Flush(out)
			}
			return nil
		}})
		if _, err := d.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
		out = m.Flush(out)
		r, err := probe.Check(bytes.NewReader(out), int64(len(out)))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		video, audio := m.Frames()
		if len(r.Tracks) != 2 || int64(r.Tracks[0].Frames+r.Tracks[1].Frames) != video+audio || r.Content != m.Content() {
			t.Errorf("%s: content %x, %x was written; %d and %d frames in %+v", name, r.Content, m.Content(), video, audio, r.Tracks)
		}
	}
}
