package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	mediaprobe "github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/recorder/mend"
)

func runMain(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Main(append([]string{"liverec"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func brokenFLV(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := liveroom.Write(&b, liveroom.Config{First: 1}, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "room.flv")
	if err := os.WriteFile(name, b.Bytes()[:b.Len()-100], 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRepair(t *testing.T) {
	name := brokenFLV(t)
	dir := filepath.Join(t.TempDir(), "new", "folder")
	code, out, errs := runMain("repair", name, "--out", dir)
	if code != 0 || errs != "" {
		t.Fatalf("%d: %s%s", code, out, errs)
	}
	for _, want := range []string{"FLV", "torn end was cut off", "room.repaired.flv"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	if r, err := mediaprobe.CheckFile(filepath.Join(dir, "room.repaired.flv")); err != nil || r.Check() != nil {
		t.Error(err, r.Check())
	}
	// Again: it is there, and nothing is overwritten.
	if code, out, errs = runMain("repair", name, "--out", dir); code != 1 || !strings.Contains(errs, "room.repaired.flv") || strings.Count(errs, "\n") != 1 {
		t.Errorf("%d: %s%s", code, out, errs)
	}
	// The flag as a variable, two files of which one is none.
	t.Setenv("LIVEREC_OUT", t.TempDir())
	page := filepath.Join(t.TempDir(), "page.flv")
	if err := os.WriteFile(page, []byte("<html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs = runMain("repair", "--json", page, name)
	var v struct {
		Format string
		OK     bool
		Files  []mend.Report
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 1 || v.OK || v.Format != "liverec-repair/1" || len(v.Files) != 2 {
		t.Fatalf("%d: %v: %s%s", code, err, out, errs)
	}
	if v.Files[0].Error == "" || v.Files[1].Error != "" || len(v.Files[1].Parts) != 1 || v.Files[1].Parts[0].VideoFrames < 148 {
		t.Errorf("%+v", v)
	}
}

func TestRepairUsage(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, c := range []struct {
		args []string
		env  string
		word string
	}{
		{args: []string{"repair"}, word: "a file is missing"},
		{args: []string{"repair", ""}, word: "empty"},
		{args: []string{"repair", "a.flv", "a.flv"}, word: "twice"},
		{args: []string{"repair", "a.flv", "--out", ""}, word: "--out"},
		{args: []string{"repair", "a.flv", "--out"}, word: "--out"},
		{args: []string{"repair", "a.flv", "--to", "x"}, word: "--to"},
		{args: []string{"repair", "a.flv", "--log-level", "loud"}, word: "loud"},
	} {
		code, out, errs := runMain(c.args...)
		if code != 2 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.word) {
			t.Errorf("%v: %d, %q, %q", c.args, code, out, errs)
		}
	}
	// A file that is not there is no usage error, and makes no folder either.
	if code, _, errs := runMain("repair", "absent.flv", "--out", "folder"); code != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "absent.flv") {
		t.Errorf("%d: %s", code, errs)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it made %v (%v)", left, err)
	}
}
