package bilibili_test

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/bilibili"
)

// The plugin of streamlink and this site say the same of a room, from the same answers.
func TestAgreesWithStreamlink(t *testing.T) {
	program, err := exec.LookPath("streamlink")
	if err != nil {
		t.Skip("streamlink is not installed; make test does not install it")
	}
	p := newPackager(t)
	r, _ := room(t, bilitest.LiveRoom{Title: "标题 \"a\"", Streamer: "某主播", Area: "单机", Parent: "游戏", Formats: []string{"fmp4"}, HLS: p}, liveroom.Config{})
	home := t.TempDir()
	ask := func() (out struct {
		Error    string
		Metadata struct{ Author, Title, Category string }
		Streams  map[string]struct{ Type, URL string }
	}) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		// Its session sends no Referer, which the media hosts want.
		cmd := exec.CommandContext(ctx, program, "--json", "--http-header", "Referer=https://live.bilibili.com/", "--", address(r))
		cmd.Env = append(world.Env(), "PATH="+os.Getenv("PATH"), "HOME="+home, "PYTHONIOENCODING=utf-8")
		b, err := cmd.Output()
		if err != nil && len(b) == 0 {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		return out
	}
	theirs := ask()
	if len(theirs.Streams) == 0 {
		t.Fatalf("%+v", theirs)
	}
	res := resolver(t, site(t), bilibili.Config{URL: address(r), Quality: "720"})
	live := resolve(t, res)
	if live.Presence != recorder.OnAir || live.Title != theirs.Metadata.Title || live.Streamer != theirs.Metadata.Author || !strings.HasSuffix(res.About().Area, theirs.Metadata.Category) {
		t.Errorf("%+v, %+v; they say %+v", live, res.About(), theirs.Metadata)
	}
	// Both lead to the same stream: their addresses are those of all hosts, ours is one of them.
	named := map[string]bool{}
	for _, s := range theirs.Streams {
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		named[u.Host+u.Path] = true
	}
	var ours string
	for _, q := range world.Requests("GET " + live.Source.Host() + "/*") {
		if strings.HasSuffix(q.Path, ".m3u8") {
			ours = q.Host + q.Path
		}
	}
	if !named[ours] {
		t.Errorf("ours is %s, theirs are %v", ours, named)
	}
	for name, status := range map[string]int{"offline": 0, "round play": 2} {
		rooms.Change(func() { r.Status = status })
		if theirs := ask(); !strings.Contains(theirs.Error, "No playable streams") {
			t.Errorf("%s: they say %+v", name, theirs)
		}
		if live := resolve(t, resolver(t, site(t), bilibili.Config{URL: address(r)})); live.Presence != recorder.Offline {
			t.Errorf("%s: %+v", name, live)
		}
	}
}
