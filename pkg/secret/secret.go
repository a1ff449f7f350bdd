// Package secret is a string that nobody prints by accident (I10).
//
// It owns the one type whose only printable form is "***". It never stores, reads or sends a secret.
package secret

import "encoding/json"

// String has no printable form but "***"; the empty one prints empty.
type String struct{ s string }

// New hides s.
func New(s string) String { return String{s} }

// Reveal gives the secret to the one place that needs it.
func (s String) Reveal() string { return s.s }

// IsZero reports whether there is no secret.
func (s String) IsZero() bool { return s.s == "" }

func (s String) String() string {
	if s.s == "" {
		return ""
	}
	return "***"
}

// GoString serves %#v.
func (s String) GoString() string { return `secret.String("` + s.String() + `")` }

// MarshalJSON writes what String says.
func (s String) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText writes what String says.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
