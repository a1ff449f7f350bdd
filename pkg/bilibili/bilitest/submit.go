package bilitest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Change is a submission that was made or edited.
type Change struct {
	At    time.Time
	AID   int64
	Made  bool // false: edited
	Files []string
	Title string
}

type archive struct {
	aid     int64
	bvid    string
	uid     int64
	fields  map[string]json.RawMessage
	videos  []*listed
	ctime   time.Time
	changed time.Time
	passed  bool // was public once
	forced  int  // a state that was scripted; 0: none
	reason  string
	shown   []snapshot // for lists that are late
}

type snapshot struct {
	at     time.Time
	videos []*listed
}

type listed struct {
	file, title, desc string
	cid               int64
	at                time.Time
	outcome           Outcome
	duration          float64
}

// Archive is a submission as it is now.
type Archive struct {
	AID     int64
	BVID    string
	Title   string
	Desc    string
	Tag     string
	Cover   string
	Files   []string
	Titles  []string // of the parts
	Private bool
	State   int
}

// Archives are all submissions that were ever made, in that order, deleted ones included.
func (t *Studio) Archives() []Archive {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Archive
	for _, aid := range slices.Sorted(maps.Keys(t.archives)) {
		a := t.archives[aid]
		x := Archive{AID: aid, BVID: a.bvid, Title: a.text("title"), Desc: a.text("desc"), Tag: a.text("tag"), Cover: a.text("cover"), Private: string(a.fields["is_only_self"]) == "1", State: t.state(a)}
		for _, v := range a.videos {
			x.Files, x.Titles = append(x.Files, v.file), append(x.Titles, v.title)
		}
		out = append(out, x)
	}
	return out
}

// History is every change of every submission, in order.
func (t *Studio) History() []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.history)
}

// Force sets the state of a submission, as a reviewer or its owner does: -2 rejected, -4 locked, -100 deleted (U 6.2);
// 0 takes it back.
func (t *Studio) Force(aid int64, state int, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.archives[aid]; a != nil {
		a.forced, a.reason = state, reason
	}
}

func (a *archive) text(key string) string {
	var s string
	_ = json.Unmarshal(a.fields[key], &s) // absent: ""
	return s
}

func (t *Studio) handleSubmissions() {
	const m = "member.bilibili.com/x/"
	cookie := func(r *http.Request) (*User, int64) { return t.s.ByCSRF(r) }
	token := func(r *http.Request) (*User, int64) { return t.s.ByToken(r) }
	t.s.Handle("POST "+m+"vu/web/add/v3", func(w http.ResponseWriter, r *http.Request) { t.add(w, r, cookie, true) })
	t.s.Handle("POST "+m+"vu/web/add", func(w http.ResponseWriter, r *http.Request) { t.add(w, r, cookie, true) })
	t.s.Handle("POST "+m+"vu/app/add", func(w http.ResponseWriter, r *http.Request) { t.add(w, r, token, false) })
	t.s.Handle("POST "+m+"vu/client/add", func(w http.ResponseWriter, _ *http.Request) { Reply(w, 21590, "投稿工具已停用", nil) }) // U 5.1
	t.s.Handle("POST "+m+"vu/client/edit", func(w http.ResponseWriter, _ *http.Request) { Reply(w, 21590, "投稿工具已停用", nil) })
	t.s.Handle("POST "+m+"vu/web/edit", func(w http.ResponseWriter, r *http.Request) { t.edit(w, r, cookie, true) })
	t.s.Handle("POST "+m+"vu/app/edit/full", func(w http.ResponseWriter, r *http.Request) { t.edit(w, r, token, false) })
	t.s.Handle("GET "+m+"vupre/web/archive/view", func(w http.ResponseWriter, r *http.Request) { t.view(w, r, t.s.ByCookie, false) })
	t.s.Handle("GET "+m+"client/archive/view", func(w http.ResponseWriter, r *http.Request) { t.view(w, r, t.byKey, true) })
	t.s.Handle("GET "+m+"web/archives", t.archivesList)
	t.s.Handle("GET "+m+"geetest/pre/add", func(w http.ResponseWriter, _ *http.Request) { Reply(w, 0, "", map[string]any{}) })
	t.s.Handle("POST "+m+"vu/web/cover/up", func(w http.ResponseWriter, r *http.Request) {
		u, code := t.s.ByCSRF(r)
		switch {
		case u == nil:
			Reply(w, code, "", nil)
		case !strings.HasPrefix(r.PostFormValue("cover"), "data:image/"): // U 5.6
			Reply(w, -400, "请求错误", nil)
		default:
			Reply(w, 0, "", map[string]any{"url": "https://archive.biliimg.com/bfs/archive/0123456789abcdef0123456789abcdef01234567.jpg"})
		}
	})
}

