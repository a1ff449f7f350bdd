package pipelinetest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pipeline/pipelinetest"
	"github.com/liverec/liverec/pipeline/reclaim"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
	"github.com/liverec/liverec/uploader/wrap"
)

const archive segment.TargetID = "memory:archive"

var errPower = errors.New("the power is off")

// power is cut before step at (0: never). From then on nothing that has a step does anything.
type power struct {
	mu   sync.Mutex
	at   int
	n    int
	off  chan struct{}
	last string
}

func newPower(at int) *power { return &power{at: at, off: make(chan struct{})} }

func (p *power) step(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != "" {
		return errPower
	}
	if p.n++; p.n == p.at {
		p.last = name
		close(p.off)
		return errPower
	}
	return nil
}

// book is a ledger with everything that the house asks of it.
type book interface {
	capture
	uploader.Journal
	control.Journal
	reclaim.Journal
	Broadcasts(ctx context.Context, limit int) ([]segment.Broadcast, error)
}

// capture is what a camera tells the ledger: recorder.Journal.
type capture interface {
	Enter(ctx context.Context, room segment.Room, live segment.Session, at time.Time, grace time.Duration) (segment.Entry, error)
	Unended(ctx context.Context) ([]segment.Entry, error)
	Begin(ctx context.Context, s segment.Segment) error
	Extend(ctx context.Context, id segment.ID, e segment.Extent) error
	Seal(ctx context.Context, s segment.Segment) error
	Void(ctx context.Context, id segment.ID) error
	Miss(ctx context.Context, g segment.Gap) error
	Mend(ctx context.Context, r segment.Repair) error
	Leave(ctx context.Context, id segment.SessionID, at time.Time, a segment.Account) error
}

// world is what outlives a power cut: the data folder, the ledger in it, the remote store, the show. And the oracle:
// what must never have happened.
type world struct {
	t      *testing.T
	data   string
	memory *pipelinetest.Ledger // nil: the real one, in the data folder
	remote *targettest.Remote
	show   show
	rng    *rand.Rand

	mu     sync.Mutex
	lists  [][]byte       // every manifest that the store took
	acked  map[string]int // chunk -> how many chunks the store had taken when its ack was on record
	wrongs []string       // broken invariants
}

// show is what a room sends: numbered frames.
type show struct {
	rooms   int
	frames  uint64 // the whole broadcast
	every   time.Duration
	gop     uint64
	part    uint64 // frames of a part
	body    int    // bytes of a frame, at least 12
	flush   time.Duration
	started time.Time
}

// number of frames that have been sent until now.
func (s show) until(t time.Time) uint64 { return min(s.frames, uint64(t.Sub(s.started)/s.every)+1) }

var chunked = uploader.Limits{MinChunk: 150, MaxChunk: 1 << 20, MaxChunks: 10_000, Parallel: 2, Growing: true}

// folder is a new data folder, in memory where the machine has such a place: a simulated power cut loses what the test
// takes away, so a real fsync would only cost time.
func folder(t testing.TB) string {
	t.Helper()
	name, err := os.MkdirTemp("/dev/shm", "liverec-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(name) })
	return name
}

func newWorld(t *testing.T, l uploader.Limits, seed uint64) *world {
	return &world{
		t: t, data: folder(t), remote: targettest.NewRemote(l), rng: rand.New(rand.NewPCG(seed, 1)),
		acked: map[string]int{},
		show:  show{rooms: 1, frames: 50, every: 100 * time.Millisecond, gop: 5, part: 20, body: 16, flush: 500 * time.Millisecond, started: time.Now()},
	}
}

func (w *world) wrong(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrongs = append(w.wrongs, fmt.Sprintf(format, a...))
}

// life is one run of the program: from the start to the power cut, or to its own end. It gives the number of steps and
// the name of the one at which it ended.
func (w *world) life(at int) (steps int, last string) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	p := newPower(at)
	w.remote.Behave(func(c wrap.Call) wrap.Fate {
		name := fmt.Sprintf("%s %s %d", c.Op, c.Key, c.Chunk)
		if p.step(name) != nil {
			return wrap.Fate{Err: errPower}
		}
		if p.step(name+" answer") != nil {
			return wrap.Fate{Lost: true, Err: errPower}
		}
		return wrap.Fate{}
	})
	r, err := w.run(ctx, p)
	switch {
	case p.last != "":
		w.after()
	case err != nil:
		w.wrong("the run ends with %v", err)
	case !r.Safe() || r.Stopped:
		w.wrong("the run ends with %+v", r)
	}
	return p.n, p.last
}

