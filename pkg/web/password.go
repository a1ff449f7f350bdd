package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
)

// cost of a guess: about 30 ms of one core and 19 MiB, which is what OWASP asks of argon2id.
const (
	argonTime   = 2
	argonMemory = 19 << 10 // KiB
	argonLanes  = 1
	keyLength   = 32

	minPassword     = 8       // characters
	maxPasswordFile = 4 << 10 // bytes
)

// digest is a password as it is kept in memory.
type digest struct {
	salt, key    []byte
	time, memory uint32
	lanes        uint8
}

func (d digest) is(password string) bool {
	key := argon2.IDKey([]byte(password), d.salt, d.time, d.memory, d.lanes, uint32(len(d.key)))
	return subtle.ConstantTimeCompare(key, d.key) == 1
}

func digestOf(password string) digest {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	return digest{salt, argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, keyLength), argonTime, argonMemory, argonLanes}
}

// parseDigest reads "$argon2id$v=19$m=19456,t=2,p=1$SALT$KEY", as the argon2 program and most libraries write it.
func parseDigest(text string) (digest, error) {
	f := strings.Split(text, "$")
	if len(f) != 6 || f[1] != "argon2id" || f[2] != "v=19" {
		return digest{}, errors.New("a hash looks like $argon2id$v=19$m=19456,t=2,p=1$SALT$KEY")
	}
	var d digest
	for kv := range strings.SplitSeq(f[3], ",") {
		k, v, _ := strings.Cut(kv, "=")
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return digest{}, fmt.Errorf("%q in the hash is no number", kv)
		}
		switch k {
		case "m":
			d.memory = uint32(n)
		case "t":
			d.time = uint32(n)
		case "p":
			d.lanes = uint8(min(n, 255))
		}
	}
	if d.memory < 8 || d.memory > 256<<10 || d.time < 1 || d.time > 16 || d.lanes < 1 || d.lanes > 16 {
		return digest{}, errors.New("the hash must have m from 8 to 262144 (KiB), t from 1 to 16 and p from 1 to 16")
	}
	var errs [2]error
	d.salt, errs[0] = base64.RawStdEncoding.DecodeString(f[4])
	d.key, errs[1] = base64.RawStdEncoding.DecodeString(f[5])
	if err := errors.Join(errs[:]...); err != nil || len(d.salt) < 8 || len(d.key) < 16 || len(d.key) > 64 {
		return digest{}, errors.New("salt or key of the hash is not what argon2 writes")
	}
	return d, nil
}

// password is the one password of the door. It follows its file: a new one there counts from the next login on.
type password struct {
	file string
	turn chan struct{} // cap 1: one guess is computed at a time, so that guesses cost one core and 19 MiB at the most

	mu  sync.Mutex // guards what is below
	now digest
	at  fs.FileInfo // of the file when it was read
}

// openPassword reads the file. What is wrong with it is a *Refusal.
func openPassword(file string) (*password, error) {
	p := &password{file: file, turn: make(chan struct{}, 1)}
	_, err := p.read()
	return p, err
}

func refusePassword(format string, a ...any) error {
	return &Refusal{Key: "web.password-file", Text: fmt.Sprintf(format, a...)}
}

// read takes the file over if it is not the one that was read last, and tells whether it did.
func (p *password) read() (bool, error) {
	info, err := os.Stat(p.file)
	if err != nil {
		return false, refusePassword("%v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at != nil && os.SameFile(p.at, info) && p.at.ModTime().Equal(info.ModTime()) && p.at.Size() == info.Size() {
		return false, nil
	}
	switch {
	case !info.Mode().IsRegular():
		return false, refusePassword("%s is no file", p.file)
	case info.Mode().Perm()&0o007 != 0:
		return false, refusePassword("%s can be read by everybody on this machine (mode %04o); `chmod 600 %s`, or give the secret the mode 0400", p.file, info.Mode().Perm(), p.file)
	}
	f, err := os.Open(p.file)
	if err != nil {
		return false, refusePassword("%v", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPasswordFile+1))
	if err != nil {
		return false, refusePassword("%v", err)
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	text := strings.TrimRight(string(line), "\r")
	switch {
	case len(data) > maxPasswordFile || len(bytes.TrimSpace(rest)) > 0:
		return false, refusePassword("%s has more than one line", p.file)
	case strings.HasPrefix(text, "$argon2"):
		d, err := parseDigest(text)
		if err != nil {
			return false, refusePassword("%s: %v", p.file, err)
		}
		p.now, p.at = d, info
		return true, nil
	case len([]rune(text)) < minPassword:
		return false, refusePassword("the password in %s has less than %d characters; make one with `head -c 18 /dev/urandom | base64`", p.file, minPassword)
	}
	p.now, p.at = digestOf(text), info
	return true, nil
}

// is compares a guess, one at a time; false too if ctx ends while others wait.
func (p *password) is(ctx context.Context, guess string) bool {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-p.turn }()
	p.mu.Lock()
	now := p.now
	p.mu.Unlock()
	return now.is(guess)
}
