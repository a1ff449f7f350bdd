package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

func demoFlags() []cli.Flag {
	return []cli.Flag{
		text("dir", "./liverec-demo", "folder for the demo's archive and data"),
		text("length", "35s", "how long the built-in room is live"),
	}
}

// demo runs the code of `record` against a built-in room on loopback.
func demo(c *cli.Context, std streams) error {
	opt, err := globals(c)
	if err == nil {
		err = only(c, 0, 0, "")
	}
	if err != nil {
		return err
	}
	length, err := duration(c, "length", 5*time.Second, time.Hour)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(c.String("dir"))
	if err != nil || c.String("dir") == "" {
		return usagef("--dir: %q is not a folder such as ./liverec-demo", clip(c.String("dir")))
	}
	if !c.IsSet("data") {
		opt.data = filepath.Join(dir, "data")
	}
	archive := filepath.Join(dir, "archive")
	name, err := naming.Parse(naming.DefaultName)
	if err != nil {
		return err
	}
	opt.segment, opt.maxSize, opt.grace, opt.once, opt.uploads, opt.stopGrace, opt.stopFree = 10*time.Second, 4<<30, 10*time.Second, true, 3, 20*time.Second, 64<<20
	opt.minFree, opt.name, opt.to = 256<<20, name, []string{"file:" + archive}
	ds, err := parseDests(opt.to)
	if err != nil {
		return err
	}
	room, err := liveroom.New(liveroom.Config{Duration: length, Bitrate: 2_000_000})
	if err != nil {
		return fmt.Errorf("make the demo's room: %w", err)
	}
	srv, err := room.Listen(c.Context)
	if err != nil {
		return fmt.Errorf("open the demo's room: %w", err)
	}
	defer srv.Close()
	watch, err := findRoom(srv.URL, opt)
	if err != nil {
		return err
	}
	watch.room.Name = "demo"
	fmt.Fprintf(std.err, "A built-in room is live on %s for %s.\nIt is recorded in parts of 10 s into %s; nothing leaves this machine.\n\n", srv.URL, status.Span(length), archive)
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	room.Start(ctx)
	began := time.Now()
	var end string
	err = runRecord(c.Context, opt, std, ds, []watched{watch}, func(res pipeline.Result, bs []segment.Broadcast) {
		end = demoEnd(res, bs, archive, opt.data, time.Since(began), room.Next())
	})
	if s, ok := errors.AsType[*exitStatus](err); err == nil || ok && s.code == exitUnsafe {
		fmt.Fprint(std.out, end)
	}
	return err
}

func demoEnd(res pipeline.Result, bs []segment.Broadcast, archive, data string, took time.Duration, sent uint64) string {
	if len(bs) == 0 {
		return "Nothing was recorded.\n"
	}
	b := bs[len(bs)-1]
	r := status.MakeReport(b)
	var frames, size int64
	for _, s := range b.Segments {
		frames += s.VideoFrames
		size += s.Size
	}
	folder := filepath.Join(archive, filepath.FromSlash(b.Session.Name))
	var o strings.Builder
	fmt.Fprintf(&o, "\n%s, in %s.\n\n", r, status.Span(took.Round(time.Second)))
	fmt.Fprintf(&o, "What happened\n")
	fmt.Fprintf(&o, "  the room sent %d pictures, %d stand in the archive, in %d parts (%s)\n", sent, frames, r.Parts, status.Size(size))
	fmt.Fprintf(&o, "  each part was proven in the archive and only then taken off the data folder: %s are left there\n", status.Size(res.Unsafe))
	fmt.Fprintf(&o, "\nLook at\n")
	fmt.Fprintf(&o, "  %s\n", show(folder))
	fmt.Fprintf(&o, "      P0001.flv …    play with any player: mpv, VLC, ffplay\n")
	fmt.Fprintf(&o, "      manifest.json  parts with their SHA-256, gaps, the balance of frames\n")
	fmt.Fprintf(&o, "  liverec --data %s status --parts\n", show(data))
	fmt.Fprintf(&o, "  liverec --data %s verify %s\n", show(data), b.Session.ID)
	fmt.Fprintf(&o, "\nThen: liverec record URL, for a room of your own. Try it with kill -9 in the middle.\n")
	return o.String()
}

// show is a path as a person would type it from here.
func show(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") {
			path = "./" + rel
		}
	}
	if strings.ContainsAny(path, " '\"$\\") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
