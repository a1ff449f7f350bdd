package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/obs"
	"github.com/liverec/liverec/pkg/status"
)

const (
	eventEvery = time.Second      // at most one change per reader in this time
	heartbeat  = 15 * time.Second // a reader hears something at least this often
	stallLimit = 15 * time.Second // a write that takes longer ends the stream
	askLimit   = 5 * time.Second  // for the status
	maxStreams = 256              // readers at once
)

// delta is what became different between two looks at the status.
type delta struct {
	// ID names the later look; a reader that comes back with it as its Last-Event-ID gets what changed since.
	ID string
	// Whole: Status is all there is, and whatever a reader knew is void. So it is for a new reader, and for everybody
	// when a room or a target came, went or moved in the list. Otherwise Rooms and Targets hold only those that changed,
	// all other fields are the newest.
	Whole  bool
	Status status.Status
}

// event is one message to a browser: its name, and its data, which may have several lines.
type event struct {
	Name string
	Data []byte
}

// hub looks at the status once a second while anybody listens, and tells every reader what changed since that reader
// heard last. There is no queue: whoever is slow gets fewer and larger changes, so a reader costs no memory but a
// version number. It never looks while nobody listens.
type hub struct {
	view View
	log  *obs.Warner // belongs to run
	run0 string      // begins every ID: versions of another process mean nothing here

	wake chan struct{} // cap 1; sent by join, never closed
	done chan struct{} // closed by end
	once sync.Once     // guards the closing of done

	mu      sync.Mutex // guards what is below
	readers int
	version uint64 // of now; 0: nobody has looked yet
	now     status.Status
	whole   uint64            // readers below it need everything
	rooms   map[string]uint64 // version at which each changed last
	targets map[string]uint64
	rung    chan struct{} // closed at each new version
}

func newHub(v View, log zerolog.Logger) *hub {
	return &hub{view: v, log: obs.NewWarner(log, 10*time.Minute), run0: rand.Text()[:8], wake: make(chan struct{}, 1),
		done: make(chan struct{}), rung: make(chan struct{})}
}

// end ends all streams; browsers come back by themselves.
func (h *hub) end() { h.once.Do(func() { close(h.done) }) }

// run looks until ctx ends.
func (h *hub) run(ctx context.Context) error {
	var last time.Time
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		h.mu.Lock()
		idle := h.readers == 0
		h.mu.Unlock()
		if idle {
			select {
			case <-ctx.Done():
				return nil
			case <-h.wake:
				continue
			}
		}
		pause.Reset(max(0, eventEvery-time.Since(last)))
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		last = time.Now()
		ask, cancel := context.WithTimeout(ctx, askLimit)
		st, err := h.view.Status(ask)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		h.log.Add(err, "the status cannot be read, pages stand still")
		if err == nil {
			h.take(st)
		}
	}
}

// take compares a look with the one before.
func (h *hub) take(st status.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was, next := h.now, h.version+1
	same := func(a, b []string) bool { return slices.Equal(a, b) }
	listed := h.version > 0 && same(roomNames(was), roomNames(st)) && same(targetNames(was), targetNames(st))
	changed := !listed
	if !listed {
		h.whole = next
		h.rooms, h.targets = make(map[string]uint64, len(st.Rooms)), make(map[string]uint64, len(st.Targets))
		for _, r := range st.Rooms {
			h.rooms[r.Room] = next
		}
		for _, t := range st.Targets {
			h.targets[t.Target] = next
		}
	} else {
		for i, r := range st.Rooms {
			if !equalRooms(was.Rooms[i], r) {
				h.rooms[r.Room], changed = next, true
			}
		}
		for i, t := range st.Targets {
			if was.Targets[i] != t {
				h.targets[t.Target], changed = next, true
			}
		}
		changed = changed || was.UnsafeBytes != st.UnsafeBytes || was.OldestUnsafeSeconds != st.OldestUnsafeSeconds || was.Disk != st.Disk
	}
	if !changed {
		return
	}
	h.version, h.now = next, st
	close(h.rung)
	h.rung = make(chan struct{})
}

func roomNames(s status.Status) []string {
	out := make([]string, len(s.Rooms))
	for i, r := range s.Rooms {
		out[i] = r.Room
	}
	return out
}

func targetNames(s status.Status) []string {
	out := make([]string, len(s.Targets))
	for i, t := range s.Targets {
		out[i] = t.Target
	}
	return out
}

func equalRooms(a, b status.Room) bool {
	x, y := a.Open, b.Open
	a.Open, b.Open = nil, nil
	if a != b || (x == nil) != (y == nil) {
		return false
	}
	return x == nil || x.Seq == y.Seq && x.DurationMS == y.DurationMS && x.Size == y.Size && x.Durable == y.Durable && maps.Equal(x.Away, y.Away)
}

