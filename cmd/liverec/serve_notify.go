package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/liverec/liverec/pipeline/hook"
	"github.com/liverec/liverec/pipeline/notify"
	"github.com/liverec/liverec/pkg/beat"
	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/facts"
	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/secret"
	"github.com/liverec/liverec/pkg/segment"
)

const (
	// toldName is the file in the data folder that remembers what was told: a hook does not run twice for one part.
	toldName = "told.json"
	// lookEvery is how often it is looked for news.
	lookEvery = 2 * time.Second
	// lastLook is how long the look at the end may take, and lastWord how long hooks and receivers have for it.
	lastLook, lastWord = 2 * time.Second, 3 * time.Second
)

// crier tells what happens in a service to hooks and people. It only listens: nobody waits for it.
type crier struct {
	s *service

	mu    sync.Mutex // guards what is below
	cfg   config.Config
	hooks *hook.Runner
	notes *notify.Notifier
}

func newCrier(s *service) *crier { return &crier{s: s, cfg: s.cfg} }

func (c *crier) String() string { return "facts" }

// use takes the hooks and the receivers of another config.
func (c *crier) use(cfg config.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cfg = cfg
	if c.hooks != nil {
		c.hooks.Use(hooksOf(cfg))
		c.notes.Use(c.receivers(cfg))
	}
}

func hooksOf(cfg config.Config) []hook.Hook {
	var out []hook.Hook
	for _, h := range cfg.Hooks {
		out = append(out, hook.Hook{On: facts.Kind(h.On), Run: h.Run, Timeout: h.Timeout})
	}
	return out
}

func (c *crier) receivers(cfg config.Config) []notify.Receiver {
	var out []notify.Receiver
	for _, n := range cfg.Notify {
		sender, err := notify.Open(n.URL)
		if err != nil { // the config was checked
			c.s.h.log.Error().Err(err).Str("receiver", n.Name).Msg("nobody is told there")
			continue
		}
		out = append(out, notify.Receiver{Name: n.Name, Key: n.URL.Reveal(), On: n.On, Sender: sender})
	}
	return out
}

// hookEnv is the environment of hooks: what programs need to find their way, and no secret of ours.
func hookEnv() []string {
	var env []string
	for _, k := range []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// Run looks for news until ctx ends, and once more then.
func (c *crier) Run(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	state, err := c.remembered()
	if err != nil {
		c.s.h.log.Warn().Err(err).Msg("what was told before is not known; what is there already is not told again")
	}
	tel := facts.NewTeller(facts.Config{Data: c.s.h.opt.data}, state)
	around, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	c.mu.Lock()
	c.hooks, c.notes = hook.New(hook.Config{Env: hookEnv()}, c.s.h.log), notify.New(notify.Config{Host: host}, c.s.h.log)
	c.hooks.Use(hooksOf(c.cfg))
	c.notes.Use(c.receivers(c.cfg))
	hooks, notes := c.hooks, c.notes
	c.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = hooks.Run(around) })
	wg.Go(func() { _ = notes.Run(around) })
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
			defer cancel()
			c.look(last, tel, true)
			hooks.Settle(lastWord)
			end()
			return nil
		case <-tick.C:
			c.look(ctx, tel, false)
			tick.Reset(beat.Until(time.Now(), lookEvery))
		}
	}
}

// remembered reads what the last process told.
func (c *crier) remembered() ([]byte, error) {
	f, err := c.s.h.dir.Read(toldName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 16<<20))
}

// look compares the picture of now with what was told, remembers, and tells. fresh: no older picture will do.
func (c *crier) look(ctx context.Context, tel *facts.Teller, fresh bool) {
	news := tel.Look(c.picture(ctx, tel, fresh))
	if state, changed := tel.State(); changed {
		if err := c.s.h.dir.Replace(toldName, state); err != nil {
			c.s.h.log.Warn().Err(err).Msg("what is told cannot be remembered, the next start may tell it again")
		}
	}
	for _, f := range news {
		if t := f.Trouble; t != nil {
			ev := c.s.h.log.Warn()
			if t.State == facts.Ends {
				ev = c.s.h.log.Info()
			}
			if t.Hint != "" {
				ev = ev.Str("hint", t.Hint)
			}
			ev.Str("trouble", t.Key).Str("state", t.State).Msg(t.Text)
		}
		c.hooks.Tell(f)
		c.notes.Tell(f)
	}
}

func (c *crier) picture(ctx context.Context, tel *facts.Teller, fresh bool) facts.Picture {
	p := facts.Picture{Now: time.Now(), Names: map[string]string{}, More: append(c.hooks.Conditions(), c.notes.Conditions()...)}
	s := c.s
	s.mu.Lock()
	if !s.read.OK {
		p.Config = s.read.Error
	}
	for i, n := range s.names {
		if i < len(s.h.run) {
			p.Names[string(s.h.run[i].ID)] = n
		}
	}
	s.mu.Unlock()
	var active []segment.Broadcast
	if p.Status, active, p.Ledger = s.sees(ctx, fresh); p.Ledger != nil {
		return p
	}
	p.Broadcasts = slices.Clip(active) // others see them as well
	have := map[segment.SessionID]bool{}
	for _, b := range p.Broadcasts {
		have[b.Session.ID] = true
	}
	for _, id := range tel.Follows() {
		if have[id] {
			continue
		}
		b, err := s.h.led.Broadcast(ctx, id)
		if errors.Is(err, ledger.ErrUnknown) {
			continue
		}
		if err != nil {
			p.Ledger = err
			return p
		}
		p.Broadcasts = append(p.Broadcasts, b)
	}
	return p
}

// checkNotify reads the address of a receiver.
func checkNotify(url secret.String) error {
	_, err := notify.Open(url)
	return err
}

// testTime is how long a receiver has for the test message.
const testTime = 30 * time.Second

// testNotify is --test-notify: a message to every receiver of the config, and whether it came through.
func testNotify(cfg config.Config, std streams) error {
	if len(cfg.Notify) == 0 {
		return usagef("--test-notify: the config file has nobody to notify; add [[notify]] with url = \"…\"")
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	results := make([]error, len(cfg.Notify))
	var wg sync.WaitGroup
	for i, n := range cfg.Notify {
		wg.Go(func() {
			sender, err := notify.Open(n.URL)
			if err != nil {
				results[i] = err
				return
			}
			done := make(chan error, 1)
			go func() {
				done <- sender.Send("This is a test from liverec on " + host + ". Whoever reads it will hear of: " + about(n.On) + ".")
			}() // ends with the process at the latest
			select {
			case results[i] = <-done:
			case <-time.After(testTime):
				results[i] = fmt.Errorf("no answer within %v", testTime)
			}
		})
	}
	wg.Wait()
	bad := 0
	for i, n := range cfg.Notify {
		if err := results[i]; err != nil {
			bad++
			fmt.Fprintf(std.out, "%s: %s\n", n.Name, oneLine(err.Error()))
			continue
		}
		fmt.Fprintf(std.out, "%s: sent\n", n.Name)
	}
	if bad > 0 {
		return &exitStatus{exitError, fmt.Sprintf("liverec: %d of %d test %s did not come through", bad, len(cfg.Notify), word1(len(cfg.Notify), "message"))}
	}
	return nil
}

// about names topics for a person.
func about(topics []string) string {
	words := map[string]string{notify.Broadcasts: "broadcasts that begin and end", notify.Troubles: "troubles and their end"}
	out := ""
	for i, t := range topics {
		if i > 0 {
			out += ", "
		}
		out += words[t]
	}
	return out
}
