package wrap_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/limit"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
	"github.com/liverec/liverec/uploader/wrap"
)

var limits = uploader.Limits{MinChunk: 10, MaxChunk: 1 << 20, MaxChunks: 10_000, Parallel: 4, Growing: true}

var object = segment.Object{Key: "alice/P0001.flv", Size: 100_000, Chunk: 100_000}

var errWeather = &failure.Error{Op: "call", Kind: failure.Transient, Err: errors.New("connection reset")}

func put(t *testing.T, target uploader.Target, body io.ReadSeeker) (segment.Ack, error) {
	t.Helper()
	up, err := target.Open(t.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	return up.Put(t.Context(), segment.Chunk{Length: object.Size}, body)
}

func media() *strings.Reader { return strings.NewReader(strings.Repeat("0123456789", 10_000)) }

func TestRetryHealsABlip(t *testing.T) {
	for _, c := range []struct {
		name  string
		fate  func(n int) wrap.Fate
		calls int64
		good  bool
	}{
		{"none", func(int) wrap.Fate { return wrap.Fate{} }, 1, true},
		{"two blips", func(n int) wrap.Fate { return wrap.Fate{Err: weatherUntil(n, 2)} }, 3, true},
		{"three blips", func(n int) wrap.Fate { return wrap.Fate{Err: weatherUntil(n, 3)} }, 3, false},
		{"lost answers", func(n int) wrap.Fate { return wrap.Fate{Lost: n <= 2} }, 3, true},
		{"body breaks off", func(n int) wrap.Fate { return wrap.Fate{Cut: n <= 2} }, 3, true},
		{"fails slowly", func(n int) wrap.Fate { return wrap.Fate{Wait: 4 * time.Second, Err: weatherUntil(n, 1)} }, 1, false},
		{"throttled", func(n int) wrap.Fate { return wrap.Fate{Err: &failure.Error{Kind: failure.Throttled}} }, 1, false},
		{"needs a person", func(n int) wrap.Fate { return wrap.Fate{Err: &failure.Error{Kind: failure.NeedsHuman}} }, 1, false},
		{"an answer", func(n int) wrap.Fate { return wrap.Fate{Err: &failure.Error{Err: failure.ErrAbsent}} }, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				remote := targettest.NewRemote(limits)
				target := wrap.Retry(wrap.Fault(remote.Target("memory:"), func(call wrap.Call) wrap.Fate {
					if call.Op != wrap.OpPut {
						return wrap.Fate{}
					}
					calls.Add(1)
					return c.fate(call.Nth)
				}))
				begin := time.Now()
				_, err := put(t, target, media())
				if (err == nil) != c.good || calls.Load() != c.calls {
					t.Errorf("%d calls, %v", calls.Load(), err)
				}
				if took := time.Since(begin); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func weatherUntil(n, last int) error {
	if n <= last {
		return errWeather
	}
	return nil
}

// TestRetryDoesNotRepeatACommit: whether it was carried out has to be asked first.
func TestRetryDoesNotRepeatACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := targettest.NewRemote(limits)
		n := 0
		target := wrap.Retry(wrap.Fault(remote.Target("memory:"), func(c wrap.Call) wrap.Fate {
			if c.Op == wrap.OpCommit {
				n++
			}
			return wrap.Fate{Lost: c.Op == wrap.OpCommit}
		}))
		up, err := target.Open(t.Context(), object)
		if err != nil {
			t.Fatal(err)
		}
		a, err := up.Put(t.Context(), segment.Chunk{Length: object.Size}, media())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := up.Commit(t.Context(), object, []segment.Ack{a}); err == nil || n != 1 {
			t.Errorf("%d commits, %v", n, err)
		}
	})
}

// late is a target whose transport goes on reading after its call has failed, as net/http may.
type late struct{ uploader.Target }

type lateUpload struct {
	uploader.Upload
	tries int
}

func (l late) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	up, err := l.Target.Open(ctx, o)
	return &lateUpload{Upload: up}, err
}

func (u *lateUpload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	if u.tries++; u.tries > 1 {
		return u.Upload.Put(ctx, c, body)
	}
	go func() {
		for range 1000 {
			time.Sleep(time.Millisecond)
			if _, err := body.Read(make([]byte, 10)); err != nil {
				return
			}
		}
	}()
	return segment.Ack{}, errWeather
}

func TestRetryIsNotDisturbedByALateReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := targettest.NewRemote(limits)
		slow := wrap.Meter(remote.Target("memory:"), func(int) { time.Sleep(10 * time.Millisecond) })
		a, err := put(t, wrap.Retry(late{slow}), media())
		if err != nil {
			t.Fatal(err)
		}
		want, err := put(t, remote.Target("memory:"), media())
		if err != nil || a.Sum != want.Sum {
			t.Errorf("%08x arrived, not %08x (%v)", a.Sum, want.Sum, err)
		}
		time.Sleep(time.Minute)
	})
}

