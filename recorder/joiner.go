package recorder

import (
	"bytes"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/repair"
	"github.com/liverec/liverec/recorder/retime"
)

// Numbered is a Source that numbers its media: it says itself what is missing, repeated or left out (media.Seam), and
// goes on behind what is written.
type Numbered interface {
	Source
	// Resume hands over the newest Seam.Place up to which everything is written, nil if nothing is. It is called once,
	// before Run.
	Resume(place []byte)
}

// Spooler is a Source that may have to put a little of what it reads on the disk for a moment.
type Spooler interface {
	Source
	// Spool names the folder for that. It is called once, before Run.
	Spool(dir string)
}

// joiner makes one stream out of the connections of a session: a Repairer where the source cannot tell what is missing,
// a Retimer where it can.
type joiner interface {
	Connect(at time.Time, why string)
	Push(b *media.Batch) error
	Tick(now time.Time) error
	Disconnect(at time.Time) error
	State() repair.State
	Digests() []byte
	Epoch() uint64
	Account() segment.Account
	Configs() repair.Configs
}

var (
	_ joiner = (*repair.Repairer)(nil)
	_ joiner = (*retime.Retimer)(nil)
)

// restoreJoiner goes on from a state, with a joiner of the kind that wrote it. The zero state begins anew.
func restoreJoiner(sink *Segmenter, s repair.State, tail []repair.TailTag) joiner {
	switch {
	case retime.IsNumbered(s):
		return retime.Restore(sink, codec.Equal, s, tail)
	case s.Version == 0:
		return repair.New(sink.repairing(), sink)
	}
	return repair.Restore(sink.repairing(), sink, s, tail)
}

// suit gives the session the joiner that a source calls for, and the source its place. A session whose source changes
// its kind (FLV before, HLS now) goes on in a new part, with a clock that begins anew; what lies between cannot be told
// by either, so the wall clock does.
func (t *take) suit(src Source) {
	if s, ok := src.(Spooler); ok {
		s.Spool(t.c.deps.Dir.Path())
	}
	n, numbered := src.(Numbered)
	r, was := t.rep.(*retime.Retimer)
	if numbered != was {
		t.change(numbered)
		r, _ = t.rep.(*retime.Retimer)
	}
	if !numbered {
		return
	}
	place := r.Place()
	if t.seg.session == "" {
		place = t.c.place // what the broadcast before had is not a new one
	}
	n.Resume(bytes.Clone(place))
}

func (t *take) change(numbered bool) {
	old := t.rep.Account()
	if t.seg.session != "" {
		if err := t.seg.Close(segment.CutHeader); err != nil {
			t.c.log.Error().Err(err).Msg("part could not be closed as it should")
		}
		if seq, at := t.seg.place(); seq > 0 { // before the first frame nothing is missing
			t.seg.miss(segment.Gap{Session: t.seg.session, AfterSeq: seq, At: t.seg.heard.UTC(), AtMedia: at, Length: time.Since(t.seg.heard), Why: t.why})
		}
	}
	t.seg.adjust = t.seg.adjust.Add(old)
	t.seg.lastOut = 0
	if numbered {
		t.rep = retime.New(t.seg, codec.Equal)
	} else {
		t.rep = repair.New(t.seg.repairing(), t.seg)
	}
}
