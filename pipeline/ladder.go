package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline/reclaim"
	"github.com/liverec/liverec/pkg/beat"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// Rung is where the disk stands on the ladder. Deleting unsafe media is not on it.
type Rung string

// The rungs. The words are those of status.
const (
	DiskOK   Rung = "ok"
	DiskLow  Rung = "low"  // alert, free safe parts at once, uploads before all else
	DiskStop Rung = "stop" // rooms pause, the least important first
)

// Space is a file system, in bytes.
type Space struct {
	Free  int64 // for us: without what is reserved for root
	Total int64
}

// DefaultMinFree is 20 GiB, or a tenth of the disk where that is less.
func DefaultMinFree(total int64) int64 {
	if tenth := total / 10; tenth > 0 {
		return min(20<<30, tenth)
	}
	return 20 << 30
}

// DefaultStopFree is 1 GiB.
const DefaultStopFree = 1 << 30

// LadderConfig of a Ladder. Zero values mean the defaults; MinFree's needs the size of the disk, which is measured.
type LadderConfig struct {
	MinFree  int64
	StopFree int64
	Every    time.Duration // between two looks, default 2 s
}

// Room is a room as the ladder and people command it.
type Room struct {
	ID       segment.RoomID
	Name     string
	Priority int                   // the highest is paused last
	Do       func(segment.Command) // must not block
}

// LadderState is what the ladder knows after one look.
type LadderState struct {
	Rung     Rung
	Space    Space
	MinFree  int64
	StopFree int64
	Paused   []segment.RoomID // by the ladder, in the order of pausing
}

// Climb is one step on the ladder. It is pure: free bytes and the state before give the rung, the rooms to pause and
// the rooms to let go on. rooms are the ones that could be paused, least important first.
//
// Below StopFree one more room pauses at each look, below half of it all of them do; at twice StopFree the one that
// was paused last goes on, one at each look. Low ends a twentieth above MinFree, so that it does not flutter.
func Climb(was LadderState, free int64, rooms []segment.RoomID) (now LadderState, pause, resume []segment.RoomID) {
	now = was
	now.Space.Free = free
	now.Paused = slices.DeleteFunc(slices.Clone(was.Paused), func(id segment.RoomID) bool { return !slices.Contains(rooms, id) })
	switch {
	case free < now.StopFree:
		for _, id := range rooms {
			if slices.Contains(now.Paused, id) {
				continue
			}
			pause = append(pause, id)
			if free >= now.StopFree/2 {
				break
			}
		}
		now.Paused = append(now.Paused, pause...)
	case free >= 2*now.StopFree && len(now.Paused) > 0:
		last := len(now.Paused) - 1
		resume = now.Paused[last:]
		now.Paused = now.Paused[:last:last]
	}
	switch {
	case free < now.StopFree, was.Rung == DiskStop && len(now.Paused) > 0, was.Rung == DiskStop && free < 2*now.StopFree:
		now.Rung = DiskStop
	case free < now.MinFree, was.Rung != DiskOK && free < now.MinFree+now.MinFree/20:
		now.Rung = DiskLow
	default:
		now.Rung = DiskOK
	}
	return now, pause, resume
}

// LadderDeps are the parts that a Ladder works with.
type LadderDeps struct {
	Measure func() (Space, error)       // the disk of the data folder; Statfs makes one
	Rooms   []Room                      // may be empty; SetRooms changes them
	Low     func(low bool)              // uploads before all else, or no longer; may be nil; must not block
	Tell    func(rung Rung, why string) // one call per change of rung; may be nil; must not block
	Log     zerolog.Logger
}

// Ladder watches the disk and does what the rungs say. It frees nothing itself: it rings for reclaim.
type Ladder struct {
	cfg LadderConfig
	LadderDeps

	mu    sync.Mutex
	state LadderState
	order []segment.RoomID // least important first
	rooms map[segment.RoomID]Room
}

// NewLadder makes a Ladder and looks at the disk once, for the defaults. It starts nothing.
func NewLadder(cfg LadderConfig, d LadderDeps) (*Ladder, error) {
	if d.Measure == nil {
		return nil, errors.New("ladder: a disk is needed")
	}
	if cfg.MinFree < 0 || cfg.StopFree < 0 {
		return nil, fmt.Errorf("ladder: %d and %d bytes cannot be kept free", cfg.MinFree, cfg.StopFree)
	}
	if cfg.Every <= 0 {
		cfg.Every = 2 * time.Second
	}
	space, err := d.Measure()
	if err != nil {
		return nil, fmt.Errorf("measure the disk: %w", err)
	}
	if cfg.MinFree == 0 {
		cfg.MinFree = DefaultMinFree(space.Total)
	}
	if cfg.StopFree == 0 {
		cfg.StopFree = DefaultStopFree
	}
	l := &Ladder{
		cfg: cfg, LadderDeps: d,
		state: LadderState{Rung: DiskOK, Space: space, MinFree: cfg.MinFree, StopFree: cfg.StopFree},
	}
	l.SetRooms(d.Rooms)
	return l, nil
}

