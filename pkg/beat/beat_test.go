package beat_test

import (
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/beat"
)

func TestUntil(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		past, every, want time.Duration
	}{
		{0, time.Second, time.Second},
		{1, time.Second, time.Second - 1},
		{time.Second - 1, time.Second, 1},
		{700 * time.Millisecond, 250 * time.Millisecond, 50 * time.Millisecond},
		{700 * time.Millisecond, 5 * time.Second, 4300 * time.Millisecond},
	} {
		if got := beat.Until(at.Add(c.past).In(time.FixedZone("x", 1234)), c.every); got != c.want {
			t.Errorf("%v after the full second it is %v until the next of %v, want %v", c.past, got, c.every, c.want)
		}
	}
}
