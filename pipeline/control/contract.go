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

// Journal is all that control may tell the ledger.
type Journal interface {
	// Active lists the sessions that are not complete.
	Active(ctx context.Context) ([]segment.Broadcast, error)
	Publishing(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string) error
	Published(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string, parts int, ended bool) error
	Unpublished(ctx context.Context, s segment.SessionID, t segment.TargetID, why string) error
	// Complete marks a session of which nothing is left to do but to free the disk.
	Complete(ctx context.Context, s segment.SessionID) error
}
