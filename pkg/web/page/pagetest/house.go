// Package pagetest is a house full of rooms for the tests of the pages: a web.View and a web.Commander that need no disk
// and no network.
//
// It owns made-up rooms, parts and troubles, the same ones at every run, and a clock that only Step moves. It never
// records anything; what plays in a preview is handed in.
package pagetest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/web"
)

// Titles are what streamers call their broadcasts, among them some that would like to be more than text.
var Titles = []string{
	"Building a synthesizer from scratch, part 12",
	"【深夜电台】陪你聊到天亮 · 今晚的话题是小时候最想成为的人，以及后来为什么没有成为那样的人，欢迎连麦",
	"بث مباشر: رحلة في الصحراء مع أصدقاء من كل مكان",
	`<script>alert("title")</script><img src=x onerror=alert(1)>`,
	"Speedrun practice – any% with commentary",
	"שידור חי מתל אביב: לילה של מוזיקה",
	"月下听风：古筝与箫的即兴合奏",
	"Morning run along the coast",
	`"quotes" & 'more' {{.Body}} </style>`,
	"Chess with viewers, bring your openings",
	"【原神】新版本全角色深渊实战，随缘抽卡",
	"Late night coding: a parser for everything",
}

// Names of the targets.
const (
	S3       = "s3://recordings/live?endpoint=https://s3.example.com"
	NAS      = "file:/mnt/nas/archive/live"
	Bilibili = "bilibili:?tag=live&tid=171"
)

// House is a web.View and a web.Commander.
type House struct {
	// Play opens the part that a room records; nil: there is nothing to see.
	Play func(room string) (*web.Open, error)

	mu       sync.Mutex
	now      time.Time
	began    time.Time
	rooms    []web.Room
	live     int
	states   map[string]string // what commands changed
	targets  []status.Target
	disk     status.Disk
	config   web.Config
	parts    int
	Commands []string // "pause alice"
}

// New makes a house with so many rooms, live of which are on the air, and one old broadcast of so many parts.
func New(rooms, live, parts int) *House {
	h := &House{now: time.Date(2026, 3, 14, 21, 7, 30, 0, time.UTC), live: live, parts: parts, states: map[string]string{},
		config: web.Config{OK: true, File: "/etc/liverec/liverec.toml"},
		disk:   status.Disk{Free: 412e9, MinFree: 20 << 30, StopFree: 1 << 30, Step: "ok"},
		targets: []status.Target{
			{Target: S3, Required: true, State: status.OK, InFlight: 3},
			{Target: NAS, Required: false, State: status.OK},
			{Target: Bilibili, Required: true, State: status.OK},
		}}
	h.began = h.now.Add(-9 * time.Minute)
	words := []string{"alice", "深夜电台", "بدر", "kitchen", "chess-club", "northlight", "radio4", "ma_ling", "harbour-cam", "noor", "studio", "tomas"}
	for i := range rooms {
		name := words[i%len(words)]
		if i >= len(words) {
			name = fmt.Sprintf("%s-%d", name, i/len(words)+1)
		}
		r := web.Room{Settings: web.Settings{URL: fmt.Sprintf("https://live.bilibili.com/%d", 21000+i*37), Name: name, To: []string{"archive", "nas"}, Segment: "15m"},
			Site: "bilibili", Source: "file", Targets: []string{S3, NAS}}
		if i%5 == 1 {
			r.To, r.Targets = []string{"archive", "bili"}, []string{S3, Bilibili}
		}
		if i%4 == 0 {
			r.Source = "page"
		}
		h.rooms = append(h.rooms, r)
	}
	return h
}

// Trouble makes one target unreachable, one refuse, two rooms blocked, and the disk short.
func (h *House) Trouble() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.targets[1].State, h.targets[1].Error = status.TargetAway, "put P0007.flv to /mnt/nas/archive/live: transport endpoint is not connected"
	h.targets[2].State, h.targets[2].Error, h.targets[2].Parked = status.TargetRefused, "add part 3 to the submission: -101 account not signed in – Run `liverec login bilibili`; everything that waits is sent then.", 4
	h.disk.Free, h.disk.Step = 14.2e9, "low"
}

