package uploader

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/liverec/liverec/pkg/backoff"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/segment"
)

// How often a question is asked before its answer is believed, and how often a delivery begins anew before it is parked.
const (
	asksAbsent  = 8 // a store may list late: the waits between them add up to about a minute
	asksDamaged = 2
	mostDamaged = 3
)

// relist is how long after a listing without an acknowledged chunk the store is asked once more.
const relist = 2 * time.Second

// recordTime is how long the record of an act that has happened may take when the program is told to stop.
const recordTime = 5 * time.Second

// journalError is trouble with the ledger: no record, no act.
type journalError struct{ err error }

func (e *journalError) Error() string { return "ledger: " + e.err.Error() }
func (e *journalError) Unwrap() error { return e.err }

// localError is trouble with our own disk: the target has no part in it.
type localError struct{ err error }

func (e *localError) Error() string { return "local file: " + e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// work is a delivery in the hands of one goroutine, together with what only this process knows about it.
type work struct {
	d       segment.Delivery
	acks    map[int]segment.Ack
	up      Upload // nil until it was opened or resumed in this process
	asks    int    // how often in a row the object was not there, or not right, after the target had completed it
	damaged int    // how often in a row the copy was not what was sent
	refused int    // how often in a row the target would not complete the upload
}

func (w *work) plan() plan { return planOf(w.d.Segment, w.d.Chunk) }

func planOf(s segment.Segment, chunk int64) plan {
	return plan{chunk: chunk, size: s.Size, head: s.Head, sealed: s.Sealed}
}

func (w *work) has(i int) bool { _, ok := w.acks[i]; return ok }

// object is what the delivery becomes on the target.
func (l *lane) object(d segment.Delivery) segment.Object {
	s := d.Segment
	o := segment.Object{ID: s.ID, Key: d.Key, Size: s.Size, MaxSize: s.Size, SHA256: s.SHA256, Chunk: d.Chunk}
	local := s.Path
	if !s.Sealed {
		o.Size, o.SHA256, o.MaxSize = -1, segment.Sum{}, max(l.cfg.MaxSize, s.Size)
		local += segment.PartSuffix
	}
	if o.Local = s.Path; !s.Foreign && !filepath.IsAbs(local) {
		o.Local = l.dir.Abs(local)
	}
	return o
}

// record writes down something that has happened; it is worth a moment even when everything is to stop.
func record(ctx context.Context, write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	if err := write(ctx); err != nil {
		return &journalError{err}
	}
	return nil
}

// intend writes down something that is about to happen.
func intend(ctx context.Context, write func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := write(ctx); err != nil {
		return &journalError{err}
	}
	return nil
}

// begin makes sure that there is an upload: it opens one, or goes on in the one that an earlier process left.
func (l *lane) begin(ctx context.Context, w *work) error {
	id := w.d.Segment.ID
	if w.d.State != segment.Due && !l.takes(w) {
		return l.again(ctx, w, "the target takes it in other chunks than before")
	}
	switch w.d.State {
	case segment.Due:
		if w.d.Segment.Sealed && w.d.Segment.Size == 0 {
			return &failure.Error{Op: "send " + w.d.Key, Kind: failure.Permanent, Err: errors.New("there is nothing in it")}
		}
		chunk, err := l.chunkSize(w.d.Segment)
		if err != nil {
			return &failure.Error{Op: "send " + w.d.Key, Kind: failure.Permanent, Err: err, Hint: "Use a smaller --max-size."}
		}
		if err := intend(ctx, func(ctx context.Context) error { return l.journal.Opening(ctx, l.id, id, chunk) }); err != nil {
			return err
		}
		w.d.State, w.d.Chunk, w.d.Token = segment.Opening, chunk, ""
		return l.openUpload(ctx, w)
	case segment.Opening:
		return l.openUpload(ctx, w)
	case segment.Uploading:
		return l.resume(ctx, w)
	}
	return fmt.Errorf("begin %s: it is %s", w.d.Key, w.d.State)
}

// chunkSize is what an upload of s that begins now is cut into.
func (l *lane) chunkSize(s segment.Segment) (int64, error) {
	if s.Sealed {
		return ChunkSize(l.limits, s.Size, s.Size)
	}
	return ChunkSize(l.limits, -1, max(l.cfg.MaxSize, s.Size))
}

// takes reports whether an upload that was begun earlier still fits what the target takes and what the segment became.
func (l *lane) takes(w *work) bool {
	if w.d.Chunk == 0 || l.limits.MinChunk == 0 {
		return w.d.Chunk == 0 && l.limits.MinChunk == 0
	}
	return l.limits.MaxChunks == 0 || w.plan().count() <= l.limits.MaxChunks
}

func (l *lane) openUpload(ctx context.Context, w *work) error {
	up, err := l.target.Open(ctx, l.object(w.d))
	if other, ok := errors.AsType[*OtherChunks](err); ok && other.Size > 0 && other.Size != w.d.Chunk {
		if err := intend(ctx, func(ctx context.Context) error { return l.journal.Opening(ctx, l.id, w.d.Segment.ID, other.Size) }); err != nil {
			return err
		}
		w.d.Chunk, w.d.Token = other.Size, ""
		up, err = l.target.Open(ctx, l.object(w.d))
	}
	if err != nil {
		return err
	}
	token := up.Token()
	if err := record(ctx, func(ctx context.Context) error { return l.journal.Opened(ctx, l.id, w.d.Segment.ID, token) }); err != nil {
		return err
	}
	w.d.State, w.d.Token, w.up, w.acks = segment.Uploading, token, up, map[int]segment.Ack{}
	return nil
}

// resume goes on in an upload of which the token is known.
func (l *lane) resume(ctx context.Context, w *work) error {
	up, listed, err := l.target.Resume(ctx, l.object(w.d), w.d.Token)
	if errors.Is(err, failure.ErrAbsent) {
		return l.vanished(ctx, w)
	}
	if err != nil {
		return err
	}
	kept, found, lost := union(w.plan(), inOrder(w.acks), listed)
	if len(lost) > 0 && listed != nil {
		// A store that lists late would have us send again what it has.
		if !backoff.Sleep(ctx, relist) {
			return ctx.Err()
		}
		if up, listed, err = l.target.Resume(ctx, l.object(w.d), w.d.Token); errors.Is(err, failure.ErrAbsent) {
			return l.vanished(ctx, w)
		} else if err != nil {
			return err
		}
		kept, found, lost = union(w.plan(), inOrder(w.acks), listed)
	}
	w.acks = map[int]segment.Ack{}
	for _, a := range kept {
		w.acks[a.Index] = a
	}
	if len(lost) > 0 {
		l.log.Warn().Str("session", string(w.d.Segment.ID.Session)).Uint32("seq", w.d.Segment.ID.Seq).Ints("chunks", lost).
			Msg("the target does not have chunks that it had acknowledged, they are sent again")
	}
	for _, a := range found {
		if a.Offset < w.d.Segment.Head && !w.d.Segment.Sealed {
			continue // its bytes may still change
		}
		sum, err := l.localSum(w.d.Segment, a.Chunk)
		if err != nil {
			return err
		}
		if sum != a.Sum {
			continue // it is sent once more under its index
		}
		if err := record(ctx, func(ctx context.Context) error { return l.journal.Acked(ctx, l.id, w.d.Segment.ID, a) }); err != nil {
			return err
		}
		w.acks[a.Index] = a
	}
	w.up = up
	return nil
}

func (l *lane) localSum(s segment.Segment, c segment.Chunk) (uint32, error) {
	f, give, err := l.files.take(s)
	if err != nil {
		return 0, &localError{err}
	}
	defer give()
	h := crc32.New(castagnoli)
	if n, err := io.Copy(h, io.NewSectionReader(f, c.Offset, c.Length)); err != nil || n != c.Length {
		return 0, &localError{errors.Join(err, fmt.Errorf("read %d bytes of chunk %d, not %d", n, c.Index, c.Length))}
	}
	return h.Sum32(), nil
}

// vanished is what to do when the target answers that there is no such upload: perhaps it was completed.
func (l *lane) vanished(ctx context.Context, w *work) error {
	w.up = nil
	if !w.d.Segment.Sealed {
		return l.again(ctx, w, "the target has forgotten the upload")
	}
	p, err := l.target.Verify(ctx, l.object(w.d), segment.Receipt{})
	switch {
	case err == nil:
	case w.d.State == segment.Committing && errors.Is(err, failure.ErrAbsent) && w.asks+1 < asksAbsent:
		w.asks++ // most likely it was completed and is not listed yet
		return err
	case errors.Is(err, failure.ErrAbsent), errors.Is(err, failure.ErrDamaged):
		return l.again(ctx, w, "the target has forgotten the upload")
	default:
		return err
	}
	if w.d.State == segment.Uploading {
		if err := intend(ctx, func(ctx context.Context) error { return l.journal.Committing(ctx, l.id, w.d.Segment.ID) }); err != nil {
			return err
		}
		w.d.State = segment.Committing
	}
	return l.found(ctx, w, p)
}

// found takes the proof of an object whose receipt was lost.
func (l *lane) found(ctx context.Context, w *work, p segment.Proof) error {
	r := segment.Receipt{Key: w.d.Key, Size: p.Size, Sum: p.Sum, Detail: "found complete, the answer to the commit was lost"}
	if err := l.committed(ctx, w, r); err != nil {
		return err
	}
	return l.verified(ctx, w, p)
}

// tidy makes sure that no upload is left behind when the object was found complete: it may be the work of an earlier
// upload that the target had denied at first.
func (l *lane) tidy(ctx context.Context, w *work) error {
	up := w.up
	if up == nil {
		var err error
		if up, _, err = l.target.Resume(ctx, l.object(w.d), w.d.Token); errors.Is(err, failure.ErrAbsent) {
			return nil
		} else if err != nil {
			return err
		}
	}
	err := up.Abort(ctx)
	switch {
	case err == nil, errors.Is(err, failure.ErrAbsent):
		return nil
	case failure.KindOf(err) == failure.NeedsHuman, failure.KindOf(err) == failure.Permanent:
		l.log.Debug().Err(err).Str("key", w.d.Key).Msg("what is left of the upload cannot be aborted")
		return nil
	}
	return err
}

func (l *lane) committed(ctx context.Context, w *work, r segment.Receipt) error {
	if err := record(ctx, func(ctx context.Context) error { return l.journal.Committed(ctx, l.id, w.d.Segment.ID, r) }); err != nil {
		return err
	}
	w.d.State, w.d.Receipt, w.asks, w.refused = segment.Committed, r, 0, 0
	return nil
}

func (l *lane) verified(ctx context.Context, w *work, p segment.Proof) error {
	if p.Size != w.d.Segment.Size {
		return fmt.Errorf("verify %s: a proof of %d bytes for a segment of %d", w.d.Key, p.Size, w.d.Segment.Size)
	}
	if l.limits.Listed {
		if err := record(ctx, func(ctx context.Context) error { return l.journal.Listing(ctx, l.id, w.d.Segment.ID) }); err != nil {
			return err
		}
		w.d.Stored, w.d.Proof, w.up = time.Now(), p, nil
		return nil
	}
	if err := record(ctx, func(ctx context.Context) error { return l.journal.Verified(ctx, l.id, w.d.Segment.ID, p) }); err != nil {
		return err
	}
	w.d.State, w.d.Proof, w.up = segment.Verified, p, nil
	return nil
}

// again takes a delivery back to its beginning. What is left of the upload is aborted if it can be; if not, the next
// Open finds it.
func (l *lane) again(ctx context.Context, w *work, why string) error {
	if w.up != nil {
		if err := w.up.Abort(ctx); err != nil && !errors.Is(err, failure.ErrAbsent) {
			l.log.Debug().Err(err).Str("key", w.d.Key).Msg("abandoned upload is left to the next open")
		}
	}
	if err := record(ctx, func(ctx context.Context) error { return l.journal.Again(ctx, l.id, w.d.Segment.ID, why) }); err != nil {
		return err
	}
	l.log.Warn().Str("session", string(w.d.Segment.ID.Session)).Uint32("seq", w.d.Segment.ID.Seq).Str("why", why).
		Msg("delivery begins anew")
	w.d.State, w.d.Token, w.d.Chunk, w.d.Receipt, w.d.Why = segment.Due, "", 0, segment.Receipt{}, why
	w.up, w.acks, w.asks, w.refused = nil, map[int]segment.Ack{}, 0, 0
	return nil
}

// spoilt begins anew after the target kept something else than what was sent, or nothing, but not for ever.
func (l *lane) spoilt(ctx context.Context, w *work, cause error) error {
	w.damaged++
	n := w.damaged
	if err := l.again(ctx, w, "there is no good copy: "+cause.Error()); err != nil {
		return err
	}
	if n < mostDamaged {
		return nil
	}
	return &failure.Error{
		Op: "send " + w.d.Key, Kind: failure.Permanent, Err: fmt.Errorf("%d times in a row: %w", n, cause),
		Hint: "The target does not keep what it is sent: look at its disk and its memory.",
	}
}

// finish completes the object and proves it.
func (l *lane) finish(ctx context.Context, w *work) error {
	id := w.d.Segment.ID
	switch w.d.State {
	case segment.Uploading:
		if err := intend(ctx, func(ctx context.Context) error { return l.journal.Committing(ctx, l.id, id) }); err != nil {
			return err
		}
		w.d.State = segment.Committing
	case segment.Committing:
		// The answer to a commit may be lost: ask before repeating (K7).
		p, err := l.target.Verify(ctx, l.object(w.d), segment.Receipt{})
		switch {
		case err == nil:
			if err := l.tidy(ctx, w); err != nil {
				return err
			}
			return l.found(ctx, w, p)
		case !errors.Is(err, failure.ErrAbsent) && !errors.Is(err, failure.ErrDamaged):
			return err
		}
		if ready, err := l.recommit(ctx, w); err != nil || !ready {
			return err
		}
	}
	if w.d.State == segment.Committing {
		r, err := w.up.Commit(ctx, l.object(w.d), inOrder(w.acks))
		if err != nil {
			return l.uncommitted(ctx, w, err)
		}
		if err := l.committed(ctx, w, r); err != nil {
			return err
		}
		if w.d.Chunk == 0 {
			l.gauge.sent(w.d.Segment.Size)
		}
	}
	p, err := l.target.Verify(ctx, l.object(w.d), w.d.Receipt)
	switch {
	case err == nil:
		w.asks = 0
		return l.verified(ctx, w, p)
	case errors.Is(err, failure.ErrDamaged):
		if w.asks++; w.asks < asksDamaged {
			return err
		}
		return l.spoilt(ctx, w, err)
	case errors.Is(err, failure.ErrAbsent):
		if w.asks++; w.asks < asksAbsent {
			return err
		}
		return l.spoilt(ctx, w, fmt.Errorf("the target said that it was complete: %w", err))
	}
	return err
}

// recommit finds out with what a commit can be repeated. It is false when there is more to send first.
func (l *lane) recommit(ctx context.Context, w *work) (ready bool, err error) {
	if !l.takes(w) {
		return false, l.again(ctx, w, "the target takes it in other chunks than before")
	}
	if err := l.resume(ctx, w); err != nil || w.d.State != segment.Committing {
		return false, err // begun anew, or proven meanwhile
	}
	if w.plan().complete(w.has) {
		return true, nil
	}
	// The store has lost chunks: back to sending.
	if err := record(ctx, func(ctx context.Context) error { return l.journal.Opened(ctx, l.id, w.d.Segment.ID, w.d.Token) }); err != nil {
		return false, err
	}
	w.d.State = segment.Uploading
	return false, nil
}

// uncommitted is what to do when a commit was answered with an error.
func (l *lane) uncommitted(ctx context.Context, w *work, err error) error {
	if w.d.Chunk == 0 {
		// The target read our file by its name. If there is none, no target and no second try can help, whatever it says.
		if _, lerr := os.Stat(l.object(w.d).Local); errors.Is(lerr, fs.ErrNotExist) {
			return &localError{lerr}
		}
	}
	if errors.Is(err, failure.ErrDamaged) || failure.KindOf(err) == failure.Permanent && !errors.Is(err, failure.ErrAbsent) {
		// The target does not like what it has. Its listing says what is missing; if it says nothing, all is sent anew.
		if w.refused++; w.refused < asksDamaged {
			return &failure.Error{Op: "commit " + w.d.Key, Kind: failure.Transient, Err: err}
		}
		return l.spoilt(ctx, w, err)
	}
	return err
}

// send carries one chunk.
func (l *lane) send(ctx context.Context, d segment.Delivery, up Upload, c segment.Chunk) (segment.Ack, error) {
	f, give, err := l.files.take(d.Segment)
	if err != nil {
		return segment.Ack{}, &localError{err}
	}
	defer give()
	src := newSource(f, c, l.gauge.move)
	a, err := up.Put(ctx, c, src)
	if lerr := src.trouble(); lerr != nil {
		return segment.Ack{}, &localError{lerr}
	}
	if err != nil {
		return segment.Ack{}, err
	}
	if a.Chunk != c {
		return segment.Ack{}, fmt.Errorf("put chunk %d of %s: the ack is for %+v", c.Index, d.Key, a.Chunk)
	}
	if sum, ok := src.checksum(); ok && sum != a.Sum {
		return segment.Ack{}, &failure.Error{
			Op: fmt.Sprintf("put chunk %d of %s", c.Index, d.Key), Kind: failure.Transient,
			Err: fmt.Errorf("%08x was sent and %08x arrived: %w", sum, a.Sum, failure.ErrDamaged),
		}
	}
	if err := record(ctx, func(ctx context.Context) error { return l.journal.Acked(ctx, l.id, d.Segment.ID, a) }); err != nil {
		return segment.Ack{}, err
	}
	l.gauge.sent(c.Length)
	return a, nil
}

// gone reports whether err says that the local file does not exist.
func gone(err error) bool {
	var local *localError
	return errors.As(err, &local) && errors.Is(err, fs.ErrNotExist)
}

// explain is an error with what a person can do about it.
func explain(err error) string {
	if hint := failure.Hint(err); hint != "" {
		return err.Error() + " – " + hint
	}
	return err.Error()
}
