package sftp

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pkg/sftp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const planted = "hunter2hunter2"

// Kinds of packets that tests look for.
const (
	packetWrite    = 6
	packetExtended = 200
)

// server is an SSH host with an SFTP server over a folder, in this process.
type server struct {
	dir  string
	port int
	key  ssh.Signer

	mu     sync.Mutex
	shell  bool                                            // it runs commands
	packet func(kind byte, p []byte) (out []byte, ok bool) // sees what comes; not ok: the connection is cut
	conns  map[net.Conn]bool
	logins int // attempts with a password or a key that is not ours
	ln     net.Listener
	wg     sync.WaitGroup
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), key: newKey(t), conns: map[net.Conn]bool{}}
	s.listen(t)
	t.Cleanup(s.stop)
	return s
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listen begins, at the same port as before.
func (s *server) listen(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		t.Fatal(err)
	}
	s.ln, s.port = ln, ln.Addr().(*net.TCPAddr).Port
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(c) })
		}
	})
}

// stop ends the host with all its connections.
func (s *server) stop() {
	_ = s.ln.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *server) behave(f func(kind byte, p []byte) ([]byte, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packet = f
}

func (s *server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *server) serve(raw net.Conn) {
	defer func() {
		_ = raw.Close()
		s.mu.Lock()
		delete(s.conns, raw)
		s.mu.Unlock()
	}()
	cfg := &ssh.ServerConfig{
		MaxAuthTries: 20,
		PasswordCallback: func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if string(p) == planted {
				return nil, nil
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.logins++
			return nil, errors.New("no")
		},
		PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			ours, err := os.ReadFile(filepath.Join(s.dir, "..", "authorized"))
			if err == nil && bytes.Equal(ours, k.Marshal()) {
				return nil, nil
			}
			return nil, errors.New("no")
		},
	}
	s.mu.Lock()
	cfg.AddHostKey(s.key)
	s.mu.Unlock()
	sc, chans, reqs, err := ssh.NewServerConn(raw, cfg)
	if err != nil {
		return
	}
	defer sc.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { ssh.DiscardRequests(reqs) })
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			for r := range reqs {
				var text struct{ S string }
				_ = ssh.Unmarshal(r.Payload, &text)
				s.mu.Lock()
				shell := s.shell
				s.mu.Unlock()
				switch {
				case r.Type == "subsystem":
					_ = r.Reply(true, nil)
					wg.Go(func() { s.sftp(raw, ch) })
				case r.Type == "exec" && shell:
					_ = r.Reply(true, nil)
					cmd := exec.Command("sh", "-c", text.S)
					cmd.Dir, cmd.Stdout = s.dir, ch
					code := 0
					if cmd.Run() != nil {
						code = 1
					}
					_, _ = ch.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, uint32(code)))
					_ = ch.Close()
				default:
					_ = r.Reply(false, nil)
				}
			}
		})
	}
}

// sftp serves one SFTP session, and shows each packet to the test before the server sees it.
func (s *server) sftp(raw net.Conn, ch ssh.Channel) {
	in, out := io.Pipe()
	srv, err := sftp.NewServer(struct {
		io.Reader
		io.WriteCloser
	}{in, ch}, sftp.WithServerWorkingDirectory(s.dir))
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(); _ = in.Close(); _ = ch.Close() })
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(ch, head); err != nil {
			break
		}
		p := make([]byte, binary.BigEndian.Uint32(head)-1)
		if _, err := io.ReadFull(ch, p); err != nil {
			break
		}
		s.mu.Lock()
		f := s.packet
		s.mu.Unlock()
		if f != nil {
			var ok bool
			if p, ok = f(head[4], p); !ok {
				_ = raw.Close()
				break
			}
		}
		binary.BigEndian.PutUint32(head, uint32(len(p)+1))
		if _, err := out.Write(append(head, p...)); err != nil {
			break
		}
	}
	_ = out.Close()
	wg.Wait()
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func (s *server) config() Config {
	return Config{
		User: "alice", Host: "127.0.0.1", Port: s.port, Path: "live", HostKey: ssh.FingerprintSHA256(s.key.PublicKey()),
		Getenv: env("LIVEREC_SFTP_PASSWORD", planted), chunk: 64 << 10,
	}
}

func target(t *testing.T, cfg Config) *Target {
	t.Helper()
	tg, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tg.Close() })
	return tg
}

// knownHosts writes a file that knows one key of the server.
func (s *server) knownHosts(t *testing.T, key ssh.PublicKey) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "known_hosts")
	line := knownhosts.Line([]string{fmt.Sprintf("127.0.0.1:%d", s.port)}, key)
	if err := os.WriteFile(name, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// privateKey makes a key file, and its public half.
func privateKey(t *testing.T, passphrase string) (string, ssh.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "id_ed25519")
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return name, pub, key
}

// over looks at a folder without the target.
func over(dir string) targettest.Env {
	at := func(key string) string { return filepath.Join(dir, filepath.FromSlash(key)) }
	return targettest.Env{
		Read: func(_ *testing.T, key string) ([]byte, error) { return os.ReadFile(at(key)) },
		Pending: func(t *testing.T) int {
			n := 0
			err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if strings.HasSuffix(p, durable.PartSuffix) {
					n++
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		},
		Damage: func(t *testing.T, key string) {
			b, err := os.ReadFile(at(key))
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(at(key), b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Lose: func(t *testing.T, key string) {
			if err := os.Remove(at(key)); err != nil {
				t.Fatal(err)
			}
		},
		Many: 6,
	}
}

// nobody is a port that nobody listens on.
func nobody(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestConformance(t *testing.T) {
	targettest.Run(t, func(t *testing.T) targettest.Env {
		s := newServer(t)
		e := over(filepath.Join(s.dir, "live"))
		e.New = func(t *testing.T) uploader.Target { return target(t, s.config()) }
		e.Unreachable = func(t *testing.T) uploader.Target {
			cfg := s.config()
			cfg.Port = nobody(t)
			return target(t, cfg)
		}
		return e
	})
}
