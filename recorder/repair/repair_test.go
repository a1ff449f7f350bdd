package repair_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/recorder/repair"
)

func TestPlainStreamComesThrough(t *testing.T) {
	fs := film(1, 20_000, false)
	g := newRig(t)
	g.connect("")
	g.live(fs, 3000, by(123456))
	g.disconnect()
	g.again()
	g.same(fs)
	g.steps()
	g.want(0, 0, 0)
	if n := len(g.s.configs); n != 1 {
		t.Errorf("%d configurations", n)
	}
	for i := 1; i < len(g.s.items); i++ {
		if g.s.items[i].out < g.s.items[i-1].out {
			t.Fatalf("item %d at %d after %d", i, g.s.items[i].out, g.s.items[i-1].out)
		}
	}
	if st := g.r.State(); st.Content != g.s.content || st.Ordinal != g.s.ordinal {
		t.Errorf("state %d/%x, sink %d/%x", st.Ordinal, st.Content, g.s.ordinal, g.s.content)
	}
}

func TestClocksThatWrap(t *testing.T) {
	fs := film(2, 20_000, false)
	for _, c := range []struct {
		name  string
		shift func(f frame) int64
	}{
		{"24 bits", func(f frame) int64 { return (f.at + 1<<24 - 9990) % (1 << 24) }},
		{"31 bits", func(f frame) int64 { return f.at + 1<<31 - 9990 }},
		{"32 bits", func(f frame) int64 { return f.at + 1<<32 - 9990 }},
		{"from -5 s", func(f frame) int64 { return f.at - 5000 }},
		{"from 4e9", func(f frame) int64 { return f.at + 4_000_000_000 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t)
			g.connect("")
			g.live(fs, 0, func(f frame) int64 { return c.shift(f) - f.at })
			g.disconnect()
			g.same(fs)
			g.want(0, 0, 0)
			g.again()
			v := g.s.kind(media.Video)
			if got := v[len(v)-1].out; got != 20_000-frameMS {
				t.Errorf("last frame at %d", got)
			}
		})
	}
}

func TestJumpsOfTheClock(t *testing.T) {
	fs := film(3, 20_000, false)
	for _, jump := range []int64{15_000, 30_000, 3_600_000, -5_000, -3_600_000, -108_000, -108_600, -123_000, 1_500, -700} {
		for _, at := range []int64{8_000, 8_600} {
			g := newRig(t)
			g.connect("")
			g.live(fs, 0, func(f frame) int64 {
				if f.at >= at {
					return 100_000 + jump
				}
				return 100_000
			})
			g.disconnect()
			g.same(fs)
			g.steps()
			g.again()
			if len(g.s.gaps) == 1 && jump == 1500 {
				continue // less than 2 s off the wall: believed to be missing
			}
			g.want(0, 0, 1)
			if len(g.s.repairs) != 1 || g.s.repairs[0].Kind != repair.Clock || !strings.HasPrefix(g.s.repairs[0].What, "clock jumped") {
				t.Errorf("jump of %d at %d: %+v", jump, at, g.s.repairs)
			}
			v, a := g.s.kind(media.Video), g.s.kind(media.Audio)
			if d := v[len(v)-1].out - a[len(a)-1].out; d > 100 || d < -100 {
				t.Errorf("jump of %d at %d: tracks are %d ms apart", jump, at, d)
			}
		}
	}
}

func TestFramesMissingInAConnection(t *testing.T) {
	fs := film(4, 30_000, false)
	kept := append(between(fs, 0, 10_000), between(fs, 14_000, 30_000)...)
	g := newRig(t)
	g.connect("")
	g.live(kept, 0, by(0))
	g.disconnect()
	g.same(kept)
	g.steps()
	g.again()
	g.want(1, 4*time.Second, 0)
	if len(g.s.gaps) == 1 && g.s.gaps[0].Why != repair.WhyMissing {
		t.Errorf("why: %q", g.s.gaps[0].Why)
	}
}

