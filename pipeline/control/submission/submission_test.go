package submission_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline/control"
	"github.com/liverec/liverec/pipeline/control/submission"
	"github.com/liverec/liverec/pipeline/pipelinetest"
	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/segment"
)

const target = segment.TargetID("bilibili:?cookies=/c.json")

// bench is a broadcast that goes to the stand-in.
type bench struct {
	t       *testing.T
	server  *bilitest.Server
	studio  *bilitest.Studio
	user    *bilitest.User
	cookies string
	ledger  *pipelinetest.Ledger
	session segment.SessionID
	cfg     submission.Config
	wind    *wind
	files   map[string]uint32 // every name that a part ever had
	n       uint32
	mend    control.Mender
	control *control.Control // of the running process
	heard   sync.Mutex
	told    []control.Condition // guarded by heard

	stop func()
	out  chan segment.Outcome
}

func template(t *testing.T, s string) naming.Template {
	t.Helper()
	x, err := naming.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func newBench(t *testing.T, change ...func(*submission.Config)) *bench {
	t.Helper()
	b := &bench{t: t, server: bilitest.Unplugged(), ledger: pipelinetest.NewLedger(0, segment.Destination{ID: target, Required: true}), files: map[string]uint32{}}
	b.studio = bilitest.NewStudio(b.server)
	b.user = b.server.AddUser("alice")
	b.cookies = filepath.Join(t.TempDir(), "cookies.json")
	b.login()
	b.wind = &wind{next: b.server.Virtual()}
	b.cfg = submission.Config{
		Target: target, Title: template(t, "{title}"), Tag: template(t, "live,{room}"), TID: 21, Copyright: 1, Parts: 100,
		Release: submission.Transcoded, Zone: time.UTC, Log: zerolog.Nop(),
	}
	for _, c := range change {
		c(&b.cfg)
	}
	e, err := b.ledger.Enter(t.Context(), segment.Room{ID: "r", URL: "http://h/live.flv", Name: "room"}, segment.Session{Title: "a title"}, time.Now(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	b.session = e.Session.ID
	return b
}

func (b *bench) login() {
	b.t.Helper()
	if err := os.WriteFile(b.cookies, b.server.CookieFile(b.user), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// start begins a process.
func (b *bench) start() {
	b.t.Helper()
	cfg := b.cfg
	var once sync.Once
	var client *bilibili.Client
	var gov *bilibili.Governor
	cfg.Account = func() (*bilibili.Client, *bilibili.Governor, error) {
		var err error
		once.Do(func() {
			var a *bilibili.Account
			if a, err = bilibili.OpenAccount(b.cookies); err == nil {
				client = bilibili.NewClient(bilibili.Config{Account: a, Log: zerolog.Nop(), Transport: b.wind})
				gov = a.Governor(bilibili.Pace{Interval: 30 * time.Second}, zerolog.Nop())
			}
		})
		return client, gov, err
	}
	p, err := submission.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	log := zerolog.Nop()
	if os.Getenv("LIVEREC_TEST_LOG") != "" {
		log = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true}).With().Timestamp().Logger()
	}
	c, err := control.New(control.Config{Every: 10 * time.Minute}, control.Deps{
		Journal: b.ledger, Submitters: []control.Submitter{p}, Mend: b.mend, Tell: b.tell, Log: log,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.control = c
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	out := make(chan segment.Outcome, 64)
	go func() { done <- c.Run(ctx, out, make(chan struct{}, 1)) }()
	b.out = out
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("control: %v", err)
		}
	}
}

func (b *bench) tell(c control.Condition) {
	b.heard.Lock()
	defer b.heard.Unlock()
	b.told = append(b.told, c)
}

// alerts are what was told about lists.
func (b *bench) alerts() []control.Condition {
	b.heard.Lock()
	defer b.heard.Unlock()
	return slices.DeleteFunc(slices.Clone(b.told), func(c control.Condition) bool { return !strings.HasPrefix(c.Key, "list") })
}

func (b *bench) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

const partSeconds = 60

// record makes and seals the next part.
func (b *bench) record() {
	b.t.Helper()
	b.n++
	id := segment.ID{Session: b.session, Seq: b.n}
	s := segment.Segment{ID: id, Path: "media/" + id.Base() + ".flv", Start: time.Now(), Duration: partSeconds * time.Second, Size: 200, SHA256: segment.Sum{1}, Cut: segment.CutTime}
	b.do(b.ledger.Begin(b.t.Context(), segment.Segment{ID: id, Path: s.Path}))
	b.do(b.ledger.Seal(b.t.Context(), s))
}

// carry is transport: it stores what is due, but for parts that skip holds back.
func (b *bench) carry(skip func(seq uint32) bool) {
	b.t.Helper()
	ctx := b.t.Context()
	due, err := b.ledger.Due(ctx, target)
	b.do(err)
	for _, d := range due {
		id := d.Segment.ID
		if !d.Segment.Sealed || skip != nil && skip(id.Seq) {
			continue
		}
		b.do(b.ledger.Opening(ctx, target, id, 0))
		b.do(b.ledger.Opened(ctx, target, id, "t"))
		b.do(b.ledger.Committing(ctx, target, id))
		size := int(d.Sent().Size)
		file := b.studio.Store(b.user, d.Key, bilitest.TestPart(partSeconds, size))
		b.files[file] = id.Seq
		b.do(b.ledger.Committed(ctx, target, id, segment.Receipt{Key: d.Key, Size: int64(size), Tag: file}))
		b.do(b.ledger.Listing(ctx, target, id))
		select {
		case b.out <- segment.Outcome{Target: target, ID: id}:
		default:
		}
	}
}

func (b *bench) broadcast() segment.Broadcast {
	b.t.Helper()
	all, err := b.ledger.All(b.t.Context())
	b.do(err)
	return all[0]
}

// seqs are the parts that a list of file names shows.
func (b *bench) seqs(files []string) []uint32 {
	out := make([]uint32, len(files))
	for i, f := range files {
		out[i] = b.files[f]
	}
	return out
}

// check holds every change of every submission against the promises: a list begins where the one before ended, has no
// hole, keeps its order, and never shrinks (promise 3, I4).
func (b *bench) check() (made int) {
	b.t.Helper()
	shown := map[int64][]uint32{}
	for _, c := range b.studio.History() {
		seqs := b.seqs(c.Files)
		if c.Made {
			made++
		}
		for i, s := range seqs {
			if s == 0 || i > 0 && s != seqs[i-1]+1 {
				b.t.Errorf("at %v submission %d shows %v", c.At, c.AID, seqs)
				break
			}
		}
		if old := shown[c.AID]; len(seqs) < len(old) || len(old) > 0 && seqs[0] != old[0] {
			b.t.Errorf("submission %d shrinks from %v to %v", c.AID, old, seqs)
		}
		shown[c.AID] = seqs
	}
	return made
}

// free is reclaim, with the stand-in as the witness of what it frees.
func (b *bench) free() {
	b.t.Helper()
	held, err := b.ledger.Holdings(b.t.Context())
	b.do(err)
	for _, h := range held {
		if !h.Safe() {
			continue
		}
		good := false
		for _, d := range b.broadcast().Deliveries[target] {
			if d.Segment.ID == h.ID {
				good = b.studio.Whole(d.Receipt.Tag)
			}
		}
		if !good {
			b.t.Errorf("I1: part %d is freed, and its transcode is not through", h.ID.Seq)
		}
		b.do(b.ledger.Reclaiming(b.t.Context(), h.ID))
		b.do(b.ledger.Reclaimed(b.t.Context(), h.ID))
	}
}

// wind spoils calls: by chance, or as told.
type wind struct {
	next http.RoundTripper

	mu     sync.Mutex
	chance *rand.Rand // nil: good weather
	bad    float64    // how many calls are spoilt
}

func (w *wind) calm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bad = 0
}

var errWind = errors.New("connection reset by peer")

func (w *wind) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	var before, after time.Duration
	kind := -1
	if w.chance != nil {
		before, after = time.Duration(w.chance.Int64N(int64(time.Second))), time.Duration(w.chance.Int64N(int64(time.Second)))
		if w.chance.Float64() < w.bad {
			kind = w.chance.IntN(8)
		}
	}
	w.mu.Unlock()
	nap := func(d time.Duration) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-r.Context().Done():
			return r.Context().Err()
		case <-timer.C:
			return nil
		}
	}
	if err := nap(before); err != nil {
		return nil, err
	}
	instead := func(status int, body string) *http.Response {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
	}
	switch kind {
	case 0:
		return nil, errWind
	case 1: // hangs
		<-r.Context().Done()
		return nil, r.Context().Err()
	case 2:
		return instead(502, "<html>502</html>"), nil
	case 3:
		return instead(200, `{"code":21070,"message":"投稿过快","data":null}`), nil
	case 4:
		return instead(200, `{"code":601,"message":"x","data":{"v_voucher":"voucher_x"}}`), nil
	}
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if err := nap(after); err != nil {
		return nil, err // a crash, or the end of patience: the answer is lost
	}
	switch kind {
	case 5, 6: // done, and nobody hears of it
		return nil, errWind
	case 7:
		return instead(504, ""), nil
	}
	return resp, nil
}