func (w *world) run(ctx context.Context, p *power) (pipeline.Result, error) {
	dir, err := durable.Open(w.data, func(op durable.Op, name string) error {
		if strings.HasPrefix(name, "reserve") || op == durable.OpRead {
			return nil
		}
		if err := p.step(string(op) + " " + name); err != nil {
			return err
		}
		if op == durable.OpRemove && strings.HasPrefix(name, "media/") && strings.HasSuffix(name, ".flv") {
			w.removing(name)
		}
		return nil
	})
	if err != nil {
		return pipeline.Result{}, err
	}
	defer dir.Close()
	var b book
	if w.memory != nil {
		w.memory.Hook = func(step string, after bool) error {
			switch {
			case step == "read":
				return nil
			case after:
				return p.step(step + " answer")
			}
			return p.step(step)
		}
		b = w.memory
	} else {
		l, err := ledger.Open(ctx, ledger.Config{Dir: dir, Owner: "test", Log: zerolog.Nop(), Hook: func(step string) error { return p.step(step) }})
		if err != nil {
			return pipeline.Result{}, err
		}
		defer l.Close()
		if err := l.SetTargets(ctx, []segment.Destination{{ID: archive, Spec: string(archive), Required: true}}); err != nil {
			return pipeline.Result{}, err
		}
		b = l
	}
	target := w.remote.Target(archive)
	tr, err := uploader.New(uploader.Config{Uploads: 2, MaxSize: 4096}, uploader.Deps{
		Journal: &watched{b, w}, Targets: []uploader.Destination{{Target: target, Required: true}}, Dir: dir, Log: zerolog.Nop(),
	})
	if err != nil {
		return pipeline.Result{}, err
	}
	ctl, err := control.New(control.Config{}, control.Deps{
		Journal: b, Publishers: []control.Publisher{control.NewStorePublisher(&shelf{target, w})}, Log: zerolog.Nop(),
	})
	if err != nil {
		return pipeline.Result{}, err
	}
	rec, err := reclaim.New(reclaim.Config{}, reclaim.Deps{Journal: b, Dir: dir, Log: zerolog.Nop()})
	if err != nil {
		return pipeline.Result{}, err
	}
	var caps []pipeline.CaptureFunc
	for i := range w.show.rooms {
		caps = append(caps, func(out chan<- segment.Progress) (pipeline.Capture, error) {
			return &camera{w: w, j: b, dir: dir, out: out, room: segment.Room{ID: segment.RoomID(fmt.Sprint("room-", i)), Name: fmt.Sprint("room-", i), URL: "http://h/live.flv", Site: "direct"}}, nil
		})
	}
	pipe, err := pipeline.New(pipeline.Config{Once: true, Targets: []segment.TargetID{archive}}, pipeline.Stages{
		Captures: caps, Transport: tr, Control: ctl, Reclaim: rec, Ledger: b,
	}, zerolog.Nop())
	if err != nil {
		return pipeline.Result{}, err
	}
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-p.off:
			kill()
		case <-time.After(6 * time.Hour):
			w.wrong("the run does not end")
			kill()
		case <-ended:
		}
	}()
	r, err := pipe.Run(ctx, hard)
	if p.last == "" { // alive: nothing may be left behind by the stages
		return r, err
	}
	return r, nil
}

