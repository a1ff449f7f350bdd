package repair_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/repair"
	"pgregory.net/rapid"
)

// TestNoFrameIsLostOrDoubled plays a film over connections that break in every way, and checks that every frame which
// was sent is written exactly once, in order, and that the gaps tell what is missing.
func TestNoFrameIsLostOrDoubled(t *testing.T) {
	films := [][]frame{film(40, 120_000, false), film(41, 120_000, true)}
	rapid.Check(t, func(rt *rapid.T) {
		g := newRig(rt)
		var script []string
		note := func(format string, args ...any) { script = append(script, fmt.Sprintf(format, args...)) }
		defer func() {
			if rt.Failed() {
				rt.Logf("%v", script)
			}
		}()

		which := 0
		if rapid.IntRange(0, 4).Draw(rt, "still") == 0 {
			which = 1
		}
		fs := films[which]
		shift := rapid.SampledFrom([]int64{0, 1, -5000, 4_000_000_000, 1<<31 - 20_000, 1<<24 - 15_000}).Draw(rt, "start")
		note("film %d from %d", which, shift)

		var (
			pos     int // next frame of the film
			want    []frame
			newest  = -1  // index of the last frame that was written
			gaps    int64 // ms that must be told exactly
			around  int64 // ms that are known by the wall only
			slack         = int64(frameMS)
			lastOf  int64 = -1 // true time of the last written video frame
			state   repair.State
			epoch   uint64
			fresh   = true
			rebased = false
		)
		send := func(i int) { // frame i is offered
			if i <= newest {
				return
			}
			f := fs[i]
			if f.kind == media.Video {
				if missing := f.at - lastOf - frameMS; lastOf >= 0 && missing > 0 && (fresh || missing+frameMS > 1000) {
					switch {
					case rebased:
						around += 0 // counted where it happens
					default:
						gaps += missing
						slack += frameMS / 4
					}
				}
				lastOf, fresh, rebased = f.at, false, false
			}
			newest = i
			want = append(want, f)
		}

		g.connect("")
		n := rapid.IntRange(1, 7).Draw(rt, "connections")
		for c := range n {
			if c > 0 {
				away := rapid.SampledFrom([]int64{100, 300, 1000, 3000, 7000, 15_000}).Draw(rt, "away")
				cache := rapid.SampledFrom([]int64{0, 0, 2000, 6000, 20_000}).Draw(rt, "cache")
				edge := fs[min(pos, len(fs)-1)].at + away
				from := slices.IndexFunc(fs, func(f frame) bool { return f.at >= edge-cache })
				if cache > 0 || rapid.Bool().Draw(rt, "at a key frame") {
					from = slices.IndexFunc(fs, func(f frame) bool { return f.at >= edge-cache && f.key })
				}
				if from < 0 || fs[from].at+8000 > fs[len(fs)-1].at {
					break
				}
				edge = max(edge, fs[from].at)
				fresh = true
				lastAt := g.s.items
				moved := int64(0)
				// A still picture on a new clock cannot be told from a hole.
				if rapid.IntRange(0, 3).Draw(rt, "new clock") == 0 && which == 0 {
					moved = rapid.SampledFrom([]int64{-shift - fs[from].at, 50_000_000, -70_000_000, 400_000}).Draw(rt, "moved")
				}
				if w := moved + 1<<24; max(moved, -moved) < 40_000 || max(w, -w) < 100_000 {
					moved = 0 // a clock that happens to be about right is believed
				}
				kill := rapid.IntRange(0, 3).Draw(rt, "kill") == 0
				note("away %d cache %d from %d edge %d moved %d kill %v", away, cache, fs[from].at, edge, moved, kill)
				if kill {
					// What was held is gone; the frames count as never sent.
					g.kill(state)
					epoch = 0
					written := map[media.Kind]int{}
					for _, it := range g.s.items {
						written[it.kind]++
					}
					seen := map[media.Kind]int{}
					newest = -1
					kept := want[:0]
					for _, f := range want {
						seen[f.kind]++
						if seen[f.kind] <= written[f.kind] {
							kept = append(kept, f)
						}
					}
					want = kept
					for i, f := range fs {
						if f.sum == want[len(want)-1].sum && f.at == want[len(want)-1].at {
							newest = i
						}
					}
					for _, f := range want {
						if f.kind == media.Video {
							lastOf = f.at
						}
					}
				} else {
					g.disconnect()
				}
				if len(g.s.items) > 0 {
					lastAt = g.s.items
				}
				g.advance(zero.Add(time.Duration(edge) * time.Millisecond))
				if moved != 0 {
					shift += moved
					known := 0
					for i := from; i <= newest; i++ {
						known++
					}
					if known < 40 && from <= newest {
						shift -= moved // too little in common to be sure of it
					} else if from > newest {
						rebased = true
						at := time.Time{}
						for _, it := range lastAt {
							if it.at.After(at) {
								at = it.at
							}
						}
						around += g.now.Sub(at).Milliseconds()
						slack += 150
					}
				}
				g.connect("cut")
				pos = from
				burst := pos
				for burst < len(fs) && fs[burst].at < edge {
					burst++
				}
				var ps []media.Packet
				for i := pos; i < burst; i++ {
					ps = append(ps, fs[i].packet(fs[i].at+shift))
					send(i)
				}
				if len(ps) > 0 {
					g.push(ps...)
				}
				pos = burst
				state, epoch = g.r.State(), g.r.Epoch()
			}

			// Live, with a fault in the middle.
			until := fs[min(pos, len(fs)-1)].at + rapid.Int64Range(4500, 12_000).Draw(rt, "live")
			fault := rapid.SampledFrom([]string{"", "", "jump", "hole", "headers", "junk", "script"}).Draw(rt, "fault")
			when := fs[min(pos, len(fs)-1)].at + rapid.Int64Range(3000, 4400).Draw(rt, "when")
			amount := int64(0)
			switch fault {
			case "jump":
				amount = rapid.SampledFrom([]int64{-3_600_000, -5000, -900, 3500, 15_000, 3_600_000}).Draw(rt, "amount")
			case "hole":
				amount = rapid.SampledFrom([]int64{400, 1500, 4000}).Draw(rt, "amount")
			}
			if fault == "hole" || fault == "jump" {
				until = max(until, when+600, min(when+amount+600, when+5000))
			}
			note("live to %d, %s of %d at %d", until, fault, amount, when)
			for pos < len(fs) && fs[pos].at < until {
				var ps []media.Packet
				tick := fs[pos].at/100*100 + 100
				for ; pos < len(fs) && fs[pos].at < tick; pos++ {
					if fault != "" && fs[pos].at >= when {
						switch fault {
						case "jump":
							shift += amount
						case "hole":
							for pos < len(fs) && fs[pos].at < when+amount {
								pos++
							}
						case "headers":
							ps = append(ps, header(media.VideoConfig, videoA), header(media.AudioConfig, audioA))
						case "junk":
							ps = append(ps, media.Packet{Kind: media.Invalid}, media.Packet{Kind: media.EndMark, Body: []byte{0x17, 2, 0, 0, 0}})
						case "script":
							ps = append(ps, metadata())
						}
						fault = ""
						break
					}
					ps = append(ps, fs[pos].packet(fs[pos].at+shift))
					send(pos)
				}
				g.advance(zero.Add(time.Duration(tick) * time.Millisecond))
				g.push(ps...)
				if rapid.IntRange(0, 20).Draw(rt, "note") == 0 || epoch != g.r.Epoch() {
					state, epoch = g.r.State(), g.r.Epoch()
				}
			}
			if pos >= len(fs) {
				break
			}
			if rapid.Bool().Draw(rt, "inside a tick") {
				pos++ // one more before the cut
				g.advance(zero.Add(time.Duration(fs[pos-1].at+1) * time.Millisecond))
				g.push(fs[pos-1].packet(fs[pos-1].at + shift))
				send(pos - 1)
			}
		}
		g.disconnect()

		g.same(want)
		g.steps()
		if d := g.s.gapTotal().Milliseconds() - gaps - around; d > slack || d < -slack {
			rt.Errorf("gaps of %v, want %d + about %d ms: %+v", g.s.gapTotal(), gaps, around, g.s.gaps)
		}
		if len(g.s.configs) != 1 {
			rt.Errorf("%d parts", len(g.s.configs))
		}
		if st := g.r.State(); st.Content != g.s.content {
			rt.Error("the content hash is wrong")
		}
		if late := g.heldFor(); late > 800*time.Millisecond {
			rt.Errorf("held for %v", late)
		}
		g.inSync(want)
	})
}

// inSync checks that sound stays with its picture.
func (g *rig) inSync(want []frame) {
	g.t.Helper()
	off := func(k media.Kind) func(at int64) (int64, bool) {
		items, fs := g.s.kind(k), only(want, k)
		i := 0
		return func(at int64) (int64, bool) {
			for i < len(fs)-1 && i < len(items)-1 && fs[i+1].at <= at {
				i++
			}
			if i >= len(fs) || i >= len(items) || at-fs[i].at > 50 {
				return 0, false
			}
			return items[i].out - fs[i].at, true
		}
	}
	sound := off(media.Audio)
	n := 0
	items := g.s.kind(media.Video)
	for i, f := range only(want, media.Video) {
		if i%25 != 24 || i >= len(items) {
			continue
		}
		a, ok := sound(f.at)
		v := items[i].out - f.at
		if ok && (a-v > 60 || v-a > 60) {
			n++ // clamped for a moment, perhaps
		}
	}
	if n > 3 {
		g.t.Errorf("picture and sound are apart at %d places", n)
	}
}
