// Package durable makes files that survive: created exclusively, synced with their folder, replaced all at once.
//
// It owns every rename and every removal in liverec, inside one os.Root, so that no name can lead outside of the
// folder. It never decides what may be removed.
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"
)

// Op names an operation at the fault seam.
type Op string

// The operations, in the words of their system calls.
const (
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpWriteAt  Op = "writeat"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpClose    Op = "close"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpSyncDir  Op = "syncdir"
	OpMkdir    Op = "mkdir"
	OpLink     Op = "link"
)

// Hook is called before each operation; an error takes the operation's place. Tests use it for a full disk, a broken
// disk and a crash. Nil means no hook.
type Hook func(op Op, name string) error

// Dir is a folder. All names are relative to it, with slashes.
type Dir struct {
	path string
	root *os.Root
	hook Hook
}

// Open opens the folder path and makes it if it is absent, with its parents.
func Open(path string, hook Hook) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find folder %s: %w", path, err)
	}
	d := &Dir{path: abs, hook: hook}
	if err := d.at(OpMkdir, "."); err != nil {
		return nil, fmt.Errorf("make folder %s: %w", abs, err)
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return nil, fmt.Errorf("make folder %s: %w", abs, err)
	}
	if d.root, err = os.OpenRoot(abs); err != nil {
		return nil, fmt.Errorf("open folder %s: %w", abs, err)
	}
	return d, nil
}

func (d *Dir) at(op Op, name string) error {
	if d.hook == nil {
		return nil
	}
	return d.hook(op, name)
}

// Path is the absolute path of the folder.
func (d *Dir) Path() string { return d.path }

// Abs is the absolute path of a name in the folder.
func (d *Dir) Abs(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

// Close gives the folder back. Files that were opened in it stay open.
func (d *Dir) Close() error { return d.root.Close() }

// Create makes a new file for writing and reading. The folders above it are made; they and the file's name are
// durable when Create returns. A name that is taken is fs.ErrExist.
func (d *Dir) Create(name string) (*File, error) { return d.create(name, 0o644) }

func (d *Dir) create(name string, perm fs.FileMode) (*File, error) {
	if err := d.mkdirAll(path.Dir(name)); err != nil {
		return nil, err
	}
	if err := d.at(OpCreate, name); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	if err := d.syncDir(path.Dir(name)); err != nil {
		f.Close()
		return nil, errors.Join(err, d.Remove(name)) // what was not created is not there
	}
	return &File{f: f, name: name, hook: d.hook}, nil
}

// Edit opens an existing file for writing and reading.
func (d *Dir) Edit(name string) (*File, error) {
	if err := d.at(OpOpen, name); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	f, err := d.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("measure %s: %w", name, err)
	}
	e := &File{f: f, name: name, hook: d.hook}
	e.size.Store(fi.Size())
	return e, nil
}

// Read opens an existing file for reading.
func (d *Dir) Read(name string) (*os.File, error) {
	if err := d.at(OpRead, name); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return d.root.Open(name)
}

// Stat tells what is known of a name.
func (d *Dir) Stat(name string) (fs.FileInfo, error) { return d.root.Stat(name) }

// List names all files below a folder, relative to the Dir, sorted. An absent folder has none.
func (d *Dir) List(name string) ([]string, error) {
	var names []string
	err := fs.WalkDir(d.root.FS(), path.Clean(name), func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone between the listing and the look: another process owns it
			}
			return err
		}
		if !e.IsDir() {
			names = append(names, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	sort.Strings(names)
	return names, nil
}

// Rename gives a file another name; the change is durable when it returns.
func (d *Dir) Rename(old, new string) error {
	if err := d.at(OpRename, old); err != nil {
		return fmt.Errorf("rename %s: %w", old, err)
	}
	if err := d.root.Rename(old, new); err != nil {
		return fmt.Errorf("rename %s: %w", old, err)
	}
	if err := d.syncDir(path.Dir(new)); err != nil {
		return err
	}
	if path.Dir(old) != path.Dir(new) {
		return d.syncDir(path.Dir(old))
	}
	return nil
}

// Remove takes a file away; the change is durable when it returns. A file that is absent is no error.
func (d *Dir) Remove(name string) error {
	if err := d.at(OpRemove, name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	err := d.syncDir(path.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the folder is gone as well
	}
	return err
}

// RemoveEmpty takes a folder away if nothing is in it, else it does nothing.
func (d *Dir) RemoveEmpty(name string) error {
	if err := d.at(OpRemove, name); err != nil {
		return fmt.Errorf("remove folder %s: %w", name, err)
	}
	entries, err := fs.ReadDir(d.root.FS(), path.Clean(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) > 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read folder %s: %w", name, err)
	}
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove folder %s: %w", name, err)
	}
	return d.syncDir(path.Dir(name))
}

// Replace puts data under name, all at once: after a crash there is the old content or the new, never a mixture.
func (d *Dir) Replace(name string, data []byte) error { return d.replace(name, data, 0o644) }

// ReplacePrivate is Replace for what only the owner may read: mode 0600, and the owner of the file before, where we may
// give files away. A file that is a mount point of its own (as containers mount single files) cannot be replaced; it is
// written over, and until that is on the disk the new content also lies beside it under a name that ends in PartSuffix.
func (d *Dir) ReplacePrivate(name string, data []byte) error {
	err := d.replace(name, data, 0o600)
	if !errors.Is(err, syscall.EBUSY) {
		return err
	}
	temp := "." + path.Base(name) + "." + strings.ToLower(rand.Text()[:10]) + PartSuffix
	temp = path.Join(path.Dir(name), temp)
	f, err := d.create(temp, 0o600)
	if err != nil {
		return err
	}
	if err := f.fill(data); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", name, err), d.Remove(temp))
	}
	f, err = d.Edit(name)
	if err != nil {
		return errors.Join(fmt.Errorf("write over %s: %w", name, err), d.Remove(temp))
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write over %s, its new content is in %s: %w", name, temp, err)
	}
	return d.Remove(temp)
}

