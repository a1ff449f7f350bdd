package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/liveroom"
)

// bilibiliLive runs a stand-in for Bilibili with live rooms.
func bilibiliLive(t *testing.T) (*bilitest.Server, *bilitest.Live) {
	t.Helper()
	s, err := bilitest.In(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, bilitest.NewLive(s)
}

// A room of live.bilibili.com, found by its short number, waited for, recorded, and ended by the platform's word: whether
// the connection ends as it should or breaks, the broadcast is over 15 s later. The hosts are reached by the ordinary
// variables for proxies and certificates.
func TestBilibiliRoom(t *testing.T) {
	t.Parallel()
	for _, broken := range []bool{false, true} {
		t.Run(fmt.Sprintf("broken %v", broken), func(t *testing.T) {
			t.Parallel()
			world, live := bilibiliLive(t)
			media, _ := serve(t, liveroom.Config{Fault: func(int) (f liveroom.Fault) {
				if broken {
					f.Events = []liveroom.Event{{Tags: 800, End: liveroom.Broken}}
				}
				return f
			}})
			room := live.Add(bilitest.LiveRoom{ID: 1899237171, Short: 77, Title: "标题", Streamer: "某主播", FLV: media})
			if !broken {
				room.Status, room.Since = 1, time.Now()
			}
			media.Start(t.Context())
			dir := t.TempDir()
			run := liverec(dir, "record", "https://live.bilibili.com/77?spm_id_from=1", "--once", "--segment", "5s")
			run.Env = world.Env()
			p := run.Start(t)
			if broken { // and waited for: the platform is asked once in 20 to 30 s
				rig.Until(t, 20*time.Second, "it waits", func() bool { return strings.Contains(p.Stderr.String(), "the room is offline") })
				live.Change(func() { room.Status, room.Since = 1, time.Now() })
			}
			rig.Until(t, 40*time.Second, "the room is being recorded", func() bool {
				c := media.Connections()
				return len(c) > 0 && len(c[0].Frames) > 200
			})
			if broken {
				live.Change(func() { room.Status = 0 })
				rig.Until(t, 30*time.Second, "the connection breaks", func() bool { return !media.Connections()[0].Closed.IsZero() })
			} else {
				live.Change(func() { room.Status = 0 })
				media.End()
			}
			rig.Until(t, 15*time.Second, "the broadcast is over", func() bool { return strings.Contains(p.Stderr.String(), "broadcast is over") })
			p.Ends(t, 15*time.Second, 0)
			rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
			m := rec.Manifest
			if m.Site != "bilibili" || m.Room != "https://live.bilibili.com/77" || m.Streamer != "某主播" || m.Title != "标题" || m.Ended == nil {
				t.Errorf("%+v", m)
			}
			if !strings.Contains(rec.Dir, "77") || !strings.HasSuffix(m.Parts[0].Name, ".flv") {
				t.Errorf("%s: %+v", rec.Dir, m.Parts)
			}
			if !broken {
				rec.Once(t, all(media, rec.Numbers[0]))
				if len(m.Gaps) != 0 {
					t.Errorf("gaps %+v", m.Gaps)
				}
			}
			rig.Empty(t, filepath.Join(dir, "liverec-data"))
			if s := world.Strays(); len(s) > 0 {
				t.Errorf("asked for %v", s)
			}
			if n := len(world.Requests("* api.live.bilibili.com/*")); n > 40 {
				t.Errorf("asked the platform %d times", n)
			}
		})
	}
}

// A refusal to talk to us makes the room blocked, and nothing is concluded from it: no broadcast ends by it, and the
// platform is not asked again for minutes.
func TestBilibiliBlocked(t *testing.T) {
	t.Parallel()
	world, live := bilibiliLive(t)
	media, _ := serve(t, liveroom.Config{})
	live.Add(bilitest.LiveRoom{ID: 1899237172, Title: "a", Streamer: "b", Status: 1, FLV: media})
	world.Fault("* api.live.bilibili.com/*", bilitest.Fault{Status: 412, Body: "<html>", Times: -1})
	dir := t.TempDir()
	run := liverec(dir, "record", "https://live.bilibili.com/1899237172", "--once")
	run.Env = world.Env()
	p := run.Start(t)
	rig.Until(t, 20*time.Second, "it is blocked", func() bool { return strings.Contains(p.Stderr.String(), `"state":"blocked"`) })
	time.Sleep(3 * time.Second)
	if n := len(world.Requests("* api.live.bilibili.com/*")); n != 1 {
		t.Errorf("asked %d times", n)
	}
	var st struct {
		Rooms []struct{ State string }
	}
	rig.JSON(t, liverec(dir, "status", "--json"), 0, &st)
	if len(st.Rooms) != 1 || st.Rooms[0].State != "blocked" {
		t.Errorf("%+v", st)
	}
	if strings.Contains(p.Stderr.String(), "offline") || !strings.Contains(p.Stderr.String(), "412") {
		t.Error(p.Stderr.String())
	}
	probe := liverec(dir, "probe", "https://live.bilibili.com/1899237172")
	probe.Env = world.Env()
	pp := probe.Start(t)
	pp.Ends(t, 20*time.Second, 1)
	if out := pp.Stdout.String(); !strings.Contains(out, "live      not known: ") || strings.Contains(out+pp.Stderr.String(), "nothing is being sent") {
		t.Error(out, pp.Stderr.String())
	}
	if !strings.Contains(pp.Stderr.String(), "412") {
		t.Error(pp.Stderr.String())
	}
}

// probe tells what would be recorded: quality and hosts by the platform's names, codecs as measured.
func TestBilibiliProbe(t *testing.T) {
	t.Parallel()
	world, live := bilibiliLive(t)
	media, _ := serve(t, liveroom.Config{})
	media.Start(t.Context())
	live.Add(bilitest.LiveRoom{ID: 1899237173, Title: "标题", Streamer: "某主播", Status: 1, Since: time.Now(), FLV: media})
	user := world.AddUser("probe")
	dir := t.TempDir()
	cookies := filepath.Join(dir, "cookies.json")
	if err := os.WriteFile(cookies, world.CookieFile(user), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{{nil, "high (超清)"}, {[]string{"--bilibili-cookies", cookies}, "original (原画)"}} {
		var p struct {
			Site, Streamer, Title string
			Live                  bool
			Qualities             []struct {
				Name, Container, Video string
				Height                 int
				Measured, Chosen       bool
				Bitrate                int64
			}
			Hosts []string
		}
		run := liverec(dir, append([]string{"probe", "https://live.bilibili.com/1899237173", "--json"}, c.args...)...)
		run.Env = world.Env()
		rig.JSON(t, run, 0, &p)
		if p.Site != "bilibili" || p.Streamer != "某主播" || p.Title != "标题" || !p.Live || len(p.Qualities) < 4 || len(p.Hosts) != 3 || p.Hosts[0] != "d1--cn-gotcha04.bilivideo.com" {
			t.Fatalf("%+v", p)
		}
		if q := p.Qualities[0]; q.Name != c.want || q.Container != "FLV" || q.Video == "" || q.Height != 360 || !q.Measured || !q.Chosen || q.Bitrate <= 0 || p.Qualities[1].Chosen {
			t.Errorf("%+v", p.Qualities)
		}
	}
	text := liverec(dir, "probe", "https://live.bilibili.com/1899237173")
	text.Env = world.Env()
	said := text.Start(t)
	said.Ends(t, 30*time.Second, 0)
	lines := strings.Split(said.Stdout.String(), "\n")
	for _, want := range []string{"streamer  某主播", "title     标题", "live      yes"} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in\n%s", want, said.Stdout.String())
		}
	}
	if n := slices.IndexFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "quality   high (超清)") && strings.HasSuffix(l, "(would be recorded)")
	}); n < 0 {
		t.Errorf("nothing would be recorded:\n%s", said.Stdout.String())
	}
	t.Log("\n" + said.Stdout.String())
	live.Add(bilitest.LiveRoom{ID: 1899237174, Title: "off", Streamer: "b"})
	off := liverec(dir, "probe", "https://live.bilibili.com/1899237174", "--json")
	off.Env = world.Env()
	var o struct {
		Live, Blocked    bool
		Why, Title       string
		Qualities, Hosts []any
	}
	rig.JSON(t, off, 1, &o)
	if o.Live || o.Blocked || o.Why == "" || o.Title != "off" || len(o.Qualities)+len(o.Hosts) > 0 {
		t.Errorf("%+v", o)
	}
	for _, s := range world.Secrets(user) {
		for _, q := range world.Requests("GET d1--cn-gotcha04.bilivideo.com/*") {
			if strings.Contains(fmt.Sprint(q.Header, q.Query), s) {
				t.Error("a media host got a secret")
			}
		}
	}
}