// SetRooms puts other rooms in the place of those of before. One that stays paused by the ladder stays so; one that is
// gone is forgotten. Of rooms with one priority those that stand first are paused first.
func (l *Ladder) SetRooms(rooms []Room) {
	sorted := slices.Clone(rooms)
	slices.SortStableFunc(sorted, func(a, b Room) int { return cmp.Compare(a.Priority, b.Priority) })
	order, byID := make([]segment.RoomID, 0, len(sorted)), make(map[segment.RoomID]Room, len(sorted))
	for _, r := range sorted {
		order, byID[r.ID] = append(order, r.ID), r
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.order, l.rooms = order, byID
	l.state.Paused = slices.DeleteFunc(slices.Clone(l.state.Paused), func(id segment.RoomID) bool { _, here := byID[id]; return !here })
}

// SetLimits changes what is to be kept free; 0 means the default, as in LadderConfig.
func (l *Ladder) SetLimits(minFree, stopFree int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if minFree == 0 {
		minFree = DefaultMinFree(l.state.Space.Total)
	}
	if stopFree == 0 {
		stopFree = DefaultStopFree
	}
	l.state.MinFree, l.state.StopFree = minFree, stopFree
}

// Paused reports whether the ladder holds a room back.
func (l *Ladder) Paused(id segment.RoomID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.state.Paused, id)
}

func (l *Ladder) String() string { return "disk ladder" }

// State is the newest look.
func (l *Ladder) State() LadderState {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	s.Paused = slices.Clone(s.Paused)
	return s
}

// Disk measures the disk for reclaim.
func (l *Ladder) Disk() (reclaim.Disk, error) {
	space, err := l.Measure()
	return reclaim.Disk{Free: space.Free, MinFree: l.State().MinFree}, err
}

// Run looks at the disk every two seconds until ctx is done. kick is rung, never waited for, at each look that finds
// the disk low.
func (l *Ladder) Run(ctx context.Context, kick chan<- struct{}) error {
	warn := obs.NewWarner(l.Log, time.Minute)
	look := time.NewTimer(l.cfg.Every)
	defer look.Stop()
	for {
		space, err := l.Measure()
		warn.Add(err, "measure the disk")
		if err == nil { // could not ask: nothing changes
			l.look(space, kick)
		}
		look.Reset(beat.Until(time.Now(), l.cfg.Every)) // when the recorders look at their clocks too
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

func (l *Ladder) look(space Space, kick chan<- struct{}) {
	l.mu.Lock()
	was := l.state
	now, pause, resume := Climb(was, space.Free, l.order)
	now.Space = space
	l.state = now
	rooms := l.rooms // SetRooms makes a new one
	l.mu.Unlock()
	if now.Rung != DiskOK {
		select {
		case kick <- struct{}{}:
		default:
		}
	}
	if was.Rung != now.Rung {
		l.changed(was, now)
	}
	for _, id := range pause {
		l.Log.Warn().Str("room", rooms[id].Name).Int64("free", space.Free).Msg("room paused, the disk is nearly full")
		rooms[id].Do(segment.Command{Room: id, Verb: segment.VerbPause})
	}
	for _, id := range resume {
		l.Log.Info().Str("room", rooms[id].Name).Int64("free", space.Free).Msg("room goes on, the disk has room again")
		rooms[id].Do(segment.Command{Room: id, Verb: segment.VerbContinue})
	}
}

func (l *Ladder) changed(was, now LadderState) {
	var why string
	switch now.Rung {
	case DiskOK:
		why = "the disk has room again: " + status.Size(now.Space.Free) + " are free"
	case DiskLow:
		why = fmt.Sprintf("the disk is low: %s are free, %s are to be; safe parts are freed at once", status.Size(now.Space.Free), status.Size(now.MinFree))
	case DiskStop:
		why = fmt.Sprintf("the disk is nearly full: %s are free; below %s rooms pause, and go on at %s. Nothing unsafe is deleted",
			status.Size(now.Space.Free), status.Size(now.StopFree), status.Size(2*now.StopFree))
	}
	if now.Rung == DiskOK {
		l.Log.Info().Int64("free", now.Space.Free).Msg(why)
	} else {
		l.Log.Error().Int64("free", now.Space.Free).Msg(why)
	}
	if l.Tell != nil {
		l.Tell(now.Rung, why)
	}
	if low := now.Rung != DiskOK; l.Low != nil && low != (was.Rung != DiskOK) {
		l.Low(low)
	}
}
