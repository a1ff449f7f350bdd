package hlspull_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/pkg/media/mpegts"
	"github.com/liverec/liverec/recorder/hlspull"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
)

// A transport stream whose picture or sound becomes another one, with nothing in the list that says so: its new record
// stands before the first frame that it is for, so that a new part begins there, and no frame is missing.
func TestChangeInside(t *testing.T) {
	record := func(sps, pps string) []byte {
		r, err := codec.BuildAVCC([][]byte{unhex(t, sps)}, [][]byte{unhex(t, pps)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	small := &mpegts.Track{Codec: media.AVC, Config: record("6764000cacd941419f9f011000000300100000030320f1429960", "68ebecb22c")}
	large := &mpegts.Track{Codec: media.AVC, Config: record("6764001eacd940a02ff9610000030001000003003c8f162d96", "68ebecb22c")}
	hvcC, err := codec.BuildHVCC([][]byte{unhex(t, "40010c01ffff01600000030090000003000003003f959809")},
		[][]byte{unhex(t, "42010101600000030090000003000003003fa00a080b9f796566924caf010000030001000003001e08")}, [][]byte{unhex(t, "4401c172b46240")})
	if err != nil {
		t.Fatal(err)
	}
	hevc := &mpegts.Track{Codec: media.HEVC, Config: hvcC}
	stereo, mono := &mpegts.Track{Codec: media.AAC, Config: []byte{0x11, 0x90}}, &mpegts.Track{Codec: media.AAC, Config: []byte{0x11, 0x88}}
	for _, c := range []struct {
		name         string
		video, sound *mpegts.Track // from segment 6 on
		told         []string
	}{
		{"size", large, stereo, []string{"AAC 48000 Hz 2 @0", "H.264 320x180 @0", "H.264 640x360 @48"}},
		{"codec", hevc, stereo, []string{"AAC 48000 Hz 2 @0", "H.264 320x180 @0", "HEVC 320x180 @48"}},
		{"sound", small, mono, []string{"AAC 48000 Hz 2 @0", "H.264 320x180 @0", "AAC 48000 Hz 1 @48"}},
		{"all", hevc, mono, []string{"AAC 48000 Hz 2 @0", "H.264 320x180 @0", "AAC 48000 Hz 1 @48", "HEVC 320x180 @48"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := vector(t, &channel{window: 5, total: 12, head: "#EXT-X-INDEPENDENT-SEGMENTS\n"}, hlspull.Config{}, time.Hour,
				func(r *http.Request, _ time.Duration, plain reply) reply {
					if n := number(r.URL.Path); n >= 0 && plain.status == 200 {
						video, sound := small, stereo
						if n >= 6 {
							video, sound = c.video, c.sound
						}
						plain.body = tsSegmentOf(t, n, 0, 0, video, sound)
					}
					return plain
				})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, 11))
			wantNoGap(t, r)
			if len(r.sound) != 12*16 {
				t.Errorf("sound %s", runs(r.sound))
			}
			if !slices.Equal(r.told, c.told) {
				t.Errorf("told %q, want %q", r.told, c.told)
			}
			for i, s := range r.seams {
				if s.Discontinuity && i > 0 {
					t.Errorf("a discontinuity after %d frames", s.before)
				}
			}
		})
	}
}

// The sound in a list of its own becomes another one, with nothing in the lists that says so but another section.
func TestSoundChanges(t *testing.T) {
	v, a := &channel{window: 5, total: 12}, &channel{window: 5, total: 12, head: "#EXT-X-INDEPENDENT-SEGMENTS\n", tag: func(n int) string {
		return fmt.Sprintf("#EXT-X-MAP:URI=\"sound-init%d.mp4\"\n", n/6)
	}}
	r := vector(t, v, hlspull.Config{URL: "http://a.example/room.m3u8"}, time.Hour, func(r *http.Request, at time.Duration, plain reply) reply {
		n, sound := number(r.URL.Path), strings.Contains(r.URL.Path, "/sound/")
		switch {
		case strings.HasSuffix(r.URL.Path, "room.m3u8"):
			return ok([]byte("#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"g\",NAME=\"x\",DEFAULT=YES,URI=\"sound/index.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1000,AUDIO=\"g\"\nlive/index.m3u8\n"))
		case strings.HasSuffix(r.URL.Path, "sound-init0.mp4"):
			return ok(initSection(t, aud, 0, 0))
		case strings.HasSuffix(r.URL.Path, "sound-init1.mp4"):
			return ok(bytes.Replace(initSection(t, aud, 0, 0), []byte{5, 2, 0x11, 0x90}, []byte{5, 2, 0x11, 0x88}, 1))
		case strings.HasSuffix(r.URL.Path, "init.mp4"):
			return ok(initSection(t, vid, 0, 0x0c))
		case isList(r) && sound:
			return ok(a.list(at))
		case n >= 0 && sound && plain.status == 200:
			plain.body = segmentOf(n, aud, 0, 1, 0)
		case n >= 0 && plain.status == 200:
			plain.body = segmentOf(n, vid, 0, 1, 0)
		}
		return plain
	})
	wantEnd(t, r)
	wantVideo(t, r, segs(0, 11))
	wantNoGap(t, r)
	if got := runs(r.sound); got != "0-239" {
		t.Errorf("sound %s", got)
	}
	if want := []string{"H.264 320x180 @0", "AAC 48000 Hz 2 @0", "AAC 48000 Hz 1 @48"}; !slices.Equal(r.told, want) {
		t.Errorf("told %q, want %q", r.told, want)
	}
}

// A list that is larger than any may be is read up to there, and the one that was known goes on.
func TestEnormousList(t *testing.T) {
	enormous := bytes.Repeat([]byte("#EXTINF:2,\ns99.m4s\n"), 100<<20/19)
	copy(enormous, "#EXTM3U\n")
	for _, length := range []int{0, -1} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			asked := int64(0)
			var before, during int64
			r := vector(t, &channel{window: 5, total: 12}, hlspull.Config{}, time.Hour, func(r *http.Request, at time.Duration, plain reply) reply {
				if isList(r) && seconds(at, 5, 8) {
					if asked++; asked == 1 {
						before = heapNow()
					}
					return reply{status: 200, body: enormous, length: length}
				}
				if asked > 0 && during == 0 {
					during = heapNow() - before
				}
				return plain
			})
			wantEnd(t, r)
			wantVideo(t, r, segs(0, 11))
			wantNoGap(t, r)
			if most := asked*(hls.MaxSize+64<<10) + 64<<10; asked == 0 || r.count.Header > most {
				t.Errorf("%d bytes were read of %d answers", r.count.Header, asked)
			}
			if during > 2*hls.MaxSize {
				t.Errorf("%d MiB of heap", during>>20)
			}
		})
	}
	t.Run("from the first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, hlspull.Config{}, &origin{handle: func(*http.Request, time.Duration) reply { return reply{status: 200, body: enormous, length: -1} }}, time.Minute)
			if !errors.Is(r.err, fetch.ErrTooLarge) {
				t.Errorf("ended with %v", r.err)
			}
		})
	})
}

