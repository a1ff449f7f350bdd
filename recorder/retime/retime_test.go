package retime_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/repair"
	"github.com/liverec/liverec/recorder/retime"
)

const (
	pic   = time.Second / 25
	sound = 1024 * time.Second / 48_000
)

// out is one thing that the sink was given.
type out struct {
	kind media.Kind
	time time.Duration
	n    byte
}

// sink keeps what it is given.
type sink struct {
	frames  []out
	configs []repair.Configs
	at      []int // number of frames before each configuration
	gaps    []repair.Gap
	repairs []string
	fail    error
}

func (s *sink) Media(it *repair.Item) error {
	if s.fail != nil {
		return s.fail
	}
	s.frames = append(s.frames, out{it.Kind, it.Time, it.Body[0]})
	if it.Out != int64(it.Time/time.Millisecond) {
		return fmt.Errorf("out %d, time %v", it.Out, it.Time)
	}
	return nil
}

func (s *sink) Config(c repair.Configs) error {
	s.configs, s.at = append(s.configs, c), append(s.at, len(s.frames))
	return nil
}
func (s *sink) Gap(g repair.Gap)       { s.gaps = append(s.gaps, g) }
func (s *sink) Repair(r repair.Repair) { s.repairs = append(s.repairs, r.What) }

func (s *sink) track(k media.Kind) []out {
	var o []out
	for _, f := range s.frames {
		if f.kind == k {
			o = append(o, f)
		}
	}
	return o
}

// feed makes batches: one second of a stream with a key frame at its begin, in writing order.
type feed struct {
	t     *testing.T
	r     *retime.Retimer
	clock time.Duration // of the next second
	n     byte
	wall  time.Time
	only  media.Kind // one track only
}

func newFeed(t *testing.T, s *sink) *feed {
	f := &feed{t: t, r: retime.New(s, same), wall: time.Unix(1_700_000_000, 0)}
	f.r.Connect(f.wall, "")
	return f
}

func same(_ media.Codec, a, b []byte) bool { return bytes.Equal(a[:1], b[:1]) }

