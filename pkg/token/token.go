// Package token is what a script shows instead of a password: how an API token looks, what it may do, and what is kept
// of it.
//
// It owns the form of a token and its hash. It never keeps one: only the hash goes to the ledger, and the text is told
// once, to whoever made it.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/liverec/liverec/pkg/secret"
)

// Scope is what a token may do.
type Scope string

// The scopes. Write includes Read.
const (
	Read  Scope = "read"
	Write Scope = "write"
)

// Allows reports whether a token of scope s may do what needs the scope of need.
func (s Scope) Allows(need Scope) bool { return s == Write || s == Read && need == Read }

// Prefix begins every token, so that a person and a scanner of repositories know one when they see it.
const Prefix = "lr_"

// secretBytes of a token are random: nobody guesses 256 bits, so a plain hash of it is enough.
const secretBytes = 32

// Hash is the SHA-256 of a token's text.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Token is what is kept of one.
type Token struct {
	ID    string    // names it where it is listed and removed; tells nothing about the text
	Name  string    // what the person calls it
	Scope Scope     //
	Hash  Hash      // unique
	Made  time.Time // UTC
	Used  time.Time // about when it was last shown, zero if never
}

// MaxName is how long a name may be, in characters.
const MaxName = 100

// New makes a token, and its text, which is told once.
func New(name string, scope Scope, now time.Time) (Token, secret.String, error) {
	switch {
	case scope != Read && scope != Write:
		return Token{}, secret.String{}, fmt.Errorf("the scope of a token is read or write, not %.20q", string(scope))
	case strings.TrimSpace(name) == "":
		return Token{}, secret.String{}, fmt.Errorf("a token needs a name, so that it can be told from others when it is to be removed")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return Token{}, secret.String{}, fmt.Errorf("the name of a token is text without control characters")
	case utf8.RuneCountInString(name) > MaxName:
		return Token{}, secret.String{}, fmt.Errorf("the name of a token has at most %d characters", MaxName)
	}
	var id [5]byte
	var random [secretBytes]byte
	rand.Read(id[:]) // never fails
	rand.Read(random[:])
	text := Prefix + base64.RawURLEncoding.EncodeToString(random[:])
	return Token{ID: hex.EncodeToString(id[:]), Name: name, Scope: scope, Hash: sha256.Sum256([]byte(text)), Made: now.UTC()}, secret.New(text), nil
}

// HashOf is the hash by which a token is found; false if text does not even look like one.
func HashOf(text string) (Hash, bool) {
	if !strings.HasPrefix(text, Prefix) || len(text) != len(Prefix)+base64.RawURLEncoding.EncodedLen(secretBytes) {
		return Hash{}, false
	}
	return sha256.Sum256([]byte(text)), true
}
