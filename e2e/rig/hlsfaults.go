package rig

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// HLSKit makes media for scenarios, each kind once.
type HLSKit struct {
	Ctx context.Context
	Dir string

	mu   sync.Mutex
	made map[string]*HLSMedia
}

// Cut gives the media that a cut describes.
func (k *HLSKit) Cut(c HLSCut) (*HLSMedia, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := fmt.Sprintf("%+v", c)
	if m := k.made[name]; m != nil {
		return m, nil
	}
	m, err := CutHLS(k.Ctx, k.Dir, c)
	if err != nil {
		return nil, err
	}
	if k.made == nil {
		k.made = map[string]*HLSMedia{}
	}
	k.made[name] = m
	return m, nil
}

// must is for scenarios: media that cannot be made ends them.
func (k *HLSKit) must(c HLSCut) *HLSMedia {
	m, err := k.Cut(c)
	if err != nil {
		panic(fmt.Errorf("make HLS media: %w", err))
	}
	return m
}

// Entries makes list entries of media, named from a number on.
func Entries(m *HLSMedia, from int) []*HLSSegment {
	var out []*HLSSegment
	for i, b := range m.Segs {
		out = append(out, &HLSSegment{Name: fmt.Sprintf("seg%d.%s", from+i, m.Ext), Body: b, Init: m.Init})
	}
	return out
}

// HLSScenario is something that an HLS server does to a recorder.
type HLSScenario struct {
	Name string
	Make func(k *HLSKit) HLSConfig
	// Lost are pictures that cannot be had.
	Lost func(c HLSConfig) []HLSBody
	Args []string // of liverec
	Cuts int      // parts that must begin anew
}

// Want are the pictures that the server offered.
func (s HLSScenario) Want(c HLSConfig) []uint64 {
	lost := map[uint64]bool{}
	if s.Lost != nil {
		for _, b := range s.Lost(c) {
			for n := b.First; n <= b.Last; n++ {
				lost[n] = true
			}
		}
	}
	var out []uint64
	for _, x := range c.Segments {
		for n := x.Body.First; n <= x.Body.Last; n++ {
			if !lost[n] {
				out = append(out, n)
			}
		}
	}
	return out
}

const scenario = 30 * time.Second // media

func since(q HLSRequest, from, to time.Duration) bool { return q.At >= from && q.At < to }

