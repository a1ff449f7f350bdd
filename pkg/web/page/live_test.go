package page

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/pkg/web"
	"github.com/liverec/liverec/pkg/web/page/pagetest"
)

// pipe is a browser in a bubble: it keeps what it is sent, or stops reading.
type pipe struct {
	h    http.Header
	code int

	mu     sync.Mutex
	b      bytes.Buffer
	stuck  bool
	limits []time.Time
}

func (p *pipe) Header() http.Header { return p.h }
func (p *pipe) WriteHeader(c int)   { p.code = c }
func (p *pipe) Flush()              {}
func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stuck {
		time.Sleep(time.Until(p.limits[len(p.limits)-1])) // virtual
		return 0, os.ErrDeadlineExceeded
	}
	return p.b.Write(b)
}

func (p *pipe) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits = append(p.limits, t)
	return nil
}

// take is what came since the last call.
func (p *pipe) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.b.Reset()
	return p.b.String()
}

func TestALivePageIsSentWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pagetest.New(40, 3, 12)
		p, _ := build(t, h)
		tick(t, p, h)
		tick(t, p, h)
		w := &pipe{h: http.Header{}}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/live?page=overview", nil)
		done := make(chan struct{})
		go func() { p.live(w, r); close(done) }()
		synctest.Wait()
		first := w.take()
		for _, id := range []string{"truth", "needs", "live", mark("r", "alice"), mark("r", "alice") + "s", "rest", "targets", "disk"} {
			if !strings.Contains(first, `hx-target="#`+id+`"`) {
				t.Errorf("the first event has no %s", id)
			}
		}
		if strings.Count(first, "\n\n") != 2 || !strings.Contains(first, "event: sample\ndata: [") {
			t.Errorf("the first picture is not one event and one sample: %q", first)
		}
		tick(t, p, h) // the overview moves every other second
		synctest.Wait()
		if s := w.take(); s != "" {
			t.Errorf("after one second it is sent %d bytes", len(s))
		}
		tick(t, p, h)
		synctest.Wait()
		s := w.take()
		if !strings.Contains(s, `hx-target="#`+mark("r", "alice")+`"`) || !strings.Contains(s, `"#targets"`) {
			t.Errorf("the numbers of a room are not sent: %.300s", s)
		}
		for _, id := range []string{"needs", "live", "rest", mark("r", "alice") + "s"} {
			if strings.Contains(s, `hx-target="#`+id+`"`) {
				t.Errorf("%s did not change and is sent", id)
			}
		}
		if err := h.Do(t.Context(), "alice", "pause"); err != nil {
			t.Fatal(err)
		}
		tick(t, p, h)
		tick(t, p, h)
		synctest.Wait()
		if s := w.take(); !strings.Contains(s, `hx-target="#live"`) || !strings.Contains(s, `hx-target="#rest"`) {
			t.Errorf("a room that is paused does not leave the live ones: %.300s", s)
		}
		time.Sleep(liveBeat + time.Second) // virtual: nothing rings
		synctest.Wait()
		if s := w.take(); s != ": still here\n\n" {
			t.Errorf("a quiet stream says %q", s)
		}
		// A browser that reads no more costs its own connection.
		w.mu.Lock()
		w.stuck = true
		w.mu.Unlock()
		tick(t, p, h)
		tick(t, p, h)
		began := time.Now()
		<-done
		if d := time.Since(began); d > liveWrite {
			t.Errorf("a browser that does not read was held for %v", d)
		}
	})
}

func TestPagesOfOneLanguageShareTheirPieces(t *testing.T) {
	h := pagetest.New(200, 30, 1)
	p, _ := build(t, h)
	pic := tick(t, p, h)
	drawn := 0
	x := part{id: "x", name: "said", data: func() any { drawn++; return "hello" }}
	for range 50 {
		if _, err := p.piece(english, pic.n, x); err != nil {
			t.Fatal(err)
		}
	}
	if drawn != 1 {
		t.Errorf("it was drawn %d times for 50 pages", drawn)
	}
	x.of = "another filter"
	if _, err := p.piece(english, pic.n, x); err != nil || drawn != 2 {
		t.Errorf("two lists are one piece: %d, %v", drawn, err)
	}
	for n := range uint64(100) {
		if _, err := p.piece(english, 1000+n, x); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.pieces.made) != 1 {
		t.Errorf("%d pieces of old pictures are kept", len(p.pieces.made))
	}
}

