package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/bilibili"
	"github.com/liverec/liverec/uploader/dest"
)

// configName is the config file that is taken where none is named.
const configName = "liverec.toml"

func serveFlags() []cli.Flag {
	return []cli.Flag{
		text("config", "", "the config file (default ./"+configName+" if there is one)"),
		&cli.StringFlag{Name: "check", Usage: "read a config file, say what is wrong with it, and exit"},
		&cli.BoolFlag{Name: "schema", Usage: "print the JSON schema of the config file, and exit"},
		&cli.BoolFlag{Name: "test-notify", Usage: "send a test message to everybody in [[notify]], and exit"},
	}
}

// serve is `record` for all rooms of a config file, with the page, the API and the metrics.
func serve(c *cli.Context, std streams) error {
	opt, err := globals(c)
	if err == nil {
		err = only(c, 0, 0, "")
	}
	if err != nil {
		return err
	}
	if c.Bool("schema") {
		b, err := config.Schema()
		if err != nil {
			return fmt.Errorf("make the schema of the config file: %w", err)
		}
		_, err = std.out.Write(b)
		return err
	}
	if c.IsSet("check") {
		return checkConfig(c.String("check"), std)
	}
	file, err := configFile(c)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(file)
	if err != nil {
		return usagef("%v", err)
	}
	if c.Bool("test-notify") {
		return testNotify(cfg, std)
	}
	set := func(name string) bool { return c.IsSet(name) }
	return runServe(c.Context, opt, set, file, cfg, std)
}

// configFile is the absolute path of the config file: as it was named, or the one in this folder, which need not be
// there.
func configFile(c *cli.Context) (string, error) {
	name := c.String("config")
	if c.IsSet("config") && name == "" {
		return "", usagef("%s: it is empty; name a file such as ./%s", label(c, "config"), configName)
	}
	if name == "" {
		name = configName
	}
	file, err := filepath.Abs(name)
	if err != nil {
		return "", fmt.Errorf("find the config file %s: %w", name, err)
	}
	if _, err := os.Stat(file); c.IsSet("config") && errors.Is(err, fs.ErrNotExist) {
		return "", usagef("%s: there is no file %s", label(c, "config"), clip(file))
	}
	return file, nil
}

// loadConfig reads the file. If there is none, a service has no room but those of the page.
func loadConfig(file string) (config.Config, error) {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		cfg, err := config.Default(filepath.Dir(file), checks())
		cfg.File = file // where it would be
		return cfg, err
	}
	return config.Load(file, checks())
}

// checks are the questions of the config that only this program can answer.
func checks() config.Checks {
	return config.Checks{
		Destination: func(spec, base string) (string, bool, error) {
			d, err := dest.Parse(spec, base)
			id := string(d.ID)
			if s := d.Submission; s != nil { // one account can be several targets
				id += fmt.Sprintf(" %d %d %t", s.TID, s.Copyright, s.Private)
			}
			return id, d.Required, err
		},
		Room: func(url string) (string, string, error) {
			r, err := checkRoom(url)
			return string(r.ID), r.Name, err
		},
		Hosts: func(patterns string) error {
			_, err := bilibili.ParseGlobs(patterns)
			return err
		},
		Notify: checkNotify,
	}
}