func TestSilenceAndANewClockInAConnection(t *testing.T) {
	fs := film(5, 20_000, false)
	g := newRig(t)
	g.connect("")
	g.live(between(fs, 0, 10_000), 0, by(500_000))
	g.now = g.now.Add(9 * time.Second)
	if err := g.r.Tick(g.now); err != nil {
		t.Fatal(err)
	}
	g.live(between(fs, 10_000, 20_000), 0, by(-10_000))
	g.disconnect()
	g.same(fs)
	g.again()
	if len(g.s.gaps) != 1 || g.s.gaps[0].Why != repair.WhySilent || (g.s.gaps[0].Length-9*time.Second).Abs() > 200*time.Millisecond {
		t.Errorf("gaps: %+v", g.s.gaps)
	}
}

// reconnect plays a film with one break: cut after the tag with index cut, back with what was sent since true time
// from, on a clock that is shift away, after the wall stood for away ms.
func reconnect(t tb, fs []frame, cut int, from, away int64, shift int64) *rig {
	g := newRig(t)
	g.connect("")
	g.live(fs[:cut], 0, by(50_000))
	g.disconnect()
	edge := fs[cut-1].at
	g.now = zero.Add(time.Duration(edge+away) * time.Millisecond)
	g.connect("source closed the connection")
	g.live(between(fs, from, 1<<40), min(edge+away, fs[len(fs)-1].at), by(50_000+shift))
	g.disconnect()
	return g
}

func TestCutAtEveryTag(t *testing.T) {
	fs := film(6, 28_000, false)
	from := slices.IndexFunc(fs, func(f frame) bool { return f.at >= 22_000 && f.key })
	to := slices.IndexFunc(fs, func(f frame) bool { return f.at >= 24_000 && f.key })
	for _, c := range []struct {
		name  string
		back  int64 // ms before the cut from which it is sent again; -1: nothing
		shift int64
	}{
		{"no overlap", -1, 0},
		{"1 GOP", 2000, 0},
		{"3 GOPs", 6000, 0},
		{"20 s", 20_000, 0},
		{"1 GOP, new clock", 2000, -49_000},
		{"3 GOPs, new clock", 6000, 700_000},
		{"20 s, new clock", 20_000, -1_000_000},
		{"3 GOPs, clock 100 ms off", 6000, 100},
		{"3 GOPs, clock 5 s ahead", 6000, 5000},
	} {
		t.Run(c.name, func(t *testing.T) {
			step := 3
			if c.shift == 0 && c.back == 2000 {
				step = 1
			}
			first, thin := some(7)
			for cut := from + first*step; cut < to; cut += step * thin {
				start := fs[cut].at
				if c.back >= 0 {
					start = (fs[cut-1].at - c.back + gopMS - 1) / gopMS * gopMS
				}
				rest := fs[cut:]
				if c.back < 0 {
					start = 0
				}
				g := newRig(t)
				g.connect("")
				g.live(fs[:cut], 0, by(50_000))
				g.disconnect()
				g.now = g.now.Add(300 * time.Millisecond)
				g.connect("source closed the connection")
				if c.back >= 0 {
					rest = between(fs, start, 1<<40)
				}
				g.live(rest, fs[cut].at+300, by(50_000+c.shift))
				g.disconnect()
				g.same(fs)
				g.want(0, 0, 1)
				if g.s.count(repair.Seam) != 1 {
					t.Errorf("seams: %+v", g.s.repairs)
				}
				if t.Failed() {
					t.Fatalf("cut after %d (%d ms)", cut, fs[cut-1].at)
				}
			}
		})
	}
}

