package bilibili

import (
	"context"
	"time"
)

// Login is the QR login of the TV client (reference 1.2).
type Login struct{ client *Client }

// Code is a QR code that waits for a phone.
type Code struct {
	URL     string // what the QR code says; for the phone only, it is no secret of the account
	Expires time.Time
}

// Keeper checks and renews the credentials at start, daily and on refusal. It is a supervise.Service.
type Keeper struct{}

// Run keeps the credentials alive until ctx ends.
func (k *Keeper) Run(ctx context.Context) error { panic("outline") }