func (f *feed) push(ps ...media.Packet) {
	f.t.Helper()
	b := &media.Batch{Packets: ps, At: f.wall}
	for _, p := range ps {
		b.Count.Received += int64(len(p.Body))
		b.Count.Tags += int64(len(p.Body))
	}
	if err := f.r.Push(b); err != nil {
		f.t.Fatal(err)
	}
	a := f.r.Account()
	if err := a.Check(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *feed) config(video, audio string) {
	f.t.Helper()
	var ps []media.Packet
	if video != "" {
		ps = append(ps, media.Packet{Kind: media.VideoConfig, Codec: media.AVC, Body: []byte(video)})
	}
	if audio != "" {
		ps = append(ps, media.Packet{Kind: media.AudioConfig, Codec: media.AAC, Body: []byte(audio)})
	}
	f.push(ps...)
}

func (f *feed) join(s media.Seam) {
	f.t.Helper()
	f.push(media.Packet{Kind: media.Join, Seam: &s})
}

// packets are those of one second from clock on, sound behind pictures of the same time.
func (f *feed) packets(clock time.Duration, n byte) []media.Packet {
	var ps []media.Packet
	for t := time.Duration(0); t < time.Second && f.only != media.Audio; t += pic {
		ps = append(ps, media.Packet{Kind: media.Video, Codec: media.AVC, Key: t == 0, Exact: clock + t, Shift: 2 * pic, Body: []byte{n, 1, byte(t / pic)}})
	}
	first := (clock + sound - 1) / sound * sound
	for t := first; t < clock+time.Second && f.only != media.Video; t += sound {
		ps = append(ps, media.Packet{Kind: media.Audio, Codec: media.AAC, Key: true, Exact: t, Body: []byte{n, 0, byte(t / sound)}})
	}
	slices.SortStableFunc(ps, func(a, b media.Packet) int { return int(a.Exact - b.Exact) })
	return ps
}

// second is the next second of media, as a segment.
func (f *feed) second(s media.Seam) {
	f.t.Helper()
	f.join(s)
	f.push(f.packets(f.clock, f.n)...)
	f.clock += time.Second
	f.wall = f.wall.Add(time.Second)
	f.n++
}

// rising fails unless each track rises in steps of at most a second.
func rising(t *testing.T, s *sink) {
	t.Helper()
	for _, k := range []media.Kind{media.Video, media.Audio} {
		fs := s.track(k)
		for i := 1; i < len(fs); i++ {
			if d := fs[i].time - fs[i-1].time; d <= 0 || k == media.Video && d > time.Second+pic {
				t.Fatalf("%v frame %d comes %v after the one before", k, i, d)
			}
		}
	}
}

// lips fails unless sound of a second lies where its pictures are.
func lips(t *testing.T, s *sink) {
	t.Helper()
	first := map[media.Kind]map[byte]time.Duration{media.Video: {}, media.Audio: {}}
	for _, f := range s.frames {
		if _, ok := first[f.kind][f.n]; !ok {
			first[f.kind][f.n] = f.time
		}
	}
	for n, v := range first[media.Video] {
		if a, ok := first[media.Audio][n]; ok && (a-v).Abs() > sound+time.Millisecond {
			t.Errorf("second %d: pictures begin at %v, sound at %v", n, v, a)
		}
	}
}

func TestSeams(t *testing.T) {
	type step struct {
		seam  media.Seam
		clock time.Duration // added to the clock before
	}
	gone := func(d time.Duration) media.Seam { return media.Seam{Missing: d, Why: "expired"} }
	for _, c := range []struct {
		name    string
		steps   []step
		seconds []byte
		gaps    []time.Duration
		repairs int
		length  time.Duration
	}{
		{"plain", make([]step, 4), []byte{0, 1, 2, 3}, nil, 0, 4 * time.Second},
		{"begins anywhere", []step{{clock: 26 * time.Hour}, {}}, []byte{0, 1}, nil, 0, 2 * time.Second},
		{"discontinuity ahead", []step{{}, {media.Seam{Discontinuity: true}, time.Hour}, {}}, []byte{0, 1, 2}, nil, 0, 3 * time.Second},
		{"discontinuity back", []step{{clock: time.Hour}, {media.Seam{Discontinuity: true}, -time.Hour}, {}}, []byte{0, 1, 2}, nil, 0, 3 * time.Second},
		{"discontinuity that changes nothing", []step{{}, {media.Seam{Discontinuity: true}, 0}, {}}, []byte{0, 1, 2}, nil, 0, 3 * time.Second},
		{"missing, the clock goes on", []step{{}, {gone(4 * time.Second), 4 * time.Second}, {}}, []byte{0, 1, 2}, []time.Duration{4 * time.Second}, 0, 3 * time.Second},
		{"missing, and a new clock", []step{{}, {media.Seam{Missing: 4 * time.Second, Why: "expired", Discontinuity: true}, -time.Second}}, []byte{0, 1}, []time.Duration{4 * time.Second}, 0, 2 * time.Second},
		{"missing, and the clock knows better", []step{{}, {gone(4 * time.Second), 5 * time.Second}}, []byte{0, 1}, []time.Duration{5 * time.Second}, 0, 2 * time.Second},
		{"a little missing stays open", []step{{}, {gone(600 * time.Millisecond), 600 * time.Millisecond}}, []byte{0, 1}, []time.Duration{600 * time.Millisecond}, 0, 2600 * time.Millisecond},
		{"advertisement", []step{{}, {media.Seam{Missing: 30 * time.Second, Why: "advertisement", Discontinuity: true}, 0}}, []byte{0, 1}, []time.Duration{30 * time.Second}, 0, 2 * time.Second},
		{"jump ahead without a word", []step{{}, {clock: time.Hour}, {}}, []byte{0, 1, 2}, nil, 1, 3 * time.Second},
		{"jump back without a word", []step{{clock: time.Hour}, {clock: -time.Hour}, {}}, []byte{0, 1, 2}, nil, 1, 3 * time.Second},
		{"missing before anything is nothing", []step{{seam: gone(time.Minute)}, {}}, []byte{0, 1}, nil, 0, 2 * time.Second},
		{"two holes", []step{{}, {gone(3 * time.Second), 3 * time.Second}, {gone(2 * time.Second), 2 * time.Second}}, []byte{0, 1, 2}, []time.Duration{3 * time.Second, 2 * time.Second}, 0, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &sink{}
			f := newFeed(t, s)
			f.config("v", "a")
			for _, x := range c.steps {
				f.clock += x.clock
				f.second(x.seam)
			}
			if err := f.r.Disconnect(f.wall); err != nil {
				t.Fatal(err)
			}
			rising(t, s)
			lips(t, s)
			v, a := s.track(media.Video), s.track(media.Audio)
			if len(v) != 25*len(c.steps) || len(a) < 46*len(c.steps) {
				t.Errorf("%d pictures and %d sounds of %d s", len(v), len(a), len(c.steps))
			}
			if v[0].time != 0 {
				t.Errorf("begins at %v", v[0].time)
			}
			if got := v[len(v)-1].time + pic; (got - c.length).Abs() > 2*pic {
				t.Errorf("%v long, want %v", got, c.length)
			}
			var seconds []byte
			for _, o := range v {
				if len(seconds) == 0 || seconds[len(seconds)-1] != o.n {
					seconds = append(seconds, o.n)
				}
			}
			if !slices.Equal(seconds, c.seconds) {
				t.Errorf("seconds %v, want %v", seconds, c.seconds)
			}
			if len(s.gaps) != len(c.gaps) || len(s.repairs) != c.repairs {
				t.Fatalf("gaps %v, repairs %q", s.gaps, s.repairs)
			}
			for i, g := range s.gaps {
				if (g.Length-c.gaps[i]).Abs() > 2*pic || g.Why == "" || g.At.IsZero() {
					t.Errorf("gap %+v, want %v", g, c.gaps[i])
				}
			}
			if len(s.configs) != 1 {
				t.Errorf("%d configurations", len(s.configs))
			}
		})
	}
}

