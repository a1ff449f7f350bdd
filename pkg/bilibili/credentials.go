package bilibili

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/secret"
)

// maxFile bounds a cookie file; biliup's has less than 3 KiB.
const maxFile = 1 << 20

// platformTV is what biliup calls a login with the key of the TV client.
const platformTV = "BiliTV"

// Credentials are what a cookie file holds. They are never changed.
type Credentials struct {
	cookies  []cookie
	access   secret.String
	refresh  secret.String
	mid      int64
	platform string
	expires  time.Time

	form   form
	fields map[string]json.RawMessage // of the object that holds cookie_info
	outer  map[string]json.RawMessage // of the object around it under "data", if there is one
}

type cookie struct {
	name  string
	value secret.String
	raw   json.RawMessage // the object in the file, nil in other forms
}

// Format serves every verb: nothing of the file is printable.
func (c Credentials) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "the login of user %d", c.mid) // the writer is fmt's own
}

// form is how the file is written.
type form uint8

const (
	formText    form = iota // header, Netscape, names and values: never written back
	formBare                // {"cookie_info":…}
	formWrapped             // {"data":{"cookie_info":…}}
)

// errNoLogin says that a file holds no login.
var errNoLogin = errors.New("it holds no SESSDATA: neither biliup's cookies.json nor a Cookie header")

// Parse reads a cookie file: biliup's object, bare or one level down under "data", an object of names and values, a
// Netscape cookie file, or a Cookie header.
func Parse(data []byte) (*Credentials, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
	c := &Credentials{}
	var err error
	if bytes.HasPrefix(data, []byte("{")) {
		err = c.fromJSON(data)
	} else {
		c.fromText(string(data))
	}
	if err != nil {
		return nil, err
	}
	if c.value("SESSDATA") == "" {
		return nil, errNoLogin
	}
	for _, k := range c.cookies {
		if !plain(k.name) || !plain(k.value.Reveal()) {
			return nil, errors.New("a cookie in it holds a character that no cookie can have")
		}
	}
	if c.mid == 0 {
		c.mid, _ = strconv.ParseInt(c.value("DedeUserID"), 10, 64) // absent or odd: unknown
	}
	if c.expires.IsZero() {
		c.expires = sessionEnd(c.value("SESSDATA"))
	}
	return c, nil
}

// plain reports whether s may stand in a Cookie header: printable ASCII without a semicolon.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ';' {
			return false
		}
	}
	return true
}

// sessionEnd reads the end of a session out of its own second field (<id>%2C<unix s>%2C<check>).
func sessionEnd(s string) time.Time {
	f := strings.Split(strings.ReplaceAll(strings.ReplaceAll(s, "%2C", ","), "%2c", ","), ",")
	if len(f) < 2 {
		return time.Time{}
	}
	return seconds(f[1])
}

