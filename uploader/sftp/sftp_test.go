package sftp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
)

const key = "alice/P0001.flv"

// object is n bytes in chunks of 256 KiB.
func object(n int) (segment.Object, []byte) {
	data := bytes.Repeat([]byte("0123456789abcdef!"), n/17+1)[:n]
	return segment.Object{ID: segment.ID{Session: "01JTESTTESTTESTTESTTESTTES", Seq: 1}, Key: key, Size: int64(n), MaxSize: int64(n),
		SHA256: sha256.Sum256(data), Chunk: 256 << 10}, data
}

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func put(ctx context.Context, up uploader.Upload, o segment.Object, data []byte, i int) (segment.Ack, error) {
	c := segment.Chunk{Index: i, Offset: int64(i) * o.Chunk}
	c.Length = min(o.Chunk, o.Size-c.Offset)
	return up.Put(ctx, c, io.NewSectionReader(bytes.NewReader(data), c.Offset, c.Length))
}

// finish puts the chunks from the first one on, commits and verifies.
func finish(t *testing.T, tg *Target, up uploader.Upload, o segment.Object, data []byte, acks ...segment.Ack) segment.Proof {
	t.Helper()
	for i := len(acks); int64(i)*o.Chunk < o.Size; i++ {
		a, err := put(patient(t), up, o, data, i)
		if err != nil {
			t.Fatal(err)
		}
		acks = append(acks, a)
	}
	r, err := up.Commit(patient(t), o, acks)
	if err != nil {
		t.Fatal(err)
	}
	p, err := tg.Verify(patient(t), o, r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *server) holds(t *testing.T, data []byte) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(s.dir, "live", key)); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes lie there, not the %d that were sent: %v", len(got), len(data), err)
	}
	if n := over(s.dir).Pending(t); n != 0 {
		t.Fatalf("%d temporary files were left", n)
	}
}

// weather checks that an error is one that time heals, and no answer.
func weather(t *testing.T, err error) {
	t.Helper()
	if err == nil || failure.KindOf(err) != failure.Transient || errors.Is(err, failure.ErrAbsent) || errors.Is(err, failure.ErrDamaged) {
		t.Fatalf("%v is no weather", err)
	}
}

