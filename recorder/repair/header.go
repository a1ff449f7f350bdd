package repair

import (
	"bytes"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
)

// soundHeader reports whether a header can be used at all (C18).
func soundHeader(k media.Kind, body []byte) bool {
	var err error
	if k == media.AudioConfig {
		_, err = flv.ParseAudioConfig(body)
	} else {
		_, err = flv.ParseVideoConfig(body)
	}
	return err == nil
}

// sameHeader reports whether two header tags tell a decoder the same.
func sameHeader(t int, a, b []byte) bool {
	if t == aud {
		return flv.AudioConfigEqual(a, b)
	}
	return flv.VideoConfigEqual(a, b)
}

// announces reads which tracks a script promises. Only what is said plainly counts: a track that has a property is
// there; one that is denied, or of which nothing is said while the other has its codec named, is not.
func announces(m flv.Metadata) tracks {
	said := func(name string) answer {
		v, ok := m.Get(name)
		switch {
		case !ok || v.Type != flv.Boolean:
			return unknown
		case v.Number != 0:
			return yes
		}
		return no
	}
	any := func(names ...string) bool {
		for _, n := range names {
			if _, ok := m.Get(n); ok {
				return true
			}
		}
		return false
	}
	a := tracks{audio: said("hasAudio"), video: said("hasVideo")}
	if a.audio == unknown && any("videocodecid") &&
		!any("audiocodecid", "audiosamplerate", "audiodatarate", "audiosamplesize", "audiochannels", "stereo") {
		a.audio = no
	}
	if a.video == unknown && any("audiocodecid") &&
		!any("videocodecid", "width", "height", "framerate", "videodatarate") {
		a.video = no
	}
	return a
}

// look finds a picture size that changed without a header: only the SPS inside a key frame tells (C12). It answers
// with a header made of what is in the frame, or nil.
func (g *gate) look(body []byte) []byte {
	if !g.cur[vid].set {
		return nil
	}
	if g.lengthSize == 0 {
		c, err := flv.ParseVideoConfig(g.cur[vid].body)
		if err != nil {
			return nil
		}
		g.lengthSize, g.width, g.height = c.LengthSize, c.Width(), c.Height()
	}
	sps := flv.InBandSPS(body, g.lengthSize)
	if sps == nil {
		return nil
	}
	if g.change[vid] {
		// A header that came back although the frames go on with what is in force means nothing.
		if bytes.Contains(g.cur[vid].body, sps) && !bytes.Contains(g.cand[vid].body, sps) {
			g.change[vid] = false
		}
		return nil
	}
	if bytes.Equal(sps, g.seenSPS) {
		return nil
	}
	g.seenSPS = append(g.seenSPS[:0], sps...)
	info, err := flv.ParseSPS(sps)
	if err != nil || info.Width == g.width && info.Height == g.height {
		return nil
	}
	pps := flv.InBandPPS(body, g.lengthSize)
	if pps == nil {
		return nil
	}
	h, err := flv.BuildVideoConfig(g.lengthSize, [][]byte{sps}, [][]byte{pps})
	if err != nil {
		return nil
	}
	return h
}
