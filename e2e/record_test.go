package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := liverec(dir, "demo").Start(t)
	p.Ends(t, 150*time.Second, 0)
	if took := p.Ended.Sub(p.Started); took > 100*time.Second {
		t.Errorf("about a minute was %v", took)
	}
	names := rig.Manifests(t, dir)
	if len(names) == 0 {
		t.Fatalf("no manifest; the demo said:\n%s", p.Stdout.String())
	}
	folder := filepath.Dir(names[0])
	rec := rig.ReadAt(t, folder, folder)
	if len(rec.Parts) < 3 || len(rec.Missing()) != 0 || len(rec.Manifest.Gaps) != 0 {
		t.Errorf("%v, gaps %+v", rec, rec.Manifest.Gaps)
	}
	rec.Once(t, nil)
	if out := p.Stdout.String(); !strings.Contains(out, "manifest.json") && !strings.Contains(out, filepath.Base(folder)) {
		t.Errorf("the demo does not say what to look at:\n%s", out)
	}
}

// With no flag at all: into ./liverec-archive, until it is stopped.
func TestRecordWithoutFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := serve(t, liveroom.Config{Duration: 12 * time.Second})
	p := liverec(dir, "record", url).Start(t)
	time.Sleep(time.Second) // it waits for a room that is not live
	if !p.Alive() {
		t.Fatal("it did not wait for the room")
	}
	room.Start(t.Context())
	archive := filepath.Join(dir, "liverec-archive")
	rig.Until(t, 60*time.Second, "the manifest says that the broadcast is over", func() bool {
		m, ok := rig.ReadManifest(t, archive)
		return ok && m.Ended != nil
	})
	if !p.Alive() {
		t.Fatal("it ended without --once")
	}
	p.Signal(syscall.SIGTERM)
	p.Ends(t, 10*time.Second, 0)
	rec := rig.Read(t, archive)
	rec.Once(t, all(room, rec.Numbers[0]))
	rec.Admits(t, 0)
	// The room is looked at every few seconds, so its first ones may be over.
	if rec.Numbers[0] > 300 || len(rec.Manifest.Gaps) != 0 {
		t.Errorf("begins with picture %d, gaps %+v", rec.Numbers[0], rec.Manifest.Gaps)
	}
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
}

func TestRecordOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := live(t, liveroom.Config{Duration: 26 * time.Second, Bitrate: 2_000_000})
	p := liverec(dir, "record", "--once", url, "--segment", "10s", "--to", "file:archive", "--data", "data").Start(t)
	p.Ends(t, after(26*time.Second), 0)
	rec := rig.Read(t, filepath.Join(dir, "archive"))
	rec.Once(t, rig.Sent(room.Connections(), nil))
	rec.Admits(t, 0)
	var cuts []string
	for i, part := range rec.Manifest.Parts {
		cuts = append(cuts, part.Cut)
		if part.DurationMS > 10_000 {
			t.Errorf("part %d lasts %d ms, 10 s are the limit", part.Seq, part.DurationMS)
		}
		if v, _ := rec.Parts[i].Track(probe.Video); v.First != 0 && v.First > 50*time.Millisecond {
			t.Errorf("part %d begins at %v", part.Seq, v.First)
		}
	}
	if got := strings.Join(cuts, " "); got != "time time end" {
		t.Errorf("cuts: %s", got)
	}
	if rec.Manifest.Ended == nil || rec.Manifest.Site != "direct" {
		t.Errorf("manifest: %+v", rec.Manifest)
	}
	rig.Empty(t, filepath.Join(dir, "data"))
	var orphans struct {
		Orphans []any `json:"orphans"`
	}
	rig.JSON(t, liverec(dir, "orphans", "--json", "--data", "data"), 0, &orphans)
	if len(orphans.Orphans) != 0 {
		t.Errorf("orphans: %v", orphans)
	}
	if n := len(room.Connections()); n != 1 {
		t.Errorf("%d connections for one broadcast", n)
	}
	end := p.Stdout.String() + p.Stderr.String()
	if !strings.Contains(end, "3 of 3 parts verified") {
		t.Errorf("no report at the end:\n%s", end)
	}
}

// The chunks of the part that is being recorded arrive while it grows, each once, and the one with the head is last.
func TestChunksArriveWhileThePartGrows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s3 := rig.StartS3(t)
	proxy := rig.StartProxy(t, s3.Endpoint, nil)
	room, url := live(t, liveroom.Config{Duration: 24 * time.Second, Bitrate: 12_000_000})
	p := liverec(dir, "record", url, "--once", "--to", s3.Dest("live", proxy.URL)).Start(t)
	p.Ends(t, after(24*time.Second), 0)
	rec := rig.Read(t, s3.Dir)
	rec.Once(t, rig.Sent(room.Connections(), nil))
	rec.Admits(t, 0)
	if len(rec.Parts) != 1 {
		t.Errorf("%v", rec)
	}
	end := room.Connections()[0].Closed
	var early, heads, lastOther int
	var headAt, lastAt time.Time
	for _, c := range proxy.Calls() {
		if c.Op != rig.OpPart || c.Status != http.StatusOK {
			continue
		}
		if c.Done.Before(end) {
			early++
		}
		if c.Part == 1 {
			heads++
			headAt = c.At
		} else if lastOther++; c.At.After(lastAt) {
			lastAt = c.At
		}
	}
	if early < 4 || heads != 1 || headAt.Before(lastAt) {
		t.Errorf("%d of %d chunks before the end of the stream, the head %d times, %v after the last other one", early, heads+lastOther, heads, headAt.Sub(lastAt))
	}
	if twice := proxy.Twice(); len(twice) > 0 {
		t.Error(strings.Join(twice, "\n"))
	}
	s3.NoUploads(t)
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
	rig.NoSecrets(t, filepath.Join(dir, "liverec-data"))
	rig.NoSecrets(t, s3.Dir)
	if last := proxy.Calls()[len(proxy.Calls())-1]; last.Done.Sub(end) > 30*time.Second {
		t.Errorf("the last request came %v after the end", last.Done.Sub(end))
	}
}

