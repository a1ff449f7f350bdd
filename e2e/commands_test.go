package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// status is `liverec status --json` as the contract has it.
type status struct {
	Format  string `json:"format"`
	At      string `json:"at"`
	Running *struct {
		PID   int    `json:"pid"`
		Since string `json:"since"`
	} `json:"running"`
	Rooms []struct {
		Room      string  `json:"room"`
		URL       string  `json:"url"`
		Site      string  `json:"site"`
		State     string  `json:"state"`
		Broadcast string  `json:"broadcast"`
		Bitrate   int64   `json:"bitrate"`
		Gaps      int     `json:"gaps"`
		GapSecs   float64 `json:"gap_seconds"`
		Open      *struct {
			Seq      int              `json:"seq"`
			Duration int64            `json:"duration_ms"`
			Size     int64            `json:"size"`
			Durable  int64            `json:"durable"`
			Away     map[string]int64 `json:"away"`
		} `json:"open"`
	} `json:"rooms"`
	Targets []struct {
		Target   string `json:"target"`
		Required bool   `json:"required"`
		State    string `json:"state"`
		DueParts int    `json:"due_parts"`
		Error    string `json:"error"`
	} `json:"targets"`
	Unsafe int64 `json:"unsafe_bytes"`
	Disk   struct {
		Free     int64  `json:"free"`
		MinFree  int64  `json:"min_free"`
		StopFree int64  `json:"stop_free"`
		Step     string `json:"step"`
	} `json:"disk"`
	Parts []json.RawMessage `json:"parts"`
}

func ask(t *testing.T, dir string, more ...string) status {
	t.Helper()
	var s status
	rig.JSON(t, liverec(dir, append([]string{"status", "--json"}, more...)...), 0, &s)
	if s.Format != "liverec-status/1" || s.At == "" {
		t.Errorf("status %+v", s)
	}
	return s
}

