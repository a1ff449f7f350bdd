package liveroom

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// ServeHTTP answers every GET with the live stream, or with 404 while the room is offline.
func (r *Room) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "a live room can only be read", http.StatusMethodNotAllowed)
		return
	}
	r.mu.Lock()
	if !r.live || r.stopped {
		r.refused++
		r.mu.Unlock()
		http.Error(w, "nothing is being sent", http.StatusNotFound)
		return
	}
	if req.Method == http.MethodHead {
		r.mu.Unlock()
		streamHeader(w)
		return
	}
	s := &session{room: r, w: w, flush: http.NewResponseController(w).Flush, rec: &Connection{
		N: len(r.conns), Remote: req.RemoteAddr, Opened: time.Now(),
	}}
	s.run = r.run
	r.conns = append(r.conns, s.rec)
	r.handlers++
	r.mu.Unlock()
	if r.cfg.Fault != nil {
		r.faults.Lock()
		s.enc.fault = r.cfg.Fault(s.rec.N)
		r.faults.Unlock()
	}

	err := s.serve(req.Context())
	r.mu.Lock()
	s.rec.Closed, s.rec.Why = time.Now(), err.Error()
	r.handlers--
	r.ring()
	r.mu.Unlock()
	if errors.Is(err, errBroken) {
		panic(http.ErrAbortHandler) // the way to end a response without its last chunk
	}
}

func streamHeader(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "video/x-flv")
	h.Set("Cache-Control", "no-cache")
}

// How a connection can end.
var (
	errBroken  = errors.New("broken by a fault")
	errClean   = errors.New("ended by a fault")
	errOver    = errors.New("the broadcast is over")
	errStopped = errors.New("the room was stopped")
	errAnswer  = errors.New("answered without a stream")
)

// session is one connection while it is being served.
type session struct {
	room  *Room
	w     http.ResponseWriter
	flush func() error
	enc   encoder
	rec   *Connection // guarded by room.mu
	run   int         // the broadcast that it belongs to

	buf   []byte
	pos   uint64 // index of the next tag
	event int    // the next one
	since int    // media tags since the last event
	skip  int64  // ms: media is left out until a key frame at or after this; 0: not skipping
	wrote int64
}

// serve returns how the connection ended, never nil.
func (s *session) serve(ctx context.Context) error {
	f := s.enc.fault
	switch {
	case f.Mute:
		return s.idle(ctx)
	case f.Status != 0:
		if f.RetryAfter > 0 {
			s.w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
		}
		http.Error(s.w, http.StatusText(f.Status), f.Status)
		s.status(f.Status)
		return errAnswer
	case f.Redirect != "":
		s.w.Header().Set("Location", f.Redirect)
		s.w.WriteHeader(http.StatusFound)
		s.status(http.StatusFound)
		return errAnswer
	case f.Body != nil:
		kind := f.Type
		if kind == "" {
			kind = "text/html"
		}
		s.w.Header().Set("Content-Type", kind)
		s.status(http.StatusOK)
		if err := s.write(f.Body); err != nil {
			return err
		}
		return errAnswer
	}
	streamHeader(s.w)
	s.w.WriteHeader(http.StatusOK)
	s.status(http.StatusOK)
	if f.Silent {
		if err := s.flush(); err != nil {
			return err
		}
		return s.idle(ctx)
	}
	return s.stream(ctx)
}

func (s *session) status(code int) {
	s.room.mu.Lock()
	s.rec.Status = code
	s.room.mu.Unlock()
}

