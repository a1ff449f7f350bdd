package recorder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

var errCrash = errors.New("the process is dead")

// killer lets a process die: from the given step on, nothing that it tries on the disk or in the ledger happens.
type killer struct {
	// power takes the power away, not only the process: what was not synced is lost.
	power bool

	mu     sync.Mutex
	at     int // 0: never
	step   int
	what   string
	dead   bool
	when   time.Time
	died   chan struct{}
	synced map[string][]byte // what is safe of a file
}

func newKiller(at int) *killer {
	return &killer{at: at, died: make(chan struct{}), synced: map[string][]byte{}}
}

func (k *killer) try(what string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return errCrash
	}
	k.step++
	if k.step == k.at {
		k.what, k.dead, k.when = what, true, time.Now()
		close(k.died)
		return errCrash
	}
	return nil
}

func (k *killer) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.dead {
		k.dead, k.when = true, time.Now()
		close(k.died)
	}
}

func (k *killer) hook(op durable.Op, name string) error { return k.try(string(op) + " " + name) }

// sync keeps what a file holds.
func (k *killer) sync(path, name string) error {
	b, err := os.ReadFile(filepath.Join(path, name))
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && !k.dead {
		k.synced[name] = b
	}
	return nil
}

// cut brings every open part back to what was synced.
func (k *killer) cut(t *testing.T, path string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, "media/*/*"+segment.PartSuffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, full := range names {
		name, _ := filepath.Rel(path, full)
		if err := os.WriteFile(full, k.synced[filepath.ToSlash(name)], 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// life runs a Recorder that dies at a step, or by itself if it never comes to it. It reports whether it died.
func (r *rig) life(k *killer) bool {
	r.t.Helper()
	armed := false
	r.open(func(op durable.Op, name string) error {
		if !armed {
			return nil
		}
		if err := k.hook(op, name); err != nil {
			return err
		}
		if k.power && op == durable.OpSync {
			return k.sync(r.path, name)
		}
		return nil
	})
	armed = true
	r.journal.Fail = func(_ context.Context, method string) error { return k.try(method) }
	r.start()
	died := false
	select {
	case <-k.died:
		died = true
		synctest.Wait()
		r.stop()
		<-r.done // what it still tries goes nowhere
	case err := <-r.done:
		if err != nil {
			r.t.Fatal(err)
		}
		r.stop()
		died = k.dead
	case <-time.After(5 * time.Minute): // nothing came any more
		r.halt()
	}
	if died && k.power {
		k.cut(r.t, r.path)
	}
	return died
}

// received are the pictures that the room handed out between two moments.
func (r *rig) received(from, until time.Time) map[uint64]bool {
	m := map[uint64]bool{}
	for _, c := range r.room.Connections() {
		for _, f := range c.Frames {
			if !f.At.Before(from) && !f.At.After(until) {
				m[f.Number] = true
			}
		}
	}
	return m
}

// keepSafe takes down what the ledger says to be durable of each part that is open.
func (r *rig) keepSafe(safe map[string][]byte) {
	r.t.Helper()
	for _, s := range r.journal.Sessions() {
		for _, g := range s.Segments() {
			if g.Sealed || g.Size <= g.Head {
				continue
			}
			b, err := os.ReadFile(filepath.Join(r.path, g.Path+segment.PartSuffix))
			if err != nil {
				if b, err = os.ReadFile(filepath.Join(r.path, g.Path)); err != nil {
					r.t.Fatal(err)
				}
			}
			if int64(len(b)) < g.Size {
				r.t.Errorf("%s: %d bytes are durable, %d are there", g.ID, g.Size, len(b))
				continue
			}
			safe[g.Path] = b[g.Head:g.Size]
		}
	}
}

// crashes runs one broadcast with deaths at the given steps, each followed by a new start after a pause, and checks
// what promise 4 says. It returns the last step that was counted in each life.
func crashes(t *testing.T, kind recorder.Container, power bool, pause time.Duration, at ...int) (steps []int) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{Duration: 13 * time.Second})
		r.cfg.Segment, r.cfg.Once, r.cfg.Grace, r.cfg.Container = 5*time.Second, true, 20*time.Second, kind
		if kind == recorder.ContainerFLV {
			r.cfg.Container = recorder.ContainerAuto // what it is for this room
		}
		r.room.Start(t.Context())
		owed := map[uint64]bool{}
		safe := map[string][]byte{} // what was durable at a death, from the head on
		var deaths []string
		for _, a := range append(at, 0) {
			k, born := newKiller(a), time.Now()
			k.power = power
			died := r.life(k)
			steps = append(steps, k.step)
			if !died {
				break
			}
			deaths = append(deaths, k.what+k.when.Format(" at 05.000"))
			r.keepSafe(safe)
			before := time.Second
			if power {
				before *= 2 // a sync that was on its way
			}
			for n := range r.received(born, k.when.Add(-before)) {
				owed[n] = true
			}
			time.Sleep(pause)
		}
		if len(deaths) == 0 {
			owed = r.received(time.Time{}, time.Now())
		}
		what := fmt.Sprintf("death at steps %v (%q)", at, deaths)
		ss := r.journal.Sessions()
		if len(ss) == 0 {
			return // it died before the first frame, and the broadcast was over when it came back
		}
		var numbers []uint64
		for _, s := range ss {
			numbers = append(numbers, r.check(s, probe.Config)...) // a part may have one picture and no sound yet
			if !s.Left {
				t.Errorf("%s: session %s has not ended", what, s.ID)
			}
			if err := s.Account.Check(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := total(s.Segments()); s.Account.Written != got {
				t.Errorf("%s: %d frames written, %d in the parts", what, s.Account.Written, got)
			}
		}
		once(t, numbers)
		for _, name := range ss[0].Begun {
			if filepath.Ext(name) != "."+string(kind) {
				t.Errorf("%s: %s was begun", what, name)
			}
		}
		for name, was := range safe {
			if b, err := os.ReadFile(filepath.Join(r.path, name)); err != nil || !bytes.Contains(b, was) {
				t.Errorf("%s: %d bytes of %s that were durable are not there any more: %v", what, len(was), name, err)
			}
		}
		for n := range owed {
			if !slices.Contains(numbers, n) {
				t.Errorf("%s: picture %d was received more than a second before, and is not there", what, n)
				break
			}
		}
		r.noOrphans()
		missing, told := holes(ss[0], numbers)
		if d := missing - told; d.Abs() > 150*time.Millisecond {
			t.Errorf("%s: %v are missing, %v are said to be", what, missing, told)
		}
		if len(ss) > 1 {
			t.Errorf("%s: %d sessions", what, len(ss))
		}
		for _, g := range ss[0].Segments() {
			if g.Cut == segment.CutNone {
				t.Errorf("%s: %s has no cause", what, g.ID)
			}
			if g.Duration > r.cfg.Segment+time.Second { // nothing is known of the groups of a part that was just begun
				t.Errorf("%s: %s lasts %v", what, g.ID, g.Duration)
			}
		}
		if t.Failed() {
			t.Logf("%s: gaps %v, parts %v", what, ss[0].Gaps, ss[0].Segments())
		}
	})
	return steps
}

