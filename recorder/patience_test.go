package recorder_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

// slowResolver takes its time, as one that starts a program does.
type slowResolver struct{ takes, cut time.Duration }

func (s *slowResolver) Resolve(ctx context.Context, _ segment.Room) (recorder.Live, error) {
	began := time.Now()
	select {
	case <-time.After(s.takes):
		return recorder.Live{Presence: recorder.Offline, Why: "asked to the end"}, nil
	case <-ctx.Done():
		s.cut = time.Since(began)
		return recorder.Live{}, errors.New("cut off")
	}
}

func (s *slowResolver) Every() time.Duration { return time.Minute }

// patientResolver says so.
type patientResolver struct{ slowResolver }

func (*patientResolver) Patience() time.Duration { return 40 * time.Second }

// A question that starts a program gets the time that it needs; the others are cut off after 20 s.
func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name    string
		patient bool
		takes   time.Duration
		want    string
	}{
		{"a program", true, 30 * time.Second, "asked to the end"},
		{"a program that hangs", true, time.Hour, "no answer for 40s"},
		{"a site", false, 30 * time.Second, "no answer for 20s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{})
				res := recorder.Resolver(&slowResolver{takes: c.takes})
				if c.patient {
					res = &patientResolver{slowResolver{takes: c.takes}}
				}
				r.deps.Resolver = res
				r.start()
				time.Sleep(45 * time.Second)
				if why := r.rec.Snapshot().Why; !strings.Contains(why, c.want) {
					t.Errorf("%q, want %q", why, c.want)
				}
				r.halt()
			})
		})
	}
}
