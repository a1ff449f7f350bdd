package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/config"
	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/web"
	"github.com/liverec/liverec/uploader"
)

func fold(name string) string { return strings.ToLower(name) }

// rates fills the bucket of all uploads by a timetable that may be changed.
type rates struct {
	bucket *limit.Bytes
	zone   *atomic.Pointer[time.Location]
	ring   chan struct{} // cap 1; rung by change, never closed

	mu    sync.Mutex
	table limit.Table
}

func (r *rates) String() string { return "upload limit" }

// change takes another timetable, or looks at the time zone again.
func (r *rates) change(t limit.Table) {
	r.mu.Lock()
	r.table = t
	r.mu.Unlock()
	select {
	case r.ring <- struct{}{}:
	default:
	}
}

// Run follows the timetable until ctx ends.
func (r *rates) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		r.mu.Lock()
		table := r.table
		r.mu.Unlock()
		within, end := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { table.Follow(within, r.bucket, r.zone.Load()) })
		select {
		case <-ctx.Done():
		case <-r.ring:
		}
		end()
		wg.Wait()
	}
	return nil
}

// logins looks after the logins of targets, which come and go.
type logins struct {
	h    *house
	ring chan struct{} // cap 1; rung by set, never closed

	mu      sync.Mutex
	targets []uploader.Destination
	then    []func() // of each set that was not followed yet
}

func (l *logins) String() string { return "logins" }

// set takes other targets. then is called when the keepers of those that are gone have ended.
func (l *logins) set(targets []uploader.Destination, then func()) {
	l.mu.Lock()
	l.targets, l.then = slices.Clone(targets), append(l.then, then)
	l.mu.Unlock()
	select {
	case l.ring <- struct{}{}:
	default:
	}
}

// Run keeps one keeper per target until ctx ends.
func (l *logins) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kept := map[uploader.Target]func(){} // what ends the keeper, and waits for its end
	for {
		l.mu.Lock()
		targets, then := l.targets, l.then
		l.then = nil
		l.mu.Unlock()
		for t, end := range kept {
			if !slices.ContainsFunc(targets, func(d uploader.Destination) bool { return d.Target == t }) {
				end()
				delete(kept, t)
			}
		}
		for _, call := range then {
			call()
		}
		for _, d := range targets {
			if kept[d.Target] == nil {
				within, end := context.WithCancel(ctx)
				over := make(chan struct{})
				kept[d.Target] = func() { end(); <-over }
				wg.Go(func() {
					defer close(over)
					l.h.keepLogin(within, d.Target)
				})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.ring:
		}
	}
}

// doorway is where the page stands: one server after the other.
type doorway struct {
	next chan *web.Server // cap 1; sent by replace, never closed

	mu  sync.Mutex
	now *web.Server
}

func (d *doorway) String() string { return "door" }

// server is the one that serves now.
func (d *doorway) server() *web.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// replace puts another server in the place of the one before. Only the holder of turn calls it.
func (d *doorway) replace(s *web.Server) {
	select {
	case <-d.next:
	default:
	}
	d.next <- s
}

// Run serves until ctx ends.
func (d *doorway) Run(ctx context.Context) error {
	for {
		within, end := context.WithCancel(ctx)
		over := make(chan error, 1)
		srv := d.server()
		go func() { over <- srv.Run(within) }() // awaited below in each case
		select {
		case err := <-over:
			end()
			return err
		case next := <-d.next:
			end()
			<-over // the address is free
			d.mu.Lock()
			d.now = next
			d.mu.Unlock()
		}
	}
}

// newDoor makes the server of a config if it is another one than before; nil if it is the same. d is what changed.
func (s *service) newDoor(cfg config.Config, d config.Change) (*web.Server, error) {
	if !slices.Contains(d.Global, "web") {
		return nil, nil
	}
	cfg.Listen = s.cfg.Listen // takes effect at the next start
	return s.makeDoor(cfg)
}

func (s *service) makeDoor(cfg config.Config) (*web.Server, error) {
	f := front{s}
	return web.New(web.ServerConfig{Listen: cfg.Listen, PasswordFile: cfg.Web.PasswordFile, TLSCert: cfg.Web.TLSCert, TLSKey: cfg.Web.TLSKey,
		Version: versionOf().Version, Pages: s.pages}, f, f, s.h.led, s.h.log)
}
