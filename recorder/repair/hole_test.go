package repair_test

import (
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
)

// Every frame that went to nobody at a reconnect is told, however few they are: the new connection begins with the
// key frame after them. late is how long the wall stood still before the last batch of the old connection was read.
func TestShortHolesAtAReconnect(t *testing.T) {
	fs := film(70, 12_000, false)
	from := slices.IndexFunc(fs, func(f frame) bool { return f.at >= 4_000 && f.key })
	to := slices.IndexFunc(fs, func(f frame) bool { return f.at >= 6_000 && f.key })
	for _, late := range []int64{0, 200, 1500, 3500} {
		for _, slow := range []time.Duration{0, 600 * time.Millisecond} { // the key frame after its sound
			first, thin := some(5)
			for cut := from + 3*first; cut < to; cut += 3 * thin {
				key := int64(6_000)
				g := newRig(t)
				g.connect("")
				g.live(between(fs, 0, 3_000), 0, by(0))
				g.advance(g.now.Add(time.Duration(late) * time.Millisecond))
				g.live(between(fs[:cut], 3_000, 1<<40), 3_000+late, by(0))
				g.disconnect()
				wall := max(zero.Add(time.Duration(key)*time.Millisecond).Sub(g.now), time.Duration(0))
				g.advance(g.now.Add(wall))
				g.connect("cut")
				rest := between(fs, key, 1<<40)
				if slow > 0 {
					n := slices.IndexFunc(rest, func(f frame) bool { return f.kind == media.Audio })
					g.push(rest[n].packet(rest[n].at))
					g.advance(g.now.Add(slow))
					rest = slices.Delete(slices.Clone(rest), n, n+1)
				}
				g.live(rest, key+slow.Milliseconds(), by(0))
				g.disconnect()
				var last int64
				for _, f := range fs[:cut] {
					if f.kind == media.Video {
						last = f.at
					}
				}
				missing := key - last - frameMS
				if missing == 0 {
					if len(g.s.gaps) != 0 && slow == 0 {
						t.Errorf("%+v", g.s.gaps)
					}
				} else if d := g.s.gapTotal() - time.Duration(missing)*time.Millisecond; d != 0 && slow == 0 || d.Abs() > 64*time.Millisecond || len(g.s.gaps) == 0 {
					t.Errorf("missing %d ms: gaps %+v repairs %+v", missing, g.s.gaps, g.s.repairs)
				}
				if t.Failed() {
					t.Fatalf("late %d, slow %v, cut after %v at %d", late, slow, fs[cut-1].kind, fs[cut-1].at)
				}
			}
		}
	}
}

// A node that leaves something out between what it repeats and the live edge is found out as well.
func TestHoleBehindAnOverlap(t *testing.T) {
	fs := film(71, 30_000, false)
	for _, shift := range []int64{0, 7_000_000} {
		for _, cut := range []int64{20_600, 21_000, 21_960} {
			for missing := int64(0); missing <= 800; missing += 2 * frameMS {
				g := newRig(t)
				g.connect("")
				g.live(between(fs, 0, cut), 0, by(0))
				g.disconnect()
				g.now = g.now.Add(time.Second)
				g.connect("cut")
				rest := append(between(fs, 20_000, cut-100), between(fs, cut+missing, 1<<40)...)
				g.live(rest, cut+1000, by(shift))
				g.disconnect()
				g.same(append(between(fs, 0, cut), between(fs, cut+missing, 1<<40)...))
				want := 0
				if missing > 0 {
					want = 1
				}
				g.want(want, time.Duration(missing)*time.Millisecond, 1)
				if g.s.gapTotal() != time.Duration(missing)*time.Millisecond || t.Failed() {
					t.Fatalf("%d ms missing at %d: %+v", missing, cut, g.s.gaps)
				}
			}
		}
	}
}

// A kill right behind a hole that was closed: the one picture there may come before the end of the sound in front of the
// hole, and is known all the same when it comes again.
func TestKillBehindAClosedHole(t *testing.T) {
	fs := film(12, 14_000, false)
	for n := 1; n <= 12; n++ {
		g := newRig(t)
		g.connect("")
		g.live(between(fs, 0, 4000), 0, by(0))
		g.disconnect()
		g.now = zero.Add(8 * time.Second)
		g.connect("connection lost")
		behind := between(fs, 6000, 1<<40)
		g.live(behind[:n], 1<<40, by(0))
		g.disconnect()
		if len(g.s.gaps) != 1 {
			t.Fatalf("gaps %+v", g.s.gaps)
		}
		g.kill(g.r.State())
		g.now = zero.Add(8500 * time.Millisecond)
		g.connect("liverec was not running")
		g.live(behind, 8500, by(0))
		g.disconnect()
		if v, want := len(g.s.kind(media.Video)), len(only(between(fs, 0, 4000), media.Video))+len(only(behind, media.Video)); v != want || len(g.s.gaps) != 1 {
			t.Errorf("%d frames behind the hole: %d pictures written, want %d; gaps %+v", n, v, want, g.s.gaps)
		}
	}
}
