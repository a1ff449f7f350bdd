package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

var tooLarge = trouble{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("a body has at most %d bytes", bodyBytes), ""}

// readBody reads a JSON object into the struct that dst points to. It is as strict as the config file: a key that is not
// known, null, or a value of another kind is refused with the name of the key. nil if all is well.
func readBody(r *http.Request, dst any) *trouble {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return &trouble{http.StatusUnsupportedMediaType, "not_json", "the body has to be application/json", ""}
	}
	body, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &tooLarge
	}
	if err != nil {
		return &trouble{http.StatusBadRequest, "bad_request", "the body cannot be read", ""}
	}
	return parseBody(body, dst)
}

func parseBody(body []byte, dst any) *trouble {
	bad := func(text, key string) *trouble { return &trouble{http.StatusBadRequest, "bad_request", text, key} }
	if !utf8.Valid(body) {
		return bad("the body is not UTF-8", "")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil || object == nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return bad(fmt.Sprintf("the body is no JSON, at byte %d: %v", syntax.Offset, syntax), "")
		}
		return bad("the body has to be a JSON object", "")
	}
	v := reflect.ValueOf(dst).Elem()
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = v.Field(i)
	}
	keys := make([]string, 0, len(object))
	for k := range object {
		keys = append(keys, k)
	}
	slices.Sort(keys) // the same body gives the same answer
	for _, k := range keys {
		f, ok := fields[k]
		if !ok {
			return bad("there is no such key here", clip(k))
		}
		if string(object[k]) == "null" {
			return bad("null is no value; leave the key out", k)
		}
		raw := object[k]
		if whole(f.Type()) {
			raw = integer(raw)
		}
		// encoding/json would take null for a text in a list.
		if err := json.Unmarshal(raw, f.Addr().Interface()); err != nil || strings.Contains(string(object[k]), "null") && hasNull(object[k]) {
			return bad("it has to be "+wanted(f.Type()), k)
		}
	}
	return nil
}

func whole(t reflect.Type) bool {
	return t.Kind() == reflect.Int || t.Kind() == reflect.Pointer && whole(t.Elem())
}

// integer writes 3.0 and 3e2 as the whole numbers that they are in JSON; everything else stays as it is.
func integer(raw json.RawMessage) json.RawMessage {
	if f, err := strconv.ParseFloat(string(raw), 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.AppendInt(nil, int64(f), 10)
	}
	return raw
}

// hasNull reports whether a list has a null in it.
func hasNull(raw json.RawMessage) bool {
	var list []json.RawMessage
	return json.Unmarshal(raw, &list) == nil && slices.ContainsFunc(list, func(m json.RawMessage) bool { return string(m) == "null" })
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.Slice:
		return "a list of texts"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "a text"
}

// clip keeps what a client sent short where it is said back.
func clip(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}