func TestHoleAtAReconnect(t *testing.T) {
	fs := film(7, 60_000, false)
	cut := slices.IndexFunc(fs, func(f frame) bool { return f.at >= 21_000 })
	for _, c := range []struct {
		name    string
		still   bool
		from    int64 // where it goes on
		away    int64 // ms of wall
		shift   int64
		missing int64
		about   time.Duration // the wall counts from the reception of a batch
	}{
		{"7 s, no cache", false, 28_000, 7000, 0, 7000, 0},
		{"7 s of 10, cache of 3 s", false, 28_000, 10_000, 0, 7000, 0},
		{"half a second", false, 21_520, 600, 0, 520, 0},
		{"one frame", false, 21_040, 100, 0, 40, 0},
		{"new clock: by the wall", false, 28_000, 7000, 9_000_000, 7000, 80 * time.Millisecond},
		{"new clock from 0: by the wall", false, 28_000, 7000, -78_000, 7000, 80 * time.Millisecond},
		{"still picture, 7 s", true, 28_000, 7000, 0, 7000, 0},
		{"still picture, new clock", true, 28_000, 7000, -78_000, 7000, 80 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := fs
			if c.still {
				fs = film(7, 60_000, true)
			}
			g := reconnect(t, fs, cut, c.from, c.away, c.shift)
			g.same(append(slices.Clone(fs[:cut]), between(fs, c.from, 1<<40)...))
			g.steps()
			g.again()
			g.want(1, time.Duration(c.missing)*time.Millisecond+c.about, 0)
			if len(g.s.gaps) == 1 {
				gap := g.s.gaps[0]
				if gap.Why != "source closed the connection" || gap.Out != 21_000 {
					t.Errorf("%+v", gap)
				}
			}
		})
	}
}

func TestStillPictureAcrossAnOverlap(t *testing.T) {
	fs := film(8, 40_000, true)
	cut := slices.IndexFunc(fs, func(f frame) bool { return f.at >= 21_000 })
	for _, shift := range []int64{0, -60_000} {
		g := reconnect(t, fs, cut, 18_000, 500, shift)
		g.same(fs)
		g.want(0, 0, 1)
		g.again()
	}
}

func TestFirstReasonCounts(t *testing.T) {
	fs := film(9, 20_000, false)
	g := newRig(t)
	g.connect("")
	g.live(between(fs, 0, 10_000), 0, by(0))
	g.disconnect()
	for _, why := range []string{"connection reset", "404 Not Found", "host not reached"} {
		g.now = g.now.Add(time.Second)
		g.connect(why)
		g.disconnect()
	}
	g.live(between(fs, 13_000, 20_000), 0, by(0))
	g.disconnect()
	if len(g.s.gaps) != 1 || g.s.gaps[0].Why != "connection reset" {
		t.Errorf("%+v", g.s.gaps)
	}
}

func TestLoopIsDroppedAndReported(t *testing.T) {
	for _, period := range []int64{2000, 10_000} {
		fs := film(10, 20_000, false)
		g := newRig(t)
		g.connect("")
		g.live(fs, 0, by(0))
		tail := between(fs, 20_000-period, 20_000)
		for range 12 {
			g.live(tail, 0, by(0))
			if len(g.errs) > 0 {
				break
			}
		}
		g.disconnect()
		g.same(fs)
		g.again()
		if len(g.errs) == 0 || !errors.Is(g.errs[0], repair.ErrLoop) {
			t.Errorf("period %d: %v", period, g.errs)
		} else if took := g.when[0].Sub(zero) - 20*time.Second; took > 11*time.Second {
			t.Errorf("period %d: noticed after %v", period, took)
		}
		if len(g.s.gaps) != 0 || len(g.s.repairs) != 1 || g.s.repairs[0].Kind != repair.Replay {
			t.Errorf("period %d: %+v %+v", period, g.s.gaps, g.s.repairs)
		}
	}
}

// A film that is shown again is no replay as long as its clock goes on: the same bytes at a new time are new media.
func TestFilmShownAgainIsKept(t *testing.T) {
	fs := film(11, 10_000, false)
	g := newRig(t)
	g.connect("")
	var all []frame
	for i := range int64(6) {
		if i > 0 {
			g.push(header(media.VideoConfig, videoA), header(media.AudioConfig, audioA), script("onMetaData"))
		}
		g.live(fs, 0, by(i*10_000))
		all = append(all, fs...)
	}
	g.disconnect()
	g.same(all)
	g.want(0, 0, 2)
	for _, r := range g.s.repairs {
		if r.Kind != repair.Replay || r.What != repair.ErrLoop.Error() {
			t.Errorf("%+v", r)
		}
	}
}

