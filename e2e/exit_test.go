package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	_, url := serve(t, liveroom.Config{})
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := liverec(t.TempDir(), "record", url).Start(t)
		time.Sleep(1500 * time.Millisecond)
		p.Signal(sig)
		p.Ends(t, 5*time.Second, 0)
	}
}

func TestStopWhileRecording(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := live(t, liveroom.Config{Bitrate: 8_000_000})
	p := liverec(dir, "record", url, "--to", "file:archive").Start(t)
	recording(t, room, 200)
	before := time.Now().Add(-time.Second)
	p.Signal(syscall.SIGTERM)
	p.Ends(t, 26*time.Second, 0)
	rec := rig.Read(t, filepath.Join(dir, "archive"))
	rec.Once(t, rig.Sent(room.Connections(), func(_ liveroom.Connection, f liveroom.Frame) bool { return f.At.Before(before) }))
	if rec.Manifest.Ended != nil || rec.Manifest.Parts[0].Cut != "stop" {
		t.Errorf("ended %v, cut %q", rec.Manifest.Ended, rec.Manifest.Parts[0].Cut)
	}
	rig.Empty(t, filepath.Join(dir, "liverec-data"))

	// Started again within the grace, it is the same broadcast; the time between is a gap. The part that was closed at
	// the stop is not opened again, so a GOP of which the beginning is in it cannot be gone on with.
	p = liverec(dir, "record", url, "--to", "file:archive", "--once").Start(t)
	rig.Until(t, 20*time.Second, "it records again", func() bool { c := room.Connections(); return len(c) == 2 && len(c[1].Frames) > 200 })
	room.End()
	p.Ends(t, 45*time.Second, 0)
	rec = rig.Read(t, filepath.Join(dir, "archive"))
	if len(rec.Parts) != 2 {
		t.Fatalf("%v", rec)
	}
	second := rec.Parts[1].Numbers[0]
	rec.Once(t, rig.Sent(room.Connections(), func(c liveroom.Connection, f liveroom.Frame) bool {
		return c.N == 1 && f.Number >= second || c.N == 0 && f.At.Before(before)
	}))
	rec.Admits(t, 200*time.Millisecond)
	if k := slices.IndexFunc(room.Connections()[1].Frames, func(f liveroom.Frame) bool { return f.Number == second }); k < 0 || k > 60 {
		t.Errorf("the second part begins with picture %d, %d after the first one that was sent", second, k)
	}
	if rec.Manifest.Ended == nil {
		t.Errorf("%v", rec)
	}
}

func TestStopWithUnsafeMedia(t *testing.T) {
	t.Parallel()
	for _, twice := range []bool{false, true} {
		dir := t.TempDir()
		dead := fmt.Sprintf("s3://%s/live?endpoint=http://127.0.0.1:%d&region=us-east-1", rig.Bucket, rig.FreePort(t))
		room, url := live(t, liveroom.Config{Bitrate: 8_000_000})
		p := liverec(dir, "record", url, "--to", dead).Start(t)
		recording(t, room, 150)
		p.Signal(syscall.SIGTERM)
		limit := 28 * time.Second
		if twice {
			time.Sleep(200 * time.Millisecond)
			p.Signal(syscall.SIGTERM)
			limit = 4 * time.Second
		}
		p.Ends(t, limit, 3)
		var status struct {
			Running *struct{} `json:"running"`
			Unsafe  int64     `json:"unsafe_bytes"`
		}
		rig.JSON(t, liverec(dir, "status", "--json"), 0, &status)
		if status.Running != nil || status.Unsafe < 1_000_000 {
			t.Errorf("status %+v", status)
		}
	}
}

// A target that refuses ends the program before anything is recorded; one that is away does not.
func TestRefusedAtStart(t *testing.T) {
	t.Parallel()
	s3 := rig.StartS3(t)
	_, url := live(t, liveroom.Config{})
	tests := []struct {
		name, dest, word string
		env              []string
	}{
		{"no such bucket", "s3://absent/x?endpoint=" + s3.Endpoint + "&region=us-east-1", "absent", nil},
		{"wrong password", s3.Dest("x", ""), "", []string{"AWS_SECRET_ACCESS_KEY=wrong"}},
		{"folder is a file", "file:plain", "plain", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "plain"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			r := liverec(dir, "record", url, "--to", test.dest)
			r.Env = test.env
			p := r.Start(t)
			p.Ends(t, 20*time.Second, 1)
			lines := strings.Split(strings.TrimSpace(p.Stderr.String()), "\n")
			if len(lines) > 3 || !strings.Contains(p.Stderr.String(), test.word) {
				t.Errorf("%d lines: %s", len(lines), p.Stderr.String())
			}
			if media := rig.Files(t, filepath.Join(dir, "liverec-data", "media")); len(media) != 0 {
				t.Errorf("recorded all the same: %v", media)
			}
		})
	}
}

func TestStrict(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, url := live(t, liveroom.Config{Duration: 14 * time.Second, Fault: func(int) liveroom.Fault {
		return liveroom.Fault{Events: []liveroom.Event{{Tags: 200, Skip: 3 * time.Second}}}
	}})
	p := liverec(dir, "record", url, "--once", "--strict").Start(t)
	p.Ends(t, after(14*time.Second), 4)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
	rec.Admits(t, 200*time.Millisecond)
	if len(rec.Missing()) != 1 {
		t.Errorf("%v", rec)
	}
}