// A room written by its long number after a kill goes on with the broadcast that was begun under its short one.
func TestBilibiliRoomIsOne(t *testing.T) {
	t.Parallel()
	world, live := bilibiliLive(t)
	media, _ := serve(t, liveroom.Config{})
	room := live.Add(bilitest.LiveRoom{ID: 1899237181, Short: 81, Title: "标题", Streamer: "某主播", Status: 1, Since: time.Now(), FLV: media})
	media.Start(t.Context())
	dir := t.TempDir()
	start := func(url string) *rig.Proc {
		run := liverec(dir, "record", url, "--once", "--segment", "1m")
		run.Env = world.Env()
		return run.Start(t)
	}
	p := start("https://live.bilibili.com/81")
	rig.Until(t, 40*time.Second, "the room is being recorded", func() bool {
		c := media.Connections()
		return len(c) > 0 && len(c[0].Frames) > 150
	})
	p.Kill()
	p = start("https://live.bilibili.com/1899237181")
	rig.Until(t, 40*time.Second, "it goes on", func() bool {
		c := media.Connections()
		return len(c) > 1 && len(c[1].Frames) > 150
	})
	var st struct {
		Rooms []struct{ Room, State, Quality, Title string }
	}
	rig.JSON(t, liverec(dir, "status", "--json"), 0, &st)
	if len(st.Rooms) != 1 || st.Rooms[0].State != "live" || st.Rooms[0].Title != "标题" || st.Rooms[0].Quality != "high (超清), 640x360 H.264" {
		t.Errorf("%+v", st)
	}
	live.Change(func() { room.Status = 0 })
	media.End()
	p.Ends(t, 40*time.Second, 0)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
	if len(rec.Manifest.Parts) != 1 || rec.Manifest.Room != "https://live.bilibili.com/81" {
		t.Errorf("%+v", rec.Manifest)
	}
	rec.Once(t, all(media, rec.Numbers[0]))
}
