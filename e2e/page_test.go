package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// A page with a stream in it: without a program that knows such pages the words say which would help; as soon as one is
// there, which takes longer than any site may, the stream that it names is recorded by us.
func TestRecordAPage(t *testing.T) {
	t.Parallel()
	media, url := serve(t, liveroom.Config{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<!DOCTYPE html><html><title>alice</title></html>")
	}))
	defer web.Close()
	dir, bin := t.TempDir(), t.TempDir()
	run := liverec(dir, "record", web.URL+"/alice", "--once", "--grace", "3s")
	run.Env = []string{"PATH=" + bin}
	p := run.Start(t)
	rig.Until(t, 40*time.Second, "it says what would help", func() bool { return strings.Contains(p.Stderr.String(), "pipx install streamlink") })
	script := "#!/bin/sh\n[ \"$1\" = --version ] && { echo streamlink 8.5.0; exit; }\n/bin/sleep 22\n" +
		`echo '{"metadata":{"author":"Alice","title":"Hello"},"streams":{"source":{"type":"http","method":"GET","url":"` + url + `","body":null}}}'` + "\n"
	media.Start(t.Context())
	if err := os.WriteFile(filepath.Join(bin, "streamlink.new"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(bin, "streamlink.new"), filepath.Join(bin, "streamlink")); err != nil {
		t.Fatal(err)
	}
	rig.Until(t, 90*time.Second, "the stream is being recorded", func() bool {
		c := media.Connections()
		return len(c) > 0 && len(c[0].Frames) > 150
	})
	var st struct {
		Rooms []struct{ State, Title, Quality string }
	}
	rig.JSON(t, liverec(dir, "status", "--json"), 0, &st)
	if len(st.Rooms) != 1 || st.Rooms[0].Title != "Hello" || st.Rooms[0].Quality != "source, 640x360 H.264" {
		t.Errorf("%+v", st)
	}
	if err := os.Remove(filepath.Join(bin, "streamlink")); err != nil {
		t.Fatal(err)
	}
	media.End()
	p.Ends(t, 60*time.Second, 0)
	m := rig.Read(t, filepath.Join(dir, "liverec-archive")).Manifest
	if m.Streamer != "Alice" || m.Title != "Hello" || len(m.Parts) != 1 || len(m.Gaps) != 0 {
		t.Errorf("%+v", m)
	}
}
