package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/supervise"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/dest"
)

// house is what every command that writes stands on: the data folder, the ledger, the targets.
type house struct {
	opt    options
	std    streams
	log    zerolog.Logger
	screen *terminal                     // nil where there is none
	zone   atomic.Pointer[time.Location] // of names and timetables

	sums uploader.Sums // of files that this process has read through before they are sent
	dir  *durable.Dir
	led  *ledger.Ledger

	mu      sync.Mutex             // guards what is below once the stages run; aim replaces it
	run     []segment.Destination  // the targets of this run, as given
	targets []uploader.Destination // those, and the ones that earlier runs still owe something
	dests   []dest.Dest            // what targets were made of, in the same order
}

// logger makes the logger of a command; on a terminal it is shared with the live lines.
func logger(opt options, std streams) (zerolog.Logger, *terminal, error) {
	format, out := opt.logFormat, std.err
	var screen *terminal
	f, tty := isTerminal(std.err)
	if tty {
		if format == "" {
			format = "text"
		}
		if format == "text" && !opt.noProgress {
			screen = newTerminal(f)
			out = screen
		}
	}
	if format == "" {
		format = "json"
	}
	log, err := obs.Logger(out, format, opt.logLevel, tty && os.Getenv("NO_COLOR") == "")
	return log, screen, err
}

// parseDests reads the destinations of a command: a usage error names the one that was wrong.
func parseDests(list []string) ([]dest.Dest, error) {
	wd, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the current folder: %w", err)
	}
	ds, err := dest.ParseAll(list, wd)
	if err != nil {
		return nil, usagef("--to: %v", err)
	}
	required := false
	for _, d := range ds {
		required = required || d.Required
	}
	if len(ds) > 0 && !required {
		return nil, usagef("--to: every target has required=false, so nothing would ever be safe; leave it out of at least one")
	}
	return ds, nil
}

// open takes the data folder and the ledger.
func open(ctx context.Context, opt options, std streams, log zerolog.Logger, screen *terminal) (*house, error) {
	h := &house{opt: opt, std: std, log: log, screen: screen}
	h.zone.Store(time.Local)
	var err error
	if h.dir, err = durable.Open(opt.data, nil); err != nil {
		return nil, durable.Explain(opt.data, err)
	}
	h.led, err = ledger.Open(ctx, ledger.Config{Dir: h.dir, Keep: opt.keep, Accept: opt.accept, Log: log.With().Str("part", "ledger").Logger()})
	if err != nil {
		// The ledger's own words for a folder that somebody else holds or that a newer liverec wrote; otherwise the
		// probe finds out what is wrong with the folder.
		_, locked := errors.AsType[*ledger.Locked](err)
		if perr := h.dir.Probe("start"); perr != nil && !locked && !errors.Is(err, ledger.ErrNewer) {
			err = perr
		}
		return nil, errors.Join(refused(err, opt), h.dir.Close())
	}
	if err := errors.Join(h.dir.Sweep("start"), h.dir.Probe("start")); err != nil {
		return nil, errors.Join(err, h.close())
	}
	if d := h.led.Damaged(); d != nil {
		return nil, errors.Join(&failure.Error{Op: "use the ledger in " + opt.data, Kind: failure.NeedsHuman, Err: d,
			Hint: "Nothing was removed. Look at `liverec status` and `liverec orphans`; with --accept-copy liverec goes on with what the newest good copy knows."}, h.close())
	}
	return h, nil
}

func refused(err error, opt options) error {
	if l, ok := errors.AsType[*ledger.Locked](err); ok {
		return &failure.Error{Op: "open the data folder", Kind: failure.NeedsHuman, Err: l,
			Hint: "`liverec status`, `verify`, `pause`, `split` and `stop` work beside it; for a second recording name another folder with --data."}
	}
	if errors.Is(err, ledger.ErrNewer) {
		return &failure.Error{Op: "open the ledger in " + opt.data, Kind: failure.NeedsHuman, Err: err, Hint: "Use that newer liverec; nothing was changed."}
	}
	return err
}

