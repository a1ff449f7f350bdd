package dest

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/liverec/liverec/uploader/webdav"
)

// WebDAV is a folder on a WebDAV server.
const WebDAV Kind = "webdav"

const rightWebDAV = "webdav+https://USER@HOST/PATH"

// Folder is the place that a webdav+http: or webdav+https: target means.
type Folder struct {
	URL          string // http or https, host in small letters, no user
	User         string
	PasswordFile string // absolute; "": webdav.PasswordEnv
	Insecure     bool   // the password may go over a network in the clear
}

var noPassword = errors.New("webdav: takes no password in the address, where every process list shows it: add password-file=FILE, or set " + webdav.PasswordEnv)

// parseWebDAV reads what stands behind webdav+. Errors repeat nothing of the address: a password may be anywhere in it.
func parseWebDAV(s, query string) (Dest, error) {
	if option, _, _ := strings.Cut(query, "="); strings.Contains(option, "@") {
		return Dest{}, noPassword // it had a question mark in it
	}
	u, err := url.Parse(s)
	if err != nil {
		if strings.Contains(s, "@") {
			return Dest{}, fmt.Errorf("webdav: the address cannot be read: want %s, with %%40 for an @ and %%25 for a percent sign in the user's name, and no password", rightWebDAV)
		}
		return Dest{}, fmt.Errorf("webdav: the address cannot be read: want %s, with %%25 for a percent sign", rightWebDAV)
	}
	if _, has := u.User.Password(); has {
		return Dest{}, noPassword
	}
	user := u.User.Username()
	switch {
	case u.Opaque != "" || u.Hostname() == "":
		return Dest{}, fmt.Errorf("webdav: names no host: want %s", rightWebDAV)
	case u.Fragment != "" || strings.HasSuffix(s, "#"):
		return Dest{}, errors.New("webdav: write %23 for # in the path")
	case !utf8.ValidString(u.Path) || strings.ContainsFunc(u.Path+user, unicode.IsControl):
		return Dest{}, errors.New("webdav: the address has a control character or is not UTF-8")
	case strings.Contains(user, ":"):
		return Dest{}, errors.New("webdav: the user has a colon, which Basic authentication cannot carry")
	}
	for part := range strings.SplitSeq(strings.Trim(u.Path, "/"), "/") {
		if part == "." || part == ".." || part == "" && strings.Trim(u.Path, "/") != "" {
			return Dest{}, errors.New(`webdav: the path has an empty part, "." or ".."`)
		}
	}
	clean := url.URL{Scheme: strings.ToLower(u.Scheme), Host: strings.ToLower(u.Host), Path: strings.TrimSuffix(path.Clean("/"+u.Path), "/")}
	return Dest{Kind: WebDAV, WebDAV: &Folder{URL: clean.String(), User: user}}, nil
}

// ready checks what the options and the address say together, and finds the password file.
func (f *Folder) ready(base string) error {
	if f.User == "" && f.PasswordFile != "" {
		return fmt.Errorf("password-file= belongs to a user: want %s", rightWebDAV)
	}
	u, err := url.Parse(f.URL)
	if err != nil {
		return err
	}
	if f.User != "" && u.Scheme == "http" && !loopback(u.Hostname()) && !f.Insecure {
		return errors.New("webdav+http:// sends the password in the clear, for everybody on the way to read: use webdav+https://, or add insecure=true if the network is yours alone")
	}
	if p := f.PasswordFile; p != "" && !filepath.IsAbs(p) {
		if base == "" {
			if base, err = os.Getwd(); err != nil {
				return fmt.Errorf("find the working directory: %w", err)
			}
		}
		f.PasswordFile = filepath.Join(base, p)
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// option takes one option in; known is false if it is none of a WebDAV target.
func (f *Folder) option(key, value string) (known bool, err error) {
	switch key {
	case "password-file":
		switch {
		case value == "":
			return true, errors.New("password-file= names no file")
		case !utf8.ValidString(value):
			return true, errors.New("password-file= is not UTF-8")
		case strings.HasPrefix(value, "~"):
			return true, errors.New("password-file=: ~ is not expanded in quotes: write the whole path")
		}
		f.PasswordFile = filepath.Clean(value)
	case "insecure":
		if value != "true" && value != "false" {
			return true, errors.New("insecure= wants true or false")
		}
		f.Insecure = value == "true"
	default:
		return false, nil
	}
	return true, nil
}

// spec is the address with the user, and the options that are not part of the name.
func (f *Folder) spec() (id string, opts []string) {
	scheme, rest, _ := strings.Cut(f.URL, "://")
	id = "webdav+" + scheme + "://"
	if f.User != "" {
		id += url.User(f.User).String() + "@"
	}
	id += rest
	if f.PasswordFile != "" {
		opts = append(opts, "password-file="+escapeValue(f.PasswordFile))
	}
	if f.Insecure {
		opts = append(opts, "insecure=true")
	}
	return id, opts
}

// escapeValue keeps a path readable in an option.
func escapeValue(p string) string {
	return strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B", "#", "%23", ";", "%3B").Replace(p)
}

func (d Dest) webDAV(env Env) (*webdav.Target, error) {
	u, err := url.Parse(d.WebDAV.URL)
	if err != nil {
		return nil, err
	}
	return webdav.New(webdav.Config{
		ID: d.ID, URL: u, User: d.WebDAV.User, PasswordFile: d.WebDAV.PasswordFile, Known: env.Known, Getenv: env.Getenv, Version: env.Version,
	})
}