// byKey is the user of a token that stands in the query without a signature (U 5.3).
func (t *Studio) byKey(r *http.Request) (*User, int64) {
	if r.URL.Query().Get("sign") != "" {
		return t.s.ByToken(r)
	}
	return t.s.byAccessKey(r.URL.Query().Get("access_key"))
}

type sent struct {
	fields map[string]json.RawMessage
	videos []struct {
		File  string `json:"filename"`
		Title string `json:"title"`
		Desc  string `json:"desc"`
		CID   int64  `json:"cid"`
	}
}

func (s *sent) text(key string) string {
	var v string
	_ = json.Unmarshal(s.fields[key], &v) // absent: ""
	return v
}

func (s *sent) number(key string) int64 {
	n, _ := strconv.ParseInt(strings.Trim(string(s.fields[key]), `"`), 10, 64) // absent: 0
	return n
}

// receive reads and checks what add and edit have in common. A code is a refusal.
func (t *Studio) receive(r *http.Request) (s sent, code int64, message string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil || json.Unmarshal(body, &s.fields) != nil {
		return s, -400, "请求错误"
	}
	if json.Unmarshal(s.fields["videos"], &s.videos) != nil || len(s.videos) == 0 {
		return s, 21011, "新增稿件分P不能为空" // U 5.4
	}
	return s, 0, ""
}

// check is what both refuse.
func (t *Studio) check(s *sent, u *User, old *archive) (code int64, message string) {
	if _, ok := s.fields["limited_free"]; ok {
		return 21001, "参数错误" // U 5.3, rule 5
	}
	title := s.text("title")
	switch n := utf8.RuneCountInString(title); {
	case n == 0:
		return 21001, "参数错误" // U 9.3
	case n > 80:
		return 21103, "标题过长" // U 5.4
	}
	if s.text("tag") == "" {
		return 21001, "参数错误" // U 9.3
	}
	if len(strings.Split(s.text("tag"), ",")) > 12 || utf8.RuneCountInString(s.text("desc")) > 2000 {
		return 21001, "参数错误" // U 5.2
	}
	if c := s.number("copyright"); c == 2 && s.text("source") == "" {
		return 21021, "稿件类型为转载时，转载来源不能为空" // U 5.4
	} else if c < 1 || c > 3 || s.number("tid") == 0 {
		return 21001, "参数错误"
	}
	added := 0
	seen := map[string]bool{}
	for i, v := range s.videos {
		known := false
		if old != nil {
			for _, o := range old.videos {
				if o.file == v.File {
					known = v.CID == o.cid // U 5.3, rule 4: without its cid it counts as new
					if v.CID != 0 && v.CID != o.cid {
						return 21001, "参数错误"
					}
				}
			}
		}
		if !known {
			added++
		}
		o := t.files[v.File]
		if o == nil || o.data == nil || o.uid != u.MID { // U 5.4
			return 21015, fmt.Sprintf("第(%d)个视频可能上传过程出现问题，导致创建稿件失败，建议重新上传", i+1)
		}
		if seen[v.File] {
			return 21001, "参数错误"
		}
		seen[v.File] = true
		if utf8.RuneCountInString(v.Title) > 80 {
			return 21103, "标题过长"
		}
		for _, a := range t.archives {
			if a == old || t.state(a) == -100 {
				continue
			}
			if slices.ContainsFunc(a.videos, func(l *listed) bool { return l.file == v.File }) {
				return 10009, "同一个视频，不能短时间同时投递到不同稿件" // U 5.4
			}
		}
	}
	if added > 100 {
		return 21058, "一次最多新增100个分P" // U 5.3
	}
	return 0, ""
}

