package recorder

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
)

// shape is what was seen of the quality when it was told last.
type shape struct {
	name         string
	picture      []byte
	video, sound media.Codec
}

// grade tells what is recorded, when it is something else than before: by the site's name, and as it is.
func (l *link) grade() {
	c, name := &l.t.seg.configs, ""
	if g, ok := l.t.live.Source.(Graded); ok {
		name = g.Quality()
	}
	if l.shape.name == name && l.shape.video == c.codec[vid] && l.shape.sound == c.codec[aud] && bytes.Equal(l.shape.picture, c.video) {
		return
	}
	l.shape = shape{name: name, picture: bytes.Clone(c.video), video: c.codec[vid], sound: c.codec[aud]}
	var is []string
	if name != "" {
		is = append(is, name)
	}
	if v := c.codec[vid]; v != media.NoCodec {
		picture := v.String()
		if info, err := codec.Parse(v, c.record(vid)); err == nil && info.Height > 0 {
			picture = fmt.Sprintf("%dx%d %s", info.Width, info.Height, picture)
		}
		is = append(is, picture)
	} else if a := c.codec[aud]; a != media.NoCodec {
		is = append(is, a.String())
	}
	l.c.view.change(func(s *Snapshot) { s.Quality = strings.Join(is, ", ") })
}
