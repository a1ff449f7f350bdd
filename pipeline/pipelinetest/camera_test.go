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
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/ledger"
	"github.com/liverec/liverec/pkg/segment"
)

// show is a scene of cameras: a small capture with the same order of records and acts as the real one, and rooms that
// keep all their frames, so that none may be missing.
type show struct {
	n       int    // rooms
	frames  uint64 // the whole broadcast
	every   time.Duration
	gop     uint64
	part    uint64 // frames of a part
	body    int    // bytes of a frame, at least 12
	flush   time.Duration
	started time.Time

	mu    sync.Mutex
	stall time.Duration // the longest time that a camera waited for anything but the room
}

// number of frames that have been sent until now.
func (s *show) until(t time.Time) uint64 { return min(s.frames, uint64(t.Sub(s.started)/s.every)+1) }

func newShow() *show {
	return &show{n: 1, frames: 50, every: 100 * time.Millisecond, gop: 5, part: 20, body: 16, flush: 500 * time.Millisecond, started: time.Now()}
}

func (s *show) rooms() int                              { return s.n }
func (s *show) power() bool                             { return true }
func (s *show) maxSize() int64                          { return 4096 }
func (s *show) life(*world, time.Time, time.Time, bool) {}
func (s *show) captures(w *world, b book, dir *durable.Dir) []pipeline.CaptureFunc {
	var caps []pipeline.CaptureFunc
	for i := range s.n {
		caps = append(caps, func(out chan<- segment.Progress) (pipeline.Capture, error) {
			room := segment.Room{ID: segment.RoomID(fmt.Sprint("room-", i)), Name: fmt.Sprint("room-", i), URL: "http://h/live.flv", Site: "direct"}
			return &camera{w: w, s: s, j: b, dir: dir, out: out, room: room}, nil
		})
	}
	return caps
}

// archive holds each frame once, in order.
func (s *show) archive(w *world) {
	w.t.Helper()
	var want uint64
	folder := ""
	for _, key := range w.remote.Keys() {
		if f := strings.TrimSuffix(key, path(key)); folder == "" {
			folder = f
		} else if f != folder && s.n == 1 {
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
	if want != s.frames {
		w.t.Errorf("%d frames in the archive, %d were sent", want, s.frames)
	}
}

const headLen = 16 // magic, number of frames; patched at the seal

var magic = [8]byte{'n', 'u', 'm', 'b', 'e', 'r', 'e', 'd'}

var table = crc32.MakeTable(crc32.Castagnoli)

func (s *show) frame(n uint64) []byte {
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
	s    *show
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
	for c.next < c.s.frames {
		if c.f == nil {
			if err := c.begin(ctx, e); err != nil {
				return err
			}
			e.NextSeq++
		}
		begin := time.Now()
		have := c.s.until(begin)
		if c.next >= have {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(c.s.flush):
			}
			continue
		}
		for c.f != nil && c.next < have {
			if _, err := c.f.Write(c.s.frame(c.next)); err != nil {
				return err
			}
			c.next++
			if c.next%c.s.gop == 0 && c.next-c.first >= c.s.part && c.next < c.s.frames {
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
		c.s.mu.Lock()
		c.s.stall = max(c.s.stall, time.Since(begin))
		c.s.mu.Unlock()
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
	c.seg.VideoFrames, c.seg.Duration = int64(n), time.Duration(n)*c.s.every
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
	part := c.seg.Path + segment.PartSuffix
	if data, err := os.ReadFile(c.dir.Abs(c.seg.Path)); err == nil { // K4
		// The process may have died between the rename and the sync of the folder: a seal vouches for the name too.
		if err := c.dir.Rename(c.seg.Path, c.seg.Path); err != nil {
			return err
		}
		n, _, err := readPart(data)
		if err != nil {
			return err
		}
		c.first = c.next
		c.next += n
		cut := segment.CutTime
		if c.next == c.s.frames {
			cut = segment.CutEnd
		}
		return c.finish(ctx, cut)
	}
	data, err := os.ReadFile(c.dir.Abs(part))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, frames, _ := readPart(data)
	if len(frames) == 0 { // K1: the process may have died before the folder was synced, so nobody goes on in such a file
		if c.seg.Size > 0 {
			return fmt.Errorf("%s has %d durable bytes and %d bytes in its file", c.seg.ID, c.seg.Size, len(data))
		}
		if err := c.dir.Remove(part); err != nil {
			return err
		}
		if err := c.j.Void(ctx, c.seg.ID); err != nil {
			return err
		}
		e.NextSeq = c.seg.ID.Seq
		return nil
	}
	end := int64(headLen + len(frames)*c.s.body)
	if end < c.seg.Size {
		return fmt.Errorf("%s has %d whole bytes of %d durable ones (I2)", c.seg.ID, end, c.seg.Size)
	}
	if c.f, err = c.dir.Edit(part); err != nil {
		return err
	}
	c.first = c.next // K2, K3: cut to the last whole frame, go on in it
	if err := c.f.Truncate(end); err != nil {
		return err
	}
	c.next += uint64(len(frames))
	if c.next-c.first >= c.s.part || c.next == c.s.frames {
		cut := segment.CutTime
		if c.next == c.s.frames {
			cut = segment.CutEnd
		}
		return c.seal(ctx, cut)
	}
	return nil
}
