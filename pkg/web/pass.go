package web

import (
	"context"
	"net/http"

	"github.com/liverec/liverec/pkg/token"
)

// pass is what a request may do, and why.
type pass struct {
	scope  token.Scope // "" for nothing
	person bool        // a session, or a loopback address without a password: may make tokens
	// still asks again whether the pass holds; nil if it always does.
	still func(ctx context.Context) bool
}

type passKey struct{}

func withPass(r *http.Request, p pass) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), passKey{}, p))
}

func passOf(r *http.Request) pass {
	p, _ := r.Context().Value(passKey{}).(pass)
	return p
}

// stillAllowed is for answers that last: a session ends, a token is removed.
func stillAllowed(r *http.Request) bool {
	p := passOf(r)
	return p.still == nil || p.still(r.Context())
}