func eventually(t *testing.T, what string, most time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", most, what)
		}
		time.Sleep(max(time.Second, most/2000))
	}
}

func (b *bench) complete() bool { return b.broadcast().Session.Complete }

func (b *bench) verified() (n int) {
	for _, d := range b.broadcast().Deliveries[target] {
		if d.State == segment.Verified {
			n++
		}
	}
	return n
}

func (b *bench) leave() {
	b.t.Helper()
	b.do(b.ledger.Leave(b.t.Context(), b.session, time.Now(), segment.Account{}))
	select {
	case b.out <- segment.Outcome{Target: target}:
	default:
	}
}

// The first part makes the submission, each later one is added, all in order, and each counts when its transcode is
// through.
func TestAppendWhileLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.studio.Turn(func(k *bilitest.Knobs) { k.First, k.Second, k.Gap = 20*time.Second, 40*time.Second, 30*time.Second })
		b.start()
		for range 4 {
			b.record()
			b.carry(nil)
			time.Sleep(partSeconds * time.Second)
			b.free()
		}
		b.leave()
		eventually(t, "complete", 10*time.Minute, b.complete)
		b.free()
		if made := b.check(); made != 1 {
			t.Errorf("%d submissions", made)
		}
		a := b.studio.Archives()[0]
		if got := b.seqs(a.Files); !slices.Equal(got, []uint32{1, 2, 3, 4}) {
			t.Errorf("shows %v", got)
		}
		if a.Title != "a title" || a.Tag != "live,room" || !strings.HasPrefix(a.Titles[2], "P3 20") {
			t.Errorf("%+v", a)
		}
		// Each edit names the cids of the old parts: the stand-in counts those without as new.
		b.stop()
	})
}

