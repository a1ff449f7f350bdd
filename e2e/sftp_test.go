package e2e

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// sshd runs Debian's SSH server. Each SFTP session writes what it did into a file of its own in the folder logs.
func sshd(t *testing.T) (port int, key, knownHosts, logs string) {
	t.Helper()
	const bin = "/usr/sbin/sshd" // it wants to be called by its whole name
	keygen := rig.Tool(t, "ssh-keygen")
	if !exists(bin) {
		if os.Getenv("LIVEREC_NEED_TOOLS") != "" {
			t.Fatal("sshd is not installed; `make setup` gets it")
		}
		t.Skip("sshd is not installed; `make setup` gets it")
	}
	if os.Getuid() == 0 {
		folder(t, "/run", "sshd")
	}
	dir := t.TempDir()
	logs = folder(t, dir, "logs")
	host, key := filepath.Join(dir, "host"), filepath.Join(dir, "key")
	for _, name := range []string{host, key} {
		if out, err := exec.CommandContext(t.Context(), keygen, "-q", "-t", "ed25519", "-N", "", "-f", name).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	port = rig.FreePort(t)
	pub, err := os.ReadFile(host + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	knownHosts = filepath.Join(dir, "known_hosts")
	config := filepath.Join(dir, "sshd_config")
	for name, text := range map[string]string{
		knownHosts: fmt.Sprintf("[127.0.0.1]:%d %s", port, pub),
		config: fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s.pub\nPidFile none\nStrictModes no\nUsePAM no\n"+
			"PasswordAuthentication no\nPermitRootLogin yes\nSubsystem sftp exec /usr/lib/openssh/sftp-server -e -l VERBOSE 2>%s/$$\n", port, host, key, logs),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rig.Run{Bin: bin, Dir: dir, Args: []string{"-D", "-e", "-f", config}}.Start(t)
	rig.Until(t, 20*time.Second, "sshd listens", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return port, key, knownHosts, logs
}

var closed = regexp.MustCompile(`(?m)^close "([^"]+)" bytes read \d+ written (\d+)`)

// written adds up what sessions wrote into the files of a part, by files that they closed themselves.
func written(t *testing.T, logs string, part string, skip map[string]bool) (n int64) {
	t.Helper()
	entries, err := os.ReadDir(logs)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if skip[e.Name()] {
			continue
		}
		b, err := os.ReadFile(filepath.Join(logs, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range closed.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(filepath.Base(m[1]), part+".") {
				w, err := strconv.ParseInt(m[2], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				n += w
			}
		}
	}
	return n
}

// Recording to OpenSSH with a kill in the middle: the second run sends of the part that was open what the first one had no
// acknowledgement for, to the byte, and nothing else is left on either side.
func TestSFTPAfterAKill(t *testing.T) {
	t.Parallel()
	port, key, knownHosts, logs := sshd(t)
	dir := t.TempDir()
	archive := filepath.Join(t.TempDir(), "live")
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	to := fmt.Sprintf("sftp://%s@127.0.0.1:%d%s?key=%s&known-hosts=%s", url.PathEscape(who.Username), port, archive, key, knownHosts)
	room, address := live(t, liveroom.Config{Bitrate: 16_000_000})
	run := liverec(dir, "record", address, "--once", "--segment", "20s", "--to", to)
	p := run.Start(t)
	away := func() (seq uint32, n int64) {
		var s struct {
			Rooms []struct {
				Open *struct {
					Seq  uint32
					Away map[string]int64
				}
			}
		}
		rig.JSON(t, liverec(dir, "status", "--json"), 0, &s)
		if len(s.Rooms) != 1 || s.Rooms[0].Open == nil {
			return 0, 0
		}
		for _, a := range s.Rooms[0].Open.Away {
			n += a
		}
		return s.Rooms[0].Open.Seq, n
	}
	rig.Until(t, 60*time.Second, "a chunk of the open part is away", func() bool { _, n := away(); return n > 0 })
	p.Kill()
	seq, had := away()
	if had == 0 {
		t.Fatal("nothing of the open part is known to be away")
	}
	first := map[string]bool{}
	entries, err := os.ReadDir(logs)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		first[e.Name()] = true
	}

	began := room.Next()
	p = run.Start(t)
	rig.Until(t, 60*time.Second, "the room is being recorded again", func() bool { c := room.Connections(); return len(c) > 1 && len(c[len(c)-1].Frames) > 100 })
	room.End()
	p.Ends(t, 90*time.Second, 0)
	if room.Next() <= began {
		t.Error("nothing was sent to the second run")
	}

	rec := rig.Read(t, archive)
	t.Logf("%v", rec)
	if rec.Manifest.Ended == nil {
		t.Error("the broadcast has not ended")
	}
	name := fmt.Sprintf("P%04d.flv", seq)
	size := int64(0)
	for _, file := range rig.Files(t, archive) {
		if strings.HasSuffix(file, ".part") {
			t.Errorf("%s was left", file)
		}
		if filepath.Base(file) == name {
			if !filepath.IsAbs(file) {
				file = filepath.Join(archive, file)
			}
			fi, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			size = fi.Size()
		}
	}
	if got := written(t, logs, name, first); size == 0 || got != size-had {
		t.Errorf("%s has %d bytes, %d were acknowledged before the kill, and %d were sent after it", name, size, had, got)
	}
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
	noOrphans(t, dir)
}

// A host that is not known is refused before anything is recorded, with what to do.
func TestSFTPUnknownHost(t *testing.T) {
	t.Parallel()
	port, key, _, _ := sshd(t)
	dir := t.TempDir()
	p := liverec(dir, "doctor", "--to", fmt.Sprintf("sftp://root@127.0.0.1:%d/nowhere?key=%s", port, key)).Start(t)
	if code := p.Wait(t, 30*time.Second); code == 0 {
		t.Error("a host that is not known is fine")
	}
	if out := p.Stdout.String() + p.Stderr.String(); !strings.Contains(out, "is not known") || !strings.Contains(out, "ssh-keyscan") {
		t.Errorf("no cure:\n%s", out)
	}
}