// damage changes one bit in the middle of a file.
func damage(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

// Everything that looks while another process records.
func TestLookingWhileRecording(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if s := ask(t, dir); s.Running != nil || len(s.Rooms) != 0 || exists(filepath.Join(dir, "liverec-data")) {
		t.Errorf("before anything: %+v", s)
	}
	s3 := rig.StartS3(t)
	room, url := live(t, liveroom.Config{Bitrate: 16_000_000})
	p := liverec(dir, "record", url, "--segment", "9s", "--to", s3.Dest("x", "")).Start(t)
	recording(t, room, 500)
	s := ask(t, dir)
	if s.Running == nil || s.Running.PID != p.Pid() || len(s.Rooms) != 1 || len(s.Targets) != 1 {
		t.Fatalf("%+v", s)
	}
	r := s.Rooms[0]
	if r.State != "live" || r.Site != "direct" || r.Broadcast == "" || r.Gaps != 0 || r.Open == nil {
		t.Fatalf("%+v", r)
	}
	if r.Bitrate < 14_000_000 || r.Bitrate > 18_000_000 || r.Open.Seq < 2 || r.Open.Durable <= 0 || r.Open.Durable > r.Open.Size {
		t.Errorf("%+v, open %+v", r, *r.Open)
	}
	if tg := s.Targets[0]; tg.State != "ok" || !tg.Required || strings.Contains(tg.Target, rig.Secret) {
		t.Errorf("%+v", tg)
	}
	if s.Disk.Free <= 0 || s.Disk.Step != "ok" || s.Disk.MinFree <= 0 || s.Disk.StopFree <= 0 {
		t.Errorf("%+v", s.Disk)
	}
	rig.Until(t, 20*time.Second, "the first part is there", func() bool { m, ok := rig.ReadManifest(t, s3.Dir); return ok && len(m.Parts) > 0 })
	if s := ask(t, dir, "--parts"); len(s.Parts) < 2 {
		t.Errorf("--parts: %d", len(s.Parts))
	}
	liverec(dir, "status").Start(t).Ends(t, 10*time.Second, 0)
	liverec(dir, "verify", r.Broadcast).Start(t).Ends(t, 20*time.Second, 0)
	noOrphans(t, dir)

	// The data folder belongs to the running process.
	other := liverec(dir, "record", url).Start(t)
	other.Ends(t, 10*time.Second, 1)
	if !strings.Contains(other.Stderr.String(), fmt.Sprint(p.Pid())) {
		t.Errorf("it does not name process %d: %s", p.Pid(), other.Stderr.String())
	}
	liverec(dir, "resume").Start(t).Ends(t, 10*time.Second, 1)
	if !p.Alive() || len(room.Connections()) != 1 {
		t.Error("looking disturbed the recording")
	}
	p.Signal(syscall.SIGTERM)
	p.Ends(t, 26*time.Second, 0)
	if s := ask(t, dir); s.Running != nil || s.Unsafe != 0 {
		t.Errorf("afterwards: %+v", s)
	}
	rig.Read(t, s3.Dir)
}

// The words that a person may say to a running room.
func TestPauseContinueSplitStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := live(t, liveroom.Config{})
	p := liverec(dir, "record", url, "--once").Start(t)
	recording(t, room, 200)
	name := ask(t, dir).Rooms[0].Room
	say := func(verb string) { liverec(dir, verb, name).Start(t).Ends(t, 10*time.Second, 0) }
	say("split")
	rig.Until(t, 10*time.Second, "a second part is open", func() bool { o := ask(t, dir).Rooms[0].Open; return o != nil && o.Seq == 2 })
	time.Sleep(6 * time.Second)
	say("pause")
	rig.Until(t, 10*time.Second, "it is paused", func() bool { r := ask(t, dir).Rooms[0]; return r.State == "paused" && r.Open == nil })
	time.Sleep(5 * time.Second)
	say("continue")
	rig.Until(t, 15*time.Second, "it records again", func() bool { r := ask(t, dir).Rooms[0]; return r.State == "live" && r.Open != nil && r.Open.Seq == 3 })
	time.Sleep(6 * time.Second)
	say("stop")
	p.Ends(t, 30*time.Second, 0)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
	var cuts []string
	for _, part := range rec.Manifest.Parts {
		cuts = append(cuts, part.Cut)
	}
	if got := strings.Join(cuts, " "); got != "split pause stop" {
		t.Errorf("cuts: %s", got)
	}
	rec.Admits(t, 300*time.Millisecond)
	if len(rec.Missing()) != 1 {
		t.Errorf("%v", rec)
	}
	liverec(dir, "pause", name).Start(t).Ends(t, 10*time.Second, 1) // nobody is there
	if p := liverec(dir, "split", "nobody"); true {
		p.Start(t).Ends(t, 10*time.Second, 1)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := live(t, liveroom.Config{})
	p := liverec(dir, "probe", url).Start(t)
	p.Ends(t, 15*time.Second, 0)
	if out := p.Stdout.String(); !strings.Contains(out, "640") || !strings.Contains(out, "H.264") && !strings.Contains(out, "avc") {
		t.Errorf("%s", out)
	}
	var v map[string]any
	rig.JSON(t, liverec(dir, "probe", url, "--json"), 0, &v)
	if v["site"] != "direct" {
		t.Errorf("%v", v)
	}
	room.End()
	for _, url := range []string{url, "http://127.0.0.1:1/live.flv", "http://no-such-host.invalid/live.flv"} {
		p := liverec(dir, "probe", url).Start(t)
		p.Ends(t, 30*time.Second, 1)
		if n := strings.Count(p.Stdout.String()+p.Stderr.String(), "\n"); n < 1 || n > 6 {
			t.Errorf("%s: %d lines: %s%s", url, n, p.Stdout.String(), p.Stderr.String())
		}
	}
	_, html := live(t, liveroom.Config{Fault: every(liveroom.Fault{Body: []byte("<html>no stream</html>")})})
	liverec(dir, "probe", html).Start(t).Ends(t, 15*time.Second, 1)
	if exists(filepath.Join(dir, "liverec-data")) {
		t.Error("probe made a data folder")
	}
}

// Recordings that are there already go through the same transport, and stay where they are.
func TestUpload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s3 := rig.StartS3(t)
	var files []string
	for i, d := range []time.Duration{9 * time.Second, 4 * time.Second} {
		name := filepath.Join(dir, fmt.Sprintf("old recording %d.flv", i))
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := liveroom.Write(f, liveroom.Config{Bitrate: 12_000_000, First: uint64(i) * 10_000}, d); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	archive := folder(t, dir, "archive")
	args := append([]string{"upload"}, files...)
	liverec(dir, append(args, "--to", s3.Dest("old", ""), "--to", archive)...).Start(t).Ends(t, 60*time.Second, 0)
	for _, name := range files {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("the user's own file is gone: %v", err)
		}
		for _, where := range []string{s3.Dir, archive} {
			found := 0
			for _, f := range rig.Files(t, where) {
				got, err := os.ReadFile(filepath.Join(where, f))
				if err != nil {
					t.Fatal(err)
				}
				if string(got) == string(want) {
					found++
				}
			}
			if found != 1 {
				t.Errorf("%s is in %s %d times: %v", name, where, found, rig.Files(t, where))
			}
		}
	}
	s3.NoUploads(t)
	liverec(dir, "upload", filepath.Join(dir, "absent.flv"), "--to", archive).Start(t).Ends(t, 10*time.Second, 2)
}

