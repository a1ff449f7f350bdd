package plan_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/recorder/hlspull/plan"
)

var base = &url.URL{Scheme: "http", Host: "a.example", Path: "/live/index.m3u8"}

var epoch0 = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

func parse(t testing.TB, text string) *hls.Media {
	t.Helper()
	p, err := hls.Parse([]byte(text), base)
	if err != nil || p.Media == nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p.Media
}

// list makes a playlist: head, then a segment for each name, 4 s each. "@12" behind a name is its date, "~1" its length,
// in seconds; "!" in front a discontinuity.
func list(msn int, names string, head ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-TARGETDURATION:4\n")
	if msn >= 0 {
		fmt.Fprintf(&b, "#EXT-X-MEDIA-SEQUENCE:%d\n", msn)
	}
	for _, h := range head {
		b.WriteString(h + "\n")
	}
	for name := range strings.FieldsSeq(names) {
		if strings.HasPrefix(name, "#") {
			b.WriteString(name + "\n")
			continue
		}
		if strings.HasPrefix(name, "!") {
			b.WriteString("#EXT-X-DISCONTINUITY\n")
			name = name[1:]
		}
		name, length, ok := strings.Cut(name, "~")
		if !ok {
			length = "4"
		}
		name, at, dated := strings.Cut(name, "@")
		if dated {
			var sec float64
			fmt.Sscan(at, &sec)
			fmt.Fprintf(&b, "#EXT-X-PROGRAM-DATE-TIME:%s\n", epoch0.Add(time.Duration(sec*1e9)).Format(time.RFC3339Nano))
		}
		fmt.Fprintf(&b, "#EXTINF:%s,\n%s\n", length, name)
	}
	return b.String()
}

// names writes s<from> … s<to>, dated from base second on if dated ≥ 0.
func names(prefix string, from, to int, dated float64) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, " %s%d.ts", prefix, i)
		if dated >= 0 {
			fmt.Fprintf(&b, "@%g", dated+4*float64(i-from))
		}
	}
	return b.String()
}

// show writes what came out: names, "?n" for what was never listed, "|" where an epoch begins, "~" for a discontinuity.
func show(segs []plan.Segment) string {
	var b strings.Builder
	for _, s := range segs {
		b.WriteByte(' ')
		if s.Begins {
			b.WriteString("| ")
		} else if s.Discontinuity {
			b.WriteString("~")
		}
		name := s.Path[strings.LastIndexByte(s.Path, '/')+1:]
		if _, q, ok := strings.Cut(s.URL, "?"); ok && strings.Contains(s.Path, "?") {
			_ = q
			name = s.URL[strings.LastIndexByte(s.URL, '/')+1:]
		}
		switch {
		case s.Unseen && s.URL == "":
			fmt.Fprintf(&b, "?%d", s.Number)
		case s.Unseen:
			fmt.Fprintf(&b, "?%s", name)
		default:
			b.WriteString(strings.TrimSuffix(name, ".ts"))
		}
		if s.Gap {
			b.WriteString("(gap)")
		}
		if s.Ad {
			b.WriteString("(ad)")
		}
		if s.Skip {
			b.WriteString("(skip)")
		}
	}
	return strings.TrimSpace(b.String())
}