// from is the first step of a walk that leaves some out: in time, each has its turn.
func from(stride int) int { return 1 + int(time.Now().UnixNano()%int64(stride)) }

// A death at every single step: K1, K2, K3, K4 and all that lies between.
func TestI3_DeathAtEveryStep(t *testing.T) {
	for _, kind := range []recorder.Container{recorder.ContainerFLV, recorder.ContainerMP4, recorder.ContainerTS} {
		t.Run(string(kind), func(t *testing.T) {
			all := crashes(t, kind, false, time.Second)[0]
			if all < 40 {
				t.Fatalf("only %d steps", all)
			}
			stride := map[recorder.Container]int{recorder.ContainerFLV: 1, recorder.ContainerMP4: 2, recorder.ContainerTS: 5}[kind]
			if testing.Short() || raceDetector {
				stride *= 9
			}
			for k := from(stride); k <= all; k += stride {
				crashes(t, kind, false, time.Second, k)
				if t.Failed() {
					t.Fatalf("at step %d", k)
				}
			}
			t.Logf("%d steps", all)
		})
	}
}

// The power goes at any step: what was not synced is lost as well, and what is missing is told.
func TestI3_PowerCuts(t *testing.T) {
	for _, kind := range []recorder.Container{recorder.ContainerFLV, recorder.ContainerMP4, recorder.ContainerTS} {
		t.Run(string(kind), func(t *testing.T) {
			all := crashes(t, kind, true, time.Second)[0]
			stride := 7 // each costs a second
			if testing.Short() || raceDetector {
				stride = 19
			}
			for k := from(stride); k <= all; k += stride {
				crashes(t, kind, true, time.Second, k)
				if t.Failed() {
					t.Fatalf("at step %d", k)
				}
			}
		})
	}
}

