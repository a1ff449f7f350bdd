package httpflv

import (
	"encoding/hex"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/media/flv"
)

const (
	oddEvery = time.Minute // between two lines of one kind
	oddHead  = 16          // bytes of junk that are shown
)

// Oddities logs what the FLV of a room has that it should not have, and that was coped with: at most one line a minute for
// each kind, with how often it was met since the last one. One outlives the connections of a room, so that a source which
// breaks off all the time fills no log. It may be used by several goroutines. The memory is a few words for each kind.
type Oddities struct {
	log zerolog.Logger

	mu   sync.Mutex
	seen map[flv.EventKind]*odd
}

// odd is what was met of one kind.
type odd struct {
	told  time.Time
	count int64 // since then
	bytes int64
}

// NewOddities logs to log.
func NewOddities(log zerolog.Logger) *Oddities {
	return &Oddities{log: log, seen: map[flv.EventKind]*odd{}}
}

// add takes an event of a connection to host.
func (o *Oddities) add(host string, e flv.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := o.seen[e.Kind]
	if k == nil {
		k = &odd{}
		o.seen[e.Kind] = k
	}
	k.count++
	k.bytes += e.Bytes
	now := time.Now()
	if !k.told.IsZero() && now.Sub(k.told) < oddEvery {
		return
	}
	level := zerolog.WarnLevel
	switch e.Kind {
	case flv.EventJoined, flv.EventTrailer, flv.EventAnnexB, flv.EventFalseKey: // nothing is lost by it
		level = zerolog.InfoLevel
	}
	line := o.log.WithLevel(level).Str("host", host).Str("what", e.Kind.String()).Int64("count", k.count).Int64("offset", e.Offset)
	if k.bytes > 0 {
		line = line.Int64("bytes", k.bytes)
	}
	if len(e.Head) > 0 {
		line = line.Str("head", hex.EncodeToString(e.Head[:min(len(e.Head), oddHead)]))
	}
	if e.What != "" {
		line = line.Str("which", e.What)
	}
	line.Msg("stream is odd, recording goes on")
	*k = odd{told: now}
}
