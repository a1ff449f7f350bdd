package repair_test

import (
	"cmp"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/repair"
)

// rounds plays the same frames again and again, each time later by their length, until the source was found out, or
// for so many ms. It returns what was played.
func (g *rig) rounds(fs []frame, length, from, most int64) (played []frame, took int64) {
	errs := len(g.errs)
	for at := from; at < from+most; at += 100 {
		for _, f := range fs {
			f.at += (at - f.at) / length * length
			if f.at < at {
				f.at += length
			}
			if f.at < at+100 {
				played = append(played, f)
			}
		}
	}
	slices.SortStableFunc(played, func(a, b frame) int { return int(a.at - b.at) })
	for i := 0; i < len(played); {
		j := i
		until := played[i].at/100*100 + 100
		for j < len(played) && played[j].at < until {
			j++
		}
		g.live(played[i:j], until, by(0))
		g.advance(zero.Add(time.Duration(until) * time.Millisecond))
		i = j
		if len(g.errs) > errs {
			return played[:i], until - from
		}
	}
	return played, most
}

// The same ten seconds for ever with a clock that goes on: every frame is written, and each verdict needs twice the
// time of the last one.
func TestLoopWithAClockThatGoesOn(t *testing.T) {
	fs := film(80, 10_000, false)
	g := newRig(t)
	g.connect("")
	var all []frame
	at := int64(0)
	for i, want := range []int64{20_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000} {
		if i > 0 {
			g.disconnect()
			g.connect(repair.ErrLoop.Error())
		}
		played, took := g.rounds(fs, 10_000, at, want+4*gopMS)
		all = append(all, played...)
		at += took
		if took < want || took > want+3*gopMS {
			t.Errorf("verdict %d after %d ms, want %d", i, took, want)
		}
	}
	g.disconnect()
	g.same(all)
	verdicts := 0
	for _, r := range g.s.repairs {
		if r.Kind == repair.Replay {
			verdicts++
		}
	}
	if len(g.s.gaps) != 0 || len(g.errs) != 7 || verdicts != 7 {
		t.Errorf("%d verdicts, %d facts, gaps %+v", len(g.errs), verdicts, g.s.gaps)
	}
	for _, err := range g.errs {
		if !errors.Is(err, repair.ErrLoop) {
			t.Error(err)
		}
	}
}

// A minute of something new makes up for it.
func TestLoopIsForgotten(t *testing.T) {
	g := newRig(t)
	g.connect("")
	a, b := film(81, 10_000, false), film(82, 64_000, false)
	_, first := g.rounds(a, 10_000, 0, 40_000)
	g.disconnect()
	g.connect(repair.ErrLoop.Error())
	for i := range b {
		b[i].at += first
	}
	g.live(b, first, by(0))
	g.advance(zero.Add(time.Duration(first+64_000) * time.Millisecond))
	_, again := g.rounds(a, 10_000, first+64_000, 40_000)
	g.disconnect()
	if len(g.errs) != 2 || again > 26_000 {
		t.Errorf("%d verdicts, the last after %d ms", len(g.errs), again)
	}
}

// What looks the same but is not: a voice over a picture that stands still, a picture over silence.
func TestNoLoop(t *testing.T) {
	fs := film(83, 60_000, false)
	still := film(84, 60_000, true)
	key := still[0]
	for i := range still {
		if still[i].kind == media.Video && still[i].key {
			still[i].body, still[i].sum = key.body, key.sum
		}
	}
	for k, other := range map[media.Kind]media.Kind{media.Video: media.Audio, media.Audio: media.Video} {
		mixed := append(only(still, k), only(fs, other)...)
		slices.SortStableFunc(mixed, func(a, b frame) int { return cmp.Or(int(a.at-b.at), int(a.kind)-int(b.kind)) })
		g := newRig(t)
		g.connect("")
		g.live(mixed, 0, by(0))
		g.disconnect()
		g.same(mixed)
		g.want(0, 0, 0)
		if len(g.errs) != 0 {
			t.Errorf("%v", g.errs)
		}
	}
	g := newRig(t)
	g.connect("")
	g.live(still, 0, by(0))
	g.disconnect()
	g.same(still)
	if len(g.errs) != 2 { // nothing at all changes: after 12 s, and after 20 more
		t.Errorf("%v", g.errs)
	}
}

// Every connection is judged by itself: what the last one repeated is no word against the next, neither where that
// begins with a cache of known media nor where it is silent at first.
func TestLoopVerdictBeginsAnewWithAConnection(t *testing.T) {
	fs := film(85, 60_000, false)
	for _, cache := range []int64{0, 2000, 6000} {
		g := newRig(t)
		g.connect("")
		g.live(between(fs, 0, 20_000), 0, by(0))
		tail := between(fs, 10_000, 20_000)
		for range 3 {
			if g.live(tail, 0, by(0)); len(g.errs) > 0 {
				break
			}
		}
		g.disconnect()
		if len(g.errs) == 0 {
			t.Fatal("no verdict")
		}
		g.errs = nil
		g.connect(repair.ErrLoop.Error())
		g.advance(g.now.Add(time.Second))
		g.live(between(fs, 20_000-cache, 60_000), 20_000, by(0))
		g.disconnect()
		g.same(fs)
		if len(g.errs) != 0 {
			t.Errorf("cache of %d ms: %v", cache, g.errs)
		}
	}
}
