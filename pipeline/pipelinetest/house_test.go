package pipelinetest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	slash "path"
	"path/filepath"
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
	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
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
	all  []string // the names of the steps until then
	at0  time.Time
	ages []time.Duration // when each was, after the first one
	last string
	when time.Time
}

func newPower(at int) *power { return &power{at: at, off: make(chan struct{})} }

// disarm: from now on the power stays as it is.
func (p *power) disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = 0
}

// steps are those that were taken until now.
func (p *power) steps() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

// failed says when and where the power went, if it did.
func (p *power) failed() (where string, when time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, p.when
}

func (p *power) step(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != "" {
		return errPower
	}
	if p.n == 0 {
		p.at0 = time.Now()
	}
	p.all, p.ages = append(p.all, name), append(p.ages, time.Since(p.at0))
	if p.n++; p.n == p.at {
		p.last, p.when = name, time.Now()
		close(p.off)
		return errPower
	}
	return nil
}

// book is a ledger with everything that the house asks of it.
type book interface {
	recorder.Journal
	uploader.Journal
	control.Journal
	reclaim.Journal
	Broadcasts(ctx context.Context, limit int) ([]segment.Broadcast, error)
}

// scene is what is in front of the house: rooms and how they are captured.
type scene interface {
	// captures makes those of one life.
	captures(w *world, b book, dir *durable.Dir) []pipeline.CaptureFunc
	// life says how a life went: when it began and ended, and whether the power was cut (else the process was killed).
	life(w *world, began, ended time.Time, cut bool)
	// archive looks at what is in the store at the end.
	archive(w *world)
	rooms() int
	maxSize() int64
	power() bool // lives may end by a power cut, not only by a kill
}

// world is what outlives a power cut: the data folder, the ledger in it, the remote store, the show. And the oracle:
// what must never have happened.
type world struct {
	t      *testing.T
	data   string
	memory *pipelinetest.Ledger // nil: the real one, in the data folder
	remote *targettest.Remote
	scene  scene
	// weather is what becomes of calls to the store while the power is on; nil: it is good.
	weather wrap.Script
	rng     *rand.Rand
	steps   []string        // of the last life
	ages    []time.Duration // when each of them was
	pauses  []time.Duration // between the next lives; then it is up to rng
	ways    []bool          // how the next lives end before their time: true is a power cut, false a kill; then it is up to rng

	mu     sync.Mutex
	disk   unsafeDisk
	lists  [][]byte       // every manifest that the store took
	acked  map[string]int // chunk -> how many chunks the store had taken when its ack was on record
	wrongs []string       // broken invariants
}

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

func newWorld(t *testing.T, l uploader.Limits, seed uint64, s scene) *world {
	return &world{
		t: t, data: folder(t), remote: targettest.NewRemote(l), rng: rand.New(rand.NewPCG(seed, 1)), scene: s,
		acked: map[string]int{}, disk: unsafeDisk{synced: map[string]int64{}, loose: map[string]durable.Op{}},
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
		if w.weather != nil {
			return w.weather(c)
		}
		return wrap.Fate{}
	})
	began := time.Now()
	r, err := w.run(ctx, p)
	last, when := p.failed()
	switch {
	case last != "":
		cut := w.scene.power() && w.rng.IntN(2) == 0
		if len(w.ways) > 0 {
			cut, w.ways = w.ways[0], w.ways[1:]
		}
		if cut {
			w.cut()
			last += " (power cut)"
		} else {
			last += " (killed)"
		}
		w.scene.life(w, began, when, cut)
	case err != nil:
		w.wrong("the run ends with %v", err)
	case !r.Safe() || r.Stopped:
		w.wrong("the run ends with %+v", r)
	default:
		w.scene.life(w, began, time.Now(), false)
	}
	w.steps, w.ages = p.steps(), p.ages
	return len(w.steps), last
}

