package rig

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// Manifest is manifest.json as the contract has it.
type Manifest struct {
	Format    string     `json:"format"`
	Site      string     `json:"site"`
	Room      string     `json:"room"`
	Streamer  string     `json:"streamer"`
	Title     string     `json:"title"`
	Broadcast string     `json:"broadcast"`
	Started   time.Time  `json:"started"`
	Ended     *time.Time `json:"ended"`
	Parts     []Part     `json:"parts"`
	Gaps      []Gap      `json:"gaps"`
	Repairs   []Repair   `json:"repairs"`
	Account   *struct {
		Balanced bool   `json:"balanced"`
		Error    string `json:"error"`
	} `json:"account"`
}

// Part is a part of a manifest.
type Part struct {
	Seq         int       `json:"seq"`
	Name        string    `json:"name"`
	Size        int64     `json:"size"`
	SHA256      string    `json:"sha256"`
	Started     time.Time `json:"started"`
	DurationMS  int64     `json:"duration_ms"`
	VideoFrames int       `json:"video_frames"`
	AudioFrames int       `json:"audio_frames"`
	Cut         string    `json:"cut"`
}

// Gap is a gap of a manifest.
type Gap struct {
	AfterSeq int       `json:"after_seq"`
	AtMS     int64     `json:"at_ms"`
	At       time.Time `json:"at"`
	Seconds  float64   `json:"seconds"`
	Why      string    `json:"why"`
}

// Repair is a repair of a manifest.
type Repair struct {
	Seq  int    `json:"seq"`
	AtMS int64  `json:"at_ms"`
	What string `json:"what"`
}

// Recording is one broadcast as it lies in an archive.
type Recording struct {
	Dir      string
	Manifest Manifest
	Parts    []probe.Report
	Numbers  []uint64 // of all parts, in order
}

// Manifests finds all manifests below dir.
func Manifests(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	for _, name := range Files(t, dir) {
		if filepath.Base(name) == "manifest.json" {
			out = append(out, filepath.Join(dir, name))
		}
	}
	return out
}

