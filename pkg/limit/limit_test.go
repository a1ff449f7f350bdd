package limit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/limit"
)

func TestParseTable(t *testing.T) {
	day := func(h, m int) time.Time { return time.Date(2026, 3, 4, h, m, 0, 0, time.UTC) }
	for _, c := range []struct {
		in   string
		at   time.Time
		want float64
		bad  bool
	}{
		{in: "0", at: day(0, 0), want: 0},
		{in: "off", at: day(0, 0), want: 0},
		{in: "20M", at: day(3, 0), want: 20e6},
		{in: "1.5G", at: day(3, 0), want: 1.5e9},
		{in: "800k", at: day(3, 0), want: 800e3},
		{in: "08:00,5M 23:00,off", at: day(7, 59), want: 0},
		{in: "08:00,5M 23:00,off", at: day(8, 0), want: 5e6},
		{in: "23:00,off 08:00,5M", at: day(22, 59), want: 5e6},
		{in: "08:00,5M 23:00,off", at: day(23, 0), want: 0},
		{in: "fast", bad: true},
		{in: "-1", bad: true},
		{in: "NaN", bad: true},
		{in: "8:00pm,5M", bad: true},
		{in: "08:00,5M 08:00,6M", bad: true},
		{in: "08:00,5M 23:00", bad: true},
		{in: "25:00,5M", bad: true},
	} {
		tab, err := limit.ParseTable(c.in)
		if (err != nil) != c.bad {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if err == nil && tab.At(c.at) != c.want {
			t.Errorf("%q at %v: %v, want %v", c.in, c.at, tab.At(c.at), c.want)
		}
	}
}

func TestReaderKeepsTheRateInEveryWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bits = 8e6 // 1 MB/s
		b := limit.NewBytes(bits)
		r := b.Reader(t.Context(), bytes.NewReader(make([]byte, 30<<20)))
		start, total := time.Now(), 0
		buf := make([]byte, 256<<10)
		last, lastTotal := start, 0
		for {
			n, err := r.Read(buf)
			total += n
			if w := time.Since(last); w >= 10*time.Second {
				got := float64(total-lastTotal) / w.Seconds()
				if got < 0.9e6 || got > 1.1e6 {
					t.Errorf("a window of %v let %.0f bytes/s through, want 1e6 ± 10 %%", w, got)
				}
				last, lastTotal = time.Now(), total
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if lastTotal == 0 {
			t.Fatal("no window was measured")
		}
	})
}

func TestFollowChangesTheRateOfThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		tab, err := limit.ParseTable("00:00,8k 01:00,off")
		if err != nil {
			t.Fatal(err)
		}
		b := limit.NewBytes(0)
		done := make(chan struct{})
		now := time.Now().UTC()
		midnight := time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, time.UTC)
		time.Sleep(time.Until(midnight.Add(time.Minute)))
		go func() { tab.Follow(ctx, b, time.UTC); close(done) }()
		time.Sleep(time.Second)
		start := time.Now()
		if err := b.Wait(ctx, 1<<40); err != nil { // years at 1 kB/s
			t.Fatal(err)
		}
		if d := time.Since(start); d > 2*time.Hour || d < 50*time.Minute {
			t.Errorf("the change at 01:00 was felt after %v", d)
		}
		cancel()
		<-done
		b.Set(8)
		if err := b.Wait(ctx, 1<<20); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait on a dead context: %v", err)
		}
	})
}
