package uploader

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// Limits are the abilities of a target, as data.
type Limits struct {
	MinChunk  int64 // smallest size of every chunk but the last; 0: the target takes whole sealed segments only, at Commit
	MaxChunk  int64 // largest size of a chunk
	MaxChunks int   // most chunks of one object
	Parallel  int   // most chunks that it wants at once, over all objects
	Growing   bool  // an upload may start before the segment is sealed
	// Listed: a whole object is no proof yet, the target's own list has to show the part. Control proves it then.
	Listed bool
	// Apart: the patience that Open asks for is for other Opens only, what is open goes on.
	Apart bool
	// Recheck is how often Check is asked while the target refuses; 0: every minute.
	Recheck time.Duration
}

// OtherChunks is the answer of Open on a target that says only then how long chunks have to be. The lane opens again,
// with chunks of Size; the target goes on with what it has opened.
type OtherChunks struct{ Size int64 }

func (e *OtherChunks) Error() string {
	return fmt.Sprintf("the target wants chunks of %d bytes", e.Size)
}

// Target keeps whole segments elsewhere. A store must be durable once Commit returned, must not show a half object
// under the final name, and must answer Verify from the store itself. Errors are failure.Errors with a Kind; "absent"
// (failure.ErrAbsent) and "could not ask" are never mixed up (I8). All methods may be called from several goroutines.
type Target interface {
	ID() segment.TargetID
	Limits() Limits
	// Check asks whether the target would take something now: NeedsHuman or Permanent is a refusal with its cure in
	// the hint, Transient is weather.
	Check(ctx context.Context) error
	// Open begins an upload. If an earlier Open of the same object had its answer lost, the upload that it left is
	// adopted or aborted here: none is left behind.
	Open(ctx context.Context, o segment.Object) (Upload, error)
	// Resume goes on in the upload that token names. It returns the acks that the store itself lists; nil if the
	// store cannot list them: then the ledger's acks count. failure.ErrAbsent: there is no such upload any more (it
	// was completed, aborted or has expired).
	Resume(ctx context.Context, o segment.Object, token string) (Upload, []segment.Ack, error)
	// Verify asks anew whether the object is there and whole. failure.ErrAbsent: it is not there.
	// failure.ErrDamaged: something is there, but not this. Anything else: could not ask.
	Verify(ctx context.Context, o segment.Object, r segment.Receipt) (segment.Proof, error)
	// Keep puts a small file (the manifest) in place, durably and all at once, over an older one of that name.
	Keep(ctx context.Context, key string, data []byte) error
	// Recall reads a small file back. failure.ErrAbsent: there is none.
	Recall(ctx context.Context, key string) ([]byte, error)
}

// Upload is one object on its way.
type Upload interface {
	Token() string // enough to Resume in another process
	// Put sends one chunk; it is idempotent per index. body is a section of the local file.
	Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error)
	// Commit completes the object from acks without a hole, in order of Index. o now has its final Size and SHA256.
	Commit(ctx context.Context, o segment.Object, acks []segment.Ack) (segment.Receipt, error)
	Abort(ctx context.Context) error
}

// FileBody is a body of Upload.Put that lies in a file as it is, so that the system can move it without handing it to us.
type FileBody interface {
	io.ReadSeeker
	// Move has send move the next bytes of the body, at most most of them: n bytes of f from off on. send may move fewer
	// and says how many. The bytes count as read. io.EOF: there are none left. errors.ErrUnsupported: not now, Read works.
	Move(most int, send func(f *os.File, off int64, n int) (int, error)) (int, error)
}

// Journal is all that transport may tell the ledger: what was sent and proven. It cannot reclaim and cannot reorder.
// Every call returns after the record is durable, and refuses an illegal transition.
type Journal interface {
	// Due lists what still has to go to a target: every delivery that is neither Verified nor Listing, oldest session
	// first, then by Seq. Open segments are among them.
	Due(ctx context.Context, t segment.TargetID) ([]segment.Delivery, error)
	Opening(ctx context.Context, t segment.TargetID, id segment.ID, chunk int64) error
	Opened(ctx context.Context, t segment.TargetID, id segment.ID, token string) error
	Acked(ctx context.Context, t segment.TargetID, id segment.ID, a segment.Ack) error
	Committing(ctx context.Context, t segment.TargetID, id segment.ID) error
	Committed(ctx context.Context, t segment.TargetID, id segment.ID, r segment.Receipt) error
	Verified(ctx context.Context, t segment.TargetID, id segment.ID, p segment.Proof) error
	// Listing takes the place of Verified on a target with Limits.Listed: the object is whole, the proof is control's.
	Listing(ctx context.Context, t segment.TargetID, id segment.ID) error
	// Again takes a delivery back to Due: the target was asked and has neither the object nor a usable upload.
	Again(ctx context.Context, t segment.TargetID, id segment.ID, why string) error
	Parked(ctx context.Context, t segment.TargetID, id segment.ID, why string) error
	// Unparked lets a delivery go on from where it stood when it was parked.
	Unparked(ctx context.Context, t segment.TargetID, id segment.ID) error
}

// LaneStats is what a lane says about itself.
type LaneStats struct {
	Target   segment.TargetID
	Required bool
	State    string // ok, unreachable, refused, throttled
	Error    string
	Since    time.Time
	InFlight int
	Sent     int64   // bytes that were acknowledged since the start
	Rate     float64 // bytes per second over the last 10 s
	// Retries counts by kind: transient, throttled, needs a person, permanent, absent, damaged; and blip, which is a call
	// that a decorator made again within seconds.
	Retries map[string]int64
}
