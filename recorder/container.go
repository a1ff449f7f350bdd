package recorder

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

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
}

// reserve makes room for n bytes that belong together, if they fit at all.
func (o *output) reserve(n int) error {
	if len(o.buf)+n > writeBuffer {
		return o.write()
	}
	return nil
}

// write hands the buffer to the system. After an error the file may end in a torn unit, and what the buffer held beyond
// that is lost.
func (o *output) write() error {
	if len(o.buf) == 0 {
		return nil
	}
	_, err := o.file.Write(o.buf)
	o.buf = o.buf[:0]
	return err
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
