package bilibili

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/pkg/naming"
)

// Status is what the platform says that a room does.
type Status int

// The platform's own numbers.
const (
	Off   Status = 0
	On    Status = 1
	Round Status = 2 // recorded videos are shown while the streamer is away
)

// About is what the platform says of a room.
type About struct {
	Room     int64 // the long number
	Short    int64 // 0: there is none
	UID      int64
	Status   Status
	Since    time.Time // when the broadcast began; zero if nothing is on or nobody said
	Title    string
	Streamer string
	Cover    string // https
	Area     string // "parent area · area"
	At       time.Time
	// Shut is why nothing can be recorded whatever Status says: the room is locked, or behind a password.
	Shut string
	// locked, with Shut: nothing can be sent either.
	locked bool
}

const api = "https://api.live.bilibili.com"

// The platform's codes for a room that there is none of.
const (
	codeNoRoom     = 60004
	codeNoRoomV2   = 19002000
	codePassword   = 19002005
	codeNoRoomInfo = 1
)

// shanghai is where the platform's clock stands.
var shanghai = time.FixedZone("CST", 8*3600)

// door is the answer of room_init: the long number, and whether the room is open.
type door struct {
	Room      int64 `json:"room_id"`
	Short     int64 `json:"short_id"`
	UID       int64 `json:"uid"`
	Status    int   `json:"live_status"`
	Since     int64 `json:"live_time"`
	Encrypted bool  `json:"encrypted"`
	Verified  bool  `json:"pwd_verified"`
	Hidden    bool  `json:"is_hidden"`
	Locked    bool  `json:"is_locked"`
	HiddenTo  int64 `json:"hidden_till"`
	LockedTo  int64 `json:"lock_till"`
}

// shut says why a room is closed to us, and whether that goes for everybody.
func (d door) shut() (why string, locked bool) {
	switch {
	case d.Locked:
		return "the platform has locked the room" + until(d.LockedTo), true
	case d.Encrypted && !d.Verified:
		return "the room is behind a password", false
	case d.Hidden:
		return "the platform has hidden the room" + until(d.HiddenTo), false
	}
	return "", false
}

func until(unix int64) string {
	if unix <= 0 {
		return ""
	}
	return " until " + time.Unix(unix, 0).In(shanghai).Format("2006-01-02 15:04") + " (Beijing time)"
}

// knock asks for the room behind a number.
func knock(ctx context.Context, c *bilibili.Client, number int64) (door, error) {
	var d door
	err := c.Do(ctx, bilibili.Call{Op: "look up the room", URL: api + "/room/v1/Room/room_init", As: bilibili.Visitor,
		Query: url.Values{"id": {strconv.FormatInt(number, 10)}}}, &d)
	if err != nil {
		return d, absent(err, number)
	}
	if d.Room <= 0 {
		return d, errors.New("look up the room: the answer names none")
	}
	return d, nil
}

// absent turns the platform's word for "no such room" into one for a person.
func absent(err error, number int64) error {
	switch bilibili.CodeOf(err) {
	case codeNoRoom, codeNoRoomV2, codeNoRoomInfo:
		return &failure.Error{Op: "look up the room", Kind: failure.NeedsHuman, Code: fmt.Sprint(bilibili.CodeOf(err)),
			Err: fmt.Errorf("there is no room %d", number), Hint: "Check the number in the address."}
	}
	return err
}

// entry is a room in the answer of getRoomBaseInfo.
type entry struct {
	Room     int64  `json:"room_id"`
	Short    int64  `json:"short_id"`
	UID      int64  `json:"uid"`
	Status   int    `json:"live_status"`
	Since    string `json:"live_time"`
	Title    string `json:"title"`
	Cover    string `json:"cover"`
	Streamer string `json:"uname"`
	Area     string `json:"area_name"`
	Parent   string `json:"parent_area_name"`
}

func (e entry) about(now time.Time) About {
	a := About{Room: e.Room, Short: e.Short, UID: e.UID, Status: Status(e.Status), Title: naming.Line(e.Title), Streamer: naming.Line(e.Streamer),
		Cover: secure(e.Cover), Area: area(e.Parent, e.Area), At: now}
	if t, err := time.ParseInLocation("2006-01-02 15:04:05", e.Since, shanghai); err == nil && t.Year() > 2000 {
		a.Since = t.UTC()
	}
	return a
}

func area(parent, own string) string {
	parent, own = naming.Line(parent), naming.Line(own)
	switch {
	case parent == "" || parent == own:
		return own
	case own == "":
		return parent
	}
	return parent + " · " + own
}

// secure makes an address of a picture an https one; "" if it is none.
func secure(raw string) string {
	if strings.HasPrefix(raw, "//") {
		raw = "https:" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return ""
	}
	u.Scheme = "https"
	return u.String()
}

