// Package failure says what kind of trouble a remote or a disk is in, so that nobody has to search in error texts.
//
// It owns the kinds and the error that carries them. It never decides what is done about one: lanes, control and cmd
// do.
package failure

import (
	"errors"
	"fmt"
	"time"
)

// Kind tells who can help.
type Kind uint8

// The kinds of trouble.
const (
	Transient  Kind = iota // time helps: weather, a lost connection, a full disk
	Throttled              // waiting helps, hurrying harms
	NeedsHuman             // a person has to do something: password, cookie, bucket, permission
	Permanent              // nothing helps for this one object; others go on
)

func (k Kind) String() string {
	return [...]string{"transient", "throttled", "needs a person", "permanent"}[k]
}

var (
	// ErrAbsent says that the target answered and has no such thing. "Could not ask" is never this.
	ErrAbsent = errors.New("not there")
	// ErrDamaged says that the target answered and what it has is not what was sent.
	ErrDamaged = errors.New("there, but not what was sent")
)

// Error is trouble at the border to the outside.
type Error struct {
	Op         string        // what was attempted, and on what: "put chunk 7 of alice/P0003.flv"
	Kind       Kind          //
	Code       string        // the remote's own word: "503 SlowDown"
	RetryAfter time.Duration // how long the remote asked to wait, 0 if it did not
	Hint       string        // what a person can do, a whole sentence
	Err        error         // the cause
}

func (e *Error) Error() string {
	s := e.Op
	if e.Code != "" {
		s = join(s, e.Code)
	}
	if e.Err != nil {
		s = join(s, e.Err.Error())
	}
	if s == "" {
		return e.Kind.String()
	}
	return s
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return fmt.Sprintf("%s: %s", a, b)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of the outermost Error in err's chain. An error that carries none is Transient: it is tried
// again and nothing is concluded from it.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Transient
}

// RetryAfter is how long the remote asked to wait, 0 if it did not say.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// Hint is the first hint in err's chain: what a person can do.
func Hint(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
