package page

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/web"
)

const (
	previews    = 16 // at a time
	previewLook = 250 * time.Millisecond
	previewSlow = 30 * time.Second // a browser that takes nothing for so long has lost its preview
	behind      = 2 * time.Second  // a preview begins at the last key frame that is at least so old, so that it plays at once
	mostHead    = 1 << 20          // of a part: larger ones are not ours
	mostTag     = 32 << 20
	mostBack    = 64 << 20 // how far before the end of a TS a key frame is looked for
)

var kinds = map[string]string{"flv": "video/x-flv", "mp4": "video/mp4", "ts": "video/mp2t"}

func streamURL(room string) string { return "/preview?name=" + url.QueryEscape(room) }

// preview plays the part that a room is recording, from its newest key frame, until it is closed: FLV and TS as they are,
// MP4 as its head and its fragments.
func (p *Pages) preview(w http.ResponseWriter, r *http.Request) {
	select {
	case p.seats <- struct{}{}:
		defer func() { <-p.seats }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many previews are playing", http.StatusServiceUnavailable)
		return
	}
	o, err := p.view.Open(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		p.unplayable(w, r, err)
		return
	}
	defer func() { _ = o.Close() }() // it was only read
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("Content-Type", kinds[o.Container])
	if r.Method == http.MethodHead {
		return // which player it wants
	}
	out := &follower{open: o, ctx: r.Context(), w: w, rc: http.NewResponseController(w)}
	switch o.Container {
	case "flv":
		err = out.flv()
	case "mp4":
		err = out.mp4()
	case "ts":
		err = out.ts()
	default:
		err = fmt.Errorf("a part in the container %q cannot be shown", o.Container)
	}
	if err != nil && r.Context().Err() == nil && !errors.Is(err, errGone) {
		p.log.Debug().Err(err).Str("room", r.URL.Query().Get("name")).Msg("a preview ended")
		if !out.begun {
			h.Del("Content-Type")
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		}
	}
}

func (p *Pages) unplayable(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, web.ErrNone) {
		http.Error(w, langOf(r).t("preview.none"), http.StatusNotFound)
		return
	}
	p.log.Warn().Err(err).Msg("a preview could not be opened")
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

// part gives what is durable of the open part as a file, with ranges: GET /preview/part?name=… A player that asks again
// finds it longer.
func (p *Pages) part(w http.ResponseWriter, r *http.Request) {
	o, err := p.view.Open(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		p.unplayable(w, r, err)
		return
	}
	defer func() { _ = o.Close() }() // it was only read
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", kinds[o.Container])
	name := path.Base(o.ID.Base()) + "." + o.Container
	h.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": name}))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // the person, or the end of the connection, ends it
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(o, 0, o.Durable()))
}

var errGone = errors.New("the browser is gone")

// follower copies an open part to a browser as it grows. It never reads beyond what is durable, and waits for more
// without a goroutine.
type follower struct {
	open  *web.Open
	ctx   context.Context // of the request
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
	buf   []byte
}

// wait returns when n bytes are durable; io.EOF if the part is closed and has less.
func (f *follower) wait(n int64) error {
	if f.open.Durable() >= n {
		return nil
	}
	t := time.NewTicker(previewLook)
	defer t.Stop()
	for {
		sealed := f.open.Sealed() // before Durable: what was closed grows no more
		switch {
		case f.open.Durable() >= n:
			return nil
		case sealed:
			return io.EOF
		}
		select {
		case <-f.ctx.Done():
			return errGone
		case <-t.C:
		}
	}
}

func (f *follower) send(b []byte) error {
	f.begun = true
	_ = f.rc.SetWriteDeadline(time.Now().Add(previewSlow)) // a recorder of a test has none
	if _, err := f.w.Write(b); err != nil {
		return errGone
	}
	return nil
}

// copy sends bytes of the part as soon as they are durable.
func (f *follower) copy(from, to int64) error {
	if f.buf == nil {
		f.buf = make([]byte, 256<<10)
	}
	for from < to {
		n := min(to-from, int64(len(f.buf)))
		if have := f.open.Durable() - from; have <= 0 {
			if err := f.flush(); err != nil {
				return err
			}
			if err := f.wait(from + 1); err != nil {
				return err
			}
			continue
		} else if n > have {
			n = have
		}
		if _, err := f.open.ReadAt(f.buf[:n], from); err != nil {
			return fmt.Errorf("read the open part at %d: %w", from, err)
		}
		if err := f.send(f.buf[:n]); err != nil {
			return err
		}
		from += n
	}
	return nil
}

