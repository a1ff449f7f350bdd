package hlspull

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/recorder/hlspull/body"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
	"github.com/liverec/liverec/recorder/hlspull/plan"
)

type state uint8

const (
	waiting state = iota // to be fetched, or fetched and to be opened (raw is set)
	running              // a worker has it
	ready                // it can be handed on
	missing              // it is decided that it is not to be had; why says the reason
)

// job is one segment on its way. It belongs to the engine; what a worker needs is copied.
type job struct {
	seg      plan.Segment
	state    state
	why      string // of missing
	lost     bool   // it counts as missing media (a placeholder does not)
	open     bool   // it is the parts of a segment that never was whole
	listed   time.Time
	deadline time.Time
	stays    bool      // its list keeps it
	retry    time.Time // not before
	tries    int
	notThere int       // 404s in a row
	since    time.Time // when its key or its section was refused first
	err      error     // the last one

	load   load
	best   load // the longest copy that was whole for HTTP and not in itself
	copies int  // how many of that length came
}

// load is what a worker makes of a segment, step by step.
type load struct {
	block *block // what raw and plain lie in
	raw   []byte // as it came
	read  int64  // bytes of the network that it cost
	plain []byte // decrypted and stripped
	kind  body.Kind
	init  *section
	sum   uint64
	host  string
	at    time.Time
	took  time.Duration
	torn  bool // plain is what is whole of a copy that is not
}

// loaded is what a worker brings back.
type loaded struct {
	t    *track
	j    *job
	gen  int
	load load // if err is not nil, its block is that of the job's load, or new
	torn bool // the body is whole for HTTP, and not in itself: load.plain has it
	late bool // the body is here; its key or its section is not
	err  error
}

// errNoMedia says that something else came.
var errNoMedia = errors.New("the server sent")

// errTitle says that a body is not the one that the playlist describes.
var errTitle = errors.New("its size or checksum is not the one in the playlist")

// pull does one try.
func (e *engine) pull(ctx context.Context, seg plan.Segment, l load, limit, sharers int) (r loaded) {
	r.load = l
	if err := e.memory.guard(func() {
		if l.raw == nil && l.plain == nil {
			if r.err = e.body(ctx, seg, limit, sharers, &r); r.err != nil {
				return
			}
		}
		r.torn, r.late, r.err = e.open(ctx, seg, &r.load)
	}); err != nil {
		r.torn, r.late, r.err = false, false, err
	}
	switch {
	case r.err == nil:
		r.err = r.load.block.settle()
	case unwritten(r.err):
		r.err = fmt.Errorf("%w: %w", errFault, r.err)
	}
	return r
}

// body fetches the bytes. sharers is how many transfers have the line between them.
func (e *engine) body(ctx context.Context, seg plan.Segment, limit, sharers int, r *loaded) error {
	total := max(10*time.Second, 3*seg.Duration)
	d := desk{m: e.memory, limit: limit}
	defer d.clear()
	urls := []string{seg.URL}
	spans := []hls.ByteRange{seg.Range}
	if seg.URL == "" && len(seg.Parts) > 0 { // the open segment of a stream that has ended: its parts are all there is
		urls, spans = nil, nil
		for _, p := range seg.Parts {
			if p.Gap || p.URL == "" {
				break
			}
			urls, spans = append(urls, p.URL), append(spans, p.Range)
		}
	}
	var bodies [][]byte
	size := 0
	for i, u := range urls {
		if spans[i].Length > 0 && spans[i].Offset < 0 {
			return fmt.Errorf("%w: its range goes on behind one that was never listed", errNoMedia)
		}
		a, err := e.s.client.Get(ctx, fetch.Request{URL: u, Range: spans[i], Max: MaxSegment, Total: total, Sharers: sharers, Memory: &d})
		r.load.read += a.Read
		r.load.took += a.Took
		r.load.host = a.Host()
		if err != nil {
			if i > 0 {
				break // some parts are better than none
			}
			return err
		}
		if len(a.Body) == 0 {
			return fmt.Errorf("%w nothing", errNoMedia)
		}
		bodies = append(bodies, a.Body)
		size += len(a.Body)
	}
	if size == 0 {
		return fmt.Errorf("%w nothing", errNoMedia)
	}
	all := bodies[0]
	if len(bodies) > 1 {
		room, err := d.Get(size)
		if err != nil {
			return err
		}
		all = room[:0]
		for _, b := range bodies {
			all = append(all, b...)
		}
	}
	r.load.raw, r.load.block, r.load.at = all, d.keep(all), time.Now()
	return nil
}

