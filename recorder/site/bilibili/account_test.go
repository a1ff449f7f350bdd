package bilibili_test

import (
	"os"
	"path/filepath"
	"testing"

	client "github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
)

func accountOf(t *testing.T, u *bilitest.User) *client.Account {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cookies.json")
	if err := os.WriteFile(name, world.CookieFile(u), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := client.OpenAccount(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