// Two deaths: the second one while the first one is being recovered from, or soon after.
func TestI3_DeathAtPairsOfSteps(t *testing.T) {
	for _, kind := range []recorder.Container{recorder.ContainerFLV, recorder.ContainerMP4, recorder.ContainerTS} {
		t.Run(string(kind), func(t *testing.T) {
			all := crashes(t, kind, false, time.Second)[0]
			seed := uint64(time.Now().UnixNano())
			rnd := rand.New(rand.NewPCG(seed, 1))
			n := 25
			if testing.Short() || raceDetector {
				n = 8
			}
			for range n {
				a, b := 3+rnd.IntN(all-3), 1+rnd.IntN(30)
				crashes(t, kind, false, time.Second, a, b)
				if t.Failed() {
					t.Fatalf("at steps %d and %d, seed %d", a, b, seed)
				}
			}
		})
	}
}

// A process dies before the first note of a part is in the ledger. What the next one knows of that part comes from the
// file, and it goes on in it as in any other: with frames that it knows, and with parts of the same kind.
func TestI3_DeathBeforeTheNoteOfAPart(t *testing.T) {
	for _, kind := range []recorder.Container{recorder.ContainerAuto, recorder.ContainerMP4, recorder.ContainerTS} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{Duration: 20 * time.Second})
				r.cfg.Segment, r.cfg.Once, r.cfg.Grace, r.cfg.Container = 5*time.Second, true, 20*time.Second, kind
				r.room.Start(t.Context())
				k := newKiller(0)
				r.open(k.hook)
				begun := 0
				r.journal.Fail = func(_ context.Context, method string) error {
					switch {
					case method == "Begin":
						begun++
					case method == "Extend" && begun > 1:
						return errors.New("the ledger is busy")
					}
					return k.try(method)
				}
				r.start()
				time.Sleep(7 * time.Second)
				k.kill()
				synctest.Wait()
				r.stop()
				<-r.done // what it still tries goes nowhere
				r.open(nil)
				r.journal.Fail = nil
				r.start()
				r.wait()
				s := r.session()
				numbers := r.check(s)
				once(t, numbers)
				if missing, told := holes(s, numbers); missing < 3*time.Second || (missing-told).Abs() > 100*time.Millisecond {
					t.Errorf("%v are missing, %v are said to be: parts %v, gaps %v", missing, told, s.Segments(), s.Gaps)
				}
				if err := s.Account.Check(); err != nil || s.Account.Written != total(s.Segments()) {
					t.Errorf("account %+v: %v", s.Account, err)
				}
				for _, name := range s.Begun {
					if filepath.Ext(name) != filepath.Ext(s.Begun[0]) {
						t.Errorf("%s was begun after %s", name, s.Begun[0])
					}
				}
			})
		})
	}
}

// onAir is a room that sends made-up pictures by the wall clock, so that whoever comes back sees where it is now.
type onAir struct {
	script script
	begin  time.Time
	visits int
}