func (w *world) run(ctx context.Context, p *power) (pipeline.Result, error) {
	dir, err := durable.Open(w.data, func(op durable.Op, name string) error {
		if strings.HasPrefix(name, "reserve") || op == durable.OpRead {
			return nil
		}
		if err := p.step(string(op) + " " + name); err != nil {
			return err
		}
		w.disk.did(w.data, op, name)
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
		b = w.memory.Open(func(step string, after bool) error {
			switch {
			case step == "read":
				return nil
			case after:
				return p.step(step + " answer")
			}
			return p.step(step)
		})
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
	target := wrap.NoProgress(w.remote.Target(archive), 30*time.Second)
	tr, err := uploader.New(uploader.Config{Uploads: 2, MaxSize: w.scene.maxSize()}, uploader.Deps{
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
	pipe, err := pipeline.New(pipeline.Config{Once: true, Targets: []segment.TargetID{archive}}, pipeline.Stages{
		Captures: w.scene.captures(w, b, dir), Transport: tr, Control: ctl, Reclaim: rec, Ledger: b,
	}, zerolog.Nop())
	if err != nil {
		return pipeline.Result{}, err
	}
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	type ending struct {
		r   pipeline.Result
		err error
	}
	ended := make(chan ending, 1)
	go func() {
		r, err := pipe.Run(ctx, hard)
		p.disarm()
		ended <- ending{r, err}
	}()
	select {
	case e := <-ended:
		return e.r, e.err
	case <-p.off:
	case <-time.After(6 * time.Hour):
		w.wrong("the run does not end")
		kill()
		<-ended
		return pipeline.Result{}, nil
	}
	// Dead. What is still running can do nothing any more, and is gone before the bubble ends.
	kill()
	synctest.Wait()
	return pipeline.Result{}, nil
}

// unsafeDisk knows what a disk may forget when the power is cut.
type unsafeDisk struct {
	mu     sync.Mutex
	synced map[string]int64      // bytes of a file that are safe
	loose  map[string]durable.Op // create or rename of a part, while its folder is not synced; a new process knows nothing of it
}

// did is told of each operation right before it happens.
func (d *unsafeDisk) did(root string, op durable.Op, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch op {
	case durable.OpSync:
		if fi, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err == nil {
			d.synced[name] = fi.Size()
		}
	case durable.OpCreate, durable.OpRename:
		if strings.HasSuffix(name, segment.PartSuffix) && strings.HasPrefix(name, "media/") {
			d.loose[name] = op
		}
		if op == durable.OpCreate {
			delete(d.synced, name)
		}
	case durable.OpRemove:
		delete(d.loose, name)
	case durable.OpSyncDir:
		maps.DeleteFunc(d.loose, func(part string, _ durable.Op) bool { return slash.Dir(part) == name })
	}
}

// cut is what the power cut does to the disk: of an open part everything that was not synced may be gone, a file whose
// folder was not synced may have its former name or none.
func (w *world) cut() {
	w.t.Helper()
	d := &w.disk
	abs := func(name string) string { return filepath.Join(w.data, filepath.FromSlash(name)) }
	must := func(err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Fatal(err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.loose)) {
		if w.rng.IntN(2) == 0 {
			continue
		}
		switch d.loose[name] {
		case durable.OpCreate:
			must(os.Remove(abs(name)))
			delete(d.synced, name)
		case durable.OpRename:
			must(os.Rename(strings.TrimSuffix(abs(name), segment.PartSuffix), abs(name)))
		}
	}
	clear(d.loose)
	filepath.WalkDir(abs("media"), func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(file, segment.PartSuffix) {
			return nil
		}
		name, _ := filepath.Rel(w.data, file)
		n := d.synced[filepath.ToSlash(name)]
		if fi, err := os.Stat(file); err == nil && fi.Size() > n {
			must(os.Truncate(file, n+w.rng.Int64N(fi.Size()-n+1)))
		}
		return nil
	})
}

func (w *world) unended() ([]segment.Entry, error) {
	if w.memory != nil {
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
	w.scene.archive(w)
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

// chunks: no chunk is sent again once its ack is on record, and none more often than there were power cuts.
func (w *world) chunks(cuts int) {
	w.t.Helper()
	times := map[string]int{}
	for i, a := range w.remote.Accepted() {
		k := fmt.Sprintf("%s %d", strings.TrimSuffix(path(a.Key), ".flv"), a.Chunk.Index)
		if w.scene.rooms() > 1 {
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
	if len(before) != w.scene.rooms() {
		w.t.Fatalf("%d manifests for %d broadcasts", len(before), w.scene.rooms())
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