// Only a configuration that tells a decoder something else begins a part, at the next key frame; sound whose own
// configuration is the same goes on in the part before.
func TestConfigs(t *testing.T) {
	s := &sink{}
	f := newFeed(t, s)
	f.config("v1", "a1")
	f.second(media.Seam{})
	f.config("v1", "a1") // again
	f.second(media.Seam{})
	f.config("v2", "a1") // the same to a decoder
	f.second(media.Seam{})
	f.config("w", "")
	f.push(media.Packet{Kind: media.Video, Codec: media.AVC, Exact: f.clock - 10*time.Millisecond, Body: []byte{9}},
		media.Packet{Kind: media.Audio, Codec: media.AAC, Exact: f.clock - time.Millisecond, Body: []byte{8}})
	f.second(media.Seam{})
	if len(s.configs) != 2 || string(s.configs[1].Video.Body) != "w" || string(s.configs[1].Audio.Body) != "a1" {
		t.Fatalf("%d configurations: %+v", len(s.configs), s.configs)
	}
	if first := s.frames[s.at[1]]; first.kind != media.Video || first.n != 3 {
		t.Errorf("the new part begins with %+v", first)
	}
	if a := f.r.Account(); a.PreRoll != 1 || a.Headers != 7 {
		t.Errorf("account %+v", a)
	}
	if last := s.frames[s.at[1]-1]; last.n != 8 {
		t.Errorf("the old part ends with %+v", last)
	}
	rising(t, s)
}

// At a new clock with another configuration frames are held until sound is there: none of them is lost by that.
func TestConfigChangesAtDiscontinuity(t *testing.T) {
	s := &sink{}
	f := newFeed(t, s)
	f.config("v", "a")
	f.second(media.Seam{})
	f.clock += time.Hour
	f.join(media.Seam{Discontinuity: true})
	f.config("w", "a")
	ps := f.packets(f.clock, f.n)
	slices.SortStableFunc(ps, func(a, b media.Packet) int { return int(a.Kind) - int(b.Kind) }) // all pictures first
	f.push(ps...)
	f.r.Disconnect(f.wall)
	if v := s.track(media.Video); len(v) != 50 || len(s.configs) != 2 || s.at[1] >= len(s.frames) || s.frames[s.at[1]].kind != media.Video {
		t.Errorf("%d pictures, configurations %v at %v", len(v), s.configs, s.at)
	}
	if a := f.r.Account(); a.PreRoll != 0 {
		t.Errorf("account %+v", a)
	}
	rising(t, s)
}

// Sound that begins a little before the first picture belongs to it.
func TestSoundBeginsFirst(t *testing.T) {
	for _, c := range []struct {
		ahead time.Duration
		kept  int
	}{{0, 1}, {40 * time.Millisecond, 2}, {90 * time.Millisecond, 5}, {time.Second, 5}} {
		s := &sink{}
		f := newFeed(t, s)
		f.config("v", "a")
		f.join(media.Seam{})
		for at := -c.ahead; at <= 0; at += sound {
			f.push(media.Packet{Kind: media.Audio, Codec: media.AAC, Key: true, Exact: time.Hour + at, Body: []byte{7}})
		}
		f.push(media.Packet{Kind: media.Video, Codec: media.AVC, Key: true, Exact: time.Hour, Body: []byte{8}})
		if len(s.configs) != 1 || s.at[0] != 0 || len(s.frames) < 2 || s.frames[0].time != 0 {
			t.Fatalf("%v ahead: %v", c.ahead, s.frames)
		}
		picture := s.frames[len(s.frames)-1]
		if n := len(s.frames) - 1; picture.kind != media.Video || n < c.kept-1 || n > c.kept || picture.time > 100*time.Millisecond {
			t.Errorf("%v ahead: %d sounds, picture at %v", c.ahead, n, picture.time)
		}
		if a := f.r.Account(); a.Check() != nil || a.Held != 0 {
			t.Errorf("account %+v", a)
		}
	}
}

