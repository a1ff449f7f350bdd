package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// station is a running `liverec serve` with its config file.
type station struct {
	t    *testing.T
	dir  string
	addr string
	head string            // of the file
	file []string          // names of the rooms in it, in order
	room map[string]string // the text of each
	env  []string          // of the program, if it is not the usual one
	hold net.Listener      // keeps the address from others until the first start
	proc *rig.Proc
}

func newStation(t *testing.T) *station {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	addr := ln.Addr().String()
	return &station{t: t, dir: t.TempDir(), addr: addr, hold: ln, room: map[string]string{},
		head: fmt.Sprintf("listen = %q\ndata = \"./data\"\nmin-free = \"64MiB\"\nstop-free = \"32MiB\"\n[target.archive]\nto = \"./archive\"\n[defaults]\nsegment = \"5s\"\ngrace = \"5s\"\n", addr)}
}

// put writes a room into the file's text.
func (s *station) put(name, url string, more ...string) {
	if _, ok := s.room[name]; !ok {
		s.file = append(s.file, name)
	}
	s.room[name] = fmt.Sprintf("[[room]]\nurl = %q\nname = %q\n%s\n", url, name, strings.Join(more, "\n"))
}

// drop takes a room out of the file's text.
func (s *station) drop(name string) {
	s.file = slices.DeleteFunc(s.file, func(n string) bool { return n == name })
	delete(s.room, name)
}

func (s *station) write() {
	s.t.Helper()
	text := s.head
	for _, n := range s.file {
		text += s.room[n]
	}
	tmp := filepath.Join(s.dir, "new")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(s.dir, "liverec.toml")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *station) start() {
	s.t.Helper()
	s.write()
	s.hold.Close()
	run := liverec(s.dir, "serve")
	run.Env = append(run.Env, s.env...)
	s.proc = run.Start(s.t)
	rig.Until(s.t, 60*time.Second, "the service is ready", func() bool {
		_, code := s.get("/readyz")
		return code == http.StatusOK
	})
}

func (s *station) get(path string) (string, int) {
	resp, err := http.Get("http://" + s.addr + path)
	if err != nil {
		return "", 0
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b), resp.StatusCode
}

func (s *station) call(method, path, body string) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// states are the rooms of the status by name, with the number of the open part behind it.
func (s *station) states() map[string]string {
	var st struct {
		Rooms []struct {
			Room, State, Error string
			Open               *struct{ Seq int }
		}
	}
	text, _ := s.get("/api/v1/status")
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		return nil
	}
	out := map[string]string{}
	for _, r := range st.Rooms {
		out[r.Room] = r.State
		if r.Open != nil {
			out[r.Room] += " " + strconv.Itoa(r.Open.Seq)
		}
		if r.State == "waiting" {
			out[r.Room] += " " + r.Error
		}
	}
	return out
}

// number reads a sample without labels from the metrics.
func (s *station) number(name string) float64 {
	text, _ := s.get("/metrics")
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			f, _ := strconv.ParseFloat(strings.TrimSpace(v), 64)
			return f
		}
	}
	return -1
}

// hostile are servers that nobody can record.
func hostile(t *testing.T) []string {
	t.Helper()
	var urls []string
	for _, h := range []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>no stream</html>") },
		func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00\xff\xff\xff\xff\xff"))
		},
		func(w http.ResponseWriter, r *http.Request) { // says nothing for ever
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		func(w http.ResponseWriter, r *http.Request) { // hangs up
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		},
	} {
		srv := httptest.NewServer(h)
		t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
		urls = append(urls, srv.URL)
	}
	return urls
}

