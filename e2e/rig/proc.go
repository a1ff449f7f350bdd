// Package rig is the bench on which the built program is tried: it starts liverec, a real S3 server, a real live
// server and a proxy with faults, all on loopback, and reads back what came out.
//
// It knows the program only from outside: its command line, its exit status, its files. Of the program's packages it
// uses only the live room and the independent checker of recordings.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Binary is the program under test: $LIVEREC_BIN, or built into dir.
func Binary(dir string) (string, error) {
	if bin := os.Getenv("LIVEREC_BIN"); bin != "" {
		if _, err := os.Stat(bin); err != nil {
			return "", fmt.Errorf("LIVEREC_BIN: %w", err)
		}
		return filepath.Abs(bin)
	}
	bin := filepath.Join(dir, "liverec")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-C", "..", "-o", bin, "./cmd/liverec")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build liverec: %w\n%s", err, out)
	}
	return bin, nil
}

// Tool finds a test server or program: in $LIVEREC_TOOLS, in ../.cache/bin, or in the PATH. Where LIVEREC_NEED_TOOLS is
// set its absence is an error, elsewhere the test is skipped.
func Tool(t testing.TB, name string) string {
	t.Helper()
	if p := FindTool(name); p != "" {
		return p
	}
	if os.Getenv("LIVEREC_NEED_TOOLS") != "" {
		t.Fatalf("%s is not installed; `make setup` gets it", name)
	}
	t.Skipf("%s is not installed; `make setup` gets it", name)
	return ""
}

// FindTool is Tool without a test; "" if there is none.
func FindTool(name string) string {
	for _, dir := range []string{os.Getenv("LIVEREC_TOOLS"), "../.cache/bin", "../../.cache/bin"} {
		if dir == "" {
			continue
		}
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			if abs, err := filepath.Abs(p); err == nil {
				return abs
			}
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return p
}

// Output gathers what a process writes and can be read meanwhile.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Run says how a program is started.
type Run struct {
	Bin  string
	Args []string
	Dir  string   // where it runs
	Env  []string // beside a small environment that holds no LIVEREC_ variable
}

// Proc is a running program. It is killed when the test ends.
type Proc struct {
	Stdout, Stderr Output
	Started        time.Time
	Ended          time.Time // valid after Done

	cmd  *exec.Cmd
	done chan struct{}
	code int
}

// Secret is the password of the S3 server. It must never be seen in any output or file.
const Secret = "s3cr3t-that-nobody-may-see"

// Env is what every program gets: nothing of the caller but the path, and keys for the S3 server.
func Env(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + os.TempDir(), "LANG=C.UTF-8", "TZ=UTC",
		"AWS_ACCESS_KEY_ID=AK", "AWS_SECRET_ACCESS_KEY=" + Secret, "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Start starts a program.
func (r Run) Start(t testing.TB) *Proc {
	t.Helper()
	p, err := r.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s\nstdout:\n%s\nstderr:\n%s", p.String(), tail(p.Stdout.String()), tail(p.Stderr.String()))
		}
		if strings.Contains(p.Stdout.String()+p.Stderr.String(), Secret) {
			t.Errorf("TestI10: a secret stands in the output of %s", p.String())
		}
	})
	return p
}

func (r Run) start() (*Proc, error) {
	p := &Proc{done: make(chan struct{}), Started: time.Now()}
	p.cmd = exec.CommandContext(context.Background(), r.Bin, r.Args...)
	p.cmd.Dir = r.Dir
	p.cmd.Env = append(Env(r.Dir), r.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.Stdout, &p.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", r.Bin, err)
	}
	go func() { // ends with the process; Kill and the cleanup wait for it
		_ = p.cmd.Wait() // the state says it better
		p.Ended = time.Now()
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.done)
	}()
	return p, nil
}

// StartProcess is Start outside of a test.
func (r Run) StartProcess() (*Proc, error) { return r.start() }

// Pid is the process id.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Alive reports whether the process still runs.
func (p *Proc) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal.
func (p *Proc) Signal(s syscall.Signal) {
	if p.Alive() {
		_ = p.cmd.Process.Signal(s) // it may have ended in between
	}
}

// Kill ends the process and all that it started, and waits for it.
func (p *Proc) Kill() {
	if p.Alive() {
		_ = syscall.Kill(-p.Pid(), syscall.SIGKILL) // it may have ended in between
	}
	<-p.done
}

// Usage is what the process cost. Valid after it has ended.
func (p *Proc) Usage() *syscall.Rusage {
	u, _ := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return u
}

// Code is the exit status, -1 if a signal ended it. Valid after it has ended.
func (p *Proc) Code() int { return p.code }

// Wait waits for the end and returns the exit status. Too late is fatal.
func (p *Proc) Wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.code
	case <-time.After(limit):
		p.cmd.Process.Signal(syscall.SIGQUIT) // a picture of all goroutines, for whoever reads the failure
		select {
		case <-p.done:
		case <-time.After(2 * time.Second):
		}
		t.Fatalf("%s did not end within %v", p.String(), limit)
		return -1
	}
}

// Ends fails the test unless the process ends in time with the given status.
func (p *Proc) Ends(t testing.TB, limit time.Duration, want int) {
	t.Helper()
	if got := p.Wait(t, limit); got != want {
		t.Fatalf("%s ended with %d, wanted %d; stderr:\n%s", p.String(), got, want, tail(p.Stderr.String()))
	}
}

// String is the command line, for failure messages.
func (p *Proc) String() string {
	s := strings.Join(p.cmd.Args, " ")
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return s
}

func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if n := len(lines) - 80; n > 0 {
		lines = slices.Concat(lines[:50], []string{fmt.Sprintf("(%d lines between)", n)}, lines[n+50:])
	}
	for i, l := range lines {
		if len(l) > 600 {
			lines[i] = l[:600] + "…"
		}
	}
	return strings.Join(lines, "\n")
}

// Until waits for a condition. Too late is fatal.
func Until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", limit, what)
		}
	}
}

// JSON runs a command to its end and reads its standard output, or fails.
func JSON(t testing.TB, r Run, want int, into any) {
	t.Helper()
	p := r.Start(t)
	p.Ends(t, 30*time.Second, want)
	if err := json.Unmarshal([]byte(p.Stdout.String()), into); err != nil {
		t.Fatalf("%v: %v\n%s", r.Args, err, p.Stdout.String())
	}
}

// FreePort is a port of loopback that nobody uses now.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// answers waits until something at addr takes connections.
func answers(p *Proc, addr string) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if !p.Alive() {
			return fmt.Errorf("it ended: %s", tail(p.Stdout.String()+p.Stderr.String()))
		}
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			return c.Close()
		}
	}
	return errors.New("it takes no connections")
}

// Get reads an address of loopback.
func Get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}
