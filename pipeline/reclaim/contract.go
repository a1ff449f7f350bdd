package reclaim

import (
	"context"

	"github.com/liverec/liverec/pkg/segment"
)

// Journal is all that reclaim may tell the ledger.
type Journal interface {
	// Holdings lists the sealed segments that still lie on the disk, the ones in state reclaiming among them.
	Holdings(ctx context.Context) ([]segment.Holding, error)
	// Reclaiming comes before the file is removed. It fails unless every required proof is durable in the ledger.
	Reclaiming(ctx context.Context, id segment.ID) error
	Reclaimed(ctx context.Context, id segment.ID) error
}
