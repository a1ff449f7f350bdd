package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pipeline/pipelinetest"
	"github.com/liverec/liverec/pipeline/reclaim"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/segment"
)

const archive segment.TargetID = "file:/archive"

// house is a pipeline on an in-memory ledger and store, with a simple capture and transport.
type house struct {
	t      *testing.T
	ledger *pipelinetest.Ledger
	store  *pipelinetest.Store
	dir    *durable.Dir
	remove error // what the removal of media meets

	captures  []pipeline.CaptureFunc
	transport pipeline.Transport
	cfg       pipeline.Config

	mu  sync.Mutex
	log []string
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, ledger: pipelinetest.NewLedger(0, segment.Destination{ID: archive, Required: true}), store: pipelinetest.NewStore(archive)}
	h.cfg = pipeline.Config{Once: true, Targets: []segment.TargetID{archive}}
	var err error
	h.dir, err = durable.Open(t.TempDir(), func(op durable.Op, name string) error {
		if op == durable.OpRemove && strings.HasSuffix(name, ".flv") {
			return h.remove
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.transport = &carrier{h: h}
	return h
}

func (h *house) say(format string, a ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf(format, a...))
}

func (h *house) said() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.log, ", ")
}

func (h *house) build() *pipeline.Pipeline {
	h.t.Helper()
	c, err := control.New(control.Config{}, control.Deps{Journal: h.ledger, Publishers: []control.Publisher{control.NewStorePublisher(h.store)}, Log: zerolog.Nop()})
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := reclaim.New(reclaim.Config{}, reclaim.Deps{Journal: h.ledger, Dir: h.dir, Log: zerolog.Nop()})
	if err != nil {
		h.t.Fatal(err)
	}
	p, err := pipeline.New(h.cfg, pipeline.Stages{Captures: h.captures, Transport: h.transport, Control: c, Reclaim: r, Ledger: h.ledger}, zerolog.Nop())
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// run runs it and gives back how long it took.
func (h *house) run(ctx, hard context.Context) (pipeline.Result, error, time.Duration) {
	h.t.Helper()
	start := time.Now()
	r, err := h.build().Run(ctx, hard)
	return r, err, time.Since(start)
}

// camera records parts of 10 bytes, one in 10 s, and ends the broadcast after the last one. Stopped before, it seals
// what is open and leaves the broadcast unended.
type camera struct {
	h     *house
	out   chan<- segment.Progress
	room  segment.RoomID
	parts int
	gap   bool
}

func (h *house) camera(room segment.RoomID, parts int) pipeline.CaptureFunc {
	return func(out chan<- segment.Progress) (pipeline.Capture, error) {
		return &camera{h: h, out: out, room: room, parts: parts, gap: true}, nil
	}
}

func (c *camera) String() string { return "camera " + string(c.room) }

func (c *camera) Run(ctx context.Context) error {
	defer c.h.say("camera ends")
	late := context.WithoutCancel(ctx)
	e, err := c.h.ledger.Enter(late, segment.Room{ID: c.room}, segment.Session{}, time.Now(), time.Minute)
	if err != nil {
		return err
	}
	for i := 0; i < c.parts && ctx.Err() == nil; i++ {
		id := segment.ID{Session: e.Session.ID, Seq: e.NextSeq + uint32(i)}
		s := segment.Segment{ID: id, Room: c.room, Path: fmt.Sprintf("media/%s/%s.flv", id.Session, id.Base()), Start: time.Now()}
		if err := c.h.ledger.Begin(late, s); err != nil {
			return err
		}
		cut := segment.CutTime
		select {
		case <-time.After(10 * time.Second):
		case <-ctx.Done():
			cut = segment.CutStop
		}
		f, err := c.h.dir.Create(s.Path)
		if err != nil {
			return err
		}
		if _, err := f.Write(make([]byte, 10)); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		s.Size, s.SHA256, s.Cut, s.Duration = 10, segment.Sum{1}, cut, time.Since(s.Start)
		if err := c.h.ledger.Seal(late, s); err != nil {
			return err
		}
		select {
		case c.out <- segment.Progress{ID: id, Durable: 10, Sealed: true}:
		default:
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	if c.gap {
		if err := c.h.ledger.Miss(late, segment.Gap{Session: e.Session.ID, Length: time.Second, Why: "test"}); err != nil {
			return err
		}
	}
	return c.h.ledger.Leave(late, e.Session.ID, time.Now(), segment.Account{})
}

// carrier proves every sealed part, or parks it, or meets a dead target.
type carrier struct {
	h    *house
	park bool
	dead func() bool
}

func (c *carrier) Run(ctx context.Context, in <-chan segment.Progress, out chan<- segment.Outcome) error {
	defer c.h.say("transport ends")
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for open := true; open; {
		if err := c.carry(ctx, out); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case _, open = <-in:
		case <-tick.C:
		}
	}
	c.h.say("progress closed")
	return c.carry(ctx, out)
}

func (c *carrier) carry(ctx context.Context, out chan<- segment.Outcome) error {
	due, err := c.h.ledger.Due(ctx, archive)
	if err != nil {
		return err
	}
	for _, d := range due {
		id := d.Segment.ID
		if !d.Segment.Sealed || d.State == segment.Parked {
			continue
		}
		if c.dead != nil && c.dead() {
			return nil
		}
		o := segment.Outcome{Target: archive, ID: id}
		steps := []func() error{
			func() error { return c.h.ledger.Opening(ctx, archive, id, 0) },
			func() error { return c.h.ledger.Opened(ctx, archive, id, "t") },
			func() error { return c.h.ledger.Committing(ctx, archive, id) },
			func() error { return c.h.ledger.Committed(ctx, archive, id, segment.Receipt{}) },
			func() error {
				return c.h.ledger.Verified(ctx, archive, id, segment.Proof{Size: 10, At: time.Now()})
			},
		}
		if c.park {
			o.Err = errors.New("cookie is dead")
			steps = []func() error{func() error { return c.h.ledger.Parked(ctx, archive, id, "cookie is dead") }}
		}
		for _, s := range steps {
			if err := s(); err != nil {
				return err
			}
		}
		select {
		case out <- o:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (h *house) media() []string {
	h.t.Helper()
	names, err := h.dir.List("media")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	return names
}

func (h *house) manifests() []manifest.Manifest {
	h.t.Helper()
	last := map[string][]byte{}
	for _, p := range h.store.Puts() {
		last[p.Key] = p.Data
	}
	var out []manifest.Manifest
	for _, data := range last {
		m, err := manifest.Parse(data)
		if err != nil {
			h.t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func TestOnceEndsWhenEverythingIsProvenAndFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.captures = []pipeline.CaptureFunc{h.camera("a", 3), h.camera("b", 2)}
		r, err, took := h.run(t.Context(), t.Context())
		if err != nil || !r.Safe() || r.Stopped || r.Gaps != 2 {
			t.Errorf("%+v, %v", r, err)
		}
		if took > 32*time.Second {
			t.Errorf("took %v", took)
		}
		if m := h.media(); len(m) != 0 {
			t.Errorf("left on the disk: %v", m)
		}
		ms := h.manifests()
		if len(ms) != 2 || len(ms[0].Parts)+len(ms[1].Parts) != 5 || ms[0].Ended == nil || ms[1].Ended == nil {
			t.Errorf("manifests %+v", ms)
		}
	})
}

func TestOnceWithoutCapturesIsResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		// An earlier run recorded and was stopped; then the target was dead.
		h.captures = []pipeline.CaptureFunc{h.camera("a", 2)}
		h.transport = &carrier{h: h, dead: func() bool { return true }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err, _ := h.run(ctx, t.Context())
		if err != nil || !r.Stopped || r.UnsafeParts != 2 || r.Unsafe != 20 || r.Safe() {
			t.Fatalf("%+v, %v", r, err)
		}
		h.captures, h.transport = nil, &carrier{h: h}
		r, err, took := h.run(t.Context(), t.Context())
		if err != nil || !r.Safe() || r.Stopped || len(h.media()) != 0 {
			t.Errorf("%+v, %v; on the disk: %v", r, err, h.media())
		}
		if took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestOnceEndsWhenOnlyAPersonCanHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.captures = []pipeline.CaptureFunc{h.camera("a", 2)}
		h.transport = &carrier{h: h, park: true}
		r, err, took := h.run(t.Context(), t.Context())
		if err != nil || r.Safe() || r.Stopped || len(r.Parked) != 2 || r.Parked[0].Why != "cookie is dead" || r.UnsafeParts != 2 {
			t.Errorf("%+v, %v", r, err)
		}
		if took > 25*time.Second {
			t.Errorf("took %v", took)
		}
		if len(h.media()) != 2 {
			t.Errorf("on the disk: %v", h.media())
		}
	})
}

func TestOnceKeepsTryingADeadTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.captures = []pipeline.CaptureFunc{h.camera("a", 2)}
		back := time.Now().Add(5 * time.Hour)
		h.transport = &carrier{h: h, dead: func() bool { return time.Now().Before(back) }}
		r, err, took := h.run(t.Context(), t.Context())
		if err != nil || !r.Safe() || r.Stopped {
			t.Errorf("%+v, %v", r, err)
		}
		if took < 5*time.Hour || took > 5*time.Hour+2*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

func TestOnceDoesNotWaitForATargetOfAnotherRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.ledger.Aim(segment.Destination{ID: "s3://elsewhere", Required: true})
		h.captures = []pipeline.CaptureFunc{h.camera("old", 1)}
		if r, err, _ := h.run(t.Context(), t.Context()); err != nil || r.UnsafeParts != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		h.ledger.Aim(segment.Destination{ID: archive, Required: true})
		h.captures = []pipeline.CaptureFunc{h.camera("new", 1)}
		h.cfg.Rooms = []segment.RoomID{"new"}
		r, err, took := h.run(t.Context(), t.Context())
		if err != nil || !r.Safe() || took > 15*time.Second {
			t.Errorf("%+v, %v after %v", r, err, took)
		}
		if m := h.media(); len(m) != 1 {
			t.Errorf("on the disk: %v", m)
		}
	})
}