func TestLists(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration // between two lists; default 4 s
		lists []string
		want  string
		stale int
	}{
		{"a window slides", 0, []string{list(10, "a b c"), list(11, "b c d"), list(11, "b c d"), list(13, "d e f")}, "| a b c d e f", 0},
		{"two edges, one behind", 0, []string{list(10, "a b c"), list(12, "c d e"), list(10, "a b c"), list(13, "d e f"), list(11, "b c d"), list(14, "e f g")},
			"| a b c d e f g", 2},
		{"numbers begin anew, new names", 0, []string{list(100, names("a", 100, 110, -1)), list(0, "b0 b1 b2"), list(1, "b1 b2 b3")},
			"| " + strings.TrimSuffix(strings.ReplaceAll(strings.TrimSpace(names("a", 100, 110, -1)), ".ts", ""), "") + " | b0 b1 b2 b3", 0},
		{"then old names under low numbers", 0, []string{list(100, names("a", 100, 103, -1)), list(0, "b0 b1 b2"), list(0, names("a", 100, 102, -1)), list(1, "b1 b2 b3")},
			"| a100 a101 a102 a103 | b0 b1 b2 b3", 1},
		{"only its old beginning, twice", 0, []string{list(10, "aa bb cc dd ee"), list(10, "aa"), list(15, "ff gg hh ii jj"), list(14, "ee"), list(10, "aa"), list(16, "gg hh ii jj kk")}, "| aa bb cc dd ee ff gg hh ii jj kk", 3},
		{"a list that was cut off", 0, []string{list(10, "aa bb cc"), list(10, "aa b"), list(12, "c"), list(12, "cc dd ee"), list(13, "d"), list(13, "dd ee ff")}, "| aa bb cc dd ee ff", 1},
		{"old names under low numbers at once", 0, []string{list(100, names("a", 100, 103, -1)), list(0, names("a", 100, 102, -1)), list(101, names("a", 101, 104, -1))},
			"| a100 a101 a102 a103 a104", 1},
		{"the same behind a short last segment", 0, []string{list(0, "s0@0 s1@4 s2@8"), list(1, "s1@4 s2@8 s3@12~2"), list(0, "s0@14"), list(0, "s0@14 s1@18")},
			"| s0 s1 s2 s3 | s0 s1", 0},
		{"same numbers, same names, newer dates", 0, []string{list(0, "s0@0 s1@4 s2@8"), list(1, "s1@4 s2@8 s3@12"), list(0, "s0@100 s1@104 s2@108"), list(1, "s1@104 s2@108 s3@112")},
			"| s0 s1 s2 s3 | s0 s1 s2 s3", 0},
		{"same numbers, same names, same dates", 0, []string{list(0, "s0@0 s1@4 s2@8"), list(1, "s1@4 s2@8 s3@12"), list(0, "s0@0 s1@4 s2@8"), list(2, "s2@8 s3@12 s4@16")},
			"| s0 s1 s2 s3 s4", 1},
		{"no numbers at all", 0, []string{list(-1, "a b c"), list(-1, "b c d"), list(-1, "d e f"), list(-1, "d e f")}, "| a b c d e f", 0},
		{"tokens in the query", 0, []string{list(5, "a?t=1 b?t=1"), list(6, "b?t=2 c?t=2"), list(7, "c?t=3 d?t=3")}, "| a b c d", 0},
		{"tokens in the path", 0, []string{list(5, "t1/a t1/b"), list(6, "t2/b t2/c"), list(7, "t3/c t3/d")}, "| a b c d", 0},
		{"names in the query", 0, []string{list(5, "s?n=1 s?n=2"), list(6, "s?n=2 s?n=3"), list(7, "s?n=3 s?n=4")}, "| s?n=1 s?n=2 s?n=3 s?n=4", 0},
		{"one name for all", 0, []string{list(5, "live"), list(6, "live"), list(6, "live"), list(7, "live")}, "| live live live", 0},
		{"names in a ring", 0, []string{list(0, "a b c"), list(1, "b c a"), list(2, "c a b"), list(4, "b c a")}, "| a b c a b c a", 0},
		{"other names, same dates", 0, []string{list(5, "a@0 b@4 c@8"), list(50, "x@4 y@8 z@12"), list(7, "c@8 d@12 e@16")}, "| a b c z e", 0},
		{"missed, numeric names", 20 * time.Second, []string{list(10, names("s", 10, 12, -1)), list(18, names("s", 18, 20, -1))},
			"| s10 s11 s12 ?s13.ts ?s14.ts ?s15.ts ?s16.ts ?s17.ts s18 s19 s20", 0},
		{"missed, padded names", 20 * time.Second, []string{list(8, "s008.ts s009.ts s010.ts"), list(12, "s012.ts s013.ts s014.ts")}, "| s008 s009 s010 ?s011.ts s012 s013 s014", 0},
		{"missed, other names", 20 * time.Second, []string{list(10, "a b c"), list(15, "f g h")}, "| a b c ?13 ?14 f g h", 0},
		{"missed by far with no reason", 0, []string{list(10, "a b c"), list(9000, "f g h")}, "| a b c | f g h", 0},
		{"missed, and dates say how much", 0, []string{list(10, "a@0 b@4 c@8"), list(63, "f@212 g@216 h@220")},
			"| a b c ?" + strings.Join(func() (n []string) {
				for i := 13; i < 63; i++ {
					n = append(n, fmt.Sprint(i))
				}
				return
			}(), " ?") + " f g h", 0},
		{"missed, then another edge has it", 20 * time.Second, []string{list(10, "a b c"), list(14, "e f"), list(12, "c d e"), list(15, "f g")}, "| a b c ?13 e f g", 1},
		{"a delta", 0, []string{list(10, "a b c d e f g h"), list(10, "g h i", "#EXT-X-SKIP:SKIPPED-SEGMENTS=6"), list(11, "h i j", "#EXT-X-SKIP:SKIPPED-SEGMENTS=6")}, "| a b c d e f g h i j", 0},
		{"discontinuities", 0, []string{list(0, "a !b c"), list(1, "!b c !d")}, "| a ~b c ~d", 0},
		{"a discontinuity that was missed", 20 * time.Second, []string{list(0, "a b c"), list(5, "f g h", "#EXT-X-DISCONTINUITY-SEQUENCE:1")}, "| a b c ?3 ?4 ~f g h", 0},
		{"dates that go back", 0, []string{list(5, "a@100 b@104"), list(6, "b@104 c@50"), list(7, "c@50 d@54"), list(9, "e@58 f@62")}, "| a b c d e f", 0},
		{"a gap and a placeholder", 0, []string{list(0, "preloading_1.ts a #EXT-X-GAP b c")}, "| preloading_1(skip) a b(gap) c", 0},
		{"advertising", 0, []string{list(0, "a@0 !b@4 c@8 !d@12 e@16", `#EXT-X-DATERANGE:ID="stitched-ad-1",CLASS="twitch-stitched-ad",START-DATE="2026-01-02T03:00:04Z",DURATION=8`),
			list(2, "c@8 !d@12 e@16 f@20")}, "| a ~b(ad) c(ad) ~d e f", 0},
		{"advertising without an end", 0, []string{list(0, "a@0 !b@4 c@8", `#EXT-X-DATERANGE:ID="stitched-ad-1",START-DATE="2026-01-02T03:00:04Z"`), list(1, "!b@4 c@8 !d@12 e@16")},
			"| a ~b(ad) c(ad) ~d e", 0},
		{"other date ranges", 0, []string{list(0, "a@0 b@4", `#EXT-X-DATERANGE:ID="x",START-DATE="2026-01-02T03:00:04Z",DURATION=8`)}, "| a b", 0},
		{"empty for a while", 0, []string{list(0, ""), list(0, "a b"), list(2, ""), list(1, "b c")}, "| a b c", 0},
		{"numbers above 31 bit", 0, []string{list(1<<40, "a b"), list(1<<40+1, "b c")}, "| a b c", 0},
		{"numbers jump ahead at once with known names", 0, []string{list(5, "a b c"), list(1005, "b c d")}, "| a b c d", 0},
		{"an old copy that moves on for good", 0, []string{list(50, names("s", 50, 53, -1)), list(0, names("s", 50, 53, -1)), list(0, "x0 x1 x2"), list(1, "x1 x2 x3")}, "| s50 s51 s52 s53 | x0 x1 x2 x3", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan.New()
			every := c.every
			if every == 0 {
				every = 4 * time.Second
			}
			var got []plan.Segment
			stale := 0
			for i, text := range c.lists {
				at := plan.Snapshot{List: parse(t, text), At: epoch0.Add(time.Duration(i) * every)}
				r := p.Plan(at)
				if r.Doubt && i == len(c.lists)-1 {
					r = p.Plan(at)
				}
				got = append(got, r.New...)
				if r.Stale && !r.Doubt {
					stale++
				}
				check(t, r)
			}
			if s := show(got); s != c.want {
				t.Errorf("\n got %s\nwant %s", s, c.want)
			}
			if stale != c.stale {
				t.Errorf("%d lists were stale, want %d", stale, c.stale)
			}
		})
	}
}

