package pipelinetest_test

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/manifest"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/direct"
	"github.com/liverec/liverec/uploader"
)

// wire is a network in memory.
type wire struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newWire() *wire { return &wire{conns: make(chan net.Conn), done: make(chan struct{})} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return buffer(c), nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { w.once.Do(func() { close(w.done) }); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case w.conns <- a:
		return b, nil
	case <-w.done:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// buffered is the sending end of a connection with a buffer, as a kernel has one.
type buffered struct {
	net.Conn
	mu     sync.Mutex
	change *sync.Cond
	buf    []byte
	closed bool
	err    error
}

func buffer(c net.Conn) *buffered {
	b := &buffered{Conn: c}
	b.change = sync.NewCond(&b.mu)
	go b.pump() // ends after Close, or when the other end is gone
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.buf) > 1<<20 && b.err == nil && !b.closed {
		b.change.Wait()
	}
	if b.err != nil || b.closed {
		return 0, net.ErrClosed
	}
	b.buf = append(b.buf, p...)
	b.change.Broadcast()
	return len(p), nil
}

func (b *buffered) pump() {
	defer b.Conn.Close()
	for {
		b.mu.Lock()
		for len(b.buf) == 0 && !b.closed {
			b.change.Wait()
		}
		p := b.buf
		b.buf = nil
		b.change.Broadcast()
		b.mu.Unlock()
		if len(p) == 0 {
			return
		}
		if _, err := b.Conn.Write(p); err != nil {
			b.mu.Lock()
			b.err = err
			b.change.Broadcast()
			b.mu.Unlock()
			return
		}
	}
}

// Close ends the connection after what is buffered.
func (b *buffered) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.change.Broadcast()
	return nil
}

// studio is a scene of one live room with numbered pictures and the real recorder. What a dead process does not hear is
// lost, and the next one is late by the GOP cache of the room.
type studio struct {
	t    *testing.T
	room *liveroom.Room
	url  string
	wire *wire
	owed map[uint64]bool // pictures that must be in the archive
	last time.Time       // when the life before this one ended
	// cuts: lives end by a power cut. Promises 4 and 6 speak of kill -9 for what was received; but also then what is
	// missing stands in the manifest, and what was sent stays.
	cuts bool
}

// line is what the store takes: at 0.4 Mbit/s a part of 5 s has about eight chunks.
var line = uploader.Limits{MinChunk: 32 << 10, MaxChunk: 1 << 24, MaxChunks: 10_000, Parallel: 2, Growing: true}

// grace is how long a source may be away in a studio.
const grace = 20 * time.Second

func newStudio(t *testing.T, name string, d time.Duration) *studio {
	room, err := liveroom.New(liveroom.Config{Duration: d})
	if err != nil {
		t.Fatal(err)
	}
	s := &studio{t: t, room: room, url: "http://" + name + "/live.flv", wire: newWire(), owed: map[uint64]bool{}}
	server := room.Serve(s.wire)
	t.Cleanup(func() { server.Close() })
	room.Start(t.Context())
	return s
}

func (s *studio) rooms() int     { return 1 }
func (s *studio) maxSize() int64 { return 4 << 20 }

func (s *studio) power() bool { return s.cuts }

func (s *studio) captures(_ *world, b book, dir *durable.Dir) []pipeline.CaptureFunc {
	if left, err := b.Unended(s.t.Context()); err == nil && len(left) == 0 && !s.room.Live() {
		return nil // nothing is left to record: this life is a `resume`
	}
	return []pipeline.CaptureFunc{func(out chan<- segment.Progress) (pipeline.Capture, error) {
		where, err := direct.Check(s.url)
		if err != nil {
			return nil, err
		}
		site, err := direct.New(direct.Config{URL: s.url, Dial: s.wire.dial})
		if err != nil {
			return nil, err
		}
		return recorder.New(
			recorder.Config{Room: where, Segment: 5 * time.Second, MaxSize: s.maxSize(), Once: true, Grace: grace},
			recorder.Deps{Resolver: site, Journal: b, Dir: dir, Progress: out, Log: zerolog.Nop()},
		)
	}}
}

// life: what was received more than a second before the process was killed must be there.
func (s *studio) life(_ *world, began, ended time.Time, cut bool) {
	until := ended.Add(-time.Second)
	if cut {
		until = ended.Add(-3 * time.Second) // synced once a second, and a sync may be under way
		if ended.Sub(began) < 3*time.Second {
			// Nor is safe what the process before had not synced when it was killed: this one has just begun to.
			until, began = s.last.Add(-3*time.Second), time.Time{}
			clear(s.owed)
		}
	}
	s.last = ended
	for _, c := range s.room.Connections() {
		for _, f := range c.Frames {
			if !f.At.Before(began) && !f.At.After(until) {
				s.owed[f.Number] = true
			}
		}
	}
}

// whole looks at a part with the independent reader and gives the numbers of its pictures.
func whole(t *testing.T, key string, data []byte) []uint64 {
	t.Helper()
	r, err := probe.Reader(bytes.NewReader(data), int64(len(data)))
	if err == nil {
		err = r.Check(probe.Config) // a part that a kill has ended may have a picture and no sound yet
	}
	if err != nil {
		t.Errorf("%s: %v", key, err)
	}
	return r.Numbers
}

func (s *studio) archive(w *world) {
	s.t.Helper()
	var numbers []uint64
	for _, key := range w.remote.Keys() {
		data, _ := w.remote.Object(key)
		numbers = append(numbers, whole(s.t, key, data)...)
	}
	for i := 1; i < len(numbers); i++ {
		if numbers[i] <= numbers[i-1] {
			s.t.Errorf("picture %d comes after picture %d", numbers[i], numbers[i-1])
			break
		}
	}
	for n := range s.owed {
		if _, there := slices.BinarySearch(numbers, n); !there {
			s.t.Errorf("picture %d is owed and missing; there are %v", n, probe.Ranges(numbers))
			break
		}
	}
	if len(numbers) == 0 {
		s.t.Error("nothing is in the archive")
		return
	}
	// Promise 6: what is missing stands in the manifest.
	m, err := manifest.Parse(w.lists[len(w.lists)-1])
	if err != nil {
		s.t.Fatal(err)
	}
	var told float64
	end := m.Parts[len(m.Parts)-1]
	for _, g := range m.Gaps {
		if g.AfterSeq < end.Seq || g.AtMS < end.DurationMS { // what is missing behind the last picture cannot be counted
			told += g.Seconds
		}
	}
	missing := float64(numbers[len(numbers)-1]-numbers[0]+1-uint64(len(numbers))) / 30
	if d := missing - told; d > 0.15 || d < -0.15 {
		s.t.Errorf("%.3f s are missing, %.3f s are in the manifest", missing, told)
	}
	if m.Account == nil || !m.Account.Balanced {
		s.t.Errorf("account %+v", m.Account)
	}
	var frames int64
	for _, p := range m.Parts {
		frames += p.VideoFrames
		if s.t.Failed() {
			s.t.Logf("part %d: %d ms, %d pictures, %d audio frames, cut by %s", p.Seq, p.DurationMS, p.VideoFrames, p.AudioFrames, p.Cut)
		}
	}
	if s.t.Failed() {
		s.t.Logf("pictures %v, gaps %+v", probe.Ranges(numbers), m.Gaps)
	}
	if frames != int64(len(numbers)) {
		s.t.Errorf("the manifest has %d pictures, the archive %d", frames, len(numbers))
	}
}