func TestOnceEndsAlthoughTheDiskCannotBeFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.remove = errors.New("EIO")
		h.captures = []pipeline.CaptureFunc{h.camera("a", 1)}
		r, err, took := h.run(t.Context(), t.Context())
		if err != nil || !r.Safe() || took < time.Minute || took > 3*time.Minute {
			t.Errorf("%+v, %v after %v", r, err, took)
		}
	})
}

func TestStopIsAWaveAlongTheData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.cfg.Once = false
		h.captures = []pipeline.CaptureFunc{h.camera("a", 100), h.camera("b", 100)}
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		r, err, took := h.run(ctx, t.Context())
		if err != nil || !r.Stopped || !r.Safe() || len(r.Abandoned) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
		if took > 26*time.Second {
			t.Errorf("took %v", took)
		}
		if got := h.said(); got != "camera ends, camera ends, progress closed, transport ends" {
			t.Errorf("order: %s", got)
		}
		for _, m := range h.manifests() {
			if len(m.Parts) != 3 || m.Parts[2].Cut != "stop" || m.Ended != nil {
				t.Errorf("manifest with %d parts, ended %v", len(m.Parts), m.Ended)
			}
		}
	})
}

// deaf is a stage that hears no context until it is let go.
type deaf struct {
	name string
	let  chan struct{}
}

