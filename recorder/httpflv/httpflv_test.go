package httpflv

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func stream() []byte {
	b := flv.AppendFileHeader(nil, true, true)
	for i := range 20 {
		b = flv.AppendTag(b, flv.TagAudio, uint32(i*23), append([]byte{0xaf, 1}, bytes.Repeat([]byte{byte(i)}, 50)...))
	}
	return b
}

func TestRedirects(t *testing.T) {
	body := stream()
	seen := make(chan http.Header, 10)
	other := serve(t, func(w http.ResponseWriter, req *http.Request) {
		seen <- req.Header
		w.Write(body)
	})
	// The same address under another name is another host.
	other = strings.Replace(other, "127.0.0.1", "localhost", 1)
	var url string
	url = serve(t, func(w http.ResponseWriter, req *http.Request) {
		switch p := req.URL.Path; {
		case p == "/elsewhere":
			http.Redirect(w, req, other+"/x", http.StatusFound)
		case p == "/circle":
			http.Redirect(w, req, "/circle2", http.StatusFound)
		case p == "/circle2":
			http.Redirect(w, req, "/circle", http.StatusFound)
		case p == "/file":
			http.Redirect(w, req, "ftp://host/etc", http.StatusFound)
		case strings.HasPrefix(p, "/far"):
			http.Redirect(w, req, p+"r", http.StatusTemporaryRedirect)
		default:
			seen <- req.Header
			w.Write(body)
		}
	})
	open := func(path string) (*Source, error) {
		return Open(t.Context(), Config{URL: url + path, Header: http.Header{"Cookie": {"a=b"}, "Authorization": {"Bearer x"}, "Referer": {"http://r/"}}})
	}
	s, err := open("/elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	if h := <-seen; h.Get("Cookie") != "" || h.Get("Authorization") != "" || h.Get("Referer") != "" {
		t.Errorf("the other host saw %v", h)
	}
	if !strings.HasPrefix(s.Host(), "localhost:") {
		t.Errorf("host %s", s.Host())
	}
	s.Close()
	s, err = Open(t.Context(), Config{URL: url + "/elsewhere", Header: http.Header{"Cookie": {"a=b"}, "Referer": {"http://r/"}}, Public: []string{"Referer"}})
	if err != nil {
		t.Fatal(err)
	}
	if h := <-seen; h.Get("Cookie") != "" || h.Get("Referer") != "http://r/" {
		t.Errorf("with a public Referer the other host saw %v", h)
	}
	s.Close()
	if s, err = open("/live"); err != nil {
		t.Fatal(err)
	}
	if h := <-seen; h.Get("Cookie") != "a=b" || h.Get("Range") != "" {
		t.Errorf("the host saw %v", h)
	}
	s.Close()
	for path, want := range map[string]string{"/circle": "circle", "/file": `"ftp"`, "/far": "more than 10"} {
		if _, err := open(path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), url) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func run(t *testing.T, s *Source) (n int, count media.Count, err error) {
	out := make(chan *media.Batch)
	done := make(chan error, 1)
	go func() {
		done <- s.Run(t.Context(), out)
		close(out)
	}()
	for b := range out {
		n += len(b.Packets)
		count.Received += b.Count.Received
		count.Partial += b.Count.Partial
		b.Release()
	}
	return n, count, <-done
}

// How a response ends tells what the recorder may conclude.
func TestEnds(t *testing.T) {
	body := stream()
	for _, c := range []struct {
		name  string
		serve http.HandlerFunc
		clean bool
		n     int
	}{
		{"chunked to its end", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(body[:100])
			w.(http.Flusher).Flush()
			w.Write(body[100:])
		}, true, 20},
		{"until close", func(w http.ResponseWriter, _ *http.Request) {
			c, rw, _ := w.(http.Hijacker).Hijack()
			rw.WriteString("HTTP/1.0 200 OK\r\n\r\n")
			rw.Write(body)
			rw.Flush()
			c.Close()
		}, true, 20},
		{"chunk broken off", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(body)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, false, 20},
		{"inside a tag", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(body[:len(body)-30])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, false, 19},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(t.Context(), Config{URL: serve(t, c.serve)})
			if err != nil {
				t.Fatal(err)
			}
			n, count, err := run(t, s)
			if errors.Is(err, io.EOF) != c.clean || err == nil {
				t.Errorf("ended with %v", err)
			}
			if n != c.n {
				t.Errorf("%d packets, %+v", n, count)
			}
		})
	}
}

// fakeNet answers with a fixed beginning and then says nothing.
func fakeNet(begin string) func(ctx context.Context, _, _ string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			buf := make([]byte, 4096)
			b.Read(buf)
			io.WriteString(b, begin)
			for {
				if _, err := b.Read(buf); err != nil {
					b.Close()
					return
				}
			}
		}()
		return a, nil
	}
}

// Silence ends at a time that can be told beforehand, wherever it sets in.
func TestSilence(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n\r\n"
	for _, c := range []struct {
		name, begin string
		open        bool
		after       time.Duration
		want        string
	}{
		{"no answer", "", false, headerTimeout, "timeout awaiting response headers"},
		{"no byte", ok, false, firstTimeout, "no byte for 10s after the answer"},
		{"a file header and no more", ok + "FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00", true, 10 * time.Second, "no byte for 10s"},
		{"five bytes", ok + "hello", false, firstTimeout, "sent text instead of FLV"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				s, err := Open(t.Context(), Config{URL: "http://127.0.0.1/a", Dial: fakeNet(c.begin)})
				if (err == nil) != c.open {
					t.Fatalf("open: %v", err)
				}
				if err == nil {
					_, _, err = run(t, s)
				}
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
				if d := time.Since(begin) - c.after; d.Abs() > time.Second {
					t.Errorf("after %v", time.Since(begin))
				}
			})
		})
	}
}

// A stop ends a read that blocks, at once.
func TestStopEndsARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), Config{URL: "http://127.0.0.1/a", Dial: fakeNet("HTTP/1.1 200 OK\r\n\r\nFLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		time.AfterFunc(3*time.Second, cancel)
		out := make(chan *media.Batch)
		done := make(chan error, 1)
		go func() {
			done <- s.Run(ctx, out)
			close(out)
		}()
		for b := range out {
			b.Release()
		}
		if err := <-done; !errors.Is(err, context.Canceled) || time.Since(begin) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