// A dead target keeps nothing from the other one; what is owed to it is sent by `resume`.
func TestTwoTargetsOneDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := rig.FreePort(t)
	dead := fmt.Sprintf("s3://%s/live?endpoint=http://127.0.0.1:%d&region=us-east-1", rig.Bucket, port)
	room, url := live(t, liveroom.Config{Duration: 22 * time.Second, Bitrate: 4_000_000})
	p := liverec(dir, "record", url, "--once", "--segment", "8s", "--to", "archive", "--to", dead).Start(t)
	archive := filepath.Join(dir, "archive")
	rig.Until(t, after(22*time.Second), "the folder has everything", func() bool {
		m, ok := rig.ReadManifest(t, archive)
		return ok && m.Ended != nil
	})
	want := rig.Sent(room.Connections(), nil)
	rec := rig.Read(t, archive)
	rec.Once(t, want)
	rec.Admits(t, 0)
	time.Sleep(2 * time.Second)
	if !p.Alive() {
		t.Fatal("it ended although a required target has nothing")
	}
	if media := rig.Files(t, filepath.Join(dir, "liverec-data", "media")); len(media) != len(rec.Parts) {
		t.Errorf("of %d parts that are not safe there are on the disk: %v", len(rec.Parts), media)
	}
	p.Signal(syscall.SIGTERM)
	p.Ends(t, 30*time.Second, 3)

	s3 := rig.StartS3(t, port)
	liverec(dir, "resume").Start(t).Ends(t, 60*time.Second, 0)
	there := rig.Read(t, s3.Dir)
	there.Once(t, want)
	if there.Manifest.Ended == nil || there.Manifest.Broadcast != rec.Manifest.Broadcast {
		t.Errorf("%+v", there.Manifest)
	}
	s3.NoUploads(t)
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
	rig.Read(t, archive)
}

func TestTargetThatIsNotRequired(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dead := fmt.Sprintf("s3://%s/live?endpoint=http://127.0.0.1:%d&region=us-east-1&required=false", rig.Bucket, rig.FreePort(t))
	room, url := live(t, liveroom.Config{Duration: 8 * time.Second})
	p := liverec(dir, "record", url, "--once", "--to", "file:archive", "--to", dead).Start(t)
	p.Ends(t, after(8*time.Second), 0)
	rec := rig.Read(t, filepath.Join(dir, "archive"))
	rec.Once(t, rig.Sent(room.Connections(), nil))
}

// The second broadcast of a room is a broadcast of its own.
func TestTwoBroadcasts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := live(t, liveroom.Config{Duration: 7 * time.Second})
	p := liverec(dir, "record", url, "--grace", "3s").Start(t)
	archive := filepath.Join(dir, "liverec-archive")
	over := func(n int) func() bool {
		return func() bool {
			return len(rig.Manifests(t, archive)) == n && len(rig.Files(t, filepath.Join(dir, "liverec-data", "media"))) == 0
		}
	}
	recording(t, room, 30)
	rig.Until(t, 40*time.Second, "the first broadcast is in the archive", over(1))
	rig.Until(t, 40*time.Second, "the first broadcast is over", func() bool {
		m, ok := rig.ReadManifest(t, archive)
		return ok && m.Ended != nil
	})
	middle := room.Next()
	room.Start(t.Context())
	rig.Until(t, 60*time.Second, "the second broadcast is in the archive", over(2))
	time.Sleep(6 * time.Second)
	p.Signal(syscall.SIGTERM)
	p.Ends(t, 20*time.Second, 0)
	var ids []string
	for _, name := range rig.Manifests(t, archive) {
		rec := rig.ReadAt(t, filepath.Dir(name), filepath.Dir(name))
		ids = append(ids, rec.Manifest.Broadcast)
		want := rig.Sent(room.Connections(), func(_ liveroom.Connection, f liveroom.Frame) bool {
			return (f.Number < middle) == (rec.Numbers[0] < middle)
		})
		rec.Once(t, want)
	}
	if len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("broadcasts %v", ids)
	}
}

// A source that comes back within the grace is the same broadcast.
func TestAwayWithinTheGrace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := live(t, liveroom.Config{Fault: func(n int) liveroom.Fault {
		if n == 0 {
			return liveroom.Fault{Events: []liveroom.Event{{Tags: 500, End: liveroom.Broken}}}
		}
		if n < 6 {
			return liveroom.Fault{Status: http.StatusForbidden}
		}
		return liveroom.Fault{}
	}, Duration: 40 * time.Second})
	p := liverec(dir, "record", url, "--once", "--grace", "60s").Start(t)
	p.Ends(t, after(40*time.Second), 0)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
	rec.Once(t, rig.Sent(room.Connections(), nil))
	rec.Admits(t, 200*time.Millisecond)
	if len(rec.Parts) != 1 || len(rec.Missing()) != 1 {
		t.Errorf("%v", rec)
	}
}
