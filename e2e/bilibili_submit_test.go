package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// bilibiliStudio runs a stand-in for Bilibili with uploads and submissions, and one account whose cookie file lies in
// dir.
func bilibiliStudio(t *testing.T, dir string) (*bilitest.Server, *bilitest.Studio, *bilitest.User) {
	t.Helper()
	s, err := bilitest.In(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	studio := bilitest.NewStudio(s)
	u := s.AddUser("alice")
	if err := os.WriteFile(filepath.Join(dir, "cookies.json"), s.CookieFile(u), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, studio, u
}

// partsOf are the numbers of the parts that a submission shows, by their titles.
func partsOf(a bilitest.Archive) []string {
	var out []string
	for _, title := range a.Titles {
		out = append(out, strings.SplitN(title, " ", 2)[0])
	}
	return out
}

// noSecretsOf fails the test if a secret of the account stands in the output or in a file other than the cookie file and
// the ledger.
func noSecretsOf(t *testing.T, s *bilitest.Server, u *bilitest.User, p *rig.Proc) {
	t.Helper()
	for _, secret := range s.Secrets(u) {
		if strings.Contains(p.Stdout.String()+p.Stderr.String(), secret) {
			t.Error("TestI10: a secret of the account stands in the output")
		}
	}
	if strings.Contains(p.Stdout.String()+p.Stderr.String(), "uip=") {
		t.Error("TestI10: the auth of an upload stands in the output")
	}
}

// A broadcast of four parts becomes one submission with four parts in order; each leaves the disk as soon as its
// transcode is through, and the whole is complete within 10 s of the end.
func TestBilibiliSubmission(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	world, studio, user := bilibiliStudio(t, dir)
	studio.Turn(func(k *bilitest.Knobs) { k.First, k.Second = time.Second, time.Second })
	room, url := live(t, liveroom.Config{Duration: 38 * time.Second, Bitrate: 2_000_000})
	run := liverec(dir, "record", url, "--once", "--segment", "10s", "--keep", "0s", "--title", "{room} live", "--limit-rate", "2.6M",
		"--to", "bilibili:?cookies=cookies.json&tid=171&tag=live,{room}&private=1&interval=1s")
	run.Env = world.Env()
	p := run.Start(t)
	recording(t, room, 1)
	rig.Until(t, 60*time.Second, "the first part is submitted while the room is live", func() bool { return len(studio.Archives()) == 1 })
	if !p.Alive() {
		t.Error("the submission came after the end")
	}
	rig.Until(t, 60*time.Second, "the broadcast ends", func() bool { return !room.Live() })
	ended := time.Now()
	rig.Until(t, 60*time.Second, "all four parts are listed", func() bool { return len(studio.Archives()[0].Files) == 4 })
	took := time.Since(ended)
	t.Logf("complete %v after the end", took)
	if took > 10*time.Second {
		t.Errorf("complete %v after the end", took)
	}
	p.Ends(t, 60*time.Second, 0)
	all := studio.Archives()
	if len(all) != 1 || fmt.Sprint(partsOf(all[0])) != "[P1 P2 P3 P4]" || !all[0].Private {
		t.Fatalf("%+v", all)
	}
	if !strings.HasSuffix(all[0].Title, " live") {
		t.Errorf("title %q", all[0].Title)
	}
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
	for _, o := range studio.Objects() {
		for n, times := range o.Puts {
			if times != 1 {
				t.Errorf("chunk %d of %s was sent %d times", n, o.Name, times)
			}
		}
	}
	if s := world.Strays(); len(s) > 0 {
		t.Errorf("asked for %v", s)
	}
	noSecretsOf(t, world, user, p)
}

// A kill in the middle, and the same submission goes on: no second one, no second preupload for a part that was begun,
// no chunk twice but what was in flight.
func TestBilibiliSubmissionAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	world, studio, _ := bilibiliStudio(t, dir)
	studio.Turn(func(k *bilitest.Knobs) { k.Chunk = 256 << 10 })
	room, url := live(t, liveroom.Config{Duration: 40 * time.Second, Bitrate: 2_000_000})
	to := "bilibili:?cookies=cookies.json&interval=1s"
	run := liverec(dir, "record", url, "--once", "--segment", "8s", "--keep", "0s", "--to", to)
	run.Env = world.Env()
	first := run.Start(t)
	rig.Until(t, 60*time.Second, "the first part is submitted", func() bool { return len(studio.Archives()) == 1 })
	first.Kill()
	second := run.Start(t)
	rig.Until(t, 60*time.Second, "more is added", func() bool { return len(studio.Archives()[0].Files) >= 2 })
	second.Signal(syscall.SIGKILL)
	second.Kill()
	third := run.Start(t)
	third.Ends(t, 90*time.Second, 0)
	if room.Live() {
		t.Error("it ended before the room")
	}
	all := studio.Archives()
	if len(all) != 1 {
		t.Fatalf("%d submissions", len(all))
	}
	got := partsOf(all[0])
	for i, part := range got {
		if part != fmt.Sprintf("P%d", i+1) {
			t.Errorf("shows %v", got)
			break
		}
	}
	twice := 0
	for _, o := range studio.Objects() {
		for _, times := range o.Puts {
			if times > 1 {
				twice++
			}
		}
	}
	if twice > 6 { // three in flight at each kill
		t.Errorf("%d chunks were sent twice after two kills", twice)
	}
	rig.Empty(t, filepath.Join(dir, "liverec-data"))
}

// With upload=streaming chunks arrive while the part grows, each once, and the object is what was recorded.
func TestBilibiliStreaming(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	world, studio, _ := bilibiliStudio(t, dir)
	_, url := live(t, liveroom.Config{Duration: 18 * time.Second, Bitrate: 20_000_000}) // a chunk of 10 MiB in 4 s
	run := liverec(dir, "record", url, "--once", "--segment", "15s", "--keep", "0s", "--to", "bilibili:?cookies=cookies.json&interval=1s&upload=streaming",
		"--max-size", "256MiB", "--to", "file:archive")
	run.Env = world.Env()
	p := run.Start(t)
	rig.Until(t, 60*time.Second, "chunks arrive while the first part grows", func() bool {
		o := studio.Objects()
		if strings.Contains(p.Stderr.String(), "segment sealed") {
			t.Fatal("the first part is sealed, and nothing has arrived")
		}
		return len(o) == 1 && len(o[0].Puts) >= 1 && o[0].Data == nil && o[0].Puts[1] == 0 // the head goes last
	})
	p.Ends(t, 90*time.Second, 0)
	rec := rig.Read(t, filepath.Join(dir, "archive"))
	objects := studio.Objects()
	if len(objects) != len(rec.Parts) || len(objects) < 2 {
		t.Fatalf("%d objects for %d parts", len(objects), len(rec.Parts))
	}
	for _, o := range objects {
		i := slices.IndexFunc(rec.Manifest.Parts, func(m rig.Part) bool { return m.Name == o.Name })
		if i < 0 || rec.Manifest.Parts[i].Size != int64(len(o.Data)) || rec.Manifest.Parts[i].SHA256 != fmt.Sprintf("%x", sha256.Sum256(o.Data)) {
			t.Errorf("%s is not what was recorded", o.Name)
		}
		for n, times := range o.Puts {
			if times != 1 {
				t.Errorf("chunk %d of %s was sent %d times", n, o.Name, times)
			}
		}
	}
	if all := studio.Archives(); len(all) != 1 || len(all[0].Files) != len(objects) {
		t.Errorf("%+v", all)
	}
}

// A part whose transcode fails is sent once more; when that fails too, the run ends with 3, says so, and keeps the media.
func TestBilibiliTranscodeFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	world, studio, _ := bilibiliStudio(t, dir)
	studio.Turn(func(k *bilitest.Knobs) {
		k.Transcode = func(bilitest.Part) bilitest.Outcome { return bilitest.Outcome{Fail: 9} }
	})
	_, url := live(t, liveroom.Config{Duration: 8 * time.Second})
	run := liverec(dir, "record", url, "--once", "--keep", "0s", "--to", "bilibili:?cookies=cookies.json&interval=1s")
	run.Env = world.Env()
	p := run.Start(t)
	p.Ends(t, 120*time.Second, 3)
	if n := len(studio.Objects()); n != 2 {
		t.Errorf("sent %d times", n)
	}
	if said := p.Stderr.String(); !strings.Contains(said, "the transcode failed") || !strings.Contains(said, "liverec repair") {
		t.Errorf("the cure is not told: %s", said)
	}
	if len(rig.Files(t, filepath.Join(dir, "liverec-data", "media"))) != 1 {
		t.Error("the media is not here any more")
	}
}

