package page

import (
	"context"
	"net/http"
	"time"

	"github.com/liverec/liverec/pkg/token"
)

// Tokens keeps the API tokens; web.Store is one.
type Tokens interface {
	AddToken(ctx context.Context, t token.Token) error
	Tokens(ctx context.Context) ([]token.Token, error)
	RemoveToken(ctx context.Context, id string) (bool, error)
}

type accessPage struct {
	List  []tokenRow
	Fresh string // the text of a token that was just made: it is shown this once
	Wrong string
	Name  string
}

type tokenRow struct {
	ID, Name, Scope string
	Made, Used      time.Time
}

func (p *Pages) access(w http.ResponseWriter, r *http.Request) {
	p.showAccess(w, r, http.StatusOK, accessPage{})
}

func (p *Pages) showAccess(w http.ResponseWriter, r *http.Request, code int, b accessPage) {
	f := p.frame(r, "access", "")
	l := f.Lang
	list, err := p.cfg.Tokens.Tokens(r.Context())
	if err != nil {
		p.fail(w, r, err)
		return
	}
	for _, t := range list {
		scope := l.t("key.read")
		if t.Scope == token.Write {
			scope = l.t("key.write")
		}
		b.List = append(b.List, tokenRow{ID: t.ID, Name: t.Name, Scope: scope, Made: t.Made, Used: t.Used})
	}
	f.Title, f.Here, f.Said, f.Body = l.t("key.title"), "/access", said(l, r), b
	w.Header().Set("Cache-Control", "no-store")
	p.show(w, code, "access", f)
}

func (p *Pages) newToken(w http.ResponseWriter, r *http.Request) {
	name, scope := r.PostFormValue("name"), token.Scope(r.PostFormValue("scope"))
	t, text, err := token.New(name, scope, p.cfg.Now())
	if err != nil {
		l := langOf(r)
		p.showAccess(w, r, http.StatusUnprocessableEntity, accessPage{Wrong: l.t("key.refused", err.Error()), Name: name})
		return
	}
	if err := p.cfg.Tokens.AddToken(r.Context(), t); err != nil {
		p.fail(w, r, err)
		return
	}
	// Not a redirect: the text must not stand in an address.
	p.showAccess(w, r, http.StatusOK, accessPage{Fresh: text.Reveal()})
}

func (p *Pages) endToken(w http.ResponseWriter, r *http.Request) {
	ok, err := p.cfg.Tokens.RemoveToken(r.Context(), r.PostFormValue("id"))
	switch {
	case err != nil:
		p.fail(w, r, err)
	case !ok:
		p.missing(w, r)
	default:
		redirect(w, r, "/access", "ended", "")
	}
}
