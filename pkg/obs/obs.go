// Package obs is how liverec talks about itself: the logger, and a way to say the same thing once.
//
// It owns the form of a log line. It never decides what is worth one.
package obs

import (
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
)

// Logger makes the logger of a process. format is "text" (for people, in colour where that is wanted) or "json"; level
// is one of trace, debug, info, warn, error.
func Logger(w io.Writer, format, level string, colour bool) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		return zerolog.Nop(), fmt.Errorf("%q is not a level; use trace, debug, info, warn or error", level)
	}
	switch format {
	case "json":
	case "text": // people have one broadcast before their eyes, and read the proof where it came; both stand in the JSON form
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: !colour, FieldsExclude: []string{"proofs", "session"}}
	default:
		return zerolog.Nop(), fmt.Errorf("%q is not a format; use text or json", format)
	}
	return zerolog.New(w).Level(l).With().Timestamp().Logger(), nil
}

// Warner says a repeated warning once, then once per interval with a count, and says when it is over. It belongs to
// one goroutine.
type Warner struct {
	log   zerolog.Logger
	every time.Duration
	last  string
	at    time.Time
	since time.Time
	more  int
}

// NewWarner makes one that repeats itself every interval at the most.
func NewWarner(log zerolog.Logger, every time.Duration) *Warner {
	return &Warner{log: log, every: every}
}

// Add takes one more occurrence. A text that differs from the last one is said at once. Nil means that it works again.
func (w *Warner) Add(err error, msg string) {
	now := time.Now()
	if err == nil {
		if w.last != "" {
			w.log.Info().Dur("after", now.Sub(w.since)).Int("times", w.more+1).Msg(msg)
		}
		w.last, w.more = "", 0
		return
	}
	text := err.Error()
	if text != w.last {
		if w.last == "" {
			w.since = now
		}
		w.last, w.at, w.more = text, now, 0
		w.log.Warn().Err(err).Msg(msg)
		return
	}
	w.more++
	if now.Sub(w.at) >= w.every {
		w.at = now
		w.log.Warn().Err(err).Int("times", w.more+1).Dur("since", now.Sub(w.since)).Msg(msg)
	}
}
