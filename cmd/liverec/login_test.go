package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
)

// childVar makes a run of the test binary the program itself. Proxy and roots of the environment are read once in a
// process, so that a test needs one of its own.
const childVar = "LIVEREC_TEST_CHILD"

func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv(childVar); ok {
		os.Exit(Main(strings.Split(args, "\n"), os.Stdin, os.Stdout, os.Stderr))
	}
	if urls := os.Getenv(manyRooms); urls != "" {
		os.Exit(recordRooms(strings.Fields(urls)))
	}
	os.Exit(m.Run())
}

// child starts liverec in a folder, behind the stand-in.
func child(t *testing.T, s *bilitest.Server, dir string, env []string, args ...string) (cmd *exec.Cmd, out, errs *bytes.Buffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(ctx, exe)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), s.Env()...), childVar+"="+strings.Join(append([]string{"liverec"}, args...), "\n"))
	cmd.Env = append(cmd.Env, env...)
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out, errs
}

// await waits until requests of a kind have come to the stand-in.
func await(t *testing.T, s *bilitest.Server, fits string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for len(s.Requests(fits)) == 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("nothing came")
		case <-tick.C:
		}
	}
}

const codeFits = "POST passport.bilibili.com/x/passport-tv-login/qrcode/auth_code"

func TestLoginBilibili(t *testing.T) {
	t.Parallel()
	s, err := bilitest.In(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, c := range []struct {
		name string
		args []string
		env  []string
		file string
	}{
		{"the default file", []string{"login", "bilibili"}, nil, "cookies.json"},
		{"a flag", []string{"login", "bilibili", "--cookies", "mine/c.json"}, nil, "mine/c.json"},
		{"a variable", []string{"login", "bilibili"}, []string{"LIVEREC_COOKIES=v.json"}, "v.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := s.AddUser("爱丽丝 alice")
			dir := t.TempDir()
			cmd, out, errs := child(t, s, dir, c.env, c.args...)
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for !s.Scan(u, 0) { // a request is counted before its code is made
				select {
				case <-tick.C:
				case <-t.Context().Done():
					t.Fatal("there is no code")
				}
			}
			if err := cmd.Wait(); err != nil || errs.Len() > 0 {
				t.Fatalf("%v\n%s\n%s", err, out, errs)
			}
			said := out.String()
			for _, want := range []string{"▀", "https://passport.bilibili.com/x/passport-tv-login/h5/qrcode/auth?auth_code=", "Logged in as 爱丽丝 alice (user ", " until 20", c.file} {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not said:\n%s", want, said)
				}
			}
			for _, secret := range s.Secrets(u) {
				if strings.Contains(said, secret) {
					t.Errorf("a secret is printed:\n%s", said)
				}
			}
			fi, err := os.Stat(filepath.Join(dir, c.file))
			if err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", fi, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "liverec-data")); err == nil {
				t.Error("a data folder was made")
			}
		})
	}
	if got := s.Strays(); len(got) > 0 {
		t.Errorf("strange hosts were asked: %v", got)
	}
}

func TestLoginBilibiliFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault *bilitest.Fault
		stop  bool
		says  string
	}{
		{"a block", &bilitest.Fault{Status: 412}, false, "412"},
		{"a stop", nil, true, "stopped; nothing was written"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := bilitest.In(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			if c.fault != nil {
				s.Fault(codeFits, *c.fault)
			}
			dir := t.TempDir()
			cmd, out, errs := child(t, s, dir, nil, "login", "bilibili")
			await(t, s, codeFits)
			if c.stop {
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitError {
				t.Errorf("%v\n%s", err, out)
			}
			if !strings.Contains(errs.String(), c.says) || strings.Count(errs.String(), "\n") > 3 {
				t.Errorf("stderr %q, want %q", errs, c.says)
			}
			if _, err := os.Stat(filepath.Join(dir, "cookies.json")); err == nil {
				t.Error("a cookie file was written")
			}
		})
	}
}

func TestLoginUsage(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"login"}, "liverec login bilibili"},
		{[]string{"login", "youtube"}, `"youtube" is no site`},
		{[]string{"login", "bilibili", "twice"}, "one argument too many"},
		{[]string{"login", "bilibili", "--cookies", ""}, "--cookies"},
		{[]string{"login", "bilibili", "--cookies", dir}, "is a folder"},
		{[]string{"login", "bilibili", "--cookie", "x"}, "--cookie is not a flag"},
	} {
		var out, errs bytes.Buffer
		code := Main(append([]string{"liverec"}, c.args...), nil, &out, &errs)
		if code != exitUsage || out.Len() > 0 || strings.Count(errs.String(), "\n") != 1 || !strings.Contains(errs.String(), c.says) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", c.args, code, out.String(), errs.String())
		}
	}
}

// The code on a terminal is in colors of its own, elsewhere it is plain.
func TestLoginScreenIsPlainElsewhere(t *testing.T) {
	var out bytes.Buffer
	show := loginScreen(streams{out: &out}, false)
	show(step("https://passport.bilibili.com/a"))
	show(step("https://passport.bilibili.com/b"))
	if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "Here is a new one") || !regexp.MustCompile(`█.*▀`).MatchString(out.String()) {
		t.Errorf("%s", out.String())
	}
	show(step(strings.Repeat("x", 300)))
	if !strings.Contains(out.String(), "too long") {
		t.Errorf("%s", out.String())
	}
}

func step(url string) bilibili.LoginStep {
	return bilibili.LoginStep{URL: url, Expires: time.Unix(1700000000, 0)}
}