func (o *onAir) Every() time.Duration { return time.Second }
func (o *onAir) Resolve(context.Context, segment.Room) (recorder.Live, error) {
	s := o.script
	s.from = int(time.Since(o.begin) / (40 * time.Millisecond))
	if s.from >= s.frames-10 {
		return recorder.Live{Presence: recorder.Offline, Confirmed: true, Why: "over"}, nil
	}
	s.frames -= s.from
	s.turns = nil
	for i, n := range o.script.turns { // who comes late sees the codec that is on
		switch {
		case n >= s.from:
			s.turns = append(s.turns, n)
		case i%2 == 0 && (i+1 == len(o.script.turns) || o.script.turns[i+1] > s.from):
			s.turns = append(s.turns, s.from)
		}
	}
	o.visits++
	return recorder.Live{Presence: recorder.OnAir, Source: &s}, nil
}

// changing runs a broadcast whose codec, and with it the container, changes twice, with deaths at the given steps.
func changing(t *testing.T, at ...int) (steps []int) {
	video, audio := headers(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		r.cfg.Segment, r.cfg.Once, r.cfg.Grace = 6*time.Second, true, 20*time.Second
		air := &onAir{begin: time.Now(), script: script{video: video, audio: audio, gops: []int{25}, frames: 25 * 20, size: 400, pace: true, turns: []int{25 * 3, 25 * 8}}}
		r.deps.Resolver = air
		var deaths []string
		for _, a := range append(at, 0) {
			k := newKiller(a)
			died := r.life(k)
			steps = append(steps, k.step)
			if !died {
				break
			}
			deaths = append(deaths, k.what+k.when.Format(" at 05.000"))
			time.Sleep(time.Second)
		}
		what := fmt.Sprintf("death at steps %v (%q)", at, deaths)
		ss := r.journal.Sessions()
		if len(ss) != 1 {
			t.Fatalf("%s: %d sessions", what, len(ss))
		}
		s := ss[0]
		r.check(s, probe.Config, probe.Skew)
		r.noOrphans()
		if err := s.Account.Check(); err != nil || !s.Left || s.Account.Written != total(s.Segments()) {
			t.Errorf("%s: %d frames in the parts, account %+v: %v", what, total(s.Segments()), s.Account, err)
		}
		seen := map[probe.Digest]bool{}
		media, told := time.Duration(0), time.Duration(0)
		for _, g := range s.Segments() {
			rep, err := probe.File(filepath.Join(r.path, g.Path))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range rep.Digests {
				if seen[d] {
					t.Errorf("%s: a picture of %s was there before", what, g.ID)
				}
				seen[d] = true
			}
			media += g.Duration
			if g.Cut == segment.CutNone {
				t.Errorf("%s: %s has no cause", what, g.ID)
			}
		}
		for _, g := range s.Gaps {
			told += g.Length
		}
		if len(s.Segments()) == 0 {
			t.Fatalf("%s: no part", what)
		}
		span := air.begin.Add(20 * time.Second).Sub(s.Segments()[0].Start)
		over := air.visits <= len(deaths) // before anybody came back
		if d := span - media - told; !over && d.Abs() > 300*time.Millisecond {
			t.Errorf("%s: %v of media and %v of gaps", what, media, told)
		}
		if t.Failed() {
			t.Logf("%s: gaps %v, parts %v", what, s.Gaps, s.Segments())
		}
	})
	return steps
}

// A death at every step of a broadcast that is written as FLV, as MP4 and as FLV again.
func TestI3_DeathWhileTheContainerChanges(t *testing.T) {
	all := changing(t)[0]
	if all < 40 {
		t.Fatalf("only %d steps", all)
	}
	stride := 3
	if testing.Short() || raceDetector {
		stride = 19
	}
	for k := from(stride); k <= all; k += stride {
		changing(t, k)
		if t.Failed() {
			t.Fatalf("at step %d", k)
		}
	}
	t.Logf("%d steps", all)
}

// numbered is a room that numbers its media: segments of 2 s, each there for good as soon as it is over.
type numbered struct {
	packets
	begin    time.Time
	segments int
}

func (n *numbered) Every() time.Duration { return time.Second }
func (n *numbered) Resolve(context.Context, segment.Room) (recorder.Live, error) {
	if time.Since(n.begin) > time.Duration(n.segments)*2*time.Second+14*time.Second {
		return recorder.Live{Presence: recorder.Offline, Confirmed: true, Why: "over"}, nil
	}
	return recorder.Live{Presence: recorder.OnAir, Source: &numberedSource{room: n}}, nil
}

