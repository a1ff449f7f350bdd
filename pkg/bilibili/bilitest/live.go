package bilitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LiveRoom is a live room. Its fields are what the platform says of it.
type LiveRoom struct {
	ID       int64 // the long number
	Short    int64 // 0: none
	UID      int64
	Title    string
	Streamer string
	Cover    string // as the platform has it: "//i0.hdslb.com/…" and "http://…" happen (L 2)
	Area     string
	Parent   string

	Status    int       // 0 offline, 1 live, 2 round play (L 2)
	Since     time.Time // of the broadcast
	Locked    bool      // then the room is missing in batches (L 4)
	Hidden    bool
	Encrypted bool  // a password room (L 2)
	Special   []int // all_special_types; 203: paid (L 2)
	DRM       bool
	Empty     bool // live, and no stream is offered (L 2: members only; L 3: the first seconds)

	Accept  []int        // qualities; default 10000, 400, 250, 150
	Codecs  []string     // default avc; a broadcaster of HEVC has hevc alone
	Formats []string     // default flv, fmp4; ts: overseas
	Encoded bool         // what is served as 10000 is an encoding of the platform's own, "_bluray" (L 3.2)
	Hosts   []string     // default LiveHosts
	Life    int          // seconds that an address holds; default 3600 (L 8.1), negative: it is expired when it is given
	FLV     http.Handler // the media: every path of the room that ends in .flv
	HLS     http.Handler // gets "/index.m3u8" and the names in it
}

// LiveHosts are the media hosts of the stand-in: a network of the platform's own, a provincial node, a box in somebody's
// home (L 8.2).
var LiveHosts = []string{"xy11x22x33x44xy.mcdn.bilivideo.cn", "cn-jsnt-ct-01-07.bilivideo.com", "d1--cn-gotcha04.bilivideo.com"}

// Live is the live side of a stand-in: rooms, their APIs, their pages, their media hosts.
type Live struct {
	s *Server

	mu     sync.Mutex
	rooms  []*LiveRoom
	links  map[string]string
	issued map[string]bool // names of streams that were given out
}

// shanghai is where the platform's clock stands (L 2).
var shanghai = time.FixedZone("CST", 8*3600)

// NewLive puts the live interfaces in place.
func NewLive(s *Server) *Live {
	l := &Live{s: s, links: map[string]string{}, issued: map[string]bool{}}
	const api = "api.live.bilibili.com"
	for path, h := range map[string]http.HandlerFunc{
		"/room/v1/Room/room_init":                  l.roomInit,
		"/room/v1/Room/get_info":                   l.getInfo,
		"/room/v1/Room/playUrl":                    l.oldPlay,
		"/room/v1/Room/get_status_info_by_uids":    l.byUIDs,
		"/xlive/web-room/v1/index/getInfoByRoom":   l.infoByRoom,
		"/xlive/web-room/v1/index/getRoomBaseInfo": l.baseInfo,
		"/xlive/web-room/v2/index/getRoomPlayInfo": l.playInfo,
	} {
		s.Handle("GET "+api+path, l.browser(h))
	}
	s.Handle("POST "+api+"/room/v1/Room/get_status_info_by_uids", l.browser(l.byUIDs))
	s.Handle("GET live.bilibili.com/{room}", l.browser(l.page))
	s.Handle("GET b23.tv/{code}", l.browser(l.link))
	for _, host := range LiveHosts {
		s.Handle(host+"/live-bvc/{number}/{rest...}", l.media)
	}
	return l
}

// Add adds a room; what is zero of it gets its default.
func (l *Live) Add(r LiveRoom) *LiveRoom {
	if r.UID == 0 {
		r.UID = r.ID + 1_000_000
	}
	if r.Accept == nil {
		r.Accept = []int{10000, 400, 250, 150}
	}
	if r.Codecs == nil {
		r.Codecs = []string{"avc"}
	}
	if r.Formats == nil {
		r.Formats = []string{"flv", "fmp4"}
	}
	if r.Hosts == nil {
		r.Hosts = LiveHosts
	}
	if r.Life == 0 {
		r.Life = 3600
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rooms = append(l.rooms, &r)
	return &r
}

// Link makes a short link, b23.tv/code, that leads to an address.
func (l *Live) Link(code, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.links[code] = to
}

// Change changes rooms while requests come.
func (l *Live) Change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// find is the room of a number, short or long. The mutex is held.
func (l *Live) find(s string) *LiveRoom {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return nil
	}
	for _, r := range l.rooms {
		if r.ID == n || r.Short == n {
			return r
		}
	}
	return nil
}

