package recorder_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/recordertest"
	"github.com/liverec/liverec/recorder/site/direct"
)

// rig is one recorder with a live room in front of it and a ledger and a folder behind it.
type rig struct {
	t       *testing.T
	room    *liveroom.Room
	server  *liveroom.Server
	pipes   *pipes
	path    string
	dir     *durable.Dir
	journal *recordertest.Journal
	ring    chan segment.Progress
	cfg     recorder.Config
	deps    recorder.Deps
	reports []recorder.Report

	rec  *recorder.Recorder
	stop context.CancelFunc
	done chan error
}

// inEach runs a test once for each container.
func inEach(t *testing.T, f func(t *testing.T, kind recorder.Container)) {
	for _, kind := range []recorder.Container{recorder.ContainerFLV, recorder.ContainerMP4, recorder.ContainerTS} {
		t.Run(string(kind), func(t *testing.T) { f(t, kind) })
	}
}

// newRig makes a rig inside a bubble. Nothing runs.
func newRig(t *testing.T, live liveroom.Config) *rig {
	t.Helper()
	room, err := liveroom.New(live)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, room: room, pipes: newPipes(), path: t.TempDir(), journal: &recordertest.Journal{}, ring: make(chan segment.Progress, 4096)}
	r.server = room.Serve(r.pipes)
	t.Cleanup(func() { r.server.Close() })
	r.open(nil)
	where, err := direct.Check(r.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	res, err := direct.New(direct.Config{URL: r.server.URL, Dial: r.pipes.dial})
	if err != nil {
		t.Fatal(err)
	}
	r.cfg = recorder.Config{Room: where, Segment: 10 * time.Second}
	log := zerolog.Nop()
	if testing.Verbose() {
		log = zerolog.New(zerolog.NewTestWriter(t)).With().Timestamp().Logger()
	}
	r.deps = recorder.Deps{Resolver: res, Journal: r.journal, Progress: r.ring, Log: log,
		Ended: func(rep recorder.Report) { r.reports = append(r.reports, rep) }}
	return r
}

// open opens the data folder, with faults.
func (r *rig) open(hook durable.Hook) {
	r.t.Helper()
	d, err := durable.Open(r.path, hook)
	if err != nil {
		r.t.Fatal(err)
	}
	r.dir = d
	r.t.Cleanup(func() { d.Close() })
}

// start runs a new Recorder.
func (r *rig) start() {
	r.t.Helper()
	r.deps.Dir = r.dir
	rec, err := recorder.New(r.cfg, r.deps)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	r.rec, r.stop, r.done = rec, cancel, make(chan error, 1)
	done := r.done
	go func() { done <- rec.Run(ctx) }()
}

// halt stops the Recorder as a signal does, and says how long that took.
func (r *rig) halt() time.Duration {
	r.t.Helper()
	begin := time.Now()
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Fatalf("run: %v", err)
	}
	return time.Since(begin)
}

// wait waits for Run to return by itself.
func (r *rig) wait() {
	r.t.Helper()
	if err := <-r.done; err != nil {
		r.t.Fatalf("run: %v", err)
	}
	r.stop()
}

// session is the only session.
func (r *rig) session() recordertest.Session {
	r.t.Helper()
	ss := r.journal.Sessions()
	if len(ss) != 1 {
		r.t.Fatalf("%d sessions", len(ss))
	}
	return ss[0]
}