func (d *Dir) replace(name string, data []byte, perm fs.FileMode) error {
	temp := path.Join(path.Dir(name), "."+path.Base(name)+"."+strings.ToLower(rand.Text()[:10])+PartSuffix)
	var old fs.FileInfo
	if perm == 0o600 {
		old, _ = d.root.Stat(name) // absent: nobody owned it
	}
	f, err := d.create(temp, perm)
	if err != nil {
		return err
	}
	if old != nil {
		if st, ok := old.Sys().(*syscall.Stat_t); ok {
			_ = f.f.Chown(int(st.Uid), int(st.Gid)) // only root may: for others it becomes theirs
		}
	}
	if err = f.fill(data); err == nil {
		err = d.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", name, err), d.Remove(temp))
	}
	return nil
}

// fill writes the content of a new file, syncs and closes it.
func (f *File) fill(data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// PartSuffix ends the name of a file that Replace has not put in place yet.
const PartSuffix = ".part"

// Link gives a file that lies elsewhere on the same file system a second name here. A name that is taken is
// fs.ErrExist, another file system is syscall.EXDEV.
func (d *Dir) Link(absOld, name string) error {
	if err := d.mkdirAll(path.Dir(name)); err != nil {
		return err
	}
	if err := d.at(OpLink, name); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return fmt.Errorf("link %s: the name leads outside of %s", name, d.path)
	}
	// os.Root has no link from outside of it. The folder was made through the root a moment ago.
	if err := os.Link(absOld, d.Abs(name)); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return d.syncDir(path.Dir(name))
}

// mkdirAll makes a folder with its parents, each synced into its own.
func (d *Dir) mkdirAll(name string) error {
	if name == "." || name == "" {
		return nil
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return fmt.Errorf("make folder %s: the name leads outside of %s", name, d.path)
	}
	if fi, err := d.root.Stat(name); err == nil && fi.IsDir() {
		return nil
	}
	if err := d.mkdirAll(path.Dir(name)); err != nil {
		return err
	}
	if err := d.at(OpMkdir, name); err != nil {
		return fmt.Errorf("make folder %s: %w", name, err)
	}
	if err := d.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make folder %s: %w", name, err)
	}
	return d.syncDir(path.Dir(name))
}

func (d *Dir) syncDir(name string) error {
	if err := d.at(OpSyncDir, name); err != nil {
		return fmt.Errorf("sync folder %s: %w", name, err)
	}
	f, err := d.root.Open(name)
	if err != nil {
		return fmt.Errorf("sync folder %s: %w", name, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", name, err)
	}
	return nil
}

// File is a file that is being written. One goroutine writes; ReadAt, WriteAt, Sync and Size may be called from
// others.
type File struct {
	f    *os.File
	name string
	hook Hook
	size atomic.Int64
	gatherer
}

func (f *File) at(op Op) error {
	if f.hook == nil {
		return nil
	}
	return f.hook(op, f.name)
}

// Name is the name under which the file was opened.
func (f *File) Name() string { return f.name }

// Size is the end of what was written.
func (f *File) Size() int64 { return f.size.Load() }

// Write appends at the end of the file.
func (f *File) Write(p []byte) (int, error) {
	if err := f.at(OpWrite); err != nil {
		return 0, fmt.Errorf("write %s: %w", f.name, err)
	}
	end := f.size.Load()
	n, err := f.f.WriteAt(p, end)
	f.size.Store(end + int64(n))
	if err != nil {
		return n, fmt.Errorf("write %s: %w", f.name, err)
	}
	return n, nil
}

// WriteAll appends pieces one behind the other, in as few calls of the system as that takes.
func (f *File) WriteAll(pieces [][]byte) error {
	if err := f.at(OpWrite); err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	end := f.size.Load()
	n, err := f.gather(pieces, end)
	f.size.Store(end + n)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	return nil
}

// WriteAt writes over a place in the file.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if err := f.at(OpWriteAt); err != nil {
		return 0, fmt.Errorf("write %s at %d: %w", f.name, off, err)
	}
	n, err := f.f.WriteAt(p, off)
	for end := off + int64(n); ; {
		old := f.size.Load()
		if end <= old || f.size.CompareAndSwap(old, end) {
			break
		}
	}
	if err != nil {
		return n, fmt.Errorf("write %s at %d: %w", f.name, off, err)
	}
	return n, nil
}

// ReadAt reads from a place in the file.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// Sync returns when everything written before is on the disk.
func (f *File) Sync() error {
	if err := f.at(OpSync); err != nil {
		return fmt.Errorf("sync %s: %w", f.name, err)
	}
	if err := fdatasync(f.f); err != nil {
		return fmt.Errorf("sync %s: %w", f.name, err)
	}
	return nil
}

// Truncate cuts the file to n bytes.
func (f *File) Truncate(n int64) error {
	if err := f.at(OpTruncate); err != nil {
		return fmt.Errorf("cut %s to %d bytes: %w", f.name, n, err)
	}
	if err := f.f.Truncate(n); err != nil {
		return fmt.Errorf("cut %s to %d bytes: %w", f.name, n, err)
	}
	f.size.Store(n)
	return nil
}

// Close closes the file. Its error is the error of the writes before.
func (f *File) Close() error {
	herr := f.at(OpClose)
	err := f.f.Close()
	if herr != nil {
		err = herr
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", f.name, err)
	}
	return nil
}