func TestHistoryIsBounded(t *testing.T) {
	h := newHistory()
	pic := &picture{at: time.Unix(1e9, 0)}
	for i := range 3000 {
		pic.status.Rooms = append(pic.status.Rooms, status.Room{Room: fmt.Sprint(i), State: status.OnAir, Bitrate: 1e6})
	}
	h.sample(pic)
	h.sample(pic)
	if len(h.rooms) != mostRooms {
		t.Errorf("%d rooms have a history", len(h.rooms))
	}
	// One that comes later takes the place of the one that was silent for longest.
	for i := range pic.status.Rooms {
		if i > 0 {
			pic.status.Rooms[i].State = status.Waiting
		}
	}
	h.sample(pic)
	pic.status.Rooms[2999].State = status.OnAir
	h.sample(pic)
	if h.rooms["0"] == nil || h.rooms["2999"] == nil || len(h.rooms) != mostRooms {
		t.Errorf("live: %v, new: %v, %d rooms", h.rooms["0"] != nil, h.rooms["2999"] != nil, len(h.rooms))
	}
	// Who is forgotten by the house is forgotten here.
	pic.status.Rooms = pic.status.Rooms[:1]
	h.sample(pic)
	if len(h.rooms) != 1 {
		t.Errorf("%d rooms have a history, one is there", len(h.rooms))
	}
	tr := h.rooms["0"]
	n := 0
	for i := range tr.fine {
		n += 4 * (cap(tr.fine[i]) + cap(tr.coarse[i]))
	}
	if n != 12240 {
		t.Errorf("the history of a room has %d bytes, the documentation says 12,240", n)
	}
}

func TestColumnsAreInOrder(t *testing.T) {
	tr := newTrack(1)
	for i := range 40_000 {
		v := float64(i)
		if i%2 == 1 {
			v = math.NaN() // nothing was known
		}
		tr.add(v)
	}
	fine, coarse := tr.column(0, false), tr.column(0, true)
	if len(fine) != fineLen || fine[fineLen-2] != 39_998 || !math.IsNaN(float64(fine[fineLen-1])) || fine[0] != 39_700 {
		t.Errorf("%d samples, %v … %v", len(fine), fine[:2], fine[fineLen-2:])
	}
	last := 40_000 / coarseOf * coarseOf
	if want := float32(last-coarseOf+last-2) / 2; len(coarse) != coarseLen || coarse[coarseLen-1] != want {
		t.Errorf("%d means, the last %v, not %v", len(coarse), coarse[coarseLen-1], want)
	}
}

func TestUplinkFollowsTheOpenPart(t *testing.T) {
	tr := newTrack(1)
	at := func(seq uint32, away int64) {
		tr.uplink(&status.Open{Seq: seq, Away: map[string]int64{"a": away / 2, "b": away / 2}})
	}
	at(1, 500e6) // it was there before
	for i := range 60 {
		at(1, 500e6+int64(i+1)*1e6)
	}
	if tr.rate < 7.9e6 || tr.rate > 8.1e6 {
		t.Errorf("a megabyte a second is %v bit/s", tr.rate)
	}
	at(2, 1e6) // the next part
	if tr.rate < 7e6 || tr.rate > 9e6 {
		t.Errorf("behind a cut it is %v bit/s", tr.rate)
	}
	at(2, 0) // an upload that began anew
	if tr.rate < 0 {
		t.Errorf("%v bit/s", tr.rate)
	}
	tr.uplink(nil)
	if tr.rate != 0 {
		t.Errorf("without a part it is %v bit/s", tr.rate)
	}
}

