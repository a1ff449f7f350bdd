package s3

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
)

func (f *fake) left(t *testing.T, when string) {
	t.Helper()
	f.with(func() {
		for id, u := range f.uploads {
			t.Errorf("%s: upload %s of %s is left", when, id, u.key)
		}
	})
}

// Whatever the target does next, and at the latest its end, takes away what a Check left whose answer was lost; also
// where the store does not list it yet.
func TestLostCheckIsSwept(t *testing.T) {
	losses := map[string]func(what string, nth int) fate{
		"creation": func(what string, nth int) fate { return fate{lost: what == "CREATE" && nth == 1} },
		"abort": func(what string, nth int) fate {
			if what == "ABORT" && nth == 1 {
				return fate{status: 502}
			}
			return fate{}
		},
	}
	next := map[string]func(t *testing.T, f *fake, target *Target){
		"check": func(t *testing.T, _ *fake, target *Target) { must(t, target.Check(t.Context())) },
		"keep": func(t *testing.T, _ *fake, target *Target) {
			must(t, target.Keep(t.Context(), "m.json", []byte("{}")))
		},
		"commit": func(t *testing.T, f *fake, target *Target) {
			o, data := object(t, f.part+1, f.part)
			_, _, _, err := send(t, target, o, data)
			must(t, err)
		},
		"close": func(t *testing.T, _ *fake, target *Target) { must(t, target.Close()) },
	}
	for lost, trouble := range losses {
		for name, act := range next {
			for _, hide := range []int{0, 1} {
				t.Run(fmt.Sprintf("%s, then %s, hidden from %d listings", lost, name, hide), func(t *testing.T) {
					f := newFake(t)
					target := f.target(t)
					f.behave(trouble)
					if err := target.Check(t.Context()); err == nil {
						t.Fatal("the answer was not lost")
					}
					f.with(func() { f.hideUploads = hide })
					act(t, f, target)
					if hide > 0 {
						must(t, target.Keep(t.Context(), "m2.json", []byte("{}")))
					}
					f.left(t, "then")
				})
			}
		}
	}
}

// A target that owes nothing asks nothing, and a debt is not looked after for ever.
func TestNoListingsWhenNothingIsOwed(t *testing.T) {
	f := newFake(t)
	target := f.target(t, func(c *Config) { c.late = 50 * time.Millisecond })
	must(t, target.Check(t.Context()))
	keep := func() (listings int) {
		n := f.count("LIST uploads")
		must(t, target.Keep(t.Context(), "m.json", []byte("{}")))
		return f.count("LIST uploads") - n
	}
	if n := keep(); n != 0 {
		t.Errorf("%d listings when nothing is owed", n)
	}
	f.behave(func(what string, nth int) fate { return fate{lost: what == "CREATE"} })
	if err := target.Check(t.Context()); err == nil {
		t.Fatal("the answer was not lost")
	}
	time.Sleep(60 * time.Millisecond)
	if n := keep(); n != 1 {
		t.Errorf("%d listings for one debt", n)
	}
	f.left(t, "after the sweep")
	if n := keep(); n != 0 {
		t.Errorf("%d listings when it was paid", n)
	}
	// A refusal creates nothing, and neither does a store that nobody reaches.
	f.behave(func(what string, nth int) fate {
		if what == "CREATE" {
			return fate{status: 403, code: "AccessDenied"}
		}
		return fate{}
	})
	wantTrouble(t, "check", target.Check(t.Context()), failure.NeedsHuman, "")
	if n := keep(); n != 0 {
		t.Errorf("%d listings after a refusal", n)
	}
	n := f.count("")
	must(t, target.Close())
	if f.count("") != n {
		t.Error("asked at the end although nothing was owed")
	}
	far := unreachable(t).(*Target)
	if err := far.Check(t.Context()); err == nil || len(far.debts.m) != 0 {
		t.Errorf("a store that nobody reaches: %v, %d debts", err, len(far.debts.m))
	}
}

// A sweep takes the lost upload of a key and leaves alone the one that is in use, other keys, and other processes.
func TestSweepLeavesWhatIsInUse(t *testing.T) {
	f := newFake(t)
	o, data := object(t, 2*f.part, f.part)
	target, other := f.target(t), f.target(t)
	theirs := o
	theirs.Key = "alice/P0002.flv"
	their, err := other.Open(t.Context(), theirs)
	must(t, err)
	f.behave(func(what string, nth int) fate { return fate{lost: what == "CREATE" && nth == 1} })
	if _, err := target.Open(t.Context(), o); err == nil {
		t.Fatal("the answer was not lost")
	}
	f.with(func() { f.hideUploads = 1 })
	up, err := target.Open(t.Context(), o) // does not see it yet
	must(t, err)
	f.with(func() {
		if len(f.uploads) != 3 {
			t.Fatalf("%d uploads", len(f.uploads))
		}
	})
	must(t, target.Keep(t.Context(), "m.json", []byte("{}")))
	f.with(func() {
		if len(f.uploads) != 2 {
			t.Errorf("%d uploads are left, not the two in use", len(f.uploads))
		}
	})
	var acks, theirAcks []segment.Ack
	for _, c := range plan(o) {
		a, err := up.Put(t.Context(), c, section(data, c))
		must(t, err)
		acks = append(acks, a)
		a, err = their.Put(t.Context(), c, section(data, c))
		must(t, err)
		theirAcks = append(theirAcks, a)
	}
	must(t, target.Close()) // an upload that is under way is gone on with by the next process
	_, err = up.Commit(t.Context(), o, acks)
	must(t, err)
	_, err = their.Commit(t.Context(), theirs, theirAcks)
	must(t, err)
	f.left(t, "after both commits")
}

