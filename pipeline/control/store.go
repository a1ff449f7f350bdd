package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/segment"
)

// Store is what a StorePublisher needs of a target: to put a small file in place, and to read it back. The target's
// own promises hold: Keep replaces all at once, an absent file is failure.ErrAbsent and nothing else is.
type Store interface {
	ID() segment.TargetID
	Keep(ctx context.Context, key string, data []byte) error
	Recall(ctx context.Context, key string) ([]byte, error)
}

// StorePublisher shows a session on a store as the file manifest.json beside its parts. Setting the list is writing
// the file, so the same state may be set any number of times.
type StorePublisher struct{ store Store }

var _ Publisher = (*StorePublisher)(nil)

// NewStorePublisher makes the Publisher of a store.
func NewStorePublisher(s Store) *StorePublisher { return &StorePublisher{store: s} }

// Target is the store.
func (p *StorePublisher) Target() segment.TargetID { return p.store.ID() }

// Key is where the manifest of a session lies on every store.
func Key(s segment.Session) string { return path.Join(s.Name, manifest.Name) }

// Find reads the manifest that lies there. One that nobody can read counts as a list without parts: it will be
// replaced. One that tells of another broadcast is left alone and needs a person.
func (p *StorePublisher) Find(ctx context.Context, s segment.Session) (string, int, bool, error) {
	data, err := p.store.Recall(ctx, Key(s))
	if errors.Is(err, failure.ErrAbsent) {
		return "", 0, false, nil
	}
	if err != nil {
		return "", 0, false, fmt.Errorf("read %s on %s: %w", Key(s), p.store.ID(), err)
	}
	m, err := manifest.Parse(data)
	if err != nil {
		return manifest.Digest(data), 0, true, nil
	}
	if m.Broadcast != string(s.ID) {
		return "", 0, false, &failure.Error{
			Op: fmt.Sprintf("read %s on %s", Key(s), p.store.ID()), Kind: failure.NeedsHuman,
			Code: "it tells of another broadcast: " + m.Broadcast,
			Hint: fmt.Sprintf("Move the folder %s on the target away, or give this recording another name.", s.Name),
		}
	}
	return manifest.Digest(data), len(m.Parts), true, nil
}

// Put writes the manifest and reads it back.
func (p *StorePublisher) Put(ctx context.Context, s segment.Session, m manifest.Manifest) error {
	data := m.Encode()
	if err := p.store.Keep(ctx, Key(s), data); err != nil {
		return fmt.Errorf("write %s on %s: %w", Key(s), p.store.ID(), err)
	}
	got, err := p.store.Recall(ctx, Key(s))
	if err != nil {
		return fmt.Errorf("read %s on %s back: %w", Key(s), p.store.ID(), err)
	}
	if !bytes.Equal(got, data) {
		return &failure.Error{
			Op:  fmt.Sprintf("read %s on %s back", Key(s), p.store.ID()),
			Err: fmt.Errorf("%w: %d bytes were written, %d other ones came back", failure.ErrDamaged, len(data), len(got)),
		}
	}
	return nil
}