// batch asks for many rooms at once. A room that is not in the answer has to be asked for singly: it may be locked.
func batch(ctx context.Context, c *bilibili.Client, rooms []int64) (map[int64]About, error) {
	q := url.Values{"req_biz": {"web_room_componet"}}
	for _, r := range rooms {
		q.Add("room_ids", strconv.FormatInt(r, 10))
	}
	var data struct {
		Rooms json.RawMessage `json:"by_room_ids"`
	}
	if err := c.Do(ctx, bilibili.Call{Op: "ask what the rooms do", URL: api + "/xlive/web-room/v1/index/getRoomBaseInfo", As: bilibili.Visitor, Query: q}, &lenient{&data}); err != nil {
		return nil, err
	}
	out := map[int64]About{}
	var list map[string]json.RawMessage
	if b := bytes.TrimSpace(data.Rooms); len(b) > 0 && b[0] == '{' { // an empty one is an array
		if err := json.Unmarshal(b, &list); err != nil {
			return nil, fmt.Errorf("ask what the rooms do: read the answer: %w", err)
		}
	}
	now := time.Now()
	for _, raw := range list {
		var e entry
		if err := json.Unmarshal(raw, &e); err != nil || e.Room <= 0 {
			continue // asked for singly
		}
		out[e.Room] = e.about(now)
	}
	return out, nil
}

// lenient reads an object, and takes an empty array for an empty one.
type lenient struct{ into any }

func (l *lenient) UnmarshalJSON(b []byte) error {
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '[' {
		return nil
	}
	return json.Unmarshal(b, l.into)
}

// single asks for one room that the batch did not have.
func single(ctx context.Context, c *bilibili.Client, room int64) (About, error) {
	d, err := knock(ctx, c, room)
	if err != nil {
		return About{}, err
	}
	a := About{Room: d.Room, Short: d.Short, UID: d.UID, Status: Status(d.Status), At: time.Now()}
	a.Shut, a.locked = d.shut()
	if d.Since > 0 {
		a.Since = time.Unix(d.Since, 0).UTC()
	}
	if a.Status != On || a.Shut != "" {
		return a, nil
	}
	var info struct {
		Room struct {
			Title    string `json:"title"`
			Cover    string `json:"cover"`
			User     string `json:"user_cover"`
			Keyframe string `json:"keyframe"`
			Area     string `json:"area_name"`
			Parent   string `json:"parent_area_name"`
			Status   int    `json:"live_status"`
		} `json:"room_info"`
		Anchor struct {
			Base struct {
				Name string `json:"uname"`
			} `json:"base_info"`
		} `json:"anchor_info"`
	}
	err = c.Do(ctx, bilibili.Call{Op: "ask for the room's title", URL: api + "/xlive/web-room/v1/index/getInfoByRoom", As: bilibili.Visitor, WBI: true,
		Query: url.Values{"room_id": {strconv.FormatInt(room, 10)}, "web_location": {"444.8"}}}, &info)
	if err != nil {
		return About{}, err
	}
	a.Status = Status(info.Room.Status)
	a.Title, a.Streamer, a.Area = naming.Line(info.Room.Title), naming.Line(info.Anchor.Base.Name), area(info.Room.Parent, info.Room.Area)
	for _, cover := range [...]string{info.Room.Cover, info.Room.User, info.Room.Keyframe} {
		if a.Cover == "" {
			a.Cover = secure(cover)
		}
	}
	return a, nil
}

// maxHops is how many redirects of a short link are followed.
const maxHops = 5

// follow finds the room behind a short link.
func follow(ctx context.Context, c *bilibili.Client, short string) (int64, error) {
	const op = "follow the short link"
	at := address{short: short}.url()
	for range maxHops {
		a, err := c.Fetch(ctx, bilibili.Call{Op: op, URL: at, Limit: 1 << 20})
		if err != nil {
			return 0, err
		}
		switch {
		case a.Status == http.StatusPreconditionFailed || a.Status == http.StatusForbidden || a.Status == http.StatusTooManyRequests:
			return 0, &failure.Error{Op: op, Kind: failure.Throttled, Code: fmt.Sprintf("HTTP %d", a.Status), RetryAfter: holdFirst,
				Err: &bilibili.Refusal{Code: -int64(http.StatusPreconditionFailed), Status: a.Status, Message: "the platform blocks us"}}
		case a.Status == http.StatusNotFound, a.Status == http.StatusOK:
			return 0, nowhere(op)
		case a.Status < 300 || a.Status >= 400:
			return 0, &failure.Error{Op: op, Code: fmt.Sprintf("HTTP %d", a.Status), Err: errors.New("it leads nowhere now")}
		}
		u, err := url.Parse(at)
		if err == nil {
			u, err = u.Parse(a.Header.Get("Location"))
		}
		if err != nil || u.Scheme != "https" && u.Scheme != "http" {
			return 0, nowhere(op)
		}
		switch host := hostOf(u); {
		case host == liveHost:
			to, err := parse(u.String())
			if err != nil {
				return 0, nowhere(op)
			}
			return to.number, nil
		case host != shortHost && host != "bilibili.com" && !strings.HasSuffix(host, ".bilibili.com"):
			return 0, nowhere(op) // nobody else is asked anything
		}
		u.RawQuery, u.Fragment, u.Scheme = "", "", "https"
		at = u.String()
	}
	return 0, &failure.Error{Op: op, Kind: failure.NeedsHuman, Err: fmt.Errorf("more than %d redirects", maxHops)}
}

func nowhere(op string) error {
	return &failure.Error{Op: op, Kind: failure.NeedsHuman, Err: errors.New("it does not lead to a live room"),
		Hint: "Open the link in a browser and take the address of the room, https://live.bilibili.com/ and a number."}
}
