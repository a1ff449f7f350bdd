package repair

import (
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/segment"
)

// Repairer makes one stream out of the connections of one session. It is not safe for concurrent use.
type Repairer struct {
	cfg  Config
	sink Sink
}

// New begins a session.
func New(cfg Config, sink Sink) *Repairer { return &Repairer{cfg: cfg, sink: sink} }

// Restore goes on with a session of an earlier process. Sink.Config is not called for the configuration that the
// state knows: the open part has it in its head.
func Restore(cfg Config, sink Sink, s State, tail []TailTag) *Repairer { return New(cfg, sink) }

// Connect says that a new connection begins. why tells how the last one ended; it becomes the reason of the gap if
// something is missing. Of several connections without any new media the first reason counts.
func (r *Repairer) Connect(at time.Time, why string) {}

// Push takes one batch in. The batch stays the caller's: what is held longer is copied.
func (r *Repairer) Push(b *media.Batch) error { return nil }

// Tick says how late it is while no batch comes.
func (r *Repairer) Tick(now time.Time) error { return nil }

// Disconnect ends a connection: everything held is decided and written.
func (r *Repairer) Disconnect(at time.Time) error { return nil }

// State describes what was written so far.
func (r *Repairer) State() State { return State{} }

// Account is the balance so far. Held is 0 after Disconnect.
func (r *Repairer) Account() segment.Account { return segment.Account{} }

// Configs is the current configuration, for the head of the next part.
func (r *Repairer) Configs() Configs { return Configs{} }

// Stats counts what was put right.
func (r *Repairer) Stats() Stats { return Stats{} }

// Chain adds one item to the running hash of content. It begins with 0.
func Chain(h, ordinal, sum uint64) uint64 { return h }
