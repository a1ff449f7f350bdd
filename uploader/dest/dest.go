// Package dest reads the destinations that a user writes (--to DEST) and makes targets of them.
//
// It owns the grammar and the names of targets. It never asks a remote, keeps no secret, and prints none: what it cannot
// use it refuses with what would be right.
package dest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/bilibili"
	"github.com/liverec/liverec/uploader/localdir"
	"github.com/liverec/liverec/uploader/s3"
	"github.com/liverec/liverec/uploader/sftp"
)

// Kind is the kind of a target.
type Kind string

// The kinds of this version.
const (
	File Kind = "file"
	S3   Kind = "s3"
	SFTP Kind = "sftp"

	Bilibili Kind = "bilibili"
)

// Dest is a destination that was understood. Its Spec parses to the same Dest again, and neither it nor the ID holds a
// secret.
type Dest struct {
	segment.Destination
	Kind Kind

	Path     string // File: the archive folder, absolute
	Bucket   string // S3
	Prefix   string // S3: without slashes at its ends
	Endpoint string // S3: "" is Amazon
	Region   string // S3: "" is found out
	Read     bool   // verify=read: every copy is downloaded and its SHA-256 compared

	Submission *Submission // Bilibili
	Login      *Login      // SFTP
	WebDAV     *Folder     // WebDAV
}

// Effort is how hard Verify looks.
type Effort uint8

// The efforts. Recording takes Usual, `liverec verify` Strong, `liverec verify --deep` Full.
const (
	Usual  Effort = iota // a link is proven by being the same file, an object by the store's checksum
	Strong               // files are always read, objects proven by the store's checksum
	Full                 // everything is read back and its SHA-256 compared
)

// Env is what targets need of the process.
type Env struct {
	Data    string              // the data folder, absolute; media in it is linked where that is possible
	Known   bool                // the ledger has parts on this target: an empty archive folder is a lost mount
	Effort  Effort              // of Verify
	Getenv  func(string) string // AWS_*, LIVEREC_WEBDAV_PASSWORD, LIVEREC_SFTP_PASSWORD, SSH_AUTH_SOCK and HOME; nil: nothing is set
	Version string              // of liverec, for the User-Agent
	Sums    *uploader.Sums      // of local files that were read before; nil: of none
	Log     zerolog.Logger      // of the account of a bilibili: target
}

// later are the kinds that the contract knows and this version does not have.
var later = []struct{ prefix, name string }{
	{"rclone:", "rclone"},
}

const right = "file:PATH, a plain path, s3://BUCKET/PREFIX?endpoint=URL&region=NAME, " + rightSFTP + ", " + rightWebDAV + ", or " + rightBilibili

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// Parse reads a DEST. base is the folder that relative paths start from, absolute. Errors are one line without the name
// of the flag, and never repeat what could be a password.
func Parse(s, base string) (Dest, error) {
	if s == "" {
		return Dest{}, fmt.Errorf("is empty: want %s", right)
	}
	if head, query, _ := strings.Cut(s, "?"); len(head) >= len("bilibili:") && strings.EqualFold(head[:len("bilibili:")], "bilibili:") {
		return parseBilibili(head[len("bilibili:"):], query, base)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return Dest{}, errors.New("has a control character or is not UTF-8")
	}
	head, query, asked := strings.Cut(s, "?")
	for _, l := range later {
		if len(head) >= len(l.prefix) && strings.EqualFold(head[:len(l.prefix)], l.prefix) {
			return Dest{}, fmt.Errorf("%s… is a %s target, which is not in this version: want %s", l.prefix, l.name, right)
		}
	}
	var d Dest
	var err error
	switch sch := strings.ToLower(scheme.FindString(head)); sch {
	case "", "file:":
		d, err = parseFile(head[len(sch):], sch != "", base)
	case "s3:":
		d, err = parseS3(head[len(sch):])
	case "sftp:":
		d, err = parseSFTP(head[len(sch):])
	case "webdav+http:", "webdav+https:":
		d, err = parseWebDAV(head[len("webdav+"):], query)
	default:
		return Dest{}, fmt.Errorf("%s… is no kind of target: want %s (a path with a colon: ./%s)", sch, right, "…")
	}
	if err != nil {
		return Dest{}, err
	}
	d.Required = true
	if asked {
		if err := d.options(query, base); err != nil {
			return Dest{}, err
		}
	}
	if d.Kind == WebDAV {
		if err := d.WebDAV.ready(base); err != nil {
			return Dest{}, err
		}
	}
	d.name()
	return d, nil
}

