package recorder

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
)

// Source pulls one live stream over one connection and sends batches of packets in arrival order.
type Source interface {
	// Run returns when ctx is done, the stream ends or the connection fails. It does not retry, it does not close
	// out, and it gives up ownership of each batch that it sends. io.EOF (wrapped) means that the server ended the
	// response as HTTP wants it to be ended; everything else is a broken connection. Run is called once. The
	// receiver takes from out until Run has returned, also after ctx is done, so a send need not be given up.
	Run(ctx context.Context, out chan<- *media.Batch) error
	// Host says where it comes from, for logs and host scores.
	Host() string
	// Close frees the connection of a Source that is not Run.
	Close() error
}

// Graded is a Source that has a name for the quality that it sends at the moment.
type Graded interface {
	Source
	// Quality is that name, "" if there is none. Everybody may ask at any time.
	Quality() string
}

// ErrOver is what Source.Run returns, wrapped, where the source itself says that the broadcast is over and has handed out
// all of it (HLS: ENDLIST behind the last segment): the broadcast ends without any grace.
var ErrOver = fmt.Errorf("the source says that the broadcast is over: %w", io.EOF)

// Presence is what a site says about a room.
type Presence uint8

// What a room can be. An error from Resolve is not a presence: it means "could not ask" (I8).
const (
	Offline Presence = iota + 1 // the site answered: nothing is being sent
	OnAir
	Blocked // the site answers, but not us
)

// Live is the answer of a site.
type Live struct {
	Presence Presence
	Streamer string
	Title    string
	Cover    string // address of a picture
	Source   Source // set when OnAir: a connection that is open already or that Run will open; Run it or Close it
	// Confirmed, with Offline: the source's own word that the broadcast is over (direct: 404 after the stream ended).
	Confirmed bool
	Why       string // what was seen, for people: "404 Not Found"
	// Form is what the stream comes as, "FLV" or "HLS", where the site found out: also beside an error.
	Form string
}

// Resolver asks one site about one room: is it live, and where?
type Resolver interface {
	Resolve(ctx context.Context, room segment.Room) (Live, error)
	// Every is how often it may be asked while nothing is on.
	Every() time.Duration
}

// Patient is a Resolver whose one question may take longer than those of others: it starts a program.
type Patient interface {
	Resolver
	// Patience is how long one question may take.
	Patience() time.Duration
}

// Journal is all that capture may tell the ledger. It cannot say "uploaded". Every call returns after the record is
// durable.
type Journal interface {
	// Enter says that the room was found live at this moment and answers with the session to go on in: the room's
	// newest one if it has not ended and was heard no longer than grace ago, else a new one.
	Enter(ctx context.Context, room segment.Room, live segment.Session, at time.Time, grace time.Duration) (segment.Entry, error)
	// Unended lists the sessions of all rooms that have not ended, each with its open part if a crash left one.
	Unended(ctx context.Context) ([]segment.Entry, error)
	// Begin comes before the file exists. It also makes one delivery for each target of the run.
	Begin(ctx context.Context, s segment.Segment) error
	// Extend comes after an fsync. It may be skipped: recovery measures the file.
	Extend(ctx context.Context, id segment.ID, e segment.Extent) error
	// Seal comes after fsync, rename and fsync of the folder, and after the SHA-256 is known. It is idempotent.
	Seal(ctx context.Context, s segment.Segment) error
	// Void takes back a segment that holds no media. Its number is used again.
	Void(ctx context.Context, id segment.ID) error
	Miss(ctx context.Context, g segment.Gap) error
	Mend(ctx context.Context, r segment.Repair) error
	// Leave says that the broadcast is over: at is when its last frame was heard. a is the balance of the session.
	Leave(ctx context.Context, id segment.SessionID, at time.Time, a segment.Account) error
}