func (f *follower) flush() error {
	if err := f.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errGone
	}
	return nil
}

// end turns the end of the part into the end of the preview.
func (f *follower) end(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// tagAt reads the header of an FLV tag and the begin of its body.
func (f *follower) tagAt(at, durable int64) (size int64, ms int64, class flv.Class, typ byte, ok bool) {
	var h [11 + 16]byte
	n := min(int64(len(h)), durable-at)
	if n < 11 {
		return 0, 0, class, 0, false
	}
	if _, err := f.open.ReadAt(h[:n], at); err != nil {
		return 0, 0, class, 0, false
	}
	body := int64(h[1])<<16 | int64(h[2])<<8 | int64(h[3])
	size = 11 + body + 4
	if size > mostTag || at+size > durable {
		return 0, 0, class, 0, false
	}
	ms = int64(int32(uint32(h[7])<<24 | uint32(h[4])<<16 | uint32(h[5])<<8 | uint32(h[6])))
	return size, ms, flv.Classify(h[0], h[11:min(n, 11+body)]), h[0], true
}

// flv sends a header, the configurations, and all tags from a key frame near the end. It leaves out the metadata: its index
// is of the file, not of this stream.
func (f *follower) flv() error {
	const first = 9 + 4
	if err := f.wait(first + 11); err != nil {
		return f.end(err)
	}
	var head []byte
	type key struct{ at, ms int64 }
	var keys []key
	var last, hint int64 // time of the newest tag; where the index of the head says that a key frame lies
	video, audio, begun := false, false, false
	at := int64(first)
	for durable := f.open.Durable(); ; {
		size, ms, class, typ, ok := f.tagAt(at, durable)
		if !ok {
			break
		}
		switch {
		case class.Kind == media.Script && at == first && size < mostHead:
			body := make([]byte, size-15)
			if _, err := f.open.ReadAt(body, at+11); err != nil {
				return fmt.Errorf("read the head of the open part: %w", err)
			}
			hint = lastKey(body)
		case (class.Kind == media.VideoConfig || class.Kind == media.AudioConfig) && len(keys) == 0 && !begun:
			b := make([]byte, size)
			if _, err := f.open.ReadAt(b, at); err != nil {
				return fmt.Errorf("read the head of the open part: %w", err)
			}
			head = append(head, b...)
			video, audio = video || typ == flv.TagVideo, audio || typ == flv.TagAudio
		case class.Kind == media.Video || class.Kind == media.Audio:
			if class.Kind == media.Video && class.Key {
				keys = append(keys, key{at, ms})
			}
			begun, last = true, max(last, ms)
			if to := hint; to > at { // media begins: all before the indexed key frame is passed over
				hint = 0
				if _, _, c, _, ok := f.tagAt(to, durable); ok && c.Kind == media.Video && c.Key {
					keys, at = nil, to
					continue
				}
			}
		}
		at += size
	}
	from := at
	for i := len(keys) - 1; i >= 0; i-- {
		if from = keys[i].at; last-keys[i].ms >= behind.Milliseconds() {
			break
		}
	}
	if err := f.send(append(flv.AppendFileHeader(nil, audio || !video, video), head...)); err != nil {
		return err
	}
	return f.end(f.copy(from, 1<<62))
}

// lastKey is where the newest key frame lies that the index in front of a part names, or 0.
func lastKey(script []byte) int64 {
	m, err := flv.ParseMetadata(script)
	if err != nil {
		return 0
	}
	v, ok := m.Get("keyframes")
	if !ok {
		return 0
	}
	for _, q := range v.Props {
		if q.Name == "filepositions" && len(q.Value.Elems) > 0 {
			return int64(q.Value.Elems[len(q.Value.Elems)-1].Number)
		}
	}
	return 0
}

// mp4 sends the head and then whole fragments from a key frame near the end. What stands behind the last fragment of a
// closed part, its index, is not sent.
func (f *follower) mp4() error {
	var head []byte
	at := int64(0)
	var in *mp4.Init
	type frag struct {
		at  int64
		key bool
	}
	var frags []frag
	for in == nil {
		typ, size, err := f.box(at)
		if err != nil {
			return f.end(err)
		}
		if typ == "ftyp" || typ == "moov" {
			if size > mostHead {
				return fmt.Errorf("a box %s of %d bytes", typ, size)
			}
			if err := f.wait(at + size); err != nil {
				return f.end(err)
			}
			b := make([]byte, size)
			if _, err := f.open.ReadAt(b, at); err != nil {
				return fmt.Errorf("read the head of the open part: %w", err)
			}
			head = append(head, b...)
			if typ == "moov" {
				if in, err = mp4.ParseInit(head); err != nil {
					return fmt.Errorf("read the head of the open part: %w", err)
				}
			}
		}
		at += size
	}
	// The boxes behind the head, without their samples, to the end of what is durable.
	for durable := f.open.Durable(); at+8 <= durable; {
		typ, size, err := f.box(at)
		if err != nil {
			return f.end(err)
		}
		if at+size > durable || typ == "moov" {
			break
		}
		if typ == "moof" {
			frags = append(frags, frag{at: at})
		}
		at += size
	}
	from := at
	d := mp4.NewDemuxer(in)
	for i := len(frags) - 1; i >= 0; i-- { // some 500 ms each
		from = frags[i].at
		if len(frags)-i >= int(behind/(500*time.Millisecond)) && f.hasKey(d, in, frags[i].at) {
			break
		}
	}
	if err := f.send(head); err != nil {
		return err
	}
	for {
		typ, size, err := f.box(from)
		if err != nil {
			return f.end(err)
		}
		if typ == "moov" {
			return nil
		}
		if err := f.wait(from + size); err != nil {
			return f.end(err)
		}
		if typ == "moof" || typ == "mdat" {
			if err := f.copy(from, from+size); err != nil {
				return f.end(err)
			}
		}
		from += size
	}
}

// box reads the header of an MP4 box, when it is there.
func (f *follower) box(at int64) (typ string, size int64, err error) {
	if f.open.Durable() < at+8 {
		if err := f.flush(); err != nil {
			return "", 0, err
		}
		if err := f.wait(at + 8); err != nil {
			return "", 0, err
		}
	}
	var h [16]byte
	n := 8
	if f.open.Durable() >= at+16 {
		n = 16
	}
	if _, err := f.open.ReadAt(h[:n], at); err != nil {
		return "", 0, fmt.Errorf("read the open part at %d: %w", at, err)
	}
	size = int64(binary.BigEndian.Uint32(h[:4]))
	if size == 1 && n == 16 {
		size = int64(binary.BigEndian.Uint64(h[8:]))
	}
	if size < 8 {
		return "", 0, fmt.Errorf("a box of %d bytes at %d of the open part", size, at)
	}
	return string(h[4:8]), size, nil
}

// hasKey reports whether the fragment at that place has a picture that a decoder can begin with.
func (f *follower) hasKey(d *mp4.Demuxer, in *mp4.Init, at int64) bool {
	_, moof, err := f.box(at)
	if err != nil {
		return false
	}
	_, mdat, err := f.box(at + moof)
	if err != nil || moof+mdat > mostTag || f.open.Durable() < at+moof+mdat {
		return false
	}
	b := make([]byte, moof+mdat)
	if _, err := f.open.ReadAt(b, at); err != nil {
		return false
	}
	pictures := false
	for a, err := range d.Samples(b) {
		if err != nil {
			return false
		}
		if in.Tracks[a.Track].Kind == media.Video {
			if pictures = true; a.Key {
				return true
			}
		}
	}
	return !pictures // sound alone begins anywhere
}

// ts sends whole packets from the tables before a key frame near the end.
func (f *follower) ts() error {
	const packet = 188
	if err := f.wait(2 * packet); err != nil {
		return f.end(err)
	}
	durable := f.open.Durable() / packet * packet
	lo := max(durable-mostBack, 0) / packet * packet
	// The last places with a PAT; the writer puts one in front of each key frame.
	var pats [3]int64
	n := 0
	r := bufio.NewReaderSize(io.NewSectionReader(f.open, lo, durable-lo), 64<<10)
	var b [packet]byte
	for at := lo; at < durable; at += packet {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return fmt.Errorf("read the open part at %d: %w", at, err)
		}
		if b[0] == 0x47 && b[1]&0x1F == 0 && b[2] == 0 {
			pats[n%len(pats)] = at
			n++
		}
	}
	if n == 0 {
		return errors.New("no tables near the end of the open part")
	}
	return f.end(f.copy(pats[max(n-2, 0)%len(pats)], 1<<62))
}
