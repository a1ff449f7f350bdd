package mend_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/recorder/mend"
)

// tool finds an optional program. LIVEREC_NEED_TOOLS=1 makes it a duty.
func tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("LIVEREC_NEED_TOOLS") == "1" {
			t.Fatalf("%s is needed: %v", name, err)
		}
		t.Skipf("no %s here", name)
	}
	return p
}

func ffmpeg(t testing.TB, args string, file ...string) {
	t.Helper()
	all := append([]string{"-v", "error", "-y"}, strings.Fields(args)...)
	if out, err := exec.Command(tool(t, "ffmpeg"), append(all, file...)...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg %s: %v: %s", args, err, out)
	}
}

// tag is one FLV tag.
type tag struct {
	typ  byte
	ts   int64
	body []byte
}

func (t tag) key() bool   { return t.typ == 9 && t.body[0] == 0x17 && t.body[1] == 1 }
func (t tag) frame() bool { return t.typ != 18 && t.body[1] == 1 }

func split(b []byte) (out []tag) {
	for b = b[13:]; len(b) > 0; {
		n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		ts := int64(int32(uint32(b[7])<<24 | uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6])))
		out = append(out, tag{b[0], ts, b[11 : 11+n]})
		b = b[15+n:]
	}
	return out
}

const flvHead = "FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"

func render(tags []tag) []byte {
	out := []byte(flvHead)
	for _, t := range tags {
		out = append(out, t.bytes()...)
	}
	return out
}

func (t tag) bytes() []byte {
	n, ts := len(t.body), uint32(t.ts)
	b := []byte{t.typ, byte(n >> 16), byte(n >> 8), byte(n), byte(ts >> 16), byte(ts >> 8), byte(ts), byte(ts >> 24), 0, 0, 0}
	return binary.BigEndian.AppendUint32(append(b, t.body...), uint32(11+n))
}

// live is a stretch of the live room: pictures have numbers from 1.
func live(t testing.TB, cfg liveroom.Config, d time.Duration) []tag {
	t.Helper()
	if cfg.First == 0 {
		cfg.First = 1
	}
	var b bytes.Buffer
	if _, err := liveroom.Write(&b, cfg, d); err != nil {
		t.Fatal(err)
	}
	return split(b.Bytes())
}

func save(t testing.TB, name string, b []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// repaired is what came of one file.
type repaired struct {
	mend.Report
	parts []probe.Report
}

// repairFile repairs a file and checks what is true of every repair: the file is as it was, each part is sound and plays
// to its end, and a repair of a part finds nothing to do and gives the same media.
func repairFile(t *testing.T, name string) repaired {
	t.Helper()
	before := sha256.Sum256(load(t, name))
	r, err := mend.File(context.Background(), name, mend.Options{})
	if err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	if sha256.Sum256(load(t, name)) != before {
		t.Error("the file was changed")
	}
	out := repaired{Report: r}
	for _, p := range r.Parts {
		rep := check(t, p.Path)
		out.parts = append(out.parts, rep)
		again, err := mend.File(context.Background(), p.Path, mend.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatalf("again: %v", err)
		}
		if !again.Sound || len(again.Wrong)+len(again.Done)+len(again.Left) > 0 || len(again.Parts) != 1 {
			t.Errorf("again: %+v", again)
		}
		second, err := probe.CheckFile(again.Parts[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rep.Tracks {
			a, b := rep.Tracks[i], second.Tracks[i]
			if a.Content != b.Content || a.Frames != b.Frames || (a.Last-a.First-b.Last+b.First).Abs() > 3*time.Millisecond {
				t.Errorf("again: another %s: %+v, %+v before", a.Kind, b, a)
			}
		}
		if filepath.Ext(p.Path) == ".flv" && rep.Content != second.Content {
			t.Error("again: another content")
		}
	}
	if entries, err := filepath.Glob(filepath.Join(filepath.Dir(name), "*.part")); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	return out
}

// check looks at a part with the checker and plays it.
func check(t *testing.T, name string) probe.Report {
	t.Helper()
	r, err := probe.CheckFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err != nil {
		t.Errorf("%s: %v", filepath.Base(name), err)
	}
	if p, err := exec.LookPath("ffmpeg"); err == nil {
		out, err := exec.Command(p, "-v", "error", "-xerror", "-i", name, "-f", "null", "-").CombinedOutput()
		if err != nil {
			t.Errorf("ffmpeg -xerror %s: %v: %s", filepath.Base(name), err, out)
		}
	}
	return r
}

// says asks whether one of the lines of a report has a word in it.
func (r repaired) says(t *testing.T, word string) {
	t.Helper()
	var all []string
	for _, w := range r.Wrong {
		all = append(all, w.What)
	}
	for _, d := range r.Done {
		all = append(all, d.What)
	}
	all = append(all, r.Left...)
	if !strings.Contains(strings.Join(all, "\n"), word) {
		t.Errorf("the report does not say %q: %q", word, all)
	}
}

// numbers are the pictures of all parts.
func (r repaired) numbers() []probe.Range {
	var all []uint64
	for _, p := range r.parts {
		all = append(all, p.Numbers...)
	}
	return probe.Ranges(all)
}

func (r repaired) whole(t *testing.T, want ...probe.Range) {
	t.Helper()
	got := r.numbers()
	if len(got) != len(want) {
		t.Errorf("pictures %v, want %v", got, want)
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("pictures %v, want %v", got, want)
		}
	}
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}
