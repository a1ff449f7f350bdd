package mend_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/recorder/mend"
)

// One copy or none, and nothing else is left, whatever was left before.
func TestOne(t *testing.T) {
	tags := live(t, liveroom.Config{}, 20*time.Second)
	late := slices.Clone(tags)
	for i := len(late) / 2; i < len(late); i++ {
		late[i].ts += 90_000
	}
	changes := render(live(t, liveroom.Config{Changes: []time.Duration{6 * time.Second, 12 * time.Second}}, 20*time.Second))
	for name, c := range map[string]struct {
		file []byte
		ok   bool
	}{
		"a jump of the clock":   {render(late), true},
		"three configurations":  {changes, false},
		"no recording":          {[]byte("hello, this is no recording at all"), false},
		"cut off in the middle": {render(tags)[:len(render(tags))-100], true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := durable.Open(t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			for name, b := range map[string][]byte{"m/P1.flv": c.file, "m/P1.x.making/P1.repaired.flv": []byte("left"), "m/P1.x.flv": []byte("left")} {
				if err := os.MkdirAll(dir.Abs(name[:len(name)-len("/"+base(name))]), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dir.Abs(name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m, err := mend.One(t.Context(), dir, "m/P1.flv", "m/P1.x")
			if (err == nil) != c.ok {
				t.Fatalf("%+v, %v", m, err)
			}
			if _, err := os.Stat(dir.Abs("m/P1.x.making")); !os.IsNotExist(err) {
				t.Errorf("something is left: %v", err)
			}
			if !c.ok {
				return
			}
			r, err := probe.CheckFile(dir.Abs(m.Name))
			if err != nil || len(r.Problems) != 0 || r.Size != m.Size || m.Name != "m/P1.x.flv" || len(m.SHA256) != 64 || m.Media < 19_000 || m.Media > 21_000 {
				t.Errorf("%+v: %+v, %v", m, r.Problems, err)
			}
			if _, err := mend.One(t.Context(), dir, m.Name, "m/P2.x"); !errors.Is(err, mend.ErrSound) {
				t.Errorf("a sound file: %v", err)
			}
		})
	}
}

func base(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			return name[i+1:]
		}
	}
	panic(fmt.Sprintf("%s has no folder", name))
}
