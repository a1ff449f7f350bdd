package httpflv

import (
	"testing"
	"testing/synctest"
	"time"
)

// socket is a reader that has what has come until now, up to the window of the receiver.
type socket struct {
	born   time.Time
	rate   int // bytes per second
	window int
	took   int
	reads  int
}

func (s *socket) Read(p []byte) (int, error) {
	for {
		came := int(time.Since(s.born).Seconds() * float64(s.rate))
		if n := min(came-s.took, s.window, len(p)); n > 0 {
			s.reads++
			if came-s.took > s.window { // the sender stood still while the window was full
				s.born = s.born.Add(time.Duration(float64(came-s.took-s.window) / float64(s.rate) * float64(time.Second)))
			}
			s.took += n
			return n, nil
		}
		time.Sleep(time.Second / 73) // the next tag
	}
}

// At real pace one wake-up serves many tags; at full speed, and where the own window would hold the sender back, there
// is no waiting.
func TestNapper(t *testing.T) {
	for _, c := range []struct {
		name         string
		rate, window int
		least, most  int // reads in 60 s
		kept         float64
	}{
		{"8 Mbit/s", 1_000_000, 1 << 20, 500, 640, 0.99},
		{"0.4 Mbit/s", 50_000, 1 << 20, 500, 640, 0.99},
		{"100 Mbit/s", 12_500_000, 4 << 20, 2700, 5000, 0.99},
		{"a window of 64 KiB", 1_000_000, 64 << 10, 900, 5000, 0.85},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &socket{born: time.Now(), rate: c.rate, window: c.window}
				born := s.born
				g := &napper{r: s, nap: func(d time.Duration) bool {
					time.Sleep(d)
					return true
				}}
				buf := make([]byte, 256<<10)
				total := 0
				for time.Since(born) < time.Minute {
					n, err := g.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					total += n
				}
				if s.reads < c.least || s.reads > c.most {
					t.Errorf("%d reads", s.reads)
				}
				if kept := float64(total) / float64(c.rate*60); kept < c.kept {
					t.Errorf("%.3f of the stream came through", kept)
				}
			})
		})
	}
}
