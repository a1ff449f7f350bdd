package hlspull_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/hlspull"
)

// A list that has hours from the begin on, and its end.
func TestLongList(t *testing.T) {
	c := &channel{window: 400, total: 400}
	r := vector(t, c, hlspull.Config{}, time.Hour, func(r *http.Request, _ time.Duration, plain reply) reply {
		if isList(r) { // lengths as encoders make them: none is the other
			for n := 0; bytes.Contains(plain.body, []byte(":2.0,")); n++ {
				plain.body = bytes.Replace(plain.body, []byte(":2.0,"), fmt.Appendf(nil, ":%.3f,", 2-float64(n%5)/1000), 1)
			}
		}
		return plain
	})
	wantEnd(t, r)
	wantVideo(t, r, segs(0, 399))
	wantNoGap(t, r)
}

// The same with sound in a list of its own, each segment taking its time.
func TestLongListWithSound(t *testing.T) {
	video, sound := &channel{window: 400, total: 400}, &channel{window: 400, total: 400}
	list := bytes.ReplaceAll(sound.list(0), []byte("\ns"), []byte("\na/s"))
	list = bytes.ReplaceAll(list, []byte("init.mp4"), []byte("a/init.mp4"))
	synctest.Test(t, func(t *testing.T) {
		o := &origin{handle: func(r *http.Request, _ time.Duration) reply {
			tracks := vid
			if path.Base(path.Dir(r.URL.Path)) == "a" {
				tracks = aud
			}
			switch path.Base(r.URL.Path) {
			case "index.m3u8":
				return ok([]byte("#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",DEFAULT=YES,URI=\"sound.m3u8\"\n" +
					"#EXT-X-STREAM-INF:BANDWIDTH=1000000,CODECS=\"avc1.64001f,mp4a.40.2\",AUDIO=\"a\"\nvideo.m3u8\n"))
			case "video.m3u8":
				return ok(video.list(0))
			case "sound.m3u8":
				return ok(list)
			case "init.mp4":
				return ok(initSection(t, tracks, 0, 0x14))
			}
			return reply{status: 200, after: 50 * time.Millisecond, body: segmentOf(number(r.URL.Path), tracks, 0, 1, 0)}
		}}
		r := run(t, hlspull.Config{}, o, time.Hour)
		wantEnd(t, r)
		wantVideo(t, r, segs(0, 399))
		wantNoGap(t, r)
		if got := runs(r.sound); got != "0-7999" {
			t.Errorf("sound %s", got)
		}
	})
}

// Whoever runs a Source may catch a panic of it and close out: nothing of the Source sends then any more.
func TestPanicLeavesNothingRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &channel{window: 5, total: 20}
		serve := c.serve(t)
		log := zerolog.New(io.Discard).Hook(zerolog.HookFunc(func(_ *zerolog.Event, _ zerolog.Level, what string) {
			if what == "segment is lost" {
				panic("as a test of it")
			}
		}))
		s, err := hlspull.New(hlspull.Config{URL: "http://a.example/live/index.m3u8", Log: log, Transport: &origin{begun: time.Now(),
			handle: func(r *http.Request, at time.Duration) reply {
				if number(r.URL.Path) == 7 {
					return no(404)
				}
				return serve(r, at)
			}}})
		if err != nil {
			t.Fatal(err)
		}
		out := make(chan *media.Batch)
		ended := make(chan any, 1)
		go func() {
			defer close(out)
			defer func() { ended <- recover() }()
			_ = s.Run(t.Context(), out) // it does not return
		}()
		n := 0
		for b := range out {
			n += len(b.Packets)
			b.Release()
			time.Sleep(10 * time.Second) // the sender has always something that waits
		}
		if what := <-ended; what != "as a test of it" || n == 0 {
			t.Errorf("%v after %d packets", what, n)
		}
	})
}

// A long list of which nothing is there: its segments are asked for in their order, and not all of them at once. That is
// asking too much of a server, and looking at all of them at each answer too much of the processor.
func TestNothingThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count, most = 8192, 256
		list := (&channel{}).span(0, count-1, true)
		asked := map[string]bool{}
		o := &origin{handle: func(r *http.Request, _ time.Duration) reply {
			if isList(r) {
				return ok(list)
			}
			asked[r.URL.Path] = true
			return no(404)
		}}
		run(t, hlspull.Config{}, o, 5*time.Second)
		if n := len(asked); n < most/2 || n > most+hlspull.MaxFetches {
			t.Errorf("%d segments were asked for, want about %d", n, most)
		}
		for n := range most / 2 {
			if !asked[fmt.Sprintf("/live/s%d.m4s", n)] {
				t.Fatalf("segment %d was not asked for", n)
			}
		}
	})
}

// A list that has its end already, over a line that is slower than it plays: it takes longer than its segments would be
// waited for, and they are there.
func TestSlowerThanItPlays(t *testing.T) {
	r := vector(t, &channel{window: 330, total: 330}, hlspull.Config{}, time.Hour, func(r *http.Request, _ time.Duration, plain reply) reply {
		if !isList(r) && plain.status == 200 && number(r.URL.Path) >= 0 {
			plain.after, plain.rate = 4*time.Second, max(len(plain.body)/17, 1)
		}
		return plain
	})
	wantEnd(t, r)
	wantVideo(t, r, segs(0, 329))
	wantNoGap(t, r)
	if played := 330 * segDur; r.took < played {
		t.Errorf("it took %v, less than the %v that it plays", r.took, played)
	}
}
