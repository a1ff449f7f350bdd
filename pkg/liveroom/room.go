package liveroom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Config says what a room sends.
type Config struct {
	Speed    float64       // media seconds per second; default 1
	Bitrate  int64         // bit/s of the whole stream, reached by padding in the SEI messages; 0: the bare clip (0.4 Mbit/s)
	Duration time.Duration // the broadcast ends by itself after so much media; 0: never
	First    uint64        // number of the first picture
	Base     time.Duration // timestamp of the first picture (to meet the wraps at 24, 31 and 32 bits); may be negative
	Changes  []time.Duration
	// Changes are media times, rising: at the next key frame at or after each of them the other clip goes on, with
	// another picture size.

	NoCache bool          // no GOP cache: a connection begins with the newest tag, whatever it is
	Backlog time.Duration // how much media a slow client may lag behind before it loses GOPs; default 30s

	// Fault says what connection n suffers, counted from 0 over all requests that came while the room was live. It
	// is called from the handlers, one call at a time, and may ask the room things. Nil: all connections are sound.
	Fault func(n int) Fault
}

// Frame is a picture that left on a connection.
type Frame struct {
	Number uint64
	At     time.Time // when it was handed to the kernel
}

// Connection is what became of one request.
type Connection struct {
	N       int // as given to Config.Fault
	Remote  string
	Opened  time.Time
	Closed  time.Time // zero while it is open
	Status  int       // of the answer; 0 if there was none
	Bytes   int64     // of the body
	Tags    int       // whole media tags
	Why     string    // how it ended
	Frames  []Frame   // pictures of which every byte was handed to the kernel, in that order
	Dropped int       // tags that were lost because the client was too slow
}

// tag is one tag on the room's own clock.
type tag struct {
	typ    byte
	ts     int64 // ms
	body   []byte
	frame  uint64
	key    bool  // video key frame
	clip   *clip // whose headers belong to it
	change bool  // no media: the clip changes here
}

// Room is one live room. All methods may be called from several goroutines.
type Room struct {
	cfg     Config
	clips   [2]*clip
	padding []byte // random bytes, none zero, as long as the longest padding

	mu       sync.Mutex
	news     chan struct{} // closed and replaced whenever anything below changes
	live     bool
	stopped  bool
	run      int    // counts the broadcasts
	tags     []tag  // the backlog; tags[i] has index first+i
	first    uint64 // index of tags[0]
	newest   uint64 // index of the newest key frame; valid if hasKey
	hasKey   bool
	clip     *clip  // the current one
	next     uint64 // number of the next picture
	conns    []*Connection
	handlers int
	refused  int // requests while offline
	cancel   context.CancelFunc

	faults sync.Mutex // held while Config.Fault is called
	loop   sync.WaitGroup
}

// New makes a room that is offline. It starts nothing.
func New(cfg Config) (*Room, error) {
	if cfg.Speed == 0 {
		cfg.Speed = 1
	}
	if cfg.Speed < 0 {
		return nil, fmt.Errorf("speed %v: must be above 0", cfg.Speed)
	}
	if cfg.Backlog == 0 {
		cfg.Backlog = 30 * time.Second
	}
	a, err := parseClip(firstClip, 640, 360)
	if err != nil {
		return nil, err
	}
	b, err := parseClip(secondClip, 480, 270)
	if err != nil {
		return nil, err
	}
	r := &Room{cfg: cfg, clips: [2]*clip{a, b}, news: make(chan struct{}), next: cfg.First, clip: a}
	r.padding = noise(max(padFor(a, cfg.Bitrate), padFor(b, cfg.Bitrate)))
	return r, nil
}

func padFor(c *clip, bitrate int64) int {
	return max(0, int((float64(bitrate)/8-c.bytesPerSecond())/framesPerSecond))
}

// noise makes n bytes that do not compress and hold no zero. They are the same in each run.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint64(0x9e3779b97f4a7c15)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		if b[i] = byte(x >> 32); b[i] == 0 {
			b[i] = 0x5a
		}
	}
	return b
}

// ErrLive is returned by Run when a broadcast is under way already.
var ErrLive = errors.New("the room is live already")

