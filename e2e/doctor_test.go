package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

type diagnosis struct {
	Format string `json:"format"`
	OK     bool   `json:"ok"`
	Checks []struct {
		Name  string `json:"name"`
		About string `json:"about"`
		State string `json:"state"`
		Text  string `json:"text"`
		Cure  string `json:"cure"`
	} `json:"checks"`
}

// says fails unless there is a finding with such a state and such words in it.
func (d diagnosis) says(t *testing.T, name, state string, words ...string) {
	t.Helper()
	for _, c := range d.Checks {
		all := c.About + " " + c.Text + " " + c.Cure
		if c.Name != name || c.State != state {
			continue
		}
		whole := true
		for _, w := range words {
			whole = whole && strings.Contains(all, w)
		}
		if whole {
			if state != "ok" && c.Cure == "" && name != "config" {
				t.Errorf("%s is %s, and nobody says what to do: %s", name, state, c.Text)
			}
			return
		}
	}
	t.Errorf("no finding that %s is %s: %q in %+v", name, state, words, d.Checks)
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	ask := func(dir string, code int, args ...string) (d diagnosis) {
		t.Helper()
		rig.JSON(t, liverec(dir, append([]string{"doctor", "--json"}, args...)...), code, &d)
		if d.Format != "liverec-doctor/1" || d.OK != (code == 0) {
			t.Errorf("format %q, ok %v with exit status %d", d.Format, d.OK, code)
		}
		return d
	}
	_, url := live(t, liveroom.Config{})

	t.Run("well", func(t *testing.T) {
		dir := t.TempDir()
		d := ask(dir, 0, url, "--to", "archive", "--min-free", "1", "--stop-free", "1")
		d.says(t, "room", "ok", "is live")
		d.says(t, "host", "ok", "answers in")
		d.says(t, "clock", "ok", "agrees")
		d.says(t, "target", "ok", "archive")
		d.says(t, "data folder", "ok", "will be made")
		d.says(t, "disk speed", "ok", "/s")
		d.says(t, "open files", "ok")
		d.says(t, "memory", "ok")
		d.says(t, "program", "ok", "go1.")
		if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
			t.Errorf("it leaves %v, %v", files, err)
		}
	})
	t.Run("ill", func(t *testing.T) {
		dir := t.TempDir()
		old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusNotFound)
		}))
		defer old.Close()
		for name, text := range map[string]string{"file": "x", "liverec.toml": "data = \"file/data\"\ntimezone = \"Asia/Shanghai\"\nmin-free = \"8000TiB\"\nbilibili-cookies = \"nix.json\"\n" +
			"[target.dead]\nto = \"s3://bucket/x?endpoint=http://127.0.0.1:1\"\n[[room]]\nname = \"a\"\nurl = \"" + old.URL + "/live.flv\"\n[[room]]\nname = \"b\"\nurl = \"http://127.0.0.1:1/live.flv?token=" + rig.Secret + "\"\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d := ask(dir, 1)
		d.says(t, "config", "ok", "2 rooms, 1 target")
		d.says(t, "time zone", "ok", "Asia/Shanghai", "+08:00")
		d.says(t, "clock", "bad", "1 h", "ahead")
		d.says(t, "host", "bad", "127.0.0.1:1", "refused")
		d.says(t, "target", "bad", "dead")
		d.says(t, "cookies", "bad", "nix.json", "liverec login")
		d.says(t, "disk space", "warn", "min-free")
		d.says(t, "data folder", "bad", "file/data")

		p := liverec(dir, "doctor").Start(t)
		p.Ends(t, 60*time.Second, 1)
		if out := p.Stdout.String(); !strings.Contains(out, "✗ clock") || !strings.Contains(out, "→ ") || !strings.Contains(out, "things are wrong") || strings.Contains(out, "\x1b") || p.Stderr.String() != "" {
			t.Errorf("it says\n%s\n%s", out, p.Stderr.String())
		}
		if strings.Contains(p.Stdout.String(), rig.Secret) {
			t.Error("it shows a secret")
		}
		if err := os.WriteFile(filepath.Join(dir, "liverec.toml"), []byte("listen = 5\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		ask(dir, 1).says(t, "config", "bad", "liverec.toml:1:10: listen")
	})
	t.Run("usage", func(t *testing.T) {
		for _, args := range [][]string{{"mailto:x"}, {"--to", "ftp://x"}, {"--config", "nowhere.toml"}, {"--stop-free", "some"}, {"a", "b"}} {
			p := liverec(t.TempDir(), append([]string{"doctor"}, args...)...).Start(t)
			p.Ends(t, 10*time.Second, 2)
			if strings.Count(p.Stderr.String(), "\n") != 1 || p.Stdout.String() != "" {
				t.Errorf("%v: %q, %q", args, p.Stdout.String(), p.Stderr.String())
			}
		}
	})
	// The health check of a container, which has no shell.
	t.Run("live", func(t *testing.T) {
		dir := t.TempDir()
		p := liverec(dir, "doctor", "--live").Start(t)
		p.Ends(t, 10*time.Second, 1)
		rec := liverec(dir, "record", url).Start(t)
		rig.Until(t, 30*time.Second, "it answers", func() bool {
			p := liverec(dir, "doctor", "--live").Start(t)
			<-p.Done()
			return p.Code() == 0
		})
		ask(dir, 0, "--min-free", "1", "--stop-free", "1").says(t, "data folder", "ok", "synced")
		rec.Signal(syscall.SIGTERM)
		rec.Wait(t, 30*time.Second)
		p = liverec(dir, "doctor", "--live").Start(t)
		p.Ends(t, 10*time.Second, 1)
	})
}
