package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/http"
	"strings"
	"sync"
	"time"
)

// part is a piece of a page that can change by itself: what stands inside the element with that id.
type part struct {
	id    string
	of    string // what makes it different from others of that id: the filter and the page of a list
	key   string // set where only a change of this, and not of the text, is a reason to send it
	every uint64 // looked at only each so many pictures; 0: always
	name  string // of the template
	data  func() any
}

type pieceKey struct {
	lang   lang
	id, of string
}

type piece struct {
	n    uint64 // of the picture that it shows
	text string
	sum  uint64
}

// pieces are the drawn parts of one picture, shared by all pages that show them.
type pieces struct {
	mu   sync.Mutex
	made map[pieceKey]piece
	n    uint64
}

var seed = maphash.MakeSeed()

// piece draws a part, once for each picture and language.
func (p *Pages) piece(l lang, n uint64, t part) (piece, error) {
	p.pieces.mu.Lock()
	defer p.pieces.mu.Unlock()
	if p.pieces.n != n {
		clear(p.pieces.made) // nobody looks back
		p.pieces.n = n
	}
	k := pieceKey{l, t.id, t.of}
	if m, ok := p.pieces.made[k]; ok {
		return m, nil
	}
	var b bytes.Buffer
	if err := p.sets[l]["parts"].ExecuteTemplate(&b, t.name, t.data()); err != nil {
		return piece{}, fmt.Errorf("draw %s: %w", t.id, err)
	}
	m := piece{n: n, text: b.String(), sum: maphash.Bytes(seed, b.Bytes())}
	p.pieces.made[k] = m
	return m, nil
}

// A live page holds its connection open; a write that takes longer than this ends it.
const (
	liveWrite = 15 * time.Second
	liveBeat  = 20 * time.Second // a comment, so that proxies keep the connection
)

// live is the event stream of a page: GET /live?page=overview|room and what the page itself was asked for.
func (p *Pages) live(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var plan func(pic *picture) []part
	var step uint64
	l, room := langOf(r), ""
	switch q.Get("page") {
	case "overview":
		plan, step = func(pic *picture) []part { return p.overviewParts(l, pic, askOf(q)) }, 2
	case "room":
		room = q.Get("name")
		plan, step = func(pic *picture) []part { return p.roomParts(l, pic, room) }, 1
	default:
		p.missing(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	sent := map[string]uint64{}
	first, last := true, uint64(0)
	beat := time.NewTimer(liveBeat)
	defer beat.Stop()
	for {
		bell := p.bell()
		var b bytes.Buffer
		if pic := p.now.Load(); pic != nil && pic.n != last && (first || pic.n%step == 0) {
			last = pic.n
			if err := p.changes(&b, l, pic, plan(pic), sent, first); err != nil {
				p.log.Error().Err(err).Msg("a live page could not be drawn")
				return
			}
			if s := p.history.newest(room); s != nil {
				j, err := json.Marshal(s)
				if err != nil {
					return
				}
				fmt.Fprintf(&b, "event: sample\ndata: %s\n\n", j)
			}
		}
		if first && b.Len() == 0 {
			b.WriteString(": here\n\n")
		}
		first = false
		if b.Len() > 0 {
			if !write(w, out, b.Bytes(), liveWrite) {
				return
			}
			beat.Reset(liveBeat)
		}
		select {
		case <-r.Context().Done():
			return
		case <-bell:
		case <-beat.C:
			if !write(w, out, []byte(": still here\n\n"), liveWrite) {
				return
			}
			beat.Reset(liveBeat)
		}
	}
}

// write hands bytes to the browser, and reports whether it took them in time.
func write(w http.ResponseWriter, out *http.ResponseController, b []byte, limit time.Duration) bool {
	_ = out.SetWriteDeadline(time.Now().Add(limit)) // a recorder of a test has none
	if _, err := w.Write(b); err != nil {
		return false
	}
	return out.Flush() == nil
}

// changes appends one event with all the parts that differ from what was sent.
func (p *Pages) changes(b *bytes.Buffer, l lang, pic *picture, parts []part, sent map[string]uint64, first bool) error {
	any := false
	for _, t := range parts {
		if !first && t.every > 1 && pic.n%t.every != 0 {
			if _, known := sent[t.id]; known {
				continue
			}
		}
		var sum uint64
		if t.key != "" {
			if sum = maphash.String(seed, t.key); sent[t.id] == sum {
				continue
			}
		}
		m, err := p.piece(l, pic.n, t)
		if err != nil {
			return err
		}
		if t.key == "" {
			if sum = m.sum; sent[t.id] == sum {
				continue
			}
		}
		sent[t.id] = sum
		if !any {
			b.WriteString("data: ")
			any = true
		}
		b.WriteString(`<hx-partial hx-target="#` + t.id + `" hx-swap="innerMorph">`)
		b.WriteString(strings.ReplaceAll(strings.TrimSpace(m.text), "\n", "\ndata: "))
		b.WriteString("</hx-partial>")
	}
	if any {
		b.WriteString("\n\n")
	}
	return nil
}