// Run sends one broadcast and returns when it is over: because Config.Duration is reached or End was called (nil), or
// because ctx is done (its error). Picture numbers go on from one broadcast to the next, timestamps begin anew.
// Afterwards the room is offline: connections get what is left and a clean end, new requests 404.
func (r *Room) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	if r.live || r.stopped {
		r.mu.Unlock()
		return ErrLive
	}
	r.live = true
	r.run++
	r.tags, r.first, r.hasKey = nil, r.first+uint64(len(r.tags)), false
	r.clip = r.clips[0]
	r.cancel = func() { cancel(errEnded) }
	r.ring()
	r.mu.Unlock()

	err := r.pace(ctx)
	r.mu.Lock()
	r.live = false
	r.ring()
	r.mu.Unlock()
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}

var errEnded = errors.New("the broadcast was ended")

// pace makes each tag when its time has come.
func (r *Room) pace(ctx context.Context) error {
	g := r.generator()
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		at := g.at() // media time of the next tag
		if r.cfg.Duration > 0 && at >= r.cfg.Duration {
			return nil
		}
		due := start.Add(time.Duration(float64(at) / r.cfg.Speed))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.add(g)
	}
}

// add moves the next tag of g into the backlog and forgets what is too old.
func (r *Room) add(g *generator) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range g.next() {
		if t.key {
			r.newest, r.hasKey = r.first+uint64(len(r.tags)), true
		}
		r.tags = append(r.tags, t)
		r.clip = t.clip
	}
	r.next = g.picture
	newest := r.tags[len(r.tags)-1].ts
	old := 0
	for old < len(r.tags) && r.tags[old].ts < newest-r.cfg.Backlog.Milliseconds() && r.first+uint64(old) < r.newest {
		old++
	}
	if old > 256 && old > len(r.tags)/4 { // not for every tag: it copies
		r.tags = append([]tag(nil), r.tags[old:]...)
		r.first += uint64(old)
	}
	r.ring()
}

// ring wakes everybody who waits. The mutex is held.
func (r *Room) ring() {
	close(r.news)
	r.news = make(chan struct{})
}

// Start runs a broadcast in the background until it is over, End or Stop is called, or ctx is done.
func (r *Room) Start(ctx context.Context) {
	started := r.signal()
	r.loop.Go(func() {
		// The only errors are "live already" and the end of ctx, and the caller knows both.
		_ = r.Run(ctx)
	})
	select {
	case <-started:
	case <-ctx.Done():
	}
}

func (r *Room) signal() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live || r.stopped {
		done := make(chan struct{})
		close(done)
		return done
	}
	return r.news
}

// End ends the broadcast as a streamer does: connections get a clean end, later requests 404. It returns when the
// broadcast is over; connections may still be reading what is left.
func (r *Room) End() {
	r.mu.Lock()
	for r.live {
		r.cancel()
		news := r.news
		r.mu.Unlock()
		<-news
		r.mu.Lock()
	}
	r.mu.Unlock()
}

// Stop ends everything for good: the broadcast, then all connections, and waits for both. The server that feeds the
// room must be closed first or must have no client that does not read: Server.Close does it in this order.
func (r *Room) Stop() {
	r.End()
	r.loop.Wait()
	r.mu.Lock()
	r.stopped = true
	r.ring()
	for r.handlers > 0 {
		news := r.news
		r.mu.Unlock()
		<-news
		r.mu.Lock()
	}
	r.mu.Unlock()
}

// Live reports whether a broadcast is under way.
func (r *Room) Live() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live
}

// Next is the number of the next picture: all below it (from Config.First on) have been made.
func (r *Room) Next() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// Refused is how many requests came while the room was offline.
func (r *Room) Refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// Connections is a copy of what became of all requests that came while the room was live, oldest first.
func (r *Room) Connections() []Connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Connection, len(r.conns))
	for i, c := range r.conns {
		out[i] = *c
		out[i].Frames = append([]Frame(nil), c.Frames...)
	}
	return out
}

// Write writes the first d of the stream as an FLV file, as fast as w takes it.
func Write(w io.Writer, cfg Config, d time.Duration) (int64, error) {
	r, err := New(cfg)
	if err != nil {
		return 0, err
	}
	var total int64
	put := func(b []byte) error {
		n, err := w.Write(b)
		total += int64(n)
		return err
	}
	e := encoder{clip: r.clips[0]}
	b := e.appendStart(nil)
	for g := r.generator(); g.at() < d; {
		for _, t := range g.next() {
			b = e.appendTag(b, t)
		}
		if len(b) >= 256<<10 {
			if err := put(b); err != nil {
				return total, err
			}
			b = b[:0]
		}
	}
	return total, put(b)
}

var _ http.Handler = (*Room)(nil)
