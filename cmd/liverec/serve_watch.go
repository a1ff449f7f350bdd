package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime is how long a file must be left alone before it is read: an editor writes it in several steps.
	settleTime = 250 * time.Millisecond
	// settleMost is how long further changes put the reading off.
	settleMost = 2 * time.Second
	// statEvery is how often a file is looked at whatever the system says of changes: some file systems say nothing.
	statEvery = 30 * time.Second
)

// watcher says that something in a folder may have changed.
type watcher interface {
	// Changes rings for each change; nil if this system cannot tell.
	Changes() <-chan struct{}
	Close() error
}

// folderWatch is that of the system.
type folderWatch struct {
	w    *fsnotify.Watcher
	ring chan struct{} // cap 1; sent and closed by its own goroutine
}

// watchFile watches the folder of a file: editors and mounts put another file in its place. Whoever cannot gets one that
// never rings.
func watchFile(file string) func() (watcher, error) {
	return func() (watcher, error) {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return deafWatch{}, err
		}
		if err := w.Add(filepath.Dir(file)); err != nil {
			w.Close()
			return deafWatch{}, err
		}
		f := &folderWatch{w: w, ring: make(chan struct{}, 1)}
		go f.run(file) // ends with Close, which closes the channels that it reads
		return f, nil
	}
}

func (f *folderWatch) run(file string) {
	for {
		select {
		case e, ok := <-f.w.Events:
			if !ok {
				return
			}
			if e.Name != file && !e.Has(fsnotify.Create|fsnotify.Rename|fsnotify.Remove) {
				continue // somebody else's file grows
			}
		case _, ok := <-f.w.Errors: // events were lost: look
			if !ok {
				return
			}
		}
		select {
		case f.ring <- struct{}{}:
		default:
		}
	}
}

// Changes rings for each change in the folder.
func (f *folderWatch) Changes() <-chan struct{} { return f.ring }

// Close ends it.
func (f *folderWatch) Close() error { return f.w.Close() }

// deafWatch hears nothing; what changes is found by looking.
type deafWatch struct{}

// Changes never rings.
func (deafWatch) Changes() <-chan struct{} { return nil }

// Close does nothing.
func (deafWatch) Close() error { return nil }

// mark tells two versions of a file apart, through all links.
type mark struct {
	size int64
	mod  time.Time
	file fs.FileInfo
}

func markOf(file string) mark {
	fi, err := os.Stat(file)
	if err != nil {
		return mark{size: -1}
	}
	return mark{fi.Size(), fi.ModTime(), fi}
}

func (m mark) same(o mark) bool {
	return m.size == o.size && m.mod.Equal(o.mod) && (m.file == nil) == (o.file == nil) && (m.file == nil || os.SameFile(m.file, o.file))
}

// follower calls read when the file is another one than before, or when somebody asks for it.
type follower struct {
	file  string
	again <-chan struct{} // read it whatever it is
	watch func() (watcher, error)
	read  func(ctx context.Context)
	fail  func(err error) // the folder cannot be watched

	last mark
}

func (f *follower) String() string { return "config file" }

// Run follows the file until ctx ends.
func (f *follower) Run(ctx context.Context) error {
	w, err := f.watch()
	if err != nil {
		f.fail(err)
	}
	defer w.Close()
	look := time.NewTimer(statEvery)
	defer look.Stop()
	var since time.Time // of the first change that was not looked at yet
	for {
		asked := false
		select {
		case <-ctx.Done():
			return nil
		case <-f.again:
			asked = true
		case <-w.Changes():
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) < settleMost {
				look.Reset(settleTime) // each further one puts it off
				continue
			}
		case <-look.C:
		}
		since = time.Time{}
		look.Reset(statEvery)
		if now := markOf(f.file); asked || !now.same(f.last) {
			f.last = now
			f.read(ctx)
		}
	}
}
