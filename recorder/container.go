package recorder

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/media/mpegts"
	"github.com/liverec/liverec/recorder/repair"
)

// Container names the format in which parts are written. It is the extension of their names as well.
type Container string

// The containers.
const (
	ContainerAuto Container = "auto" // FLV for H.264 and AAC that came as FLV, MP4 for everything else
	ContainerFLV  Container = "flv"
	ContainerMP4  Container = "mp4"
	ContainerTS   Container = "ts"
)

// containerOf is the container of a part with this path. A part of which nobody knows is FLV: so were all of them once.
func containerOf(name string) Container {
	switch c := path.Ext(name); c {
	case ".mp4", ".ts":
		return Container(c[1:])
	}
	return ContainerFLV
}

// Check says what is wrong with the name of a container. The empty one is auto.
func (c Container) Check() error {
	switch c {
	case "", ContainerAuto, ContainerFLV, ContainerMP4, ContainerTS:
		return nil
	}
	return fmt.Errorf("container %q is unknown; there are flv, mp4, ts and auto", string(c))
}

// ContainerError says that the container that was asked for cannot hold what a source sends. It is a *repair.Unsupported
// as well.
type ContainerError struct {
	Container Container
	Codec     media.Codec
	Err       error // what the format says; nil
}

func (e *ContainerError) Error() string {
	s := fmt.Sprintf("%s cannot be recorded as %s here", e.Codec, strings.ToUpper(string(e.Container)))
	if e.Container != ContainerMP4 {
		s += "; --container auto writes MP4"
	} else if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *ContainerError) Unwrap() []error {
	return []error{&repair.Unsupported{Codec: e.Codec}, e.Err}
}

// errRefused says that a container does not take a frame, which is left out. Nothing was written.
var errRefused = errors.New("a frame that its container cannot hold")

// container is the file of one part in one format: it turns frames into bytes and knows what was written. It does no
// I/O of its own. What it has handed to an output at or above head never changes.
type container interface {
	// head is Segment.Head: the bytes below it may be patched until the seal. It never changes.
	head() int64
	// size is what the file would have if the part were closed now. grows is the most that a frame of n bytes adds to it.
	size() int64
	grows(n int) int64
	// add takes a frame whose time in the file is at; ms is the same in whole ms. It may write when there is too much to
	// hold. Errors: errRefused, those of the output.
	add(o *output, it *repair.Item, ms int64, at time.Duration) error
	// held is how many bytes were taken and not handed out. flush hands them out as one whole unit.
	held() int
	flush(o *output) error
	// index is the head as it should be now, for the begin of the file; nil: it stays as it is until the end.
	index() []byte
	// finish is what is to be done to the file when no frame follows any more. Everything was handed out.
	finish() ending
	// complete is false as long as the head would be better if more was waited for.
	complete() bool
	// about is what a next process must know and the file may not tell; zero where it tells everything.
	about() noteFile
	duration() time.Duration
	frames() (video, audio int64)
	// content is repair.Chain over the frames that were handed out, with their ordinals in this part (from 1): whoever reads
	// the frames of a part in file order gets the same value.
	content() uint64
}

// newContainer begins a part. begin is what the file begins with; where it is empty, the container gives it out itself.
// sums says that packets which are FLV tags come with the sum of their whole body.
func newContainer(kind Container, c configs, limit time.Duration, sums bool) (k container, begin []byte, err error) {
	if kind == ContainerFLV {
		p, begin, err := newFLV(c, limit, sums)
		if err != nil {
			return nil, nil, err
		}
		return p, begin, nil
	}
	f, err := newFragments(kind, c)
	if err == nil {
		return f, nil, nil
	}
	if !errors.Is(err, mp4.ErrUnsupported) && !errors.Is(err, mpegts.ErrCodec) {
		return nil, nil, err
	}
	// Which of the two tracks is to blame: the sound, if the picture alone is welcome.
	refused := c.codec[vid]
	if refused != media.NoCodec && c.codec[aud] != media.NoCodec {
		alone := c
		alone.codec[aud], alone.audio = media.NoCodec, nil
		if _, err := newFragments(kind, alone); err == nil {
			refused = c.codec[aud]
		}
	} else if refused == media.NoCodec {
		refused = c.codec[aud]
	}
	return nil, nil, &ContainerError{Container: kind, Codec: refused, Err: err}
}

