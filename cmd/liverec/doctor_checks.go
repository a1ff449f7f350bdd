package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/liverec/liverec/pipeline"
	client "github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/hlspull"
	"github.com/liverec/liverec/recorder/site/external"
	"github.com/liverec/liverec/uploader/dest"
)

const (
	// askTime is how long a host may take to answer.
	askTime = 10 * time.Second
	// mostHosts is how many hosts are asked: of 10,000 rooms most have the same.
	mostHosts = 16
	// Each room is taken to send so much, in bytes a second: 10 Mbit/s.
	usualRate = 10_000_000 / 8
	// The speed test writes so much at the most, for so long at the most.
	speedBytes, speedTime = 64 << 20, 2 * time.Second
	// A clock that is off by more is told, or is wrong: S3 refuses signatures that are 15 minutes off.
	clockWarn, clockBad = 10 * time.Second, 5 * time.Minute
	// filesPerRoom is how many files and sockets a live room has open at the most, filesOfOurs what the process has beside.
	filesPerRoom, filesOfOurs = 8, 128
)

// lookZone says which time is in names.
func (p *patient) lookZone(context.Context) []check {
	now := time.Now().In(p.zone)
	name := p.zone.String()
	if name == "Local" {
		name = localZone()
	}
	k := check{"time zone", "", checkOK, fmt.Sprintf("%s, it is %s now", name, now.Format("2006-01-02 15:04 MST (-07:00)")), ""}
	if _, off := now.Zone(); p.zone == time.Local && name == "UTC" && off == 0 && os.Getenv("TZ") == "" {
		k.State, k.Cure = checkWarn, "Names and windows are in UTC. If that is not meant, set timezone = \"…\" in the config file, or TZ in the environment."
	}
	return []check{k}
}

// localZone is the name of the machine's zone.
func localZone() string {
	if tz := os.Getenv("TZ"); tz != "" {
		return strings.TrimPrefix(tz, ":")
	}
	if to, err := os.Readlink("/etc/localtime"); err == nil {
		if _, name, ok := strings.Cut(to, "zoneinfo/"); ok {
			return name
		}
	}
	if name, off := time.Now().Zone(); off != 0 {
		return name
	}
	return "UTC"
}

// lookFolder does with the data folder what every later step has to do.
func (p *patient) lookFolder(context.Context) []check {
	k := check{"data folder", "", checkOK, p.opt.data + ": a file can be written, synced, renamed and removed", ""}
	if absent(p.opt.data) {
		at := nearestFolder(p.opt.data)
		k.Text = p.opt.data + " is not there yet and will be made"
		if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
			k.State, k.Text, k.Cure = checkBad, fmt.Sprintf("%s cannot be made: uid %d may not write to %s", p.opt.data, os.Getuid(), at), "Make it for this user, or name another one with --data."
		}
		return []check{k}
	}
	d, err := durable.Open(p.opt.data, nil)
	if err != nil {
		err = durable.Explain(p.opt.data, err)
	} else {
		err = errors.Join(d.Probe("doctor"), d.Close())
	}
	if err != nil {
		k.State, k.Text, k.Cure = checkBad, err.Error(), cureOf(err, "Name another folder with --data.")
	} else if fi, err := os.Stat(p.opt.data); err == nil && fi.Mode().Perm()&0o002 != 0 && fi.Mode()&fs.ModeSticky == 0 {
		k.State, k.Text, k.Cure = checkWarn, p.opt.data+": everybody on this machine may change it", "chmod 750 "+p.opt.data
	}
	return []check{k}
}