func (t *Studio) take(a *archive, s *sent, now time.Time) {
	old := map[string]*listed{}
	for _, v := range a.videos {
		old[v.file] = v
	}
	a.videos = nil
	for _, v := range s.videos {
		l := old[v.File]
		if l == nil {
			o := t.files[v.File]
			l = &listed{file: v.File, cid: o.biz, at: now}
			if t.k.Transcode != nil {
				l.outcome = t.k.Transcode(Part{File: o.file, Name: o.name, Data: o.data, AID: a.aid})
			}
			if l.duration = l.outcome.Duration; l.duration == 0 {
				l.duration = playTime(o.data)
			}
		}
		l = &listed{file: l.file, title: v.Title, desc: v.Desc, cid: l.cid, at: l.at, outcome: l.outcome, duration: l.duration}
		a.videos = append(a.videos, l)
	}
	delete(s.fields, "videos")
	delete(s.fields, "csrf")
	a.fields = s.fields
	a.changed = now
	a.shown = append(a.shown, snapshot{now, a.videos})
}

func (t *Studio) add(w http.ResponseWriter, r *http.Request, who func(*http.Request) (*User, int64), web bool) {
	u, code := who(r)
	if u == nil {
		Reply(w, code, "", nil)
		return
	}
	s, code, message := t.receive(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	now, way := t.s.Now(), fmt.Sprint(u.MID, web)
	if code == 0 && web && t.k.WebAdd != 0 {
		code, message = t.k.WebAdd, "该入口不可用"
	}
	if code == 0 {
		if n := len(t.adds[u.MID]); t.k.Gap > 0 && n > 0 && now.Sub(t.adds[u.MID][n-1]) < t.k.Gap {
			code, message = 21070, "投稿过快" // U 5.4
		}
		day := 0
		for _, at := range t.daily[way] {
			if now.Sub(at) < 24*time.Hour {
				day++
			}
		}
		if t.k.Daily > 0 && day >= t.k.Daily {
			code, message = 21566, "投稿过于频繁，建议将APP升级至最新版本后再试" // U 5.4
		}
	}
	if code == 0 {
		code, message = t.check(&s, u, nil)
	}
	if code != 0 {
		Reply(w, code, message, nil)
		return
	}
	t.made++
	a := &archive{aid: 112861976201494 + int64(t.made), bvid: fmt.Sprintf("BV1%09d", t.made), uid: u.MID, ctime: now}
	t.archives[a.aid] = a
	t.take(a, &s, now)
	t.adds[u.MID] = append(t.adds[u.MID], now)
	t.daily[way] = append(t.daily[way], now)
	t.note(a, true)
	Reply(w, 0, "", map[string]any{"aid": a.aid, "bvid": a.bvid})
}

func (t *Studio) note(a *archive, made bool) {
	c := Change{At: a.changed, AID: a.aid, Made: made, Title: a.text("title")}
	for _, v := range a.videos {
		c.Files = append(c.Files, v.file)
	}
	t.history = append(t.history, c)
}

func (t *Studio) edit(w http.ResponseWriter, r *http.Request, who func(*http.Request) (*User, int64), web bool) {
	u, code := who(r)
	if u == nil {
		Reply(w, code, "", nil)
		return
	}
	s, code, message := t.receive(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.archives[s.number("aid")]
	if code == 0 && web && t.k.WebEdit != 0 {
		code, message = t.k.WebEdit, "该入口不可用"
	}
	if code == 0 && (a == nil || a.uid != u.MID || t.state(a) == -100) {
		code, message = -404, "啥都木有" // U 9.3
	}
	if code == 0 && t.state(a) == -4 {
		code, message = 21099, "稿件已锁定" // U 5.3: the real code is not known
	}
	if code == 0 {
		code, message = t.check(&s, u, a)
	}
	if code != 0 {
		Reply(w, code, message, nil)
		return
	}
	a.passed = a.passed || t.state(a) == 0
	if a.forced == -2 {
		a.forced = 0 // U 5.3: to edit a rejected one is to submit it again
	}
	if _, ok := s.fields["watermark"]; !ok { // U 5.2: left out, it is switched off
		s.fields["watermark"] = json.RawMessage(`{"state":0}`)
	}
	t.take(a, &s, t.s.Now())
	t.note(a, false)
	Reply(w, 0, "", map[string]any{"aid": a.aid, "bvid": a.bvid})
}

// stage is how far a part is (U 6.3).
func (t *Studio) stage(l *listed) (status, fail, xcode int, duration float64) {
	age := t.s.Now().Sub(l.at)
	switch {
	case age < t.k.First:
		return -30, 0, 0, 0
	case l.outcome.Fail != 0 && !l.outcome.Late:
		return -16, l.outcome.Fail, 1, 0
	case age < t.k.First+t.k.Second:
		return -30, 0, 2, l.duration
	case l.outcome.Fail != 0:
		return 0, l.outcome.Fail, 3, l.duration
	}
	return -30, 0, 6, l.duration
}

func (t *Studio) state(a *archive) int {
	if a.forced != 0 {
		return a.forced
	}
	ready := t.s.Now().Sub(a.changed) >= t.k.Review
	for _, v := range a.videos {
		_, fail, xcode, _ := t.stage(v)
		ready = ready && xcode >= 2 && (fail == 0 || v.outcome.Late) // U 6.4: 0 although one part failed late
	}
	switch {
	case ready && string(a.fields["is_only_self"]) == "1":
		return -50
	case ready:
		return 0
	case a.passed:
		return -6
	}
	return -30
}

// visible is what list and view show now; false: not even that there is one.
func (t *Studio) visible(a *archive) ([]*listed, bool) {
	var out []*listed
	found := false
	for _, s := range a.shown {
		if t.s.Now().Sub(s.at) >= t.k.ListLate {
			out, found = s.videos, true
		}
	}
	return out, found
}

func (t *Studio) view(w http.ResponseWriter, r *http.Request, who func(*http.Request) (*User, int64), client bool) {
	u, code := who(r)
	if u == nil {
		Reply(w, code, "", nil)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	aid, _ := strconv.ParseInt(r.URL.Query().Get("aid"), 10, 64) // absent: by bvid
	a := t.archives[aid]
	for _, x := range t.archives {
		if aid == 0 && x.bvid == r.URL.Query().Get("bvid") {
			a = x
		}
	}
	if a == nil || a.uid != u.MID || a.forced == -100 {
		Reply(w, -404, "啥都木有", nil)
		return
	}
	videos, found := t.visible(a)
	if !found {
		Reply(w, -404, "啥都木有", nil)
		return
	}
	state := t.state(a)
	list := []map[string]any{}
	for i, v := range videos {
		status, fail, xcode, duration := t.stage(v)
		if status == -30 && state == 0 || state == -50 {
			status = 0
		}
		list = append(list, map[string]any{
			"aid": a.aid, "bvid": a.bvid, "title": v.title, "desc": v.desc, "filename": v.file, "cid": v.cid, "duration": int(duration + 0.5), "index": i + 1,
			"status": status, "status_desc": "", "reject_reason": "", "reject_reason_url": "", "fail_code": fail, "fail_desc": "", "xcode_state": xcode,
			"ctime": v.at.Unix(),
		})
	}
	arc := map[string]any{
		"reject_reason": a.reason, "state_desc": "", "state_panel": 0, "ptime": 0, "attrs": map[string]any{"is_owner": 1},
		"source": "", "dtime": 0, "mission_id": 0, "topic_id": 0, "recreate": -1, "charging_pay": 0, "is_360": -1, "lossless_music": 0,
		"neutral_mark": "", "desc_v2": nil, "cover": "", "dynamic": "", "desc_format_id": 0, "author": u.Name, "mid": u.MID, "duration": 0,
	}
	for k, v := range a.fields {
		switch k {
		case "watermark", "subtitle", "no_disturbance", "act_reserve_create", "is_only_self", "up_selection_reply", "up_close_reply", "up_close_danmu", "extra_fields":
		default:
			arc[k] = v
		}
	}
	arc["aid"], arc["bvid"], arc["state"], arc["ctime"] = a.aid, a.bvid, state, a.ctime.Unix()
	if client {
		arc["limited_free"] = 0 // U 5.3, rule 5
	}
	water := a.fields["watermark"]
	if len(water) == 0 {
		water = json.RawMessage(`{"state":0}`)
	}
	Reply(w, 0, "", map[string]any{
		"archive": arc, "videos": list, "subtitle": map[string]any{"allow": false, "lan": ""}, "watermark": water,
		"reply": map[string]any{"aid": a.aid, "state": 0, "up_selection": false}, "arc_elec": map[string]any{"show": true, "state": 1},
		"archive_elec": map[string]any{"show": true, "state": 1}, "in_season": false, "no_disturbance": 0, "staffs": []any{}, "show_staff": false,
		"tp_info": map[string]any{},
	})
}

func (t *Studio) archivesList(w http.ResponseWriter, r *http.Request) {
	u, code := t.s.ByCookie(r)
	if u == nil {
		Reply(w, code, "", nil)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	number := func(key string, otherwise int) int {
		if n, err := strconv.Atoi(r.URL.Query().Get(key)); err == nil && n > 0 {
			return n
		}
		return otherwise
	}
	pn, ps := number("pn", 1), number("ps", 20)
	all := slices.Sorted(maps.Keys(t.archives))
	slices.Reverse(all) // U 9.3: the newest first
	rows := []map[string]any{}
	count := 0
	for _, aid := range all {
		a := t.archives[aid]
		if a.uid != u.MID || a.forced == -100 {
			continue
		}
		if _, found := t.visible(a); !found {
			continue
		}
		count++
		if count > (pn-1)*ps && count <= pn*ps {
			rows = append(rows, map[string]any{
				"Archive": map[string]any{"aid": a.aid, "bvid": a.bvid, "title": a.text("title"), "state": t.state(a), "ctime": a.ctime.Unix(), "reject_reason": a.reason},
				"Videos":  nil, "stat": map[string]any{"aid": a.aid},
			})
		}
	}
	Reply(w, 0, "", map[string]any{"arc_audits": rows, "page": map[string]any{"pn": pn, "ps": ps, "count": count}, "class": nil})
}

// byAccessKey is the user of a bare token, whose call needs no signature.
func (s *Server) byAccessKey(key string) (*User, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if key != "" && key == u.access && !u.dead && time.Now().Add(s.offset).Before(u.expires) {
			return u, 0
		}
	}
	return nil, -101
}

// Whole reports whether a part stands in a submission with its transcode through.
func (t *Studio) Whole(file string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.archives {
		for _, l := range a.videos {
			if _, fail, xcode, _ := t.stage(l); l.file == file && fail == 0 && xcode == 6 {
				return true
			}
		}
	}
	return false
}

// ByHand is the owner at the page of a submission: texts are changed and a part of his own is put in front.
func (t *Studio) ByHand(aid int64, texts map[string]string, file string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, o := t.archives[aid], t.files[file]
	for k, v := range texts {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err) // a string
		}
		a.fields[k] = raw
	}
	a.videos = append([]*listed{{file: file, title: "by hand", cid: o.biz, at: t.s.Now(), duration: playTime(o.data)}}, a.videos...)
	a.changed = t.s.Now()
	a.shown = append(a.shown, snapshot{a.changed, a.videos})
}