// HLSScenarios are what the catalogue of HLS faults names and a scripted server can do.
func HLSScenarios() []HLSScenario {
	ts := HLSCut{Length: scenario}
	mp4 := HLSCut{Length: scenario, FMP4: true}
	half := func(c HLSCut, first uint64, offset time.Duration) HLSCut {
		c.Length, c.First, c.Offset = scenario/2, first, offset
		return c
	}
	plain := func(k *HLSKit) HLSConfig { return HLSConfig{Segments: Entries(k.must(ts), 0)} }
	fault := func(f func(q HLSRequest) HLSAnswer) func(k *HLSKit) HLSConfig {
		return func(k *HLSKit) HLSConfig { c := plain(k); c.Fault = f; return c }
	}
	list := func(f func(l *HLSList, at time.Duration)) func(k *HLSKit) HLSConfig {
		return func(k *HLSKit) HLSConfig { c := plain(k); c.List = f; return c }
	}
	at := func(c HLSConfig, i int) *HLSSegment { return c.Segments[i] }
	date := func(c HLSConfig) HLSConfig {
		t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		for _, s := range c.Segments {
			s.Before = append(s.Before, "#EXT-X-PROGRAM-DATE-TIME:"+t.Format("2006-01-02T15:04:05.000Z07:00"))
			t = t.Add(s.Body.Duration)
		}
		return c
	}
	// restart makes a list whose numbers begin anew with the second half.
	restart := func(c HLSConfig, n int) HLSConfig {
		c.List = func(l *HLSList, _ time.Duration) {
			if l.Sequence+len(l.Segments) <= n {
				return
			}
			if l.Sequence < n { // the packager has forgotten what was before
				l.Segments = l.Segments[n-l.Sequence:]
				l.Sequence = n
			}
			l.Sequence -= n
		}
		return c
	}
	return []HLSScenario{
		{Name: "sound TS", Make: plain},
		{Name: "sound fMP4", Make: func(k *HLSKit) HLSConfig { return HLSConfig{Segments: Entries(k.must(mp4), 0)} }},
		{Name: "dates", Make: func(k *HLSKit) HLSConfig { return date(plain(k)) }},
		{Name: "sequence restart, new names", Cuts: 1, Make: func(k *HLSKit) HLSConfig {
			c := HLSConfig{Segments: append(Entries(k.must(half(ts, 0, 0)), 0), Entries(k.must(half(ts, 450, 0)), 1000)...)}
			return restart(c, len(k.must(half(ts, 0, 0)).Segs))
		}},
		{Name: "sequence restart, old names, dates", Make: func(k *HLSKit) HLSConfig {
			c := HLSConfig{Segments: append(Entries(k.must(half(ts, 0, 0)), 0), Entries(k.must(half(ts, 450, 0)), 0)...)}
			return restart(date(c), len(k.must(half(ts, 0, 0)).Segs))
		}},
		{Name: "segment 404 for 3 s", Make: fault(func(q HLSRequest) HLSAnswer {
			if strings.HasSuffix(q.Path, "seg6.ts") && q.N < 3 {
				return HLSAnswer{Status: 404, Body: []byte("not found"), Delay: time.Second}
			}
			return HLSAnswer{}
		})},
		{Name: "segment cut short once", Make: fault(func(q HLSRequest) HLSAnswer {
			if q.Kind == "segment" && q.N == 0 && strings.Contains(q.Path, "5") {
				return HLSAnswer{Cut: 20_000}
			}
			return HLSAnswer{}
		})},
		{Name: "segment shorter than it is, once", Make: fault(func(q HLSRequest) HLSAnswer {
			if q.Kind == "segment" && q.N == 0 && strings.Contains(q.Path, "5") {
				return HLSAnswer{Short: 20_001}
			}
			return HLSAnswer{}
		})},
		{Name: "one reload fails", Make: fault(func(q HLSRequest) HLSAnswer {
			if q.Kind == "list" && q.N > 0 && q.N%4 == 0 {
				return []HLSAnswer{{Status: 500, Body: []byte("oops")}, {Body: []byte("<html>busy</html>")}, {Body: []byte{}}, {Status: 403, Body: []byte("no")}}[q.N/4%4]
			}
			return HLSAnswer{}
		})},
		{Name: "reload hangs for 20 s", Make: func() func(k *HLSKit) HLSConfig {
			var once sync.Once
			return fault(func(q HLSRequest) (a HLSAnswer) {
				if q.Kind == "list" && since(q, 8*time.Second, 28*time.Second) {
					once.Do(func() { a.Delay = 20 * time.Second })
				}
				return a
			})
		}()},
		{Name: "all answers fail for 16 s", Make: fault(func(q HLSRequest) HLSAnswer {
			if since(q, 8*time.Second, 24*time.Second) && q.Kind == "list" {
				return HLSAnswer{Status: 502, Body: []byte("bad gateway")}
			}
			return HLSAnswer{}
		})},
		{Name: "byte-order mark and blank lines", Make: func(k *HLSKit) HLSConfig {
			c := plain(k)
			for i, s := range c.Segments {
				if i%3 == 0 {
					s.Before = append(s.Before, "#EXT-X-KEY:METHOD=NONE", "")
				}
			}
			c.List = func(l *HLSList, at time.Duration) {
				inner := &HLS{cfg: HLSConfig{Segments: c.Segments, Window: 5}}
				l.Text = "\ufeff" + strings.ReplaceAll(inner.list(at), "\n", "\r\n")
			}
			return c
		}},
		{Name: "two edges, one is late", Make: list(func() func(l *HLSList, at time.Duration) {
			n := 0
			return func(l *HLSList, at time.Duration) {
				if n++; n%2 == 0 && len(l.Segments) == 5 && !l.End {
					l.Segments = l.Segments[:3]
				}
			}
		}())},
		{Name: "clock jumps without a word", Make: func(k *HLSKit) HLSConfig {
			return HLSConfig{Segments: append(Entries(k.must(half(ts, 0, 0)), 0), Entries(k.must(half(ts, 450, time.Hour)), 8)...)}
		}},
		{Name: "discontinuity, clock begins anew", Make: func(k *HLSKit) HLSConfig {
			a := k.must(half(ts, 0, time.Hour))
			c := HLSConfig{Segments: append(Entries(a, 0), Entries(k.must(half(ts, 450, 0)), 8)...)}
			at(c, len(a.Segs)).Before = []string{"#EXT-X-DISCONTINUITY"}
			return c
		}},
		{Name: "discontinuity that is none", Make: func(k *HLSKit) HLSConfig {
			c := plain(k)
			for i := 3; i < len(c.Segments); i += 3 {
				at(c, i).Before = []string{"#EXT-X-DISCONTINUITY"}
			}
			return c
		}},
		{Name: "clock wraps at 33 bits", Make: func(k *HLSKit) HLSConfig {
			const turn = (1 << 33) * time.Second / 90_000
			return HLSConfig{Segments: Entries(k.must(HLSCut{Length: scenario, Offset: turn - 13*time.Second}), 0)}
		}},
		{Name: "picture size changes, TS", Cuts: 1, Make: func(k *HLSKit) HLSConfig {
			a, small := k.must(half(ts, 0, 0)), half(ts, 450, 15*time.Second)
			small.Small = true
			c := HLSConfig{Segments: append(Entries(a, 0), Entries(k.must(small), 8)...)}
			at(c, len(a.Segs)).Before = []string{"#EXT-X-DISCONTINUITY"}
			return c
		}},
		{Name: "picture size changes, fMP4", Cuts: 1, Make: func(k *HLSKit) HLSConfig {
			a, small := k.must(half(mp4, 0, 0)), half(mp4, 450, 15*time.Second)
			small.Small = true
			c := HLSConfig{Segments: append(Entries(a, 0), Entries(k.must(small), 8)...)}
			at(c, len(a.Segs)).Before = []string{"#EXT-X-DISCONTINUITY"}
			return c
		}},
		{Name: "end that is none", Make: list(func(l *HLSList, at time.Duration) {
			if at > 10*time.Second && at < 13*time.Second {
				l.Segments, l.End = nil, true
			}
		})},
		{Name: "keys that rotate", Make: func(k *HLSKit) HLSConfig {
			c := plain(k)
			for i, s := range c.Segments {
				s.Key, s.IV = bytes.Repeat([]byte{byte(1 + i/3)}, 16), SequenceIV(i)
				s.NoIV = i%2 == 0 // then the number is the vector
			}
			return c
		}},
		{Name: "key server fails for 6 s", Make: func(k *HLSKit) HLSConfig {
			c := plain(k)
			for i, s := range c.Segments {
				s.Key, s.IV = bytes.Repeat([]byte{byte(1 + i/3)}, 16), SequenceIV(i)
			}
			c.Fault = func(q HLSRequest) HLSAnswer {
				if q.Kind == "key" && since(q, 5*time.Second, 11*time.Second) {
					return HLSAnswer{Status: 500, Body: []byte("oops")}
				}
				return HLSAnswer{}
			}
			return c
		}},
		{Name: "ranges of one file", Make: func(k *HLSKit) HLSConfig {
			c := plain(k)
			for _, s := range c.Segments {
				s.Range = true
			}
			return c
		}},
		{Name: "token in the master list expires", Make: func(k *HLSKit) HLSConfig {
			c := plain(k)
			token := func(at time.Duration) string { return fmt.Sprintf("%d", at/(10*time.Second)) }
			c.Master = func(o *HLS, base string) string {
				o.mu.Lock()
				t := token(time.Since(o.start))
				o.mu.Unlock()
				return "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360\n" + base + "/" + t + "/live.m3u8\n"
			}
			c.Fault = func(q HLSRequest) HLSAnswer {
				if q.Kind != "list" && q.Kind != "segment" {
					return HLSAnswer{}
				}
				old := token(max(0, q.At-3*time.Second)) // what is old goes on for a moment
				if !strings.HasPrefix(q.Path, "/"+token(q.At)+"/") && !strings.HasPrefix(q.Path, "/"+old+"/") {
					return HLSAnswer{Status: http.StatusForbidden, Body: []byte("expired")}
				}
				return HLSAnswer{}
			}
			return c
		}},
		{Name: "a host dies", Make: func(k *HLSKit) HLSConfig {
			c := plain(k)
			c.Hosts = 2
			var first string
			c.Master = func(o *HLS, _ string) string {
				o.mu.Lock()
				first = strings.TrimPrefix(o.URLs[1], "http://")
				o.mu.Unlock()
				return "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360\n" + o.URLs[1] + "/live.m3u8\n" +
					"#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360\n" + o.URLs[0] + "/live.m3u8\n"
			}
			c.Fault = func(q HLSRequest) HLSAnswer {
				if q.Host == first && q.At > 9*time.Second {
					return HLSAnswer{Hang: true}
				}
				return HLSAnswer{}
			}
			return c
		}},
		{Name: "advertisement", Make: func(k *HLSKit) HLSConfig {
			c := date(plain(k))
			start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(10 * time.Second)
			c.List = func(l *HLSList, _ time.Duration) {
				l.Head = append(l.Head, fmt.Sprintf("#EXT-X-DATERANGE:ID=\"stitched-ad-1\",CLASS=\"twitch-stitched-ad\",START-DATE=\"%s\",DURATION=6.000", start.Format(time.RFC3339)))
			}
			at(c, 5).Before = append(at(c, 5).Before, "#EXT-X-DISCONTINUITY")
			at(c, 8).Before = append(at(c, 8).Before, "#EXT-X-DISCONTINUITY")
			return c
		}, Lost: func(c HLSConfig) []HLSBody {
			return []HLSBody{c.Segments[5].Body, c.Segments[6].Body, c.Segments[7].Body}
		}},
		{Name: "names change with each reload", Make: func(k *HLSKit) HLSConfig {
			c := plain(k)
			c.List = func(l *HLSList, at time.Duration) {
				inner := &HLS{cfg: HLSConfig{Segments: c.Segments, Window: 5, Query: fmt.Sprintf("?t=%d", at.Milliseconds())}}
				l.Text = inner.list(at)
			}
			return c
		}},
		{Name: "target duration is wrong", Make: list(func(l *HLSList, _ time.Duration) { l.Target = 14 })},
	}
}
