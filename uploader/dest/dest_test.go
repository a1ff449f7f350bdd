package dest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/uploader/dest"
)

func TestParse(t *testing.T) {
	file := func(path string, required bool) dest.Dest {
		spec := "file:" + path
		if !required {
			spec += "?required=false"
		}
		return dest.Dest{Destination: segment.Destination{ID: segment.TargetID("file:" + path), Spec: spec, Required: required}, Kind: dest.File, Path: path}
	}
	for _, c := range []struct {
		in   string
		want dest.Dest
	}{
		{"file:/srv/archive", file("/srv/archive", true)},
		{"file:./liverec-archive", file("/home/u/liverec-archive", true)},
		{"file:liverec-archive/", file("/home/u/liverec-archive", true)},
		{"FILE:/srv/archive", file("/srv/archive", true)},
		{"file:///srv/archive", file("/srv/archive", true)},
		{"file://localhost/srv/archive", file("/srv/archive", true)},
		{"/srv/archive", file("/srv/archive", true)},
		{"archive", file("/home/u/archive", true)},
		{"../archive", file("/home/archive", true)},
		{"./with:colon", file("/home/u/with:colon", true)},
		{"/srv/100% 直播", file("/srv/100% 直播", true)},
		{"/srv/archive?required=false", file("/srv/archive", false)},
		{"/srv/archive?required=true", file("/srv/archive", true)},
		{"/srv/archive?", file("/srv/archive", true)},
		{"/srv/archive?verify=read", dest.Dest{
			Destination: segment.Destination{ID: "file:/srv/archive", Spec: "file:/srv/archive?verify=read", Required: true},
			Kind:        dest.File, Path: "/srv/archive", Read: true,
		}},
		{"s3://bucket", dest.Dest{
			Destination: segment.Destination{ID: "s3://bucket", Spec: "s3://bucket", Required: true},
			Kind:        dest.S3, Bucket: "bucket",
		}},
		{"s3://bucket/live/?endpoint=http://127.0.0.1:9000/&region=eu-central-1&required=false&verify=read", dest.Dest{
			Destination: segment.Destination{
				ID:   "s3://bucket/live?endpoint=http://127.0.0.1:9000",
				Spec: "s3://bucket/live?endpoint=http://127.0.0.1:9000&region=eu-central-1&verify=read&required=false",
			},
			Kind: dest.S3, Bucket: "bucket", Prefix: "live", Endpoint: "http://127.0.0.1:9000", Region: "eu-central-1", Read: true,
		}},
		{"sftp://u@NAS/srv/live/", dest.Dest{
			Destination: segment.Destination{ID: "sftp://u@nas/srv/live", Spec: "sftp://u@nas/srv/live", Required: true},
			Kind:        dest.SFTP, Login: &dest.Login{User: "u", Host: "nas", Port: 22, Path: "/srv/live"},
		}},
		{"sftp://a%40b@[::1]:2222/~/live 100%25?key=k&password-file=/p%26w&known-hosts=kh&host-key=SHA256:" + strings.Repeat("+", 43) + "&verify=read&required=false", dest.Dest{
			Destination: segment.Destination{
				ID: "sftp://a%40b@[::1]:2222/~/live 100%25",
				Spec: "sftp://a%40b@[::1]:2222/~/live 100%25?key=/home/u/k&password-file=/p%26w&known-hosts=/home/u/kh&host-key=SHA256:" +
					strings.Repeat("%2B", 43) + "&verify=read&required=false",
			},
			Kind: dest.SFTP, Read: true, Login: &dest.Login{User: "a@b", Host: "::1", Port: 2222, Path: "live 100%", Key: "/home/u/k",
				PasswordFile: "/p&w", KnownHosts: "/home/u/kh", HostKey: "SHA256:" + strings.Repeat("+", 43)},
		}},
		{"sftp://u@h/~", dest.Dest{
			Destination: segment.Destination{ID: "sftp://u@h/~", Spec: "sftp://u@h/~", Required: true},
			Kind:        dest.SFTP, Login: &dest.Login{User: "u", Host: "h", Port: 22, Path: "."},
		}},
		{"bilibili:?cookies=c.json", dest.Dest{
			Destination: segment.Destination{ID: "bilibili:?cookies=/home/u/c.json", Spec: "bilibili:?cookies=/home/u/c.json", Required: true},
			Kind:        dest.Bilibili,
			Submission: &dest.Submission{Cookies: "/home/u/c.json", TID: 21, Tag: "直播录像", Copyright: 1, Interval: 3 * time.Minute, Parts: 100,
				Release: "transcoded", Lost: "hold"},
		}},
		{"Bilibili:?cookies=/c%26d.json&tid=171&tag=live, {room} ,live&desc=one%0Atwo %25&copyright=2&source=http%3A%2F%2Fh%2Fa%3Fb%3Dc%26d&dynamic=hi&cover=c.jpg" +
			"&private=1&interval=90s&parts=7&release=published&lost=continue&upload=streaming&required=false", dest.Dest{
			Destination: segment.Destination{
				ID: "bilibili:?cookies=/c%26d.json",
				Spec: "bilibili:?cookies=/c%26d.json&tid=171&tag=live,{room}&desc=one%0Atwo %25&copyright=2&source=http://h/a%3Fb%3Dc%26d&dynamic=hi" +
					"&cover=/home/u/c.jpg&private=1&interval=1m30s&parts=7&release=published&lost=continue&upload=streaming&required=false",
			},
			Kind: dest.Bilibili,
			Submission: &dest.Submission{Cookies: "/c&d.json", TID: 171, Tag: "live,{room}", Desc: "one\ntwo %", Copyright: 2, Source: "http://h/a?b=c&d",
				Dynamic: "hi", Cover: "/home/u/c.jpg", Private: true, Interval: 90 * time.Second, Parts: 7, Release: "published", Lost: "continue", Streaming: true},
		}},
		{"WEBDAV+https://Al%40ice@Nas.Example.com:8443/a%20b/50%25/?password-file=my%26pass&required=false", dest.Dest{
			Destination: segment.Destination{
				ID:   "webdav+https://Al%40ice@nas.example.com:8443/a%20b/50%25",
				Spec: "webdav+https://Al%40ice@nas.example.com:8443/a%20b/50%25?password-file=/home/u/my%26pass&required=false",
			},
			Kind: dest.WebDAV, WebDAV: &dest.Folder{URL: "https://nas.example.com:8443/a%20b/50%25", User: "Al@ice", PasswordFile: "/home/u/my&pass"},
		}},
		{"webdav+http://u@nas/?insecure=true", dest.Dest{
			Destination: segment.Destination{ID: "webdav+http://u@nas", Spec: "webdav+http://u@nas?insecure=true", Required: true},
			Kind:        dest.WebDAV, WebDAV: &dest.Folder{URL: "http://nas", User: "u", Insecure: true},
		}},
		{"webdav+http://127.0.0.1:80", dest.Dest{
			Destination: segment.Destination{ID: "webdav+http://127.0.0.1:80", Spec: "webdav+http://127.0.0.1:80", Required: true},
			Kind:        dest.WebDAV, WebDAV: &dest.Folder{URL: "http://127.0.0.1:80"},
		}},
		{"s3://bucket/a%20b/50%25?endpoint=https%3A%2F%2FS3.Example.com", dest.Dest{
			Destination: segment.Destination{
				ID:       "s3://bucket/a b/50%25?endpoint=https://s3.example.com",
				Spec:     "s3://bucket/a b/50%25?endpoint=https://s3.example.com",
				Required: true,
			},
			Kind: dest.S3, Bucket: "bucket", Prefix: "a b/50%", Endpoint: "https://s3.example.com",
		}},
	} {
		got, err := dest.Parse(c.in, "/home/u")
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.in, d)
		}
		again, err := dest.Parse(got.Spec, "/elsewhere")
		if d := cmp.Diff(got, again); err != nil || d != "" {
			t.Errorf("%s: its spec %q reads as something else: %v %s", c.in, got.Spec, err, d)
		}
	}
}

