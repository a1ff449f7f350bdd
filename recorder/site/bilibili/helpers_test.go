package bilibili_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	client "github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/bilibili"
)

// The stand-in of all tests: programs find it by the variables of the environment, and these are read once.
var (
	world *bilitest.Server
	rooms *bilitest.Live
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "bilitest-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if world, err = bilitest.In(dir); err != nil {
		return 1, err
	}
	defer world.Close()
	rooms = bilitest.NewLive(world)
	for _, v := range world.Env() {
		k, v, _ := strings.Cut(v, "=")
		if err := os.Setenv(k, v); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

var lastRoom atomic.Int64

// room adds a room that is live, with real FLV behind it. Its number is its own.
func room(t *testing.T, r bilitest.LiveRoom, cfg liveroom.Config) (*bilitest.LiveRoom, *liveroom.Room) {
	t.Helper()
	lr, err := liveroom.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lr.End)
	lr.Start(context.WithoutCancel(t.Context()))
	if r.ID == 0 {
		r.ID = 1899237000 + lastRoom.Add(1)
	}
	if r.Status == 0 {
		r.Status, r.Since = 1, time.Now().Add(-time.Hour)
	}
	if r.FLV == nil {
		r.FLV = lr
	}
	return rooms.Add(r), lr
}

func site(t *testing.T) *bilibili.Site {
	t.Helper()
	return bilibili.NewSite(bilibili.SiteConfig{Client: client.NewClient(client.Config{Log: zerolog.Nop()}), Log: zerolog.New(zerolog.NewTestWriter(t))})
}

func resolver(t *testing.T, s *bilibili.Site, cfg bilibili.Config) *bilibili.Resolver {
	t.Helper()
	cfg.Log = zerolog.New(zerolog.NewTestWriter(t))
	r, err := s.Resolver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func address(r *bilitest.LiveRoom) string { return fmt.Sprintf("https://live.bilibili.com/%d", r.ID) }

func resolve(t *testing.T, r *bilibili.Resolver) recorder.Live {
	t.Helper()
	live, err := r.Resolve(t.Context(), segment.Room{})
	if err != nil {
		t.Fatal(err)
	}
	if live.Source != nil {
		t.Cleanup(func() { live.Source.Close() })
	}
	return live
}

// pull runs a source until it ends or enough packets came, and says how it ended.
func pull(t *testing.T, src recorder.Source, enough int) (packets int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	out := make(chan *media.Batch)
	done := make(chan error, 1)
	go func() {
		done <- src.Run(ctx, out)
		close(out)
	}()
	for b := range out {
		packets += len(b.Packets)
		b.Release()
		if enough > 0 && packets >= enough {
			cancel()
		}
	}
	if err = <-done; errors.Is(err, context.DeadlineExceeded) {
		t.Error("it never ended")
	}
	return packets, err
}