func check(t testing.TB, r plan.Result) {
	t.Helper()
	if r.Target < 500*time.Millisecond || r.Target > time.Minute {
		t.Errorf("target %v", r.Target)
	}
	if r.Changed != (len(r.New) > 0) {
		t.Errorf("changed %v with %d new", r.Changed, len(r.New))
	}
}

// However a sane packager's lists arrive - late, twice, from an edge that is behind - each segment comes out once, in
// order, and what is not seen is told.
func TestEachSegmentOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.IntRange(3, 8).Draw(t, "window")
		dated := rapid.Bool().Draw(t, "dated")
		token := rapid.Bool().Draw(t, "token")
		p := plan.New()
		next, at := 0, 0
		steps := rapid.IntRange(1, 40).Draw(t, "steps")
		edge := window - 1
		for i := range steps {
			ahead := rapid.IntRange(0, window+3).Draw(t, "ahead")
			behind := rapid.IntRange(0, window-1).Draw(t, "behind")
			edge += ahead
			at += ahead * 4
			last := edge
			if rapid.IntRange(0, 3).Draw(t, "edge") == 0 && i > 0 {
				last = max(edge-behind, window-1)
			}
			from := last - window + 1
			text := ""
			for n := from; n <= last; n++ {
				text += fmt.Sprintf(" s%x.ts", n*7+3)
				if token {
					text += fmt.Sprintf("?t=%d", i)
				}
				if dated {
					text += fmt.Sprintf("@%d", n*4)
				}
			}
			r := p.Plan(plan.Snapshot{List: parseAny(t, list(from, text)), At: epoch0.Add(time.Duration(at) * time.Second)})
			for _, s := range r.New {
				if i == 0 && next == 0 {
					next = int(s.Number)
				}
				if s.Epoch != 1 || int(s.Number) != next || s.Unseen == (int(s.Number) >= from) || s.Count != 1 {
					t.Fatalf("step %d: %+v, want number %d of %d to %d", i, s, next, from, last)
				}
				next++
			}
			if next <= last && !r.Stale {
				t.Fatalf("step %d: %d of %d to %d", i, next, from, last)
			}
		}
	})
}