// person checks that an error asks for a person and names the cure, and no password.
func person(t *testing.T, err error, says ...string) {
	t.Helper()
	if failure.KindOf(err) != failure.NeedsHuman {
		t.Fatalf("%v (%v) asks no person", err, failure.KindOf(err))
	}
	text := err.Error() + " " + failure.Hint(err)
	for _, want := range says {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if strings.Contains(text, planted) {
		t.Errorf("%q tells the password", text)
	}
}

func TestHostRestartsInTheMiddle(t *testing.T) {
	s := newServer(t)
	tg := target(t, s.config())
	o, data := object(700_000)
	up, err := tg.Open(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	first, err := put(patient(t), up, o, data, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	_, err = put(patient(t), up, o, data, 1)
	weather(t, err)
	_, _, err = tg.Resume(patient(t), o, up.Token())
	weather(t, err)
	s.listen(t)
	again, listed, err := tg.Resume(patient(t), o, up.Token())
	if err != nil || listed != nil {
		t.Fatal(listed, err)
	}
	if p := finish(t, tg, again, o, data, first); !strings.Contains(p.How, "read back") {
		t.Errorf("proven by %q on a host without a shell", p.How)
	}
	s.holds(t, data)
}

// The line is cut while the requests of a chunk are under way: nothing is acknowledged, and the chunk goes over a new one.
func TestLineIsCutInAChunk(t *testing.T) {
	s := newServer(t)
	tg := target(t, s.config())
	o, data := object(700_000)
	up, err := tg.Open(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	var writes atomic.Int32
	s.behave(func(kind byte, p []byte) ([]byte, bool) { return p, kind != packetWrite || writes.Add(1) != 5 })
	a, err := put(patient(t), up, o, data, 0)
	weather(t, err)
	if a != (segment.Ack{}) {
		t.Errorf("half a chunk was acknowledged: %+v", a)
	}
	finish(t, tg, up, o, data)
	s.holds(t, data)
}

// OpenSSH says "Failure" and no more when its disk is full.
func TestFullDisk(t *testing.T) {
	s := newServer(t)
	tg := target(t, s.config())
	o, data := object(700_000)
	up, err := tg.Open(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	s.behave(func(kind byte, p []byte) ([]byte, bool) {
		switch {
		case kind == packetWrite:
			p[8] = 'x' // after id and length: a handle that is none
		case kind == packetExtended && bytes.Contains(p, []byte(extSpace)):
			p = binary.BigEndian.AppendUint32(p[:4:4], uint32(len(extSpace)))
			p = binary.BigEndian.AppendUint32(append(p, extSpace...), uint32(len("/proc")))
			p = append(p, "/proc"...) // has no room
		}
		return p, true
	})
	_, err = put(patient(t), up, o, data, 0)
	person(t, err, "disk is full", "free some space")
	person(t, tg.Check(patient(t)), "disk is full", "free some space")
	person(t, tg.Keep(patient(t), "alice/manifest.json", []byte("{}")), "free some space")
	s.behave(nil)
	if err := tg.Check(patient(t)); err != nil {
		t.Fatal(err)
	}
	finish(t, tg, up, o, data)
	s.holds(t, data)
}

func TestHostKeys(t *testing.T) {
	s := newServer(t)
	other := newKey(t).PublicKey()
	mine := ssh.FingerprintSHA256(s.key.PublicKey())
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		file, key string
		says      []string // nil: taken
	}{
		{name: "known", file: s.knownHosts(t, s.key.PublicKey())},
		{name: "named", key: mine},
		{name: "named, and the file is not asked", key: mine, file: s.knownHosts(t, other)},
		{name: "another is named", key: ssh.FingerprintSHA256(other), says: []string{mine, "not the one of ?host-key="}},
		{name: "unknown", file: empty, says: []string{mine, "not known", "ssh-keyscan", "host-key=" + mine}},
		{name: "changed", file: s.knownHosts(t, other), says: []string{mine, "has changed", "ssh-keygen", "-R"}},
		{name: "no file of that name", file: empty + "x", says: []string{"known hosts cannot be read", empty + "x"}},
		{name: "no file at all", says: []string{mine, "not known"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := s.config()
			cfg.KnownHosts, cfg.HostKey = c.file, c.key
			err := target(t, cfg).Check(patient(t))
			if c.says == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			person(t, err, c.says...)
			if s.logins != 0 {
				t.Error("a host that is not known was shown a password")
			}
		})
	}
}

func TestLogins(t *testing.T) {
	s := newServer(t)
	good, pub, private := privateKey(t, "")
	locked, _, _ := privateKey(t, "sesame")
	authorized := filepath.Join(s.dir, "..", "authorized")
	if err := os.WriteFile(authorized, pub.Marshal(), 0o600); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".ssh", "id_ed25519"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _ = agent.ServeAgent(ring, c); _ = c.Close() })
		}
	})
	defer wg.Wait()
	defer l.Close()

	for _, c := range []struct {
		name string
		set  func(*Config)
		says []string // nil: let in
	}{
		{"password of the environment", func(*Config) {}, nil},
		{"password of a file", func(c *Config) { c.Getenv, c.PasswordFile = nil, file(planted+"\r\nsecond line\n") }, nil},
		{"key file", func(c *Config) { c.Getenv, c.Key = nil, good }, nil},
		{"key of the home", func(c *Config) { c.Getenv = env("HOME", home) }, nil},
		{"agent", func(c *Config) { c.Getenv = env("SSH_AUTH_SOCK", sock) }, nil},
		{"agent that is gone, and a password", func(c *Config) { c.Getenv = env("SSH_AUTH_SOCK", sock+"x", "LIVEREC_SFTP_PASSWORD", planted) }, nil},
		{"nothing", func(c *Config) { c.Getenv = nil }, []string{"no key and no password", "ssh-agent", "?key=FILE", "$LIVEREC_SFTP_PASSWORD"}},
		{"wrong password", func(c *Config) { c.Getenv = env("LIVEREC_SFTP_PASSWORD", planted+"x") }, []string{"refuses the login of alice", "ssh -p"}},
		{"empty password file", func(c *Config) { c.PasswordFile = file("\n") }, []string{"password file", "first line"}},
		{"no password file", func(c *Config) { c.PasswordFile = "/nowhere" }, []string{"/nowhere"}},
		{"key with a passphrase", func(c *Config) { c.Key = locked }, []string{"passphrase", "ssh-add"}},
		{"no key", func(c *Config) { c.Key = file("no key") }, []string{"private key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := s.config()
			c.set(&cfg)
			cfg.Getenv = func(f func(string) string) func(string) string {
				if f == nil {
					return env()
				}
				return f
			}(cfg.Getenv)
			tg := target(t, cfg)
			err := tg.Check(patient(t))
			if c.says == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			person(t, err, c.says...)
			if text := fmt.Sprintf("%+v", err); strings.Contains(text, planted) {
				t.Error("the password is told")
			}
		})
	}
	t.Run("a refused login is not repeated at once", func(t *testing.T) {
		cfg := s.config()
		cfg.Getenv = env("LIVEREC_SFTP_PASSWORD", "wrong")
		tg := target(t, cfg)
		s.mu.Lock()
		s.logins = 0
		s.mu.Unlock()
		for range 5 {
			person(t, tg.Check(patient(t)), "refuses the login")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.logins != 1 {
			t.Errorf("%d attempts", s.logins)
		}
	})
}