// browser refuses what is no browser, with 412 and a page (L 3: never the User-Agent of an HTTP library; L 7).
func (l *Live) browser(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("User-Agent"), "Mozilla/5.0 (") {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusPreconditionFailed)
			fmt.Fprint(w, "<!DOCTYPE html><html><title>出错啦!</title></html>")
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		h(w, r)
	}
}

// visitor reports whether a request is signed and has a buvid3, and refuses it otherwise (L 2: since 2025-05 and 2025-06).
func (l *Live) visitor(w http.ResponseWriter, r *http.Request) bool {
	if !l.s.Signed(r.URL.Query()) || cookieOf(r, "buvid3") == "" {
		Reply(w, -352, "-352", nil)
		return false
	}
	return true
}

func (r *LiveRoom) since() int64 {
	if r.Status != 1 || r.Since.IsZero() {
		return 0
	}
	return r.Since.Unix()
}

func (r *LiveRoom) clock() string {
	if r.since() == 0 {
		return "0000-00-00 00:00:00" // L 2
	}
	return r.Since.In(shanghai).Format("2006-01-02 15:04:05")
}

func flag(b bool) int64 {
	if b {
		return 4102444800
	}
	return 0
}

// roomInit: 60004 for no such room (L 2).
func (l *Live) roomInit(w http.ResponseWriter, req *http.Request) {
	r := l.find(req.URL.Query().Get("id"))
	if r == nil {
		Reply(w, 60004, "直播间不存在", map[string]any{})
		return
	}
	since := r.since()
	if since == 0 {
		since = -62170012800 // L 2
	}
	Reply(w, 0, "ok", map[string]any{"room_id": r.ID, "short_id": r.Short, "uid": r.UID, "live_status": r.Status, "live_time": since,
		"encrypted": r.Encrypted, "pwd_verified": false, "is_hidden": r.Hidden, "is_locked": r.Locked, "hidden_till": flag(r.Hidden), "lock_till": flag(r.Locked),
		"is_portrait": false, "is_sp": 0, "special_type": 0, "need_p2p": 0})
}

// getInfo: 1 for no such room (L 2).
func (l *Live) getInfo(w http.ResponseWriter, req *http.Request) {
	r := l.find(req.URL.Query().Get("room_id"))
	if r == nil {
		Reply(w, 1, "未找到该房间", []any{})
		return
	}
	Reply(w, 0, "ok", map[string]any{"room_id": r.ID, "short_id": r.Short, "uid": r.UID, "live_status": r.Status, "live_time": r.clock(), "title": r.Title,
		"user_cover": r.Cover, "keyframe": "", "area_name": r.Area, "parent_area_name": r.Parent})
}

// infoByRoom: signed and with a buvid3, else -352 (L 2); 19002000 for no such room.
func (l *Live) infoByRoom(w http.ResponseWriter, req *http.Request) {
	if !l.visitor(w, req) {
		return
	}
	r := l.find(req.URL.Query().Get("room_id"))
	if r == nil {
		Reply(w, 19002000, "获取初始化数据失败", nil)
		return
	}
	Reply(w, 0, "0", l.info(r))
}

