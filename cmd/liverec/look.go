package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/ctl"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/bilibili"
	"github.com/liverec/liverec/uploader/dest"
)

// looker is what the commands that only read need of a ledger; the running process and a second one both have it.
type looker interface {
	Rooms(ctx context.Context) ([]status.RoomState, error)
	Broadcasts(ctx context.Context, limit int) ([]segment.Broadcast, error)
	Active(ctx context.Context) ([]segment.Broadcast, error)
	Targets(ctx context.Context) ([]segment.Destination, error)
}

// history is how many of the newest broadcasts a picture shows beside those that are not complete.
const history = 20

// picture draws the status from a ledger. Targets that have long nothing to do with any broadcast shown are left out,
// except those of the run.
func picture(ctx context.Context, l looker, run []segment.Destination, parts bool, disk status.Disk, now time.Time) (status.Status, error) {
	st, _, err := pictureOf(ctx, l, run, parts, disk, now)
	return st, err
}

// pictureOf is picture, with the broadcasts that are not complete, which cost the most of it.
func pictureOf(ctx context.Context, l looker, run []segment.Destination, parts bool, disk status.Disk, now time.Time) (st status.Status, active []segment.Broadcast, err error) {
	in := status.Input{Now: now, Disk: disk, WithParts: parts}
	if in.Rooms, err = l.Rooms(ctx); err != nil {
		return st, nil, err
	}
	newest, err := l.Broadcasts(ctx, history)
	if err != nil {
		return st, nil, err
	}
	if active, err = l.Active(ctx); err != nil {
		return st, nil, err
	}
	seen := map[segment.SessionID]bool{}
	for _, b := range newest {
		seen[b.Session.ID] = true
	}
	for _, b := range active { // older than the newest ones and still not complete
		if !seen[b.Session.ID] {
			in.Broadcasts = append(in.Broadcasts, b)
		}
	}
	in.Broadcasts = append(in.Broadcasts, newest...)
	all, err := l.Targets(ctx)
	if err != nil {
		return st, nil, err
	}
	used := map[segment.TargetID]bool{}
	for _, d := range run {
		used[d.ID] = true
	}
	for _, b := range in.Broadcasts {
		for t := range b.Deliveries {
			used[t] = true
		}
	}
	for _, d := range run {
		in.Destinations = append(in.Destinations, d)
	}
	for _, d := range all {
		mine := false
		for _, r := range run {
			mine = mine || r.ID == d.ID
		}
		if !mine && used[d.ID] {
			in.Destinations = append(in.Destinations, d)
		}
	}
	return status.Make(in), active, nil
}

