// Package limit keeps transfers below a rate: a bucket that all uploads share, and the timetable that fills it.
//
// It owns the waiting for bandwidth. It never touches what is being transferred.
package limit

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// burst is the largest piece that passes at once: small against any 10 s window, large against a system call.
const burst = 64 << 10

// Bytes is a bucket of bytes. It may be shared by any number of goroutines.
type Bytes struct {
	lim *rate.Limiter
	off atomic.Bool
}

// NewBytes makes a bucket of so many bits per second; 0 means no limit.
func NewBytes(bitsPerSecond float64) *Bytes {
	b := &Bytes{lim: rate.NewLimiter(rate.Inf, burst)}
	b.Set(bitsPerSecond)
	return b
}

// Set changes the rate, for those as well who are waiting now.
func (b *Bytes) Set(bitsPerSecond float64) {
	if bitsPerSecond <= 0 {
		b.off.Store(true)
		b.lim.SetLimit(rate.Inf)
		return
	}
	b.off.Store(false)
	b.lim.SetLimit(rate.Limit(bitsPerSecond / 8))
}

// Off reports whether there is no limit at the moment.
func (b *Bytes) Off() bool { return b.off.Load() }

// Wait returns when n bytes may pass, or with the error of ctx.
func (b *Bytes) Wait(ctx context.Context, n int) error {
	for n > 0 && !b.off.Load() {
		step := min(n, burst)
		if err := b.lim.WaitN(ctx, step); err != nil {
			return err
		}
		n -= step
	}
	return ctx.Err()
}

// Reader lets r through at the rate. A read never asks for more than the bucket holds.
func (b *Bytes) Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{b, ctx, r} }

type reader struct {
	b   *Bytes
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if !r.b.off.Load() && len(p) > burst {
		p = p[:burst]
	}
	n, err := r.r.Read(p)
	if n > 0 {
		if werr := r.b.Wait(r.ctx, n); werr != nil {
			return n, werr
		}
	}
	return n, err
}

// Table is a rate by the time of day.
type Table struct{ steps []step }

type step struct {
	minute int // of the day
	bits   float64
}

// ParseTable reads a rate ("20M", "off") or a timetable ("08:00,5M 23:00,off"). Rates are bits per second with k, M or
// G for powers of 1000.
func ParseTable(s string) (Table, error) {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, ",") {
		bits, err := ParseRate(s)
		if err != nil {
			return Table{}, err
		}
		return Table{[]step{{0, bits}}}, nil
	}
	var t Table
	for _, field := range strings.Fields(s) {
		at, what, ok := strings.Cut(field, ",")
		if !ok {
			return Table{}, fmt.Errorf("%q is not TIME,RATE such as 08:00,5M", field)
		}
		clock, err := time.Parse("15:04", at)
		if err != nil {
			return Table{}, fmt.Errorf("%q is not a time of day such as 08:00", at)
		}
		bits, err := ParseRate(what)
		if err != nil {
			return Table{}, err
		}
		m := clock.Hour()*60 + clock.Minute()
		if slices.ContainsFunc(t.steps, func(s step) bool { return s.minute == m }) {
			return Table{}, fmt.Errorf("%s stands twice", at)
		}
		t.steps = append(t.steps, step{m, bits})
	}
	slices.SortFunc(t.steps, func(a, b step) int { return a.minute - b.minute })
	return t, nil
}

// ParseRate reads "20M", "1.5G", "800k", "0" or "off" as bits per second; 0 is no limit.
func ParseRate(s string) (float64, error) {
	if s == "off" || s == "" {
		return 0, nil
	}
	num, unit := s, 1.0
	switch s[len(s)-1] {
	case 'k', 'K':
		num, unit = s[:len(s)-1], 1e3
	case 'm', 'M':
		num, unit = s[:len(s)-1], 1e6
	case 'g', 'G':
		num, unit = s[:len(s)-1], 1e9
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || f < 0 || f*unit > 1e15 || f != f {
		return 0, fmt.Errorf("%q is not a rate such as 20M (bit/s) or off", s)
	}
	return f * unit, nil
}

// At is the rate at a moment, in the moment's own time zone.
func (t Table) At(at time.Time) float64 {
	if len(t.steps) == 0 {
		return 0
	}
	m := at.Hour()*60 + at.Minute()
	bits := t.steps[len(t.steps)-1].bits // yesterday's last
	for _, s := range t.steps {
		if s.minute <= m {
			bits = s.bits
		}
	}
	return bits
}

// Next is the next moment at which At can change; zero if it never does.
func (t Table) Next(after time.Time) time.Time {
	if len(t.steps) < 2 {
		return time.Time{}
	}
	for day := 0; day < 3; day++ {
		for _, s := range t.steps {
			at := time.Date(after.Year(), after.Month(), after.Day()+day, s.minute/60, s.minute%60, 0, 0, after.Location())
			if at.After(after) {
				return at
			}
		}
	}
	return time.Time{}
}

// Follow sets b to what the table says, now and at each change, until ctx ends.
func (t Table) Follow(ctx context.Context, b *Bytes, zone *time.Location) {
	for {
		now := time.Now().In(zone)
		b.Set(t.At(now))
		next := t.Next(now)
		if next.IsZero() {
			return
		}
		// A clock that is set meanwhile is noticed within a minute.
		timer := time.NewTimer(min(time.Until(next), time.Minute))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