func TestReplayInAConnection(t *testing.T) {
	fs := film(12, 40_000, false)
	for _, c := range []struct {
		name  string
		mark  media.Kind
		shift int64
	}{
		{"same clock", 0, 0},
		{"second script", media.Script, 0},
		{"end mark, new clock", media.EndMark, -19_000},
		{"second header, clock far ahead", media.Restart, 5_000_000},
		{"new clock", 0, 777_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t)
			g.connect("")
			g.push(script("onMetaData"))
			g.live(between(fs, 0, 21_000), 0, by(0))
			switch c.mark {
			case media.Script:
				g.push(script("onMetaData"))
			case media.EndMark:
				g.push(media.Packet{Kind: media.EndMark, Body: []byte{0x17, 2, 0, 0, 0}})
			case media.Restart:
				g.push(media.Packet{Kind: media.Restart})
			}
			g.live(between(fs, 18_000, 40_000), 20_500, by(c.shift))
			g.disconnect()
			g.same(fs)
			g.want(0, 0, 1)
			g.again()
		})
	}
}

func script(name string) media.Packet {
	b := append([]byte{2, 0, byte(len(name))}, name...)
	b = append(b, 8, 0, 0, 0, 0, 0, 0, 9)
	return media.Packet{Kind: media.Script, Body: b}
}

