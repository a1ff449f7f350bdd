package bilibili_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	client "github.com/liverec/liverec/pkg/bilibili"
	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/site/bilibili"
)

const (
	gotcha   = "d1--cn-gotcha04.bilivideo.com"
	province = "cn-jsnt-ct-01-07.bilivideo.com"
)

// tool finds an optional program. LIVEREC_NEED_TOOLS=1 makes it a duty.
func tool(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("LIVEREC_NEED_TOOLS") == "1" {
			t.Fatalf("%s is needed: %v", name, err)
		}
		t.Skipf("no %s here", name)
	}
	return p
}

// packager serves fMP4 segments as the platform does: index.m3u8 and files beside it.
type packager struct {
	dir   string
	list  string
	ended atomic.Bool
}

func newPackager(t *testing.T) *packager {
	t.Helper()
	p := &packager{dir: t.TempDir()}
	f, err := os.Create(filepath.Join(p.dir, "in.flv"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = liveroom.Write(f, liveroom.Config{}, 6*time.Second); err != nil {
		t.Fatal(err)
	}
	if err = f.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool(t, "ffmpeg"), "-v", "error", "-i", "in.flv", "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0",
		"-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "h1.m4s", "-hls_segment_filename", "%d.m4s", "index.m3u8")
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(p.dir, "index.m3u8"))
	if err != nil {
		t.Fatal(err)
	}
	p.list = strings.Replace(string(b), "#EXT-X-ENDLIST\n", "", 1)
	return p
}

func (p *packager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/index.m3u8" {
		http.ServeFile(w, r, filepath.Join(p.dir, filepath.Base(r.URL.Path)))
		return
	}
	text := p.list
	if p.ended.Load() {
		text += "#EXT-X-ENDLIST\n"
	}
	io.WriteString(w, text)
}

// A room without FLV is pulled as HLS. What a playlist says of its own end is not the end of the broadcast; the platform's
// word is.
func TestHLS(t *testing.T) {
	t.Parallel()
	p := newPackager(t)
	for _, over := range []bool{false, true} {
		r, _ := room(t, bilitest.LiveRoom{Formats: []string{"fmp4"}, HLS: p}, liveroom.Config{})
		p.ended.Store(false)
		res := resolver(t, site(t), bilibili.Config{URL: address(r)})
		live := resolve(t, res)
		if _, ok := live.Source.(recorder.Numbered); !ok || live.Presence != recorder.OnAir || live.Source.Host() != gotcha {
			t.Fatalf("%+v", live)
		}
		o := live.Source.(interface{ Offers() []bilibili.Offer }).Offers()
		if o[0].Form != "HLS" || o[0].Codec != "avc" || !o[0].Chosen {
			t.Errorf("%+v", o)
		}
		p.ended.Store(true)
		if over {
			rooms.Change(func() { r.Status = 2 })
		}
		n, err := pull(t, live.Source, 0)
		if n < 300 || !errors.Is(err, io.EOF) || errors.Is(err, recorder.ErrOver) {
			t.Errorf("%d packets, %v", n, err)
		}
		want := "the room goes on"
		if over {
			want = "round play"
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
}

// What the streamer sent instead of the platform's encoding of it, where a provincial node has it, and only if asked for.
func TestOriginal(t *testing.T) {
	p := newPackager(t)
	account := accountOf(t, world.AddUser("original"))
	for _, want := range []bool{false, true} {
		r, _ := room(t, bilitest.LiveRoom{Encoded: true, HLS: p}, liveroom.Config{})
		s := bilibili.NewSite(bilibili.SiteConfig{Client: client.NewClient(client.Config{Account: account}), Log: zerolog.Nop()})
		live := resolve(t, resolver(t, s, bilibili.Config{URL: address(r), Original: want}))
		if live.Presence != recorder.OnAir {
			t.Fatalf("%+v", live)
		}
		host, found := gotcha, ""
		if want {
			host = province
		}
		for _, q := range world.Requests("GET " + host + "/*") {
			found = q.Path
		}
		if live.Source.Host() != host || strings.Contains(found, "_bluray") == want || strings.HasSuffix(found, ".m3u8") != want {
			t.Errorf("original %v: %s at %s", want, found, live.Source.Host())
		}
	}
}

// A playlist that is refused is asked for anew, at another host.
func TestHLSRenews(t *testing.T) {
	p := newPackager(t)
	r, _ := room(t, bilitest.LiveRoom{Formats: []string{"fmp4"}, HLS: p}, liveroom.Config{})
	live := resolve(t, resolver(t, site(t), bilibili.Config{URL: address(r)}))
	if live.Presence != recorder.OnAir {
		t.Fatalf("%+v", live)
	}
	defer world.NoFaults()
	world.Fault("GET "+gotcha+"/*", bilitest.Fault{Status: 403, Times: -1})
	before := len(world.Requests("GET " + province + "/*"))
	time.AfterFunc(3*time.Second, func() { p.ended.Store(true) })
	if n, err := pull(t, live.Source, 0); n < 300 || !errors.Is(err, io.EOF) {
		t.Errorf("%d packets, %v", n, err)
	}
	if len(world.Requests("GET "+province+"/*")) == before {
		t.Error("it stayed with a host that refuses")
	}
}
