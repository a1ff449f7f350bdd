package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/recorder"
)

// env is the variable that stands for a flag.
func env(flag string) []string {
	return []string{"LIVEREC_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

func text(name, value, usage string) *cli.StringFlag {
	return &cli.StringFlag{Name: name, Value: value, Usage: usage, EnvVars: env(name)}
}

func toggle(name, usage string) *cli.BoolFlag {
	return &cli.BoolFlag{Name: name, Usage: usage, EnvVars: env(name)}
}

// globalFlags stand before or behind any command.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		text("data", "./liverec-data", "folder for the ledger and for media that is not safe elsewhere yet"),
		text("log-level", "info", "trace, debug, info, warn or error"),
		text("log-format", "", "text or json (text on a terminal, json otherwise)"),
		toggle("no-progress", "plain log lines on a terminal too"),
	}
}

func destFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "to", Usage: "where parts go, may be repeated: a folder, file:PATH, s3://BUCKET/PREFIX?endpoint=URL&region=NAME, bilibili:?cookies=FILE; with required=false a copy that nothing waits for", EnvVars: env("to")}
}

// transferFlags are those of every command that sends.
func transferFlags() []cli.Flag {
	return []cli.Flag{
		destFlag(),
		text("uploads", "3", "most chunks in flight per target"),
		text("limit-rate", "0", "upload limit in bit/s (20M), or a timetable (\"08:00,5M 23:00,off\")"),
		text("keep", "0s", "how long a part stays on the local disk after it is safe"),
		text("min-free", "20GiB", "below it safe parts are freed at once and an alert is given (default at most a tenth of the disk)"),
		text("stop-free", "1GiB", "below it recording pauses until twice that is free"),
		text("stop-grace", "20s", "how long a stop waits for uploads in flight"),
		toggle("accept-copy", "after the ledger was found damaged: go on with what its newest good copy knows"),
	}
}

func recordFlags() []cli.Flag {
	own := []cli.Flag{
		destFlag(),
		text("segment", "15m", "media time of a part"),
		text("max-size", "4GiB", "a part never grows beyond it"),
		text("quality", "auto", "best, worst, a height (720), a name that the room offers, or auto: the best that line and disk keep up with"),
		text("container", "auto", "flv, mp4, ts, or auto: FLV for H.264 and AAC that come as FLV, MP4 for everything else"),
		text("ads", "skip", "skip: a stretch that a playlist marks as advertising is left out and is a gap; keep: it is recorded"),
		toggle("once", "exit after one broadcast has ended and everything is verified and freed"),
		text("grace", "60s", "how long a source may be away before the broadcast counts as ended"),
		text("name", naming.DefaultName, "remote folder of a broadcast; fields: {site} {room} {streamer} {title} {date} {time}"),
		text("title", naming.DefaultTitle, "title of a submission; same fields"),
		toggle("strict", "exit with 4 if the recording has gaps"),
	}
	return append(append(own, siteFlags()...), transferFlags()[1:]...)
}

// options are the flags of a command, checked.
type options struct {
	data       string
	logLevel   string
	logFormat  string
	noProgress bool

	to        []string
	uploads   int
	rate      limit.Table
	keep      time.Duration
	keepSet   bool
	minFree   int64 // 0: by the size of the disk
	stopFree  int64
	stopGrace time.Duration
	accept    bool

	roomOptions
	once   bool
	strict bool
}

// roomOptions say how one room is recorded.
type roomOptions struct {
	segment time.Duration
	maxSize int64
	quality string
	holder  recorder.Container
	ads     bool // are kept
	grace   time.Duration
	name    naming.Template // the remote folder of a broadcast
	title   naming.Template // of a submission
	sites   siteOptions
}

// label names a flag in an error: by itself, or by the variable that set it.
func label(c *cli.Context, name string) string {
	v := env(name)[0]
	if val, ok := os.LookupEnv(v); ok && val == c.String(name) && val != "" {
		return "--" + name + " (from $" + v + ")"
	}
	return "--" + name
}

func globals(c *cli.Context) (options, error) {
	o := options{data: c.String("data"), logLevel: c.String("log-level"), logFormat: c.String("log-format"), noProgress: c.Bool("no-progress")}
	switch o.logLevel {
	case "trace", "debug", "info", "warn", "error":
	default:
		return o, usagef("%s: %q is not a level; use trace, debug, info, warn or error", label(c, "log-level"), clip(o.logLevel))
	}
	switch o.logFormat {
	case "", "text", "json":
	default:
		return o, usagef("%s: %q is not a format; use text or json", label(c, "log-format"), clip(o.logFormat))
	}
	if o.data == "" {
		return o, usagef("%s: it is empty; name a folder such as ./liverec-data", label(c, "data"))
	}
	if strings.ContainsRune(o.data, 0) {
		return o, usagef("%s: a folder's name cannot hold a NUL", label(c, "data"))
	}
	abs, err := filepath.Abs(o.data)
	if err != nil {
		return o, fmt.Errorf("find the data folder %s: %w", o.data, err)
	}
	o.data = abs
	return o, nil
}