func TestSmallOverlapsDoNotDrift(t *testing.T) { // S4
	const gops = 1800 // 1 h
	r := rand.New(rand.NewPCG(13, 1))
	body := video(r, 0, false, 40).body
	g := newRig(t)
	g.connect("")
	// Each group's time stamps run 76 ms into the next one.
	var at int64
	n := uint32(0)
	for i := range int64(gops) {
		var ps []media.Packet
		at = i * (gopMS - 76)
		for k := range int64(gopLen) {
			f := frame{kind: media.Video, key: k == 0, body: slices.Clone(body)}
			n++
			copy(f.body[20:], []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
			f.sum = flv.Sum(flv.TagVideo, f.body)
			ps = append(ps, f.packet(at+k*frameMS))
		}
		g.now = g.now.Add((gopMS - 76) * time.Millisecond)
		g.push(ps...)
	}
	g.disconnect()
	if len(g.s.items) != gops*gopLen {
		t.Fatalf("%d frames", len(g.s.items))
	}
	g.want(0, 0, 0)
	g.again()
	last := g.s.items[len(g.s.items)-1].out
	if want := at + (gopLen-1)*frameMS; last < want-frameMS || last > want+frameMS {
		t.Errorf("last frame at %d, the source says %d", last, want)
	}
}

func TestTimeStampsThatStandStill(t *testing.T) { // S9
	fs := film(14, 10_000, false)
	g := newRig(t)
	g.connect("")
	g.live(fs, 0, func(f frame) int64 {
		if f.kind == media.Audio && f.at >= 2000 && f.at < 4000 {
			return 2000 - f.at
		}
		return 0
	})
	g.disconnect()
	g.same(fs)
	g.again()
	if g.r.Stats().Made == 0 {
		t.Error("no time stamp was made up")
	}
	a := g.s.kind(media.Audio)
	if d := a[len(a)-1].out - fs[len(fs)-1].at; d > 30 || d < -30 {
		t.Errorf("the last sound is %d ms off", d)
	}
}

func TestTracksOnDifferentClocks(t *testing.T) { // S8
	fs := film(15, 20_000, false)
	for _, from := range []int64{0, 10_000} {
		g := newRig(t)
		g.connect("")
		g.live(fs, 0, func(f frame) int64 {
			if f.kind == media.Audio && f.at >= from {
				return 50_000
			}
			return 0
		})
		g.disconnect()
		g.same(fs)
		g.steps()
		g.want(0, 0, 1)
		g.again()
		v, a := g.s.kind(media.Video), g.s.kind(media.Audio)
		if d := v[len(v)-1].out - a[len(a)-1].out; d > 100 || d < -100 {
			t.Errorf("from %d: tracks end %d ms apart", from, d)
		}
	}
}

func TestAbsurdCompositionTime(t *testing.T) { // S14
	fs := film(16, 4000, false)
	i := slices.IndexFunc(fs, func(f frame) bool { return f.at == 1000 && f.kind == media.Video })
	fs[i].cts = -4_000_000
	fs[i].body[2], fs[i].body[3], fs[i].body[4] = 0xC2, 0xF7, 0
	fs[i].sum = flv.Sum(flv.TagVideo, fs[i].body)
	fs[i+2].cts = 9999
	g := newRig(t)
	g.connect("")
	g.live(fs, 0, by(0))
	g.disconnect()
	g.again()
	v := g.s.kind(media.Video)
	if v[25].cts != 0 || g.r.Stats().BadCTS != 1 {
		t.Errorf("cts %d, counted %d", v[25].cts, g.r.Stats().BadCTS)
	}
	if g.r.State().Content != g.s.content {
		t.Error("the content hash is not of what was written")
	}
}

func TestPreRoll(t *testing.T) { // C14
	fs := film(17, 10_000, false)
	g := newRig(t)
	g.connect("")
	g.live(between(fs, 1000, 10_000), 0, by(0))
	g.disconnect()
	g.again()
	g.same(slices.DeleteFunc(between(fs, 2000, 10_000), func(f frame) bool { return false }))
	if !g.s.items[0].key || g.s.items[0].out != 0 {
		t.Errorf("first item: %+v", g.s.items[0])
	}
	if a := g.r.Account(); a.PreRoll == 0 {
		t.Error("nothing counted as pre-roll")
	}
}

func TestHeaders(t *testing.T) {
	v := func(b []byte) media.Packet { return header(media.VideoConfig, b) }
	a := func(b []byte) media.Packet { return header(media.AudioConfig, b) }
	loose := slices.Clone(videoA) // the same sets, another profile byte in front
	loose[7] ^= 0x10
	bad := slices.Clone(videoA)
	bad[10] &= 0xE0 // no SPS
	for _, c := range []struct {
		name  string
		at    map[int64][]media.Packet // before the frames of this true time
		parts int
		lost  media.Kind // of this kind frames may be missing
	}{
		{"repeated", map[int64][]media.Packet{0: {v(videoA), a(audioA)}, 4000: {v(videoA), a(audioA)}}, 1, 0},
		{"same meaning", map[int64][]media.Packet{0: {v(videoA), a(audioA)}, 4000: {v(loose), a(unhex("ae001210"))}}, 1, 0},
		{"video changed", map[int64][]media.Packet{0: {v(videoA), a(audioA)}, 4000: {v(videoB)}}, 2, 0},
		{"audio changed", map[int64][]media.Packet{0: {v(videoA), a(audioA)}, 4000: {a(audioB)}}, 2, 0},
		{"both changed", map[int64][]media.Packet{0: {v(videoA), a(audioA)}, 4000: {v(videoB), a(audioB)}}, 2, 0},
		{"several in a row", map[int64][]media.Packet{0: {v(videoB), v(videoA), a(audioB), a(audioA)}, 4000: {v(videoB), v(videoA), v(videoB)}}, 2, 0},
		{"there and back before media", map[int64][]media.Packet{0: {v(videoA), a(audioA)}, 4000: {v(videoB), v(videoA)}}, 1, 0},
		{"broken", map[int64][]media.Packet{0: {v(videoA), a(audioA)}, 4000: {v(bad), a([]byte{0xAF, 0, 0})}}, 1, 0},
		{"audio header late", map[int64][]media.Packet{0: {v(videoA)}, 1000: {a(audioA)}}, 1, 0},
		{"audio header much later", map[int64][]media.Packet{0: {v(videoA)}, 5500: {a(audioA)}}, 2, media.Audio},
		{"audio changed inside a group", map[int64][]media.Packet{0: {v(videoA), a(audioA)}, 4500: {a(audioB)}}, 2, media.Audio},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := film(18, 10_000, false)
			g := newRig(t)
			g.r.Connect(g.now, "")
			for at := int64(0); at < 10_000; at += 100 {
				g.push(c.at[at]...)
				g.live(between(fs, at, at+100), 0, by(0))
			}
			g.disconnect()
			if len(g.s.configs) != c.parts {
				t.Errorf("%d parts, want %d", len(g.s.configs), c.parts)
			}
			if c.lost == 0 {
				g.same(fs)
			} else if n := len(g.s.kind(media.Video)); n != len(only(fs, media.Video)) {
				t.Errorf("%d video frames", n)
			}
			g.want(0, 0, 0)
			g.again()
			part := 0
			for i, it := range g.s.items {
				if it.part != part && it.kind == media.Video {
					if !it.key {
						t.Errorf("part %d begins with item %d, which is no key frame", it.part, i)
					}
					part = it.part
				}
			}
		})
	}
}