// A part that went bad on the disk and whose transcode fails is repaired, sent again, and takes its place in the list;
// then the part and the copy leave the disk. After five days the upload node says nothing any more: verify asks the
// submission, and says so.
func TestBilibiliRepairsWhatCannotBeTranscoded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	world, studio, _ := bilibiliStudio(t, dir)
	var first atomic.Pointer[[]byte]
	studio.Turn(func(k *bilitest.Knobs) {
		k.First, k.Second = 3*time.Second, 0
		k.Transcode = func(p bilitest.Part) bilitest.Outcome {
			if p.Name == "P0002.flv" && first.CompareAndSwap(nil, &p.Data) {
				return bilitest.Outcome{Fail: 9}
			}
			return bilitest.Outcome{}
		}
	})
	room, url := live(t, liveroom.Config{Duration: 28 * time.Second})
	run := liverec(dir, "record", url, "--once", "--segment", "8s", "--keep", "0s", "--to", "bilibili:?cookies=cookies.json&interval=1s")
	run.Env = world.Env()
	p := run.Start(t)
	var part string
	rig.Until(t, 60*time.Second, "the second part grows", func() bool {
		m, _ := filepath.Glob(filepath.Join(dir, "liverec-data", "media", "*", "P0002.flv.part"))
		if len(m) == 1 {
			if fi, err := os.Stat(m[0]); err == nil && fi.Size() > 100_000 {
				part = m[0]
			}
		}
		return part != ""
	})
	f, err := os.OpenFile(part, os.O_RDWR, 0) // a bad block
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 700), 60_000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	p.Ends(t, 120*time.Second, 0)
	if room.Live() || first.Load() == nil {
		t.Fatal("it ended before the room, or nothing failed")
	}
	said := p.Stderr.String()
	if strings.Count(said, "part is repaired and sent again") != 1 || !strings.Contains(said, "as a repaired copy") {
		t.Errorf("nothing was repaired: %s", said)
	}
	all := studio.Archives()
	if len(all) != 1 || len(all[0].Files) < 3 {
		t.Fatalf("%+v", all)
	}
	for i, part := range partsOf(all[0]) {
		if part != fmt.Sprintf("P%d", i+1) {
			t.Errorf("shows %v", partsOf(all[0]))
			break
		}
	}
	second := 0
	for _, o := range studio.Objects() {
		if o.Name != "P0002.flv" {
			continue
		}
		if second++; o.File == all[0].Files[1] {
			if bytes.Equal(o.Data, *first.Load()) {
				t.Error("what failed is in the list")
			}
			copied := filepath.Join(dir, "copy.flv")
			if err := os.WriteFile(copied, o.Data, 0o600); err != nil {
				t.Fatal(err)
			}
			if r, err := probe.CheckFile(copied); err != nil || len(r.Problems) > 0 {
				t.Errorf("the copy is not sound: %v, %v", err, r.Problems)
			}
		}
	}
	if second != 2 {
		t.Errorf("the part was sent %d times", second)
	}
	rig.Empty(t, filepath.Join(dir, "liverec-data"))

	id := regexp.MustCompile(`"broadcast":"([^"]+)"`).FindStringSubmatch(said)
	if id == nil {
		t.Fatalf("no id of the broadcast: %s", said)
	}
	asked := func(args ...string) rig.Run {
		r := liverec(dir, append([]string{"verify", id[1]}, args...)...)
		r.Env = world.Env()
		return r
	}
	asked().Start(t).Ends(t, 30*time.Second, 0)
	world.Advance(6 * 24 * time.Hour)
	v := asked().Start(t)
	v.Ends(t, 30*time.Second, 0)
	if out := v.Stdout.String(); strings.Count(out, "the upload node answers for five days only") != len(all[0].Files) {
		t.Errorf("verify does not say whom it asked: %s", out)
	}
	studio.Force(all[0].AID, -100, "")
	v = asked().Start(t)
	v.Ends(t, 30*time.Second, 1)
	if out := v.Stdout.String(); !strings.Contains(out, "does not show it") {
		t.Errorf("verify believes in a deleted submission: %s", out)
	}
}