// Every refusal is one line that says what would be right, and repeats nothing that could be a password.
func TestI10_RefusalsNameTheCureAndNoSecret(t *testing.T) {
	const secret = "hunter2"
	for _, c := range []struct{ in, want string }{
		{"", "file:PATH"},
		{"file:", "file:PATH"},
		{"file://nas/share", "mount it"},
		{"file:~/archive", "whole path"},
		{"~/archive", "whole path"},
		{"/srv/archive?requird=false", "known are required, verify"},
		{"/srv/archive?required=no", "true or false"},
		{"/srv/archive?required", "true or false"},
		{"/srv/archive?verify=maybe", "sum"},
		{"/srv/archive?endpoint=http://x", "known are required"},
		{"/srv/what?ever/archive", "no option"},
		{"/srv/arch\x00ive", "control character"},
		{"/srv/arch\x1b[31mive", "control character"},
		{"/srv/\xff", "UTF-8"},
		{"s3:bucket", "two slashes"},
		{"s3://", "names no bucket"},
		{"s3:///prefix", "names no bucket"},
		{"s3://b", "3 to 63"},
		{"s3://bucket/a/../b", `".."`},
		{"s3://bucket/a//b", "empty part"},
		{"s3://bucket/%zz", "%25"},
		{"s3://bucket/%00", "control character"},
		{"s3://AKIA:" + secret + "@bucket/live", "AWS_SECRET_ACCESS_KEY"},
		{"s3://bucket?secret_key=" + secret, "known are endpoint, region, required, verify"},
		{"s3://bucket?endpoint=http://u:" + secret + "@host", "AWS_SECRET_ACCESS_KEY"},
		{"s3://bucket?endpoint=127.0.0.1:9000", "http://HOST"},
		{"s3://bucket?endpoint=ftp://host", "http://HOST"},
		{"s3://bucket?endpoint=http://", "http://HOST"},
		{"s3://bucket?endpoint=http://host/path", "no path"},
		{"s3://bucket?region=a/b", "eu-central-1"},
		{"s3://bucket?region=a&region=b", "twice"},
		{"s3://bucket?endpoint=%zz", "percent"},
		{"webdav+https://u:" + secret + "@host/path", "LIVEREC_WEBDAV_PASSWORD"},
		{"webdav+https://u:1?" + secret + "@host/path", "LIVEREC_WEBDAV_PASSWORD"},
		{"webdav+https://u:" + secret + "%zz@host/path", "cannot be read"},
		{"webdav+https://u:" + secret + "/x@host/path", "cannot be read"},
		{"webdav+https:host/path", "names no host"},
		{"webdav+https:///path", "names no host"},
		{"webdav+https://host/a//b", "empty part"},
		{"webdav+https://host/a/../b", `".."`},
		{"webdav+https://host/a#b", "%23"},
		{"webdav+https://host/%00", "control character"},
		{"webdav+https://u%3Av@host/", "colon"},
		{"webdav+http://u@nas.local/path", "insecure=true"},
		{"webdav+http://u@192.168.1.2/path?insecure=false", "in the clear"},
		{"webdav+https://u@host/?insecure=yes", "true or false"},
		{"webdav+https://u@host/?password=" + secret, "known are insecure, password-file, required"},
		{"webdav+https://host/?password-file=f", "belongs to a user"},
		{"webdav+https://u@host/?password-file=~/f", "whole path"},
		{"webdav+https://u@host/?password-file=", "names no file"},
		{"sftp:host/path", "two slashes"},
		{"sftp://host/path", "names no user"},
		{"sftp://u:" + secret + "@host/path", "password-file=FILE"},
		{"sftp://u@/path", "names no host"},
		{"sftp://u@ho st/path", "names no host"},
		{"sftp://u@host:ssh/path", "1 to 65535"},
		{"sftp://u@host:0/path", "1 to 65535"},
		{"sftp://u@host", "names no folder"},
		{"sftp://u@host/%zz", "%25"},
		{"sftp://u@host/a%00", "control character"},
		{"sftp://u@host/~/~", "/~/PATH"},
		{"sftp://u@host/p?password=" + secret, "known are host-key, key, known-hosts, password-file"},
		{"sftp://u@host/p?key=~/.ssh/id_rsa", "whole path"},
		{"sftp://u@host/p?key=", "names no file"},
		{"sftp://u@host/p?host-key=MD5:aa", "SHA256:"},
		{"rclone:remote:path", "not in this version"},
		{"bilibili:", "names no cookie file"},
		{"bilibili:?tid=21", "names no cookie file"},
		{"bilibili:alice?cookies=f", "options only"},
		{"bilibili:?cookies=SESSDATA=" + secret, "name of a file"},
		{"bilibili:?cookies=~/c.json", "whole path"},
		{"bilibili:?cookies=f&cookies=g", "twice"},
		{"bilibili:?cookies=f&titel=x", "known are cookies, tid"},
		{"bilibili:?cookies=f&tid=games", "a number from 1"},
		{"bilibili:?cookies=f&tag=", "at least one word"},
		{"bilibili:?cookies=f&tag=a,b,c,d,e,f,g,h,i,j,k", "has 11 words, Bilibili takes 10"},
		{"bilibili:?cookies=f&tag=" + strings.Repeat("长", 21), "21 characters, Bilibili takes 20"},
		{"bilibili:?cookies=f&tag={nobody}", "is not a field"},
		{"bilibili:?cookies=f&desc=" + strings.Repeat("x", 2001), "Bilibili takes"},
		{"bilibili:?cookies=f&copyright=3", "1 to 2"},
		{"bilibili:?cookies=f&copyright=2", "needs source="},
		{"bilibili:?cookies=f&source=x", "copyright=2"},
		{"bilibili:?cookies=f&cover=x.gif", ".jpg or .png"},
		{"bilibili:?cookies=f&cover=https://example.com/x.jpg", "biliimg.com"},
		{"bilibili:?cookies=f&private=yes", "1 or 0"},
		{"bilibili:?cookies=f&interval=3", "such as 3m"},
		{"bilibili:?cookies=f&interval=100ms", "from 1s to 24h"},
		{"bilibili:?cookies=f&parts=0", "1 to 1000"},
		{"bilibili:?cookies=f&release=safe", "stored or listed or transcoded or published"},
		{"bilibili:?cookies=f&lost=ignore", "hold or continue"},
		{"bilibili:?cookies=f&upload=now", "sealed or streaming"},
		{"bilibili:?cookies=f&required=no", "true or false"},
		{"bilibili:?cookies=%zz", "%25"},
		{"bilibili:?cookies=f&tag=a%00b", "control character"},
		{"ftp://u:" + secret + "@host/", "no kind of target"},
		{"C:archive", "no kind of target"},
	} {
		d, err := dest.Parse(c.in, "/home/u")
		if err == nil {
			t.Errorf("%q was taken: %+v", c.in, d)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
			t.Errorf("%q: %q does not say %q, or says too much", c.in, err, c.want)
		}
	}
	if _, err := dest.Parse("archive", "/home/what?"); err == nil {
		t.Error("a folder with a question mark cannot be written down again")
	}
}

