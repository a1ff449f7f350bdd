package web

import (
	"context"
	"time"

	"github.com/liverec/liverec/pkg/token"
)

// Store keeps the API tokens; the ledger does.
type Store interface {
	// AddToken keeps a token whose ID and Hash nobody has.
	AddToken(ctx context.Context, t token.Token) error
	// Tokens lists them, oldest first.
	Tokens(ctx context.Context) ([]token.Token, error)
	// RemoveToken forgets one by its ID; false if there was none. From then on UseToken does not know it.
	RemoveToken(ctx context.Context, id string) (bool, error)
	// UseToken finds the token with that hash and notes the moment as its Used, if the one on record is older than a
	// minute; false if there is none. It is called for every request, so it reads and seldom writes.
	UseToken(ctx context.Context, h token.Hash, at time.Time) (token.Token, bool, error)
}
