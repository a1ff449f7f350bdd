package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
)

// hlsKit makes the HLS media of all tests of this package, each kind once. It belongs to none of them: they are parallel,
// and one may end while it works for another.
var hlsKit = sync.OnceValue(func() *rig.HLSKit { return &rig.HLSKit{Ctx: context.Background()} })

// origin runs a scenario.
func origin(t *testing.T, c rig.HLSConfig) *rig.HLS {
	t.Helper()
	o, err := rig.RunHLS(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

// What an HLS server can do to a recorder. Whatever it is, each picture that the server offered stands in the archive
// once, every part is sound, what could not be had is admitted, and a part begins anew only where the stream changed.
func TestHLSFaults(t *testing.T) {
	t.Parallel()
	k := hlsKit()
	for _, s := range rig.HLSScenarios() {
		c := s.Make(k) // one after the other: making media takes all of the machine
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			o := origin(t, c)
			args := append([]string{"record", o.URL(), "--once", "--segment", "10m", "--grace", "20s"}, s.Args...)
			p := liverec(dir, args...).Start(t)
			p.Ends(t, o.Length()+45*time.Second, 0)
			rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
			rec.Once(t, s.Want(c))
			if n := len(rec.Parts); n > 1+s.Cuts {
				t.Errorf("%d parts, at most %d are called for: %v", n, 1+s.Cuts, rec)
			}
			for _, part := range rec.Manifest.Parts {
				if !strings.HasSuffix(part.Name, ".mp4") {
					t.Errorf("HLS became %s", part.Name)
				}
			}
			var lost time.Duration
			if s.Lost != nil {
				for _, b := range s.Lost(c) {
					lost += b.Duration
				}
			}
			var told float64
			for _, g := range rec.Manifest.Gaps {
				told += g.Seconds
			}
			if d := told - lost.Seconds(); d > 0.2 || d < -0.2 {
				t.Errorf("%v are lost, %.3f s are told: %+v", lost, told, rec.Manifest.Gaps)
			}
			rig.Empty(t, filepath.Join(dir, "liverec-data"))
		})
	}
}

// Killed and started again: what the server still offers is fetched, what is written is not written again.
func TestHLSKill(t *testing.T) {
	t.Parallel()
	k := hlsKit()
	for _, fmp4 := range []bool{false, true} {
		m, err := k.Cut(rig.HLSCut{Length: 30 * time.Second, FMP4: fmp4})
		if err != nil {
			t.Fatal(err)
		}
		t.Run(m.Ext, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := rig.HLSConfig{Segments: rig.Entries(m, 0), Window: 6}
			o := origin(t, c)
			run := liverec(dir, "record", o.URL(), "--once", "--segment", "10s", "--grace", "20s")
			for _, wait := range []time.Duration{5500 * time.Millisecond, 3 * time.Second, 4700 * time.Millisecond} {
				p := run.Start(t)
				time.Sleep(wait)
				p.Signal(syscall.SIGKILL)
				<-p.Done()
			}
			run.Start(t).Ends(t, o.Length()+45*time.Second, 0)
			rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
			rec.Once(t, rig.HLSScenario{}.Want(c))
			if len(rec.Manifest.Gaps) != 0 {
				t.Errorf("gaps %+v", rec.Manifest.Gaps)
			}
			if n := len(rec.Parts); n > 4 {
				t.Errorf("%d parts: %v", n, rec)
			}
			rig.Empty(t, filepath.Join(dir, "liverec-data"))
		})
	}
}
