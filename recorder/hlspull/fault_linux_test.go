package hlspull_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/hlspull"
)

// breakFiles takes the bytes from under the files without a name in a folder. Whoever touches them in memory then is told
// by the signal that a failing disk sends, too.
func breakFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range open {
		at := "/proc/self/fd/" + x.Name()
		if to, err := os.Readlink(at); err != nil || !strings.HasPrefix(to, dir+"/") {
			continue
		}
		if err := os.Truncate(at, 0); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A disk that fails under a segment costs this segment, whoever has it in hand, and nothing else.
func TestDiskFails(t *testing.T) {
	const large = 4 // the segment
	null := bytes.Repeat(append([]byte{0x47, 0x1f, 0xff, 0x10}, make([]byte, 184)...), (40<<20)/188)
	free := box("free", make([]byte, 40<<20))
	for _, c := range []struct {
		name string
		ts   bool
		when string
	}{
		{"while it comes", false, "half"},
		{"when it has come", false, "whole"},
		{"when it has come, as a transport stream", true, "whole"},
		{"when it is to be taken apart", false, "later"},
		{"when it is to be taken apart, as a transport stream", true, "later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before, dir := media.InUse(), t.TempDir()
				ch := &channel{window: 5, total: 9}
				if c.ts {
					ch.head = "#EXT-X-INDEPENDENT-SEGMENTS\n"
				}
				serve := ch.serve(t)
				broken := 0
				o := &origin{begun: time.Now(), handle: func(r *http.Request, at time.Duration) reply {
					a := serve(r, at)
					n := number(r.URL.Path)
					if n < 0 || a.status != 200 {
						return a
					}
					if c.ts {
						a.body = tsSegment(t, n, 0, 0)
					}
					if n != large {
						return a
					}
					if c.ts {
						a.body = append(null[:len(null):len(null)], a.body...)
					} else {
						a.body = append(a.body, free...)
					}
					switch c.when {
					case "half":
						a.read = func(sent int) {
							if sent > 20<<20 {
								broken += breakFiles(t, dir)
							}
						}
					case "whole":
						a.read = func(sent int) {
							if sent == len(a.body) {
								broken += breakFiles(t, dir)
							}
						}
					}
					return a
				}}
				s, err := hlspull.New(hlspull.Config{URL: "http://a.example/live/index.m3u8", Transport: o})
				if err != nil {
					t.Fatal(err)
				}
				s.Spool(dir)
				res := &result{asks: o}
				if c.when == "later" {
					res.hold = func() {
						// until others are fetched, and the emitter has nothing to do but to wait for this one
						for o.asked(fmt.Sprintf("s%d.", large)) == 0 {
							time.Sleep(time.Second)
						}
						time.Sleep(time.Second)
						synctest.Wait()
						broken += breakFiles(t, dir)
					}
				}
				drive(t, s, res, time.Hour)
				wantEnd(t, res)
				wantVideo(t, res, segs(0, large-1)+" "+segs(large+1, 8))
				if d, why := res.gaps(); d != segDur || len(why) != 1 || why[0] != "the disk failed under it" {
					t.Errorf("%v missing: %q", d, why)
				}
				if broken == 0 {
					t.Error("no file was broken")
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
					t.Errorf("%v is left, %v", left, err)
				}
				if now := media.InUse(); now != before {
					t.Errorf("%d bytes are still out", now-before)
				}
			})
		})
	}
}