// On a line of 200 kB/s with three failing chunks of ten, only what failed is sent again.
func TestBilibiliFailingChunks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	world, studio, _ := bilibiliStudio(t, dir)
	studio.Turn(func(k *bilitest.Knobs) { k.Chunk = 256 << 10 })
	const chunks = 14
	for range 6 { // of ten calls the third, the sixth and the ninth or so
		world.Fault("PUT upos-cs-upcdnbda2.bilivideo.com/*", bilitest.Fault{Skip: 2, Status: 502, Body: "<html>"})
	}
	for _, line := range []string{"bldsa", "tx"} {
		world.Fault("POST upos-cs-upcdn"+line+".bilivideo.com/OK", bilitest.Fault{Status: 500, Times: -1}) // so that the first line is chosen
	}
	if err := os.WriteFile(filepath.Join(dir, "film.flv"), bilitest.TestPart(60, chunks<<18), 0o600); err != nil {
		t.Fatal(err)
	}
	run := liverec(dir, "upload", "film.flv", "--limit-rate", "1.6M", "--to", "bilibili:?cookies=cookies.json&interval=1s&release=listed")
	run.Env = world.Env()
	began := time.Now()
	run.Start(t).Ends(t, 180*time.Second, 0)
	sent := len(world.Requests("PUT upos-cs-upcdnbda2.bilivideo.com/*")) + len(world.Requests("PUT upos-cs-upcdntx.bilivideo.com/*")) +
		len(world.Requests("PUT upos-cs-upcdnbldsa.bilivideo.com/*"))
	t.Logf("%d chunks in %d calls, of which 6 failed, in %v", chunks, sent, time.Since(began).Round(time.Second))
	if sent != chunks+6 {
		t.Errorf("%d calls for %d chunks with 6 failures", sent, chunks)
	}
	objects := studio.Objects()
	if len(objects) != 1 || len(objects[0].Data) != chunks<<18 || len(objects[0].Puts) != chunks {
		t.Fatalf("%d objects", len(objects))
	}
	for n, times := range objects[0].Puts {
		if times != 1 {
			t.Errorf("chunk %d was stored %d times", n, times)
		}
	}
}

