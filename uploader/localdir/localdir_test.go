package localdir_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/localdir"
	"github.com/liverec/liverec/uploader/targettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is a data folder and an archive, both new.
type place struct{ data, archive string }

func newPlace(t *testing.T) place {
	dir := t.TempDir()
	p := place{filepath.Join(dir, "data"), filepath.Join(dir, "mnt", "archive")}
	if err := os.MkdirAll(filepath.Join(p.data, "media"), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// link makes the target that links; without a data folder it copies.
func (p place) target(t *testing.T, link bool, change ...func(*localdir.Config)) *localdir.Target {
	t.Helper()
	cfg := localdir.Config{Path: p.archive}
	if link {
		cfg.Data = p.data
	}
	for _, c := range change {
		c(&cfg)
	}
	target, err := localdir.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target
}

// left names all files in the archive, hidden ones too.
func (p place) left(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(p.archive, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(p.archive, name)
			names = append(names, rel)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// small takes the same chunks as a Target, only smaller: the suite is about their order, not about megabytes.
type small struct{ *localdir.Target }

func (s small) Limits() uploader.Limits {
	l := s.Target.Limits()
	l.MinChunk = min(l.MinChunk, 64<<10)
	return l
}

func (p place) env(link bool) targettest.Env {
	abs := func(key string) string { return filepath.Join(p.archive, filepath.FromSlash(key)) }
	return targettest.Env{
		New: func(t *testing.T) uploader.Target {
			target := p.target(t, link)
			if target.Linking() != link {
				t.Fatalf("linking: %v, want %v", target.Linking(), link)
			}
			return small{target}
		},
		Read:   func(_ *testing.T, key string) ([]byte, error) { return os.ReadFile(abs(key)) },
		Folder: filepath.Join(p.data, "media"),
		Pending: func(t *testing.T) int {
			n := 0
			for _, name := range p.left(t) {
				if strings.HasPrefix(filepath.Base(name), ".") {
					n++
				}
			}
			return n
		},
		Damage: func(t *testing.T, key string) {
			// As a disk does it: our own file is not touched, so a link has to become a copy first.
			data, err := os.ReadFile(abs(key))
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := errors.Join(os.Remove(abs(key)), os.WriteFile(abs(key), data, 0o644)); err != nil {
				t.Fatal(err)
			}
		},
		Lose: func(t *testing.T, key string) {
			if err := os.Remove(abs(key)); err != nil {
				t.Fatal(err)
			}
		},
		Unreachable: func(t *testing.T) uploader.Target {
			return p.target(t, link, func(c *localdir.Config) { c.Path, c.Known = filepath.Join(p.archive, "gone"), true })
		},
		Many: 3,
	}
}

// Chunks of the size that is used in earnest, larger than the buffer that they go through, in any order.
func TestChunksOfFullSize(t *testing.T) {
	p := newPlace(t)
	target := p.target(t, false)
	data := make([]byte, 2*target.Limits().MinChunk+1)
	rand.NewChaCha8([32]byte{1}).Read(data)
	o := p.object(t, data)
	o.Chunk = target.Limits().MinChunk
	up, err := target.Open(t.Context(), o)
	must(t, err)
	acks := make([]segment.Ack, 3)
	for _, i := range []int{1, 2, 0} {
		c := segment.Chunk{Index: i, Offset: int64(i) * o.Chunk}
		c.Length = min(o.Chunk, o.Size-c.Offset)
		acks[i], err = up.Put(t.Context(), c, bytes.NewReader(data[c.Offset:c.Offset+c.Length]))
		must(t, err)
	}
	r, err := up.Commit(t.Context(), o, acks)
	must(t, err)
	if _, err := target.Verify(t.Context(), o, r); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(p.archive, o.Key)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestConformance(t *testing.T) {
	for _, link := range []bool{true, false} {
		t.Run(map[bool]string{true: "link", false: "copy"}[link], func(t *testing.T) {
			t.Parallel()
			targettest.Run(t, func(t *testing.T) targettest.Env { return newPlace(t).env(link) })
		})
	}
}

// object makes a sealed file in the data folder.
func (p place) object(t *testing.T, data []byte) segment.Object {
	t.Helper()
	local := filepath.Join(p.data, "media", "P0001.flv")
	if err := os.WriteFile(local, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return segment.Object{
		ID: segment.ID{Session: "01J", Seq: 1}, Key: "alice/P0001.flv", Local: local,
		Size: int64(len(data)), MaxSize: int64(len(data)), SHA256: sha256.Sum256(data),
	}
}

// send takes an object from its opening to its receipt.
func send(t *testing.T, target *localdir.Target, o segment.Object) (segment.Receipt, error) {
	t.Helper()
	o.Chunk = target.Limits().MinChunk
	up, err := target.Open(t.Context(), o)
	if err != nil {
		return segment.Receipt{}, err
	}
	var acks []segment.Ack
	if o.Chunk > 0 {
		f, err := os.Open(o.Local)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		a, err := up.Put(t.Context(), segment.Chunk{Length: o.Size}, f)
		if err != nil {
			return segment.Receipt{}, err
		}
		acks = append(acks, a)
	}
	return up.Commit(t.Context(), o, acks)
}

func TestLinkIsTheSameFile(t *testing.T) {
	p := newPlace(t)
	target := p.target(t, true)
	o := p.object(t, []byte("media"))
	r, err := send(t, target, o)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := os.Stat(o.Local)
	b, err := os.Stat(filepath.Join(p.archive, "alice", "P0001.flv"))
	if err != nil || !os.SameFile(a, b) || r.Detail != "linked" {
		t.Fatalf("not linked: %+v, %v", r, err)
	}
	proof, err := target.Verify(t.Context(), o, r)
	if err != nil || proof.How != "same file, 5 bytes" {
		t.Errorf("proof %+v, %v", proof, err)
	}
	// Once ours is gone, and whenever a person asks, the bytes themselves must speak.
	proof, err = p.target(t, true, func(c *localdir.Config) { c.Reread = true }).Verify(t.Context(), o, r)
	if err != nil || proof.How != "size and SHA-256 read back" {
		t.Errorf("proof of a reread %+v, %v", proof, err)
	}
	if err := os.Remove(o.Local); err != nil {
		t.Fatal(err)
	}
	proof, err = target.Verify(t.Context(), o, r)
	if err != nil || proof.How != "size and SHA-256 read back" || proof.Sum != "sha256:"+o.SHA256.String() {
		t.Errorf("proof after the removal %+v, %v", proof, err)
	}
}

// A file of the user may change later; a link would change with it.
func TestForeignFileIsCopied(t *testing.T) {
	p := newPlace(t)
	o := p.object(t, []byte("mine"))
	elsewhere := filepath.Join(t.TempDir(), "holiday.flv")
	if err := os.Rename(o.Local, elsewhere); err != nil {
		t.Fatal(err)
	}
	o.Local = elsewhere
	target := p.target(t, true)
	r, err := send(t, target, o)
	if err != nil || r.Detail != "copied" {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := os.WriteFile(elsewhere, []byte("Mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Verify(t.Context(), o, r); err != nil {
		t.Errorf("the copy changed with the original: %v", err)
	}
	if err := os.WriteFile(filepath.Join(t.TempDir(), "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o.Key = "alice/P0002.flv"
	if _, err := send(t, target, o); failure.KindOf(err) != failure.Permanent {
		t.Errorf("a file that is not what it was: %v", err)
	}
	if left := p.left(t); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// What cannot be a copy of the segment is somebody's file: it is named, and stays as it is.
func TestNeverOverwrites(t *testing.T) {
	for _, link := range []bool{true, false} {
		for _, what := range []string{"file of another size", "folder", "symbolic link"} {
			t.Run(fmt.Sprintf("%s, link %v", what, link), func(t *testing.T) {
				p := newPlace(t)
				target := p.target(t, link)
				final := filepath.Join(p.archive, "alice", "P0001.flv")
				if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
					t.Fatal(err)
				}
				var err error
				switch what {
				case "folder":
					err = os.Mkdir(final, 0o755)
				case "symbolic link":
					err = os.Symlink("/etc/hostname", final)
				default:
					err = os.WriteFile(final, []byte("a holiday"), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
				before, _ := os.Lstat(final)
				_, err = send(t, target, p.object(t, []byte("media")))
				if failure.KindOf(err) != failure.Permanent || !strings.Contains(failure.Hint(err), final) {
					t.Errorf("error %v, hint %q", err, failure.Hint(err))
				}
				if after, err := os.Lstat(final); err != nil || !os.SameFile(before, after) || before.Size() != after.Size() {
					t.Errorf("it was touched: %v", err)
				}
				if left := p.left(t); len(left) > 1 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	}
}

// A growing segment cannot be compared yet.
func TestNameIsTakenWhileItGrows(t *testing.T) {
	p := newPlace(t)
	target := p.target(t, false)
	o := p.object(t, []byte("media"))
	if _, err := send(t, target, o); err != nil {
		t.Fatal(err)
	}
	o.Size, o.SHA256 = -1, segment.Sum{}
	if _, err := target.Open(t.Context(), o); failure.KindOf(err) != failure.Permanent {
		t.Errorf("open over a file: %v", err)
	}
}

// I8: a mount that is lost in mid-run is never read as an archive that is empty.
func TestI8_LostMountIsNotAnEmptyArchive(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, p place){
		"folder gone": func(t *testing.T, p place) { must(t, os.Rename(filepath.Dir(p.archive), p.data+"-aside")) },
		"empty mount point": func(t *testing.T, p place) {
			must(t, os.Rename(p.archive, p.data+"-aside"))
			must(t, os.Mkdir(p.archive, 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			target := p.target(t, false)
			o := p.object(t, []byte("media"))
			r, err := send(t, target, o)
			must(t, err)
			must(t, target.Keep(t.Context(), "alice/manifest.json", []byte("{}")))
			up, err := target.Open(t.Context(), segment.Object{Key: "alice/P0002.flv", Size: -1, Chunk: 4 << 20})
			must(t, err)

			lose(t, p)
			again := p.target(t, false, func(c *localdir.Config) { c.Known = true }) // a new process, which has a ledger
			for who, target := range map[string]*localdir.Target{"same process": target, "new process": again} {
				check := func(what string, err error) {
					t.Helper()
					if err == nil || errors.Is(err, failure.ErrAbsent) || failure.KindOf(err) != failure.Transient || failure.Hint(err) == "" {
						t.Errorf("%s, %s: %v (%v), hint %q", who, what, err, failure.KindOf(err), failure.Hint(err))
					}
				}
				check("check", target.Check(t.Context()))
				_, err = target.Verify(t.Context(), o, r)
				check("verify", err)
				_, err = target.Recall(t.Context(), "alice/manifest.json")
				check("recall", err)
				check("keep", target.Keep(t.Context(), "alice/manifest.json", []byte("{}")))
				_, _, err = target.Resume(t.Context(), o, up.Token())
				check("resume", err)
				_, err = target.Open(t.Context(), o)
				check("open", err)
			}
			_, err = up.Put(t.Context(), segment.Chunk{Length: 5}, bytes.NewReader([]byte("media")))
			if err == nil || errors.Is(err, failure.ErrAbsent) {
				t.Errorf("put: %v", err)
			}
			if left := p.left(t); len(left) != 0 {
				t.Errorf("written on to the mount point: %v", left)
			}

			// It comes back: everything is as it was, in the same process.
			switch name {
			case "folder gone":
				must(t, os.Rename(p.data+"-aside", filepath.Dir(p.archive)))
			default:
				must(t, os.Remove(p.archive))
				must(t, os.Rename(p.data+"-aside", p.archive))
			}
			for _, target := range []*localdir.Target{target, again} {
				if _, err := target.Verify(t.Context(), o, r); err != nil {
					t.Errorf("verify after the mount came back: %v", err)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A fault at each step leaves nothing that a second try cannot put right, and never half a file under the final name.
func TestFaultAtEveryStep(t *testing.T) {
	for _, link := range []bool{true, false} {
		t.Run(fmt.Sprintf("link %v", link), func(t *testing.T) {
			steps := 0
			for k := 1; ; k++ {
				p := newPlace(t)
				n, armed := 0, false
				hook := func(op durable.Op, name string) error {
					if !armed {
						return nil
					}
					if n++; n == k {
						return syscall.EIO
					}
					return nil
				}
				target := p.target(t, link, func(c *localdir.Config) { c.Hook = hook })
				o := p.object(t, []byte("media"))
				armed = true
				_, err := send(t, target, o)
				failed := n >= k
				armed = false
				if !failed {
					steps = k - 1
					must(t, err)
					break
				}
				if err != nil && failure.KindOf(err) != failure.Transient {
					t.Errorf("step %d: %v is %v", k, err, failure.KindOf(err))
				}
				if data, err := os.ReadFile(filepath.Join(p.archive, "alice", "P0001.flv")); err == nil && string(data) != "media" {
					t.Errorf("step %d: %q under the final name", k, data)
				}
				again := p.target(t, link)
				r, err := send(t, again, o)
				if err != nil {
					t.Errorf("step %d: second try: %v", k, err)
					continue
				}
				if _, err := again.Verify(t.Context(), o, r); err != nil {
					t.Errorf("step %d: verify: %v", k, err)
				}
				if left := p.left(t); len(left) != 1 {
					t.Errorf("step %d leaves %v", k, left)
				}
			}
			if want := map[bool]int{true: 5, false: 12}[link]; steps < want {
				t.Errorf("only %d steps were tried", steps)
			}
		})
	}
}

func TestTroubleSaysWhoCanHelp(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind failure.Kind
		hint string
	}{
		{syscall.ENOSPC, failure.Transient, "free some space"},
		{syscall.EDQUOT, failure.Transient, "free some space"},
		{syscall.EIO, failure.Transient, "mount or the disk"},
		{syscall.ESTALE, failure.Transient, "mount or the disk"},
		{syscall.EROFS, failure.NeedsHuman, "read-only"},
		{syscall.EACCES, failure.NeedsHuman, fmt.Sprintf("as user %d", os.Getuid())},
	} {
		p := newPlace(t)
		hook := func(op durable.Op, name string) error {
			if op == durable.OpCreate || op == durable.OpLink {
				return c.err
			}
			return nil
		}
		target := p.target(t, false, func(cfg *localdir.Config) { cfg.Hook = hook })
		o := p.object(t, []byte("media"))
		for what, err := range map[string]error{
			"check": target.Check(t.Context()),
			"keep":  target.Keep(t.Context(), "alice/manifest.json", nil),
			"send":  func() error { _, err := send(t, target, o); return err }(),
		} {
			if failure.KindOf(err) != c.kind || !strings.Contains(failure.Hint(err), c.hint) {
				t.Errorf("%v at %s: %v, %v, hint %q", c.err, what, err, failure.KindOf(err), failure.Hint(err))
			}
		}
	}
}

// A file system that has no links gets the copy under its final name all the same.
func TestFileSystemWithoutLinks(t *testing.T) {
	p := newPlace(t)
	hook := func(op durable.Op, _ string) error {
		if op == durable.OpLink {
			return syscall.EPERM
		}
		return nil
	}
	target := p.target(t, true, func(c *localdir.Config) { c.Hook = hook })
	if target.Linking() {
		t.Fatal("links where there are none")
	}
	o := p.object(t, []byte("media"))
	r, err := send(t, target, o)
	must(t, err)
	if _, err := target.Verify(t.Context(), o, r); err != nil {
		t.Error(err)
	}
	if left := p.left(t); len(left) != 1 || left[0] != "alice/P0001.flv" {
		t.Errorf("the archive holds %v", left)
	}
}

// Chunks that were acknowledged and are not there any more must not become an object.
func TestTornTemporaryFile(t *testing.T) {
	p := newPlace(t)
	target := p.target(t, false)
	o := p.object(t, []byte("media"))
	o.Chunk = 4 << 20
	up, err := target.Open(t.Context(), o)
	must(t, err)
	a, err := up.Put(t.Context(), segment.Chunk{Length: 5}, bytes.NewReader([]byte("media")))
	must(t, err)
	must(t, os.Truncate(filepath.Join(p.archive, up.Token()), 3))
	if _, err := up.Commit(t.Context(), o, []segment.Ack{a}); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("commit of a torn file: %v", err)
	}
	if _, err := os.Stat(filepath.Join(p.archive, o.Key)); err == nil {
		t.Error("it is to be seen under its final name")
	}
}

func TestTokensOfOthersAreRefused(t *testing.T) {
	p := newPlace(t)
	target := p.target(t, false)
	must(t, os.MkdirAll(filepath.Join(p.archive, "alice"), 0o755))
	must(t, os.WriteFile(filepath.Join(p.archive, "alice", "P0002.flv"), []byte("x"), 0o644))
	for _, token := range []string{"", "alice/P0002.flv", "../../etc/passwd", "alice/.P0002.flv.abcdefghij.part", "crc32c:id"} {
		if _, _, err := target.Resume(t.Context(), p.object(t, []byte("media")), token); !errors.Is(err, failure.ErrAbsent) {
			t.Errorf("token %q: %v", token, err)
		}
	}
	for _, key := range []string{"", ".", "..", "../x", "/x", "a/../../x", "a//b", "a\x00b"} {
		if err := target.Keep(t.Context(), key, nil); failure.KindOf(err) != failure.Permanent {
			t.Errorf("key %q: %v", key, err)
		}
	}
}

// Temporary files of other keys, and files that only look like ours, stay.
func TestSweepTakesOnlyItsOwn(t *testing.T) {
	p := newPlace(t)
	target := p.target(t, false)
	must(t, os.MkdirAll(filepath.Join(p.archive, "alice"), 0o755))
	stay := []string{".P0002.flv.abcdefghij.part", ".P0001.flv.part", "P0001.flv.bak", ".P0001.flv.abcdefghij.part.txt", ".P0001.flv.x.abcdefghij.part"}
	for _, n := range append(stay, ".P0001.flv.abcdefghij.part") {
		must(t, os.WriteFile(filepath.Join(p.archive, "alice", n), nil, 0o644))
	}
	_, err := send(t, target, p.object(t, []byte("media")))
	must(t, err)
	if left := p.left(t); len(left) != len(stay)+1 {
		t.Errorf("left: %v", left)
	}
}

func TestReadOnlyFolder(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere")
	}
	p := newPlace(t)
	must(t, os.MkdirAll(filepath.Dir(p.archive), 0o755))
	must(t, os.Chmod(filepath.Dir(p.archive), 0o555))
	err := p.target(t, false).Check(t.Context())
	if failure.KindOf(err) != failure.NeedsHuman || !strings.Contains(failure.Hint(err), "chown") {
		t.Errorf("%v, hint %q", err, failure.Hint(err))
	}
}

func TestPathIsAFile(t *testing.T) {
	p := newPlace(t)
	must(t, os.MkdirAll(filepath.Dir(p.archive), 0o755))
	must(t, os.WriteFile(p.archive, nil, 0o644))
	err := p.target(t, true).Check(t.Context())
	if failure.KindOf(err) != failure.NeedsHuman || !strings.Contains(failure.Hint(err), "choose a folder") {
		t.Errorf("%v, hint %q", err, failure.Hint(err))
	}
}