// check reads every sealed part with the independent reader and holds it against the ledger. It returns the picture
// numbers in order.
func (r *rig) check(s recordertest.Session, known ...probe.Code) []uint64 {
	r.t.Helper()
	var numbers []uint64
	for _, seg := range s.Segments() {
		if !seg.Sealed {
			r.t.Errorf("%s is not sealed", seg.ID)
			continue
		}
		name := filepath.Join(r.path, filepath.FromSlash(seg.Path))
		rep, err := probe.File(name)
		if err != nil {
			r.t.Fatal(err)
		}
		if err := rep.Check(known...); err != nil {
			r.t.Errorf("%s: %v", seg.ID, err)
		}
		v, _ := rep.Track(probe.Video)
		a, _ := rep.Track(probe.Audio)
		if int64(v.Frames) != seg.VideoFrames || int64(a.Frames) != seg.AudioFrames {
			r.t.Errorf("%s: the ledger has %d+%d frames, the file %d+%d", seg.ID, seg.VideoFrames, seg.AudioFrames, v.Frames, a.Frames)
		}
		if d := rep.Media() - seg.Duration; d.Abs() > 5*time.Millisecond && v.Frames > 1 { // how long a single frame lasts, only the SPS says
			r.t.Errorf("%s: the ledger has %v, the file %v", seg.ID, seg.Duration, rep.Media())
		}
		if rep.Size != seg.Size {
			r.t.Errorf("%s: the ledger has %d bytes, the file %d", seg.ID, seg.Size, rep.Size)
		}
		if sum := sha(r.t, name); sum != seg.SHA256 {
			r.t.Errorf("%s: the ledger has another SHA-256 than the file", seg.ID)
		}
		got := rep.Content
		switch filepath.Ext(name) {
		case ".flv":
			got = content(r.t, name)
		case ".mp4":
			if rep.Layout != "hybrid" {
				r.t.Errorf("%s: a closed part is laid out as %s", seg.ID, rep.Layout)
			}
		}
		if got != seg.Content {
			r.t.Errorf("%s: the ledger has content %x, the file %x", seg.ID, seg.Content, got)
		}
		numbers = append(numbers, rep.Numbers...)
	}
	return numbers
}

// files lists what lies below the data folder.
func (r *rig) files() []string {
	r.t.Helper()
	names, err := r.dir.List("media")
	if err != nil {
		r.t.Fatal(err)
	}
	return names
}

// noOrphans fails for a file that the ledger does not know.
func (r *rig) noOrphans() {
	r.t.Helper()
	var known []string
	for _, s := range r.journal.Sessions() {
		for _, p := range s.Segments() {
			known = append(known, p.Path, p.Path+segment.PartSuffix)
		}
	}
	for _, f := range r.files() {
		if !slices.Contains(known, f) {
			r.t.Errorf("%s is an orphan", f)
		}
	}
}

// sent are the pictures that the room handed out on all connections, in order, each once.
func (r *rig) sent() []uint64 {
	seen := map[uint64]bool{}
	var out []uint64
	for _, c := range r.room.Connections() {
		for _, f := range c.Frames {
			if !seen[f.Number] {
				seen[f.Number] = true
				out = append(out, f.Number)
			}
		}
	}
	slices.Sort(out)
	return out
}

// once fails if a picture stands twice or not in order.
func once(t *testing.T, numbers []uint64) {
	t.Helper()
	for i := 1; i < len(numbers); i++ {
		if numbers[i] <= numbers[i-1] {
			t.Fatalf("picture %d follows %d", numbers[i], numbers[i-1])
		}
	}
}

// unbroken fails if the numbers are not first … first+len-1.
func unbroken(t *testing.T, numbers []uint64) {
	t.Helper()
	once(t, numbers)
	if n := len(numbers); n > 0 && numbers[n-1]-numbers[0] != uint64(n-1) {
		t.Fatalf("%d pictures of %v", n, probe.Ranges(numbers))
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// holes compares what is missing between the first and the last picture with what is said to be. A gap behind the last
// picture may be true, but nothing came after it to measure it by.
func holes(s recordertest.Session, numbers []uint64) (missing, told time.Duration) {
	if n := len(numbers); n > 0 {
		missing = time.Duration(numbers[n-1]-numbers[0]+1-uint64(n)) * time.Second / 30
	}
	segs := s.Segments()
	for _, g := range s.Gaps {
		if last := segs[len(segs)-1]; g.AfterSeq == last.ID.Seq && g.AtMedia >= last.Duration {
			continue
		}
		told += g.Length
	}
	return missing, told
}
