package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pipeline/reclaim"
	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

const (
	// The ledger is looked at so often; the longer it takes already, the less a moment matters.
	settleLeast = 250 * time.Millisecond
	settleMost  = 5 * time.Second
	// freeWithin is how long the disk may take to be freed when all else is done and the removal meets errors.
	freeWithin = time.Minute
)

// settle waits until nothing is left that can move by itself. It is false when somebody asked for a stop before.
func (p *Pipeline) settle(ctx, hard context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(hard, cancel)()
	warn := obs.NewWarner(p.log, time.Minute)
	began := time.Now()
	var stuck time.Time // since when only the removal is left, and meets errors
	for {
		moving, err := p.look(ctx)
		if ctx.Err() != nil {
			return false
		}
		warn.Add(err, "look whether everything is done")
		switch {
		case err != nil || moving == deliveries:
			stuck = time.Time{}
		case moving == nothing:
			return true
		case p.Reclaim.Err() == nil:
			stuck = time.Time{}
		case stuck.IsZero():
			stuck = time.Now()
		case time.Since(stuck) >= freeWithin:
			p.log.Error().Err(p.Reclaim.Err()).Msg("everything is safe, but the disk could not be freed")
			return true
		}
		if !backoff.Sleep(ctx, min(max(time.Since(began)/20, settleLeast), settleMost)) {
			return false
		}
	}
}

// motion says what still moves.
type motion int

const (
	nothing motion = iota
	removals
	deliveries
)

// look reads the ledger once. Control runs at the same time, so the order of the two reads matters: what became safe
// after the first read is still in the second.
func (p *Pipeline) look(ctx context.Context) (motion, error) {
	active, err := p.Ledger.Active(ctx)
	if err != nil {
		return deliveries, fmt.Errorf("list the active broadcasts: %w", err)
	}
	held, err := p.Ledger.Holdings(ctx)
	if err != nil {
		return deliveries, fmt.Errorf("list what lies on the disk: %w", err)
	}
	return moving(active, held, p.cfg, p.Control.Stuck, time.Now()), nil
}

// moving is pure: it says whether anything of the ledger can still move in this run with nobody's help. A delivery to
// a target of this run moves until it is proven or parked; a list moves until it is shown or stuck; a broadcast moves
// until it is complete, if nothing else is missing; a holding moves while it may go.
func moving(active []segment.Broadcast, held []segment.Holding, cfg Config, stuck func(segment.SessionID, segment.TargetID) error, now time.Time) motion {
	for _, b := range active {
		for _, t := range control.Targets(b) {
			if !slices.Contains(cfg.Targets, t) || !control.Required(b, t) {
				continue
			}
			for _, d := range b.Deliveries[t] {
				if d.Listable() && stuck(b.Session.ID, t) != nil {
					continue // only a person can have the list show it
				}
				if d.Required && d.Segment.Sealed && d.State != segment.Verified && d.State != segment.Parked {
					return deliveries
				}
			}
		}
		// A broadcast that waits for a target that is not required does so for Patience at the most.
		for _, a := range control.Decide(b, now.Add(control.Patience)) {
			switch a.Kind {
			case control.Complete:
				return deliveries
			case control.Publish:
				if slices.Contains(cfg.Targets, a.Target) && control.Required(b, a.Target) && stuck(b.Session.ID, a.Target) == nil {
					return deliveries
				}
			}
		}
	}
	if len(reclaim.Victims(held, reclaim.Disk{}, reclaim.Policy{Hold: cfg.Hold}, now)) > 0 {
		return removals
	}
	return nothing
}

// sum fills in what the ledger says at the end. It gets two seconds of its own: the contexts of the stages are over.
func (p *Pipeline) sum(ctx context.Context, r *Result) error {
	ctx, cancel := context.WithTimeout(ctx, lastCall)
	defer cancel()
	r.Gaps = p.Control.Gaps()
	active, err := p.Ledger.Active(ctx)
	if err != nil {
		return fmt.Errorf("count what is left: %w", err)
	}
	for _, b := range active {
		if p.cfg.Rooms != nil && !slices.Contains(p.cfg.Rooms, b.Session.Room.ID) {
			continue
		}
		r.Gaps += len(b.Gaps)
		for _, s := range b.Segments {
			if !status.Safe(b, s) {
				r.Unsafe += s.Size
				r.UnsafeParts++
			}
		}
		for _, t := range control.Targets(b) {
			for _, d := range b.Deliveries[t] {
				if d.Required && d.State == segment.Parked {
					r.Parked = append(r.Parked, Parked{t, d.Segment.ID, d.Why})
				}
			}
			if err := p.Control.Stuck(b.Session.ID, t); err != nil && control.Required(b, t) {
				r.Parked = append(r.Parked, Parked{t, segment.ID{Session: b.Session.ID}, err.Error()})
			}
		}
	}
	return nil
}
