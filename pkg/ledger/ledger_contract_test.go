package ledger_test

import (
	"context"
	"time"

	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/segment"
)

// Copies of the stages' interfaces: the floor plan lets nobody but cmd see both sides, and cmd asserts the real ones.
type (
	recorderJournal interface {
		Enter(ctx context.Context, room segment.Room, live segment.Session, at time.Time, grace time.Duration) (segment.Entry, error)
		Unended(ctx context.Context) ([]segment.Entry, error)
		Begin(ctx context.Context, s segment.Segment) error
		Extend(ctx context.Context, id segment.ID, e segment.Extent) error
		Seal(ctx context.Context, s segment.Segment) error
		Void(ctx context.Context, id segment.ID) error
		Miss(ctx context.Context, g segment.Gap) error
		Mend(ctx context.Context, r segment.Repair) error
		Leave(ctx context.Context, id segment.SessionID, at time.Time, a segment.Account) error
	}
	uploaderJournal interface {
		Due(ctx context.Context, t segment.TargetID) ([]segment.Delivery, error)
		Opening(ctx context.Context, t segment.TargetID, id segment.ID, chunk int64) error
		Opened(ctx context.Context, t segment.TargetID, id segment.ID, token string) error
		Acked(ctx context.Context, t segment.TargetID, id segment.ID, a segment.Ack) error
		Committing(ctx context.Context, t segment.TargetID, id segment.ID) error
		Committed(ctx context.Context, t segment.TargetID, id segment.ID, r segment.Receipt) error
		Instead(ctx context.Context, t segment.TargetID, id segment.ID, c segment.Copy, why string) error
		Listing(ctx context.Context, t segment.TargetID, id segment.ID) error
		Verified(ctx context.Context, t segment.TargetID, id segment.ID, p segment.Proof) error
		Again(ctx context.Context, t segment.TargetID, id segment.ID, why string) error
		Parked(ctx context.Context, t segment.TargetID, id segment.ID, why string) error
		Unparked(ctx context.Context, t segment.TargetID, id segment.ID) error
	}
	controlJournal interface {
		Active(ctx context.Context) ([]segment.Broadcast, error)
		Publishing(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string) error
		Published(ctx context.Context, s segment.SessionID, t segment.TargetID, digest string, parts int, ended bool) error
		Unpublished(ctx context.Context, s segment.SessionID, t segment.TargetID, why string) error
		Named(ctx context.Context, s segment.SessionID, t segment.TargetID, token string) error
		Verified(ctx context.Context, t segment.TargetID, id segment.ID, p segment.Proof) error
		Again(ctx context.Context, t segment.TargetID, id segment.ID, why string) error
		Complete(ctx context.Context, s segment.SessionID) error
	}
	reclaimJournal interface {
		Holdings(ctx context.Context) ([]segment.Holding, error)
		Reclaiming(ctx context.Context, id segment.ID) error
		Reclaimed(ctx context.Context, id segment.ID) error
	}
)

var (
	_ recorderJournal = (*ledger.Ledger)(nil)
	_ uploaderJournal = (*ledger.Ledger)(nil)
	_ controlJournal  = (*ledger.Ledger)(nil)
	_ reclaimJournal  = (*ledger.Ledger)(nil)
)