// A host that takes what is sent and says nothing more ends the call; so does one whose SFTP server alone has died.
func TestSilence(t *testing.T) {
	s := newServer(t)
	cfg := s.config()
	cfg.idle = 100 * time.Millisecond
	o, data := object(700_000)
	hang := make(chan struct{})
	s.behave(func(kind byte, p []byte) ([]byte, bool) {
		if kind == packetWrite {
			<-hang // SSH itself goes on and answers keep-alives
		}
		return p, true
	})
	var tg *Target
	var up uploader.Upload
	for ctx := patient(t); up == nil; { // on a busy machine a login may take longer than a tenth of a second
		tg = target(t, cfg)
		up, _ = tg.Open(ctx, o)
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := put(patient(t), up, o, data, 0)
	weather(t, err)
	s.behave(nil)
	close(hang)
	slow := target(t, s.config())
	up, err = slow.Open(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, slow, up, o, data)
	s.holds(t, data)
}

// A call that is ended ends its own connection only, and free connections are used again.
func TestContextEndsOneCall(t *testing.T) {
	s := newServer(t)
	tg := target(t, s.config())
	o, data := object(700_000)
	up, err := tg.Open(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.open(); n != 1 {
		t.Fatalf("%d connections", n)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	s.behave(func(kind byte, p []byte) ([]byte, bool) {
		if kind == packetWrite && held.CompareAndSwap(false, true) {
			close(entered)
			<-leave
		}
		return p, true
	})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := put(ctx, up, o, data, 0)
		failed <- err
	}()
	<-entered
	second, err := put(patient(t), up, o, data, 1)
	if err != nil {
		t.Fatalf("beside one that hangs: %v", err)
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	close(leave)
	first, err := put(patient(t), up, o, data, 0)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, tg, up, o, data, first, second)
	s.holds(t, data)
}

// What stands under the final name and is no copy of the segment belongs to somebody.
func TestNothingIsOverwritten(t *testing.T) {
	s := newServer(t)
	tg := target(t, s.config())
	name := filepath.Join(s.dir, "live", key)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, data := object(700_000)
	if _, err := tg.Open(patient(t), o); failure.KindOf(err) != failure.Permanent || !errors.Is(err, fs.ErrExist) || !strings.Contains(failure.Hint(err), "--name") {
		t.Fatalf("%v", err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	up, err := tg.Open(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	rotten := bytes.Clone(data)
	rotten[3] ^= 1
	if err := os.WriteFile(name, rotten, 0o600); err != nil { // our copy, gone bad
		t.Fatal(err)
	}
	finish(t, tg, up, o, data)
	s.holds(t, data)
	aside, err := filepath.Glob(name + ".damaged-*")
	if err != nil || len(aside) != 1 {
		t.Fatal(aside, err)
	}
	if got, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(got, rotten) {
		t.Errorf("the damaged copy was not kept: %v", err)
	}
}

// A mount that is lost on the host looks like an empty folder, or like none.
func TestLostMountIsNoAnswer(t *testing.T) {
	s := newServer(t)
	tg := target(t, s.config())
	o, data := object(300_000)
	up, err := tg.Open(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, tg, up, o, data)
	live := filepath.Join(s.dir, "live")
	if err := os.Rename(live, live+"-away"); err != nil {
		t.Fatal(err)
	}
	cfg := s.config()
	cfg.Known = true
	for _, tg := range []*Target{tg, target(t, cfg)} {
		_, err := tg.Verify(patient(t), o, segment.Receipt{})
		weather(t, err)
		_, err = tg.Recall(patient(t), "alice/manifest.json")
		weather(t, err)
		_, err = tg.Open(patient(t), o)
		weather(t, err)
		weather(t, tg.Check(patient(t)))
		if !strings.Contains(failure.Hint(err), "mount it again") {
			t.Errorf("%v: %s", err, failure.Hint(err))
		}
	}
	if err := os.Mkdir(live, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = tg.Verify(patient(t), o, segment.Receipt{})
	weather(t, err)
}

// The host's own sum is taken for a yes only; what it cannot say is read.
func TestShell(t *testing.T) {
	s := newServer(t)
	s.shell = true
	cfg := s.config()
	cfg.Path = "it's live; exit 1"
	tg := target(t, cfg)
	o, data := object(300_000)
	up, err := tg.Open(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if p := finish(t, tg, up, o, data); !strings.Contains(p.How, "by the host") {
		t.Errorf("proven by %q", p.How)
	}
	cfg.Reread = true
	if p, err := target(t, cfg).Verify(patient(t), o, segment.Receipt{}); err != nil || !strings.Contains(p.How, "read back") {
		t.Errorf("%q, %v", p.How, err)
	}
	b := make([]byte, 10)
	if n, err := tg.ReadAt(patient(t), key, b, 299_995); n != 5 || !errors.Is(err, io.EOF) || !bytes.Equal(b[:5], data[299_995:]) {
		t.Errorf("read %d: %v", n, err)
	}
}
