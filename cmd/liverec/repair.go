package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/recorder/mend"
)

func repairFlags() []cli.Flag {
	return []cli.Flag{jsonFlag(), text("out", "", "folder for the repaired copies (default: beside each file)")}
}

// repairFiles writes repaired copies of recordings. It exits 1 if one of them has none.
func repairFiles(c *cli.Context, std streams) error {
	_, err := globals(c)
	if err == nil {
		err = only(c, 1, -1, "a file")
	}
	if err != nil {
		return err
	}
	out := c.String("out")
	if c.IsSet("out") && out == "" || strings.ContainsRune(out, 0) {
		return usagef("%s: it is empty, or no name of a folder; name one such as ./repaired", label(c, "out"))
	}
	seen := map[string]bool{}
	for _, name := range c.Args().Slice() {
		if name == "" {
			return usagef("liverec repair: the name of a file is empty; right would be `liverec repair FILE...`")
		}
		if seen[name] {
			return usagef("liverec repair: %s is named twice", clip(name))
		}
		seen[name] = true
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	reports, bad, hint := []mend.Report{}, 0, ""
	for _, name := range c.Args().Slice() {
		r, err := mend.File(ctx, name, mend.Options{Dir: out})
		if err != nil {
			bad++
			hint = failure.Hint(err)
		}
		reports = append(reports, r)
		if !c.Bool("json") {
			if err := printRepair(std.out, r); err != nil {
				return err
			}
		}
		if errors.Is(err, context.Canceled) {
			break
		}
	}
	if c.Bool("json") {
		if err := writeJSON(std.out, map[string]any{"format": "liverec-repair/1", "ok": bad == 0, "files": reports}); err != nil {
			return err
		}
	}
	if bad == 1 {
		for _, r := range reports {
			if r.Error != "" {
				msg := "liverec: " + oneLine(r.File+" could not be repaired: "+r.Error)
				if hint != "" {
					msg += "\n  " + oneLine(hint)
				}
				return &exitStatus{exitError, msg}
			}
		}
	}
	if bad > 0 {
		return &exitStatus{exitError, fmt.Sprintf("liverec: %d of %d files could not be repaired", bad, c.NArg())}
	}
	return nil
}

func printRepair(w io.Writer, r mend.Report) error {
	var b strings.Builder
	kind := map[string]string{"flv": "FLV", "mp4": "MP4", "ts": "MPEG-TS"}[r.Container]
	fmt.Fprintf(&b, "%s: %s, %s\n", naming.Line(r.File), or(kind, "no recording"), status.Size(r.Size))
	if r.Sound && r.Error == "" {
		fmt.Fprintln(&b, "  sound    nothing is wrong with it")
	}
	for _, f := range r.Wrong {
		times := ""
		if f.Times > 1 {
			times = fmt.Sprintf(" (%d times)", f.Times)
		}
		fmt.Fprintf(&b, "  wrong    at byte %d: %s%s\n", f.At, naming.Line(f.What), times)
	}
	for _, d := range r.Done {
		fmt.Fprintf(&b, "  done     part %d at %s: %s\n", d.Part, clock(time.Duration(d.AtMS)*time.Millisecond), naming.Line(d.What))
	}
	for _, l := range r.Left {
		fmt.Fprintf(&b, "  left     %s\n", naming.Line(l))
	}
	for _, p := range r.Parts {
		fmt.Fprintf(&b, "  wrote    %s: %s, %s, %d pictures, %d frames of sound\n", naming.Line(p.Path), status.Size(p.Size),
			clock((time.Duration(p.DurationMS) * time.Millisecond).Round(time.Second)), p.VideoFrames, p.AudioFrames)
	}
	if r.Error != "" {
		fmt.Fprintf(&b, "  failed   %s\n", oneLine(r.Error))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
