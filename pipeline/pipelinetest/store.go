package pipelinetest

import (
	"context"
	"fmt"
	"sync"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
)

// Store keeps small files in memory, as a target does for manifests. It remembers everything that was ever put.
type Store struct {
	// Hook is called before and after each call with its name ("keep", "recall"); an error takes the place of the
	// call, or of its answer. It is set before the first use.
	Hook func(ctx context.Context, step string, after bool) error

	id    segment.TargetID
	mu    sync.Mutex
	files map[string][]byte
	puts  []Put
}

// Put is one file as it was once kept.
type Put struct {
	Key  string
	Data []byte
}

// NewStore makes an empty one.
func NewStore(id segment.TargetID) *Store { return &Store{id: id, files: map[string][]byte{}} }

// ID is the target's.
func (s *Store) ID() segment.TargetID { return s.id }

// Keep puts a file in place.
func (s *Store) Keep(ctx context.Context, key string, data []byte) error {
	if err := s.at(ctx, "keep", false); err != nil {
		return err
	}
	s.mu.Lock()
	s.files[key] = append([]byte(nil), data...)
	s.puts = append(s.puts, Put{key, s.files[key]})
	s.mu.Unlock()
	return s.at(ctx, "keep", true)
}

// Recall reads a file.
func (s *Store) Recall(ctx context.Context, key string) ([]byte, error) {
	if err := s.at(ctx, "recall", false); err != nil {
		return nil, err
	}
	s.mu.Lock()
	data, ok := s.files[key]
	s.mu.Unlock()
	if err := s.at(ctx, "recall", true); err != nil {
		return nil, err
	}
	if !ok {
		return nil, &failure.Error{Op: "read " + key, Err: fmt.Errorf("%w", failure.ErrAbsent)}
	}
	return append([]byte(nil), data...), nil
}

func (s *Store) at(ctx context.Context, step string, after bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Hook == nil {
		return nil
	}
	return s.Hook(ctx, step, after)
}

// Puts lists everything that was kept, in order.
func (s *Store) Puts() []Put {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Put(nil), s.puts...)
}

// File is what lies under key now, nil if nothing does.
func (s *Store) File(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[key]
}
