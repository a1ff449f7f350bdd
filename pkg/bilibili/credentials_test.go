package bilibili_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/bilibili"
)

const biliup = `{"cookie_info":{"cookies":[
 {"name":"SESSDATA","value":"aaa%2C1777777777%2Cbbb*cc","http_only":1,"expires":1777777777,"secure":0},
 {"name":"bili_jct","value":"0123456789abcdef0123456789abcdef","http_only":0,"expires":1777777777,"secure":0},
 {"name":"DedeUserID","value":"12345","http_only":0,"expires":1777777777,"secure":0}],"domains":[".bilibili.com"]},
 "sso":["https://passport.bilibili.com/api/v2/sso"],
 "token_info":{"access_token":"acc0123456789","expires_in":15552000,"mid":12345,"refresh_token":"ref0123456789"},"platform":"BiliTV"}`

const cookies = "SESSDATA=aaa%2C1777777777%2Cbbb*cc; bili_jct=0123456789abcdef0123456789abcdef; DedeUserID=12345"

func TestParse(t *testing.T) {
	until := time.Unix(1777777777, 0)
	netscape := "# Netscape HTTP Cookie File\n\n" +
		"#HttpOnly_.bilibili.com\tTRUE\t/\tFALSE\t1777777777\tSESSDATA\taaa%2C1777777777%2Cbbb*cc\n" +
		".bilibili.com\tTRUE\t/\tFALSE\t1777777777\tbili_jct\t0123456789abcdef0123456789abcdef\r\n" +
		".example.com\tTRUE\t/\tFALSE\t1777777777\tother\tx\n" +
		"www.bilibili.com\tTRUE\t/\tFALSE\t0\tDedeUserID\t12345\n"
	for _, c := range []struct {
		name, file      string
		cookie          string
		mid             int64
		token, renews   bool
		expires         time.Time
		bad             string
		withoutCSRFWord bool
	}{
		{name: "biliup", file: biliup, cookie: cookies, mid: 12345, token: true, renews: true, expires: until},
		{name: "a byte order mark", file: "\ufeff" + biliup + "\n", cookie: cookies, mid: 12345, token: true, renews: true, expires: until},
		{name: "the answer of the API", file: `{"code":0,"message":"0","ttl":1,"data":` + biliup + `}`, cookie: cookies, mid: 12345, token: true, renews: true, expires: until},
		{name: "numbers as strings", file: strings.NewReplacer(`"mid":12345`, `"mid":"12345"`, `"expires":1777777777`, `"expires":"1777777777"`).Replace(biliup), cookie: cookies, mid: 12345, token: true, renews: true, expires: until},
		{name: "cookies only", file: `{"cookie_info":{"cookies":[{"name":"SESSDATA","value":"aaa%2C1777777777%2Cbbb*cc"},{"name":"bili_jct","value":"w"}]},"token_info":null}`,
			cookie: "SESSDATA=aaa%2C1777777777%2Cbbb*cc; bili_jct=w", expires: until},
		{name: "duplicates at the top", file: `{"access_token":"a","refresh_token":"b","cookie_info":{"cookies":[{"name":"SESSDATA","value":"s"}]}}`, cookie: "SESSDATA=s", token: true, renews: true, withoutCSRFWord: true},
		{name: "names and values", file: `{"SESSDATA":"s","bili_jct":"w","DedeUserID":"7","n":1}`, cookie: "DedeUserID=7; SESSDATA=s; bili_jct=w", mid: 7},
		{name: "a header", file: "Cookie: " + cookies + "\n", cookie: cookies, mid: 12345, expires: until},
		{name: "a header without its name", file: cookies, cookie: cookies, mid: 12345, expires: until},
		{name: "a decoded session stays as it is", file: "SESSDATA=aaa,1777777777,bbb*cc; bili_jct=w", cookie: "SESSDATA=aaa,1777777777,bbb*cc; bili_jct=w", expires: until},
		{name: "Netscape", file: netscape, cookie: cookies, mid: 12345, expires: until},
		{name: "the last of a name", file: "SESSDATA=old; SESSDATA=new; bili_jct=w", cookie: "SESSDATA=new; bili_jct=w"},
		{name: "empty", bad: "no SESSDATA"},
		{name: "a web page", file: "<html>log in</html>", bad: "no SESSDATA"},
		{name: "cut off", file: biliup[:200], bad: "cut off"},
		{name: "no session", file: "bili_jct=w; sid=x", bad: "no SESSDATA"},
		{name: "a session of nothing", file: `{"cookie_info":{"cookies":[{"name":"SESSDATA","value":""}]}}`, bad: "no SESSDATA"},
		{name: "a second header", file: `{"SESSDATA":"s\r\nX-Other: y","bili_jct":"w"}`, bad: "character"},
		{name: "a second cookie", file: `{"SESSDATA":"s; admin=1","bili_jct":"w"}`, bad: "character"},
		{name: "no object", file: `{"cookie_info":7}`, bad: "no SESSDATA"},
		{name: "too long", file: strings.Repeat(" ", 1<<20) + cookies, bad: "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := bilibili.Parse([]byte(c.file))
			if c.bad != "" {
				if err == nil || !strings.Contains(err.Error(), c.bad) {
					t.Fatalf("error %v, want %q", err, c.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Cookie().Reveal() != c.cookie || got.MID() != c.mid || got.HasToken() != c.token || got.Renewable() != c.renews || !got.Expires().Equal(c.expires) {
				t.Errorf("cookie %s, mid %d, token %v, renewable %v, until %v", got.Cookie().Reveal(), got.MID(), got.HasToken(), got.Renewable(), got.Expires())
			}
			if got.CSRF().IsZero() != c.withoutCSRFWord {
				t.Errorf("csrf word %q", got.CSRF().Reveal())
			}
		})
	}
}

// No way of printing shows a secret (I10).
func TestCredentialsHaveNoPrintableForm(t *testing.T) {
	c, err := bilibili.Parse([]byte(biliup))
	if err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %x", c, c, *c, *c), string(j), fmt.Sprint(c.Cookie(), c.CSRF())} {
		for _, secret := range []string{"aaa%2C", "0123456789abcdef", "acc0123", "ref0123"} {
			if strings.Contains(s, secret) {
				t.Errorf("%q shows %q", s, secret)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{biliup, cookies, `{"data":` + biliup + `}`, `{"SESSDATA":"s"}`, ".bilibili.com\tTRUE\t/\tFALSE\t1\tSESSDATA\tx", "{", `{"cookie_info":{"cookies":{}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := bilibili.Parse(data)
		if err != nil {
			return
		}
		h := c.Cookie().Reveal()
		if !strings.Contains(h, "SESSDATA=") || strings.ContainsFunc(h, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q gives the header %q", data, h)
		}
		if c.Expires().Year() > 2300 {
			t.Errorf("%q lives until %v", data, c.Expires())
		}
	})
}
