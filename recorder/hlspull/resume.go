package hlspull

import (
	"context"
	"encoding/json"

	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/recorder"
)

var _ recorder.Numbered = (*Source)(nil)

// Resume takes the note of the Join up to whose media everything is durable; nil: begin with the first segment listed. It
// is for whoever knows the note later than New; call it before Run.
func (s *Source) Resume(note []byte) {
	s.place = nil
	if len(note) == 0 {
		return
	}
	var p place
	if err := json.Unmarshal(note, &p); err != nil || p.Version != placeVersion {
		s.cfg.Log.Warn().Msg("the note on the place in the playlist cannot be read: beginning with the first segment")
		return
	}
	s.place = &p
}

// List asks for the media playlist of what Open chose. It is for whoever wants to know whether anything is being sent, not
// only whether there is a room. Where the first host does not answer the others are asked. The errors are those of Open.
func (s *Source) List(ctx context.Context) (*hls.Media, error) {
	if s.found == nil {
		if err := s.Open(ctx); err != nil {
			return nil, err
		}
	}
	var first error
	for _, o := range s.found.origins {
		p, a, err := s.load(ctx, o.list)
		s.found.read += a.Read
		if err == nil && p.Media == nil {
			err = hls.ErrNotPlaylist
		}
		switch {
		case err == nil:
			return p.Media, nil
		case first == nil:
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}
