package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// Everything that a person could type wrong: status 2, one line that names it, nothing on stdout, no folder.
func TestUsageErrors(t *testing.T) {
	t.Parallel()
	const url = "http://127.0.0.1:1/live.flv"
	tests := []struct {
		name string
		args []string
		env  string
		word string // must stand in the line
	}{
		{"unknown command", []string{"recrod", url}, "", "recrod"},
		{"no URL", []string{"record"}, "", "URL"},
		{"two URLs", []string{"record", url, url}, "", ""},
		{"no scheme", []string{"record", "live.example.com/x"}, "", "live.example.com/x"},
		{"unknown scheme", []string{"record", "gopher://host/x"}, "", "gopher"},
		{"no host", []string{"record", "http:///x"}, "", ""},
		{"empty URL", []string{"record", ""}, "", ""},
		{"unknown flag", []string{"record", url, "--sgement", "1m"}, "", "--sgement"},
		{"flag without value", []string{"record", url, "--segment"}, "", "--segment"},
		{"bad duration", []string{"record", url, "--segment", "tomorrow"}, "", "--segment"},
		{"negative duration", []string{"record", url, "--grace", "-1s"}, "", "--grace"},
		{"bad size", []string{"record", "--max-size", "big", url}, "", "--max-size"},
		{"bad number", []string{"record", url, "--uploads", "0"}, "", "--uploads"},
		{"bad rate", []string{"record", url, "--limit-rate", "fast"}, "", "--limit-rate"},
		{"bad timetable", []string{"record", url, "--limit-rate", "25:00,5M"}, "", "--limit-rate"},
		{"bad template", []string{"record", url, "--name", "{nonsense}"}, "", "--name"},
		{"bad level", []string{"record", url, "--log-level", "loud"}, "", "--log-level"},
		{"bad format", []string{"--log-format", "xml", "record", url}, "", "--log-format"},
		{"unknown destination", []string{"record", url, "--to", "ftp://host/x"}, "", "ftp"},
		{"empty destination", []string{"record", url, "--to", ""}, "", "--to"},
		{"bucket missing", []string{"record", url, "--to", "s3://?endpoint=http://127.0.0.1:1"}, "", "--to"},
		{"unknown option of a destination", []string{"record", url, "--to", "s3://bucket/p?endpont=http://127.0.0.1:1"}, "", "endpont"},
		{"option without effect", []string{"record", url, "--to", "file:x?region=eu"}, "", "region"},
		{"the same destination twice", []string{"record", url, "--to", "file:x", "--to", "file:x"}, "", ""},
		{"bad variable", []string{"record", url}, "LIVEREC_SEGMENT=soon", "LIVEREC_SEGMENT"},
		{"upload without file", []string{"upload", "--to", "file:x"}, "", "FILE"},
		{"upload without destination", []string{"upload", "main_test.go"}, "", "--to"},
		{"verify without broadcast", []string{"verify"}, "", "BROADCAST"},
		{"probe without URL", []string{"probe"}, "", "URL"},
		{"probe of nonsense", []string{"probe", "nonsense"}, "", "nonsense"},
		{"pause without room", []string{"pause"}, "", "ROOM"},
		{"argument too many", []string{"status", "now"}, "", "now"},
		{"control characters", []string{"record", "http://host/\x1b[31m\nx\u202e"}, "", ""},
		{"very long", []string{"record", "x" + strings.Repeat("y", 10_000)}, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := liverec(dir, test.args...)
			if test.env != "" {
				r.Env = []string{test.env}
			}
			p := r.Start(t)
			p.Ends(t, 10*time.Second, 2)
			line := p.Stderr.String()
			if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || p.Stdout.String() != "" {
				t.Errorf("stderr %.700q, stdout %q", line, p.Stdout.String())
			}
			if !strings.Contains(line, test.word) || len(line) > 600 || strings.ContainsAny(line, "\x1b\u202e") || strings.Contains(line, "goroutine") {
				t.Errorf("stderr %.700q", line)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("it made %v (%v)", left, err)
			}
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := liverec(dir, "version").Start(t)
	p.Ends(t, 5*time.Second, 0)
	if !strings.Contains(p.Stdout.String(), "go1.") {
		t.Errorf("%q", p.Stdout.String())
	}
	p = liverec(dir, "version", "--json").Start(t)
	p.Ends(t, 5*time.Second, 0)
	var v map[string]string
	if err := json.Unmarshal([]byte(p.Stdout.String()), &v); err != nil || v["version"] == "" || v["commit"] == "" || v["go"] == "" {
		t.Errorf("%q (%v)", p.Stdout.String(), err)
	}
	for _, args := range [][]string{{"help"}, {"--help"}, {"record", "--help"}, {"status", "-h"}} {
		p := liverec(dir, args...).Start(t)
		p.Ends(t, 5*time.Second, 0)
		if len(p.Stdout.String()) < 100 || p.Stderr.String() != "" {
			t.Errorf("%v: %q, %q", args, p.Stdout.String(), p.Stderr.String())
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it made %v (%v)", left, err)
	}
}
