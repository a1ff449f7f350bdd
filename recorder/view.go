package recorder

import (
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// State is what a room is doing, in the words of status.
type State string

// The states of a room.
const (
	StateWaiting     State = "waiting"     // the site answers: nothing is being sent
	StateLive        State = "live"        // media arrives
	StatePaused      State = "paused"      // by a person, the disk ladder or a full disk
	StateBlocked     State = "blocked"     // the site answers, but not us, or with what cannot be recorded
	StateUnreachable State = "unreachable" // could not ask, or asked and got rubbish
	StateEnded       State = "ended"       // the Recorder is not running
)

// Open is the part that grows.
type Open struct {
	Seq      uint32
	Duration time.Duration // up to the begin of the newest frame
	Size     int64
	Durable  int64
}

// Snapshot is what a room shows of itself. It is a value.
type Snapshot struct {
	Room     segment.Room
	State    State
	Since    time.Time // of the state
	Why      string    // for people: "404 Not Found, looking every 5s"
	Session  segment.SessionID
	Streamer string
	Title    string  // as it is now; the manifest has that of the begin
	Cover    string  // address of a picture
	Host     string  // where the media comes from, "" without a connection
	Quality  string  // what is recorded: the site's name for it, size and codec; "" without a connection
	BitRate  float64 // bit/s received over the last 10 s
	Received int64   // bytes since the start
	Heard    time.Time
	Open     *Open
	Gaps     int // of the session
	GapTime  time.Duration
	Error    string // the last one, "" after media came again
	// WorstStall is the longest time that a batch waited for the disk since the start.
	WorstStall time.Duration
	// DoorbellsLost counts doorbells that nobody took; nothing is lost by that.
	DoorbellsLost int64
}

// rateWindow is the number of seconds over which the bit rate is taken.
const rateWindow = 10

// view is the Snapshot of a room while it changes. Everybody may read it.
type view struct {
	mu    sync.Mutex
	s     Snapshot
	part  *part
	cast  segment.SessionID // the broadcast that goes on
	said  About             // what was said of it last
	rate  [rateWindow]int64 // bytes of the second with this number modulo rateWindow
	sec   int64
	begun int64 // first second with bytes in it since the connection began
}

// Snapshot is what is known at this moment.
func (v *view) snapshot(now time.Time) Snapshot {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.s
	v.roll(now)
	var sum int64
	for i, n := range v.rate {
		if int64(i) != v.sec%rateWindow { // the second that is running is not whole
			sum += n
		}
	}
	if seconds := min(v.sec-v.begun, rateWindow-1); v.begun > 0 && seconds > 0 {
		s.BitRate = float64(sum) * 8 / float64(seconds)
	}
	if v.s.Open != nil {
		o := *v.s.Open
		if v.part != nil {
			o.Durable = v.part.durable.Load()
		}
		s.Open = &o
	}
	if s.State == StateLive && now.Sub(s.Heard) > liveLimit {
		s.State, s.Since, s.Why = StateWaiting, s.Heard.Add(liveLimit), "connected, but no media comes"
	}
	return s
}

func (v *view) roll(now time.Time) {
	sec := now.Unix()
	if v.sec == 0 || sec-v.sec >= rateWindow {
		v.rate = [rateWindow]int64{}
	} else {
		for i := v.sec + 1; i <= sec; i++ {
			v.rate[i%rateWindow] = 0
		}
	}
	v.sec = max(v.sec, sec)
}

// set changes the state. It reports whether anything that a person would notice changed.
func (v *view) set(state State, why string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := v.s.State != state || v.s.Why != why
	if v.s.State != state {
		v.s.State, v.s.Since = state, time.Now().UTC()
	}
	v.s.Why = why
	if state != StateLive {
		v.begun, v.s.Host, v.s.Quality = 0, "", ""
	}
	return changed
}

func (v *view) received(now time.Time, n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.roll(now)
	if v.begun == 0 {
		v.begun = v.sec
		v.rate = [rateWindow]int64{}
	}
	v.rate[v.sec%rateWindow] += n
	v.s.Received += n
}

// wrote shows what the Segmenter has.
func (v *view) wrote(s *Segmenter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.s.Session, v.s.Heard = s.session, s.heard
	v.part = s.part
	if s.part == nil {
		v.s.Open = nil
		return
	}
	if v.s.Open == nil {
		v.s.Open = &Open{}
	}
	v.s.Open.Seq, v.s.Open.Duration, v.s.Open.Size = s.part.seg.ID.Seq, ms(max(s.lastOut-s.part.base, 0)), s.part.size()
}

func (v *view) change(f func(s *Snapshot)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.s)
}