func parseAny(t *rapid.T, text string) *hls.Media {
	p, err := hls.Parse([]byte(text), base)
	if err != nil || p.Media == nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p.Media
}

// Place and Resume: whatever list comes next, the same segments come out as without the restart, as far as a single
// segment can tell.
func TestResumeIsTheSame(t *testing.T) {
	p := plan.New()
	r := p.Plan(plan.Snapshot{List: parse(t, list(10, names("s", 10, 14, 0))), At: epoch0})
	place := r.New[2].Place(epoch0)
	raw, err := json.Marshal(place)
	if err != nil {
		t.Fatal(err)
	}
	var back plan.Place
	if err := json.Unmarshal(raw, &back); err != nil || back != place {
		t.Fatalf("%+v, %v", back, err)
	}
	for _, c := range []struct {
		name, list string
		after      time.Duration
		want       string
	}{
		{"the same list", list(10, names("s", 10, 14, 0)), time.Second, "s13 s14"},
		{"it went on", list(12, names("s", 12, 16, 8)), time.Second, "s13 s14 s15 s16"},
		{"just behind", list(13, names("s", 13, 17, 12)), time.Second, "s13 s14 s15 s16 s17"},
		{"beyond", list(20, names("s", 20, 22, 40)), time.Minute, "?s13.ts ?s14.ts ?s15.ts ?s16.ts ?s17.ts ?s18.ts ?s19.ts s20 s21 s22"},
		{"an old copy", list(8, names("s", 8, 11, -8)), time.Second, ""},
		{"began anew", list(0, names("r", 0, 2, 100)), time.Minute, "| r0 r1 r2"},
		{"began anew with the same names", list(10, names("s", 10, 14, 1000)), time.Hour, "| s10 s11 s12 s13 s14"},
		{"began anew without dates", list(0, names("r", 0, 2, -1)), time.Minute, "| r0 r1 r2"},
	} {
		p := plan.Resume(back)
		r := p.Plan(plan.Snapshot{List: parse(t, c.list), At: epoch0.Add(c.after)})
		if r.Doubt {
			r = p.Plan(plan.Snapshot{List: parse(t, c.list), At: epoch0.Add(c.after)})
		}
		if got := show(r.New); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	for _, bad := range []plan.Place{{ID: plan.ID{Number: 1 << 63}}, {Duration: -1}, {}} {
		if r := plan.Resume(bad).Plan(plan.Snapshot{List: parse(t, list(10, "a b")), At: epoch0}); len(r.New) < 2 {
			t.Errorf("%+v: %s", bad, show(r.New))
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add(list(10, "a b c")+"\x00"+list(11, "b c d"), false)
	f.Add(list(0, "a@0 b@4")+"\x00"+list(0, "a@100 b@104")+"\x00"+list(-1, "x y"), true)
	f.Add(list(10, names("s", 10, 14, 0))+"\x00"+list(1000000, names("s", 30, 34, 80)), false)
	f.Add(list(1, "#EXT-X-BYTERANGE:5 a #EXT-X-BYTERANGE:7 a")+"\x00"+list(2, "#EXT-X-BYTERANGE:7 a #EXT-X-BYTERANGE:9 a"), false)
	f.Fuzz(func(t *testing.T, text string, moved bool) {
		p := plan.New()
		var last plan.ID
		for i, one := range strings.Split(text, "\x00") {
			l, err := hls.Parse([]byte(one), base)
			if err != nil || l.Media == nil {
				continue
			}
			r := p.Plan(plan.Snapshot{List: l.Media, At: epoch0.Add(time.Duration(i) * time.Second), Moved: moved})
			check(t, r)
			for _, s := range r.New {
				if s.Epoch < last.Epoch || s.Epoch == last.Epoch && s.Number <= last.Number && last != (plan.ID{}) && s.Number != 0 {
					t.Fatalf("%+v behind %+v", s.ID, last)
				}
				last = plan.ID{Epoch: s.Epoch, Number: s.Number + s.Count - 1}
				if s.Count < 1 || s.Duration < 0 || s.Count > 1 && !s.Unseen {
					t.Fatalf("%+v", s)
				}
			}
		}
	})
}