// Another title, tag and description at a restart reach the submission that goes on; two targets of one account are two
// submissions; and the account that asks about rooms is renewed.
func TestBilibiliEditsAtARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	world, studio, user := bilibiliStudio(t, dir)
	world.WantsRenewal(365 * 24 * time.Hour) // at once
	if err := os.WriteFile(filepath.Join(dir, "rooms.json"), world.CookieFile(user), 0o600); err != nil {
		t.Fatal(err)
	}
	other := world.AddUser("bob")
	if err := os.WriteFile(filepath.Join(dir, "rooms.json"), world.CookieFile(other), 0o600); err != nil {
		t.Fatal(err)
	}
	_, url := live(t, liveroom.Config{Duration: 22 * time.Second})
	record := func(title, tag string) *rig.Proc {
		run := liverec(dir, "record", url, "--once", "--segment", "6s", "--title", title, "--bilibili-cookies", "rooms.json",
			"--to", "bilibili:?cookies=cookies.json&interval=1s&release=listed&tag="+tag,
			"--to", "bilibili:?cookies=cookies.json&interval=1s&release=listed&tid=17&private=1")
		run.Env = world.Env()
		return run.Start(t)
	}
	p := record("before", "one")
	rig.Until(t, 60*time.Second, "both are submitted", func() bool { return len(studio.Archives()) == 2 })
	p.Signal(syscall.SIGTERM)
	p.Wait(t, 60*time.Second)
	p = record("behind", "two,three")
	p.Ends(t, 120*time.Second, 0)
	all := studio.Archives()
	if len(all) != 2 || all[0].Private == all[1].Private {
		t.Fatalf("%+v", all)
	}
	for _, a := range all {
		if a.Title != "behind" || len(a.Files) < 2 || !a.Private && a.Tag != "two,three" {
			t.Errorf("%+v", a)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "rooms.json")); err != nil || !bytes.Contains(b, []byte(world.Secrets(other)[2])) {
		t.Errorf("the account of the rooms was not renewed in its file: %v", err)
	}
	if n := len(world.Requests("POST passport.bilibili.com/x/passport-login/oauth2/refresh_token")); n < 2 {
		t.Errorf("%d renewals of two accounts", n)
	}
	noSecretsOf(t, world, user, p)
	noSecretsOf(t, world, other, p)
}