// idle waits until the client leaves or the room is stopped.
func (s *session) idle(ctx context.Context) error {
	for {
		s.room.mu.Lock()
		stopped, news := s.room.stopped, s.room.news
		s.room.mu.Unlock()
		if stopped {
			return errStopped
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// join finds the place where a new connection begins: the newest key frame, or the next tag that will be made.
func (s *session) join() {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	s.pos, s.enc.clip = r.first+uint64(len(r.tags)), r.clip
	if r.hasKey && !r.cfg.NoCache {
		s.pos = r.newest
	}
	s.enc.shift = s.enc.fault.Shift.Milliseconds()
	if n := len(r.tags); n > 0 && !s.enc.fault.Rebase {
		s.enc.last = r.tags[n-1].ts + s.enc.shift
		if i := int(s.pos - r.first); i < n {
			s.enc.last = r.tags[i].ts + s.enc.shift
		}
	}
}

// take waits for tags and returns the ones from pos on. A client that is too far behind goes on at the newest key
// frame, as CDNs do it.
func (s *session) take(ctx context.Context) ([]tag, error) {
	r := s.room
	for {
		r.mu.Lock()
		if s.run != r.run {
			r.mu.Unlock()
			return nil, errOver
		}
		end := r.first + uint64(len(r.tags))
		if s.pos < r.first {
			s.rec.Dropped += int(r.newest - s.pos)
			s.pos = r.newest
		}
		if s.pos < end {
			out := r.tags[s.pos-r.first:]
			r.mu.Unlock()
			return out[:len(out):len(out)], nil // the array is only ever appended to or replaced
		}
		live, stopped, news := r.live, r.stopped, r.news
		r.mu.Unlock()
		switch {
		case stopped:
			return nil, errStopped
		case !live:
			return nil, errOver
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *session) stream(ctx context.Context) error {
	s.join()
	if err := s.write(s.enc.appendStart(nil)); err != nil {
		return err
	}
	for {
		tags, err := s.take(ctx)
		if err != nil {
			return err
		}
		s.pos += uint64(len(tags))
		for _, t := range tags {
			if err := s.events(ctx, t); err != nil {
				return err
			}
			if err := s.send(t); err != nil {
				return err
			}
		}
	}
}

// send writes one tag and notes it.
func (s *session) send(t tag) error {
	if s.skip != 0 && t.ts >= s.skip && t.key {
		s.skip = 0
	}
	if (s.skip != 0 && !t.change) || !s.enc.wants(t) {
		return nil
	}
	s.buf = s.enc.appendTag(s.buf[:0], t)
	if err := s.write(s.buf); err != nil {
		return err
	}
	if t.change {
		return nil
	}
	s.since++
	s.room.mu.Lock()
	s.rec.Tags++
	if t.typ == tagVideo {
		s.rec.Frames = append(s.rec.Frames, Frame{Number: t.frame, At: time.Now()})
	}
	s.room.mu.Unlock()
	return nil
}

// write hands bytes to the kernel at once.
func (s *session) write(b []byte) error {
	cut := s.enc.fault.CutBytes
	over := cut > 0 && s.wrote+int64(len(b)) >= cut
	if over {
		b = b[:cut-s.wrote]
	}
	n, err := s.w.Write(b)
	s.wrote += int64(n)
	if err == nil {
		err = s.flush()
	}
	s.room.mu.Lock()
	s.rec.Bytes = s.wrote
	s.room.mu.Unlock()
	if err == nil && over {
		err = errBroken
	}
	return err
}

// events lets happen what is due before t.
func (s *session) events(ctx context.Context, t tag) error {
	for s.event < len(s.enc.fault.Events) {
		e := s.enc.fault.Events[s.event]
		if s.since < e.Tags || time.Since(s.rec.Opened) < e.After {
			return nil
		}
		s.since = 0
		if !e.Again {
			s.event++
		}
		if err := s.happen(ctx, e, t); err != nil {
			return err
		}
		if e.Again {
			return nil
		}
	}
	return nil
}

func (s *session) happen(ctx context.Context, e Event, t tag) error {
	if len(e.Junk) > 0 {
		if err := s.write(e.Junk); err != nil {
			return err
		}
	}
	if e.Header {
		if err := s.write(s.enc.appendStart(nil)); err != nil {
			return err
		}
	}
	if e.Headers {
		if err := s.write(s.enc.appendHeaders(nil)); err != nil {
			return err
		}
	}
	s.enc.shift += e.Jump.Milliseconds()
	if e.Skip > 0 {
		s.skip = t.ts + e.Skip.Milliseconds()
	}
	if e.Stall > 0 {
		if err := s.sleep(ctx, e.Stall); err != nil {
			return err
		}
	}
	if e.Loop > 0 {
		return s.loop(ctx, e, t)
	}
	if e.Half > 0 {
		b := s.enc.appendTag(nil, t)
		if err := s.write(b[:min(e.Half, len(b)-1)]); err != nil {
			return err
		}
		if e.End == Clean {
			return errClean
		}
		return errBroken
	}
	switch e.End {
	case Broken:
		return errBroken
	case Clean:
		return errClean
	default:
		return nil
	}
}

// sleep waits for d. It ends early when the client leaves, the room is stopped or the broadcast is over.
func (s *session) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		s.room.mu.Lock()
		stopped, over, news := s.room.stopped, !s.room.live || s.run != s.room.run, s.room.news
		s.room.mu.Unlock()
		switch {
		case stopped:
			return errStopped
		case over:
			return errOver
		}
		select {
		case <-timer.C:
			return nil
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// loop sends the last e.Loop before t again and again.
func (s *session) loop(ctx context.Context, e Event, t tag) error {
	r := s.room
	r.mu.Lock()
	var part []tag
	for _, old := range r.tags {
		if old.ts >= t.ts {
			break
		}
		if old.ts >= t.ts-e.Loop.Milliseconds() && (len(part) > 0 || old.key) {
			part = append(part, old)
		}
	}
	r.mu.Unlock()
	if len(part) == 0 {
		return s.idle(ctx)
	}
	length := t.ts - part[0].ts
	start := time.Now()
	for round := int64(0); ; round++ {
		for _, old := range part {
			media := time.Duration(old.ts-part[0].ts+round*length) * time.Millisecond
			if wait := time.Until(start.Add(time.Duration(float64(media) / r.cfg.Speed))); wait > 0 {
				if err := s.sleep(ctx, wait); err != nil {
					return err
				}
			}
			if !e.LoopBack {
				old.ts += (round + 1) * length
			}
			if err := s.send(old); err != nil {
				return err
			}
		}
	}
}