// Each frame of sound can be decoded alone, but a part with pictures begins with one of them.
func TestSoundBeginsNoPart(t *testing.T) {
	s := &sink{}
	f := newFeed(t, s)
	f.config("v", "a")
	f.join(media.Seam{})
	ps := f.packets(0, 0)
	f.push(ps[1:20]...) // joined in the middle of a group
	f.push(f.packets(time.Second, 1)...)
	if len(s.configs) != 1 || s.track(media.Video)[0].n != 1 || s.track(media.Video)[0].time > 100*time.Millisecond {
		t.Errorf("begins with %+v", s.frames[0])
	}
}

func TestOneTrack(t *testing.T) {
	for _, only := range []media.Kind{media.Video, media.Audio} {
		s := &sink{}
		f := newFeed(t, s)
		f.only = only
		if only == media.Video {
			f.config("v", "")
		} else {
			f.config("", "a")
		}
		f.second(media.Seam{})
		f.clock += time.Hour
		f.second(media.Seam{Discontinuity: true})
		f.second(media.Seam{})
		rising(t, s)
		if n := len(s.frames); n < 70 || s.frames[0].time != 0 || s.frames[n-1].time > 3*time.Second {
			t.Errorf("%v: %d frames from %v to %v", only, n, s.frames[0].time, s.frames[n-1].time)
		}
	}
}

// A rendition whose sound is away for a while leaves pictures alone; it comes back where its pictures are.
func TestSoundIsAway(t *testing.T) {
	s := &sink{}
	f := newFeed(t, s)
	f.config("v", "a")
	f.second(media.Seam{})
	f.only = media.Video
	for range 4 {
		f.second(media.Seam{})
	}
	f.only = 0
	f.second(media.Seam{})
	rising(t, s)
	lips(t, s)
	if len(s.gaps)+len(s.repairs) != 0 {
		t.Errorf("gaps %v, repairs %q", s.gaps, s.repairs)
	}
}

// After a restart the source goes on behind its place; what was written behind that comes again and is dropped, whatever
// the last note knew of it.
func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name   string
		noted  int  // frames of second 2 that the note knows of, of 72
		onDisk int  // that are in the file
		turned bool // the new process unwraps the clock to another turn
		lost   time.Duration
	}{
		{"all of it is known", 40, 40, false, 0},
		{"the file knows more", 10, 40, false, 0},
		{"the file ends at a picture", 0, 1, false, 0},
		{"the clock has turned", 10, 40, true, 0},
		{"the source went on", 10, 40, false, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &sink{}
			f := newFeed(t, s)
			f.clock = 100_000 * time.Second
			f.config("v", "a")
			f.second(media.Seam{Place: []byte("0")})
			f.second(media.Seam{Place: []byte("1")})
			f.join(media.Seam{Place: []byte("2")})
			ps := f.packets(f.clock, f.n)
			f.push(ps[:c.noted]...)
			note := f.r.State()
			if string(retime.Place(note)) != "1" || !retime.IsNumbered(note) {
				t.Fatalf("place %q", retime.Place(note))
			}
			f.push(ps[c.noted:c.onDisk]...)

			var tail []repair.TailTag
			for _, x := range s.frames {
				tail = append(tail, repair.TailTag{Kind: x.kind, Out: int64(x.time / time.Millisecond), Size: 3})
			}
			r := retime.Restore(s, same, note, tail)
			before := len(s.frames)
			f.r = r
			f.r.Connect(f.wall, "liverec was not running")
			if c.turned {
				f.clock -= (1 << 33) * time.Second / 90_000
			}
			f.config("v", "a")
			if c.lost > 0 {
				f.clock += c.lost
				f.second(media.Seam{Missing: c.lost, Why: "expired"})
			} else {
				f.second(media.Seam{Place: []byte("2")})
			}
			f.second(media.Seam{Place: []byte("3")})
			rising(t, s)
			lips(t, s)
			if len(s.configs) != 1 {
				t.Errorf("%d configurations: the part cannot go on", len(s.configs))
			}
			v := s.track(media.Video)
			want := 100
			if c.lost > 0 {
				if len(s.gaps) != 1 || s.gaps[0].Length < c.lost-time.Second || s.gaps[0].Length > c.lost+time.Second {
					t.Errorf("gaps %v", s.gaps)
				}
				want = len(tail)
			} else if len(v) != want || len(s.gaps) != 0 || len(s.repairs) != 1 {
				t.Errorf("%d pictures of %d, gaps %v, repairs %q", len(v), want, s.gaps, s.repairs)
			}
			if a := r.Account(); a.Written != int64(len(s.frames)) || a.Check() != nil {
				t.Errorf("written %d of %d (%d before): %v", a.Written, len(s.frames), before, a.Check())
			}
		})
	}
}

