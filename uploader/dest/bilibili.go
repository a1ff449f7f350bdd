package dest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/segment"
)

// Submission is what a bilibili: destination says about its submissions. Tag, Desc, Source and Dynamic are templates
// with the fields of --title.
type Submission struct {
	Cookies   string // the cookie file, absolute
	TID       int    // partition
	Tag       string // comma separated
	Desc      string
	Copyright int    // 1 original, 2 reprint
	Source    string // of a reprint
	Dynamic   string // text of the feed
	Cover     string // an image file, absolute, or the address of an image that Bilibili has; "": a frame
	Private   bool   // only for oneself
	Interval  time.Duration
	Parts     int    // most parts of one submission
	Release   string // stored, listed, transcoded, published: when a part counts as safe
	Lost      string // hold, continue: what to do when the submission was locked or deleted
	Streaming bool   // upload while the part grows
}

// The defaults of a Submission.
const (
	defaultTID      = 21
	defaultTag      = "直播录像"
	defaultInterval = 3 * time.Minute
	defaultParts    = 100
)

// Limits of Bilibili (reference 5.2), in characters where text is meant.
const (
	maxDesc    = 2000
	maxSource  = 200
	maxDynamic = 233
	maxTags    = 10
	maxTag     = 20
	maxParts   = 1000
)

const rightBilibili = "bilibili:?cookies=FILE&tid=NUMBER&tag=WORD,WORD"

var (
	bilibiliOptions = []string{"cookies", "tid", "tag", "desc", "copyright", "source", "dynamic", "cover", "private", "interval", "parts", "release", "lost", "upload", "required"}
	releases        = []string{"stored", "listed", "transcoded", "published"}
)

// parseBilibili reads what stands behind bilibili:?
func parseBilibili(head, query string, base string) (Dest, error) {
	if head != "" {
		return Dest{}, fmt.Errorf("bilibili: takes options only: want %s", rightBilibili)
	}
	s := &Submission{
		TID: defaultTID, Tag: defaultTag, Copyright: 1, Interval: defaultInterval, Parts: defaultParts, Release: "transcoded", Lost: "hold",
	}
	d := Dest{Kind: Bilibili, Submission: s}
	d.Required = true
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, kerr := url.QueryUnescape(rawKey)
		value, verr := url.QueryUnescape(rawValue)
		switch {
		case kerr != nil || verr != nil:
			return Dest{}, errors.New("an option has a broken percent escape: write %25 for a percent sign")
		case !slices.Contains(bilibiliOptions, key):
			return Dest{}, fmt.Errorf("bilibili: has no option %q: known are %s", clip(key), strings.Join(bilibiliOptions, ", "))
		case seen[key]:
			return Dest{}, fmt.Errorf("option %s stands twice", key)
		case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) && (r != '\n' || key != "desc") }):
			return Dest{}, fmt.Errorf("option %s has a control character or is not UTF-8", key)
		}
		seen[key] = true
		if err := d.bilibiliOption(key, value, base); err != nil {
			return Dest{}, err
		}
	}
	if s.Cookies == "" {
		return Dest{}, fmt.Errorf("bilibili: names no cookie file: want %s; `liverec login bilibili` makes one", rightBilibili)
	}
	switch {
	case s.Copyright == 2 && s.Source == "":
		return Dest{}, errors.New("copyright=2 is a reprint, which needs source=WHERE-IT-IS-FROM")
	case s.Copyright == 1 && s.Source != "":
		return Dest{}, errors.New("source= belongs to a reprint: want copyright=2 beside it")
	}
	d.name()
	return d, nil
}

