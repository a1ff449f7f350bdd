package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// mailbox is a web hook that keeps what it is told; a test can make it hang.
type mailbox struct {
	*httptest.Server
	mu   sync.Mutex
	got  []string
	hang chan struct{}
}

func openMailbox(t *testing.T, hangs bool) *mailbox {
	t.Helper()
	m := &mailbox{}
	if hangs {
		m.hang = make(chan struct{})
	}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.got = append(m.got, string(b))
		m.mu.Unlock()
		if m.hang != nil {
			<-m.hang
		}
	}))
	t.Cleanup(func() {
		if hangs {
			close(m.hang)
		}
		m.CloseClientConnections()
		m.Close()
	})
	return m
}

// address is that of shoutrrr, with a secret in it.
func (m *mailbox) address() string {
	return "generic://" + strings.TrimPrefix(m.URL, "http://") + "/" + rig.Secret + "?disabletls=yes"
}

func (m *mailbox) letters() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.got, "\n--\n")
}

// told are the facts that a hook wrote down, "part.safe 2".
func told(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for dec := json.NewDecoder(f); ; {
		var fact struct {
			Format string `json:"format"`
			Fact   string `json:"fact"`
			Room   struct {
				Room string `json:"room"`
			} `json:"room"`
			Part *struct {
				Seq    int    `json:"seq"`
				SHA256 string `json:"sha256"`
			} `json:"part"`
			Report *struct {
				Text     string `json:"text"`
				Complete bool   `json:"complete"`
			} `json:"report"`
		}
		if err := dec.Decode(&fact); err == io.EOF {
			return out
		} else if err != nil {
			return out // its last line is being written
		}
		s := fact.Fact
		if fact.Format != "liverec-fact/1" || fact.Room.Room != "alice" {
			t.Errorf("a strange fact: %+v", fact)
		}
		if fact.Part != nil {
			s = fmt.Sprint(s, " ", fact.Part.Seq)
		}
		if fact.Report != nil && !fact.Report.Complete {
			s += " too early"
		}
		out = append(out, s)
	}
}