func clip(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../../liveroom/clip.flv")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPreviewsBeginAtAKeyFrameAndFollowThePart(t *testing.T) {
	for _, container := range []string{"flv", "mp4", "ts"} {
		t.Run(container, func(t *testing.T) {
			m, err := pagetest.Make(clip(t), container, 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				var halves atomic.Int64
				var closed atomic.Bool
				halves.Store(40)
				g := &pagetest.Growing{Media: m, At: func() int { return int(halves.Load()) }, Closed: closed.Load}
				h := pagetest.New(3, 1, 1)
				h.Play = func(string) (*web.Open, error) { return g.Open(), nil }
				p, _ := build(t, h)
				w := &pipe{h: http.Header{}}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/preview?name=alice", nil)
				done := make(chan struct{})
				go func() { p.preview(w, r); close(done) }()
				synctest.Wait()
				began := w.b.Len()
				all := m.Durable[39]
				if began == 0 || int64(began) > all/2 {
					t.Errorf("at second 20 it begins with %d of %d bytes", began, all)
				}
				halves.Store(44)
				time.Sleep(time.Second) // virtual
				synctest.Wait()
				if got, want := int64(w.b.Len()-began), m.Durable[43]-all; got != want {
					t.Errorf("two seconds more are %d bytes, not %d", got, want)
				}
				closed.Store(true)
				<-done
				if n := g.Wrong.Load(); n > 0 {
					t.Errorf("%d reads went beyond what is durable", n)
				}
				tail := m.Bytes[len(m.Bytes)-1000:]
				if !bytes.HasSuffix(w.b.Bytes(), tail) {
					t.Error("it does not end where the part ends")
				}
				plays(t, container, w.b.Bytes())
				if len(p.seats) != 0 {
					t.Error("the seat was not given back")
				}
			})
		})
	}
}

// plays reads a preview as a player does: the first picture is a key frame, and nothing is torn.
func plays(t *testing.T, container string, b []byte) {
	t.Helper()
	switch container {
	case "flv":
		first, pictures := true, 0
		stats, _, err := flv.ReadAll(bytes.NewReader(b), flv.DemuxerConfig{Events: func(e flv.Event) { t.Errorf("the stream is odd: %+v", e) }}, func(batch *media.Batch) error {
			for _, x := range batch.Packets {
				if x.Kind == media.Script {
					t.Error("it has the metadata of the file")
				}
				if x.Kind == media.Video {
					if first && !x.Key {
						t.Error("it does not begin with a key frame")
					}
					first, pictures = false, pictures+1
				}
			}
			return nil
		})
		if err != nil || pictures < 250 || pictures > 500 {
			t.Errorf("%d pictures, %+v, %v", pictures, stats, err)
		}
	case "mp4":
		end := bytes.Index(b, []byte("moof")) - 4
		in, err := mp4.ParseInit(b[:end])
		if err != nil {
			t.Fatal(err)
		}
		pictures := 0
		for a, err := range mp4.NewDemuxer(in).Samples(b[end:]) {
			if err != nil {
				t.Fatal(err)
			}
			if in.Tracks[a.Track].Kind == media.Video {
				if pictures == 0 && !a.Key {
					// A fragment of half a second has its key frame anywhere; a player waits for it.
					continue
				}
				pictures++
			}
		}
		if pictures < 250 || pictures > 500 {
			t.Errorf("%d pictures", pictures)
		}
	case "ts":
		if len(b)%188 != 0 || b[0] != 0x47 || b[1]&0x1F != 0 || b[2] != 0 {
			t.Errorf("%d bytes that begin with % x", len(b), b[:4])
		}
	}
}

func TestPreviewsEndWithTheirBrowserAndAreFew(t *testing.T) {
	m, err := pagetest.Make(clip(t), "flv", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		g := &pagetest.Growing{Media: m, At: func() int { return 10 }, Closed: func() bool { return false }}
		h := pagetest.New(3, 1, 1)
		h.Play = func(string) (*web.Open, error) { return g.Open(), nil }
		p, _ := build(t, h)
		done := make(chan *pipe)
		for range previews {
			w := &pipe{h: http.Header{}, stuck: true}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/preview?name=alice", nil)
			go func() { p.preview(w, r); done <- w }()
		}
		synctest.Wait()
		if w := get(t, p, "/preview?name=alice", "en"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("one too many: %d", w.Code)
		}
		began := time.Now()
		for range previews {
			<-done
		}
		if d := time.Since(began); d > previewSlow {
			t.Errorf("browsers that do not read were held for %v", d)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/preview?name=alice", nil)
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Code != http.StatusOK || w.Header().Get("Content-Type") != "video/x-flv" || w.Body.Len() > 0 {
			t.Errorf("HEAD: %d %v", w.Code, w.Header())
		}
	})
}

