package reclaim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/segment"
)

// Media is the folder, below the data folder, outside of which nothing is ever removed.
const Media = "media"

// Config of a Reclaimer.
type Config struct {
	Policy Policy
	Every  time.Duration // how often it looks although nobody rang; default 10 s
}

// Deps are the parts that a Reclaimer works with.
type Deps struct {
	Journal Journal
	Dir     *durable.Dir         // the data folder
	Disk    func() (Disk, error) // how full it is; nil: never short
	Now     func() time.Time     // default time.Now
	Log     zerolog.Logger
}

// Reclaimer is stage 4, the only remover of media.
type Reclaimer struct {
	cfg Config
	Deps
	first bool // the first look of this process has been taken

	mu  sync.Mutex
	err error // of the last look
}

// New makes a Reclaimer. It starts nothing.
func New(cfg Config, d Deps) (*Reclaimer, error) {
	if d.Journal == nil || d.Dir == nil {
		return nil, errors.New("reclaim: a journal and the data folder are needed")
	}
	if cfg.Every <= 0 {
		cfg.Every = 10 * time.Second
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return &Reclaimer{cfg: cfg, Deps: d}, nil
}

func (r *Reclaimer) String() string { return "reclaim" }

// Err is what kept the last look from removing all that may go, nil if nothing did.
func (r *Reclaimer) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Run removes what may go, at once, whenever kick rings, and every now and then. It returns when ctx is done; capture
// has ended by then, so the folders that became empty are taken away too.
func (r *Reclaimer) Run(ctx context.Context, kick <-chan struct{}) error {
	warn := obs.NewWarner(r.Log, 10*time.Minute)
	ticker := time.NewTicker(r.cfg.Every)
	defer ticker.Stop()
	for {
		err := r.look(ctx)
		if ctx.Err() != nil {
			return r.tidy()
		}
		warn.Add(err, "free the disk")
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return r.tidy()
		case <-kick:
		case <-ticker.C:
		}
	}
}

// look removes what may go now. Segments are independent: one that cannot be removed keeps no other one.
func (r *Reclaimer) look(ctx context.Context) error {
	all, err := r.Journal.Holdings(ctx)
	if err != nil {
		return fmt.Errorf("list what lies on the disk: %w", err)
	}
	var d Disk
	var errs []error
	if r.Disk != nil {
		if d, err = r.Disk(); err != nil {
			errs = append(errs, fmt.Errorf("measure the disk: %w", err)) // the Keep of each part still counts
		}
	}
	victims := Victims(all, d, r.cfg.Policy, r.Now())
	if !r.first {
		r.first = true
		victims = append(victims, r.vanished(all, victims)...)
	}
	var intended []segment.Holding
	for _, h := range victims {
		if err := owned(h); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := r.Journal.Reclaiming(ctx, h.ID); err != nil {
			errs = append(errs, fmt.Errorf("record the intention to remove %s: %w", h.ID, err))
			continue
		}
		intended = append(intended, h)
	}
	if len(intended) == 0 {
		return errors.Join(errs...)
	}
	// The intention is on record; are the proofs still? Another process may have asked a target anew in between.
	again, err := r.Journal.Holdings(ctx)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("read the proofs again: %w", err))...)
	}
	for _, h := range intended {
		if ctx.Err() != nil {
			break
		}
		i := slices.IndexFunc(again, func(x segment.Holding) bool { return x.ID == h.ID })
		if i < 0 || !again[i].Safe() || again[i].Path != h.Path {
			errs = append(errs, fmt.Errorf("remove %s: its proofs are gone, it stays", h.ID))
			continue
		}
		if err := r.remove(ctx, again[i]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove takes one proven file away, with the copies that were made of it, and says so, with the proof.
func (r *Reclaimer) remove(ctx context.Context, h segment.Holding) error {
	for _, name := range append([]string{h.Path}, h.Copies...) {
		if err := r.Dir.Remove(name); err != nil {
			return fmt.Errorf("remove %s: %w", h.ID, err)
		}
	}
	if err := r.Journal.Reclaimed(ctx, h.ID); err != nil {
		return fmt.Errorf("record that %s is removed: %w", h.ID, err)
	}
	proofs := zerolog.Dict()
	for _, t := range h.Required {
		p := h.Proofs[t]
		proofs = proofs.Dict(string(t), zerolog.Dict().Int64("size", p.Size).Str("sum", p.Sum).Str("how", p.How).Time("at", p.At))
	}
	r.Log.Info().Str("room", string(h.Room)).Str("session", string(h.ID.Session)).Uint32("seq", h.ID.Seq).
		Int64("bytes", h.Size).Dict("proofs", proofs).Msg("part reclaimed")
	return nil
}

// vanished finds files that are gone although nobody removed them, among those that are no victims anyway. The proven
// ones are written off; of the others nothing can be done here but say it.
func (r *Reclaimer) vanished(all, victims []segment.Holding) []segment.Holding {
	if r.cfg.Policy.Hold {
		return nil
	}
	var out []segment.Holding
	for _, h := range all {
		if h.Foreign || !h.Sealed || slices.ContainsFunc(victims, func(v segment.Holding) bool { return v.ID == h.ID }) {
			continue
		}
		if _, err := r.Dir.Stat(h.Path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		log := r.Log.With().Str("session", string(h.ID.Session)).Uint32("seq", h.ID.Seq).Str("path", h.Path).Logger()
		if h.Safe() {
			log.Warn().Msg("a part that was to be kept is gone; it is proven on every target")
			out = append(out, h)
		} else {
			log.Error().Msg("a part is gone that was not safe anywhere else")
		}
	}
	return out
}

// owned refuses what is not media of ours.
func owned(h segment.Holding) error {
	for _, name := range append([]string{h.Path}, h.Copies...) {
		if h.Foreign || path.Clean(name) != name || !strings.HasPrefix(name, Media+"/") {
			return fmt.Errorf("remove %s: %q is not ours to remove", h.ID, name)
		}
	}
	return nil
}

// tidy takes away the folders of sessions of which nothing is left.
func (r *Reclaimer) tidy() error {
	if r.cfg.Policy.Hold {
		return nil
	}
	entries, err := os.ReadDir(r.Dir.Abs(Media))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", Media, err)
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() {
			errs = append(errs, r.Dir.RemoveEmpty(path.Join(Media, e.Name())))
		}
	}
	return errors.Join(errs...)
}
