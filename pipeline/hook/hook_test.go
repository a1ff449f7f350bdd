package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/liverec/liverec/pkg/facts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log is a writer that a test can wait on.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// begin runs a Runner with one shell script as its hook.
func begin(t *testing.T, on facts.Kind, timeout time.Duration, script string) (r *Runner, log *logged, stop func()) {
	t.Helper()
	log = &logged{}
	r = New(Config{Env: []string{"PATH=/usr/bin:/bin"}}, zerolog.New(log))
	r.Use([]Hook{{On: on, Run: []string{"/bin/sh", "-c", script}, Timeout: timeout}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); wg.Wait() }) }
	t.Cleanup(stop)
	return r, log, stop
}

// until waits for something that another process does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in 30 s", what)
		}
	}
}

func fact(kind facts.Kind, seq uint32) facts.Fact {
	return facts.Fact{Format: facts.Format, Kind: kind, Part: &facts.Part{Seq: seq, Name: "P \"$(rm)\".flv"}}
}

func TestACommandReadsTheFactAndOnlyItsOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	t.Setenv("SECRET_OF_THE_PROCESS", "x")
	r, _, _ := begin(t, facts.PartSafe, time.Minute, `cat >> `+file+`; env | sort >> `+file+`; pwd >> `+file)
	r.Tell(fact(facts.PartSealed, 1))
	r.Tell(fact(facts.PartSafe, 2))
	read := func() string { b, _ := os.ReadFile(file); return string(b) }
	until(t, "the hook", func() bool { return strings.HasSuffix(read(), "/\n") })
	line, env, _ := strings.Cut(read(), "\n")
	var got facts.Fact
	if err := json.Unmarshal([]byte(line), &got); err != nil || got.Part.Seq != 2 || got.Part.Name != "P \"$(rm)\".flv" {
		t.Errorf("it read %q: %v", line, err)
	}
	if !strings.Contains(env, "LIVEREC_FACT=part.safe\n") || strings.Contains(env, "SECRET") {
		t.Errorf("its environment: %s", env)
	}
}

// I5: whoever tells does not wait, whatever a command does.
func TestI5_ASleepingHookCostsNobodyAnything(t *testing.T) {
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	r, log, stop := begin(t, facts.PartSafe, time.Hour, `echo $$ > `+pid+`.new; mv `+pid+`.new `+pid+`; sleep 3600`)
	r.Tell(fact(facts.PartSafe, 1))
	until(t, "the hook", func() bool { _, err := os.Stat(pid); return err == nil })
	for i := range uint32(10_000) { // Tell returns, or this test ends at its limit
		r.Tell(fact(facts.PartSafe, i))
	}
	if lost := r.Lost(); lost != 10_000-Queue {
		t.Errorf("%d facts are lost, want %d", lost, 10_000-Queue)
	}
	if c := r.Conditions(); len(c) != 1 || !strings.Contains(c[0].Text, "9936 facts") {
		t.Errorf("trouble: %+v", c)
	}
	stop()
	if n := strings.Count(log.String(), "too slow"); n != 100 {
		t.Errorf("%d lines about a slow hook", n)
	}
	if !strings.Contains(log.String(), `"facts":64`) {
		t.Errorf("what was in the queue is not told: %s", log)
	}
	gone(t, pid)
}

// gone waits for the end of a process that wrote down its number.
func gone(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	n, nerr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || nerr != nil {
		t.Fatal(err, nerr)
	}
	until(t, "the end of process "+strconv.Itoa(n), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n))
		return err != nil || strings.Contains(string(stat), ") Z ") || syscall.Kill(n, 0) == syscall.ESRCH
	})
}

func TestTheLimitEndsWhatItStartedToo(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	r, log, _ := begin(t, facts.PartSafe, 300*time.Millisecond, `sleep 3600 & echo $! > `+child+`; echo half way; sleep 3600`)
	r.Tell(fact(facts.PartSafe, 1))
	until(t, "the word about it", func() bool { return strings.Contains(log.String(), "was killed") })
	if !strings.Contains(log.String(), "half way") {
		t.Errorf("what it printed is lost: %s", log)
	}
	gone(t, child)
}

func TestWhatItLeavesRunningDoesNotHoldTheNext(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	r, log, _ := begin(t, facts.PartSafe, time.Hour, `sleep 3600 & echo $! > `+child)
	r.Tell(fact(facts.PartSafe, 1))
	until(t, "the word about it", func() bool { return strings.Contains(log.String(), "hook ran") })
	gone(t, child)
}

func TestFailuresAreToldWithTheirOutputAndBecomeTrouble(t *testing.T) {
	ok := filepath.Join(t.TempDir(), "ok")
	r, log, _ := begin(t, facts.PartSafe, time.Minute, `test -e `+ok+` && exit 0; head -c 100000 /dev/zero | tr '\0' x; printf '\033[31mred\n'; exit 7`)
	for i := range uint32(3) {
		r.Tell(fact(facts.PartSafe, i))
	}
	until(t, "three failures", func() bool { return len(r.Conditions()) == 1 })
	if c := r.Conditions()[0]; !strings.Contains(c.Text, "failed 3 times") || !strings.Contains(c.Text, "exit status 7") {
		t.Errorf("trouble: %+v", c)
	}
	if s := log.String(); len(s) > 3*(output+500) || strings.Contains(s, "\\u001b") || !strings.Contains(s, "red") {
		t.Errorf("the log has %d bytes: %.300s", len(s), s)
	}
	if err := os.WriteFile(ok, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Tell(fact(facts.PartSafe, 4))
	until(t, "its end", func() bool { return len(r.Conditions()) == 0 })
}

func TestAnotherConfigKeepsWhatStays(t *testing.T) {
	dir := t.TempDir()
	line := func(name string) Hook {
		return Hook{On: facts.PartSafe, Run: []string{"/bin/sh", "-c", `cat > /dev/null; echo x >> ` + filepath.Join(dir, name)}, Timeout: time.Minute}
	}
	count := func(name string) int {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return bytes.Count(b, []byte("x"))
	}
	r, _, stop := begin(t, facts.TroubleFact, time.Minute, "true")
	a, b, c := line("a"), line("b"), line("c")
	r.Use([]Hook{a, b})
	for i := range uint32(5) {
		r.Tell(fact(facts.PartSafe, i))
	}
	r.Use([]Hook{c, b}) // what a was told before comes to its end
	r.Tell(fact(facts.PartSafe, 9))
	until(t, "all runs", func() bool { return count("a") == 5 && count("b") == 6 && count("c") == 1 })
	stop()
	r.Use([]Hook{a})
	r.Tell(fact(facts.PartSafe, 10)) // after the end: nothing, and no panic
}
