package control

import (
	"context"

	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/segment"
)

// Publisher shows the parts of a session as one ordered list. It sets the list to a state; setting the same state
// twice is harmless.
type Publisher interface {
	Target() segment.TargetID
	// Find asks whether a list of this session is there already; a lost answer to Put is answered by it.
	Find(ctx context.Context, s segment.Session) (digest string, parts int, found bool, err error)
	// Put sets the list. It returns after the target has confirmed it by an independent question.
	Put(ctx context.Context, s segment.Session, m manifest.Manifest) error
}

// Submitter shows the parts of a session as one ordered list too, on a service where being listed is a process: the
// list is a submission that is created once and edited, and what was listed may still turn bad. It sets the list to a
// state; setting the same state twice is harmless. It asks before it repeats what may have happened, and tells l.Name
// what it is about to do before it does what cannot be repeated.
//
// An error of the pace alone, with which nothing is wrong, is a Throttled failure without a Code.
type Submitter interface {
	Target() segment.TargetID
	// Submit brings the list to l, and returns after the target has confirmed it by an independent question.
	Submit(ctx context.Context, l List) error
	// Look asks what became of the parts of l, all of which were listed once.
	Look(ctx context.Context, l List) (Sight, error)
	// Edit makes a note of what a person wants the list to say from now on; the next Submit says it. It asks nobody.
	Edit(ctx context.Context, l List, f Facts) error
}

// Facts are what a list says of itself. "": that stays as it is.
type Facts struct{ Title, Desc, Tag, Cover string }

// Mender makes a sound copy of a part for a target that could do nothing with the part's own file. A zero Copy: nothing
// is wrong with it.
type Mender func(ctx context.Context, t segment.TargetID, s segment.Segment) (segment.Copy, error)

// List is what a submission shall show.
type List struct {
	Session segment.Session
	Parts   []segment.Delivery // a prefix of the recording, each with the receipt of its upload
	Ended   bool
	Token   string // what Name was told last
	// Name makes a note durable. It is the Token of the next List.
	Name func(ctx context.Context, token string) error
}

// Sight is what a Submitter saw of the parts that were not proven before, by Seq. A part that is in neither waits.
type Sight struct {
	Proven map[uint32]segment.Proof
	Bad    map[uint32]string // has to be sent again, and why
	Broken map[uint32]string // the same, and the file itself may be the reason
	Wait   string            // what the others wait for, for people
}

// Bad is the error of Submit when the target refuses parts that it had called complete: they have to be sent again.
type Bad struct {
	Seqs []uint32
	Err  error
}

func (e *Bad) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Bad) Unwrap() error { return e.Err }

// Journal is all that control may tell the ledger.
type Journal interface {
	// Active lists the sessions that are not complete.
	Active(ctx context.Context) ([]segment.Broadcast, error)
	Publishing(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string) error
	Published(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string, parts int, ended bool) error
	Unpublished(ctx context.Context, s segment.SessionID, t segment.TargetID, why string) error
	// Named keeps a Submitter's note about the list of a session (segment.Publication.Token).
	Named(ctx context.Context, s segment.SessionID, t segment.TargetID, token string) error
	// Verified proves a part that was stored: the list shows it. Again has it sent once more.
	Verified(ctx context.Context, t segment.TargetID, id segment.ID, p segment.Proof) error
	// Instead is Again with a copy that is sent in the place of the part's own file from now on.
	Again(ctx context.Context, t segment.TargetID, id segment.ID, why string) error
	Instead(ctx context.Context, t segment.TargetID, id segment.ID, c segment.Copy, why string) error
	// Complete marks a session of which nothing is left to do but to free the disk.
	Complete(ctx context.Context, s segment.SessionID) error
}
