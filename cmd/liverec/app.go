package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/naming"
)

// Exit statuses of the contract.
const (
	exitOK     = 0
	exitError  = 1
	exitUsage  = 2
	exitUnsafe = 3 // media lies on the disk that is safe nowhere else
	exitGaps   = 4 // --strict
)

// exitStatus ends a command with a status of its own; msg, if any, goes to stderr.
type exitStatus struct {
	code int
	msg  string
}

func (e *exitStatus) Error() string { return e.msg }

// streams are the standard streams of the process.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Main runs liverec and returns its exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	std := streams{stdin, stdout, stderr}
	app := newApp(std)
	sorted, err := sortArgs(app, args)
	if err == nil {
		err = app.RunContext(context.Background(), sorted)
	}
	return finish(stderr, err)
}

// finish prints what has to be said of err and gives the exit status.
func finish(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if s, ok := errors.AsType[*exitStatus](err); ok {
		if s.msg != "" {
			fmt.Fprintln(stderr, s.msg)
		}
		return s.code
	}
	if u, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintln(stderr, "liverec: "+oneLine(u.msg))
		return exitUsage
	}
	fmt.Fprintln(stderr, "liverec: "+oneLine(err.Error()))
	if hint := failure.Hint(err); hint != "" {
		fmt.Fprintln(stderr, "  "+oneLine(hint))
	}
	return exitError
}

// oneLine makes a message one line that a person can read, whatever was typed.
func oneLine(s string) string {
	s = naming.Line(strings.Join(strings.Fields(s), " "))
	const most, head = 400, 240
	if r := []rune(s); len(r) > most {
		s = string(r[:head]) + " … " + string(r[len(r)-(most-head-3):])
	}
	return s
}

func helpFlag() cli.Flag {
	return &cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show help", DisableDefaultText: true}
}

func newApp(std streams) *cli.App {
	app := &cli.App{
		Name:                      "liverec",
		Usage:                     "record live streams, send them away while they grow, prove every copy, free the disk",
		UsageText:                 "liverec COMMAND [flags] [arguments]\n\nliverec demo                                  see it work, no network needed\nliverec record http://host/live.flv           record into ./liverec-archive\nliverec record URL --to s3://bucket/live?endpoint=http://127.0.0.1:9000",
		HideVersion:               true,
		HideHelp:                  true, // the library's flag is one for all runs of a process; ours is one for each
		Flags:                     []cli.Flag{helpFlag()},
		Writer:                    std.out,
		ErrWriter:                 std.err,
		Reader:                    std.in,
		DisableSliceFlagSeparator: true, // a destination may hold a comma
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return usagef("%v", err) },
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("%q is not a command; `liverec help` lists the commands", clip(c.Args().First()))
			}
			return cli.ShowAppHelp(c)
		},
	}
	add := func(name, args, usage string, flags []cli.Flag, run func(*cli.Context, streams) error) {
		app.Commands = append(app.Commands, &cli.Command{
			Name: name, ArgsUsage: args, Usage: usage, Flags: append(append(flags, globalFlags()...), helpFlag()), HideHelp: true,
			OnUsageError: func(_ *cli.Context, err error, _ bool) error { return usagef("%v", err) },
			Action:       func(c *cli.Context) error { return run(c, std) },
		})
	}
	add("record", "ROOM-URL", "record a room whenever it is live; runs until it is stopped", recordFlags(), record)
	add("serve", "", "all rooms of a config file, with a page, an API and metrics; runs until it is stopped", serveFlags(), serve)
	add("demo", "", "the whole pipeline in about a minute, with no network and no account", demoFlags(), demo)
	add("probe", "ROOM-URL", "what would be recorded now", append([]cli.Flag{jsonFlag()}, siteFlags()...), probe)
	add("upload", "FILE...", "send existing recordings through the same transport", append(transferFlags(), uploadFlags()...), upload)
	add("resume", "", "finish everything that an earlier run left unsafe, then exit", append(transferFlags(), toggle("strict", "exit with 4 if a recording has gaps")), resume)
	add("status", "", "rooms, broadcasts, deliveries, unsafe bytes; also while another liverec runs", []cli.Flag{jsonFlag(), toggle("parts", "with every delivery and its proof")}, showStatus)
	for _, v := range []struct{ name, usage string }{
		{"pause", "close the open part of a running room and wait"},
		{"continue", "go on with a paused room"},
		{"split", "begin a new part at the next key frame"},
		{"stop", "end the recording of a running room"},
	} {
		add(v.name, "ROOM", v.usage, nil, command(v.name))
	}
	add("verify", "BROADCAST", "ask every target again whether each part is there and whole", []cli.Flag{jsonFlag(),
		toggle("deep", "read every copy back, compare its SHA-256 and the content hash of its media")}, verify)
	add("repair", "FILE...", "write a sound copy of a broken recording beside it: FLV, MP4, MPEG-TS", repairFlags(), repairFiles)
	add("login", "bilibili", "log in by a QR code; writes the cookie file", loginFlags(), login)
	add("orphans", "", "files below the data folder that the ledger does not know", []cli.Flag{jsonFlag()}, orphans)
	add("doctor", "[ROOM-URL]", "look at cookies, hosts, disk, clock, permissions and programs, and say what to do", doctorFlags(), doctor)
	add("version", "", "version, commit, Go version", []cli.Flag{jsonFlag()}, version)
	app.Commands = append(app.Commands, &cli.Command{Name: "help", Aliases: []string{"h"}, ArgsUsage: "[COMMAND]", Usage: "what there is, or what one command takes",
		HideHelp: true, Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return cli.ShowCommandHelp(c, name)
			}
			return cli.ShowAppHelp(c)
		}})
	return app
}

func jsonFlag() cli.Flag { return toggle("json", "as JSON") }

// only refuses arguments that a command does not have, and asks for those that it needs.
func only(c *cli.Context, least, most int, what string) error {
	switch n := c.NArg(); {
	case n < least:
		return usagef("liverec %s: %s is missing; right would be `liverec %s %s`", c.Command.Name, what, c.Command.Name, c.Command.ArgsUsage)
	case most >= 0 && n > most:
		return usagef("liverec %s: %q is one argument too many; right would be `liverec %s %s`", c.Command.Name, clip(c.Args().Get(most)), c.Command.Name, strings.TrimSpace(c.Command.ArgsUsage))
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// Version is set by the build (-ldflags "-X main.Version=…"); otherwise the module's own is told.
var Version = ""

type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func versionOf() versionInfo {
	v := versionInfo{Version: Version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if bi, ok := debug.ReadBuildInfo(); ok {
		if v.Version == "" {
			v.Version = bi.Main.Version
		}
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	if v.Commit == "" {
		v.Commit = Commit
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	if v.Commit == "" {
		v.Commit = "unknown"
	}
	return v
}

// Commit is set by the build where the version control is not at hand (a container).
var Commit = ""

func version(c *cli.Context, std streams) error {
	if err := only(c, 0, 0, ""); err != nil {
		return err
	}
	v := versionOf()
	if c.Bool("json") {
		return writeJSON(std.out, v)
	}
	_, err := fmt.Fprintf(std.out, "liverec %s\ncommit  %s\ngo      %s %s/%s\n", v.Version, v.Commit, v.Go, v.OS, v.Arch)
	return err
}
