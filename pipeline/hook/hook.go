// Package hook runs the commands of the config file when something happens, with the fact as JSON on their standard input.
//
// It owns their queues, their time and their processes. It is never in the way of media: Tell does not block, a command
// that is slow loses facts of its own queue, which is counted and told, and one that sleeps for an hour is killed at its
// limit with everything that it started. It runs nothing that does not stand in the file, and no shell.
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/facts"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/status"
)

const (
	// Queue is how many facts wait for one command at the most.
	Queue = 64
	// output is how much of what a command prints last is kept, in bytes.
	output = 4 << 10
	// lingering is how long a command that has ended may leave its output open to what it started.
	lingering = 2 * time.Second
	// recent is how long a loss is told as trouble.
	recent = 10 * time.Minute
	// failing is how many failures in a row are trouble.
	failing = 3
)

// Hook is a command and what it waits for.
type Hook struct {
	On      facts.Kind
	Run     []string // program and arguments
	Timeout time.Duration
}

func (h Hook) same(o Hook) bool {
	return h.On == o.On && h.Timeout == o.Timeout && slices.Equal(h.Run, o.Run)
}

// name is what logs call it.
func (h Hook) name() string { return filepath.Base(h.Run[0]) + " (" + string(h.On) + ")" }

// Config of a Runner.
type Config struct {
	// Env is the environment of all commands, "PATH=…": small, and without secrets. LIVEREC_FACT is added.
	Env []string
}

// Runner tells facts to commands, to each in order and one at a time.
type Runner struct {
	cfg     Config
	log     zerolog.Logger
	changed chan struct{} // rung by Use; made by New, never closed

	mu    sync.Mutex // guards what is below
	lanes []*lane
	fresh []*lane // that Run has not started yet; one that is gone again works its queue off as well
	over  bool    // Run has returned, or is about to
}

// lane is one command with its queue.
type lane struct {
	hook   Hook
	queue  chan job // made by Use; sent by Tell; closed by Use or Run, under the mutex, once nobody tells it anything any more
	closed bool     // guarded by Runner.mu, like all below

	lost    int64     // facts that did not fit
	lostAt  time.Time // the last one
	pending int       // facts that were told and not worked off
	failed  int       // in a row
	failure string
}

type job struct {
	kind facts.Kind
	body []byte
}

// New makes a Runner without commands; it starts nothing.
func New(cfg Config, log zerolog.Logger) *Runner {
	return &Runner{cfg: cfg, log: log, changed: make(chan struct{}, 1)}
}

func (r *Runner) String() string { return "hooks" }

// Use takes the commands of a new config. One that is there still keeps its queue; one that is not there any more works
// its queue off.
func (r *Runner) Use(hooks []Hook) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	var lanes []*lane
	for _, h := range hooks {
		i := slices.IndexFunc(r.lanes, func(l *lane) bool { return l.hook.same(h) && !slices.Contains(lanes, l) })
		if i >= 0 {
			lanes = append(lanes, r.lanes[i])
			continue
		}
		l := &lane{hook: h, queue: make(chan job, Queue)} // 64 facts of some KiB
		lanes, r.fresh = append(lanes, l), append(r.fresh, l)
	}
	for _, l := range r.lanes {
		if !slices.Contains(lanes, l) {
			l.closed = true
			close(l.queue)
		}
	}
	r.lanes = lanes
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Tell puts a fact into the queues of those that wait for it. It never blocks.
func (r *Runner) Tell(f facts.Fact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var body []byte
	for _, l := range r.lanes {
		if l.hook.On != f.Kind || l.closed {
			continue
		}
		if body == nil {
			var err error
			if body, err = json.Marshal(f); err != nil {
				r.log.Error().Err(err).Msg("a fact cannot be written as JSON")
				return
			}
			body = append(body, '\n')
		}
		select {
		case l.queue <- job{f.Kind, body}:
			l.pending++
		default:
			l.lost++
			l.lostAt = time.Now()
			if l.lost == 1 || l.lost%100 == 0 {
				r.log.Warn().Str("hook", l.hook.name()).Int64("lost", l.lost).Msg("hook is too slow, facts are not told to it")
			}
		}
	}
}