// A source that goes on behind its place and whose clock has gone back is no repetition.
func TestClockBackAfterConnect(t *testing.T) {
	s := &sink{}
	f := newFeed(t, s)
	f.config("v", "a")
	for i := range 5 {
		f.second(media.Seam{Place: []byte{byte(i)}})
	}
	f.r.Connect(f.wall, "source closed the connection")
	f.clock = 0
	f.second(media.Seam{Place: []byte("x")})
	f.second(media.Seam{Place: []byte("y")})
	rising(t, s)
	if v := s.track(media.Video); len(v) != 7*25 {
		t.Errorf("%d pictures", len(v))
	}
}

func TestGapAtTheEnd(t *testing.T) {
	s := &sink{}
	f := newFeed(t, s)
	f.config("v", "a")
	f.second(media.Seam{})
	f.join(media.Seam{Missing: 3 * time.Second, Why: "advertisement"})
	f.r.Disconnect(f.wall)
	if len(s.gaps) != 0 {
		t.Errorf("told before the end: %v", s.gaps)
	}
	f.r.End()
	f.r.End()
	if len(s.gaps) != 1 || s.gaps[0].Length != 3*time.Second {
		t.Errorf("gaps %v", s.gaps)
	}
}

// An error of the sink is final, and its frame is not counted as written.
func TestSinkFails(t *testing.T) {
	s := &sink{}
	f := newFeed(t, s)
	f.config("v", "a")
	f.second(media.Seam{})
	n := f.r.Account().Written
	s.fail = errors.New("disk full")
	b := &media.Batch{Packets: f.packets(f.clock, 1)}
	if err := f.r.Push(b); !errors.Is(err, s.fail) {
		t.Fatalf("error %v", err)
	}
	if err := f.r.Push(b); !errors.Is(err, s.fail) {
		t.Errorf("then %v", err)
	}
	if got := f.r.State().Account.Written; got != n {
		t.Errorf("%d written, want %d", got, n)
	}
}

// Whatever a source says, each track rises and every frame is accounted for.
func TestAnything(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		s := &sink{}
		f := newFeed(t, s)
		f.config("v", "a")
		for range 12 {
			switch rnd.IntN(8) {
			case 0:
				f.clock += time.Duration(rnd.Int64N(int64(20*time.Second))) - 10*time.Second
			case 1:
				f.r.Connect(f.wall, "source closed the connection")
			case 2:
				f.config([]string{"v", "w"}[rnd.IntN(2)], []string{"a", "b"}[rnd.IntN(2)])
			case 3:
				f.only = []media.Kind{0, media.Video, media.Audio}[rnd.IntN(3)]
			case 4:
				f.r = retime.Restore(s, same, f.r.State(), nil)
				f.r.Connect(f.wall, "liverec was not running")
			}
			seam := media.Seam{Place: []byte{f.n}, Discontinuity: rnd.IntN(4) == 0}
			if rnd.IntN(5) == 0 {
				seam.Missing, seam.Why = time.Duration(rnd.Int64N(int64(10*time.Second))), "expired"
			}
			f.second(seam)
		}
		f.r.Disconnect(f.wall)
		for _, k := range []media.Kind{media.Video, media.Audio} {
			fs := s.track(k)
			for i := 1; i < len(fs); i++ {
				if fs[i].time <= fs[i-1].time {
					t.Fatalf("seed %d: %v frame %d at %v follows %v", seed, k, i, fs[i].time, fs[i-1].time)
				}
			}
		}
		if a := f.r.Account(); a.Check() != nil || a.Written != int64(len(s.frames)) || a.Held != 0 {
			t.Fatalf("seed %d: %+v: %v", seed, a, a.Check())
		}
	}
}