// open decrypts and checks what was fetched. late: key or section are not to be had now.
func (e *engine) open(ctx context.Context, seg plan.Segment, l *load) (torn, late bool, err error) {
	if l.plain == nil {
		if said, ok := body.Named(seg.Title, l.raw); said && !ok {
			return true, false, errTitle
		}
		plain := l.raw
		k, err := aesKey(seg.Keys)
		if err != nil {
			return false, false, err
		}
		if k != nil {
			secret, err := e.shared.secret(ctx, k)
			if err != nil {
				return false, true, err
			}
			vectors, err := vectorsOf(k, seg)
			if err != nil {
				return false, false, err
			}
			p, used, err := body.Decrypt(l.raw, secret, vectors...)
			if err != nil {
				if errors.Is(err, body.ErrKey) && e.shared.forget(keyID(k.URL)) {
					return false, true, err
				}
				return false, false, err
			}
			if used > 0 {
				e.log.Warn().Uint64("msn", seg.Sequence).Int("used", used).Msg("segment is encrypted with another vector than its number")
			}
			plain = p
		}
		kind, skip := body.Sniff(plain)
		if kind == body.Unknown {
			return false, false, fmt.Errorf("%w %s instead of a segment", errNoMedia, body.What(plain))
		}
		l.plain, l.kind, l.raw = plain[skip:], kind, nil
	}
	n, whole := body.Whole(l.kind, l.plain)
	if !whole && !l.torn {
		l.plain = l.plain[:n]
		return true, false, fmt.Errorf("%w inside: %d whole bytes", fetch.ErrShort, n)
	}
	if seg.Map != nil && l.init == nil {
		if l.init, err = e.shared.section(ctx, seg.Map, seg); err != nil {
			return false, true, err
		}
	}
	if l.kind == body.FMP4 && seg.Map == nil && l.init == nil {
		// one that brings its own head is complete
		if s, err := ownSection(l.plain); err == nil {
			l.init = s
		} else {
			return false, false, errors.New("it has no initialisation section")
		}
	}
	l.sum = fingerprint(l.plain)
	return false, false, nil
}

// fingerprint tells segments apart without reading all of them: by their length, both ends, where their clocks are, and a
// piece out of each hundredth of what is between.
func fingerprint(b []byte) uint64 {
	const end, piece, pieces = 32 << 10, 256, 100
	var h xxhash.Digest
	h.Reset()
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(b)))
	_, _ = h.Write(length[:]) // a hash refuses nothing
	if len(b) <= 2*end+piece*pieces {
		_, _ = h.Write(b)
		return h.Sum64()
	}
	_, _ = h.Write(b[:end])
	for i, step := end, (len(b)-2*end)/pieces; i+piece <= len(b)-end; i += step {
		_, _ = h.Write(b[i : i+piece])
	}
	_, _ = h.Write(b[len(b)-end:])
	return h.Sum64()
}

// vectorsOf are the initialisation vectors to try: the one that is said; if none is, the number and its neighbours.
func vectorsOf(k *hls.Key, seg plan.Segment) ([][16]byte, error) {
	first, err := k.Vector(seg.Sequence)
	if err != nil || k.IV != "" {
		return [][16]byte{first}, err
	}
	vs := [][16]byte{first}
	add := func(n uint64) {
		if v, err := k.Vector(n); err == nil {
			vs = append(vs, v)
		}
	}
	if seg.Number != seg.Sequence {
		add(seg.Number)
	}
	for d := uint64(1); d <= 64; d++ {
		add(seg.Sequence + d)
		if seg.Sequence >= d {
			add(seg.Sequence - d)
		}
	}
	return vs, nil
}

// backoff is how long to wait before try n+1 of a segment.
func backoff(tries int) time.Duration {
	switch tries {
	case 0:
		return 0
	case 1:
		return 200 * time.Millisecond
	case 2:
		return 500 * time.Millisecond
	case 3:
		return time.Second
	}
	return 2 * time.Second
}

// reason is why a segment is missing, for people.
func reason(err error) string {
	if e, ok := errors.AsType[*fetch.StatusError](err); ok {
		switch e.Code {
		case http.StatusNotFound, http.StatusGone:
			return "expired at the source"
		case http.StatusForbidden, http.StatusUnauthorized:
			return "refused by the source: " + e.Error()
		}
		return "the source answered " + e.Error()
	}
	if _, ok := errors.AsType[*fetch.PlaceError](err); ok {
		return "the playlist leads to a place that is not asked"
	}
	switch {
	case err == nil:
		return "not fetched in time"
	case errors.Is(err, errSpool):
		return "larger than what memory has room for, and there is none on the disk"
	case errors.Is(err, errFault):
		return "the disk failed under it"
	case errors.Is(err, fetch.ErrTooLarge):
		return "larger than a segment may be"
	case errors.Is(err, errScheme), errors.Is(err, errNoMedia):
		return err.Error()
	case errors.Is(err, body.ErrKey):
		return "it cannot be decrypted"
	case errors.Is(err, errTitle), errors.Is(err, fetch.ErrShort), errors.Is(err, io.ErrUnexpectedEOF):
		return WhyCorrupt
	case errors.Is(err, fetch.ErrSilent), errors.Is(err, fetch.ErrSlow):
		return "the source was too slow"
	}
	return "not to be had: " + err.Error()
}