// absent reports whether nothing is there yet.
func absent(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// nearestFolder is the folder itself, or the nearest one above it that is there.
func nearestFolder(path string) string {
	for at := path; ; at = filepath.Dir(at) {
		if fi, err := os.Stat(at); err == nil && fi.IsDir() || at == filepath.Dir(at) {
			return at
		}
	}
}

// lookSpace compares what is free with the two steps of the ladder.
func (p *patient) lookSpace(context.Context) []check {
	at := nearestFolder(p.opt.data)
	sp, err := pipeline.Statfs(at)()
	if err != nil {
		return []check{{"disk space", "", checkBad, err.Error(), ""}}
	}
	least := p.opt.minFree
	if least == 0 {
		least = pipeline.DefaultMinFree(sp.Total)
	}
	above := time.Duration(max(sp.Free-p.opt.stopFree, 0)/int64(p.rooms)/usualRate) * time.Second
	k := check{"disk space", "", checkOK, fmt.Sprintf("%s of %s free, enough for %s of %s at 10 Mbit/s without any upload", status.Size(sp.Free), status.Size(sp.Total), roughly(above), count(p.rooms, "room")), ""}
	switch {
	case sp.Free < p.opt.stopFree:
		k.State, k.Text = checkBad, fmt.Sprintf("%s free, below %s rooms pause (stop-free)", status.Size(sp.Free), status.Size(p.opt.stopFree))
		k.Cure = "Free some room, or put the data folder on a larger disk."
	case sp.Free < least:
		k.State, k.Text = checkWarn, fmt.Sprintf("%s free, less than the %s below which safe parts are freed at once (min-free)", status.Size(sp.Free), status.Size(least))
		k.Cure = "Free some room, or set min-free lower if the uploads keep up."
	}
	return []check{k}
}

// roughly is a duration without its small end.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return status.Span(d.Round(time.Minute))
}

func count(n int, what string) string { return fmt.Sprintf("%d %s", n, word1(n, what)) }

// lookSpeed writes and syncs for a moment, into a file that has no name.
func (p *patient) lookSpeed(ctx context.Context) []check {
	at := nearestFolder(p.opt.data)
	if sp, err := pipeline.Statfs(at)(); err != nil || sp.Free < p.opt.stopFree+2*speedBytes {
		return []check{{"disk speed", "", checkWarn, "not tried: there is not enough room for it", ""}}
	}
	f, err := durable.Nameless(at)
	if err != nil {
		return []check{{"disk speed", "", checkWarn, "not tried: " + err.Error(), ""}}
	}
	defer f.Close()
	buf := make([]byte, 4<<20)
	for i := range buf {
		buf[i] = byte(i*7 + i>>8*13)
	}
	var n int64
	var slowest time.Duration
	began := time.Now()
	for n < speedBytes && time.Since(began) < speedTime && ctx.Err() == nil {
		if _, err = f.Write(buf); err == nil {
			from := time.Now()
			err = f.Sync()
			slowest = max(slowest, time.Since(from))
		}
		if err != nil {
			return []check{{"disk speed", "", checkBad, "write and sync in " + at + ": " + err.Error(), "Look at the disk."}}
		}
		n += int64(len(buf))
	}
	rate := int64(float64(n) / max(time.Since(began).Seconds(), 1e-6))
	need := int64(p.rooms) * usualRate
	k := check{"disk speed", "", checkOK, fmt.Sprintf("%s/s written and synced, slowest sync %s; about %s/s are needed for %s", status.Size(rate), short(slowest), status.Size(need), count(p.rooms, "room")), ""}
	switch {
	case rate < need:
		k.State, k.Cure = checkBad, "The disk is too slow for so many rooms: put the data folder on a faster one, or record fewer rooms."
	case rate < 4*need:
		k.State, k.Cure = checkWarn, "That leaves little air, since what is uploaded is read as well."
	case slowest > time.Second:
		k.State, k.Cure = checkWarn, "A sync that takes more than a second delays what a crash can cost. Is the disk busy, or on a network?"
	}
	return []check{k}
}

func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return status.Span(d)
}