// Break says what is wrong with the config file.
func (h *House) Break(err string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config.OK, h.config.Error = err == "", err
}

// Now is the time in this house.
func (h *House) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// Step lets time pass.
func (h *House) Step(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
	h.disk.Free -= int64(d.Seconds() * 9e6)
}

func (h *House) state(i int) string {
	if s, ok := h.states[h.rooms[i].Name]; ok {
		return s
	}
	switch {
	case i < h.live:
		return status.OnAir
	case i == h.live+3:
		return status.Paused
	case i == h.live+5 && h.disk.Step != "ok":
		return status.Blocked
	case i == h.live+8:
		return status.Unreachable
	}
	return status.Waiting
}

// Status is how things stand.
func (h *House) Status(context.Context) (status.Status, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := status.Status{Format: status.Format, At: status.Stamp(h.now), Running: &status.Running{PID: 4711, Since: status.Stamp(h.began)}, Disk: h.disk,
		Targets: slices.Clone(h.targets), Rooms: make([]status.Room, 0, len(h.rooms))}
	t := h.now.Sub(h.began).Seconds()
	var in float64
	for i, w := range h.rooms {
		r := status.Room{Room: w.Name, URL: w.URL, Site: w.Site, State: h.state(i), Since: status.Stamp(h.began.Add(-time.Duration(i%50) * 13 * time.Minute))}
		switch r.State {
		case status.OnAir:
			rate := float64(3+i%6) * 1.1e6 * (1 + .12*math.Sin(t/17+float64(i)) + .06*math.Sin(t/3.1+float64(2*i)))
			size := int64(t * float64(3+i%6) * 1.1e6 / 8)
			r.Bitrate, r.Title, r.Quality, r.Broadcast = int64(rate), Titles[i%len(Titles)], "1080p", "B"+w.Name
			r.Open = &status.Open{Seq: uint32(3 + i%7), DurationMS: int64(t * 1000), Size: size, Durable: size, Away: map[string]int64{}}
			for k, id := range w.Targets {
				behind := int64(6e6 + float64(k)*9e6)
				if h.targets[slices.Index([]string{S3, NAS, Bilibili}, id)].State != status.OK {
					behind = size * 2 / 3
				}
				r.Open.Away[id] = max(size-behind, 0) >> 20 << 20
			}
			r.UnsafeBytes = size
			if i%3 == 1 {
				r.Gaps, r.GapSeconds = 1+i%2, 4.2+float64(i)
			}
			in += rate
		case status.Blocked:
			r.Error = "ask whether the room is live: 412 Precondition Failed"
		case status.Unreachable:
			r.Error = "get https://live.bilibili.com: connection refused"
		}
		s.UnsafeBytes += r.UnsafeBytes
		s.Rooms = append(s.Rooms, r)
	}
	if s.UnsafeBytes > 0 {
		s.OldestUnsafeSeconds = t
	}
	for i := range s.Targets {
		x := &s.Targets[i]
		x.DueParts, x.DueBytes, x.OldestDueSeconds = min(h.live, 3+i), int64(i+1)*31e6, t
		if x.State == status.OK {
			x.Rate = in / 8 * (.94 - .3*float64(i)) * (1 + .1*math.Sin(t/11+float64(i)))
		} else {
			x.DueParts, x.DueBytes, x.OldestDueSeconds = 41, 31.4e9, 7400
		}
	}
	return s, nil
}

// Rooms are the settings of all rooms.
func (h *House) Rooms(context.Context) ([]web.Room, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.rooms), nil
}

const casts = 120