// Rooms come, go and change while others are recorded, which notice nothing of it.
func TestServe(t *testing.T) {
	s := newStation(t)
	rooms := map[string]*liveroom.Room{}
	add := func(name string) string {
		room, url := live(t, liveroom.Config{})
		rooms[name] = room
		return url
	}
	steady, moving, gone, paged := add("steady"), add("moving"), add("gone"), add("paged")
	s.put("steady", steady)
	s.put("moving", moving)
	s.put("gone", gone)
	closed := time.Now().UTC().Add(2*time.Hour).Format("15:04") + "-" + time.Now().UTC().Add(3*time.Hour).Format("15:04")
	s.put("later", add("later"), fmt.Sprintf("window = %q", closed))
	for i, url := range hostile(t) {
		s.put(fmt.Sprintf("bad%d", i), url+"/x.flv")
	}
	s.start()
	for _, n := range []string{"steady", "moving", "gone"} {
		recording(t, rooms[n], 30)
	}
	if got := s.states()["later"]; !strings.HasPrefix(got, "waiting outside of its window") {
		t.Errorf("a room outside of its window: %q", got)
	}
	// One is given other settings, one goes, one comes with a target of its own.
	s.put("moving", moving, `segment = "8s"`, `to = ["second"]`)
	s.file = append(s.file[:2], s.file[3:]...)
	s.head = strings.Replace(s.head, "[defaults]", "[target.second]\nto = \"./second\"\n[defaults]\nto = [\"archive\"]", 1)
	s.put("fresh", add("fresh"), `to = ["second"]`)
	s.write()
	recording(t, rooms["fresh"], 30)
	rig.Until(t, 60*time.Second, "the room that left the file ends", func() bool {
		b, err := filepath.Glob(filepath.Join(s.dir, "archive", "gone", "*", "manifest.json"))
		if err != nil || len(b) != 1 {
			return false
		}
		text, err := os.ReadFile(b[0])
		return err == nil && strings.Contains(string(text), `"stop"`) && strings.Contains(string(text), `"ended"`) && !strings.Contains(strings.ReplaceAll(string(text), " ", ""), `"ended":null`)
	})
	if code := s.call("POST", "/api/v1/rooms", fmt.Sprintf(`{"url":%q,"name":"paged"}`, paged)); code != http.StatusCreated {
		t.Errorf("a room added on the page: %d", code)
	}
	if code := s.call("POST", "/api/v1/rooms", fmt.Sprintf(`{"url":%q,"name":"other"}`, steady)); code != http.StatusConflict {
		t.Errorf("a room added twice: %d", code)
	}
	recording(t, rooms["paged"], 30)
	// A broken file changes nothing.
	whole := s.head
	s.head = "nonsense = 1\n" + whole
	s.write()
	rig.Until(t, 30*time.Second, "the metric says so", func() bool { return s.number("liverec_config_ok") == 0 })
	s.head = whole
	s.write()
	s.proc.Signal(syscall.SIGHUP)
	rig.Until(t, 30*time.Second, "it is right again", func() bool { return s.number("liverec_config_ok") == 1 })
	s.proc.Signal(syscall.SIGTERM)
	s.proc.Ends(t, 40*time.Second, 0)
	for _, name := range []string{"steady", "moving"} { // nobody touched it; it was given other limits and targets
		if n := len(rooms[name].Connections()); n != 1 {
			t.Errorf("room %s was connected %d times", name, n)
		}
	}
	if n := len(rooms["later"].Connections()); n != 0 {
		t.Errorf("the room outside of its window was connected %d times", n)
	}
	for name, root := range map[string]string{"steady": "archive/steady", "gone": "archive/gone", "paged": "archive/paged", "fresh": "second/fresh"} {
		rec := rig.Read(t, filepath.Join(s.dir, filepath.FromSlash(root)))
		if len(rec.Numbers) < 30 || len(rec.Missing()) > 0 {
			t.Errorf("%s: %d pictures, missing %v", name, len(rec.Numbers), rec.Missing())
		}
	}
	// The rooms of the page are there after a restart.
	s.start()
	if _, ok := s.states()["paged"]; !ok {
		t.Error("a room of the page is forgotten")
	}
	s.proc.Signal(syscall.SIGTERM)
	s.proc.Ends(t, 40*time.Second, 0)
	if strings.Contains(s.proc.Stderr.String(), "panic") {
		t.Errorf("a panic: %s", s.proc.Stderr.String())
	}
}