// lookMemory compares the memory promise with what there is.
func (p *patient) lookMemory(context.Context) []check {
	promise := pipeline.Promise(p.rooms, recorder.MemoryPerRoom, max(len(p.dests), 1)*max(p.opt.uploads, 3), workerMemory)
	most := promise.Bytes() + int64(p.rooms)*hlspull.Memory
	have, where := memory()
	k := check{"memory", "", checkOK, fmt.Sprintf("queues and buffers take at most %s for %s of FLV, %s for HLS with the largest segments", status.Size(promise.Bytes()), count(p.rooms, "room"), status.Size(most)), ""}
	if have > 0 {
		k.Text += fmt.Sprintf("; %s has %s", where, status.Size(have))
		if promise.Bytes() > have/2 {
			k.State, k.Cure = checkWarn, "That is more than half of it, if all are live at once. Give it more, or record fewer rooms in one process."
		}
	}
	return []check{k}
}

// memory is how much there is, for this container or this machine; 0 if nobody says.
func memory() (int64, string) {
	total := int64(0)
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer f.Close()
		for in := bufio.NewScanner(f); in.Scan(); {
			if w := strings.Fields(in.Text()); len(w) >= 2 && w[0] == "MemTotal:" {
				if n, err := strconv.ParseInt(w[1], 10, 64); err == nil {
					total = n << 10
				}
			}
		}
	}
	for _, name := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && (total == 0 || n < total) {
			return n, "this container"
		}
	}
	return total, "this machine"
}

// lookLimits asks the system how many files a process may have open, and whether it tells of changed files.
func (p *patient) lookLimits(context.Context) []check {
	var lim unix.Rlimit
	var out []check
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil {
		need := uint64(filesOfOurs + filesPerRoom*p.rooms + 2*max(p.opt.uploads, 3)*max(len(p.dests), 1))
		k := check{"open files", "", checkOK, fmt.Sprintf("%d may be open, at most %d are needed for %s", lim.Max, need, count(p.rooms, "room")), ""}
		if lim.Max < need {
			k.State, k.Cure = checkBad, "Raise it: LimitNOFILE= in the unit, --ulimit nofile= for a container, ulimit -Hn in a shell."
		}
		out = append(out, k)
	}
	if p.file != "" {
		if why := inotify(); why != "" {
			out = append(out, check{"file watch", "", checkWarn, why, "Raise fs.inotify.max_user_instances (sysctl). Until then a changed config file is taken over on SIGHUP only."})
		}
	}
	return out
}

// lookTargets asks each target whether it would take something now.
func (p *patient) lookTargets(ctx context.Context) []check {
	out := make([]check, len(p.dests))
	var wg sync.WaitGroup
	for i, d := range p.dests {
		wg.Go(func() {
			k := check{"target", p.name(i), checkOK, string(d.ID) + " takes parts", ""}
			if p.names[i] == "" {
				k.Text = "takes parts"
			}
			if !d.Required {
				k.Text += " (not required)"
			}
			if err := p.askTarget(ctx, d); err != nil {
				k.State, k.Text = checkBad, err.Error()
				if !d.Required {
					k.State = checkWarn
				}
				k.Cure = cureOf(err, "Look at the network and at the target; liverec keeps what it records until it answers.")
			}
			out[i] = k
		})
	}
	wg.Wait()
	return out
}

func (p *patient) askTarget(ctx context.Context, d dest.Dest) error {
	// A folder that is not there yet is made by the first run, not by a question.
	if d.Kind == dest.File {
		if absent(d.Path) {
			at := nearestFolder(d.Path)
			if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
				return &failure.Error{Op: "make folder " + d.Path, Kind: failure.NeedsHuman, Err: fmt.Errorf("uid %d may not write to %s", os.Getuid(), at), Hint: "Make it for this user."}
			}
			return nil
		}
	}
	t, err := d.Build(ctx, dest.Env{Data: p.opt.data, Getenv: os.Getenv, Version: versionOf().Version, Log: zerolog.Nop()})
	if err != nil {
		return err
	}
	if c, ok := t.(io.Closer); ok {
		defer c.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	return t.Check(ctx)
}