// seconds reads a time in seconds, zero if it is none between 1998 and 2286.
func seconds(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 9e8 || n >= 1e10 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

// number reads a JSON number that may be a string (reference 11).
func number(raw json.RawMessage) string { return strings.Trim(string(raw), `" `) }

// word reads a JSON string, "" for anything else.
func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func object(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

func (c *Credentials) fromJSON(data []byte) error {
	top := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &top); err != nil {
		// The text of the error may quote the file.
		return errors.New("it begins like JSON and is none: perhaps cut off")
	}
	c.form, c.fields = formBare, top
	if _, ok := top["cookie_info"]; !ok {
		if inner := object(top["data"]); inner["cookie_info"] != nil {
			c.form, c.fields, c.outer = formWrapped, inner, top
		} else {
			c.form, c.fields = formText, nil
			for _, name := range sortedKeys(top) {
				if v := word(top[name]); v != "" {
					c.put(cookie{name: name, value: secret.New(v)})
				}
			}
			return nil
		}
	}
	c.read()
	return nil
}

// read takes the cookies and tokens out of c.fields.
func (c *Credentials) read() {
	c.cookies, c.expires = nil, time.Time{}
	var list []json.RawMessage
	_ = json.Unmarshal(object(c.fields["cookie_info"])["cookies"], &list) // not a list: no cookies
	for _, raw := range list {
		o := object(raw)
		name, value := word(o["name"]), word(o["value"])
		if name == "" || value == "" {
			continue
		}
		c.put(cookie{name: name, value: secret.New(value), raw: raw})
		if name == "SESSDATA" {
			c.expires = seconds(number(o["expires"]))
		}
	}
	token := object(c.fields["token_info"])
	c.access, c.refresh = secret.New(word(token["access_token"])), secret.New(word(token["refresh_token"]))
	if c.access.IsZero() {
		c.access = secret.New(word(c.fields["access_token"]))
	}
	if c.refresh.IsZero() {
		c.refresh = secret.New(word(c.fields["refresh_token"]))
	}
	c.mid, _ = strconv.ParseInt(number(token["mid"]), 10, 64)
	c.platform = word(c.fields["platform"])
}

// put adds a cookie; the last of a name counts.
func (c *Credentials) put(k cookie) {
	if i := slices.IndexFunc(c.cookies, func(o cookie) bool { return o.name == k.name }); i >= 0 {
		c.cookies[i] = k
		return
	}
	c.cookies = append(c.cookies, k)
}

// fromText reads a Netscape cookie file (seven fields, tabs between them) or a Cookie header.
func (c *Credentials) fromText(s string) {
	for _, line := range strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.TrimPrefix(line, "#HttpOnly_")
		if f := strings.Split(line, "\t"); len(f) == 7 {
			host := strings.TrimPrefix(f[0], ".")
			if strings.HasPrefix(f[0], "#") || host != "bilibili.com" && !strings.HasSuffix(host, ".bilibili.com") {
				continue
			}
			c.put(cookie{name: f[5], value: secret.New(strings.TrimSpace(f[6]))})
			if f[5] == "SESSDATA" {
				c.expires = seconds(f[4])
			}
			continue
		}
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			continue
		}
		if head, rest, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(head), "cookie") {
			line = rest
		}
		for _, pair := range strings.Split(line, ";") {
			if name, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && value != "" {
				c.put(cookie{name: name, value: secret.New(value)})
			}
		}
	}
}

func (c *Credentials) value(name string) string {
	for _, k := range c.cookies {
		if k.name == name {
			return k.value.Reveal()
		}
	}
	return ""
}

// Cookie is the Cookie header, each value as it stands in the file.
func (c *Credentials) Cookie() secret.String {
	pairs := make([]string, len(c.cookies))
	for i, k := range c.cookies {
		pairs[i] = k.name + "=" + k.value.Reveal()
	}
	return secret.New(strings.Join(pairs, "; "))
}

// CSRF is the csrf word.
func (c *Credentials) CSRF() secret.String { return secret.New(c.value("bili_jct")) }

// Has reports whether there is a cookie of that name.
func (c *Credentials) Has(name string) bool { return c.value(name) != "" }

// MID is the user, 0 if the file does not say.
func (c *Credentials) MID() int64 { return c.mid }

// HasToken reports whether calls may speak as App.
func (c *Credentials) HasToken() bool { return !c.access.IsZero() }

// Renewable reports whether there is what a renewal needs. Cookies of a browser have no such thing: they live as long
// as they live.
func (c *Credentials) Renewable() bool {
	return c.form != formText && !c.access.IsZero() && !c.refresh.IsZero()
}

// Expires is when the cookies die, zero if the file does not say.
func (c *Credentials) Expires() time.Time { return c.expires }

// same reports whether o would speak with the same secrets.
func (c *Credentials) same(o *Credentials) bool {
	return o != nil && c.Cookie() == o.Cookie() && c.access == o.access
}

