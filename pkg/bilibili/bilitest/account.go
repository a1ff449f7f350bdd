package bilitest

import "net/http"

// User is an account. Its fields are safe to read between requests.
type User struct {
	MID  int64
	Name string
}

// AddUser makes an account that is logged in.
func (s *Server) AddUser(name string) *User { panic("outline") }

// CookieFile is biliup's cookies.json of the user, as it is now.
func (s *Server) CookieFile(u *User) []byte { panic("outline") }

// Expire kills the user's cookies and token, as a logout of all devices does.
func (s *Server) Expire(u *User) { panic("outline") }

// ByCookie is the user of the request's cookies: nil and -101 if nobody (U 9.3).
func (s *Server) ByCookie(r *http.Request) (*User, int64) { panic("outline") }

// ByCSRF is ByCookie for a write: the csrf word of query or form must be bili_jct, else -111 (U 0.5).
func (s *Server) ByCSRF(r *http.Request) (*User, int64) { panic("outline") }

// ByToken is the user of an app call: wrong sign -3, wrong access_key -101 (U 9.3).
func (s *Server) ByToken(r *http.Request) (*User, int64) { panic("outline") }

// Scan is the person with the phone: the newest QR code is scanned and confirmed by u.
func (s *Server) Scan(u *User) { panic("outline") }
