package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// small mounts a file system of so many MiB, or skips where that is not allowed.
func small(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib))
	if err != nil {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that runs full because the target is dead: the room pauses before it is too late, what is on the disk stays,
// and when the target is back everything goes on by itself. What was not recorded is a gap.
func TestDiskRunsFull(t *testing.T) {
	t.Parallel()
	disk := small(t, 64)
	dir := t.TempDir()
	port := rig.FreePort(t)
	dest := fmt.Sprintf("s3://%s/x?endpoint=http://127.0.0.1:%d&region=us-east-1", rig.Bucket, port)
	room, url := live(t, liveroom.Config{Bitrate: 24_000_000})
	p := liverec(dir, "record", url, "--once", "--data", filepath.Join(disk, "data"), "--segment", "5s", "--to", dest,
		"--min-free", "30MiB", "--stop-free", "16MiB").Start(t)
	rig.Until(t, 60*time.Second, "the room is paused", func() bool {
		s := ask(t, dir, "--data", filepath.Join(disk, "data"))
		return len(s.Rooms) == 1 && s.Rooms[0].State == "paused" && s.Disk.Step != "ok"
	})
	if !p.Alive() {
		t.Fatal("it ended")
	}
	time.Sleep(4 * time.Second)
	s3 := rig.StartS3(t, port)
	conns := len(room.Connections())
	rig.Until(t, 90*time.Second, "it records again", func() bool {
		s := ask(t, dir, "--data", filepath.Join(disk, "data"))
		return s.Rooms[0].State == "live" && len(room.Connections()) > conns
	})
	time.Sleep(4 * time.Second)
	room.End()
	p.Ends(t, 90*time.Second, 0)
	rec := rig.Read(t, s3.Dir)
	rec.Once(t, nil)
	rec.Admits(t, 300*time.Millisecond)
	if len(rec.Missing()) == 0 {
		t.Errorf("nothing is missing: %v", rec)
	}
	s3.NoUploads(t)
	rig.Empty(t, filepath.Join(disk, "data"))
}

// The disk is full from one moment to the next, since somebody else filled it: media and ledger meet ENOSPC.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	disk := small(t, 48)
	dir := t.TempDir()
	data := filepath.Join(disk, "data")
	archive := folder(t, dir, "archive")
	room, url := live(t, liveroom.Config{Bitrate: 8_000_000})
	p := liverec(dir, "record", url, "--once", "--data", data, "--segment", "6s", "--to", archive, "--min-free", "1MiB", "--stop-free", "0").Start(t)
	recording(t, room, 250)
	full := time.Now()
	hog := filepath.Join(disk, "hog")
	f, err := os.Create(hog)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(zeros)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for range 6 {
		time.Sleep(time.Second)
		if !p.Alive() {
			t.Fatal("it ended")
		}
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	free := time.Now()
	rig.Until(t, 60*time.Second, "it records again", func() bool {
		for _, c := range room.Connections() {
			for _, f := range c.Frames {
				if c.Closed.IsZero() && f.At.After(free.Add(4*time.Second)) {
					return true
				}
			}
		}
		return false
	})
	time.Sleep(5 * time.Second)
	room.End()
	p.Ends(t, 90*time.Second, 0)
	rec := rig.Read(t, archive)
	rec.Once(t, rig.Sent(room.Connections(), func(_ liveroom.Connection, f liveroom.Frame) bool { return f.At.Before(full.Add(-time.Second)) }))
	rec.Admits(t, 300*time.Millisecond)
	if last := rec.Numbers[len(rec.Numbers)-1]; last+1 != room.Next() {
		t.Errorf("ends with picture %d of %d", last, room.Next()-1)
	}
	if !strings.Contains(p.Stderr.String(), "space") {
		t.Errorf("nobody was told:\n%s", p.Stderr.String())
	}
}

// The archive is on another file system and full: the parts wait on the disk until there is room.
func TestArchiveIsFull(t *testing.T) {
	t.Parallel()
	disk := small(t, 8)
	dir := t.TempDir()
	hog, err := os.Create(filepath.Join(disk, "hog"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(hog, zero{}, 6<<20); err != nil {
		t.Fatal(err)
	}
	if err := hog.Close(); err != nil {
		t.Fatal(err)
	}
	room, url := live(t, liveroom.Config{Duration: 16 * time.Second, Bitrate: 3_000_000})
	p := liverec(dir, "record", url, "--once", "--segment", "5s", "--to", "file:"+filepath.Join(disk, "archive")).Start(t)
	time.Sleep(26 * time.Second)
	if !p.Alive() {
		t.Fatalf("it ended with %d", p.Code())
	}
	if err := os.Remove(hog.Name()); err != nil {
		t.Fatal(err)
	}
	p.Ends(t, 120*time.Second, 0)
	rec := rig.Read(t, filepath.Join(disk, "archive"))
	rec.Once(t, rig.Sent(room.Connections(), nil))
	rec.Admits(t, 0)
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { clear(b); return len(b), nil }
