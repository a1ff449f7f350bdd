package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"
)

const (
	sessionIdle = 7 * 24 * time.Hour  // without a request
	sessionMost = 30 * 24 * time.Hour // from the login
	maxSessions = 1000                // the one that was idle longest gives way
)

// sessions are the browsers that are signed in. They live in memory: a restart asks for the password again.
type sessions struct {
	mu  sync.Mutex // guards what is below
	all map[[sha256.Size]byte]*session
}

type session struct{ made, seen time.Time }

func newSessions() *sessions { return &sessions{all: map[[sha256.Size]byte]*session{}} }

// open begins a session and gives the text of its cookie, of which only a hash is kept.
func (s *sessions) open(now time.Time) string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	text := base64.RawURLEncoding.EncodeToString(b[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxSessions {
		var idle [sha256.Size]byte
		var at time.Time
		for k, v := range s.all {
			if v.over(now) {
				delete(s.all, k)
			} else if at.IsZero() || v.seen.Before(at) {
				idle, at = k, v.seen
			}
		}
		if len(s.all) >= maxSessions {
			delete(s.all, idle)
		}
	}
	s.all[sha256.Sum256([]byte(text))] = &session{now, now}
	return text
}

func (v *session) over(now time.Time) bool {
	return now.Sub(v.seen) >= sessionIdle || now.Sub(v.made) >= sessionMost
}

// holds reports whether a cookie is that of a session, and counts as its sign of life.
func (s *sessions) holds(text string, now time.Time) bool {
	k := sha256.Sum256([]byte(text))
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.all[k]
	if v == nil {
		return false
	}
	if v.over(now) {
		delete(s.all, k)
		return false
	}
	v.seen = now
	return true
}

func (s *sessions) end(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(text)))
}

// endAll ends all: the password is another.
func (s *sessions) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.all)
}