// Two processes check at once: one sweeps the other's probe, and that is no trouble.
func TestChecksOfTwoProcesses(t *testing.T) {
	f := newFake(t)
	a, b := f.target(t), f.target(t)
	var once sync.Once
	f.behave(func(what string, nth int) fate {
		if what == "ABORT" && nth == 1 { // a's, after its probe was opened
			once.Do(func() { clear(f.uploads) })
		}
		return fate{}
	})
	must(t, a.Check(t.Context()))
	var wg sync.WaitGroup
	for _, target := range []*Target{a, b} {
		wg.Go(func() {
			for range 20 {
				if err := target.Check(t.Context()); err != nil {
					t.Errorf("check: %v", err)
				}
			}
		})
	}
	wg.Wait()
	f.left(t, "after the checks")
}

// An upload whose object stands there already, when it is to be completed, is not left behind.
func TestCommitOfWhatIsThereLeavesNothing(t *testing.T) {
	for _, rejects := range []bool{false, true} {
		f := newFake(t)
		f.rejects, f.noChecksums = rejects, rejects
		o, data := object(t, f.part+1, f.part)
		target := f.target(t)
		growing := o
		growing.Size, growing.SHA256 = -1, segment.Sum{}
		up, err := target.Open(t.Context(), growing)
		must(t, err)
		var acks []segment.Ack
		for _, c := range plan(o) {
			a, err := up.Put(t.Context(), c, section(data, c))
			must(t, err)
			acks = append(acks, a)
		}
		f.put(key, &fakeObject{data: data, etag: "x"})
		_, err = up.Commit(t.Context(), o, acks)
		must(t, err)
		f.left(t, fmt.Sprintf("store without conditions %v", rejects))
	}
}

// The answer to the creation is lost, it is listed late, and the answer to the completion is lost as well: what asks for
// that upload finds the other one, also in another process.
func TestLostCreationAndLostCompletion(t *testing.T) {
	for name, settle := range map[string]func(t *testing.T, f *fake, target *Target, o segment.Object, token string){
		"aborted": func(t *testing.T, _ *fake, target *Target, o segment.Object, token string) {
			must(t, target.upload(o, token).Abort(t.Context()))
		},
		"resumed": func(t *testing.T, f *fake, _ *Target, o segment.Object, token string) {
			if _, _, err := f.target(t).Resume(t.Context(), o, token); err == nil {
				t.Error("it was completed and goes on")
			}
		},
		"closed": func(t *testing.T, _ *fake, target *Target, _ segment.Object, _ string) { must(t, target.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			target := f.target(t)
			o, data := object(t, f.part+1, f.part)
			f.behave(func(what string, nth int) fate {
				return fate{lost: (what == "CREATE" || what == "COMPLETE") && nth == 1}
			})
			if _, err := target.Open(t.Context(), o); err == nil {
				t.Fatal("the answer was not lost")
			}
			f.with(func() { f.hideUploads = 1 })
			up, _, _, err := send(t, target, o, data)
			if err == nil {
				t.Fatal("the answer was not lost")
			}
			settle(t, f, target, o, up.Token())
			f.left(t, "then")
			if got := f.get(key); got == nil || !bytes.Equal(got.data, data) {
				t.Error("the object is not what was sent")
			}
		})
	}
}

// paced is a link on which a body takes its time; it counts what is under way at once.
type paced struct{ http.RoundTripper }

func (p paced) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil && req.ContentLength > 0 {
		req = req.Clone(req.Context())
		req.Body = slow{req.Body}
	}
	return p.RoundTripper.RoundTrip(req)
}

type slow struct{ io.ReadCloser }

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(500 * time.Microsecond)
	return s.ReadCloser.Read(p[:min(len(p), 8<<10)])
}

// A long segment that grows costs one request for each chunk and six besides, and no memory that grows with it.
func TestGrowingUploadOfManyChunks(t *testing.T) {
	f := newFake(t)
	f.part = 16 << 10
	tr := newTransport()
	target := f.target(t, func(c *Config) { c.Transport = paced{tr} })
	defer tr.CloseIdleConnections()
	const chunks = 200
	o, data := object(t, chunks*f.part, f.part)
	growing := o
	growing.Size, growing.SHA256 = -1, segment.Sum{}
	up, err := target.Open(t.Context(), growing)
	must(t, err)
	before := runtime.NumGoroutine()
	acks := make([]segment.Ack, chunks)
	most := 0
	for _, batch := range slices.Collect(slices.Chunk(plan(o), 4)) {
		var wg sync.WaitGroup
		for _, c := range batch {
			wg.Go(func() {
				a, err := up.Put(t.Context(), c, section(data, c))
				if err != nil {
					t.Errorf("put chunk %d: %v", c.Index, err)
				}
				acks[c.Index] = a
			})
		}
		wg.Wait()
		most = max(most, runtime.NumGoroutine()-before)
	}
	r, err := up.Commit(t.Context(), o, acks)
	must(t, err)
	_, err = target.Verify(t.Context(), o, r)
	must(t, err)
	count := map[string]int{}
	for _, l := range f.requests() {
		if strings.HasPrefix(l, "PUT part") {
			l = "PUT part"
		}
		count[l]++
	}
	want := map[string]int{"HEAD object": 2, "HEAD bucket": 1, "LIST uploads": 2, "CREATE": 1, "PUT part": chunks, "COMPLETE": 1}
	for l, n := range count {
		if n != want[l] {
			t.Errorf("%d requests %s, want %d", n, l, want[l])
		}
	}
	// Four connections, with two goroutines here and one or two in the fake for each; not one for each chunk.
	if most > 24 {
		t.Errorf("%d goroutines more after 200 chunks", most)
	}
}
