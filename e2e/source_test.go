package e2e

import (
	"bytes"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// first gives a fault to the first connection only, or to the first ones.
func first(faults ...liveroom.Fault) func(int) liveroom.Fault {
	return func(n int) liveroom.Fault {
		if n < len(faults) {
			return faults[n]
		}
		return liveroom.Fault{}
	}
}

// every gives a fault to all connections.
func every(f liveroom.Fault) func(int) liveroom.Fault { return func(int) liveroom.Fault { return f } }

// What a source can do to a recorder. The bookkeeping is the same for all: each picture that was sent on a connection
// of which something could be used stands in the archive once, what is missing is admitted in its place and length,
// and every part is sound. (A cut may lose a little whatever one does: a new connection begins with the newest key frame,
// and the last pictures before it went to nobody.)
func TestSourceFaults(t *testing.T) {
	t.Parallel()
	const (
		none = iota
		some
		maybe
	)
	cut := liveroom.Event{Tags: 400, End: liveroom.Broken}
	refused := func(status int) liveroom.Fault { return liveroom.Fault{Status: status} }
	tests := []struct {
		name    string
		cfg     liveroom.Config
		media   time.Duration
		missing int // none: every picture from the first recorded one on is there
		useless int // so many first connections carry nothing that can be used
		check   func(t *testing.T, rec *rig.Recording, room *liveroom.Room)
	}{
		{name: "sound"},
		{name: "cut", missing: maybe, cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{cut}})}},
		{name: "ended cleanly although live", missing: maybe, cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 400, End: liveroom.Clean}}})}},
		{name: "cut inside a tag", missing: maybe, cfg: liveroom.Config{Fault: func(n int) liveroom.Fault { return liveroom.Fault{CutBytes: 300_000 + int64(n)*1013} }}},
		{name: "half a tag, ended cleanly", missing: maybe, cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 400, Half: 200, End: liveroom.Clean}}})}},
		{name: "cut, clock begins anew", missing: maybe, cfg: liveroom.Config{Fault: every(liveroom.Fault{Rebase: true, Events: []liveroom.Event{cut}})}},
		{name: "cut, clock is another one", missing: maybe, cfg: liveroom.Config{Fault: func(n int) liveroom.Fault {
			return liveroom.Fault{Shift: time.Duration(n%3) * 40 * time.Minute, Events: []liveroom.Event{cut}}
		}}},
		{name: "cut and refused", missing: maybe, cfg: liveroom.Config{Fault: first(liveroom.Fault{Events: []liveroom.Event{cut}}, refused(403), refused(404), refused(503), refused(502))}},
		{name: "refused at first", useless: 3, cfg: liveroom.Config{Fault: first(refused(404), refused(500), liveroom.Fault{Status: 503, RetryAfter: 2 * time.Second})}},
		{name: "HTML at first", useless: 2, cfg: liveroom.Config{Fault: first(liveroom.Fault{Body: []byte("<!DOCTYPE html><html><body>maintenance</body></html>")}, liveroom.Fault{Body: []byte(`{"code":-1}`), Type: "application/json"})}},
		{name: "silent at first", useless: 1, media: 32 * time.Second, cfg: liveroom.Config{Fault: first(liveroom.Fault{Silent: true})}},
		{name: "no key frames at first", useless: 1, media: 36 * time.Second, cfg: liveroom.Config{Fault: first(liveroom.Fault{NoKeys: true})}},
		{name: "short stall", cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 400, Stall: 5 * time.Second}}})}},
		{name: "long stall", missing: some, media: 36 * time.Second, cfg: liveroom.Config{Fault: first(liveroom.Fault{Events: []liveroom.Event{{Tags: 400, Stall: time.Hour}}})}},
		{name: "jumps", cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 300, Jump: time.Hour}, {Tags: 300, Jump: -time.Hour}, {Tags: 300, Jump: -15 * time.Second}, {Tags: 300, Jump: 15 * time.Second}}})},
			check: func(t *testing.T, rec *rig.Recording, _ *liveroom.Room) {
				if len(rec.Manifest.Repairs) < 4 {
					t.Errorf("four jumps, %d repairs: %+v", len(rec.Manifest.Repairs), rec.Manifest.Repairs)
				}
			}},
		{name: "rubbish between tags", cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 150, Again: true, Junk: bytes.Repeat([]byte("\x00<junk>\x09\xff"), 7)}}})}},
		{name: "HTML between tags", cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 300, Again: true, Junk: []byte("<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\r\n")}}})}},
		{name: "second head", cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 300, Again: true, Header: true}}})}},
		{name: "repeated headers", cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 40, Again: true, Headers: true}}})},
			check: func(t *testing.T, rec *rig.Recording, _ *liveroom.Room) {
				if len(rec.Parts) != 3 {
					t.Errorf("%v", rec)
				}
			}},
		{name: "headers change", cfg: liveroom.Config{Changes: []time.Duration{5 * time.Second, 15 * time.Second}},
			check: func(t *testing.T, rec *rig.Recording, _ *liveroom.Room) {
				var shape []string
				for i, p := range rec.Parts {
					v, _ := p.Track(probe.Video)
					shape = append(shape, map[int]string{640: "large", 480: "small"}[v.Width]+" "+rec.Manifest.Parts[i].Cut)
				}
				if got := strings.Join(shape, ", "); got != "large header, small header, large end" {
					t.Errorf("parts: %s", got)
				}
			}},
		{name: "no trailers, no metadata", cfg: liveroom.Config{Fault: every(liveroom.Fault{NoTrailers: true, NoScript: true})}},
		{name: "hole", missing: some, cfg: liveroom.Config{Fault: every(liveroom.Fault{Events: []liveroom.Event{{Tags: 500, Skip: 4 * time.Second}}})}},
		{name: "the same ten seconds for ever", missing: some, media: 60 * time.Second, cfg: liveroom.Config{Fault: first(liveroom.Fault{Events: []liveroom.Event{{Tags: 900, Loop: 10 * time.Second, LoopBack: true}}})}},
		{name: "joined in the middle", cfg: liveroom.Config{NoCache: true}},
		{name: "wrap at 24 bits", cfg: liveroom.Config{Base: (1<<24 - 8000) * time.Millisecond}},
		{name: "wrap at 31 bits", cfg: liveroom.Config{Base: (1<<31 - 8000) * time.Millisecond}},
		{name: "wrap at 32 bits", cfg: liveroom.Config{Base: (1<<32 - 8000) * time.Millisecond}},
		{name: "begins before zero", cfg: liveroom.Config{Base: -5 * time.Second}},
		{name: "all at once", missing: maybe, cfg: liveroom.Config{Fault: func(n int) liveroom.Fault {
			return liveroom.Fault{Rebase: n%2 == 0, NoTrailers: true, Events: []liveroom.Event{
				{Tags: 100, Headers: true}, {Tags: 100, Junk: []byte("junk, and \x09\x00\x00 more of it")}, {Tags: 100, Jump: 90 * time.Minute}, {Tags: 100, Header: true}, {Tags: 100, Half: 50},
			}}
		}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.media == 0 {
				test.media = 24 * time.Second
			}
			test.cfg.Duration = test.media
			dir := t.TempDir()
			room, url := live(t, test.cfg)
			p := liverec(dir, "record", url, "--once", "--segment", "10s", "--grace", "20s").Start(t)
			p.Ends(t, after(test.media), 0)
			rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
			if len(rec.Numbers) == 0 {
				t.Fatal("nothing was recorded")
			}
			start := rec.Numbers[0]
			rec.Once(t, rig.Sent(room.Connections(), func(c liveroom.Connection, f liveroom.Frame) bool {
				return c.N >= test.useless && f.Number >= start
			}))
			rec.Admits(t, 300*time.Millisecond)
			switch missing := rec.Missing(); {
			case test.missing == none && len(missing) > 0:
				t.Errorf("missing: %v", missing)
			case test.missing == some && len(missing) == 0:
				t.Error("nothing is missing: the fault did not happen")
			}
			if test.missing == none && rec.Numbers[len(rec.Numbers)-1] != room.Next()-1 {
				t.Errorf("ends with picture %d of %d", rec.Numbers[len(rec.Numbers)-1], room.Next()-1)
			}
			for _, part := range rec.Manifest.Parts {
				if part.DurationMS > 10_100 {
					t.Errorf("part %d lasts %d ms", part.Seq, part.DurationMS)
				}
			}
			if test.check != nil {
				test.check(t, rec, room)
			}
			if t.Failed() {
				for _, c := range room.Connections() {
					t.Logf("connection %d: %s to %s, %d, %d tags, %s", c.N, c.Opened.Format("05.000"), c.Closed.Format("05.000"), c.Status, c.Tags, c.Why)
				}
				t.Logf("%v\nrepairs: %+v", rec, rec.Manifest.Repairs)
			}
			rig.Empty(t, filepath.Join(dir, "liverec-data"))
		})
	}
}