// Settings change while a room is recorded, all that hold for a recording that goes on: its connection is not touched and no
// picture is missing.
func TestSettingsCostNothing(t *testing.T) {
	s := newStation(t)
	room, url := live(t, liveroom.Config{})
	s.put("room", url)
	s.start()
	recording(t, room, 30)
	effective := func() string {
		var list struct {
			Rooms []struct {
				Since string `json:"effective_since"`
			}
		}
		text, _ := s.get("/api/v1/rooms")
		if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Rooms) != 1 {
			return text
		}
		return list.Rooms[0].Since
	}
	seen := 0
	for _, more := range [][]string{
		{`segment = "7s"`}, {`segment = "2s"`}, {`max-size = "64MiB"`}, {`max-size = "1MiB"`}, {`grace = "20s"`}, {`title = "{room} again"`}, {`folder = "{room}"`},
		{`window = "00:00-12:00 12:00-24:00"`}, {`skip-titles = ["rerun"]`}, {`priority = 3`},
	} {
		s.put("room", url, more...)
		s.write()
		changed := func() int { return strings.Count(s.proc.Stderr.String(), "settings of the room changed") }
		rig.Until(t, 60*time.Second, "the change is taken over: "+more[0], func() bool { return changed() > seen })
		seen = changed()
		if got := effective(); strings.HasPrefix(more[0], "max-size") && !strings.HasPrefix(got, "part ") {
			t.Errorf("%s: effective since %q", more[0], got)
		}
	}
	s.head = strings.Replace(s.head, "[defaults]", "[defaults]\nkeep = \"1h\"", 1)
	s.head = strings.Replace(s.head, "data =", "limit-rate = \"50MiB\"\ndata =", 1)
	s.write()
	at := room.Next()
	rig.Until(t, 60*time.Second, "it is recorded for a while more", func() bool { return room.Next() > at+90 })
	s.proc.Signal(syscall.SIGTERM)
	s.proc.Ends(t, 40*time.Second, 0)
	if n := len(room.Connections()); n != 1 {
		t.Errorf("%d connections", n)
	}
	rec := rig.Read(t, filepath.Join(s.dir, "archive", "room"))
	if len(rec.Numbers) < 120 || len(rec.Missing()) > 0 {
		t.Errorf("%d pictures, missing %v", len(rec.Numbers), rec.Missing())
	}
}

// TestBurst is many rooms of one host that go live within a minute (LIVEREC_BURST says how many; without it 60 within 10 s):
// each is on the disk soon after.
func TestBurst(t *testing.T) {
	count, within := 60, 10*time.Second
	if n, err := strconv.Atoi(os.Getenv("LIVEREC_BURST")); err == nil {
		count, within = n, time.Minute
	}
	s := newStation(t)
	rooms := make([]*liveroom.Room, count)
	for i := range rooms {
		room, url := serve(t, liveroom.Config{})
		rooms[i] = room
		s.put(fmt.Sprintf("room%d", i), url)
	}
	s.start()
	rig.Until(t, 2*time.Minute, "each room was asked", func() bool {
		waiting := 0
		for _, state := range s.states() {
			if strings.HasPrefix(state, "waiting") {
				waiting++
			}
		}
		return waiting == count
	})
	live, took := map[string]time.Time{}, map[string]time.Duration{}
	began := time.Now()
	rig.Until(t, within+2*time.Minute, "each room is on the disk", func() bool {
		for i, room := range rooms {
			if name := fmt.Sprintf("room%d", i); live[name].IsZero() && time.Since(began) >= within*time.Duration(i)/time.Duration(count) {
				live[name] = time.Now()
				room.Start(context.WithoutCancel(t.Context()))
			}
		}
		var st struct {
			Rooms []struct {
				Room string
				Open *struct{ Durable int64 }
			}
		}
		text, _ := s.get("/api/v1/status")
		if json.Unmarshal([]byte(text), &st) != nil {
			return false
		}
		for _, r := range st.Rooms {
			if _, there := took[r.Room]; !there && r.Open != nil && r.Open.Durable > 0 {
				took[r.Room] = time.Since(live[r.Room])
			}
		}
		return len(took) == count
	})
	all := slices.Sorted(maps.Values(took))
	t.Logf("%d rooms live within %v: first bytes on the disk after %.1f s (median), %.1f s (longest); CPU %.1f s", count, within, all[len(all)/2].Seconds(),
		all[len(all)-1].Seconds(), s.number("process_cpu_seconds_total"))
	if most := all[len(all)-1]; most > 30*time.Second {
		t.Errorf("a room began %v after it went live", most)
	}
	s.proc.Signal(syscall.SIGTERM)
	s.proc.Ends(t, time.Minute, 0)
	if n := len(rig.Manifests(t, filepath.Join(s.dir, "archive"))); n != count {
		t.Errorf("%d broadcasts of %d rooms", n, count)
	}
}