func TestParseAll(t *testing.T) {
	all, err := dest.ParseAll([]string{"a", "s3://bucket/live"}, "/home/u")
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	if _, err := dest.ParseAll([]string{"a", "file:/home/u/a?required=false"}, "/home/u"); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("one folder as two targets: %v", err)
	}
	if _, err := dest.ParseAll([]string{"a", "ftp:b"}, "/home/u"); err == nil {
		t.Error("a bad one was taken")
	}
}

// One account can have two targets, where an edit could not make the one into the other. The first keeps the name that it
// has alone, so that a ledger that knows it goes on.
func TestParseAllOfOneAccount(t *testing.T) {
	all, err := dest.ParseAll([]string{"bilibili:?cookies=/c&tid=171&tag=live", "bilibili:?cookies=/c&tid=17&private=1&tag=live", "bilibili:?cookies=/c&copyright=2&source=x"}, "/")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"bilibili:?cookies=/c", "bilibili:?cookies=/c&tid=17&private=1", "bilibili:?cookies=/c&tid=21&copyright=2"} {
		if string(all[i].ID) != want {
			t.Errorf("target %d is called %s, not %s", i, all[i].ID, want)
		}
	}
	for _, second := range []string{"bilibili:?cookies=/c", "bilibili:?cookies=/c&desc=x&interval=1h"} {
		if _, err := dest.ParseAll([]string{"bilibili:?cookies=/c&tag=live", second}, "/"); err == nil || !strings.Contains(err.Error(), "tid, private or copyright") {
			t.Errorf("%s beside one that an edit makes the same: %v", second, err)
		}
	}
}