// lookCookies looks at each account: who may read the file, until when it is good, and whether it still logs in.
func (p *patient) lookCookies(ctx context.Context) []check {
	out := make([]check, len(p.cookies))
	var wg sync.WaitGroup
	for i, file := range p.cookies {
		wg.Go(func() { out[i] = lookCookie(ctx, file) })
	}
	wg.Wait()
	return out
}

// soonExpired is how long before its end an account that cannot be renewed is told.
const soonExpired = 7 * 24 * time.Hour

func lookCookie(ctx context.Context, file string) check {
	k := check{"cookies", filepath.Base(file), checkOK, "", ""}
	const again = "`liverec login bilibili` writes a new one."
	account, err := client.OpenAccount(file)
	if err != nil {
		return check{"cookies", k.About, checkBad, err.Error(), cureOf(err, again)}
	}
	age := ""
	if fi, err := os.Stat(file); err == nil {
		age = fmt.Sprintf(", written %s ago", roughly(max(time.Since(fi.ModTime()), 0)))
	}
	until := ""
	cred := account.Credentials()
	if e := cred.Expires(); !e.IsZero() {
		until = ", good until " + e.Local().Format(time.DateOnly)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	who, err := client.NewClient(client.Config{Account: account, Log: zerolog.Nop()}).Check(ctx)
	switch {
	case err != nil && failure.KindOf(err) == failure.NeedsHuman:
		return check{"cookies", k.About, checkBad, err.Error(), cureOf(err, again)}
	case err != nil:
		k.State, k.Text, k.Cure = checkWarn, "it could not be asked whether the account logs in: "+err.Error(), "Look at the network."
	default:
		k.Text = fmt.Sprintf("%s (user %d) is logged in%s%s", who.Name, who.MID, until, age)
	}
	if e := cred.Expires(); k.State == checkOK && !e.IsZero() && time.Until(e) < soonExpired && !cred.Renewable() {
		k.State, k.Cure = checkWarn, "It ends soon and cannot be renewed by itself: "+again
	}
	if mode, err := account.Mode(); err == nil && mode.Perm()&0o077 != 0 && k.State != checkBad {
		k.State, k.Cure = checkWarn, fmt.Sprintf("Others on this machine can read it (mode %04o): chmod 600 %s", mode.Perm(), file)
	}
	return k
}

// lookHosts asks the host of each room for anything at all, and compares its clock with ours.
func (p *patient) lookHosts(ctx context.Context) []check {
	var bases []string
	for _, raw := range p.urls {
		if b := baseOf(raw); b != "" && !slices.Contains(bases, b) {
			bases = append(bases, b)
		}
	}
	more := max(len(bases)-mostHosts, 0)
	bases = bases[:len(bases)-more]
	out := make([]check, len(bases))
	skews := make([]*time.Duration, len(bases))
	var wg sync.WaitGroup
	for i, b := range bases {
		wg.Go(func() {
			u, err := url.Parse(b)
			if err != nil {
				return // baseOf made it
			}
			k := check{"host", u.Host, checkOK, "", ""}
			took, skew, err := askHost(ctx, b)
			if err != nil {
				k.State, k.Text, k.Cure = checkBad, "cannot be reached: "+plainError(err), "Look at the network, the name server and the proxy of this machine. liverec keeps trying."
			} else {
				k.Text, skews[i] = "answers in "+short(took), skew
			}
			out[i] = k
		})
	}
	wg.Wait()
	if more > 0 {
		out = append(out, check{"host", "", checkOK, fmt.Sprintf("%d more were not asked", more), ""})
	}
	return append([]check{clockOf(skews)}, out...)
}

// clockOf says how far our clock is from that of the servers.
func clockOf(skews []*time.Duration) check {
	k := check{"clock", "", checkWarn, "no server could be asked for the time", "Name a room or a config file with rooms: liverec doctor ROOM-URL."}
	best := time.Duration(0)
	known := false
	for _, s := range skews { // the nearest one: a server can be wrong as well
		if s != nil && (!known || s.Abs() < best.Abs()) {
			best, known = *s, true
		}
	}
	if !known {
		if len(skews) > 0 {
			k.Cure = "Look at the hosts below."
		}
		return k
	}
	k = check{"clock", "", checkOK, "agrees with that of the servers", ""}
	if best.Abs() > clockWarn {
		dir := map[bool]string{true: "ahead of", false: "behind"}[best > 0]
		k.State, k.Text = checkWarn, fmt.Sprintf("is %s %s that of the servers", status.Span(best.Abs().Round(time.Second)), dir)
		k.Cure = "Let the machine keep its time (timedatectl set-ntp true). Names and times of parts come from it."
		if best.Abs() > clockBad {
			k.State, k.Cure = checkBad, k.Cure+" S3 refuses a clock that is 15 minutes off."
		}
	}
	return k
}

// baseOf is the root of the server of a room.
func baseOf(raw string) string {
	raw = strings.TrimSpace(raw)
	for _, prefix := range []string{"hls://", "httpstream://"} { // they say what an address is
		if rest, ok := strings.CutPrefix(raw, prefix); ok {
			if raw = rest; !strings.Contains(raw, "://") {
				raw = "http://" + raw
			}
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}).String()
}

// askHost asks for the head of the root: any answer at all will do. skew is how far our clock is ahead of the server's.
func askHost(ctx context.Context, base string) (took time.Duration, skew *time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, base, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("User-Agent", "liverec/"+versionOf().Version)
	tr := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	hc := http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	began := time.Now()
	res, err := hc.Do(req)
	if err != nil {
		return 0, nil, err
	}
	took = time.Since(began)
	if err := res.Body.Close(); err != nil {
		return 0, nil, err
	}
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		// The header is cut to whole seconds, and was made somewhere between question and answer.
		d := began.Add(took / 2).Sub(at.Add(500 * time.Millisecond))
		skew = &d
	}
	return took, skew, nil
}