// checkConfig is --check: everything that is wrong, a line each.
func checkConfig(file string, std streams) error {
	if file == "" {
		return usagef("--check: it is empty; name a file such as ./%s", configName)
	}
	cfg, err := config.Load(file, checks())
	if all, ok := errors.AsType[config.Errors](err); ok {
		lines := make([]string, len(all))
		for i, e := range all {
			lines[i] = oneLine(e.Error())
		}
		return &exitStatus{exitError, strings.Join(lines, "\n")}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s: ok, %d %s, %d %s\n", file, len(cfg.Rooms), word1(len(cfg.Rooms), "room"), len(cfg.Targets), word1(len(cfg.Targets), "target"))
	return err
}

// settle lays the config under the flags: what was said on the command line or in the environment counts.
func (o *options) settle(cfg config.Config, set func(flag string) bool) {
	if cfg.Data != "" && !set("data") {
		o.data = cfg.Data
	}
	if cfg.LogLevel != "" && !set("log-level") {
		o.logLevel = cfg.LogLevel
	}
	if cfg.LogFormat != "" && !set("log-format") {
		o.logFormat = cfg.LogFormat
	}
	o.uploads, o.rate, o.keep, o.keepSet = cfg.Uploads, cfg.LimitRate, cfg.Keep, cfg.KeepSet
	o.minFree, o.stopFree, o.stopGrace, o.accept = cfg.MinFree, cfg.StopFree, cfg.StopGrace, cfg.AcceptCopy
	o.maxSize = cfg.Defaults.MaxSize
	for _, r := range cfg.Rooms {
		o.maxSize = max(o.maxSize, r.MaxSize)
	}
	o.title, o.name = cfg.Defaults.Title, cfg.Defaults.Folder
	o.sites.cookies = cfg.BilibiliCookies
}

// roomOptionsOf are those of a room of the config.
func roomOptionsOf(r config.Room) (roomOptions, error) {
	o := roomOptions{segment: r.Segment, maxSize: r.MaxSize, quality: r.Quality, holder: recorder.Container(r.Container), ads: r.Ads == "keep",
		grace: r.Grace, name: r.Folder, title: r.Title, sites: siteOptions{codec: r.BilibiliCodec, original: r.BilibiliOriginal}}
	var err error
	if o.sites.allow, err = bilibili.ParseGlobs(r.BilibiliAllowHosts); err != nil {
		return o, err
	}
	o.sites.ban, err = bilibili.ParseGlobs(r.BilibiliBanHosts)
	return o, err
}

// destinations are the targets of a config, in its order, by their names.
func (o options) destinations(cfg config.Config, before []string) (names []string, ds []dest.Dest, err error) {
	// Of two targets of one account the first one keeps the name that the ledger knows it by: those of before stand first.
	for _, n := range before {
		if _, ok := cfg.Target(n); ok {
			names = append(names, n)
		}
	}
	for _, t := range cfg.Targets {
		if !contains(names, t.Name) {
			names = append(names, t.Name)
		}
	}
	var specs []string
	for _, n := range names {
		t, _ := cfg.Target(n)
		specs = append(specs, t.To)
	}
	ds, err = dest.ParseAll(specs, cfg.Base())
	return names, ds, err
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func runServe(ctx context.Context, opt options, set func(string) bool, file string, cfg config.Config, std streams) error {
	flags := opt
	opt.settle(cfg, set)
	opt.noProgress = true // a service has the page
	log, _, err := logger(opt, std)
	if err != nil {
		return err
	}
	again := make(chan struct{}, 1) // SIGHUP
	soft, hard, done := signals(ctx,
		func() {
			log.Info().Str("grace", opt.stopGrace.String()).Msg("stopping: open parts are closed, uploads in flight are finished; once more to leave at once")
		},
		func() { log.Warn().Msg("leaving at once; the next start goes on with what is left") },
		func() {
			select {
			case again <- struct{}{}:
			default: // one reading serves both
			}
		})
	defer done()
	h, err := open(soft, opt, std, log, nil)
	if err != nil {
		return err
	}
	h.zone.Store(cfg.Zone)
	began := time.Now()
	svc := &service{h: h, flags: flags, set: set, file: file, again: again, manager: newManager(os.Getenv)}
	if err := svc.furnish(soft, cfg); err != nil {
		return h.leave(soft, err)
	}
	if err := svc.prepare(soft); err != nil {
		return h.leave(soft, err)
	}
	res, err := svc.run(soft, hard)
	bs := h.since(began)
	code, msg := h.outcome(res, bs, err)
	h.part(hard)
	if code == exitOK && msg == "" {
		return nil
	}
	return &exitStatus{code, msg}
}