// A data folder that cannot be used: one to three lines, with the cure.
func TestDataFolderThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	_, url := live(t, liveroom.Config{})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p := liverec(dir, "record", url, "--data", "file").Start(t)
	p.Ends(t, 10*time.Second, 1)
	if n := strings.Count(p.Stderr.String(), "\n"); n < 1 || n > 3 {
		t.Errorf("%s", p.Stderr.String())
	}
	if os.Geteuid() != 0 {
		return
	}
	// As another user, who may not write there.
	bin := world(t)
	p = rig.Run{Bin: rig.Tool(t, "setpriv"), Dir: "/", Args: []string{"--reuid", "65533", "--regid", "65533", "--clear-groups",
		bin, "record", url, "--data", filepath.Join(filepath.Dir(bin), "data")}}.Start(t)
	p.Ends(t, 10*time.Second, 1)
	if out := p.Stderr.String(); !strings.Contains(out, "65533") {
		t.Errorf("it does not say who may not write:\n%s", out)
	}
}

// world is a copy of the program that every user may run, in a folder that only root may write to.
func world(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "liverec-world-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "liverec")
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// Every flag has a variable, and flags stand before or behind the URL.
func TestFlagsByVariable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := live(t, liveroom.Config{Duration: 13 * time.Second})
	r := liverec(dir, "--log-format", "json", "record", "--once", url, "--no-progress")
	r.Env = []string{"LIVEREC_SEGMENT=6s", "LIVEREC_TO=file:one\nfile:two", "LIVEREC_DATA=here"}
	p := r.Start(t)
	p.Ends(t, after(13*time.Second), 0)
	for _, where := range []string{"one", "two"} {
		rec := rig.Read(t, filepath.Join(dir, where))
		rec.Once(t, rig.Sent(room.Connections(), nil))
		if len(rec.Parts) < 3 {
			t.Errorf("%v", rec)
		}
	}
	if !exists(filepath.Join(dir, "here", "ledger.db")) {
		t.Error("LIVEREC_DATA was not followed")
	}
	for _, line := range strings.Split(strings.TrimSpace(p.Stderr.String()), "\n") {
		if !json.Valid([]byte(line)) && strings.HasPrefix(line, "{") {
			t.Errorf("no JSON: %s", line)
		}
	}
}
