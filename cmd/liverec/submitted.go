package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pipeline/control/submission"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/mend"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/bilibili"
	"github.com/liverec/liverec/uploader/dest"
)

// submittable refuses parts that Bilibili does not take or cannot transcode, before the first one exists.
func submittable(segment time.Duration, maxSize int64) error {
	switch {
	case segment > longestSubmitted:
		return usagef("--segment: Bilibili takes parts of at most %v; right would be 1h", longestSubmitted)
	case maxSize > largestSubmitted:
		return usagef("--max-size: Bilibili takes parts of at most %dGiB; right would be 4GiB", largestSubmitted>>30)
	}
	return nil
}

// mend makes a repaired copy of a part for a target that could do nothing with the part itself: the control.Mender of a
// run. It lies beside the part, one for each target.
func (h *house) mend(ctx context.Context, t segment.TargetID, s segment.Segment) (segment.Copy, error) {
	of := sha256.Sum256([]byte(t))
	m, err := mend.One(ctx, h.dir, s.Path, fmt.Sprintf("%s.repaired-%x", strings.TrimSuffix(s.Path, path.Ext(s.Path)), of[:3]))
	if errors.Is(err, mend.ErrSound) {
		return segment.Copy{}, nil
	}
	if err != nil {
		return segment.Copy{}, fmt.Errorf("repair %s: %w", s.ID, err)
	}
	return segment.Copy{Path: m.Name, Size: m.Size, Duration: time.Duration(m.Media) * time.Millisecond, SHA256: m.SHA256}, nil
}

// shownBy asks the submissions of a broadcast about parts of which the upload node does not speak any more. It asks once.
type shownBy struct {
	b      segment.Broadcast
	dest   dest.Dest
	target uploader.Target

	asked  bool
	proofs map[uint32]segment.Proof
	why    map[uint32]string
	err    error
}

func (s *shownBy) ask(ctx context.Context, d segment.Delivery) (segment.Proof, error) {
	if !s.asked {
		s.asked = true
		s.proofs, s.why, s.err = s.all(ctx)
	}
	if s.err != nil {
		return segment.Proof{}, s.err
	}
	if p, ok := s.proofs[d.Segment.ID.Seq]; ok {
		p.How += "; the upload node answers for five days only"
		return p, nil
	}
	why := s.why[d.Segment.ID.Seq]
	if why == "" {
		why = "no submission of this broadcast is known to show it"
	}
	return segment.Proof{}, &failure.Error{Op: "ask the submission about " + d.Key, Code: why, Err: failure.ErrAbsent}
}

func (s *shownBy) all(ctx context.Context) (map[uint32]segment.Proof, map[uint32]string, error) {
	t, ok := s.target.(*bilibili.Target)
	if !ok || s.dest.Submission == nil {
		return nil, nil, fmt.Errorf("target %s has no submissions", s.dest.ID)
	}
	o := s.dest.Submission
	release := submission.Release(o.Release)
	if release == submission.Stored { // then nothing is asked of the list but that it shows the part
		release = submission.Listed
	}
	p, err := submission.New(submission.Config{Target: s.dest.ID, Account: t.Account, Parts: o.Parts, Release: release, Log: zerolog.Nop()})
	if err != nil {
		return nil, nil, err
	}
	return p.Ask(ctx, control.List{Session: s.b.Session, Parts: s.b.Deliveries[s.dest.ID], Token: s.b.Publications[s.dest.ID].Token})
}