func showStatus(c *cli.Context, std streams) error {
	opt, err := globals(c)
	if err == nil {
		err = only(c, 0, 0, "")
	}
	if err != nil {
		return err
	}
	st, err := lookAt(c.Context, opt, c.Bool("parts"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(std.out, st)
	}
	return printStatus(std, st)
}

// lookAt asks the running process if there is one, and reads the ledger otherwise.
func lookAt(ctx context.Context, opt options, parts bool) (status.Status, error) {
	if _, err := os.Stat(filepath.Join(opt.data, ctl.Name)); err == nil {
		if st, err := ctl.Dial(opt.data).Status(ctx, parts); err == nil {
			return st, nil
		}
	}
	disk := status.Disk{Step: string(pipeline.DiskOK)}
	if sp, err := pipeline.Statfs(opt.data)(); err == nil {
		disk = status.Disk{Free: sp.Free, MinFree: pipeline.DefaultMinFree(sp.Total), StopFree: pipeline.DefaultStopFree, Step: string(pipeline.DiskOK)}
	}
	r, err := ledger.OpenReader(opt.data)
	if errors.Is(err, ledger.ErrAbsent) {
		return status.Make(status.Input{Now: time.Now(), Disk: disk}), nil // nothing was ever recorded here
	}
	if err != nil {
		return status.Status{}, err
	}
	defer r.Close()
	st, err := picture(ctx, r, nil, parts, disk, time.Now())
	if err != nil {
		return st, err
	}
	if pid, since, ok := r.Running(); ok {
		st.Running = &status.Running{PID: pid, Since: status.Stamp(since)}
	} else {
		for i := range st.Rooms { // what a killed process said last is not true any more
			if s := st.Rooms[i].State; s == status.OnAir || s == status.Waiting {
				st.Rooms[i].State = status.Ended
			}
		}
	}
	return st, nil
}

func printStatus(std streams, st status.Status) error {
	var b strings.Builder
	switch {
	case st.Running != nil:
		fmt.Fprintf(&b, "process %d runs since %s\n", st.Running.PID, st.Running.Since)
	case len(st.Rooms) == 0:
		fmt.Fprintln(&b, "nothing was recorded with this data folder yet")
	default:
		fmt.Fprintln(&b, "no process is running")
	}
	p := paint(false)
	if _, ok := isTerminal(std.out); ok && os.Getenv("NO_COLOR") == "" {
		p = true
	}
	for _, r := range st.Rooms {
		fmt.Fprintln(&b, roomLine(r, 0, time.Now(), p))
		if r.Broadcast != "" {
			fmt.Fprintf(&b, "    broadcast %s, %s safe nowhere else\n", r.Broadcast, status.Size(r.UnsafeBytes))
		}
	}
	for _, t := range st.Targets {
		fmt.Fprintln(&b, "  "+targetLine(t, nil, p))
	}
	fmt.Fprintln(&b, diskLine(st, p))
	for _, part := range st.Parts {
		fmt.Fprintf(&b, "%s P%04d  %-9s %8s  %8s  cut %s\n", part.Broadcast, part.Seq, part.Local, clock(time.Duration(part.DurationMS)*time.Millisecond), status.Size(part.Size), part.Cut)
		for _, d := range part.Deliveries {
			proof := d.Error
			if d.Proof != nil {
				proof = d.Proof.How + " at " + status.Stamp(d.Proof.At)
			}
			fmt.Fprintf(&b, "    %-10s %s  %s\n", d.State, d.Target, proof)
		}
	}
	_, err := io.WriteString(std.out, b.String())
	return err
}

func command(verb string) func(*cli.Context, streams) error {
	return func(c *cli.Context, std streams) error {
		opt, err := globals(c)
		if err == nil {
			err = only(c, 1, 1, "the room")
		}
		if err != nil {
			return err
		}
		if _, _, ok := ledger.Running(opt.data); !ok {
			return &failure.Error{Op: "no liverec runs with the data folder " + opt.data, Kind: failure.NeedsHuman,
				Hint: "Name its folder with --data; `liverec status` tells what it knows."}
		}
		err = ctl.Dial(opt.data).Do(c.Context, c.Args().First(), segment.Verb(verb))
		if errors.Is(err, ctl.ErrNoRoom) {
			return &failure.Error{Op: clip(c.Args().First()), Kind: failure.NeedsHuman, Err: err, Hint: "`liverec status` lists the rooms; a room's name or its URL is right."}
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(std.out, "%s: %s\n", naming.Line(c.Args().First()), map[string]string{
			"pause": "pauses, its open part is closed", "continue": "goes on", "split": "begins a new part at the next key frame", "stop": "ends"}[verb])
		return err
	}
}

// orphan is a file below the data folder that the ledger does not know.
type orphan struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

func orphans(c *cli.Context, std streams) error {
	opt, err := globals(c)
	if err == nil {
		err = only(c, 0, 0, "")
	}
	if err != nil {
		return err
	}
	found := []orphan{}
	if _, err := os.Stat(opt.data); err == nil {
		if found, err = findOrphans(c.Context, opt); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return durable.Explain(opt.data, err)
	}
	if c.Bool("json") {
		return writeJSON(std.out, map[string]any{"format": "liverec-orphans/1", "data": opt.data, "orphans": found})
	}
	if len(found) == 0 {
		_, err = fmt.Fprintln(std.out, "no orphans: the ledger knows every file in", opt.data)
		return err
	}
	for _, o := range found {
		fmt.Fprintf(std.out, "%10s  %s\n", status.Size(o.Size), naming.Line(o.Path))
	}
	_, err = fmt.Fprintln(std.out, "liverec never removes these; `liverec upload FILE --to DEST` sends one.")
	return err
}

func findOrphans(ctx context.Context, opt options) ([]orphan, error) {
	dir, err := durable.Open(opt.data, nil)
	if err != nil {
		return nil, durable.Explain(opt.data, err)
	}
	defer dir.Close()
	// The files first: one that appears or goes while the ledger is being read is none.
	names, err := dir.List(".")
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	r, err := ledger.OpenReader(opt.data)
	if err == nil {
		defer r.Close()
		paths, err := r.Paths(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			known[p] = true
		}
	} else if !errors.Is(err, ledger.ErrAbsent) {
		return nil, err
	}
	found := []orphan{}
	for _, n := range names {
		if known[n] || ledger.Own(n) || n == ctl.Name || n == toldName {
			continue
		}
		fi, err := dir.Stat(n)
		if err != nil {
			continue // gone meanwhile
		}
		found = append(found, orphan{n, fi.Size()})
	}
	return found, nil
}

// checked is one part on one target, asked anew.
type checked struct {
	Seq    uint32         `json:"seq"`
	Target string         `json:"target"`
	Key    string         `json:"key"`
	OK     bool           `json:"ok"`
	Answer string         `json:"answer"` // ok, absent, damaged, could not ask, not sent yet
	Error  string         `json:"error,omitempty"`
	Proof  *segment.Proof `json:"proof"`
	// Content is the running hash over the media of the copy, made anew (--deep).
	Content string `json:"content,omitempty"`
}

func verify(c *cli.Context, std streams) error {
	opt, err := globals(c)
	if err == nil {
		err = only(c, 1, 1, "the broadcast (its id, or the beginning of it)")
	}
	if err != nil {
		return err
	}
	r, err := ledger.OpenReader(opt.data)
	if err != nil {
		return &failure.Error{Op: "open the ledger in " + opt.data, Kind: failure.NeedsHuman, Err: err, Hint: "Name the data folder with --data."}
	}
	defer r.Close()
	b, err := r.Find(c.Context, c.Args().First())
	if err != nil {
		return &failure.Error{Op: "find broadcast " + clip(c.Args().First()), Kind: failure.NeedsHuman, Err: err, Hint: "`liverec status` shows the ids."}
	}
	effort := dest.Strong
	if c.Bool("deep") {
		effort = dest.Full
	}
	all, err := r.Targets(c.Context)
	if err != nil {
		return err
	}
	results, bad := []checked{}, 0
	for _, d := range all {
		ds := b.Deliveries[d.ID]
		if len(ds) == 0 {
			continue
		}
		parsed, err := dest.Parse(d.Spec, "/")
		var target uploader.Target
		if err == nil {
			parsed.ID = d.ID
			target, err = parsed.Build(c.Context, dest.Env{Data: opt.data, Known: true, Effort: effort, Getenv: os.Getenv, Version: versionOf().Version})
		}
		shown := &shownBy{b: b, dest: parsed, target: target}
		for _, del := range ds {
			if !del.Segment.Sealed {
				continue // it is being recorded: there is nothing yet that could be whole
			}
			res := checkOne(c.Context, target, del, err, shown)
			if res.OK && effort == dest.Full {
				compareContent(c.Context, target, del, &res)
			}
			if !res.OK {
				bad++
			}
			results = append(results, res)
			if !c.Bool("json") {
				printChecked(std.out, res)
			}
		}
		if cl, ok := target.(io.Closer); ok {
			cl.Close()
		}
	}
	if c.Bool("json") {
		if err := writeJSON(std.out, map[string]any{"format": "liverec-verify/1", "broadcast": b.Session.ID, "ok": bad == 0 && len(results) > 0, "parts": results}); err != nil {
			return err
		}
	} else if bad == 0 {
		fmt.Fprintf(std.out, "broadcast %s: %d copies asked for, all there and whole\n", b.Session.ID, len(results))
	}
	if bad > 0 {
		return &exitStatus{exitError, fmt.Sprintf("liverec: %d of %d copies of broadcast %s are not proven", bad, len(results), b.Session.ID)}
	}
	if len(results) == 0 {
		return &exitStatus{exitError, fmt.Sprintf("liverec: broadcast %s has no part on any target", b.Session.ID)}
	}
	return nil
}

func checkOne(ctx context.Context, t uploader.Target, d segment.Delivery, broken error, shown *shownBy) checked {
	res := checked{Seq: d.Segment.ID.Seq, Target: string(d.Target), Key: d.Key, Answer: "could not ask"}
	if d.State != segment.Verified && d.State != segment.Committed {
		res.Answer = "not sent yet"
		return res
	}
	if broken != nil {
		res.Error = broken.Error()
		return res
	}
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	p, err := uploader.Verify(ctx, t, d)
	if errors.Is(err, bilibili.ErrOld) {
		p, err = shown.ask(ctx, d)
	}
	switch {
	case err == nil:
		res.OK, res.Answer, res.Proof = true, "ok", &p
	case errors.Is(err, failure.ErrAbsent):
		res.Answer = "absent"
	case errors.Is(err, failure.ErrDamaged):
		res.Answer = "damaged"
	}
	if err != nil {
		res.Error = err.Error()
	}
	return res
}

func printChecked(w io.Writer, r checked) {
	if r.OK {
		fmt.Fprintf(w, "ok       P%04d on %s: %s\n", r.Seq, r.Target, r.Proof.How)
		return
	}
	fmt.Fprintf(w, "%-8s P%04d on %s as %s %s\n", strings.ToUpper(r.Answer), r.Seq, r.Target, r.Key, r.Error)
}