// A room is recorded with a hook that sleeps for an hour, a hook that fails, and a receiver that hangs: 0 frames lost.
// The others hear of everything once, also over a kill, and no secret of an address is seen anywhere.
func TestHooksAndNotifications(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, bad := openMailbox(t, false), openMailbox(t, true)
	room, url := serve(t, liveroom.Config{Duration: 30 * time.Second, Bitrate: 2_000_000})
	script := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	log := filepath.Join(dir, "facts")
	note := script("note", "exec cat >> "+log)
	var cfg strings.Builder
	fmt.Fprintf(&cfg, "listen = \"127.0.0.1:0\"\ndata = \"data\"\n[target.archive]\nto = \"file:archive\"\n[defaults]\nsegment = \"3s\"\n[[room]]\nurl = %q\nname = \"alice\"\n", url)
	fmt.Fprintf(&cfg, "[[notify]]\nname = \"good\"\nurl = %q\n[[notify]]\nname = \"bad\"\nurl = %q\n", good.address(), bad.address())
	for _, on := range []string{"broadcast.start", "part.sealed", "part.safe", "broadcast.end"} {
		fmt.Fprintf(&cfg, "[[hook]]\non = %q\nrun = [%q]\n", on, note)
	}
	fmt.Fprintf(&cfg, "[[hook]]\non = \"part.sealed\"\nrun = [%q]\ntimeout = \"1h\"\n[[hook]]\non = \"part.safe\"\nrun = [\"/bin/false\"]\n", script("sleep", "sleep 3600"))
	if err := os.WriteFile(filepath.Join(dir, "liverec.toml"), []byte(cfg.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	p := liverec(dir, "serve", "--test-notify").Start(t)
	select {
	case <-p.Done():
		t.Error("the test message to a receiver that hangs came through")
	case <-time.After(time.Second):
		p.Kill()
	}
	if got := good.letters(); !strings.Contains(got, "This is a test from liverec") {
		t.Errorf("the test message: %q", got)
	}

	p = liverec(dir, "serve").Start(t)
	rig.Until(t, 20*time.Second, "the service runs", func() bool { return strings.Contains(p.Stderr.String(), "service begins") })
	room.Start(t.Context())
	rig.Until(t, 60*time.Second, "two parts are safe, and a person knows that the room is live", func() bool {
		return slices.Contains(told(t, log), "part.safe 2") && strings.Contains(good.letters(), "alice is live")
	})
	p.Kill()
	first := p.Stderr.String()
	p = liverec(dir, "serve").Start(t)
	rig.Until(t, 90*time.Second, "the end is told", func() bool { return slices.Contains(told(t, log), "broadcast.end") })
	rig.Until(t, 30*time.Second, "the end is told to a person", func() bool { return strings.Contains(good.letters(), "alice has ended") })
	p.Signal(syscall.SIGTERM)
	p.Ends(t, 30*time.Second, 0)

	rec := rig.Read(t, filepath.Join(dir, "archive"))
	rec.Once(t, nil)
	rec.Admits(t, 200*time.Millisecond) // what the kill cost, and nothing else
	var want []string
	for _, part := range rec.Manifest.Parts {
		want = append(want, fmt.Sprint("part.sealed ", part.Seq), fmt.Sprint("part.safe ", part.Seq))
	}
	want = append(want, "broadcast.start", "broadcast.end")
	// Nothing is told twice. What was about to be told at the moment of the kill may be lost: one look, one part.
	got := told(t, log)
	for i, s := range got {
		if slices.Contains(got[:i], s) || !slices.Contains(want, s) {
			t.Errorf("%s is told twice, or never happened: %v", s, got)
		}
	}
	if len(got) < len(want)-3 {
		t.Errorf("told %v\nwant %v", got, want)
	}
	letters := good.letters()
	if strings.Count(letters, "alice is live") != 1 || strings.Count(letters, "alice has ended") != 1 || !strings.Contains(letters, "verified on 1 target") {
		t.Errorf("a person reads:\n%s", letters)
	}
	if !strings.Contains(letters, "hook false (part.safe) failed ") {
		t.Errorf("nobody hears of the hook that fails:\n%s", letters)
	}
	for _, s := range []string{first, p.Stderr.String(), letters} {
		if strings.Contains(s, rig.Secret) {
			t.Error("a secret of an address is seen")
		}
	}
	rig.NoSecrets(t, filepath.Join(dir, "data"))
	var orphans struct {
		Orphans []any `json:"orphans"`
	}
	rig.JSON(t, liverec(dir, "orphans", "--json", "--data", "data"), 0, &orphans)
	if len(orphans.Orphans) != 0 {
		t.Errorf("orphans: %v", orphans)
	}
}

// A config file that becomes wrong is told with its line, and changes nothing.
func TestABrokenConfigIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	box := openMailbox(t, false)
	name := filepath.Join(dir, "liverec.toml")
	text := fmt.Sprintf("listen = \"127.0.0.1:0\"\n[target.archive]\nto = \"file:archive\"\n[[notify]]\nurl = %q\non = [\"trouble\"]\n", box.address())
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := liverec(dir, "serve").Start(t)
	rig.Until(t, 20*time.Second, "the service runs", func() bool { return strings.Contains(p.Stderr.String(), "service begins") })
	if err := os.WriteFile(name, []byte(text+"[[room]]\nurl = 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rig.Until(t, 40*time.Second, "a person is told", func() bool {
		return strings.Contains(box.letters(), "The config file has an error, the old settings stay: "+name+":8:7: room.url: it takes a text in quotes")
	})
	if strings.Contains(p.Stderr.String(), rig.Secret) {
		t.Error("a secret of an address is seen")
	}
	p.Signal(syscall.SIGTERM)
	p.Ends(t, 30*time.Second, 0)
}
