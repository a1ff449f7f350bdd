package bilitest

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// people are the accounts and the QR codes. Guarded by Server.mu.
type people struct {
	users   []*User
	codes   []*code
	img     string
	sub     string
	refresh time.Duration // oauth2/info says refresh when less than this is left
	renewed func()        // called when a renewal was done and before it is answered
}

// User is an account.
type User struct {
	MID  int64
	Name string

	session, csrf, sid string
	access, renew      string
	app                string // the key of the token
	expires            time.Time
	dead               bool
}

// code is a QR code of the TV login.
type code struct {
	code    string
	made    time.Time
	scanned *User
	waits   int
	used    bool
}

// life is how long a login lives (U 1.2).
const life = 180 * 24 * time.Hour

// appSecrets are the published pairs that the stand-in takes (U 1.1).
var appSecrets = map[string]string{
	"4409e2ce8ffd12b8": "59b43e04ad6965f34319062b478f83dd",
	"783bbb7264451d82": "2653583c8873dea268ab9386918b1d65",
	"5dce947fe22167f9": "5491a31c6bc11fb764a9b1f8d4acf092",
}

const tvKey = "4409e2ce8ffd12b8"

func hexWord(n int) string {
	b := make([]byte, n/2)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// fresh gives u new credentials; the old ones are dead (U 1.7).
func (u *User) fresh(now time.Time) {
	u.expires = now.Add(life)
	u.session = fmt.Sprintf("%s%%2C%d%%2C%s*%s", hexWord(8), u.expires.Unix(), hexWord(6), hexWord(2))
	u.csrf, u.sid = hexWord(32), hexWord(8)
	u.access, u.renew = hexWord(32), hexWord(32)
	u.app, u.dead = tvKey, false
}

// AddUser makes an account that is logged in by the TV client. Ids exceed 32 bits (U 0.3).
func (s *Server) AddUser(name string) *User {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &User{MID: 3546560000000001 + int64(len(s.users)), Name: name}
	u.fresh(time.Now().Add(s.offset))
	s.users = append(s.users, u)
	return u
}

// grant is the answer to a login (U 1.2).
func (u *User) grant(now time.Time) map[string]any {
	left := int64(u.expires.Sub(now) / time.Second)
	cookie := func(name, value string, httpOnly int) map[string]any {
		return map[string]any{"name": name, "value": value, "http_only": httpOnly, "expires": u.expires.Unix(), "secure": 0}
	}
	return map[string]any{
		"is_new": false, "mid": u.MID, "access_token": u.access, "refresh_token": u.renew, "expires_in": left,
		"token_info": map[string]any{"mid": u.MID, "access_token": u.access, "refresh_token": u.renew, "expires_in": left},
		"cookie_info": map[string]any{
			"cookies": []any{cookie("SESSDATA", u.session, 1), cookie("bili_jct", u.csrf, 0), cookie("DedeUserID", strconv.FormatInt(u.MID, 10), 0),
				cookie("DedeUserID__ckMd5", digest(u.session)[:16], 0), cookie("sid", u.sid, 0)},
			"domains": []string{".bilibili.com", ".biligame.com", ".bigfun.cn", ".bigfunapp.cn", ".dreamcast.hk"},
		},
		"sso": []string{"https://passport.bilibili.com/api/v2/sso", "https://passport.biligame.com/api/v2/sso"},
	}
}

// CookieFile is biliup's cookies.json of the user, as it is now (U 1.8).
func (s *Server) CookieFile(u *User) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := u.grant(time.Now().Add(s.offset))
	b, err := json.MarshalIndent(map[string]any{"cookie_info": g["cookie_info"], "sso": g["sso"], "token_info": g["token_info"], "platform": "BiliTV"}, "", "  ")
	if err != nil {
		panic(err)
	}
	return b
}

// Secrets are the words of the user that may stand in no log, page or export.
func (s *Server) Secrets(u *User) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []string{u.session, u.csrf, u.access, u.renew}
}

// Expire kills the user's cookies and token, as a logout of all devices does.
func (s *Server) Expire(u *User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.dead = true
}

// Login gives the user new credentials: he has logged in again somewhere, CookieFile shows them.
func (s *Server) Login(u *User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.fresh(time.Now().Add(s.offset))
}

// WantsRenewal sets when oauth2/info says refresh: when less than d is left. Default 30 days.
func (s *Server) WantsRenewal(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh = d
}

// RotateKeys changes the web keys, as happens about daily (L 6.1).
func (s *Server) RotateKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.img, s.sub = hexWord(32), hexWord(32)
}

// Scan is the person with the phone: the newest QR code is scanned by u, answered as scanned so many times, and then
// confirmed. It is false if there is no code, or if the newest was scanned already.
func (s *Server) Scan(u *User, scanned int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.codes) == 0 {
		return false
	}
	c := s.codes[len(s.codes)-1]
	if c.scanned != nil {
		return false
	}
	c.scanned, c.waits = u, scanned
	return true
}