// An old part that is out of order, a missing one in the middle: the list waits for what comes before.
func TestI4_PrefixOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		for range 4 {
			b.record()
		}
		b.carry(func(seq uint32) bool { return seq == 2 })
		time.Sleep(5 * time.Minute)
		if got := b.seqs(b.studio.Archives()[0].Files); !slices.Equal(got, []uint32{1}) {
			t.Errorf("shows %v", got)
		}
		b.carry(nil)
		eventually(t, "all four", 5*time.Minute, func() bool { return len(b.studio.Archives()[0].Files) == 4 })
		b.check()
		b.stop()
	})
}

// The answer to the creation is lost: the list is asked for the file name, and no second one is made, however late it
// shows the first (K9).
func TestK9_LostAnswer(t *testing.T) {
	for _, late := range []time.Duration{0, 3 * time.Minute, 25 * time.Minute, 2 * time.Hour} {
		t.Run(late.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.studio.Turn(func(k *bilitest.Knobs) { k.ListLate = late })
				b.server.Fault("POST member.bilibili.com/x/vu/web/add/v3", bilitest.Fault{Lose: true})
				b.start()
				b.record()
				b.carry(nil)
				time.Sleep(time.Minute)
				b.stop() // and a restart in between
				b.start()
				b.leave()
				eventually(t, "complete", 12*time.Hour, b.complete)
				if made := b.check(); made != 1 {
					t.Errorf("%d submissions", made)
				}
				b.stop()
			})
		})
	}
}

// A creation that never arrived is made again, after patience.
func TestLostCreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.server.Fault("POST member.bilibili.com/x/vu/web/add/v3", bilitest.Fault{Cut: true})
		b.start()
		b.record()
		b.carry(nil)
		b.leave()
		eventually(t, "complete", 3*time.Hour, b.complete)
		if made := b.check(); made != 1 {
			t.Errorf("%d submissions", made)
		}
		b.stop()
	})
}

// A part whose transcode fails is sent again and takes its place; one that failed late is no proof, although the
// submission is public by then (U 6.4).
func TestTranscodeFailure(t *testing.T) {
	for name, outcome := range map[string]bilitest.Outcome{"first stage": {Fail: 9}, "second stage": {Fail: 9, Late: true}, "too short": {Duration: 31}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				failed := 0
				b.studio.Turn(func(k *bilitest.Knobs) {
					k.First, k.Second = 30*time.Second, time.Minute
					k.Transcode = func(p bilitest.Part) bilitest.Outcome {
						if strings.HasSuffix(p.Name, "P0002.flv") && failed == 0 {
							failed++
							return outcome
						}
						return bilitest.Outcome{}
					}
				})
				b.start()
				for range 3 {
					b.record()
				}
				b.carry(nil)
				b.leave()
				for range 600 {
					time.Sleep(2 * time.Second)
					b.carry(nil)
					b.free()
				}
				if !b.complete() {
					t.Fatalf("not complete: %+v", b.broadcast().Publications)
				}
				if failed != 1 || len(b.files) != 4 {
					t.Errorf("failed %d times, %d objects", failed, len(b.files))
				}
				if made := b.check(); made != 1 {
					t.Errorf("%d submissions", made)
				}
				b.stop()
			})
		})
	}
}

// A part that fails again and again waits for a person, and nothing is freed.
func TestTranscodeFailsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.studio.Turn(func(k *bilitest.Knobs) {
			k.Transcode = func(p bilitest.Part) bilitest.Outcome { return bilitest.Outcome{Fail: 9} }
		})
		b.start()
		b.record()
		b.leave()
		for range 1000 {
			time.Sleep(5 * time.Second)
			b.carry(nil)
			b.free()
		}
		if len(b.files) != 2 || b.verified() != 0 {
			t.Errorf("sent %d times, %d proven", len(b.files), b.verified())
		}
		if why := b.broadcast().Publications[target].Why; !strings.Contains(why, "transcode failed") {
			t.Errorf("nobody is told: %q", why)
		}
		b.stop()
	})
}