// plainError is an error of a request without the address, which may hold a secret.
func plainError(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return err.Error()
}

// lookRoom asks a room whether it is live, as `liverec probe` does.
func (p *patient) lookRoom(ctx context.Context) []check {
	if p.ask == "" {
		return nil
	}
	opt := p.opt
	opt.quality = "auto"
	if len(p.cookies) > 0 {
		opt.sites.cookies = p.cookies[0]
	}
	w, err := findRoom(p.ask, opt)
	if err != nil {
		return []check{{"room", "", checkBad, err.Error(), cureOf(err, "")}}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	live, err := w.resolver(zerolog.Nop(), nil).Resolve(ctx, w.room)
	if live.Source != nil {
		defer live.Source.Close()
	}
	k := check{"room", w.room.Name, checkOK, "is live", ""}
	switch {
	case err != nil:
		k.State, k.Text, k.Cure = checkBad, err.Error(), cureOf(err, "`liverec record` keeps trying; look at the address in a browser.")
	case live.Presence != recorder.OnAir:
		k.Text = "answers, and is not live now"
		if live.Why != "" {
			k.Text += ": " + live.Why
		}
	case live.Title != "":
		k.Text += ": " + live.Title
	}
	return []check{k}
}

// lookPrograms says which of the programs are there that find streams in pages.
func (p *patient) lookPrograms(ctx context.Context) []check {
	var env []string
	for _, name := range external.Passed {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	var out []check
	for _, i := range external.NewTools(external.ToolsConfig{Env: env, Log: zerolog.Nop()}).Installed(ctx) {
		k := check{"program", i.Name, checkOK, i.Version + " in " + i.Path, ""}
		switch {
		case i.Path == "":
			k.Text = "not installed; needed only for pages of sites that liverec does not know"
		case i.Wrong != "":
			k.State, k.Cure = checkWarn, i.Wrong
		}
		out = append(out, k)
	}
	return out
}
