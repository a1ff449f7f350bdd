package repair_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/repair"
)

// kill throws the Repairer away with all that it holds and makes a new one from a note and what the sink has.
func (g *rig) kill(note repair.State) {
	g.t.Helper()
	b, err := json.Marshal(note)
	if err != nil {
		g.t.Fatal(err)
	}
	var s repair.State
	if err := json.Unmarshal(b, &s); err != nil {
		g.t.Fatal(err)
	}
	g.headOf(&s)
	var tail []repair.TailTag
	from := int64(0)
	if n := len(g.s.items); n > 0 {
		from = g.s.items[n-1].out - 30_000
	}
	for _, it := range g.s.items {
		if it.out >= from {
			tail = append(tail, repair.TailTag{Kind: it.kind, Key: it.key, Out: it.out, Size: it.size, Sum: it.sum})
		}
	}
	g.r = repair.Restore(repair.Config{}, g.s, s, tail)
}

// headOf puts into a note what the head of the open part says: the note may be older than it.
func (g *rig) headOf(s *repair.State) {
	if len(g.s.configs) == 0 {
		return
	}
	put := func(p media.Packet) ([]byte, *repair.Form) {
		if p.Kind == 0 {
			return nil, nil
		}
		return p.Body, &repair.Form{Codec: p.Codec.String(), Lead: p.Lead, Track: p.Track}
	}
	c := g.s.configs[len(g.s.configs)-1]
	s.Video, s.VideoForm = put(c.Video)
	s.Audio, s.AudioForm = put(c.Audio)
}

func TestRestartGoesOn(t *testing.T) {
	fs := film(30, 40_000, false)
	for _, c := range []struct {
		name    string
		away    int64
		cache   int64
		shift   int64
		missing int64
	}{
		{"overlap", 500, 3000, 0, 0},
		{"overlap, new clock", 500, 3000, -1_000_000, 0},
		{"hole", 9000, 2000, 0, 7000},
	} {
		t.Run(c.name, func(t *testing.T) {
			for ms := int64(20_000); ms < 22_000; ms += 130 {
				g := newRig(t)
				g.connect("")
				g.live(between(fs, 0, ms-4000), 0, by(1_000_000))
				note := g.r.State()
				g.live(between(fs, ms-4000, ms), 0, by(1_000_000))
				lost := len(only(between(fs, 0, ms), media.Video)) - len(g.s.kind(media.Video))
				if lost > 8 {
					t.Errorf("%d frames lost by the kill", lost)
				}
				g.kill(note)
				if err := g.r.Account().Check(); err != nil {
					t.Error(err)
				}
				if st := g.r.State(); st.Content != g.s.content || st.Ordinal != g.s.ordinal {
					t.Errorf("restored %d/%x, written %d/%x", st.Ordinal, st.Content, g.s.ordinal, g.s.content)
				}
				edge := ms + c.away
				g.now = zero.Add(time.Duration(edge) * time.Millisecond)
				g.connect("liverec was not running")
				from := (edge - c.cache) / gopMS * gopMS
				g.live(between(fs, from, 1<<40), edge, by(1_000_000+c.shift))
				g.disconnect()
				if c.missing == 0 {
					g.same(fs)
					g.want(0, 0, 1)
				} else {
					if len(g.s.gaps) != 1 || g.s.gaps[0].Why != "liverec was not running" {
						t.Errorf("%+v", g.s.gaps)
					}
					written := time.Duration(len(g.s.kind(media.Video))*frameMS) * time.Millisecond
					if d := 40*time.Second - written - g.s.gapTotal(); d.Abs() > frameMS*time.Millisecond {
						t.Errorf("%v written, gap of %v", written, g.s.gapTotal())
					}
				}
				if len(g.s.configs) != 1 {
					t.Errorf("%d parts", len(g.s.configs))
				}
				g.steps()
				if t.Failed() {
					t.Fatalf("killed at %d", ms)
				}
			}
		})
	}
}