// Caps: a full submission is followed by a numbered one, and the two name each other.
func TestContinuation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *submission.Config) { c.Parts = 2 })
		b.start()
		for range 5 {
			b.record()
			b.carry(nil)
			time.Sleep(time.Minute)
		}
		b.leave()
		eventually(t, "complete", time.Hour, b.complete)
		all := b.studio.Archives()
		if len(all) != 3 {
			t.Fatalf("%d submissions", len(all))
		}
		for i, want := range [][]uint32{{1, 2}, {3, 4}, {5}} {
			if got := b.seqs(all[i].Files); !slices.Equal(got, want) {
				t.Errorf("submission %d shows %v", i+1, got)
			}
		}
		if all[0].Title != "a title" || all[1].Title != "a title (2)" || all[2].Title != "a title (3)" {
			t.Errorf("titles %q, %q, %q", all[0].Title, all[1].Title, all[2].Title)
		}
		if !strings.Contains(all[1].Desc, "← https://www.bilibili.com/video/"+all[0].BVID) || !strings.Contains(all[1].Desc, "→ https://www.bilibili.com/video/"+all[2].BVID) ||
			!strings.Contains(all[0].Desc, "→ https://www.bilibili.com/video/"+all[1].BVID) {
			t.Errorf("links: %q, %q", all[0].Desc, all[1].Desc)
		}
		b.check()
		b.stop()
	})
}

// More than 100 parts at once go in several calls.
func TestManyPartsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *submission.Config) { c.Parts = 300 })
		b.start()
		for range 250 {
			b.record()
		}
		b.carry(nil)
		b.leave()
		eventually(t, "complete", time.Hour, b.complete)
		if all := b.studio.Archives(); len(all) != 1 || len(all[0].Files) != 250 {
			t.Errorf("%d submissions", len(all))
		}
		b.check()
		b.stop()
	})
}

func TestLostSubmission(t *testing.T) {
	for _, state := range []int{-2, -4, -100} {
		for _, goOn := range []bool{false, true} {
			t.Run(fmt.Sprint(state, goOn), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, func(c *submission.Config) { c.Continue = goOn })
					b.start()
					b.record()
					b.carry(nil)
					eventually(t, "the first part", 10*time.Minute, func() bool { return b.verified() == 1 })
					time.Sleep(40 * time.Minute)
					b.studio.Force(b.studio.Archives()[0].AID, state, "because")
					b.record()
					b.carry(nil)
					b.leave()
					time.Sleep(time.Hour)
					b.carry(nil)
					time.Sleep(time.Hour)
					all := b.studio.Archives()
					if goOn {
						if !b.complete() || len(all) != 2 || !slices.Equal(b.seqs(all[1].Files), []uint32{2}) {
							t.Errorf("complete %v: %+v", b.complete(), all)
						}
						b.stop()
						return
					}
					if b.complete() || len(all) != 1 || b.verified() != 1 {
						t.Errorf("held: %v, %d submissions, %d proven", b.complete(), len(all), b.verified())
					}
					if why := b.broadcast().Publications[target].Why; why == "" {
						t.Error("nobody is told")
					}
					b.studio.Force(all[0].AID, 0, "")
					eventually(t, "complete after it was put right", time.Hour, b.complete)
					b.stop()
				})
			})
		}
	}
}

// A submission that is not found for a moment is not lost.
func TestNotFoundForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *submission.Config) { c.Continue = true })
		b.studio.Turn(func(k *bilitest.Knobs) { k.First = 2 * time.Hour })
		b.start()
		b.record()
		b.carry(nil)
		time.Sleep(time.Hour)
		aid := b.studio.Archives()[0].AID
		b.studio.Force(aid, -100, "")
		b.record()
		b.carry(nil)
		time.Sleep(5 * time.Minute)
		b.studio.Force(aid, 0, "")
		b.leave()
		eventually(t, "complete", 6*time.Hour, b.complete)
		if all := b.studio.Archives(); len(all) != 1 || len(all[0].Files) != 2 {
			t.Errorf("%+v", all)
		}
		b.stop()
	})
}

// What is not proven when a submission is lost is sent again into the next one.
func TestLostBeforeItWasProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *submission.Config) { c.Continue = true })
		b.studio.Turn(func(k *bilitest.Knobs) { k.First, k.Second = time.Hour, time.Hour })
		b.start()
		for range 2 {
			b.record()
		}
		b.carry(nil)
		eventually(t, "the submission", 10*time.Minute, func() bool { return len(b.studio.Archives()) == 1 })
		b.studio.Force(b.studio.Archives()[0].AID, -4, "a duplicate")
		b.leave()
		for range 400 {
			time.Sleep(time.Minute)
			b.carry(nil)
			b.free()
		}
		all := b.studio.Archives()
		if !b.complete() || len(all) != 2 || !slices.Equal(b.seqs(all[1].Files), []uint32{1, 2}) {
			t.Errorf("complete %v: %+v", b.complete(), all)
		}
		b.stop()
	})
}