func TestFlappingHeaders(t *testing.T) { // C7
	fs := film(19, 20_000, false)
	g := newRig(t)
	g.r.Connect(g.now, "")
	g.push(header(media.AudioConfig, audioA))
	for at := int64(0); at < 20_000; at += 2000 {
		h := videoA
		if at/2000%2 == 1 {
			h = videoB
		}
		g.push(header(media.VideoConfig, h))
		g.live(between(fs, at, at+2000), 0, by(0))
	}
	g.disconnect()
	if len(g.s.configs) > 4 {
		t.Errorf("%d parts", len(g.s.configs))
	}
	if len(g.errs) == 0 || !errors.Is(g.errs[0], repair.ErrFlapping) {
		t.Errorf("%v", g.errs)
	}
	// Another connection begins anew.
	g.errs = nil
	g.r.Connect(g.now, "the source changed its configuration too often")
	g.push(header(media.VideoConfig, videoB), header(media.AudioConfig, audioA))
	g.live(film(20, 4000, false), 0, by(20_000))
	g.disconnect()
	if len(g.errs) != 0 {
		t.Errorf("%v", g.errs)
	}
}

func TestUnsupportedCodec(t *testing.T) {
	for name, tc := range map[string]struct {
		p    media.Packet
		want string
	}{
		"VVC":       {media.Packet{Kind: media.Video, Codec: media.VVC, Key: true, Lead: 8, Body: []byte("\x91vvc1\x00\x00\x00x")}, "VVC (Enhanced FLV vvc1)"},
		"VP6":       {media.Packet{Kind: media.Video, Codec: media.OtherCodec, Key: true, Lead: 1, Body: []byte{0x14, 1, 2}}, "VP6"},
		"Speex":     {media.Packet{Kind: media.Audio, Codec: media.OtherCodec, Lead: 1, Body: []byte{0xB6, 1, 2}}, "Speex"},
		"unnamed":   {media.Packet{Kind: media.Audio, Body: []byte{1, 2}}, "other"},
		"not sound": {media.Packet{Kind: media.Audio, Codec: media.HEVC, Body: []byte{1, 2}}, "HEVC"},
	} {
		g := newRig(t)
		g.r.Connect(g.now, "")
		g.push(tc.p, tc.p)
		g.disconnect()
		var u *repair.Unsupported
		if len(g.errs) != 1 || !errors.As(g.errs[0], &u) || u.Codec == media.NoCodec {
			t.Fatalf("%s: %v", name, g.errs)
		}
		if !strings.Contains(u.Error(), tc.want) {
			t.Errorf("%s: %v", name, u)
		}
		if a := g.r.Account(); a.Invalid != 2 {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestSingleTracks(t *testing.T) {
	for _, k := range []media.Kind{media.Video, media.Audio} {
		fs := only(film(21, 12_000, false), k)
		g := newRig(t)
		g.r.Connect(g.now, "")
		if k == media.Video {
			g.push(header(media.VideoConfig, videoA))
		} else {
			g.push(header(media.AudioConfig, audioA))
		}
		g.live(fs, 0, by(3))
		g.disconnect()
		g.same(fs)
		g.now = g.now.Add(7 * time.Second)
		g.r.Connect(g.now, "closed")
		more := film(22, 12_000, false)
		for i := range more {
			more[i].at += 19_000
		}
		g.live(only(more, k), 0, by(3))
		g.disconnect()
		g.same(append(fs, only(more, k)...))
		g.again()
		g.want(1, 7*time.Second, 0)
	}
}

func TestStartDoesNotWaitWithoutNeed(t *testing.T) {
	fs := film(23, 4000, false)
	said := script("onMetaData")
	said.Body = append([]byte{2, 0, 10}, "onMetaData"...)
	said.Body = append(said.Body, 8, 0, 0, 0, 1, 0, 12)
	said.Body = append(said.Body, "videocodecid"...)
	said.Body = append(said.Body, 0, 0x40, 0x1C, 0, 0, 0, 0, 0, 0, 0, 0, 9)
	for _, c := range []struct {
		name string
		head []media.Packet
		kind media.Kind
		wait time.Duration
	}{
		{"both headers", []media.Packet{header(media.VideoConfig, videoA), header(media.AudioConfig, audioA)}, 0, 300 * time.Millisecond},
		{"the script says video only", []media.Packet{said, header(media.VideoConfig, videoA)}, media.Video, 0},
		{"nobody knows", []media.Packet{header(media.VideoConfig, videoA)}, media.Video, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t)
			g.r.Connect(g.now, "")
			g.push(c.head...)
			in := fs
			if c.kind != 0 {
				in = only(fs, c.kind)
			}
			g.live(in, 0, by(0))
			if len(g.s.items) == 0 {
				t.Fatal("nothing came out")
			}
			if late := g.heldFor(); late > c.wait {
				t.Errorf("held for %v", late)
			}
		})
	}
}

func TestSinkFails(t *testing.T) {
	fs := film(24, 10_000, false)
	g := newRig(t)
	full := errors.New("disk full")
	g.s.fail = func(n int) error {
		if n == 100 {
			return full
		}
		return nil
	}
	g.connect("")
	g.live(fs, 0, by(0))
	if len(g.errs) == 0 || !errors.Is(g.errs[0], full) {
		t.Fatalf("%v", g.errs)
	}
	a := g.r.Account()
	if err := a.Check(); err != nil {
		t.Error(err)
	}
	if a.Written != 100 {
		t.Errorf("%d written", a.Written)
	}
	if err := g.r.Tick(g.now); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

// What came out, fed in again, comes out as it is (6.3).
func TestIdempotence(t *testing.T) {
	fs := film(60, 40_000, false)
	g := newRig(t)
	g.connect("")
	g.live(between(fs, 0, 9000), 0, by(77_000))
	g.live(between(fs, 9000, 15_000), 0, by(5_000_000))
	g.disconnect()
	g.now = g.now.Add(4 * time.Second)
	g.connect("cut")
	g.live(between(fs, 18_000, 30_000), 19_000, by(5_000_000))
	g.disconnect()
	g.now = g.now.Add(time.Second)
	g.connect("cut")
	g.live(between(fs, 26_000, 40_000), 31_000, by(0))
	g.disconnect()
	if len(g.s.gaps) != 1 || len(g.s.repairs) != 2 {
		t.Fatalf("%+v %+v", g.s.gaps, g.s.repairs)
	}

	bodies := map[uint64]frame{}
	for _, f := range fs {
		bodies[f.sum] = f
	}
	var again []frame
	for _, it := range g.s.items {
		f := bodies[it.sum]
		f.at = it.out
		again = append(again, f)
	}
	h := newRig(t)
	h.connect("")
	h.live(again, 0, by(0))
	h.disconnect()
	h.want(0, 0, 0)
	if len(h.s.items) != len(g.s.items) || h.s.content != g.s.content {
		t.Fatalf("%d items %x, then %d items %x", len(g.s.items), g.s.content, len(h.s.items), h.s.content)
	}
	for i := range h.s.items {
		if h.s.items[i].out != g.s.items[i].out {
			t.Fatalf("item %d at %d, then at %d", i, g.s.items[i].out, h.s.items[i].out)
		}
	}
	if st := h.r.Stats(); st != (repair.Stats{}) {
		t.Errorf("a rule fired: %+v", st)
	}
}

func TestHoldIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 1))
	g := newRig(t)
	g.connect("")
	g.live(film(61, 4000, false), 0, by(0))
	g.disconnect()
	g.connect("cut")
	// A burst of unknown pictures on another clock, 40 MB at once.
	var most int64
	for i := range int64(400) {
		g.push(video(r, 0, i%50 == 0, 100_000).packet(9_000_000 + i*40))
		a := g.r.Account()
		most = max(most, a.Held)
	}
	g.disconnect()
	if most > 50 {
		t.Errorf("up to %d tags of 100 kB were held", most)
	}
	if n := len(g.s.kind(media.Video)); n != 500 {
		t.Errorf("%d frames", n)
	}
}
