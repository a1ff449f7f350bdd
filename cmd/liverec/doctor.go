package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/ctl"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/uploader/dest"
)

func doctorFlags() []cli.Flag {
	own := []cli.Flag{
		text("config", "", "the config file of `liverec serve` (default ./"+configName+" if there is one)"),
		destFlag(),
		jsonFlag(),
		text("min-free", "20GiB", "as for record"),
		text("stop-free", "1GiB", "as for record"),
		toggle("live", "ask only whether a liverec runs on the data folder and answers; for the health check of a container"),
	}
	return append(own, siteFlags()[0])
}

// The states of a check.
const (
	checkOK   = "ok"
	checkWarn = "warn"
	checkBad  = "bad"
)

// check is one thing that doctor looked at.
type check struct {
	Name  string `json:"name"`            // "target", "clock"
	About string `json:"about,omitempty"` // which of several
	State string `json:"state"`
	Text  string `json:"text"`
	Cure  string `json:"cure,omitempty"`
}

// health is everything that doctor looked at.
type health struct {
	Format string  `json:"format"`
	OK     bool    `json:"ok"` // nothing is bad
	Checks []check `json:"checks"`
}

// patient is what doctor looks at.
type patient struct {
	opt     options
	file    string // the config file; "" if there is none
	zone    *time.Location
	names   []string // of the targets, in the order of dests
	dests   []dest.Dest
	urls    []string // of the rooms
	rooms   int      // at least one: room for it is needed
	cookies []string
	ask     string // a room that is asked whether it is live
}

// doctor looks at everything that a recording depends on, and says what to do about what is wrong.
func doctor(c *cli.Context, std streams) error {
	opt, err := globals(c)
	if err == nil {
		err = only(c, 0, 1, "")
	}
	if err != nil {
		return err
	}
	if c.Bool("live") {
		return doctorLive(c.Context, opt)
	}
	p, found, err := examine(c, opt)
	if err != nil {
		return err
	}
	h := health{Format: "liverec-doctor/1", OK: true, Checks: append(found, p.look(c.Context)...)}
	for i, k := range h.Checks {
		k.Text, k.Cure = oneLine(k.Text), oneLine(k.Cure)
		h.Checks[i] = k
		h.OK = h.OK && k.State != checkBad
	}
	if c.Bool("json") {
		err = writeJSON(std.out, h)
	} else {
		err = printHealth(std, opt, h)
	}
	if err != nil {
		return err
	}
	if !h.OK {
		return &exitStatus{code: exitError}
	}
	return nil
}

// liveTime is how long a running process may take to answer.
const liveTime = 5 * time.Second

// doctorLive is --live.
func doctorLive(ctx context.Context, opt options) error {
	ctx, cancel := context.WithTimeout(ctx, liveTime)
	defer cancel()
	if _, err := ctl.Dial(opt.data).Status(ctx, false); err != nil {
		return &failure.Error{Op: "ask the liverec on " + opt.data, Err: err, Hint: "None runs there, or it hangs."}
	}
	return nil
}

// examine finds out what there is to look at. What is wrong with the config file is a finding; what is wrong with the
// command line is an error.
func examine(c *cli.Context, opt options) (*patient, []check, error) {
	p := &patient{opt: opt, zone: time.Local}
	var err error
	if c.IsSet("min-free") {
		if p.opt.minFree, err = size(c, "min-free", 1, 1<<62); err != nil {
			return nil, nil, err
		}
	}
	if p.opt.stopFree, err = size(c, "stop-free", 0, 1<<62); err != nil {
		return nil, nil, err
	}
	found := []check{{Name: "program", State: checkOK, Text: fmt.Sprintf("liverec %s, %s %s/%s", versionOf().Version, versionOf().Go, versionOf().OS, versionOf().Arch)}}
	file, err := configFile(c)
	if err != nil {
		return nil, nil, err
	}
	if _, serr := os.Stat(file); !errors.Is(serr, fs.ErrNotExist) {
		p.file = file
		cfg, err := config.Load(file, checks())
		if all, ok := errors.AsType[config.Errors](err); ok {
			for _, e := range all {
				found = append(found, check{"config", "", checkBad, e.Error(), "Put it right; recording goes on with the old settings where a service runs."})
			}
		} else if err != nil {
			found = append(found, check{"config", "", checkBad, err.Error(), ""})
		} else {
			found = append(found, check{"config", "", checkOK, fmt.Sprintf("%s: %d %s, %d %s", file, len(cfg.Rooms), word1(len(cfg.Rooms), "room"), len(cfg.Targets), word1(len(cfg.Targets), "target")), ""})
			p.take(cfg, c.IsSet)
		}
	}
	if to := destinations(c.StringSlice("to")); len(to) > 0 {
		ds, err := parseDests(to)
		if err != nil {
			return nil, nil, err
		}
		for _, d := range ds {
			p.names, p.dests = append(p.names, ""), append(p.dests, d)
		}
	}
	for _, d := range p.dests {
		if d.Submission != nil {
			p.cookies = append(p.cookies, d.Submission.Cookies)
		}
	}
	if f := c.String("bilibili-cookies"); f != "" {
		p.cookies = append(p.cookies, f)
	}
	slices.Sort(p.cookies)
	p.cookies = slices.Compact(p.cookies)
	if c.NArg() == 1 {
		p.ask = c.Args().First()
		if _, err := checkRoom(p.ask); err != nil {
			return nil, nil, usagef("%v", err)
		}
		p.urls = append(p.urls, p.ask)
	}
	p.rooms = max(len(p.urls), 1)
	return p, found, nil
}

