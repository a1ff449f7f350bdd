package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
)

func open(t *testing.T, hook durable.Hook) *durable.Dir {
	t.Helper()
	d, err := durable.Open(t.TempDir(), hook)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestCreateIsExclusiveAndMakesItsFolders(t *testing.T) {
	d := open(t, nil)
	f, err := d.Create("media/s/P0001.flv.part")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"hello ", "world"} {
		if _, err := f.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt([]byte("H"), 0); err != nil {
		t.Fatal(err)
	}
	if f.Size() != 11 {
		t.Errorf("size %d, want 11", f.Size())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create("media/s/P0001.flv.part"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Create gives %v, want fs.ErrExist", err)
	}
	if err := d.Rename("media/s/P0001.flv.part", "media/s/P0001.flv"); err != nil {
		t.Fatal(err)
	}
	e, err := d.Edit("media/s/P0001.flv")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Truncate(5); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write([]byte("!")); err != nil { // goes on at the new end
		t.Fatal(err)
	}
	e.Close()
	got, _ := os.ReadFile(d.Abs("media/s/P0001.flv"))
	if string(got) != "Hello!" {
		t.Errorf("file holds %q, want %q", got, "Hello!")
	}
	names, err := d.List(".")
	if err != nil || len(names) != 1 || names[0] != "media/s/P0001.flv" {
		t.Errorf("List: %v, %v", names, err)
	}
	if err := errors.Join(d.Remove("media/s/P0001.flv"), d.Remove("media/s/P0001.flv"), d.RemoveEmpty("media/s")); err != nil {
		t.Error(err)
	}
	if _, err := d.Stat("media/s"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty folder is still there: %v", err)
	}
}

func TestNamesCannotLeadOutside(t *testing.T) {
	d := open(t, nil)
	outside := filepath.Join(filepath.Dir(d.Path()), "outside")
	if err := os.Symlink(filepath.Dir(d.Path()), d.Abs("door")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../outside", "a/../../outside", "door/outside", outside} {
		if f, err := d.Create(name); err == nil {
			f.Close()
			t.Errorf("Create(%q) was let through", name)
		}
	}
	src := d.Abs("src")
	if err := os.WriteFile(src, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Link(src, "../outside"); err == nil {
		t.Error("Link was let through")
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("a file was made outside of the folder")
	}
}

// Whatever step fails, a reader sees the old content or the new, and no temporary file stays behind.
func TestReplaceAtEveryFault(t *testing.T) {
	for k := 0; ; k++ {
		step, broken := 0, false
		d := open(t, func(op durable.Op, name string) error {
			if name == "manifest.json" || broken || !strings.Contains(name, ".manifest.json") && op != durable.OpSyncDir {
				return nil
			}
			step++
			if step == k+1 {
				broken = true
				return syscall.EIO
			}
			return nil
		})
		if err := os.WriteFile(d.Abs("manifest.json"), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := d.Replace("manifest.json", []byte("new"))
		got, _ := os.ReadFile(d.Abs("manifest.json"))
		names, _ := d.List(".")
		if len(names) != 1 {
			t.Errorf("fault at step %d leaves %v", k, names)
		}
		if err == nil {
			if string(got) != "new" {
				t.Errorf("no fault: content %q", got)
			}
			if k < 6 {
				t.Errorf("only %d steps were tried", k)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("fault at step %d: %v", k, err)
		}
		if s := string(got); s != "old" && s != "new" {
			t.Errorf("fault at step %d: content %q", k, s)
		}
	}
}

func TestProbeNamesTheCure(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		hint string
		kind failure.Kind
	}{
		{"full", syscall.ENOSPC, "free some space", failure.Transient},
		{"read-only", syscall.EROFS, "mounted read-only", failure.NeedsHuman},
		{"denied", syscall.EACCES, "chown -R", failure.NeedsHuman},
		{"no fsync", syscall.EINVAL, "fsync and rename must work", failure.NeedsHuman},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, at := range []durable.Op{durable.OpCreate, durable.OpWrite, durable.OpSync, durable.OpRename} {
				d := open(t, func(op durable.Op, _ string) error {
					if op == at {
						return c.err
					}
					return nil
				})
				err := d.Probe("me")
				if failure.KindOf(err) != c.kind || !strings.Contains(failure.Hint(err), c.hint) {
					t.Errorf("%s at %s: %v, hint %q", c.name, at, err, failure.Hint(err))
				}
				if names, _ := d.List("."); len(names) != 0 {
					t.Errorf("%s at %s leaves %v", c.name, at, names)
				}
			}
		})
	}
	d := open(t, nil)
	if err := d.Probe("me"); err != nil {
		t.Error(err)
	}
}

func TestReplacePrivate(t *testing.T) {
	for _, c := range []struct {
		name string
		busy bool // the name is a mount point: it cannot be renamed over
	}{{"an ordinary file", false}, {"a mounted file", true}} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t, func(op durable.Op, _ string) error {
				if op == durable.OpRename && c.busy {
					return syscall.EBUSY
				}
				return nil
			})
			if err := os.WriteFile(d.Abs("cookies.json"), []byte("the old content, which is longer"), 0o600); err != nil {
				t.Fatal(err)
			}
			before, err := d.Stat("cookies.json")
			if err != nil {
				t.Fatal(err)
			}
			if err := d.ReplacePrivate("cookies.json", []byte("the new one")); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(d.Abs("cookies.json"))
			after, serr := d.Stat("cookies.json")
			if err != nil || serr != nil || string(got) != "the new one" || after.Mode().Perm() != 0o600 {
				t.Errorf("%q, mode %v, %v, %v", got, after.Mode(), err, serr)
			}
			if os.SameFile(before, after) != c.busy {
				t.Errorf("the same file: %v, want %v", !c.busy, c.busy)
			}
			if names, err := d.List("."); err != nil || len(names) != 1 {
				t.Errorf("%v is left, %v", names, err)
			}
		})
	}
}

func TestWriteAllAppendsEveryPiece(t *testing.T) {
	d := open(t, nil)
	f, err := d.Create("pieces")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("begin ")); err != nil {
		t.Fatal(err)
	}
	var pieces [][]byte
	want := "begin "
	for i := range 2500 { // more than the system takes at once
		s := strings.Repeat(string(rune('a'+i%26)), i%7)
		pieces = append(pieces, []byte(s))
		want += s
	}
	if err := f.WriteAll(pieces); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteAll([][]byte{nil, {}}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(d.Abs("pieces")); err != nil || string(got) != want || f.Size() != int64(len(want)) {
		t.Errorf("%d bytes, size %d, want %d: %v", len(got), f.Size(), len(want), err)
	}
}

// The seam for faults stands in front of WriteAll as it does of Write.
func TestWriteAllOnAFullDisk(t *testing.T) {
	full := errors.New("full")
	d := open(t, func(op durable.Op, name string) error {
		if op == durable.OpWrite {
			return full
		}
		return nil
	})
	f, err := d.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.WriteAll([][]byte{[]byte("a")}); !errors.Is(err, full) || f.Size() != 0 {
		t.Errorf("%v, size %d", err, f.Size())
	}
}

// What a kill leaves of a trial is gone after the next sweep of the same name, and nobody else's is.
func TestSweep(t *testing.T) {
	path := t.TempDir()
	d, err := durable.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	mine, other := durable.Trial("me"), durable.Trial("them")
	for _, n := range []string{mine, other, "P0001.flv"} {
		if err := os.WriteFile(filepath.Join(path, n), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Sweep("me"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{other, "P0001.flv"}
	if !slices.Equal(left, want) {
		t.Errorf("%q are left, want %q", left, want)
	}
}