// mask hides every secret of c in s.
func (c *Credentials) mask(s string) string {
	if c == nil {
		return s
	}
	for _, k := range c.cookies {
		if v := k.value.Reveal(); len(v) >= 8 {
			s = strings.ReplaceAll(s, v, "***")
		}
	}
	for _, t := range []secret.String{c.access, c.refresh} {
		if v := t.Reveal(); len(v) >= 8 {
			s = strings.ReplaceAll(s, v, "***")
		}
	}
	return s
}

// grant is the answer to a login or a renewal (reference 1.2).
type grant struct {
	Cookies json.RawMessage `json:"cookie_info"`
	Token   json.RawMessage `json:"token_info"`
	SSO     json.RawMessage `json:"sso"`
}

// with makes the credentials that a grant brings: what c, which may be nil, holds and the grant does not speak of is
// kept, cookies of other names included.
func (c *Credentials) with(g grant, platform string) (*Credentials, error) {
	n := &Credentials{form: formBare, fields: map[string]json.RawMessage{}}
	if c != nil && c.form != formText {
		n.form, n.outer = c.form, c.outer
		for k, v := range c.fields {
			n.fields[k] = v
		}
	}
	info, fresh := object(n.fields["cookie_info"]), object(g.Cookies)
	if info == nil {
		info = map[string]json.RawMessage{}
	}
	var granted []json.RawMessage
	if err := json.Unmarshal(fresh["cookies"], &granted); err != nil || len(granted) == 0 {
		// A risk answer has code 0 and no cookies (reference 1.4).
		return nil, errors.New("the answer holds no cookies")
	}
	names := map[string]bool{}
	for _, raw := range granted {
		names[word(object(raw)["name"])] = true
	}
	if c != nil && c.form != formText {
		for _, k := range c.cookies {
			if !names[k.name] && k.raw != nil {
				granted = append(granted, k.raw)
			}
		}
	}
	for k, v := range fresh {
		info[k] = v
	}
	var err error
	if info["cookies"], err = json.Marshal(granted); err != nil {
		return nil, fmt.Errorf("write cookies: %w", err)
	}
	if n.fields["cookie_info"], err = json.Marshal(info); err != nil {
		return nil, fmt.Errorf("write cookies: %w", err)
	}
	old, token := object(n.fields["token_info"]), object(g.Token)
	if old == nil {
		old = map[string]json.RawMessage{}
	}
	for k, v := range token {
		old[k] = v
	}
	if n.fields["token_info"], err = json.Marshal(old); err != nil {
		return nil, fmt.Errorf("write tokens: %w", err)
	}
	for _, k := range []string{"access_token", "refresh_token"} { // the duplicates of python biliup
		if _, ok := n.fields[k]; ok && token[k] != nil {
			n.fields[k] = token[k]
		}
	}
	if len(g.SSO) > 0 && string(g.SSO) != "null" {
		n.fields["sso"] = g.SSO
	}
	if n.fields["platform"], err = json.Marshal(platform); err != nil {
		return nil, fmt.Errorf("write platform: %w", err)
	}
	return n.rewritten()
}

// rewritten reads c as a file of its own would be read.
func (c *Credentials) rewritten() (*Credentials, error) {
	b, err := c.encode()
	if err != nil {
		return nil, err
	}
	return Parse(b)
}

// encode is the content of the file. Formats that hold no tokens are never written.
func (c *Credentials) encode() ([]byte, error) {
	var v any = c.fields
	switch c.form {
	case formText:
		return nil, errors.New("this form of file is not written")
	case formWrapped:
		outer := map[string]json.RawMessage{}
		for k, o := range c.outer {
			outer[k] = o
		}
		inner, err := json.Marshal(c.fields)
		if err != nil {
			return nil, fmt.Errorf("write cookie file: %w", err)
		}
		outer["data"], v = inner, outer
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, errors.New("write cookie file: a field of it is no JSON")
	}
	return b.Bytes(), nil
}

func sortedKeys(m map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
