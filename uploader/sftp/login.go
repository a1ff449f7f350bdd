package sftp

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/secret"
)

// again is how long a refused login is not repeated: hosts lock out who knocks too often.
const again = 3 * time.Minute

func (t *Target) human(op, code, hint string, err error) error {
	return &failure.Error{Op: op, Kind: failure.NeedsHuman, Code: code, Hint: hint, Err: err}
}

func (t *Target) addr() string { return net.JoinHostPort(t.cfg.Host, strconv.Itoa(t.cfg.Port)) }

// login makes a connection, one at a time.
func (t *Target) login(ctx context.Context, op string) (*conn, error) {
	select {
	case t.dialing <- struct{}{}:
		defer func() { <-t.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t.mu.Lock()
	refused := t.refused
	if time.Now().After(t.until) {
		refused = nil
	}
	t.mu.Unlock()
	if refused != nil {
		return nil, refused
	}
	auth, done, err := t.auth(op)
	if err != nil {
		return nil, err
	}
	defer done()
	d := net.Dialer{Timeout: t.cfg.idle, KeepAlive: idleTime / 2}
	raw, err := d.DialContext(ctx, "tcp", t.addr())
	if err != nil {
		return nil, &failure.Error{Op: op, Err: err, Hint: fmt.Sprintf("Is %s the right host and port, and does its SSH server run?", t.addr())}
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	c := &conn{gone: make(chan struct{})}
	c.heard.Store(time.Now().UnixNano())
	check, algorithms, err := t.hostKey(op, raw.RemoteAddr())
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	var strange error // what is wrong with the host's key
	met := false
	_ = raw.SetDeadline(time.Now().Add(t.cfg.idle))
	sc, chans, reqs, err := ssh.NewClientConn(wire{raw, &c.heard}, t.addr(), &ssh.ClientConfig{
		User: t.cfg.User, Auth: auth, HostKeyAlgorithms: algorithms, ClientVersion: "SSH-2.0-liverec",
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			strange = check(host, remote, key)
			met = strange == nil
			return strange
		},
	})
	if err != nil {
		_ = raw.Close()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case strange != nil:
			return nil, strange
		case met && !lost(err):
			err = t.human(op, "the host refuses the login of "+t.cfg.User, fmt.Sprintf(
				"Try `ssh -p %d %s@%s`. Then: load the key into ssh-agent, name it with ?key=FILE, or name a password with ?password-file=FILE or $LIVEREC_SFTP_PASSWORD.",
				t.cfg.Port, t.cfg.User, t.cfg.Host), err)
			t.mu.Lock()
			t.refused, t.until = err, time.Now().Add(again)
			t.mu.Unlock()
			return nil, err
		}
		return nil, err
	}
	c.ssh = ssh.NewClient(sc, chans, reqs)
	if err := c.begin(); err != nil {
		_ = c.ssh.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !lost(err) {
			return nil, t.human(op, "the host has no SFTP for this account", fmt.Sprintf("Try `sftp -P %d %s@%s`: the SSH server needs `Subsystem sftp`.",
				t.cfg.Port, t.cfg.User, t.cfg.Host), err)
		}
		return nil, err
	}
	_ = raw.SetDeadline(time.Time{})
	c.watch(t.cfg.idle)
	return c, nil
}

// begin starts the SFTP server on a connection.
func (c *conn) begin() error {
	s, err := c.ssh.NewSession()
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		return err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.RequestSubsystem("sftp"); err != nil {
		return fmt.Errorf("start sftp: %w", err)
	}
	c.sftp, err = sftp.NewClientPipe(answers{out, &c.answered}, in, sftp.MaxConcurrentRequestsPerFile(requests), sftp.UseConcurrentWrites(true))
	if err != nil {
		return fmt.Errorf("start sftp: %w", err)
	}
	return nil
}

// lost reports whether an error is one of the line, not of the one at its other end.
func lost(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
}

// auth lists the ways in. done is called after the login.
func (t *Target) auth(op string) (list []ssh.AuthMethod, done func(), err error) {
	done = func() {}
	var signers []ssh.Signer
	home := t.cfg.Getenv("HOME")
	switch {
	case t.cfg.Key != "":
		s, err := readKey(t.cfg.Key)
		if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
			return nil, nil, t.human(op, "key file has a passphrase", fmt.Sprintf("Run `ssh-add %s` and leave ?key= away: ssh-agent knows the key then.", t.cfg.Key), nil)
		}
		if err != nil {
			return nil, nil, t.human(op, "key file cannot be used", fmt.Sprintf("%s must be a private key that liverec may read.", t.cfg.Key), err)
		}
		signers = append(signers, s)
	default:
		if sock := t.cfg.Getenv("SSH_AUTH_SOCK"); sock != "" {
			if a, err := net.DialTimeout("unix", sock, 5*time.Second); err == nil { // an agent that is gone is no agent
				_ = a.SetDeadline(time.Now().Add(t.cfg.idle))
				done = func() { _ = a.Close() }
				if s, err := agent.NewClient(a).Signers(); err == nil {
					signers = s
				}
			}
		}
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			if s, err := readKey(filepath.Join(home, ".ssh", name)); home != "" && err == nil && !slices.ContainsFunc(signers, func(o ssh.Signer) bool {
				return bytes.Equal(o.PublicKey().Marshal(), s.PublicKey().Marshal())
			}) {
				signers = append(signers, s)
			}
		}
	}
	if len(signers) > 0 {
		list = append(list, ssh.PublicKeys(signers...))
	}
	password := secret.New(t.cfg.Getenv("LIVEREC_SFTP_PASSWORD"))
	if t.cfg.PasswordFile != "" {
		data, err := os.ReadFile(t.cfg.PasswordFile)
		line, _, _ := bytes.Cut(data, []byte("\n"))
		password = secret.New(string(bytes.TrimSuffix(line, []byte("\r"))))
		if err == nil && password.IsZero() {
			err = errors.New("its first line is empty")
		}
		if err != nil {
			done()
			return nil, nil, t.human(op, "password file cannot be used", fmt.Sprintf("Write the password into the first line of %s, for liverec alone to read (chmod 600).", t.cfg.PasswordFile), err)
		}
	}
	if !password.IsZero() {
		list = append(list, ssh.Password(password.Reveal()), ssh.KeyboardInteractive(func(_, _ string, questions []string, echo []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range questions {
				if !echo[i] {
					answers[i] = password.Reveal()
				}
			}
			return answers, nil
		}))
	}
	if len(list) == 0 {
		done()
		return nil, nil, t.human(op, "there is no key and no password to log in with",
			"Load a key into ssh-agent, name one with ?key=FILE, or name a password with ?password-file=FILE or $LIVEREC_SFTP_PASSWORD.", nil)
	}
	return list, done, nil
}