// A dead login is refused before anything is recorded, with the target and the cure, on one to three lines.
func TestBilibiliDeadLogin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	world, _, user := bilibiliStudio(t, dir)
	world.Expire(user)
	_, url := live(t, liveroom.Config{Duration: 20 * time.Second})
	for _, to := range []string{"bilibili:?cookies=cookies.json", "bilibili:?cookies=nowhere.json"} {
		run := liverec(dir, "record", url, "--once", "--to", to)
		run.Env = world.Env()
		p := run.Start(t)
		p.Ends(t, 20*time.Second, 1)
		said := p.Stderr.String()
		if !strings.Contains(said, "liverec login bilibili") || !strings.Contains(said, strings.TrimPrefix(to, "bilibili:?cookies=")) || strings.Count(said, "\n") > 3 {
			t.Errorf("%s: %s", to, said)
		}
	}
}

// The real biliup logs in by cookie, uploads and appends on the stand-in: what it refuses and takes is not only our own
// idea.
func TestBiliupOnTheStandIn(t *testing.T) {
	t.Parallel()
	bin := rig.FindTool("biliup")
	if bin == "" {
		t.Skip("biliup is not installed")
	}
	dir := t.TempDir()
	world, studio, _ := bilibiliStudio(t, dir)
	for i, name := range []string{"one.flv", "two.flv", "three.flv"} {
		if err := os.WriteFile(filepath.Join(dir, name), bilitest.TestPart(60, 3<<20+i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	biliup := func(args ...string) string {
		t.Helper()
		p := rig.Run{Bin: bin, Dir: dir, Env: world.Env(), Args: append([]string{"--user-cookie", "cookies.json"}, args...)}.Start(t)
		p.Ends(t, 60*time.Second, 0)
		return p.Stdout.String() + p.Stderr.String()
	}
	for _, way := range []string{"web", "app"} {
		before := len(studio.Archives())
		biliup("upload", "--submit", way, "--tid", "171", "--tag", "live", "--title", "by biliup "+way, "one.flv", "two.flv")
		all := studio.Archives()
		if len(all) != before+1 || len(all[before].Files) != 2 {
			t.Fatalf("%s: %+v", way, all)
		}
		biliup("append", "--submit", way, "--vid", all[before].BVID, "three.flv")
		a := studio.Archives()[before]
		if len(a.Files) != 3 || !slices.Equal(a.Files[:2], all[before].Files) || !regexp.MustCompile(`three`).MatchString(a.Titles[2]) {
			t.Errorf("%s: %+v", way, a)
		}
		if a.Title != "by biliup "+way {
			t.Errorf("%s: title %q", way, a.Title)
		}
	}
	for _, o := range studio.Objects() {
		if o.Data == nil {
			t.Errorf("%s was not completed", o.Name)
		}
	}
	if s := world.Strays(); len(s) > 0 {
		t.Errorf("asked for %v", s)
	}
}
