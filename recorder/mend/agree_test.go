package mend_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/media/mpegts"
	"github.com/liverec/liverec/pkg/media/probe"
)

// The content hash that the writer of transport streams keeps is the one that the checker finds in the file.
func TestContentOfWrittenTS(t *testing.T) {
	for _, name := range []string{"a.ts", "b.ts", "h.ts"} {
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

// The checker finds nothing wrong with hybrid MP4 in any of its three states, and the same media in all of them.
func TestStatesOfWrittenMP4(t *testing.T) {
	for _, name := range []string{"a.mp4", "cfrag.mp4"} {
		b := clip(t, name)
		in, err := mp4.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		cfg := mp4.Config{}
		for i := range in.Tracks {
			x := &in.Tracks[i]
			track := x.Track
			track.Timescale = 0
			if x.Kind == media.Video {
				cfg.Video = &track
			} else {
				cfg.Audio = &track
			}
		}
		w, err := mp4.NewWriter(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		n := 0
		for s, err := range in.Samples() {
			if err != nil {
				t.Fatal(err)
			}
			x := &in.Tracks[s.Track]
			data, err := in.Data(s, nil)
			if err != nil {
				t.Fatal(err)
			}
			ns := func(v int64) time.Duration { return time.Duration(v) * time.Second / time.Duration(x.Timescale) }
			// One second later, so that sound from before the first picture has a place.
			err = w.Add(mp4.Sample{Video: x.Kind == media.Video, Key: s.Key, Time: ns(s.DTS-x.Start+x.Empty) + time.Second, Shift: ns(s.PTS - s.DTS), Lasts: ns(s.Lasts), Data: data})
			if err != nil {
				t.Fatal(err)
			}
			if n++; n%200 == 0 {
				if len(out) == 0 {
					out = append(out, w.Head()...)
				}
				out = w.Flush(out)
			}
		}
		out = w.Flush(out)
		content := w.Content()
		tail, at, patch := w.Close()
		between := append(bytes.Clone(out), tail...)
		closed := bytes.Clone(between)
		copy(closed[at:], patch)
		for i, b := range [][]byte{out, between, closed} {
			layout := []string{"fragmented", "between", "hybrid"}[i]
			r, err := probe.Check(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Check(); err != nil || r.Layout != layout || r.Content != content {
				t.Errorf("%s: %s: %v; taken for %s, content %x, want %x", name, layout, err, r.Layout, r.Content, content)
			}
		}
	}
}