// Broadcasts lists made-up broadcasts, newest first.
func (h *House) Broadcasts(_ context.Context, q web.Query) (web.Broadcasts, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := 0
	if q.After != "" {
		if _, err := fmt.Sscanf(q.After, "at-%d", &from); err != nil {
			return web.Broadcasts{}, fmt.Errorf("read the place %q in the list of broadcasts: %w", q.After, err)
		}
	}
	var out web.Broadcasts
	for i := from; i < casts && len(out.List) < cmp.Or(q.Most, 50); i++ {
		r := h.rooms[i%min(len(h.rooms), 12)]
		if q.Room != "" && r.Name != q.Room {
			continue
		}
		began := h.now.Add(-time.Duration(i) * 5 * time.Hour)
		b := web.Broadcast{ID: "B" + r.Name, Room: r.Name, Site: r.Site, Title: Titles[i%len(Titles)], Streamer: r.Name, Started: status.Stamp(began),
			Ended: status.Stamp(began.Add(3 * time.Hour)), Parts: 12, Safe: 12, Reclaimed: 12, Size: 9.8e9, DurationMS: 3 * 3600 * 1000}
		if i == 0 {
			b.Ended, b.Safe = "", 9
		}
		if i == 4 {
			b.Safe = 7
		}
		if i%3 == 1 {
			b.Gaps, b.GapSeconds = 2, 14.2
		}
		out.List = append(out.List, b)
	}
	if last := from + len(out.List); last < casts && q.Room == "" {
		out.Next = fmt.Sprintf("at-%d", last)
	}
	return out, nil
}

// Broadcast of a room's name behind a B has twelve parts; "BIG" has as many as New was told.
func (h *House) Broadcast(_ context.Context, id segment.SessionID) (segment.Broadcast, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.rooms, func(r web.Room) bool { return "B"+r.Name == string(id) })
	n := 12
	switch {
	case id == "BIG":
		i, n = 0, h.parts
	case i < 0:
		return segment.Broadcast{}, web.ErrNone
	}
	r := h.rooms[i]
	began := h.now.Add(-time.Duration(n) * 15 * time.Minute)
	b := segment.Broadcast{Session: segment.Session{ID: id, Room: segment.Room{ID: segment.RoomID(r.URL), URL: r.URL, Name: r.Name, Site: r.Site},
		Streamer: r.Name, Title: Titles[i%len(Titles)], Started: began, Heard: h.now}, Deliveries: map[segment.TargetID][]segment.Delivery{}, Reclaimed: map[uint32]time.Time{}}
	for k := range n {
		s := segment.Segment{ID: segment.ID{Session: id, Seq: uint32(k + 1)}, Start: began.Add(time.Duration(k) * 15 * time.Minute), Duration: 15*time.Minute - 11*time.Millisecond,
			Size: 826_031_557 + int64(k)*1013, VideoFrames: 27001, AudioFrames: 38760, Sealed: k < n-1, Cut: segment.CutTime}
		if k == 4 {
			s.Cut, s.Duration = segment.CutHeader, 12*time.Minute
		}
		s.SHA256[0], s.SHA256[1] = byte(k), 0xA5
		if !s.Sealed {
			s.Cut, s.Size = segment.CutNone, 401_000_000
		}
		b.Segments = append(b.Segments, s)
		for j, t := range r.Targets {
			d := segment.Delivery{Segment: s, Target: segment.TargetID(t), Required: t != NAS, State: segment.Verified, Key: fmt.Sprintf("%s/2026-03-14_180730/%s.flv", r.Name, s.ID.Base()),
				Proof: segment.Proof{Size: s.Size, Sum: "crc32c:k1Zz9A==-158", How: "size and CRC-32C of 158 parts by HEAD", At: s.Start.Add(15*time.Minute + 8*time.Second)}}
			switch {
			case !s.Sealed:
				d.State, d.Proof = segment.Uploading, segment.Proof{}
			case k == n-2 && j == 1:
				d.State, d.Proof, d.Why = segment.Parked, segment.Proof{}, "add part: -101 account not signed in – Run `liverec login bilibili`."
			}
			b.Deliveries[d.Target] = append(b.Deliveries[d.Target], d)
		}
		if k < n-3 {
			b.Reclaimed[s.ID.Seq] = s.Start.Add(16 * time.Minute)
		}
	}
	if n > 5 {
		b.Gaps = []segment.Gap{
			{Session: id, AfterSeq: 5, At: began.Add(72 * time.Minute), AtMedia: 12 * time.Minute, Length: 3 * time.Minute, Why: "source closed the connection"},
			{Session: id, AfterSeq: 9, At: began.Add(126*time.Minute + 14*time.Second), AtMedia: 6*time.Minute + 14*time.Second, Length: 4200 * time.Millisecond, Why: "nothing came for 4 s"},
		}
		b.Repairs = []segment.Repair{{Session: id, Seq: 3, AtMedia: 412 * time.Second, What: "clock jumped ahead by 90 s"}}
	}
	return b, nil
}

