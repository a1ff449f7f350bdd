package token_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/token"
)

func TestOnlyTheHashOfATokenIsKept(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("CST", 8*3600))
	tok, text, err := token.New("prometheus", token.Read, now)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text.Reveal(), "lr_") || len(text.Reveal()) < 40 {
		t.Errorf("the token is %q", text.Reveal())
	}
	if s := fmt.Sprintf("%+v %v", tok, text); strings.Contains(s, text.Reveal()) {
		t.Errorf("what is kept tells the token: %s", s)
	}
	if h, ok := token.HashOf(text.Reveal()); !ok || h != tok.Hash {
		t.Error("the token does not lead to its own hash")
	}
	other, otherText, err := token.New("prometheus", token.Read, now)
	if err != nil || other.ID == tok.ID || other.Hash == tok.Hash || otherText == text {
		t.Errorf("two tokens are alike: %v", err)
	}
	if tok.Made.Location() != time.UTC {
		t.Error("the moment is not in UTC")
	}
}

func TestScopes(t *testing.T) {
	for _, c := range []struct {
		has, needs token.Scope
		want       bool
	}{
		{token.Read, token.Read, true}, {token.Read, token.Write, false}, {token.Write, token.Read, true},
		{token.Write, token.Write, true}, {"", token.Read, false}, {"admin", token.Read, false},
	} {
		if got := c.has.Allows(c.needs); got != c.want {
			t.Errorf("%q for %q: %v", c.has, c.needs, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		scope token.Scope
	}{
		{"", token.Read}, {"  ", token.Read}, {"a\nb", token.Read}, {"\xff", token.Read}, {strings.Repeat("長", 101), token.Read},
		{"a", ""}, {"a", "admin"},
	} {
		if _, _, err := token.New(c.name, c.scope, time.Now()); err == nil {
			t.Errorf("%q with scope %q was made", c.name, c.scope)
		}
	}
	if _, _, err := token.New(strings.Repeat("長", 100), token.Write, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestHashOfKnowsTheForm(t *testing.T) {
	for _, s := range []string{"", "lr_", "lr_short", "xx_" + strings.Repeat("a", 43), "lr_" + strings.Repeat("a", 44), strings.Repeat("a", 1<<20)} {
		if _, ok := token.HashOf(s); ok {
			t.Errorf("%.50q looks like a token", s)
		}
	}
}
