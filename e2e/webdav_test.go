package e2e

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// apache runs Apache's mod_dav over a folder, with a password, and gives its port.
func apache(t *testing.T) (port int, dir string) {
	t.Helper()
	bin := "/usr/sbin/apache2" // in no PATH but root's
	if _, err := os.Stat(bin); err != nil {
		bin = rig.Tool(t, "apache2")
	}
	port = rig.FreePort(t)
	home, dir := t.TempDir(), t.TempDir()
	for _, d := range []string{home, dir, filepath.Dir(home)} { // it serves as another user
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha1.Sum([]byte(rig.Secret))
	conf := fmt.Sprintf(`
ServerName localhost
Listen 127.0.0.1:%d
PidFile %[2]s/pid
ErrorLog %[2]s/error.log
DAVLockDB %[2]s/lock
DocumentRoot %[3]s
<Directory %[3]s>
Dav On
AuthType Basic
AuthName x
AuthUserFile %[2]s/users
Require valid-user
</Directory>
`, port, home, dir)
	modules := ""
	for _, m := range []string{"mpm_event", "authz_core", "authz_user", "authn_core", "authn_file", "auth_basic", "dav", "dav_fs"} {
		modules += fmt.Sprintf("LoadModule %s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", m)
	}
	for name, text := range map[string]string{"config": modules + conf, "users": "alice:{SHA}" + base64.StdEncoding.EncodeToString(sum[:]) + "\n"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(bin, "-X", "-f", filepath.Join(home, "config"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	rig.Until(t, 30*time.Second, "apache answers", func() bool {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil
	})
	return port, dir
}

// A broadcast goes to a real WebDAV server, through a kill in the middle: each picture that was served while the program
// was up, less the last second before the kill, stands there once, and no temporary file is left.
func TestWebDAV(t *testing.T) {
	t.Parallel()
	port, served := apache(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(rig.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := fmt.Sprintf("webdav+http://alice@127.0.0.1:%d/live/all rooms", port)
	room, url := live(t, liveroom.Config{Bitrate: 16_000_000})
	run := liverec(dir, "record", url, "--once", "--segment", "4s", "--to", to+"?password-file=password")
	first := run.Start(t)
	parts := func() (n int) {
		for _, name := range rig.Files(t, served) {
			if strings.HasSuffix(name, ".flv") {
				n++
			}
		}
		return n
	}
	rig.Until(t, 60*time.Second, "two parts are on the server", func() bool { return parts() >= 2 })
	rig.Until(t, 60*time.Second, "a part is on its way", func() bool {
		for _, name := range rig.Files(t, served) {
			if strings.HasPrefix(filepath.Base(name), "liverec-") {
				return true
			}
		}
		return false
	})
	killed := time.Now()
	first.Kill()
	second := run.Start(t)
	before := parts()
	rig.Until(t, 60*time.Second, "two more parts are on the server", func() bool { return parts() >= before+2 })
	room.End()
	second.Ends(t, 60*time.Second, 0)

	archive := filepath.Join(served, "live", "all rooms")
	rec := rig.Read(t, archive)
	rec.Once(t, rig.Sent(room.Connections(), func(_ liveroom.Connection, f liveroom.Frame) bool {
		return f.At.Before(killed.Add(-time.Second)) && f.At.After(first.Started) || f.At.After(second.Started)
	}))
	for _, name := range rig.Files(t, served) {
		if strings.HasPrefix(filepath.Base(name), "liverec-") {
			t.Errorf("%s was left", name)
		}
	}
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
	rig.NoSecrets(t, filepath.Join(dir, "liverec-data"))
	noOrphans(t, dir)
	if strings.Contains(first.Stderr.String()+second.Stderr.String()+second.Stdout.String(), rig.Secret) {
		t.Error("the password was printed")
	}
	liverec(dir, "verify", rec.Manifest.Broadcast, "--deep").Start(t).Ends(t, 60*time.Second, 0)
}