func (d deaf) Run(context.Context) error { <-d.let; return nil }
func (d deaf) String() string            { return d.name }

type deafTransport struct {
	let  chan struct{}
	soft bool // hears the hard context
}

func (d deafTransport) Run(ctx context.Context, in <-chan segment.Progress, _ chan<- segment.Outcome) error {
	if d.soft {
		<-ctx.Done()
		return nil
	}
	<-d.let
	return nil
}

func TestStopDeadlines(t *testing.T) {
	for _, tt := range []struct {
		name      string
		capture   bool // deaf
		transport bool // deaf
		second    time.Duration
		at        time.Duration // it is over so long after the first signal
		abandoned string
	}{
		{"uploads hang until the grace is over", false, false, 0, 20 * time.Second, "[]"},
		{"a second signal", false, false, 3 * time.Second, 3 * time.Second, "[]"},
		{"a capture on a dead disk", true, false, 0, 27 * time.Second, "[deaf]"},
		{"a second signal with everything deaf", true, true, 3 * time.Second, 5 * time.Second, "[deaf transport]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				let := make(chan struct{})
				h := newHouse(t)
				h.transport = deafTransport{let, !tt.transport}
				if tt.capture {
					h.captures = []pipeline.CaptureFunc{func(chan<- segment.Progress) (pipeline.Capture, error) { return deaf{"deaf", let}, nil }}
				}
				h.cfg.Once = false
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				hard := t.Context()
				if tt.second > 0 {
					var c context.CancelFunc
					hard, c = context.WithTimeout(t.Context(), time.Minute+tt.second)
					defer c()
				}
				r, err, took := h.run(ctx, hard)
				if got := took - time.Minute; got < tt.at || got > tt.at+100*time.Millisecond {
					t.Errorf("over %v after the first signal, want %v", got, tt.at)
				}
				if got := fmt.Sprint(slices.Sorted(slices.Values(r.Abandoned))); got != tt.abandoned || (err != nil) != (got != "[]") {
					t.Errorf("abandoned %s, want %s; %v", got, tt.abandoned, err)
				}
				close(let) // the bubble wants everybody gone
			})
		})
	}
}

type fragile struct {
	*camera
	falls *int
}

func (f fragile) Run(ctx context.Context) error {
	if *f.falls++; *f.falls < 3 {
		panic("broken invariant")
	}
	return f.camera.Run(ctx)
}

func TestAPanicOfACaptureIsNotTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		falls := 0
		h.captures = []pipeline.CaptureFunc{func(out chan<- segment.Progress) (pipeline.Capture, error) {
			return fragile{&camera{h: h, out: out, room: "a", parts: 1}, &falls}, nil
		}}
		r, err, _ := h.run(t.Context(), t.Context())
		if err != nil || !r.Safe() || falls != 3 || len(h.manifests()) != 1 {
			t.Errorf("%+v, %v, %d starts", r, err, falls)
		}
	})
}

func TestACaptureThatCannotBeMadeStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		want := errors.New("no such site")
		h.captures = []pipeline.CaptureFunc{func(chan<- segment.Progress) (pipeline.Capture, error) { return nil, want }}
		if _, err, _ := h.run(t.Context(), t.Context()); !errors.Is(err, want) {
			t.Error(err)
		}
		if h.said() != "" {
			t.Errorf("started: %s", h.said())
		}
	})
}

func TestNewWantsItsStages(t *testing.T) {
	if _, err := pipeline.New(pipeline.Config{}, pipeline.Stages{}, zerolog.Nop()); err == nil {
		t.Error("accepted")
	}
}