// after is what the power cut does to the disk: of an open part everything above its durable length may be gone or torn.
func (w *world) after() {
	w.t.Helper()
	durableOf := map[string]int64{}
	entries, err := w.unended()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		for _, s := range e.Left {
			durableOf[s.Path] = s.Size
		}
		if e.Open != nil {
			durableOf[e.Open.Path] = e.Open.Size
		}
	}
	for name, n := range durableOf {
		file := filepath.Join(w.data, filepath.FromSlash(name)+segment.PartSuffix)
		fi, err := os.Stat(file)
		if err != nil || fi.Size() <= n || w.rng.IntN(2) == 0 {
			continue
		}
		if err := os.Truncate(file, n+w.rng.Int64N(fi.Size()-n+1)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) unended() ([]segment.Entry, error) {
	if w.memory != nil {
		w.memory.Hook = nil
		return w.memory.Unended(w.t.Context())
	}
	d, err := durable.Open(w.data, nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := ledger.Open(w.t.Context(), ledger.Config{Dir: d, Owner: "test", Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Unended(w.t.Context())
}

// removing is the oracle of I1: the bytes that are about to go are in the store, the same ones.
func (w *world) removing(name string) {
	mine, err := os.ReadFile(filepath.Join(w.data, filepath.FromSlash(name)))
	if err != nil {
		return // gone already
	}
	for _, key := range w.remote.Keys() {
		if theirs, ok := w.remote.Object(key); ok && path(key) == path(name) && bytes.Equal(mine, theirs) {
			return
		}
	}
	w.wrong("I1: %s is removed and is not in the store", name)
}

func path(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// watched sees which chunks are on record as acknowledged.
type watched struct {
	uploader.Journal
	w *world
}

func (j *watched) Acked(ctx context.Context, t segment.TargetID, id segment.ID, a segment.Ack) error {
	err := j.Journal.Acked(ctx, t, id, a)
	if err == nil {
		taken := len(j.w.remote.Accepted())
		j.w.mu.Lock()
		j.w.acked[fmt.Sprintf("%s %d", id.Base(), a.Index)] = taken
		j.w.mu.Unlock()
	}
	return err
}

// shelf sees every manifest that the store takes.
type shelf struct {
	uploader.Target
	w *world
}

func (s *shelf) Keep(ctx context.Context, key string, data []byte) error {
	s.w.mu.Lock()
	s.w.lists = append(s.w.lists, bytes.Clone(data))
	s.w.mu.Unlock()
	return s.Target.Keep(ctx, key, data)
}

// check looks at everything after the last life.
func (w *world) check(cuts int) {
	w.t.Helper()
	for _, s := range w.wrongs {
		w.t.Error(s)
	}
	w.archive()
	w.chunks(cuts)
	w.published()
	if n := w.remote.Pending(); n != 0 {
		w.t.Errorf("%d uploads are left open", n)
	}
	seen := map[string]int{}
	for _, k := range w.remote.Commits() {
		if seen[k]++; seen[k] > 1 {
			w.t.Errorf("%s was completed %d times", k, seen[k])
		}
	}
	filepath.WalkDir(filepath.Join(w.data, "media"), func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			w.t.Errorf("left on the disk: %s", p)
		}
		return nil
	})
	if entries, err := w.unended(); err != nil || len(entries) != 0 {
		w.t.Errorf("unended sessions at the end: %d, %v", len(entries), err)
	}
}

// archive holds each frame once, in order.
func (w *world) archive() {
	w.t.Helper()
	var want uint64
	folder := ""
	for _, key := range w.remote.Keys() {
		if f := strings.TrimSuffix(key, path(key)); folder == "" {
			folder = f
		} else if f != folder && w.show.rooms == 1 {
			w.t.Errorf("two broadcasts: %s and %s", folder, f)
		} else if f != folder {
			folder, want = f, 0
		}
		data, _ := w.remote.Object(key)
		n, frames, err := readPart(data)
		if err != nil || int(n) != len(frames) {
			w.t.Errorf("%s: %v; the head says %d frames, %d are there", key, err, n, len(frames))
		}
		for _, f := range frames {
			if f != want {
				w.t.Errorf("%s: frame %d, want %d", key, f, want)
				want = f
			}
			want++
		}
	}
	if want != w.show.frames {
		w.t.Errorf("%d frames in the archive, %d were sent", want, w.show.frames)
	}
}

// chunks: no chunk is sent again once its ack is on record, and none more often than there were power cuts.
func (w *world) chunks(cuts int) {
	w.t.Helper()
	times := map[string]int{}
	for i, a := range w.remote.Accepted() {
		k := fmt.Sprintf("%s %d", strings.TrimSuffix(path(a.Key), ".flv"), a.Chunk.Index)
		if w.show.rooms > 1 {
			continue
		}
		if n, ok := w.acked[k]; ok && i >= n {
			w.t.Errorf("chunk %s was sent after its ack was on record", k)
		}
		if times[k]++; times[k] > 1+cuts {
			w.t.Errorf("chunk %s was sent %d times with %d power cuts", k, times[k], cuts)
		}
	}
}

// published: every manifest that was ever shown is a prefix of the next one, and the last one tells everything.
func (w *world) published() {
	w.t.Helper()
	before := map[string]manifest.Manifest{}
	for _, data := range w.lists {
		m, err := manifest.Parse(data)
		if err != nil {
			w.t.Error(err)
			continue
		}
		was := before[m.Broadcast].Parts
		if len(m.Parts) < len(was) || !slices.Equal(was, m.Parts[:min(len(was), len(m.Parts))]) {
			w.t.Errorf("I4: a list of %d parts came after one of %d", len(m.Parts), len(was))
		}
		for i, p := range m.Parts {
			if p.Seq != uint32(i+1) {
				w.t.Errorf("I4: part %d stands at place %d", p.Seq, i+1)
			}
		}
		before[m.Broadcast] = m
	}
	if len(before) != w.show.rooms {
		w.t.Fatalf("%d manifests for %d broadcasts", len(before), w.show.rooms)
	}
	w.remote.Behave(nil)
	listed := 0
	for _, key := range w.remote.Keys() {
		data, err := w.remote.Target(archive).Recall(w.t.Context(), strings.TrimSuffix(key, path(key))+manifest.Name)
		if err != nil {
			w.t.Fatal(err)
		}
		m, err := manifest.Parse(data)
		if err != nil {
			w.t.Fatal(err)
		}
		if m.Ended == nil {
			w.t.Errorf("the manifest beside %s says that the broadcast goes on", key)
		}
		i := slices.IndexFunc(m.Parts, func(p manifest.Part) bool { return p.Name == path(key) })
		if i < 0 {
			w.t.Errorf("%s is not in the manifest", key)
			continue
		}
		listed++
		obj, _ := w.remote.Object(key)
		if p := m.Parts[i]; p.Size != int64(len(obj)) || p.SHA256 != segment.Sum(sha256.Sum256(obj)).String() {
			w.t.Errorf("the manifest has another %s", key)
		}
	}
	total := 0
	for _, m := range before {
		total += len(m.Parts)
	}
	if listed != total {
		w.t.Errorf("%d objects for %d listed parts", listed, total)
	}
}

// ---- the camera: a small capture with the same order of records and acts as the real one

const headLen = 16 // magic, number of frames; patched at the seal

var magic = [8]byte{'n', 'u', 'm', 'b', 'e', 'r', 'e', 'd'}

var table = crc32.MakeTable(crc32.Castagnoli)

func (s show) frame(n uint64) []byte {
	b := make([]byte, s.body)
	binary.BigEndian.PutUint64(b, n)
	for i := 8; i < len(b)-4; i++ {
		b[i] = byte(n) ^ byte(i)
	}
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], table))
	return b
}