func TestBuild(t *testing.T) {
	base := t.TempDir()
	data := filepath.Join(base, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{"archive", "s3://bucket/live?endpoint=http://127.0.0.1:1", "sftp://u@127.0.0.1:1/live", "webdav+http://127.0.0.1:1/live"} {
		d, err := dest.Parse(spec, base)
		if err != nil {
			t.Fatal(err)
		}
		target, err := d.Build(t.Context(), dest.Env{Data: data, Version: "1.2.3"})
		if err != nil {
			t.Fatal(err)
		}
		if target.ID() != d.ID {
			t.Errorf("%s is called %s", d.ID, target.ID())
		}
		if linked := target.Limits().MinChunk == 0; linked != (d.Kind == dest.File) {
			t.Errorf("%s: limits %+v", spec, target.Limits())
		}
		if err := target.(interface{ Close() error }).Close(); err != nil {
			t.Error(err)
		}
	}
	if target, err := (dest.Dest{Kind: "ftp"}).Build(t.Context(), dest.Env{}); err == nil || target != nil {
		t.Error("a target of no kind was made")
	}
}

// What is taken can be written down and read again, and names the same place.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a", "file:/a?required=false", "s3://bucket/p?endpoint=http://h:1&region=r&verify=read", "s3://bucket/%25%3f?endpoint=https://[::1]:9", "sftp://x", "sftp://u@h:2/~/a?key=k", "file:////", "webdav+https://u%40@H:1/%25%3f?password-file=a%26%3b&insecure=true"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := dest.Parse(s, "/base")
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: more than a line: %q", s, err)
			}
			return
		}
		again, err := dest.Parse(d.Spec, "/other")
		if diff := cmp.Diff(d, again); err != nil || diff != "" {
			t.Fatal(fmt.Sprintf("%q became %q, which reads as something else: %v", s, d.Spec, err), diff)
		}
	})
}
