package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// TestKill kills the program again and again at random moments. Afterwards each picture that was served while it was
// up, less the last second before a kill, stands in both archives once; no chunk that the store had accepted was sent
// again; there is one manifest, nothing that nobody knows of, and nothing left on the disk.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 50
	if s := os.Getenv("LIVEREC_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LIVEREC_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LIVEREC_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	dir := t.TempDir()
	s3 := rig.StartS3(t)
	proxy := rig.StartProxy(t, s3.Endpoint, nil)
	archive := folder(t, dir, "archive")
	room, url := live(t, liveroom.Config{Bitrate: 16_000_000})
	type life struct{ from, to time.Time }
	var lives []life
	run := liverec(dir, "record", url, "--once", "--segment", "20s", "--to", s3.Dest("live", proxy.URL), "--to", archive)
	for i := range kills {
		p := run.Start(t)
		time.Sleep(300*time.Millisecond + time.Duration(random.Int64N(int64(1700*time.Millisecond))))
		if !p.Alive() {
			t.Fatalf("run %d ended by itself with %d:\n%s", i, p.Code(), p.Stderr.String())
		}
		killed := time.Now()
		p.Kill()
		lives = append(lives, life{p.Started, killed})
	}
	p := run.Start(t)
	lives = append(lives, life{p.Started, time.Now().Add(time.Hour)})
	time.Sleep(8 * time.Second)
	room.End()
	p.Ends(t, 120*time.Second, 0)

	want := rig.Sent(room.Connections(), func(c liveroom.Connection, f liveroom.Frame) bool {
		for _, l := range lives {
			if c.Opened.After(l.from) && c.Opened.Before(l.to) {
				return f.At.Before(l.to.Add(-time.Second))
			}
		}
		return false
	})
	if len(want) < kills*5 {
		t.Errorf("only %d pictures count", len(want))
	}
	for _, where := range []string{s3.Dir, archive} {
		rec := rig.Read(t, where)
		rec.Once(t, want)
		rec.Admits(t, 200*time.Millisecond)
		if rec.Manifest.Ended == nil {
			t.Errorf("%s: the broadcast has not ended", where)
		}
		t.Logf("%v, %d gaps", rec, len(rec.Manifest.Gaps))
	}
	if twice := proxy.Twice(); len(twice) > 0 {
		t.Errorf("%d chunks were sent again:\n%s", len(twice), strings.Join(twice, "\n"))
	}
	s3.NoUploads(t)
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
	noOrphans(t, dir)
	rig.NoSecrets(t, filepath.Join(dir, "liverec-data"))
	t.Logf("%d kills, %d pictures counted, %d chunks", kills, len(want), proxy.Count(func(c rig.Call) bool { return c.Op == rig.OpPart }))
}

func noOrphans(t *testing.T, dir string) {
	t.Helper()
	p := liverec(dir, "orphans").Start(t)
	p.Ends(t, 20*time.Second, 0)
	if out := p.Stdout.String(); strings.Contains(out, "media/") {
		t.Errorf("orphans:\n%s", out)
	}
}

// A kill while it finishes what is left, instead of while it records.
func TestKillWhileResuming(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := rig.FreePort(t)
	dead := fmt.Sprintf("s3://%s/live?endpoint=http://127.0.0.1:%d&region=us-east-1", rig.Bucket, port)
	room, url := live(t, liveroom.Config{Duration: 20 * time.Second, Bitrate: 16_000_000})
	p := liverec(dir, "record", url, "--once", "--segment", "7s", "--to", dead).Start(t)
	recording(t, room, 590)
	time.Sleep(3 * time.Second)
	p.Kill()
	s3 := rig.StartS3(t, port)
	for range 12 {
		p := liverec(dir, "resume").Start(t)
		select {
		case <-p.Done():
		case <-time.After(time.Duration(50+rand.IntN(500)) * time.Millisecond):
			p.Kill()
			continue
		}
		if p.Code() != 0 {
			t.Fatalf("resume ended with %d", p.Code())
		}
		break
	}
	liverec(dir, "resume").Start(t).Ends(t, 60*time.Second, 0)
	rec := rig.Read(t, s3.Dir)
	rec.Once(t, all(room, rec.Numbers[0]))
	if rec.Manifest.Ended == nil {
		t.Error("the broadcast has not ended")
	}
	s3.NoUploads(t)
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
	noOrphans(t, dir)
}
