// Package status is what liverec tells about itself: the JSON of `liverec status --json` and /api/v1/status, and the
// report at the end of a broadcast.
//
// It owns these shapes and makes them from what the ledger knows. It is pure: the moment is handed in. What only a
// running process knows (bit rates, what is in flight) is laid over it by that process.
package status

import (
	"math"
	"slices"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// Format is the value of the field "format".
const Format = "liverec-status/1"

// Status is the whole picture.
type Status struct {
	Format  string   `json:"format"`
	At      string   `json:"at"`
	Running *Running `json:"running"` // null when no process holds the data folder
	Rooms   []Room   `json:"rooms"`
	Targets []Target `json:"targets"`

	UnsafeBytes         int64   `json:"unsafe_bytes"`
	OldestUnsafeSeconds float64 `json:"oldest_unsafe_seconds"`
	Disk                Disk    `json:"disk"`
	Parts               []Part  `json:"parts,omitempty"`
}

// Running names the process that holds the data folder.
type Running struct {
	PID   int    `json:"pid"`
	Since string `json:"since"`
}

// Room states.
const (
	Waiting     = "waiting"
	OnAir       = "live"
	Paused      = "paused"
	Blocked     = "blocked"
	Unreachable = "unreachable"
	Ended       = "ended"
)

// Room is one watched thing and its newest broadcast.
type Room struct {
	Room        string  `json:"room"`
	URL         string  `json:"url"`
	Site        string  `json:"site"`
	State       string  `json:"state"`
	Since       string  `json:"since"`
	Broadcast   string  `json:"broadcast"`
	Title       string  `json:"title"`
	Quality     string  `json:"quality"`
	Bitrate     int64   `json:"bitrate"` // bit/s over the last 10 s
	Open        *Open   `json:"open"`    // null when no part is open
	UnsafeBytes int64   `json:"unsafe_bytes"`
	Gaps        int     `json:"gaps"`
	GapSeconds  float64 `json:"gap_seconds"`
	Error       string  `json:"error,omitempty"`
	Newest      uint32  `json:"-"` // number of the newest part of Broadcast that the ledger knows
}

// Open is the part that is being recorded, and how much of it is already away.
type Open struct {
	Seq        uint32           `json:"seq"`
	DurationMS int64            `json:"duration_ms"`
	Size       int64            `json:"size"`
	Durable    int64            `json:"durable"`
	Away       map[string]int64 `json:"away"` // bytes in acknowledged chunks, by target
}

// Target states.
const (
	OK              = "ok"
	TargetAway      = "unreachable"
	TargetRefused   = "refused"
	TargetThrottled = "throttled"
)

// Target is a place for copies and what still has to go there.
type Target struct {
	Target           string  `json:"target"`
	Required         bool    `json:"required"`
	State            string  `json:"state"`
	DueParts         int     `json:"due_parts"`
	DueBytes         int64   `json:"due_bytes"`
	Parked           int     `json:"parked"`
	Rate             float64 `json:"rate"` // bytes per second over the last 10 s
	OldestDueSeconds float64 `json:"oldest_due_seconds"`
	Error            string  `json:"error"`
	Retries          int64   `json:"retries,omitempty"`
	InFlight         int     `json:"in_flight,omitempty"`
}

// Disk is where the data folder stands on the ladder.
type Disk struct {
	Free     int64  `json:"free"`
	MinFree  int64  `json:"min_free"`
	StopFree int64  `json:"stop_free"`
	Step     string `json:"step"`
}

// Part is one segment with all its deliveries (--parts).
type Part struct {
	Broadcast  string     `json:"broadcast"`
	Seq        uint32     `json:"seq"`
	Size       int64      `json:"size"`
	DurationMS int64      `json:"duration_ms"`
	SHA256     string     `json:"sha256"`
	Started    string     `json:"started"`
	Cut        string     `json:"cut"`
	Local      string     `json:"local"` // open, sealed, reclaimed
	Deliveries []Delivery `json:"deliveries"`
}

// Delivery is one part on one target.
type Delivery struct {
	Target   string         `json:"target"`
	Required bool           `json:"required"`
	State    string         `json:"state"`
	Key      string         `json:"key"`
	Acked    int64          `json:"acked"`
	Proof    *segment.Proof `json:"proof"` // null until it was asked for and given
	Error    string         `json:"error,omitempty"`
}

// RoomState is what the ledger keeps of a room.
type RoomState struct {
	Room    segment.Room
	State   string
	Since   time.Time
	Quality string
	Error   string
}

// Input is what a Status is made from.
type Input struct {
	Now          time.Time
	Running      *Running
	Rooms        []RoomState
	Broadcasts   []segment.Broadcast // newest last
	Destinations []segment.Destination
	Disk         Disk
	WithParts    bool
}

// Stamp is a moment as it stands in all JSON of liverec: UTC, milliseconds, RFC 3339. The zero moment is "".
func Stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// Make draws the picture.
func Make(in Input) Status {
	s := Status{Format: Format, At: Stamp(in.Now), Running: in.Running, Disk: in.Disk, Rooms: []Room{}, Targets: []Target{}}
	targets := map[segment.TargetID]*Target{}
	for _, d := range in.Destinations {
		s.Targets = append(s.Targets, Target{Target: string(d.ID), Required: d.Required, State: OK})
	}
	for i := range s.Targets {
		targets[segment.TargetID(s.Targets[i].Target)] = &s.Targets[i]
	}
	rooms := map[segment.RoomID]*Room{}
	for _, r := range in.Rooms {
		s.Rooms = append(s.Rooms, Room{Room: r.Room.Name, URL: r.Room.URL, Site: r.Room.Site, State: r.State, Since: Stamp(r.Since),
			Quality: r.Quality, Error: r.Error})
	}
	for i := range s.Rooms {
		rooms[in.Rooms[i].Room.ID] = &s.Rooms[i]
	}
	var oldest time.Time
	for _, b := range in.Broadcasts {
		room := rooms[b.Session.Room.ID]
		if room != nil {
			room.Broadcast, room.Title = string(b.Session.ID), b.Session.Title
			room.Gaps, room.GapSeconds, room.Open = len(b.Gaps), seconds(gapTime(b.Gaps)), nil
			room.Newest = 0
		}
		for _, seg := range b.Segments {
			unsafe := !Safe(b, seg) && !seg.Foreign
			if unsafe {
				s.UnsafeBytes += seg.Size
				if oldest.IsZero() || seg.Start.Before(oldest) {
					oldest = seg.Start
				}
			}
			if room != nil {
				if unsafe {
					room.UnsafeBytes += seg.Size
				}
				room.Newest = max(room.Newest, seg.ID.Seq)
				if !seg.Sealed {
					room.Open = &Open{Seq: seg.ID.Seq, DurationMS: seg.Duration.Milliseconds(), Size: seg.Size, Durable: seg.Size, Away: map[string]int64{}}
				}
			}
			for _, t := range sortedTargets(b) {
				d, ok := find(b.Deliveries[t], seg.ID)
				if !ok {
					continue
				}
				if room != nil && !seg.Sealed && room.Open != nil {
					room.Open.Away[string(t)] = Acked(d)
				}
				account(targets[t], d, seg, in.Now)
			}
			if in.WithParts {
				s.Parts = append(s.Parts, part(b, seg))
			}
		}
	}
	if !oldest.IsZero() {
		s.OldestUnsafeSeconds = round(max(in.Now.Sub(oldest).Seconds(), 0))
	}
	return s
}

func account(t *Target, d segment.Delivery, seg segment.Segment, now time.Time) {
	if t == nil || d.State == segment.Verified {
		return
	}
	t.DueParts++
	t.DueBytes += max(seg.Size-Acked(d), 0)
	if d.State == segment.Parked {
		t.Parked++
		t.State = TargetRefused
	}
	if d.Why != "" {
		t.Error = d.Why
	}
	t.OldestDueSeconds = max(t.OldestDueSeconds, round(now.Sub(seg.Start).Seconds()))
}

// Acked is how many bytes of a delivery the target has acknowledged.
func Acked(d segment.Delivery) int64 {
	if d.State == segment.Committed || d.State == segment.Verified {
		return d.Segment.Size
	}
	var n int64
	for _, a := range d.Acks {
		n += a.Length
	}
	return n
}

// Safe reports whether every required target has its final proof of a segment.
func Safe(b segment.Broadcast, seg segment.Segment) bool {
	required := 0
	for _, ds := range b.Deliveries {
		d, ok := find(ds, seg.ID)
		if !ok || !d.Required {
			continue
		}
		required++
		if d.State != segment.Verified {
			return false
		}
	}
	return required > 0
}

func part(b segment.Broadcast, seg segment.Segment) Part {
	p := Part{Broadcast: string(b.Session.ID), Seq: seg.ID.Seq, Size: seg.Size, DurationMS: seg.Duration.Milliseconds(),
		Started: Stamp(seg.Start), Cut: string(seg.Cut), Local: "open", Deliveries: []Delivery{}}
	if seg.Sealed {
		p.Local, p.SHA256 = "sealed", seg.SHA256.String()
	}
	if _, gone := b.Reclaimed[seg.ID.Seq]; gone {
		p.Local = "reclaimed"
	}
	for _, t := range sortedTargets(b) {
		d, ok := find(b.Deliveries[t], seg.ID)
		if !ok {
			continue
		}
		j := Delivery{Target: string(t), Required: d.Required, State: string(d.State), Key: d.Key, Acked: Acked(d), Error: d.Why}
		if d.State == segment.Verified {
			j.Proof = &d.Proof
		}
		p.Deliveries = append(p.Deliveries, j)
	}
	return p
}

func sortedTargets(b segment.Broadcast) []segment.TargetID {
	ts := make([]segment.TargetID, 0, len(b.Deliveries))
	for t := range b.Deliveries {
		ts = append(ts, t)
	}
	slices.Sort(ts)
	return ts
}

func find(ds []segment.Delivery, id segment.ID) (segment.Delivery, bool) {
	// They are in order and seldom have a hole; a broadcast of 10,000 parts is asked 30,000 times.
	if len(ds) > 0 {
		if i := int64(id.Seq) - int64(ds[0].Segment.ID.Seq); i >= 0 && i < int64(len(ds)) && ds[i].Segment.ID == id {
			return ds[i], true
		}
	}
	for _, d := range ds {
		if d.Segment.ID == id {
			return d, true
		}
	}
	return segment.Delivery{}, false
}

func gapTime(gaps []segment.Gap) time.Duration {
	var sum time.Duration
	for _, g := range gaps {
		sum += g.Length
	}
	return sum
}

func seconds(d time.Duration) float64 { return round(d.Seconds()) }

func round(f float64) float64 { return math.Round(f*1000) / 1000 }
