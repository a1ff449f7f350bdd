package ledger

import (
	"context"
	"database/sql"

	"github.com/liverec/liverec/pkg/segment"
)

// Stored names the targets that have proven at least one part, ever: an archive folder that is empty in spite of that is
// a mount that was lost.
func (v *view) Stored(ctx context.Context) (map[segment.TargetID]bool, error) {
	out := map[segment.TargetID]bool{}
	err := v.ask(ctx, "the targets that hold something", func(q querier) error {
		return each(q, func(r *sql.Rows) error {
			var id segment.TargetID
			if err := r.Scan(&id); err != nil {
				return err
			}
			out[id] = true
			return nil
		}, `SELECT t.id FROM targets t WHERE EXISTS (SELECT 1 FROM deliveries d WHERE d.target = t.n AND d.state = 'verified')`)
	})
	return out, err
}