func TestPreviewsSayWhyThereIsNone(t *testing.T) {
	h := pagetest.New(3, 1, 1)
	p, _ := build(t, h)
	if w := get(t, p, "/preview?name=alice", "zh"); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "当前没有录制") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	junk := &pagetest.Growing{Media: &pagetest.Media{Container: "mp4", Bytes: bytes.Repeat([]byte{0}, 4000), Durable: []int64{4000}}, At: func() int { return 1 }, Closed: func() bool { return true }}
	for _, c := range []string{"flv", "mp4", "ts", "webm"} {
		junk.Container = c
		h.Play = func(string) (*web.Open, error) { return junk.Open(), nil }
		if w := get(t, p, "/preview?name=alice", "en"); w.Code == http.StatusInternalServerError || w.Body.Len() > 5000 {
			t.Errorf("rubbish as %s: %d, %d bytes", c, w.Code, w.Body.Len())
		}
	}
	h.Play = func(string) (*web.Open, error) { return nil, errors.New("open the part: permission denied") }
	if w := get(t, p, "/preview?name=alice", "en"); w.Code != http.StatusInternalServerError {
		t.Errorf("%d", w.Code)
	}
}

func TestTheOpenPartAsAFileWithRanges(t *testing.T) {
	m, err := pagetest.Make(clip(t), "mp4", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	g := &pagetest.Growing{Media: m, At: func() int { return 10 }, Closed: func() bool { return false }}
	h := pagetest.New(3, 1, 1)
	h.Play = func(string) (*web.Open, error) { return g.Open(), nil }
	p, _ := build(t, h)
	have := int(m.Durable[9])
	for _, c := range []struct {
		ask, got string
		code     int
		from, to int
	}{
		{"", "", 200, 0, have},
		{"bytes=0-99", fmt.Sprintf("bytes 0-99/%d", have), 206, 0, 100},
		{"bytes=1000-", fmt.Sprintf("bytes 1000-%d/%d", have-1, have), 206, 1000, have},
		{"bytes=-50", fmt.Sprintf("bytes %d-%d/%d", have-50, have-1, have), 206, have - 50, have},
		{fmt.Sprintf("bytes=%d-", have), fmt.Sprintf("bytes */%d", have), 416, 0, 0},
	} {
		r := httptest.NewRequest(http.MethodGet, "/preview/part?name=alice", nil)
		if c.ask != "" {
			r.Header.Set("Range", c.ask)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		body, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if w.Code != c.code || w.Header().Get("Content-Range") != c.got || c.code < 300 && !bytes.Equal(body, m.Bytes[c.from:c.to]) {
			t.Errorf("%q: %d, %q, %d bytes", c.ask, w.Code, w.Header().Get("Content-Range"), len(body))
		}
	}
	if g.Wrong.Load() > 0 {
		t.Error("it read beyond what is durable")
	}
}

// BenchmarkLivePage is what one open page costs a second: the picture, the samples, and the pieces that changed.
func BenchmarkLivePage(b *testing.B) {
	h := pagetest.New(200, 30, 1)
	p, _ := build(b, h)
	sent := map[string]uint64{}
	var out bytes.Buffer
	n := 0
	for b.Loop() {
		pic := tick(b, p, h)
		if pic.n%2 == 0 {
			out.Reset()
			if err := p.changes(&out, english, pic, p.overviewParts(english, pic, ask{}), sent, false); err != nil {
				b.Fatal(err)
			}
			n += out.Len()
		}
	}
	b.ReportMetric(float64(n)/float64(b.N), "B/op-sent")
}
