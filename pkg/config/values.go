package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// duration reads "15m".
func duration(s string, low, high time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if s == "0" {
		d, err = 0, nil
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration such as \"15m\", \"90s\" or \"1h30m\"", clip(s))
	case d < low || d > high:
		return 0, fmt.Errorf("%q is out of range; use %s to %s", clip(s), short(low), short(high))
	}
	return d, nil
}

// short is a duration as a person writes it: 24h, not 24h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// size reads "4GiB".
func size(s string, low, high int64) (int64, error) {
	n, err := ParseSize(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a size such as \"4GiB\", \"500MB\" or \"1048576\"", clip(s))
	case n < low || n > high:
		return 0, fmt.Errorf("%q is out of range; use at least %d bytes and at most %d", clip(s), low, high)
	}
	return n, nil
}

// ParseSize reads a number of bytes as people write it: 4GiB, 500MB, 1048576.
func ParseSize(s string) (int64, error) {
	t := strings.TrimSpace(s)
	num, unit := t, ""
	if i := strings.IndexFunc(t, func(r rune) bool { return (r < '0' || r > '9') && r != '.' }); i >= 0 {
		num, unit = t[:i], strings.ToLower(strings.TrimSpace(t[i:]))
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil {
		return 0, err
	}
	scale, ok := map[string]float64{"": 1, "b": 1, "k": 1 << 10, "kb": 1e3, "kib": 1 << 10, "m": 1 << 20, "mb": 1e6, "mib": 1 << 20,
		"g": 1 << 30, "gb": 1e9, "gib": 1 << 30, "t": 1 << 40, "tb": 1e12, "tib": 1 << 40}[unit]
	if !ok || f*scale >= math.MaxInt64 {
		return 0, fmt.Errorf("unit %q", unit)
	}
	return int64(f * scale), nil
}

// Window is the times of day at which a room is recorded. The zero Window is always open. It follows the wall clock of
// the moments that it is asked about, so that 18:00 stays 18:00 when summer time ends.
type Window struct {
	text  string
	spans []span
}

// span is from one minute of the day up to another, over midnight if that comes first.
type span struct{ from, to int }

// errWindow says what a window looks like.
var errWindow = errors.New(`it is no window such as "18:00-02:00", or "08:00-10:00 20:00-24:00" for several`)

// ParseWindow reads "18:00-02:00"; several are separated by spaces or commas.
func ParseWindow(s string) (Window, error) {
	w := Window{text: strings.TrimSpace(s)}
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
		a, b, ok := strings.Cut(f, "-")
		from, aok := minute(a)
		to, bok := minute(b)
		switch {
		case !ok || !aok || !bok || from == 24*60:
			return Window{}, fmt.Errorf("%q: %w", clip(f), errWindow)
		case from == to || from == 0 && to == 24*60:
			return Window{}, fmt.Errorf("%q: that is the whole day, or none of it; leave the key out to record at any time", clip(f))
		}
		w.spans = append(w.spans, span{from, to % (24 * 60)})
	}
	if len(w.spans) == 0 {
		return Window{}, fmt.Errorf("%q: %w", clip(s), errWindow)
	}
	return w, nil
}

func minute(s string) (int, bool) {
	h, m, ok := strings.Cut(s, ":")
	hour, err := strconv.ParseUint(h, 10, 8)
	min, merr := strconv.ParseUint(m, 10, 8)
	if !ok || err != nil || merr != nil || len(h) > 2 || len(m) != 2 || min > 59 || hour > 24 || hour == 24 && min > 0 {
		return 0, false
	}
	return int(hour)*60 + int(min), true
}

// String is the window as it was written, "" if it is always open.
func (w Window) String() string { return w.text }

// IsZero reports whether the window is always open.
func (w Window) IsZero() bool { return len(w.spans) == 0 }

// Open reports whether a moment lies in the window, by the clock of the moment's own time zone.
func (w Window) Open(at time.Time) bool {
	if w.IsZero() {
		return true
	}
	m := at.Hour()*60 + at.Minute()
	for _, s := range w.spans {
		if s.from < s.to && m >= s.from && m < s.to || s.from > s.to && (m >= s.from || m < s.to) {
			return true
		}
	}
	return false
}

// Next is the next moment after one at which to look again: nothing changes before it. Zero if nothing ever does. It is
// at most an hour away, since a clock that is set back or forward does so at a full hour.
func (w Window) Next(after time.Time) time.Time {
	if w.IsZero() {
		return time.Time{}
	}
	wait := 60 - after.Minute()
	for _, s := range w.spans {
		for _, edge := range [...]int{s.from, s.to} {
			if d := (edge - after.Minute() + 24*60) % 60; d > 0 {
				wait = min(wait, d)
			}
		}
	}
	return after.Truncate(time.Minute).Add(time.Duration(wait) * time.Minute)
}
