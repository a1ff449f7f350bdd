package metrics_test

import (
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/liverec/liverec/pkg/metrics"
	"github.com/liverec/liverec/pkg/status"
)

// many is a scrape of n rooms.
func many(n int) metrics.Input {
	in := metrics.Input{ConfigOK: true, Version: "v1", Numbers: metrics.Numbers{Parts: map[metrics.PartState]int64{metrics.Open: int64(n)}}}
	for i := range n {
		name := fmt.Sprintf("room %d", i)
		in.Status.Rooms = append(in.Status.Rooms, status.Room{Room: name, State: status.OnAir, UnsafeBytes: int64(i), Bitrate: 8_000_000})
		in.Numbers.Rooms = append(in.Numbers.Rooms, metrics.Room{Room: name, OldestUnsafe: 1.5, ReceivedTotal: 1 << 40,
			MissingTotal: map[string]float64{"source closed the connection": 4.25, "advertisement": 30}})
	}
	for i := range 4 {
		name := fmt.Sprintf("s3://bucket/%d", i)
		in.Status.Targets = append(in.Status.Targets, status.Target{Target: name, OldestDueSeconds: 12.125, DueBytes: 7, Parked: i})
		in.Numbers.Targets = append(in.Numbers.Targets, metrics.Target{Target: name, UploadedTotal: 9, RetriesTotal: map[string]int64{"transient": 3, "throttled": 1}})
	}
	return in
}

// scrape is what Prometheus gets that asks for text.
func scrape(t testing.TB, e *metrics.Exposition, in metrics.Input) string {
	t.Helper()
	h, err := e.Scrape(in)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if kind := w.Header().Get("Content-Type"); w.Code != 200 || !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Fatalf("%d with %s", w.Code, kind)
	}
	return w.Body.String()
}

func TestTheNamesOfTheContractStandThere(t *testing.T) {
	text := scrape(t, metrics.New(), many(2))
	for _, line := range []string{
		`liverec_unsafe_bytes{room="room 1"} 1`,
		`liverec_oldest_unsafe_seconds{room="room 0"} 1.5`,
		`liverec_capture_gap_seconds_total{room="room 0",why="advertisement"} 30`,
		`liverec_capture_gap_seconds_total{room="room 1",why="source closed the connection"} 4.25`,
		`liverec_delivery_age_seconds{target="s3://bucket/0"} 12.125`,
		`liverec_received_bytes_total{room="room 0"} 1.099511627776e+12`,
		`liverec_uploaded_bytes_total{target="s3://bucket/3"} 9`,
		`liverec_upload_retries_total{kind="throttled",target="s3://bucket/3"} 1`,
		`liverec_rooms{state="live"} 2`,
		`liverec_rooms{state="blocked"} 0`,
		`liverec_parts{state="open"} 2`,
		`liverec_parts{state="reclaimed"} 0`,
		`liverec_disk_free_bytes 0`,
		`liverec_config_ok 1`,
		`liverec_build_info{version="v1"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("%s is missing in\n%s", line, text)
		}
	}
	for _, n := range metrics.Names() {
		if strings.Count(text, "# TYPE "+n+" ") != 1 || strings.Count(text, "# HELP "+n+" ") != 1 {
			t.Errorf("%s is not told once", n)
		}
	}
}

func TestTheDocsNameEveryMetric(t *testing.T) {
	doc, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range metrics.Names() {
		if !regexp.MustCompile("\\| `" + n + "[`{]").Match(doc) {
			t.Errorf("docs/api.md does not name %s", n)
		}
	}
}

// A line of the text format, as its description has it.
var line = regexp.MustCompile(`^(# (HELP [a-z_]+ [^\\\n]+|TYPE [a-z_]+ (gauge|counter|summary))|[a-z_]+(\{[a-z]+="([^"\\\n]|\\[\\"n])*"(,[a-z]+="([^"\\\n]|\\[\\"n])*")*\})? [-+0-9.e]+)$`)

func TestAnyNameIsALabel(t *testing.T) {
	names := []string{"", `a"b`, `a\`, "a\nb", "a\x00\x7f\t", "\xff\xfe", "直播間 🎬", "a\u2028b", strings.Repeat("長", 500), "a}b{", `\n`, "a\r\nb"}
	in := metrics.Input{Version: "a\"\\\nb"}
	for _, n := range append(names, names...) { // each twice
		in.Status.Rooms = append(in.Status.Rooms, status.Room{Room: n, State: n})
		in.Status.Targets = append(in.Status.Targets, status.Target{Target: n})
		in.Numbers.Rooms = append(in.Numbers.Rooms, metrics.Room{Room: n, MissingTotal: map[string]float64{n: 1, "x": math.Pi}})
		in.Numbers.Targets = append(in.Numbers.Targets, metrics.Target{Target: n, RetriesTotal: map[string]int64{n: 1}})
	}
	text := scrape(t, metrics.New(), in)
	seen := map[string]bool{}
	for l := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if !line.MatchString(l) {
			t.Errorf("%q is no line of the text format", l)
		}
		series := l[:strings.LastIndexByte(l, ' ')]
		if !strings.HasPrefix(l, "#") && seen[series] {
			t.Errorf("%q stands there twice", series)
		}
		seen[series] = true
	}
	if n := strings.Count(text, "liverec_unsafe_bytes{"); n != len(names) {
		t.Errorf("%d rooms, want %d", n, len(names))
	}
}

func TestReasonsAreFew(t *testing.T) {
	whys := map[string]float64{}
	for i := range 1000 {
		whys[fmt.Sprintf("connection %d was closed", i)] = 1
	}
	text := scrape(t, metrics.New(), metrics.Input{Numbers: metrics.Numbers{Rooms: []metrics.Room{{Room: "a", MissingTotal: whys}}}})
	if n := strings.Count(text, "liverec_capture_gap_seconds_total{"); n != 32 {
		t.Errorf("%d reasons are told, want 32", n)
	}
	if !strings.Contains(text, `why="other"} 969`) {
		t.Error("the rest is not counted as other")
	}
}

// The process is measured anew at each scrape.
func TestTheProcessIsMeasured(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	e := metrics.New()
	read := func(name string) float64 {
		t.Helper()
		_, rest, _ := strings.Cut(scrape(t, e, metrics.Input{}), "\n"+name+" ")
		value, _, _ := strings.Cut(rest, "\n")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s is %q", name, value)
		}
		return v
	}
	for name, least := range map[string]float64{"go_goroutines": 1, "process_resident_memory_bytes": 1 << 20, "process_start_time_seconds": 1e9} {
		if v := read(name); v < least {
			t.Errorf("%s is %v", name, v)
		}
	}
	files := read("process_open_fds")
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if v := read("process_open_fds"); v <= files {
		t.Errorf("%v files are open, and %v with one more", files, v)
	}
}

// Scrapes that come at once have each its own numbers.
func TestScrapesShareNothing(t *testing.T) {
	e := metrics.New()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var in metrics.Input
			in.Status.Disk.Free = int64(i)
			h, err := e.Scrape(in)
			if err != nil {
				t.Error(err)
				return
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
			if want := fmt.Sprintf("\nliverec_disk_free_bytes %d\n", i); !strings.Contains(w.Body.String(), want) {
				t.Errorf("%q is missing", want)
			}
		})
	}
	wg.Wait()
}

func BenchmarkScrape200Rooms(b *testing.B) {
	e, in := metrics.New(), many(200)
	b.SetBytes(int64(len(scrape(b, e, in))))
	for b.Loop() {
		scrape(b, e, in)
	}
}
