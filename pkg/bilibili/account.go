package bilibili

import (
	"time"

	"github.com/liverec/liverec/pkg/secret"
)

// AppKey is a published app identity.
type AppKey struct{ key, secret string }

// Account is a cookie file. It may be used by many goroutines.
type Account struct{ path string }

// Credentials are what a cookie file holds. They are never changed.
type Credentials struct{}

// OpenAccount reads the cookie file. A file that is absent or holds no login is NeedsHuman with the cure.
func OpenAccount(path string) (*Account, error) { panic("outline") }

// Path is the cookie file.
func (a *Account) Path() string { return a.path }

// Credentials are those of the file now: it is read again when it has changed. If it cannot be read at the moment, they
// are the last ones.
func (a *Account) Credentials() *Credentials { panic("outline") }

// Parse reads a cookie file: biliup's object, bare or one level down under "data", an object of names and values, a
// Netscape cookie file, or a Cookie header.
func Parse(data []byte) (*Credentials, error) { panic("outline") }

// Cookie is the Cookie header.
func (c *Credentials) Cookie() secret.String { panic("outline") }

// CSRF is the csrf word.
func (c *Credentials) CSRF() secret.String { panic("outline") }

// MID is the user, 0 if the file does not say.
func (c *Credentials) MID() int64 { panic("outline") }

// HasToken reports whether calls may speak as App.
func (c *Credentials) HasToken() bool { panic("outline") }

// Expires is when the cookies die, zero if the file does not say.
func (c *Credentials) Expires() time.Time { panic("outline") }