func (h *house) close() error {
	var errs []error
	for _, t := range h.targets {
		if c, ok := t.Target.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	if h.led != nil {
		errs = append(errs, h.led.Close())
	}
	return errors.Join(append(errs, h.dir.Close())...)
}

// leave ends a run that did not come to recording: with err, or, if somebody asked it to stop, with what the ledger says
// of earlier media.
func (h *house) leave(soft context.Context, err error) error {
	if soft.Err() == nil {
		return errors.Join(err, h.close())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(soft), 2*time.Second)
	defer cancel()
	left, lerr := h.led.Unsafe(ctx)
	if err := errors.Join(lerr, h.close()); err != nil {
		return err
	}
	if left.Bytes > 0 {
		return &exitStatus{exitUnsafe, "liverec: " + unsafeLine(left.Bytes)}
	}
	return nil
}

// closeTime is how long a run that was told twice to stop may take to close its files: the exit has to come within 3 s
// of the second signal, and the pipeline takes up to 2.
const closeTime = 700 * time.Millisecond

// part closes the house at the end of a run. After the second signal it does not wait for a disk that hangs: the ledger
// survives that as it survives a kill.
func (h *house) part(hard context.Context) {
	done := make(chan error, 1)
	go func() { done <- h.close() }() // awaited here, unless the disk hangs and the process ends
	var late <-chan time.Time
	if hard.Err() != nil {
		late = time.After(closeTime)
	}
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, ledger.ErrDead) {
			h.log.Warn().Err(err).Msg("the data folder was not closed cleanly, the next start looks at it")
		}
	case <-late:
		h.log.Warn().Msg("the data folder takes too long to close, the next start looks at it")
	}
}

// checkTime is how long a target may think about the question at the start.
const checkTime = 15 * time.Second

// furnish builds and asks the targets of this run, and those to which earlier runs still owe something. A target of this
// run that refuses is an error; one that cannot be reached is weather. onlyKnown takes the targets from the ledger, as
// `resume` without --to does.
func (h *house) furnish(ctx context.Context, ds []dest.Dest, onlyKnown bool) error {
	owed, err := h.led.Backlogs(ctx)
	if err != nil {
		return err
	}
	known, err := h.led.Stored(ctx)
	if err != nil {
		return err
	}
	now := map[segment.TargetID]bool{}
	var all []dest.Dest
	for _, d := range ds {
		now[d.ID] = true
		h.run = append(h.run, d.Destination)
		all = append(all, d)
	}
	for _, b := range owed {
		if now[b.ID] || b.Parts == 0 && !onlyKnown {
			continue
		}
		d, err := dest.Parse(b.Spec, "/")
		if err != nil {
			h.log.Warn().Err(err).Str("target", string(b.ID)).Int("parts", b.Parts).Msg("an earlier target is not understood any more, its parts stay on the disk")
			continue
		}
		d.ID, d.Required = b.ID, b.Required // an account with two targets has a second ID, which does not follow from its spec alone
		all = append(all, d)
	}
	built, err := h.build(ctx, all, known, now)
	for i, t := range built {
		h.targets = append(h.targets, uploader.Destination{Target: t, Required: all[i].Required})
		h.dests = append(h.dests, all[i])
	}
	if err != nil || onlyKnown {
		return err
	}
	return h.led.SetTargets(ctx, h.run)
}

// build builds targets and asks them, all at the same time. One of those that are to be had now which refuses is an
// error; one that cannot be reached is weather. What was built is given back in any case, and is the caller's to close.
func (h *house) build(ctx context.Context, all []dest.Dest, known, now map[segment.TargetID]bool) ([]uploader.Target, error) {
	var built []uploader.Target
	checks := make([]error, len(all))
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, d := range all {
		t, err := d.Build(ctx, dest.Env{Data: h.opt.data, Known: known[d.ID], Getenv: os.Getenv, Version: versionOf().Version, Sums: &h.sums, Log: h.log})
		if err != nil {
			return built, err
		}
		built = append(built, t)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, checkTime)
			defer cancel()
			checks[i] = t.Check(ctx)
		})
	}
	wg.Wait()
	for i, err := range checks {
		if err == nil {
			continue
		}
		if kind := failure.KindOf(err); now[all[i].ID] && (kind == failure.NeedsHuman || kind == failure.Permanent) {
			return built, fmt.Errorf("target refuses: %w", err)
		}
		ev := h.log.Warn().Err(err).Str("target", string(all[i].ID))
		if hint := failure.Hint(err); hint != "" {
			ev = ev.Str("hint", hint)
		}
		ev.Msg("target cannot be reached, its parts wait on the disk and it is tried again")
	}
	return built, nil
}

// aim puts other targets in the place of those of before.
func (h *house) aim(run []segment.Destination, targets []uploader.Destination, dests []dest.Dest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run, h.targets, h.dests = run, targets, dests
}

// aims are the targets of the run.
func (h *house) aims() []segment.Destination {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.run
}

// keepLogin looks after the login of a target that has one which wants to be renewed in time, until ctx ends.
func (h *house) keepLogin(ctx context.Context, t uploader.Target) {
	keeper, ok := t.(supervise.Service)
	if !ok {
		return
	}
	if err := supervise.Guard(ctx, keeper); err != nil && ctx.Err() == nil {
		h.log.Error().Err(err).Str("target", string(t.ID())).Msg("the login is not looked after any more")
	}
}