// bilibiliOption takes one option in.
func (d *Dest) bilibiliOption(key, value, base string) error {
	s := d.Submission
	text := func(to *string, most int) error {
		if value != "" {
			if _, err := naming.Parse(value); err != nil {
				return fmt.Errorf("%s=: %w", key, err)
			}
		}
		if n := utf8.RuneCountInString(value); n > most {
			return fmt.Errorf("%s= has %d characters, Bilibili takes %d", key, n, most)
		}
		*to = value
		return nil
	}
	number := func(to *int, low, high int) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < low || n > high {
			return fmt.Errorf("%s=%q: want a number from %d to %d", key, clip(value), low, high)
		}
		*to = n
		return nil
	}
	choice := func(words ...string) error {
		if !slices.Contains(words, value) {
			return fmt.Errorf("%s=%q: want %s", key, clip(value), strings.Join(words, " or "))
		}
		return nil
	}
	file := func(to *string) error {
		switch {
		case value == "":
			return fmt.Errorf("%s= names no file", key)
		case value == "~" || strings.HasPrefix(value, "~/"):
			return fmt.Errorf("%s=: ~ is not expanded in quotes: write the whole path", key)
		}
		if !filepath.IsAbs(value) {
			if base == "" {
				wd, err := os.Getwd()
				if err != nil {
					return fmt.Errorf("find the working directory: %w", err)
				}
				base = wd
			}
			value = filepath.Join(base, value)
		}
		*to = filepath.Clean(value)
		return nil
	}
	switch key {
	case "required":
		if err := choice("true", "false"); err != nil {
			return err
		}
		d.Required = value == "true"
	case "cookies":
		if strings.Contains(value, "SESSDATA") || strings.ContainsAny(value, "{;") {
			return errors.New("cookies= wants the name of a file, not the cookies: they would stand in every process list")
		}
		return file(&s.Cookies)
	case "tid":
		return number(&s.TID, 1, 1_000_000)
	case "tag":
		if err := text(&s.Tag, maxTags*(maxTag+1)); err != nil {
			return err
		}
		tags := Tags(value)
		if len(tags) == 0 {
			return errors.New("tag= is empty: Bilibili wants at least one word")
		}
		if len(tags) > maxTags {
			return fmt.Errorf("tag= has %d words, Bilibili takes %d", len(tags), maxTags)
		}
		for _, t := range tags {
			if n := utf8.RuneCountInString(t); n > maxTag && !strings.Contains(t, "{") {
				return fmt.Errorf("tag= has a word of %d characters, Bilibili takes %d", n, maxTag)
			}
		}
		s.Tag = strings.Join(tags, ",")
	case "desc":
		return text(&s.Desc, maxDesc-200) // the links of continuations come behind it
	case "source":
		return text(&s.Source, maxSource)
	case "dynamic":
		return text(&s.Dynamic, maxDynamic)
	case "copyright":
		return number(&s.Copyright, 1, 2)
	case "cover":
		if u, err := url.Parse(value); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
			if h := u.Hostname(); u.User != nil || !strings.HasSuffix(h, ".biliimg.com") && !strings.HasSuffix(h, ".hdslb.com") {
				return errors.New("cover= wants an image file, or the address of an image on *.biliimg.com or *.hdslb.com")
			}
			s.Cover = value
			return nil
		}
		if err := file(&s.Cover); err != nil {
			return err
		}
		switch strings.ToLower(filepath.Ext(s.Cover)) {
		case ".jpg", ".jpeg", ".png":
		default:
			return errors.New("cover= wants a .jpg or .png file")
		}
	case "private":
		if err := choice("1", "0"); err != nil {
			return err
		}
		s.Private = value == "1"
	case "interval":
		n, err := time.ParseDuration(value)
		if err != nil || n < time.Second || n > 24*time.Hour {
			return fmt.Errorf("interval=%q: want a time from 1s to 24h, such as 3m; Bilibili refuses less than 30s", clip(value))
		}
		s.Interval = n
	case "parts":
		return number(&s.Parts, 1, maxParts)
	case "release":
		if err := choice(releases...); err != nil {
			return err
		}
		s.Release = value
	case "lost":
		if err := choice("hold", "continue"); err != nil {
			return err
		}
		s.Lost = value
	case "upload":
		if err := choice("sealed", "streaming"); err != nil {
			return err
		}
		s.Streaming = value == "streaming"
	}
	return nil
}

// Tags are the words of a tag option, each once.
func Tags(s string) []string {
	var out []string
	for t := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == '，' }) {
		if t = strings.TrimSpace(t); t != "" && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// spec is ID and options of a bilibili: destination: the account is the target.
func (s *Submission) spec() (id string, opts []string) {
	id = "bilibili:?cookies=" + query(s.Cookies)
	add := func(key, value string, unless bool) {
		if !unless {
			opts = append(opts, key+"="+query(value))
		}
	}
	add("tid", strconv.Itoa(s.TID), s.TID == defaultTID)
	add("tag", s.Tag, s.Tag == defaultTag)
	add("desc", s.Desc, s.Desc == "")
	add("copyright", strconv.Itoa(s.Copyright), s.Copyright == 1)
	add("source", s.Source, s.Source == "")
	add("dynamic", s.Dynamic, s.Dynamic == "")
	add("cover", s.Cover, s.Cover == "")
	add("private", "1", !s.Private)
	add("interval", s.Interval.String(), s.Interval == defaultInterval)
	add("parts", strconv.Itoa(s.Parts), s.Parts == defaultParts)
	add("release", s.Release, s.Release == "transcoded")
	add("lost", s.Lost, s.Lost == "hold")
	add("upload", "streaming", !s.Streaming)
	return id, opts
}

// apart is the ID of a second target of an account: with what no edit of a submission can change. It is the usual one if
// that is the same as with another target of the account. The first one keeps the usual ID, under which a ledger may know
// it.
func (s *Submission) apart(all []Dest) segment.TargetID {
	kind := func(o *Submission) [3]int {
		k := [3]int{o.TID, o.Copyright, 0}
		if o.Private {
			k[2] = 1
		}
		return k
	}
	id, _ := s.spec()
	for _, d := range all {
		if d.Kind == Bilibili && d.Submission.Cookies == s.Cookies && kind(d.Submission) == kind(s) {
			return segment.TargetID(id)
		}
	}
	id += "&tid=" + strconv.Itoa(s.TID)
	if s.Private {
		id += "&private=1"
	}
	if s.Copyright != 1 {
		id += "&copyright=" + strconv.Itoa(s.Copyright)
	}
	return segment.TargetID(id)
}

// query escapes what would be read as something else, and leaves the rest readable.
func query(v string) string {
	return strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B", "#", "%23", "?", "%3F", "=", "%3D", "\n", "%0A").Replace(v)
}