// ParseAll reads all destinations of a run and refuses one that is named twice.
func ParseAll(list []string, base string) ([]Dest, error) {
	var all []Dest
	for _, s := range list {
		d, err := Parse(s, base)
		if err != nil {
			return nil, err
		}
		if d.Kind == Bilibili && named(all, d.ID) {
			d.ID = d.Submission.apart(all)
		}
		if named(all, d.ID) {
			if d.Kind == Bilibili {
				return nil, fmt.Errorf("%s is named twice: two targets of one account differ in tid, private or copyright", d.ID)
			}
			return nil, fmt.Errorf("%s is named twice: every target is named once", d.ID)
		}
		all = append(all, d)
	}
	return all, nil
}

func parseFile(p string, hasScheme bool, base string) (Dest, error) {
	if rest, ok := strings.CutPrefix(p, "//"); hasScheme && ok {
		// file:///path is a URL with an empty host; file://host/path is a place that only a mount can reach.
		host, path, _ := strings.Cut(rest, "/")
		if host != "" && host != "localhost" {
			return Dest{}, fmt.Errorf("file:// takes no host: mount it, then file:PATH")
		}
		p = "/" + path
	}
	switch {
	case p == "":
		return Dest{}, errors.New("file: names no folder: want file:PATH")
	case p == "~" || strings.HasPrefix(p, "~/"):
		return Dest{}, errors.New("~ is not expanded behind file: and in quotes: write the whole path")
	}
	if !filepath.IsAbs(p) {
		if base == "" {
			wd, err := os.Getwd()
			if err != nil {
				return Dest{}, fmt.Errorf("find the working directory: %w", err)
			}
			base = wd
		}
		p = filepath.Join(base, p)
	}
	if p = filepath.Clean(p); strings.Contains(p, "?") || strings.ContainsFunc(p, unicode.IsControl) {
		return Dest{}, fmt.Errorf("%q has a question mark or a control character in it: use another folder, or a link to it", p)
	}
	return Dest{Kind: File, Path: p}, nil
}

var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)

func parseS3(p string) (Dest, error) {
	rest, ok := strings.CutPrefix(p, "//")
	if !ok {
		return Dest{}, errors.New("s3: wants two slashes: s3://BUCKET/PREFIX")
	}
	if strings.Contains(strings.SplitN(rest, "/", 2)[0], "@") {
		return Dest{}, errors.New("s3:// takes no user and no password: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials")
	}
	bucket, prefix, _ := strings.Cut(rest, "/")
	if bucket == "" {
		return Dest{}, errors.New("s3:// names no bucket: want s3://BUCKET/PREFIX")
	}
	if !bucketName.MatchString(bucket) || strings.Contains(bucket, "..") {
		return Dest{}, fmt.Errorf("%q is no name of a bucket: want 3 to 63 letters, digits, dots and hyphens", bucket)
	}
	prefix, err := url.PathUnescape(strings.Trim(prefix, "/"))
	if err != nil {
		return Dest{}, fmt.Errorf("s3:// prefix: %q is no percent escape: write %%25 for a percent sign", escape(err))
	}
	if !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, unicode.IsControl) {
		return Dest{}, errors.New("s3:// prefix has a control character or is not UTF-8")
	}
	for part := range strings.SplitSeq(prefix, "/") {
		if prefix != "" && (part == "" || part == "." || part == "..") {
			return Dest{}, fmt.Errorf("s3:// prefix %q has an empty part, \".\" or \"..\"", prefix)
		}
	}
	return Dest{Kind: S3, Bucket: bucket, Prefix: prefix}, nil
}

func escape(err error) string {
	if e, ok := errors.AsType[url.EscapeError](err); ok {
		return string(e)
	}
	return "%"
}