func head(frames uint64) []byte {
	return binary.BigEndian.AppendUint64(slices.Clone(magic[:]), frames)
}

// readPart gives what the head says and the numbers of the whole frames.
func readPart(data []byte) (n uint64, frames []uint64, err error) {
	if len(data) < headLen || !bytes.Equal(data[:8], magic[:]) {
		return 0, nil, errors.New("no head")
	}
	n = binary.BigEndian.Uint64(data[8:])
	const body = 16
	for rest := data[headLen:]; len(rest) > 0; rest = rest[body:] {
		if len(rest) < body {
			return n, frames, io.ErrUnexpectedEOF
		}
		if crc32.Checksum(rest[:body-4], table) != binary.BigEndian.Uint32(rest[body-4:]) {
			return n, frames, fmt.Errorf("frame %d is torn", len(frames))
		}
		frames = append(frames, binary.BigEndian.Uint64(rest))
	}
	return n, frames, nil
}

// camera records one room.
type camera struct {
	w    *world
	j    book
	dir  *durable.Dir
	out  chan<- segment.Progress
	room segment.Room

	f      *durable.File
	seg    segment.Segment
	first  uint64 // frame of the open part
	next   uint64 // frame to write
	offset int64  // durable length
}

func (c *camera) String() string { return "camera of " + string(c.room.ID) }

