package bilibili

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/liverec/liverec/pkg/segment"
)

// Name is what the site is called in manifests and in status.
const Name = "bilibili"

const (
	liveHost  = "live.bilibili.com"
	shortHost = "b23.tv"
)

// Knows reports whether an address belongs to this site, so that Check has the say about it.
func Knows(raw string) bool {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	host := hostOf(u)
	if host == liveHost || host == shortHost || host == "space.bilibili.com" || host == "m.bilibili.com" {
		return true
	}
	return (host == "www.bilibili.com" || host == "bilibili.com") // a video, or nothing: Check says so
}

func hostOf(u *url.URL) string { return strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) }

// address is a room as a person wrote it: by number, short or long, or by a short link.
type address struct {
	number int64  // 0: a short link
	short  string // what stands behind b23.tv/
}

func (a address) String() string {
	if a.number > 0 {
		return strconv.FormatInt(a.number, 10)
	}
	return a.short
}

func (a address) url() string {
	if a.number > 0 {
		return "https://" + liveHost + "/" + a.String()
	}
	return "https://" + shortHost + "/" + a.short
}

func parse(raw string) (address, error) {
	const right = "right would be https://live.bilibili.com/ and the number of the room"
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return address{}, errors.New("this is no address of a room; " + right)
	}
	parts := strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' })
	switch host := hostOf(u); host {
	case liveHost:
		if len(parts) == 2 && (parts[0] == "h5" || parts[0] == "blanc") {
			parts = parts[1:]
		}
		if len(parts) == 1 {
			if n, ok := number(parts[0]); ok {
				return address{number: n}, nil
			}
		}
		if len(parts) == 0 {
			return address{}, errors.New("the address names no room; " + right)
		}
		return address{}, fmt.Errorf("%q is a page without a room's number in its address; %s", clip("/"+strings.Join(parts, "/")), right)
	case shortHost:
		if len(parts) != 1 || strings.ContainsFunc(parts[0], func(r rune) bool {
			return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) || len(parts[0]) > 32 {
			return address{}, errors.New("this is no short link; it looks like https://b23.tv/AbCdEf1")
		}
		if video(parts[0]) {
			return address{}, errors.New("this short link leads to a video, not to a room; " + right)
		}
		return address{short: parts[0]}, nil
	case "space.bilibili.com":
		return address{}, errors.New("this is a person's page, not a room; " + right)
	default:
		return address{}, errors.New("this is no live room; " + right)
	}
}

// number reads a room's number.
func number(s string) (int64, bool) {
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// video reports whether a word is a video's: BV1xx411c7mD, av170001.
func video(s string) bool {
	low := strings.ToLower(s)
	_, isNumber := number(strings.TrimPrefix(low, "av"))
	return strings.HasPrefix(s, "BV") && len(s) == 12 || strings.HasPrefix(low, "av") && isNumber
}

func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if r := []rune(s); len(r) > 40 {
		s = string(r[:40]) + "…"
	}
	return s
}

// Check makes a room of an address, or says what is wrong with it and what would be right. It asks nobody, so its identity
// is what was written; Site.Identify knows the one that all ways of writing it have.
func Check(raw string) (segment.Room, error) {
	a, err := parse(raw)
	if err != nil {
		return segment.Room{}, err
	}
	return segment.Room{ID: segment.RoomID(Name + ":" + a.String()), URL: a.url(), Name: a.String(), Site: Name}, nil
}