// options reads what stands behind the question mark.
func (d *Dest) options(query, base string) error {
	known := []string{"required", "verify"}
	if d.Kind == S3 {
		known = []string{"endpoint", "region", "required", "verify"}
	}
	if d.Kind == SFTP {
		known = []string{"host-key", "key", "known-hosts", "password-file", "required", "verify"}
	}
	if d.Kind == WebDAV {
		known = []string{"insecure", "password-file", "required"}
	}
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
			return fmt.Errorf("an option has a broken percent escape: write %%25 for a percent sign")
		case !slices.Contains(known, key):
			return fmt.Errorf("%s: has no option %q: known are %s", d.Kind, key, strings.Join(known, ", "))
		case seen[key]:
			return fmt.Errorf("option %s stands twice", key)
		case strings.ContainsFunc(value, unicode.IsControl):
			return fmt.Errorf("option %s has a control character", key)
		}
		seen[key] = true
		if d.Kind == SFTP {
			if taken, err := d.Login.option(key, value, base); err != nil {
				return err
			} else if taken {
				continue
			}
		}
		if d.Kind == WebDAV {
			if known, err := d.WebDAV.option(key, value); err != nil {
				return err
			} else if known {
				continue
			}
		}
		switch key {
		case "required":
			if value != "true" && value != "false" {
				return fmt.Errorf("required=%q: want true or false", value)
			}
			d.Required = value == "true"
		case "verify":
			if value != "read" && value != "sum" {
				return fmt.Errorf("verify=%q: want sum (the cheapest proof) or read (every copy is read back and compared)", value)
			}
			d.Read = value == "read"
		case "region":
			if !regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`).MatchString(value) {
				return fmt.Errorf("region=%q: want a name like eu-central-1", value)
			}
			d.Region = value
		case "endpoint":
			u, err := url.Parse(value)
			switch {
			case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
				return errors.New("endpoint= wants http://HOST[:PORT] or https://HOST[:PORT]")
			case u.User != nil:
				return errors.New("endpoint= takes no user and no password: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials")
			case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
				return errors.New("endpoint= takes no path: the bucket stands in s3://BUCKET")
			}
			d.Endpoint = strings.ToLower(u.Scheme + "://" + u.Host)
		}
	}
	return nil
}

// name makes ID and Spec.
func (d *Dest) name() {
	var id string
	var opts []string
	switch d.Kind {
	case File:
		id = "file:" + d.Path
	case S3:
		id = "s3://" + d.Bucket
		if d.Prefix != "" {
			id += "/" + escapePath(d.Prefix)
		}
		if d.Endpoint != "" {
			id += "?endpoint=" + d.Endpoint
		}
		if d.Region != "" {
			opts = append(opts, "region="+d.Region)
		}
	case SFTP:
		id, opts = d.Login.spec()
	case Bilibili:
		id, opts = d.Submission.spec()
	case WebDAV:
		id, opts = d.WebDAV.spec()
	}
	if d.Read {
		opts = append(opts, "verify=read")
	}
	if !d.Required {
		opts = append(opts, "required=false")
	}
	d.ID, d.Spec = segment.TargetID(id), id
	if len(opts) > 0 {
		sep := "?"
		if strings.Contains(id, "?") {
			sep = "&"
		}
		d.Spec += sep + strings.Join(opts, "&")
	}
}

// escapePath keeps a prefix readable and unambiguous.
func escapePath(p string) string {
	return strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23").Replace(p)
}

func named(all []Dest, id segment.TargetID) bool {
	return slices.ContainsFunc(all, func(e Dest) bool { return e.ID == id })
}

// Build makes the target. It asks no remote; Check does. A folder that cannot be written is no error here either. Close
// the target (it is an io.Closer) after its last use.
func (d Dest) Build(_ context.Context, env Env) (uploader.Target, error) {
	var t uploader.Target
	var err error
	switch d.Kind {
	case File:
		t, err = localdir.New(localdir.Config{ID: d.ID, Path: d.Path, Data: env.Data, Known: env.Known, Reread: d.Read || env.Effort >= Strong})
	case S3:
		t, err = s3.New(s3.Config{
			ID: d.ID, Bucket: d.Bucket, Prefix: d.Prefix, Endpoint: d.Endpoint, Region: d.Region,
			Reread: d.Read || env.Effort >= Full, Getenv: env.Getenv, Version: env.Version, Sums: env.Sums,
		})
	case SFTP:
		l := d.Login
		t, err = sftp.New(sftp.Config{
			ID: d.ID, User: l.User, Host: l.Host, Port: l.Port, Path: l.Path, Key: l.Key, PasswordFile: l.PasswordFile,
			KnownHosts: l.KnownHosts, HostKey: l.HostKey, Known: env.Known, Reread: d.Read || env.Effort >= Full, Getenv: env.Getenv,
		})
	case Bilibili:
		t, err = bilibili.New(bilibili.Config{
			ID: d.ID, Cookies: d.Submission.Cookies, Interval: d.Submission.Interval, Streaming: d.Submission.Streaming,
			Listed: d.Submission.Release != "stored", Log: env.Log,
		})
	case WebDAV:
		t, err = d.webDAV(env)
	default:
		err = fmt.Errorf("there is no target of kind %q", d.Kind)
	}
	if err != nil {
		return nil, err // and no typed nil
	}
	return t, nil
}