// Run ends with the power, or when the show is over. Errors of a dead machine are no matter for a supervisor.
func (c *camera) Run(ctx context.Context) error {
	err := c.record(ctx)
	if c.f != nil {
		c.f.Close()
	}
	if errors.Is(err, errPower) || ctx.Err() != nil || errors.Is(err, ledger.ErrDead) {
		<-ctx.Done() // a dead process does not restart its services
		return nil
	}
	if err != nil {
		c.w.wrong("the camera falls: %v", err)
	}
	return err
}

func (c *camera) record(ctx context.Context) error {
	c.f, c.next = nil, 0
	all, err := c.j.Broadcasts(ctx, 0)
	if err != nil {
		return err
	}
	for _, b := range all {
		if b.Session.Room.ID != c.room.ID {
			continue
		}
		if !b.Session.Ended.IsZero() {
			return nil // the show is over and on record
		}
		for _, s := range b.Segments {
			if s.Sealed {
				c.next += uint64(s.VideoFrames)
			}
		}
	}
	now := time.Now()
	e, err := c.j.Enter(ctx, c.room, segment.Session{Title: "show", Streamer: "alice"}, now, time.Hour)
	if err != nil {
		return err
	}
	if err := c.recover(ctx, &e); err != nil {
		return err
	}
	for c.next < c.w.show.frames {
		if c.f == nil {
			if err := c.begin(ctx, e); err != nil {
				return err
			}
			e.NextSeq++
		}
		have := c.w.show.until(time.Now())
		if c.next >= have {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(c.w.show.flush):
			}
			continue
		}
		for c.f != nil && c.next < have {
			if _, err := c.f.Write(c.w.show.frame(c.next)); err != nil {
				return err
			}
			c.next++
			if c.next%c.w.show.gop == 0 && c.next-c.first >= c.w.show.part && c.next < c.w.show.frames {
				if err := c.seal(ctx, segment.CutTime); err != nil {
					return err
				}
			}
		}
		if c.f != nil {
			if err := c.extend(ctx); err != nil {
				return err
			}
		}
	}
	if c.f != nil {
		if err := c.seal(ctx, segment.CutEnd); err != nil {
			return err
		}
	}
	return c.j.Leave(ctx, e.Session.ID, time.Now(), segment.Account{})
}

func (c *camera) begin(ctx context.Context, e segment.Entry) error {
	id := segment.ID{Session: e.Session.ID, Seq: e.NextSeq}
	c.seg = segment.Segment{ID: id, Room: c.room.ID, Path: fmt.Sprintf("media/%s/%s.flv", id.Session, id.Base()), Start: time.Now(), Head: headLen}
	if err := c.j.Begin(ctx, c.seg); err != nil {
		return err
	}
	return c.create()
}

func (c *camera) create() (err error) {
	if c.f, err = c.dir.Create(c.seg.Path + segment.PartSuffix); err != nil {
		return err
	}
	c.first, c.offset = c.next, 0
	_, err = c.f.Write(head(0))
	return err
}

