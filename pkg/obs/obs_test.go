package obs_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/obs"
)

func TestWarnerSaysOnceAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, err := obs.Logger(&out, "json", "info", false)
		if err != nil {
			t.Fatal(err)
		}
		w := obs.NewWarner(log, time.Minute)
		for range 600 { // ten minutes, once a second
			w.Add(errors.New("connection refused"), "source is away")
			time.Sleep(time.Second)
		}
		if n := strings.Count(out.String(), "\n"); n < 9 || n > 11 {
			t.Errorf("600 failures in 10 min gave %d lines, want about 10", n)
		}
		out.Reset()
		w.Add(errors.New("404 Not Found"), "source is away")
		w.Add(nil, "source is back")
		w.Add(nil, "source is back")
		if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "404") || !strings.Contains(got, "source is back") {
			t.Errorf("got %s", got)
		}
	})
}

func TestLoggerRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, c := range [][2]string{{"xml", "info"}, {"json", "loud"}, {"json", ""}, {"", "info"}} {
		if _, err := obs.Logger(&bytes.Buffer{}, c[0], c[1], false); err == nil {
			t.Errorf("format %q with level %q was taken", c[0], c[1])
		}
	}
}