// since is what changed after a version, or a channel that rings when something did.
func (h *hub) since(version uint64) (delta, uint64, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.version == 0 || version == h.version {
		return delta{}, version, h.rung
	}
	c := delta{ID: fmt.Sprintf("%s.%d", h.run0, h.version), Status: h.now}
	if version < h.whole || version > h.version {
		c.Whole = true
		return c, h.version, nil
	}
	c.Status.Rooms, c.Status.Targets = []status.Room{}, []status.Target{}
	for _, r := range h.now.Rooms {
		if h.rooms[r.Room] > version {
			c.Status.Rooms = append(c.Status.Rooms, r)
		}
	}
	for _, t := range h.now.Targets {
		if h.targets[t.Target] > version {
			c.Status.Targets = append(c.Status.Targets, t)
		}
	}
	return c, h.version, nil
}

// parse is the version in an ID of this process, 0 for any other text.
func (h *hub) parse(id string) uint64 {
	run, n, ok := strings.Cut(id, ".")
	if !ok || run != h.run0 {
		return 0
	}
	v, err := strconv.ParseUint(n, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

func (h *hub) join() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers >= maxStreams {
		return false
	}
	h.readers++
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return true
}

func (h *hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readers--
}

// feed makes a handler of server-sent events out of the changes. render is called once for each change, however many
// readers hear it, so it depends on nothing but the change; it may give no event. It must not keep or change what it is
// given.
func (h *hub) feed(render func(delta) []event) http.Handler {
	return &feed{hub: h, render: render}
}

type feed struct {
	hub    *hub
	render func(delta) []event

	mu    sync.Mutex // guards what is below, and is held while one reader renders for all
	at    string     // delta.ID of what is in ready
	ready map[uint64][]byte
}

// maxReady is for how many different readers' pasts one change is kept rendered; nearly all have the same.
const maxReady = 8

// block is a change as it goes over the line.
func (f *feed) block(since uint64, c delta) []byte {
	if c.Whole {
		since = 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at != c.ID {
		f.at, f.ready = c.ID, map[uint64][]byte{}
	}
	if b, ok := f.ready[since]; ok {
		return b
	}
	b := encodeEvents(c.ID, f.render(c))
	if len(f.ready) < maxReady {
		f.ready[since] = b
	}
	return b
}

// encodeEvents writes events; the ID stands in the last, so that a reader that was cut off in between asks again.
func encodeEvents(id string, events []event) []byte {
	var b bytes.Buffer
	for i, e := range events {
		fmt.Fprintf(&b, "event: %s\n", e.Name)
		if i == len(events)-1 {
			fmt.Fprintf(&b, "id: %s\n", id)
		}
		for line := range bytes.Lines(e.Data) {
			fmt.Fprintf(&b, "data: %s\n", bytes.TrimRight(line, "\r\n"))
		}
		if len(e.Data) == 0 {
			b.WriteString("data:\n")
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// ServeHTTP streams until the reader goes, stands still for 15 s, may not read any more, or the process stops.
func (f *feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := f.hub
	if !h.join() {
		w.Header().Set("Retry-After", "30")
		writeTrouble(w, trouble{http.StatusServiceUnavailable, "busy", fmt.Sprintf("%d readers listen already", maxStreams), ""})
		return
	}
	defer h.leave()
	head := w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Accel-Buffering", "no") // nginx would hold events back
	out := http.NewResponseController(w)
	send := func(b []byte) bool {
		if err := out.SetWriteDeadline(time.Now().Add(stallLimit)); err != nil {
			return false
		}
		if _, err := w.Write(b); err != nil {
			return false
		}
		return out.Flush() == nil
	}
	if !send([]byte("retry: 2000\n\n")) {
		return
	}
	version, asked := h.parse(r.Header.Get("Last-Event-ID")), time.Now()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		if time.Since(asked) >= heartbeat {
			if asked = time.Now(); !stillAllowed(r) {
				return
			}
		}
		c, now, rung := h.since(version)
		if rung == nil {
			b := f.block(version, c)
			version = now
			if len(b) > 0 {
				if !send(b) {
					return
				}
				beat.Reset(heartbeat)
			}
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-h.done:
			return
		case <-rung:
		case <-beat.C:
			if !send([]byte(": alive\n\n")) {
				return
			}
		}
	}
}

// asJSON is the feed of /api/v1/events: "status" has everything, "change" what is different.
func asJSON(c delta) []event {
	name := "change"
	if c.Whole {
		name = "status"
	}
	data, err := json.Marshal(c.Status)
	if err != nil {
		return nil // a status is texts and numbers; the one thing that JSON cannot write is an infinite rate
	}
	return []event{{name, data}}
}