// What a person changes on the page is left alone; what changes here reaches the next edit.
func TestEditsByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		b.record()
		b.carry(nil)
		eventually(t, "the first part", 10*time.Minute, func() bool { return b.verified() == 1 })
		aid := b.studio.Archives()[0].AID
		foreign := b.studio.Store(b.user, "trailer.mp4", bilitest.TestPart(5, 100))
		b.studio.ByHand(aid, map[string]string{"title": "a title by hand", "desc": "words"}, foreign)
		b.files[foreign] = 0
		b.stop()
		b.cfg.Tag = template(t, "other")
		b.start()
		b.record()
		b.carry(nil)
		b.leave()
		eventually(t, "complete", time.Hour, b.complete)
		a := b.studio.Archives()[0]
		if a.Title != "a title by hand" || a.Desc != "words" || a.Tag != "other" {
			t.Errorf("%+v", a)
		}
		if got := b.seqs(a.Files); len(got) != 3 || !slices.Contains(a.Files, foreign) || slices.Index(got, 1) > slices.Index(got, 2) {
			t.Errorf("shows %v", got)
		}
		b.stop()
	})
}

// A dead login is one refusal; a new cookie file is seen within 5 s.
func TestDeadLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.server.Expire(b.user)
		b.start()
		b.record()
		b.carry(nil)
		time.Sleep(time.Minute)
		if n := len(b.server.Requests("POST member.bilibili.com/*")); n != 1 {
			t.Errorf("a dead login was tried %d times", n)
		}
		if why := b.broadcast().Publications[target].Why; !strings.Contains(why, "liverec login bilibili") {
			t.Errorf("the cure is not told: %q", why)
		}
		time.Sleep(time.Minute)
		b.server.Login(b.user)
		b.login()
		later := time.Now().Add(time.Minute)
		b.do(os.Chtimes(b.cookies, later, later))
		eventually(t, "the submission", 6*time.Second, func() bool { return len(b.studio.Archives()) == 1 })
		b.stop()
	})
}

// A release says when a part counts.
func TestRelease(t *testing.T) {
	for release, want := range map[submission.Release]time.Duration{
		submission.Listed: 2 * time.Minute, submission.Transcoded: 20 * time.Minute, submission.Published: 3 * time.Hour,
	} {
		t.Run(string(release), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(c *submission.Config) { c.Release = release })
				b.studio.Turn(func(k *bilitest.Knobs) { k.First, k.Second, k.Review = 2*time.Minute, 18*time.Minute, 3*time.Hour })
				b.start()
				b.record()
				b.carry(nil)
				began := time.Now()
				eventually(t, "proven", 12*time.Hour, func() bool { return b.verified() == 1 })
				if took := time.Since(began); took < want || took > 2*want+11*time.Minute {
					t.Errorf("took %v", took)
				}
				b.stop()
			})
		})
	}
}

// A part whose transcode fails is repaired, sent again and put in its place, under another cid; what cannot be repaired, is
// sound, or would play otherwise is sent again as it is. A crash at any step makes no second failure of the first.
func TestBrokenPartIsRepaired(t *testing.T) {
	errPower := errors.New("the power is off")
	for name, c := range map[string]struct {
		mended segment.Copy
		err    error
		copied bool
		crash  string // the record that is not made the first time
	}{
		"repaired":             {mended: segment.Copy{Path: "media/x/P0002.repaired.flv", Size: 300, Duration: partSeconds * time.Second}, copied: true},
		"and a crash before":   {mended: segment.Copy{Path: "media/x/P0002.repaired.flv", Size: 300, Duration: partSeconds * time.Second}, copied: true, crash: "instead"},
		"sound":                {},
		"sound, and a crash":   {crash: "again"},
		"cannot be repaired":   {err: errors.New("no media in it")},
		"half of it is left":   {mended: segment.Copy{Path: "media/x/P0002.repaired.flv", Size: 100, Duration: partSeconds / 2 * time.Second}},
		"the note is not made": {mended: segment.Copy{Path: "media/x/P0002.repaired.flv", Size: 300, Duration: partSeconds * time.Second}, copied: true, crash: "named"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				var mu sync.Mutex // over sent and crashed
				var sent [][]byte
				crashed := c.crash == ""
				b.studio.Turn(func(k *bilitest.Knobs) {
					k.First, k.Second = 30*time.Second, time.Minute
					k.Transcode = func(p bilitest.Part) (o bilitest.Outcome) {
						mu.Lock()
						defer mu.Unlock()
						if strings.HasSuffix(p.Name, "P0002.flv") {
							if sent = append(sent, p.Data); len(sent) == 1 {
								o.Fail = 9
							}
						}
						return o
					}
				})
				b.ledger.Hook = func(step string, after bool) error {
					mu.Lock()
					defer mu.Unlock()
					if !crashed && !after && step == c.crash && len(sent) == 1 {
						crashed = true
						return errPower
					}
					return nil
				}
				b.mend = func(_ context.Context, to segment.TargetID, s segment.Segment) (segment.Copy, error) {
					if to != target || s.ID.Seq != 2 {
						t.Errorf("part %d for %s is repaired", s.ID.Seq, to)
					}
					return c.mended, c.err
				}
				b.start()
				for range 3 {
					b.record()
				}
				b.carry(nil)
				b.leave()
				for range 400 {
					time.Sleep(5 * time.Second)
					b.carry(nil)
					if b.complete() {
						break
					}
				}
				b.stop() // nobody else is there any more
				if !b.complete() || !crashed {
					t.Fatalf("complete %v, crashed %v: %+v", b.complete(), crashed, b.broadcast().Publications)
				}
				if d := b.broadcast().Deliveries[target][1]; (d.Instead.Path != "") != c.copied || len(sent) != 2 || (len(sent[1]) == 300) != c.copied {
					t.Errorf("instead %+v, sent %d times", d.Instead, len(sent))
				}
				a := b.studio.Archives()[0]
				if got := b.seqs(a.Files); !slices.Equal(got, []uint32{1, 2, 3}) || len(b.files) != 4 {
					t.Errorf("shows %v of %d objects", got, len(b.files))
				}
				b.check()
			})
		})
	}
}