// TestSoak is 50 rooms, some hostile, in one process: memory and goroutines must not grow. LIVEREC_SOAK says for how
// long, LIVEREC_SOAK_ROOMS how many rooms; without it, nine rooms for as long as it takes to see that it works.
func TestSoak(t *testing.T) {
	length, good, bad := 15*time.Second, 6, 3
	if v := os.Getenv("LIVEREC_SOAK"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
		good, bad = 35, 15
		if n, err := strconv.Atoi(os.Getenv("LIVEREC_SOAK_ROOMS")); err == nil {
			good, bad = n*7/10, n-n*7/10
		}
	}
	s := newStation(t)
	for i := range good {
		cfg := liveroom.Config{Duration: max(length/4, 5*time.Second)} // some broadcasts end on the way
		if i%2 == 0 {
			cfg.Duration = 0
		}
		_, url := live(t, cfg)
		s.put(fmt.Sprintf("good%d", i), url)
	}
	urls := hostile(t)
	for i := range bad {
		s.put(fmt.Sprintf("bad%d", i), fmt.Sprintf("%s/%d.flv", urls[i%len(urls)], i))
	}
	s.start()
	type sample struct {
		at                    time.Duration
		rss, goroutines, heap float64 // heap: when the next collection begins, about twice what is in use
	}
	var all []sample
	began := time.Now()
	for time.Since(began) < length {
		time.Sleep(min(length/30, 10*time.Second))
		all = append(all, sample{time.Since(began), s.number("process_resident_memory_bytes"), s.number("go_goroutines"), s.number("go_memstats_next_gc_bytes")})
	}
	warm := all[len(all)/3:] // the rest is the start
	first, last := warm[0], warm[len(warm)-1]
	var sx, sy, sxx, sxy float64
	for _, p := range warm {
		x, y := p.at.Hours(), p.rss/1e6
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	n := float64(len(warm))
	slope := (n*sxy - sx*sy) / (n*sxx - sx*sx)
	var gy, gxy float64
	for _, p := range warm {
		gy, gxy = gy+p.goroutines, gxy+p.at.Hours()*p.goroutines
	}
	t.Logf("%d rooms for %v: RSS %.1f MB to %.1f MB, slope %+.1f MB/h; heap limit %.1f MB to %.1f MB; goroutines %.0f to %.0f, slope %+.0f/h; CPU %.1f s", good+bad, length.Round(time.Second),
		first.rss/1e6, last.rss/1e6, slope, first.heap/1e6, last.heap/1e6, first.goroutines, last.goroutines, (n*gxy-sx*gy)/(n*sxx-sx*sx), s.number("process_cpu_seconds_total"))
	if length >= time.Hour && slope > 1 {
		t.Errorf("the memory grows by %.1f MB/h", slope)
	}
	if last.goroutines > first.goroutines+float64(2*(good+bad)) {
		t.Errorf("goroutines grow: %.0f to %.0f", first.goroutines, last.goroutines)
	}
	if length < time.Hour && last.rss > 400e6 {
		t.Errorf("it holds %.0f MB", last.rss/1e6)
	}
	s.proc.Signal(syscall.SIGTERM)
	s.proc.Ends(t, time.Minute, 0)
	if strings.Contains(s.proc.Stderr.String(), "panic") {
		t.Errorf("a panic: %s", s.proc.Stderr.String())
	}
	ms := rig.Manifests(t, filepath.Join(s.dir, "archive"))
	if len(ms) < good {
		t.Errorf("%d broadcasts of %d rooms", len(ms), good)
	}
}
