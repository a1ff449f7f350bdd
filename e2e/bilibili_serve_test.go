package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/liveroom"
)

// A room of Bilibili is one room of the service, whichever number it is written by: in the file twice it is refused, on
// the page it is there already, and written the other way it goes on with its broadcast.
func TestBilibiliRoomIsOneInServe(t *testing.T) {
	t.Parallel()
	world, live := bilibiliLive(t)
	media, _ := serve(t, liveroom.Config{})
	live.Add(bilitest.LiveRoom{ID: 1899237191, Short: 91, Title: "a", Streamer: "b", Status: 1, Since: time.Now(), FLV: media})
	media.Start(t.Context())
	const short, long = "https://live.bilibili.com/91", "https://live.bilibili.com/1899237191"
	s := newStation(t)
	s.env = world.Env()
	s.put("one", short)
	s.put("other", long)
	s.write()
	run := liverec(s.dir, "serve")
	run.Env = s.env
	p := run.Start(t)
	p.Ends(t, 30*time.Second, 2)
	if text := p.Stderr.String(); strings.Count(strings.TrimSpace(text), "\n") > 0 || !strings.Contains(text, "room other is the same room as one") {
		t.Errorf("refused with %q", text)
	}

	s.drop("other")
	s.start()
	recorded := func(n int) {
		t.Helper()
		rig.Until(t, 40*time.Second, "the room is being recorded", func() bool {
			c := media.Connections()
			return len(c) == n && len(c[n-1].Frames) > 150
		})
	}
	recorded(1)
	if code := s.call(http.MethodPost, "/api/v1/rooms", fmt.Sprintf(`{"url":%q,"name":"third"}`, long)); code != http.StatusConflict {
		t.Errorf("the room is added again: %d", code)
	}
	s.put("other", long)
	s.write()
	rig.Until(t, 30*time.Second, "the file is refused", func() bool { return s.number("liverec_config_ok") == 0 })
	s.drop("other")
	s.put("one", long)
	s.write()
	rig.Until(t, 30*time.Second, "the file is taken over", func() bool { return s.number("liverec_config_ok") == 1 })
	recorded(2)
	if st := s.states(); len(st) != 1 || !strings.HasPrefix(st["one"], "live") {
		t.Errorf("rooms %v", st)
	}
	s.proc.Signal(syscall.SIGTERM)
	s.proc.Wait(t, 40*time.Second)
	rec := rig.Read(t, filepath.Join(s.dir, "archive"))
	if len(rec.Manifest.Parts) < 2 || len(rec.Manifest.Gaps) > 1 {
		t.Errorf("not one broadcast: %+v", rec.Manifest)
	}
}
