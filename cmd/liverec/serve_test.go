package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/limit"
)

// pretend is a watcher whose rings are the test's.
type pretend struct{ ring chan struct{} }

func (p pretend) Changes() <-chan struct{} { return p.ring }
func (p pretend) Close() error             { return nil }

func TestTheFileIsReadOnceItIsLeftAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), configName)
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	synctest.Test(t, func(t *testing.T) {
		w, again := pretend{make(chan struct{})}, make(chan struct{})
		var reads atomic.Int32
		f := &follower{file: file, again: again, watch: func() (watcher, error) { return w, nil }, read: func(context.Context) { reads.Add(1) },
			fail: func(err error) { t.Error(err) }, last: markOf(file)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		want := func(what string, n int32) {
			t.Helper()
			synctest.Wait()
			if got := reads.Swap(0); got != n {
				t.Errorf("%s: read %d times, want %d", what, got, n)
			}
		}
		w.ring <- struct{}{}
		time.Sleep(time.Second)
		want("something else changed in the folder", 0)
		write("ab")
		for range 3 { // an editor's steps
			w.ring <- struct{}{}
			time.Sleep(200 * time.Millisecond)
		}
		want("it is being written", 0)
		time.Sleep(100 * time.Millisecond)
		want("it is left alone", 1)
		write("abc")
		for range 30 {
			w.ring <- struct{}{}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		want("the folder is never quiet", 1)
		again <- struct{}{}
		want("somebody asks for it", 1)
		write("abcd")
		time.Sleep(statEvery + time.Second)
		want("nobody rang", 1)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestTheFolderOfTheFileIsWatched(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, configName)
	w, err := watchFile(file)()
	if err != nil {
		t.Skip(err) // this machine has no more watches
	}
	defer w.Close()
	heard := func(what string) {
		t.Helper()
		select {
		case <-w.Changes():
		case <-time.After(30 * time.Second):
			t.Fatalf("%s was not heard", what)
		}
	}
	if err := os.WriteFile(file, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	heard("a new file")
	// As a mounted secret is replaced: another file takes the name.
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "x"), file); err != nil {
		t.Fatal(err)
	}
	heard("a file in its place")
}

func TestTheLimitChangesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, err := limit.ParseTable("8k")
		if err != nil {
			t.Fatal(err)
		}
		var zone atomic.Pointer[time.Location]
		zone.Store(time.UTC)
		r := &rates{bucket: limit.NewBytes(0), zone: &zone, ring: make(chan struct{}, 1), table: slow}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Second)
		waited := make(chan time.Duration)
		began := time.Now()
		go func() {
			if err := r.bucket.Wait(ctx, 1<<20); err != nil { // 17 min at 1 kB/s
				t.Error(err)
			}
			waited <- time.Since(began)
		}()
		time.Sleep(time.Minute)
		r.change(limit.Table{}) // no limit
		if d := <-waited; d > 3*time.Minute {
			t.Errorf("it was felt after %v", d)
		}
		cancel()
		<-done
	})
}

func TestTheServiceManagerIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	said := func() string {
		t.Helper()
		if err := ln.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1024)
		n, err := ln.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "40000"}
	m := newManager(func(k string) string { return env[k] })
	m.ready()
	if got := said(); got != "READY=1" {
		t.Errorf("%q", got)
	}
	m.reloading()
	if got := said(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("%q", got)
	}
	m.stopping()
	if got := said(); got != "STOPPING=1" {
		t.Errorf("%q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m.alive = func(context.Context) error { return nil }
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	for range 2 {
		if got := said(); got != "WATCHDOG=1" {
			t.Errorf("%q", got)
		}
	}
	cancel()
	<-done
	// Whoever does not live says nothing.
	m.alive = func(context.Context) error { return errors.New("the ledger does not answer") }
	if m.feed(t.Context()) == nil {
		t.Error("it says that it lives")
	}
	none := newManager(func(string) string { return "" })
	none.ready() // there is no manager
	if none.watchdog != 0 {
		t.Error("a watchdog that nobody asked for")
	}
	abstract := newManager(func(k string) string {
		return map[string]string{"NOTIFY_SOCKET": "@liverec-test-nobody", "WATCHDOG_USEC": "x", "WATCHDOG_PID": "1"}[k]
	})
	abstract.ready() // nobody listens: no reason to end
	if abstract.watchdog != 0 {
		t.Error("a watchdog of another process")
	}
}

func TestServeRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"bad.toml":  "listen = \"127.0.0.1:0\"\n[[room]]\nurl = \"ftp://h/x\"\n",
		"open.toml": "listen = \"0.0.0.0:8420\"\n",
		"good.toml": "[[room]]\nurl = \"http://h/live.flv\"\nname = \"a\"\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"serve", "--config", "none.toml"}, exitUsage, "none.toml"},
		{[]string{"serve", "--config", ""}, exitUsage, "--config"},
		{[]string{"serve", "--config", "bad.toml"}, exitUsage, "bad.toml:3:7: room.url"},
		{[]string{"serve", "--config", "open.toml"}, exitUsage, "password-file"},
		{[]string{"serve", "--check", "bad.toml"}, exitError, "bad.toml:3:7"},
		{[]string{"serve", "--check", "none.toml"}, exitError, "none.toml"},
		{[]string{"serve", "--check", "good.toml"}, exitOK, "ok, 1 room, 1 target"},
		{[]string{"serve", "--schema"}, exitOK, "skip-titles"},
		{[]string{"serve", "a"}, exitUsage, "too many"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var out, errs bytes.Buffer
			code := Main(append([]string{"liverec"}, c.args...), strings.NewReader(""), &out, &errs)
			if code != c.code || !strings.Contains(out.String()+errs.String(), c.says) {
				t.Errorf("exit %d, %q, %q", code, out.String(), errs.String())
			}
			if code == exitUsage && (out.Len() > 0 || strings.Count(errs.String(), "\n") != 1) {
				t.Errorf("%q, %q", out.String(), errs.String())
			}
		})
	}
	if names, _ := filepath.Glob("*"); len(names) != 3 {
		t.Errorf("it left %v", names)
	}
}