func (l *Live) info(r *LiveRoom) map[string]any {
	return map[string]any{
		"room_info": map[string]any{"uid": r.UID, "room_id": r.ID, "short_id": r.Short, "title": r.Title, "cover": r.Cover, "live_status": r.Status,
			"live_start_time": r.since(), "lock_status": b2i(r.Locked), "hidden_status": b2i(r.Hidden), "area_name": r.Area, "parent_area_name": r.Parent,
			"keyframe": "", "live_id": r.since()},
		"anchor_info": map[string]any{"base_info": map[string]any{"uname": r.Streamer, "face": "http://i0.hdslb.com/bfs/face/x.jpg"}},
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// baseInfo: by long number; locked rooms are missing, and nothing found is an array (L 4). req_biz is spelt as it is.
func (l *Live) baseInfo(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	if q.Get("req_biz") != "web_room_componet" || len(q["room_ids"]) == 0 {
		Reply(w, 1002002, "参数错误", nil) // L 2
		return
	}
	found := map[string]any{}
	for _, id := range q["room_ids"] {
		r := l.find(id)
		if r == nil || r.Locked {
			continue
		}
		found[strconv.FormatInt(r.ID, 10)] = map[string]any{"room_id": r.ID, "uid": r.UID, "live_status": r.Status, "live_time": r.clock(), "title": r.Title,
			"cover": r.Cover, "uname": r.Streamer, "area_name": r.Area, "parent_area_name": r.Parent, "live_id": r.since(), "is_encrypted": r.Encrypted,
			"short_id": r.Short, "live_url": fmt.Sprintf("https://live.bilibili.com/%d", r.ID)}
	}
	if len(found) == 0 {
		Reply(w, 0, "0", map[string]any{"by_uids": map[string]any{}, "by_room_ids": []any{}})
		return
	}
	Reply(w, 0, "0", map[string]any{"by_uids": map[string]any{}, "by_room_ids": found})
}

// byUIDs: GET with uids[], POST with JSON; locked rooms are missing, nothing found is an array (L 4).
func (l *Live) byUIDs(w http.ResponseWriter, req *http.Request) {
	uids := req.URL.Query()["uids[]"]
	if req.Method == http.MethodPost {
		var body struct{ UIDs []int64 }
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
			Reply(w, -400, "invalid params", nil)
			return
		}
		for _, n := range body.UIDs {
			uids = append(uids, strconv.FormatInt(n, 10))
		}
	}
	found := map[string]any{}
	for _, r := range l.rooms {
		if id := strconv.FormatInt(r.UID, 10); slices.Contains(uids, id) && !r.Locked {
			found[id] = map[string]any{"title": r.Title, "room_id": r.ID, "uid": r.UID, "live_time": r.since(), "live_status": r.Status, "short_id": r.Short,
				"area_v2_name": r.Area, "area_v2_parent_name": r.Parent, "uname": r.Streamer, "cover_from_user": r.Cover}
		}
	}
	if len(found) == 0 {
		Reply(w, 0, "success", []any{})
		return
	}
	Reply(w, 0, "success", found)
}

// anonymous is the best quality without a login (L 3: 250).
const anonymous = 250

// suffix is what the platform's own encodings are called (L 3.2).
func (r *LiveRoom) suffix(qn int) string {
	switch {
	case qn >= 10000 && !r.Encoded:
		return ""
	case qn >= 10000:
		return "_bluray"
	case qn == 400:
		return "_4000"
	case qn == 250:
		return "_2500"
	}
	return "_1500"
}

// playInfo: a signature need not be there, but a wrong one is refused (L 3); without a login 250 is the most whatever is
// asked for; without qn it is 150.
func (l *Live) playInfo(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	if (q.Has("w_rid") || q.Has("wts")) && !l.visitor(w, req) {
		return
	}
	r := l.find(q.Get("room_id"))
	switch {
	case !slices.Contains([]string{"web", "html5", "h5"}, q.Get("platform")) || q.Get("protocol") == "" || q.Get("format") == "" || q.Get("codec") == "":
		Reply(w, 1002002, "参数错误", nil) // L 2
		return
	case r == nil:
		Reply(w, 19002000, "获取初始化数据失败", nil) // L 2
		return
	case r.Encrypted:
		Reply(w, 19002005, "房间已加密", nil) // L 2
		return
	}
	user, _ := l.s.ByCookie(req)
	Reply(w, 0, "0", l.play(r, q, user != nil))
}

func (l *Live) play(r *LiveRoom, q url.Values, login bool) map[string]any {
	special := r.Special
	if special == nil {
		special = []int{}
	}
	data := map[string]any{"room_id": r.ID, "short_id": r.Short, "uid": r.UID, "is_hidden": r.Hidden, "is_locked": r.Locked, "is_portrait": false,
		"live_status": r.Status, "hidden_till": flag(r.Hidden), "lock_till": flag(r.Locked), "encrypted": r.Encrypted, "pwd_verified": true,
		"live_time": max(r.since(), -1), "room_shield": 1, "all_special_types": special, "playurl_info": nil}
	if r.Status != 1 {
		return data // L 3: null when offline, still code 0
	}
	qn := 150
	if n, err := strconv.Atoi(q.Get("qn")); err == nil && q.Has("qn") {
		if qn = n; qn == 0 {
			qn = 400 // L 3.1
		}
	}
	if !login {
		qn = min(qn, anonymous)
	}
	current := r.Accept[len(r.Accept)-1]
	for _, have := range r.Accept { // from the best to the worst
		if have <= qn {
			current = have
			break
		}
	}
	stream := []any{}
	protocols, formats, codecs := strings.Split(q.Get("protocol"), ","), strings.Split(q.Get("format"), ","), strings.Split(q.Get("codec"), ",")
	for i, protocol := range []string{"http_stream", "http_hls"} {
		var fs []any
		for j, format := range []string{"flv", "ts", "fmp4"} {
			if (i == 0) != (j == 0) || !slices.Contains(protocols, strconv.Itoa(i)) || !slices.Contains(formats, strconv.Itoa(j)) || !slices.Contains(r.Formats, format) {
				continue
			}
			var cs []any
			for k, codec := range []string{"avc", "hevc", "av1"} {
				if slices.Contains(codecs, strconv.Itoa(k)) && slices.Contains(r.Codecs, codec) {
					cs = append(cs, l.codec(r, format, codec, current))
				}
			}
			if cs != nil {
				fs = append(fs, map[string]any{"format_name": format, "master_url": "", "codec": cs})
			}
		}
		if fs != nil && !r.Empty {
			stream = append(stream, map[string]any{"protocol_name": protocol, "format": fs})
		}
	}
	data["playurl_info"] = map[string]any{"conf_json": "{}", "playurl": map[string]any{"cid": r.ID, "stream": stream,
		"g_qn_desc": []any{map[string]any{"qn": 30000, "desc": "杜比"}, map[string]any{"qn": 10000, "desc": "原画"}, map[string]any{"qn": 400, "desc": "蓝光"},
			map[string]any{"qn": 250, "desc": "超清"}, map[string]any{"qn": 150, "desc": "高清"}}}}
	return data
}

func (l *Live) codec(r *LiveRoom, format, codec string, qn int) map[string]any {
	name := fmt.Sprintf("live_%d_%d%s", r.UID, r.ID, r.suffix(qn))
	if codec == "hevc" {
		name += "_prohevc"
	}
	l.issued[name] = true
	base := fmt.Sprintf("/live-bvc/%d/%s.flv?", r.ID%1e6, name)
	switch format {
	case "ts":
		base = fmt.Sprintf("/live-bvc/%d/%s.m3u8?", r.ID%1e6, name)
	case "fmp4":
		base = fmt.Sprintf("/live-bvc/%d/%s/index.m3u8?", r.ID%1e6, name)
	}
	var places []any
	for _, host := range r.Hosts {
		expires := l.s.Now().Unix() + int64(r.Life)
		cdn := "cn-gotcha04"
		if !strings.Contains(host, "gotcha") {
			cdn = "cn-gotcha208"
		}
		extra := fmt.Sprintf("expires=%d&qn=%d&sign=%s&cdn=%s&oi=2130706433", expires, qn, token(strings.TrimSuffix(base, "?"), expires), cdn)
		places = append(places, map[string]any{"host": "https://" + host, "extra": extra, "stream_ttl": 3600})
	}
	return map[string]any{"codec_name": codec, "current_qn": qn, "accept_qn": r.Accept, "base_url": base, "url_info": places, "hdr_qn": nil,
		"dolby_type": 0, "attr_name": "", "hdr_type": 0, "drm": r.DRM}
}

func token(path string, expires int64) string {
	return digest(fmt.Sprintf("stand-in %s %d", path, expires))
}

// oldPlay: since 2026 it gives an encoding of 720p at the most (L 3.4).
func (l *Live) oldPlay(w http.ResponseWriter, req *http.Request) {
	r := l.find(req.URL.Query().Get("cid"))
	if r == nil || r.Status != 1 || r.Encrypted || r.Empty {
		Reply(w, 19002003, "房间信息不存在", nil) // L 2
		return
	}
	c := l.codec(r, "flv", "avc", 250)
	u := c["url_info"].([]any)[0].(map[string]any)
	Reply(w, 0, "0", map[string]any{"current_qn": 250, "quality_description": []any{}, "durl": []any{map[string]any{"url": u["host"].(string) + c["base_url"].(string) + u["extra"].(string)}}})
}

// page is the room's page with the answers of two interfaces inside (L 2).
func (l *Live) page(w http.ResponseWriter, req *http.Request) {
	r := l.find(req.PathValue("room"))
	if r == nil {
		http.NotFound(w, req)
		return
	}
	user, _ := l.s.ByCookie(req)
	state, err := json.Marshal(map[string]any{
		"roomInitRes": map[string]any{"code": 0, "data": l.play(r, url.Values{"protocol": {"0,1"}, "format": {"0,1,2"}, "codec": {"0,1"}, "qn": {"0"}}, user != nil)},
		"roomInfoRes": map[string]any{"code": 0, "data": l.info(r)},
	})
	if err != nil {
		panic(err) // a map of plain values
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><script>window.__NEPTUNE_IS_MY_WAIFU__=%s</script></head><body></body></html>", state)
}

// link: 302 to the whole address (L 1).
func (l *Live) link(w http.ResponseWriter, req *http.Request) {
	to, ok := l.links[req.PathValue("code")]
	if !ok {
		http.NotFound(w, req)
		return
	}
	http.Redirect(w, req, to, http.StatusFound)
}

// media: no Referer of the site 403, an address that has expired when it is connected to 403, a signature that is not of
// this path 403 (L 8, 8.1, 3.2). Provincial nodes look at none of it where HLS is concerned (L 3.2).
func (l *Live) media(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		http.Error(w, "405", http.StatusMethodNotAllowed)
		return
	}
	rest := req.PathValue("rest")
	name, file, hls := strings.Cut(rest, "/")
	if !hls {
		name = strings.TrimSuffix(name, ".flv")
	}
	l.mu.Lock()
	var r *LiveRoom
	for _, x := range l.rooms {
		if name == fmt.Sprintf("live_%d_%d", x.UID, x.ID) || strings.HasPrefix(name, fmt.Sprintf("live_%d_%d_", x.UID, x.ID)) {
			r = x
		}
	}
	known := l.issued[name]
	l.mu.Unlock()
	host := hostOf(req.Host)
	province := strings.HasPrefix(host, "cn-")
	q := req.URL.Query()
	expires, err := strconv.ParseInt(q.Get("expires"), 10, 64)
	playlist := !hls || strings.HasSuffix(file, ".m3u8")
	switch {
	case !strings.HasPrefix(req.Header.Get("Referer"), "https://live.bilibili.com"), !strings.HasPrefix(req.Header.Get("User-Agent"), "Mozilla/5.0 ("):
		http.Error(w, "403", http.StatusForbidden)
	case r == nil:
		http.NotFound(w, req)
	case hls && province && r.HLS != nil:
		l.pass(r.HLS, file, w, req)
	case !known, playlist && (err != nil || expires < l.s.Now().Unix() || q.Get("sign") != token(req.URL.Path, expires)):
		http.Error(w, "403", http.StatusForbidden)
	case hls && r.HLS != nil:
		l.pass(r.HLS, file, w, req)
	case !hls && strings.HasSuffix(rest, ".flv") && r.FLV != nil:
		r.FLV.ServeHTTP(w, req)
	default:
		http.NotFound(w, req)
	}
}

func (l *Live) pass(h http.Handler, file string, w http.ResponseWriter, req *http.Request) {
	in := req.Clone(req.Context())
	in.URL.Path = "/" + file
	h.ServeHTTP(w, in)
}
