package bilibili

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// Class is what an account wants to do.
type Class uint8

// The classes.
const (
	Preupload  Class = iota // member.bilibili.com/preupload: bursts of Pace.Burst, refilled one per Interval
	Submission              // add and edit: at least Interval apart
	Question                // everything else that speaks for the account: only waits out a hold
)

// Pace is how fast one account may go.
type Pace struct {
	Interval time.Duration // between two submissions; default 3 min, negative: none
	Burst    int           // most preuploads at once; default 10
}

// Governor paces one account over all rooms and processes that share its cookie file.
type Governor struct{}

// Hold is a refusal that is being waited out.
type Hold struct {
	Class Class
	Code  int64
	Since time.Time
	Until time.Time
	Hint  string // what a person can do to end it
}

// Governor makes the governor of the account. Those of one cookie file share their state, also between processes.
func (a *Account) Governor(p Pace, log zerolog.Logger) *Governor { panic("outline") }

// Try takes a turn now, or says how long it has to be waited: *failure.Error, Throttled, with RetryAfter and, if the
// remote had refused, its code and hint.
func (g *Governor) Try(class Class) error { panic("outline") }

// Wait takes a turn, as soon as there is one. Only the end of ctx ends it.
func (g *Governor) Wait(ctx context.Context, class Class) error { panic("outline") }

// Report tells how a call went. A refusal that asks for patience becomes a hold of the class (of all classes where the
// table says so), longer at each repetition; a success ends the series. It gives err back, its RetryAfter that of the hold.
func (g *Governor) Report(class Class, err error) error { panic("outline") }

// Write runs f as the only writer of the account, over all processes: fetch and edit of a submission belong into one f.
// It takes no turn.
func (g *Governor) Write(ctx context.Context, f func(ctx context.Context) error) error {
	panic("outline")
}

// Holds are the refusals that are being waited out now.
func (g *Governor) Holds() []Hold { panic("outline") }

// Release ends all holds: somebody says that it is worth a try (`liverec resume`, a manual submission). Series go on.
func (g *Governor) Release() error { panic("outline") }
