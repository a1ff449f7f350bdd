package repair

import (
	"bytes"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
)

// record reports whether a header can be used at all (C18), and brings its record into the form that MP4 has.
func (r *Repairer) record(e *entry) bool {
	if len(e.payload()) == 0 || len(e.body) > maxRecord {
		return false
	}
	remade := func(record []byte, err error) bool {
		if err != nil {
			return false
		}
		c := r.wrap(e, record)
		e.body, e.lead, e.sum, e.plain = c.body, c.lead, c.sum, c.plain
		return true
	}
	var err error
	switch e.codec {
	case media.AVC, media.HEVC:
		if e.payload()[0] == 0 { // version 0 does not exist: start codes
			record := startCoded(e.codec, e.payload())
			return record != nil && remade(record, nil)
		}
		if e.codec == media.HEVC {
			_, err = codec.Parse(e.codec, e.payload())
		} else {
			_, err = flv.ParseAVCC(e.payload())
		}
	case media.AAC:
		_, err = flv.ParseASC(e.payload())
	case media.Opus:
		return remade(codec.BuildOpus(e.payload()))
	case media.FLAC:
		return remade(codec.BuildFLAC(e.payload()))
	default:
		_, err = codec.Parse(e.codec, e.payload())
	}
	return err == nil
}

// sameHeader reports whether two headers of one codec tell a decoder the same.
func sameHeader(a, b *header) bool {
	if a.size != b.size {
		return false
	}
	if a.sum == b.sum && a.lead == b.lead {
		return true
	}
	switch {
	case a.codec == media.MP3:
		x, okA := layoutOf(a.codec, a.payload())
		y, okB := layoutOf(b.codec, b.payload())
		return okA && okB && x == y
	case a.codec == media.AVC && a.plain:
		return flv.VideoConfigEqual(a.body, b.body)
	case a.codec == media.AAC && a.plain:
		return flv.AudioConfigEqual(a.body, b.body)
	}
	return codec.Equal(a.codec, a.payload(), b.payload())
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

// look finds a picture of another size or profile than the header says: only what is inside a key frame tells (C12).
// Then it offers a header made of that.
func (r *Repairer) look(e *entry) {
	g := &r.gate
	h := g.newest(vid)
	if !h.set || h.codec != e.codec {
		return
	}
	if e.codec == media.VP9 {
		r.lookVP9(e, h)
		return
	}
	var sps []byte
	if e.codec == media.AV1 {
		const sequence = 4 // where it begins in the record
		if b := h.payload(); len(b) > sequence && bytes.Contains(e.payload(), b[sequence:]) {
			return
		}
		sps = e.payload()[:min(len(e.payload()), seqRoom)]
	} else {
		if sps = findSPS(e.codec, e.payload(), lengths(h)); sps == nil {
			return
		}
		if g.change[vid] && bytes.Contains(g.cur[vid].body, sps) && !bytes.Contains(h.body, sps) {
			g.change[vid] = false // a header that came back although the frames go on with what is in force means nothing
			return
		}
		if bytes.Contains(h.body, sps) {
			return
		}
	}
	if bytes.Equal(sps, g.seenSPS) && !g.change[vid] {
		return
	}
	g.seenSPS = append(g.seenSPS[:0], sps...)
	record := inBand(e.codec, e.payload(), lengths(h))
	if record == nil {
		return
	}
	is, err := codec.Parse(e.codec, record)
	if err != nil {
		return
	}
	said, err := codec.Parse(h.codec, h.payload())
	if err == nil && is.Width == said.Width && is.Height == said.Height && is.Profile == said.Profile {
		return
	}
	c := r.wrap(e, record)
	g.offer(&c)
}

// lookVP9 does the same for VP9, where only the size can change.
func (r *Repairer) lookVP9(e *entry, h *header) {
	s := vp9Size(e.payload())
	switch s {
	case size{}, h.size:
		return
	}
	if h.size == (size{}) {
		h.size = s // the first frame of its kind
		return
	}
	c := entry{kind: media.VideoConfig, codec: h.codec, track: h.track, lead: h.lead, size: s, sum: h.sum, body: h.body, at: e.at}
	r.gate.offer(&c)
}

// vp9Size reads the picture size of a key frame; 0 if there is none in it.
func vp9Size(b []byte) (s size) {
	const sync, srgb = 0x498342, 7
	at := 0
	bits := func(n int) (v uint32) {
		for range n {
			v <<= 1
			if at/8 < len(b) {
				v |= uint32(b[at/8]>>(7-at%8)) & 1
			}
			at++
		}
		return v
	}
	if bits(2) != 2 { // marker
		return s
	}
	profile := bits(1) | bits(1)<<1
	if profile == 3 {
		bits(1)
	}
	if bits(1) != 0 || bits(1) != 0 { // shows another frame, or is no key frame
		return s
	}
	bits(2)
	if bits(24) != sync {
		return s
	}
	if profile >= 2 {
		bits(1) // depth
	}
	if bits(3) != srgb { // colour space
		bits(1)
		if profile == 1 || profile == 3 {
			bits(3)
		}
	} else if profile == 1 || profile == 3 {
		bits(1)
	}
	w, h := bits(16)+1, bits(16)+1
	if at > 8*len(b) || w > 1<<16-1 || h > 1<<16-1 {
		return size{}
	}
	return size{uint16(w), uint16(h)}
}

// seqRoom is how many bytes of a key frame of AV1 are compared before its sequence header is read.
const seqRoom = 12

func findSPS(c media.Codec, b []byte, size int) []byte {
	want := avcSPS
	switch c {
	case media.AVC:
	case media.HEVC:
		want = hevcSPS
	default:
		return nil
	}
	for nal, rest, ok := cut(b, size); ok; nal, rest, ok = cut(rest, size) {
		if len(nal) > 0 && nalType(c, nal[0]) == want {
			return nal
		}
	}
	return nil
}