// Web and app are two ways into a submission: a refusal of the one has the other tried at once. Where the cookie file holds
// no token there is one way only.
func TestOtherWay(t *testing.T) {
	for _, code := range []int64{21138, 21150, 21564, 21566, 21590, 137022} {
		for _, token := range []bool{true, false} {
			t.Run(fmt.Sprint(code, token), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					if !token {
						b.do(os.WriteFile(b.cookies, []byte(cookieHeader(t, b.server.CookieFile(b.user))), 0o600))
					}
					b.studio.Turn(func(k *bilitest.Knobs) { k.WebAdd, k.WebEdit = code, code })
					if code == 21566 && token { // the second call comes too soon behind the first
						b.server.Fault("POST member.bilibili.com/x/vu/app/add", bilitest.Fault{Code: 21070})
					}
					b.start()
					b.record()
					b.carry(nil)
					time.Sleep(time.Minute)
					if !token {
						told := b.alerts()
						if n := len(b.studio.Archives()); n != 0 || len(told) != 1 || !strings.Contains(told[0].Why, fmt.Sprint(code)) {
							t.Errorf("%d submissions, told %+v", n, told)
						}
						b.stop()
						return
					}
					b.record()
					b.carry(nil)
					b.leave()
					eventually(t, "complete", time.Hour, b.complete)
					if made, told := b.check(), b.alerts(); made != 1 || len(told) != 0 && code != 21566 {
						t.Errorf("%d submissions, told %+v", made, told)
					}
					if n := len(b.server.Requests("POST member.bilibili.com/x/vu/web/*")); n != 1 {
						t.Errorf("the way that is refused was tried %d times", n) // once: the other one comes first from then on
					}
					b.stop()
				})
			})
		}
	}
}

// cookieHeader is a login without a token.
func cookieHeader(t *testing.T, file []byte) string {
	t.Helper()
	c, err := bilibili.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return c.Cookie().Reveal()
}

// Every refusal that asks for patience is one condition with the wait and what a person can do; nothing is lost, and it
// is resolved when it is over.
func TestEveryRefusalIsOneAlert(t *testing.T) {
	voucher := map[string]any{"v_voucher": "voucher_x"}
	for name, c := range map[string]struct {
		fault bilitest.Fault
		want  string // of the condition
		most  time.Duration
	}{
		"601 with a captcha": {bilitest.Fault{Code: 601, Data: voucher}, "601", time.Hour},
		"406":                {bilitest.Fault{Code: 406}, "406", time.Hour},
		"21070":              {bilitest.Fault{Code: 21070}, "21070", time.Hour},
		"21186":              {bilitest.Fault{Code: 21186}, "21186", 2 * time.Hour},
		"21515":              {bilitest.Fault{Code: 21515}, "21515", 48 * time.Hour},
		"21564":              {bilitest.Fault{Code: 21564}, "21564", 60 * time.Hour},
		"21566":              {bilitest.Fault{Code: 21566}, "21566", 5 * time.Hour},
		"137022":             {bilitest.Fault{Code: 137022}, "137022", 10 * time.Hour},
		"21111":              {bilitest.Fault{Code: 21111}, "21111", time.Hour},
		"21138":              {bilitest.Fault{Code: 21138}, "21138", 2 * time.Hour},
		"-412":               {bilitest.Fault{Code: -412}, "-412", time.Hour},
		"HTTP 412":           {bilitest.Fault{Status: 412, Body: "<html>"}, "412", time.Hour},
		"-352":               {bilitest.Fault{Code: -352}, "-352", time.Hour},
		"-799":               {bilitest.Fault{Code: -799}, "-799", time.Hour},
		"a captcha alone":    {bilitest.Fault{Data: voucher}, "-352", time.Hour},
	} {
		if raceEnabled && c.most > time.Hour {
			continue // a second of CPU for a day of waiting
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				f := c.fault
				if f.Times = 2; bilibili.OtherWay(&bilibili.Refusal{Code: f.Code}) {
					f.Times = 4 // by each way
				}
				b.server.Fault("POST member.bilibili.com/x/vu/*", f)
				b.start()
				b.record()
				b.carry(nil)
				time.Sleep(20 * time.Second)
				told := b.alerts()
				if len(told) != 1 || told[0].Resolved || !strings.Contains(told[0].Why, c.want) || !strings.Contains(told[0].Why, "the next try is at 20") {
					t.Fatalf("told %+v", told)
				}
				b.leave()
				eventually(t, "complete", c.most, b.complete)
				if told = b.alerts(); len(told) != 2 || !told[1].Resolved {
					t.Errorf("told %+v", told)
				}
				if made := b.check(); made != 1 {
					t.Errorf("%d submissions", made)
				}
				b.stop()
			})
		})
	}
}

