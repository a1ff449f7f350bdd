package page

import (
	"encoding/json"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/status"
)

const (
	fineLen   = 300 // samples of one second
	coarseLen = 720 // means of coarseOf samples
	coarseOf  = 30
	mostRooms = 1024 // with a history at a time
)

// The numbers of each kind of track.
const (
	roomRate, roomUplink, roomUnsafe = 0, 1, 2 // bit/s, bit/s, bytes
	roomWidth                        = 3

	houseIn, houseOut, houseUnsafe, houseFree = 0, 1, 2, 3 // bit/s, bit/s, bytes, bytes
	houseWidth                                = 4
)

// track is the history of a few numbers of one thing. Where nothing was known it has NaN.
type track struct {
	fine, coarse [][]float32 // rings, one of each number
	n            int         // samples that were ever taken
	sum          []float64   // of the mean that is being made
	known        []int
	last         int // sample of the house at which the thing was last alive

	seq  uint32 // of the part that was open, for the uplink
	away int64
	rate float64
}

func newTrack(width int) *track {
	t := &track{sum: make([]float64, width), known: make([]int, width)}
	for range width {
		t.fine = append(t.fine, make([]float32, fineLen))
		t.coarse = append(t.coarse, make([]float32, coarseLen))
	}
	return t
}

func (t *track) add(values ...float64) {
	for i, v := range values {
		t.fine[i][t.n%fineLen] = float32(v)
		if !math.IsNaN(v) {
			t.sum[i] += v
			t.known[i]++
		}
	}
	t.n++
	if t.n%coarseOf != 0 {
		return
	}
	for i := range t.sum {
		t.coarse[i][(t.n/coarseOf-1)%coarseLen] = float32(t.sum[i] / float64(t.known[i])) // 0/0 is NaN: nothing was known
		t.sum[i], t.known[i] = 0, 0
	}
}

// column is the history of number i, oldest first.
func (t *track) column(i int, long bool) []float32 {
	ring, n := t.fine[i], t.n
	if long {
		ring, n = t.coarse[i], t.n/coarseOf
	}
	if n <= len(ring) {
		return append([]float32(nil), ring[:n]...)
	}
	at := n % len(ring)
	return append(append(make([]float32, 0, len(ring)), ring[at:]...), ring[:at]...)
}

// history is what Run remembers for the plots.
type history struct {
	mu    sync.Mutex
	house *track
	rooms map[string]*track
	at    time.Time
}

func newHistory() *history { return &history{house: newTrack(houseWidth), rooms: map[string]*track{}} }

func (h *history) sample(pic *picture) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = pic.at
	var in, out float64
	there := make(map[string]bool, len(h.rooms))
	for i := range pic.status.Rooms {
		r := &pic.status.Rooms[i]
		t := h.rooms[r.Room]
		alive := r.State == status.OnAir || r.UnsafeBytes > 0
		if t == nil && !alive {
			continue
		}
		if t == nil {
			if len(h.rooms) >= mostRooms && !h.forget() {
				continue
			}
			t = newTrack(roomWidth)
			t.last = h.house.n
			h.rooms[r.Room] = t
		}
		there[r.Room] = true
		if alive {
			t.last = h.house.n
		}
		t.uplink(r.Open)
		if r.State == status.OnAir {
			in += float64(r.Bitrate)
			t.add(float64(r.Bitrate), t.rate, float64(r.UnsafeBytes))
		} else {
			t.add(math.NaN(), math.NaN(), float64(r.UnsafeBytes))
		}
	}
	for name, t := range h.rooms {
		if !there[name] || h.house.n-t.last > coarseLen*coarseOf {
			delete(h.rooms, name)
		}
	}
	for _, t := range pic.status.Targets {
		out += t.Rate * 8
	}
	h.house.add(in, out, float64(pic.status.UnsafeBytes), float64(pic.status.Disk.Free))
}

// forget drops the history of the room that was alive least lately; false if all are alive.
func (h *history) forget() bool {
	oldest, at := "", h.house.n
	for name, t := range h.rooms {
		if t.last < at {
			oldest, at = name, t.last
		}
	}
	delete(h.rooms, oldest)
	return oldest != ""
}

// uplink measures how fast the open part goes away, over all targets. Acknowledgements come in chunks, so it is a mean
// that forgets within some 15 s.
func (t *track) uplink(o *status.Open) {
	if o == nil {
		t.seq, t.away, t.rate = 0, 0, 0
		return
	}
	var away int64
	for _, n := range o.Away {
		away += n
	}
	grown := away
	if o.Seq == t.seq {
		grown = max(away-t.away, 0)
	} else if t.seq == 0 {
		grown = 0 // it was there before we looked
	}
	t.seq, t.away = o.Seq, away
	t.rate += (float64(grown)*8 - t.rate) / 8
}

// spark is the bit rate of a room in the last five minutes, one mean of ten seconds after the other.
func (h *history) spark(room string) []float32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.rooms[room]
	if t == nil {
		return nil
	}
	col := t.column(roomRate, false)
	const of = 10
	var out []float32
	for i := len(col) % of; i+of <= len(col); i += of {
		var sum float32
		for _, v := range col[i : i+of] {
			sum += v // NaN stays NaN
		}
		out = append(out, sum/of)
	}
	return out
}

// slope is how the free space moves, in bytes per second; ok is false while too little is known. It looks at half an hour
// where there is one: parts are freed in steps.
func (h *history) slope() (perSecond float64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	col, step := h.house.column(houseFree, true), float64(coarseOf)
	if len(col) > 60 {
		col = col[len(col)-60:]
	}
	if len(col) < 10 {
		col, step = h.house.column(houseFree, false), 1
	}
	if len(col) < 60 && step == 1 {
		return 0, false
	}
	var sx, sy, sxx, sxy float64
	first := float64(col[0]) // differences keep the precision
	for i, v := range col {
		x, y := float64(i)*step, float64(v)-first
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	n := float64(len(col))
	return (n*sxy - sx*sy) / (n*sxx - sx*sx), true
}

// line is what a plot begins with.
type line struct {
	End    int64        `json:"end"`  // unix time of the last sample
	Step   int          `json:"step"` // seconds between two
	Values [][]*float32 `json:"values"`
}

// lines gives the history of the house (room "") or of a room; it is empty where there is none.
func (h *history) lines(room string, long bool) line {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := line{End: h.at.Unix(), Step: 1, Values: [][]*float32{}}
	if long {
		l.Step = coarseOf
	}
	t := h.house
	if room != "" {
		t = h.rooms[room]
	}
	if t == nil {
		return l
	}
	for i := range t.fine {
		if room == "" && i == houseFree {
			continue
		}
		col := t.column(i, long)
		out := make([]*float32, len(col))
		for j := range col {
			if !math.IsNaN(float64(col[j])) {
				out[j] = &col[j]
			}
		}
		l.Values = append(l.Values, out)
	}
	return l
}

// newest is the last sample as a plot takes it: the time and the values.
func (h *history) newest(room string) []*float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.house
	if room != "" {
		t = h.rooms[room]
	}
	if t == nil || t.n == 0 {
		return nil
	}
	at := float64(h.at.Unix())
	out := []*float64{&at}
	for i := range t.fine {
		if room == "" && i == houseFree {
			continue
		}
		v := float64(t.fine[i][(t.n-1)%fineLen])
		if math.IsNaN(v) {
			out = append(out, nil)
			continue
		}
		v = math.Round(v)
		out = append(out, &v)
	}
	return out
}

func (p *Pages) series(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	b, err := json.Marshal(p.history.lines(q.Get("room"), q.Get("span") == "long"))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // who does not read it is gone
}