// Files lists all files below dir, relative. The private folder of the S3 server is left out.
func Files(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err):
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".sgwtmp":
			return fs.SkipDir
		case d.Type().IsRegular():
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			out = append(out, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ReadManifest reads a manifest; ok is false while there is none or it is being replaced.
func ReadManifest(t testing.TB, dir string) (m Manifest, ok bool) {
	t.Helper()
	names := Manifests(t, dir)
	if len(names) != 1 {
		return m, false
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		return m, false
	}
	return m, json.Unmarshal(b, &m) == nil
}

// Read reads the one broadcast below dir and fails the test for everything that is wrong with it by itself: a part
// that is not sound (apart from the known kinds of problems), a manifest that does not agree with the files, a file that
// does not belong there.
func Read(t testing.TB, dir string, known ...probe.Code) *Recording {
	t.Helper()
	names := Manifests(t, dir)
	if len(names) != 1 {
		t.Fatalf("%d manifests in %s: %v", len(names), dir, Files(t, dir))
	}
	return ReadAt(t, filepath.Dir(names[0]), dir, known...)
}

// ReadAt is Read for the broadcast in folder; every file below root must belong to it.
func ReadAt(t testing.TB, folder, root string, known ...probe.Code) *Recording {
	t.Helper()
	rec := &Recording{Dir: folder}
	b, err := os.ReadFile(filepath.Join(folder, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &rec.Manifest); err != nil {
		t.Fatalf("manifest: %v\n%s", err, b)
	}
	m := rec.Manifest
	if m.Format != "liverec/1" || m.Broadcast == "" || m.Site == "" || m.Started.IsZero() {
		t.Errorf("manifest: %s", b)
	}
	if m.Account != nil && !m.Account.Balanced {
		t.Errorf("the account does not balance: %s", m.Account.Error)
	}
	mine := map[string]bool{"manifest.json": true}
	for i, p := range m.Parts {
		mine[p.Name] = true
		if p.Seq != i+1 {
			t.Errorf("part %d of the manifest has number %d", i+1, p.Seq)
		}
		name := filepath.Join(folder, p.Name)
		r, err := probe.File(name)
		if err != nil {
			t.Errorf("part %d: %v", p.Seq, err)
			continue
		}
		rec.Parts = append(rec.Parts, r)
		rec.Numbers = append(rec.Numbers, r.Numbers...)
		if err := r.Check(known...); err != nil {
			t.Errorf("%s is not sound:\n%v", p.Name, err)
		}
		if sum, err := sha(name); err != nil || sum != p.SHA256 || r.Size != p.Size {
			t.Errorf("%s: %d bytes, SHA-256 %s, the manifest has %d, %s (%v)", p.Name, r.Size, sum, p.Size, p.SHA256, err)
		}
		v, _ := r.Track(probe.Video)
		a, _ := r.Track(probe.Audio)
		if v.Frames != p.VideoFrames || a.Frames != p.AudioFrames {
			t.Errorf("%s: %d pictures and %d audio frames, the manifest has %d and %d", p.Name, v.Frames, a.Frames, p.VideoFrames, p.AudioFrames)
		}
		if d := r.Media() - time.Duration(p.DurationMS)*time.Millisecond; d.Abs() > 60*time.Millisecond {
			t.Errorf("%s: lasts %v, the manifest has %d ms", p.Name, r.Media(), p.DurationMS)
		}
	}
	rel, err := filepath.Rel(root, folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Files(t, root) {
		inside, ok := strings.CutPrefix(f, filepath.ToSlash(rel)+"/")
		if rel == "." {
			inside, ok = f, true
		}
		if !ok || !mine[inside] {
			t.Errorf("%s does not belong into the archive", f)
		}
	}
	return rec
}

func sha(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Once fails the test unless every picture of want stands in the recording once, and no picture stands there twice or
// out of order.
func (r *Recording) Once(t testing.TB, want []uint64) {
	t.Helper()
	have := map[uint64]int{}
	for i, n := range r.Numbers {
		have[n]++
		if i > 0 && n < r.Numbers[i-1] {
			t.Errorf("picture %d comes after picture %d", n, r.Numbers[i-1])
		}
	}
	var twice, missing []uint64
	for n, k := range have {
		if k > 1 {
			twice = append(twice, n)
		}
	}
	seen := map[uint64]bool{}
	for _, n := range want {
		if have[n] == 0 && !seen[n] {
			missing = append(missing, n)
		}
		seen[n] = true
	}
	slices.Sort(twice)
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("%d pictures are missing: %v", len(missing), probe.Ranges(missing))
	}
	if len(twice) > 0 {
		t.Errorf("%d pictures stand there twice: %v", len(twice), probe.Ranges(twice))
	}
}

// Missing are the runs of pictures that are missing between the first and the last one of the recording.
func (r *Recording) Missing() []probe.Range {
	var out []probe.Range
	runs := probe.Ranges(r.Numbers)
	for i := 1; i < len(runs); i++ {
		out = append(out, probe.Range{First: runs[i-1].Last + 1, Last: runs[i].First - 1})
	}
	return out
}

// Admits fails the test unless the manifest admits each missing run as a gap, in its place and of its length, and no
// other (a run before the first picture or after the last is not looked at). tolerance is for each gap.
func (r *Recording) Admits(t testing.TB, tolerance time.Duration) {
	t.Helper()
	missing := r.Missing()
	var admitted []Gap
	for _, g := range r.Manifest.Gaps {
		if g.AfterSeq > 0 {
			admitted = append(admitted, g)
		}
		if g.Why == "" {
			t.Errorf("a gap without a reason: %+v", g)
		}
	}
	var lost, said float64
	for _, m := range missing {
		lost += float64(m.Last-m.First+1) / 30
	}
	for _, g := range admitted {
		said += g.Seconds
	}
	if len(missing) != len(admitted) || math.Abs(lost-said) > tolerance.Seconds()*float64(max(1, len(missing))) {
		t.Errorf("missing: %v, %.2f s together; admitted: %d gaps, %.2f s: %+v", missing, lost, len(admitted), said, r.Manifest.Gaps)
		return
	}
	for i, m := range missing {
		if d := math.Abs(float64(m.Last-m.First+1)/30 - admitted[i].Seconds); d > tolerance.Seconds() {
			t.Errorf("pictures %v are missing, the gap has %.2f s", m, admitted[i].Seconds)
		}
		seq, at := r.place(m.First - 1)
		if seq != admitted[i].AfterSeq || math.Abs(float64(at-admitted[i].AtMS)) > 100 {
			t.Errorf("pictures %v are missing after part %d, %d ms; the gap says part %d, %d ms", m, seq, at, admitted[i].AfterSeq, admitted[i].AtMS)
		}
	}
}

// place is where picture n stands: its part and how far into it.
func (r *Recording) place(n uint64) (seq int, ms int64) {
	for i, p := range r.Parts {
		if k := slices.Index(p.Numbers, n); k >= 0 {
			return r.Manifest.Parts[i].Seq, p.At[k].Milliseconds()
		}
	}
	return 0, 0
}

// Sent are the numbers of the pictures that left on some connection, in any order, each once, if keep says so.
func Sent(conns []liveroom.Connection, keep func(liveroom.Connection, liveroom.Frame) bool) []uint64 {
	seen := map[uint64]bool{}
	var out []uint64
	for _, c := range conns {
		for _, f := range c.Frames {
			if !seen[f.Number] && (keep == nil || keep(c, f)) {
				seen[f.Number] = true
				out = append(out, f.Number)
			}
		}
	}
	slices.Sort(out)
	return out
}

// Empty fails the test if media is left below the data folder.
func Empty(t testing.TB, data string) {
	t.Helper()
	if left := Files(t, filepath.Join(data, "media")); len(left) > 0 {
		t.Errorf("media is left on the disk: %v", left)
	}
}

// NoSecrets fails the test if the password stands in a file below dir.
func NoSecrets(t testing.TB, dir string) {
	t.Helper()
	for _, name := range Files(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), Secret) {
			t.Errorf("TestI10: a secret stands in %s", name)
		}
	}
}

// String is for failure messages.
func (r *Recording) String() string {
	s := fmt.Sprintf("%s: %d parts", r.Dir, len(r.Parts))
	for i, p := range r.Parts {
		s += fmt.Sprintf("\n  %s %s %v", r.Manifest.Parts[i].Name, r.Manifest.Parts[i].Cut, probe.Ranges(p.Numbers))
	}
	return s
}