// One below the cap, the cap, and one above, in one go and one after the other; the 100 of a single call too.
func TestCaps(t *testing.T) {
	for _, c := range []struct{ most, parts, want int }{{3, 2, 1}, {3, 3, 1}, {3, 4, 2}, {100, 99, 1}, {100, 100, 1}, {100, 101, 2}, {101, 101, 1}} {
		for _, slowly := range []bool{false, true} {
			if slowly && c.parts > 10 {
				continue
			}
			t.Run(fmt.Sprint(c, slowly), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, func(cfg *submission.Config) { cfg.Parts = c.most })
					b.start()
					for range c.parts {
						b.record()
						if slowly {
							b.carry(nil)
							time.Sleep(time.Minute)
						}
					}
					b.carry(nil)
					b.leave()
					eventually(t, "complete", time.Hour, b.complete)
					all := b.studio.Archives()
					if made := b.check(); made != c.want || len(all) != c.want || len(all[0].Files) != min(c.most, c.parts) {
						t.Errorf("%d submissions, the first with %d parts", made, len(all[0].Files))
					}
					if len(all) == 2 && (!strings.Contains(all[0].Desc, all[1].BVID) || !strings.Contains(all[1].Desc, all[0].BVID)) {
						t.Errorf("they do not name each other: %q, %q", all[0].Desc, all[1].Desc)
					}
					b.stop()
				})
			})
		}
	}
}

// A source that falls to pieces makes many tiny parts: they are added together, with no more calls than the pace has.
func TestTinyPartsComeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.studio.Turn(func(k *bilitest.Knobs) { k.Gap = 30 * time.Second })
		b.start()
		began := time.Now()
		for range 60 {
			b.record()
			b.carry(nil)
			time.Sleep(2 * time.Second)
		}
		b.leave()
		eventually(t, "complete", time.Hour, b.complete)
		calls := len(b.server.Requests("POST member.bilibili.com/*"))
		if most := int(time.Since(began)/(30*time.Second)) + 1; calls > most || calls > 7 {
			t.Errorf("%d calls for 60 parts in %v", calls, time.Since(began))
		}
		b.check()
		b.stop()
	})
}

// What a person changes during the broadcast reaches the submission with the next edit, which comes as soon as the pace
// allows, and outlives a restart; nothing else is touched.
func TestEditWhileLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		if err := b.control.Edit(t.Context(), b.session, control.Facts{Title: "early"}); err == nil {
			t.Error("an edit of a submission that is not there yet")
		}
		b.record()
		b.carry(nil)
		eventually(t, "the first part", 10*time.Minute, func() bool { return b.verified() == 1 })
		b.do(b.control.Edit(t.Context(), b.session, control.Facts{Title: " another title ", Cover: "https://i0.hdslb.com/x.jpg"}))
		eventually(t, "the title", time.Minute, func() bool { return b.studio.Archives()[0].Title == "another title" })
		if err := b.control.Edit(t.Context(), b.session, control.Facts{Title: strings.Repeat("长", 81)}); err == nil {
			t.Error("81 characters were taken")
		}
		if err := b.control.Edit(t.Context(), "01NOBODY", control.Facts{Title: "x"}); err == nil {
			t.Error("an edit of no broadcast was taken")
		}
		b.do(b.control.Edit(t.Context(), b.session, control.Facts{Tag: "one,two", Desc: "words"}))
		b.stop() // before it is shown
		b.start()
		b.record()
		b.carry(nil)
		b.leave()
		eventually(t, "complete", time.Hour, b.complete)
		a := b.studio.Archives()[0]
		if a.Title != "another title" || a.Tag != "one,two" || a.Desc != "words" || a.Cover != "https://i0.hdslb.com/x.jpg" || len(a.Files) != 2 {
			t.Errorf("%+v", a)
		}
		b.check()
		b.stop()
	})
}

// A room has a title of its own, and another one while the broadcast goes on reaches the submission with its next edit.
func TestTitleOfARoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := "{room}, first"
		b := newBench(t, func(c *submission.Config) {
			c.TitleOf = func(r segment.Room) (naming.Template, bool) { return template(t, text), r.ID == "r" }
		})
		b.start()
		b.record()
		b.carry(nil)
		eventually(t, "the first part", 10*time.Minute, func() bool { return b.verified() == 1 })
		if got := b.studio.Archives()[0].Title; got != "room, first" {
			t.Errorf("title %q", got)
		}
		text = "{room}, second"
		b.record()
		b.carry(nil)
		eventually(t, "the second part", 10*time.Minute, func() bool { return b.verified() == 2 })
		if got := b.studio.Archives()[0].Title; got != "room, second" {
			t.Errorf("title %q", got)
		}
		b.stop()
	})
}