// ByCookie is the user of the request's cookies: nil and -101 if nobody (U 9.3).
func (s *Server) ByCookie(r *http.Request) (*User, int64) {
	session := cookieOf(r, "SESSDATA")
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().Add(s.offset)
	for _, u := range s.users {
		if session != "" && u.session == session && !u.dead && now.Before(u.expires) {
			return u, 0
		}
	}
	return nil, -101
}

// cookieOf reads a cookie as it was sent. net/http would drop what it thinks is none.
func cookieOf(r *http.Request, name string) string {
	for _, line := range r.Header["Cookie"] {
		for _, pair := range strings.Split(line, ";") {
			if k, v, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && k == name {
				return v
			}
		}
	}
	return ""
}

// ByCSRF is ByCookie for a write: the csrf word of query or form must be bili_jct, else -111 (U 0.5). It reads a form,
// and leaves bodies of other kinds alone.
func (s *Server) ByCSRF(r *http.Request) (*User, int64) {
	u, code := s.ByCookie(r)
	if u == nil {
		return nil, code
	}
	given := r.URL.Query().Get("csrf")
	if given == "" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		given = r.PostFormValue("csrf")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if given == "" || given != u.csrf {
		return nil, -111
	}
	return u, 0
}

// signed reports whether the parameters are signed by an app that is known, and by which (U 1.1).
func signed(params url.Values) (app string, ok bool) {
	app = params.Get("appkey")
	secret := appSecrets[app]
	if secret == "" || len(params["sign"]) != 1 {
		return app, false
	}
	p := url.Values{}
	for k, v := range params {
		if k != "sign" {
			p[k] = v
		}
	}
	return app, digest(p.Encode()+secret) == params.Get("sign")
}

func digest(s string) string {
	sum := md5.Sum([]byte(s)) //nolint:gosec // what the interface wants
	return hex.EncodeToString(sum[:])
}

// ByToken is the user of an app call, whose parameters stand in the query or, for passport, in the form: wrong sign -3,
// wrong access_key -101 (U 9.3). The token works with any key on submissions (U 5.1).
func (s *Server) ByToken(r *http.Request) (*User, int64) {
	u, _, code := s.byToken(r)
	return u, code
}

func (s *Server) byToken(r *http.Request) (u *User, app string, code int64) {
	params := r.URL.Query()
	if params.Get("sign") == "" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		_ = r.ParseForm() // a broken form has no sign
		params = r.PostForm
	}
	app, ok := signed(params)
	if !ok {
		return nil, app, -3
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().Add(s.offset)
	for _, u := range s.users {
		if key := params.Get("access_key"); key != "" && key == u.access && !u.dead && now.Before(u.expires) {
			return u, app, 0
		}
	}
	return nil, app, -101
}

