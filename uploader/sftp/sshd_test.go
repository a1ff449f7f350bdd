package sftp

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
)

// sshd runs Debian's SSH server with a configuration of its own. It is skipped where there is none, unless
// LIVEREC_NEED_TOOLS is set.
func sshd(t *testing.T, more string) Config {
	t.Helper()
	const bin = "/usr/sbin/sshd" // it wants to be called by its whole name
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("LIVEREC_NEED_TOOLS") == "1" {
			t.Fatal("sshd is not installed and LIVEREC_NEED_TOOLS=1")
		}
		t.Skip("sshd is not installed")
	}
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if who.Uid == "0" {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	hostFile, host, _ := privateKey(t, "")
	keyFile, pub, _ := privateKey(t, "")
	authorized := filepath.Join(dir, "authorized")
	if err := os.WriteFile(authorized, ssh.MarshalAuthorizedKey(pub), 0o600); err != nil {
		t.Fatal(err)
	}
	port := nobody(t)
	config := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 100\nSubsystem sftp internal-sftp\n%s\n",
		port, hostFile, authorized, more)
	name := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(name, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(bin, "-D", "-e", "-f", name)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", log.Bytes())
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return Config{User: who.Username, Host: "127.0.0.1", Port: port, Key: keyFile, HostKey: ssh.FingerprintSHA256(host), chunk: 64 << 10}
}

// OpenSSH: it has fsync, renames without overwriting, and an account with a shell. One target serves all cases, because
// each login costs a tenth of a second; that another process finds its way is tried above.
func TestConformanceOpenSSH(t *testing.T) {
	if raced {
		t.Skip("the server in this process finds the races")
	}
	cfg := sshd(t, "")
	cfg.Path = t.TempDir()
	tg := target(t, cfg)
	targettest.Run(t, func(t *testing.T) targettest.Env {
		entries, err := os.ReadDir(cfg.Path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(cfg.Path, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(cfg.Path, ".keep"), nil, 0o600); err != nil { // else it is a lost mount
			t.Fatal(err)
		}
		e := over(cfg.Path)
		e.New = func(*testing.T) uploader.Target { return tg }
		return e
	})
}

// An account that may do SFTP and nothing else has no sha256sum: its files are read back.
func TestOpenSSHWithoutShell(t *testing.T) {
	cfg := sshd(t, "ForceCommand internal-sftp")
	cfg.Path = t.TempDir()
	tg := target(t, cfg)
	o, data := object(300_000)
	up, err := tg.Open(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if p := finish(t, tg, up, o, data); !strings.Contains(p.How, "read back") {
		t.Errorf("proven by %q", p.How)
	}
}