// Ask asks again about what was proven before, without changing anything.
func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		for range 2 {
			b.record()
		}
		b.carry(nil)
		b.leave()
		eventually(t, "complete", time.Hour, b.complete)
		b.stop()
		cfg := b.cfg
		cfg.Account = func() (*bilibili.Client, *bilibili.Governor, error) {
			a, err := bilibili.OpenAccount(b.cookies)
			if err != nil {
				return nil, nil, err
			}
			return bilibili.NewClient(bilibili.Config{Account: a, Log: zerolog.Nop(), Transport: b.wind}), a.Governor(bilibili.Pace{}, zerolog.Nop()), nil
		}
		p, err := submission.New(cfg)
		b.do(err)
		x := b.broadcast()
		l := control.List{Session: x.Session, Parts: x.Deliveries[target], Token: x.Publications[target].Token}
		proofs, _, err := p.Ask(t.Context(), l)
		if err != nil || len(proofs) != 2 || proofs[1].Size != 200 {
			t.Errorf("%+v, %v", proofs, err)
		}
		b.studio.Force(b.studio.Archives()[0].AID, -100, "")
		if proofs, why, err := p.Ask(t.Context(), l); err != nil || len(proofs) != 0 || len(why) != 2 {
			t.Errorf("deleted: %+v, %v, %v", proofs, why, err)
		}
	})
}

// 1,000 seeded schedules of faults and crashes: at most one submission is made per broadcast, the list is always a
// prefix of the recording, nothing is lost, and nothing is freed before its proof. A few of them here, all of them with
// LIVEREC_ALL_SCHEDULES=1.
func TestFaultSchedules(t *testing.T) {
	n := 60
	if os.Getenv("LIVEREC_ALL_SCHEDULES") != "" {
		n = 1000
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { schedule(t, uint64(seed)) })
		})
	}
}

func schedule(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 5))
	b := newBench(t, func(c *submission.Config) {
		if r.IntN(4) == 0 {
			c.Parts = 2 + r.IntN(3)
		}
	})
	span := func(most time.Duration) time.Duration { return time.Duration(r.Int64N(int64(most))) }
	chance := rand.New(rand.NewPCG(seed, 6))
	var mu sync.Mutex
	failures := map[string]bool{}
	b.studio.Turn(func(k *bilitest.Knobs) {
		k.First, k.Second, k.Review = span(5*time.Minute), span(30*time.Minute), span(3*time.Hour)
		k.Gap = 30 * time.Second
		if r.IntN(2) == 0 {
			k.ListLate = span(4 * time.Minute)
		}
		k.Transcode = func(p bilitest.Part) bilitest.Outcome {
			mu.Lock()
			defer mu.Unlock()
			if failures[p.Name] || chance.IntN(6) != 0 {
				return bilitest.Outcome{}
			}
			failures[p.Name] = true
			return bilitest.Outcome{Fail: 9, Late: chance.IntN(2) == 0}
		}
	})
	b.wind.chance, b.wind.bad = rand.New(rand.NewPCG(seed, 7)), []float64{0, 0.1, 0.3, 0.6}[r.IntN(4)]
	if r.IntN(2) == 0 {
		b.mend = func(ctx context.Context, _ segment.TargetID, s segment.Segment) (segment.Copy, error) {
			select {
			case <-ctx.Done():
				return segment.Copy{}, ctx.Err()
			case <-time.After(time.Duration(s.ID.Seq) * 10 * time.Second):
				return segment.Copy{Path: s.Path + ".repaired", Size: s.Size + 100, Duration: s.Duration}, nil
			}
		}
	}
	parts := 1 + r.IntN(7)
	b.start()
	for range parts {
		b.record()
		if r.IntN(3) > 0 {
			b.carry(func(uint32) bool { return r.IntN(5) == 0 })
		}
		for range r.IntN(3) {
			time.Sleep(span(3 * time.Minute))
			if r.IntN(3) == 0 {
				b.stop()
				b.start()
			}
			b.free()
		}
	}
	b.leave()
	if r.IntN(3) == 0 {
		b.stop()
		b.start()
	}
	for i := range 400 {
		if i == 40 {
			b.wind.calm()
		}
		time.Sleep(span(12 * time.Minute))
		b.carry(nil)
		b.free()
		if b.complete() {
			break
		}
	}
	b.stop()
	if !b.complete() {
		t.Fatalf("seed %d: %d of %d parts proven, list %+v", seed, b.verified(), parts, b.broadcast().Publications[target])
	}
	b.free()
	made := b.check()
	if want := (parts + b.cfg.Parts - 1) / b.cfg.Parts; made != want {
		t.Errorf("seed %d: %d submissions, not %d", seed, made, want)
	}
	var shown []uint32
	for _, a := range b.studio.Archives() {
		shown = append(shown, b.seqs(a.Files)...)
	}
	if len(shown) != parts || !slices.IsSorted(shown) || slices.Contains(shown, 0) {
		t.Errorf("seed %d: %d parts were recorded, %v are shown", seed, parts, shown)
	}
	if bytes.Contains([]byte(fmt.Sprint(b.server.Strays())), []byte("bili")) {
		t.Errorf("strays: %v", b.server.Strays())
	}
}