func heapNow() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Neither a key nor a section, nor a server that sends on, leads to a place that a list may not lead to.
func TestLedAstray(t *testing.T) {
	for _, to := range []string{"http://127.0.0.1/x", "http://192.168.1.1/x", "http://[fd00::1]/x", "file:///etc/passwd"} {
		for _, way := range []string{"key", "section", "redirect"} {
			t.Run(way+" "+to, func(t *testing.T) {
				c := &channel{window: 5, total: 10, tag: func(n int) string {
					switch {
					case n == 6 && way == "key":
						return fmt.Sprintf("#EXT-X-KEY:METHOD=AES-128,URI=%q\n", to)
					case n == 6 && way == "section":
						return fmt.Sprintf("#EXT-X-MAP:URI=%q\n", to)
					case n == 7:
						return "#EXT-X-KEY:METHOD=NONE\n#EXT-X-MAP:URI=\"init.mp4\"\n"
					}
					return ""
				}}
				r := vector(t, c, hlspull.Config{}, time.Hour, func(r *http.Request, _ time.Duration, plain reply) reply {
					switch n := number(r.URL.Path); {
					case n == 6 && way == "redirect":
						return reply{to: to}
					case n == 6 && way == "key":
						plain.body = encrypt(t, plain.body, keyOf(1), vector128(6))
					}
					return plain
				})
				wantEnd(t, r)
				wantVideo(t, r, segs(0, 5)+" "+segs(7, 9))
				if d, why := r.gaps(); d != segDur || len(why) != 1 || !strings.Contains(why[0], "not asked") {
					t.Errorf("%v missing: %q", d, why)
				}
				for _, host := range []string{"127.0.0.1", "192.168", "fd00", "passwd"} {
					if r.asks.asked(host) > 0 {
						t.Errorf("%s was asked", host)
					}
				}
			})
		}
	}
}
