package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/segment"
)

const (
	s3   segment.TargetID = "s3://bucket/live"
	nas  segment.TargetID = "file:/srv/archive"
	slow segment.TargetID = "sftp://slow/optional"
)

var (
	room = segment.Room{ID: "direct:http://h/live.flv", URL: "http://h/live.flv", Name: "alice", Site: "direct"}
	t0   = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
)

// clock stands until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func data(t testing.TB) string { return filepath.Join(t.TempDir(), "data dir #1?%41") }

func config(t testing.TB, path string) Config {
	t.Helper()
	d, err := durable.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return Config{Dir: d, Owner: "test", Log: zerolog.New(zerolog.NewTestWriter(t))}
}

func opened(t testing.TB, cfg Config) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// fresh is a ledger in a new folder with one required target and one that is not.
func fresh(t testing.TB, ds ...segment.Destination) *Ledger {
	t.Helper()
	l := opened(t, config(t, data(t)))
	aim(t, l, ds...)
	return l
}

func aim(t testing.TB, l *Ledger, ds ...segment.Destination) {
	t.Helper()
	if len(ds) == 0 {
		ds = []segment.Destination{{ID: s3, Spec: string(s3), Required: true}, {ID: slow, Spec: string(slow)}}
	}
	must(t, l.SetTargets(t.Context(), ds))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, ErrRefused) {
		t.Fatalf("not refused: %v", err)
	}
}

// enter makes a session of its own: nothing is so fresh that it would go on.
func enter(t testing.TB, l *Ledger, name string) segment.Entry {
	t.Helper()
	e, err := l.Enter(t.Context(), room, segment.Session{Name: name, Title: "a title", Streamer: "Alice"}, t0, -1<<62)
	must(t, err)
	return e
}

func newPart(s segment.SessionID, seq uint32) segment.Segment {
	id := segment.ID{Session: s, Seq: seq}
	return segment.Segment{ID: id, Room: room.ID, Path: "media/" + string(s) + "/" + id.Base() + ".flv", Start: t0.Add(time.Duration(seq) * time.Minute), Head: 4096}
}

func begin(t testing.TB, l *Ledger, s segment.SessionID, seq uint32) segment.Segment {
	t.Helper()
	p := newPart(s, seq)
	must(t, l.Begin(t.Context(), p))
	return p
}

const partSize = 10_000_000

func done(p segment.Segment) segment.Segment {
	p.Size, p.Duration, p.Cut, p.Sealed = partSize+int64(p.ID.Seq), time.Minute, segment.CutTime, true
	p.VideoFrames, p.AudioFrames, p.Content = 1800, 2580, 0xfedcba9876543210+uint64(p.ID.Seq)
	p.SHA256[0], p.SHA256[31] = 1, byte(p.ID.Seq)
	return p
}

func seal(t testing.TB, l *Ledger, p segment.Segment) segment.Segment {
	t.Helper()
	p = done(p)
	must(t, l.Seal(t.Context(), p))
	return p
}

func ack(i int) segment.Ack {
	return segment.Ack{Chunk: segment.Chunk{Index: i, Offset: int64(i) * 1000, Length: 1000}, Tag: fmt.Sprintf("\"etag-%d\"", i), Sum: 0xffffffff - uint32(i)}
}

func proof(p segment.Segment) segment.Proof {
	return segment.Proof{Size: p.Size, Sum: "crc32c:abc", How: "size and CRC-32C by HEAD", At: t0.Add(time.Hour)}
}

// deliver takes one delivery from Due to Verified.
func deliver(t testing.TB, l *Ledger, to segment.TargetID, p segment.Segment) {
	t.Helper()
	deliverTo(t, l, to, p, segment.Verified)
}

// steps leads a delivery that is due to a state on the straight way.
var steps = []segment.DeliveryState{segment.Opening, segment.Uploading, segment.Committing, segment.Committed, segment.Verified}

func deliverTo(t testing.TB, l *Ledger, to segment.TargetID, p segment.Segment, state segment.DeliveryState) {
	t.Helper()
	if state == segment.Due {
		return
	}
	if state == segment.Parked {
		must(t, l.Parked(t.Context(), to, p.ID, "no cookie"))
		return
	}
	for _, s := range steps {
		must(t, step(t.Context(), l, to, p, s))
		if s == state {
			return
		}
	}
}

// step asks for one transition.
func step(ctx context.Context, l *Ledger, to segment.TargetID, p segment.Segment, s segment.DeliveryState) error {
	switch s {
	case segment.Due:
		return l.Again(ctx, to, p.ID, "it is not there")
	case segment.Opening:
		return l.Opening(ctx, to, p.ID, 1000)
	case segment.Uploading:
		return l.Opened(ctx, to, p.ID, "upload-1")
	case segment.Committing:
		return l.Committing(ctx, to, p.ID)
	case segment.Committed:
		return l.Committed(ctx, to, p.ID, segment.Receipt{Key: "k", Size: p.Size, Tag: "etag", Sum: "crc32c:x", Detail: "d"})
	case segment.Verified:
		return l.Verified(ctx, to, p.ID, proof(p))
	case segment.Parked:
		return l.Parked(ctx, to, p.ID, "no cookie")
	}
	return errors.New("no such step")
}

func look(t testing.TB, l *Ledger, s segment.SessionID) segment.Broadcast {
	t.Helper()
	b, err := l.Broadcast(t.Context(), s)
	must(t, err)
	return b
}

func delivery(t testing.TB, l *Ledger, to segment.TargetID, id segment.ID) segment.Delivery {
	t.Helper()
	for _, d := range look(t, l, id.Session).Deliveries[to] {
		if d.Segment.ID == id {
			return d
		}
	}
	t.Fatalf("no delivery of %s to %s", id, to)
	return segment.Delivery{}
}

// publish shows the whole list of a session on a target.
func publish(t testing.TB, l *Ledger, s segment.SessionID, to segment.TargetID, parts int, ended bool) {
	t.Helper()
	digest := fmt.Sprintf("digest-%d-%v", parts, ended)
	must(t, l.Publishing(t.Context(), s, to, digest))
	must(t, l.Published(t.Context(), s, to, digest, parts, ended))
}