// Signed reports whether a query is signed with the web keys of now (L 6.1).
func (s *Server) Signed(q url.Values) bool {
	s.mu.Lock()
	raw := s.img + s.sub
	s.mu.Unlock()
	order := []int{46, 47, 18, 2, 53, 8, 23, 32, 15, 50, 10, 31, 58, 3, 45, 35, 27, 43, 5, 49, 33, 9, 42, 19, 29, 28, 14, 39, 12, 38, 41, 13}
	mixed := make([]byte, 0, 32)
	for _, at := range order {
		mixed = append(mixed, raw[at])
	}
	if q.Get("wts") == "" || len(q["w_rid"]) != 1 {
		return false
	}
	names := make([]string, 0, len(q))
	for name := range q {
		if name != "w_rid" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var pairs []string
	for _, name := range names {
		for _, v := range q[name] {
			for _, drop := range "!'()*" {
				v = strings.ReplaceAll(v, string(drop), "")
			}
			pairs = append(pairs, component(name)+"="+component(v))
		}
	}
	return digest(strings.Join(pairs, "&")+string(mixed)) == q.Get("w_rid")
}

// component is encodeURIComponent of what is left after the five characters were taken out.
func component(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// handleAccounts puts passport and api in place.
func (s *Server) handleAccounts() {
	s.img, s.sub = "7cd084941338484aae1ad9425b84077c", "4932caff0ff746eab6f01bf08b70ac45"
	s.refresh = 30 * 24 * time.Hour
	s.Handle("GET api.bilibili.com/x/web-interface/nav", s.nav)
	s.Handle("GET api.bilibili.com/x/space/myinfo", s.myinfo)
	s.Handle("GET api.bilibili.com/x/frontend/finger/spi", func(w http.ResponseWriter, _ *http.Request) {
		Reply(w, 0, "", map[string]any{"b_3": strings.ToUpper(hexWord(32)) + "12345infoc", "b_4": strings.ToUpper(hexWord(32))}) // U 0.4
	})
	s.Handle("POST passport.bilibili.com/x/passport-tv-login/qrcode/auth_code", s.authCode)
	s.Handle("POST passport.bilibili.com/x/passport-tv-login/qrcode/poll", s.poll)
	s.Handle("GET passport.bilibili.com/x/passport-login/oauth2/info", s.info)
	s.Handle("POST passport.bilibili.com/x/passport-login/oauth2/refresh_token", s.refreshToken)
}

// nav: -101 with isLogin false for a bad cookie, the web keys in any case (U 1.6, 9.4; L 6.1).
func (s *Server) nav(w http.ResponseWriter, r *http.Request) {
	u, code := s.ByCookie(r)
	s.mu.Lock()
	data := map[string]any{"isLogin": u != nil, "wbi_img": map[string]any{
		"img_url": "https://i0.hdslb.com/bfs/wbi/" + s.img + ".png", "sub_url": "https://i0.hdslb.com/bfs/wbi/" + s.sub + ".png"}}
	s.mu.Unlock()
	if u == nil {
		Reply(w, code, "账号未登录", data)
		return
	}
	data["mid"], data["uname"] = u.MID, u.Name
	Reply(w, 0, "0", data)
}

func (s *Server) myinfo(w http.ResponseWriter, r *http.Request) {
	u, code := s.ByCookie(r)
	if u == nil {
		Reply(w, code, "账号未登录", nil) // U 1.6
		return
	}
	Reply(w, 0, "0", map[string]any{"mid": u.MID, "name": u.Name, "level": 4, "follower": 12,
		"level_exp": map[string]any{"current_level": 4}, "face": "https://i0.hdslb.com/bfs/face/none.jpg", "sign": "", "coins": 1, "birthday": "", "sex": ""})
}

// authCode makes a QR code (U 1.2 step 1).
func (s *Server) authCode(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm() // a broken form has no sign
	if app, ok := signed(r.PostForm); !ok || app != tvKey {
		Reply(w, -3, "API校验密匙错误", nil) // U 1.2: bad sign
		return
	}
	if r.PostForm.Get("local_id") == "" || r.PostForm.Get("ts") == "" {
		Reply(w, -400, "请求错误", nil) // U 1.2: required fields
		return
	}
	s.mu.Lock()
	c := &code{code: hexWord(32), made: time.Now().Add(s.offset)}
	s.codes = append(s.codes, c)
	s.mu.Unlock()
	Reply(w, 0, "0", map[string]any{"auth_code": c.code, "url": "https://passport.bilibili.com/x/passport-tv-login/h5/qrcode/auth?auth_code=" + c.code})
}

// poll: 86039 until the code is scanned, 86090 until it is confirmed, then 0; after 180 s 86038 (U 1.2 step 2, 9.4).
func (s *Server) poll(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm() // a broken form has no sign
	if app, ok := signed(r.PostForm); !ok || app != tvKey {
		Reply(w, -3, "API校验密匙错误", nil) // U 1.2
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().Add(s.offset)
	i := slices.IndexFunc(s.codes, func(c *code) bool { return c.code == r.PostForm.Get("auth_code") })
	switch {
	case i < 0:
		Reply(w, -404, "啥都木有", nil) // U 1.2
	case s.codes[i].used, now.Sub(s.codes[i].made) > 180*time.Second:
		Reply(w, 86038, "二维码已失效", nil) // U 1.2: expired or invalid
	case s.codes[i].scanned == nil:
		Reply(w, 86039, "二维码尚未确认", nil) // U 1.2
	case s.codes[i].waits > 0:
		s.codes[i].waits--
		Reply(w, 86090, "二维码已扫码未确认", nil) // U 1.2
	default:
		c := s.codes[i]
		c.used = true
		c.scanned.fresh(now)
		Reply(w, 0, "0", c.scanned.grant(now))
	}
}

// info says whether the token wants to be renewed (U 1.6).
func (s *Server) info(w http.ResponseWriter, r *http.Request) {
	u, app, code := s.byToken(r)
	if u == nil {
		Reply(w, code, "账号未登录", nil) // U 1.6
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if app != u.app {
		Reply(w, -663, "鉴权失败", nil) // U 1.1: a token works with the key of its login
		return
	}
	left := u.expires.Sub(time.Now().Add(s.offset))
	Reply(w, 0, "0", map[string]any{"mid": u.MID, "access_token": u.access, "expires_in": int64(left / time.Second), "refresh": left < s.refresh})
}

// refreshToken rotates all credentials; the old ones are dead (U 1.7, 9.4).
func (s *Server) refreshToken(w http.ResponseWriter, r *http.Request) {
	u, app, code := s.byToken(r)
	if u == nil {
		Reply(w, code, "账号未登录", nil) // U 1.7
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case app != u.app:
		Reply(w, -663, "鉴权失败", nil) // U 1.1
	case r.PostForm.Get("refresh_token") != u.renew:
		Reply(w, -101, "账号未登录", nil) // U 1.7: both tokens are needed
	default:
		now := time.Now().Add(s.offset)
		u.fresh(now)
		if s.renewed != nil {
			s.renewed()
		}
		Reply(w, 0, "0", u.grant(now))
	}
}

// OnRenewal calls f when a renewal was done and before it is answered.
func (s *Server) OnRenewal(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed = f
}