// slow is a body that a target takes in steps.
type slow struct {
	io.ReadSeeker
	wait time.Duration
}

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(s.wait)
	return s.ReadSeeker.Read(p[:min(len(p), 10_000)])
}

// sipping is a target that takes a body slowly.
type sipping struct {
	uploader.Target
	wait time.Duration
}

type sippingUpload struct {
	uploader.Upload
	wait time.Duration
}

func (s sipping) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	up, err := s.Target.Open(ctx, o)
	return sippingUpload{up, s.wait}, err
}

func (u sippingUpload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	var all bytes.Buffer
	for {
		n, err := io.CopyN(&all, body, 1000)
		if n == 0 || err == io.EOF {
			break
		}
		if err != nil {
			return segment.Ack{}, err
		}
		timer := time.NewTimer(u.wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return segment.Ack{}, context.Cause(ctx)
		}
	}
	return u.Upload.Put(ctx, c, bytes.NewReader(all.Bytes()))
}

func TestNoProgressMeasuresProgressNotTransfers(t *testing.T) {
	for _, c := range []struct {
		name  string
		inner func(uploader.Target) uploader.Target
		body  func() io.ReadSeeker
		ends  time.Duration // 0: it succeeds
	}{
		{"a slow target that moves for an hour", func(t uploader.Target) uploader.Target { return sipping{t, 29 * time.Second} }, nil, 0},
		{"a target that takes nothing", func(t uploader.Target) uploader.Target { return sipping{t, time.Hour} }, nil, 30 * time.Second},
		{"a body that is slow to come", func(t uploader.Target) uploader.Target { return t }, func() io.ReadSeeker { return slow{media(), time.Hour} }, 0},
		{"no answer after the last byte", func(t uploader.Target) uploader.Target {
			return hangAfter{t}
		}, nil, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				remote := targettest.NewRemote(limits)
				body := io.ReadSeeker(media())
				if c.body != nil {
					body = c.body()
				}
				begin := time.Now()
				_, err := put(t, wrap.NoProgress(c.inner(remote.Target("memory:")), 0), body)
				took := time.Since(begin)
				if c.ends == 0 && err != nil {
					t.Errorf("ended after %v: %v", took, err)
				}
				if c.ends > 0 && (err == nil || took != c.ends || failure.KindOf(err) != failure.Transient || errors.Is(err, context.Canceled)) {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// hangAfter takes the whole body and never answers.
type hangAfter struct{ uploader.Target }

type hangAfterUpload struct{ uploader.Upload }

func (h hangAfter) Open(ctx context.Context, o segment.Object) (uploader.Upload, error) {
	up, err := h.Target.Open(ctx, o)
	return hangAfterUpload{up}, err
}

func (u hangAfterUpload) Put(ctx context.Context, c segment.Chunk, body io.ReadSeeker) (segment.Ack, error) {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return segment.Ack{}, err
	}
	<-ctx.Done()
	return segment.Ack{}, ctx.Err()
}

func TestNoProgressEndsEveryCallThatHangs(t *testing.T) {
	hang := func(c wrap.Call) wrap.Fate { return wrap.Fate{Hang: true} }
	synctest.Test(t, func(t *testing.T) {
		remote := targettest.NewRemote(limits)
		good, err := remote.Target("memory:").Open(t.Context(), object)
		if err != nil {
			t.Fatal(err)
		}
		remote.Behave(func(c wrap.Call) wrap.Fate {
			if c.Op == wrap.OpResume && c.Nth == 1 {
				return wrap.Fate{}
			}
			return hang(c)
		})
		target := wrap.NoProgress(remote.Target("memory:"), 10*time.Second)
		up, _, err := target.Resume(t.Context(), object, good.Token())
		if err != nil {
			t.Fatal(err)
		}
		big := object
		big.Size = 100 << 20
		for name, call := range map[string]func(context.Context) error{
			"check":  target.Check,
			"open":   func(ctx context.Context) error { _, err := target.Open(ctx, object); return err },
			"resume": func(ctx context.Context) error { _, _, err := target.Resume(ctx, object, "x"); return err },
			"keep":   func(ctx context.Context) error { return target.Keep(ctx, "m", nil) },
			"recall": func(ctx context.Context) error { _, err := target.Recall(ctx, "m"); return err },
			"abort":  up.Abort,
			"put": func(ctx context.Context) error {
				_, err := up.Put(ctx, segment.Chunk{Length: 10}, media())
				return err
			},
			"verify, 100 MiB": func(ctx context.Context) error {
				_, err := target.Verify(ctx, big, segment.Receipt{})
				return err
			},
			"commit, 100 MiB": func(ctx context.Context) error { _, err := up.Commit(ctx, big, nil); return err },
		} {
			begin := time.Now()
			err := call(t.Context())
			took, want := time.Since(begin), 10*time.Second
			if strings.Contains(name, "MiB") {
				want += 100 * time.Second // a MiB a second is the least
			}
			if took != want || err == nil || !strings.Contains(err.Error(), "nothing moved") {
				t.Errorf("%s: after %v: %v", name, took, err)
			}
		}
		stopped, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		if err := target.Check(stopped); !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
			t.Errorf("a context that ends: after %v: %v", time.Since(begin), err)
		}
	})
}

func TestLimitIsSharedByTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := limit.NewBytes(8 * 50_000) // 50 kB/s
		begin := time.Now()
		done := make(chan error)
		for _, id := range []segment.TargetID{"one", "two"} {
			target := wrap.Stack(targettest.NewRemote(limits).Target(id), bucket, 0, nil)
			go func() {
				for range 5 {
					if _, err := put(t, target, media()); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		// 1 MB at 50 kB/s.
		if took := time.Since(begin); took < 18*time.Second || took > 22*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestLimitBelowOneReadInThirtySecondsIsNoStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := limit.NewBytes(8 * 500) // 64 KiB every two minutes
		remote := targettest.NewRemote(limits)
		if _, err := put(t, wrap.Stack(remote.Target("memory:"), bucket, 0, nil), media()); err != nil {
			t.Error(err)
		}
	})
}

func TestMeterCountsWhatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		remote := targettest.NewRemote(limits)
		remote.Behave(func(c wrap.Call) wrap.Fate { return wrap.Fate{Cut: c.Op == wrap.OpPut && c.Nth == 1} })
		target := wrap.Stack(remote.Target("memory:"), nil, 0, func(m int) { n.Add(int64(m)) })
		if _, err := put(t, target, media()); err != nil {
			t.Fatal(err)
		}
		if n.Load() != 150_000 { // half of it twice
			t.Errorf("%d bytes", n.Load())
		}
	})
}

func TestFaultDoesWhatTheScriptSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := targettest.NewRemote(limits)
		var seen []wrap.Call
		refused := errors.New("no")
		target := wrap.Fault(remote.Target("memory:"), func(c wrap.Call) wrap.Fate {
			seen = append(seen, c)
			switch {
			case c.Op == wrap.OpKeep && c.Nth == 1:
				return wrap.Fate{Err: refused}
			case c.Op == wrap.OpKeep:
				return wrap.Fate{Lost: true, Wait: time.Minute}
			}
			return wrap.Fate{}
		})
		if err := target.Keep(t.Context(), "m", []byte("1")); err != refused {
			t.Error(err)
		}
		if _, err := target.Recall(t.Context(), "m"); !errors.Is(err, failure.ErrAbsent) {
			t.Errorf("a call that was refused was carried out: %v", err)
		}
		begin := time.Now()
		if err := target.Keep(t.Context(), "m", []byte("1")); !errors.Is(err, wrap.ErrLost) || time.Since(begin) != time.Minute {
			t.Error(err)
		}
		if data, err := target.Recall(t.Context(), "m"); err != nil || string(data) != "1" {
			t.Errorf("a call whose answer was lost was not carried out: %v", err)
		}
		if n := len(seen); n != 4 || seen[2] != (wrap.Call{Op: wrap.OpKeep, Key: "m", Chunk: -1, Nth: 2}) {
			t.Errorf("%+v", seen)
		}
		a, err := put(t, target, media())
		if err != nil {
			t.Fatal(err)
		}
		flip := wrap.Fault(remote.Target("memory:"), func(wrap.Call) wrap.Fate { return wrap.Fate{Flip: true} })
		if b, err := put(t, flip, media()); err != nil || b.Sum == a.Sum {
			t.Errorf("nothing was flipped: %v", err)
		}
	})
}

// narrow reads an object back for an hour, and tells of each byte or of none.
type narrow struct {
	uploader.Target
	tells bool
}

func (s narrow) Verify(ctx context.Context, _ segment.Object, _ segment.Receipt) (segment.Proof, error) {
	for range 360 {
		if !backoff.Sleep(ctx, 10*time.Second) {
			return segment.Proof{}, context.Cause(ctx)
		}
		if s.tells {
			uploader.Moved(ctx)
		}
	}
	return segment.Proof{}, nil
}

// A target on a narrow line may read back as long as it says that bytes move.
func TestNoProgressHearsOfBytesThatMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tells := range []bool{true, false} {
			_, err := wrap.NoProgress(narrow{tells: tells}, 0).Verify(t.Context(), segment.Object{Size: 100 << 20}, segment.Receipt{})
			if tells != (err == nil) {
				t.Errorf("tells %v: %v", tells, err)
			}
		}
	})
}
