package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/config"
)

func TestSortArgs(t *testing.T) {
	for _, c := range []struct {
		in, want, bad string
	}{
		{in: "liverec record URL --to d", want: "liverec record --to d -- URL"},
		{in: "liverec record --once URL --to=d --segment 10s", want: "liverec record --once --to=d --segment 10s -- URL"},
		{in: "liverec --data d record URL", want: "liverec record --data d -- URL"},
		{in: "liverec record URL --data d --no-progress", want: "liverec record --data d --no-progress -- URL"},
		{in: "liverec --log-level=debug status --json", want: "liverec status --log-level=debug --json"},
		{in: "liverec upload a.flv --to d b.flv -- -odd.flv", want: "liverec upload --to d -- a.flv b.flv -odd.flv"},
		{in: "liverec help record", want: "liverec help record"},
		{in: "liverec", want: "liverec"},
		{in: "liverec --help", want: "liverec --help"},
		{in: "liverec record URL --too d", bad: "--too is not a flag of `liverec record`"},
		{in: "liverec record URL --to", bad: "--to: a value must follow"},
		{in: "liverec recrod URL", bad: `"recrod" is not a command`},
		{in: "liverec status --segment 10s", bad: "--segment is not a flag of `liverec status`"},
	} {
		got, err := sortArgs(newApp(streams{}), strings.Fields(c.in))
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s: error %v, want %q", c.in, err, c.bad)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

// Exit 2 prints exactly one line on stderr, nothing on stdout, and makes no folder.
func TestWrongUsageIsOneLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  map[string]string
		says []string
	}{
		{args: []string{"record"}, says: []string{"the address of a room is missing"}},
		{args: []string{"record", "host/live.flv"}, says: []string{"host/live.flv", "http"}},
		{args: []string{"record", "gopher://host/live"}, says: []string{"gopher", "http"}},
		{args: []string{"record", "http://"}, says: []string{"host"}},
		{args: []string{"record", ""}, says: []string{"http"}},
		{args: []string{"record", "http://h/a.flv", "http://h/b.flv"}, says: []string{"one argument too many"}},
		{args: []string{"record", "http://h/a.flv", "--segment", "soon"}, says: []string{"--segment", "soon", "15m"}},
		{args: []string{"record", "http://h/a.flv", "--segment", "-5s"}, says: []string{"--segment", "out of range"}},
		{args: []string{"record", "http://h/a.flv", "--max-size", "4 gigs"}, says: []string{"--max-size", "4GiB"}},
		{args: []string{"record", "http://h/a.flv", "--max-size", "1kB"}, says: []string{"--max-size", "out of range"}},
		{args: []string{"record", "http://h/a.flv", "--uploads", "0"}, says: []string{"--uploads", "1 to 64"}},
		{args: []string{"record", "http://h/a.flv", "--limit-rate", "fast"}, says: []string{"--limit-rate", "20M"}},
		{args: []string{"record", "http://h/a.flv", "--limit-rate", "26:00,5M"}, says: []string{"--limit-rate", "26:00"}},
		{args: []string{"record", "http://h/a.flv", "--to", "ftp://h/x"}, says: []string{"--to", "ftp"}},
		{args: []string{"record", "http://h/a.flv", "--to", ""}, says: []string{"--to"}},
		{args: []string{"record", "http://h/a.flv", "--to", "s3://"}, says: []string{"--to", "bucket"}},
		{args: []string{"record", "http://h/a.flv", "--to", "s3://bkt/p?endpont=http://x"}, says: []string{"--to", "endpont", "endpoint"}},
		{args: []string{"record", "http://h/a.flv", "--to", "webdav+https://u:p@h/x"}, says: []string{"--to", "LIVEREC_WEBDAV_PASSWORD"}},
		{args: []string{"record", "http://h/a.flv", "--to", "bilibili:?tid=21"}, says: []string{"--to", "cookie"}},
		{args: []string{"record", "http://h/a.flv", "--to", "a", "--to", "./a"}, says: []string{"--to", "twice"}},
		{args: []string{"record", "http://h/a.flv", "--to", "a?required=false"}, says: []string{"--to", "required=false"}},
		{args: []string{"record", "http://h/a.flv", "--name", "{titel}"}, says: []string{"--name", "{titel}", "{title}"}},
		{args: []string{"record", "http://h/a.flv", "--keep", "a while"}, says: []string{"--keep"}},
		{args: []string{"record", "http://h/a.flv", "--min-free", "1MB", "--stop-free", "2MB"}, says: []string{"--min-free", "--stop-free"}},
		{args: []string{"record", "http://h/a.flv", "--log-level", "loud"}, says: []string{"--log-level", "loud", "debug"}},
		{args: []string{"record", "http://h/a.flv", "--log-format", "xml"}, says: []string{"--log-format"}},
		{args: []string{"record", "http://h/a.flv", "--bogus"}, says: []string{"--bogus"}},
		{args: []string{"record", "http://h/a.flv"}, env: map[string]string{"LIVEREC_SEGMENT": "soon"}, says: []string{"LIVEREC_SEGMENT", "soon"}},
		{args: []string{"record", "http://h/a.flv"}, env: map[string]string{"LIVEREC_ONCE": "perhaps"}, says: []string{"LIVEREC_ONCE"}},
		{args: []string{"upload", "--to", "x"}, says: []string{"a file is missing"}},
		{args: []string{"upload", "nowhere.flv", "--to", "x"}, says: []string{"nowhere.flv", "no such file"}},
		{args: []string{"upload", "main.go"}, says: []string{"--to"}},
		{args: []string{"verify"}, says: []string{"broadcast"}},
		{args: []string{"status", "now"}, says: []string{"one argument too many"}},
		{args: []string{"split"}, says: []string{"room"}},
		{args: []string{"sing"}, says: []string{"sing"}},
		{args: []string{"record", "http://h/\x1b[31mred.flv\n\n", "--segment", "\x1b[31m\n"}, says: []string{"liverec:"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			dir := t.TempDir()
			src, err := os.ReadFile("main.go")
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(dir)
			if err := os.WriteFile("main.go", src, 0o600); err != nil {
				t.Fatal(err)
			}
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			var out, errs bytes.Buffer
			code := Main(append([]string{"liverec"}, c.args...), strings.NewReader(""), &out, &errs)
			if code != exitUsage {
				t.Errorf("exit status %d, want 2", code)
			}
			if out.Len() > 0 {
				t.Errorf("stdout: %q", out.String())
			}
			got := errs.String()
			if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") || strings.ContainsRune(got, 0x1b) {
				t.Errorf("stderr is not one clean line: %q", got)
			}
			for _, s := range c.says {
				if !strings.Contains(got, s) {
					t.Errorf("%q does not say %q", got, s)
				}
			}
			if names, _ := filepath.Glob("*"); len(names) != 1 {
				t.Errorf("it left %v", names)
			}
		})
	}
}

func TestDestinationsFromOneVariable(t *testing.T) {
	for in, want := range map[string][]string{
		"s3://b/p file:/a":            {"s3://b/p", "file:/a"},
		"/mnt/my archive":             {"/mnt/my archive"},
		"/mnt/my archive s3://b/p":    {"/mnt/my archive", "s3://b/p"},
		"file:/a\nfile:/b c":          {"file:/a", "file:/b c"},
		"bilibili:?cookies=f&tag=a,b": {"bilibili:?cookies=f&tag=a,b"},
	} {
		if d := cmp.Diff(want, destinations([]string{in})); d != "" {
			t.Errorf("%q: %s", in, d)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"4GiB": 4 << 30, "1.5 GiB": 3 << 29, "500MB": 500e6, "10": 10, "2k": 2048, "1TiB": 1 << 40} {
		if got, err := config.ParseSize(in); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "GiB", "4 bananas", "1e9999", "9999999PiB", "-1", "--"} {
		if got, err := config.ParseSize(in); err == nil {
			t.Errorf("%q: %d", in, got)
		}
	}
}
