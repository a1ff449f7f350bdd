// Package e2e tries the built program as a user does: by its command line, its exit status, and the files that it
// leaves in the archive. It promises that every part that any of its tests produces has passed pkg/media/probe.
package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// binary is set once, before any test runs.
var binary string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "liverec-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if binary, err = rig.Binary(dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// liverec says how the program is run in dir.
func liverec(dir string, args ...string) rig.Run {
	return rig.Run{Bin: binary, Dir: dir, Args: args}
}

// serve serves a room that is still offline.
func serve(t *testing.T, cfg liveroom.Config) (*liveroom.Room, string) {
	t.Helper()
	room, err := liveroom.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := room.Listen(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return room, srv.URL
}

// live serves a room that is live.
func live(t *testing.T, cfg liveroom.Config) (*liveroom.Room, string) {
	t.Helper()
	room, url := serve(t, cfg)
	room.Start(context.WithoutCancel(t.Context()))
	return room, url
}

// recording waits until the program has received pictures of a room.
func recording(t *testing.T, room *liveroom.Room, pictures int) {
	t.Helper()
	rig.Until(t, 20*time.Second, "the room is being recorded", func() bool {
		n := 0
		for _, c := range room.Connections() {
			n += len(c.Frames)
		}
		return n >= pictures
	})
}

// all are the numbers from the first to the last picture of a room.
func all(room *liveroom.Room, first uint64) []uint64 {
	var out []uint64
	for n := first; n < room.Next(); n++ {
		out = append(out, n)
	}
	return out
}

// after is for rooms that end by themselves: the media, and then everything that --once waits for.
func after(media time.Duration) time.Duration { return media + 45*time.Second }

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func folder(t *testing.T, parent, name string) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
