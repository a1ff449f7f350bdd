// Package web is the door of `liverec serve`: the API, the pages, the live events and the health probes, and who may
// pass.
//
// It owns routes, sessions, tokens and what the browser gets. It never touches the pipeline: it reads a View and hands
// commands to a Commander, and a page that is never read costs it a bounded buffer and nobody else anything.
package web

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/liverec/liverec/pkg/metrics"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

// View is what there is to see. Every method is cheap, safe for many callers, and waits for no stage.
type View interface {
	// Status is the newest picture, at most a second old, without parts.
	Status(ctx context.Context) (status.Status, error)
	// Rooms are all rooms with their settings, in the order of the page: those of the file as written, then those of the
	// page as added.
	Rooms(ctx context.Context) ([]Room, error)
	// Broadcasts lists broadcasts, newest first.
	Broadcasts(ctx context.Context, q Query) (Broadcasts, error)
	// Broadcast is one with all its parts, deliveries and gaps; ErrNone if nobody knows it.
	Broadcast(ctx context.Context, id segment.SessionID) (segment.Broadcast, error)
	// Open is the part that a room is recording; ErrNone if there is none. The caller closes it.
	Open(ctx context.Context, room string) (*Open, error)
	// Config says how the last reading of the config file went.
	Config() Config
	// Numbers are what the process counts for /metrics; as cheap as Status, with 200 rooms too.
	Numbers(ctx context.Context) (metrics.Numbers, error)
	// Ready is nil once the rooms were started, as long as the ledger takes records: what /readyz tells. The error goes to
	// whoever asks, without credentials, so it says no secret and no address.
	Ready(ctx context.Context) error
}

// Commander takes what a person asks for. It returns when the command was taken, not when it is done.
type Commander interface {
	// Do passes a command to a room, by its name; ErrNone if there is no such room.
	Do(ctx context.Context, room string, verb segment.Verb) error
	// Add takes a room in; it lives in the ledger. ErrExists if a room has that name or that address already, *Refusal if
	// a setting is wrong.
	Add(ctx context.Context, s Settings) (Room, error)
	// Change changes a room of the page; nil fields stay. ErrReadOnly for one of the file.
	Change(ctx context.Context, room string, c Change) (Room, error)
	// Remove ends the recording of a room of the page as `stop` does and forgets the room. What it recorded stays.
	Remove(ctx context.Context, room string) error
}

// What a View or a Commander may answer; anything else is trouble of the program.
var (
	ErrNone     = errors.New("there is no such thing")
	ErrExists   = errors.New("there is such a room already")
	ErrReadOnly = errors.New("the room stands in the config file, change it there")
	// ErrStopping: the process is on its way out, reads are still answered.
	ErrStopping = errors.New("liverec is stopping and takes no more changes")
)

// Refusal is a setting that cannot be taken.
type Refusal struct {
	Key  string // as in the config file: "segment"
	Text string // what is wrong and what would be right
}

func (r *Refusal) Error() string { return r.Key + ": " + r.Text }

// Settings of a room, as they are written in the config file: texts, "" or nil for the default.
type Settings struct {
	URL        string   `json:"url"`
	Name       string   `json:"name,omitempty"`
	To         []string `json:"to,omitempty"` // names of targets of the file
	Segment    string   `json:"segment,omitempty"`
	MaxSize    string   `json:"max-size,omitempty"`
	Quality    string   `json:"quality,omitempty"`
	Container  string   `json:"container,omitempty"`
	Ads        string   `json:"ads,omitempty"`
	Grace      string   `json:"grace,omitempty"`
	Title      string   `json:"title,omitempty"`
	Window     string   `json:"window,omitempty"` // "18:00-02:00"
	SkipTitles []string `json:"skip-titles,omitempty"`
	Priority   int      `json:"priority,omitempty"`
	Paused     bool     `json:"paused,omitempty"`
}

// Change of a room's settings; a nil field stays as it is.
type Change struct {
	To         *[]string `json:"to,omitempty"`
	Segment    *string   `json:"segment,omitempty"`
	MaxSize    *string   `json:"max-size,omitempty"`
	Quality    *string   `json:"quality,omitempty"`
	Container  *string   `json:"container,omitempty"`
	Ads        *string   `json:"ads,omitempty"`
	Grace      *string   `json:"grace,omitempty"`
	Title      *string   `json:"title,omitempty"`
	Window     *string   `json:"window,omitempty"`
	SkipTitles *[]string `json:"skip-titles,omitempty"`
	Priority   *int      `json:"priority,omitempty"`
}

// Room is a room with its settings.
type Room struct {
	Settings
	Site    string   `json:"site"`
	Source  string   `json:"source"`                    // "file" or "page"
	Targets []string `json:"targets"`                   // status.Target.Target of where its parts go
	Since   string   `json:"effective_since,omitempty"` // "now", or "part 4": where a change takes effect
}

// Query asks for a page of broadcasts.
type Query struct {
	Room  string // "": of all rooms
	After string // Broadcasts.Next of the page before; "": from the newest
	Most  int    // 1 to 200; 0: 50
}

// Broadcasts is one page of them.
type Broadcasts struct {
	List []Broadcast `json:"broadcasts"`
	Next string      `json:"next,omitempty"` // "": that was the last page
}

// Broadcast is a broadcast in a list.
type Broadcast struct {
	ID         string  `json:"broadcast"`
	Room       string  `json:"room"`
	Site       string  `json:"site"`
	Streamer   string  `json:"streamer"`
	Title      string  `json:"title"`
	Started    string  `json:"started"`
	Ended      string  `json:"ended"` // "": live, or not known yet
	Parts      int     `json:"parts"`
	Safe       int     `json:"safe"`      // parts with every required proof
	Reclaimed  int     `json:"reclaimed"` // parts that are gone from the disk
	Size       int64   `json:"size"`
	DurationMS int64   `json:"duration_ms"`
	Gaps       int     `json:"gaps"`
	GapSeconds float64 `json:"gap_seconds"`
}

// Open is a part that is being recorded.
type Open struct {
	io.ReaderAt
	io.Closer
	ID        segment.ID
	Container string       // "flv", "mp4", "ts"
	Durable   func() int64 // how many bytes may be read now; grows
	Sealed    func() bool  // the part is closed, Durable is its size
}

// Config is how the last reading of the config file went.
type Config struct {
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"` // with file, line and column
	At    time.Time `json:"at"`
	File  string    `json:"file"`
}