// The base of a part that has no note yet is made from the length of the part before it, which is cut to whole
// milliseconds. What is read back so a millisecond early is still what was written.
func TestRestartWithATailThatIsAMillisecondEarly(t *testing.T) {
	fs := film(30, 40_000, false)
	for behind := int64(1); behind < 2*gopMS; behind += 67 { // the kill comes so long behind the key frame of the cut
		g := newRig(t)
		g.connect("")
		g.live(between(fs, 0, 20_000), 0, by(1_000_000))
		note := g.r.State()
		g.live(between(fs, 20_000, 24_000+behind), 0, by(1_000_000))
		for i := range g.s.items {
			if g.s.items[i].out >= 24_000 {
				g.s.items[i].out--
			}
		}
		g.kill(note)
		edge := 24_000 + behind + 500
		g.now = zero.Add(time.Duration(edge) * time.Millisecond)
		g.connect("liverec was not running")
		g.live(between(fs, edge/gopMS*gopMS, 1<<40), edge, by(1_000_000))
		g.disconnect()
		seen := map[uint64]bool{}
		for _, it := range g.s.kind(media.Video) {
			if seen[it.sum] {
				t.Fatalf("a kill %d ms behind the cut: the picture at %d stands twice", behind, it.out)
			}
			seen[it.sum] = true
		}
	}
}

func TestRestartWithAnotherHeaderBeginsAPart(t *testing.T) {
	fs := film(31, 12_000, false)
	g := newRig(t)
	g.connect("")
	g.live(between(fs, 0, 6000), 0, by(0))
	g.kill(g.r.State())
	g.now = g.now.Add(time.Second)
	g.r.Connect(g.now, "liverec was not running")
	g.push(header(media.VideoConfig, videoB), header(media.AudioConfig, audioA))
	g.live(between(fs, 8000, 12_000), 0, by(0))
	g.disconnect()
	if len(g.s.configs) != 2 {
		t.Errorf("%d parts", len(g.s.configs))
	}
	if len(g.s.gaps) != 1 {
		t.Errorf("%+v", g.s.gaps)
	}
}

func TestRestoreOfNothingIsABeginning(t *testing.T) {
	g := newRig(t)
	g.kill(repair.State{})
	fs := film(32, 4000, false)
	g.connect("liverec was not running")
	g.live(fs, 0, by(0))
	g.disconnect()
	g.same(fs)
	g.want(0, 0, 0)
}

// The note that is taken when the first part begins says nothing of the clock.
func TestStateOfTheFirstPartIsEnough(t *testing.T) {
	g := newRig(t)
	var note repair.State
	g.s.begun = func() { note = g.r.State() }
	g.connect("")
	fs := film(33, 8000, false)
	g.live(between(fs, 0, 4000), 0, by(77))
	g.kill(note)
	if st := g.r.State(); st.Ordinal != g.s.ordinal || st.Content != g.s.content {
		t.Errorf("restored %d, written %d", st.Ordinal, g.s.ordinal)
	}
	g.now = g.now.Add(200 * time.Millisecond)
	g.connect("liverec was not running")
	g.live(between(fs, 2000, 8000), 4200, by(77))
	g.disconnect()
	g.same(fs)
	g.want(0, 0, 1)
	if len(g.s.configs) != 1 {
		t.Errorf("%d parts", len(g.s.configs))
	}
}

func TestHoleAfterAKillInTheFirstPart(t *testing.T) {
	fs := film(34, 30_000, false)
	for _, late := range []bool{false, true} {
		g := newRig(t)
		var note repair.State
		g.s.begun = func() { note = g.r.State() }
		g.connect("")
		g.live(between(fs, 0, 10_000), 0, by(77))
		if late { // what a recorder can say without any note
			v := g.s.items[len(g.s.items)-1]
			note = repair.State{Version: repair.StateVersion, Last: [2]int64{-1, -1}, Video: note.Video, Audio: note.Audio,
				LastAt: v.at.UnixMilli(), Edge: v.at.UnixMilli() - v.out}
		}
		g.kill(note)
		g.advance(g.now.Add(6 * time.Second))
		g.connect("liverec was not running")
		g.live(between(fs, 16_000, 30_000), 0, by(-90_000_000))
		g.disconnect()
		if len(g.s.gaps) != 1 || (g.s.gapTotal()-6*time.Second).Abs() > 500*time.Millisecond {
			t.Errorf("%+v %+v", g.s.gaps, g.s.repairs)
		}
		g.steps()
	}
}