// What repeats with a clock that goes on may be a looped film: it is recorded, however often the source is asked anew.
func TestLoopedFilmIsRecorded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, url := live(t, liveroom.Config{Duration: 30 * time.Second, Fault: first(liveroom.Fault{Events: []liveroom.Event{{Tags: 500, Loop: 4 * time.Second}}})})
	liverec(dir, "record", url, "--once", "--segment", "10s", "--grace", "20s").Start(t).Ends(t, after(30*time.Second), 0)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"), probe.Twice)
	looped, recorded, newest := len(room.Connections()[0].Frames), 0, uint64(0)
	for _, f := range room.Connections()[0].Frames {
		newest = max(newest, f.Number)
	}
	for _, n := range rec.Numbers {
		if n <= newest {
			recorded++
		}
	}
	// The last GOP may come a second time, from the cache of the next connection.
	if recorded < looped || recorded > looped+60 || looped < 300 || len(rec.Manifest.Gaps) > 1 {
		t.Errorf("%d pictures sent, %d recorded, gaps %+v", looped, recorded, rec.Manifest.Gaps)
	}
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, to := live(t, liveroom.Config{Duration: 8 * time.Second})
	_, from := live(t, liveroom.Config{Fault: every(liveroom.Fault{Redirect: to})})
	// The room that redirects stays live, so it takes the grace until the broadcast counts as over.
	liverec(dir, "record", from, "--once", "--grace", "4s").Start(t).Ends(t, 60*time.Second, 0)
	rec := rig.Read(t, filepath.Join(dir, "liverec-archive"))
	rec.Once(t, all(target, rec.Numbers[0]))

	// A loop of redirects is weather for record and an error for probe.
	_, loop := live(t, liveroom.Config{Fault: every(liveroom.Fault{Redirect: "/again"})})
	liverec(dir, "probe", loop).Start(t).Ends(t, 20*time.Second, 1)
}

// Every failure of a source is said once, not once per attempt.
func TestWeatherIsSaidOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, url := live(t, liveroom.Config{Fault: every(liveroom.Fault{Status: http.StatusBadGateway})})
	p := liverec(dir, "record", url).Start(t)
	time.Sleep(12 * time.Second)
	if !p.Alive() {
		t.Fatal("it gave up")
	}
	if n := strings.Count(p.Stderr.String(), "502"); n < 1 || n > 2 {
		t.Errorf("said %d times:\n%s", n, p.Stderr.String())
	}
}