func (c *camera) extend(ctx context.Context) error {
	if err := c.f.Sync(); err != nil {
		return err
	}
	n := c.f.Size()
	if err := c.j.Extend(ctx, c.seg.ID, segment.Extent{Durable: n, At: time.Now()}); err != nil {
		return err
	}
	c.offset = n
	c.ring(n, false)
	return nil
}

func (c *camera) ring(n int64, sealed bool) {
	select {
	case c.out <- segment.Progress{ID: c.seg.ID, Durable: n, Sealed: sealed}:
	default:
	}
}

func (c *camera) seal(ctx context.Context, cut segment.Cause) error {
	if _, err := c.f.WriteAt(head(c.next-c.first), 0); err != nil {
		return err
	}
	if err := c.f.Sync(); err != nil {
		return err
	}
	f := c.f
	c.f = nil
	if err := f.Close(); err != nil {
		return err
	}
	if err := c.dir.Rename(c.seg.Path+segment.PartSuffix, c.seg.Path); err != nil {
		return err
	}
	return c.finish(ctx, cut)
}

// finish seals a part that has its final name.
func (c *camera) finish(ctx context.Context, cut segment.Cause) error {
	data, err := os.ReadFile(c.dir.Abs(c.seg.Path))
	if err != nil {
		return err
	}
	n, _, err := readPart(data)
	if err != nil {
		return err
	}
	c.seg.Size, c.seg.SHA256, c.seg.Cut, c.seg.Sealed = int64(len(data)), sha256.Sum256(data), cut, true
	c.seg.VideoFrames, c.seg.Duration = int64(n), time.Duration(n)*c.w.show.every
	if err := c.j.Seal(ctx, c.seg); err != nil {
		return err
	}
	c.ring(c.seg.Size, true)
	return nil
}

// recover is K1 to K4: what lies on the disk decides where to go on.
func (c *camera) recover(ctx context.Context, e *segment.Entry) error {
	if len(e.Left) > 0 {
		return fmt.Errorf("%d parts are left unsealed, this camera leaves one at the most", len(e.Left))
	}
	if e.Open == nil {
		return nil
	}
	c.seg = *e.Open
	if data, err := os.ReadFile(c.dir.Abs(c.seg.Path)); err == nil { // K4
		n, _, err := readPart(data)
		if err != nil {
			return err
		}
		c.first = c.next
		c.next += n
		cut := segment.CutTime
		if c.next == c.w.show.frames {
			cut = segment.CutEnd
		}
		return c.finish(ctx, cut)
	}
	f, err := c.dir.Edit(c.seg.Path + segment.PartSuffix)
	if errors.Is(err, fs.ErrNotExist) { // K1
		if c.seg.Size > 0 {
			return fmt.Errorf("%s has %d durable bytes and no file", c.seg.ID, c.seg.Size)
		}
		if err := c.j.Void(ctx, c.seg.ID); err != nil {
			return err
		}
		e.NextSeq = c.seg.ID.Seq
		return nil
	}
	if err != nil {
		return err
	}
	c.f, c.first = f, c.next // K2, K3: cut to the last whole frame, go on in it
	data, err := os.ReadFile(c.dir.Abs(c.seg.Path + segment.PartSuffix))
	if err != nil {
		return err
	}
	_, frames, _ := readPart(data)
	end := int64(headLen + len(frames)*c.w.show.body)
	if end < c.seg.Size {
		return fmt.Errorf("%s has %d whole bytes of %d durable ones (I2)", c.seg.ID, end, c.seg.Size)
	}
	if int64(len(data)) < headLen {
		end = 0
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	if end == 0 {
		if _, err := f.Write(head(0)); err != nil {
			return err
		}
	}
	c.next += uint64(len(frames))
	if c.next-c.first >= c.w.show.part || c.next == c.w.show.frames {
		cut := segment.CutTime
		if c.next == c.w.show.frames {
			cut = segment.CutEnd
		}
		return c.seal(ctx, cut)
	}
	return nil
}
