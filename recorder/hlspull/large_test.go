package hlspull_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/recorder/hlspull"
)

// A segment that is too large for memory lies on the disk while it is fetched and taken apart, and nothing of it is left
// there. Where there is no disk it is a gap.
func TestLargeSegments(t *testing.T) {
	null := bytes.Repeat(append([]byte{0x47, 0x1f, 0xff, 0x10}, make([]byte, 184)...), (40<<20)/188)
	free := box("free", make([]byte, 40<<20))
	for _, c := range []struct {
		name   string
		ts     bool
		nodisk bool
		length int // announced; -1: not
	}{{"fMP4", false, false, 0}, {"transport stream", true, false, 0}, {"fMP4 of no announced length", false, false, -1}, {"no disk", false, true, 0}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := media.InUse()
				ch := &channel{window: 5, total: 8}
				if c.ts {
					ch.head = "#EXT-X-INDEPENDENT-SEGMENTS\n"
				}
				serve := ch.serve(t)
				var heap int64
				o := &origin{begun: time.Now(), handle: func(r *http.Request, at time.Duration) reply {
					plain := serve(r, at)
					n := number(r.URL.Path)
					if n < 0 || plain.status != 200 {
						return plain
					}
					if c.ts {
						plain.body = tsSegment(t, n, 0, 0)
					}
					switch n {
					case 4:
						if c.ts {
							plain.body = append(null[:len(null):len(null)], plain.body...)
						} else {
							plain.body = append(plain.body, free...)
						}
						plain.length = c.length
						var m runtime.MemStats
						runtime.GC()
						runtime.ReadMemStats(&m)
						heap = int64(m.HeapAlloc)
					case 5:
						var m runtime.MemStats
						runtime.GC()
						runtime.ReadMemStats(&m)
						if grown := int64(m.HeapAlloc) - heap; grown > 24<<20 {
							t.Errorf("%d MiB more on the heap", grown>>20)
						}
					}
					return plain
				}}
				s, err := hlspull.New(hlspull.Config{URL: "http://a.example/live/index.m3u8", Transport: o})
				if err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				if s.Spool(dir); c.nodisk {
					s.Spool(dir + "/none")
				}
				res := &result{asks: o}
				drive(t, s, res, time.Hour)
				wantEnd(t, res)
				d, why := res.gaps()
				if c.nodisk {
					if wantVideo(t, res, segs(0, 3)+" "+segs(5, 7)); d != segDur || !strings.Contains(why[0], "larger") {
						t.Errorf("%v missing: %q", d, why)
					}
				} else if wantVideo(t, res, segs(0, 7)); d != 0 {
					t.Errorf("%v missing: %q", d, why)
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

// The longest list that is read, of segments that never come, stays within the memory that is promised.
func TestLongestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := hls.MaxSegments
		if raceDetector {
			count /= 8
		}
		var list bytes.Buffer
		list.WriteString("#EXTM3U\n#EXT-X-TARGETDURATION:2\n")
		for i := range count {
			fmt.Fprintf(&list, "#EXTINF:2,\n%0*d.m4s\n", 100, i)
		}
		o := &origin{begun: time.Now(), handle: func(r *http.Request, _ time.Duration) reply {
			if strings.HasSuffix(r.URL.Path, ".m3u8") {
				return ok(list.Bytes())
			}
			return reply{hang: true}
		}}
		s, err := hlspull.New(hlspull.Config{URL: "http://a.example/live/index.m3u8", Transport: o})
		if err != nil {
			t.Fatal(err)
		}
		heap := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := heap()
		go func() {
			time.Sleep(3 * time.Second)
			// of one rendition: half of what is not for bodies
			if held, most := heap()-before, int64(hlspull.Memory-hlspull.MaxMemory-hlspull.MaxHeld)/2*int64(count)/hls.MaxSegments; held > most {
				t.Errorf("%d MiB of heap, %d are promised", held>>20, most>>20)
			} else {
				t.Logf("%d MiB of heap, %d are promised", held>>20, most>>20)
			}
		}()
		res := &result{asks: o}
		drive(t, s, res, 4*time.Second)
		if len(res.video) > 0 || o.asked(".m4s") < 3 {
			t.Errorf("%d frames, %d questions", len(res.video), o.asked(".m4s"))
		}
	})
}