// take takes what a config says.
func (p *patient) take(cfg config.Config, set func(string) bool) {
	if cfg.Data != "" && !set("data") {
		p.opt.data = cfg.Data
	}
	if !set("min-free") {
		p.opt.minFree = cfg.MinFree
	}
	if !set("stop-free") {
		p.opt.stopFree = cfg.StopFree
	}
	p.zone = cfg.Zone
	if cfg.BilibiliCookies != "" {
		p.cookies = append(p.cookies, cfg.BilibiliCookies)
	}
	for _, r := range cfg.Rooms {
		p.urls = append(p.urls, r.URL)
	}
	for _, t := range cfg.Targets {
		if d, err := dest.Parse(t.To, cfg.Base()); err == nil { // the config was checked
			p.names, p.dests = append(p.names, t.Name), append(p.dests, d)
		}
	}
	p.opt.uploads = cfg.Uploads
}

// look looks at everything, what takes long at once, and gives the findings in the order of a reader.
func (p *patient) look(ctx context.Context) []check {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	looks := []func(context.Context) []check{
		p.lookZone, p.lookFolder, p.lookSpace, p.lookSpeed, p.lookMemory, p.lookLimits, p.lookTargets, p.lookCookies, p.lookHosts, p.lookRoom, p.lookPrograms,
	}
	found := make([][]check, len(looks))
	var wg sync.WaitGroup
	for i, l := range looks {
		wg.Go(func() { found[i] = l(ctx) })
	}
	wg.Wait()
	return slices.Concat(found...)
}

// printHealth is for a person.
func printHealth(std streams, opt options, h health) error {
	file, tty := isTerminal(std.out)
	p := paint(tty && !opt.noProgress && os.Getenv("NO_COLOR") == "")
	wide := 0 // lines are not wrapped
	if tty {
		if w, _, err := term.GetSize(int(file.Fd())); err == nil {
			wide = w
		}
	}
	var b strings.Builder
	names := 0
	for _, k := range h.Checks {
		names = max(names, len(k.Name))
	}
	bad, warn := 0, 0
	for _, k := range h.Checks {
		mark := p.green("✓")
		switch k.State {
		case checkWarn:
			mark = p.yellow("!")
			warn++
		case checkBad:
			mark = p.red("✗")
			bad++
		}
		about := ""
		if k.About != "" {
			about = p.bold(k.About) + "  "
		}
		indent := strings.Repeat(" ", names+4)
		name := k.Name + strings.Repeat(" ", names-len(k.Name))
		if k.State == checkOK {
			name = p.dim(name)
		}
		b.WriteString(hang(mark+" "+name+"  "+about+k.Text, indent, wide))
		if k.Cure != "" && k.State != checkOK {
			b.WriteString(hang(indent+p.dim("→ "+k.Cure), indent+"  ", wide))
		}
	}
	b.WriteString("\n")
	switch {
	case bad > 0:
		b.WriteString(p.red(fmt.Sprintf("%d %s wrong", bad, map[bool]string{true: "thing is", false: "things are"}[bad == 1])))
		if warn > 0 {
			fmt.Fprintf(&b, ", %d %s could be better", warn, word1(warn, "thing"))
		}
	case warn > 0:
		b.WriteString(p.yellow(fmt.Sprintf("Recording will work; %d %s could be better", warn, word1(warn, "thing"))))
	default:
		b.WriteString(p.green("Everything is well"))
	}
	b.WriteString(".\n")
	_, err := fmt.Fprint(std.out, b.String())
	return err
}

// hang wraps a line, with an indent before all of it but its begin.
func hang(line, indent string, wide int) string {
	if wide <= len(indent)+20 {
		return line + "\n"
	}
	rows := strings.Split(ansi.Wrap(line, wide-1, ""), "\n")
	if len(rows) == 1 {
		return line + "\n"
	}
	rest := strings.TrimLeft(strings.Join(rows[1:], " "), " ")
	return rows[0] + "\n" + indent + strings.ReplaceAll(ansi.Wrap(rest, wide-1-len(indent), ""), "\n", "\n"+indent) + "\n"
}

// name is what a target is called.
func (p *patient) name(i int) string {
	if p.names[i] != "" {
		return p.names[i]
	}
	return string(p.dests[i].ID)
}

// cureOf is the hint of an error, or a word for those that have none.
func cureOf(err error, or string) string {
	if h := failure.Hint(err); h != "" {
		return h
	}
	return or
}
