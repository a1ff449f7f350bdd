package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
)

// manyRooms makes this test binary record the rooms whose addresses are in it, as one process.
const manyRooms = "LIVEREC_BENCH_ROOMS"

// recordRooms is what a service with many rooms does, with a store that nobody answers for.
func recordRooms(urls []string) int {
	opt := options{data: os.Getenv("LIVEREC_DATA"), logLevel: "error", logFormat: "json", noProgress: true, to: []string{os.Getenv("LIVEREC_TO")},
		uploads: 3, stopFree: 1, roomOptions: roomOptions{segment: 15 * time.Minute, maxSize: 4 << 30, quality: "auto", holder: "auto", grace: time.Minute}}
	ds, err := parseDests(opt.to)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var rooms []watched
	for i, url := range urls {
		w, err := findRoom(url, opt)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		w.room.Name = fmt.Sprintf("room%d", i)
		rooms = append(rooms, w)
	}
	std := streams{in: strings.NewReader(""), out: os.Stdout, err: os.Stderr}
	if err := runRecord(context.Background(), opt, std, ds, rooms, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 0
}

// Twenty rooms of 8 Mbit/s in one process whose only store is dead: how much memory that takes. The bound is 200 MiB.
func BenchmarkTwentyRoomsDeadStore(b *testing.B) {
	for b.Loop() {
		room, err := liveroom.New(liveroom.Config{Bitrate: 8_190_000})
		if err != nil {
			b.Fatal(err)
		}
		var urls []string
		for range 20 { // each an address of its own, since the ledger knows rooms by their address
			srv, err := room.Listen(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			defer srv.Close()
			urls = append(urls, srv.URL)
		}
		room.Start(b.Context())
		var said bytes.Buffer
		cmd := exec.CommandContext(b.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), manyRooms+"="+strings.Join(urls, " "), "LIVEREC_DATA="+b.TempDir(), "LIVEREC_TO=s3://bucket/live?endpoint=http://127.0.0.1:1&region=x",
			"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Minute)
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		live := 0
		for _, c := range room.Connections() {
			if c.Closed.IsZero() && len(c.Frames) > 1500 {
				live++
			}
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || live != 20 {
			b.Fatalf("%d of 20 rooms were recorded for a minute: %v\n%s", live, err, said.String())
		}
		for line := range strings.Lines(string(raw)) {
			if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kb, err := strconv.Atoi(strings.Fields(v)[0])
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(kb)/1024, "MiB-RSS")
			}
		}
		b.ReportMetric(float64(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())/float64(time.Minute)*100/20, "%core/room")
		b.ReportMetric(0, "ns/op")
	}
}
