package dest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Login is a folder on a host that speaks SSH, and the ways in.
type Login struct {
	User string
	Host string // an IPv6 address stands without brackets
	Port int
	Path string // one that is not absolute lies in the home of the account

	Key          string // files, absolute; "" is the usual one
	PasswordFile string
	KnownHosts   string
	HostKey      string // fingerprint, "SHA256:…"
}

const rightSFTP = "sftp://USER@HOST[:PORT]/PATH"

var (
	hostName    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	fingerprint = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`)
)

// parseSFTP reads what stands behind sftp: and before the question mark.
func parseSFTP(p string) (Dest, error) {
	rest, ok := strings.CutPrefix(p, "//")
	if !ok {
		return Dest{}, errors.New("sftp: wants two slashes: " + rightSFTP)
	}
	head, folder, ok := strings.Cut(rest, "/")
	at := strings.LastIndexByte(head, '@')
	if at < 0 {
		return Dest{}, errors.New("sftp:// names no user: want " + rightSFTP)
	}
	if strings.Contains(head[:at], ":") {
		return Dest{}, errors.New("sftp:// takes no password: load a key into ssh-agent, or use key=FILE, password-file=FILE or LIVEREC_SFTP_PASSWORD")
	}
	user, err := url.PathUnescape(head[:at])
	if err != nil || user == "" || !utf8.ValidString(user) || strings.ContainsFunc(user, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return Dest{}, errors.New("sftp:// names no user: want " + rightSFTP)
	}
	l := &Login{User: user, Host: head[at+1:], Port: 22}
	if strings.HasPrefix(l.Host, "[") && strings.HasSuffix(l.Host, "]") {
		l.Host = l.Host[1 : len(l.Host)-1]
	} else if strings.Contains(l.Host, ":") {
		host, port, err := net.SplitHostPort(l.Host)
		n, nerr := strconv.Atoi(port)
		if err != nil || nerr != nil || n < 1 || n > 65535 {
			return Dest{}, errors.New("sftp:// port wants a number from 1 to 65535: " + rightSFTP)
		}
		l.Host, l.Port = host, n
	}
	l.Host = strings.ToLower(l.Host)
	if ip := net.ParseIP(l.Host); ip == nil && !hostName.MatchString(l.Host) {
		return Dest{}, errors.New("sftp:// names no host: want " + rightSFTP)
	}
	folder, err = url.PathUnescape(folder)
	switch {
	case err != nil:
		return Dest{}, fmt.Errorf("sftp:// path: %q is no percent escape: write %%25 for a percent sign", escape(err))
	case !ok:
		return Dest{}, errors.New("sftp:// names no folder: want " + rightSFTP + ", or /~/PATH for one in the home of the account")
	case !utf8.ValidString(folder) || strings.ContainsFunc(folder, unicode.IsControl):
		return Dest{}, errors.New("sftp:// path has a control character or is not UTF-8")
	}
	l.Path = path.Clean("/" + folder)
	if home, ok := strings.CutPrefix(l.Path+"/", "/~/"); ok {
		l.Path = path.Clean(home)
	}
	if strings.HasPrefix(l.Path, "~") {
		return Dest{}, errors.New("sftp:// path: ~ stands for the home of the account only as /~/PATH, once")
	}
	return Dest{Kind: SFTP, Login: l}, nil
}

// option takes an option of sftp:. taken is false for what is none of its own.
func (l *Login) option(key, value, base string) (taken bool, err error) {
	var file *string
	switch key {
	case "key":
		file = &l.Key
	case "password-file":
		file = &l.PasswordFile
	case "known-hosts":
		file = &l.KnownHosts
	case "host-key":
		value = strings.ReplaceAll(value, " ", "+") // as it is copied from ssh-keygen, a plus is no space
		if !fingerprint.MatchString(value) {
			return true, errors.New("host-key= wants a fingerprint as `ssh-keygen -lf` writes it: SHA256: and 43 characters")
		}
		l.HostKey = value
		return true, nil
	default:
		return false, nil
	}
	switch {
	case value == "":
		return true, fmt.Errorf("%s= names no file", key)
	case value == "~" || strings.HasPrefix(value, "~/"):
		return true, fmt.Errorf("%s: ~ is not expanded here: write the whole path", key)
	case !utf8.ValidString(value):
		return true, fmt.Errorf("%s= is not UTF-8", key)
	}
	if !filepath.IsAbs(value) {
		value = filepath.Join(base, value)
	}
	*file = filepath.Clean(value)
	return true, nil
}

var escapeUser = strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23", "/", "%2F", ":", "%3A", "@", "%40")

// spec gives the name of the target, and its options as they are written down.
func (l *Login) spec() (id string, opts []string) {
	host := l.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if l.Port != 22 {
		host += ":" + strconv.Itoa(l.Port)
	}
	folder := l.Path
	switch {
	case folder == ".":
		folder = "/~"
	case !path.IsAbs(folder):
		folder = "/~/" + folder
	}
	for _, o := range []struct{ name, value string }{
		{"key", l.Key}, {"password-file", l.PasswordFile}, {"known-hosts", l.KnownHosts}, {"host-key", l.HostKey},
	} {
		if o.value != "" {
			opts = append(opts, o.name+"="+strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B", ";", "%3B", "#", "%23").Replace(o.value))
		}
	}
	return "sftp://" + escapeUser.Replace(l.User) + "@" + host + escapePath(folder), opts
}
