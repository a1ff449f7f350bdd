package external

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/naming"
)

// Bounds of one question.
const (
	// Patience is how long a program may take.
	Patience = 30 * time.Second
	// MaxOutput is the most that it may print.
	MaxOutput = 8 << 20

	maxErrors = 8 << 10         // the end of what it prints as errors
	atOnce    = 2               // programs at a time: each costs seconds of CPU
	believe   = 5 * time.Minute // how long it is remembered that a page is unknown
	lingering = 2 * time.Second // how long the pipes of a killed program are waited for
)

// Tools is what is installed, for all rooms of a process. It may be used by many goroutines.
type Tools struct {
	log  zerolog.Logger
	env  []string
	look func(name string) (string, error)
	turn chan struct{}

	mu      sync.Mutex
	shown   map[string]bool      // programs whose version was told
	unknown map[string]time.Time // pages that nobody knew, with when that was
}

// ToolsConfig makes Tools.
type ToolsConfig struct {
	// Env is the environment of the programs: PATH, and of the caller's what reaches the network (proxies, certificates).
	// Their own configuration is not read: it would change what is recorded without a word.
	Env []string
	Log zerolog.Logger
}

// Passed are the variables of the environment that a program gets.
var Passed = [...]string{"PATH", "LANG", "LC_ALL", "TZ", "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
	"NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}

// NewTools looks for nothing yet: what is installed later is found later.
func NewTools(cfg ToolsConfig) *Tools {
	env := append([]string{}, cfg.Env...)
	// No folder of the user's is read or written. What cannot be written is not cached, nothing else.
	for _, k := range [...]string{"HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"} {
		env = append(env, k+"=/nonexistent")
	}
	env = append(env, "PYTHONIOENCODING=utf-8", "PYTHONDONTWRITEBYTECODE=1")
	return &Tools{log: cfg.Log, env: env, look: exec.LookPath, turn: make(chan struct{}, atOnce),
		shown: map[string]bool{}, unknown: map[string]time.Time{}}
}

// program is one of the two.
type program struct {
	name string
	args []string // what stands before the address
	read func(out []byte, errs string) (answer, error)
}

var (
	streamlink = program{"streamlink", []string{"--json"}, readStreamlink}
	ytdlp      = program{"yt-dlp", []string{"--ignore-config", "--no-update", "--no-warnings", "--no-cache-dir", "--dump-single-json", "--no-playlist",
		"--skip-download", "--socket-timeout", "15", "--extractor-retries", "0"}, readYTDLP}
)

// order is who is asked first: yt-dlp where streamlink is known to break.
func order(page *url.URL) [2]program {
	host := strings.ToLower(page.Hostname())
	for _, h := range [...]string{"youtube.com", "youtu.be"} {
		if host == h || strings.HasSuffix(host, "."+h) {
			return [2]program{ytdlp, streamlink}
		}
	}
	return [2]program{streamlink, ytdlp}
}

// errUnknown is one program's word that it does not know the page; errUseless that it knows no form that we can pull.
var (
	errUnknown = errors.New("unknown page")
	errUseless = errors.New("no form that can be recorded")
)

// ask asks one program, and the other one where the first one cannot help.
func (t *Tools) ask(ctx context.Context, page *url.URL) (answer, error) {
	raw := page.String()
	t.mu.Lock()
	at, was := t.unknown[raw]
	t.mu.Unlock()
	if was && time.Since(at) < believe {
		return answer{}, ErrUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	var first error // the one that says most
	found, knew := 0, false
	for _, p := range order(page) {
		path, err := t.look(p.name)
		if err != nil {
			continue
		}
		found++
		a, err := t.question(ctx, p, path, raw)
		if err == nil {
			a.program = p.name
			return a, nil
		}
		knew = knew || !errors.Is(err, errUnknown)
		if first == nil || errors.Is(first, errUnknown) {
			first = fmt.Errorf("%s: %w", p.name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case found == 0:
		return answer{}, ErrAbsent
	case !knew:
		t.mu.Lock()
		defer t.mu.Unlock()
		if len(t.unknown) > 1000 {
			clear(t.unknown)
		}
		t.unknown[raw] = time.Now()
		return answer{}, ErrUnknown
	}
	return answer{}, first
}

// question runs one program.
func (t *Tools) question(ctx context.Context, p program, path, page string) (answer, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return answer{}, fmt.Errorf("wait for a turn: %w", ctx.Err())
	}
	defer func() { <-t.turn }()
	t.version(ctx, p, path)
	out, errs, err := t.run(ctx, path, append(append([]string{}, p.args...), "--", page)...)
	if err != nil {
		return answer{}, err
	}
	return p.read(out, errs)
}

// version tells once which version is used, and whether it is a bad one.
func (t *Tools) version(ctx context.Context, p program, path string) {
	t.mu.Lock()
	was := t.shown[path]
	t.mu.Unlock()
	if was {
		return
	}
	v, err := t.versionOf(ctx, p, path)
	if err != nil || ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	t.shown[path] = true
	t.mu.Unlock()
	t.log.Info().Str("program", p.name).Str("version", v).Str("path", path).Msg("this program finds the stream in the page")
	if why := outdated(p.name, v, time.Now()); why != "" {
		t.log.Warn().Str("program", p.name).Str("version", v).Msg(why)
	}
}

func (t *Tools) versionOf(ctx context.Context, p program, path string) (string, error) {
	out, _, err := t.run(ctx, path, "--version")
	return naming.Line(strings.TrimPrefix(strings.TrimSpace(string(out[:min(len(out), 80)])), p.name+" ")), err
}

// Installed is one of the two programs as it is found now.
type Installed struct {
	Name    string
	Path    string // "": it is not installed
	Version string
	Wrong   string // what is known to be wrong with this version, or with asking for it; "": nothing
}

// Installed says which of the programs are there, each asked for its version.
func (t *Tools) Installed(ctx context.Context) []Installed {
	var out []Installed
	for _, p := range [...]program{streamlink, ytdlp} {
		i := Installed{Name: p.name}
		path, err := t.look(p.name)
		if err == nil {
			i.Path = path
			if i.Version, err = t.versionOf(ctx, p, path); err != nil {
				i.Wrong = err.Error()
			} else {
				i.Wrong = outdated(p.name, i.Version, time.Now())
			}
		}
		out = append(out, i)
	}
	return out
}

// outdated says what is wrong with a version, "" if nothing is known to be.
func outdated(name, version string, now time.Time) string {
	switch name {
	case "streamlink":
		var major, minor int
		if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err == nil && (major < 8 || major == 8 && minor < 4) {
			return "streamlink before 8.4.0 lets a playlist read local files (CVE-2026-44353); update it"
		}
	case "yt-dlp":
		if at, err := time.Parse("2006.01.02", version[:min(len(version), 10)]); err == nil && now.Sub(at) > 90*24*time.Hour {
			return "yt-dlp is older than 90 days: sites change faster than that; update it"
		}
	}
	return ""
}

// run runs a program to its end, or to the end of ctx, with everything that it started. Its exit status is not looked at:
// both programs say in their output what happened, and fail with 1 for everything.
func (t *Tools) run(ctx context.Context, path string, args ...string) (out []byte, errs string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var stdout head
	stdout.full = func() { cancel(errTooMuch) }
	var stderr tail
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = t.env, "/"
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = lingering
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		// The program has ended, but something that it started holds the pipes: its group is still there.
		if kerr := kill(); kerr != nil && !errors.Is(kerr, syscall.ESRCH) {
			err = errors.Join(err, kerr)
		}
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTooMuch):
		return nil, "", fmt.Errorf("it printed more than %d MiB", MaxOutput>>20)
	case errors.Is(cause, context.DeadlineExceeded):
		return nil, "", errors.New("it had no answer in time")
	case cause != nil:
		return nil, "", cause
	}
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return nil, "", fmt.Errorf("run it: %w", err)
	}
	return stdout.b.Bytes(), stderr.String(), nil
}

var errTooMuch = errors.New("too much output")

// head keeps the first MaxOutput bytes, and says when there are more.
type head struct {
	b    bytes.Buffer
	full func()
}

func (h *head) Write(p []byte) (int, error) {
	if h.b.Len()+len(p) > MaxOutput {
		h.full()
		return 0, errTooMuch
	}
	return h.b.Write(p)
}

// tail keeps the last maxErrors bytes.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - maxErrors; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }

var query = regexp.MustCompile(`\?[^\s"'()<>]+`)

// said makes a program's words fit for a log: one line, no query of an address, no more than a sentence.
func said(s string) string {
	s = naming.Line(query.ReplaceAllString(strings.Join(strings.Fields(s), " "), "?…"))
	if r := []rune(s); len(r) > 240 {
		s = string(r[:240]) + "…"
	}
	return s
}
