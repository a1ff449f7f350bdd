package webdav

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	dav "golang.org/x/net/webdav"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is a server over a folder of this machine, and the transport that reaches it.
type place struct {
	url, dir string
	http     *http.Transport
}

func (p place) target(t *testing.T, change ...func(*Config)) *Target {
	t.Helper()
	u, err := url.Parse(p.url + "/live/all rooms")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{URL: u, User: "alice", Getenv: func(k string) string {
		if k == PasswordEnv {
			return "hunter2"
		}
		return ""
	}}
	if p.http != nil {
		cfg.Transport = p.http
	}
	for _, c := range change {
		c(&cfg)
	}
	target, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target
}

func (p place) abs(key string) string {
	return filepath.Join(p.dir, "live", "all rooms", filepath.FromSlash(key))
}

// left names the temporary files in the folder.
func (p place) left(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(p.dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), "liverec-") && !e.IsDir() {
			names = append(names, name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (p place) env() targettest.Env {
	return targettest.Env{
		New:     func(t *testing.T) uploader.Target { return p.target(t) },
		Read:    func(_ *testing.T, key string) ([]byte, error) { return os.ReadFile(p.abs(key)) },
		Pending: func(t *testing.T) int { return len(p.left(t)) },
		Damage: func(t *testing.T, key string) {
			data, err := os.ReadFile(p.abs(key))
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(p.abs(key), data, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		Lose: func(t *testing.T, key string) {
			if err := os.Remove(p.abs(key)); err != nil {
				t.Fatal(err)
			}
		},
		Unreachable: func(t *testing.T) uploader.Target { return place{url: "http://" + freePort(t)}.target(t) },
		Many:        1,
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// library is the server of x/net, which replaces in two steps and takes a lock for each write.
func library(t *testing.T, secure bool, front func(http.Handler) http.Handler) place {
	t.Helper()
	dir := t.TempDir()
	var h http.Handler = &dav.Handler{FileSystem: dav.Dir(dir), LockSystem: dav.NewMemLS()}
	if front != nil {
		h = front(h)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "alice" || pass != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Header.Get("Content-Range") != "" || r.Method == http.MethodPut && r.ContentLength < 0 {
			t.Errorf("%s of a range or of unknown length", r.Method)
		}
		h.ServeHTTP(w, r)
	}))
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	p := place{url: s.URL, dir: dir}
	if secure {
		p.http = newTransport()
		p.http.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
		t.Cleanup(p.http.CloseIdleConnections)
	}
	return p
}

func TestConformance(t *testing.T) {
	targettest.Run(t, func(t *testing.T) targettest.Env { return library(t, false, nil).env() })
}

// With TLS the same, and a certificate that nobody vouches for is a matter for a person.
func TestTLS(t *testing.T) {
	p := library(t, true, nil)
	o, data := object(100_000)
	must(t, carry(t.Context(), p.target(t), o, data))
	err := p.target(t, func(c *Config) { c.Transport = nil }).Check(t.Context())
	if failure.KindOf(err) != failure.NeedsHuman || !strings.Contains(failure.Hint(err), "certificate") {
		t.Errorf("%v, %q", err, failure.Hint(err))
	}
}

// servers are real ones, each with its configuration.
var servers = []struct {
	name, bin string
	config    string
	args      []string
}{
	{"apache", "/usr/sbin/apache2", `
ServerName localhost
Listen {{addr}}
PidFile {{home}}/pid
ErrorLog {{home}}/error.log
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule dav_module /usr/lib/apache2/modules/mod_dav.so
LoadModule dav_fs_module /usr/lib/apache2/modules/mod_dav_fs.so
DAVLockDB {{home}}/lock
DocumentRoot {{dir}}
<Directory {{dir}}>
Dav On
Require all granted
</Directory>
`, []string{"-X", "-f", "{{home}}/config"}},
	{"lighttpd", "/usr/sbin/lighttpd", `
server.port = {{port}}
server.bind = "127.0.0.1"
server.document-root = "{{dir}}"
server.upload-dirs = ("{{home}}")
server.errorlog = "{{home}}/error.log"
server.modules = ("mod_webdav")
webdav.activate = "enable"
`, []string{"-D", "-f", "{{home}}/config"}},
	{"nginx", "/usr/sbin/nginx", `
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
daemon off;
master_process off;
pid {{home}}/pid;
error_log {{home}}/error.log;
events {}
http {
	access_log off;
	client_body_temp_path {{home}}/body;
	client_max_body_size 0;
	server {
		listen {{addr}};
		location / {
			root {{dir}};
			dav_methods PUT DELETE MKCOL COPY MOVE;
			dav_ext_methods PROPFIND OPTIONS;
		}
	}
}
`, []string{"-c", "{{home}}/config"}},
}

// start runs a real server over a folder. It is skipped where there is none.
func start(t *testing.T, i int) place {
	t.Helper()
	s := servers[i]
	if _, err := os.Stat(s.bin); err != nil {
		t.Skip(s.name + " is not installed")
	}
	home, dir := t.TempDir(), t.TempDir()
	for _, d := range []string{home, dir, filepath.Dir(home)} { // it may run as another user
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	addr := freePort(t)
	_, port, _ := net.SplitHostPort(addr)
	fill := strings.NewReplacer("{{addr}}", addr, "{{port}}", port, "{{home}}", home, "{{dir}}", dir)
	if err := os.WriteFile(filepath.Join(home, "config"), []byte(fill.Replace(s.config)), 0o644); err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, a := range s.args {
		args = append(args, fill.Replace(a))
	}
	out, err := os.Create(filepath.Join(home, "out"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.bin, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return place{url: "http://" + addr, dir: dir}
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(out.Name())
			t.Fatalf("%s does not listen: %v\n%s", s.name, err, said)
		}
	}
}

func TestConformanceOfRealServers(t *testing.T) {
	for i, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, i)
			targettest.Run(t, func(t *testing.T) targettest.Env {
				if err := os.RemoveAll(filepath.Join(p.dir, "live")); err != nil {
					t.Fatal(err)
				}
				return p.env()
			})
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
