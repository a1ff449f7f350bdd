package bilibili

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
)

// envelope is what every answer in JSON has of {code, message, data} and {OK, …}. Numbers may be strings, data may be
// anything.
type envelope struct {
	Code    json.RawMessage `json:"code"`
	Message json.RawMessage `json:"message"`
	Msg     json.RawMessage `json:"msg"`
	Info    json.RawMessage `json:"info"`
	OK      json.RawMessage `json:"OK"`
	Data    json.RawMessage `json:"data"`
	Detail  json.RawMessage `json:"detail"`
}

// open reads an answer: the part that the caller wants, or the refusal in it.
func open(shape Shape, status int, body []byte) (json.RawMessage, *Refusal) {
	body = bytes.TrimSpace(body)
	var e envelope
	if len(body) == 0 || body[0] != '{' || json.Unmarshal(body, &e) != nil {
		return nil, noEnvelope(shape, status, body)
	}
	code, known := integer(e.Code)
	message := text(e.Message)
	if message == "" || message == "0" {
		if m := text(e.Msg); m != "" {
			message = m
		} else if m := text(e.Info); m != "" {
			message = m
		}
	}
	r := &Refusal{Code: code, Status: status, Message: clean(message), Voucher: voucher(e.Data) || voucher(e.Detail)}
	success := status >= 200 && status < 300
	if shape == Upload {
		if ok, _ := integer(e.OK); success && ok == 1 && code == 0 {
			return body, nil
		}
		if code == 0 {
			r.Code = statusCode(shape, status)
		}
		return nil, r
	}
	switch {
	case known && code != 0:
		return e.Data, r // a refusal may have data: nav's keys come with -101
	case !known || !success:
		r.Code = statusCode(shape, status)
		return nil, r
	case r.Voucher && len(object(e.Data)) == 1:
		// Code 0 and nothing but a voucher is risk control too (live reference 6.1).
		r.Code = -352
		return nil, r
	}
	return e.Data, nil
}

// noEnvelope is the refusal of an answer that is none: a page of a gateway, nothing at all.
func noEnvelope(shape Shape, status int, body []byte) *Refusal {
	r := &Refusal{Code: statusCode(shape, status), Status: status}
	switch {
	case len(body) == 0:
		r.Message = "an empty answer"
	case body[0] == '<':
		r.Message = "a page instead of JSON"
	default:
		r.Message = "an answer that is no JSON"
	}
	return r
}

// statusCode is the code of a refusal that has none of its own.
func statusCode(shape Shape, status int) int64 {
	if shape == Upload {
		switch status {
		case 403: // preupload without a login (reference 3.1)
			return -101
		case 406: // too many preuploads
			return 406
		}
	}
	if status == 403 || status == 404 || status == 400 {
		// Without an envelope these come from a gateway: nothing is concluded.
		return -1000 - int64(status)
	}
	return -int64(status)
}

// voucher reports whether data asks for a captcha.
func voucher(data json.RawMessage) bool { return word(object(data)["v_voucher"]) != "" }

// integer reads a number that may be a string; known is false where there is none.
func integer(raw json.RawMessage) (n int64, known bool) {
	s := number(raw)
	if s == "true" {
		return 1, true
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func text(raw json.RawMessage) string { return strings.TrimSpace(word(raw)) }

// clean makes a remote's words fit for a log: one line, printable, at most 200 characters.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
