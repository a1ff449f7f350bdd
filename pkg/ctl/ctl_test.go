package ctl_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/liverec/liverec/pkg/ctl"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
)

type process struct{ did []string }

func (p *process) Status(_ context.Context, parts bool) (status.Status, error) {
	s := status.Status{Format: status.Format, UnsafeBytes: 42}
	if parts {
		s.Parts = []status.Part{{Seq: 7}}
	}
	return s, nil
}

func (p *process) Do(_ context.Context, room string, verb segment.Verb) error {
	if room != "alice" {
		return ctl.ErrNoRoom
	}
	if verb == segment.VerbStop {
		return errors.New("it has ended already")
	}
	p.did = append(p.did, string(verb))
	return nil
}

func TestTalk(t *testing.T) {
	for _, long := range []bool{false, true} {
		dir := t.TempDir()
		if long {
			dir = filepath.Join(dir, strings.Repeat("a long folder name ", 10))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		// What a killed process left behind.
		if err := os.WriteFile(filepath.Join(dir, ctl.Name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		p := &process{}
		srv, err := ctl.Listen(dir, p, p)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- srv.Run(ctx) }()
		if fi, err := os.Stat(filepath.Join(dir, ctl.Name)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v", fi.Mode(), err)
		}
		c := ctl.Dial(dir)
		st, err := c.Status(ctx, true)
		if err != nil || st.UnsafeBytes != 42 || len(st.Parts) != 1 {
			t.Errorf("status: %+v, %v", st, err)
		}
		if err := c.Do(ctx, "alice", segment.VerbSplit); err != nil || len(p.did) != 1 {
			t.Errorf("split: %v", err)
		}
		if err := c.Do(ctx, "bob", segment.VerbSplit); !errors.Is(err, ctl.ErrNoRoom) {
			t.Errorf("unknown room: %v", err)
		}
		if err := c.Do(ctx, "alice", segment.VerbStop); err == nil || !strings.Contains(err.Error(), "it has ended already") {
			t.Errorf("refused command: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, ctl.Name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket stays behind: %v", err)
		}
		if _, err := c.Status(t.Context(), false); err == nil {
			t.Error("a dead process answered")
		}
	}
}
