package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// settled is how long all programs have run before the steady state begins.
const settled = 12 * time.Second

// steadily runs programs side by side and gives what share of one core each group of them took together, in per cent.
func (b *bench) steadily(ctx context.Context, procs map[string][]*rig.Proc, length time.Duration) (map[string]float64, error) {
	if err := sleep(ctx, settled); err != nil {
		return nil, err
	}
	read := func() (map[string]time.Duration, error) {
		out := map[string]time.Duration{}
		for name, list := range procs {
			for _, p := range list {
				d, err := ticks(p.Pid())
				if err != nil {
					return nil, fmt.Errorf("%s: %w: %s", name, err, p.Stderr.String())
				}
				out[name] += d
			}
		}
		return out, nil
	}
	before, err := read()
	if err != nil {
		return nil, err
	}
	from := time.Now()
	if err := sleep(ctx, length); err != nil {
		return nil, err
	}
	after, err := read()
	if err != nil {
		return nil, err
	}
	wall := time.Since(from)
	share := map[string]float64{}
	for name := range procs {
		share[name] = 100 * (after[name] - before[name]).Seconds() / wall.Seconds()
	}
	return share, nil
}

// room is a live FLV room, already running.
func (b *bench) room(ctx context.Context) (*liveroom.Server, error) {
	room, err := liveroom.New(liveroom.Config{Bitrate: bitrate})
	if err != nil {
		return nil, err
	}
	srv, err := room.Listen(ctx)
	if err != nil {
		return nil, err
	}
	room.Start(ctx)
	return srv, nil
}

// pace lets all programs record side by side at real pace.
func (b *bench) pace(ctx context.Context) error {
	srv, err := b.room(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	peers := b.peers()
	procs := map[string][]*rig.Proc{}
	for i := range b.rooms {
		for _, c := range peers {
			dir := filepath.Join(b.dir, "pace", c.name, strconv.Itoa(i))
			p, err := b.launch(c.bin, dir, c.args(srv.URL, filepath.Join(dir, "out.flv"))...)
			if err != nil {
				return err
			}
			procs[c.name] = append(procs[c.name], p)
		}
	}
	share, err := b.steadily(ctx, procs, b.steady)
	if err != nil {
		return err
	}
	for _, c := range peers {
		bound, rss := "", 0.0
		for _, p := range procs[c.name] {
			rss = max(rss, peak(p.Pid()))
		}
		if c.bin == b.bin {
			bound = "0.8 x"
		}
		b.row(fmt.Sprintf("real pace, 8.19 Mbit/s: %s, CPU of one core per room", c.name),
			fmt.Sprintf("%.2f %%", share[c.name]/float64(b.rooms)), fmt.Sprintf("%.2f x", share[c.name]/share["curl -o"]), bound)
		if c.bin == b.bin {
			b.row("real pace: liverec, largest RSS of one room", fmt.Sprintf("%.0f MiB", rss), "", "48 MiB")
		}
		for _, p := range procs[c.name] {
			p.Kill()
		}
	}
	return nil
}

// ten records ten rooms at real pace, one process each, and ten times curl beside it.
func (b *bench) ten(ctx context.Context) error {
	const rooms = 10
	procs := map[string][]*rig.Proc{}
	for i := range rooms {
		srv, err := b.room(ctx)
		if err != nil {
			return err
		}
		defer srv.Close()
		for _, c := range b.peers()[:2] {
			dir := filepath.Join(b.dir, "rooms", c.name, strconv.Itoa(i))
			p, err := b.launch(c.bin, dir, c.args(srv.URL, filepath.Join(dir, "out.flv"))...)
			if err != nil {
				return err
			}
			procs[c.name] = append(procs[c.name], p)
		}
	}
	share, err := b.steadily(ctx, procs, min(b.steady, 30*time.Second))
	if err != nil {
		return err
	}
	rss := 0.0
	for _, p := range procs["liverec record"] {
		rss += peak(p.Pid())
	}
	b.row("10 rooms of FLV, 8.19 Mbit/s, a process each: curl -o, CPU of one core", fmt.Sprintf("%.2f %%", share["curl -o"]), "1.00 x", "")
	b.row("10 rooms of FLV, 8.19 Mbit/s, a process each: liverec record, CPU of one core", fmt.Sprintf("%.2f %%", share["liverec record"]),
		fmt.Sprintf("%.2f x", share["liverec record"]/share["curl -o"]), "8 %")
	b.row("10 rooms of FLV: liverec, RSS of all together", fmt.Sprintf("%.0f MiB", rss), "", "")
	for _, list := range procs {
		for _, p := range list {
			p.Kill()
		}
	}
	return nil
}
