package bilibili

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever a server answers: no panic, success only where the body says so, and words that fit into a log.
func FuzzEnvelope(f *testing.F) {
	for _, s := range []string{`{"code":0,"message":"0","ttl":1,"data":{"a":1}}`, `{"code":-101,"data":null}`, `{"OK":1,"auth":"x"}`, `{"OK":0,"code":601,"detail":{"v_voucher":"v"}}`,
		`<html>`, ``, `{`, `{"code":"0"}`, `{"code":0,"data":{"v_voucher":"v"}}`, `{"code":1e3}`, `[]`, `{"code":0,"message":{"a":1}}`} {
		f.Add([]byte(s), 200, false)
		f.Add([]byte(s), 406, true)
	}
	f.Fuzz(func(t *testing.T, body []byte, status int, upload bool) {
		shape := Standard
		if upload {
			shape = Upload
		}
		_, r := open(shape, status, body)
		if r == nil {
			if status < 200 || status > 299 || !strings.Contains(string(body), "{") {
				t.Errorf("%d %q is a success", status, body)
			}
			return
		}
		if r.Code == 0 && status != 0 {
			t.Errorf("%d %q is a refusal with code 0", status, body)
		}
		if strings.ContainsAny(r.Message, "\n\r\x1b") || !utf8.ValidString(r.Message) || utf8.RuneCountInString(r.Message) > 201 {
			t.Errorf("%q says %q", body, r.Message)
		}
		_ = trouble("ask", r, "").Error()
	})
}

func FuzzPace(f *testing.F) {
	f.Add([]byte(`{"format":"liverec-pace/1","submitted":"2026-01-01T00:00:00Z","series":[{},{"code":601,"count":70000,"until":"9999-01-01T00:00:00Z"},{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := readPace(strings.NewReader(string(b)))
		for c := range classes {
			_ = s.take(c, Pace{Burst: 1}, s.Submitted)
		}
	})
}