// numberedSource is one connection to it.
type numberedSource struct {
	room *numbered
	next int
}

func (s *numberedSource) Host() string { return "numbered" }
func (s *numberedSource) Close() error { return nil }
func (s *numberedSource) Resume(place []byte) {
	if place != nil {
		n, _ := strconv.Atoi(string(place))
		s.next = n + 1
	}
}

func (s *numberedSource) Run(ctx context.Context, out chan<- *media.Batch) error {
	first := true
	for ; s.next < s.room.segments; s.next++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(s.room.begin.Add(time.Duration(s.next+1) * 2 * time.Second))):
		}
		for from := s.next * 50; from < s.next*50+50; from += 10 {
			b := s.room.batch(from, from+10, 0)
			if from == s.next*50 {
				head := []media.Packet{{Kind: media.Join, Seam: &media.Seam{Place: []byte(strconv.Itoa(s.next))}}}
				if first {
					head = append(head, s.room.configs()...)
				}
				b.Packets, first = append(head, b.Packets...), false
			}
			out <- b
		}
	}
	return io.EOF
}

// A source that numbers its media has everything still, so a death at any step costs nothing at all: no picture is
// missing, none is there twice.
func TestI3_DeathOfNumberedMedia(t *testing.T) {
	video, audio := headers(t)
	run := func(t *testing.T, kind recorder.Container, power bool, at ...int) (steps []int) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, liveroom.Config{})
			r.cfg.Segment, r.cfg.Once, r.cfg.Grace, r.cfg.Container = 4*time.Second, true, 15*time.Second, kind
			room := &numbered{begin: time.Now(), segments: 6, packets: packets{codec: [2]media.Codec{media.AVC, media.AAC}, config: [2][]byte{video[5:], audio[2:]}}}
			r.deps.Resolver = room
			var deaths []string
			for _, a := range append(at, 0) {
				k := newKiller(a)
				k.power = power
				died := r.life(k)
				steps = append(steps, k.step)
				if !died {
					break
				}
				deaths = append(deaths, k.what+k.when.Format(" at 05.000"))
				time.Sleep(time.Second)
			}
			what := fmt.Sprintf("death at steps %v (%q)", at, deaths)
			if n := len(r.journal.Sessions()); n != 1 {
				t.Fatalf("%s: %d sessions", what, n)
			}
			s := r.session()
			r.check(s, probe.Config, probe.Skew)
			r.noOrphans()
			seen := map[probe.Digest]bool{}
			for _, g := range s.Segments() {
				rep, err := probe.File(filepath.Join(r.path, g.Path))
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range rep.Digests {
					if seen[d] {
						t.Errorf("%s: a picture of %s was there before", what, g.ID)
					}
					seen[d] = true
				}
			}
			if want := room.segments * 50; len(seen) != want {
				t.Errorf("%s: %d of %d pictures", what, len(seen), want)
			}
			if err := s.Account.Check(); err != nil || !s.Left || s.Account.Written != total(s.Segments()) {
				t.Errorf("%s: %d frames in the parts, account %+v: %v", what, total(s.Segments()), s.Account, err)
			}
			for _, g := range s.Gaps {
				if g.Why != "lost before it was safe on the disk" { // it was told before the source had it again
					t.Errorf("%s: gap %+v", what, g)
				}
			}
			if t.Failed() {
				t.Logf("%s: gaps %v, parts %v", what, s.Gaps, s.Segments())
			}
		})
		return steps
	}
	for _, kind := range []recorder.Container{recorder.ContainerMP4, recorder.ContainerTS, recorder.ContainerFLV} {
		for _, power := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s power %v", kind, power), func(t *testing.T) {
				all := run(t, kind, power)[0]
				stride := 7
				if testing.Short() || raceDetector {
					stride = 29
				}
				for k := from(stride); k <= all; k += stride {
					run(t, kind, power, k)
					if t.Failed() {
						t.Fatalf("at step %d", k)
					}
				}
				t.Logf("%d steps", all)
			})
		}
	}
}