func transfer(c *cli.Context) (options, error) {
	o, err := globals(c)
	if err != nil {
		return o, err
	}
	o.to = destinations(c.StringSlice("to"))
	if o.uploads, err = strconv.Atoi(c.String("uploads")); err != nil || o.uploads < 1 || o.uploads > 64 {
		return o, usagef("%s: %q is not a number from 1 to 64", label(c, "uploads"), clip(c.String("uploads")))
	}
	if o.rate, err = limit.ParseTable(c.String("limit-rate")); err != nil {
		return o, usagef("%s: %v; right would be 20M, or \"08:00,5M 23:00,off\"", label(c, "limit-rate"), err)
	}
	if o.keep, err = duration(c, "keep", 0, 10*365*24*time.Hour); err != nil {
		return o, err
	}
	o.keepSet = c.IsSet("keep")
	if c.IsSet("min-free") {
		if o.minFree, err = size(c, "min-free", 1, math.MaxInt64); err != nil {
			return o, err
		}
	}
	if o.stopFree, err = size(c, "stop-free", 0, math.MaxInt64); err != nil {
		return o, err
	}
	if o.minFree > 0 && o.minFree < o.stopFree {
		return o, usagef("--min-free: %s is less than --stop-free %s; it must be at least that", c.String("min-free"), c.String("stop-free"))
	}
	o.accept = c.Bool("accept-copy")
	o.stopGrace, err = duration(c, "stop-grace", 0, 24*time.Hour)
	return o, err
}

func recording(c *cli.Context) (options, error) {
	o, err := transfer(c)
	if err != nil {
		return o, err
	}
	if o.segment, err = duration(c, "segment", time.Second, 24*time.Hour); err != nil {
		return o, err
	}
	if o.maxSize, err = size(c, "max-size", 1<<20, 5<<40); err != nil {
		return o, err
	}
	if o.grace, err = duration(c, "grace", 0, 7*24*time.Hour); err != nil {
		return o, err
	}
	if o.quality = strings.TrimSpace(c.String("quality")); o.quality == "" || strings.ContainsFunc(o.quality, unicode.IsControl) {
		return o, usagef("%s: %q is no quality; use auto, best, worst, a height such as 720, or a name that liverec probe shows", label(c, "quality"), clip(o.quality))
	}
	if o.holder = recorder.Container(c.String("container")); o.holder.Check() != nil || o.holder == "" {
		return o, usagef("%s: %q is not a container; use auto, flv, mp4 or ts", label(c, "container"), clip(string(o.holder)))
	}
	switch ads := c.String("ads"); ads {
	case "skip":
	case "keep":
		o.ads = true
	default:
		return o, usagef("%s: %q is neither skip nor keep", label(c, "ads"), clip(ads))
	}
	if o.name, err = naming.Parse(c.String("name")); err != nil {
		return o, usagef("%s: %v", label(c, "name"), err)
	}
	if o.title, err = naming.Parse(c.String("title")); err != nil {
		return o, usagef("%s: %v", label(c, "title"), err)
	}
	o.once, o.strict = c.Bool("once"), c.Bool("strict")
	o.sites, err = readSites(c)
	return o, err
}

// destinations takes what was given by --to; one environment variable may hold several, separated by white space before
// something that looks like a destination of its own.
func destinations(given []string) []string {
	var out []string
	for _, g := range given {
		for _, line := range strings.Split(g, "\n") {
			var cur string
			for _, w := range strings.Split(line, " ") {
				if cur != "" && looksLikeDest(w) {
					out = append(out, strings.TrimSpace(cur))
					cur = w
				} else if cur == "" {
					cur = w
				} else {
					cur += " " + w
				}
			}
			if strings.TrimSpace(cur) != "" || line == "" && g == "" {
				out = append(out, strings.TrimSpace(cur))
			}
		}
	}
	return out
}

func looksLikeDest(w string) bool {
	for _, p := range []string{"file:", "s3:", "webdav+", "sftp:", "rclone:", "bilibili:"} {
		if strings.HasPrefix(w, p) {
			return true
		}
	}
	return false
}

func duration(c *cli.Context, name string, low, high time.Duration) (time.Duration, error) {
	s := c.String(name)
	d, err := time.ParseDuration(s)
	if err != nil && s == "0" {
		d, err = 0, nil
	}
	switch {
	case err != nil:
		return 0, usagef("%s: %q is not a duration such as 15m, 90s or 1h30m", label(c, name), clip(s))
	case d < low || d > high:
		return 0, usagef("%s: %q is out of range; use %v to %v", label(c, name), clip(s), low, high)
	}
	return d, nil
}

func size(c *cli.Context, name string, low, high int64) (int64, error) {
	s := c.String(name)
	n, err := config.ParseSize(s)
	switch {
	case err != nil:
		return 0, usagef("%s: %q is not a size such as 4GiB, 500MB or 1048576", label(c, name), clip(s))
	case n < low || n > high:
		return 0, usagef("%s: %q is out of range; use at least %d bytes and at most %d", label(c, name), clip(s), low, high)
	}
	return n, nil
}
