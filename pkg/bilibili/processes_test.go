package bilibili_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
)

// childVar names what a run of the test binary does as a process of its own, and with which cookie file.
const childVar = "LIVEREC_TEST_CHILD"

func TestMain(m *testing.M) {
	job, path, ok := strings.Cut(os.Getenv(childVar), " ")
	if !ok {
		os.Exit(m.Run())
	}
	a, err := bilibili.OpenAccount(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch job {
	case "turns": // takes as many turns as there are
		g := a.Governor(bilibili.Pace{Interval: time.Hour, Burst: 40}, zerolog.Nop())
		for range 40 {
			if g.Try(bilibili.Preupload) == nil {
				fmt.Println("turn")
			}
		}
	case "renew": // renews and checks, with the transport of the product
		c := bilibili.NewClient(bilibili.Config{Account: a})
		renewed, err := c.Renew(context.Background())
		if err == nil {
			_, err = c.Check(context.Background())
		}
		fmt.Println(renewed, err)
	}
	os.Exit(0)
}

// processes runs a job in four processes at once and gives all that they say.
func processes(t *testing.T, job, path string, env []string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	out := make([]bytes.Buffer, 4)
	for i := range out {
		wg.Go(func() {
			cmd := exec.CommandContext(ctx, exe)
			cmd.Env = append(append(os.Environ(), env...), childVar+"="+job+" "+path)
			cmd.Stdout, cmd.Stderr = &out[i], &out[i]
			if err := cmd.Run(); err != nil {
				t.Errorf("%v: %s", err, out[i].String())
			}
		})
	}
	wg.Wait()
	all := ""
	for i := range out {
		all += out[i].String()
	}
	return all
}

func TestProcessesShareThePace(t *testing.T) {
	_, a := login(t, bilitest.Unplugged())
	said := processes(t, "turns", a.Path(), nil)
	if n := strings.Count(said, "turn\n"); n != 40 {
		t.Errorf("four processes took %d turns of 40", n)
	}
}

// The one that renews is anybody; the login works for all of them afterwards.
func TestProcessesShareTheRenewal(t *testing.T) {
	s, err := bilitest.In(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, a := login(t, s)
	s.WantsRenewal(170 * 24 * time.Hour) // the new one does not want to be renewed
	s.Advance(15 * 24 * time.Hour)
	s.Fault(infoFits, bilitest.Fault{Times: 4, Delay: 200 * time.Millisecond}) // so that they meet
	said := processes(t, "renew", a.Path(), s.Env())
	if n := strings.Count(said, "<nil>\n"); n != 4 || !strings.Contains(said, "true <nil>") {
		t.Errorf("%s", said)
	}
	if n := len(s.Requests(refreshFits)); n != 1 {
		t.Errorf("%d renewals", n)
	}
	if got := s.Strays(); len(got) > 0 {
		t.Errorf("strange hosts were asked: %v", got)
	}
}