func readKey(name string) (ssh.Signer, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(data)
}

// hostKey gives what judges the host's key, and the kinds of key that are worth asking the host for.
func (t *Target) hostKey(op string, remote net.Addr) (ssh.HostKeyCallback, []string, error) {
	look := "on the host: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`"
	if want := t.cfg.HostKey; want != "" {
		return func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if got := ssh.FingerprintSHA256(key); got != want {
				return t.human(op, fmt.Sprintf("host key is %s (%s), not the one of ?host-key=", got, key.Type()),
					fmt.Sprintf("Somebody may stand between you and %s. Ask the owner for the fingerprint (%s) and write that one.", t.cfg.Host, look), nil)
			}
			return nil
		}, algorithms(nil), nil
	}
	file := t.cfg.KnownHosts
	if file == "" {
		file = filepath.Join(t.cfg.Getenv("HOME"), ".ssh", "known_hosts")
	}
	known, err := knownhosts.New(file)
	if errors.Is(err, fs.ErrNotExist) && t.cfg.KnownHosts == "" {
		known = func(string, net.Addr, ssh.PublicKey) error { return &knownhosts.KeyError{} }
	} else if err != nil {
		return nil, nil, t.human(op, "known hosts cannot be read", fmt.Sprintf("%s must be a file as ssh-keyscan writes it.", file), err)
	}
	// Only a key of a kind that is known can be the known one: ask what is known by showing a key that is nobody's.
	var kinds []string
	if nobody, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize))); err == nil {
		if e, ok := errors.AsType[*knownhosts.KeyError](known(t.addr(), remote, nobody)); ok {
			for _, k := range e.Want {
				kinds = append(kinds, k.Key.Type())
			}
		}
	}
	return func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := known(host, remote, key)
		if err == nil {
			return nil
		}
		shown := fmt.Sprintf("%s (%s)", ssh.FingerprintSHA256(key), key.Type())
		if e, ok := errors.AsType[*knownhosts.KeyError](err); ok && len(e.Want) == 0 {
			return t.human(op, "host key "+shown+" is not known", fmt.Sprintf(
				"Compare the fingerprint with the host's own (%s). If it is the same, run `ssh-keyscan -p %d %s >> %s` or add host-key=%s to the target.",
				look, t.cfg.Port, t.cfg.Host, file, ssh.FingerprintSHA256(key)), nil)
		}
		if _, ok := errors.AsType[*knownhosts.RevokedError](err); ok {
			return t.human(op, "host key "+shown+" is revoked", fmt.Sprintf("%s says so: the host needs another key.", file), nil)
		}
		return t.human(op, "host key has changed: it is "+shown, fmt.Sprintf(
			"Somebody may stand between you and %s. If it was set up anew, compare the fingerprint with the host's own (%s), then run `ssh-keygen -f %s -R '%s'` and add the new key with ssh-keyscan.",
			t.cfg.Host, look, file, knownhosts.Normalize(t.addr())), nil)
	}, algorithms(kinds), nil
}

// algorithms are the signatures to ask for where the host's key is one of these kinds; none: of all, Ed25519 first.
func algorithms(kinds []string) []string {
	var list []string
	for _, a := range []struct{ kind, algorithm string }{
		{ssh.KeyAlgoED25519, ssh.KeyAlgoED25519},
		{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA256}, {ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA384}, {ssh.KeyAlgoECDSA521, ssh.KeyAlgoECDSA521},
		{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA512}, {ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256},
	} {
		if len(kinds) == 0 || slices.Contains(kinds, a.kind) {
			list = append(list, a.algorithm)
		}
	}
	return list
}