// ending is how a file is closed: tail is written at its end and synced, then patch at an offset, synced again. A crash
// in between is harmless, and all of it may be done twice.
type ending struct {
	tail  []byte
	patch []byte
	at    int64
}

// output gathers whole units for one file.
type output struct {
	file *durable.File
	buf  []byte
	// slab is the memory that the frames of the moment lie in. What was lent from it is a part of what was gathered and
	// not copied: keep ends that before the slab is given back.
	slab   []byte
	lent   []loan
	debt   int // bytes in lent
	pieces [][]byte
}

// loan is a piece that belongs in front of the byte at of an output's buffer.
type loan struct {
	at   int
	data []byte
}

// What is lent is at least so long, and so much in the buffer is worth a write of its own rather than being copied.
const (
	lendFrom  = 2 << 10
	writeFrom = writeBuffer / 2
)

// waits is how many bytes do.
func (o *output) waits() int { return len(o.buf) + o.debt }

// reserve makes room for n bytes that belong together, if they fit at all.
func (o *output) reserve(n int) error {
	if o.waits()+n > writeBuffer {
		return o.write()
	}
	return nil
}

// gather takes a piece of a frame. It stays where it is, if that is in the slab.
func (o *output) gather(data []byte) {
	if len(data) < lendFrom || !within(o.slab, data) {
		o.buf = append(o.buf, data...)
		return
	}
	o.lent = append(o.lent, loan{len(o.buf), data})
	o.debt += len(data)
}

// within reports whether p lies in slab.
func within(slab, p []byte) bool {
	from, at := uintptr(unsafe.Pointer(unsafe.SliceData(slab))), uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	return at >= from && at+uintptr(len(p)) <= from+uintptr(len(slab))
}

// write hands the buffer to the system. After an error the file may end in a torn unit, and what the buffer held beyond
// that is lost.
func (o *output) write() error {
	switch {
	case o.waits() == 0:
		return nil
	case len(o.lent) == 0:
		_, err := o.file.Write(o.buf)
		o.buf = o.buf[:0]
		return err
	}
	from := 0
	for _, l := range o.lent {
		o.pieces = append(o.pieces, o.buf[from:l.at], l.data)
		from = l.at
	}
	o.pieces = append(o.pieces, o.buf[from:])
	err := o.file.WriteAll(o.pieces)
	clear(o.pieces)
	o.pieces = o.pieces[:0]
	o.drop()
	return err
}

// keep makes what was gathered last longer than the slab: it is written, or copied if that is little.
func (o *output) keep() error {
	o.slab = nil
	if len(o.lent) == 0 {
		return nil
	}
	if o.waits() >= writeFrom {
		return o.write()
	}
	end := len(o.buf)
	o.buf = slices.Grow(o.buf, o.debt)[:end+o.debt]
	to := len(o.buf)
	for _, l := range slices.Backward(o.lent) {
		to -= copy(o.buf[to-(end-l.at):], o.buf[l.at:end])
		to -= copy(o.buf[to-len(l.data):], l.data)
		end = l.at
	}
	o.forgive()
	return nil
}

// drop forgets all that was gathered.
func (o *output) drop() {
	o.buf = o.buf[:0]
	o.forgive()
}

func (o *output) forgive() {
	clear(o.lent)
	o.lent, o.debt = o.lent[:0], 0
}

// apply does to the file what its ending says. size is the file's before. Every step may be done again.
func (e ending) apply(f *durable.File, size int64) error {
	if len(e.tail) > 0 {
		if _, err := f.WriteAt(e.tail, size); err != nil {
			return fmt.Errorf("write the index: %w", err)
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if len(e.patch) > 0 {
		if _, err := f.WriteAt(e.patch, e.at); err != nil {
			return fmt.Errorf("patch the head: %w", err)
		}
	}
	return f.Sync()
}