// Lost is how many facts did not fit into a queue since the start.
func (r *Runner) Lost() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int64
	for _, l := range r.lanes {
		n += l.lost
	}
	return n
}

// Conditions are the troubles of the commands, for a picture.
func (r *Runner) Conditions() []facts.Condition {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []facts.Condition
	for _, l := range r.lanes {
		name := l.hook.name()
		if l.lost > 0 && time.Since(l.lostAt) < recent {
			out = append(out, facts.Condition{Key: "hook-lost " + name, Well: "The hook " + name + " keeps up again",
				Text: fmt.Sprintf("The hook %s is too slow: %d facts were not told to it.", name, l.lost), Hint: "Let it do its work in the background, or less of it. Recording is not concerned."})
		}
		if l.failed >= failing {
			out = append(out, facts.Condition{Key: "hook-fails " + name, Well: "The hook " + name + " works again",
				Text: fmt.Sprintf("The hook %s failed %d times in a row: %s", name, l.failed, l.failure), Hint: "The log has what it printed. Recording is not concerned."})
		}
	}
	return out
}

// Settle waits until every command has been told what waits for it, but not longer than so.
func (r *Runner) Settle(most time.Duration) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(most)
	for r.busy() {
		select {
		case <-late:
			return
		case <-tick.C:
		}
	}
}

func (r *Runner) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.lanes, func(l *lane) bool { return l.pending > 0 })
}

// Run runs commands until ctx ends; then what still runs is killed, with what it started, and what waits is lost.
func (r *Runner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		r.mu.Lock()
		for _, l := range r.fresh {
			wg.Go(func() { r.work(ctx, l) })
		}
		r.fresh = nil
		r.mu.Unlock()
		select {
		case <-r.changed:
		case <-ctx.Done():
			r.mu.Lock()
			r.over = true
			for _, l := range r.lanes {
				l.closed = true
				close(l.queue)
			}
			r.mu.Unlock()
			return nil
		}
	}
}

// work tells one command its facts, one after the other.
func (r *Runner) work(ctx context.Context, l *lane) {
	left := 0
	for j := range l.queue {
		if ctx.Err() != nil {
			left++
			continue
		}
		began := time.Now()
		out, err := r.exec(ctx, l.hook, j)
		log := r.log.With().Str("hook", l.hook.name()).Str("took", status.Span(time.Since(began))).Logger()
		r.mu.Lock()
		l.pending--
		if err == nil {
			l.failed = 0
		} else if ctx.Err() == nil {
			l.failed++
			l.failure = err.Error()
		}
		r.mu.Unlock()
		switch {
		case err == nil:
			log.Debug().Str("output", out).Msg("hook ran")
		case ctx.Err() == nil:
			log.Warn().Err(err).Str("output", out).Msg("hook failed")
		default:
			log.Warn().Msg("hook was ended with the service")
		}
	}
	if left > 0 {
		r.log.Warn().Str("hook", l.hook.name()).Int("facts", left).Msg("facts were not told to a hook before the end")
	}
}

// exec runs a command once. What it printed last comes back as one line.
func (r *Runner) exec(ctx context.Context, h Hook, j job) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.Timeout, fmt.Errorf("it took longer than %v and was killed", h.Timeout))
	defer cancel()
	var out tail
	cmd := exec.CommandContext(ctx, h.Run[0], h.Run[1:]...)
	cmd.Env, cmd.Dir = append(slices.Clone(r.cfg.Env), "LIVEREC_FACT="+string(j.kind)), "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(j.body), &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = lingering
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // it has ended well, and something that it started holds its output open
		err = nil
		if kerr := kill(); kerr != nil && !errors.Is(kerr, syscall.ESRCH) {
			err = fmt.Errorf("end what it left running: %w", kerr)
		}
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out.line(), err
}

// tail keeps the last bytes of what is written to it. exec writes both streams from one goroutine, since they are one.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(len(p)-output, 0):]...)
	if over := len(t.b) - output; over > 0 {
		t.b = slices.Delete(t.b, 0, over)
	}
	return len(p), nil
}

func (t *tail) line() string {
	return naming.Line(strings.Join(strings.Fields(strings.ToValidUTF8(string(t.b), "?")), " "))
}