// Open is the part that a room records.
func (h *House) Open(_ context.Context, room string) (*web.Open, error) {
	if h.Play == nil {
		return nil, web.ErrNone
	}
	return h.Play(room)
}

// Config says how the last reading of the config file went.
func (h *House) Config() web.Config {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.config
}

// Do remembers a command and changes the state of the room.
func (h *House) Do(_ context.Context, room string, verb segment.Verb) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.ContainsFunc(h.rooms, func(r web.Room) bool { return r.Name == room }) {
		return web.ErrNone
	}
	h.Commands = append(h.Commands, string(verb)+" "+room)
	switch verb {
	case segment.VerbPause:
		h.states[room] = status.Paused
	case segment.VerbStop:
		h.states[room] = status.Ended
	case segment.VerbContinue:
		delete(h.states, room)
	}
	return nil
}

func check(segmentLength, url string) error {
	if segmentLength != "" {
		if d, err := time.ParseDuration(segmentLength); err != nil || d < time.Second {
			return &web.Refusal{Key: "segment", Text: fmt.Sprintf("%q is no length of time; 15m would be right", segmentLength)}
		}
	}
	if url != "" && !strings.Contains(url, "://") {
		return &web.Refusal{Key: "url", Text: fmt.Sprintf("%q is no address of a room; https://live.bilibili.com/6 would be one", url)}
	}
	return nil
}

// Add takes a room in.
func (h *House) Add(_ context.Context, s web.Settings) (web.Room, error) {
	if err := check(s.Segment, s.URL); err != nil {
		return web.Room{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Name = cmp.Or(s.Name, s.URL[strings.LastIndex(s.URL, "/")+1:])
	if slices.ContainsFunc(h.rooms, func(r web.Room) bool { return r.Name == s.Name || r.URL == s.URL }) {
		return web.Room{}, web.ErrExists
	}
	r := web.Room{Settings: s, Site: "direct", Source: "page", Targets: []string{S3}, Since: "now"}
	h.rooms = append(h.rooms, r)
	h.Commands = append(h.Commands, "add "+s.Name)
	return r, nil
}

// Change changes a room of the page.
func (h *House) Change(_ context.Context, room string, c web.Change) (web.Room, error) {
	if c.Segment != nil {
		if err := check(*c.Segment, ""); err != nil {
			return web.Room{}, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.rooms, func(r web.Room) bool { return r.Name == room })
	switch {
	case i < 0:
		return web.Room{}, web.ErrNone
	case h.rooms[i].Source != "page":
		return web.Room{}, web.ErrReadOnly
	}
	r := &h.rooms[i]
	if c.Segment != nil {
		r.Segment = *c.Segment
	}
	if c.SkipTitles != nil {
		r.SkipTitles = *c.SkipTitles
	}
	if c.Priority != nil {
		r.Priority = *c.Priority
	}
	r.Since = "part 4"
	h.Commands = append(h.Commands, "change "+room)
	return *r, nil
}

// Remove forgets a room of the page.
func (h *House) Remove(_ context.Context, room string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.rooms, func(r web.Room) bool { return r.Name == room })
	switch {
	case i < 0:
		return web.ErrNone
	case h.rooms[i].Source != "page":
		return web.ErrReadOnly
	}
	h.rooms = slices.Delete(h.rooms, i, i+1)
	h.Commands = append(h.Commands, "remove "+room)
	return nil
}