// A part that was closed may be away before the next process starts. The note that was written then knows the last half
// minute; without it the clock tells what was written, as long as it goes on.
func TestRestartWithoutTheFile(t *testing.T) {
	fs := film(35, 60_000, false)
	for _, c := range []struct {
		name    string
		digests bool
		shift   int64
		from    int64 // where the new connection begins
		missing int64
	}{
		{"digests, cache", true, 0, 40_000, 0},
		{"digests, long cache", true, 0, 22_000, 0},
		{"digests, new clock", true, -77_000_000, 40_000, 0},
		{"digests, hole", true, 0, 42_000, 480},
		{"clock, cache", false, 0, 40_000, 0},
		{"clock, long cache", false, 0, 22_000, 0},
		{"clock, hole", false, 0, 42_000, 480},
		{"clock that begins anew, hole", false, -42_000 - 5000 + 36_000, 42_000, 900}, // by the wall
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t)
			g.connect("")
			g.live(between(fs, 0, 41_520), 0, by(5000))
			g.disconnect()
			note := g.r.State()
			if note.Digests != nil {
				t.Error("a plain state has digests")
			}
			if c.digests {
				note.Digests = g.r.Digests()
			}
			b, err := json.Marshal(note)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > 36<<10 {
				t.Errorf("note of %d bytes", len(b))
			}
			note = repair.State{}
			if err := json.Unmarshal(b, &note); err != nil {
				t.Fatal(err)
			}
			g.r = repair.Restore(repair.Config{}, g.s, note, nil)
			if st := g.r.State(); st.Content != g.s.content || st.Ordinal != g.s.ordinal {
				t.Errorf("restored %d/%x, written %d/%x", st.Ordinal, st.Content, g.s.ordinal, g.s.content)
			}
			g.advance(zero.Add(42_500 * time.Millisecond))
			g.connect("liverec was not running")
			g.live(between(fs, c.from, 1<<40), 42_500, by(5000+c.shift))
			g.disconnect()
			g.same(append(between(fs, 0, 41_520), between(fs, max(41_520, c.from), 1<<40)...))
			gaps, repairs := 0, 1
			if c.missing > 0 {
				gaps, repairs = 1, 0
			}
			g.want(gaps, time.Duration(c.missing)*time.Millisecond, repairs)
			if c.shift == 0 && g.s.gapTotal() != time.Duration(c.missing)*time.Millisecond {
				t.Errorf("%+v", g.s.gaps)
			}
		})
	}
}

// A part that was begun after such a note and has a few frames: the digests tell of the time before it.
func TestDigestsGoBeforeTheTail(t *testing.T) {
	fs := film(36, 30_000, false)
	g := newRig(t)
	g.connect("")
	g.live(between(fs, 0, 14_000), 0, by(0))
	g.disconnect()
	note := g.r.State()
	note.Digests = g.r.Digests()
	n := len(g.s.items)
	g.live(between(fs, 14_000, 14_080), 14_080, by(0))
	g.disconnect()
	var tail []repair.TailTag
	for _, it := range g.s.items[n:] {
		tail = append(tail, repair.TailTag{Kind: it.kind, Key: it.key, Out: it.out, Size: it.size, Sum: it.sum})
	}
	g.r = repair.Restore(repair.Config{}, g.s, note, tail)
	if st := g.r.State(); st.Content != g.s.content || st.Ordinal != g.s.ordinal {
		t.Errorf("restored %d/%x, written %d/%x", st.Ordinal, st.Content, g.s.ordinal, g.s.content)
	}
	g.advance(zero.Add(14_500 * time.Millisecond))
	g.connect("liverec was not running")
	g.live(between(fs, 8_000, 1<<40), 14_500, by(-9_000_000))
	g.disconnect()
	g.same(fs)
	g.want(0, 0, 1)
}
